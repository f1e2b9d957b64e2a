/* The 82441FX host bridge: shadow RAM and the SMRAM register. */
#ifndef GANNET_DEVICES_I440FX_H
#define GANNET_DEVICES_I440FX_H

#include "devices/pci.h"

/**
 * i440fx_create - function 8086:1237 at 0000:00:00.0; @m owns it
 * @rom_offset: RAM offset of the 128 KiB of ROM that stand at 0xe0000 under the
 *              shadow RAM; UINT64_MAX: there is no ROM
 * Maps that ROM, and the first MiB of RAM except 0xa0000-0xbffff as PAM says.
 */
struct pci_device *i440fx_create(struct machine *m, struct pci_bus *bus, uint64_t rom_offset,
				 struct error *err);

#endif
