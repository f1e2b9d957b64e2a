/* See ip.h. */
#include "translate/ip.h"

#include <stdio.h>
#include <stdlib.h>

#include "translate/announce.h"
#include "translate/ip_priv.h"

enum { COUNT_TO_WIRE, COUNT_TO_GUEST, COUNT_FOREIGN, COUNT_TUNNEL, COUNT_UNLEARNT, COUNTS };

struct ip_translator {
	struct net_stage base;
	struct net_stage *announce; /* borrowed; NULL: nothing is learnt */
	struct ip_rule rule;
	/* State: the two addresses, zeros if not known or not wanted. */
	uint8_t old[IPV4_SIZE], new[IPV4_SIZE];
	bool told; /* that another station has the guest's address */
	struct net_counter counter[COUNTS];
};

/* ---- the rule ---- */

/* One host's: class A to C, neither this network's (0/8) nor loopback. */
static bool is_host(const uint8_t ip[IPV4_SIZE])
{
	return ip[0] != 0 && ip[0] != 127 && ip[0] < 224;
}

static bool parse_address(const char **text, uint8_t ip[IPV4_SIZE])
{
	const char *p = *text;

	for (unsigned i = 0; i < IPV4_SIZE; i++) {
		unsigned value = 0, digits = 0;

		if (i && *p++ != '.')
			return false;
		for (; *p >= '0' && *p <= '9' && digits < 4; digits++)
			value = value * 10 + (*p++ - '0');
		if (!digits || value > 255)
			return false;
		ip[i] = value;
	}
	*text = p;
	return is_host(ip);
}

bool ip_rule_parse(const char *text, struct ip_rule *rule, struct error *err)
{
	static const char prefix[] = "translate=";
	struct ip_rule r = { .set = true };
	const char *p = text;
	bool ok;

	if (!strncmp(p, prefix, sizeof(prefix) - 1))
		p += sizeof(prefix) - 1;
	if (!strcmp(p, "none")) {
		*rule = r;
		return true;
	}
	if (!strncmp(p, "auto:", 5)) {
		p += 5;
		ok = parse_address(&p, r.new);
	} else {
		ok = parse_address(&p, r.new);
		if (ok && *p == ':') {
			p++;
			memcpy(r.old, r.new, IPV4_SIZE);
			ok = parse_address(&p, r.new);
		}
	}
	if (ok && !*p) {
		*rule = r;
		return true;
	}
	error_set(err, "%.60s: not two addresses of hosts; write GUEST:WIRE as in 10.0.0.5:10.0.0.23, or WIRE alone",
		  text);
	return false;
}

/* ---- the stage ---- */

static bool zero(const uint8_t ip[IPV4_SIZE])
{
	return !(ip[0] | ip[1] | ip[2] | ip[3]);
}

/* Brings the addresses up to date; false: there is nothing to translate. */
static bool settle(struct ip_translator *t)
{
	const struct ip_rule *r = &t->rule;

	if (r->set) {
		memcpy(t->new, r->new, IPV4_SIZE);
		if (!zero(r->old))
			memcpy(t->old, r->old, IPV4_SIZE);
	}
	if (!is_host(t->new))
		return false;
	if (!is_host(t->old) && t->announce)
		net_announce_ipv4(t->announce, t->old);
	return is_host(t->old) && memcmp(t->old, t->new, IPV4_SIZE);
}

static void look_for_foreign(struct ip_translator *t, const uint8_t *frame, size_t len)
{
	static const uint8_t arp[] = { 0x08, 0x06, 0, 1, 0x08, 0, 6, 4 };
	const struct net_port *port = t->base.port;

	if (len < 42 || memcmp(frame + 12, arp, sizeof(arp)) ||
	    memcmp(frame + 28, t->old, IPV4_SIZE) || !memcmp(frame + 22, port->wire_mac, NET_MAC_SIZE))
		return;
	net_count(&t->counter[COUNT_FOREIGN]);
	if (t->told)
		return;
	t->told = true;
	net_port_notify(t->base.port, "another station on the wire has the guest's address %u.%u.%u.%u; the guest sees it as %u.%u.%u.%u",
			t->old[0], t->old[1], t->old[2], t->old[3],
			t->new[0], t->new[1], t->new[2], t->new[3]);
}

static void translator_frame(struct net_stage *s, enum net_dir dir, const uint8_t *frame,
			     size_t len)
{
	struct ip_translator *t = container_of(s, struct ip_translator, base);
	uint8_t copy[NET_FRAME_MAX]; /* not in the stage: a loopback may call back */
	struct ip_frame f;
	struct ip_pair pair;

	if (!settle(t)) {
		if (dir == NET_TO_WIRE && is_host(t->new) && !is_host(t->old) &&
		    frame[12] == TYPE_IPV4 >> 8 && frame[13] == (TYPE_IPV4 & 0xff))
			net_count(&t->counter[COUNT_UNLEARNT]);
		net_stage_pass(s, dir, frame, len);
		return;
	}
	if (dir == NET_TO_GUEST)
		look_for_foreign(t, frame, len);
	memcpy(pair.ip[0], t->old, IPV4_SIZE);
	memcpy(pair.ip[1], t->new, IPV4_SIZE);
	ip_translate(&f, &pair, frame, len, copy);
	if (f.edit.data != frame)
		net_count(&t->counter[dir == NET_TO_WIRE ? COUNT_TO_WIRE : COUNT_TO_GUEST]);
	if (f.tunnel)
		net_count(&t->counter[COUNT_TUNNEL]);
	net_stage_pass(s, dir, f.edit.data, len);
}

static void translator_destroy(struct net_stage *s)
{
	free(container_of(s, struct ip_translator, base));
}

/* Whatever an image says is looked at by settle(): what is no host's is not translated. */
static const struct state_field translator_fields[] = {
	STATE_BYTES(struct ip_translator, old),
	STATE_BYTES(struct ip_translator, new),
	STATE_END,
};

static const struct net_stage_ops translator_ops = {
	.name = "translate-ip",
	.frame = translator_frame,
	.destroy = translator_destroy,
	.fields = translator_fields,
	.size = sizeof(struct ip_translator),
};

void ip_translator_set(struct net_stage *s, const struct ip_rule *rule)
{
	struct ip_translator *t = container_of(s, struct ip_translator, base);

	t->rule = *rule;
	t->told = false;
	memset(t->old, 0, IPV4_SIZE);
	memset(t->new, 0, IPV4_SIZE);
}

struct net_stage *ip_translator_create(const struct ip_rule *rule, struct net_stage *announce)
{
	static const char *const names[COUNTS] = {
		[COUNT_TO_WIRE] = "translated-to-wire",
		[COUNT_TO_GUEST] = "translated-to-guest",
		[COUNT_FOREIGN] = "foreign-ip",
		[COUNT_TUNNEL] = "leak.tunnel",
		[COUNT_UNLEARNT] = "leak.unlearnt",
	};
	struct ip_translator *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->base.ops = &translator_ops;
	t->base.enabled = true;
	t->announce = announce;
	t->rule = *rule;
	for (unsigned i = 0; i < COUNTS; i++)
		t->counter[i].name = names[i];
	t->base.counters = (struct net_counters){ t->counter, COUNTS };
	return &t->base;
}
