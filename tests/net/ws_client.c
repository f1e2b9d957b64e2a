/* A network port driven by lines on standard input, for ws_relay.py: opens the backend
 * of a URL and says what happens as JSON lines.
 *
 *	send COUNT SIZE    frames with number and time, as the backend takes them
 *	flood COUNT SIZE   the same, whether it takes them or not
 *	rate COUNT SIZE    so many each millisecond, until "rate 0 0"
 *	rtt COUNT SIZE     one after the other, each waiting for its echo
 *	pause, resume      the card takes no frames, takes them again
 *	report             counters, status and what was received
 *	quit [MS]          and stay that long after closing the backend
 *
 * A frame: broadcast, source, type 0x88b5, u32 number, i64 CLOCK_MONOTONIC in ns, both
 * little-endian.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backends/backend.h"
#include "core/loop.h"
#include "core/util.h"

enum { NUMBER_AT = NET_HEADER_SIZE, TIME_AT = NUMBER_AT + 4, STAMPED_SIZE = TIME_AT + 8 };

struct client {
	struct trace trace;
	struct loop *loop;
	struct net_port port;
	struct net_nic nic;
	struct timer tick;
	bool paused, quit, echoed;
	uint32_t number;              /* of the next frame */
	unsigned long long to_send;   /* of "send" */
	unsigned size, rate, trips, stay;
	uint64_t received, bytes, unordered, foreign;
	uint32_t last;
	int64_t oldest;               /* ns: the greatest age of a frame on arrival */
	char line[256];
	size_t used;
};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* The last or only member of an object. */
static void say_member(const char *key, const char *text)
{
	printf("\"%s\": \"", key);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\' || (unsigned char)*text < ' ')
			printf("\\u%04x", *text);
		else
			putchar(*text);
	}
	printf("\"}\n");
	fflush(stdout);
}

static void say_text(const char *key, const char *text)
{
	putchar('{');
	say_member(key, text);
}

static void kick(void *opaque)
{
	(void)opaque;
}

static bool can_receive(struct net_nic *nic)
{
	return !container_of(nic, struct client, nic)->paused;
}

static void receive(struct net_nic *nic, const uint8_t *frame, size_t len)
{
	struct client *c = container_of(nic, struct client, nic);
	uint32_t number;
	int64_t age;

	c->received++;
	c->bytes += len;
	c->echoed = true;
	if (len < STAMPED_SIZE || frame[12] != 0x88 || frame[13] != 0xb5) {
		c->foreign++;
		return;
	}
	if (len > STAMPED_SIZE && memcmp(frame + STAMPED_SIZE, frame + STAMPED_SIZE + 1,
					 len - STAMPED_SIZE - 1)) {
		c->foreign++; /* the rest is one byte repeated */
		return;
	}
	number = load_le32(frame + NUMBER_AT);
	age = now_ns() - (int64_t)load_le64(frame + TIME_AT);
	if (number <= c->last)
		c->unordered++;
	c->last = number;
	c->oldest = MAX(c->oldest, age);
}

static void send_one(struct client *c)
{
	uint8_t frame[NET_FRAME_MAX];

	memset(frame, 0x5a, c->size);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, c->port.guest_mac, 6);
	frame[12] = 0x88;
	frame[13] = 0xb5;
	c->number++;
	store_le32(frame + NUMBER_AT, c->number);
	store_le64(frame + TIME_AT, now_ns());
	net_port_send(&c->port, frame, c->size);
}

static void send_more(struct client *c)
{
	for (; c->to_send && net_port_can_send(&c->port); c->to_send--)
		send_one(c);
}

static void writable(struct net_nic *nic)
{
	send_more(container_of(nic, struct client, nic));
}

static void carrier(struct net_nic *nic, bool up)
{
	(void)nic;
	printf("{\"carrier\": %s}\n", up ? "true" : "false");
	fflush(stdout);
}

static const struct net_nic_ops nic_ops = {
	.name = "test", .can_receive = can_receive, .receive = receive, .writable = writable,
	.carrier = carrier,
};

static void notify(void *opaque, const char *text)
{
	(void)opaque;
	say_text("note", text);
}

static void tick(void *opaque)
{
	struct client *c = opaque;

	for (unsigned i = 0; i < c->rate; i++) {
		if (net_port_can_send(&c->port))
			send_one(c);
	}
	if (c->rate)
		timer_arm(&c->tick, loop_now(c->loop) + 1000000);
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void round_trips(struct client *c)
{
	unsigned count = c->trips;
	int64_t *took = calloc(count, sizeof(*took));
	unsigned n = 0;

	for (; n < count; n++) {
		int64_t start = now_ns();

		c->echoed = false;
		send_one(c);
		while (!c->echoed && now_ns() - start < NS_PER_S)
			loop_wait(c->loop);
		if (!c->echoed)
			break;
		took[n] = now_ns() - start;
	}
	c->trips = 0;
	qsort(took, n, sizeof(*took), by_value);
	printf("{\"rtt\": %u, \"median_us\": %.1f, \"p99_us\": %.1f}\n", n,
	       n ? took[n / 2] / 1e3 : 0, n ? took[n * 99 / 100] / 1e3 : 0);
	fflush(stdout);
	free(took);
}

static unsigned resident_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[128];
	unsigned kib = 0;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "VmRSS: %u", &kib) == 1)
			break;
	}
	if (f)
		fclose(f);
	return kib;
}

static void report(struct client *c)
{
	struct net_backend *b = c->port.backend;
	char status[256] = "";

	b->ops->status(b, status, sizeof(status));
	printf("{\"sending\": %llu, \"out\": %llu, \"in\": %llu, \"received\": %llu, \"bytes\": %llu, "
	       "\"unordered\": %llu, \"foreign\": %llu, \"oldest_ms\": %.3f, "
	       "\"rss_kib\": %u, \"blocked\": %s, ", c->to_send,
	       (unsigned long long)c->port.wire[NET_TO_WIRE].frames,
	       (unsigned long long)c->port.wire[NET_TO_GUEST].frames,
	       (unsigned long long)c->received, (unsigned long long)c->bytes,
	       (unsigned long long)c->unordered, (unsigned long long)c->foreign,
	       c->oldest / 1e6, resident_kib(),
	       c->port.blocked ? "true" : "false");
	for (unsigned i = 0; i < c->port.counters.count; i++)
		printf("\"port.%s\": %llu, ", c->port.counters.item[i].name,
		       (unsigned long long)net_counter_read(&c->port.counters.item[i]));
	for (unsigned i = 0; i < b->counters.count; i++)
		printf("\"ws.%s\": %llu, ", b->counters.item[i].name,
		       (unsigned long long)net_counter_read(&b->counters.item[i]));
	c->oldest = 0;
	say_member("status", status);
}

static void command(struct client *c, const char *line)
{
	char verb[16] = "";
	unsigned count = 0, size = 0;

	sscanf(line, "%15s %u %u", verb, &count, &size);
	if (size >= STAMPED_SIZE && size <= NET_FRAME_MAX)
		c->size = size;
	if (!strcmp(verb, "send")) {
		c->to_send += count;
		send_more(c);
	} else if (!strcmp(verb, "flood")) {
		while (count--)
			send_one(c);
	} else if (!strcmp(verb, "rate")) {
		c->rate = count;
		timer_arm(&c->tick, loop_now(c->loop));
	} else if (!strcmp(verb, "rtt")) {
		c->trips = count;
	} else if (!strcmp(verb, "pause")) {
		c->paused = true;
	} else if (!strcmp(verb, "resume")) {
		c->paused = false;
		net_port_readable(&c->port);
	} else if (!strcmp(verb, "report")) {
		report(c);
	} else {
		c->stay = count;
		c->quit = true;
	}
}

static void input(void *opaque, unsigned events)
{
	struct client *c = opaque;
	ssize_t n = read(0, c->line + c->used, sizeof(c->line) - 1 - c->used);
	char *end;

	(void)events;
	if (n <= 0) {
		c->quit = true;
		return;
	}
	c->used += n;
	c->line[c->used] = '\0';
	while ((end = strchr(c->line, '\n'))) {
		*end = '\0';
		command(c, c->line);
		c->used -= end + 1 - c->line;
		memmove(c->line, end + 1, c->used + 1);
	}
}

int main(int argc, char **argv)
{
	static struct client c;
	struct error err = { "" };
	struct backend_env env = { NULL };
	struct net_backend *b;
	int64_t start;

	c.loop = loop_create(kick, NULL, &err);
	if (argc != 2 || !c.loop) {
		fprintf(stderr, "usage: ws_client URL %s\n", err.text);
		return 2;
	}
	c.trace.out = stderr;
	c.size = 60;
	c.nic.ops = &nic_ops;
	loop_resume(c.loop);
	net_port_init(&c.port, c.loop, &c.trace, 0);
	c.port.notify = notify;
	net_port_set_nic(&c.port, &c.nic);
	net_mac_parse("52:54:00:12:34:56", c.port.guest_mac);
	timer_init(&c.tick, c.loop, "tick", tick, &c);
	start = now_ns();
	b = backend_open(&env, &c.port, argv[1], &err);
	printf("{\"open\": %s, \"took\": %.3f}\n", b ? "true" : "false", (now_ns() - start) / 1e9);
	if (!b) {
		say_text("error", err.text);
		return 1;
	}
	fflush(stdout);
	net_port_set_backend(&c.port, b);
	if (!loop_watch(c.loop, 0, LOOP_READ, input, &c, &err)) {
		say_text("error", err.text);
		return 1;
	}
	while (!c.quit) {
		loop_wait(c.loop);
		if (c.trips)
			round_trips(&c);
	}
	start = now_ns();
	net_port_finish(&c.port);
	printf("{\"closed\": %.3f}\n", (now_ns() - start) / 1e9);
	fflush(stdout);
	usleep(c.stay * 1000);
	loop_destroy(c.loop);
	return 0;
}
