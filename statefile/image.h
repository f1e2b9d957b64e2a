/* The container of a state image: named sections, each with a version and a checksum.
 *
 * docs/state-format.md is the specification; nothing here knows what a section means.
 * Two kinds: plain sections, small, held in memory while an image is open; and sparse
 * ones (RAM, disk overlays), whose pages are where they are in the original, page
 * aligned, so that they can be mapped copy-on-write; which of them are there, and
 * their checksums, is in the plain section NAME.map. An image's bytes are hostile.
 */
#ifndef GANNET_STATEFILE_IMAGE_H
#define GANNET_STATEFILE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

enum {
	IMAGE_NAME_SIZE = 48,      /* with the NUL */
	IMAGE_PAGE = 4096,
	IMAGE_SECTIONS_MAX = 512,
};

#define IMAGE_PLAIN_MAX (16ull << 20) /* bytes of a plain section */
#define IMAGE_PLAIN_TOTAL (64ull << 20) /* of all of them */
#define IMAGE_SPARSE_MAX (1ull << 44)

enum image_flag {
	IMAGE_OPTIONAL = 1, /* who does not know the section may skip it */
	IMAGE_ZSTD = 2,     /* stored compressed: pages in order of the map, one frame */
	IMAGE_SPARSE = 4,   /* pages, described by NAME.map */
};

/* Pages that are there; all others are zero. */
struct image_extent {
	uint64_t first, pages; /* in units of IMAGE_PAGE */
	uint64_t xxh3;         /* of their bytes */
};

/* Called now and then during what may take long; @total in bytes. */
struct image_progress {
	void (*step)(void *opaque, uint64_t done, uint64_t total);
	void *opaque;
};

/* ---- writing ---- */

struct image_writer;

/**
 * image_writer_create - begin an image that will be called @path
 * Nothing called @path is touched before image_writer_commit(): a temporary file beside
 * it (PATH.XXXXXX.partial) is written, and removed by image_writer_destroy() or left
 * behind by a kill.
 */
struct image_writer *image_writer_create(const char *path, struct error *err);
/** image_writer_destroy - NULL is legal; without a commit nothing is left of the image */
void image_writer_destroy(struct image_writer *w);
/** image_writer_add - a plain section, copied; sections stand in the order they were added */
bool image_writer_add(struct image_writer *w, const char *name, uint32_t version,
		      uint32_t flags, const void *data, size_t len, struct error *err);
/**
 * image_writer_add_sparse - a sparse section and its map
 * @length: bytes of the whole, a multiple of IMAGE_PAGE
 * @memory: where the pages are, or NULL: @fd holds them at the same offsets; both borrowed
 *          until the commit
 * @extent: @count of them in order, copied; checksums are filled in when written
 */
bool image_writer_add_sparse(struct image_writer *w, const char *name, uint64_t length,
			     const uint8_t *memory, int fd, const struct image_extent *extent,
			     size_t count, struct error *err);
struct image;
struct image_section;

/**
 * image_writer_copy - a sparse section of another image, with its map
 * @from: borrowed until the commit, which fails if a checksum is wrong
 */
bool image_writer_copy(struct image_writer *w, struct image *from, const struct image_section *s,
		       struct error *err);
/** image_writer_compress - store sparse sections with zstd; false if this build cannot */
bool image_writer_compress(struct image_writer *w, int level, struct error *err);
/** image_writer_commit - write, fsync, rename; @progress may be NULL */
bool image_writer_commit(struct image_writer *w, const struct image_progress *progress,
			 struct error *err);
/** image_writer_bytes - after the commit: bytes written, without holes */
uint64_t image_writer_bytes(const struct image_writer *w);

/* ---- reading ---- */

struct image_section {
	char name[IMAGE_NAME_SIZE];
	uint32_t version, flags;
	uint64_t offset, stored, length; /* bytes; stored < length if compressed */
	uint64_t xxh3;                   /* of the stored bytes; 0 for sparse ones */
	const uint8_t *data;             /* plain sections: their content; owned by the image */
};

/**
 * image_open - check header, table, every plain section and every map
 * Messages start with the path and name the section and what is wrong with it.
 */
struct image *image_open(const char *path, struct error *err);
void image_close(struct image *img); /* NULL is legal */
const char *image_path(const struct image *img);
/** image_size - of the file, in bytes */
uint64_t image_size(const struct image *img);
/** image_section - the @n-th, NULL past the last */
const struct image_section *image_section(const struct image *img, unsigned n);
const struct image_section *image_find(const struct image *img, const char *name);
/** image_map - extents of a sparse section; owned by the image */
const struct image_extent *image_map(const struct image *img, const struct image_section *s,
				     size_t *count);

/** image_verify - read a sparse section and compare all checksums */
bool image_verify(struct image *img, const struct image_section *s,
		  const struct image_progress *progress, struct error *err);
/**
 * image_load - the content of a sparse section into memory that is all zero
 * @to: s->length bytes. Checks the checksums while at it.
 */
bool image_load(struct image *img, const struct image_section *s, uint8_t *to,
		const struct image_progress *progress, struct error *err);
/** image_load_fd - the same into a file that has holes where it was not written */
bool image_load_fd(struct image *img, const struct image_section *s, int fd,
		   const struct image_progress *progress, struct error *err);
/** image_mappable - can the section be mapped (is it stored as it is)? */
bool image_mappable(const struct image_section *s);
/** image_fd - for mapping; s->offset is page aligned */
int image_fd(const struct image *img);
/** image_changed - was the file written or cut since image_open()? */
bool image_changed(const struct image *img);

#endif
