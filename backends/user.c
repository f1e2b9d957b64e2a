/* user: a network of its own with DHCP, DNS, NAT and TFTP, by libslirp; no root.
 *
 * libslirp runs in a thread of its own, so the guest goes on while the host's
 * network stack works. Two queues join it to the machine:
 *
 *	vCPU thread:  send() -> out -> slirp_input()      slirp thread
 *	              port   <- in  <- user_packet()
 *
 * The port is called in the machine's thread only, libslirp by whoever has its lock:
 * its thread while it is awake. While that sleeps, a frame does not wake it and wait for
 * it to be scheduled: the machine's thread calls libslirp itself, and pokes the sleeper
 * afterwards, because there may be new sockets to watch. So a lone frame (a ping, a key
 * stroke) has its answer at once, and trains of frames are worked on beside the guest.
 *
 * Push-back. A guest that takes no frames fills `in`; libslirp cannot take a frame
 * back, so its sockets are no longer read while `in` lacks room (the host's TCP
 * then slows its peers). What was on its way and does not fit is lost and counted.
 * If `out` is full, the card waits.
 *
 * libslirp keeps its time and its DNS server's address in variables that all
 * instances of a process share; that is why every instance gives it the same clock.
 */
#include "backends/user_priv.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/frame_queue.h"
#include "core/loop.h"
#include "core/util.h"

enum {
	IN_BYTES = 1 << 20,      /* to the guest: 16 TCP windows of 64 KiB */
	OUT_BYTES = 1 << 18,
	IN_ROOM = 128 << 10,     /* sockets are not read while there is less */
	SOCKET_ROOM = 72 << 10,  /* what one socket may bring in at once: a window, headers */
	OUT_BATCH = 64,          /* frames of the guest between two looks at the sockets */
	IN_BATCH = 64,           /* frames to the guest before the guest's code goes on */
	TIMERS = 4,              /* libslirp has one: router advertisement */
	SOCKETS_MAX = 8192,
	LOOK_OUT_NS = 50000,     /* after work, before the thread sleeps */
	LONE_NS = 1000000,       /* a frame so long after the last is no part of a train */
};

enum { WAIT_STOP, WAIT_OUT, WAIT_ROOM, WAIT_POKE, WAIT_SOCKETS };

enum { DROP_SLOW, DROP_FULL, GUEST_ERROR, COUNTERS };

struct user_timer {
	bool used, armed;
	int64_t deadline_ms;
	SlirpTimerCb fire;
	void *opaque;
};

struct user {
	struct net_backend base;
	struct net_counter counter[COUNTERS];
	SlirpConfig config; /* numbers only: its texts went with the URL */
	unsigned log_handler;

	/* the machine's thread */
	struct frame_queue *in;  /* produced by the slirp thread */
	struct frame_queue *out; /* consumed by it */
	struct loop_bell bell; /* rung when `in` has frames */
	struct watch *room_watch;
	struct timer more;       /* the batch ended early */
	bool draining;
	int64_t sent; /* when the guest sent its last frame */

	/* the slirp thread */
	pthread_t thread;
	bool started;
	int stop_fd;
	Slirp *slirp;
	struct user_timer timer[TIMERS];
	struct pollfd *polls;
	unsigned poll_count, poll_size;
	bool stalled; /* `in` is short of room; waiting for its room_fd */
	int64_t worked; /* when it last had something to do */

	pthread_mutex_t lock; /* libslirp and all of the above; its thread lets go to sleep */
	bool asleep;          /* atomic */
	int poke_fd;          /* ends the sleep */
};

/* ---- what libslirp asks for ---- */

static int64_t user_now(void *opaque)
{
	struct timespec ts;

	(void)opaque;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static void user_event_raise(int fd)
{
	uint64_t one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void user_event_clear(int fd)
{
	uint64_t n;

	while (read(fd, &n, sizeof(n)) < 0 && errno == EINTR)
		;
}

static ssize_t user_packet(const void *data, size_t len, void *opaque)
{
	struct user *u = opaque;

	if (!frame_queue_push(u->in, data, len, 0))
		net_count(&u->counter[DROP_SLOW]);
	return len; /* less would be printed by libslirp */
}

static void user_guest_error(const char *text, void *opaque)
{
	struct user *u = opaque;

	(void)text;
	net_count(&u->counter[GUEST_ERROR]);
}

static void *user_timer_new(SlirpTimerCb fire, void *timer_opaque, void *opaque)
{
	struct user *u = opaque;

	for (unsigned i = 0; i < TIMERS; i++) {
		if (u->timer[i].used)
			continue;
		u->timer[i] = (struct user_timer){ .used = true, .fire = fire, .opaque = timer_opaque };
		return &u->timer[i];
	}
	return NULL;
}

static void user_timer_free(void *timer, void *opaque)
{
	struct user_timer *t = timer;

	(void)opaque;
	if (t)
		t->used = t->armed = false;
}

static void user_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	struct user_timer *t = timer;

	(void)opaque;
	if (!t)
		return;
	t->armed = true;
	t->deadline_ms = expire_ms;
}

/* Descriptors are asked for before each poll, and there is no second thread to wake. */
static void user_poll_fd(int fd, void *opaque)
{
	(void)fd;
	(void)opaque;
}

static void user_notify(void *opaque)
{
	(void)opaque;
}

static const SlirpCb user_callbacks = {
	.send_packet = user_packet,
	.guest_error = user_guest_error,
	.clock_get_ns = user_now,
	.timer_new = user_timer_new,
	.timer_free = user_timer_free,
	.timer_mod = user_timer_mod,
	.register_poll_fd = user_poll_fd,
	.unregister_poll_fd = user_poll_fd,
	.notify = user_notify,
};

/* ---- the slirp thread ---- */

static int user_add_poll(int fd, int events, void *opaque)
{
	struct user *u = opaque;
	short want = 0;

	if (u->poll_count == u->poll_size) {
		unsigned size = u->poll_size * 2;
		struct pollfd *p = size <= SOCKETS_MAX ? realloc(u->polls, size * sizeof(*p)) : NULL;

		if (!p)
			return -1;
		u->polls = p;
		u->poll_size = size;
	}
	if (u->stalled)
		events &= ~(SLIRP_POLL_IN | SLIRP_POLL_PRI);
	want |= events & SLIRP_POLL_IN ? POLLIN : 0;
	want |= events & SLIRP_POLL_PRI ? POLLPRI : 0;
	want |= events & SLIRP_POLL_OUT ? POLLOUT : 0;
	/* Errors and ends are reported unasked; a socket that waits for nothing else
	 * would wake the thread for ever. */
	u->polls[u->poll_count] = (struct pollfd){ want ? fd : -1, want, 0 };
	return u->poll_count++;
}

static int user_revents(int index, void *opaque)
{
	struct user *u = opaque;
	int events = 0;
	short got;

	if (index < WAIT_SOCKETS || (unsigned)index >= u->poll_count)
		return 0;
	got = u->polls[index].revents;
	if (!got)
		return 0;
	events |= got & POLLIN ? SLIRP_POLL_IN : 0;
	events |= got & POLLPRI ? SLIRP_POLL_PRI : 0;
	events |= got & POLLOUT ? SLIRP_POLL_OUT : 0;
	events |= got & (POLLERR | POLLNVAL) ? SLIRP_POLL_ERR : 0;
	events |= got & POLLHUP ? SLIRP_POLL_HUP : 0;
	/* The sockets before this one may have used the room up: later, then. */
	if (!frame_queue_room(u->in, SOCKET_ROOM))
		events &= SLIRP_POLL_OUT;
	return events;
}

/* Whether the sockets must wait for the guest. */
static bool user_short_of_room(struct user *u)
{
	return !frame_queue_room(u->in, IN_ROOM) && frame_queue_want_room(u->in);
}

static int user_timeout(struct user *u, uint32_t slirp_ms)
{
	int64_t now = user_now(NULL) / 1000000, ms = MIN(slirp_ms, 60000u);

	for (unsigned i = 0; i < TIMERS; i++) {
		if (u->timer[i].armed)
			ms = MIN(ms, MAX(u->timer[i].deadline_ms - now, 0));
	}
	return ms;
}

static void user_timers(struct user *u)
{
	int64_t now = user_now(NULL) / 1000000;

	for (unsigned i = 0; i < TIMERS; i++) {
		struct user_timer *t = &u->timer[i];

		if (t->armed && t->deadline_ms <= now) {
			t->armed = false;
			t->fire(t->opaque);
		}
	}
}

static bool user_feed(struct user *u)
{
	const struct frame *f;
	unsigned n;

	for (n = 0; n < OUT_BATCH && (f = frame_queue_peek(u->out)); n++) {
		slirp_input(u->slirp, f->data, f->len);
		frame_queue_pop(u->out);
	}
	return n != 0;
}

/* How long poll() may sleep. Frames come in trains; being put to sleep and woken for each
 * costs more than they do, on either side. */
static int user_patience(struct user *u, uint32_t slirp_ms)
{
	if (user_now(NULL) - u->worked < LOOK_OUT_NS) {
		sched_yield();
		return 0;
	}
	return frame_queue_arm(u->out) ? user_timeout(u, slirp_ms) : 0;
}

static void *user_thread(void *opaque)
{
	struct user *u = opaque;

	pthread_mutex_lock(&u->lock);
	for (;;) {
		uint32_t slirp_ms = UINT32_MAX;
		int ready, timeout;

		u->stalled = user_short_of_room(u);
		u->poll_count = WAIT_SOCKETS;
		slirp_pollfds_fill(u->slirp, &slirp_ms, user_add_poll, u);
		timeout = user_patience(u, slirp_ms);
		__atomic_store_n(&u->asleep, timeout != 0, __ATOMIC_RELAXED);
		pthread_mutex_unlock(&u->lock);
		ready = poll(u->polls, u->poll_count, timeout);
		pthread_mutex_lock(&u->lock);
		__atomic_store_n(&u->asleep, false, __ATOMIC_RELAXED);
		if (u->polls[WAIT_STOP].revents)
			break;
		if (u->polls[WAIT_POKE].revents)
			user_event_clear(u->poke_fd);
		if (u->polls[WAIT_OUT].revents)
			frame_queue_seen(u->out);
		if (u->polls[WAIT_ROOM].revents)
			frame_queue_room_seen(u->in);
		if (user_feed(u) || ready > 0)
			u->worked = user_now(NULL);
		slirp_pollfds_poll(u->slirp, ready < 0, user_revents, u);
		user_timers(u);
	}
	pthread_mutex_unlock(&u->lock);
	return NULL;
}

/* ---- the machine's thread ---- */

static void user_drain(struct user *u)
{
	struct net_port *port = u->base.port;
	unsigned n = 0;

	if (u->draining)
		return;
	u->draining = true;
	do {
		const struct frame *f;

		while ((f = frame_queue_peek(u->in))) {
			if (!net_port_can_receive(port)) {
				u->draining = false;
				return; /* user_readable() goes on */
			}
			if (n++ == IN_BATCH) {
				timer_arm(&u->more, loop_now(port->loop));
				u->draining = false;
				return;
			}
			net_port_receive(port, f->data, f->len);
			frame_queue_pop(u->in);
		}
	} while (!frame_queue_arm(u->in));
	u->draining = false;
}

static void user_in_ready(void *opaque)
{
	user_drain(opaque);
}

static void user_ring(void *opaque)
{
	loop_bell_ring(opaque);
}

static void user_more(void *opaque)
{
	user_drain(opaque);
}

static void user_readable(struct net_backend *b)
{
	user_drain(container_of(b, struct user, base));
}

static void user_out_room(void *opaque, unsigned events)
{
	struct user *u = opaque;

	(void)events;
	frame_queue_room_seen(u->out);
	net_port_writable(u->base.port);
}

static bool user_can_send(struct net_backend *b)
{
	struct user *u = container_of(b, struct user, base);

	return frame_queue_room(u->out, NET_FRAME_MAX) || !frame_queue_want_room(u->out);
}

/* libslirp writes to sockets whose peer may have gone: the signal for that is not for
 * the program that has this machine's thread. */
static void user_input_quietly(struct user *u, const uint8_t *frame, size_t len)
{
	const struct timespec now = { 0, 0 };
	sigset_t pipe, before, pending;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, &before);
	slirp_input(u->slirp, frame, len);
	if (!sigismember(&before, SIGPIPE)) {
		if (!sigpending(&pending) && sigismember(&pending, SIGPIPE))
			sigtimedwait(&pipe, NULL, &now);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
}

/* A lone frame, while libslirp's thread sleeps. */
static bool user_send_now(struct user *u, const uint8_t *frame, size_t len)
{
	int64_t since = u->sent;
	bool now;

	u->sent = user_now(NULL);
	if (u->sent - since < LONE_NS || !__atomic_load_n(&u->asleep, __ATOMIC_RELAXED) ||
	    pthread_mutex_trylock(&u->lock))
		return false;
	now = __atomic_load_n(&u->asleep, __ATOMIC_RELAXED) && frame_queue_empty(u->out);
	if (now)
		user_input_quietly(u, frame, len);
	pthread_mutex_unlock(&u->lock);
	if (now)
		user_event_raise(u->poke_fd);
	return now;
}

static void user_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	struct user *u = container_of(b, struct user, base);

	if (user_send_now(u, frame, len))
		return;
	if (!frame_queue_push(u->out, frame, len, 0))
		net_count(&u->counter[DROP_FULL]);
}

static void user_status(struct net_backend *b, char *text, size_t size)
{
	struct user *u = container_of(b, struct user, base);
	char host[INET_ADDRSTRLEN], guest[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &u->config.vhost, host, sizeof(host));
	inet_ntop(AF_INET, &u->config.vdhcp_start, guest, sizeof(guest));
	snprintf(text, size, "NAT by libslirp %s: gateway %s, addresses from %s%s",
		 slirp_version_string(), host, guest,
		 u->config.restricted ? ", nothing leaves it" : "");
}

static void user_close(struct net_backend *b)
{
	struct user *u = container_of(b, struct user, base);

	if (u->started) {
		user_event_raise(u->stop_fd);
		pthread_join(u->thread, NULL);
	}
	if (u->slirp)
		slirp_cleanup(u->slirp);
	timer_disarm(&u->more);
	loop_bell_remove(&u->bell);
	loop_unwatch(u->room_watch);
	user_log_loud(u->log_handler);
	frame_queue_destroy(u->in);
	frame_queue_destroy(u->out);
	if (u->stop_fd >= 0)
		close(u->stop_fd);
	if (u->poke_fd >= 0)
		close(u->poke_fd);
	pthread_mutex_destroy(&u->lock);
	free(u->polls);
	free(u);
}

static const struct net_backend_ops user_ops = {
	.name = "user", .can_send = user_can_send, .send = user_send, .readable = user_readable,
	.close = user_close, .status = user_status,
};

/* ---- opening ---- */

/* The descriptor libslirp polls now and did not before @known were seen. */
static int newest_socket(struct user *u, const int *known, unsigned count)
{
	uint32_t ms = UINT32_MAX;

	u->poll_count = WAIT_SOCKETS;
	slirp_pollfds_fill(u->slirp, &ms, user_add_poll, u);
	for (unsigned i = WAIT_SOCKETS; i < u->poll_count; i++) {
		unsigned k = 0;

		while (k < count && known[k] != u->polls[i].fd)
			k++;
		if (k == count)
			return u->polls[i].fd;
	}
	return -1;
}

enum { FORWARDS_MAX = 256 };

static bool user_add_forwards(struct user *u, const char *list, struct error *err)
{
	int known[FORWARDS_MAX];
	unsigned count = 0;

	while (list && *list) {
		struct user_forward f;
		char host[USER_ADDRESS_TEXT], guest[USER_ADDRESS_TEXT];
		struct sockaddr_storage bound;
		socklen_t bound_len = sizeof(bound);

		list = user_next_forward(list, &f, err);
		if (!list)
			return false;
		if (count == FORWARDS_MAX) {
			error_set(err, "hostfwd: more than %d forwards", FORWARDS_MAX);
			return false;
		}
		user_address_text(&f.host, host, sizeof(host));
		if (slirp_add_hostxfwd(u->slirp, (struct sockaddr *)&f.host, f.host_len,
				       (struct sockaddr *)&f.guest, f.guest_len,
				       (f.udp ? SLIRP_HOSTFWD_UDP : 0) |
				       (f.host.ss_family == AF_INET6 ? SLIRP_HOSTFWD_V6ONLY : 0)) < 0) {
			int e = errno;

			error_set(err, "hostfwd=%s: cannot listen on %s %s: %s%s", f.text,
				  f.udp ? "udp" : "tcp", host, strerror(e),
				  e == EADDRINUSE ? "; choose another port, or 0 for a free one" :
				  e == EACCES ? "; ports below 1024 belong to root, choose a higher one" :
				  e == EADDRNOTAVAIL ? "; no interface of this host has that address" : "");
			return false;
		}
		known[count] = newest_socket(u, known, count);
		if (known[count] < 0 || getsockname(known[count], (struct sockaddr *)&bound, &bound_len) < 0)
			bound = f.host;
		count++;
		if (f.host.ss_family == AF_INET ? ((struct sockaddr_in *)&f.host)->sin_port :
						  ((struct sockaddr_in6 *)&f.host)->sin6_port)
			continue;
		if (f.guest.ss_family == AF_INET && !((struct sockaddr_in *)&f.guest)->sin_addr.s_addr)
			((struct sockaddr_in *)&f.guest)->sin_addr = u->config.vdhcp_start;
		user_address_text(&bound, host, sizeof(host));
		user_address_text(&f.guest, guest, sizeof(guest));
		net_port_notify(u->base.port, "hostfwd %s %s -> %s", f.udp ? "udp" : "tcp", host, guest);
	}
	return true;
}

static bool user_start_thread(struct user *u, struct error *err)
{
	sigset_t all, old;
	int e;

	/* The host program's signals are not for this thread; a broken pipe's, which
	 * libslirp's writes can raise, stays pending in it for ever. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	e = pthread_create(&u->thread, NULL, user_thread, u);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (e) {
		error_set(err, "no thread for libslirp: %s", strerror(e));
		return false;
	}
	pthread_setname_np(u->thread, "net-user");
	u->started = true;
	return true;
}

struct net_backend *user_open(struct backend_env *env, struct net_port *port,
			      struct backend_url *url, struct error *err)
{
	struct user *u = calloc(1, sizeof(*u));
	SlirpConfig config;

	(void)env;
	if (!u) {
		error_set(err, "out of memory");
		return NULL;
	}
	u->base = (struct net_backend){ &user_ops, port, { u->counter, COUNTERS } };
	u->counter[DROP_SLOW].name = "drop.guest-slow";
	u->counter[DROP_FULL].name = "drop.queue-full";
	u->counter[GUEST_ERROR].name = "guest-error";
	u->stop_fd = u->poke_fd = -1;
	pthread_mutex_init(&u->lock, NULL);
	timer_init(&u->more, port->loop, "user-more", user_more, u);
	if (*url->body) {
		error_set(err, "'%.40s' after user: means nothing; parameters follow a '?'", url->body);
		goto fail;
	}
	if (!user_options(url, &config, err))
		goto fail;

	u->in = frame_queue_create(IN_BYTES, err);
	u->out = frame_queue_create(OUT_BYTES, err);
	u->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	u->poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	u->poll_size = 64;
	u->polls = calloc(u->poll_size, sizeof(*u->polls));
	if (!u->in || !u->out || u->stop_fd < 0 || u->poke_fd < 0 || !u->polls) {
		error_set(err, "no queues for libslirp: %s", strerror(errno));
		goto fail;
	}
	u->polls[WAIT_STOP] = (struct pollfd){ u->stop_fd, POLLIN, 0 };
	u->polls[WAIT_POKE] = (struct pollfd){ u->poke_fd, POLLIN, 0 };
	u->polls[WAIT_OUT] = (struct pollfd){ frame_queue_fd(u->out), POLLIN, 0 };
	u->polls[WAIT_ROOM] = (struct pollfd){ frame_queue_room_fd(u->in), POLLIN, 0 };
	loop_bell_add(port->loop, &u->bell, user_in_ready, u);
	frame_queue_on_frame(u->in, user_ring, &u->bell);
	u->room_watch = loop_watch(port->loop, frame_queue_room_fd(u->out), LOOP_READ,
				   user_out_room, u, err);
	if (!u->room_watch)
		goto fail;

	u->log_handler = user_log_quiet();
	u->config = config;
	u->slirp = slirp_new(&config, &user_callbacks, u);
	if (!u->slirp) {
		error_set(err, "libslirp refuses these options");
		goto fail;
	}
	u->config.vhostname = u->config.vdomainname = u->config.tftp_path = NULL;
	u->config.bootfile = u->config.tftp_server_name = NULL;
	if (!user_add_forwards(u, url_text(url, "hostfwd"), err))
		goto fail;
	if (!frame_queue_arm(u->in))
		timer_arm(&u->more, loop_now(port->loop));
	if (!user_start_thread(u, err))
		goto fail;
	return &u->base;
fail:
	user_close(&u->base);
	return NULL;
}
