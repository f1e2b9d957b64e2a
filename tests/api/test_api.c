/* The C API as a program sees it: linked to the shared library, gannet.h alone.
 *
 * Two machines run at once in two threads, each a multiboot kernel of a few
 * bytes that counts and then ends the machine with a code of its own.
 */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/gannet.h"

/* mov ecx,50000000; loop $; mov al,CODE; out 0xf4,al; jmp $ behind a multiboot
 * header with addresses: 0x100000. */
static void write_kernel(const char *path, uint8_t code)
{
	uint32_t header[8] = {
		0x1badb002, 1 << 16, -(0x1badb002u + (1 << 16)),
		0x100000, 0x100000, 0, 0, 0x100020,
	};
	uint8_t text[] = { 0xb9, 0x80, 0xf0, 0xfa, 0x02, 0xe2, 0xfe, 0xb0, code, 0xe6, 0xf4, 0xeb, 0xfe };
	FILE *f = fopen(path, "wb");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(header, sizeof(header), 1, f), 1);
	ck_assert_uint_eq(fwrite(text, sizeof(text), 1, f), 1);
	fclose(f);
}

static struct gannet *machine(const char *kernel)
{
	struct gannet_config cfg;
	struct gannet *g;
	char why[256] = "";

	gannet_config_init(&cfg);
	cfg.memory = 16 << 20;
	cfg.kernel = kernel;
	cfg.debug_exit = true;
	g = gannet_create(&cfg, why, sizeof(why));
	ck_assert_msg(g != NULL, "%s", why);
	return g;
}

static void *run(void *g)
{
	return (void *)(intptr_t)gannet_run(g);
}

START_TEST(two_machines_in_two_threads)
{
	char path[2][40] = { "/tmp/gannet-api-XXXXXX", "/tmp/gannet-api-XXXXXX" };
	struct gannet *g[2];
	pthread_t thread[2];

	for (int i = 0; i < 2; i++) {
		close(mkstemp(path[i]));
		write_kernel(path[i], 10 + i);
		g[i] = machine(path[i]);
		unlink(path[i]); /* it was read */
	}
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, run, g[i]), 0);
	for (int i = 0; i < 2; i++) {
		void *end;

		pthread_join(thread[i], &end);
		ck_assert_int_eq((intptr_t)end, GANNET_DEBUG_EXIT);
		ck_assert_int_eq(gannet_exit_code(g[i]), (10 + i) * 2 + 1);
		gannet_destroy(g[i]);
	}
}
END_TEST

START_TEST(quit_from_another_thread)
{
	char path[] = "/tmp/gannet-api-XXXXXX", state[2048];
	struct gannet *g;
	pthread_t thread;
	FILE *f;
	void *end;

	close(mkstemp(path));
	write_kernel(path, 0);
	f = fopen(path, "r+b");
	fseek(f, 32, SEEK_SET);
	fwrite("\xeb\xfe", 2, 1, f); /* jmp $ */
	fclose(f);
	g = machine(path);
	unlink(path);
	ck_assert_int_eq(pthread_create(&thread, NULL, run, g), 0);
	usleep(50000);
	gannet_quit(g);
	pthread_join(thread, &end);
	ck_assert_int_eq((intptr_t)end, GANNET_QUIT);
	ck_assert_uint_gt(gannet_cpu_dump(g, state, sizeof(state)), 0);
	ck_assert_ptr_nonnull(strstr(state, "00100020"));
	gannet_destroy(g);
}
END_TEST

/* A machine that begins paused, and what its callbacks see. */
struct paused {
	struct gannet *g;
	int fd;
	unsigned said, ready;
	struct gannet_watch *watch;
};

static void paused_said(void *opaque, const uint8_t *buf, size_t len)
{
	struct paused *p = opaque;

	ck_assert_int_eq(buf[0], 'x');
	p->said += len;
	if (p->said >= 1000)
		gannet_quit(p->g);
}

static void paused_ready(void *opaque, unsigned events)
{
	struct paused *p = opaque;
	struct gannet_status s;
	char byte;

	ck_assert_uint_eq(events, GANNET_READ);
	ck_assert_int_eq(read(p->fd, &byte, 1), 1);
	gannet_status(p->g, &s);
	ck_assert(s.paused);
	ck_assert_int_eq(s.clock, 0);
	ck_assert_uint_eq(s.memory, 16 << 20);
	ck_assert_uint_eq(p->said, 0);
	if (++p->ready == 2)
		gannet_resume(p->g);
}

START_TEST(paused_machine_serves_descriptors)
{
	static const uint8_t text[] = { 0x66, 0xba, 0xf8, 0x03, 0xb0, 'x', 0xee, 0xeb, 0xfd };
	char path[] = "/tmp/gannet-api-XXXXXX";
	struct paused p = { .said = 0 };
	struct gannet_screen screen;
	pthread_t thread;
	int fds[2];
	FILE *f;
	void *end;

	close(mkstemp(path));
	write_kernel(path, 0);
	f = fopen(path, "r+b");
	fseek(f, 32, SEEK_SET);
	fwrite(text, sizeof(text), 1, f); /* mov dx,0x3f8; mov al,'x'; out dx,al; jmp to that */
	fclose(f);
	p.g = machine(path);
	unlink(path);
	ck_assert_int_eq(pipe(fds), 0);
	p.fd = fds[0];
	p.watch = gannet_watch_open(p.g, p.fd, GANNET_READ, paused_ready, &p);
	ck_assert_ptr_nonnull(p.watch);
	ck_assert(gannet_serial_tap(p.g, 0, paused_said, &p));
	ck_assert(!gannet_serial_tap(p.g, GANNET_SERIALS, paused_said, &p));
	gannet_pause(p.g);
	ck_assert_int_eq(pthread_create(&thread, NULL, run, p.g), 0);
	for (unsigned i = 0; i < 2; i++) {
		usleep(30000);
		ck_assert_int_eq(write(fds[1], "!", 1), 1);
	}
	pthread_join(thread, &end);
	ck_assert_int_eq((intptr_t)end, GANNET_QUIT);
	ck_assert_uint_eq(p.ready, 2);
	ck_assert_uint_ge(p.said, 1000);
	ck_assert(gannet_screen(p.g, &screen));
	ck_assert(screen.text);
	ck_assert_uint_eq(screen.cols * screen.rows, 80 * 25);
	gannet_watch_close(p.watch);
	gannet_destroy(p.g);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

/* A program that wants another backend as soon as it is told something. */
struct switcher {
	struct gannet *g;
	unsigned told, refused;
};

static void switch_now(void *opaque, const char *text)
{
	static const struct gannet_net_peer peer = { .send = NULL };
	struct switcher *s = opaque;
	char why[256] = "";

	s->told++;
	s->refused += !gannet_net_open(s->g, 0, "none:", why, sizeof(why));
	ck_assert_msg(strstr(why, "gannet_call()"), "%s: %s", text, why);
	s->refused += !gannet_net_attach(s->g, 0, &peer, NULL, why, sizeof(why));
	s->refused += !gannet_capture(s->g, NULL, why, sizeof(why));
}

START_TEST(nothing_is_replaced_from_within)
{
	char dir[] = "/tmp/gannet-api-XXXXXX", url[80], why[256] = "";
	struct gannet_net_info info;
	struct gannet_config cfg;
	struct switcher s = { .told = 0 };

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(url, sizeof(url), "stream:unix:%s/s?server=on", dir);
	gannet_config_init(&cfg);
	cfg.memory = 16 << 20;
	cfg.nics = 1;
	cfg.notify = switch_now;
	cfg.notify_opaque = &s;
	s.g = gannet_create(&cfg, why, sizeof(why));
	ck_assert_msg(s.g != NULL, "%s", why);
	/* It says that it waits for a peer. */
	ck_assert_msg(gannet_net_open(s.g, 0, url, why, sizeof(why)), "%s", why);
	ck_assert_uint_eq(s.told, 1);
	ck_assert_uint_eq(s.refused, 3);
	ck_assert(gannet_net_info(s.g, 0, &info));
	ck_assert_str_eq(info.backend, "stream");
	ck_assert(gannet_net_open(s.g, 0, "none:", why, sizeof(why)));
	ck_assert(gannet_capture(s.g, NULL, why, sizeof(why)));
	gannet_destroy(s.g);
	rmdir(dir);
}
END_TEST

/* Stages of card 0 from the guest on, joined by blanks. */
static const char *stages(const struct gannet *g)
{
	static char text[256];
	const char *name;

	text[0] = '\0';
	for (unsigned i = 0; (name = gannet_net_stage(g, 0, i, NULL)); i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "", name);
	return text;
}

START_TEST(a_capture_is_the_same_whenever_it_begins)
{
	char path[] = "/tmp/gannet-api-XXXXXX", before[256], why[256] = "";
	struct gannet_config cfg;
	struct gannet *g;

	close(mkstemp(path));
	gannet_config_init(&cfg);
	cfg.memory = 16 << 20;
	cfg.nics = 1;
	cfg.nic[0].net = "loopback:?delay=1ms";
	cfg.capture = path;
	g = gannet_create(&cfg, why, sizeof(why));
	ck_assert_msg(g != NULL, "%s", why);
	strcpy(before, stages(g));
	ck_assert_ptr_nonnull(strstr(before, "capture-wire impair"));
	/* Not over itself: that would be the end of both. */
	ck_assert(!gannet_capture(g, path, why, sizeof(why)));
	ck_assert_str_eq(stages(g), before);
	ck_assert(gannet_capture(g, NULL, why, sizeof(why)));
	ck_assert_ptr_null(strstr(stages(g), "capture"));
	ck_assert_msg(gannet_capture(g, path, why, sizeof(why)), "%s", why);
	ck_assert_str_eq(stages(g), before);
	gannet_destroy(g);
	unlink(path);
}
END_TEST

START_TEST(refusals_have_a_reason)
{
	struct gannet_config cfg;
	char why[256] = "";

	gannet_config_init(&cfg);
	cfg.kernel = "/nonexistent/vmlinuz";
	ck_assert_ptr_null(gannet_create(&cfg, why, sizeof(why)));
	ck_assert_str_eq(why, "-kernel /nonexistent/vmlinuz: No such file or directory");
	ck_assert_ptr_null(gannet_create(&cfg, NULL, 0));
	gannet_destroy(NULL);
}
END_TEST

START_TEST(lists_end)
{
	const char *text = NULL;
	unsigned n = 0;

	ck_assert_str_eq(gannet_version(), "0.1.0");
	for (; gannet_cpu_model(n, &text); n++)
		ck_assert_ptr_nonnull(text);
	ck_assert_uint_gt(n, 0);
	ck_assert_ptr_null(gannet_cpu_model(n + 1, NULL));
	for (n = 0; gannet_trace_channel(n); n++)
		;
	ck_assert_uint_gt(n, 5);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("api");
	TCase *tc = tcase_create("api");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, two_machines_in_two_threads);
	tcase_add_test(tc, quit_from_another_thread);
	tcase_add_test(tc, paused_machine_serves_descriptors);
	tcase_add_test(tc, nothing_is_replaced_from_within);
	tcase_add_test(tc, a_capture_is_the_same_whenever_it_begins);
	tcase_add_test(tc, refusals_have_a_reason);
	tcase_add_test(tc, lists_end);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
