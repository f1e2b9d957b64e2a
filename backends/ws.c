/* "ws:" and "wss:": a WebSocket relay. One raw Ethernet frame without FCS is one
 * binary message (RFC 6455); nothing else is said.
 *
 *	vCPU thread                         I/O thread (ws_io.c)
 *	send ---> frame queue `out` ------> WebSocket frames --> relay
 *	port <--- frame queue `in` <------- messages <---------- relay
 *	notify, carrier <--- events
 *
 * Nothing here waits for the network, except open(): it waits for the first attempt,
 * so that a wrong name, token or certificate is an error before the guest starts.
 *
 * A connection may be lost and come back at any time. What the guest sends in between
 * is dropped at once, what was queued is dropped when the connection is lost, what a
 * slow peer does not take within `age` is dropped, the oldest first: a frame is new
 * or it is not sent. Every frame of the guest ends in `sent` or in one of the drops.
 *
 * libwebsockets ignores SIGPIPE for the whole process, and its log, one for the whole
 * process, is switched off.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backends/backend.h"
#include "backends/ws_priv.h"
#include "core/loop.h"
#include "core/util.h"

#define MS (NS_PER_S / 1000)

enum {
	FRAMES_AT_ONCE = 256, /* to the guest, before it runs again */
	TOKEN_MAX = 4096,
	PATH_MAX_BYTES = 2048,
};

struct ws {
	struct net_backend base;
	struct ws_io *io;        /* shared with its thread */
	struct loop_bell bell; /* rung when frames arrived */
	struct watch *event_watch, *room_watch;
	bool carrier;            /* the guest shall see whether there is a connection */
	int64_t lost_at;         /* of the last loss this thread knows; 0: none */
};

static struct ws *ws_of(struct net_backend *b)
{
	return container_of(b, struct ws, base);
}

static bool is_connected(const struct ws *w)
{
	return __atomic_load_n(&w->io->connected, __ATOMIC_SEQ_CST);
}

/* ---- to the relay ---- */

static bool ws_can_send(struct net_backend *b)
{
	struct ws *w = ws_of(b);

	if (!is_connected(w) || frame_queue_room(w->io->out, NET_FRAME_MAX))
		return true;
	return !frame_queue_want_room(w->io->out);
}

static void ws_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	struct ws_io *io = ws_of(b)->io;

	if (!is_connected(ws_of(b)))
		net_count(&io->counter[WS_DROP_NOT_CONNECTED]);
	else if (len > NET_FRAME_MAX || !frame_queue_push(io->out, frame, len, ws_now()))
		net_count(&io->counter[WS_DROP_REFUSED]);
}

static void room(void *opaque, unsigned events)
{
	struct ws *w = opaque;

	(void)events;
	frame_queue_room_seen(w->io->out);
	net_port_writable(w->base.port);
}

/* ---- from the relay ---- */

static void drain(struct ws *w)
{
	struct frame_queue *q = w->io->in;
	struct net_port *port = w->base.port;

	for (unsigned n = 0; n < FRAMES_AT_ONCE;) {
		const struct frame *f = frame_queue_peek(q);

		if (!f) {
			if (frame_queue_arm(q))
				return;
			continue;
		}
		if (f->stamp < w->lost_at && ws_now() - f->stamp > w->io->config.age) {
			net_count(&w->io->counter[WS_DROP_STALE_RECEIVED]);
			frame_queue_pop(q);
			continue;
		}
		if (!net_port_can_receive(port)) {
			frame_queue_seen(q); /* ws_readable() goes on */
			return;
		}
		net_count(&w->io->counter[WS_RECEIVED]);
		net_port_receive(port, f->data, f->len);
		frame_queue_pop(q);
		n++;
	}
	/* The guest has its turn, then more. */
	eventfd_write(w->io->event_fd, 1);
}

static void frames_arrived(void *opaque)
{
	drain(opaque);
}

/* In the I/O thread, which may outlive us: under the lock `closing` is set with. */
static void ring(void *opaque)
{
	struct ws_io *io = opaque;

	pthread_mutex_lock(&io->lock);
	if (!__atomic_load_n(&io->closing, __ATOMIC_SEQ_CST))
		loop_bell_ring(io->bell);
	pthread_mutex_unlock(&io->lock);
}

static void ws_readable(struct net_backend *b)
{
	drain(ws_of(b));
}

/* ---- connection changes ---- */

static void events_arrived(void *opaque, unsigned events)
{
	struct ws *w = opaque;
	struct ws_io *io = w->io;
	struct ws_event list[WS_EVENTS];
	unsigned count;
	eventfd_t n;

	(void)events;
	eventfd_read(io->event_fd, &n);
	pthread_mutex_lock(&io->lock);
	count = io->events;
	memcpy(list, io->event, count * sizeof(list[0]));
	io->events = 0;
	w->lost_at = io->lost_at;
	pthread_mutex_unlock(&io->lock);
	for (unsigned i = 0; i < count; i++) {
		if (list[i].up)
			net_port_notify(w->base.port, "relay %s: connected%s", io->config.name,
					io->config.tls && !io->config.verify ?
					" (verify=off: anybody could have answered)" : "");
		else
			net_port_notify(w->base.port, "relay %s: not connected: %s; trying again",
					io->config.name, list[i].text);
	}
	if (w->carrier)
		net_port_set_carrier(w->base.port, is_connected(w));
	drain(w);
}

static void ws_status(struct net_backend *b, char *text, size_t size)
{
	struct ws_io *io = ws_of(b)->io;
	unsigned long long reconnects = net_counter_read(&io->counter[WS_RECONNECTS]);
	int64_t now = ws_now();

	pthread_mutex_lock(&io->lock);
	if (io->state == WS_CONNECTED)
		snprintf(text, size, "connected to %s for %lld s, %llu reconnect%s", io->peer,
			 (long long)((now - io->since) / NS_PER_S), reconnects,
			 reconnects == 1 ? "" : "s");
	else if (io->state == WS_CONNECTING)
		snprintf(text, size, "not connected, trying%s%s", io->why[0] ? ": " : "", io->why);
	else
		snprintf(text, size, "not connected, next try in %.1f s: %s",
			 MAX(io->next_try - now, 0) / 1e9, io->why);
	pthread_mutex_unlock(&io->lock);
}

/* ---- opening and closing ---- */

static void ws_close(struct net_backend *b)
{
	struct ws *w = ws_of(b);

	loop_unwatch(w->event_watch);
	loop_unwatch(w->room_watch);
	if (w->io)
		ws_io_stop(w->io);
	loop_bell_remove(&w->bell); /* nobody rings it any more */
	free(w);
}

static const struct net_backend_ops ws_ops = {
	.name = "ws",
	.can_send = ws_can_send,
	.send = ws_send,
	.readable = ws_readable,
	.close = ws_close,
	.status = ws_status,
};

void ws_config_free(struct ws_config *config)
{
	free(config->host);
	free(config->path);
	free(config->name);
	free(config->authority);
	if (config->bearer)
		explicit_bzero(config->bearer, strlen(config->bearer));
	free(config->bearer);
	free(config->protocol);
}

/* Fit for a line of HTTP: no spaces, nothing that ends it. */
static bool is_graphic(const char *text)
{
	for (; *text; text++) {
		if (*text <= ' ' || *text > '~')
			return false;
	}
	return true;
}

static bool read_token(const char *path, char *token, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, token, TOKEN_MAX + 1);

	if (n < 0)
		error_set(err, "token-file=%.200s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return false;
	if (n > TOKEN_MAX) {
		error_set(err, "token-file=%.200s: more than %d bytes are no token", path, TOKEN_MAX);
		return false;
	}
	while (n && (token[n - 1] == '\n' || token[n - 1] == '\r' || token[n - 1] == ' '))
		n--;
	token[n] = '\0';
	return true;
}

static bool parse_token(struct ws_config *config, struct backend_url *url, struct error *err)
{
	const char *text = url_text(url, "token"), *path = url_text(url, "token-file");
	char token[TOKEN_MAX + 2];
	bool ok = true;

	if (!text && !path)
		return true;
	if (text && path) {
		error_set(err, "token and token-file: one of them");
		return false;
	}
	if (path)
		ok = read_token(path, token, err);
	else
		snprintf(token, sizeof(token), "%s", text);
	if (ok && (!*token || !is_graphic(token))) {
		error_set(err, "the token %s%.200s is empty or has spaces or control characters in it",
			  path ? "in " : "", path ? path : "");
		ok = false;
	}
	if (ok && asprintf(&config->bearer, "Bearer %s", token) < 0) {
		config->bearer = NULL;
		error_set(err, "out of memory");
		ok = false;
	}
	explicit_bzero(token, sizeof(token));
	return ok;
}

static bool parse_place(struct ws_config *config, struct backend_url *url, struct error *err)
{
	const char *host = url->host, *path = url->path;
	bool brackets;
	char port[8] = "";
	int n;

	if (!host) {
		error_set(err, "no host; %s://HOST[:PORT]/[PATH]", url->scheme);
		return false;
	}
	if (strchr(host, '@')) {
		error_set(err, "'@' in the host name; a relay's password is token=TEXT or token-file=FILE");
		return false;
	}
	if (!is_graphic(host) || strlen(host) > 253) {
		error_set(err, "'%.40s' is no host name", host);
		return false;
	}
	if (!is_graphic(path) || strlen(path) > PATH_MAX_BYTES) {
		error_set(err, "the path is longer than %d bytes or has characters in it that must be written as %%XX",
			  PATH_MAX_BYTES);
		return false;
	}
	config->tls = !strcmp(url->scheme, "wss");
	config->port = url->port ? url->port : config->tls ? 443 : 80;
	brackets = strchr(host, ':');
	if (url->port)
		snprintf(port, sizeof(port), ":%u", url->port);
	config->host = strdup(host);
	config->path = strdup(path);
	n = asprintf(&config->authority, brackets ? "[%s]%s" : "%s%s", host, port);
	if (n < 0)
		config->authority = NULL;
	n = config->authority ? asprintf(&config->name, "%s://%.100s%.100s", url->scheme,
					 config->authority, path) : -1;
	if (n < 0)
		config->name = NULL;
	if (!config->host || !config->path || !config->name) {
		error_set(err, "out of memory");
		return false;
	}
	return true;
}

static bool parse_rest(struct ws_config *config, struct backend_url *url, struct error *err)
{
	const char *protocol = url_text(url, "protocol");

	config->ping = 15 * NS_PER_S;
	config->age = 500 * MS;
	config->retry = 30 * NS_PER_S;
	config->verify = true;
	if (!url_time(url, "ping", 3600 * NS_PER_S, &config->ping, err))
		return false;
	config->timeout = config->ping ? 2 * config->ping : 30 * NS_PER_S;
	if (!url_time(url, "timeout", 7200 * NS_PER_S, &config->timeout, err) ||
	    !url_time(url, "age", 60 * NS_PER_S, &config->age, err) ||
	    !url_time(url, "retry", 3600 * NS_PER_S, &config->retry, err) ||
	    (config->tls && !url_bool(url, "verify", &config->verify, err)))
		return false;
	if (config->timeout <= config->ping) {
		error_set(err, "timeout=%g: the answer to a ping, sent every %g s, must have time to come",
			  config->timeout / 1e9, config->ping / 1e9);
		return false;
	}
	if (config->age < MS || config->retry < 10 * MS) {
		error_set(err, "age is at least 1ms, retry at least 10ms");
		return false;
	}
	if (protocol) {
		if (!*protocol || !is_graphic(protocol) || strlen(protocol) > 64) {
			error_set(err, "protocol=%.64s: a name without spaces", protocol);
			return false;
		}
		config->protocol = strdup(protocol);
	}
	return true;
}

struct net_backend *ws_open(struct backend_env *env, struct net_port *port,
			    struct backend_url *url, struct error *err)
{
	struct ws_config config = { 0 };
	int64_t wait = 5 * NS_PER_S;
	struct ws *w = NULL;
	const char *ca;

	(void)env;
	if (!parse_place(&config, url, err) || !parse_token(&config, url, err) ||
	    !parse_rest(&config, url, err) || !url_time(url, "wait", 600 * NS_PER_S, &wait, err))
		goto fail;
	ca = config.tls ? url_text(url, "ca") : NULL;
	w = calloc(1, sizeof(*w));
	if (!w || !url_bool(url, "carrier", &w->carrier, err)) {
		if (!w)
			error_set(err, "out of memory");
		goto fail;
	}
	w->base.ops = &ws_ops;
	w->base.port = port;
	w->io = ws_io_start(&config, ca, wait > 0, err);
	config = (struct ws_config){ 0 };
	if (!w->io)
		goto fail;
	w->base.counters = (struct net_counters){ w->io->counter, WS_COUNTERS };
	if (wait && !ws_io_wait(w->io, wait, err)) {
		ws_close(&w->base);
		return NULL;
	}
	w->event_watch = loop_watch(port->loop, w->io->event_fd, LOOP_READ, events_arrived, w, err);
	/* The queue is not armed yet: nobody wakes anybody. */
	loop_bell_add(port->loop, &w->bell, frames_arrived, w);
	w->io->bell = &w->bell;
	frame_queue_on_frame(w->io->in, ring, w->io);
	w->room_watch = loop_watch(port->loop, frame_queue_room_fd(w->io->out), LOOP_READ, room, w,
				   err);
	if (!w->event_watch || !w->room_watch) {
		ws_close(&w->base);
		return NULL;
	}
	/* Also arms `in` and tells the carrier, once the port has this backend. */
	eventfd_write(w->io->event_fd, 1);
	return &w->base;
fail:
	ws_config_free(&config);
	free(w);
	return NULL;
}
