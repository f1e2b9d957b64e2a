/* Reading a state image: everything is checked before anything is believed.
 *
 * See image.h. Numbers from the file are compared with limits before they are added,
 * multiplied or allocated; plain sections are read into memory once and checked there,
 * so that a file changed later cannot change them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "config.h"
#include "core/util.h"
#include "statefile/image_priv.h"
#if HAVE_ZSTD
#include <zstd.h>
#endif

struct image {
	char *path;
	int fd;
	struct stat st;
	struct image_section *section;
	unsigned count;
	uint64_t plain; /* bytes of all plain sections */
};

#define REFUSE(img, err, ...) (error_set(err, __VA_ARGS__), error_prefix(err, "%s", (img)->path), false)

static bool read_at(struct image *img, void *to, size_t len, uint64_t offset, struct error *err)
{
	uint8_t *p = to;

	while (len) {
		ssize_t n = pread(img->fd, p, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return REFUSE(img, err, "cannot be read: %s", strerror(errno));
		if (n == 0)
			return REFUSE(img, err, "became shorter while it was read");
		p += n;
		offset += n;
		len -= n;
	}
	return true;
}

/* ---- header and table ---- */

static bool check_header(struct image *img, struct image_header *h, struct error *err)
{
	uint64_t size = img->st.st_size;

	if (size < sizeof(*h))
		return REFUSE(img, err, "not a state image: %llu bytes, a header has %zu",
			      (unsigned long long)size, sizeof(*h));
	if (!read_at(img, h, sizeof(*h), 0, err))
		return false;
	if (memcmp(h->magic, IMAGE_MAGIC, sizeof(h->magic)))
		return REFUSE(img, err, "not a state image: it does not begin with " IMAGE_MAGIC);
	if (h->version != IMAGE_VERSION)
		return REFUSE(img, err, "header: format version %u, this gannet knows %u%s", h->version,
			      IMAGE_VERSION, h->version > IMAGE_VERSION ? "; a newer gannet made it" : "");
	if (h->xxh3 != XXH3_64bits(h, offsetof(struct image_header, xxh3)))
		return REFUSE(img, err, "header: the checksum is wrong");
	if (h->reserved[0] | h->reserved[1] | h->reserved[2])
		return REFUSE(img, err, "header: reserved bytes are not zero");
	if (h->file_size != size)
		return REFUSE(img, err, "header: file of %llu bytes, but it has %llu: %s",
			      (unsigned long long)h->file_size, (unsigned long long)size,
			      h->file_size > size ? "it was cut short" : "something was added");
	if (h->sections == 0 || h->sections > IMAGE_SECTIONS_MAX ||
	    h->sections * sizeof(struct image_entry) > size - sizeof(*h))
		return REFUSE(img, err, "header: %u sections", h->sections);
	return true;
}

bool image_name_ok(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (name[i] <= ' ' || name[i] > '~')
			return false;
	}
	return true;
}

static bool name_ok(const char *name)
{
	size_t len = strnlen(name, IMAGE_NAME_SIZE);

	if (len == 0 || len == IMAGE_NAME_SIZE || !image_name_ok(name, len))
		return false;
	for (size_t i = len; i < IMAGE_NAME_SIZE; i++) {
		if (name[i])
			return false;
	}
	return true;
}

/* Sections are aligned, and nothing else is between them. */
static bool check_gap(struct image *img, const struct image_entry *e, uint64_t end,
		      struct error *err)
{
	uint8_t gap[IMAGE_PAGE];
	uint64_t len = e->offset - end;

	if (len >= sizeof(gap))
		return REFUSE(img, err, "section %s: %llu bytes between it and the one before", e->name,
			      (unsigned long long)len);
	if (!read_at(img, gap, len, end, err))
		return false;
	for (uint64_t i = 0; i < len; i++) {
		if (gap[i])
			return REFUSE(img, err, "section %s: the padding before it is not zero", e->name);
	}
	return true;
}

static bool check_entry(struct image *img, const struct image_entry *e, uint64_t *end,
			struct error *err)
{
	bool sparse = e->flags & IMAGE_SPARSE, packed = e->flags & IMAGE_ZSTD;

	if (!name_ok(e->name))
		return REFUSE(img, err, "section table: entry %u has no proper name", img->count);
	if (image_find(img, e->name))
		return REFUSE(img, err, "section %s: is there twice", e->name);
	if (e->flags & ~IMAGE_FLAGS_ALL)
		return REFUSE(img, err, "section %s: unknown flags 0x%x", e->name, e->flags);
	if (e->reserved)
		return REFUSE(img, err, "section %s: reserved bytes are not zero", e->name);
	if (packed && !sparse)
		return REFUSE(img, err, "section %s: compressed, but not a sparse one", e->name);
	if (e->offset < *end || e->offset > (uint64_t)img->st.st_size)
		return REFUSE(img, err, "section %s: offset %llu lies in another section or outside", e->name,
			      (unsigned long long)e->offset);
	if (e->stored > (uint64_t)img->st.st_size - e->offset)
		return REFUSE(img, err, "section %s: length %llu reaches past the end of the file", e->name,
			      (unsigned long long)e->stored);
	if (!packed && e->stored != e->length)
		return REFUSE(img, err, "section %s: stored length %llu, length %llu, not compressed",
			      e->name, (unsigned long long)e->stored, (unsigned long long)e->length);
	if (e->length > (sparse ? IMAGE_SPARSE_MAX : IMAGE_PLAIN_MAX))
		return REFUSE(img, err, "section %s: length %llu is more than there can be", e->name,
			      (unsigned long long)e->length);
	if (sparse && ((e->offset | e->length) % IMAGE_PAGE || e->xxh3))
		return REFUSE(img, err, "section %s: not page aligned, or with a checksum of its own", e->name);
	if (!sparse && e->length > IMAGE_PLAIN_TOTAL - img->plain)
		return REFUSE(img, err, "section %s: with it, plain sections are more than %llu bytes",
			      e->name, IMAGE_PLAIN_TOTAL);
	if (!check_gap(img, e, *end, err))
		return false;
	if (!sparse)
		img->plain += e->length;
	*end = e->offset + e->stored;
	return true;
}

static bool read_plain(struct image *img, struct image_section *s, struct error *err)
{
	uint8_t *data = malloc(MAX(s->length, 1));

	s->data = data;
	if (!data)
		return REFUSE(img, err, "out of memory for section %s", s->name);
	if (!read_at(img, data, s->length, s->offset, err))
		return false;
	if (XXH3_64bits(data, s->length) != s->xxh3)
		return REFUSE(img, err, "section %s: the checksum is wrong", s->name);
	return true;
}

static bool read_table(struct image *img, const struct image_header *h, struct error *err)
{
	size_t size = h->sections * sizeof(struct image_entry);
	struct image_entry *table = malloc(size);
	uint64_t end = sizeof(*h) + size;
	bool ok;

	img->section = calloc(h->sections, sizeof(*img->section));
	if (!table || !img->section) {
		free(table);
		return REFUSE(img, err, "out of memory");
	}
	ok = read_at(img, table, size, sizeof(*h), err);
	if (ok && XXH3_64bits(table, size) != h->table_xxh3)
		ok = REFUSE(img, err, "section table: the checksum is wrong");
	for (unsigned i = 0; ok && i < h->sections; i++) {
		const struct image_entry *e = &table[i];
		struct image_section *s = &img->section[i];

		ok = check_entry(img, e, &end, err);
		if (!ok)
			break;
		memcpy(s->name, e->name, sizeof(s->name));
		s->version = e->version;
		s->flags = e->flags;
		s->offset = e->offset;
		s->stored = e->stored;
		s->length = e->length;
		s->xxh3 = e->xxh3;
		img->count = i + 1;
		if (!(s->flags & IMAGE_SPARSE))
			ok = read_plain(img, s, err);
	}
	free(table);
	if (ok && end != (uint64_t)img->st.st_size)
		ok = REFUSE(img, err, "%llu bytes behind the last section",
			    (unsigned long long)(img->st.st_size - end));
	return ok;
}

static const struct image_section *map_of(const struct image *img, const struct image_section *s)
{
	char name[IMAGE_NAME_SIZE + sizeof(IMAGE_MAP_SUFFIX)];

	strcpy(name, s->name);
	strcat(name, IMAGE_MAP_SUFFIX);
	return image_find(img, name);
}

size_t image_map_check(const void *extents, size_t count, uint64_t pages)
{
	uint64_t end = 0;

	for (size_t i = 0; i < count; i++) {
		struct image_extent e;

		memcpy(&e, (const uint8_t *)extents + i * sizeof(e), sizeof(e));
		if (e.first < end || e.pages == 0 || e.first > pages || e.pages > pages - e.first)
			return i;
		end = e.first + e.pages;
	}
	return count;
}

static bool check_map(struct image *img, const struct image_section *s, struct error *err)
{
	const struct image_section *m = map_of(img, s);
	size_t count, bad;

	if (!m || m->flags & IMAGE_SPARSE)
		return REFUSE(img, err, "section %s" IMAGE_MAP_SUFFIX ": is missing", s->name);
	if (m->version != IMAGE_MAP_VERSION)
		return REFUSE(img, err, "section %s: version %u, this gannet knows %u", m->name, m->version,
			      IMAGE_MAP_VERSION);
	if (m->length % sizeof(struct image_extent))
		return REFUSE(img, err, "section %s: half an extent at its end", m->name);
	count = m->length / sizeof(struct image_extent);
	bad = image_map_check(m->data, count, s->length / IMAGE_PAGE);
	if (bad < count) {
		struct image_extent e;

		memcpy(&e, m->data + bad * sizeof(e), sizeof(e));
		return REFUSE(img, err, "section %s: extent %zu (page %llu, %llu pages) is out of order or outside",
			      m->name, bad, (unsigned long long)e.first, (unsigned long long)e.pages);
	}
	return true;
}

struct image *image_open(const char *path, struct error *err)
{
	struct image *img = calloc(1, sizeof(*img));
	struct image_header h;

	if (!img || !(img->path = strdup(path))) {
		error_set(err, "%s: out of memory", path);
		free(img);
		return NULL;
	}
	img->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (img->fd < 0 || fstat(img->fd, &img->st) < 0) {
		error_set(err, "%s: %s", path, strerror(errno));
		goto fail;
	}
	if (!S_ISREG(img->st.st_mode)) {
		error_set(err, "%s: not a regular file", path);
		goto fail;
	}
	if (!check_header(img, &h, err) || !read_table(img, &h, err))
		goto fail;
	for (unsigned i = 0; i < img->count; i++) {
		if (img->section[i].flags & IMAGE_SPARSE && !check_map(img, &img->section[i], err))
			goto fail;
	}
	return img;
fail:
	image_close(img);
	return NULL;
}

void image_close(struct image *img)
{
	if (!img)
		return;
	/* All that calloc() made: the one that failed may have data, too. */
	for (unsigned i = 0; img->section && i < img->count; i++)
		free((void *)img->section[i].data);
	free(img->section);
	if (img->fd >= 0)
		close(img->fd);
	free(img->path);
	free(img);
}

const char *image_path(const struct image *img)
{
	return img->path;
}

uint64_t image_size(const struct image *img)
{
	return img->st.st_size;
}

const struct image_section *image_section(const struct image *img, unsigned n)
{
	return n < img->count ? &img->section[n] : NULL;
}

const struct image_section *image_find(const struct image *img, const char *name)
{
	for (unsigned i = 0; i < img->count; i++) {
		if (!strcmp(img->section[i].name, name))
			return &img->section[i];
	}
	return NULL;
}

const struct image_extent *image_map(const struct image *img, const struct image_section *s,
				     size_t *count)
{
	const struct image_section *m = map_of(img, s);

	*count = m->length / sizeof(struct image_extent);
	return (const struct image_extent *)m->data;
}

/* ---- sparse content ---- */

/* Where the bytes of a sparse section come from, one chunk after the other. */
struct image_source {
	struct image *img;
	const struct image_section *s;
	uint8_t *raw;    /* compressed bytes */
	uint64_t at;     /* of the stored bytes: read so far */
	uint64_t data;   /* not compressed: the file has a hole up to here */
	bool ended;      /* the frame */
#if HAVE_ZSTD
	ZSTD_DCtx *z;
	ZSTD_inBuffer in;
#endif
};

struct image_source *image_source_create(struct image *img, const struct image_section *s,
					 struct error *err)
{
	struct image_source *src = calloc(1, sizeof(*src));

	if (!src) {
		(void)REFUSE(img, err, "out of memory");
		return NULL;
	}
	src->img = img;
	src->s = s;
	if (!(s->flags & IMAGE_ZSTD))
		return src;
#if HAVE_ZSTD
	src->raw = malloc(IMAGE_CHUNK);
	src->z = ZSTD_createDCtx();
	if (src->raw && src->z) {
		/* The frame says how much memory it wants. */
		ZSTD_DCtx_setParameter(src->z, ZSTD_d_windowLogMax, IMAGE_WINDOW_LOG);
		src->in.src = src->raw;
		return src;
	}
	(void)REFUSE(img, err, "out of memory");
#else
	(void)REFUSE(img, err, "section %s: compressed, and this gannet was built without zstd", s->name);
#endif
	image_source_destroy(src);
	return NULL;
}

void image_source_destroy(struct image_source *src)
{
	if (!src)
		return;
#if HAVE_ZSTD
	ZSTD_freeDCtx(src->z);
#endif
	free(src->raw);
	free(src);
}

#if HAVE_ZSTD
/* More bytes of the frame, until @to is full or the frame ends. */
static bool inflate(struct image_source *src, uint8_t *to, size_t len, size_t *got,
		    struct error *err)
{
	ZSTD_outBuffer out = { to, len, 0 };

	while (out.pos < len && !src->ended) {
		size_t r;

		if (src->in.pos == src->in.size) {
			size_t n = MIN(src->s->stored - src->at, IMAGE_CHUNK);

			if (n && !read_at(src->img, src->raw, n, src->s->offset + src->at, err))
				return false;
			src->at += n;
			src->in.pos = 0;
			src->in.size = n;
		}
		size_t before = out.pos;
		bool last = src->at == src->s->stored;

		r = ZSTD_decompressStream(src->z, &out, &src->in);
		if (ZSTD_isError(r))
			return REFUSE(src->img, err, "section %s: %s", src->s->name, ZSTD_getErrorName(r));
		if (r == 0)
			src->ended = true;
		else if (out.pos == before && last && src->in.pos == src->in.size)
			break;
	}
	*got = out.pos;
	return true;
}
#endif

bool image_source_read(struct image_source *src, uint64_t offset, uint8_t *to, size_t len,
		       struct error *err)
{
#if HAVE_ZSTD
	size_t got = len;
#endif

	if (!(src->s->flags & IMAGE_ZSTD))
		return read_at(src->img, to, len, src->s->offset + offset, err);
#if HAVE_ZSTD
	if (!inflate(src, to, len, &got, err))
		return false;
	if (got < len)
		return REFUSE(src->img, err, "section %s: ends too early", src->s->name);
#endif
	return true;
}

/* Pages that no extent names are zero. Where the file has holes that costs nothing. */
static bool check_zero(struct image_source *src, uint64_t first, uint64_t pages, struct error *err)
{
	const struct image_section *s = src->s;
	uint64_t at = s->offset + first * IMAGE_PAGE, end = at + pages * IMAGE_PAGE;
	uint8_t buf[16 * IMAGE_PAGE];

	while (at < end) {
		size_t n;

		if (src->data <= at) {
			off_t data = lseek(src->img->fd, at, SEEK_DATA);

			/* ENXIO: nothing but a hole follows; others: it may all be data. */
			src->data = data >= 0 ? (uint64_t)data : errno == ENXIO ? UINT64_MAX : at;
		}
		if (src->data >= end)
			return true;
		at = MAX(at, src->data);
		n = MIN(end - at, sizeof(buf));
		if (!read_at(src->img, buf, n, at, err))
			return false;
		if (buf[0] || memcmp(buf, buf + 1, n - 1)) {
			for (size_t i = 0; !buf[i]; i++)
				at++;
			return REFUSE(src->img, err, "section %s: page %llu is not in the map, but not zero",
				      s->name, (unsigned long long)((at - s->offset) / IMAGE_PAGE));
		}
		at += n;
	}
	return true;
}

bool image_source_skip(struct image_source *src, uint64_t first, uint64_t pages, struct error *err)
{
	return src->s->flags & IMAGE_ZSTD || check_zero(src, first, pages, err);
}

bool image_source_end(struct image_source *src, struct error *err)
{
#if HAVE_ZSTD
	uint8_t more;
	size_t got = 0;

	if (!(src->s->flags & IMAGE_ZSTD))
		return true;
	if (!inflate(src, &more, 1, &got, err))
		return false;
	if (got)
		return REFUSE(src->img, err, "section %s: there is more in it than its map says",
			      src->s->name);
	if (!src->ended)
		return REFUSE(src->img, err, "section %s: ends too early", src->s->name);
	if (src->in.pos != src->in.size || src->at != src->s->stored)
		return REFUSE(src->img, err, "section %s: bytes behind the end of the compressed ones",
			      src->s->name);
#endif
	return true;
}

static bool write_pages(struct image *img, const struct image_section *s, int fd,
			const uint8_t *p, size_t len, uint64_t at, struct error *err)
{
	while (len) {
		ssize_t n = pwrite(fd, p, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return REFUSE(img, err, "section %s: cannot be unpacked: %s", s->name,
				      strerror(n ? errno : ENOSPC));
		p += n;
		at += n;
		len -= n;
	}
	return true;
}

/* Goes through all pages that are there. @to or @fd take them, or nobody. */
static bool walk(struct image *img, const struct image_section *s, uint8_t *to, int fd,
		 const struct image_progress *progress, struct error *err)
{
	XXH3_state_t *hash = XXH3_createState();
	uint8_t *buf = to ? NULL : malloc(IMAGE_CHUNK);
	struct image_source *src = image_source_create(img, s, err);
	uint64_t done = 0, total = 0, end = 0;
	size_t count;
	const struct image_extent *e = image_map(img, s, &count);
	bool ok = src != NULL;

	if (ok && (!hash || (!to && !buf)))
		ok = REFUSE(img, err, "out of memory");
	for (size_t i = 0; i < count; i++)
		total += e[i].pages * IMAGE_PAGE;
	for (size_t i = 0; ok && i < count; i++) {
		uint64_t at = e[i].first * IMAGE_PAGE, left = e[i].pages * IMAGE_PAGE;

		ok = image_source_skip(src, end, e[i].first - end, err);
		end = e[i].first + e[i].pages;
		XXH3_64bits_reset(hash);
		while (ok && left) {
			size_t n = MIN(left, IMAGE_CHUNK);
			uint8_t *p = to ? to + at : buf;

			ok = image_source_read(src, at, p, n, err);
			if (!ok)
				break;
			XXH3_64bits_update(hash, p, n);
			ok = fd < 0 || write_pages(img, s, fd, p, n, at, err);
			at += n;
			left -= n;
			done += n;
			if (progress)
				progress->step(progress->opaque, done, total);
		}
		if (ok && XXH3_64bits_digest(hash) != e[i].xxh3)
			ok = image_source_bad(img, s, &e[i], err);
	}
	ok = ok && image_source_skip(src, end, s->length / IMAGE_PAGE - end, err) &&
	     image_source_end(src, err);
	image_source_destroy(src);
	XXH3_freeState(hash);
	free(buf);
	return ok;
}

bool image_source_bad(struct image *img, const struct image_section *s,
		      const struct image_extent *e, struct error *err)
{
	return REFUSE(img, err, "section %s: the checksum of pages %llu to %llu is wrong", s->name,
		      (unsigned long long)e->first, (unsigned long long)(e->first + e->pages - 1));
}

bool image_verify(struct image *img, const struct image_section *s,
		  const struct image_progress *progress, struct error *err)
{
	return walk(img, s, NULL, -1, progress, err);
}

bool image_load(struct image *img, const struct image_section *s, uint8_t *to,
		const struct image_progress *progress, struct error *err)
{
	return walk(img, s, to, -1, progress, err);
}

bool image_load_fd(struct image *img, const struct image_section *s, int fd,
		   const struct image_progress *progress, struct error *err)
{
	return walk(img, s, NULL, fd, progress, err);
}

bool image_mappable(const struct image_section *s)
{
	return s->flags & IMAGE_SPARSE && !(s->flags & IMAGE_ZSTD);
}

int image_fd(const struct image *img)
{
	return img->fd;
}

bool image_changed(const struct image *img)
{
	struct stat st;

	return fstat(img->fd, &st) < 0 || st.st_size != img->st.st_size ||
	       st.st_mtim.tv_sec != img->st.st_mtim.tv_sec ||
	       st.st_mtim.tv_nsec != img->st.st_mtim.tv_nsec;
}
