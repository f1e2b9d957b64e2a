/* Shared by user*.c only. */
#ifndef GANNET_BACKENDS_USER_PRIV_H
#define GANNET_BACKENDS_USER_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include <libslirp.h>

#include "backends/backend.h"

enum { USER_ADDRESS_TEXT = 64 };

/* One port of the host that leads to the guest. */
struct user_forward {
	bool udp;
	struct sockaddr_storage host, guest;
	socklen_t host_len, guest_len;
	char text[128]; /* as it was written */
};

/** user_options - all parameters but hostfwd; texts in @c are the URL's */
bool user_options(struct backend_url *url, SlirpConfig *c, struct error *err);
/** user_next_forward - the first of hostfwd's list; returns where the next one begins
 *  ("" at the end), NULL with @err set if it is none */
const char *user_next_forward(const char *text, struct user_forward *f, struct error *err);
/** user_address_text - "127.0.0.1:80", "[::1]:80" */
void user_address_text(const struct sockaddr_storage *addr, char *text, size_t size);
/** user_log_quiet - libslirp's own warnings no longer go to stderr; returns a handle */
unsigned user_log_quiet(void);
void user_log_loud(unsigned handle);

#endif
