/* PCI bus 0 behind configuration mechanism #1, and what a PCI device embeds.
 *
 * A device embeds struct pci_device as its first member (which itself starts
 * with struct device), calls pci_device_init(), adds its BARs, and hands itself
 * to machine_add(). The bus owns no device; it forgets one in
 * pci_device_finish(), which the device's destroy calls.
 *
 * I/O handlers see absolute port numbers. A BAR is aligned to its size, so
 * `port & (size - 1)` is the register.
 *
 * Source: PCI Local Bus Specification 2.2, chapter 6.
 */
#ifndef GANNET_DEVICES_PCI_H
#define GANNET_DEVICES_PCI_H

#include "core/device.h"
#include "core/ioport.h"
#include "core/machine.h"
#include "core/memory.h"

/* Configuration registers. */
enum {
	PCI_VENDOR_ID = 0x00, PCI_DEVICE_ID = 0x02,
	PCI_COMMAND = 0x04, PCI_STATUS = 0x06,
	PCI_REVISION = 0x08, PCI_PROG_IF = 0x09, PCI_CLASS = 0x0a, /* subclass, class */
	PCI_HEADER_TYPE = 0x0e,
	PCI_BAR0 = 0x10,
	PCI_SUBSYSTEM_VENDOR = 0x2c, PCI_SUBSYSTEM_ID = 0x2e,
	PCI_ROM = 0x30,
	PCI_INTERRUPT_LINE = 0x3c, PCI_INTERRUPT_PIN = 0x3d,
};

/* PCI_COMMAND */
enum {
	PCI_COMMAND_IO = 1 << 0,
	PCI_COMMAND_MEMORY = 1 << 1,
	PCI_COMMAND_MASTER = 1 << 2,
	PCI_COMMAND_INTX_OFF = 1 << 10,
};

enum { PCI_BARS = 6, PCI_BAR_ROM = 6, PCI_BAR_SLOTS = 7, PCI_PIRQS = 4 };

#define PCI_DEVFN(slot, fn) ((slot) << 3 | (fn))

struct pci_bus;
struct pci_device;

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM };

struct pci_bar {
	enum pci_bar_kind kind;
	uint32_t size;               /* bytes, a power of two */
	const struct ioport_ops *io; /* I/O BARs */
	void *opaque;                /* borrowed */
	const char *name;            /* static */
	struct ioport_range *range;  /* while an I/O BAR is decoded */
	struct memory_region *region; /* memory BARs: always there, on while decoded */
	uint32_t address;            /* where it is decoded now; 0 while it is not */
};

struct pci_device_ops {
	/* Optional: after the guest changed configuration bytes; wmask was applied
	 * and BARs have been mapped again. */
	void (*config_written)(struct pci_device *d, unsigned offset, unsigned size);
	/* Optional: before configuration bytes are read by the guest. */
	void (*config_read)(struct pci_device *d, unsigned offset, unsigned size);
};

struct pci_device {
	struct device base;
	struct pci_bus *bus; /* borrowed */
	struct machine *machine; /* borrowed */
	const struct pci_device_ops *pci_ops; /* may be NULL */
	uint8_t devfn;
	bool intx;           /* level of its interrupt pin as the device drives it */
	bool intx_out;       /* ... as the bus sees it: not while INTX_OFF */
	bool has_fixed;
	uint8_t fixed[64];   /* header as first reset: where read-only bits come from after a load */
	uint8_t config[256];
	uint8_t wmask[256];  /* bits the guest can write */
	uint8_t w1c[256];    /* bits the guest clears by writing 1 */
	struct pci_bar bar[PCI_BAR_SLOTS];
};

/* What a device is: everything that is not a BAR. */
struct pci_ids {
	uint16_t vendor, device;
	uint16_t class;   /* class << 8 | subclass */
	uint8_t prog_if;
	uint8_t revision;
	uint16_t subsystem_vendor, subsystem; /* 0: none */
	uint8_t pin;      /* interrupt pin: 0 none, 1 INTA# .. 4 INTD# */
	bool multifunction;
};

/**
 * pci_device_init - fill in the configuration header and put @d on @bus
 * @devfn: PCI_DEVFN(slot, function); -1: the first free slot
 * @d: zeroed; d->base.ops set by the caller
 * Returns false with @err set if the place is taken.
 * COMMAND is writable as far as the BARs added later make sense of it.
 */
bool pci_device_init(struct pci_device *d, struct machine *m, struct pci_bus *bus, int devfn,
		     const struct pci_ids *ids, const struct pci_device_ops *ops,
		     struct error *err);
/** pci_device_finish - take BARs out of the maps and @d off its bus; legal if never on one */
void pci_device_finish(struct pci_device *d);
/** pci_device_reset - COMMAND, BARs, INTERRUPT_LINE and the pin back to power-on;
 *  call it from the device's reset */
void pci_device_reset(struct pci_device *d);

/** pci_bar_io - @index 0-5; @size a power of two, 4 to 256 */
bool pci_bar_io(struct pci_device *d, unsigned index, uint32_t size,
		const struct ioport_ops *ops, void *opaque, const char *name);
/** pci_bar_mem - a window of registers; @size a power of two, 16 bytes and up */
bool pci_bar_mem(struct pci_device *d, unsigned index, uint32_t size,
		 const struct mmio_ops *ops, void *opaque, const char *name);
/** pci_bar_ram - host memory (a frame buffer) at @ram_offset of the memfd; prefetchable */
bool pci_bar_ram(struct pci_device *d, unsigned index, uint32_t size, uint64_t ram_offset,
		 const char *name);
/** pci_bar_rom - expansion ROM with a copy of @data; rounded up to a power of two,
 *  at least 4 KiB */
bool pci_bar_rom(struct pci_device *d, const void *data, size_t size, const char *name,
		 struct error *err);
/** pci_bar_address - where the BAR is decoded now; 0: it is not */
static inline uint32_t pci_bar_address(const struct pci_device *d, unsigned index)
{
	return d->bar[index].address;
}

/** pci_set_irq - level of the device's interrupt pin */
void pci_set_irq(struct pci_device *d, bool level);

/** pci_can_dma - bus mastering is on */
static inline bool pci_can_dma(const struct pci_device *d)
{
	return d->config[PCI_COMMAND] & PCI_COMMAND_MASTER;
}

/* State fields of the embedded struct pci_device; the device's `loaded` calls
 * pci_device_loaded() first. */
#define PCI_STATE_FIELDS(s, pci) \
	{ "pci.config", offsetof(s, pci.config), STATE_TYPE_BYTES, 1, 256, 255, 255 }, \
	{ "pci.intx", offsetof(s, pci.intx), STATE_TYPE_BOOL, sizeof(bool), 1, 1, 1 }
/** pci_device_loaded - read-only bits back to what this device is, BARs and pin applied */
void pci_device_loaded(struct pci_device *d);

/* ---- the bus ---- */

/** pci_bus_create - bus 0 with ports 0xcf8-0xcff; a device of @m, which owns it */
struct pci_bus *pci_bus_create(struct machine *m, struct error *err);
struct device *pci_bus_device(struct pci_bus *bus);
/** pci_bus_set_router - where PIRQA-D (0-3) go: the bus ORs the pins of all devices,
 *  pin p of slot s driving PIRQ (s - 1 + p - 1) & 3 as the PIIX boards wire it */
void pci_bus_set_router(struct pci_bus *bus, void (*set)(void *opaque, int pirq, bool level),
			void *opaque);
/** pci_bus_set_reset_control - byte accesses to port 0xcf9, which lies inside the
 *  address register but belongs to the south bridge */
void pci_bus_set_reset_control(struct pci_bus *bus, uint8_t (*read)(void *opaque),
			       void (*write)(void *opaque, uint8_t value), void *opaque);
/** pci_bus_find - the device at @devfn, or NULL */
struct pci_device *pci_bus_find(const struct pci_bus *bus, uint8_t devfn);

/* Configuration accesses as the guest makes them; @size 1, 2, 4 within one dword.
 * Missing devices read all ones. */
uint32_t pci_config_read(struct pci_bus *bus, uint8_t devfn, unsigned offset, unsigned size);
void pci_config_write(struct pci_bus *bus, uint8_t devfn, unsigned offset, uint32_t value,
		      unsigned size);

/** pci_bus_assign - give every BAR an address and every pin its line, as firmware
 *  does: for boots without one. @line: the ISA IRQ of each PIRQ. */
void pci_bus_assign(struct pci_bus *bus, const uint8_t line[PCI_PIRQS]);

#endif
