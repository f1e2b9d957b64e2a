/* Instruction decoder: bytes to struct insn, by way of the decode table.
 *
 * SDM volume 2, chapter 2: prefixes in any order, one to three opcode bytes, ModRM,
 * SIB, displacement, immediate; 15 bytes at most. Which row of the table applies is
 * found through an index of (map, opcode, mandatory prefix), whose cells are either
 * a row or, where ModRM is part of the opcode, a group of 16 cells chosen by
 * ModRM.reg and whether the r/m operand is a register, which may lead to a last
 * choice by ModRM.rm. Rows that ask for a prefix win over those that do not.
 *
 * The index is derived from the constant table alone, is the same for every
 * machine, and is built once by whoever decodes first; nothing changes it after.
 */
#include "core/insn.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "core/cpu.h"
#include "core/util.h"

enum { CLASS_NP, CLASS_66, CLASS_F3, CLASS_F2, CLASS_COUNT };

enum {
	INDEX_ROWS_MAX = 2048,
	INDEX_GROUPS_MAX = 512,
	INDEX_RM_GROUPS_MAX = 64,
	/* Cells: 0 for no instruction, row + 1, or one of these plus a group number. */
	CELL_GROUP = 0x4000,
	CELL_RM_GROUP = 0x8000,
};

/* What follows the opcode and ModRM. */
enum imm_kind {
	IMM_NONE,
	IMM_8,
	IMM_8_SIGNED, /* also Jb */
	IMM_16,
	IMM_V,        /* 2 or 4 bytes by operand size, zero-extended */
	IMM_J,        /* the same, sign-extended */
	IMM_FAR,      /* offset by operand size, selector */
	IMM_ENTER,    /* 2 bytes, then 1 */
	IMM_8_8,      /* length and index of EXTRQ, INSERTQ */
	IMM_MOFFS,    /* address by address size */
};

struct row_shape {
	uint8_t imm;      /* enum imm_kind */
	bool forced_reg;  /* ModRM.mod is taken for 3 */
};

struct decode_index {
	uint16_t cell[4][256][CLASS_COUNT];
	uint16_t group[INDEX_GROUPS_MAX][16];
	uint16_t rm_group[INDEX_RM_GROUPS_MAX][8];
	struct row_shape shape[INDEX_ROWS_MAX];
	const struct insn_entry *rows;
	unsigned groups, rm_groups;
};

static struct decode_index index_storage;
static pthread_once_t index_once = PTHREAD_ONCE_INIT;
static atomic_bool index_ready;

static struct row_shape row_shape(const struct insn_entry *e)
{
	struct row_shape s = { IMM_NONE, false };

	for (int i = 0; i < 4; i++) {
		const struct op_desc *op = &e->op[i];

		switch (op->addr) {
		case OP_I:
			if (s.imm != IMM_NONE) /* the second one */
				s.imm = s.imm == IMM_16 ? IMM_ENTER : IMM_8_8;
			else if (op->size == SZ_B)
				s.imm = op->fixed ? IMM_8_SIGNED : IMM_8;
			else
				s.imm = op->size == SZ_W ? IMM_16 : IMM_V;
			break;
		case OP_J:
			s.imm = op->size == SZ_B ? IMM_8_SIGNED : IMM_J;
			break;
		case OP_A:
			s.imm = IMM_FAR;
			break;
		case OP_O:
			s.imm = IMM_MOFFS;
			break;
		case OP_R:
			s.forced_reg = e->mod < 0;
			break;
		default:
			break;
		}
	}
	return s;
}

static bool row_is_low3(const struct insn_entry *e)
{
	return e->op[0].addr == OP_Z || e->op[1].addr == OP_Z;
}

/* The order rows go into the index: a later one overrides. */
static int row_rank(const struct insn_entry *e)
{
	bool constrained = e->reg >= 0 || e->rm >= 0 || e->mod >= 0;

	if (row_is_low3(e))
		return 0;
	return 1 + 2 * (e->need != NEED_ANY) + constrained;
}

static void index_place(struct decode_index *ix, uint16_t *cell, const struct insn_entry *e)
{
	uint16_t value = (uint16_t)(e - ix->rows + 1);
	uint16_t *group;

	if (e->reg < 0 && e->rm < 0 && e->mod < 0) {
		*cell = value;
		return;
	}
	if (!(*cell & CELL_GROUP)) {
		assert(ix->groups < INDEX_GROUPS_MAX);
		for (int i = 0; i < 16; i++)
			ix->group[ix->groups][i] = *cell;
		*cell = CELL_GROUP | ix->groups++;
	}
	group = ix->group[*cell & ~CELL_GROUP];
	for (int i = 0; i < 16; i++) {
		if ((e->reg >= 0 && e->reg != (i & 7)) || (e->mod == 3 && i < 8) ||
		    (e->mod == 0 && i >= 8))
			continue;
		if (e->rm < 0) {
			group[i] = value;
			continue;
		}
		if (!(group[i] & CELL_RM_GROUP)) {
			assert(ix->rm_groups < INDEX_RM_GROUPS_MAX);
			for (int j = 0; j < 8; j++)
				ix->rm_group[ix->rm_groups][j] = group[i];
			group[i] = CELL_RM_GROUP | ix->rm_groups++;
		}
		ix->rm_group[group[i] & ~CELL_RM_GROUP][e->rm] = value;
	}
}

static void index_build(void)
{
	static const uint8_t class_of_need[] = {
		[NEED_NP] = CLASS_NP, [NEED_66] = CLASS_66,
		[NEED_F3] = CLASS_F3, [NEED_F2] = CLASS_F2,
	};
	struct decode_index *ix = &index_storage;
	size_t count;

	ix->rows = insn_table(&count);
	assert(count < INDEX_ROWS_MAX);
	for (int rank = 0; rank <= 4; rank++) {
		for (size_t i = 0; i < count; i++) {
			const struct insn_entry *e = &ix->rows[i];
			int opcodes = row_is_low3(e) ? 8 : 1;

			if (row_rank(e) != rank)
				continue;
			ix->shape[i] = row_shape(e);
			for (int o = e->opcode; o < e->opcode + opcodes; o++) {
				uint16_t *cell = ix->cell[e->map][o];

				if (e->need != NEED_ANY) {
					index_place(ix, &cell[class_of_need[e->need]], e);
					continue;
				}
				for (int c = 0; c < CLASS_COUNT; c++)
					index_place(ix, &cell[c], e);
			}
		}
	}
	atomic_store_explicit(&index_ready, true, memory_order_release);
}

static inline const struct decode_index *index_get(void)
{
	if (unlikely(!atomic_load_explicit(&index_ready, memory_order_acquire)))
		pthread_once(&index_once, index_build);
	return &index_storage;
}

/* The bytes of the instruction, as far as they may be looked at. */
struct cursor {
	const uint8_t *bytes;
	unsigned pos;
	unsigned limit; /* at most INSN_MAX_LENGTH */
};

static enum decode_result ended(struct insn *in, const struct cursor *c, enum decode_result why)
{
	in->length = (uint8_t)c->pos;
	in->entry = NULL;
	return why;
}

/* More bytes are wanted than there are: which of the two limits is it? */
static enum decode_result ran_out(struct insn *in, const struct cursor *c, unsigned wanted)
{
	return ended(in, c, c->pos + wanted > INSN_MAX_LENGTH ? DECODE_TOO_LONG : DECODE_MORE);
}

static inline bool has(const struct cursor *c, unsigned n)
{
	return c->pos + n <= c->limit;
}

/* SDM 2A table 2-1. */
static unsigned address16(struct insn *in)
{
	static const int8_t bases[8] = { EBX, EBX, EBP, EBP, ESI, EDI, EBP, EBX };
	static const int8_t indexes[8] = { ESI, EDI, ESI, EDI, -1, -1, -1, -1 };

	if (in->mod == 0 && in->rm == 6)
		return 2;
	in->base = bases[in->rm];
	in->index = indexes[in->rm];
	return in->mod; /* 0, 1 or 2 bytes */
}

/* SDM 2A tables 2-2 and 2-3; the SIB byte is consumed, and known to be there. */
static unsigned address32(struct insn *in, struct cursor *c)
{
	static const uint8_t disp_bytes[3] = { 0, 1, 4 };
	uint8_t base = in->rm;

	if (in->rm == 4) {
		uint8_t sib = c->bytes[c->pos++];

		base = sib & 7;
		in->index = (sib >> 3 & 7) == ESP ? -1 : sib >> 3 & 7;
		in->scale = sib >> 6;
	}
	if (in->mod == 0 && base == EBP)
		return 4;
	in->base = (int8_t)base;
	return disp_bytes[in->mod];
}

static bool decode_memory(struct insn *in, struct cursor *c, unsigned *missing)
{
	unsigned disp;

	in->has_mem = true;
	*missing = 1;
	if (in->adsize == 4 && in->rm == 4 && !has(c, 1))
		return false;
	disp = in->adsize == 2 ? address16(in) : address32(in, c);
	if (!(in->prefixes & PREFIX_SEG) && (in->base == EBP || in->base == ESP))
		in->seg = SS;
	*missing = disp;
	if (!has(c, disp))
		return false;
	if (disp == 1)
		in->disp = (int8_t)c->bytes[c->pos];
	else if (disp == 2)
		in->disp = (int16_t)load_le16(c->bytes + c->pos);
	else if (disp == 4)
		in->disp = (int32_t)load_le32(c->bytes + c->pos);
	c->pos += disp;
	return true;
}

static bool decode_immediate(struct insn *in, struct cursor *c, enum imm_kind kind,
			     unsigned *missing)
{
	const uint8_t *p = c->bytes + c->pos;
	bool wide = in->opsize != 2;
	unsigned more = 0;

	switch (kind) {
	case IMM_NONE:
		return true;
	case IMM_8:
	case IMM_8_SIGNED:
		in->imm_size = 1;
		break;
	case IMM_16:
		in->imm_size = 2;
		break;
	case IMM_V:
	case IMM_J:
		in->imm_size = wide ? 4 : 2;
		break;
	case IMM_FAR:
		in->imm_size = wide ? 4 : 2;
		more = 2;
		break;
	case IMM_8_8:
		in->imm_size = 1;
		more = 1;
		break;
	case IMM_ENTER:
		in->imm_size = 2;
		more = 1;
		break;
	case IMM_MOFFS:
		*missing = in->adsize;
		if (!has(c, in->adsize))
			return false;
		in->has_mem = true;
		in->disp = in->adsize == 2 ? load_le16(p) : (int32_t)load_le32(p);
		c->pos += in->adsize;
		return true;
	}
	*missing = in->imm_size + more;
	if (!has(c, *missing))
		return false;
	if (in->imm_size == 1)
		in->imm = kind == IMM_8_SIGNED ? (int8_t)p[0] : p[0];
	else if (in->imm_size == 2)
		in->imm = kind == IMM_J ? (int16_t)load_le16(p) : load_le16(p);
	else
		in->imm = kind == IMM_J ? (int32_t)load_le32(p) : (int64_t)load_le32(p);
	if (more)
		in->imm2 = more == 2 ? load_le16(p + in->imm_size) : p[in->imm_size];
	c->pos += *missing;
	return true;
}

/* Reads prefixes; the first byte that is none is returned, or -1 at the limit. */
static int decode_prefixes(struct insn *in, struct cursor *c, unsigned *class)
{
	while (c->pos < c->limit) {
		uint8_t b = c->bytes[c->pos++];

		switch (b) {
		case 0x26: in->seg = ES; break;
		case 0x2e: in->seg = CS; break;
		case 0x36: in->seg = SS; break;
		case 0x3e: in->seg = DS; break;
		case 0x64: in->seg = FS; break;
		case 0x65: in->seg = GS; break;
		case 0x66:
			in->prefixes |= PREFIX_66;
			if (*class == CLASS_NP)
				*class = CLASS_66;
			continue;
		case 0x67:
			in->prefixes |= PREFIX_67;
			continue;
		case 0xf0:
			in->prefixes |= PREFIX_LOCK;
			continue;
		case 0xf2: /* of F2 and F3 the last counts, in both their roles */
			in->prefixes = (in->prefixes & ~PREFIX_F3) | PREFIX_F2;
			*class = CLASS_F2;
			continue;
		case 0xf3:
			in->prefixes = (in->prefixes & ~PREFIX_F2) | PREFIX_F3;
			*class = CLASS_F3;
			continue;
		default:
			return b;
		}
		in->prefixes |= PREFIX_SEG;
	}
	return -1;
}

enum decode_result insn_decode(struct insn *in, bool code32, const uint8_t *bytes, size_t len)
{
	const struct decode_index *ix = index_get();
	struct cursor c = { bytes, 0, len < INSN_MAX_LENGTH ? (unsigned)len : INSN_MAX_LENGTH };
	unsigned class = CLASS_NP, map = MAP_1, missing;
	uint16_t cell;
	int b;

	memset(in, 0, sizeof(*in));
	in->base = in->index = -1;
	in->seg = DS;

	b = decode_prefixes(in, &c, &class);
	if (b < 0)
		return ran_out(in, &c, 1);
	in->opsize = code32 == !(in->prefixes & PREFIX_66) ? 4 : 2;
	in->adsize = code32 == !(in->prefixes & PREFIX_67) ? 4 : 2;

	if (b == 0x0f) {
		map = MAP_0F;
		if (!has(&c, 1))
			return ran_out(in, &c, 1);
		b = bytes[c.pos++];
		if (b == 0x38 || b == 0x3a) {
			map = b == 0x38 ? MAP_0F38 : MAP_0F3A;
			if (!has(&c, 1))
				return ran_out(in, &c, 1);
			b = bytes[c.pos++];
		}
	}
	in->opcode = (uint8_t)b;
	cell = ix->cell[map][b][class];
	if (!cell)
		return ended(in, &c, DECODE_INVALID);

	if ((cell & CELL_GROUP) || (ix->rows[cell - 1].attr & INSN_MODRM)) {
		if (!has(&c, 1))
			return ran_out(in, &c, 1);
		in->modrm = bytes[c.pos++];
		in->mod = in->modrm >> 6;
		in->reg = in->modrm >> 3 & 7;
		in->rm = in->modrm & 7;
		if (cell & CELL_GROUP)
			cell = ix->group[cell & ~CELL_GROUP][(in->mod == 3 ? 8 : 0) | in->reg];
		if (cell & CELL_RM_GROUP)
			cell = ix->rm_group[cell & ~CELL_RM_GROUP][in->rm];
		if (!cell)
			return ended(in, &c, DECODE_INVALID);
		if (ix->shape[cell - 1].forced_reg)
			in->mod = 3;
		if (in->mod != 3 && !decode_memory(in, &c, &missing))
			return ran_out(in, &c, missing);
	}
	in->entry = &ix->rows[cell - 1];
	if (!decode_immediate(in, &c, ix->shape[cell - 1].imm, &missing))
		return ran_out(in, &c, missing);
	if ((in->prefixes & PREFIX_LOCK) && !((in->entry->attr & INSN_LOCK) && in->has_mem))
		return ended(in, &c, DECODE_INVALID);
	in->length = (uint8_t)c.pos;
	return DECODE_OK;
}

unsigned insn_operand_bytes(const struct insn *in, unsigned n)
{
	if (n >= ARRAY_SIZE(in->entry->op))
		return 0;
	switch ((enum op_size)in->entry->op[n].size) {
	case SZ_0:
		return 0;
	case SZ_B:
		return 1;
	case SZ_W:
		return 2;
	case SZ_D:
	case SZ_Y:
	case SZ_SS:
		return 4;
	case SZ_Q:
	case SZ_SD:
		return 8;
	case SZ_DQ:
	case SZ_PS:
	case SZ_PD:
		return 16;
	case SZ_V:
		return in->opsize;
	case SZ_Z:
		return MIN(in->opsize, 4);
	case SZ_A:
		return 2 * in->opsize;
	case SZ_P:
		return in->opsize + 2;
	case SZ_S:
		return 6;
	case SZ_T:
		return 10;
	case SZ_ENV:
		return in->opsize == 2 ? 14 : 28;
	case SZ_FSAVE:
		return in->opsize == 2 ? 94 : 108;
	case SZ_FXSAVE:
		return 512;
	}
	return 0;
}

enum op_access insn_memory_access(const struct insn *in, unsigned *bytes)
{
	*bytes = 0;
	if (!in->has_mem)
		return ACC_NONE;
	for (unsigned i = 0; i < ARRAY_SIZE(in->entry->op); i++) {
		const struct op_desc *op = &in->entry->op[i];

		switch (op->addr) {
		case OP_E:
		case OP_M:
		case OP_W:
		case OP_Q:
		case OP_O:
			if (op->access != ACC_NONE)
				*bytes = insn_operand_bytes(in, i);
			return (enum op_access)op->access;
		default:
			break;
		}
	}
	return ACC_NONE;
}
