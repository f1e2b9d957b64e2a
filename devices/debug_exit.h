/* isa-debug-exit: a guest ends the machine with an exit code. */
#ifndef GANNET_DEVICES_DEBUG_EXIT_H
#define GANNET_DEVICES_DEBUG_EXIT_H

#include "core/machine.h"

/** debug_exit_create - writing v to ports @iobase..+3 ends the machine with code v * 2 + 1 */
struct device *debug_exit_create(struct machine *m, uint16_t iobase, struct error *err);

#endif
