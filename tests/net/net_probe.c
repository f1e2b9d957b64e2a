/* A guest without a PC: a backend, and a card that speaks just enough to ask what is
 * on the wire. Commands come line by line from stdin, each answered by one line:
 *
 *	net_probe URL
 *	dhcp       lease 10.0.2.15 server 10.0.2.2 router 10.0.2.2   (RFC 2131)
 *	ping IP    echo IP from MAC in 123 us                        (RFC 826, 792)
 *	counters   counters NAME=N ...
 *	status     status TEXT
 *
 * or "timeout" after 20 s (ping: 5 s). What the backend tells its user is printed as "note TEXT"
 * when it comes. Ends with stdin.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/backend.h"
#include "core/loop.h"
#include "core/net.h"
#include "core/util.h"

enum { IDLE, DISCOVER, REQUEST, RESOLVE, ECHO };

#define RETRY (NS_PER_S / 2)
#define DHCP_PATIENCE (20 * NS_PER_S)
#define PING_PATIENCE (5 * NS_PER_S)

struct probe {
	struct loop *loop;
	struct trace trace;
	struct net_port port;
	struct net_nic nic;
	struct watch *input;
	struct timer retry;
	bool ended;
	char line[128];
	size_t len;

	int state;
	int64_t began, sent;
	uint32_t xid;
	uint8_t mac[6], peer_mac[6];
	uint32_t address, offered, server, router, target; /* network order */
	uint16_t sequence;
	uint8_t frame[1514];
};

static uint16_t checksum(const uint8_t *p, size_t len)
{
	uint32_t s = 0;

	for (size_t i = 0; i < len; i++)
		s += i & 1 ? p[i] : p[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return htons(~s);
}

static void put16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, 2);
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, 4);
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

static unsigned get16(const uint8_t *p)
{
	return p[0] << 8 | p[1];
}

static void begin_frame(struct probe *p, const uint8_t *to, uint16_t type)
{
	memset(p->frame, 0, sizeof(p->frame));
	memcpy(p->frame, to, 6);
	memcpy(p->frame + 6, p->mac, 6);
	put16(p->frame + 12, htons(type));
}

static void send_ip(struct probe *p, uint8_t protocol, uint32_t from, uint32_t to, size_t len)
{
	uint8_t *ip = p->frame + 14;

	ip[0] = 0x45;
	put16(ip + 2, htons(20 + len));
	ip[8] = 64;
	ip[9] = protocol;
	put32(ip + 12, from);
	put32(ip + 16, to);
	put16(ip + 10, checksum(ip, 20));
	net_port_send(&p->port, p->frame, MAX(34 + len, 60));
}

static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

static void send_dhcp(struct probe *p)
{
	uint8_t *bootp = p->frame + 42, *o = bootp + 240;

	begin_frame(p, all, 0x0800);
	memcpy(bootp, "\1\1\6", 3);
	put32(bootp + 4, p->xid);
	put16(bootp + 10, htons(0x8000)); /* answers by broadcast: no ARP yet */
	memcpy(bootp + 28, p->mac, 6);
	memcpy(bootp + 236, "\x63\x82\x53\x63", 4);
	memcpy(o, "\x35\1", 2);
	o[2] = p->state == DISCOVER ? 1 : 3;
	o += 3;
	if (p->state == REQUEST) {
		memcpy(o, "\x32\4", 2);
		put32(o + 2, p->offered);
		memcpy(o + 6, "\x36\4", 2);
		put32(o + 8, p->server);
		o += 12;
	}
	memcpy(o, "\x37\3\1\3\6\xff", 6);
	put16(p->frame + 34, htons(68));
	put16(p->frame + 36, htons(67));
	put16(p->frame + 38, htons(8 + 300));
	send_ip(p, 17, 0, INADDR_BROADCAST, 8 + 300);
}

static void send_arp(struct probe *p, unsigned operation, const uint8_t *mac, uint32_t target)
{
	begin_frame(p, operation == 1 ? all : mac, 0x0806);
	memcpy(p->frame + 14, "\0\1\x08\0\6\4", 6);
	put16(p->frame + 20, htons(operation));
	memcpy(p->frame + 22, p->mac, 6);
	put32(p->frame + 28, p->address);
	if (operation == 2)
		memcpy(p->frame + 32, mac, 6);
	put32(p->frame + 38, target);
	net_port_send(&p->port, p->frame, 60);
}

static void send_echo(struct probe *p)
{
	begin_frame(p, p->peer_mac, 0x0800);
	p->frame[34] = 8;
	put16(p->frame + 38, htons(0x4711));
	put16(p->frame + 40, htons(p->sequence));
	put16(p->frame + 36, checksum(p->frame + 34, 64));
	p->sent = loop_now(p->loop);
	send_ip(p, 1, p->address, p->target, 64);
}

static void act(struct probe *p)
{
	timer_arm(&p->retry, loop_now(p->loop) + RETRY);
	if (p->state == DISCOVER || p->state == REQUEST)
		send_dhcp(p);
	else if (p->state == RESOLVE)
		send_arp(p, 1, NULL, p->target);
	else if (p->state == ECHO)
		send_echo(p);
}

static void finish(struct probe *p)
{
	p->state = IDLE;
	timer_disarm(&p->retry);
	putchar('\n');
	fflush(stdout);
}

static void retry(void *opaque)
{
	struct probe *p = opaque;

	bool dhcp = p->state == DISCOVER || p->state == REQUEST;

	if (loop_now(p->loop) - p->began > (dhcp ? DHCP_PATIENCE : PING_PATIENCE)) {
		printf("timeout");
		finish(p);
	} else {
		if (p->state == REQUEST)
			p->state = DISCOVER;
		act(p);
	}
}

static char *ip_text(uint32_t address, char *text)
{
	struct in_addr a = { address };

	snprintf(text, INET_ADDRSTRLEN, "%s", inet_ntoa(a));
	return text;
}

static void take_dhcp(struct probe *p, const uint8_t *f, size_t len)
{
	const uint8_t *bootp = f + 42, *o = bootp + 240, *end = f + len;
	uint32_t server = 0, router = 0;
	unsigned type = 0;
	char text[3][INET_ADDRSTRLEN];

	if (len < 42 + 244 || get32(bootp + 4) != p->xid || memcmp(bootp + 28, p->mac, 6))
		return;
	while (o + 2 <= end && *o != 255) {
		unsigned size = o[1];

		if (!*o) {
			o++;
			continue;
		}
		if (o + 2 + size > end)
			return;
		if (*o == 53 && size == 1)
			type = o[2];
		if (*o == 54 && size == 4)
			server = get32(o + 2);
		if (*o == 3 && size >= 4)
			router = get32(o + 2);
		o += 2 + size;
	}
	if (p->state == DISCOVER && type == 2) {
		p->offered = get32(bootp + 16);
		p->server = server;
		p->state = REQUEST;
		act(p);
	} else if (p->state == REQUEST && type == 5) {
		p->address = get32(bootp + 16);
		p->router = router;
		printf("lease %s server %s router %s", ip_text(p->address, text[0]),
		       ip_text(server, text[1]), ip_text(router, text[2]));
		finish(p);
	} else if (p->state == REQUEST && type == 6) {
		p->state = DISCOVER;
	}
}

static void probe_receive(struct net_nic *nic, const uint8_t *f, size_t len)
{
	struct probe *p = container_of(nic, struct probe, nic);
	char text[INET_ADDRSTRLEN], mac[NET_MAC_TEXT_SIZE];

	if (memcmp(f, p->mac, 6) && !(f[0] & 1))
		return;
	if (get16(f + 12) == 0x0806 && len >= 42) {
		if (get16(f + 20) == 1 && p->address && get32(f + 38) == p->address)
			send_arp(p, 2, f + 22, get32(f + 28));
		if (p->state == RESOLVE && get16(f + 20) == 2 && get32(f + 28) == p->target) {
			memcpy(p->peer_mac, f + 22, 6);
			p->state = ECHO;
			act(p);
		}
	} else if (get16(f + 12) == 0x0800 && len >= 42 && f[14] == 0x45) {
		if (f[23] == 17 && get16(f + 34) == 67 && get16(f + 36) == 68) {
			take_dhcp(p, f, len);
		} else if (f[23] == 1 && p->state == ECHO && f[34] == 0 &&
			   get16(f + 40) == p->sequence && get32(f + 26) == p->target) {
			printf("echo %s from %s in %lld us", ip_text(p->target, text),
			       net_mac_format(mac, f + 6),
			       (long long)(loop_now(p->loop) - p->sent) / 1000);
			finish(p);
		}
	}
}

static const struct net_nic_ops probe_ops = { .name = "probe", .receive = probe_receive };

static void notify(void *opaque, const char *text)
{
	(void)opaque;
	printf("note %s\n", text);
	fflush(stdout);
}

static void show_counters(const struct net_counters *c)
{
	for (unsigned i = 0; i < c->count; i++)
		printf(" %s=%llu", c->item[i].name,
		       (unsigned long long)net_counter_read(&c->item[i]));
}

static void command(struct probe *p, const char *line)
{
	struct net_backend *b = p->port.backend;
	char text[256] = "";

	p->began = loop_now(p->loop);
	if (!strcmp(line, "dhcp")) {
		p->xid++;
		p->state = DISCOVER;
		act(p);
	} else if (!strncmp(line, "ping ", 5) && inet_pton(AF_INET, line + 5, &p->target) == 1) {
		p->sequence++;
		p->state = RESOLVE;
		act(p);
	} else if (!strcmp(line, "counters")) {
		printf("counters");
		show_counters(&p->port.counters);
		show_counters(&b->counters);
		finish(p);
	} else if (!strcmp(line, "status")) {
		if (b->ops->status)
			b->ops->status(b, text, sizeof(text));
		printf("status %s", text);
		finish(p);
	} else {
		printf("what?");
		finish(p);
	}
}

static void input(void *opaque, unsigned events)
{
	struct probe *p = opaque;
	ssize_t n = read(0, p->line + p->len, 1);

	(void)events;
	if (n <= 0) {
		p->ended = true;
	} else if (p->line[p->len] == '\n') {
		p->line[p->len] = '\0';
		p->len = 0;
		command(p, p->line);
	} else if (p->len < sizeof(p->line) - 1) {
		p->len++;
	}
}

static void kick(void *opaque)
{
	(void)opaque;
}

int main(int argc, char **argv)
{
	static struct probe p;
	struct backend_env env = { NULL };
	struct error err = { "" };
	struct net_backend *b;

	if (argc != 2) {
		fprintf(stderr, "usage: net_probe URL\n");
		return 2;
	}
	p.trace.out = stderr;
	p.loop = loop_create(kick, NULL, &err);
	if (!p.loop)
		goto fail;
	loop_resume(p.loop);
	timer_init(&p.retry, p.loop, "probe-retry", retry, &p);
	net_port_init(&p.port, p.loop, &p.trace, 0);
	p.port.notify = notify;
	p.nic.ops = &probe_ops;
	net_port_set_nic(&p.port, &p.nic);
	net_mac_random(p.mac);
	memcpy(&p.xid, p.mac + 2, 4);
	b = backend_open(&env, &p.port, argv[1], &err);
	if (!b)
		goto fail;
	net_port_set_backend(&p.port, b);
	p.input = loop_watch(p.loop, 0, LOOP_READ, input, &p, &err);
	if (!p.input)
		goto fail;
	while (!p.ended)
		loop_wait(p.loop);
	loop_unwatch(p.input);
	net_port_finish(&p.port);
	loop_destroy(p.loop);
	return 0;
fail:
	fprintf(stderr, "net_probe: %s\n", err.text);
	return 1;
}
