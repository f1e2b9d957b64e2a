/* See capture.h.
 *
 * The file itself (buffering, rotation, a full disk) is core/record_file.h's. What
 * remains is to say who has which number: an interface of the file is a tap, known
 * by its name, so a tap that comes back under its old name goes on where it was.
 * Interfaces are described in each file before their first frame; numbers are those
 * of the file being written.
 */
#include "translate/capture.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "config.h"
#include "core/loop.h"
#include "core/record_file.h"
#include "core/util.h"
#include "translate/pcapng.h"

enum { ROTATE_MIN = 65536 };

enum { COUNT_CAPTURED, COUNT_LOST, COUNTS };

struct tap;

struct interface {
	struct interface *next;
	struct tap *tap;   /* NULL: removed */
	bool described;    /* in this file, as number `id` */
	uint32_t id;
	struct pcapng_stats stats;
	char name[];
};

struct capture {
	struct record_file *file;
	struct interface *interfaces; /* in order of creation */
	struct interface *only;       /* classic format: the tap that is recorded */
	uint32_t next_id;             /* in this file */
	uint32_t snaplen;             /* 0: all */
	bool classic;
};

struct tap {
	struct net_stage base;
	struct net_stage_ops ops;     /* its name is the creator's choice */
	struct capture *capture;      /* borrowed; NULL: gone before the tap */
	struct interface *interface;  /* the capture's */
	struct net_counter counter[COUNTS];
};

/* ---- what goes into the file ---- */

static uint64_t stamp_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * (uint64_t)NS_PER_S + ts.tv_nsec;
}

static bool describe(struct capture *c, struct record_file *file, struct interface *i)
{
	uint8_t *out = record_file_reserve(file, PCAPNG_HEADER_MAX);

	/* Making room may have begun a new file, and that describes all taps. */
	if (i->described || !out)
		return i->described;
	i->id = c->next_id++;
	i->described = true;
	record_file_commit(file, pcapng_interface(out, i->name, c->snaplen));
	return true;
}

static void begin(void *opaque, struct record_file *file)
{
	struct capture *c = opaque;
	uint8_t *out = record_file_reserve(file, PCAPNG_HEADER_MAX);

	if (!out)
		return; /* cannot be: the buffer is empty */
	if (c->classic) {
		record_file_commit(file, pcap_header(out, c->snaplen));
		return;
	}
	record_file_commit(file, pcapng_section(out, "Gannet " GANNET_VERSION));
	c->next_id = 0;
	for (struct interface *i = c->interfaces; i; i = i->next) {
		i->described = false;
		if (i->tap)
			describe(c, file, i);
	}
}

static void end(void *opaque, struct record_file *file)
{
	struct capture *c = opaque;

	for (struct interface *i = c->interfaces; i && !c->classic; i = i->next) {
		uint8_t *out = i->described ? record_file_reserve(file, PCAPNG_HEADER_MAX) : NULL;

		if (!out)
			continue;
		i->stats.stamp = stamp_now();
		record_file_commit(file, pcapng_statistics(out, i->id, &i->stats));
	}
}

/* ---- what people are told ---- */

static struct net_port *any_port(struct capture *c)
{
	for (struct interface *i = c->interfaces; i; i = i->next) {
		if (i->tap && i->tap->base.port)
			return i->tap->base.port;
	}
	return NULL;
}

static void stalled(void *opaque, const char *path, const char *why)
{
	struct net_port *port = any_port(opaque);

	if (port)
		net_port_notify(port, "capture to %s: %s", path, why);
}

static void resumed(void *opaque, const char *path, uint64_t lost)
{
	struct net_port *port = any_port(opaque);

	if (port)
		net_port_notify(port, "capture to %s goes on, %llu frames lost", path,
				(unsigned long long)lost);
}

/* ---- the capture ---- */

struct capture *capture_create(struct loop *loop, const struct capture_config *cfg,
			       struct error *err)
{
	size_t len = strlen(cfg->path);
	struct capture *c;

	if (cfg->rotate_bytes && cfg->rotate_bytes < ROTATE_MIN) {
		error_set(err, "a new file every %llu bytes: at least %u",
			  (unsigned long long)cfg->rotate_bytes, ROTATE_MIN);
		return NULL;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		error_set(err, "out of memory for a capture");
		return NULL;
	}
	c->snaplen = cfg->snaplen;
	c->classic = len >= 5 && !strcasecmp(cfg->path + len - 5, ".pcap");
	c->file = record_file_create(loop, &(struct record_file_config){
		.path = cfg->path, .rotate_bytes = cfg->rotate_bytes,
		.rotate_files = cfg->rotate_files, .begin = begin, .end = end,
		.stalled = stalled, .resumed = resumed, .opaque = c,
	}, err);
	if (!c->file) {
		free(c);
		return NULL;
	}
	return c;
}

void capture_destroy(struct capture *c)
{
	if (!c)
		return;
	record_file_destroy(c->file);
	while (c->interfaces) {
		struct interface *i = c->interfaces;

		c->interfaces = i->next;
		if (i->tap)
			i->tap->capture = NULL;
		free(i);
	}
	free(c);
}

bool capture_flush(struct capture *c)
{
	return record_file_flush(c->file);
}

/* ---- the tap ---- */

static bool record(struct tap *t, enum net_dir dir, const uint8_t *frame, size_t len)
{
	struct capture *c = t->capture;
	size_t kept = c->snaplen ? MIN(len, c->snaplen) : len;
	uint8_t *out;

	if (c->classic) {
		out = record_file_reserve(c->file, kept + PCAP_RECORD_EXTRA);
		if (out)
			record_file_commit(c->file, pcap_record(out, stamp_now(), frame, kept, len));
		return out != NULL;
	}
	/* Room first: it may come with a new file, where interfaces have new numbers. */
	if (!t->interface->described && !describe(c, c->file, t->interface))
		return false;
	out = record_file_reserve(c->file, kept + PCAPNG_PACKET_EXTRA);
	if (!out)
		return false;
	record_file_commit(c->file, pcapng_packet(out, t->interface->id, stamp_now(),
						  dir == NET_TO_WIRE ? PCAPNG_OUTBOUND :
						  PCAPNG_INBOUND, frame, kept, len));
	return true;
}

static void tap_frame(struct net_stage *s, enum net_dir dir, const uint8_t *frame, size_t len)
{
	struct tap *t = container_of(s, struct tap, base);

	if (t->capture && (!t->capture->classic || t->capture->only == t->interface)) {
		bool ok = record(t, dir, frame, len);

		t->interface->stats.received++;
		t->interface->stats.dropped += !ok;
		net_count(&t->counter[ok ? COUNT_CAPTURED : COUNT_LOST]);
	}
	net_stage_pass(s, dir, frame, len);
}

static void tap_destroy(struct net_stage *s)
{
	struct tap *t = container_of(s, struct tap, base);

	if (t->capture) {
		capture_flush(t->capture); /* while there is a port to complain to */
		t->interface->tap = NULL;
		if (t->capture->only == t->interface)
			t->capture->only = NULL;
	}
	free(t);
}

static struct interface *interface_get(struct capture *c, const char *name)
{
	struct interface **link = &c->interfaces;
	size_t len = strnlen(name, PCAPNG_NAME_MAX);
	struct interface *i;

	for (; *link; link = &(*link)->next) {
		if (!(*link)->tap && !strcmp((*link)->name, name))
			return *link;
	}
	i = calloc(1, sizeof(*i) + len + 1);
	if (!i)
		return NULL;
	memcpy(i->name, name, len);
	*link = i;
	return i;
}

struct net_stage *capture_tap_create(struct capture *c, const char *stage_name,
				     const char *interface, struct error *err)
{
	struct tap *t = calloc(1, sizeof(*t));
	struct interface *i = t ? interface_get(c, interface) : NULL;

	if (!i) {
		error_set(err, "out of memory for a capture of %s", interface);
		free(t);
		return NULL;
	}
	t->ops = (struct net_stage_ops) {
		.name = stage_name, .frame = tap_frame, .destroy = tap_destroy,
	};
	t->counter[COUNT_CAPTURED].name = "captured";
	t->counter[COUNT_LOST].name = "lost";
	t->base.ops = &t->ops;
	t->base.enabled = true;
	t->base.counters = (struct net_counters){ t->counter, COUNTS };
	t->capture = c;
	t->interface = i;
	i->tap = t;
	if (c->classic && !c->only)
		c->only = i;
	/* Shown even if nothing ever passes; if it cannot be now, the first frame tries. */
	if (!c->classic && !i->described && record_file_ready(c->file))
		describe(c, c->file, i);
	return &t->base;
}
