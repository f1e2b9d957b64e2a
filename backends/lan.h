/* What the two kinds of loopback share: whom a frame goes to, and who has to wait.
 *
 * Each card has a struct lan: the others as it sees them. A frame goes to the one
 * that owns its destination address, or to all. Who cannot take it now is remembered
 * with the frame, in a bounded queue of the sender's, and the sender's card is pushed
 * back until that queue is empty. One who takes nothing for LAN_STALL_NS is passed by
 * until it takes frames again, so that it holds up nobody for ever.
 */
#ifndef GANNET_BACKENDS_LAN_H
#define GANNET_BACKENDS_LAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/backend.h"
#include "backends/impair.h"
#include "core/frame_queue.h"
#include "core/loop.h"
#include "core/net.h"

enum {
	LAN_MEMBERS = 64,     /* of one segment: a bit each in a uint64_t */
	LAN_MACS = 1024,      /* addresses remembered; a power of two */
	LAN_STALL_NS = 1000000000,
};

/* Which member an address was last seen at. */
struct lan_mac {
	uint64_t key;  /* the address with bit 48 set; 0: free */
	int64_t seen;  /* loop clock, ns */
	unsigned member;
};

struct lan_table {
	struct lan_mac slot[LAN_MACS];
};

/** lan_learn - the source address of @frame belongs to @member */
void lan_learn(struct lan_table *t, const uint8_t *frame, unsigned member, int64_t now);
/** lan_find - the member with that address, -1 if it is not known or too old */
int lan_find(const struct lan_table *t, const uint8_t mac[NET_MAC_SIZE], int64_t now);
/** lan_forget - whatever is known of @member */
void lan_forget(struct lan_table *t, unsigned member);

/* Somebody a frame can be given to. */
struct lan_peer {
	/* Copies the frame; false: not now, and lan_flush() follows when it can. */
	bool (*take)(struct lan_peer *p, const uint8_t *frame, size_t len);
	int64_t refused; /* loop clock of the first refusal since it last took one; -1 */
	bool stalled;
};

enum {
	LAN_NO_PEER, LAN_STALLED, LAN_GONE, LAN_FULL, LAN_OWN, /* dropped */
	LAN_FLOODED, LAN_HELD, LAN_JOINED, LAN_LEFT, LAN_REFUSED,
	LAN_COUNTERS,
};

/* What a URL asks of either kind. */
struct lan_options {
	bool carrier;              /* tell the card when nobody is there */
	struct impair_config impair;
};

struct lan {
	struct net_port *port;     /* borrowed */
	struct net_stage *impair;  /* ours, the port has it; NULL: none */
	struct lan_table *table;   /* borrowed */
	bool *busy;                /* borrowed: frames are being handed over right now */
	unsigned self;             /* this card's own number */
	bool carrier;              /* tell the card when nobody is there */
	bool told;                 /* the user knows that somebody stalled */
	struct lan_peer *peer[LAN_MEMBERS]; /* borrowed; NULL: nobody */
	uint64_t present;          /* bits of peer[] */
	struct frame_queue *held;  /* frames for those who could not take them */
	uint64_t waiting;          /* who still has to get the oldest of them ... */
	bool begun;                /* ... if that is known yet */
	struct timer timer;
	struct net_counter counter[LAN_COUNTERS];
};

/** lan_init - nobody there yet; puts a stage into the port if frames are to be impaired */
bool lan_init(struct lan *lan, struct net_port *port, struct lan_table *table, bool *busy,
	      unsigned self, const struct lan_options *o, struct error *err);
/** lan_finish - takes that stage out again */
void lan_finish(struct lan *lan);

void lan_add(struct lan *lan, unsigned member, struct lan_peer *peer);
/** lan_remove - @lost: frames it had accepted and never read */
void lan_remove(struct lan *lan, unsigned member, uint64_t lost);

/** lan_can_send - for ops->can_send */
bool lan_can_send(const struct lan *lan);
/** lan_send - for ops->send */
void lan_send(struct lan *lan, const uint8_t *frame, size_t len);
/** lan_flush - somebody may have room again */
void lan_flush(struct lan *lan);
/** lan_status - for ops->status; @what: "loopback" */
void lan_status(const struct lan *lan, const char *what, char *text, size_t size);

/** loopback_shared_open - loopback:NAME; the body of @url is checked here */
struct net_backend *loopback_shared_open(struct net_port *port, struct backend_url *url,
					 const struct lan_options *o, struct error *err);

#endif
