/* pcap: capture files as the wire, by libpcap.
 *
 * What the guest sends is dumped to one file, and another is replayed to it. The
 * bytes of the dump are libpcap's (pcap_dump() into a stream that ends in memory);
 * they reach the file by core/record_file.h, which copes with a full disk.
 *
 * The replay reads one frame ahead and delivers it when the guest's clock has come
 * to it and the card takes it, so nothing of a capture is lost to a slow guest. It
 * begins with the guest's first frame: one that has not spoken has not set up its
 * card, and would miss what is replayed. Stamps are not to be trusted: a gap
 * backwards is none, one of more than max-gap is cut to that.
 */
#include "backends/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/loop.h"
#include "core/record_file.h"
#include "core/util.h"

enum {
	SNAPLEN = 262144,
	DUMP_HEADER_SIZE = 24,
	DUMP_RECORD_EXTRA = 16,
	FRAMES_PER_RUN = 64, /* read at a stretch; then the guest has its turn */
	LOOPS_MAX = 1000000000,
};

#define GAP_DEFAULT (3600 * NS_PER_S)
#define GAP_MAX (366 * 86400 * NS_PER_S)
#define SPEED_MAX 1000000.0
#define SPEED_UNLIMITED 0.0

enum { RECORDED, REPLAYED, REPLAY_CUT, REPLAY_BROKEN, GAPS_CUT, DISK_FULL, NO_OUTPUT, COUNTS };

/* Where libpcap's dump goes: into room that was made for it. */
struct memory {
	uint8_t *data;
	size_t used, size;
};

struct replay {
	char *path;           /* NULL: nothing to replay */
	char *filter;         /* NULL: all frames */
	pcap_t *pcap;         /* NULL: over */
	struct bpf_program program;
	bool compiled;
	bool begun, pumping;
	double speed;         /* SPEED_UNLIMITED: no gaps */
	int64_t max_gap;
	uint64_t loops;       /* to go after this one */
	bool forever;
	uint64_t in_loop;     /* frames of this one */

	const uint8_t *frame; /* libpcap's, until the next is read; NULL: read one */
	size_t len;
	int64_t due;          /* guest clock, ns */
	bool have_stamp;
	struct timeval stamp; /* of the last frame; tv_usec is ns */
	struct timer timer;
};

struct pcap_file {
	struct net_backend base;
	struct replay in;
	char *out_path;       /* NULL: nothing is recorded */
	struct record_file *out;
	pcap_t *dead;         /* says what the dump is to look like */
	FILE *stream;         /* the dumper's; it closes it */
	pcap_dumper_t *dumper;
	struct memory memory;
	uint8_t header[DUMP_HEADER_SIZE];
	struct net_counter counter[COUNTS];
};

/* ---- recording ---- */

static ssize_t memory_write(void *opaque, const char *data, size_t size)
{
	struct memory *m = opaque;

	if (size > m->size - m->used)
		return 0;
	memcpy(m->data + m->used, data, size);
	m->used += size;
	return size;
}

static void out_begin(void *opaque, struct record_file *f)
{
	struct pcap_file *p = opaque;
	uint8_t *out = record_file_reserve(f, sizeof(p->header));

	if (!out)
		return; /* cannot be: the buffer is empty */
	memcpy(out, p->header, sizeof(p->header));
	record_file_commit(f, sizeof(p->header));
}

static void out_stalled(void *opaque, const char *path, const char *why)
{
	struct pcap_file *p = opaque;

	if (p->out) /* else the open fails and says so */
		net_port_notify(p->base.port, "recording to %s: %s", path, why);
}

static void out_resumed(void *opaque, const char *path, uint64_t lost)
{
	struct pcap_file *p = opaque;

	net_port_notify(p->base.port, "recording to %s goes on, %llu frames lost", path,
			(unsigned long long)lost);
}

static bool out_open(struct pcap_file *p, struct loop *loop, struct error *err)
{
	static const cookie_io_functions_t functions = { .write = memory_write };

	p->memory = (struct memory){ p->header, 0, sizeof(p->header) };
	p->dead = pcap_open_dead_with_tstamp_precision(DLT_EN10MB, SNAPLEN,
						       PCAP_TSTAMP_PRECISION_NANO);
	p->stream = p->dead ? fopencookie(&p->memory, "w", functions) : NULL;
	if (!p->stream) {
		error_set(err, "out of memory for a capture file");
		return false;
	}
	setvbuf(p->stream, NULL, _IONBF, 0);
	p->dumper = pcap_dump_fopen(p->dead, p->stream);
	if (!p->dumper || p->memory.used != sizeof(p->header)) {
		error_set(err, "cannot write %s: libpcap: %s", p->out_path, pcap_geterr(p->dead));
		return false;
	}
	p->out = record_file_create(loop, &(struct record_file_config){
		.path = p->out_path, .begin = out_begin, .stalled = out_stalled,
		.resumed = out_resumed, .opaque = p,
	}, err);
	return p->out != NULL;
}

static void record(struct pcap_file *p, const uint8_t *frame, size_t len)
{
	size_t size = len + DUMP_RECORD_EXTRA;
	struct pcap_pkthdr header = { .caplen = len, .len = len };
	struct timespec now;

	p->memory = (struct memory){ record_file_reserve(p->out, size), 0, size };
	if (!p->memory.data) {
		net_count(&p->counter[DISK_FULL]);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	header.ts.tv_sec = now.tv_sec;
	header.ts.tv_usec = now.tv_nsec;
	pcap_dump((u_char *)p->dumper, &header, frame);
	record_file_commit(p->out, p->memory.used);
	net_count(&p->counter[RECORDED]);
}

/* ---- replaying ---- */

static pcap_t *in_open_file(const char *path, struct error *err)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	char why[PCAP_ERRBUF_SIZE] = "";
	struct stat st;
	FILE *file;
	pcap_t *pcap;

	if (fd < 0) {
		error_set(err, "cannot read %s: %s", path, strerror(errno));
		return NULL;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		error_set(err, "cannot replay %s: it is no regular file", path);
		close(fd);
		return NULL;
	}
	file = fdopen(fd, "r");
	if (!file) {
		error_set(err, "cannot read %s: %s", path, strerror(errno));
		close(fd);
		return NULL;
	}
	pcap = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, why);
	if (!pcap) {
		error_set(err, "cannot replay %s: it is no sound pcap or pcapng file: %s", path, why);
		fclose(file);
		return NULL;
	}
	if (pcap_datalink(pcap) != DLT_EN10MB) {
		const char *name = pcap_datalink_val_to_name(pcap_datalink(pcap));

		error_set(err, "cannot replay %s: its frames are of link type %s (%d), not Ethernet",
			  path, name ? name : "unknown", pcap_datalink(pcap));
		pcap_close(pcap);
		return NULL;
	}
	return pcap;
}

static bool in_open(struct replay *in, struct error *err)
{
	in->pcap = in_open_file(in->path, err);
	if (!in->pcap)
		return false;
	if (!in->filter)
		return true;
	if (pcap_compile(in->pcap, &in->program, in->filter, 1, PCAP_NETMASK_UNKNOWN) < 0) {
		error_set(err, "filter=%s: %s", in->filter, pcap_geterr(in->pcap));
		return false;
	}
	in->compiled = true;
	return true;
}

static void in_close(struct replay *in)
{
	if (in->compiled)
		pcap_freecode(&in->program);
	in->compiled = false;
	if (in->pcap)
		pcap_close(in->pcap);
	in->pcap = NULL;
	in->frame = NULL;
}

/* From the last frame's stamp to this one's, as far as it can be believed. */
static int64_t gap_to(struct pcap_file *p, const struct timeval *ts)
{
	struct replay *in = &p->in;
	int64_t seconds, ns = 0;

	if (in->have_stamp) {
		if (__builtin_sub_overflow((int64_t)ts->tv_sec, (int64_t)in->stamp.tv_sec, &seconds))
			seconds = ts->tv_sec < in->stamp.tv_sec ? -1 : INT32_MAX;
		seconds = MAX(MIN(seconds, INT32_MAX), INT32_MIN);
		ns = seconds * NS_PER_S + (ts->tv_usec - in->stamp.tv_usec);
	}
	in->have_stamp = true;
	in->stamp = *ts;
	if (ns < 0 || ns > in->max_gap) {
		net_count(&p->counter[GAPS_CUT]);
		ns = ns < 0 ? 0 : in->max_gap;
	}
	return ns;
}

/* The end of the file: once more, or that was it. */
static void in_end(struct pcap_file *p)
{
	struct replay *in = &p->in;
	struct error err = { "" };
	bool again = in->in_loop && (in->forever || in->loops);

	in_close(in);
	if (!again) {
		net_port_notify(p->base.port, "replay of %s is over, %llu frames", in->path,
				(unsigned long long)net_counter_read(&p->counter[REPLAYED]));
		return;
	}
	in->loops -= !in->forever;
	in->in_loop = 0;
	in->have_stamp = false;
	if (!in_open(in, &err)) {
		in_close(in);
		net_count(&p->counter[REPLAY_BROKEN]);
		net_port_notify(p->base.port, "the replay ends: %s", err.text);
	}
}

/* Reads a record; it may hold no frame for the guest. */
static void in_read(struct pcap_file *p)
{
	struct replay *in = &p->in;
	struct pcap_pkthdr *header;
	const u_char *data;
	int rc = pcap_next_ex(in->pcap, &header, &data);

	if (rc == PCAP_ERROR_BREAK) {
		in_end(p);
		return;
	}
	if (rc != 1) {
		net_count(&p->counter[REPLAY_BROKEN]);
		net_port_notify(p->base.port, "replay of %s ends after %llu frames: %s", in->path,
				(unsigned long long)net_counter_read(&p->counter[REPLAYED]),
				pcap_geterr(in->pcap));
		in_close(in);
		return;
	}
	if (in->speed != SPEED_UNLIMITED)
		in->due += gap_to(p, &header->ts) / in->speed;
	if (in->compiled && !pcap_offline_filter(&in->program, header, data))
		return;
	if (header->caplen < header->len)
		net_count(&p->counter[REPLAY_CUT]);
	in->frame = data;
	in->len = header->caplen;
}

static void pump(struct pcap_file *p)
{
	struct replay *in = &p->in;
	unsigned budget = FRAMES_PER_RUN;

	if (in->pumping || !in->begun)
		return;
	in->pumping = true; /* the card may say "readable" while it receives */
	while (in->pcap && budget--) {
		if (!in->frame) {
			in_read(p);
			continue;
		}
		if (in->speed != SPEED_UNLIMITED && in->due > loop_now(in->timer.loop)) {
			timer_arm(&in->timer, in->due);
			goto out;
		}
		if (!net_port_can_receive(p->base.port))
			goto out;
		net_count(&p->counter[REPLAYED]);
		in->in_loop++;
		net_port_receive(p->base.port, in->frame, in->len);
		in->frame = NULL;
	}
	if (in->pcap)
		timer_arm(&in->timer, loop_now(in->timer.loop));
out:
	in->pumping = false;
}

static void fire(void *opaque)
{
	struct pcap_file *p = opaque;

	if (!p->in.begun) {
		p->in.begun = true;
		p->in.due = loop_now(p->in.timer.loop);
	}
	pump(p);
}

/* ---- the backend ---- */

static void pcap_file_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	struct pcap_file *p = container_of(b, struct pcap_file, base);

	if (p->in.pcap && !p->in.begun && !timer_armed(&p->in.timer))
		timer_arm(&p->in.timer, loop_now(p->in.timer.loop)); /* not from within its send */
	if (p->out)
		record(p, frame, len);
	else
		net_count(&p->counter[NO_OUTPUT]);
}

static void pcap_file_readable(struct net_backend *b)
{
	pump(container_of(b, struct pcap_file, base));
}

static void pcap_file_close(struct net_backend *b)
{
	struct pcap_file *p = container_of(b, struct pcap_file, base);

	if (p->in.timer.loop)
		timer_disarm(&p->in.timer);
	in_close(&p->in);
	if (p->out)
		record_file_flush(p->out); /* while somebody can be told that it failed */
	record_file_destroy(p->out);
	if (p->dumper)
		pcap_dump_close(p->dumper);
	else if (p->stream)
		fclose(p->stream);
	if (p->dead)
		pcap_close(p->dead);
	free(p->in.path);
	free(p->in.filter);
	free(p->out_path);
	free(p);
}

static void pcap_file_status(struct net_backend *b, char *text, size_t size)
{
	struct pcap_file *p = container_of(b, struct pcap_file, base);
	const char *state = !p->in.pcap ? "replayed" : p->in.begun ? "replaying" : "about to replay";
	unsigned long long recorded = net_counter_read(&p->counter[RECORDED]);
	unsigned long long replayed = net_counter_read(&p->counter[REPLAYED]);
	int n = 0;

	if (p->in.path)
		n = snprintf(text, size, "%s %s, %llu frames%s", state, p->in.path, replayed,
			     p->out ? "; " : "");
	if (p->out && (size_t)n < size)
		snprintf(text + n, size - n, "recording to %s, %llu frames", p->out_path, recorded);
}

static const struct net_backend_ops pcap_file_ops = {
	.name = "pcap", .send = pcap_file_send, .readable = pcap_file_readable,
	.close = pcap_file_close, .status = pcap_file_status,
};

/* ---- set-up ---- */

static bool take_path(char **path, const char *text, size_t len, struct error *err)
{
	if (!len || *path) {
		error_set(err, len ? "a file is named twice" : "a file's name is empty");
		return false;
	}
	*path = strndup(text, len);
	if (!*path)
		error_set(err, "out of memory for a file's name");
	return *path != NULL;
}

static size_t up_to(const char *text, const char *mark)
{
	const char *found = strstr(text, mark);

	return found ? (size_t)(found - text) : strlen(text);
}

/* FILE, or in=FILE and out=FILE with a comma between them. */
static bool parse_body(struct pcap_file *p, const char *text, struct error *err)
{
	if (strncmp(text, "in=", 3) && strncmp(text, "out=", 4))
		return !*text || take_path(&p->out_path, text, strlen(text), err);
	while (*text) {
		bool in = *text == 'i';
		const char *name = text + (in ? 3 : 4);
		size_t len = MIN(up_to(name, ",in="), up_to(name, ",out="));

		if (!take_path(in ? &p->in.path : &p->out_path, name, len, err))
			return false;
		text = name + len + (name[len] == ',');
	}
	return true;
}

static bool parse_speed(struct replay *in, const char *text, struct error *err)
{
	char *end;

	in->speed = 1;
	if (!text)
		return true;
	if (!strcmp(text, "max")) {
		in->speed = SPEED_UNLIMITED;
		return true;
	}
	in->speed = strtod(text, &end);
	if (text[0] >= '0' && text[0] <= '9' && !*end && in->speed >= 1 / SPEED_MAX &&
	    in->speed <= SPEED_MAX)
		return true;
	error_set(err, "speed=%s: max, or a factor such as 1 or 0.5", text);
	return false;
}

static bool parse(struct pcap_file *p, struct backend_url *url, int64_t *start, struct error *err)
{
	const char *in = url_text(url, "in"), *out = url_text(url, "out");
	const char *filter = url_text(url, "filter"), *speed = url_text(url, "speed");
	uint64_t loops = 1;

	if (!parse_body(p, url->body, err) ||
	    (in && !take_path(&p->in.path, in, strlen(in), err)) ||
	    (out && !take_path(&p->out_path, out, strlen(out), err)))
		return false;
	if (!p->in.path && !p->out_path) {
		error_set(err, "no file; write pcap:FILE or pcap:in=FILE,out=FILE");
		return false;
	}
	*start = -1;
	p->in.max_gap = GAP_DEFAULT;
	if (!p->in.path) {
		if (!filter && !speed && !url_text(url, "loop") && !url_text(url, "start") &&
		    !url_text(url, "max-gap"))
			return true;
		error_set(err, "filter, speed, loop, start and max-gap are for a replay; "
			       "write pcap:in=FILE,out=FILE");
		return false;
	}
	if (!parse_speed(&p->in, speed, err) || !url_number(url, "loop", 0, LOOPS_MAX, &loops, err) ||
	    !url_time(url, "start", GAP_MAX, start, err) ||
	    !url_time(url, "max-gap", GAP_MAX, &p->in.max_gap, err))
		return false;
	p->in.forever = loops == 0;
	p->in.loops = loops ? loops - 1 : 0;
	if (!filter)
		return true;
	p->in.filter = strdup(filter);
	if (!p->in.filter)
		error_set(err, "out of memory for a filter");
	return p->in.filter != NULL;
}

static bool same_file(const char *a, const char *b)
{
	struct stat sa, sb;

	return !stat(a, &sa) && !stat(b, &sb) && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

struct net_backend *pcap_file_open(struct backend_env *env, struct net_port *port,
				   struct backend_url *url, struct error *err)
{
	static const char *const names[COUNTS] = {
		[RECORDED] = "recorded", [REPLAYED] = "replayed", [REPLAY_CUT] = "replayed-cut-short",
		[REPLAY_BROKEN] = "replay-broken", [GAPS_CUT] = "gaps-cut",
		[DISK_FULL] = "drop.disk-full", [NO_OUTPUT] = "drop.no-output",
	};
	struct pcap_file *p = calloc(1, sizeof(*p));
	int64_t start;

	if (!p) {
		error_set(err, "out of memory for a backend");
		return NULL;
	}
	p->base.ops = &pcap_file_ops;
	p->base.port = port;
	for (unsigned i = 0; i < COUNTS; i++)
		p->counter[i].name = names[i];
	p->base.counters = (struct net_counters){ p->counter, COUNTS };
	if (!parse(p, url, &start, err))
		goto fail;
	if (p->in.path && !in_open(&p->in, err))
		goto fail;
	/* Opening the output empties it. */
	if (p->in.path && p->out_path && same_file(p->in.path, p->out_path)) {
		error_set(err, "in and out are the same file, %s; name another one for out",
			  p->out_path);
		goto fail;
	}
	if (p->out_path && !out_open(p, port->loop, err))
		goto fail;
	if (p->in.path)
		timer_init(&p->in.timer, port->loop, "pcap-replay", fire, p);
	if (start >= 0)
		timer_arm(&p->in.timer, loop_now(port->loop) + start);
	return &p->base;
fail:
	pcap_file_close(&p->base);
	return NULL;
}
