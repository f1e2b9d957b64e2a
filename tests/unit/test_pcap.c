/* The pcap backend: recording, replaying, and captures nobody sane has written. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/backend.h"
#include "tests/unit/net_world.h"

static struct net_world w;
static struct backend_env env;
static char dir[64];

static void setup(void)
{
	net_world_init(&w);
	strcpy(dir, "/tmp/test-pcap-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static const char *in_dir(const char *name)
{
	static char path[4][384];
	static unsigned turn;
	char *p = path[turn++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static void teardown(void)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	net_world_finish(&w);
	while (d && (e = readdir(d)))
		unlink(in_dir(e->d_name));
	if (d)
		closedir(d);
	rmdir(dir);
}

/* @format has one %s for the folder, or two. */
static struct net_backend *try_open(const char *format, struct error *err)
{
	char url[512];

	snprintf(url, sizeof(url), format, dir, dir);
	err->text[0] = '\0';
	return backend_open(&env, &w.port, url, err);
}

static void attach(const char *format)
{
	struct error err;
	struct net_backend *b = try_open(format, &err);

	ck_assert_msg(b != NULL, "%s", err.text);
	net_port_set_backend(&w.port, b);
}

static uint64_t counted(const char *name)
{
	return net_world_counter(&w.port.backend->counters, name);
}

static void detach(void)
{
	net_port_set_backend(&w.port, NULL);
}

/* ---- captures, written by hand after the drafts ---- */

static uint8_t file[1 << 20];
static size_t file_size;

static void put(const void *data, size_t len)
{
	memcpy(file + file_size, data, len);
	file_size += len;
}

static void put32(uint32_t v)
{
	put(&v, 4);
}

static void save(const char *name)
{
	int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, file, file_size), file_size);
	close(fd);
}

static size_t load(const char *name)
{
	int fd = open(in_dir(name), O_RDONLY);

	ck_assert_int_ge(fd, 0);
	file_size = read(fd, file, sizeof(file));
	close(fd);
	return file_size;
}

static void frame_data(uint8_t *data, unsigned n, size_t len)
{
	for (size_t i = 0; i < len; i++)
		data[i] = i * 3 + n;
	memset(data, 0xff, 6);
}

enum { MICRO = 0xa1b2c3d4, NANO = 0xa1b23c4d };

static void classic(uint32_t magic, uint32_t link)
{
	file_size = 0;
	put32(magic);
	put32(2 | 4 << 16);
	put32(0);
	put32(0);
	put32(65535);
	put32(link);
}

static void classic_frame(unsigned n, uint32_t seconds, uint32_t fraction, uint32_t kept,
			  uint32_t len)
{
	static uint8_t data[65536];

	put32(seconds);
	put32(fraction);
	put32(kept);
	put32(len);
	frame_data(data, n, kept);
	put(data, kept);
}

/* Section, one interface of the default resolution (us), packets 1 ms apart. */
static void next_generation(unsigned frames)
{
	uint8_t data[64];

	file_size = 0;
	put32(0x0a0d0d0a);
	put32(28);
	put32(0x1a2b3c4d);
	put32(1);
	put32(0xffffffff);
	put32(0xffffffff);
	put32(28);
	put32(1);
	put32(20);
	put32(1);
	put32(0);
	put32(20);
	for (unsigned n = 0; n < frames; n++) {
		put32(6);
		put32(32 + 64);
		put32(0);
		put32(0);
		put32(1000 * n);
		put32(64);
		put32(64);
		frame_data(data, n, 64);
		put(data, 64);
		put32(32 + 64);
	}
}

static unsigned want;

static bool has_frames(void *opaque)
{
	(void)opaque;
	return w.frames >= want;
}

static bool wait_frames(unsigned n, unsigned ms)
{
	want = n;
	return net_world_until(&w, has_frames, NULL, ms);
}

static void guest_speaks(void)
{
	uint8_t frame[60];

	frame_data(frame, 0, sizeof(frame));
	net_port_send(&w.port, frame, sizeof(frame));
}

static void expect_frame(unsigned at, unsigned n, size_t len)
{
	uint8_t data[NET_FRAME_MAX];

	frame_data(data, n, len);
	ck_assert_uint_eq(w.frame[at].len, len);
	ck_assert_mem_eq(w.frame[at].data, data, len);
}

/* ---- recording ---- */

static bool file_is_there(void *opaque)
{
	return load("o.pcap") >= *(size_t *)opaque;
}

START_TEST(what_the_guest_sends_is_recorded)
{
	size_t all = 24 + 2 * 16 + 60 + NET_FRAME_MAX;
	uint8_t big[NET_FRAME_MAX];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	attach("pcap:%s/o.pcap");
	guest_speaks();
	frame_data(big, 9, sizeof(big));
	net_port_send(&w.port, big, sizeof(big));
	ck_assert(net_world_until(&w, file_is_there, &all, 500));
	ck_assert_uint_eq(file_size, all);
	ck_assert_uint_eq(load_le32(file), NANO);
	ck_assert_uint_eq(load_le32(file + 20), 1);
	ck_assert_uint_le(load_le32(file + 24) - now.tv_sec, 1);
	ck_assert_uint_lt(load_le32(file + 28), 1000000000);
	ck_assert_uint_eq(load_le32(file + 32), 60);
	ck_assert_mem_eq(file + 24 + 16 + 60 + 16, big, sizeof(big));
	ck_assert_uint_eq(counted("recorded"), 2);
	detach();
}
END_TEST

static void limit_files(rlim_t bytes)
{
	struct rlimit r;

	getrlimit(RLIMIT_FSIZE, &r);
	r.rlim_cur = bytes;
	setrlimit(RLIMIT_FSIZE, &r);
}

START_TEST(a_full_disk_is_counted_and_told_once)
{
	uint64_t dropped;

	attach("pcap:%s/o.pcap");
	limit_files(100000);
	for (unsigned n = 0; n < 20000; n++)
		guest_speaks();
	limit_files(RLIM_INFINITY);
	dropped = counted("drop.disk-full");
	ck_assert_uint_gt(dropped, 0);
	ck_assert_uint_eq(w.notes, 1);
	ck_assert_msg(strstr(w.note[0], "o.pcap: File too large"), "%s", w.note[0]);
	detach(); /* there is room now: what was held is written */
	ck_assert_uint_eq(load("o.pcap"), 24 + (20000 - dropped) * 76);
}
END_TEST

/* ---- replaying ---- */

START_TEST(replay_keeps_the_gaps)
{
	int64_t begun;

	classic(MICRO, 1);
	classic_frame(0, 1000, 900000, 60, 60);
	classic_frame(1, 1001, 0, 61, 61);
	classic_frame(2, 1001, 200000, 62, 62);
	save("i.pcap");
	attach("pcap:in=%s/i.pcap,out=%s/o.pcap");
	ck_assert(!wait_frames(1, 50)); /* the guest has not spoken */
	begun = loop_now(w.loop);
	guest_speaks();
	ck_assert_uint_eq(w.frames, 0); /* not from within its send */
	ck_assert(wait_frames(1, 50));
	ck_assert(wait_frames(2, 500));
	ck_assert_int_ge(loop_now(w.loop) - begun, 100000000);
	ck_assert(wait_frames(3, 500));
	ck_assert_int_ge(loop_now(w.loop) - begun, 300000000);
	ck_assert_int_le(loop_now(w.loop) - begun, 600000000);
	for (unsigned n = 0; n < 3; n++)
		expect_frame(n, n, 60 + n);
	ck_assert_uint_eq(w.notes, 1);
	ck_assert_msg(strstr(w.note[0], "is over, 3 frames"), "%s", w.note[0]);
	ck_assert_uint_eq(counted("recorded"), 1);
	detach();
	ck_assert_uint_eq(load("o.pcap"), 24 + 76);
}
END_TEST

START_TEST(nanoseconds_start_and_speed)
{
	int64_t begun = loop_now(w.loop);

	classic(NANO, 1);
	classic_frame(0, 1, 999999999, 60, 60);
	classic_frame(1, 4, 0, 60, 60);
	save("i.pcap");
	attach("pcap:in=%s/i.pcap?start=100ms&speed=20");
	ck_assert(wait_frames(1, 1000));
	ck_assert_int_ge(loop_now(w.loop) - begun, 100000000);
	ck_assert(wait_frames(2, 1000));
	ck_assert_int_ge(loop_now(w.loop) - begun, 200000000);
	guest_speaks();
	ck_assert_uint_eq(counted("drop.no-output"), 1);
	detach();
}
END_TEST

START_TEST(replay_stands_still_with_the_machine)
{
	classic(NANO, 1);
	classic_frame(0, 1, 0, 60, 60);
	classic_frame(1, 1, 100000000, 60, 60);
	save("i.pcap");
	attach("pcap:in=%s/i.pcap?start=0");
	ck_assert(wait_frames(1, 1000));
	loop_pause(w.loop);
	ck_assert(!wait_frames(2, 250));
	loop_resume(w.loop);
	ck_assert(wait_frames(2, 1000));
	detach();
}
END_TEST

START_TEST(as_fast_as_the_guest_takes_it)
{
	classic(NANO, 1);
	for (unsigned n = 0; n < 200; n++)
		classic_frame(n, n * 1000, 0, 60, 60);
	save("i.pcap");
	w.full = true;
	attach("pcap:in=%s/i.pcap?speed=max&start=0");
	ck_assert(!wait_frames(1, 30));
	w.full = false;
	net_port_readable(&w.port);
	ck_assert_uint_ge(w.frames, 1);
	ck_assert(wait_frames(200, 500));
	for (unsigned n = 0; n < 200; n++)
		expect_frame(n, n, 60);
	detach();
}
END_TEST

START_TEST(stamps_are_not_believed)
{
	int64_t begun;

	classic(NANO, 1);
	classic_frame(0, 1000, 0, 60, 60);
	classic_frame(1, 999, 0, 60, 60);            /* back: at once */
	classic_frame(2, 0xffffffff, 0, 60, 60);     /* a hundred years on: 50 ms */
	classic_frame(3, 0, 0xffffffff, 60, 60);     /* back, with 4.29 s of ns */
	save("i.pcap");
	attach("pcap:in=%s/i.pcap?start=0&max-gap=50ms");
	begun = loop_now(w.loop);
	ck_assert(wait_frames(4, 1000));
	ck_assert_int_ge(loop_now(w.loop) - begun, 50000000);
	ck_assert_int_le(loop_now(w.loop) - begun, 500000000);
	ck_assert_uint_eq(counted("gaps-cut"), 3);
	detach();
}
END_TEST

START_TEST(pcapng_loops_and_filters)
{
	next_generation(5);
	save("i.pcapng");
	attach("pcap:in=%s/i.pcapng?start=0&loop=3&filter=ether[13]==43"); /* 13*3+n: n is 4 */
	ck_assert(wait_frames(3, 1000));
	wait_frames(4, 30);
	ck_assert_uint_eq(w.frames, 3);
	expect_frame(2, 4, 64);
	detach();

	/* No frame passes: not a loop without end. */
	attach("pcap:in=%s/i.pcapng?start=0&speed=max&loop=0&filter=ether[13]==1");
	wait_frames(4, 30);
	ck_assert_uint_eq(w.frames, 3);
	ck_assert_ptr_nonnull(strstr(w.note[1], "is over, 0 frames"));
	detach();

	attach("pcap:in=%s/i.pcapng?start=0&speed=max&loop=0");
	ck_assert(wait_frames(2000, 2000));
	detach();
}
END_TEST

START_TEST(a_truncated_capture_ends_early)
{
	classic(NANO, 1);
	classic_frame(0, 1, 0, 60, 60);
	classic_frame(1, 1, 0, 60, 60);
	file_size -= 10;
	save("i.pcap");
	attach("pcap:in=%s/i.pcap?start=0");
	ck_assert(wait_frames(1, 1000));
	wait_frames(2, 30);
	ck_assert_uint_eq(w.frames, 1);
	ck_assert_uint_eq(counted("replay-broken"), 1);
	ck_assert_uint_eq(w.notes, 1);
	ck_assert_msg(strstr(w.note[0], "truncated"), "%s", w.note[0]);
	guest_speaks();
	detach();
}
END_TEST

START_TEST(odd_lengths_are_counted)
{
	classic(NANO, 1);
	classic_frame(0, 1, 0, 0, 0);
	classic_frame(1, 1, 0, 13, 13);
	classic_frame(2, 1, 0, 9217, 9217);
	classic_frame(3, 1, 0, 65535, 65535);
	classic_frame(4, 1, 0, 60, 1500);
	save("i.pcap");
	attach("pcap:in=%s/i.pcap?start=0");
	ck_assert(wait_frames(1, 1000));
	ck_assert_uint_eq(w.frames, 1);
	expect_frame(0, 4, 60);
	ck_assert_uint_eq(net_world_counter(&w.port.counters, "drop.too-short"), 2);
	ck_assert_uint_eq(net_world_counter(&w.port.counters, "drop.too-long"), 2);
	ck_assert_uint_eq(counted("replayed-cut-short"), 1);
	detach();
}
END_TEST

START_TEST(names_with_odd_letters)
{
	classic(NANO, 1);
	classic_frame(0, 1, 0, 60, 60);
	save("a,b?c");
	attach("pcap:?in=%s/a%%2cb%%3fc&start=0");
	ck_assert(wait_frames(1, 1000));
	detach();
	attach("pcap:%s/100%%.pcap");
	ck_assert_int_eq(access(in_dir("100%.pcap"), F_OK), 0);
	detach();
}
END_TEST

START_TEST(what_cannot_be_is_refused)
{
	static const char *const bad[][2] = {
		{ "pcap:", "no file" },
		{ "pcap:in=", "empty" },
		{ "pcap:in=a,in=b", "twice" },
		{ "pcap:%s/none/o.pcap", "o.pcap: No such file" },
		{ "pcap:%s", "Is a directory" },
		{ "pcap:/dev/full", "cannot write /dev/full: No space left" },
		{ "pcap:in=%s/none.pcap", "none.pcap: No such file" },
		{ "pcap:in=%s", "no regular file" },
		{ "pcap:in=/dev/zero", "no regular file" },
		{ "pcap:in=%s/fifo", "no regular file" },
		{ "pcap:in=%s/empty", "no sound pcap" },
		{ "pcap:in=%s/text", "no sound pcap" },
		{ "pcap:in=%s/loop", "link type NULL (0), not Ethernet" },
		{ "pcap:in=%s/good,out=%s/good", "same file" },
		{ "pcap:in=%s/good,out=%s/link", "same file" },
		{ "pcap:in=%s/good?speed=fast", "speed=fast" },
		{ "pcap:in=%s/good?speed=0", "speed=0" },
		{ "pcap:in=%s/good?loop=-1", "loop=-1" },
		{ "pcap:in=%s/good?start=soon", "start=soon" },
		{ "pcap:in=%s/good?filter=nonsense(", "filter=nonsense(" },
		{ "pcap:in=%s/good?colour=red", "'colour' is no parameter" },
		{ "pcap:%s/o.pcap?speed=max", "for a replay" },
	};
	struct error err;

	file_size = 0;
	save("empty");
	put("#!/bin/sh\nexec true, and more of it\n", 36);
	save("text");
	classic(NANO, 0);
	classic_frame(0, 1, 0, 60, 60);
	save("loop");
	classic(NANO, 1);
	classic_frame(0, 1, 0, 60, 60);
	save("good");
	ck_assert_int_eq(symlink(in_dir("good"), in_dir("link")), 0);
	ck_assert_int_eq(mkfifo(in_dir("fifo"), 0600), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_msg(!try_open(bad[i][0], &err), "%s", bad[i][0]);
		ck_assert_msg(strstr(err.text, bad[i][1]), "%s: %s", bad[i][0], err.text);
		ck_assert_ptr_null(strchr(err.text, '\n'));
	}
	ck_assert_uint_eq(load("good"), 24 + 76); /* not emptied */
	ck_assert_uint_eq(w.notes, 0);
}
END_TEST

/* ---- damaged captures ---- */

static uint32_t dice(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static bool is_over(void *opaque)
{
	(void)opaque;
	return w.notes > 0;
}

static unsigned replay_damaged(void (*make)(void), unsigned rounds)
{
	uint32_t state = 20240229;
	unsigned opened = 0;
	struct error err;

	for (unsigned round = 0; round < rounds; round++) {
		struct net_backend *b;

		make();
		for (unsigned flips = 1 + dice(&state) % 4; flips; flips--) {
			/* Half of them in the headers, where they do most. */
			size_t at = dice(&state) % (dice(&state) % 2 ? file_size : 64);

			file[at] ^= 1 << dice(&state) % 8;
		}
		if (dice(&state) % 4 == 0)
			file_size = dice(&state) % file_size;
		save("i");
		w.notes = 0;
		b = try_open("pcap:in=%s/i?start=0&speed=max", &err);
		if (!b) {
			ck_assert_ptr_null(strchr(err.text, '\n'));
			continue;
		}
		opened++;
		net_port_set_backend(&w.port, b);
		while (!is_over(NULL))
			loop_run(w.loop);
		detach();
	}
	return opened;
}

static void make_classic(void)
{
	classic(NANO, 1);
	for (unsigned n = 0; n < 4; n++)
		classic_frame(n, n, n, 60 + n, 60 + n);
}

static void make_next_generation(void)
{
	next_generation(4);
}

START_TEST(damaged_captures_do_no_harm)
{
	ck_assert_uint_gt(replay_damaged(make_classic, 2000), 200);
	ck_assert_uint_gt(w.frames, 1000);
	ck_assert_uint_gt(replay_damaged(make_next_generation, 2000), 200);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pcap");
	TCase *c = tcase_create("pcap");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 30);
	tcase_add_test(c, what_the_guest_sends_is_recorded);
	tcase_add_test(c, a_full_disk_is_counted_and_told_once);
	tcase_add_test(c, replay_keeps_the_gaps);
	tcase_add_test(c, nanoseconds_start_and_speed);
	tcase_add_test(c, replay_stands_still_with_the_machine);
	tcase_add_test(c, as_fast_as_the_guest_takes_it);
	tcase_add_test(c, stamps_are_not_believed);
	tcase_add_test(c, pcapng_loops_and_filters);
	tcase_add_test(c, a_truncated_capture_ends_early);
	tcase_add_test(c, odd_lengths_are_counted);
	tcase_add_test(c, names_with_odd_letters);
	tcase_add_test(c, what_cannot_be_is_refused);
	tcase_add_test(c, damaged_captures_do_no_harm);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
