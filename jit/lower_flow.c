/* Branches and the stack.
 *
 * A guest CALL is a host call, a guest RET a host ret: the processor's own
 * return prediction does the work. The popped guest address travels in ecx and
 * the landing checks it. See jit_landing_here().
 */
#include "jit/translate_priv.h"

static bool near32(const struct insn *in) { return in->opsize == 4; }

/* ---- stack ---- */

/* Where a 4-byte push goes. */
static struct host_mem push_slot(struct translator *t)
{
	if (t->stack_checked)
		return MEM_BIS(HOST_STACK, HOST_ESP, 0, -4);
	emit_lea(&t->h, R10, MEM_BD(HOST_ESP, -4));
	jit_check(t, R10, 4, true, false, false);
	return MEM_BI(RCX, R10);
}

static void push_commit(struct translator *t)
{
	if (t->stack_checked)
		emit_lea(&t->h, HOST_ESP, MEM_BD(HOST_ESP, -4));
	else
		emit_mov(&t->h, HOST_ESP, R10);
}

/* What is on top of the stack. */
static struct host_mem pop_slot(struct translator *t)
{
	if (t->stack_checked)
		return MEM_BI(HOST_STACK, HOST_ESP);
	jit_check(t, HOST_ESP, 4, false, false, false);
	return MEM_BI(RCX, HOST_ESP);
}

static void push_imm(struct translator *t, uint32_t v)
{
	emit_store_imm(&t->h, push_slot(t), v);
	push_commit(t);
}

static void push_reg(struct translator *t, unsigned reg)
{
	emit_store(&t->h, push_slot(t), reg);
	push_commit(t);
}

static bool lower_push(struct translator *t)
{
	const struct insn *in = t->in;
	struct host_mem m;

	if (in->opsize != 4)
		return false;
	if ((in->opcode & 0xf8) == 0x50) {
		push_reg(t, host_gpr(in->opcode & 7));
	} else if (in->opcode == 0x68 || in->opcode == 0x6a) {
		push_imm(t, (uint32_t)in->imm);
	} else if (!in->has_mem) {
		push_reg(t, host_gpr(in->rm));
	} else {
		if (!jit_can_address(t, in))
			return false;
		emit_load(&t->h, RCX, jit_operand(t, 4, false));
		emit_store(&t->h, AREA(tmp), RCX);
		m = push_slot(t);
		emit_load(&t->h, R11, AREA(tmp));
		emit_store(&t->h, m, R11);
		push_commit(t);
	}
	return true;
}

static bool lower_push_sreg(struct translator *t)
{
	struct host_mem m;

	if (t->in->opsize != 4)
		return false;
	m = push_slot(t);
	emit_rm(&t->h, OP0F(0xb7), R11,
		MEM_BD(HOST_CPU, (int32_t)(offsetof(struct cpu, seg) +
					   t->in->entry->op[0].fixed * sizeof(struct segment) +
					   offsetof(struct segment, selector))));
	emit_store(&t->h, m, R11);
	push_commit(t);
	return true;
}

static bool lower_pop(struct translator *t)
{
	const struct insn *in = t->in;
	unsigned reg;

	if (in->opsize != 4 || in->has_mem)
		return false;
	reg = host_gpr((in->opcode & 0xf8) == 0x58 ? in->opcode & 7u : in->rm);
	emit_load(&t->h, reg, pop_slot(t));
	if (reg != HOST_ESP)
		emit_lea(&t->h, HOST_ESP, MEM_BD(HOST_ESP, 4));
	return true;
}

static bool lower_leave(struct translator *t)
{
	if (t->in->opsize != 4)
		return false;
	jit_check(t, RBP, 4, false, false, false);
	emit_lea(&t->h, HOST_ESP, MEM_BD(RBP, 4));
	emit_load(&t->h, RBP, MEM_BI(RCX, RBP));
	return true;
}

/* ---- near transfers ---- */

static bool backward(const struct translator *t, uint32_t target)
{
	return target <= t->eip;
}

static bool lower_jcc(struct translator *t)
{
	uint32_t target = t->next_eip + (uint32_t)t->in->imm;

	if (!near32(t->in))
		return false;
	if (backward(t, target))
		jit_poll(t, t->eip);
	jit_exit_to(t, t->in->entry->cond, target);
	return true;
}

/* Put the target of an indirect branch into tmp. */
static bool indirect_target(struct translator *t)
{
	if (!t->in->has_mem)
		return true;
	if (!jit_can_address(t, t->in))
		return false;
	emit_load(&t->h, RCX, jit_operand(t, 4, false));
	return true;
}

static bool lower_jmp(struct translator *t)
{
	const struct insn *in = t->in;
	uint32_t target = t->next_eip + (uint32_t)in->imm;

	if (!near32(in))
		return false;
	if (in->opcode == 0xff) {
		jit_poll(t, t->eip);
		if (!indirect_target(t))
			return false;
		if (!in->has_mem)
			emit_mov(&t->h, RCX, host_gpr(in->rm));
		jit_indirect(t, false);
	} else {
		if (backward(t, target))
			jit_poll(t, t->eip);
		jit_exit_to(t, -1, target);
	}
	t->ended = true;
	return true;
}

static bool lower_call(struct translator *t)
{
	const struct insn *in = t->in;
	uint32_t target = t->next_eip + (uint32_t)in->imm;

	if (!near32(in))
		return false;
	jit_poll(t, t->eip);
	if (in->opcode == 0xe8) {
		push_imm(t, t->next_eip);
		jit_exit_to(t, -2, target);
	} else {
		if (!in->has_mem && in->rm == ESP)
			return false;
		if (!indirect_target(t))
			return false;
		if (in->has_mem)
			emit_store(&t->h, AREA(tmp), RCX);
		push_imm(t, t->next_eip);
		if (in->has_mem)
			emit_load(&t->h, RCX, AREA(tmp));
		else
			emit_mov(&t->h, RCX, host_gpr(in->rm));
		jit_indirect(t, true);
	}
	jit_landing_here(t, t->next_eip);
	return true;
}

static bool lower_ret(struct translator *t)
{
	const struct insn *in = t->in;

	if (!near32(in))
		return false;
	emit_load(&t->h, RCX, pop_slot(t));
	emit_lea(&t->h, HOST_ESP,
		 MEM_BD(HOST_ESP, 4 + (in->opcode == 0xc2 ? (int32_t)(in->imm & 0xffff) : 0)));
	emit8(&t->h, 0xc3);
	t->ended = true;
	return true;
}

/* LOOP and JECXZ: the host's own JRCXZ on a copy. */
static bool lower_loop(struct translator *t, bool loop)
{
	uint32_t target = t->next_eip + (uint32_t)t->in->imm;
	uint8_t *zero, *over;

	if (!near32(t->in) || t->in->adsize != 4)
		return false;
	if (backward(t, target))
		jit_poll(t, t->eip);
	jit_pads(t, 100);
	if (loop)
		emit_lea(&t->h, HOST_ECX, MEM_BD(HOST_ECX, -1));
	emit_mov(&t->h, RCX, HOST_ECX);
	emit8(&t->h, 0xe3);
	zero = t->h.p;
	emit8(&t->h, 0);
	if (loop) {
		jit_exit_to(t, -1, target);
		emit_patch8(&t->h, zero);
	} else {
		emit8(&t->h, 0xeb);
		over = t->h.p;
		emit8(&t->h, 0);
		emit_patch8(&t->h, zero);
		jit_exit_to(t, -1, target);
		emit_patch8(&t->h, over);
	}
	return true;
}

bool jit_lower_flow(struct translator *t, bool *done)
{
	switch (t->in->entry->id) {
	case INSN_ID_PUSH:
		*done = lower_push(t);
		return true;
	case INSN_ID_PUSH_SREG:
		*done = lower_push_sreg(t);
		return true;
	case INSN_ID_POP:
		*done = lower_pop(t);
		return true;
	case INSN_ID_LEAVE:
		*done = lower_leave(t);
		return true;
	case INSN_ID_JCC:
		*done = lower_jcc(t);
		return true;
	case INSN_ID_JMP:
		*done = lower_jmp(t);
		return true;
	case INSN_ID_CALL:
		*done = lower_call(t);
		return true;
	case INSN_ID_RET:
		*done = lower_ret(t);
		return true;
	case INSN_ID_LOOP:
		*done = lower_loop(t, true);
		return true;
	case INSN_ID_JECXZ:
		*done = lower_loop(t, false);
		return true;
	default:
		return false;
	}
}
