/* The local APIC of the one CPU, and the last stop before its INTR pin. */
#ifndef GANNET_DEVICES_LAPIC_H
#define GANNET_DEVICES_LAPIC_H

#include "core/machine.h"

struct lapic;

/* Delivery modes of ICR, LVT and I/O APIC entries. */
enum {
	LAPIC_FIXED, LAPIC_LOWEST, LAPIC_SMI, LAPIC_NMI = 4, LAPIC_INIT, LAPIC_STARTUP,
	LAPIC_EXTINT,
};

/** lapic_create - window at 0xfee00000; takes over cpu->intr and cpu->lapic; @m owns it */
struct lapic *lapic_create(struct machine *m, struct error *err);

/** lapic_set_pic - the 8259 pair behind LINT0: who answers an INTA cycle */
void lapic_set_pic(struct lapic *apic, int (*acknowledge)(void *opaque), void *opaque);
/** lapic_set_extint - level of the 8259's INT pin; @apic is a struct lapic */
void lapic_set_extint(void *apic, bool level);

/** lapic_set_eoi - told of each EOI of a level-triggered vector (the I/O APIC) */
void lapic_set_eoi(struct lapic *apic, void (*eoi)(void *opaque, uint8_t vector), void *opaque);

/** lapic_accepts - does a message to @dest reach this CPU? */
bool lapic_accepts(const struct lapic *apic, uint8_t dest, bool logical);
/** lapic_deliver - a message from the I/O APIC that lapic_accepts() */
void lapic_deliver(struct lapic *apic, unsigned mode, uint8_t vector, bool level);
/** lapic_requested - @vector waits to be taken by the CPU */
bool lapic_requested(const struct lapic *apic, uint8_t vector);

#endif
