/* A machine without a machine, for capture_tshark.py: a port whose card and wire are
 * the standard input. Commands, a line each, answered by "ok" or "error TEXT":
 *
 *	capture PATH [ROTATE [KEEP]]  start one, with a tap on each side
 *	stop                          end it
 *	backend URL                   attach one; without it frames go nowhere
 *	send HEX / receive HEX        a frame from the guest / from the wire
 *	limit BYTES                   RLIMIT_FSIZE; 0: none
 *
 * In between come "notify TEXT" and, for what the card receives, "frame HEX".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "backends/backend.h"
#include "core/loop.h"
#include "core/net.h"
#include "translate/capture.h"

struct writer {
	struct loop *loop;
	struct trace trace;
	struct net_port port;
	struct net_nic nic;
	struct backend_env env;
	struct capture *capture;
	struct net_stage *taps[2];
	bool over;
	char input[65536];
	size_t used;
};

static void kick(void *opaque)
{
	(void)opaque;
}

static void receive(struct net_nic *nic, const uint8_t *frame, size_t len)
{
	(void)nic;
	printf("frame ");
	for (size_t i = 0; i < len; i++)
		printf("%02x", frame[i]);
	printf("\n");
}

static const struct net_nic_ops nic_ops = { .name = "writer", .receive = receive };

static void notify(void *opaque, const char *text)
{
	(void)opaque;
	printf("notify %s\n", text);
}

static size_t parse_hex(const char *text, uint8_t *frame)
{
	unsigned byte;
	size_t len = 0;

	while (len < NET_FRAME_MAX && sscanf(text + 2 * len, "%2x", &byte) == 1)
		frame[len++] = byte;
	return len;
}

static bool start(struct writer *w, const char *text, struct error *err)
{
	char path[1024];
	unsigned long long rotate = 0;
	unsigned keep = 0;

	sscanf(text, "%1023s %llu %u", path, &rotate, &keep);
	w->capture = capture_create(w->loop, &(struct capture_config){ path, rotate, keep, 0 }, err);
	if (!w->capture)
		return false;
	w->taps[0] = capture_tap_create(w->capture, "capture-guest", "net0 guest", err);
	w->taps[1] = capture_tap_create(w->capture, "capture-wire", "net0 wire", err);
	for (unsigned i = 0; i < 2; i++)
		net_port_add_stage(&w->port, w->taps[i]);
	return true;
}

static void stop(struct writer *w)
{
	for (unsigned i = 0; i < 2 && w->capture; i++)
		net_port_remove_stage(&w->port, w->taps[i]);
	capture_destroy(w->capture);
	w->capture = NULL;
}

static bool command(struct writer *w, const char *line, struct error *err)
{
	const char *text = line + strcspn(line, " ");
	uint8_t frame[NET_FRAME_MAX];

	text += *text == ' ';
	if (!strncmp(line, "capture ", 8))
		return start(w, text, err);
	if (!strncmp(line, "send ", 5)) {
		net_port_send(&w->port, frame, parse_hex(text, frame));
	} else if (!strncmp(line, "receive ", 8)) {
		net_port_receive(&w->port, frame, parse_hex(text, frame));
	} else if (!strcmp(line, "stop")) {
		stop(w);
	} else if (!strncmp(line, "backend ", 8)) {
		struct net_backend *b = backend_open(&w->env, &w->port, text, err);

		net_port_set_backend(&w->port, b);
		return b != NULL;
	} else if (!strncmp(line, "limit ", 6)) {
		struct rlimit r;

		getrlimit(RLIMIT_FSIZE, &r);
		r.rlim_cur = strtoull(text, NULL, 10) ? strtoull(text, NULL, 10) : RLIM_INFINITY;
		setrlimit(RLIMIT_FSIZE, &r);
	} else {
		error_set(err, "what is '%s'?", line);
		return false;
	}
	return true;
}

static void readable(void *opaque, unsigned events)
{
	struct writer *w = opaque;
	ssize_t n = read(STDIN_FILENO, w->input + w->used, sizeof(w->input) - w->used);
	char *line = w->input, *end;

	(void)events;
	w->over = n <= 0;
	w->used += n > 0 ? n : 0;
	while ((end = memchr(line, '\n', w->input + w->used - line))) {
		struct error err = { "" };

		*end = '\0';
		if (command(w, line, &err))
			printf("ok\n");
		else
			printf("error %s\n", err.text);
		line = end + 1;
	}
	w->used -= line - w->input;
	memmove(w->input, line, w->used);
}

int main(void)
{
	static struct writer w;
	struct error err = { "" };
	struct watch *watch;

	setvbuf(stdout, NULL, _IOLBF, 0);
	w.loop = loop_create(kick, NULL, &err);
	if (!w.loop)
		return 1;
	loop_resume(w.loop);
	w.trace.out = stderr;
	net_port_init(&w.port, w.loop, &w.trace, 0);
	w.port.notify = notify;
	w.nic.ops = &nic_ops;
	net_port_set_nic(&w.port, &w.nic);
	watch = loop_watch(w.loop, STDIN_FILENO, LOOP_READ, readable, &w, &err);
	while (watch && !w.over)
		loop_wait(w.loop);
	loop_unwatch(watch);
	stop(&w);
	net_port_finish(&w.port);
	loop_destroy(w.loop);
	return 0;
}
