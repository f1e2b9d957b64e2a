/* x86-64 bytes: the encoder. It knows encodings and nothing of blocks.
 *
 * Intel SDM volume 2, chapter 2. Errors are sticky: running out of room sets
 * `full`, later bytes are dropped, and whoever asked for the code tests once.
 */
#ifndef GANNET_JIT_EMIT_H
#define GANNET_JIT_EMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Host registers by their encoding. */
enum host_reg {
	RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI,
	R8, R9, R10, R11, R12, R13, R14, R15,
	NO_REG = -1,
};

/* Which opcode map, as the escape bytes say. */
enum emit_map { EMIT_1, EMIT_0F, EMIT_0F38, EMIT_0F3A };

struct emit {
	uint8_t *p;   /* next byte, in the writable mapping */
	uint8_t *end; /* first byte that must not be written */
	int64_t exec; /* add to a writable address to get the executable one */
	bool full;
};

struct host_mem {
	int8_t base;   /* enum host_reg; NO_REG: none */
	int8_t index;  /* enum host_reg; never RSP */
	uint8_t scale; /* shift 0-3 */
	int32_t disp;
};

#define MEM_BD(b, d) ((struct host_mem){ (b), NO_REG, 0, (d) })
#define MEM_BI(b, i) ((struct host_mem){ (b), (i), 0, 0 })
#define MEM_BIS(b, i, s, d) ((struct host_mem){ (b), (i), (s), (d) })

static inline uint64_t emit_addr(const struct emit *e) { return (uint64_t)e->p + e->exec; }

static inline void emit8(struct emit *e, uint8_t b)
{
	if (e->p < e->end)
		*e->p++ = b;
	else
		e->full = true;
}

static inline void emit32(struct emit *e, uint32_t v)
{
	if (e->end - e->p >= 4) {
		memcpy(e->p, &v, 4);
		e->p += 4;
	} else {
		e->full = true;
	}
}

static inline void emit64(struct emit *e, uint64_t v)
{
	emit32(e, (uint32_t)v);
	emit32(e, (uint32_t)(v >> 32));
}

static inline void emit_imm(struct emit *e, int64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		emit8(e, (uint8_t)((uint64_t)v >> i * 8));
}

/* How an instruction starts: legacy prefix byte (0 none, 0x66, 0xf2, 0xf3),
 * REX.W, map, opcode. */
struct op {
	uint8_t prefix;
	bool prefix66; /* 66 beside an F2/F3 (CRC32, 16-bit POPCNT) */
	bool w;
	uint8_t map;
	uint8_t opcode;
};

#define OP1(o) ((struct op){ .map = EMIT_1, .opcode = (o) })
#define OP1W(o) ((struct op){ .w = true, .map = EMIT_1, .opcode = (o) })
#define OP0F(o) ((struct op){ .map = EMIT_0F, .opcode = (o) })

static inline void emit_op_start(struct emit *e, struct op op, bool r, bool x, bool b)
{
	uint8_t rex = (uint8_t)(0x40 | op.w << 3 | r << 2 | x << 1 | b);

	if (op.prefix66)
		emit8(e, 0x66);
	if (op.prefix)
		emit8(e, op.prefix);
	if (rex != 0x40)
		emit8(e, rex);
	if (op.map != EMIT_1)
		emit8(e, 0x0f);
	if (op.map == EMIT_0F38)
		emit8(e, 0x38);
	if (op.map == EMIT_0F3A)
		emit8(e, 0x3a);
	emit8(e, op.opcode);
}

/* ModRM, SIB and displacement of a memory operand. */
static inline void emit_modrm_mem(struct emit *e, unsigned reg, struct host_mem m)
{
	unsigned r = (reg & 7) << 3, mod;
	bool sib = m.index != NO_REG || m.base == NO_REG || (m.base & 7) == RSP;

	if (m.base == NO_REG)
		mod = 0;
	else if (m.disp == 0 && (m.base & 7) != RBP)
		mod = 0;
	else if (m.disp == (int8_t)m.disp)
		mod = 1;
	else
		mod = 2;
	emit8(e, (uint8_t)(mod << 6 | r | (sib ? 4 : m.base & 7)));
	if (sib)
		emit8(e, (uint8_t)(m.scale << 6 | (m.index == NO_REG ? 4 : m.index & 7) << 3 |
				   (m.base == NO_REG ? 5 : m.base & 7)));
	if (m.base == NO_REG || mod == 2)
		emit32(e, (uint32_t)m.disp);
	else if (mod == 1)
		emit8(e, (uint8_t)m.disp);
}

/** emit_rr - op with two registers: @reg in ModRM.reg, @rm in ModRM.rm */
static inline void emit_rr(struct emit *e, struct op op, unsigned reg, unsigned rm)
{
	emit_op_start(e, op, reg >> 3 & 1, false, rm >> 3 & 1);
	emit8(e, (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7)));
}

/** emit_rm - op with a register and a memory operand */
static inline void emit_rm(struct emit *e, struct op op, unsigned reg, struct host_mem m)
{
	emit_op_start(e, op, reg >> 3 & 1, m.index != NO_REG && m.index >= 8,
		      m.base != NO_REG && m.base >= 8);
	emit_modrm_mem(e, reg, m);
}

/* ---- what the recompiler says often; 32-bit unless named otherwise ---- */

static inline void emit_mov(struct emit *e, unsigned dst, unsigned src)
{
	emit_rr(e, OP1(0x89), src, dst);
}

static inline void emit_mov64(struct emit *e, unsigned dst, unsigned src)
{
	emit_rr(e, OP1W(0x89), src, dst);
}

static inline void emit_mov_imm(struct emit *e, unsigned dst, uint32_t imm)
{
	if (dst >= 8)
		emit8(e, 0x41);
	emit8(e, (uint8_t)(0xb8 | (dst & 7)));
	emit32(e, imm);
}

static inline void emit_mov_imm64(struct emit *e, unsigned dst, uint64_t imm)
{
	emit8(e, (uint8_t)(0x48 | dst >> 3));
	emit8(e, (uint8_t)(0xb8 | (dst & 7)));
	emit64(e, imm);
}

static inline void emit_load(struct emit *e, unsigned dst, struct host_mem m)
{
	emit_rm(e, OP1(0x8b), dst, m);
}

static inline void emit_load64(struct emit *e, unsigned dst, struct host_mem m)
{
	emit_rm(e, OP1W(0x8b), dst, m);
}

static inline void emit_store(struct emit *e, struct host_mem m, unsigned src)
{
	emit_rm(e, OP1(0x89), src, m);
}

static inline void emit_store_imm(struct emit *e, struct host_mem m, uint32_t imm)
{
	emit_rm(e, OP1(0xc7), 0, m);
	emit32(e, imm);
}

static inline void emit_lea(struct emit *e, unsigned dst, struct host_mem m)
{
	emit_rm(e, OP1(0x8d), dst, m);
}

static inline void emit_lea64(struct emit *e, unsigned dst, struct host_mem m)
{
	emit_rm(e, OP1W(0x8d), dst, m);
}

static inline void emit_not(struct emit *e, unsigned reg) { emit_rr(e, OP1(0xf7), 2, reg); }

/* VEX three-byte form. @pp: 0 none, 1 66, 2 F3, 3 F2. */
static inline void emit_vex(struct emit *e, unsigned pp, unsigned map, bool w, unsigned opcode,
			    unsigned reg, unsigned vvvv, bool x, bool b)
{
	emit8(e, 0xc4);
	emit8(e, (uint8_t)((reg < 8) << 7 | !x << 6 | !b << 5 | map));
	emit8(e, (uint8_t)(w << 7 | (~vvvv & 15) << 3 | pp));
	emit8(e, (uint8_t)opcode);
}

/** PEXT dst, src, [mask]: gather the bits of src that the mask selects */
static inline void emit_pext_mem(struct emit *e, unsigned dst, unsigned src, struct host_mem m)
{
	emit_vex(e, 2, 2, false, 0xf5, dst, src, m.index != NO_REG && m.index >= 8, m.base >= 8);
	emit_modrm_mem(e, dst, m);
}

/** PDEP dst, src, [mask] */
static inline void emit_pdep_mem(struct emit *e, unsigned dst, unsigned src, struct host_mem m)
{
	emit_vex(e, 3, 2, false, 0xf5, dst, src, m.index != NO_REG && m.index >= 8, m.base >= 8);
	emit_modrm_mem(e, dst, m);
}

/** RORX dst, src, imm */
static inline void emit_rorx(struct emit *e, bool w, unsigned dst, unsigned src, unsigned imm)
{
	emit_vex(e, 3, 3, w, 0xf0, dst, 0, false, src >= 8);
	emit8(e, (uint8_t)(0xc0 | (dst & 7) << 3 | (src & 7)));
	emit8(e, (uint8_t)imm);
}

/** SHRX dst, src, count */
static inline void emit_shrx(struct emit *e, unsigned dst, unsigned src, unsigned count)
{
	emit_vex(e, 3, 2, false, 0xf7, dst, count, false, src >= 8);
	emit8(e, (uint8_t)(0xc0 | (dst & 7) << 3 | (src & 7)));
}

/** SARX dst, src, count */
static inline void emit_sarx(struct emit *e, unsigned dst, unsigned src, unsigned count)
{
	emit_vex(e, 2, 2, false, 0xf7, dst, count, false, src >= 8);
	emit8(e, (uint8_t)(0xc0 | (dst & 7) << 3 | (src & 7)));
}

/* Branches. A rel32 is written for the executable address of @target. */
static inline void emit_rel32(struct emit *e, uint64_t target)
{
	emit32(e, (uint32_t)(target - (emit_addr(e) + 4)));
}

static inline void emit_jmp(struct emit *e, uint64_t target)
{
	emit8(e, 0xe9);
	emit_rel32(e, target);
}

static inline void emit_jcc(struct emit *e, unsigned cc, uint64_t target)
{
	emit8(e, 0x0f);
	emit8(e, (uint8_t)(0x80 | cc));
	emit_rel32(e, target);
}

static inline void emit_call(struct emit *e, uint64_t target)
{
	emit8(e, 0xe8);
	emit_rel32(e, target);
}

static inline void emit_jmp_mem(struct emit *e, struct host_mem m) { emit_rm(e, OP1(0xff), 4, m); }
static inline void emit_call_mem(struct emit *e, struct host_mem m) { emit_rm(e, OP1(0xff), 2, m); }

/** emit_patch8 - let the 8-bit displacement at @at (writable) reach the current point */
static inline void emit_patch8(struct emit *e, uint8_t *at)
{
	if (e->p - (at + 1) > 127)
		e->full = true; /* out of reach: the block is given up */
	else if (!e->full)
		*at = (uint8_t)(e->p - (at + 1));
}

#endif
