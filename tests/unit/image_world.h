/* State images made and damaged by hand, for test_image.c and test_image_bad.c.
 *
 * Written from docs/state-format.md, not from statefile/: offsets are numbers here, and
 * checksums are computed anew after each change where a test wants to get past them.
 */
#ifndef GANNET_TESTS_UNIT_IMAGE_WORLD_H
#define GANNET_TESTS_UNIT_IMAGE_WORLD_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/util.h"
#include "statefile/image.h"

#ifndef WORLD_DIR
#define WORLD_DIR "/tmp"
#endif

enum {
	PAGE = 4096,
	HEADER = 64, H_VERSION = 8, H_SECTIONS = 12, H_SIZE = 16, H_TABLE_XXH3 = 24,
	H_RESERVED = 32, H_XXH3 = 56,
	ENTRY = 96, E_VERSION = 48, E_FLAGS = 52, E_OFFSET = 56, E_STORED = 64, E_LENGTH = 72,
	E_XXH3 = 80, E_RESERVED = 88,
	F_OPTIONAL = 1, F_ZSTD = 2, F_SPARSE = 4,
};

struct world {
	char dir[64], path[128];
	uint8_t *bytes; /* of the image being made */
	size_t size;
	struct error err;
};

static inline void world_init(struct world *w)
{
	memset(w, 0, sizeof(*w));
	strcpy(w->dir, WORLD_DIR "/test_image.XXXXXX");
	if (!mkdtemp(w->dir)) {
		strcpy(w->dir, "/tmp/test_image.XXXXXX");
		ck_assert_ptr_nonnull(mkdtemp(w->dir));
	}
	snprintf(w->path, sizeof(w->path), "%s/image", w->dir);
}

static inline void world_finish(struct world *w)
{
	unlink(w->path);
	ck_assert_msg(rmdir(w->dir) == 0, "%s: something was left in it", w->dir);
	free(w->bytes);
}

static inline uint8_t *entry_at(struct world *w, unsigned n)
{
	return w->bytes + HEADER + n * ENTRY;
}

static inline unsigned entry_find(struct world *w, const char *name)
{
	unsigned n = 0;

	while (n < load_le32(w->bytes + H_SECTIONS) && strcmp((char *)entry_at(w, n), name))
		n++;
	ck_assert_uint_lt(n, load_le32(w->bytes + H_SECTIONS));
	return n;
}

/* Checksums of plain sections, table and header; the file size, too. */
static inline void seal(struct world *w)
{
	unsigned count = load_le32(w->bytes + H_SECTIONS);

	for (unsigned i = 0; i < count && HEADER + (i + 1) * ENTRY <= w->size; i++) {
		uint8_t *e = entry_at(w, i);
		uint64_t offset = load_le64(e + E_OFFSET), length = load_le64(e + E_LENGTH);

		if (load_le32(e + E_FLAGS) & F_SPARSE || offset > w->size || length > w->size - offset)
			continue;
		store_le64(e + E_XXH3, XXH3_64bits(w->bytes + offset, length));
	}
	store_le64(w->bytes + H_SIZE, w->size);
	if (HEADER + (size_t)count * ENTRY <= w->size)
		store_le64(w->bytes + H_TABLE_XXH3, XXH3_64bits(w->bytes + HEADER, count * ENTRY));
	store_le64(w->bytes + H_XXH3, XXH3_64bits(w->bytes, H_XXH3));
}

static inline void resize(struct world *w, size_t size)
{
	w->bytes = realloc(w->bytes, size);
	ck_assert_ptr_nonnull(w->bytes);
	if (size > w->size)
		memset(w->bytes + w->size, 0, size - w->size);
	w->size = size;
}

/* An image with room for @count sections. */
static inline void begin(struct world *w, unsigned count)
{
	free(w->bytes);
	w->bytes = NULL;
	w->size = 0;
	resize(w, HEADER + count * ENTRY);
	memcpy(w->bytes, "GANNETST", 8);
	store_le32(w->bytes + H_VERSION, 1);
}

static inline void section(struct world *w, const char *name, uint32_t flags, uint64_t length,
			   const void *stored, size_t len)
{
	unsigned n = load_le32(w->bytes + H_SECTIONS);
	size_t align = flags & F_SPARSE ? PAGE : 8;
	size_t offset = (w->size + align - 1) / align * align;
	uint8_t *e;

	resize(w, offset + len);
	if (len)
		memcpy(w->bytes + offset, stored, len);
	e = entry_at(w, n);
	strcpy((char *)e, name);
	store_le32(e + E_VERSION, 1);
	store_le32(e + E_FLAGS, flags);
	store_le64(e + E_OFFSET, offset);
	store_le64(e + E_STORED, len);
	store_le64(e + E_LENGTH, length);
	store_le32(w->bytes + H_SECTIONS, n + 1);
}

static inline void write_file(const char *path, const void *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, size), size);
	close(fd);
}

static inline void read_file(struct world *w)
{
	int fd = open(w->path, O_RDONLY);
	struct stat st;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	w->size = 0;
	resize(w, st.st_size);
	ck_assert_int_eq(read(fd, w->bytes, w->size), w->size);
	close(fd);
}

/* Opens what is in w->bytes, and reads all of it: what `gannet state verify` does. */
static inline bool verifies(struct world *w)
{
	struct image *img;
	bool ok = true;

	w->err.text[0] = '\0';
	write_file(w->path, w->bytes, w->size);
	img = image_open(w->path, &w->err);
	if (!img)
		return false;
	for (unsigned i = 0; ok && image_section(img, i); i++) {
		if (image_section(img, i)->flags & IMAGE_SPARSE)
			ok = image_verify(img, image_section(img, i), NULL, &w->err);
	}
	image_close(img);
	return ok;
}

/* One line, beginning with the path, with @text in it. */
static inline void one_line(const struct world *w, const char *text)
{
	ck_assert_msg(!strncmp(w->err.text, w->path, strlen(w->path)), "no path: %s", w->err.text);
	ck_assert_msg(!strchr(w->err.text, '\n'), "more than a line: %s", w->err.text);
	ck_assert_msg(strstr(w->err.text + strlen(w->path), text), "no '%s': %s", text, w->err.text);
}

#define refused(w, text) \
	do { \
		ck_assert_msg(!verifies(w), "accepted, though %s", text); \
		one_line(w, text); \
	} while (0)

/* Two plain sections and a sparse one of 16 pages, of which 2, 3 and 9 are there. */
static inline void small_image(struct world *w)
{
	static uint8_t ram[16 * PAGE];
	uint8_t map[2 * 24] = { 0 };

	for (size_t i = 0; i < sizeof(ram); i++)
		ram[i] = i / PAGE == 2 || i / PAGE == 3 || i / PAGE == 9 ? i * 37 + i / PAGE : 0;
	store_le64(map, 2);
	store_le64(map + 8, 2);
	store_le64(map + 16, XXH3_64bits(ram + 2 * PAGE, 2 * PAGE));
	store_le64(map + 24, 9);
	store_le64(map + 32, 1);
	store_le64(map + 40, XXH3_64bits(ram + 9 * PAGE, PAGE));
	begin(w, 4);
	section(w, "config", 0, 9, "memory=1\n", 9);
	section(w, "cpu", F_OPTIONAL, 5, "abcde", 5);
	section(w, "ram.map", 0, sizeof(map), map, sizeof(map));
	section(w, "ram", F_SPARSE, sizeof(ram), ram, sizeof(ram));
	seal(w);
}

#endif
