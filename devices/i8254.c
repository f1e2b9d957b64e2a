/* See i8254.h.
 *
 * Theory: nothing counts. A channel remembers the input clock tick at which its
 * count was loaded; count and output are computed from the time when someone
 * looks. Ticks are absolute (guest clock times 1193182 Hz), so nothing drifts.
 * Only channel 0 has events: the rising edges of its output.
 *
 * Edges that come while the previous one is still unacknowledged are owed: they
 * follow at up to twice the rate, unless the guest is more than LAG_MAX behind.
 *
 * A count written in modes 2 and 3 takes effect at the end of the period.
 *
 * Source: Intel 8254 datasheet (231164-005); PIIX3 datasheet 2.9 for port 0x61.
 */
#include "devices/i8254.h"

#include <stdlib.h>

#include "core/ioport.h"
#include "core/loop.h"
#include "core/util.h"

enum { CHANNELS = 3, CONTROL = 3 };
enum { RW_LATCH, RW_LOW, RW_HIGH, RW_BOTH };
enum { MODE_TERMINAL, MODE_ONESHOT, MODE_RATE, MODE_SQUARE, MODE_STROBE, MODE_HW_STROBE };

enum {
	READ_BACK = 3,           /* channel field of the control word */
	READ_BACK_NO_COUNT = 1 << 5,
	READ_BACK_NO_STATUS = 1 << 4,
	STATUS_OUT = 1 << 7,
	STATUS_NULL = 1 << 6,
};

enum {
	P61_GATE2 = 1 << 0,
	P61_SPEAKER = 1 << 1,
	P61_WRITABLE = 0x0f,
	P61_REFRESH = 1 << 4, /* toggles with each memory refresh */
	P61_OUT2 = 1 << 5,
	REFRESH_NS = 15085,
};

#define LAG_MAX PIT_HZ /* ticks: one second */
#define SPACING_MIN 24       /* ticks: 20 us, so that no count can keep the CPU from the guest */

struct channel {
	uint8_t mode;    /* 0-5 */
	uint8_t rw;      /* RW_LOW, RW_HIGH, RW_BOTH */
	bool bcd;
	bool gate;
	bool loaded;     /* a count was written since the control word */
	bool triggered;  /* modes 1 and 5: the gate rose since */
	bool null_count; /* the count written is not in the counting element yet */
	bool second;     /* RW_BOTH: the low byte was written, in `low` */
	bool second_read;
	uint8_t low;
	uint8_t latched;  /* bytes of `latch` still to be read, low first */
	bool latch_high;  /* the next of them is the high byte */
	uint16_t latch;
	bool status_latched;
	uint8_t status;
	uint32_t count;   /* ticks, 1 to 65536 */
	uint32_t next;    /* modes 2 and 3: count from the next period on; 0: the same */
	int64_t start;    /* tick at which the count was loaded */
	int64_t held;     /* ticks elapsed when the gate closed; valid while it is */
};

struct i8254 {
	struct device base;
	struct machine *machine; /* borrowed */
	struct irq_line irq0;
	struct channel ch[CHANNELS];
	uint8_t port61;
	struct timer timer;
	int64_t edge; /* tick of the next rising edge of channel 0 */
	struct {
		bool (*pending)(void *opaque);
		void *opaque;
	} tick;
};

static int64_t ticks_now(const struct i8254 *pit)
{
	return (int64_t)((__int128)loop_now(pit->machine->loop) * PIT_HZ / NS_PER_S);
}

static int64_t ticks_to_ns(int64_t ticks)
{
	return (int64_t)(((__int128)ticks * NS_PER_S + PIT_HZ - 1) / PIT_HZ);
}

static bool periodic(const struct channel *c)
{
	return c->mode == MODE_RATE || c->mode == MODE_SQUARE;
}

static bool needs_trigger(const struct channel *c)
{
	return c->mode == MODE_ONESHOT || c->mode == MODE_HW_STROBE;
}

static bool running(const struct channel *c)
{
	return c->loaded && (!needs_trigger(c) || c->triggered);
}

/* ---- what a channel shows at a time ---- */

/* Ticks since the count was loaded; takes over a new count when its time has come. */
static int64_t elapsed(struct channel *c, int64_t now)
{
	int64_t e = now - c->start;

	if (!c->gate && !needs_trigger(c))
		return c->held;
	if (e >= 0)
		c->null_count = c->next != 0;
	if (periodic(c) && c->next && e >= c->count) {
		c->start += c->count;
		c->count = c->next;
		c->next = 0;
		c->null_count = false;
		e = now - c->start;
	}
	return MAX(e, 0);
}

static bool output(struct channel *c, int64_t now)
{
	int64_t e;

	if (!running(c))
		return c->mode != MODE_TERMINAL;
	e = elapsed(c, now);
	switch (c->mode) {
	case MODE_TERMINAL:
		return e >= c->count;
	case MODE_ONESHOT:
		return e >= c->count;
	case MODE_RATE:
		return !c->gate || e % c->count != c->count - 1;
	case MODE_SQUARE:
		return !c->gate || e % c->count < (c->count + 1) / 2;
	default:
		return e != c->count;
	}
}

static uint16_t to_bcd(uint32_t v)
{
	return v % 10 | (v / 10 % 10) << 4 | (v / 100 % 10) << 8 | (v / 1000 % 10) << 12;
}

static uint32_t from_bcd(uint16_t v)
{
	return (v & 15) + (v >> 4 & 15) * 10 + (v >> 8 & 15) * 100 + (v >> 12) * 1000;
}

static uint16_t counter(struct channel *c, int64_t now)
{
	uint32_t wrap = c->bcd ? 10000 : 65536, v = 0;

	if (c->loaded) {
		int64_t e = running(c) ? elapsed(c, now) : 0;

		if (c->mode == MODE_RATE) {
			v = c->count - e % c->count;
		} else if (c->mode == MODE_SQUARE) {
			uint32_t phase = e % c->count, half = (c->count + 1) / 2;

			v = (c->count & ~1u) - 2 * (phase < half ? phase : phase - half);
		} else {
			v = (c->count % wrap + wrap - e % wrap) % wrap;
		}
	}
	return c->bcd ? to_bcd(v % wrap) : v % wrap;
}

/* ---- channel 0's edges ---- */

/* The first rising edge at or after @from; -1: none to come. */
static int64_t next_edge(struct channel *c, int64_t from)
{
	int64_t e, period = c->count;

	if (!running(c) || !c->gate)
		return -1;
	switch (c->mode) {
	case MODE_TERMINAL:
	case MODE_ONESHOT:
		e = c->start + c->count;
		return e >= from ? e : -1;
	case MODE_RATE:
	case MODE_SQUARE:
		if (from <= c->start + period)
			return c->start + period;
		return c->start + (from - c->start + period - 1) / period * period;
	default:
		e = c->start + c->count + 1;
		return e >= from ? e : -1;
	}
}

static void arm(struct i8254 *pit, int64_t tick)
{
	if (pit->edge < 0)
		timer_disarm(&pit->timer);
	else
		timer_arm(&pit->timer, ticks_to_ns(tick));
}

static void reschedule(struct i8254 *pit)
{
	int64_t now = ticks_now(pit);

	elapsed(&pit->ch[0], now);
	pit->edge = next_edge(&pit->ch[0], now + 1);
	arm(pit, pit->edge);
}

static void pit_tick(void *opaque)
{
	struct i8254 *pit = opaque;
	struct channel *c = &pit->ch[0];
	int64_t now = ticks_now(pit), spacing;

	if (pit->edge < 0)
		return;
	if (now < pit->edge) {
		arm(pit, pit->edge);
		return;
	}
	if (!periodic(c)) {
		/* The strobe's low clock is over, or the terminal count reached. */
		if (c->mode == MODE_STROBE || c->mode == MODE_HW_STROBE)
			irq_set(&pit->irq0, false);
		irq_set(&pit->irq0, true);
		pit->edge = -1;
		return;
	}
	elapsed(c, pit->edge); /* a new count starts at this edge */
	spacing = c->count;
	if (!pit->tick.pending || !pit->tick.pending(pit->tick.opaque)) {
		irq_set(&pit->irq0, false);
		irq_set(&pit->irq0, true);
		pit->edge += c->count;
		spacing = (c->count + 1) / 2;
	}
	if (now - pit->edge > LAG_MAX)
		pit->edge = next_edge(c, now);
	arm(pit, MAX(pit->edge, now + MAX(spacing, SPACING_MIN)));
}

/* ---- loading and gating ---- */

static void load(struct i8254 *pit, struct channel *c, uint16_t value)
{
	int64_t now = ticks_now(pit);
	uint32_t count = c->bcd ? from_bcd(value) : value;

	if (!count)
		count = c->bcd ? 10000 : 65536;
	if (count == 1 && periodic(c))
		count = c->bcd ? 10001 : 65537; /* illegal: as if it missed 1 once */
	c->null_count = true;
	if (periodic(c) && c->loaded && c->gate) {
		elapsed(c, now);
		c->next = count;
		return;
	}
	c->count = count;
	c->next = 0;
	c->held = 0;
	c->start = now + 1;
	c->loaded = true;
	if (c != &pit->ch[0])
		return;
	if (c->mode == MODE_TERMINAL)
		irq_set(&pit->irq0, false);
	reschedule(pit);
}

static void set_gate(struct i8254 *pit, struct channel *c, bool gate)
{
	int64_t now = ticks_now(pit);

	if (gate == c->gate)
		return;
	if (!gate) {
		c->held = running(c) ? elapsed(c, now) : 0;
	} else if (needs_trigger(c)) {
		c->triggered = c->loaded;
		c->start = now + 1;
	} else if (periodic(c)) {
		if (c->next) {
			c->count = c->next;
			c->next = 0;
		}
		c->start = now + 1;
	} else {
		c->start = now - c->held;
	}
	c->gate = gate;
}

/* ---- ports ---- */

static void latch_count(struct i8254 *pit, struct channel *c)
{
	if (c->latched)
		return;
	c->latch = counter(c, ticks_now(pit));
	c->latched = c->rw == RW_BOTH ? 2 : 1;
	c->latch_high = c->rw == RW_HIGH;
}

static void latch_status(struct i8254 *pit, struct channel *c)
{
	int64_t now = ticks_now(pit);
	bool out;

	if (c->status_latched)
		return;
	out = output(c, now);
	c->status = (out ? STATUS_OUT : 0) | (c->null_count ? STATUS_NULL : 0) | c->rw << 4 |
		    c->mode << 1 | c->bcd;
	c->status_latched = true;
}

static void read_back(struct i8254 *pit, uint8_t value)
{
	for (int i = 0; i < CHANNELS; i++) {
		if (!(value & 2 << i))
			continue;
		if (!(value & READ_BACK_NO_COUNT))
			latch_count(pit, &pit->ch[i]);
		if (!(value & READ_BACK_NO_STATUS))
			latch_status(pit, &pit->ch[i]);
	}
}

static void control(struct i8254 *pit, uint8_t value)
{
	struct channel *c;

	if (value >> 6 == READ_BACK) {
		read_back(pit, value);
		return;
	}
	c = &pit->ch[value >> 6];
	if ((value >> 4 & 3) == RW_LATCH) {
		latch_count(pit, c);
		return;
	}
	*c = (struct channel){
		.gate = c->gate,
		.rw = value >> 4 & 3,
		.mode = value >> 1 & 7,
		.bcd = value & 1,
		.null_count = true,
		.count = 65536,
	};
	if (c->mode > MODE_HW_STROBE)
		c->mode &= 3;
	if (c != &pit->ch[0])
		return;
	pit->edge = -1;
	timer_disarm(&pit->timer);
	irq_set(&pit->irq0, c->mode != MODE_TERMINAL);
}

static void count_write(struct i8254 *pit, struct channel *c, uint8_t value)
{
	switch (c->rw) {
	case RW_LOW:
		load(pit, c, value);
		break;
	case RW_HIGH:
		load(pit, c, value << 8);
		break;
	default:
		if (c->second)
			load(pit, c, c->low | value << 8);
		else if (c->mode == MODE_TERMINAL && c->loaded) {
			/* "Writing the first byte disables counting." */
			c->loaded = false;
			if (c == &pit->ch[0]) {
				irq_set(&pit->irq0, false);
				reschedule(pit);
			}
		}
		c->low = value;
		c->second = !c->second;
		break;
	}
}

static void pit_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct i8254 *pit = opaque;

	if ((port & 3) == CONTROL)
		control(pit, value);
	else
		count_write(pit, &pit->ch[port & 3], value);
}

static uint32_t pit_read(void *opaque, uint16_t port, unsigned size)
{
	struct i8254 *pit = opaque;
	struct channel *c;
	uint16_t v;
	bool high;

	if ((port & 3) == CONTROL)
		return 0xff;
	c = &pit->ch[port & 3];
	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	if (c->latched) {
		high = c->latch_high;
		c->latched--;
		c->latch_high = true;
		return high ? c->latch >> 8 : c->latch & 0xff;
	}
	v = counter(c, ticks_now(pit));
	high = c->rw == RW_HIGH;
	if (c->rw == RW_BOTH) {
		high = c->second_read;
		c->second_read = !c->second_read;
	}
	return high ? v >> 8 : v & 0xff;
}

static uint32_t port61_read(void *opaque, uint16_t port, unsigned size)
{
	struct i8254 *pit = opaque;
	uint8_t v = pit->port61;

	if (loop_now(pit->machine->loop) / REFRESH_NS & 1)
		v |= P61_REFRESH;
	if (output(&pit->ch[2], ticks_now(pit)))
		v |= P61_OUT2;
	return v;
}

static void port61_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct i8254 *pit = opaque;

	pit->port61 = value & P61_WRITABLE;
	set_gate(pit, &pit->ch[2], value & P61_GATE2);
}

static const struct ioport_ops pit_ports = {.read = pit_read, .write = pit_write};
static const struct ioport_ops port61_ports = {.read = port61_read, .write = port61_write};

/* ---- life ---- */

static void i8254_reset(struct device *dev)
{
	struct i8254 *pit = container_of(dev, struct i8254, base);

	for (int i = 0; i < CHANNELS; i++)
		pit->ch[i] = (struct channel){.mode = MODE_SQUARE, .rw = RW_BOTH, .gate = i != 2,
					      .null_count = true, .count = 65536};
	pit->port61 = 0;
	pit->edge = -1;
	timer_disarm(&pit->timer);
	irq_set(&pit->irq0, false);
}

static void i8254_destroy(struct device *dev)
{
	struct i8254 *pit = container_of(dev, struct i8254, base);

	timer_disarm(&pit->timer);
	free(pit);
}

static void i8254_loaded(struct device *dev)
{
	struct i8254 *pit = container_of(dev, struct i8254, base);

	for (int i = 0; i < CHANNELS; i++)
		pit->ch[i].count = MAX(pit->ch[i].count, 1);
}

#define TICKS_MAX ((int64_t)((__int128)(INT64_MAX / 4) * PIT_HZ / NS_PER_S))
#define CHANNEL_FIELDS(n) \
	STATE_UINT_MAX(struct i8254, ch[n].mode, MODE_HW_STROBE), \
	STATE_UINT_MAX(struct i8254, ch[n].rw, RW_BOTH), STATE_BOOL(struct i8254, ch[n].bcd), \
	STATE_BOOL(struct i8254, ch[n].gate), STATE_BOOL(struct i8254, ch[n].loaded), \
	STATE_BOOL(struct i8254, ch[n].triggered), STATE_BOOL(struct i8254, ch[n].null_count), \
	STATE_BOOL(struct i8254, ch[n].second), STATE_BOOL(struct i8254, ch[n].second_read), \
	STATE_UINT(struct i8254, ch[n].low), STATE_UINT_MAX(struct i8254, ch[n].latched, 2), \
	STATE_BOOL(struct i8254, ch[n].latch_high), STATE_UINT(struct i8254, ch[n].latch), \
	STATE_BOOL(struct i8254, ch[n].status_latched), STATE_UINT(struct i8254, ch[n].status), \
	STATE_UINT_MAX(struct i8254, ch[n].count, 65537), \
	STATE_UINT_MAX(struct i8254, ch[n].next, 65537), \
	STATE_UINT_MAX(struct i8254, ch[n].start, TICKS_MAX), \
	STATE_UINT_MAX(struct i8254, ch[n].held, TICKS_MAX)

static const struct state_field i8254_fields[] = {
	CHANNEL_FIELDS(0),
	CHANNEL_FIELDS(1),
	CHANNEL_FIELDS(2),
	STATE_UINT_MASKED(struct i8254, port61, P61_WRITABLE),
	STATE_UINT(struct i8254, edge),
	STATE_TIMER(struct i8254, timer),
	STATE_END,
};

static bool i8254_check(const struct device *dev, const char **field)
{
	*field = "edge";
	return container_of(dev, const struct i8254, base)->edge >= -1 &&
	       container_of(dev, const struct i8254, base)->edge <= TICKS_MAX;
}

static const struct device_ops i8254_ops = {
	.name = "i8254",
	.reset = i8254_reset,
	.destroy = i8254_destroy,
	.fields = i8254_fields, .size = sizeof(struct i8254),
	.loaded = i8254_loaded,
	.check = i8254_check,
};

void i8254_set_pending(struct i8254 *pit, bool (*pending)(void *opaque), void *opaque)
{
	pit->tick.pending = pending;
	pit->tick.opaque = opaque;
}

struct i8254 *i8254_create(struct machine *m, const struct irq_line *irq0, struct error *err)
{
	struct i8254 *pit = calloc(1, sizeof(*pit));

	if (!pit) {
		error_set(err, "8254: out of memory");
		return NULL;
	}
	pit->base.ops = &i8254_ops;
	pit->machine = m;
	pit->irq0 = *irq0;
	timer_init(&pit->timer, m->loop, "i8254", pit_tick, pit);
	ioport_add(m->io, 0x40, 4, &pit_ports, pit, "i8254");
	ioport_add(m->io, 0x61, 1, &port61_ports, pit, "port 61");
	machine_add(m, &pit->base);
	return pit;
}
