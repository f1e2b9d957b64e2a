/* The bad link: what is lost is what was asked for, and the same again with the same seed. */
#include <math.h>

#include "backends/backend.h"
#include "backends/impair.h"
#include "tests/unit/net_world.h"

enum { SIZE = 100 };

static struct net_world w;

/* Remembers the number and the time of each frame. */
struct sink {
	struct net_backend base;
	bool full;
	unsigned count;
	uint32_t number[40000];
	int64_t at[40000];
};

static struct sink sink;

static bool sink_can_send(struct net_backend *b)
{
	(void)b;
	return !sink.full;
}

static void sink_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	ck_assert_uint_eq(len, SIZE);
	ck_assert_uint_lt(sink.count, ARRAY_SIZE(sink.number));
	sink.number[sink.count] = load_le32(frame + 14);
	sink.at[sink.count++] = loop_now(b->port->loop);
}

static void sink_close(struct net_backend *b)
{
	(void)b;
}

static const struct net_backend_ops sink_ops = {
	.name = "sink", .can_send = sink_can_send, .send = sink_send, .close = sink_close,
};

static void start(const char *params)
{
	struct impair_config config;
	struct error err = { "" };
	struct backend_url *url;
	char text[200];

	net_world_init(&w);
	memset(&sink, 0, sizeof(sink));
	sink.base = (struct net_backend){ &sink_ops, &w.port, { NULL, 0 } };
	net_port_set_backend(&w.port, &sink.base);
	snprintf(text, sizeof(text), "x:?%s", params);
	url = backend_url_parse(text, &err);
	ck_assert_msg(url && impair_parse(url, &config, &err), "%s", err.text);
	ck_assert(config.wanted);
	backend_url_free(url);
	net_port_add_stage(&w.port, impair_create(w.loop, &config, &err));
}

static uint64_t count(const char *name)
{
	return net_world_counter(&net_port_find_stage(&w.port, "impair")->counters, name);
}

static void transmit(unsigned first, unsigned n)
{
	uint8_t frame[SIZE] = { 2 };

	for (unsigned i = first; i < first + n; i++) {
		store_le32(frame + 14, i);
		net_port_send(&w.port, frame, sizeof(frame));
	}
}

static bool arrived(void *opaque)
{
	return sink.count >= *(unsigned *)opaque;
}

static void expect_arrive(unsigned n)
{
	ck_assert_msg(net_world_until(&w, arrived, &n, 3000), "%u of %u", sink.count, n);
}

/* |n - expected| within five standard deviations of a binomial distribution */
static void binomial(unsigned n, unsigned of, double p)
{
	ck_assert_msg(fabs(n - of * p) < 5 * sqrt(of * p * (1 - p)), "%u of %u at %g", n, of, p);
}

START_TEST(loss_and_duplication_are_as_asked)
{
	uint64_t lost, twice;

	start("loss=10%&dup=0.05&seed=7");
	transmit(0, 20000);
	lost = count("drop.impair-loss");
	twice = count("duplicated");
	binomial(lost, 20000, 0.1);
	binomial(twice, 20000 - lost, 0.05);
	ck_assert_uint_eq(sink.count, 20000 - lost + twice);
	net_world_finish(&w);
}
END_TEST

START_TEST(same_seed_same_fate)
{
	static uint32_t first[40000];
	unsigned n;

	start("loss=1%&dup=1%&seed=12345");
	transmit(0, 20000);
	n = sink.count;
	memcpy(first, sink.number, sizeof(first));
	net_world_finish(&w);
	/* With jitter on top: later, but the same ones. */
	start("loss=1%&dup=1%&seed=12345&delay=2ms&jitter=1ms&limit=16777216");
	transmit(0, 20000);
	expect_arrive(n);
	ck_assert_uint_eq(sink.count, n);
	ck_assert_mem_eq(first, sink.number, n * sizeof(first[0]));
	net_world_finish(&w);
	start("loss=1%&dup=1%&seed=12346");
	transmit(0, 20000);
	ck_assert(sink.count != n || memcmp(first, sink.number, n * sizeof(first[0])));
	net_world_finish(&w);
	/* Without a seed no two runs are alike. */
	start("loss=1%&dup=1%");
	transmit(0, 20000);
	n = sink.count;
	memcpy(first, sink.number, sizeof(first));
	net_world_finish(&w);
	start("loss=1%&dup=1%");
	transmit(0, 20000);
	ck_assert(sink.count != n || memcmp(first, sink.number, n * sizeof(first[0])));
	net_world_finish(&w);
}
END_TEST

START_TEST(delay_is_what_it_says)
{
	int64_t began;

	start("delay=20ms");
	began = loop_now(w.loop);
	transmit(0, 50);
	ck_assert_uint_eq(sink.count, 0);
	expect_arrive(50);
	for (unsigned i = 0; i < 50; i++) {
		ck_assert_uint_eq(sink.number[i], i);
		ck_assert_int_ge(sink.at[i] - began, 20000000);
		ck_assert_int_lt(sink.at[i] - began, 400000000);
	}
	ck_assert_uint_eq(count("delayed"), 50);
	net_world_finish(&w);
}
END_TEST

START_TEST(jitter_keeps_the_order)
{
	int64_t began, sent[100];

	start("delay=10ms&jitter=8ms&seed=3");
	for (unsigned i = 0; i < 100; i++) {
		sent[i] = loop_now(w.loop);
		transmit(i, 1);
		loop_run(w.loop);
	}
	began = sent[0];
	expect_arrive(100);
	for (unsigned i = 0; i < 100; i++) {
		ck_assert_uint_eq(sink.number[i], i);
		ck_assert_int_ge(sink.at[i] - sent[i], 2000000);
	}
	/* Some have to wait for one that was delayed long. */
	ck_assert_int_ge(sink.at[99] - began, 14000000);
	net_world_finish(&w);
}
END_TEST

START_TEST(reordered_frames_go_ahead)
{
	unsigned ahead = 0;

	start("delay=20ms&reorder=10%&seed=5");
	transmit(0, 1000);
	ahead = sink.count;
	binomial(ahead, 1000, 0.1);
	ck_assert_uint_eq(ahead, count("reordered"));
	expect_arrive(1000);
	net_world_finish(&w);
}
END_TEST

/* 100 bytes are 800 bits: at 800 kbit/s one a millisecond. */
START_TEST(rate_is_that_of_a_line)
{
	int64_t began;

	start("rate=800kbit");
	began = loop_now(w.loop);
	transmit(0, 50);
	expect_arrive(50);
	for (unsigned i = 0; i < 50; i++)
		ck_assert_int_ge(sink.at[i] - began, (i + 1) * 1000000ll);
	ck_assert_int_lt(sink.at[49] - began, 400000000);
	net_world_finish(&w);
}
END_TEST

START_TEST(what_does_not_fit_is_dropped_and_counted)
{
	start("delay=50ms&limit=65536");
	transmit(0, 2000);
	ck_assert_uint_gt(count("drop.impair-full"), 1000);
	ck_assert_uint_eq(count("drop.impair-full") + count("delayed"), 2000);
	expect_arrive(count("delayed"));
	for (unsigned i = 0; i < sink.count; i++)
		ck_assert_uint_eq(sink.number[i], i);
	net_world_finish(&w);
}
END_TEST

START_TEST(backend_that_is_full_is_waited_for)
{
	start("delay=1ms");
	sink.full = true;
	transmit(0, 10);
	for (unsigned i = 0; i < 10; i++) {
		loop_run(w.loop);
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	}
	ck_assert_uint_eq(sink.count, 0);
	sink.full = false;
	expect_arrive(10);
	ck_assert_uint_eq(w.writable, 0); /* the card has not asked */
	net_world_finish(&w);
}
END_TEST

START_TEST(other_direction_passes_untouched)
{
	static const uint8_t frame[SIZE];

	start("loss=100%&delay=1s");
	for (unsigned i = 0; i < 10; i++)
		net_port_receive(&w.port, frame, sizeof(frame));
	ck_assert_uint_eq(w.frames, 10);
	transmit(0, 10);
	ck_assert_uint_eq(count("drop.impair-loss"), 10);
	/* It can be switched off as any stage can. */
	net_port_find_stage(&w.port, "impair")->enabled = false;
	transmit(0, 10);
	ck_assert_uint_eq(sink.count, 10);
	net_world_finish(&w);
}
END_TEST

START_TEST(loopback_takes_its_stage_with_it)
{
	struct backend_env env = { NULL };
	struct error err = { "" };

	net_world_init(&w);
	net_port_set_backend(&w.port, backend_open(&env, &w.port, "loopback:?loss=100%", &err));
	ck_assert_ptr_nonnull(net_port_find_stage(&w.port, "impair"));
	transmit(0, 10);
	ck_assert_uint_eq(count("drop.impair-loss"), 10);
	net_port_set_backend(&w.port, backend_open(&env, &w.port, "loopback:?loss=0", &err));
	transmit(0, 10);
	ck_assert_uint_eq(count("drop.impair-loss"), 0);
	net_port_set_backend(&w.port, backend_open(&env, &w.port, "loopback:", &err));
	ck_assert_ptr_null(net_port_find_stage(&w.port, "impair"));
	ck_assert_uint_eq(net_world_counter(&w.port.backend->counters, "drop.no-peer"), 0);
	/* One that has no stage leaves the next one's alone. */
	net_port_set_backend(&w.port, backend_open(&env, &w.port, "loopback:?loss=100%", &err));
	ck_assert_ptr_nonnull(net_port_find_stage(&w.port, "impair"));
	/* So does one that is refused after it has been opened. */
	ck_assert_ptr_null(backend_open(&env, &w.port, "loopback:?delay=1s&nonsense=1", &err));
	transmit(0, 10);
	ck_assert_uint_eq(count("drop.impair-loss"), 10);
	net_world_finish(&w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("impair");
	TCase *c = tcase_create("stage");
	SRunner *r;
	int failed;

	tcase_set_timeout(c, 20);
	tcase_add_test(c, loss_and_duplication_are_as_asked);
	tcase_add_test(c, same_seed_same_fate);
	tcase_add_test(c, delay_is_what_it_says);
	tcase_add_test(c, jitter_keeps_the_order);
	tcase_add_test(c, reordered_frames_go_ahead);
	tcase_add_test(c, rate_is_that_of_a_line);
	tcase_add_test(c, what_does_not_fit_is_dropped_and_counted);
	tcase_add_test(c, backend_that_is_full_is_waited_for);
	tcase_add_test(c, other_direction_passes_untouched);
	tcase_add_test(c, loopback_takes_its_stage_with_it);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
