/* The loop with a clock that only the test moves: all of core/loop.h that
 * devices use, so that the linker leaves the real one out. Included once. */
#ifndef GANNET_TESTS_UNIT_VIRTUAL_LOOP_H
#define GANNET_TESTS_UNIT_VIRTUAL_LOOP_H

#include <stdlib.h>

#include "core/loop.h"

enum { VIRTUAL_TIMERS = 16 };

struct loop {
	int64_t now;
	struct timer *armed[VIRTUAL_TIMERS];
};

struct loop *loop_create(void (*kick)(void *opaque), void *opaque, struct error *err)
{
	return calloc(1, sizeof(struct loop));
}

void loop_destroy(struct loop *loop) { free(loop); }
int64_t loop_now(const struct loop *loop) { return loop->now; }
void loop_pause(struct loop *loop) {}
void loop_resume(struct loop *loop) {}
void loop_wait(struct loop *loop) {}
void loop_kick(struct loop *loop) {}
void loop_expect(struct loop *loop, int64_t ns) {}

static struct timer **due(struct loop *loop, int64_t until)
{
	struct timer **first = NULL;

	for (int i = 0; i < VIRTUAL_TIMERS; i++) {
		struct timer **t = &loop->armed[i];

		if (*t && (*t)->deadline <= until && (!first || (*t)->deadline < (*first)->deadline))
			first = t;
	}
	return first;
}

static void fire(struct loop *loop, struct timer **slot)
{
	struct timer *t = *slot;

	timer_disarm(t);
	t->fire(t->opaque);
}

/* Time goes on to @ns; every timer goes off exactly when it is due. */
void loop_set_now(struct loop *loop, int64_t ns)
{
	struct timer **t;

	while ((t = due(loop, ns)) != NULL) {
		if ((*t)->deadline > loop->now)
			loop->now = (*t)->deadline;
		fire(loop, t);
	}
	loop->now = ns;
}

/* The host was busy until @ns: each timer that is due goes off once, late. */
static inline void loop_jump(struct loop *loop, int64_t ns)
{
	struct timer **t;

	loop->now = ns;
	for (int i = 0; i < VIRTUAL_TIMERS && (t = due(loop, ns)) != NULL; i++)
		fire(loop, t);
}

void loop_run(struct loop *loop) { loop_jump(loop, loop->now); }
bool loop_post(struct loop *loop, void (*fn)(void *opaque), void *opaque) { return false; }

void timer_init(struct timer *t, struct loop *loop, const char *name, void (*fire_fn)(void *opaque),
		void *opaque)
{
	*t = (struct timer){ .name = name, .fire = fire_fn, .opaque = opaque, .loop = loop };
}

void timer_disarm(struct timer *t)
{
	if (t->slot)
		t->loop->armed[t->slot - 1] = NULL;
	t->slot = 0;
}

void timer_arm(struct timer *t, int64_t deadline)
{
	timer_disarm(t);
	t->deadline = deadline;
	while (t->slot < VIRTUAL_TIMERS && t->loop->armed[t->slot])
		t->slot++;
	if (t->slot == VIRTUAL_TIMERS)
		abort();
	t->loop->armed[t->slot++] = t;
}

struct watch *loop_watch(struct loop *loop, int fd, unsigned events,
			 void (*ready)(void *opaque, unsigned events), void *opaque,
			 struct error *err)
{
	return NULL;
}

void watch_set(struct watch *w, unsigned events) {}
void loop_unwatch(struct watch *w) {}

#endif
