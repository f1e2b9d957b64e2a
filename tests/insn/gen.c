/* The generator: random instructions from the decode table, with operands that
 * mostly make sense.
 *
 * Registers have no value until an instruction needs one: the first memory
 * operand with a base register decides where that register points. A register
 * that an earlier instruction may have changed is not relied on any more. What
 * depends on the final layout (return addresses, far pointers) is noted and
 * filled in at the end.
 */
#include "tests/insn/gen.h"

#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/util.h"

enum { MAX_FIXUPS = 24 };

enum fixup_kind { FIXUP_GPR, FIXUP_POKE, FIXUP_BYTES };

struct fixup {
	enum fixup_kind kind;
	uint8_t index;  /* register, poke or instruction */
	uint8_t at;     /* FIXUP_BYTES: offset in the instruction */
	uint8_t size;
	uint8_t target; /* instruction whose address goes there */
	uint8_t plus;   /* ... and how many bytes on */
};

struct gen {
	struct generator *g;
	struct rng *r;
	struct test_case *c;
	uint8_t fixed;  /* registers whose initial value matters */
	uint8_t dirty;  /* registers an earlier instruction may have written */
	uint32_t undef; /* flags whose value is not defined */
	bool branched;
	bool last_stores_pointers; /* FNSTENV and kin: nothing may read what they stored */
	bool flags_loaded; /* POPF or IRET came before: NT, TF and AC unknown */
	struct fixup fixup[MAX_FIXUPS];
	unsigned fixups;
};

/* One instruction being put together. */
struct draft {
	const struct insn_entry *e;
	bool p66, p67, mem;
	bool o16, a16;       /* operand and address size are 16 bits */
	uint8_t reg, rm;
	uint32_t target;     /* offset the memory operand should have in its segment */
	unsigned bytes;      /* roughly the operand's size */
	uint8_t out[INSN_MAX_LENGTH + 16];
	unsigned n;
};

/* ---- which rows ---- */

static const char *row_excluded(const struct insn_entry *e)
{
	switch (e->id) {
	case INSN_ID_CPUID:
	case INSN_ID_RDTSC:
	case INSN_ID_RDPMC:
	case INSN_ID_RDRAND:
	case INSN_ID_RDSEED:
		return "result is not the same on any two CPUs";
	case INSN_ID_SGDT:
	case INSN_ID_SIDT:
	case INSN_ID_SLDT:
	case INSN_ID_STR:
	case INSN_ID_SMSW:
		return "the host's own tables; trapped or emulated by its kernel";
	case INSN_ID_SYSENTER:
	case INSN_ID_SYSEXIT:
	case INSN_ID_RSM:
		return "enters the host's kernel or differs in its long mode";
	case INSN_ID_INT1:
		return "virtualised hosts report it as a fault, real ones as a trap";
	case INSN_ID_MONITOR:
	case INSN_ID_MWAIT:
		return "privileged, and the host may allow it";
	case INSN_ID_UD0:
		return "length differs between CPUs";
	default:
		break;
	}
	return NULL;
}

bool generator_init(struct generator *g, uint64_t seed, bool low, bool segments,
		    bool (*has)(void *opaque, enum insn_feature f), void *opaque)
{
	memset(g, 0, sizeof(*g));
	g->rng.state = seed;
	g->low = low;
	g->segments = segments;
	g->table = insn_table(&g->rows);
	g->usable = calloc(g->rows, sizeof(*g->usable));
	g->why_not = calloc(g->rows, sizeof(*g->why_not));
	if (!g->usable || !g->why_not)
		return false;
	for (size_t i = 0; i < g->rows; i++) {
		g->why_not[i] = row_excluded(&g->table[i]);
		if (!g->why_not[i] && !has(opaque, g->table[i].feature))
			g->why_not[i] = "the CPU model or this host lacks the feature";
		if (g->table[i].id == INSN_ID_LOOP)
			g->loop_row = (uint16_t)i;
		if (g->table[i].id == INSN_ID_MOV && g->table[i].map == MAP_1 && g->table[i].opcode == 0xc6)
			g->store_row = (uint16_t)i;
		g->usable[i] = !g->why_not[i];
		g->usable_count += g->usable[i];
	}
	return true;
}

void generator_finish(struct generator *g)
{
	free(g->usable);
	free(g->why_not);
}

/* ---- values ---- */

static uint16_t random_selector(struct rng *r)
{
	static const uint16_t list[] = { SEL_DATA, SEL_DATA, SEL_DATA, SEL_CODE, 0, 3, 0x28, 0x2a, 0x20,
					 0x18, 0x1b, 0x10, 0x08, 0x40, 0x43, 0x4b, 0x27, 0x2f,
					 0x80, 0xfff8, 0xffff, 0x29, 0x22,
					 LDT_SELECTOR(LDT_DATA), LDT_SELECTOR(LDT_DATA),
					 LDT_SELECTOR(LDT_STACK16), LDT_SELECTOR(LDT_EXPAND_DOWN),
					 LDT_SELECTOR(LDT_READ_ONLY), LDT_SELECTOR(LDT_CODE16) };

	return list[rng_below(r, ARRAY_SIZE(list))];
}

/* A plausible address of @bytes bytes in [base, base + size), sometimes over an edge. */
static uint32_t address_in(struct rng *r, uint32_t base, uint32_t size, unsigned bytes, unsigned align)
{
	uint32_t at = base + rng_below(r, size > bytes ? size - bytes : 1);

	return at & ~(align - 1);
}

static uint32_t random_linear(struct gen *s, const struct draft *d)
{
	struct rng *r = s->r;
	unsigned bytes = d->bytes ? d->bytes : 4, how = rng_below(r, 100);
	unsigned align = rng_percent(r, 50) ? 1 : bytes >= 16 ? 16 : bytes & -bytes;
	uint32_t rw = (DATA_PAGES - 1) * PAGE, t;

	if ((d->e->attr & INSN_ALIGN16) && rng_percent(r, 85))
		align = 16;
	if (d->a16 && s->c->mode == MODE_FLAT32) {
		if (how < 90)
			return address_in(r, LOW_BASE, LOW_PAGES * PAGE, bytes, align);
		return (uint16_t)generator_random32(r);
	}
	if (how < 74)
		return address_in(r, DATA_BASE, rw, bytes, align);
	if (how < 82) /* over the boundary of two pages, or just before it */
		t = DATA_BASE + PAGE - rng_below(r, bytes + 1);
	else if (how < 86) /* into the read-only page */
		t = DATA_BASE + rw - rng_below(r, bytes + 1);
	else if (how < 89)
		t = address_in(r, DATA_BASE + rw, PAGE, bytes, align);
	else if (how < 92) /* over the end */
		t = DATA_BASE + DATA_PAGES * PAGE - rng_below(r, bytes + 1);
	else if (how < 94)
		t = DATA_BASE - rng_below(r, bytes + 1);
	else if (how < 98)
		t = address_in(r, STACK_BASE, STACK_PAGES * PAGE, bytes, align);
	else
		return generator_random32(r);
	return (d->e->attr & INSN_ALIGN16) && rng_percent(r, 60) ? t & ~15u : t;
}

/* The same as an offset in the case's data segments. */
static uint32_t random_target(struct gen *s, const struct draft *d)
{
	return random_linear(s, d) - case_data_base(s->c);
}

static bool reg_free(const struct gen *s, unsigned n) { return !((s->fixed | s->dirty) >> n & 1); }
static bool reg_known(const struct gen *s, unsigned n) { return !(s->dirty >> n & 1); }

static void reg_fix(struct gen *s, unsigned n, uint32_t value)
{
	if (reg_free(s, n)) {
		s->c->gpr[n] = value;
		s->fixed |= 1u << n;
	}
}

static bool offset_out(const struct gen *s, uint32_t address, uint32_t *offset)
{
	return !arena_offset(case_data_base(s->c) + address, offset) || *offset > ARENA_SIZE - 4;
}

static void poke(struct gen *s, uint32_t address, uint32_t value)
{
	uint32_t offset;

	if (s->c->poke_count >= MAX_POKES || offset_out(s, address, &offset))
		return;
	s->c->poke[s->c->poke_count++] = (struct case_poke){ offset, value };
}

static void add_fixup(struct gen *s, enum fixup_kind kind, unsigned index, unsigned at, unsigned size)
{
	if (s->fixups < MAX_FIXUPS)
		s->fixup[s->fixups++] = (struct fixup){
			kind, (uint8_t)index, (uint8_t)at, (uint8_t)size,
			(uint8_t)(s->c->insn_count + 1 + rng_below(s->r, 3)), 0 };
}

/* A poke that will hold the address of a later instruction. */
static void poke_label(struct gen *s, uint32_t address)
{
	unsigned before = s->c->poke_count;

	poke(s, address, 0);
	if (s->c->poke_count > before)
		add_fixup(s, FIXUP_POKE, before, 0, 4);
}

/* ---- ModRM ---- */

static void put(struct draft *d, uint32_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes && d->n < sizeof(d->out); i++)
		d->out[d->n++] = (uint8_t)(value >> 8 * i);
}

static unsigned disp_mod(struct rng *r, uint32_t disp, bool need, unsigned wide, unsigned *bytes)
{
	bool small = wide == 4 ? (int32_t)disp == (int8_t)disp : (int16_t)disp == (int8_t)disp;

	if (!disp && !need && rng_percent(r, 80)) {
		*bytes = 0;
		return 0;
	}
	if (small && rng_percent(r, 85)) {
		*bytes = 1;
		return 1;
	}
	*bytes = wide;
	return 2;
}

static void memory16(struct gen *s, struct draft *d)
{
	static const int8_t bases[8] = { EBX, EBX, EBP, EBP, ESI, EDI, EBP, EBX };
	static const int8_t indexes[8] = { ESI, EDI, ESI, EDI, -1, -1, -1, -1 };
	unsigned rm = rng_below(s->r, 9), bytes, mod;
	uint32_t disp = d->target;

	if (rm == 8) {
		put(d, d->reg << 3 | 6, 1);
		put(d, disp, 2);
		return;
	}
	disp -= s->c->gpr[bases[rm]];
	s->fixed |= 1u << bases[rm];
	if (indexes[rm] >= 0) {
		disp -= s->c->gpr[indexes[rm]];
		s->fixed |= 1u << indexes[rm];
	}
	mod = disp_mod(s->r, disp & 0xffff, rm == 6, 2, &bytes);
	put(d, mod << 6 | d->reg << 3 | rm, 1);
	put(d, disp, bytes);
}

/* A base register for the operand: its value is chosen now if nobody relies on it. */
static void base_near(struct gen *s, unsigned base, uint32_t target)
{
	uint32_t away = rng_percent(s->r, 40) ? 0 : (uint32_t)(int8_t)rng_next(s->r);

	if (reg_free(s, base) && base != ESP)
		reg_fix(s, base, target - away);
	s->fixed |= 1u << base;
}

static void memory32(struct gen *s, struct draft *d)
{
	unsigned style = rng_below(s->r, 10), base = rng_below(s->r, 8), index, scale, bytes, mod;
	uint32_t disp = d->target;

	if (!reg_known(s, base) && rng_percent(s->r, 80))
		style = 0;
	if (style <= 1) { /* absolute, in either encoding */
		put(d, d->reg << 3 | (style ? 4 : 5), 1);
		if (style)
			put(d, (rng_below(s->r, 4) << 6) | 0x25, 1);
		put(d, disp, 4);
		return;
	}
	if (style <= 5) { /* base and displacement */
		base_near(s, base, d->target);
		disp -= s->c->gpr[base];
		mod = disp_mod(s->r, disp, base == EBP, 4, &bytes);
		put(d, mod << 6 | d->reg << 3 | base, 1);
		if (base == ESP)
			put(d, (rng_below(s->r, 4) << 6) | 0x24, 1);
		put(d, disp, bytes);
		return;
	}
	do
		index = rng_below(s->r, 8);
	while (index == ESP);
	scale = rng_below(s->r, 4);
	if (reg_free(s, index))
		reg_fix(s, index, rng_percent(s->r, 60) ? rng_below(s->r, 64) : generator_random32(s->r));
	s->fixed |= 1u << index;
	disp -= s->c->gpr[index] << scale;
	if (style == 6) { /* scaled index alone */
		put(d, d->reg << 3 | 4, 1);
		put(d, scale << 6 | index << 3 | 5, 1);
		put(d, disp, 4);
		return;
	}
	base_near(s, base, disp);
	disp = d->target - (s->c->gpr[index] << scale) - s->c->gpr[base];
	mod = disp_mod(s->r, disp, base == EBP, 4, &bytes);
	put(d, mod << 6 | d->reg << 3 | 4, 1);
	put(d, scale << 6 | index << 3 | base, 1);
	put(d, disp, bytes);
}

/* ---- one instruction ---- */

static unsigned size_of(uint8_t size, bool o16)
{
	unsigned v = o16 ? 2 : 4;

	switch ((enum op_size)size) {
	case SZ_B: return 1;
	case SZ_W: return 2;
	case SZ_V:
	case SZ_Z: return v;
	case SZ_A: return 2 * v;
	case SZ_P: return v + 2;
	case SZ_D:
	case SZ_Y:
	case SZ_SS: return 4;
	case SZ_Q:
	case SZ_SD: return 8;
	case SZ_S: return 6;
	case SZ_T: return 10;
	case SZ_DQ:
	case SZ_PS:
	case SZ_PD: return 16;
	case SZ_ENV: return o16 ? 14 : 28;
	case SZ_FSAVE: return o16 ? 94 : 108;
	case SZ_FXSAVE: return 512;
	case SZ_0: return 0;
	}
	return 0;
}

static bool entry_has(const struct insn_entry *e, enum op_addr addr)
{
	for (unsigned i = 0; i < 4; i++)
		if (e->op[i].addr == addr)
			return true;
	return false;
}

static bool entry_sized(const struct insn_entry *e)
{
	for (unsigned i = 0; i < 4; i++)
		switch (e->op[i].size) {
		case SZ_V: case SZ_Z: case SZ_A: case SZ_P: case SZ_ENV: case SZ_FSAVE:
			if (e->op[i].addr)
				return true;
		}
	return e->attr & INSN_STACK;
}

static bool implicit_memory(const struct insn_entry *e)
{
	return (e->attr & INSN_STRING) || e->id == INSN_ID_XLAT || e->id == INSN_ID_MASKMOVQ ||
	       e->id == INSN_ID_MASKMOVDQU;
}

static void put_prefixes(struct gen *s, struct draft *d)
{
	static const uint8_t segs[6] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
	const struct insn_entry *e = d->e;
	uint8_t p[8];
	unsigned n = 0;
	bool reaches = d->mem || implicit_memory(e);

	d->p66 = e->need == NEED_66;
	if (e->need == NEED_ANY || ((e->need == NEED_F2 || e->need == NEED_F3) && entry_sized(e)))
		d->p66 = rng_percent(s->r, entry_sized(e) ? 22 : 2);
	if (e->id == INSN_ID_BSWAP) /* undefined with a 16-bit operand */
		d->p66 = !case_code32(s->c);
	d->p67 = rng_percent(s->r, reaches || (e->attr & INSN_COND) ? 10 : 1);
	d->o16 = case_code32(s->c) == d->p66;
	d->a16 = case_code32(s->c) == d->p67;
	if (d->p66)
		p[n++] = 0x66;
	if (d->p67)
		p[n++] = 0x67;
	if (reaches && rng_percent(s->r, 8))
		p[n++] = segs[rng_below(s->r, 6)];
	if (e->need == NEED_F2 || e->need == NEED_F3)
		p[n++] = e->need == NEED_F2 ? 0xf2 : 0xf3;
	else if (e->attr & INSN_STRING && rng_percent(s->r, 60))
		p[n++] = rng_percent(s->r, 50) ? 0xf2 : 0xf3;
	else if (e->map == MAP_1 && e->need == NEED_ANY && e->opcode != 0x90 &&
		 e->id != INSN_ID_LOOPE && e->id != INSN_ID_LOOPNE && rng_percent(s->r, 1))
		p[n++] = rng_percent(s->r, 50) ? 0xf2 : 0xf3;
	if (e->attr & INSN_LOCK && d->mem && rng_percent(s->r, 30))
		p[n++] = 0xf0;
	else if (!(e->attr & INSN_SYSTEM) && rng_below(s->r, 300) == 0)
		p[n++] = 0xf0;
	while (n) {
		unsigned k = rng_below(s->r, n);

		put(d, p[k], 1);
		p[k] = p[--n];
	}
}

static void put_immediates(struct gen *s, struct draft *d, struct case_insn *out)
{
	const struct insn_entry *e = d->e;
	uint32_t v;

	for (unsigned i = 0; i < 4; i++) {
		unsigned bytes = size_of(e->op[i].size, d->o16);

		switch (e->op[i].addr) {
		case OP_I:
			v = generator_random32(s->r);
			if (e->id == INSN_ID_INT && (v & 0xff) == 0x80)
				v = 3; /* the host's system call */
			if (e->id == INSN_ID_ENTER && rng_percent(s->r, 80))
				v &= i ? 0xe1 : 0x7c;
			if ((e->id == INSN_ID_SHLD || e->id == INSN_ID_SHRD) && d->o16)
				v &= 0xef; /* over 16 bits the result is undefined */
			if ((e->id == INSN_ID_RET || e->id == INSN_ID_RETF) && rng_percent(s->r, 80))
				v &= 0x1c;
			put(d, v, bytes);
			break;
		case OP_J:
			out->jump_at = (uint8_t)d->n;
			out->jump_size = (uint8_t)bytes;
			out->target = (uint8_t)(s->c->insn_count + 1 + rng_below(s->r, 3));
			put(d, 0, bytes);
			break;
		case OP_A:
			if (bytes == 6 || s->c->mode != MODE_FLAT32)
				add_fixup(s, FIXUP_BYTES, s->c->insn_count, d->n, bytes - 2);
			put(d, 0, bytes - 2);
			put(d, rng_percent(s->r, 70) ? case_selectors[s->c->mode][CS] : random_selector(s->r), 2);
			break;
		case OP_O:
			put(d, d->target, d->a16 ? 2 : 4);
			break;
		default:
			break;
		}
	}
}

/* Registers and memory that the instruction uses without saying so. */
static void set_scene(struct gen *s, struct draft *d)
{
	const struct insn_entry *e = d->e;
	struct rng *r = s->r;
	uint32_t esp = s->c->mode == MODE_SEG16 ? s->c->gpr[ESP] & 0xffff : s->c->gpr[ESP];
	uint16_t code = case_selectors[s->c->mode][CS];
	unsigned unit = d->o16 ? 2 : 4;
	bool stack_known = reg_known(s, ESP);

	if (e->attr & INSN_STRING) {
		d->bytes = 4;
		reg_fix(s, ESI, random_target(s, d));
		reg_fix(s, EDI, random_target(s, d));
		reg_fix(s, ECX, rng_percent(r, 85) ? rng_below(r, 40) : generator_random32(r));
	}
	if (e->attr & INSN_STACK)
		s->fixed |= 1u << ESP;
	switch (e->id) {
	case INSN_ID_XLAT:
		reg_fix(s, EBX, random_target(s, d));
		break;
	case INSN_ID_MASKMOVQ:
	case INSN_ID_MASKMOVDQU:
		d->bytes = 16;
		reg_fix(s, EDI, random_target(s, d));
		break;
	case INSN_ID_DIV:
	case INSN_ID_IDIV:
		if (rng_percent(r, 70))
			reg_fix(s, EDX, e->id == INSN_ID_IDIV && rng_percent(r, 50) ? UINT32_MAX : rng_below(r, 3));
		break;
	case INSN_ID_LOOP:
	case INSN_ID_LOOPE:
	case INSN_ID_LOOPNE:
	case INSN_ID_JECXZ:
		reg_fix(s, ECX, rng_percent(r, 70) ? rng_below(r, 3) : generator_random32(r));
		break;
	case INSN_ID_BT:
	case INSN_ID_BTS:
	case INSN_ID_BTR:
	case INSN_ID_BTC:
		if (d->mem && entry_has(e, OP_G) && d->reg != ESP)
			reg_fix(s, d->reg, rng_percent(r, 80) ? rng_below(r, 512) - 256u : generator_random32(r));
		break;
	case INSN_ID_SHLD:
	case INSN_ID_SHRD:
		if (d->o16)
			reg_fix(s, ECX, generator_random32(r) & ~0x10u);
		break;
	case INSN_ID_RET:
		if (stack_known)
			poke_label(s, esp);
		break;
	case INSN_ID_RETF:
	case INSN_ID_IRET:
		if (!stack_known)
			break;
		poke_label(s, esp);
		poke(s, esp + unit, rng_percent(r, 80) ? code : random_selector(r));
		if (e->id == INSN_ID_IRET)
			poke(s, esp + 2 * unit, generator_random32(r) & ~(rng_percent(r, 90) ? FLAG_TF | FLAG_VM | FLAG_NT : 0u));
		break;
	case INSN_ID_POPF:
		if (stack_known && rng_percent(r, 85))
			poke(s, esp, generator_random32(r) & ~(FLAG_TF | FLAG_NT | (rng_percent(r, 80) ? FLAG_AC : 0u)));
		break;
	case INSN_ID_POP_SREG:
		if (stack_known)
			poke(s, esp, random_selector(r));
		break;
	case INSN_ID_MOV_SREG:
		if (!d->mem && e->op[0].addr == OP_S && d->rm != ESP)
			reg_fix(s, d->rm, random_selector(r));
		else if (d->mem)
			poke(s, d->target, random_selector(r));
		break;
	case INSN_ID_VERR:
	case INSN_ID_VERW:
	case INSN_ID_LAR:
	case INSN_ID_LSL: {
		/* only descriptors that the host's kernel has as we have them */
		static const uint16_t list[] = { SEL_CODE, SEL_DATA, 0, 3, 0x20, 0x28, 0x18, 0xfff8, 0x2f };
		uint16_t sel = list[rng_below(r, ARRAY_SIZE(list))];

		if (d->mem)
			poke(s, d->target, sel);
		else if (d->rm != ESP)
			reg_fix(s, d->rm, sel);
		break;
	}
	case INSN_ID_LES: case INSN_ID_LDS: case INSN_ID_LSS: case INSN_ID_LFS: case INSN_ID_LGS:
		poke(s, d->target + unit, random_selector(r));
		break;
	case INSN_ID_CALLF:
	case INSN_ID_JMPF:
		if (d->mem) {
			poke_label(s, d->target);
			poke(s, d->target + unit, rng_percent(r, 70) ? code : random_selector(r));
		}
		break;
	case INSN_ID_CALL:
	case INSN_ID_JMP:
		if (!entry_has(e, OP_E))
			break;
		if (d->mem) {
			poke_label(s, d->target);
		} else if (reg_free(s, d->rm) && d->rm != ESP) {
			s->fixed |= 1u << d->rm;
			add_fixup(s, FIXUP_GPR, d->rm, 0, 4);
		}
		break;
	case INSN_ID_FXRSTOR:
		if (rng_percent(r, 85))
			poke(s, d->target + 24, generator_random32(r) & 0xffff);
		break;
	case INSN_ID_LDMXCSR:
		if (rng_percent(r, 85))
			poke(s, d->target, rng_percent(r, 50) ?
			     0x1f80 | (generator_random32(r) & 0xe07f) : generator_random32(r) & 0xffff);
		break;
	default:
		break;
	}
}

/* What later instructions cannot rely on any more. */
static void note_effects(struct gen *s, const struct draft *d)
{
	const struct insn_entry *e = d->e;

	for (unsigned i = 0; i < 4; i++) {
		unsigned size = size_of(e->op[i].size, false), n = 8;

		if (!(e->op[i].access & ACC_W))
			continue;
		switch (e->op[i].addr) {
		case OP_G: n = d->reg; break;
		case OP_E: case OP_R: n = d->mem ? 8 : d->rm; break;
		case OP_Z: n = d->rm; break;
		case OP_FIXED_GPR: n = e->op[i].fixed; break;
		}
		if (n < 8)
			s->dirty |= 1u << (size == 1 ? n & 3 : n);
	}
	if (e->attr & INSN_STRING)
		s->dirty |= 1u << ESI | 1u << EDI | 1u << ECX | 1u << EAX;
	if (e->attr & INSN_STACK)
		s->dirty |= 1u << ESP;
	if (e->attr & INSN_BRANCH)
		s->branched = true;
	switch (e->id) {
	case INSN_ID_MUL: case INSN_ID_IMUL: case INSN_ID_DIV: case INSN_ID_IDIV:
	case INSN_ID_CWD_CDQ: case INSN_ID_CBW_CWDE: case INSN_ID_CMPXCHG: case INSN_ID_CMPXCHG8B:
	case INSN_ID_AAA: case INSN_ID_AAS: case INSN_ID_AAM: case INSN_ID_AAD: case INSN_ID_DAA:
	case INSN_ID_DAS: case INSN_ID_LAHF: case INSN_ID_XLAT: case INSN_ID_SALC:
		s->dirty |= 1u << EAX | 1u << EDX;
		break;
	case INSN_ID_LOOP: case INSN_ID_LOOPE: case INSN_ID_LOOPNE:
	case INSN_ID_PCMPESTRI: case INSN_ID_PCMPISTRI:
		s->dirty |= 1u << ECX;
		break;
	case INSN_ID_ENTER: case INSN_ID_LEAVE:
		s->dirty |= 1u << EBP | 1u << ESP;
		break;
	case INSN_ID_POPA:
		s->dirty = 0xff;
		break;
	case INSN_ID_POPF: case INSN_ID_IRET:
		s->flags_loaded = true;
		break;
	default:
		break;
	}
}

/* Shifts and REP CMPS are listed as readers because a count of 0 keeps the old
 * flags; they do not act on them. */
static uint32_t flags_used(const struct insn_entry *e)
{
	switch (e->id) {
	case INSN_ID_SHL: case INSN_ID_SHR: case INSN_ID_SAR: case INSN_ID_SHLD: case INSN_ID_SHRD:
	case INSN_ID_ROL: case INSN_ID_ROR:
		return 0;
	case INSN_ID_RCL: case INSN_ID_RCR:
		return FLAG_CF;
	case INSN_ID_CMPS: case INSN_ID_SCAS:
		return FLAG_DF;
	default:
		return e->flags_read;
	}
}

static uint32_t undef_after(const struct insn_entry *e, uint32_t undef, bool branched)
{
	if (!branched)
		undef &= ~(uint32_t)(e->flags_written & ~e->flags_read);
	return undef | e->flags_undef;
}

static bool stores_pointers(const struct insn_entry *e)
{
	return e->id == INSN_ID_FNSTENV || e->id == INSN_ID_FNSAVE || e->id == INSN_ID_FXSAVE;
}

/* Does the memory operand use only registers whose value is still the initial one? */
static bool address_known(const struct gen *s, const struct insn *in)
{
	return (in->base < 0 || reg_known(s, (unsigned)in->base)) &&
	       (in->index < 0 || reg_known(s, (unsigned)in->index));
}

static bool draft_row(struct gen *s, const struct insn_entry *e, struct case_insn *out)
{
	struct draft d = { .e = e };
	struct gen saved = *s;
	unsigned pokes = s->c->poke_count;
	uint32_t gpr[8];
	struct insn in;

	memcpy(gpr, s->c->gpr, sizeof(gpr));
	memset(out, 0, sizeof(*out));
	d.mem = entry_has(e, OP_O);
	if (e->attr & INSN_MODRM)
		d.mem = e->mod == 0 || (e->mod < 0 && !entry_has(e, OP_R) && rng_percent(s->r, 60));
	if (e->map == MAP_0F && e->opcode == 0x0d)
		d.mem = true; /* AMD has no register form */
	if (e->id == INSN_ID_UD1)
		d.mem = false; /* not all CPUs fetch the rest of it */
	d.reg = e->reg >= 0 ? (uint8_t)e->reg : (uint8_t)rng_below(s->r, 8);
	d.rm = e->rm >= 0 ? (uint8_t)e->rm : (uint8_t)rng_below(s->r, 8);
	put_prefixes(s, &d);
	for (unsigned i = 0; i < 4; i++)
		switch (e->op[i].addr) {
		case OP_E: case OP_M: case OP_W: case OP_Q: case OP_O:
			d.bytes = size_of(e->op[i].size, d.o16);
		}
	d.target = random_target(s, &d);
	if (e->map != MAP_1)
		put(&d, 0x0f, 1);
	if (e->map >= MAP_0F38)
		put(&d, e->map == MAP_0F38 ? 0x38 : 0x3a, 1);
	put(&d, e->opcode | (entry_has(e, OP_Z) ? d.rm : 0), 1);
	if (e->attr & INSN_MODRM) {
		if (!d.mem)
			put(&d, 0xc0 | d.reg << 3 | d.rm, 1);
		else if (d.a16)
			memory16(s, &d);
		else
			memory32(s, &d);
	}
	put_immediates(s, &d, out);
	if (d.n <= INSN_MAX_LENGTH && insn_decode(&in, case_code32(s->c), d.out, d.n) == DECODE_OK &&
	    in.length == d.n && in.entry == e &&
	    (!stores_pointers(e) || address_known(s, &in))) {
		s->last_stores_pointers = stores_pointers(e);
		set_scene(s, &d);
		memcpy(out->bytes, d.out, d.n);
		out->length = (uint8_t)d.n;
		out->entry = (uint16_t)(e - s->g->table);
		note_effects(s, &d);
		s->undef = undef_after(e, s->undef, s->branched);
		return true;
	}
	/* An illegal LOCK is worth a case too, whatever the decoder says. */
	if (d.n <= INSN_MAX_LENGTH && memchr(d.out, 0xf0, d.n > 4 ? 4 : d.n) &&
	    insn_decode(&in, case_code32(s->c), d.out, d.n) == DECODE_INVALID && !out->jump_at) {
		memcpy(out->bytes, d.out, d.n);
		out->length = (uint8_t)d.n;
		out->entry = (uint16_t)(e - s->g->table);
		return true;
	}
	*s = saved;
	s->c->poke_count = pokes;
	memcpy(s->c->gpr, gpr, sizeof(gpr));
	return false;
}

static bool row_fits(const struct gen *s, const struct insn_entry *e)
{
	if (flags_used(e) & s->undef)
		return false;
	if (s->last_stores_pointers)
		return false;
	/* NT makes IRET a task switch for us and a fault for the host */
	return !(e->id == INSN_ID_IRET && s->flags_loaded);
}

static bool add_insn(struct gen *s, int row)
{
	for (unsigned attempt = 0; attempt < 60; attempt++) {
		unsigned pick = row >= 0 ? (unsigned)row : rng_below(s->r, (uint32_t)s->g->rows);

		if (!s->g->usable[pick] || !row_fits(s, &s->g->table[pick]))
			continue;
		/* the rare and the faulting ones less often in sequences */
		if (row < 0 && (s->g->table[pick].attr & (INSN_NO_GENERATE | INSN_HIDDEN)) &&
		    !rng_percent(s->r, 12))
			continue;
		if (draft_row(s, &s->g->table[pick], &s->c->insn[s->c->insn_count])) {
			s->c->insn_count++;
			return true;
		}
	}
	return false;
}

/* ---- initial state ---- */

static uint32_t initial_linear(struct rng *r, unsigned n)
{
	unsigned how = rng_below(r, 100);

	if (n == ESP)
		return how < 96 ? STACK_BASE + PAGE / 2 + 4 * rng_below(r, 1024) + (how < 6) :
		       how < 98 ? STACK_BASE + rng_below(r, 32) : STACK_BASE + STACK_PAGES * PAGE - rng_below(r, 32);
	if (n == EBP && how < 50)
		return STACK_BASE + PAGE / 2 + 4 * rng_below(r, 1024);
	if (how < 35)
		return DATA_BASE + rng_below(r, (DATA_PAGES - 1) * PAGE);
	return generator_random32(r);
}

/* An instruction that stores a new immediate byte into the one that comes next, or
 * into one already run when the sequence will be a loop. */
static void add_patch(struct gen *s)
{
	static const struct case_insn store = { .bytes = { 0xc6, 0x05 }, .length = 7 };
	struct test_case *c = s->c;
	unsigned victim = rng_below(s->r, c->insn_count);
	struct case_insn *at = &c->insn[victim], *in;
	struct insn d;

	if (c->mode != MODE_FLAT32 || c->insn_count >= MAX_INSNS || s->branched ||
	    s->fixups >= MAX_FIXUPS || at->jump_at ||
	    insn_decode(&d, true, at->bytes, at->length) != DECODE_OK || d.imm_size != 1 ||
	    (d.entry->attr & (INSN_BRANCH | INSN_SYSTEM)) || d.entry->id == INSN_ID_ENTER)
		return;
	/* before its victim, or at the end and then only a loop comes back to it */
	if (rng_percent(s->r, 70)) {
		memmove(at + 1, at, (c->insn_count - victim) * sizeof(*at));
		in = at;
		victim++;
		for (unsigned i = 0; i < s->fixups; i++) {
			s->fixup[i].target += s->fixup[i].target >= victim - 1;
			if (s->fixup[i].kind == FIXUP_BYTES)
				s->fixup[i].index += s->fixup[i].index >= victim - 1;
		}
	} else {
		in = &c->insn[c->insn_count];
	}
	*in = store;
	in->bytes[6] = (uint8_t)rng_below(s->r, 16);
	in->entry = s->g->store_row;
	s->fixup[s->fixups++] = (struct fixup){ FIXUP_BYTES, (uint8_t)(in - c->insn), 2, 4,
						(uint8_t)victim, (uint8_t)(d.length - 1) };
	c->insn_count++;
}

/* Turn the sequence into a loop: LOOP back to an instruction before it, a few
 * times. ECX must be nobody else's, and no flag that one round leaves undefined
 * may be used in the next. */
static void add_loop(struct gen *s)
{
	struct test_case *c = s->c;
	struct case_insn *in = &c->insn[c->insn_count];
	unsigned first = rng_below(s->r, c->insn_count);
	uint32_t all_used = 0, all_undef = 0;

	for (unsigned i = first; i < c->insn_count; i++) {
		const struct insn_entry *e = &s->g->table[c->insn[i].entry];

		if (e->id == INSN_ID_IRET) /* NT may be set the next time round */
			return;
		all_used |= flags_used(e);
		all_undef |= e->flags_undef;
	}
	if (c->insn_count >= MAX_INSNS || s->last_stores_pointers || !reg_free(s, ECX) ||
	    (all_used & all_undef))
		return;
	reg_fix(s, ECX, 1 + rng_below(s->r, 6));
	*in = (struct case_insn){ .bytes = { 0xe2 }, .length = 2, .jump_at = 1, .jump_size = 1,
				  .target = (uint8_t)first, .entry = s->g->loop_row };
	c->insn_count++;
}

static uint32_t initial_gpr(struct gen *s, unsigned n)
{
	uint32_t v = initial_linear(s->r, n);

	/* pointers become offsets in the data segments */
	if (v - DATA_BASE < 0x10000)
		v -= case_data_base(s->c);
	if (n == ESP && s->c->mode == MODE_SEG16)
		v = CASE_ESP_HIGH | (v & 0xffff);
	return v;
}

static void apply_fixups(struct gen *s)
{
	uint32_t starts[MAX_INSNS + 1];
	uint8_t code[MAX_CODE];
	struct test_case *c = s->c;

	case_layout(c, code, starts);
	for (unsigned i = 0; i < s->fixups; i++) {
		const struct fixup *f = &s->fixup[i];
		uint32_t address = starts[MIN(f->target, c->insn_count)] + f->plus;

		if (f->kind == FIXUP_GPR)
			c->gpr[f->index] = address;
		else if (f->kind == FIXUP_POKE && f->index < c->poke_count)
			c->poke[f->index].value = address;
		else if (f->kind == FIXUP_BYTES && f->index < c->insn_count)
			memcpy(c->insn[f->index].bytes + f->at, &address, f->size);
	}
}

bool generator_case(struct generator *g, struct test_case *c, int row, unsigned insns,
		    uint64_t memory_seed)
{
	struct gen s = { .g = g, .r = &g->rng, .c = c };
	uint32_t flags;

	memset(c, 0, sizeof(*c));
	if (g->segments && rng_percent(s.r, 30))
		c->mode = rng_percent(s.r, 50) ? MODE_SEG16 : MODE_SEG32;
	for (unsigned i = 0; i < 8; i++)
		c->gpr[i] = initial_gpr(&s, i);
	flags = (uint32_t)rng_next(s.r) & FLAGS_ARITH;
	if (rng_percent(s.r, 20))
		flags |= FLAG_DF;
	if (rng_percent(s.r, 2))
		flags |= FLAG_AC;
	c->eflags = flags | FLAG_RSVD1 | FLAG_IF;
	c->memory_seed = memory_seed;
	generator_fx(s.r, c->fx);
	for (unsigned i = 0; i < insns; i++)
		if (!add_insn(&s, i ? -1 : row) && !i)
			return false;
	if (row < 0 && rng_percent(s.r, 15))
		add_patch(&s);
	if (row < 0 && rng_percent(s.r, 20))
		add_loop(&s);
	flags = rng_below(s.r, 100);
	if (flags < 80)
		c->code_offset = rng_below(s.r, PAGE);
	else if (flags < 92) /* somewhere over the boundary of the code pages */
		c->code_offset = PAGE - rng_below(s.r, 40);
	else if (flags < 98)
		c->code_offset = PAGE + rng_below(s.r, PAGE - 200);
	else /* running off the end */
		c->code_offset = CODE_PAGES * PAGE - 1 - rng_below(s.r, 24);
	apply_fixups(&s);
	return true;
}

uint32_t case_undefined_flags(const struct test_case *c, uint32_t eip)
{
	uint32_t starts[MAX_INSNS + 1], undef = 0, all = 0;
	uint8_t code[MAX_CODE];
	size_t rows;
	const struct insn_entry *table = insn_table(&rows);
	bool branched = false, looped = false;

	case_layout(c, code, starts);
	for (unsigned i = 0; i < c->insn_count; i++)
		looped |= c->insn[i].jump_at && c->insn[i].target <= i;
	for (unsigned i = 0; i < c->insn_count; i++) {
		const struct insn_entry *e;

		if (c->insn[i].entry >= rows)
			continue;
		e = &table[c->insn[i].entry];
		if (starts[i] == eip && !looped) /* a division fault may leave its flags behind */
			return e->id == INSN_ID_DIV || e->id == INSN_ID_IDIV || e->id == INSN_ID_AAM ?
				       undef | e->flags_undef : undef;
		branched |= e->attr & INSN_BRANCH;
		undef = undef_after(e, undef, branched);
		all |= e->flags_undef;
	}
	return !looped && starts[c->insn_count] + 1 == eip ? undef : all;
}
