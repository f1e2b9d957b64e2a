/* The PIIX3's PCI-to-ISA bridge: PIRQ routing, reset control, system port A. */
#ifndef GANNET_DEVICES_PIIX3_H
#define GANNET_DEVICES_PIIX3_H

#include "devices/pci.h"

/**
 * piix3_create - function 8086:7000 at 0000:00:01.0, ports 0x92 and 0xcf9; @m owns it
 * @route: told which ISA interrupts (bit n: IRQ n) PCI pins drive, on each change
 */
struct pci_device *piix3_create(struct machine *m, struct pci_bus *bus,
				void (*route)(void *opaque, uint16_t irqs), void *opaque,
				struct error *err);

#endif
