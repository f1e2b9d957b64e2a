/* PIIX3 IDE function: legacy task files and bus-master DMA.
 *
 * Intel 82371SB (PIIX3) datasheet, 290550, sections 2.5 (configuration), 2.6
 * (bus master registers) and 3.5; "Programming Interface for Bus Master IDE
 * Controller", rev. 1.0.
 *
 * A PRD table is guest memory: each entry is read once, at the time it is
 * needed. An entry moves at least two bytes and a drive never moves more than
 * its command asks for, so a table without end is used up by the transfer; one
 * that ends early leaves the drive waiting, as the chip does.
 */
#include "devices/piix3_ide.h"

#include <stdlib.h>
#include <string.h>

#include "core/ioport.h"
#include "core/memory.h"
#include "core/util.h"
#include "devices/ata_priv.h"
#include "devices/pci.h"

/* Configuration registers. */
enum {
	IDETIM = 0x40,             /* two bytes per channel */
	IDETIM_DECODE = 1 << 7,    /* in the upper byte: the channel's ports are decoded */
	SIDETIM = 0x44,
};

/* Bus master registers of one channel, at base + 8 * channel. */
enum { BMICX = 0, BMISX = 2, BMIDTPX = 4, BM_CHANNEL = 8, BM_SIZE = 16 };

enum {
	BMIC_START = 1 << 0, BMIC_TO_MEMORY = 1 << 3,
	BMIC_BITS = BMIC_START | BMIC_TO_MEMORY,
	BMIS_ACTIVE = 1 << 0, BMIS_ERROR = 1 << 1, BMIS_INTR = 1 << 2,
	BMIS_CAPABLE = 3 << 5, /* drive 0 and 1 can do DMA: software's own notes */
	BMIS_BITS = BMIS_ACTIVE | BMIS_ERROR | BMIS_INTR | BMIS_CAPABLE,
};

enum { PRD_END = 1u << 31 };

struct ide_channel {
	struct ata_channel ata;
	struct piix3_ide *ide;
	uint8_t bmic, bmis;
	uint32_t table;    /* BMIDTP as written */
	uint32_t next;     /* address of the PRD that comes next */
	uint32_t address;  /* the current region: next byte */
	uint32_t left;     /* ... and how many; 0: fetch a PRD */
	bool last;         /* the current region is the table's last */
};

struct piix3_ide {
	struct pci_device pci;
	struct ide_channel ch[2];
};

static bool decoded(const struct ide_channel *c)
{
	unsigned n = c == &c->ide->ch[1];

	return c->ide->pci.config[IDETIM + n * 2 + 1] & IDETIM_DECODE;
}

/* ---- legacy ports ---- */

static uint32_t command_read(void *opaque, uint16_t port, unsigned size)
{
	struct ide_channel *c = opaque;

	return decoded(c) ? ata_read(&c->ata, port & 7, size) : UINT32_MAX;
}

static void command_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct ide_channel *c = opaque;

	if (decoded(c))
		ata_write(&c->ata, port & 7, value, size);
}

static size_t command_read_block(void *opaque, uint16_t port, unsigned size, uint8_t *buf,
				 size_t count)
{
	struct ide_channel *c = opaque;

	return (port & 7) == 0 && decoded(c) ? ata_read_block(&c->ata, size, buf, count) : 0;
}

static size_t command_write_block(void *opaque, uint16_t port, unsigned size,
				  const uint8_t *buf, size_t count)
{
	struct ide_channel *c = opaque;

	return (port & 7) == 0 && decoded(c) ? ata_write_block(&c->ata, size, buf, count) : 0;
}

static const struct ioport_ops command_ops = {
	.read = command_read,
	.write = command_write,
	.read_block = command_read_block,
	.write_block = command_write_block,
	.sizes = 1 | 2 | 4,
};

static uint32_t control_read(void *opaque, uint16_t port, unsigned size)
{
	struct ide_channel *c = opaque;

	return decoded(c) ? ata_read_alt_status(&c->ata) : UINT32_MAX;
}

static void control_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct ide_channel *c = opaque;

	if (decoded(c))
		ata_write_devctl(&c->ata, (uint8_t)value);
}

static const struct ioport_ops control_ops = { .read = control_read, .write = control_write };

/* ---- bus master ---- */

/* Read the next PRD; false when there is none. */
static bool next_region(struct ide_channel *c)
{
	uint8_t prd[8];
	uint32_t control;

	if (c->last)
		return false;
	memory_read_bytes(c->ide->pci.machine->memory, c->next, prd, sizeof(prd));
	c->next += sizeof(prd);
	control = load_le32(prd + 4);
	c->address = load_le32(prd) & ~1u;
	c->left = control & 0xfffe;
	if (!c->left)
		c->left = 0x10000;
	c->last = control & PRD_END;
	return true;
}

static size_t bm_dma(void *opaque, uint8_t *buf, size_t len, bool to_memory)
{
	struct ide_channel *c = opaque;
	struct memory *mem = c->ide->pci.machine->memory;
	size_t done = 0;

	while (done < len) {
		size_t n;

		if (!c->left && !next_region(c))
			break;
		n = MIN(len - done, c->left);
		/* PCI addresses have 32 bits. */
		n = MIN(n, (UINT64_C(1) << 32) - c->address);
		if (to_memory)
			memory_write_bytes(mem, c->address, buf + done, n);
		else
			memory_read_bytes(mem, c->address, buf + done, n);
		c->address += (uint32_t)n;
		c->left -= (uint32_t)n;
		done += n;
	}
	if (!c->left && c->last)
		c->bmis &= ~BMIS_ACTIVE;
	return done;
}

static bool bm_started(void *opaque)
{
	struct ide_channel *c = opaque;

	return (c->bmic & BMIC_START) && (c->bmis & BMIS_ACTIVE) && pci_can_dma(&c->ide->pci);
}

static void bm_intrq(void *opaque)
{
	struct ide_channel *c = opaque;

	c->bmis |= BMIS_INTR;
}

static const struct ata_host_ops bm_host_ops = {
	.dma = bm_dma,
	.dma_started = bm_started,
	.intrq = bm_intrq,
};

static void write_bmic(struct ide_channel *c, uint8_t value)
{
	uint8_t old = c->bmic;

	c->bmic = value & BMIC_BITS;
	if (!(old & BMIC_START) && (value & BMIC_START)) {
		c->next = c->table;
		c->left = 0;
		c->last = false;
		c->bmis |= BMIS_ACTIVE;
		if (pci_can_dma(&c->ide->pci))
			ata_dma_start(&c->ata);
	} else if ((old & BMIC_START) && !(value & BMIC_START)) {
		c->bmis &= ~BMIS_ACTIVE;
		ata_dma_stop(&c->ata);
	}
}

static void write_bmis(struct ide_channel *c, uint8_t value)
{
	c->bmis &= ~(value & (BMIS_ERROR | BMIS_INTR));
	c->bmis = (uint8_t)((c->bmis & ~BMIS_CAPABLE) | (value & BMIS_CAPABLE));
}

static uint8_t bm_read_byte(const struct ide_channel *c, unsigned reg)
{
	switch (reg) {
	case BMICX: return c->bmic;
	case BMISX: return c->bmis;
	case BMIDTPX ... BMIDTPX + 3: return (uint8_t)(c->table >> (reg - BMIDTPX) * 8);
	}
	return 0;
}

static uint32_t bm_read(void *opaque, uint16_t port, unsigned size)
{
	struct piix3_ide *ide = opaque;
	uint32_t v = 0;

	for (unsigned i = 0; i < size; i++) {
		unsigned reg = (port + i) & (BM_SIZE - 1);

		v |= (uint32_t)bm_read_byte(&ide->ch[reg / BM_CHANNEL], reg % BM_CHANNEL) << i * 8;
	}
	return v;
}

static void bm_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct piix3_ide *ide = opaque;

	for (unsigned i = 0; i < size; i++) {
		unsigned reg = (port + i) & (BM_SIZE - 1);
		struct ide_channel *c = &ide->ch[reg / BM_CHANNEL];
		uint8_t byte = (uint8_t)(value >> i * 8);
		unsigned shift;

		reg %= BM_CHANNEL;
		switch (reg) {
		case BMICX:
			write_bmic(c, byte);
			break;
		case BMISX:
			write_bmis(c, byte);
			break;
		case BMIDTPX ... BMIDTPX + 3:
			shift = (reg - BMIDTPX) * 8;
			c->table = ((c->table & ~(0xffu << shift)) | (uint32_t)byte << shift) & ~3u;
			break;
		}
	}
}

static const struct ioport_ops bm_ops = { .read = bm_read, .write = bm_write, .sizes = 1 | 2 | 4 };

/* ---- device ---- */

static void config_written(struct pci_device *d, unsigned offset, unsigned size)
{
	struct piix3_ide *ide = container_of(d, struct piix3_ide, pci);

	/* Bus mastering came after the start bit: go on now. */
	if (offset <= PCI_COMMAND && offset + size > PCI_COMMAND && pci_can_dma(d)) {
		for (unsigned i = 0; i < 2; i++) {
			if (bm_started(&ide->ch[i]))
				ata_dma_start(&ide->ch[i].ata);
		}
	}
}

static const struct pci_device_ops piix3_ide_pci_ops = { .config_written = config_written };

static void piix3_ide_reset(struct device *dev)
{
	struct piix3_ide *ide = container_of(dev, struct piix3_ide, pci.base);

	pci_device_reset(&ide->pci);
	/* The chip comes up with both channels off and firmware switches them on;
	 * here they are on, for boots without firmware. */
	store_le16(ide->pci.config + IDETIM, 0x8000);
	store_le16(ide->pci.config + IDETIM + 2, 0x8000);
	ide->pci.config[SIDETIM] = 0;
	for (unsigned i = 0; i < 2; i++) {
		struct ide_channel *c = &ide->ch[i];

		c->bmic = c->bmis = 0;
		c->table = c->next = c->address = c->left = 0;
		c->last = false;
		ata_channel_reset(&c->ata);
	}
}

static void piix3_ide_destroy(struct device *dev)
{
	struct piix3_ide *ide = container_of(dev, struct piix3_ide, pci.base);

	for (unsigned i = 0; i < 2; i++)
		ata_channel_finish(&ide->ch[i].ata);
	pci_device_finish(&ide->pci);
	free(ide);
}

static void piix3_ide_loaded(struct device *dev)
{
	struct piix3_ide *ide = container_of(dev, struct piix3_ide, pci.base);

	pci_device_loaded(&ide->pci);
	for (unsigned i = 0; i < 2; i++)
		ata_channel_loaded(&ide->ch[i].ata);
}

static bool piix3_ide_check(const struct device *dev, const char **field)
{
	const struct piix3_ide *ide = container_of(dev, const struct piix3_ide, pci.base);

	return ata_channel_check(&ide->ch[0].ata, field) &&
	       ata_channel_check(&ide->ch[1].ata, field);
}

#define IDE_CHANNEL_STATE(s, p) \
	ATA_FIELD(s, p, bmic, UINT64_MAX, BMIC_BITS), \
	ATA_FIELD(s, p, bmis, UINT64_MAX, BMIS_BITS), \
	ATA_FIELD(s, p, table, UINT64_MAX, ~(uint64_t)3), \
	ATA_FIELD(s, p, next, UINT64_MAX, ~(uint64_t)3), \
	ATA_FIELD(s, p, address, UINT64_MAX, UINT64_MAX), \
	ATA_FIELD(s, p, left, 0x10000, UINT64_MAX), \
	ATA_BOOL(s, p, last)

static const struct state_field piix3_ide_fields[] = {
	PCI_STATE_FIELDS(struct piix3_ide, pci),
	ATA_CHANNEL_STATE(struct piix3_ide, ch[0].ata),
	IDE_CHANNEL_STATE(struct piix3_ide, ch[0]),
	ATA_CHANNEL_STATE(struct piix3_ide, ch[1].ata),
	IDE_CHANNEL_STATE(struct piix3_ide, ch[1]),
	STATE_END,
};

static const struct device_ops piix3_ide_ops = {
	.name = "piix3-ide",
	.reset = piix3_ide_reset,
	.destroy = piix3_ide_destroy,
	.fields = piix3_ide_fields, .size = sizeof(struct piix3_ide),
	.loaded = piix3_ide_loaded,
	.check = piix3_ide_check,
};

struct block *piix3_ide_image(struct device *dev, unsigned n)
{
	struct piix3_ide *ide = container_of(dev, struct piix3_ide, pci.base);

	return n < IDE_DRIVES ? ide->ch[n / 2].ata.drive[n % 2].block : NULL;
}

bool piix3_ide_set_disc(struct device *dev, unsigned n, struct block *disc, bool force,
			struct error *err)
{
	struct piix3_ide *ide = container_of(dev, struct piix3_ide, pci.base);
	struct ata_drive *d;

	if (n >= IDE_DRIVES) {
		error_set(err, "IDE drive %u: there are %d, counted from 0", n, IDE_DRIVES);
		return false;
	}
	d = &ide->ch[n / 2].ata.drive[n % 2];
	if (d->kind != ATA_CD) {
		error_set(err, "IDE drive %u: is not a CD drive", n);
		return false;
	}
	if (!atapi_set_disc(d, disc, force)) {
		error_set(err, "IDE drive %u: the guest has locked the tray", n);
		return false;
	}
	return true;
}

struct device *piix3_ide_create(struct machine *m, struct pci_bus *bus,
				const struct irq_line irq[2],
				struct block *const drives[IDE_DRIVES],
				const bool is_cd[IDE_DRIVES], struct error *err)
{
	static const uint16_t command_port[2] = { 0x1f0, 0x170 }, control_port[2] = { 0x3f6, 0x376 };
	static const char *const command_name[2] = { "ide0", "ide1" };
	static const struct pci_ids ids = {
		.vendor = 0x8086, .device = 0x7010, .class = 0x0101,
		.prog_if = 0x80, /* bus master, both channels in legacy mode */
	};
	struct piix3_ide *ide = calloc(1, sizeof(*ide));

	if (!ide) {
		error_set(err, "out of memory for the IDE controller");
		return NULL;
	}
	ide->pci.base.ops = &piix3_ide_ops;
	if (!pci_device_init(&ide->pci, m, bus, PCI_DEVFN(1, 1), &ids, &piix3_ide_pci_ops, err) ||
	    !pci_bar_io(&ide->pci, 4, BM_SIZE, &bm_ops, ide, "ide-busmaster")) {
		pci_device_finish(&ide->pci);
		free(ide);
		return NULL;
	}
	memset(ide->pci.wmask + IDETIM, 0xff, 5);
	for (unsigned i = 0; i < 2; i++) {
		struct ide_channel *c = &ide->ch[i];

		c->ide = ide;
		for (unsigned n = 0; n < 2; n++) {
			struct ata_drive *d = &c->ata.drive[n];

			d->block = drives[i * 2 + n];
			d->kind = is_cd[i * 2 + n] ? ATA_CD : d->block ? ATA_DISK : ATA_NONE;
		}
		ata_channel_init(&c->ata, m, &irq[i], &bm_host_ops, c);
		ioport_add(m->io, command_port[i], 8, &command_ops, c, command_name[i]);
		ioport_add(m->io, control_port[i], 1, &control_ops, c, "ide-control");
	}
	machine_add(m, &ide->pci.base);
	return &ide->pci.base;
}
