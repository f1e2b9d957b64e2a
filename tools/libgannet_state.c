/* See libgannet_state.h, and docs/state-format.md for the sections. */
#include "tools/libgannet_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/memory.h"
#include "core/util.h"
#include "devices/dp8390.h"
#include "devices/mc146818.h"
#include "statefile/fields.h"
#include "statefile/image.h"
#include "tools/libgannet_priv.h"
#include "tools/saved_config.h"

enum { SECTION_VERSION = 1, MACHINE_VERSION = 2, SECTIONS_OF_DEVICES = 128 };

/* What belongs to the machine as a whole. */
struct machine_state {
	int64_t clock; /* ns the guest has run */
	uint64_t resets;
	bool a20;
	int64_t saved_utc; /* the host's time, ns since 1970; version 2 */
};

static const struct state_field machine_fields[] = {
	{ "clock", offsetof(struct machine_state, clock), STATE_TYPE_UINT, 8, 1, INT64_MAX / 4, UINT64_MAX },
	STATE_UINT(struct machine_state, resets),
	STATE_BOOL(struct machine_state, a20),
	{ "saved_utc", offsetof(struct machine_state, saved_utc), STATE_TYPE_UINT, 8, 1, INT64_MAX / 2,
	  UINT64_MAX },
	STATE_END,
};

/* A card's two addresses and its cable. The registers are the device's. */
struct net_state {
	uint8_t guest_mac[NET_MAC_SIZE], wire_mac[NET_MAC_SIZE];
	bool link;
};

static const struct state_field net_fields[] = {
	STATE_BYTES(struct net_state, guest_mac),
	STATE_BYTES(struct net_state, wire_mac),
	STATE_BOOL(struct net_state, link),
	STATE_END,
};

static const char *device_section(char name[IMAGE_NAME_SIZE], const struct device *d)
{
	snprintf(name, IMAGE_NAME_SIZE, "%s.%u", d->ops->name, d->instance);
	return name;
}

static bool prefix(const char *path, struct error *err)
{
	error_prefix(err, "%s", path);
	return false;
}

/* ---- saving ---- */

static bool add_fields(struct image_writer *w, const char *name, uint32_t version,
		       const struct state_field *fields, const void *base, struct error *err)
{
	struct state_buf buf = { .data = NULL };
	bool ok;

	fields_save(&buf, fields, base);
	if (buf.failed) {
		error_set(err, "out of memory for section %s", name);
		ok = false;
	} else {
		ok = image_writer_add(w, name, version, 0, buf.data, buf.len, err);
	}
	state_buf_finish(&buf);
	return ok;
}

/* Which pages to write: a bit for each that may not be zero. */
struct used {
	uint8_t *bits;
	uint64_t pages;
	struct image_extent *extent;
	size_t count, max;
	bool failed;
};

static void used_run(void *opaque, uint64_t first, uint64_t pages)
{
	struct used *u = opaque;

	for (uint64_t p = first; p < first + pages && p < u->pages; p++)
		u->bits[p / 8] |= 1 << p % 8;
}

static bool page_is_zero(const uint8_t *p)
{
	return load_le64(p) == 0 && !memcmp(p, p + 8, GUEST_PAGE_SIZE - 8);
}

static void used_add(struct used *u, uint64_t page)
{
	struct image_extent *last = u->count ? &u->extent[u->count - 1] : NULL;

	if (last && last->first + last->pages == page) {
		last->pages++;
		return;
	}
	if (u->count == u->max) {
		size_t max = u->max ? 2 * u->max : 1024;
		struct image_extent *grown = realloc(u->extent, max * sizeof(*grown));

		if (!grown) {
			u->failed = true;
			return;
		}
		u->extent = grown;
		u->max = max;
	}
	u->extent[u->count++] = (struct image_extent){ page, 1, 0 };
}

static bool find_used(struct gannet *g, struct used *u, struct error *err)
{
	struct memory *mem = g->machine->memory;
	const uint8_t *host = memory_host(mem);

	u->pages = memory_total(mem) / GUEST_PAGE_SIZE;
	u->bits = calloc(u->pages / 8 + 1, 1);
	if (!u->bits) {
		error_set(err, "out of memory");
		return false;
	}
	for (size_t i = 0; i < g->image_extents; i++)
		used_run(u, g->image_extent[i].first, g->image_extent[i].pages);
	if (!memory_used(mem, used_run, u, err))
		return false;
	for (uint64_t p = 0; p < u->pages; p++) {
		if (!u->bits[p / 8])
			p |= 7;
		else if (u->bits[p / 8] >> p % 8 & 1 && !page_is_zero(host + p * GUEST_PAGE_SIZE))
			used_add(u, p);
	}
	if (u->failed)
		error_set(err, "out of memory");
	return !u->failed;
}

static bool save_devices(struct gannet *g, struct image_writer *w, struct error *err)
{
	char name[IMAGE_NAME_SIZE];

	for (const struct device *d = g->machine->devices; d; d = d->next) {
		if (d->ops->fields && !add_fields(w, device_section(name, d), MAX(d->ops->version, 1),
						  d->ops->fields, d, err))
			return false;
	}
	return true;
}

static bool save_net(struct gannet *g, struct image_writer *w, struct error *err)
{
	char name[IMAGE_NAME_SIZE];

	for (unsigned i = 0; i < g->ports; i++) {
		const struct net_port *port = &g->port[i];
		struct net_state s = { .link = port->link };

		memcpy(s.guest_mac, port->guest_mac, NET_MAC_SIZE);
		memcpy(s.wire_mac, port->wire_mac, NET_MAC_SIZE);
		snprintf(name, sizeof(name), "net.%u", i);
		if (!add_fields(w, name, SECTION_VERSION, net_fields, &s, err))
			return false;
		for (const struct net_stage *st = port->stages[NET_TO_WIRE]; st; st = st->next[NET_TO_WIRE]) {
			if (!st->ops->fields)
				continue;
			snprintf(name, sizeof(name), "net.%u.%s", i, st->ops->name);
			if (!add_fields(w, name, SECTION_VERSION, st->ops->fields, st, err))
				return false;
		}
	}
	return true;
}

static bool save_sections(struct gannet *g, struct image_writer *w, struct error *err)
{
	struct cpu *cpu = g->machine->cpu;
	struct machine_state m = {
		.clock = loop_now(g->machine->loop), .resets = g->machine->resets,
		.a20 = memory_a20(g->machine->memory),
		.saved_utc = MAX(mc146818_host_time(), 0),
	};

	if (cpu->fpu_foreign)
		cpu->fpu_settle(cpu->engine_data);
	cpu_state_prepare(cpu);
	return add_fields(w, "machine", MACHINE_VERSION, machine_fields, &m, err) &&
	       add_fields(w, "cpu", SECTION_VERSION, cpu_fields, cpu, err) &&
	       save_devices(g, w, err) && save_net(g, w, err);
}

static bool save_memory(struct gannet *g, struct image_writer *w, struct used *u,
			struct error *err)
{
	struct memory *mem = g->machine->memory;

	return find_used(g, u, err) &&
	       image_writer_add_sparse(w, "ram", memory_total(mem), memory_host(mem), -1, u->extent,
				       u->count, err);
}

bool state_save(struct gannet *g, const char *path, const struct gannet_save_options *o,
		struct error *err)
{
	struct image_progress progress = { o->progress, o->opaque };
	struct image_writer *w = image_writer_create(path, err);
	struct used used = { .bits = NULL };
	bool ok;

	if (!w)
		return false;
	ok = (!o->compress || image_writer_compress(w, 3, err)) &&
	     image_writer_add(w, "config", SECTION_VERSION, 0, g->config_text, g->config_len, err) &&
	     disks_save(g, w, o->progress ? &progress : NULL, err) && save_sections(g, w, err) &&
	     save_memory(g, w, &used, err);
	if (ok)
		ok = image_writer_commit(w, o->progress ? &progress : NULL, err);
	else
		prefix(path, err);
	image_writer_destroy(w);
	free(used.bits);
	free(used.extent);
	return ok;
}

/* ---- restoring: the configuration ---- */

struct restore {
	struct image *image;
	struct saved_config saved;
	struct gannet_config cfg; /* what to make */
	bool used[IMAGE_SECTIONS_MAX];
};

const struct gannet_config *restore_config(const struct restore *r)
{
	return &r->cfg;
}

size_t restore_rom_size(const struct restore *r, const char *name)
{
	if (!strcmp(name, "bios"))
		return r->saved.bios_size;
	if (!strcmp(name, "vga"))
		return r->saved.vga_rom_size;
	if (!strncmp(name, "nic", 3) && name[3] >= '0' && name[3] < '0' + GANNET_NICS)
		return r->saved.nic_rom_size[name[3] - '0'];
	return 0;
}

struct image *restore_image(const struct restore *r)
{
	return r->image;
}

const struct image_section *restore_section(struct restore *r, const char *name)
{
	for (unsigned i = 0; image_section(r->image, i); i++) {
		const struct image_section *s = image_section(r->image, i);

		if (strcmp(s->name, name))
			continue;
		r->used[i] = true;
		return s;
	}
	return NULL;
}

static bool has_section(const struct restore *r, const char *name)
{
	for (unsigned i = 0; image_section(r->image, i); i++) {
		if (!strcmp(image_section(r->image, i)->name, name))
			return true;
	}
	return false;
}

static const struct image_section *section(struct restore *r, const char *name, struct error *err)
{
	const struct image_section *s = restore_section(r, name);

	if (!s)
		error_set(err, "section %s: is missing", name);
	return s;
}

static bool refuse_text(const char *what, const char *image, const char *ours, struct error *err)
{
	error_set(err, "%s: the image has %s, asked for is %s; leave the option out", what,
		  image && *image ? image : "none", ours && *ours ? ours : "none");
	return false;
}

/* What somebody asked for may not contradict the image; what it is plugged into may. */
static bool merge(struct restore *r, const struct gannet_config *ask, struct error *err)
{
	const struct gannet_config *saved = &r->saved.cfg;
	struct gannet_config *c = &r->cfg;

	*c = *ask;
	if (ask->memory && ask->memory != saved->memory) {
		error_set(err, "memory: the image has %" PRIu64 " MiB, this machine %" PRIu64 "; leave -m out",
			  (uint64_t)(saved->memory / MIB), (uint64_t)(ask->memory / MIB));
		return false;
	}
	if (ask->cpu && strcmp(ask->cpu, saved->cpu))
		return refuse_text("-cpu", saved->cpu, ask->cpu, err);
	if (ask->kernel || ask->bios)
		return refuse_text(ask->kernel ? "-kernel" : "-bios", saved->kernel,
				   ask->kernel ? ask->kernel : ask->bios, err);
	c->memory = saved->memory;
	c->cpu = saved->cpu;
	c->kernel = saved->kernel;
	c->initrd = saved->initrd;
	c->append = saved->append;
	c->boot_order = saved->boot_order;
	c->boot_menu = saved->boot_menu;
	c->no_acpi = saved->no_acpi;
	c->debug_exit = saved->debug_exit;
	c->debug_exit_port = saved->debug_exit_port;
	if (r->saved.firmware_log && !c->firmware_log)
		c->firmware_log = "null";
	if (!r->saved.firmware_log)
		c->firmware_log = NULL;
	for (unsigned i = 0; i < GANNET_DISKS; i++) {
		if (!c->disk[i])
			c->disk[i] = saved->disk[i];
		else if (!saved->disk[i] && !saved->disk_is_cd[i])
			return refuse_text("disk", NULL, c->disk[i], err);
		c->disk_is_cd[i] = saved->disk_is_cd[i];
		c->disk_read_only[i] = saved->disk_read_only[i];
	}
	for (unsigned i = 0; i < GANNET_FLOPPIES; i++) {
		if (!c->floppy[i])
			c->floppy[i] = saved->floppy[i];
	}
	c->snapshot = saved->snapshot || ask->snapshot;
	if (ask->nics > saved->nics) {
		error_set(err, "--net: the image has %u network cards, asked for are %u", saved->nics,
			  ask->nics);
		return false;
	}
	c->nics = saved->nics;
	for (unsigned i = 0; i < saved->nics; i++) {
		struct gannet_nic *nic = &c->nic[i];

		if (i < ask->nics && ask->nic[i].model && strcmp(ask->nic[i].model, saved->nic[i].model))
			return refuse_text("--nic model", saved->nic[i].model, ask->nic[i].model, err);
		if (i < ask->nics && ask->nic[i].mac) {
			error_set(err, "--nic mac=%s: the image says what the guest's address is; wire=ADDR is what others see",
				  ask->nic[i].mac);
			return false;
		}
		if (i >= ask->nics)
			*nic = (struct gannet_nic){ .net = saved->nic[i].net };
		else if (!nic->net)
			nic->net = saved->nic[i].net;
		nic->model = saved->nic[i].model;
		nic->slot = saved->nic[i].slot;
		nic->iobase = saved->nic[i].iobase;
		nic->irq = saved->nic[i].irq;
		nic->romfile = NULL;
	}
	return true;
}

struct restore *restore_open(const char *path, const struct gannet_config *cfg, struct error *err)
{
	struct restore *r = calloc(1, sizeof(*r));
	const struct image_section *s;

	if (!r) {
		error_set(err, "out of memory");
		return NULL;
	}
	r->image = image_open(path, err);
	if (!r->image)
		goto fail;
	s = section(r, "config", err);
	if (s && s->version > SECTION_VERSION)
		error_set(err, "section config: version %u, this gannet knows %u", s->version,
			  SECTION_VERSION);
	else if (s && saved_config_read(&r->saved, s->data, s->length, err) && merge(r, cfg, err))
		return r;
	prefix(path, err);
fail:
	restore_close(r);
	return NULL;
}

void restore_close(struct restore *r)
{
	if (!r)
		return;
	image_close(r->image);
	saved_config_finish(&r->saved);
	free(r);
}

/* ---- restoring: the machine ---- */

/* One object of the machine with its parsed copy, waiting to be applied. */
struct loaded {
	const struct state_field *fields;
	void *live, *copy;
	struct device *device;
};

struct loading {
	struct loaded item[SECTIONS_OF_DEVICES];
	unsigned count;
};

static void *parse(struct restore *r, struct loading *l, const char *name, uint32_t version,
		   const struct state_field *fields, void *live, size_t size, struct error *err)
{
	const struct image_section *s = section(r, name, err);
	struct loaded *item = &l->item[l->count];

	if (!s)
		return NULL;
	if (s->flags & IMAGE_SPARSE || s->version > version || s->version == 0) {
		error_set(err, "section %s: version %u, this gannet knows %u", name, s->version, version);
		return NULL;
	}
	if (l->count == SECTIONS_OF_DEVICES || !(item->copy = malloc(size))) {
		error_set(err, "section %s: out of memory", name);
		return NULL;
	}
	memcpy(item->copy, live, size);
	item->fields = fields;
	item->live = live;
	item->device = NULL;
	l->count++;
	if (!fields_parse(s->data, s->length, fields, item->copy, s->version < version, err)) {
		error_prefix(err, "section %s", name);
		return NULL;
	}
	return item->copy;
}

static bool parse_cpu(struct restore *r, struct loading *l, struct cpu *cpu, struct error *err)
{
	const char *field = NULL;
	struct cpu *copy = parse(r, l, "cpu", SECTION_VERSION, cpu_fields, cpu, sizeof(*cpu), err);

	if (copy && !cpu_state_check(copy, &field)) {
		error_set(err, "section cpu: field %s: no CPU can be in this state", field);
		return false;
	}
	return copy != NULL;
}

static bool parse_devices(struct restore *r, struct loading *l, struct machine *m,
			  struct error *err)
{
	char name[IMAGE_NAME_SIZE];
	const char *field = NULL;

	for (struct device *d = m->devices; d; d = d->next) {
		struct device *copy;

		if (!d->ops->fields)
			continue;
		copy = parse(r, l, device_section(name, d), MAX(d->ops->version, 1), d->ops->fields, d,
			     d->ops->size, err);
		if (!copy)
			return false;
		l->item[l->count - 1].device = d;
		if (d->ops->check && !d->ops->check(copy, &field)) {
			error_set(err, "section %s: field %s: impossible together with the others", name, field);
			return false;
		}
	}
	return true;
}

static bool parse_net(struct restore *r, struct loading *l, struct gannet *g, struct net_state *net,
		      struct error *err)
{
	char name[IMAGE_NAME_SIZE];

	for (unsigned i = 0; i < g->ports; i++) {
		struct net_port *port = &g->port[i];
		struct net_state *s;

		snprintf(name, sizeof(name), "net.%u", i);
		s = parse(r, l, name, SECTION_VERSION, net_fields, &net[i], sizeof(net[i]), err);
		if (!s)
			return false;
		if (!net_mac_is_station(s->wire_mac)) {
			error_set(err, "section %s: field wire_mac: not the address of one card", name);
			return false;
		}
		for (struct net_stage *st = port->stages[NET_TO_WIRE]; st; st = st->next[NET_TO_WIRE]) {
			if (!st->ops->fields)
				continue;
			snprintf(name, sizeof(name), "net.%u.%s", i, st->ops->name);
			/* Stages come with versions; those that an image lacks start anew. */
			if (!has_section(r, name))
				continue;
			if (!parse(r, l, name, SECTION_VERSION, st->ops->fields, st, st->ops->size, err))
				return false;
		}
	}
	return true;
}

/* A section nobody asked for is a part that this machine does not have. */
static bool nothing_left(const struct restore *r, struct error *err)
{
	for (unsigned i = 0; image_section(r->image, i); i++) {
		const struct image_section *s = image_section(r->image, i);

		if (r->used[i] || s->flags & IMAGE_OPTIONAL)
			continue;
		error_set(err, "section %s: this machine has no such part", s->name);
		return false;
	}
	return true;
}

static bool load_memory(struct restore *r, struct gannet *g, struct error *err)
{
	struct memory *mem = g->machine->memory;
	const struct image_section *map = section(r, "ram.map", err);
	const struct image_section *s = map ? section(r, "ram", err) : NULL;
	const struct image_extent *extent;
	size_t count;

	if (!s)
		return false;
	if (!(s->flags & IMAGE_SPARSE) || s->length != memory_total(mem)) {
		error_set(err, "section ram: %" PRIu64 " bytes, this machine has %" PRIu64, s->length,
			  memory_total(mem));
		return false;
	}
	extent = image_map(r->image, s, &count);
	if (!image_mappable(s)) {
		/* What the making of the machine left in memory must go first. */
		return memory_clear(mem, err) &&
		       image_load(r->image, s, memory_host(mem), NULL, err);
	}
	if (!image_verify(r->image, s, NULL, err))
		return false;
	g->image_extent = malloc(MAX(count, 1) * sizeof(*extent));
	if (!g->image_extent) {
		error_set(err, "out of memory");
		return false;
	}
	memcpy(g->image_extent, extent, count * sizeof(*extent));
	g->image_extents = count;
	if (!memory_map_image(mem, image_fd(r->image), s->offset, err))
		return false;
	if (image_changed(r->image)) {
		error_set(err, "the file was changed while it was read");
		return false;
	}
	return true;
}

static void apply_net(struct gannet *g, const struct gannet_config *cfg,
		      const struct loading *l, struct net_state *net)
{
	bool preserve = cfg->mac_policy && !strcmp(cfg->mac_policy, "preserve");
	bool change = cfg->mac_policy && !strcmp(cfg->mac_policy, "new");

	(void)l;
	for (unsigned i = 0; i < g->ports; i++) {
		struct net_port *port = &g->port[i];

		memcpy(port->guest_mac, net[i].guest_mac, NET_MAC_SIZE);
		if (preserve && !cfg->nic[i].wire_mac)
			memcpy(port->wire_mac, net[i].wire_mac, NET_MAC_SIZE);
		/* PAR is as it was: until the guest reads the PROM again, there is a translation. */
		if (change && port->nic)
			dp8390_set_prom(port->nic, port->wire_mac);
		net_port_set_link(port, net[i].link);
		gannet_net_announce(g, i);
	}
}

bool restore_machine(struct restore *r, struct gannet *g, struct error *err)
{
	struct machine *m = g->machine;
	struct machine_state state = { .clock = 0 };
	struct net_state net[GANNET_NICS] = { 0 };
	struct loading *l = calloc(1, sizeof(*l));
	bool ok = l != NULL;

	if (!ok)
		error_set(err, "out of memory");
	ok = ok && parse(r, l, "machine", MACHINE_VERSION, machine_fields, &state, sizeof(state), err) &&
	     parse_cpu(r, l, m->cpu, err) && parse_devices(r, l, m, err) &&
	     parse_net(r, l, g, net, err) && disks_restore(r, g, r->cfg.restore_force, err) &&
	     load_memory(r, g, err) && nothing_left(r, err);
	if (ok) {
		for (unsigned i = 0; i < l->count; i++)
			fields_apply(l->item[i].fields, l->item[i].copy, l->item[i].live);
		loop_set_now(m->loop, state.clock);
		m->resets = state.resets;
		memory_set_a20(m->memory, state.a20);
		for (unsigned i = 0; i < l->count; i++) {
			struct device *d = l->item[i].device;

			if (d && d->ops->loaded)
				d->ops->loaded(d);
		}
		cpu_state_loaded(m->cpu);
		apply_net(g, &r->cfg, l, net);
		if (r->cfg.clock && !strcmp(r->cfg.clock, "host"))
			board_clock_from_host(g->board, state.saved_utc);
		ok = board_new_generation(g->board);
		if (!ok)
			error_set(err, "--restore: the kernel gives no random bytes");
	} else {
		prefix(image_path(r->image), err);
	}
	for (unsigned i = 0; l && i < l->count; i++)
		free(l->item[i].copy);
	free(l);
	return ok;
}
