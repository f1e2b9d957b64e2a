/* user: from the guest's side, frame by frame: ARP (RFC 826), ICMP echo (RFC 792),
 * DHCP (RFC 2131, 2132), TFTP (RFC 1350), TCP through hostfwd and out (RFC 9293). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/backend.h"
#include "tests/unit/net_world.h"

static struct net_world w;
static struct backend_env env;

static void setup(void)
{
	net_world_init(&w);
	memset(&env, 0, sizeof(env));
}

static void teardown(void)
{
	net_world_finish(&w);
}

static void open_url(const char *url)
{
	struct error err = { "" };
	struct net_backend *b = backend_open(&env, &w.port, url, &err);

	ck_assert_msg(b != NULL, "%s", err.text);
	net_port_set_backend(&w.port, b);
}

/* ---- frames ---- */

static const uint8_t guest_mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static const uint8_t guest_ip[4] = { 10, 0, 2, 15 }, gateway_ip[4] = { 10, 0, 2, 2 };

static void be16(uint8_t *p, unsigned v)
{
	p[0] = v >> 8;
	p[1] = v;
}

static void be32(uint8_t *p, uint32_t v)
{
	be16(p, v >> 16);
	be16(p + 2, v);
}

static unsigned get16(const uint8_t *p)
{
	return p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static uint32_t sum(const uint8_t *p, size_t len, uint32_t s)
{
	for (size_t i = 0; i < len; i++)
		s += i & 1 ? p[i] : p[i] << 8;
	return s;
}

static unsigned fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return ~s & 0xffff;
}

static uint8_t gateway_mac[6];

/* Ethernet and IPv4 headers around @len bytes at frame + 34; sends it. */
static void send_ip(uint8_t *frame, const uint8_t *to_mac, const uint8_t *from, const uint8_t *to,
		    unsigned protocol, size_t len)
{
	uint8_t *ip = frame + 14, *data = frame + 34, pseudo[12];

	memcpy(frame, to_mac, 6);
	memcpy(frame + 6, guest_mac, 6);
	be16(frame + 12, 0x0800);
	memset(ip, 0, 20);
	ip[0] = 0x45;
	be16(ip + 2, 20 + len);
	ip[8] = 64;
	ip[9] = protocol;
	memcpy(ip + 12, from, 4);
	memcpy(ip + 16, to, 4);
	be16(ip + 10, fold(sum(ip, 20, 0)));
	memcpy(pseudo, ip + 12, 8);
	be16(pseudo + 8, protocol);
	be16(pseudo + 10, len);
	if (protocol == 6)
		be16(data + 16, fold(sum(data, len, sum(pseudo, 12, 0))));
	net_port_send(&w.port, frame, MAX(34 + len, 60));
}

static void send_udp(uint8_t *frame, const uint8_t *to_mac, const uint8_t *from, const uint8_t *to,
		     unsigned source, unsigned target, size_t len)
{
	be16(frame + 34, source);
	be16(frame + 36, target);
	be16(frame + 38, 8 + len);
	be16(frame + 40, 0);
	send_ip(frame, to_mac, from, to, 17, 8 + len);
}

static void send_tcp(const uint8_t *to, unsigned source, unsigned target, uint32_t seq, uint32_t ack,
		     unsigned flags, unsigned window, const void *data, size_t len)
{
	uint8_t frame[1514] = { 0 };

	be16(frame + 34, source);
	be16(frame + 36, target);
	be32(frame + 38, seq);
	be32(frame + 42, ack);
	frame[46] = 5 << 4;
	frame[47] = flags;
	be16(frame + 48, window);
	memcpy(frame + 54, data, len);
	send_ip(frame, gateway_mac, guest_ip, to, 6, 20 + len);
}

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

static struct { unsigned type, protocol, from_port, seen; const uint8_t *found; } want;

/* A frame of this Ethernet type, IP protocol and source port that was not looked at yet. */
static bool wanted(void *opaque)
{
	(void)opaque;
	for (; want.seen < MIN(w.frames, (unsigned)NET_WORLD_FRAMES); want.seen++) {
		const uint8_t *f = w.frame[want.seen].data;

		if (get16(f + 12) != want.type ||
		    (want.type == 0x0800 && f[23] != want.protocol) ||
		    (want.from_port && get16(f + 34) != want.from_port))
			continue;
		want.seen++;
		want.found = f;
		return true;
	}
	return false;
}

static const uint8_t *await(unsigned type, unsigned protocol, unsigned from_port)
{
	want.type = type;
	want.protocol = protocol;
	want.from_port = from_port;
	ck_assert_msg(net_world_until(&w, wanted, NULL, 5000), "no answer");
	return want.found;
}

static void say_arp(unsigned operation)
{
	uint8_t frame[60] = { 0 };

	memcpy(frame, broadcast, 6);
	memcpy(frame + 6, guest_mac, 6);
	be16(frame + 12, 0x0806);
	memcpy(frame + 14, "\0\1\x08\0\6\4", 6);
	be16(frame + 20, operation);
	memcpy(frame + 22, guest_mac, 6);
	memcpy(frame + 28, guest_ip, 4);
	memcpy(frame + 38, gateway_ip, 4);
	net_port_send(&w.port, frame, sizeof(frame));
}

static void find_gateway(void)
{
	const uint8_t *f;

	want.seen = 0;
	w.frames = 0;
	say_arp(1);
	f = await(0x0806, 0, 0);
	ck_assert_uint_eq(get16(f + 20), 2);
	ck_assert_mem_eq(f + 28, gateway_ip, 4);
	ck_assert_mem_eq(f + 32, guest_mac, 6);
	memcpy(gateway_mac, f + 22, 6);
}

static void echo(unsigned sequence)
{
	uint8_t frame[98] = { 0 };
	const uint8_t *f;

	frame[34] = 8;
	be16(frame + 38, 0x1234);
	be16(frame + 40, sequence);
	memset(frame + 42, 'e', 56);
	be16(frame + 36, fold(sum(frame + 34, 64, 0)));
	send_ip(frame, gateway_mac, guest_ip, gateway_ip, 1, 64);
	f = await(0x0800, 1, 0);
	ck_assert_mem_eq(f, guest_mac, 6);
	ck_assert_uint_eq(f[34], 0);
	ck_assert_uint_eq(get16(f + 40), sequence);
	ck_assert_mem_eq(f + 42, frame + 42, 56);
	ck_assert_uint_eq(fold(sum(f + 34, 64, 0)), 0);
}

START_TEST(gateway_answers_arp_and_echo)
{
	open_url("user:");
	find_gateway();
	for (unsigned i = 0; i < 100; i++) {
		w.frames = want.seen = 0;
		echo(i);
	}
	for (unsigned i = 0; i < w.port.backend->counters.count; i++)
		ck_assert_uint_eq(net_counter_read(&w.port.backend->counters.item[i]), 0);
}
END_TEST

/* ---- DHCP ---- */

/* The option's value, NULL if there is none. */
static const uint8_t *dhcp_option(const uint8_t *f, unsigned code, unsigned *len)
{
	const uint8_t *p = f + 282, *end = f + 14 + get16(f + 16);

	while (p + 2 <= end && *p != 255) {
		if (!*p) {
			p++;
			continue;
		}
		if (*p == code) {
			*len = p[1];
			return p + 2;
		}
		p += 2 + p[1];
	}
	return NULL;
}

static const uint8_t *dhcp(unsigned type, const uint8_t *requested)
{
	static const uint8_t zero[4], all[4] = { 255, 255, 255, 255 };
	uint8_t frame[342] = { 0 }, *bootp = frame + 42, *o = bootp + 240;

	want.seen = w.frames = 0;
	memcpy(bootp, "\1\1\6\0\x11\x22\x33\x44", 8);
	memcpy(bootp + 28, guest_mac, 6);
	memcpy(bootp + 236, "\x63\x82\x53\x63", 4);
	*o++ = 53;
	*o++ = 1;
	*o++ = type;
	if (requested) {
		*o++ = 50;
		*o++ = 4;
		memcpy(o, requested, 4);
		o += 4;
	}
	*o = 255;
	send_udp(frame, broadcast, zero, all, 68, 67, sizeof(frame) - 42);
	return await(0x0800, 17, 67);
}

static void assert_option(const uint8_t *f, unsigned code, const void *value, unsigned size)
{
	unsigned len = 0;
	const uint8_t *p = dhcp_option(f, code, &len);

	ck_assert_msg(p != NULL, "no DHCP option %u", code);
	ck_assert_uint_eq(len, size);
	ck_assert_mem_eq(p, value, size);
}

START_TEST(dhcp_leases_what_was_asked_for)
{
	uint8_t address[4];
	const uint8_t *f;

	open_url("user:");
	f = dhcp(1, NULL);
	assert_option(f, 53, "\2", 1);
	ck_assert_uint_eq(get32(f + 46), 0x11223344);
	ck_assert_mem_eq(f + 58, guest_ip, 4);
	memcpy(address, f + 58, 4);
	f = dhcp(3, address);
	assert_option(f, 53, "\5", 1);
	ck_assert_mem_eq(f + 58, guest_ip, 4);
	assert_option(f, 1, "\xff\xff\xff\0", 4);
	assert_option(f, 3, gateway_ip, 4);
	assert_option(f, 6, "\x0a\0\2\3", 4);

	open_url("user:?net=192.168.76.0/22&host=192.168.77.1&dns=192.168.77.2&dhcpstart=192.168.78.9"
		 "&hostname=gast&domainname=example.org&tftp=/&bootfile=pxelinux.0&tftp-server-name=boot");
	f = dhcp(1, NULL);
	ck_assert_mem_eq(f + 58, "\xc0\xa8\x4e\x09", 4);
	assert_option(f, 1, "\xff\xff\xfc\0", 4);
	assert_option(f, 3, "\xc0\xa8\x4d\1", 4);
	assert_option(f, 6, "\xc0\xa8\x4d\2", 4);
	assert_option(f, 12, "gast", 4);
	assert_option(f, 15, "example.org", 11);
	assert_option(f, 66, "boot", 4);
	ck_assert_str_eq((const char *)f + 42 + 108, "pxelinux.0");
}
END_TEST

/* ---- TFTP ---- */

START_TEST(tftp_serves_the_directory_and_nothing_else)
{
	char dir[] = "/tmp/gannet-user-XXXXXX", path[64], url[96];
	uint8_t content[1300], got[1300];
	size_t received = 0;
	const uint8_t *f;
	int fd;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/boot.bin", dir);
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = i * 7 + i / 256;
	fd = open(path, O_CREAT | O_WRONLY, 0644);
	ck_assert_int_eq(write(fd, content, sizeof(content)), sizeof(content));
	close(fd);
	snprintf(url, sizeof(url), "user:?tftp=%s", dir);
	open_url(url);
	find_gateway();
	for (unsigned round = 0; round < 2; round++) {
		static const char *const request[] = {
			"\0\1boot.bin\0octet", "\0\1../../etc/passwd\0octet",
		};
		static const size_t size[] = { 17, 25 };
		uint8_t frame[128] = { 0 };

		memcpy(frame + 42, request[round], size[round]);
		send_udp(frame, gateway_mac, guest_ip, gateway_ip, 2000 + round, 69, size[round]);
		for (unsigned block = 1; !round; block++) {
			size_t len;

			f = await(0x0800, 17, 69);
			len = get16(f + 38) - 8 - 4;
			ck_assert_uint_eq(get16(f + 42), 3);
			ck_assert_uint_eq(get16(f + 44), block);
			ck_assert_uint_le(received + len, sizeof(got));
			memcpy(got + received, f + 46, len);
			received += len;
			memset(frame, 0, sizeof(frame));
			be16(frame + 42, 4);
			be16(frame + 44, block);
			send_udp(frame, gateway_mac, guest_ip, gateway_ip, 2000, 69, 4);
			if (len < 512)
				break;
		}
	}
	f = await(0x0800, 17, 69);
	ck_assert_uint_eq(get16(f + 42), 5);
	ck_assert_uint_eq(received, sizeof(content));
	ck_assert_mem_eq(got, content, sizeof(content));
	unlink(path);
	rmdir(dir);
}
END_TEST

/* ---- TCP ---- */

static int host_socket(int type, uint16_t port, bool listens)
{
	int fd = socket(AF_INET, type, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	ck_assert_int_ge(fd, 0);
	if (listens) {
		ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
		ck_assert_int_eq(type == SOCK_STREAM ? listen(fd, 5) : 0, 0);
	} else {
		ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	}
	return fd;
}

static uint16_t bound_port(int fd)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	return ntohs(a.sin_port);
}

START_TEST(hostfwd_listens_and_calls_the_guest)
{
	unsigned port = 0, udp = 0, taken;
	struct error err = { "" };
	char url[64];
	const uint8_t *f;
	int fd;

	open_url("user:?hostfwd=tcp::0-:22;udp:127.0.0.1:0-10.0.2.15:53");
	ck_assert_uint_eq(w.notes, 2);
	ck_assert_int_eq(sscanf(w.note[0], "net0: hostfwd tcp 127.0.0.1:%u -> 10.0.2.15:22", &port), 1);
	ck_assert_int_eq(sscanf(w.note[1], "net0: hostfwd udp 127.0.0.1:%u -> 10.0.2.15:53", &udp), 1);
	find_gateway();
	fd = host_socket(SOCK_STREAM, port, false);
	f = await(0x0800, 6, 0);
	ck_assert_uint_eq(get16(f + 36), 22);
	ck_assert_uint_eq(f[47] & (SYN | ACK | RST), SYN);
	ck_assert_mem_eq(f + 30, guest_ip, 4);
	close(fd);
	fd = host_socket(SOCK_DGRAM, udp, false);
	ck_assert_int_eq(send(fd, "hello", 5, 0), 5);
	f = await(0x0800, 17, 0);
	ck_assert_uint_eq(get16(f + 36), 53);
	ck_assert_mem_eq(f + 42, "hello", 5);
	close(fd);

	fd = host_socket(SOCK_STREAM, 0, true);
	taken = bound_port(fd);
	snprintf(url, sizeof(url), "user:?hostfwd=tcp::%u-:22", taken);
	ck_assert_ptr_null(backend_open(&env, &w.port, url, &err));
	snprintf(url, sizeof(url), "127.0.0.1:%u", taken);
	ck_assert_msg(strstr(err.text, url) && strstr(err.text, "in use") &&
		      strstr(err.text, "another port"), "%s", err.text);
	close(fd);
}
END_TEST

enum { STREAM_BYTES = 4 << 20, WINDOW = 60000 };

static struct {
	uint32_t next, last_ack; /* what is expected; what was acknowledged */
	size_t received;
	bool wrong;
	unsigned port, looked;
	const uint8_t *address;
} tcp;

/* Takes what came in order; the test's card keeps 256 frames, so it is emptied each time. */
static bool take_stream(void *opaque)
{
	unsigned frames = MIN(w.frames, (unsigned)NET_WORLD_FRAMES);

	(void)opaque;
	for (unsigned i = 0; i < frames; i++) {
		const uint8_t *f = w.frame[i].data;
		size_t len;

		if (get16(f + 12) != 0x0800 || f[23] != 6 || get16(f + 34) != tcp.port)
			continue;
		len = get16(f + 16) - 40;
		if (!len || get32(f + 38) != tcp.next)
			continue;
		for (size_t k = 0; k < len; k++)
			tcp.wrong |= f[54 + k] != (uint8_t)((tcp.received + k) * 31 >> 3);
		tcp.received += len;
		tcp.next += len;
	}
	ck_assert_uint_le(w.frames, NET_WORLD_FRAMES);
	w.frames = 0;
	if (frames)
		send_tcp(gateway_ip, 4000, tcp.port, 1001, tcp.next, ACK, WINDOW, "", 0);
	return tcp.received == STREAM_BYTES;
}

/* A host program sends faster than the guest takes; nothing is lost on the way. */
START_TEST(a_slow_guest_slows_the_host_down)
{
	static uint8_t data[STREAM_BYTES];
	int listener = host_socket(SOCK_STREAM, 0, true), fd;
	size_t sent = 0;
	uint32_t peer;
	const uint8_t *f;

	for (size_t i = 0; i < STREAM_BYTES; i++)
		data[i] = i * 31 >> 3;
	memset(&tcp, 0, sizeof(tcp));
	tcp.port = bound_port(listener);
	open_url("user:");
	find_gateway();
	send_tcp(gateway_ip, 4000, tcp.port, 1000, 0, SYN, WINDOW, "", 0);
	f = await(0x0800, 6, tcp.port);
	ck_assert_uint_eq(f[47] & (SYN | ACK), SYN | ACK);
	ck_assert_uint_eq(get32(f + 42), 1001);
	peer = get32(f + 38);
	tcp.next = peer + 1;
	send_tcp(gateway_ip, 4000, tcp.port, 1001, tcp.next, ACK, WINDOW, "", 0);
	fd = accept(listener, NULL, NULL);
	ck_assert_int_ge(fd, 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	w.frames = 0;
	for (unsigned round = 0; tcp.received < STREAM_BYTES && round < 20000; round++) {
		ssize_t n = sent < STREAM_BYTES ? write(fd, data + sent, STREAM_BYTES - sent) : 0;

		sent += MAX(n, 0);
		w.full = round % 3;
		if (!w.full)
			net_port_readable(&w.port);
		if (net_world_until(&w, take_stream, NULL, 1))
			break;
	}
	w.full = false;
	ck_assert_uint_eq(tcp.received, STREAM_BYTES);
	ck_assert(!tcp.wrong);
	ck_assert_uint_eq(net_world_counter(&w.port.backend->counters, "drop.guest-slow"), 0);
	close(fd);
	close(listener);
}
END_TEST

/* A guest that takes nothing for a while: frames wait, and the card is pushed back. */
START_TEST(queues_are_bounded)
{
	uint8_t frame[1514] = { 0 };
	unsigned sent = 0;

	open_url("user:?restrict=on");
	find_gateway();
	w.full = true;
	frame[34] = 8;
	for (unsigned i = 0; i < 5000; i++) {
		loop_run(w.loop);
		be16(frame + 40, i);
		be16(frame + 36, 0);
		be16(frame + 36, fold(sum(frame + 34, 1480, 0)));
		if (!net_port_can_send(&w.port)) {
			usleep(1000);
			continue;
		}
		send_ip(frame, gateway_mac, guest_ip, gateway_ip, 1, 1480);
		sent++;
	}
	ck_assert_uint_gt(sent, 700);
	for (unsigned i = 0; i < 200; i++) {
		usleep(5000);
		if (net_world_counter(&w.port.backend->counters, "drop.guest-slow"))
			break;
	}
	usleep(100000);
	w.full = false;
	w.frames = 0;
	net_port_readable(&w.port);
	for (unsigned i = 0; i < 100; i++) {
		loop_run(w.loop);
		usleep(1000);
	}
	ck_assert_uint_eq(net_world_counter(&w.port.backend->counters, "drop.queue-full"), 0);
	ck_assert_uint_eq(w.frames + net_world_counter(&w.port.backend->counters, "drop.guest-slow"),
			  sent);
}
END_TEST

START_TEST(nonsense_from_the_guest_stops_nothing)
{
	uint8_t frame[NET_FRAME_MAX];
	uint32_t seed = 1;

	open_url("user:");
	find_gateway();
	for (unsigned i = 0; i < 3000; i++) {
		size_t len = 14 + i * 7 % (sizeof(frame) - 14);

		for (size_t k = 0; k < MIN(len, 200); k++) {
			seed = seed * 1664525 + 1013904223;
			frame[k] = seed >> 24;
		}
		memcpy(frame, gateway_mac, 6);
		memcpy(frame + 12, i & 1 ? "\x08\0\x45" : i & 2 ? "\x08\6\0" : "\x86\xdd\x60", 3);
		while (!net_port_can_send(&w.port))
			loop_run(w.loop);
		net_port_send(&w.port, frame, len);
		loop_run(w.loop);
	}
	find_gateway();
	echo(7);
}
END_TEST

START_TEST(bad_options_are_refused_in_one_line)
{
	static const char *const bad[][2] = {
		{ "user:foo", "'foo'" },
		{ "user:?net=10.0.2", "net=10.0.2 " },
		{ "user:?net=10.0.2.0/31", "4 to 30" },
		{ "user:?net=10.0.2.0/", "4 to 30" },
		{ "user:?net=10.0.2.0/255.0.255.0", "network mask" },
		{ "user:?host=10.0.3.2", "host=10.0.3.2" },
		{ "user:?host=10.0.2.255", "host=10.0.2.255" },
		{ "user:?dns=nameserver", "dns=nameserver" },
		{ "user:?host=10.0.2.3", "10.0.2.3" },
		{ "user:?dhcpstart=10.0.2.2", "10.0.2.2" },
		{ "user:?hostname=abcdefghijklmnopqrstuvwxyz01234567", "32 characters" },
		{ "user:?hostname=", "1 to 32" },
		{ "user:?restrict=perhaps", "restrict=perhaps" },
		{ "user:?ipv6-prefix=fec0::/200", "fec0::/200" },
		{ "user:?ipv6-prefix=x", "ipv6-prefix=x" },
		{ "user:?mtu=60000", "mtu=60000" },
		{ "user:?tftp=/nowhere/at/all", "/nowhere/at/all" },
		{ "user:?hostfwd=tcp:80", "no '-'" },
		{ "user:?hostfwd=sctp::80-:80", "not tcp or udp" },
		{ "user:?hostfwd=tcp::80000-:80", "a bad port" },
		{ "user:?hostfwd=tcp::80-:0", "a bad port" },
		{ "user:?hostfwd=tcp:80-80", "a port is missing" },
		{ "user:?hostfwd=tcp:1.2.3:80-:80", "a bad address" },
		{ "user:?hostfwd=tcp:[::g]:80-:80", "a bad address" },
		{ "user:?hostfwd=tcp::0-:80;tcp", "not tcp or udp" },
		{ "user:?hostfwd=tcp:192.0.2.1:0-:80", "no interface" },
		{ "user:?nets=1", "'nets' is no parameter" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = { "" };

		ck_assert_msg(!backend_open(&env, &w.port, bad[i][0], &err), "%s", bad[i][0]);
		ck_assert_msg(strstr(err.text, bad[i][1]), "%s: %s", bad[i][0], err.text);
		ck_assert_ptr_null(strchr(err.text, '\n'));
	}
}
END_TEST

START_TEST(opened_and_closed_many_times_leaves_nothing)
{
	int first = dup(0), last;

	close(first);
	for (unsigned i = 0; i < 50; i++) {
		open_url("user:?hostfwd=tcp::0-:22");
		say_arp(1);
	}
	net_port_set_backend(&w.port, NULL);
	loop_run(w.loop);
	last = dup(0);
	close(last);
	ck_assert_int_le(last, first + 1); /* GLib keeps one */
}
END_TEST

int main(void)
{
	Suite *s = suite_create("user");
	TCase *c = tcase_create("user");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 30);
	tcase_add_test(c, gateway_answers_arp_and_echo);
	tcase_add_test(c, dhcp_leases_what_was_asked_for);
	tcase_add_test(c, tftp_serves_the_directory_and_nothing_else);
	tcase_add_test(c, hostfwd_listens_and_calls_the_guest);
	tcase_add_test(c, a_slow_guest_slows_the_host_down);
	tcase_add_test(c, queues_are_bounded);
	tcase_add_test(c, nonsense_from_the_guest_stops_nothing);
	tcase_add_test(c, bad_options_are_refused_in_one_line);
	tcase_add_test(c, opened_and_closed_many_times_leaves_nothing);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
