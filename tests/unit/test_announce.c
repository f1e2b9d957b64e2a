/* What the announcer learns from a guest's frames, and what it sends for it. */
#include "tests/unit/virtual_loop.h"

#include "statefile/fields.h"
#include "tests/unit/net_world.h"
#include "translate/announce.h"
#include "translate/mac.h"

static const uint8_t guest_mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
static const uint8_t wire_mac[6] = { 0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee };
static const uint8_t ones[6] = { 255, 255, 255, 255, 255, 255 }, zeros[6];

static struct net_world w;
static struct net_stage *stage;

static struct wire {
	struct net_backend base;
	bool full;
	unsigned frames;
	struct {
		size_t len;
		uint8_t data[100];
	} frame[64];
} wire;

static bool wire_can_send(struct net_backend *b)
{
	(void)b;
	return !wire.full;
}

static void wire_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	(void)b;
	ck_assert_uint_lt(wire.frames, ARRAY_SIZE(wire.frame));
	wire.frame[wire.frames].len = len;
	memcpy(wire.frame[wire.frames++].data, frame, MIN(len, 100));
}

static void wire_close(struct net_backend *b)
{
	(void)b;
}

static const struct net_backend_ops wire_ops = {
	.name = "wire", .can_send = wire_can_send, .send = wire_send, .close = wire_close,
};

static void setup(void)
{
	net_world_init(&w);
	memset(&wire, 0, sizeof(wire));
	wire.base = (struct net_backend){ &wire_ops, &w.port, { NULL, 0 } };
	net_port_set_backend(&w.port, &wire.base);
	stage = net_announcer_create(w.loop);
	net_port_add_stage(&w.port, stage);
	memcpy(w.port.guest_mac, guest_mac, 6);
	memcpy(w.port.wire_mac, wire_mac, 6);
}

static void teardown(void)
{
	net_world_finish(&w);
}

static void send_frame(const uint8_t *frame, size_t len)
{
	unsigned before = wire.frames;

	net_port_send(&w.port, frame, len);
	ck_assert_uint_eq(wire.frames, before + 1); /* whatever it is, it goes on */
	wire.frames = 0;
}

/* RFC 826, as a guest sends it. */
static void guest_arp(const uint8_t *source, const uint8_t *sha, uint32_t spa, uint32_t tpa)
{
	uint8_t f[42] = { [12] = 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1 };

	memset(f, 0xff, 6);
	memcpy(f + 6, source, 6);
	memcpy(f + 22, sha, 6);
	for (unsigned i = 0; i < 4; i++) {
		f[28 + i] = spa >> (24 - 8 * i);
		f[38 + i] = tpa >> (24 - 8 * i);
	}
	send_frame(f, sizeof(f));
}

static void guest_ipv4(uint32_t from)
{
	uint8_t f[60] = { [12] = 0x08, 0x00, 0x45 };

	memcpy(f + 6, guest_mac, 6);
	for (unsigned i = 0; i < 4; i++)
		f[26 + i] = from >> (24 - 8 * i);
	send_frame(f, sizeof(f));
}

static void guest_nd(unsigned type, const char *from, const char *target, unsigned hops)
{
	uint8_t f[86] = { 0x33, 0x33, [12] = 0x86, 0xdd, 0x60, [19] = 32, 58, hops };

	memcpy(f + 6, guest_mac, 6);
	f[54] = type;
	for (unsigned i = 0; i < 16; i++) {
		unsigned byte;

		sscanf(from + 2 * i, "%2x", &byte);
		f[22 + i] = byte;
		sscanf(target + 2 * i, "%2x", &byte);
		f[62 + i] = byte;
	}
	send_frame(f, sizeof(f));
}

static void must_know(uint32_t ip)
{
	uint8_t known[4] = { 0 };

	ck_assert_int_eq(net_announce_ipv4(stage, known), ip != 0);
	ck_assert_uint_eq((uint32_t)known[0] << 24 | known[1] << 16 | known[2] << 8 | known[3], ip);
}

enum { IP = 0x0a000005, IP2 = 0x0a000006, PEER = 0x0a000001 };

/* ---- IPv4 ---- */

START_TEST(sender_of_arp_is_learnt)
{
	must_know(0);
	guest_arp(guest_mac, guest_mac, IP, PEER);
	must_know(IP);
	guest_arp(guest_mac, guest_mac, IP2, IP2);
	must_know(IP2);
	guest_arp(guest_mac, guest_mac, IP, PEER);
	must_know(IP);
}
END_TEST

START_TEST(what_is_nobodys_own_address_is_not_learnt)
{
	guest_arp(guest_mac, guest_mac, 0, IP);           /* a probe */
	guest_arp(guest_mac, guest_mac, 0xa9fe0707, IP);  /* link-local */
	guest_arp(guest_mac, guest_mac, 0xe0000001, IP);  /* multicast */
	guest_arp(guest_mac, guest_mac, 0xffffffff, IP);
	guest_arp(guest_mac, guest_mac, 0x7f000001, IP);
	guest_arp(wire_mac, wire_mac, IP, PEER);          /* behind a bridge in the guest */
	guest_arp(guest_mac, wire_mac, IP, PEER);
	guest_ipv4(0);
	must_know(0);
}
END_TEST

START_TEST(source_of_packets_serves_until_there_is_arp)
{
	guest_ipv4(IP2);
	guest_ipv4(IP);
	must_know(IP2);
	net_announce(stage);
	loop_set_now(w.loop, 5 * NS_PER_S);
	ck_assert_uint_eq(wire.frames, 0); /* it may be somebody else's */
	guest_arp(guest_mac, guest_mac, IP, PEER);
	must_know(IP);
}
END_TEST

START_TEST(short_frames_teach_nothing)
{
	uint8_t f[42] = { [12] = 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1 };

	memcpy(f + 6, guest_mac, 6);
	memcpy(f + 22, guest_mac, 6);
	memcpy(f + 28, "\12\0\0\5", 4);
	for (size_t n = NET_HEADER_SIZE; n < sizeof(f); n++) {
		uint8_t *exact = malloc(n);

		memcpy(exact, f, n);
		send_frame(exact, n);
		exact[13] = 0;
		send_frame(exact, MIN(n, 33));
		memcpy(exact + 12, "\x86\xdd", 2);
		send_frame(exact, n);
		free(exact);
	}
	must_know(0);
}
END_TEST

static void must_be_arp(unsigned i, unsigned op, uint32_t ip, const uint8_t *mac)
{
	const uint8_t *f = wire.frame[i].data;
	const uint8_t be[4] = { ip >> 24, ip >> 16, ip >> 8, ip };

	/* RFC 5227, 3: sender and target are the address; RFC 5944, 4.6 for the reply. */
	ck_assert_uint_eq(wire.frame[i].len, 60);
	ck_assert_mem_eq(f, ones, 6);
	ck_assert_mem_eq(f + 6, mac, 6);
	ck_assert_mem_eq(f + 12, "\x08\x06\0\1\x08\0\6\4\0", 9);
	ck_assert_uint_eq(f[21], op);
	ck_assert_mem_eq(f + 22, mac, 6);
	ck_assert_mem_eq(f + 28, be, 4);
	ck_assert_mem_eq(f + 32, op == 2 ? mac : zeros, 6);
	ck_assert_mem_eq(f + 38, be, 4);
}

START_TEST(arp_is_sent_three_times)
{
	int64_t start = 7 * NS_PER_S;

	guest_arp(guest_mac, guest_mac, IP, PEER);
	loop_set_now(w.loop, start);
	net_announce(stage);
	ck_assert_uint_eq(wire.frames, 0);
	for (unsigned round = 1; round <= 3; round++) {
		loop_set_now(w.loop, start + (round - 1) * NS_PER_S);
		ck_assert_uint_eq(wire.frames, 2 * round);
		must_be_arp(2 * round - 2, 1, IP, guest_mac);
		must_be_arp(2 * round - 1, 2, IP, guest_mac);
	}
	loop_set_now(w.loop, start + 100 * NS_PER_S);
	ck_assert_uint_eq(wire.frames, 6);
	ck_assert_uint_eq(net_world_counter(&stage->counters, "announced"), 6);
	ck_assert_uint_eq(net_world_counter(&stage->counters, "announce-given-up"), 0);
}
END_TEST

START_TEST(last_four_addresses_are_announced)
{
	for (unsigned i = 1; i <= 6; i++)
		guest_arp(guest_mac, guest_mac, 0x0a000000 + i, PEER);
	guest_arp(guest_mac, guest_mac, 0x0a000004, PEER);
	net_announce(stage);
	loop_set_now(w.loop, 0);
	ck_assert_uint_eq(wire.frames, 8);
	must_be_arp(0, 1, 0x0a000004, guest_mac);
	must_be_arp(2, 1, 0x0a000006, guest_mac);
	must_be_arp(4, 1, 0x0a000005, guest_mac);
	must_be_arp(6, 1, 0x0a000003, guest_mac);
}
END_TEST

START_TEST(wire_sees_the_wires_address)
{
	net_port_add_stage(&w.port, mac_translator_create());
	guest_arp(guest_mac, guest_mac, IP, PEER);
	net_announce(stage);
	loop_set_now(w.loop, 0);
	ck_assert_uint_eq(wire.frames, 2);
	must_be_arp(0, 1, IP, wire_mac);
	must_be_arp(1, 2, IP, wire_mac);
}
END_TEST

START_TEST(nothing_known_nothing_sent)
{
	net_announce(stage);
	loop_set_now(w.loop, 100 * NS_PER_S);
	ck_assert_uint_eq(wire.frames, 0);
}
END_TEST

START_TEST(waits_for_the_carrier)
{
	guest_arp(guest_mac, guest_mac, IP, PEER);
	net_port_set_carrier(&w.port, false);
	net_announce(stage);
	loop_set_now(w.loop, 10 * NS_PER_S);
	ck_assert_uint_eq(wire.frames, 0);
	net_port_set_carrier(&w.port, true);
	wire.full = true;
	loop_set_now(w.loop, 12 * NS_PER_S);
	ck_assert_uint_eq(wire.frames, 0);
	wire.full = false;
	loop_set_now(w.loop, 20 * NS_PER_S);
	ck_assert_uint_eq(wire.frames, 6);
}
END_TEST

START_TEST(does_not_wait_for_ever)
{
	guest_arp(guest_mac, guest_mac, IP, PEER);
	net_port_set_backend(&w.port, NULL);
	net_announce(stage);
	loop_set_now(w.loop, 100 * NS_PER_S);
	ck_assert_uint_eq(net_world_counter(&stage->counters, "announce-given-up"), 1);
	for (int i = 0; i < VIRTUAL_TIMERS; i++)
		ck_assert_ptr_eq(w.loop->armed[i], NULL);
}
END_TEST

START_TEST(destroyed_while_it_waits)
{
	guest_arp(guest_mac, guest_mac, IP, PEER);
	net_announce(stage);
	net_port_remove_stage(&w.port, stage);
	loop_set_now(w.loop, 100 * NS_PER_S);
	ck_assert_uint_eq(wire.frames, 0);
}
END_TEST

/* ---- IPv6 ---- */

#define NONE "00000000000000000000000000000000"
#define LINK "fe80000000000000505400fffe123456"
#define GLOBAL "20010db8000000000000000000000042"
#define GROUP "ff0200000000000000000001ff000001"
#define SITE "fec0000000000000505400fffe123456"
#define OTHERS "20010db8000000000000000000000001"

static void must_be_advert(unsigned i, const char *ip)
{
	const uint8_t *f = wire.frame[i].data;
	uint32_t sum = 32 + 58;
	char text[33];

	/* RFC 4861, 4.4 and 7.2.6; RFC 2464, 7. */
	ck_assert_uint_eq(wire.frame[i].len, 86);
	ck_assert_mem_eq(f, "\x33\x33\0\0\0\1", 6);
	ck_assert_mem_eq(f + 6, guest_mac, 6);
	ck_assert_mem_eq(f + 12, "\x86\xdd\x60\0\0\0\0\x20\x3a\xff", 10);
	for (unsigned n = 0; n < 16; n++)
		sprintf(text + 2 * n, "%02x", f[22 + n]);
	ck_assert_str_eq(text, ip);
	ck_assert_mem_eq(f + 38, "\xff\2\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
	ck_assert_mem_eq(f + 54, "\x88\0", 2);
	ck_assert_mem_eq(f + 58, "\x20\0\0\0", 4);
	ck_assert_mem_eq(f + 62, f + 22, 16);
	ck_assert_mem_eq(f + 78, "\2\1", 2);
	ck_assert_mem_eq(f + 80, guest_mac, 6);
	for (unsigned n = 22; n < 86; n += 2)
		sum += f[n] << 8 | f[n + 1];
	ck_assert_uint_eq((sum & 0xffff) + (sum >> 16), 0xffff);
}

START_TEST(ipv6_from_neighbour_discovery)
{
	guest_nd(135, LINK, OTHERS, 255);
	guest_nd(136, LINK, GLOBAL, 255);
	guest_nd(133, SITE, NONE, 255);
	net_announce(stage);
	loop_set_now(w.loop, 0);
	ck_assert_uint_eq(wire.frames, 3);
	must_be_advert(0, SITE);
	must_be_advert(1, GLOBAL);
	must_be_advert(2, LINK);
	loop_set_now(w.loop, 9 * NS_PER_S);
	ck_assert_uint_eq(wire.frames, 9);
}
END_TEST

START_TEST(ipv6_that_is_not_the_guests)
{
	guest_nd(135, NONE, GLOBAL, 255);  /* not yet its own: duplicate address detection */
	guest_nd(135, GROUP, GLOBAL, 255);
	guest_nd(136, LINK, GROUP, 255);
	guest_nd(136, LINK, GLOBAL, 64);   /* forwarded */
	guest_nd(134, LINK, GLOBAL, 255);
	guest_nd(128, OTHERS, GLOBAL, 255);
	net_announce(stage);
	loop_set_now(w.loop, 9 * NS_PER_S);
	ck_assert_uint_eq(wire.frames, 0);
}
END_TEST

/* ---- state ---- */

START_TEST(restored_elsewhere)
{
	struct state_buf buf = { .data = NULL };
	struct error err = { "" };

	guest_arp(guest_mac, guest_mac, IP2, PEER);
	guest_arp(guest_mac, guest_mac, IP, PEER);
	guest_nd(135, LINK, OTHERS, 255);
	fields_save(&buf, stage->ops->fields, stage);
	ck_assert(!buf.failed);
	teardown();
	setup();
	ck_assert_msg(fields_parse(buf.data, buf.len, stage->ops->fields, stage, false, &err), "%s",
		      err.text);
	state_buf_finish(&buf);
	must_know(IP);
	net_announce(stage);
	loop_set_now(w.loop, 0);
	ck_assert_uint_eq(wire.frames, 5);
	must_be_arp(0, 1, IP, guest_mac);
	must_be_arp(2, 1, IP2, guest_mac);
	must_be_advert(4, LINK);
}
END_TEST

/* An image may say anything. */
START_TEST(addresses_of_an_image_are_checked)
{
	static const uint8_t ipv4[16] = { 255, 255, 255, 255, 127, 0, 0, 1, 0, 0, 0, 1, 224 };
	uint8_t ipv6[64];

	memset(ipv6, 0xff, sizeof(ipv6));
	for (const struct state_field *f = stage->ops->fields; f->name; f++) {
		if (!strcmp(f->name, "ipv4"))
			memcpy((uint8_t *)stage + f->offset, ipv4, sizeof(ipv4));
		else if (!strcmp(f->name, "ipv6"))
			memcpy((uint8_t *)stage + f->offset, ipv6, sizeof(ipv6));
	}
	must_know(0);
	net_announce(stage);
	loop_set_now(w.loop, 9 * NS_PER_S);
	ck_assert_uint_eq(wire.frames, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("announce");
	TCase *c = tcase_create("announce");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, sender_of_arp_is_learnt);
	tcase_add_test(c, what_is_nobodys_own_address_is_not_learnt);
	tcase_add_test(c, source_of_packets_serves_until_there_is_arp);
	tcase_add_test(c, short_frames_teach_nothing);
	tcase_add_test(c, arp_is_sent_three_times);
	tcase_add_test(c, last_four_addresses_are_announced);
	tcase_add_test(c, wire_sees_the_wires_address);
	tcase_add_test(c, nothing_known_nothing_sent);
	tcase_add_test(c, waits_for_the_carrier);
	tcase_add_test(c, does_not_wait_for_ever);
	tcase_add_test(c, destroyed_while_it_waits);
	tcase_add_test(c, ipv6_from_neighbour_discovery);
	tcase_add_test(c, ipv6_that_is_not_the_guests);
	tcase_add_test(c, restored_elsewhere);
	tcase_add_test(c, addresses_of_an_image_are_checked);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
