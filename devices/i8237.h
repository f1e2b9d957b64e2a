/* The two DMA controllers of a PC and their page registers. */
#ifndef GANNET_DEVICES_I8237_H
#define GANNET_DEVICES_I8237_H

#include <stdbool.h>
#include <stddef.h>

#include "core/device.h"
#include "core/error.h"

struct machine;

/** i8237_create - ports 0x00-0x0f, 0xc0-0xdf and the page registers 0x81-0x8f */
struct device *i8237_create(struct machine *m, struct error *err);

/**
 * i8237_transfer - a device raises DREQ and moves up to @len bytes
 * @channel: 0-3 bytes, 5-7 words (@len is rounded down to words)
 * @to_memory: true: the device writes memory
 * @tc: set to whether the channel reached its terminal count; may be NULL
 *
 * Returns the bytes moved: 0 while the channel is masked, the controller is off
 * or the programmed direction is the other one; less than @len when the terminal
 * count came first. A channel programmed for "verify" moves nothing but counts.
 */
size_t i8237_transfer(struct device *dev, unsigned channel, void *buf, size_t len,
		      bool to_memory, bool *tc);
/** i8237_ready - the channel is unmasked and its controller on */
bool i8237_ready(const struct device *dev, unsigned channel);

#endif
