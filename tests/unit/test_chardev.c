/* Character back ends with a real peer at the other end of each. */
#include "tests/unit/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "core/chardev.h"
#include "core/chardev_priv.h"

struct user { /* the device on the guest's side */
	struct fixture f;
	struct chardev *c;
	uint8_t got[65536];
	size_t len, limit; /* takes up to limit bytes */
	unsigned can_write, breaks, opened, closed, gone;
	int command;
};

static size_t user_can_receive(void *opaque)
{
	struct user *u = opaque;

	return u->limit - u->len;
}

static void user_receive(void *opaque, const uint8_t *buf, size_t len)
{
	struct user *u = opaque;

	ck_assert_uint_le(len, u->limit - u->len);
	memcpy(u->got + u->len, buf, len);
	u->len += len;
}

static void user_can_write(void *opaque)
{
	((struct user *)opaque)->can_write++;
}

static void user_event(void *opaque, enum chardev_event e)
{
	struct user *u = opaque;

	u->breaks += e == CHARDEV_BREAK;
	u->opened += e == CHARDEV_OPENED;
	u->closed += e == CHARDEV_CLOSED;
	u->gone += e == CHARDEV_GONE;
}

static void user_command(void *opaque, int key)
{
	((struct user *)opaque)->command = key;
}

static const struct chardev_handlers handlers = {
	.can_receive = user_can_receive,
	.receive = user_receive,
	.can_write = user_can_write,
	.event = user_event,
};

static struct user *user_open(const char *spec)
{
	struct user *u = calloc(1, sizeof(*u));
	struct error err = { "" };

	fixture_init(&u->f);
	u->limit = sizeof(u->got);
	u->c = chardev_open(u->f.m.loop, spec, &err);
	ck_assert_msg(u->c != NULL, "%s", err.text);
	chardev_set_handlers(u->c, &handlers, u);
	chardev_set_command(u->c, user_command, u);
	return u;
}

static void user_close(struct user *u)
{
	chardev_close(u->c);
	ck_assert_uint_eq(u->gone, 1);
	fixture_finish(&u->f);
	free(u);
}

/* Run the loop until something holds; ten seconds are for ever. */
#define until(u, cond) do { \
	int64_t end_ = loop_now((u)->f.m.loop) + 10 * NS_PER_S; \
	while (!(cond)) { \
		fixture_run_ns(&(u)->f, 100000); \
		ck_assert_msg(loop_now((u)->f.m.loop) < end_, "never: %s", #cond); \
	} \
} while (0)

static ssize_t read_all(struct user *u, int fd, char *buf, size_t want)
{
	size_t n = 0;

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	while (n < want) {
		ssize_t k = read(fd, buf + n, want - n);

		if (k > 0)
			n += k;
		else if (k == 0 || errno != EAGAIN)
			break;
		fixture_run_ns(&u->f, 100000);
	}
	return n;
}

static void put(int fd, const char *s)
{
	ck_assert_int_eq(write(fd, s, strlen(s)), strlen(s));
}

START_TEST(bad_specifications_say_why)
{
	static const struct { const char *spec, *word; } t[] = {
		{ "", "unknown" }, { "stdio,x", "mux=on" }, { "file:", "path" },
		{ "file:/nonexistent-dir/x", "/nonexistent-dir/x" }, { "unix:", "path" },
		{ "unix:/nonexistent-dir/x", "server" }, { "unix:/tmp/x,sever", "sever" },
		{ "tcp:5555", "HOST:PORT" }, { "tcp:localhost:", "HOST:PORT" },
		{ "tcp:127.0.0.1:1", "connect" }, { "udp:1", "udp:1" }, { "pty:x", "pty:x" },
	};
	struct fixture f;

	fixture_init(&f);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct error err = { "" };

		ck_assert_ptr_null(chardev_open(f.m.loop, t[i].spec, &err));
		ck_assert_msg(strstr(err.text, t[i].word) != NULL, "%s: %s", t[i].spec, err.text);
	}
	fixture_finish(&f);
}
END_TEST

START_TEST(addresses)
{
	struct socket_spec s;

	ck_assert(socket_spec_parse(&s, true, "[::1]:80,server,nowait", NULL));
	ck_assert_str_eq(s.host, "::1");
	ck_assert_str_eq(s.port, "80");
	ck_assert(s.server && !s.wait);
	ck_assert(socket_spec_parse(&s, true, ":4444,server=on,wait=off", NULL));
	ck_assert_str_eq(s.host, "127.0.0.1");
	ck_assert(s.server && !s.wait);
	ck_assert(socket_spec_parse(&s, false, "/a/b", NULL));
	ck_assert_str_eq(s.path, "/a/b");
	ck_assert(!s.server);
}
END_TEST

START_TEST(null_takes_everything)
{
	struct user *u = user_open("null");

	ck_assert_uint_eq(chardev_write(u->c, "abc", 3), 3);
	ck_assert(chardev_connected(u->c));
	user_close(u);
	ck_assert_uint_eq(chardev_write(NULL, "abc", 3), 3);
}
END_TEST

static void tap_seen(void *opaque, const uint8_t *buf, size_t len)
{
	struct user *u = opaque;

	memcpy(u->got + u->len, buf, len);
	u->len += len;
}

START_TEST(tap_sees_what_is_written)
{
	struct user *u = user_open("null");

	chardev_set_tap(u->c, tap_seen, u);
	ck_assert_uint_eq(chardev_write(u->c, "abc", 3), 3);
	ck_assert_uint_eq(u->len, 3);
	ck_assert_mem_eq(u->got, "abc", 3);
	chardev_set_tap(u->c, NULL, NULL);
	ck_assert_uint_eq(chardev_write(u->c, "abc", 3), 3);
	ck_assert_uint_eq(u->len, 3);
	user_close(u);
}
END_TEST

START_TEST(injected_input_waits_for_room)
{
	struct user *u = user_open("null");
	char *big = calloc(1, 100000);
	size_t n;

	u->limit = 2;
	ck_assert_uint_eq(chardev_inject(u->c, "ab\1x", 4), 4); /* no escape key here */
	ck_assert_uint_eq(u->len, 2);
	u->limit = 4;
	chardev_accept_input(u->c);
	ck_assert_mem_eq(u->got, "ab\1x", 4);
	ck_assert_int_eq(u->command, 0);
	n = chardev_inject(u->c, big, 100000);
	ck_assert_uint_lt(n, 100000);
	ck_assert_uint_eq(chardev_inject(u->c, big, 1), 0);
	u->limit = 4 + n;
	chardev_accept_input(u->c);
	ck_assert_uint_eq(u->len, 4 + n);
	user_close(u);
	free(big);
}
END_TEST

START_TEST(file_holds_what_was_written)
{
	char path[64], spec[128], buf[32] = "";
	struct user *u;
	FILE *f;

	snprintf(path, sizeof(path), "/tmp/gannet-test-chardev-%d", getpid());
	snprintf(spec, sizeof(spec), "file:%s", path);
	u = user_open(spec);
	ck_assert_uint_eq(chardev_write(u->c, "one\n", 4), 4);
	fixture_run_ns(&u->f, 60000000);
	f = fopen(path, "r");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fread(buf, 1, sizeof(buf), f), 4); /* while it is still open */
	chardev_write(u->c, "two\n", 4);
	user_close(u);
	clearerr(f);
	ck_assert_int_eq(fread(buf + 4, 1, sizeof(buf) - 4, f), 4);
	ck_assert_str_eq(buf, "one\ntwo\n");
	fclose(f);
	unlink(path);
}
END_TEST

START_TEST(full_disk_is_survived)
{
	struct user *u = user_open("file:/dev/full");

	for (unsigned i = 0; i < 100000; i++)
		ck_assert_uint_eq(chardev_write(u->c, "0123456789", 10), 10);
	user_close(u);
}
END_TEST

static int unix_connect(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	return fd;
}

START_TEST(unix_server_and_its_peers)
{
	char path[64], spec[128], buf[8] = "";
	struct user *u;

	snprintf(path, sizeof(path), "/tmp/gannet-test-chardev-%d", getpid());
	snprintf(spec, sizeof(spec), "unix:%s,server,nowait", path);
	u = user_open(spec);
	ck_assert_str_eq(chardev_info(u->c), path);
	ck_assert(!chardev_connected(u->c));
	ck_assert_uint_eq(chardev_write(u->c, "lost", 4), 4);
	for (unsigned i = 1; i <= 3; i++) { /* one after the other */
		int fd = unix_connect(path);

		until(u, u->opened == i);
		put(fd, "in");
		until(u, u->len == i * 2);
		chardev_write(u->c, "out", 3);
		ck_assert_int_eq(read_all(u, fd, buf, 3), 3);
		ck_assert_mem_eq(buf, "out", 3);
		close(fd);
		until(u, u->closed == i);
	}
	ck_assert_mem_eq(u->got, "ininin", 6);
	user_close(u);
	ck_assert_int_eq(access(path, F_OK), -1); /* its socket is gone with it */
}
END_TEST

START_TEST(unix_socket_left_behind_is_replaced)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char spec[128];
	struct error err = { "" };
	struct user *u;

	snprintf(sun.sun_path, sizeof(sun.sun_path), "/tmp/gannet-test-chardev-%d", getpid());
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	close(fd);
	snprintf(spec, sizeof(spec), "unix:%s,server,nowait", sun.sun_path);
	u = user_open(spec);
	ck_assert_ptr_null(chardev_open(u->f.m.loop, spec, &err)); /* that one is in use */
	ck_assert_str_ne(err.text, "");
	ck_assert_int_eq(access(sun.sun_path, F_OK), 0);
	user_close(u);
}
END_TEST

START_TEST(tcp_server_and_client_talk)
{
	struct user *a = user_open("tcp::0,server,nowait"), *b;
	char spec[128];

	snprintf(spec, sizeof(spec), "tcp:%s", chardev_info(a->c));
	b = user_open(spec);
	until(a, chardev_connected(a->c));
	chardev_write(a->c, "ping", 4);
	fixture_run_ns(&a->f, 3000000);
	until(b, b->len == 4);
	chardev_write(b->c, "pong", 4);
	chardev_flush(b->c);
	until(a, a->len == 4);
	user_close(b);
	until(a, a->closed == 1);
	user_close(a);
}
END_TEST

START_TEST(server_waits_for_its_peer)
{
	char path[64], spec[128];
	struct user *u;
	pid_t pid;

	snprintf(path, sizeof(path), "/tmp/gannet-test-chardev-%d", getpid());
	snprintf(spec, sizeof(spec), "unix:%s,server", path);
	pid = fork();
	if (pid == 0) {
		while (access(path, F_OK))
			usleep(1000);
		usleep(20000);
		_exit(write(unix_connect(path), "x", 1) != 1);
	}
	u = user_open(spec);
	ck_assert(chardev_connected(u->c));
	until(u, u->len == 1);
	waitpid(pid, NULL, 0);
	user_close(u);
}
END_TEST

START_TEST(input_waits_until_the_device_has_room)
{
	char path[64], spec[128];
	char *big = malloc(100000);
	struct user *u;
	size_t total = 0;
	int fd;

	snprintf(path, sizeof(path), "/tmp/gannet-test-chardev-%d", getpid());
	snprintf(spec, sizeof(spec), "unix:%s,server,nowait", path);
	u = user_open(spec);
	fd = unix_connect(path);
	until(u, u->opened);
	for (unsigned i = 0; i < 100000; i++)
		big[i] = i * 31 >> 4;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	u->limit = 0;
	total = write(fd, big, 100000); /* whatever fits in the socket */
	ck_assert_uint_gt(total, 20000);
	fixture_run_ns(&u->f, 5000000);
	ck_assert_uint_eq(u->len, 0);
	for (size_t n = 0; n < total;) { /* sixteen at a time, as a UART does */
		u->len = 0;
		u->limit = 16;
		chardev_accept_input(u->c);
		while (!u->len)
			loop_wait(u->f.m.loop);
		ck_assert_mem_eq(u->got, big + n, u->len);
		n += u->len;
	}
	close(fd);
	user_close(u);
	free(big);
}
END_TEST

START_TEST(pty_comes_and_goes)
{
	struct user *u = user_open("pty");
	char buf[8] = "";
	struct termios t;
	int fd;

	ck_assert_int_eq(strncmp(chardev_info(u->c), "/dev/", 5), 0);
	ck_assert_uint_eq(chardev_write(u->c, "nobody", 6), 6);
	for (unsigned i = 1; i <= 2; i++) {
		fd = open(chardev_info(u->c), O_RDWR | O_NOCTTY);
		ck_assert_int_ge(fd, 0);
		until(u, u->opened == i);
		ck_assert_int_eq(tcgetattr(fd, &t), 0);
		ck_assert_uint_eq(t.c_lflag & (ECHO | ICANON), 0);
		put(fd, "\x03hi");
		until(u, u->len == 3 * i);
		chardev_write(u->c, "ok", 2);
		ck_assert_int_eq(read_all(u, fd, buf, 2), 2);
		ck_assert_str_eq(buf, "ok");
		close(fd);
		until(u, u->closed == i);
	}
	user_close(u);
}
END_TEST

/* Puts the slave of a new pty on stdin and stdout of this (forked) process and
 * makes it the controlling terminal, as a terminal window would. */
static int become_terminal_program(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;

	ck_assert_int_eq(grantpt(master), 0);
	ck_assert_int_eq(unlockpt(master), 0);
	setsid();
	slave = open(ptsname(master), O_RDWR);
	ck_assert_int_ge(slave, 0);
	ioctl(slave, TIOCSCTTY, 0);
	dup2(slave, 0);
	dup2(slave, 1);
	return master;
}

START_TEST(terminal_is_raw_and_restored)
{
	int master = become_terminal_program();
	struct termios before, during, after;
	struct user *u;

	tcgetattr(0, &before);
	u = user_open("stdio");
	tcgetattr(0, &during);
	ck_assert_uint_eq(during.c_lflag & (ECHO | ICANON | ISIG), 0);
	ck_assert_uint_eq(during.c_oflag, before.c_oflag);
	put(master, "\x03\x1a\r"); /* Ctrl-C and Ctrl-Z are the guest's */
	until(u, u->len == 3);
	ck_assert_mem_eq(u->got, "\x03\x1a\r", 3);
	chardev_terminal(u->c, false);
	tcgetattr(0, &after);
	ck_assert_uint_eq(after.c_lflag, before.c_lflag);
	chardev_terminal(u->c, true);
	user_close(u);
	tcgetattr(0, &after);
	ck_assert_uint_eq(after.c_lflag, before.c_lflag);
	ck_assert_uint_eq(after.c_iflag, before.c_iflag);
}
END_TEST

START_TEST(escape_key)
{
	int master = become_terminal_program();
	struct user *u = user_open("stdio");
	char help[64];

	put(master, "a\x01\x01" "b\x01" "a\x01" "b");
	until(u, u->breaks == 1);
	ck_assert_uint_eq(u->len, 4);
	ck_assert_mem_eq(u->got, "a\x01" "b\x01", 4);
	put(master, "\x01h");
	ck_assert_int_eq(read_all(u, master, help, 20), 20);
	u->limit = u->len; /* the guest listens no more ... */
	put(master, "typed in vain\x01x");
	until(u, u->command == 'x'); /* ... and still one can quit */
	user_close(u);
}
END_TEST

START_TEST(stdin_that_is_a_file_or_a_pipe)
{
	static const char text[] = "\x01x from a file";
	struct user *u;
	int fds[2];
	FILE *f = tmpfile();

	fwrite(text, 1, sizeof(text) - 1, f);
	rewind(f);
	dup2(fileno(f), 0);
	u = user_open("stdio");
	until(u, u->len == sizeof(text) - 1); /* no escape key without a terminal */
	ck_assert_mem_eq(u->got, text, u->len);
	user_close(u);
	ck_assert_int_eq(pipe(fds), 0);
	dup2(fds[0], 0);
	u = user_open("stdio,mux=on");
	put(fds[1], "y\x01x");
	until(u, u->command == 'x');
	ck_assert_uint_eq(u->len, 1);
	close(fds[1]);
	fixture_run_ns(&u->f, 2000000);
	user_close(u);
	ck_assert_int_ge(fcntl(0, F_GETFL), 0); /* still open, still blocking */
	ck_assert_int_eq(fcntl(0, F_GETFL) & O_NONBLOCK, 0);
}
END_TEST

START_TEST(slow_pipe_on_stdout_loses_nothing)
{
	enum { TOTAL = 400000 };
	struct user *u;
	char buf[4096];
	size_t sent = 0, got = 0;
	int fds[2], saved = dup(1);

	ck_assert_int_eq(pipe(fds), 0);
	dup2(fds[1], 1);
	u = user_open("stdio");
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	while (got < TOTAL) {
		ssize_t n;

		while (sent < TOTAL) {
			uint8_t c = sent * 13 >> 3;

			if (!chardev_write(u->c, &c, 1))
				break;
			sent++;
		}
		n = read(fds[0], buf, sizeof(buf));
		for (ssize_t i = 0; i < n; i++, got++)
			ck_assert_uint_eq((uint8_t)buf[i], (uint8_t)(got * 13 >> 3));
		loop_run(u->f.m.loop);
	}
	ck_assert_uint_ge(u->can_write, 1);
	ck_assert_int_eq(fcntl(1, F_GETFL) & O_NONBLOCK, 0);
	/* What is still buffered comes out when it is closed. */
	chardev_write(u->c, "the end", 7);
	user_close(u);
	ck_assert_int_eq(read(fds[0], buf, sizeof(buf)), 7);
	dup2(saved, 1);
}
END_TEST

START_TEST(reader_that_goes_away)
{
	struct user *u;
	int fds[2], saved = dup(1);

	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(pipe(fds), 0);
	dup2(fds[1], 1);
	u = user_open("stdio");
	close(fds[0]);
	for (unsigned i = 0; i < 100000; i++)
		ck_assert_uint_eq(chardev_write(u->c, "x", 1), 1);
	user_close(u);
	dup2(saved, 1);
}
END_TEST

static void add(TCase *t)
{
	tcase_add_test(t, bad_specifications_say_why);
	tcase_add_test(t, addresses);
	tcase_add_test(t, null_takes_everything);
	tcase_add_test(t, tap_sees_what_is_written);
	tcase_add_test(t, injected_input_waits_for_room);
	tcase_add_test(t, file_holds_what_was_written);
	tcase_add_test(t, full_disk_is_survived);
	tcase_add_test(t, unix_server_and_its_peers);
	tcase_add_test(t, unix_socket_left_behind_is_replaced);
	tcase_add_test(t, tcp_server_and_client_talk);
	tcase_add_test(t, server_waits_for_its_peer);
	tcase_add_test(t, input_waits_until_the_device_has_room);
	tcase_add_test(t, pty_comes_and_goes);
	tcase_add_test(t, terminal_is_raw_and_restored);
	tcase_add_test(t, escape_key);
	tcase_add_test(t, stdin_that_is_a_file_or_a_pipe);
	tcase_add_test(t, slow_pipe_on_stdout_loses_nothing);
	tcase_add_test(t, reader_that_goes_away);
}

int main(void)
{
	return fixture_main("chardev", add);
}
