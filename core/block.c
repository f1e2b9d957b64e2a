/* See block.h.
 *
 * The overlay has the geometry of the base: cluster n of the temporary file
 * stands for cluster n of the image, and a bitmap says which of them count. No
 * mapping table, so a lookup is one bit, and the host's sparse files do the
 * allocation. 4 KiB clusters match what guests write (filesystem blocks, pages),
 * so that filling a cluster up from the base is rare.
 */
#include "core/block.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/util.h"

#define CLUSTER 4096u
#define CLUSTER_SECTORS (CLUSTER / BLOCK_SECTOR)
#define MAX_BYTES (UINT64_C(1) << 56) /* far from any overflow in a byte offset */

struct block {
	char *path;
	int fd;
	enum block_mode mode;
	uint64_t bytes;   /* of the file or device */
	uint64_t sectors; /* bytes rounded up */
	int overlay;      /* -1 without */
	uint8_t *written; /* bit per cluster: the overlay has it */
};

/* ---- whole transfers ---- */

/* Reads what there is; the rest of @len is zero if it lies past @size. */
static int read_full(int fd, uint8_t *buf, size_t len, uint64_t offset, uint64_t size)
{
	size_t inside = offset >= size ? 0 : MIN(len, size - offset);
	size_t done = 0;

	while (done < inside) {
		ssize_t n = pread(fd, buf + done, inside - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
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

static bool cluster_written(const struct block *b, uint64_t c)
{
	return b->written[c / 8] >> (c % 8) & 1;
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

	if (cluster_written(b, c))
		return 0;
	ret = read_full(b->fd, buf, CLUSTER, c * CLUSTER, b->bytes);
	if (!ret)
		ret = write_full(b->overlay, buf, CLUSTER, c * CLUSTER);
	return ret;
}

static int overlay_read(struct block *b, uint8_t *buf, uint64_t sector, size_t count)
{
	while (count) {
		uint64_t c = sector / CLUSTER_SECTORS;
		bool over = cluster_written(b, c);
		size_t n = MIN(count, CLUSTER_SECTORS - sector % CLUSTER_SECTORS);
		int ret;

		/* As many clusters from the same file as possible. */
		while (n < count && cluster_written(b, ++c) == over)
			n += MIN(count - n, CLUSTER_SECTORS);
		if (over) /* a cluster in the overlay is always whole */
			ret = read_full(b->overlay, buf, n * BLOCK_SECTOR, sector * BLOCK_SECTOR,
					UINT64_MAX);
		else
			ret = read_full(b->fd, buf, n * BLOCK_SECTOR, sector * BLOCK_SECTOR,
					b->bytes);
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
		b->written[c / 8] |= (uint8_t)(1u << c % 8);
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
	b->fd = b->overlay = -1;
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
		uint64_t clusters = (b->bytes + CLUSTER - 1) / CLUSTER;

		b->overlay = overlay_open(err, path);
		if (b->overlay < 0)
			goto fail;
		b->written = calloc(clusters / 8 + 1, 1);
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

void block_close(struct block *b)
{
	if (!b)
		return;
	if (b->overlay >= 0)
		close(b->overlay);
	if (b->fd >= 0)
		close(b->fd); /* drops the lock */
	free(b->written);
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

int block_read(struct block *b, uint64_t sector, void *buf, size_t count)
{
	if (!in_range(b, sector, count))
		return -ERANGE;
	if (b->mode == BLOCK_SNAPSHOT)
		return overlay_read(b, buf, sector, count);
	return read_full(b->fd, buf, count * BLOCK_SECTOR, sector * BLOCK_SECTOR, b->bytes);
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
