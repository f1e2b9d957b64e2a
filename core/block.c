/* See block.h.
 *
 * The overlay has the geometry of the base: cluster n of the temporary file
 * stands for cluster n of the image, and a bitmap says which of them count. No
 * mapping table, so a lookup is one bit, and the host's sparse files do the
 * allocation. 4 KiB clusters match what guests write (filesystem blocks, pages),
 * so that filling a cluster up from the base is rare.
 *
 * A machine restored from a state image has the overlay it was saved with as a layer
 * of its own between the two: clusters that are read where they lie in that file, so
 * that any number of copies share it.
 */
#include "core/block.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/loop.h"
#include "core/util.h"

#define CLUSTER BLOCK_CLUSTER
#define CLUSTER_SECTORS (CLUSTER / BLOCK_SECTOR)
#define MAX_BYTES (UINT64_C(1) << 56) /* far from any overflow in a byte offset */

enum { WARM_BYTES = 64 * 1024 };

enum request { REQUEST_NONE, REQUEST_WARM, REQUEST_FLUSH, REQUEST_END };

/* The thread of an image. `lock` covers request to ret. */
struct block_worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed, over;
	enum request request; /* NONE: idle */
	uint64_t sector;
	size_t count;
	bool finished;        /* the answer is in ret; the loop has not seen it yet */
	int ret;
	/* The loop's thread only. */
	bool busy;
	int event;            /* the worker signals the end of a request */
	struct loop *loop;    /* borrowed */
	struct watch *watch;
	void (*done)(void *opaque, int ret);
	void *opaque;
};

struct block {
	struct block_worker *worker; /* NULL: everything waits */
	char *path;
	int fd;
	enum block_mode mode;
	uint64_t bytes;   /* of the file or device */
	uint64_t sectors; /* bytes rounded up */
	int overlay;      /* -1 without */
	uint8_t *written; /* bit per cluster: the overlay has it */
	int lower;        /* -1: nothing between the base and the overlay */
	uint64_t lower_offset; /* where its cluster 0 would be */
	uint8_t *in_lower; /* bit per cluster: it has it; constant while a request runs */
	struct block_notes notes; /* mark NULL until somebody asked */
};

/* ---- whole transfers ---- */

/* Reads what there is; the rest of @len is zero if it lies past @size.
 * @nowait: -EAGAIN for what the host does not have in memory, where it can tell. */
static int read_full(int fd, uint8_t *buf, size_t len, uint64_t offset, uint64_t size,
		     bool nowait)
{
	size_t inside = offset >= size ? 0 : MIN(len, size - offset);
	size_t done = 0;

	while (done < inside) {
		struct iovec iov = { buf + done, inside - done };
		ssize_t n = preadv2(fd, &iov, 1, (off_t)(offset + done), nowait ? RWF_NOWAIT : 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EOPNOTSUPP && nowait) {
			nowait = false;
			continue;
		}
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO; /* the image became shorter since it was opened */
		done += (size_t)n;
	}
	memset(buf + inside, 0, len - inside);
	return 0;
}

static int write_full(int fd, const uint8_t *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

/* ---- overlay ---- */

static bool bit(const uint8_t *bits, uint64_t n)
{
	return bits[n / 8] >> (n % 8) & 1;
}

static void set_bit(uint8_t *bits, uint64_t n)
{
	bits[n / 8] |= (uint8_t)(1u << n % 8);
}

/* Which file has a cluster. */
enum layer { LAYER_BASE, LAYER_LOWER, LAYER_OVERLAY };

static enum layer layer_of(const struct block *b, uint64_t c)
{
	if (bit(b->written, c))
		return LAYER_OVERLAY;
	return b->in_lower && bit(b->in_lower, c) ? LAYER_LOWER : LAYER_BASE;
}

static int layer_read(struct block *b, enum layer layer, uint8_t *buf, size_t len, uint64_t offset,
		      bool nowait)
{
	/* A cluster above the base is always whole. */
	switch (layer) {
	case LAYER_OVERLAY:
		return read_full(b->overlay, buf, len, offset, UINT64_MAX, nowait);
	case LAYER_LOWER:
		return read_full(b->lower, buf, len, b->lower_offset + offset, UINT64_MAX, nowait);
	case LAYER_BASE:
		break;
	}
	return read_full(b->fd, buf, len, offset, b->bytes, nowait);
}

static int overlay_open(struct error *err, const char *path)
{
	const char *dir = getenv("TMPDIR");
	char name[PATH_MAX];
	int fd;

	if (!dir || !*dir)
		dir = "/var/tmp";
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	/* Filesystems without O_TMPFILE. */
	if ((size_t)snprintf(name, sizeof(name), "%s/gannet-XXXXXX", dir) < sizeof(name)) {
		fd = mkostemp(name, O_CLOEXEC);
		if (fd >= 0) {
			unlink(name);
			return fd;
		}
	}
	error_set(err, "%s: no temporary file for the snapshot in %s: %s; set TMPDIR to a writable directory",
		  path, dir, strerror(errno));
	return -1;
}

/* Bring the rest of a cluster that is about to be written in part. */
static int cluster_fill(struct block *b, uint64_t c)
{
	uint8_t buf[CLUSTER];
	int ret;

	if (bit(b->written, c))
		return 0;
	ret = layer_read(b, layer_of(b, c), buf, CLUSTER, c * CLUSTER, false);
	if (!ret)
		ret = write_full(b->overlay, buf, CLUSTER, c * CLUSTER);
	return ret;
}

static int overlay_read(struct block *b, uint8_t *buf, uint64_t sector, size_t count, bool nowait)
{
	while (count) {
		uint64_t c = sector / CLUSTER_SECTORS;
		enum layer layer = layer_of(b, c);
		size_t n = MIN(count, CLUSTER_SECTORS - sector % CLUSTER_SECTORS);
		int ret;

		/* As many clusters from the same file as possible. */
		while (n < count && layer_of(b, ++c) == layer)
			n += MIN(count - n, CLUSTER_SECTORS);
		ret = layer_read(b, layer, buf, n * BLOCK_SECTOR, sector * BLOCK_SECTOR, nowait);
		if (ret)
			return ret;
		buf += n * BLOCK_SECTOR;
		sector += n;
		count -= n;
	}
	return 0;
}

static int overlay_write(struct block *b, const uint8_t *buf, uint64_t sector, size_t count)
{
	uint64_t first = sector / CLUSTER_SECTORS;
	uint64_t last = (sector + count - 1) / CLUSTER_SECTORS;
	int ret = 0;

	if (sector % CLUSTER_SECTORS)
		ret = cluster_fill(b, first);
	/* The last cluster of an image is filled too, unless its end is written:
	 * the overlay must hold it whole. */
	if (!ret && (sector + count) % CLUSTER_SECTORS)
		ret = cluster_fill(b, last);
	if (!ret)
		ret = write_full(b->overlay, buf, count * BLOCK_SECTOR, sector * BLOCK_SECTOR);
	if (ret)
		return ret;
	for (uint64_t c = first; c <= last; c++)
		set_bit(b->written, c);
	return 0;
}

/* ---- opening ---- */

static int open_fd(const char *path, enum block_mode mode, struct stat *st, struct error *err)
{
	int flags = (mode == BLOCK_RW ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	int fd;

	if (stat(path, st) < 0) {
		error_set(err, "%s: %s", path, errno == ENOENT ? "no such file" : strerror(errno));
		return -1;
	}
	if (S_ISDIR(st->st_mode)) {
		error_set(err, "%s: is a directory; a disk is an image file or a block device", path);
		return -1;
	}
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode)) {
		error_set(err, "%s: is neither a file nor a block device", path);
		return -1;
	}
	if (S_ISBLK(st->st_mode) && mode == BLOCK_RW)
		flags |= O_EXCL; /* not while the host has it mounted */
	fd = open(path, flags);
	if (fd >= 0 && fstat(fd, st) == 0)
		return fd;
	if (errno == EBUSY)
		error_set(err, "%s: the host uses this device (mounted?); open it with -snapshot", path);
	else if (mode == BLOCK_RW && (errno == EACCES || errno == EROFS || errno == EPERM) &&
		 access(path, R_OK) == 0)
		error_set(err, "%s: cannot be written (%s); open it with -snapshot", path,
			  strerror(errno));
	else
		error_set(err, "%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Advisory: other emulators and tools that lock images are noticed, nobody else.
 * A snapshot reads what is there even while somebody writes it, as the message
 * about a lock recommends; it still keeps later writers away. */
static bool lock_image(const struct block *b, struct error *err)
{
	if (flock(b->fd, (b->mode == BLOCK_RW ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0)
		return true;
	if (errno != EWOULDBLOCK || b->mode == BLOCK_SNAPSHOT)
		return true; /* a filesystem without locks is no reason to refuse */
	error_set(err, "%s: is in use by another process or drive; open it with -snapshot", b->path);
	return false;
}

struct block *block_open(const char *path, enum block_mode mode, struct error *err)
{
	struct block *b = calloc(1, sizeof(*b));
	struct stat st;

	if (!b) {
		error_set(err, "%s: out of memory", path);
		return NULL;
	}
	b->fd = b->overlay = b->lower = -1;
	b->mode = mode;
	b->path = strdup(path);
	if (!b->path) {
		error_set(err, "%s: out of memory", path);
		goto fail;
	}
	b->fd = open_fd(path, mode, &st, err);
	if (b->fd < 0)
		goto fail;
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(b->fd, BLKGETSIZE64, &b->bytes) < 0) {
			error_set(err, "%s: size of the device: %s", path, strerror(errno));
			goto fail;
		}
	} else {
		b->bytes = (uint64_t)st.st_size;
	}
	if (b->bytes == 0) {
		error_set(err, "%s: the image is 0 bytes; a disk needs at least one 512-byte sector",
			  path);
		goto fail;
	}
	if (b->bytes > MAX_BYTES) {
		error_set(err, "%s: the image has %llu bytes; a disk can have at most %llu", path,
			  (unsigned long long)b->bytes, (unsigned long long)MAX_BYTES);
		goto fail;
	}
	b->sectors = (b->bytes + BLOCK_SECTOR - 1) / BLOCK_SECTOR;
	if (!lock_image(b, err))
		goto fail;
	if (mode == BLOCK_SNAPSHOT) {
		b->overlay = overlay_open(err, path);
		if (b->overlay < 0)
			goto fail;
		b->written = calloc(block_clusters(b) / 8 + 1, 1);
		if (!b->written) {
			error_set(err, "%s: out of memory for the snapshot of %llu bytes", path,
				  (unsigned long long)b->bytes);
			goto fail;
		}
	}
	return b;
fail:
	block_close(b);
	return NULL;
}

static void worker_destroy(struct block_worker *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->request = REQUEST_END;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	loop_unwatch(w->watch);
	close(w->event);
	pthread_cond_destroy(&w->changed);
	pthread_cond_destroy(&w->over);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void block_close(struct block *b)
{
	if (!b)
		return;
	worker_destroy(b->worker);
	if (b->overlay >= 0)
		close(b->overlay);
	if (b->lower >= 0)
		close(b->lower);
	if (b->fd >= 0)
		close(b->fd); /* drops the lock */
	free(b->written);
	free(b->in_lower);
	free(b->notes.mark);
	free(b->notes.note);
	free(b->path);
	free(b);
}

/* ---- what a drive calls ---- */

const char *block_path(const struct block *b)
{
	return b->path;
}

uint64_t block_sectors(const struct block *b)
{
	return b->sectors;
}

bool block_writable(const struct block *b)
{
	return b->mode != BLOCK_RO;
}

enum block_mode block_mode(const struct block *b)
{
	return b->mode;
}

static bool in_range(const struct block *b, uint64_t sector, size_t count)
{
	return sector <= b->sectors && count <= b->sectors - sector;
}

static int read_sectors(struct block *b, uint64_t sector, void *buf, size_t count, bool nowait)
{
	if (!in_range(b, sector, count))
		return -ERANGE;
	if (b->mode == BLOCK_SNAPSHOT)
		return overlay_read(b, buf, sector, count, nowait);
	return read_full(b->fd, buf, count * BLOCK_SECTOR, sector * BLOCK_SECTOR, b->bytes, nowait);
}

int block_read(struct block *b, uint64_t sector, void *buf, size_t count)
{
	return read_sectors(b, sector, buf, count, false);
}

int block_read_nowait(struct block *b, uint64_t sector, void *buf, size_t count)
{
	return read_sectors(b, sector, buf, count, b->worker != NULL);
}

static void notes_forget(struct block *b, uint64_t offset, uint64_t len)
{
	uint64_t first = offset / BLOCK_UNIT, last = (offset + len - 1) / BLOCK_UNIT;

	if (b->notes.mark)
		memset(b->notes.mark + first, 0, last - first + 1);
}

int block_write(struct block *b, uint64_t sector, const void *buf, size_t count)
{
	uint64_t end;
	int ret;

	if (!in_range(b, sector, count))
		return -ERANGE;
	if (b->mode == BLOCK_RO)
		return -EROFS;
	if (!count)
		return 0;
	if (b->mode == BLOCK_SNAPSHOT)
		return overlay_write(b, buf, sector, count);
	notes_forget(b, sector * BLOCK_SECTOR, count * BLOCK_SECTOR);
	ret = write_full(b->fd, buf, count * BLOCK_SECTOR, sector * BLOCK_SECTOR);
	end = (sector + count) * BLOCK_SECTOR;
	if (!ret && end > b->bytes)
		b->bytes = end; /* the padded last sector is whole now */
	return ret;
}

int block_flush(struct block *b)
{
	if (b->mode == BLOCK_RW && fdatasync(b->fd) < 0)
		return -errno;
	return 0;
}

/* ---- state images ---- */

struct block_notes *block_notes(struct block *b)
{
	struct block_notes *n = &b->notes;

	if (n->mark)
		return n;
	n->units = (b->sectors * BLOCK_SECTOR + BLOCK_UNIT - 1) / BLOCK_UNIT;
	n->note = calloc(n->units, sizeof(*n->note)); /* the host provides what is used */
	n->mark = n->note ? calloc(n->units, 1) : NULL;
	if (n->mark)
		return n;
	free(n->note);
	n->note = NULL;
	return NULL;
}

int block_base_fd(const struct block *b)
{
	return b->fd;
}

uint64_t block_base_bytes(const struct block *b)
{
	return b->bytes;
}

uint64_t block_clusters(const struct block *b)
{
	return (b->bytes + CLUSTER - 1) / CLUSTER;
}

int block_overlay_fd(const struct block *b)
{
	return b->overlay;
}

void block_overlay_runs(const struct block *b,
			void (*run)(void *opaque, uint64_t first, uint64_t count), void *opaque)
{
	uint64_t clusters = block_clusters(b), first = 0, n = 0;

	if (!b->written)
		return;
	for (uint64_t c = 0; c < clusters; c++) {
		if (!n && c % 8 == 0 && !b->written[c / 8]) {
			c += 7;
			continue;
		}
		if (bit(b->written, c)) {
			if (!n)
				first = c;
			n++;
		} else if (n) {
			run(opaque, first, n);
			n = 0;
		}
	}
	if (n)
		run(opaque, first, n);
}

bool block_overlay_below(struct block *b, int fd, uint64_t offset, struct error *err)
{
	b->in_lower = calloc(block_clusters(b) / 8 + 1, 1);
	b->lower = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	b->lower_offset = offset;
	if (b->in_lower && b->lower >= 0)
		return true;
	error_set(err, "%s: %s", b->path, b->in_lower ? strerror(errno) : "out of memory");
	if (b->lower >= 0)
		close(b->lower);
	b->lower = -1;
	free(b->in_lower);
	b->in_lower = NULL;
	return false;
}

bool block_overlay_add(struct block *b, uint64_t first, uint64_t count)
{
	uint64_t clusters = block_clusters(b);

	if (!b->written || first > clusters || count > clusters - first)
		return false;
	for (uint64_t c = first; c < first + count; c++)
		set_bit(b->in_lower ? b->in_lower : b->written, c);
	return true;
}

bool block_overlay_merge(struct block *b, struct error *err)
{
	uint64_t clusters = block_clusters(b);

	if (!b->in_lower)
		return true;
	for (uint64_t c = 0; c < clusters; c++) {
		int ret;

		if (!b->in_lower[c / 8]) {
			c |= 7;
			continue;
		}
		if (layer_of(b, c) != LAYER_LOWER)
			continue;
		ret = cluster_fill(b, c);
		if (ret) {
			error_set(err, "%s: the overlay's temporary file: %s; set TMPDIR to a directory with room",
				  b->path, strerror(-ret));
			return false;
		}
		set_bit(b->written, c);
	}
	close(b->lower);
	b->lower = -1;
	free(b->in_lower);
	b->in_lower = NULL;
	return true;
}

/* ---- the worker ---- */

/* Read and forget: what counts is that the host has it in memory then. What lies
 * below the overlay never changes while a request runs, and the overlay's own pages
 * are in memory as a rule, so the bitmap of what is written is not looked at from
 * this thread. */
static void warm(const struct block *b, uint64_t sector, size_t count)
{
	uint8_t *buf = malloc(WARM_BYTES);
	uint64_t offset = sector * BLOCK_SECTOR;
	uint64_t end = offset + MIN(count, (size_t)WARM_BYTES / BLOCK_SECTOR) * BLOCK_SECTOR;
	bool well = buf != NULL; /* else the caller's own read will say why */

	while (well && offset < end) {
		uint64_t c = offset / CLUSTER;
		bool lower = b->in_lower && bit(b->in_lower, c);
		uint64_t stop = (c + 1) * CLUSTER;

		while (stop < end && lower == (b->in_lower && bit(b->in_lower, stop / CLUSTER)))
			stop += CLUSTER;
		stop = MIN(stop, end);
		if (lower)
			well = pread(b->lower, buf, stop - offset, (off_t)(b->lower_offset + offset)) >= 0;
		else
			well = pread(b->fd, buf, stop - offset, (off_t)offset) >= 0;
		offset = stop;
	}
	free(buf);
}

static void *worker_main(void *opaque)
{
	struct block *b = opaque;
	struct block_worker *w = b->worker;
	const uint64_t one = 1;

	pthread_mutex_lock(&w->lock);
	while (w->request != REQUEST_END) {
		enum request request = w->request;
		ssize_t n;
		int ret = 0;

		if (request == REQUEST_NONE) {
			pthread_cond_wait(&w->changed, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		if (request == REQUEST_WARM)
			warm(b, w->sector, w->count);
		else
			ret = block_flush(b);
		pthread_mutex_lock(&w->lock);
		w->ret = ret;
		w->finished = true;
		if (w->request != REQUEST_END)
			w->request = REQUEST_NONE;
		n = write(w->event, &one, sizeof(one));
		(void)n; /* cannot fail short of 2^64 requests */
		pthread_cond_signal(&w->over);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void worker_ready(void *opaque, unsigned events)
{
	struct block_worker *w = opaque;
	uint64_t count;
	bool finished;
	int ret;

	if (read(w->event, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&w->lock);
	finished = w->finished;
	w->finished = false;
	ret = w->ret;
	pthread_mutex_unlock(&w->lock);
	if (finished) {
		w->busy = false;
		w->done(w->opaque, ret);
	}
}

void block_settle(struct block *b)
{
	struct block_worker *w = b->worker;

	if (!w || !w->busy)
		return;
	pthread_mutex_lock(&w->lock);
	while (!w->finished)
		pthread_cond_wait(&w->over, &w->lock);
	pthread_mutex_unlock(&w->lock);
	worker_ready(w, LOOP_READ);
}

bool block_attach(struct block *b, struct loop *loop, void (*done)(void *opaque, int ret),
		  void *opaque, struct error *err)
{
	struct block_worker *w = calloc(1, sizeof(*w));
	sigset_t all, old;
	int rc;

	if (!w) {
		error_set(err, "%s: out of memory", b->path);
		return false;
	}
	w->loop = loop;
	w->done = done;
	w->opaque = opaque;
	w->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (w->event < 0) {
		error_set(err, "%s: %s", b->path, strerror(errno));
		goto no_event;
	}
	w->watch = loop_watch(loop, w->event, LOOP_READ, worker_ready, w, err);
	if (!w->watch)
		goto no_watch;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	pthread_cond_init(&w->over, NULL);
	b->worker = w;
	/* Signals are the program's own threads' business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&w->thread, NULL, worker_main, b);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!rc)
		return true;
	error_set(err, "%s: cannot start a thread: %s", b->path, strerror(rc));
	b->worker = NULL;
	pthread_cond_destroy(&w->changed);
	pthread_cond_destroy(&w->over);
	pthread_mutex_destroy(&w->lock);
	loop_unwatch(w->watch);
no_watch:
	close(w->event);
no_event:
	free(w);
	return false;
}

static bool worker_start(struct block *b, enum request request, uint64_t sector, size_t count)
{
	struct block_worker *w = b->worker;

	if (!w || w->busy)
		return false;
	w->busy = true;
	pthread_mutex_lock(&w->lock);
	w->request = request;
	w->sector = sector;
	w->count = count;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
	return true;
}

bool block_start_warm(struct block *b, uint64_t sector, size_t count)
{
	return in_range(b, sector, count) && worker_start(b, REQUEST_WARM, sector, count);
}

bool block_start_flush(struct block *b)
{
	return b->mode == BLOCK_RW && worker_start(b, REQUEST_FLUSH, 0, 0);
}
