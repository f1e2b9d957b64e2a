/* See debugcon.h. The Bochs convention: a write is output, a read tells a guest
 * that the port is there. No flow control: what a full chardev does not take is
 * lost, and traced. */
#include "devices/debugcon.h"

#include <stdlib.h>

#include "core/ioport.h"
#include "core/util.h"

enum { PRESENT = 0xe9 };

struct debugcon {
	struct device base;
	struct machine *machine; /* borrowed */
	struct chardev *out;     /* borrowed; may be NULL */
};

static uint32_t debugcon_read(void *opaque, uint16_t port, unsigned size)
{
	return PRESENT;
}

static size_t debugcon_write_block(void *opaque, uint16_t port, unsigned size,
				   const uint8_t *buf, size_t count)
{
	struct debugcon *d = opaque;

	if (size != 1)
		return 0;
	if (d->out && chardev_write(d->out, buf, count) < count &&
	    trace_on(&d->machine->trace, TRACE_DEV))
		trace_print(&d->machine->trace, TRACE_DEV, "debugcon: output lost");
	return count;
}

static void debugcon_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	uint8_t c = value;

	debugcon_write_block(opaque, port, 1, &c, 1);
}

static const struct ioport_ops debugcon_ports = {
	.read = debugcon_read, .write = debugcon_write, .write_block = debugcon_write_block,
};

static void debugcon_destroy(struct device *dev)
{
	free(container_of(dev, struct debugcon, base));
}

static const struct device_ops debugcon_ops = {
	.name = "debugcon",
	.destroy = debugcon_destroy,
};

struct device *debugcon_create(struct machine *m, uint16_t port, struct chardev *out,
			       struct error *err)
{
	struct debugcon *d = calloc(1, sizeof(*d));

	if (!d) {
		error_set(err, "debugcon: out of memory");
		return NULL;
	}
	d->base.ops = &debugcon_ops;
	d->machine = m;
	d->out = out;
	ioport_add(m->io, port, 1, &debugcon_ports, d, "debugcon");
	machine_add(m, &d->base);
	return &d->base;
}
