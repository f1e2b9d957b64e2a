/* State images that are damaged, or made by somebody who means harm: each is refused with
 * one line that says where. Every number of the format is tried with its checksum as it
 * was and with one that fits. */
#include "config.h"
#define WORLD_DIR "/dev/shm" /* thousands of images are written */
#include "tests/unit/image_world.h"
#if HAVE_ZSTD
#include <zstd.h>
#endif

START_TEST(good)
{
	struct world w;

	world_init(&w);
	small_image(&w);
	ck_assert_msg(verifies(&w), "%s", w.err.text);
	world_finish(&w);
}
END_TEST

START_TEST(every_cut)
{
	struct world w;
	size_t size;

	world_init(&w);
	small_image(&w);
	for (size = w.size - 1; size > 0; size -= size > 600 ? 251 : 1) {
		w.size = size;
		refused(&w, size < HEADER ? "not a state image" : "it was cut short");
	}
	w.size = 0;
	refused(&w, "not a state image");
	/* One byte, and as much as a section could hide in. */
	small_image(&w);
	resize(&w, w.size + 1);
	refused(&w, "something was added");
	seal(&w);
	refused(&w, "behind the last section");
	world_finish(&w);
}
END_TEST

/* A cut whose header agrees with it: what is outside is named. */
START_TEST(every_cut_sealed)
{
	struct world w;
	size_t whole;

	world_init(&w);
	small_image(&w);
	whole = w.size;
	for (size_t size = whole - 1; size >= HEADER; size -= size > 600 ? 251 : 1) {
		small_image(&w);
		w.size = size;
		seal(&w);
		refused(&w, size < HEADER + 4 * ENTRY ? "header: 4 sections" : "section ");
	}
	world_finish(&w);
}
END_TEST

START_TEST(every_flip)
{
	struct world w;

	world_init(&w);
	small_image(&w);
	for (size_t i = 0; i < w.size; i += i < 600 ? 1 : 61) {
		uint8_t bit = 1 << i % 8;

		w.bytes[i] ^= bit;
		ck_assert_msg(!verifies(&w), "byte %zu may change", i);
		one_line(&w, i < HEADER ? "" : "section ");
		w.bytes[i] ^= bit;
		w.bytes[i] = ~w.bytes[i];
		ck_assert_msg(!verifies(&w), "byte %zu may change", i);
		w.bytes[i] = ~w.bytes[i];
	}
	world_finish(&w);
}
END_TEST

/* The same with checksums that fit. Some changes make another image; none may do harm. */
START_TEST(every_flip_sealed)
{
	static const uint8_t values[] = { 0, 1, 0x7f, 0x80, 0xff };
	struct world w;
	unsigned accepted = 0;

	world_init(&w);
	small_image(&w);
	for (size_t i = 0; i < HEADER + 4 * ENTRY + 96; i++) {
		for (unsigned v = 0; v < ARRAY_SIZE(values) + 1; v++) {
			uint8_t was;

			small_image(&w);
			was = w.bytes[i];
			w.bytes[i] = v < ARRAY_SIZE(values) ? values[v] : was ^ 0x10;
			if (w.bytes[i] == was)
				continue;
			seal(&w);
			if (verifies(&w))
				accepted++;
			else
				one_line(&w, "");
		}
	}
	/* Versions, names, OPTIONAL and the bytes of the two plain sections. */
	ck_assert_uint_gt(accepted, 0);
	world_finish(&w);
}
END_TEST

START_TEST(header)
{
	struct world w;

	world_init(&w);
	small_image(&w);
	store_le32(w.bytes + H_VERSION, 2);
	seal(&w);
	refused(&w, "header: format version 2, this gannet knows 1; a newer gannet made it");
	store_le32(w.bytes + H_VERSION, 0);
	seal(&w);
	refused(&w, "header: format version 0");
	for (unsigned i = H_RESERVED; i < H_XXH3; i++) {
		small_image(&w);
		w.bytes[i] = 1;
		seal(&w);
		refused(&w, "header: reserved bytes are not zero");
	}
	for (unsigned i = 0; i < 2; i++) {
		static const uint32_t counts[] = { 0, 513, 1 << 30, UINT32_MAX };

		for (unsigned n = 0; n < ARRAY_SIZE(counts); n++) {
			small_image(&w);
			store_le32(w.bytes + H_SECTIONS, counts[n]);
			store_le64(w.bytes + H_XXH3, XXH3_64bits(w.bytes, H_XXH3));
			refused(&w, "header: ");
		}
	}
	small_image(&w);
	store_le64(w.bytes + H_SIZE, UINT64_MAX);
	store_le64(w.bytes + H_XXH3, XXH3_64bits(w.bytes, H_XXH3));
	refused(&w, "header: file of 18446744073709551615 bytes");
	small_image(&w);
	w.bytes[HEADER + ENTRY + E_VERSION]++;
	refused(&w, "section table: the checksum is wrong");
	world_finish(&w);
}
END_TEST

/* What one changed field of an entry is answered with. */
START_TEST(entries)
{
	static const struct {
		const char *section;
		unsigned field, size;
		uint64_t value;
		const char *text;
	} cases[] = {
		{ "cpu", E_FLAGS, 4, 8, "section cpu: unknown flags 0x8" },
		{ "cpu", E_FLAGS, 4, 0x80000001, "section cpu: unknown flags" },
		{ "cpu", E_FLAGS, 4, F_ZSTD, "section cpu: compressed, but not a sparse one" },
		{ "cpu", E_FLAGS, 4, F_SPARSE, "section cpu: not page aligned" },
		{ "cpu", E_OFFSET, 8, 0, "section cpu: offset 0 lies in another section" },
		{ "cpu", E_OFFSET, 8, HEADER + 4 * ENTRY, "section cpu: offset" },
		{ "cpu", E_OFFSET, 8, 1 << 20, "section cpu: offset 1048576 lies" },
		{ "cpu", E_OFFSET, 8, UINT64_MAX, "section cpu: offset" },
		{ "cpu", E_OFFSET, 8, 1ull << 63, "section cpu: offset" },
		{ "cpu", E_STORED, 8, UINT64_MAX, "section cpu: length" },
		{ "cpu", E_STORED, 8, UINT64_MAX - 400, "section cpu: length" },
		{ "cpu", E_STORED, 8, 6, "section cpu: stored length 6, length 5" },
		{ "cpu", E_LENGTH, 8, 4, "section cpu: stored length 5, length 4" },
		{ "cpu", E_LENGTH, 8, UINT64_MAX, "section cpu: stored length" },
		{ "cpu", E_RESERVED, 8, 1, "section cpu: reserved bytes are not zero" },
		{ "cpu", E_RESERVED, 8, 1ull << 63, "section cpu: reserved bytes are not zero" },
		{ "ram", E_FLAGS, 4, 0, "section ram: the checksum is wrong" },
		{ "ram", E_FLAGS, 4, F_SPARSE | F_OPTIONAL | 16, "section ram: unknown flags" },
		{ "ram", E_FLAGS, 4, F_SPARSE | F_ZSTD, "section ram: " },
		{ "ram", E_LENGTH, 8, 0, "section ram: stored length" },
		{ "ram", E_LENGTH, 8, 1ull << 45, "section ram: stored length" },
		{ "ram", E_STORED, 8, 15 * PAGE, "section ram: stored length" },
		{ "ram", E_XXH3, 8, 1, "section ram: not page aligned, or with a checksum" },
		{ "ram.map", E_VERSION, 4, 2, "section ram.map: version 2, this gannet knows 1" },
		{ "ram.map", E_VERSION, 4, 0, "section ram.map: version 0" },
	};
	struct world w;

	world_init(&w);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t *e;

		small_image(&w);
		e = entry_at(&w, entry_find(&w, cases[i].section));
		if (cases[i].size == 4)
			store_le32(e + cases[i].field, cases[i].value);
		else
			store_le64(e + cases[i].field, cases[i].value);
		/* Not seal(): flags say which checksums it would write. */
		store_le64(w.bytes + H_TABLE_XXH3, XXH3_64bits(w.bytes + HEADER, 4 * ENTRY));
		store_le64(w.bytes + H_XXH3, XXH3_64bits(w.bytes, H_XXH3));
		refused(&w, cases[i].text);
	}
	world_finish(&w);
}
END_TEST

START_TEST(names)
{
	static const char *const bad[] = { "", "a b", "caf\xc3\xa9", "tab\there", "new\nline", "\x7f" };
	struct world w;

	world_init(&w);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		small_image(&w);
		memset(entry_at(&w, 1), 0, 48);
		strcpy((char *)entry_at(&w, 1), bad[i]);
		seal(&w);
		refused(&w, "section table: entry 1 has no proper name");
	}
	small_image(&w);
	memset(entry_at(&w, 1), 'x', 48); /* no NUL */
	seal(&w);
	refused(&w, "section table: entry 1 has no proper name");
	small_image(&w);
	entry_at(&w, 1)[40] = 'x'; /* behind the NUL */
	seal(&w);
	refused(&w, "section table: entry 1 has no proper name");
	small_image(&w);
	strcpy((char *)entry_at(&w, 1), "config");
	seal(&w);
	refused(&w, "section config: is there twice");
	world_finish(&w);
}
END_TEST

/* The same bytes in two sections; sections out of order; things hidden between them. */
START_TEST(overlaps)
{
	struct world w;
	uint8_t entry[ENTRY];

	world_init(&w);
	small_image(&w);
	store_le64(entry_at(&w, 1) + E_OFFSET, load_le64(entry_at(&w, 0) + E_OFFSET) + 8);
	seal(&w);
	refused(&w, "section cpu: offset");
	small_image(&w);
	memcpy(entry, entry_at(&w, 0), ENTRY);
	memcpy(entry_at(&w, 0), entry_at(&w, 1), ENTRY);
	memcpy(entry_at(&w, 1), entry, ENTRY);
	seal(&w);
	refused(&w, "section cpu: the padding before it is not zero");
	small_image(&w);
	w.bytes[load_le64(entry_at(&w, 1) + E_OFFSET) - 1] = 'x';
	seal(&w);
	refused(&w, "section cpu: the padding before it is not zero");
	small_image(&w);
	w.bytes[load_le64(entry_at(&w, 3) + E_OFFSET) - 1] = 'x';
	seal(&w);
	refused(&w, "section ram: the padding before it is not zero");

	/* A section taken out of the table, its bytes left behind. */
	begin(&w, 3);
	section(&w, "config", 0, 9, "memory=1\n", 9);
	resize(&w, w.size + 2 * PAGE);
	section(&w, "cpu", 0, 5, "abcde", 5);
	seal(&w);
	refused(&w, "section cpu: 8199 bytes between");
	world_finish(&w);
}
END_TEST

/* Lengths that a file with a hole can have: they cost its maker nothing. */
START_TEST(huge)
{
	static const uint64_t mib = 1 << 20;
	struct world w;

	world_init(&w);
	begin(&w, 1);
	section(&w, "big", 0, 0, "", 0);
	store_le64(entry_at(&w, 0) + E_STORED, 17 * mib);
	store_le64(entry_at(&w, 0) + E_LENGTH, 17 * mib);
	seal(&w);
	store_le64(w.bytes + H_SIZE, w.size + 17 * mib);
	store_le64(w.bytes + H_XXH3, XXH3_64bits(w.bytes, H_XXH3));
	write_file(w.path, w.bytes, w.size);
	ck_assert_int_eq(truncate(w.path, w.size + 17 * mib), 0);
	ck_assert_ptr_null(image_open(w.path, &w.err));
	one_line(&w, "section big: length 17825792 is more than there can be");

	/* Each of them small enough, but a hundred of them. */
	begin(&w, 100);
	uint8_t *zero = calloc(1, 16 * mib);
	uint64_t hash = XXH3_64bits(zero, 16 * mib), at = w.size;

	free(zero);
	for (unsigned i = 0; i < 100; i++) {
		uint8_t *e = entry_at(&w, i);

		sprintf((char *)e, "s%u", i);
		store_le32(e + E_VERSION, 1);
		store_le64(e + E_OFFSET, at);
		store_le64(e + E_STORED, 16 * mib);
		store_le64(e + E_LENGTH, 16 * mib);
		store_le64(e + E_XXH3, hash);
		at += 16 * mib;
	}
	store_le32(w.bytes + H_SECTIONS, 100);
	store_le64(w.bytes + H_SIZE, at);
	store_le64(w.bytes + H_TABLE_XXH3, XXH3_64bits(w.bytes + HEADER, 100 * ENTRY));
	store_le64(w.bytes + H_XXH3, XXH3_64bits(w.bytes, H_XXH3));
	write_file(w.path, w.bytes, w.size);
	ck_assert_int_eq(truncate(w.path, at), 0);
	ck_assert_ptr_null(image_open(w.path, &w.err));
	one_line(&w, "section s4: with it, plain sections are more than 67108864 bytes");

	ck_assert_ptr_null(image_open("/dev/null", &w.err));
	ck_assert_ptr_nonnull(strstr(w.err.text, "/dev/null: not a regular file"));
	ck_assert_ptr_null(image_open("/nonexistent/image", &w.err));
	ck_assert_ptr_nonnull(strstr(w.err.text, "/nonexistent/image: No such file"));
	world_finish(&w);
}
END_TEST

/* ---- maps ---- */

static uint8_t *map_of(struct world *w)
{
	return w->bytes + load_le64(entry_at(w, entry_find(w, "ram.map")) + E_OFFSET);
}

START_TEST(maps)
{
	static const struct {
		unsigned extent;
		uint64_t first, pages;
	} cases[] = {
		{ 0, 2, 0 },                       /* empty */
		{ 0, 16, 1 }, { 0, 15, 2 }, { 0, 0, 17 },
		{ 0, UINT64_MAX, 1 }, { 0, 1, UINT64_MAX }, { 0, UINT64_MAX, UINT64_MAX },
		{ 0, 1ull << 52, 1 }, { 0, 2, 1ull << 52 }, { 0, 3, UINT64_MAX - 2 },
		{ 1, 3, 1 }, { 1, 2, 2 }, { 1, 0, 1 }, /* overlapping, twice, out of order */
		{ 1, 16, 0 },
	};
	struct world w;

	world_init(&w);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[64];

		small_image(&w);
		store_le64(map_of(&w) + cases[i].extent * 24, cases[i].first);
		store_le64(map_of(&w) + cases[i].extent * 24 + 8, cases[i].pages);
		seal(&w);
		snprintf(text, sizeof(text), "section ram.map: extent %u", cases[i].extent);
		refused(&w, text);
	}
	small_image(&w);
	store_le64(map_of(&w) + 16, 12345);
	seal(&w);
	refused(&w, "section ram: the checksum of pages 2 to 3 is wrong");
	small_image(&w);
	w.bytes[load_le64(entry_at(&w, 3) + E_OFFSET) + 9 * PAGE + 4095] ^= 1;
	refused(&w, "section ram: the checksum of pages 9 to 9 is wrong");
	/* Pages that are in no extent would be the guest's all the same if they were mapped. */
	for (unsigned page = 0; page < 16; page++) {
		char text[64];

		if (page == 2 || page == 3 || page == 9)
			continue;
		small_image(&w);
		w.bytes[load_le64(entry_at(&w, 3) + E_OFFSET) + page * PAGE + 17] = 1;
		snprintf(text, sizeof(text), "section ram: page %u is not in the map, but not zero", page);
		refused(&w, text);
	}
	small_image(&w);
	strcpy((char *)entry_at(&w, 2), "ram.mop");
	seal(&w);
	refused(&w, "section ram.map: is missing");
	world_finish(&w);

	world_init(&w);
	begin(&w, 2);
	section(&w, "ram.map", 0, 23, "12345678901234567890123", 23);
	section(&w, "ram", F_SPARSE, 0, "", 0);
	seal(&w);
	refused(&w, "section ram.map: half an extent at its end");
	begin(&w, 3);
	section(&w, "ram.map.map", 0, 0, "", 0);
	section(&w, "ram.map", F_SPARSE, 0, "", 0);
	section(&w, "ram", F_SPARSE, 0, "", 0);
	resize(&w, load_le64(entry_at(&w, 2) + E_OFFSET));
	seal(&w);
	refused(&w, "section ram.map: is missing");
	world_finish(&w);
}
END_TEST

/* ---- compressed ---- */

#if HAVE_ZSTD
/* A sparse section of @pages pages of 'x' in one extent, stored as @stored. */
static void packed(struct world *w, uint64_t pages, const void *stored, size_t len)
{
	uint8_t map[24], *page = malloc(pages * PAGE);

	memset(page, 'x', pages * PAGE);
	store_le64(map, 0);
	store_le64(map + 8, pages);
	store_le64(map + 16, XXH3_64bits(page, pages * PAGE));
	free(page);
	begin(w, 2);
	section(w, "ram.map", 0, sizeof(map), map, sizeof(map));
	section(w, "ram", F_SPARSE | F_ZSTD, (pages + 3) * PAGE, stored, len);
	seal(w);
}

static size_t squeeze(uint8_t *to, size_t room, size_t len, int level)
{
	uint8_t *from = malloc(len);
	size_t n;

	memset(from, 'x', len);
	n = ZSTD_compress(to, room, from, len, level);
	ck_assert(!ZSTD_isError(n));
	free(from);
	return n;
}

START_TEST(compressed)
{
	static uint8_t stored[1 << 16];
	struct world w;
	size_t n, m;

	world_init(&w);
	n = squeeze(stored, sizeof(stored), 5 * PAGE, 3);
	packed(&w, 5, stored, n);
	ck_assert_msg(verifies(&w), "%s", w.err.text);
	for (size_t cut = 0; cut < n; cut++) {
		packed(&w, 5, stored, cut);
		refused(&w, "section ram: ends too early");
	}
	for (size_t i = 0; i < n; i++) {
		packed(&w, 5, stored, n);
		w.bytes[w.size - n + i] ^= 0x20;
		refused(&w, "section ram: ");
	}
	packed(&w, 6, stored, n);
	refused(&w, "section ram: ends too early");
	packed(&w, 4, stored, n);
	refused(&w, "section ram: there is more in it than its map says");
	stored[n] = 0;
	packed(&w, 5, stored, n + 1);
	refused(&w, "section ram: bytes behind the end");
	/* Two frames, of which the map knows one, or both. */
	m = squeeze(stored + n, sizeof(stored) - n, PAGE, 3);
	packed(&w, 5, stored, n + m);
	refused(&w, "section ram: bytes behind the end");
	packed(&w, 6, stored, n + m);
	refused(&w, "section ram: ends too early");
	/* A bomb: 64 MiB in a few kB, where the map has a page. */
	n = squeeze(stored, sizeof(stored), 64 << 20, 19);
	packed(&w, 1, stored, n);
	refused(&w, "section ram: ");
	world_finish(&w);
}
END_TEST

/* A frame may ask for a window of gigabytes in a few bytes of header. */
START_TEST(window)
{
	/* RFC 8878, 3.1.1.1: magic, descriptor (no single segment), window 2^31. */
	static const uint8_t frame[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3, 1, 0, 0 };
	struct world w;

	world_init(&w);
	packed(&w, 1, frame, sizeof(frame));
	refused(&w, "section ram: Frame requires too much memory");
	world_finish(&w);
}
END_TEST
#endif

/* ---- a file that changes ---- */

START_TEST(changes)
{
	struct world w;
	struct image *img;
	const struct image_section *ram;
	uint8_t *to = calloc(16, PAGE);
	size_t whole;
	int fd;

	world_init(&w);
	small_image(&w);
	whole = w.size;
	write_file(w.path, w.bytes, w.size);
	img = image_open(w.path, &w.err);
	ck_assert_ptr_nonnull(img);
	ram = image_find(img, "ram");
	ck_assert(!image_changed(img));
	fd = open(w.path, O_WRONLY);
	ck_assert_int_eq(pwrite(fd, "\1", 1, load_le64(entry_at(&w, 3) + E_OFFSET) + 2 * PAGE + 1), 1);
	/* Plain sections are in memory, what comes later is noticed. */
	ck_assert_mem_eq(image_find(img, "cpu")->data, "abcde", 5);
	ck_assert(!image_load(img, ram, to, NULL, &w.err));
	one_line(&w, "section ram: the checksum of pages 2 to 3 is wrong");
	ck_assert_int_eq(ftruncate(fd, whole - 8 * PAGE), 0);
	ck_assert(image_changed(img));
	ck_assert(!image_verify(img, ram, NULL, &w.err));
	small_image(&w);
	ck_assert_int_eq(pwrite(fd, w.bytes, w.size - 8 * PAGE, 0), w.size - 8 * PAGE);
	ck_assert(!image_verify(img, ram, NULL, &w.err));
	one_line(&w, "became shorter while it was read");
	close(fd);
	image_close(img);
	free(to);
	world_finish(&w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("image_bad");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, good);
	tcase_add_test(t, every_cut);
	tcase_add_test(t, every_cut_sealed);
	tcase_add_test(t, every_flip);
	tcase_add_test(t, every_flip_sealed);
	tcase_add_test(t, header);
	tcase_add_test(t, entries);
	tcase_add_test(t, names);
	tcase_add_test(t, overlaps);
	tcase_add_test(t, huge);
	tcase_add_test(t, maps);
#if HAVE_ZSTD
	tcase_add_test(t, compressed);
	tcase_add_test(t, window);
#endif
	tcase_add_test(t, changes);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
