/* What info and diff share: sections taken apart, and text that cannot harm a terminal or
 * a JSON parser, whatever an image holds. */
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/util.h"
#include "tools/state_priv.h"

enum { VALUES_SHOWN = 16 };

bool state_is_map(struct image *img, const struct image_section *s)
{
	size_t len = strlen(s->name);

	for (unsigned i = 0; image_section(img, i); i++) {
		const struct image_section *of = image_section(img, i);

		if (of->flags & IMAGE_SPARSE && len == strlen(of->name) + 4 &&
		    !strncmp(of->name, s->name, len - 4) && !strcmp(s->name + len - 4, ".map"))
			return true;
	}
	return false;
}

bool state_has_fields(struct image *img, const struct image_section *s, unsigned *count)
{
	struct field_record r;
	struct error err = { "" };
	size_t at = 0;
	unsigned n = 0;

	if (s->flags & IMAGE_SPARSE || !strcmp(s->name, "config") || state_is_map(img, s))
		return false;
	while (fields_next(s->data, s->length, &at, &r, &err)) {
		if (r.type == STATE_TYPE_UINT && r.size != 1 && r.size != 2 && r.size != 4 && r.size != 8)
			return false;
		if (r.type == STATE_TYPE_TIMER && r.size != 16)
			return false;
		n++;
	}
	if (count)
		*count = n;
	return !err.text[0];
}

bool state_field(const struct image_section *s, const char *name, struct field_record *r)
{
	struct error err;
	size_t at = 0;

	while (fields_next(s->data, s->length, &at, r, &err)) {
		if (!strcmp(r->name, name))
			return true;
	}
	return false;
}

uint64_t state_element(const struct field_record *r, uint32_t n)
{
	uint64_t v = 0;

	memcpy(&v, r->data + (size_t)n * r->size, MIN(r->size, 8));
	return v;
}

uint64_t state_uint(struct image *img, const char *section, const char *name, uint64_t missing)
{
	const struct image_section *s = image_find(img, section);
	struct field_record r;

	if (!s || !state_has_fields(img, s, NULL) || !state_field(s, name, &r) || !r.count ||
	    r.type == STATE_TYPE_TIMER)
		return missing;
	return state_element(&r, 0);
}

uint64_t state_used(struct image *img, const struct image_section *s)
{
	size_t count;
	const struct image_extent *e = image_map(img, s, &count);
	uint64_t used = 0;

	for (size_t i = 0; i < count; i++)
		used += e[i].pages;
	return used;
}

/* ---- text ---- */

void state_text(FILE *f, const uint8_t *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] < ' ' || text[i] > '~')
			fprintf(f, "%%%02x", text[i]);
		else
			fputc(text[i], f);
	}
}

void state_json(FILE *f, const uint8_t *text, size_t len)
{
	fputc('"', f);
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '"' || text[i] == '\\')
			fputc('\\', f);
		state_text(f, text + i, 1);
	}
	fputc('"', f);
}

static void bytes(FILE *f, const uint8_t *p, size_t len, bool whole)
{
	size_t shown = whole ? len : MIN(len, 2 * VALUES_SHOWN);

	for (size_t i = 0; i < shown; i++)
		fprintf(f, "%02x", p[i]);
	if (shown < len)
		fprintf(f, "... (%zu bytes)", len);
}

void state_value(FILE *f, const struct field_record *r, bool whole)
{
	uint32_t shown = whole ? r->count : MIN(r->count, VALUES_SHOWN);

	if (r->type == STATE_TYPE_BYTES || r->type > STATE_TYPE_TIMER || r->type == STATE_TYPE_END) {
		bytes(f, r->data, (size_t)r->size * r->count, whole);
		return;
	}
	for (uint32_t i = 0; i < shown; i++) {
		uint64_t v = state_element(r, i);

		if (i)
			fputc(' ', f);
		if (r->type == STATE_TYPE_BOOL)
			fputs(v ? "true" : "false", f);
		else if (r->type == STATE_TYPE_UINT)
			fprintf(f, "0x%" PRIx64, v);
		else if (!v)
			fputs("off", f);
		else
			fprintf(f, "at %.9f s", load_le64(r->data + (size_t)i * 16 + 8) / 1e9);
	}
	if (shown < r->count)
		fprintf(f, " ... (%u values)", r->count);
}

bool config_next(const struct image_section *s, size_t *at, struct config_line *line)
{
	const uint8_t *p = s->data + *at, *end, *equals;

	if (*at >= s->length)
		return false;
	end = memchr(p, '\n', s->length - *at);
	if (!end)
		end = s->data + s->length;
	equals = memchr(p, '=', end - p);
	line->name = p;
	line->name_len = (equals ? equals : end) - p;
	line->value = equals ? equals + 1 : end;
	line->value_len = end - line->value;
	*at = MIN((size_t)(end - s->data) + 1, s->length);
	return true;
}

const char *state_size(char buf[32], uint64_t bytes)
{
	static const char *const unit[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	double v = bytes;
	unsigned n = 0;

	while (v >= 1024 && n + 1 < ARRAY_SIZE(unit)) {
		v /= 1024;
		n++;
	}
	snprintf(buf, 32, n && v < 1000 && v != (uint64_t)v ? "%.1f %s" : "%.0f %s", v, unit[n]);
	return buf;
}

/* ---- progress ---- */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

static void step(void *opaque, uint64_t done, uint64_t total)
{
	struct state_progress *p = opaque;
	int64_t now = now_ms();

	if (now - p->started < 1000 || now - p->shown < 100 || !total)
		return;
	p->shown = now;
	fprintf(stderr, "\r%s: %3u%%", p->what, (unsigned)(100.0 * done / total));
	fflush(stderr);
}

static void silent(void *opaque, uint64_t done, uint64_t total)
{
	(void)opaque;
	(void)done;
	(void)total;
}

void state_progress_init(struct state_progress *p, const char *what)
{
	*p = (struct state_progress){
		.progress = { isatty(STDERR_FILENO) ? step : silent, p }, .what = what,
		.started = now_ms(),
	};
}

void state_progress_finish(struct state_progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
}
