/* See impair.h. Frames on their way stand in one queue in the order they leave in, with
 * the time they are due; one timer serves its head. The rate is that of a serial line:
 * a frame occupies it for its length, and the next one starts when it is free. The
 * random numbers are SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
 * generators, OOPSLA 2014).
 */
#include "backends/impair.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/frame_queue.h"
#include "core/util.h"

enum { LOSS, DUPLICATE, JITTER, REORDER, STREAMS };
enum { DROP_LOSS, DROP_FULL, DUPLICATED, REORDERED, DELAYED, COUNTERS };
enum { BUDGET = 256, LIMIT_MIN = 64 * 1024, LIMIT_MAX = 256 * 1024 * 1024 };

#define DELAY_MAX (60 * NS_PER_S)
#define RETRY_NS 200000 /* the backend pushes back */

struct impair {
	struct net_stage base;
	struct impair_config config;
	struct loop *loop;         /* borrowed */
	struct frame_queue *queue; /* stamp: when it is due, loop clock */
	struct timer timer;
	uint64_t random[STREAMS];
	int64_t line_free;         /* loop clock, ns: the last frame has left */
	int64_t last_due;
	struct net_counter counter[COUNTERS];
};

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* 0 to less than 1 */
static double uniform(struct impair *im, unsigned stream)
{
	return (next_random(&im->random[stream]) >> 11) * 0x1p-53;
}

static int64_t later_of(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static void impair_copy(struct impair *im, const uint8_t *frame, size_t len)
{
	int64_t now = loop_now(im->loop), due = now;
	bool ahead = im->config.reorder > 0 && uniform(im, REORDER) < im->config.reorder;

	/* The clock may have jumped back since (a saved machine was loaded). */
	if (!frame_queue_peek(im->queue)) {
		im->last_due = 0;
		im->line_free = MIN(im->line_free, now + NS_PER_S);
	}
	if (im->config.rate) {
		due = later_of(now, im->line_free) +
		      (int64_t)(len * 8.0 * NS_PER_S / im->config.rate);
		im->line_free = due;
	}
	due += im->config.delay;
	if (im->config.jitter)
		due += (int64_t)((2 * uniform(im, JITTER) - 1) * im->config.jitter);
	if (ahead) {
		net_count(&im->counter[REORDERED]);
		net_stage_pass(&im->base, NET_TO_WIRE, frame, len);
		return;
	}
	due = later_of(due, im->last_due);
	if (due <= now && !frame_queue_peek(im->queue)) {
		net_stage_pass(&im->base, NET_TO_WIRE, frame, len);
		return;
	}
	if (!frame_queue_push(im->queue, frame, len, due)) {
		net_count(&im->counter[DROP_FULL]);
		return;
	}
	net_count(&im->counter[DELAYED]);
	im->last_due = due;
	if (!timer_armed(&im->timer))
		timer_arm(&im->timer, due);
}

static void impair_frame(struct net_stage *s, enum net_dir dir, const uint8_t *frame, size_t len)
{
	struct impair *im = container_of(s, struct impair, base);
	bool twice;

	if (dir == NET_TO_GUEST) {
		net_stage_pass(s, dir, frame, len);
		return;
	}
	twice = uniform(im, DUPLICATE) < im->config.duplicate;
	if (uniform(im, LOSS) < im->config.loss) {
		net_count(&im->counter[DROP_LOSS]);
		return;
	}
	impair_copy(im, frame, len);
	if (twice) {
		net_count(&im->counter[DUPLICATED]);
		impair_copy(im, frame, len);
	}
}

static bool backend_full(struct net_port *port)
{
	struct net_backend *b = port->backend;

	return port->link && b && b->ops->can_send && !b->ops->can_send(b);
}

static void impair_fire(void *opaque)
{
	struct impair *im = opaque;
	int64_t now = loop_now(im->loop);
	const struct frame *f;

	for (unsigned i = 0; (f = frame_queue_peek(im->queue)); i++) {
		if (f->stamp > now || i == BUDGET) {
			timer_arm(&im->timer, later_of(f->stamp, now));
			return;
		}
		/* Nobody tells a stage when the backend has room again. */
		if (backend_full(im->base.port)) {
			timer_arm(&im->timer, now + RETRY_NS);
			return;
		}
		net_stage_pass(&im->base, NET_TO_WIRE, f->data, f->len);
		frame_queue_pop(im->queue);
	}
}

static void impair_destroy(struct net_stage *s)
{
	struct impair *im = container_of(s, struct impair, base);

	timer_disarm(&im->timer);
	frame_queue_destroy(im->queue);
	free(im);
}

static const struct net_stage_ops impair_ops = {
	.name = "impair", .frame = impair_frame, .destroy = impair_destroy,
};

struct net_stage *impair_create(struct loop *loop, const struct impair_config *config,
				struct error *err)
{
	struct impair *im = calloc(1, sizeof(*im));
	uint64_t seed = config->seed;
	size_t bytes = LIMIT_MIN;

	if (!im) {
		error_set(err, "out of memory");
		return NULL;
	}
	while (bytes < config->limit && bytes < LIMIT_MAX)
		bytes *= 2;
	im->queue = frame_queue_create(bytes, err);
	if (!im->queue) {
		free(im);
		return NULL;
	}
	im->base.ops = &impair_ops;
	im->base.enabled = true;
	im->config = *config;
	im->loop = loop;
	for (unsigned i = 0; i < STREAMS; i++)
		im->random[i] = next_random(&seed);
	im->counter[DROP_LOSS].name = "drop.impair-loss";
	im->counter[DROP_FULL].name = "drop.impair-full";
	im->counter[DUPLICATED].name = "duplicated";
	im->counter[REORDERED].name = "reordered";
	im->counter[DELAYED].name = "delayed";
	im->base.counters = (struct net_counters){ im->counter, COUNTERS };
	timer_init(&im->timer, loop, "impair", impair_fire, im);
	return &im->base;
}

/* ---- parameters ---- */

/* "1%" or "0.01" */
static bool parse_share(struct backend_url *url, const char *name, double *share,
			bool *wanted, struct error *err)
{
	const char *text = url_text(url, name);
	double n;
	char *end;

	if (!text)
		return true;
	n = strtod(text, &end);
	if (end != text && !strcmp(end, "%"))
		n /= 100;
	else if (*end)
		n = -1;
	if (((text[0] < '0' || text[0] > '9') && text[0] != '.') || !(n >= 0 && n <= 1)) {
		error_set(err, "%s=%s: a share from 0%% to 100%%, as in 1%% or 0.01", name, text);
		return false;
	}
	*share = n;
	*wanted = true;
	return true;
}

static bool parse_rate(struct backend_url *url, struct impair_config *config, struct error *err)
{
	static const struct {
		const char *name;
		double bits;
	} units[] = { { "", 1 }, { "bit", 1 }, { "kbit", 1e3 }, { "mbit", 1e6 }, { "gbit", 1e9 } };
	const char *text = url_text(url, "rate");
	double n;
	char *end;

	if (!text)
		return true;
	n = strtod(text, &end);
	for (unsigned i = 0; i < ARRAY_SIZE(units) && text[0] >= '0' && text[0] <= '9'; i++) {
		double rate = n * units[i].bits;

		if (strcmp(end, units[i].name) || !(rate >= 1000 && rate <= 1e12))
			continue;
		config->rate = rate;
		config->wanted = true;
		return true;
	}
	error_set(err, "rate=%s: bits a second from 1kbit to 1000gbit, as in 10mbit", text);
	return false;
}

bool impair_parse(struct backend_url *url, struct impair_config *config, struct error *err)
{
	*config = (struct impair_config){ .delay = -1, .jitter = -1, .limit = MIB };
	if (getrandom(&config->seed, sizeof(config->seed), 0) != sizeof(config->seed))
		config->seed = 1;
	if (!url_time(url, "delay", DELAY_MAX, &config->delay, err) ||
	    !url_time(url, "jitter", DELAY_MAX, &config->jitter, err) ||
	    !parse_share(url, "loss", &config->loss, &config->wanted, err) ||
	    !parse_share(url, "dup", &config->duplicate, &config->wanted, err) ||
	    !parse_share(url, "reorder", &config->reorder, &config->wanted, err) ||
	    !parse_rate(url, config, err) ||
	    !url_number(url, "limit", LIMIT_MIN, LIMIT_MAX, &config->limit, err) ||
	    !url_number(url, "seed", 0, UINT64_MAX, &config->seed, err))
		return false;
	config->wanted |= config->delay >= 0 || config->jitter >= 0;
	config->delay = later_of(config->delay, 0);
	config->jitter = later_of(config->jitter, 0);
	return true;
}
