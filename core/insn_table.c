/* The decode table: every instruction of a 32-bit x86 processor up to SSE4.2,
 * AES, PCLMULQDQ and SHA, in the operand letters of the Intel SDM, volume 2,
 * appendix A (opcode map) with access and flags from the instruction pages.
 *
 * The rows stand in three files, included into one array below: insn_table_int.inc
 * (general purpose and system), insn_table_x87.inc, insn_table_simd.inc. A row is
 *
 *   where (opcode, ModRM fields), mnemonic, attributes, flags, operands
 *
 * Deviations from the SDM, all on purpose:
 *
 * - An operand's access is that of the instruction as hardware executes it. A
 *   destination that is only sometimes written (CMOVcc, BSF, LAR) is read and
 *   written, for its old value matters.
 * - An operand's size is the number of bytes touched in memory. Where register
 *   and memory forms differ (PEXTRB, SLDT) there is a row for each.
 * - Flags that keep their value for a count of 0 (shifts, REP CMPS) are listed as
 *   read too. CF of a shift by more than the operand's width is undefined in the
 *   SDM and not listed as such, for every other count defines it.
 * - MOV to and from CRn and DRn leave the arithmetic flags alone, as all hardware
 *   does; the SDM calls them undefined.
 * - TZCNT and LZCNT are BSF and BSR: their F3 prefix is ignored, as on every CPU
 *   without BMI and ABM.
 */
#include "core/cpu.h"
#include "core/insn.h"

/* ---- operands: access(letter, size) ---- */
#define OPERAND(acc, a, s, f) { OP_##a, SZ_##s, ACC_##acc, f }
#define R(a, s) OPERAND(R, a, s, 0)
#define W(a, s) OPERAND(W, a, s, 0)
#define RW(a, s) OPERAND(RW, a, s, 0)
#define NOACC(a, s) OPERAND(NONE, a, s, 0)
#define FIX(acc, s, n) OPERAND(acc, FIXED_GPR, s, n)
#define FIXS(acc, n) OPERAND(acc, FIXED_SREG, W, n)
#define ACCUM(acc, s) FIX(acc, s, EAX)
#define IB_SX OPERAND(R, I, B, 1) /* sign-extended to the operand size */
#define IB R(I, B)

/* ---- flags: read, written, undefined ---- */
#define F_NONE 0, 0, 0
#define F_ARITH 0, FLAGS_ARITH, 0
#define F_LOGIC 0, FLAGS_ARITH, FLAG_AF
#define F_CARRY FLAG_CF, FLAGS_ARITH, 0
#define F_INC 0, FLAGS_ARITH & ~FLAG_CF, 0
#define F_WRITE(f) 0, f, 0
#define F_READ(f) f, 0, 0

/* ModRM.mod of a row */
#define ANY (-1)
#define MEM 0
#define REG 3

#define ENT_(map_, opc, need_, reg_, rm_, mod_, feat, name, attr_, cond_, fr, fw, fu, ...)      \
	{                                                                                      \
		.map = map_, .opcode = opc, .need = need_, .reg = reg_, .rm = rm_,             \
		.mod = mod_, .feature = feat, .cond = cond_, .id = INSN_ID_##name,             \
		.attr = (attr_) | ((fu) ? INSN_COMMUTES_FLAGS_UNDEF : 0), .flags_read = fr,    \
		.flags_written = fw, .flags_undef = fu, .op = { __VA_ARGS__ }                  \
	}

/* One-byte map: no ModRM; ModRM; ModRM with reg (and mod) as part of the opcode. */
#define P1(opc, name, attr, ...)                                                               \
	ENT(MAP_1, opc, NEED_ANY, -1, -1, -1, FEAT_BASE, name, attr, 0, __VA_ARGS__)
#define M1(opc, name, attr, ...)                                                               \
	ENT(MAP_1, opc, NEED_ANY, -1, -1, -1, FEAT_BASE, name, INSN_MODRM | (attr), 0,         \
	    __VA_ARGS__)
#define X1(opc, reg, mod, name, attr, ...)                                                     \
	ENT(MAP_1, opc, NEED_ANY, reg, -1, mod, FEAT_BASE, name, INSN_MODRM | (attr), 0,       \
	    __VA_ARGS__)
/* The same for the 0F map, with a CPUID feature. */
#define P2(opc, feat, name, attr, ...)                                                         \
	ENT(MAP_0F, opc, NEED_ANY, -1, -1, -1, feat, name, attr, 0, __VA_ARGS__)
#define M2(opc, feat, name, attr, ...)                                                         \
	ENT(MAP_0F, opc, NEED_ANY, -1, -1, -1, feat, name, INSN_MODRM | (attr), 0, __VA_ARGS__)
#define X2(opc, reg, mod, feat, name, attr, ...)                                               \
	ENT(MAP_0F, opc, NEED_ANY, reg, -1, mod, feat, name, INSN_MODRM | (attr), 0,           \
	    __VA_ARGS__)
/* Any map, with a mandatory prefix. */
#define XP(map, opc, need, reg, mod, feat, name, attr, ...)                                    \
	ENT(map, opc, NEED_##need, reg, -1, mod, feat, name, INSN_MODRM | (attr), 0, __VA_ARGS__)

#define SYS INSN_SYSTEM
#define PRIV (INSN_SYSTEM | INSN_CPL0 | INSN_NO_GENERATE)
#define NOGEN INSN_NO_GENERATE

/* One macro more, so that F_* become three arguments. */
#define ENT(...) ENT_(__VA_ARGS__)

static const struct insn_entry table[] = {
#include "core/insn_table_int.inc"
#include "core/insn_table_x87.inc"
#include "core/insn_table_simd.inc"
};

static const char *const names[INSN_ID_COUNT] = {
	[INSN_ID_INVALID] = "(invalid)",
#define INSN_NAME(name) [INSN_ID_##name] = #name,
#include "core/insn_names.h"
#undef INSN_NAME
};

const struct insn_entry *insn_table(size_t *count)
{
	*count = sizeof(table) / sizeof(table[0]);
	return table;
}

const char *insn_name(enum insn_id id)
{
	return (unsigned)id < INSN_ID_COUNT ? names[id] : names[INSN_ID_INVALID];
}
