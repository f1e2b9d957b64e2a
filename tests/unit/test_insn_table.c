/* The decode table against the processor it runs on.
 *
 * Every row whose instruction means the same in 32-bit user mode everywhere is run
 * on the host CPU with random operands, and again with one thing changed at a time:
 *
 * - flags outside flags_written keep their value, whatever the operands;
 * - flags outside flags_read make no difference to anything;
 * - only registers and memory bytes with an operand of access W change (and the
 *   implicit ones below), and only as many bytes as the operand's size says;
 * - the old value of an operand with access W alone makes no difference;
 * - general registers without an operand of access R make no difference;
 * - the memory operand has exactly its size: at the end of a page it works, one byte
 *   further it faults; it faults in a read-only page just if it is written, and at
 *   an odd address just if the row says ALIGN16; without access it never faults.
 *
 * Undefined flags are left out. Both engines trust these columns without a check of
 * their own, the recompiler more than anyone. (No Check program: its names clash with
 * the oracle's.)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/insn.h"
#include "core/util.h"
#include "tests/insn/case.h"
#include "tests/insn/legs.h"

enum {
	ROUNDS = 6,
	ADDRESS = DATA_BASE + 512,
	WRITABLE_END = DATA_BASE + (DATA_PAGES - 1) * PAGE,
	READABLE_END = DATA_BASE + DATA_PAGES * PAGE,
	NOWHERE = READABLE_END + PAGE + 16,
	FX_MM = 32,   /* in the FXSAVE image, 16 bytes apart */
	FX_XMM = 160,
};

/* What one run of a batch is about. */
enum variant {
	BASE, FLAGS, REGISTERS, OLD_VALUE, /* OLD_VALUE + operand number */
	EDGE = OLD_VALUE + 4, BEYOND_EDGE, ODD, READ_ONLY, UNMAPPED, VARIANTS,
};

/* A row, its encoding and the cases made of it. */
struct subject {
	const struct insn_entry *row;
	struct insn in;
	uint8_t bytes[INSN_MAX_LENGTH];
	unsigned length;
	unsigned address_at;    /* offset of the disp32 of the memory operand, or 0 */
	enum op_access access;  /* of the memory operand */
	unsigned mem_bytes;
	struct test_case cases[VARIANTS];
	bool used[VARIANTS];
	unsigned slot[VARIANTS]; /* in the batch */
};

struct fixture {
	struct host_leg *host;
	struct rng rng;
	unsigned long forms, runs, missing;
};

static _Noreturn void wrong(const struct subject *s, const char *what, unsigned detail)
{
	char hex[3 * INSN_MAX_LENGTH + 1] = "";

	for (unsigned i = 0; i < s->length; i++)
		snprintf(hex + 3 * i, 4, "%02x ", s->bytes[i]);
	printf("%s (%s): %s (%#x)\n", insn_name(s->row->id), hex, what, detail);
	exit(EXIT_FAILURE);
}

/* ---- what an instruction uses beside its operands: bit masks of registers ---- */

static unsigned implicit_writes(enum insn_id id)
{
	switch (id) {
	case INSN_ID_MUL: case INSN_ID_IMUL: case INSN_ID_DIV: case INSN_ID_IDIV:
	case INSN_ID_CMPXCHG8B:
		return 1 << EAX | 1 << EDX;
	case INSN_ID_CMPXCHG: case INSN_ID_AAA: case INSN_ID_AAS: case INSN_ID_AAD:
	case INSN_ID_AAM: case INSN_ID_DAA: case INSN_ID_DAS: case INSN_ID_CBW_CWDE:
	case INSN_ID_LAHF:
		return 1 << EAX;
	case INSN_ID_CWD_CDQ:
		return 1 << EDX;
	case INSN_ID_PCMPESTRI: case INSN_ID_PCMPISTRI:
		return 1 << ECX;
	default:
		return 0;
	}
}

static unsigned implicit_reads(enum insn_id id)
{
	switch (id) {
	case INSN_ID_DIV: case INSN_ID_IDIV: case INSN_ID_PCMPESTRI: case INSN_ID_PCMPESTRM:
		return 1 << EAX | 1 << EDX;
	case INSN_ID_CMPXCHG8B:
		return 1 << EAX | 1 << ECX | 1 << EDX | 1 << EBX;
	case INSN_ID_MUL: case INSN_ID_IMUL: case INSN_ID_CMPXCHG: case INSN_ID_AAA:
	case INSN_ID_AAS: case INSN_ID_AAD: case INSN_ID_AAM: case INSN_ID_DAA:
	case INSN_ID_DAS: case INSN_ID_CBW_CWDE: case INSN_ID_CWD_CDQ: case INSN_ID_LAHF:
	case INSN_ID_SAHF:
		return 1 << EAX;
	default:
		return 0;
	}
}

static bool writes_xmm0(enum insn_id id)
{
	return id == INSN_ID_PCMPESTRM || id == INSN_ID_PCMPISTRM;
}

/* ---- operands ---- */

/* Where the bytes of register operand @n are; NULL if it is none. */
static uint8_t *register_bytes(const struct insn *in, unsigned n, uint32_t gpr[8], uint8_t *fx)
{
	const struct op_desc *op = &in->entry->op[n];
	unsigned number;

	switch (op->addr) {
	case OP_V:
		return fx + FX_XMM + 16 * in->reg;
	case OP_P:
		return fx + FX_MM + 16 * in->reg;
	case OP_W: case OP_U:
		return in->has_mem ? NULL : fx + FX_XMM + 16 * in->rm;
	case OP_Q: case OP_N:
		return in->has_mem ? NULL : fx + FX_MM + 16 * in->rm;
	case OP_E: case OP_R:
		if (in->has_mem)
			return NULL;
		number = in->rm;
		break;
	case OP_G:
		number = in->reg;
		break;
	case OP_Z:
		number = in->opcode & 7;
		break;
	case OP_FIXED_GPR:
		number = op->fixed;
		break;
	default:
		return NULL;
	}
	if (insn_operand_bytes(in, n) == 1)
		return (uint8_t *)&gpr[number & 3] + (number >> 2);
	return (uint8_t *)&gpr[number];
}

static bool is_memory_operand(const struct insn *in, unsigned n)
{
	switch (in->entry->op[n].addr) {
	case OP_E: case OP_W: case OP_Q: case OP_M: case OP_O:
		return in->has_mem;
	default:
		return false;
	}
}

/* ---- making cases ---- */

static bool row_can_run(const struct insn_entry *row)
{
	if (row->attr & (INSN_NO_GENERATE | INSN_BRANCH | INSN_SYSTEM | INSN_STRING | INSN_STACK |
			 INSN_IO))
		return false;
	switch (row->id) {
	case INSN_ID_UD0: case INSN_ID_UD1: case INSN_ID_UD2: /* always fault */
	case INSN_ID_BOUND:                                   /* mostly faults */
	case INSN_ID_XLAT: case INSN_ID_MASKMOVQ: case INSN_ID_MASKMOVDQU: /* implicit memory */
	case INSN_ID_FXRSTOR: case INSN_ID_LDMXCSR:           /* #GP from reserved bits */
	case INSN_ID_CLFLUSH:                                 /* no access, but may fault */
		return false;
	default:
		return true;
	}
}

static void encode(struct subject *s, struct rng *r, bool mem, bool prefix_66)
{
	static const uint8_t mandatory[] = { [NEED_66] = 0x66, [NEED_F3] = 0xf3, [NEED_F2] = 0xf2 };
	const struct insn_entry *e = s->row;
	uint8_t *b = s->bytes;
	unsigned reg = e->reg >= 0 ? (unsigned)e->reg : rng_below(r, 8);
	unsigned rm = e->rm >= 0 ? (unsigned)e->rm : rng_below(r, 8);

	s->address_at = 0;
	if (prefix_66)
		*b++ = 0x66;
	if (e->need >= NEED_66)
		*b++ = mandatory[e->need];
	if (e->map != MAP_1)
		*b++ = 0x0f;
	if (e->map == MAP_0F38 || e->map == MAP_0F3A)
		*b++ = e->map == MAP_0F38 ? 0x38 : 0x3a;
	*b = e->opcode;
	if (e->op[0].addr == OP_Z || e->op[1].addr == OP_Z) {
		static const uint8_t registers[] = { ECX, EDX, EBX, EBP, ESI, EDI };

		*b |= registers[rng_below(r, 6)];
	}
	b++;
	if (e->attr & INSN_MODRM) {
		if (e->reg < 0 && reg == ESP)
			reg = ECX;
		if (e->rm < 0 && rm == ESP)
			rm = EDX;
		*b++ = (uint8_t)(mem ? reg << 3 | 5 : 0xc0 | reg << 3 | rm);
	}
	if (mem) {
		s->address_at = (unsigned)(b - s->bytes);
		memcpy(b, &(uint32_t){ ADDRESS }, 4);
		b += 4;
	}
	while (b < s->bytes + sizeof(s->bytes))
		*b++ = (uint8_t)rng_below(r, rng_percent(r, 30) ? 8 : 256);
	if (insn_decode(&s->in, true, s->bytes, sizeof(s->bytes)) != DECODE_OK)
		wrong(s, "is not decoded", s->bytes[0]);
	s->length = s->in.length;
	s->access = insn_memory_access(&s->in, &s->mem_bytes);
}

static void random_state(struct test_case *c, struct rng *r)
{
	memset(c, 0, sizeof(*c));
	for (unsigned i = 0; i < 8; i++)
		c->gpr[i] = rng_percent(r, 12) ? 0 : (uint32_t)rng_next(r) >> (rng_percent(r, 25) ? 24 : 0);
	c->gpr[ESP] = STACK_BASE + PAGE;
	c->eflags = FLAG_RSVD1 | FLAG_IF | ((uint32_t)rng_next(r) & FLAGS_ARITH);
	c->memory_seed = rng_next(r);
	for (unsigned i = 0; i < FX_SIZE; i++)
		c->fx[i] = i < FX_MM ? 0 : (uint8_t)rng_next(r);
	memcpy(c->fx, &(uint16_t){ 0x37f }, 2);
	c->fx[4] = 0xff; /* no register empty */
	memcpy(c->fx + 24, &(uint32_t){ 0x1f80 }, 4);
	for (unsigned i = 0; i < 8; i++) /* normal numbers near 1, or what MMX leaves */
		memcpy(c->fx + FX_MM + 16 * i + 8,
		       &(uint64_t){ rng_percent(r, 60) ? 0x3f80 + rng_below(r, 256) : 0xffff }, 8);
}

static void set_insn(struct test_case *c, const struct subject *s, uint32_t address)
{
	c->insn_count = 1;
	c->insn[0].length = (uint8_t)s->length;
	memcpy(c->insn[0].bytes, s->bytes, s->length);
	if (s->address_at)
		memcpy(c->insn[0].bytes + s->address_at, &address, 4);
}

static struct test_case *vary(struct subject *s, enum variant v)
{
	s->used[v] = true;
	s->cases[v] = s->cases[BASE];
	return &s->cases[v];
}

static void tame(struct subject *s, struct rng *r)
{
	struct test_case *c = &s->cases[BASE];

	switch (s->row->id) {
	case INSN_ID_BT: case INSN_ID_BTS: case INSN_ID_BTR: case INSN_ID_BTC:
		if (s->in.has_mem && s->row->op[1].addr == OP_G) /* stay in the operand */
			c->gpr[s->in.reg] &= 8u * s->in.opsize - 1;
		break;
	case INSN_ID_DIV: case INSN_ID_IDIV: /* seldom overflow */
		c->gpr[EDX] = 0;
		c->gpr[EAX] &= 0xff;
		break;
	case INSN_ID_CMPXCHG:
		if (s->in.has_mem && rng_percent(r, 50)) { /* equal */
			c->poke_count = 1;
			c->poke[0] = (struct case_poke){ ARENA_DATA + ADDRESS - DATA_BASE,
							 c->gpr[EAX] };
		}
		break;
	case INSN_ID_CMPXCHG8B:
		if (rng_percent(r, 50)) {
			c->poke_count = 2;
			c->poke[0] = (struct case_poke){ ARENA_DATA + ADDRESS - DATA_BASE,
							 c->gpr[EAX] };
			c->poke[1] = (struct case_poke){ ARENA_DATA + ADDRESS - DATA_BASE + 4,
							 c->gpr[EDX] };
		}
		break;
	default:
		break;
	}
}

static unsigned gprs_read(const struct subject *s)
{
	unsigned read = implicit_reads(s->row->id) | 1u << ESP;
	uint32_t gpr[8];
	uint8_t fx[FX_SIZE];

	for (unsigned n = 0; n < 4; n++) {
		const uint8_t *p = register_bytes(&s->in, n, gpr, fx);

		if (p >= (uint8_t *)gpr && p < (uint8_t *)(gpr + 8) &&
		    (s->row->op[n].access & ACC_R))
			read |= 1u << (p - (uint8_t *)gpr) / 4;
	}
	return read;
}

/* Is the old value of operand @n, which is only written, also the value of another
 * operand or implicit register that is read? */
static bool old_value_is_read(const struct subject *s, unsigned n)
{
	uint32_t gpr[8];
	uint8_t fx[FX_SIZE];
	const uint8_t *p = register_bytes(&s->in, n, gpr, fx);

	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *other = register_bytes(&s->in, i, gpr, fx);

		if (i != n && (s->row->op[i].access & ACC_R) && p && other && p < other + 4 &&
		    other < p + 4)
			return true;
	}
	return p >= (uint8_t *)gpr && p < (uint8_t *)(gpr + 8) && implicit_reads(s->row->id);
}

static void make_variants(struct subject *s, struct rng *r)
{
	struct test_case *c;
	unsigned read = gprs_read(s);
	uint32_t edge = s->access & ACC_W ? WRITABLE_END : READABLE_END;

	vary(s, FLAGS)->eflags ^= FLAGS_ARITH & ~s->row->flags_read;
	c = vary(s, REGISTERS);
	for (unsigned i = 0; i < 8; i++)
		if (!(read >> i & 1))
			c->gpr[i] ^= (uint32_t)rng_next(r);
	for (unsigned n = 0; n < 4; n++) {
		uint8_t *p;

		if (s->row->op[n].access != ACC_W || (s->row->attr & INSN_X87) ||
		    old_value_is_read(s, n))
			continue;
		c = vary(s, OLD_VALUE + n);
		p = register_bytes(&s->in, n, c->gpr, c->fx);
		for (unsigned i = 0; p && i < insn_operand_bytes(&s->in, n); i++)
			p[i] ^= (uint8_t)(0x5a + i);
		if (is_memory_operand(&s->in, n))
			c->memory_seed++;
	}
	if (s->in.has_mem && s->access == ACC_NONE) {
		set_insn(vary(s, UNMAPPED), s, NOWHERE);
	} else if (s->in.has_mem) {
		bool align = s->row->attr & INSN_ALIGN16;

		set_insn(vary(s, EDGE), s, edge - s->mem_bytes);
		set_insn(vary(s, BEYOND_EDGE), s, edge - s->mem_bytes + (align ? 16 : 1));
		set_insn(vary(s, ODD), s, ADDRESS + 1);
		set_insn(vary(s, READ_ONLY), s, WRITABLE_END + 512);
	}
}

/* ---- judging results ---- */

static bool completed(const struct test_result *r)
{
	return r->outcome == OUTCOME_EXCEPTION && r->vector == END_VECTOR;
}

static bool faulted(const struct test_result *r)
{
	return r->outcome == OUTCOME_EXCEPTION && (r->vector == EXC_PF || r->vector == EXC_GP);
}

/* Nothing but what the row lists has changed. */
static void check_changes(const struct subject *s, const struct test_result *r)
{
	static uint8_t arena[ARENA_SIZE];
	const struct test_case *c = &s->cases[BASE];
	uint32_t gpr[8];
	uint8_t fx[FX_SIZE];
	uint8_t *p;

	memcpy(gpr, c->gpr, sizeof(gpr));
	memcpy(fx, c->fx, FX_SIZE);
	arena_background(c->memory_seed, arena);
	arena_poke(c, arena);
	/* what may change is taken over from the result, the rest must be as before */
	for (unsigned n = 0; n < 4; n++) {
		unsigned bytes = insn_operand_bytes(&s->in, n);

		if (!(s->row->op[n].access & ACC_W))
			continue;
		p = register_bytes(&s->in, n, gpr, fx);
		if (p && p >= fx && p < fx + FX_SIZE)
			memcpy(p, r->fx + (p - fx), bytes);
		else if (p)
			memcpy(p, (const uint8_t *)r->gpr + (p - (uint8_t *)gpr), bytes);
		if (is_memory_operand(&s->in, n))
			memcpy(arena + ARENA_DATA + ADDRESS - DATA_BASE,
			       r->arena + ARENA_DATA + ADDRESS - DATA_BASE, bytes);
	}
	for (unsigned i = 0; i < 8; i++)
		if (implicit_writes(s->row->id) >> i & 1)
			gpr[i] = r->gpr[i];
	if (writes_xmm0(s->row->id))
		memcpy(fx + FX_XMM, r->fx + FX_XMM, 16);
	if (memcmp(gpr, r->gpr, sizeof(gpr)))
		wrong(s, "changes a general register without a W operand", 0);
	if (memcmp(fx + FX_XMM, r->fx + FX_XMM, 128))
		wrong(s, "changes XMM bytes without a W operand", 0);
	for (unsigned i = 0; i < 8 && !(s->row->attr & INSN_X87); i++)
		if (memcmp(fx + FX_MM + 16 * i, r->fx + FX_MM + 16 * i, 8))
			wrong(s, "changes an MMX register without a W operand", i);
	if (memcmp(arena, r->arena, ARENA_SIZE))
		wrong(s, "changes memory outside a W operand", 0);
	if ((c->eflags ^ r->eflags) & ~s->row->flags_written & (FLAGS_ARITH | FLAG_DF | FLAG_IF))
		wrong(s, "changes flags not in flags_written",
		     (c->eflags ^ r->eflags) & ~s->row->flags_written);
}

static void check_independence(const struct subject *s, const struct test_result *a,
			       const struct test_result *b, unsigned registers)
{
	unsigned flags = (a->eflags ^ b->eflags) & s->row->flags_written & ~s->row->flags_undef &
			 FLAGS_ARITH;

	if (flags)
		wrong(s, registers == ~0u ? "flags depend on flags not in flags_read" :
					   "flags depend on a register without an R operand",
		     flags);
	for (unsigned i = 0; i < 8; i++)
		if ((registers >> i & 1) && a->gpr[i] != b->gpr[i])
			wrong(s, "a register depends on what is not listed as read", i);
	if (memcmp(a->fx + FX_XMM, b->fx + FX_XMM, 128))
		wrong(s, "XMM registers depend on what is not listed as read", 0);
	if (memcmp(a->arena, b->arena, ARENA_SIZE))
		wrong(s, "memory depends on what is not listed as read", 0);
}

static void check_old_value(const struct subject *s, unsigned n, struct test_result *a,
			    struct test_result *b)
{
	unsigned bytes = insn_operand_bytes(&s->in, n);
	uint8_t *pa = register_bytes(&s->in, n, a->gpr, a->fx);
	uint8_t *pb = register_bytes(&s->in, n, b->gpr, b->fx);

	if (is_memory_operand(&s->in, n)) {
		pa = a->arena + ARENA_DATA + ADDRESS - DATA_BASE;
		pb = b->arena + ARENA_DATA + ADDRESS - DATA_BASE;
	}
	if (pa && memcmp(pa, pb, bytes))
		wrong(s, "an operand of access W depends on its old value", n);
}

static void check_memory(const struct subject *s, const struct test_result *results)
{
	bool align = s->row->attr & INSN_ALIGN16;
	/* AMD's processors ask for no alignment here, Intel's do (SDM 2, table 2-21) */
	bool unsure = s->row->feature == FEAT_SHA;

	if (s->used[UNMAPPED]) {
		if (!completed(&results[s->slot[UNMAPPED]]))
			wrong(s, "faults, but has no access", 0);
		return;
	}
	if (faulted(&results[s->slot[EDGE]]))
		wrong(s, "faults at the end of a page: the operand is longer", s->mem_bytes);
	if (!faulted(&results[s->slot[BEYOND_EDGE]]))
		wrong(s, "works beyond the end of a page: the operand is shorter", s->mem_bytes);
	if (!unsure && faulted(&results[s->slot[ODD]]) != align)
		wrong(s, "ALIGN16 is wrong", align);
	if (faulted(&results[s->slot[READ_ONLY]]) != !!(s->access & ACC_W))
		wrong(s, "faults in a read-only page, or should", s->access);
}

static void judge(struct fixture *f, const struct subject *s, struct test_result *results)
{
	struct test_result *base = &results[s->slot[BASE]];
	unsigned read = gprs_read(s);

	if (base->outcome == OUTCOME_EXCEPTION && base->vector == EXC_UD) {
		f->missing++; /* this host lacks the instruction */
		return;
	}
	if (base->outcome == OUTCOME_EXCEPTION && base->vector == EXC_DE)
		return;
	if (!completed(base))
		wrong(s, "did not complete", base->vector);
	if (base->eip != CODE_BASE + s->length + 1)
		wrong(s, "length", base->eip - CODE_BASE - 1);
	check_changes(s, base);
	check_independence(s, base, &results[s->slot[FLAGS]], ~0u);
	if (s->row->id != INSN_ID_LEA && completed(&results[s->slot[REGISTERS]]))
		check_independence(s, base, &results[s->slot[REGISTERS]], read);
	for (unsigned n = 0; n < 4; n++)
		if (s->used[OLD_VALUE + n])
			check_old_value(s, n, base, &results[s->slot[OLD_VALUE + n]]);
	if (s->in.has_mem)
		check_memory(s, results);
}

static void run_form(struct fixture *f, const struct insn_entry *row, bool mem, bool prefix_66)
{
	static struct subject s;
	static struct test_case batch[BATCH_MAX];
	static struct test_result results[VARIANTS];

	f->forms++;
	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned n = 0;

		memset(&s, 0, sizeof(s));
		s.row = row;
		encode(&s, &f->rng, mem, prefix_66);
		if (s.in.entry != row) /* another row has a part of this one's space */
			continue;
		random_state(&s.cases[BASE], &f->rng);
		s.used[BASE] = true;
		tame(&s, &f->rng);
		set_insn(&s.cases[BASE], &s, ADDRESS);
		make_variants(&s, &f->rng);
		for (unsigned v = 0; v < VARIANTS; v++) {
			s.slot[v] = n;
			if (s.used[v])
				batch[n++] = s.cases[v];
		}
		if (!host_leg_start(f->host, batch, n))
			wrong(&s, "could not be run", n);
		memcpy(results, host_leg_wait(f->host), n * sizeof(results[0]));
		f->runs += n;
		judge(f, &s, results);
	}
}

int main(void)
{
	struct fixture f = { .rng = { 42 } };
	struct error err = { "" };
	size_t count;
	const struct insn_entry *rows = insn_table(&count);
	unsigned tested = 0;

	f.host = host_leg_create(&err);
	if (!f.host) {
		printf("decode table against the host: not run: %s\n", err.text);
		return 77; /* Meson: skipped */
	}
	for (size_t i = 0; i < count; i++) {
		const struct insn_entry *e = &rows[i];
		bool modrm = e->attr & INSN_MODRM;
		bool moffs = e->op[0].addr == OP_O || e->op[1].addr == OP_O;
		bool may_66 = e->need == NEED_ANY || e->need == NEED_F2 || e->need == NEED_F3;

		if (!row_can_run(e))
			continue;
		tested++;
		for (int p66 = 0; p66 <= (may_66 ? 1 : 0); p66++) {
			if (moffs || (modrm && e->mod != 3))
				run_form(&f, e, true, p66);
			if (!moffs && e->mod != 0)
				run_form(&f, e, false, p66);
		}
	}
	printf("decode table against the host: %u of %zu rows, %lu forms, %lu runs, "
	       "%lu of instructions this host lacks\n",
	       tested, count, f.forms, f.runs, f.missing);
	host_leg_destroy(f.host);
	return EXIT_SUCCESS;
}
