/* Floppy disk controller. */
#ifndef GANNET_DEVICES_FDC_H
#define GANNET_DEVICES_FDC_H

#include <stdbool.h>
#include <stdint.h>

#include "core/block.h"
#include "core/device.h"
#include "core/error.h"

struct machine;

enum { FDC_DRIVES = 2 };

/* What a drive is, as the CMOS (register 0x10) names it. */
enum fdc_type {
	FDC_TYPE_NONE = 0, FDC_TYPE_360K = 1, FDC_TYPE_1200K = 2, FDC_TYPE_720K = 3,
	FDC_TYPE_1440K = 4, FDC_TYPE_2880K = 5,
};

/**
 * fdc_create - 82077AA at ports 0x3f0-0x3f7
 * @irq: IRQ 6
 * @dma: the i8237 pair (channel 2 is used); borrowed
 * @drives: images; NULL: no drive, except that drive 0 may be an empty 1.44M drive:
 *          see @present. Owned on success.
 * @present: whether there is a drive even without a disk; NULL: where there is an image
 * The disk format follows from the image size; an unknown size is an error that
 * lists the known ones.
 */
struct device *fdc_create(struct machine *m, struct irq_line irq, struct device *dma,
			  struct block *const drives[FDC_DRIVES],
			  const bool present[FDC_DRIVES], struct error *err);

/** fdc_drive_type - for CMOS register 0x10 */
enum fdc_type fdc_drive_type(const struct device *dev, unsigned n);
/** fdc_image - what is in drive @n, still the device's; NULL: nothing */
struct block *fdc_image(struct device *dev, unsigned n);
/** fdc_set_disk - change the disk; NULL takes it out; owned from here on when true is returned */
bool fdc_set_disk(struct device *dev, unsigned n, struct block *disk, struct error *err);

#endif
