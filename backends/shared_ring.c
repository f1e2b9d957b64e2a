/* See shared_ring.h. The memory: a page with the two positions and the two wishes, then
 * the ring of records: length (4 bytes), 4 unused, the frame, padding to 8. A record
 * that would wrap is preceded by the length SKIP: go on at the start.
 *
 * Sleeping is Dekker's: write the wish, then look at the other's position; the other
 * writes its position, then looks at the wish; both in sequentially consistent order.
 */
#include "backends/shared_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/net.h"
#include "core/util.h"

#define SKIP UINT32_MAX

enum {
	HEAD_SIZE = 4096,
	RECORD_HEAD = 8,
	SIZE_MIN = 64 * 1024,
	SIZE_MAX_ = 16 * 1024 * 1024,
};

struct shared_ring_head {
	_Alignas(64) uint64_t written; /* producer: bytes ever */
	_Alignas(64) uint64_t read;    /* consumer: bytes ever */
	uint64_t read_frames;          /* consumer */
	_Alignas(64) uint32_t sleeps;  /* consumer's wish */
	_Alignas(64) uint32_t waits;   /* producer's wish */
};

static bool map(struct shared_ring *r, int fd, size_t size, struct error *err)
{
	void *p = mmap(NULL, HEAD_SIZE + size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED) {
		error_set(err, "cannot map %zu bytes of shared memory: %s", HEAD_SIZE + size,
			  strerror(errno));
		return false;
	}
	*r = (struct shared_ring){ .head = p, .data = (uint8_t *)p + HEAD_SIZE, .size = size };
	return true;
}

bool shared_ring_create(struct shared_ring *r, size_t size, int *fd, struct error *err)
{
	*fd = memfd_create("gannet-loopback", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*fd < 0 || ftruncate(*fd, HEAD_SIZE + size) ||
	    fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		error_set(err, "no shared memory: %s", strerror(errno));
	} else if (map(r, *fd, size, err)) {
		r->head->sleeps = 1;
		return true;
	}
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	return false;
}

bool shared_ring_attach(struct shared_ring *r, int fd, struct error *err)
{
	struct statfs fs;
	struct stat st;
	size_t size;
	int seals;

	/* What can shrink, or is not plain memory, kills who reads it with SIGBUS. */
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) || fstatfs(fd, &fs) ||
	    fs.f_type != TMPFS_MAGIC) {
		error_set(err, "what it sent is no sealed memory");
		return false;
	}
	size = st.st_size - HEAD_SIZE;
	if (st.st_size < HEAD_SIZE + SIZE_MIN || st.st_size > HEAD_SIZE + SIZE_MAX_ ||
	    (size & (size - 1))) {
		error_set(err, "its memory has an impossible size, %lld", (long long)st.st_size);
		return false;
	}
	return map(r, fd, size, err);
}

void shared_ring_finish(struct shared_ring *r)
{
	if (r->head)
		munmap(r->head, HEAD_SIZE + r->size);
	r->head = NULL;
}

static size_t record_size(size_t len)
{
	return RECORD_HEAD + ((len + 7) & ~(size_t)7);
}

/* ---- producer ---- */

static bool room(struct shared_ring *r, size_t need)
{
	if (need <= r->size - (r->pos - r->seen))
		return true;
	r->seen = __atomic_load_n(&r->head->read, __ATOMIC_SEQ_CST);
	if (r->pos - r->seen > r->size) {
		r->bad = true;
		r->seen = r->pos - r->size;
		return false;
	}
	return need <= r->size - (r->pos - r->seen);
}

/* What a frame takes, with what has to be skipped before it. */
static size_t needed(const struct shared_ring *r, size_t len)
{
	size_t to_end = r->size - (r->pos & (r->size - 1)), record = record_size(len);

	return record <= to_end ? record : to_end + record;
}

bool shared_ring_push(struct shared_ring *r, const uint8_t *frame, size_t len, bool *bell)
{
	size_t at = r->pos & (r->size - 1), need = needed(r, len);
	uint32_t word = SKIP;

	*bell = false;
	if (r->bad || !room(r, need))
		return false;
	if (need > record_size(len)) {
		memcpy(r->data + at, &word, sizeof(word));
		at = 0;
	}
	word = len;
	memcpy(r->data + at, &word, sizeof(word));
	memcpy(r->data + at + RECORD_HEAD, frame, len);
	r->pos += need;
	r->frames++;
	__atomic_store_n(&r->head->written, r->pos, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&r->head->sleeps, __ATOMIC_SEQ_CST))
		*bell = __atomic_exchange_n(&r->head->sleeps, 0, __ATOMIC_SEQ_CST);
	return true;
}

bool shared_ring_want_room(struct shared_ring *r, size_t len)
{
	__atomic_store_n(&r->head->waits, 1, __ATOMIC_SEQ_CST);
	if (!room(r, needed(r, len)))
		return true;
	__atomic_store_n(&r->head->waits, 0, __ATOMIC_SEQ_CST);
	return false;
}

uint64_t shared_ring_unread(const struct shared_ring *r)
{
	uint64_t n = r->frames - __atomic_load_n(&r->head->read_frames, __ATOMIC_RELAXED);

	return MIN(n, r->frames);
}

/* ---- consumer ---- */

size_t shared_ring_pop(struct shared_ring *r, uint8_t *frame)
{
	for (unsigned tries = 0; tries < 2 && !r->bad; tries++) {
		uint64_t written = __atomic_load_n(&r->head->written, __ATOMIC_ACQUIRE);
		size_t at = r->pos & (r->size - 1), to_end = r->size - at;
		uint64_t there = written - r->pos;
		uint32_t len;

		if (!there)
			return 0;
		if (there > r->size || there < RECORD_HEAD || there & 7)
			break;
		len = __atomic_load_n((uint32_t *)(r->data + at), __ATOMIC_RELAXED);
		if (len == SKIP && to_end <= there) {
			r->pos += to_end;
			continue;
		}
		if (!len || len > NET_FRAME_MAX || record_size(len) > MIN(there, to_end))
			break;
		memcpy(frame, r->data + at + RECORD_HEAD, len);
		r->pos += record_size(len);
		r->frames++;
		__atomic_store_n(&r->head->read_frames, r->frames, __ATOMIC_RELAXED);
		__atomic_store_n(&r->head->read, r->pos, __ATOMIC_RELEASE);
		return len;
	}
	r->bad = true;
	return 0;
}

bool shared_ring_empty(const struct shared_ring *r)
{
	return r->bad || __atomic_load_n(&r->head->written, __ATOMIC_SEQ_CST) == r->pos;
}

bool shared_ring_popped(struct shared_ring *r)
{
	uint64_t there;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&r->head->waits, __ATOMIC_SEQ_CST))
		return false;
	there = __atomic_load_n(&r->head->written, __ATOMIC_SEQ_CST) - r->pos;
	return there <= r->size / 2 && __atomic_exchange_n(&r->head->waits, 0, __ATOMIC_SEQ_CST);
}

bool shared_ring_arm(struct shared_ring *r)
{
	__atomic_store_n(&r->head->sleeps, 1, __ATOMIC_SEQ_CST);
	if (shared_ring_empty(r))
		return true;
	__atomic_store_n(&r->head->sleeps, 0, __ATOMIC_SEQ_CST);
	return false;
}
