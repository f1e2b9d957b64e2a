/* Frames on their way out of the relay: one copy however many receive it.
 *
 * A pool of buffers of three sizes, cut from memory that is taken when needed and
 * never more than asked for; a queue a client, of references. A queue may hold
 * what its client's limit says, and no more than a quarter of what is still free
 * (Choudhury and Hahne, "Dynamic queue length thresholds", 1998): however many
 * clients stop reading, there is room for those who do read.
 */
#ifndef GANNET_TOOLS_RELAY_QUEUE_H
#define GANNET_TOOLS_RELAY_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct relay_pool;

struct relay_frame {
	struct relay_frame *next_free;
	uint32_t refs;
	uint16_t len, room; /* bytes */
	uint8_t kind;       /* which size */
	uint8_t data[];
};

struct relay_cell; /* one reference in a queue */

struct relay_queue {
	struct relay_cell *head, *tail;
	size_t bytes;
	unsigned frames;
};

/** relay_pool_create - will never hold more than @bytes, at least 1 MiB */
struct relay_pool *relay_pool_create(size_t bytes, struct error *err);
void relay_pool_destroy(struct relay_pool *pool); /* NULL is legal */
/** relay_pool_used - bytes in frames that somebody holds */
size_t relay_pool_used(const struct relay_pool *pool);

/** relay_frame_get - room for @len bytes, one reference; NULL if the pool is empty */
struct relay_frame *relay_frame_get(struct relay_pool *pool, size_t len);
void relay_frame_put(struct relay_pool *pool, struct relay_frame *f); /* NULL is legal */

/** relay_queue_push - takes a reference of its own; false if there is no room for it
 *  @limit: bytes this queue may hold */
bool relay_queue_push(struct relay_pool *pool, struct relay_queue *q, struct relay_frame *f,
		      size_t limit, int64_t now);
/** relay_queue_peek - the oldest and when it was pushed; NULL if empty */
const struct relay_frame *relay_queue_peek(const struct relay_queue *q, int64_t *stamp);
void relay_queue_pop(struct relay_pool *pool, struct relay_queue *q);
/** relay_queue_clear - returns how many frames were thrown away */
unsigned relay_queue_clear(struct relay_pool *pool, struct relay_queue *q);

#endif
