/* Descriptors as they stand in memory, and stacks that are being built.
 *
 * SDM 3A 3.4 (descriptors), 5.8.5 and 6.12.1 (stack switching).
 */
#include "core/segment_priv.h"

#include "core/mmu.h"
#include "core/segment.h"

_Noreturn void raise_selector(struct cpu *cpu, enum exception vector, uint16_t selector)
{
	cpu_raise(cpu, vector, (selector & 0xfffcu) | cpu->event_ext);
}

bool desc_fetch(struct cpu *cpu, uint16_t selector, struct descriptor *d)
{
	uint32_t base = cpu->gdtr_base, limit = cpu->gdtr_limit;
	uint64_t raw;

	if (selector & 4) {
		if (!(cpu->ldtr.attr & SEG_P))
			return false;
		base = cpu->ldtr.base;
		limit = cpu->ldtr.limit;
	}
	if ((selector | 7u) > limit)
		return false;
	d->linear = base + (selector & ~7u);
	raw = mmu_read(cpu, d->linear, 8, 0);
	d->lo = raw;
	d->hi = raw >> 32;
	return true;
}

void desc_fetch_or(struct cpu *cpu, uint16_t selector, struct descriptor *d, enum exception vector)
{
	if (!desc_fetch(cpu, selector, d))
		raise_selector(cpu, vector, selector);
}

uint32_t desc_base(const struct descriptor *d)
{
	return d->lo >> 16 | (d->hi & 0xff) << 16 | (d->hi & 0xff000000u);
}

uint32_t desc_limit(const struct descriptor *d)
{
	uint32_t limit = (d->lo & 0xffff) | (d->hi & 0xf0000);

	return d->hi >> 23 & 1 ? limit << 12 | 0xfff : limit;
}

void desc_mark_accessed(struct cpu *cpu, struct descriptor *d)
{
	if (d->hi & SEG_A << 8)
		return;
	d->hi |= SEG_A << 8;
	mmu_write(cpu, d->linear + 5, d->hi >> 8 & 0xff, 1, 0);
}

void desc_set_busy(struct cpu *cpu, struct descriptor *d, bool busy)
{
	if (busy)
		d->hi |= SYS_TSS_BUSY_BIT << 8;
	else
		d->hi &= ~(uint32_t)(SYS_TSS_BUSY_BIT << 8);
	mmu_write(cpu, d->linear + 5, d->hi >> 8 & 0xff, 1, 0);
}

void desc_to_segment(const struct descriptor *d, uint16_t selector, struct segment *s)
{
	s->base = desc_base(d);
	s->limit = desc_limit(d);
	s->selector = selector;
	s->attr = desc_attr(d);
}

bool segment_holds(const struct segment *s, uint32_t offset, unsigned size)
{
	uint32_t last = offset + size - 1;

	if ((s->attr & (SEG_CODE | SEG_E)) == SEG_E) {
		/* Expand-down: the valid offsets are those above the limit. */
		uint32_t top = s->attr & SEG_DB ? UINT32_MAX : 0xffff;

		return offset > s->limit && last >= offset && last <= top;
	}
	/* An access that wraps is fine in a segment of 4 GiB, and only there. */
	return s->limit == UINT32_MAX || (last >= offset && last <= s->limit);
}

void desc_check_stack(struct cpu *cpu, uint16_t selector, unsigned cpl, enum exception bad,
		      struct segment *ss)
{
	struct descriptor d;

	if (selector_null(selector))
		raise_selector(cpu, bad, 0);
	desc_fetch_or(cpu, selector, &d, bad);
	if ((selector & 3u) != cpl || desc_dpl(&d) != cpl || !desc_is_writable_data(&d))
		raise_selector(cpu, bad, selector);
	if (!desc_present(&d))
		raise_selector(cpu, EXC_SS, selector);
	desc_mark_accessed(cpu, &d);
	desc_to_segment(&d, selector, ss);
}

static uint32_t stack_mask(const struct stack *st)
{
	return st->ss.attr & SEG_DB ? UINT32_MAX : 0xffff;
}

void stack_of_cpu(const struct cpu *cpu, struct stack *st)
{
	st->ss = cpu->seg[SS];
	st->esp = cpu->gpr[ESP];
	st->user = mmu_user(cpu);
	st->fault = 0;
}

void stack_skip(struct stack *st, uint32_t bytes)
{
	uint32_t mask = stack_mask(st);

	st->esp = (st->esp & ~mask) | ((st->esp + bytes) & mask);
}

static uint32_t stack_linear(struct cpu *cpu, const struct stack *st, unsigned size)
{
	uint32_t offset = st->esp & stack_mask(st), linear;

	if (!(st->ss.attr & SEG_P) || !segment_holds(&st->ss, offset, size))
		raise_selector(cpu, EXC_SS, st->fault);
	linear = st->ss.base + offset;
	if (unlikely((cpu->eflags & FLAG_AC) && (cpu->cr0 & CR0_AM) && cpu->cpl == 3 && st->user &&
		     (linear & (size - 1))))
		cpu_raise(cpu, EXC_AC, 0);
	return linear;
}

void stack_push(struct cpu *cpu, struct stack *st, uint32_t value, unsigned size)
{
	stack_skip(st, -size);
	mmu_write(cpu, stack_linear(cpu, st, size), value, size, st->user);
}

uint32_t stack_pop(struct cpu *cpu, struct stack *st, unsigned size)
{
	uint32_t value = mmu_read(cpu, stack_linear(cpu, st, size), size, st->user);

	stack_skip(st, size);
	return value;
}

void stack_inner(struct cpu *cpu, unsigned cpl, struct stack *st)
{
	bool wide = cpu->tr.attr & SYS_32BIT;
	uint32_t offset = wide ? cpl * 8 + 4 : cpl * 4 + 2;
	uint32_t base = cpu->tr.base + offset;
	uint16_t selector;

	/* ESPn and SSn; the upper half of a 32-bit SSn field is not looked at. */
	if (!(cpu->tr.attr & SEG_P) || offset + (wide ? 5 : 3) > cpu->tr.limit)
		raise_selector(cpu, EXC_TS, cpu->tr.selector);
	st->esp = mmu_read(cpu, base, wide ? 4 : 2, 0);
	selector = mmu_read(cpu, base + (wide ? 4 : 2), 2, 0);
	desc_check_stack(cpu, selector, cpl, EXC_TS, &st->ss);
	st->user = cpl == 3;
	st->fault = selector;
}

void stack_commit(struct cpu *cpu, const struct stack *st)
{
	uint32_t mask = stack_mask(st);

	/* A 16-bit stack leaves the upper half of ESP as it was, even when it
	 * replaces a 32-bit one. */
	cpu->seg[SS] = st->ss;
	cpu->gpr[ESP] = ((uint32_t)cpu->gpr[ESP] & ~mask) | (st->esp & mask);
}
