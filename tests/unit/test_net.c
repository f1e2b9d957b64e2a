/* The network port, the queue between threads, MAC addresses and URLs. */
#include <pthread.h>
#include <poll.h>
#include <unistd.h>

#include "backends/backend.h"
#include "core/frame_queue.h"
#include "tests/unit/net_world.h"

static struct net_world w;

static void setup(void)
{
	net_world_init(&w);
}

static void teardown(void)
{
	net_world_finish(&w);
}

/* ---- stages that leave marks, and a backend that can be full ---- */

struct mark {
	struct net_stage base;
	uint8_t letter;
};

static bool destroyed;

static void mark_frame(struct net_stage *s, enum net_dir dir, const uint8_t *frame, size_t len)
{
	uint8_t copy[NET_FRAME_MAX];

	memcpy(copy, frame, len);
	if (len < NET_FRAME_MAX)
		copy[len++] = container_of(s, struct mark, base)->letter;
	net_stage_pass(s, dir, copy, len);
}

static void mark_destroy(struct net_stage *s)
{
	destroyed = true;
	free(container_of(s, struct mark, base));
}

static const struct net_stage_ops mark_ops = {
	.name = "mark", .frame = mark_frame, .destroy = mark_destroy,
};

static struct net_stage *mark_create(uint8_t letter)
{
	struct mark *m = calloc(1, sizeof(*m));

	m->base.ops = &mark_ops;
	m->base.enabled = true;
	m->letter = letter;
	return &m->base;
}

struct sink {
	struct net_backend base;
	bool full, closed, echo;
	unsigned readable, frames;
	size_t len;
	uint8_t data[NET_FRAME_MAX];
};

static bool sink_can_send(struct net_backend *b)
{
	return !container_of(b, struct sink, base)->full;
}

static void sink_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	struct sink *s = container_of(b, struct sink, base);

	s->frames++;
	s->len = len;
	memcpy(s->data, frame, len);
	if (s->echo)
		net_port_receive(b->port, frame, len);
}

static void sink_readable(struct net_backend *b)
{
	container_of(b, struct sink, base)->readable++;
}

static void sink_close(struct net_backend *b)
{
	container_of(b, struct sink, base)->closed = true;
}

static const struct net_backend_ops sink_ops = {
	.name = "sink", .can_send = sink_can_send, .send = sink_send, .readable = sink_readable,
	.close = sink_close,
};

static const uint8_t frame[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

START_TEST(stages_are_met_in_order_both_ways)
{
	struct sink s = { .base = { &sink_ops, &w.port, { NULL, 0 } } };

	net_port_set_backend(&w.port, &s.base);
	net_port_add_stage(&w.port, mark_create('b'));
	net_port_add_first_stage(&w.port, mark_create('a'));
	net_port_send(&w.port, frame, sizeof(frame));
	ck_assert_uint_eq(s.len, 62);
	ck_assert_mem_eq(s.data + 60, "ab", 2);
	net_port_receive(&w.port, frame, sizeof(frame));
	ck_assert_uint_eq(w.frame[0].len, 62);
	ck_assert_mem_eq(w.frame[0].data + 60, "ba", 2);

	net_port_find_stage(&w.port, "mark")->enabled = false;
	net_port_receive(&w.port, frame, sizeof(frame));
	ck_assert_uint_eq(w.frame[1].len, 61);
	ck_assert_uint_eq(w.frame[1].data[60], 'b');

	destroyed = false;
	net_port_remove_stage(&w.port, net_port_find_stage(&w.port, "mark"));
	ck_assert(destroyed);
	net_port_send(&w.port, frame, sizeof(frame));
	ck_assert_uint_eq(s.len, 61);
	ck_assert_uint_eq(s.data[60], 'b');
	ck_assert_uint_eq(w.port.wire[NET_TO_WIRE].frames, 2);
	ck_assert_uint_eq(w.port.guest[NET_TO_GUEST].bytes, 62 + 61);

	net_port_add_stage_before(&w.port, mark_create('c'), w.port.stages[NET_TO_WIRE]);
	net_port_add_stage_before(&w.port, mark_create('d'), w.port.stages[NET_TO_GUEST]);
	net_port_send(&w.port, frame, sizeof(frame));
	ck_assert_mem_eq(s.data + 60, "cdb", 3);
	net_port_receive(&w.port, frame, sizeof(frame));
	ck_assert_mem_eq(w.frame[2].data + 60, "bdc", 3);
}
END_TEST

START_TEST(both_ends_push_back_and_are_woken_once)
{
	struct sink s = { .base = { &sink_ops, &w.port, { NULL, 0 } }, .full = true };

	net_port_set_backend(&w.port, &s.base);
	ck_assert(!net_port_can_send(&w.port));
	s.full = false;
	net_port_writable(&w.port);
	net_port_writable(&w.port);
	ck_assert_uint_eq(w.writable, 1);
	w.full = true;
	ck_assert(!net_port_can_receive(&w.port));
	w.full = false;
	net_port_readable(&w.port);
	net_port_readable(&w.port);
	ck_assert_uint_eq(s.readable, 1);
}
END_TEST

START_TEST(what_is_dropped_is_counted_by_name)
{
	struct sink s = { .base = { &sink_ops, &w.port, { NULL, 0 } }, .full = true };
	static const uint8_t big[NET_FRAME_MAX + 1];

	net_port_send(&w.port, frame, sizeof(frame));
	ck_assert_uint_eq(net_world_counter(&w.port.counters, "drop.no-peer"), 1);
	net_port_set_backend(&w.port, &s.base);
	net_port_send(&w.port, frame, 0);
	net_port_receive(&w.port, frame, 13);
	ck_assert_uint_eq(net_world_counter(&w.port.counters, "drop.too-short"), 2);
	net_port_receive(&w.port, big, sizeof(big));
	ck_assert_uint_eq(net_world_counter(&w.port.counters, "drop.too-long"), 1);
	net_port_receive(&w.port, big, NET_FRAME_MAX);
	ck_assert_uint_eq(w.frames, 1);

	/* A pulled cable takes frames, so that nobody waits for it. */
	ck_assert(!net_port_can_send(&w.port));
	net_port_set_link(&w.port, false);
	ck_assert_uint_eq(w.writable, 1);
	ck_assert(net_port_can_send(&w.port));
	net_port_send(&w.port, frame, sizeof(frame));
	net_port_receive(&w.port, frame, sizeof(frame));
	ck_assert_uint_eq(net_world_counter(&w.port.counters, "drop.link-down"), 2);
	ck_assert_uint_eq(w.carrier_changes, 1);
	net_port_set_carrier(&w.port, false);
	net_port_set_link(&w.port, true);
	ck_assert_uint_eq(w.carrier_changes, 1);
	net_port_set_carrier(&w.port, true);
	ck_assert_uint_eq(w.carrier_changes, 2);
}
END_TEST

START_TEST(a_new_backend_closes_the_old_one)
{
	struct sink s = { .base = { &sink_ops, &w.port, { NULL, 0 } }, .full = true };
	struct error err = { "" };
	struct backend_env env = { NULL };
	struct net_backend *none = backend_open(&env, &w.port, "none", &err);

	ck_assert_msg(none != NULL, "%s", err.text);
	net_port_set_backend(&w.port, &s.base);
	ck_assert(!net_port_can_send(&w.port));
	net_port_set_backend(&w.port, none);
	ck_assert(s.closed);
	ck_assert_uint_eq(w.writable, 1);
	net_port_send(&w.port, frame, sizeof(frame));
	ck_assert_uint_eq(net_world_counter(&none->counters, "drop.nobody-there"), 1);
}
END_TEST

/* ---- the queue ---- */

START_TEST(queue_keeps_order_and_content_across_its_end)
{
	struct frame_queue *q = frame_queue_create(65536, NULL);
	uint8_t data[NET_FRAME_MAX];
	unsigned in = 0, out = 0;

	for (unsigned round = 0; round < 20000; round++) {
		unsigned len = round * 7919 % (NET_FRAME_MAX - 14) + 14;

		memset(data, in & 0xff, len);
		if (frame_queue_room(q, len)) {
			ck_assert(frame_queue_push(q, data, len, in));
			in++;
			continue;
		}
		ck_assert(!frame_queue_push(q, data, len, in));
		for (const struct frame *f; (f = frame_queue_peek(q));) {
			ck_assert_int_eq(f->stamp, out);
			ck_assert_uint_eq(f->data[0], out & 0xff);
			ck_assert_uint_eq(f->data[f->len - 1], out & 0xff);
			frame_queue_pop(q);
			out++;
		}
		ck_assert_uint_eq(in, out);
	}
	ck_assert_uint_gt(out, 1000);
	frame_queue_destroy(q);
}
END_TEST

enum { THREAD_FRAMES = 200000 };

static void wait_readable(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };

	ck_assert_int_eq(poll(&p, 1, 10000), 1);
}

static void *produce(void *opaque)
{
	struct frame_queue *q = opaque;
	uint32_t data[16];

	for (uint32_t i = 0; i < THREAD_FRAMES; i++) {
		for (unsigned k = 0; k < 16; k++)
			data[k] = i;
		while (!frame_queue_push(q, (uint8_t *)data, 14 + i % 50, i)) {
			if (frame_queue_want_room(q)) {
				wait_readable(frame_queue_room_fd(q));
				frame_queue_room_seen(q);
			}
		}
	}
	return NULL;
}

START_TEST(queue_between_threads_loses_nothing_and_sleeps)
{
	struct frame_queue *q = frame_queue_create(65536, NULL);
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, produce, q), 0);
	for (uint32_t i = 0; i < THREAD_FRAMES;) {
		const struct frame *f = frame_queue_peek(q);
		uint32_t first;

		if (!f) {
			if (frame_queue_arm(q))
				wait_readable(frame_queue_fd(q));
			continue;
		}
		memcpy(&first, f->data, sizeof(first));
		ck_assert_uint_eq(first, i);
		ck_assert_uint_eq(f->len, 14 + i % 50);
		frame_queue_pop(q);
		i++;
	}
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_ptr_null(frame_queue_peek(q));
	frame_queue_destroy(q);
}
END_TEST

static bool is_readable(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };

	return poll(&p, 1, 0) == 1;
}

/* A consumer with a budget, or one that is told "not now", goes while there are frames,
 * and whatever came while it armed the queue must not make it sleep over them. */
START_TEST(queue_that_is_not_armed_stays_readable)
{
	struct frame_queue *q = frame_queue_create(65536, NULL);
	uint8_t data[64] = { 0 };

	ck_assert(frame_queue_push(q, data, sizeof(data), 0));
	ck_assert(!frame_queue_arm(q));
	ck_assert(is_readable(frame_queue_fd(q)));
	ck_assert_ptr_nonnull(frame_queue_peek(q));
	frame_queue_pop(q);
	ck_assert(frame_queue_arm(q));
	ck_assert(!is_readable(frame_queue_fd(q)));
	ck_assert(frame_queue_push(q, data, sizeof(data), 0));
	ck_assert(is_readable(frame_queue_fd(q)));
	frame_queue_seen(q);
	ck_assert(!is_readable(frame_queue_fd(q)));
	frame_queue_destroy(q);
}
END_TEST

/* ---- addresses and URLs ---- */

START_TEST(mac_addresses)
{
	uint8_t mac[6] = { 1, 2, 3, 4, 5, 6 }, other[6];
	char text[NET_MAC_TEXT_SIZE];

	ck_assert(net_mac_parse("52:54:00:aB:34:56", mac));
	ck_assert_str_eq(net_mac_format(text, mac), "52:54:00:ab:34:56");
	ck_assert(net_mac_parse("52-54-00-ab-34-57", mac));
	ck_assert(!net_mac_parse("", other));
	ck_assert(!net_mac_parse("52:54:00:ab:34", other));
	ck_assert(!net_mac_parse("52:54:00:ab:34:5", other));
	ck_assert(!net_mac_parse("52:54:00:ab:34:56:", other));
	ck_assert(!net_mac_parse("52:54:00:ab:34:5g", other));
	for (unsigned i = 0; i < 100; i++) {
		net_mac_random(mac);
		ck_assert_uint_eq(mac[0] & 3, 2);
		ck_assert(net_mac_is_station(mac));
	}
	net_mac_random(other);
	ck_assert_mem_ne(mac, other, 6);
}
END_TEST

START_TEST(urls_are_taken_apart)
{
	struct error err = { "" };
	struct backend_url *url = backend_url_parse("WS://[::1]:8080/a%20b?token=a%26b&ping=20ms&x&n=7", &err);
	uint64_t n = 0;
	int64_t ns = 0;
	bool x = false;

	ck_assert_msg(url != NULL, "%s", err.text);
	ck_assert_str_eq(url->scheme, "ws");
	ck_assert_str_eq(url->host, "::1");
	ck_assert_uint_eq(url->port, 8080);
	ck_assert_str_eq(url->path, "/a%20b");
	ck_assert_str_eq(url_text(url, "token"), "a&b");
	ck_assert_ptr_null(url_text(url, "nothing"));
	ck_assert(url_time(url, "ping", NS_PER_S, &ns, &err));
	ck_assert_int_eq(ns, 20000000);
	ck_assert(url_bool(url, "x", &x, &err) && x);
	ck_assert(url_number(url, "n", 1, 7, &n, &err) && n == 7);
	ck_assert(!url_number(url, "n", 8, 9, &n, &err));
	ck_assert(!url_time(url, "ping", 1000, &ns, &err));
	backend_url_free(url);

	url = backend_url_parse("pcap:in=a.pcap,out=b.pcap", &err);
	ck_assert_str_eq(url->body, "in=a.pcap,out=b.pcap");
	ck_assert_ptr_null(url->host);
	backend_url_free(url);
}
END_TEST

START_TEST(bad_urls_are_refused_in_one_line)
{
	static const char *const bad[][2] = {
		{ "", "not SCHEME:" }, { ":", "not SCHEME:" }, { "no such:thing", "not SCHEME:" },
		{ "carrier-pigeon:", "there are" }, { "ws://", "no host" },
		{ "ws://h:0/", "no port" }, { "ws://h:65536/", "no port" }, { "ws://[::1/", "']'" },
		{ "none?a=%", "%25" }, { "none?a=%00", "%25" }, { "none?a=1&a=2", "twice" },
		{ "none?colour=red", "'colour' is no parameter" },
	};
	struct backend_env env = { NULL };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = { "" };

		ck_assert_msg(!backend_open(&env, &w.port, bad[i][0], &err), "%s", bad[i][0]);
		ck_assert_msg(strstr(err.text, bad[i][1]), "%s: %s", bad[i][0], err.text);
		ck_assert_ptr_null(strchr(err.text, '\n'));
	}
}
END_TEST

START_TEST(a_token_is_not_shown)
{
	struct error err = { "" };
	struct backend_env env = { NULL };

	ck_assert_ptr_null(backend_open(&env, &w.port, "none?token=geheim&colour=red", &err));
	ck_assert_ptr_null(strstr(err.text, "geheim"));
	ck_assert_ptr_nonnull(strstr(err.text, "none?token=...&colour=red"));
	ck_assert_ptr_null(backend_open(&env, &w.port, "none?token=geheim&token=secreto&a=b", &err));
	ck_assert_ptr_null(strstr(err.text, "geheim"));
	ck_assert_ptr_null(strstr(err.text, "secreto"));
	ck_assert_ptr_nonnull(strstr(err.text, "&a=b"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("net");
	TCase *c = tcase_create("net");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 30);
	tcase_add_test(c, stages_are_met_in_order_both_ways);
	tcase_add_test(c, both_ends_push_back_and_are_woken_once);
	tcase_add_test(c, what_is_dropped_is_counted_by_name);
	tcase_add_test(c, a_new_backend_closes_the_old_one);
	tcase_add_test(c, queue_keeps_order_and_content_across_its_end);
	tcase_add_test(c, queue_between_threads_loses_nothing_and_sleeps);
	tcase_add_test(c, queue_that_is_not_armed_stays_readable);
	tcase_add_test(c, mac_addresses);
	tcase_add_test(c, urls_are_taken_apart);
	tcase_add_test(c, bad_urls_are_refused_in_one_line);
	tcase_add_test(c, a_token_is_not_shown);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
