/* What gannet clone shows: a table that is redrawn, lines, or JSON. */
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/util.h"
#include "tools/clone_priv.h"
#include "tools/state_priv.h"

static const char *const states[] = { "starting", "running", "ended" };

int64_t clone_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static double uptime(const struct clone *c)
{
	return ((c->state == CLONE_ENDED ? c->ended : clone_now()) - c->started) / 1e9;
}

static void json_text(const char *text)
{
	state_json(stdout, (const uint8_t *)text, strlen(text));
}

/* "a,b" as a list; "-" and "" as an empty one */
static void json_addresses(const char *key, const char *text)
{
	printf(", \"%s\": [", key);
	if (*text && *text != '-') {
		putchar('"');
		for (; *text; text++) {
			if (*text == ',')
				fputs("\", \"", stdout);
			else
				putchar(*text);
		}
		putchar('"');
	}
	putchar(']');
}

static void json_clone(const struct clone *c)
{
	printf("\"number\": %u, \"instance\": ", c->number);
	json_text(c->instance);
	printf(", \"pid\": %d, \"state\": \"%s\", \"uptime\": %.3f", (int)c->pid, states[c->state],
	       uptime(c));
	json_addresses("wire", c->wire);
	json_addresses("guest", c->guest);
	printf(", \"in\": %" PRIu64 ", \"out\": %" PRIu64, c->in, c->out);
	if (c->state == CLONE_ENDED && WIFEXITED(c->status))
		printf(", \"code\": %d", WEXITSTATUS(c->status));
	else if (c->state == CLONE_ENDED)
		printf(", \"signal\": %d", WTERMSIG(c->status));
}

static void row(const struct clone *c, const char *end)
{
	char state[32] = "starting";

	if (c->state == CLONE_ENDED)
		clone_end_text(c, state, sizeof(state));
	else if (c->state == CLONE_RUNNING)
		snprintf(state, sizeof(state), "running");
	printf("%-20s %8d  %-9s  %-17s %8.0f %10" PRIu64 " %10" PRIu64 "%s", c->instance, (int)c->pid,
	       state, *c->wire ? c->wire : "-", uptime(c), c->in, c->out, end);
}

static void header(const char *end)
{
	printf("%-20s %8s  %-9s  %-17s %8s %10s %10s%s", "INSTANCE", "PID", "STATE", "WIRE ADDRESS",
	       "SECONDS", "FRAMES IN", "OUT", end);
}

/* Takes the table off the terminal, for lines that stay. */
static void clear(struct clone_view *v)
{
	if (v->rows)
		printf("\033[%uA\033[J", v->rows);
	v->rows = 0;
}

static void settle_repeats(struct clone_view *v)
{
	if (v->repeats) {
		clear(v);
		printf("(the same from %u more)\n", v->repeats);
	}
	v->repeats = 0;
	v->last[0] = '\0';
}

void clone_view_start(struct clone_view *v, const struct clone *c)
{
	if (v->options->json) {
		printf("{\"event\": \"started\", ");
		json_clone(c);
		puts("}");
	}
}

void clone_view_state(struct clone_view *v, const struct clone *c)
{
	if (v->options->json) {
		printf("{\"event\": \"%s\", ", states[c->state]);
		json_clone(c);
		puts("}");
	} else if (!v->terminal) {
		settle_repeats(v);
		row(c, "\n");
	}
	fflush(stdout);
}

void clone_view_message(struct clone_view *v, const struct clone *c, const char *text)
{
	if (v->options->json) {
		printf("{\"event\": \"message\", \"number\": %u, \"instance\": ", c->number);
		json_text(c->instance);
		printf(", \"text\": ");
		json_text(text);
		puts("}");
	} else if (!strcmp(text, v->last)) {
		v->repeats++;
	} else {
		settle_repeats(v);
		clear(v);
		printf("%s: ", c->instance);
		state_text(stdout, (const uint8_t *)text, strlen(text));
		putchar('\n');
		snprintf(v->last, sizeof(v->last), "%s", text);
	}
	fflush(stdout);
}

void clone_view_table(struct clone_view *v)
{
	unsigned count = v->options->count, shown = count, state[ARRAY_SIZE(states)] = { 0 };
	const char *end = v->terminal ? "\033[K\n" : "\n";
	struct winsize size;

	if (v->options->json) {
		printf("{\"event\": \"status\", \"machines\": [");
		for (unsigned i = 0; i < count; i++) {
			printf("%s{", i ? ", " : "");
			json_clone(&v->clone[i]);
			putchar('}');
		}
		puts("]}");
		fflush(stdout);
		return;
	}
	settle_repeats(v);
	if (v->terminal) {
		/* A table higher than the terminal could not be drawn over. */
		if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_row >= 4 &&
		    count + 2 > size.ws_row)
			shown = size.ws_row - 3;
		if (v->rows)
			printf("\033[%uA", v->rows);
	}
	header(end);
	for (unsigned i = 0; i < shown; i++)
		row(&v->clone[i], end);
	v->rows = shown + 1;
	if (shown < count) {
		for (unsigned i = shown; i < count; i++)
			state[v->clone[i].state]++;
		printf("and %u more: %u starting, %u running, %u ended%s", count - shown,
		       state[CLONE_STARTING], state[CLONE_RUNNING], state[CLONE_ENDED], end);
		v->rows++;
	}
	if (!v->terminal)
		v->rows = 0;
	fflush(stdout);
}

void clone_view_end(struct clone_view *v)
{
	unsigned well = 0, count = v->options->count;

	for (unsigned i = 0; i < count; i++)
		well += clone_well(&v->clone[i]);
	if (v->options->json) {
		printf("{\"event\": \"end\", \"machines\": %u, \"well\": %u, \"failed\": %u}\n", count, well,
		       count - well);
	} else {
		settle_repeats(v);
		printf("%u of %u machines ended well\n", well, count);
	}
	fflush(stdout);
}
