/* Interpreter: the frequent instructions again, one handler for each form.
 *
 * With operand kind and a width of 32 bits (8 for byte moves) known when an
 * instruction enters the cache, nothing is left to look up in the decode table
 * when it runs. What they do is exactly what the handlers by mnemonic do;
 * interp_fast() chooses, and returns NULL for everything else.
 */
#include "core/interp_priv.h"

#include "core/alu.h"

/* ---- operand forms ---- */

enum form {
	FORM_OTHER,
	FORM_RM_REG,  /* E, G with E a register */
	FORM_REG_RM,  /* G, E with E a register */
	FORM_RM_IMM,  /* E, I with E a register */
	FORM_REG_MEM, /* G, E with E in memory */
	FORM_MEM_REG,
	FORM_MEM_IMM,
	FORM_COUNT,
};

static enum form form_of(const struct insn *in)
{
	const struct op_desc *op = in->entry->op;

	if (op[0].addr == OP_E && op[1].addr == OP_G)
		return in->has_mem ? FORM_MEM_REG : FORM_RM_REG;
	if (op[0].addr == OP_G && op[1].addr == OP_E)
		return in->has_mem ? FORM_REG_MEM : FORM_REG_RM;
	if (op[0].addr == OP_E && op[1].addr == OP_I)
		return in->has_mem ? FORM_MEM_IMM : FORM_RM_IMM;
	return FORM_OTHER;
}

static inline uint32_t mem32(struct cpu *cpu, const struct insn *in)
{
	return mem_read(cpu, in->seg, effective(cpu, in), 4);
}

/* ---- arithmetic and logic ---- */

#define KEEP(reg, v) (cpu->gpr[reg] = (v))
#define DROP(reg, v) ((void)(v))

/* @store: KEEP, or DROP for CMP and TEST */
#define FAST_REGISTER_FORMS(name, alu, store)                                            \
	static void name##_rm_reg(struct cpu *cpu, const struct insn *in)                \
	{                                                                                \
		store(in->rm, alu((uint32_t)cpu->gpr[in->rm], (uint32_t)cpu->gpr[in->reg], \
				  &cpu->eflags));                                        \
	}                                                                                \
	static void name##_reg_rm(struct cpu *cpu, const struct insn *in)                \
	{                                                                                \
		store(in->reg, alu((uint32_t)cpu->gpr[in->reg], (uint32_t)cpu->gpr[in->rm], \
				   &cpu->eflags));                                       \
	}                                                                                \
	static void name##_rm_imm(struct cpu *cpu, const struct insn *in)                \
	{                                                                                \
		store(in->rm, alu((uint32_t)cpu->gpr[in->rm], (uint32_t)in->imm,         \
				  &cpu->eflags));                                        \
	}                                                                                \
	static void name##_reg_mem(struct cpu *cpu, const struct insn *in)               \
	{                                                                                \
		uint32_t b = mem32(cpu, in);                                             \
											 \
		store(in->reg, alu((uint32_t)cpu->gpr[in->reg], b, &cpu->eflags));       \
	}

#define FAST_MODIFY(name, alu, suffix, source)                                           \
	static void name##_mem_##suffix(struct cpu *cpu, const struct insn *in)          \
	{                                                                                \
		uint32_t f, v;                                                           \
		struct rmw m;                                                            \
											 \
		rmw_open(cpu, &m, in->seg, effective(cpu, in), 4);                       \
		v = rmw_read(cpu, &m, 4);                                                \
		f = cpu->eflags;                                                         \
		v = alu(v, (uint32_t)(source), &f);                                      \
		rmw_write(cpu, &m, 4, v);                                                \
		cpu->eflags = f;                                                         \
	}

#define FAST_COMPARE(name, alu, suffix, source)                                          \
	static void name##_mem_##suffix(struct cpu *cpu, const struct insn *in)          \
	{                                                                                \
		uint32_t v = mem32(cpu, in);                                             \
											 \
		alu(v, (uint32_t)(source), &cpu->eflags);                                \
	}

#define FAST_ALU(name, alu)                                                              \
	FAST_REGISTER_FORMS(name, alu, KEEP)                                             \
	FAST_MODIFY(name, alu, reg, cpu->gpr[in->reg])                                   \
	FAST_MODIFY(name, alu, imm, in->imm)
#define FAST_CMP(name, alu)                                                              \
	FAST_REGISTER_FORMS(name, alu, DROP)                                             \
	FAST_COMPARE(name, alu, reg, cpu->gpr[in->reg])                                  \
	FAST_COMPARE(name, alu, imm, in->imm)

FAST_ALU(add, alu_add32)
FAST_ALU(or, alu_or32)
FAST_ALU(and, alu_and32)
FAST_ALU(sub, alu_sub32)
FAST_ALU(xor, alu_xor32)
FAST_CMP(cmp, alu_sub32)
FAST_CMP(test, alu_and32)

static void inc_z(struct cpu *cpu, const struct insn *in)
{
	unsigned n = in->opcode & 7;

	cpu->gpr[n] = alu_inc(4, (uint32_t)cpu->gpr[n], 0, &cpu->eflags);
}

static void dec_z(struct cpu *cpu, const struct insn *in)
{
	unsigned n = in->opcode & 7;

	cpu->gpr[n] = alu_dec(4, (uint32_t)cpu->gpr[n], 0, &cpu->eflags);
}

#define FAST_SHIFT(name)                                                                 \
	static void name##_imm(struct cpu *cpu, const struct insn *in)                   \
	{                                                                                \
		unsigned count = (unsigned)in->imm & 31;                                 \
											 \
		if (count)                                                               \
			cpu->gpr[in->rm] = alu_##name(4, (uint32_t)cpu->gpr[in->rm],     \
						      count, &cpu->eflags);              \
	}

FAST_SHIFT(shl)
FAST_SHIFT(shr)
FAST_SHIFT(sar)

/* ---- moves ---- */

static void mov_rm_reg(struct cpu *cpu, const struct insn *in)
{
	cpu->gpr[in->rm] = cpu->gpr[in->reg];
}

static void mov_reg_rm(struct cpu *cpu, const struct insn *in)
{
	cpu->gpr[in->reg] = cpu->gpr[in->rm];
}

static void mov_rm_imm(struct cpu *cpu, const struct insn *in)
{
	cpu->gpr[in->rm] = (uint32_t)in->imm;
}

static void mov_z_imm(struct cpu *cpu, const struct insn *in)
{
	cpu->gpr[in->opcode & 7] = (uint32_t)in->imm;
}

static void mov_reg_mem(struct cpu *cpu, const struct insn *in)
{
	cpu->gpr[in->reg] = mem32(cpu, in);
}

static void mov_mem_reg(struct cpu *cpu, const struct insn *in)
{
	mem_write(cpu, in->seg, effective(cpu, in), 4, (uint32_t)cpu->gpr[in->reg]);
}

static void mov_mem_imm(struct cpu *cpu, const struct insn *in)
{
	mem_write(cpu, in->seg, effective(cpu, in), 4, (uint32_t)in->imm);
}

static void mov8_reg_mem(struct cpu *cpu, const struct insn *in)
{
	*reg8(cpu, in->reg) = (uint8_t)mem_read(cpu, in->seg, effective(cpu, in), 1);
}

static void mov8_mem_reg(struct cpu *cpu, const struct insn *in)
{
	mem_write(cpu, in->seg, effective(cpu, in), 1, *reg8(cpu, in->reg));
}

static void movzx8_reg_mem(struct cpu *cpu, const struct insn *in)
{
	cpu->gpr[in->reg] = (uint8_t)mem_read(cpu, in->seg, effective(cpu, in), 1);
}

static void movzx8_reg_rm(struct cpu *cpu, const struct insn *in)
{
	cpu->gpr[in->reg] = *reg8(cpu, in->rm);
}

static void lea32(struct cpu *cpu, const struct insn *in)
{
	cpu->gpr[in->reg] = effective(cpu, in);
}

/* ---- stack ---- */

static void push_z(struct cpu *cpu, const struct insn *in)
{
	stack_push(cpu, 4, (uint32_t)cpu->gpr[in->opcode & 7]);
}

static void pop_z(struct cpu *cpu, const struct insn *in)
{
	uint32_t v = stack_peek(cpu, 4, 0);

	stack_drop(cpu, 4);
	cpu->gpr[in->opcode & 7] = v;
}

/* ---- branches ---- */

static inline void branch(struct cpu *cpu, const struct insn *in)
{
	uint32_t target = (uint32_t)cpu->eip + (uint32_t)in->imm;

	if (unlikely(target > cpu->seg[CS].limit))
		cpu_raise(cpu, EXC_GP, 0);
	cpu->eip = target;
}

static void jmp_rel(struct cpu *cpu, const struct insn *in)
{
	branch(cpu, in);
}

static void call_rel(struct cpu *cpu, const struct insn *in)
{
	uint32_t target = (uint32_t)cpu->eip + (uint32_t)in->imm;

	if (unlikely(target > cpu->seg[CS].limit))
		cpu_raise(cpu, EXC_GP, 0);
	stack_push(cpu, 4, (uint32_t)cpu->eip);
	cpu->eip = target;
}

static void ret_near(struct cpu *cpu, const struct insn *in)
{
	uint32_t target = stack_peek(cpu, 4, 0);

	if (unlikely(target > cpu->seg[CS].limit))
		cpu_raise(cpu, EXC_GP, 0);
	stack_drop(cpu, 4);
	cpu->eip = target;
}

#define FAST_JCC(n)                                                                      \
	static void jcc_##n(struct cpu *cpu, const struct insn *in)                      \
	{                                                                                \
		if (condition(cpu->eflags, n))                                           \
			branch(cpu, in);                                                 \
	}

FAST_JCC(0) FAST_JCC(1) FAST_JCC(2) FAST_JCC(3)
FAST_JCC(4) FAST_JCC(5) FAST_JCC(6) FAST_JCC(7)
FAST_JCC(8) FAST_JCC(9) FAST_JCC(10) FAST_JCC(11)
FAST_JCC(12) FAST_JCC(13) FAST_JCC(14) FAST_JCC(15)

/* ---- the choice ---- */

#define FORMS(name)                                                                      \
	{ NULL, name##_rm_reg, name##_reg_rm, name##_rm_imm, name##_reg_mem,             \
	  name##_mem_reg, name##_mem_imm }

static interp_fn *choose_by_form(const struct insn *in)
{
	static interp_fn *const add[] = FORMS(add), *const or[] = FORMS(or),
		*const and[] = FORMS(and), *const sub[] = FORMS(sub), *const xor[] = FORMS(xor),
		*const cmp[] = FORMS(cmp), *const test[] = FORMS(test), *const mov[] = FORMS(mov);
	enum form form = form_of(in);

	switch (in->entry->id) {
	case INSN_ID_ADD:
		return add[form];
	case INSN_ID_OR:
		return or[form];
	case INSN_ID_AND:
		return and[form];
	case INSN_ID_SUB:
		return sub[form];
	case INSN_ID_XOR:
		return xor[form];
	case INSN_ID_CMP:
		return cmp[form];
	case INSN_ID_TEST:
		return test[form];
	case INSN_ID_MOV:
		if (in->entry->op[0].addr == OP_Z)
			return mov_z_imm;
		return mov[form];
	default:
		return NULL;
	}
}

static interp_fn *choose_bytes(const struct insn *in)
{
	enum form form = form_of(in);

	if (in->entry->id != INSN_ID_MOV)
		return NULL;
	return form == FORM_REG_MEM ? mov8_reg_mem : form == FORM_MEM_REG ? mov8_mem_reg : NULL;
}

static interp_fn *choose_shift(const struct insn *in)
{
	if (in->has_mem || in->entry->op[1].addr != OP_I)
		return NULL;
	switch (in->entry->id) {
	case INSN_ID_SHL:
		return shl_imm;
	case INSN_ID_SHR:
		return shr_imm;
	default:
		return sar_imm;
	}
}

interp_fn *interp_fast(const struct insn *in)
{
	static interp_fn *const jcc[16] = {
		jcc_0, jcc_1, jcc_2, jcc_3, jcc_4, jcc_5, jcc_6, jcc_7,
		jcc_8, jcc_9, jcc_10, jcc_11, jcc_12, jcc_13, jcc_14, jcc_15,
	};
	const struct insn_entry *e = in->entry;
	bool z = e->op[0].addr == OP_Z;

	if (in->opsize != 4)
		return NULL;
	switch (e->id) {
	case INSN_ID_JCC:
		return jcc[e->cond & 15];
	case INSN_ID_JMP:
		return e->op[0].addr == OP_J ? jmp_rel : NULL;
	case INSN_ID_CALL:
		return e->op[0].addr == OP_J ? call_rel : NULL;
	case INSN_ID_RET:
		return e->op[0].addr == OP_NONE ? ret_near : NULL;
	case INSN_ID_PUSH:
		return z ? push_z : NULL;
	case INSN_ID_POP:
		return z ? pop_z : NULL;
	case INSN_ID_INC:
		return z ? inc_z : NULL;
	case INSN_ID_DEC:
		return z ? dec_z : NULL;
	case INSN_ID_LEA:
		return lea32;
	case INSN_ID_MOVZX:
		if (e->op[1].size != SZ_B)
			return NULL;
		return in->has_mem ? movzx8_reg_mem : movzx8_reg_rm;
	default:
		break;
	}
	if (e->op[0].size == SZ_B)
		return choose_bytes(in);
	if (e->op[0].size != SZ_V)
		return NULL;
	if (e->id == INSN_ID_SHL || e->id == INSN_ID_SHR || e->id == INSN_ID_SAR)
		return choose_shift(in);
	return choose_by_form(in);
}
