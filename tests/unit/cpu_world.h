/* A small protected-mode world for tests: tables in guest memory, no engine.
 *
 * set_up() makes a CPU in ring 0 of flat segments, with one descriptor of each
 * kind, a TSS with stacks for rings 0 and 1, and 32-bit interrupt gates for the
 * exceptions. WORKS() and FAULTS() call what an instruction would call. Error
 * codes are selectors without RPL, plus EXT (1) and IDT (2).
 */
#ifndef GANNET_TESTS_CPU_WORLD_H
#define GANNET_TESTS_CPU_WORLD_H

#include <check.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/cpuid.h"
#include "core/machine.h"
#include "core/memory.h"
#include "core/mmu.h"
#include "core/segment.h"
#include "core/util.h"

/* Where things stand in guest memory; linear is physical unless a test pages. */
enum {
	GDT = 0x1000, IDT = 0x2000, TSS = 0x3000, LDT = 0x4000, TSS2 = 0x5000, TSS3 = 0x5800,
	STACK0 = 0x8000, STACK1 = 0x9000, STACK2 = 0x9800, STACK3 = 0xa000, HANDLER = 0x6000,
	V86_CS = 0x700, V86_SS = 0x720, PAGE_DIR = 0x10000, PAGE_TABLE = 0x11000,
};

/* Selectors, RPL 0. */
enum {
	CODE0 = 0x08, DATA0 = 0x10, CODE3 = 0x18, DATA3 = 0x20, SEL_TSS = 0x28, CODE1 = 0x30,
	DATA1 = 0x38, CONF0 = 0x40, SEL_LDT = 0x48, SPARE = 0x50, SPARE2 = 0x58, SEL_TSS2 = 0x60,
	SEL_TSS3 = 0x68, CODE16 = 0x70, DATA16 = 0x78, RO_DATA = 0x80, XO_CODE = 0x88,
	DOWN = 0x90, CODE2 = 0x98, DATA2 = 0xa0, SEL_GATE = 0xa8, GDT_END = 0xb0,
};

/* Access bytes. */
enum {
	ACC_CODE = 0x9a, ACC_DATA = 0x92, ACC_CONF = 0x9e, ACC_LDT = 0x82, ACC_TSS32 = 0x89,
	ACC_TSS16 = 0x81, ACC_DPL3 = 0x60, ACC_DPL1 = 0x20, ACC_DPL2 = 0x40,
	GATE_TASK = 0x85, GATE_CALL16 = 0x84, GATE_INT16 = 0x86, GATE_TRAP16 = 0x87,
	GATE_CALL32 = 0x8c, GATE_INT32 = 0x8e, GATE_TRAP32 = 0x8f,
};
enum { G4K = 8, BIG = 4 }; /* descriptor flags: granularity, D/B */

static struct machine machine;
static struct cpu *cpu;
static sigjmp_buf env;
static int next_vector; /* what the interrupt controller would answer */

static void put(uint32_t at, uint64_t v, unsigned size)
{
	memory_write(machine.memory, at, v, size);
}

static uint32_t get(uint32_t at, unsigned size)
{
	return memory_read(machine.memory, at, size);
}

static void descriptor(uint32_t at, uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
	put(at, (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
			(uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 |
			(uint64_t)(base >> 24) << 56, 8);
}

static void gdt(unsigned selector, uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
	descriptor(GDT + selector, base, limit, access, flags);
}

static void gate(uint32_t at, unsigned selector, uint32_t offset, unsigned access, unsigned params)
{
	put(at, (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)params << 32 |
			(uint64_t)access << 40 | (uint64_t)(offset >> 16) << 48, 8);
}

static void idt(unsigned vector, unsigned selector, uint32_t offset, unsigned access)
{
	gate(IDT + 8 * vector, selector, offset, access, 0);
}

static int acknowledge(void *opaque) { return next_vector; }

/* Put the CPU into ring @cpl of the flat world. */
static void enter_ring(unsigned cpl)
{
	static const uint16_t code[] = { CODE0, CODE1, CODE2, CODE3 };
	static const uint16_t data[] = { DATA0, DATA1, DATA2, DATA3 };
	static const uint32_t stack[] = { STACK0, STACK1, STACK2, STACK3 };

	cpu->seg[CS] = (struct segment){
		0, UINT32_MAX, code[cpl] | cpl, 0xc09b | cpl << SEG_DPL_SHIFT,
	};
	for (unsigned i = 0; i < SREG_COUNT; i++) {
		if (i != CS)
			cpu->seg[i] = (struct segment){
				0, UINT32_MAX, data[cpl] | cpl, 0xc093 | cpl << SEG_DPL_SHIFT,
			};
	}
	cpu->cpl = cpl;
	cpu->gpr[ESP] = stack[cpl] - 0x100;
	cpu->eip = cpu->insn_eip = 0x1234;
}

static void set_up(void)
{
	struct error err = { "" };

	memset(&machine, 0, sizeof(machine));
	machine.no_reboot = true;
	machine.memory = memory_create(1 * MIB, 1 * MIB, &machine.trace, &err);
	ck_assert_msg(machine.memory != NULL, "%s", err.text);
	memory_add_ram(machine.memory, 0, 1 * MIB, 0, MEMORY_RAM, 0, "ram");
	cpu = machine.cpu = cpu_create("core2", &machine, &err);
	ck_assert_msg(cpu != NULL, "%s", err.text);
	cpu->unwind = &env;
	cpu->intr.acknowledge = acknowledge;

	gdt(CODE0, 0, 0xfffff, ACC_CODE, G4K | BIG);
	gdt(DATA0, 0, 0xfffff, ACC_DATA, G4K | BIG);
	gdt(CODE1, 0, 0xfffff, ACC_CODE | ACC_DPL1, G4K | BIG);
	gdt(DATA1, 0, 0xfffff, ACC_DATA | ACC_DPL1, G4K | BIG);
	gdt(CODE2, 0, 0xfffff, ACC_CODE | ACC_DPL2, G4K | BIG);
	gdt(DATA2, 0, 0xfffff, ACC_DATA | ACC_DPL2, G4K | BIG);
	gdt(CODE3, 0, 0xfffff, ACC_CODE | ACC_DPL3, G4K | BIG);
	gdt(DATA3, 0, 0xfffff, ACC_DATA | ACC_DPL3, G4K | BIG);
	gdt(CONF0, 0, 0xfffff, ACC_CONF, G4K | BIG);
	gdt(CODE16, 0, 0xffff, ACC_CODE, 0);
	gdt(DATA16, 0, 0xffff, ACC_DATA, 0);
	gdt(RO_DATA, 0, 0xfffff, 0x90, G4K | BIG);
	gdt(XO_CODE, 0, 0xfffff, 0x98, G4K | BIG);
	gdt(DOWN, 0, 0xfff, 0x96, BIG);
	gdt(SEL_LDT, LDT, 0xff, ACC_LDT, 0);
	gdt(SEL_TSS, TSS, 0x67 + 0x20, ACC_TSS32, 0);
	gdt(SEL_TSS2, TSS2, 0x67, ACC_TSS32, 0);
	gdt(SEL_TSS3, TSS3, 0x2b, ACC_TSS16, 0);
	put(TSS + 4, STACK0, 4);
	put(TSS + 8, DATA0, 4);
	put(TSS + 0xc, STACK1, 4);
	put(TSS + 0x10, DATA1 | 1, 4);
	cpu->gdtr_base = GDT;
	cpu->gdtr_limit = GDT_END - 1;
	cpu->idtr_base = IDT;
	cpu->idtr_limit = 0x40 * 8 - 1;
	cpu_write_cr(cpu, 0, CR0_PE | CR0_NE);
	enter_ring(0);
	seg_load_tr(cpu, SEL_TSS);
	seg_load_ldtr(cpu, SEL_LDT);
	for (unsigned v = 0; v < 32; v++)
		idt(v, CODE0, HANDLER + v, GATE_INT32);
}

static void tear_down(void)
{
	cpu_destroy(cpu);
	memory_destroy(machine.memory);
}

#define WORKS(...) \
	do { \
		if (sigsetjmp(env, 0)) \
			ck_abort_msg("unexpected exception %d (%x)", cpu->exc_vector, \
				     cpu->exc_error); \
		cpu->unwind = &env; \
		__VA_ARGS__; \
	} while (0)

#define FAULTS(vector, code, ...) \
	do { \
		struct cpu before_ = *cpu; \
		if (!sigsetjmp(env, 0)) { \
			cpu->unwind = &env; \
			__VA_ARGS__; \
			ck_abort_msg("no exception"); \
		} \
		ck_assert_int_eq(cpu->exc_vector, vector); \
		ck_assert_uint_eq(cpu->exc_error, code); \
		ck_assert(cpu_unchanged(&before_)); \
	} while (0)

/* A fault must leave no trace in registers. */
static bool cpu_unchanged(const struct cpu *b)
{
	return !memcmp(cpu->gpr, b->gpr, sizeof(b->gpr)) && cpu->eip == b->eip &&
	       cpu->eflags == b->eflags && cpu->cpl == b->cpl && cpu->cr0 == b->cr0 &&
	       cpu->cr3 == b->cr3 && cpu->cr4 == b->cr4 &&
	       !memcmp(cpu->seg, b->seg, sizeof(b->seg)) &&
	       !memcmp(&cpu->tr, &b->tr, sizeof(b->tr)) &&
	       !memcmp(&cpu->ldtr, &b->ldtr, sizeof(b->ldtr)) && cpu->event_ext == 0;
}

/* Raise @vector as an instruction would, and let it be delivered. */
static void deliver(unsigned vector, uint32_t code)
{
	if (!sigsetjmp(env, 0)) {
		cpu->unwind = &env;
		cpu_raise(cpu, vector, code);
	}
	cpu_deliver_raised(cpu);
	ck_assert_ptr_eq(cpu->unwind, &env);
}

static void check_stack(unsigned n, const uint32_t *expect, unsigned size)
{
	for (unsigned i = 0; i < n; i++)
		ck_assert_msg(get(cpu->seg[SS].base + cpu->gpr[ESP] + i * size, size) == expect[i],
			      "stack[%u] is %x, expected %x", i,
			      get(cpu->seg[SS].base + cpu->gpr[ESP] + i * size, size), expect[i]);
}
#define STACK_IS(size, ...) \
	check_stack(sizeof((uint32_t[]){ __VA_ARGS__ }) / 4, (uint32_t[]){ __VA_ARGS__ }, size)

/* A suite of cases, each with the world set up anew for every test. */
static void add_case(Suite *s, const char *name, const TTest *const *tests, size_t count)
{
	TCase *t = tcase_create(name);

	tcase_add_checked_fixture(t, set_up, tear_down);
	for (size_t i = 0; i < count; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
}
#define CASE(s, name, ...) \
	add_case(s, name, (const TTest *const[]){ __VA_ARGS__ }, \
		 sizeof((const TTest *const[]){ __VA_ARGS__ }) / sizeof(TTest *))

static int run_suite(Suite *s)
{
	SRunner *sr = srunner_create(s);
	int failed;

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
