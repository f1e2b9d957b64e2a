/* See relay_switch.h. A hash table with chains over a fixed array of entries; each
 * port has a list of its own, last used first, so its oldest address is at the end.
 * The hash is keyed from the kernel's entropy (multiply-shift, Dietzfelbinger et al.
 * 1997): a client cannot choose addresses that share a chain.
 */
#include "tools/relay_switch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/util.h"

#define NONE UINT32_MAX

struct entry {
	uint64_t mac;   /* 48 bits, as they come */
	int64_t seen;   /* ns */
	int32_t port;
	uint32_t chain; /* next of the bucket, or of the free ones */
	uint32_t prev, next; /* of the port */
};

struct sw_port {
	bool used;
	unsigned macs, max;
	uint32_t first, last; /* entries */
};

struct relay_switch {
	struct relay_switch_config cfg;
	uint64_t key;
	unsigned bits;    /* of the bucket number */
	uint32_t *bucket;
	struct entry *entry;
	uint32_t fresh;   /* entries from here on were never used */
	uint32_t free;    /* chain of those that were */
	unsigned used;
	struct sw_port *port;
};

static uint64_t mac_load(const uint8_t *mac)
{
	return load_le32(mac) | (uint64_t)load_le16(mac + 4) << 32;
}

static void mac_store(uint8_t *mac, uint64_t v)
{
	store_le32(mac, (uint32_t)v);
	store_le16(mac + 4, (uint16_t)(v >> 32));
}

struct relay_switch *relay_switch_create(const struct relay_switch_config *cfg,
					 struct error *err)
{
	struct relay_switch *sw = calloc(1, sizeof(*sw));

	if (!sw)
		goto fail;
	sw->cfg = *cfg;
	sw->free = NONE;
	for (sw->bits = 6; (1ull << sw->bits) < cfg->macs; sw->bits++)
		;
	if (getrandom(&sw->key, sizeof(sw->key), 0) != sizeof(sw->key))
		sw->key = (uint64_t)(uintptr_t)sw * 0x9e3779b97f4a7c15ull;
	sw->key |= 1;
	sw->bucket = malloc(sizeof(*sw->bucket) << sw->bits);
	/* Not cleared: what is never used never takes memory. */
	sw->entry = malloc(sizeof(*sw->entry) * MAX(cfg->macs, 1u));
	sw->port = calloc(MAX(cfg->ports, 1u), sizeof(*sw->port));
	if (!sw->bucket || !sw->entry || !sw->port)
		goto fail;
	memset(sw->bucket, 0xff, sizeof(*sw->bucket) << sw->bits);
	return sw;
fail:
	error_set(err, "out of memory for a switch of %u addresses", cfg->macs);
	relay_switch_destroy(sw);
	return NULL;
}

void relay_switch_destroy(struct relay_switch *sw)
{
	if (!sw)
		return;
	free(sw->bucket);
	free(sw->entry);
	free(sw->port);
	free(sw);
}

static uint32_t *bucket_of(const struct relay_switch *sw, uint64_t mac)
{
	return &sw->bucket[mac * sw->key >> (64 - sw->bits)];
}

static uint32_t find(const struct relay_switch *sw, uint64_t mac)
{
	uint32_t i = *bucket_of(sw, mac);

	while (i != NONE && sw->entry[i].mac != mac)
		i = sw->entry[i].chain;
	return i;
}

static void port_unlink(struct relay_switch *sw, uint32_t i)
{
	struct entry *e = &sw->entry[i];
	struct sw_port *p = &sw->port[e->port];

	if (e->prev == NONE)
		p->first = e->next;
	else
		sw->entry[e->prev].next = e->next;
	if (e->next == NONE)
		p->last = e->prev;
	else
		sw->entry[e->next].prev = e->prev;
	p->macs--;
}

static void port_link(struct relay_switch *sw, uint32_t i)
{
	struct entry *e = &sw->entry[i];
	struct sw_port *p = &sw->port[e->port];

	e->prev = NONE;
	e->next = p->first;
	if (p->first == NONE)
		p->last = i;
	else
		sw->entry[p->first].prev = i;
	p->first = i;
	p->macs++;
}

static void forget(struct relay_switch *sw, uint32_t i)
{
	uint32_t *at = bucket_of(sw, sw->entry[i].mac);

	port_unlink(sw, i);
	while (*at != i)
		at = &sw->entry[*at].chain;
	*at = sw->entry[i].chain;
	sw->entry[i].chain = sw->free;
	sw->free = i;
	sw->used--;
}

static bool aged(const struct relay_switch *sw, const struct entry *e, int64_t now)
{
	return now - e->seen >= sw->cfg.age_ns;
}

int relay_switch_join(struct relay_switch *sw, unsigned macs)
{
	for (unsigned i = 0; i < sw->cfg.ports; i++) {
		if (!sw->port[i].used) {
			sw->port[i] = (struct sw_port){ true, 0, macs, NONE, NONE };
			return (int)i;
		}
	}
	return RELAY_NO_PORT;
}

void relay_switch_leave(struct relay_switch *sw, int port)
{
	if (port < 0 || (unsigned)port >= sw->cfg.ports || !sw->port[port].used)
		return;
	while (sw->port[port].first != NONE)
		forget(sw, sw->port[port].first);
	sw->port[port].used = false;
}

/* The address is nobody's: give it to @port if it may have one more. */
static bool own(struct relay_switch *sw, int port, uint64_t mac, int64_t now)
{
	struct sw_port *p = &sw->port[port];
	uint32_t *bucket = bucket_of(sw, mac);
	struct entry *e;
	uint32_t i;

	if (p->macs >= p->max && p->last != NONE && aged(sw, &sw->entry[p->last], now))
		forget(sw, p->last);
	if (p->macs >= p->max)
		return false;
	if (sw->free != NONE) {
		i = sw->free;
		sw->free = sw->entry[i].chain;
	} else if (sw->fresh < sw->cfg.macs) {
		i = sw->fresh++;
	} else {
		return false;
	}
	e = &sw->entry[i];
	*e = (struct entry){ .mac = mac, .seen = now, .port = port, .chain = *bucket };
	*bucket = i;
	port_link(sw, i);
	sw->used++;
	return true;
}

static bool learn(struct relay_switch *sw, int port, uint64_t mac, int64_t now,
		  enum relay_verdict *why)
{
	uint32_t i = find(sw, mac);

	if (i != NONE && sw->entry[i].port != port) {
		if (!aged(sw, &sw->entry[i], now)) {
			*why = RELAY_DROP_MAC_TAKEN;
			return false;
		}
		forget(sw, i);
		i = NONE;
	}
	if (i == NONE) {
		*why = RELAY_DROP_MAC_LIMIT;
		return own(sw, port, mac, now);
	}
	sw->entry[i].seen = now;
	if (sw->port[port].first != i) {
		port_unlink(sw, i);
		port_link(sw, i);
	}
	return true;
}

enum relay_verdict relay_switch_frame(struct relay_switch *sw, int port, int64_t now,
				      const uint8_t *frame, size_t len, int *to)
{
	static const uint8_t link_local[5] = { 0x01, 0x80, 0xc2, 0x00, 0x00 };
	enum relay_verdict why;
	uint32_t i;

	if (len < NET_HEADER_SIZE)
		return RELAY_DROP_RUNT;
	if (len > NET_FRAME_MAX)
		return RELAY_DROP_TOO_LONG;
	if (!net_mac_is_station(frame + NET_MAC_SIZE))
		return RELAY_DROP_BAD_SOURCE;
	if (!learn(sw, port, mac_load(frame + NET_MAC_SIZE), now, &why))
		return why;
	if (frame[0] & 1) {
		if (!memcmp(frame, link_local, sizeof(link_local)) && frame[5] < 0x10)
			return RELAY_DROP_LINK_LOCAL;
		return RELAY_FLOOD;
	}
	i = find(sw, mac_load(frame));
	if (i == NONE || aged(sw, &sw->entry[i], now))
		return RELAY_FLOOD;
	if (sw->entry[i].port == port)
		return RELAY_DROP_SAME_PORT;
	*to = sw->entry[i].port;
	return RELAY_UNICAST;
}

int relay_switch_owner(const struct relay_switch *sw, const uint8_t *mac, int64_t now)
{
	uint32_t i = find(sw, mac_load(mac));

	return i == NONE || aged(sw, &sw->entry[i], now) ? RELAY_NO_PORT : sw->entry[i].port;
}

unsigned relay_switch_macs(const struct relay_switch *sw, int port, int64_t now,
			   uint8_t (*mac)[NET_MAC_SIZE], unsigned max)
{
	unsigned n = 0;

	for (uint32_t i = sw->port[port].first; i != NONE; i = sw->entry[i].next) {
		if (aged(sw, &sw->entry[i], now))
			break;
		if (n < max)
			mac_store(mac[n], sw->entry[i].mac);
		n++;
	}
	return n;
}

unsigned relay_switch_used(const struct relay_switch *sw)
{
	return sw->used;
}

void relay_bucket_init(struct relay_bucket *b, uint64_t rate, uint64_t burst, int64_t now)
{
	b->rate = (double)rate;
	b->burst = (double)MAX(burst, (uint64_t)NET_FRAME_MAX);
	b->tokens = b->burst;
	b->last = now;
}

bool relay_bucket_take(struct relay_bucket *b, size_t bytes, int64_t now)
{
	if (b->rate == 0)
		return true;
	if (now > b->last) {
		b->tokens += (double)(now - b->last) * 1e-9 * b->rate;
		b->tokens = MIN(b->tokens, b->burst);
		b->last = now;
	}
	if (b->tokens < (double)bytes)
		return false;
	b->tokens -= (double)bytes;
	return true;
}
