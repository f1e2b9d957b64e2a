/* The stack: one check for many accesses.
 *
 * Code compiled for i386 lives on its stack. Here is found how far from an
 * instruction on the accesses relative to ESP can be told in advance, and which
 * range they cover. If that is worth it, one check makes sure that the whole
 * range lies in one page that may be written (or read, if nothing writes) and
 * leaves the page's addend in r14; then an access is one instruction:
 *
 *	[r14 + r8 + disp]
 *
 * The range includes every value ESP has when it is used, so that none of the
 * sums wraps. If the check fails, execution goes on in another block for the
 * same address that does without (MODE_NO_STACK), so nothing needs undoing.
 *
 * r14 stays good to the end of the stretch: the mapping cannot change in
 * instructions that do not end a block, and no code is translated meanwhile.
 * What C does keeps r14, as its calling convention says.
 *
 * It even stays good across a direct jump: a block that begins with a check
 * has a second entry behind it, and a jump out of a stretch that covers what
 * the target's first stretch covers is linked to that one. So a loop checks
 * once. For that to happen often, ranges are widened to one of a few windows.
 */
#include "jit/translate_priv.h"

enum {
	SPAN_MAX = 512,  /* bytes */
	WORTH_IT = 2,    /* accesses */
};

bool jit_stack_operand(const struct insn *in)
{
	return in->has_mem && in->base == ESP && in->index < 0 && in->adsize == 4 &&
	       (in->seg == SS || in->seg == DS || in->seg == ES);
}

static bool cover(struct jit_stretch *s, int32_t at, unsigned bytes)
{
	int32_t lo = s->lo, hi = s->hi;

	/* the address itself, and ESP as it is now */
	lo = at < lo ? at : lo;
	lo = s->esp < lo ? s->esp : lo;
	hi = at + (int32_t)bytes > hi ? at + (int32_t)bytes : hi;
	hi = s->esp + 1 > hi ? s->esp + 1 : hi;
	if (hi - lo > SPAN_MAX)
		return false;
	s->lo = lo;
	s->hi = hi;
	s->count++;
	return true;
}

static bool writes_esp(const struct insn *in)
{
	const struct insn_entry *e = in->entry;

	for (int i = 0; i < 4; i++) {
		const struct op_desc *d = &e->op[i];

		if (!(d->access & ACC_W) || d->size == SZ_B)
			continue;
		if ((d->addr == OP_G && in->reg == ESP) ||
		    ((d->addr == OP_E || d->addr == OP_R) && !in->has_mem && in->rm == ESP) ||
		    (d->addr == OP_Z && (in->opcode & 7) == ESP) ||
		    (d->addr == OP_FIXED_GPR && d->fixed == ESP))
			return true;
	}
	return false;
}

/* ESP moved by a constant? */
static bool moves_esp(const struct insn *in, int32_t *by)
{
	switch (in->entry->id) {
	case INSN_ID_ADD:
	case INSN_ID_SUB:
		if ((in->opcode != 0x81 && in->opcode != 0x83) || in->has_mem ||
		    in->rm != ESP || in->opsize != 4)
			return false;
		*by = in->entry->id == INSN_ID_ADD ? (int32_t)in->imm : -(int32_t)in->imm;
		return true;
	case INSN_ID_LEA:
		if (in->reg != ESP || in->base != ESP || in->index >= 0 || in->opsize != 4 ||
		    in->adsize != 4)
			return false;
		*by = in->disp;
		return true;
	default:
		return false;
	}
}

/* Take one instruction in. Returns false if the stretch must end before it;
 * *last is set if it must end behind it. */
static bool extend(struct jit_stretch *s, const struct insn *in, bool *last)
{
	const struct insn_entry *e = in->entry;
	unsigned bytes;
	int32_t by;

	*last = false;
	if (moves_esp(in, &by)) {
		if (by < -4096 || by > 4096)
			return false;
		s->esp += by;
		return true;
	}
	switch (e->id) {
	case INSN_ID_PUSH:
	case INSN_ID_PUSH_SREG:
	case INSN_ID_CALL:
		if (in->opsize != 4)
			return false;
		if (jit_stack_operand(in) && !cover(s, s->esp + in->disp, 4))
			return false;
		if (!cover(s, s->esp - 4, 4))
			return false;
		s->esp -= 4;
		*last = e->id == INSN_ID_CALL;
		return true;
	case INSN_ID_POP:
		if (in->opsize != 4 || in->has_mem || !cover(s, s->esp, 4))
			return false;
		s->esp += 4;
		*last = ((in->opcode & 0xf8) == 0x58 ? in->opcode & 7u : in->rm) == ESP;
		return true;
	case INSN_ID_RET:
		*last = true;
		return in->opsize == 4 && cover(s, s->esp, 4);
	case INSN_ID_PUSHF:
		s->esp -= 4;
		return in->opsize == 4;
	case INSN_ID_JCC:
		return true;
	case INSN_ID_JMP:
		*last = true;
		return in->opcode != 0xff;
	case INSN_ID_XCHG:
	case INSN_ID_XADD:
	case INSN_ID_CMPXCHG:
		if (in->reg == ESP)
			return false;
		break;
	default:
		break;
	}
	if (e->attr & (INSN_STACK | INSN_BRANCH | INSN_SYSTEM) || writes_esp(in))
		return false;
	if (jit_stack_operand(in)) {
		if (insn_memory_access(in, &bytes) && bytes && bytes <= 16)
			return cover(s, s->esp + in->disp, bytes);
	}
	return true;
}

static bool touches_stack(const struct insn *in)
{
	switch (in->entry->id) {
	case INSN_ID_PUSH:
	case INSN_ID_PUSH_SREG:
	case INSN_ID_CALL:
	case INSN_ID_POP:
	case INSN_ID_RET:
		return true;
	default:
		return jit_stack_operand(in);
	}
}

/* Round a range up to a window that neighbours are likely to choose too. */
static void widen(struct jit_stretch *s)
{
	static const int16_t window[][2] = { { -16, 112 }, { -128, 128 }, { -16, 240 } };

	for (unsigned i = 0; i < sizeof(window) / sizeof(window[0]); i++) {
		if (s->lo >= window[i][0] && s->hi <= window[i][1]) {
			s->lo = window[i][0];
			s->hi = window[i][1];
			return;
		}
	}
}

void jit_stack_begin(struct translator *t, unsigned i)
{
	struct jit_stretch s = { .hi = 1 };
	struct emit *h = &t->h;
	uint8_t *resume;
	uint64_t fail;
	unsigned end = i;
	bool last = false;

	t->stack_checked = i < t->stack_end;
	if (t->stack_checked || t->b->mode & MODE_NO_STACK || !touches_stack(&t->insn[i]))
		return;
	while (end < t->count && !last) {
		struct jit_stretch longer = s;

		if (!extend(&longer, &t->insn[end], &last))
			break;
		s = longer;
		end++;
	}
	if (s.count < WORTH_IT)
		return;
	widen(&s);
	fail = jit_variant_stub(t, t->eip, MODE_NO_STACK);
	jit_pads(t, 64);
	emit_lea(h, R10, MEM_BD(HOST_ESP, s.hi - 1));
	jit_cross_test(t, R10, (unsigned)(s.hi - s.lo));
	jit_jrcxz(t, fail);
	emit_shrx(h, R11, R10, HOST_TWELVE);
	emit_load64(h, RCX, MEM_BIS(HOST_TABLES, R11, 3, WRITE_TABLE));
	jit_jrcxz(t, jit_miss_stub(t, R10, true, false, fail, &resume));
	jit_resume_here(t, resume);
	emit_mov64(h, HOST_STACK, RCX);
	s.esp = 0;
	t->stretch = s;
	t->stack_end = end;
	t->stack_checked = true;
	if (i == 0) {
		t->b->stack = s;
		t->b->behind_check = (uint32_t)(h->p - (t->j->code_w + t->j->hot));
	}
}

void jit_stack_end(struct translator *t)
{
	bool last;

	/* behind a CALL or POP ESP nothing is known of ESP any more */
	if (t->stack_checked && (!extend(&t->stretch, t->in, &last) || last))
		t->stack_checked = false;
}

void jit_stack_at_exit(const struct translator *t, struct jit_stretch *s)
{
	*s = (struct jit_stretch){ 0 };
	if (t->stack_checked)
		*s = (struct jit_stretch){ .lo = t->stretch.lo - t->stretch.esp,
					   .hi = t->stretch.hi - t->stretch.esp };
}
