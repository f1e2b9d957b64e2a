/* The gannet command: a machine from the command line, until it ends.
 *
 * Exit code: 0 after the guest's poweroff, a reset with -no-reboot, or Ctrl-A x;
 * isa-debug-exit's own code; 1 after a triple fault with -no-reboot; 2 when the
 * machine could not be made as asked.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/gannet.h"
#include "tools/clone.h"
#include "tools/control.h"
#include "tools/options.h"
#include "tools/relay.h"
#include "tools/screen.h"
#include "tools/state_tool.h"
#include "tools/window.h"

enum { EXIT_TRIPLE_FAULT = 1, EXIT_MEMORY_LOST = 1, EXIT_BAD_INPUT = 2 };

static int complain(const char *why)
{
	fprintf(stderr, "gannet: %s\n", why);
	return EXIT_BAD_INPUT;
}

static void list_cpus(void)
{
	const char *name, *text;

	for (unsigned i = 0; (name = gannet_cpu_model(i, &text)); i++)
		printf("%-12s %s\n", name, text);
}

static void list_trace_channels(void)
{
	const char *name;

	for (unsigned i = 0; (name = gannet_trace_channel(i)); i++)
		printf("%s%s", i ? " " : "", name);
	printf(" all\n");
}

/* The URL of each kind, and below it what it is and takes. */
static void list_backends(void)
{
	const char *usage, *help;

	for (unsigned i = 0; gannet_backend(i, &usage, &help); i++) {
		printf("%s\n    ", usage);
		for (; *help; help++)
			printf(*help == '\n' ? "\n    " : "%c", *help);
		printf("\n");
	}
}

static void notify(void *opaque, const char *text)
{
	(void)opaque;
	fprintf(stderr, "gannet: %s\n", text);
}

static void show_serials(const struct gannet *g)
{
	for (unsigned i = 0; i < GANNET_SERIALS; i++) {
		const char *info = gannet_serial_info(g, i);

		if (*info)
			fprintf(stderr, "gannet: serial port %u: %s\n", i, info);
	}
}

/* Signals that mean "end" arrive in a thread of their own, which waits for
 * them: no handler has to know the machine. */
struct signals {
	pthread_t thread;
	struct gannet *machine;
	const char *save; /* --save, or NULL */
};

static void save(void *opaque)
{
	struct signals *s = opaque;
	char why[512], text[600];

	if (gannet_save(s->machine, s->save, NULL, why, sizeof(why)))
		snprintf(text, sizeof(text), "saved to %s", s->save);
	else
		snprintf(text, sizeof(text), "--save: %s", why);
	notify(NULL, text);
}

static void *signals_wait(void *arg)
{
	struct signals *s = arg;
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGCONT);
	while (!sigwait(&set, &sig) && sig != SIGUSR1) {
		if (sig == SIGCONT)
			gannet_terminal(s->machine, true);
		else if (sig == SIGUSR2 && s->save)
			gannet_call(s->machine, save, s);
		else if (sig != SIGUSR2)
			gannet_quit(s->machine);
	}
	return NULL;
}

/* Before any other thread exists, so that all of them inherit the mask. */
static void signals_block(void)
{
	static const int held[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCONT };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(held) / sizeof(held[0]); i++)
		sigaddset(&set, held[i]);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int report(const struct gannet *g, enum gannet_end end)
{
	char state[4096];

	switch (end) {
	case GANNET_TRIPLE_FAULT:
		gannet_cpu_dump(g, state, sizeof(state));
		fprintf(stderr, "gannet: triple fault: an exception while delivering a double fault\n%s",
			state);
		return EXIT_TRIPLE_FAULT;
	case GANNET_MEMORY_LOST:
		fprintf(stderr, "gannet: the state image was cut short while the machine ran from it; its memory is lost\n");
		return EXIT_MEMORY_LOST;
	case GANNET_DEBUG_EXIT:
		return gannet_exit_code(g);
	case GANNET_POWEROFF:
	case GANNET_RESET:
	case GANNET_QUIT:
		break;
	}
	return 0;
}

static int run(const struct options *o)
{
	struct signals signals;
	struct clone_status *status = NULL;
	struct screen *screen = NULL;
	struct window *window = NULL;
	struct control *control = NULL;
	struct error err = { "" };
	FILE *trace = NULL;
	struct gannet *g;
	char why[512];
	int code;

	signals_block();
	if (o->control) {
		control = control_listen(o->control, &err);
		if (!control)
			return complain(err.text);
	}
	g = gannet_create(&o->config, why, sizeof(why));
	if (!g) {
		control_destroy(control);
		return complain(why);
	}
	if (control && !control_serve(control, g, &err)) {
		code = complain(err.text);
		goto out;
	}
	if (o->trace_file) {
		trace = fopen(o->trace_file, "we");
		if (!trace) {
			snprintf(why, sizeof(why), "-D %s: %s", o->trace_file, strerror(errno));
			code = complain(why);
			goto out;
		}
		gannet_trace_to(g, trace);
	}
	if (o->display == DISPLAY_TERMINAL) {
		screen = screen_create(g, why, sizeof(why));
		if (!screen) {
			code = complain(why);
			goto out;
		}
	}
	if (o->display == DISPLAY_WINDOW) {
		window = window_create(g, why, sizeof(why));
		if (!window) {
			code = complain(why);
			goto out;
		}
	}
	show_serials(g);
	signals.machine = g;
	signals.save = o->save;
	if (pthread_create(&signals.thread, NULL, signals_wait, &signals)) {
		code = complain("cannot start a thread");
		goto out;
	}

	code = 0;
	if (o->status_fd >= 0)
		status = clone_status_start(g, o->status_fd);
	enum gannet_end end = gannet_run(g);

	clone_status_stop(status);

	pthread_kill(signals.thread, SIGUSR1);
	pthread_join(signals.thread, NULL);
	control_destroy(control);
	control = NULL;
	screen_destroy(screen);
	screen = NULL;
	gannet_terminal(g, false);
	code = report(g, end);
	if (o->stats)
		gannet_stats(g, stderr);
out:
	control_destroy(control);
	window_destroy(window);
	screen_destroy(screen);
	gannet_destroy(g);
	if (trace && fclose(trace)) {
		fprintf(stderr, "gannet: -D %s: %s\n", o->trace_file, strerror(errno));
		code = code ? code : EXIT_BAD_INPUT;
	}
	return code;
}

int main(int argc, char **argv)
{
	struct options options;
	struct error err = { "" };
	int code = 0;

	/* A limit on file sizes is an error like a full disk, not the end. */
	signal(SIGXFSZ, SIG_IGN);
	if (argc > 1 && !strcmp(argv[1], "clone"))
		return clone_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "ctl"))
		return ctl_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "relay"))
		return relay_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "state"))
		return state_main(argc - 1, argv + 1);
	if (!options_parse(&options, argc, argv, &err)) {
		options_finish(&options);
		return complain(err.text);
	}
	options.config.notify = notify;
	if (options.help)
		options_help(stdout);
	else if (options.version)
		printf("gannet %s\nLicence: BSD-2-Clause. No warranty.\n", gannet_version());
	else if (options.cpu_help)
		list_cpus();
	else if (options.trace_help)
		list_trace_channels();
	else if (options.net_help)
		list_backends();
	else
		code = run(&options);
	options_finish(&options);
	return code;
}
