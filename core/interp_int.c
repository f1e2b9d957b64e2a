/* Interpreter: arithmetic, logic, moves, multiplication and division, BCD.
 *
 * SDM volume 2, one handler for each mnemonic; operands come from the decode
 * table. Results and flags are the host's (alu.h).
 */
#include "core/interp_priv.h"

#include "core/alu.h"
#include "core/cpuid.h"

/* ---- two operands, result in the first ---- */

#define DEFINE_BINARY(name)                                                    \
	static void op_##name(struct cpu *cpu, const struct insn *in)          \
	{                                                                      \
		unsigned size = op_bytes(in, 0);                               \
		uint32_t src = op_read(cpu, in, 1, size), f, v;                \
		struct rmw m;                                                  \
									       \
		v = dst_begin(cpu, in, 0, size, &m);                           \
		f = cpu->eflags;                                               \
		v = alu_##name(size, v, src, &f);                              \
		rmw_write(cpu, &m, size, v);                              \
		cpu->eflags = f;                                               \
	}

DEFINE_BINARY(add)
DEFINE_BINARY(or)
DEFINE_BINARY(adc)
DEFINE_BINARY(sbb)
DEFINE_BINARY(and)
DEFINE_BINARY(sub)
DEFINE_BINARY(xor)

static void op_cmp(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);
	uint32_t a = op_read(cpu, in, 0, size), b = op_read(cpu, in, 1, size);

	alu_sub(size, a, b, &cpu->eflags);
}

static void op_test(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);
	uint32_t a = op_read(cpu, in, 0, size), b = op_read(cpu, in, 1, size);

	alu_and(size, a, b, &cpu->eflags);
}

/* ---- one operand ---- */

#define DEFINE_UNARY(name)                                                     \
	static void op_##name(struct cpu *cpu, const struct insn *in)          \
	{                                                                      \
		unsigned size = op_bytes(in, 0);                               \
		uint32_t f, v;                                                 \
		struct rmw m;                                                  \
									       \
		v = dst_begin(cpu, in, 0, size, &m);                           \
		f = cpu->eflags;                                               \
		v = alu_##name(size, v, 0, &f);                                \
		rmw_write(cpu, &m, size, v);                              \
		cpu->eflags = f;                                               \
	}

DEFINE_UNARY(inc)
DEFINE_UNARY(dec)
DEFINE_UNARY(neg)

static void op_not(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);
	struct rmw m;
	uint32_t v = dst_begin(cpu, in, 0, size, &m);

	rmw_write(cpu, &m, size, ~v);
}

/* ---- moves ---- */

static void op_mov(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);

	op_write(cpu, in, 0, size, op_read(cpu, in, 1, size));
}

static void op_movzx(struct cpu *cpu, const struct insn *in)
{
	op_write(cpu, in, 0, op_bytes(in, 0), op_read(cpu, in, 1, op_bytes(in, 1)));
}

static void op_movsx(struct cpu *cpu, const struct insn *in)
{
	unsigned from = op_bytes(in, 1);

	op_write(cpu, in, 0, op_bytes(in, 0),
		 (uint32_t)sign_extend(op_read(cpu, in, 1, from), from));
}

static void op_movbe(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);
	uint32_t v = op_read(cpu, in, 1, size);

	v = size == 2 ? __builtin_bswap16((uint16_t)v) : __builtin_bswap32(v);
	op_write(cpu, in, 0, size, v);
}

static void op_lea(struct cpu *cpu, const struct insn *in)
{
	reg_set(cpu, in->reg, in->opsize, effective(cpu, in));
}

static void op_xchg(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);
	unsigned mem = op_is_memory(in, 1) ? 1 : 0; /* the other one is a register */
	unsigned reg = op_reg(in, 1 - mem);
	struct rmw m;
	uint32_t v = dst_begin(cpu, in, mem, size, &m);
	uint32_t r = reg_get(cpu, reg, size);

	rmw_write(cpu, &m, size, r);
	reg_set(cpu, reg, size, v);
}

static void op_xadd(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);
	uint32_t src = reg_get(cpu, in->reg, size), f = cpu->eflags, old, sum;
	struct rmw m;

	old = dst_begin(cpu, in, 0, size, &m);
	sum = alu_add(size, old, src, &f);
	reg_set(cpu, in->reg, size, old);
	rmw_write(cpu, &m, size, sum); /* last: both may be the same register */
	cpu->eflags = f;
}

static void op_cmpxchg(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);
	uint32_t acc = reg_get(cpu, EAX, size), f = cpu->eflags, old;
	struct rmw m;

	old = dst_begin(cpu, in, 0, size, &m);
	alu_sub(size, acc, old, &f);
	/* the destination is written either way: SDM, CMPXCHG */
	if (f & FLAG_ZF) {
		rmw_write(cpu, &m, size, reg_get(cpu, in->reg, size));
	} else {
		rmw_write(cpu, &m, size, old);
		reg_set(cpu, EAX, size, old);
	}
	cpu->eflags = f;
}

static void op_cmpxchg8b(struct cpu *cpu, const struct insn *in)
{
	uint32_t at = effective(cpu, in);
	uint64_t old, expected = cpu->gpr[EDX] << 32 | (uint32_t)cpu->gpr[EAX];
	bool equal;

	mmu_probe_write(cpu, seg_linear(cpu, in->seg, at, 8, true), 8, mmu_user(cpu));
	old = seg_read(cpu, in->seg, at, 8);
	equal = old == expected;
	seg_write(cpu, in->seg, at,
		  equal ? cpu->gpr[ECX] << 32 | (uint32_t)cpu->gpr[EBX] : old, 8);
	if (!equal) {
		cpu->gpr[EAX] = (uint32_t)old;
		cpu->gpr[EDX] = old >> 32;
	}
	flag_assign(cpu, FLAG_ZF, equal);
}

static void op_xlat(struct cpu *cpu, const struct insn *in)
{
	uint32_t at = ((uint32_t)cpu->gpr[EBX] + *reg8(cpu, EAX)) & address_mask(in);

	*reg8(cpu, EAX) = (uint8_t)mem_read(cpu, in->seg, at, 1);
}

static void op_bswap(struct cpu *cpu, const struct insn *in)
{
	unsigned n = in->opcode & 7;

	/* with a 16-bit operand size undefined by the SDM; processors zero it */
	if (in->opsize == 2)
		reg_set(cpu, n, 2, 0);
	else
		cpu->gpr[n] = __builtin_bswap32((uint32_t)cpu->gpr[n]);
}

static void op_cmovcc(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);
	uint32_t v = op_read(cpu, in, 1, size); /* read, and faulting, even if not moved */

	if (condition(cpu->eflags, in->entry->cond))
		op_write(cpu, in, 0, size, v);
}

static void op_setcc(struct cpu *cpu, const struct insn *in)
{
	op_write(cpu, in, 0, 1, condition(cpu->eflags, in->entry->cond));
}

static void op_cbw_cwde(struct cpu *cpu, const struct insn *in)
{
	if (in->opsize == 2)
		reg_set(cpu, EAX, 2, (uint32_t)(int8_t)cpu->gpr[EAX]);
	else
		cpu->gpr[EAX] = (uint32_t)(int16_t)cpu->gpr[EAX];
}

static void op_cwd_cdq(struct cpu *cpu, const struct insn *in)
{
	int32_t v = sign_extend((uint32_t)cpu->gpr[EAX], in->opsize);

	reg_set(cpu, EDX, in->opsize, v < 0 ? 0xffffffffu : 0);
}

static void op_nop(struct cpu *cpu, const struct insn *in)
{
}

/* ---- multiplication and division ---- */

static void multiply(struct cpu *cpu, const struct insn *in, bool is_signed)
{
	unsigned n = op_rm(in), size = op_bytes(in, n);
	uint32_t src = op_read(cpu, in, n, size);
	uint32_t acc = reg_get(cpu, EAX, size), high, low;

	low = is_signed ? alu_imul_wide(size, acc, src, &high, &cpu->eflags)
			: alu_mul_wide(size, acc, src, &high, &cpu->eflags);
	if (size == 1) {
		reg_set(cpu, EAX, 2, high << 8 | low);
		return;
	}
	reg_set(cpu, EAX, size, low);
	reg_set(cpu, EDX, size, high);
}

static void op_mul(struct cpu *cpu, const struct insn *in)
{
	multiply(cpu, in, false);
}

static void op_imul(struct cpu *cpu, const struct insn *in)
{
	multiply(cpu, in, true);
}

static void op_imul2(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);
	uint32_t b = op_read(cpu, in, 1, size);

	reg_set(cpu, in->reg, size,
		alu_imul(size, reg_get(cpu, in->reg, size), b, &cpu->eflags));
}

static void op_imul3(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);
	uint32_t a = op_read(cpu, in, 1, size);

	reg_set(cpu, in->reg, size, alu_imul(size, a, (uint32_t)in->imm, &cpu->eflags));
}

/* rDX:rAX, or AX for byte division */
static uint64_t dividend(struct cpu *cpu, unsigned size)
{
	if (size == 1)
		return (uint16_t)cpu->gpr[EAX];
	return (uint64_t)reg_get(cpu, EDX, size) << size * 8 | reg_get(cpu, EAX, size);
}

static void set_quotient(struct cpu *cpu, unsigned size, uint32_t q, uint32_t r)
{
	if (size == 1) {
		reg_set(cpu, EAX, 2, (r & 0xff) << 8 | (q & 0xff));
		return;
	}
	reg_set(cpu, EAX, size, q);
	reg_set(cpu, EDX, size, r);
}

static void op_div(struct cpu *cpu, const struct insn *in)
{
	unsigned n = op_rm(in), size = op_bytes(in, n);
	uint32_t by = op_read(cpu, in, n, size);
	uint64_t v = dividend(cpu, size);

	if (!by || v / by > size_mask(size))
		cpu_raise_ne(cpu, EXC_DE);
	set_quotient(cpu, size, (uint32_t)(v / by), (uint32_t)(v % by));
}

static void op_idiv(struct cpu *cpu, const struct insn *in)
{
	unsigned n = op_rm(in), size = op_bytes(in, n);
	int64_t by = sign_extend(op_read(cpu, in, n, size), size);
	unsigned unused = 64 - 16 * size;
	int64_t v = (int64_t)(dividend(cpu, size) << unused) >> unused;
	int64_t limit = (int64_t)(size_mask(size) >> 1), q;

	if (!by || (by == -1 && v == INT64_MIN))
		cpu_raise_ne(cpu, EXC_DE);
	q = v / by;
	if (q > limit || q < -limit - 1)
		cpu_raise_ne(cpu, EXC_DE);
	set_quotient(cpu, size, (uint32_t)q, (uint32_t)(v % by));
}

/* ---- binary-coded decimal (SDM 1 7.3.4) ---- */

/* SF, ZF and PF of a byte; OF cleared. CF and AF as given. */
static void bcd_flags(struct cpu *cpu, uint8_t v, bool cf, bool af)
{
	uint32_t f = cpu->eflags & ~(uint32_t)FLAGS_ARITH;

	f |= (v & 0x80 ? FLAG_SF : 0) | (v ? 0 : FLAG_ZF) |
	     (__builtin_parity(v) ? 0 : FLAG_PF) | (cf ? FLAG_CF : 0) | (af ? FLAG_AF : 0);
	cpu->eflags = f;
}

static void op_daa(struct cpu *cpu, const struct insn *in)
{
	uint8_t al = *reg8(cpu, EAX), v = al;
	bool af = (al & 0xf) > 9 || cpu->eflags & FLAG_AF;
	bool cf = al > 0x99 || cpu->eflags & FLAG_CF;

	v = (uint8_t)(v + (af ? 6 : 0) + (cf ? 0x60 : 0));
	*reg8(cpu, EAX) = v;
	bcd_flags(cpu, v, cf, af);
}

static void op_das(struct cpu *cpu, const struct insn *in)
{
	uint8_t al = *reg8(cpu, EAX), v = al;
	bool af = (al & 0xf) > 9 || cpu->eflags & FLAG_AF;
	bool high = al > 0x99 || cpu->eflags & FLAG_CF;
	bool cf = high || (af && al < 6); /* the first subtraction may borrow too */

	v = (uint8_t)(v - (af ? 6 : 0) - (high ? 0x60 : 0));
	*reg8(cpu, EAX) = v;
	bcd_flags(cpu, v, cf, af);
}

static void ascii_adjust(struct cpu *cpu, int sign)
{
	uint32_t ax = (uint16_t)cpu->gpr[EAX];
	bool adjust = (ax & 0xf) > 9 || cpu->eflags & FLAG_AF;

	if (adjust)
		ax = (uint32_t)((int)ax + sign * 0x106);
	reg_set(cpu, EAX, 2, ax & 0xff0f);
	bcd_flags(cpu, (uint8_t)(ax & 0xf), adjust, adjust);
}

static void op_aaa(struct cpu *cpu, const struct insn *in)
{
	ascii_adjust(cpu, 1);
}

static void op_aas(struct cpu *cpu, const struct insn *in)
{
	ascii_adjust(cpu, -1);
}

static void op_aam(struct cpu *cpu, const struct insn *in)
{
	uint8_t by = (uint8_t)in->imm, al = *reg8(cpu, EAX);

	if (!by)
		cpu_raise_ne(cpu, EXC_DE);
	reg_set(cpu, EAX, 2, (uint32_t)(al / by) << 8 | al % by);
	bcd_flags(cpu, al % by, false, false);
}

static void op_aad(struct cpu *cpu, const struct insn *in)
{
	uint32_t ax = (uint16_t)cpu->gpr[EAX];
	uint8_t v = (uint8_t)(ax + (ax >> 8) * (uint8_t)in->imm);

	reg_set(cpu, EAX, 2, v);
	bcd_flags(cpu, v, false, false);
}

/* ---- flags ---- */

static void op_clc(struct cpu *cpu, const struct insn *in)
{
	cpu->eflags &= ~(uint32_t)FLAG_CF;
}

static void op_stc(struct cpu *cpu, const struct insn *in)
{
	cpu->eflags |= FLAG_CF;
}

static void op_cmc(struct cpu *cpu, const struct insn *in)
{
	cpu->eflags ^= FLAG_CF;
}

static void op_cld(struct cpu *cpu, const struct insn *in)
{
	cpu->eflags &= ~(uint32_t)FLAG_DF;
}

static void op_std(struct cpu *cpu, const struct insn *in)
{
	cpu->eflags |= FLAG_DF;
}

static void op_lahf(struct cpu *cpu, const struct insn *in)
{
	*reg8(cpu, 4) = (uint8_t)((cpu->eflags & FLAGS_LAHF) | FLAG_RSVD1);
}

static void op_sahf(struct cpu *cpu, const struct insn *in)
{
	cpu->eflags = (cpu->eflags & ~(uint32_t)FLAGS_LAHF) | (*reg8(cpu, 4) & FLAGS_LAHF);
}

static void op_salc(struct cpu *cpu, const struct insn *in)
{
	*reg8(cpu, EAX) = cpu->eflags & FLAG_CF ? 0xff : 0;
}

interp_fn *interp_int_handler(unsigned id)
{
	static interp_fn *const table[] = {
		[INSN_ID_ADD] = op_add, [INSN_ID_OR] = op_or, [INSN_ID_ADC] = op_adc,
		[INSN_ID_SBB] = op_sbb, [INSN_ID_AND] = op_and, [INSN_ID_SUB] = op_sub,
		[INSN_ID_XOR] = op_xor, [INSN_ID_CMP] = op_cmp, [INSN_ID_TEST] = op_test,
		[INSN_ID_INC] = op_inc, [INSN_ID_DEC] = op_dec, [INSN_ID_NEG] = op_neg,
		[INSN_ID_NOT] = op_not,
		[INSN_ID_MOV] = op_mov, [INSN_ID_MOVZX] = op_movzx, [INSN_ID_MOVSX] = op_movsx,
		[INSN_ID_MOVBE] = op_movbe, [INSN_ID_MOVNTI] = op_mov, [INSN_ID_LEA] = op_lea,
		[INSN_ID_XCHG] = op_xchg, [INSN_ID_XADD] = op_xadd,
		[INSN_ID_CMPXCHG] = op_cmpxchg, [INSN_ID_CMPXCHG8B] = op_cmpxchg8b,
		[INSN_ID_XLAT] = op_xlat, [INSN_ID_BSWAP] = op_bswap,
		[INSN_ID_CMOVCC] = op_cmovcc, [INSN_ID_SETCC] = op_setcc,
		[INSN_ID_CBW_CWDE] = op_cbw_cwde, [INSN_ID_CWD_CDQ] = op_cwd_cdq,
		[INSN_ID_NOP] = op_nop, [INSN_ID_PAUSE] = op_nop, [INSN_ID_PREFETCH] = op_nop,
		[INSN_ID_LFENCE] = op_nop, [INSN_ID_MFENCE] = op_nop, [INSN_ID_SFENCE] = op_nop,
		[INSN_ID_MUL] = op_mul, [INSN_ID_IMUL] = op_imul, [INSN_ID_IMUL2] = op_imul2,
		[INSN_ID_IMUL3] = op_imul3, [INSN_ID_DIV] = op_div, [INSN_ID_IDIV] = op_idiv,
		[INSN_ID_DAA] = op_daa, [INSN_ID_DAS] = op_das, [INSN_ID_AAA] = op_aaa,
		[INSN_ID_AAS] = op_aas, [INSN_ID_AAM] = op_aam, [INSN_ID_AAD] = op_aad,
		[INSN_ID_CLC] = op_clc, [INSN_ID_STC] = op_stc, [INSN_ID_CMC] = op_cmc,
		[INSN_ID_CLD] = op_cld, [INSN_ID_STD] = op_std, [INSN_ID_LAHF] = op_lahf,
		[INSN_ID_SAHF] = op_sahf, [INSN_ID_SALC] = op_salc,
	};

	return id < ARRAY_SIZE(table) ? table[id] : NULL;
}
