/* The machine's clock, timers and file descriptors.
 *
 * Device code runs in one thread: the vCPU thread, between guest blocks. The
 * loop owns a second thread that only waits (epoll, the nearest deadline); when
 * something is due it asks the vCPU to stop at its next poll (the `kick`
 * callback) and the vCPU thread then calls loop_run(), which calls the timers
 * and descriptor callbacks. So no device needs a lock. While the guest is
 * halted the vCPU thread itself sleeps in loop_wait().
 *
 * Only loop_post(), loop_bell_ring() and loop_kick() may be called from other threads.
 */
#ifndef GANNET_CORE_LOOP_H
#define GANNET_CORE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

#define NS_PER_S 1000000000ll

struct loop;

/* Embedded in its owner; the loop keeps a pointer to it while it is armed. */
struct timer {
	const char *name;         /* for traces and state images; static */
	void (*fire)(void *opaque);
	void *opaque;             /* borrowed */
	struct loop *loop;        /* borrowed */
	int64_t deadline;         /* guest clock, ns; valid while armed */
	size_t slot;              /* heap index + 1; 0 while not armed */
};

/**
 * loop_create - a loop with its clock at 0 and not yet running
 * @kick: called from any thread when the vCPU should come to loop_run() soon;
 *        must be cheap and async-signal-safe
 */
struct loop *loop_create(void (*kick)(void *opaque), void *opaque,
			 struct error *err);
void loop_destroy(struct loop *loop);

/** loop_now - the guest's clock: ns since the machine started, stops while paused */
int64_t loop_now(const struct loop *loop);
/** loop_set_now - continue the clock from a saved value (restore) */
void loop_set_now(struct loop *loop, int64_t ns);
void loop_pause(struct loop *loop);
void loop_resume(struct loop *loop);

/** loop_run - fire due timers and ready descriptors; vCPU thread only; never blocks */
void loop_run(struct loop *loop);
/** loop_wait - like loop_run(), but sleeps until something is due or kicked */
void loop_wait(struct loop *loop);
/** loop_expect - something is likely to happen within @ns (an answer to what was sent): a
 *  guest that halts meanwhile looks out for it, instead of sleeping and being woken */
void loop_expect(struct loop *loop, int64_t ns);
/** loop_kick - make a sleeping loop_wait() return and call `kick`; any thread */
void loop_kick(struct loop *loop);
/** loop_post - run @fn(@opaque) in the vCPU thread at its next loop_run(); any thread.
 *  Returns false if the bounded queue (1024) is full. */
bool loop_post(struct loop *loop, void (*fn)(void *opaque), void *opaque);

/* A bell that another thread rings to have something looked at in the vCPU thread. Where a
 * descriptor would need a system call and the poller, ringing costs a store while the
 * guest runs. Rings that were not answered yet count as one. */
struct loop_bell {
	void (*answer)(void *opaque);
	void *opaque;           /* borrowed */
	struct loop *loop;      /* borrowed */
	uint32_t rung;          /* atomic */
	struct loop_bell *next; /* of the loop's */
};

/** loop_bell_add - hang up a bell; @b is the caller's and stays until loop_bell_remove() */
void loop_bell_add(struct loop *loop, struct loop_bell *b, void (*answer)(void *opaque),
		   void *opaque);
/** loop_bell_remove - nobody rings it any more; legal if it was never added */
void loop_bell_remove(struct loop_bell *b);
/** loop_bell_ring - any thread */
void loop_bell_ring(struct loop_bell *b);

void timer_init(struct timer *t, struct loop *loop, const char *name,
		void (*fire)(void *opaque), void *opaque);
/** timer_arm - fire once when the clock reaches @deadline (ns); re-arms if armed */
void timer_arm(struct timer *t, int64_t deadline);
void timer_disarm(struct timer *t);
static inline bool timer_armed(const struct timer *t) { return t->slot != 0; }

enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_HANGUP = 4 };

struct watch; /* one watched descriptor */
/**
 * loop_watch - call @ready(@opaque, events) in the vCPU thread when @fd is ready
 * @events: LOOP_READ | LOOP_WRITE; 0 to start switched off. Level triggered.
 * The descriptor stays the caller's. Returns NULL with @err set on failure
 * (regular files cannot be watched).
 */
struct watch *loop_watch(struct loop *loop, int fd, unsigned events,
			 void (*ready)(void *opaque, unsigned events),
			 void *opaque, struct error *err);
void watch_set(struct watch *w, unsigned events);
void loop_unwatch(struct watch *w); /* NULL is legal; safe inside its own callback */

#endif
