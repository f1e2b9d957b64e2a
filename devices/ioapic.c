/* See ioapic.h.
 *
 * An edge input sends its message when it rises, if it is not masked then. A
 * level input sends one while it is high and Remote IRR is clear; the EOI of
 * its vector clears that, and an input still high sends again. Making an entry
 * edge triggered clears Remote IRR: drivers rely on it where there is no EOI
 * register (version 0x11). Polarity is ignored: lines here are active or not.
 *
 * Source: Intel 82093AA datasheet (290566-001).
 */
#include "devices/ioapic.h"

#include <stdlib.h>

#include "core/memory.h"
#include "core/util.h"

enum { WINDOW_SIZE = 0x1000, WINDOW_PRIORITY = 20 };
enum { IOREGSEL = 0x00, IOWIN = 0x10 };
enum { REG_ID, REG_VERSION, REG_ARBITRATION, REG_TABLE = 0x10 };

enum {
	VERSION = 0x11 | (IOAPIC_PINS - 1) << 16,
	ENTRY_VECTOR = 0xff,
	ENTRY_MODE_SHIFT = 8,
	ENTRY_LOGICAL = 1 << 11,
	ENTRY_REMOTE_IRR = 1 << 14,
	ENTRY_LEVEL = 1 << 15,
	ENTRY_MASKED = 1 << 16,
	ENTRY_LOW_WRITABLE = 0x1afff,
};

#define ENTRY_HIGH_WRITABLE 0xff000000u
#define ENTRY_BITS ((uint64_t)ENTRY_HIGH_WRITABLE << 32 | ENTRY_LOW_WRITABLE | ENTRY_REMOTE_IRR)

struct ioapic {
	struct device base;
	struct machine *machine; /* borrowed */
	struct lapic *lapic;     /* borrowed */
	uint8_t select;
	uint32_t id;             /* bits 27-24 */
	uint32_t lines;          /* input levels */
	uint64_t entry[IOAPIC_PINS];
};

static void send(struct ioapic *io, int n)
{
	uint64_t e = io->entry[n];

	if (trace_on(&io->machine->trace, TRACE_IRQ))
		trace_print(&io->machine->trace, TRACE_IRQ, "ioapic: input %d sends vector %02x", n,
			    (unsigned)(e & ENTRY_VECTOR));
	if (lapic_accepts(io->lapic, e >> 56, e & ENTRY_LOGICAL))
		lapic_deliver(io->lapic, e >> ENTRY_MODE_SHIFT & 7, e & ENTRY_VECTOR,
			      e & ENTRY_LEVEL);
}

static void serve_level(struct ioapic *io, int n)
{
	uint64_t *e = &io->entry[n];

	if (!(*e & ENTRY_LEVEL) || *e & (ENTRY_MASKED | ENTRY_REMOTE_IRR) ||
	    !(io->lines >> n & 1))
		return;
	*e |= ENTRY_REMOTE_IRR;
	send(io, n);
}

void ioapic_set_irq(void *opaque, int n, bool level)
{
	struct ioapic *io = opaque;
	bool was;

	if (n < 0 || n >= IOAPIC_PINS)
		return;
	was = io->lines >> n & 1;
	if (was == level)
		return;
	io->lines ^= 1u << n;
	if (!level)
		return;
	if (io->entry[n] & ENTRY_LEVEL)
		serve_level(io, n);
	else if (!(io->entry[n] & ENTRY_MASKED))
		send(io, n);
}

bool ioapic_pending(const struct ioapic *io, int n)
{
	uint64_t e = io->entry[n];

	return !(e & ENTRY_MASKED) && lapic_requested(io->lapic, e & ENTRY_VECTOR);
}

static void ioapic_eoi(void *opaque, uint8_t vector)
{
	struct ioapic *io = opaque;

	for (int n = 0; n < IOAPIC_PINS; n++) {
		if ((io->entry[n] & ENTRY_VECTOR) != vector ||
		    !(io->entry[n] & ENTRY_REMOTE_IRR))
			continue;
		io->entry[n] &= ~(uint64_t)ENTRY_REMOTE_IRR;
		serve_level(io, n);
	}
}

static void entry_write(struct ioapic *io, unsigned reg, uint32_t value)
{
	unsigned n = (reg - REG_TABLE) / 2;
	uint64_t *e = &io->entry[n];

	if (reg & 1) {
		*e = (*e & UINT32_MAX) | (uint64_t)(value & ENTRY_HIGH_WRITABLE) << 32;
		return;
	}
	*e = (*e & ~(uint64_t)ENTRY_LOW_WRITABLE) | (value & ENTRY_LOW_WRITABLE);
	if (!(*e & ENTRY_LEVEL))
		*e &= ~(uint64_t)ENTRY_REMOTE_IRR;
	serve_level(io, n);
}

static uint32_t reg_read(const struct ioapic *io, unsigned reg)
{
	uint64_t e;

	switch (reg) {
	case REG_ID:
	case REG_ARBITRATION:
		return io->id;
	case REG_VERSION:
		return VERSION;
	}
	if (reg < REG_TABLE || reg >= REG_TABLE + 2 * IOAPIC_PINS)
		return UINT32_MAX;
	e = io->entry[(reg - REG_TABLE) / 2];
	return reg & 1 ? e >> 32 : e;
}

static uint64_t ioapic_read(void *opaque, uint64_t offset, unsigned size)
{
	const struct ioapic *io = opaque;

	if ((offset & ~3ull) == IOREGSEL)
		return (uint32_t)io->select >> (offset & 3) * 8;
	if ((offset & ~3ull) == IOWIN)
		return reg_read(io, io->select) >> (offset & 3) * 8;
	return 0;
}

static void ioapic_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	struct ioapic *io = opaque;

	if (offset == IOREGSEL) {
		io->select = value;
	} else if (offset == IOWIN) {
		if (io->select == REG_ID)
			io->id = value & 0x0f000000;
		else if (io->select >= REG_TABLE && io->select < REG_TABLE + 2 * IOAPIC_PINS)
			entry_write(io, io->select, value);
	}
}

static const struct mmio_ops ioapic_mmio = {.read = ioapic_read, .write = ioapic_write};

static void ioapic_reset(struct device *dev)
{
	struct ioapic *io = container_of(dev, struct ioapic, base);

	io->select = 0;
	io->id = 0;
	for (int n = 0; n < IOAPIC_PINS; n++)
		io->entry[n] = ENTRY_MASKED;
}

static void ioapic_destroy(struct device *dev)
{
	free(container_of(dev, struct ioapic, base));
}

static void ioapic_loaded(struct device *dev)
{
	struct ioapic *io = container_of(dev, struct ioapic, base);

	for (int n = 0; n < IOAPIC_PINS; n++)
		io->entry[n] &= ENTRY_BITS;
}

static const struct state_field ioapic_fields[] = {
	STATE_UINT(struct ioapic, select),
	STATE_UINT_MASKED(struct ioapic, id, 0x0f000000),
	STATE_UINT_MASKED(struct ioapic, lines, (1u << IOAPIC_PINS) - 1),
	STATE_ARRAY(struct ioapic, entry),
	STATE_END,
};

static const struct device_ops ioapic_ops = {
	.name = "ioapic",
	.reset = ioapic_reset,
	.destroy = ioapic_destroy,
	.fields = ioapic_fields, .size = sizeof(struct ioapic),
	.loaded = ioapic_loaded,
};

struct ioapic *ioapic_create(struct machine *m, struct lapic *lapic, struct error *err)
{
	struct ioapic *io = calloc(1, sizeof(*io));

	if (!io) {
		error_set(err, "I/O APIC: out of memory");
		return NULL;
	}
	io->base.ops = &ioapic_ops;
	io->machine = m;
	io->lapic = lapic;
	memory_add_mmio(m->memory, IOAPIC_ADDRESS, WINDOW_SIZE, &ioapic_mmio, io, WINDOW_PRIORITY,
			"ioapic");
	lapic_set_eoi(lapic, ioapic_eoi, io);
	machine_add(m, &io->base);
	return io;
}
