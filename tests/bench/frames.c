/* Frames a second through loopback: (two cards of a machine) and loopback:NAME (two
 * processes), without a guest: the cards here are raw senders. Prints a JSON object a
 * line; tests/bench/frames makes a table of it.
 *
 *	bench_frames [MILLISECONDS]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backends/backend.h"
#include "core/loop.h"
#include "core/net.h"
#include "core/util.h"

enum { BATCH = 64, SIDES = 2, TICK_NS = 5000000 };
enum mode { ONE, BOTH, PING };

/* What the two sides know of each other; shared if they are processes. */
struct board {
	uint64_t sent[SIDES], received[SIDES], disorder;
	int ready[SIDES];
	int stop, leave;
};

struct side {
	unsigned index;
	struct board *board;
	struct trace trace;
	struct loop *loop;
	struct net_port port;
	struct net_nic nic;
	struct timer tick;
	bool echo; /* sends back what it gets */
	uint64_t expected;
	uint8_t frame[NET_FRAME_MAX];
	size_t len;
};

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static uint64_t get(const uint64_t *n)
{
	return __atomic_load_n(n, __ATOMIC_ACQUIRE);
}

static void add(uint64_t *n)
{
	__atomic_store_n(n, *n + 1, __ATOMIC_RELEASE);
}

static void kick(void *opaque)
{
	(void)opaque;
}

static void send_one(struct side *s)
{
	store_le64(s->frame + 14, s->board->sent[s->index]);
	add(&s->board->sent[s->index]);
	net_port_send(&s->port, s->frame, s->len);
}

static void receive(struct net_nic *nic, const uint8_t *frame, size_t len)
{
	struct side *s = container_of(nic, struct side, nic);

	if (len != s->len || load_le64(frame + 14) != s->expected)
		__atomic_fetch_add(&s->board->disorder, 1, __ATOMIC_RELAXED);
	s->expected++;
	add(&s->board->received[s->index]);
	if (s->echo)
		send_one(s);
}

static const struct net_nic_ops nic_ops = { .name = "raw", .receive = receive };

static void die(const char *text)
{
	fprintf(stderr, "bench_frames: %s\n", text);
	exit(1);
}

static void side_init(struct side *s, unsigned index, struct board *board, struct loop *loop,
		      struct backend_env *env, const char *url, size_t len)
{
	struct error err = { "" };
	struct net_backend *b;

	memset(s, 0, sizeof(*s));
	s->index = index;
	s->board = board;
	s->len = len;
	s->trace.out = stderr;
	s->loop = loop ? loop : loop_create(kick, NULL, &err);
	if (!s->loop)
		die(err.text);
	if (!loop)
		loop_resume(s->loop);
	net_port_init(&s->port, s->loop, &s->trace, index);
	s->nic.ops = &nic_ops;
	net_port_set_nic(&s->port, &s->nic);
	b = backend_open(env, &s->port, url, &err);
	if (!b)
		die(err.text);
	net_port_set_backend(&s->port, b);
	s->frame[0] = s->frame[6] = 2; /* 02:00:00:00:00:xx, local */
	s->frame[5] = !index;
	s->frame[11] = index;
	s->frame[12] = 0x88;
	s->frame[13] = 0xb5;
}

static void send_batch(struct side *s)
{
	for (unsigned i = 0; i < BATCH && net_port_can_send(&s->port); i++)
		send_one(s);
}

static bool all_arrived(const struct board *b)
{
	return get(&b->received[1]) == get(&b->sent[0]) && get(&b->received[0]) == get(&b->sent[1]);
}

static uint64_t received(const struct board *b)
{
	return get(&b->received[0]) + get(&b->received[1]);
}

/* @n frames arrived in @ns */
static void report(enum mode mode, const char *kind, size_t len, const struct board *b,
		   uint64_t n, int64_t ns)
{
	static const char *const names[] = { "one", "both", "ping" };

	printf("{\"backend\": \"%s\", \"senders\": \"%s\", \"bytes\": %zu, "
	       "\"seconds\": %.3f, \"frames_per_second\": %.0f, \"mbit_per_second\": %.0f, "
	       "\"complete\": %s}\n", kind, names[mode], len, ns / 1e9, n * 1e9 / ns,
	       n * 8e3 * len / ns, all_arrived(b) && !b->disorder ? "true" : "false");
	fflush(stdout);
}

static void inside(size_t len, enum mode mode, int64_t ns)
{
	struct board board = { 0 };
	struct backend_env env = { NULL };
	struct side *s = calloc(SIDES, sizeof(*s));
	int64_t began;

	side_init(&s[0], 0, &board, NULL, &env, "loopback:", len);
	side_init(&s[1], 1, &board, s[0].loop, &env, "loopback:", len);
	began = now_ns();
	while (now_ns() - began < ns) {
		send_batch(&s[0]);
		if (mode == BOTH)
			send_batch(&s[1]);
		loop_run(s[0].loop);
	}
	report(mode, "loopback:", len, &board, received(&board), now_ns() - began);
	net_port_finish(&s[0].port);
	net_port_finish(&s[1].port);
	loop_destroy(s[0].loop);
	free(s);
}

static void tick(void *opaque)
{
	struct side *s = opaque;

	timer_arm(&s->tick, loop_now(s->loop) + TICK_NS);
}

static bool joined(const struct side *s)
{
	const struct net_counters *c = &s->port.backend->counters;

	for (unsigned i = 0; i < c->count; i++) {
		if (!strcmp(c->item[i].name, "peers-joined"))
			return net_counter_read(&c->item[i]);
	}
	return false;
}

/* One of two processes. At the end it stays until each has all of the other's frames. */
static void process(unsigned index, enum mode mode, struct board *board, const char *url,
		    size_t len)
{
	struct backend_env env = { NULL };
	struct side *s = calloc(1, sizeof(*s));
	bool sends = mode == BOTH || (mode == ONE && index == 0);

	side_init(s, index, board, NULL, &env, url, len);
	timer_init(&s->tick, s->loop, "tick", tick, s);
	tick(s);
	s->echo = mode == PING;
	while (!joined(s))
		loop_run(s->loop);
	__atomic_store_n(&board->ready[index], 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&board->ready[!index], __ATOMIC_ACQUIRE))
		loop_run(s->loop);
	if (mode == PING && index == 0)
		send_one(s);
	while (!__atomic_load_n(&board->stop, __ATOMIC_ACQUIRE)) {
		if (sends && net_port_can_send(&s->port)) {
			send_batch(s);
			loop_run(s->loop);
		} else {
			loop_wait(s->loop);
		}
	}
	s->echo = false;
	while (!__atomic_load_n(&board->leave, __ATOMIC_ACQUIRE))
		loop_wait(s->loop);
	net_port_finish(&s->port);
	loop_destroy(s->loop);
	free(s);
}

static void outside(size_t len, enum mode mode, int64_t ns)
{
	struct board *board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int64_t began, elapsed;
	pid_t pid[SIDES];
	char url[64];
	uint64_t n;

	if (board == MAP_FAILED)
		die("out of memory");
	snprintf(url, sizeof(url), "loopback:bench-%d", (int)getpid());
	for (unsigned i = 0; i < SIDES; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			die("cannot fork");
		if (!pid[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			process(i, mode, board, url, len);
			_exit(0);
		}
	}
	while (!received(board))
		usleep(1000);
	n = received(board);
	began = now_ns();
	usleep(ns / 1000);
	n = received(board) - n;
	elapsed = now_ns() - began;
	__atomic_store_n(&board->stop, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < 1000 && !all_arrived(board); i++)
		usleep(1000);
	report(mode, "loopback:NAME", len, board, n, elapsed);
	__atomic_store_n(&board->leave, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < SIDES; i++)
		waitpid(pid[i], NULL, 0);
	munmap(board, sizeof(*board));
}

int main(int argc, char **argv)
{
	static const size_t sizes[] = { 60, 1514 };
	int64_t ns = (argc > 1 ? atoi(argv[1]) : 1000) * 1000000ll;

	if (ns <= 0)
		die("usage: bench_frames [MILLISECONDS]");
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (enum mode mode = ONE; mode <= BOTH; mode++) {
			inside(sizes[i], mode, ns);
			outside(sizes[i], mode, ns);
		}
	}
	outside(60, PING, ns);
	return 0;
}
