/* See piix4_pm.h.
 *
 * Theory: the status bits of PM1 and GPE0 raise the SCI while their enable bits
 * are set and SCI_EN is. There is no system management mode: what firmware would
 * do there on ACPI_ENABLE (port 0xb2) happens here, and DEVACTB says from the
 * start that firmware has set SMM up. Writing SLP_EN with SLP_TYP 0 (soft off)
 * ends the machine; other sleep types wake at once.
 *
 * The timer's status bit is worked out when someone looks; an event is armed
 * only while its interrupt is enabled. The SMBus has no devices on it: every
 * transaction ends with "no answer".
 *
 * Sources: 82371AB (PIIX4) datasheet 290562, sections 7.1-7.3; ACPI 1.0b 4.7.3.
 */
#include "devices/piix4_pm.h"

#include <stdlib.h>
#include <string.h>

#include "core/loop.h"
#include "core/util.h"

enum { PM_SIZE = 0x40, SMB_SIZE = 0x10, GPE_SIZE = 4 };

/* Configuration. */
enum {
	REG_PMBA = 0x40, REG_DEVACTB = 0x58, REG_PMREGMISC = 0x80, REG_SMBBA = 0x90,
	REG_SMBHSTCFG = 0xd2,
	BASE_IO = 1,
	DEVACTB_APMC = 1 << 25,
	ENABLE = 1, /* of PMREGMISC and SMBHSTCFG */
};

/* Words of the PM block. */
enum { PMSTS = 0x00, PMEN = 0x02, PMCNT = 0x04, PMTMR = 0x08 };
enum {
	STS_TIMER = 1 << 0, STS_GLOBAL = 1 << 5, STS_POWER_BUTTON = 1 << 8, STS_RTC = 1 << 10,
	STS_WAKE = 1 << 15,
	STS_ALL = STS_TIMER | 1 << 4 | STS_GLOBAL | STS_POWER_BUTTON | STS_RTC | STS_WAKE,
	EN_ALL = STS_TIMER | STS_GLOBAL | STS_POWER_BUTTON | STS_RTC,
	CNT_SCI_EN = 1 << 0,
	CNT_TYPE_SHIFT = 10,
	CNT_SLEEP = 1 << 13, /* write only */
	CNT_WRITABLE = 0x1c03,
};
enum { TYPE_SOFT_OFF = 0 };

enum { TIMER_MASK = 0xffffff, TIMER_MSB = 23 };

enum { PORT_APMC = 0xb2, ACPI_ENABLE = 0xf1, ACPI_DISABLE = 0xf0 };

enum {
	SMB_STATUS = 0, SMB_CONTROL = 2,
	SMB_NO_ANSWER = 1 << 2,
	SMB_START = 1 << 6,
};

struct piix4_pm {
	struct pci_device pci;
	struct irq_line sci;
	uint16_t status, enable, control;
	uint16_t words[PM_SIZE / 2]; /* registers that only remember */
	uint16_t gpe_status, gpe_enable;
	uint8_t apm[2];
	uint8_t smb[SMB_SIZE];
	int64_t half_seen; /* half periods of the PM timer up to which STS_TIMER is known */
	struct timer timer;
	uint16_t pm_base, smb_base;  /* where they are decoded; 0: nowhere */
	struct ioport_range *pm_range, *smb_range;
};

/* ---- timer and SCI ---- */

static int64_t pm_ticks(const struct piix4_pm *p)
{
	return (int64_t)((__int128)loop_now(p->pci.machine->loop) * PM_TIMER_HZ / NS_PER_S);
}

static void refresh(struct piix4_pm *p)
{
	int64_t half = pm_ticks(p) >> TIMER_MSB;

	if (half != p->half_seen)
		p->status |= STS_TIMER;
	p->half_seen = half;
	irq_set(&p->sci, p->control & CNT_SCI_EN && ((p->status & p->enable & EN_ALL) ||
						     (p->gpe_status & p->gpe_enable)));
	if (p->enable & STS_TIMER && !(p->status & STS_TIMER)) {
		__int128 at = (__int128)((half + 1) << TIMER_MSB) * NS_PER_S;

		timer_arm(&p->timer, (int64_t)((at + PM_TIMER_HZ - 1) / PM_TIMER_HZ));
	} else {
		timer_disarm(&p->timer);
	}
}

static void pm_fire(void *opaque)
{
	refresh(opaque);
}

void piix4_pm_power_button(struct pci_device *pci)
{
	struct piix4_pm *p = container_of(pci, struct piix4_pm, pci);

	p->status |= STS_POWER_BUTTON;
	refresh(p);
}

void piix4_pm_event(struct pci_device *pci, unsigned n)
{
	struct piix4_pm *p = container_of(pci, struct piix4_pm, pci);

	p->gpe_status |= 1u << (n & 15);
	refresh(p);
}

/* ---- PM block ---- */

static uint16_t word_read(struct piix4_pm *p, unsigned offset)
{
	switch (offset) {
	case PMSTS:
		refresh(p);
		return p->status;
	case PMEN:
		return p->enable;
	case PMCNT:
		return p->control;
	case PMTMR:
		return pm_ticks(p);
	case PMTMR + 2:
		return (pm_ticks(p) & TIMER_MASK) >> 16;
	default:
		return p->words[offset / 2];
	}
}

static void control_write(struct piix4_pm *p, uint16_t value)
{
	p->control = value & CNT_WRITABLE;
	if (!(value & CNT_SLEEP))
		return;
	if ((value >> CNT_TYPE_SHIFT & 7) == TYPE_SOFT_OFF)
		machine_end_with(p->pci.machine, MACHINE_POWEROFF, 0);
	else
		p->status |= STS_WAKE;
}

/* @mask: which bits of the word the guest writes. */
static void word_write(struct piix4_pm *p, unsigned offset, uint16_t value, uint16_t mask)
{
	switch (offset) {
	case PMSTS:
		refresh(p);
		p->status &= ~(value & mask & STS_ALL);
		break;
	case PMEN:
		p->enable = ((p->enable & ~mask) | (value & mask)) & EN_ALL;
		break;
	case PMCNT:
		control_write(p, (p->control & ~mask) | (value & mask));
		break;
	case PMTMR:
	case PMTMR + 2:
		return;
	default:
		p->words[offset / 2] = (p->words[offset / 2] & ~mask) | (value & mask);
		return;
	}
	refresh(p);
}

static uint32_t pm_read(void *opaque, uint16_t port, unsigned size)
{
	struct piix4_pm *p = opaque;
	unsigned offset = port & (PM_SIZE - 1);

	if (size == 4 && offset == PMTMR)
		return pm_ticks(p) & TIMER_MASK;
	if (size == 4 && !(offset & 1))
		return word_read(p, offset) |
		       (uint32_t)word_read(p, (offset + 2) & (PM_SIZE - 1)) << 16;
	return word_read(p, offset & ~1u) >> (offset & 1) * 8;
}

static void pm_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct piix4_pm *p = opaque;
	unsigned offset = port & (PM_SIZE - 1);

	if (size == 1) {
		unsigned shift = (offset & 1) * 8;

		word_write(p, offset & ~1u, value << shift, 0xff << shift);
		return;
	}
	word_write(p, offset & ~1u, value, 0xffff);
	if (size == 4)
		word_write(p, (offset + 2) & (PM_SIZE - 2), value >> 16, 0xffff);
}

/* ---- the small blocks ---- */

static uint32_t gpe_read(void *opaque, uint16_t port, unsigned size)
{
	struct piix4_pm *p = opaque;
	uint32_t all = p->gpe_status | (uint32_t)p->gpe_enable << 16;

	return all >> (port & 3) * 8;
}

static void gpe_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct piix4_pm *p = opaque;
	unsigned shift = (port & 3) * 8;
	uint32_t mask = size == 4 ? UINT32_MAX : ((1u << size * 8) - 1) << shift;

	value <<= shift;
	p->gpe_status &= ~(value & mask);
	p->gpe_enable = (p->gpe_enable & ~(mask >> 16)) | (value & mask) >> 16;
	refresh(p);
}

static uint32_t apm_read(void *opaque, uint16_t port, unsigned size)
{
	return ((struct piix4_pm *)opaque)->apm[port & 1];
}

static void apm_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct piix4_pm *p = opaque;

	p->apm[port & 1] = value;
	if (port != PORT_APMC)
		return;
	if (value == ACPI_ENABLE)
		p->control |= CNT_SCI_EN;
	else if (value == ACPI_DISABLE)
		p->control &= ~CNT_SCI_EN;
	refresh(p);
}

static uint32_t smb_read(void *opaque, uint16_t port, unsigned size)
{
	return ((struct piix4_pm *)opaque)->smb[port & (SMB_SIZE - 1)];
}

static void smb_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct piix4_pm *p = opaque;
	unsigned reg = port & (SMB_SIZE - 1);

	if (reg == SMB_STATUS) {
		p->smb[SMB_STATUS] &= ~value;
		return;
	}
	p->smb[reg] = value;
	if (reg == SMB_CONTROL && value & SMB_START) {
		p->smb[SMB_CONTROL] &= ~SMB_START;
		p->smb[SMB_STATUS] |= SMB_NO_ANSWER;
	}
}

static const struct ioport_ops pm_ports = {.read = pm_read, .write = pm_write, .sizes = 1 | 2 | 4};
static const struct ioport_ops gpe_ports = {
	.read = gpe_read, .write = gpe_write, .sizes = 1 | 2 | 4,
};
static const struct ioport_ops apm_ports = {.read = apm_read, .write = apm_write};
static const struct ioport_ops smb_ports = {.read = smb_read, .write = smb_write};

/* ---- where they are ---- */

static void place(struct piix4_pm *p, struct ioport_range **range, uint16_t *base, unsigned size,
		  unsigned reg, bool on, const struct ioport_ops *ops, const char *name)
{
	uint16_t want = on ? load_le16(p->pci.config + reg) & ~(size - 1) : 0;

	if (want == *base)
		return;
	ioport_remove(p->pci.machine->io, *range);
	*range = want ? ioport_add(p->pci.machine->io, want, size, ops, p, name) : NULL;
	*base = want;
}

static void apply(struct piix4_pm *p)
{
	const uint8_t *c = p->pci.config;

	place(p, &p->pm_range, &p->pm_base, PM_SIZE, REG_PMBA, c[REG_PMREGMISC] & ENABLE,
	      &pm_ports, "pm");
	place(p, &p->smb_range, &p->smb_base, SMB_SIZE, REG_SMBBA, c[REG_SMBHSTCFG] & ENABLE,
	      &smb_ports, "smbus");
}

static void config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
	apply(container_of(pci, struct piix4_pm, pci));
}

/* ---- life ---- */

static void piix4_pm_reset(struct device *dev)
{
	struct piix4_pm *p = container_of(dev, struct piix4_pm, pci.base);

	pci_device_reset(&p->pci);
	memset(p->pci.config + 0x40, 0, 0xc0);
	store_le32(p->pci.config + REG_PMBA, BASE_IO);
	store_le32(p->pci.config + REG_SMBBA, BASE_IO);
	store_le32(p->pci.config + REG_DEVACTB, DEVACTB_APMC);
	p->status = p->enable = p->control = 0;
	memset(p->words, 0, sizeof(p->words));
	p->gpe_status = p->gpe_enable = 0;
	memset(p->apm, 0, sizeof(p->apm));
	memset(p->smb, 0, sizeof(p->smb));
	p->half_seen = pm_ticks(p) >> TIMER_MSB;
	apply(p);
	refresh(p);
}

static void piix4_pm_destroy(struct device *dev)
{
	struct piix4_pm *p = container_of(dev, struct piix4_pm, pci.base);

	timer_disarm(&p->timer);
	pci_device_finish(&p->pci);
	free(p);
}

static void piix4_pm_loaded(struct device *dev)
{
	struct piix4_pm *p = container_of(dev, struct piix4_pm, pci.base);

	pci_device_loaded(&p->pci);
	apply(p);
	refresh(p);
}

static const struct state_field piix4_pm_fields[] = {
	PCI_STATE_FIELDS(struct piix4_pm, pci),
	STATE_UINT_MASKED(struct piix4_pm, status, STS_ALL),
	STATE_UINT_MASKED(struct piix4_pm, enable, EN_ALL),
	STATE_UINT_MASKED(struct piix4_pm, control, CNT_WRITABLE),
	STATE_ARRAY(struct piix4_pm, words),
	STATE_UINT(struct piix4_pm, gpe_status),
	STATE_UINT(struct piix4_pm, gpe_enable),
	STATE_BYTES(struct piix4_pm, apm),
	STATE_BYTES(struct piix4_pm, smb),
	STATE_UINT(struct piix4_pm, half_seen),
	STATE_TIMER(struct piix4_pm, timer),
	STATE_END,
};

static const struct device_ops piix4_pm_ops = {
	.name = "piix4_pm",
	.reset = piix4_pm_reset,
	.destroy = piix4_pm_destroy,
	.fields = piix4_pm_fields, .size = sizeof(struct piix4_pm),
	.loaded = piix4_pm_loaded,
};

static const struct pci_device_ops piix4_pm_pci_ops = {.config_written = config_written};

struct pci_device *piix4_pm_create(struct machine *m, struct pci_bus *bus,
				   const struct irq_line *sci, uint16_t gpe_base,
				   struct error *err)
{
	static const struct pci_ids ids = {
		.vendor = 0x8086, .device = 0x7113, .class = 0x0680, .revision = 3, .pin = 1,
	};
	struct piix4_pm *p = calloc(1, sizeof(*p));
	uint8_t *w;

	if (!p) {
		error_set(err, "piix4 power management: out of memory");
		return NULL;
	}
	p->pci.base.ops = &piix4_pm_ops;
	p->sci = *sci;
	timer_init(&p->timer, m->loop, "piix4_pm", pm_fire, p);
	if (!pci_device_init(&p->pci, m, bus, PCI_DEVFN(1, 3), &ids, &piix4_pm_pci_ops, err)) {
		free(p);
		return NULL;
	}
	w = p->pci.wmask;
	w[PCI_COMMAND] |= PCI_COMMAND_IO;
	memset(w + 0x44, 0xff, 0x3c); /* timers, device activity, traps: remembered only */
	w[REG_PMBA] = 0xc0;
	w[REG_PMBA + 1] = 0xff;
	w[REG_PMREGMISC] = ENABLE;
	w[REG_SMBBA] = 0xf0;
	w[REG_SMBBA + 1] = 0xff;
	memset(w + REG_SMBHSTCFG, 0xff, 5);
	ioport_add(m->io, PORT_APMC, 2, &apm_ports, p, "apm");
	ioport_add(m->io, gpe_base, GPE_SIZE, &gpe_ports, p, "gpe");
	machine_add(m, &p->pci.base);
	return &p->pci;
}
