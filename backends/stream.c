/* stream: frames over a stream socket, each behind its length (4 bytes, big-endian).
 *
 * That is the framing of QEMU's -netdev stream and socket and of passt. One peer at
 * a time: as a server the next one is accepted when the one before has gone, as a
 * client the connection is made again, at growing intervals.
 *
 * Everything happens in the machine's thread, and nothing blocks. Frames that come
 * in stay in the socket while the guest takes none, and the peer notices; frames
 * that the socket does not take wait in `tx`, and when that fills up the card waits.
 *
 * A length beyond NET_FRAME_MAX is skipped; one that no peer would send shows that
 * the two ends disagree about where frames begin, for which there is no cure but a
 * new connection.
 */
#include "backends/stream_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "backends/backend.h"
#include "core/loop.h"
#include "core/util.h"

enum {
	LENGTH_SIZE = 4,
	LENGTH_MAX = 1 << 20,   /* more means out of step */
	RX_SIZE = 128 << 10,
	RX_BATCH = 64,          /* frames before the guest's code goes on */
	TX_SIZE = 256 << 10,
	TX_FULL = TX_SIZE - 2 * (LENGTH_SIZE + NET_FRAME_MAX),
};

#define RETRY_MIN (NS_PER_S / 4)
#define RETRY_MAX (30 * NS_PER_S)
#define STEADY (5 * NS_PER_S) /* what held so long, or brought a frame, is tried quickly again */

enum {
	DROP_LONG, DROP_DOWN, DROP_FULL, DROP_LOST, DROP_CUT, CONNECTIONS, COUNTERS
};

struct stream {
	struct net_backend base;
	struct net_counter counter[COUNTERS];
	struct stream_address address;
	bool server, reconnect, carrier;

	int listen_fd, fd; /* -1: none */
	struct watch *listen_watch, *watch;
	bool connecting, told_down;
	bool heard;        /* this connection brought a frame */
	int failure;       /* errno of a send, dealt with outside of it; 0: none */
	int64_t since;     /* up or down */
	int64_t retry_ns;
	struct timer retry, more;

	uint8_t *rx;
	size_t rx_start, rx_end, rx_skip; /* bytes to pass over */
	bool starved, draining;

	uint8_t *tx;
	size_t tx_start, tx_used; /* a ring */
	size_t tx_left;           /* of the frame at tx_start: bytes not yet sent */
	unsigned tx_frames;
};

static struct stream *to_stream(struct net_backend *b)
{
	return container_of(b, struct stream, base);
}

static int64_t now(struct stream *s)
{
	return loop_now(s->base.port->loop);
}

static bool up(const struct stream *s)
{
	return s->fd >= 0 && !s->connecting;
}

static void stream_events(void *opaque, unsigned events);
static void stream_drain(struct stream *s);

static void watch_socket(struct stream *s)
{
	unsigned events = s->connecting ? LOOP_WRITE :
			  (s->starved ? 0 : LOOP_READ) | (s->tx_used ? LOOP_WRITE : 0);

	if (s->watch)
		watch_set(s->watch, events);
}

/* ---- the connection ---- */

static void connected(struct stream *s)
{
	bool again = net_counter_read(&s->counter[CONNECTIONS]) > 0 || s->told_down;

	s->connecting = false;
	stream_prepare(s->fd);
	net_count(&s->counter[CONNECTIONS]);
	if (s->server)
		net_port_notify(s->base.port, "stream:%s: a peer has connected", s->address.text);
	else if (again)
		net_port_notify(s->base.port, "stream:%s: connected%s", s->address.text,
				s->counter[CONNECTIONS].n > 1 ? " again" : "");
	s->told_down = s->heard = false;
	s->since = now(s);
	watch_socket(s);
	if (s->carrier)
		net_port_set_carrier(s->base.port, true);
	net_port_writable(s->base.port);
}

/* Takes over a socket that is connected or about to be. */
static bool adopt(struct stream *s, int fd, bool connecting)
{
	s->watch = loop_watch(s->base.port->loop, fd, connecting ? LOOP_WRITE : LOOP_READ,
			      stream_events, s, NULL);
	if (!s->watch) {
		close(fd);
		return false;
	}
	s->fd = fd;
	s->connecting = connecting;
	if (s->listen_watch)
		watch_set(s->listen_watch, 0); /* the next one waits in the backlog */
	if (!connecting)
		connected(s);
	return true;
}

/* Doubling, and up to half as much again, so that many clients do not come at once. */
static void retry_later(struct stream *s)
{
	uint32_t random = 0;
	int64_t jitter;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = 0;
	jitter = s->retry_ns / 2 * (random >> 16) >> 16;
	timer_arm(&s->retry, now(s) + MIN(s->retry_ns + jitter, RETRY_MAX));
	s->retry_ns = MIN(s->retry_ns * 2, RETRY_MAX);
}

/* Complete frames in the buffer that the guest has not taken are lost with the connection. */
static void lose_received(struct stream *s)
{
	size_t at = s->rx_start;

	while (s->rx_end - at >= LENGTH_SIZE) {
		uint32_t len;

		memcpy(&len, s->rx + at, sizeof(len));
		len = ntohl(len);
		if (s->rx_end - at - LENGTH_SIZE < len)
			break;
		at += LENGTH_SIZE + len;
		net_count(&s->counter[DROP_LOST]);
	}
	if (at < s->rx_end)
		net_count(&s->counter[DROP_CUT]);
	s->rx_start = s->rx_end = s->rx_skip = 0;
	s->starved = false;
}

static void disconnect(struct stream *s, const char *why)
{
	bool was_up = up(s);

	loop_unwatch(s->watch);
	s->watch = NULL;
	close(s->fd);
	s->fd = -1;
	s->connecting = false;
	s->failure = 0;
	net_count_add(&s->counter[DROP_LOST], s->tx_frames);
	s->tx_start = s->tx_used = s->tx_left = s->tx_frames = 0;
	lose_received(s);
	timer_disarm(&s->more);
	if (was_up && (s->heard || now(s) - s->since >= STEADY))
		s->retry_ns = RETRY_MIN;
	if (was_up) {
		s->since = now(s);
		if (s->carrier)
			net_port_set_carrier(s->base.port, false);
		net_port_writable(s->base.port); /* frames are counted and dropped now */
	}
	if (!s->told_down)
		net_port_notify(s->base.port, "stream:%s: %s%s", s->address.text, why,
				s->server ? "; waiting for the next peer" :
				s->reconnect ? "; trying again" : "; not trying again (reconnect=off)");
	s->told_down = true;
	if (s->server)
		watch_set(s->listen_watch, LOOP_READ);
	else if (s->reconnect)
		retry_later(s);
}

static void stream_accept(void *opaque, unsigned events)
{
	struct stream *s = opaque;
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0) {
		adopt(s, fd, false);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		/* Level triggered: the peer that waits would be reported for ever. */
		watch_set(s->listen_watch, 0);
		timer_arm(&s->retry, now(s) + RETRY_MIN);
	}
}

static void stream_retry(void *opaque)
{
	struct stream *s = opaque;
	bool pending;
	int fd;

	if (s->server) {
		watch_set(s->listen_watch, LOOP_READ);
		return;
	}
	fd = stream_connect(&s->address, &pending);
	if (fd < 0 || !adopt(s, fd, pending))
		retry_later(s);
}

/* ---- from the peer ---- */

/* Passes complete frames on; true if all of them went. */
static bool parse(struct stream *s)
{
	struct net_port *port = s->base.port;

	for (unsigned n = 0;; n++) {
		size_t have = s->rx_end - s->rx_start, skip = MIN(have, s->rx_skip);
		uint32_t len;

		s->rx_skip -= skip;
		s->rx_start += skip;
		have -= skip;
		if (have < LENGTH_SIZE)
			return true;
		memcpy(&len, s->rx + s->rx_start, sizeof(len));
		len = ntohl(len);
		if (len > LENGTH_MAX) {
			char why[96];

			snprintf(why, sizeof(why), "the peer announced a frame of %u bytes: out of step, disconnected",
				 len);
			disconnect(s, why);
			return false;
		}
		if (len > NET_FRAME_MAX) {
			net_count(&s->counter[DROP_LONG]);
			s->rx_start += LENGTH_SIZE;
			s->rx_skip = len;
			continue;
		}
		if (have < LENGTH_SIZE + len)
			return true;
		if (!net_port_can_receive(port)) {
			s->starved = true;
			return false;
		}
		if (n >= RX_BATCH) {
			timer_arm(&s->more, now(s));
			return false;
		}
		s->rx_start += LENGTH_SIZE + len;
		s->heard = true;
		net_port_receive(port, s->rx + s->rx_start - len, len);
	}
}

static void stream_drain(struct stream *s)
{
	if (s->draining || s->fd < 0)
		return;
	s->draining = true;
	s->starved = false;
	parse(s);
	s->draining = false;
	watch_socket(s);
}

static void stream_read(struct stream *s)
{
	ssize_t n;

	if (timer_armed(&s->more))
		return; /* the rest of the last batch first */
	/* What parse() leaves is less than a frame, so there is always room. */
	memmove(s->rx, s->rx + s->rx_start, s->rx_end - s->rx_start);
	s->rx_end -= s->rx_start;
	s->rx_start = 0;
	n = recv(s->fd, s->rx + s->rx_end, RX_SIZE - s->rx_end, MSG_DONTWAIT);
	if (n > 0) {
		s->rx_end += n;
		stream_drain(s);
	} else if (n == 0) {
		disconnect(s, "the peer has closed the connection");
	} else if (errno != EAGAIN && errno != EINTR) {
		disconnect(s, strerror(errno));
	}
}

static void stream_more(void *opaque)
{
	struct stream *s = opaque;

	if (s->carrier)
		net_port_set_carrier(s->base.port, up(s));
	if (s->failure)
		disconnect(s, strerror(s->failure));
	else
		stream_drain(s);
}

static void stream_readable(struct net_backend *b)
{
	stream_drain(to_stream(b));
}

/* ---- to the peer ---- */

/* The socket took @n bytes of what waits. */
static void tx_sent(struct stream *s, size_t n)
{
	s->tx_used -= n;
	while (n >= s->tx_left) {
		uint8_t length[LENGTH_SIZE];
		uint32_t len;

		n -= s->tx_left;
		s->tx_start = (s->tx_start + s->tx_left) % TX_SIZE;
		s->tx_left = 0;
		if (!--s->tx_frames) {
			s->tx_start = 0;
			return;
		}
		for (unsigned i = 0; i < LENGTH_SIZE; i++)
			length[i] = s->tx[(s->tx_start + i) % TX_SIZE];
		memcpy(&len, length, sizeof(len));
		s->tx_left = LENGTH_SIZE + ntohl(len);
	}
	s->tx_start = (s->tx_start + n) % TX_SIZE;
	s->tx_left -= n;
}

static void tx_put(struct stream *s, const void *data, size_t len)
{
	size_t at = (s->tx_start + s->tx_used) % TX_SIZE, first = MIN(len, TX_SIZE - at);

	memcpy(s->tx + at, data, first);
	memcpy(s->tx, (const uint8_t *)data + first, len - first);
	s->tx_used += len;
}

static void stream_flush(struct stream *s)
{
	while (s->tx_used) {
		size_t first = MIN(s->tx_used, TX_SIZE - s->tx_start);
		struct iovec iov[2] = {
			{ s->tx + s->tx_start, first }, { s->tx, s->tx_used - first },
		};
		struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
		ssize_t n = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				disconnect(s, strerror(errno));
			break;
		}
		tx_sent(s, n);
	}
	watch_socket(s);
	if (s->tx_used <= TX_FULL / 2)
		net_port_writable(s->base.port);
}

static bool stream_can_send(struct net_backend *b)
{
	struct stream *s = to_stream(b);

	return !up(s) || s->tx_used <= TX_FULL;
}

static void stream_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	struct stream *s = to_stream(b);
	uint32_t length = htonl(len);
	struct iovec iov[2] = { { &length, sizeof(length) }, { (void *)frame, len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	size_t whole = LENGTH_SIZE + len;
	ssize_t n = 0;

	if (!up(s) || s->failure) {
		net_count(&s->counter[DROP_DOWN]);
		return;
	}
	if (s->tx_used + whole > TX_SIZE) {
		net_count(&s->counter[DROP_FULL]);
		return;
	}
	if (!s->tx_used) {
		n = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n == (ssize_t)whole)
			return;
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			/* Not from within the card's send. */
			net_count(&s->counter[DROP_LOST]);
			s->failure = errno;
			timer_arm(&s->more, now(s));
			return;
		}
		n = MAX(n, 0);
		s->tx_left = whole - n;
	}
	s->tx_frames++;
	if (n < LENGTH_SIZE) {
		tx_put(s, (uint8_t *)&length + n, LENGTH_SIZE - n);
		tx_put(s, frame, len);
	} else {
		tx_put(s, frame + (n - LENGTH_SIZE), whole - n);
	}
	watch_socket(s);
}

/* ---- both ---- */

static void stream_events(void *opaque, unsigned events)
{
	struct stream *s = opaque;

	if (s->connecting) {
		socklen_t len = sizeof(int);
		int e = 0;

		if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0)
			e = errno;
		if (e)
			disconnect(s, strerror(e));
		else
			connected(s);
		return;
	}
	if (s->tx_used && events & (LOOP_WRITE | LOOP_HANGUP))
		stream_flush(s);
	/* A hang-up shows as the end of what can be read, after the last frame. */
	if (s->fd >= 0 && !s->starved && events & (LOOP_READ | LOOP_HANGUP))
		stream_read(s);
}

static void stream_status(struct net_backend *b, char *text, size_t size)
{
	struct stream *s = to_stream(b);
	const char *state = up(s) ? "connected" : s->server ? "waits for a peer" :
			    s->reconnect ? "tries to connect" : "disconnected";

	snprintf(text, size, "%s, %s for %lld s", s->address.text, state,
		 (long long)((now(s) - s->since) / NS_PER_S));
}

static void stream_close(struct net_backend *b)
{
	struct stream *s = to_stream(b);

	timer_disarm(&s->retry);
	timer_disarm(&s->more);
	loop_unwatch(s->watch);
	loop_unwatch(s->listen_watch);
	if (s->fd >= 0)
		close(s->fd);
	if (s->listen_fd >= 0)
		close(s->listen_fd);
	stream_unlink(&s->address);
	free(s->rx);
	free(s->tx);
	free(s);
}

static const struct net_backend_ops stream_ops = {
	.name = "stream", .can_send = stream_can_send, .send = stream_send,
	.readable = stream_readable, .close = stream_close, .status = stream_status,
};

static bool begin(struct stream *s, bool wait, struct error *err)
{
	struct loop *loop = s->base.port->loop;
	int fd;

	if (s->server) {
		s->listen_fd = stream_listen(&s->address, err);
		if (s->listen_fd < 0)
			return false;
		s->listen_watch = loop_watch(loop, s->listen_fd, LOOP_READ, stream_accept, s, err);
		if (!s->listen_watch)
			return false;
		net_port_notify(s->base.port, "stream:%s: waiting for a peer", s->address.text);
		return true;
	}
	fd = stream_connect_now(&s->address, err);
	if (fd >= 0) {
		if (adopt(s, fd, false))
			return true;
		error_set(err, "cannot watch the connection to %s", s->address.text);
		return false;
	}
	if (wait)
		return false;
	net_port_notify(s->base.port, "stream:%s: nobody there yet; trying again", s->address.text);
	s->told_down = true;
	retry_later(s);
	return true;
}

struct net_backend *stream_open(struct backend_env *env, struct net_port *port,
				struct backend_url *url, struct error *err)
{
	struct stream *s = calloc(1, sizeof(*s));
	bool wait = true;

	(void)env;
	if (!s) {
		error_set(err, "out of memory");
		return NULL;
	}
	s->base = (struct net_backend){ &stream_ops, port, { s->counter, COUNTERS } };
	s->counter[DROP_LONG].name = "drop.too-long";
	s->counter[DROP_DOWN].name = "drop.not-connected";
	s->counter[DROP_FULL].name = "drop.queue-full";
	s->counter[DROP_LOST].name = "drop.connection-lost";
	s->counter[DROP_CUT].name = "drop.cut-short";
	s->counter[CONNECTIONS].name = "connections";
	s->fd = s->listen_fd = -1;
	s->reconnect = true;
	s->retry_ns = RETRY_MIN;
	s->since = now(s);
	timer_init(&s->retry, port->loop, "stream-retry", stream_retry, s);
	timer_init(&s->more, port->loop, "stream-more", stream_more, s);
	s->rx = malloc(RX_SIZE);
	s->tx = malloc(TX_SIZE);
	if (!s->rx || !s->tx) {
		error_set(err, "out of memory");
		goto fail;
	}
	if (!url_bool(url, "server", &s->server, err) ||
	    !url_bool(url, "reconnect", &s->reconnect, err) ||
	    !url_bool(url, "carrier", &s->carrier, err) ||
	    !url_bool(url, "wait", &wait, err) ||
	    !stream_parse(&s->address, url->body, s->server, err) ||
	    !begin(s, wait, err))
		goto fail;
	if (s->carrier)
		timer_arm(&s->more, now(s)); /* only then is the port ours */
	return &s->base;
fail:
	stream_close(&s->base);
	return NULL;
}
