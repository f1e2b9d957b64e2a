/* The IPv4 translator: frames that are built twice, with the guest's address and with the
 * wire's, all checksums computed from all the bytes (RFC 1071); the one must become the
 * other. Frames of real stacks are in tests/net/test_ip_frames.py. */
#include <sys/mman.h>
#include <unistd.h>

#include "statefile/fields.h"
#include "tests/unit/net_world.h"
#include "translate/announce.h"
#include "translate/ip.h"
#include "translate/ip_priv.h"

static const uint8_t old_ip[4] = { 10, 0, 0, 5 }, new_ip[4] = { 10, 0, 0, 23 };
static const uint8_t peer_ip[4] = { 10, 0, 0, 1 }, far_ip[4] = { 192, 0, 2, 9 };
static const uint8_t other_ip[4] = { 10, 0, 0, 99 };
static const uint8_t guest_mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
static const uint8_t peer_mac[6] = { 0x52, 0x54, 0x00, 0xfe, 0x00, 0x01 };

/* ---- a builder ---- */

struct packet {
	size_t len;
	uint8_t data[2000];
};

static void put(struct packet *p, const void *data, size_t n)
{
	if (n)
		memcpy(p->data + p->len, data, n);
	p->len += n;
}

static void put16(struct packet *p, unsigned v)
{
	put(p, (uint8_t[]){ v >> 8, v }, 2);
}

static void zeros(struct packet *p, size_t n)
{
	memset(p->data + p->len, 0, n);
	p->len += n;
}

static uint32_t add(uint32_t sum, const uint8_t *data, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? data[i] : data[i] << 8;
	return sum;
}

static void set_sum(struct packet *p, size_t field, uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	p->data[field] = ~sum >> 8;
	p->data[field + 1] = ~sum;
}

static void ethernet(struct packet *p, unsigned type)
{
	p->len = 0;
	put(p, peer_mac, 6);
	put(p, guest_mac, 6);
	put16(p, type);
}

/* An IPv4 header for @size bytes of payload; @fragment: flags and offset. */
static size_t header(struct packet *p, const uint8_t *from, const uint8_t *to, unsigned proto,
		     size_t size, unsigned fragment, const uint8_t *options, size_t options_size)
{
	size_t at = p->len;

	put(p, (uint8_t[]){ 0x45 + options_size / 4, 0 }, 2);
	put16(p, 20 + options_size + size);
	put16(p, 0x1234);
	put16(p, fragment);
	put(p, (uint8_t[]){ 64, proto, 0, 0 }, 4);
	put(p, from, 4);
	put(p, to, 4);
	put(p, options, options_size);
	set_sum(p, at + 10, add(0, p->data + at, p->len - at));
	return p->len;
}

/* The payload from @body on has its checksum at @field, over a pseudo-header. */
static void upper_sum(struct packet *p, size_t body, unsigned field, const uint8_t *from,
		      const uint8_t *to, unsigned proto)
{
	uint32_t sum = add(add(add(proto + p->len - body, from, 4), to, 4), p->data + body,
			   p->len - body);

	set_sum(p, body + field, sum);
	if (proto == 17 && !p->data[body + field] && !p->data[body + field + 1])
		memset(p->data + body + field, 0xff, 2);
}

static void tcp_data(struct packet *p, const uint8_t *from, const uint8_t *to,
		     const uint8_t *last_stop, const uint8_t *options, size_t options_size,
		     uint16_t word)
{
	size_t body = header(p, from, to, 6, 27, 0, options, options_size);

	put(p, (uint8_t[]){ 0x80, 0, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0 },
	    20);
	put16(p, word);
	put(p, "hello", 5);
	upper_sum(p, body, 16, from, last_stop, 6);
}

static void udp_data(struct packet *p, const uint8_t *from, const uint8_t *to, unsigned from_port,
		     unsigned to_port, const void *data, size_t size, bool sum)
{
	size_t body = header(p, from, to, 17, 8 + size, 0, NULL, 0);

	put16(p, from_port);
	put16(p, to_port);
	put16(p, 8 + size);
	put16(p, 0);
	put(p, data, size);
	if (sum)
		upper_sum(p, body, 6, from, to, 17);
}

/* ---- frames of a station whose address is @me ---- */

static void arp(struct packet *p, const uint8_t *me, unsigned op, const uint8_t *spa,
		const uint8_t *tpa)
{
	(void)me;
	ethernet(p, 0x0806);
	put(p, (uint8_t[]){ 0, 1, 8, 0, 6, 4, 0, op }, 8);
	put(p, guest_mac, 6);
	put(p, spa, 4);
	put(p, peer_mac, 6);
	put(p, tpa, 4);
	zeros(p, 18);
}

static void arp_request(struct packet *p, const uint8_t *me)
{
	arp(p, me, 1, me, peer_ip);
}

static void arp_answer(struct packet *p, const uint8_t *me)
{
	arp(p, me, 2, peer_ip, me);
}

static void arp_probe(struct packet *p, const uint8_t *me)
{
	arp(p, me, 1, (const uint8_t[4]){ 0 }, me);
}

static void arp_announcement(struct packet *p, const uint8_t *me)
{
	arp(p, me, 1, me, me);
}

static void tcp_out(struct packet *p, const uint8_t *me)
{
	ethernet(p, 0x0800);
	tcp_data(p, me, peer_ip, peer_ip, NULL, 0, 0);
}

static void tcp_in_snap(struct packet *p, const uint8_t *me)
{
	ethernet(p, 8 + 47);
	put(p, (uint8_t[]){ 0xaa, 0xaa, 3, 0, 0, 0, 8, 0 }, 8);
	tcp_data(p, far_ip, me, me, NULL, 0, 0);
}

static void tcp_two_tags(struct packet *p, const uint8_t *me)
{
	ethernet(p, 0x88a8);
	put(p, (uint8_t[]){ 0, 7, 0x81, 0, 0, 9, 8, 0 }, 8);
	tcp_data(p, me, far_ip, far_ip, NULL, 0, 0);
}

static void udp_odd(struct packet *p, const uint8_t *me)
{
	ethernet(p, 0x0800);
	udp_data(p, me, peer_ip, 4000, 4001, "odd", 3, true);
	zeros(p, 15); /* Ethernet's padding */
}

static void udp_no_sum(struct packet *p, const uint8_t *me)
{
	ethernet(p, 0x0800);
	udp_data(p, far_ip, me, 4000, 4001, "four", 4, false);
}

static void to_itself(struct packet *p, const uint8_t *me)
{
	ethernet(p, 0x0800);
	udp_data(p, me, me, 4000, 4001, "four", 4, true);
}

static void udp_lite(struct packet *p, const uint8_t *me)
{
	size_t body;

	ethernet(p, 0x0800);
	body = header(p, me, peer_ip, 136, 12, 0, NULL, 0);
	put(p, (uint8_t[]){ 1, 2, 3, 4, 0, 12, 0, 0, 'd', 'a', 't', 'a' }, 12);
	upper_sum(p, body, 6, me, peer_ip, 136);
}

/* TCP with 27 bytes, of which this fragment has @from to @to; the checksum is of the whole. */
static void fragment(struct packet *p, const uint8_t *me, size_t from, size_t to)
{
	struct packet whole = { .len = 0 };

	tcp_data(&whole, me, peer_ip, peer_ip, NULL, 0, 0);
	ethernet(p, 0x0800);
	header(p, me, peer_ip, 6, to - from, (to < 27 ? 0x2000 : 0) | from / 8, NULL, 0);
	put(p, whole.data + 20 + from, to - from);
}

static void first_fragment(struct packet *p, const uint8_t *me)
{
	fragment(p, me, 0, 24);
}

static void last_fragment(struct packet *p, const uint8_t *me)
{
	fragment(p, me, 24, 27);
}

static void tiny_fragment(struct packet *p, const uint8_t *me)
{
	fragment(p, me, 0, 16);
}

static void second_tiny_fragment(struct packet *p, const uint8_t *me)
{
	fragment(p, me, 16, 24);
}

static void routed(struct packet *p, const uint8_t *me)
{
	const uint8_t options[] = {
		1, 137, 11, 8, 10, 0, 0, 77, me[0], me[1], me[2], me[3],
	};

	/* One stop is done, the guest is the last: not where the header says it goes. */
	ethernet(p, 0x0800);
	tcp_data(p, far_ip, peer_ip, me, options, sizeof(options), 0);
}

static void arrived(struct packet *p, const uint8_t *me)
{
	const uint8_t options[] = { 131, 7, 8, me[0], me[1], me[2], me[3], 0 };

	ethernet(p, 0x0800);
	tcp_data(p, far_ip, peer_ip, peer_ip, options, sizeof(options), 0);
}

static void recorded(struct packet *p, const uint8_t *me)
{
	const uint8_t options[] = {
		7, 11, 12, me[0], me[1], me[2], me[3], 10, 0, 0, 7, 1, /* record route, no-operation */
		68, 20, 13, 1, me[0], me[1], me[2], me[3], 10, 0, 0, 5, /* the last: a time */
		10, 0, 0, 8, 0, 0, 0, 0,
	};

	ethernet(p, 0x0800);
	tcp_data(p, far_ip, peer_ip, peer_ip, options, sizeof(options), 0);
}

static void times_only(struct packet *p, const uint8_t *me)
{
	/* A time that looks like the guest's address is none. */
	static const uint8_t options[] = { 68, 8, 9, 0, 10, 0, 0, 5 };

	ethernet(p, 0x0800);
	tcp_data(p, me, peer_ip, peer_ip, options, sizeof(options), 0);
}

/* An ICMP error of @type from @router about @quote. */
static void icmp_error(struct packet *p, const uint8_t *router, const uint8_t *to, unsigned type,
		       const uint8_t *word, const struct packet *quote, size_t most)
{
	size_t size = MIN(quote->len, most);
	size_t body = header(p, router, to, 1, 8 + size, 0, NULL, 0);

	put(p, (uint8_t[]){ type, 1, 0, 0 }, 4);
	put(p, word, 4);
	put(p, quote->data, size);
	set_sum(p, body + 2, add(0, p->data + body, p->len - body));
}

static const uint8_t unused[4];

static void quoted_udp(struct packet *p, const uint8_t *me)
{
	struct packet quote = { .len = 0 };

	udp_data(&quote, me, far_ip, 4000, 4001, "whole", 5, true);
	ethernet(p, 0x0800);
	icmp_error(p, peer_ip, me, 3, unused, &quote, 576);
}

static void quoted_tcp_start(struct packet *p, const uint8_t *me)
{
	struct packet quote = { .len = 0 };

	/* RFC 792: the header and eight bytes, which TCP's checksum is not among. */
	tcp_data(&quote, far_ip, me, me, NULL, 0, 0);
	ethernet(p, 0x0800);
	icmp_error(p, me, far_ip, 11, unused, &quote, 28);
}

static void redirect(struct packet *p, const uint8_t *me)
{
	struct packet quote = { .len = 0 };

	udp_data(&quote, peer_ip, far_ip, 4000, 4001, "to", 2, true);
	ethernet(p, 0x0800);
	icmp_error(p, far_ip, peer_ip, 5, me, &quote, 576);
}

static void quoted_quote(struct packet *p, const uint8_t *me)
{
	struct packet inner = { .len = 0 }, outer = { .len = 0 };

	udp_data(&inner, far_ip, me, 4000, 4001, "whole", 5, true);
	icmp_error(&outer, me, far_ip, 3, unused, &inner, 576);
	ethernet(p, 0x0800);
	icmp_error(p, peer_ip, me, 11, unused, &outer, 576);
}

static void dhcp(struct packet *p, const uint8_t *me, bool renew)
{
	struct packet m = { .len = 0 };
	static const uint8_t everyone[4] = { 255, 255, 255, 255 };

	put(&m, (uint8_t[]){ 1, 1, 6, 0, 'X', 'I', 'D', '!', 0, 0, 0, 0 }, 12);
	put(&m, renew ? me : unused, 4);
	put(&m, renew ? unused : me, 4);
	zeros(&m, 8);
	put(&m, guest_mac, 6);
	zeros(&m, 10);
	put(&m, "\66\4", 2); /* sname is overloaded: server identifier */
	put(&m, me, 4);
	put(&m, "\377", 1);
	zeros(&m, 57);
	zeros(&m, 128);
	put(&m, "\x63\x82\x53\x63\65\1\3\62\4", 9);
	put(&m, me, 4);
	put(&m, "\64\1\2\6\10", 5); /* overload, DNS */
	put(&m, peer_ip, 4);
	put(&m, me, 4);
	put(&m, "\103\4", 2); /* a boot file of this name is no address */
	put(&m, "\12\0\0\5", 4);
	put(&m, "\377", 1);
	ethernet(p, 0x0800);
	udp_data(p, renew ? me : peer_ip, renew ? peer_ip : everyone, 68, 67, m.data, m.len, true);
}

static void dhcp_renewal(struct packet *p, const uint8_t *me)
{
	dhcp(p, me, true);
}

static void dhcp_offer(struct packet *p, const uint8_t *me)
{
	dhcp(p, me, false);
}

static void netbios_datagram(struct packet *p, const uint8_t *me)
{
	uint8_t data[100] = { 0x11, 2, 0, 9, me[0], me[1], me[2], me[3], 0, 138 };
	static const uint8_t everyone[4] = { 10, 0, 0, 255 };

	ethernet(p, 0x0800);
	udp_data(p, me, everyone, 138, 138, data, sizeof(data), true);
}

static void (*const builders[])(struct packet *p, const uint8_t *me) = {
	arp_request, arp_answer, arp_probe, arp_announcement, tcp_out, tcp_in_snap, tcp_two_tags,
	udp_odd, udp_no_sum, to_itself, udp_lite, first_fragment, last_fragment, tiny_fragment,
	second_tiny_fragment, routed, arrived, recorded, times_only, quoted_udp, quoted_tcp_start,
	redirect, quoted_quote, dhcp_renewal, dhcp_offer, netbios_datagram,
};

/* ---- the core ---- */

static struct ip_pair pair;

static void must_become(const struct packet *in, const struct packet *to, const char *what, size_t n)
{
	uint8_t copy[NET_FRAME_MAX];
	struct ip_frame f;

	ip_translate(&f, &pair, in->data, in->len, copy);
	if (in->len == to->len && !memcmp(f.edit.data, to->data, to->len))
		return; /* each ck_assert is a system call: 100,000 of them would take long */
	ck_assert_uint_eq(in->len, to->len);
	for (size_t i = 0; i < to->len; i++)
		ck_assert_msg(f.edit.data[i] == to->data[i], "%s %zu: byte %zu is %02x, not %02x", what, n,
			      i, f.edit.data[i], to->data[i]);
}

START_TEST(every_frame_becomes_the_others)
{
	for (size_t i = 0; i < ARRAY_SIZE(builders); i++) {
		struct packet guest, wire;

		builders[i](&guest, old_ip);
		builders[i](&wire, new_ip);
		ck_assert_msg(memcmp(guest.data, wire.data, wire.len), "builder %zu", i);
		must_become(&guest, &wire, "builder", i);
		must_become(&wire, &guest, "builder, back,", i);
	}
}
END_TEST

/* All values of two bytes: all sums, the ones that are written as others among them. */
START_TEST(every_checksum_is_right)
{
	for (unsigned word = 0; word < 0x10000; word++) {
		uint8_t data[2] = { word >> 8, word };
		struct packet guest, wire;

		ethernet(&guest, 0x0800);
		udp_data(&guest, old_ip, peer_ip, 4000, 4001, data, 2, true);
		ethernet(&wire, 0x0800);
		udp_data(&wire, new_ip, peer_ip, 4000, 4001, data, 2, true);
		must_become(&guest, &wire, "UDP", word);
		ethernet(&guest, 0x0800);
		tcp_data(&guest, old_ip, peer_ip, peer_ip, NULL, 0, word);
		ethernet(&wire, 0x0800);
		tcp_data(&wire, new_ip, peer_ip, peer_ip, NULL, 0, word);
		must_become(&guest, &wire, "TCP", word);
	}
}
END_TEST

/* Ends where the next page cannot be touched. */
static uint8_t *cliff(void)
{
	long page = sysconf(_SC_PAGESIZE);
	uint8_t *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	ck_assert_int_eq(mprotect(p + page, page, PROT_NONE), 0);
	return p + page;
}

START_TEST(every_prefix_is_safe_and_comes_back)
{
	uint8_t *in_end = cliff(), *once_end = cliff(), *twice_end = cliff();

	for (size_t b = 0; b < ARRAY_SIZE(builders); b++) {
		struct packet whole;

		builders[b](&whole, old_ip);
		for (size_t n = 0; n <= whole.len; n++) {
			uint8_t *in = in_end - n;
			const uint8_t *once;
			struct ip_frame f;

			memcpy(in, whole.data, n);
			ip_translate(&f, &pair, in, n, once_end - n);
			once = f.edit.data;
			ip_translate(&f, &pair, once, n, twice_end - n);
			ck_assert_msg(!memcmp(f.edit.data, whole.data, n), "builder %zu, %zu bytes", b, n);
		}
	}
}
END_TEST

START_TEST(other_frames_are_not_copied)
{
	uint8_t copy[NET_FRAME_MAX];
	struct ip_frame f;
	struct packet p;

	ethernet(&p, 0x0800);
	tcp_data(&p, other_ip, peer_ip, peer_ip, NULL, 0, 0);
	ip_translate(&f, &pair, p.data, p.len, copy);
	ck_assert_ptr_eq(f.edit.data, p.data);
	ethernet(&p, 0x0800);
	udp_data(&p, peer_ip, (const uint8_t[4]){ 10, 0, 0, 255 }, 4000, 4001, "\12\0\0\5", 4, true);
	ip_translate(&f, &pair, p.data, p.len, copy);
	ck_assert_ptr_eq(f.edit.data, p.data);
	dhcp_offer(&p, other_ip);
	memcpy(p.data + p.len - 5, "\12\0\0\6", 4);
	ip_translate(&f, &pair, p.data, p.len, copy);
	ck_assert_ptr_eq(f.edit.data, p.data);
}
END_TEST

static void setup_pair(void)
{
	memcpy(pair.ip[0], old_ip, 4);
	memcpy(pair.ip[1], new_ip, 4);
}

/* ---- the rule ---- */

START_TEST(rules_are_read)
{
	static const struct {
		const char *text;
		uint8_t old[4], new[4];
	} good[] = {
		{ "10.0.0.5:10.0.0.23", { 10, 0, 0, 5 }, { 10, 0, 0, 23 } },
		{ "translate=192.168.1.2:1.2.3.4", { 192, 168, 1, 2 }, { 1, 2, 3, 4 } },
		{ "10.0.0.23", { 0 }, { 10, 0, 0, 23 } },
		{ "auto:10.0.0.23", { 0 }, { 10, 0, 0, 23 } },
		{ "translate=auto:10.0.0.23", { 0 }, { 10, 0, 0, 23 } },
		{ "none", { 0 }, { 0 } },
	};
	static const char *const bad[] = {
		"", ":", "10.0.0", "10.0.0.5:", ":10.0.0.5", "10.0.0.256", "10.0.0.5.6", "10.0.0.5 ",
		"10.0.0.5:10.0.0.6:10.0.0.7", "0.0.0.0", "255.255.255.255:10.0.0.1", "224.0.0.1",
		"10.0.0.1:127.0.0.1", "a.b.c.d", "10..0.1", "-1.0.0.1", "10.0.0.00001", "translate=",
		"none:10.0.0.1", "10.0.0.1:none", "fe80::1",
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct ip_rule r = { .set = false };
		struct error err = { "" };

		ck_assert_msg(ip_rule_parse(good[i].text, &r, &err), "%s", err.text);
		ck_assert(r.set);
		ck_assert_mem_eq(r.old, good[i].old, 4);
		ck_assert_mem_eq(r.new, good[i].new, 4);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct ip_rule r = { .set = false };
		struct error err = { "" };

		ck_assert_msg(!ip_rule_parse(bad[i], &r, &err), "'%s'", bad[i]);
		ck_assert(!r.set);
		ck_assert_ptr_ne(strstr(err.text, bad[i]), NULL);
		ck_assert_ptr_ne(strstr(err.text, "10.0.0.5:10.0.0.23"), NULL);
		ck_assert_ptr_eq(strchr(err.text, '\n'), NULL);
	}
}
END_TEST

/* ---- the stage ---- */

static struct net_world w;
static struct net_stage *stage, *announcer;

static struct wire {
	struct net_backend base;
	unsigned frames;
	struct packet seen;
} wire;

static void wire_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	(void)b;
	wire.frames++;
	wire.seen.len = len;
	memcpy(wire.seen.data, frame, len);
}

static void wire_close(struct net_backend *b)
{
	(void)b;
}

static const struct net_backend_ops wire_ops = {
	.name = "wire", .send = wire_send, .close = wire_close,
};

static void start(const char *rule)
{
	struct ip_rule r = { .set = false };
	struct error err = { "" };

	if (rule)
		ck_assert_msg(ip_rule_parse(rule, &r, &err), "%s", err.text);
	net_world_init(&w);
	memset(&wire, 0, sizeof(wire));
	wire.base = (struct net_backend){ &wire_ops, &w.port, { NULL, 0 } };
	net_port_set_backend(&w.port, &wire.base);
	announcer = net_announcer_create(w.loop);
	stage = ip_translator_create(&r, announcer);
	net_port_add_stage(&w.port, announcer);
	net_port_add_stage(&w.port, stage);
	memcpy(w.port.guest_mac, guest_mac, 6);
}

static uint64_t counter(const char *name)
{
	return net_world_counter(&stage->counters, name);
}

/* Sends what @build makes of @me; on the wire it must be that of @as. */
static void sends_as(void (*build)(struct packet *p, const uint8_t *me), const uint8_t *me,
		     const uint8_t *as)
{
	struct packet p, to;

	build(&p, me);
	build(&to, as);
	net_port_send(&w.port, p.data, p.len);
	ck_assert_uint_eq(wire.seen.len, to.len);
	ck_assert_mem_eq(wire.seen.data, to.data, to.len);
}

static void receives_as(void (*build)(struct packet *p, const uint8_t *me), const uint8_t *me,
			const uint8_t *as)
{
	struct packet p, to;

	build(&p, me);
	build(&to, as);
	w.frames = 0;
	net_port_receive(&w.port, p.data, p.len);
	ck_assert_uint_eq(w.frames, 1);
	ck_assert_mem_eq(w.frame[0].data, to.data, to.len);
}

START_TEST(both_ways_by_a_rule)
{
	start("10.0.0.5:10.0.0.23");
	sends_as(tcp_out, old_ip, new_ip);
	sends_as(tcp_out, other_ip, other_ip);
	receives_as(quoted_udp, new_ip, old_ip);
	ck_assert_uint_eq(counter("translated-to-wire"), 1);
	ck_assert_uint_eq(counter("translated-to-guest"), 1);
	ck_assert_uint_eq(counter("leak.unlearnt"), 0);
	net_world_finish(&w);
}
END_TEST

START_TEST(without_a_rule_nothing_changes)
{
	start(NULL);
	sends_as(arp_request, old_ip, old_ip);
	sends_as(tcp_out, old_ip, old_ip);
	receives_as(tcp_out, new_ip, new_ip);
	ck_assert_uint_eq(counter("translated-to-wire"), 0);
	ck_assert_uint_eq(counter("leak.unlearnt"), 0);
	net_world_finish(&w);
}
END_TEST

START_TEST(guests_address_is_learnt)
{
	start("10.0.0.23");
	receives_as(tcp_in_snap, new_ip, new_ip); /* whose that is is not known yet */
	sends_as(arp_request, old_ip, new_ip);
	sends_as(tcp_out, old_ip, new_ip);
	receives_as(tcp_in_snap, new_ip, old_ip);
	/* Another address later on does not take its place. */
	sends_as(arp_request, other_ip, other_ip);
	sends_as(tcp_out, old_ip, new_ip);
	/* Unless it is asked for anew. */
	ip_translator_set(stage, &(struct ip_rule){ .set = true, .new = { 10, 0, 0, 23 } });
	sends_as(tcp_out, other_ip, new_ip);
	net_world_finish(&w);
}
END_TEST

START_TEST(ipv4_before_the_address_is_known_is_counted)
{
	static const uint8_t link_local[4] = { 169, 254, 7, 7 };

	start("10.0.0.23");
	sends_as(tcp_out, link_local, link_local);
	sends_as(arp_probe, old_ip, old_ip);
	ck_assert_uint_eq(counter("leak.unlearnt"), 1);
	sends_as(tcp_out, old_ip, new_ip);
	ck_assert_uint_eq(counter("leak.unlearnt"), 1);
	net_world_finish(&w);
}
END_TEST

/* A restored machine: what is saved is what counts, unless something else is asked for. */
START_TEST(saved_and_restored)
{
	static const uint8_t third[4] = { 10, 0, 0, 40 };
	struct state_buf buf = { .data = NULL };
	struct error err = { "" };

	start("10.0.0.23");
	sends_as(arp_request, old_ip, new_ip);
	fields_save(&buf, stage->ops->fields, stage);
	ck_assert(!buf.failed);
	net_world_finish(&w);

	start(NULL);
	ck_assert_msg(fields_parse(buf.data, buf.len, stage->ops->fields, stage, false, &err), "%s",
		      err.text);
	receives_as(tcp_in_snap, new_ip, old_ip);
	sends_as(tcp_out, old_ip, new_ip);
	net_world_finish(&w);

	start("10.0.0.40");
	ck_assert(fields_parse(buf.data, buf.len, stage->ops->fields, stage, false, &err));
	receives_as(tcp_in_snap, third, old_ip);
	sends_as(tcp_out, old_ip, third);
	net_world_finish(&w);

	start("none");
	ck_assert(fields_parse(buf.data, buf.len, stage->ops->fields, stage, false, &err));
	sends_as(tcp_out, old_ip, old_ip);
	net_world_finish(&w);
	state_buf_finish(&buf);
}
END_TEST

START_TEST(original_on_the_wire_is_another_station)
{
	start("10.0.0.5:10.0.0.23");
	w.port.wire_mac[0] = 2;
	receives_as(arp_announcement, old_ip, new_ip);
	receives_as(arp_announcement, old_ip, new_ip);
	ck_assert_uint_eq(counter("foreign-ip"), 2);
	ck_assert_uint_eq(w.notes, 1);
	ck_assert_ptr_ne(strstr(w.note[0], "10.0.0.5"), NULL);
	sends_as(arp_answer, new_ip, old_ip);
	net_world_finish(&w);
}
END_TEST

START_TEST(tunnels_are_counted)
{
	static const uint8_t protos[] = { 4, 47, 51 };
	struct packet p;

	start("10.0.0.5:10.0.0.23");
	for (size_t i = 0; i < ARRAY_SIZE(protos); i++) {
		ethernet(&p, 0x0800);
		header(&p, old_ip, peer_ip, protos[i], 20, 0, NULL, 0);
		put(&p, "12345678901234567890", 20);
		net_port_send(&w.port, p.data, p.len);
		ck_assert_uint_eq(counter("leak.tunnel"), i + 1);
	}
	net_world_finish(&w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ip");
	TCase *c = tcase_create("frames"), *stages = tcase_create("stage");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(c, setup_pair, NULL);
	tcase_set_timeout(c, 30);
	tcase_add_test(c, every_frame_becomes_the_others);
	tcase_add_test(c, every_checksum_is_right);
	tcase_add_test(c, every_prefix_is_safe_and_comes_back);
	tcase_add_test(c, other_frames_are_not_copied);
	suite_add_tcase(s, c);
	tcase_add_test(stages, rules_are_read);
	tcase_add_test(stages, both_ways_by_a_rule);
	tcase_add_test(stages, without_a_rule_nothing_changes);
	tcase_add_test(stages, guests_address_is_learnt);
	tcase_add_test(stages, ipv4_before_the_address_is_known_is_counted);
	tcase_add_test(stages, saved_and_restored);
	tcase_add_test(stages, original_on_the_wire_is_another_station);
	tcase_add_test(stages, tunnels_are_counted);
	suite_add_tcase(s, stages);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
