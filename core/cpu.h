/* The guest CPU's state, and what the rest of the machine may do with it.
 *
 * Both engines work on this one struct. While recompiled code runs, some of it
 * (general registers, arithmetic flags, x87/SSE) lives in host registers; it is
 * complete whenever C code outside jit/ sees it, except where cpu->fpu_live
 * says that the x87/SSE image is still in the host's registers.
 *
 * Registers, bases and addresses are 64 bits wide so that long mode can come;
 * in the modes of today the upper halves are zero.
 *
 * Source for everything here: Intel SDM volumes 1-3.
 */
#ifndef GANNET_CORE_CPU_H
#define GANNET_CORE_CPU_H

#include <setjmp.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/device.h"
#include "core/error.h"

enum { EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI, GPR_COUNT };
enum { ES, CS, SS, DS, FS, GS, SREG_COUNT };

enum {
	FLAG_CF = 1u << 0,
	FLAG_RSVD1 = 1u << 1, /* always 1 */
	FLAG_PF = 1u << 2,
	FLAG_AF = 1u << 4,
	FLAG_ZF = 1u << 6,
	FLAG_SF = 1u << 7,
	FLAG_TF = 1u << 8,
	FLAG_IF = 1u << 9,
	FLAG_DF = 1u << 10,
	FLAG_OF = 1u << 11,
	FLAG_IOPL = 3u << 12,
	FLAG_NT = 1u << 14,
	FLAG_RF = 1u << 16,
	FLAG_VM = 1u << 17,
	FLAG_AC = 1u << 18,
	FLAG_VIF = 1u << 19,
	FLAG_VIP = 1u << 20,
	FLAG_ID = 1u << 21,
	FLAGS_ARITH = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF,
	FLAGS_ALL = FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT |
		    FLAG_RF | FLAG_VM | FLAG_AC | FLAG_VIF | FLAG_VIP | FLAG_ID,
};

enum {
	CR0_PE = 1u << 0, CR0_MP = 1u << 1, CR0_EM = 1u << 2, CR0_TS = 1u << 3,
	CR0_ET = 1u << 4, CR0_NE = 1u << 5, CR0_WP = 1u << 16, CR0_AM = 1u << 18,
	CR0_NW = 1u << 29, CR0_CD = 1u << 30, CR0_PG = 1u << 31,
};

enum {
	CR4_VME = 1u << 0, CR4_PVI = 1u << 1, CR4_TSD = 1u << 2, CR4_DE = 1u << 3,
	CR4_PSE = 1u << 4, CR4_PAE = 1u << 5, CR4_MCE = 1u << 6, CR4_PGE = 1u << 7,
	CR4_PCE = 1u << 8, CR4_OSFXSR = 1u << 9, CR4_OSXMMEXCPT = 1u << 10,
};

enum { EFER_SCE = 1u << 0, EFER_LME = 1u << 8, EFER_LMA = 1u << 10, EFER_NXE = 1u << 11 };

enum exception {
	EXC_DE = 0, EXC_DB = 1, EXC_NMI = 2, EXC_BP = 3, EXC_OF = 4, EXC_BR = 5,
	EXC_UD = 6, EXC_NM = 7, EXC_DF = 8, EXC_TS = 10, EXC_NP = 11, EXC_SS = 12,
	EXC_GP = 13, EXC_PF = 14, EXC_MF = 16, EXC_AC = 17, EXC_MC = 18, EXC_XM = 19,
};

/* Error code bits of a page fault, and the `access` argument of the MMU. */
enum {
	PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16,
};

/* The hidden part of a segment register. In real and virtual-8086 mode base is
 * selector << 4, limit 0xffff and attr SEG_ATTR_REAL_*. */
struct segment {
	uint64_t base;
	uint32_t limit;    /* in bytes, granularity applied */
	uint16_t selector;
	uint16_t attr;     /* descriptor bits 40-55: access byte, then AVL L D/B G in bits 12-15 */
};

enum {
	SEG_TYPE = 0xf,
	SEG_A = 1 << 0,    /* accessed */
	SEG_W = 1 << 1,    /* data: writable */
	SEG_R = 1 << 1,    /* code: readable */
	SEG_E = 1 << 2,    /* data: expand down */
	SEG_C = 1 << 2,    /* code: conforming */
	SEG_CODE = 1 << 3,
	SEG_S = 1 << 4,    /* code or data, not system */
	SEG_DPL_SHIFT = 5,
	SEG_DPL = 3 << 5,
	SEG_P = 1 << 7,
	SEG_AVL = 1 << 12,
	SEG_L = 1 << 13,
	SEG_DB = 1 << 14,
	SEG_G = 1 << 15,
};

/* Cached translations. Flat tables of 2^20 pages in sparse memory: the word of a
 * page is host address minus linear address of plain accessible memory, or 0
 * for "take the slow path" (absent, MMIO, page holding code for writes, ...).
 * Index [0] supervisor, [1] user. The table for writes follows the one for reads
 * directly: recompiled code reaches both from one register. See mmu.h. */
#define TLB_PAGES (1u << 20)

struct tlb {
	uint64_t *read[2];
	uint64_t *write[2];
	/* Code: RAM page + 1 that instructions at a linear page come from; 0: unknown. */
	uint32_t *exec[2];
	/* Pages filled since the last flush, so that a flush costs what was filled. */
	uint32_t *filled;        /* linear page numbers */
	uint32_t filled_count;
	uint32_t filled_max;
	uint8_t *page_state;     /* per linear page: which tables hold it; mmu.c */
};

/* x87, MMX and SSE registers as FXSAVE stores them (32-bit format). */
struct fpu_state {
	alignas(64) uint8_t fxsave[512];
};

#define CPU_ENGINE_AREA 1024

struct cpu;

/* How the CPU asks the interrupt controllers for a vector. */
struct cpu_intr_source {
	int (*acknowledge)(void *opaque); /* vector 0-255, or -1 if it went away */
	void *opaque;
};

struct cpu {
	/* ---- what recompiled code reads: offsets asserted in jit/ ---- */
	uint64_t gpr[GPR_COUNT];
	uint64_t eip;
	uint32_t eflags;     /* all of it; bit 1 set */
	uint32_t run;        /* 1: go on; 0: come out at the next poll. Atomic. */
	uint8_t cpl;         /* current privilege level; 3 in virtual-8086 mode */
	uint8_t shadow;      /* SHADOW_*: one instruction without interrupts */
	uint8_t halted;      /* HLT: wait for an interrupt */
	uint8_t fpu_live;    /* 1: x87/SSE state is in the host's registers (jit only) */
	uint8_t intr_line;   /* INTR as the interrupt controllers drive it */
	uint8_t nmi_pending;
	uint8_t nmi_blocked; /* until IRET */
	uint8_t fpu_foreign; /* 1: the image's FIP and FDP are the host's; see fpu_settle */
	/* What the engine keeps within reach of the register that points here. */
	alignas(64) uint8_t engine_area[CPU_ENGINE_AREA];
	struct fpu_state fpu;
	struct segment seg[SREG_COUNT];
	struct tlb tlb;

	/* ---- system state ---- */
	uint32_t cr0;
	uint64_t cr2;
	uint64_t cr3;
	uint32_t cr4;
	uint64_t dr[8];      /* DR4/5 unused */
	uint64_t efer;
	struct segment ldtr, tr;
	uint64_t gdtr_base, idtr_base;
	uint16_t gdtr_limit, idtr_limit;
	uint64_t pdpte[4];   /* PAE: loaded with CR3 */
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t apic_base;  /* MSR 0x1b */
	uint64_t pat;
	uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_var[16];
	uint64_t misc_enable;
	uint64_t mcg_status;
	uint64_t mc_bank[4][4]; /* MCi_CTL, STATUS, ADDR, MISC */
	uint64_t tsc_offset; /* guest TSC = host TSC + this */
	uint32_t a20_unused;

	/* ---- while an instruction executes ---- */
	uint64_t insn_eip;   /* where it starts: what a fault reports */
	sigjmp_buf *unwind;  /* where cpu_raise() goes; set by the engine that runs */
	int exc_vector;      /* what is being raised, read after the jump */
	uint32_t exc_error;
	bool exc_has_error;
	bool exc_soft;
	uint32_t debug_hits; /* DR6 bits to report after this instruction */
	uint8_t event_ext;   /* 1 while an interrupt or exception is delivered: EXT of error codes */

	/* ---- wiring ---- */
	const struct cpu_model *model;
	uint32_t features;     /* bit n: enum insn_feature n; the model's that the host has */
	bool invariant_tsc;    /* the host's TSC never stops or changes speed */
	uint64_t tsc_hz;       /* the host's TSC; 0 until it was asked for */
	uint64_t tsc_mark;     /* ... measured from this reading on */
	int64_t tsc_mark_ns;   /* CLOCK_MONOTONIC at tsc_mark */
	uint64_t tsc_saved;    /* guest TSC in a state image, in place of tsc_offset */
	/* Exceptions of the delivery under way, the first one first. */
	struct { uint32_t error; uint8_t vector; bool has_error; } fault_chain[4];
	unsigned fault_count;
	char fault_reason[128]; /* how the last triple fault came about; "" if none */
	struct cpu_intr_source intr;
	struct device *lapic;  /* borrowed; NULL without a local APIC */
	void (*apic_base_changed)(struct device *lapic); /* told of writes to MSR 0x1b; may be NULL */
	struct memory *memory;
	struct ioport_map *io;
	struct machine *machine;
	struct trace *trace;
	struct loop *loop;
	void *engine_data;     /* of the engine that runs this CPU */
	void (*fpu_settle)(void *engine_data); /* put the guest's FIP, FDP, FOP into an image that is fpu_foreign */
	/* Translations of code pages went: bit 0 for supervisor, bit 1 for user code.
	 * The engine drops what it derived from them. May be NULL. */
	void (*code_unmapped)(void *engine_data, unsigned rights);
	uint64_t insn_count;   /* instructions retired by the interpreter */
	uint64_t exceptions[32]; /* how often each was delivered */
	uint64_t interrupts;

	/* FERR#: an unmasked x87 exception while CR0.NE is 0. The board makes it
	 * IRQ 13 until port F0h is written. May be NULL. */
	void (*ferr)(void *opaque);
	void *ferr_opaque;
};

enum {
	SHADOW_STI = 1,    /* interrupts masked for one more instruction */
	SHADOW_MOV_SS = 2, /* ... and debug traps too */
};

/* ---- life ---- */
struct cpu *cpu_create(const char *model, struct machine *m, struct error *err);
void cpu_destroy(struct cpu *cpu);
/** cpu_reset - power-on state: CS:EIP f000:fff0 with base 0xffff0000 (SDM 3A 9.1.1) */
void cpu_reset(struct cpu *cpu);

/* ---- from the machine ---- */
/** cpu_kick - come out of guest code at the next poll; any thread */
static inline void cpu_kick(struct cpu *cpu)
{
	__atomic_store_n(&cpu->run, 0, __ATOMIC_RELEASE);
}
/** cpu_set_intr - level of the INTR pin; vCPU thread */
void cpu_set_intr(struct cpu *cpu, bool level);
void cpu_raise_nmi(struct cpu *cpu);

/**
 * cpu_service - deliver what is pending at an instruction boundary
 *
 * Debug traps of the last instruction, NMI, then INTR if IF and no shadow.
 * Clears `halted` when something woke the CPU. Called by engines with
 * cpu->unwind set; may raise.
 *
 * While `shadow` is set it delivers nothing (but debug traps under SHADOW_STI):
 * the engine then notes and clears `shadow`, executes exactly one instruction
 * (which may set it again) and calls once more. It never sets `run`:
 * machine_run() does, before it looks at the loop, so that a kick in between is
 * not lost.
 */
void cpu_service(struct cpu *cpu);

/* ---- exceptions ---- */
/** cpu_raise - abandon the current instruction with an exception; does not return.
 *  EIP of the report is cpu->insn_eip. Needs cpu->unwind. */
_Noreturn void cpu_raise(struct cpu *cpu, enum exception vector, uint32_t error_code);
/** cpu_raise_ne - the same for exceptions without an error code (also #UD, #NM, #DE...) */
_Noreturn void cpu_raise_ne(struct cpu *cpu, enum exception vector);
/**
 * cpu_deliver_raised - after unwinding: deliver cpu->exc_vector
 * Handles contributory faults (#DF) and the triple fault (asks the machine for
 * a reset or stops it). Itself unwinds through its own frame; returns with the
 * CPU at the handler's first instruction, or halted after a triple fault.
 */
void cpu_deliver_raised(struct cpu *cpu);
/**
 * cpu_interrupt - interrupt or exception through the IVT or IDT
 * @soft: INT n, INT3, INTO (checks the gate's DPL; EIP is the next instruction)
 * May cpu_raise().
 */
void cpu_interrupt(struct cpu *cpu, uint8_t vector, bool soft, bool has_error,
		   uint32_t error_code, uint64_t return_eip);

/* ---- modes ---- */
static inline bool cpu_protected(const struct cpu *cpu)
{
	return (cpu->cr0 & CR0_PE) && !(cpu->eflags & FLAG_VM);
}
static inline bool cpu_v86(const struct cpu *cpu) { return cpu->eflags & FLAG_VM; }
static inline bool cpu_code32(const struct cpu *cpu) { return cpu->seg[CS].attr & SEG_DB; }
static inline bool cpu_stack32(const struct cpu *cpu) { return cpu->seg[SS].attr & SEG_DB; }

/* ---- state images ---- */
extern const struct state_field cpu_fields[];
/** cpu_state_prepare - before the fields are saved: what depends on the host (TSC) */
void cpu_state_prepare(struct cpu *cpu);
/** cpu_state_check - can a CPU be in this state? false: *field names what is impossible */
bool cpu_state_check(const struct cpu *cpu, const char **field);
/** cpu_state_loaded - after the fields were set: derived state */
void cpu_state_loaded(struct cpu *cpu);

/** cpu_dump - registers as text for a person, e.g. at a triple fault; returns length */
size_t cpu_dump(const struct cpu *cpu, char *buf, size_t size);

#endif
