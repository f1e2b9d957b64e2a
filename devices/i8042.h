/* The keyboard controller, with a PS/2 keyboard and a PS/2 mouse plugged in. */
#ifndef GANNET_DEVICES_I8042_H
#define GANNET_DEVICES_I8042_H

#include <stdbool.h>
#include <stdint.h>

#include "core/device.h"
#include "core/error.h"

struct machine;

/**
 * i8042_create - ports 0x60 and 0x64
 * @irq1, @irq12: copied; keyboard and mouse interrupt
 */
struct device *i8042_create(struct machine *m, const struct irq_line *irq1,
			    const struct irq_line *irq12, struct error *err);

/* What a person does. vCPU thread only. */

/**
 * i8042_key - press or release a key
 * @key: Linux input event code (KEY_*); codes without a PS/2 scan code are ignored
 * Returns false if the keyboard's buffer is full (the key is lost, as on a real one).
 */
bool i8042_key(struct device *dev, unsigned key, bool down);

enum { I8042_LEFT = 1, I8042_RIGHT = 2, I8042_MIDDLE = 4 };

/** i8042_mouse - move by @dx right, @dy down, @dz wheel towards the user; @buttons now held */
void i8042_mouse(struct device *dev, int dx, int dy, int dz, unsigned buttons);

#endif
