/* loopback: a learning switch inside the machine.
 *
 * "loopback:" joins the cards of one machine. There is nothing between them but a
 * call: a frame sent by one is received by the others before the send returns. A card
 * that is full makes the sender wait (lan.h). "loopback:NAME" is loopback_shared.c.
 */
#include <stdlib.h>

#include "backends/backend.h"
#include "backends/lan.h"
#include "core/util.h"

struct station;

struct net_switch {
	struct lan_table table;
	struct station *station[LAN_MEMBERS];
	unsigned count;
	unsigned turn; /* who was served first the last time */
	bool busy;
};

struct station {
	struct net_backend base;
	struct lan_peer peer; /* as the others see it */
	struct lan lan;
	struct net_switch *sw;
	struct backend_env *env;
};

static struct station *station_of(struct net_backend *b)
{
	return container_of(b, struct station, base);
}

static bool station_take(struct lan_peer *p, const uint8_t *frame, size_t len)
{
	struct station *s = container_of(p, struct station, peer);

	if (!net_port_can_receive(s->base.port))
		return false;
	net_port_receive(s->base.port, frame, len);
	return true;
}

static bool station_can_send(struct net_backend *b)
{
	return lan_can_send(&station_of(b)->lan);
}

static void station_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	lan_send(&station_of(b)->lan, frame, len);
}

static void station_readable(struct net_backend *b)
{
	struct net_switch *sw = station_of(b)->sw;
	unsigned first = ++sw->turn;

	for (unsigned i = 0; i < LAN_MEMBERS; i++) {
		struct station *s = sw->station[(first + i) % LAN_MEMBERS];

		if (s && &s->base != b)
			lan_flush(&s->lan);
	}
}

static void station_status(struct net_backend *b, char *text, size_t size)
{
	lan_status(&station_of(b)->lan, "loopback", text, size);
}

static void station_close(struct net_backend *b)
{
	struct station *s = station_of(b);
	struct net_switch *sw = s->sw;

	sw->station[s->lan.self] = NULL;
	sw->count--;
	for (unsigned i = 0; i < LAN_MEMBERS; i++) {
		if (sw->station[i])
			lan_remove(&sw->station[i]->lan, s->lan.self, 0);
	}
	lan_forget(&sw->table, s->lan.self);
	if (!sw->count) {
		s->env->lan = NULL;
		free(sw);
	}
	lan_finish(&s->lan);
	free(s);
}

static const struct net_backend_ops station_ops = {
	.name = "loopback", .can_send = station_can_send, .send = station_send,
	.readable = station_readable, .close = station_close, .status = station_status,
};

static void introduce(struct net_switch *sw, struct station *s)
{
	for (unsigned i = 0; i < LAN_MEMBERS; i++) {
		if (!sw->station[i])
			continue;
		lan_add(&sw->station[i]->lan, s->lan.self, &s->peer);
		lan_add(&s->lan, i, &sw->station[i]->peer);
	}
	sw->station[s->lan.self] = s;
	sw->count++;
}

static struct net_backend *station_open(struct backend_env *env, struct net_port *port,
					const struct lan_options *o, struct error *err)
{
	struct net_switch *sw = env->lan ? env->lan : calloc(1, sizeof(*sw));
	struct station *s = calloc(1, sizeof(*s));
	unsigned self = 0;

	while (sw && self < LAN_MEMBERS && sw->station[self])
		self++;
	if (!sw || !s) {
		error_set(err, "out of memory");
	} else if (self == LAN_MEMBERS) {
		error_set(err, "%d cards are on it already; give the others loopback:NAME",
			  LAN_MEMBERS);
	} else if (lan_init(&s->lan, port, &sw->table, &sw->busy, self, o, err)) {
		s->base = (struct net_backend){ &station_ops, port,
						{ s->lan.counter, LAN_COUNTERS } };
		s->peer = (struct lan_peer){ station_take, -1, false };
		s->sw = sw;
		s->env = env;
		introduce(sw, s);
		env->lan = sw;
		return &s->base;
	}
	free(s);
	if (!env->lan)
		free(sw);
	return NULL;
}

struct net_backend *loopback_open(struct backend_env *env, struct net_port *port,
				  struct backend_url *url, struct error *err)
{
	struct lan_options o = { .carrier = false };

	if (!url_bool(url, "carrier", &o.carrier, err) || !impair_parse(url, &o.impair, err))
		return NULL;
	return url->body[0] ? loopback_shared_open(port, url, &o, err) :
			      station_open(env, port, &o, err);
}
