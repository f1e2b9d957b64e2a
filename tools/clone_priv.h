/* The parts of gannet clone. */
#ifndef GANNET_TOOLS_CLONE_PRIV_H
#define GANNET_TOOLS_CLONE_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "core/error.h"

enum { CLONES_MAX = 400, CLONE_NAME = 128, CLONE_LINE = 1024, CLONE_MACS = 160 };

enum clone_state { CLONE_STARTING, CLONE_RUNNING, CLONE_ENDED };

/* Text from a pipe, until it makes a line. */
struct clone_pipe {
	int fd; /* -1: closed */
	size_t len;
	char data[CLONE_LINE];
};

struct clone {
	unsigned number;            /* what {} stands for */
	char instance[CLONE_NAME];
	pid_t pid;
	enum clone_state state;
	int status;                 /* of waitpid(), once ended */
	int64_t started, ended;     /* ns, monotonic */
	struct clone_pipe report;   /* its --status-fd */
	struct clone_pipe text;     /* its standard output and error */
	uint64_t in, out;           /* frames */
	char wire[CLONE_MACS], guest[CLONE_MACS]; /* "" until it has reported */
};

struct clone_options {
	const char *file;
	const char *name;    /* NULL: from the file's name and a random number */
	unsigned count, first;
	unsigned interval;   /* s between tables; 0: none */
	bool interval_given;
	bool json, help;
	char **pass;         /* what every machine gets, with {}; borrowed from argv, NULL ended */
	unsigned pass_count; /* the array is owned */
	bool no_snapshot;    /* they say themselves what becomes of writes to disks */
};

bool clone_options_parse(struct clone_options *o, int argc, char **argv, struct error *err);
void clone_options_finish(struct clone_options *o);
void clone_options_help(FILE *out);

/** clone_start - fork and run this program's own file; signals are to be blocked */
bool clone_start(struct clone *c, const struct clone_options *o, struct error *err);
/** clone_report - take a line of --status-fd; false if it is none */
bool clone_report(struct clone *c, const char *line);
/** clone_well - has it ended with exit code 0? */
bool clone_well(const struct clone *c);
/** clone_end_text - "ended 0", "killed by signal 9" */
void clone_end_text(const struct clone *c, char *text, size_t size);

/* What is shown on standard output. */
struct clone_view {
	const struct clone_options *options;
	const struct clone *clone;  /* options->count of them */
	bool terminal;
	unsigned rows;              /* of the table that stands on the terminal now */
	char last[CLONE_LINE];      /* message that was shown last ... */
	unsigned repeats;           /* ... and how many more had the same to say */
};

int64_t clone_now(void);
void clone_view_start(struct clone_view *v, const struct clone *c);
void clone_view_state(struct clone_view *v, const struct clone *c);
/** clone_view_message - a line one of them has written */
void clone_view_message(struct clone_view *v, const struct clone *c, const char *text);
/** clone_view_table - all of them; on a terminal in the place of the table before */
void clone_view_table(struct clone_view *v);
void clone_view_end(struct clone_view *v);

#endif
