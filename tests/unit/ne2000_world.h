/* An NE2000 on a backend that remembers, with what drivers do to it. */
#ifndef GANNET_TESTS_UNIT_NE2000_WORLD_H
#define GANNET_TESTS_UNIT_NE2000_WORLD_H

#include "tests/unit/fixture.h"

#include "devices/ne2000.h"
#include "devices/pci.h"

enum { BASE = 0xc000, DATA = BASE + 0x10, RESET = BASE + 0x1f, ISA = 0x300 };
enum { /* command register values drivers use */
	STOP = 0x21, START = 0x22, TRANSMIT = 0x26, READ = 0x0a, WRITE = 0x12, SEND = 0x1a,
	PAGE1 = 0x62, PAGE2 = 0xa2, PAGE3 = 0xe2,
};
enum { PRX = 0x01, PTX = 0x02, RXE = 0x04, OVW = 0x10, CNT = 0x20, RDC = 0x40, RST = 0x80 };
enum { RING = 0x4c, END = 0x80 }; /* as Linux lays it out: 12 pages to send from */

static const uint8_t mac[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
static const uint8_t other[6] = {0x52, 0x54, 0x00, 0x99, 0x99, 0x99};
static const uint8_t everyone[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* A backend that remembers, pushes back, and answers from within. */
struct wire {
	struct net_backend base;
	bool full;            /* refuses */
	bool echo;            /* delivers what is sent back, at once */
	bool nag;             /* says writable from within send */
	unsigned sent, readable, depth, deepest;
	size_t len;
	uint8_t frame[NET_FRAME_MAX];
};

static struct fixture f;
static struct net_port port;
static struct wire wire;
static struct pci_bus *bus;
static struct pci_device *pci;
static uint16_t io; /* the card's ports */

static inline bool wire_can_send(struct net_backend *b)
{
	return !container_of(b, struct wire, base)->full;
}

static inline void wire_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	struct wire *w = container_of(b, struct wire, base);

	w->sent++;
	w->len = len;
	memcpy(w->frame, frame, len);
	w->depth++;
	w->deepest = MAX(w->deepest, w->depth);
	if (w->nag) {
		port.blocked = true;
		net_port_writable(&port);
	}
	if (w->echo)
		net_port_receive(&port, frame, len);
	w->depth--;
}

static inline void wire_readable(struct net_backend *b)
{
	container_of(b, struct wire, base)->readable++;
}

static inline void wire_close(struct net_backend *b)
{
	(void)b;
}

static const struct net_backend_ops wire_ops = {
	.name = "wire", .can_send = wire_can_send, .send = wire_send,
	.readable = wire_readable, .close = wire_close,
};

static inline void set_up_port(void)
{
	fixture_init(&f);
	net_port_init(&port, f.m.loop, &f.m.trace, 0);
	memset(&wire, 0, sizeof(wire));
	wire.base.ops = &wire_ops;
	wire.base.port = &port;
	net_port_set_backend(&port, &wire.base);
}

/* Interrupt pins end on the fixture's lines 0-3 (PIRQA-D). */
static inline void pirq(void *opaque, int n, bool level)
{
	fixture_set_line(opaque, n, level);
}

static inline struct device *make_pci(int slot, const void *rom, size_t rom_size, struct error *err)
{
	struct ne2000_config cfg = {.port = &port, .slot = slot, .rom = rom, .rom_size = rom_size};

	memcpy(cfg.mac, mac, 6);
	return ne2k_pci_create(&f.m, bus, &cfg, err);
}

static inline void set_up(void)
{
	struct error err = {""};

	set_up_port();
	bus = pci_bus_create(&f.m, &err);
	ck_assert_ptr_nonnull(bus);
	pci_bus_set_router(bus, pirq, &f);
	ck_assert_msg(make_pci(-1, NULL, 0, &err) != NULL, "%s", err.text);
	pci = pci_bus_find(bus, PCI_DEVFN(5, 0));
	ck_assert_ptr_nonnull(pci);
	pci_config_write(bus, pci->devfn, PCI_BAR0, BASE, 4);
	pci_config_write(bus, pci->devfn, PCI_COMMAND, PCI_COMMAND_IO, 2);
	io = BASE;
}

static inline void set_up_isa(void)
{
	struct ne2000_config cfg = {.port = &port, .iobase = ISA, .irq = 5};
	struct error err = {""};

	set_up_port();
	memcpy(cfg.mac, mac, 6);
	cfg.irq_line = fixture_line(&f, 5);
	ck_assert_msg(ne2k_isa_create(&f.m, &cfg, &err) != NULL, "%s", err.text);
	io = ISA;
}

static inline void tear_down(void)
{
	net_port_set_backend(&port, NULL);
	fixture_finish(&f);
	ck_assert_ptr_null(port.nic); /* the card took itself off the port */
	net_port_finish(&port);
}

/* ---- what drivers do ---- */

static inline void reg(unsigned r, uint8_t v)
{
	out8(&f, io + r, v);
}

static inline uint8_t get(unsigned r)
{
	return in8(&f, io + r);
}

static inline void dma(uint8_t command, uint16_t at, uint16_t count)
{
	reg(0x0a, count);
	reg(0x0b, count >> 8);
	reg(0x08, at);
	reg(0x09, at >> 8);
	reg(0x00, command);
}

static inline void card_read(uint16_t at, void *buf, uint16_t count)
{
	uint8_t *p = buf;

	dma(READ, at, (count + 1) & ~1);
	for (unsigned i = 0; i < count; i += 2) {
		uint16_t v = ioport_read(f.m.io, io + 0x10, 2);

		memcpy(p + i, &v, MIN(2u, count - i));
	}
}

static inline void card_write(uint16_t at, const void *buf, uint16_t count)
{
	const uint8_t *p = buf;

	dma(WRITE, at, (count + 1) & ~1);
	for (unsigned i = 0; i < count; i += 2) {
		uint16_t v = 0;

		memcpy(&v, p + i, MIN(2u, count - i));
		ioport_write(f.m.io, io + 0x10, v, 2);
	}
}

static inline uint8_t curr(void)
{
	uint8_t v;

	reg(0, PAGE1);
	v = get(7);
	reg(0, START);
	return v;
}

/* The datasheet's initialisation sequence, section 11. */
static inline void start(uint8_t rcr)
{
	reg(0x00, STOP);
	reg(0x0e, 0x49); /* word transfers, normal operation */
	reg(0x0a, 0);
	reg(0x0b, 0);
	reg(0x0c, rcr);
	reg(0x0d, 0x02); /* loopback mode 1 */
	reg(0x03, RING);
	reg(0x01, RING);
	reg(0x02, END);
	reg(0x07, 0xff);
	reg(0x0f, 0x3f);
	reg(0x00, 0x61);
	for (unsigned i = 0; i < 6; i++)
		reg(1 + i, mac[i]);
	for (unsigned i = 0; i < 8; i++)
		reg(8 + i, 0);
	reg(0x07, RING + 1);
	reg(0x00, START);
	reg(0x0d, 0x00);
}

static inline size_t make_frame(uint8_t *p, const uint8_t *to, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = i * 7 + 3;
	memcpy(p, to, 6);
	memcpy(p + 6, other, 6);
	return len;
}

static inline void arrive(const uint8_t *to, size_t len)
{
	static uint8_t p[NET_FRAME_MAX + 1];

	net_port_receive(&port, p, make_frame(p, to, len));
}

static inline void send_frame(uint8_t page, uint16_t len)
{
	reg(0x04, page);
	reg(0x05, len);
	reg(0x06, len >> 8);
	reg(0x00, TRANSMIT);
}

static inline uint64_t dropped(const char *name)
{
	const struct net_counters *c = &port.nic->counters;

	for (unsigned i = 0; i < c->count; i++) {
		if (!strcmp(c->item[i].name, name))
			return net_counter_read(&c->item[i]);
	}
	ck_abort_msg("no counter %s", name);
	return 0;
}

/* IEEE 802.3 FCS, bit by bit: nothing in common with the chip's tables. */
static inline uint32_t fcs_of(const uint8_t *p, size_t len)
{
	uint32_t crc = ~0u;

	while (len--) {
		crc ^= *p++;
		for (unsigned i = 0; i < 8; i++)
			crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
	}
	return ~crc;
}

/* The program's end: one case on PCI, one on ISA. */
static inline int ne2000_main(const char *name, void (*add_pci)(TCase *t), void (*add_isa)(TCase *t))
{
	Suite *s = suite_create(name);
	TCase *t = tcase_create("pci"), *isa = tcase_create("isa");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, set_up, tear_down);
	add_pci(t);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(isa, set_up_isa, tear_down);
	if (add_isa)
		add_isa(isa);
	suite_add_tcase(s, isa);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
