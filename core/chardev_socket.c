/* Sockets for character devices: parsing, listening, connecting. */
#include "core/chardev_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/util.h"

enum { CONNECT_SECONDS = 10 };

static bool copy_part(char *dst, size_t size, const char *src, size_t len)
{
	if (len >= size)
		return false;
	memcpy(dst, src, len);
	dst[len] = '\0';
	return true;
}

static bool parse_option(struct socket_spec *spec, const char *opt, size_t len, struct error *err)
{
	static const struct {
		const char *text;
		bool server, value;
	} known[] = {
		{ "server", true, true }, { "server=on", true, true }, { "server=off", true, false },
		{ "wait", false, true }, { "wait=on", false, true },
		{ "nowait", false, false }, { "wait=off", false, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strlen(known[i].text) != len || memcmp(known[i].text, opt, len))
			continue;
		if (known[i].server)
			spec->server = known[i].value;
		else
			spec->wait = known[i].value;
		return true;
	}
	error_set(err, "option \"%.*s\" is unknown; there are server and nowait", (int)len, opt);
	return false;
}

static bool parse_host_port(struct socket_spec *spec, const char *text, size_t len,
			    struct error *err)
{
	const char *colon = memrchr(text, ':', len);
	const char *host = text;
	size_t host_len;

	if (!colon || colon + 1 == text + len) {
		error_set(err, "tcp needs HOST:PORT, not \"%.*s\"", (int)len, text);
		return false;
	}
	host_len = colon - text;
	if (host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']') {
		host++;
		host_len -= 2;
	}
	/* Nobody outside this host unless it was asked for. */
	if (!host_len) {
		host = "127.0.0.1";
		host_len = strlen(host);
	}
	if (!copy_part(spec->host, sizeof(spec->host), host, host_len) ||
	    !copy_part(spec->port, sizeof(spec->port), colon + 1, text + len - colon - 1)) {
		error_set(err, "tcp address is too long");
		return false;
	}
	return true;
}

bool socket_spec_parse(struct socket_spec *spec, bool tcp, const char *text, struct error *err)
{
	size_t len = strcspn(text, ",");
	const char *p = text + len;

	*spec = (struct socket_spec){ .tcp = tcp, .wait = true };
	if (tcp) {
		if (!parse_host_port(spec, text, len, err))
			return false;
	} else if (!len) {
		error_set(err, "unix needs a path");
		return false;
	} else if (!copy_part(spec->path, sizeof(spec->path), text, len)) {
		error_set(err, "unix path of %zu bytes is too long; at most %zu fit", len,
			  sizeof(spec->path) - 1);
		return false;
	}
	while (*p == ',') {
		size_t n = strcspn(++p, ",");

		if (!parse_option(spec, p, n, err))
			return false;
		p += n;
	}
	return true;
}

static struct sockaddr_un unix_address(const struct socket_spec *spec)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	memcpy(sun.sun_path, spec->path, sizeof(spec->path));
	return sun;
}

static struct addrinfo *resolve(const struct socket_spec *spec, struct error *err)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = spec->server ? AI_PASSIVE : 0,
	};
	struct addrinfo *ai = NULL;
	int rc = getaddrinfo(spec->host, spec->port, &hints, &ai);

	if (rc) {
		error_set(err, "%s:%s: %s", spec->host, spec->port, gai_strerror(rc));
		return NULL;
	}
	return ai;
}

/* A socket file that nobody listens on any more is in the way: take its place. */
static bool unix_stale(const struct sockaddr_un *sun)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool stale;

	if (fd < 0)
		return false;
	stale = connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0 &&
		errno == ECONNREFUSED;
	close(fd);
	return stale;
}

static int unix_listen(struct socket_spec *spec, struct error *err)
{
	struct sockaddr_un sun = unix_address(spec);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		goto fail;
	rc = bind(fd, (struct sockaddr *)&sun, sizeof(sun));
	if (rc < 0 && errno == EADDRINUSE && unix_stale(&sun)) {
		unlink(spec->path);
		rc = bind(fd, (struct sockaddr *)&sun, sizeof(sun));
	}
	if (rc == 0 && listen(fd, 1) == 0)
		return fd;
fail:
	error_set(err, "%s: cannot listen: %s", spec->path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

static void note_port(struct socket_spec *spec, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	char port[sizeof(spec->port)];

	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
	    getnameinfo((struct sockaddr *)&ss, len, NULL, 0, port, sizeof(port),
			NI_NUMERICSERV) == 0)
		memcpy(spec->port, port, sizeof(port));
}

int socket_listen(struct socket_spec *spec, struct error *err)
{
	struct addrinfo *all, *ai;
	int fd = -1, saved = 0, one = 1;

	if (!spec->tcp)
		return unix_listen(spec, err);
	all = resolve(spec, err);
	if (!all)
		return -1;
	for (ai = all; ai; ai = ai->ai_next) {
		fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0) {
			setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
			if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, 1) == 0)
				break;
			saved = errno;
			close(fd);
			fd = -1;
		} else {
			saved = errno;
		}
	}
	freeaddrinfo(all);
	if (fd < 0)
		error_set(err, "%s:%s: cannot listen: %s", spec->host, spec->port, strerror(saved));
	else
		note_port(spec, fd);
	return fd;
}

static void make_ready(const struct socket_spec *spec, int fd)
{
	struct timeval never = { 0 };
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &never, sizeof(never));
	if (spec->tcp)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static int try_connect(const struct socket_spec *spec, int family, const struct sockaddr *sa,
		       socklen_t len)
{
	struct timeval limit = { .tv_sec = CONNECT_SECONDS };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, sa, len) < 0) {
		int saved = errno == EINPROGRESS ? ETIMEDOUT : errno;

		close(fd);
		errno = saved;
		return -1;
	}
	make_ready(spec, fd);
	return fd;
}

int socket_connect(const struct socket_spec *spec, struct error *err)
{
	struct addrinfo *all, *ai;
	int fd = -1;

	if (!spec->tcp) {
		struct sockaddr_un sun = unix_address(spec);

		fd = try_connect(spec, AF_UNIX, (struct sockaddr *)&sun, sizeof(sun));
		if (fd < 0)
			error_set(err, "%s: cannot connect: %s (add ,server to wait for a peer instead)",
				  spec->path, strerror(errno));
		return fd;
	}
	all = resolve(spec, err);
	if (!all)
		return -1;
	for (ai = all; ai && fd < 0; ai = ai->ai_next)
		fd = try_connect(spec, ai->ai_family, ai->ai_addr, ai->ai_addrlen);
	if (fd < 0)
		error_set(err, "%s:%s: cannot connect: %s (add ,server to wait for a peer instead)",
			  spec->host, spec->port, strerror(errno));
	freeaddrinfo(all);
	return fd;
}

bool socket_wait(int listener)
{
	sigset_t set;
	int sigs;
	bool ok;

	/* A program that takes its signals in a thread holds them back until
	 * that runs; one that comes meanwhile must still end the wait. */
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigs = signalfd(-1, &set, SFD_CLOEXEC);
	{
		struct pollfd p[] = {
			{ .fd = listener, .events = POLLIN }, { .fd = sigs, .events = POLLIN },
		};

		ok = poll(p, 2, -1) > 0 && !p[1].revents;
	}
	if (sigs >= 0)
		close(sigs);
	if (!ok)
		errno = EINTR;
	return ok;
}

int socket_accept(const struct socket_spec *spec, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0)
		make_ready(spec, fd);
	return fd;
}
