/* Segments, far transfers, tasks, system registers: against SDM 3A chapters 3, 5, 7. */
#include "tests/unit/cpu_world.h"

/* ---- access ---- */

START_TEST(limits_of_expand_up_segments)
{
	gdt(SPARE, 0x100, 0xfff, ACC_DATA, BIG);
	WORKS(seg_load(cpu, DS, SPARE));
	WORKS(ck_assert_uint_eq(seg_linear(cpu, DS, 0xffc, 4, true), 0x10fc));
	FAULTS(EXC_GP, 0, seg_linear(cpu, DS, 0xffd, 4, true));
	FAULTS(EXC_GP, 0, seg_linear(cpu, DS, 0x1000, 1, false));
	FAULTS(EXC_GP, 0, seg_linear(cpu, DS, 0xfffffffe, 4, false));
	WORKS(seg_load(cpu, SS, SPARE));
	FAULTS(EXC_SS, 0, seg_linear(cpu, SS, 0x1000, 1, false));
	/* 4 GiB: an access may wrap. */
	WORKS(ck_assert_uint_eq(seg_linear(cpu, ES, 0xfffffffe, 4, true), 0xfffffffe));
}
END_TEST

START_TEST(limits_of_expand_down_segments)
{
	WORKS(seg_load(cpu, DS, DOWN));
	WORKS(seg_linear(cpu, DS, 0x1000, 4, true));
	WORKS(seg_linear(cpu, DS, 0xfffffffc, 4, true));
	FAULTS(EXC_GP, 0, seg_linear(cpu, DS, 0xfff, 1, true));
	FAULTS(EXC_GP, 0, seg_linear(cpu, DS, 0xfffffffe, 4, true));
	gdt(DOWN, 0, 0xfff, 0x96, 0); /* B clear: up to 64 KiB */
	WORKS(seg_load(cpu, DS, DOWN));
	WORKS(seg_linear(cpu, DS, 0xfffc, 4, true));
	FAULTS(EXC_GP, 0, seg_linear(cpu, DS, 0xfffd, 4, true));
	FAULTS(EXC_GP, 0, seg_linear(cpu, DS, 0x10000, 1, true));
}
END_TEST

START_TEST(types_and_null_are_checked_at_access)
{
	WORKS(seg_load(cpu, DS, RO_DATA));
	WORKS(seg_read(cpu, DS, 0, 4));
	FAULTS(EXC_GP, 0, seg_write(cpu, DS, 0, 1, 4));
	WORKS(seg_load(cpu, DS, CODE0));
	WORKS(seg_read(cpu, DS, 0, 4));
	FAULTS(EXC_GP, 0, seg_write(cpu, DS, 0, 1, 4));
	WORKS(far_jump(cpu, XO_CODE, 0x10, 4, 0));
	FAULTS(EXC_GP, 0, seg_read(cpu, CS, 0, 4));
	WORKS(seg_load(cpu, DS, 3));
	ck_assert_uint_eq(cpu->seg[DS].selector, 3);
	FAULTS(EXC_GP, 0, seg_read(cpu, DS, 0, 1));
}
END_TEST

START_TEST(alignment_check_in_ring_3_only)
{
	cpu_write_cr(cpu, 0, cpu->cr0 | CR0_AM);
	cpu->eflags |= FLAG_AC;
	WORKS(seg_read(cpu, DS, 1, 4));
	enter_ring(3);
	FAULTS(EXC_AC, 0, seg_read(cpu, DS, 0xa001, 4));
	FAULTS(EXC_AC, 0, seg_write(cpu, DS, 0xa001, 1, 2));
	FAULTS(EXC_AC, 0, seg_read(cpu, DS, 0xa004, 8));
	WORKS(seg_read(cpu, DS, 0xa004, 4));
	WORKS(seg_read(cpu, DS, 0xa001, 1));
	cpu->eflags &= ~FLAG_AC;
	WORKS(seg_read(cpu, DS, 0xa001, 4));
}
END_TEST

START_TEST(data_breakpoints_are_noted)
{
	cpu->dr[0] = 0xa004;
	cpu->dr[1] = 0xa010;
	/* 0: write, 4 bytes, local; 1: read or write, 2 bytes, global */
	cpu_write_dr(cpu, 7, 1 | 8 | (13u << 16) | (7u << 20));
	WORKS(seg_read(cpu, DS, 0xa004, 4));
	ck_assert_uint_eq(cpu->debug_hits, 0);
	WORKS(seg_write(cpu, DS, 0xa007, 0, 1));
	ck_assert_uint_eq(cpu->debug_hits, 1);
	WORKS(seg_read(cpu, DS, 0xa00e, 4));
	ck_assert_uint_eq(cpu->debug_hits, 3);
	cpu->debug_hits = 0;
	WORKS(seg_read(cpu, DS, 0xa012, 4));
	WORKS(seg_write(cpu, DS, 0xa000, 0, 4));
	ck_assert_uint_eq(cpu->debug_hits, 0);
	ck_assert_uint_eq(debug_hits_code(cpu, 0xa004), 0);
	cpu_write_dr(cpu, 7, 1);
	ck_assert_uint_eq(debug_hits_code(cpu, 0xa004), 1);
}
END_TEST

/* ---- loading ---- */

START_TEST(data_segment_privilege)
{
	WORKS(seg_load(cpu, DS, DATA3));
	FAULTS(EXC_GP, DATA0, seg_load(cpu, DS, DATA0 | 3)); /* RPL > DPL */
	FAULTS(EXC_GP, XO_CODE, seg_load(cpu, DS, XO_CODE));
	FAULTS(EXC_GP, SEL_TSS, seg_load(cpu, DS, SEL_TSS));
	FAULTS(EXC_GP, GDT_END, seg_load(cpu, DS, GDT_END));
	FAULTS(EXC_GP, 0x104, seg_load(cpu, DS, 0x104)); /* beyond the LDT */
	enter_ring(3);
	FAULTS(EXC_GP, DATA0, seg_load(cpu, ES, DATA0));
	WORKS(seg_load(cpu, ES, CONF0 | 3)); /* conforming code reads from anywhere */
	gdt(SPARE, 0, 0xff, 0x72, BIG); /* DPL 3, not present */
	FAULTS(EXC_NP, SPARE, seg_load(cpu, GS, SPARE | 3));
}
END_TEST

START_TEST(stack_segment_rules)
{
	FAULTS(EXC_GP, 0, seg_load(cpu, SS, 0));
	FAULTS(EXC_GP, DATA3, seg_load(cpu, SS, DATA3));
	FAULTS(EXC_GP, DATA0, seg_load(cpu, SS, DATA0 | 1));
	FAULTS(EXC_GP, RO_DATA, seg_load(cpu, SS, RO_DATA));
	FAULTS(EXC_GP, CODE0, seg_load(cpu, SS, CODE0));
	gdt(SPARE, 0, 0xff, 0x12, BIG);
	FAULTS(EXC_SS, SPARE, seg_load(cpu, SS, SPARE));
	WORKS(seg_load(cpu, SS, DATA16));
	ck_assert(!cpu_stack32(cpu));
}
END_TEST

START_TEST(loading_sets_the_accessed_bit)
{
	ck_assert_uint_eq(get(GDT + DATA16 + 5, 1), ACC_DATA);
	WORKS(seg_load(cpu, FS, DATA16));
	ck_assert_uint_eq(get(GDT + DATA16 + 5, 1), ACC_DATA | 1);
	ck_assert_uint_eq(cpu->seg[FS].attr, ACC_DATA | 1);
	descriptor(LDT + 8, 0x12345678, 0xabcde, ACC_DATA, G4K | BIG);
	WORKS(seg_load(cpu, FS, 0x0c));
	ck_assert_uint_eq(cpu->seg[FS].base, 0x12345678);
	ck_assert_uint_eq(cpu->seg[FS].limit, 0xabcdefff);
	ck_assert_uint_eq(cpu->seg[FS].attr, 0xc093);
}
END_TEST

START_TEST(real_mode_keeps_limits)
{
	WORKS(seg_load(cpu, DS, DATA0));
	WORKS(seg_load(cpu, ES, 0));
	gdt(SPARE, 0x100, 0xffff, ACC_DATA, 0);
	WORKS(seg_load(cpu, FS, SPARE));
	WORKS(cpu_write_cr(cpu, 0, CR0_NE));
	WORKS(seg_load(cpu, DS, 0x1234));
	ck_assert_uint_eq(cpu->seg[DS].base, 0x12340);
	WORKS(seg_linear(cpu, DS, 0x200000, 4, true)); /* big real mode */
	WORKS(seg_load(cpu, ES, 0x1000)); /* was null: 64 KiB again */
	WORKS(seg_linear(cpu, ES, 0xfffc, 4, true));
	FAULTS(EXC_GP, 0, seg_linear(cpu, ES, 0xffff, 2, true));
	WORKS(seg_load(cpu, FS, 0x2000));
	FAULTS(EXC_GP, 0, seg_linear(cpu, FS, 0x10000, 1, true));
	/* CS may be written to. */
	WORKS(far_jump(cpu, 0x2000, 0x10, 2, 0));
	WORKS(seg_write(cpu, CS, 0, 1, 2));
}
END_TEST

START_TEST(ldtr_and_tr)
{
	FAULTS(EXC_GP, 0, seg_load_tr(cpu, 0));
	FAULTS(EXC_GP, SEL_TSS, seg_load_tr(cpu, SEL_TSS)); /* busy */
	FAULTS(EXC_GP, 0x0c, seg_load_tr(cpu, 0x0c));
	FAULTS(EXC_GP, DATA0, seg_load_tr(cpu, DATA0));
	gdt(SEL_TSS2, TSS2, 0x67, 0x09, 0);
	FAULTS(EXC_NP, SEL_TSS2, seg_load_tr(cpu, SEL_TSS2));
	WORKS(seg_load_tr(cpu, SEL_TSS3));
	ck_assert_uint_eq(get(GDT + SEL_TSS3 + 5, 1), ACC_TSS16 | 2);
	FAULTS(EXC_GP, DATA0, seg_load_ldtr(cpu, DATA0));
	FAULTS(EXC_GP, 0x0c, seg_load_ldtr(cpu, 0x0c));
	WORKS(seg_load_ldtr(cpu, 0));
	FAULTS(EXC_GP, 0x0c, seg_load(cpu, DS, 0x0c));
}
END_TEST

START_TEST(lar_lsl_verr_verw)
{
	uint32_t v = 0;

	WORKS(ck_assert(desc_lar(cpu, DATA3 | 3, &v)));
	ck_assert_uint_eq(v, 0xcff200);
	WORKS(ck_assert(desc_lar(cpu, SEL_TSS, &v)));
	WORKS(ck_assert(!desc_lar(cpu, 0, &v)));
	WORKS(ck_assert(!desc_lar(cpu, GDT_END, &v)));
	gate(GDT + SPARE, CODE0, 0, GATE_INT32, 0);
	WORKS(ck_assert(!desc_lar(cpu, SPARE, &v)));
	gate(GDT + SPARE, CODE0, 0, GATE_CALL32, 0);
	WORKS(ck_assert(desc_lar(cpu, SPARE, &v)));
	WORKS(ck_assert(!desc_lsl(cpu, SPARE, &v)));
	WORKS(ck_assert(desc_lsl(cpu, DATA0, &v)));
	ck_assert_uint_eq(v, UINT32_MAX);
	WORKS(ck_assert(desc_lsl(cpu, SEL_TSS, &v)));
	ck_assert_uint_eq(v, 0x87);
	WORKS(ck_assert(desc_verr(cpu, CODE0) && !desc_verw(cpu, CODE0)));
	WORKS(ck_assert(!desc_verr(cpu, XO_CODE) && !desc_verw(cpu, RO_DATA)));
	WORKS(ck_assert(desc_verr(cpu, RO_DATA) && desc_verw(cpu, DATA0)));
	enter_ring(3);
	WORKS(ck_assert(!desc_verr(cpu, DATA0) && desc_verr(cpu, CONF0 | 3)));
	WORKS(ck_assert(!desc_lar(cpu, DATA0, &v) && !desc_lsl(cpu, SEL_TSS, &v)));
}
END_TEST

/* ---- far transfers ---- */

START_TEST(far_jump_direct)
{
	WORKS(far_jump(cpu, CODE0, 0x5678, 4, 0));
	ck_assert_uint_eq(cpu->eip, 0x5678);
	WORKS(far_jump(cpu, CODE0, 0x12345678, 2, 0));
	ck_assert_uint_eq(cpu->eip, 0x5678);
	FAULTS(EXC_GP, 0, far_jump(cpu, 0, 0, 4, 0));
	FAULTS(EXC_GP, CODE0, far_jump(cpu, CODE0 | 3, 0, 4, 0)); /* RPL > CPL */
	FAULTS(EXC_GP, CODE3, far_jump(cpu, CODE3 | 3, 0, 4, 0));
	FAULTS(EXC_GP, DATA0, far_jump(cpu, DATA0, 0, 4, 0));
	FAULTS(EXC_GP, 0, far_jump(cpu, CODE16, 0x10000, 4, 0)); /* beyond its limit */
	enter_ring(3);
	FAULTS(EXC_GP, CODE0, far_jump(cpu, CODE0, 0, 4, 0));
	WORKS(far_jump(cpu, CONF0, 0x10, 4, 0));
	ck_assert_uint_eq(cpu->cpl, 3);
	ck_assert_uint_eq(cpu->seg[CS].selector, CONF0 | 3);
	gdt(SPARE, 0, 0xfffff, 0x7a, G4K | BIG);
	FAULTS(EXC_NP, SPARE, far_jump(cpu, SPARE | 3, 0, 4, 0));
}
END_TEST

START_TEST(far_call_and_return)
{
	uint32_t esp = cpu->gpr[ESP];

	WORKS(far_call(cpu, CODE0, 0x5678, 4, 0x1239));
	STACK_IS(4, 0x1239, CODE0);
	WORKS(far_return(cpu, 4, 0));
	ck_assert_uint_eq(cpu->eip, 0x1239);
	ck_assert_uint_eq(cpu->gpr[ESP], esp);
	WORKS(far_call(cpu, CODE16, 0x5678, 2, 0x1239));
	ck_assert(!cpu_code32(cpu));
	STACK_IS(2, 0x1239, CODE0);
	WORKS(far_return(cpu, 2, 6));
	ck_assert_uint_eq(cpu->gpr[ESP], esp + 6);
	/* The stack's limit, before anything changes. */
	gdt(SPARE, 0, 0x7fff, ACC_DATA, BIG);
	WORKS(seg_load(cpu, SS, SPARE));
	cpu->gpr[ESP] = 0x8002;
	FAULTS(EXC_SS, 0, far_call(cpu, CODE0, 0x5678, 4, 0x1239));
	cpu->gpr[ESP] = 0x7ffc;
	FAULTS(EXC_SS, 0, far_return(cpu, 4, 0));
	/* 16-bit stack: SP wraps, the upper half of ESP stays. */
	WORKS(seg_load(cpu, SS, DATA16));
	cpu->gpr[ESP] = 0xabcd0000;
	WORKS(far_call(cpu, CODE0, 0x5678, 4, 0x1239));
	ck_assert_uint_eq(cpu->gpr[ESP], 0xabcdfff8);
	ck_assert_uint_eq(get(0xfff8, 4), 0x1239);
}
END_TEST

START_TEST(call_gate_inward_copies_parameters)
{
	uint32_t esp3;

	gate(GDT + SEL_GATE, CODE0, HANDLER, GATE_CALL32 | ACC_DPL3, 3);
	enter_ring(3);
	esp3 = cpu->gpr[ESP];
	put(esp3, 0x11111111, 4);
	put(esp3 + 4, 0x22222222, 4);
	put(esp3 + 8, 0x33333333, 4);
	WORKS(far_call(cpu, SEL_GATE | 3, 0xdead, 4, 0x1239));
	ck_assert_uint_eq(cpu->cpl, 0);
	ck_assert_uint_eq(cpu->seg[CS].selector, CODE0);
	ck_assert_uint_eq(cpu->seg[SS].selector, DATA0);
	ck_assert_uint_eq(cpu->eip, HANDLER);
	ck_assert_uint_eq(cpu->gpr[ESP], STACK0 - 28);
	STACK_IS(4, 0x1239, CODE3 | 3, 0x11111111, 0x22222222, 0x33333333, esp3, DATA3 | 3);
	/* Back out: parameters go from both stacks, inner data segments go away. */
	WORKS(seg_load(cpu, DS, DATA0));
	WORKS(seg_load(cpu, ES, DATA3 | 3));
	WORKS(seg_load(cpu, FS, CONF0));
	WORKS(far_return(cpu, 4, 12));
	ck_assert_uint_eq(cpu->cpl, 3);
	ck_assert_uint_eq(cpu->gpr[ESP], esp3 + 12);
	ck_assert_uint_eq(cpu->seg[DS].selector, 0);
	ck_assert(!(cpu->seg[DS].attr & SEG_P));
	ck_assert_uint_eq(cpu->seg[ES].selector, DATA3 | 3);
	ck_assert_uint_eq(cpu->seg[FS].selector, CONF0);
}
END_TEST

START_TEST(call_gate_16_inward)
{
	uint32_t esp3;

	gate(GDT + SEL_GATE, CODE1, 0x99996000, GATE_CALL16 | ACC_DPL3, 1);
	enter_ring(3);
	esp3 = cpu->gpr[ESP];
	put(esp3, 0x4444, 2);
	WORKS(far_call(cpu, SEL_GATE | 3, 0, 4, 0x1239));
	ck_assert_uint_eq(cpu->cpl, 1);
	ck_assert_uint_eq(cpu->eip, 0x6000);
	ck_assert_uint_eq(cpu->seg[CS].selector, CODE1 | 1);
	STACK_IS(2, 0x1239, CODE3 | 3, 0x4444, esp3 & 0xffff, DATA3 | 3);
}
END_TEST

START_TEST(call_gate_checks)
{
	gate(GDT + SEL_GATE, CODE0, HANDLER, GATE_CALL32, 0); /* DPL 0 */
	enter_ring(3);
	FAULTS(EXC_GP, SEL_GATE, far_call(cpu, SEL_GATE | 3, 0, 4, 0));
	gate(GDT + SEL_GATE, CODE0, HANDLER, (GATE_CALL32 | ACC_DPL3) & 0x7f, 0);
	FAULTS(EXC_NP, SEL_GATE, far_call(cpu, SEL_GATE | 3, 0, 4, 0));
	gate(GDT + SEL_GATE, 0, HANDLER, GATE_CALL32 | ACC_DPL3, 0);
	FAULTS(EXC_GP, 0, far_call(cpu, SEL_GATE | 3, 0, 4, 0));
	gate(GDT + SEL_GATE, DATA0, HANDLER, GATE_CALL32 | ACC_DPL3, 0);
	FAULTS(EXC_GP, DATA0, far_call(cpu, SEL_GATE | 3, 0, 4, 0));
	gate(GDT + SEL_GATE, CODE0, HANDLER, GATE_CALL32 | ACC_DPL3, 0);
	FAULTS(EXC_GP, CODE0, far_jump(cpu, SEL_GATE | 3, 0, 4, 0)); /* JMP goes not inward */
	/* Conforming: no stack switch. */
	gate(GDT + SEL_GATE, CONF0, HANDLER, GATE_CALL32 | ACC_DPL3, 5);
	WORKS(far_call(cpu, SEL_GATE | 3, 0, 4, 0x1239));
	ck_assert_uint_eq(cpu->cpl, 3);
	STACK_IS(4, 0x1239, CODE3 | 3);
	/* Bad inner stacks. */
	enter_ring(3);
	gate(GDT + SEL_GATE, CODE0, HANDLER, GATE_CALL32 | ACC_DPL3, 0);
	put(TSS + 8, DATA3 | 3, 4);
	FAULTS(EXC_TS, DATA3, far_call(cpu, SEL_GATE | 3, 0, 4, 0));
	put(TSS + 8, 0, 4);
	FAULTS(EXC_TS, 0, far_call(cpu, SEL_GATE | 3, 0, 4, 0));
	put(TSS + 8, SPARE, 4);
	gdt(SPARE, 0, 0xfff, 0x12, BIG);
	FAULTS(EXC_SS, SPARE, far_call(cpu, SEL_GATE | 3, 0, 4, 0));
	gdt(SPARE, 0, 0x7ff0, 0x92, BIG);
	FAULTS(EXC_SS, SPARE, far_call(cpu, SEL_GATE | 3, 0, 4, 0));
	cpu->tr.limit = 7;
	FAULTS(EXC_TS, SEL_TSS, far_call(cpu, SEL_GATE | 3, 0, 4, 0));
}
END_TEST

START_TEST(far_return_checks)
{
	enter_ring(3);
	put(cpu->gpr[ESP], 0x100, 4);
	put(cpu->gpr[ESP] + 4, CODE0, 4);
	FAULTS(EXC_GP, CODE0, far_return(cpu, 4, 0)); /* inward */
	put(cpu->gpr[ESP] + 4, 0, 4);
	FAULTS(EXC_GP, 0, far_return(cpu, 4, 0));
	enter_ring(0);
	put(cpu->gpr[ESP], 0x100, 4);
	put(cpu->gpr[ESP] + 4, CODE3 | 3, 4);
	put(cpu->gpr[ESP] + 8, STACK3, 4);
	put(cpu->gpr[ESP] + 12, DATA0, 4);
	FAULTS(EXC_GP, DATA0, far_return(cpu, 4, 0));
	put(cpu->gpr[ESP] + 12, 0, 4);
	FAULTS(EXC_GP, 0, far_return(cpu, 4, 0));
	put(cpu->gpr[ESP] + 4, CODE3 | 2, 4);
	FAULTS(EXC_GP, CODE3, far_return(cpu, 4, 0));
}
END_TEST

/* ---- tasks ---- */

static void make_task32(uint32_t tss, uint32_t flags)
{
	put(tss + 0x20, 0x4321, 4);
	put(tss + 0x24, flags, 4);
	for (unsigned i = 0; i < 8; i++)
		put(tss + 0x28 + 4 * i, 0x1000 * (i + 1), 4);
	for (unsigned i = 0; i < 6; i++)
		put(tss + 0x48 + 4 * i, i == CS ? CODE0 : DATA0, 4);
	put(tss + 0x60, 0, 4);
}

static unsigned tss_access(unsigned selector) { return get(GDT + selector + 5, 1); }

START_TEST(task_call_and_iret)
{
	make_task32(TSS2, FLAG_CF);
	cpu->gpr[EBX] = 0xb0b0b0b0;
	WORKS(far_call(cpu, SEL_TSS2, 0xdead, 4, 0x1239));
	ck_assert_uint_eq(cpu->tr.selector, SEL_TSS2);
	ck_assert_uint_eq(cpu->eip, 0x4321);
	ck_assert_uint_eq(cpu->eflags, FLAG_RSVD1 | FLAG_CF | FLAG_NT);
	ck_assert_uint_eq(cpu->gpr[EBX], 0x4000);
	ck_assert(cpu->cr0 & CR0_TS);
	ck_assert_uint_eq(get(TSS2, 2), SEL_TSS);
	ck_assert_uint_eq(tss_access(SEL_TSS), ACC_TSS32 | 2);
	ck_assert_uint_eq(tss_access(SEL_TSS2), ACC_TSS32 | 2);
	ck_assert_uint_eq(get(TSS + 0x20, 4), 0x1239);
	ck_assert_uint_eq(get(TSS + 0x34, 4), 0xb0b0b0b0);
	ck_assert_uint_eq(get(TSS + 0x4c, 4), CODE0);
	ck_assert_uint_eq(cpu->ldtr.attr & SEG_P, 0);
	/* Not recursive. */
	FAULTS(EXC_GP, SEL_TSS, far_call(cpu, SEL_TSS, 0, 4, 0));
	put(TSS + 0x60, SEL_LDT, 2);
	WORKS(interrupt_return(cpu, 4, 0x4322));
	ck_assert_uint_eq(cpu->tr.selector, SEL_TSS);
	ck_assert_uint_eq(cpu->eip, 0x1239);
	ck_assert_uint_eq(cpu->gpr[EBX], 0xb0b0b0b0);
	ck_assert_uint_eq(cpu->eflags & FLAG_NT, 0);
	ck_assert_uint_eq(tss_access(SEL_TSS), ACC_TSS32 | 2);
	ck_assert_uint_eq(tss_access(SEL_TSS2), ACC_TSS32);
	ck_assert_uint_eq(get(TSS2 + 0x20, 4), 0x4322);
	ck_assert_uint_eq(get(TSS2 + 0x24, 4), FLAG_RSVD1 | FLAG_CF); /* NT cleared */
	ck_assert_uint_eq(cpu->ldtr.selector, SEL_LDT);
}
END_TEST

START_TEST(task_jump_to_16_bit_tss)
{
	put(TSS3 + 0x0e, 0x4321, 2);
	put(TSS3 + 0x10, FLAG_ZF, 2);
	put(TSS3 + 0x12, 0xaaaa, 2);
	put(TSS3 + 0x22, DATA16, 2);
	put(TSS3 + 0x24, CODE16, 2);
	put(TSS3 + 0x26, DATA16, 2);
	put(TSS3 + 0x28, DATA16, 2);
	gate(GDT + SEL_GATE, SEL_TSS3, 0, GATE_TASK, 0);
	WORKS(far_jump(cpu, SEL_GATE, 0, 4, 0x1239));
	ck_assert_uint_eq(cpu->tr.selector, SEL_TSS3);
	ck_assert_uint_eq(cpu->eip, 0x4321);
	ck_assert_uint_eq(cpu->gpr[EAX] & 0xffff, 0xaaaa);
	ck_assert_uint_eq(cpu->eflags, FLAG_RSVD1 | FLAG_ZF);
	ck_assert_uint_eq(cpu->seg[FS].selector, 0);
	ck_assert_uint_eq(tss_access(SEL_TSS), ACC_TSS32);
	ck_assert_uint_eq(tss_access(SEL_TSS3), ACC_TSS16 | 2);
	cpu->gpr[ECX] = 0x77777777;
	make_task32(TSS2, 0);
	WORKS(far_jump(cpu, SEL_TSS2, 0, 4, 0x4325));
	ck_assert_uint_eq(get(TSS3 + 0x0e, 2), 0x4325);
	ck_assert_uint_eq(get(TSS3 + 0x14, 2), 0x7777);
	ck_assert_uint_eq(get(TSS3 + 0x24, 2), CODE16);
	ck_assert_uint_eq(get(TSS3 + 0x2a, 2), 0); /* LDT is not written */
}
END_TEST

START_TEST(task_gate_delivers_double_fault)
{
	make_task32(TSS2, 0);
	idt(EXC_DF, SEL_TSS2, 0, GATE_TASK);
	idt(EXC_GP, 0, 0, 0);
	put(TSS2 + 0x64, 1, 2); /* T: trap on switch */
	deliver(EXC_GP, 0x10);
	ck_assert_uint_eq(cpu->tr.selector, SEL_TSS2);
	ck_assert_uint_eq(cpu->gpr[ESP], 0x5000 - 4);
	STACK_IS(4, 0);
	ck_assert_uint_eq(get(TSS + 0x20, 4), 0x1234);
	ck_assert_uint_eq(get(TSS2, 2), SEL_TSS);
	ck_assert_uint_eq(cpu->debug_hits, 1 << 15);
}
END_TEST

START_TEST(task_switch_to_v86)
{
	make_task32(TSS2, FLAG_VM | FLAG_IOPL);
	WORKS(far_jump(cpu, SEL_TSS2, 0, 4, 0));
	ck_assert(cpu_v86(cpu));
	ck_assert_uint_eq(cpu->cpl, 3);
	ck_assert_uint_eq(cpu->seg[CS].base, CODE0 << 4);
	ck_assert_uint_eq(cpu->seg[DS].attr, 0xf3);
}
END_TEST

START_TEST(task_switch_checks)
{
	gdt(SEL_TSS2, TSS2, 0x66, ACC_TSS32, 0);
	FAULTS(EXC_TS, SEL_TSS2, far_jump(cpu, SEL_TSS2, 0, 4, 0));
	gdt(SEL_TSS2, TSS2, 0x67, ACC_TSS32 & 0x7f, 0);
	FAULTS(EXC_NP, SEL_TSS2, far_jump(cpu, SEL_TSS2, 0, 4, 0));
	gdt(SEL_TSS2, TSS2, 0x67, ACC_TSS32, 0);
	enter_ring(3);
	FAULTS(EXC_GP, SEL_TSS2, far_jump(cpu, SEL_TSS2, 0, 4, 0));
	enter_ring(0);
	cpu->eflags |= FLAG_NT;
	put(TSS, SEL_TSS2, 2);
	FAULTS(EXC_TS, SEL_TSS2, interrupt_return(cpu, 4, 0)); /* not busy */
	cpu->eflags &= ~FLAG_NT;
	/* Bad segments are the new task's faults. */
	make_task32(TSS2, 0);
	put(TSS2 + 0x54, XO_CODE, 2);
	if (!sigsetjmp(env, 0)) {
		far_jump(cpu, SEL_TSS2, 0, 4, 0x1239);
		ck_abort();
	}
	ck_assert_int_eq(cpu->exc_vector, EXC_TS);
	ck_assert_uint_eq(cpu->exc_error, XO_CODE);
	cpu_deliver_raised(cpu);
	ck_assert_uint_eq(cpu->tr.selector, SEL_TSS2);
	STACK_IS(4, XO_CODE, 0x4321, CODE0, FLAG_RSVD1 | FLAG_RF);
}
END_TEST

/* ---- control registers, ports, CPUID, MSRs ---- */

START_TEST(control_register_checks)
{
	FAULTS(EXC_GP, 0, cpu_write_cr(cpu, 0, CR0_PG));
	FAULTS(EXC_GP, 0, cpu_write_cr(cpu, 0, CR0_PE | CR0_NW));
	FAULTS(EXC_GP, 0, cpu_write_cr(cpu, 4, CR4_VME));
	FAULTS(EXC_GP, 0, cpu_write_cr(cpu, 4, 1u << 20));
	FAULTS(EXC_UD, 0, cpu_write_cr(cpu, 1, 0));
	WORKS(cpu_write_cr(cpu, 4, CR4_PAE | CR4_PGE | CR4_OSFXSR));
	WORKS(cpu_write_cr(cpu, 3, PAGE_DIR));
	put(PAGE_DIR, 1 | 2, 8); /* reserved bit in a present PDPTE */
	FAULTS(EXC_GP, 0, cpu_write_cr(cpu, 0, cpu->cr0 | CR0_PG));
	ck_assert_uint_eq(cpu_read_cr(cpu, 0), CR0_PE | CR0_NE | CR0_ET);
	WORKS(cpu_write_dr(cpu, 7, UINT32_MAX & ~(1u << 13)));
	WORKS(ck_assert_uint_eq(cpu_read_dr(cpu, 5), 0xffff07ff));
	WORKS(cpu_write_cr(cpu, 4, CR4_DE));
	FAULTS(EXC_UD, 0, cpu_read_dr(cpu, 4));
}
END_TEST

START_TEST(port_permission)
{
	enter_ring(3);
	put(TSS + 0x66, 0x68, 2);
	put(TSS + 0x68 + 0x60 / 8, 0xfe, 1); /* ports 60..67: only 60 */
	WORKS(io_check(cpu, 0x60, 1));
	FAULTS(EXC_GP, 0, io_check(cpu, 0x60, 2));
	FAULTS(EXC_GP, 0, io_check(cpu, 0x5e, 4));
	WORKS(io_check(cpu, 0x5e, 2));
	FAULTS(EXC_GP, 0, io_check(cpu, 0xf8, 1)); /* beyond the map's last byte */
	cpu->eflags |= FLAG_IOPL;
	WORKS(io_check(cpu, 0xf8, 1));
	cpu->eflags |= FLAG_VM; /* virtual-8086 mode goes by the map alone */
	FAULTS(EXC_GP, 0, io_check(cpu, 0xf8, 1));
	cpu->eflags = FLAG_RSVD1;
	cpu->tr.attr = SEG_P | 3;
	FAULTS(EXC_GP, 0, io_check(cpu, 0x60, 1));
}
END_TEST

START_TEST(cpuid_and_msrs)
{
	uint32_t out[4];
	uint64_t v, t;
	char brand[49] = "";

	cpu_cpuid(cpu, 0, 0, out);
	ck_assert_uint_eq(out[0], 4);
	ck_assert(!memcmp(&out[1], "Genu", 4) && !memcmp(&out[3], "ineI", 4) &&
		  !memcmp(&out[2], "ntel", 4));
	for (unsigned i = 0; i < 3; i++)
		cpu_cpuid(cpu, 0x80000002 + i, 0, (uint32_t *)(brand + 16 * i));
	ck_assert_str_eq(brand, cpu->model->brand);
	ck_assert(!cpu_has(cpu, FEAT_SSE42));
	ck_assert_ptr_null(cpu_model_find("z80", NULL));
	ck_assert(cpu_wrmsr(cpu, 0x10, 1ull << 40));
	t = cpu_rdtsc(cpu);
	ck_assert(t >= 1ull << 40 && cpu_rdtsc(cpu) >= t);
	ck_assert(!cpu_rdmsr(cpu, 0x12345, &v) && !cpu_wrmsr(cpu, 0x12345, 0));
	ck_assert(!cpu_wrmsr(cpu, 0xc0000080, EFER_LME));
	ck_assert(cpu_wrmsr(cpu, 0xc0000080, EFER_NXE));
	ck_assert(!cpu_wrmsr(cpu, 0x277, 2)); /* PAT: no such type */
	ck_assert(!cpu_wrmsr(cpu, 0x201, 1ull << 36));
	ck_assert(cpu_wrmsr(cpu, 0x201, 0xfc0000800ull) && cpu_rdmsr(cpu, 0x201, &v));
	ck_assert_uint_eq(v, 0xfc0000800ull);
}
END_TEST

START_TEST(tsc_frequency_leaf)
{
	uint32_t out[4];
	uint64_t hz;

	cpu->model = cpu_model_find("max", NULL);
	cpu_cpuid(cpu, 0x15, 0, out);
	if (!cpu->invariant_tsc) {
		ck_assert_uint_eq(out[1], 0);
		return;
	}
	hz = (uint64_t)out[2] * out[1] / out[0];
	/* Linux computes in 32 bits. */
	ck_assert_uint_le((uint64_t)out[2] / 1000 * out[1], UINT32_MAX);
	ck_assert_uint_le(hz > cpu_tsc_hz(cpu) ? hz - cpu_tsc_hz(cpu) : cpu_tsc_hz(cpu) - hz,
			  cpu_tsc_hz(cpu) / 20000);
}
END_TEST

START_TEST(state_check)
{
	const char *field;

	ck_assert(cpu_state_check(cpu, &field));
	cpu->eflags |= FLAG_VM;
	ck_assert(!cpu_state_check(cpu, &field));
	ck_assert_str_eq(field, "cpl");
	cpu->cpl = 3;
	ck_assert(cpu_state_check(cpu, &field));
	cpu->cr0 &= ~CR0_PE;
	ck_assert(!cpu_state_check(cpu, &field));
	ck_assert_str_eq(field, "eflags");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("segment");

	CASE(s, "access", limits_of_expand_up_segments, limits_of_expand_down_segments,
	     types_and_null_are_checked_at_access, alignment_check_in_ring_3_only,
	     data_breakpoints_are_noted);
	CASE(s, "load", data_segment_privilege, stack_segment_rules,
	     loading_sets_the_accessed_bit, real_mode_keeps_limits, ldtr_and_tr,
	     lar_lsl_verr_verw);
	CASE(s, "far", far_jump_direct, far_call_and_return, call_gate_inward_copies_parameters,
	     call_gate_16_inward, call_gate_checks, far_return_checks);
	CASE(s, "task", task_call_and_iret, task_jump_to_16_bit_tss,
	     task_gate_delivers_double_fault, task_switch_to_v86, task_switch_checks);
	CASE(s, "system", control_register_checks, port_permission, cpuid_and_msrs,
	     tsc_frequency_leaf, state_check);
	return run_suite(s);
}
