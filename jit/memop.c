/* Reaching guest memory from host code (tier A).
 *
 * A table word per page holds host address minus linear address, or 0 for
 * "take the slow path". No instruction here changes a flag:
 *
 *	pext r11d, lin, r12d       ; page number * 4 + the two low address bits
 *	mov  rcx, [r13 + r11*8]    ; words 1-3 of a page are 0: unaligned misses
 *	jrcxz slow
 *	...  [rcx + lin]
 *
 * The slow path first asks for the word to be filled (which also serves
 * unaligned accesses within a page); if there is no such word, because of a
 * fault, a device, translated code or a page crossing, the whole instruction
 * goes to the interpreter. Nothing has been committed by then.
 *
 * Code that was seen to access unaligned memory is translated again with a
 * check for page crossings in place of the check for alignment:
 *
 *	rcx = pext(~lin, 0xffc)    ; 0 if the offset in the page is 0xffc or more
 */
#include "jit/translate_priv.h"

bool jit_can_address(const struct translator *t, const struct insn *in)
{
	if (in->adsize != 4)
		return false;
	if (in->seg == FS)
		return t->b->mode & MODE_FS;
	if (in->seg == GS)
		return t->b->mode & MODE_GS;
	/* CS is flat but may not be written; leave that to the interpreter */
	return in->seg != CS || insn_memory_access(in, &(unsigned){ 0 }) == ACC_R;
}

unsigned jit_ea(struct translator *t)
{
	const struct insn *in = t->in;
	struct emit *h = &t->h;
	bool based = in->seg == FS || in->seg == GS;

	if (based)
		emit_load(h, R11,
			  MEM_BD(HOST_CPU, (int32_t)(offsetof(struct cpu, seg) +
						     in->seg * sizeof(struct segment) +
						     offsetof(struct segment, base))));
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

/* Cold code behind a table miss. Returns its address; falls back to @resume. */
static uint64_t slow_stub(struct translator *t, unsigned lin, unsigned size, bool write,
			  bool keep_r10, uint8_t **resume_fix)
{
	uint64_t slow = jit_slow_path(t);
	struct emit *c = &t->c;
	uint64_t at = emit_addr(c);
	uint8_t *over;

	if (keep_r10)
		emit_rm(c, OP1W(0x89), R10, AREA(saved_ptr));
	if (lin != R10)
		emit_mov(c, R10, lin);
	emit_mov_imm(c, R11, size | (uint32_t)write << 8);
	emit_call_mem(c, AREA(thunk_fill));
	if (keep_r10)
		emit_load64(c, R10, AREA(saved_ptr));
	emit8(c, 0xe3); /* jrcxz: over the jump back */
	over = c->p;
	emit8(c, 0);
	emit8(c, 0xe9);
	*resume_fix = c->p;
	emit32(c, 0);
	emit_patch8(c, over);
	emit_jmp(c, slow);
	return at;
}

static uint32_t *cross_mask_field(struct jit_area *a, unsigned size)
{
	switch (size) {
	case 2:
		return &a->mask_cross2;
	case 4:
		return &a->mask_cross4;
	case 8:
		return &a->mask_cross8;
	default:
		return &a->mask_cross16;
	}
}

static struct host_mem area_mem(const struct translator *t, const void *field)
{
	return MEM_BD(HOST_CPU, (int32_t)((const char *)field - (const char *)t->j->cpu));
}

static void patch_resume(struct translator *t, uint8_t *at)
{
	uint64_t from = (uint64_t)at + 4 + (uint64_t)t->c.exec;
	uint32_t d = (uint32_t)(emit_addr(&t->h) - from);

	if (!t->c.full)
		memcpy(at, &d, 4);
}

void jit_check(struct translator *t, unsigned lin, unsigned size, bool write, bool aligned16,
	       bool keep_r10)
{
	struct emit *h = &t->h;
	struct jit_area *a = t->j->area;
	int8_t table = write ? HOST_WRITE : HOST_READ;
	uint8_t *resume;
	uint64_t stub;
	bool by_page = size == 1 || aligned16;

	jit_pads(t, 64);
	stub = slow_stub(t, lin, size, write, keep_r10, &resume);
	if (!by_page && (size > 4 || t->careful)) {
		emit_mov(h, RCX, lin);
		emit_not(h, RCX);
		emit_pext_mem(h, RCX, RCX, area_mem(t, cross_mask_field(a, size)));
		jit_jrcxz(t, stub);
		by_page = true;
	}
	if (by_page) {
		emit_pext_mem(h, R11, lin, area_mem(t, &a->mask_byte));
		emit_rorx(h, true, R11, R11, 62);
	} else if (size == 2) {
		emit_pext_mem(h, R11, lin, area_mem(t, &a->mask_word));
		emit_lea64(h, R11, MEM_BI(R11, R11));
	} else {
		emit_pext(h, R11, lin, HOST_MASK);
	}
	emit_load64(h, RCX, MEM_BIS(table, R11, 3, 0));
	jit_jrcxz(t, stub);
	patch_resume(t, resume);
}
