/* See relay_queue.h. */
#include "tools/relay_queue.h"

#include <stdlib.h>
#include <string.h>

#include "core/net.h"
#include "core/util.h"

enum { KINDS = 3, CHUNK = 128 * 1024, SHARE = 4, CELL_BYTES = 64 };

struct relay_cell {
	struct relay_cell *next;
	struct relay_frame *frame;
	int64_t stamp;
};

struct chunk {
	struct chunk *next;
	max_align_t data[];
};

struct kind {
	size_t size;    /* of a buffer, with its header */
	size_t a_chunk; /* buffers */
	size_t chunks;  /* that may still be taken */
	size_t limit;   /* bytes in all buffers there may ever be */
	size_t used;    /* bytes in frames somebody holds */
	struct relay_frame *free;
};

struct relay_pool {
	struct kind kind[KINDS];
	struct chunk *chunks;
	struct relay_cell *free_cells;
	size_t cells, cells_used, cells_max;
};

/* Acknowledgements and the like, full frames, jumbo frames; and their share of the
 * memory in sixteenths. The rest is for cells. */
static const struct {
	size_t room;
	unsigned share;
} kinds[KINDS] = { { 232, 3 }, { 1640, 8 }, { NET_FRAME_MAX, 3 } };

struct relay_pool *relay_pool_create(size_t bytes, struct error *err)
{
	struct relay_pool *pool = calloc(1, sizeof(*pool));

	if (!pool) {
		error_set(err, "out of memory");
		return NULL;
	}
	bytes = MAX(bytes, 1 * MIB);
	for (unsigned i = 0; i < KINDS; i++) {
		size_t size = sizeof(struct relay_frame) + kinds[i].room;

		struct kind *k = &pool->kind[i];

		k->size = (size + 15) & ~(size_t)15;
		k->a_chunk = (CHUNK - sizeof(struct chunk)) / k->size;
		k->chunks = bytes / 16 * kinds[i].share / CHUNK;
		k->limit = k->chunks * k->a_chunk * k->size;
	}
	pool->cells_max = bytes / 16 * 2 / sizeof(struct relay_cell);
	return pool;
}

void relay_pool_destroy(struct relay_pool *pool)
{
	if (!pool)
		return;
	while (pool->chunks) {
		struct chunk *c = pool->chunks;

		pool->chunks = c->next;
		free(c);
	}
	free(pool);
}

size_t relay_pool_used(const struct relay_pool *pool)
{
	size_t used = 0;

	for (unsigned i = 0; i < KINDS; i++)
		used += pool->kind[i].used;
	return used;
}

static void *chunk_take(struct relay_pool *pool)
{
	struct chunk *c = malloc(CHUNK);

	if (!c)
		return NULL;
	c->next = pool->chunks;
	pool->chunks = c;
	return c->data;
}

static bool kind_grow(struct relay_pool *pool, struct kind *k)
{
	size_t n = k->a_chunk;
	char *at;

	if (!k->chunks)
		return false;
	at = chunk_take(pool);
	if (!at)
		return false;
	k->chunks--;
	while (n--) {
		struct relay_frame *f = (void *)(at + n * k->size);

		f->kind = (uint8_t)(k - pool->kind);
		f->room = (uint16_t)kinds[f->kind].room;
		f->next_free = k->free;
		k->free = f;
	}
	return true;
}

static bool cells_grow(struct relay_pool *pool)
{
	size_t n = (CHUNK - sizeof(struct chunk)) / sizeof(struct relay_cell);
	struct relay_cell *cell;

	if (pool->cells + n > pool->cells_max)
		return false;
	cell = chunk_take(pool);
	if (!cell)
		return false;
	pool->cells += n;
	while (n--) {
		cell[n].next = pool->free_cells;
		pool->free_cells = &cell[n];
	}
	return true;
}

struct relay_frame *relay_frame_get(struct relay_pool *pool, size_t len)
{
	for (unsigned i = 0; i < KINDS; i++) {
		struct kind *k = &pool->kind[i];
		struct relay_frame *f;

		if (len > kinds[i].room || (!k->free && !kind_grow(pool, k)))
			continue;
		f = k->free;
		k->free = f->next_free;
		k->used += k->size;
		f->refs = 1;
		f->len = (uint16_t)len;
		return f;
	}
	return NULL;
}

void relay_frame_put(struct relay_pool *pool, struct relay_frame *f)
{
	struct kind *k;

	if (!f || --f->refs)
		return;
	k = &pool->kind[f->kind];
	k->used -= k->size;
	f->next_free = k->free;
	k->free = f;
}

bool relay_queue_push(struct relay_pool *pool, struct relay_queue *q, struct relay_frame *f,
		      size_t limit, int64_t now)
{
	const struct kind *k = &pool->kind[f->kind];
	size_t size = k->size + CELL_BYTES;
	struct relay_cell *cell;

	if (q->bytes + size > limit || q->bytes > (k->limit - k->used) / SHARE ||
	    q->frames > (pool->cells_max - pool->cells_used) / SHARE)
		return false;
	if (!pool->free_cells && !cells_grow(pool))
		return false;
	cell = pool->free_cells;
	pool->free_cells = cell->next;
	pool->cells_used++;
	*cell = (struct relay_cell){ NULL, f, now };
	f->refs++;
	if (q->tail)
		q->tail->next = cell;
	else
		q->head = cell;
	q->tail = cell;
	q->bytes += size;
	q->frames++;
	return true;
}

const struct relay_frame *relay_queue_peek(const struct relay_queue *q, int64_t *stamp)
{
	if (!q->head)
		return NULL;
	*stamp = q->head->stamp;
	return q->head->frame;
}

void relay_queue_pop(struct relay_pool *pool, struct relay_queue *q)
{
	struct relay_cell *cell = q->head;

	q->head = cell->next;
	if (!q->head)
		q->tail = NULL;
	q->bytes -= pool->kind[cell->frame->kind].size + CELL_BYTES;
	q->frames--;
	relay_frame_put(pool, cell->frame);
	cell->next = pool->free_cells;
	pool->free_cells = cell;
	pool->cells_used--;
}

unsigned relay_queue_clear(struct relay_pool *pool, struct relay_queue *q)
{
	unsigned n = 0;

	for (; q->head; n++)
		relay_queue_pop(pool, q);
	return n;
}
