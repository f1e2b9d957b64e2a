/* The decoder by the letter of core/insn.h and SDM volume 2: prefixes, lengths,
 * addressing, immediates, LOCK; and that the rows of the table agree with
 * themselves. test_decode_capstone.c compares with an independent disassembler.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/cpu.h"
#include "core/insn.h"
#include "core/util.h"

#define BYTES(...) (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })

static struct insn decode32(const uint8_t *bytes, size_t len)
{
	struct insn in;

	ck_assert_int_eq(insn_decode(&in, true, bytes, len), DECODE_OK);
	ck_assert_uint_eq(in.length, len);
	return in;
}

static struct insn decode16(const uint8_t *bytes, size_t len)
{
	struct insn in;

	ck_assert_int_eq(insn_decode(&in, false, bytes, len), DECODE_OK);
	ck_assert_uint_eq(in.length, len);
	return in;
}

static enum decode_result result32(const uint8_t *bytes, size_t len)
{
	struct insn in;

	return insn_decode(&in, true, bytes, len);
}

static uint32_t random32(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 16);
}

/* ---- the table ---- */

static bool addr_is_modrm(uint8_t addr)
{
	switch (addr) {
	case OP_E: case OP_M: case OP_R: case OP_G: case OP_S: case OP_C: case OP_D: case OP_V:
	case OP_W: case OP_U: case OP_P: case OP_Q: case OP_N: case OP_STI:
		return true;
	default:
		return false;
	}
}

static bool size_is_16(uint8_t size)
{
	return size == SZ_DQ || size == SZ_PS || size == SZ_PD;
}

static void check_row(const struct insn_entry *e)
{
	bool modrm = e->reg >= 0 || e->rm >= 0 || e->mod >= 0;
	bool mem16 = false, wants_xmm = false, wants_mmx = false;

	for (int i = 0; i < 4; i++) {
		const struct op_desc *op = &e->op[i];

		modrm |= addr_is_modrm(op->addr);
		wants_xmm |= op->addr == OP_V || op->addr == OP_W || op->addr == OP_U;
		wants_mmx |= op->addr == OP_P || op->addr == OP_Q || op->addr == OP_N;
		if (op->addr == OP_M)
			ck_assert_int_eq(e->mod, 0);
		if (op->addr == OP_U || op->addr == OP_N || op->addr == OP_STI)
			ck_assert_int_eq(e->mod, 3);
		if (op->addr == OP_R && e->id != INSN_ID_MOV_CR && e->id != INSN_ID_MOV_DR)
			ck_assert_int_eq(e->mod, 3);
		if ((op->addr == OP_M || op->addr == OP_W) && size_is_16(op->size))
			mem16 = true;
		if (op->addr == OP_NONE && i < 3) /* no holes */
			ck_assert_int_eq(e->op[i + 1].addr, OP_NONE);
	}
	ck_assert_int_eq(modrm, !!(e->attr & INSN_MODRM));
	if (wants_xmm)
		ck_assert(e->attr & INSN_SSE);
	if (wants_mmx && !wants_xmm)
		ck_assert(e->attr & INSN_MMX);
	if (e->attr & INSN_ALIGN16)
		ck_assert(mem16 || e->id == INSN_ID_FXSAVE || e->id == INSN_ID_FXRSTOR);
	if (mem16 && !(e->attr & INSN_ALIGN16)) {
		static const enum insn_id unaligned[] = {
			INSN_ID_MOVUPS, INSN_ID_MOVUPD, INSN_ID_MOVDQU, INSN_ID_LDDQU,
			INSN_ID_PCMPESTRI, INSN_ID_PCMPESTRM, INSN_ID_PCMPISTRI,
			INSN_ID_PCMPISTRM,
		};
		bool known = e->feature == FEAT_SHA; /* aligned on Intel, not on AMD */

		for (size_t i = 0; i < ARRAY_SIZE(unaligned); i++)
			known |= e->id == unaligned[i];
		ck_assert_msg(known, "%s lacks ALIGN16", insn_name(e->id));
	}
	if (e->attr & INSN_LOCK) {
		ck_assert(e->op[0].addr == OP_E || e->op[0].addr == OP_M);
		ck_assert_int_eq(e->op[0].access, ACC_RW);
	}
	ck_assert_uint_eq(e->flags_undef & ~e->flags_written, 0);
	if (e->attr & INSN_COND)
		ck_assert(e->attr & INSN_BRANCH);
	if (e->attr & INSN_REP_ZF)
		ck_assert(e->attr & INSN_STRING);
	if (e->attr & INSN_CPL0)
		ck_assert(e->attr & INSN_NO_GENERATE);
	ck_assert_uint_lt(e->feature, FEAT_COUNT);
}

START_TEST(every_row_is_consistent)
{
	bool seen[INSN_ID_COUNT] = { false };
	size_t count;
	const struct insn_entry *rows = insn_table(&count);

	for (size_t i = 0; i < count; i++) {
		check_row(&rows[i]);
		seen[rows[i].id] = true;
	}
	for (unsigned id = 1; id < INSN_ID_COUNT; id++)
		ck_assert_msg(seen[id], "%s has no row", insn_name(id));
	ck_assert(!seen[INSN_ID_INVALID]);
	printf("decode table: %zu rows, %d mnemonics\n", count, INSN_ID_COUNT - 1);
}
END_TEST

/* Each row is reached by some bytes: none is hidden behind another one. */
START_TEST(every_row_is_reachable)
{
	static const uint8_t prefixes[] = { 0, 0x66, 0xf3, 0xf2 };
	size_t count;
	const struct insn_entry *rows = insn_table(&count);
	bool *reached = calloc(count, sizeof(*reached));

	for (unsigned n = 0; n < 4u << 18; n++) {
		uint8_t bytes[INSN_MAX_LENGTH] = { 0 };
		unsigned map = n >> 16 & 3, k = 0;
		struct insn in;

		if (prefixes[n >> 18])
			bytes[k++] = prefixes[n >> 18];
		if (map)
			bytes[k++] = 0x0f;
		if (map > 1)
			bytes[k++] = map == 2 ? 0x38 : 0x3a;
		bytes[k++] = n >> 8 & 0xff;
		bytes[k++] = n & 0xff;
		if (insn_decode(&in, true, bytes, sizeof(bytes)) == DECODE_OK)
			reached[in.entry - rows] = true;
	}
	for (size_t i = 0; i < count; i++)
		ck_assert_msg(reached[i], "row %zu, %s", i, insn_name(rows[i].id));
	free(reached);
}
END_TEST

/* ---- lengths ---- */

/* One byte less is never enough, and nothing after the bytes given is looked at:
 * they end where an inaccessible page begins. */
START_TEST(needs_every_byte_and_no_more)
{
	uint8_t *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t state = 0x2545f4914f6cdd1d;
	unsigned valid = 0;

	ck_assert(pages != MAP_FAILED);
	ck_assert_int_eq(mprotect(pages + 4096, 4096, PROT_NONE), 0);
	for (unsigned n = 0; n < 100000; n++) {
		uint8_t bytes[INSN_MAX_LENGTH];
		struct insn in, cut;
		bool code32 = n & 1;
		enum decode_result result;

		for (unsigned i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)random32(&state);
		if (n & 2)
			bytes[0] = 0x0f;
		result = insn_decode(&in, code32, bytes, sizeof(bytes));
		ck_assert_int_ne(result, DECODE_MORE);
		ck_assert_uint_le(in.length, INSN_MAX_LENGTH);
		if (result != DECODE_OK) {
			ck_assert_ptr_null(in.entry);
			continue;
		}
		valid++;
		for (unsigned len = 0; len <= in.length; len++) {
			uint8_t *end = pages + 4096 - len;

			memcpy(end, bytes, len);
			result = insn_decode(&cut, code32, end, len);
			ck_assert_int_eq(result, len == in.length ? DECODE_OK : DECODE_MORE);
		}
		ck_assert_int_eq(memcmp(&cut, &in, sizeof(in)), 0);
	}
	printf("decode lengths: %u instructions cut short at every byte\n", valid);
	munmap(pages, 8192);
}
END_TEST

START_TEST(fifteen_bytes_are_the_limit)
{
	uint8_t bytes[32];

	memset(bytes, 0x66, sizeof(bytes));
	ck_assert_int_eq(result32(bytes, sizeof(bytes)), DECODE_TOO_LONG);
	ck_assert_int_eq(result32(bytes, 14), DECODE_MORE);
	bytes[14] = 0x90;
	decode32(bytes, 15);
	/* 13 prefixes and MOV AX, imm16 make 16 */
	bytes[13] = 0xb8;
	ck_assert_int_eq(result32(bytes, sizeof(bytes)), DECODE_TOO_LONG);
	/* ... which is known with the first 14 bytes */
	ck_assert_int_eq(result32(bytes, 14), DECODE_TOO_LONG);
	/* 11 prefixes, C7 /0 with disp8 and imm16: 11 + 3 + 2 = 16 */
	bytes[11] = 0xc7;
	bytes[12] = 0x40;
	ck_assert_int_eq(result32(bytes, sizeof(bytes)), DECODE_TOO_LONG);
	/* 9 prefixes and MOV [disp32], imm16 */
	bytes[9] = 0xc7;
	bytes[10] = 0x05;
	ck_assert_int_eq(result32(bytes, sizeof(bytes)), DECODE_TOO_LONG);
	bytes[6] = 0xc7;
	bytes[7] = 0x05;
	decode32(bytes, 14);
	ck_assert_int_eq(result32(bytes, 0), DECODE_MORE);
}
END_TEST

/* ---- prefixes ---- */

START_TEST(prefixes_in_any_order_and_number)
{
	static const uint8_t pool[] = {
		0x66, 0x67, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65,
	};
	static const uint8_t segment[10] = { [4] = ES, CS, SS, DS, FS, GS };
	uint64_t state = 0x9e3779b97f4a7c15;

	for (unsigned n = 0; n < 200000; n++) {
		uint8_t some[INSN_MAX_LENGTH], plain[INSN_MAX_LENGTH], tail[10];
		unsigned count = random32(&state) % 6, k = 0;
		int seg = -1, rep = 0;
		bool has66 = false, has67 = false;
		struct insn a, b;
		enum decode_result ra, rb;

		for (unsigned i = 0; i < sizeof(tail); i++)
			tail[i] = (uint8_t)random32(&state);
		if (n & 1)
			tail[0] = 0x0f;
		for (unsigned i = 0; i < count; i++) {
			unsigned p = random32(&state) % sizeof(pool);

			some[i] = pool[p];
			has66 |= p == 0;
			has67 |= p == 1;
			rep = p == 2 || p == 3 ? pool[p] : rep;
			seg = p >= 4 ? (int)p : seg;
		}
		if (seg >= 0)
			plain[k++] = pool[seg];
		if (has66)
			plain[k++] = 0x66;
		if (has67)
			plain[k++] = 0x67;
		if (rep)
			plain[k++] = (uint8_t)rep;
		memcpy(some + count, tail, sizeof(tail) - 1);
		memcpy(plain + k, tail, sizeof(tail) - 1);
		ra = insn_decode(&a, n & 2, some, count + 9);
		rb = insn_decode(&b, n & 2, plain, k + 9);
		if (ra == DECODE_TOO_LONG)
			continue;
		ck_assert_int_eq(ra, rb);
		if (ra != DECODE_OK)
			continue;
		a.length -= (uint8_t)(count - k);
		ck_assert_int_eq(memcmp(&a, &b, sizeof(a)), 0);
		if (seg >= 0 && (n & 1)) /* else a prefix may follow */
			ck_assert_uint_eq(a.seg, segment[seg]);
	}
}
END_TEST

/* With 66 and 67 the other code size is the same instruction. */
START_TEST(code16_is_code32_with_66_67)
{
	uint64_t state = 0x1234567887654321;
	unsigned valid = 0;

	for (unsigned n = 0; n < 400000; n++) {
		uint8_t narrow[INSN_MAX_LENGTH], wide[INSN_MAX_LENGTH];
		struct insn a, b;
		unsigned k = 0;

		/* code32: F2/F3?, 66, 67, tail; code16: F2/F3?, tail, so that the
		 * class of a mandatory prefix is that of rows without a need */
		wide[k++] = 0x66;
		wide[k++] = 0x67;
		for (unsigned i = 0; i < 12; i++)
			narrow[i] = wide[k + i] = (uint8_t)random32(&state);
		if (n & 1)
			narrow[0] = wide[k] = 0x0f;
		if (insn_decode(&a, false, narrow, 12) != DECODE_OK ||
		    a.entry->need != NEED_ANY || (a.prefixes & (PREFIX_66 | PREFIX_67)))
			continue;
		ck_assert_int_eq(insn_decode(&b, true, wide, 14), DECODE_OK);
		valid++;
		b.length -= 2;
		b.prefixes &= ~(PREFIX_66 | PREFIX_67);
		ck_assert_int_eq(memcmp(&a, &b, sizeof(a)), 0);
	}
	printf("decode 16-bit code: %u instructions as in 32-bit code with 66 67\n", valid);
}
END_TEST

START_TEST(mandatory_prefixes)
{
	struct insn in;

	ck_assert_uint_eq(decode32(BYTES(0x0f, 0x58, 0xc1)).entry->id, INSN_ID_ADDPS);
	ck_assert_uint_eq(decode32(BYTES(0x66, 0x0f, 0x58, 0xc1)).entry->id, INSN_ID_ADDPD);
	ck_assert_uint_eq(decode32(BYTES(0xf3, 0x0f, 0x58, 0xc1)).entry->id, INSN_ID_ADDSS);
	/* F2 and F3 outrank 66, the last of them wins */
	ck_assert_uint_eq(decode32(BYTES(0xf2, 0x66, 0x0f, 0x58, 0xc1)).entry->id, INSN_ID_ADDSD);
	ck_assert_uint_eq(decode32(BYTES(0xf2, 0xf3, 0x0f, 0x58, 0xc1)).entry->id, INSN_ID_ADDSS);
	/* in 16-bit code, too, 66 asks for the double precision form */
	ck_assert_uint_eq(decode16(BYTES(0x66, 0x0f, 0x58, 0xc1)).entry->id, INSN_ID_ADDPD);
	ck_assert_uint_eq(decode16(BYTES(0x0f, 0x58, 0xc1)).entry->id, INSN_ID_ADDPS);

	ck_assert_uint_eq(decode32(BYTES(0x90)).entry->id, INSN_ID_NOP);
	ck_assert_uint_eq(decode32(BYTES(0xf3, 0x90)).entry->id, INSN_ID_PAUSE);
	ck_assert_uint_eq(decode32(BYTES(0x91)).entry->id, INSN_ID_XCHG);
	ck_assert_uint_eq(decode32(BYTES(0xf3, 0x0f, 0xbc, 0xc1)).entry->id, INSN_ID_BSF);
	ck_assert_uint_eq(decode32(BYTES(0xf3, 0x0f, 0xb8, 0xc1)).entry->id, INSN_ID_POPCNT);
	ck_assert_int_eq(result32(BYTES(0x0f, 0xb8, 0xc1)), DECODE_INVALID);

	in = decode32(BYTES(0x66, 0xf2, 0x0f, 0x38, 0xf1, 0x07));
	ck_assert_uint_eq(in.entry->id, INSN_ID_CRC32);
	ck_assert_uint_eq(insn_operand_bytes(&in, 1), 2);
	ck_assert_uint_eq(insn_operand_bytes(&in, 0), 4);
	in = decode32(BYTES(0x66, 0x0f, 0x38, 0xf1, 0x07));
	ck_assert_uint_eq(in.entry->id, INSN_ID_MOVBE);
	ck_assert_uint_eq(insn_operand_bytes(&in, 0), 2);
	/* rows for no prefix at all */
	ck_assert_int_eq(result32(BYTES(0xf3, 0x0f, 0x28, 0xc1)), DECODE_INVALID);
	ck_assert_int_eq(result32(BYTES(0x66, 0x0f, 0x77)), DECODE_INVALID);
}
END_TEST

START_TEST(lock_needs_a_memory_destination)
{
	size_t count, legal = 0;
	const struct insn_entry *rows = insn_table(&count);

	ck_assert_int_eq(result32(BYTES(0xf0, 0x01, 0x07)), DECODE_OK);
	ck_assert_int_eq(result32(BYTES(0xf0, 0x01, 0xc7)), DECODE_INVALID);
	ck_assert_int_eq(result32(BYTES(0xf0, 0x03, 0x07)), DECODE_INVALID);
	ck_assert_int_eq(result32(BYTES(0xf0, 0x39, 0x07)), DECODE_INVALID); /* CMP */
	ck_assert_int_eq(result32(BYTES(0xf0, 0x0f, 0xa3, 0x07)), DECODE_INVALID); /* BT */
	ck_assert_int_eq(result32(BYTES(0xf0, 0x0f, 0xc7, 0x0f)), DECODE_OK);
	ck_assert_int_eq(result32(BYTES(0xf0, 0x0f, 0xc7, 0xc8)), DECODE_INVALID);
	ck_assert_int_eq(result32(BYTES(0xf0, 0x0f, 0x22, 0xc0)), DECODE_INVALID);
	ck_assert_int_eq(result32(BYTES(0xf0, 0x90)), DECODE_INVALID);
	ck_assert_int_eq(result32(BYTES(0xf0, 0xa1, 0, 0, 0, 0)), DECODE_INVALID);
	/* ADD OR ADC SBB AND SUB XOR have 2 + 4 forms; NOT NEG INC DEC XCHG XADD
	 * CMPXCHG 2; BTS BTR BTC 2; CMPXCHG8B 1 */
	for (size_t i = 0; i < count; i++)
		legal += !!(rows[i].attr & INSN_LOCK);
	ck_assert_uint_eq(legal, 7 * 6 + 7 * 2 + 3 * 2 + 1);
}
END_TEST

/* ---- operands ---- */

START_TEST(addressing)
{
	struct insn in;

	in = decode32(BYTES(0x8b, 0x44, 0x8c, 0xf0)); /* mov eax, [esp + ecx*4 - 16] */
	ck_assert(in.has_mem && in.base == ESP && in.index == ECX && in.scale == 2);
	ck_assert(in.disp == -16 && in.seg == SS);
	in = decode32(BYTES(0x8b, 0x04, 0xad, 0x78, 0x56, 0x34, 0x12)); /* [ebp*4 + disp32] */
	ck_assert(in.base == -1 && in.index == EBP && in.disp == 0x12345678 && in.seg == DS);
	in = decode32(BYTES(0x8b, 0x05, 0x00, 0x00, 0x00, 0x80)); /* [0x80000000] */
	ck_assert(in.base == -1 && in.index == -1 && in.disp == INT32_MIN && in.seg == DS);
	in = decode32(BYTES(0x8b, 0x45, 0x00)); /* [ebp] */
	ck_assert(in.base == EBP && in.seg == SS);
	in = decode32(BYTES(0x3e, 0x8b, 0x45, 0x00)); /* ds:[ebp] */
	ck_assert(in.base == EBP && in.seg == DS);
	in = decode32(BYTES(0x8b, 0x04, 0x25, 1, 0, 0, 0)); /* SIB without base or index */
	ck_assert(in.base == -1 && in.index == -1 && in.disp == 1);

	in = decode16(BYTES(0x8b, 0x00)); /* [bx + si] */
	ck_assert(in.base == EBX && in.index == ESI && in.scale == 0 && in.seg == DS);
	in = decode16(BYTES(0x8b, 0x42, 0xfe)); /* [bp + si - 2] */
	ck_assert(in.base == EBP && in.index == ESI && in.disp == -2 && in.seg == SS);
	in = decode16(BYTES(0x8b, 0x06, 0x34, 0x92)); /* [0x9234] */
	ck_assert(in.base == -1 && in.index == -1 && (in.disp & 0xffff) == 0x9234);
	ck_assert_uint_eq(in.seg, DS);
	in = decode16(BYTES(0x8b, 0x46, 0x00)); /* [bp] */
	ck_assert(in.base == EBP && in.index == -1 && in.seg == SS);
	in = decode16(BYTES(0x67, 0x8b, 0x44, 0x24, 0x04)); /* [esp + 4] in 16-bit code */
	ck_assert(in.adsize == 4 && in.opsize == 2 && in.base == ESP && in.seg == SS);

	in = decode32(BYTES(0x67, 0xa1, 0x34, 0x92)); /* mov eax, [0x9234] */
	ck_assert(in.has_mem && in.base == -1 && in.disp == 0x9234 && in.opsize == 4);
	in = decode32(BYTES(0x64, 0xa3, 0, 0, 0, 0xf0)); /* mov fs:[0xf0000000], eax */
	ck_assert(in.seg == FS && (uint32_t)in.disp == 0xf0000000);
	in = decode32(BYTES(0x2e, 0xa5)); /* movsd es:[edi], cs:[esi] */
	ck_assert(in.seg == CS && !in.has_mem);
}
END_TEST

START_TEST(immediates)
{
	struct insn in;

	in = decode32(BYTES(0x83, 0xc0, 0xff));
	ck_assert(in.imm == -1 && in.imm_size == 1);
	in = decode32(BYTES(0x80, 0xc0, 0xff));
	ck_assert(in.imm == 0xff && in.imm_size == 1);
	in = decode32(BYTES(0x6a, 0x80));
	ck_assert(in.imm == -128);
	in = decode32(BYTES(0x6b, 0xc1, 0x80));
	ck_assert(in.imm == -128);
	in = decode32(BYTES(0x05, 0xff, 0xff, 0xff, 0xff));
	ck_assert(in.imm == 0xffffffff && in.imm_size == 4);
	in = decode32(BYTES(0x66, 0x05, 0xff, 0xff));
	ck_assert(in.imm == 0xffff && in.imm_size == 2 && in.opsize == 2);
	in = decode32(BYTES(0xeb, 0xfe));
	ck_assert(in.imm == -2);
	in = decode32(BYTES(0xe8, 0xfb, 0xff, 0xff, 0xff));
	ck_assert(in.imm == -5 && in.imm_size == 4);
	in = decode16(BYTES(0xe8, 0xfd, 0xff));
	ck_assert(in.imm == -3 && in.imm_size == 2);
	in = decode32(BYTES(0xc8, 0x34, 0x12, 0x05)); /* enter 0x1234, 5 */
	ck_assert(in.imm == 0x1234 && in.imm2 == 5 && in.imm_size == 2);
	in = decode32(BYTES(0xea, 0x44, 0x33, 0x22, 0xf1, 0x66, 0x55)); /* jmp 5566:f1223344 */
	ck_assert(in.imm == 0xf1223344 && in.imm2 == 0x5566);
	in = decode16(BYTES(0x9a, 0x00, 0xf0, 0x66, 0x55)); /* call 5566:f000 */
	ck_assert(in.imm == 0xf000 && in.imm2 == 0x5566 && insn_operand_bytes(&in, 0) == 4);
	in = decode32(BYTES(0xc2, 0xfc, 0xff));
	ck_assert(in.imm == 0xfffc && in.imm_size == 2);
	in = decode32(BYTES(0x66, 0x0f, 0x78, 0xc1, 0x08, 0x10)); /* extrq xmm1, 8, 16 */
	ck_assert(in.imm == 8 && in.imm2 == 16);
}
END_TEST

static void check_memory(const uint8_t *bytes, size_t len, enum op_access access, unsigned size)
{
	struct insn in = decode32(bytes, len);
	unsigned n;

	ck_assert_int_eq(insn_memory_access(&in, &n), access);
	ck_assert_uint_eq(n, size);
}

START_TEST(memory_access)
{
	check_memory(BYTES(0x01, 0x07), ACC_RW, 4);
	check_memory(BYTES(0x39, 0x07), ACC_R, 4);
	check_memory(BYTES(0x8d, 0x07), ACC_NONE, 0);
	check_memory(BYTES(0x0f, 0x1f, 0x07), ACC_NONE, 0);
	check_memory(BYTES(0x01, 0xc7), ACC_NONE, 0);
	check_memory(BYTES(0xc4, 0x07), ACC_R, 6);
	check_memory(BYTES(0x66, 0xc4, 0x07), ACC_R, 4);
	check_memory(BYTES(0x66, 0x62, 0x07), ACC_R, 4);
	check_memory(BYTES(0xd9, 0x37), ACC_W, 28);
	check_memory(BYTES(0x66, 0xd9, 0x37), ACC_W, 14);
	check_memory(BYTES(0xdd, 0x27), ACC_R, 108);
	check_memory(BYTES(0xdb, 0x3f), ACC_W, 10);
	check_memory(BYTES(0x0f, 0xae, 0x07), ACC_W, 512);
	check_memory(BYTES(0x0f, 0x60, 0x07), ACC_R, 4);
	check_memory(BYTES(0x66, 0x0f, 0x60, 0x07), ACC_R, 16);
	check_memory(BYTES(0x66, 0x0f, 0x38, 0x32, 0x07), ACC_R, 2);
	check_memory(BYTES(0x66, 0x0f, 0x3a, 0x14, 0x07, 0x03), ACC_W, 1);
	check_memory(BYTES(0x0f, 0xc7, 0x0f), ACC_RW, 8);
	check_memory(BYTES(0x0f, 0x01, 0x17), ACC_R, 6);
	check_memory(BYTES(0x8c, 0x1f), ACC_W, 2);
	check_memory(BYTES(0xa2, 0, 0, 0, 0), ACC_W, 1);
	check_memory(BYTES(0x0f, 0x22, 0x07), ACC_NONE, 0); /* MOV CR0: no memory in any mod */
}
END_TEST

/* Static #UD (SDM volume 2, the "#UD" lines of the instruction pages). */
START_TEST(invalid)
{
	ck_assert_int_eq(result32(BYTES(0x8e, 0xc8)), DECODE_INVALID); /* MOV CS */
	ck_assert_int_eq(result32(BYTES(0x8c, 0xf0)), DECODE_INVALID); /* segment 6 */
	ck_assert_int_eq(result32(BYTES(0x8d, 0xc0)), DECODE_INVALID); /* LEA of a register */
	ck_assert_int_eq(result32(BYTES(0xc4, 0xc0)), DECODE_INVALID); /* LES: would be VEX */
	ck_assert_int_eq(result32(BYTES(0x62, 0xc0)), DECODE_INVALID); /* BOUND */
	ck_assert_int_eq(result32(BYTES(0xff, 0xd8)), DECODE_INVALID); /* far call of a register */
	ck_assert_int_eq(result32(BYTES(0xff, 0x38)), DECODE_INVALID);
	ck_assert_int_eq(result32(BYTES(0xfe, 0xd0)), DECODE_INVALID);
	ck_assert_int_eq(result32(BYTES(0x8f, 0xc8)), DECODE_INVALID);
	ck_assert_int_eq(result32(BYTES(0x0f, 0x22, 0xc8)), DECODE_INVALID); /* CR1 */
	ck_assert_int_eq(result32(BYTES(0x0f, 0xc7, 0xc8)), DECODE_INVALID);
	ck_assert_int_eq(result32(BYTES(0x0f, 0x05)), DECODE_INVALID); /* SYSCALL */
	ck_assert_int_eq(result32(BYTES(0xd9, 0xd1)), DECODE_INVALID);
	ck_assert_int_eq(result32(BYTES(0x0f, 0x0f, 0xc0, 0x9e)), DECODE_INVALID); /* 3DNow! */
	ck_assert_uint_eq(decode32(BYTES(0x0f, 0x0b)).entry->id, INSN_ID_UD2);
	ck_assert_uint_eq(decode32(BYTES(0x0f, 0xb9, 0xc0)).entry->id, INSN_ID_UD1);
}
END_TEST

/* Condition codes read the flags the SDM's appendix B gives them. */
START_TEST(condition_flags)
{
	static const uint16_t reads[8] = {
		FLAG_OF, FLAG_CF, FLAG_ZF, FLAG_CF | FLAG_ZF,
		FLAG_SF, FLAG_PF, FLAG_SF | FLAG_OF, FLAG_ZF | FLAG_SF | FLAG_OF,
	};

	for (unsigned c = 0; c < 16; c++) {
		struct insn in = decode32(BYTES((uint8_t)(0x70 + c), 0));

		ck_assert_uint_eq(in.entry->cond, c);
		ck_assert_uint_eq(in.entry->flags_read, reads[c / 2]);
		in = decode32(BYTES(0x0f, (uint8_t)(0x90 + c), 0xc0));
		ck_assert_uint_eq(in.entry->cond, c);
		ck_assert_uint_eq(in.entry->flags_read, reads[c / 2]);
		in = decode32(BYTES(0x0f, (uint8_t)(0x40 + c), 0xc0));
		ck_assert_uint_eq(in.entry->cond, c);
		ck_assert_uint_eq(in.entry->flags_read, reads[c / 2]);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("decode");
	TCase *t = tcase_create("decode");
	SRunner *r;
	int failed;

	tcase_add_test(t, every_row_is_consistent);
	tcase_add_test(t, every_row_is_reachable);
	tcase_add_test(t, needs_every_byte_and_no_more);
	tcase_add_test(t, fifteen_bytes_are_the_limit);
	tcase_add_test(t, prefixes_in_any_order_and_number);
	tcase_add_test(t, code16_is_code32_with_66_67);
	tcase_add_test(t, mandatory_prefixes);
	tcase_add_test(t, lock_needs_a_memory_destination);
	tcase_add_test(t, addressing);
	tcase_add_test(t, immediates);
	tcase_add_test(t, memory_access);
	tcase_add_test(t, invalid);
	tcase_add_test(t, condition_flags);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
