/* The container of state images: what is written is what is read, and what cannot be
 * written leaves the file of before as it was. What is refused is in test_image_bad.c. */
#include "config.h"
#include "tests/unit/image_world.h"

#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Pages of text, of noise, and none, as RAM has them. */
static uint8_t *make_ram(size_t pages, struct image_extent **extent, size_t *count)
{
	uint8_t *ram = calloc(pages, PAGE);
	uint32_t seed = 12345;

	*extent = calloc(pages, sizeof(**extent));
	*count = 0;
	for (size_t p = 0; p < pages; p++) {
		struct image_extent *last = *count ? &(*extent)[*count - 1] : NULL;

		if (p % 7 > 3)
			continue;
		for (size_t i = 0; i < PAGE; i++) {
			seed = seed * 1664525 + 1013904223;
			ram[p * PAGE + i] = p % 2 ? seed >> 24 : i / 64;
		}
		if (last && last->first + last->pages == p)
			last->pages++;
		else
			(*extent)[(*count)++] = (struct image_extent){ p, 1, 0 };
	}
	return ram;
}

static struct image_writer *create(struct world *w)
{
	struct image_writer *out = image_writer_create(w->path, &w->err);

	ck_assert_msg(out != NULL, "%s", w->err.text);
	return out;
}

static void text(struct world *w, struct image_writer *out, const char *name, const char *value)
{
	ck_assert_msg(image_writer_add(out, name, 3, 0, value, strlen(value), &w->err), "%s", w->err.text);
}

static struct image *reopen(struct world *w)
{
	struct image *img = image_open(w->path, &w->err);

	ck_assert_msg(img != NULL, "%s", w->err.text);
	return img;
}

static unsigned files_in(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* ---- round trips ---- */

START_TEST(plain)
{
	struct world w;
	struct image_writer *out;
	struct image *img;
	uint8_t *big = malloc(IMAGE_PLAIN_MAX + 1);

	world_init(&w);
	memset(big, 0xa5, IMAGE_PLAIN_MAX + 1);
	out = create(&w);
	text(&w, out, "zebra", "last in the alphabet, first in the file");
	ck_assert(image_writer_add(out, "a", 7, IMAGE_OPTIONAL, "", 0, &w.err));
	ck_assert(image_writer_add(out, "big", 1, 0, big, IMAGE_PLAIN_MAX, &w.err));
	text(&w, out, "0123456789012345678901234567890123456789abcdef.", "x"); /* 47 */
	ck_assert(!image_writer_add(out, "huge", 1, 0, big, IMAGE_PLAIN_MAX + 1, &w.err));
	ck_assert_ptr_nonnull(strstr(w.err.text, "section huge: 16777217 bytes"));
	ck_assert(!image_writer_add(out, "0123456789012345678901234567890123456789abcdef.g", 1, 0, "", 0,
				    &w.err));
	ck_assert(access(w.path, F_OK) != 0);
	ck_assert_msg(image_writer_commit(out, NULL, &w.err), "%s", w.err.text);
	ck_assert_uint_gt(image_writer_bytes(out), IMAGE_PLAIN_MAX);
	image_writer_destroy(out);

	img = reopen(&w);
	ck_assert_str_eq(image_path(img), w.path);
	ck_assert_str_eq(image_section(img, 0)->name, "zebra");
	ck_assert_uint_eq(image_section(img, 0)->version, 3);
	ck_assert_uint_eq(image_section(img, 0)->flags, 0);
	ck_assert_uint_eq(image_section(img, 0)->length, 39);
	ck_assert_mem_eq(image_section(img, 0)->data, "last in the alphabet, first in the file", 39);
	ck_assert_str_eq(image_section(img, 1)->name, "a");
	ck_assert_uint_eq(image_section(img, 1)->flags, IMAGE_OPTIONAL);
	ck_assert_uint_eq(image_section(img, 1)->version, 7);
	ck_assert_uint_eq(image_section(img, 1)->length, 0);
	ck_assert_mem_eq(image_find(img, "big")->data, big, IMAGE_PLAIN_MAX);
	ck_assert_ptr_nonnull(image_find(img, "0123456789012345678901234567890123456789abcdef."));
	ck_assert_ptr_null(image_section(img, 4));
	ck_assert_ptr_null(image_find(img, "zebr"));
	ck_assert_ptr_null(image_find(img, ""));
	image_close(img);
	image_close(NULL);
	free(big);
	world_finish(&w);
}
END_TEST

/* Bytes as docs/state-format.md has them. */
START_TEST(layout)
{
	struct world w;
	struct image_writer *out;
	uint8_t page[2 * PAGE] = { 0 };
	struct image_extent extent = { 1, 1, 0 };
	uint8_t *e;

	world_init(&w);
	page[PAGE] = 0x42;
	out = create(&w);
	text(&w, out, "config", "a=b\n");
	ck_assert(image_writer_add_sparse(out, "ram", 2 * PAGE, page, -1, &extent, 1, &w.err));
	ck_assert(image_writer_commit(out, NULL, &w.err));
	image_writer_destroy(out);
	read_file(&w);
	ck_assert_mem_eq(w.bytes, "GANNETST\1\0\0\0\3\0\0\0", 16);
	ck_assert_uint_eq(load_le64(w.bytes + 16), w.size);
	ck_assert_uint_eq(load_le64(w.bytes + 24), XXH3_64bits(w.bytes + 64, 3 * 96));
	ck_assert_uint_eq(load_le64(w.bytes + 56), XXH3_64bits(w.bytes, 56));
	e = w.bytes + 64;
	ck_assert_str_eq((char *)e, "config");
	ck_assert_uint_eq(load_le32(e + 48), 3);                  /* version */
	ck_assert_uint_eq(load_le64(e + 56), 64 + 3 * 96);        /* offset */
	ck_assert_uint_eq(load_le64(e + 64), 4);                  /* stored */
	ck_assert_uint_eq(load_le64(e + 72), 4);                  /* length */
	ck_assert_uint_eq(load_le64(e + 80), XXH3_64bits("a=b\n", 4));
	e += 96;
	ck_assert_str_eq((char *)e, "ram.map");
	ck_assert_uint_eq(load_le64(e + 56) % 8, 0);
	ck_assert_uint_eq(load_le64(e + 72), 24);
	ck_assert_uint_eq(load_le64(w.bytes + load_le64(e + 56)), 1);
	ck_assert_uint_eq(load_le64(w.bytes + load_le64(e + 56) + 8), 1);
	ck_assert_uint_eq(load_le64(w.bytes + load_le64(e + 56) + 16), XXH3_64bits(page + PAGE, PAGE));
	e += 96;
	ck_assert_str_eq((char *)e, "ram");
	ck_assert_uint_eq(load_le32(e + 52), F_SPARSE);
	ck_assert_uint_eq(load_le64(e + 56), PAGE);
	ck_assert_uint_eq(load_le64(e + 72), 2 * PAGE);
	ck_assert_uint_eq(load_le64(e + 80), 0);
	ck_assert_uint_eq(w.size, 3 * PAGE);
	ck_assert_mem_eq(w.bytes + PAGE, page, 2 * PAGE);
	world_finish(&w);
}
END_TEST

struct steps {
	unsigned calls;
	uint64_t done, total;
};

static void step(void *opaque, uint64_t done, uint64_t total)
{
	struct steps *s = opaque;

	ck_assert_uint_ge(done, s->done);
	ck_assert_uint_le(done, total);
	s->done = done;
	s->total = total;
	s->calls++;
}

/* @how: 0 from memory, 1 from a file, with zstd 2 and 3; 4, 5: copied from another image. */
static void round_trip(struct world *w, size_t pages, unsigned how)
{
	struct image_extent *extent;
	size_t count, n;
	uint8_t *ram = make_ram(pages, &extent, &count), *to = calloc(pages, PAGE);
	struct image_writer *out = create(w);
	struct steps steps = { 0 };
	struct image_progress progress = { step, &steps };
	struct image *img;
	const struct image_section *s;
	int fd = memfd_create("ram", 0), fd2 = memfd_create("back", 0);
	struct stat st;

	ck_assert_int_eq(write(fd, ram, pages * PAGE), pages * PAGE);
	ck_assert_int_eq(ftruncate(fd2, pages * PAGE), 0);
	text(w, out, "config", "x");
	ck_assert(image_writer_add_sparse(out, "ram", pages * PAGE, how & 1 ? NULL : ram,
					  how & 1 ? fd : -1, extent, count, &w->err));
	text(w, out, "after", "y");
	if (how & 2)
		ck_assert(image_writer_compress(out, 1, &w->err));
	ck_assert_msg(image_writer_commit(out, &progress, &w->err), "%s", w->err.text);
	image_writer_destroy(out);
	ck_assert_uint_eq(steps.done, steps.total);

	img = reopen(w);
	ck_assert_str_eq(image_section(img, 1)->name, "ram.map");
	ck_assert_str_eq(image_section(img, 3)->name, "after");
	s = image_find(img, "ram");
	ck_assert_uint_eq(s->length, pages * PAGE);
	ck_assert(image_mappable(s) == !(how & 2));
	ck_assert(!(how & 2) || s->stored < s->length);
	n = 0;
	steps = (struct steps){ 0 };
	ck_assert_ptr_nonnull(image_map(img, s, &n));
	ck_assert_uint_eq(n, count);
	ck_assert_msg(image_verify(img, s, &progress, &w->err), "%s", w->err.text);
	ck_assert_msg(image_load(img, s, to, NULL, &w->err), "%s", w->err.text);
	ck_assert_mem_eq(to, ram, pages * PAGE);
	ck_assert_msg(image_load_fd(img, s, fd2, NULL, &w->err), "%s", w->err.text);
	ck_assert_int_eq(pread(fd2, to, pages * PAGE, 0), pages * PAGE);
	ck_assert_mem_eq(to, ram, pages * PAGE);
	if (image_mappable(s)) {
		uint8_t *map = mmap(NULL, s->length, PROT_READ | PROT_WRITE, MAP_PRIVATE, image_fd(img),
				    s->offset);

		ck_assert(map != MAP_FAILED);
		ck_assert_mem_eq(map, ram, pages * PAGE);
		munmap(map, s->length);
		ck_assert_int_eq(fstat(image_fd(img), &st), 0);
		ck_assert_uint_lt((uint64_t)st.st_blocks * 512, image_size(img)); /* has holes */
	}
	image_close(img);
	close(fd);
	close(fd2);
	free(ram);
	free(to);
	free(extent);
}

START_TEST(sparse)
{
	struct world w;

	world_init(&w);
	round_trip(&w, 1400, _i);
	world_finish(&w);
}
END_TEST

/* Mapped to shipped form and back. */
START_TEST(copied)
{
	struct world w;
	char second[160];
	struct steps steps = { 0 };
	struct image_progress progress = { step, &steps };

	world_init(&w);
	snprintf(second, sizeof(second), "%s.second", w.path);
	round_trip(&w, 1400, _i);
	for (unsigned pass = 0; pass < 2; pass++) {
		steps = (struct steps){ 0 };
		struct image *from = reopen(&w), *to;
		struct image_writer *out = image_writer_create(second, &w.err);
		const struct image_section *a = image_find(from, "ram"), *b;
		uint8_t *x = calloc(1, a->length), *y = calloc(1, a->length);

		ck_assert_ptr_nonnull(out);
		ck_assert(image_writer_copy(out, from, a, &w.err));
		if (HAVE_ZSTD && pass == 0)
			ck_assert(image_writer_compress(out, 19, &w.err));
		ck_assert_msg(image_writer_commit(out, &progress, &w.err), "%s", w.err.text);
		image_writer_destroy(out);
		to = image_open(second, &w.err);
		ck_assert_msg(to != NULL, "%s", w.err.text);
		b = image_find(to, "ram");
		ck_assert(image_load(from, a, x, NULL, &w.err));
		ck_assert_msg(image_load(to, b, y, NULL, &w.err), "%s", w.err.text);
		ck_assert_mem_eq(x, y, a->length);
		free(x);
		free(y);
		image_close(from);
		image_close(to);
	}
	unlink(second);
	world_finish(&w);
}
END_TEST

/* A damaged page does not get a fresh checksum by being copied. */
START_TEST(copied_damage)
{
	struct world w;
	char second[160];
	struct image *from;
	struct image_writer *out;

	world_init(&w);
	snprintf(second, sizeof(second), "%s.second", w.path);
	small_image(&w);
	w.bytes[load_le64(entry_at(&w, 3) + E_OFFSET) + 3 * PAGE + 5] ^= 4;
	write_file(w.path, w.bytes, w.size);
	from = reopen(&w);
	out = image_writer_create(second, &w.err);
	ck_assert(image_writer_copy(out, from, image_find(from, "ram"), &w.err));
	ck_assert(!image_writer_commit(out, NULL, &w.err));
	one_line(&w, "section ram: the checksum of pages 2 to 3 is wrong");
	image_writer_destroy(out);
	ck_assert_int_ne(access(second, F_OK), 0);
	image_close(from);
	world_finish(&w);
}
END_TEST

START_TEST(many)
{
	struct world w;
	struct image_writer *out;
	struct image *img;
	char name[16];

	world_init(&w);
	out = create(&w);
	for (unsigned i = 0; i < IMAGE_SECTIONS_MAX; i++) {
		snprintf(name, sizeof(name), "s.%u", i);
		text(&w, out, name, name);
	}
	ck_assert(!image_writer_add(out, "more", 1, 0, "", 0, &w.err));
	one_line(&w, "section more: too many sections");
	ck_assert(image_writer_commit(out, NULL, &w.err));
	image_writer_destroy(out);
	img = reopen(&w);
	for (unsigned i = 0; i < IMAGE_SECTIONS_MAX; i++) {
		snprintf(name, sizeof(name), "s.%u", i);
		ck_assert_str_eq(image_section(img, i)->name, name);
		ck_assert_mem_eq(image_section(img, i)->data, name, strlen(name));
	}
	image_close(img);
	world_finish(&w);
}
END_TEST

/* What could not be read again is not written. */
START_TEST(refused_to_write)
{
	static const char *const bad[] = { "", "a b", "caf\xc3\xa9", "x\n" };
	static const struct {
		uint64_t length;
		struct image_extent e[2];
	} maps[] = {
		{ PAGE + 1, { { 0, 1, 0 }, { 0, 0, 0 } } },
		{ 4 * PAGE, { { 0, 5, 0 }, { 0, 0, 0 } } },
		{ 4 * PAGE, { { 2, 1, 0 }, { 1, 1, 0 } } },
		{ 4 * PAGE, { { 1, UINT64_MAX, 0 }, { 0, 0, 0 } } },
	};
	struct world w;
	struct image_writer *out;
	uint8_t ram[8 * PAGE] = { 0 };

	world_init(&w);
	out = create(&w);
	text(&w, out, "twice", "1");
	ck_assert(!image_writer_add(out, "twice", 1, 0, "2", 1, &w.err));
	one_line(&w, "section twice: is there twice");
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert(!image_writer_add(out, bad[i], 1, 0, "", 0, &w.err));
	for (unsigned i = 0; i < ARRAY_SIZE(maps); i++) {
		ck_assert(!image_writer_add_sparse(out, "ram", maps[i].length, ram, -1, maps[i].e, 2, &w.err));
		one_line(&w, "section ram");
	}
	image_writer_destroy(out);
	ck_assert_uint_eq(files_in(w.dir), 0);
	world_finish(&w);
}
END_TEST

/* ---- the file of before ---- */

static void old_image(struct world *w)
{
	struct image_writer *out = create(w);

	text(w, out, "old", "as it was");
	ck_assert(image_writer_commit(out, NULL, &w->err));
	image_writer_destroy(out);
}

static void still_old(struct world *w)
{
	struct image *img = reopen(w);

	ck_assert_mem_eq(image_find(img, "old")->data, "as it was", 9);
	image_close(img);
	ck_assert_uint_eq(files_in(w->dir), 1);
}

START_TEST(replaced)
{
	struct world w;
	struct image_writer *out;
	struct image *before, *after;

	world_init(&w);
	old_image(&w);
	before = reopen(&w);
	out = create(&w);
	text(&w, out, "new", "another");
	ck_assert_msg(image_writer_commit(out, NULL, &w.err), "%s", w.err.text);
	image_writer_destroy(out);
	ck_assert_uint_eq(files_in(w.dir), 1);
	after = reopen(&w);
	ck_assert_ptr_nonnull(image_find(after, "new"));
	ck_assert_ptr_null(image_find(after, "old"));
	/* Who has the old one open or mapped keeps it. */
	ck_assert(!image_changed(before));
	ck_assert_mem_eq(image_find(before, "old")->data, "as it was", 9);
	image_close(before);
	image_close(after);
	world_finish(&w);
}
END_TEST

/* Nothing of an image that was not committed is left. */
START_TEST(abandoned)
{
	struct world w;
	struct image_writer *out;

	world_init(&w);
	old_image(&w);
	out = create(&w);
	text(&w, out, "new", "never");
	ck_assert_uint_eq(files_in(w.dir), 2);
	image_writer_destroy(out);
	still_old(&w);
	image_writer_destroy(NULL);
	world_finish(&w);
}
END_TEST

/* RLIMIT_FSIZE stands for a full disk: writes fail after so many bytes. */
START_TEST(disk_full)
{
	static const rlim_t sizes[] = { 0, 63, 4096, 100000, 3u << 20 };
	struct world w;
	struct image_extent *extent;
	size_t count;
	uint8_t *ram = make_ram(1400, &extent, &count);

	world_init(&w);
	old_image(&w);
	signal(SIGXFSZ, SIG_IGN);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct rlimit limit = { sizes[i], RLIM_INFINITY };
		struct image_writer *out = create(&w);
		bool ok;

		text(&w, out, "new", "never");
		ck_assert(image_writer_add_sparse(out, "ram", 1400 * PAGE, ram, -1, extent, count, &w.err));
		ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
		ok = image_writer_commit(out, NULL, &w.err);
		limit.rlim_cur = RLIM_INFINITY;
		setrlimit(RLIMIT_FSIZE, &limit);
		ck_assert(!ok);
		one_line(&w, "cannot be written: File too large");
		image_writer_destroy(out);
		still_old(&w);
	}
	free(ram);
	free(extent);
	world_finish(&w);
}
END_TEST

START_TEST(no_place)
{
	struct world w;
	char path[200];

	world_init(&w);
	snprintf(path, sizeof(path), "%s/none/image", w.dir);
	ck_assert_ptr_null(image_writer_create(path, &w.err));
	ck_assert_ptr_nonnull(strstr(w.err.text, "none/image: cannot be written: No such file"));
	ck_assert_ptr_null(image_writer_create(w.dir, &w.err));
	ck_assert_ptr_nonnull(strstr(w.err.text, "not a regular file"));
	ck_assert_ptr_null(image_writer_create("/proc/image", &w.err));
	ck_assert_ptr_nonnull(strstr(w.err.text, "/proc/image: cannot be written"));
	ck_assert_uint_eq(files_in(w.dir), 0);
	world_finish(&w);
}
END_TEST

/* The source of a sparse section ends too early: an overlay somebody cut. */
START_TEST(source_cut)
{
	struct world w;
	struct image_extent extent = { 0, 8, 0 };
	struct image_writer *out;
	int fd = memfd_create("overlay", 0);

	world_init(&w);
	old_image(&w);
	ck_assert_int_eq(ftruncate(fd, 5 * PAGE), 0);
	out = create(&w);
	ck_assert(image_writer_add_sparse(out, "disk.0", 8 * PAGE, NULL, fd, &extent, 1, &w.err));
	ck_assert(!image_writer_commit(out, NULL, &w.err));
	one_line(&w, "section disk.0: its source cannot be read");
	image_writer_destroy(out);
	still_old(&w);
	close(fd);
	world_finish(&w);
}
END_TEST

static void die(void *opaque, uint64_t done, uint64_t total)
{
	if (done * 2 > total)
		kill(getpid(), SIGKILL);
	(void)opaque;
}

/* kill -9 in the middle: the old file stands, what is left behind is no image. */
START_TEST(killed)
{
	struct world w;
	struct image_extent *extent;
	size_t count;
	uint8_t *ram = make_ram(1400, &extent, &count);
	struct image *img;
	int status;
	pid_t pid;
	DIR *d;

	world_init(&w);
	old_image(&w);
	pid = fork();
	if (pid == 0) {
		struct image_progress progress = { die, NULL };
		struct image_writer *out = image_writer_create(w.path, &w.err);

		if (out && image_writer_add_sparse(out, "ram", 1400 * PAGE, ram, -1, extent, count, &w.err))
			image_writer_commit(out, &progress, &w.err);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	img = reopen(&w);
	ck_assert_ptr_nonnull(image_find(img, "old"));
	image_close(img);
	d = opendir(w.dir);
	for (struct dirent *e; (e = readdir(d));) {
		char path[400];

		if (!strstr(e->d_name, ".partial"))
			continue;
		snprintf(path, sizeof(path), "%s/%s", w.dir, e->d_name);
		ck_assert_ptr_null(image_open(path, &w.err));
		ck_assert_ptr_nonnull(strstr(w.err.text, "not a state image"));
		unlink(path);
	}
	closedir(d);
	still_old(&w);
	free(ram);
	free(extent);
	world_finish(&w);
}
END_TEST

/* An image holds a machine's memory, with the passwords in it. */
START_TEST(private)
{
	struct world w;
	struct stat st;

	world_init(&w);
	old_image(&w);
	ck_assert_int_eq(stat(w.path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	world_finish(&w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("image");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, plain);
	tcase_add_test(t, layout);
	tcase_add_loop_test(t, sparse, 0, HAVE_ZSTD ? 4 : 2);
	tcase_add_loop_test(t, copied, 0, HAVE_ZSTD ? 4 : 2);
	tcase_add_test(t, copied_damage);
	tcase_add_test(t, many);
	tcase_add_test(t, refused_to_write);
	tcase_add_test(t, replaced);
	tcase_add_test(t, abandoned);
	tcase_add_test(t, disk_full);
	tcase_add_test(t, no_place);
	tcase_add_test(t, source_cut);
	tcase_add_test(t, killed);
	tcase_add_test(t, private);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
