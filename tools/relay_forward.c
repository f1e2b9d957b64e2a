/* From a message to the queues it belongs in, and from a queue to the socket.
 *
 * A message that came in one piece is copied once, into a buffer that all its
 * receivers share, and once more by each of them into the batch that goes to the
 * socket in one system call. Receivers are never waited for.
 */
#include <string.h>
#include <time.h>

#include "core/frame_queue.h"
#include "core/util.h"
#include "tools/relay_priv.h"

enum {
	UPLINK_FRAMES = 256,  /* in a row, before the sockets have their turn */
	WS_BINARY_FIN = 0x82, /* RFC 6455 5.2 */
	WS_LENGTH_16 = 126,
	WS_HEADER_MAX = 4,
};

int64_t relay_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static void count(struct relay_client *c, unsigned what, uint64_t n)
{
	c->count[what] += n;
	c->relay->count[what] += n;
}

static void want_write(struct relay_client *c)
{
	if (c->armed || c->dying)
		return;
	c->armed = true;
	lws_callback_on_writable(c->wsi);
}

static void deliver(struct relay_client *c, struct relay_frame *f, int64_t now)
{
	if (relay_queue_push(c->relay->pool, &c->queue, f, c->relay->options.queue, now))
		want_write(c);
	else
		count(c, RELAY_OUT_QUEUE_FULL, 1);
}

static struct relay_uplink *uplink_at(struct relay *r, int port)
{
	for (unsigned i = 0; i < r->uplinks; i++) {
		if (relay_uplink_port(r->uplink[i]) == port)
			return r->uplink[i];
	}
	return NULL;
}

static void forward(struct relay *r, struct relay_frame *f, enum relay_verdict verdict, int from,
		    int to, int64_t now)
{
	if (r->mirror)
		relay_uplink_send(r->mirror, f->data, f->len);
	if (verdict == RELAY_UNICAST) {
		if (r->by_port[to])
			deliver(r->by_port[to], f, now);
		else
			relay_uplink_send(uplink_at(r, to), f->data, f->len);
		return;
	}
	for (unsigned i = 0; i < r->clients; i++) {
		if (r->client[i]->port != from)
			deliver(r->client[i], f, now);
	}
	for (unsigned i = 0; i < r->uplinks; i++) {
		if (relay_uplink_port(r->uplink[i]) != from)
			relay_uplink_send(r->uplink[i], f->data, f->len);
	}
}

/* Once a client: the rest is in its counters. */
static void tell(struct relay_client *c, enum relay_verdict why, const uint8_t *frame)
{
	struct relay *r = c->relay;
	char mac[NET_MAC_TEXT_SIZE];

	if (why == RELAY_DROP_MAC_TAKEN && !c->told_taken) {
		int port = relay_switch_owner(r->sw, frame + NET_MAC_SIZE, relay_now());
		struct relay_client *owner = port >= 0 ? r->by_port[port] : NULL;

		c->told_taken = true;
		if (owner)
			relay_log(r, "refused", c, "%s belongs to client %u (%s)",
				  net_mac_format(mac, frame + NET_MAC_SIZE), owner->id,
				  owner->address);
		else
			relay_log(r, "refused", c, "%s belongs to an uplink",
				  net_mac_format(mac, frame + NET_MAC_SIZE));
	} else if (why == RELAY_DROP_MAC_LIMIT && !c->told_limit) {
		c->told_limit = true;
		relay_log(r, "refused", c, "%s would be its address number %u; see --macs",
			  net_mac_format(mac, frame + NET_MAC_SIZE),
			  (unsigned)r->options.macs + 1);
	}
}

/* A message is complete and in @f, which is ours to put back. */
static void input(struct relay_client *c, struct relay_frame *f)
{
	struct relay *r = c->relay;
	enum relay_verdict verdict;
	int64_t now = relay_now();
	int to = RELAY_NO_PORT;

	if (!relay_bucket_take(&c->bucket, f->len, now)) {
		count(c, RELAY_IN_RATE, 1);
	} else {
		verdict = relay_switch_frame(r->sw, c->port, now, f->data, f->len, &to);
		if (verdict >= RELAY_DROP_RUNT) {
			count(c, RELAY_IN_DROP + verdict - RELAY_DROP_RUNT, 1);
			tell(c, verdict, f->data);
		} else {
			forward(r, f, verdict, c->port, to, now);
		}
	}
	relay_frame_put(r->pool, f);
}

/* The message is refused; its other pieces are still to come unless @final. */
static void skip(struct relay_client *c, unsigned why, bool final)
{
	count(c, why, 1);
	relay_frame_put(c->relay->pool, c->partial);
	c->partial = NULL;
	c->skipping = !final;
}

/* Messages in pieces are put together in the largest buffers, which are few: a frame
 * that fits a smaller one moves there before it waits in queues. */
static struct relay_frame *fitted(struct relay_pool *pool, struct relay_frame *f)
{
	struct relay_frame *small = relay_frame_get(pool, f->len);

	if (!small || small->room >= f->room) {
		relay_frame_put(pool, small);
		return f;
	}
	memcpy(small->data, f->data, f->len);
	relay_frame_put(pool, f);
	return small;
}

void relay_receive(struct relay_client *c, const uint8_t *data, size_t len, bool first,
		   bool final, bool binary)
{
	struct relay_frame *f;

	if (first) {
		c->skipping = false;
		count(c, RELAY_FRAMES_IN, 1);
	}
	count(c, RELAY_BYTES_IN, len);
	if (c->skipping) {
		c->skipping = !final;
		return;
	}
	if (!binary) {
		skip(c, RELAY_IN_TEXT, final);
		return;
	}
	if (first && final && len < NET_HEADER_SIZE) {
		count(c, RELAY_IN_DROP, 1);
		return;
	}
	if ((c->partial ? c->partial->len : 0u) + len > NET_FRAME_MAX) {
		skip(c, RELAY_IN_DROP + RELAY_DROP_TOO_LONG - RELAY_DROP_RUNT, final);
		return;
	}
	if (!c->partial) {
		c->partial = relay_frame_get(c->relay->pool, final ? len : NET_FRAME_MAX);
		if (!c->partial) {
			skip(c, RELAY_IN_MEMORY, final);
			return;
		}
		c->partial->len = 0;
	}
	f = c->partial;
	memcpy(f->data + f->len, data, len);
	f->len = (uint16_t)(f->len + len);
	if (!final)
		return;
	c->partial = NULL;
	input(c, first ? f : fitted(c->relay->pool, f));
}

void relay_uplink_frames(struct relay *r, struct relay_uplink *u)
{
	struct frame_queue *q = relay_uplink_queue(u);
	int64_t now = relay_now();

	for (unsigned n = 0; n < UPLINK_FRAMES; n++) {
		const struct frame *in = frame_queue_peek(q);
		int from = relay_uplink_port(u), to = RELAY_NO_PORT;
		enum relay_verdict verdict;
		struct relay_frame *f;

		if (!in) {
			if (frame_queue_arm(q))
				return;
			continue;
		}
		verdict = relay_switch_frame(r->sw, from, now, in->data, in->len, &to);
		f = verdict < RELAY_DROP_RUNT ? relay_frame_get(r->pool, in->len) : NULL;
		if (f) {
			memcpy(f->data, in->data, in->len);
			forward(r, f, verdict, from, to, now);
			relay_frame_put(r->pool, f);
		} else {
			r->uplink_count[verdict < RELAY_DROP_RUNT ?
				 RELAY_IN_MEMORY : RELAY_IN_DROP + verdict - RELAY_DROP_RUNT]++;
		}
		frame_queue_pop(q);
	}
	/* The queue was not armed, so its descriptor still calls us. */
}

static size_t ws_header(uint8_t *to, size_t len)
{
	to[0] = WS_BINARY_FIN;
	if (len < WS_LENGTH_16) {
		to[1] = (uint8_t)len;
		return 2;
	}
	to[1] = WS_LENGTH_16;
	to[2] = (uint8_t)(len >> 8);
	to[3] = (uint8_t)len;
	return 4;
}

/* Frames with their headers, as many as go into one batch: one write, one TLS record
 * run. libwebsockets sends it as it is (LWS_WRITE_HTTP means "raw" here), and keeps
 * what the socket does not take, at most one batch. */
static size_t fill(struct relay_client *c, uint8_t *to)
{
	struct relay *r = c->relay;
	int64_t now = relay_now(), stale = (int64_t)r->options.stale * 1000000, stamp;
	const struct relay_frame *f;
	size_t n = 0;

	while ((f = relay_queue_peek(&c->queue, &stamp))) {
		if (now - stamp > stale) {
			count(c, RELAY_OUT_STALE, 1);
			relay_queue_pop(r->pool, &c->queue);
			continue;
		}
		if (n + WS_HEADER_MAX + f->len > RELAY_BATCH)
			break;
		n += ws_header(to + n, f->len);
		memcpy(to + n, f->data, f->len);
		n += f->len;
		count(c, RELAY_FRAMES_OUT, 1);
		count(c, RELAY_BYTES_OUT, f->len);
		relay_queue_pop(r->pool, &c->queue);
	}
	return n;
}

bool relay_transmit(struct relay_client *c)
{
	uint8_t *data = c->relay->scratch + LWS_PRE;
	size_t n;

	c->armed = false;
	if (c->ping_due) {
		c->ping_due = false;
		c->pinged = true;
		/* With a payload: libwebsockets 4.1 does not report an empty pong. */
		memcpy(data, "relay", 5);
		if (lws_write(c->wsi, data, 5, LWS_WRITE_PING) < 5)
			return false;
		if (c->queue.head)
			want_write(c);
		return true;
	}
	n = fill(c, data);
	if (n && lws_write(c->wsi, data, n, LWS_WRITE_HTTP) < (int)n)
		return false;
	if (c->queue.head)
		want_write(c);
	return true;
}
