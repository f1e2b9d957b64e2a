/* A port with a card that only remembers, for tests of stages and backends. */
#ifndef GANNET_TESTS_UNIT_NET_WORLD_H
#define GANNET_TESTS_UNIT_NET_WORLD_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/loop.h"
#include "core/net.h"
#include "core/util.h"

enum { NET_WORLD_FRAMES = 256, NET_WORLD_NOTES = 32 };

struct net_world_frame {
	size_t len;
	uint8_t data[NET_FRAME_MAX];
};

/* Big: allocate it, or make it static in a test program. */
struct net_world {
	struct trace trace;
	struct loop *loop;
	struct net_port port;
	struct net_nic nic;
	bool full;       /* the card says "not now" */
	unsigned frames; /* received in all; frame[] keeps the first of them */
	unsigned writable, carrier_changes;
	struct net_world_frame frame[NET_WORLD_FRAMES];
	unsigned notes;
	char note[NET_WORLD_NOTES][512];
};

static inline void net_world_kick(void *opaque)
{
	(void)opaque;
}

static inline bool net_world_can_receive(struct net_nic *nic)
{
	return !container_of(nic, struct net_world, nic)->full;
}

static inline void net_world_receive(struct net_nic *nic, const uint8_t *frame, size_t len)
{
	struct net_world *w = container_of(nic, struct net_world, nic);

	ck_assert_uint_le(len, NET_FRAME_MAX);
	if (w->frames < NET_WORLD_FRAMES) {
		w->frame[w->frames].len = len;
		memcpy(w->frame[w->frames].data, frame, len);
	}
	w->frames++;
}

static inline void net_world_writable(struct net_nic *nic)
{
	container_of(nic, struct net_world, nic)->writable++;
}

static inline void net_world_carrier(struct net_nic *nic, bool up)
{
	(void)up;
	container_of(nic, struct net_world, nic)->carrier_changes++;
}

static inline void net_world_notify(void *opaque, const char *text)
{
	struct net_world *w = opaque;

	if (w->notes < NET_WORLD_NOTES)
		snprintf(w->note[w->notes], sizeof(w->note[0]), "%s", text);
	w->notes++;
}

static const struct net_nic_ops net_world_nic_ops = {
	.name = "test-nic", .can_receive = net_world_can_receive, .receive = net_world_receive,
	.writable = net_world_writable, .carrier = net_world_carrier,
};

static inline void net_world_init(struct net_world *w)
{
	struct error err = { "" };

	memset(w, 0, sizeof(*w));
	w->trace.out = stderr;
	w->loop = loop_create(net_world_kick, NULL, &err);
	ck_assert_msg(w->loop != NULL, "%s", err.text);
	loop_resume(w->loop);
	net_port_init(&w->port, w->loop, &w->trace, 0);
	w->port.notify = net_world_notify;
	w->port.notify_opaque = w;
	w->nic.ops = &net_world_nic_ops;
	net_port_set_nic(&w->port, &w->nic);
	net_mac_parse("52:54:00:12:34:56", w->port.guest_mac);
	net_mac_parse("02:aa:bb:cc:dd:ee", w->port.wire_mac);
}

static inline void net_world_finish(struct net_world *w)
{
	net_port_finish(&w->port);
	loop_destroy(w->loop);
}

/* Runs the loop until @done says so; false after @ms milliseconds. */
static inline bool net_world_until(struct net_world *w, bool (*done)(void *opaque), void *opaque,
				   unsigned ms)
{
	struct timespec pause = { 0, 1000000 };

	for (unsigned waited = 0; waited < ms; waited++) {
		loop_run(w->loop);
		if (done(opaque))
			return true;
		nanosleep(&pause, NULL);
	}
	loop_run(w->loop);
	return done(opaque);
}

/* The value of a counter by name; fails the test if there is none. */
static inline uint64_t net_world_counter(const struct net_counters *c, const char *name)
{
	for (unsigned i = 0; i < c->count; i++) {
		if (!strcmp(c->item[i].name, name))
			return net_counter_read(&c->item[i]);
	}
	ck_abort_msg("no counter %s", name);
	return 0;
}

#endif
