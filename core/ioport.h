/* The 64 Ki I/O ports and who answers them.
 *
 * A range has one owner. Its handler sees the size the guest used (1, 2, 4) if
 * `sizes` allows it; other accesses are split into the largest allowed smaller
 * ones, lowest port first, as the ISA bus does. Ports without an owner read all
 * ones and ignore writes (traced under "io").
 */
#ifndef GANNET_CORE_IOPORT_H
#define GANNET_CORE_IOPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/trace.h"

struct ioport_ops {
	uint32_t (*read)(void *opaque, uint16_t port, unsigned size);
	void (*write)(void *opaque, uint16_t port, uint32_t value, unsigned size);
	/* Optional: REP INS/OUTS moves in bulk. Move up to @count items of @size
	 * bytes; return how many moved, 0 for "not now, one by one please". */
	size_t (*read_block)(void *opaque, uint16_t port, unsigned size,
			     uint8_t *buf, size_t count);
	size_t (*write_block)(void *opaque, uint16_t port, unsigned size,
			      const uint8_t *buf, size_t count);
	uint8_t sizes; /* bit mask of access sizes taken whole: 1 | 2 | 4; 0 means 1 */
};

struct ioport_map;

struct ioport_map *ioport_map_create(struct trace *trace);
void ioport_map_destroy(struct ioport_map *map);

/**
 * ioport_add - give ports @first..@first+@count-1 to @ops
 * A later owner covers an earlier one until it is removed (PCI BARs over ISA
 * decode), as subtractive decode has it. Ranges past 0xffff are cut.
 * Returns a handle for ioport_remove(), NULL when @count is 0.
 */
struct ioport_range *ioport_add(struct ioport_map *map, uint16_t first,
				unsigned count, const struct ioport_ops *ops,
				void *opaque, const char *name);
void ioport_remove(struct ioport_map *map, struct ioport_range *range);

uint32_t ioport_read(struct ioport_map *map, uint16_t port, unsigned size);
void ioport_write(struct ioport_map *map, uint16_t port, uint32_t value,
		  unsigned size);
/** Bulk forms: move as many as the owner takes at once; may return 0. */
size_t ioport_read_block(struct ioport_map *map, uint16_t port, unsigned size,
			 uint8_t *buf, size_t count);
size_t ioport_write_block(struct ioport_map *map, uint16_t port, unsigned size,
			  const uint8_t *buf, size_t count);

#endif
