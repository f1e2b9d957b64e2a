/* gannet relay: a WebSocket Ethernet relay. One raw frame without FCS per binary
 * message (what websockproxy, node-relay, wsnic and v86 speak), switched by address.
 *
 * We accept connections ourselves and hand them to libwebsockets (RFC 6455, HTTP,
 * TLS); everything here runs in the thread that serves it. Nothing a client does
 * takes more than its share: queues, addresses, answers and connections are bounded,
 * and what does not fit is dropped and counted by name.
 */
#include "tools/relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/frame_queue.h"
#include "core/util.h"
#include "tools/relay_priv.h"

enum {
	EXIT_BAD_INPUT = 2,
	RX_BUFFER = 32 * 1024,   /* a connection; also what is read at a time */
	SERVICE_BUFFER = 64 * 1024, /* read from a socket at a time */
	SPARE_FDS = 256,         /* plain HTTP, listeners, uplinks */
	OTHER_FDS = 64,          /* those libwebsockets does not know */
	UPLINK_MACS = 4096,
	ACCEPTS = 64,            /* in a row */
	DEAD_AFTER_S = 10,       /* without an answer to a ping */
	HANDSHAKE_S = 10,
	TICK_US = 500000,
};

/* A descriptor libwebsockets polls for us. */
struct io {
	enum { IO_LISTEN, IO_UPLINK } kind;
	int fd;
	struct relay_uplink *uplink; /* borrowed */
};

/* ---- clients ---- */

static void client_address(struct lws *wsi, char *text, size_t size)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char host[INET6_ADDRSTRLEN + 16], port[8];

	snprintf(text, size, "?");
	if (getpeername(lws_get_socket_fd(wsi), (struct sockaddr *)&sa, &len) ||
	    getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return;
	snprintf(text, size, sa.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static bool client_connected(struct relay *r, struct lws *wsi, struct relay_session *s)
{
	struct relay_client *c = calloc(1, sizeof(*c));
	int64_t now = relay_now();

	s->client = NULL;
	if (!c)
		return false;
	c->port = r->clients < r->options.max_clients ?
		  relay_switch_join(r->sw, (unsigned)r->options.macs) : RELAY_NO_PORT;
	if (c->port == RELAY_NO_PORT) {
		free(c);
		return false;
	}
	c->relay = r;
	c->wsi = wsi;
	c->id = ++r->next_id;
	c->since = c->heard = now;
	relay_bucket_init(&c->bucket, r->options.rate, r->options.burst, now);
	client_address(wsi, c->address, sizeof(c->address));
	if (lws_hdr_copy(wsi, c->path, sizeof(c->path), WSI_TOKEN_GET_URI) < 0)
		strcpy(c->path, "(long)");
	c->at = r->clients;
	r->client[r->clients++] = c;
	r->clients_peak = MAX(r->clients_peak, r->clients);
	r->by_port[c->port] = c;
	s->client = c;
	relay_log(r, "connect", c, "at %s, %u connected", c->path, r->clients);
	return true;
}

static void client_gone(struct relay_session *s)
{
	struct relay_client *c = s->client;
	struct relay *r;
	uint64_t dropped = 0;
	unsigned n;

	if (!c)
		return;
	r = c->relay;
	s->client = NULL;
	n = relay_queue_clear(r->pool, &c->queue);
	c->count[RELAY_OUT_GONE] += n;
	r->count[RELAY_OUT_GONE] += n;
	relay_frame_put(r->pool, c->partial);
	relay_switch_leave(r->sw, c->port);
	r->by_port[c->port] = NULL;
	r->client[c->at] = r->client[--r->clients];
	r->client[c->at]->at = c->at;
	for (unsigned i = RELAY_IN_DROP; i < RELAY_COUNTS; i++)
		dropped += c->count[i];
	relay_log(r, "disconnect", c, "%.1f s, in %llu frames %llu bytes, out %llu frames "
		  "%llu bytes, %llu dropped, %u connected",
		  (double)(relay_now() - c->since) * 1e-9,
		  (unsigned long long)c->count[RELAY_FRAMES_IN],
		  (unsigned long long)c->count[RELAY_BYTES_IN],
		  (unsigned long long)c->count[RELAY_FRAMES_OUT],
		  (unsigned long long)c->count[RELAY_BYTES_OUT],
		  (unsigned long long)dropped, r->clients);
	free(c);
}

static void client_check(struct relay *r, struct relay_client *c, int64_t now)
{
	int64_t silent = now - c->heard, limit = (int64_t)r->options.ping * 1000000000ll;

	if (c->dying || silent < limit)
		return;
	if (silent >= limit + DEAD_AFTER_S * 1000000000ll) {
		relay_log(r, "silent", c, "no answer to a ping");
		c->dying = true;
		lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
	} else if (!c->pinged && !c->ping_due) {
		c->ping_due = true;
		lws_callback_on_writable(c->wsi);
	}
}

static void tick(lws_sorted_usec_list_t *sul)
{
	struct relay *r = container_of(sul, struct relay, tick);
	int64_t now = relay_now();

	lws_sul_schedule(r->context, 0, sul, tick, TICK_US);
	if (!r->options.ping)
		return;
	for (unsigned i = 0; i < r->clients; i++)
		client_check(r, r->client[i], now);
}

/* ---- what libwebsockets calls ---- */

static int on_connection(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
			 size_t len)
{
	struct relay_session *s = user;
	struct relay *r = lws_context_user(lws_get_context(wsi));

	switch ((int)reason) {
	case LWS_CALLBACK_HTTP:
		return relay_http_request(r, wsi, s, in);
	case LWS_CALLBACK_HTTP_WRITEABLE:
		return relay_http_writeable(r, wsi, s);
	case LWS_CALLBACK_CLOSED_HTTP:
		if (s)
			relay_http_closed(r, s);
		return 0;
	case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
		return relay_http_upgrade(r, wsi, in);
	case LWS_CALLBACK_ESTABLISHED:
		return client_connected(r, wsi, s) ? 0 : -1;
	case LWS_CALLBACK_CLOSED:
		if (s)
			client_gone(s);
		return 0;
	case LWS_CALLBACK_RECEIVE:
		if (!s->client)
			return -1;
		s->client->heard = relay_now();
		s->client->pinged = false;
		relay_receive(s->client, in, len, lws_is_first_fragment(wsi),
			      lws_is_final_fragment(wsi), lws_frame_is_binary(wsi));
		return 0;
	case LWS_CALLBACK_RECEIVE_PONG:
		if (s->client) {
			s->client->heard = relay_now();
			s->client->pinged = false;
		}
		return 0;
	case LWS_CALLBACK_SERVER_WRITEABLE:
		return s->client && relay_transmit(s->client) ? 0 : -1;
	case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
		/* Ends libev's loop; relay_finish() does the rest. Sent to each protocol. */
		if (r->libev && !r->stop && __atomic_load_n(&r->end, __ATOMIC_ACQUIRE)) {
			r->stop = true;
			lws_context_destroy(r->context);
		}
		return 0;
	default:
		return 0;
	}
}

/* No descriptor left (uplinks take some too): the listener would stay readable for
 * ever. One kept for this moment lets us turn the caller away. */
static bool turn_away(struct relay *r, int fd)
{
	int caller;

	if (r->spare_fd < 0)
		return false;
	close(r->spare_fd);
	caller = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (caller >= 0)
		close(caller);
	r->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	r->refused += caller >= 0;
	return caller >= 0;
}

static void accept_some(struct relay *r, int fd)
{
	for (unsigned i = 0; i < ACCEPTS; i++) {
		lws_sock_file_fd_type sock;

		sock.sockfd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (sock.sockfd < 0) {
			if ((errno == EMFILE || errno == ENFILE) && turn_away(r, fd))
				continue;
			break;
		}
		/* Closes it if there is no room for it. */
		lws_adopt_descriptor_vhost(r->vhost, LWS_ADOPT_HTTP | LWS_ADOPT_SOCKET |
					   LWS_ADOPT_ALLOW_SSL, sock, NULL, NULL);
	}
}

static int on_io(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
		 size_t len)
{
	struct relay *r = lws_context_user(lws_get_context(wsi));
	struct io *io = user;

	(void)in;
	(void)len;
	if (reason != LWS_CALLBACK_RAW_RX_FILE || !io || r->stop)
		return 0;
	if (io->kind == IO_LISTEN)
		accept_some(r, io->fd);
	else
		relay_uplink_frames(r, io->uplink);
	return 0;
}

/* ---- set-up ---- */

/* libwebsockets closes @fd in the end. */
static bool io_add(struct relay *r, struct io what, struct error *err)
{
	lws_sock_file_fd_type fd = { .filefd = what.fd };
	struct lws *wsi = lws_adopt_descriptor_vhost(r->vhost, LWS_ADOPT_RAW_FILE_DESC, fd,
						     r->protocols[2].name, NULL);

	if (!wsi) {
		error_set(err, "cannot watch a descriptor");
		return false;
	}
	*(struct io *)lws_wsi_user(wsi) = what;
	return true;
}

static bool split_address(const char *text, char *host, size_t size, const char **port)
{
	const char *colon = strrchr(text, ':');
	size_t len;

	if (!colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
	    strlen(colon + 1) > 5 || atoi(colon + 1) > UINT16_MAX)
		return false;
	len = (size_t)(colon - text);
	if (text[0] == '[') {
		if (len < 2 || text[len - 1] != ']')
			return false;
		text++;
		len -= 2;
	} else if (memchr(text, ':', len)) {
		return false; /* IPv6 wants its brackets */
	}
	if (len >= size)
		return false;
	snprintf(host, size, "%.*s", (int)len, text);
	*port = colon + 1;
	return true;
}

static int listen_at(const struct addrinfo *ai)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, e;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!bind(fd, ai->ai_addr, ai->ai_addrlen) && !listen(fd, SOMAXCONN))
		return fd;
	e = errno;
	close(fd);
	errno = e;
	return -1;
}

static void announce(const struct relay *r, int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char host[INET6_ADDRSTRLEN + 16], port[8];

	if (getsockname(fd, (struct sockaddr *)&sa, &len) ||
	    getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return;
	printf(sa.ss_family == AF_INET6 ? "listening on %s://[%s]:%s/\n" :
	       "listening on %s://%s:%s/\n", r->options.cert ? "wss" : "ws", host, port);
	fflush(stdout);
}

static bool start_listening(struct relay *r, const char *text, struct error *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_PASSIVE | AI_NUMERICSERV }, *list;
	char host[256];
	const char *port, *why;
	int fd, rc;

	if (!split_address(text, host, sizeof(host), &port)) {
		error_set(err, "--listen %s: write ADDRESS:PORT, e.g. 127.0.0.1:8086, [::1]:8086 "
			  "or *:8086", text);
		return false;
	}
	rc = getaddrinfo(!host[0] || !strcmp(host, "*") ? NULL : host, port, &hints, &list);
	if (rc) {
		error_set(err, "--listen %s: %s; write ADDRESS:PORT, e.g. 127.0.0.1:8086", text,
			  gai_strerror(rc));
		return false;
	}
	fd = listen_at(list);
	freeaddrinfo(list);
	if (fd < 0) {
		why = errno == EADDRINUSE ? "; choose another port, or 0 for a free one" :
		      errno == EACCES ? "; ports below 1024 are root's: choose another" :
		      errno == EADDRNOTAVAIL ? "; this machine has no such address" : "";
		error_set(err, "--listen %s: %s%s", text, strerror(errno), why);
		return false;
	}
	r->listener[r->listeners++] = fd;
	return io_add(r, (struct io){ IO_LISTEN, fd, NULL }, err);
}

/* libwebsockets says what it does not like to its log only. */
static bool file_readable(const char *option, const char *path, const char *begins,
			  struct error *err)
{
	char line[256];
	bool found = false;
	FILE *f = fopen(path, "re");

	if (!f) {
		error_set(err, "--%s %s: %s", option, path, strerror(errno));
		return false;
	}
	while (!found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "-----BEGIN ", 11) && strstr(line, begins);
	fclose(f);
	if (!found)
		error_set(err, "--%s %s: no \"-----BEGIN ... %s-----\" in it; give a PEM file",
			  option, path, begins);
	return found;
}

/* Returns how many descriptors libwebsockets may have. */
static unsigned raise_fds(struct relay *r)
{
	uint64_t want = r->options.max_clients + SPARE_FDS + OTHER_FDS;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return (unsigned)want - OTHER_FDS;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < want) {
		r->options.max_clients = MAX((int64_t)limit.rlim_cur - SPARE_FDS - OTHER_FDS, 8);
		relay_log(r, "limit", NULL, "only %llu descriptors (ulimit -n): --max-clients is %llu",
			  (unsigned long long)limit.rlim_cur,
			  (unsigned long long)r->options.max_clients);
		want = limit.rlim_cur;
	}
	return (unsigned)want - OTHER_FDS;
}

static bool context_create(struct relay *r, struct error *err)
{
	/* Pings are ours (client_check): theirs would know nothing of received frames. */
	static const lws_retry_bo_t no_pings;
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN_SERVER,
		.protocols = r->protocols,
		.user = r,
		.gid = -1, .uid = -1,
		.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
			   LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME |
			   LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS,
		.fd_limit_per_thread = raise_fds(r),
		.pt_serv_buf_size = SERVICE_BUFFER,
		.timeout_secs = HANDSHAKE_S,
		.server_string = "gannet-relay",
		.vhost_name = "gannet-relay",
		.retry_and_idle_policy = &no_pings,
		.alpn = "http/1.1",
	};

	r->protocols[0] = (struct lws_protocols){
		.name = "gannet-relay", .callback = on_connection,
		.per_session_data_size = sizeof(struct relay_session), .rx_buffer_size = RX_BUFFER,
	};
	r->protocols[1] = r->protocols[0];
	r->protocols[1].name = r->subprotocol;
	r->protocols[2] = (struct lws_protocols){
		.name = "gannet-relay-io", .callback = on_io,
		.per_session_data_size = sizeof(struct io),
	};
	strcpy(r->subprotocol, "?");
	if (r->options.cert) {
		if (!file_readable("cert", r->options.cert, "CERTIFICATE", err) ||
		    !file_readable("key", r->options.key, "PRIVATE KEY", err))
			return false;
		info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
		info.ssl_cert_filepath = r->options.cert;
		info.ssl_private_key_filepath = r->options.key;
	}
	lws_set_log_level(0, NULL);
	/* With libev (a plugin of libwebsockets) it waits in epoll, else in poll(), which
	 * with a thousand clients takes longer than all the rest. */
	info.options |= LWS_SERVER_OPTION_LIBEV;
	r->context = lws_create_context(&info);
	r->libev = r->context != NULL;
	if (!r->context) {
		info.options &= ~(uint64_t)LWS_SERVER_OPTION_LIBEV;
		r->context = lws_create_context(&info);
	}
	if (!r->context) {
		error_set(err, "libwebsockets cannot start");
		return false;
	}
	r->vhost = lws_create_vhost(r->context, &info);
	if (!r->vhost) {
		if (r->options.cert)
			error_set(err, "--cert %s --key %s: no certificate and the key that "
				  "belongs to it", r->options.cert, r->options.key);
		else
			error_set(err, "libwebsockets cannot start");
		return false;
	}
	return true;
}

static bool uplink_add(struct relay *r, struct relay_uplink *u, struct error *err)
{
	int port = relay_switch_join(r->sw, UPLINK_MACS);
	int fd = fcntl(frame_queue_fd(relay_uplink_queue(u)), F_DUPFD_CLOEXEC, 3);

	relay_uplink_set_port(u, port);
	if (fd < 0) {
		error_set(err, "no descriptor for an uplink: %s", strerror(errno));
		return false;
	}
	if (!io_add(r, (struct io){ IO_UPLINK, fd, u }, err))
		return false;
	relay_uplink_frames(r, u); /* arms its queue */
	return relay_uplink_start(u, err);
}

static bool uplinks_open(struct relay *r, struct error *err)
{
	for (unsigned i = 0; i < r->options.uplinks; i++) {
		struct relay_uplink *u = relay_uplink_open(r, r->options.uplink[i], err);

		if (!u)
			return false;
		r->uplink[r->uplinks++] = u;
		if (!uplink_add(r, u, err))
			return false;
	}
	if (r->options.capture) {
		r->mirror = relay_uplink_capture(r, r->options.capture, err);
		if (!r->mirror)
			return false;
		if (!relay_uplink_start(r->mirror, err))
			return false;
	}
	return true;
}

static bool relay_init(struct relay *r, struct error *err)
{
	struct relay_switch_config cfg = { .age_ns = (int64_t)r->options.age * 1000000000ll };
	uint64_t macs;

	r->started = relay_now();
	r->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (!context_create(r, err))
		return false;
	macs = r->options.max_clients * r->options.macs + r->options.uplinks * UPLINK_MACS;
	cfg.ports = (unsigned)r->options.max_clients + r->options.uplinks;
	cfg.macs = (unsigned)macs;
	r->sw = relay_switch_create(&cfg, err);
	r->pool = r->sw ? relay_pool_create(r->options.memory, err) : NULL;
	if (!r->pool)
		return false;
	r->client = calloc(r->options.max_clients, sizeof(*r->client));
	r->by_port = calloc(cfg.ports, sizeof(*r->by_port));
	r->scratch = malloc(LWS_PRE + RELAY_BATCH);
	if (!r->client || !r->by_port || !r->scratch) {
		error_set(err, "out of memory for %u clients", cfg.ports);
		return false;
	}
	if (!uplinks_open(r, err))
		return false;
	for (unsigned i = 0; i < r->options.listens; i++) {
		if (!start_listening(r, r->options.listen[i], err))
			return false;
	}
	for (unsigned i = 0; i < r->listeners; i++)
		announce(r, r->listener[i]);
	lws_sul_schedule(r->context, 0, &r->tick, tick, TICK_US);
	return true;
}

static void relay_finish(struct relay *r)
{
	r->stop = true;
	if (r->context)
		lws_context_destroy(r->context); /* disconnects everybody */
	for (unsigned i = 0; i < r->uplinks; i++)
		relay_uplink_close(r->uplink[i]);
	relay_uplink_close(r->mirror);
	relay_switch_destroy(r->sw);
	relay_pool_destroy(r->pool);
	relay_text_put(r->json);
	free(r->client);
	free(r->by_port);
	free(r->scratch);
	if (r->spare_fd >= 0)
		close(r->spare_fd);
	explicit_bzero(r->options.token, sizeof(r->options.token));
}

/* ---- signals: a thread waits for them, so no handler has to know the relay ---- */

struct signals {
	pthread_t thread;
	sigset_t set;
	struct relay *relay;
};

static void *signals_wait(void *opaque)
{
	struct signals *s = opaque;
	int sig;

	while (sigwait(&s->set, &sig))
		;
	__atomic_store_n(&s->relay->end, true, __ATOMIC_RELEASE);
	lws_cancel_service(s->relay->context);
	return NULL;
}

int relay_main(int argc, char **argv)
{
	struct relay *r = calloc(1, sizeof(*r));
	struct error err = { "" };
	struct signals signals = { .relay = r };
	int code = EXIT_BAD_INPUT;

	if (!r) {
		error_set(&err, "out of memory");
		goto out;
	}
	if (!relay_options_parse(&r->options, argc, argv, &err))
		goto out;
	if (r->options.help) {
		relay_options_help(stdout);
		code = 0;
		goto out;
	}
	sigemptyset(&signals.set);
	sigaddset(&signals.set, SIGTERM);
	sigaddset(&signals.set, SIGINT);
	sigaddset(&signals.set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals.set, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (relay_init(r, &err)) {
		if (pthread_create(&signals.thread, NULL, signals_wait, &signals)) {
			error_set(&err, "cannot start a thread");
		} else {
			while (!__atomic_load_n(&r->end, __ATOMIC_ACQUIRE) &&
			       lws_service(r->context, 0) >= 0)
				;
			if (!__atomic_load_n(&r->end, __ATOMIC_ACQUIRE))
				pthread_kill(signals.thread, SIGTERM);
			pthread_join(signals.thread, NULL);
			code = 0;
		}
	}
	relay_finish(r);
out:
	if (code && err.text[0])
		fprintf(stderr, "gannet relay: %s\n", err.text);
	free(r);
	return code;
}
