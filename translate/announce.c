/* See announce.h. */
#include "translate/announce.h"

#include <stdlib.h>

#include "core/loop.h"
#include "translate/edit_priv.h"

enum {
	KEEP = 4, IPV4_SIZE = 4, IPV6_SIZE = 16,
	ROUNDS = 3, TRIES = 60, /* a second apart */
	ARP_SIZE = NET_HEADER_SIZE + 28, FRAME_MIN = 60,
	ND_SIZE_MIN = NET_HEADER_SIZE + 40 + 8, ND_SIZE = ND_SIZE_MIN + 16, ADVERT_SIZE = ND_SIZE + 8,
	ICMPV6 = 58, ROUTER_SOLICIT = 133, NEIGHBOUR_SOLICIT = 135, NEIGHBOUR_ADVERT = 136,
	COUNT_SENT = 0, COUNT_GIVEN_UP, COUNTS
};

struct announcer {
	struct net_stage base;
	struct timer timer;
	unsigned rounds, tries; /* still to be made */
	/* State; the latest first, zeros behind the last. */
	uint8_t ipv4[KEEP][IPV4_SIZE], ipv6[KEEP][IPV6_SIZE];
	uint8_t source[IPV4_SIZE]; /* of IPv4 packets, from before there was an ARP */
	struct net_counter counter[COUNTS];
};

/* ---- learning ---- */

/* An address that one host has for long: not 0/8, loopback, link-local, multicast. */
static bool is_ipv4(const uint8_t *ip)
{
	return ip[0] != 0 && ip[0] != 127 && ip[0] < 224 && (ip[0] != 169 || ip[1] != 254);
}

/* Global (2000::/3), unique local (fc00::/7), link-local and what was site-local (fe80::/9). */
static bool is_ipv6(const uint8_t *ip)
{
	return (ip[0] & 0xe0) == 0x20 || (ip[0] & 0xfe) == 0xfc ||
	       (ip[0] == 0xfe && ip[1] >= 0x80);
}

/* @ip to the front of a list of KEEP addresses of @size bytes. */
static void remember(uint8_t *list, const uint8_t *ip, size_t size)
{
	unsigned i = 0;

	while (i < KEEP - 1 && memcmp(list + i * size, ip, size))
		i++;
	memmove(list + size, list, i * size);
	memcpy(list, ip, size);
}

static void learn_arp(struct announcer *a, const uint8_t *frame, size_t len)
{
	static const uint8_t ethernet_ipv4[] = { 0, 1, 0x08, 0, NET_MAC_SIZE, IPV4_SIZE };

	if (len >= ARP_SIZE && !memcmp(frame + 14, ethernet_ipv4, sizeof(ethernet_ipv4)) &&
	    !memcmp(frame + 22, a->base.port->guest_mac, NET_MAC_SIZE) && is_ipv4(frame + 28))
		remember(a->ipv4[0], frame + 28, IPV4_SIZE);
}

static void learn_ipv6(struct announcer *a, const uint8_t *frame, size_t len)
{
	const uint8_t *ip = NULL;

	/* A hop limit of 255: nobody forwarded it (RFC 4861, 7.1). */
	if (len < ND_SIZE_MIN || frame[20] != ICMPV6 || frame[21] != 255)
		return;
	if (frame[54] == NEIGHBOUR_SOLICIT || frame[54] == ROUTER_SOLICIT)
		ip = frame + 22;
	else if (frame[54] == NEIGHBOUR_ADVERT && len >= ND_SIZE)
		ip = frame + 62;
	if (ip && is_ipv6(ip))
		remember(a->ipv6[0], ip, IPV6_SIZE);
}

static void learn(struct announcer *a, const uint8_t *frame, size_t len)
{
	switch (frame[12] << 8 | frame[13]) {
	case TYPE_ARP:
		learn_arp(a, frame, len);
		break;
	case TYPE_IPV4:
		if (!a->source[0] && !a->ipv4[0][0] && len >= NET_HEADER_SIZE + 20 &&
		    is_ipv4(frame + 26))
			memcpy(a->source, frame + 26, IPV4_SIZE);
		break;
	case TYPE_IPV6:
		learn_ipv6(a, frame, len);
		break;
	}
}

static void announcer_frame(struct net_stage *s, enum net_dir dir, const uint8_t *frame, size_t len)
{
	struct announcer *a = container_of(s, struct announcer, base);

	if (dir == NET_TO_WIRE && !memcmp(frame + NET_MAC_SIZE, s->port->guest_mac, NET_MAC_SIZE))
		learn(a, frame, len);
	net_stage_pass(s, dir, frame, len);
}

bool net_announce_ipv4(const struct net_stage *s, uint8_t ip[4])
{
	const struct announcer *a = container_of(s, struct announcer, base);
	const uint8_t *known = is_ipv4(a->ipv4[0]) ? a->ipv4[0] : a->source;

	if (!is_ipv4(known))
		return false;
	memcpy(ip, known, IPV4_SIZE);
	return true;
}

/* ---- announcing ---- */

static void send_frame(struct announcer *a, const uint8_t *frame, size_t len)
{
	net_count(&a->counter[COUNT_SENT]);
	net_stage_pass(&a->base, NET_TO_WIRE, frame, len);
}

static void send_arp(struct announcer *a, const uint8_t *ip)
{
	static const uint8_t fixed[] = { 0x08, 0x06, 0, 1, 0x08, 0, NET_MAC_SIZE, IPV4_SIZE, 0 };
	const uint8_t *mac = a->base.port->guest_mac;
	uint8_t frame[FRAME_MIN] = { 0 };

	memset(frame, 0xff, NET_MAC_SIZE);
	memcpy(frame + 6, mac, NET_MAC_SIZE);
	memcpy(frame + 12, fixed, sizeof(fixed));
	frame[21] = 1; /* request; nobody's hardware address is asked for */
	memcpy(frame + 22, mac, NET_MAC_SIZE);
	memcpy(frame + 28, ip, IPV4_SIZE);
	memcpy(frame + 38, ip, IPV4_SIZE);
	send_frame(a, frame, sizeof(frame));
	frame[21] = 2;
	memcpy(frame + 32, mac, NET_MAC_SIZE); /* RFC 5944, 4.6 */
	send_frame(a, frame, sizeof(frame));
}

static uint16_t icmpv6_checksum(const uint8_t *frame, size_t len)
{
	uint32_t sum = len - (NET_HEADER_SIZE + 40) + ICMPV6;

	for (size_t i = NET_HEADER_SIZE + 8; i < len; i += 2)
		sum += frame[i] << 8 | frame[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

static void send_advert(struct announcer *a, const uint8_t *ip)
{
	static const uint8_t all_nodes[IPV6_SIZE] = { 0xff, 0x02, [15] = 1 };
	const uint8_t *mac = a->base.port->guest_mac;
	uint8_t frame[ADVERT_SIZE] = {
		0x33, 0x33, 0, 0, 0, 1, [12] = 0x86, 0xdd, 0x60,
		[19] = ADVERT_SIZE - NET_HEADER_SIZE - 40, ICMPV6, 255,
		[54] = NEIGHBOUR_ADVERT, [58] = 0x20, /* override */
		[78] = 2, 1, /* target link-layer address */
	};
	uint16_t sum;

	memcpy(frame + 6, mac, NET_MAC_SIZE);
	memcpy(frame + 22, ip, IPV6_SIZE);
	memcpy(frame + 38, all_nodes, IPV6_SIZE);
	memcpy(frame + 62, ip, IPV6_SIZE);
	memcpy(frame + 80, mac, NET_MAC_SIZE);
	sum = icmpv6_checksum(frame, sizeof(frame));
	frame[56] = sum >> 8;
	frame[57] = sum & 0xff;
	send_frame(a, frame, sizeof(frame));
}

/* Addresses from an image may be anything: only what could have been learnt is sent. */
static void send_round(struct announcer *a)
{
	for (unsigned i = 0; i < KEEP; i++) {
		if (is_ipv4(a->ipv4[i]))
			send_arp(a, a->ipv4[i]);
	}
	for (unsigned i = 0; i < KEEP; i++) {
		if (is_ipv6(a->ipv6[i]))
			send_advert(a, a->ipv6[i]);
	}
}

static bool ready(const struct net_port *port)
{
	const struct net_backend *b = port->backend;

	return net_port_up(port) && net_mac_is_station(port->guest_mac) && b &&
	       (!b->ops->can_send || b->ops->can_send(port->backend));
}

static void tick(void *opaque)
{
	struct announcer *a = opaque;

	if (ready(a->base.port)) {
		a->rounds--;
		send_round(a);
	} else if (!--a->tries) {
		net_count(&a->counter[COUNT_GIVEN_UP]);
		a->rounds = 0;
	}
	if (a->rounds)
		timer_arm(&a->timer, loop_now(a->timer.loop) + NS_PER_S);
}

void net_announce(struct net_stage *s)
{
	struct announcer *a = container_of(s, struct announcer, base);

	if (!a->ipv4[0][0] && !a->ipv6[0][0])
		return;
	a->rounds = ROUNDS;
	a->tries = TRIES;
	timer_arm(&a->timer, loop_now(a->timer.loop));
}

/* ---- the stage ---- */

static void announcer_destroy(struct net_stage *s)
{
	struct announcer *a = container_of(s, struct announcer, base);

	timer_disarm(&a->timer);
	free(a);
}

static const struct state_field announcer_fields[] = {
	STATE_BYTES(struct announcer, ipv4),
	STATE_BYTES(struct announcer, ipv6),
	STATE_BYTES(struct announcer, source),
	STATE_END,
};

static const struct net_stage_ops announcer_ops = {
	.name = "announce",
	.frame = announcer_frame,
	.destroy = announcer_destroy,
	.fields = announcer_fields,
	.size = sizeof(struct announcer),
};

struct net_stage *net_announcer_create(struct loop *loop)
{
	struct announcer *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->base.ops = &announcer_ops;
	a->base.enabled = true;
	timer_init(&a->timer, loop, "announce", tick, a);
	a->counter[COUNT_SENT].name = "announced";
	a->counter[COUNT_GIVEN_UP].name = "announce-given-up";
	a->base.counters = (struct net_counters){ a->counter, COUNTS };
	return &a->base;
}
