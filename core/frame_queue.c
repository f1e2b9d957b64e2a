/* See frame_queue.h.
 *
 * Positions count bytes for ever and are masked when used. A record is a header
 * of 16 bytes, the frame, and padding to 8; one that would wrap is preceded by a
 * header whose length says "skip to the start".
 *
 * Sleeping follows Dekker: the consumer writes `armed` and then looks at `head`,
 * the producer writes `head` and then looks at `armed`, both in sequentially
 * consistent order, so at least one sees the other. Room works the same way
 * with the roles exchanged.
 */
#include "core/frame_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/util.h"

#define SKIP UINT32_MAX

enum { RECORD_HEADER = 16, CACHE_LINE = 64 };

struct record {
	uint32_t len;
	uint32_t reserved;
	int64_t stamp;
};

struct frame_queue {
	uint8_t *ring;
	size_t size, mask;
	int fd, room_fd;
	void (*wake)(void *opaque); /* instead of fd */
	void *opaque;

	_Alignas(CACHE_LINE) size_t head; /* producer's: bytes ever written */
	size_t known_tail;                /* producer's last look at tail */
	uint32_t wants_room;              /* producer waits */

	_Alignas(CACHE_LINE) size_t tail; /* consumer's: bytes ever read */
	size_t next;                      /* tail after the pop of what was peeked */
	struct frame frame;
	uint32_t armed;                   /* consumer waits */
};

struct frame_queue *frame_queue_create(size_t bytes, struct error *err)
{
	struct frame_queue *q = aligned_alloc(CACHE_LINE, sizeof(*q));

	if (!q) {
		error_set(err, "out of memory");
		return NULL;
	}
	memset(q, 0, sizeof(*q));
	q->size = bytes;
	q->mask = bytes - 1;
	q->ring = aligned_alloc(CACHE_LINE, bytes);
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!q->ring || q->fd < 0 || q->room_fd < 0) {
		error_set(err, "no frame queue: %s", strerror(q->ring ? errno : ENOMEM));
		frame_queue_destroy(q);
		return NULL;
	}
	return q;
}

void frame_queue_destroy(struct frame_queue *q)
{
	if (!q)
		return;
	if (q->fd >= 0)
		close(q->fd);
	if (q->room_fd >= 0)
		close(q->room_fd);
	free(q->ring);
	free(q);
}

static void event_write(int fd)
{
	uint64_t one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void event_clear(int fd)
{
	uint64_t n;

	while (read(fd, &n, sizeof(n)) < 0 && errno == EINTR)
		;
}

static size_t record_size(size_t len)
{
	return RECORD_HEADER + ((len + 7) & ~(size_t)7);
}

/* Bytes a frame takes with what has to be skipped before it. */
static size_t needed(const struct frame_queue *q, size_t len)
{
	size_t record = record_size(len), to_end = q->size - (q->head & q->mask);

	return record <= to_end ? record : to_end + record;
}

/* ---- producer ---- */

bool frame_queue_room(const struct frame_queue *q, size_t len)
{
	size_t tail = __atomic_load_n(&q->tail, __ATOMIC_ACQUIRE);

	return len < q->size / 4 && needed(q, len) <= q->size - (q->head - tail);
}

bool frame_queue_empty(const struct frame_queue *q)
{
	return __atomic_load_n(&q->tail, __ATOMIC_ACQUIRE) == q->head;
}

bool frame_queue_push(struct frame_queue *q, const uint8_t *data, size_t len, int64_t stamp)
{
	size_t head = q->head, take, to_end = q->size - (head & q->mask);
	struct record *r;

	if (len >= q->size / 4)
		return false;
	take = needed(q, len);
	if (take > q->size - (head - q->known_tail)) {
		q->known_tail = __atomic_load_n(&q->tail, __ATOMIC_ACQUIRE);
		if (take > q->size - (head - q->known_tail))
			return false;
	}
	if (record_size(len) > to_end) {
		/* Positions are multiples of 8: there may be room for a length only. */
		memcpy(q->ring + (head & q->mask), &(uint32_t){ SKIP }, sizeof(uint32_t));
		head += to_end;
	}
	r = (struct record *)(q->ring + (head & q->mask));
	r->len = len;
	r->stamp = stamp;
	memcpy(r + 1, data, len);
	__atomic_store_n(&q->head, head + record_size(len), __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&q->armed, __ATOMIC_SEQ_CST) &&
	    __atomic_exchange_n(&q->armed, 0, __ATOMIC_SEQ_CST)) {
		if (q->wake)
			q->wake(q->opaque);
		else
			event_write(q->fd);
	}
	return true;
}

static bool half_free(const struct frame_queue *q)
{
	return __atomic_load_n(&q->head, __ATOMIC_SEQ_CST) -
	       __atomic_load_n(&q->tail, __ATOMIC_SEQ_CST) <= q->size / 2;
}

bool frame_queue_want_room(struct frame_queue *q)
{
	__atomic_store_n(&q->wants_room, 1, __ATOMIC_SEQ_CST);
	if (!half_free(q))
		return true;
	return !__atomic_exchange_n(&q->wants_room, 0, __ATOMIC_SEQ_CST);
}

int frame_queue_room_fd(const struct frame_queue *q)
{
	return q->room_fd;
}

void frame_queue_room_seen(struct frame_queue *q)
{
	event_clear(q->room_fd);
}

/* ---- consumer ---- */

const struct frame *frame_queue_peek(struct frame_queue *q)
{
	size_t head = __atomic_load_n(&q->head, __ATOMIC_ACQUIRE), tail = q->tail;
	const struct record *r;
	uint32_t len;

	if (head == tail)
		return NULL;
	memcpy(&len, q->ring + (tail & q->mask), sizeof(len));
	if (len == SKIP)
		tail += q->size - (tail & q->mask);
	r = (const struct record *)(q->ring + (tail & q->mask));
	q->frame = (struct frame){ r->stamp, r->len, (const uint8_t *)(r + 1) };
	q->next = tail + record_size(r->len);
	return &q->frame;
}

void frame_queue_pop(struct frame_queue *q)
{
	__atomic_store_n(&q->tail, q->next, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&q->wants_room, __ATOMIC_SEQ_CST) && half_free(q) &&
	    __atomic_exchange_n(&q->wants_room, 0, __ATOMIC_SEQ_CST))
		event_write(q->room_fd);
}

void frame_queue_on_frame(struct frame_queue *q, void (*wake)(void *opaque), void *opaque)
{
	q->wake = wake;
	q->opaque = opaque;
}

bool frame_queue_arm(struct frame_queue *q)
{
	if (!q->wake)
		event_clear(q->fd);
	__atomic_store_n(&q->armed, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&q->head, __ATOMIC_SEQ_CST) == q->tail)
		return true;
	__atomic_store_n(&q->armed, 0, __ATOMIC_SEQ_CST);
	event_write(q->fd);
	return false;
}

void frame_queue_seen(struct frame_queue *q)
{
	event_clear(q->fd);
}

int frame_queue_fd(const struct frame_queue *q)
{
	return q->fd;
}
