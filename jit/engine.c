/* The recompiler as an engine: the dispatcher, start and end, statistics.
 *
 * run() enters recompiled code; it comes back when a jump is not linked yet, an
 * unknown target was reached, or somebody cleared cpu->run. Then: deliver what
 * is pending, find or make the block at EIP, link, enter again.
 */
#include "jit/jit_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/machine.h"
#include "core/mmu.h"
#include "core/trace.h"
#include "jit/translate_priv.h"

/* Instructions interpreted in a row before asking whether recompiled code is
 * possible again. */
#define NEVER_STEPS 64

/* thunks.S knows these. */
_Static_assert(offsetof(struct cpu, gpr) == 0, "thunks.S");
_Static_assert(offsetof(struct cpu, eip) == 64, "thunks.S");
_Static_assert(offsetof(struct cpu, eflags) == 72, "thunks.S");
_Static_assert(offsetof(struct cpu, run) == 76, "thunks.S");
_Static_assert(offsetof(struct cpu, fpu_live) == 83, "thunks.S");
_Static_assert(offsetof(struct cpu, fpu_foreign) == 87, "thunks.S");
_Static_assert(offsetof(struct cpu, engine_area) == 128, "thunks.S");
_Static_assert(offsetof(struct cpu, fpu) == 1152, "thunks.S");
_Static_assert(offsetof(struct jit_area, c_rsp) == 0, "thunks.S");
_Static_assert(offsetof(struct jit_area, saved_flags) == 40, "thunks.S");
_Static_assert(offsetof(struct jit_area, mask_jump) == 80, "thunks.S");
_Static_assert(offsetof(struct jit_area, code_changed) == 188, "thunks.S");
_Static_assert(offsetof(struct jit_area, fill_return) == 224, "thunks.S");
_Static_assert(offsetof(struct jit_area, was_live) == 160, "thunks.S");
_Static_assert(JUMP_CACHE_SIZE == 2048, "thunks.S");

static struct jit *jit_of(struct engine *e) { return (struct jit *)((char *)e - offsetof(struct jit, base)); }

/* ---- called from recompiled code ---- */

/* For --stats: what is it that recompiled code hands over? */
static void count_id(struct jit *j)
{
	const uint8_t *host;
	uint32_t eip = (uint32_t)j->cpu->eip, offset = eip & (GUEST_PAGE_SIZE - 1);
	struct insn in;

	if (mmu_fetch_quiet(j->cpu, eip, &host) == MEMORY_NO_PAGE ||
	    insn_decode(&in, true, host + offset, GUEST_PAGE_SIZE - offset) != DECODE_OK)
		return;
	j->stat_interp_ids[in.entry->id]++;
}

/* With an unmasked exception pending (FSW.ES) the pointers are about to matter,
 * and some hosts only keep them then: settle them at once. */
static void settle_pending(struct cpu *cpu)
{
	if (unlikely(cpu->fpu_foreign && cpu->fpu.fxsave[2] & 0x80))
		jit_fpu_settle(cpu->engine_data);
}

int jit_interp_one(struct cpu *cpu)
{
	struct jit *j = cpu->engine_data;
	uint32_t voids = j->voids;

	settle_pending(cpu);
	j->area->stat_interp++;
	if (unlikely(j->count_insns))
		count_id(j);
	interp_steps(j->interp, 1);
	if (cpu->shadow || cpu->halted || j->stop)
		return 1;
	/* translations went: the page that is running must be looked up again, or
	 * nobody will tell when its own goes */
	if (jit_mode_of(cpu) != j->mode || j->voids != voids)
		return 1;
	jit_segments_changed(j);
	return !__atomic_load_n(&cpu->run, __ATOMIC_ACQUIRE);
}

_Noreturn void jit_raise(struct cpu *cpu, uint32_t vector)
{
	settle_pending(cpu);
	cpu->insn_eip = cpu->eip;
	if (vector == EXC_GP)
		cpu_raise(cpu, EXC_GP, 0);
	/* the interpreter knows what an x87 or SSE exception needs: run it there */
	if (vector == EXC_MF || vector == EXC_XM) {
		interp_step(cpu);
		siglongjmp(*cpu->unwind, 2);
	}
	cpu_raise_ne(cpu, (enum exception)vector);
}

static void code_unmapped(void *engine_data, unsigned rights)
{
	jit_contexts_void(engine_data, rights);
}

static void map_changed(void *opaque)
{
	struct jit *j = opaque;

	mmu_flush(j->cpu, true);
	/* the block that is running may have been mapped away */
	cpu_kick(j->cpu);
}

/* ---- the dispatcher ---- */

static void enter_mode(struct jit *j, uint16_t mode)
{
	struct cpu *cpu = j->cpu;
	unsigned user = cpu->cpl == 3;

	j->area->read = cpu->tlb.read[user];
	j->area->exec = cpu->tlb.exec[user];
	jit_segments_changed(j);
	if (mode != j->mode || j->current->stale)
		jit_context_enter(j, mode);
}

static struct jit_block *block_here(struct jit *j, uint16_t variant, bool *flushed)
{
	struct cpu *cpu = j->cpu;
	uint32_t eip = (uint32_t)cpu->eip, ram_page;
	const uint8_t *host;
	struct jit_block *b;

	cpu->insn_eip = eip;
	ram_page = mmu_fetch(cpu, eip, &host);
	if (ram_page == MEMORY_NO_PAGE)
		return NULL;
	b = jit_block_find(j, eip, ram_page, j->mode | variant);
	if (!b) {
		b = jit_translate(j, eip, ram_page, j->mode | variant, host);
		if (!b && j->need_flush) {
			j->need_flush = false;
			*flushed = true;
			jit_flush_all(j);
			b = jit_translate(j, eip, ram_page, j->mode | variant, host);
		}
		if (b && cpu->trace->mask)
			jit_dump(j, b, host);
		if (b && j->perf_map)
			fprintf(j->perf_map, "%llx %x guest_%08x\n",
				(unsigned long long)b->host, b->host_size, eip);
	}
	if (b && !variant) {
		unsigned slot = eip & JUMP_CACHE_MASK;

		uint64_t *keys = j->current->jump_cache;

		keys[slot] = -(uint64_t)eip;
		keys[JUMP_CACHE_SIZE + slot] = (uint64_t)b->host;
	}
	return b;
}

/* An interrupt that was let in by STI or POPF: nobody clears cpu->run for it. */
static bool interrupt_due(const struct cpu *cpu)
{
	return cpu->intr_line && cpu->eflags & FLAG_IF && !cpu->shadow;
}

static void run_loop(struct jit *j)
{
	struct cpu *cpu = j->cpu;
	struct jit_link *link = NULL;

	while (__atomic_load_n(&cpu->run, __ATOMIC_ACQUIRE) && !cpu->halted &&
	       !interrupt_due(cpu)) {
		struct jit_block *b = NULL;
		uint16_t mode = jit_mode_of(cpu);
		bool flushed = false;

		j->stop = false;

		if (mode != MODE_NEVER && !cpu->shadow) {
			uint16_t variant = 0;

			enter_mode(j, mode);
			if (link && link->target == (uint32_t)cpu->eip &&
			    link->mode == (mode | MODE_NO_STACK))
				variant = MODE_NO_STACK;
			b = block_here(j, variant, &flushed);
		}
		if (!b) {
			uint64_t before = cpu->insn_count;

			interp_steps(j->interp, mode == MODE_NEVER ? NEVER_STEPS : 1);
			j->area->stat_interp += cpu->insn_count - before;
			j->stat_never += mode == MODE_NEVER ? cpu->insn_count - before : 0;
			link = NULL;
			continue;
		}
		if (link && !flushed && link->target == b->eip && link->mode == b->mode)
			jit_link(j, link, b);
		j->stat_entries++;
		link = (struct jit_link *)jit_enter(cpu, b->host);
		settle_pending(cpu);
	}
}

static void jit_run(struct engine *e)
{
	struct jit *j = jit_of(e);
	struct cpu *cpu = j->cpu;
	sigjmp_buf unwind;
	int why;

	cpu->unwind = &unwind;
	jit_signals_enter(j);
	why = sigsetjmp(unwind, 0);
	if (why == 1) {
		cpu->shadow = 0;
		cpu_deliver_raised(cpu);
	} else if (why == 0) {
		cpu_service(cpu);
	}
	run_loop(j);
	jit_signals_leave();
	cpu->unwind = NULL;
}

/* ---- life ---- */

static void jit_stats(struct engine *e, FILE *out)
{
	struct jit *j = jit_of(e);
	uint64_t interp = j->area->stat_interp, all = j->area->stat_insns;

	fprintf(out, "blocks translated   %12llu\n", (unsigned long long)j->stat_blocks);
	fprintf(out, "blocks invalidated  %12llu\n", (unsigned long long)j->stat_invalidated);
	fprintf(out, "blocks given up     %12llu\n", (unsigned long long)j->stat_given_up);
	fprintf(out, "cache flushes       %12llu\n", (unsigned long long)j->stat_flushes);
	fprintf(out, "host code           %12u bytes hot, %u cold\n", j->hot,
		j->cold - JIT_CACHE_HOT);
	fprintf(out, "links made          %12llu\n", (unsigned long long)j->stat_links);
	fprintf(out, "entries from C      %12llu\n", (unsigned long long)j->stat_entries);
	fprintf(out, "table fills         %12llu\n", (unsigned long long)j->stat_fills);
	fprintf(out, "interpreted         %12llu instructions\n", (unsigned long long)interp);
	fprintf(out, "  of which 16-bit, real mode or debugging %12llu\n",
		(unsigned long long)j->stat_never);
	if (j->count_insns && all + j->stat_never) {
		all += j->stat_never;
		fprintf(out, "executed            %12llu instructions, %.3f%% interpreted\n",
			(unsigned long long)all, 100.0 * (double)interp / (double)all);
	}
	for (unsigned i = 0; i < INSN_ID_COUNT; i++)
		if (j->stat_interp_ids[i])
			fprintf(out, "  %-16s %12llu\n", insn_name((enum insn_id)i),
				(unsigned long long)j->stat_interp_ids[i]);
}

static void jit_destroy(struct engine *e)
{
	struct jit *j = jit_of(e);

	for (uint32_t i = 0; j->pages && i < j->page_count; i++)
		free(j->pages[i]);
	if (j->perf_map)
		fclose(j->perf_map);
	jit_contexts_finish(j);
	jit_cache_finish(j);
	jit_arena_free(j);
	if (j->interp)
		j->interp->ops->destroy(j->interp);
	free(j->pages);
	free(j->hash);
	free(j->blocks);
	free(j->stat_interp_ids);
	free(j->translator);
	free(j);
}

static void jit_observe(struct engine *e, bool count, FILE *perf_map)
{
	struct jit *j = jit_of(e);

	j->count_insns = count;
	j->perf_map = perf_map;
}

static const struct engine_ops jit_ops = {
	.name = "jit",
	.run = jit_run,
	.stats = jit_stats,
	.destroy = jit_destroy,
	.observe = jit_observe,
};

static uint32_t host_mxcsr_mask(void)
{
	struct fpu_state image;

	memset(&image, 0, sizeof(image));
	__asm__ volatile("fxsave %0" : "+m"(image));
	/* 0 stands for 0xffbf (SDM 1 11.6.6) */
	return load_le32(image.fxsave + 28) ? load_le32(image.fxsave + 28) : 0xffbf;
}

static void init_area(struct jit *j)
{
	struct jit_area *a = j->area;

	memset(a, 0, sizeof(*a));
	a->mask_cross[0] = 0xffe;
	for (unsigned i = 1; i < ARRAY_SIZE(a->mask_cross); i++)
		a->mask_cross[i] = 0xfff & ~((2u << i) - 1);
	a->mask_jump = JUMP_CACHE_MASK;
	a->mask_arith = FLAGS_ARITH;
	a->mask_no_if = ~(uint32_t)FLAG_IF;
	a->mask_bit5 = 31;
	a->mask_rest = 0x00fcffff & ~(uint32_t)FLAGS_ARITH;
	a->thunk_exit = (void *)jit_thunk_exit;
	a->thunk_exit_link = (void *)jit_thunk_exit_link;
	a->thunk_fill = (void *)jit_thunk_fill;
	a->thunk_interp = (void *)jit_thunk_interp;
	a->thunk_lookup = (void *)jit_thunk_lookup;
	a->thunk_fpu = (void *)jit_thunk_fpu;
	a->thunk_raise = (void *)jit_thunk_raise;
	a->thunk_segment = (void *)jit_thunk_segment;
	a->mxcsr_host = 0x1f80;
}

struct engine *jit_create(struct cpu *cpu, struct error *err)
{
	struct jit *j = calloc(1, sizeof(*j));
	struct memory_listener listener;

	if (!j)
		goto no_memory;
	j->fd = -1;
	j->base.ops = &jit_ops;
	j->base.cpu = cpu;
	j->cpu = cpu;
	j->area = (struct jit_area *)cpu->engine_area;
	if (!__builtin_cpu_supports("bmi2")) {
		error_set(err, "this processor lacks BMI2, which recompiled code needs; use --engine interp");
		goto fail;
	}
	j->hash_size = 1u << 16;
	j->page_count = memory_page_count(cpu->memory);
	j->hash = calloc(j->hash_size, sizeof(*j->hash));
	j->pages = calloc(j->page_count, sizeof(*j->pages));
	j->stat_interp_ids = calloc(INSN_ID_COUNT, sizeof(uint64_t));
	j->translator = calloc(1, sizeof(*j->translator));
	if (!j->hash || !j->pages ||
	    !j->stat_interp_ids || !j->translator)
		goto no_memory;
	init_area(j);
	j->mxcsr_mask = host_mxcsr_mask();
	if (!jit_contexts_init(j))
		goto no_memory;
	if (!jit_cache_init(j, err) || !jit_signals_install(err))
		goto fail;
	j->interp = interp_create(cpu, err);
	if (!j->interp)
		goto fail;
	jit_cache_start(j);
	cpu->engine_data = j;
	cpu->code_unmapped = code_unmapped;
	cpu->fpu_settle = jit_fpu_settle;
	listener = (struct memory_listener){ map_changed, jit_code_written, j };
	memory_set_listener(cpu->memory, &listener);
	return &j->base;
no_memory:
	error_set(err, "no memory for the recompiler: %s", strerror(errno));
fail:
	if (j)
		jit_destroy(&j->base);
	return NULL;
}
