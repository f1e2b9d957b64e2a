/* See pci.h.
 *
 * A write to configuration space goes through two masks a byte: bits the guest
 * may write and bits it clears by writing 1. BARs need nothing more: the
 * unwritable low bits are what makes sizing work. After every write that can
 * matter, decoding is brought in line with COMMAND and the BARs.
 *
 * Source: PCI Local Bus Specification 2.2: 3.2.2.3.2 (mechanism #1), 6.1-6.2.
 */
#include "devices/pci.h"

#include <stdlib.h>
#include <string.h>

#include "core/util.h"

enum {
	CONFIG_ADDRESS = 0xcf8,
	RESET_CONTROL = 0xcf9,
	CONFIG_DATA = 0xcfc,
	ADDRESS_ENABLE = 1u << 31,
	ADDRESS_WRITABLE = 0x80fffffc,
};

enum {
	STATUS_DEVSEL_MEDIUM = 1 << 9,
	STATUS_ERRORS = 0xf900, /* write 1 to clear */
	HEADER_MULTIFUNCTION = 0x80,
	BAR_IO = 1,
	BAR_PREFETCH = 8,
	ROM_ENABLE = 1,
};

/* Where pci_bus_assign() puts things: the same places firmware would. */
enum { ASSIGN_IO = 0xc000, ASSIGN_IO_END = 0x10000 };
#define ASSIGN_MEM 0xf0000000u
#define ASSIGN_MEM_END 0xfec00000u

#define BAR_PRIORITY 10

struct pci_bus {
	struct device base;
	struct machine *machine; /* borrowed */
	uint32_t address;        /* CONFIG_ADDRESS */
	struct pci_device *devices[256]; /* by devfn; borrowed */
	uint8_t present[256];    /* devfns in use, for scans */
	unsigned count;
	bool pirq[PCI_PIRQS];    /* level last passed on */
	struct {
		void (*set)(void *opaque, int pirq, bool level);
		void *opaque;
	} router;
	struct {
		uint8_t (*read)(void *opaque);
		void (*write)(void *opaque, uint8_t value);
		void *opaque;
	} reset_control;
};

/* ---- interrupts ---- */

static int pirq_of(const struct pci_device *d)
{
	return ((d->devfn >> 3) - 1 + d->config[PCI_INTERRUPT_PIN] - 1) & 3;
}

/* Pins are wired together: a line is high while any of its pins is. */
static void update_pirqs(struct pci_bus *bus)
{
	bool level[PCI_PIRQS] = {false};

	for (unsigned i = 0; i < bus->count; i++) {
		const struct pci_device *d = bus->devices[bus->present[i]];

		if (d->intx_out)
			level[pirq_of(d)] = true;
	}
	for (int i = 0; i < PCI_PIRQS; i++) {
		if (level[i] == bus->pirq[i])
			continue;
		bus->pirq[i] = level[i];
		if (bus->router.set)
			bus->router.set(bus->router.opaque, i, level[i]);
	}
}

static void update_pin(struct pci_device *d)
{
	bool off = load_le16(d->config + PCI_COMMAND) & PCI_COMMAND_INTX_OFF;
	bool out = d->intx && !off && d->config[PCI_INTERRUPT_PIN];

	if (out == d->intx_out)
		return;
	d->intx_out = out;
	if (d->bus)
		update_pirqs(d->bus);
}

void pci_set_irq(struct pci_device *d, bool level)
{
	d->intx = level;
	update_pin(d);
}

/* ---- BARs ---- */

static unsigned bar_offset(unsigned index)
{
	return index == PCI_BAR_ROM ? PCI_ROM : PCI_BAR0 + 4 * index;
}

/* Where the BAR should be decoded by its registers; 0: nowhere. All ones is
 * what sizing leaves there for a moment: no place at all. */
static uint32_t bar_wanted(const struct pci_device *d, unsigned index)
{
	const struct pci_bar *bar = &d->bar[index];
	uint32_t value = load_le32(d->config + bar_offset(index));
	uint32_t address = value & ~(bar->size - 1);
	uint8_t command = d->config[PCI_COMMAND];

	if (bar->kind == PCI_BAR_IO) {
		if (!(command & PCI_COMMAND_IO) || address > 0x10000 - bar->size)
			return 0;
		return address;
	}
	if (!(command & PCI_COMMAND_MEMORY) || (index == PCI_BAR_ROM && !(value & ROM_ENABLE)))
		return 0;
	return address == -bar->size ? 0 : address;
}

static void bar_update(struct pci_device *d, unsigned index)
{
	struct pci_bar *bar = &d->bar[index];
	uint32_t address;

	if (bar->kind == PCI_BAR_NONE)
		return;
	address = bar_wanted(d, index);
	if (address == bar->address)
		return;
	bar->address = address;
	if (bar->kind == PCI_BAR_MEM) {
		if (address)
			memory_move(d->machine->memory, bar->region, address);
		memory_enable(d->machine->memory, bar->region, address != 0);
		return;
	}
	ioport_remove(d->machine->io, bar->range);
	bar->range = NULL;
	if (address)
		bar->range = ioport_add(d->machine->io, address, bar->size, bar->io, bar->opaque,
					bar->name);
}

static void update_bars(struct pci_device *d)
{
	memory_begin(d->machine->memory);
	for (unsigned i = 0; i < PCI_BAR_SLOTS; i++)
		bar_update(d, i);
	memory_commit(d->machine->memory);
}

static bool bar_place(struct pci_device *d, unsigned index, uint32_t size, uint32_t low_bits,
		      uint32_t writable_bits)
{
	unsigned at = bar_offset(index);

	if (index >= PCI_BAR_SLOTS || d->bar[index].kind != PCI_BAR_NONE || !size ||
	    size & (size - 1))
		return false;
	store_le32(d->config + at, low_bits);
	store_le32(d->wmask + at, ~(size - 1) | writable_bits);
	d->bar[index].size = size;
	d->wmask[PCI_COMMAND] |= low_bits & BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	return true;
}

bool pci_bar_io(struct pci_device *d, unsigned index, uint32_t size, const struct ioport_ops *ops,
		void *opaque, const char *name)
{
	struct pci_bar *bar = &d->bar[index];

	if (index >= PCI_BARS || size < 4 || size > 0x100 || !bar_place(d, index, size, BAR_IO, 0))
		return false;
	bar->kind = PCI_BAR_IO;
	bar->io = ops;
	bar->opaque = opaque;
	bar->name = name;
	return true;
}

static bool bar_region(struct pci_device *d, unsigned index, struct memory_region *region,
		       const char *name)
{
	if (!region)
		return false;
	d->bar[index].kind = PCI_BAR_MEM;
	d->bar[index].name = name;
	d->bar[index].region = region;
	return true;
}

bool pci_bar_mem(struct pci_device *d, unsigned index, uint32_t size, const struct mmio_ops *ops,
		 void *opaque, const char *name)
{
	struct memory *mem = d->machine->memory;
	struct memory_region *r;

	if (index >= PCI_BARS || size < 16 || !bar_place(d, index, size, 0, 0))
		return false;
	memory_begin(mem);
	r = memory_add_mmio(mem, 0, size, ops, opaque, BAR_PRIORITY, name);
	memory_enable(mem, r, false);
	memory_commit(mem);
	return bar_region(d, index, r, name);
}

bool pci_bar_ram(struct pci_device *d, unsigned index, uint32_t size, uint64_t ram_offset,
		 const char *name)
{
	struct memory *mem = d->machine->memory;
	struct memory_region *r;

	if (index >= PCI_BARS || size < GUEST_PAGE_SIZE ||
	    !bar_place(d, index, size, BAR_PREFETCH, 0))
		return false;
	memory_begin(mem);
	r = memory_add_ram(mem, 0, size, ram_offset, MEMORY_RAM, BAR_PRIORITY, name);
	memory_enable(mem, r, false);
	memory_commit(mem);
	return bar_region(d, index, r, name);
}

bool pci_bar_rom(struct pci_device *d, const void *data, size_t size, const char *name,
		 struct error *err)
{
	struct memory *mem = d->machine->memory;
	uint32_t room = GUEST_PAGE_SIZE;
	struct memory_region *r;
	uint64_t offset;

	while (room < size && room < 16 * MIB)
		room *= 2;
	if (!size || room < size) {
		error_set(err, "%s: option ROM of %zu bytes; must be 1 byte to 16 MiB", name, size);
		return false;
	}
	offset = memory_rom_alloc(mem, room);
	if (offset == UINT64_MAX) {
		error_set(err, "%s: no room for an option ROM of %zu bytes", name, size);
		return false;
	}
	memset(memory_host(mem) + offset, 0xff, room);
	memcpy(memory_host(mem) + offset, data, size);
	if (!bar_place(d, PCI_BAR_ROM, room, 0, ROM_ENABLE)) {
		error_set(err, "%s: has an option ROM already", name);
		return false;
	}
	memory_begin(mem);
	r = memory_add_ram(mem, 0, room, offset, MEMORY_ROM, BAR_PRIORITY, name);
	memory_enable(mem, r, false);
	memory_commit(mem);
	return bar_region(d, PCI_BAR_ROM, r, name);
}

/* ---- devices ---- */

static int free_slot(const struct pci_bus *bus)
{
	for (int slot = 2; slot < 32; slot++) {
		if (!bus->devices[PCI_DEVFN(slot, 0)])
			return PCI_DEVFN(slot, 0);
	}
	return -1;
}

bool pci_device_init(struct pci_device *d, struct machine *m, struct pci_bus *bus, int devfn,
		     const struct pci_ids *ids, const struct pci_device_ops *ops,
		     struct error *err)
{
	uint8_t *c = d->config;

	if (devfn < 0)
		devfn = free_slot(bus);
	if (devfn < 0 || devfn > 255 || bus->devices[devfn]) {
		error_set(err, "%s: PCI address %02x.%x is taken; choose a free one",
			  d->base.ops ? d->base.ops->name : "PCI device", (devfn & 0xff) >> 3,
			  devfn & 7);
		return false;
	}
	d->machine = m;
	d->pci_ops = ops;
	d->devfn = devfn;
	store_le16(c + PCI_VENDOR_ID, ids->vendor);
	store_le16(c + PCI_DEVICE_ID, ids->device);
	store_le16(c + PCI_STATUS, STATUS_DEVSEL_MEDIUM);
	c[PCI_REVISION] = ids->revision;
	c[PCI_PROG_IF] = ids->prog_if;
	store_le16(c + PCI_CLASS, ids->class);
	c[PCI_HEADER_TYPE] = ids->multifunction ? HEADER_MULTIFUNCTION : 0;
	store_le16(c + PCI_SUBSYSTEM_VENDOR, ids->subsystem_vendor);
	store_le16(c + PCI_SUBSYSTEM_ID, ids->subsystem);
	c[PCI_INTERRUPT_PIN] = ids->pin;
	store_le16(d->wmask + PCI_COMMAND,
		   PCI_COMMAND_MASTER | 0x0140 | (ids->pin ? PCI_COMMAND_INTX_OFF : 0));
	store_le16(d->w1c + PCI_STATUS, STATUS_ERRORS);
	d->wmask[0x0c] = 0xff; /* cache line size */
	d->wmask[0x0d] = 0xf8; /* latency timer */
	d->wmask[PCI_INTERRUPT_LINE] = ids->pin ? 0xff : 0;
	d->bus = bus;
	bus->devices[devfn] = d;
	bus->present[bus->count++] = devfn;
	return true;
}

void pci_device_finish(struct pci_device *d)
{
	struct pci_bus *bus = d->bus;

	if (!bus)
		return;
	for (unsigned i = 0; i < PCI_BAR_SLOTS; i++) {
		ioport_remove(d->machine->io, d->bar[i].range);
		memory_remove(d->machine->memory, d->bar[i].region);
	}
	bus->devices[d->devfn] = NULL;
	for (unsigned i = 0; i < bus->count; i++) {
		if (bus->present[i] == d->devfn) {
			bus->present[i] = bus->present[--bus->count];
			break;
		}
	}
	update_pirqs(bus);
	d->bus = NULL;
}

void pci_device_reset(struct pci_device *d)
{
	store_le16(d->config + PCI_COMMAND, 0);
	store_le16(d->config + PCI_STATUS, STATUS_DEVSEL_MEDIUM);
	d->config[0x0c] = 0;
	d->config[0x0d] = 0;
	d->config[PCI_INTERRUPT_LINE] = 0;
	for (unsigned i = 0; i < PCI_BAR_SLOTS; i++) {
		uint8_t *p = d->config + bar_offset(i);

		if (d->bar[i].kind != PCI_BAR_NONE)
			store_le32(p, load_le32(p) & ~load_le32(d->wmask + bar_offset(i)));
	}
	if (!d->has_fixed) {
		memcpy(d->fixed, d->config, sizeof(d->fixed));
		d->has_fixed = true;
	}
	update_bars(d);
	d->intx = false;
	update_pin(d);
}

void pci_device_loaded(struct pci_device *d)
{
	/* Identity is this device's own; an image cannot change it. */
	for (unsigned i = 0; i < sizeof(d->fixed); i++) {
		uint8_t variable = d->wmask[i] | d->w1c[i];

		d->config[i] = (d->config[i] & variable) | (d->fixed[i] & ~variable);
	}
	update_bars(d);
	update_pin(d);
}

/* ---- configuration accesses ---- */

uint32_t pci_config_read(struct pci_bus *bus, uint8_t devfn, unsigned offset, unsigned size)
{
	struct pci_device *d = bus->devices[devfn];
	uint32_t v = 0;

	if (!d || offset + size > sizeof(d->config))
		return UINT32_MAX;
	if (d->pci_ops && d->pci_ops->config_read)
		d->pci_ops->config_read(d, offset, size);
	for (unsigned i = 0; i < size; i++)
		v |= (uint32_t)d->config[offset + i] << i * 8;
	return v;
}

static bool touches(unsigned offset, unsigned size, unsigned first, unsigned end)
{
	return offset < end && offset + size > first;
}

void pci_config_write(struct pci_bus *bus, uint8_t devfn, unsigned offset, uint32_t value,
		      unsigned size)
{
	struct pci_device *d = bus->devices[devfn];

	if (!d || offset + size > sizeof(d->config))
		return;
	for (unsigned i = 0; i < size; i++) {
		uint8_t *p = &d->config[offset + i], v = value >> i * 8;

		*p = (*p & ~d->wmask[offset + i]) | (v & d->wmask[offset + i]);
		*p &= ~(v & d->w1c[offset + i]);
	}
	if (touches(offset, size, PCI_COMMAND, PCI_COMMAND + 2)) {
		update_bars(d);
		update_pin(d);
	} else if (touches(offset, size, PCI_BAR0, PCI_BAR0 + 4 * PCI_BARS) ||
		   touches(offset, size, PCI_ROM, PCI_ROM + 4)) {
		update_bars(d);
	}
	if (trace_on(&d->machine->trace, TRACE_DEV))
		trace_print(&d->machine->trace, TRACE_DEV, "pci %02x.%x: config %02x/%u = %x",
			    devfn >> 3, devfn & 7, offset, size, value);
	if (d->pci_ops && d->pci_ops->config_written)
		d->pci_ops->config_written(d, offset, size);
}

static bool selected(const struct pci_bus *bus)
{
	return bus->address & ADDRESS_ENABLE && !(bus->address >> 16 & 0xff);
}

static uint32_t address_read(void *opaque, uint16_t port, unsigned size)
{
	struct pci_bus *bus = opaque;

	if (port == CONFIG_ADDRESS && size == 4)
		return bus->address;
	if (port == RESET_CONTROL && size == 1 && bus->reset_control.read)
		return bus->reset_control.read(bus->reset_control.opaque);
	return UINT32_MAX;
}

static void address_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct pci_bus *bus = opaque;

	if (port == CONFIG_ADDRESS && size == 4)
		bus->address = value & ADDRESS_WRITABLE;
	else if (port == RESET_CONTROL && size == 1 && bus->reset_control.write)
		bus->reset_control.write(bus->reset_control.opaque, value);
}

static uint32_t data_read(void *opaque, uint16_t port, unsigned size)
{
	struct pci_bus *bus = opaque;

	if (!selected(bus))
		return UINT32_MAX;
	return pci_config_read(bus, bus->address >> 8 & 0xff,
			       (bus->address & 0xfc) + (port & 3), size);
}

static void data_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct pci_bus *bus = opaque;

	if (selected(bus))
		pci_config_write(bus, bus->address >> 8 & 0xff,
				 (bus->address & 0xfc) + (port & 3), value, size);
}

static const struct ioport_ops address_ops = {
	.read = address_read, .write = address_write, .sizes = 1 | 2 | 4,
};
static const struct ioport_ops data_ops = {
	.read = data_read, .write = data_write, .sizes = 1 | 2 | 4,
};

/* ---- firmware's work ---- */

static void assign_bar(struct pci_bus *bus, struct pci_device *d, unsigned index, uint32_t *io,
		       uint32_t *mem)
{
	struct pci_bar *bar = &d->bar[index];
	uint32_t *next = bar->kind == PCI_BAR_IO ? io : mem;
	uint32_t end = bar->kind == PCI_BAR_IO ? ASSIGN_IO_END : ASSIGN_MEM_END;
	uint32_t at;

	if (bar->kind == PCI_BAR_NONE)
		return;
	at = (*next + bar->size - 1) & ~(bar->size - 1);
	if (at < *next || at > end - bar->size || bar->size > end)
		return; /* no room: left at 0, the guest's own allocator may try */
	pci_config_write(bus, d->devfn, bar_offset(index), at, 4);
	*next = at + bar->size;
}

void pci_bus_assign(struct pci_bus *bus, const uint8_t line[PCI_PIRQS])
{
	uint32_t io = ASSIGN_IO, mem = ASSIGN_MEM;

	memory_begin(bus->machine->memory);
	for (unsigned devfn = 0; devfn < 256; devfn++) {
		struct pci_device *d = bus->devices[devfn];

		if (!d)
			continue;
		for (unsigned i = 0; i < PCI_BAR_SLOTS; i++)
			assign_bar(bus, d, i, &io, &mem);
		if (d->config[PCI_INTERRUPT_PIN])
			pci_config_write(bus, devfn, PCI_INTERRUPT_LINE, line[pirq_of(d)], 1);
		pci_config_write(bus, devfn, PCI_COMMAND,
				 pci_config_read(bus, devfn, PCI_COMMAND, 2) | PCI_COMMAND_IO |
					 PCI_COMMAND_MEMORY,
				 2);
	}
	memory_commit(bus->machine->memory);
}

/* ---- the bus ---- */

struct device *pci_bus_device(struct pci_bus *bus)
{
	return &bus->base;
}

void pci_bus_set_router(struct pci_bus *bus, void (*set)(void *opaque, int pirq, bool level),
			void *opaque)
{
	bus->router.set = set;
	bus->router.opaque = opaque;
}

void pci_bus_set_reset_control(struct pci_bus *bus, uint8_t (*read)(void *opaque),
			       void (*write)(void *opaque, uint8_t value), void *opaque)
{
	bus->reset_control.read = read;
	bus->reset_control.write = write;
	bus->reset_control.opaque = opaque;
}

struct pci_device *pci_bus_find(const struct pci_bus *bus, uint8_t devfn)
{
	return bus->devices[devfn];
}

static void bus_reset(struct device *dev)
{
	container_of(dev, struct pci_bus, base)->address = 0;
}

static void bus_destroy(struct device *dev)
{
	free(container_of(dev, struct pci_bus, base));
}

static const struct state_field bus_fields[] = {
	STATE_UINT_MASKED(struct pci_bus, address, ADDRESS_WRITABLE),
	STATE_END,
};

static const struct device_ops bus_ops = {
	.name = "pci",
	.reset = bus_reset,
	.destroy = bus_destroy,
	.fields = bus_fields, .size = sizeof(struct pci_bus),
};

struct pci_bus *pci_bus_create(struct machine *m, struct error *err)
{
	struct pci_bus *bus = calloc(1, sizeof(*bus));

	if (!bus) {
		error_set(err, "PCI bus: out of memory");
		return NULL;
	}
	bus->base.ops = &bus_ops;
	bus->machine = m;
	ioport_add(m->io, CONFIG_ADDRESS, 4, &address_ops, bus, "pci address");
	ioport_add(m->io, CONFIG_DATA, 4, &data_ops, bus, "pci data");
	machine_add(m, &bus->base);
	return bus;
}
