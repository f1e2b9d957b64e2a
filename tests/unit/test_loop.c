/* The loop: timers in order, bounded runs, posts, watches, idle and busy cost. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/loop.h"

struct fixture {
	struct loop *loop;
	unsigned kicks; /* atomic */
};

static void count_kick(void *opaque)
{
	__atomic_fetch_add(&((struct fixture *)opaque)->kicks, 1, __ATOMIC_SEQ_CST);
}

static void fixture_init(struct fixture *f)
{
	struct error err = { "" };

	f->kicks = 0;
	f->loop = loop_create(count_kick, f, &err);
	ck_assert_msg(f->loop != NULL, "%s", err.text);
}

static int64_t host_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

struct shot {
	struct timer t;
	struct loop *loop;
	int *order;     /* shared counter */
	int seen;       /* its value when this one fired */
	unsigned fired;
	int64_t again;  /* re-arm by this much; 0: not */
};

static void shot_fire(void *opaque)
{
	struct shot *s = opaque;

	s->seen = (*s->order)++;
	s->fired++;
	if (s->again)
		timer_arm(&s->t, s->t.deadline + s->again);
}

static void shot_init(struct shot *s, struct loop *loop, int *order)
{
	*s = (struct shot){ .loop = loop, .order = order };
	timer_init(&s->t, loop, "shot", shot_fire, s);
}

START_TEST(clock_starts_at_zero_and_stops_while_paused)
{
	struct fixture f;
	int64_t a;

	fixture_init(&f);
	ck_assert_int_eq(loop_now(f.loop), 0);
	usleep(2000);
	ck_assert_int_eq(loop_now(f.loop), 0);
	loop_resume(f.loop);
	usleep(2000);
	a = loop_now(f.loop);
	ck_assert_int_ge(a, 2000000);
	loop_pause(f.loop);
	a = loop_now(f.loop);
	usleep(2000);
	ck_assert_int_eq(loop_now(f.loop), a);
	loop_set_now(f.loop, 77 * NS_PER_S);
	loop_resume(f.loop);
	ck_assert_int_ge(loop_now(f.loop), 77 * NS_PER_S);
	ck_assert_int_lt(loop_now(f.loop), 78 * NS_PER_S);
	loop_destroy(f.loop);
}
END_TEST

START_TEST(timers_fire_in_order_of_deadline)
{
	enum { N = 200 };
	static struct shot s[N];
	struct fixture f;
	int order = 0;

	fixture_init(&f);
	srand(1);
	for (int i = 0; i < N; i++) {
		shot_init(&s[i], f.loop, &order);
		timer_arm(&s[i].t, 1000 + rand() % 1000000);
	}
	for (int i = 0; i < N; i += 3)
		timer_arm(&s[i].t, 1000 + rand() % 1000000);
	for (int i = 0; i < N; i += 7)
		timer_disarm(&s[i].t);
	loop_resume(f.loop);
	usleep(1100);
	loop_run(f.loop);
	for (int i = 0; i < N; i++) {
		ck_assert_uint_eq(s[i].fired, i % 7 != 0);
		ck_assert(!timer_armed(&s[i].t));
		for (int k = 0; k < N; k++) {
			if (s[i].fired && s[k].fired && s[i].t.deadline < s[k].t.deadline)
				ck_assert_int_lt(s[i].seen, s[k].seen);
		}
	}
	loop_destroy(f.loop);
}
END_TEST

START_TEST(timer_rearmed_in_the_past_fires_once_a_run)
{
	struct fixture f;
	struct shot s;
	int order = 0;

	fixture_init(&f);
	loop_resume(f.loop);
	usleep(1000);
	shot_init(&s, f.loop, &order);
	s.again = 1;
	timer_arm(&s.t, 5);
	for (unsigned i = 1; i <= 4; i++) {
		loop_run(f.loop);
		ck_assert_uint_eq(s.fired, i);
		ck_assert(timer_armed(&s.t));
		ck_assert_int_eq(s.t.deadline, 5 + i);
	}
	timer_disarm(&s.t);
	loop_run(f.loop);
	ck_assert_uint_eq(s.fired, 4);
	loop_destroy(f.loop);
}
END_TEST

START_TEST(nothing_fires_while_paused)
{
	struct fixture f;
	struct shot s;
	int order = 0;

	fixture_init(&f);
	shot_init(&s, f.loop, &order);
	timer_arm(&s.t, 0);
	loop_run(f.loop);
	ck_assert_uint_eq(s.fired, 0);
	loop_resume(f.loop);
	loop_run(f.loop);
	ck_assert_uint_eq(s.fired, 1);
	loop_destroy(f.loop);
}
END_TEST

START_TEST(wait_sleeps_until_the_deadline)
{
	struct fixture f;
	struct shot s;
	int order = 0;
	int64_t best = INT64_MAX;

	fixture_init(&f);
	loop_resume(f.loop);
	shot_init(&s, f.loop, &order);
	for (int i = 0; i < 20; i++) {
		int64_t due = loop_now(f.loop) + 3000000, late;

		timer_arm(&s.t, due);
		while (timer_armed(&s.t))
			loop_wait(f.loop);
		late = loop_now(f.loop) - due;
		ck_assert_int_ge(late, 0);
		if (late < best)
			best = late;
	}
	/* A machine full of other work may be late, but not every time. */
	ck_assert_int_lt(best, 2000000);
	loop_destroy(f.loop);
}
END_TEST

START_TEST(poller_kicks_a_busy_guest_once_per_deadline)
{
	struct fixture f;
	struct shot s;
	int order = 0;
	int64_t until;

	fixture_init(&f);
	loop_resume(f.loop);
	shot_init(&s, f.loop, &order);
	for (int i = 0; i < 10; i++) {
		unsigned before = __atomic_load_n(&f.kicks, __ATOMIC_SEQ_CST);

		timer_arm(&s.t, loop_now(f.loop) + 2000000);
		until = host_ns(CLOCK_MONOTONIC) + NS_PER_S;
		/* Looks only when it is kicked; a kick may be one repeated for the last round. */
		while (timer_armed(&s.t)) {
			while (__atomic_load_n(&f.kicks, __ATOMIC_SEQ_CST) == before)
				ck_assert_int_lt(host_ns(CLOCK_MONOTONIC), until);
			before = __atomic_load_n(&f.kicks, __ATOMIC_SEQ_CST);
			loop_run(f.loop);
		}
	}
	ck_assert_uint_eq(s.fired, 10);
	loop_destroy(f.loop);
	/* Ten, and some repeated ones if this thread had to wait for a processor;
	 * a poller that spins would make thousands. */
	ck_assert_uint_le(f.kicks, 300);
}
END_TEST

static void *kick_later(void *opaque)
{
	struct fixture *f = opaque;

	usleep(5000);
	loop_kick(f->loop);
	return NULL;
}

START_TEST(kick_ends_a_wait)
{
	struct fixture f;
	pthread_t th;

	fixture_init(&f);
	loop_resume(f.loop);
	pthread_create(&th, NULL, kick_later, &f);
	loop_wait(f.loop);
	pthread_join(th, NULL);
	ck_assert_uint_ge(__atomic_load_n(&f.kicks, __ATOMIC_SEQ_CST), 1);
	/* A kick before the wait counts as well. */
	loop_kick(f.loop);
	loop_wait(f.loop);
	loop_destroy(f.loop);
}
END_TEST

static void count_post(void *opaque)
{
	++*(unsigned *)opaque;
}

struct poster {
	struct fixture *f;
	unsigned *count;
	unsigned accepted;
};

static void *post_many(void *opaque)
{
	struct poster *p = opaque;

	for (int i = 0; i < 5000; i++)
		p->accepted += loop_post(p->f->loop, count_post, p->count);
	return NULL;
}

START_TEST(posts_from_other_threads_all_arrive)
{
	struct fixture f;
	struct poster p[3];
	pthread_t th[3];
	unsigned count = 0, accepted = 0;

	fixture_init(&f);
	loop_resume(f.loop);
	for (int i = 0; i < 3; i++) {
		p[i] = (struct poster){ &f, &count, 0 };
		pthread_create(&th[i], NULL, post_many, &p[i]);
	}
	for (int i = 0; i < 200; i++)
		loop_run(f.loop);
	for (int i = 0; i < 3; i++) {
		pthread_join(th[i], NULL);
		accepted += p[i].accepted;
	}
	loop_run(f.loop);
	ck_assert_uint_eq(count, accepted);
	loop_destroy(f.loop);
}
END_TEST

START_TEST(post_queue_is_bounded)
{
	struct fixture f;
	unsigned count = 0, accepted = 0;

	fixture_init(&f);
	for (int i = 0; i < 1500; i++)
		accepted += loop_post(f.loop, count_post, &count);
	ck_assert_uint_eq(accepted, 1024);
	loop_run(f.loop);
	ck_assert_uint_eq(count, 1024);
	ck_assert(loop_post(f.loop, count_post, &count));
	loop_destroy(f.loop);
}
END_TEST

struct reader {
	struct watch *w;
	int fd;
	unsigned calls, events;
	bool drain, leave;
};

static void reader_ready(void *opaque, unsigned events)
{
	struct reader *r = opaque;
	char c;

	r->calls++;
	r->events |= events;
	if (r->drain)
		ck_assert_int_eq(read(r->fd, &c, 1), 1);
	if (r->leave) {
		loop_unwatch(r->w);
		r->w = NULL;
	}
}

START_TEST(watch_is_level_triggered_and_can_be_switched_off)
{
	struct fixture f;
	struct reader r = { 0 };
	int fds[2];

	fixture_init(&f);
	loop_resume(f.loop);
	ck_assert_int_eq(pipe(fds), 0);
	r.fd = fds[0];
	r.w = loop_watch(f.loop, fds[0], LOOP_READ, reader_ready, &r, NULL);
	ck_assert_ptr_nonnull(r.w);
	ck_assert_int_eq(write(fds[1], "ab", 2), 2);
	for (int i = 0; i < 3; i++)
		loop_wait(f.loop);
	ck_assert_uint_ge(r.calls, 1);
	r.calls = 0;
	r.drain = true;
	while (r.calls < 2)
		loop_wait(f.loop);
	watch_set(r.w, 0);
	r.calls = 0;
	ck_assert_int_eq(write(fds[1], "c", 1), 1);
	usleep(3000);
	loop_run(f.loop);
	ck_assert_uint_eq(r.calls, 0);
	watch_set(r.w, LOOP_READ);
	r.leave = true;
	while (r.w)
		loop_wait(f.loop);
	close(fds[1]);
	close(fds[0]);
	loop_destroy(f.loop);
}
END_TEST

START_TEST(watch_reports_a_hang_up)
{
	struct fixture f;
	struct reader r = { .leave = true };
	int fds[2];

	fixture_init(&f);
	ck_assert_int_eq(pipe(fds), 0);
	r.w = loop_watch(f.loop, fds[0], LOOP_READ, reader_ready, &r, NULL);
	close(fds[1]);
	while (r.w)
		loop_wait(f.loop);
	ck_assert_uint_ne(r.events & LOOP_HANGUP, 0);
	close(fds[0]);
	loop_destroy(f.loop);
}
END_TEST

START_TEST(regular_file_is_refused)
{
	struct fixture f;
	struct error err = { "" };
	FILE *tmp = tmpfile();

	fixture_init(&f);
	ck_assert_ptr_null(loop_watch(f.loop, fileno(tmp), LOOP_READ, reader_ready, NULL, &err));
	ck_assert_str_ne(err.text, "");
	fclose(tmp);
	loop_destroy(f.loop);
}
END_TEST

START_TEST(unserved_descriptor_does_not_spin)
{
	struct fixture f;
	struct reader r = { 0 };
	struct timespec nap = { 0, 100000000 };
	int64_t cpu;
	int fds[2];

	fixture_init(&f);
	ck_assert_int_eq(pipe(fds), 0);
	r.w = loop_watch(f.loop, fds[0], LOOP_READ, reader_ready, &r, NULL);
	cpu = host_ns(CLOCK_PROCESS_CPUTIME_ID);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	nanosleep(&nap, NULL);
	cpu = host_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	ck_assert_int_lt(cpu, 20000000);
	loop_destroy(f.loop);
	ck_assert_uint_ge(f.kicks, 1);
	ck_assert_uint_le(f.kicks, 30);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop");
	TCase *t = tcase_create("loop");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 30);
	tcase_add_test(t, clock_starts_at_zero_and_stops_while_paused);
	tcase_add_test(t, timers_fire_in_order_of_deadline);
	tcase_add_test(t, timer_rearmed_in_the_past_fires_once_a_run);
	tcase_add_test(t, nothing_fires_while_paused);
	tcase_add_test(t, wait_sleeps_until_the_deadline);
	tcase_add_test(t, poller_kicks_a_busy_guest_once_per_deadline);
	tcase_add_test(t, kick_ends_a_wait);
	tcase_add_test(t, posts_from_other_threads_all_arrive);
	tcase_add_test(t, post_queue_is_bounded);
	tcase_add_test(t, watch_is_level_triggered_and_can_be_switched_off);
	tcase_add_test(t, watch_reports_a_hang_up);
	tcase_add_test(t, regular_file_is_refused);
	tcase_add_test(t, unserved_descriptor_does_not_spin);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
