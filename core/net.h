/* The path of an Ethernet frame between a card and a backend.
 *
 *	guest OUT -> NIC -> port -> stage -> stage -> backend -> wire
 *	guest IRQ <- NIC <- port <- stage <- stage <- backend <- wire
 *
 * A frame is (bytes, length), without FCS, borrowed for the call: who keeps it
 * copies it, who rewrites it copies it first. Everything here is called in the
 * thread that runs the machine's loop (the vCPU thread). A backend with a thread
 * of its own crosses over with core/frame_queue.h.
 *
 * Nothing is dropped silently: a NIC, stage or backend that does not pass a frame
 * on counts it under a name that begins with "drop.". Both ends can push back
 * instead: who is told "not now" keeps its frame and is called when things change.
 * A backend whose frames nobody can hold (a socket's are held by the kernel) may
 * hand them over in spite of that; the card then overflows as real ones do.
 *
 * net_port_receive() may be called from within a backend's send (a loopback), so
 * a NIC's state must be consistent when it sends.
 */
#ifndef GANNET_CORE_NET_H
#define GANNET_CORE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/state.h"
#include "core/trace.h"

struct loop;
struct net_port;

enum {
	NET_MAC_SIZE = 6,
	NET_HEADER_SIZE = 14,  /* destination, source, type: what is shorter is no frame */
	NET_FRAME_MAX = 9216,  /* longer ones are dropped where they enter: "drop.too-long" */
};

enum net_dir { NET_TO_WIRE, NET_TO_GUEST };

/* A named count. One thread writes it; others may read. Names are lower case words
 * joined by '-'; "drop." in front where the counted frame went no further. */
struct net_counter {
	const char *name; /* static */
	uint64_t n;
};

static inline void net_count_add(struct net_counter *c, uint64_t n)
{
	__atomic_store_n(&c->n, c->n + n, __ATOMIC_RELAXED);
}

static inline void net_count(struct net_counter *c)
{
	net_count_add(c, 1);
}

static inline uint64_t net_counter_read(const struct net_counter *c)
{
	return __atomic_load_n(&c->n, __ATOMIC_RELAXED);
}

/* What NICs, stages and backends have in common for those who look at them. */
struct net_counters {
	struct net_counter *item; /* borrowed from its owner */
	unsigned count;
};

/* ---- the card's end ---- */

struct net_nic;

struct net_nic_ops {
	const char *name;                         /* "ne2k_pci" */
	bool (*can_receive)(struct net_nic *nic); /* optional: room for a frame of full size */
	void (*receive)(struct net_nic *nic, const uint8_t *frame, size_t len);
	void (*writable)(struct net_nic *nic);    /* optional: net_port_can_send() is true again */
	void (*carrier)(struct net_nic *nic, bool up); /* optional */
};

struct net_nic {
	const struct net_nic_ops *ops;
	struct net_port *port; /* borrowed; NULL until net_port_set_nic() */
	struct net_counters counters;
};

/* ---- what stands in between ---- */

struct net_stage;

struct net_stage_ops {
	const char *name; /* "translate", "capture" */
	/* A frame on its way: pass it (or a changed copy) on with net_stage_pass(), now
	 * or later, or count a drop. @len is NET_HEADER_SIZE to NET_FRAME_MAX. */
	void (*frame)(struct net_stage *s, enum net_dir dir, const uint8_t *frame, size_t len);
	void (*destroy)(struct net_stage *s);
	const struct state_field *fields;  /* as of struct device_ops; NULL: stateless */
	size_t size;                       /* of the stage's struct, if it has fields */
};

struct net_stage {
	const struct net_stage_ops *ops;
	struct net_port *port;        /* borrowed; set by net_port_add_stage() */
	struct net_stage *next[2];    /* neighbours, by enum net_dir; NULL: the end */
	bool enabled;                 /* false: frames go around it */
	struct net_counters counters;
};

/* ---- the wire's end ---- */

struct net_backend;

struct net_backend_ops {
	const char *name;                           /* "ws", "pcap" */
	bool (*can_send)(struct net_backend *b);    /* optional: false pushes back; then
						       net_port_writable() must follow */
	void (*send)(struct net_backend *b, const uint8_t *frame, size_t len);
	void (*readable)(struct net_backend *b);    /* optional: the guest takes frames again */
	void (*close)(struct net_backend *b);       /* frees it */
	/* Optional: one line for a person, e.g. "connected to 10.0.0.1:80 for 12 s". */
	void (*status)(struct net_backend *b, char *text, size_t size);
};

struct net_backend {
	const struct net_backend_ops *ops;
	struct net_port *port; /* borrowed; set before open returns */
	struct net_counters counters;
};

/* ---- the port: two ends and what is between ---- */

struct net_flow {
	uint64_t frames, bytes;
};

struct net_port {
	struct loop *loop;     /* borrowed */
	struct trace *trace;   /* borrowed */
	unsigned index;        /* net0, net1, ... */
	struct net_nic *nic;         /* borrowed: a device of the machine */
	struct net_backend *backend; /* owned; NULL: frames go nowhere and are counted */
	struct net_stage *stages[2]; /* owned; the first one met going that way */

	/* Two fields for ever: what the guest programmed into its card, and what the
	 * wire sees. Equal when nothing is translated. */
	uint8_t guest_mac[NET_MAC_SIZE];
	uint8_t wire_mac[NET_MAC_SIZE];

	bool link;     /* the user's switch */
	bool carrier;  /* the backend's word */
	bool blocked;  /* a send was refused: the NIC waits for writable */
	bool starved;  /* a receive was refused: the backend waits for readable */

	struct net_flow guest[2]; /* at the card, by enum net_dir */
	struct net_flow wire[2];  /* at the backend */
	struct net_counters counters;
	struct net_counter counter[4];

	/* What the user should know, one line without newline; NULL: nobody listens. */
	void (*notify)(void *opaque, const char *text);
	void *notify_opaque;
};

/** net_port_init - an end to end port without NIC, stages or backend; link and carrier up */
void net_port_init(struct net_port *port, struct loop *loop, struct trace *trace,
		   unsigned index);
/** net_port_finish - closes the backend and destroys the stages */
void net_port_finish(struct net_port *port);

void net_port_set_nic(struct net_port *port, struct net_nic *nic);
/** net_port_add_stage - behind those already there, seen from the guest; owned from now on */
void net_port_add_stage(struct net_port *port, struct net_stage *stage);
/** net_port_add_first_stage - before those already there; owned from now on */
void net_port_add_first_stage(struct net_port *port, struct net_stage *stage);
/** net_port_add_stage_before - before @next, seen from the guest; owned from now on */
void net_port_add_stage_before(struct net_port *port, struct net_stage *stage,
			       struct net_stage *next);
/** net_port_remove_stage - takes it out and destroys it; not from within its frame call */
void net_port_remove_stage(struct net_port *port, struct net_stage *stage);
/** net_port_find_stage - by name; NULL if there is none */
struct net_stage *net_port_find_stage(struct net_port *port, const char *name);
/** net_port_set_backend - closes the one before; NULL is legal; carrier is up again */
void net_port_set_backend(struct net_port *port, struct net_backend *backend);

/** net_port_can_send - NIC: may a frame be sent now? If false, ops->writable follows */
bool net_port_can_send(struct net_port *port);
/** net_port_send - NIC: a frame from the guest, of any length */
void net_port_send(struct net_port *port, const uint8_t *frame, size_t len);
/** net_port_can_receive - backend: does the guest take a frame now? If false, readable follows */
bool net_port_can_receive(struct net_port *port);
/** net_port_receive - backend: a frame from the wire, of any length */
void net_port_receive(struct net_port *port, const uint8_t *frame, size_t len);
/** net_port_writable - backend: can_send became true */
void net_port_writable(struct net_port *port);
/** net_port_readable - NIC: can_receive became true (cheap when nobody waits) */
void net_port_readable(struct net_port *port);

/** net_stage_pass - hand a frame to the next in direction @dir */
void net_stage_pass(struct net_stage *s, enum net_dir dir, const uint8_t *frame, size_t len);

/** net_port_set_link - the user plugs or unplugs the cable */
void net_port_set_link(struct net_port *port, bool up);
/** net_port_set_carrier - the backend's peer is there or not */
void net_port_set_carrier(struct net_port *port, bool up);
/** net_port_up - link and carrier */
static inline bool net_port_up(const struct net_port *port)
{
	return port->link && port->carrier;
}

/** net_port_notify - tell the user, one line */
void net_port_notify(struct net_port *port, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- MAC addresses ---- */

enum { NET_MAC_TEXT_SIZE = 18 };

/** net_mac_parse - "52:54:00:12:34:56", also with '-'; false if it is something else */
bool net_mac_parse(const char *text, uint8_t mac[NET_MAC_SIZE]);
/** net_mac_format - @text holds NET_MAC_TEXT_SIZE bytes; returns it */
char *net_mac_format(char *text, const uint8_t mac[NET_MAC_SIZE]);
/** net_mac_random - locally administered, unicast, from the kernel's entropy */
void net_mac_random(uint8_t mac[NET_MAC_SIZE]);
/** net_mac_is_station - neither a group address nor all zeros */
bool net_mac_is_station(const uint8_t mac[NET_MAC_SIZE]);

#endif
