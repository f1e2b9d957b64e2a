/* libgannet's network: where cards, stages, captures and backends are put together.
 *
 *	card -> [capture-guest] -> [announce] -> [translate] -> [translate-ip] ->
 *		[capture-wire] -> [the backend's impair] -> backend
 *
 * See core/net.h for what goes on between them.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/frame_queue.h"
#include "core/machine.h"
#include "core/util.h"
#include "tools/libgannet_priv.h"
#include "tools/libgannet_state.h"
#include "translate/announce.h"
#include "translate/capture.h"
#include "translate/ip.h"
#include "translate/mac.h"

enum { PEER_QUEUE_BYTES = 1 << 20, PEER_BATCH = 64 };

static const uint8_t default_mac[NET_MAC_SIZE] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };

/* ---- what the configuration says ---- */

static bool parse_mac(const char *text, const char *what, unsigned n, uint8_t mac[NET_MAC_SIZE],
		      struct error *err)
{
	if (!net_mac_parse(text, mac)) {
		error_set(err, "--nic %s=%s: not an address like 52:54:00:12:34:56", what, text);
		return false;
	}
	if (!net_mac_is_station(mac)) {
		error_set(err, "--nic %s=%s: not the address of one card (the first byte must be even, not all zero)",
			  what, text);
		return false;
	}
	(void)n;
	return true;
}

/* The same address for the same text, whatever the machine: an instance of a fleet. */
static void derive_mac(const char *instance, unsigned n, uint8_t mac[NET_MAC_SIZE])
{
	uint64_t hash = 0xcbf29ce484222325 + n; /* FNV-1a, 64 bits, finished by splitmix64's mixer */

	for (const char *p = instance; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 0x100000001b3;
	hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9;
	hash = (hash ^ hash >> 27) * 0x94d049bb133111eb;
	hash ^= hash >> 31;
	memcpy(mac, &hash, NET_MAC_SIZE);
	mac[0] = (mac[0] & 0xfc) | 0x02; /* locally administered, one station */
}

/* An option ROM that looks like one; what it says comes with the memory. */
static bool make_rom(struct net_parts *p, unsigned n, const struct restore *restore,
		     struct error *err)
{
	char name[8];
	size_t size;

	snprintf(name, sizeof(name), "nic%u", n);
	size = restore_rom_size(restore, name);
	if (!size)
		return true;
	p->rom[n] = calloc(1, size);
	if (!p->rom[n]) {
		error_set(err, "out of memory");
		return false;
	}
	p->nic[n].rom = p->rom[n];
	p->nic[n].rom_size = size;
	p->nic[n].rom_blank = true;
	return true;
}

static bool read_ip(struct net_parts *p, unsigned n, const struct gannet_config *whole,
		    struct error *err)
{
	const char *text = whole->nic[n].ip;
	bool own = text != NULL;

	if (!own && n == 0)
		text = whole->ip;
	if (!text || ip_rule_parse(text, &p->ip[n], err))
		return true;
	error_prefix(err, own ? "--nic ip" : "--ip");
	return false;
}

static bool read_nic(struct net_parts *p, unsigned n, const struct gannet_config *whole,
		     struct error *err)
{
	const struct gannet_nic *cfg = &whole->nic[n];
	struct board_nic *nic = &p->nic[n];
	bool isa = cfg->model && !strcmp(cfg->model, "ne2k_isa");

	if (cfg->model && !isa && strcmp(cfg->model, "ne2k_pci")) {
		error_set(err, "--nic model=%s: unknown; there are ne2k_pci and ne2k_isa", cfg->model);
		return false;
	}
	if (isa && (cfg->romfile || cfg->slot)) {
		error_set(err, "--nic model=ne2k_isa: romfile= and slot= are for ne2k_pci");
		return false;
	}
	if (!isa && (cfg->iobase || cfg->irq)) {
		error_set(err, "--nic model=ne2k_pci: iobase= and irq= are for ne2k_isa; the guest gives a PCI card its own");
		return false;
	}
	*nic = (struct board_nic) {
		.model = isa ? BOARD_NIC_NE2K_ISA : BOARD_NIC_NE2K_PCI,
		.slot = cfg->slot ? (int)cfg->slot : -1,
		.iobase = cfg->iobase, .irq = cfg->irq,
	};
	memcpy(nic->mac, default_mac, NET_MAC_SIZE);
	nic->mac[NET_MAC_SIZE - 1] += n;
	if (cfg->mac && !parse_mac(cfg->mac, "mac", n, nic->mac, err))
		return false;
	if (whole->instance && !cfg->wire_mac)
		derive_mac(whole->instance, n, p->wire_mac[n]);
	else if (cfg->wire_mac ? !strcmp(cfg->wire_mac, "random") : !cfg->mac)
		net_mac_random(p->wire_mac[n]);
	else if (!cfg->wire_mac)
		memcpy(p->wire_mac[n], nic->mac, NET_MAC_SIZE);
	else if (!parse_mac(cfg->wire_mac, "wire", n, p->wire_mac[n], err))
		return false;
	if (cfg->romfile) {
		p->rom[n] = read_rom(cfg->romfile, &nic->rom_size, err);
		if (!p->rom[n]) {
			error_prefix(err, "--nic romfile=%s", cfg->romfile);
			return false;
		}
		nic->rom = p->rom[n];
	}
	return true;
}

bool net_parts_read(struct net_parts *p, const struct gannet_config *cfg,
		    const struct restore *restore, struct error *err)
{
	if (cfg->nics > GANNET_NICS) {
		error_set(err, "%u network cards; there is room for %d", cfg->nics, GANNET_NICS);
		return false;
	}
	if (cfg->ip && !cfg->nics) {
		error_set(err, "--ip %s: there is no network card; add --net", cfg->ip);
		return false;
	}
	for (unsigned i = 0; i < cfg->nics; i++) {
		if (!read_nic(p, i, cfg, err) || !read_ip(p, i, cfg, err) || (restore && !make_rom(p, i, restore, err)))
			return false;
		for (unsigned k = 0; k < i; k++) {
			if (memcmp(p->nic[i].mac, p->nic[k].mac, NET_MAC_SIZE))
				continue;
			error_set(err, "--nic mac=%s: another card has that address already",
				  cfg->nic[i].mac ? cfg->nic[i].mac : cfg->nic[k].mac);
			return false;
		}
	}
	return true;
}

void net_parts_finish(struct net_parts *p)
{
	for (unsigned i = 0; i < GANNET_NICS; i++)
		free(p->rom[i]);
}

/* ---- making and unmaking ---- */

static void port_notify(void *opaque, const char *text)
{
	struct gannet *g = opaque;

	g->on_path++;
	if (g->notify)
		g->notify(g->notify_opaque, text);
	g->on_path--;
}

bool net_path_free(const struct gannet *g, struct error *err)
{
	if (g->on_path)
		error_set(err, "not from within notify, or a peer's send or close; gannet_call() does it soon");
	return !g->on_path;
}

static bool add_tap(struct gannet *g, struct net_port *port, const char *stage, const char *side,
		    struct error *err)
{
	struct net_stage *tap;
	char name[32];

	if (!g->capture)
		return true;
	snprintf(name, sizeof(name), "net%u %s", port->index, side);
	tap = capture_tap_create(g->capture, stage, name, err);
	if (!tap)
		return false;
	net_port_add_stage(port, tap);
	return true;
}

/* What is told of a card's backend. */
static void remember_url(struct gannet *g, unsigned n, const char *url)
{
	char shown[512];

	free(g->url[n]);
	g->url[n] = NULL;
	if (!url)
		return;
	backend_url_shown(url, shown, sizeof(shown));
	g->url[n] = strdup(shown);
}

static bool add_stage(struct net_port *port, struct net_stage *stage, struct error *err)
{
	if (stage)
		net_port_add_stage(port, stage);
	else
		error_set(err, "out of memory");
	return stage != NULL;
}

/* What learns comes first: it must see the guest's own addresses. */
static bool add_translators(struct net_port *port, const struct ip_rule *rule, struct error *err)
{
	struct net_stage *announcer = net_announcer_create(port->loop);

	return add_stage(port, announcer, err) &&
	       add_stage(port, mac_translator_create(), err) &&
	       add_stage(port, ip_translator_create(rule, announcer), err);
}

static bool make_port(struct gannet *g, unsigned n, struct net_parts *p,
		      const struct gannet_nic *cfg, struct error *err)
{
	struct net_port *port = &g->port[n];
	struct net_backend *backend;

	net_port_init(port, g->machine->loop, &g->machine->trace, n);
	g->ports = n + 1;
	port->notify = port_notify;
	port->notify_opaque = g;
	memcpy(port->guest_mac, p->nic[n].mac, NET_MAC_SIZE);
	memcpy(port->wire_mac, p->wire_mac[n], NET_MAC_SIZE);
	p->nic[n].port = port;
	if (!add_tap(g, port, "capture-guest", "guest", err) ||
	    !add_translators(port, &p->ip[n], err) ||
	    !add_tap(g, port, "capture-wire", "wire", err))
		return false;
	if (!cfg->net)
		return true;
	backend = backend_open(&g->backend_env, port, cfg->net, err);
	if (backend) {
		net_port_set_backend(port, backend);
		remember_url(g, n, cfg->net);
	}
	return backend != NULL;
}

bool net_create(struct gannet *g, struct net_parts *p, const struct gannet_config *cfg,
		struct error *err)
{
	struct capture_config capture = {
		.path = cfg->capture,
		.rotate_bytes = cfg->capture_rotate, .rotate_files = cfg->capture_files,
	};

	if (cfg->capture) {
		g->capture = capture_create(g->machine->loop, &capture, err);
		if (!g->capture) {
			error_prefix(err, "--capture %s", cfg->capture);
			return false;
		}
	}
	for (unsigned i = 0; i < cfg->nics; i++) {
		if (!make_port(g, i, p, &cfg->nic[i], err))
			return false;
	}
	return true;
}

void net_finish(struct gannet *g)
{
	for (unsigned i = 0; i < g->ports; i++) {
		net_port_finish(&g->port[i]);
		remember_url(g, i, NULL);
	}
	g->ports = 0;
	capture_destroy(g->capture);
	g->capture = NULL;
}

/* ---- a program as backend ---- */

struct peer {
	struct net_backend base;
	struct gannet *gannet;   /* borrowed */
	struct gannet_net_peer ops;
	void *opaque;
	struct frame_queue *in;  /* what the program injects */
	struct watch *watch;
	struct net_counter counter[2];
};

enum { PEER_SENT, PEER_RECEIVED };

static void peer_deliver(struct peer *p)
{
	const struct frame *f;

	for (unsigned i = 0; i < PEER_BATCH; i++) {
		f = frame_queue_peek(p->in);
		if (!f) {
			if (frame_queue_arm(p->in))
				return;
			continue;
		}
		if (!net_port_can_receive(p->base.port)) {
			watch_set(p->watch, 0); /* until peer_readable() */
			return;
		}
		net_count(&p->counter[PEER_RECEIVED]);
		net_port_receive(p->base.port, f->data, f->len);
		frame_queue_pop(p->in);
	}
	/* The descriptor is still readable: the loop comes back after others had their turn. */
}

static void peer_ready(void *opaque, unsigned events)
{
	(void)events;
	peer_deliver(opaque);
}

static void peer_readable(struct net_backend *b)
{
	struct peer *p = container_of(b, struct peer, base);

	watch_set(p->watch, LOOP_READ);
}

static void peer_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	struct peer *p = container_of(b, struct peer, base);

	net_count(&p->counter[PEER_SENT]);
	p->gannet->on_path++;
	p->ops.send(p->opaque, frame, len);
	p->gannet->on_path--;
}

static void peer_close(struct net_backend *b)
{
	struct peer *p = container_of(b, struct peer, base);

	loop_unwatch(p->watch);
	/* First: the program's other threads may be at gannet_net_inject() until it returns. */
	p->gannet->on_path++;
	if (p->ops.close)
		p->ops.close(p->opaque);
	p->gannet->on_path--;
	frame_queue_destroy(p->in);
	free(p);
}

static const struct net_backend_ops peer_ops = {
	.name = "peer", .send = peer_send, .readable = peer_readable, .close = peer_close,
};

static bool explain(const struct error *err, char *why, size_t why_size)
{
	if (why)
		snprintf(why, why_size, "%s", err->text);
	return false;
}

static struct net_port *find_port(const struct gannet *g, unsigned n, struct error *err)
{
	if (n < g->ports)
		return (struct net_port *)&g->port[n];
	error_set(err, "net%u: there is no such card; this machine has %u", n, g->ports);
	return NULL;
}

bool gannet_net_attach(struct gannet *g, unsigned n, const struct gannet_net_peer *ops,
		       void *opaque, char *why, size_t why_size)
{
	struct error err = { "" };
	struct net_port *port = find_port(g, n, &err);
	struct peer *p;

	if (!port || !net_path_free(g, &err))
		return explain(&err, why, why_size);
	p = calloc(1, sizeof(*p));
	error_set(&err, "out of memory");
	if (!p)
		return explain(&err, why, why_size);
	p->gannet = g;
	p->ops = *ops;
	p->opaque = opaque;
	p->counter[PEER_SENT].name = "sent";
	p->counter[PEER_RECEIVED].name = "received";
	p->base = (struct net_backend){ &peer_ops, port, { p->counter, ARRAY_SIZE(p->counter) } };
	p->in = frame_queue_create(PEER_QUEUE_BYTES, &err);
	if (p->in)
		p->watch = loop_watch(port->loop, frame_queue_fd(p->in), LOOP_READ, peer_ready, p, &err);
	if (!p->watch) {
		frame_queue_destroy(p->in);
		free(p);
		return explain(&err, why, why_size);
	}
	frame_queue_arm(p->in);
	net_port_set_backend(port, &p->base);
	remember_url(g, n, NULL);
	return true;
}

bool gannet_net_inject(struct gannet *g, unsigned n, const uint8_t *frame, size_t len)
{
	struct net_backend *b = n < g->ports ? g->port[n].backend : NULL;

	return b && b->ops == &peer_ops && len <= NET_FRAME_MAX &&
	       frame_queue_push(container_of(b, struct peer, base)->in, frame, len, 0);
}

/* ---- looking and switching ---- */

bool gannet_net_open(struct gannet *g, unsigned n, const char *url, char *why, size_t why_size)
{
	struct error err = { "" };
	struct net_port *port = find_port(g, n, &err);
	struct net_backend *b = NULL;

	if (port && net_path_free(g, &err))
		b = backend_open(&g->backend_env, port, url, &err);
	if (!b)
		return explain(&err, why, why_size);
	net_port_set_backend(port, b);
	remember_url(g, n, url);
	return true;
}

void gannet_net_link(struct gannet *g, unsigned n, bool up)
{
	if (n < g->ports)
		net_port_set_link(&g->port[n], up);
}

bool gannet_net_ip(struct gannet *g, unsigned n, const char *rule, char *why, size_t why_size)
{
	struct error err = { "" };
	struct net_port *port = find_port(g, n, &err);
	struct ip_rule r;

	if (!port || !ip_rule_parse(rule, &r, &err))
		return explain(&err, why, why_size);
	ip_translator_set(net_port_find_stage(port, "translate-ip"), &r);
	return true;
}

bool gannet_net_announce(struct gannet *g, unsigned n)
{
	if (n >= g->ports)
		return false;
	net_announce(net_port_find_stage(&g->port[n], "announce"));
	return true;
}

bool gannet_net_mac(const struct gannet *g, unsigned n, bool wire, uint8_t mac[6])
{
	if (n >= g->ports)
		return false;
	memcpy(mac, wire ? g->port[n].wire_mac : g->port[n].guest_mac, NET_MAC_SIZE);
	return true;
}

static void each_of(const char *part, const struct net_counters *c,
		    void (*each)(void *opaque, const char *part, const char *name, uint64_t value),
		    void *opaque)
{
	for (unsigned i = 0; i < c->count; i++)
		each(opaque, part, c->item[i].name, net_counter_read(&c->item[i]));
}

bool gannet_net_counters(const struct gannet *g, unsigned n,
			 void (*each)(void *opaque, const char *part, const char *name,
				      uint64_t value),
			 void *opaque)
{
	const struct net_port *port = n < g->ports ? &g->port[n] : NULL;

	if (!port)
		return false;
	each(opaque, "port", "guest-sent-frames", port->guest[NET_TO_WIRE].frames);
	each(opaque, "port", "guest-sent-bytes", port->guest[NET_TO_WIRE].bytes);
	each(opaque, "port", "guest-received-frames", port->guest[NET_TO_GUEST].frames);
	each(opaque, "port", "guest-received-bytes", port->guest[NET_TO_GUEST].bytes);
	each(opaque, "port", "wire-sent-frames", port->wire[NET_TO_WIRE].frames);
	each(opaque, "port", "wire-sent-bytes", port->wire[NET_TO_WIRE].bytes);
	each(opaque, "port", "wire-received-frames", port->wire[NET_TO_GUEST].frames);
	each(opaque, "port", "wire-received-bytes", port->wire[NET_TO_GUEST].bytes);
	each_of("port", &port->counters, each, opaque);
	if (port->nic)
		each_of(port->nic->ops->name, &port->nic->counters, each, opaque);
	for (const struct net_stage *s = port->stages[NET_TO_WIRE]; s; s = s->next[NET_TO_WIRE])
		each_of(s->ops->name, &s->counters, each, opaque);
	if (port->backend)
		each_of(port->backend->ops->name, &port->backend->counters, each, opaque);
	return true;
}

struct printing {
	FILE *out;
	unsigned n;
};

static void print_counter(void *opaque, const char *part, const char *name, uint64_t value)
{
	struct printing *p = opaque;

	if (value)
		fprintf(p->out, "net%u %s %s %" PRIu64 "\n", p->n, part, name, value);
}

void net_stats(const struct gannet *g, FILE *out)
{
	for (unsigned i = 0; i < g->ports; i++) {
		const struct net_port *port = &g->port[i];
		struct printing p = { out, i };
		char guest[NET_MAC_TEXT_SIZE], wire[NET_MAC_TEXT_SIZE], status[256] = "";

		fprintf(out, "net%u guest %s wire %s\n", i, net_mac_format(guest, port->guest_mac),
			net_mac_format(wire, port->wire_mac));
		if (port->backend && port->backend->ops->status)
			port->backend->ops->status(port->backend, status, sizeof(status));
		if (*status)
			fprintf(out, "net%u %s: %s\n", i, port->backend->ops->name, status);
		gannet_net_counters(g, i, print_counter, &p);
	}
}

const char *gannet_backend(unsigned n, const char **usage, const char **help)
{
	const struct backend_kind *k = backend_kinds();
	unsigned i = 0;

	while (i < n && k[i].scheme)
		i++;
	if (usage)
		*usage = k[i].usage;
	if (help)
		*help = k[i].help;
	return k[i].scheme;
}
