/* The relay's learning switch and its rate limiter: no sockets in here.
 *
 * A port is a client or an uplink. Every source address seen belongs to the port
 * that used it first, until that port leaves or is silent for the ageing time; a
 * frame of anybody else with that source is refused. A port may own so many
 * addresses and no more, and the table has room for all ports at their limit, so
 * nobody's million addresses evict anybody else's.
 */
#ifndef GANNET_TOOLS_RELAY_SWITCH_H
#define GANNET_TOOLS_RELAY_SWITCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/net.h"

struct relay_switch;

struct relay_switch_config {
	unsigned ports;   /* at most so many at a time */
	unsigned macs;    /* entries of the table: at least the sum of all ports' limits */
	int64_t age_ns;   /* an address unused for so long is forgotten */
};

enum { RELAY_NO_PORT = -1 };

enum relay_verdict {
	RELAY_UNICAST,         /* to one port */
	RELAY_FLOOD,           /* to all but the sender: group address or nobody's */
	RELAY_DROP_RUNT,       /* shorter than an Ethernet header */
	RELAY_DROP_TOO_LONG,
	RELAY_DROP_LINK_LOCAL, /* 01-80-C2-00-00-0x stays on its link (IEEE 802.1D 7.12.6) */
	RELAY_DROP_BAD_SOURCE, /* a group address or zero as source */
	RELAY_DROP_MAC_TAKEN,  /* the source belongs to another port */
	RELAY_DROP_MAC_LIMIT,  /* one address too many */
	RELAY_DROP_SAME_PORT,  /* the destination is where the frame came from */
	RELAY_VERDICTS,
};

/** relay_switch_create - NULL with @err set when there is no memory */
struct relay_switch *relay_switch_create(const struct relay_switch_config *cfg,
					 struct error *err);
void relay_switch_destroy(struct relay_switch *sw); /* NULL is legal */

/** relay_switch_join - a new port that may own @macs addresses; RELAY_NO_PORT if full */
int relay_switch_join(struct relay_switch *sw, unsigned macs);
/** relay_switch_leave - its addresses are free again at once */
void relay_switch_leave(struct relay_switch *sw, int port);

/**
 * relay_switch_frame - learn the source, find the destination
 * @now: ns, any monotonic clock
 * @to: the port of RELAY_UNICAST
 */
enum relay_verdict relay_switch_frame(struct relay_switch *sw, int port, int64_t now,
				      const uint8_t *frame, size_t len, int *to);

/** relay_switch_owner - port that owns @mac now, RELAY_NO_PORT if none */
int relay_switch_owner(const struct relay_switch *sw, const uint8_t *mac, int64_t now);
/** relay_switch_macs - the addresses of a port, last used first, up to @max; returns
 *  how many there are */
unsigned relay_switch_macs(const struct relay_switch *sw, int port, int64_t now,
			   uint8_t (*mac)[NET_MAC_SIZE], unsigned max);
/** relay_switch_used - entries in the table, aged ones included */
unsigned relay_switch_used(const struct relay_switch *sw);

/* A token bucket in bytes. */
struct relay_bucket {
	double rate;   /* bytes a second; 0: no limit */
	double burst;  /* bytes */
	double tokens;
	int64_t last;  /* ns */
};

/** relay_bucket_init - full; @burst is at least one frame of full size */
void relay_bucket_init(struct relay_bucket *b, uint64_t rate, uint64_t burst, int64_t now);
/** relay_bucket_take - false if @bytes are too many for now */
bool relay_bucket_take(struct relay_bucket *b, size_t bytes, int64_t now);

#endif
