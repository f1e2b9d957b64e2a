/* A bad link, for tests: delay, jitter, loss, duplication, reordering, rate.
 *
 * A stage for any port and backend. It works on the frames the guest sends; the other
 * direction passes untouched, being the other side's to impair. With a seed every run
 * treats the n-th frame alike, whatever the timing, and the decisions are drawn from
 * streams of their own: turning jitter on does not change which frames are lost.
 */
#ifndef GANNET_BACKENDS_IMPAIR_H
#define GANNET_BACKENDS_IMPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/backend.h"
#include "core/error.h"
#include "core/loop.h"
#include "core/net.h"

struct impair_config {
	int64_t delay, jitter; /* ns; each frame is delayed by delay - jitter to delay + jitter */
	double loss, duplicate, reorder; /* 0 to 1; reordered: goes ahead of those delayed */
	uint64_t rate;         /* bits of frame a second; 0: no limit */
	uint64_t limit;        /* bytes on their way at most */
	uint64_t seed;
	bool wanted;           /* something was asked for */
};

/** impair_parse - ?delay= &jitter= &loss= &dup= &reorder= &rate= &limit= &seed= of a URL */
bool impair_parse(struct backend_url *url, struct impair_config *config, struct error *err);
/** impair_create - the stage, named "impair"; for net_port_add_stage() */
struct net_stage *impair_create(struct loop *loop, const struct impair_config *config,
				struct error *err);

#endif
