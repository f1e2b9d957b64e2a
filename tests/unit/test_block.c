/* Disk images: what is refused and how, sizes, overlay, locks, what state images need. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/block.h"
#include "core/loop.h"
#include "core/util.h"
#include "statefile/disk_hash.h"

static char dir[64];

static void setup(void)
{
	strcpy(dir, "/tmp/gannet-block-XXXXXX");
	ck_assert(mkdtemp(dir) != NULL);
}

static void teardown(void)
{
	char command[100];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

/* A file of @size bytes whose sectors hold their own number. */
static const char *image(char path[128], const char *name, size_t size)
{
	FILE *f;

	snprintf(path, 128, "%s/%s", dir, name);
	f = fopen(path, "w");
	ck_assert(f != NULL);
	for (size_t i = 0; i < size; i++)
		fputc((int)(i / 512 + 1) & 0xff, f);
	fclose(f);
	return path;
}

static struct block *open_ok(const char *path, enum block_mode mode)
{
	struct error err = { "" };
	struct block *b = block_open(path, mode, &err);

	ck_assert_msg(b != NULL, "%s", err.text);
	return b;
}

static void refused(const char *path, enum block_mode mode, const char *says)
{
	struct error err = { "" };

	ck_assert(block_open(path, mode, &err) == NULL);
	ck_assert_msg(strstr(err.text, says) != NULL, "'%s' lacks '%s'", err.text, says);
	ck_assert(strncmp(err.text, path, strlen(path)) == 0);
	ck_assert(strchr(err.text, '\n') == NULL);
}

static uint8_t file_byte(const char *path, long offset)
{
	FILE *f = fopen(path, "r");
	int c;

	ck_assert(f && fseek(f, offset, SEEK_SET) == 0);
	c = fgetc(f);
	fclose(f);
	return (uint8_t)c;
}

START_TEST(refuses_what_is_no_disk)
{
	char path[128];

	refused("/nonexistent/disk.img", BLOCK_RW, "no such file");
	refused(image(path, "empty", 0), BLOCK_RW,
		"the image is 0 bytes; a disk needs at least one 512-byte sector");
	refused(dir, BLOCK_RO, "is a directory");
	refused("/dev/null", BLOCK_RO, "neither a file nor a block device");
	snprintf(path, sizeof(path), "%s/fifo", dir);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	refused(path, BLOCK_RO, "neither a file nor a block device"); /* and does not hang */
}
END_TEST

START_TEST(reads_and_writes)
{
	char path[128];
	struct block *b = open_ok(image(path, "disk", 10 * 512), BLOCK_RW);
	uint8_t buf[4 * 512];

	ck_assert_uint_eq(block_sectors(b), 10);
	ck_assert(block_writable(b));
	ck_assert_int_eq(block_read(b, 6, buf, 4), 0);
	ck_assert_uint_eq(buf[0], 7);
	ck_assert_uint_eq(buf[4 * 512 - 1], 10);
	memset(buf, 0xee, sizeof(buf));
	ck_assert_int_eq(block_write(b, 2, buf, 2), 0);
	ck_assert_int_eq(block_flush(b), 0);
	ck_assert_uint_eq(file_byte(path, 2 * 512 - 1), 2);
	ck_assert_uint_eq(file_byte(path, 2 * 512), 0xee);
	ck_assert_uint_eq(file_byte(path, 4 * 512 - 1), 0xee);
	ck_assert_uint_eq(file_byte(path, 4 * 512), 5);
	/* Past the end, in every way. */
	ck_assert_int_eq(block_read(b, 10, buf, 1), -ERANGE);
	ck_assert_int_eq(block_read(b, 9, buf, 2), -ERANGE);
	ck_assert_int_eq(block_write(b, 7, buf, 4), -ERANGE);
	ck_assert_int_eq(block_read(b, UINT64_MAX, buf, 2), -ERANGE);
	ck_assert_int_eq(block_read(b, 10, buf, 0), 0);
	block_close(b);
	block_close(NULL);
}
END_TEST

START_TEST(read_only_refuses_writes)
{
	char path[128];
	uint8_t buf[512] = { 0 };
	struct block *b = open_ok(image(path, "disk", 512), BLOCK_RO);

	ck_assert(!block_writable(b));
	ck_assert_int_eq(block_write(b, 0, buf, 1), -EROFS);
	block_close(b);
}
END_TEST

START_TEST(odd_size_is_padded)
{
	char path[128];
	uint8_t buf[512];
	struct stat st;
	struct block *b = open_ok(image(path, "disk", 1000), BLOCK_RW);

	ck_assert_uint_eq(block_sectors(b), 2);
	ck_assert_int_eq(block_read(b, 1, buf, 1), 0);
	ck_assert_uint_eq(buf[487], 2);
	ck_assert_uint_eq(buf[488], 0);
	ck_assert_uint_eq(buf[511], 0);
	buf[511] = 0x55;
	ck_assert_int_eq(block_write(b, 1, buf, 1), 0);
	ck_assert_int_eq(block_read(b, 1, buf, 1), 0);
	ck_assert_uint_eq(buf[511], 0x55);
	block_close(b);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_size, 1024);
}
END_TEST

START_TEST(image_that_shrinks_is_an_error)
{
	char path[128];
	uint8_t buf[512];
	struct block *b = open_ok(image(path, "disk", 4096), BLOCK_RO);

	ck_assert_int_eq(truncate(path, 512), 0);
	ck_assert_int_eq(block_read(b, 0, buf, 1), 0);
	ck_assert_int_eq(block_read(b, 4, buf, 1), -EIO);
	block_close(b);
}
END_TEST

START_TEST(snapshot_leaves_the_base)
{
	char path[128];
	size_t size = 40 * 512 + 100; /* the last cluster is not whole */
	struct block *b = open_ok(image(path, "disk", size), BLOCK_SNAPSHOT);
	uint8_t buf[41 * 512], model[41 * 512];
	unsigned seed = 1;

	ck_assert(block_writable(b));
	ck_assert_uint_eq(block_sectors(b), 41);
	ck_assert_int_eq(block_read(b, 0, model, 41), 0);
	ck_assert_uint_eq(model[40 * 512 + 99], 41);
	ck_assert_uint_eq(model[40 * 512 + 100], 0);
	for (unsigned i = 0; i < 500; i++) {
		unsigned at, n;

		seed = seed * 1103515245 + 12345;
		at = (seed >> 16) % 41;
		n = 1 + (seed >> 8) % (41 - at);
		if (i % 3) {
			memset(model + at * 512, (int)(i & 0xff), n * 512);
			ck_assert_int_eq(block_write(b, at, model + at * 512, n), 0);
		} else {
			ck_assert_int_eq(block_read(b, at, buf, n), 0);
			ck_assert_mem_eq(buf, model + at * 512, n * 512);
		}
	}
	ck_assert_int_eq(block_flush(b), 0);
	ck_assert_int_eq(block_write(b, 41, buf, 1), -ERANGE);
	block_close(b);
	for (size_t i = 0; i < size; i += 512)
		ck_assert_uint_eq(file_byte(path, (long)i), (i / 512 + 1) & 0xff);
}
END_TEST

START_TEST(snapshot_without_a_place)
{
	char path[128];

	setenv("TMPDIR", "/nonexistent", 1);
	refused(image(path, "disk", 512), BLOCK_SNAPSHOT, "set TMPDIR");
	unsetenv("TMPDIR");
}
END_TEST

START_TEST(one_writer)
{
	char path[128];
	struct block *writer = open_ok(image(path, "disk", 512), BLOCK_RW), *reader;

	refused(path, BLOCK_RW, "is in use by another process or drive; open it with -snapshot");
	refused(path, BLOCK_RO, "is in use");
	block_close(open_ok(path, BLOCK_SNAPSHOT));
	block_close(writer);
	reader = open_ok(path, BLOCK_RO);
	block_close(open_ok(path, BLOCK_RO));
	refused(path, BLOCK_RW, "is in use");
	block_close(reader);
	block_close(open_ok(path, BLOCK_RW));
}
END_TEST

/* As somebody who may read but not write. */
START_TEST(not_writable)
{
	char path[128];
	int status;
	pid_t pid;

	image(path, "disk", 512);
	ck_assert_int_eq(chmod(path, 0444), 0);
	ck_assert_int_eq(chmod(dir, 0755), 0);
	if (geteuid() == 0) {
		pid = fork();
		if (pid == 0) {
			struct error err = { "" };

			if (setgid(65534) || setuid(65534))
				_exit(2);
			_exit(!block_open(path, BLOCK_RW, &err) &&
			      strstr(err.text, "cannot be written (Permission denied); open it with -snapshot")
			      ? 0 : 1);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_int_eq(status, 0);
	} else {
		refused(path, BLOCK_RW, "cannot be written");
	}
	block_close(open_ok(path, BLOCK_SNAPSHOT));
}
END_TEST

/* ---- state images ---- */

static void kick(void *opaque)
{
}

struct answer {
	unsigned count;
	int ret;
};

static void answered(void *opaque, int ret)
{
	struct answer *a = opaque;

	a->count++;
	a->ret = ret;
}

START_TEST(settle_waits_for_the_answer)
{
	char path[128];
	struct error err = { "" };
	struct loop *loop = loop_create(kick, NULL, &err);
	struct block *b = open_ok(image(path, "disk", 100 * 512), BLOCK_RW);
	struct answer a = { 0 };

	ck_assert(block_attach(b, loop, answered, &a, &err));
	block_settle(b);
	ck_assert_uint_eq(a.count, 0);
	for (unsigned i = 1; i <= 50; i++) {
		a.ret = -1;
		ck_assert(i % 2 ? block_start_flush(b) : block_start_warm(b, 3, 5));
		ck_assert(!block_start_flush(b)); /* one at a time */
		block_settle(b);
		ck_assert_uint_eq(a.count, i);
		ck_assert_int_eq(a.ret, 0);
		loop_run(loop); /* not a second time */
		ck_assert_uint_eq(a.count, i);
	}
	block_close(b);
	loop_destroy(loop);
}
END_TEST

static void hash_ok(struct block *b, uint8_t hash[16])
{
	struct error err = { "" };

	ck_assert_msg(disk_hash(b, hash, NULL, NULL, &err), "%s", err.text);
}

static void put(const char *path, uint64_t offset, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	ck_assert_int_eq(pwrite(fd, data, len, (off_t)offset), (ssize_t)len);
	close(fd);
}

/* The definition in disk_hash.h, for a file that fits into memory. */
static void expect_hash(struct block *b, const char *path)
{
	enum { UNIT = 1 << 20 };
	static const uint8_t zero[UNIT];
	uint8_t *unit = malloc(UNIT), number[8] = { 0 }, hash[16];
	XXH3_state_t *state = XXH3_createState();
	XXH128_canonical_t c;
	FILE *f = fopen(path, "r");
	size_t n;

	XXH3_128bits_reset(state);
	for (unsigned i = 0;; i++) {
		memset(unit, 0, UNIT);
		n = fread(unit, 1, UNIT, f);
		if (!n)
			break;
		if (!memcmp(unit, zero, UNIT))
			continue;
		number[0] = (uint8_t)i;
		number[1] = (uint8_t)(i >> 8);
		XXH3_128bits_update(state, number, 8);
		XXH128_canonicalFromHash(&c, XXH3_128bits(unit, UNIT));
		XXH3_128bits_update(state, &c, 16);
	}
	XXH128_canonicalFromHash(&c, XXH3_128bits_digest(state));
	fclose(f);
	free(unit);
	XXH3_freeState(state);
	hash_ok(b, hash);
	ck_assert_mem_eq(hash, &c, 16);
}

static void progressed(void *opaque, uint64_t done, uint64_t total)
{
	uint64_t *last = opaque;

	ck_assert_uint_ge(done, *last);
	ck_assert_uint_le(done, total);
	*last = done;
}

START_TEST(hash_is_that_of_the_content)
{
	char path[128], other[128];
	uint8_t first[16], second[16], sector[512], zeros[8192] = { 0 };
	uint64_t size = 200 * MIB + 700, last = 0; /* several threads; not whole sectors */
	struct error err = { "" };
	struct block *b, *c;

	snprintf(path, sizeof(path), "%s/sparse", dir);
	snprintf(other, sizeof(other), "%s/other", dir);
	for (unsigned i = 0; i < 200; i += 1 + i % 3 / 2) {
		put(path, i * MIB + i * 4096, &i, sizeof(i));
		put(other, i * MIB + i * 4096, &i, sizeof(i));
	}
	ck_assert_int_eq(truncate(path, (off_t)size), 0);
	ck_assert_int_eq(truncate(other, (off_t)size), 0);
	put(other, 99 * MIB, zeros, sizeof(zeros)); /* zeros instead of a hole */
	put(other, size - 400, zeros, 400);
	b = open_ok(path, BLOCK_RW);
	c = open_ok(other, BLOCK_SNAPSHOT);
	ck_assert(disk_hash(b, first, progressed, &last, &err));
	ck_assert_uint_gt(last, 100 * MIB);
	expect_hash(b, path);
	hash_ok(c, second);
	ck_assert_mem_eq(first, second, 16);
	/* What the guest writes counts, but not under an overlay. */
	memset(sector, 0xee, sizeof(sector));
	ck_assert_int_eq(block_write(c, 5, sector, 1), 0);
	hash_ok(c, second);
	ck_assert_mem_eq(first, second, 16);
	ck_assert_int_eq(block_write(b, 2047, sector, 1), 0);
	hash_ok(b, second);
	ck_assert_mem_ne(first, second, 16);
	expect_hash(b, path);
	ck_assert_int_eq(block_write(b, block_sectors(b) - 1, sector, 1), 0); /* grows the file */
	expect_hash(b, path);
	/* And back again. */
	memset(sector, 0, sizeof(sector));
	ck_assert_int_eq(block_write(b, block_sectors(b) - 1, sector, 1), 0);
	ck_assert_int_eq(block_write(b, 2047, sector, 1), 0);
	hash_ok(b, second);
	ck_assert_mem_eq(first, second, 16);
	block_close(b);
	block_close(c);
}
END_TEST

START_TEST(hash_of_one_that_shrinks)
{
	char path[128];
	struct error err = { "" };
	uint8_t hash[16];
	struct block *b = open_ok(image(path, "disk", 9000), BLOCK_RO);

	ck_assert_int_eq(truncate(path, 512), 0);
	ck_assert(!disk_hash(b, hash, NULL, NULL, &err));
	ck_assert(strstr(err.text, path) == err.text);
	block_close(b);
}
END_TEST

struct run_list {
	uint64_t pair[20];
	unsigned count;
};

static void list_run(void *opaque, uint64_t first, uint64_t count)
{
	struct run_list *r = opaque;

	ck_assert_uint_lt(r->count, 19);
	r->pair[r->count++] = first;
	r->pair[r->count++] = count;
}

static void expect_runs(struct block *b, unsigned n, const uint64_t *pairs)
{
	struct run_list r = { .count = 0 };

	block_overlay_runs(b, list_run, &r);
	ck_assert_uint_eq(r.count, n);
	ck_assert_mem_eq(r.pair, pairs, n * sizeof(*pairs));
}

static uint8_t byte_of(struct block *b, uint64_t sector)
{
	uint8_t buf[512];

	ck_assert_int_eq(block_read(b, sector, buf, 1), 0);
	return buf[0];
}

/* 100 clusters, the last of half a sector; clusters 2-3, 40 and 99 come from below. */
START_TEST(overlay_on_a_layer)
{
	enum { OFFSET = 3 * 4096 };
	char base[128], path[128], lower[4096];
	struct error err = { "" };
	struct block *b = open_ok(image(base, "disk", 99 * 4096 + 256), BLOCK_SNAPSHOT);
	uint8_t buf[20 * 512];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/lower", dir);
	for (unsigned c = 0; c < 100; c++) {
		memset(lower, 0x80 + (int)c, sizeof(lower));
		put(path, OFFSET + c * 4096, lower, sizeof(lower));
	}
	fd = open(path, O_RDONLY);
	ck_assert(block_overlay_below(b, fd, OFFSET, &err));
	close(fd);
	ck_assert(block_overlay_add(b, 2, 2));
	ck_assert(block_overlay_add(b, 40, 1));
	ck_assert(block_overlay_add(b, 99, 1));
	ck_assert(!block_overlay_add(b, 99, 2));
	ck_assert(!block_overlay_add(b, UINT64_MAX, 2));
	ck_assert_uint_eq(block_clusters(b), 100);
	expect_runs(b, 0, NULL); /* nothing of it is copied */
	/* One read through base, layer, base. */
	ck_assert_int_eq(block_read(b, 14, buf, 20), 0);
	ck_assert_uint_eq(buf[512], 16);
	for (unsigned i = 2; i < 18; i++)
		ck_assert_uint_eq(buf[i * 512], i < 10 ? 0x82 : 0x83);
	ck_assert_uint_eq(buf[18 * 512], 33);
	ck_assert_uint_eq(byte_of(b, 99 * 8), 0x80 + 99);
	/* A part of a cluster of the layer; one of the base; all of one. */
	memset(buf, 0x11, sizeof(buf));
	ck_assert_int_eq(block_write(b, 3 * 8 + 2, buf, 1), 0);
	ck_assert_int_eq(block_write(b, 50 * 8 + 2, buf, 1), 0);
	ck_assert_int_eq(block_write(b, 40 * 8, buf, 8), 0);
	for (unsigned pass = 0; pass < 2; pass++) {
		static const uint64_t before[] = { 3, 1, 40, 1, 50, 1 };
		static const uint64_t after[] = { 2, 2, 40, 1, 50, 1, 99, 1 };

		ck_assert_uint_eq(byte_of(b, 3 * 8 + 1), 0x83);
		ck_assert_uint_eq(byte_of(b, 3 * 8 + 2), 0x11);
		ck_assert_uint_eq(byte_of(b, 3 * 8 + 3), 0x83);
		ck_assert_uint_eq(byte_of(b, 2 * 8 + 7), 0x82);
		ck_assert_uint_eq(byte_of(b, 40 * 8 + 7), 0x11);
		ck_assert_uint_eq(byte_of(b, 50 * 8 + 1), (50 * 8 + 2) & 0xff);
		ck_assert_uint_eq(byte_of(b, 50 * 8 + 2), 0x11);
		ck_assert_uint_eq(byte_of(b, 99 * 8), 0x80 + 99);
		ck_assert_uint_eq(byte_of(b, 4 * 8), 33);
		if (pass)
			expect_runs(b, 8, after);
		else
			expect_runs(b, 6, before);
		ck_assert(block_overlay_merge(b, &err));
		ck_assert_int_eq(unlink(path), pass ? -1 : 0); /* from here on it is not needed */
	}
	ck_assert_int_eq(fstat(block_overlay_fd(b), &st), 0);
	ck_assert_uint_eq(st.st_size, 100 * 4096);
	ck_assert_int_eq(pread(block_overlay_fd(b), buf, 1, 2 * 4096), 1);
	ck_assert_uint_eq(buf[0], 0x82);
	block_close(b);
	/* A disk without an overlay has none of it. */
	b = open_ok(base, BLOCK_RO);
	ck_assert_int_eq(block_overlay_fd(b), -1);
	ck_assert(!block_overlay_add(b, 0, 1));
	ck_assert(block_overlay_merge(b, &err));
	expect_runs(b, 0, NULL);
	block_close(b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("block");
	TCase *t = tcase_create("block");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, refuses_what_is_no_disk);
	tcase_add_test(t, reads_and_writes);
	tcase_add_test(t, read_only_refuses_writes);
	tcase_add_test(t, odd_size_is_padded);
	tcase_add_test(t, image_that_shrinks_is_an_error);
	tcase_add_test(t, snapshot_leaves_the_base);
	tcase_add_test(t, snapshot_without_a_place);
	tcase_add_test(t, one_writer);
	tcase_add_test(t, not_writable);
	tcase_add_test(t, settle_waits_for_the_answer);
	tcase_add_test(t, hash_is_that_of_the_content);
	tcase_add_test(t, hash_of_one_that_shrinks);
	tcase_add_test(t, overlay_on_a_layer);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
