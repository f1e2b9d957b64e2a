/* The 82093AA I/O APIC: 24 inputs to messages for the local APIC. */
#ifndef GANNET_DEVICES_IOAPIC_H
#define GANNET_DEVICES_IOAPIC_H

#include "devices/lapic.h"

#define IOAPIC_ADDRESS 0xfec00000u
#define IOAPIC_PINS 24

struct ioapic;

/** ioapic_create - window at IOAPIC_ADDRESS; messages go to @lapic; @m owns it */
struct ioapic *ioapic_create(struct machine *m, struct lapic *lapic, struct error *err);

/** ioapic_set_irq - drive input @n (0-23); fits struct irq_line */
void ioapic_set_irq(void *ioapic, int n, bool level);

/** ioapic_pending - what input @n asked for is still waiting for the CPU */
bool ioapic_pending(const struct ioapic *ioapic, int n);

#endif
