/* Load for a relay: relay_load PORT pairs|pingpong N SIZE SECONDS
 *
 * N pairs of clients; the first of each sends unicast frames of SIZE bytes to the
 * second as fast as the relay takes them, with a bounded number of bytes under way (a
 * switch drops what its queues cannot hold, so somebody has to look after that).
 * "pingpong": one frame under way a pair, there and back. Every frame carries its
 * number: what is lost or changed is an error. Prints frames and MiB per second (one
 * way); the exit code says whether anything was lost.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WINDOW = 256 * 1024, WINDOWS = 16 * 1024 * 1024, CHUNK = 64 * 1024, FRAME_MAX = 9216, HEADER = 18 };

struct end {
	uint8_t buf[CHUNK];
	size_t have;
	uint64_t expected;
};

struct pair {
	struct end end[2];
	int a, b, number;
	size_t size;
	uint64_t sent, received, returned; /* frames */
	uint64_t bad;
	size_t window;
	bool pingpong;
};

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static int join(uint16_t port)
{
	static const char hello[] = "GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\n"
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	char answer[1024];
	size_t n = 0;

	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (send(fd, hello, sizeof(hello) - 1, 0) != sizeof(hello) - 1)
		die("send");
	while (n < 4 || memcmp(answer + n - 4, "\r\n\r\n", 4)) {
		if (n == sizeof(answer) || recv(fd, answer + n, 1, 0) != 1)
			die("handshake");
		n++;
	}
	if (memcmp(answer, "HTTP/1.1 101", 12)) {
		errno = EPROTO;
		die("handshake");
	}
	return fd;
}

static void mac(uint8_t *to, int pair, int end)
{
	const uint8_t m[6] = { 2, 0, 0, (uint8_t)(pair >> 8), (uint8_t)pair, (uint8_t)end };

	memcpy(to, m, 6);
}

/* A masked binary message (RFC 6455 5.2) with an Ethernet frame; the mask is zero. */
static size_t put(uint8_t *to, const struct pair *p, int from, uint64_t number, size_t size)
{
	size_t n = 2;

	to[0] = 0x82;
	if (size < 126) {
		to[1] = (uint8_t)(0x80 | size);
	} else {
		to[1] = 0x80 | 126;
		to[2] = (uint8_t)(size >> 8);
		to[3] = (uint8_t)size;
		n = 4;
	}
	memset(to + n, 0, 4);
	n += 4;
	mac(to + n, p->number, !from);
	mac(to + n + 6, p->number, from);
	to[n + 12] = 0x88;
	to[n + 13] = 0xb5;
	memcpy(to + n + 14, &number, 8);
	memset(to + n + 22, (int)number, size - 22);
	return n + size;
}

/* The receiver's address becomes known by a broadcast. */
static size_t introduction(uint8_t *to, const struct pair *p)
{
	size_t n = put(to, p, 1, 0, 60);

	memset(to + 6, 0xff, 6);
	return n;
}

static void send_all(int fd, const uint8_t *data, size_t n)
{
	while (n) {
		ssize_t r = send(fd, data, n, MSG_NOSIGNAL);

		if (r <= 0)
			die("send");
		data += r;
		n -= (size_t)r;
	}
}


/* The next batch of the pair: a relay takes all it is sent, so this never waits long. */
static void feed(struct pair *p, bool stop)
{
	uint8_t buf[CHUNK];
	size_t batch = p->pingpong ? 1 : p->window / 8;

	while (!stop && (p->pingpong ? p->sent == p->returned :
			 (p->sent - p->received) * p->size + batch <= p->window)) {
		size_t n = 0;

		while (n < batch)
			n += put(buf + n, p, 0, p->sent++, p->size);
		send_all(p->a, buf, n);
	}
}

static void receive(struct pair *p, int to)
{
	struct end *e = &p->end[to];
	ssize_t r = recv(to ? p->b : p->a, e->buf + e->have, sizeof(e->buf) - e->have, 0);
	uint8_t self[6], back[FRAME_MAX + HEADER];
	size_t at = 0;

	if (r <= 0)
		die("recv");
	mac(self, p->number, to);
	e->have += (size_t)r;
	while (e->have - at >= 4) {
		const uint8_t *f = e->buf + at;
		size_t len = f[1], head = 2;
		uint64_t number;

		if (len == 126) {
			len = (size_t)f[2] << 8 | f[3];
			head = 4;
		}
		if (e->have - at < head + len)
			break;
		at += head + len;
		if (len < 22 || memcmp(f + head, self, sizeof(self)))
			continue; /* somebody's introduction, or a ping */
		memcpy(&number, f + head + 14, 8);
		if (f[0] != 0x82 || len != p->size || number != e->expected ||
		    f[head + len - 1] != (uint8_t)number)
			p->bad++;
		e->expected = number + 1;
		if (!to) {
			p->returned++;
			continue;
		}
		p->received++;
		if (p->pingpong)
			send_all(p->b, back, put(back, p, 1, number, p->size));
	}
	memmove(e->buf, e->buf + at, e->have - at);
	e->have -= at;
}

static void watch(int epoll, int fd, uint32_t what)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = what };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev))
		die("epoll_ctl");
}

static bool all_back(const struct pair *pairs, int n)
{
	for (int i = 0; i < n; i++) {
		if (pairs[i].received != pairs[i].sent)
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	uint64_t frames = 0, sent = 0, bad = 0;
	struct pair *pairs;
	int64_t begin, end;
	int n, epoll = epoll_create1(0);
	struct rlimit files;
	double s;

	if (argc != 6 || (strcmp(argv[2], "pairs") && strcmp(argv[2], "pingpong")) ||
	    atoi(argv[3]) < 1 || atoi(argv[4]) < 22 || atoi(argv[4]) > FRAME_MAX) {
		fprintf(stderr, "usage: relay_load PORT pairs|pingpong N SIZE SECONDS\n");
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	n = atoi(argv[3]);
	pairs = calloc((size_t)n, sizeof(*pairs));
	for (int i = 0; i < n; i++) {
		struct pair *p = &pairs[i];
		uint8_t buf[FRAME_MAX + HEADER];

		p->number = i;
		p->pingpong = argv[2][1] == 'i';
		p->window = WINDOWS / (size_t)n < WINDOW ? WINDOWS / (size_t)n : WINDOW;
		p->size = (size_t)atoi(argv[4]);
		p->a = join((uint16_t)atoi(argv[1]));
		p->b = join((uint16_t)atoi(argv[1]));
		send_all(p->b, buf, introduction(buf, p));
		watch(epoll, p->a, (uint32_t)i * 2);
		watch(epoll, p->b, (uint32_t)i * 2 + 1);
	}
	begin = now();
	end = begin + (int64_t)(atof(argv[5]) * 1e9);
	for (int i = 0; i < n; i++)
		feed(&pairs[i], false);
	while (now() < end || (!all_back(pairs, n) && now() < end + 2000000000ll)) {
		struct epoll_event ev[64];
		int k = epoll_wait(epoll, ev, 64, 100);

		for (int i = 0; i < k; i++) {
			struct pair *p = &pairs[ev[i].data.u32 >> 1];

			receive(p, ev[i].data.u32 & 1);
			feed(p, now() >= end);
		}
	}
	end = now();
	for (int i = 0; i < n; i++) {
		frames += pairs[i].received;
		sent += pairs[i].sent;
		bad += pairs[i].bad;
	}
	s = (double)(end - begin) * 1e-9;
	printf("%d %s, %s bytes: %.0f frames/s, %.1f MiB/s, %llu of %llu frames arrived, %llu bad\n",
	       n, argv[2], argv[4], (double)frames / s, (double)frames * atof(argv[4]) / s / 1048576,
	       (unsigned long long)frames, (unsigned long long)sent, (unsigned long long)bad);
	free(pairs);
	return frames != sent || bad;
}
