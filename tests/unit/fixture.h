/* A machine without a CPU, for tests of one device: ports, memory, loop, and
 * interrupt lines that count. */
#ifndef GANNET_TESTS_UNIT_FIXTURE_H
#define GANNET_TESTS_UNIT_FIXTURE_H

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/ioport.h"
#include "core/loop.h"
#include "core/machine.h"
#include "core/memory.h"
#include "core/util.h"

enum { FIXTURE_LINES = 16 };

struct fixture {
	struct machine m;
	bool level[FIXTURE_LINES];
	unsigned edges[FIXTURE_LINES]; /* rising */
};

static void fixture_kick(void *opaque)
{
	(void)opaque;
}

static inline void fixture_init(struct fixture *f)
{
	struct error err = { "" };

	memset(f, 0, sizeof(*f));
	f->m.trace.out = stderr;
	f->m.loop = loop_create(fixture_kick, NULL, &err);
	ck_assert_msg(f->m.loop != NULL, "%s", err.text);
	f->m.memory = memory_create(16 * MIB, 32 * MIB, &f->m.trace, &err);
	ck_assert_msg(f->m.memory != NULL, "%s", err.text);
	f->m.io = ioport_map_create(&f->m.trace);
	ck_assert_ptr_nonnull(f->m.io);
	loop_resume(f->m.loop);
}

static inline void fixture_finish(struct fixture *f)
{
	while (f->m.devices) {
		struct device **p = &f->m.devices;
		struct device *d;

		while ((*p)->next)
			p = &(*p)->next;
		d = *p;
		*p = NULL;
		d->ops->destroy(d);
	}
	ioport_map_destroy(f->m.io);
	memory_destroy(f->m.memory);
	loop_destroy(f->m.loop);
}

static inline void fixture_set_line(void *opaque, int n, bool level)
{
	struct fixture *f = opaque;

	f->edges[n] += level && !f->level[n];
	f->level[n] = level;
}

static inline struct irq_line fixture_line(struct fixture *f, int n)
{
	return (struct irq_line){ fixture_set_line, f, n };
}

static inline uint8_t in8(struct fixture *f, uint16_t port)
{
	return ioport_read(f->m.io, port, 1);
}

static inline void out8(struct fixture *f, uint16_t port, uint8_t value)
{
	ioport_write(f->m.io, port, value, 1);
}

/* Let the machine's clock go on, running what is due. */
static inline void fixture_run_ns(struct fixture *f, int64_t ns)
{
	struct timespec nap = { 0, 200000 };
	int64_t until = loop_now(f->m.loop) + ns;

	do {
		loop_run(f->m.loop);
		nanosleep(&nap, NULL);
	} while (loop_now(f->m.loop) < until);
	loop_run(f->m.loop);
}

static inline int fixture_main(const char *name, void (*add)(TCase *t))
{
	Suite *s = suite_create(name);
	TCase *t = tcase_create(name);
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 60);
	add(t);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
