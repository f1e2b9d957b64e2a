/* One context for each mode that code runs in: a jump cache and a stack of
 * return addresses.
 *
 * A guest goes back and forth between a few modes all the time (user, kernel
 * with the user's segments, kernel with its own). Blocks of different modes
 * must not reach each other through a remembered jump or return, and what was
 * remembered should still be there when the mode comes back.
 *
 * When translations are flushed every remembered jump and return is void. The
 * current context is cleared at once, the others when they are entered.
 */
#include "jit/jit_priv.h"

#include <stdlib.h>
#include <sys/mman.h>

/* Some of this runs while the guest's SSE state is in the registers: fill.c. */
#pragma GCC target("general-regs-only")

#define CONTEXT_STACK_BYTES (JIT_STACK_GUARD + JIT_STACK_SIZE)

bool jit_contexts_init(struct jit *j)
{
	uint8_t *p = mmap(NULL, JIT_CONTEXTS * CONTEXT_STACK_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return false;
	j->stacks = p;
	for (int i = 0; i < JIT_CONTEXTS; i++, p += CONTEXT_STACK_BYTES) {
		struct jit_context *c = &j->context[i];

		if (mprotect(p, JIT_STACK_GUARD, PROT_NONE))
			return false;
		c->mode = MODE_NEVER;
		c->stale = true;
		/* the outermost return address is never popped for good */
		c->rsp_base = (uint64_t)(p + CONTEXT_STACK_BYTES - 64);
		*(uint64_t *)c->rsp_base = (uint64_t)jit_thunk_return_base;
		c->jump_cache = aligned_alloc(64, 2 * JUMP_CACHE_SIZE * sizeof(uint64_t));
		if (!c->jump_cache)
			return false;
	}
	j->mode = MODE_NEVER;
	return true;
}

void jit_contexts_finish(struct jit *j)
{
	if (j->stacks)
		munmap(j->stacks, JIT_CONTEXTS * CONTEXT_STACK_BYTES);
	for (int i = 0; i < JIT_CONTEXTS; i++)
		free(j->context[i].jump_cache);
}

static void context_clear(struct jit_context *c)
{
	uint64_t *keys = c->jump_cache;

	for (unsigned i = 0; i < JUMP_CACHE_SIZE; i++)
		keys[i] = 1; /* plus any EIP is never 0 */
	c->rsp = c->rsp_base;
	c->stale = false;
}

void jit_contexts_void(struct jit *j, unsigned rights)
{
	for (int i = 0; i < JIT_CONTEXTS; i++)
		if (rights & (j->context[i].mode & MODE_USER ? 2 : 1))
			j->context[i].stale = true;
	if (j->current && j->current->stale) {
		j->voids++;
		context_clear(j->current);
		j->area->jit_rsp = j->current->rsp;
	}
}

static struct jit_context *find(struct jit *j, uint16_t mode)
{
	struct jit_context *c;

	for (int i = 0; i < JIT_CONTEXTS; i++)
		if (j->context[i].mode == mode)
			return &j->context[i];
	c = &j->context[j->next_context++ % JIT_CONTEXTS];
	c->mode = mode;
	c->stale = true;
	return c;
}

void jit_context_enter(struct jit *j, uint16_t mode)
{
	struct jit_context *c;

	if (j->current)
		j->current->rsp = j->area->jit_rsp;
	c = find(j, mode);
	if (c->stale)
		context_clear(c);
	j->current = c;
	j->mode = mode;
	j->area->jit_rsp = c->rsp;
	j->area->jit_rsp_base = c->rsp_base;
	j->area->jump_keys = c->jump_cache;
}

void jit_context_forget(struct jit *j, const struct jit_block *b)
{
	unsigned slot = b->eip & JUMP_CACHE_MASK;

	for (int i = 0; i < JIT_CONTEXTS; i++) {
		uint64_t *keys = j->context[i].jump_cache;

		if (keys && keys[slot] == -(uint64_t)b->eip &&
		    keys[JUMP_CACHE_SIZE + slot] == (uint64_t)b->host)
			keys[slot] = 1;
	}
}

bool jit_context_guard(const struct jit *j, uint64_t address)
{
	uint64_t offset = address - (uint64_t)j->stacks;

	return offset < JIT_CONTEXTS * CONTEXT_STACK_BYTES &&
	       offset % CONTEXT_STACK_BYTES < JIT_STACK_GUARD;
}
