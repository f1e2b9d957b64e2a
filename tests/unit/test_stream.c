/* stream: against a peer that is a bare socket: 4 bytes of length, big-endian, and
 * the frame, as QEMU's documentation of -netdev stream has it. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "backends/backend.h"
#include "tests/unit/net_world.h"

static struct net_world w;
static struct backend_env env;
static char dir[32], path[64];

static void setup(void)
{
	net_world_init(&w);
	memset(&env, 0, sizeof(env));
	strcpy(dir, "/tmp/gannet-stream-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
}

static void teardown(void)
{
	net_world_finish(&w);
	unlink(path);
	rmdir(dir);
}

static struct net_backend *try_url(struct error *err, const char *query)
{
	char url[128];

	snprintf(url, sizeof(url), "stream:unix:%s%s", path, query);
	return backend_open(&env, &w.port, url, err);
}

static void open_stream(const char *query)
{
	struct error err = { "" };
	struct net_backend *b = try_url(&err, query);

	ck_assert_msg(b != NULL, "%s", err.text);
	net_port_set_backend(&w.port, b);
}

static uint64_t count(const char *name)
{
	return net_world_counter(&w.port.backend->counters, name);
}

/* ---- the peer ---- */

static struct sockaddr_un address(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	strcpy(un.sun_path, path);
	return un;
}

static int peer_listen(void)
{
	struct sockaddr_un un = address();
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	unlink(path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	return fd;
}

static int peer_connect(void)
{
	struct sockaddr_un un = address();
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

static void peer_write(int fd, const void *data, size_t len)
{
	ck_assert_int_eq(write(fd, data, len), (ssize_t)len);
}

static void peer_read(int fd, void *data, size_t len)
{
	ck_assert_int_eq(recv(fd, data, len, MSG_WAITALL), (ssize_t)len);
}

/* The same, with the loop running meanwhile. */
static void pump_read(int fd, uint8_t *data, size_t len)
{
	unsigned idle = 0;

	for (size_t got = 0; got < len;) {
		ssize_t n = recv(fd, data + got, len - got, MSG_DONTWAIT);

		got += MAX(n, 0);
		if (n > 0)
			continue;
		ck_assert(n < 0 && errno == EAGAIN);
		usleep(100);
		loop_run(w.loop);
		ck_assert_uint_lt(idle++, 20000);
	}
}

static size_t put_frame(uint8_t *out, size_t len, unsigned seed)
{
	uint32_t n = htonl(len);

	memcpy(out, &n, 4);
	for (size_t i = 0; i < len; i++)
		out[4 + i] = seed + i * 7;
	return 4 + len;
}

static void assert_frame(unsigned index, size_t len, unsigned seed)
{
	uint8_t expected[NET_FRAME_MAX + 4];

	put_frame(expected, len, seed);
	ck_assert_uint_eq(w.frame[index].len, len);
	ck_assert_mem_eq(w.frame[index].data, expected + 4, len);
}

static bool got_frames(void *opaque)
{
	return w.frames >= *(unsigned *)opaque;
}

static void await_frames(unsigned n)
{
	ck_assert_msg(net_world_until(&w, got_frames, &n, 5000), "%u of %u frames", w.frames, n);
	ck_assert_uint_eq(w.frames, n);
}

static bool got_connections(void *opaque)
{
	return count("connections") >= *(unsigned *)opaque;
}

static void await_connections(unsigned n)
{
	ck_assert_msg(net_world_until(&w, got_connections, &n, 10000), "no connection %u", n);
}

static bool note_has(void *opaque)
{
	return w.notes && strstr(w.note[MIN(w.notes, (unsigned)NET_WORLD_NOTES) - 1], opaque);
}

static void await_note(const char *text)
{
	ck_assert_msg(net_world_until(&w, note_has, (void *)text, 5000), "no word of '%s' but '%s'",
		      text, w.notes ? w.note[MIN(w.notes, (unsigned)NET_WORLD_NOTES) - 1] : "nothing");
}

static int listener, peer;

static void connect_to_peer(const char *query)
{
	listener = peer_listen();
	open_stream(query);
	peer = accept(listener, NULL, NULL);
	ck_assert_int_ge(peer, 0);
}

/* ---- tests ---- */

START_TEST(frames_leave_behind_their_length)
{
	static const unsigned sizes[] = { 14, 60, 1514, NET_FRAME_MAX };
	uint8_t frame[NET_FRAME_MAX + 4], got[NET_FRAME_MAX + 4];

	connect_to_peer("");
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t whole = put_frame(frame, sizes[i], i);

		net_port_send(&w.port, frame + 4, sizes[i]);
		peer_read(peer, got, whole);
		ck_assert_mem_eq(got, frame, whole);
	}
	close(peer);
	close(listener);
}
END_TEST

START_TEST(a_stream_may_be_cut_anywhere)
{
	uint8_t two[256];
	size_t len = put_frame(two, 60, 1);
	unsigned expected = 0;

	len += put_frame(two + len, 77, 2);
	connect_to_peer("");
	for (size_t cut = 0; cut <= len; cut++) {
		peer_write(peer, two, cut);
		for (unsigned i = 0; i < 3; i++) {
			loop_run(w.loop);
			usleep(100);
		}
		peer_write(peer, two + cut, len - cut);
		expected = 2;
		await_frames(expected);
		assert_frame(0, 60, 1);
		assert_frame(1, 77, 2);
		w.frames = 0;
	}
	for (size_t i = 0; i < len; i++) {
		peer_write(peer, two + i, 1);
		usleep(200);
		loop_run(w.loop);
	}
	await_frames(2);
	assert_frame(1, 77, 2);
	close(peer);
	close(listener);
}
END_TEST

START_TEST(many_frames_at_once_keep_their_order)
{
	static uint8_t many[200 * 1600];
	size_t len = 0;

	connect_to_peer("");
	fcntl(peer, F_SETFL, O_NONBLOCK);
	for (unsigned i = 0; i < 200; i++)
		len += put_frame(many + len, 14 + i * 7, i);
	for (size_t sent = 0; sent < len;) {
		ssize_t n = write(peer, many + sent, len - sent);

		sent += MAX(n, 0);
		loop_run(w.loop);
	}
	await_frames(200);
	for (unsigned i = 0; i < 200; i++)
		assert_frame(i, 14 + i * 7, i);
	close(peer);
	close(listener);
}
END_TEST

START_TEST(odd_lengths_are_skipped_and_counted)
{
	static uint8_t big[4 + (1 << 20)];
	static const unsigned sizes[] = { 0, 1, 13, NET_FRAME_MAX, NET_FRAME_MAX + 1, 65536, 1 << 20 };
	unsigned good = 0;

	connect_to_peer("");
	fcntl(peer, F_SETFL, O_NONBLOCK);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t len = put_frame(big, sizes[i], i);

		for (size_t sent = 0; sent < len;) {
			ssize_t n = write(peer, big + sent, len - sent);

			sent += MAX(n, 0);
			loop_run(w.loop);
		}
		peer_write(peer, big, put_frame(big, 60, 100 + i));
		good += sizes[i] == NET_FRAME_MAX;
		await_frames(++good);
		assert_frame(good - 1, 60, 100 + i);
	}
	ck_assert_uint_eq(net_world_counter(&w.port.counters, "drop.too-short"), 3);
	ck_assert_uint_eq(count("drop.too-long"), 3);
	ck_assert_uint_eq(w.notes, 0);
	close(peer);
	close(listener);
}
END_TEST

START_TEST(a_peer_out_of_step_is_left)
{
	static const uint8_t absurd[][4] = { { 0xff, 0xff, 0xff, 0xff }, { 0, 0x10, 0, 1 }, { 'G', 'E', 'T', ' ' } };
	uint8_t frame[64];

	open_stream("?server=on");
	for (unsigned i = 0; i < ARRAY_SIZE(absurd); i++) {
		peer = peer_connect();
		await_connections(i + 1);
		peer_write(peer, absurd[i], 4);
		await_note("out of step");
		ck_assert_int_eq(recv(peer, frame, 1, 0), 0);
		close(peer);
	}
	peer = peer_connect();
	peer_write(peer, frame, put_frame(frame, 60, 1));
	await_frames(1);
	close(peer);
}
END_TEST

START_TEST(a_peer_that_does_not_read_blocks_the_card)
{
	static uint8_t frame[1504], got[1504];
	unsigned sent = 0, rounds = 0;

	connect_to_peer("");
	while (net_port_can_send(&w.port)) {
		put_frame(frame, 1500, sent);
		net_port_send(&w.port, frame + 4, 1500);
		ck_assert_uint_lt(++sent, 10000);
	}
	ck_assert_uint_gt(sent, 100);
	/* The ring's end is met at every offset: odd reads between the sends. */
	for (unsigned received = 0; received < 2000;) {
		for (unsigned i = 0; i < 1 + received % 50 && received < sent; i++) {
			pump_read(peer, got, 1504);
			put_frame(frame, 1500, received++);
			ck_assert_mem_eq(got, frame, 1504);
		}
		loop_run(w.loop);
		while (sent < 2000 && net_port_can_send(&w.port)) {
			put_frame(frame, 1500, sent++);
			net_port_send(&w.port, frame + 4, 1500);
		}
		usleep(100);
		ck_assert_uint_lt(rounds++, 100000);
	}
	ck_assert_uint_gt(w.writable, 0);
	ck_assert_uint_eq(count("drop.queue-full"), 0);

	/* A card that sends in spite of it loses whole frames only. */
	sent = 0;
	while (!count("drop.queue-full")) {
		put_frame(frame, 1500, sent++);
		net_port_send(&w.port, frame + 4, 1500);
	}
	for (unsigned i = 0; i + 1 < sent; i++) {
		pump_read(peer, got, 1504);
		put_frame(frame, 1500, i);
		ck_assert_mem_eq(got, frame, 1504);
	}
	close(peer);
	close(listener);
}
END_TEST

START_TEST(a_guest_that_does_not_take_frames_blocks_the_peer)
{
	uint8_t frame[1504];
	unsigned sent = 0, idle = 0;

	connect_to_peer("");
	fcntl(peer, F_SETFL, O_NONBLOCK);
	w.full = true;
	while (idle < 50) {
		size_t len = put_frame(frame, 1500, sent);
		ssize_t n = write(peer, frame, len);

		/* unix sockets take a write of this size whole or not at all */
		ck_assert(n == (ssize_t)len || (n < 0 && errno == EAGAIN));
		sent += n > 0;
		idle = n > 0 ? 0 : idle + 1;
		loop_run(w.loop);
		if (n < 0)
			usleep(500);
		ck_assert_uint_lt(sent, NET_WORLD_FRAMES * 8);
	}
	ck_assert_uint_eq(w.frames, 0);
	ck_assert_uint_gt(sent, 10);
	w.full = false;
	net_port_readable(&w.port);
	await_frames(sent);
	for (unsigned i = 0; i < MIN(sent, (unsigned)NET_WORLD_FRAMES); i++)
		assert_frame(i, 1500, i);

	/* What the guest has not taken when the peer goes still reaches it. */
	w.full = true;
	w.frames = 0;
	for (unsigned i = 0; i < 20; i++)
		peer_write(peer, frame, put_frame(frame, 60, i));
	close(peer);
	for (unsigned i = 0; i < 20; i++) {
		loop_run(w.loop);
		usleep(500);
	}
	w.full = false;
	net_port_readable(&w.port);
	await_frames(20);
	await_note("closed the connection");
	close(listener);
}
END_TEST

/* A client's peer: each connection brings one frame, takes one, and dies. */
START_TEST(a_client_comes_back)
{
	enum { TIMES = 6 };
	uint8_t frame[64], got[64];
	uint64_t dropped = 0;

	connect_to_peer("");
	for (unsigned i = 0; i < TIMES; i++) {
		peer_write(peer, frame, put_frame(frame, 60, i));
		await_frames(i + 1);
		net_port_send(&w.port, frame + 4, 60);
		peer_read(peer, got, 64);
		close(peer);
		close(listener);
		await_note("trying again");
		net_port_send(&w.port, frame + 4, 60);
		ck_assert_uint_eq(count("drop.not-connected"), ++dropped);
		listener = peer_listen();
		await_connections(i + 2);
		peer = accept(listener, NULL, NULL);
		await_note("connected again");
	}
	ck_assert_uint_eq(w.notes, 2 * TIMES);
	ck_assert_uint_eq(w.port.wire[NET_TO_WIRE].frames, 2 * TIMES);
	close(peer);
	close(listener);
}
END_TEST

START_TEST(a_server_takes_one_peer_after_another)
{
	enum { TIMES = 20 };
	uint8_t frame[64], got[64];
	struct stat st;
	int next;

	open_stream("?server=on");
	peer = peer_connect();
	for (unsigned i = 0; i < TIMES; i++) {
		await_connections(i + 1);
		next = peer_connect();
		peer_write(next, frame, put_frame(frame, 60, 2 * i + 1)); /* it waits */
		peer_write(peer, frame, put_frame(frame, 60, 2 * i));
		await_frames(2 * i + 1);
		net_port_send(&w.port, frame + 4, 60);
		peer_read(peer, got, 64);
		ck_assert_mem_eq(got, frame, 64);
		close(peer);
		peer = next;
		await_frames(2 * i + 2);
		assert_frame(2 * i, 60, 2 * i);
		assert_frame(2 * i + 1, 60, 2 * i + 1);
	}
	ck_assert_uint_eq(count("drop.connection-lost") + count("drop.cut-short"), 0);
	close(peer);
	net_port_set_backend(&w.port, NULL);
	ck_assert_int_lt(stat(path, &st), 0);
}
END_TEST

START_TEST(a_server_without_descriptors_waits_for_one)
{
	struct rlimit files, none;
	int64_t until;
	unsigned turns = 0;

	open_stream("?server=on");
	peer = peer_connect();
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
	none = (struct rlimit){ peer + 1, files.rlim_max };
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	/* Each turn is one that looked for something to do, and did not find it. */
	until = loop_now(w.loop) + NS_PER_S / 5;
	while (loop_now(w.loop) < until && turns < 1000) {
		loop_wait(w.loop);
		turns++;
	}
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
	ck_assert_uint_lt(turns, 100);
	await_connections(1);
	close(peer);
}
END_TEST

START_TEST(what_a_lost_connection_held_is_counted)
{
	uint8_t frame[1504];
	unsigned sent = 0, received = 0;

	connect_to_peer("?reconnect=off");
	while (net_port_can_send(&w.port)) {
		put_frame(frame, 1500, sent++);
		net_port_send(&w.port, frame + 4, 1500);
	}
	for (; received < 3; received++)
		peer_read(peer, frame, 1504);
	peer_write(peer, frame, 700);
	usleep(1000);
	loop_run(w.loop);
	close(peer);
	await_note("not trying again");
	ck_assert_uint_gt(count("drop.connection-lost"), 100);
	ck_assert_uint_le(count("drop.connection-lost"), sent);
	ck_assert(net_port_can_send(&w.port));
	net_port_send(&w.port, frame + 4, 1500);
	ck_assert_uint_eq(count("drop.not-connected"), 1);
	ck_assert_uint_eq(w.notes, 1);
	close(listener);
}
END_TEST

START_TEST(socket_files)
{
	struct error err = { "" };
	struct stat st;
	int fd;

	/* one that nobody listens at is removed, */
	fd = peer_listen();
	close(fd);
	ck_assert_int_eq(stat(path, &st), 0);
	open_stream("?server=on");
	/* one in use is not, */
	ck_assert_ptr_null(try_url(&err, "?server=on"));
	ck_assert_msg(strstr(err.text, "another program listens"), "%s", err.text);
	/* nor is somebody else's when we go, */
	unlink(path);
	fd = peer_listen();
	net_port_set_backend(&w.port, NULL);
	ck_assert_int_eq(stat(path, &st), 0);
	close(fd);
	unlink(path);
	/* nor another kind of file. */
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	ck_assert_ptr_null(try_url(&err, "?server=on"));
	ck_assert_msg(strstr(err.text, "no socket"), "%s", err.text);
}
END_TEST

START_TEST(carrier_follows_the_peer_if_asked)
{
	open_stream("?server=on&carrier=on");
	await_note("waiting for a peer");
	loop_run(w.loop);
	ck_assert(!w.port.carrier);
	peer = peer_connect();
	await_connections(1);
	ck_assert(w.port.carrier);
	close(peer);
	await_note("waiting for the next peer");
	ck_assert(!w.port.carrier);
}
END_TEST

START_TEST(a_client_may_start_first)
{
	open_stream("?wait=off");
	await_note("nobody there yet");
	listener = peer_listen();
	await_connections(1);
	await_note("connected");
	close(listener);
}
END_TEST

START_TEST(tcp_both_ways)
{
	struct error err = { "" };
	struct net_backend *b;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	uint8_t frame[64], got[64];
	unsigned port = 0;
	char url[64];

	b = backend_open(&env, &w.port, "stream:tcp:127.0.0.1:0?server=on", &err);
	ck_assert_msg(b != NULL, "%s", err.text);
	net_port_set_backend(&w.port, b);
	ck_assert_int_eq(sscanf(w.note[0], "net0: stream:tcp:127.0.0.1:%u: waiting", &port), 1);
	peer = socket(AF_INET, SOCK_STREAM, 0);
	in.sin_port = htons(port);
	ck_assert_int_eq(connect(peer, (struct sockaddr *)&in, sizeof(in)), 0);
	peer_write(peer, frame, put_frame(frame, 60, 5));
	await_frames(1);
	net_port_send(&w.port, frame + 4, 60);
	peer_read(peer, got, 64);
	ck_assert_mem_eq(got, frame, 64);
	close(peer);

	listener = socket(AF_INET, SOCK_STREAM, 0);
	in.sin_port = 0;
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&in, sizeof(in)), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&in, &len), 0);
	snprintf(url, sizeof(url), "stream:tcp:localhost:%u", ntohs(in.sin_port));
	b = backend_open(&env, &w.port, url, &err);
	ck_assert_msg(b != NULL, "%s", err.text);
	net_port_set_backend(&w.port, b);
	peer = accept(listener, NULL, NULL);
	net_port_send(&w.port, frame + 4, 60);
	peer_read(peer, got, 64);
	ck_assert_mem_eq(got, frame, 64);
	close(peer);
	close(listener);
}
END_TEST

START_TEST(bad_addresses_are_refused_in_one_line)
{
	static const char *const bad[][2] = {
		{ "stream:", "neither unix:PATH nor tcp:HOST:PORT" },
		{ "stream:udp:1:2", "'udp:1:2'" },
		{ "stream:unix:", "path" },
		{ "stream:unix:/nowhere/at/all", "/nowhere/at/all: No such file" },
		{ "stream:unix:/nowhere/at/all?server=on", "directory" },
		{ "stream:tcp:127.0.0.1", "HOST:PORT" },
		{ "stream:tcp:127.0.0.1:0", "HOST:PORT" },
		{ "stream:tcp:127.0.0.1:http", "HOST:PORT" },
		{ "stream:tcp:127.0.0.1:65536", "HOST:PORT" },
		{ "stream:tcp::80", "no host" },
		{ "stream:tcp:::1:80", "brackets" },
		{ "stream:tcp:no-such-host.invalid:80", "no-such-host.invalid" },
		{ "stream:tcp:127.0.0.1:1", "start the peer first" },
		{ "stream:unix:/tmp/x?server=perhaps", "server=perhaps" },
		{ "stream:unix:/tmp/x?servers=on&wait=off", "servers" },
		{ "tap:", "no name of an interface" },
		{ "tap:a/b", "'a/b'" },
		{ "tap:sixteen-letters!", "1 to 15 characters" },
		{ "tap:lo", "lo: " },
	};
	char url[256];
	struct error err = { "" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err.text[0] = '\0';
		ck_assert_msg(!backend_open(&env, &w.port, bad[i][0], &err), "%s", bad[i][0]);
		ck_assert_msg(strstr(err.text, bad[i][1]), "%s: %s", bad[i][0], err.text);
		ck_assert_ptr_null(strchr(err.text, '\n'));
	}
	memset(url, 'x', sizeof(url));
	memcpy(url, "stream:unix:", 12);
	url[200] = '\0';
	ck_assert_ptr_null(backend_open(&env, &w.port, url, &err));
	ck_assert_msg(strstr(err.text, "107 bytes"), "%s", err.text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stream");
	TCase *c = tcase_create("stream");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 30);
	tcase_add_test(c, frames_leave_behind_their_length);
	tcase_add_test(c, a_stream_may_be_cut_anywhere);
	tcase_add_test(c, many_frames_at_once_keep_their_order);
	tcase_add_test(c, odd_lengths_are_skipped_and_counted);
	tcase_add_test(c, a_peer_out_of_step_is_left);
	tcase_add_test(c, a_peer_that_does_not_read_blocks_the_card);
	tcase_add_test(c, a_guest_that_does_not_take_frames_blocks_the_peer);
	tcase_add_test(c, a_client_comes_back);
	tcase_add_test(c, a_server_takes_one_peer_after_another);
	tcase_add_test(c, a_server_without_descriptors_waits_for_one);
	tcase_add_test(c, what_a_lost_connection_held_is_counted);
	tcase_add_test(c, socket_files);
	tcase_add_test(c, carrier_follows_the_peer_if_asked);
	tcase_add_test(c, a_client_may_start_first);
	tcase_add_test(c, tcp_both_ways);
	tcase_add_test(c, bad_addresses_are_refused_in_one_line);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
