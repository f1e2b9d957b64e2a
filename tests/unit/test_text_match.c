/* Waiting for text: the matcher against a table, and against the C library's regexec(). */
#include <check.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util.h"
#include "tools/text_match.h"

static const struct {
	const char *pattern;
	bool regex;
	const char *text;
	int start, end; /* -1: does not fit */
} rows[] = {
	{ "login:", false, "debian login: ", 7, 13 },
	{ "a.c", false, "abc a.c", 4, 7 },
	{ "aab", false, "aaab", 1, 4 },
	{ "login:", false, "logi n:", -1, -1 },
	{ "a.c", true, "abc a.c", 0, 3 },
	{ "END=(\\d+)=42\n", true, "echo END=$?=42\nEND=0=42\n", 15, 24 },
	{ "^42$", true, "142\n42\n", 4, 6 },
	{ "^42$", true, "42\n", 0, 2 },
	{ "^42$", true, "142\n421\n42", -1, -1 }, /* the line has not ended */
	{ "x|yz", true, "ayz", 1, 3 },
	{ "(ab)+c", true, "ababc", 0, 5 },
	{ "colou?r", true, "color", 0, 5 },
	{ "[^a-z ]+!", true, "abc D4!", 4, 7 },
	{ "[]x]y", true, "]y", 0, 2 },
	{ "[a\\]]z", true, "]z", 0, 2 },
	{ "[\\d-]x", true, "-x", 0, 2 },
	{ "\\.\\*\\{", true, ".*{", 0, 3 },
	{ "\\w+\\s\\W", true, "ab_9 $", 0, 6 },
	{ "\\S\\D$", true, "1ab\n", 1, 3 },
	{ "a.b", true, "a\nb", -1, -1 }, /* a dot is no line end */
	{ "(?:a|b)c", true, "bc", 0, 2 },
	{ "a*?b", true, "aab", 0, 3 },
	{ "(a*)*b", true, "aaab", 0, 4 },
	{ "(a|b)*abb", true, "babaabb", 0, 7 },
	{ "\xc3\xa4", false, "x\xc3\xa4", 1, 3 },
};

static void check_found(struct text_match *m, unsigned i)
{
	uint64_t start, end;

	text_match_found(m, &start, &end);
	ck_assert_msg((int)start == rows[i].start && (int)end == rows[i].end, "row %u: %d to %d", i,
		      (int)start, (int)end);
}

START_TEST(table_whole_and_byte_by_byte)
{
	struct error err = { "" };

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		const uint8_t *text = (const uint8_t *)rows[i].text;
		size_t len = strlen(rows[i].text);
		struct text_match *m = text_match_create(rows[i].pattern, rows[i].regex, true, &err);
		bool found;

		ck_assert_msg(m != NULL, "row %u: %s", i, err.text);
		found = text_match_feed(m, text, len);
		ck_assert_msg(found == (rows[i].end >= 0), "row %u", i);
		if (found)
			check_found(m, i);
		text_match_reset(m, true);
		found = false;
		for (size_t k = 0; k < len && !found; k++)
			found = text_match_feed(m, text + k, 1);
		ck_assert_msg(found == (rows[i].end >= 0), "row %u, byte by byte", i);
		if (found)
			check_found(m, i);
		text_match_destroy(m);
	}
}
END_TEST

START_TEST(start_of_what_is_fed_may_be_in_a_line)
{
	struct text_match *m = text_match_create("^b", true, false, NULL);

	ck_assert(!text_match_feed(m, (const uint8_t *)"b", 1));
	ck_assert(text_match_feed(m, (const uint8_t *)"\nb", 2));
	text_match_destroy(m);
}
END_TEST

START_TEST(what_is_no_pattern_is_refused)
{
	static const char *const bad[] = {
		"", "a*", "x|", "(", ")", "a)", "(a", "[a", "[", "[b-a]", "*a", "a|*", "a{2}", "\\",
		"()", "^", "$", "^$", "[", "(?:", "a?b*",
	};
	char deep[300] = "", wide[1500];

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = { "" };

		ck_assert_msg(!text_match_create(bad[i], true, true, &err), "%s", bad[i]);
		ck_assert_msg(err.text[0] && !strchr(err.text, '\n'), "%s", bad[i]);
	}
	memset(deep, '(', 100);
	ck_assert(!text_match_create(deep, true, true, NULL));
	memset(wide, 'a', sizeof(wide) - 1);
	wide[sizeof(wide) - 1] = '\0';
	ck_assert(!text_match_create(wide, false, true, NULL));
	wide[TEXT_PATTERN_MAX] = '\0';
	for (unsigned i = 0; i < TEXT_PATTERN_MAX; i += 3)
		memcpy(wide + i, "[x]", MIN(3, TEXT_PATTERN_MAX - i));
	ck_assert(!text_match_create(wide, true, true, NULL)); /* too many classes */
}
END_TEST

/* Where the first match to end does so: by the library's matcher on every piece. */
static int first_end(const regex_t *re, const char *text)
{
	int len = strlen(text);

	for (int end = 1; end <= len; end++) {
		for (int start = 0; start < end; start++) {
			char piece[16];

			/* Anchored at both ends, so that it must be the whole piece. */
			snprintf(piece, sizeof(piece), "%.*s", end - start, text + start);
			if (!regexec(re, piece, 0, NULL, 0))
				return end;
		}
	}
	return -1;
}

START_TEST(agrees_with_the_c_library)
{
	static const char alphabet[] = "aabbc.*+?|()";
	unsigned compared = 0, found = 0;

	srandom(1);
	for (unsigned round = 0; round < 20000; round++) {
		char pattern[12] = "", anchored[20], text[14];
		unsigned n = 1 + random() % (sizeof(pattern) - 2);
		struct text_match *m;
		uint64_t start, end;
		regex_t re;
		int want;

		for (unsigned i = 0; i < n; i++)
			pattern[i] = alphabet[random() % (sizeof(alphabet) - 1)];
		for (unsigned i = 0; i < sizeof(text) - 1; i++)
			text[i] = "abc"[random() % 3];
		text[sizeof(text) - 1] = '\0';
		/* Dialects differ in what is no pattern: only those that are one to both. */
		m = text_match_create(pattern, true, true, NULL);
		if (!m)
			continue;
		snprintf(anchored, sizeof(anchored), "^(%s)$", pattern);
		if (regcomp(&re, anchored, REG_EXTENDED)) {
			text_match_destroy(m);
			continue;
		}
		want = first_end(&re, text);
		compared++;
		found += want >= 0;
		if (text_match_feed(m, (const uint8_t *)text, strlen(text)))
			text_match_found(m, &start, &end);
		else
			end = -1;
		ck_assert_msg((int)end == want, "%s in %s: %d, not %d", pattern, text, (int)end, want);
		regfree(&re);
		text_match_destroy(m);
	}
	ck_assert_uint_gt(compared, 1000);
	ck_assert_uint_gt(found, 500);
}
END_TEST

/* What makes backtracking matchers run for ages. */
START_TEST(time_is_bounded)
{
	static const char *const slow[] = { "(a*)*(a*)*(a|aa)+$b", ".*.*.*.*.*x", "(a?a?a?a?a?a?)*b" };
	uint8_t *text = malloc(1 << 20);

	memset(text, 'a', 1 << 20);
	for (unsigned i = 0; i < ARRAY_SIZE(slow); i++) {
		struct text_match *m = text_match_create(slow[i], true, true, NULL);

		ck_assert_ptr_nonnull(m);
		ck_assert(!text_match_feed(m, text, 1 << 20));
		text_match_destroy(m);
	}
	free(text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("text_match");
	TCase *c = tcase_create("patterns");
	SRunner *r;
	int failed;

	tcase_set_timeout(c, 20);
	tcase_add_test(c, table_whole_and_byte_by_byte);
	tcase_add_test(c, start_of_what_is_fed_may_be_in_a_line);
	tcase_add_test(c, what_is_no_pattern_is_refused);
	tcase_add_test(c, agrees_with_the_c_library);
	tcase_add_test(c, time_is_bounded);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
