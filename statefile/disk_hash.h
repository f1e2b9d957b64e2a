/* Which disk is it? Its content as a number. */
#ifndef GANNET_STATEFILE_DISK_HASH_H
#define GANNET_STATEFILE_DISK_HASH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/block.h"
#include "core/error.h"

enum { DISK_HASH_SIZE = 16 };

/**
 * disk_hash - of what the base holds; an overlay does not count
 * @hash: XXH3-128 over {number, XXH3-128 of the content} of every MiB that is not all
 *        zero, in order: number as 8 bytes, hashes in canonical form (big endian) as 16.
 *        The end is padded with zeros to a whole MiB. So holes cost nothing, and which
 *        zeros are holes makes no difference.
 * @step: called now and then in the calling thread, in bytes; NULL: nobody looks
 * What has not been written since is not read again. Writes that the host still holds
 * back are flushed first.
 */
bool disk_hash(struct block *b, uint8_t hash[DISK_HASH_SIZE],
	       void (*step)(void *opaque, uint64_t done, uint64_t total), void *opaque,
	       struct error *err);

#endif
