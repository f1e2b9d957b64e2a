/* The 8254 interval timer and the port 0x61 that gates its third channel. */
#ifndef GANNET_DEVICES_I8254_H
#define GANNET_DEVICES_I8254_H

#include "core/machine.h"

#define PIT_HZ 1193182

struct i8254;

/**
 * i8254_create - ports 0x40-0x43 and 0x61; @m owns it
 * @irq0: driven by the output of channel 0
 */
struct i8254 *i8254_create(struct machine *m, const struct irq_line *irq0, struct error *err);

/** i8254_set_pending - how to ask whether the last tick still waits to be acknowledged;
 *  a tick due then is owed and made up for later instead of lost */
void i8254_set_pending(struct i8254 *pit, bool (*pending)(void *opaque), void *opaque);

#endif
