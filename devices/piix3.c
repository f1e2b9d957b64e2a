/* See piix3.h.
 *
 * The A20 line is shared with the keyboard controller: whoever changed it last
 * wins, so port 0x92 reads the line itself. Reset leaves it open.
 *
 * Sources: 82371SB (PIIX3) datasheet 290550, sections 2.2 (PIRQRC), 2.5.4
 * (reset control); PS/2 Hardware Interface Technical Reference for port 0x92.
 */
#include "devices/piix3.h"

#include <stdlib.h>
#include <string.h>

#include "core/util.h"

enum {
	REG_PIRQRC = 0x60,
	PIRQ_OFF = 1 << 7,
	PIRQ_IRQ = 0x0f,
	PIRQ_LEGAL = 0xdef8, /* not 0, 1, 2, 8, 13 */
	RESET_CPU = 1 << 2,  /* the rising edge counts */
	RESET_WRITABLE = 0x06,
	PORT92 = 0x92,
	PORT92_RESET = 1 << 0,
	PORT92_A20 = 1 << 1,
};

struct piix3 {
	struct pci_device pci;
	bool level[PCI_PIRQS]; /* of the pins */
	uint8_t reset_control;
	uint8_t port92;        /* bit 0, as written last */
	struct {
		void (*set)(void *opaque, uint16_t irqs);
		void *opaque;
	} route;
};

static void update(struct piix3 *p)
{
	uint16_t irqs = 0;

	for (int i = 0; i < PCI_PIRQS; i++) {
		uint8_t reg = p->pci.config[REG_PIRQRC + i];

		if (p->level[i] && !(reg & PIRQ_OFF))
			irqs |= 1 << (reg & PIRQ_IRQ);
	}
	p->route.set(p->route.opaque, irqs & PIRQ_LEGAL);
}

static void set_pirq(void *opaque, int n, bool level)
{
	struct piix3 *p = opaque;

	p->level[n] = level;
	update(p);
}

static void config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
	if (offset < REG_PIRQRC + PCI_PIRQS && offset + size > REG_PIRQRC)
		update(container_of(pci, struct piix3, pci));
}

static uint8_t reset_read(void *opaque)
{
	return ((struct piix3 *)opaque)->reset_control;
}

static void reset_write(void *opaque, uint8_t value)
{
	struct piix3 *p = opaque;
	bool edge = value & RESET_CPU && !(p->reset_control & RESET_CPU);

	p->reset_control = value & RESET_WRITABLE;
	if (edge)
		machine_request_reset(p->pci.machine);
}

static uint32_t port92_read(void *opaque, uint16_t port, unsigned size)
{
	struct piix3 *p = opaque;

	return p->port92 | (memory_a20(p->pci.machine->memory) ? PORT92_A20 : 0);
}

static void port92_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct piix3 *p = opaque;
	bool edge = value & PORT92_RESET && !p->port92;

	p->port92 = value & PORT92_RESET;
	memory_set_a20(p->pci.machine->memory, value & PORT92_A20);
	if (edge)
		machine_request_reset(p->pci.machine);
}

static const struct ioport_ops port92_ops = {.read = port92_read, .write = port92_write};

static void piix3_reset(struct device *dev)
{
	/* Offset and value of what is not 0 at power-on. */
	static const uint8_t defaults[][2] = {
		{PCI_COMMAND, 0x07}, {0x4c, 0x4d}, {0x4e, 0x03}, {0x60, 0x80}, {0x61, 0x80},
		{0x62, 0x80}, {0x63, 0x80}, {0x69, 0x02}, {0x70, 0x80}, {0x76, 0x0c},
		{0x77, 0x0c}, {0x78, 0x02}, {0xa0, 0x08}, {0xa8, 0x0f},
	};
	struct piix3 *p = container_of(dev, struct piix3, pci.base);

	pci_device_reset(&p->pci);
	memset(p->pci.config + 0x40, 0, 0xc0);
	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++)
		p->pci.config[defaults[i][0]] = defaults[i][1];
	p->reset_control = 0;
	p->port92 = 0;
	memory_set_a20(p->pci.machine->memory, true);
	update(p);
}

static void piix3_destroy(struct device *dev)
{
	struct piix3 *p = container_of(dev, struct piix3, pci.base);

	if (p->pci.bus)
		pci_bus_set_router(p->pci.bus, NULL, NULL);
	pci_device_finish(&p->pci);
	free(p);
}

static void piix3_loaded(struct device *dev)
{
	struct piix3 *p = container_of(dev, struct piix3, pci.base);

	pci_device_loaded(&p->pci);
	update(p);
}

static const struct state_field piix3_fields[] = {
	PCI_STATE_FIELDS(struct piix3, pci),
	{"level", offsetof(struct piix3, level), STATE_TYPE_BOOL, sizeof(bool), PCI_PIRQS, 1, 1},
	STATE_UINT_MASKED(struct piix3, reset_control, RESET_WRITABLE),
	STATE_UINT_MASKED(struct piix3, port92, PORT92_RESET),
	STATE_END,
};

static const struct device_ops piix3_ops = {
	.name = "piix3",
	.reset = piix3_reset,
	.destroy = piix3_destroy,
	.fields = piix3_fields, .size = sizeof(struct piix3),
	.loaded = piix3_loaded,
};

static const struct pci_device_ops piix3_pci_ops = {.config_written = config_written};

struct pci_device *piix3_create(struct machine *m, struct pci_bus *bus,
				void (*route)(void *opaque, uint16_t irqs), void *opaque,
				struct error *err)
{
	static const struct pci_ids ids = {
		.vendor = 0x8086, .device = 0x7000, .class = 0x0601, .multifunction = true,
	};
	struct piix3 *p = calloc(1, sizeof(*p));
	uint8_t *w;

	if (!p) {
		error_set(err, "piix3: out of memory");
		return NULL;
	}
	p->pci.base.ops = &piix3_ops;
	p->route.set = route;
	p->route.opaque = opaque;
	if (!pci_device_init(&p->pci, m, bus, PCI_DEVFN(1, 0), &ids, &piix3_pci_ops, err)) {
		free(p);
		return NULL;
	}
	w = p->pci.wmask;
	w[PCI_COMMAND] = 0x08; /* special cycles; I/O, memory and mastering are always on */
	w[PCI_COMMAND + 1] = 1;
	w[0x4c] = w[0x4e] = w[0x4f] = 0xff;
	memset(w + REG_PIRQRC, PIRQ_OFF | PIRQ_IRQ, PCI_PIRQS);
	w[0x69] = 0xfe;
	w[0x70] = 0xcf;
	w[0x76] = w[0x77] = 0x8f;
	w[0x78] = 0xff;
	w[0x79] = 0xff;
	memset(w + 0xa0, 0xff, 16);
	ioport_add(m->io, PORT92, 1, &port92_ops, p, "port 92");
	pci_bus_set_router(bus, set_pirq, p);
	pci_bus_set_reset_control(bus, reset_read, reset_write, p);
	machine_add(m, &p->pci.base);
	return &p->pci;
}
