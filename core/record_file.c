/* See record_file.h. */
#include "core/record_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/loop.h"
#include "core/util.h"

enum {
	BUFFER_SIZE = 256 * 1024,
	RECORDS_MAX = 8192,
	FLUSH_NS = 100000000,
	RETRY_NS = 1000000000,
};

#define QUIET_NS (10 * NS_PER_S) /* between two pairs of messages */

struct record_file {
	struct record_file_config cfg;
	struct loop *loop;   /* borrowed */
	char *path;          /* cfg.path */
	char *current;       /* the file being written: path or path.N */
	size_t current_size; /* of the text */
	uint64_t number;     /* N; 0: path itself */
	int fd;              /* -1: a FIFO nobody reads */
	bool regular;        /* has a size, can be cut back */
	bool fifo;
	bool starting;       /* begin or end is putting its records */

	uint8_t *buffer;
	size_t used;
	uint32_t *ends;      /* where in it each record ends */
	unsigned records;
	unsigned held;       /* of them not the header's */
	uint64_t offset;     /* size of the file: whole records */
	uint64_t rotate_at;  /* the size that starts the next file */
	struct timer timer;  /* armed only while something is unwritten */

	bool stalled;        /* the last attempt failed */
	bool told;
	char why[256];       /* it did */
	uint64_t lost;       /* since it stalled */
	int64_t told_at, retry_at; /* host clock, ns: the guest's may be set back */
};

static int64_t host_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* ---- trouble ---- */

static int64_t retry_ns(const struct record_file *f)
{
	return f->fd >= 0 && f->fifo ? FLUSH_NS : RETRY_NS; /* a slow reader reads again soon */
}

static void stall(struct record_file *f, const char *why)
{
	int64_t now = host_now();

	f->retry_at = now + retry_ns(f);
	if (f->stalled)
		return;
	f->stalled = true;
	snprintf(f->why, sizeof(f->why), "%s", why);
	f->told = !f->told_at || now - f->told_at >= QUIET_NS;
	if (!f->told)
		return;
	f->told_at = now;
	if (f->cfg.stalled)
		f->cfg.stalled(f->cfg.opaque, f->current, f->why);
}

static void resume(struct record_file *f)
{
	if (!f->stalled)
		return;
	f->stalled = false;
	if (f->told && f->cfg.resumed)
		f->cfg.resumed(f->cfg.opaque, f->current, f->lost);
	if (f->told)
		f->lost = 0; /* what was not told now is told the next time */
}

/* ---- writing ---- */

/* A reader that left and a size limit are errors to us, no signals to the program:
 * both are sent to the thread that writes, so it can hold and swallow them. */
static ssize_t write_quietly(int fd, const uint8_t *data, size_t size)
{
	static const struct timespec at_once;
	sigset_t set, old, pending;
	ssize_t n;
	int error;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	sigaddset(&set, SIGXFSZ);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	do {
		n = write(fd, data, size);
	} while (n < 0 && errno == EINTR);
	error = errno;
	if (n < 0 && (error == EPIPE || error == EFBIG)) {
		int sig = error == EPIPE ? SIGPIPE : SIGXFSZ;
		sigset_t one;

		sigemptyset(&one);
		sigaddset(&one, sig);
		if (!sigismember(&pending, sig))
			sigtimedwait(&one, NULL, &at_once);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = error;
	return n;
}

static void written(struct record_file *f, size_t n)
{
	unsigned gone = 0;

	while (gone < f->records && f->ends[gone] <= n)
		gone++;
	f->records -= gone;
	for (unsigned i = 0; i < f->records; i++)
		f->ends[i] = f->ends[i + gone] - n;
	f->held = MIN(f->held, f->records);
	memmove(f->buffer, f->buffer + n, f->used - n);
	f->offset += n;
	f->used -= n;
}

static void forget(struct record_file *f)
{
	f->used = 0;
	f->records = f->held = 0;
}

/* The end of the last record in the first @n bytes. */
static size_t whole(const struct record_file *f, size_t n)
{
	size_t end = 0;

	for (unsigned i = 0; i < f->records && f->ends[i] <= n; i++)
		end = f->ends[i];
	return end;
}

/* All of the buffer, or as many records as there is room for. */
static bool write_regular(struct record_file *f)
{
	size_t done = 0;

	while (done < f->used) {
		ssize_t n = write_quietly(f->fd, f->buffer + done, f->used - done);

		if (n <= 0) {
			int error = n < 0 ? errno : ENOSPC;

			written(f, whole(f, done));
			/* Should the cut fail, the next attempt writes over the rest. */
			if (ftruncate(f->fd, f->offset) < 0)
				error = errno;
			lseek(f->fd, f->offset, SEEK_SET);
			stall(f, strerror(error));
			return false;
		}
		done += n;
	}
	written(f, done);
	return true;
}

/* A pipe or a device takes part of it; the rest has to follow. */
static bool write_stream(struct record_file *f)
{
	while (f->used) {
		ssize_t n = write_quietly(f->fd, f->buffer, f->used);

		if (n > 0) {
			written(f, n);
			continue;
		}
		if (n < 0 && errno == EPIPE && f->fifo) {
			close(f->fd);
			f->fd = -1;
			f->lost += f->held;
			forget(f);
			stall(f, "nobody reads it");
		} else if (n == 0 || errno != EAGAIN) {
			stall(f, n == 0 ? "it takes no more" : strerror(errno));
		}
		return false;
	}
	return true;
}

static bool write_buffer(struct record_file *f)
{
	bool ok;

	if (f->fd < 0)
		return f->used == 0;
	ok = f->regular ? write_regular(f) : write_stream(f);
	if (ok)
		resume(f);
	return ok;
}

static void schedule(struct record_file *f)
{
	int64_t now, wait = f->stalled ? retry_ns(f) : FLUSH_NS;

	if (!f->used) {
		timer_disarm(&f->timer);
		return;
	}
	now = loop_now(f->loop);
	/* A restored machine's clock may have been set back under an armed timer. */
	if (!timer_armed(&f->timer) || f->timer.deadline - now > wait)
		timer_arm(&f->timer, now + wait);
}

bool record_file_flush(struct record_file *f)
{
	bool ok = write_buffer(f);

	schedule(f);
	return ok;
}

static void fire(void *opaque)
{
	record_file_flush(opaque);
}

/* ---- opening ---- */

static int open_path(struct record_file *f, struct error *err)
{
	int fd = open(f->current, O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
	struct stat st;

	if (fd < 0 && errno == ENXIO && !stat(f->current, &st) && S_ISFIFO(st.st_mode)) {
		f->fifo = true;
		return -1;
	}
	if (fd < 0) {
		error_set(err, "cannot write %s: %s", f->current, strerror(errno));
		return -1;
	}
	if (fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode) ||
				    S_ISCHR(st.st_mode))) {
		error_set(err, "cannot write %s: it is no file; give the name of one", f->current);
		close(fd);
		return -1;
	}
	f->regular = S_ISREG(st.st_mode);
	f->fifo = S_ISFIFO(st.st_mode);
	/* Two who write to one file destroy what both have. Not every file system knows locks. */
	if (f->regular && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
		error_set(err, "cannot write %s: another capture is being written to it; end that one, or give another name",
			  f->current);
		close(fd);
		return -1;
	}
	if (f->regular && ftruncate(fd, 0) < 0) {
		error_set(err, "cannot empty %s: %s", f->current, strerror(errno));
		close(fd);
		return -1;
	}
	return fd;
}

static void begin(struct record_file *f)
{
	f->offset = 0;
	f->rotate_at = f->cfg.rotate_bytes ? f->cfg.rotate_bytes : UINT64_MAX;
	f->starting = true;
	f->cfg.begin(f->cfg.opaque, f);
	f->starting = false;
}

static void end(struct record_file *f)
{
	f->starting = true;
	if (f->cfg.end)
		f->cfg.end(f->cfg.opaque, f);
	f->starting = false;
	write_buffer(f);
	forget(f);
}

/* A FIFO whose reader was missing. */
static bool reopen(struct record_file *f)
{
	if (f->stalled && host_now() < f->retry_at)
		return false;
	f->fd = open_path(f, NULL);
	if (f->fd < 0) {
		stall(f, "nobody reads it");
		return false;
	}
	begin(f);
	resume(f);
	return true;
}

struct record_file *record_file_create(struct loop *loop, const struct record_file_config *cfg,
				       struct error *err)
{
	struct record_file *f = calloc(1, sizeof(*f));
	struct error why = { "" };

	if (!f)
		goto no_memory;
	f->fd = -1;
	f->cfg = *cfg;
	f->loop = loop;
	f->path = strdup(cfg->path);
	f->current_size = strlen(cfg->path) + 24;
	f->current = malloc(f->current_size);
	f->buffer = malloc(BUFFER_SIZE);
	f->ends = calloc(RECORDS_MAX, sizeof(*f->ends));
	if (!f->path || !f->current || !f->buffer || !f->ends)
		goto no_memory;
	f->cfg.path = f->path;
	strcpy(f->current, f->path);
	f->fd = open_path(f, &why);
	if (f->fd < 0 && !f->fifo) {
		if (err)
			*err = why;
		goto fail;
	}
	if (cfg->rotate_bytes && !f->regular) {
		error_set(err, "cannot write %s: it is no regular file, so there is no size "
			       "at which another can follow it", f->path);
		goto fail;
	}
	timer_init(&f->timer, loop, "record-file", fire, f);
	if (f->fd >= 0)
		begin(f);
	record_file_flush(f);
	if (f->stalled) {
		error_set(err, "cannot write %s: %s", f->path, f->why);
		goto fail;
	}
	return f;
no_memory:
	error_set(err, "out of memory for a capture file");
fail:
	if (f) {
		if (f->timer.loop)
			timer_disarm(&f->timer);
		if (f->fd >= 0)
			close(f->fd);
		free(f->ends);
		free(f->buffer);
		free(f->current);
		free(f->path);
	}
	free(f);
	return NULL;
}

void record_file_destroy(struct record_file *f)
{
	if (!f)
		return;
	timer_disarm(&f->timer);
	if (f->fd >= 0 && write_buffer(f))
		end(f);
	if (f->fd >= 0)
		close(f->fd);
	free(f->ends);
	free(f->buffer);
	free(f->current);
	free(f->path);
	free(f);
}

/* ---- rotation ---- */

static void name_current(struct record_file *f, uint64_t number)
{
	if (number)
		snprintf(f->current, f->current_size, "%s.%llu", f->path,
			 (unsigned long long)number);
	else
		strcpy(f->current, f->path);
}

/* The file is full: finish it and begin the next. If that cannot be opened the old
 * one goes on, for as much again. */
static void rotate(struct record_file *f)
{
	struct error err = { "" };
	char why[256];
	int old = f->fd, fd;

	if ((f->stalled && host_now() < f->retry_at) || !write_buffer(f))
		return; /* the disk is full, not the file */
	name_current(f, f->number + 1);
	fd = open_path(f, &err);
	if (fd < 0 || !f->regular) {
		if (fd >= 0)
			close(fd);
		f->regular = true;
		f->fifo = false;
		f->rotate_at = f->offset + f->cfg.rotate_bytes;
		snprintf(why, sizeof(why), "no other file can follow it: %.200s",
			 err.text[0] ? err.text : "the next is no regular file");
		name_current(f, f->number);
		stall(f, why);
		f->stalled = false; /* it only grows on */
		return;
	}
	name_current(f, f->number);
	end(f);
	close(old);
	f->fd = fd;
	f->number++;
	if (f->cfg.rotate_files && f->number >= f->cfg.rotate_files) {
		name_current(f, f->number - f->cfg.rotate_files);
		unlink(f->current);
	}
	name_current(f, f->number);
	begin(f);
}

/* ---- records ---- */

static bool has_room(const struct record_file *f, size_t size)
{
	return f->used + size <= BUFFER_SIZE && f->records < RECORDS_MAX;
}

uint8_t *record_file_reserve(struct record_file *f, size_t size)
{
	if (f->fd < 0 && !reopen(f)) {
		f->lost++;
		return NULL;
	}
	if (!f->starting && f->offset + f->used + size > f->rotate_at)
		rotate(f);
	if (!has_room(f, size) && (!f->stalled || host_now() >= f->retry_at))
		record_file_flush(f);
	if (f->fd < 0 || !has_room(f, size)) {
		/* A reader that is too slow is news only when it costs something. */
		if (!f->stalled)
			stall(f, "its reader is too slow");
		f->lost++;
		return NULL;
	}
	return f->buffer + f->used;
}

bool record_file_ready(const struct record_file *f)
{
	return f->fd >= 0 && !f->stalled;
}

void record_file_commit(struct record_file *f, size_t size)
{
	f->used += size;
	f->ends[f->records++] = f->used;
	f->held += !f->starting;
	if (!f->starting)
		schedule(f);
}
