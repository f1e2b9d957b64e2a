/* See net.h. */
#include "core/net.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "core/loop.h"
#include "core/util.h"

/* How long a frame makes another one likely: NAT and the host's loopback answer in half
 * of that, and a guest that waits for the wire proper sleeps. */
enum { ANSWER_NS = 100000 };

enum { DROP_LINK, DROP_SHORT, DROP_LONG, DROP_NOWHERE };

void net_port_init(struct net_port *port, struct loop *loop, struct trace *trace, unsigned index)
{
	*port = (struct net_port) {
		.loop = loop, .trace = trace, .index = index,
		.link = true, .carrier = true,
		.counter = {
			[DROP_LINK] = { "drop.link-down", 0 },
			[DROP_SHORT] = { "drop.too-short", 0 },
			[DROP_LONG] = { "drop.too-long", 0 },
			[DROP_NOWHERE] = { "drop.no-peer", 0 },
		},
	};
	port->counters = (struct net_counters){ port->counter, ARRAY_SIZE(port->counter) };
}

void net_port_finish(struct net_port *port)
{
	struct net_backend *b = port->backend;

	port->backend = NULL;
	if (b)
		b->ops->close(b);
	while (port->stages[NET_TO_WIRE])
		net_port_remove_stage(port, port->stages[NET_TO_WIRE]);
	if (port->nic)
		port->nic->port = NULL;
	port->nic = NULL;
}

void net_port_set_nic(struct net_port *port, struct net_nic *nic)
{
	if (port->nic)
		port->nic->port = NULL;
	port->nic = nic;
	if (nic)
		nic->port = port;
}

/* Between two neighbours; NULL: that end of the port. */
static void insert(struct net_port *port, struct net_stage *stage, struct net_stage *guest_side,
		   struct net_stage *wire_side)
{
	stage->port = port;
	stage->next[NET_TO_GUEST] = guest_side;
	stage->next[NET_TO_WIRE] = wire_side;
	*(guest_side ? &guest_side->next[NET_TO_WIRE] : &port->stages[NET_TO_WIRE]) = stage;
	*(wire_side ? &wire_side->next[NET_TO_GUEST] : &port->stages[NET_TO_GUEST]) = stage;
}

void net_port_add_stage(struct net_port *port, struct net_stage *stage)
{
	insert(port, stage, port->stages[NET_TO_GUEST], NULL);
}

void net_port_add_first_stage(struct net_port *port, struct net_stage *stage)
{
	insert(port, stage, NULL, port->stages[NET_TO_WIRE]);
}

void net_port_add_stage_before(struct net_port *port, struct net_stage *stage,
			       struct net_stage *next)
{
	insert(port, stage, next->next[NET_TO_GUEST], next);
}

void net_port_remove_stage(struct net_port *port, struct net_stage *stage)
{
	for (unsigned dir = 0; dir < 2; dir++) {
		struct net_stage **link = &port->stages[dir];

		while (*link != stage)
			link = &(*link)->next[dir];
		*link = stage->next[dir];
	}
	stage->ops->destroy(stage);
}

struct net_stage *net_port_find_stage(struct net_port *port, const char *name)
{
	struct net_stage *s = port->stages[NET_TO_WIRE];

	while (s && strcmp(s->ops->name, name))
		s = s->next[NET_TO_WIRE];
	return s;
}

static void tell_carrier(struct net_port *port, bool before)
{
	bool now = net_port_up(port);

	if (now != before && port->nic && port->nic->ops->carrier)
		port->nic->ops->carrier(port->nic, now);
}

void net_port_set_backend(struct net_port *port, struct net_backend *backend)
{
	struct net_backend *old = port->backend;
	bool up = net_port_up(port);

	port->backend = backend;
	if (old)
		old->ops->close(old);
	port->starved = false;
	port->carrier = true;
	tell_carrier(port, up);
	net_port_writable(port);
}

/* ---- towards the wire ---- */

bool net_port_can_send(struct net_port *port)
{
	struct net_backend *b = port->backend;

	if (!port->link || !b || !b->ops->can_send || b->ops->can_send(b))
		return true;
	port->blocked = true;
	return false;
}

void net_port_writable(struct net_port *port)
{
	if (!port->blocked)
		return;
	port->blocked = false;
	if (port->nic && port->nic->ops->writable)
		port->nic->ops->writable(port->nic);
}

static void expect_answer(struct net_port *port)
{
	if (port->loop) /* a tool that only has frames translated needs none */
		loop_expect(port->loop, ANSWER_NS);
}

static bool acceptable(struct net_port *port, size_t len)
{
	if (len < NET_HEADER_SIZE)
		net_count(&port->counter[DROP_SHORT]);
	else if (len > NET_FRAME_MAX)
		net_count(&port->counter[DROP_LONG]);
	else if (!port->link)
		net_count(&port->counter[DROP_LINK]);
	else
		return true;
	return false;
}

static void flow_add(struct net_flow *flow, size_t len)
{
	flow->frames++;
	flow->bytes += len;
}

static void trace_frame(struct net_port *port, const char *what, const uint8_t *frame, size_t len)
{
	char to[NET_MAC_TEXT_SIZE], from[NET_MAC_TEXT_SIZE];

	if (len < NET_HEADER_SIZE) {
		trace_print(port->trace, TRACE_NET, "net%u %s %zu bytes", port->index, what, len);
		return;
	}
	trace_print(port->trace, TRACE_NET, "net%u %s %zu bytes %s > %s type %02x%02x", port->index,
		    what, len, net_mac_format(from, frame + 6), net_mac_format(to, frame),
		    frame[12], frame[13]);
}

static void deliver(struct net_port *port, enum net_dir dir, const uint8_t *frame, size_t len)
{
	if (dir == NET_TO_WIRE) {
		if (!port->backend) {
			net_count(&port->counter[DROP_NOWHERE]);
			return;
		}
		flow_add(&port->wire[dir], len);
		port->backend->ops->send(port->backend, frame, len);
	} else {
		if (!port->nic) {
			net_count(&port->counter[DROP_NOWHERE]);
			return;
		}
		flow_add(&port->guest[dir], len);
		port->nic->ops->receive(port->nic, frame, len);
	}
}

static void walk(struct net_port *port, struct net_stage *s, enum net_dir dir,
		 const uint8_t *frame, size_t len)
{
	while (s && !s->enabled)
		s = s->next[dir];
	if (s)
		s->ops->frame(s, dir, frame, len);
	else
		deliver(port, dir, frame, len);
}

void net_stage_pass(struct net_stage *s, enum net_dir dir, const uint8_t *frame, size_t len)
{
	walk(s->port, s->next[dir], dir, frame, len);
}

void net_port_send(struct net_port *port, const uint8_t *frame, size_t len)
{
	if (trace_on(port->trace, TRACE_NET))
		trace_frame(port, "sends", frame, len);
	flow_add(&port->guest[NET_TO_WIRE], len);
	expect_answer(port);
	if (acceptable(port, len))
		walk(port, port->stages[NET_TO_WIRE], NET_TO_WIRE, frame, len);
}

/* ---- towards the guest ---- */

bool net_port_can_receive(struct net_port *port)
{
	struct net_nic *nic = port->nic;

	if (!port->link || !nic || !nic->ops->can_receive || nic->ops->can_receive(nic))
		return true;
	port->starved = true;
	return false;
}

void net_port_readable(struct net_port *port)
{
	struct net_backend *b = port->backend;

	if (!port->starved)
		return;
	port->starved = false;
	if (b && b->ops->readable)
		b->ops->readable(b);
}

void net_port_receive(struct net_port *port, const uint8_t *frame, size_t len)
{
	if (trace_on(port->trace, TRACE_NET))
		trace_frame(port, "receives", frame, len);
	flow_add(&port->wire[NET_TO_GUEST], len);
	expect_answer(port);
	if (acceptable(port, len))
		walk(port, port->stages[NET_TO_GUEST], NET_TO_GUEST, frame, len);
}

/* ---- link and carrier ---- */

void net_port_set_link(struct net_port *port, bool up)
{
	bool before = net_port_up(port);

	port->link = up;
	tell_carrier(port, before);
	if (!up)
		net_port_writable(port); /* frames are dropped and counted now */
	net_port_readable(port);
}

void net_port_set_carrier(struct net_port *port, bool up)
{
	bool before = net_port_up(port);

	port->carrier = up;
	tell_carrier(port, before);
}

void net_port_notify(struct net_port *port, const char *fmt, ...)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "net%u: ", port->index);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - n, fmt, ap);
	va_end(ap);
	if (trace_on(port->trace, TRACE_NET))
		trace_print(port->trace, TRACE_NET, "%s", text);
	if (port->notify)
		port->notify(port->notify_opaque, text);
}

/* ---- MAC addresses ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool net_mac_parse(const char *text, uint8_t mac[NET_MAC_SIZE])
{
	uint8_t out[NET_MAC_SIZE];

	for (unsigned i = 0; i < NET_MAC_SIZE; i++, text += 3) {
		int high = hex_digit(text[0]);
		int low = high < 0 ? -1 : hex_digit(text[1]);

		if (low < 0)
			return false;
		if (i == NET_MAC_SIZE - 1 ? text[2] != '\0' : text[2] != ':' && text[2] != '-')
			return false;
		out[i] = high << 4 | low;
	}
	memcpy(mac, out, NET_MAC_SIZE);
	return true;
}

char *net_mac_format(char *text, const uint8_t mac[NET_MAC_SIZE])
{
	snprintf(text, NET_MAC_TEXT_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
		 mac[2], mac[3], mac[4], mac[5]);
	return text;
}

void net_mac_random(uint8_t mac[NET_MAC_SIZE])
{
	if (getrandom(mac, NET_MAC_SIZE, 0) != NET_MAC_SIZE)
		memset(mac, 0x5a, NET_MAC_SIZE);
	mac[0] = (mac[0] & 0xfc) | 0x02;
}

bool net_mac_is_station(const uint8_t mac[NET_MAC_SIZE])
{
	static const uint8_t zero[NET_MAC_SIZE];

	return !(mac[0] & 1) && memcmp(mac, zero, NET_MAC_SIZE);
}
