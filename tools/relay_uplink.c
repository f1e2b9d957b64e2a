/* An uplink: a port of the switch whose other end is a backend of `gannet --net`.
 *
 *	switch -> out queue -> net_port -> backend        (the uplink's thread)
 *	switch <- in queue  <- net_port <- backend
 *
 * Backends live in a loop (core/loop.h), libwebsockets' sockets in its own; the two
 * threads share two frame queues and the text of the status. A capture is an uplink
 * that only listens: a tap in front of a backend that takes everything.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "core/frame_queue.h"
#include "core/loop.h"
#include "core/util.h"
#include "tools/relay_priv.h"
#include "translate/capture.h"

enum { QUEUE_BYTES = 1 << 20, OUT_BATCH = 256 };

struct relay_uplink {
	const struct relay *relay;
	int port_of_switch;
	char url[128];
	struct trace trace;
	struct loop *loop;
	struct net_port port;
	struct net_nic nic;
	struct backend_env env;
	struct capture *capture;
	struct frame_queue *out, *in;
	struct watch *out_ready, *in_room;
	struct timer tick;
	pthread_t thread;
	bool started;
	bool stop;        /* atomic */
	struct net_counter sent, sent_bytes, full; /* the relay's thread writes them */
	struct net_counter got, got_bytes, in_full; /* the uplink's */
	pthread_mutex_t lock;
	char status[256]; /* under lock */
	bool up;
};

static void no_kick(void *opaque)
{
	(void)opaque;
}

static void notify(void *opaque, const char *text)
{
	struct relay_uplink *u = opaque;

	relay_log(u->relay, "uplink", NULL, "%s: %s", u->url, text);
}

/* ---- the uplink's thread ---- */

static bool nic_can_receive(struct net_nic *nic)
{
	struct relay_uplink *u = container_of(nic, struct relay_uplink, nic);

	if (frame_queue_room(u->in, NET_FRAME_MAX))
		return true;
	return !frame_queue_want_room(u->in);
}

static void nic_receive(struct net_nic *nic, const uint8_t *frame, size_t len)
{
	struct relay_uplink *u = container_of(nic, struct relay_uplink, nic);

	if (!frame_queue_push(u->in, frame, len, 0)) {
		net_count(&u->in_full);
		return;
	}
	net_count(&u->got);
	net_count_add(&u->got_bytes, len);
}

static void drain(struct relay_uplink *u, unsigned frames)
{
	const struct frame *f;

	/* The queue's descriptor stays readable until it is armed, so a backend that
	 * is full must also stop us from looking at it. */
	do {
		while ((f = frame_queue_peek(u->out))) {
			if (!net_port_can_send(&u->port)) {
				watch_set(u->out_ready, 0);
				return;
			}
			if (!frames--) {
				watch_set(u->out_ready, LOOP_READ);
				return;
			}
			net_port_send(&u->port, f->data, f->len);
			frame_queue_pop(u->out);
		}
	} while (!frame_queue_arm(u->out));
	watch_set(u->out_ready, LOOP_READ);
}

static void nic_writable(struct net_nic *nic)
{
	struct relay_uplink *u = container_of(nic, struct relay_uplink, nic);

	/* Not from here: the backend may be in the middle of its own business. */
	watch_set(u->out_ready, LOOP_READ);
}

static const struct net_nic_ops nic_ops = {
	.name = "relay", .can_receive = nic_can_receive, .receive = nic_receive,
	.writable = nic_writable,
};

static void out_ready(void *opaque, unsigned events)
{
	(void)events;
	drain(opaque, OUT_BATCH); /* then the backend's sockets have their turn */
}

static void in_room(void *opaque, unsigned events)
{
	struct relay_uplink *u = opaque;

	(void)events;
	frame_queue_room_seen(u->in);
	net_port_readable(&u->port);
}

static void tick(void *opaque)
{
	struct relay_uplink *u = opaque;
	struct net_backend *b = u->port.backend;
	char status[sizeof(u->status)] = "";

	if (b && b->ops->status)
		b->ops->status(b, status, sizeof(status));
	pthread_mutex_lock(&u->lock);
	memcpy(u->status, status, sizeof(status));
	u->up = net_port_up(&u->port);
	pthread_mutex_unlock(&u->lock);
	timer_arm(&u->tick, loop_now(u->loop) + NS_PER_S);
}

static void *run(void *opaque)
{
	struct relay_uplink *u = opaque;

	loop_resume(u->loop);
	tick(u);
	while (!__atomic_load_n(&u->stop, __ATOMIC_ACQUIRE))
		loop_wait(u->loop);
	/* What the switch sent before the end is still in the queue. */
	drain(u, UINT_MAX);
	return NULL;
}

/* ---- the relay's thread ---- */

static struct relay_uplink *create(const struct relay *r, const char *url, struct error *err)
{
	struct relay_uplink *u = calloc(1, sizeof(*u));

	if (!u) {
		error_set(err, "out of memory for an uplink");
		return NULL;
	}
	u->relay = r;
	u->port_of_switch = RELAY_NO_PORT;
	u->trace.out = stderr;
	u->in_full.name = "drop.relay-full";
	pthread_mutex_init(&u->lock, NULL);
	snprintf(u->url, sizeof(u->url), "%.*s", (int)strcspn(url, "?"), url);
	u->loop = loop_create(no_kick, NULL, err);
	u->out = u->loop ? frame_queue_create(QUEUE_BYTES, err) : NULL;
	u->in = u->out ? frame_queue_create(QUEUE_BYTES, err) : NULL;
	if (!u->in)
		goto fail;
	net_port_init(&u->port, u->loop, &u->trace, 0);
	u->port.notify = notify;
	u->port.notify_opaque = u;
	u->nic.ops = &nic_ops;
	u->nic.counters = (struct net_counters){ &u->in_full, 1 };
	net_port_set_nic(&u->port, &u->nic);
	timer_init(&u->tick, u->loop, "relay-uplink", tick, u);
	frame_queue_arm(u->out);
	u->out_ready = loop_watch(u->loop, frame_queue_fd(u->out), LOOP_READ, out_ready, u, err);
	u->in_room = u->out_ready ? loop_watch(u->loop, frame_queue_room_fd(u->in), LOOP_READ,
					       in_room, u, err) : NULL;
	if (u->in_room)
		return u;
fail:
	relay_uplink_close(u);
	return NULL;
}

static bool attach(struct relay_uplink *u, const char *url, struct error *err)
{
	struct net_backend *b = backend_open(&u->env, &u->port, url, err);

	if (!b)
		return false;
	net_port_set_backend(&u->port, b);
	return true;
}

struct relay_uplink *relay_uplink_open(const struct relay *r, const char *url, struct error *err)
{
	struct relay_uplink *u = create(r, url, err);

	/* A network card has an address even if it never sends with it. */
	if (u) {
		net_mac_random(u->port.guest_mac);
		memcpy(u->port.wire_mac, u->port.guest_mac, NET_MAC_SIZE);
	}
	if (u && !attach(u, url, err)) {
		relay_uplink_close(u);
		u = NULL;
	}
	return u;
}

struct relay_uplink *relay_uplink_capture(const struct relay *r, const char *path,
					  struct error *err)
{
	const struct capture_config cfg = { .path = path };
	struct relay_uplink *u = create(r, "capture", err);
	struct net_stage *tap;

	if (!u)
		return NULL;
	u->capture = capture_create(u->loop, &cfg, err);
	tap = u->capture ? capture_tap_create(u->capture, "capture-wire", "relay", err) : NULL;
	if (!tap)
		goto fail;
	net_port_add_stage(&u->port, tap);
	if (attach(u, "none:", err))
		return u;
fail:
	relay_uplink_close(u);
	return NULL;
}

bool relay_uplink_start(struct relay_uplink *u, struct error *err)
{
	int rc = pthread_create(&u->thread, NULL, run, u);

	if (rc)
		error_set(err, "cannot start a thread for %s: %s", u->url, strerror(rc));
	u->started = !rc;
	return !rc;
}

void relay_uplink_close(struct relay_uplink *u)
{
	if (!u)
		return;
	if (u->started) {
		__atomic_store_n(&u->stop, true, __ATOMIC_RELEASE);
		loop_kick(u->loop);
		pthread_join(u->thread, NULL);
	}
	if (u->nic.ops)
		net_port_finish(&u->port);
	if (u->capture)
		capture_destroy(u->capture);
	loop_unwatch(u->out_ready);
	loop_unwatch(u->in_room);
	loop_destroy(u->loop);
	frame_queue_destroy(u->out);
	frame_queue_destroy(u->in);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

void relay_uplink_send(struct relay_uplink *u, const uint8_t *frame, size_t len)
{
	if (!u || !frame_queue_push(u->out, frame, len, 0)) {
		if (u)
			net_count(&u->full);
		return;
	}
	net_count(&u->sent);
	net_count_add(&u->sent_bytes, len);
}

struct frame_queue *relay_uplink_queue(struct relay_uplink *u)
{
	return u->in;
}

int relay_uplink_port(const struct relay_uplink *u)
{
	return u->port_of_switch;
}

void relay_uplink_set_port(struct relay_uplink *u, int port)
{
	u->port_of_switch = port;
}

void relay_uplink_info(struct relay_uplink *u, struct relay_uplink_info *info)
{
	memset(info, 0, sizeof(*info));
	memcpy(info->url, u->url, sizeof(info->url));
	pthread_mutex_lock(&u->lock);
	memcpy(info->status, u->status, sizeof(info->status));
	info->up = u->up;
	pthread_mutex_unlock(&u->lock);
	info->frames_in = net_counter_read(&u->got);
	info->bytes_in = net_counter_read(&u->got_bytes);
	info->frames_out = net_counter_read(&u->sent);
	info->bytes_out = net_counter_read(&u->sent_bytes);
	info->drop_full = net_counter_read(&u->full);
	info->drop_in_full = net_counter_read(&u->in_full);
}
