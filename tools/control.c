/* The control socket: who connects, what comes in, what goes out.
 *
 * JSON texts (RFC 8259), one a line, over a unix socket that only its owner may
 * open; docs/control.md has the words. Everything happens in the machine's thread,
 * between two instructions: the guest stands still while a request is served, so
 * that each sees it at one moment. Nothing here blocks: who does not read his
 * answers is not asked for more requests, and misses events.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/util.h"
#include "tools/control_priv.h"

enum { BACKLOG = 16, REQUESTS_A_TURN = 32, ACCEPT_AGAIN_NS = 200000000 };

static void client_ready(void *opaque, unsigned events);
static void schedule(struct control *c);

/* ---- going out ---- */

static void client_watch(struct client *cl)
{
	unsigned events = cl->out_len ? GANNET_WRITE : 0;

	if (!cl->eof && cl->in_len < sizeof(cl->in))
		events |= GANNET_READ;
	gannet_watch_set(cl->watch, events);
}

static void client_close(struct client *cl)
{
	struct control *c = cl->control;

	gannet_watch_close(cl->watch);
	close(cl->fd);
	task_abandon(cl);
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
		if (c->client[i] == cl)
			c->client[i] = NULL;
	}
	free(cl->out);
	free(cl);
	/* There is room again. */
	if (c->watch)
		gannet_watch_set(c->watch, GANNET_READ);
}

/* False: the peer is gone. */
static bool client_flush(struct client *cl)
{
	size_t done = 0;

	while (done < cl->out_len) {
		ssize_t n = send(cl->fd, cl->out + done, cl->out_len - done,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			cl->out_len = 0;
			cl->eof = true;
			return false;
		}
		if (n < 0)
			break;
		done += n;
	}
	cl->out_len -= done;
	memmove(cl->out, cl->out + done, cl->out_len);
	return true;
}

void control_say(struct client *cl, json_t *message)
{
	char *text = json_dumps(message, JSON_COMPACT);
	size_t len;

	json_decref(message);
	if (!text)
		text = strdup("{\"id\":null,\"ok\":false,\"error\":\"out of memory\"}");
	len = text ? strlen(text) : 0;
	if (text && cl->out_room - cl->out_len < len + 1) {
		char *more = realloc(cl->out, cl->out_len + len + 4096);

		if (!more) {
			free(text);
			return;
		}
		cl->out = more;
		cl->out_room = cl->out_len + len + 4096;
	}
	if (text) {
		memcpy(cl->out + cl->out_len, text, len);
		cl->out[cl->out_len + len] = '\n';
		cl->out_len += len + 1;
	}
	free(text);
	client_flush(cl);
	client_watch(cl);
}

void control_event(struct control *c, json_t *event)
{
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
		struct client *cl = c->client[i];

		if (cl && cl->events && cl->out_len < CONTROL_OUT_MAX)
			control_say(cl, json_incref(event));
	}
	json_decref(event);
}

/* ---- coming in ---- */

static void refuse(struct client *cl, json_t *id, const char *why)
{
	control_say(cl, json_pack("{s:o?,s:b,s:o}", "id", json_incref(id), "ok", 0, "error",
				  text_value((const uint8_t *)why, strlen(why))));
}

static void serve_line(struct client *cl, const char *line, size_t len)
{
	struct error err = { "" };
	json_error_t where;
	json_t *request, *reply, *id;

	if (strspn(line, " \t\r") >= len)
		return;
	request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &where);
	id = json_object_get(request, "id"); /* NULL for what is no object, too */
	if (!json_is_object(request)) {
		error_set(&err, "not a JSON object in one line: %.160s", request ? "[...]" : where.text);
		refuse(cl, NULL, err.text);
		json_decref(request);
		return;
	}
	reply = json_object();
	if (!control_command(cl, request, reply, &err)) {
		task_finish(&cl->task);
		refuse(cl, id, err.text);
		json_decref(reply);
	} else if (cl->task.kind != TASK_NONE) {
		cl->task.id = json_incref(id);
		json_decref(reply);
	} else {
		json_object_set_new(reply, "id", id ? json_incref(id) : json_null());
		json_object_set_new(reply, "ok", json_true());
		control_say(cl, reply);
	}
	json_decref(request);
}

/* Whole lines, one after the other is answered. */
static void serve_lines(struct client *cl)
{
	char *line = cl->in, *end = cl->in + cl->in_len, *stop;
	unsigned turn = 0;

	while (cl->task.kind == TASK_NONE && cl->out_len < CONTROL_OUT_MAX &&
	       (stop = memchr(line, '\n', end - line))) {
		if (turn++ == REQUESTS_A_TURN) {
			cl->control->soon = true;
			break;
		}
		*stop = '\0';
		if (!cl->discard)
			serve_line(cl, line, stop - line);
		cl->discard = false;
		line = stop + 1;
	}
	cl->in_len = end - line;
	memmove(cl->in, line, cl->in_len);
	if (cl->in_len < sizeof(cl->in) || memchr(cl->in, '\n', cl->in_len))
		return;
	if (!cl->discard)
		refuse(cl, NULL, "the line is longer than 65535 bytes");
	cl->discard = true;
	cl->in_len = 0;
}

/* False: it was closed. */
static bool client_serve(struct client *cl)
{
	serve_lines(cl);
	if (cl->eof && cl->task.kind == TASK_NONE && !cl->out_len &&
	    !memchr(cl->in, '\n', cl->in_len)) {
		client_close(cl);
		return false;
	}
	client_watch(cl);
	return true;
}

static void client_ready(void *opaque, unsigned events)
{
	struct client *cl = opaque;
	struct control *c = cl->control;

	if (events & GANNET_WRITE && !client_flush(cl))
		events |= GANNET_HANGUP;
	if (events & GANNET_READ && cl->in_len < sizeof(cl->in)) {
		ssize_t n = recv(cl->fd, cl->in + cl->in_len, sizeof(cl->in) - cl->in_len,
				 MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			cl->eof = true;
		else if (n > 0)
			cl->in_len += n;
	}
	/* Hung up: what it asked for is done, but nobody waits for what takes time. */
	if (events & GANNET_HANGUP && (cl->eof || !(events & GANNET_READ))) {
		serve_lines(cl);
		client_close(cl);
	} else {
		client_serve(cl);
	}
	schedule(c);
}

static void accept_ready(void *opaque, unsigned events)
{
	struct control *c = opaque;
	struct client *cl;
	unsigned i = 0;
	int fd;

	(void)events;
	while (i < CONTROL_CLIENTS && c->client[i])
		i++;
	if (i == CONTROL_CLIENTS) {
		/* Who comes now waits in the backlog until somebody leaves. */
		gannet_watch_set(c->watch, 0);
		return;
	}
	fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR)
			return;
		/* No descriptor for it; it would be asked for again and again. */
		gannet_watch_set(c->watch, 0);
		c->accept_at = control_now() + ACCEPT_AGAIN_NS;
		schedule(c);
		return;
	}
	cl = calloc(1, sizeof(*cl));
	if (cl) {
		cl->control = c;
		cl->fd = fd;
		cl->watch = gannet_watch_open(c->g, fd, GANNET_READ, client_ready, cl);
	}
	if (!cl || !cl->watch) {
		free(cl);
		close(fd);
		return;
	}
	c->client[i] = cl;
}

/* ---- what takes time ---- */

static void set_timer(struct control *c, int64_t at)
{
	struct itimerspec its = { .it_value = { at / 1000000000, at % 1000000000 } };

	if (at == INT64_MAX)
		its.it_value = (struct timespec){ 0, 0 };
	timerfd_settime(c->timer, TFD_TIMER_ABSTIME, &its, NULL);
}

void control_wake(struct control *c)
{
	if (c->soon)
		return;
	c->soon = true;
	set_timer(c, 1);
}

static void schedule(struct control *c)
{
	int64_t at = tasks_run(c);

	if (c->accept_at)
		at = MIN(at, c->accept_at);
	set_timer(c, c->soon ? 1 : at);
}

static void timer_ready(void *opaque, unsigned events)
{
	struct control *c = opaque;
	uint64_t count;
	ssize_t n = read(c->timer, &count, sizeof(count));

	(void)events;
	(void)n;
	c->soon = false;
	if (c->accept_at && control_now() >= c->accept_at) {
		c->accept_at = 0;
		gannet_watch_set(c->watch, GANNET_READ);
	}
	tasks_run(c);
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
		if (c->client[i])
			client_serve(c->client[i]);
	}
	schedule(c);
}

/* ---- life ---- */

/* Somebody's socket, or what a machine that was killed left behind? */
static bool remove_stale(const char *path, const struct sockaddr_un *a, struct error *err)
{
	struct stat st;
	int fd, why;

	if (lstat(path, &st) || !S_ISSOCK(st.st_mode)) {
		error_set(err, "there is a file of that name, and it is no socket");
		return false;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	why = connect(fd, (const struct sockaddr *)a, sizeof(*a)) ? errno : 0;
	if (fd >= 0)
		close(fd);
	if (why != ECONNREFUSED) {
		error_set(err, "another process listens there; use another path");
		return false;
	}
	return unlink(path) == 0;
}

static bool bind_path(struct control *c, const char *path, struct error *err)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct stat st;

	if (strlen(path) >= sizeof(a.sun_path)) {
		error_set(err, "a socket's path has at most %zu bytes, this one %zu",
			  sizeof(a.sun_path) - 1, strlen(path));
		return false;
	}
	strcpy(a.sun_path, path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* Before bind(), so that at no moment others may connect. */
	if (c->fd < 0 || fchmod(c->fd, 0600))
		goto fail;
	if (bind(c->fd, (struct sockaddr *)&a, sizeof(a))) {
		if (errno != EADDRINUSE)
			goto fail;
		if (!remove_stale(path, &a, err))
			return false;
		if (bind(c->fd, (struct sockaddr *)&a, sizeof(a)))
			goto fail;
	}
	c->path = strdup(path);
	if (c->path && stat(path, &st) == 0) {
		c->dev = st.st_dev;
		c->ino = st.st_ino;
	}
	if (c->path && !listen(c->fd, BACKLOG))
		return true;
fail:
	error_set(err, "%s", strerror(errno));
	return false;
}

struct control *control_listen(const char *path, struct error *err)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c) {
		error_set(err, "out of memory");
		return NULL;
	}
	c->fd = c->timer = -1;
	if (bind_path(c, path, err))
		return c;
	error_prefix(err, "--control %s", path);
	control_destroy(c);
	return NULL;
}

bool control_serve(struct control *c, struct gannet *g, struct error *err)
{
	c->g = g;
	c->started = control_now();
	c->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (c->timer >= 0)
		c->timer_watch = gannet_watch_open(g, c->timer, GANNET_READ, timer_ready, c);
	c->watch = gannet_watch_open(g, c->fd, GANNET_READ, accept_ready, c);
	if (!c->timer_watch || !c->watch) {
		error_set(err, "--control %s: %s", c->path, strerror(errno));
		return false;
	}
	for (unsigned i = 0; i < GANNET_SERIALS; i++) {
		c->serial[i].control = c;
		c->serial[i].port = i;
		gannet_serial_tap(g, i, control_tap, &c->serial[i]);
	}
	return true;
}

void control_destroy(struct control *c)
{
	struct stat st;

	if (!c)
		return;
	for (unsigned i = 0; c->g && i < GANNET_SERIALS; i++)
		gannet_serial_tap(c->g, i, NULL, NULL);
	control_event(c, json_pack("{s:s}", "event", "ended"));
	gannet_watch_close(c->watch);
	c->watch = NULL;
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
		struct client *cl = c->client[i];

		if (!cl)
			continue;
		if (cl->task.kind != TASK_NONE)
			refuse(cl, cl->task.id, "the machine has ended");
		client_close(cl);
	}
	gannet_watch_close(c->timer_watch);
	if (c->timer >= 0)
		close(c->timer);
	if (c->fd >= 0)
		close(c->fd);
	if (c->path && stat(c->path, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino)
		unlink(c->path);
	free(c->path);
	free(c);
}
