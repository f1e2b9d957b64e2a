/* What a machine says of itself to who started it, with --status-fd:
 *
 *	in FRAMES out FRAMES wire ADDRESS[,ADDRESS]... guest ADDRESS[,ADDRESS]...
 *
 * one line as soon as the guest runs, and one each second; "-" without a card. Frames
 * are those on the wire, of all cards together. A thread keeps the time, so that a guest
 * that has nothing to do is woken only for this; the numbers are taken in the machine's.
 * A reader that does not read misses lines.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/net.h"
#include "tools/clone.h"

enum { INTERVAL_MS = 1000, LINE = 512 };

struct clone_status {
	struct gannet *machine; /* borrowed */
	int fd, stop;
	pthread_t thread;
};

struct sums {
	uint64_t in, out;
};

static void add(void *opaque, const char *part, const char *name, uint64_t value)
{
	struct sums *s = opaque;

	if (strcmp(part, "port"))
		return;
	if (!strcmp(name, "wire-received-frames"))
		s->in += value;
	else if (!strcmp(name, "wire-sent-frames"))
		s->out += value;
}

static void addresses(const struct gannet *g, bool wire, char *text, size_t size)
{
	uint8_t mac[NET_MAC_SIZE];
	size_t len = 0;

	snprintf(text, size, "-");
	for (unsigned i = 0; gannet_net_mac(g, i, wire, mac) && len + NET_MAC_TEXT_SIZE + 1 < size; i++) {
		if (i)
			text[len++] = ',';
		net_mac_format(text + len, mac);
		len += NET_MAC_TEXT_SIZE - 1;
	}
}

static void report(void *opaque)
{
	struct clone_status *s = opaque;
	char wire[GANNET_NICS * NET_MAC_TEXT_SIZE + 1], guest[sizeof(wire)], line[LINE];
	struct sums sums = { 0, 0 };
	ssize_t n;
	int len;

	for (unsigned i = 0; gannet_net_counters(s->machine, i, add, &sums); i++)
		;
	addresses(s->machine, true, wire, sizeof(wire));
	addresses(s->machine, false, guest, sizeof(guest));
	len = snprintf(line, sizeof(line), "in %" PRIu64 " out %" PRIu64 " wire %s guest %s\n",
		       sums.in, sums.out, wire, guest);
	n = write(s->fd, line, len);
	(void)n;
}

static void *keep_time(void *opaque)
{
	struct clone_status *s = opaque;
	struct pollfd p = { .fd = s->stop, .events = POLLIN };

	do
		gannet_call(s->machine, report, s);
	while (poll(&p, 1, INTERVAL_MS) <= 0);
	return NULL;
}

struct clone_status *clone_status_start(struct gannet *g, int fd)
{
	struct clone_status *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->machine = g;
	s->fd = fd;
	s->stop = eventfd(0, EFD_CLOEXEC);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (s->stop >= 0 && !pthread_create(&s->thread, NULL, keep_time, s))
		return s;
	if (s->stop >= 0)
		close(s->stop);
	free(s);
	return NULL;
}

void clone_status_stop(struct clone_status *s)
{
	uint64_t one = 1;
	ssize_t n;

	if (!s)
		return;
	n = write(s->stop, &one, sizeof(one));
	(void)n;
	pthread_join(s->thread, NULL);
	close(s->stop);
	free(s);
}
