/* What the files about segments, gates, interrupts and tasks share.
 *
 * All of them follow one order: read and check everything, push on a stack that
 * is not yet the CPU's, and only then commit, so that a fault on the way leaves
 * the CPU as it was before the instruction.
 */
#ifndef GANNET_CORE_SEGMENT_PRIV_H
#define GANNET_CORE_SEGMENT_PRIV_H

#include "core/cpu.h"

/* Types of system descriptors (SDM 3A table 3-2). */
enum {
	SYS_TSS16 = 1, SYS_LDT = 2, SYS_TSS16_BUSY = 3, SYS_CALL16 = 4,
	SYS_TASK_GATE = 5, SYS_INT16 = 6, SYS_TRAP16 = 7, SYS_TSS32 = 9,
	SYS_TSS32_BUSY = 11, SYS_CALL32 = 12, SYS_INT32 = 14, SYS_TRAP32 = 15,
	SYS_TSS_BUSY_BIT = 2, /* tells a busy TSS from an available one */
	SYS_32BIT = 8,        /* tells a 32-bit TSS or gate from a 16-bit one */
};

/* DR7: any of L0-G3. DR6 bits beyond the four breakpoints. */
enum { DR7_ENABLES = 0xff, DR7_DETECT = 1 << 13, DR6_DETECT = 1 << 13, DR6_TASK = 1 << 15 };

/* Access bytes of segments that no descriptor describes. */
enum {
	SEG_ATTR_REAL = SEG_P | SEG_S | SEG_W | SEG_A,
	SEG_ATTR_V86 = SEG_ATTR_REAL | SEG_DPL,
};

/* A descriptor as it stands in memory. */
struct descriptor {
	uint32_t linear; /* address of its first byte */
	uint32_t lo, hi;
};

static inline uint16_t desc_attr(const struct descriptor *d) { return d->hi >> 8 & 0xf0ff; }
static inline unsigned desc_dpl(const struct descriptor *d) { return d->hi >> 13 & 3; }
static inline bool desc_present(const struct descriptor *d) { return d->hi >> 15 & 1; }
static inline bool desc_is_system(const struct descriptor *d) { return !(d->hi >> 12 & 1); }
static inline unsigned desc_type(const struct descriptor *d) { return d->hi >> 8 & SEG_TYPE; }

static inline bool desc_is_code(const struct descriptor *d)
{
	return !desc_is_system(d) && (desc_type(d) & SEG_CODE);
}

static inline bool desc_is_conforming(const struct descriptor *d)
{
	return desc_is_code(d) && (desc_type(d) & SEG_C);
}

static inline bool desc_is_writable_data(const struct descriptor *d)
{
	return !desc_is_system(d) && (desc_type(d) & (SEG_CODE | SEG_W)) == SEG_W;
}

static inline bool selector_null(uint16_t selector) { return !(selector & ~3u); }

/* ---- descriptors (descriptor.c) ---- */
/** desc_fetch - read from GDT or LDT; false if beyond the table's limit (or no LDT) */
bool desc_fetch(struct cpu *cpu, uint16_t selector, struct descriptor *d);
/** desc_fetch_or - the same, but raise @vector with the selector as error code */
void desc_fetch_or(struct cpu *cpu, uint16_t selector, struct descriptor *d, enum exception vector);
uint32_t desc_base(const struct descriptor *d);
uint32_t desc_limit(const struct descriptor *d); /* in bytes: last valid offset */
/** desc_mark_accessed - set the A bit of a code or data descriptor in memory */
void desc_mark_accessed(struct cpu *cpu, struct descriptor *d);
/** desc_set_busy - write the busy bit of a TSS descriptor in memory */
void desc_set_busy(struct cpu *cpu, struct descriptor *d, bool busy);
/** desc_to_segment - the hidden part that goes with @selector */
void desc_to_segment(const struct descriptor *d, uint16_t selector, struct segment *s);
/** segment_holds - are bytes @offset..@offset+@size-1 within the limit? */
bool segment_holds(const struct segment *s, uint32_t offset, unsigned size);
static inline void segment_set_null(struct segment *s, uint16_t selector)
{
	*s = (struct segment){ .selector = selector };
}

/** raise_selector - #TS, #NP, #SS or #GP with a selector (or 0) as its error code;
 *  adds EXT while an event is being delivered */
_Noreturn void raise_selector(struct cpu *cpu, enum exception vector, uint16_t selector);

/* Checks for a new SS at privilege @cpl, as inner stacks, RETF, IRET and task
 * switches make them; they differ in the vector of a bad one. Marks it accessed. */
void desc_check_stack(struct cpu *cpu, uint16_t selector, unsigned cpl, enum exception bad,
		      struct segment *ss);

/* ---- a stack that is being worked on ---- */
struct stack {
	struct segment ss;
	uint32_t esp;
	unsigned user;   /* whose rights, for mmu_read/write */
	uint16_t fault;  /* selector that a limit violation reports: 0 for the CPU's own stack */
};

void stack_of_cpu(const struct cpu *cpu, struct stack *st);
void stack_push(struct cpu *cpu, struct stack *st, uint32_t value, unsigned size);
uint32_t stack_pop(struct cpu *cpu, struct stack *st, unsigned size);
void stack_skip(struct stack *st, uint32_t bytes);
/** stack_inner - the stack that the TSS has for privilege level @cpl; raises #TS, #SS */
void stack_inner(struct cpu *cpu, unsigned cpl, struct stack *st);
/** stack_commit - make it the CPU's: SS and (by its B bit) ESP or SP */
void stack_commit(struct cpu *cpu, const struct stack *st);

/* ---- commits ---- */
/** code_commit - CS with RPL @cpl, EIP and the privilege level */
void code_commit(struct cpu *cpu, uint16_t selector, const struct descriptor *d, unsigned cpl,
		 uint32_t eip);
/** code_commit_real - CS:EIP in real and virtual-8086 mode */
void code_commit_real(struct cpu *cpu, uint16_t selector, uint32_t eip);

/**
 * far_return_through - the common part of RETF and IRET in protected mode
 * @st: the stack with EIP, CS (and EFLAGS) popped off
 * Returns to the same or an outer level; commits.
 */
void far_return_through(struct cpu *cpu, struct stack *st, uint16_t selector, uint32_t eip,
			unsigned opsize, uint16_t pop_bytes);

#endif
