/* What the two threads of the relay backend share. See ws.c. */
#ifndef GANNET_BACKENDS_WS_PRIV_H
#define GANNET_BACKENDS_WS_PRIV_H

#include <libwebsockets.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/frame_queue.h"
#include "core/net.h"

enum {
	WS_QUEUE_BYTES = 1 << 20, /* each way */
	WS_ADDRESSES = 8,         /* of one host name that are tried */
	WS_ADDRESS_SIZE = 64,     /* a numeric address with scope */
	WS_EVENTS = 16,
	WS_TEXT_SIZE = 200,
	WS_TX_BATCH = 64 * 1024,  /* bytes of WebSocket frames in one write */
	WS_TX_HEADER = 8,         /* of a masked frame of 126 to 65535 bytes */
	WS_MASKS = 256,
};

enum {
	WS_SENT, WS_RECEIVED, WS_RECONNECTS, /* frames handed to the kernel, to the guest */
	WS_DROP_NOT_CONNECTED,  /* sent by the guest while there was no connection */
	WS_DROP_STALE,          /* queued when the connection was lost */
	WS_DROP_AGED,           /* older than `age` before the peer took it */
	WS_DROP_REFUSED,        /* sent in spite of can_send (vCPU thread) */
	WS_DROP_QUEUE_FULL,     /* received, and no room for long (I/O thread) */
	WS_DROP_TEXT, WS_DROP_EMPTY, WS_DROP_TOO_LONG, /* messages that are no frame */
	WS_DROP_BROKEN_OFF,     /* the connection ended within a message */
	WS_DROP_STALE_RECEIVED, /* received before a loss, old when the guest had room */
	WS_COUNTERS
};

/* Set by open(), not changed afterwards. */
struct ws_config {
	char *host, *path;
	char *name;               /* "ws://HOST:PORT/PATH" as shown to people */
	char *authority;          /* value of the Host header */
	char *bearer;             /* "Bearer TOKEN", NULL without; never shown */
	char *protocol;           /* subprotocol asked for, or NULL */
	uint16_t port;
	bool tls, verify;
	int64_t ping, timeout;    /* ns; ping 0: none */
	int64_t age;              /* ns */
	int64_t retry;            /* ns: the longest pause between attempts */
};

enum ws_state { WS_CONNECTING, WS_CONNECTED, WS_WAITING };

struct ws_event {
	bool up;
	char text[WS_TEXT_SIZE]; /* down: why */
};

/* One reference for the backend, one for the I/O thread: a thread stuck in the
 * resolver outlives the backend. */
struct ws_io {
	struct ws_config config;
	struct frame_queue *out, *in;
	pthread_t thread;
	int event_fd;             /* readable for the vCPU thread: look at `event` */
	struct net_counter counter[WS_COUNTERS];
	bool connected;           /* atomic; written by the I/O thread */
	bool closing;             /* atomic; written by the vCPU thread */

	struct loop_bell *bell;   /* the backend's: not to be rung when `closing` is set */
	pthread_mutex_t lock;     /* protects from here to `context` */
	pthread_cond_t changed;   /* first_done, finished */
	unsigned refs;
	bool first_done;          /* the first attempt has ended, or nobody waits for it */
	bool first_waited;        /* open() waits: its failure is not an event */
	bool first_ok;
	bool finished;            /* the thread touches nothing any more */
	enum ws_state state;
	int64_t since;            /* ns: when the state began */
	int64_t next_try;         /* ns, in WS_WAITING */
	int64_t lost_at;          /* ns: end of the last connection, 0: none was lost */
	char peer[WS_ADDRESS_SIZE + 8]; /* "10.0.0.1:80" */
	char why[WS_TEXT_SIZE];   /* what went wrong last */
	struct ws_event event[WS_EVENTS];
	unsigned events;
	struct lws_context *context; /* NULL once it is being destroyed */

	/* The I/O thread's own. */
	struct lws *wsi, *wake, *room; /* the connection, the queues' descriptors */
	void *ssl_ctx;
	lws_sorted_usec_list_t attempt_timer, deadline_timer, ping_timer, age_timer;
	char address[WS_ADDRESSES][WS_ADDRESS_SIZE];
	unsigned addresses, next_address;
	bool attempting;          /* from the start of an attempt to its end */
	bool tcp_connected;       /* the attempt came that far */
	bool shown_down;          /* the user knows that there is no connection */
	bool ever_connected;
	bool paused;              /* nothing is read: `in` is full */
	bool discarding;          /* it has been for long: what does not fit is dropped */
	bool want_ping, leaving;
	unsigned failures;        /* in a row, for the pause */
	int64_t connected_at, heard_at, written_at; /* ns; written_at: last progress */
	int64_t ping_at, paused_at; /* ns: the next one; when reading stopped */
	char refusal[WS_TEXT_SIZE]; /* why TLS did not come about in this attempt */
	char reason[WS_TEXT_SIZE];  /* of the close frame, or our own */
	unsigned skip_counter;    /* not 0: the rest of this message is dropped, under this */
	bool in_message;
	size_t assembled;         /* bytes of a message in pieces */
	uint8_t assembly[NET_FRAME_MAX];
	uint32_t mask[WS_MASKS];  /* unpredictable, as RFC 6455 section 10.3 wants them */
	unsigned masks;
	uint8_t tx[LWS_PRE + WS_TX_BATCH + WS_TX_HEADER + NET_FRAME_MAX];
};

int64_t ws_now(void);

/** ws_io_start - the lws context and the thread; takes over @config, also on failure */
struct ws_io *ws_io_start(const struct ws_config *config, const char *ca, bool wait,
			  struct error *err);
/** ws_io_wait - until the first attempt has ended; false with @err set if there is no
 *  connection after @ns */
bool ws_io_wait(struct ws_io *io, int64_t ns, struct error *err);
/** ws_io_stop - close the connection; returns within a second, whatever the thread does */
void ws_io_stop(struct ws_io *io);
void ws_config_free(struct ws_config *config);

/** ws_abandon - give up on a peer that is not there, and pause before the next attempt */
void ws_abandon(struct ws_io *io, const char *why);

/** ws_pump - send what is queued as far as the socket takes it, and see to it that
 *  somebody calls again for the rest; nonzero: the connection is broken */
int ws_pump(struct ws_io *io);
/** ws_drop_queued - what the guest has sent is for nobody: "drop.stale" */
void ws_drop_queued(struct ws_io *io);
/** ws_received - a message or a piece of one */
void ws_received(struct ws_io *io, struct lws *wsi, const uint8_t *data, size_t len);
/** ws_pause_if_full - read no more until the guest has taken some */
void ws_pause_if_full(struct ws_io *io, struct lws *wsi);
/** ws_random32 - unpredictable, without a system call each */
uint32_t ws_random32(struct ws_io *io);

/** ws_tls_create - an SSL_CTX that trusts @ca, or the system's store if NULL */
void *ws_tls_create(struct ws_io *io, const char *ca, struct error *err);
void ws_tls_destroy(void *ssl_ctx);

#endif
