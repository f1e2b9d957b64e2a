/* The MAC translator: a table of frames, and what it does as a stage. */
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/mac_table.h"
#include "tests/unit/net_world.h"
#include "translate/mac.h"
#include "translate/mac_priv.h"

static const uint8_t guest_mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
static const uint8_t wire_mac[6] = { 0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee };
static const uint8_t peer_mac[6] = { 0x52, 0x54, 0x00, 0xfe, 0x00, 0x01 };

static struct net_world w;

/* ---- a wire that remembers ---- */

static struct wire {
	struct net_backend base;
	unsigned frames;
	size_t len;
	const uint8_t *seen; /* as handed over */
	uint8_t data[NET_FRAME_MAX];
	bool echo;
} wire;

static void wire_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	wire.frames++;
	wire.len = len;
	wire.seen = frame;
	memcpy(wire.data, frame, len);
	if (wire.echo)
		net_port_receive(b->port, frame, len);
	ck_assert_mem_eq(wire.data, frame, len); /* nobody wrote to it meanwhile */
}

static void wire_close(struct net_backend *b)
{
	(void)b;
}

static const struct net_backend_ops wire_ops = {
	.name = "wire", .send = wire_send, .close = wire_close,
};

static struct net_stage *stage;

static void setup(void)
{
	net_world_init(&w);
	memset(&wire, 0, sizeof(wire));
	wire.base.ops = &wire_ops;
	wire.base.port = &w.port;
	net_port_set_backend(&w.port, &wire.base);
	stage = mac_translator_create();
	net_port_add_stage(&w.port, stage);
	memcpy(w.port.guest_mac, guest_mac, 6);
	memcpy(w.port.wire_mac, wire_mac, 6);
}

static void teardown(void)
{
	net_world_finish(&w);
}

static uint64_t counter(const char *name)
{
	return net_world_counter(&stage->counters, name);
}

/* ---- what is expected, computed without the translator ---- */

static size_t from_hex(const char *hex, uint8_t *out)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++) {
		unsigned byte;

		ck_assert_int_eq(sscanf(hex + 2 * i, "%2x", &byte), 1);
		out[i] = byte;
	}
	return n;
}

static void add_words(uint32_t *sum, const uint8_t *data, size_t n)
{
	for (size_t i = 0; i < n; i++)
		*sum += i & 1 ? data[i] : data[i] << 8;
}

/* RFC 1071, from all the bytes. */
static uint16_t checksum(const uint8_t *frame, unsigned shift, const struct row_sum *s)
{
	uint32_t sum = 0;

	add_words(&sum, frame + shift + s->start, s->end - s->start);
	sum -= frame[shift + s->field] << 8 | frame[shift + s->field + 1];
	if (s->addresses) {
		add_words(&sum, frame + shift + s->addresses, s->addresses_size);
		sum += s->end - s->start + s->proto;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return s->proto == 17 && sum == 0xffff ? 0xffff : ~sum;
}

static void change(uint8_t *frame, unsigned offset, enum row_kind kind, const uint8_t *mac)
{
	uint8_t eui[8] = { mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5] };

	switch (kind) {
	case NONE:
		break;
	case MAC:
		memcpy(frame + offset, mac, 6);
		break;
	case LOW3:
		memcpy(frame + offset, mac + 3, 3);
		break;
	case LOW4:
		memcpy(frame + offset, mac + 2, 4);
		break;
	case EUI:
		memcpy(frame + offset, eui, 8);
		break;
	default:
		frame[offset] = mac[kind - BYTE0];
	}
}

/* The row's frame with @tags VLAN tags; @to: what it shall become. Returns its length. */
static size_t row_frame(const struct row *row, unsigned tags, const uint8_t *mac, uint8_t *in,
			uint8_t *to)
{
	static const uint8_t tag[8] = { 0x88, 0xa8, 0, 7, 0x81, 0, 0, 9 };
	unsigned shift = tags * 4;
	size_t len = from_hex(row->hex, in);

	memmove(in + 12 + shift, in + 12, len - 12);
	memcpy(in + 12, tag + 8 - shift, shift);
	len += shift;
	memcpy(to, in, len);
	for (unsigned i = 0; i < ROW_CHANGES; i++) {
		const struct row_change *c = &row->change[i];

		change(to, c->offset + (c->offset < 12 ? 0 : shift), c->kind, mac);
	}
	for (unsigned i = 0; i < ROW_SUMS; i++) {
		const struct row_sum *s = &row->sum[i];
		uint16_t sum;

		if (!s->end)
			continue;
		sum = checksum(in, shift, s);
		ck_assert_msg(in[shift + s->field] == sum >> 8 &&
			      in[shift + s->field + 1] == (sum & 0xff),
			      "%s: the table's own checksum is not %04x", row->name, sum);
		sum = checksum(to, shift, s);
		to[shift + s->field] = sum >> 8;
		to[shift + s->field + 1] = sum;
	}
	return len;
}

static void must_be(const char *name, const uint8_t *is, const uint8_t *to, size_t len)
{
	for (size_t i = 0; i < len; i++)
		ck_assert_msg(is[i] == to[i], "%s: byte %zu is %02x, not %02x", name, i, is[i], to[i]);
}

/* ---- the table ---- */

static void translate_row(const struct row *row, unsigned tags)
{
	uint8_t in[1600], to[1600], before[1600];
	size_t len = row_frame(row, tags, wire_mac, in, to);
	const struct net_world_frame *got;
	const char *name;

	memcpy(before, in, len);
	w.frames = 0;
	if (row->dir == NET_TO_WIRE) {
		memcpy(w.port.guest_mac, guest_mac, 6);
		memcpy(w.port.wire_mac, wire_mac, 6);
		net_port_send(&w.port, in, len);
		ck_assert_uint_eq(wire.len, len);
		must_be(row->name, wire.data, to, len);
	} else {
		/* What was captured at the address 52:54:00:12:34:56 is the wire's here. */
		memcpy(w.port.wire_mac, guest_mac, 6);
		memcpy(w.port.guest_mac, wire_mac, 6);
		net_port_receive(&w.port, in, len);
		ck_assert_uint_eq(w.frames, 1);
		got = &w.frame[0];
		ck_assert_uint_eq(got->len, len);
		must_be(row->name, got->data, to, len);
	}
	ck_assert_mem_eq(in, before, len); /* borrowed */
	for (unsigned i = 0; i < stage->counters.count; i++) {
		name = stage->counters.item[i].name;
		if (!strncmp(name, "leak", 4) || !strncmp(name, "drop", 4))
			ck_assert_msg(!counter(name), "%s: %s", row->name, name);
	}
}

START_TEST(every_protocol_is_translated)
{
	unsigned sent = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		for (unsigned tags = 0; tags <= 2; tags++)
			translate_row(&rows[i], tags);
		sent += rows[i].dir == NET_TO_WIRE;
	}
	ck_assert_uint_eq(counter("translated-to-wire"), 3 * sent);
	ck_assert_uint_eq(counter("translated-to-guest"), 3 * (ARRAY_SIZE(rows) - sent));
}
END_TEST

/* A page's end, with nothing mapped behind. */
static uint8_t *cliff(void)
{
	long page = sysconf(_SC_PAGESIZE);
	uint8_t *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	ck_assert_int_eq(mprotect(p + page, page, PROT_NONE), 0);
	return p + page;
}

START_TEST(every_prefix_of_every_frame_is_safe_and_comes_back)
{
	uint8_t *in_end = cliff(), *once_end = cliff(), *twice_end = cliff();
	struct mac_pair pair;

	mac_pair_init(&pair, guest_mac, wire_mac);
	for (size_t r = 0; r < ARRAY_SIZE(rows); r++) {
		uint8_t whole[1600];
		size_t len = from_hex(rows[r].hex, whole);

		for (size_t n = 0; n <= len; n++) {
			uint8_t *in = in_end - n;
			struct mac_frame f;
			const uint8_t *once;

			memcpy(in, whole, n);
			mac_translate(&f, &pair, in, n, once_end - n);
			mac_leaks(&f);
			once = f.edit.data;
			mac_translate(&f, &pair, once, n, twice_end - n);
			must_be(rows[r].name, f.edit.data, whole, n);
		}
	}
}
END_TEST

/* ---- checksums that are special ---- */

static const struct row *row_of(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!strcmp(rows[i].name, name))
			return &rows[i];
	}
	ck_abort_msg("no row %s", name);
	return NULL;
}

START_TEST(udp_without_checksum_stays_without)
{
	uint8_t in[1600], to[1600];
	size_t len = row_frame(row_of("DHCP, client id of type 1"), 0, wire_mac, in, to);

	memset(in + 40, 0, 2);
	memset(to + 40, 0, 2);
	net_port_send(&w.port, in, len);
	must_be("UDP", wire.data, to, len);
}
END_TEST

/* RFC 768: a computed zero is sent as ones. The transaction id makes it so. */
START_TEST(udp_checksum_of_zero_is_sent_as_ones)
{
	const struct row *row = row_of("DHCP, client id of type 1");
	uint8_t in[1600], to[1600];
	size_t len = row_frame(row, 0, wire_mac, in, to);
	unsigned x;

	for (x = 0; x < 65536; x++) {
		to[46] = in[46] = x >> 8;
		to[47] = in[47] = x;
		if (checksum(to, 0, &row->sum[0]) == 0xffff)
			break;
	}
	ck_assert_uint_lt(x, 65536);
	x = checksum(in, 0, &row->sum[0]);
	in[40] = x >> 8;
	in[41] = x;
	to[40] = to[41] = 0xff;
	net_port_send(&w.port, in, len);
	must_be("UDP", wire.data, to, len);
}
END_TEST

/* Behind LLC's three bytes all 16-bit words of the packet are at odd places. */
START_TEST(checksum_at_an_odd_offset)
{
	const struct row *row = row_of("IPX with checksum");
	uint8_t in[1600], to[1600];
	size_t len = row_frame(row, 0, wire_mac, in, to);

	memmove(in + 17, in + 14, len - 14);
	memcpy(in + 12, "\x00\x29\xe0\xe0\x03", 5);
	memcpy(w.port.guest_mac, wire_mac, 6);
	memcpy(w.port.wire_mac, guest_mac, 6);
	net_port_receive(&w.port, in, len + 3);
	must_be("addresses", w.frame[0].data, to, 12);
	must_be("IPX", w.frame[0].data + 17, to + 14, len - 14);
}
END_TEST

START_TEST(wrong_checksum_stays_wrong)
{
	const struct row *row = row_of("neighbour advertisement");
	uint8_t in[1600], to[1600];
	size_t len = row_frame(row, 0, wire_mac, in, to);

	in[57] ^= 0x40;
	net_port_send(&w.port, in, len);
	ck_assert_mem_eq(wire.data, to, 56);
	ck_assert_mem_ne(wire.data + 56, to + 56, 2);
	ck_assert_mem_eq(wire.data + 58, to + 58, len - 58);
}
END_TEST

/* ---- the stage ---- */

START_TEST(own_echo_is_dropped)
{
	uint8_t in[1600], to[1600];
	size_t len = row_frame(row_of("duplicate address detection"), 0, wire_mac, in, to);

	wire.echo = true;
	net_port_send(&w.port, in, len);
	ck_assert_uint_eq(wire.frames, 1);
	ck_assert_uint_eq(w.frames, 0);
	ck_assert_uint_eq(counter("drop.own-echo"), 1);

	/* The same without anything to translate; and then a frame passes as it is. */
	memcpy(w.port.wire_mac, guest_mac, 6);
	net_port_send(&w.port, in, len);
	ck_assert_uint_eq(w.frames, 0);
	ck_assert_uint_eq(counter("drop.own-echo"), 2);
	ck_assert_ptr_eq(wire.seen, in);
	ck_assert_uint_eq(counter("translated-to-wire"), 1);
}
END_TEST

static size_t arp_frame(uint8_t *f, unsigned op, const uint8_t *to, const uint8_t *from,
			const uint8_t *tha)
{
	memset(f, 0, 60);
	memcpy(f, to, 6);
	memcpy(f + 6, from, 6);
	memcpy(f + 12, "\x08\x06\x00\x01\x08\x00\x06\x04\x00", 9);
	f[21] = op;
	memcpy(f + 22, from, 6);
	if (tha)
		memcpy(f + 32, tha, 6);
	return 60;
}

static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

/* A clone, translated, and the machine it was copied from, which is not: both guests
 * believe to have the same address, and talk to each other all the same. */
START_TEST(clone_and_original_talk_to_each_other)
{
	uint8_t f[64], tcp[64] = { 0 };
	const uint8_t *sha;
	size_t len;

	/* The clone asks; the original sees a stranger. */
	len = arp_frame(f, 1, all, guest_mac, NULL);
	net_port_send(&w.port, f, len);
	ck_assert_mem_eq(wire.data + 6, wire_mac, 6);
	ck_assert_mem_eq(wire.data + 22, wire_mac, 6);

	/* The original answers whom it saw; the clone learns the stranger's address. */
	len = arp_frame(f, 2, wire.data + 22, guest_mac, wire.data + 22);
	net_port_receive(&w.port, f, len);
	ck_assert_uint_eq(w.frames, 1);
	ck_assert_mem_eq(w.frame[0].data, guest_mac, 6);
	ck_assert_mem_eq(w.frame[0].data + 32, guest_mac, 6);
	ck_assert_mem_eq(w.frame[0].data + 6, wire_mac, 6);
	sha = w.frame[0].data + 22;
	ck_assert_mem_ne(sha, guest_mac, 6); /* no conflict to be seen */

	/* The clone sends an IP packet there: it reaches the original, and only it. */
	memcpy(tcp, sha, 6);
	memcpy(tcp + 6, guest_mac, 6);
	memcpy(tcp + 12, "\x08\x00\x45\x00\x00\x28", 6);
	tcp[23] = 6;
	net_port_send(&w.port, tcp, sizeof(tcp));
	ck_assert_mem_eq(wire.data, guest_mac, 6);
	ck_assert_mem_eq(wire.data + 6, wire_mac, 6);

	/* And back. */
	memcpy(tcp, wire_mac, 6);
	memcpy(tcp + 6, guest_mac, 6);
	net_port_receive(&w.port, tcp, sizeof(tcp));
	ck_assert_mem_eq(w.frame[1].data, guest_mac, 6);
	ck_assert_mem_eq(w.frame[1].data + 6, sha, 6);

	/* The original is no leak of ours, and the user was told of it once. */
	ck_assert_uint_eq(counter("leak.arp"), 0);
	ck_assert_uint_eq(counter("foreign-mac"), 2);
	ck_assert_uint_eq(w.notes, 1);
	ck_assert_ptr_nonnull(strstr(w.note[0], "52:54:00:12:34:56"));
}
END_TEST

/* Frames for another who has the guest's address are not the guest's. */
START_TEST(foreign_unicast_is_not_the_guests)
{
	uint8_t f[64];
	size_t len = arp_frame(f, 2, guest_mac, peer_mac, guest_mac);

	net_port_receive(&w.port, f, len);
	ck_assert_uint_eq(w.frames, 1); /* a card that listens to all may have it */
	ck_assert_mem_eq(w.frame[0].data, wire_mac, 6);
	ck_assert_mem_eq(w.frame[0].data + 32, wire_mac, 6);
	ck_assert_uint_eq(counter("foreign-mac"), 1);
}
END_TEST

/* Another station whose address ends like the guest's has the same group. */
START_TEST(group_goes_with_the_address_asked_for)
{
	uint8_t in[1600], to[1600];
	size_t len = row_frame(row_of("neighbour solicitation"), 0, wire_mac, in, to);
	static const uint8_t other[8] = { 0xaa, 0xbb, 0xcc, 0xff, 0xfe, 0x12, 0x34, 0x56 };

	memcpy(in + 70, other, 8);
	memcpy(in, "\x33\x33\xff\x12\x34\x56", 6);
	memcpy(in + 6, guest_mac, 6);
	net_port_send(&w.port, in, len);
	ck_assert_mem_eq(wire.data, in, 6);
	ck_assert_mem_eq(wire.data + 38, in + 38, 16);
	ck_assert_mem_eq(wire.data + 54, in + 54, len - 54);
}
END_TEST

START_TEST(one_image_restored_twice)
{
	uint8_t f[64], other[6] = { 0x02, 0, 0, 0, 0, 9 };
	size_t len = arp_frame(f, 1, all, guest_mac, NULL);

	net_port_send(&w.port, f, len);
	ck_assert_mem_eq(wire.data + 22, wire_mac, 6);
	/* The second generation: no trace of the first. */
	memcpy(w.port.wire_mac, other, 6);
	net_port_send(&w.port, f, len);
	ck_assert_mem_eq(wire.data + 6, other, 6);
	ck_assert_mem_eq(wire.data + 22, other, 6);
	len = arp_frame(f, 2, other, peer_mac, other);
	net_port_receive(&w.port, f, len);
	ck_assert_mem_eq(w.frame[0].data, guest_mac, 6);
	ck_assert_mem_eq(w.frame[0].data + 32, guest_mac, 6);
	/* Frames for the first clone, which is another machine now. */
	len = arp_frame(f, 2, wire_mac, peer_mac, wire_mac);
	net_port_receive(&w.port, f, len);
	ck_assert_mem_eq(w.frame[1].data, wire_mac, 6);
}
END_TEST

/* What the guest writes to PAR0-5 is the guest's address only. */
START_TEST(guest_programs_its_card)
{
	uint8_t f[64], other[6] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55 };
	size_t len = arp_frame(f, 1, all, other, NULL);

	memcpy(w.port.guest_mac, other, 6);
	net_port_send(&w.port, f, len);
	ck_assert_mem_eq(wire.data + 6, wire_mac, 6);
	ck_assert_mem_eq(wire.data + 22, wire_mac, 6);
	ck_assert_mem_eq(w.port.wire_mac, wire_mac, 6);
	len = arp_frame(f, 2, wire_mac, peer_mac, wire_mac);
	net_port_receive(&w.port, f, len);
	ck_assert_mem_eq(w.frame[0].data, other, 6);
	ck_assert_mem_eq(w.frame[0].data + 32, other, 6);
}
END_TEST

/* A card whose PAR0-5 are not set yet: an ARP request is full of that address. */
START_TEST(address_of_no_station_is_left_alone)
{
	static const uint8_t none[3][6] = { { 0 }, { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, { 1 } };
	uint8_t f[64];
	size_t len = arp_frame(f, 1, all, peer_mac, NULL);

	for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
		memcpy(w.port.guest_mac, none[i], 6);
		net_port_receive(&w.port, f, len);
		ck_assert_mem_eq(w.frame[i].data, f, len);
	}
	ck_assert_uint_eq(counter("translated-to-guest"), 0);
}
END_TEST

START_TEST(leaks_are_counted_where_they_are)
{
	static const struct {
		const char *counter;
		const char *header; /* after the addresses */
		unsigned size;
	} leaks[] = {
		{ "leak.ethernet", "\x88\xb5", 2 },
		{ "leak.llc", "\x00\x26\x42\x42\x03", 5 },
		{ "leak.arp", "\x08\x06\x00\x06", 4 },
		{ "leak.ipx", "\x81\x37\xff\xff\x00\x40", 6 },
		{ "leak.payload", "\x08\x00\x45\x00\x00\x30\x00\x00\x00\x00\x40\x11", 12 },
		{ "leak.payload", "\x86\xdd\x60\x00\x00\x00\x00\x10\x11\x40", 10 },
		{ "leak.fragment", "\x08\x00\x45\x00\x00\x30\x00\x00\x00\x10\x40\x11", 12 },
		{ "leak.fragment", "\x86\xdd\x60\x00\x00\x00\x00\x18\x2c\x40", 10 },
	};
	uint8_t f[128];

	for (size_t i = 0; i < ARRAY_SIZE(leaks); i++) {
		uint64_t before = counter(leaks[i].counter);

		memset(f, 0, sizeof(f));
		memcpy(f, peer_mac, 6);
		memcpy(f + 6, guest_mac, 6);
		memcpy(f + 12, leaks[i].header, leaks[i].size);
		if (i == ARRAY_SIZE(leaks) - 1)
			f[57] = 8; /* fragment offset */
		net_port_send(&w.port, f, sizeof(f));
		ck_assert_uint_eq(counter(leaks[i].counter), before);
		for (unsigned at = 64; at <= sizeof(f) - 6; at++) {
			memset(f + 64, 0, sizeof(f) - 64);
			memcpy(f + at, guest_mac, 6);
			net_port_send(&w.port, f, sizeof(f));
			ck_assert_msg(counter(leaks[i].counter) == ++before, "%s at %u",
				      leaks[i].counter, at);
		}
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mac");
	TCase *c = tcase_create("mac");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 30);
	tcase_add_test(c, every_protocol_is_translated);
	tcase_add_test(c, every_prefix_of_every_frame_is_safe_and_comes_back);
	tcase_add_test(c, udp_without_checksum_stays_without);
	tcase_add_test(c, udp_checksum_of_zero_is_sent_as_ones);
	tcase_add_test(c, checksum_at_an_odd_offset);
	tcase_add_test(c, wrong_checksum_stays_wrong);
	tcase_add_test(c, own_echo_is_dropped);
	tcase_add_test(c, clone_and_original_talk_to_each_other);
	tcase_add_test(c, foreign_unicast_is_not_the_guests);
	tcase_add_test(c, group_goes_with_the_address_asked_for);
	tcase_add_test(c, one_image_restored_twice);
	tcase_add_test(c, guest_programs_its_card);
	tcase_add_test(c, address_of_no_station_is_left_alone);
	tcase_add_test(c, leaks_are_counted_where_they_are);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
