/* Disk images: a host file or block device as an array of 512-byte sectors.
 *
 * Reads and writes are synchronous and whole: short transfers and EINTR are
 * finished here, and what fails comes back as -errno for the drive to report to
 * its guest. In BLOCK_SNAPSHOT mode the base is never written: clusters that the
 * guest writes go to an unlinked sparse temporary file, at the same offset.
 *
 * An image whose size is not a multiple of 512 has a last sector that reads as
 * zero past the end of the file; writing that sector makes the file whole.
 */
#ifndef GANNET_CORE_BLOCK_H
#define GANNET_CORE_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct loop;

#define BLOCK_SECTOR 512u
#define BLOCK_CLUSTER 4096u /* unit of an overlay */

enum block_mode {
	BLOCK_RW,       /* writes reach the image; one writer at a time */
	BLOCK_RO,       /* writes fail with -EROFS */
	BLOCK_SNAPSHOT, /* writes go to a temporary overlay */
};

struct block;

/**
 * block_open - open a disk image or a host block device
 * @path: kept for block_path() as it is given; messages start with it
 *
 * Refused with one line in @err: missing, unreadable, empty, a directory or
 * something else that is not a disk, not writable (BLOCK_RW), in use by another
 * process (advisory flock: shared for readers, exclusive for BLOCK_RW).
 */
struct block *block_open(const char *path, enum block_mode mode, struct error *err);
/** block_close - NULL is legal; an overlay is lost */
void block_close(struct block *b);

const char *block_path(const struct block *b);
/** block_sectors - size in units of 512 bytes, the last one possibly padded */
uint64_t block_sectors(const struct block *b);
bool block_writable(const struct block *b);
enum block_mode block_mode(const struct block *b);

/**
 * block_read / block_write - @count sectors from @sector on
 * Return 0, or -errno: -ERANGE past the end, -EROFS, what the host said.
 * After an error in the middle, what @buf or the image holds is unspecified.
 */
int block_read(struct block *b, uint64_t sector, void *buf, size_t count);
int block_write(struct block *b, uint64_t sector, const void *buf, size_t count);
/** block_flush - what was written is on the medium when this returns 0.
 *  An overlay does not outlive the process, so there is nothing to do for it. */
int block_flush(struct block *b);

/* What may take long on the host - data that is not in its page cache, a flush -
 * can be waited for in a thread of the image's own, one request at a time, so
 * that the guest runs on. The thread touches no buffer of the caller's: reading
 * warms the cache, and the caller then reads again. */

/**
 * block_attach - switch this on
 * @done: called in the loop's thread when a request is over; @ret as block_flush()
 * Returns false with @err set, and the image then works as before.
 */
bool block_attach(struct block *b, struct loop *loop, void (*done)(void *opaque, int ret),
		  void *opaque, struct error *err);
/** block_read_nowait - block_read(), or -EAGAIN if the host would have to wait for the medium */
int block_read_nowait(struct block *b, uint64_t sector, void *buf, size_t count);
/** block_start_warm/flush - begin; false: not attached, or busy: do it the waiting way */
bool block_start_warm(struct block *b, uint64_t sector, size_t count);
bool block_start_flush(struct block *b);
/** block_settle - nothing is under way when this returns: waits, and calls @done at once */
void block_settle(struct block *b);

/* ---- state images: which disk it was, and what was written over it ---- */

enum { BLOCK_UNIT = 1 << 20, BLOCK_NOTE = 16 };

/* What somebody wants to remember of each MiB of the base, so as not to read it again.
 * block_write() sets the marks of those that it changes to 0, which they all are at first. */
struct block_notes {
	uint64_t units;
	uint8_t *mark;
	uint8_t (*note)[BLOCK_NOTE];
};

/** block_notes - owned by @b; NULL: out of memory */
struct block_notes *block_notes(struct block *b);
/** block_base_fd - the image itself, for reading; an overlay does not count */
int block_base_fd(const struct block *b);
/** block_base_bytes - its size, which need not be whole sectors */
uint64_t block_base_bytes(const struct block *b);

/** block_clusters - how many units of BLOCK_CLUSTER bytes the disk has, the last one padded */
uint64_t block_clusters(const struct block *b);
/** block_overlay_fd - the overlay's file: cluster n at n * BLOCK_CLUSTER; -1: there is none */
int block_overlay_fd(const struct block *b);
/** block_overlay_runs - which clusters are in it, in order */
void block_overlay_runs(const struct block *b,
			void (*run)(void *opaque, uint64_t first, uint64_t count), void *opaque);
/**
 * block_overlay_below - put a layer of clusters between the base and an empty overlay
 * @fd: has cluster n at @offset + n * BLOCK_CLUSTER and never changes; duplicated
 * It starts with none; block_overlay_add() names them.
 */
bool block_overlay_below(struct block *b, int fd, uint64_t offset, struct error *err);
/** block_overlay_add - these clusters are in the layer below, or without one in the overlay's
 *  file; false: the disk does not have them */
bool block_overlay_add(struct block *b, uint64_t first, uint64_t count);
/** block_overlay_merge - copy the layer below into the overlay, which then is all there is.
 *  Not while a request is under way. */
bool block_overlay_merge(struct block *b, struct error *err);

#endif
