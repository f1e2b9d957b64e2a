/* gannet ctl: one command to a running machine, its answer for a person.
 *
 * Words become a JSON request by a small table; the answer is printed as text or,
 * with --json, as it came. Exit code: 0 done; 1 the machine said no, or what was
 * waited for did not come; 2 it was not asked: a wrong word, or nobody there.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "core/util.h"
#include "tools/control.h"

enum { EXIT_NO = 1, EXIT_BAD_INPUT = 2, PATIENCE_S = 60, SAVE_PATIENCE_S = 3600 };

struct ctl {
	const char *path;
	int fd;
	bool json;       /* --json */
	bool compress, regex, enter;
	const char *timeout, *port;
	char *in;
	size_t in_len, in_room;
	bool progress_shown;
};

struct word {
	const char *name;
	const char *args;  /* for the usage */
	const char *help;
	unsigned least, most; /* arguments */
	bool (*make)(struct ctl *c, json_t *request, char **args, unsigned count);
	void (*show)(const json_t *reply); /* NULL: nothing to show */
};

static int complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int complain(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "gannet ctl: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return EXIT_BAD_INPUT;
}

/* ---- words to requests ---- */

static bool put(json_t *request, const char *name, const char *text)
{
	json_t *v = json_string(text);

	if (!v)
		complain("%s: not UTF-8", name);
	return v && !json_object_set_new(request, name, v);
}

/* The machine has a working directory of its own. */
static bool put_path(json_t *request, const char *path)
{
	char cwd[PATH_MAX], whole[2 * PATH_MAX];

	if (path[0] == '/' || !getcwd(cwd, sizeof(cwd)))
		return put(request, "path", path);
	snprintf(whole, sizeof(whole), "%s/%s", cwd, path);
	return put(request, "path", whole);
}

static bool put_switch(json_t *request, const char *name, const char *word)
{
	bool link = !strcmp(name, "up");
	bool on = !strcmp(word, link ? "up" : "on");

	if (!on && strcmp(word, link ? "down" : "off")) {
		complain("%s: write %s", word, link ? "up or down" : "on or off");
		return false;
	}
	return !json_object_set_new(request, name, json_boolean(on));
}

static bool put_number(json_t *request, const char *name, const char *text)
{
	char *end;
	double n = strtod(text, &end);

	if (end == text || *end) {
		complain("%s %s: not a number", name, text);
		return false;
	}
	if (n == (double)(json_int_t)n)
		return !json_object_set_new(request, name, json_integer((json_int_t)n));
	return !json_object_set_new(request, name, json_real(n));
}

static bool make_plain(struct ctl *c, json_t *request, char **args, unsigned count)
{
	return true;
}

static bool make_save(struct ctl *c, json_t *request, char **args, unsigned count)
{
	json_object_set_new(request, "compress", json_boolean(c->compress));
	json_object_set_new(request, "progress", json_boolean(isatty(STDERR_FILENO)));
	return put_path(request, args[0]);
}

static bool make_link(struct ctl *c, json_t *request, char **args, unsigned count)
{
	return put(request, "net", args[0]) && put_switch(request, "up", args[1]);
}

static bool make_backend(struct ctl *c, json_t *request, char **args, unsigned count)
{
	return put(request, "net", args[0]) && put(request, "url", args[1]);
}

static bool make_stage(struct ctl *c, json_t *request, char **args, unsigned count)
{
	return put(request, "net", args[0]) && put(request, "stage", args[1]) &&
	       put_switch(request, "enabled", args[2]);
}

static bool make_ip(struct ctl *c, json_t *request, char **args, unsigned count)
{
	return put(request, "net", args[0]) && put(request, "rule", args[1]);
}

static bool make_net(struct ctl *c, json_t *request, char **args, unsigned count)
{
	return put(request, "net", args[0]);
}

static bool make_capture(struct ctl *c, json_t *request, char **args, unsigned count)
{
	if (!strcmp(args[0], "start") && count == 2)
		return put(request, "command", "capture-start") && put_path(request, args[1]);
	if (!strcmp(args[0], "stop") && count == 1)
		return put(request, "command", "capture-stop");
	complain("capture: write \"start FILE\" or \"stop\"");
	return false;
}

static bool put_text(struct ctl *c, json_t *request, const char *text)
{
	char *whole = NULL;
	bool ok;

	if (asprintf(&whole, "%s%s", text, c->enter ? "\n" : "") < 0)
		return false;
	ok = put(request, "text", whole) &&
	     (!c->port || put_number(request, "port", c->port));
	free(whole);
	return ok;
}

static bool make_text(struct ctl *c, json_t *request, char **args, unsigned count)
{
	return put_text(c, request, args[0]);
}

static bool make_key(struct ctl *c, json_t *request, char **args, unsigned count)
{
	if (count == 2 && strcmp(args[1], "down") && strcmp(args[1], "up")) {
		complain("key %s %s: write down or up, or neither", args[0], args[1]);
		return false;
	}
	if (count == 2)
		json_object_set_new(request, "down", json_boolean(!strcmp(args[1], "down")));
	return put(request, "key", args[0]);
}

static bool make_wait(struct ctl *c, json_t *request, char **args, unsigned count)
{
	bool serial1 = !strcmp(args[0], "serial1");

	if (strcmp(args[0], "serial") && strcmp(args[0], "serial0") && !serial1 &&
	    strcmp(args[0], "screen")) {
		complain("wait %s: write serial, serial0, serial1 or screen", args[0]);
		return false;
	}
	json_object_set_new(request, "regex", json_boolean(c->regex));
	if (serial1)
		json_object_set_new(request, "port", json_integer(1));
	return put(request, "on", args[0][1] == 'e' ? "serial" : "screen") &&
	       put(request, "for", args[1]);
}

static bool make_serial(struct ctl *c, json_t *request, char **args, unsigned count)
{
	return !count || put_number(request, "port", args[0]);
}

static bool make_path(struct ctl *c, json_t *request, char **args, unsigned count)
{
	return put_path(request, args[0]);
}

/* ---- answers for people ---- */

static const char *text_of(const json_t *reply, const char *name)
{
	const char *text = json_string_value(json_object_get(reply, name));

	return text ? text : "";
}

static json_int_t number_of(const json_t *reply, const char *name)
{
	return json_integer_value(json_object_get(reply, name));
}

static double real_of(const json_t *reply, const char *name)
{
	return json_number_value(json_object_get(reply, name));
}

/* What a guest or a relay wrote must not drive the terminal. */
static void print_text(const char *text)
{
	bool terminal = isatty(STDOUT_FILENO);

	for (; *text; text++) {
		if (terminal && (uint8_t)*text < 0x20 && *text != '\n' && *text != '\t')
			continue;
		putchar(*text);
	}
}

static void show_status(const json_t *r)
{
	printf("state    %s\nversion  %s\nuptime   %.1f s\nclock    %.1f s\n", text_of(r, "state"),
	       text_of(r, "version"), real_of(r, "uptime"), real_of(r, "clock"));
	printf("memory   %.0f MiB\ncpu      %s\nengine   %s\nnics     %lld\nresets   %lld\n",
	       number_of(r, "memory") / 1048576.0, text_of(r, "cpu"), text_of(r, "engine"),
	       (long long)number_of(r, "nics"), (long long)number_of(r, "resets"));
}

static void show_counters(const json_t *counters)
{
	const char *part, *name;
	json_t *of, *n;

	json_object_foreach((json_t *)counters, part, of) {
		json_object_foreach(of, name, n) {
			if (json_integer_value(n))
				printf("  %-14s %-24s %12lld\n", part, name,
				       (long long)json_integer_value(n));
		}
	}
}

static void show_net(const json_t *r)
{
	json_t *cards = json_object_get(r, "nics"), *card, *stage;
	size_t i, k;

	if (!json_array_size(cards))
		printf("no network cards\n");
	json_array_foreach(cards, i, card) {
		const char *status = text_of(card, "status"), *url = text_of(card, "url");

		printf("net%zu  %s  guest %s  wire %s  link %s%s\n", i, text_of(card, "model"),
		       text_of(card, "guest_mac"), text_of(card, "wire_mac"),
		       json_is_true(json_object_get(card, "link")) ? "up" : "down",
		       json_is_true(json_object_get(card, "carrier")) ? "" : ", no carrier");
		printf("  path: guest");
		json_array_foreach(json_object_get(card, "stages"), k, stage)
			printf(" - %s%s", text_of(stage, "stage"),
			       json_is_true(json_object_get(stage, "enabled")) ? "" : " (off)");
		printf(" - ");
		print_text(*url ? url : *text_of(card, "backend") ? text_of(card, "backend") : "nothing");
		if (*status) {
			printf(": ");
			print_text(status);
		}
		putchar('\n');
		show_counters(json_object_get(card, "counters"));
	}
}

static void show_save(const json_t *r)
{
	printf("saved %.1f MiB in %.2f s to %s\n", number_of(r, "bytes") / 1048576.0,
	       real_of(r, "seconds"), text_of(r, "path"));
}

static void show_match(const json_t *r)
{
	print_text(text_of(r, "match"));
	putchar('\n');
}

static void show_text(const json_t *r)
{
	print_text(text_of(r, "text"));
}

static void show_picture(const json_t *r)
{
	printf("%lldx%lld in %s\n", (long long)number_of(r, "width"),
	       (long long)number_of(r, "height"), text_of(r, "path"));
}

static const struct word words[] = {
	{ "status", "", "version, running or paused, memory, CPU", 0, 0, make_plain, show_status },
	{ "pause", "", "the guest and its clock stand still", 0, 0, make_plain, NULL },
	{ "resume", "", "they go on", 0, 0, make_plain, NULL },
	{ "reset", "", "as by the reset button", 0, 0, make_plain, NULL },
	{ "power", "", "press the power button: the guest's ACPI is told", 0, 0, make_plain, NULL },
	{ "quit", "", "end the machine at once", 0, 0, make_plain, NULL },
	{ "save", "FILE [--compress]", "the whole machine to a state image; it goes on", 1, 1, make_save, show_save },
	{ "net", "", "cards, what their frames pass, counters", 0, 0, make_plain, show_net },
	{ "link", "NET up|down", "plug or pull the cable of a card (0, 1, ...)", 2, 2, make_link, NULL },
	{ "backend", "NET URL", "plug a card into another network", 2, 2, make_backend, NULL },
	{ "stage", "NET STAGE on|off", "frames pass a stage, or go around it", 3, 3, make_stage, NULL },
	{ "ip", "NET GUEST:WIRE", "translate the IPv4 address, as by --ip", 2, 2, make_ip, NULL },
	{ "announce", "NET", "tell the network the guest's addresses", 1, 1, make_net, NULL },
	{ "capture", "start FILE | stop", "record frames, as by --capture", 1, 2, make_capture, NULL },
	{ "type", "TEXT [--enter]", "on the PS/2 keyboard, US layout", 1, 1, make_text, NULL },
	{ "key", "KEY [down|up]", "press a key or a chord: f1, ctrl-alt-delete", 1, 2, make_key, NULL },
	{ "send", "TEXT [--enter] [--port N]", "to a serial port", 1, 1, make_text, NULL },
	{ "wait", "serial|serial1|screen TEXT [--regex]", "until the guest has said so", 2, 2, make_wait, show_match },
	{ "serial", "[PORT]", "what a serial port has said (64 KiB)", 0, 1, make_serial, show_text },
	{ "screen", "", "the text on the screen", 0, 0, make_plain, show_text },
	{ "screenshot", "FILE.png|FILE.ppm", "a picture of the screen", 1, 1, make_path, show_picture },
	{ "events", "", "a line for each, until interrupted", 0, 0, make_plain, NULL },
};

/* ---- talking ---- */

static int dial(struct ctl *c)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (strlen(c->path) >= sizeof(a.sun_path))
		return complain("%s: a socket's path has at most %zu bytes", c->path,
				sizeof(a.sun_path) - 1);
	strcpy(a.sun_path, c->path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd >= 0 && !connect(c->fd, (struct sockaddr *)&a, sizeof(a)))
		return 0;
	if (errno == ECONNREFUSED || errno == ENOENT)
		return complain("%s: no machine listens there; start one with --control %s", c->path,
				c->path);
	return complain("%s: %s", c->path, strerror(errno));
}

static bool say(struct ctl *c, const json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0, done = 0;

	if (!text)
		return false;
	text[len] = '\n';
	while (done <= len) {
		ssize_t n = send(c->fd, text + done, len + 1 - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		done += n;
	}
	free(text);
	return done == len + 1;
}

/* A line, without its end; NULL: none came in time, or the machine hung up (*gone). The
 * caller frees it. */
static char *hear(struct ctl *c, int64_t deadline, bool *gone)
{
	*gone = false;
	for (;;) {
		char *end = c->in_len ? memchr(c->in, '\n', c->in_len) : NULL;
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		struct timespec now;
		int64_t left;
		ssize_t n;

		if (end) {
			char *line = strndup(c->in, end - c->in);

			c->in_len -= end + 1 - c->in;
			memmove(c->in, end + 1, c->in_len);
			return line;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		left = deadline == INT64_MAX ? -1 :
		       MAX(deadline - (now.tv_sec * 1000ll + now.tv_nsec / 1000000), 0);
		n = poll(&p, 1, MIN(left, INT_MAX));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return NULL;
		if (c->in_room - c->in_len < 4096) {
			char *more = realloc(c->in, c->in_room + 65536);

			if (!more)
				return NULL;
			c->in = more;
			c->in_room += 65536;
		}
		n = recv(c->fd, c->in + c->in_len, c->in_room - c->in_len, 0);
		if (n <= 0) {
			*gone = true;
			return NULL;
		}
		c->in_len += n;
	}
}

static void show_progress(struct ctl *c, const json_t *e)
{
	double total = number_of(e, "total");

	if (!isatty(STDERR_FILENO) || total <= 0)
		return;
	fprintf(stderr, "\rsaving: %3.0f %% of %.0f MiB ", 100 * number_of(e, "done") / total,
		total / 1048576);
	c->progress_shown = true;
}

static int listen_to_events(struct ctl *c)
{
	bool gone;
	char *line;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((line = hear(c, INT64_MAX, &gone))) {
		json_t *e = json_loads(line, 0, NULL);

		if (c->json)
			printf("%s\n", line);
		else
			printf("%s\n", text_of(e, "event"));
		json_decref(e);
		free(line);
	}
	return 0;
}

static int answer(struct ctl *c, const struct word *w, double patience)
{
	struct timespec now;
	bool gone, ok;
	char *line;

	clock_gettime(CLOCK_MONOTONIC, &now);
	for (;;) {
		int64_t deadline = now.tv_sec * 1000ll + now.tv_nsec / 1000000 +
				   (int64_t)(patience * 1000);
		json_t *reply;

		line = hear(c, deadline, &gone);
		reply = line ? json_loads(line, 0, NULL) : NULL;
		if (line && json_object_get(reply, "event")) {
			if (!strcmp(text_of(reply, "event"), "progress"))
				show_progress(c, reply);
			json_decref(reply);
			free(line);
			continue;
		}
		if (c->progress_shown)
			fprintf(stderr, "\r%40s\r", "");
		if (!line) {
			complain(gone ? "%s: the machine hung up" : "%s: no answer in time", c->path);
			return EXIT_NO;
		}
		ok = json_is_true(json_object_get(reply, "ok"));
		if (c->json)
			printf("%s\n", line);
		else if (!ok)
			complain("%s: %s", w->name, text_of(reply, "error"));
		else if (w->show)
			w->show(reply);
		json_decref(reply);
		free(line);
		return ok ? 0 : EXIT_NO;
	}
}

/* ---- the command line ---- */

static void usage(FILE *out)
{
	fprintf(out, "Usage: gannet ctl [OPTION...] PATH COMMAND [ARGUMENT...]\n"
		"Asks a machine that was started with --control PATH.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		fprintf(out, "  %-10s %-36s %s\n", words[i].name, words[i].args, words[i].help);
	fprintf(out, "\n  --timeout S  how long wait, type and send may take (wait: 30)\n"
		"  --json       print the answer as it came\n"
		"  --help       this text\n\n"
		"Exit code: 0 done, 1 the machine said no, 2 it could not be asked.\n\n"
		"  gannet ctl m.sock send --enter root\n"
		"  gannet ctl m.sock wait serial 'login:' --timeout 60\n"
		"  gannet ctl m.sock save m.img\n");
}

/* Options may stand anywhere; what is left of @argv are words. -1: wrong, complained. */
static int take_options(struct ctl *c, int argc, char **argv)
{
	int words_left = 0;
	bool plain = false;

	for (int i = 1; i < argc; i++) {
		char *word = argv[i];
		bool value = !strncmp(word, "--timeout", 9) || !strncmp(word, "--port", 6);
		const char **into = !strncmp(word, "--t", 3) ? &c->timeout : &c->port;

		if (plain || strncmp(word, "--", 2)) {
			argv[words_left++] = word;
		} else if (!word[2]) {
			plain = true;
		} else if (!strcmp(word, "--json")) {
			c->json = true;
		} else if (!strcmp(word, "--compress")) {
			c->compress = true;
		} else if (!strcmp(word, "--regex")) {
			c->regex = true;
		} else if (!strcmp(word, "--enter")) {
			c->enter = true;
		} else if (value && strchr(word, '=')) {
			*into = strchr(word, '=') + 1;
		} else if (value && i + 1 < argc) {
			*into = argv[++i];
		} else {
			complain("%s: %s; gannet ctl --help lists the options", word,
				 value ? "needs a value" : "unknown option");
			return -1;
		}
	}
	return words_left;
}

static int ask(struct ctl *c, const struct word *w, char **args, unsigned count)
{
	json_t *request = json_object();
	double patience = !strcmp(w->name, "save") ? SAVE_PATIENCE_S : PATIENCE_S;
	bool timed = !strcmp(w->name, "wait") || !strcmp(w->name, "type") ||
		     !strcmp(w->name, "key") || !strcmp(w->name, "send");
	int code = EXIT_BAD_INPUT;

	put(request, "command", w->name);
	if (!w->make(c, request, args, count))
		goto out;
	if (c->timeout && timed && !put_number(request, "timeout", c->timeout))
		goto out;
	if (c->timeout)
		patience = strtod(c->timeout, NULL) + (timed ? 10 : 0);
	else if (!strcmp(w->name, "type"))
		patience += strlen(args[0]) * 0.05;
	code = dial(c);
	if (code)
		goto out;
	if (!say(c, request))
		code = complain("%s: the machine hung up", c->path);
	else
		code = answer(c, w, patience);
	if (!code && !strcmp(w->name, "events"))
		code = listen_to_events(c);
out:
	json_decref(request);
	return code;
}

int ctl_main(int argc, char **argv)
{
	struct ctl c = { .fd = -1 };
	const struct word *w = NULL;
	int count, code;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			usage(stdout);
			return 0;
		}
	}
	count = take_options(&c, argc, argv);
	if (count < 0)
		return EXIT_BAD_INPUT;
	if (count < 2)
		return complain("write gannet ctl PATH COMMAND; gannet ctl --help lists the commands");
	c.path = argv[0];
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (!strcmp(words[i].name, argv[1]))
			w = &words[i];
	}
	if (!w)
		return complain("%s: unknown command; gannet ctl --help lists them", argv[1]);
	count -= 2;
	if ((unsigned)count < w->least || (unsigned)count > w->most)
		return complain("%s: write %s%s%s", w->name, w->name, *w->args ? " " : "", w->args);
	code = ask(&c, w, argv + 2, count);
	if (c.fd >= 0)
		close(c.fd);
	free(c.in);
	return code;
}
