/* loopback:NAME with members in processes of their own: that die, stop, are many, or lie. */
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/unit/loopback_world.h"

#define URL "loopback:test"

/* ---- who may join ---- */

static void refused(const char *url, const char *why)
{
	struct backend_env env = { NULL };
	struct error err = { "" };
	struct trace trace = { .out = stderr };
	struct loop *loop = loop_create(net_world_kick, NULL, &err);
	struct net_port port;

	net_port_init(&port, loop, &trace, 0);
	ck_assert_ptr_null(backend_open(&env, &port, url, &err));
	ck_assert_msg(strstr(err.text, why), "%s: %s", url, err.text);
	ck_assert_ptr_null(strchr(err.text, '\n'));
	net_port_finish(&port);
	loop_destroy(loop);
}

START_TEST(bad_names_and_parameters_are_refused)
{
	static const char *const names[] = {
		"a/b", "../x", "/etc/passwd", "//host/x", "a b", "a%2fb", "\xc3\xa4", "a:b", "a,b",
		"01234567890123456789012345678901234567890123456789012345678901234",
	};
	static const struct {
		const char *param, *why;
	} params[] = {
		{ "loss=101%", "loss=101" }, { "loss=-1", "loss=-1" }, { "loss=x", "loss=x" },
		{ "loss=", "loss=" }, { "loss=nan", "loss=nan" }, { "dup=2", "dup=2" },
		{ "rate=-1mbit", "rate=" }, { "delay=61s", "delay=61s" },
		{ "rate=fast", "rate=fast" },
		{ "rate=10", "rate=10" }, { "rate=1e400", "rate=1e400" }, { "seed=-1", "seed=-1" },
		{ "limit=1", "limit=1" }, { "carrier=maybe", "carrier=maybe" }, { "colour=red", "colour" },
	};
	char url[200];

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(url, sizeof(url), "loopback:%s", names[i]);
		refused(url, "is no name");
	}
	for (unsigned i = 0; i < ARRAY_SIZE(params); i++) {
		snprintf(url, sizeof(url), "loopback:?%s", params[i].param);
		refused(url, params[i].why);
		snprintf(url, sizeof(url), URL "?%s", params[i].param);
		refused(url, params[i].why);
	}
	ck_assert_uint_eq(dir_files(), 0);
}
END_TEST

START_TEST(names_that_look_odd_are_names)
{
	static const char *const urls[] = {
		"loopback:.", "loopback:..", "loopback:-", "loopback:a.0123456789abcdef",
		"loopback:0123456789012345678901234567890123456789012345678901234567890123",
	};
	struct shared_board *board = board_create();
	struct member_world a, b;

	for (unsigned i = 0; i < ARRAY_SIZE(urls); i++) {
		board->member[0].joined = 0;
		member_init(&a, 0, board, urls[i]);
		member_init(&b, 1, board, i ? urls[i - 1] : "loopback:a");
		member_run(&a, 10);
		ck_assert_uint_eq(member_counter(&a, "peers-joined"), 0);
		member_finish(&b);
		member_init(&b, 1, board, urls[i]);
		ck_assert(member_until(&a, &board->member[0].joined, 1, 1000));
		member_finish(&b);
		member_finish(&a);
		ck_assert_uint_eq(dir_files(), 0);
	}
}
END_TEST

START_TEST(directory_others_can_enter_is_refused)
{
	char path[128], other[128];

	snprintf(path, sizeof(path), "%s/gannet", run_dir);
	snprintf(other, sizeof(other), "%s/other", run_dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(chmod(path, 0755), 0);
	refused(URL, "chmod 700");
	ck_assert_int_eq(chmod(path, 0700), 0);
	if (geteuid() == 0) {
		ck_assert_int_eq(chown(path, 1, 1), 0);
		refused(URL, "belongs to user 1");
	}
	ck_assert_int_eq(rmdir(path), 0);
	ck_assert_int_eq(mkdir(other, 0700), 0);
	ck_assert_int_eq(symlink(other, path), 0);
	refused(URL, "is no directory");
	ck_assert_int_eq(unlink(path), 0);
	rmdir(other);
	ck_assert_int_eq(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
	refused(URL, "is no directory");
	setenv("XDG_RUNTIME_DIR", "/nonexistent", 1);
	refused(URL, "/nonexistent/gannet");
}
END_TEST

/* ---- members that die ---- */

static void dies_at_once(unsigned index, struct shared_board *board)
{
	struct member_world w;

	member_init(&w, index, board, URL);
	poke32(&board->go, 1);
	kill(getpid(), SIGKILL);
}

START_TEST(what_dead_members_left_is_cleaned_up)
{
	struct shared_board *board = board_create();
	struct member_world w;
	char path[128];
	int fd;

	for (unsigned i = 0; i < 5; i++)
		waitpid(spawn(dies_at_once, i, board), NULL, 0);
	/* Each of them removed the one before. */
	ck_assert_uint_eq(dir_files(), 1);
	/* Files that are no sockets do no harm; other names are left alone. */
	snprintf(path, sizeof(path), "%s/gannet/test.0123456789abcdef", run_dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	snprintf(path, sizeof(path), "%s/gannet/test.more.0123456789abcdef", run_dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	member_init(&w, 0, board, URL);
	ck_assert_uint_eq(dir_files(), 2);
	ck_assert_uint_eq(member_counter(&w, "peers-joined"), 0);
	member_finish(&w);
	ck_assert_uint_eq(dir_files(), 1);
}
END_TEST

/* Sends to member 0 for ever. */
static void floods_member_0(unsigned index, struct shared_board *board)
{
	struct member_world w;

	member_init(&w, index, board, URL);
	member_transmit(&w, EVERYBODY);
	for (;;) {
		for (unsigned i = 0; i < 32 && net_port_can_send(&w.port); i++)
			member_transmit(&w, 0);
		if (net_port_can_send(&w.port))
			loop_run(w.loop);
		else
			loop_wait(w.loop);
	}
}

START_TEST(member_killed_in_mid_transfer)
{
	struct shared_board *board = board_create();
	struct member_world w;
	uint64_t sent, lost, got;
	int64_t end;
	pid_t pid;

	member_init(&w, 0, board, URL);
	for (unsigned round = 0; round < 3; round++) {
		const uint32_t *received = &board->member[1].received[0];
		uint32_t before = w.board->member[0].received[1];
		uint64_t dropped = member_counter(&w, "drop.peer-gone") +
				   member_counter(&w, "drop.no-peer");

		w.expected[1] = 0;
		board->member[0].sent[1] = 0;
		poke32(&board->member[1].received[0], 0);
		pid = spawn(floods_member_0, 1, board);
		ck_assert(member_until(&w, &board->member[0].received[1], before + 1, 2000));
		end = loop_now(w.loop) + 30000000;
		while (loop_now(w.loop) < end) {
			for (unsigned i = 0; i < 32 && net_port_can_send(&w.port); i++)
				member_transmit(&w, 1);
			loop_run(w.loop);
		}
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		for (unsigned i = 0; i < 200; i++) { /* it is dead, we do not know yet */
			if (net_port_can_send(&w.port))
				member_transmit(&w, 1);
		}
		for (unsigned i = 0; i < 200 && member_counter(&w, "peers-left") <= round; i++)
			member_run(&w, 5);
		member_run(&w, 20);
		ck_assert_uint_eq(member_counter(&w, "peers-left"), round + 1);
		ck_assert(net_port_can_send(&w.port));
		ck_assert_uint_eq(board->member[0].disorder, 0);
		ck_assert_uint_gt(peek32(received), 0);
		ck_assert_uint_gt(board->member[0].received[1], before);
		sent = board->member[0].sent[1];
		got = peek32(received);
		lost = member_counter(&w, "drop.peer-gone") + member_counter(&w, "drop.no-peer") -
		       dropped;
		/* It may have died between taking a frame and counting it. */
		ck_assert_msg(sent - got - lost <= 1, "%llu sent, %llu received, %llu lost",
			      (unsigned long long)sent, (unsigned long long)got,
			      (unsigned long long)lost);
		/* What it had sent came: but for one that waited for room in its own
		 * memory, or with one more that it did not live to count. */
		got = board->member[0].received[1] - before;
		ck_assert_uint_le(got + 1 - board->member[1].sent[0], 2);
		board->member[1].sent[0] = 0;
	}
	ck_assert_uint_eq(w.notes, 0);
	member_finish(&w);
	ck_assert_uint_le(dir_files(), 1);
}
END_TEST

/* ---- many ---- */

enum { TO_EACH = 3000, TO_ALL = 300 };

static void talks_to_all(unsigned index, struct shared_board *board)
{
	struct member_board *me = &board->member[index];
	struct member_world w;

	member_init(&w, index, board, URL);
	if (index % 2)
		w.room = 100; /* a slow card: so many frames a millisecond */
	if (!member_until(&w, &me->joined, MEMBERS - 1, 10000))
		return;
	member_until(&w, &board->go, 1, 10000);
	member_transmit_patiently(&w, EVERYBODY);
	for (unsigned i = 0; i < MEMBERS; i++) {
		if (i != index)
			member_until(&w, &me->received[i], 1, 10000);
	}
	poke32(&me->finished, 1);
	member_until(&w, &board->go, 2, 10000);
	for (unsigned n = 0; n < TO_EACH; n++) {
		for (unsigned i = 1; i < MEMBERS; i++)
			member_transmit_patiently(&w, (index + i) % MEMBERS);
		if (n % (TO_EACH / TO_ALL) == 0)
			member_transmit_patiently(&w, EVERYBODY);
		loop_run(w.loop);
	}
	poke32(&me->finished, 2);
	member_until(&w, &board->leave, 1, 20000);
	member_publish(&w);
	member_finish(&w);
	poke32(&me->finished, 3);
}

static void all_reach(struct shared_board *board, uint32_t stage)
{
	for (unsigned i = 0; i < MEMBERS; i++) {
		for (unsigned ms = 0; peek32(&board->member[i].finished) < stage; ms++) {
			ck_assert_msg(ms < 20000, "member %u does not reach %u", i, stage);
			usleep(1000);
		}
	}
}

START_TEST(eight_processes_all_to_all_and_counts_add_up)
{
	struct shared_board *board = board_create();
	pid_t pid[MEMBERS];
	unsigned total = 0;

	for (unsigned i = 0; i < MEMBERS; i++)
		pid[i] = spawn(talks_to_all, i, board);
	for (unsigned i = 0; i < MEMBERS; i++) {
		while (peek32(&board->member[i].joined) < MEMBERS - 1)
			usleep(1000); /* the test's own time-out ends this */
	}
	poke32(&board->go, 1);
	all_reach(board, 1);
	poke32(&board->go, 2);
	all_reach(board, 2);
	for (unsigned ms = 0; ms < 10000; ms++) {
		total = 0;
		for (unsigned i = 0; i < MEMBERS * MEMBERS; i++)
			total += peek32(&board->member[i / MEMBERS].received[i % MEMBERS]);
		if (total == MEMBERS * (MEMBERS - 1) * (TO_EACH + TO_ALL + 1))
			break;
		usleep(1000);
	}
	poke32(&board->leave, 1);
	all_reach(board, 3);
	for (unsigned i = 0; i < MEMBERS; i++) {
		struct member_board *b = &board->member[i];

		waitpid(pid[i], NULL, 0);
		ck_assert_uint_eq(b->disorder, 0);
		ck_assert_uint_eq(b->flooded, TO_ALL + 1); /* the broadcasts, nothing else */
		ck_assert_uint_eq(b->stalled + b->gone + b->nobody + b->queue_full, 0);
		for (unsigned j = 0; j < MEMBERS; j++)
			ck_assert_uint_eq(b->received[j], i == j ? 0 : TO_EACH + TO_ALL + 1);
	}
	ck_assert_uint_eq(dir_files(), 0);
}
END_TEST

START_TEST(sixty_four_members_and_no_more)
{
	enum { MANY = 64 };
	struct rlimit files;
	struct backend_env env = { NULL };
	struct error err = { "" };
	struct trace trace = { .out = stderr };
	struct loop *loop = loop_create(net_world_kick, NULL, &err);
	struct net_port *port = calloc(MANY + 1, sizeof(*port));

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_max < 6000) {
		free(port);
		loop_destroy(loop);
		return;
	}
	loop_resume(loop);
	for (unsigned i = 0; i < MANY; i++) {
		net_port_init(&port[i], loop, &trace, i);
		port[i].backend = backend_open(&env, &port[i], URL, &err);
		ck_assert_msg(port[i].backend != NULL, "member %u: %s", i, err.text);
		loop_run(loop);
	}
	for (unsigned i = 0; i < 500; i++) {
		loop_run(loop);
		usleep(100);
	}
	for (unsigned i = 0; i < MANY; i++)
		ck_assert_uint_eq(net_world_counter(&port[i].backend->counters, "peers-joined"),
				  MANY - 1);
	net_port_init(&port[MANY], loop, &trace, MANY);
	ck_assert_ptr_null(backend_open(&env, &port[MANY], URL, &err));
	ck_assert_msg(strstr(err.text, "64 members"), "%s", err.text);
	for (unsigned i = 0; i < MANY; i++)
		net_port_finish(&port[i]);
	ck_assert_uint_eq(dir_files(), 0);
	loop_destroy(loop);
	free(port);
}
END_TEST

/* ---- a member that stops ---- */

static void listens(unsigned index, struct shared_board *board)
{
	struct member_world w;

	member_init(&w, index, board, URL);
	member_transmit(&w, EVERYBODY);
	member_until(&w, &board->leave, 1, 20000);
	member_finish(&w);
}

START_TEST(stopped_member_holds_up_nobody)
{
	struct shared_board *board = board_create();
	struct member_world w, late;
	uint64_t dropped;
	unsigned sent;
	int64_t began;
	pid_t pid[3];

	member_init(&w, 0, board, URL);
	pid[1] = spawn(listens, 1, board);
	ck_assert(member_until(&w, &board->member[0].received[1], 1, 2000));
	pid[2] = spawn(listens, 2, board);
	ck_assert(member_until(&w, &board->member[0].received[2], 1, 2000));
	kill(pid[1], SIGSTOP);
	began = loop_now(w.loop);
	while (net_port_can_send(&w.port)) {
		member_transmit(&w, 1);
		ck_assert_uint_lt(w.number[1], 1000000);
	}
	/* Blocked: for about a second, then everything flows. */
	member_transmit_patiently(&w, 2);
	ck_assert_int_ge(loop_now(w.loop) - began, NS_PER_S * 8 / 10);
	ck_assert_int_le(loop_now(w.loop) - began, NS_PER_S * 5 / 2);
	began = loop_now(w.loop);
	for (unsigned i = 0; i < 5000; i++) {
		member_transmit_patiently(&w, 1);
		member_transmit_patiently(&w, 2);
	}
	ck_assert_int_le(loop_now(w.loop) - began, 5 * NS_PER_S);
	ck_assert(member_until(&w, &board->member[2].received[0], w.number[2], 2000));
	ck_assert_uint_eq(w.notes, 1);
	/* Somebody else may join meanwhile. */
	member_init(&late, 3, board, URL);
	member_transmit(&late, 0);
	ck_assert(member_until(&w, &board->member[0].received[3], 1, 2000));
	member_finish(&late);

	kill(pid[1], SIGCONT);
	dropped = member_counter(&w, "drop.peer-stalled");
	ck_assert_uint_ge(dropped, 5000);
	sent = w.number[1];
	ck_assert(member_until(&w, &board->member[1].received[0], sent - dropped, 2000));
	for (unsigned i = 0; i < 1000; i++)
		member_transmit_patiently(&w, 1);
	ck_assert(member_until(&w, &board->member[1].received[0], sent - dropped + 1000, 2000));
	ck_assert_uint_eq(member_counter(&w, "drop.peer-stalled"), dropped);
	ck_assert_uint_eq(board->member[1].disorder, 0);
	poke32(&board->leave, 1);
	waitpid(pid[1], NULL, 0);
	waitpid(pid[2], NULL, 0);
	member_finish(&w);
}
END_TEST

/* ---- members that lie ---- */

static struct sockaddr_un victim_address(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char path[128];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/gannet", run_dir);
	d = opendir(path);
	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d)) && e->d_name[0] == '.')
		;
	ck_assert_ptr_nonnull(e);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%.50s/%.50s", path, e->d_name);
	closedir(d);
	return sun;
}

static int intrude(struct member_world *w)
{
	struct sockaddr_un sun = victim_address();
	struct pollfd p = { socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), POLLIN, 0 };

	ck_assert_int_eq(connect(p.fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	while (!poll(&p, 1, 0)) /* it greets whoever comes */
		member_run(w, 1);
	return p.fd;
}

/* Sends @len bytes and up to two descriptors. */
static void say(int fd, const void *data, size_t len, const int *fds, unsigned count)
{
	struct iovec iov = { (void *)data, len };
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = { .head = {
		.cmsg_len = CMSG_LEN(count * sizeof(int)), .cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
	} };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count) {
		memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
	}
	ck_assert_int_eq(sendmsg(fd, &msg, MSG_NOSIGNAL), len);
}

/* The hello as the format says: "gannetLB", version, 4 unused, id. */
struct spoken_hello {
	char magic[8];
	uint32_t version, unused;
	uint64_t id;
};

static const struct spoken_hello good_hello = { "gannetL" "B", 1, 0, 42 };

enum { HEAD = 4096, RING = 65536, WRITTEN = 0, READ = 64, SLEEPS = 128 };

static uint8_t *make_ring(int *fd, size_t size, int seals)
{
	uint8_t *p;

	*fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ck_assert_int_eq(ftruncate(*fd, size), 0);
	if (seals)
		ck_assert_int_eq(fcntl(*fd, F_ADD_SEALS, seals), 0);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

static void expect_refused(struct member_world *w, int fd, unsigned n, const char *why)
{
	for (unsigned i = 0; i < 500 && member_counter(w, "peers-refused") < n; i++)
		member_run(w, 2);
	ck_assert_uint_eq(member_counter(w, "peers-refused"), n);
	ck_assert_msg(strstr(w->note, why), "%s", w->note);
	close(fd);
	member_run(w, 3);
}

START_TEST(greetings_that_are_wrong_are_refused)
{
	struct shared_board *board = board_create();
	struct member_world w, friend;
	struct spoken_hello h = good_hello;
	uint8_t noise[2000];
	unsigned n = 0;
	int fd, ring[2], pipes[2];

	member_init(&w, 0, board, URL);
	for (unsigned i = 0; i < sizeof(noise); i++)
		noise[i] = i * 7919 >> 3;
	ck_assert_int_eq(pipe(pipes), 0);

	fd = intrude(&w);
	say(fd, noise, sizeof(noise), NULL, 0);
	expect_refused(&w, fd, ++n, "no gannet");
	fd = intrude(&w);
	say(fd, noise, 1, pipes, 2);
	expect_refused(&w, fd, ++n, "no gannet");
	fd = intrude(&w);
	h.version = 2;
	say(fd, &h, sizeof(h), NULL, 0);
	expect_refused(&w, fd, ++n, "version 2");
	fd = intrude(&w);
	say(fd, &h, 12, NULL, 0);
	expect_refused(&w, fd, ++n, "version 2");
	fd = intrude(&w);
	say(fd, &good_hello, sizeof(h), NULL, 0);
	expect_refused(&w, fd, ++n, "damaged");
	fd = intrude(&w);
	say(fd, &good_hello, sizeof(h), pipes, 2);
	expect_refused(&w, fd, ++n, "sealed");
	fd = intrude(&w);
	munmap(make_ring(&ring[0], HEAD + RING, 0), HEAD + RING);
	say(fd, &good_hello, sizeof(h), ring, 1);
	expect_refused(&w, fd, ++n, "sealed");
	close(ring[0]);
	fd = intrude(&w);
	munmap(make_ring(&ring[0], HEAD + 12345, F_SEAL_SHRINK), HEAD + 12345);
	say(fd, &good_hello, sizeof(h), ring, 1);
	expect_refused(&w, fd, ++n, "size");
	close(ring[0]);
	fd = intrude(&w);
	munmap(make_ring(&ring[0], 1, F_SEAL_SHRINK), 1);
	say(fd, &good_hello, sizeof(h), ring, 1);
	expect_refused(&w, fd, ++n, "size");
	close(ring[0]);
	/* One that says nothing at all. */
	fd = intrude(&w);
	loop_set_now(w.loop, loop_now(w.loop) + 6 * NS_PER_S);
	expect_refused(&w, fd, ++n, "says nothing");

	/* And it still works with those that know how. */
	member_init(&friend, 1, board, URL);
	member_transmit(&friend, 0);
	ck_assert(member_until(&w, &board->member[0].received[1], 1, 1000));
	ck_assert_uint_eq(member_counter(&w, "peers-joined"), 1);
	member_finish(&friend);
	member_finish(&w);
	close(pipes[0]);
	close(pipes[1]);
}
END_TEST

START_TEST(rings_that_make_no_sense_are_refused)
{
	static const struct {
		uint64_t written;
		uint32_t length;
	} lies[] = {
		{ RING + 8, 60 }, { UINT64_MAX, 60 }, { 4, 60 }, { 8, 60 }, { 72, 0 },
		{ 72, 65 }, { RING, 9217 }, { RING, 0xfffffff8 }, { 72, 0xffffffff },
		{ 1ull << 63, 60 }, { RING, 0x7fffffff },
	};
	struct shared_board *board = board_create();
	struct member_world w;
	unsigned n = 0;

	member_init(&w, 0, board, URL);
	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		int fd = intrude(&w), ring;
		uint8_t *p = make_ring(&ring, HEAD + RING, F_SEAL_SHRINK | F_SEAL_GROW);

		memcpy(p + HEAD, &lies[i].length, 4);
		memcpy(p + WRITTEN, &lies[i].written, 8);
		say(fd, &good_hello, sizeof(good_hello), &ring, 1);
		expect_refused(&w, fd, ++n, "makes no sense");
		munmap(p, HEAD + RING);
		close(ring);
	}
	/* A ring of skips only ends too. */
	{
		int fd = intrude(&w), ring;
		uint8_t *p = make_ring(&ring, HEAD + RING, F_SEAL_SHRINK | F_SEAL_GROW);
		uint64_t written = RING;

		memset(p + HEAD, 0xff, RING);
		memcpy(p + WRITTEN, &written, 8);
		say(fd, &good_hello, sizeof(good_hello), &ring, 1);
		member_run(&w, 5);
		say(fd, "", 1, NULL, 0);
		say(fd, "too long", 8, NULL, 0);
		expect_refused(&w, fd, ++n, "bells");
		munmap(p, HEAD + RING);
		close(ring);
	}
	member_finish(&w);
}
END_TEST

/* One that moves the reader's end of our ring about. */
START_TEST(reader_that_lies_is_refused)
{
	struct shared_board *board = board_create();
	struct member_world w;
	int fd, ring, ours = -1;
	char data[64];
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { data, sizeof(data) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	uint64_t lie = 1ull << 40;
	uint8_t *p, *q;

	member_init(&w, 0, board, URL);
	fd = intrude(&w);
	ck_assert_int_eq(recvmsg(fd, &msg, 0), sizeof(struct spoken_hello));
	ck_assert_int_eq(memcmp(data, &good_hello, 12), 0);
	memcpy(&ours, CMSG_DATA(&control.head), sizeof(ours));
	/* What we got can be made neither smaller nor larger. */
	ck_assert_int_ne(ftruncate(ours, 0), 0);
	ck_assert_int_ne(ftruncate(ours, 1 << 24), 0);
	q = mmap(NULL, HEAD, PROT_READ | PROT_WRITE, MAP_SHARED, ours, 0);
	ck_assert_ptr_ne(q, MAP_FAILED);
	p = make_ring(&ring, HEAD + RING, F_SEAL_SHRINK);
	say(fd, &good_hello, sizeof(good_hello), &ring, 1);
	member_run(&w, 5);
	memcpy(q + READ, &lie, 8);
	for (unsigned i = 0; i < 100000 && net_port_can_send(&w.port); i++)
		member_transmit(&w, EVERYBODY);
	expect_refused(&w, fd, 1, "makes no sense");
	ck_assert(net_port_can_send(&w.port));
	munmap(p, HEAD + RING);
	munmap(q, HEAD);
	close(ring);
	close(ours);
	member_finish(&w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loopback_shared");
	TCase *c = tcase_create("members");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(c, dir_setup, dir_teardown);
	tcase_set_timeout(c, 40);
	tcase_add_test(c, bad_names_and_parameters_are_refused);
	tcase_add_test(c, names_that_look_odd_are_names);
	tcase_add_test(c, directory_others_can_enter_is_refused);
	tcase_add_test(c, what_dead_members_left_is_cleaned_up);
	tcase_add_test(c, member_killed_in_mid_transfer);
	tcase_add_test(c, eight_processes_all_to_all_and_counts_add_up);
	tcase_add_test(c, sixty_four_members_and_no_more);
	tcase_add_test(c, stopped_member_holds_up_nobody);
	tcase_add_test(c, greetings_that_are_wrong_are_refused);
	tcase_add_test(c, rings_that_make_no_sense_are_refused);
	tcase_add_test(c, reader_that_lies_is_refused);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
