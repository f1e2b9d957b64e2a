/* Shared by stream.c and stream_socket.c only. */
#ifndef GANNET_BACKENDS_STREAM_PRIV_H
#define GANNET_BACKENDS_STREAM_PRIV_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "core/error.h"

enum { STREAM_ADDRESSES = 8 };

/* Where the peer is, or is awaited. */
struct stream_address {
	char text[160]; /* "unix:/run/x", "tcp:[::1]:80": for people */
	struct sockaddr_storage item[STREAM_ADDRESSES]; /* what a name means, in order */
	socklen_t len[STREAM_ADDRESSES];
	unsigned count;
	unsigned next;  /* the one to try */
	dev_t made_dev; /* the socket file made by listening; 0: none */
	ino_t made_ino;
};

/** stream_parse - "unix:PATH", "tcp:HOST:PORT"; looks names up, so it may take a while */
bool stream_parse(struct stream_address *a, const char *text, bool server, struct error *err);
/** stream_listen - a listening socket, -1 with @err set; removes a socket file nobody listens
 *  at; @a->text tells the port if it was 0 */
int stream_listen(struct stream_address *a, struct error *err);
/** stream_unlink - removes the socket file if it is still the one stream_listen() made */
void stream_unlink(struct stream_address *a);
/** stream_connect - begins to connect to the next address; *@pending if that goes on.
 *  -1 with errno set */
int stream_connect(struct stream_address *a, bool *pending);
/** stream_connect_now - the same for each address in turn, waits up to 10 s */
int stream_connect_now(struct stream_address *a, struct error *err);
/** stream_prepare - options of a connected socket */
void stream_prepare(int fd);

#endif
