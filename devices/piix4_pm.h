/* The PIIX4's power management function: ACPI fixed hardware, APM port, SMBus. */
#ifndef GANNET_DEVICES_PIIX4_PM_H
#define GANNET_DEVICES_PIIX4_PM_H

#include "devices/pci.h"

#define PM_TIMER_HZ 3579545

/**
 * piix4_pm_create - function 8086:7113 at 0000:00:01.3, ports 0xb2/b3 and @gpe_base;
 *                   @m owns it
 * @sci: level of the system control interrupt
 */
struct pci_device *piix4_pm_create(struct machine *m, struct pci_bus *bus,
				   const struct irq_line *sci, uint16_t gpe_base,
				   struct error *err);

/** piix4_pm_power_button - the button was pressed */
void piix4_pm_power_button(struct pci_device *pm);

/** piix4_pm_event - general purpose event @n (0-15) happened */
void piix4_pm_event(struct pci_device *pm, unsigned n);

#endif
