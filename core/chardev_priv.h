/* What chardev.c and chardev_socket.c share. */
#ifndef GANNET_CORE_CHARDEV_PRIV_H
#define GANNET_CORE_CHARDEV_PRIV_H

#include <stdbool.h>

#include "core/error.h"

/* "HOST:PORT" or "PATH" after the scheme, and the options behind it. */
struct socket_spec {
	bool tcp;
	bool server;
	bool wait;       /* server: block until somebody connects */
	char host[256];
	char port[32];
	char path[108];  /* sizeof(sun_path) */
};

/** socket_spec_parse - @text is what follows "tcp:" or "unix:" */
bool socket_spec_parse(struct socket_spec *spec, bool tcp, const char *text, struct error *err);
/** socket_listen - returns a listening descriptor, or -1; sets spec->port to the port chosen */
int socket_listen(struct socket_spec *spec, struct error *err);
/** socket_connect - returns a connected descriptor, or -1; gives up after 10 s */
int socket_connect(const struct socket_spec *spec, struct error *err);
/** socket_wait - sleep until a peer knocks; false: a signal came first */
bool socket_wait(int listener);
/** socket_accept - a peer's descriptor, non-blocking, or -1 */
int socket_accept(const struct socket_spec *spec, int listener);

#endif
