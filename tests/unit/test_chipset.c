/* PCI configuration, shadow RAM, PIRQ routing, fw_cfg and the ACPI tables. */
#include "tests/unit/fixture.h"

#include <endian.h>

#include "core/cpu.h"
#include "devices/acpi_tables.h"
#include "devices/i440fx.h"
#include "devices/pci.h"
#include "devices/piix3.h"
#include "devices/vmport.h"

struct chipset {
	struct fixture f;
	struct cpu *cpu;
	struct pci_bus *bus;
	uint16_t irqs;
};

struct card {
	struct pci_device pci;
	uint32_t port, value, offset;
};

static void route(void *opaque, uint16_t irqs)
{
	((struct chipset *)opaque)->irqs = irqs;
}

static void chipset_init(struct chipset *c)
{
	struct error err = { "" };
	struct memory *mem;
	uint64_t rom;

	memset(c, 0, sizeof(*c));
	fixture_init(&c->f);
	c->cpu = calloc(1, sizeof(*c->cpu));
	c->f.m.cpu = c->cpu;
	mem = c->f.m.memory;
	rom = memory_rom_alloc(mem, 128 * KIB);
	memset(memory_host(mem) + rom, 0xea, 128 * KIB);
	c->bus = pci_bus_create(&c->f.m, &err);
	ck_assert_ptr_nonnull(c->bus);
	ck_assert_ptr_nonnull(i440fx_create(&c->f.m, c->bus, rom, &err));
	ck_assert_ptr_nonnull(piix3_create(&c->f.m, c->bus, route, c, &err));
}

static void chipset_finish(struct chipset *c)
{
	fixture_finish(&c->f);
	free(c->cpu);
}

static uint32_t cfg_read(struct chipset *c, unsigned devfn, unsigned reg, unsigned size)
{
	ioport_write(c->f.m.io, 0xcf8, 0x80000000 | devfn << 8 | (reg & 0xfc), 4);
	return ioport_read(c->f.m.io, 0xcfc + (reg & 3), size);
}

static void cfg_write(struct chipset *c, unsigned devfn, unsigned reg, uint32_t v, unsigned size)
{
	ioport_write(c->f.m.io, 0xcf8, 0x80000000 | devfn << 8 | (reg & 0xfc), 4);
	ioport_write(c->f.m.io, 0xcfc + (reg & 3), v, size);
}

/* ---- a card with every kind of BAR ---- */

static uint32_t card_in(void *opaque, uint16_t port, unsigned size)
{
	return port & 15;
}

static void card_out(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct card *card = opaque;

	card->port = port;
	card->value = value;
}

static uint64_t card_read(void *opaque, uint64_t offset, unsigned size)
{
	return offset;
}

static const struct ioport_ops card_ports = { .read = card_in, .write = card_out, .sizes = 7 };
static const struct mmio_ops card_mmio = { .read = card_read };

static void card_reset(struct device *dev)
{
	pci_device_reset(container_of(dev, struct pci_device, base));
}

static void card_destroy(struct device *dev)
{
	struct card *card = container_of(dev, struct card, pci.base);

	pci_device_finish(&card->pci);
	free(card);
}

static const struct device_ops card_ops = {
	.name = "card", .reset = card_reset, .destroy = card_destroy,
};

static struct card *card_new(struct chipset *c, int devfn)
{
	static const struct pci_ids ids = {
		.vendor = 0x1234, .device = 0x5678, .class = 0x0200, .pin = 1,
	};
	struct card *card = calloc(1, sizeof(*card));
	struct error err = { "" };
	uint8_t rom[3000] = { 0x55, 0xaa };

	card->pci.base.ops = &card_ops;
	ck_assert(pci_device_init(&card->pci, &c->f.m, c->bus, devfn, &ids, NULL, &err));
	ck_assert(pci_bar_io(&card->pci, 0, 16, &card_ports, card, "card"));
	ck_assert(pci_bar_mem(&card->pci, 1, 256, &card_mmio, card, "card"));
	ck_assert(pci_bar_ram(&card->pci, 2, MIB, 8 * MIB, "card"));
	ck_assert(pci_bar_rom(&card->pci, rom, sizeof(rom), "card", &err));
	ck_assert(!pci_bar_io(&card->pci, 0, 16, &card_ports, card, "twice"));
	ck_assert(!pci_bar_io(&card->pci, 3, 24, &card_ports, card, "no power of two"));
	machine_add(&c->f.m, &card->pci.base);
	return card;
}

/* PCI 2.2, 3.2.2.3.2. */
START_TEST(pci_mechanism_1)
{
	struct chipset c;

	chipset_init(&c);
	ck_assert_uint_eq(cfg_read(&c, 0, 0, 4), 0x12378086);
	ck_assert_uint_eq(cfg_read(&c, 8, 2, 2), 0x7000);
	ck_assert_uint_eq(cfg_read(&c, 8, 0x0e, 1), 0x80);
	ck_assert_uint_eq(cfg_read(&c, 9, 0, 4), 0xffffffff);
	ioport_write(c.f.m.io, 0xcf8, 0x80010000, 4); /* bus 1 */
	ck_assert_uint_eq(ioport_read(c.f.m.io, 0xcfc, 4), 0xffffffff);
	ioport_write(c.f.m.io, 0xcf8, 0x00000000, 4); /* not enabled */
	ck_assert_uint_eq(ioport_read(c.f.m.io, 0xcfc, 4), 0xffffffff);
	/* Only dwords reach the address register. */
	ioport_write(c.f.m.io, 0xcf8, 0x80000800, 4);
	ioport_write(c.f.m.io, 0xcf8, 0x12, 1);
	ioport_write(c.f.m.io, 0xcf8, 0x1234, 2);
	ck_assert_uint_eq(ioport_read(c.f.m.io, 0xcf8, 4), 0x80000800);
	cfg_write(&c, 0, 0, 0, 4); /* identity is read-only */
	ck_assert_uint_eq(cfg_read(&c, 0, 0, 4), 0x12378086);
	/* An access over the end of the data register. */
	ck_assert_uint_eq(ioport_read(c.f.m.io, 0xcff, 4) >> 8, 0xffffff);
	chipset_finish(&c);
}
END_TEST

START_TEST(pci_bars)
{
	struct chipset c;
	struct card *card;
	struct memory *mem;
	unsigned fn = PCI_DEVFN(5, 0);

	chipset_init(&c);
	mem = c.f.m.memory;
	card = card_new(&c, fn);
	for (int i = 0; i < 4; i++)
		cfg_write(&c, fn, i < 3 ? 0x10 + 4 * i : 0x30, 0xffffffff, 4);
	ck_assert_uint_eq(cfg_read(&c, fn, 0x10, 4), 0xfffffff1);
	ck_assert_uint_eq(cfg_read(&c, fn, 0x14, 4), 0xffffff00);
	ck_assert_uint_eq(cfg_read(&c, fn, 0x18, 4), 0xfff00008);
	ck_assert_uint_eq(cfg_read(&c, fn, 0x1c, 4), 0);
	ck_assert_uint_eq(cfg_read(&c, fn, 0x30, 4), 0xfffff001);
	cfg_write(&c, fn, 4, 3, 2); /* decoding all ones is decoding nothing */
	ck_assert_uint_eq(pci_bar_address(&card->pci, 0) | pci_bar_address(&card->pci, 1), 0);
	cfg_write(&c, fn, 0x10, 0xc100, 4);
	cfg_write(&c, fn, 0x14, 0xf0000000, 4);
	cfg_write(&c, fn, 0x18, 0xf1000000, 4);
	cfg_write(&c, fn, 0x30, 0xf2000000, 4);
	ck_assert_uint_eq(ioport_read(c.f.m.io, 0xc105, 1), 5);
	ioport_write(c.f.m.io, 0xc108, 0xabcd, 2);
	ck_assert(card->port == 0xc108 && card->value == 0xabcd);
	ck_assert_uint_eq(memory_read(mem, 0xf00000fc, 4), 0xfc);
	ck_assert_uint_eq(memory_read(mem, 0xf0000100, 4), 0xffffffff);
	memory_write(mem, 0xf1000010, 0x42, 1);
	ck_assert_uint_eq(memory_host(mem)[8 * MIB + 0x10], 0x42);
	ck_assert_uint_eq(memory_read(mem, 0xf2000000, 2), 0xffff); /* ROM not enabled */
	cfg_write(&c, fn, 0x30, 0xf2000001, 4);
	ck_assert_uint_eq(memory_read(mem, 0xf2000000, 2), 0xaa55);
	cfg_write(&c, fn, 0x10, 0xc200, 4);
	ck_assert_uint_eq(ioport_read(c.f.m.io, 0xc105, 1), 0xff);
	ck_assert_uint_eq(ioport_read(c.f.m.io, 0xc205, 1), 5);
	cfg_write(&c, fn, 4, 0, 2);
	ck_assert_uint_eq(ioport_read(c.f.m.io, 0xc205, 1), 0xff);
	ck_assert_uint_eq(memory_read(mem, 0xf00000fc, 4), 0xffffffff);
	cfg_write(&c, fn, 4, 7, 2);
	card_reset(&card->pci.base);
	ck_assert_uint_eq(cfg_read(&c, fn, 4, 2), 0);
	ck_assert_uint_eq(cfg_read(&c, fn, 0x10, 4), 1);
	chipset_finish(&c);
}
END_TEST

START_TEST(pci_addresses_are_given_out)
{
	static const uint8_t line[PCI_PIRQS] = { 10, 10, 11, 11 };
	struct chipset c;
	struct card *a, *b;
	struct error err = { "" };

	chipset_init(&c);
	a = card_new(&c, -1); /* slots 2 and 3 */
	b = card_new(&c, -1);
	ck_assert_uint_eq(a->pci.devfn, PCI_DEVFN(2, 0));
	ck_assert_uint_eq(b->pci.devfn, PCI_DEVFN(3, 0));
	ck_assert(!pci_device_init(&(struct pci_device){ .base.ops = &card_ops }, &c.f.m, c.bus,
				   PCI_DEVFN(3, 0), &(struct pci_ids){ 0 }, NULL, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "03.0 is taken"));
	pci_bus_assign(c.bus, line);
	ck_assert_uint_eq(pci_bar_address(&a->pci, 0), 0xc000);
	ck_assert_uint_eq(pci_bar_address(&b->pci, 0), 0xc010);
	ck_assert_uint_eq(pci_bar_address(&b->pci, 2) % MIB, 0);
	ck_assert_uint_ne(pci_bar_address(&a->pci, 1), pci_bar_address(&b->pci, 1));
	ck_assert_uint_eq(cfg_read(&c, b->pci.devfn, 0x3c, 1), 11); /* slot 3, INTA: PIRQC */
	chipset_finish(&c);
}
END_TEST

START_TEST(pirq_routing)
{
	struct chipset c;
	struct card *a, *b;

	chipset_init(&c);
	a = card_new(&c, PCI_DEVFN(5, 0)); /* INTA of slot 5: PIRQA */
	b = card_new(&c, PCI_DEVFN(9, 0)); /* and of slot 9 too */
	pci_set_irq(&a->pci, true);
	ck_assert_uint_eq(c.irqs, 0); /* not routed at reset */
	cfg_write(&c, 8, 0x60, 0x0a, 1);
	ck_assert_uint_eq(c.irqs, 1 << 10);
	pci_set_irq(&b->pci, true);
	pci_set_irq(&a->pci, false);
	ck_assert_uint_eq(c.irqs, 1 << 10);
	cfg_write(&c, 8, 0x60, 0x0d, 1); /* reserved: IRQ 13 cannot be had */
	ck_assert_uint_eq(c.irqs, 0);
	cfg_write(&c, 8, 0x60, 0x8b, 1);
	ck_assert_uint_eq(c.irqs, 0);
	cfg_write(&c, 8, 0x60, 0x0b, 1);
	ck_assert_uint_eq(c.irqs, 1 << 11);
	cfg_write(&c, PCI_DEVFN(9, 0), 4, 0x400, 2); /* interrupt disable */
	ck_assert_uint_eq(c.irqs, 0);
	cfg_write(&c, PCI_DEVFN(9, 0), 4, 0, 2);
	ck_assert_uint_eq(c.irqs, 1 << 11);
	card_reset(&b->pci.base);
	ck_assert_uint_eq(c.irqs, 0);
	chipset_finish(&c);
}
END_TEST

/* 82441FX 3.2.16: each half byte of PAM is read and write enable. */
START_TEST(shadow_ram)
{
	struct chipset c;
	struct memory *mem;
	struct memory_view v;

	chipset_init(&c);
	mem = c.f.m.memory;
	ck_assert_uint_eq(memory_read(mem, 0xf0000, 1), 0xea);
	ck_assert_uint_eq(memory_read(mem, 0xe4000, 1), 0xea);
	ck_assert_uint_eq(memory_read(mem, 0xc0000, 1), 0xff);
	memory_write(mem, 0xf0000, 0x11, 1);
	cfg_write(&c, 0, 0x59, 0x20, 1); /* written to RAM, read from ROM */
	memory_write(mem, 0xf0000, 0x22, 1);
	ck_assert_uint_eq(memory_read(mem, 0xf0000, 1), 0xea);
	memory_view(mem, 0xf0000, &v);
	ck_assert(v.kind == MEMORY_ROMD && v.host[0] == 0xea); /* code runs on */
	cfg_write(&c, 0, 0x59, 0x10, 1); /* read only */
	ck_assert_uint_eq(memory_read(mem, 0xf0000, 1), 0x22);
	memory_write(mem, 0xf0000, 0x33, 1);
	ck_assert_uint_eq(memory_read(mem, 0xf0000, 1), 0x22);
	cfg_write(&c, 0, 0x59, 0x30, 1);
	memory_write(mem, 0xf0000, 0x44, 1);
	ck_assert_uint_eq(memory_read(mem, 0xf0000, 1), 0x44);
	cfg_write(&c, 0, 0x5a, 0x30, 1); /* C4000-C7FFF only */
	memory_write(mem, 0xc0000, 0x55, 1);
	memory_write(mem, 0xc4000, 0x55, 1);
	ck_assert_uint_eq(memory_read(mem, 0xc0000, 1), 0xff);
	ck_assert_uint_eq(memory_read(mem, 0xc4000, 1), 0x55);
	ck_assert_uint_eq(memory_read(mem, 0xc8000, 1), 0xff);
	cfg_write(&c, 0, 0x5b, 0x02, 1); /* where there is no ROM: all ones, written below */
	memory_write(mem, 0xc8000, 0x66, 1);
	ck_assert_uint_eq(memory_read(mem, 0xc8000, 1), 0xff);
	ck_assert_uint_eq(memory_host(mem)[0xc8000], 0x66);
	chipset_finish(&c);
}
END_TEST

START_TEST(smram)
{
	struct chipset c;
	struct memory *mem;

	chipset_init(&c);
	mem = c.f.m.memory;
	memory_write(mem, 0xa0000, 1, 1);
	ck_assert_uint_eq(memory_read(mem, 0xa0000, 1), 0xff);
	cfg_write(&c, 0, 0x72, 0x4a, 1);
	memory_write(mem, 0xa0000, 1, 1);
	ck_assert_uint_eq(memory_read(mem, 0xa0000, 1), 1);
	cfg_write(&c, 0, 0x72, 0x1a, 1); /* locked: cannot be opened again */
	ck_assert_uint_eq(memory_read(mem, 0xa0000, 1), 0xff);
	cfg_write(&c, 0, 0x72, 0x4a, 1);
	ck_assert_uint_eq(cfg_read(&c, 0, 0x72, 1), 0x1a);
	ck_assert_uint_eq(memory_read(mem, 0xa0000, 1), 0xff);
	chipset_finish(&c);
}
END_TEST

START_TEST(reset_and_a20)
{
	struct chipset c;

	chipset_init(&c);
	ck_assert_uint_eq(in8(&c.f, 0x92), 2);
	out8(&c.f, 0x92, 0);
	ck_assert(!memory_a20(c.f.m.memory));
	memory_set_a20(c.f.m.memory, true); /* the keyboard controller */
	ck_assert_uint_eq(in8(&c.f, 0x92), 2);
	out8(&c.f, 0x92, 3);
	ck_assert(c.f.m.reset_requested);
	c.f.m.reset_requested = false;
	out8(&c.f, 0xcf9, 0x02);
	ck_assert(!c.f.m.reset_requested);
	out8(&c.f, 0xcf9, 0x06);
	ck_assert(c.f.m.reset_requested);
	ck_assert_uint_eq(in8(&c.f, 0xcf9), 0x06);
	chipset_finish(&c);
}
END_TEST

/* ---- fw_cfg ---- */

static uint32_t dma(struct fixture *f, uint32_t control, uint32_t len, uint64_t to)
{
	struct { uint32_t control, len; uint64_t address; } d = {
		htobe32(control), htobe32(len), htobe64(to),
	};

	memory_write_bytes(f->m.memory, 0x1000, &d, sizeof(d));
	ioport_write(f->m.io, 0x514, 0, 4);
	ioport_write(f->m.io, 0x518, htobe32(0x1000), 4);
	memory_read_bytes(f->m.memory, 0x1000, &d, 4);
	return be32toh(d.control);
}

START_TEST(fw_cfg_items)
{
	struct fixture f;
	struct error err = { "" };
	struct fw_cfg *fw;
	uint8_t dir[4 + 64 * 2], buf[8];
	char name[80];

	fixture_init(&f);
	memory_add_ram(f.m.memory, 0, MIB, 0, MEMORY_RAM, 0, "ram");
	fw = fw_cfg_create(&f.m, &err);
	ck_assert(fw_cfg_add_file(fw, "etc/one", "hello", 5, &err));
	ck_assert(fw_cfg_add_file(fw, "etc/two", "x", 1, &err));
	ck_assert(fw_cfg_add_file(fw, "etc/one", "world", 5, &err));
	ioport_write(f.m.io, 0x510, 0, 2);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(in8(&f, 0x511), "QEMU"[i]);
	ck_assert_uint_eq(in8(&f, 0x511), 0); /* past the end */
	ck_assert_uint_eq(be32toh(ioport_read(f.m.io, 0x514, 4)), 0x51454d55);
	ck_assert_uint_eq(be32toh(ioport_read(f.m.io, 0x518, 4)), 0x20434647);
	ck_assert_uint_eq(dma(&f, FW_CFG_FILE_DIR << 16 | 8 | 2, sizeof(dir), 0x2000), 0);
	memory_read_bytes(f.m.memory, 0x2000, dir, sizeof(dir));
	ck_assert_mem_eq(dir, "\0\0\0\2\0\0\0\5\0\x20\0\0etc/one", 20);
	ck_assert_uint_eq(dma(&f, 0x20 << 16 | 8 | 4, 2, 0), 0); /* skip two bytes */
	ck_assert_uint_eq(dma(&f, 2, 8, 0x3000), 0);
	memory_read_bytes(f.m.memory, 0x3000, buf, 8);
	ck_assert_mem_eq(buf, "rld\0\0\0\0\0", 8);
	/* What must not work, and must not take for ever. */
	ck_assert_uint_eq(dma(&f, 0x20 << 16 | 8 | 0x10, 5, 0x3000), 1);
	ck_assert_uint_eq(dma(&f, 2, 0xffffffff, 0x3000), 1);
	ck_assert_uint_eq(dma(&f, 4, 0xffffffff, 0), 0);
	ck_assert_uint_eq(dma(&f, 2, 4, 0x3000), 0);
	ioport_write(f.m.io, 0x510, 0xffff, 2);
	ck_assert_uint_eq(in8(&f, 0x511), 0);
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "file%d", i);
		if (!fw_cfg_add_file(fw, name, "", 0, &err))
			break;
	}
	ck_assert_ptr_nonnull(strstr(err.text, "no room for file"));
	fixture_finish(&f);
}
END_TEST

/* ---- ACPI ---- */

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	while (len--)
		s += *p++;
	return s;
}

START_TEST(acpi_tables)
{
	struct acpi_board board = {
		.pm_base = 0x600, .smb_base = 0x700, .gpe_base = 0xafe0, .pci_memory = 0x80000000,
		.sci = 9, .pirq_line = { 10, 10, 11, 11 }, .fdc = true, .i8042 = true, .serials = 4,
	};
	struct acpi_tables t;
	uint8_t *out, rsdp[ACPI_RSDP_SIZE];
	const uint32_t base = 0xe0040;
	const uint8_t *rsdt, *fadt, *madt;

	ck_assert(acpi_tables_build(&t, &board));
	out = malloc(t.size);
	acpi_tables_place(&t, base, out, rsdp);
	ck_assert_mem_eq(rsdp, "RSD PTR ", 8);
	ck_assert_uint_eq(sum(rsdp, 20), 0);
	rsdt = out + load_le32(rsdp + 16) - base;
	ck_assert_mem_eq(rsdt, "RSDT", 4);
	ck_assert_uint_eq(load_le32(rsdt + 4), 36 + 8);
	fadt = out + load_le32(rsdt + 36) - base;
	madt = out + load_le32(rsdt + 40) - base;
	ck_assert_mem_eq(fadt, "FACP", 4);
	ck_assert_mem_eq(madt, "APIC", 4);
	ck_assert_uint_eq(load_le32(fadt + 4), 244);
	ck_assert_mem_eq(out + load_le32(fadt + 36) - base, "FACS", 4);
	ck_assert_mem_eq(out + load_le32(fadt + 40) - base, "DSDT", 4);
	ck_assert_uint_eq(load_le32(fadt + 76), 0x608);
	ck_assert_uint_eq(load_le64(fadt + 116 + 4), 0xcf9);
	ck_assert_uint_eq(fadt[128], 6);
	ck_assert_uint_eq(load_le64(fadt + 208 + 4), 0x608); /* X_PM_TMR_BLK */
	for (unsigned i = 0; i < t.tables; i++)
		ck_assert_uint_eq(sum(out + t.table[i], t.table_size[i]), 0);
	free(out);
	acpi_tables_finish(&t);
}
END_TEST

/* ---- the VMware port ---- */

START_TEST(vmport_calls)
{
	struct chipset c;
	struct error err = { "" };

	chipset_init(&c);
	ck_assert_ptr_nonnull(vmport_create(&c.f.m, &err));
	ck_assert_uint_eq(ioport_read(c.f.m.io, 0x5658, 4), 0xffffffff);
	c.cpu->gpr[EAX] = 0x564d5868;
	c.cpu->gpr[ECX] = 10;
	ck_assert_uint_eq(ioport_read(c.f.m.io, 0x5658, 2), 0xffff);
	ck_assert_uint_eq(ioport_read(c.f.m.io, 0x5658, 4), 6);
	ck_assert_uint_eq(c.cpu->gpr[EBX], 0x564d5868);
	c.cpu->gpr[ECX] = 23;
	ck_assert_uint_le(time(NULL) - ioport_read(c.f.m.io, 0x5658, 4), 2);
	ck_assert_uint_lt(c.cpu->gpr[EBX], 1000000);
	c.cpu->gpr[ECX] = 0x1234;
	ck_assert_uint_eq(ioport_read(c.f.m.io, 0x5658, 4), 0xffffffff);
	chipset_finish(&c);
}
END_TEST

static void add(TCase *t)
{
	tcase_add_test(t, pci_mechanism_1);
	tcase_add_test(t, pci_bars);
	tcase_add_test(t, pci_addresses_are_given_out);
	tcase_add_test(t, pirq_routing);
	tcase_add_test(t, shadow_ram);
	tcase_add_test(t, smram);
	tcase_add_test(t, reset_and_a20);
	tcase_add_test(t, fw_cfg_items);
	tcase_add_test(t, acpi_tables);
	tcase_add_test(t, vmport_calls);
}

int main(void)
{
	return fixture_main("chipset", add);
}
