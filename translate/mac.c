/* See mac.h, and mac_priv.h for what is swapped and why.
 *
 * A frame that comes from the wire with the wire address as its source is our own,
 * sent back by a relay or hub: nobody else may have that address. The guest must not
 * see it, since duplicate address detection (RFC 4862, 5.4) would take it for another
 * station. That is so without translation, too.
 *
 * Frames of another station that has the guest's address pass: in them it is swapped
 * for the wire address, under which the guest and that station talk to each other.
 */
#include "translate/mac.h"

#include <stdlib.h>

#include "translate/mac_priv.h"

enum {
	COUNT_TO_WIRE, COUNT_TO_GUEST, /* by enum net_dir */
	COUNT_OWN_ECHO, COUNT_FOREIGN,
	COUNT_LEAK,                    /* and the others, by enum mac_place */
	COUNTS = COUNT_LEAK + MAC_PLACES
};

struct mac_translator {
	struct net_stage base;
	struct mac_pair pair; /* as the port's addresses were with the last frame */
	bool idle; /* they are equal, or one is no station's: a card not yet programmed */
	bool told; /* that another station has the guest's address */
	struct net_counter counter[COUNTS];
};

static bool same(const uint8_t *a, const uint8_t *b)
{
	return !memcmp(a, b, NET_MAC_SIZE);
}

static void foreign(struct mac_translator *t, bool source)
{
	char guest[NET_MAC_TEXT_SIZE], wire[NET_MAC_TEXT_SIZE];

	net_count(&t->counter[COUNT_FOREIGN]);
	/* To that address may also send who remembers it from before a restore. */
	if (!source || t->told)
		return;
	t->told = true;
	net_port_notify(t->base.port, "another station on the wire has the guest's address %s; "
			"the guest sees it as %s", net_mac_format(guest, t->pair.mac[0]),
			net_mac_format(wire, t->pair.mac[1]));
}

static void translator_frame(struct net_stage *s, enum net_dir dir, const uint8_t *frame,
			     size_t len)
{
	struct mac_translator *t = container_of(s, struct mac_translator, base);
	const struct net_port *port = s->port;
	const uint8_t *source = frame + NET_MAC_SIZE;
	uint8_t copy[NET_FRAME_MAX]; /* not in the stage: a loopback may call back */
	struct mac_frame f;

	if (dir == NET_TO_GUEST && same(source, port->wire_mac)) {
		net_count(&t->counter[COUNT_OWN_ECHO]);
		return;
	}
	if (!same(t->pair.mac[0], port->guest_mac) || !same(t->pair.mac[1], port->wire_mac)) {
		mac_pair_init(&t->pair, port->guest_mac, port->wire_mac);
		/* Zeros are in each ARP request, ones in each broadcast: swap neither. */
		t->idle = same(port->guest_mac, port->wire_mac) ||
			  !net_mac_is_station(port->guest_mac) ||
			  !net_mac_is_station(port->wire_mac);
	}
	if (t->idle) {
		net_stage_pass(s, dir, frame, len);
		return;
	}
	if (dir == NET_TO_GUEST &&
	    (same(source, port->guest_mac) || same(frame, port->guest_mac)))
		foreign(t, same(source, port->guest_mac));

	mac_translate(&f, &t->pair, frame, len, copy);
	if (f.edit.data != frame)
		net_count(&t->counter[dir == NET_TO_WIRE ? COUNT_TO_WIRE : COUNT_TO_GUEST]);
	if (dir == NET_TO_WIRE && mac_leaks(&f))
		net_count(&t->counter[COUNT_LEAK + f.place]);
	net_stage_pass(s, dir, f.edit.data, len);
}

static void translator_destroy(struct net_stage *s)
{
	free(container_of(s, struct mac_translator, base));
}

static const struct net_stage_ops translator_ops = {
	.name = "translate",
	.frame = translator_frame,
	.destroy = translator_destroy,
};

struct net_stage *mac_translator_create(void)
{
	static const char *const names[COUNTS] = {
		[COUNT_TO_WIRE] = "translated-to-wire",
		[COUNT_TO_GUEST] = "translated-to-guest",
		[COUNT_OWN_ECHO] = "drop.own-echo",
		[COUNT_FOREIGN] = "foreign-mac",
		[COUNT_LEAK + MAC_IN_ETHERNET] = "leak.ethernet",
		[COUNT_LEAK + MAC_IN_LLC] = "leak.llc",
		[COUNT_LEAK + MAC_IN_ARP] = "leak.arp",
		[COUNT_LEAK + MAC_IN_IPX] = "leak.ipx",
		[COUNT_LEAK + MAC_IN_PAYLOAD] = "leak.payload",
		[COUNT_LEAK + MAC_IN_FRAGMENT] = "leak.fragment",
	};
	struct mac_translator *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->base.ops = &translator_ops;
	t->base.enabled = true;
	t->idle = true; /* two addresses of zeros */
	for (unsigned i = 0; i < COUNTS; i++)
		t->counter[i].name = names[i];
	t->base.counters = (struct net_counters){ t->counter, COUNTS };
	return &t->base;
}
