/* The guest legs: a machine of our own, with nothing in it but RAM.
 *
 * Ring 3, flat segments with Linux's selectors, PAE paging with NX: the same
 * pages at the same linear addresses and with the same rights as in the host
 * leg. All 256 gates of the IDT lead to ring 0, where OUT stops the engine and
 * HLT waits; which gate it was follows from EIP, the rest from the stack frame.
 */
#include "tests/insn/legs.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/cpu.h"
#include "core/cpuid.h"
#include "core/engine.h"
#include "core/ioport.h"
#include "core/machine.h"
#include "core/memory.h"
#include "core/mmu.h"
#include "core/util.h"

/* The system's own pages, where no case will find them. */
#define SYS_BASE 0xf1230000u

enum {
	SYS_PAGES = 5,
	SYS_GDT = 0,
	SYS_LDT = 0x100,
	SYS_IDT = 0x800,
	SYS_TSS = 0x1000,
	SYS_HANDLERS = 0x2000, /* 16 bytes each */
	SYS_STACK_TOP = 0x5000,
	GDT_BYTES = 128,       /* as long as Linux's */
	SEL_KERNEL_CODE = 0x08,
	SEL_KERNEL_DATA = 0x18,
	SEL_TSS = 0x40,
	SEL_LDT = 0x50,
	STOP_PORT = 0xf4,
	/* physical */
	PHYS_PDPT = 0x1000,
	PHYS_PD = 0x2000,
	PHYS_PT = 0x6000,
	PHYS_ARENA = 0x100000,
	PHYS_CODE = 0x200000,
	PHYS_SYS = 0x300000,
	PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40,
};

#define PTE_NX (1ull << 63)

struct guest_leg {
	struct machine *m;
	uint8_t *ram;
	unsigned tables;          /* page tables handed out */
	timer_t timer;
	bool has_timer;
	volatile sig_atomic_t ticks;
	uint64_t background_seed;
	bool has_background;
	uint8_t background[ARENA_SIZE];
	uint8_t code[CODE_PAGES * PAGE]; /* what the code pages should hold */
};

/* ---- making the machine ---- */

static void map_page(struct guest_leg *g, uint32_t linear, uint32_t phys, uint64_t bits)
{
	uint8_t *pde = g->ram + PHYS_PD + (linear >> 30) * PAGE + (linear >> 21 & 511) * 8;

	if (!load_le64(pde))
		store_le64(pde, (PHYS_PT + g->tables++ * PAGE) | PTE_P | PTE_W | PTE_U | PTE_A);
	store_le64(g->ram + (load_le64(pde) & ~0xfffull) + (linear >> 12 & 511) * 8,
		   phys | bits | PTE_P | PTE_A | PTE_D);
}

static void map_pages(struct guest_leg *g, uint32_t linear, unsigned pages, uint32_t phys, uint64_t bits)
{
	for (unsigned i = 0; i < pages; i++)
		map_page(g, linear + i * PAGE, phys + i * PAGE, bits);
}

static void gdt_set(struct guest_leg *g, unsigned selector, uint64_t value)
{
	store_le64(g->ram + PHYS_SYS + SYS_GDT + (selector & ~7u), value);
}

static uint64_t ldt_descriptor(const struct ldt_segment *s)
{
	uint64_t type = (uint64_t)(!s->read_only << 1 | s->contents << 2 | 1);

	return (s->limit & 0xffff) | (uint64_t)(s->base & 0xffffff) << 16 |
	       (type | 0xf0) << 40 | (uint64_t)(s->limit >> 16 & 15) << 48 |
	       (uint64_t)s->wide << 54 | (uint64_t)(s->base >> 24) << 56;
}

static void make_tables(struct guest_leg *g, bool low)
{
	uint8_t *sys = g->ram + PHYS_SYS;
	uint64_t tss = SYS_BASE + SYS_TSS;

	for (unsigned i = 0; i < 4; i++)
		store_le64(g->ram + PHYS_PDPT + 8 * i, (PHYS_PD + i * PAGE) | PTE_P);
	if (low)
		map_pages(g, LOW_BASE, LOW_PAGES, PHYS_ARENA + ARENA_LOW, PTE_W | PTE_U | PTE_NX);
	map_pages(g, CODE_BASE, CODE_PAGES, PHYS_CODE, PTE_W | PTE_U);
	map_pages(g, DATA_BASE, DATA_PAGES - 1, PHYS_ARENA + ARENA_DATA, PTE_W | PTE_U | PTE_NX);
	map_page(g, DATA_BASE + (DATA_PAGES - 1) * PAGE,
		 PHYS_ARENA + ARENA_DATA + (DATA_PAGES - 1) * PAGE, PTE_U | PTE_NX);
	map_pages(g, STACK_BASE, STACK_PAGES, PHYS_ARENA + ARENA_STACK, PTE_W | PTE_U | PTE_NX);
	map_pages(g, SYS_BASE, SYS_PAGES, PHYS_SYS, PTE_W);

	/* Linux's layout, so that selectors mean the same */
	gdt_set(g, SEL_KERNEL_CODE, 0x00cf9b000000ffff);
	gdt_set(g, 0x10, 0x00af9b000000ffff);
	gdt_set(g, SEL_KERNEL_DATA, 0x00cf93000000ffff);
	gdt_set(g, SEL_CODE, 0x00cffb000000ffff);
	gdt_set(g, SEL_DATA, 0x00cff3000000ffff);
	gdt_set(g, 0x30, 0x00affb000000ffff);
	gdt_set(g, 0x78, 0x0040f50000000000);
	gdt_set(g, SEL_TSS, 0x67 | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24) << 56);

	for (unsigned i = 0; i < LDT_COUNT; i++)
		store_le64(sys + SYS_LDT + 8 * i, ldt_descriptor(&case_ldt[i]));
	store_le32(sys + SYS_TSS + 4, SYS_BASE + SYS_STACK_TOP);
	store_le16(sys + SYS_TSS + 8, SEL_KERNEL_DATA);
	store_le16(sys + SYS_TSS + 102, 104); /* no I/O bitmap */

	for (unsigned v = 0; v < 256; v++) {
		uint32_t handler = SYS_BASE + SYS_HANDLERS + 16 * v;
		uint8_t *gate = sys + SYS_IDT + 8 * v, *h = sys + SYS_HANDLERS + 16 * v;
		static const uint8_t code[] = { 0xe6, STOP_PORT, 0xf4, 0xeb, 0xfd };

		store_le16(gate, handler);
		store_le16(gate + 2, SEL_KERNEL_CODE);
		store_le16(gate + 4, v == 3 || v == 4 ? 0xee00 : 0x8e00);
		store_le16(gate + 6, handler >> 16);
		memcpy(h, code, sizeof(code));
	}
}

static void stop_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct guest_leg *g = opaque;

	(void)port;
	(void)value;
	(void)size;
	cpu_kick(g->m->cpu);
}

static const struct ioport_ops stop_ops = { .write = stop_write };

static void guest_tick(int sig, siginfo_t *info, void *arg)
{
	struct guest_leg *g = info->si_value.sival_ptr;

	(void)sig;
	(void)arg;
	if (++g->ticks >= 3)
		cpu_kick(g->m->cpu);
}

static bool make_timer(struct guest_leg *g)
{
	struct sigaction sa = { .sa_sigaction = guest_tick, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2,
			       .sigev_value.sival_ptr = g };
	struct itimerspec every = { { 0, 200000000 }, { 0, 200000000 } };

	sigaction(SIGUSR2, &sa, NULL);
	if (timer_create(CLOCK_MONOTONIC, &ev, &g->timer))
		return false;
	g->has_timer = true;
	return !timer_settime(g->timer, 0, &every, NULL);
}

static void system_state(struct guest_leg *g)
{
	struct cpu *cpu = g->m->cpu;

	cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	cpu->efer = EFER_NXE;
	cpu->cr3 = PHYS_PDPT;
	mmu_load_pdptes(cpu, cpu->cr3);
	cpu->gdtr_base = SYS_BASE + SYS_GDT;
	cpu->gdtr_limit = GDT_BYTES - 1;
	cpu->idtr_base = SYS_BASE + SYS_IDT;
	cpu->idtr_limit = 256 * 8 - 1;
	cpu->tr = (struct segment){ .base = SYS_BASE + SYS_TSS, .limit = 0x67,
				    .selector = SEL_TSS, .attr = 0x8b };
	cpu->ldtr = (struct segment){ .base = SYS_BASE + SYS_LDT, .limit = LDT_COUNT * 8 - 1,
				      .selector = SEL_LDT, .attr = 0x82 };
	mmu_flush(cpu, true);
}

struct guest_leg *guest_leg_create(const char *engine, bool low, struct error *err)
{
	struct machine_config cfg = { .ram_size = 16 * MIB, .rom_size = 0, .engine = engine };
	struct guest_leg *g = calloc(1, sizeof(*g));

	if (!g) {
		error_set(err, "out of memory");
		return NULL;
	}
	g->m = machine_create(&cfg, err);
	if (!g->m)
		goto fail;
	if (!memory_add_ram(g->m->memory, 0, 16 * MIB, 0, MEMORY_RAM, 0, "ram") ||
	    !ioport_add(g->m->io, STOP_PORT, 1, &stop_ops, g, "stop")) {
		error_set(err, "guest leg: RAM or port refused");
		goto fail;
	}
	g->ram = memory_host(g->m->memory);
	memset(g->ram + PHYS_CODE, 0xcc, sizeof(g->code));
	make_tables(g, low);
	system_state(g);
	if (!make_timer(g)) {
		error_set(err, "guest leg: no timer");
		goto fail;
	}
	return g;
fail:
	guest_leg_destroy(g);
	return NULL;
}

void guest_leg_destroy(struct guest_leg *g)
{
	if (!g)
		return;
	if (g->has_timer)
		timer_delete(g->timer);
	machine_destroy(g->m);
	free(g);
}

bool guest_leg_has(const struct guest_leg *g, enum insn_feature f)
{
	return cpu_has(g->m->cpu, f);
}

/* ---- running a case ---- */

static void set_segment(struct cpu *cpu, unsigned n, uint16_t selector)
{
	const struct ldt_segment *s = &case_ldt[selector >> 3 < LDT_COUNT ? selector >> 3 : 0];
	struct segment *out = &cpu->seg[n];

	*out = (struct segment){ .limit = 0xffffffff, .selector = selector,
				 .attr = selector == SEL_CODE ? 0xc0fb : 0xc0f3 };
	if (!(selector & 4))
		return;
	out->base = s->base;
	out->limit = s->limit;
	out->attr = (uint16_t)(ldt_descriptor(s) >> 40 & 0xf0ff);
}

static void prepare(struct guest_leg *g, const struct test_case *c)
{
	struct cpu *cpu = g->m->cpu;

	/* Through the memory's own door, and only what changes: that is how a
	 * recompiler learns that code was replaced. The case may have done so too. */
	for (unsigned i = 0; i < sizeof(g->code); i += 16)
		if (memcmp(g->code + i, g->ram + PHYS_CODE + i, 16))
			memory_write_bytes(g->m->memory, PHYS_CODE + i, g->code + i, 16);
	memcpy(g->ram + PHYS_ARENA, g->background, ARENA_SIZE);
	arena_poke(c, g->ram + PHYS_ARENA);
	/* descriptors and IDT may have been written by a privilege mistake: no matter */
	for (unsigned i = 0; i < 8; i++)
		cpu->gpr[i] = c->gpr[i];
	cpu->eflags = c->eflags;
	cpu->eip = cpu->insn_eip = case_entry_eip(c);
	for (unsigned i = 0; i < SREG_COUNT; i++)
		set_segment(cpu, i, case_selectors[c->mode][i]);
	cpu->cpl = 3;
	cpu->cr2 = 0;
	cpu->cr0 &= ~CR0_TS;
	cpu->halted = 0;
	cpu->shadow = 0;
	cpu->debug_hits = 0;
	memcpy(cpu->fpu.fxsave, c->fx, FX_SIZE);
	cpu->fpu_foreign = 0;
	g->m->end = MACHINE_RUNNING;
	g->ticks = 0;
}

static bool run_once(struct guest_leg *g, const struct test_case *c)
{
	struct cpu *cpu = g->m->cpu;

	prepare(g, c);
	for (;;) {
		if (g->ticks >= 3 || g->m->end != MACHINE_RUNNING)
			return false;
		__atomic_store_n(&cpu->run, 1, __ATOMIC_SEQ_CST);
		g->m->engine->ops->run(g->m->engine);
		if (cpu->cpl == 0 && cpu->eip - SYS_BASE - SYS_HANDLERS < 256 * 16)
			return true;
		if (cpu->halted)
			return false;
	}
}

static bool has_error_code(unsigned vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

static void take_state(struct guest_leg *g, struct test_result *r)
{
	struct cpu *cpu = g->m->cpu;
	const uint8_t *frame = g->ram + PHYS_SYS + SYS_STACK_TOP - 20;

	r->vector = (uint32_t)(cpu->eip - SYS_BASE - SYS_HANDLERS) / 16;
	r->error = has_error_code(r->vector) ? load_le32(frame - 4) : 0;
	r->cr2 = (uint32_t)cpu->cr2;
	for (unsigned i = 0; i < 8; i++)
		r->gpr[i] = (uint32_t)cpu->gpr[i];
	r->eip = load_le32(frame);
	r->eflags = load_le32(frame + 8);
	r->gpr[ESP] = load_le32(frame + 12);
	for (unsigned i = 0; i < SREG_COUNT; i++)
		r->sreg[i] = cpu->seg[i].selector;
	r->sreg[CS] = load_le16(frame + 4);
	r->sreg[SS] = load_le16(frame + 16);
	if (cpu->fpu_foreign)
		cpu->fpu_settle(cpu->engine_data);
	memcpy(r->fx, cpu->fpu.fxsave, FX_SIZE);
	memcpy(r->arena, g->ram + PHYS_ARENA, ARENA_SIZE);
}

void guest_leg_run(struct guest_leg *g, const struct test_case *c, unsigned times,
		   struct test_result *r)
{
	bool ended = false;

	if (!g->has_background || g->background_seed != c->memory_seed) {
		arena_background(c->memory_seed, g->background);
		g->background_seed = c->memory_seed;
		g->has_background = true;
	}
	case_code_pages(c, g->code);
	for (unsigned i = 0; i < times; i++) {
		ended = run_once(g, c);
		if (!ended)
			break;
	}
	r->outcome = ended ? OUTCOME_EXCEPTION : g->ticks >= 3 ? OUTCOME_TIMEOUT : OUTCOME_DIED;
	if (ended)
		take_state(g, r);
}
