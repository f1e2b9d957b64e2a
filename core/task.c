/* Hardware task switching, between TSSs of 16 and 32 bits.
 *
 * SDM 3A chapter 7. Until the new state is loaded nothing of the old task is
 * lost: everything that may page-fault is read or probed first. From the commit
 * on, faults belong to the new task, whose segments are then loaded one by one.
 */
#include "core/mmu.h"
#include "core/segment.h"
#include "core/segment_priv.h"
#include "core/trace.h"

enum {
	TSS32_SIZE = 104, TSS16_SIZE = 44,
	TSS_LINK = 0,
	TSS32_CR3 = 0x1c, TSS32_EIP = 0x20, TSS32_EFLAGS = 0x24, TSS32_GPR = 0x28,
	TSS32_SREG = 0x48, TSS32_LDT = 0x60, TSS32_TRAP = 0x64,
	TSS16_IP = 0x0e, TSS16_FLAGS = 0x10, TSS16_GPR = 0x12, TSS16_SREG = 0x22,
	TSS16_LDT = 0x2a,
	/* L0-L3 and LE: breakpoints of one task only. */
	DR7_LOCAL = 0x155,
};

/* What a TSS holds of a task. */
struct task_state {
	uint32_t eip, eflags, cr3;
	uint32_t gpr[GPR_COUNT];
	uint16_t sreg[SREG_COUNT]; /* in the order ES CS SS DS FS GS, as in the TSS */
	uint16_t ldt;
	bool wide;                 /* 32-bit TSS */
	bool trap;
};

static void parse_tss(const uint8_t *raw, bool wide, struct task_state *t)
{
	*t = (struct task_state){ .wide = wide };
	if (!wide) {
		t->eip = load_le16(raw + TSS16_IP);
		t->eflags = load_le16(raw + TSS16_FLAGS);
		for (unsigned i = 0; i < GPR_COUNT; i++)
			t->gpr[i] = load_le16(raw + TSS16_GPR + 2 * i) | 0xffff0000u;
		for (unsigned i = 0; i < 4; i++)
			t->sreg[i] = load_le16(raw + TSS16_SREG + 2 * i);
		t->ldt = load_le16(raw + TSS16_LDT);
		return;
	}
	t->eip = load_le32(raw + TSS32_EIP);
	t->eflags = load_le32(raw + TSS32_EFLAGS);
	t->cr3 = load_le32(raw + TSS32_CR3);
	for (unsigned i = 0; i < GPR_COUNT; i++)
		t->gpr[i] = load_le32(raw + TSS32_GPR + 4 * i);
	for (unsigned i = 0; i < SREG_COUNT; i++)
		t->sreg[i] = load_le16(raw + TSS32_SREG + 4 * i);
	t->ldt = load_le16(raw + TSS32_LDT);
	t->trap = raw[TSS32_TRAP] & 1;
}

/* Linear range of the dynamic fields of the current TSS. */
static uint32_t dynamic_start(const struct cpu *cpu, unsigned *len)
{
	if (cpu->tr.attr & SYS_32BIT) {
		*len = TSS32_SREG + 4 * SREG_COUNT - TSS32_EIP;
		return cpu->tr.base + TSS32_EIP;
	}
	*len = TSS16_SREG + 2 * 4 - TSS16_IP;
	return cpu->tr.base + TSS16_IP;
}

static void save_task(struct cpu *cpu, uint32_t eip, uint32_t eflags)
{
	uint8_t raw[TSS32_SIZE] = { 0 };
	unsigned len;
	uint32_t start = dynamic_start(cpu, &len);

	/* Upper halves of the selector fields are written as zeros. */
	if (cpu->tr.attr & SYS_32BIT) {
		store_le32(raw, eip);
		store_le32(raw + 4, eflags);
		for (unsigned i = 0; i < GPR_COUNT; i++)
			store_le32(raw + 8 + 4 * i, cpu->gpr[i]);
		for (unsigned i = 0; i < SREG_COUNT; i++)
			store_le16(raw + TSS32_SREG - TSS32_EIP + 4 * i, cpu->seg[i].selector);
	} else {
		store_le16(raw, eip);
		store_le16(raw + 2, eflags);
		for (unsigned i = 0; i < GPR_COUNT; i++)
			store_le16(raw + 4 + 2 * i, cpu->gpr[i]);
		for (unsigned i = 0; i < 4; i++)
			store_le16(raw + TSS16_SREG - TSS16_IP + 2 * i, cpu->seg[i].selector);
	}
	mmu_write_bytes(cpu, start, raw, len, 0);
}

/* The descriptor of the TSS to switch to, checked. */
static void fetch_tss(struct cpu *cpu, uint16_t selector, bool back, struct descriptor *d)
{
	enum exception bad = back ? EXC_TS : EXC_GP;
	unsigned type;

	if (selector_null(selector) || (selector & 4))
		raise_selector(cpu, bad, selector);
	desc_fetch_or(cpu, selector, d, bad);
	type = desc_type(d) & ~SYS_32BIT;
	if (!desc_is_system(d) || type != (back ? SYS_TSS16_BUSY : SYS_TSS16))
		raise_selector(cpu, bad, selector);
	if (!desc_present(d))
		raise_selector(cpu, EXC_NP, selector);
	if (desc_limit(d) < (desc_type(d) & SYS_32BIT ? TSS32_SIZE : TSS16_SIZE) - 1)
		raise_selector(cpu, EXC_TS, selector);
}

static void load_task_ldt(struct cpu *cpu, uint16_t selector)
{
	struct descriptor d;

	if (selector_null(selector))
		return;
	if (selector & 4)
		raise_selector(cpu, EXC_TS, selector);
	desc_fetch_or(cpu, selector, &d, EXC_TS);
	if (!desc_is_system(&d) || desc_type(&d) != SYS_LDT || !desc_present(&d))
		raise_selector(cpu, EXC_TS, selector);
	desc_to_segment(&d, selector, &cpu->ldtr);
}

static void load_task_code(struct cpu *cpu, uint16_t selector)
{
	unsigned rpl = selector & 3;
	struct descriptor d;

	if (selector_null(selector))
		raise_selector(cpu, EXC_TS, 0);
	desc_fetch_or(cpu, selector, &d, EXC_TS);
	if (!desc_is_code(&d) ||
	    (desc_is_conforming(&d) ? desc_dpl(&d) > rpl : desc_dpl(&d) != rpl))
		raise_selector(cpu, EXC_TS, selector);
	if (!desc_present(&d))
		raise_selector(cpu, EXC_NP, selector);
	desc_mark_accessed(cpu, &d);
	desc_to_segment(&d, selector, &cpu->seg[CS]);
}

static void load_task_data(struct cpu *cpu, unsigned seg, uint16_t selector)
{
	struct descriptor d;

	if (selector_null(selector))
		return;
	desc_fetch_or(cpu, selector, &d, EXC_TS);
	if (desc_is_system(&d) || (desc_type(&d) & (SEG_CODE | SEG_R)) == SEG_CODE)
		raise_selector(cpu, EXC_TS, selector);
	if (!desc_is_conforming(&d) &&
	    ((selector & 3u) > desc_dpl(&d) || cpu->cpl > desc_dpl(&d)))
		raise_selector(cpu, EXC_TS, selector);
	if (!desc_present(&d))
		raise_selector(cpu, EXC_NP, selector);
	desc_mark_accessed(cpu, &d);
	desc_to_segment(&d, selector, &cpu->seg[seg]);
}

/* Segments of the new task; faults are the new task's. */
static void load_segments(struct cpu *cpu, const struct task_state *t)
{
	struct segment ss;

	if (cpu_v86(cpu)) {
		load_task_ldt(cpu, t->ldt);
		for (unsigned i = 0; i < SREG_COUNT; i++)
			seg_load_real(cpu, i, t->sreg[i]);
		return;
	}
	load_task_ldt(cpu, t->ldt);
	load_task_code(cpu, t->sreg[CS]);
	desc_check_stack(cpu, t->sreg[SS], cpu->cpl, EXC_TS, &ss);
	cpu->seg[SS] = ss;
	load_task_data(cpu, DS, t->sreg[DS]);
	load_task_data(cpu, ES, t->sreg[ES]);
	load_task_data(cpu, FS, t->sreg[FS]);
	load_task_data(cpu, GS, t->sreg[GS]);
}

/* Registers of the new task. Segment registers get their selectors, unusable. */
static void commit_task(struct cpu *cpu, const struct task_state *t)
{
	for (unsigned i = 0; i < GPR_COUNT; i++)
		cpu->gpr[i] = t->gpr[i];
	for (unsigned i = 0; i < SREG_COUNT; i++)
		segment_set_null(&cpu->seg[i], t->sreg[i]);
	segment_set_null(&cpu->ldtr, t->ldt);
	cpu->eip = t->eip;
	cpu->insn_eip = t->eip;
	cpu->cr0 |= CR0_TS;
	cpu->dr[7] &= ~(uint64_t)DR7_LOCAL;
	cpu_set_eflags(cpu, t->eflags, FLAGS_ALL);
	cpu->cpl = cpu_v86(cpu) ? 3 : t->sreg[CS] & 3;
	cpu->shadow = 0;
}

static void switch_page_tables(struct cpu *cpu, uint16_t selector, uint32_t cr3)
{
	if (!(cpu->cr0 & CR0_PG))
		return;
	if ((cpu->cr4 & CR4_PAE) && !mmu_load_pdptes(cpu, cr3))
		raise_selector(cpu, EXC_TS, selector);
	cpu->cr3 = cr3;
	mmu_flush(cpu, false);
}

/**
 * task_switch - leave this task, enter the one of TSS @selector
 * @selector: its descriptor is checked here; the privilege to use it is the caller's check
 * @has_error, @error_code: pushed on the new task's stack (TASK_GATE_INT)
 * @next_eip: where this task goes on when it is switched back to
 */
void task_switch(struct cpu *cpu, uint16_t selector, enum task_source source,
		 bool has_error, uint32_t error_code, uint32_t next_eip)
{
	bool back = source == TASK_IRET;
	bool nested = source == TASK_CALL || source == TASK_GATE_INT;
	uint16_t old_selector = cpu->tr.selector;
	uint32_t old_eflags = cpu->eflags;
	struct descriptor new_tss, old_tss;
	uint8_t raw[TSS32_SIZE];
	struct task_state t;
	uint32_t start;
	unsigned len;

	fetch_tss(cpu, selector, back, &new_tss);
	if (trace_on(cpu->trace, TRACE_INT))
		trace_print(cpu->trace, TRACE_INT, "task switch %04x -> %04x by %s, eip %08x",
			    old_selector, selector,
			    back ? "iret" : source == TASK_JMP ? "jmp"
				 : source == TASK_CALL ? "call" : "interrupt", next_eip);
	len = desc_type(&new_tss) & SYS_32BIT ? TSS32_SIZE : TSS16_SIZE;
	mmu_read_bytes(cpu, desc_base(&new_tss), raw, len, 0);
	parse_tss(raw, len == TSS32_SIZE, &t);

	/* The old TSS must take the state, and its descriptor the busy bit. */
	if (!(cpu->tr.attr & SEG_P))
		raise_selector(cpu, EXC_TS, old_selector);
	start = dynamic_start(cpu, &len);
	mmu_probe_write(cpu, start, len, 0);
	mmu_probe_write(cpu, new_tss.linear + 5, 1, 0);
	if (nested)
		mmu_probe_write(cpu, desc_base(&new_tss) + TSS_LINK, 2, 0);
	if (!nested) {
		/* An image may hold any TR: without a descriptor there is no busy bit. */
		desc_fetch_or(cpu, old_selector, &old_tss, EXC_TS);
		desc_set_busy(cpu, &old_tss, false);
	}
	if (back)
		old_eflags &= ~FLAG_NT;
	save_task(cpu, next_eip, old_eflags);

	if (nested) {
		mmu_write(cpu, desc_base(&new_tss) + TSS_LINK, old_selector, 2, 0);
		t.eflags |= FLAG_NT;
	}
	if (!back)
		desc_set_busy(cpu, &new_tss, true);
	desc_to_segment(&new_tss, selector, &cpu->tr);
	cpu->tr.attr |= SYS_TSS_BUSY_BIT;
	commit_task(cpu, &t);
	if (t.wide)
		switch_page_tables(cpu, selector, t.cr3);
	load_segments(cpu, &t);
	if (has_error) {
		struct stack st;

		stack_of_cpu(cpu, &st);
		stack_push(cpu, &st, error_code, t.wide ? 4 : 2);
		stack_commit(cpu, &st);
	}
	if (t.eip > cpu->seg[CS].limit)
		raise_selector(cpu, EXC_GP, 0);
	if (t.trap) {
		cpu->debug_hits |= DR6_TASK;
		cpu_kick(cpu);
	}
}
