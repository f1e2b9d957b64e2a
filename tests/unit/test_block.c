/* Disk images: what is refused and how, sizes, overlay, locks. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/block.h"
#include "core/util.h"

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
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
