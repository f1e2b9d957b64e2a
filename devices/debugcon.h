/* A port whose writes are characters: 0xe9, and 0x402 for SeaBIOS's log. */
#ifndef GANNET_DEVICES_DEBUGCON_H
#define GANNET_DEVICES_DEBUGCON_H

#include "core/chardev.h"
#include "core/machine.h"

/** debugcon_create - reads say 0xe9 ("there is one"); @out borrowed, NULL: discarded */
struct device *debugcon_create(struct machine *m, uint16_t port, struct chardev *out,
			       struct error *err);

#endif
