/* See chardev.h.
 *
 * One pair of rings and one or two descriptors serve every kind; the kinds
 * differ in how the descriptors come to be and what happens when they end.
 * Input is read ahead into a ring, not only as the device asks for it, so that
 * the escape key works while the guest is not listening.
 *
 * The program's own stdin and stdout are shared with whoever started it, so
 * they are never made non-blocking: a terminal or pipe is opened a second time
 * through /proc, and where that is impossible each write is small and comes
 * after poll() has said that there is room.
 */
#include "core/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "core/chardev_priv.h"
#include "core/loop.h"
#include "core/util.h"

enum {
	OUT_SIZE = 65536,
	IN_SIZE = 16384,
	FLUSH_AT = 2048,          /* bytes waiting that are worth a system call now */
	CAREFUL_CHUNK = 256,      /* what poll() promises room for on a terminal */
	FLUSH_NS = 1000000,
	FILE_FLUSH_NS = 20000000,
	POLL_NS = 100000000,      /* how often a pty is looked at for a new user */
	READ_NS = 5000000,        /* input that cannot be watched */
	DRAIN_MS = 2000,          /* chardev_close(): patience without progress */
	ESCAPE = 1,               /* Ctrl-A */
};

enum chardev_kind { KIND_NULL, KIND_STDIO, KIND_FILE, KIND_PTY, KIND_SOCKET };

struct ring {
	uint8_t *data;
	size_t size, head, count;
};

struct chardev {
	struct loop *loop; /* borrowed */
	enum chardev_kind kind;
	const struct chardev_handlers *handlers;
	void *opaque;
	void (*command)(void *opaque, int key);
	void *command_opaque;
	void (*tap)(void *opaque, const uint8_t *buf, size_t len);
	void *tap_opaque;

	int in_fd, out_fd;       /* -1: none; equal for pty and sockets */
	int listen_fd;
	bool own_in, own_out;    /* close them */
	bool careful;            /* out_fd may block: poll first, write little */
	bool out_regular;        /* never blocks, cannot be watched */
	bool in_unwatchable;     /* in_fd is a file: read by timer */
	struct watch *in_watch, *out_watch, *listen_watch;
	struct timer flush_timer, poll_timer;
	struct ring in, out;
	bool out_blocked;        /* waiting for out_fd to take more */
	bool owes_can_write;     /* chardev_write() took less than it was given */
	bool pumping;
	bool connected;
	bool mux;
	bool escaped;            /* Ctrl-A was read */
	struct socket_spec spec;
	char info[300];

	bool is_tty;
	int tty_fd;
	struct termios tty_saved, tty_raw;
};

static size_t take_output(struct chardev *c, const void *buf, size_t len);
static void in_ready(void *opaque, unsigned events);
static void out_ready(void *opaque, unsigned events);

/* ---- rings ---- */

static bool ring_init(struct ring *r, size_t size)
{
	r->data = malloc(size);
	r->size = size;
	return r->data != NULL;
}

static size_t ring_put(struct ring *r, const uint8_t *buf, size_t len)
{
	size_t n = MIN(len, r->size - r->count);
	size_t tail = (r->head + r->count) % r->size;
	size_t first = MIN(n, r->size - tail);

	memcpy(r->data + tail, buf, first);
	memcpy(r->data, buf + first, n - first);
	r->count += n;
	return n;
}

/* The bytes at the front that lie together. */
static size_t ring_front(const struct ring *r, const uint8_t **buf)
{
	*buf = r->data + r->head;
	return MIN(r->count, r->size - r->head);
}

static void ring_drop(struct ring *r, size_t n)
{
	r->head = (r->head + n) % r->size;
	r->count -= n;
	if (!r->count)
		r->head = 0;
}

/* ---- which descriptors are waited for ---- */

static void update_watches(struct chardev *c)
{
	unsigned in = c->in.count < c->in.size ? LOOP_READ : 0;
	unsigned out = c->out_blocked ? LOOP_WRITE : 0;

	if (c->out_watch)
		watch_set(c->out_watch, out);
	else
		in |= out;
	if (c->in_watch)
		watch_set(c->in_watch, in);
}

static void send_event(struct chardev *c, enum chardev_event event)
{
	if (c->handlers && c->handlers->event)
		c->handlers->event(c->opaque, event);
}

/* ---- the other end comes and goes ---- */

static bool peer_open(struct chardev *c, struct error *err)
{
	c->in_watch = loop_watch(c->loop, c->in_fd, LOOP_READ, in_ready, c, err);
	if (!c->in_watch)
		return false;
	c->connected = true;
	c->out_blocked = false;
	send_event(c, CHARDEV_OPENED);
	return true;
}

static void peer_close(struct chardev *c)
{
	if (!c->connected)
		return;
	loop_unwatch(c->in_watch);
	c->in_watch = NULL;
	c->connected = false;
	c->out_blocked = false;
	ring_drop(&c->out, c->out.count);
	timer_disarm(&c->flush_timer);
	if (c->kind == KIND_SOCKET) {
		close(c->in_fd);
		c->in_fd = c->out_fd = -1;
		if (c->listen_watch)
			watch_set(c->listen_watch, LOOP_READ);
	} else {
		timer_arm(&c->poll_timer, loop_now(c->loop) + POLL_NS);
	}
	send_event(c, CHARDEV_CLOSED);
	if (c->owes_can_write) {
		c->owes_can_write = false;
		if (c->handlers && c->handlers->can_write)
			c->handlers->can_write(c->opaque);
	}
}

static void listen_ready(void *opaque, unsigned events)
{
	struct chardev *c = opaque;
	int fd;

	(void)events;
	watch_set(c->listen_watch, 0);
	fd = socket_accept(&c->spec, c->listen_fd);
	if (fd >= 0) {
		c->in_fd = c->out_fd = fd;
		if (peer_open(c, NULL))
			return;
		close(fd);
		c->in_fd = c->out_fd = -1;
	}
	watch_set(c->listen_watch, LOOP_READ);
}

/* Input is over, output may go on. */
static void input_end(struct chardev *c)
{
	if (c->kind == KIND_SOCKET || c->kind == KIND_PTY) {
		peer_close(c);
		return;
	}
	loop_unwatch(c->in_watch);
	c->in_watch = NULL;
	timer_disarm(&c->poll_timer);
	if (c->own_in)
		close(c->in_fd);
	c->in_fd = -1;
}

/* ---- input ---- */

static void show_help(struct chardev *c)
{
	static const char help[] =
		"\r\n"
		"Ctrl-A h       this help\r\n"
		"Ctrl-A x       quit\r\n"
		"Ctrl-A b       send a break\r\n"
		"Ctrl-A Ctrl-A  send Ctrl-A (so does Ctrl-A a)\r\n";

	take_output(c, help, sizeof(help) - 1);
}

static void escape_command(struct chardev *c, uint8_t key)
{
	static const uint8_t itself = ESCAPE;

	switch (key) {
	case 'h':
	case '?':
		show_help(c);
		break;
	case 'b':
		send_event(c, CHARDEV_BREAK);
		break;
	case 'a':
	case ESCAPE:
		ring_put(&c->in, &itself, 1);
		break;
	default:
		if (c->command)
			c->command(c->command_opaque, key);
	}
}

static void take_input(struct chardev *c, const uint8_t *buf, size_t len)
{
	if (!c->mux) {
		ring_put(&c->in, buf, len);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		if (c->escaped) {
			c->escaped = false;
			escape_command(c, buf[i]);
		} else if (buf[i] == ESCAPE) {
			c->escaped = true;
		} else {
			ring_put(&c->in, &buf[i], 1);
		}
	}
}

static void pump_input(struct chardev *c)
{
	if (c->pumping)
		return; /* the device asked for more from within receive() */
	c->pumping = true;
	while (c->in.count) {
		const uint8_t *buf;
		size_t n = ring_front(&c->in, &buf);

		if (c->handlers && c->handlers->receive) {
			size_t room = c->handlers->can_receive ?
				      c->handlers->can_receive(c->opaque) : n;

			n = MIN(n, room);
			if (!n)
				break;
			c->handlers->receive(c->opaque, buf, n);
		}
		ring_drop(&c->in, n);
	}
	c->pumping = false;
}

/* Returns false when there is nothing more to read for now. */
static bool read_some(struct chardev *c)
{
	uint8_t buf[4096];
	size_t room = c->in.size - c->in.count;
	ssize_t n;

	if (c->in_fd < 0 || !room)
		return false;
	n = read(c->in_fd, buf, MIN(room, sizeof(buf)));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		input_end(c);
		return false;
	}
	take_input(c, buf, n);
	return true;
}

static void in_ready(void *opaque, unsigned events)
{
	struct chardev *c = opaque;

	if (events & LOOP_WRITE)
		out_ready(c, LOOP_WRITE);
	if (!c->in_watch)
		return; /* the peer went away */
	if (events & (LOOP_READ | LOOP_HANGUP)) {
		/* A hang-up with the ring full would come again and again. */
		if (c->in.count == c->in.size && (events & LOOP_HANGUP))
			input_end(c);
		else
			read_some(c);
	}
	pump_input(c);
	update_watches(c);
}

size_t chardev_inject(struct chardev *c, const void *buf, size_t len)
{
	size_t n;

	if (!c)
		return len;
	n = ring_put(&c->in, buf, len);
	chardev_accept_input(c);
	return n;
}

void chardev_accept_input(struct chardev *c)
{
	if (!c)
		return;
	pump_input(c);
	update_watches(c);
}

/* ---- output ---- */

static ssize_t write_some(struct chardev *c, const uint8_t *buf, size_t len)
{
	struct pollfd p = { .fd = c->out_fd, .events = POLLOUT };

	if (c->kind == KIND_SOCKET)
		return send(c->out_fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (c->careful) {
		if (poll(&p, 1, 0) == 0) {
			errno = EAGAIN;
			return -1;
		}
		len = MIN(len, CAREFUL_CHUNK);
	}
	return write(c->out_fd, buf, len);
}

void chardev_flush(struct chardev *c)
{
	while (c->out.count) {
		const uint8_t *buf;
		size_t n = ring_front(&c->out, &buf);
		ssize_t done = write_some(c, buf, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0 && errno == EAGAIN) {
			c->out_blocked = true;
			break;
		}
		if (done < 0) {
			/* Nobody will ever read it: EPIPE, EIO, a full disk. */
			if (c->kind == KIND_SOCKET || c->kind == KIND_PTY) {
				peer_close(c);
				return;
			}
			done = n;
		}
		ring_drop(&c->out, done);
	}
	if (!c->out.count) {
		c->out_blocked = false;
		timer_disarm(&c->flush_timer);
	}
	update_watches(c);
}

static void flush_fire(void *opaque)
{
	struct chardev *c = opaque;

	if (!c->out_blocked)
		chardev_flush(c);
}

static void out_ready(void *opaque, unsigned events)
{
	struct chardev *c = opaque;

	(void)events; /* after a hang-up the write finds out what is wrong */
	c->out_blocked = false;
	chardev_flush(c);
	if (c->owes_can_write && c->out.count <= c->out.size / 2) {
		c->owes_can_write = false;
		if (c->handlers && c->handlers->can_write)
			c->handlers->can_write(c->opaque);
	}
}

static size_t take_output(struct chardev *c, const void *buf, size_t len)
{
	size_t n;

	if (!c->connected || c->out_fd < 0)
		return len;
	n = ring_put(&c->out, buf, len);
	if (!c->out_blocked) {
		if (c->out.count >= FLUSH_AT)
			chardev_flush(c);
		if (n < len)
			n += ring_put(&c->out, (const uint8_t *)buf + n, len - n);
		if (c->out.count && !c->out_blocked && !timer_armed(&c->flush_timer))
			timer_arm(&c->flush_timer, loop_now(c->loop) +
				  (c->out_regular ? FILE_FLUSH_NS : FLUSH_NS));
	}
	if (n < len && c->connected)
		c->owes_can_write = true;
	return c->connected ? n : len;
}

size_t chardev_write(struct chardev *c, const void *buf, size_t len)
{
	size_t n;

	if (!c)
		return len;
	n = take_output(c, buf, len);
	if (c->tap && n)
		c->tap(c->tap_opaque, buf, n);
	return n;
}

bool chardev_connected(const struct chardev *c)
{
	return c && c->connected;
}

/* ---- the timer of what cannot be watched ---- */

static bool pty_in_use(const struct chardev *c)
{
	struct pollfd p = { .fd = c->in_fd, .events = POLLIN };

	return poll(&p, 1, 0) == 0 || !(p.revents & POLLHUP);
}

static void poll_fire(void *opaque)
{
	struct chardev *c = opaque;
	int64_t again = READ_NS;

	if (c->kind == KIND_PTY) {
		if (pty_in_use(c) && peer_open(c, NULL))
			return;
		again = POLL_NS;
	} else {
		if (c->in.count < c->in.size)
			read_some(c);
		pump_input(c);
	}
	if (c->in_fd >= 0)
		timer_arm(&c->poll_timer, loop_now(c->loop) + again);
}

/* ---- kinds ---- */

static void tty_apply(int fd, const struct termios *t)
{
	sigset_t block, old;

	/* A background job that touches its terminal is stopped; not this one. */
	sigemptyset(&block);
	sigaddset(&block, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &block, &old);
	tcsetattr(fd, TCSANOW, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void chardev_terminal(struct chardev *c, bool raw)
{
	pid_t front;

	if (!c || !c->is_tty)
		return;
	/* In the background the terminal is somebody else's. It has no process
	 * group at all where it is not the controlling one. */
	front = tcgetpgrp(c->tty_fd);
	if (raw && front > 0 && front != getpgrp())
		return;
	tty_apply(c->tty_fd, raw ? &c->tty_raw : &c->tty_saved);
}

static void tty_init(struct chardev *c)
{
	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &c->tty_saved) < 0)
		return;
	c->is_tty = true;
	c->tty_fd = STDIN_FILENO;
	c->tty_raw = c->tty_saved;
	c->tty_raw.c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	c->tty_raw.c_lflag &= ~(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
	c->tty_raw.c_cflag = (c->tty_raw.c_cflag & ~(CSIZE | PARENB)) | CS8;
	c->tty_raw.c_cc[VMIN] = 1;
	c->tty_raw.c_cc[VTIME] = 0;
	chardev_terminal(c, true);
}

static bool open_stdin(struct chardev *c, struct error *err)
{
	struct stat st;

	if (fstat(STDIN_FILENO, &st) < 0)
		return true; /* closed: no input */
	c->in_fd = STDIN_FILENO;
	c->in_watch = loop_watch(c->loop, c->in_fd, LOOP_READ, in_ready, c, NULL);
	if (!c->in_watch) {
		c->in_unwatchable = true;
		timer_arm(&c->poll_timer, loop_now(c->loop) + READ_NS);
	}
	return true;
}

static bool open_stdout(struct chardev *c, struct error *err)
{
	struct stat st;

	if (fstat(STDOUT_FILENO, &st) < 0)
		return true; /* closed: discarded */
	c->out_fd = STDOUT_FILENO;
	c->out_regular = S_ISREG(st.st_mode);
	if (S_ISFIFO(st.st_mode) || isatty(STDOUT_FILENO)) {
		int fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

		c->careful = fd < 0;
		if (fd >= 0) {
			c->out_fd = fd;
			c->own_out = true;
		}
	} else {
		c->careful = !c->out_regular;
	}
	c->out_watch = loop_watch(c->loop, c->out_fd, 0, out_ready, c, NULL);
	return true;
}

static bool stdio_open(struct chardev *c, const char *options, struct error *err)
{
	bool forced = false;

	if (!strcmp(options, "mux=on")) {
		c->mux = forced = true;
	} else if (!strcmp(options, "mux=off")) {
		forced = true;
	} else if (*options) {
		error_set(err, "option \"%s\" is unknown; there are mux=on and mux=off", options);
		return false;
	}
	tty_init(c);
	if (!forced)
		c->mux = c->is_tty;
	c->connected = true;
	return open_stdin(c, err) && open_stdout(c, err);
}

static bool file_open(struct chardev *c, const char *path, struct error *err)
{
	struct stat st;

	if (!*path) {
		error_set(err, "file needs a path");
		return false;
	}
	c->out_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	if (c->out_fd < 0) {
		error_set(err, "%s: cannot write: %s", path, strerror(errno));
		return false;
	}
	c->own_out = true;
	c->connected = true;
	c->out_regular = fstat(c->out_fd, &st) == 0 && S_ISREG(st.st_mode);
	if (!c->out_regular) {
		fcntl(c->out_fd, F_SETFL, O_NONBLOCK);
		c->out_watch = loop_watch(c->loop, c->out_fd, 0, out_ready, c, NULL);
	}
	return true;
}

static bool pty_open(struct chardev *c, struct error *err)
{
	struct termios t;
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0 ||
	    ptsname_r(fd, c->info, sizeof(c->info))) {
		error_set(err, "cannot make a pseudo terminal: %s", strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	if (tcgetattr(fd, &t) == 0) {
		cfmakeraw(&t);
		tcsetattr(fd, TCSANOW, &t);
	}
	c->in_fd = c->out_fd = fd;
	c->own_in = true;
	/* Until somebody has opened the other side, the master only knows "hung
	 * up" once it has been opened and closed: do that. */
	fd = open(c->info, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	timer_arm(&c->poll_timer, loop_now(c->loop) + POLL_NS);
	return true;
}

static bool socket_open(struct chardev *c, bool tcp, const char *text, struct error *err)
{
	if (!socket_spec_parse(&c->spec, tcp, text, err))
		return false;
	if (c->spec.server) {
		c->listen_fd = socket_listen(&c->spec, err);
		if (c->listen_fd < 0)
			return false;
		c->listen_watch = loop_watch(c->loop, c->listen_fd, c->spec.wait ? 0 : LOOP_READ,
					     listen_ready, c, err);
		if (!c->listen_watch)
			return false;
	}
	if (tcp)
		snprintf(c->info, sizeof(c->info), "%s:%s", c->spec.host, c->spec.port);
	else
		snprintf(c->info, sizeof(c->info), "%s", c->spec.path);
	if (c->spec.server && !c->spec.wait)
		return true;
	if (c->spec.server) {
		c->in_fd = socket_wait(c->listen_fd) ? socket_accept(&c->spec, c->listen_fd) : -1;
		if (c->in_fd < 0)
			error_set(err, "%s: cannot accept a peer: %s", c->info, strerror(errno));
	} else {
		c->in_fd = socket_connect(&c->spec, err);
	}
	c->out_fd = c->in_fd;
	return c->in_fd >= 0 && peer_open(c, err);
}

/* ---- the interface ---- */

static const char *after(const char *spec, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(spec, prefix, n) ? NULL : spec + n;
}

static bool open_kind(struct chardev *c, const char *spec, struct error *err)
{
	const char *rest;

	if (!strcmp(spec, "null") || !strcmp(spec, "none")) {
		c->connected = true; /* to something that is silent and takes all */
		return true;
	}
	if (!strcmp(spec, "stdio") || (rest = after(spec, "stdio,"))) {
		c->kind = KIND_STDIO;
		return stdio_open(c, spec[5] ? spec + 6 : "", err);
	}
	if ((rest = after(spec, "file:"))) {
		c->kind = KIND_FILE;
		return file_open(c, rest, err);
	}
	if (!strcmp(spec, "pty")) {
		c->kind = KIND_PTY;
		return pty_open(c, err);
	}
	c->kind = KIND_SOCKET;
	if ((rest = after(spec, "unix:")))
		return socket_open(c, false, rest, err);
	if ((rest = after(spec, "tcp:")))
		return socket_open(c, true, rest, err);
	c->kind = KIND_NULL;
	error_set(err, "\"%s\" is unknown; there are stdio, file:PATH, pty, unix:PATH, tcp:HOST:PORT, null and none",
		  spec);
	return false;
}

struct chardev *chardev_open(struct loop *loop, const char *spec, struct error *err)
{
	struct chardev *c = calloc(1, sizeof(*c));

	if (!c || !ring_init(&c->in, IN_SIZE) || !ring_init(&c->out, OUT_SIZE)) {
		error_set(err, "out of memory for a character device");
		if (c) {
			free(c->in.data);
			free(c);
		}
		return NULL;
	}
	c->loop = loop;
	c->in_fd = c->out_fd = c->listen_fd = -1;
	timer_init(&c->flush_timer, loop, "chardev-flush", flush_fire, c);
	timer_init(&c->poll_timer, loop, "chardev-poll", poll_fire, c);
	if (!open_kind(c, spec, err)) {
		chardev_close(c);
		return NULL;
	}
	return c;
}

static void drain(struct chardev *c)
{
	for (;;) {
		struct pollfd p = { .fd = c->out_fd, .events = POLLOUT };
		size_t before = c->out.count;

		if (!before || c->out_fd < 0 || !c->connected)
			return;
		chardev_flush(c);
		if (c->out.count == before && poll(&p, 1, DRAIN_MS) <= 0)
			return;
	}
}

void chardev_close(struct chardev *c)
{
	if (!c)
		return;
	send_event(c, CHARDEV_GONE);
	c->handlers = NULL;
	drain(c);
	chardev_terminal(c, false);
	loop_unwatch(c->in_watch);
	loop_unwatch(c->out_watch);
	loop_unwatch(c->listen_watch);
	timer_disarm(&c->flush_timer);
	timer_disarm(&c->poll_timer);
	if (c->in_fd >= 0 && (c->own_in || c->kind == KIND_SOCKET))
		close(c->in_fd);
	if (c->out_fd >= 0 && c->own_out)
		close(c->out_fd);
	if (c->listen_fd >= 0) {
		close(c->listen_fd);
		if (!c->spec.tcp)
			unlink(c->spec.path);
	}
	free(c->in.data);
	free(c->out.data);
	free(c);
}

void chardev_set_handlers(struct chardev *c, const struct chardev_handlers *h, void *opaque)
{
	if (!c)
		return;
	c->handlers = h;
	c->opaque = opaque;
}

void chardev_set_command(struct chardev *c, void (*fn)(void *opaque, int key), void *opaque)
{
	if (!c)
		return;
	c->command = fn;
	c->command_opaque = opaque;
}

void chardev_set_tap(struct chardev *c, void (*fn)(void *opaque, const uint8_t *buf, size_t len),
		     void *opaque)
{
	if (!c)
		return;
	c->tap = fn;
	c->tap_opaque = opaque;
}

const char *chardev_info(const struct chardev *c)
{
	return c ? c->info : "";
}
