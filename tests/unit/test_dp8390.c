/* The DP8390: each test quotes what its datasheet, an application note or the
 * RTL8029AS specification says, and looks at it through the card's ports. */
#include "tests/unit/ne2000_world.h"

/* ---- registers ---- */

/* "RESET: Command Register: TXP, STA reset; RD2, STP set. ISR: RST set. IMR: all
 * bits reset." */
START_TEST(reset_port)
{
	start(0x04);
	ck_assert_uint_eq(get(7) & RST, 0);
	(void)in8(&f, io + 0x1f);
	ck_assert_uint_eq(get(0), STOP);
	ck_assert_uint_eq(get(7), RST);
	reg(0, 0xa1);
	ck_assert_uint_eq(get(0x0f) & 0x7f, 0);
	arrive(everyone, 60);
	ck_assert_uint_eq(dropped("drop.stopped"), 1);
}
END_TEST

/* "RST: set when the NIC enters reset state, cleared when a start command is issued.
 * Writing to this bit has no effect"; it raises no interrupt. */
START_TEST(isr_rst)
{
	start(0x04);
	reg(0, STOP);
	ck_assert_uint_eq(get(7), RST);
	reg(7, 0xff);
	ck_assert_uint_eq(get(7), RST);
	reg(0x0f, 0xff);
	ck_assert(!f.level[0]);
	reg(0, START);
	ck_assert_uint_eq(get(7), 0);
}
END_TEST

/* Drivers select a page with STA and STP both 0 (Linux: 60h) while frames come in. */
START_TEST(page_select_does_not_stop)
{
	start(0x04);
	reg(0, 0x60);
	arrive(everyone, 60);
	ck_assert_uint_eq(dropped("drop.stopped"), 0);
	ck_assert_uint_eq(get(7), RING + 2);
	reg(0, STOP);
	reg(0, 0x20);
	arrive(everyone, 60);
	ck_assert_uint_eq(dropped("drop.stopped"), 1);
}
END_TEST

START_TEST(register_pages)
{
	start(0x14);
	reg(0, PAGE1);
	for (unsigned i = 0; i < 8; i++)
		reg(8 + i, 0x10 + i);
	for (unsigned i = 0; i < 8; i++)
		ck_assert_uint_eq(get(8 + i), 0x10 + i);
	for (unsigned i = 0; i < 6; i++)
		ck_assert_uint_eq(get(1 + i), mac[i]);
	reg(0, START);
	reg(4, 0x42);
	reg(0, PAGE2);
	ck_assert_uint_eq(get(1), RING);
	ck_assert_uint_eq(get(2), END);
	ck_assert_uint_eq(get(4), 0x42);
	ck_assert_uint_eq(get(0x0c) & 0x3f, 0x14);
	ck_assert_uint_eq(get(0x0d) & 0x1f, 0x00);
	ck_assert_uint_eq(get(0x0e) & 0x7f, 0x49);
	ck_assert_uint_eq(get(0x0f) & 0x7f, 0x3f);
	reg(3, 0x55);
	reg(5, 0x66);
	reg(6, 0x77);
	reg(7, 0x88);
	ck_assert_uint_eq(get(3), 0x55);
	ck_assert_uint_eq(get(5), 0x66);
	ck_assert_uint_eq(get(6), 0x77);
	ck_assert_uint_eq(get(7), 0x88);
}
END_TEST

/* The interrupt pin is ISR AND IMR, whatever order they come in. */
START_TEST(interrupt_mask)
{
	start(0x04);
	reg(0x0f, 0);
	arrive(everyone, 60);
	ck_assert_uint_eq(get(7), PRX);
	ck_assert(!f.level[0]);
	reg(0x0f, PRX);
	ck_assert(f.level[0]);
	reg(3, curr() - 1);
	reg(7, PRX);
	ck_assert(!f.level[0]);
}
END_TEST

/* ---- the guest's address ---- */

START_TEST(guest_mac_is_reported)
{
	ck_assert_mem_eq(port.guest_mac, mac, 6); /* the PROM's, before any driver */
	reg(0, 0x61);
	for (unsigned i = 0; i < 6; i++) {
		ck_assert_mem_eq(port.guest_mac, mac, 6); /* never half of an address */
		reg(1 + i, other[i]);
	}
	ck_assert_mem_eq(port.guest_mac, other, 6);
}
END_TEST

START_TEST(all_ones_mac_does_not_appear)
{
	reg(0, 0x61);
	for (unsigned i = 0; i < 6; i++)
		reg(1 + i, 0xff);
	ck_assert(net_mac_is_station(port.guest_mac));
	ck_assert_mem_ne(port.guest_mac, everyone, 6);
	for (unsigned i = 0; i < 6; i++)
		reg(1 + i, 0);
	ck_assert(net_mac_is_station(port.guest_mac));
}
END_TEST

/* ---- remote DMA ---- */

START_TEST(remote_dma_widths)
{
	uint8_t back[16];

	start(0);
	card_write(0x4000, "0123456789abcdef", 16);
	ck_assert_uint_eq(get(7) & RDC, RDC);
	dma(READ, 0x4000, 16);
	ck_assert_uint_eq(ioport_read(f.m.io, io + 0x10, 4), load_le32("0123"));
	ck_assert_uint_eq(ioport_read(f.m.io, io + 0x10, 2), load_le16("45"));
	ck_assert_uint_eq(get(8) | get(9) << 8, 0x4006); /* CRDA */
	ck_assert_uint_eq(ioport_read(f.m.io, io + 0x14, 2), load_le16("67"));
	reg(0, START); /* abort: RD2 */
	ck_assert_uint_eq(ioport_read(f.m.io, io + 0x10, 2), 0xffff);
	reg(0x0e, 0x48); /* byte transfers */
	dma(READ, 0x4001, 3);
	reg(7, RDC);
	ck_assert_uint_eq(in8(&f, io + 0x10), '1');
	ck_assert_uint_eq(in8(&f, io + 0x10), '2');
	ck_assert_uint_eq(get(7) & RDC, 0);
	ck_assert_uint_eq(in8(&f, io + 0x10), '3');
	ck_assert_uint_eq(get(7) & RDC, RDC);
	ck_assert_uint_eq(in8(&f, io + 0x10), 0xff); /* it is over */
	reg(0x0e, 0x49);
	card_read(0x4000, back, 16);
	ck_assert_mem_eq(back, "0123456789abcdef", 16);
}
END_TEST

/* "If the DMA pointer crosses the Page Stop Register, it is reset to Page Start." */
START_TEST(remote_dma_wraps_at_pstop)
{
	uint8_t top[4] = {1, 2, 3, 4}, low[4] = {5, 6, 7, 8}, got[8];

	start(0);
	card_write(0x7ffc, top, 4);
	card_write(RING << 8, low, 4);
	card_read(0x7ffc, got, 8);
	ck_assert_mem_eq(got, "\1\2\3\4\5\6\7\10", 8);
	dma(READ, 0x7ffc, 8);
	memset(got, 0, sizeof(got));
	ck_assert_uint_eq(ioport_read_block(f.m.io, io + 0x10, 4, got, 2), 2);
	ck_assert_mem_eq(got, "\1\2\3\4\5\6\7\10", 8);
	ck_assert_uint_eq(get(7) & RDC, RDC);
}
END_TEST

START_TEST(remote_dma_in_bulk)
{
	static uint8_t out[0x8000], back[0x8000];

	start(0);
	reg(2, 0xc0);
	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = i * 31 >> 3;
	dma(WRITE, 0x4000, 0x8000);
	ck_assert_uint_eq(ioport_write_block(f.m.io, io + 0x10, 2, out, 0x4000), 0x4000);
	ck_assert_uint_eq(get(7) & RDC, RDC);
	dma(READ, 0x4000, 0x8000);
	ck_assert_uint_eq(ioport_read_block(f.m.io, io + 0x10, 4, back, 0x1000), 0x1000);
	ck_assert_uint_eq(ioport_read_block(f.m.io, io + 0x10, 2, back + 0x4000, 0x2000), 0x2000);
	ck_assert_mem_eq(out, back, sizeof(out));
	/* No more than RBCR; then one by one, which reads ones. */
	dma(READ, 0x4000, 6);
	ck_assert_uint_eq(ioport_read_block(f.m.io, io + 0x10, 2, back, 100), 3);
	ck_assert_uint_eq(ioport_read_block(f.m.io, io + 0x10, 2, back, 100), 0);
	ck_assert_uint_eq(ioport_read(f.m.io, io + 0x10, 2), 0xffff);
	/* Bytes while words are moved: not in bulk, each takes a word. */
	dma(READ, 0x4000, 4);
	ck_assert_uint_eq(ioport_read_block(f.m.io, io + 0x10, 1, back, 4), 0);
	ck_assert_uint_eq(in8(&f, io + 0x10), out[0]);
	ck_assert_uint_eq(in8(&f, io + 0x10), out[2]);
}
END_TEST

/* Section 9: the send packet command takes the frame at BNRY, with the count in its
 * header, and moves BNRY behind it. */
START_TEST(send_packet_command)
{
	uint16_t words[40];

	start(0x04);
	reg(3, RING + 1); /* BNRY is the frame to read */
	arrive(everyone, 60);
	reg(0x0b, 0x0f);
	reg(0, SEND);
	ck_assert_uint_eq(get(8) | get(9) << 8, 0); /* "not executed": DCR.ARM is 0 */
	reg(0x0e, 0x59);
	reg(7, 0xff);
	reg(0, SEND);
	for (unsigned i = 0; i < 32; i++) {
		ck_assert_uint_eq(get(7) & RDC, 0);
		words[i] = ioport_read(f.m.io, io + 0x10, 2);
	}
	ck_assert_uint_eq(words[0], 0x0021 | (RING + 2) << 8); /* RSR, next */
	ck_assert_uint_eq(words[1], 64);
	ck_assert_uint_eq(words[2], 0xffff);
	ck_assert_uint_eq(get(7) & RDC, RDC);
	ck_assert_uint_eq(get(3), RING + 2);
}
END_TEST

/* ---- reception ---- */

/* "RSR, next packet pointer, receive byte count": the count has the FCS in it and not
 * these four bytes, as Linux, FreeBSD and the packet drivers expect. */
START_TEST(receive_header_and_fcs)
{
	uint8_t p[300], got[320];

	start(0x04);
	make_frame(p, mac, 300);
	net_port_receive(&port, p, 300);
	ck_assert_uint_eq(get(7), PRX);
	ck_assert(f.level[0]);
	ck_assert_uint_eq(curr(), RING + 3); /* 4 + 300 + 4 bytes: two pages */
	card_read((RING + 1) << 8, got, 308);
	ck_assert_uint_eq(got[0], 0x01);
	ck_assert_uint_eq(got[1], RING + 3);
	ck_assert_uint_eq(load_le16(got + 2), 304);
	ck_assert_mem_eq(got + 4, p, 300);
	ck_assert_uint_eq(load_le32(got + 304), fcs_of(p, 300));
	ck_assert_uint_eq(get(0x0c), 0x01);
}
END_TEST

START_TEST(short_frames_are_padded)
{
	uint8_t p[64] = {0}, got[68];

	start(0x04);
	make_frame(p, mac, 42); /* an ARP request as hosts hand it over */
	memset(got, 0xee, sizeof(got));
	card_write((RING + 1) << 8, got, 68);
	net_port_receive(&port, p, 42);
	card_read((RING + 1) << 8, got, 68);
	ck_assert_uint_eq(load_le16(got + 2), 64);
	ck_assert_mem_eq(got + 4, p, 60);
	ck_assert_uint_eq(load_le32(got + 64), fcs_of(p, 60));
}
END_TEST

START_TEST(receive_wraps_at_pstop)
{
	static uint8_t p[1514], got[1518];

	start(0x04);
	reg(0, PAGE1);
	reg(7, END - 2);
	reg(0, START);
	reg(3, END - 3);
	make_frame(p, mac, 1514);
	net_port_receive(&port, p, 1514);
	ck_assert_uint_eq(curr(), RING + 4);
	card_read((END - 2) << 8, got, 1518);
	ck_assert_uint_eq(got[1], RING + 4);
	ck_assert_mem_eq(got + 4, p, 1514);
}
END_TEST

START_TEST(address_filter)
{
	static const uint8_t group[6] = {0x01, 0x00, 0x5e, 0x00, 0x00, 0x01};
	struct { uint8_t rcr; bool mine, others, broadcast, group; } rows[] = {
		{0x00, true, false, false, false},
		{0x04, true, false, true, false},
		{0x08, true, false, false, true},
		{0x10, true, true, false, false},
		{0x1c, true, true, true, true},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct { const uint8_t *to; bool in; } cases[] = {
			{mac, rows[i].mine}, {other, rows[i].others},
			{everyone, rows[i].broadcast}, {group, rows[i].group},
		};

		for (unsigned k = 0; k < 4; k++) {
			uint64_t before = dropped("drop.not-for-us");

			start(rows[i].rcr);
			reg(0, PAGE1);
			for (unsigned b = 0; b < 8; b++)
				reg(8 + b, 0xff); /* all multicast */
			reg(0, START);
			arrive(cases[k].to, 60);
			ck_assert_msg((curr() != RING + 1) == cases[k].in, "row %u case %u", i, k);
			ck_assert_uint_eq(dropped("drop.not-for-us") - before, !cases[k].in);
		}
	}
}
END_TEST

/* "The 6 most significant bits of the CRC" choose the bit of MAR0-7. The bits are
 * those of CRCs worked out by another program: zlib's crc32, complemented, bits
 * reversed, shifted right by 26. */
START_TEST(multicast_hash)
{
	static const struct { uint8_t to[6]; unsigned bit; } rows[] = {
		{{0x01, 0x00, 0x5e, 0x00, 0x00, 0x01}, 31},
		{{0x33, 0x33, 0x00, 0x00, 0x00, 0x01}, 62},
		{{0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb}, 15},
		{{0x01, 0x80, 0xc2, 0x00, 0x00, 0x00}, 25},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		for (unsigned bit = 0; bit < 64; bit++) {
			start(0x08);
			reg(0, PAGE1);
			reg(8 + bit / 8, 1 << bit % 8);
			reg(0, START);
			arrive(rows[i].to, 60);
			ck_assert_msg((curr() != RING + 1) == (bit == rows[i].bit),
				      "row %u bit %u", i, bit);
		}
	}
}
END_TEST

/* "Monitor mode: checked for address and CRC, not buffered; the missed packet tally
 * counter is incremented for each recognized packet"; RSR shows DIS. */
START_TEST(monitor_mode)
{
	start(0x24);
	arrive(everyone, 60);
	arrive(other, 60);
	ck_assert_uint_eq(curr(), RING + 1);
	ck_assert_uint_eq(dropped("drop.monitor"), 1);
	ck_assert_uint_eq(get(0x0c) & 0x40, 0x40);
	ck_assert_uint_eq(get(0x0f), 1);
	ck_assert_uint_eq(get(0x0f), 0); /* "cleared when read" */
}
END_TEST

static unsigned fill_ring(void)
{
	unsigned n = 0;

	while (port.nic->ops->can_receive(port.nic)) {
		arrive(mac, 1514);
		ck_assert_uint_lt(n++, 20);
	}
	return n;
}

START_TEST(full_ring_pushes_back)
{
	start(0x04);
	ck_assert(net_port_can_receive(&port));
	ck_assert_uint_eq(fill_ring(), 8); /* 51 pages, 6 a frame */
	ck_assert(!net_port_can_receive(&port));
	ck_assert_uint_eq(wire.readable, 0);
	ck_assert_uint_eq(dropped("drop.ring-full"), 0);
	reg(3, RING + 6); /* the driver has read one */
	ck_assert_uint_eq(wire.readable, 1);
	ck_assert(net_port_can_receive(&port));
}
END_TEST

/* A stopped chip, loopback and monitor mode drop instead: a backend that waited for
 * a driver to load would deliver stale frames then. */
START_TEST(stopped_chip_does_not_push_back)
{
	start(0x04);
	fill_ring();
	ck_assert(!net_port_can_receive(&port));
	reg(0, STOP);
	ck_assert_uint_eq(wire.readable, 1);
	ck_assert(net_port_can_receive(&port));
	arrive(mac, 60);
	ck_assert_uint_eq(dropped("drop.stopped"), 1);
}
END_TEST

/* Section 7, "Buffer ring overflow", the seven steps. */
START_TEST(overflow_and_recovery)
{
	uint8_t header[4], first;

	start(0x04);
	fill_ring();
	first = curr();
	arrive(mac, 1514); /* a backend that does not care */
	ck_assert_uint_eq(get(7) & (OVW | RXE | RST), OVW | RXE | RST);
	ck_assert_uint_eq(get(0x0c) & 0x11, 0x10); /* RSR: MPA and not PRX */
	ck_assert_uint_eq(get(0x0f), 1);
	ck_assert_uint_eq(dropped("drop.ring-full"), 1);
	ck_assert_uint_eq(curr(), first);
	card_read((RING + 1) << 8, header, 4); /* "packets received are not destroyed" */
	ck_assert_uint_eq(header[1], RING + 7);
	ck_assert_uint_eq(get(0) & 0x04, 0);  /* 1: TXP */
	reg(0, STOP);                         /* 2 */
	ck_assert_uint_eq(get(7) & RST, RST); /* 3 */
	reg(0x0a, 0);
	reg(0x0b, 0);                         /* 4 */
	reg(0x0d, 0x02);                      /* 5: loopback 1 */
	reg(0, START);
	arrive(mac, 60);
	ck_assert_uint_eq(dropped("drop.loopback"), 1);
	reg(3, first - 1);                    /* 6: all read */
	reg(7, OVW);
	reg(0x0d, 0x00);                      /* 7 */
	reg(7, 0xff);
	arrive(mac, 60);
	ck_assert_uint_eq(get(7), PRX);
}
END_TEST

/* Linux writes "next frame less one" even if that is one page below the ring: it
 * means the last page, and frames must not be overwritten (seen: bogus headers). */
START_TEST(bnry_below_the_ring)
{
	start(0x04);
	reg(0, PAGE1);
	reg(7, RING);
	reg(0, START);
	reg(3, RING - 1);
	ck_assert_uint_eq(fill_ring(), 8);
	arrive(mac, 1514);
	ck_assert_uint_eq(dropped("drop.ring-full"), 1);
}
END_TEST

/* A driver that reads some frames, leaves others and then clears PRX is told again,
 * once: else a full ring and a polite backend would wait for each other. */
START_TEST(frames_left_are_announced_again)
{
	start(0x04);
	arrive(mac, 60);
	arrive(mac, 60);
	arrive(mac, 60);
	reg(3, RING + 1); /* one read */
	reg(7, PRX);
	ck_assert_uint_eq(get(7), PRX);
	reg(7, PRX); /* did nothing since */
	ck_assert_uint_eq(get(7), 0);
	reg(3, RING + 3);
	reg(7, PRX);
	ck_assert_uint_eq(get(7), 0);
}
END_TEST

/* "The maximum count reached by any counter is 192 (C0H)"; CNT when the MSB is set. */
START_TEST(tally_counters)
{
	start(0x24);
	for (unsigned i = 0; i < 127; i++)
		arrive(everyone, 60);
	ck_assert_uint_eq(get(7) & CNT, 0);
	arrive(everyone, 60);
	ck_assert_uint_eq(get(7) & CNT, CNT);
	ck_assert(f.level[0]);
	for (unsigned i = 0; i < 200; i++)
		arrive(everyone, 60);
	ck_assert_uint_eq(get(0x0f), 192);
	ck_assert_uint_eq(get(0x0f), 0);
}
END_TEST

/* ---- transmission ---- */

START_TEST(transmit)
{
	static uint8_t p[1514];

	start(0x04);
	make_frame(p, everyone, 1514);
	card_write(0x4000, p, 1514);
	reg(7, 0xff);
	send_frame(0x40, 1514);
	ck_assert_uint_eq(wire.sent, 1);
	ck_assert_uint_eq(wire.len, 1514);
	ck_assert_mem_eq(wire.frame, p, 1514);
	ck_assert_uint_eq(get(0), START); /* TXP is clear again */
	ck_assert_uint_eq(get(7), PTX);
	ck_assert_uint_eq(get(4) & 0x5d, 0x01); /* TSR */
	ck_assert_uint_eq(get(5), 0); /* NCR */
	send_frame(0x40, 33); /* as it is */
	ck_assert_uint_eq(wire.len, 33);
}
END_TEST

START_TEST(transmit_across_the_top_of_the_ring)
{
	static uint8_t p[700];

	start(0x04);
	make_frame(p, everyone, 700);
	card_write((END - 2) << 8, p, 700);
	send_frame(END - 2, 700);
	ck_assert_uint_eq(wire.len, 700);
	ck_assert_mem_eq(wire.frame, p, 700);
}
END_TEST

START_TEST(transmit_waits_for_the_port)
{
	start(0x04);
	wire.full = true;
	send_frame(0x40, 60);
	ck_assert_uint_eq(wire.sent, 0);
	ck_assert_uint_eq(get(0), TRANSMIT); /* TXP stays set */
	ck_assert_uint_eq(get(7) & PTX, 0);
	reg(0, START); /* cannot be taken back */
	ck_assert_uint_eq(get(0), TRANSMIT);
	wire.full = false;
	net_port_writable(&port);
	ck_assert_uint_eq(wire.sent, 1);
	ck_assert_uint_eq(get(0), START);
	ck_assert_uint_eq(get(7) & PTX, PTX);
	ck_assert(f.level[0]);
	/* Stopped while it waits: gone without PTX, so the driver sends it again. */
	wire.full = true;
	reg(7, 0xff);
	send_frame(0x40, 60);
	reg(0, STOP);
	ck_assert_uint_eq(get(7), RST);
	wire.full = false;
	net_port_writable(&port);
	ck_assert_uint_eq(wire.sent, 1);
	ck_assert_uint_eq(dropped("drop.tx-stopped"), 1);
}
END_TEST

START_TEST(no_carrier)
{
	start(0x04);
	net_port_set_carrier(&port, false);
	send_frame(0x40, 60);
	ck_assert_uint_eq(get(4) & 0x11, 0x11); /* CRS: carrier sense lost */
	net_port_set_carrier(&port, true);
	send_frame(0x40, 60);
	ck_assert_uint_eq(get(4) & 0x11, 0x01);
}
END_TEST

/* TCR.CRC: software has appended the FCS, which no other end sees as data. */
START_TEST(crc_inhibit)
{
	uint8_t p[64];

	start(0x04);
	make_frame(p, everyone, 60);
	store_le32(p + 60, fcs_of(p, 60));
	card_write(0x4000, p, 64);
	reg(0x0d, 0x01);
	send_frame(0x40, 64);
	ck_assert_uint_eq(wire.len, 60);
	p[20] ^= 1;
	card_write(0x4000, p, 64);
	send_frame(0x40, 64);
	ck_assert_uint_eq(wire.sent, 1);
	ck_assert_uint_eq(dropped("drop.tx-bad-fcs"), 1);
}
END_TEST

/* AN-937, section 6: TSR, RSR and ISR of each mode. Bit 1 of TSR is not looked at:
 * papers differ. A match gives RXE and CRC, for sender and receiver share the CRC
 * logic; PRX never, for nothing is written to memory. */
START_TEST(loopback_modes)
{
	static const struct { uint8_t tcr, tsr; unsigned sent; } rows[] = {
		{0x02, 0x51, 0}, {0x04, 0x41, 0}, {0x06, 0x01, 1},
	};
	uint8_t p[60];

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		start(0x04);
		wire.sent = 0;
		reg(0x0e, 0x40); /* loopback select, bytes */
		make_frame(p, mac, 60);
		dma(WRITE, 0x4000, 60);
		for (unsigned k = 0; k < 60; k++)
			out8(&f, io + 0x10, p[k]);
		reg(7, 0xff);
		reg(0x0d, rows[i].tcr);
		send_frame(0x40, 60);
		ck_assert_uint_eq(get(4) & ~2, rows[i].tsr);
		ck_assert_uint_eq(get(0x0c), 0x02);
		ck_assert_uint_eq(get(7), PTX | RXE);
		ck_assert(f.level[0]);
		ck_assert_uint_eq(wire.sent, rows[i].sent);
		ck_assert_uint_eq(curr(), RING + 1);
	}
	/* "CRC errors should not be detected for a non-matching physical address." */
	reg(0x0d, 0x02);
	make_frame(p, other, 60);
	dma(WRITE, 0x4000, 60);
	for (unsigned k = 0; k < 60; k++)
		out8(&f, io + 0x10, p[k]);
	reg(7, 0xff);
	send_frame(0x40, 60);
	ck_assert_uint_eq(get(0x0c), 0x01);
	ck_assert_uint_eq(get(7), PTX);
}
END_TEST

/* Section 12: "alignment for a 64-byte packet": lower byte count, upper byte count
 * twice, last byte, CRC1-4. And (N*8)+5 bytes: byte N-4, CRC1-4, counts. */
START_TEST(loopback_fifo)
{
	uint8_t p[65], want[8];
	uint32_t fcs;

	start(0x04);
	reg(0x0e, 0x40);
	for (unsigned len = 60; len <= 65; len += 5) {
		make_frame(p, mac, len);
		fcs = fcs_of(p, len);
		dma(WRITE, 0x4000, len);
		for (unsigned k = 0; k < len; k++)
			out8(&f, io + 0x10, p[k]);
		reg(0x0d, 0x02);
		send_frame(0x40, len);
		if (len == 60) { /* 64 with its CRC */
			memcpy(want, "\100\0\0", 3);
			want[3] = p[59];
			store_le32(want + 4, fcs);
		} else { /* 69 */
			want[0] = p[64];
			store_le32(want + 1, fcs);
			memcpy(want + 5, "\105\0\0", 3);
		}
		for (unsigned k = 0; k < 8; k++)
			ck_assert_msg(get(6) == want[k], "length %u, location %u", len, k);
	}
	/* "If the CRC is in the data it is verified": TCR.CRC. */
	make_frame(p, mac, 60);
	store_le32(p + 60, fcs_of(p, 60));
	dma(WRITE, 0x4000, 64);
	for (unsigned k = 0; k < 64; k++)
		out8(&f, io + 0x10, p[k]);
	reg(7, 0xff);
	reg(0x0d, 0x03);
	send_frame(0x40, 64);
	ck_assert_uint_eq(get(0x0c), 0x01);
	ck_assert_uint_eq(get(7), PTX);
}
END_TEST

/* BOS with words: pairs of bytes the other way around in memory. */
START_TEST(byte_order_select)
{
	uint8_t p[60], got[64];

	start(0x04);
	reg(0x0e, 0x4b);
	make_frame(p, mac, 60);
	net_port_receive(&port, p, 60);
	card_read((RING + 1) << 8, got, 64);
	ck_assert_uint_eq(got[1], 0x01);
	ck_assert_uint_eq(got[0], RING + 2);
	ck_assert_uint_eq(got[2] << 8 | got[3], 64);
	for (unsigned i = 0; i < 60; i++)
		ck_assert_uint_eq(got[4 + (i ^ 1)], p[i]);
	for (unsigned i = 0; i < 60; i++)
		got[i] = p[i ^ 1];
	card_write(0x4000, got, 60);
	send_frame(0x40, 60);
	ck_assert_mem_eq(wire.frame, p, 60);
}
END_TEST

/* ---- hostile ---- */

/* A frame longer than any, from TCNT (TBCR), overflowed what took it. */
START_TEST(cve_2007_5729_tcnt_above_the_buffer)
{
	start(0x04);
	for (unsigned page = 0; page < 256; page += 5) {
		send_frame(page, 0xffff);
		send_frame(page, NET_FRAME_MAX + 1);
		send_frame(page, NET_FRAME_MAX);
		send_frame(page, 0);
		ck_assert_uint_eq(get(0), START);
		ck_assert_uint_eq(get(7) & PTX, PTX);
	}
	ck_assert_uint_gt(dropped("drop.tx-too-long"), 0);
	ck_assert_uint_le(wire.len, NET_FRAME_MAX);
}
END_TEST

/* Reception looped for ever when the ring's registers left no room before PSTOP. */
START_TEST(cve_2015_5278_receive_does_not_loop)
{
	static const uint8_t v[] = {0, 1, 0x3f, 0x40, 0x41, 0x4c, 0x7f, 0x80, 0xbf, 0xc0, 0xff};

	for (unsigned i = 0; i < ARRAY_SIZE(v) * ARRAY_SIZE(v) * ARRAY_SIZE(v) * ARRAY_SIZE(v); i++) {
		unsigned n = i;

		if (!i)
			start(0x1c);
		reg(1, v[n % ARRAY_SIZE(v)]);
		n /= ARRAY_SIZE(v);
		reg(2, v[n % ARRAY_SIZE(v)]);
		n /= ARRAY_SIZE(v);
		reg(3, v[n % ARRAY_SIZE(v)]);
		n /= ARRAY_SIZE(v);
		reg(0, PAGE1);
		reg(7, v[n]);
		reg(0, START);
		net_port_can_receive(&port);
		arrive(everyone, 1514);
	}
}
END_TEST

/* Reception wrote behind the buffer when PSTOP was above it. */
START_TEST(cve_2015_5279_ring_above_memory)
{
	uint8_t b[2];

	start(0x1c);
	reg(1, 0xb0);
	reg(2, 0xff);
	reg(3, 0xff);
	reg(0, PAGE1);
	reg(7, 0xbe);
	reg(0, START);
	arrive(everyone, NET_FRAME_MAX);
	ck_assert_uint_ne(curr(), 0xbe);
	card_read(0xc000, b, 2); /* nothing there */
	ck_assert_uint_eq(load_le16(b), 0xffff);
}
END_TEST

/* Word and dword accesses of the data port at the very end of memory. */
START_TEST(cve_2015_8743_data_port_at_the_end)
{
	static const uint16_t at[] = {0x001f, 0x001e, 0x3fff, 0xbffd, 0xbffe, 0xbfff, 0xffff, 0xfffe};
	uint8_t buf[64];

	start(0);
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		for (unsigned dcr = 0x48; dcr <= 0x49; dcr++) {
			for (unsigned size = 1; size <= 4; size *= 2) {
				reg(0x0e, dcr);
				dma(WRITE, at[i], 0xffff);
				ioport_write(f.m.io, io + 0x10, 0x5a5a5a5a, size);
				ioport_write_block(f.m.io, io + 0x10, size, buf, sizeof(buf) / size);
				dma(READ, at[i], 0xffff);
				ioport_read(f.m.io, io + 0x10, size);
				ioport_read_block(f.m.io, io + 0x10, size, buf, sizeof(buf) / size);
			}
		}
	}
}
END_TEST

/* PSTART and PSTOP equal, or the wrong way around, made the ring's size nonsense. */
START_TEST(cve_2016_2841_ring_of_no_size)
{
	start(0x1c);
	for (unsigned v = 0; v < 256; v++) {
		reg(1, v);
		reg(2, v);
		arrive(everyone, 1514);
		reg(1, v);
		reg(2, v - 1);
		arrive(everyone, 1514);
		net_port_can_receive(&port);
	}
}
END_TEST

/* A length that no signed integer holds. The bytes are not looked at. */
START_TEST(cve_2018_10839_length_overflow)
{
	uint8_t p[64];

	start(0x1c);
	make_frame(p, everyone, 64);
	port.nic->ops->receive(port.nic, p, SIZE_MAX);
	port.nic->ops->receive(port.nic, p, 0x80000000u);
	port.nic->ops->receive(port.nic, p, 0xffffffffu);
	port.nic->ops->receive(port.nic, p, NET_FRAME_MAX + 1);
	ck_assert_uint_eq(dropped("drop.too-long"), 4);
	port.nic->ops->receive(port.nic, p, 0);
	ck_assert_uint_eq(dropped("drop.too-short"), 1);
	ck_assert_uint_eq(curr(), RING + 1);
}
END_TEST

/* A backend that delivers, and says writable, from within the transmission; the ring
 * lies over the frame that is being sent. */
START_TEST(transmit_loopback_re_entrancy)
{
	uint8_t p[600];

	start(0x1c);
	wire.echo = wire.nag = true;
	make_frame(p, everyone, 600);
	card_write((RING + 1) << 8, p, 600);
	reg(7, 0xff);
	send_frame(RING + 1, 600);
	ck_assert_uint_eq(wire.sent, 1);
	ck_assert_uint_eq(wire.deepest, 1);
	ck_assert_uint_eq(get(7), PTX | PRX);
	ck_assert_uint_eq(get(0), START);
	ck_assert_uint_eq(curr(), RING + 4);
	/* External loopback too: the frame comes back while the chip loops it. */
	reg(0x0d, 0x06);
	send_frame(RING + 1, 600);
	ck_assert_uint_eq(wire.deepest, 1);
	ck_assert_uint_eq(dropped("drop.loopback"), 1);
}
END_TEST

/* Any register, any value, any order; frames in between. */
START_TEST(random_register_storm)
{
	uint32_t seed = 12345;

	wire.echo = true;
	reg(0, START);
	for (unsigned i = 0; i < 200000; i++) {
		uint8_t block[64];

		seed = seed * 1664525 + 1013904223;
		switch (seed >> 28) {
		case 0:
			arrive(everyone, 14 + (seed >> 8) % 1600);
			break;
		case 1:
			ioport_read_block(f.m.io, io + 0x10, 1 << (seed >> 8 & 1), block, 32);
			break;
		case 2:
			ioport_write_block(f.m.io, io + 0x10, 1 << (seed >> 8 & 1), block, 32);
			break;
		case 3:
			ioport_read(f.m.io, io + (seed >> 8 & 0x1f), 1 << (seed >> 16) % 3);
			break;
		default:
			ioport_write(f.m.io, io + (seed >> 8 & 0x1f), seed >> 14, 1 << (seed >> 24) % 3);
		}
	}
	ck_assert_uint_le(wire.deepest, 1);
}
END_TEST

static void add_pci(TCase *t)
{
	tcase_add_test(t, reset_port);
	tcase_add_test(t, isr_rst);
	tcase_add_test(t, page_select_does_not_stop);
	tcase_add_test(t, register_pages);
	tcase_add_test(t, interrupt_mask);
	tcase_add_test(t, guest_mac_is_reported);
	tcase_add_test(t, all_ones_mac_does_not_appear);
	tcase_add_test(t, remote_dma_widths);
	tcase_add_test(t, remote_dma_wraps_at_pstop);
	tcase_add_test(t, remote_dma_in_bulk);
	tcase_add_test(t, send_packet_command);
	tcase_add_test(t, receive_header_and_fcs);
	tcase_add_test(t, short_frames_are_padded);
	tcase_add_test(t, receive_wraps_at_pstop);
	tcase_add_test(t, address_filter);
	tcase_add_test(t, multicast_hash);
	tcase_add_test(t, monitor_mode);
	tcase_add_test(t, full_ring_pushes_back);
	tcase_add_test(t, stopped_chip_does_not_push_back);
	tcase_add_test(t, overflow_and_recovery);
	tcase_add_test(t, bnry_below_the_ring);
	tcase_add_test(t, frames_left_are_announced_again);
	tcase_add_test(t, tally_counters);
	tcase_add_test(t, transmit);
	tcase_add_test(t, transmit_across_the_top_of_the_ring);
	tcase_add_test(t, transmit_waits_for_the_port);
	tcase_add_test(t, no_carrier);
	tcase_add_test(t, crc_inhibit);
	tcase_add_test(t, loopback_modes);
	tcase_add_test(t, loopback_fifo);
	tcase_add_test(t, byte_order_select);
	tcase_add_test(t, cve_2007_5729_tcnt_above_the_buffer);
	tcase_add_test(t, cve_2015_5278_receive_does_not_loop);
	tcase_add_test(t, cve_2015_5279_ring_above_memory);
	tcase_add_test(t, cve_2015_8743_data_port_at_the_end);
	tcase_add_test(t, cve_2016_2841_ring_of_no_size);
	tcase_add_test(t, cve_2018_10839_length_overflow);
	tcase_add_test(t, transmit_loopback_re_entrancy);
	tcase_add_test(t, random_register_storm);
}

int main(void)
{
	return ne2000_main("dp8390", add_pci, NULL);
}
