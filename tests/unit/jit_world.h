/* A small machine for tests of engines: flat protected mode, paging at hand.
 *
 * A test is a piece of guest code between GUEST() and what it leaves behind. It
 * runs at CODE in ring 0 until it writes to PORT_END, or until an exception or
 * interrupt that has no handler of its own: run() returns its vector.
 *
 * PORT_CALL calls the test's own function, on the vCPU thread, in the middle of
 * whatever runs.
 */
#ifndef GANNET_TESTS_JIT_WORLD_H
#define GANNET_TESTS_JIT_WORLD_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/engine.h"
#include "core/ioport.h"
#include "core/loop.h"
#include "core/machine.h"
#include "core/memory.h"
#include "core/mmu.h"
#include "core/segment.h"
#include "core/util.h"
#include "jit/jit_priv.h"

/* Guest memory; the guest's code has its own copy of some of these numbers. */
enum {
	GDT = 0x1000, IDT = 0x2000, TSS = 0x3000, STUBS = 0x6000, CODE = 0x10000, STACK = 0x40000,
	STACK_RING0 = 0x44000, STACK_RING3 = 0x48000, DATA = 0x50000, PAGE_DIR = 0x60000,
	PAGE_TABLES = 0x61000, PAGE_DIR2 = 0x70000, PAGE_TABLES2 = 0x71000,
	FRAME_A = 0x100000, FRAME_B = 0x101000, RAM = 8 << 20,
	MAPPED = 16 << 20, /* paged tests: linear = physical below; page tables up to here */
	WINDOW = 0xc00000, /* linear, not mapped until a test does */
};
enum { CODE0 = 0x08, DATA0 = 0x10, CODE3 = 0x18, DATA3 = 0x20, SEL_TSS = 0x28 };
enum { PORT_END = 0xf4, PORT_CALL = 0xf8 };
enum { NORMAL = -1 };

/* Guest code in AT&T syntax, 32-bit. `at_NAME LABEL, REGISTER` loads a label's
 * address in the guest; NAME + (0xc00000 - 0x10000) is a branch to 0xc00000. */
#define GUEST(name, ...) \
	extern const uint8_t name[], name##_end[]; \
	__asm__(".pushsection .rodata\n.code32\n.balign 16\n" #name ":\n" \
		".macro at_" #name " l, r\n movl $(\\l - " #name " + 0x10000), \\r\n .endm\n" \
		__VA_ARGS__ "\n" #name "_end:\n.code64\n.popsection\n")

struct world {
	struct machine *m;
	struct cpu *cpu;
	struct jit *jit; /* NULL under the interpreter */
	uint8_t *ram;
	int vector;      /* that ended the run */
	int next_vector; /* what the interrupt controller answers */
	unsigned calls;
	void (*call)(struct world *w, uint32_t value);
};

static const char *const engines[] = { "interp", "jit" };
enum { ENGINES = 2 };

static void put32(struct world *w, uint32_t at, uint32_t v) { store_le32(w->ram + at, v); }
static uint32_t get32(struct world *w, uint32_t at) { return load_le32(w->ram + at); }
static uint32_t reg(struct world *w, unsigned r) { return (uint32_t)w->cpu->gpr[r]; }
#define ck_reg(w, r, v) ck_assert_uint_eq(reg(w, r), (uint32_t)(v))
/* What an exception left on the stack. */
static uint32_t stacked(struct world *w, unsigned n) { return get32(w, reg(w, ESP) + 4 * n); }

static void descriptor(struct world *w, unsigned selector, uint32_t base, uint32_t limit,
		       unsigned access, unsigned flags)
{
	store_le64(w->ram + GDT + selector,
		   (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
			   (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 |
			   (uint64_t)(base >> 24) << 56);
}

static void gate(struct world *w, unsigned vector, uint32_t offset)
{
	store_le64(w->ram + IDT + 8 * vector,
		   (offset & 0xffff) | (uint64_t)CODE0 << 16 | (uint64_t)0xee << 40 |
			   (uint64_t)(offset >> 16) << 48);
}

static void port_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct world *w = opaque;
	uint32_t eip = (uint32_t)w->cpu->insn_eip;

	(void)size;
	if (port == PORT_CALL) {
		w->calls++;
		w->call(w, value);
		return;
	}
	w->vector = eip - STUBS < 256 * 16 ? (int)((eip - STUBS) / 16) : NORMAL;
	machine_end_with(w->m, MACHINE_DEBUG_EXIT, 0);
}

static const struct ioport_ops port_ops = { .write = port_write, .sizes = 1 | 2 | 4 };

static int acknowledge(void *opaque)
{
	struct world *w = opaque;

	cpu_set_intr(w->cpu, false);
	return w->next_vector;
}

static void flat(struct world *w)
{
	struct cpu *cpu = w->cpu;

	cpu->cpl = 0;
	for (int i = 0; i < SREG_COUNT; i++)
		cpu->seg[i] = (struct segment){ 0, UINT32_MAX, i == CS ? CODE0 : DATA0,
						i == CS ? 0xc09b : 0xc093 };
	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->gpr[ESP] = STACK;
	cpu->eip = CODE;
	cpu->eflags = FLAG_RSVD1;
	cpu->halted = cpu->shadow = 0;
}

static struct world *world_create(int engine)
{
	const struct machine_config cfg = { .ram_size = RAM, .engine = engines[engine] };
	struct world *w = calloc(1, sizeof(*w));
	struct error err = { "" };

	ck_assert_ptr_nonnull(w);
	w->m = machine_create(&cfg, &err);
	ck_assert_msg(w->m != NULL, "%s", err.text);
	memory_add_ram(w->m->memory, 0, RAM, 0, MEMORY_RAM, 0, "ram");
	w->m->no_reboot = true;
	w->ram = memory_host(w->m->memory);
	w->cpu = w->m->cpu;
	w->jit = engine ? w->cpu->engine_data : NULL;
	w->cpu->intr = (struct cpu_intr_source){ acknowledge, w };
	w->next_vector = 0x20;
	ioport_add(w->m->io, PORT_END, 8, &port_ops, w, "test");
	descriptor(w, CODE0, 0, 0xfffff, 0x9b, 0xc);
	descriptor(w, DATA0, 0, 0xfffff, 0x93, 0xc);
	descriptor(w, CODE3, 0, 0xfffff, 0xfb, 0xc);
	descriptor(w, DATA3, 0, 0xfffff, 0xf3, 0xc);
	descriptor(w, SEL_TSS, TSS, 0x67, 0x8b, 0);
	put32(w, TSS + 4, STACK_RING0);
	put32(w, TSS + 8, DATA0);
	for (unsigned v = 0; v < 256; v++) {
		gate(w, v, STUBS + 16 * v);
		put32(w, STUBS + 16 * v, 0xf4 << 16 | PORT_END << 8 | 0xe7); /* out; hlt */
	}
	w->cpu->gdtr_base = GDT;
	w->cpu->gdtr_limit = 0x2f;
	w->cpu->idtr_base = IDT;
	w->cpu->idtr_limit = 0x7ff;
	w->cpu->tr = (struct segment){ TSS, 0x67, SEL_TSS, 0x8b };
	w->cpu->cr0 = CR0_PE | CR0_ET | CR0_NE;
	w->cpu->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
	flat(w);
	return w;
}

static void world_destroy(struct world *w)
{
	machine_destroy(w->m);
	free(w);
}

/* Go on from CS:EIP. */
static int go_on(struct world *w)
{
	w->m->end = MACHINE_RUNNING;
	w->vector = -2;
	machine_run(w->m);
	ck_assert_msg(w->vector != -2, "ended by itself, %d at %08x: %s", w->m->end,
		      (uint32_t)w->cpu->eip, w->cpu->fault_reason);
	return w->vector;
}

static int run_at(struct world *w, uint32_t address, const uint8_t *code, const uint8_t *end)
{
	memory_write_bytes(w->m->memory, address, code, (size_t)(end - code));
	flat(w);
	w->cpu->eip = address;
	return go_on(w);
}
#define RUN(w, name) run_at(w, CODE, name, name##_end)

/* ---- paging: the first 16 MiB but for the window are mapped to themselves ---- */

static void map_in(struct world *w, uint32_t tables, uint32_t linear, uint32_t entry)
{
	put32(w, tables + (linear >> 12) * 4, entry);
}
static void map(struct world *w, uint32_t linear, uint32_t entry)
{
	map_in(w, PAGE_TABLES, linear, entry);
}

static void paging_on(struct world *w)
{
	for (unsigned i = 0; i < MAPPED >> 22; i++) {
		put32(w, PAGE_DIR + 4 * i, (PAGE_TABLES + i * 4096) | 7);
		put32(w, PAGE_DIR2 + 4 * i, (PAGE_TABLES2 + i * 4096) | 7);
	}
	for (uint32_t at = 0; at < RAM; at += 4096) {
		map_in(w, PAGE_TABLES, at, at | 7);
		map_in(w, PAGE_TABLES2, at, at | 7);
	}
	w->cpu->cr3 = PAGE_DIR;
	w->cpu->cr0 |= CR0_PG | CR0_WP;
	mmu_flush(w->cpu, true);
}

static void add_tests(Suite *s, const char *name, const TTest *const *tests, size_t count)
{
	TCase *t = tcase_create(name);

	tcase_set_timeout(t, 60);
	for (size_t i = 0; i < count; i++)
		tcase_add_loop_test(t, tests[i], 0, ENGINES);
	suite_add_tcase(s, t);
}
#define CASE(s, name, ...) \
	add_tests(s, name, (const TTest *const[]){ __VA_ARGS__ }, \
		  sizeof((const TTest *const[]){ __VA_ARGS__ }) / sizeof(TTest *))

#endif
