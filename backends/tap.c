/* tap: a network interface of the host (Linux TUN/TAP, tuntap.txt in the kernel's
 * documentation), whose other end is the guest's wire.
 *
 * What the kernel sends through the interface is read here and what is written here
 * the kernel receives, one frame a call. The kernel keeps frames while the guest
 * takes none, in the interface's own queue, and drops them there when it is full;
 * `ip -s link` counts those.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/backend.h"
#include "core/loop.h"
#include "core/util.h"

enum { TAP_BATCH = 64 }; /* frames before the guest's code goes on */

enum { DROP_BUSY, DROP_DOWN, DROP_LONG, DROP_ERROR, COUNTERS };

struct tap {
	struct net_backend base;
	struct net_counter counter[COUNTERS];
	char name[IFNAMSIZ];
	int fd;
	struct watch *watch;
	bool starved, told_down, told_error;
	uint8_t frame[NET_FRAME_MAX + 1]; /* one more shows that a frame was cut */
};

static struct tap *to_tap(struct net_backend *b)
{
	return container_of(b, struct tap, base);
}

static void tap_drain(void *opaque, unsigned events)
{
	struct tap *t = opaque;
	struct net_port *port = t->base.port;

	(void)events;
	for (unsigned i = 0; i < TAP_BATCH; i++) {
		ssize_t n;

		if (!net_port_can_receive(port)) {
			t->starved = true;
			watch_set(t->watch, 0);
			return;
		}
		n = read(t->fd, t->frame, sizeof(t->frame));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN && !t->told_error) {
			/* The interface was deleted: it is readable for ever and says EBADFD. */
			net_port_notify(port, "tap:%s: %s; the guest is cut off", t->name, strerror(errno));
			t->told_error = true;
			watch_set(t->watch, 0);
			net_port_set_carrier(port, false);
			return;
		}
		if (n < 0)
			return;
		if (n > NET_FRAME_MAX)
			net_count(&t->counter[DROP_LONG]);
		else
			net_port_receive(port, t->frame, n);
	}
}

static void tap_readable(struct net_backend *b)
{
	struct tap *t = to_tap(b);

	/* Level-triggered: what waits is reported at once. */
	if (t->starved && !t->told_error) {
		t->starved = false;
		watch_set(t->watch, LOOP_READ);
	}
}

static void tap_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	struct tap *t = to_tap(b);
	ssize_t n;

	do
		n = write(t->fd, frame, len);
	while (n < 0 && errno == EINTR);
	if (n >= 0) {
		t->told_down = false;
		return;
	}
	if (errno == EAGAIN) {
		net_count(&t->counter[DROP_BUSY]);
		return;
	}
	if (errno != EIO) {
		net_count(&t->counter[DROP_ERROR]);
		return;
	}
	net_count(&t->counter[DROP_DOWN]);
	if (!t->told_down)
		net_port_notify(b->port, "tap:%s: the interface is down; frames are dropped until 'ip link set %s up'",
				t->name, t->name);
	t->told_down = true;
}

static void tap_status(struct net_backend *b, char *text, size_t size)
{
	struct tap *t = to_tap(b);

	snprintf(text, size, "interface %s%s", t->name, t->told_error ? ", which is gone" :
		 t->told_down ? ", which is down" : "");
}

static void tap_close(struct net_backend *b)
{
	struct tap *t = to_tap(b);

	loop_unwatch(t->watch);
	if (t->fd >= 0)
		close(t->fd);
	free(t);
}

static const struct net_backend_ops tap_ops = {
	.name = "tap", .send = tap_send, .readable = tap_readable, .close = tap_close,
	.status = tap_status,
};

/* -1 with @err set; @t->name becomes what the kernel made of it ("tap%d"). */
static int attach(struct tap *t, struct error *err)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), e;
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };

	if (fd < 0) {
		e = errno;
		error_set(err, "/dev/net/tun: %s%s", strerror(e),
			  e == ENOENT || e == ENODEV ? "; the kernel's module 'tun' is missing: modprobe tun" :
			  e == EACCES || e == EPERM ? "; let users open it, as root: chmod 666 /dev/net/tun" : "");
		return -1;
	}
	memcpy(ifr.ifr_name, t->name, sizeof(ifr.ifr_name));
	if (ioctl(fd, TUNSETIFF, &ifr) == 0) {
		memcpy(t->name, ifr.ifr_name, sizeof(t->name));
		return fd;
	}
	e = errno;
	if (e == EPERM || e == EACCES)
		error_set(err, "%s: %s; make it first, as root: ip tuntap add dev %s mode tap user $USER && ip link set %s up",
			  t->name, strerror(e), t->name, t->name);
	else if (e == EBUSY)
		error_set(err, "%s: another program uses it; make a second one: ip tuntap add mode tap user $USER",
			  t->name);
	else if (e == EINVAL)
		error_set(err, "%s: this interface exists and is no tap of one queue; choose another name", t->name);
	else
		error_set(err, "%s: %s", t->name, strerror(e));
	close(fd);
	return -1;
}

static bool set_up(struct tap *t, struct error *err)
{
	struct ifreq ifr = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), e = 0;

	memcpy(ifr.ifr_name, t->name, sizeof(ifr.ifr_name));
	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		e = errno;
	ifr.ifr_flags |= IFF_UP;
	if (!e && ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		e = errno;
	if (fd >= 0)
		close(fd);
	if (e)
		error_set(err, "cannot set %s up: %s; as root: ip link set %s up", t->name, strerror(e), t->name);
	return !e;
}

struct net_backend *tap_open(struct backend_env *env, struct net_port *port,
			     struct backend_url *url, struct error *err)
{
	struct tap *t = calloc(1, sizeof(*t));
	bool up = false;

	(void)env;
	if (!t) {
		error_set(err, "out of memory");
		return NULL;
	}
	t->base = (struct net_backend){ &tap_ops, port, { t->counter, COUNTERS } };
	t->counter[DROP_BUSY].name = "drop.interface-busy";
	t->counter[DROP_DOWN].name = "drop.interface-down";
	t->counter[DROP_LONG].name = "drop.too-long";
	t->counter[DROP_ERROR].name = "drop.write-error";
	t->fd = -1;
	if (!*url->body || strlen(url->body) >= sizeof(t->name) || strpbrk(url->body, "/ \t") ||
	    !strcmp(url->body, ".") || !strcmp(url->body, "..")) {
		error_set(err, "'%.40s' after tap: is no name of an interface (1 to %zu characters), such as tap0",
			  url->body, sizeof(t->name) - 1);
		goto fail;
	}
	strcpy(t->name, url->body);
	if (!url_bool(url, "up", &up, err))
		goto fail;
	t->fd = attach(t, err);
	if (t->fd < 0 || (up && !set_up(t, err)))
		goto fail;
	t->watch = loop_watch(port->loop, t->fd, LOOP_READ, tap_drain, t, err);
	if (!t->watch)
		goto fail;
	return &t->base;
fail:
	tap_close(&t->base);
	return NULL;
}
