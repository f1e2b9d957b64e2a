/* See i440fx.h.
 *
 * Theory: thirteen segments between 0xc0000 and 0xfffff each have a read and a
 * write enable bit. Enabled accesses go to RAM, the others to the PCI bus, where
 * the firmware's ROM (from 0xe0000 on) or nothing is. A segment that is written
 * to RAM but read from ROM lets firmware copy itself while it runs.
 *
 * SMRAM: with D_OPEN the RAM under the VGA window shows. There is no SMM.
 *
 * Source: 82441FX (PMC) datasheet 290549, sections 3.2.16-3.2.18.
 */
#include "devices/i440fx.h"

#include <stdlib.h>
#include <string.h>

#include "core/util.h"

enum { PAM_SEGMENTS = 13, SEGMENT_FIRST = 0xc0000, SEGMENT_SIZE = 0x4000 };
enum { BIOS_AREA = 0xe0000, BIOS_AREA_SIZE = 0x20000 };
enum { VGA_AREA = 0xa0000, VGA_AREA_SIZE = 0x20000 };
enum { PRIORITY_ROM = 1, PRIORITY_PAM = 5, PRIORITY_SMRAM = 30 };

enum {
	REG_PAM0 = 0x59,
	REG_DRB0 = 0x60,
	REG_SMRAM = 0x72,
	PAM_READ = 1,
	PAM_WRITE = 2,
	SMRAM_RESET = 0x02,
	SMRAM_LOCK = 1 << 4,
	SMRAM_OPEN = 1 << 6,
	SMRAM_ENABLE = 1 << 3,
	SMRAM_WRITABLE = 0x78,
};

struct pam_segment {
	struct memory *memory; /* borrowed */
	uint32_t paddr, size;  /* also the RAM offset: this is below 1 MiB */
	struct memory_region *ram;        /* both or read-only */
	struct memory_region *write_only; /* reads as without shadow RAM, writes to RAM */
};

struct i440fx {
	struct pci_device pci;
	struct pam_segment segment[PAM_SEGMENTS];
	struct memory_region *smram;
};

static void shadow_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	struct pam_segment *s = opaque;
	uint32_t at = s->paddr + offset;

	memory_touch(s->memory, at >> GUEST_PAGE_SHIFT, at & (GUEST_PAGE_SIZE - 1), size);
	memcpy(memory_host(s->memory) + at, &value, size);
}

static const struct mmio_ops shadow_ops = {.write = shadow_write};

/* Segment 0 is the BIOS's 64 KiB in the upper half of PAM0; then two a register. */
static unsigned segment_bits(const struct i440fx *d, unsigned i)
{
	uint8_t reg = d->pci.config[REG_PAM0 + (i + 1) / 2];

	return (i % 2 ? reg : reg >> 4) & (PAM_READ | PAM_WRITE);
}

static void apply(struct i440fx *d)
{
	struct memory *mem = d->pci.machine->memory;
	uint8_t smram = d->pci.config[REG_SMRAM];

	memory_begin(mem);
	for (unsigned i = 0; i < PAM_SEGMENTS; i++) {
		struct pam_segment *s = &d->segment[i];
		unsigned bits = segment_bits(d, i);

		memory_set_kind(mem, s->ram, bits & PAM_WRITE ? MEMORY_RAM : MEMORY_ROM);
		memory_enable(mem, s->ram, bits & PAM_READ);
		memory_enable(mem, s->write_only, bits == PAM_WRITE);
	}
	memory_enable(mem, d->smram, (smram & (SMRAM_OPEN | SMRAM_ENABLE)) ==
					     (SMRAM_OPEN | SMRAM_ENABLE));
	memory_commit(mem);
}

static void config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
	struct i440fx *d = container_of(pci, struct i440fx, pci);

	if (offset + size <= REG_PAM0 || offset > REG_SMRAM)
		return;
	if (pci->config[REG_SMRAM] & SMRAM_LOCK) {
		pci->config[REG_SMRAM] &= ~SMRAM_OPEN;
		pci->wmask[REG_SMRAM] = SMRAM_ENABLE;
	}
	apply(d);
}

static void i440fx_reset(struct device *dev)
{
	struct i440fx *d = container_of(dev, struct i440fx, pci.base);

	pci_device_reset(&d->pci);
	d->pci.config[PCI_COMMAND] = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	memset(d->pci.config + REG_PAM0, 0, 7);
	d->pci.config[REG_SMRAM] = SMRAM_RESET;
	d->pci.wmask[REG_SMRAM] = SMRAM_WRITABLE;
	apply(d);
}

static void i440fx_loaded(struct device *dev)
{
	struct i440fx *d = container_of(dev, struct i440fx, pci.base);

	pci_device_loaded(&d->pci);
	if (d->pci.config[REG_SMRAM] & SMRAM_LOCK)
		d->pci.wmask[REG_SMRAM] = SMRAM_ENABLE;
	apply(d);
}

static void i440fx_destroy(struct device *dev)
{
	struct i440fx *d = container_of(dev, struct i440fx, pci.base);

	pci_device_finish(&d->pci);
	free(d);
}

static const struct state_field i440fx_fields[] = {
	PCI_STATE_FIELDS(struct i440fx, pci),
	STATE_END,
};

static const struct device_ops i440fx_ops = {
	.name = "i440fx",
	.reset = i440fx_reset,
	.destroy = i440fx_destroy,
	.fields = i440fx_fields, .size = sizeof(struct i440fx),
	.loaded = i440fx_loaded,
};

static const struct pci_device_ops i440fx_pci_ops = {.config_written = config_written};

static bool segment_init(struct pam_segment *s, struct memory *mem, unsigned i,
			 uint64_t rom_offset)
{
	s->memory = mem;
	s->paddr = i ? SEGMENT_FIRST + (i - 1) * SEGMENT_SIZE : 0xf0000;
	s->size = i ? SEGMENT_SIZE : 0x10000;
	s->ram = memory_add_ram(mem, s->paddr, s->size, s->paddr, MEMORY_RAM, PRIORITY_PAM,
				"shadow ram");
	if (s->paddr >= BIOS_AREA && rom_offset != UINT64_MAX) {
		s->write_only = memory_add_ram(mem, s->paddr, s->size,
					       rom_offset + (s->paddr - BIOS_AREA), MEMORY_ROMD,
					       PRIORITY_PAM, "shadow write");
		if (s->write_only)
			memory_set_ops(mem, s->write_only, &shadow_ops, s);
	} else {
		s->write_only = memory_add_mmio(mem, s->paddr, s->size, &shadow_ops, s,
						PRIORITY_PAM, "shadow write");
	}
	memory_enable(mem, s->ram, false);
	memory_enable(mem, s->write_only, false);
	return s->ram && s->write_only;
}

static bool map_all(struct i440fx *d, struct memory *mem, uint64_t rom_offset)
{
	bool ok = true;

	memory_begin(mem);
	ok &= memory_add_ram(mem, 0, VGA_AREA, 0, MEMORY_RAM, 0, "low ram") != NULL;
	if (rom_offset != UINT64_MAX)
		ok &= memory_add_ram(mem, BIOS_AREA, BIOS_AREA_SIZE, rom_offset, MEMORY_ROM,
				     PRIORITY_ROM, "bios") != NULL;
	for (unsigned i = 0; i < PAM_SEGMENTS; i++)
		ok &= segment_init(&d->segment[i], mem, i, rom_offset);
	d->smram = memory_add_ram(mem, VGA_AREA, VGA_AREA_SIZE, VGA_AREA, MEMORY_RAM,
				  PRIORITY_SMRAM, "smram");
	ok &= d->smram != NULL;
	memory_enable(mem, d->smram, false);
	memory_commit(mem);
	return ok;
}

struct pci_device *i440fx_create(struct machine *m, struct pci_bus *bus, uint64_t rom_offset,
				 struct error *err)
{
	static const struct pci_ids ids = {
		.vendor = 0x8086, .device = 0x1237, .class = 0x0600, .revision = 2,
	};
	struct i440fx *d = calloc(1, sizeof(*d));
	uint64_t rows = memory_ram_size(m->memory) / (8 * MIB);

	if (!d) {
		error_set(err, "i440fx: out of memory");
		return NULL;
	}
	d->pci.base.ops = &i440fx_ops;
	if (!pci_device_init(&d->pci, m, bus, PCI_DEVFN(0, 0), &ids, &i440fx_pci_ops, err)) {
		free(d);
		return NULL;
	}
	if (!map_all(d, m->memory, rom_offset)) {
		error_set(err, "i440fx: out of memory");
		i440fx_destroy(&d->pci.base);
		return NULL;
	}
	/* The bridge always decodes memory and is always a master. */
	d->pci.wmask[PCI_COMMAND] = 0;
	d->pci.wmask[PCI_COMMAND + 1] = 1;
	memset(d->pci.wmask + 0x50, 0xff, 4);
	d->pci.wmask[0x57] = d->pci.wmask[0x58] = 0xff;
	memset(d->pci.wmask + REG_PAM0, 0x33, 7);
	d->pci.wmask[REG_PAM0] = 0x30;
	for (int i = 0; i < 8; i++)
		d->pci.config[REG_DRB0 + i] = MIN(rows, 255);
	machine_add(m, &d->pci.base);
	return &d->pci;
}
