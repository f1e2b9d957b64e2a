/* Interrupts and exceptions through the IVT or IDT, and the way back.
 *
 * SDM 2A/2B (INT n, IRET, SYSENTER, SYSEXIT), 3A chapter 6, 20.2 (virtual-8086).
 *
 * While an event that the program did not ask for is being delivered,
 * cpu->event_ext is 1 and becomes the EXT bit of every error code.
 */
#include "core/mmu.h"
#include "core/segment.h"
#include "core/segment_priv.h"
#include "core/trace.h"

enum {
	IDT_ERROR = 2, /* error code bit: the index is into the IDT */
	/* What IRET can change at all; IF, IOPL, VIF and VIP depend on privilege. */
	IRET_FLAGS16 = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT,
	IRET_FLAGS32 = IRET_FLAGS16 | FLAG_RF | FLAG_AC | FLAG_ID,
};

static void deliver_real(struct cpu *cpu, uint8_t vector, uint32_t return_eip)
{
	struct stack st;
	uint32_t entry;

	if (vector * 4u + 3 > cpu->idtr_limit)
		cpu_raise(cpu, EXC_GP, 0);
	entry = mmu_read(cpu, cpu->idtr_base + vector * 4u, 4, 0);
	stack_of_cpu(cpu, &st);
	stack_push(cpu, &st, cpu->eflags, 2);
	stack_push(cpu, &st, cpu->seg[CS].selector, 2);
	stack_push(cpu, &st, return_eip, 2);
	stack_commit(cpu, &st);
	code_commit_real(cpu, entry >> 16, entry & 0xffff);
	cpu->eflags &= ~(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
}

/* The program's data segments mean nothing to a protected-mode handler. */
static void push_v86_segments(struct cpu *cpu, struct stack *st, unsigned size)
{
	stack_push(cpu, st, cpu->seg[GS].selector, size);
	stack_push(cpu, st, cpu->seg[FS].selector, size);
	stack_push(cpu, st, cpu->seg[DS].selector, size);
	stack_push(cpu, st, cpu->seg[ES].selector, size);
}

static void through_gate(struct cpu *cpu, const struct descriptor *gate, bool has_error,
			 uint32_t error_code, uint32_t return_eip)
{
	unsigned size = desc_type(gate) & SYS_32BIT ? 4 : 2;
	uint32_t offset = gate->lo & 0xffff;
	uint16_t selector = gate->lo >> 16;
	unsigned cpl = cpu->cpl;
	bool v86 = cpu_v86(cpu);
	struct descriptor d;
	struct stack st;
	bool inner;

	if (size == 4)
		offset |= gate->hi & 0xffff0000u;
	if (selector_null(selector))
		raise_selector(cpu, EXC_GP, 0);
	desc_fetch_or(cpu, selector, &d, EXC_GP);
	if (!desc_is_code(&d) || desc_dpl(&d) > cpl)
		raise_selector(cpu, EXC_GP, selector);
	if (!desc_present(&d))
		raise_selector(cpu, EXC_NP, selector);
	inner = !desc_is_conforming(&d) && desc_dpl(&d) < cpl;
	/* Out of virtual-8086 mode there is only one way: to ring 0. */
	if (v86 && (!inner || desc_dpl(&d) != 0))
		raise_selector(cpu, EXC_GP, selector);

	if (inner) {
		cpl = desc_dpl(&d);
		stack_inner(cpu, cpl, &st);
	} else {
		stack_of_cpu(cpu, &st);
	}
	if (offset > desc_limit(&d))
		raise_selector(cpu, EXC_GP, 0);
	if (v86)
		push_v86_segments(cpu, &st, size);
	if (inner) {
		stack_push(cpu, &st, cpu->seg[SS].selector, size);
		stack_push(cpu, &st, cpu->gpr[ESP], size);
	}
	stack_push(cpu, &st, cpu->eflags, size);
	stack_push(cpu, &st, cpu->seg[CS].selector, size);
	stack_push(cpu, &st, return_eip, size);
	if (has_error)
		stack_push(cpu, &st, error_code, size);
	desc_mark_accessed(cpu, &d);

	cpu->eflags &= ~(FLAG_TF | FLAG_NT | FLAG_VM | FLAG_RF);
	if (desc_type(gate) == SYS_INT16 || desc_type(gate) == SYS_INT32)
		cpu->eflags &= ~FLAG_IF;
	if (v86) {
		segment_set_null(&cpu->seg[GS], 0);
		segment_set_null(&cpu->seg[FS], 0);
		segment_set_null(&cpu->seg[DS], 0);
		segment_set_null(&cpu->seg[ES], 0);
	}
	stack_commit(cpu, &st);
	code_commit(cpu, selector, &d, cpl, offset);
}

static void deliver_protected(struct cpu *cpu, uint8_t vector, bool soft, bool has_error,
			      uint32_t error_code, uint32_t return_eip)
{
	uint32_t index_error = vector * 8u | IDT_ERROR | cpu->event_ext;
	struct descriptor gate;
	uint64_t raw;

	if (vector * 8u + 7 > cpu->idtr_limit)
		cpu_raise(cpu, EXC_GP, index_error);
	gate.linear = cpu->idtr_base + vector * 8u;
	raw = mmu_read(cpu, gate.linear, 8, 0);
	gate.lo = raw;
	gate.hi = raw >> 32;
	if (!desc_is_system(&gate))
		cpu_raise(cpu, EXC_GP, index_error);
	switch (desc_type(&gate)) {
	case SYS_TASK_GATE:
	case SYS_INT16:
	case SYS_TRAP16:
	case SYS_INT32:
	case SYS_TRAP32:
		break;
	default:
		cpu_raise(cpu, EXC_GP, index_error);
	}
	if (soft && desc_dpl(&gate) < cpu->cpl)
		cpu_raise(cpu, EXC_GP, index_error);
	if (!desc_present(&gate))
		cpu_raise(cpu, EXC_NP, index_error);
	if (desc_type(&gate) == SYS_TASK_GATE)
		task_switch(cpu, gate.lo >> 16, TASK_GATE_INT, has_error, error_code, return_eip);
	else
		through_gate(cpu, &gate, has_error, error_code, return_eip);
}

void cpu_interrupt(struct cpu *cpu, uint8_t vector, bool soft, bool has_error,
		   uint32_t error_code, uint64_t return_eip)
{
	if (trace_on(cpu->trace, TRACE_INT))
		trace_print(cpu->trace, TRACE_INT,
			    "%s %02x error %s%04x at %04x:%08x cpl %u flags %08x ss:esp %04x:%08x eax %08x cr2 %08x",
			    soft ? "int" : "event", vector, has_error ? "" : "none ",
			    has_error ? error_code : 0, cpu->seg[CS].selector,
			    (uint32_t)return_eip, cpu->cpl, cpu->eflags, cpu->seg[SS].selector,
			    (uint32_t)cpu->gpr[ESP], (uint32_t)cpu->gpr[EAX], (uint32_t)cpu->cr2);
	cpu->event_ext = !soft;
	if (cpu->cr0 & CR0_PE)
		deliver_protected(cpu, vector, soft, has_error, error_code, return_eip);
	else
		deliver_real(cpu, vector, return_eip);
	cpu->event_ext = 0;
	cpu->shadow = 0;
}

/* ---- IRET ---- */

static void return_real(struct cpu *cpu, unsigned opsize)
{
	uint32_t mask = (opsize == 4 ? IRET_FLAGS32 : IRET_FLAGS16) | FLAG_IF;
	uint16_t selector;
	uint32_t eip, flags;
	struct stack st;

	stack_of_cpu(cpu, &st);
	eip = stack_pop(cpu, &st, opsize);
	selector = stack_pop(cpu, &st, opsize);
	flags = stack_pop(cpu, &st, opsize);
	if (eip > (cpu_v86(cpu) ? 0xffff : cpu->seg[CS].limit))
		cpu_raise(cpu, EXC_GP, 0);
	if (!cpu_v86(cpu))
		mask |= FLAG_IOPL;
	stack_commit(cpu, &st);
	code_commit_real(cpu, selector, eip);
	cpu_set_eflags(cpu, flags, mask);
}

static void return_to_v86(struct cpu *cpu, struct stack *st, uint16_t selector, uint32_t eip,
			  uint32_t flags)
{
	uint32_t esp = stack_pop(cpu, st, 4);
	uint16_t ss = stack_pop(cpu, st, 4);
	uint16_t es = stack_pop(cpu, st, 4);
	uint16_t ds = stack_pop(cpu, st, 4);
	uint16_t fs = stack_pop(cpu, st, 4);
	uint16_t gs = stack_pop(cpu, st, 4);

	if (eip > 0xffff)
		cpu_raise(cpu, EXC_GP, 0);
	cpu_set_eflags(cpu, flags, FLAGS_ALL);
	cpu->cpl = 3;
	code_commit_real(cpu, selector, eip);
	seg_load_real(cpu, SS, ss);
	seg_load_real(cpu, ES, es);
	seg_load_real(cpu, DS, ds);
	seg_load_real(cpu, FS, fs);
	seg_load_real(cpu, GS, gs);
	cpu->gpr[ESP] = esp;
}

/**
 * interrupt_return - IRET, IRETD
 * @next_eip: what a return to another task saves as this task's EIP
 *
 * NMIs are let in again even if it faults (SDM 3A 6.7.1).
 */
void interrupt_return(struct cpu *cpu, unsigned opsize, uint32_t next_eip)
{
	uint32_t mask = opsize == 4 ? IRET_FLAGS32 : IRET_FLAGS16;
	unsigned iopl = (cpu->eflags & FLAG_IOPL) >> 12;
	uint16_t selector;
	uint32_t eip, flags;
	struct stack st;

	cpu->nmi_blocked = 0;
	if (cpu->nmi_pending)
		cpu_kick(cpu);
	if (!cpu_protected(cpu)) {
		if (cpu_v86(cpu) && iopl < 3)
			cpu_raise(cpu, EXC_GP, 0);
		return_real(cpu, opsize);
		return;
	}
	if (cpu->eflags & FLAG_NT) {
		uint16_t link = mmu_read(cpu, cpu->tr.base, 2, 0);

		task_switch(cpu, link, TASK_IRET, false, 0, next_eip);
		return;
	}
	stack_of_cpu(cpu, &st);
	eip = stack_pop(cpu, &st, opsize);
	selector = stack_pop(cpu, &st, opsize);
	flags = stack_pop(cpu, &st, opsize);
	if (opsize == 4 && (flags & FLAG_VM) && cpu->cpl == 0) {
		return_to_v86(cpu, &st, selector, eip, flags);
		return;
	}
	/* What may change is decided by the level that executes IRET. */
	if (cpu->cpl <= iopl)
		mask |= FLAG_IF;
	if (cpu->cpl == 0) {
		mask |= FLAG_IOPL;
		if (opsize == 4)
			mask |= FLAG_VIF | FLAG_VIP;
	}
	far_return_through(cpu, &st, selector, eip, opsize, 0);
	cpu_set_eflags(cpu, flags, mask);
}

/* ---- fast system calls ---- */

/* Both use flat 4 GiB segments, whatever the descriptors say (SDM 2B SYSENTER). */
static void flat_code_and_stack(struct cpu *cpu, uint16_t code, uint16_t stack, unsigned cpl)
{
	uint16_t common = SEG_G | SEG_DB | SEG_P | SEG_S | cpl << SEG_DPL_SHIFT | SEG_A;

	cpu->seg[CS] = (struct segment){
		.limit = UINT32_MAX, .selector = code, .attr = common | SEG_CODE | SEG_R,
	};
	cpu->seg[SS] = (struct segment){
		.limit = UINT32_MAX, .selector = stack, .attr = common | SEG_W,
	};
	cpu->cpl = cpl;
}

/** sysenter - to ring 0 as the SYSENTER_* MSRs say; #GP(0) in real mode or with CS 0 */
void sysenter(struct cpu *cpu)
{
	uint16_t code = cpu->sysenter_cs & 0xfffc;

	if (!(cpu->cr0 & CR0_PE) || !code)
		cpu_raise(cpu, EXC_GP, 0);
	cpu->eflags &= ~(FLAG_VM | FLAG_IF | FLAG_RF);
	flat_code_and_stack(cpu, code, code + 8, 0);
	cpu->gpr[ESP] = (uint32_t)cpu->sysenter_esp;
	cpu->eip = (uint32_t)cpu->sysenter_eip;
}

/** sysexit - to ring 3 at EDX with stack ECX; #GP(0) unless CPL is 0 */
void sysexit(struct cpu *cpu)
{
	uint16_t code = cpu->sysenter_cs & 0xfffc;

	if (!(cpu->cr0 & CR0_PE) || !code || cpu->cpl != 0)
		cpu_raise(cpu, EXC_GP, 0);
	flat_code_and_stack(cpu, (code + 16) | 3, (code + 24) | 3, 3);
	cpu->gpr[ESP] = (uint32_t)cpu->gpr[ECX];
	cpu->eip = (uint32_t)cpu->gpr[EDX];
}
