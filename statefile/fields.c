/* See fields.h. A record: u8 name length, u8 type, u16 element size, u32 count, the name,
 * size * count bytes. */
#include "statefile/fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/loop.h"
#include "core/util.h"

enum { RECORD_HEAD = 8, TIMER_SIZE = 16 };

void state_buf_put(struct state_buf *b, const void *data, size_t len)
{
	if (b->failed)
		return;
	if (len > b->size - b->len) {
		size_t size = MAX(2 * b->size, b->len + len + 4096);
		uint8_t *grown = realloc(b->data, size);

		if (!grown) {
			b->failed = true;
			return;
		}
		b->data = grown;
		b->size = size;
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

void state_buf_finish(struct state_buf *b)
{
	free(b->data);
	*b = (struct state_buf){ .data = NULL };
}

static uint16_t stored_size(const struct state_field *f)
{
	return f->type == STATE_TYPE_TIMER ? TIMER_SIZE : f->size;
}

/* Where in the object element @i of a field is. */
static size_t element(const struct state_field *f, uint32_t i)
{
	return f->offset + (size_t)i * f->size;
}

void fields_save(struct state_buf *out, const struct state_field *fields, const void *base)
{
	for (const struct state_field *f = fields; f && f->type != STATE_TYPE_END; f++) {
		uint8_t head[RECORD_HEAD] = { strlen(f->name), f->type };

		store_le16(head + 2, stored_size(f));
		store_le32(head + 4, f->count);
		state_buf_put(out, head, sizeof(head));
		state_buf_put(out, f->name, head[0]);
		if (f->type != STATE_TYPE_TIMER) {
			state_buf_put(out, (const uint8_t *)base + f->offset, (size_t)f->size * f->count);
			continue;
		}
		for (uint32_t i = 0; i < f->count; i++) {
			const struct timer *t = (const void *)((const uint8_t *)base + element(f, i));
			int64_t pair[2] = { timer_armed(t), timer_armed(t) ? t->deadline : 0 };

			state_buf_put(out, pair, sizeof(pair));
		}
	}
}

bool fields_next(const uint8_t *data, size_t len, size_t *at, struct field_record *r,
		 struct error *err)
{
	const uint8_t *p = data + *at;
	size_t left = len - *at, name, bytes;

	if (left == 0)
		return false;
	if (left < RECORD_HEAD) {
		error_set(err, "half a field at its end");
		return false;
	}
	name = p[0];
	r->type = p[1];
	r->size = load_le16(p + 2);
	r->count = load_le32(p + 4);
	bytes = (size_t)r->size * r->count;
	if (name == 0 || name >= sizeof(r->name) || name > left - RECORD_HEAD ||
	    bytes > left - RECORD_HEAD - name) {
		error_set(err, "a field at byte %zu does not fit", *at);
		return false;
	}
	memcpy(r->name, p + RECORD_HEAD, name);
	r->name[name] = '\0';
	for (size_t i = 0; i < name; i++) {
		if (r->name[i] <= ' ' || r->name[i] > '~') {
			error_set(err, "a field at byte %zu has no proper name", *at);
			return false;
		}
	}
	r->data = p + RECORD_HEAD + name;
	*at += RECORD_HEAD + name + bytes;
	return true;
}

static uint64_t load_uint(const uint8_t *p, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, p, size);
	return v;
}

static bool check_value(const struct state_field *f, uint32_t i, uint64_t v, struct error *err)
{
	char which[80];

	if (v <= f->max && !(v & ~f->mask))
		return true;
	if (f->count > 1)
		snprintf(which, sizeof(which), "%s[%u]", f->name, i);
	else
		snprintf(which, sizeof(which), "%s", f->name);
	if (v > f->max)
		error_set(err, "field %s is 0x%llx, at most 0x%llx", which, (unsigned long long)v,
			  (unsigned long long)f->max);
	else
		error_set(err, "field %s is 0x%llx, but bits 0x%llx are always 0", which,
			  (unsigned long long)v, (unsigned long long)(v & ~f->mask));
	return false;
}

static bool take(const struct state_field *f, const struct field_record *r, void *scratch,
		 struct error *err)
{
	if (r->type != f->type || r->size != stored_size(f) || r->count != f->count) {
		error_set(err, "field %s: %u times %u bytes of kind %u, this gannet has %u times %u of kind %u",
			  f->name, r->count, r->size, r->type, f->count, stored_size(f), f->type);
		return false;
	}
	for (uint32_t i = 0; i < f->count && f->type != STATE_TYPE_BYTES; i++) {
		const uint8_t *p = r->data + (size_t)i * r->size;
		struct timer *t = (void *)((uint8_t *)scratch + element(f, i));

		if (f->type == STATE_TYPE_TIMER) {
			uint64_t armed = load_uint(p, 8);
			int64_t deadline = load_uint(p + 8, 8);

			/* 2^62 ns are 146 years; and sums of two must not overflow. */
			if (armed > 1 || deadline < 0 || deadline > INT64_MAX / 2) {
				error_set(err, "field %s: no timer has the deadline %lld", f->name,
					  (long long)deadline);
				return false;
			}
			t->slot = armed;
			t->deadline = deadline;
		} else if (!check_value(f, i, load_uint(p, f->size), err)) {
			return false;
		}
	}
	if (f->type != STATE_TYPE_TIMER)
		memcpy((uint8_t *)scratch + f->offset, r->data, (size_t)f->size * f->count);
	return true;
}

bool fields_parse(const uint8_t *data, size_t len, const struct state_field *fields, void *scratch,
		  bool older, struct error *err)
{
	const struct state_field *f = fields;
	struct field_record r;
	size_t at = 0;

	err->text[0] = '\0';
	while (fields_next(data, len, &at, &r, err)) {
		while (older && f->type != STATE_TYPE_END && strcmp(f->name, r.name))
			f++;
		if (f->type == STATE_TYPE_END || strcmp(f->name, r.name)) {
			error_set(err, "field %s: %s%s is expected here", r.name,
				  f->type == STATE_TYPE_END ? "nothing more" : "field ",
				  f->type == STATE_TYPE_END ? "" : f->name);
			return false;
		}
		if (!take(f, &r, scratch, err))
			return false;
		f++;
	}
	if (err->text[0])
		return false;
	if (f->type != STATE_TYPE_END && !older) {
		error_set(err, "field %s: is missing", f->name);
		return false;
	}
	return true;
}

void fields_apply(const struct state_field *fields, const void *scratch, void *live)
{
	for (const struct state_field *f = fields; f->type != STATE_TYPE_END; f++) {
		if (f->type != STATE_TYPE_TIMER) {
			memcpy((uint8_t *)live + f->offset, (const uint8_t *)scratch + f->offset,
			       (size_t)f->size * f->count);
			continue;
		}
		for (uint32_t i = 0; i < f->count; i++) {
			const struct timer *from = (const void *)((const uint8_t *)scratch + element(f, i));
			struct timer *to = (void *)((uint8_t *)live + element(f, i));

			if (from->slot)
				timer_arm(to, from->deadline);
			else
				timer_disarm(to);
		}
	}
}
