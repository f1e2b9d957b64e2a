/* See ioport.h.
 *
 * One pointer per port names its owner, so an access costs one load. Ranges are
 * kept in the order they were added; when one goes, the ports it held are
 * painted again from the list, which brings back whoever it covered.
 */
#include "core/ioport.h"

#include <stdlib.h>

#include "core/util.h"

#define PORTS 0x10000u

struct ioport_range {
	struct ioport_range *next; /* older ranges come first */
	const struct ioport_ops *ops;
	void *opaque;    /* borrowed */
	const char *name; /* static */
	uint32_t first, end; /* end is one past the last port */
};

struct ioport_map {
	struct trace *trace; /* borrowed */
	struct ioport_range *ranges;
	struct ioport_range *owner[PORTS];
};

struct ioport_map *ioport_map_create(struct trace *trace)
{
	struct ioport_map *map = calloc(1, sizeof(*map));

	if (map)
		map->trace = trace;
	return map;
}

void ioport_map_destroy(struct ioport_map *map)
{
	if (!map)
		return;
	while (map->ranges) {
		struct ioport_range *r = map->ranges;

		map->ranges = r->next;
		free(r);
	}
	free(map);
}

static void paint(struct ioport_map *map, uint32_t first, uint32_t end)
{
	for (uint32_t p = first; p < end; p++)
		map->owner[p] = NULL;
	for (struct ioport_range *r = map->ranges; r; r = r->next) {
		for (uint32_t p = MAX(first, r->first); p < MIN(end, r->end); p++)
			map->owner[p] = r;
	}
}

struct ioport_range *ioport_add(struct ioport_map *map, uint16_t first, unsigned count,
				const struct ioport_ops *ops, void *opaque, const char *name)
{
	struct ioport_range *r, **tail = &map->ranges;

	if (!count)
		return NULL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->ops = ops;
	r->opaque = opaque;
	r->name = name;
	r->first = first;
	r->end = MIN((uint64_t)first + count, PORTS);
	while (*tail)
		tail = &(*tail)->next;
	*tail = r;
	paint(map, r->first, r->end);
	return r;
}

void ioport_remove(struct ioport_map *map, struct ioport_range *range)
{
	struct ioport_range **p = &map->ranges;

	if (!range)
		return;
	while (*p && *p != range)
		p = &(*p)->next;
	if (!*p)
		return;
	*p = range->next;
	paint(map, range->first, range->end);
	free(range);
}

/* The one owner of all @size ports that takes the access whole, or NULL. */
static const struct ioport_range *whole_owner(const struct ioport_map *map, uint32_t port,
					      unsigned size)
{
	const struct ioport_range *r;

	if (port + size > PORTS)
		return NULL;
	r = map->owner[port];
	if (!r || !((r->ops->sizes ? r->ops->sizes : 1) & size))
		return NULL;
	for (unsigned i = 1; i < size; i++) {
		if (map->owner[port + i] != r)
			return NULL;
	}
	return r;
}

static const char *name_of(const struct ioport_map *map, uint32_t port)
{
	const struct ioport_range *r = port < PORTS ? map->owner[port] : NULL;

	return r ? r->name : "unassigned";
}

static uint32_t ones(unsigned size)
{
	return size >= 4 ? UINT32_MAX : (1u << size * 8) - 1;
}

static uint32_t read_split(struct ioport_map *map, uint32_t port, unsigned size)
{
	const struct ioport_range *r = whole_owner(map, port, size);
	uint32_t low;

	if (r && r->ops->read)
		return r->ops->read(r->opaque, port, size) & ones(size);
	if (r || size == 1)
		return ones(size);
	size /= 2;
	low = read_split(map, port, size);
	return low | read_split(map, port + size, size) << size * 8;
}

static void write_split(struct ioport_map *map, uint32_t port, uint32_t value, unsigned size)
{
	const struct ioport_range *r = whole_owner(map, port, size);

	if (r) {
		if (r->ops->write)
			r->ops->write(r->opaque, port, value & ones(size), size);
		return;
	}
	if (size == 1)
		return;
	size /= 2;
	write_split(map, port, value, size);
	write_split(map, port + size, value >> size * 8, size);
}

uint32_t ioport_read(struct ioport_map *map, uint16_t port, unsigned size)
{
	uint32_t v = read_split(map, port, size);

	if (trace_on(map->trace, TRACE_IO))
		trace_print(map->trace, TRACE_IO, "in %04x/%u = %0*x (%s)", port, size,
			    (int)size * 2, v, name_of(map, port));
	return v;
}

void ioport_write(struct ioport_map *map, uint16_t port, uint32_t value, unsigned size)
{
	if (trace_on(map->trace, TRACE_IO))
		trace_print(map->trace, TRACE_IO, "out %04x/%u = %0*x (%s)", port, size,
			    (int)size * 2, value & ones(size), name_of(map, port));
	write_split(map, port, value, size);
}

size_t ioport_read_block(struct ioport_map *map, uint16_t port, unsigned size, uint8_t *buf,
			 size_t count)
{
	const struct ioport_range *r = whole_owner(map, port, size);
	size_t n;

	if (!r || !r->ops->read_block)
		return 0;
	n = r->ops->read_block(r->opaque, port, size, buf, count);
	if (n && trace_on(map->trace, TRACE_IO))
		trace_print(map->trace, TRACE_IO, "ins %04x/%u x %zu (%s)", port, size, n,
			    name_of(map, port));
	return n;
}

size_t ioport_write_block(struct ioport_map *map, uint16_t port, unsigned size,
			  const uint8_t *buf, size_t count)
{
	const struct ioport_range *r = whole_owner(map, port, size);
	size_t n;

	if (!r || !r->ops->write_block)
		return 0;
	n = r->ops->write_block(r->opaque, port, size, buf, count);
	if (n && trace_on(map->trace, TRACE_IO))
		trace_print(map->trace, TRACE_IO, "outs %04x/%u x %zu (%s)", port, size, n,
			    name_of(map, port));
	return n;
}
