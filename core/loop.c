/* See loop.h. How the two threads meet:
 *
 * One word, `state`, is everything they share besides the post queue. The
 * poller thread sleeps in epoll on three things: the inner epoll set that holds
 * the watched descriptors, a timerfd armed for the nearest deadline, and an
 * eventfd for posts and for the end. When one is ready it sets PENDING (and FDS
 * if descriptors are ready), kicks, and then sleeps until a loop_run() that
 * began afterwards is over; so a descriptor that stays ready costs nothing
 * while the guest has not come to look. A kick may be lost when the vCPU
 * re-enters guest code at that very moment, therefore the poller repeats it.
 *
 * Timers belong to the vCPU thread alone. The timerfd is set only when the
 * nearest deadline gets nearer: one that goes away costs one idle wake-up. Its
 * events are edge triggered, so nobody has to read it.
 *
 * A sleeping vCPU does without the poller: it waits for the descriptors, a timerfd of
 * its own and an eventfd for kicks, and takes descriptors and deadline away from the
 * poller meanwhile. So what ends a HLT wakes one thread, not two: on a machine whose
 * cores sleep, each thread that is woken costs more than all else that a frame needs.
 * (A time-out of ppoll() would be late by a thousandth of it, a timerfd is not.)
 */
#include "core/loop.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "core/util.h"

enum {
	STATE_PENDING = 1, /* something is due: loop_run() has to look */
	STATE_BUSY = 2,    /* loop_run() is at work */
	STATE_FDS = 4,     /* descriptors are ready */
	STATE_BELLS = 8,   /* a bell was rung */
};

enum {
	POST_MAX = 1024,
	EVENTS_PER_RUN = 64,
	BELLS_PER_RUN = 32,
	REKICK_FIRST_NS = 500000,
	REKICK_MAX_NS = 50000000,
	TIMER_SLACK_NS = 1,
};

#define SLOT_LATE ((size_t)1 << (sizeof(size_t) * CHAR_BIT - 1))
#define NEVER INT64_MAX

struct post {
	void (*fn)(void *opaque);
	void *opaque;
};

struct watch {
	struct loop *loop;
	int fd;
	unsigned events;
	bool in_set; /* registered in the inner epoll set */
	bool dead;   /* unwatched while callbacks were being called */
	void (*ready)(void *opaque, unsigned events);
	void *opaque;
	struct watch *next; /* of all watches, or of the dead ones */
};

struct timer_list {
	struct timer **item;
	size_t count, max;
};

struct loop {
	void (*kick)(void *opaque);
	void *kick_opaque;

	uint32_t state;         /* futex; STATE_* */
	uint32_t sleeping;      /* the vCPU thread waits; wake_fd wakes it */
	uint32_t poller_waits;  /* the poller does */
	uint32_t stop;

	int fds;                /* inner epoll set: watches */
	int outer;              /* what the poller waits on */
	int timer_fd, event_fd;
	int sleep_fd, wake_fd;  /* a sleeping vCPU's timerfd and eventfd */
	pthread_t poller;
	bool poller_started;

	/* vCPU thread only */
	struct timer_list heap; /* by deadline */
	struct timer_list late; /* armed in the past by a callback: next run's */
	size_t timers;          /* how many timer_init() has seen */
	bool firing;
	bool running;
	int64_t fire_now;
	int64_t armed;          /* deadline the timerfd stands at; NEVER if none */
	int64_t sleep_armed;    /* the same of sleep_fd, in host time */
	int64_t expected;       /* host time until which sleeping does not pay */
	bool paused;
	int64_t clock;          /* guest clock while paused, else host clock minus it */
	struct watch *watches, *dead;
	struct loop_bell *bells;

	pthread_mutex_t post_lock;
	struct post post[POST_MAX];
	unsigned post_head, post_count;
};

static int64_t host_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static struct timespec to_timespec(int64_t ns)
{
	if (ns < 0)
		ns = 0;
	return (struct timespec){ .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };
}

/* Sleep while *word is @value; @deadline in host time, or NEVER. */
static void futex_wait(uint32_t *word, uint32_t value, int64_t deadline)
{
	struct timespec ts = to_timespec(deadline);

	syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value,
		deadline == NEVER ? NULL : &ts, NULL, FUTEX_BITSET_MATCH_ANY);
}

static void futex_wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* ---- the poller thread ---- */

static void event_raise(int fd)
{
	uint64_t one = 1;
	ssize_t n = write(fd, &one, sizeof(one));

	(void)n; /* cannot fail short of 2^64 of them */
}

/* Returns whether the vCPU was asleep: then it has been woken and will look. */
static bool loop_notify(struct loop *loop, uint32_t bits)
{
	bool asleep;

	__atomic_fetch_or(&loop->state, bits | STATE_PENDING, __ATOMIC_SEQ_CST);
	asleep = __atomic_load_n(&loop->sleeping, __ATOMIC_SEQ_CST);
	if (asleep)
		event_raise(loop->wake_fd);
	loop->kick(loop->kick_opaque);
	return asleep;
}

static void poller_wait_served(struct loop *loop)
{
	int64_t pause = REKICK_FIRST_NS;

	__atomic_store_n(&loop->poller_waits, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&loop->stop, __ATOMIC_SEQ_CST)) {
		uint32_t s = __atomic_load_n(&loop->state, __ATOMIC_SEQ_CST);
		int64_t until;

		if (!(s & (STATE_PENDING | STATE_BUSY)))
			break;
		until = host_now() + pause;
		futex_wait(&loop->state, s, until);
		if (host_now() >= until) {
			loop->kick(loop->kick_opaque);
			pause = MIN(pause * 2, REKICK_MAX_NS);
		}
	}
	__atomic_store_n(&loop->poller_waits, 0, __ATOMIC_SEQ_CST);
}

static void *poller_main(void *opaque)
{
	struct loop *loop = opaque;
	struct epoll_event ev[4];

	while (!__atomic_load_n(&loop->stop, __ATOMIC_SEQ_CST)) {
		int n = epoll_wait(loop->outer, ev, ARRAY_SIZE(ev), -1);
		uint32_t bits = 0;

		if (n <= 0)
			continue;
		for (int i = 0; i < n; i++) {
			if (ev[i].data.fd == loop->fds)
				bits |= STATE_FDS;
		}
		/* An eventfd alone means that somebody has notified already. */
		if (bits || n > 1 || ev[0].data.fd != loop->event_fd)
			loop_notify(loop, bits);
		poller_wait_served(loop);
	}
	return NULL;
}

static bool poller_start(struct loop *loop, struct error *err)
{
	sigset_t all, old;
	int rc;

	/* Signals are the program's own threads' business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&loop->poller, NULL, poller_main, loop);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc) {
		error_set(err, "cannot start the poller thread: %s", strerror(rc));
		return false;
	}
	loop->poller_started = true;
	return true;
}

/* ---- life ---- */

static bool outer_add(struct loop *loop, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.fd = fd };

	return epoll_ctl(loop->outer, EPOLL_CTL_ADD, fd, &ev) == 0;
}

struct loop *loop_create(void (*kick)(void *opaque), void *opaque,
			 struct error *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop) {
		error_set(err, "out of memory for the event loop");
		return NULL;
	}
	loop->kick = kick;
	loop->kick_opaque = opaque;
	loop->paused = true;
	loop->armed = NEVER;
	loop->sleep_armed = NEVER;
	pthread_mutex_init(&loop->post_lock, NULL);
	loop->fds = epoll_create1(EPOLL_CLOEXEC);
	loop->outer = epoll_create1(EPOLL_CLOEXEC);
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	loop->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	loop->sleep_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop->fds < 0 || loop->outer < 0 || loop->timer_fd < 0 ||
	    loop->event_fd < 0 || loop->sleep_fd < 0 || loop->wake_fd < 0 || !outer_add(loop, loop->fds, EPOLLIN) ||
	    !outer_add(loop, loop->timer_fd, EPOLLIN | EPOLLET) ||
	    !outer_add(loop, loop->event_fd, EPOLLIN | EPOLLET)) {
		error_set(err, "cannot set up the event loop: %s", strerror(errno));
		goto fail;
	}
	if (!poller_start(loop, err))
		goto fail;
	return loop;
fail:
	loop_destroy(loop);
	return NULL;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	if (loop->poller_started) {
		__atomic_store_n(&loop->stop, 1, __ATOMIC_SEQ_CST);
		/* Changes the word the poller may be about to sleep on. */
		__atomic_fetch_xor(&loop->state, STATE_FDS, __ATOMIC_SEQ_CST);
		futex_wake(&loop->state);
		event_raise(loop->event_fd);
		pthread_join(loop->poller, NULL);
	}
	while (loop->watches) {
		struct watch *w = loop->watches;

		loop->watches = w->next;
		free(w);
	}
	while (loop->dead) {
		struct watch *w = loop->dead;

		loop->dead = w->next;
		free(w);
	}
	for (size_t i = 0; i < loop->heap.count; i++)
		loop->heap.item[i]->slot = 0;
	for (size_t i = 0; i < loop->late.count; i++)
		loop->late.item[i]->slot = 0;
	free(loop->heap.item);
	free(loop->late.item);
	if (loop->fds >= 0)
		close(loop->fds);
	if (loop->outer >= 0)
		close(loop->outer);
	if (loop->timer_fd >= 0)
		close(loop->timer_fd);
	if (loop->event_fd >= 0)
		close(loop->event_fd);
	if (loop->sleep_fd >= 0)
		close(loop->sleep_fd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	pthread_mutex_destroy(&loop->post_lock);
	free(loop);
}

/* ---- the clock ---- */

int64_t loop_now(const struct loop *loop)
{
	return loop->paused ? loop->clock : host_now() - loop->clock;
}

/* @host in host time; NEVER switches it off. */
static void timer_fd_set(int fd, int64_t host)
{
	struct itimerspec its = { 0 };

	/* Zero would disarm; the past means now. */
	if (host != NEVER)
		its.it_value = to_timespec(MAX(host, 1));
	timerfd_settime(fd, TFD_TIMER_ABSTIME, &its, NULL);
}

/* A deadline of the guest's clock, which runs, in host time. */
static int64_t to_host(const struct loop *loop, int64_t deadline)
{
	int64_t host;

	if (deadline == NEVER || __builtin_add_overflow(deadline, loop->clock, &host))
		return NEVER;
	return host;
}

static void poller_arm(struct loop *loop, int64_t deadline)
{
	loop->armed = deadline;
	timer_fd_set(loop->timer_fd, to_host(loop, deadline));
}

/* Make the poller wake for the nearest deadline, unless it will anyway. What is
 * due already (a disk answers at once) does not need the poller: the thread that
 * has to come and look is this one. */
static void poller_rearm(struct loop *loop)
{
	int64_t first = loop->heap.count ? loop->heap.item[0]->deadline : NEVER;

	if (loop->paused || loop->running || first >= loop->armed)
		return;
	if (first <= loop_now(loop))
		loop->kick(loop->kick_opaque);
	else
		poller_arm(loop, first);
}

void loop_set_now(struct loop *loop, int64_t ns)
{
	loop->clock = loop->paused ? ns : host_now() - ns;
	if (!loop->paused) {
		loop->armed = NEVER;
		poller_rearm(loop);
	}
}

void loop_pause(struct loop *loop)
{
	if (loop->paused)
		return;
	loop->clock = loop_now(loop);
	loop->paused = true;
	poller_arm(loop, NEVER);
}

void loop_resume(struct loop *loop)
{
	if (!loop->paused)
		return;
	loop->clock = host_now() - loop->clock;
	loop->paused = false;
	loop->armed = NEVER;
	poller_rearm(loop);
	/* The default slack of 50 us would make every sleep that much late. */
	prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0);
}

/* ---- timers ---- */

static bool list_reserve(struct timer_list *l, size_t want)
{
	struct timer **item;
	size_t max = MAX(l->max * 2, (size_t)64);

	if (want <= l->max)
		return true;
	max = MAX(max, want);
	item = realloc(l->item, max * sizeof(*item));
	if (!item)
		return false;
	l->item = item;
	l->max = max;
	return true;
}

void timer_init(struct timer *t, struct loop *loop, const char *name,
		void (*fire)(void *opaque), void *opaque)
{
	*t = (struct timer){ .name = name, .fire = fire, .opaque = opaque, .loop = loop };
	/* Here rather than in timer_arm(), which must not fail: every timer
	 * that exists has a place in both lists. */
	loop->timers++;
	list_reserve(&loop->heap, loop->timers);
	list_reserve(&loop->late, loop->timers);
}

static void heap_set(struct loop *loop, size_t i, struct timer *t)
{
	loop->heap.item[i] = t;
	t->slot = i + 1;
}

static void heap_up(struct loop *loop, size_t i, struct timer *t)
{
	while (i) {
		size_t parent = (i - 1) / 2;

		if (loop->heap.item[parent]->deadline <= t->deadline)
			break;
		heap_set(loop, i, loop->heap.item[parent]);
		i = parent;
	}
	heap_set(loop, i, t);
}

static void heap_down(struct loop *loop, size_t i, struct timer *t)
{
	struct timer **item = loop->heap.item;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= loop->heap.count)
			break;
		if (child + 1 < loop->heap.count &&
		    item[child + 1]->deadline < item[child]->deadline)
			child++;
		if (item[child]->deadline >= t->deadline)
			break;
		heap_set(loop, i, item[child]);
		i = child;
	}
	heap_set(loop, i, t);
}

static void heap_insert(struct loop *loop, struct timer *t)
{
	if (!list_reserve(&loop->heap, loop->heap.count + 1))
		return; /* out of memory since timer_init(): stays unarmed */
	heap_up(loop, loop->heap.count++, t);
}

void timer_disarm(struct timer *t)
{
	struct loop *loop = t->loop;
	struct timer *last;
	size_t i;

	if (!t->slot)
		return;
	if (t->slot & SLOT_LATE) {
		i = (t->slot & ~SLOT_LATE) - 1;
		last = loop->late.item[--loop->late.count];
		loop->late.item[i] = last;
		last->slot = SLOT_LATE | (i + 1);
		t->slot = 0;
		return;
	}
	i = t->slot - 1;
	t->slot = 0;
	last = loop->heap.item[--loop->heap.count];
	if (last == t)
		return;
	if (i && loop->heap.item[(i - 1) / 2]->deadline > last->deadline)
		heap_up(loop, i, last);
	else
		heap_down(loop, i, last);
}

void timer_arm(struct timer *t, int64_t deadline)
{
	struct loop *loop = t->loop;

	timer_disarm(t);
	t->deadline = deadline;
	if (loop->firing && deadline <= loop->fire_now) {
		if (!list_reserve(&loop->late, loop->late.count + 1))
			return;
		loop->late.item[loop->late.count++] = t;
		t->slot = SLOT_LATE | loop->late.count;
		return;
	}
	heap_insert(loop, t);
	poller_rearm(loop);
}

static void run_timers(struct loop *loop)
{
	if (loop->paused || !loop->heap.count)
		return;
	loop->fire_now = loop_now(loop);
	if (loop->fire_now >= loop->armed)
		loop->armed = NEVER; /* the timerfd has gone off */
	loop->firing = true;
	while (loop->heap.count && loop->heap.item[0]->deadline <= loop->fire_now) {
		struct timer *t = loop->heap.item[0];

		timer_disarm(t);
		t->fire(t->opaque);
	}
	loop->firing = false;
	while (loop->late.count) {
		struct timer *t = loop->late.item[loop->late.count - 1];

		timer_disarm(t);
		heap_insert(loop, t);
	}
}

/* ---- posts ---- */

bool loop_post(struct loop *loop, void (*fn)(void *opaque), void *opaque)
{
	bool ok;

	pthread_mutex_lock(&loop->post_lock);
	ok = loop->post_count < POST_MAX;
	if (ok) {
		unsigned i = (loop->post_head + loop->post_count) % POST_MAX;

		loop->post[i] = (struct post){ fn, opaque };
		loop->post_count++;
	}
	pthread_mutex_unlock(&loop->post_lock);
	loop_kick(loop);
	return ok;
}

static void run_posts(struct loop *loop)
{
	unsigned budget;

	pthread_mutex_lock(&loop->post_lock);
	/* What these post themselves is the next run's. */
	for (budget = loop->post_count; budget; budget--) {
		struct post p = loop->post[loop->post_head];

		loop->post_head = (loop->post_head + 1) % POST_MAX;
		loop->post_count--;
		pthread_mutex_unlock(&loop->post_lock);
		p.fn(p.opaque);
		pthread_mutex_lock(&loop->post_lock);
	}
	pthread_mutex_unlock(&loop->post_lock);
}

void loop_kick(struct loop *loop)
{
	uint32_t old = __atomic_load_n(&loop->state, __ATOMIC_SEQ_CST);

	/* The poller repeats a kick that got lost; once per loop_run() is enough. */
	if (!loop_notify(loop, 0) && !(old & STATE_PENDING))
		event_raise(loop->event_fd);
}

/* ---- descriptors ---- */

static uint32_t to_epoll(unsigned events)
{
	return (events & LOOP_READ ? EPOLLIN : 0) | (events & LOOP_WRITE ? EPOLLOUT : 0);
}

struct watch *loop_watch(struct loop *loop, int fd, unsigned events,
			 void (*ready)(void *opaque, unsigned events),
			 void *opaque, struct error *err)
{
	struct watch *w = calloc(1, sizeof(*w));
	struct epoll_event ev = { .events = to_epoll(events), .data.ptr = w };

	if (!w) {
		error_set(err, "out of memory for a watched descriptor");
		return NULL;
	}
	w->loop = loop;
	w->fd = fd;
	w->events = events & (LOOP_READ | LOOP_WRITE);
	w->ready = ready;
	w->opaque = opaque;
	/* Added even when switched off: tells now whether it can be watched. */
	if (epoll_ctl(loop->fds, EPOLL_CTL_ADD, fd, &ev) < 0) {
		if (errno == EPERM)
			error_set(err, "descriptor %d is a regular file, which is always ready and cannot be watched", fd);
		else
			error_set(err, "cannot watch descriptor %d: %s", fd, strerror(errno));
		free(w);
		return NULL;
	}
	w->in_set = true;
	w->next = loop->watches;
	loop->watches = w;
	if (!w->events) {
		w->events = LOOP_READ;
		watch_set(w, 0);
	}
	return w;
}

void watch_set(struct watch *w, unsigned events)
{
	struct epoll_event ev = { .events = to_epoll(events), .data.ptr = w };

	events &= LOOP_READ | LOOP_WRITE;
	if (events == w->events)
		return;
	w->events = events;
	/* Out of the set when off: epoll reports a hang-up unasked. */
	if (!events)
		w->in_set = epoll_ctl(w->loop->fds, EPOLL_CTL_DEL, w->fd, &ev) < 0 && w->in_set;
	else if (w->in_set)
		epoll_ctl(w->loop->fds, EPOLL_CTL_MOD, w->fd, &ev);
	else
		w->in_set = epoll_ctl(w->loop->fds, EPOLL_CTL_ADD, w->fd, &ev) == 0;
}

void loop_unwatch(struct watch *w)
{
	struct watch **p;
	struct loop *loop;

	if (!w)
		return;
	loop = w->loop;
	watch_set(w, 0);
	for (p = &loop->watches; *p && *p != w; p = &(*p)->next)
		;
	if (*p)
		*p = w->next;
	if (loop->running) {
		/* An event for it may already have been fetched. */
		w->dead = true;
		w->next = loop->dead;
		loop->dead = w;
	} else {
		free(w);
	}
}

/* ---- bells ---- */

void loop_bell_add(struct loop *loop, struct loop_bell *b, void (*answer)(void *opaque),
		   void *opaque)
{
	*b = (struct loop_bell){ answer, opaque, loop, 0, loop->bells };
	loop->bells = b;
}

void loop_bell_remove(struct loop_bell *b)
{
	if (!b->loop)
		return;
	for (struct loop_bell **p = &b->loop->bells; *p; p = &(*p)->next) {
		if (*p == b) {
			*p = b->next;
			break;
		}
	}
	b->loop = NULL;
}

/* No kick gets lost here, so the poller need not repeat it: who runs the guest allows
 * it to run first and looks at `state` then (machine_run()). */
void loop_bell_ring(struct loop_bell *b)
{
	if (!__atomic_exchange_n(&b->rung, 1, __ATOMIC_SEQ_CST))
		loop_notify(b->loop, STATE_BELLS);
}

/* An answer may take bells down, so the list begins anew after one; what rings all the
 * time must not keep the guest from its turn. */
static void run_bells(struct loop *loop)
{
	struct loop_bell *b = loop->bells;
	unsigned budget = BELLS_PER_RUN;

	while (b && budget) {
		if (__atomic_exchange_n(&b->rung, 0, __ATOMIC_SEQ_CST)) {
			budget--;
			b->answer(b->opaque);
			b = loop->bells;
		} else {
			b = b->next;
		}
	}
	if (!budget)
		loop_notify(loop, STATE_BELLS);
}

static void run_watches(struct loop *loop)
{
	struct epoll_event ev[EVENTS_PER_RUN];
	int n = epoll_wait(loop->fds, ev, EVENTS_PER_RUN, 0);

	for (int i = 0; i < n; i++) {
		struct watch *w = ev[i].data.ptr;
		unsigned events = 0;

		if (w->dead || !w->events)
			continue;
		if (ev[i].events & EPOLLIN)
			events |= LOOP_READ;
		if (ev[i].events & EPOLLOUT)
			events |= LOOP_WRITE;
		events &= w->events;
		if (ev[i].events & (EPOLLHUP | EPOLLERR))
			events |= LOOP_HANGUP;
		if (events)
			w->ready(w->opaque, events);
	}
}

/* ---- what the vCPU thread calls ---- */

void loop_run(struct loop *loop)
{
	uint32_t s = __atomic_load_n(&loop->state, __ATOMIC_SEQ_CST);

	if (loop->running)
		return; /* from within a callback */
	if (!(s & STATE_PENDING)) {
		if (loop->paused || !loop->heap.count ||
		    loop->heap.item[0]->deadline > loop_now(loop))
			return;
	} else {
		s = __atomic_exchange_n(&loop->state, STATE_BUSY, __ATOMIC_SEQ_CST);
	}
	loop->running = true;
	if (s & STATE_PENDING)
		run_posts(loop);
	if (s & STATE_BELLS)
		run_bells(loop);
	if (s & STATE_FDS)
		run_watches(loop);
	run_timers(loop);
	loop->running = false;
	while (loop->dead) {
		struct watch *w = loop->dead;

		loop->dead = w->next;
		free(w);
	}
	if (!loop->paused && loop->armed != NEVER && loop_now(loop) >= loop->armed)
		loop->armed = NEVER;
	poller_rearm(loop);
	if (s & STATE_PENDING) {
		__atomic_fetch_and(&loop->state, ~(uint32_t)STATE_BUSY, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&loop->poller_waits, __ATOMIC_SEQ_CST))
			futex_wake(&loop->state);
	}
}

/* Whether the poller looks after the descriptors. Switching it on when some are ready
 * already wakes it. */
static void poller_watch(struct loop *loop, bool on)
{
	struct epoll_event ev = { .events = on ? EPOLLIN : 0, .data.fd = loop->fds };

	epoll_ctl(loop->outer, EPOLL_CTL_MOD, loop->fds, &ev);
}

/* Sleep until descriptors are ready, the deadline (host time) or a kick. */
static void sleep_until(struct loop *loop, int64_t deadline)
{
	struct pollfd p[] = {
		{ loop->fds, POLLIN, 0 }, { loop->sleep_fd, POLLIN, 0 }, { loop->wake_fd, POLLIN, 0 },
	};

	if (deadline != loop->sleep_armed) {
		loop->sleep_armed = deadline;
		timer_fd_set(loop->sleep_fd, deadline);
	}
	if (poll(p, ARRAY_SIZE(p), -1) <= 0)
		return;
	if (p[0].revents)
		__atomic_fetch_or(&loop->state, STATE_PENDING | STATE_FDS, __ATOMIC_SEQ_CST);
	if (p[2].revents) {
		uint64_t kicks;
		ssize_t n = read(loop->wake_fd, &kicks, sizeof(kicks));

		(void)n; /* the value says nothing */
	}
}

void loop_expect(struct loop *loop, int64_t ns)
{
	loop->expected = host_now() + ns;
}

/* Putting a thread to sleep and waking it costs tens of microseconds where cores sleep,
 * too: look out for that long for what is expected. */
static void look_out(struct loop *loop, int64_t until)
{
	struct pollfd p = { loop->fds, POLLIN, 0 };

	until = MIN(until, loop->expected);
	while (!__atomic_load_n(&loop->state, __ATOMIC_SEQ_CST) && host_now() < until) {
		if (poll(&p, 1, 0) > 0)
			__atomic_fetch_or(&loop->state, STATE_PENDING | STATE_FDS, __ATOMIC_SEQ_CST);
		else
			sched_yield();
	}
}

void loop_wait(struct loop *loop)
{
	int64_t until = NEVER;

	if (!loop->paused && loop->heap.count)
		until = to_host(loop, loop->heap.item[0]->deadline);
	if (loop->armed != NEVER)
		poller_arm(loop, NEVER);
	poller_watch(loop, false);
	look_out(loop, until);
	__atomic_store_n(&loop->sleeping, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&loop->state, __ATOMIC_SEQ_CST)) {
		if (until != NEVER && host_now() >= until)
			break;
		sleep_until(loop, until);
	}
	__atomic_store_n(&loop->sleeping, 0, __ATOMIC_SEQ_CST);
	loop_run(loop);
	poller_watch(loop, true);
	poller_rearm(loop);
}
