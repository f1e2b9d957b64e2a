/* The relay's parts among themselves.
 *
 * One thread serves all sockets (libwebsockets); each uplink has one of its own and
 * meets it in two frame queues (relay_uplink.c).
 */
#ifndef GANNET_TOOLS_RELAY_PRIV_H
#define GANNET_TOOLS_RELAY_PRIV_H

#include <libwebsockets.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/net.h"
#include "tools/relay_options.h"
#include "tools/relay_queue.h"
#include "tools/relay_switch.h"

/* What is counted, a client and in total. Every message that comes in is in
 * frames-in, and in no more than one of the drops. */
enum relay_count {
	RELAY_FRAMES_IN, RELAY_BYTES_IN,   /* messages of any length and kind */
	RELAY_FRAMES_OUT, RELAY_BYTES_OUT,
	RELAY_IN_DROP,                     /* + enum relay_verdict - RELAY_DROP_RUNT */
	RELAY_IN_TEXT = RELAY_IN_DROP + RELAY_VERDICTS - RELAY_DROP_RUNT,
	RELAY_IN_RATE, RELAY_IN_MEMORY,
	RELAY_OUT_QUEUE_FULL, RELAY_OUT_STALE, RELAY_OUT_GONE, /* by the receiver */
	RELAY_COUNTS,
};

/** relay_count_name - "frames-in", "drop.runt" */
const char *relay_count_name(unsigned count);

enum { RELAY_ADDRESS_SIZE = 64, RELAY_PATH_SIZE = 64 };

struct relay_client {
	struct relay *relay;  /* borrowed */
	struct lws *wsi;      /* borrowed */
	unsigned id;          /* never used again */
	int port;             /* of the switch */
	unsigned at;          /* in relay->client */
	int64_t since, heard; /* ns */
	struct relay_queue queue;
	struct relay_bucket bucket;
	struct relay_frame *partial; /* owned: a message that is still coming */
	bool skipping;               /* the rest of this message is not wanted */
	bool armed;                  /* asked for the writeable callback */
	bool ping_due, pinged, told_taken, told_limit, dying;
	uint64_t count[RELAY_COUNTS];
	char address[RELAY_ADDRESS_SIZE], path[RELAY_PATH_SIZE];
};

struct relay_uplink;
struct relay_text;

struct relay {
	struct relay_options options;
	struct lws_context *context;
	struct lws_vhost *vhost;
	struct relay_switch *sw;
	struct relay_pool *pool;
	struct relay_client **client;   /* all that are connected, dense */
	unsigned clients, clients_peak;
	struct relay_client **by_port;  /* NULL: an uplink's */
	struct relay_uplink *uplink[RELAY_UPLINK_MAX];
	struct relay_uplink *mirror;    /* the capture */
	unsigned uplinks;
	int listener[RELAY_LISTEN_MAX]; /* borrowed from libwebsockets */
	unsigned listeners;
	int spare_fd;                   /* owned; see turn_away() */
	unsigned next_id;
	int64_t started;                /* ns */
	uint64_t count[RELAY_COUNTS];   /* of all clients that ever were */
	uint64_t uplink_count[RELAY_COUNTS]; /* drops of what uplinks sent */
	uint64_t refused;               /* connections: token, limits */
	int64_t refused_told;           /* ns */
	bool libev;                     /* libwebsockets runs in its loop */
	bool end;                       /* atomic: a signal came */
	bool stop;
	lws_sorted_usec_list_t tick;
	struct relay_text *json;        /* the last one made */
	int64_t json_made;
	unsigned responses;
	uint8_t *scratch;               /* LWS_PRE + RELAY_BATCH */
	char subprotocol[64];           /* what the client at hand asked for */
	struct lws_protocols protocols[4];
};

enum { RELAY_BATCH = 64 * 1024 };

int64_t relay_now(void);

/* ---- relay_log.c ---- */

/** relay_log - one event, one line on stderr; any thread */
void relay_log(const struct relay *r, const char *event, const struct relay_client *c,
	       const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* ---- relay_forward.c: from a message to the queues it belongs in ---- */

/** relay_receive - a piece of a message of client @c */
void relay_receive(struct relay_client *c, const uint8_t *data, size_t len, bool first,
		   bool final, bool binary);
/** relay_uplink_frames - what came from an uplink, a bounded number of frames */
void relay_uplink_frames(struct relay *r, struct relay_uplink *u);
/** relay_transmit - the socket takes bytes; false if the connection is to be closed */
bool relay_transmit(struct relay_client *c);

/* ---- relay_uplink.c ---- */

/** relay_uplink_open - opens the backend; frames flow after relay_uplink_start() */
struct relay_uplink *relay_uplink_open(const struct relay *r, const char *url, struct error *err);
/** relay_uplink_capture - one that records what it is sent */
struct relay_uplink *relay_uplink_capture(const struct relay *r, const char *path,
					  struct error *err);
bool relay_uplink_start(struct relay_uplink *u, struct error *err);
void relay_uplink_close(struct relay_uplink *u); /* NULL is legal */
/** relay_uplink_send - copies; what does not fit is counted and dropped */
void relay_uplink_send(struct relay_uplink *u, const uint8_t *frame, size_t len);
/** relay_uplink_queue - frames from the uplink, to be consumed by the relay's thread */
struct frame_queue *relay_uplink_queue(struct relay_uplink *u);
int relay_uplink_port(const struct relay_uplink *u);
void relay_uplink_set_port(struct relay_uplink *u, int port);

struct relay_uplink_info {
	char url[128];     /* without its parameters: a token may be among them */
	char status[256];
	bool up;
	uint64_t frames_in, bytes_in, frames_out, bytes_out, drop_full, drop_in_full;
};

void relay_uplink_info(struct relay_uplink *u, struct relay_uplink_info *info);

/* ---- relay_page.c ---- */

/* A text that several answers may be sending. */
struct relay_text {
	unsigned refs;
	size_t len, size;
	bool failed; /* no memory for all of it */
	char *data;
};

struct relay_text *relay_page_html(void);
struct relay_text *relay_page_json(struct relay *r);
void relay_text_put(struct relay_text *t); /* NULL is legal */

/* ---- relay_http.c ---- */

/* What libwebsockets keeps for us with a connection. */
struct relay_session {
	struct relay_client *client; /* owned; a WebSocket */
	struct relay_text *text;     /* an answer on its way */
	size_t sent;
};

/** relay_http_request - a plain HTTP request for @path; returns what the callback does */
int relay_http_request(struct relay *r, struct lws *wsi, struct relay_session *s,
		       const char *path);
/** relay_http_writeable - the next piece of the answer */
int relay_http_writeable(struct relay *r, struct lws *wsi, struct relay_session *s);
void relay_http_closed(struct relay *r, struct relay_session *s);
/** relay_http_upgrade - 0: may become a WebSocket; else what the callback returns */
int relay_http_upgrade(struct relay *r, struct lws *wsi, const char *to);

#endif
