/* The pair of 8259A interrupt controllers, with the PIIX's ELCR. */
#ifndef GANNET_DEVICES_I8259_H
#define GANNET_DEVICES_I8259_H

#include "core/machine.h"

struct i8259;

/** i8259_create - ports 0x20/21, 0xa0/a1 and 0x4d0/4d1; @m owns it */
struct i8259 *i8259_create(struct machine *m, struct error *err);

/** i8259_set_output - who hears the level of the master's INT pin */
void i8259_set_output(struct i8259 *pic, void (*set)(void *opaque, bool level), void *opaque);

/** i8259_set_irq - drive IRQ @n (0-15; 2 is the cascade and ignored); fits struct irq_line */
void i8259_set_irq(void *pic, int n, bool level);

/** i8259_acknowledge - the two INTA cycles: a vector, possibly the spurious IRQ 7 or 15 */
int i8259_acknowledge(struct i8259 *pic);

/** i8259_pending - IRQ @n is latched, not masked and not yet acknowledged (for tick catch-up) */
bool i8259_pending(const struct i8259 *pic, int n);

#endif
