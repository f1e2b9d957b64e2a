/* Load for a relay: relay_load PORT pairs N SIZE SECONDS
 *
 * N pairs of clients; the first of each sends unicast frames of SIZE bytes to the
 * second as fast as the relay takes them, with at most WINDOW bytes under way (a
 * switch drops what its queues cannot hold, so somebody has to look after that).
 * Every frame carries its number: what is lost or changed is an error. Prints frames
 * and MiB per second; the exit code says whether anything was lost.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WINDOW = 512 * 1024, CHUNK = 64 * 1024, FRAME_MAX = 9216, HEADER = 18 };

struct pair {
	pthread_t sender, receiver;
	int a, b, number;
	size_t size;
	uint64_t received, sent; /* frames; received is shared */
	uint64_t bad;
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

static bool running = true;

static void *sender(void *opaque)
{
	uint8_t *buf = malloc(CHUNK + FRAME_MAX + HEADER);
	struct pair *p = opaque;

	while (__atomic_load_n(&running, __ATOMIC_RELAXED)) {
		size_t n = 0;

		while (n < CHUNK)
			n += put(buf + n, p, 0, p->sent++, p->size);
		send_all(p->a, buf, n);
		while (__atomic_load_n(&running, __ATOMIC_RELAXED) &&
		       (p->sent - __atomic_load_n(&p->received, __ATOMIC_ACQUIRE)) * p->size > WINDOW)
			usleep(50);
	}
	free(buf);
	return NULL;
}

static void *receiver(void *opaque)
{
	enum { ROOM = 4 * CHUNK };
	uint8_t *buf = malloc(ROOM);
	struct pair *p = opaque;
	uint64_t expected = 0;
	uint8_t self[6];
	size_t have = 0;

	mac(self, p->number, 1);
	for (;;) {
		ssize_t r = recv(p->b, buf + have, ROOM - have, 0);
		size_t at = 0;

		if (r <= 0)
			break;
		have += (size_t)r;
		while (have - at >= 4) {
			size_t len = buf[at + 1], head = 2;
			uint64_t number;

			if (len == 126) {
				len = (size_t)buf[at + 2] << 8 | buf[at + 3];
				head = 4;
			}
			if (have - at < head + len)
				break;
			if (len < 22 || memcmp(buf + at + head, self, sizeof(self))) {
				at += head + len; /* somebody's flood */
				continue;
			}
			memcpy(&number, buf + at + head + 14, 8);
			if (buf[at] != 0x82 || len != p->size || number != expected ||
			    buf[at + head + len - 1] != (uint8_t)number)
				p->bad++;
			expected = number + 1;
			__atomic_store_n(&p->received, p->received + 1, __ATOMIC_RELEASE);
			at += head + len;
		}
		memmove(buf, buf + at, have - at);
		have -= at;
	}
	free(buf);
	return NULL;
}

int main(int argc, char **argv)
{
	uint64_t frames = 0, sent = 0, bad = 0;
	struct pair *pairs;
	int64_t begin, end;
	double s;
	int n;

	if (argc != 6 || strcmp(argv[2], "pairs")) {
		fprintf(stderr, "usage: relay_load PORT pairs N SIZE SECONDS\n");
		return 2;
	}
	n = atoi(argv[3]);
	pairs = calloc((size_t)n, sizeof(*pairs));
	for (int i = 0; i < n; i++) {
		struct pair *p = &pairs[i];
		uint8_t buf[FRAME_MAX + HEADER];

		p->number = i;
		p->size = (size_t)atoi(argv[4]);
		p->a = join((uint16_t)atoi(argv[1]));
		p->b = join((uint16_t)atoi(argv[1]));
		/* The receiver's address becomes known: a frame to the sender. */
		send_all(p->b, buf, put(buf, p, 1, 0, 60));
	}
	usleep(300000);
	begin = now();
	for (int i = 0; i < n; i++)
		pthread_create(&pairs[i].receiver, NULL, receiver, &pairs[i]);
	for (int i = 0; i < n; i++)
		pthread_create(&pairs[i].sender, NULL, sender, &pairs[i]);
	usleep((useconds_t)(atof(argv[5]) * 1e6));
	__atomic_store_n(&running, false, __ATOMIC_RELAXED);
	for (int i = 0; i < n; i++)
		pthread_join(pairs[i].sender, NULL);
	for (int i = 0; i < n; i++) {
		for (int k = 0; k < 1000 && pairs[i].received < pairs[i].sent; k++)
			usleep(1000);
	}
	end = now();
	for (int i = 0; i < n; i++) {
		shutdown(pairs[i].b, SHUT_RDWR);
		pthread_join(pairs[i].receiver, NULL);
		frames += pairs[i].received;
		sent += pairs[i].sent;
		bad += pairs[i].bad;
	}
	s = (double)(end - begin) * 1e-9;
	printf("%d pairs, %s bytes: %.0f frames/s, %.1f MiB/s, %llu of %llu frames arrived, %llu bad\n",
	       n, argv[4], (double)frames / s, (double)frames * atof(argv[4]) / s / 1048576,
	       (unsigned long long)frames, (unsigned long long)sent, (unsigned long long)bad);
	free(pairs);
	return frames != sent || bad;
}
