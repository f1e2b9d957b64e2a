/* Comparing results and shrinking cases. See compare.h. */
#include "tests/insn/compare.h"

#include <stdarg.h>
#include <string.h>

#include "core/cpu.h"
#include "core/util.h"
#include "tests/insn/gen.h"

struct text {
	char *buf;
	size_t size, used;
	unsigned differences;
};

__attribute__((format(printf, 2, 3))) static void differ(struct text *t, const char *fmt, ...)
{
	va_list ap;

	if (t->differences++ >= 12 || t->used >= t->size)
		return;
	va_start(ap, fmt);
	t->used += (size_t)vsnprintf(t->buf + t->used, t->size - t->used, fmt, ap);
	va_end(ap);
	if (t->used + 2 < t->size) {
		strcpy(t->buf + t->used, "; ");
		t->used += 2;
	}
}

static void compare32(struct text *t, const char *name, uint32_t want, uint32_t got)
{
	if (want != got)
		differ(t, "%s %08x, should be %08x", name, got, want);
}

static void compare_bytes(struct text *t, const char *name, unsigned n, const uint8_t *want,
			  const uint8_t *got, unsigned bytes)
{
	char w[40], g[40];

	if (!memcmp(want, got, bytes))
		return;
	for (unsigned i = 0; i < bytes; i++) {
		snprintf(w + 2 * i, 3, "%02x", want[bytes - 1 - i]);
		snprintf(g + 2 * i, 3, "%02x", got[bytes - 1 - i]);
	}
	differ(t, "%s%u %s, should be %s", name, n, g, w);
}

static void compare_fx(struct text *t, const uint8_t *want, const uint8_t *got)
{
	static const struct { const char *name; uint8_t at, size; } fields[] = {
		{ "fcw", 0, 2 }, { "fsw", 2, 2 }, { "ftw", 4, 1 }, { "mxcsr", 24, 4 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		uint32_t w = 0, g = 0;

		memcpy(&w, want + fields[i].at, fields[i].size);
		memcpy(&g, got + fields[i].at, fields[i].size);
		compare32(t, fields[i].name, w, g);
	}
	/* AMD keeps the pointers in the image only while an exception is pending */
	if (load_le16(want + 2) & 0x80) {
		compare32(t, "fip", load_le32(want + 8), load_le32(got + 8));
		compare32(t, "fdp", load_le32(want + 16), load_le32(got + 16));
	}
	for (unsigned i = 0; i < 8; i++)
		compare_bytes(t, "st", i, want + 32 + 16 * i, got + 32 + 16 * i, 10);
	for (unsigned i = 0; i < 8; i++)
		compare_bytes(t, "xmm", i, want + 160 + 16 * i, got + 160 + 16 * i, 16);
}

/* Is this word of memory an x87 pointer field that an instruction of the case
 * stored? Selectors and the pointers of nothing pending are the host's own. */
static bool in_pointers(const struct test_case *c, uint32_t linear)
{
	struct insn in;

	for (unsigned i = 0; i < c->insn_count; i++) {
		uint32_t at, first, last;

		if (insn_decode(&in, true, c->insn[i].bytes, c->insn[i].length) != DECODE_OK)
			continue;
		switch (in.entry->id) {
		case INSN_ID_FNSTENV:
		case INSN_ID_FNSAVE:
			first = in.opsize == 2 ? 6 : 12;
			last = in.opsize == 2 ? 14 : 28;
			break;
		case INSN_ID_FXSAVE:
			first = 6;
			last = 24;
			break;
		default:
			continue;
		}
		at = (uint32_t)in.disp + (in.base >= 0 ? c->gpr[in.base] : 0) +
		     (in.index >= 0 ? c->gpr[in.index] << in.scale : 0);
		if (in.adsize == 2)
			at &= 0xffff;
		/* aligned words that hold any of those bytes */
		if (linear + 3 - (at + first) < last - first + 3)
			return true;
	}
	return false;
}

static void compare_arena(const struct test_case *c, struct text *t, const uint8_t *want,
			  const uint8_t *got)
{
	if (!memcmp(want, got, ARENA_SIZE))
		return;
	for (unsigned i = 0; i < ARENA_SIZE; i += 4)
		if (load_le32(want + i) != load_le32(got + i) && !in_pointers(c, arena_linear(i)))
			differ(t, "[%08x] %08x, should be %08x", arena_linear(i), load_le32(got + i),
			       load_le32(want + i));
}

enum verdict results_compare(const struct test_case *c, const struct test_result *want,
			     const struct test_result *got, char *text, size_t size)
{
	static const char *const gpr[8] = { "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi" };
	static const char *const sreg[6] = { "es", "cs", "ss", "ds", "fs", "gs" };
	struct text t = { text, size, 0, 0 };
	uint32_t mask;

	text[0] = 0;
	if (want->outcome == OUTCOME_TIMEOUT || got->outcome == OUTCOME_TIMEOUT ||
	    want->outcome == OUTCOME_DIED)
		return NOTHING_TO_COMPARE;
	if (got->outcome != OUTCOME_EXCEPTION) {
		differ(&t, "the machine stopped (triple fault, or halted)");
		return DIFFER;
	}
	if (want->vector != got->vector)
		differ(&t, "exception %u error %x cr2 %x, should be %u error %x cr2 %x", got->vector,
		       got->error, got->cr2, want->vector, want->error, want->cr2);
	else if (want->vector >= 10 && want->vector <= 14)
		compare32(&t, "error", want->error, got->error);
	if (want->vector == EXC_PF && got->vector == EXC_PF)
		compare32(&t, "cr2", want->cr2, got->cr2);
	compare32(&t, "eip", want->eip, got->eip);
	mask = FLAGS_ALL & ~FLAG_RF & ~case_undefined_flags(c, want->eip);
	compare32(&t, "eflags", want->eflags & mask, got->eflags & mask);
	for (unsigned i = 0; i < 8; i++)
		compare32(&t, gpr[i], want->gpr[i], got->gpr[i]);
	for (unsigned i = 0; i < 6; i++)
		compare32(&t, sreg[i], want->sreg[i], got->sreg[i]);
	compare_fx(&t, want->fx, got->fx);
	compare_arena(c, &t, want->arena, got->arena);
	return t.differences ? DIFFER : AGREE;
}

/* ---- shrinking ---- */

static void delete_insn(struct test_case *c, unsigned n)
{
	memmove(&c->insn[n], &c->insn[n + 1], (c->insn_count - n - 1) * sizeof(c->insn[0]));
	c->insn_count--;
	memset(&c->insn[c->insn_count], 0, sizeof(c->insn[0]));
	for (unsigned i = 0; i < c->insn_count; i++)
		if (c->insn[i].jump_at && c->insn[i].target > n)
			c->insn[i].target--;
}

void case_shrink(struct test_case *c, bool (*differs)(void *opaque, const struct test_case *c),
		 void *opaque)
{
	struct test_case t;

#define TRY(change)                                          \
	do {                                                 \
		t = *c;                                      \
		change;                                      \
		if (memcmp(&t, c, sizeof(t)) && differs(opaque, &t)) \
			*c = t;                              \
	} while (0)
	for (unsigned i = c->insn_count; i-- > 0;)
		if (c->insn_count > 1)
			TRY(delete_insn(&t, i));
	for (unsigned i = c->insn_count; i-- > 0;)
		if (c->insn_count > 1)
			TRY(delete_insn(&t, i));
	TRY(t.code_offset = 0x100);
	for (unsigned i = c->poke_count; i-- > 0;)
		TRY((memmove(&t.poke[i], &t.poke[i + 1], (t.poke_count - i - 1) * sizeof(t.poke[0])),
		     t.poke_count--, memset(&t.poke[t.poke_count], 0, sizeof(t.poke[0]))));
	for (unsigned i = 0; i < 8; i++)
		TRY(t.gpr[i] = i == ESP ? STACK_BASE + PAGE : 0);
	TRY(t.eflags = FLAG_RSVD1 | FLAG_IF);
	for (uint32_t bit = 1; bit < 1u << 22; bit <<= 1)
		if ((c->eflags & bit) && bit != FLAG_RSVD1 && bit != FLAG_IF)
			TRY(t.eflags &= ~bit);
	TRY((memset(t.fx, 0, FX_SIZE), store_le16(t.fx, 0x37f), store_le32(t.fx + 24, 0x1f80)));
	TRY((memset(t.fx, 0, 160), store_le16(t.fx, 0x37f), store_le32(t.fx + 24, 0x1f80)));
	TRY(store_le32(t.fx + 24, 0x1f80));
	TRY(store_le16(t.fx + 2, 0));
	TRY((store_le32(t.fx + 8, 0), store_le32(t.fx + 16, 0)));
	for (unsigned i = 32; i < FX_SIZE; i += 16)
		TRY(memset(t.fx + i, 0, 16));
	for (unsigned i = 0; i < 8; i++)
		TRY(t.gpr[i] &= 0xff);
#undef TRY
}
