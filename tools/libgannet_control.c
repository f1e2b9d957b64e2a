/* libgannet's hold on a running machine: what a control panel or a test needs.
 *
 * See core/gannet.h. All of it happens in the machine's thread, in callbacks of
 * its loop, which come between two instructions.
 */
#include <stdlib.h>
#include <string.h>

#include "core/chardev.h"
#include "core/cpu.h"
#include "core/cpuid.h"
#include "core/engine.h"
#include "core/machine.h"
#include "core/memory.h"
#include "core/util.h"
#include "tools/libgannet_priv.h"
#include "translate/capture.h"

static bool explain(const struct error *err, char *why, size_t why_size)
{
	if (why)
		snprintf(why, why_size, "%s", err->text);
	return false;
}

/* ---- the machine ---- */

void gannet_pause(struct gannet *g)
{
	machine_pause(g->machine);
	/* What waits for timers would wait until the machine goes on. */
	for (unsigned i = 0; i < GANNET_SERIALS; i++)
		chardev_flush(g->serial[i]);
	if (g->debugcon)
		chardev_flush(g->debugcon);
	if (g->firmware_log)
		chardev_flush(g->firmware_log);
	if (g->capture)
		capture_flush(g->capture);
}

void gannet_resume(struct gannet *g)
{
	machine_resume(g->machine);
}

void gannet_reset(struct gannet *g)
{
	machine_request_reset(g->machine);
}

void gannet_power_button(struct gannet *g)
{
	board_power_button(g->board);
}

void gannet_status(const struct gannet *g, struct gannet_status *s)
{
	*s = (struct gannet_status) {
		.paused = g->machine->paused,
		.memory = memory_ram_size(g->machine->memory),
		.cpu = g->machine->cpu->model->name,
		.engine = g->machine->engine->ops->name,
		.nics = g->ports,
		.clock = loop_now(g->machine->loop),
		.resets = g->machine->resets,
	};
}

/* ---- descriptors ---- */

struct gannet_watch {
	struct watch *watch;
	void (*ready)(void *opaque, unsigned events);
	void *opaque;
};

_Static_assert(GANNET_READ == (int)LOOP_READ && GANNET_WRITE == (int)LOOP_WRITE &&
	       GANNET_HANGUP == (int)LOOP_HANGUP, "the loop's own bits");

static void watch_ready(void *opaque, unsigned events)
{
	struct gannet_watch *w = opaque;

	w->ready(w->opaque, events);
}

struct gannet_watch *gannet_watch_open(struct gannet *g, int fd, unsigned events,
				       void (*ready)(void *opaque, unsigned events), void *opaque)
{
	struct gannet_watch *w = malloc(sizeof(*w));

	if (!w)
		return NULL;
	*w = (struct gannet_watch){ .ready = ready, .opaque = opaque };
	w->watch = loop_watch(g->machine->loop, fd, events, watch_ready, w, NULL);
	if (w->watch)
		return w;
	free(w);
	return NULL;
}

void gannet_watch_set(struct gannet_watch *w, unsigned events)
{
	watch_set(w->watch, events);
}

void gannet_watch_close(struct gannet_watch *w)
{
	if (!w)
		return;
	loop_unwatch(w->watch);
	free(w);
}

/* ---- serial ports and the screen ---- */

bool gannet_serial_tap(struct gannet *g, unsigned n,
		       void (*seen)(void *opaque, const uint8_t *buf, size_t len), void *opaque)
{
	if (n >= GANNET_SERIALS || !g->serial[n])
		return false;
	chardev_set_tap(g->serial[n], seen, opaque);
	return true;
}

size_t gannet_serial_input(struct gannet *g, unsigned n, const void *buf, size_t len)
{
	return n < GANNET_SERIALS ? chardev_inject(g->serial[n], buf, len) : 0;
}

bool gannet_screen(struct gannet *g, struct gannet_screen *s)
{
	struct device *vga = board_vga(g->board);

	*s = (struct gannet_screen){ .cursor_col = -1, .cursor_row = -1 };
	if (!g->look)
		g->look = calloc(1, sizeof(*g->look));
	if (!vga || !g->look)
		return false;
	if (!vga_text(vga, g->look))
		return true;
	s->text = true;
	s->cols = g->look->cols;
	s->rows = g->look->rows;
	s->cursor_col = g->look->cursor_col;
	s->cursor_row = g->look->cursor_row;
	s->cells = (const struct gannet_cell *)g->look->cell;
	memcpy(s->palette, g->look->palette, sizeof(s->palette));
	return true;
}

/* ---- the network ---- */

bool gannet_net_info(const struct gannet *g, unsigned n, struct gannet_net_info *info)
{
	const struct net_port *port = &g->port[n < g->ports ? n : 0];

	memset(info, 0, sizeof(*info));
	if (n >= g->ports)
		return false;
	info->model = port->nic ? port->nic->ops->name : "";
	memcpy(info->guest_mac, port->guest_mac, NET_MAC_SIZE);
	memcpy(info->wire_mac, port->wire_mac, NET_MAC_SIZE);
	info->link = port->link;
	info->carrier = port->carrier;
	info->url = g->url[n] ? g->url[n] : "";
	info->backend = port->backend ? port->backend->ops->name : "";
	if (port->backend && port->backend->ops->status)
		port->backend->ops->status(port->backend, info->status, sizeof(info->status));
	return true;
}

const char *gannet_net_stage(const struct gannet *g, unsigned n, unsigned i, bool *enabled)
{
	const struct net_stage *s = n < g->ports ? g->port[n].stages[NET_TO_WIRE] : NULL;

	for (; s && i; i--)
		s = s->next[NET_TO_WIRE];
	if (!s)
		return NULL;
	if (enabled)
		*enabled = s->enabled;
	return s->ops->name;
}

bool gannet_net_enable(struct gannet *g, unsigned n, const char *stage, bool enabled, char *why,
		       size_t why_size)
{
	struct net_stage *s = n < g->ports ? net_port_find_stage(&g->port[n], stage) : NULL;
	struct error err;

	if (s) {
		s->enabled = enabled;
		return true;
	}
	if (n < g->ports)
		error_set(&err, "net%u has no stage %.40s", n, stage);
	else
		error_set(&err, "net%u: there is no such card; this machine has %u", n, g->ports);
	return explain(&err, why, why_size);
}

/* ---- capture ---- */

static void remove_taps(struct gannet *g)
{
	static const char *const name[] = { "capture-guest", "capture-wire" };

	for (unsigned i = 0; i < g->ports; i++) {
		for (unsigned k = 0; k < ARRAY_SIZE(name); k++) {
			struct net_stage *s = net_port_find_stage(&g->port[i], name[k]);

			if (s)
				net_port_remove_stage(&g->port[i], s);
		}
	}
}

/* Taps for all cards, before any of them gets one. */
static bool make_taps(struct gannet *g, struct capture *c, struct net_stage *tap[][2],
		      struct error *err)
{
	static const char *const side[] = { "guest", "wire" };
	static const char *const name[] = { "capture-guest", "capture-wire" };
	char text[32];

	for (unsigned i = 0; i < g->ports; i++) {
		for (unsigned k = 0; k < 2; k++) {
			snprintf(text, sizeof(text), "net%u %s", i, side[k]);
			tap[i][k] = capture_tap_create(c, name[k], text, err);
			if (!tap[i][k])
				return false;
		}
	}
	return true;
}

bool gannet_capture(struct gannet *g, const char *path, char *why, size_t why_size)
{
	struct net_stage *tap[GANNET_NICS][2] = { { NULL } };
	struct capture_config cfg = { .path = path };
	struct capture *c = NULL;
	struct error err = { "" };

	if (!net_path_free(g, &err))
		return explain(&err, why, why_size);
	if (path && !g->ports) {
		error_set(&err, "capture %s: this machine has no network card", path);
		return explain(&err, why, why_size);
	}
	if (path) {
		c = capture_create(g->machine->loop, &cfg, &err);
		if (!c || !make_taps(g, c, tap, &err)) {
			for (unsigned i = 0; i < 2 * GANNET_NICS; i++) {
				if (tap[i / 2][i % 2])
					tap[i / 2][i % 2]->ops->destroy(tap[i / 2][i % 2]);
			}
			capture_destroy(c);
			error_prefix(&err, "capture %s", path);
			return explain(&err, why, why_size);
		}
	}
	remove_taps(g);
	capture_destroy(g->capture);
	g->capture = c;
	for (unsigned i = 0; c && i < g->ports; i++) {
		/* A loopback's is the wire, as far as a capture is concerned. */
		struct net_stage *impair = net_port_find_stage(&g->port[i], "impair");

		net_port_add_first_stage(&g->port[i], tap[i][0]);
		if (impair)
			net_port_add_stage_before(&g->port[i], tap[i][1], impair);
		else
			net_port_add_stage(&g->port[i], tap[i][1]);
	}
	return true;
}
