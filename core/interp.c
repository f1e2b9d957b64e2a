/* The interpreter: fetch, decode, dispatch; and the engine around it.
 *
 * An instruction is found by the physical address of its first byte in a
 * direct-mapped cache of decoded instructions. A hit counts only if the bytes
 * in memory are still those that were decoded, so self-modifying code needs no
 * tracking. Instructions that cross a page are decoded each time.
 *
 * Two ways through the loop: the short one, and the careful one (interp_step)
 * for whatever SDM 3A 6.7-6.9 and 3B chapter 17 attach to instruction
 * boundaries: TF, RF, breakpoints, the shadows of STI and MOV SS, tracing.
 */
#include <stdlib.h>

#include "core/cpuid.h"
#include "core/engine.h"
#include "core/interp_priv.h"
#include "core/interp_simd.h"
#include "core/memory.h"

/* ---- dispatch ---- */

static void undefined(struct cpu *cpu, const struct insn *in)
{
	cpu_raise_ne(cpu, EXC_UD);
}

static interp_fn *handler(const struct insn *in)
{
	const struct insn_entry *entry = in->entry;
	interp_fn *fn;

	if (entry->attr & INSN_STRING)
		return interp_string;
	fn = interp_fast(in);
	if (!fn)
		fn = interp_int_handler(entry->id);
	if (!fn)
		fn = interp_flow_handler(entry->id);
	if (!fn)
		fn = interp_bit_handler(entry->id);
	if (!fn)
		fn = interp_system_handler(entry->id);
	if (fn)
		return fn;
	if (entry->attr & INSN_X87 && entry->id != INSN_ID_FXSAVE && entry->id != INSN_ID_FXRSTOR)
		return interp_x87;
	return entry->attr & (INSN_X87 | INSN_MMX | INSN_SSE) ? interp_simd : undefined;
}

/* Instructions that not every mode and level may execute. */
static void privileged(struct cpu *cpu, const struct insn *in)
{
	uint32_t attr = in->entry->attr;

	if (attr & INSN_PROTECTED && !cpu_protected(cpu))
		cpu_raise_ne(cpu, EXC_UD);
	if (attr & INSN_CPL0 && cpu->cpl) {
		/* these two do not exist outside ring 0 */
		if (in->entry->id == INSN_ID_MONITOR || in->entry->id == INSN_ID_MWAIT)
			cpu_raise_ne(cpu, EXC_UD);
		cpu_raise(cpu, EXC_GP, 0);
	}
	handler(in)(cpu, in);
}

static interp_fn *select_handler(const struct cpu *cpu, const struct insn *in)
{
	const struct insn_entry *entry = in->entry;

	if (entry->feature != FEAT_BASE && !cpu_has(cpu, entry->feature))
		return undefined;
	return entry->attr & (INSN_CPL0 | INSN_PROTECTED) ? privileged : handler(in);
}

/* EIP behind an instruction of @length bytes. */
static inline uint32_t next_eip(const struct cpu *cpu, unsigned length)
{
	uint32_t next = (uint32_t)cpu->eip + length;

	return cpu_code32(cpu) ? next : next & 0xffff;
}

/* ---- fetch ---- */

/* Decode at CS:EIP; raises #PF, #GP(0) beyond the limit of CS, #UD. Bytes past
 * the instruction's end are not touched. */
static void fetch(struct cpu *cpu, struct insn *in)
{
	uint32_t eip = (uint32_t)cpu->eip, limit = cpu->seg[CS].limit;
	uint32_t linear = (uint32_t)cpu->seg[CS].base + eip;
	uint8_t bytes[INSN_MAX_LENGTH];
	enum decode_result result = DECODE_MORE;
	unsigned have = 0;
	const uint8_t *page;

	if (eip > limit)
		cpu_raise(cpu, EXC_GP, 0);
	if (mmu_fetch(cpu, linear, &page) != MEMORY_NO_PAGE) {
		uint32_t offset = linear & (GUEST_PAGE_SIZE - 1);

		have = MIN((uint32_t)INSN_MAX_LENGTH, GUEST_PAGE_SIZE - offset);
		if (limit - eip < have - 1)
			have = limit - eip + 1;
		memcpy(bytes, page + offset, have);
		result = insn_decode(in, cpu_code32(cpu), bytes, have);
	}
	while (result == DECODE_MORE && have < INSN_MAX_LENGTH) {
		if (limit - eip < have)
			cpu_raise(cpu, EXC_GP, 0);
		bytes[have] = mmu_fetch_u8(cpu, linear + have);
		result = insn_decode(in, cpu_code32(cpu), bytes, ++have);
	}
	if (result == DECODE_INVALID)
		cpu_raise_ne(cpu, EXC_UD);
	if (result != DECODE_OK)
		cpu_raise(cpu, EXC_GP, 0);
}

/* ---- one instruction, with everything attached to its end ---- */

static bool loads_rf(const struct insn *in)
{
	switch (in->entry->id) {
	case INSN_ID_IRET:
	case INSN_ID_JMPF:
	case INSN_ID_CALLF:
	case INSN_ID_INT:
	case INSN_ID_INT3:
	case INSN_ID_INTO:
		return true;
	default:
		return false;
	}
}

/* Entering a handler clears TF, and with it the trap (SDM 3B 17.3.1.4). */
static bool enters_handler(const struct cpu *cpu, const struct insn *in)
{
	switch (in->entry->id) {
	case INSN_ID_INT:
	case INSN_ID_INT1:
	case INSN_ID_INT3:
		return true;
	case INSN_ID_INTO:
		return !(cpu->eflags & FLAG_TF);
	default:
		return false;
	}
}

static void finish(struct cpu *cpu, const struct insn *in, uint32_t began, uint8_t shadow)
{
	/* a REP that came out in the middle is not over */
	bool paused = in->entry->attr & INSN_STRING && cpu->eip == cpu->insn_eip;

	if (began & FLAG_RF && !paused && !loads_rf(in))
		cpu->eflags &= ~(uint32_t)FLAG_RF;
	/* a shadow is one instruction long, and does not follow on itself */
	cpu->shadow &= (uint8_t)~shadow;
	if (began & FLAG_TF && !(cpu->shadow & SHADOW_MOV_SS) && !enters_handler(cpu, in))
		cpu->debug_hits |= DR6_BS;
	check_pending(cpu);
}

void interp_insn(struct cpu *cpu, const struct insn *in)
{
	uint32_t began = cpu->eflags;
	uint8_t shadow = cpu->shadow;

	cpu->insn_eip = cpu->eip;
	cpu->eip = next_eip(cpu, in->length);
	select_handler(cpu, in)(cpu, in);
	cpu->insn_count++;
	if (unlikely((began & (FLAG_TF | FLAG_RF)) || shadow || cpu->debug_hits))
		finish(cpu, in, began, shadow);
}

static void trace_insn(struct cpu *cpu, const struct insn *in)
{
	trace_print(cpu->trace, TRACE_EXEC,
		    "%04x:%08x %-10s eax %08x ecx %08x edx %08x ebx %08x esp %08x ebp %08x esi %08x edi %08x fl %08x",
		    cpu->seg[CS].selector, (uint32_t)cpu->eip, insn_name(in->entry->id),
		    (uint32_t)cpu->gpr[EAX], (uint32_t)cpu->gpr[ECX], (uint32_t)cpu->gpr[EDX],
		    (uint32_t)cpu->gpr[EBX], (uint32_t)cpu->gpr[ESP], (uint32_t)cpu->gpr[EBP],
		    (uint32_t)cpu->gpr[ESI], (uint32_t)cpu->gpr[EDI], cpu->eflags);
}

void interp_step(struct cpu *cpu)
{
	struct insn in;

	cpu->insn_eip = cpu->eip;
	if (unlikely(cpu->dr[7] & DR7_ANY) && !(cpu->eflags & FLAG_RF) &&
	    !(cpu->shadow & SHADOW_MOV_SS)) {
		uint32_t hits = debug_hits_code(cpu, (uint32_t)(cpu->seg[CS].base + cpu->eip));

		if (hits) {
			cpu->debug_hits |= hits;
			cpu_raise_ne(cpu, EXC_DB);
		}
	}
	fetch(cpu, &in);
	if (trace_on(cpu->trace, TRACE_EXEC))
		trace_insn(cpu, &in);
	interp_insn(cpu, &in);
}

/* ---- the engine ---- */

enum { ICACHE_BITS = 16, ICACHE_SIZE = 1 << ICACHE_BITS };

/* A decoded instruction, and what it was decoded from. */
struct icache_entry {
	uint64_t key;     /* of its first byte, see icache_key(); 0: none */
	uint64_t code[2]; /* its bytes, zero-padded */
	uint64_t mask[2]; /* all ones where there are bytes */
	interp_fn *fn;
	/* What ran next, last time and before that: a guess that spares the host
	 * the way from EIP to the entry. Never NULL; checked like any other. */
	struct icache_entry *next[2];
	struct insn in;
};

struct interp {
	struct engine base;
	struct icache_entry *icache;
	struct icache_entry none; /* matches nothing */
	const uint8_t *ram;       /* memory_host() of the guest's memory */
	/* The code page in use, as long as its entry in the TLB stands. */
	uint32_t window;          /* window_tag() of its addresses, or NO_WINDOW */
	uint32_t window_page;     /* RAM page + 1 */
	const uint32_t *window_exec; /* where cpu->tlb has window_page */
	uint64_t window_addend;   /* host address minus linear address */
	uint64_t misses;          /* instructions decoded into the cache */
	uint64_t careful;         /* instructions executed by interp_step() */
};

enum { NO_WINDOW = 2 };

static inline uint32_t window_tag(const struct cpu *cpu, uint32_t linear)
{
	return (linear & ~(GUEST_PAGE_SIZE - 1)) | mmu_user(cpu);
}

/* Host addresses of guest memory stand for physical ones. */
static inline uint64_t icache_key(const uint8_t *host, bool code32)
{
	return (uint64_t)host << 1 | code32;
}

/* The 16 bytes at @p, zero-padded at the end of the page. */
struct code { uint64_t lo, hi; };

static inline struct code code_at(const uint8_t *p, uint32_t offset)
{
	struct code c = { 0, 0 };
	uint8_t bytes[16] = { 0 };

	if (likely(offset <= GUEST_PAGE_SIZE - sizeof(bytes))) {
		c.lo = load_le64(p);
		c.hi = load_le64(p + 8);
	} else {
		memcpy(bytes, p, GUEST_PAGE_SIZE - offset);
		c.lo = load_le64(bytes);
		c.hi = load_le64(bytes + 8);
	}
	return c;
}

static inline bool icache_hit(const struct icache_entry *e, uint64_t key, struct code c)
{
	return e->key == key && !((c.lo ^ e->code[0]) & e->mask[0]) &&
	       !((c.hi ^ e->code[1]) & e->mask[1]);
}

/* Decode into the cache; NULL if the instruction does not lie in one page of
 * RAM or is not one: interp_step() finds out what is wrong. */
static struct icache_entry *icache_fill(struct interp *it, struct icache_entry *e,
					uint64_t key, struct code c, uint32_t offset)
{
	struct cpu *cpu = it->base.cpu;
	uint32_t have = MIN((uint32_t)INSN_MAX_LENGTH, GUEST_PAGE_SIZE - offset);
	uint8_t bytes[16];

	store_le64(bytes, c.lo);
	store_le64(bytes + 8, c.hi);
	e->key = 0;
	if (insn_decode(&e->in, cpu_code32(cpu), bytes, have) != DECODE_OK)
		return NULL;
	it->misses++;
	e->mask[0] = e->in.length >= 8 ? UINT64_MAX : (1ull << e->in.length * 8) - 1;
	e->mask[1] = e->in.length > 8 ? (1ull << (e->in.length - 8) * 8) - 1 : 0;
	e->code[0] = c.lo & e->mask[0];
	e->code[1] = c.hi & e->mask[1];
	e->fn = select_handler(cpu, &e->in);
	e->next[0] = e->next[1] = &it->none;
	e->key = key;
	return e;
}

/* The guess for what follows @last was wrong. */
static __attribute__((noinline)) struct icache_entry *
icache_find(struct interp *it, struct icache_entry *last, const uint8_t *p, uint64_t key,
	    struct code c)
{
	uint64_t address = (uint64_t)(p - it->ram);
	struct icache_entry *e = &it->icache[(address ^ address >> ICACHE_BITS) & (ICACHE_SIZE - 1)];

	if (!icache_hit(e, key, c))
		e = icache_fill(it, e, key, c, address & (GUEST_PAGE_SIZE - 1));
	if (e) {
		last->next[1] = last->next[0];
		last->next[0] = e;
	}
	return e;
}

/* Make the page of @linear the window; false if it is not known to be RAM. */
static __attribute__((noinline)) bool window_move(struct interp *it, uint32_t linear)
{
	struct cpu *cpu = it->base.cpu;
	const uint32_t *exec = &cpu->tlb.exec[mmu_user(cpu)][linear >> GUEST_PAGE_SHIFT];
	uint32_t page = *exec;

	if (!page) /* interp_step() fetches, and fills it */
		return false;
	it->window = window_tag(cpu, linear);
	it->window_page = page;
	it->window_exec = exec;
	it->window_addend = (uint64_t)it->ram + ((uint64_t)(page - 1) << GUEST_PAGE_SHIFT) -
			    (linear & ~(GUEST_PAGE_SIZE - 1));
	return true;
}

/* The entry for CS:EIP, which follows @last; NULL: only interp_step() will do. */
static inline struct icache_entry *lookup(struct interp *it, struct cpu *cpu,
					  struct icache_entry *last)
{
	uint32_t eip = (uint32_t)cpu->eip, limit = cpu->seg[CS].limit;
	uint32_t linear = (uint32_t)cpu->seg[CS].base + eip;
	struct icache_entry *e = last->next[0];
	const uint8_t *p;
	struct code c;
	uint64_t key;

	if (unlikely(window_tag(cpu, linear) != it->window ||
		     *it->window_exec != it->window_page) &&
	    !window_move(it, linear))
		return NULL;
	p = (const uint8_t *)(it->window_addend + linear);
	key = icache_key(p, cpu_code32(cpu));
	c = code_at(p, linear & (GUEST_PAGE_SIZE - 1));
	if (unlikely(!icache_hit(e, key, c))) {
		e = last->next[1];
		if (!icache_hit(e, key, c))
			e = icache_find(it, last, p, key, c);
		if (unlikely(!e))
			return NULL;
	}
	if (unlikely(limit != UINT32_MAX) && (eip > limit || limit - eip < e->in.length - 1u))
		return NULL;
	return e;
}

/* Is there anything that the short way through the loop does not do? */
static inline bool special(const struct cpu *cpu)
{
	return (cpu->eflags & (FLAG_TF | FLAG_RF)) || cpu->shadow || (cpu->dr[7] & DR7_ANY);
}

/* HLT and whatever else ends the run clears cpu->run. */
static void loop(struct interp *it, struct cpu *cpu, uint64_t count)
{
	bool trace = trace_on(cpu->trace, TRACE_EXEC);
	struct icache_entry *e = &it->none;

	while (likely(__atomic_load_n(&cpu->run, __ATOMIC_RELAXED)) && count--) {
		e = likely(!special(cpu) && !trace) ? lookup(it, cpu, e) : NULL;
		if (unlikely(!e)) {
			it->careful++;
			interp_step(cpu);
			e = &it->none;
			continue;
		}
		cpu->insn_eip = cpu->eip;
		cpu->eip = next_eip(cpu, e->in.length);
		e->fn(cpu, &e->in);
		cpu->insn_count++;
	}
}

void interp_steps(struct engine *engine, uint64_t count)
{
	if (!engine->cpu->halted)
		loop(container_of(engine, struct interp, base), engine->cpu, count);
}

static void interp_run(struct engine *engine)
{
	struct cpu *cpu = engine->cpu;
	sigjmp_buf unwind;

	cpu->unwind = &unwind;
	if (sigsetjmp(unwind, 0)) {
		cpu->shadow = 0;
		cpu_deliver_raised(cpu);
	} else {
		cpu_service(cpu);
	}
	interp_steps(engine, UINT64_MAX);
	cpu->unwind = NULL;
}

static void interp_stats(struct engine *engine, FILE *out)
{
	const struct interp *it = container_of(engine, struct interp, base);

	fprintf(out,
		"interpreter: %llu instructions, %llu decoded, %llu stepped\n",
		(unsigned long long)engine->cpu->insn_count,
		(unsigned long long)it->misses, (unsigned long long)it->careful);
}

static void interp_destroy(struct engine *engine)
{
	struct interp *it = container_of(engine, struct interp, base);

	free(it->icache);
	free(it);
}

static const struct engine_ops interp_ops = {
	.name = "interp",
	.run = interp_run,
	.stats = interp_stats,
	.destroy = interp_destroy,
};

/* What is where has changed: translations of addresses are void. */
static void map_changed(void *opaque)
{
	mmu_flush(opaque, true);
}

struct engine *interp_create(struct cpu *cpu, struct error *err)
{
	const struct memory_listener listener = { .map_changed = map_changed, .opaque = cpu };
	struct interp *it = calloc(1, sizeof(*it));

	if (it)
		it->icache = calloc(ICACHE_SIZE, sizeof(*it->icache));
	if (!it || !it->icache) {
		free(it);
		error_set(err, "out of memory for the interpreter's instruction cache");
		return NULL;
	}
	it->base = (struct engine){ .ops = &interp_ops, .cpu = cpu };
	it->ram = memory_host(cpu->memory);
	it->window = NO_WINDOW;
	it->none.next[0] = it->none.next[1] = &it->none;
	memory_set_listener(cpu->memory, &listener);
	return &it->base;
}
