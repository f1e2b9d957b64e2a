/* Do two legs agree, and the smallest case on which they do not. */
#ifndef TESTS_INSN_COMPARE_H
#define TESTS_INSN_COMPARE_H

#include "tests/insn/case.h"

enum verdict {
	AGREE,
	DIFFER,
	EITHER_IS_RIGHT,    /* exceptions whose order is not architectural */
	NOTHING_TO_COMPARE, /* one ran on and on */
};

/**
 * results_compare - @want from the leg that is right, @got from the one on trial
 * Describes the first differences in @text.
 */
enum verdict results_compare(const struct test_case *c, const struct test_result *want,
			     const struct test_result *got, char *text, size_t size);

/**
 * case_shrink - make the case simpler as long as @differs says it still fails
 * Deletes instructions, clears registers, pokes and vector state.
 */
void case_shrink(struct test_case *c, bool (*differs)(void *opaque, const struct test_case *c),
		 void *opaque);

#endif
