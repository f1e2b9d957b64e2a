/* PIIX3 IDE: two ATA channels with PCI bus-master DMA. */
#ifndef GANNET_DEVICES_PIIX3_IDE_H
#define GANNET_DEVICES_PIIX3_IDE_H

#include <stdbool.h>

#include "core/block.h"
#include "core/device.h"
#include "core/error.h"

struct machine;
struct pci_bus;

enum { IDE_DRIVES = 4 }; /* primary master, primary slave, secondary master, secondary slave */

/**
 * piix3_ide_create - PCI function 8086:7010 at 0000:00:01.1
 * @irq: IRQ 14 and 15
 * @drives: one image per drive; NULL: no drive, or with @is_cd a CD drive without a disc.
 *          On success the device owns them and closes them; on failure they stay the caller's.
 * @is_cd: this drive is an ATAPI CD-ROM
 */
struct device *piix3_ide_create(struct machine *m, struct pci_bus *bus,
				const struct irq_line irq[2],
				struct block *const drives[IDE_DRIVES],
				const bool is_cd[IDE_DRIVES], struct error *err);

/** piix3_ide_image - what is in drive @n, still the device's; NULL: nothing, or no drive */
struct block *piix3_ide_image(struct device *dev, unsigned n);
/**
 * piix3_ide_set_disc - change the disc of a CD drive
 * @disc: NULL takes the disc out; the device owns it from here on, and closes the old one
 * The guest sees "medium changed". Returns false, with @disc still the caller's, if
 * drive @n is no CD drive or the guest has locked it (overridden by @force).
 */
bool piix3_ide_set_disc(struct device *dev, unsigned n, struct block *disc, bool force,
			struct error *err);

#endif
