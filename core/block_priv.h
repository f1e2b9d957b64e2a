/* Inside of a disk image: block.c moves sectors, block_hash.c says what the base holds. */
#ifndef GANNET_CORE_BLOCK_PRIV_H
#define GANNET_CORE_BLOCK_PRIV_H

#include "core/block.h"

struct block_worker;
struct block_hash_cache;

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
	struct block_hash_cache *hash; /* NULL until somebody asked */
};

/** block_hash_forget - the base is written: what was computed of these bytes is void */
void block_hash_forget(struct block *b, uint64_t offset, uint64_t len);
void block_hash_destroy(struct block_hash_cache *h); /* NULL is legal */

#endif
