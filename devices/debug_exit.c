/* See debug_exit.h. The convention of QEMU's device of that name, which test
 * kernels are written for: 0 cannot be had, so that success is the test's choice. */
#include "devices/debug_exit.h"

#include <stdlib.h>

#include "core/ioport.h"
#include "core/util.h"

enum { PORTS = 4 };

struct debug_exit {
	struct device base;
	struct machine *machine; /* borrowed */
};

static void debug_exit_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct debug_exit *d = opaque;

	machine_end_with(d->machine, MACHINE_DEBUG_EXIT, (int)(value << 1 | 1));
}

static const struct ioport_ops debug_exit_ports = {
	.write = debug_exit_write, .sizes = 1 | 2 | 4,
};

static void debug_exit_destroy(struct device *dev)
{
	free(container_of(dev, struct debug_exit, base));
}

static const struct device_ops debug_exit_ops = {
	.name = "debug-exit",
	.destroy = debug_exit_destroy,
};

struct device *debug_exit_create(struct machine *m, uint16_t iobase, struct error *err)
{
	struct debug_exit *d = calloc(1, sizeof(*d));

	if (!d) {
		error_set(err, "debug exit: out of memory");
		return NULL;
	}
	d->base.ops = &debug_exit_ops;
	d->machine = m;
	ioport_add(m->io, iobase, PORTS, &debug_exit_ports, d, "debug exit");
	machine_add(m, &d->base);
	return &d->base;
}
