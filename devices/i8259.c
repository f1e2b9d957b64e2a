/* See i8259.h.
 *
 * Theory: each chip latches requests in IRR, holds what the CPU is serving in
 * ISR, and raises INT while an unmasked request has a higher priority than
 * everything in service. An edge-triggered request needs its line to stay high
 * until the acknowledge; if it went away, the CPU is given level 7 without an
 * ISR bit ("default IR7"). The master sees the slave's INT as a level on IR2:
 * that stands for the pulse the real slave makes at each INTA.
 *
 * Sources: Intel 8259A datasheet (231468-003); 82371SB (PIIX3) datasheet 2.5
 * for ELCR. ICW1's LTIM bit is ignored as the PIIX does.
 */
#include "devices/i8259.h"

#include <stdlib.h>

#include "core/ioport.h"
#include "core/util.h"

enum { MASTER, SLAVE, CHIPS };

enum {
	ICW1_IC4 = 1 << 0,
	ICW1_SNGL = 1 << 1,
	ICW1_SELECT = 1 << 4,
	ICW4_AEOI = 1 << 1,
	ICW4_SFNM = 1 << 4,
	OCW3_SELECT = 1 << 3,
	OCW3_RIS = 1 << 0,
	OCW3_RR = 1 << 1,
	OCW3_POLL = 1 << 2,
	OCW3_SMM = 1 << 5,
	OCW3_ESMM = 1 << 6,
	POLL_INTERRUPT = 1 << 7,
	CASCADE = 2,
	ELCR_MASTER = 0xf8, /* IRQ 0, 1, 2 are always edge */
	ELCR_SLAVE = 0xde,  /* IRQ 8, 13 */
};

/* OCW2 bits 7-5: R, SL, EOI. */
enum {
	OCW2_AEOI_ROTATE_CLEAR, OCW2_EOI, OCW2_NOP, OCW2_EOI_SPECIFIC,
	OCW2_AEOI_ROTATE_SET, OCW2_EOI_ROTATE, OCW2_SET_PRIORITY, OCW2_EOI_ROTATE_SPECIFIC,
};

struct chip {
	uint8_t irr, isr, imr;
	uint8_t lines;    /* input levels */
	uint8_t elcr;     /* 1: level triggered */
	uint8_t base;     /* ICW2 bits 7-3 */
	uint8_t first;    /* the input with the highest priority */
	uint8_t icw_next; /* 0: initialised; 2-4: the ICW expected next */
	uint8_t icw3;
	bool need_icw4;
	bool single;
	bool aeoi, aeoi_rotate, sfnm;
	bool special_mask;
	bool poll;     /* the next read is a poll */
	bool read_isr; /* OCW3: read ISR, not IRR */
};

struct i8259 {
	struct device base;
	struct machine *machine; /* borrowed */
	struct chip chip[CHIPS];
	bool output; /* INT as last passed on */
	struct {
		void (*set)(void *opaque, bool level);
		void *opaque;
	} out;
};

/* Inputs are looked at from the one with the highest priority on; 8: none. */
static unsigned priority(const struct chip *c, uint8_t mask)
{
	unsigned rotated = (mask >> c->first | mask << (8 - c->first)) & 0xff;

	return rotated ? (unsigned)__builtin_ctz(rotated) : 8;
}

/* The input to serve now, or -1. */
static int chip_request(const struct i8259 *pic, const struct chip *c)
{
	uint8_t serving = c->isr;
	unsigned p = priority(c, c->irr & ~c->imr);

	if (p == 8)
		return -1;
	if (c->special_mask)
		serving &= ~c->imr;
	/* Fully nested across the cascade: a second request of the slave may come
	 * while an earlier one is in service (8259A, "special fully nested mode"). */
	if (c->sfnm && c == &pic->chip[MASTER])
		serving &= ~(1 << CASCADE);
	if (p >= priority(c, serving))
		return -1;
	return (c->first + p) & 7;
}

static void update(struct i8259 *pic)
{
	struct chip *m = &pic->chip[MASTER];
	bool level;

	if (chip_request(pic, &pic->chip[SLAVE]) >= 0)
		m->irr |= 1 << CASCADE;
	else
		m->irr &= ~(1 << CASCADE);
	level = chip_request(pic, m) >= 0;
	if (level == pic->output)
		return;
	pic->output = level;
	if (pic->out.set)
		pic->out.set(pic->out.opaque, level);
}

static void chip_line(struct chip *c, uint8_t bit, bool level)
{
	if (!level) {
		c->lines &= ~bit;
		c->irr &= ~bit;
		return;
	}
	if (c->elcr & bit || !(c->lines & bit))
		c->irr |= bit;
	c->lines |= bit;
}

void i8259_set_irq(void *opaque, int n, bool level)
{
	struct i8259 *pic = opaque;
	struct chip *c;

	if (n < 0 || n > 15 || n == CASCADE)
		return;
	c = &pic->chip[n >> 3];
	if (!!(c->lines & 1 << (n & 7)) == level)
		return;
	if (trace_on(&pic->machine->trace, TRACE_IRQ))
		trace_print(&pic->machine->trace, TRACE_IRQ, "pic: IRQ %d %s", n,
			    level ? "up" : "down");
	chip_line(c, 1 << (n & 7), level);
	update(pic);
}

bool i8259_pending(const struct i8259 *pic, int n)
{
	const struct chip *c = &pic->chip[n >> 3 & 1];

	return n >= 0 && n < 16 && (c->irr & ~c->imr) >> (n & 7) & 1;
}

static void chip_acknowledge(struct chip *c, unsigned n)
{
	uint8_t bit = 1 << n;

	if (!(c->elcr & bit))
		c->irr &= ~bit;
	if (!c->aeoi)
		c->isr |= bit;
	else if (c->aeoi_rotate)
		c->first = (n + 1) & 7;
}

int i8259_acknowledge(struct i8259 *pic)
{
	struct chip *m = &pic->chip[MASTER], *s = &pic->chip[SLAVE];
	int n = chip_request(pic, m), vector;

	if (n < 0) {
		vector = m->base | 7;
	} else if (n == CASCADE) {
		int sn = chip_request(pic, s);

		chip_acknowledge(m, CASCADE);
		if (sn >= 0)
			chip_acknowledge(s, sn);
		vector = s->base | (sn < 0 ? 7 : sn);
	} else {
		chip_acknowledge(m, n);
		vector = m->base | n;
	}
	if (trace_on(&pic->machine->trace, TRACE_IRQ))
		trace_print(&pic->machine->trace, TRACE_IRQ, "pic: acknowledge, vector %02x",
			    vector);
	update(pic);
	return vector;
}

/* ---- commands ---- */

static void icw1(struct chip *c, uint8_t value)
{
	c->imr = 0;
	c->isr = 0;
	c->irr = c->lines & c->elcr; /* "the edge sense circuit is reset" */
	c->first = 0;
	c->special_mask = false;
	c->read_isr = false;
	c->poll = false;
	c->need_icw4 = value & ICW1_IC4;
	c->single = value & ICW1_SNGL;
	if (!c->need_icw4)
		c->aeoi = c->sfnm = false;
	c->aeoi_rotate = false;
	c->icw_next = 2;
}

static void icw2_to_4(struct chip *c, uint8_t value)
{
	switch (c->icw_next) {
	case 2:
		c->base = value & 0xf8;
		c->icw_next = c->single ? (c->need_icw4 ? 4 : 0) : 3;
		break;
	case 3:
		c->icw3 = value;
		c->icw_next = c->need_icw4 ? 4 : 0;
		break;
	default:
		c->aeoi = value & ICW4_AEOI;
		c->sfnm = value & ICW4_SFNM;
		c->icw_next = 0;
		break;
	}
}

/* End the service of the highest level; levels that special mask mode hides stay. */
static void eoi_highest(struct chip *c, bool rotate)
{
	uint8_t serving = c->special_mask ? c->isr & ~c->imr : c->isr;
	unsigned p = priority(c, serving), n = (c->first + p) & 7;

	if (p == 8)
		return;
	c->isr &= ~(1 << n);
	if (rotate)
		c->first = (n + 1) & 7;
}

static void ocw2(struct chip *c, uint8_t value)
{
	unsigned n = value & 7;

	switch (value >> 5) {
	case OCW2_AEOI_ROTATE_CLEAR:
		c->aeoi_rotate = false;
		break;
	case OCW2_AEOI_ROTATE_SET:
		c->aeoi_rotate = true;
		break;
	case OCW2_EOI:
		eoi_highest(c, false);
		break;
	case OCW2_EOI_ROTATE:
		eoi_highest(c, true);
		break;
	case OCW2_EOI_SPECIFIC:
		c->isr &= ~(1 << n);
		break;
	case OCW2_EOI_ROTATE_SPECIFIC:
		c->isr &= ~(1 << n);
		c->first = (n + 1) & 7;
		break;
	case OCW2_SET_PRIORITY:
		c->first = (n + 1) & 7;
		break;
	case OCW2_NOP:
		break;
	}
}

static void ocw3(struct chip *c, uint8_t value)
{
	if (value & OCW3_ESMM)
		c->special_mask = value & OCW3_SMM;
	if (value & OCW3_POLL)
		c->poll = true;
	else if (value & OCW3_RR)
		c->read_isr = value & OCW3_RIS;
}

/* ---- ports ---- */

static void pic_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct i8259 *pic = opaque;
	struct chip *c = &pic->chip[port & 0x80 ? SLAVE : MASTER];

	if (port & 1) {
		if (c->icw_next)
			icw2_to_4(c, value);
		else
			c->imr = value;
	} else if (value & ICW1_SELECT) {
		icw1(c, value);
	} else if (value & OCW3_SELECT) {
		ocw3(c, value);
	} else {
		ocw2(c, value);
	}
	update(pic);
}

/* A poll is an acknowledge whose answer is the level, not the vector. */
static uint8_t poll(struct i8259 *pic, struct chip *c)
{
	int n = chip_request(pic, c);

	c->poll = false;
	if (n < 0)
		return 0;
	chip_acknowledge(c, n);
	update(pic);
	return POLL_INTERRUPT | n;
}

static uint32_t pic_read(void *opaque, uint16_t port, unsigned size)
{
	struct i8259 *pic = opaque;
	struct chip *c = &pic->chip[port & 0x80 ? SLAVE : MASTER];

	if (c->poll)
		return poll(pic, c);
	if (port & 1)
		return c->imr;
	return c->read_isr ? c->isr : c->irr;
}

static uint32_t elcr_read(void *opaque, uint16_t port, unsigned size)
{
	return ((struct i8259 *)opaque)->chip[port & 1].elcr;
}

static void elcr_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct i8259 *pic = opaque;
	struct chip *c = &pic->chip[port & 1];

	c->elcr = value & (port & 1 ? ELCR_SLAVE : ELCR_MASTER);
	c->irr |= c->lines & c->elcr;
	update(pic);
}

static const struct ioport_ops pic_ports = {.read = pic_read, .write = pic_write};
static const struct ioport_ops elcr_ports = {.read = elcr_read, .write = elcr_write};

/* ---- life ---- */

static void i8259_reset(struct device *dev)
{
	struct i8259 *pic = container_of(dev, struct i8259, base);

	for (int i = 0; i < CHIPS; i++) {
		uint8_t lines = pic->chip[i].lines;

		pic->chip[i] = (struct chip){.lines = lines, .imr = 0xff};
	}
	update(pic);
}

static void i8259_destroy(struct device *dev)
{
	free(container_of(dev, struct i8259, base));
}

static void i8259_loaded(struct device *dev)
{
	struct i8259 *pic = container_of(dev, struct i8259, base);

	update(pic);
	if (pic->out.set)
		pic->out.set(pic->out.opaque, pic->output);
}

#define CHIP_FIELDS(n) \
	STATE_UINT(struct i8259, chip[n].irr), STATE_UINT(struct i8259, chip[n].isr), \
	STATE_UINT(struct i8259, chip[n].imr), STATE_UINT(struct i8259, chip[n].lines), \
	STATE_UINT_MASKED(struct i8259, chip[n].elcr, n ? ELCR_SLAVE : ELCR_MASTER), \
	STATE_UINT_MASKED(struct i8259, chip[n].base, 0xf8), \
	STATE_UINT_MAX(struct i8259, chip[n].first, 7), \
	STATE_UINT_MAX(struct i8259, chip[n].icw_next, 4), \
	STATE_UINT(struct i8259, chip[n].icw3), \
	STATE_BOOL(struct i8259, chip[n].need_icw4), \
	STATE_BOOL(struct i8259, chip[n].single), STATE_BOOL(struct i8259, chip[n].aeoi), \
	STATE_BOOL(struct i8259, chip[n].aeoi_rotate), STATE_BOOL(struct i8259, chip[n].sfnm), \
	STATE_BOOL(struct i8259, chip[n].special_mask), STATE_BOOL(struct i8259, chip[n].poll), \
	STATE_BOOL(struct i8259, chip[n].read_isr)

static const struct state_field i8259_fields[] = {
	CHIP_FIELDS(0),
	CHIP_FIELDS(1),
	STATE_END,
};

static const struct device_ops i8259_ops = {
	.name = "i8259",
	.reset = i8259_reset,
	.destroy = i8259_destroy,
	.fields = i8259_fields, .size = sizeof(struct i8259),
	.loaded = i8259_loaded,
};

void i8259_set_output(struct i8259 *pic, void (*set)(void *opaque, bool level), void *opaque)
{
	pic->out.set = set;
	pic->out.opaque = opaque;
}

struct i8259 *i8259_create(struct machine *m, struct error *err)
{
	struct i8259 *pic = calloc(1, sizeof(*pic));

	if (!pic) {
		error_set(err, "8259: out of memory");
		return NULL;
	}
	pic->base.ops = &i8259_ops;
	pic->machine = m;
	ioport_add(m->io, 0x20, 2, &pic_ports, pic, "i8259 master");
	ioport_add(m->io, 0xa0, 2, &pic_ports, pic, "i8259 slave");
	ioport_add(m->io, 0x4d0, 2, &elcr_ports, pic, "elcr");
	machine_add(m, &pic->base);
	return pic;
}
