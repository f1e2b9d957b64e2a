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

/* Exception flags that an interpreter which runs with all of them masked cannot
 * tell: an unmasked overflow or underflow rounds with an unbounded exponent before it says
 * whether the result is inexact, and DPPS stops between product and sum. */
static uint32_t loose_mxcsr(const struct insn_entry *e, uint32_t mxcsr)
{
	if (e && (e->id == INSN_ID_DPPS || e->id == INSN_ID_DPPD))
		return 0x3f;
	return (mxcsr & 0x810) == 0x10 || (mxcsr & 0x408) == 0x08 ? 0x20 : 0;
}

/* @mmx_fault: an MMX instruction faulted; AMD may have gone over to MMX already */
static void compare_fx(struct text *t, const uint8_t *want, const uint8_t *got, bool mmx_fault,
		       uint32_t loose_mxcsr)
{
	static const struct { const char *name; uint8_t at, size; } fields[] = {
		{ "fcw", 0, 2 }, { "fsw", 2, 2 }, { "ftw", 4, 1 }, { "mxcsr", 24, 4 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		uint32_t w = 0, g = 0;

		if (mmx_fault && (fields[i].at == 2 || fields[i].at == 4))
			continue;
		memcpy(&w, want + fields[i].at, fields[i].size);
		memcpy(&g, got + fields[i].at, fields[i].size);
		if (fields[i].at == 24) {
			w &= ~loose_mxcsr;
			g &= ~loose_mxcsr;
		}
		compare32(t, fields[i].name, w, g);
	}
	/* AMD's FXSAVE keeps the pointers only while an exception is pending. So they
	 * are compared only then, and a leg whose x87 unit was put away between the
	 * instruction and the exception (FLDCW can unmask an old one) has 0 instead. */
	if (load_le16(want + 2) & 0x80) {
		if (load_le32(got + 8))
			compare32(t, "fip", load_le32(want + 8), load_le32(got + 8));
		if (load_le32(got + 16))
			compare32(t, "fdp", load_le32(want + 16), load_le32(got + 16));
	}
	for (unsigned i = 0; i < 8 && !mmx_fault; i++)
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

		if (insn_decode(&in, case_code32(c), c->insn[i].bytes, c->insn[i].length) != DECODE_OK)
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
		at += case_data_base(c);
		/* aligned words that hold any of those bytes */
		if (linear + 3 - (at + first) < last - first + 3)
			return true;
		if (in.entry->id == INSN_ID_FXSAVE && linear == at + 28)
			return true; /* MXCSR_MASK */
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

/* The instruction that starts at @eip, or NULL. */
static const struct insn_entry *entry_at(const struct test_case *c, uint32_t eip)
{
	uint32_t starts[MAX_INSNS + 1];
	uint8_t code[MAX_CODE];
	size_t rows;
	const struct insn_entry *table = insn_table(&rows);

	case_layout(c, code, starts);
	for (unsigned i = 0; i < c->insn_count; i++)
		if (starts[i] == eip && c->insn[i].entry < rows)
			return &table[c->insn[i].entry];
	return NULL;
}

/* Does the instruction at @eip end where its code segment does? */
static bool ends_with_cs(const struct test_case *c, uint32_t eip)
{
	uint32_t starts[MAX_INSNS + 1];
	uint8_t code[MAX_CODE];

	case_layout(c, code, starts);
	for (unsigned i = 0; i < c->insn_count; i++)
		if (starts[i] == eip)
			return starts[i + 1] == CODE_PAGES * PAGE;
	return false;
}

static bool is_sha(const struct insn_entry *e)
{
	return e && e->feature == FEAT_SHA;
}

/* In which order the bytes of such an operand are touched is the CPU's business. */
static bool big_operand(const struct insn_entry *e)
{
	if (!e)
		return false;
	if (e->id == INSN_ID_IRET || e->id == INSN_ID_RETF)
		return true;
	for (unsigned i = 0; i < ARRAY_SIZE(e->op); i++)
		if (e->op[i].size == SZ_ENV || e->op[i].size == SZ_FSAVE ||
		    e->op[i].size == SZ_FXSAVE)
			return true;
	return false;
}

/* Two exceptions at one instruction whose order is not architectural: alignment
 * (#AC, or #GP of a 16-byte operand) against a page fault or the segment's limit,
 * and #GP, or which, for an operand that goes over the end of its segment. Nor
 * is it which EIP a #GP has when LOOP falls through over the end of CS, or could. */
static bool either_is_right(const struct test_case *c, const struct test_result *want,
			    const struct test_result *got)
{
	uint32_t vectors = 1u << (want->vector & 31) | 1u << (got->vector & 31), cr2;
	const struct insn_entry *e = entry_at(c, want->eip), *e_got;

	/* AMD does not insist on alignment for SHA operands */
	if (got->vector == EXC_GP && is_sha(entry_at(c, got->eip)))
		return true;
	/* AMD has a bit in MXCSR that the guest's CPU has not: MM */
	e_got = entry_at(c, got->eip);
	if (got->vector == EXC_GP && e_got &&
	    (e_got->id == INSN_ID_LDMXCSR || e_got->id == INSN_ID_FXRSTOR) && want->eip != got->eip)
		return true;
	/* AMD checks the alignment of where ENTER leaves ESP */
	if (want->vector == EXC_AC && e && e->id == INSN_ID_ENTER)
		return true;
	if (want->vector == EXC_GP && c->mode != MODE_FLAT32 && ends_with_cs(c, want->eip) &&
	    e && (e->attr & INSN_COND))
		return true;
	if (want->eip != got->eip || want->vector == got->vector)
		return false;
	/* AMD's UD0 and UD1 have no ModRM byte to fetch */
	if (e && (e->id == INSN_ID_UD0 || e->id == INSN_ID_UD1) && vectors & 1u << EXC_UD)
		return true;
	if (vectors & 1u << EXC_AC)
		return want->eflags & FLAG_AC &&
		       vectors & (1u << EXC_PF | 1u << EXC_GP | 1u << EXC_SS);
	if (vectors == (1u << EXC_GP | 1u << EXC_SS))
		return e && ((e->attr & INSN_ALIGN16) || e->id == INSN_ID_RETF ||
			     e->id == INSN_ID_IRET || e->id == INSN_ID_CALL);
	if (!(vectors & 1u << EXC_PF))
		return false;
	/* AMD looks for an outer stack first, and at a near target last */
	if (e && (e->id == INSN_ID_RETF || e->id == INSN_ID_IRET || e->id == INSN_ID_CALL ||
		  e->id == INSN_ID_CALLF))
		return true;
	if (!(vectors & (1u << EXC_GP | 1u << EXC_SS)))
		return false;
	cr2 = want->vector == EXC_PF ? want->cr2 : got->cr2;
	if (cr2 + 512 < 1024 || (c->mode != MODE_FLAT32 && cr2 - SEG_BASE - 0xff00 < 0x100))
		return true;
	return e && (e->attr & INSN_ALIGN16);
}

enum verdict results_compare(const struct test_case *c, const struct test_result *want,
			     const struct test_result *got, char *text, size_t size)
{
	static const char *const gpr[8] = { "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi" };
	static const char *const sreg[6] = { "es", "cs", "ss", "ds", "fs", "gs" };
	struct text t = { text, size, 0, 0 };
	const struct insn_entry *e;
	uint32_t mask;

	text[0] = 0;
	if (want->outcome == OUTCOME_TIMEOUT || got->outcome == OUTCOME_TIMEOUT ||
	    want->outcome == OUTCOME_DIED)
		return NOTHING_TO_COMPARE;
	if (got->outcome != OUTCOME_EXCEPTION) {
		differ(&t, "the machine stopped (triple fault, or halted)");
		return DIFFER;
	}
	if (either_is_right(c, want, got))
		return EITHER_IS_RIGHT;
	e = entry_at(c, want->eip);
	if (want->vector != got->vector)
		differ(&t, "exception %u error %x cr2 %x, should be %u error %x cr2 %x", got->vector,
		       got->error, got->cr2, want->vector, want->error, want->cr2);
	else if (want->vector >= 10 && want->vector <= 14 && !(big_operand(e) && want->vector == EXC_PF))
		compare32(&t, "error", want->error, got->error);
	if (want->vector == EXC_PF && got->vector == EXC_PF && !big_operand(e))
		compare32(&t, "cr2", want->cr2, got->cr2);
	compare32(&t, "eip", want->eip, got->eip);
	mask = FLAGS_ALL & ~FLAG_RF & ~case_undefined_flags(c, want->eip);
	compare32(&t, "eflags", want->eflags & mask, got->eflags & mask);
	/* AMD's POPA has loaded some registers when a later one faults */
	for (unsigned i = 0; i < 8; i++)
		if (!(e && e->id == INSN_ID_POPA && want->vector != END_VECTOR && i != ESP))
			compare32(&t, gpr[i], want->gpr[i], got->gpr[i]);
	for (unsigned i = 0; i < 6; i++) /* the host's way back through its kernel clears null selectors */
		if ((want->sreg[i] | got->sreg[i]) & ~3)
			compare32(&t, sreg[i], want->sreg[i], got->sreg[i]);
	compare_fx(&t, want->fx, got->fx, e && (e->attr & INSN_MMX),
		   want->vector == EXC_XM ? loose_mxcsr(e, load_le32(want->fx + 24)) : 0);
	/* AMD pushes before it finds that the target of a far call is beyond its limit */
	if (!(e && e->id == INSN_ID_CALLF && want->vector == EXC_GP))
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
		TRY(t.gpr[i] = i != ESP ? 0 : STACK_BASE + PAGE - case_data_base(&t) +
					      (t.mode == MODE_SEG16 ? CASE_ESP_HIGH : 0));
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
		if (i != ESP)
			TRY(t.gpr[i] &= 0xff);
#undef TRY
}
