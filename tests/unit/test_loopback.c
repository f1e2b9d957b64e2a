/* loopback: and loopback:NAME: the switch, its push-back, members that die, stop or lie. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/backend.h"
#include "tests/unit/net_world.h"

enum { WORLDS = 4, SHORT = 60 };

static struct net_world *w[WORLDS]; /* cards, each with a loop of its own ... */
static struct backend_env env;
static char dir[64];                /* XDG_RUNTIME_DIR */

static void setup(void)
{
	snprintf(dir, sizeof(dir), "%s", "/tmp/gannet-test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	setenv("XDG_RUNTIME_DIR", dir, 1);
	env.lan = NULL;
	for (unsigned i = 0; i < WORLDS; i++) {
		w[i] = malloc(sizeof(*w[i]));
		net_world_init(w[i]);
	}
}

static void remove_all(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
	rmdir(path);
}

static void teardown(void)
{
	char path[128];

	for (unsigned i = 0; i < WORLDS; i++) {
		net_world_finish(w[i]);
		free(w[i]);
	}
	ck_assert_ptr_null(env.lan);
	snprintf(path, sizeof(path), "%s/gannet", dir);
	remove_all(path);
	rmdir(dir);
}

static void join(unsigned i, const char *url)
{
	struct error err = { "" };
	struct net_backend *b = backend_open(&env, &w[i]->port, url, &err);

	ck_assert_msg(b != NULL, "%s", err.text);
	net_port_set_backend(&w[i]->port, b);
}

static uint64_t count(unsigned i, const char *name)
{
	return net_world_counter(&w[i]->port.backend->counters, name);
}

/* Station @i has the address 02:00:00:00:00:@i. */
static void make_frame(uint8_t *frame, unsigned to, unsigned from, uint32_t number)
{
	memset(frame, 0, SHORT);
	memset(frame, to == 0xff ? 0xff : 0, 6);
	if (to != 0xff)
		frame[0] = 2;
	frame[5] = to;
	frame[6] = 2;
	frame[11] = from;
	frame[12] = 0x88;
	frame[13] = 0xb5; /* local experimental */
	store_le32(frame + 14, number);
}

static void transmit(unsigned from, unsigned to, uint32_t number)
{
	uint8_t frame[SHORT];

	make_frame(frame, to, from, number);
	net_port_send(&w[from]->port, frame, sizeof(frame));
}

/* Lets all loops run until nothing has come for some time. */
static void settle(unsigned ms)
{
	struct timespec pause = { 0, 1000000 };

	for (unsigned i = 0; i < ms; i++) {
		for (unsigned j = 0; j < WORLDS; j++)
			loop_run(w[j]->loop);
		nanosleep(&pause, NULL);
	}
}

/* Lets the loops run until it is so. */
#define await(condition) do { \
	for (unsigned ms_ = 0; ms_ < 5000 && !(condition); ms_++) \
		settle(1); \
	ck_assert(condition); \
} while (0)

static void leap(int64_t ns)
{
	for (unsigned i = 0; i < WORLDS; i++)
		loop_set_now(w[i]->loop, loop_now(w[i]->loop) + ns);
}

/* ---- both kinds: _i 0 is "loopback:", 1 is "loopback:test" ---- */

static const char *const urls[] = { "loopback:", "loopback:test" };

static void join_all(int kind, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		join(i, urls[kind]);
	for (unsigned i = 0; i < n; i++)
		await(count(i, "peers-joined") == n - 1);
}

START_TEST(learns_and_floods_without_echo)
{
	join_all(_i, 3);
	transmit(0, 1, 1); /* nobody knows 1: all but the sender get it */
	await(w[1]->frames == 1);
	await(w[2]->frames == 1);
	await(w[1]->frame[0].len == SHORT);
	settle(10);
	ck_assert_uint_eq(w[0]->frames, 0);
	ck_assert_uint_eq(w[1]->frames, 1);
	ck_assert_uint_eq(w[2]->frames, 1);
	ck_assert_uint_eq(w[1]->frame[0].len, SHORT);
	transmit(1, 0, 2); /* 0 is known */
	await(w[0]->frames == 1);
	await(w[2]->frames == 1);
	settle(10);
	ck_assert_uint_eq(w[0]->frames, 1);
	ck_assert_uint_eq(w[2]->frames, 1);
	transmit(0, 1, 3); /* and so is 1 now */
	await(w[1]->frames == 2);
	await(w[2]->frames == 1);
	await(load_le32(w[1]->frame[1].data + 14) == 3);
	settle(10);
	ck_assert_uint_eq(w[1]->frames, 2);
	ck_assert_uint_eq(w[2]->frames, 1);
	ck_assert_uint_eq(load_le32(w[1]->frame[1].data + 14), 3);
	transmit(2, 0xff, 4);
	await(w[0]->frames == 2);
	await(w[1]->frames == 3);
	await(w[2]->frames == 1);
	settle(10);
	ck_assert_uint_eq(w[0]->frames, 2);
	ck_assert_uint_eq(w[1]->frames, 3);
	ck_assert_uint_eq(w[2]->frames, 1);
	transmit(2, 2, 5); /* to itself: a switch does not send it back */
	await(w[2]->frames == 1);
	await(count(2, "drop.own-address") == 1);
	settle(10);
	ck_assert_uint_eq(w[2]->frames, 1);
	ck_assert_uint_eq(count(2, "drop.own-address"), 1);
}
END_TEST

START_TEST(address_that_moves_is_followed)
{
	uint8_t frame[SHORT];

	join_all(_i, 3);
	transmit(1, 0xff, 1);
	await(w[0]->frames == 1);
	make_frame(frame, 0xff, 1, 2); /* 1's address, at station 2 */
	net_port_send(&w[2]->port, frame, sizeof(frame));
	await(w[0]->frames == 2);
	settle(10);
	w[1]->frames = w[2]->frames = 0;
	transmit(0, 1, 3);
	await(w[2]->frames == 1);
	settle(10);
	ck_assert_uint_eq(w[1]->frames, 0);
	ck_assert_uint_eq(w[2]->frames, 1);
}
END_TEST

/* IEEE 802.1D 7.9.2: an address nobody was heard from for 300 s is not known any more. */
START_TEST(address_ages_and_a_flood_of_them_does_no_harm)
{
	uint8_t frame[SHORT];

	join_all(_i, 3);
	transmit(1, 0xff, 1);
	await(w[0]->frames == 1 && w[2]->frames == 1);
	w[2]->frames = 0;
	leap(290 * NS_PER_S);
	transmit(0, 1, 2);
	await(w[1]->frames == 1);
	settle(10);
	ck_assert_uint_eq(w[2]->frames, 0);
	leap(20 * NS_PER_S);
	transmit(0, 1, 3);
	await(w[2]->frames == 1);
	settle(10);
	ck_assert_uint_eq(w[2]->frames, 1);
	/* More addresses than there is room for, then one that talks. */
	for (unsigned i = 1; i <= 20000; i++) {
		make_frame(frame, 0, 1, i);
		store_le32(frame + 8, i * 2654435761u);
		net_port_send(&w[1]->port, frame, sizeof(frame));
		if (!net_port_can_send(&w[1]->port))
			settle(1);
	}
	await(w[0]->frames == 20001);
	make_frame(frame, 0xff, 1, 0);
	net_port_send(&w[1]->port, frame, sizeof(frame));
	await(w[0]->frames == 20002);
	settle(10);
	w[1]->frames = w[2]->frames = 0;
	leap(1000000);
	transmit(0, 1, 4);
	await(w[1]->frames == 1);
	settle(10);
	ck_assert_uint_eq(w[1]->frames, 1);
	ck_assert_uint_eq(w[2]->frames, 0);
	ck_assert_uint_eq(count(1, "drop.queue-full"), 0);
}
END_TEST

START_TEST(lone_member_counts_its_drops)
{
	join_all(_i, 1);
	transmit(0, 0xff, 1);
	transmit(0, 1, 2);
	await(count(0, "drop.no-peer") == 2);
	await(w[0]->port.carrier);
	settle(10);
	ck_assert_uint_eq(count(0, "drop.no-peer"), 2);
	ck_assert(net_port_can_send(&w[0]->port));
	ck_assert(w[0]->port.carrier);
}
END_TEST

START_TEST(carrier_follows_company_if_asked)
{
	static const char *const with[] = { "loopback:?carrier=on", "loopback:test?carrier=on" };

	join(0, with[_i]);
	await(!w[0]->port.carrier);
	settle(10);
	ck_assert(!w[0]->port.carrier);
	join(1, urls[_i]);
	await(w[0]->port.carrier);
	settle(10);
	ck_assert(w[0]->port.carrier);
	net_port_set_backend(&w[1]->port, NULL);
	await(!w[0]->port.carrier);
	await(w[0]->carrier_changes == 3);
	settle(10);
	ck_assert(!w[0]->port.carrier);
	ck_assert_uint_eq(w[0]->carrier_changes, 3);
}
END_TEST

/* A card with room for three frames at a time, which checks their order. */
static unsigned room, expected;

static bool small_can_receive(struct net_nic *nic)
{
	(void)nic;
	return room > 0;
}

static void small_receive(struct net_nic *nic, const uint8_t *frame, size_t len)
{
	(void)nic;
	ck_assert_uint_eq(len, 1514);
	ck_assert_uint_gt(room, 0);
	ck_assert_uint_eq(load_le32(frame + 14), expected);
	room--;
	expected++;
}

static const struct net_nic_ops small_ops = {
	.name = "small", .can_receive = small_can_receive, .receive = small_receive,
};

/* One that is full makes the sender wait, and gets everything in order in the end. */
START_TEST(full_card_pushes_back_and_nothing_is_lost)
{
	unsigned sent = 0;
	uint8_t big[1514] = { 0 };

	join_all(_i, 2);
	transmit(1, 0xff, 0);
	await(w[0]->frames == 1);
	w[1]->nic.ops = &small_ops;
	room = expected = 0;
	make_frame(big, 1, 0, 0);
	while (net_port_can_send(&w[0]->port)) {
		store_le32(big + 14, sent++);
		net_port_send(&w[0]->port, big, sizeof(big));
		ck_assert_uint_lt(sent, 100000);
	}
	settle(10);
	ck_assert_uint_eq(expected, 0);
	ck_assert_uint_eq(w[0]->writable, 0);
	for (unsigned i = 0; i < 5000 && expected < sent; i++) {
		room = 3;
		net_port_readable(&w[1]->port);
		settle(1);
	}
	ck_assert_uint_eq(expected, sent);
	ck_assert_uint_eq(w[0]->writable, 1);
	ck_assert(net_port_can_send(&w[0]->port));
	ck_assert_uint_eq(count(0, "drop.peer-stalled"), 0);
	ck_assert_uint_eq(count(0, "drop.queue-full"), 0);
}
END_TEST

/* One that stays full is passed by after a second, and holds up nobody any more. */
START_TEST(stalled_card_does_not_stop_the_others)
{
	unsigned sent = 0;
	int64_t began;

	join_all(_i, 3);
	transmit(1, 0xff, 0);
	transmit(2, 0xff, 0);
	await(w[0]->frames == 2 && w[1]->frames == 1 && w[2]->frames == 1);
	w[1]->full = true;
	w[2]->frames = 0;
	while (net_port_can_send(&w[0]->port)) {
		transmit(0, 1, sent++);
		ck_assert_uint_lt(sent, 100000);
	}
	began = loop_now(w[0]->loop);
	transmit(0, 2, 0); /* waits behind the other */
	ck_assert_uint_eq(w[2]->frames, 0);
	while (!net_port_can_send(&w[0]->port) && loop_now(w[0]->loop) - began < 3 * NS_PER_S)
		settle(10);
	ck_assert_int_ge(loop_now(w[0]->loop) - began, NS_PER_S * 8 / 10);
	ck_assert_int_lt(loop_now(w[0]->loop) - began, NS_PER_S * 5 / 2);
	ck_assert_uint_eq(w[0]->notes, 1);
	await(w[2]->frames == 1);
	await(count(0, "drop.peer-stalled") == 1);
	settle(10);
	ck_assert_uint_eq(w[2]->frames, 1);
	ck_assert_uint_eq(count(0, "drop.peer-stalled"), 1);
	transmit(0, 0xff, 0); /* one more drop, one more delivery, at once */
	await(count(0, "drop.peer-stalled") == 2);
	await(w[2]->frames == 2);
	settle(10);
	ck_assert_uint_eq(count(0, "drop.peer-stalled"), 2);
	ck_assert_uint_eq(w[2]->frames, 2);
	/* It comes back. */
	w[1]->frames = 0;
	w[1]->full = false;
	net_port_readable(&w[1]->port);
	await(w[1]->frames == (_i ? sent - 1 : 0)); /* what was held up was given up */
	transmit(0, 1, 0);
	await(w[1]->frames == (_i ? sent : 1));
	settle(10);
	ck_assert_uint_eq(count(0, "drop.peer-stalled"), 2);
	ck_assert_uint_eq(w[1]->frames, _i ? sent : 1);
}
END_TEST

/* ---- a card that answers from within receive ---- */

static unsigned depth, deepest, answers;

static void answering_receive(struct net_nic *nic, const uint8_t *frame, size_t len)
{
	uint8_t reply[SHORT];

	depth++;
	deepest = MAX(deepest, depth);
	answers++;
	memcpy(reply, frame, MIN(len, sizeof(reply)));
	memcpy(reply, frame + 6, 6);
	memcpy(reply + 6, frame, 6);
	net_port_send(nic->port, reply, sizeof(reply));
	depth--;
}

static const struct net_nic_ops answering_ops = {
	.name = "answering", .receive = answering_receive,
};

START_TEST(cards_that_answer_each_other_do_not_recurse)
{
	struct backend_env one = { NULL };
	struct error err = { "" };
	struct net_port port;
	struct net_nic nic = { .ops = &answering_ops };

	/* Two ports on one loop, as the cards of one machine are. */
	net_port_init(&port, w[0]->loop, &w[0]->trace, 1);
	net_port_set_nic(&port, &nic);
	net_port_set_backend(&port, backend_open(&one, &port, "loopback:", &err));
	net_port_set_backend(&w[0]->port, backend_open(&one, &w[0]->port, "loopback:", &err));
	w[0]->nic.ops = &answering_ops;
	transmit(0, 1, 1);
	for (unsigned i = 0; i < 100; i++)
		loop_run(w[0]->loop);
	ck_assert_uint_eq(deepest, 1);
	ck_assert_uint_gt(answers, 10);
	net_port_finish(&port);
	net_port_set_backend(&w[0]->port, NULL);
	ck_assert_ptr_null(one.lan);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loopback");
	TCase *c = tcase_create("both");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 20);
	tcase_add_loop_test(c, learns_and_floods_without_echo, 0, 2);
	tcase_add_loop_test(c, address_that_moves_is_followed, 0, 2);
	tcase_add_loop_test(c, address_ages_and_a_flood_of_them_does_no_harm, 0, 2);
	tcase_add_loop_test(c, lone_member_counts_its_drops, 0, 2);
	tcase_add_loop_test(c, carrier_follows_company_if_asked, 0, 2);
	tcase_add_loop_test(c, full_card_pushes_back_and_nothing_is_lost, 0, 2);
	tcase_add_loop_test(c, stalled_card_does_not_stop_the_others, 0, 2);
	tcase_add_test(c, cards_that_answer_each_other_do_not_recurse);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
