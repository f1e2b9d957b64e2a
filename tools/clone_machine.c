/* One machine of gannet clone: a child process that runs this program's own file.
 *
 * It has a process group of its own, so that a Ctrl-C on the terminal reaches only the
 * parent, who then ends all of them in order; and it does not outlive the parent.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/util.h"
#include "tools/clone_priv.h"

enum { STATUS_FD = 3 };

/* @text with the number in the place of each {}; NULL if memory ran out */
static char *substitute(const char *text, unsigned number)
{
	char digits[16], *out, *to;
	size_t len = strlen(text);
	int n = snprintf(digits, sizeof(digits), "%u", number);

	out = to = malloc(len * n + 1);
	while (out && *text) {
		if (text[0] == '{' && text[1] == '}') {
			memcpy(to, digits, n);
			to += n;
			text += 2;
		} else {
			*to++ = *text++;
		}
	}
	if (out)
		*to = '\0';
	return out;
}

static void free_argv(char **argv)
{
	for (char **p = argv; p && *p; p++)
		free(*p);
	free(argv);
}

static char **make_argv(const struct clone *c, const struct clone_options *o)
{
	const char *const own[] = {
		"gannet", "--restore", o->file, "--instance", c->instance, "--status-fd", "3",
		o->no_snapshot ? NULL : "-snapshot",
	};
	char **argv = calloc(ARRAY_SIZE(own) + o->pass_count + 1, sizeof(*argv));
	unsigned n = 0;
	bool ok = argv != NULL;

	for (size_t i = 0; ok && i < ARRAY_SIZE(own) && own[i]; i++)
		ok = (argv[n++] = strdup(own[i])) != NULL;
	for (unsigned i = 0; ok && i < o->pass_count; i++)
		ok = (argv[n++] = substitute(o->pass[i], c->number)) != NULL;
	if (ok)
		return argv;
	free_argv(argv);
	return NULL;
}

/* In the child: only what may be called after a fork. */
static void become(char **argv, int report, int text, pid_t parent)
{
	int null = open("/dev/null", O_RDWR);
	sigset_t none;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	/* The pipes are above all of these, and closed by the exec. */
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(text, STDOUT_FILENO) < 0 ||
	    dup2(text, STDERR_FILENO) < 0 || dup2(report, STATUS_FD) < 0)
		_exit(1);
	if (null > STATUS_FD)
		close(null);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv("/proc/self/exe", argv);
	_exit(127);
}

/* Both ends above the standard descriptors and STATUS_FD, whatever is closed here. */
static bool make_pipe(int fd[2])
{
	int low[2];

	if (pipe2(low, O_CLOEXEC) < 0)
		return false;
	for (int i = 0; i < 2; i++) {
		fd[i] = fcntl(low[i], F_DUPFD_CLOEXEC, STATUS_FD + 1);
		close(low[i]);
	}
	if (fd[0] >= 0 && fd[1] >= 0) {
		fcntl(fd[0], F_SETFL, O_NONBLOCK);
		return true;
	}
	for (int i = 0; i < 2; i++) {
		if (fd[i] >= 0)
			close(fd[i]);
	}
	return false;
}

bool clone_start(struct clone *c, const struct clone_options *o, struct error *err)
{
	int report[2] = { -1, -1 }, text[2] = { -1, -1 };
	char **argv = make_argv(c, o);
	pid_t parent = getpid();

	errno = ENOMEM;
	c->pid = -1;
	if (argv && make_pipe(report) && make_pipe(text))
		c->pid = fork();
	if (c->pid < 0)
		error_set(err, "%s: cannot be started: %s", c->instance, strerror(errno));
	if (c->pid == 0)
		become(argv, report[1], text[1], parent);
	free_argv(argv);
	for (int i = c->pid < 0 ? 0 : 1; i < 2; i++) {
		if (report[i] >= 0)
			close(report[i]);
		if (text[i] >= 0)
			close(text[i]);
	}
	if (c->pid < 0)
		return false;
	c->report.fd = report[0];
	c->text.fd = text[0];
	c->state = CLONE_STARTING;
	c->started = clone_now();
	return true;
}

bool clone_report(struct clone *c, const char *line)
{
	unsigned long long in, out;
	char wire[CLONE_MACS], guest[CLONE_MACS];

	_Static_assert(CLONE_MACS == 160, "the widths below");
	if (sscanf(line, "in %llu out %llu wire %159s guest %159s", &in, &out, wire, guest) != 4)
		return false;
	c->in = in;
	c->out = out;
	memcpy(c->wire, wire, sizeof(wire));
	memcpy(c->guest, guest, sizeof(guest));
	return true;
}

bool clone_well(const struct clone *c)
{
	return c->state == CLONE_ENDED && WIFEXITED(c->status) && !WEXITSTATUS(c->status);
}

void clone_end_text(const struct clone *c, char *text, size_t size)
{
	if (WIFEXITED(c->status))
		snprintf(text, size, "ended %d", WEXITSTATUS(c->status));
	else
		snprintf(text, size, "killed %d", WTERMSIG(c->status));
}
