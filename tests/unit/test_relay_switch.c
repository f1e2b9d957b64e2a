/* The relay's switch, rate limiter and queues, with a clock of our own. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util.h"
#include "tools/relay_queue.h"
#include "tools/relay_switch.h"

#define S 1000000000ll

enum { AGE_S = 300, MACS = 4, PORTS = 3 };

static uint8_t frame[NET_FRAME_MAX + 1];

static struct relay_switch *make(void)
{
	const struct relay_switch_config cfg = { PORTS, PORTS * MACS, AGE_S * S };
	struct error err = { "" };
	struct relay_switch *sw = relay_switch_create(&cfg, &err);

	ck_assert_msg(sw != NULL, "%s", err.text);
	for (int i = 0; i < PORTS; i++)
		ck_assert_int_eq(relay_switch_join(sw, MACS), i);
	ck_assert_int_eq(relay_switch_join(sw, MACS), RELAY_NO_PORT);
	return sw;
}

static void address(uint8_t *to, unsigned n)
{
	const uint8_t m[6] = { 2, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
			       (uint8_t)n };

	memcpy(to, m, 6);
}

enum { ALL = ~0u };

/* A frame from address @src (of port @port) to address @dst. */
static enum relay_verdict send(struct relay_switch *sw, int port, unsigned src, unsigned dst,
			       int64_t now, int *to)
{
	memset(frame, 0xff, 6);
	if (dst != ALL)
		address(frame, dst);
	address(frame + 6, src);
	*to = RELAY_NO_PORT;
	return relay_switch_frame(sw, port, now, frame, 60, to);
}

static int owner(struct relay_switch *sw, unsigned n, int64_t now)
{
	uint8_t m[6];

	address(m, n);
	return relay_switch_owner(sw, m, now);
}

START_TEST(learns_and_switches)
{
	struct relay_switch *sw = make();
	int to;

	ck_assert_int_eq(send(sw, 0, 10, ALL, 0, &to), RELAY_FLOOD);
	ck_assert_int_eq(send(sw, 1, 11, 99, 0, &to), RELAY_FLOOD);
	ck_assert_int_eq(send(sw, 1, 11, 10, 0, &to), RELAY_UNICAST);
	ck_assert_int_eq(to, 0);
	ck_assert_int_eq(send(sw, 0, 10, 11, 0, &to), RELAY_UNICAST);
	ck_assert_int_eq(to, 1);
	/* Two addresses behind one port: the wire has carried it already. */
	ck_assert_int_eq(send(sw, 0, 12, 10, 0, &to), RELAY_DROP_SAME_PORT);
	ck_assert_int_eq(send(sw, 0, 10, 10, 0, &to), RELAY_DROP_SAME_PORT);
	ck_assert_uint_eq(relay_switch_used(sw), 3);
	relay_switch_destroy(sw);
}
END_TEST

START_TEST(ages)
{
	struct relay_switch *sw = make();
	int to;

	send(sw, 0, 10, ALL, 0, &to);
	ck_assert_int_eq(send(sw, 1, 11, 10, AGE_S * S - 1, &to), RELAY_UNICAST);
	ck_assert_int_eq(send(sw, 1, 11, 10, AGE_S * S, &to), RELAY_FLOOD);
	ck_assert_int_eq(owner(sw, 10, AGE_S * S), RELAY_NO_PORT);
	/* Used again, it lives again. */
	send(sw, 0, 10, ALL, AGE_S * S, &to);
	ck_assert_int_eq(send(sw, 1, 11, 10, 2 * AGE_S * S - 1, &to), RELAY_UNICAST);
	relay_switch_destroy(sw);
}
END_TEST

START_TEST(one_owner)
{
	struct relay_switch *sw = make();
	int to;

	send(sw, 0, 10, ALL, 0, &to);
	ck_assert_int_eq(send(sw, 1, 10, ALL, 1, &to), RELAY_DROP_MAC_TAKEN);
	/* The claim did not keep it alive, nor take it. */
	ck_assert_int_eq(owner(sw, 10, AGE_S * S - 1), 0);
	ck_assert_int_eq(owner(sw, 10, AGE_S * S), RELAY_NO_PORT);
	ck_assert_int_eq(send(sw, 1, 10, ALL, AGE_S * S, &to), RELAY_FLOOD);
	ck_assert_int_eq(owner(sw, 10, AGE_S * S), 1);
	ck_assert_int_eq(send(sw, 0, 10, ALL, AGE_S * S, &to), RELAY_DROP_MAC_TAKEN);
	/* Who leaves owns nothing any more. */
	relay_switch_leave(sw, 1);
	ck_assert_int_eq(send(sw, 0, 10, ALL, AGE_S * S, &to), RELAY_FLOOD);
	ck_assert_int_eq(relay_switch_join(sw, MACS), 1);
	ck_assert_uint_eq(relay_switch_used(sw), 1);
	relay_switch_destroy(sw);
}
END_TEST

START_TEST(a_million_addresses)
{
	struct relay_switch *sw = make();
	uint8_t macs[2][6];
	int to;

	send(sw, 1, 11, ALL, 0, &to);
	for (unsigned i = 0; i < 1000000; i++)
		ck_assert_int_eq(send(sw, 0, 1000 + i, ALL, 0, &to),
				 i < MACS ? RELAY_FLOOD : RELAY_DROP_MAC_LIMIT);
	ck_assert_uint_eq(relay_switch_used(sw), MACS + 1);
	ck_assert_int_eq(send(sw, 2, 12, 11, 0, &to), RELAY_UNICAST);
	ck_assert_uint_eq(relay_switch_macs(sw, 0, 0, macs, 2), MACS);
	ck_assert_uint_eq(macs[0][5], (1000 + MACS - 1) & 0xff); /* the last used first */
	/* Its oldest aged address makes room for a new one of its own. */
	send(sw, 0, 1001, ALL, 1, &to);
	send(sw, 0, 1002, ALL, 1, &to);
	send(sw, 0, 1003, ALL, 1, &to);
	ck_assert_int_eq(send(sw, 0, 5000, ALL, AGE_S * S, &to), RELAY_FLOOD);
	ck_assert_int_eq(send(sw, 0, 5001, ALL, AGE_S * S, &to), RELAY_DROP_MAC_LIMIT);
	/* Every port can have all of its own. */
	for (unsigned i = 0; i < MACS; i++) {
		ck_assert_int_eq(send(sw, 1, 6000 + i, ALL, AGE_S * S, &to), RELAY_FLOOD);
		ck_assert_int_eq(send(sw, 2, 7000 + i, ALL, AGE_S * S, &to), RELAY_FLOOD);
	}
	relay_switch_destroy(sw);
}
END_TEST

/* Against a model that is slow and plainly right. */
START_TEST(random_walk)
{
	enum { ADDRESSES = 40, STEPS = 200000 };
	struct {
		int port;
		int64_t seen;
	} model[ADDRESSES];
	struct relay_switch *sw = make();
	unsigned seed = 1;
	int64_t now = 0;

	for (unsigned i = 0; i < ADDRESSES; i++)
		model[i].port = RELAY_NO_PORT;
	for (unsigned step = 0; step < STEPS; step++) {
		int port = rand_r(&seed) % PORTS, src = rand_r(&seed) % ADDRESSES;
		int dst = rand_r(&seed) % ADDRESSES, to, held = 0;
		enum relay_verdict want, got;
		bool live;

		now += rand_r(&seed) % 8 * S;
		if (rand_r(&seed) % 500 == 0) {
			relay_switch_leave(sw, port);
			ck_assert_int_eq(relay_switch_join(sw, MACS), port);
			for (unsigned i = 0; i < ADDRESSES; i++)
				model[i].port = model[i].port == port ? RELAY_NO_PORT : model[i].port;
		}
		live = model[src].port >= 0 && now - model[src].seen < AGE_S * S;
		for (unsigned i = 0; i < ADDRESSES; i++)
			held += model[i].port == port && now - model[i].seen < AGE_S * S;
		if (live && model[src].port != port)
			want = RELAY_DROP_MAC_TAKEN;
		else if (!live && held >= MACS)
			want = RELAY_DROP_MAC_LIMIT;
		else {
			model[src].port = port;
			model[src].seen = now;
			want = model[dst].port < 0 || now - model[dst].seen >= AGE_S * S ? RELAY_FLOOD :
			       model[dst].port == port ? RELAY_DROP_SAME_PORT : RELAY_UNICAST;
		}
		got = send(sw, port, 100 + (unsigned)src, 100 + (unsigned)dst, now, &to);
		ck_assert_msg(got == want, "step %u: %d instead of %d", step, got, want);
		if (got == RELAY_UNICAST)
			ck_assert_int_eq(to, model[dst].port);
		ck_assert_uint_le(relay_switch_used(sw), PORTS * MACS);
	}
	relay_switch_destroy(sw);
}
END_TEST

START_TEST(no_frames)
{
	struct relay_switch *sw = make();
	int to;

	address(frame, 11);
	address(frame + 6, 10);
	for (size_t len = 0; len < 14; len++)
		ck_assert_int_eq(relay_switch_frame(sw, 0, 0, frame, len, &to), RELAY_DROP_RUNT);
	ck_assert_int_eq(relay_switch_frame(sw, 0, 0, frame, 14, &to), RELAY_FLOOD);
	ck_assert_int_eq(relay_switch_frame(sw, 0, 0, frame, 9216, &to), RELAY_FLOOD);
	ck_assert_int_eq(relay_switch_frame(sw, 0, 0, frame, 9217, &to), RELAY_DROP_TOO_LONG);
	frame[6] |= 1;
	ck_assert_int_eq(relay_switch_frame(sw, 0, 0, frame, 60, &to), RELAY_DROP_BAD_SOURCE);
	memset(frame + 6, 0, 6);
	ck_assert_int_eq(relay_switch_frame(sw, 0, 0, frame, 60, &to), RELAY_DROP_BAD_SOURCE);
	address(frame + 6, 10);
	/* IEEE 802.1D table 7-10: a bridge forwards none of 01-80-C2-00-00-00 to -0F. */
	for (unsigned i = 0; i < 256; i++) {
		const uint8_t group[6] = { 0x01, 0x80, 0xc2, 0, 0, (uint8_t)i };

		memcpy(frame, group, 6);
		ck_assert_int_eq(relay_switch_frame(sw, 0, 0, frame, 60, &to),
				 i < 16 ? RELAY_DROP_LINK_LOCAL : RELAY_FLOOD);
	}
	ck_assert_uint_eq(relay_switch_used(sw), 1);
	relay_switch_destroy(sw);
}
END_TEST

START_TEST(bucket)
{
	struct relay_bucket b;
	size_t passed = 0;

	relay_bucket_init(&b, 0, 0, 0);
	for (int i = 0; i < 1000; i++)
		ck_assert(relay_bucket_take(&b, 9216, 0));

	relay_bucket_init(&b, 1000000, 20000, 5 * S);
	ck_assert(relay_bucket_take(&b, 9000, 5 * S));
	ck_assert(relay_bucket_take(&b, 9000, 5 * S));
	ck_assert(!relay_bucket_take(&b, 9000, 5 * S));
	ck_assert(relay_bucket_take(&b, 2000, 5 * S)); /* a short one still fits */
	ck_assert(!relay_bucket_take(&b, 1500, 5 * S + 1400000));
	ck_assert(relay_bucket_take(&b, 1500, 5 * S + 1500001));
	/* Ten seconds, one frame offered a millisecond: the rate and the burst. */
	relay_bucket_init(&b, 1000000, 20000, 0);
	for (int i = 0; i < 10000; i++)
		passed += relay_bucket_take(&b, 2000, i * (S / 1000)) ? 2000 : 0;
	ck_assert_uint_ge(passed, 10000000);
	ck_assert_uint_le(passed, 10020000);
	/* A day of silence saves one burst; a clock that stands or goes back, nothing. */
	ck_assert(relay_bucket_take(&b, 20000, 86400 * S));
	ck_assert(!relay_bucket_take(&b, 100, 86400 * S));
	ck_assert(!relay_bucket_take(&b, 100, 0));
}
END_TEST

START_TEST(queue_order_and_references)
{
	struct error err = { "" };
	struct relay_pool *pool = relay_pool_create(64 * MIB, &err);
	struct relay_queue q[2] = { { 0 } };
	const struct relay_frame *f;
	int64_t stamp;

	for (unsigned i = 0; i < 100; i++) {
		struct relay_frame *one = relay_frame_get(pool, 60 + i * 50);

		ck_assert_ptr_nonnull(one);
		memset(one->data, (int)i, one->len);
		for (unsigned k = 0; k < 2; k++)
			ck_assert(relay_queue_push(pool, &q[k], one, 4 * MIB, i));
		relay_frame_put(pool, one);
	}
	for (unsigned k = 0; k < 2; k++) {
		for (unsigned i = 0; i < 100; i++) {
			f = relay_queue_peek(&q[k], &stamp);
			ck_assert_ptr_nonnull(f);
			ck_assert_uint_eq(f->len, 60 + i * 50);
			ck_assert_int_eq(stamp, i);
			ck_assert_uint_eq(f->data[0], i);
			ck_assert_uint_eq(f->data[f->len - 1], i);
			relay_queue_pop(pool, &q[k]);
			ck_assert(k == 1 || relay_pool_used(pool) > 0);
		}
		ck_assert_ptr_null(relay_queue_peek(&q[k], &stamp));
		ck_assert_uint_eq(q[k].bytes, 0);
	}
	ck_assert_uint_eq(relay_pool_used(pool), 0);
	relay_pool_destroy(pool);
}
END_TEST

/* Any number of queues nobody empties leaves room for one that is emptied. */
START_TEST(hoarders)
{
	enum { HOARDERS = 500, BYTES = 16 << 20 };
	struct error err = { "" };
	struct relay_pool *pool = relay_pool_create(BYTES, &err);
	static struct relay_queue hoard[HOARDERS];
	struct relay_queue good = { 0 };
	unsigned dropped = 0;

	memset(hoard, 0, sizeof(hoard));
	for (unsigned round = 0; round < 300; round++) {
		for (unsigned i = 0; i < HOARDERS; i++) {
			struct relay_frame *f = relay_frame_get(pool, 1514);

			ck_assert_ptr_nonnull(f);
			dropped += !relay_queue_push(pool, &hoard[i], f, MIB, 0);
			relay_frame_put(pool, f);
		}
		for (unsigned i = 0; i < 4; i++) {
			struct relay_frame *f = relay_frame_get(pool, 1514);

			ck_assert_ptr_nonnull(f);
			ck_assert(relay_queue_push(pool, &good, f, MIB, 0));
			relay_frame_put(pool, f);
		}
		while (good.frames)
			relay_queue_pop(pool, &good);
		ck_assert_uint_le(relay_pool_used(pool), BYTES);
	}
	ck_assert_uint_gt(dropped, 0);
	for (unsigned i = 0; i < HOARDERS; i++)
		relay_queue_clear(pool, &hoard[i]);
	ck_assert_uint_eq(relay_pool_used(pool), 0);
	relay_pool_destroy(pool);
}
END_TEST

START_TEST(queue_limit)
{
	struct error err = { "" };
	struct relay_pool *pool = relay_pool_create(64 * MIB, &err);
	struct relay_queue q = { 0 };
	unsigned n = 0;

	for (;; n++) {
		struct relay_frame *f = relay_frame_get(pool, 1000);
		bool ok = relay_queue_push(pool, &q, f, 64 * KIB, 0);

		relay_frame_put(pool, f);
		if (!ok)
			break;
		ck_assert_uint_lt(n, 100);
	}
	ck_assert_uint_ge(n, 30);
	ck_assert_uint_le(q.bytes, 64 * KIB);
	ck_assert_uint_eq(relay_queue_clear(pool, &q), n);
	relay_pool_destroy(pool);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("relay_switch");
	TCase *tc = tcase_create("relay_switch");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, learns_and_switches);
	tcase_add_test(tc, ages);
	tcase_add_test(tc, one_owner);
	tcase_add_test(tc, a_million_addresses);
	tcase_add_test(tc, random_walk);
	tcase_add_test(tc, no_frames);
	tcase_add_test(tc, bucket);
	tcase_add_test(tc, queue_order_and_references);
	tcase_add_test(tc, hoarders);
	tcase_add_test(tc, queue_limit);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
