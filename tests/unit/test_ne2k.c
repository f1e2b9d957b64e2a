/* The NE2000 as a card: PCI and ISA, PROM, option ROM, state. */
#include "tests/unit/ne2000_world.h"

/* ---- cards ---- */

START_TEST(pci_identity)
{
	ck_assert_uint_eq(pci_config_read(bus, pci->devfn, 0, 4), 0x802910ec);
	ck_assert_uint_eq(pci_config_read(bus, pci->devfn, PCI_CLASS, 2), 0x0200);
	ck_assert_uint_eq(pci_config_read(bus, pci->devfn, PCI_INTERRUPT_PIN, 1), 1);
	pci_config_write(bus, pci->devfn, PCI_BAR0, UINT32_MAX, 4);
	ck_assert_uint_eq(pci_config_read(bus, pci->devfn, PCI_BAR0, 4), 0xffffffe1); /* 32 ports */
}
END_TEST

START_TEST(pci_slots_follow)
{
	struct error err = {""};
	struct net_port second;

	net_port_init(&second, f.m.loop, &f.m.trace, 1);
	ck_assert_ptr_nonnull(make_pci(-1, NULL, 0, &err));
	ck_assert_ptr_nonnull(pci_bus_find(bus, PCI_DEVFN(6, 0)));
	ck_assert_ptr_null(make_pci(6, NULL, 0, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "06.0"));
	ck_assert_ptr_null(make_pci(32, NULL, 0, &err));
	net_port_finish(&second);
}
END_TEST

START_TEST(prom_has_mac_and_signature)
{
	uint8_t prom[32];

	start(0);
	card_read(0, prom, 32);
	for (unsigned i = 0; i < 6; i++) {
		ck_assert_uint_eq(prom[2 * i], mac[i]);
		ck_assert_uint_eq(prom[2 * i + 1], mac[i]);
	}
	for (unsigned i = 28; i < 32; i++)
		ck_assert_uint_eq(prom[i], 0x57);
	card_write(0, "xxxxxx", 6); /* read-only */
	card_read(0, prom, 2);
	ck_assert_uint_eq(prom[0], mac[0]);
}
END_TEST

/* "RTL8029AS: 8029ID0 = 50H, 8029ID1 = 43H; page 3: 8029ASID0 = 29H, ASID1 = 80H." */
START_TEST(rtl8029_identification)
{
	reg(0, START);
	ck_assert_uint_eq(get(0x0a), 0x50);
	ck_assert_uint_eq(get(0x0b), 0x43);
	reg(0, PAGE3);
	ck_assert_uint_eq(get(0x0e), 0x29);
	ck_assert_uint_eq(get(0x0f), 0x80);
	reg(6, 0x40); /* not while 9346CR forbids it */
	ck_assert_uint_eq(get(6), 0);
	reg(1, 0xc0);
	reg(6, 0x40); /* what Linux does for full duplex */
	ck_assert_uint_eq(get(6), 0x40);
}
END_TEST

START_TEST(isa_card)
{
	uint8_t prom[32];

	ck_assert_uint_eq(in8(&f, ISA), STOP);
	start(0x04);
	card_read(0, prom, 32);
	ck_assert_uint_eq(prom[28], 0x57);
	ck_assert_mem_eq(port.guest_mac, mac, 6);
	ck_assert(!f.level[5]);
	arrive(everyone, 60);
	ck_assert(f.level[5]);
	reg(7, 0xff);
	reg(3, curr() - 1);
	reg(7, 0xff);
	ck_assert(!f.level[5]);
	/* ISA interrupts are edges: frames left in the ring make another one. */
	f.edges[5] = 0;
	arrive(everyone, 60);
	arrive(everyone, 60);
	ck_assert_uint_eq(f.edges[5], 1);
	reg(3, curr() - 2);
	reg(7, PRX);
	ck_assert(f.level[5]);
	ck_assert_uint_eq(f.edges[5], 2);
	/* A dword access is two words on ISA, the second at the next port. */
	card_write(0x4000, "abcdefgh", 8);
	dma(READ, 0x4000, 8);
	ck_assert_uint_eq(ioport_read(f.m.io, ISA + 0x10, 4), load_le32("abcd"));
}
END_TEST

START_TEST(isa_configuration_is_checked)
{
	struct ne2000_config cfg = {.port = &port, .iobase = 0x310, .irq = 5};
	struct error err = {""};

	ck_assert_ptr_null(ne2k_isa_create(&f.m, &cfg, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "0x310"));
	cfg.iobase = 0x320;
	cfg.irq = 13;
	ck_assert_ptr_null(ne2k_isa_create(&f.m, &cfg, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "13"));
}
END_TEST

static void make_rom(uint8_t *rom, size_t size)
{
	memset(rom, 0x11, size);
	rom[0] = 0x55;
	rom[1] = 0xaa;
	rom[2] = size / 512;
	rom[6] = 0;
	store_le16(rom + 0x18, 0x1c);
	memcpy(rom + 0x1c, "PCIR", 4);
	store_le32(rom + 0x20, 0);
}

START_TEST(option_rom_gets_ids_and_checksum)
{
	uint8_t rom[1024], sum = 0;
	struct error err = {""};
	const uint8_t *got;

	make_rom(rom, sizeof(rom));
	ck_assert_msg(make_pci(9, rom, sizeof(rom), &err) != NULL, "%s", err.text);
	pci_config_write(bus, PCI_DEVFN(9, 0), PCI_ROM, 0x800001, 4);
	ck_assert_uint_eq(pci_config_read(bus, PCI_DEVFN(9, 0), PCI_ROM, 4), 0x800001);
	got = pci_bus_find(bus, PCI_DEVFN(9, 0))->config;
	ck_assert_ptr_nonnull(got);
	pci_config_write(bus, PCI_DEVFN(9, 0), PCI_ROM, 0xe0000001, 4);
	pci_config_write(bus, PCI_DEVFN(9, 0), PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	uint8_t seen[1024];

	for (unsigned i = 0; i < sizeof(seen); i++)
		memory_read_bytes(f.m.memory, 0xe0000000u + i, seen + i, 1);
	ck_assert_uint_eq(load_le16(seen + 0x20), 0x10ec);
	ck_assert_uint_eq(load_le16(seen + 0x22), 0x8029);
	for (unsigned i = 0; i < sizeof(seen); i++)
		sum += seen[i];
	ck_assert_uint_eq(sum, 0);
	ck_assert_uint_eq(load_le32(rom + 0x20), 0); /* ours is untouched */
}
END_TEST

START_TEST(option_rom_hostile)
{
	uint8_t rom[1024];
	struct error err = {""};

	make_rom(rom, sizeof(rom));
	rom[0] = 0;
	ck_assert_ptr_null(make_pci(9, rom, sizeof(rom), &err));
	ck_assert_ptr_nonnull(strstr(err.text, "not an option ROM: no 55 aa"));
	rom[0] = 0x55;
	ck_assert_ptr_null(make_pci(9, rom, 1, &err));  /* truncated */
	ck_assert_ptr_null(make_pci(9, rom, 0, &err));
	store_le16(rom + 0x18, 0xfff0); /* PCIR beyond the end: left alone */
	ck_assert_ptr_nonnull(make_pci(9, rom, sizeof(rom), &err));
	store_le16(rom + 0x18, 1024 - 8);
	memcpy(rom + 1016, "PCIR", 4);
	ck_assert_ptr_nonnull(make_pci(10, rom, sizeof(rom), &err));
	rom[2] = 255; /* says it is longer than it is */
	store_le16(rom + 0x18, 0x1c);
	ck_assert_ptr_nonnull(make_pci(11, rom, sizeof(rom), &err));
}
END_TEST

/* ---- state ---- */

START_TEST(state_check)
{
	const struct device_ops *ops = pci->base.ops;
	const char *field = NULL;
	bool found = false;

	ck_assert(ops->check(&pci->base, &field));
	for (const struct state_field *s = ops->fields; s->type != STATE_TYPE_END; s++) {
		if (strcmp(s->name, "chip.cr"))
			continue;
		found = true;
		*((uint8_t *)pci + s->offset) = 0x25; /* transmits, stopped */
		ck_assert(!ops->check(&pci->base, &field));
		ck_assert_str_eq(field, "cr");
		*((uint8_t *)pci + s->offset) = 0x26;
		ck_assert(ops->check(&pci->base, &field));
	}
	ck_assert(found);
	/* A transmission that waited goes on after a load. */
	ops->loaded(&pci->base);
	ck_assert_uint_eq(wire.sent, 0);
	fixture_run_ns(&f, 1000000);
	ck_assert_uint_eq(get(0), START);
}
END_TEST

static void add_pci(TCase *t)
{
	tcase_add_test(t, pci_identity);
	tcase_add_test(t, pci_slots_follow);
	tcase_add_test(t, prom_has_mac_and_signature);
	tcase_add_test(t, rtl8029_identification);
	tcase_add_test(t, option_rom_gets_ids_and_checksum);
	tcase_add_test(t, option_rom_hostile);
	tcase_add_test(t, state_check);
}

static void add_isa(TCase *t)
{
	tcase_add_test(t, isa_card);
	tcase_add_test(t, isa_configuration_is_checked);
}

int main(void)
{
	return ne2000_main("ne2k", add_pci, add_isa);
}
