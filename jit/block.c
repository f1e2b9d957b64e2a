/* Translated blocks: finding them, linking them, dropping them.
 *
 * A block belongs to (linear address, RAM page, mode). A direct link is taken
 * without looking at anything, which is right because: links within a page
 * hold as long as the page's blocks do; links to another page check the exec
 * table inline; and the mode can only change in instructions that leave.
 */
#include "jit/jit_priv.h"

#include <stdlib.h>

#include "core/mmu.h"

/* Some of this runs while the guest's SSE state is in the registers: fill.c. */
#pragma GCC target("general-regs-only")

#define ARENA_CHUNK (1u << 20)

/* ---- metadata ---- */

struct arena_chunk {
	struct arena_chunk *next;
	char bytes[ARENA_CHUNK];
};

void *jit_arena(struct jit *j, size_t bytes)
{
	void *p;

	bytes = (bytes + 15) & ~(size_t)15;
	if (!j->arena || j->arena_used + bytes > ARENA_CHUNK) {
		struct arena_chunk *c = malloc(sizeof(*c));

		if (!c)
			return NULL;
		c->next = j->arena;
		j->arena = c;
		j->arena_used = 0;
	}
	p = j->arena->bytes + j->arena_used;
	j->arena_used += bytes;
	return memset(p, 0, bytes);
}

void jit_arena_back(struct jit *j, struct arena_chunk *chunk, size_t used)
{
	while (j->arena != chunk) {
		struct arena_chunk *next = j->arena->next;

		free(j->arena);
		j->arena = next;
	}
	j->arena_used = used;
}

void jit_arena_free(struct jit *j)
{
	while (j->arena) {
		struct arena_chunk *next = j->arena->next;

		free(j->arena);
		j->arena = next;
	}
	j->arena_used = 0;
}

/* ---- mode ---- */

static bool flat(const struct segment *s)
{
	return s->base == 0 && s->limit == 0xffffffff && s->attr & SEG_P;
}

static bool flat_data(const struct segment *s)
{
	return flat(s) && (s->attr & (SEG_S | SEG_CODE | SEG_W | SEG_E)) == (SEG_S | SEG_W);
}

uint16_t jit_mode_of(const struct cpu *cpu)
{
	uint16_t mode = 0;

	if (!(cpu->cr0 & CR0_PE) || cpu->eflags & (FLAG_VM | FLAG_TF | FLAG_RF) ||
	    !flat(&cpu->seg[CS]) || !(cpu->seg[CS].attr & SEG_DB) ||
	    !(cpu->seg[CS].attr & SEG_R) || !flat_data(&cpu->seg[SS]) ||
	    !(cpu->seg[SS].attr & SEG_DB) || !flat_data(&cpu->seg[DS]) ||
	    !flat_data(&cpu->seg[ES]) || (cpu->dr[7] & 0xff) ||
	    (cpu->cpl == 3 && cpu->cr0 & CR0_AM && cpu->eflags & FLAG_AC))
		return MODE_NEVER;
	if (cpu->cpl == 3)
		mode |= MODE_USER;
	if (cpu->eflags & FLAG_DF)
		mode |= MODE_DF;
	if (!(cpu->cr0 & (CR0_EM | CR0_TS))) {
		mode |= MODE_FPU;
		if (cpu->cr4 & CR4_OSFXSR)
			mode |= MODE_SSE;
	}
	if (cpu->cpl <= (cpu->eflags & FLAG_IOPL) >> 12)
		mode |= MODE_IOPL;
	if (!cpu->cpl || !(cpu->cr4 & CR4_TSD))
		mode |= MODE_TSC;
	return mode;
}

/* ---- finding ---- */

static uint32_t hash_of(const struct jit *j, uint32_t eip, uint16_t mode)
{
	return (eip * 0x9e3779b1u ^ mode * 0x85ebca6bu) >> 7 & (j->hash_size - 1);
}

struct jit_block *jit_block_find(struct jit *j, uint32_t eip, uint32_t ram_page, uint16_t mode)
{
	struct jit_block *b = j->hash[hash_of(j, eip, mode)];

	while (b && (b->eip != eip || b->ram_page != ram_page || b->mode != mode))
		b = b->hash_next;
	return b;
}

struct jit_block *jit_block_at(struct jit *j, uint64_t host)
{
	uint32_t lo = 0, hi = j->block_count;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if ((uint64_t)j->blocks[mid]->host <= host)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo || host >= (uint64_t)j->blocks[lo - 1]->host + j->blocks[lo - 1]->host_size)
		return NULL;
	return j->blocks[lo - 1];
}

/* ---- adding ---- */

static uint64_t page_bits(unsigned offset, unsigned len)
{
	unsigned first = offset >> 6, last = (offset + len - 1) >> 6;

	if (last > 63)
		last = 63;
	return (~0ull >> (63 - (last - first))) << first;
}

static struct jit_page *page_of(struct jit *j, uint32_t ram_page)
{
	uint8_t *flags = &memory_page_flags(j->cpu->memory)[ram_page];

	if (!j->pages[ram_page])
		j->pages[ram_page] = calloc(1, sizeof(struct jit_page));
	if (j->pages[ram_page] && !(*flags & PAGE_CODE)) {
		*flags |= PAGE_CODE;
		mmu_ram_page_protect(j->cpu, ram_page);
	}
	return j->pages[ram_page];
}

static unsigned bytes_in_first_page(const struct jit_block *b)
{
	return b->guest_size - b->tail_size;
}

bool jit_block_add(struct jit *j, struct jit_block *b)
{
	struct jit_page *page = page_of(j, b->ram_page), *tail = NULL;
	uint32_t h = hash_of(j, b->eip, b->mode);

	if (b->tail_page != MEMORY_NO_PAGE)
		tail = page_of(j, b->tail_page);
	if (!page || (b->tail_page != MEMORY_NO_PAGE && !tail))
		return false;
	if (j->block_count == j->block_max) {
		uint32_t max = j->block_max ? j->block_max * 2 : 4096;
		struct jit_block **p = realloc(j->blocks, max * sizeof(*p));

		if (!p)
			return false;
		j->blocks = p;
		j->block_max = max;
	}
	j->blocks[j->block_count++] = b;
	b->hash_next = j->hash[h];
	j->hash[h] = b;
	b->page_next = page->blocks;
	page->blocks = b;
	page->bitmap |= page_bits(b->eip & 0xfff, bytes_in_first_page(b));
	if (tail) {
		b->tail_next = tail->tails;
		tail->tails = b;
		tail->bitmap |= 1;
	}
	return true;
}

/* ---- linking ---- */

static void patch32(struct jit *j, uint8_t *at, uint32_t v)
{
	memcpy(at, &v, 4);
	j->area->code_changed = 1;
}

/* Where a jump may enter: behind the stack check if it was made already. */
static const uint8_t *entry_for(const struct jit_link *l, const struct jit_block *to)
{
	if (to->behind_check && l->stack.lo < l->stack.hi && l->stack.lo <= to->stack.lo &&
	    l->stack.hi >= to->stack.hi)
		return to->host + to->behind_check;
	return to->host;
}

void jit_link(struct jit *j, struct jit_link *l, struct jit_block *to)
{
	if (l->to || l->from->dead)
		return;
	/* without a check of its own, a link is for the page as it was mapped */
	if (!l->tag && to->ram_page != l->from->ram_page)
		return;
	patch32(j, l->site, (uint32_t)(entry_for(l, to) - (jit_exec(j, l->site) + 4)));
	if (l->tag) { /* lea ecx, [rcx - tag] */
		l->tag[-2] = 0x8d;
		l->tag[-1] = 0x89;
		patch32(j, l->tag, -(to->ram_page + 1));
	}
	l->to = to;
	l->next = to->incoming;
	to->incoming = l;
	j->stat_links++;
}

static void unlink_site(struct jit *j, struct jit_link *l)
{
	patch32(j, l->site, (uint32_t)l->unlinked);
	if (l->tag)
		jit_tag_open(l->tag);
	l->to = NULL;
}

static void forget_link(struct jit_link *l)
{
	struct jit_link **p = &l->to->incoming;

	while (*p != l)
		p = &(*p)->next;
	*p = l->next;
	l->to = NULL;
}

/* ---- dropping ---- */

void jit_block_invalidate(struct jit *j, struct jit_block *b)
{
	struct jit_block **p = &j->hash[hash_of(j, b->eip, b->mode)];

	while (*p != b)
		p = &(*p)->hash_next;
	*p = b->hash_next;
	for (p = &j->pages[b->ram_page]->blocks; *p != b; p = &(*p)->page_next)
		;
	*p = b->page_next;
	if (b->tail_page != MEMORY_NO_PAGE) {
		for (p = &j->pages[b->tail_page]->tails; *p != b; p = &(*p)->tail_next)
			;
		*p = b->tail_next;
	}
	while (b->incoming) {
		struct jit_link *l = b->incoming;

		b->incoming = l->next;
		unlink_site(j, l);
	}
	for (struct jit_link *l = b->links; l; l = l->own_next)
		if (l->to)
			forget_link(l);
	/* returns that come back later must not find this code */
	for (struct jit_landing *l = b->landings; l; l = l->next) {
		struct emit e = { l->site, l->site + 5, j->code_x - j->code_w, false };

		emit_jmp(&e, j->lookup);
	}
	jit_context_forget(j, b);
	j->area->code_changed = 1;
	b->dead = true;
	j->stat_invalidated++;
	/* the block may be the one that is running */
	j->stop = true;
}

/* A page that lost its last block stays marked for some more writes: code that
 * patches itself is about to be translated again, and marking a page anew costs
 * a look through all filled translations. */
#define IDLE_WRITES 64

void jit_code_written(void *opaque, uint32_t ram_page, unsigned offset, unsigned len)
{
	struct jit *j = opaque;
	struct jit_page *page = j->pages[ram_page];
	struct jit_block *b, *next;

	if (!page)
		return;
	if (!(page->bitmap & page_bits(offset, len))) {
		if (!page->bitmap && ++page->idle_writes >= IDLE_WRITES)
			memory_page_flags(j->cpu->memory)[ram_page] &= (uint8_t)~PAGE_CODE;
		return;
	}
	page->idle_writes = 0;
	for (b = page->blocks; b; b = next) {
		unsigned start = b->eip & 0xfff;

		next = b->page_next;
		if (start < offset + len && offset < start + bytes_in_first_page(b))
			jit_block_invalidate(j, b);
	}
	for (b = page->tails; b; b = next) {
		next = b->tail_next;
		if (offset < b->tail_size)
			jit_block_invalidate(j, b);
	}
	page->bitmap = page->tails ? 1 : 0;
	for (b = page->blocks; b; b = b->page_next)
		page->bitmap |= page_bits(b->eip & 0xfff, bytes_in_first_page(b));
}

void jit_flush_all(struct jit *j)
{
	uint8_t *flags = memory_page_flags(j->cpu->memory);

	for (uint32_t i = 0; i < j->page_count; i++) {
		if (!j->pages[i])
			continue;
		flags[i] &= (uint8_t)~PAGE_CODE;
		free(j->pages[i]);
		j->pages[i] = NULL;
	}
	memset(j->hash, 0, j->hash_size * sizeof(*j->hash));
	j->block_count = 0;
	jit_arena_free(j);
	jit_cache_start(j);
	jit_contexts_void(j, 3);
	j->stat_flushes++;
}
