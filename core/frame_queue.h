/* Frames from one thread to one other: bounded, without locks or allocation.
 *
 * A byte ring that holds each frame in one piece with its length and a time
 * stamp. The producer pushes, the consumer peeks and pops. The queue's descriptor
 * becomes readable only if the consumer has said that it is about to sleep
 * (frame_queue_arm()), so a busy pair makes no system call.
 *
 *	consumer:  for (;;) {
 *			while ((f = frame_queue_peek(q))) { use(f); frame_queue_pop(q); }
 *			if (frame_queue_arm(q))
 *				poll(frame_queue_fd(q));
 *		   }
 */
#ifndef GANNET_CORE_FRAME_QUEUE_H
#define GANNET_CORE_FRAME_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct frame_queue;

struct frame {
	int64_t stamp;  /* what the producer said */
	uint32_t len;
	const uint8_t *data; /* valid until the next pop */
};

/** frame_queue_create - @bytes: a power of two, 64 KiB and up; each frame takes its
 *  length plus up to 24 */
struct frame_queue *frame_queue_create(size_t bytes, struct error *err);
void frame_queue_destroy(struct frame_queue *q); /* NULL is legal */

/** frame_queue_push - producer: copies the frame; false if it does not fit (nothing changed) */
bool frame_queue_push(struct frame_queue *q, const uint8_t *data, size_t len, int64_t stamp);
/** frame_queue_room - producer: would a frame of @len bytes fit now? */
bool frame_queue_room(const struct frame_queue *q, size_t len);
/** frame_queue_empty - producer: has the consumer popped everything? */
bool frame_queue_empty(const struct frame_queue *q);
/** frame_queue_want_room - producer: it did not fit; make frame_queue_room_fd() readable
 *  when half of the queue is free. Returns false if it already is. */
bool frame_queue_want_room(struct frame_queue *q);
/** frame_queue_room_fd - producer: readable (eventfd) after frame_queue_want_room();
 *  frame_queue_room_seen() makes it quiet again */
int frame_queue_room_fd(const struct frame_queue *q);
void frame_queue_room_seen(struct frame_queue *q);

/** frame_queue_on_frame - consumer, before there is a producer: call @wake(@opaque), in the
 *  producer's thread, where the descriptor would become readable */
void frame_queue_on_frame(struct frame_queue *q, void (*wake)(void *opaque), void *opaque);
/** frame_queue_peek - consumer: the oldest frame, NULL if there is none; valid until pop */
const struct frame *frame_queue_peek(struct frame_queue *q);
void frame_queue_pop(struct frame_queue *q);
/** frame_queue_arm - consumer: about to wait for frame_queue_fd(), which is quiet now;
 *  false if there is a frame already, and then the descriptor is readable: who leaves
 *  before the queue is empty is called again */
bool frame_queue_arm(struct frame_queue *q);
/** frame_queue_seen - consumer: makes the descriptor quiet, whatever there is; for one
 *  that comes back of its own accord */
void frame_queue_seen(struct frame_queue *q);
/** frame_queue_fd - consumer: readable (eventfd) when a frame was pushed after arming, and
 *  until the queue is armed again */
int frame_queue_fd(const struct frame_queue *q);

#endif
