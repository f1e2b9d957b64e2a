/* Far jumps, calls and returns: to code segments, through call gates, to tasks.
 *
 * SDM 2A/2B (JMP, CALL, RET), 3A 5.8. The privilege rules in one place:
 *   directly:   non-conforming needs DPL = CPL and RPL <= CPL; conforming DPL <= CPL
 *   call gate:  gate DPL >= CPL and RPL; then JMP needs the target at CPL, CALL
 *               may go inward to a non-conforming one (and switches stacks)
 *   return:     outward or same level only
 */
#include "core/mmu.h"
#include "core/segment.h"
#include "core/segment_priv.h"

void code_commit(struct cpu *cpu, uint16_t selector, const struct descriptor *d, unsigned cpl,
		 uint32_t eip)
{
	desc_to_segment(d, (selector & ~3u) | cpl, &cpu->seg[CS]);
	cpu->cpl = cpl;
	cpu->eip = eip;
}

void code_commit_real(struct cpu *cpu, uint16_t selector, uint32_t eip)
{
	seg_load_real(cpu, CS, selector);
	cpu->eip = eip;
}

static void check_offset(struct cpu *cpu, uint32_t offset, uint32_t limit)
{
	if (offset > limit)
		cpu_raise(cpu, EXC_GP, 0);
}

/* A code segment named directly by a JMP or CALL. */
static void check_direct(struct cpu *cpu, uint16_t selector, const struct descriptor *d)
{
	if (desc_is_conforming(d) ? desc_dpl(d) > cpu->cpl
				  : (selector & 3u) > cpu->cpl || desc_dpl(d) != cpu->cpl)
		raise_selector(cpu, EXC_GP, selector);
	if (!desc_present(d))
		raise_selector(cpu, EXC_NP, selector);
}

/* Gate or TSS named by a JMP or CALL: is it ours to use? */
static void check_gate(struct cpu *cpu, uint16_t selector, const struct descriptor *d)
{
	if (desc_dpl(d) < cpu->cpl || desc_dpl(d) < (selector & 3u))
		raise_selector(cpu, EXC_GP, selector);
	if (!desc_present(d))
		raise_selector(cpu, EXC_NP, selector);
}

/* The code segment behind a call gate. @inward: a more privileged one is fine (CALL). */
static uint16_t gate_target(struct cpu *cpu, const struct descriptor *gate, bool inward,
			    struct descriptor *d)
{
	uint16_t selector = gate->lo >> 16;

	if (selector_null(selector))
		raise_selector(cpu, EXC_GP, 0);
	desc_fetch_or(cpu, selector, d, EXC_GP);
	if (!desc_is_code(d) || desc_dpl(d) > cpu->cpl ||
	    (!inward && !desc_is_conforming(d) && desc_dpl(d) != cpu->cpl))
		raise_selector(cpu, EXC_GP, selector);
	if (!desc_present(d))
		raise_selector(cpu, EXC_NP, selector);
	return selector;
}

static uint32_t gate_offset(const struct descriptor *gate)
{
	uint32_t offset = gate->lo & 0xffff;

	return desc_type(gate) & SYS_32BIT ? offset | (gate->hi & 0xffff0000u) : offset;
}

/* System descriptors that JMP and CALL treat alike. Returns false for a call gate. */
static bool transfer_to_task(struct cpu *cpu, uint16_t selector, const struct descriptor *d,
			     enum task_source source, uint32_t next_eip)
{
	switch (desc_type(d)) {
	case SYS_CALL16:
	case SYS_CALL32:
		check_gate(cpu, selector, d);
		return false;
	case SYS_TASK_GATE:
		check_gate(cpu, selector, d);
		task_switch(cpu, d->lo >> 16, source, false, 0, next_eip);
		return true;
	case SYS_TSS16:
	case SYS_TSS32:
		check_gate(cpu, selector, d);
		task_switch(cpu, selector, source, false, 0, next_eip);
		return true;
	default:
		raise_selector(cpu, EXC_GP, selector);
	}
}

/**
 * far_jump - JMP ptr16:16, ptr16:32, m16:16, m16:32
 * @next_eip: of the instruction after it, which a task switch saves
 */
void far_jump(struct cpu *cpu, uint16_t selector, uint32_t offset, unsigned opsize,
	      uint32_t next_eip)
{
	struct descriptor d, gate;

	if (opsize == 2)
		offset &= 0xffff;
	if (!cpu_protected(cpu)) {
		check_offset(cpu, offset, cpu_v86(cpu) ? 0xffff : cpu->seg[CS].limit);
		code_commit_real(cpu, selector, offset);
		return;
	}
	if (selector_null(selector))
		raise_selector(cpu, EXC_GP, 0);
	desc_fetch_or(cpu, selector, &d, EXC_GP);
	if (desc_is_system(&d)) {
		if (transfer_to_task(cpu, selector, &d, TASK_JMP, next_eip))
			return;
		gate = d;
		selector = gate_target(cpu, &gate, false, &d);
		offset = gate_offset(&gate);
	} else if (desc_is_code(&d)) {
		check_direct(cpu, selector, &d);
	} else {
		raise_selector(cpu, EXC_GP, selector);
	}
	check_offset(cpu, offset, desc_limit(&d));
	desc_mark_accessed(cpu, &d);
	code_commit(cpu, selector, &d, cpu->cpl, offset);
}

/* Copy @count parameters of @size bytes from the old stack to the new one. */
static void copy_parameters(struct cpu *cpu, struct stack *to, unsigned count, unsigned size)
{
	uint32_t values[31];
	struct stack from;

	stack_of_cpu(cpu, &from);
	for (unsigned i = 0; i < count; i++)
		values[i] = stack_pop(cpu, &from, size);
	while (count-- > 0)
		stack_push(cpu, to, values[count], size);
}

static void call_gate(struct cpu *cpu, const struct descriptor *gate, uint32_t next_eip)
{
	unsigned size = desc_type(gate) & SYS_32BIT ? 4 : 2;
	uint32_t offset = gate_offset(gate);
	unsigned cpl = cpu->cpl;
	struct descriptor d;
	struct stack st;
	uint16_t selector = gate_target(cpu, gate, true, &d);

	if (!desc_is_conforming(&d) && desc_dpl(&d) < cpl) {
		cpl = desc_dpl(&d);
		stack_inner(cpu, cpl, &st);
		check_offset(cpu, offset, desc_limit(&d));
		stack_push(cpu, &st, cpu->seg[SS].selector, size);
		stack_push(cpu, &st, cpu->gpr[ESP], size);
		copy_parameters(cpu, &st, gate->hi & 31, size);
	} else {
		stack_of_cpu(cpu, &st);
		check_offset(cpu, offset, desc_limit(&d));
	}
	stack_push(cpu, &st, cpu->seg[CS].selector, size);
	stack_push(cpu, &st, next_eip, size);
	desc_mark_accessed(cpu, &d);
	stack_commit(cpu, &st);
	code_commit(cpu, selector, &d, cpl, offset);
}

/** far_call - CALL ptr16:16, ptr16:32, m16:16, m16:32; pushes CS and @next_eip */
void far_call(struct cpu *cpu, uint16_t selector, uint32_t offset, unsigned opsize,
	      uint32_t next_eip)
{
	struct descriptor d;
	struct stack st;

	if (opsize == 2)
		offset &= 0xffff;
	stack_of_cpu(cpu, &st);
	if (!cpu_protected(cpu)) {
		check_offset(cpu, offset, cpu_v86(cpu) ? 0xffff : cpu->seg[CS].limit);
		stack_push(cpu, &st, cpu->seg[CS].selector, opsize);
		stack_push(cpu, &st, next_eip, opsize);
		stack_commit(cpu, &st);
		code_commit_real(cpu, selector, offset);
		return;
	}
	if (selector_null(selector))
		raise_selector(cpu, EXC_GP, 0);
	desc_fetch_or(cpu, selector, &d, EXC_GP);
	if (desc_is_system(&d)) {
		if (!transfer_to_task(cpu, selector, &d, TASK_CALL, next_eip))
			call_gate(cpu, &d, next_eip);
		return;
	}
	if (!desc_is_code(&d))
		raise_selector(cpu, EXC_GP, selector);
	check_direct(cpu, selector, &d);
	/* the stack before the target's limit, as the SDM's pseudocode has it */
	stack_push(cpu, &st, cpu->seg[CS].selector, opsize);
	stack_push(cpu, &st, next_eip, opsize);
	check_offset(cpu, offset, desc_limit(&d));
	desc_mark_accessed(cpu, &d);
	stack_commit(cpu, &st);
	code_commit(cpu, selector, &d, cpu->cpl, offset);
}

/* After a return to an outer level, data segments it may not use are nulled,
 * or the inner level's data would stay readable through them. */
static void drop_inner_segments(struct cpu *cpu)
{
	static const uint8_t data[] = { ES, DS, FS, GS };

	for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
		struct segment *s = &cpu->seg[data[i]];
		bool conforming = (s->attr & (SEG_CODE | SEG_C)) == (SEG_CODE | SEG_C);

		if ((s->attr & SEG_P) && !conforming &&
		    (s->attr & SEG_DPL) >> SEG_DPL_SHIFT < cpu->cpl)
			segment_set_null(s, 0);
	}
}

void far_return_through(struct cpu *cpu, struct stack *st, uint16_t selector, uint32_t eip,
			unsigned opsize, uint16_t pop_bytes)
{
	unsigned rpl = selector & 3;
	struct descriptor d;
	struct stack outer;

	if (selector_null(selector))
		raise_selector(cpu, EXC_GP, 0);
	desc_fetch_or(cpu, selector, &d, EXC_GP);
	if (rpl < cpu->cpl || !desc_is_code(&d) ||
	    (desc_is_conforming(&d) ? desc_dpl(&d) > rpl : desc_dpl(&d) != rpl))
		raise_selector(cpu, EXC_GP, selector);
	if (!desc_present(&d))
		raise_selector(cpu, EXC_NP, selector);

	stack_skip(st, pop_bytes);
	if (rpl == cpu->cpl) {
		check_offset(cpu, eip, desc_limit(&d));
		desc_mark_accessed(cpu, &d);
		stack_commit(cpu, st);
		code_commit(cpu, selector, &d, rpl, eip);
		return;
	}
	outer.esp = stack_pop(cpu, st, opsize);
	desc_check_stack(cpu, stack_pop(cpu, st, opsize), rpl, EXC_GP, &outer.ss);
	check_offset(cpu, eip, desc_limit(&d));
	desc_mark_accessed(cpu, &d);
	stack_skip(&outer, pop_bytes);
	stack_commit(cpu, &outer);
	code_commit(cpu, selector, &d, rpl, eip);
	drop_inner_segments(cpu);
}

/** far_return - RETF, RETF imm16; @pop_bytes are released from both stacks */
void far_return(struct cpu *cpu, unsigned opsize, uint16_t pop_bytes)
{
	uint16_t selector;
	struct stack st;
	uint32_t eip;

	stack_of_cpu(cpu, &st);
	eip = stack_pop(cpu, &st, opsize);
	selector = stack_pop(cpu, &st, opsize);
	if (cpu_protected(cpu)) {
		far_return_through(cpu, &st, selector, eip, opsize, pop_bytes);
		return;
	}
	check_offset(cpu, eip, cpu_v86(cpu) ? 0xffff : cpu->seg[CS].limit);
	stack_skip(&st, pop_bytes);
	stack_commit(cpu, &st);
	code_commit_real(cpu, selector, eip);
}
