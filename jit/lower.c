/* Re-encoding: the same instruction with registers renamed and its memory
 * operand rewritten. The decode table says which fields are registers.
 *
 * The one snag is AH CH DH BH: the host cannot name them in an instruction with
 * a REX prefix, and CH has no counterpart in r9 at all. Then the register is
 * rotated by 8, used by its low byte, and rotated back; RORX keeps flags.
 */
#include "jit/translate_priv.h"

#include "core/cpuid.h"

static const struct op_desc *find_operand(const struct insn_entry *e, unsigned addr)
{
	for (int i = 0; i < 4; i++)
		if (e->op[i].addr == addr)
			return &e->op[i];
	return NULL;
}

/* The start of the host instruction, from what the guest's said. */
static struct op host_op(const struct insn *in)
{
	const struct insn_entry *e = in->entry;
	struct op op = { .map = e->map, .opcode = in->opcode };

	if (e->need == NEED_66)
		op.prefix = 0x66;
	else if (e->need == NEED_F3)
		op.prefix = 0xf3;
	else if (e->need == NEED_F2)
		op.prefix = 0xf2;
	if (in->opsize == 2 && in->prefixes & PREFIX_66 && op.prefix != 0x66) {
		if (op.prefix)
			op.prefix66 = true;
		else if (e->need == NEED_ANY)
			op.prefix = 0x66;
	}
	if (op.map == EMIT_1 && op.opcode == 0x82) /* alias the host no longer has */
		op.opcode = 0x80;
	return op;
}

static bool is_high(const struct op_desc *d, unsigned reg)
{
	return d && d->size == SZ_B && reg >= 4;
}

/* ModRM.reg and ModRM.rm as the host shall have them. */
struct fields {
	unsigned reg, rm;
	const struct op_desc *dreg, *drm; /* their operands if they are GPRs */
};

static void map_fields(const struct insn *in, struct fields *f)
{
	const struct insn_entry *e = in->entry;

	f->dreg = find_operand(e, OP_G);
	f->drm = find_operand(e, OP_E);
	if (!f->drm)
		f->drm = find_operand(e, OP_R);
	f->reg = in->reg;
	f->rm = in->rm;
	if (f->dreg && !is_high(f->dreg, in->reg))
		f->reg = host_gpr(in->reg);
	if (f->drm && !in->has_mem && !is_high(f->drm, in->rm))
		f->rm = host_gpr(in->rm);
}

static void emit_immediate(struct translator *t)
{
	const struct insn *in = t->in;

	emit_imm(&t->h, in->imm, in->imm_size);
	/* EXTRQ and INSERTQ have a second one */
	if (in->entry->feature == FEAT_SSE4A && in->imm_size)
		emit8(&t->h, (uint8_t)in->imm2);
}

/* Byte registers: returns false for the few combinations not worth having. */
static bool emit_with_high(struct translator *t, struct op op, struct fields *f,
			   const struct host_mem *m)
{
	const struct insn *in = t->in;
	struct emit *h = &t->h;
	bool reg_high = is_high(f->dreg, in->reg);
	bool rm_high = !m && is_high(f->drm, in->rm);
	unsigned reg_parent = host_gpr(in->reg & 3), rm_parent = host_gpr(in->rm & 3);
	bool need_rex = (reg_high && reg_parent >= 8) || (rm_high && rm_parent >= 8) ||
			(!reg_high && f->dreg && f->reg >= 8) ||
			(!m && !rm_high && f->drm && f->rm >= 8);
	unsigned rotated = RSP; /* parent that stands rotated; RSP: none */

	if (in->entry->id == INSN_ID_XCHG || in->entry->id == INSN_ID_XADD ||
	    in->entry->id == INSN_ID_CMPXCHG)
		return !need_rex;
	if (!need_rex)
		return true;
	/* sources first, into scratch, while nothing is rotated */
	if (reg_high && !(f->dreg->access & ACC_W)) {
		emit_rorx(h, false, R10, reg_parent, 8);
		f->reg = R10;
		reg_high = false;
	}
	if (rm_high && !(f->drm->access & ACC_W)) {
		emit_rorx(h, false, R11, rm_parent, 8);
		f->rm = R11;
		rm_high = false;
	}
	if (reg_high && rm_high) {
		/* both written? only XCHG and XADD are; one is read: MOV CH, AH */
		return false;
	}
	if (reg_high) {
		if (!m && f->drm && f->rm == reg_parent && in->rm < 4) {
			emit_mov(h, R11, f->rm);
			f->rm = R11;
		}
		rotated = reg_parent;
		f->reg = reg_parent;
	} else if (rm_high) {
		if (f->dreg && f->reg == rm_parent && in->reg < 4) {
			emit_mov(h, R10, f->reg);
			f->reg = R10;
		}
		rotated = rm_parent;
		f->rm = rm_parent;
	}
	if (rotated != RSP)
		emit_rorx(h, false, rotated, rotated, 8);
	if (m)
		emit_rm(h, op, f->reg, *m);
	else
		emit_rr(h, op, f->reg, f->rm);
	emit_immediate(t);
	if (rotated != RSP)
		emit_rorx(h, false, rotated, rotated, 24);
	f->reg = NO_REG; /* done */
	return true;
}

/* Instruction without ModRM. */
static bool lower_plain(struct translator *t)
{
	const struct insn *in = t->in;
	const struct insn_entry *e = in->entry;
	const struct op_desc *z = find_operand(e, OP_Z);
	struct op op = host_op(in);
	unsigned n = in->opcode & 7, reg;

	if (z) {
		if (is_high(z, n)) { /* MOV r8, imm8 */
			unsigned parent = host_gpr(n & 3);

			if (parent < 8) {
				emit_op_start(&t->h, op, false, false, false);
				emit_immediate(t);
				return true;
			}
			emit_rorx(&t->h, false, parent, parent, 8);
			op.opcode = (uint8_t)(op.opcode & 0xf8) | (parent & 7);
			emit_op_start(&t->h, op, false, false, true);
			emit_immediate(t);
			emit_rorx(&t->h, false, parent, parent, 24);
			return true;
		}
		reg = host_gpr(n);
		if (e->id == INSN_ID_INC || e->id == INSN_ID_DEC) {
			op.opcode = 0xff;
			emit_rr(&t->h, op, e->id == INSN_ID_DEC, reg);
			return true;
		}
		op.opcode = (uint8_t)(op.opcode & 0xf8) | (reg & 7);
		emit_op_start(&t->h, op, false, false, reg >= 8);
		emit_immediate(t);
		return true;
	}
	emit_op_start(&t->h, op, false, false, false);
	emit_immediate(t);
	return true;
}

bool jit_lower_generic(struct translator *t)
{
	const struct insn *in = t->in;
	const struct insn_entry *e = in->entry;
	struct op op = host_op(in);
	struct host_mem m;
	struct fields f;
	unsigned bytes;
	enum op_access acc;
	bool high;

	if (!(e->attr & INSN_MODRM))
		return lower_plain(t);
	map_fields(in, &f);
	high = is_high(f.dreg, in->reg) || (!in->has_mem && is_high(f.drm, in->rm));
	if (!in->has_mem) {
		if (high) {
			if (!emit_with_high(t, op, &f, NULL))
				return false;
			if (f.reg == (unsigned)NO_REG)
				return true;
		}
		emit_rr(&t->h, op, f.reg, f.rm);
		emit_immediate(t);
		return true;
	}
	acc = insn_memory_access(in, &bytes);
	if (!acc || bytes > 16 || !jit_can_address(t, in))
		return false;
	if (high && (e->id == INSN_ID_XCHG || e->id == INSN_ID_XADD || e->id == INSN_ID_CMPXCHG))
		return false;
	m = jit_operand(t, bytes, acc & ACC_W);
	if (high) {
		emit_lea64(&t->h, RCX, m);
		m = MEM_BD(RCX, 0);
		if (!emit_with_high(t, op, &f, &m))
			return false;
		if (f.reg == (unsigned)NO_REG)
			return true;
	}
	emit_rm(&t->h, op, f.reg, m);
	emit_immediate(t);
	return true;
}

/* Does this instruction belong to the x87/SSE units, and may it run here? */
static bool fpu_ready(struct translator *t, bool *interpret)
{
	const struct insn_entry *e = t->in->entry;
	uint16_t mode = t->b->mode;
	uint8_t *over;

	*interpret = false;
	if (!(e->attr & (INSN_X87 | INSN_MMX | INSN_SSE)))
		return false;
	if (!(mode & MODE_FPU) || (e->attr & INSN_SSE && !(mode & MODE_SSE))) {
		*interpret = true;
		return false;
	}
	switch (e->id) {
	case INSN_ID_FNSTENV: case INSN_ID_FLDENV: case INSN_ID_FNSAVE: case INSN_ID_FRSTOR:
	case INSN_ID_FXSAVE: case INSN_ID_FXRSTOR: case INSN_ID_MASKMOVQ:
	case INSN_ID_MASKMOVDQU:
		*interpret = true;
		return false;
	case INSN_ID_LDMXCSR:
		/* the guest's has no MM bit: where the host's has, #GP is ours to raise */
		if (t->j->mxcsr_mask == 0xffff)
			break;
		*interpret = true;
		return false;
	default:
		break;
	}
	if (!t->fpu_checked) {
		/* movzx ecx, byte [fpu_live]; jrcxz load */
		uint64_t stub = emit_addr(&t->c);

		emit_call_mem(&t->c, AREA(thunk_fpu));
		emit8(&t->c, 0xe9);
		over = t->c.p;
		emit32(&t->c, 0);
		jit_pads(t, 32);
		emit_rm(&t->h, OP0F(0xb6), RCX, CPU_FIELD(fpu_live));
		jit_jrcxz(t, stub);
		if (!t->c.full) {
			uint32_t d = (uint32_t)(emit_addr(&t->h) -
						((uint64_t)over + 4 + (uint64_t)t->c.exec));

			memcpy(over, &d, 4);
		}
		t->fpu_checked = true;
	}
	return true;
}

void jit_lower(struct translator *t)
{
	const struct insn_entry *e = t->in->entry;
	bool done = false, interpret;

	if (!cpu_has(t->j->cpu, e->feature)) {
		jit_interpret(t);
		return;
	}
	if (fpu_ready(t, &interpret))
		jit_fault_point(t);
	if (interpret) {
		jit_interpret(t);
		return;
	}
	if (jit_lower_flow(t, &done) || jit_lower_misc(t, &done)) {
		if (!done)
			jit_interpret(t);
		return;
	}
	if (e->attr & (INSN_SYSTEM | INSN_BRANCH | INSN_STRING | INSN_IO | INSN_CPL0 |
		       INSN_PROTECTED | INSN_STACK) ||
	    !jit_lower_generic(t))
		jit_interpret(t);
}
