/* How an image looks on disk. See docs/state-format.md. */
#ifndef GANNET_STATEFILE_IMAGE_PRIV_H
#define GANNET_STATEFILE_IMAGE_PRIV_H

#include <stdint.h>

#include "statefile/image.h"

enum {
	IMAGE_VERSION = 1,
	IMAGE_MAP_VERSION = 1,
	IMAGE_CHUNK = 1 << 20,
	IMAGE_WINDOW_LOG = 23, /* what a compressed section may make its reader allocate */
};

#define IMAGE_MAGIC "GANNETST"

/* All numbers little endian, which is what the hosts are. */
struct image_header {
	char magic[8];
	uint32_t version;
	uint32_t sections;
	uint64_t file_size;
	uint64_t table_xxh3;
	uint64_t reserved[3]; /* 0 */
	uint64_t xxh3;        /* of the bytes before it */
};
_Static_assert(sizeof(struct image_header) == 64, "as written in docs/state-format.md");

struct image_entry {
	char name[IMAGE_NAME_SIZE];
	uint32_t version;
	uint32_t flags;
	uint64_t offset;
	uint64_t stored;
	uint64_t length;
	uint64_t xxh3;
	uint64_t reserved; /* 0 */
};
_Static_assert(sizeof(struct image_entry) == 96, "as written in docs/state-format.md");

#define IMAGE_MAP_SUFFIX ".map"
#define IMAGE_FLAGS_ALL (IMAGE_OPTIONAL | IMAGE_ZSTD | IMAGE_SPARSE)

/** image_name_ok - printable ASCII without spaces? */
bool image_name_ok(const char *name, size_t len);
/** image_map_check - the first of @count extents that is out of order or outside; or @count */
size_t image_map_check(const void *extents, size_t count, uint64_t pages);

/* The pages of a sparse section, in order. Messages name path and section. */
struct image_source;

struct image_source *image_source_create(struct image *img, const struct image_section *s,
					 struct error *err);
void image_source_destroy(struct image_source *src); /* NULL is legal */
/** image_source_read - the bytes at @offset of the section; asked for in order */
bool image_source_read(struct image_source *src, uint64_t offset, uint8_t *to, size_t len,
		       struct error *err);
/** image_source_skip - what lies between extents: is it zero? */
bool image_source_skip(struct image_source *src, uint64_t first, uint64_t pages,
		       struct error *err);
/** image_source_end - after the last extent: is there nothing else? */
bool image_source_end(struct image_source *src, struct error *err);
/** image_source_bad - false, with a message about an extent's checksum */
bool image_source_bad(struct image *img, const struct image_section *s,
		      const struct image_extent *e, struct error *err);

#endif
