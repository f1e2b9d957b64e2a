/* Processes on a segment of their own, for tests of loopback:NAME: a directory, members
 * that run until they are told to leave, and a card that counts and checks the order.
 */
#ifndef GANNET_TESTS_UNIT_LOOPBACK_WORLD_H
#define GANNET_TESTS_UNIT_LOOPBACK_WORLD_H

#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/backend.h"
#include "tests/unit/net_world.h"

enum { MEMBERS = 8, FRAME_SIZE = 60, EVERYBODY = 0xff };

/* What a member tells the others, in memory they share. */
struct member_board {
	uint32_t joined;             /* peers it has met */
	uint32_t finished;           /* has sent all it was to send */
	uint32_t received[MEMBERS];  /* from each, for it or for everybody */
	uint32_t disorder;
	uint32_t sent[MEMBERS];      /* to each, by address */
	uint64_t flooded, stalled, gone, nobody, queue_full;
};

struct shared_board {
	struct member_board member[MEMBERS];
	uint32_t go, leave;
};

/* One member: a port on a loop of its own. */
struct member_world {
	unsigned index, count;
	struct shared_board *board;
	struct trace trace;
	struct loop *loop;
	struct net_port port;
	struct net_nic nic;
	struct backend_env env;
	struct timer tick;
	unsigned room;        /* frames the card takes until the next tick; 0: any number */
	unsigned left;
	uint32_t expected[MEMBERS];
	uint32_t number[MEMBERS]; /* of the next frame to each */
	unsigned notes;
	char note[512];       /* the last one */
};

static inline uint32_t peek32(const uint32_t *n)
{
	return __atomic_load_n(n, __ATOMIC_ACQUIRE);
}

static inline void poke32(uint32_t *n, uint32_t value)
{
	__atomic_store_n(n, value, __ATOMIC_RELEASE);
}

static inline struct shared_board *board_create(void)
{
	struct shared_board *b = mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(b, MAP_FAILED);
	return b;
}

/* ---- the directory ---- */

static char run_dir[64]; /* XDG_RUNTIME_DIR */

static inline void dir_setup(void)
{
	snprintf(run_dir, sizeof(run_dir), "%s", "/tmp/gannet-test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(run_dir));
	setenv("XDG_RUNTIME_DIR", run_dir, 1);
}

static inline unsigned dir_files(void)
{
	char path[128];
	struct dirent *e;
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/gannet", run_dir);
	d = opendir(path);
	while (d && (e = readdir(d)))
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	if (d)
		closedir(d);
	return n;
}

static inline void dir_teardown(void)
{
	char path[128];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/gannet", run_dir);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
	unlink(path); /* if it is a symbolic link */
	rmdir(path);
	rmdir(run_dir);
}

/* ---- frames: 02:00:00:00:00:xx, local experimental type, sender, number ---- */

static inline void station_frame(uint8_t *frame, unsigned to, unsigned from, uint32_t number)
{
	memset(frame, 0, FRAME_SIZE);
	memset(frame, to == EVERYBODY ? 0xff : 0, 6);
	if (to != EVERYBODY) {
		frame[0] = 2;
		frame[5] = to;
	}
	frame[6] = 2;
	frame[11] = from;
	frame[12] = 0x88;
	frame[13] = 0xb5;
	store_le32(frame + 14, number);
}

/* ---- a member ---- */

static inline bool member_can_receive(struct net_nic *nic)
{
	struct member_world *w = container_of(nic, struct member_world, nic);

	return !w->room || w->left;
}

static inline void member_receive(struct net_nic *nic, const uint8_t *frame, size_t len)
{
	struct member_world *w = container_of(nic, struct member_world, nic);
	struct member_board *b = &w->board->member[w->index];
	unsigned from = len == FRAME_SIZE ? frame[11] : MEMBERS;

	if (from >= MEMBERS) {
		b->disorder++;
		return;
	}
	if (w->left)
		w->left--;
	if (!(frame[0] & 1)) {
		if (frame[5] != w->index)
			return; /* flooded: somebody else's */
		if (load_le32(frame + 14) < w->expected[from])
			b->disorder++;
		w->expected[from] = load_le32(frame + 14) + 1;
	}
	poke32(&b->received[from], b->received[from] + 1);
}

static inline void member_carrier(struct net_nic *nic, bool up)
{
	(void)nic;
	(void)up;
}

static const struct net_nic_ops member_nic_ops = {
	.name = "counting", .can_receive = member_can_receive, .receive = member_receive,
	.carrier = member_carrier,
};

static inline void member_tick(void *opaque)
{
	struct member_world *w = opaque;

	w->left = w->room;
	net_port_readable(&w->port);
	timer_arm(&w->tick, loop_now(w->loop) + 1000000);
}

static inline void member_note(void *opaque, const char *text)
{
	struct member_world *w = opaque;

	w->notes++;
	snprintf(w->note, sizeof(w->note), "%s", text);
}

static inline uint64_t member_counter(const struct member_world *w, const char *name)
{
	return net_world_counter(&w->port.backend->counters, name);
}

static inline void member_publish(struct member_world *w)
{
	struct member_board *b = &w->board->member[w->index];

	b->flooded = member_counter(w, "flooded");
	b->stalled = member_counter(w, "drop.peer-stalled");
	b->gone = member_counter(w, "drop.peer-gone");
	b->nobody = member_counter(w, "drop.no-peer");
	b->queue_full = member_counter(w, "drop.queue-full");
	poke32(&b->joined, member_counter(w, "peers-joined"));
}

/* @loop: NULL for one of its own */
static inline void member_init(struct member_world *w, unsigned index, struct shared_board *board,
			       const char *url)
{
	struct error err = { "" };
	struct net_backend *b;

	memset(w, 0, sizeof(*w));
	w->index = index;
	w->board = board;
	w->trace.out = stderr;
	w->loop = loop_create(net_world_kick, NULL, &err);
	ck_assert_msg(w->loop != NULL, "%s", err.text);
	loop_resume(w->loop);
	net_port_init(&w->port, w->loop, &w->trace, index);
	w->port.notify = member_note;
	w->port.notify_opaque = w;
	w->nic.ops = &member_nic_ops;
	net_port_set_nic(&w->port, &w->nic);
	timer_init(&w->tick, w->loop, "tick", member_tick, w);
	member_tick(w);
	b = backend_open(&w->env, &w->port, url, &err);
	ck_assert_msg(b != NULL, "%s", err.text);
	net_port_set_backend(&w->port, b);
}

static inline void member_finish(struct member_world *w)
{
	timer_disarm(&w->tick);
	net_port_finish(&w->port);
	loop_destroy(w->loop);
}

static inline void member_transmit(struct member_world *w, unsigned to)
{
	uint8_t frame[FRAME_SIZE];

	station_frame(frame, to, w->index, to < MEMBERS ? w->number[to]++ : 0);
	net_port_send(&w->port, frame, sizeof(frame));
	for (unsigned i = 0; i < MEMBERS; i++) {
		if (i != w->index && (i == to || to == EVERYBODY))
			w->board->member[w->index].sent[i]++;
	}
}

/* Sends one frame to @to as soon as that is allowed. */
static inline void member_transmit_patiently(struct member_world *w, unsigned to)
{
	while (!net_port_can_send(&w->port))
		loop_wait(w->loop);
	member_transmit(w, to);
}

/* Runs the loop until *@word has reached @value, or fails after @ms. */
static inline bool member_until(struct member_world *w, const uint32_t *word, uint32_t value,
				unsigned ms)
{
	int64_t end = loop_now(w->loop) + ms * 1000000ll;

	while (peek32(word) < value && loop_now(w->loop) < end) {
		loop_wait(w->loop); /* the tick ends it */
		member_publish(w);
	}
	return peek32(word) >= value;
}

static inline void member_run(struct member_world *w, unsigned ms)
{
	static const uint32_t never;

	member_until(w, &never, 1, ms);
}

/* Forks a process that runs @body and dies with the test. */
static inline pid_t spawn(void (*body)(unsigned index, struct shared_board *board), unsigned index,
			  struct shared_board *board)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	body(index, board);
	_exit(0);
}

#endif
