/* Addresses and sockets of stream.c. */
#include "backends/stream_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/util.h"

enum { CONNECT_MS = 10000 };

static bool parse_unix(struct stream_address *a, const char *path, struct error *err)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&a->item[0];

	if (!*path || strlen(path) >= sizeof(un->sun_path)) {
		error_set(err, "stream:unix: needs the path of a socket, 1 to %zu bytes long",
			  sizeof(un->sun_path) - 1);
		return false;
	}
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, path);
	a->len[0] = sizeof(*un);
	a->count = 1;
	return true;
}

static bool parse_tcp(struct stream_address *a, const char *text, bool server, struct error *err)
{
	const char *colon = strrchr(text, ':'), *host = text, *end = colon;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found, *i;
	char name[256], *stop = "x";
	unsigned long port = 0;
	int e;

	if (colon && colon[1] >= '0' && colon[1] <= '9')
		port = strtoul(colon + 1, &stop, 10);
	if (*stop || port > 65535 || (!port && !server)) {
		error_set(err, "stream:tcp:%.80s: not HOST:PORT with a port from 1 to 65535", text);
		return false;
	}
	if (*host == '[' && end > host + 1 && end[-1] == ']') {
		host++;
		end--;
	} else if (memchr(host, ':', end - host)) {
		error_set(err, "stream:tcp:%.80s: an IPv6 address goes in brackets, as in [::1]:%lu", text, port);
		return false;
	}
	if (end == host || (size_t)(end - host) >= sizeof(name)) {
		error_set(err, "stream:tcp:%.80s: no host; 127.0.0.1 is this one%s", text,
			  server ? ", 0.0.0.0 every address of it" : "");
		return false;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(end - host), host);
	hints.ai_flags = server ? AI_PASSIVE : 0;
	e = getaddrinfo(name, colon + 1, &hints, &found);
	if (e) {
		error_set(err, "stream:tcp:%.80s: host '%.80s': %s", text, name, gai_strerror(e));
		return false;
	}
	for (i = found; i && a->count < STREAM_ADDRESSES; i = i->ai_next) {
		memcpy(&a->item[a->count], i->ai_addr, i->ai_addrlen);
		a->len[a->count++] = i->ai_addrlen;
	}
	freeaddrinfo(found);
	return true;
}

bool stream_parse(struct stream_address *a, const char *text, bool server, struct error *err)
{
	memset(a, 0, sizeof(*a));
	snprintf(a->text, sizeof(a->text), "%s", text);
	if (!strncmp(text, "unix:", 5))
		return parse_unix(a, text + 5, err);
	if (!strncmp(text, "tcp:", 4))
		return parse_tcp(a, text + 4, server, err);
	error_set(err, "'%.40s' after stream: is neither unix:PATH nor tcp:HOST:PORT", text);
	return false;
}

/* Removes a socket file whose listener has died; false if it is in use or something else. */
static bool remove_stale(const struct sockaddr_un *un, struct error *err)
{
	struct stat st;
	int fd, e;

	if (lstat(un->sun_path, &st) < 0)
		return true;
	if (!S_ISSOCK(st.st_mode)) {
		error_set(err, "%s exists and is no socket; choose another path", un->sun_path);
		return false;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return true;
	e = connect(fd, (const struct sockaddr *)un, sizeof(*un)) < 0 ? errno : 0;
	close(fd);
	if (e != ECONNREFUSED) {
		error_set(err, "%s: another program listens there already; choose another path, or leave server=on out to connect to it",
			  un->sun_path);
		return false;
	}
	unlink(un->sun_path);
	return true;
}

/* What the kernel chose for port 0. */
static void show_port(struct stream_address *a, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	unsigned port;
	char *colon;

	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return;
	port = ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port :
						((struct sockaddr_in *)&ss)->sin_port);
	colon = strrchr(a->text, ':');
	if (colon)
		snprintf(colon, a->text + sizeof(a->text) - colon, ":%u", port);
}

int stream_listen(struct stream_address *a, struct error *err)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)&a->item[0];
	bool local = un->sun_family == AF_UNIX;
	struct stat st;
	int fd, on = 1, e;

	if (local && !remove_stale(un, err))
		return -1;
	fd = socket(un->sun_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && !local)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd < 0 || bind(fd, (struct sockaddr *)&a->item[0], a->len[0]) < 0 || listen(fd, 4) < 0) {
		e = errno;
		error_set(err, "cannot listen at %s: %s%s", a->text, strerror(e),
			  e == EADDRINUSE ? "; choose another port, or 0 for a free one" :
			  e == EADDRNOTAVAIL ? "; no interface of this host has that address" :
			  e == EACCES && !local ? "; ports below 1024 belong to root" :
			  e == ENOENT ? "; make the directory first" : "");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (!local) {
		show_port(a, fd);
	} else if (lstat(un->sun_path, &st) == 0) {
		a->made_dev = st.st_dev;
		a->made_ino = st.st_ino;
	}
	return fd;
}

void stream_unlink(struct stream_address *a)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)&a->item[0];
	struct stat st;

	if (a->made_ino && lstat(un->sun_path, &st) == 0 && st.st_dev == a->made_dev &&
	    st.st_ino == a->made_ino)
		unlink(un->sun_path);
	a->made_ino = 0;
}

int stream_connect(struct stream_address *a, bool *pending)
{
	unsigned i = a->next++ % a->count;
	int fd = socket(a->item[i].ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), e;

	*pending = false;
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&a->item[i], a->len[i]) == 0)
		return fd;
	if (errno == EINPROGRESS) {
		*pending = true;
		return fd;
	}
	e = errno;
	close(fd);
	errno = e;
	return -1;
}

int stream_connect_now(struct stream_address *a, struct error *err)
{
	int e = 0;

	for (unsigned i = 0; i < a->count; i++) {
		struct pollfd p = { .events = POLLOUT };
		socklen_t len = sizeof(e);
		bool pending;

		p.fd = stream_connect(a, &pending);
		if (p.fd < 0) {
			e = errno;
			continue;
		}
		e = 0;
		if (pending) {
			int n = poll(&p, 1, CONNECT_MS);

			if (n <= 0)
				e = n < 0 ? errno : ETIMEDOUT;
			else
				getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &e, &len);
		}
		if (!e)
			return p.fd;
		close(p.fd);
	}
	error_set(err, "cannot connect to %s: %s; start the peer first, or say wait=off to keep trying, or server=on to listen there",
		  a->text, strerror(e));
	return -1;
}

void stream_prepare(int fd)
{
	int on = 1;

	/* Refused for unix sockets, which need neither. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}
