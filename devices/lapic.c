/* See lapic.h.
 *
 * Theory: requests wait in IRR, go to ISR when the CPU takes them, and leave
 * with EOI. One is taken while its class (vector >> 4) is above that of PPR,
 * the higher of the task's priority and of what is in service. Interrupts of
 * the 8259 pair come in at LINT0; at reset that entry is open ("virtual wire"),
 * so a machine whose APIC nobody programs works like a PC/AT.
 *
 * The timer counts at 1 GHz over the divisor; it is only armed while unmasked.
 * Periods that end while the last tick is still in IRR are owed: they follow at
 * up to twice the rate, so that a guest that counts ticks keeps the time even
 * if the host was busy; more than LAG_MAX of them are given up.
 *
 * With one CPU, INIT and STARTUP messages have nobody to go to.
 *
 * Source: Intel SDM volume 3A chapter 11 (APIC).
 */
#include "devices/lapic.h"

#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/loop.h"
#include "core/memory.h"
#include "core/util.h"

#define LAPIC_WINDOW 0xfee00000u
#define LAPIC_SIZE 0x1000u
#define LAPIC_PRIORITY 20

/* Register offsets / 16. */
enum {
	REG_ID = 0x02, REG_VERSION = 0x03, REG_TPR = 0x08, REG_APR = 0x09, REG_PPR = 0x0a,
	REG_EOI = 0x0b, REG_LDR = 0x0d, REG_DFR = 0x0e, REG_SVR = 0x0f, REG_ISR = 0x10,
	REG_TMR = 0x18, REG_IRR = 0x20, REG_ESR = 0x28, REG_ICR = 0x30, REG_ICR_HIGH = 0x31,
	REG_LVT = 0x32, REG_INITIAL = 0x38, REG_CURRENT = 0x39, REG_DIVIDE = 0x3e,
};

/* LVT entries in register order. */
enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

enum {
	VERSION = 0x14 | (LVT_COUNT - 1) << 16,
	SVR_ENABLE = 1 << 8,
	SVR_WRITABLE = 0x3ff,
	LVT_VECTOR = 0xff,
	LVT_MODE_SHIFT = 8,
	LVT_MASKED = 1 << 16,
	LVT_PERIODIC = 1 << 17,
	ICR_LOGICAL = 1 << 11,
	ICR_PENDING = 1 << 12,
	ICR_SHORTHAND_SHIFT = 18,
	ICR_WRITABLE = 0x000ccfff,
	ESR_SEND_VECTOR = 1 << 5,
	ESR_RECEIVE_VECTOR = 1 << 6,
	ESR_REGISTER = 1 << 7,
	BASE_ENABLE = 1 << 11,
	DFR_FLAT = 0xf,
};

static const uint32_t lvt_writable[LVT_COUNT] = {
	[LVT_TIMER] = 0x300ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
	[LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff,
};

#define LAG_MAX NS_PER_S
#define SPACING_MIN 20000 /* ns between timer events, so that no count starves the guest */

struct lapic {
	struct device base;
	struct machine *machine; /* borrowed */
	struct memory_region *window;
	uint32_t id;      /* bits 31-24 */
	uint32_t ldr, dfr, svr;
	uint8_t tpr;
	uint32_t irr[8], isr[8], tmr[8];
	uint32_t esr;     /* as read */
	uint32_t errors;  /* gathered until the next write of ESR */
	uint32_t icr, icr_high;
	uint32_t lvt[LVT_COUNT];
	uint32_t initial;
	uint32_t divide;
	int64_t started;  /* guest clock when `initial` was written */
	int64_t fired;    /* periods of the timer already signalled since then */
	struct timer timer;
	bool extint;      /* INT of the 8259 pair */
	bool output;      /* as last given to the CPU */
	struct {
		int (*acknowledge)(void *opaque);
		void *opaque;
	} pic;
	struct {
		void (*eoi)(void *opaque, uint8_t vector);
		void *opaque;
	} ioapic;
};

/* ---- bit sets ---- */

static bool test_bit(const uint32_t *set, uint8_t n)
{
	return set[n >> 5] >> (n & 31) & 1;
}

static void set_bit(uint32_t *set, uint8_t n)
{
	set[n >> 5] |= 1u << (n & 31);
}

static void clear_bit(uint32_t *set, uint8_t n)
{
	set[n >> 5] &= ~(1u << (n & 31));
}

static int highest(const uint32_t *set)
{
	for (int i = 7; i >= 0; i--) {
		if (set[i])
			return i * 32 + 31 - __builtin_clz(set[i]);
	}
	return -1;
}

/* ---- priority and output ---- */

static bool hardware_enabled(const struct lapic *apic)
{
	return apic->machine->cpu->apic_base & BASE_ENABLE;
}

static uint8_t ppr(const struct lapic *apic)
{
	int serving = highest(apic->isr);
	uint8_t class = serving < 0 ? 0 : serving & 0xf0;

	return apic->tpr >> 4 >= class >> 4 ? apic->tpr : class;
}

/* The vector to take now, or -1. */
static int candidate(const struct lapic *apic)
{
	int v = highest(apic->irr);

	if (v < 0 || !(apic->svr & SVR_ENABLE) || v >> 4 <= ppr(apic) >> 4)
		return -1;
	return v;
}

static unsigned lvt_mode(const struct lapic *apic, unsigned n)
{
	return apic->lvt[n] >> LVT_MODE_SHIFT & 7;
}

static bool extint_passes(const struct lapic *apic)
{
	if (!apic->extint)
		return false;
	if (!hardware_enabled(apic))
		return true;
	return !(apic->lvt[LVT_LINT0] & LVT_MASKED) && lvt_mode(apic, LVT_LINT0) == LAPIC_EXTINT;
}

static void update(struct lapic *apic)
{
	bool level = extint_passes(apic) || (hardware_enabled(apic) && candidate(apic) >= 0);

	if (level == apic->output)
		return;
	apic->output = level;
	cpu_set_intr(apic->machine->cpu, level);
}

static int acknowledge(void *opaque)
{
	struct lapic *apic = opaque;
	int v = hardware_enabled(apic) ? candidate(apic) : -1;

	if (v >= 0) {
		clear_bit(apic->irr, v);
		set_bit(apic->isr, v);
	} else if (extint_passes(apic) && apic->pic.acknowledge) {
		v = apic->pic.acknowledge(apic->pic.opaque);
	}
	if (trace_on(&apic->machine->trace, TRACE_IRQ))
		trace_print(&apic->machine->trace, TRACE_IRQ, "lapic: acknowledge, vector %02x", v);
	update(apic);
	return v;
}

/* ---- requests ---- */

static void error(struct lapic *apic, uint32_t bit);

static void request(struct lapic *apic, uint8_t vector, bool level)
{
	if (vector < 16) {
		error(apic, ESR_RECEIVE_VECTOR);
		return;
	}
	if (!(apic->svr & SVR_ENABLE))
		return;
	set_bit(apic->irr, vector);
	if (level)
		set_bit(apic->tmr, vector);
	else
		clear_bit(apic->tmr, vector);
	update(apic);
}

static void lvt_signal(struct lapic *apic, unsigned n)
{
	if (apic->lvt[n] & LVT_MASKED)
		return;
	lapic_deliver(apic, n == LVT_TIMER || n == LVT_ERROR ? LAPIC_FIXED : lvt_mode(apic, n),
		      apic->lvt[n] & LVT_VECTOR, false);
}

static void error(struct lapic *apic, uint32_t bit)
{
	bool vector_ok = (apic->lvt[LVT_ERROR] & LVT_VECTOR) >= 16;

	apic->errors |= bit;
	if (vector_ok) /* else this would be an error again, and for ever */
		lvt_signal(apic, LVT_ERROR);
}

void lapic_deliver(struct lapic *apic, unsigned mode, uint8_t vector, bool level)
{
	switch (mode) {
	case LAPIC_FIXED:
	case LAPIC_LOWEST:
		request(apic, vector, level);
		break;
	case LAPIC_NMI:
		cpu_raise_nmi(apic->machine->cpu);
		break;
	default: /* SMI, INIT, STARTUP, ExtINT: nothing there to act on them */
		break;
	}
}

bool lapic_requested(const struct lapic *apic, uint8_t vector)
{
	return test_bit(apic->irr, vector);
}

bool lapic_accepts(const struct lapic *apic, uint8_t dest, bool logical)
{
	uint8_t ldr = apic->ldr >> 24;

	if (!hardware_enabled(apic))
		return false;
	if (dest == 0xff)
		return true;
	if (!logical)
		return dest == apic->id >> 24;
	if (apic->dfr >> 28 == DFR_FLAT)
		return dest & ldr;
	return dest >> 4 == ldr >> 4 && (dest & ldr & 0xf);
}

void lapic_set_extint(void *opaque, bool level)
{
	struct lapic *apic = opaque;
	bool rose = level && !apic->extint;

	apic->extint = level;
	if (rose && hardware_enabled(apic) && lvt_mode(apic, LVT_LINT0) != LAPIC_EXTINT)
		lvt_signal(apic, LVT_LINT0);
	update(apic);
}

static void base_changed(struct lapic *apic)
{
	uint64_t base = apic->machine->cpu->apic_base;

	memory_begin(apic->machine->memory);
	memory_move(apic->machine->memory, apic->window, base & 0xffffff000ull);
	memory_enable(apic->machine->memory, apic->window, base & BASE_ENABLE);
	memory_commit(apic->machine->memory);
	update(apic);
}

static void base_written(struct device *dev)
{
	base_changed(container_of(dev, struct lapic, base));
}

/* ---- timer ---- */

static int64_t tick_ns(const struct lapic *apic)
{
	unsigned code = (apic->divide & 3) | (apic->divide >> 1 & 4);

	return 1ll << ((code + 1) & 7);
}

static int64_t timer_elapsed(const struct lapic *apic)
{
	return MAX(loop_now(apic->machine->loop) - apic->started, 0) / tick_ns(apic);
}

static uint32_t current_count(const struct lapic *apic)
{
	int64_t ticks;

	if (!apic->initial)
		return 0;
	ticks = timer_elapsed(apic);
	if (apic->lvt[LVT_TIMER] & LVT_PERIODIC)
		return apic->initial - ticks % apic->initial;
	return ticks >= apic->initial ? 0 : apic->initial - ticks;
}

static int64_t periods_over(const struct lapic *apic)
{
	return apic->initial ? timer_elapsed(apic) / apic->initial : 0;
}

/* @earliest: guest clock before which the next tick shall not come. */
static void timer_set(struct lapic *apic, int64_t earliest)
{
	bool once = !(apic->lvt[LVT_TIMER] & LVT_PERIODIC);
	int64_t period = apic->initial * tick_ns(apic), at;

	if (!apic->initial || apic->lvt[LVT_TIMER] & LVT_MASKED || (once && apic->fired)) {
		timer_disarm(&apic->timer);
		return;
	}
	at = apic->started + (apic->fired + 1) * period;
	timer_arm(&apic->timer, MAX(at, earliest));
}

static void timer_fire(void *opaque)
{
	struct lapic *apic = opaque;
	int64_t now = loop_now(apic->machine->loop), over = periods_over(apic);
	int64_t period = apic->initial * tick_ns(apic), spacing = period;

	if (over <= apic->fired) {
		timer_set(apic, 0);
		return;
	}
	if (!lapic_requested(apic, apic->lvt[LVT_TIMER] & LVT_VECTOR)) {
		apic->fired++;
		spacing = period / 2;
		lvt_signal(apic, LVT_TIMER);
	}
	if (over - apic->fired > LAG_MAX / period + 1)
		apic->fired = over;
	timer_set(apic, now + MAX(spacing, SPACING_MIN));
}

/* ---- registers ---- */

static void command(struct lapic *apic)
{
	unsigned shorthand = apic->icr >> ICR_SHORTHAND_SHIFT & 3;
	unsigned mode = apic->icr >> LVT_MODE_SHIFT & 7;
	uint8_t vector = apic->icr & LVT_VECTOR;
	bool here = shorthand == 1 || shorthand == 2 ||
		    (!shorthand &&
		     lapic_accepts(apic, apic->icr_high >> 24, apic->icr & ICR_LOGICAL));

	if (mode <= LAPIC_LOWEST && vector < 16)
		error(apic, ESR_SEND_VECTOR);
	else if (here)
		lapic_deliver(apic, mode, vector, false);
}

static void end_of_interrupt(struct lapic *apic)
{
	int v = highest(apic->isr);

	if (v < 0)
		return;
	clear_bit(apic->isr, v);
	if (test_bit(apic->tmr, v) && apic->ioapic.eoi)
		apic->ioapic.eoi(apic->ioapic.opaque, v);
	update(apic);
}

static void lvt_write(struct lapic *apic, unsigned n, uint32_t value)
{
	value &= lvt_writable[n];
	if (!(apic->svr & SVR_ENABLE))
		value |= LVT_MASKED;
	if (n == LVT_TIMER) {
		bool changed = (value ^ apic->lvt[n]) & (LVT_PERIODIC | LVT_MASKED);

		apic->lvt[n] = value;
		if (!changed)
			return;
		if (value & LVT_PERIODIC)
			apic->fired = periods_over(apic);
		timer_set(apic, 0);
		return;
	}
	apic->lvt[n] = value;
	update(apic);
}

static void svr_write(struct lapic *apic, uint32_t value)
{
	apic->svr = value & SVR_WRITABLE;
	if (!(value & SVR_ENABLE)) {
		for (int i = 0; i < LVT_COUNT; i++)
			apic->lvt[i] |= LVT_MASKED;
		timer_set(apic, 0);
	}
	update(apic);
}

static void reg_write(struct lapic *apic, unsigned reg, uint32_t value)
{
	switch (reg) {
	case REG_ID:
		apic->id = value & 0xff000000;
		break;
	case REG_TPR:
		apic->tpr = value;
		update(apic);
		break;
	case REG_EOI:
		end_of_interrupt(apic);
		break;
	case REG_LDR:
		apic->ldr = value & 0xff000000;
		break;
	case REG_DFR:
		apic->dfr = value | 0x0fffffff;
		break;
	case REG_SVR:
		svr_write(apic, value);
		break;
	case REG_ESR:
		apic->esr = apic->errors;
		apic->errors = 0;
		break;
	case REG_ICR:
		apic->icr = value & ICR_WRITABLE & ~ICR_PENDING;
		command(apic);
		break;
	case REG_ICR_HIGH:
		apic->icr_high = value & 0xff000000;
		break;
	case REG_LVT ... REG_LVT + LVT_COUNT - 1:
		lvt_write(apic, reg - REG_LVT, value);
		break;
	case REG_INITIAL:
		apic->initial = value;
		apic->started = loop_now(apic->machine->loop);
		apic->fired = 0;
		timer_set(apic, 0);
		break;
	case REG_DIVIDE:
		apic->divide = value & 0xb;
		apic->fired = periods_over(apic);
		timer_set(apic, 0);
		break;
	case REG_VERSION:
	case REG_APR:
	case REG_PPR:
	case REG_CURRENT:
	case REG_ISR ... REG_IRR + 7: /* ISR, TMR, IRR */
		break; /* read-only */
	default:
		error(apic, ESR_REGISTER);
	}
}

static uint32_t reg_read(struct lapic *apic, unsigned reg)
{
	switch (reg) {
	case REG_ID:
		return apic->id;
	case REG_VERSION:
		return VERSION;
	case REG_TPR:
		return apic->tpr;
	case REG_APR:
	case REG_EOI:
		return 0;
	case REG_PPR:
		return ppr(apic);
	case REG_LDR:
		return apic->ldr;
	case REG_DFR:
		return apic->dfr;
	case REG_SVR:
		return apic->svr;
	case REG_ISR ... REG_ISR + 7:
		return apic->isr[reg - REG_ISR];
	case REG_TMR ... REG_TMR + 7:
		return apic->tmr[reg - REG_TMR];
	case REG_IRR ... REG_IRR + 7:
		return apic->irr[reg - REG_IRR];
	case REG_ESR:
		return apic->esr;
	case REG_ICR:
		return apic->icr;
	case REG_ICR_HIGH:
		return apic->icr_high;
	case REG_LVT ... REG_LVT + LVT_COUNT - 1:
		return apic->lvt[reg - REG_LVT];
	case REG_INITIAL:
		return apic->initial;
	case REG_CURRENT:
		return current_count(apic);
	case REG_DIVIDE:
		return apic->divide;
	default:
		error(apic, ESR_REGISTER);
		return 0;
	}
}

/* Registers are 32 bits wide at multiples of 16; anything else is undefined,
 * here: it reads as part of the register and is not written. */
static uint64_t lapic_read(void *opaque, uint64_t offset, unsigned size)
{
	if (offset & 12)
		return 0;
	return reg_read(opaque, offset >> 4) >> (offset & 3) * 8;
}

static void lapic_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	if (!(offset & 15))
		reg_write(opaque, offset >> 4, value);
}

static const struct mmio_ops lapic_mmio = {.read = lapic_read, .write = lapic_write};

/* ---- life ---- */

static void lapic_reset(struct device *dev)
{
	struct lapic *apic = container_of(dev, struct lapic, base);

	apic->id = 0;
	apic->ldr = 0;
	apic->dfr = UINT32_MAX;
	apic->svr = 0xff;
	apic->tpr = 0;
	memset(apic->irr, 0, sizeof(apic->irr));
	memset(apic->isr, 0, sizeof(apic->isr));
	memset(apic->tmr, 0, sizeof(apic->tmr));
	apic->esr = apic->errors = 0;
	apic->icr = apic->icr_high = 0;
	for (int i = 0; i < LVT_COUNT; i++)
		apic->lvt[i] = LVT_MASKED;
	apic->lvt[LVT_LINT0] = LAPIC_EXTINT << LVT_MODE_SHIFT;
	apic->initial = 0;
	apic->divide = 0;
	apic->started = apic->fired = 0;
	timer_disarm(&apic->timer);
	base_changed(apic);
}

static void lapic_destroy(struct device *dev)
{
	struct lapic *apic = container_of(dev, struct lapic, base);
	struct cpu *cpu = apic->machine->cpu;

	timer_disarm(&apic->timer);
	if (cpu) {
		cpu->intr = (struct cpu_intr_source){NULL, NULL};
		cpu->lapic = NULL;
		cpu->apic_base_changed = NULL;
	}
	free(apic);
}

static void lapic_loaded(struct device *dev)
{
	struct lapic *apic = container_of(dev, struct lapic, base);

	apic->dfr |= 0x0fffffff;
	for (int i = 0; i < LVT_COUNT; i++)
		apic->lvt[i] &= lvt_writable[i];
	apic->fired = MIN(apic->fired, periods_over(apic));
	base_changed(apic);
	cpu_set_intr(apic->machine->cpu, apic->output);
}

static const struct state_field lapic_fields[] = {
	STATE_UINT_MASKED(struct lapic, id, 0xff000000),
	STATE_UINT_MASKED(struct lapic, ldr, 0xff000000),
	STATE_UINT(struct lapic, dfr),
	STATE_UINT_MASKED(struct lapic, svr, SVR_WRITABLE),
	STATE_UINT(struct lapic, tpr),
	STATE_ARRAY(struct lapic, irr),
	STATE_ARRAY(struct lapic, isr),
	STATE_ARRAY(struct lapic, tmr),
	STATE_UINT_MASKED(struct lapic, esr, 0xff),
	STATE_UINT_MASKED(struct lapic, errors, 0xff),
	STATE_UINT_MASKED(struct lapic, icr, ICR_WRITABLE),
	STATE_UINT_MASKED(struct lapic, icr_high, 0xff000000),
	STATE_ARRAY(struct lapic, lvt),
	STATE_UINT(struct lapic, initial),
	STATE_UINT_MASKED(struct lapic, divide, 0xb),
	STATE_UINT_MAX(struct lapic, started, INT64_MAX / 4),
	STATE_UINT_MAX(struct lapic, fired, INT64_MAX / 4),
	STATE_TIMER(struct lapic, timer),
	STATE_BOOL(struct lapic, extint),
	STATE_END,
};

static const struct device_ops lapic_ops = {
	.name = "lapic",
	.reset = lapic_reset,
	.destroy = lapic_destroy,
	.fields = lapic_fields, .size = sizeof(struct lapic),
	.loaded = lapic_loaded,
};

void lapic_set_pic(struct lapic *apic, int (*ack)(void *opaque), void *opaque)
{
	apic->pic.acknowledge = ack;
	apic->pic.opaque = opaque;
}

void lapic_set_eoi(struct lapic *apic, void (*eoi)(void *opaque, uint8_t vector), void *opaque)
{
	apic->ioapic.eoi = eoi;
	apic->ioapic.opaque = opaque;
}

struct lapic *lapic_create(struct machine *m, struct error *err)
{
	struct lapic *apic = calloc(1, sizeof(*apic));

	if (!apic) {
		error_set(err, "local APIC: out of memory");
		return NULL;
	}
	apic->base.ops = &lapic_ops;
	apic->machine = m;
	apic->window = memory_add_mmio(m->memory, LAPIC_WINDOW, LAPIC_SIZE, &lapic_mmio, apic,
				       LAPIC_PRIORITY, "lapic");
	if (!apic->window) {
		error_set(err, "local APIC: out of memory");
		free(apic);
		return NULL;
	}
	timer_init(&apic->timer, m->loop, "lapic", timer_fire, apic);
	m->cpu->intr = (struct cpu_intr_source){acknowledge, apic};
	m->cpu->lapic = &apic->base;
	m->cpu->apic_base_changed = base_written;
	machine_add(m, &apic->base);
	return apic;
}
