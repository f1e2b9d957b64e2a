/* The CPU as a part: life, pins, exceptions on their way, state table, dump.
 *
 * SDM 3A 9.1 (reset), 6.9 (priority among events), 6.15 "Interrupt 8" and table
 * 6-5 (double fault), 6.8 (what masks interrupts).
 */
#include "core/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpuid.h"
#include "core/interp_simd.h"
#include "core/machine.h"
#include "core/mmu.h"
#include "core/segment.h"
#include "core/segment_priv.h"

/* ---- life ---- */

struct cpu *cpu_create(const char *model, struct machine *m, struct error *err)
{
	const struct cpu_model *found = cpu_model_find(model, err);
	struct cpu *cpu;

	if (!found)
		return NULL;
	if (posix_memalign((void **)&cpu, alignof(struct cpu), sizeof(*cpu))) {
		error_set(err, "out of memory for a CPU");
		return NULL;
	}
	memset(cpu, 0, sizeof(*cpu));
	cpu->model = found;
	cpu->features = found->features & cpu_host_features();
	cpu->invariant_tsc = cpu_host_invariant_tsc();
	cpu_tsc_start(cpu);
	cpu->machine = m;
	cpu->memory = m->memory;
	cpu->io = m->io;
	cpu->loop = m->loop;
	cpu->trace = &m->trace;
	if (!mmu_init(cpu, err)) {
		free(cpu);
		return NULL;
	}
	cpu_reset(cpu);
	return cpu;
}

void cpu_destroy(struct cpu *cpu)
{
	if (!cpu)
		return;
	mmu_finish(cpu);
	free(cpu);
}

void cpu_reset(struct cpu *cpu)
{
	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->gpr[EDX] = cpu->model->signature;
	cpu->eip = 0xfff0;
	cpu->eflags = FLAG_RSVD1;
	cpu->cpl = 0;
	cpu->shadow = 0;
	cpu->halted = 0;
	cpu->nmi_pending = 0;
	cpu->nmi_blocked = 0;
	for (unsigned i = 0; i < SREG_COUNT; i++)
		cpu->seg[i] = (struct segment){ .limit = 0xffff, .attr = SEG_ATTR_REAL };
	cpu->seg[CS].selector = 0xf000;
	cpu->seg[CS].base = 0xffff0000;
	cpu->ldtr = (struct segment){ .limit = 0xffff, .attr = SEG_P | SYS_LDT };
	cpu->tr = (struct segment){ .limit = 0xffff, .attr = SEG_P | SYS_TSS32_BUSY };
	cpu->gdtr_base = cpu->idtr_base = 0;
	cpu->gdtr_limit = cpu->idtr_limit = 0xffff;
	fpu_reset(cpu);

	cpu->cr0 = CR0_CD | CR0_NW | CR0_ET;
	cpu->cr2 = cpu->cr3 = 0;
	cpu->cr4 = 0;
	memset(cpu->dr, 0, sizeof(cpu->dr));
	cpu->dr[6] = 0xffff0ff0;
	cpu->dr[7] = 0x400;
	memset(cpu->pdpte, 0, sizeof(cpu->pdpte));
	cpu_reset_msrs(cpu);

	cpu->debug_hits = 0;
	cpu->event_ext = 0;
	cpu->fault_reason[0] = '\0';
	mmu_flush(cpu, true);
	cpu_kick(cpu);
}

/* ---- pins ---- */

void cpu_set_intr(struct cpu *cpu, bool level)
{
	cpu->intr_line = level;
	/* With IF off nothing happens now; what sets IF looks at the line. */
	if (level && (cpu->eflags & FLAG_IF))
		cpu_kick(cpu);
}

void cpu_raise_nmi(struct cpu *cpu)
{
	cpu->nmi_pending = 1;
	cpu_kick(cpu);
}

/* One event at an instruction boundary: the next instruction has not begun. */
static void deliver_between(struct cpu *cpu, uint8_t vector)
{
	cpu->halted = 0;
	cpu->insn_eip = cpu->eip;
	cpu_interrupt(cpu, vector, false, false, 0, cpu->eip);
}

/* DR6 takes the reason; DR7.GD goes off so that the handler can read it. */
static void note_debug_event(struct cpu *cpu)
{
	cpu->dr[6] |= cpu->debug_hits;
	cpu->dr[7] &= ~(uint64_t)DR7_DETECT;
	cpu->debug_hits = 0;
}

void cpu_service(struct cpu *cpu)
{
	if (cpu->debug_hits && !(cpu->shadow & SHADOW_MOV_SS)) {
		note_debug_event(cpu);
		cpu->exceptions[EXC_DB]++;
		deliver_between(cpu, EXC_DB);
	}
	if (cpu->shadow)
		return;
	if (cpu->nmi_pending && !cpu->nmi_blocked) {
		cpu->nmi_pending = 0;
		cpu->nmi_blocked = 1;
		cpu->exceptions[EXC_NMI]++;
		deliver_between(cpu, EXC_NMI);
	}
	if (cpu->intr_line && (cpu->eflags & FLAG_IF) && cpu->intr.acknowledge) {
		int vector = cpu->intr.acknowledge(cpu->intr.opaque);

		if (vector >= 0) {
			cpu->interrupts++;
			deliver_between(cpu, vector);
		}
	}
	/* Through a trap gate the next one may follow at once. */
	if ((cpu->intr_line && (cpu->eflags & FLAG_IF)) ||
	    (cpu->nmi_pending && !cpu->nmi_blocked))
		cpu_kick(cpu);
}

/* ---- exceptions ---- */

static bool has_error_code(unsigned vector)
{
	return vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC;
}

static _Noreturn void raise_event(struct cpu *cpu, unsigned vector, bool has_error, uint32_t error_code)
{
	cpu->exc_vector = vector;
	cpu->exc_has_error = has_error;
	cpu->exc_error = error_code;
	cpu->exc_soft = false;
	cpu->event_ext = 0;
	/* The instruction did not happen, and so neither did what it touched. */
	if (vector != EXC_DB)
		cpu->debug_hits = 0;
	siglongjmp(*cpu->unwind, 1);
}

_Noreturn void cpu_raise(struct cpu *cpu, enum exception vector, uint32_t error_code)
{
	raise_event(cpu, vector, has_error_code(vector), error_code);
}

_Noreturn void cpu_raise_ne(struct cpu *cpu, enum exception vector)
{
	raise_event(cpu, vector, false, 0);
}

enum fault_class { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE, CLASS_DOUBLE };

static enum fault_class fault_class(unsigned vector)
{
	switch (vector) {
	case EXC_DE:
	case EXC_TS:
	case EXC_NP:
	case EXC_SS:
	case EXC_GP:
		return CLASS_CONTRIBUTORY;
	case EXC_PF:
		return CLASS_PAGE;
	case EXC_DF:
		return CLASS_DOUBLE;
	default:
		return CLASS_BENIGN;
	}
}

static const char *exception_name(unsigned vector)
{
	static const char *const names[] = {
		"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9",
		"#TS", "#NP", "#SS", "#GP", "#PF", "15", "#MF", "#AC", "#MC", "#XM",
	};

	return vector < ARRAY_SIZE(names) ? names[vector] : "?";
}

static void note_fault(struct cpu *cpu)
{
	unsigned n = cpu->fault_count;

	if (n == ARRAY_SIZE(cpu->fault_chain))
		return;
	cpu->fault_chain[n].vector = cpu->exc_vector;
	cpu->fault_chain[n].error = cpu->exc_error;
	cpu->fault_chain[n].has_error = cpu->exc_has_error;
	cpu->fault_count++;
}

static void explain_faults(struct cpu *cpu)
{
	size_t used = 0;

	for (unsigned i = 0; i < cpu->fault_count && used < sizeof(cpu->fault_reason); i++) {
		char *at = cpu->fault_reason + used;
		size_t room = sizeof(cpu->fault_reason) - used;
		const char *name = exception_name(cpu->fault_chain[i].vector);

		if (cpu->fault_chain[i].has_error)
			used += snprintf(at, room, "%s%s(%04x)", i ? ", then " : "", name,
					 cpu->fault_chain[i].error);
		else
			used += snprintf(at, room, "%s%s", i ? ", then " : "", name);
	}
}

/* Shutdown (SDM 3A 6.15, interrupt 8): PC boards answer it with a reset. */
static void triple_fault(struct cpu *cpu)
{
	struct machine *m = cpu->machine;
	char text[2048];

	cpu->halted = 1;
	explain_faults(cpu);
	if (trace_on(cpu->trace, TRACE_INT)) {
		cpu_dump(cpu, text, sizeof(text));
		trace_print(cpu->trace, TRACE_INT, "triple fault\n%s", text);
	}
	if (m->no_reboot)
		machine_end_with(m, MACHINE_TRIPLE_FAULT, 0);
	else
		machine_request_reset(m);
}

/* RF in the pushed EFLAGS keeps an instruction breakpoint from being hit again
 * when the faulting instruction is restarted (SDM 3B 17.3.1.1). */
static void set_resume_flag(struct cpu *cpu)
{
	enum { BREAKPOINTS = 15 };

	if (cpu->exc_vector == EXC_DB && (cpu->debug_hits & BREAKPOINTS))
		return;
	cpu->eflags |= FLAG_RF;
}

void cpu_deliver_raised(struct cpu *cpu)
{
	/* Each round is graver than the last or benign; the bound is for benign ones. */
	enum { ROUNDS = 8 };
	volatile int previous = -1;
	volatile unsigned rounds = 0;
	sigjmp_buf *outer = cpu->unwind;
	sigjmp_buf here;

	cpu->fault_count = 0;
	sigsetjmp(here, 0);
	/* Here with each exception: the one we were called for, and then those
	 * that its delivery raises. */
	cpu->unwind = &here;
	cpu->eip = cpu->insn_eip;
	note_fault(cpu);
	if (previous >= 0) {
		enum fault_class first = fault_class(previous);
		enum fault_class second = fault_class(cpu->exc_vector);

		if ((first == CLASS_DOUBLE && second != CLASS_BENIGN) || ++rounds > ROUNDS) {
			cpu->unwind = outer;
			triple_fault(cpu);
			return;
		}
		if ((first == CLASS_CONTRIBUTORY && second == CLASS_CONTRIBUTORY) ||
		    (first == CLASS_PAGE && second != CLASS_BENIGN)) {
			cpu->exc_vector = EXC_DF;
			cpu->exc_has_error = true;
			cpu->exc_error = 0;
		}
	}
	previous = cpu->exc_vector;
	cpu->exceptions[cpu->exc_vector & 31]++;
	set_resume_flag(cpu);
	if (cpu->exc_vector == EXC_DB)
		note_debug_event(cpu);
	cpu_interrupt(cpu, cpu->exc_vector, false, cpu->exc_has_error, cpu->exc_error, cpu->eip);
	cpu->unwind = outer;
}

/* ---- state images ---- */

#define CPU_UINT(f) STATE_UINT(struct cpu, f)
#define CPU_UINT_MAX(f, m) STATE_UINT_MAX(struct cpu, f, m)
#define CPU_MASKED(f, m) STATE_UINT_MASKED(struct cpu, f, m)
#define CPU_ARRAY(f) STATE_ARRAY(struct cpu, f)
#define CPU_SEGMENT(s) \
	CPU_UINT_MAX(s.base, UINT32_MAX), CPU_UINT(s.limit), CPU_UINT(s.selector), \
	CPU_MASKED(s.attr, 0xf0ff)

const struct state_field cpu_fields[] = {
	{ "gpr", offsetof(struct cpu, gpr), STATE_TYPE_UINT, 8, GPR_COUNT, UINT32_MAX, UINT32_MAX },
	CPU_UINT_MAX(eip, UINT32_MAX),
	CPU_MASKED(eflags, FLAGS_ALL | FLAG_RSVD1),
	CPU_UINT_MAX(cpl, 3),
	CPU_UINT_MAX(shadow, SHADOW_STI | SHADOW_MOV_SS),
	CPU_UINT_MAX(halted, 1),
	CPU_UINT_MAX(intr_line, 1),
	CPU_UINT_MAX(nmi_pending, 1),
	CPU_UINT_MAX(nmi_blocked, 1),
	CPU_SEGMENT(seg[ES]),
	CPU_SEGMENT(seg[CS]),
	CPU_SEGMENT(seg[SS]),
	CPU_SEGMENT(seg[DS]),
	CPU_SEGMENT(seg[FS]),
	CPU_SEGMENT(seg[GS]),
	STATE_BYTES(struct cpu, fpu.fxsave),
	CPU_MASKED(cr0, CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM |
				CR0_NW | CR0_CD | CR0_PG),
	CPU_UINT_MAX(cr2, UINT32_MAX),
	CPU_UINT_MAX(cr3, UINT32_MAX),
	CPU_MASKED(cr4, 0x7ff & ~(CR4_VME | CR4_PVI)),
	{ "dr", offsetof(struct cpu, dr), STATE_TYPE_UINT, 8, 8, UINT32_MAX, UINT32_MAX },
	CPU_MASKED(efer, EFER_SCE | EFER_NXE),
	CPU_SEGMENT(ldtr),
	CPU_SEGMENT(tr),
	CPU_UINT_MAX(gdtr_base, UINT32_MAX),
	CPU_UINT(gdtr_limit),
	CPU_UINT_MAX(idtr_base, UINT32_MAX),
	CPU_UINT(idtr_limit),
	CPU_ARRAY(pdpte),
	CPU_UINT_MAX(sysenter_cs, 0xffff),
	CPU_UINT_MAX(sysenter_esp, UINT32_MAX),
	CPU_UINT_MAX(sysenter_eip, UINT32_MAX),
	CPU_MASKED(apic_base, 0xffffff900),
	CPU_UINT(pat),
	CPU_MASKED(mtrr_def_type, 0xcff),
	CPU_ARRAY(mtrr_fixed),
	CPU_ARRAY(mtrr_var),
	CPU_UINT(misc_enable),
	CPU_UINT_MAX(mcg_status, 7),
	{ "mc_bank", offsetof(struct cpu, mc_bank), STATE_TYPE_UINT, 8, 16, UINT64_MAX, UINT64_MAX },
	CPU_UINT(tsc_saved),
	CPU_MASKED(debug_hits, 0xe00f),
	STATE_END,
};

void cpu_state_prepare(struct cpu *cpu)
{
	cpu->tsc_saved = cpu_rdtsc(cpu);
}

bool cpu_state_check(const struct cpu *cpu, const char **field)
{
	bool pe = cpu->cr0 & CR0_PE;

	*field = NULL;
	if (!(cpu->eflags & FLAG_RSVD1) || ((cpu->eflags & FLAG_VM) && !pe))
		*field = "eflags";
	else if ((!pe && cpu->cpl != 0) || ((cpu->eflags & FLAG_VM) && cpu->cpl != 3))
		*field = "cpl";
	else if (((cpu->cr0 & CR0_PG) && !pe) || ((cpu->cr0 & CR0_NW) && !(cpu->cr0 & CR0_CD)) ||
		 !(cpu->cr0 & CR0_ET))
		*field = "cr0";
	else if (load_le32(cpu->fpu.fxsave + 24) & ~0xffffu)
		*field = "fpu.fxsave"; /* MXCSR: loading reserved bits would fault the host */
	return !*field;
}

void cpu_state_loaded(struct cpu *cpu)
{
	cpu_set_tsc(cpu, cpu->tsc_saved);
	cpu->event_ext = 0;
	mmu_flush(cpu, true);
	cpu_kick(cpu);
}

/* ---- dump ---- */

static size_t dump_segment(const char *name, const struct segment *s, char *buf, size_t size)
{
	int n = snprintf(buf, size, "%-4s %04x base %08x limit %08x attr %04x%s\n", name,
			 s->selector, (uint32_t)s->base, s->limit, s->attr,
			 s->attr & SEG_P ? "" : " (unusable)");

	return MIN((size_t)n, size - 1);
}

size_t cpu_dump(const struct cpu *cpu, char *buf, size_t size)
{
	static const char *const names[SREG_COUNT] = { "ES", "CS", "SS", "DS", "FS", "GS" };
	const uint64_t *r = cpu->gpr;
	size_t used = 0;

#define PUT(...) \
	do { \
		int n_ = snprintf(buf + used, size - used, __VA_ARGS__); \
		used += MIN((size_t)n_, size - used - 1); \
	} while (0)

	if (!size)
		return 0;
	if (cpu->fault_reason[0])
		PUT("fault: %s\n", cpu->fault_reason);
	PUT("EAX %08x ECX %08x EDX %08x EBX %08x\n", (uint32_t)r[EAX], (uint32_t)r[ECX],
	    (uint32_t)r[EDX], (uint32_t)r[EBX]);
	PUT("ESP %08x EBP %08x ESI %08x EDI %08x\n", (uint32_t)r[ESP], (uint32_t)r[EBP],
	    (uint32_t)r[ESI], (uint32_t)r[EDI]);
	PUT("EIP %08x EFLAGS %08x CPL %u%s%s\n", (uint32_t)cpu->eip, cpu->eflags, cpu->cpl,
	    cpu->halted ? " halted" : "",
	    !(cpu->cr0 & CR0_PE) ? " real mode" : cpu_v86(cpu) ? " virtual-8086 mode" : "");
	for (unsigned i = 0; i < SREG_COUNT; i++)
		used += dump_segment(names[i], &cpu->seg[i], buf + used, size - used);
	used += dump_segment("LDTR", &cpu->ldtr, buf + used, size - used);
	used += dump_segment("TR", &cpu->tr, buf + used, size - used);
	PUT("GDTR %08x limit %04x IDTR %08x limit %04x\n", (uint32_t)cpu->gdtr_base,
	    cpu->gdtr_limit, (uint32_t)cpu->idtr_base, cpu->idtr_limit);
	PUT("CR0 %08x CR2 %08x CR3 %08x CR4 %08x EFER %08x\n", cpu->cr0, (uint32_t)cpu->cr2,
	    (uint32_t)cpu->cr3, cpu->cr4, (uint32_t)cpu->efer);
	PUT("DR0 %08x DR1 %08x DR2 %08x DR3 %08x DR6 %08x DR7 %08x\n", (uint32_t)cpu->dr[0],
	    (uint32_t)cpu->dr[1], (uint32_t)cpu->dr[2], (uint32_t)cpu->dr[3],
	    (uint32_t)cpu->dr[6], (uint32_t)cpu->dr[7]);
#undef PUT
	return used;
}
