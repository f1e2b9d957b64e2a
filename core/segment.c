/* Segment registers: checked access, loading, and the instructions that ask.
 *
 * SDM 3A chapters 3 and 5; 20 for real and virtual-8086 mode.
 *
 * What a segment allows is in its hidden part alone, whatever the mode. In real
 * mode a load changes only selector and base: limit and size stay from
 * protected mode ("big real mode"), and types are not checked.
 */
#include "core/segment.h"

#include "core/mmu.h"
#include "core/segment_priv.h"

/* ---- access ---- */

static void check_slow(struct cpu *cpu, unsigned seg, uint32_t offset, unsigned size, bool write)
{
	const struct segment *s = &cpu->seg[seg];
	bool ok;

	if (!(cpu->cr0 & CR0_PE))
		ok = true;
	else if (!(s->attr & SEG_P))
		ok = false;
	else if (s->attr & SEG_CODE)
		ok = !write && (s->attr & SEG_R);
	else
		ok = !write || (s->attr & SEG_W);
	if (!ok || !segment_holds(s, offset, size))
		cpu_raise(cpu, seg == SS ? EXC_SS : EXC_GP, 0);
}

uint32_t seg_linear(struct cpu *cpu, unsigned seg, uint32_t offset, unsigned size, bool write)
{
	const struct segment *s = &cpu->seg[seg];
	uint32_t linear = s->base + offset;

	/* Flat, present, writable, expanding up: nothing can be wrong. */
	if (unlikely(s->limit != UINT32_MAX ||
		     (s->attr & (SEG_P | SEG_CODE | SEG_E | SEG_W)) != (SEG_P | SEG_W)))
		check_slow(cpu, seg, offset, size, write);
	if (unlikely(cpu->dr[7] & DR7_ENABLES))
		cpu->debug_hits |= debug_hits_data(cpu, linear, size, write);
	return linear;
}

static bool misaligned(const struct cpu *cpu, uint32_t linear, unsigned size)
{
	return unlikely((cpu->eflags & FLAG_AC) && (cpu->cr0 & CR0_AM) && cpu->cpl == 3) &&
	       (linear & (size - 1)) && (size & (size - 1)) == 0;
}

uint64_t seg_read(struct cpu *cpu, unsigned seg, uint32_t offset, unsigned size)
{
	uint32_t linear = seg_linear(cpu, seg, offset, size, false);
	uint64_t value = mmu_read(cpu, linear, size, mmu_user(cpu));

	/* A page fault comes before an alignment check (SDM 3A table 6-2). */
	if (misaligned(cpu, linear, size))
		cpu_raise(cpu, EXC_AC, 0);
	return value;
}

void seg_write(struct cpu *cpu, unsigned seg, uint32_t offset, uint64_t value, unsigned size)
{
	uint32_t linear = seg_linear(cpu, seg, offset, size, true);

	if (misaligned(cpu, linear, size)) {
		mmu_probe_write(cpu, linear, size, mmu_user(cpu));
		cpu_raise(cpu, EXC_AC, 0);
	}
	mmu_write(cpu, linear, value, size, mmu_user(cpu));
}

/* ---- loading ---- */

void seg_load_real(struct cpu *cpu, unsigned seg, uint16_t selector)
{
	struct segment *s = &cpu->seg[seg];

	if (cpu_v86(cpu)) {
		s->limit = 0xffff;
		s->attr = SEG_ATTR_V86;
	} else {
		/* A null segment left over from protected mode has no limit worth keeping. */
		if (!(s->attr & SEG_P)) {
			s->limit = 0xffff;
			s->attr = 0;
		}
		s->attr = (s->attr & ~0xff) | SEG_ATTR_REAL;
	}
	s->selector = selector;
	s->base = (uint32_t)selector << 4;
}

static void load_data(struct cpu *cpu, unsigned seg, uint16_t selector)
{
	struct descriptor d;

	if (selector_null(selector)) {
		segment_set_null(&cpu->seg[seg], selector);
		return;
	}
	desc_fetch_or(cpu, selector, &d, EXC_GP);
	if (desc_is_system(&d) || (desc_type(&d) & (SEG_CODE | SEG_R)) == SEG_CODE)
		raise_selector(cpu, EXC_GP, selector);
	if (!desc_is_conforming(&d) &&
	    ((selector & 3u) > desc_dpl(&d) || cpu->cpl > desc_dpl(&d)))
		raise_selector(cpu, EXC_GP, selector);
	if (!desc_present(&d))
		raise_selector(cpu, EXC_NP, selector);
	desc_mark_accessed(cpu, &d);
	desc_to_segment(&d, selector, &cpu->seg[seg]);
}

void seg_load(struct cpu *cpu, unsigned seg, uint16_t selector)
{
	struct segment ss;

	if (!cpu_protected(cpu)) {
		seg_load_real(cpu, seg, selector);
	} else if (seg == SS) {
		desc_check_stack(cpu, selector, cpu->cpl, EXC_GP, &ss);
		cpu->seg[SS] = ss;
	} else {
		load_data(cpu, seg, selector);
	}
}

void seg_load_ldtr(struct cpu *cpu, uint16_t selector)
{
	struct descriptor d;

	if (selector_null(selector)) {
		segment_set_null(&cpu->ldtr, selector);
		return;
	}
	if (selector & 4)
		raise_selector(cpu, EXC_GP, selector);
	desc_fetch_or(cpu, selector, &d, EXC_GP);
	if (!desc_is_system(&d) || desc_type(&d) != SYS_LDT)
		raise_selector(cpu, EXC_GP, selector);
	if (!desc_present(&d))
		raise_selector(cpu, EXC_NP, selector);
	desc_to_segment(&d, selector, &cpu->ldtr);
}

void seg_load_tr(struct cpu *cpu, uint16_t selector)
{
	struct descriptor d;

	if (selector_null(selector))
		raise_selector(cpu, EXC_GP, 0);
	if (selector & 4)
		raise_selector(cpu, EXC_GP, selector);
	desc_fetch_or(cpu, selector, &d, EXC_GP);
	if (!desc_is_system(&d) || (desc_type(&d) != SYS_TSS16 && desc_type(&d) != SYS_TSS32))
		raise_selector(cpu, EXC_GP, selector);
	if (!desc_present(&d))
		raise_selector(cpu, EXC_NP, selector);
	desc_set_busy(cpu, &d, true);
	desc_to_segment(&d, selector, &cpu->tr);
}

/* ---- LAR, LSL, VERR, VERW ---- */

/* Could a program at this level, with this RPL, use the segment? */
static bool visible(const struct cpu *cpu, uint16_t selector, const struct descriptor *d)
{
	return desc_is_conforming(d) ||
	       (cpu->cpl <= desc_dpl(d) && (selector & 3u) <= desc_dpl(d));
}

/* @system_types: bit n set if system type n counts. */
static bool inspect(struct cpu *cpu, uint16_t selector, unsigned system_types, struct descriptor *d)
{
	if (selector_null(selector) || !desc_fetch(cpu, selector, d))
		return false;
	if (desc_is_system(d) && !(system_types >> desc_type(d) & 1))
		return false;
	return visible(cpu, selector, d);
}

bool desc_lar(struct cpu *cpu, uint16_t selector, uint32_t *rights)
{
	struct descriptor d;

	if (!inspect(cpu, selector,
		     1 << SYS_TSS16 | 1 << SYS_LDT | 1 << SYS_TSS16_BUSY | 1 << SYS_CALL16 |
			     1 << SYS_TASK_GATE | 1 << SYS_TSS32 | 1 << SYS_TSS32_BUSY |
			     1 << SYS_CALL32, &d))
		return false;
	*rights = d.hi & 0x00ffff00; /* CPUs keep limit bits 16-19, which the SDM leaves open */
	return true;
}

bool desc_lsl(struct cpu *cpu, uint16_t selector, uint32_t *limit)
{
	struct descriptor d;

	if (!inspect(cpu, selector,
		     1 << SYS_TSS16 | 1 << SYS_LDT | 1 << SYS_TSS16_BUSY | 1 << SYS_TSS32 |
			     1 << SYS_TSS32_BUSY, &d))
		return false;
	*limit = desc_limit(&d);
	return true;
}

bool desc_verr(struct cpu *cpu, uint16_t selector)
{
	struct descriptor d;

	return inspect(cpu, selector, 0, &d) &&
	       (desc_type(&d) & (SEG_CODE | SEG_R)) != SEG_CODE;
}

bool desc_verw(struct cpu *cpu, uint16_t selector)
{
	struct descriptor d;

	return inspect(cpu, selector, 0, &d) && desc_is_writable_data(&d);
}
