/* NE2000 on PCI: a Realtek RTL8029(AS), 10ec:8029.
 *
 * One I/O BAR of 32 ports: chip registers, data port at 0x10, reset port at 0x18
 * (devices/dp8390.c); interrupts on INTA#; optionally a boot ROM.
 *
 * Sources: Realtek RTL8029AS specification (January 1997); PCI Local Bus
 * Specification 2.2, section 6.3 (expansion ROMs).
 */
#include <stdlib.h>
#include <string.h>

#include "core/util.h"
#include "devices/dp8390.h"
#include "devices/ne2000.h"

enum { VENDOR_REALTEK = 0x10ec, DEVICE_RTL8029 = 0x8029, CLASS_ETHERNET = 0x0200 };
enum { FIRST_SLOT = 5, SLOTS = 32 };
enum { /* expansion ROM header, PCI data structure */
	ROM_SIGNATURE = 0xaa55, ROM_HEADER_SIZE = 0x1a, ROM_LENGTH = 0x02, ROM_UNIT = 512,
	ROM_PCIR = 0x18, PCIR_SIZE = 0x18, PCIR_VENDOR = 0x04, PCIR_DEVICE = 0x06,
	ROM_CHECKSUM = 0x06, /* a byte of the header that only evens out the sum */
};

struct ne2k_pci {
	struct pci_device pci;
	struct dp8390 chip;
};

static struct ne2k_pci *card_of(struct device *dev)
{
	return container_of(dev, struct ne2k_pci, pci.base);
}

/* ---- ports ---- */

static const struct ioport_ops port_ops = {
	.read = dp8390_port_read, .write = dp8390_port_write,
	.read_block = dp8390_port_read_block, .write_block = dp8390_port_write_block,
	.sizes = 1 | 2 | 4,
};

static void set_irq(void *opaque, bool level)
{
	struct ne2k_pci *s = opaque;

	pci_set_irq(&s->pci, level);
}

static const struct net_nic_ops nic_ops = {
	.name = "ne2k_pci",
	.can_receive = dp8390_can_receive,
	.receive = dp8390_receive,
	.writable = dp8390_writable,
};

/* ---- option ROM ---- */

/* A ROM for whatever card it is put on has ids of zero; firmware starts only what
 * matches the card. */
static void adopt_rom(uint8_t *rom, size_t size)
{
	size_t pcir = load_le16(rom + ROM_PCIR), image = rom[ROM_LENGTH] * (size_t)ROM_UNIT;
	uint8_t sum = 0;

	if (pcir < ROM_HEADER_SIZE || pcir + PCIR_SIZE > size || memcmp(rom + pcir, "PCIR", 4))
		return; /* an ISA ROM; firmware will decide */
	if (load_le32(rom + pcir + PCIR_VENDOR))
		return; /* has ids of its own */
	store_le16(rom + pcir + PCIR_VENDOR, VENDOR_REALTEK);
	store_le16(rom + pcir + PCIR_DEVICE, DEVICE_RTL8029);
	if (!image || image > size)
		return;
	for (size_t i = 0; i < image; i++)
		sum += rom[i];
	rom[ROM_CHECKSUM] -= sum;
}

static bool attach_rom(struct ne2k_pci *s, const struct ne2000_config *cfg, struct error *err)
{
	uint8_t *copy;
	bool ok;

	if (cfg->rom_blank)
		return pci_bar_rom(&s->pci, cfg->rom, cfg->rom_size, "ne2k_pci-rom", err);
	if (cfg->rom_size < ROM_HEADER_SIZE || load_le16(cfg->rom) != ROM_SIGNATURE) {
		error_set(err, "ne2k_pci: not an option ROM: no 55 aa");
		return false;
	}
	copy = malloc(cfg->rom_size);
	if (!copy) {
		error_set(err, "ne2k_pci: out of memory for its option ROM");
		return false;
	}
	memcpy(copy, cfg->rom, cfg->rom_size);
	adopt_rom(copy, cfg->rom_size);
	ok = pci_bar_rom(&s->pci, copy, cfg->rom_size, "ne2k_pci-rom", err);
	free(copy);
	return ok;
}

/* ---- device ---- */

static void ne2k_pci_reset(struct device *dev)
{
	struct ne2k_pci *s = card_of(dev);

	pci_device_reset(&s->pci);
	dp8390_power_on(&s->chip);
}

static void ne2k_pci_destroy(struct device *dev)
{
	struct ne2k_pci *s = card_of(dev);

	dp8390_finish(&s->chip);
	pci_device_finish(&s->pci);
	free(s);
}

static void ne2k_pci_loaded(struct device *dev)
{
	struct ne2k_pci *s = card_of(dev);

	pci_device_loaded(&s->pci);
	dp8390_loaded(&s->chip);
}

static bool ne2k_pci_check(const struct device *dev, const char **field)
{
	return dp8390_check(&container_of(dev, const struct ne2k_pci, pci.base)->chip, field);
}

static const struct state_field fields[] = {
	PCI_STATE_FIELDS(struct ne2k_pci, pci),
	DP8390_STATE_FIELDS(struct ne2k_pci, chip),
	STATE_END,
};

static const struct device_ops ne2k_pci_ops = {
	.name = "ne2k_pci",
	.reset = ne2k_pci_reset,
	.destroy = ne2k_pci_destroy,
	.fields = fields, .size = sizeof(struct ne2k_pci),
	.loaded = ne2k_pci_loaded,
	.check = ne2k_pci_check,
};

static int free_slot(const struct pci_bus *bus)
{
	for (int slot = FIRST_SLOT; slot < SLOTS; slot++) {
		if (!pci_bus_find(bus, PCI_DEVFN(slot, 0)))
			return slot;
	}
	return -1;
}

static bool set_up(struct ne2k_pci *s, struct machine *m, struct pci_bus *bus,
		   const struct ne2000_config *cfg, struct error *err)
{
	static const struct pci_ids ids = {
		.vendor = VENDOR_REALTEK, .device = DEVICE_RTL8029, .class = CLASS_ETHERNET,
		.subsystem_vendor = VENDOR_REALTEK, .subsystem = DEVICE_RTL8029, .pin = 1,
	};
	int slot = cfg->slot < 0 ? free_slot(bus) : cfg->slot;

	if (slot < 0) {
		error_set(err, "ne2k_pci: no free PCI slot from %d on; use fewer cards",
			  FIRST_SLOT);
		return false;
	}
	if (slot >= SLOTS) {
		error_set(err, "ne2k_pci: PCI slot %d: must be 0 to %d", slot, SLOTS - 1);
		return false;
	}
	if (!pci_device_init(&s->pci, m, bus, PCI_DEVFN(slot, 0), &ids, NULL, err))
		return false;
	if (!pci_bar_io(&s->pci, 0, DP8390_PORTS, &port_ops, &s->chip, "ne2k_pci")) {
		error_set(err, "ne2k_pci: cannot add its I/O ports");
		return false;
	}
	return !cfg->rom || attach_rom(s, cfg, err);
}

struct device *ne2k_pci_create(struct machine *m, struct pci_bus *bus,
			       const struct ne2000_config *cfg, struct error *err)
{
	struct ne2k_pci *s = calloc(1, sizeof(*s));

	if (!s) {
		error_set(err, "ne2k_pci: out of memory");
		return NULL;
	}
	s->pci.base.ops = &ne2k_pci_ops;
	dp8390_init(&s->chip, DP8390_RTL8029, &nic_ops, cfg->mac, m->loop, set_irq, s);
	if (!set_up(s, m, bus, cfg, err)) {
		ne2k_pci_destroy(&s->pci.base);
		return NULL;
	}
	if (cfg->port)
		net_port_set_nic(cfg->port, &s->chip.nic);
	machine_add(m, &s->pci.base);
	return &s->pci.base;
}
