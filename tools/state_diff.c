/* gannet state diff: what two images do not have in common. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/util.h"
#include "tools/state_priv.h"

enum { RUN_MAX = 256 }; /* pages compared at a time */

struct diff {
	const struct state_options *o;
	struct image *a, *b;
	unsigned count; /* of differences so far */
};

/* ---- output ---- */

/* A difference in @section; what it is follows, and diff_end(). */
static void diff_begin(struct diff *d, const char *section)
{
	if (d->o->json) {
		printf("%s{\"section\": ", d->count ? ", " : "");
		state_json(stdout, (const uint8_t *)section, strlen(section));
	} else {
		printf("%s", section);
	}
	d->count++;
}

static void diff_end(struct diff *d)
{
	fputs(d->o->json ? "}" : "\n", stdout);
}

static void only_in(struct diff *d, const char *section, const char *name, size_t len,
		    const char *which)
{
	diff_begin(d, section);
	if (d->o->json) {
		if (name) {
			printf(", \"name\": ");
			state_json(stdout, (const uint8_t *)name, len);
		}
		printf(", \"only\": \"%s\"", which);
	} else {
		if (name) {
			putchar(' ');
			state_text(stdout, (const uint8_t *)name, len);
		}
		printf(": only in %s", which[0] == 'a' ? image_path(d->a) : image_path(d->b));
	}
	diff_end(d);
}

static void text_pair(struct diff *d, const char *section, const uint8_t *name, size_t name_len,
		      const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
	diff_begin(d, section);
	if (d->o->json) {
		printf(", \"name\": ");
		state_json(stdout, name, name_len);
		printf(", \"a\": ");
		state_json(stdout, a, a_len);
		printf(", \"b\": ");
		state_json(stdout, b, b_len);
	} else {
		putchar(' ');
		state_text(stdout, name, name_len);
		printf(": ");
		state_text(stdout, a, a_len);
		printf(" -> ");
		state_text(stdout, b, b_len);
	}
	diff_end(d);
}

static void number_pair(struct diff *d, const char *section, const char *name, uint64_t a,
			uint64_t b)
{
	char x[24], y[24];

	snprintf(x, sizeof(x), "%" PRIu64, a);
	snprintf(y, sizeof(y), "%" PRIu64, b);
	text_pair(d, section, (const uint8_t *)name, strlen(name), (uint8_t *)x, strlen(x), (uint8_t *)y,
		  strlen(y));
}

/* ---- settings ---- */

static bool setting(const struct image_section *s, const struct config_line *want,
		    struct config_line *found)
{
	for (size_t at = 0; config_next(s, &at, found);) {
		if (found->name_len == want->name_len &&
		    !memcmp(found->name, want->name, want->name_len))
			return true;
	}
	return false;
}

static void diff_config(struct diff *d, const struct image_section *a,
			const struct image_section *b)
{
	struct config_line l, other;

	for (size_t at = 0; config_next(a, &at, &l);) {
		if (!setting(b, &l, &other))
			only_in(d, a->name, (const char *)l.name, l.name_len, "a");
		else if (l.value_len != other.value_len || memcmp(l.value, other.value, l.value_len))
			text_pair(d, a->name, l.name, l.name_len, l.value, l.value_len, other.value,
				  other.value_len);
	}
	for (size_t at = 0; config_next(b, &at, &l);) {
		if (!setting(a, &l, &other))
			only_in(d, b->name, (const char *)l.name, l.name_len, "b");
	}
}

/* ---- fields ---- */

static bool same_record(const struct field_record *a, const struct field_record *b)
{
	return a->type == b->type && a->size == b->size && a->count == b->count &&
	       !memcmp(a->data, b->data, (size_t)a->size * a->count);
}

/* Of a long field only where it differs: "chip.ram +0x40: 00ff... -> 01ff...". */
static void diff_record(struct diff *d, const char *section, const struct field_record *a,
			const struct field_record *b)
{
	struct field_record x = *a, y = *b;
	size_t unit = a->size, from = 0;
	bool part = a->type == b->type && a->size == b->size && a->count == b->count && a->count > 1;

	if (part) {
		size_t to = a->count;

		while (from < to && !memcmp(a->data + from * unit, b->data + from * unit, unit))
			from++;
		while (to > from && !memcmp(a->data + (to - 1) * unit, b->data + (to - 1) * unit, unit))
			to--;
		x.data += from * unit;
		y.data += from * unit;
		x.count = y.count = to - from;
	}
	diff_begin(d, section);
	if (d->o->json) {
		printf(", \"name\": ");
		state_json(stdout, (const uint8_t *)a->name, strlen(a->name));
		if (part)
			printf(", \"first\": %zu, \"count\": %u", from, x.count);
		printf(", \"a\": \"");
		state_value(stdout, &x, true);
		printf("\", \"b\": \"");
		state_value(stdout, &y, true);
		printf("\"");
	} else {
		printf(" %s", a->name);
		if (part && x.count == 1)
			printf("[%zu]", from);
		else if (part)
			printf("[%zu-%zu]", from, from + x.count - 1);
		printf(": ");
		state_value(stdout, &x, false);
		printf(" -> ");
		state_value(stdout, &y, false);
	}
	diff_end(d);
}

static void diff_fields(struct diff *d, const struct image_section *a,
			const struct image_section *b)
{
	struct field_record r, other;
	struct error err;

	for (size_t at = 0; fields_next(a->data, a->length, &at, &r, &err);) {
		if (!state_field(b, r.name, &other))
			only_in(d, a->name, r.name, strlen(r.name), "a");
		else if (!same_record(&r, &other))
			diff_record(d, a->name, &r, &other);
	}
	for (size_t at = 0; fields_next(b->data, b->length, &at, &r, &err);) {
		if (!state_field(a, r.name, &other))
			only_in(d, b->name, r.name, strlen(r.name), "b");
	}
}

/* ---- pages ---- */

/* A sparse section's pages by their number, from the image or from where it was unpacked. */
struct pages {
	int fd, unpacked; /* unpacked: ours, or -1 */
	uint64_t base, count;
	const struct image_extent *extent;
	size_t extents, at;
};

static bool pages_open(struct pages *p, struct image *img, const struct image_section *s,
		       struct error *err)
{
	struct state_progress progress;
	bool ok;

	*p = (struct pages){ .fd = image_fd(img), .unpacked = -1, .base = s->offset,
			     .count = s->length / IMAGE_PAGE };
	p->extent = image_map(img, s, &p->extents);
	state_progress_init(&progress, image_path(img));
	if (image_mappable(s)) {
		ok = image_verify(img, s, &progress.progress, err);
	} else {
		p->fd = p->unpacked = memfd_create("gannet-diff", MFD_CLOEXEC);
		p->base = 0;
		ok = p->fd >= 0;
		if (ok)
			ok = image_load_fd(img, s, p->fd, &progress.progress, err);
		else
			error_set(err, "%s: no memory to unpack it", image_path(img));
	}
	state_progress_finish(&progress);
	return ok;
}

static void pages_close(struct pages *p)
{
	if (p->unpacked >= 0)
		close(p->unpacked);
}

/* The extent that holds @page or the next one behind it; pages are asked for in order. */
static const struct image_extent *extent_at(struct pages *p, uint64_t page)
{
	while (p->at < p->extents && p->extent[p->at].first + p->extent[p->at].pages <= page)
		p->at++;
	return p->at < p->extents ? &p->extent[p->at] : NULL;
}

/* From @page on: how many pages are there (*@there), or are not, up to @limit. */
static uint64_t stretch(struct pages *p, uint64_t page, uint64_t limit, bool *there)
{
	const struct image_extent *e = extent_at(p, page);

	*there = e && e->first <= page;
	if (!e)
		return limit;
	return MIN(limit, *there ? e->first + e->pages - page : e->first - page);
}

static bool fill(struct pages *p, uint64_t page, uint64_t count, bool there, uint8_t *buf,
		 struct error *err)
{
	size_t len = count * IMAGE_PAGE;

	memset(buf, 0, len);
	if (there && pread(p->fd, buf, len, p->base + page * IMAGE_PAGE) < 0) {
		error_set(err, "memory cannot be read");
		return false;
	}
	return true;
}

static void range(struct diff *d, const char *section, uint64_t first, uint64_t pages)
{
	if (!pages)
		return;
	diff_begin(d, section);
	if (d->o->json)
		printf(", \"first_page\": %" PRIu64 ", \"pages\": %" PRIu64, first, pages);
	else
		printf(" 0x%08" PRIx64 "-0x%08" PRIx64 ": %" PRIu64 " page%s", first * IMAGE_PAGE,
		       (first + pages) * IMAGE_PAGE - 1, pages, pages == 1 ? "" : "s");
	diff_end(d);
}

static bool compare_pages(struct diff *d, const char *section, struct pages *a, struct pages *b,
			  struct error *err)
{
	uint64_t limit = MIN(a->count, b->count), first = 0, run = 0, total = 0;
	uint8_t *x = malloc(2 * RUN_MAX * IMAGE_PAGE), *y = x + RUN_MAX * IMAGE_PAGE;
	bool ok = x != NULL;

	if (!ok)
		error_set(err, "out of memory");
	for (uint64_t page = 0; ok && page < limit;) {
		bool in_a, in_b;
		uint64_t n = stretch(a, page, limit - page, &in_a);

		n = stretch(b, page, n, &in_b);
		if (!in_a && !in_b) {
			page += n;
			continue;
		}
		n = MIN(n, RUN_MAX);
		ok = fill(a, page, n, in_a, x, err) && fill(b, page, n, in_b, y, err);
		for (uint64_t i = 0; ok && i < n; i++) {
			if (!memcmp(x + i * IMAGE_PAGE, y + i * IMAGE_PAGE, IMAGE_PAGE))
				continue;
			total++;
			if (run && first + run == page + i) {
				run++;
				continue;
			}
			range(d, section, first, run);
			first = page + i;
			run = 1;
		}
		page += n;
	}
	range(d, section, first, run);
	if (total && !d->o->json)
		printf("%s: %" PRIu64 " of %" PRIu64 " pages differ\n", section, total, limit);
	free(x);
	return ok;
}

static bool diff_sparse(struct diff *d, const struct image_section *a,
			const struct image_section *b, struct error *err)
{
	struct pages x = { .unpacked = -1 }, y = { .unpacked = -1 };
	bool ok;

	if (a->length != b->length)
		number_pair(d, a->name, "size", a->length, b->length);
	ok = pages_open(&x, d->a, a, err) && pages_open(&y, d->b, b, err) &&
	     compare_pages(d, a->name, &x, &y, err);
	pages_close(&x);
	pages_close(&y);
	return ok;
}

/* ---- sections ---- */

static bool diff_section(struct diff *d, const struct image_section *a,
			 const struct image_section *b, struct error *err)
{
	if (a->version != b->version)
		number_pair(d, a->name, "version", a->version, b->version);
	if ((a->flags ^ b->flags) & IMAGE_OPTIONAL)
		number_pair(d, a->name, "optional", a->flags & IMAGE_OPTIONAL, b->flags & IMAGE_OPTIONAL);
	if ((a->flags ^ b->flags) & IMAGE_SPARSE) {
		number_pair(d, a->name, "sparse", !!(a->flags & IMAGE_SPARSE), !!(b->flags & IMAGE_SPARSE));
		return true;
	}
	if (a->flags & IMAGE_SPARSE)
		return diff_sparse(d, a, b, err);
	if (a->length == b->length && !memcmp(a->data, b->data, a->length))
		return true;
	if (!strcmp(a->name, "config")) {
		diff_config(d, a, b);
	} else if (state_has_fields(d->a, a, NULL) && state_has_fields(d->b, b, NULL)) {
		diff_fields(d, a, b);
	} else {
		struct field_record x = { .type = STATE_TYPE_BYTES, .size = 1, .count = a->length,
					  .data = a->data };
		struct field_record y = { .type = STATE_TYPE_BYTES, .size = 1, .count = b->length,
					  .data = b->data };

		strcpy(x.name, "bytes");
		diff_record(d, a->name, &x, &y);
	}
	return true;
}

static bool diff_all(struct diff *d, struct error *err)
{
	const struct image_section *s, *other;

	for (unsigned i = 0; (s = image_section(d->a, i)); i++) {
		other = image_find(d->b, s->name);
		if (state_is_map(d->a, s))
			continue;
		if (!other)
			only_in(d, s->name, NULL, 0, "a");
		else if (!diff_section(d, s, other, err))
			return false;
	}
	for (unsigned i = 0; (s = image_section(d->b, i)); i++) {
		if (!state_is_map(d->b, s) && !image_find(d->a, s->name))
			only_in(d, s->name, NULL, 0, "b");
	}
	return true;
}

int state_diff(const struct state_options *o, const char *a, const char *b, struct error *err)
{
	struct diff d = { .o = o, .a = image_open(a, err) };
	bool ok;

	d.b = d.a ? image_open(b, err) : NULL;
	ok = d.b != NULL;
	if (ok && o->json)
		printf("{\"differences\": [");
	ok = ok && diff_all(&d, err);
	if (d.b && o->json)
		printf("], \"same\": %s}\n", ok && !d.count ? "true" : "false");
	image_close(d.a);
	image_close(d.b);
	return !ok ? STATE_ERROR : d.count ? STATE_DIFFERENT : STATE_SAME;
}
