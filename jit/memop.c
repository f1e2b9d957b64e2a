/* Reaching guest memory from host code (tier A).
 *
 * A table word per page holds host address minus linear address, or 0 for
 * "take the slow path". No instruction here changes a flag:
 *
 *	lea  ecx, [lin + 3]        ; of 4 bytes, the last one's address:
 *	pext ecx, ecx, [0xffc]     ; 0 if that is within 4 bytes of a page's start
 *	jrcxz crosses?
 *	shrx r11d, lin, r12d       ; page number
 *	mov  rcx, [r13 + r11*8]
 *	jrcxz miss
 *	...  [rcx + lin]
 *
 * The first three lines keep off the critical path, and are not needed for
 * bytes and for operands that the host itself wants aligned. "Crosses?" looks
 * again, exactly. "Miss" asks for the word to be filled; if there is no such
 * word, because of a fault, a device or translated code, or if the access does
 * cross, the whole instruction goes to the interpreter. Nothing has been
 * committed by then.
 *
 * Accesses near ESP do without all this where stack.c has arranged it.
 */
#include "jit/translate_priv.h"

bool jit_can_address(const struct translator *t, const struct insn *in)
{
	if (in->adsize != 4)
		return false;
	/* CS is flat but may not be written; leave that to the interpreter */
	return in->seg != CS || insn_memory_access(in, &(unsigned){ 0 }) == ACC_R;
}

unsigned jit_ea(struct translator *t)
{
	const struct insn *in = t->in;
	struct emit *h = &t->h;
	bool based = in->seg == FS || in->seg == GS;

	if (based) {
		uint64_t slow = jit_slow_path(t);

		jit_pads(t, 64);
		emit_load(h, RCX, in->seg == FS ? AREA(fs_ok) : AREA(gs_ok));
		jit_jrcxz(t, slow);
		emit_load(h, R11,
			  MEM_BD(HOST_CPU, (int32_t)(offsetof(struct cpu, seg) +
						     in->seg * sizeof(struct segment) +
						     offsetof(struct segment, base))));
	}
	if (in->base < 0 && in->index < 0) {
		emit_mov_imm(h, R10, (uint32_t)in->disp);
	} else if (in->base >= 0 && in->index < 0 && !in->disp) {
		if (!based)
			return host_gpr((unsigned)in->base);
		emit_lea(h, R10, MEM_BI((int8_t)host_gpr((unsigned)in->base), R11));
		return R10;
	} else {
		struct host_mem m = { .base = NO_REG, .index = NO_REG, .scale = in->scale,
				      .disp = in->disp };

		if (in->base >= 0)
			m.base = (int8_t)host_gpr((unsigned)in->base);
		if (in->index >= 0)
			m.index = (int8_t)host_gpr((unsigned)in->index);
		emit_lea(h, R10, m);
	}
	if (based)
		emit_lea(h, R10, MEM_BI(R10, R11));
	return R10;
}

/* A jump from cold code to a place in hot code not reached yet. */
static uint8_t *cold_jump(struct translator *t)
{
	uint8_t *fix;

	emit8(&t->c, 0xe9);
	fix = t->c.p;
	emit32(&t->c, 0);
	return fix;
}

static void resume_here(struct translator *t, uint8_t *fix)
{
	uint64_t from = (uint64_t)fix + 4 + (uint64_t)t->c.exec;
	uint32_t d = (uint32_t)(emit_addr(&t->h) - from);

	if (!t->c.full)
		memcpy(fix, &d, 4);
}

uint64_t jit_miss_stub(struct translator *t, unsigned lin, bool write, bool keep_r10,
		       uint64_t otherwise, uint8_t **resume)
{
	struct emit *c = &t->c;
	uint64_t at = emit_addr(c);
	uint8_t *over;

	if (keep_r10)
		emit_rm(c, OP1W(0x89), R10, AREA(saved_ptr));
	if (lin != R10)
		emit_mov(c, R10, lin);
	emit_mov_imm(c, R11, write);
	emit_call_mem(c, AREA(thunk_fill));
	if (keep_r10)
		emit_load64(c, R10, AREA(saved_ptr));
	emit8(c, 0xe3); /* jrcxz: over the jump back */
	over = c->p;
	emit8(c, 0);
	*resume = cold_jump(t);
	emit_patch8(c, over);
	emit_jmp(c, otherwise);
	return at;
}

/* Are the first and the last byte really in different pages? */
static uint64_t cross_stub(struct translator *t, unsigned lin, unsigned size, uint64_t slow,
			   uint8_t **resume)
{
	struct emit *c = &t->c;
	uint64_t at = emit_addr(c);
	uint8_t *same;

	emit_lea(c, R11, MEM_BD((int8_t)lin, (int32_t)size - 1));
	emit_shrx(c, R11, R11, HOST_TWELVE);
	emit_shrx(c, RCX, lin, HOST_TWELVE);
	emit_not(c, R11);
	emit_lea(c, RCX, MEM_BIS(RCX, R11, 0, 1));
	emit8(c, 0xe3);
	same = c->p;
	emit8(c, 0);
	emit_jmp(c, slow);
	emit_patch8(c, same);
	*resume = cold_jump(t);
	return at;
}

struct host_mem jit_area_field(const struct translator *t, const void *field)
{
	return MEM_BD(HOST_CPU, (int32_t)((const char *)field - (const char *)t->j->cpu));
}

/* Index into mask_cross[] for a power of two that is at least @size. */
static unsigned cross_index(unsigned size)
{
	unsigned n = 0;

	while ((2u << n) < size)
		n++;
	return n;
}

void jit_cross_test(struct translator *t, unsigned last, unsigned size)
{
	emit_pext_mem(&t->h, RCX, last, jit_area_field(t, &t->j->area->mask_cross[cross_index(size)]));
}

/* [table + index*4]: a load whose address depends on data, from a place that
 * does not. In CRCs, ciphers and decoders one such load waits for another. */
static bool lookup_table(const struct insn *in)
{
	return in->has_mem && in->base < 0 && in->index >= 0 && in->scale == 2 &&
	       in->seg != FS && in->seg != GS;
}

/* rcx = table word of page r11d, which is probably the one the lookup table
 * starts in. That page's word can be loaded before the index is known; a
 * prediction that the processor makes takes the place of waiting for it. */
static void load_predicted(struct translator *t)
{
	int32_t page = (int32_t)((uint32_t)t->in->disp >> GUEST_PAGE_SHIFT);
	uint64_t other = emit_addr(&t->c);
	uint8_t *join;

	emit_load64(&t->c, RCX, MEM_BIS(HOST_TABLES, R11, 3, 0));
	join = cold_jump(t);
	emit_lea(&t->h, RCX, MEM_BD(R11, -page));
	emit8(&t->h, 0xe3); /* jrcxz: over the jump */
	emit8(&t->h, 5);
	emit_jmp(&t->h, other);
	emit_load64(&t->h, RCX, MEM_BD(HOST_TABLES, page * (int32_t)sizeof(uint64_t)));
	resume_here(t, join);
}

void jit_check(struct translator *t, unsigned lin, unsigned size, bool write, bool aligned16,
	       bool keep_r10)
{
	struct emit *h = &t->h;
	uint64_t slow = jit_slow_path(t);
	uint8_t *resume;

	jit_pads(t, 80);
	if (size > 1 && !aligned16) {
		uint64_t stub = cross_stub(t, lin, size, slow, &resume);

		emit_lea(h, RCX, MEM_BD((int8_t)lin, (int32_t)size - 1));
		jit_cross_test(t, RCX, size);
		jit_jrcxz(t, stub);
		resume_here(t, resume);
	}
	emit_shrx(h, R11, lin, HOST_TWELVE);
	if (lookup_table(t->in) && !write)
		load_predicted(t);
	else
		emit_load64(h, RCX, MEM_BIS(HOST_TABLES, R11, 3, write ? WRITE_TABLE : 0));
	jit_jrcxz(t, jit_miss_stub(t, lin, write, keep_r10, slow, &resume));
	resume_here(t, resume);
}

void jit_resume_here(struct translator *t, uint8_t *fix) { resume_here(t, fix); }

struct host_mem jit_operand(struct translator *t, unsigned size, bool write)
{
	bool aligned16 = t->in->entry->attr & INSN_ALIGN16;
	unsigned lin;

	if (t->stack_checked && jit_stack_operand(t->in))
		return (struct host_mem){ HOST_STACK, HOST_ESP, 0, t->in->disp };
	lin = jit_ea(t);
	jit_check(t, lin, size, write, aligned16, false);
	return MEM_BI(RCX, (int8_t)lin);
}
