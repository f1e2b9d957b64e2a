/* See lan.h. The table is that of a learning bridge (IEEE 802.1D, 7.9): an address is
 * where it was last seen as a source, for five minutes. It is bounded: a new address
 * takes the place of the one not seen for longest among the few it may stand in, so a
 * flood of made-up addresses costs some flooding and nothing else.
 */
#include "backends/lan.h"

#include <stdio.h>
#include <string.h>

#include "core/util.h"

enum {
	WAYS = 4,                /* places an address may stand in */
	HELD_BYTES = 256 * 1024,
	FLUSH_BUDGET = 256,      /* frames in one call */
};

#define AGE_NS (300 * NS_PER_S)
#define RETRY_NS (NS_PER_S / 10)

/* ---- addresses ---- */

static uint64_t mac_key(const uint8_t mac[NET_MAC_SIZE])
{
	return load_le32(mac) | (uint64_t)load_le16(mac + 4) << 32 | 1ull << 48;
}

static unsigned mac_hash(uint64_t key)
{
	return (key * 0x9e3779b97f4a7c15ull) >> 40 & (LAN_MACS - 1) & ~(WAYS - 1);
}

void lan_learn(struct lan_table *t, const uint8_t *frame, unsigned member, int64_t now)
{
	uint64_t key = mac_key(frame + NET_MAC_SIZE);
	struct lan_mac *set = &t->slot[mac_hash(key)], *m = set;

	if (!net_mac_is_station(frame + NET_MAC_SIZE))
		return;
	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i].key == key) {
			m = &set[i];
			break;
		}
		if (m->key && (!set[i].key || set[i].seen < m->seen))
			m = &set[i];
	}
	*m = (struct lan_mac){ key, now, member };
}

int lan_find(const struct lan_table *t, const uint8_t mac[NET_MAC_SIZE], int64_t now)
{
	uint64_t key = mac_key(mac);
	const struct lan_mac *set = &t->slot[mac_hash(key)];

	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i].key == key)
			return now - set[i].seen < AGE_NS ? (int)set[i].member : -1;
	}
	return -1;
}

void lan_forget(struct lan_table *t, unsigned member)
{
	for (unsigned i = 0; i < LAN_MACS; i++) {
		if (t->slot[i].member == member)
			t->slot[i].key = 0;
	}
}

/* ---- members ---- */

static void tell_carrier(struct lan *lan)
{
	bool up = !lan->carrier || lan->present;

	if (lan->port->carrier != up)
		net_port_set_carrier(lan->port, up);
}

static void lan_fire(void *opaque)
{
	struct lan *lan = opaque;

	tell_carrier(lan);
	lan_flush(lan);
}

bool lan_init(struct lan *lan, struct net_port *port, struct lan_table *table, bool *busy,
	      unsigned self, const struct lan_options *o, struct error *err)
{
	*lan = (struct lan){
		.port = port, .table = table, .busy = busy, .self = self, .carrier = o->carrier,
		.counter = {
			[LAN_NO_PEER] = { "drop.no-peer", 0 },
			[LAN_STALLED] = { "drop.peer-stalled", 0 },
			[LAN_GONE] = { "drop.peer-gone", 0 },
			[LAN_FULL] = { "drop.queue-full", 0 },
			[LAN_OWN] = { "drop.own-address", 0 },
			[LAN_FLOODED] = { "flooded", 0 },
			[LAN_HELD] = { "held", 0 },
			[LAN_JOINED] = { "peers-joined", 0 },
			[LAN_LEFT] = { "peers-left", 0 },
			[LAN_REFUSED] = { "peers-refused", 0 },
		},
	};
	timer_init(&lan->timer, port->loop, "loopback", lan_fire, lan);
	lan->held = frame_queue_create(HELD_BYTES, err);
	if (!lan->held)
		return false;
	if (o->impair.wanted) {
		lan->impair = impair_create(port->loop, &o->impair, err);
		if (!lan->impair) {
			lan_finish(lan);
			return false;
		}
		net_port_add_stage(port, lan->impair);
	}
	/* A port's carrier is up when it gets its backend: say otherwise after that. */
	if (o->carrier)
		timer_arm(&lan->timer, loop_now(port->loop));
	return true;
}

void lan_finish(struct lan *lan)
{
	timer_disarm(&lan->timer);
	/* By what we were given, not by name: the port's next backend may have put in its own. */
	if (lan->impair)
		net_port_remove_stage(lan->port, lan->impair);
	lan->impair = NULL;
	frame_queue_destroy(lan->held);
	lan->held = NULL;
}

void lan_add(struct lan *lan, unsigned member, struct lan_peer *peer)
{
	lan->peer[member] = peer;
	lan->present |= 1ull << member;
	net_count(&lan->counter[LAN_JOINED]);
	if (lan->port->backend)
		tell_carrier(lan);
}

void lan_remove(struct lan *lan, unsigned member, uint64_t lost)
{
	uint64_t bit = 1ull << member;

	if (!(lan->present & bit))
		return;
	net_count_add(&lan->counter[LAN_GONE], lost + !!(lan->waiting & bit));
	net_count(&lan->counter[LAN_LEFT]);
	lan->peer[member] = NULL;
	lan->present &= ~bit;
	lan->waiting &= ~bit;
	lan_forget(lan->table, member);
	if (lan->port->backend)
		tell_carrier(lan);
	if (!lan_can_send(lan))
		timer_arm(&lan->timer, loop_now(lan->port->loop));
}

/* ---- frames ---- */

/* Who gets it, as bits; 0 if nobody does, counted. */
static uint64_t targets(struct lan *lan, const uint8_t *frame, int64_t now)
{
	int member = frame[0] & 1 ? -1 : lan_find(lan->table, frame, now);

	if (!lan->present) {
		net_count(&lan->counter[LAN_NO_PEER]);
		return 0;
	}
	if (member == (int)lan->self) {
		net_count(&lan->counter[LAN_OWN]);
		return 0;
	}
	if (member >= 0 && lan->present >> member & 1)
		return 1ull << member;
	net_count(&lan->counter[LAN_FLOODED]);
	return lan->present;
}

/* True if @p is to be waited for. */
static bool wait_for(struct lan *lan, struct lan_peer *p, int64_t now)
{
	/* The clock jumps when a saved machine is loaded. */
	if (!p->stalled && (p->refused < 0 || p->refused > now))
		p->refused = now;
	if (!p->stalled && now - p->refused < LAN_STALL_NS)
		return true;
	p->stalled = true;
	if (!lan->told)
		net_port_notify(lan->port, "loopback: somebody takes no frames; what is sent there is dropped until that changes");
	lan->told = true;
	net_count(&lan->counter[LAN_STALLED]);
	return false;
}

/* Offers the frame to those of @left; returns who has to get it later. */
static uint64_t offer(struct lan *lan, uint64_t left, const uint8_t *frame, size_t len,
		      int64_t now)
{
	uint64_t later = 0;

	*lan->busy = true;
	for (; left; left &= left - 1) {
		struct lan_peer *p = lan->peer[__builtin_ctzll(left)];

		if (!p)
			continue;
		if (p->take(p, frame, len)) {
			p->refused = -1;
			p->stalled = false;
		} else if (wait_for(lan, p, now)) {
			later |= left & -left;
		}
	}
	*lan->busy = false;
	return later & lan->present;
}

bool lan_can_send(const struct lan *lan)
{
	return !frame_queue_peek(lan->held);
}

static void hold(struct lan *lan, const uint8_t *frame, size_t len)
{
	if (frame_queue_push(lan->held, frame, len, 0))
		net_count(&lan->counter[LAN_HELD]);
	else
		net_count(&lan->counter[LAN_FULL]);
}

void lan_send(struct lan *lan, const uint8_t *frame, size_t len)
{
	int64_t now = loop_now(lan->port->loop);
	uint64_t later;

	lan_learn(lan->table, frame, lan->self, now);
	if (!lan_can_send(lan)) {
		hold(lan, frame, len);
		return;
	}
	/* Sent from within a receive: later, or two who answer each other never end. */
	if (*lan->busy) {
		hold(lan, frame, len);
		timer_arm(&lan->timer, now);
		return;
	}
	later = offer(lan, targets(lan, frame, now), frame, len, now);
	if (later) {
		/* The queue is empty, so this is its oldest. */
		lan->waiting = later;
		lan->begun = true;
		hold(lan, frame, len);
		timer_arm(&lan->timer, now + RETRY_NS);
	}
}

void lan_flush(struct lan *lan)
{
	int64_t now = loop_now(lan->port->loop);
	const struct frame *f = frame_queue_peek(lan->held);

	if (!f)
		return;
	for (unsigned budget = FLUSH_BUDGET; f && budget && !*lan->busy; budget--) {
		if (!lan->begun)
			lan->waiting = targets(lan, f->data, now);
		lan->begun = true;
		lan->waiting = offer(lan, lan->waiting, f->data, f->len, now);
		if (lan->waiting) {
			timer_arm(&lan->timer, now + RETRY_NS);
			return;
		}
		lan->begun = false;
		frame_queue_pop(lan->held);
		f = frame_queue_peek(lan->held);
	}
	if (f) {
		timer_arm(&lan->timer, now);
		return;
	}
	timer_disarm(&lan->timer);
	net_port_writable(lan->port);
}

void lan_status(const struct lan *lan, const char *what, char *text, size_t size)
{
	unsigned n = __builtin_popcountll(lan->present);

	if (n)
		snprintf(text, size, "%s: %u other member%s", what, n, n == 1 ? "" : "s");
	else
		snprintf(text, size, "%s: nobody else is there", what);
}
