/* What `gannet relay` was asked to do. */
#ifndef GANNET_TOOLS_RELAY_OPTIONS_H
#define GANNET_TOOLS_RELAY_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/error.h"

enum {
	RELAY_LISTEN_MAX = 8,
	RELAY_UPLINK_MAX = 8,
	RELAY_TOKENS = 64,
	RELAY_TOKEN_SIZE = 256, /* with its NUL */
};

struct relay_options {
	bool help, quiet, json_log;
	const char *listen[RELAY_LISTEN_MAX]; /* ADDR:PORT, as given */
	unsigned listens;
	const char *uplink[RELAY_UPLINK_MAX]; /* URLs, as given */
	unsigned uplinks;
	const char *capture;
	const char *cert, *key;
	char token[RELAY_TOKENS][RELAY_TOKEN_SIZE]; /* padded with NUL: compared whole */
	unsigned tokens;
	uint64_t max_clients, max_per_address;
	uint64_t rate, burst;     /* bytes a second, bytes; rate 0: no limit */
	uint64_t queue, memory;   /* bytes */
	uint64_t macs;            /* a client */
	uint64_t age, ping, stale; /* s; stale: ms */
};

/** relay_options_parse - argv[0] is skipped; false with @err set */
bool relay_options_parse(struct relay_options *o, int argc, char **argv, struct error *err);
void relay_options_help(FILE *out);

#endif
