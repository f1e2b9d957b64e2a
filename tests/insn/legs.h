/* The legs of the oracle: each runs a case and says how it ended. */
#ifndef TESTS_INSN_LEGS_H
#define TESTS_INSN_LEGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "tests/insn/case.h"

enum { BATCH_MAX = 64 };

/* ---- the host CPU itself, in a forked process ---- */
struct host_leg;

/** host_leg_create - fork the process that will run cases; NULL if the host cannot */
struct host_leg *host_leg_create(struct error *err);
void host_leg_destroy(struct host_leg *h);
/** host_leg_low - can the host map the low pages? The guest then has them too. */
bool host_leg_low(const struct host_leg *h);
/** host_leg_segments - can the host have the segments of other modes than flat? */
bool host_leg_segments(const struct host_leg *h);
/** host_leg_start - hand over @n cases (copied); they run at the same time as the caller */
bool host_leg_start(struct host_leg *h, const struct test_case *cases, unsigned n);
/** host_leg_wait - the results of the batch, valid until the next start */
const struct test_result *host_leg_wait(struct host_leg *h);

/* ---- a machine with one of our engines ---- */
struct guest_leg;

/** guest_leg_create - @engine "interp" or "jit"; @low: map the low pages */
struct guest_leg *guest_leg_create(const char *engine, bool low, struct error *err);
void guest_leg_destroy(struct guest_leg *g);
/** guest_leg_run - run the case @times over, from the same start; the last result counts */
void guest_leg_run(struct guest_leg *g, const struct test_case *c, unsigned times,
		   struct test_result *r);
/** guest_leg_has - does this leg's CPU have the feature? */
bool guest_leg_has(const struct guest_leg *g, enum insn_feature f);

#endif
