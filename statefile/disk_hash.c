/* What a disk holds, as a number: see disk_hash.h.
 *
 * A disk may be larger than memory and the same one may be asked for again and again
 * (a machine that is saved every minute), so the hashes of its MiB-sized units are
 * kept with the disk; a write forgets those it touches. Holes are skipped by way of
 * SEEK_DATA. The rest is read by a few threads: one core does not keep up with a page
 * cache, and a disk likes more than one request at a time.
 */
#include "statefile/disk_hash.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/util.h"

enum { UNIT_UNKNOWN, UNIT_ZERO, UNIT_DATA };
enum { THREADS_MAX = 4, UNITS_A_THREAD = 64 };

/* One computation, by several threads. */
struct job {
	struct block *b;
	struct block_notes *h;
	uint64_t next;     /* atomic: the first unit nobody has looked at */
	uint64_t done;     /* atomic: units */
	int error;         /* atomic: errno of whoever failed */
	uint64_t total;
};

static uint64_t unit_of(uint64_t offset)
{
	return offset / BLOCK_UNIT;
}

/* Units that lie in holes need no reading. Devices and some filesystems know none. */
static void skip_holes(struct block *b, struct block_notes *h)
{
	uint64_t at = 0;

	while (at < block_base_bytes(b)) {
		off_t data = lseek(block_base_fd(b), (off_t)at, SEEK_DATA), hole;
		uint64_t first, end;

		if (data < 0 && errno != ENXIO)
			return;
		first = unit_of(at + BLOCK_UNIT - 1);
		end = data < 0 ? h->units : unit_of((uint64_t)data);
		for (uint64_t u = first; u < end; u++)
			h->mark[u] = UNIT_ZERO;
		if (data < 0)
			return;
		hole = lseek(block_base_fd(b), data, SEEK_HOLE);
		if (hole <= data)
			return;
		at = (uint64_t)hole;
	}
}

/* Reads a unit, padded with zeros. */
static int read_unit(const struct block *b, uint8_t *buf, uint64_t u)
{
	uint64_t offset = u * BLOCK_UNIT;
	size_t inside = MIN(block_base_bytes(b) - offset, (uint64_t)BLOCK_UNIT), done = 0;

	while (done < inside) {
		ssize_t n = pread(block_base_fd(b), buf + done, inside - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? errno : EIO;
		done += (size_t)n;
	}
	memset(buf + inside, 0, BLOCK_UNIT - inside);
	return 0;
}

/* The next unit that is to be computed; false when there is none left. */
static bool compute_one(struct job *j, uint8_t *buf)
{
	struct block_notes *h = j->h;
	uint64_t u;
	int error;

	do {
		u = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED);
		if (u >= h->units || __atomic_load_n(&j->error, __ATOMIC_RELAXED))
			return false;
	} while (h->mark[u] != UNIT_UNKNOWN);
	error = read_unit(j->b, buf, u);
	if (error) {
		__atomic_store_n(&j->error, error, __ATOMIC_RELAXED);
		return false;
	}
	if (!buf[0] && !memcmp(buf, buf + 1, BLOCK_UNIT - 1)) {
		h->mark[u] = UNIT_ZERO;
	} else {
		XXH128_canonical_t canonical;

		XXH128_canonicalFromHash(&canonical, XXH3_128bits(buf, BLOCK_UNIT));
		memcpy(h->note[u], &canonical, BLOCK_NOTE);
		h->mark[u] = UNIT_DATA;
	}
	__atomic_fetch_add(&j->done, 1, __ATOMIC_RELAXED);
	return true;
}

static void *helper(void *opaque)
{
	uint8_t *buf = malloc(BLOCK_UNIT);

	while (buf && compute_one(opaque, buf))
		;
	free(buf);
	return NULL;
}

static unsigned helpers_wanted(uint64_t units)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return (unsigned)MIN(units / UNITS_A_THREAD, (uint64_t)MAX(MIN(cpus, THREADS_MAX) - 1, 0));
}

static int compute(struct job *j, void (*step)(void *opaque, uint64_t done, uint64_t total),
		   void *opaque)
{
	uint8_t *buf = malloc(BLOCK_UNIT);
	pthread_t thread[THREADS_MAX];
	unsigned wanted = helpers_wanted(j->total), n = 0;
	sigset_t all, old;

	if (!buf)
		return ENOMEM;
	/* Signals are the program's own threads' business. Fewer threads do it, too. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (n < wanted && !pthread_create(&thread[n], NULL, helper, j))
		n++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	while (compute_one(j, buf)) {
		if (step)
			step(opaque, __atomic_load_n(&j->done, __ATOMIC_RELAXED) * BLOCK_UNIT,
			     j->total * BLOCK_UNIT);
	}
	while (n)
		pthread_join(thread[--n], NULL);
	free(buf);
	return j->error;
}

static void fold(const struct block_notes *h, uint8_t hash[DISK_HASH_SIZE])
{
	XXH3_state_t state;
	XXH128_canonical_t canonical;
	uint8_t number[8];

	_Static_assert(sizeof(canonical) == DISK_HASH_SIZE, "128 bits");
	XXH3_INITSTATE(&state);
	XXH3_128bits_reset(&state);
	for (uint64_t u = 0; u < h->units; u++) {
		if (h->mark[u] != UNIT_DATA)
			continue;
		store_le64(number, u);
		XXH3_128bits_update(&state, number, sizeof(number));
		XXH3_128bits_update(&state, h->note[u], BLOCK_NOTE);
	}
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
	memcpy(hash, &canonical, DISK_HASH_SIZE);
}

bool disk_hash(struct block *b, uint8_t hash[DISK_HASH_SIZE],
		void (*step)(void *opaque, uint64_t done, uint64_t total), void *opaque,
		struct error *err)
{
	struct job j = { .b = b };
	int ret = -block_flush(b);

	if (ret) {
		error_set(err, "%s: cannot be flushed: %s", block_path(b), strerror(ret));
		return false;
	}
	j.h = block_notes(b);
	if (!j.h) {
		error_set(err, "%s: out of memory", block_path(b));
		return false;
	}
	skip_holes(b, j.h);
	for (uint64_t u = 0; u < j.h->units; u++)
		j.total += j.h->mark[u] == UNIT_UNKNOWN;
	ret = j.total ? compute(&j, step, opaque) : 0;
	if (ret) {
		error_set(err, "%s: cannot be read: %s", block_path(b), strerror(ret));
		return false;
	}
	fold(j.h, hash);
	return true;
}
