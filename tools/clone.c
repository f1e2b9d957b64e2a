/* gannet clone: machines from one state image.
 *
 * The image is looked at once, here; each machine is a process of its own that maps it
 * copy-on-write, so that the pages nobody writes to are in memory once. One loop waits
 * for what the machines say (their --status-fd, their standard output and error), for
 * their ends and for signals.
 */
#include "tools/clone.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/util.h"
#include "statefile/image.h"
#include "tools/clone_priv.h"

enum { EXIT_SOME_FAILED = 1, EXIT_BAD_INPUT = 2 };
#define PATIENCE_NS 3000000000ll /* between SIGTERM and SIGKILL */
#define AGAIN_NS 500000000ll /* one Ctrl-C may come by way of several senders */
#define SECOND_NS 1000000000ll

struct fleet {
	struct clone_options options;
	struct clone *clone;       /* options.count */
	struct pollfd *poll;       /* signals, and two of each machine */
	struct clone_view view;
	unsigned alive;
	bool ending;
	int64_t asked_at;          /* ns; when ending */
	int64_t kill_at;           /* ns; when ending; INT64_MAX once it was done */
	int64_t table_at;
};

/* All checksums, before there are many to complain. */
static bool look_at_image(const char *path, struct error *err)
{
	struct image *img = image_open(path, err);
	bool ok = img != NULL;

	for (unsigned i = 0; ok && image_section(img, i); i++) {
		const struct image_section *s = image_section(img, i);

		if (!(s->flags & IMAGE_SPARSE))
			continue;
		if (!image_mappable(s))
			fprintf(stderr, "gannet clone: %s: section %s is compressed, so every machine has a copy of its own; gannet state convert makes an image they share\n",
				path, s->name);
		ok = image_verify(img, s, NULL, err);
		if (!ok)
			error_prefix(err, "%s", path);
	}
	image_close(img);
	return ok;
}

static void signal_all(struct fleet *f, int sig)
{
	for (unsigned i = 0; i < f->options.count; i++) {
		if (f->clone[i].pid > 0 && f->clone[i].state != CLONE_ENDED)
			kill(f->clone[i].pid, sig);
	}
}

static void end_all(struct fleet *f)
{
	int64_t now = clone_now();

	if (!f->ending) {
		signal_all(f, SIGTERM);
		f->ending = true;
		f->asked_at = now;
		f->kill_at = now + PATIENCE_NS;
	} else if (now - f->asked_at > AGAIN_NS) {
		signal_all(f, SIGKILL); /* who asks again does not want to wait */
	}
}

/* ---- what machines say ---- */

static void close_pipe(struct clone_pipe *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static void line(struct fleet *f, struct clone *c, const struct clone_pipe *p)
{
	if (p == &c->text) {
		if (*p->data)
			clone_view_message(&f->view, c, p->data);
	} else if (clone_report(c, p->data) && c->state == CLONE_STARTING) {
		c->state = CLONE_RUNNING;
		clone_view_state(&f->view, c);
	}
}

/* What there is, in lines; longer ones are cut. */
static void take(struct fleet *f, struct clone *c, struct clone_pipe *p)
{
	char data[4096];
	ssize_t n = p->fd < 0 ? 0 : read(p->fd, data, sizeof(data));

	if (n == 0)
		close_pipe(p);
	for (ssize_t i = 0; i < n; i++) {
		if (data[i] == '\r' || data[i] == '\0')
			continue;
		if (data[i] != '\n' && p->len < sizeof(p->data) - 1) {
			p->data[p->len++] = data[i];
			continue;
		}
		p->data[p->len] = '\0';
		p->len = 0;
		line(f, c, p);
		if (data[i] != '\n')
			p->data[p->len++] = data[i];
	}
}

static void drain(struct fleet *f, struct clone *c, struct clone_pipe *p)
{
	/* A pipe holds 64 KiB, which is 16 of these. */
	for (unsigned i = 0; p->fd >= 0 && i < 17; i++)
		take(f, c, p);
	if (p->len) {
		p->data[p->len] = '\0';
		p->len = 0;
		line(f, c, p);
	}
	close_pipe(p);
}

/* ---- their ends ---- */

static void reap(struct fleet *f)
{
	for (unsigned i = 0; i < f->options.count; i++) {
		struct clone *c = &f->clone[i];
		int status;

		if (c->pid <= 0 || c->state == CLONE_ENDED || waitpid(c->pid, &status, WNOHANG) != c->pid)
			continue;
		drain(f, c, &c->report);
		drain(f, c, &c->text);
		c->status = status;
		c->state = CLONE_ENDED;
		c->ended = clone_now();
		f->alive--;
		clone_view_state(&f->view, c);
	}
}

static void take_signal(struct fleet *f, int fd)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD)
		reap(f);
	else
		end_all(f);
}

/* ---- the loop ---- */

static int patience(const struct fleet *f)
{
	int64_t until = INT64_MAX, left;

	if (f->ending)
		until = f->kill_at;
	if (f->options.interval)
		until = MIN(until, f->table_at);
	if (until == INT64_MAX)
		return -1;
	left = until - clone_now();
	return left <= 0 ? 0 : (int)MIN(left / 1000000 + 1, (int64_t)60000);
}

static void on_time(struct fleet *f)
{
	int64_t now = clone_now();

	if (f->ending && now >= f->kill_at) {
		signal_all(f, SIGKILL);
		f->kill_at = INT64_MAX;
	}
	if (f->options.interval && now >= f->table_at) {
		clone_view_table(&f->view);
		f->table_at = now + f->options.interval * SECOND_NS;
	}
}

static void wait_for_all(struct fleet *f, int signals)
{
	while (f->alive) {
		struct pollfd *p = f->poll;

		p[0] = (struct pollfd){ .fd = signals, .events = POLLIN };
		for (unsigned i = 0; i < f->options.count; i++) {
			p[1 + 2 * i] = (struct pollfd){ .fd = f->clone[i].report.fd, .events = POLLIN };
			p[2 + 2 * i] = (struct pollfd){ .fd = f->clone[i].text.fd, .events = POLLIN };
		}
		if (poll(p, 1 + 2 * f->options.count, patience(f)) < 0 && errno != EINTR)
			break;
		for (unsigned i = 0; i < f->options.count; i++) {
			if (p[1 + 2 * i].revents)
				take(f, &f->clone[i], &f->clone[i].report);
			if (p[2 + 2 * i].revents)
				take(f, &f->clone[i], &f->clone[i].text);
		}
		if (p[0].revents)
			take_signal(f, signals);
		on_time(f);
	}
}

static bool start_all(struct fleet *f, struct error *err)
{
	for (unsigned i = 0; i < f->options.count; i++) {
		struct clone *c = &f->clone[i];

		c->number = f->options.first + i;
		snprintf(c->instance, sizeof(c->instance), "%s-%u", f->options.name, c->number);
		c->report.fd = c->text.fd = -1;
	}
	for (unsigned i = 0; i < f->options.count; i++) {
		if (!clone_start(&f->clone[i], &f->options, err))
			return false;
		f->alive++;
		clone_view_start(&f->view, &f->clone[i]);
	}
	fflush(stdout);
	return true;
}

static int run(struct fleet *f, struct error *err)
{
	sigset_t set;
	int signals, code = 0;
	bool ok;

	f->clone = calloc(f->options.count, sizeof(*f->clone));
	f->poll = calloc(1 + 2 * f->options.count, sizeof(*f->poll));
	if (!f->clone || !f->poll) {
		error_set(err, "out of memory");
		return EXIT_BAD_INPUT;
	}
	f->view = (struct clone_view){
		.options = &f->options, .clone = f->clone,
		.terminal = !f->options.json && isatty(STDOUT_FILENO),
	};
	if (!f->options.interval_given && f->view.terminal)
		f->options.interval = 1;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0) {
		error_set(err, "signals: %s", strerror(errno));
		return EXIT_BAD_INPUT;
	}
	ok = start_all(f, err);
	if (!ok) {
		fprintf(stderr, "gannet clone: %s\n", err->text);
		end_all(f);
	}
	/* Give them the time to report, so that the first table says something. */
	f->table_at = clone_now() + SECOND_NS / 4;
	wait_for_all(f, signals);
	close(signals);
	if (f->view.terminal)
		clone_view_table(&f->view);
	clone_view_end(&f->view);
	for (unsigned i = 0; i < f->options.count; i++) {
		close_pipe(&f->clone[i].report);
		close_pipe(&f->clone[i].text);
		if (!clone_well(&f->clone[i]))
			code = EXIT_SOME_FAILED;
	}
	return code;
}

int clone_main(int argc, char **argv)
{
	struct fleet f = { 0 };
	struct error err = { "" };
	int code = EXIT_BAD_INPUT;

	if (!clone_options_parse(&f.options, argc, argv, &err))
		goto out;
	if (f.options.help) {
		clone_options_help(stdout);
		code = 0;
		goto out;
	}
	if (look_at_image(f.options.file, &err))
		code = run(&f, &err);
out:
	if (code == EXIT_BAD_INPUT)
		fprintf(stderr, "gannet clone: %s\n", err.text);
	free(f.clone);
	free(f.poll);
	clone_options_finish(&f.options);
	return code;
}
