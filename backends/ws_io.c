/* The relay's connection: everything that runs in the I/O thread. See ws.c.
 *
 * RFC 6455. libwebsockets does the sockets, TLS, the opening handshake and control
 * frames; what a connection carries is the business of ws_frames.c.
 *
 * One attempt at a time: resolve, then one address after the other. An attempt ends
 * in connected() or in attempt_failed(), a connection in lost(); after the last two
 * comes a pause. `wsi` is the connection that counts; a callback for any other is
 * for one that was given up, and ends it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "backends/ws_priv.h"
#include "core/loop.h"
#include "core/util.h"

#define MS (NS_PER_S / 1000)

enum {
	PAUSE_FIRST_MS = 250,  /* between attempts; doubles */
	STABLE_S = 5,          /* a connection this old forgets earlier failures */
	ATTEMPT_S = 10,        /* for connect, TLS and handshake with one address */
	PROBE_MS = 200,
	GOODBYE_MS = 200,
	STOP_MS = 700,
	RX_CHUNK = 64 * 1024,
	UNSENT_BYTES = 128 * 1024, /* what the kernel may hold beyond TCP's window */
};

int64_t ws_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* ---- what the vCPU thread gets to know ---- */

static void tell(struct ws_io *io)
{
	uint64_t one = 1;

	while (write(io->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void push_event(struct ws_io *io, bool up, const char *text)
{
	struct ws_event *e;

	if (io->events == WS_EVENTS) {
		io->events--;
		memmove(io->event, io->event + 1, io->events * sizeof(*e));
	}
	e = &io->event[io->events++];
	e->up = up;
	snprintf(e->text, sizeof(e->text), "%s", text);
}

static void set_state(struct ws_io *io, enum ws_state state, int64_t next_try)
{
	pthread_mutex_lock(&io->lock);
	io->state = state;
	io->since = ws_now();
	io->next_try = next_try;
	pthread_mutex_unlock(&io->lock);
}

/* ---- pauses between attempts ---- */

static void attempt(lws_sorted_usec_list_t *timer);

/* From `base` to twice that, and never beyond the longest. */
static void schedule_attempt(struct ws_io *io)
{
	int64_t longest = io->config.retry;
	int64_t base = PAUSE_FIRST_MS * MS << MIN(io->failures, 8u);
	int64_t pause;

	base = MIN(base, longest / 2);
	pause = base + base * (int64_t)(ws_random32(io) >> 8) / (1 << 24);
	io->failures++;
	set_state(io, WS_WAITING, ws_now() + pause);
	lws_sul_schedule(io->context, 0, &io->attempt_timer, attempt, pause / 1000);
}

/* ---- the end of an attempt or a connection ---- */

static void why_set(struct ws_io *io, const char *text)
{
	pthread_mutex_lock(&io->lock);
	snprintf(io->why, sizeof(io->why), "%s", text);
	pthread_mutex_unlock(&io->lock);
}

static void connect_next(lws_sorted_usec_list_t *timer);

static void attempt_failed(struct ws_io *io, const char *why)
{
	bool first;

	if (!io->attempting)
		return;
	io->attempting = false;
	io->wsi = NULL;
	lws_sul_cancel(&io->deadline_timer);
	why_set(io, why);
	pthread_mutex_lock(&io->lock);
	first = io->next_address >= io->addresses && !io->first_done;
	pthread_mutex_unlock(&io->lock);
	if (io->next_address < io->addresses) {
		lws_sul_schedule(io->context, 0, &io->attempt_timer, connect_next, 1);
		return;
	}
	schedule_attempt(io);
	pthread_mutex_lock(&io->lock);
	if (first) {
		io->first_done = true;
		pthread_cond_broadcast(&io->changed);
	}
	if (!io->shown_down && !(first && io->first_waited))
		push_event(io, false, why);
	io->shown_down = true;
	pthread_mutex_unlock(&io->lock);
	tell(io);
}

static void lost(struct ws_io *io, const char *why)
{
	struct lws *wsi = io->wsi;

	if (!wsi || io->attempting)
		return;
	__atomic_store_n(&io->connected, false, __ATOMIC_SEQ_CST);
	io->wsi = NULL;
	lws_sul_cancel(&io->ping_timer);
	lws_sul_cancel(&io->age_timer);
	if (io->in_message)
		net_count(&io->counter[WS_DROP_BROKEN_OFF]);
	io->in_message = io->want_ping = false;
	ws_drop_queued(io);
	if (io->leaving)
		return;
	if (ws_now() - io->connected_at >= STABLE_S * NS_PER_S)
		io->failures = 0;
	schedule_attempt(io);
	pthread_mutex_lock(&io->lock);
	io->lost_at = ws_now();
	snprintf(io->why, sizeof(io->why), "%s", why);
	push_event(io, false, why);
	io->shown_down = true;
	pthread_mutex_unlock(&io->lock);
	tell(io);
}

/* Give up on a peer that is not there: nothing more is sent, not even a close frame. */
void ws_abandon(struct ws_io *io, const char *why)
{
	struct lws *wsi = io->wsi;

	if (!wsi)
		return;
	if (io->attempting)
		attempt_failed(io, why);
	else
		lost(io, why);
	shutdown(lws_get_socket_fd(wsi), SHUT_RDWR);
	lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
}

/* ---- attempts ---- */

static void deadline(lws_sorted_usec_list_t *timer)
{
	struct ws_io *io = lws_container_of(timer, struct ws_io, deadline_timer);

	ws_abandon(io, "no answer");
}

static bool resolve(struct ws_io *io, char *why, size_t size)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
	struct addrinfo *list = NULL;
	int code = getaddrinfo(io->config.host, NULL, &hints, &list);

	io->addresses = io->next_address = 0;
	if (code) {
		snprintf(why, size, "host '%.80s': %s", io->config.host,
			 code == EAI_SYSTEM ? strerror(errno) : gai_strerror(code));
		return false;
	}
	for (struct addrinfo *a = list; a && io->addresses < WS_ADDRESSES; a = a->ai_next) {
		if (!getnameinfo(a->ai_addr, a->ai_addrlen, io->address[io->addresses],
				 WS_ADDRESS_SIZE, NULL, 0, NI_NUMERICHOST))
			io->addresses++;
	}
	freeaddrinfo(list);
	if (!io->addresses)
		snprintf(why, size, "host '%.80s' has no address", io->config.host);
	return io->addresses;
}

static void attempt(lws_sorted_usec_list_t *timer)
{
	struct ws_io *io = lws_container_of(timer, struct ws_io, attempt_timer);
	char why[WS_TEXT_SIZE];

	set_state(io, WS_CONNECTING, 0);
	if (resolve(io, why, sizeof(why))) {
		if (!__atomic_load_n(&io->closing, __ATOMIC_SEQ_CST))
			connect_next(timer);
		return;
	}
	io->attempting = true;
	attempt_failed(io, why);
}

static void connect_next(lws_sorted_usec_list_t *timer)
{
	struct ws_io *io = lws_container_of(timer, struct ws_io, attempt_timer);
	struct lws_client_connect_info info = {
		.context = io->context,
		.address = io->address[io->next_address],
		.port = io->config.port,
		.path = io->config.path,
		.host = io->config.authority,
		.protocol = io->config.protocol,
		.local_protocol_name = "gannet",
		.ietf_version_or_minus_one = -1,
		.pwsi = &io->wsi,
		.alpn = "http/1.1",
		.ssl_connection = LCCSCF_HTTP_NO_FOLLOW_REDIRECT |
			(io->config.tls ? LCCSCF_USE_SSL | LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK : 0),
	};

	io->next_address++;
	io->attempting = true;
	io->tcp_connected = false;
	io->refusal[0] = io->reason[0] = '\0';
	lws_sul_schedule(io->context, 0, &io->deadline_timer, deadline, ATTEMPT_S * LWS_USEC_PER_SEC);
	if (!lws_client_connect_via_info(&info))
		attempt_failed(io, "the connection cannot be made");
}

/* libwebsockets does not tell what connect() said: ask again. Only after a failure. */
static void probe(struct ws_io *io, char *why, size_t size)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
	struct addrinfo *a = NULL;
	char port[8];
	int fd, code = 0;

	snprintf(why, size, "no connection");
	snprintf(port, sizeof(port), "%u", io->config.port);
	if (!io->next_address ||
	    getaddrinfo(io->address[io->next_address - 1], port, &hints, &a))
		return;
	fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0) {
		struct pollfd p = { fd, POLLOUT, 0 };
		socklen_t len = sizeof(code);

		if (connect(fd, a->ai_addr, a->ai_addrlen) < 0)
			code = errno;
		if (code == EINPROGRESS) {
			code = 0;
			if (poll(&p, 1, PROBE_MS) == 1)
				getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len);
		}
		close(fd);
	}
	freeaddrinfo(a);
	if (code == ECONNREFUSED)
		snprintf(why, size, "connection refused");
	else if (code)
		snprintf(why, size, "%s", strerror(code));
}

/* The peer's words, fit for one line. */
static void printable(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = ' ';
	}
}

/* What libwebsockets says of a failed handshake, for people. */
static void explain_handshake(const char *said, size_t len, char *why, size_t size)
{
	static const struct {
		const char *begins, *text;
	} known[] = {
		{ "problems parsing header", "no WebSocket there: its answer is no HTTP" },
		{ "read failed", "it closed the connection during the handshake" },
		{ "Peer hung up", "it closed the connection during the handshake" },
		{ "closed before established", "it closed the connection during the handshake" },
		{ "connect SYSCALL", "it closed the connection during the TLS handshake" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (len >= strlen(known[i].begins) &&
		    !memcmp(said, known[i].begins, strlen(known[i].begins))) {
			snprintf(why, size, "%s", known[i].text);
			return;
		}
	}
	if (len > 4 && !memcmp(said, "HS: ", 4))
		snprintf(why, size, "no WebSocket there: %.*s", (int)MIN(len - 4, 100), said + 4);
	else
		snprintf(why, size, "no connection: %.*s", (int)MIN(len, 100), said);
}

static void explain(struct ws_io *io, struct lws *wsi, const char *said, size_t len, char *why,
		    size_t size)
{
	unsigned status = lws_http_client_http_response(wsi);

	if (io->refusal[0])
		snprintf(why, size, "%s", io->refusal);
	else if (!io->tcp_connected)
		probe(io, why, size);
	else if (status == 401 || status == 403)
		snprintf(why, size, "%s (HTTP %u)", io->config.bearer ? "token refused" :
			 "a token is needed: token-file=FILE or token=TEXT", status);
	else if (status && status != 101)
		snprintf(why, size, "no WebSocket there: it answered HTTP %u", status);
	else
		explain_handshake(said ? said : "", said ? len : 0, why, size);
	printable(why);
}

/* ---- connected ---- */

static void check_peer(lws_sorted_usec_list_t *timer);

static void schedule_check(struct ws_io *io)
{
	int64_t every = io->config.timeout;

	if (io->config.ping)
		every = MIN(every, io->config.ping);
	every = MAX(MIN(every / 4, NS_PER_S), 5 * MS);
	lws_sul_schedule(io->context, 0, &io->ping_timer, check_peer, every / 1000);
}

static void check_peer(lws_sorted_usec_list_t *timer)
{
	struct ws_io *io = lws_container_of(timer, struct ws_io, ping_timer);
	int64_t now = ws_now();

	if (!io->wsi)
		return;
	if (!lws_send_pipe_choked(io->wsi))
		io->written_at = now;
	if (now - io->written_at >= io->config.timeout) {
		ws_abandon(io, "the peer stopped reading");
		return;
	}
	/* While we do not read, silence is ours. A guest that takes nothing for long, one
	 * that is paused, must not cost the connection: read again, and drop. */
	if (io->paused)
		io->heard_at = now;
	if (io->paused && now - io->paused_at >= io->config.timeout / 2) {
		io->paused = false;
		io->discarding = true;
		lws_rx_flow_control(io->wsi, 1);
	}
	if (io->config.ping && now - io->heard_at >= io->config.timeout) {
		ws_abandon(io, "the peer is silent");
		return;
	}
	if (io->config.ping && now >= io->ping_at) {
		io->want_ping = true;
		io->ping_at = now + io->config.ping;
		lws_callback_on_writable(io->wsi);
	}
	schedule_check(io);
}

static void connected(struct ws_io *io, struct lws *wsi)
{
	int fd = lws_get_socket_fd(wsi), on = 1, unsent = UNSENT_BYTES;
	unsigned ms = io->config.timeout / MS;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	lws_sul_cancel(&io->deadline_timer);
	io->attempting = false;
	io->connected_at = io->heard_at = io->written_at = ws_now();
	io->ping_at = io->connected_at + io->config.ping;
	io->paused = io->want_ping = io->in_message = false;
	io->skip_counter = 0;
	/* A frame that was on its way into the queue when the last connection ended. */
	ws_drop_queued(io);
	/* If that one ended while its socket was full, the queue has no alarm set; pumping
	 * sets it. Else the guest's frames would lie there until something else pumps. */
	lws_callback_on_writable(wsi);
	if (io->ever_connected)
		net_count(&io->counter[WS_RECONNECTS]);
	io->ever_connected = true;
	io->shown_down = false;
	__atomic_store_n(&io->connected, true, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&io->lock);
	io->state = WS_CONNECTED;
	io->since = io->connected_at;
	io->first_done = io->first_ok = true;
	snprintf(io->peer, sizeof(io->peer), strchr(io->address[io->next_address - 1], ':') ?
		 "[%s]:%u" : "%s:%u", io->address[io->next_address - 1], io->config.port);
	push_event(io, true, "");
	pthread_cond_broadcast(&io->changed);
	pthread_mutex_unlock(&io->lock);
	tell(io);
	schedule_check(io);
	ws_pause_if_full(io, wsi);
}

/* ---- callbacks of libwebsockets ---- */

static void peer_closes(struct ws_io *io, const uint8_t *data, size_t len)
{
	if (len < 2)
		snprintf(io->reason, sizeof(io->reason), "closed by the relay");
	else if (len == 2)
		snprintf(io->reason, sizeof(io->reason), "closed by the relay (%u)",
			 data[0] << 8 | data[1]);
	else
		snprintf(io->reason, sizeof(io->reason), "closed by the relay (%u: %.*s)",
			 data[0] << 8 | data[1], (int)MIN(len - 2, 120), (const char *)data + 2);
	printable(io->reason);
	lost(io, io->reason);
}

static int add_token(struct ws_io *io, struct lws *wsi, unsigned char **p, size_t room)
{
	if (!io->config.bearer)
		return 0;
	return lws_add_http_header_by_token(wsi, WSI_TOKEN_HTTP_AUTHORIZATION,
					    (const unsigned char *)io->config.bearer,
					    strlen(io->config.bearer), p, *p + room);
}

static void queue_event(struct ws_io *io, struct lws *wsi)
{
	if (wsi == io->room) {
		frame_queue_room_seen(io->in);
		io->discarding = false;
		if (io->paused && io->wsi) {
			io->paused = false;
			io->heard_at = ws_now();
			lws_rx_flow_control(io->wsi, 1);
		}
	} else if (wsi == io->wake && ws_pump(io)) {
		ws_abandon(io, "the connection broke");
	}
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
		    size_t len)
{
	struct ws_io *io = lws_context_user(lws_get_context(wsi));
	bool ours = io && wsi == io->wsi;
	char why[WS_TEXT_SIZE];

	switch (reason) {
	case LWS_CALLBACK_RAW_RX_FILE:
		queue_event(io, wsi);
		return 0;
	case LWS_CALLBACK_WSI_CREATE:
		if (ours)
			io->tcp_connected = true;
		return 0;
	case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
		return ours ? add_token(io, wsi, in, len) : -1;
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		if (ours && io->attempting) {
			explain(io, wsi, in, len, why, sizeof(why));
			attempt_failed(io, why);
		}
		return 0;
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		if (!ours || !io->attempting)
			return -1;
		connected(io, wsi);
		return 0;
	case LWS_CALLBACK_CLIENT_RECEIVE:
		if (!ours)
			return -1;
		io->heard_at = ws_now();
		ws_received(io, wsi, in, len);
		return 0;
	case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
		if (ours)
			io->heard_at = ws_now();
		return 0;
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		if (!ours)
			return 0;
		if (ws_pump(io))
			return -1;
		if (io->leaving && !frame_queue_peek(io->out)) {
			lws_close_reason(wsi, LWS_CLOSE_STATUS_GOINGAWAY, NULL, 0);
			return -1;
		}
		return 0;
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		if (ours)
			peer_closes(io, in, len);
		return 0;
	case LWS_CALLBACK_CLIENT_CLOSED:
		if (ours)
			lost(io, "connection closed");
		return 0;
	case LWS_CALLBACK_WSI_DESTROY:
		if (ours && io->attempting)
			attempt_failed(io, "it closed the connection during the handshake");
		else if (ours)
			lost(io, "connection closed");
		return 0;
	default:
		return 0;
	}
}

/* ---- the thread ---- */

static const struct lws_protocols protocols[] = {
	{ .name = "gannet", .callback = callback, .rx_buffer_size = RX_CHUNK,
	  .tx_packet_size = WS_TX_BATCH + WS_TX_HEADER + NET_FRAME_MAX },
	{ .name = NULL },
};

static void nothing(lws_sorted_usec_list_t *timer)
{
	(void)timer;
}

static void unref(struct ws_io *io)
{
	unsigned left;

	pthread_mutex_lock(&io->lock);
	left = --io->refs;
	pthread_mutex_unlock(&io->lock);
	if (left)
		return;
	if (io->context)
		lws_context_destroy(io->context);
	if (io->ssl_ctx)
		ws_tls_destroy(io->ssl_ctx);
	frame_queue_destroy(io->out);
	frame_queue_destroy(io->in);
	if (io->event_fd >= 0)
		close(io->event_fd);
	pthread_cond_destroy(&io->changed);
	pthread_mutex_destroy(&io->lock);
	ws_config_free(&io->config);
	free(io);
}

static void say_goodbye(struct ws_io *io)
{
	int64_t until = ws_now() + GOODBYE_MS * MS;

	io->leaving = true;
	if (!io->wsi || io->attempting)
		return;
	lws_callback_on_writable(io->wsi);
	while (io->wsi && ws_now() < until) {
		lws_sul_schedule(io->context, 0, &io->deadline_timer, nothing,
				 MAX((until - ws_now()) / 1000, 1));
		lws_service(io->context, 0);
	}
}

/* What is left to close is closed without us. */
static void let_go(struct ws_io *io)
{
	__atomic_store_n(&io->connected, false, __ATOMIC_SEQ_CST);
	io->wsi = NULL;
	io->attempting = false;
	lws_sul_cancel(&io->attempt_timer);
	lws_sul_cancel(&io->deadline_timer);
	lws_sul_cancel(&io->ping_timer);
	lws_sul_cancel(&io->age_timer);
}

static void *run(void *opaque)
{
	struct ws_io *io = opaque;
	struct lws_context *context = io->context;

	lws_sul_schedule(context, 0, &io->attempt_timer, attempt, 1);
	while (!__atomic_load_n(&io->closing, __ATOMIC_SEQ_CST)) {
		if (lws_service(context, 0) < 0)
			break;
	}
	say_goodbye(io);
	let_go(io);
	pthread_mutex_lock(&io->lock);
	io->context = NULL;
	pthread_mutex_unlock(&io->lock);
	lws_context_destroy(context);
	pthread_mutex_lock(&io->lock);
	io->finished = io->first_done = true;
	pthread_cond_broadcast(&io->changed);
	pthread_mutex_unlock(&io->lock);
	unref(io);
	return NULL;
}

static void quiet(int level, const char *line)
{
	(void)level;
	(void)line;
}

static struct lws *adopt(struct ws_io *io, int fd)
{
	lws_sock_file_fd_type file = { .filefd = fcntl(fd, F_DUPFD_CLOEXEC, 0) };

	if (file.filefd < 0)
		return NULL;
	return lws_adopt_descriptor_vhost(lws_get_vhost_by_name(io->context, "default"),
					  LWS_ADOPT_RAW_FILE_DESC, file, "gannet", NULL);
}

static bool make_context(struct ws_io *io, struct error *err)
{
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN,
		.protocols = protocols,
		.vhost_name = "default",
		.http_proxy_address = "", /* not that of the environment: it knows no exceptions */
		.gid = -1, .uid = -1,
		.user = io,
		.fd_limit_per_thread = 16,
		.pt_serv_buf_size = RX_CHUNK,
		.provided_client_ssl_ctx = io->ssl_ctx,
		.options = LWS_SERVER_OPTION_NO_LWS_SYSTEM_STATES |
			   (io->ssl_ctx ? LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT : 0),
	};

	/* The one thing libwebsockets keeps per process: where its log goes. */
	lws_set_log_level(0, quiet);
	io->context = lws_create_context(&info);
	if (!io->context) {
		error_set(err, "libwebsockets does not start; is the limit of open files reached?");
		return false;
	}
	io->wake = adopt(io, frame_queue_fd(io->out));
	io->room = adopt(io, frame_queue_room_fd(io->in));
	if (!io->wake || !io->room) {
		error_set(err, "libwebsockets does not watch the queues: %s", strerror(errno));
		return false;
	}
	frame_queue_arm(io->out);
	return true;
}

static bool start_thread(struct ws_io *io, struct error *err)
{
	sigset_t all, before;
	int code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	io->refs++;
	code = pthread_create(&io->thread, NULL, run, io);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (code) {
		io->refs--;
		error_set(err, "no thread for the relay: %s", strerror(code));
	}
	return !code;
}

struct ws_io *ws_io_start(const struct ws_config *config, const char *ca, bool wait,
			  struct error *err)
{
	static const char *const names[WS_COUNTERS] = {
		[WS_SENT] = "sent", [WS_RECEIVED] = "received", [WS_RECONNECTS] = "reconnects",
		[WS_DROP_NOT_CONNECTED] = "drop.not-connected", [WS_DROP_STALE] = "drop.stale",
		[WS_DROP_AGED] = "drop.aged", [WS_DROP_REFUSED] = "drop.not-ready",
		[WS_DROP_QUEUE_FULL] = "drop.queue-full",
		[WS_DROP_TEXT] = "drop.text", [WS_DROP_EMPTY] = "drop.empty",
		[WS_DROP_TOO_LONG] = "drop.too-long", [WS_DROP_BROKEN_OFF] = "drop.broken-off",
		[WS_DROP_STALE_RECEIVED] = "drop.stale-received",
	};
	struct ws_io *io = calloc(1, sizeof(*io));
	pthread_condattr_t attr;

	if (!io) {
		ws_config_free((struct ws_config *)config);
		error_set(err, "out of memory");
		return NULL;
	}
	io->config = *config;
	io->refs = 1;
	io->first_waited = wait;
	io->state = WS_CONNECTING;
	io->since = ws_now();
	for (unsigned i = 0; i < WS_COUNTERS; i++)
		io->counter[i].name = names[i];
	pthread_mutex_init(&io->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&io->changed, &attr);
	pthread_condattr_destroy(&attr);
	io->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (io->event_fd < 0) {
		error_set(err, "no event descriptor: %s", strerror(errno));
		goto fail;
	}
	io->out = frame_queue_create(WS_QUEUE_BYTES, err);
	io->in = frame_queue_create(WS_QUEUE_BYTES, err);
	if (!io->out || !io->in)
		goto fail;
	if (config->tls) {
		io->ssl_ctx = ws_tls_create(io, ca, err);
		if (!io->ssl_ctx)
			goto fail;
	}
	if (make_context(io, err) && start_thread(io, err))
		return io;
fail:
	unref(io);
	return NULL;
}

static bool wait_until(struct ws_io *io, const bool *flag, int64_t ns)
{
	int64_t until = ws_now() + ns;
	struct timespec t = { until / NS_PER_S, until % NS_PER_S };

	while (!*flag && !pthread_cond_timedwait(&io->changed, &io->lock, &t))
		;
	return *flag;
}

bool ws_io_wait(struct ws_io *io, int64_t ns, struct error *err)
{
	bool ok;

	pthread_mutex_lock(&io->lock);
	if (!wait_until(io, &io->first_done, ns))
		error_set(err, "no answer from the relay within %.3g s%s%s; wait=0 starts without it",
			  ns / 1e9, io->why[0] ? ": " : "", io->why);
	else if (!io->first_ok)
		error_set(err, "%s", io->why);
	ok = io->first_ok;
	pthread_mutex_unlock(&io->lock);
	return ok;
}

void ws_io_stop(struct ws_io *io)
{
	bool finished;

	pthread_mutex_lock(&io->lock);
	__atomic_store_n(&io->closing, true, __ATOMIC_SEQ_CST);
	if (io->context)
		lws_cancel_service(io->context);
	finished = wait_until(io, &io->finished, STOP_MS * MS);
	pthread_mutex_unlock(&io->lock);
	if (finished)
		pthread_join(io->thread, NULL);
	else
		pthread_detach(io->thread); /* in the resolver; it cleans up behind itself */
	unref(io);
}
