/* Captures: the blocks against the pcapng and pcap drafts, rotation, a full disk,
 * FIFOs, taps that come and go. What other programs make of the files is
 * tests/net/capture.py's. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/net_world.h"
#include "translate/capture.h"

static struct net_world w;
static char dir[64];
static struct capture *capture;
static struct net_stage *guest, *wire;

static void setup(void)
{
	net_world_init(&w);
	strcpy(dir, "/tmp/test-capture-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	capture = NULL;
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

static void start(const char *name, uint64_t rotate_bytes, unsigned rotate_files)
{
	struct capture_config cfg = { in_dir(name), rotate_bytes, rotate_files, 0 };
	struct error err = { "" };

	capture = capture_create(w.loop, &cfg, &err);
	ck_assert_msg(capture != NULL, "%s", err.text);
	guest = capture_tap_create(capture, "capture-guest", "net0 guest", &err);
	wire = capture_tap_create(capture, "capture-wire", "net0 wire", &err);
	ck_assert(guest && wire);
	net_port_add_stage(&w.port, guest);
	net_port_add_stage(&w.port, wire);
}

static void stop(void)
{
	net_port_remove_stage(&w.port, guest);
	net_port_remove_stage(&w.port, wire);
	capture_destroy(capture);
}

/* ---- frames that can be told apart ---- */

static size_t make_frame(uint8_t *frame, unsigned n)
{
	size_t len = 60 + n * 7 % 1400;

	for (size_t i = 0; i < len; i++)
		frame[i] = i + n;
	store_le32(frame + 14, n);
	return len;
}

static void send(unsigned n)
{
	uint8_t frame[1500];
	size_t len = make_frame(frame, n);

	net_port_send(&w.port, frame, len);
}

static void receive(unsigned n)
{
	uint8_t frame[1500];
	size_t len = make_frame(frame, n);

	net_port_receive(&w.port, frame, len);
}

/* ---- a reader made from the draft ---- */

enum { SEEN_FRAMES = 20000, SEEN_TAPS = 8 };

struct seen {
	unsigned taps, frames, stats;
	char name[SEEN_TAPS][64];
	uint64_t received[SEEN_TAPS], dropped[SEEN_TAPS];
	struct {
		unsigned tap, direction, n;
		uint64_t stamp;
	} frame[SEEN_FRAMES];
	size_t size;
};

static struct seen seen;
static uint8_t file[8 << 20];

static size_t read_file(const char *path)
{
	int fd = open(path, O_RDONLY);
	ssize_t n;

	ck_assert_msg(fd >= 0, "%s", path);
	n = read(fd, file, sizeof(file));
	ck_assert_int_ge(n, 0);
	close(fd);
	return n;
}

static const uint8_t *option(const uint8_t *p, const uint8_t *end, unsigned code, unsigned *len)
{
	while (p + 4 <= end && load_le16(p)) {
		*len = load_le16(p + 2);
		ck_assert(p + 4 + *len <= end);
		if (load_le16(p) == code)
			return p + 4;
		p += 4 + (*len + 3) / 4 * 4;
	}
	ck_assert_msg(p + 4 == end && load_le32(p) == 0, "options have no end");
	return NULL;
}

static void parse_packet(const uint8_t *b, uint32_t total)
{
	uint32_t kept = load_le32(b + 20), padded = (kept + 3) / 4 * 4;
	uint8_t frame[1500];
	unsigned olen, i = seen.frames++;
	const uint8_t *flags = option(b + 28 + padded, b + total - 4, 2, &olen);

	ck_assert_uint_lt(load_le32(b + 8), seen.taps);
	ck_assert_uint_eq(kept, load_le32(b + 24));
	ck_assert(flags && olen == 4);
	seen.frame[i].tap = load_le32(b + 8);
	seen.frame[i].direction = load_le32(flags);
	seen.frame[i].stamp = (uint64_t)load_le32(b + 12) << 32 | load_le32(b + 16);
	seen.frame[i].n = load_le32(b + 28 + 14);
	ck_assert_uint_eq(make_frame(frame, seen.frame[i].n), kept);
	ck_assert_mem_eq(frame, b + 28, kept);
}

static void parse_interface(const uint8_t *b, uint32_t total)
{
	unsigned len;
	const uint8_t *name = option(b + 16, b + total - 4, 2, &len);
	const uint8_t *unit;

	ck_assert(name && len < 64 && seen.taps < SEEN_TAPS);
	memcpy(seen.name[seen.taps], name, len);
	unit = option(b + 16, b + total - 4, 9, &len);
	ck_assert(unit && len == 1 && *unit == 9);
	ck_assert_uint_eq(load_le16(b + 8), 1); /* LINKTYPE_ETHERNET */
	seen.taps++;
}

static void parse_stats(const uint8_t *b, uint32_t total)
{
	uint32_t tap = load_le32(b + 8);
	unsigned len;

	ck_assert_uint_lt(tap, seen.taps);
	seen.received[tap] = load_le64(option(b + 20, b + total - 4, 4, &len));
	seen.dropped[tap] = load_le64(option(b + 20, b + total - 4, 5, &len));
	seen.stats++;
}

static void parse_bytes(size_t size)
{
	memset(&seen, 0, sizeof(seen));
	seen.size = size;
	for (size_t at = 0; at < size;) {
		const uint8_t *b = file + at;
		uint32_t total = load_le32(b + 4);

		ck_assert_uint_le(12, total);
		ck_assert_uint_le(at + total, size);
		ck_assert_uint_eq(total % 4, 0);
		ck_assert_uint_eq(load_le32(b + total - 4), total);
		ck_assert_msg((at == 0) == (load_le32(b) == 0x0a0d0d0a), "one section");
		if (at == 0) {
			ck_assert_uint_eq(load_le32(b + 8), 0x1a2b3c4d);
			ck_assert_uint_eq(load_le32(b + 12), 1); /* version 1.0 */
		} else if (load_le32(b) == 1) {
			parse_interface(b, total);
		} else if (load_le32(b) == 5) {
			parse_stats(b, total);
		} else {
			ck_assert_uint_eq(load_le32(b), 6);
			parse_packet(b, total);
		}
		at += total;
	}
}

static void parse(const char *name)
{
	parse_bytes(read_file(in_dir(name)));
}

static uint64_t wall(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* ---- tests ---- */

START_TEST(both_sides_and_both_ways)
{
	static const unsigned expect[][3] = { /* tap, direction, n */
		{ 0, 2, 1 }, { 1, 2, 1 }, { 1, 1, 2 }, { 0, 1, 2 }, { 0, 2, 3 }, { 1, 2, 3 },
	};
	uint64_t before = wall(), last = before;

	start("a.pcapng", 0, 0);
	send(1);
	receive(2);
	send(3);
	ck_assert(capture_flush(capture));
	parse("a.pcapng");
	ck_assert_uint_eq(seen.taps, 2);
	ck_assert_str_eq(seen.name[0], "net0 guest");
	ck_assert_str_eq(seen.name[1], "net0 wire");
	ck_assert_uint_eq(seen.frames, ARRAY_SIZE(expect));
	for (unsigned i = 0; i < seen.frames; i++) {
		ck_assert_uint_eq(seen.frame[i].tap, expect[i][0]);
		ck_assert_uint_eq(seen.frame[i].direction, expect[i][1]);
		ck_assert_uint_eq(seen.frame[i].n, expect[i][2]);
		ck_assert_uint_le(last, seen.frame[i].stamp);
		last = seen.frame[i].stamp;
	}
	ck_assert_uint_le(last, wall());
	ck_assert_uint_eq(w.frames, 1);
	ck_assert_uint_eq(net_world_counter(&guest->counters, "captured"), 3);
	stop();
	parse("a.pcapng");
	ck_assert_uint_eq(seen.stats, 2);
	ck_assert_uint_eq(seen.received[1], 3);
	ck_assert_uint_eq(seen.dropped[1], 0);
}
END_TEST

static bool has_six(void *opaque)
{
	(void)opaque;
	parse("a.pcapng");
	return seen.frames == 6;
}

START_TEST(at_most_100_ms_late_and_never_half)
{
	uint64_t before, late;

	start("a.pcapng", 0, 0);
	before = wall();
	for (unsigned n = 1; n <= 3; n++)
		send(n);
	ck_assert(net_world_until(&w, has_six, NULL, 2000));
	late = (wall() - before) / 1000000;
	ck_assert_msg(late >= 50 && late < 400, "%u ms", (unsigned)late);
	stop();
}
END_TEST

START_TEST(much_at_once_does_not_wait)
{
	start("a.pcapng", 0, 0);
	for (unsigned n = 0; n < 2000; n++)
		send(n);
	parse("a.pcapng");
	ck_assert_uint_gt(seen.frames, 3000);
	stop();
	parse("a.pcapng");
	ck_assert_uint_eq(seen.frames, 4000);
	ck_assert_uint_eq(w.notes, 0);
}
END_TEST

START_TEST(rotation_keeps_whole_files_and_the_newest)
{
	unsigned frames = 0, next = 0, first = 0;
	char name[32];

	start("r", 65536, 0);
	for (unsigned n = 0; n < 500; n++)
		send(n);
	stop();
	for (unsigned i = 0;; i++) {
		snprintf(name, sizeof(name), i ? "r.%u" : "r", i);
		if (access(in_dir(name), F_OK))
			break;
		parse(name);
		ck_assert_uint_eq(seen.taps, 2);
		ck_assert_uint_gt(seen.frames, 0);
		ck_assert_uint_le(seen.size, 65536 + 200); /* and the statistics */
		ck_assert_uint_eq(seen.stats, 2);
		for (unsigned k = 0; k < seen.frames; k++)
			ck_assert_uint_eq(seen.frame[k].n, next++ / 2);
		frames += seen.frames;
	}
	ck_assert_uint_eq(frames, 1000);

	start("k", 65536, 3);
	for (unsigned n = 0; n < 500; n++)
		send(n);
	stop();
	frames = 0;
	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), i ? "k.%u" : "k", i);
		if (access(in_dir(name), F_OK))
			continue;
		frames++;
		first = first ? first : i;
	}
	ck_assert_uint_eq(frames, 3);
	ck_assert_uint_gt(first, 3);
	snprintf(name, sizeof(name), "k.%u", first + 2);
	parse(name);
	ck_assert_uint_eq(seen.frame[seen.frames - 1].n, 499);
}
END_TEST

START_TEST(if_no_next_file_can_be_made_the_old_one_grows)
{
	start("r", 65536, 0);
	ck_assert_int_eq(mkdir(in_dir("r.1"), 0755), 0);
	for (unsigned n = 0; n < 300; n++)
		send(n);
	ck_assert_uint_eq(w.notes, 1);
	ck_assert_ptr_nonnull(strstr(w.note[0], "r.1"));
	stop();
	parse("r");
	ck_assert_uint_eq(seen.frames, 600);
	rmdir(in_dir("r.1"));
}
END_TEST

static void limit_files(rlim_t bytes)
{
	struct rlimit r;

	getrlimit(RLIMIT_FSIZE, &r);
	r.rlim_cur = bytes;
	setrlimit(RLIMIT_FSIZE, &r);
}

static bool goes_on(void *opaque)
{
	(void)opaque;
	return w.notes == 2;
}

/* A limit stands in for the disk: it takes a part, then nothing (and raises SIGXFSZ,
 * which would end the test if nobody held it). It also stands in the way of Check's
 * own notes, so it is there only while nothing is asserted. */
START_TEST(a_full_disk_costs_frames_and_nothing_else)
{
	uint64_t lost;
	char told[64];
	unsigned gap = 0;
	bool ok;

	start("a.pcapng", 0, 0);
	limit_files(300001);
	for (unsigned n = 0; n < 1000; n++)
		send(n);
	limit_files(RLIM_INFINITY);
	ck_assert_uint_eq(w.notes, 1);
	ck_assert_msg(strstr(w.note[0], "File too large"), "%s", w.note[0]);
	parse("a.pcapng");
	ck_assert_uint_le(seen.size, 300001);
	ck_assert_uint_gt(seen.size, 300001 - 1600); /* as much as fits */
	limit_files(300001);
	ok = capture_flush(capture);
	limit_files(RLIM_INFINITY);
	ck_assert(!ok);
	parse("a.pcapng");
	lost = net_world_counter(&guest->counters, "lost") +
	       net_world_counter(&wire->counters, "lost");
	ck_assert_uint_gt(lost, 0);

	ck_assert(net_world_until(&w, goes_on, NULL, 3000));
	snprintf(told, sizeof(told), "goes on, %llu frames lost", (unsigned long long)lost);
	ck_assert_msg(strstr(w.note[1], told), "%s", w.note[1]);
	send(5000);
	stop();
	parse("a.pcapng");
	ck_assert_uint_eq(seen.frames + lost, 2002);
	ck_assert_uint_eq(seen.frame[seen.frames - 1].n, 5000);
	ck_assert_uint_eq(seen.dropped[0] + seen.dropped[1], lost);
	for (unsigned i = 1; i < seen.frames; i++) {
		ck_assert_uint_le(seen.frame[i - 1].n, seen.frame[i].n);
		gap += seen.frame[i].n > seen.frame[i - 1].n + 1;
	}
	ck_assert_uint_ge(gap, 1);
	ck_assert_uint_eq(w.notes, 2);
}
END_TEST

START_TEST(what_cannot_be_written_is_said_at_once)
{
	static const struct {
		const char *path;
		const char *text;
	} bad[] = {
		{ "/nonexistent/x.pcapng", "cannot write /nonexistent/x.pcapng: No such file" },
		{ "/tmp", "cannot write /tmp: Is a directory" },
		{ "", "cannot write" },
		{ "/dev/full", "cannot write /dev/full: No space left" },
	};
	struct capture_config small = { in_dir("x"), 1000, 0, 0 };
	struct error err = { "" };

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct capture_config cfg = { bad[i].path, 0, 0, 0 };

		err.text[0] = '\0';
		ck_assert_msg(!capture_create(w.loop, &cfg, &err), "%s", bad[i].path);
		ck_assert_msg(strstr(err.text, bad[i].text), "%s", err.text);
		ck_assert_ptr_null(strchr(err.text, '\n'));
	}
	ck_assert_ptr_null(capture_create(w.loop, &small, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "65536"));
	small = (struct capture_config){ "/dev/null", 1000000, 0, 0 };
	ck_assert_ptr_null(capture_create(w.loop, &small, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "no regular file"));
}
END_TEST

/* draft-ietf-opsawg-pcap; nanosecond magic */
START_TEST(a_file_belongs_to_one_capture)
{
	struct capture_config cfg = { in_dir("c.pcapng"), 0, 0, 0 };
	struct error err = { "" };
	struct stat before, after;

	start("c.pcapng", 0, 0);
	send(1);
	ck_assert(capture_flush(capture));
	ck_assert_int_eq(stat(in_dir("c.pcapng"), &before), 0);
	ck_assert_ptr_null(capture_create(w.loop, &cfg, &err));
	ck_assert_msg(strstr(err.text, "another capture"), "%s", err.text);
	/* What is in it is still there. */
	ck_assert_int_eq(stat(in_dir("c.pcapng"), &after), 0);
	ck_assert_int_gt(before.st_size, 0);
	ck_assert_int_eq(after.st_size, before.st_size);
	stop();
	/* Whoever comes later begins it anew. */
	start("c.pcapng", 0, 0);
	ck_assert_int_eq(stat(in_dir("c.pcapng"), &after), 0);
	ck_assert_int_lt(after.st_size, before.st_size);
	stop();
}
END_TEST

START_TEST(classic_format_has_the_first_tap)
{
	uint8_t frame[1500];
	size_t size, len;
	uint64_t now = wall();

	start("a.pcap", 0, 0);
	send(1);
	receive(2);
	stop();
	size = read_file(in_dir("a.pcap"));
	ck_assert_uint_eq(load_le32(file), 0xa1b23c4d);
	ck_assert_uint_eq(load_le32(file + 4), 2 | 4 << 16);
	ck_assert_uint_eq(load_le32(file + 16), 262144);
	ck_assert_uint_eq(load_le32(file + 20), 1);
	len = make_frame(frame, 1);
	ck_assert_uint_le(load_le32(file + 24) - now / 1000000000, 1);
	ck_assert_uint_lt(load_le32(file + 28), 1000000000);
	ck_assert_uint_eq(load_le32(file + 32), len);
	ck_assert_uint_eq(load_le32(file + 36), len);
	ck_assert_mem_eq(file + 40, frame, len);
	ck_assert_uint_eq(size, 24 + 2 * 16 + len + make_frame(frame, 2));
}
END_TEST

START_TEST(snaplen_cuts_what_is_kept)
{
	struct capture_config cfg = { in_dir("a.pcap"), 0, 0, 64 };
	uint8_t frame[1500];
	struct error err = { "" };

	capture = capture_create(w.loop, &cfg, &err);
	guest = capture_tap_create(capture, "capture-guest", "net0 guest", &err);
	net_port_add_stage(&w.port, guest);
	send(100);
	send(0);
	net_port_remove_stage(&w.port, guest);
	capture_destroy(capture);
	ck_assert_uint_eq(read_file(cfg.path), 24 + 16 + 64 + 16 + 60);
	ck_assert_uint_eq(load_le32(file + 16), 64);
	ck_assert_uint_eq(load_le32(file + 32), 64);
	ck_assert_uint_eq(load_le32(file + 36), make_frame(frame, 100));
	ck_assert_uint_eq(load_le32(file + 24 + 16 + 64 + 8), 60);
}
END_TEST

START_TEST(taps_come_and_go)
{
	struct error err = { "" };

	start("a.pcapng", 0, 0);
	send(1);
	net_port_remove_stage(&w.port, guest);
	send(2);
	wire->enabled = false;
	send(3);
	wire->enabled = true;
	guest = capture_tap_create(capture, "capture-guest", "net0 guest", &err);
	net_port_add_stage(&w.port, guest);
	send(4);
	net_port_remove_stage(&w.port, guest);
	guest = capture_tap_create(capture, "capture-guest", "net1 guest", &err);
	net_port_add_stage(&w.port, guest);
	send(5);
	stop();
	parse("a.pcapng");
	ck_assert_uint_eq(seen.taps, 3);
	ck_assert_str_eq(seen.name[2], "net1 guest");
	ck_assert_uint_eq(seen.frames, 7); /* 1 1 2 4 4 5 5 */
	ck_assert_uint_eq(seen.frame[2].n, 2);
	ck_assert_uint_eq(seen.frame[3].n, 4);
	ck_assert_uint_eq(seen.frame[4].tap, 0);
	ck_assert_uint_eq(seen.frame[6].tap, 2);
}
END_TEST

START_TEST(taps_outlive_their_capture)
{
	start("a.pcapng", 0, 0);
	send(1);
	capture_destroy(capture);
	parse("a.pcapng");
	ck_assert_uint_eq(seen.frames, 2);
	receive(2);
	ck_assert_uint_eq(w.frames, 1);
}
END_TEST

/* ---- FIFOs ---- */

static size_t drain(int fd, size_t have)
{
	ssize_t n;

	while ((n = read(fd, file + have, sizeof(file) - have)) > 0)
		have += n;
	return have;
}

static bool ran(void *opaque)
{
	(void)opaque;
	return false;
}

START_TEST(a_fifo_serves_each_reader_from_the_start)
{
	const char *path = in_dir("fifo");
	size_t have = 0;
	int fd;

	ck_assert_int_eq(mkfifo(path, 0600), 0);
	start("fifo", 0, 0);
	send(1);
	ck_assert_uint_eq(w.notes, 1);
	ck_assert_ptr_nonnull(strstr(w.note[0], "nobody reads"));
	fd = open(in_dir("fifo"), O_RDONLY | O_NONBLOCK);
	net_world_until(&w, ran, NULL, 1100);
	send(2);
	ck_assert_msg(strstr(w.note[1], "goes on, 2 frames lost"), "%s", w.note[1]);
	send(3);
	ck_assert(capture_flush(capture));
	have = drain(fd, 0);
	parse_bytes(have);
	ck_assert_uint_eq(seen.frames, 4);
	ck_assert_uint_eq(seen.frame[0].n, 2);

	/* The reader leaves: neither a signal nor a wait. */
	close(fd);
	for (unsigned n = 0; n < 1000; n++)
		send(n);
	ck_assert_uint_eq(net_world_counter(&guest->counters, "lost") > 100, 1);
	fd = open(in_dir("fifo"), O_RDONLY | O_NONBLOCK);
	net_world_until(&w, ran, NULL, 1100);
	send(7);
	ck_assert(capture_flush(capture));
	parse_bytes(drain(fd, 0));
	ck_assert_uint_eq(seen.frames, 2);
	ck_assert_uint_eq(seen.frame[0].n, 7);
	stop();
	close(fd);
}
END_TEST

START_TEST(a_slow_reader_gets_whole_blocks)
{
	size_t have = 0;
	uint64_t lost;
	int fd;

	ck_assert_int_eq(mkfifo(in_dir("fifo"), 0600), 0);
	fd = open(in_dir("fifo"), O_RDONLY | O_NONBLOCK);
	start("fifo", 0, 0);
	for (unsigned n = 0; n < 1000; n++)
		send(n);
	lost = net_world_counter(&guest->counters, "lost") +
	       net_world_counter(&wire->counters, "lost");
	ck_assert_uint_gt(lost, 0);
	ck_assert_uint_eq(w.notes, 1);
	do
		have = drain(fd, have);
	while (!capture_flush(capture));
	have = drain(fd, have);
	ck_assert_uint_eq(w.notes, 2);
	send(4000);
	stop();
	parse_bytes(drain(fd, have));
	ck_assert_uint_eq(seen.frames + lost, 2002);
	close(fd);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("capture");
	TCase *c = tcase_create("capture");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 30);
	tcase_add_test(c, both_sides_and_both_ways);
	tcase_add_test(c, at_most_100_ms_late_and_never_half);
	tcase_add_test(c, much_at_once_does_not_wait);
	tcase_add_test(c, rotation_keeps_whole_files_and_the_newest);
	tcase_add_test(c, if_no_next_file_can_be_made_the_old_one_grows);
	tcase_add_test(c, a_full_disk_costs_frames_and_nothing_else);
	tcase_add_test(c, what_cannot_be_written_is_said_at_once);
	tcase_add_test(c, a_file_belongs_to_one_capture);
	tcase_add_test(c, classic_format_has_the_first_tap);
	tcase_add_test(c, snaplen_cuts_what_is_kept);
	tcase_add_test(c, taps_come_and_go);
	tcase_add_test(c, taps_outlive_their_capture);
	tcase_add_test(c, a_fifo_serves_each_reader_from_the_start);
	tcase_add_test(c, a_slow_reader_gets_whole_blocks);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
