/* The backends: how frames reach a wire, chosen by a URL.
 *
 * One backend is one file with an open function in the table of backend.c. It
 * takes its options from the URL's query; what it does not know is refused by
 * name. What can be found wrong before the guest starts is an error of open();
 * what goes wrong later is counted, told once (net_port_notify()) and recovered.
 */
#ifndef GANNET_BACKENDS_BACKEND_H
#define GANNET_BACKENDS_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/net.h"

enum { URL_PARAMS = 16 };

struct url_param {
	char *name, *value; /* percent-decoded; value "" if there was no '=' */
	bool used;          /* somebody asked for it */
};

/* SCHEME:BODY[?NAME=VALUE&NAME=VALUE...] or SCHEME://HOST[:PORT][/PATH][?...] */
struct backend_url {
	char *scheme;      /* lower case */
	char *body;        /* between "SCHEME:" and '?', not decoded */
	char *host;        /* with "//": without brackets around IPv6; else NULL */
	char *path;        /* with "//": starts with '/'; else NULL */
	uint16_t port;     /* 0: not said */
	struct url_param param[URL_PARAMS];
	unsigned params;
};

/** backend_url_parse - NULL with @err set if it is no URL of this shape */
struct backend_url *backend_url_parse(const char *text, struct error *err);
void backend_url_free(struct backend_url *url);
/** url_text - value of a parameter, NULL if it was not given */
const char *url_text(struct backend_url *url, const char *name);
/** url_bool - NAME, NAME=on|yes|1|true, NAME=off|no|0|false */
bool url_bool(struct backend_url *url, const char *name, bool *value, struct error *err);
/** url_number - decimal, @min to @max; *@value untouched if it was not given */
bool url_number(struct backend_url *url, const char *name, uint64_t min, uint64_t max,
		uint64_t *value, struct error *err);
/** url_time - "20ms", "1.5s", "300us", a bare number is seconds; in ns */
bool url_time(struct backend_url *url, const char *name, int64_t max_ns, int64_t *ns,
	      struct error *err);

struct net_switch; /* loopback.c: the cards of one machine that say "loopback:" */

/* What the backends of one machine share; zeroed at first, lives as long as they. */
struct backend_env {
	struct net_switch *lan; /* made by the first, freed with the last to leave */
};

struct backend_kind {
	const char *scheme;
	const char *usage; /* one line for --help: "ws://HOST[:PORT]/[PATH]" */
	const char *help;  /* what it is, and its parameters */
	/* Returns an open backend with ops, port and counters set, or NULL with @err. */
	struct net_backend *(*open)(struct backend_env *env, struct net_port *port,
				    struct backend_url *url, struct error *err);
};

/** backend_kinds - all of this build, ended by a NULL scheme */
const struct backend_kind *backend_kinds(void);
/** backend_open - by URL; unknown schemes and parameters are refused by name. The
 *  caller gives the result to net_port_set_backend(). A token in the URL never
 *  shows up in @err. */
struct net_backend *backend_open(struct backend_env *env, struct net_port *port,
				 const char *url, struct error *err);

/** backend_url_shown - @url as others may see it: without its token */
void backend_url_shown(const char *url, char *out, size_t size);

/* One function a scheme; each in the file of its name. */
struct net_backend *none_open(struct backend_env *env, struct net_port *port,
			      struct backend_url *url, struct error *err);
struct net_backend *loopback_open(struct backend_env *env, struct net_port *port,
				  struct backend_url *url, struct error *err);
struct net_backend *ws_open(struct backend_env *env, struct net_port *port,
			    struct backend_url *url, struct error *err);
struct net_backend *pcap_file_open(struct backend_env *env, struct net_port *port,
				   struct backend_url *url, struct error *err);
struct net_backend *user_open(struct backend_env *env, struct net_port *port,
			      struct backend_url *url, struct error *err);
struct net_backend *tap_open(struct backend_env *env, struct net_port *port,
			     struct backend_url *url, struct error *err);
struct net_backend *stream_open(struct backend_env *env, struct net_port *port,
				struct backend_url *url, struct error *err);

#endif
