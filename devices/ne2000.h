/* NE2000 cards: a DP8390 (dp8390.h) with 32 KiB of buffer and PROM around it, as a
 * Realtek RTL8029 on PCI (10ec:8029) or as the original on ISA.
 */
#ifndef GANNET_DEVICES_NE2000_H
#define GANNET_DEVICES_NE2000_H

#include <stddef.h>
#include <stdint.h>

#include "core/device.h"
#include "core/machine.h"
#include "core/net.h"
#include "devices/pci.h"

struct ne2000_config {
	uint8_t mac[NET_MAC_SIZE];  /* in its PROM */
	struct net_port *port;      /* borrowed */
	/* PCI */
	int slot;                   /* 0-31; -1: the first free one from 5 on */
	const void *rom;            /* option ROM, copied; NULL: none. PCI ids of zero in
				       its header are filled in, with the checksum */
	size_t rom_size;
	bool rom_blank;             /* its content comes from a state image: do not look */
	/* ISA */
	uint16_t iobase;            /* 0x200 to 0x3e0, a multiple of 0x20; usually 0x300 */
	uint8_t irq;                /* ISA interrupt, for messages */
	struct irq_line irq_line;
};

/** ne2k_pci_create - a device of @m, which owns it */
struct device *ne2k_pci_create(struct machine *m, struct pci_bus *bus,
			       const struct ne2000_config *cfg, struct error *err);
/** ne2k_isa_create - a device of @m, which owns it */
struct device *ne2k_isa_create(struct machine *m, const struct ne2000_config *cfg,
			       struct error *err);

#endif
