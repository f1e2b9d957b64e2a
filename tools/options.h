/* The command line of the gannet command. */
#ifndef GANNET_TOOLS_OPTIONS_H
#define GANNET_TOOLS_OPTIONS_H

#include <stdbool.h>

#include "core/error.h"
#include "core/gannet.h"
#include "tools/options_net.h"

enum display_kind { DISPLAY_DEFAULT, DISPLAY_NONE, DISPLAY_TERMINAL, DISPLAY_WINDOW };

struct options {
	struct gannet_config config;
	enum display_kind display;
	const char *trace_file; /* -D; NULL: stderr */
	bool stats;
	const char *save; /* --save: where SIGUSR2 saves to */
	const char *control; /* --control: path of the control socket */
	int status_fd;    /* --status-fd; -1: none */
	/* Asked for instead of a machine. */
	bool help, version, cpu_help, trace_help, net_help;
	struct net_options net; /* config.nic points into it */
	/* Where config.boot_order points, if -boot was given. */
	char boot_order[8];
};

/**
 * options_parse - read the whole command line
 * Both -opt and --opt are understood, a value may follow as the next word or,
 * after --opt, behind "=". Returns false with @err naming the option and what
 * would be right. Files are not looked at.
 */
bool options_parse(struct options *o, int argc, char **argv, struct error *err);

/** options_finish - what options_parse() allocated, whatever it returned */
void options_finish(struct options *o);
/** options_help - the text of --help */
void options_help(FILE *out);

#endif
