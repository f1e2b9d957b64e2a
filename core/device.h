/* What every device has in common, and the wire between devices.
 *
 * A device embeds struct device as its first member and is made by
 * x_create(machine, ..., err), which registers its ports and windows and adds
 * it to the machine; the machine resets and destroys it.
 */
#ifndef GANNET_CORE_DEVICE_H
#define GANNET_CORE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/state.h"

struct device;

struct device_ops {
	const char *name;                 /* unique kind, e.g. "i8259" */
	void (*reset)(struct device *dev); /* optional; also called after create */
	void (*destroy)(struct device *dev); /* frees the device itself */
	const struct state_field *fields; /* ends with STATE_END; NULL: stateless */
	size_t size;                      /* of the device's struct, for a loaded copy */
	uint32_t version;                 /* of the fields; an older image may lack some */
	void (*loaded)(struct device *dev); /* optional: derived state after fields were set */
	bool (*check)(const struct device *dev, const char **field); /* optional: cross-field checks on a loaded copy */
};

struct device {
	const struct device_ops *ops;
	unsigned instance;   /* 0 for the first of its kind */
	struct device *next; /* the machine's list */
};

/* One interrupt (or other) line, seen from the device that drives it. */
struct irq_line {
	void (*set)(void *opaque, int n, bool level);
	void *opaque; /* borrowed: the controller */
	int n;        /* which of its inputs */
};

static inline void irq_set(const struct irq_line *line, bool level)
{
	if (line->set)
		line->set(line->opaque, line->n, level);
}

#endif
