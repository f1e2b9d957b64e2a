/* How an image looks on disk. See docs/state-format.md. */
#ifndef GANNET_STATEFILE_IMAGE_PRIV_H
#define GANNET_STATEFILE_IMAGE_PRIV_H

#include <stdint.h>

#include "statefile/image.h"

enum { IMAGE_VERSION = 1, IMAGE_CHUNK = 1 << 20 };

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

#endif
