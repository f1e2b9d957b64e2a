/* Interrupts, exceptions, IRET, events between instructions: SDM 3A chapter 6. */
#include "tests/unit/cpu_world.h"

/* ---- interrupts ---- */

START_TEST(exception_in_ring_0)
{
	uint32_t esp = cpu->gpr[ESP];

	cpu->eflags |= FLAG_IF | FLAG_TF | FLAG_NT;
	deliver(EXC_GP, 0x50);
	ck_assert_uint_eq(cpu->eip, HANDLER + EXC_GP);
	ck_assert_uint_eq(cpu->eflags, FLAG_RSVD1);
	ck_assert_uint_eq(cpu->gpr[ESP], esp - 16);
	STACK_IS(4, 0x50, 0x1234, CODE0, FLAG_RSVD1 | FLAG_IF | FLAG_TF | FLAG_NT | FLAG_RF);
	ck_assert_uint_eq(cpu->exceptions[EXC_GP], 1);
}
END_TEST

START_TEST(interrupt_from_ring_3_and_back)
{
	uint32_t esp3;

	enter_ring(3);
	esp3 = cpu->gpr[ESP];
	cpu->eflags |= FLAG_IF;
	idt(0x30, CODE0, HANDLER, GATE_TRAP32 | ACC_DPL3);
	WORKS(cpu_interrupt(cpu, 0x30, true, false, 0, 0x1236));
	ck_assert_uint_eq(cpu->cpl, 0);
	ck_assert_uint_eq(cpu->eflags, FLAG_RSVD1 | FLAG_IF); /* trap gate */
	ck_assert_uint_eq(cpu->seg[DS].selector, DATA3 | 3);
	STACK_IS(4, 0x1236, CODE3 | 3, FLAG_RSVD1 | FLAG_IF, esp3, DATA3 | 3);
	WORKS(seg_load(cpu, GS, DATA0));
	cpu->eflags &= ~FLAG_IF;
	WORKS(interrupt_return(cpu, 4, 0));
	ck_assert_uint_eq(cpu->cpl, 3);
	ck_assert_uint_eq(cpu->eip, 0x1236);
	ck_assert_uint_eq(cpu->gpr[ESP], esp3);
	ck_assert_uint_eq(cpu->eflags, FLAG_RSVD1 | FLAG_IF);
	ck_assert_uint_eq(cpu->seg[GS].selector, 0);
	ck_assert_uint_eq(cpu->seg[DS].selector, DATA3 | 3);
}
END_TEST

START_TEST(gate_checks_and_error_codes)
{
	enter_ring(3);
	/* INT n: the gate's DPL; EXT clear. */
	FAULTS(EXC_GP, 0x20 * 8 + 2, cpu_interrupt(cpu, 0x20, true, false, 0, 0));
	FAULTS(EXC_GP, 0x40 * 8 + 2, cpu_interrupt(cpu, 0x40, true, false, 0, 0));
	/* Hardware: no DPL check, EXT set. */
	FAULTS(EXC_GP, 0x40 * 8 + 3, cpu_interrupt(cpu, 0x40, false, false, 0, 0));
	FAULTS(EXC_GP, 0x21 * 8 + 3, cpu_interrupt(cpu, 0x21, false, false, 0, 0)); /* type 0 */
	idt(0x22, CODE0, HANDLER, GATE_INT32 & 0x7f);
	FAULTS(EXC_NP, 0x22 * 8 + 3, cpu_interrupt(cpu, 0x22, false, false, 0, 0));
	idt(0x22, 0, HANDLER, GATE_INT32);
	FAULTS(EXC_GP, 1, cpu_interrupt(cpu, 0x22, false, false, 0, 0));
	idt(0x22, DATA0, HANDLER, GATE_INT32 | ACC_DPL3);
	FAULTS(EXC_GP, DATA0, cpu_interrupt(cpu, 0x22, true, false, 0, 0));
	idt(0x22, CODE16, 0x10000, GATE_INT32);
	FAULTS(EXC_GP, 1, cpu_interrupt(cpu, 0x22, false, false, 0, 0));
	gdt(SPARE, 0, 0xfffff, 0x1a, G4K | BIG);
	idt(0x22, SPARE, HANDLER, GATE_INT32);
	FAULTS(EXC_NP, SPARE | 1, cpu_interrupt(cpu, 0x22, false, false, 0, 0));
	idt(0x22, CODE0, HANDLER, GATE_INT32);
	put(TSS + 8, DATA3, 4);
	FAULTS(EXC_TS, DATA3 | 1, cpu_interrupt(cpu, 0x22, false, false, 0, 0));
	/* Inner code cannot be interrupted into an outer ring. */
	enter_ring(0);
	idt(0x22, CODE3, HANDLER, GATE_INT32);
	FAULTS(EXC_GP, CODE3 | 1, cpu_interrupt(cpu, 0x22, false, false, 0, 0));
}
END_TEST

START_TEST(conforming_handler_and_16_bit_gate)
{
	uint32_t esp;

	enter_ring(3);
	esp = cpu->gpr[ESP];
	idt(0x22, CONF0, HANDLER, GATE_INT16);
	WORKS(cpu_interrupt(cpu, 0x22, false, true, 0x77, 0x1234));
	ck_assert_uint_eq(cpu->cpl, 3);
	ck_assert_uint_eq(cpu->gpr[ESP], esp - 8);
	STACK_IS(2, 0x77, 0x1234, CODE3 | 3, FLAG_RSVD1);
}
END_TEST

START_TEST(iret_flags_by_privilege)
{
	uint32_t all = FLAG_IF | FLAG_IOPL | FLAG_NT | FLAG_AC | FLAG_ID | FLAG_CF | FLAG_VIF;

	put(cpu->gpr[ESP], 0x100, 4);
	put(cpu->gpr[ESP] + 4, CODE0, 4);
	put(cpu->gpr[ESP] + 8, all, 4);
	WORKS(interrupt_return(cpu, 4, 0));
	ck_assert_uint_eq(cpu->eflags, all | FLAG_RSVD1);
	enter_ring(3);
	cpu->eflags = FLAG_RSVD1;
	put(cpu->gpr[ESP], 0x100, 4);
	put(cpu->gpr[ESP] + 4, CODE3 | 3, 4);
	put(cpu->gpr[ESP] + 8, all | FLAG_VM, 4); /* VM in ring 3: not looked at */
	WORKS(interrupt_return(cpu, 4, 0));
	ck_assert_uint_eq(cpu->eflags, FLAG_NT | FLAG_AC | FLAG_ID | FLAG_CF | FLAG_RSVD1);
	/* IOPL 3 lets ring 3 change IF; 16 bits leave the upper half. */
	enter_ring(3);
	cpu->eflags = FLAG_RSVD1 | FLAG_IOPL | FLAG_IF | FLAG_AC;
	put(cpu->gpr[ESP], 0x100, 2);
	put(cpu->gpr[ESP] + 2, CODE3 | 3, 2);
	put(cpu->gpr[ESP] + 4, FLAG_ZF, 2);
	WORKS(interrupt_return(cpu, 2, 0));
	ck_assert_uint_eq(cpu->eflags, FLAG_RSVD1 | FLAG_IOPL | FLAG_AC | FLAG_ZF);
}
END_TEST

START_TEST(iret_to_16_bit_stack_keeps_upper_esp)
{
	gdt(SPARE, 0, 0xffff, ACC_DATA | ACC_DPL3, 0);
	put(cpu->gpr[ESP], 0x100, 4);
	put(cpu->gpr[ESP] + 4, CODE3 | 3, 4);
	put(cpu->gpr[ESP] + 8, 0, 4);
	put(cpu->gpr[ESP] + 12, 0x12345678, 4);
	put(cpu->gpr[ESP] + 16, SPARE | 3, 4);
	WORKS(interrupt_return(cpu, 4, 0));
	ck_assert_uint_eq(cpu->gpr[ESP], 0x5678);
}
END_TEST

static void enter_v86(uint32_t flags)
{
	uint32_t esp = cpu->gpr[ESP] = STACK0 - 0x100;
	const uint32_t frame[] = {
		0x10, V86_CS, flags | FLAG_VM, 0x80, V86_SS, 0x111, 0x222, 0x333, 0x444,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(frame); i++)
		put(esp + 4 * i, frame[i], 4);
	WORKS(interrupt_return(cpu, 4, 0));
}

START_TEST(v86_round_trip)
{
	enter_v86(FLAG_IF | FLAG_IOPL);
	ck_assert_uint_eq(cpu->cpl, 3);
	ck_assert(cpu_v86(cpu));
	ck_assert_uint_eq(cpu->seg[CS].base, V86_CS << 4);
	ck_assert_uint_eq(cpu->seg[CS].limit, 0xffff);
	ck_assert_uint_eq(cpu->seg[ES].selector, 0x111);
	ck_assert_uint_eq(cpu->seg[GS].base, 0x4440);
	ck_assert_uint_eq(cpu->gpr[ESP], 0x80);
	WORKS(seg_load(cpu, DS, 0x1234));
	WORKS(far_jump(cpu, V86_CS, 0x20, 2, 0));
	cpu->insn_eip = 0x20;
	deliver(EXC_GP, 0);
	ck_assert(!cpu_v86(cpu));
	ck_assert_uint_eq(cpu->cpl, 0);
	ck_assert_uint_eq(cpu->seg[DS].attr & SEG_P, 0);
	STACK_IS(4, 0, 0x20, V86_CS, FLAG_RSVD1 | FLAG_VM | FLAG_IF | FLAG_IOPL | FLAG_RF, 0x80,
		 V86_SS, 0x111, 0x1234, 0x333, 0x444);
	ck_assert_uint_eq(cpu->gpr[ESP], STACK0 - 40);
	cpu->gpr[ESP] += 4;
	WORKS(interrupt_return(cpu, 4, 0));
	ck_assert(cpu_v86(cpu));
	ck_assert_uint_eq(cpu->seg[DS].selector, 0x1234);
	ck_assert_uint_eq(cpu->eip, 0x20);
}
END_TEST

START_TEST(v86_restrictions)
{
	enter_v86(0); /* IOPL 0 */
	FAULTS(EXC_GP, 0, interrupt_return(cpu, 2, 0));
	cpu->eflags |= FLAG_IOPL;
	put((V86_SS << 4) + 0x80, 0x33, 2);
	put((V86_SS << 4) + 0x82, 0x500, 2);
	put((V86_SS << 4) + 0x84, FLAG_IF | FLAG_CF, 2);
	WORKS(interrupt_return(cpu, 2, 0));
	ck_assert_uint_eq(cpu->eflags, FLAG_RSVD1 | FLAG_VM | FLAG_IOPL | FLAG_IF | FLAG_CF);
	ck_assert_uint_eq(cpu->seg[CS].base, 0x5000);
	ck_assert_uint_eq(cpu->gpr[ESP], 0x86);
	/* Only ring 0 may handle. */
	idt(0x22, CONF0, HANDLER, GATE_INT32);
	FAULTS(EXC_GP, CONF0 | 1, cpu_interrupt(cpu, 0x22, false, false, 0, 0));
	idt(0x22, CODE1, HANDLER, GATE_INT32);
	FAULTS(EXC_GP, CODE1 | 1, cpu_interrupt(cpu, 0x22, false, false, 0, 0));
}
END_TEST

START_TEST(real_mode_interrupt)
{
	WORKS(cpu_write_cr(cpu, 0, 0));
	cpu->idtr_base = 0;
	cpu->idtr_limit = 0x3ff;
	for (unsigned i = 0; i < SREG_COUNT; i++)
		cpu->seg[i] = (struct segment){ 0x6000, 0xffff, 0x600, 0x93 };
	cpu->gpr[ESP] = 0x100;
	cpu->eflags |= FLAG_IF | FLAG_AC;
	put(0x21 * 4, 0x0700 << 16 | 0x1234, 4);
	WORKS(cpu_interrupt(cpu, 0x21, true, false, 0, 0x55));
	ck_assert_uint_eq(cpu->seg[CS].base, 0x7000);
	ck_assert_uint_eq(cpu->eip, 0x1234);
	ck_assert_uint_eq(cpu->eflags, FLAG_RSVD1);
	STACK_IS(2, 0x55, 0x600, FLAG_RSVD1 | FLAG_IF);
	WORKS(interrupt_return(cpu, 2, 0));
	ck_assert_uint_eq(cpu->eip, 0x55);
	ck_assert_uint_eq(cpu->gpr[ESP], 0x100);
	cpu->idtr_limit = 0x83;
	FAULTS(EXC_GP, 0, cpu_interrupt(cpu, 0x21, true, false, 0, 0x55));
}
END_TEST

/* One page table maps the first MiB to itself; beyond it nothing is there. */
static void start_paging(unsigned absent_page)
{
	put(PAGE_DIR, PAGE_TABLE | 7, 4);
	for (unsigned p = 0; p < 256; p++)
		put(PAGE_TABLE + 4 * p, p == absent_page ? 0 : p << 12 | 7, 4);
	cpu_write_cr(cpu, 3, PAGE_DIR);
	cpu_write_cr(cpu, 0, cpu->cr0 | CR0_PG);
}

/* While @first is delivered, #NP (its gate is not present) or #PF (the table with
 * its handler's segment is not) is raised: where does it end, with which code? */
static void second_fault(unsigned first, unsigned second, unsigned handler, uint32_t code)
{
	enter_ring(0);
	for (unsigned v = 0; v < 32; v++)
		idt(v, CODE0, HANDLER + v, GATE_INT32);
	if (second == EXC_NP)
		idt(first, CODE0, HANDLER, GATE_INT32 & 0x7f);
	else
		idt(first, 0x0c, HANDLER, GATE_INT32);
	cpu->ldtr.base = 0x400000;
	deliver(first, 0);
	ck_assert_msg(cpu->eip == HANDLER + handler, "%u then %u: at %x", first, second,
		      (unsigned)cpu->eip);
	ck_assert_uint_eq(get(cpu->gpr[ESP], 4), code);
	ck_assert_uint_eq(get(cpu->gpr[ESP] + 4, 4), 0x1234);
}

/* SDM 3A table 6-5. */
START_TEST(double_fault_table)
{
	start_paging(UINT32_MAX);
	second_fault(EXC_UD, EXC_NP, EXC_NP, EXC_UD * 8 + 3);
	second_fault(EXC_UD, EXC_PF, EXC_PF, 0);
	second_fault(EXC_GP, EXC_NP, EXC_DF, 0);
	second_fault(EXC_GP, EXC_PF, EXC_PF, 0);
	second_fault(EXC_PF, EXC_NP, EXC_DF, 0);
	second_fault(EXC_PF, EXC_PF, EXC_DF, 0);
	ck_assert_int_eq(machine.end, MACHINE_RUNNING);
}
END_TEST

START_TEST(triple_fault_ends_the_machine)
{
	cpu->idtr_limit = 7;
	deliver(EXC_UD, 0);
	ck_assert_int_eq(machine.end, MACHINE_TRIPLE_FAULT);
	ck_assert(cpu->halted);
	ck_assert_uint_eq(cpu->eip, 0x1234);
	ck_assert_str_eq(cpu->fault_reason, "#UD, then #GP(0033), then #GP(006b), then #GP(0043)");
	machine.end = MACHINE_RUNNING;
	machine.no_reboot = false;
	deliver(EXC_UD, 0);
	ck_assert(machine.reset_requested);
}
END_TEST

START_TEST(page_fault_while_pushing_leaves_the_cpu_alone)
{
	start_paging(STACK0 >> 12);
	enter_ring(3);
	put(TSS + 4, STACK0 + 8, 4);
	FAULTS(EXC_PF, PF_W, cpu_interrupt(cpu, 0x10, false, false, 0, 0));
	ck_assert_uint_eq(cpu->cr2, STACK0 + 4);
}
END_TEST

/* ---- events between instructions ---- */

START_TEST(interrupt_line_and_shadow)
{
	next_vector = 0x30;
	idt(0x30, CODE0, HANDLER, GATE_INT32);
	cpu->run = 1;
	cpu_set_intr(cpu, true);
	ck_assert_uint_eq(cpu->run, 1); /* IF is off */
	WORKS(cpu_service(cpu));
	ck_assert_uint_eq(cpu->eip, 0x1234);
	WORKS(cpu_set_eflags(cpu, FLAG_IF, FLAG_IF));
	ck_assert_uint_eq(cpu->run, 0);
	cpu->shadow = SHADOW_STI;
	cpu->halted = 1;
	WORKS(cpu_service(cpu));
	ck_assert_uint_eq(cpu->eip, 0x1234);
	cpu->shadow = 0;
	WORKS(cpu_service(cpu));
	ck_assert_uint_eq(cpu->eip, HANDLER);
	ck_assert(!cpu->halted);
	STACK_IS(4, 0x1234, CODE0, FLAG_RSVD1 | FLAG_IF);
	/* Gone before it was acknowledged. */
	cpu->eflags |= FLAG_IF;
	next_vector = -1;
	WORKS(cpu_service(cpu));
	ck_assert_uint_eq(cpu->eip, HANDLER);
}
END_TEST

START_TEST(nmi_blocks_nmi_until_iret)
{
	cpu_raise_nmi(cpu);
	WORKS(cpu_service(cpu));
	ck_assert_uint_eq(cpu->eip, HANDLER + EXC_NMI);
	cpu_raise_nmi(cpu);
	cpu->eip = 0x2000;
	WORKS(cpu_service(cpu));
	ck_assert_uint_eq(cpu->eip, 0x2000);
	WORKS(interrupt_return(cpu, 4, 0));
	WORKS(cpu_service(cpu));
	ck_assert_uint_eq(cpu->eip, HANDLER + EXC_NMI);
}
END_TEST

START_TEST(debug_traps_and_faults)
{
	enum { BS = 1 << 14 };

	cpu->dr[7] |= 1 << 13;
	cpu->debug_hits = BS | 1;
	cpu->shadow = SHADOW_MOV_SS;
	WORKS(cpu_service(cpu));
	ck_assert_uint_eq(cpu->eip, 0x1234);
	cpu->shadow = 0;
	WORKS(cpu_service(cpu));
	ck_assert_uint_eq(cpu->eip, HANDLER + EXC_DB);
	ck_assert_uint_eq(cpu->dr[6], 0xffff0ff0 | BS | 1);
	ck_assert_uint_eq(cpu->dr[7] >> 13 & 1, 0);
	STACK_IS(4, 0x1234, CODE0, FLAG_RSVD1);
	/* General detect is a fault. */
	cpu->insn_eip = cpu->eip;
	cpu->dr[7] |= 1 << 13;
	if (!sigsetjmp(env, 0))
		cpu_read_dr(cpu, 0);
	cpu_deliver_raised(cpu);
	ck_assert_uint_eq(cpu->dr[6] >> 13 & 1, 1);
	STACK_IS(4, HANDLER + EXC_DB, CODE0, FLAG_RSVD1 | FLAG_RF);
}
END_TEST

/* ---- SYSENTER, SYSEXIT ---- */

START_TEST(sysenter_and_sysexit)
{
	enter_ring(3);
	FAULTS(EXC_GP, 0, sysenter(cpu));
	ck_assert(cpu_wrmsr(cpu, 0x174, 0x100) && cpu_wrmsr(cpu, 0x175, 0x7000) &&
		  cpu_wrmsr(cpu, 0x176, 0x9999));
	cpu->eflags |= FLAG_IF | FLAG_VM;
	WORKS(sysenter(cpu));
	ck_assert_uint_eq(cpu->cpl, 0);
	ck_assert_uint_eq(cpu->eflags, FLAG_RSVD1);
	ck_assert_uint_eq(cpu->eip, 0x9999);
	ck_assert_uint_eq(cpu->gpr[ESP], 0x7000);
	ck_assert_uint_eq(cpu->seg[CS].attr, 0xc09b);
	ck_assert_uint_eq(cpu->seg[SS].selector, 0x108);
	cpu->gpr[EDX] = 0x4444;
	cpu->gpr[ECX] = 0x5555;
	WORKS(sysexit(cpu));
	ck_assert_uint_eq(cpu->cpl, 3);
	ck_assert_uint_eq(cpu->seg[CS].selector, 0x113);
	ck_assert_uint_eq(cpu->seg[SS].selector, 0x11b);
	ck_assert_uint_eq(cpu->seg[SS].attr, 0xc0f3);
	ck_assert_uint_eq(cpu->eip, 0x4444);
	FAULTS(EXC_GP, 0, sysexit(cpu));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("interrupt");

	CASE(s, "gates", exception_in_ring_0, interrupt_from_ring_3_and_back,
	     gate_checks_and_error_codes, conforming_handler_and_16_bit_gate,
	     page_fault_while_pushing_leaves_the_cpu_alone, double_fault_table,
	     triple_fault_ends_the_machine);
	CASE(s, "iret", iret_flags_by_privilege, iret_to_16_bit_stack_keeps_upper_esp,
	     v86_round_trip, v86_restrictions, real_mode_interrupt);
	CASE(s, "events", interrupt_line_and_shadow, nmi_blocks_nmi_until_iret,
	     debug_traps_and_faults, sysenter_and_sysexit);
	return run_suite(s);
}
