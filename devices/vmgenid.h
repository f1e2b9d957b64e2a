/* The VM generation ID: 16 random bytes that are others in each copy of a machine. */
#ifndef GANNET_DEVICES_VMGENID_H
#define GANNET_DEVICES_VMGENID_H

#include <stdint.h>

#include "core/machine.h"

enum { VMGENID_SIZE = 16 };

/** vmgenid_create - with a fresh identifier at physical address @paddr (a multiple of 4 KiB);
 *  @m owns it */
struct device *vmgenid_create(struct machine *m, uint64_t paddr, struct error *err);
/** vmgenid_renew - another identifier; who calls it tells the guest (GPE 0). False if the
 *  host has no entropy to give. */
bool vmgenid_renew(struct device *dev);
/** vmgenid_read - as the guest sees it: a GUID in little-endian byte order */
void vmgenid_read(const struct device *dev, uint8_t id[VMGENID_SIZE]);

#endif
