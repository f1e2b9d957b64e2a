/* From guest bytes to a block: discovery, then one instruction after another.
 *
 * A block starts at one address and runs through untaken branches and calls
 * until something that never falls through, the end of the page, or a limit.
 * An instruction that straddles pages, or that the table does not know, goes
 * to the interpreter and ends the block.
 */
#include "jit/translate_priv.h"

#include <stdlib.h>

#include "core/mmu.h"

/* ---- pads ---- */

static void pad_out(struct translator *t)
{
	for (unsigned i = 0; i < t->pads; i++) {
		emit_patch8(&t->h, t->pad[i].at);
		emit_jmp(&t->h, t->pad[i].target);
	}
	t->pads = 0;
}

void jit_pads_flush(struct translator *t) { pad_out(t); }

void jit_pads(struct translator *t, unsigned need)
{
	uint8_t *over;
	unsigned span;

	if (!t->pads)
		return;
	span = (unsigned)(t->h.p - t->pad[0].at) + need + 5 * t->pads + 2;
	if (span <= 120 && t->pads < PAD_MAX - 2)
		return;
	emit8(&t->h, 0xeb);
	over = t->h.p;
	emit8(&t->h, 0);
	pad_out(t);
	emit_patch8(&t->h, over);
}

void jit_jrcxz(struct translator *t, uint64_t target)
{
	if (t->pads == PAD_MAX) {
		t->h.full = true;
		return;
	}
	emit8(&t->h, 0xe3);
	t->pad[t->pads++] = (struct pad){ t->h.p, target };
	emit8(&t->h, 0);
}

/* ---- leaving ---- */

static void cold_store_eip(struct translator *t, uint32_t eip)
{
	emit_store_imm(&t->c, CPU_FIELD(eip), eip);
}

/* After the interpreter: on in this block, or wherever EIP says. */
static void after_interp(struct translator *t, struct emit *e)
{
	if (t->terminal) {
		emit_load(e, RCX, CPU_FIELD(eip));
		emit_jmp_mem(e, AREA(thunk_lookup));
	}
}

uint64_t jit_slow_path(struct translator *t)
{
	struct emit *c = &t->c;

	if (t->slow)
		return t->slow;
	t->slow = emit_addr(c);
	cold_store_eip(t, t->eip);
	emit_call_mem(c, AREA(thunk_interp));
	if (t->terminal) {
		after_interp(t, c);
	} else {
		emit8(c, 0xe9);
		t->next_fix[t->next_fixes++] = c->p;
		emit32(c, 0);
	}
	return t->slow;
}

void jit_interpret(struct translator *t)
{
	emit_store_imm(&t->h, CPU_FIELD(eip), t->eip);
	emit_call_mem(&t->h, AREA(thunk_interp));
	after_interp(t, &t->h);
	if (t->terminal)
		t->ended = true;
}

static struct jit_link *new_link(struct translator *t, uint32_t target)
{
	struct jit_link *l = jit_arena(t->j, sizeof(*l));

	if (!l) {
		t->failed = true;
		return NULL;
	}
	l->from = t->b;
	l->target = target;
	l->mode = t->b->mode & (uint16_t)~MODE_NO_STACK;
	l->own_next = t->b->links;
	t->b->links = l;
	return l;
}

/* Cold code that leaves with EIP = @eip and asks for @l to be linked. */
static uint64_t link_stub(struct translator *t, uint32_t eip, struct jit_link *l)
{
	uint64_t at = emit_addr(&t->c);

	cold_store_eip(t, eip);
	if (l) {
		emit_mov_imm64(&t->c, R11, (uint64_t)l);
		emit_jmp_mem(&t->c, AREA(thunk_exit_link));
	} else {
		emit_jmp_mem(&t->c, AREA(thunk_exit));
	}
	return at;
}

/* jmp, jcc or call whose rel32 can be pointed at a block. */
static void linked_branch(struct translator *t, struct emit *e, int cc, struct jit_link *l,
			  uint64_t stub)
{
	if (cc >= 0) {
		emit8(e, 0x0f);
		emit8(e, (uint8_t)(0x80 | cc));
	} else {
		emit8(e, cc == -2 ? 0xe8 : 0xe9);
	}
	if (l) {
		l->site = e->p;
		l->unlinked = (int32_t)(stub - (emit_addr(e) + 4));
	}
	emit_rel32(e, stub);
}

/* The target is in another page: is that page still where it was? */
static void page_check(struct translator *t, struct emit *e, struct jit_link *l, uint32_t target,
		       uint8_t **ok)
{
	emit_load64(e, RCX, AREA(exec));
	emit_load(e, RCX, MEM_BD(RCX, (int32_t)(target >> 12) * 4));
	emit_rm(e, OP1(0x8d), RCX, MEM_BD(RCX, 0x7fffffff)); /* lea ecx, [rcx - tag] */
	if (l) {
		l->tag = e->p - 4;
		if (!e->full)
			jit_tag_open(l->tag);
	}
	emit8(e, 0xe3);
	*ok = e->p;
	emit8(e, 0);
}

void jit_exit_to(struct translator *t, int cc, uint32_t target)
{
	struct jit_link *l = new_link(t, target);
	uint64_t stub = link_stub(t, target, l);
	struct emit *e = &t->h;
	uint8_t *ok, *hop = NULL;

	if (l && cc != -2)
		jit_stack_at_exit(t, &l->stack);
	jit_pads(t, 48);
	if ((target ^ t->b->eip) >> 12 == 0) {
		linked_branch(t, e, cc, l, stub);
		return;
	}
	/* a taken conditional branch does its checking in cold code */
	if (cc >= 0) {
		uint64_t cold = emit_addr(&t->c);

		page_check(t, &t->c, l, target, &ok);
		emit_mov_imm(&t->c, RCX, target);
		emit_jmp(&t->c, t->j->lookup);
		emit_patch8(&t->c, ok);
		linked_branch(t, &t->c, -1, l, stub);
		emit_jcc(e, (unsigned)cc, cold);
		return;
	}
	page_check(t, e, l, target, &ok);
	emit_mov_imm(e, RCX, target);
	if (cc == -2) {
		emit_call(e, t->j->lookup);
		emit8(e, 0xeb);
		hop = e->p;
		emit8(e, 0);
	} else {
		emit_jmp(e, t->j->lookup);
	}
	emit_patch8(e, ok);
	linked_branch(t, e, cc, l, stub);
	if (hop)
		emit_patch8(e, hop);
}

uint64_t jit_variant_stub(struct translator *t, uint32_t eip, uint16_t variant)
{
	struct jit_link *l = new_link(t, eip);
	uint64_t stub = link_stub(t, eip, l), at = emit_addr(&t->c);

	linked_branch(t, &t->c, -1, l, stub);
	if (l)
		l->mode |= variant;
	return at;
}

void jit_landing_here(struct translator *t, uint32_t expected)
{
	struct jit_landing *l = jit_arena(t->j, sizeof(*l));
	uint8_t *ok;

	if (!l) {
		t->failed = true;
		return;
	}
	l->site = t->h.p;
	l->next = t->b->landings;
	t->b->landings = l;
	/* rcx = returned EIP: lea ecx, [rcx - expected] with a 32-bit displacement always */
	emit_op_start(&t->h, OP1(0x8d), false, false, false);
	emit8(&t->h, 0x80 | RCX << 3 | RCX);
	emit32(&t->h, -expected);
	emit8(&t->h, 0xe3);
	ok = t->h.p;
	emit8(&t->h, 0);
	{
		uint64_t miss = emit_addr(&t->c);

		emit_lea(&t->c, RCX, MEM_BD(RCX, (int32_t)expected));
		emit_jmp(&t->c, t->j->lookup);
		emit_jmp(&t->h, miss);
	}
	emit_patch8(&t->h, ok);
	t->fpu_checked = false;
}

void jit_indirect(struct translator *t, bool call)
{
	struct emit *h = &t->h, *c = &t->c;
	struct jit_area *a = t->j->area;
	uint64_t miss;
	uint8_t *hit, *back = NULL;

	jit_pads(t, 64);
	emit_pext_mem(h, R11, RCX,
		      MEM_BD(HOST_CPU, (int32_t)((char *)&a->mask_jump - (char *)t->j->cpu)));
	emit_load64(h, R10, AREA(jump_keys));
	emit_lea64(h, R11, MEM_BIS(R10, R11, 3, 0));
	emit_load64(h, R10, MEM_BD(R11, 0));
	emit_lea64(h, RCX, MEM_BI(RCX, R10));
	/* miss: rcx = eip - key, so eip = rcx - r10 = rcx + ~r10 + 1 */
	miss = emit_addr(c);
	emit_rr(c, OP1W(0xf7), 2, R10);
	emit_lea64(c, RCX, MEM_BIS(RCX, R10, 0, 1));
	if (call) {
		emit_call(c, t->j->lookup);
		emit8(c, 0xe9);
		back = c->p;
		emit32(c, 0);
	} else {
		emit_jmp(c, t->j->lookup);
	}
	emit8(h, 0xe3);
	hit = h->p;
	emit8(h, 0);
	emit_jmp(h, miss);
	emit_patch8(h, hit);
	if (call) {
		emit_call_mem(h, MEM_BD(R11, JUMP_CACHE_SIZE * 8));
		/* returns to the cold call come here too */
		if (!c->full) {
			uint32_t d = (uint32_t)(emit_addr(h) - ((uint64_t)back + 4 + (uint64_t)c->exec));

			memcpy(back, &d, 4);
		}
	} else {
		emit_jmp_mem(h, MEM_BD(R11, JUMP_CACHE_SIZE * 8));
	}
}

void jit_poll(struct translator *t, uint32_t eip)
{
	uint64_t stub = emit_addr(&t->c);

	if (t->no_poll)
		return;
	cold_store_eip(t, eip);
	emit_jmp_mem(&t->c, AREA(thunk_exit));
	jit_pads(t, 32);
	emit_load(&t->h, RCX, CPU_FIELD(run));
	jit_jrcxz(t, stub);
}

void jit_fault_point(struct translator *t)
{
	if (t->faults && t->fault[t->faults - 1].eip == t->eip)
		return;
	t->fault[t->faults++] = (struct jit_fault_point){
		(uint32_t)(t->h.p - (t->j->code_w + t->j->hot)), t->eip
	};
}

/* ---- discovery ---- */

static bool ends_block(const struct insn *in)
{
	switch (in->entry->id) {
	case INSN_ID_JMP:
	case INSN_ID_RET:
		return true;
	case INSN_ID_CALL:
	case INSN_ID_JCC:
		return false;
	case INSN_ID_HLT:
	case INSN_ID_STD:
		return true;
	case INSN_ID_MOV_SREG:
		return in->opcode == 0x8e && !jit_data_sreg(in->reg);
	case INSN_ID_POP_SREG:
		return !jit_data_sreg(in->entry->op[0].fixed);
	default:
		return in->entry->attr & (INSN_SYSTEM | INSN_BRANCH);
	}
}

/* The last instruction reaches into the next page: decode it from both. */
static void discover_tail(struct translator *t, uint32_t offset, const uint8_t *page_host)
{
	uint8_t bytes[2 * INSN_MAX_LENGTH];
	uint32_t have = GUEST_PAGE_SIZE - offset, linear = (t->eip & ~0xfffu) + GUEST_PAGE_SIZE;
	struct insn *in = &t->insn[t->count];
	const uint8_t *next_host;
	uint32_t ram_page;

	/* linear 0: it would run over the limit of CS */
	if (have >= INSN_MAX_LENGTH || !linear)
		return;
	ram_page = mmu_fetch_quiet(t->j->cpu, linear, &next_host);
	if (ram_page == MEMORY_NO_PAGE)
		return;
	memcpy(bytes, page_host + offset, have);
	memcpy(bytes + have, next_host, INSN_MAX_LENGTH);
	if (insn_decode(in, true, bytes, have + INSN_MAX_LENGTH) != DECODE_OK ||
	    in->length <= have)
		return;
	t->count++;
	t->b->tail_page = ram_page;
	t->b->tail_size = (uint16_t)(in->length - have);
}

static void discover(struct translator *t, uint32_t eip, const uint8_t *page_host)
{
	uint32_t offset = eip & 0xfff;

	while (t->count < JIT_BLOCK_INSNS && offset < GUEST_PAGE_SIZE) {
		struct insn *in = &t->insn[t->count];
		enum decode_result r =
			insn_decode(in, true, page_host + offset, GUEST_PAGE_SIZE - offset);

		if (r == DECODE_MORE)
			discover_tail(t, offset, page_host);
		if (r != DECODE_OK)
			break;
		t->count++;
		offset += in->length;
		if (ends_block(in))
			break;
	}
	if (t->b->tail_size)
		offset = GUEST_PAGE_SIZE + t->b->tail_size;
	t->b->guest_size = (uint16_t)(offset - (eip & 0xfff));
}

/* ---- the pipeline ---- */

/* Is the next page still the one the last instruction was decoded from? If not
 * it may be another instruction, of another length. */
static void tail_check(struct translator *t)
{
	struct emit *h = &t->h, *c = &t->c;
	uint64_t slow = emit_addr(c);
	uint32_t page = (t->next_eip - 1) >> GUEST_PAGE_SHIFT;

	cold_store_eip(t, t->eip);
	emit_call_mem(c, AREA(thunk_interp));
	emit_load(c, RCX, CPU_FIELD(eip));
	emit_jmp_mem(c, AREA(thunk_lookup));
	emit_load64(h, RCX, AREA(exec));
	emit_load(h, RCX, MEM_BD(RCX, (int32_t)(page * 4)));
	emit_lea(h, RCX, MEM_BD(RCX, -(int32_t)(t->b->tail_page + 1)));
	emit8(h, 0xe3);
	emit8(h, 5);
	emit_jmp(h, slow);
}

static void translate_insn(struct translator *t, unsigned i)
{
	t->in = &t->insn[i];
	t->next_eip = t->eip + t->in->length;
	t->terminal = ends_block(t->in) || t->in->entry->attr & INSN_BRANCH;
	t->slow = 0;
	t->next_fixes = 0;
	jit_pads(t, 64);
	jit_stack_begin(t, i);
	if (t->j->count_insns) {
		emit_load64(&t->h, RCX, AREA(stat_insns));
		emit_lea64(&t->h, RCX, MEM_BD(RCX, 1));
		emit_rm(&t->h, OP1W(0x89), RCX, AREA(stat_insns));
	}
	jit_pads(t, 64);
	if (t->b->tail_size && i == t->count - 1)
		tail_check(t);
	jit_lower(t);
	for (unsigned k = 0; k < t->next_fixes; k++) {
		uint64_t from = (uint64_t)t->next_fix[k] + 4 + (uint64_t)t->c.exec;
		uint32_t d = (uint32_t)(emit_addr(&t->h) - from);

		if (!t->c.full)
			memcpy(t->next_fix[k], &d, 4);
	}
	if (t->no_poll)
		t->no_poll--;
	jit_stack_end(t);
	t->eip = t->next_eip;
}

static struct jit_block *commit(struct translator *t)
{
	struct jit *j = t->j;
	struct jit_block *b = t->b;

	if (t->h.full || t->c.full || t->failed)
		return NULL;
	b->host = j->code_x + j->hot;
	b->host_size = (uint32_t)(t->h.p - (j->code_w + j->hot));
	b->cold = j->code_x + j->cold;
	b->cold_size = (uint32_t)(t->c.p - (j->code_w + j->cold));
	b->insns = (uint16_t)t->count;
	b->fault_count = (uint8_t)t->faults;
	if (t->faults) {
		b->faults = jit_arena(j, t->faults * sizeof(*b->faults));
		if (!b->faults)
			return NULL;
		memcpy(b->faults, t->fault, t->faults * sizeof(*b->faults));
	}
	if (!jit_block_add(j, b))
		return NULL;
	jit_cache_commit(j, &t->h, &t->c);
	/* link what is known already, loops to ourselves above all */
	for (struct jit_link *l = b->links; l; l = l->own_next) {
		struct jit_block *to;

		if (l->tag)
			continue;
		to = jit_block_find(j, l->target, b->ram_page, l->mode);
		if (to)
			jit_link(j, l, to);
	}
	j->stat_blocks++;
	return b;
}

struct jit_block *jit_translate(struct jit *j, uint32_t eip, uint32_t ram_page,
				uint16_t mode, const uint8_t *page_host)
{
	struct translator *t = j->translator;
	struct arena_chunk *chunk = j->arena;
	size_t used = j->arena_used;
	struct jit_block *b = jit_arena(j, sizeof(*b));

	if (!b || !jit_cache_reserve(j, &t->h, &t->c)) {
		j->need_flush = true;
		return NULL;
	}
	b->eip = eip;
	b->ram_page = ram_page;
	b->mode = mode;
	b->tail_page = MEMORY_NO_PAGE;
	t->j = j;
	t->b = b;
	t->count = t->pads = t->faults = t->stack_end = 0;
	t->fpu_checked = t->ended = t->failed = false;
	t->no_poll = 0;
	t->eip = eip;
	discover(t, eip, page_host);
	if (!t->count)
		b->guest_size = (uint16_t)(GUEST_PAGE_SIZE - (eip & 0xfff) < INSN_MAX_LENGTH ?
					   GUEST_PAGE_SIZE - (eip & 0xfff) : INSN_MAX_LENGTH);
	for (unsigned i = 0; i < t->count && !t->ended; i++)
		translate_insn(t, i);
	if (!t->ended && t->count == 0) {
		/* straddles the page, or is not an instruction */
		t->terminal = true;
		jit_interpret(t);
	} else if (!t->ended) {
		jit_exit_to(t, -1, t->eip);
	}
	jit_pads_flush(t);
	b = commit(t);
	if (!b) {
		j->stat_given_up++;
		jit_arena_back(j, chunk, used);
	}
	return b;
}
