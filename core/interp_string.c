/* Interpreter: string instructions, with and without REP.
 *
 * SDM 1 7.3.9 and the REP page of SDM 2B. One iteration is a whole: registers
 * move only when its memory accesses have succeeded, so a fault in the middle
 * of a REP leaves counts and pointers for the instruction to go on with.
 *
 * The element path is complete. The bulk paths do the same work on host memory
 * a page at a time, where that cannot be told apart: forward, plain memory on
 * every side, no breakpoints, no alignment checks. Between chunks a REP comes
 * out if cpu->run asks for it, with EIP still on the instruction.
 */
#include "core/interp_priv.h"

#include "core/alu.h"
#include "core/ioport.h"
#include "core/memory.h"

/* How many elements a slow REP moves between looks at cpu->run. */
enum { SLOW_CHUNK = 64 };

/* One string instruction being executed. */
struct string {
	unsigned size;      /* of an element: 1, 2, 4 */
	uint32_t step;      /* to the next element: size or -size */
	uint32_t mask;      /* of rSI, rDI, rCX by address size */
	unsigned seg;       /* of the source */
	bool rep, until_equal; /* CMPS/SCAS: F2 ends at equality, F3 at a difference */
	uint16_t port;
};

static uint32_t si(const struct cpu *cpu, const struct string *s)
{
	return (uint32_t)cpu->gpr[ESI] & s->mask;
}

static uint32_t di(const struct cpu *cpu, const struct string *s)
{
	return (uint32_t)cpu->gpr[EDI] & s->mask;
}

static uint32_t count(const struct cpu *cpu, const struct string *s)
{
	return (uint32_t)cpu->gpr[ECX] & s->mask;
}

static void add(struct cpu *cpu, const struct string *s, unsigned reg, uint32_t by)
{
	uint32_t v = (uint32_t)cpu->gpr[reg];

	cpu->gpr[reg] = (v & ~s->mask) | ((v + by) & s->mask);
}

static void advance_si(struct cpu *cpu, const struct string *s, uint32_t n)
{
	add(cpu, s, ESI, s->step * n);
}

static void advance_di(struct cpu *cpu, const struct string *s, uint32_t n)
{
	add(cpu, s, EDI, s->step * n);
}

/* ---- one element; returns false when a REPE/REPNE has found its end ---- */

static bool one_movs(struct cpu *cpu, const struct string *s)
{
	mem_write(cpu, ES, di(cpu, s), s->size, mem_read(cpu, s->seg, si(cpu, s), s->size));
	advance_si(cpu, s, 1);
	advance_di(cpu, s, 1);
	return true;
}

static bool one_stos(struct cpu *cpu, const struct string *s)
{
	mem_write(cpu, ES, di(cpu, s), s->size, (uint32_t)cpu->gpr[EAX]);
	advance_di(cpu, s, 1);
	return true;
}

static bool one_lods(struct cpu *cpu, const struct string *s)
{
	reg_set(cpu, EAX, s->size, mem_read(cpu, s->seg, si(cpu, s), s->size));
	advance_si(cpu, s, 1);
	return true;
}

static bool goes_on(const struct cpu *cpu, const struct string *s)
{
	return !(cpu->eflags & FLAG_ZF) == s->until_equal;
}

static bool one_cmps(struct cpu *cpu, const struct string *s)
{
	uint32_t a = mem_read(cpu, s->seg, si(cpu, s), s->size);
	uint32_t b = mem_read(cpu, ES, di(cpu, s), s->size);

	alu_sub(s->size, a, b, &cpu->eflags);
	advance_si(cpu, s, 1);
	advance_di(cpu, s, 1);
	return goes_on(cpu, s);
}

static bool one_scas(struct cpu *cpu, const struct string *s)
{
	uint32_t b = mem_read(cpu, ES, di(cpu, s), s->size);

	alu_sub(s->size, (uint32_t)cpu->gpr[EAX], b, &cpu->eflags);
	advance_di(cpu, s, 1);
	return goes_on(cpu, s);
}

static bool one_ins(struct cpu *cpu, const struct string *s)
{
	struct rmw m;

	/* reading a port may have effects: be sure of the memory first */
	rmw_open(cpu, &m, ES, di(cpu, s), s->size);
	mem_write(cpu, ES, di(cpu, s), s->size, ioport_read(cpu->io, s->port, s->size));
	advance_di(cpu, s, 1);
	return true;
}

static bool one_outs(struct cpu *cpu, const struct string *s)
{
	uint32_t v = mem_read(cpu, s->seg, si(cpu, s), s->size);

	ioport_write(cpu->io, s->port, v, s->size);
	advance_si(cpu, s, 1);
	return true;
}

/* ---- many elements; return how many were done, 0 for "one by one" ---- */

/* Elements from @offset on that stay inside the page, and do not wrap. */
static uint32_t room(const struct cpu *cpu, const struct string *s, unsigned seg,
		     uint32_t offset, uint32_t n)
{
	uint32_t linear = (uint32_t)cpu->seg[seg].base + offset;
	uint32_t fits = (GUEST_PAGE_SIZE - (linear & (GUEST_PAGE_SIZE - 1))) / s->size;
	uint64_t to_wrap = ((uint64_t)s->mask + 1 - offset) / s->size;

	return MIN(n, (uint32_t)MIN(fits, to_wrap));
}

/* Forward copy, an element at a time: a destination just above the source
 * repeats what lies between them, as programs rely on. */
static void copy_elements(uint8_t *dst, const uint8_t *src, uint32_t n, unsigned size)
{
	if (dst <= src || dst >= src + (size_t)n * size) {
		memmove(dst, src, (size_t)n * size);
	} else if (size == 4) {
		for (uint32_t i = 0; i < n; i++)
			store_le32(dst + i * 4, load_le32(src + i * 4));
	} else if (size == 2) {
		for (uint32_t i = 0; i < n; i++)
			store_le16(dst + i * 2, load_le16(src + i * 2));
	} else {
		for (uint32_t i = 0; i < n; i++)
			((volatile uint8_t *)dst)[i] = src[i];
	}
}

static uint32_t many_movs(struct cpu *cpu, const struct string *s, uint32_t n)
{
	uint32_t from = si(cpu, s), to = di(cpu, s);
	const uint8_t *src;
	uint8_t *dst;

	n = room(cpu, s, s->seg, from, room(cpu, s, ES, to, n));
	if (!n)
		return 0;
	src = mem_host(cpu, s->seg, from, n * s->size, false);
	dst = mem_host(cpu, ES, to, n * s->size, true);
	if (!src || !dst)
		return 0;
	copy_elements(dst, src, n, s->size);
	advance_si(cpu, s, n);
	advance_di(cpu, s, n);
	return n;
}

static uint32_t many_stos(struct cpu *cpu, const struct string *s, uint32_t n)
{
	uint32_t to = di(cpu, s), v = (uint32_t)cpu->gpr[EAX];
	uint8_t *dst;

	n = room(cpu, s, ES, to, n);
	dst = n ? mem_host(cpu, ES, to, n * s->size, true) : NULL;
	if (!dst)
		return 0;
	if (s->size == 4) {
		for (uint32_t i = 0; i < n; i++)
			store_le32(dst + i * 4, v);
	} else if (s->size == 2) {
		for (uint32_t i = 0; i < n; i++)
			store_le16(dst + i * 2, (uint16_t)v);
	} else {
		memset(dst, (int)(v & 0xff), n);
	}
	advance_di(cpu, s, n);
	return n;
}

static uint32_t load_element(const uint8_t *p, unsigned size)
{
	return size == 4 ? load_le32(p) : size == 2 ? load_le16(p) : *p;
}

/* Comparisons pass over what does not end the search; the element that may be
 * the last is left to the element path. */
static uint32_t many_scas(struct cpu *cpu, const struct string *s, uint32_t n)
{
	uint32_t to = di(cpu, s), v = reg_get(cpu, EAX, s->size), i;
	const uint8_t *p;

	n = room(cpu, s, ES, to, n - 1);
	p = n ? mem_host(cpu, ES, to, n * s->size, false) : NULL;
	if (!p)
		return 0;
	for (i = 0; i < n; i++) {
		if ((load_element(p + i * s->size, s->size) == v) == s->until_equal)
			break;
	}
	if (i)
		alu_sub(s->size, v, load_element(p + (i - 1) * s->size, s->size), &cpu->eflags);
	advance_di(cpu, s, i);
	return i;
}

static uint32_t many_cmps(struct cpu *cpu, const struct string *s, uint32_t n)
{
	uint32_t from = si(cpu, s), to = di(cpu, s), i;
	const uint8_t *a, *b;

	n = room(cpu, s, s->seg, from, room(cpu, s, ES, to, n - 1));
	if (!n)
		return 0;
	a = mem_host(cpu, s->seg, from, n * s->size, false);
	b = mem_host(cpu, ES, to, n * s->size, false);
	if (!a || !b)
		return 0;
	for (i = 0; i < n; i++) {
		bool equal = load_element(a + i * s->size, s->size) ==
			     load_element(b + i * s->size, s->size);

		if (equal == s->until_equal)
			break;
	}
	if (i)
		alu_sub(s->size, load_element(a + (i - 1) * s->size, s->size),
			load_element(b + (i - 1) * s->size, s->size), &cpu->eflags);
	advance_si(cpu, s, i);
	advance_di(cpu, s, i);
	return i;
}

static uint32_t many_ins(struct cpu *cpu, const struct string *s, uint32_t n)
{
	uint32_t to = di(cpu, s);
	uint8_t *dst;

	n = room(cpu, s, ES, to, n);
	dst = n ? mem_host(cpu, ES, to, n * s->size, true) : NULL;
	if (!dst)
		return 0;
	n = (uint32_t)ioport_read_block(cpu->io, s->port, s->size, dst, n);
	advance_di(cpu, s, n);
	return n;
}

static uint32_t many_outs(struct cpu *cpu, const struct string *s, uint32_t n)
{
	uint32_t from = si(cpu, s);
	const uint8_t *src;

	n = room(cpu, s, s->seg, from, n);
	src = n ? mem_host(cpu, s->seg, from, n * s->size, false) : NULL;
	if (!src)
		return 0;
	n = (uint32_t)ioport_write_block(cpu->io, s->port, s->size, src, n);
	advance_si(cpu, s, n);
	return n;
}

/* ---- the loop ---- */

struct string_kind {
	bool (*one)(struct cpu *cpu, const struct string *s);
	uint32_t (*many)(struct cpu *cpu, const struct string *s, uint32_t n); /* or NULL */
};

static const struct string_kind *kind_of(const struct insn *in)
{
	static const struct string_kind movs = { one_movs, many_movs },
					stos = { one_stos, many_stos },
					lods = { one_lods, NULL },
					cmps = { one_cmps, many_cmps },
					scas = { one_scas, many_scas },
					ins = { one_ins, many_ins },
					outs = { one_outs, many_outs };

	switch (in->entry->id) {
	case INSN_ID_MOVS:
		return &movs;
	case INSN_ID_STOS:
		return &stos;
	case INSN_ID_LODS:
		return &lods;
	case INSN_ID_CMPS:
		return &cmps;
	case INSN_ID_SCAS:
		return &scas;
	case INSN_ID_INS:
		return &ins;
	default:
		return &outs;
	}
}

static void done(struct cpu *cpu, const struct string *s, uint32_t n)
{
	add(cpu, s, ECX, 0u - n);
}

/* Come out between iterations, to go on with the same instruction later. RF
 * keeps its breakpoint from hitting again (SDM 3B 17.3.1.1). */
static void pause_rep(struct cpu *cpu)
{
	cpu->eip = cpu->insn_eip;
	if (cpu->dr[7] & DR7_ANY)
		cpu->eflags |= FLAG_RF;
}

static void repeat(struct cpu *cpu, const struct string *s, const struct string_kind *k)
{
	/* single-stepping traps after each iteration */
	bool stepping = cpu->eflags & FLAG_TF;
	bool bulk = k->many && !stepping && !(cpu->eflags & FLAG_DF);
	unsigned slow = 0;
	uint32_t left;

	while ((left = count(cpu, s)) != 0) {
		uint32_t n = bulk && left > 1 ? k->many(cpu, s, left) : 0;
		bool more = true;

		if (n) {
			done(cpu, s, n);
		} else {
			more = k->one(cpu, s);
			done(cpu, s, 1);
			if (++slow < SLOW_CHUNK && more && !stepping && !cpu->debug_hits)
				continue;
		}
		if (!more || !count(cpu, s))
			return;
		slow = 0;
		if (stepping || cpu->debug_hits ||
		    !__atomic_load_n(&cpu->run, __ATOMIC_RELAXED)) {
			pause_rep(cpu);
			return;
		}
	}
}

void interp_string(struct cpu *cpu, const struct insn *in)
{
	const struct string_kind *k = kind_of(in);
	unsigned size = in->opcode & 1 ? in->opsize : 1;
	struct string s = {
		.size = size,
		.step = cpu->eflags & FLAG_DF ? 0u - size : size,
		.mask = address_mask(in),
		.seg = in->seg,
		.rep = in->prefixes & (PREFIX_F2 | PREFIX_F3),
		.until_equal = in->prefixes & PREFIX_F2,
		.port = (uint16_t)cpu->gpr[EDX],
	};

	if (in->entry->attr & INSN_IO)
		io_check(cpu, s.port, size);
	if (s.rep)
		repeat(cpu, &s, k);
	else
		k->one(cpu, &s);
}
