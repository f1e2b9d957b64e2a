/* loopback:NAME: one segment for the processes of one user on this machine.
 *
 * There is no server. Each member listens on a socket of its own in a directory of the
 * user's, $XDG_RUNTIME_DIR/gannet or /tmp/gannet-UID (mode 0700), under the name
 * NAME.ID with ID 16 random hexadecimal digits, and whoever comes later connects to all
 * that are there. Joining is done under the directory's lock, so that of two members
 * exactly one connects, and nobody meets a socket that does not listen yet. The socket
 * file of a dead member refuses connections; whoever meets it removes it.
 *
 * A connection (SOCK_SEQPACKET) begins with a hello from each side: magic, version, the
 * sender's ID, and the memory of a ring for the frames it is going to send
 * (shared_ring.h). After that a message is a byte that means "look": there is a frame
 * for you, or room for yours. The end of the connection is the end of the peer; what
 * it had written until then is still delivered.
 *
 * A hostile peer is one of the same user's, but no message and nothing in shared memory
 * is believed: it loses its connection, and that is all.
 */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "backends/backend.h"
#include "backends/lan.h"
#include "backends/shared_ring.h"
#include "core/util.h"

enum {
	VERSION = 1,
	NAME_MAX_ = 64,
	ID_DIGITS = 16,
	LINKS = LAN_MEMBERS - 1,
	RING_BYTES = 256 * 1024,
	DRAIN_BUDGET = 256,    /* frames in one call */
	POPS_PER_LOOK = 32,    /* frames until the producer is looked after */
	MESSAGES_PER_CALL = 64,
	ACCEPTS_PER_CALL = 16,
	LOCK_TRIES = 200,      /* of 10 ms */
};

#define HELLO_WAIT_NS (5 * NS_PER_S)
#define TIDY_NS (NS_PER_S / 2)

static const char magic[8] = "gannetLB";

struct hello {
	char magic[8];
	uint32_t version;
	uint32_t unused;
	uint64_t id;
};

struct member;

struct link {
	struct lan_peer peer;
	struct member *member;
	unsigned index;
	int fd;                  /* -1: it is gone, but there are frames left */
	struct watch *watch;
	struct shared_ring out, in;
	int64_t since;           /* loop clock */
	bool accepted;           /* it came to us: not trusted with frames before its hello */
};

struct member {
	struct net_backend base;
	struct lan lan;
	struct lan_table table;
	bool busy;               /* giving frames to others: lan.h */
	bool draining;
	bool full_told;
	char name[NAME_MAX_ + 1];
	char file[NAME_MAX_ + 1 + ID_DIGITS + 1];
	uint64_t id;
	char path[PATH_MAX];     /* of the directory, for people */
	int dir;
	int listener;
	struct watch *watch;
	struct timer more;       /* a budget ran out */
	struct timer tidy;       /* hellos that do not come; descriptors that ran out */
	unsigned turn;
	struct link *link[LINKS];
	uint8_t frame[NET_FRAME_MAX];
};

/* ---- the directory ---- */

static bool dir_open(struct member *m, struct error *err)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	bool xdg = run && run[0] == '/';
	struct stat st;

	if (xdg)
		snprintf(m->path, sizeof(m->path), "%.4000s/gannet", run);
	else
		snprintf(m->path, sizeof(m->path), "/tmp/gannet-%u", (unsigned)geteuid());
	if (mkdir(m->path, 0700) && errno != EEXIST) {
		error_set(err, "cannot make the directory %s: %s%s", m->path, strerror(errno),
			  xdg ? " (without XDG_RUNTIME_DIR it is in /tmp)" : "");
		return false;
	}
	m->dir = open(m->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (m->dir < 0 || fstat(m->dir, &st)) {
		error_set(err, "%s is no directory of this user's: %s; remove it", m->path,
			  strerror(errno));
		return false;
	}
	if (st.st_uid != geteuid()) {
		error_set(err, "%s belongs to user %u, not to %u; remove it, or set XDG_RUNTIME_DIR",
			  m->path, (unsigned)st.st_uid, (unsigned)geteuid());
		return false;
	}
	if (st.st_mode & 077) {
		error_set(err, "%s has mode %03o, others could join; chmod 700 %s", m->path,
			  (unsigned)st.st_mode & 0777, m->path);
		return false;
	}
	return true;
}

static bool dir_lock(struct member *m, struct error *err)
{
	const struct timespec pause = { 0, 10000000 };

	for (unsigned i = 0; i < LOCK_TRIES; i++) {
		if (!flock(m->dir, LOCK_EX | LOCK_NB))
			return true;
		if (errno != EWOULDBLOCK && errno != EINTR)
			break;
		nanosleep(&pause, NULL);
	}
	error_set(err, "cannot lock %s: %s", m->path, errno == EWOULDBLOCK
		  ? "a process that is joining holds it and does not go on" : strerror(errno));
	return false;
}

/* By way of the open directory: the path is as long as it likes, and still the one
 * that was checked. */
static void address(const struct member *m, const char *file, struct sockaddr_un *sun)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	snprintf(sun->sun_path, sizeof(sun->sun_path), "/proc/self/fd/%d/%s", m->dir, file);
}

static bool name_ok(const char *name)
{
	size_t len = strlen(name);

	return len >= 1 && len <= NAME_MAX_ &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

/* Is @file NAME.ID with our NAME? */
static bool file_is_ours(const struct member *m, const char *file)
{
	size_t len = strlen(m->name);

	return !strncmp(file, m->name, len) && file[len] == '.' &&
	       strspn(file + len + 1, "0123456789abcdef") == ID_DIGITS &&
	       !file[len + 1 + ID_DIGITS];
}

/* ---- links ---- */

static void bell(struct link *l)
{
	/* If the socket is full of bells one more says nothing new. */
	if (l->fd >= 0)
		send(l->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void link_free(struct link *l)
{
	struct member *m = l->member;

	m->link[l->index] = NULL;
	lan_remove(&m->lan, l->index, 0);
	loop_unwatch(l->watch);
	if (l->fd >= 0)
		close(l->fd);
	shared_ring_finish(&l->in);
	shared_ring_finish(&l->out);
	free(l);
}

/* The connection has ended. The link stays while there are frames to be read. */
static void link_gone(struct link *l)
{
	if (l->fd < 0)
		return;
	loop_unwatch(l->watch);
	l->watch = NULL;
	close(l->fd);
	l->fd = -1;
	lan_remove(&l->member->lan, l->index, shared_ring_unread(&l->out));
	if (!l->in.head || shared_ring_empty(&l->in))
		link_free(l);
}

static void link_refuse(struct link *l, const char *why)
{
	struct member *m = l->member;

	net_count(&m->lan.counter[LAN_REFUSED]);
	net_port_notify(m->base.port, "loopback:%s: a member was refused: %s", m->name, why);
	l->in.bad = true; /* nothing more is read from it */
	link_gone(l);
}

static bool link_take(struct lan_peer *p, const uint8_t *frame, size_t len)
{
	struct link *l = container_of(p, struct link, peer);
	bool ring;

	if (!shared_ring_push(&l->out, frame, len, &ring)) {
		/* Who moved our end of the ring is thrown out, but not from in here. */
		if (l->out.bad)
			timer_arm(&l->member->more, loop_now(l->member->base.port->loop));
		if (l->out.bad || shared_ring_want_room(&l->out, len) ||
		    !shared_ring_push(&l->out, frame, len, &ring))
			return false;
	}
	if (ring)
		bell(l);
	return true;
}

/* Gives the card what the peer has sent; may free @l. */
static void link_drain(struct link *l)
{
	struct member *m = l->member;
	struct net_port *port = m->base.port;
	unsigned budget = DRAIN_BUDGET;
	int64_t now;

	if (!l->in.head)
		return;
	if (m->draining) {
		/* The card asked from within a receive. */
		timer_arm(&m->more, loop_now(port->loop));
		return;
	}
	m->draining = true;
	now = loop_now(port->loop);
	while (budget && net_port_can_receive(port)) {
		size_t len = shared_ring_pop(&l->in, m->frame);

		if (!len) {
			if (l->in.bad || l->fd < 0 || shared_ring_arm(&l->in))
				break;
			continue;
		}
		if (len >= NET_HEADER_SIZE && l->fd >= 0)
			lan_learn(&m->table, m->frame, l->index, now);
		net_port_receive(port, m->frame, len);
		if (--budget % POPS_PER_LOOK == 0 && shared_ring_popped(&l->in))
			bell(l);
	}
	if (shared_ring_popped(&l->in))
		bell(l);
	m->draining = false;
	if ((l->in.bad || l->out.bad) && l->fd >= 0)
		link_refuse(l, "what it writes into the shared memory makes no sense");
	else if (l->fd < 0 && shared_ring_empty(&l->in))
		link_free(l);
	else if (!budget)
		timer_arm(&m->more, now);
}

static void drain_all(void *opaque)
{
	struct member *m = opaque;
	unsigned first = m->turn++;

	for (unsigned i = 0; i < LINKS; i++) {
		struct link *l = m->link[(first + i) % LINKS];

		if (l)
			link_drain(l);
	}
}

/* ---- hello ---- */

static bool hello_send(struct link *l, struct error *err)
{
	struct hello h = { .version = VERSION, .id = l->member->id };
	struct iovec iov = { &h, sizeof(h) };
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .head = {
		.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
	} };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	bool ok;
	int fd;

	memcpy(h.magic, magic, sizeof(magic));
	if (!shared_ring_create(&l->out, RING_BYTES, &fd, err))
		return false;
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	ok = sendmsg(l->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(h);
	if (!ok)
		error_set(err, "no hello: %s", strerror(errno));
	close(fd);
	return ok;
}

/* Takes the one descriptor out of a message; -1 if there is none. */
static int hello_fd(struct msghdr *msg)
{
	int keep = -1;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t bytes = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i + sizeof(int) <= bytes; i += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i, sizeof(fd));
			if (keep < 0)
				keep = fd;
			else
				close(fd);
		}
	}
	return keep;
}

/* False if there is nothing to read yet, or the link is gone. */
static bool hello_receive(struct link *l)
{
	struct member *m = l->member;
	struct hello h;
	struct iovec iov = { &h, sizeof(h) };
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(l->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct error err = { "" };
	int fd;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		link_gone(l);
		return false;
	}
	fd = hello_fd(&msg);
	if (n < (ssize_t)offsetof(struct hello, unused) || memcmp(h.magic, magic, sizeof(magic)))
		error_set(&err, "it is no gannet");
	else if (h.version != VERSION)
		error_set(&err, "it speaks version %u, this gannet version %d; use the same gannet",
			  (unsigned)h.version, VERSION);
	else if (n != sizeof(h) || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || fd < 0)
		error_set(&err, "its greeting is damaged");
	else
		shared_ring_attach(&l->in, fd, &err);
	if (fd >= 0)
		close(fd);
	if (!l->in.head) {
		link_refuse(l, err.text);
		return false;
	}
	if (l->accepted)
		lan_add(&m->lan, l->index, &l->peer);
	return true;
}

static void link_ready(void *opaque, unsigned events)
{
	struct link *l = opaque;
	struct member *m = l->member;
	unsigned index = l->index;

	(void)events; /* an end is read as one */
	if (!l->in.head && !hello_receive(l))
		return;
	for (unsigned i = 0; i < MESSAGES_PER_CALL; i++) {
		char text[2];
		ssize_t n = recv(l->fd, text, sizeof(text), MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n > 1) {
			link_refuse(l, "it sends more than bells");
			break;
		}
		if (n <= 0) {
			link_gone(l);
			break;
		}
	}
	l = m->link[index];
	if (l)
		link_drain(l);
	lan_flush(&m->lan);
}

/* ---- members that come ---- */

static bool same_user(int fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) && who.uid == geteuid();
}

/* Takes over @fd. */
static struct link *link_create(struct member *m, int fd, bool accepted, struct error *err)
{
	struct link *l = calloc(1, sizeof(*l));
	unsigned index = 0;

	while (index < LINKS && m->link[index])
		index++;
	if (!l || index == LINKS) {
		error_set(err, l ? "there are %d members already" : "out of memory", LAN_MEMBERS);
		free(l);
		close(fd);
		return NULL;
	}
	*l = (struct link){
		.peer = { link_take, -1, false }, .member = m, .index = index, .fd = fd,
		.since = loop_now(m->base.port->loop), .accepted = accepted,
	};
	m->link[index] = l;
	if (!same_user(fd)) {
		error_set(err, "it belongs to another user");
	} else if (hello_send(l, err)) {
		l->watch = loop_watch(m->base.port->loop, fd, LOOP_READ, link_ready, l, err);
		if (l->watch)
			return l;
	}
	link_free(l);
	return NULL;
}

static void refuse_newcomer(struct member *m, const char *why)
{
	net_count(&m->lan.counter[LAN_REFUSED]);
	if (!m->full_told)
		net_port_notify(m->base.port, "loopback:%s: a member was refused: %s", m->name, why);
	m->full_told = true;
}

static void listener_ready(void *opaque, unsigned events)
{
	struct member *m = opaque;

	(void)events;
	for (unsigned i = 0; i < ACCEPTS_PER_CALL; i++) {
		int fd = accept4(m->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct error err = { "" };

		if (fd < 0) {
			/* Out of descriptors: level triggered, this would never end. */
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
				refuse_newcomer(m, strerror(errno));
				watch_set(m->watch, 0);
				timer_arm(&m->tidy, loop_now(m->base.port->loop) + TIDY_NS);
			}
			return;
		}
		if (!link_create(m, fd, true, &err))
			refuse_newcomer(m, err.text);
		else if (!timer_armed(&m->tidy))
			timer_arm(&m->tidy, loop_now(m->base.port->loop) + TIDY_NS);
	}
}

static void tidy(void *opaque)
{
	struct member *m = opaque;
	int64_t now = loop_now(m->base.port->loop);
	bool again = false;

	watch_set(m->watch, LOOP_READ);
	for (unsigned i = 0; i < LINKS; i++) {
		struct link *l = m->link[i];

		if (!l || l->in.head || !l->accepted)
			continue;
		l->since = MIN(l->since, now); /* the clock jumps at a restore */
		if (now - l->since < HELLO_WAIT_NS)
			again = true;
		else
			link_refuse(l, "it says nothing");
	}
	if (again)
		timer_arm(&m->tidy, now + TIDY_NS);
}

/* ---- joining ---- */

/* Connects to one that is there; removes what is left of one that is not. */
static bool meet(struct member *m, const char *file, struct error *err)
{
	struct sockaddr_un sun;
	struct error why = { "" };
	struct link *l;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	address(m, file, &sun);
	if (fd < 0) {
		error_set(err, "no socket: %s", strerror(errno));
		return false;
	}
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		if (errno == ECONNREFUSED)
			unlinkat(m->dir, file, 0);
		else if (errno != ENOENT)
			refuse_newcomer(m, strerror(errno));
		close(fd);
		return true;
	}
	l = link_create(m, fd, false, &why);
	if (!l) {
		/* It may have died just now; that it is one too many is another matter. */
		if (m->link[LINKS - 1]) {
			error_set(err, "%s", why.text);
			return false;
		}
		return true;
	}
	/* What is sent now waits in the ring until it looks. */
	lan_add(&m->lan, l->index, &l->peer);
	return true;
}

static bool meet_all(struct member *m, struct error *err)
{
	int fd = openat(m->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	bool ok = true;

	if (!d) {
		error_set(err, "cannot read %s: %s", m->path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (ok && (e = readdir(d))) {
		if (file_is_ours(m, e->d_name))
			ok = meet(m, e->d_name, err);
	}
	closedir(d);
	return ok;
}

static bool listen_here(struct member *m, struct error *err)
{
	struct sockaddr_un sun;

	snprintf(m->file, sizeof(m->file), "%s.%016llx", m->name, (unsigned long long)m->id);
	address(m, m->file, &sun);
	m->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (m->listener < 0 || bind(m->listener, (struct sockaddr *)&sun, sizeof(sun)) ||
	    listen(m->listener, 2 * LAN_MEMBERS)) {
		error_set(err, "cannot listen in %s: %s", m->path, strerror(errno));
		unlinkat(m->dir, m->file, 0);
		return false;
	}
	m->watch = loop_watch(m->base.port->loop, m->listener, LOOP_READ, listener_ready, m, err);
	if (m->watch)
		return true;
	unlinkat(m->dir, m->file, 0);
	return false;
}

static bool join(struct member *m, struct error *err)
{
	bool ok = dir_open(m, err) && dir_lock(m, err);

	if (!ok)
		return false;
	/* In this order: who is met needs no second connection from the other side. */
	ok = meet_all(m, err) && listen_here(m, err);
	flock(m->dir, LOCK_UN);
	return ok;
}

/* ---- the backend ---- */

static struct member *member_of(struct net_backend *b)
{
	return container_of(b, struct member, base);
}

static bool shared_can_send(struct net_backend *b)
{
	return lan_can_send(&member_of(b)->lan);
}

static void shared_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	lan_send(&member_of(b)->lan, frame, len);
}

static void shared_readable(struct net_backend *b)
{
	drain_all(member_of(b));
}

static void shared_status(struct net_backend *b, char *text, size_t size)
{
	char what[NAME_MAX_ + 16];

	snprintf(what, sizeof(what), "loopback:%s", member_of(b)->name);
	lan_status(&member_of(b)->lan, what, text, size);
}

static void member_free(struct member *m)
{
	for (unsigned i = 0; i < LINKS; i++) {
		if (m->link[i])
			link_free(m->link[i]);
	}
	timer_disarm(&m->more);
	timer_disarm(&m->tidy);
	loop_unwatch(m->watch);
	if (m->listener >= 0)
		close(m->listener);
	if (m->watch)
		unlinkat(m->dir, m->file, 0);
	if (m->dir >= 0)
		close(m->dir);
	lan_finish(&m->lan);
	free(m);
}

static void shared_close(struct net_backend *b)
{
	member_free(member_of(b));
}

static const struct net_backend_ops shared_ops = {
	.name = "loopback", .can_send = shared_can_send, .send = shared_send,
	.readable = shared_readable, .close = shared_close, .status = shared_status,
};

struct net_backend *loopback_shared_open(struct net_port *port, struct backend_url *url,
					 const struct lan_options *o, struct error *err)
{
	struct member *m;

	if (!name_ok(url->body)) {
		error_set(err, "'%.80s' is no name: 1 to %d letters, digits, '.', '_' or '-'",
			  url->body, NAME_MAX_);
		return NULL;
	}
	m = calloc(1, sizeof(*m));
	if (!m) {
		error_set(err, "out of memory");
		return NULL;
	}
	m->dir = m->listener = -1;
	snprintf(m->name, sizeof(m->name), "%s", url->body);
	if (getrandom(&m->id, sizeof(m->id), 0) != sizeof(m->id))
		m->id = (uintptr_t)m ^ (uint64_t)getpid() << 32;
	timer_init(&m->more, port->loop, "loopback-more", drain_all, m);
	timer_init(&m->tidy, port->loop, "loopback-tidy", tidy, m);
	m->base = (struct net_backend){ &shared_ops, port, { m->lan.counter, LAN_COUNTERS } };
	if (!lan_init(&m->lan, port, &m->table, &m->busy, LAN_MEMBERS - 1, o, err)) {
		free(m);
		return NULL;
	}
	if (join(m, err))
		return &m->base;
	member_free(m);
	return NULL;
}
