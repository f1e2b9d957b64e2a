/* Frames from one process to one other, through memory both have mapped.
 *
 * The producer makes the memory (a sealed memfd, so that nobody can take it away) and
 * passes the descriptor on. Neither side believes the other: each keeps its own
 * position to itself, checks what the other wrote at every look, and the consumer
 * copies a frame out before anybody reads it. What is impossible makes the ring `bad`,
 * for good. Either side may die at any instruction.
 *
 * Neither side waits here. One that is about to says so in the memory
 * (shared_ring_arm(), shared_ring_want_room()) and the other then knows that it has
 * to ring the bell: whatever the two have agreed on.
 */
#ifndef GANNET_BACKENDS_SHARED_RING_H
#define GANNET_BACKENDS_SHARED_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct shared_ring_head;

struct shared_ring {
	struct shared_ring_head *head; /* NULL: not there yet */
	uint8_t *data;
	size_t size;      /* of data; a power of two */
	uint64_t pos;     /* own position: bytes ever written or read */
	uint64_t seen;    /* producer: the other's, when last looked at */
	uint64_t frames;  /* ever written or read */
	bool bad;
};

/** shared_ring_create - producer: @fd is what the consumer needs; the caller closes it */
bool shared_ring_create(struct shared_ring *r, size_t size, int *fd, struct error *err);
/** shared_ring_attach - consumer: refuses what is not such a memory; @fd stays the caller's */
bool shared_ring_attach(struct shared_ring *r, int fd, struct error *err);
void shared_ring_finish(struct shared_ring *r); /* also if it never was there */

/** shared_ring_push - producer: false if there is no room; *@bell if the consumer sleeps */
bool shared_ring_push(struct shared_ring *r, const uint8_t *frame, size_t len, bool *bell);
/** shared_ring_want_room - producer: ask for a bell; false if there is room for a frame of
 *  @len now */
bool shared_ring_want_room(struct shared_ring *r, size_t len);
/** shared_ring_unread - producer: frames the consumer has not read */
uint64_t shared_ring_unread(const struct shared_ring *r);

/** shared_ring_pop - consumer: copies the oldest frame to @frame (NET_FRAME_MAX bytes);
 *  its length, 0 if there is none */
size_t shared_ring_pop(struct shared_ring *r, uint8_t *frame);
/** shared_ring_popped - consumer: after some pops; true if the producer wants the bell */
bool shared_ring_popped(struct shared_ring *r);
/** shared_ring_arm - consumer: wants the bell for the next frame; false if there is one */
bool shared_ring_arm(struct shared_ring *r);
/** shared_ring_empty - consumer */
bool shared_ring_empty(const struct shared_ring *r);

#endif
