/* Field tables to records and back: values as they were, and each thing that may be
 * wrong with a record named. Records are made here byte by byte. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/loop.h"
#include "core/util.h"
#include "statefile/fields.h"

struct thing {
	uint8_t a, mode;
	uint16_t flags;
	uint32_t array[3];
	uint64_t big;
	bool on;
	uint8_t opaque[5];
	struct timer timer;
	int unsaved;
};

static const struct state_field table[] = {
	STATE_UINT(struct thing, a),
	STATE_UINT_MAX(struct thing, mode, 4),
	STATE_UINT_MASKED(struct thing, flags, 0x0ff0),
	{ "array", offsetof(struct thing, array), STATE_TYPE_UINT, 4, 3, 1000, UINT64_MAX },
	STATE_UINT(struct thing, big),
	STATE_BOOL(struct thing, on),
	STATE_BYTES(struct thing, opaque),
	STATE_TIMER(struct thing, timer),
	STATE_END,
};

struct world {
	struct thing live, copy;
	struct state_buf buf;
	struct loop *loop;
	struct error err;
	unsigned fired;
};

static void kick(void *opaque)
{
	(void)opaque;
}

static void fire(void *opaque)
{
	((struct world *)opaque)->fired++;
}

static void init(struct world *w)
{
	memset(w, 0, sizeof(*w));
	w->loop = loop_create(kick, NULL, &w->err);
	ck_assert_ptr_nonnull(w->loop);
	w->live = (struct thing){
		.a = 0xab, .mode = 4, .flags = 0x0ff0, .array = { 1, 1000, 0 }, .big = UINT64_MAX - 1,
		.on = true, .opaque = { 0, 255, 1, 2, 3 }, .unsaved = 77,
	};
	timer_init(&w->live.timer, w->loop, "test", fire, w);
}

static void finish(struct world *w)
{
	timer_disarm(&w->live.timer);
	loop_destroy(w->loop);
	state_buf_finish(&w->buf);
}

/* One record. */
static void put(struct world *w, const char *name, unsigned type, unsigned size, uint32_t count,
		const void *data, size_t len)
{
	uint8_t head[8] = { strlen(name), type };

	store_le16(head + 2, size);
	store_le32(head + 4, count);
	state_buf_put(&w->buf, head, 8);
	state_buf_put(&w->buf, name, strlen(name));
	state_buf_put(&w->buf, data, len);
}

static void put_uint(struct world *w, const char *name, unsigned size, uint64_t v)
{
	put(w, name, 1, size, 1, &v, size);
}

static void put_timer(struct world *w, uint64_t armed, uint64_t deadline)
{
	uint64_t pair[2] = { armed, deadline };

	put(w, "timer", 4, 16, 1, pair, sizeof(pair));
}

/* The whole table with good values, except that record @skip is left to the caller. */
static void good_until(struct world *w, const char *skip)
{
	static const uint32_t array[3] = { 5, 6, 7 };
	bool done = false;

	w->buf.len = 0;
	for (const struct state_field *f = table; f->type != STATE_TYPE_END && !done; f++) {
		done = !strcmp(f->name, skip);
		if (done)
			break;
		if (!strcmp(f->name, "array"))
			put(w, "array", 1, 4, 3, array, sizeof(array));
		else if (!strcmp(f->name, "on"))
			put(w, "on", 2, 1, 1, "\1", 1);
		else if (!strcmp(f->name, "opaque"))
			put(w, "opaque", 3, 1, 5, "abcde", 5);
		else if (!strcmp(f->name, "timer"))
			put_timer(w, 1, 500);
		else
			put_uint(w, f->name, f->size, !strcmp(f->name, "flags") ? 0x10 : 3);
	}
}

static bool parse(struct world *w, bool older)
{
	w->copy = w->live;
	return fields_parse(w->buf.data, w->buf.len, table, &w->copy, older, &w->err);
}

static void refused(struct world *w, bool older, const char *text)
{
	struct thing before = w->live;

	ck_assert_msg(!parse(w, older), "accepted: %s", text);
	ck_assert_msg(strstr(w->err.text, text) != NULL, "no '%s' in: %s", text, w->err.text);
	ck_assert_msg(!strchr(w->err.text, '\n'), "more than a line");
	ck_assert_mem_eq(&before, &w->live, sizeof(before));
}

START_TEST(round_trip)
{
	struct world w, v;

	init(&w);
	init(&v);
	timer_arm(&w.live.timer, 12345);
	fields_save(&w.buf, table, &w.live);
	ck_assert(!w.buf.failed);
	/* The first record, as docs/state-format.md has it. */
	ck_assert_mem_eq(w.buf.data, "\1\1\1\0\1\0\0\0a\xab", 10);
	memset(&v.live, 0x33, offsetof(struct thing, timer));
	v.copy = v.live;
	ck_assert_msg(fields_parse(w.buf.data, w.buf.len, table, &v.copy, false, &v.err), "%s", v.err.text);
	ck_assert(!timer_armed(&v.live.timer));
	ck_assert_uint_eq(v.live.a, 0x33); /* not yet */
	fields_apply(table, &v.copy, &v.live);
	ck_assert_uint_eq(v.live.a, 0xab);
	ck_assert_uint_eq(v.live.mode, 4);
	ck_assert_uint_eq(v.live.flags, 0x0ff0);
	ck_assert_mem_eq(v.live.array, w.live.array, sizeof(w.live.array));
	ck_assert(v.live.big == UINT64_MAX - 1);
	ck_assert(v.live.on);
	ck_assert_mem_eq(v.live.opaque, w.live.opaque, 5);
	ck_assert_int_eq(v.live.unsaved, 77);
	ck_assert(timer_armed(&v.live.timer));
	ck_assert_int_eq(v.live.timer.deadline, 12345);

	/* A disarmed timer disarms. */
	timer_disarm(&w.live.timer);
	w.buf.len = 0;
	fields_save(&w.buf, table, &w.live);
	v.copy = v.live;
	ck_assert(fields_parse(w.buf.data, w.buf.len, table, &v.copy, false, &v.err));
	fields_apply(table, &v.copy, &v.live);
	ck_assert(!timer_armed(&v.live.timer));
	finish(&w);
	finish(&v);
}
END_TEST

START_TEST(records)
{
	struct world w;
	struct field_record r;
	size_t at = 0;
	unsigned n = 0;

	init(&w);
	fields_save(&w.buf, table, &w.live);
	while (fields_next(w.buf.data, w.buf.len, &at, &r, &w.err)) {
		ck_assert_str_eq(r.name, table[n].name);
		ck_assert_uint_eq(r.type, table[n].type);
		ck_assert_uint_eq(r.count, table[n].count);
		n++;
	}
	ck_assert_uint_eq(n, 8);
	ck_assert_uint_eq(at, w.buf.len);
	ck_assert_str_eq(w.err.text, "");
	finish(&w);
}
END_TEST

START_TEST(values)
{
	static const uint32_t array[3] = { 5, 1001, 7 };
	struct world w;

	init(&w);
	good_until(&w, "");
	ck_assert_msg(parse(&w, false), "%s", w.err.text);
	ck_assert_uint_eq(w.copy.array[2], 7);

	good_until(&w, "mode");
	put_uint(&w, "mode", 1, 5);
	refused(&w, false, "field mode is 0x5, at most 0x4");
	good_until(&w, "flags");
	put_uint(&w, "flags", 2, 0x1010);
	refused(&w, false, "field flags is 0x1010, but bits 0x1000 are always 0");
	good_until(&w, "array");
	put(&w, "array", 1, 4, 3, array, 12);
	refused(&w, false, "field array[1] is 0x3e9, at most 0x3e8");
	good_until(&w, "on");
	put(&w, "on", 2, 1, 1, "\2", 1);
	refused(&w, false, "field on is 0x2, at most 0x1");
	good_until(&w, "on");
	put(&w, "on", 2, 1, 1, "\xff", 1);
	refused(&w, false, "field on is 0xff");
	finish(&w);
}
END_TEST

START_TEST(timers)
{
	static const uint64_t bad[] = { UINT64_MAX, 1ull << 63, INT64_MAX, 1ull << 62 };
	struct world w;

	init(&w);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		good_until(&w, "timer");
		put_timer(&w, 1, bad[i]);
		refused(&w, false, "field timer: no timer");
	}
	good_until(&w, "timer");
	put_timer(&w, 2, 5);
	refused(&w, false, "field timer: ");
	good_until(&w, "timer");
	put_timer(&w, UINT64_MAX, 5);
	refused(&w, false, "field timer: ");
	good_until(&w, "timer");
	put_timer(&w, 1, INT64_MAX / 2);
	ck_assert(parse(&w, false));
	good_until(&w, "timer");
	put(&w, "timer", 4, 8, 1, "12345678", 8);
	refused(&w, false, "field timer: 1 times 8 bytes");
	finish(&w);
}
END_TEST

START_TEST(sizes)
{
	struct world w;
	uint8_t many[64] = { 0 };

	init(&w);
	good_until(&w, "flags");
	put_uint(&w, "flags", 4, 0x10);
	refused(&w, false, "field flags: 1 times 4 bytes of kind 1, this gannet has 1 times 2 of kind 1");
	good_until(&w, "flags");
	put_uint(&w, "flags", 1, 0x10);
	refused(&w, false, "field flags: 1 times 1 bytes");
	good_until(&w, "array");
	put(&w, "array", 1, 4, 4, many, 16);
	refused(&w, false, "field array: 4 times 4 bytes");
	good_until(&w, "array");
	put(&w, "array", 1, 4, 0, many, 0);
	refused(&w, false, "field array: 0 times 4 bytes");
	good_until(&w, "on");
	put(&w, "on", 1, 1, 1, "\1", 1);
	refused(&w, false, "field on: 1 times 1 bytes of kind 1, this gannet has 1 times 1 of kind 2");
	good_until(&w, "opaque");
	put(&w, "opaque", 3, 1, 6, "abcdef", 6);
	refused(&w, false, "field opaque: 6 times 1 bytes");
	good_until(&w, "a");
	put(&w, "a", 9, 1, 1, "x", 1);
	refused(&w, false, "field a: 1 times 1 bytes of kind 9");
	finish(&w);
}
END_TEST

START_TEST(names)
{
	struct world w;

	init(&w);
	good_until(&w, "big"); /* and nothing more */
	refused(&w, false, "field big: is missing");
	good_until(&w, "timer");
	refused(&w, false, "field timer: is missing");
	w.buf.len = 0;
	refused(&w, false, "field a: is missing");
	good_until(&w, "big");
	put_uint(&w, "bigger", 8, 1);
	refused(&w, false, "field bigger: field big is expected here");
	good_until(&w, "big");
	put_uint(&w, "a", 1, 1);
	refused(&w, false, "field a: field big is expected here"); /* twice */
	good_until(&w, "");
	put_uint(&w, "a", 1, 1);
	refused(&w, false, "field a: nothing more is expected here");
	good_until(&w, "");
	put_uint(&w, "new_one", 1, 1);
	refused(&w, false, "field new_one: nothing more");
	finish(&w);
}
END_TEST

/* An image of an earlier version lacks fields; they keep what a new machine has. */
START_TEST(older)
{
	struct world w;

	init(&w);
	w.buf.len = 0;
	ck_assert(parse(&w, true)); /* all of them */
	ck_assert_mem_eq(&w.copy, &w.live, sizeof(w.copy));
	put_uint(&w, "a", 1, 9);
	put_uint(&w, "big", 8, 10);
	put_timer(&w, 0, 0);
	refused(&w, false, "field big: field mode is expected here");
	ck_assert_msg(parse(&w, true), "%s", w.err.text);
	ck_assert_uint_eq(w.copy.a, 9);
	ck_assert_uint_eq(w.copy.big, 10);
	ck_assert_uint_eq(w.copy.mode, 4);
	ck_assert_uint_eq(w.copy.array[1], 1000);
	/* But what it has must be known, once, in order, and possible. */
	put_uint(&w, "a", 1, 9);
	refused(&w, true, "field a: nothing more");
	w.buf.len = 0;
	put_uint(&w, "big", 8, 10);
	put_uint(&w, "a", 1, 9);
	refused(&w, true, "field a: nothing more");
	w.buf.len = 0;
	put_uint(&w, "gone", 8, 10);
	refused(&w, true, "field gone: nothing more");
	w.buf.len = 0;
	put_uint(&w, "mode", 1, 5);
	refused(&w, true, "field mode is 0x5");
	finish(&w);
}
END_TEST

/* Cut at every byte, and lengths that are lies. */
START_TEST(broken)
{
	static const uint8_t cases[][9] = {
		{ 0, 1, 1, 0, 1, 0, 0, 0, 'a' },           /* no name */
		{ 64, 1, 1, 0, 1, 0, 0, 0, 'a' },          /* too long a one */
		{ 255, 1, 1, 0, 1, 0, 0, 0, 'a' },
		{ 2, 1, 1, 0, 1, 0, 0, 0, 'a' },           /* longer than what is there */
		{ 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 'a' },
		{ 1, 1, 1, 0, 0xff, 0xff, 0xff, 0xff, 'a' },
		{ 1, 1, 0xff, 0xff, 1, 0, 0, 0, 'a' },
	};
	static const uint8_t names[][10] = {
		{ 1, 1, 1, 0, 1, 0, 0, 0, ' ', 1 }, { 1, 1, 1, 0, 1, 0, 0, 0, 0, 1 },
		{ 1, 1, 1, 0, 1, 0, 0, 0, '\n', 1 }, { 1, 1, 1, 0, 1, 0, 0, 0, 0xe9, 1 },
	};
	struct world w;
	size_t whole;

	init(&w);
	good_until(&w, "");
	whole = w.buf.len;
	for (size_t len = 0; len < whole; len++) {
		uint8_t *exact = malloc(len ? len : 1); /* so that a sanitizer sees an overrun */

		memcpy(exact, w.buf.data, len);
		w.copy = w.live;
		ck_assert(!fields_parse(exact, len, table, &w.copy, false, &w.err));
		ck_assert(strstr(w.err.text, "field") != NULL);
		free(exact);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		w.buf.len = 0;
		state_buf_put(&w.buf, cases[i], sizeof(cases[i]));
		refused(&w, false, "a field at byte 0 does not fit");
	}
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		w.buf.len = 0;
		state_buf_put(&w.buf, names[i], sizeof(names[i]));
		refused(&w, false, "a field at byte 0 has no proper name");
	}
	finish(&w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fields");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_test(t, round_trip);
	tcase_add_test(t, records);
	tcase_add_test(t, values);
	tcase_add_test(t, timers);
	tcase_add_test(t, sizes);
	tcase_add_test(t, names);
	tcase_add_test(t, older);
	tcase_add_test(t, broken);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
