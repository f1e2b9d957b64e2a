/* A 16550A serial port. */
#ifndef GANNET_DEVICES_SERIAL_H
#define GANNET_DEVICES_SERIAL_H

#include <stdint.h>

#include "core/device.h"
#include "core/error.h"

struct chardev;
struct machine;

/**
 * serial_create - a UART at ports @iobase..@iobase+7
 * @irq: copied; the line it drives (active high)
 * @chardev: borrowed until chardev_close(); NULL: nothing is plugged in
 */
struct device *serial_create(struct machine *m, uint16_t iobase,
			     const struct irq_line *irq, struct chardev *chardev,
			     struct error *err);

#endif
