/* Interpreter: shifts, rotates, bit tests and scans, bit counts, CRC.
 *
 * SDM volume 2. What a count of 0, a count beyond the width or a zero source
 * leaves in the flags is the host's answer (alu.h).
 */
#include "core/interp_priv.h"

#include "core/alu.h"

/* ---- shifts and rotates ---- */

/* With a masked count of 0 neither flags nor operand change, but a memory
 * operand is still checked for writing, as processors do. */
#define DEFINE_SHIFT(name)                                                     \
	static void op_##name(struct cpu *cpu, const struct insn *in)          \
	{                                                                      \
		unsigned size = op_bytes(in, 0);                               \
		uint32_t count = op_read(cpu, in, 1, 1) & 31, f, v;            \
		struct rmw m;                                                  \
									       \
		v = dst_begin(cpu, in, 0, size, &m);                           \
		if (!count)                                                    \
			return;                                                \
		f = cpu->eflags;                                               \
		v = alu_##name(size, v, count, &f);                            \
		rmw_write(cpu, &m, size, v);                              \
		cpu->eflags = f;                                               \
	}

DEFINE_SHIFT(rol)
DEFINE_SHIFT(ror)
DEFINE_SHIFT(rcl)
DEFINE_SHIFT(rcr)
DEFINE_SHIFT(shl)
DEFINE_SHIFT(shr)
DEFINE_SHIFT(sar)

static void double_shift(struct cpu *cpu, const struct insn *in, bool left)
{
	unsigned size = op_bytes(in, 0);
	uint32_t count = op_read(cpu, in, 2, 1) & 31, f = cpu->eflags, v, fill;
	struct rmw m;

	v = dst_begin(cpu, in, 0, size, &m);
	if (!count)
		return;
	fill = reg_get(cpu, in->reg, size);
	v = left ? alu_shld(size, v, fill, count, &f) : alu_shrd(size, v, fill, count, &f);
	rmw_write(cpu, &m, size, v);
	cpu->eflags = f;
}

static void op_shld(struct cpu *cpu, const struct insn *in)
{
	double_shift(cpu, in, true);
}

static void op_shrd(struct cpu *cpu, const struct insn *in)
{
	double_shift(cpu, in, false);
}

/* ---- bit tests ---- */

enum bit_op { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

static uint32_t bit_apply(enum bit_op op, uint32_t v, uint32_t bit)
{
	switch (op) {
	case BIT_SET:
		return v | bit;
	case BIT_RESET:
		return v & ~bit;
	case BIT_COMPLEMENT:
		return v ^ bit;
	default:
		return v;
	}
}

/* A register bit offset addresses a bit string: it reaches beyond the operand,
 * in both directions, in units of the operand size (SDM 2A 3.1.1.9). */
static void bit_test(struct cpu *cpu, const struct insn *in, enum bit_op op)
{
	unsigned size = op_bytes(in, 0);
	bool immediate = in->entry->op[1].addr == OP_I;
	uint32_t n = immediate ? (uint32_t)in->imm : reg_get(cpu, in->reg, size);
	uint32_t bit = 1u << (n & (size * 8 - 1)), at = 0, v;
	bool mem = op_is_memory(in, 0);
	struct rmw m;

	if (mem) {
		at = effective(cpu, in);
		if (!immediate) {
			int32_t units = sign_extend(n, size) >> (size == 4 ? 5 : 4);

			at = (at + (uint32_t)units * size) & address_mask(in);
		}
		if (op == BIT_TEST) {
			v = mem_read(cpu, in->seg, at, size);
		} else {
			rmw_open(cpu, &m, in->seg, at, size);
			v = rmw_read(cpu, &m, size);
			rmw_write(cpu, &m, size, bit_apply(op, v, bit));
		}
	} else {
		v = reg_get(cpu, in->rm, size);
		if (op != BIT_TEST)
			reg_set(cpu, in->rm, size, bit_apply(op, v, bit));
	}
	flag_assign(cpu, FLAG_CF, v & bit);
}

static void op_bt(struct cpu *cpu, const struct insn *in)
{
	bit_test(cpu, in, BIT_TEST);
}

static void op_bts(struct cpu *cpu, const struct insn *in)
{
	bit_test(cpu, in, BIT_SET);
}

static void op_btr(struct cpu *cpu, const struct insn *in)
{
	bit_test(cpu, in, BIT_RESET);
}

static void op_btc(struct cpu *cpu, const struct insn *in)
{
	bit_test(cpu, in, BIT_COMPLEMENT);
}

/* ---- scans and counts ---- */

/* A zero source leaves the destination as it was, on all processors. */
static void op_bsf(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);
	uint32_t src = op_read(cpu, in, 1, size);

	reg_set(cpu, in->reg, size,
		alu_bsf(size, reg_get(cpu, in->reg, size), src, &cpu->eflags));
}

static void op_bsr(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);
	uint32_t src = op_read(cpu, in, 1, size);

	reg_set(cpu, in->reg, size,
		alu_bsr(size, reg_get(cpu, in->reg, size), src, &cpu->eflags));
}

static void op_popcnt(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 0);
	uint32_t src = op_read(cpu, in, 1, size);

	reg_set(cpu, in->reg, size, (uint32_t)__builtin_popcount(src));
	cpu->eflags = (cpu->eflags & ~(uint32_t)FLAGS_ARITH) | (src ? 0 : FLAG_ZF);
}

/* Polynomial 11EDC6F41h, bits reflected (SDM 2A, CRC32). */
static void op_crc32(struct cpu *cpu, const struct insn *in)
{
	unsigned size = op_bytes(in, 1);
	uint32_t src = op_read(cpu, in, 1, size), crc = (uint32_t)cpu->gpr[in->reg];

	crc ^= src;
	for (unsigned i = 0; i < size * 8; i++)
		crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	cpu->gpr[in->reg] = crc;
}

interp_fn *interp_bit_handler(unsigned id)
{
	static interp_fn *const table[] = {
		[INSN_ID_ROL] = op_rol, [INSN_ID_ROR] = op_ror, [INSN_ID_RCL] = op_rcl,
		[INSN_ID_RCR] = op_rcr, [INSN_ID_SHL] = op_shl, [INSN_ID_SHR] = op_shr,
		[INSN_ID_SAR] = op_sar, [INSN_ID_SHLD] = op_shld, [INSN_ID_SHRD] = op_shrd,
		[INSN_ID_BT] = op_bt, [INSN_ID_BTS] = op_bts, [INSN_ID_BTR] = op_btr,
		[INSN_ID_BTC] = op_btc, [INSN_ID_BSF] = op_bsf, [INSN_ID_BSR] = op_bsr,
		[INSN_ID_POPCNT] = op_popcnt, [INSN_ID_CRC32] = op_crc32,
	};

	return id < ARRAY_SIZE(table) ? table[id] : NULL;
}
