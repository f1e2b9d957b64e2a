/* What the files that turn guest instructions into host code share.
 *
 * translate.c finds the block and drives; memop.c reaches guest memory;
 * lower.c re-encodes ordinary instructions, lower_flow.c branches and the
 * stack, lower_misc.c what needs a recipe of its own.
 */
#ifndef GANNET_JIT_TRANSLATE_PRIV_H
#define GANNET_JIT_TRANSLATE_PRIV_H

#include "jit/jit_priv.h"

#define PAD_MAX 16

/* A JRCXZ reaches 127 bytes: it leads to a pad, a near jump to cold code. */
struct pad {
	uint8_t *at;     /* its rel8 */
	uint64_t target; /* executable address in the cold part */
};

struct translator {
	struct jit *j;
	struct jit_block *b;
	struct emit h, c; /* hot, cold */
	struct insn insn[JIT_BLOCK_INSNS];
	unsigned count;

	/* the instruction being translated */
	const struct insn *in;
	uint32_t eip, next_eip;
	bool terminal;       /* EIP is not next_eip afterwards */
	uint64_t slow;       /* cold code that interprets it; 0: not made yet */
	uint8_t *next_fix[8]; /* rel32s in cold code that lead to the next instruction */
	unsigned next_fixes;

	struct pad pad[PAD_MAX];
	unsigned pads;
	unsigned stack_end;  /* instructions before this one may use r14 */
	bool stack_checked;  /* ... this one too */
	struct jit_stretch stretch; /* what r14 is good for */
	bool fpu_checked;    /* x87/SSE state is live here */
	bool ended;          /* nothing falls through any more */
	int no_poll;         /* instructions until interrupts may be taken: the shadow of STI */
	bool failed;         /* no memory */

	struct jit_fault_point fault[JIT_BLOCK_INSNS];
	unsigned faults;
};

static const uint8_t host_gpr_map[GPR_COUNT] = { RAX, HOST_ECX, RDX, RBX, HOST_ESP, RBP, RSI, RDI };
static inline unsigned host_gpr(unsigned guest) { return host_gpr_map[guest]; }

/* Segment registers that jit_load_segment() deals with. */
static inline bool jit_data_sreg(unsigned seg)
{
	return seg == DS || seg == ES || seg == FS || seg == GS;
}

/* ---- translate.c ---- */
/** jit_pads - make sure @need more hot bytes stay within reach of open JRCXZs */
void jit_pads(struct translator *t, unsigned need);
void jit_pads_flush(struct translator *t);
/** emit a JRCXZ to @target in cold code */
void jit_jrcxz(struct translator *t, uint64_t target);
/** jit_slow_path - cold code that interprets the current instruction whole */
uint64_t jit_slow_path(struct translator *t);
/** jit_exit_to - jump (cc -1), jcc or call (cc -2) to guest address @target */
void jit_exit_to(struct translator *t, int cc, uint32_t target);
/** jit_landing_here - a return comes back here with its address in ecx */
void jit_landing_here(struct translator *t, uint32_t expected);
/** jit_indirect - go to the guest address in ecx; @call: with a host call */
void jit_indirect(struct translator *t, bool call);
void jit_poll(struct translator *t, uint32_t eip);
/** jit_variant_stub - cold code that goes on at @eip in the block of mode | @variant */
uint64_t jit_variant_stub(struct translator *t, uint32_t eip, uint16_t variant);
/** jit_interpret - hand the current instruction to the interpreter, inline */
void jit_interpret(struct translator *t);
void jit_fault_point(struct translator *t);

/* ---- memop.c ---- */
/** jit_can_address - the memory operand is one that jit_ea() can do */
bool jit_can_address(const struct translator *t, const struct insn *in);
/** jit_ea - linear address of the ModRM/moffs operand; returns the register it is in */
unsigned jit_ea(struct translator *t);
/** jit_check - after it rcx is the addend for @size bytes at linear address @lin.
 *  Clobbers r11. @keep_r10: preserve r10 on the slow path (@lin is not r10). */
void jit_check(struct translator *t, unsigned lin, unsigned size, bool write, bool aligned16,
	       bool keep_r10);

/** jit_operand - the ModRM/moffs operand as a host memory operand, checked */
struct host_mem jit_operand(struct translator *t, unsigned size, bool write);
/** jit_cross_test - rcx = 0 if @size bytes that end at address @last may cross a page */
void jit_cross_test(struct translator *t, unsigned last, unsigned size);
/** jit_miss_stub - cold code that fills the table word of @lin and comes back to
 *  *resume (see jit_resume_here), or goes to @otherwise */
uint64_t jit_miss_stub(struct translator *t, unsigned lin, bool write, bool keep_r10,
		       uint64_t otherwise, uint8_t **resume);
void jit_resume_here(struct translator *t, uint8_t *fix);
struct host_mem jit_area_field(const struct translator *t, const void *field);

/* ---- stack.c ---- */
/** jit_stack_operand - the memory operand is [esp + disp] */
bool jit_stack_operand(const struct insn *in);
/** jit_stack_begin - before instruction @i: go on with, or begin, a checked stretch */
void jit_stack_begin(struct translator *t, unsigned i);
/** jit_stack_end - behind the current instruction: ESP may have moved */
void jit_stack_end(struct translator *t);
/** jit_stack_at_exit - what r14 is good for where the current instruction jumps out */
void jit_stack_at_exit(const struct translator *t, struct jit_stretch *s);

/* ---- lower*.c: true if translated; false: let the interpreter have it ---- */
bool jit_lower_generic(struct translator *t);
bool jit_lower_flow(struct translator *t, bool *done);
bool jit_lower_misc(struct translator *t, bool *done);
void jit_lower(struct translator *t);

#endif
