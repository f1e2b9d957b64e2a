/* The VMware port: a guest asks the host for its version and the time. */
#ifndef GANNET_DEVICES_VMPORT_H
#define GANNET_DEVICES_VMPORT_H

#include "core/machine.h"

/** vmport_create - port 0x5658 */
struct device *vmport_create(struct machine *m, struct error *err);

#endif
