/* Writing a state image. See image.h.
 *
 * Nothing is written before the commit, because the table at the front holds every
 * length and checksum: plain sections wait in memory, sparse ones as references. Their
 * maps are completed while the pages go out, and the front is written last. So a file
 * that was cut short by a crash has no header. Images hold the guest's memory: only
 * their owner can read them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
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

enum { PARTIAL_SUFFIX = sizeof(".XXXXXX.partial") - 1, TAIL = sizeof(".partial") - 1 };

struct pending {
	struct image_entry entry;
	uint8_t *data;               /* plain: content; owned */
	const uint8_t *memory;       /* sparse: borrowed; or NULL and one of: */
	int fd;
	struct image *from;          /* borrowed; with its section: */
	const struct image_section *from_section;
	struct image_source *source; /* during the commit */
	struct image_extent *extent; /* sparse: the data of the map section that follows; borrowed from it */
	size_t extents;
};

struct image_writer {
	char *path, *partial;
	int fd;
	int level; /* 0: not compressed */
	struct pending *section;
	unsigned count;
	uint64_t written, done, total;
	bool committed;
	const struct image_progress *progress;
};

struct image_writer *image_writer_create(const char *path, struct error *err)
{
	struct image_writer *w = calloc(1, sizeof(*w));
	struct stat st;

	if (!w)
		goto no_memory;
	w->fd = -1;
	w->path = strdup(path);
	w->partial = malloc(strlen(path) + PARTIAL_SUFFIX + 1);
	w->section = calloc(IMAGE_SECTIONS_MAX, sizeof(*w->section));
	if (!w->path || !w->partial || !w->section)
		goto no_memory;
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		error_set(err, "%s: not a regular file; an image cannot take its place", path);
		image_writer_destroy(w);
		return NULL;
	}
	sprintf(w->partial, "%s.XXXXXX.partial", path);
	w->fd = mkostemps(w->partial, TAIL, O_CLOEXEC);
	if (w->fd < 0) {
		error_set(err, "%s: cannot be written: %s", path, strerror(errno));
		image_writer_destroy(w);
		return NULL;
	}
	return w;
no_memory:
	error_set(err, "%s: out of memory", path);
	image_writer_destroy(w);
	return NULL;
}

void image_writer_destroy(struct image_writer *w)
{
	if (!w)
		return;
	if (w->fd >= 0) {
		close(w->fd);
		if (!w->committed)
			unlink(w->partial);
	}
	for (unsigned i = 0; i < w->count; i++)
		free(w->section[i].data);
	free(w->section);
	free(w->path);
	free(w->partial);
	free(w);
}

static struct pending *add(struct image_writer *w, const char *name, uint32_t version,
			   uint32_t flags, struct error *err)
{
	struct pending *p = &w->section[w->count];

	if (w->count == IMAGE_SECTIONS_MAX || strlen(name) >= IMAGE_NAME_SIZE) {
		error_set(err, "%s: section %s: too many sections, or too long a name", w->path, name);
		return NULL;
	}
	if (!*name || !image_name_ok(name, strlen(name))) {
		error_set(err, "%s: section %s: no proper name", w->path, name);
		return NULL;
	}
	for (unsigned i = 0; i < w->count; i++) {
		if (!strcmp(w->section[i].entry.name, name)) {
			error_set(err, "%s: section %s: is there twice", w->path, name);
			return NULL;
		}
	}
	memset(p, 0, sizeof(*p));
	p->fd = -1;
	strcpy(p->entry.name, name);
	p->entry.version = version;
	p->entry.flags = flags;
	w->count++;
	return p;
}

bool image_writer_add(struct image_writer *w, const char *name, uint32_t version, uint32_t flags,
		      const void *data, size_t len, struct error *err)
{
	struct pending *p;

	if (len > IMAGE_PLAIN_MAX) {
		error_set(err, "%s: section %s: %zu bytes, more than %llu", w->path, name, len,
			  IMAGE_PLAIN_MAX);
		return false;
	}
	p = add(w, name, version, flags & IMAGE_OPTIONAL, err);
	if (!p)
		return false;
	p->data = malloc(MAX(len, 1));
	if (!p->data) {
		error_set(err, "%s: out of memory", w->path);
		return false;
	}
	memcpy(p->data, data, len);
	p->entry.length = p->entry.stored = len;
	return true;
}

bool image_writer_add_sparse(struct image_writer *w, const char *name, uint64_t length,
			     const uint8_t *memory, int fd, const struct image_extent *extent,
			     size_t count, struct error *err)
{
	char map[IMAGE_NAME_SIZE + sizeof(IMAGE_MAP_SUFFIX)];
	struct pending *p;
	size_t bad = image_map_check(extent, count, length / IMAGE_PAGE);

	if (length % IMAGE_PAGE || length > IMAGE_SPARSE_MAX || bad < count) {
		error_set(err, "%s: section %s: extent %zu or the length %llu is impossible", w->path, name,
			  bad, (unsigned long long)length);
		return false;
	}
	/* The map first: who reads in order knows what is there before it comes. */
	snprintf(map, sizeof(map), "%s%s", name, IMAGE_MAP_SUFFIX);
	if (!image_writer_add(w, map, 1, 0, extent, count * sizeof(*extent), err))
		return false;
	p = add(w, name, 1, IMAGE_SPARSE, err);
	if (!p)
		return false;
	p->memory = memory;
	p->fd = fd;
	p->extent = (struct image_extent *)w->section[w->count - 2].data;
	p->extents = count;
	p->entry.length = length;
	for (size_t i = 0; i < count; i++)
		w->total += extent[i].pages * IMAGE_PAGE;
	return true;
}

bool image_writer_copy(struct image_writer *w, struct image *from, const struct image_section *s,
		       struct error *err)
{
	size_t count;
	const struct image_extent *extent = image_map(from, s, &count);
	struct pending *p;

	if (!image_writer_add_sparse(w, s->name, s->length, NULL, -1, extent, count, err))
		return false;
	p = &w->section[w->count - 1];
	p->entry.version = s->version;
	p->entry.flags |= s->flags & IMAGE_OPTIONAL;
	p->from = from;
	p->from_section = s;
	return true;
}

bool image_writer_compress(struct image_writer *w, int level, struct error *err)
{
	if (!HAVE_ZSTD) {
		error_set(err, "%s: this gannet was built without zstd and cannot compress", w->path);
		return false;
	}
	w->level = level;
	return true;
}

/* ---- the commit ---- */

static bool write_at(struct image_writer *w, const void *data, size_t len, uint64_t offset,
		     struct error *err)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = pwrite(w->fd, p, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			error_set(err, "%s: cannot be written: %s", w->path,
				  strerror(n ? errno : ENOSPC));
			return false;
		}
		p += n;
		offset += n;
		len -= n;
		w->written += n;
	}
	return true;
}

static void step(struct image_writer *w, size_t n)
{
	w->done += n;
	if (w->progress)
		w->progress->step(w->progress->opaque, w->done, w->total);
}

/* The next piece of an extent's bytes; NULL if the source cannot be read. */
static const uint8_t *piece(struct image_writer *w, const struct pending *p, uint64_t offset,
			    size_t n, uint8_t *buf, struct error *err)
{
	size_t got = 0;

	if (p->memory)
		return p->memory + offset;
	if (p->source)
		return image_source_read(p->source, offset, buf, n, err) ? buf : NULL;
	while (got < n) {
		ssize_t r = pread(p->fd, buf + got, n - got, offset + got);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			error_set(err, "%s: section %s: its source cannot be read: %s", w->path,
				  p->entry.name, strerror(r ? errno : EIO));
			return NULL;
		}
		got += r;
	}
	return buf;
}

/* What is copied from another image must still be what was written there. */
static bool take_hash(const struct pending *p, struct image_extent *e, uint64_t hash,
		      struct error *err)
{
	if (p->source && e->xxh3 != hash)
		return image_source_bad(p->from, p->from_section, e, err);
	e->xxh3 = hash;
	return true;
}

static bool write_plain_pages(struct image_writer *w, struct pending *p, uint8_t *buf,
			      struct error *err)
{
	XXH3_state_t *hash = XXH3_createState();
	bool ok = hash != NULL;

	if (!ok)
		error_set(err, "%s: out of memory", w->path);
	for (size_t i = 0; ok && i < p->extents; i++) {
		uint64_t at = p->extent[i].first * IMAGE_PAGE;
		uint64_t left = p->extent[i].pages * IMAGE_PAGE;

		XXH3_64bits_reset(hash);
		while (ok && left) {
			size_t n = MIN(left, IMAGE_CHUNK);
			const uint8_t *from = piece(w, p, at, n, buf, err);

			ok = from && write_at(w, from, n, p->entry.offset + at, err);
			if (!ok)
				break;
			XXH3_64bits_update(hash, from, n);
			at += n;
			left -= n;
			step(w, n);
		}
		ok = ok && take_hash(p, &p->extent[i], XXH3_64bits_digest(hash), err);
	}
	XXH3_freeState(hash);
	return ok;
}

#if HAVE_ZSTD
static bool zstd_pump(struct image_writer *w, struct pending *p, ZSTD_CCtx *z, ZSTD_inBuffer *in,
		      ZSTD_EndDirective mode, uint8_t *out, struct error *err)
{
	size_t left;

	do {
		ZSTD_outBuffer o = { out, IMAGE_CHUNK, 0 };

		left = ZSTD_compressStream2(z, &o, in, mode);
		if (ZSTD_isError(left)) {
			error_set(err, "%s: section %s: %s", w->path, p->entry.name,
				  ZSTD_getErrorName(left));
			return false;
		}
		if (!write_at(w, out, o.pos, p->entry.offset + p->entry.stored, err))
			return false;
		p->entry.stored += o.pos;
	} while (mode == ZSTD_e_end ? left != 0 : in->pos < in->size);
	return true;
}

static bool write_compressed(struct image_writer *w, struct pending *p, uint8_t *buf,
			     struct error *err)
{
	ZSTD_CCtx *z = ZSTD_createCCtx();
	XXH3_state_t *hash = XXH3_createState();
	uint8_t *out = malloc(IMAGE_CHUNK);
	bool ok = z && hash && out;

	if (!ok)
		error_set(err, "%s: out of memory", w->path);
	if (ok)
		ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, w->level);
	/* The highest levels would take more than readers allow. */
	if (ok && w->level > 16)
		ZSTD_CCtx_setParameter(z, ZSTD_c_windowLog, IMAGE_WINDOW_LOG);
	p->entry.flags |= IMAGE_ZSTD;
	for (size_t i = 0; ok && i < p->extents; i++) {
		uint64_t at = p->extent[i].first * IMAGE_PAGE;
		uint64_t left = p->extent[i].pages * IMAGE_PAGE;

		XXH3_64bits_reset(hash);
		while (ok && left) {
			size_t n = MIN(left, IMAGE_CHUNK);
			const uint8_t *from = piece(w, p, at, n, buf, err);
			ZSTD_inBuffer in = { from, n, 0 };

			ok = from && zstd_pump(w, p, z, &in, ZSTD_e_continue, out, err);
			if (!ok)
				break;
			XXH3_64bits_update(hash, from, n);
			at += n;
			left -= n;
			step(w, n);
		}
		ok = ok && take_hash(p, &p->extent[i], XXH3_64bits_digest(hash), err);
	}
	if (ok) {
		ZSTD_inBuffer in = { NULL, 0, 0 };

		ok = zstd_pump(w, p, z, &in, ZSTD_e_end, out, err);
	}
	ZSTD_freeCCtx(z);
	XXH3_freeState(hash);
	free(out);
	return ok;
}
#else
static bool write_compressed(struct image_writer *w, struct pending *p, uint8_t *buf,
			     struct error *err)
{
	return write_plain_pages(w, p, buf, err);
}
#endif

static uint64_t align(uint64_t offset, uint64_t to)
{
	return (offset + to - 1) & ~(to - 1);
}

/* One after the other, in the order of the table. Plain ones only get their place here:
 * maps are not complete before their pages are written. */
static bool write_sections(struct image_writer *w, uint64_t *end, struct error *err)
{
	uint8_t *buf = malloc(IMAGE_CHUNK);
	bool ok = buf != NULL;

	if (!ok)
		error_set(err, "%s: out of memory", w->path);
	for (unsigned i = 0; ok && i < w->count; i++) {
		struct pending *p = &w->section[i];

		if (!(p->entry.flags & IMAGE_SPARSE)) {
			p->entry.offset = align(*end, 8);
			*end = p->entry.offset + p->entry.stored;
			continue;
		}
		p->entry.offset = *end = align(*end, IMAGE_PAGE);
		if (p->from && !(p->source = image_source_create(p->from, p->from_section, err))) {
			ok = false;
			break;
		}
		if (w->level) {
			ok = write_compressed(w, p, buf, err);
		} else {
			p->entry.stored = p->entry.length;
			ok = write_plain_pages(w, p, buf, err);
		}
		ok = ok && (!p->source || image_source_end(p->source, err));
		image_source_destroy(p->source);
		p->source = NULL;
		*end += p->entry.stored;
	}
	free(buf);
	return ok;
}

static bool write_front(struct image_writer *w, uint64_t end, struct error *err)
{
	size_t table_size = w->count * sizeof(struct image_entry);
	struct image_entry *table = malloc(table_size + 1);
	struct image_header h = { .version = IMAGE_VERSION, .sections = w->count, .file_size = end };
	bool ok = table != NULL;

	if (!ok)
		error_set(err, "%s: out of memory", w->path);
	for (unsigned i = 0; ok && i < w->count; i++) {
		struct pending *p = &w->section[i];

		if (p->data) {
			p->entry.xxh3 = XXH3_64bits(p->data, p->entry.length);
			ok = write_at(w, p->data, p->entry.length, p->entry.offset, err);
		}
		table[i] = p->entry;
	}
	if (ok) {
		memcpy(h.magic, IMAGE_MAGIC, sizeof(h.magic));
		h.table_xxh3 = XXH3_64bits(table, table_size);
		h.xxh3 = XXH3_64bits(&h, offsetof(struct image_header, xxh3));
		ok = write_at(w, table, table_size, sizeof(h), err) &&
		     write_at(w, &h, sizeof(h), 0, err);
	}
	free(table);
	return ok;
}

/* A rename is only on the medium when its directory is. */
static void sync_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, MAX(slash - path, 1)) : strdup(".");
	int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	free(dir);
}

bool image_writer_commit(struct image_writer *w, const struct image_progress *progress,
			 struct error *err)
{
	uint64_t end = sizeof(struct image_header) + w->count * sizeof(struct image_entry);

	w->progress = progress;
	if (!write_sections(w, &end, err) || !write_front(w, end, err))
		return false;
	if (ftruncate(w->fd, end) < 0 || fsync(w->fd) < 0 || rename(w->partial, w->path) < 0) {
		error_set(err, "%s: cannot be written: %s", w->path, strerror(errno));
		return false;
	}
	w->committed = true;
	sync_directory(w->path);
	return true;
}

uint64_t image_writer_bytes(const struct image_writer *w)
{
	return w->written;
}
