/* State images: bytes become a file that is opened, verified, loaded, taken apart into
 * fields, and written anew. Whatever is accepted must be the same after a copy.
 *
 * Checksums would stop a fuzzer at the first byte; so inputs are patched before they are
 * read: their magic, version, file size and the checksums of header, table and plain
 * sections are made right if the first byte is odd. The file is a memfd.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/loop.h"
#include "core/util.h"
#include "statefile/fields.h"
#include "statefile/image_priv.h"

enum { SPARSE_LOADED = 1 << 24 };

struct thing {
	uint8_t a;
	uint32_t array[3];
	bool on;
	uint8_t bytes[5];
	struct timer timer;
};

static const struct state_field table[] = {
	STATE_UINT_MAX(struct thing, a, 9),
	STATE_ARRAY(struct thing, array),
	STATE_BOOL(struct thing, on),
	STATE_BYTES(struct thing, bytes),
	STATE_TIMER(struct thing, timer),
	STATE_END,
};

static void mend(uint8_t *p, size_t size)
{
	struct image_header h;

	if (size < sizeof(h))
		return;
	memcpy(&h, p, sizeof(h));
	memcpy(h.magic, IMAGE_MAGIC, sizeof(h.magic));
	h.version = IMAGE_VERSION;
	h.sections %= 16;
	h.file_size = size;
	for (uint32_t i = 0; i < h.sections && sizeof(h) + (i + 1) * sizeof(struct image_entry) <= size; i++) {
		uint8_t *at = p + sizeof(h) + i * sizeof(struct image_entry);
		struct image_entry e;

		memcpy(&e, at, sizeof(e));
		if (!(e.flags & IMAGE_SPARSE) && e.offset <= size && e.length <= size - e.offset)
			e.xxh3 = XXH3_64bits(p + e.offset, e.length);
		memcpy(at, &e, sizeof(e));
	}
	if (sizeof(h) + h.sections * sizeof(struct image_entry) <= size)
		h.table_xxh3 = XXH3_64bits(p + sizeof(h), h.sections * sizeof(struct image_entry));
	h.xxh3 = XXH3_64bits(&h, offsetof(struct image_header, xxh3));
	memcpy(p, &h, sizeof(h));
}

static void parse(const struct image_section *s)
{
	struct error err = { "" };
	struct field_record r;
	struct thing thing = { .a = 1 };
	size_t at = 0;
	unsigned sum = 0;

	while (fields_next(s->data, s->length, &at, &r, &err)) {
		for (size_t i = 0; i < (size_t)r.size * r.count; i++)
			sum += r.data[i];
	}
	if (fields_parse(s->data, s->length, table, &thing, sum & 1, &err) && thing.a > 9)
		abort();
	if (strchr(err.text, '\n'))
		abort();
}

/* Written by us and read again, a section's pages are what they were. */
static void copy(struct image *img, const struct image_section *s)
{
	char path[] = "/dev/shm/fuzz-image.XXXXXX";
	struct error err = { "" };
	struct image_writer *w;
	int fd = mkstemp(path);

	if (fd < 0)
		abort();
	close(fd);
	w = image_writer_create(path, &err);
	if (w && image_writer_copy(w, img, s, &err)) {
		struct image *back;
		uint8_t *a = calloc(1, s->length + 1), *b = calloc(1, s->length + 1);

		if (!image_writer_commit(w, NULL, &err))
			abort();
		back = image_open(path, &err);
		if (!back || !image_load(img, s, a, NULL, &err) ||
		    !image_load(back, image_find(back, s->name), b, NULL, &err) ||
		    memcmp(a, b, s->length))
			abort();
		image_close(back);
		free(a);
		free(b);
	}
	image_writer_destroy(w);
	unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = { "" };
	char path[64];
	struct image *img;
	uint8_t *p;
	int fd;

	if (size < 1 || size > 1 << 20)
		return 0;
	p = malloc(size);
	memcpy(p, data + 1, size - 1);
	if (data[0] & 1)
		mend(p, size - 1);
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0 || write(fd, p, size - 1) != (ssize_t)size - 1)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	img = image_open(path, &err);
	if (!img && (strncmp(err.text, path, strlen(path)) || strchr(err.text, '\n')))
		abort();
	for (unsigned i = 0; img && image_section(img, i); i++) {
		const struct image_section *s = image_section(img, i);

		if (!(s->flags & IMAGE_SPARSE))
			parse(s);
		else if (s->length <= SPARSE_LOADED && image_verify(img, s, NULL, &err))
			copy(img, s);
	}
	image_close(img);
	close(fd);
	free(p);
	return 0;
}
