/* libgannet's public face: a machine, its board and its front ends as one.
 *
 * See core/gannet.h. Here the parts are put together in an order that lets
 * everything that can be refused be refused before anything outside of the
 * process is made: files are read and images opened first, character devices
 * (which may create files and sockets) last.
 */
#include "core/gannet.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "core/chardev.h"
#include "core/cpu.h"
#include "core/cpuid.h"
#include "core/engine.h"
#include "core/machine.h"
#include "core/memory.h"
#include "core/trace.h"
#include "core/util.h"
#include "devices/boot.h"
#include "devices/i8042.h"
#include "tools/libgannet_priv.h"
#include "tools/libgannet_state.h"
#include "tools/saved_config.h"

enum { SHOW_INTERVAL_NS = NS_PER_S / 30, ROM_MAX = 16 << 20 };

/* Files of a machine in the making; what is still here at the end is freed. */
struct parts {
	uint8_t *bios, *vga_rom;
	size_t bios_size, vga_rom_size;
	struct boot_plan *plan;
	struct block *ide[IDE_DRIVES];
	struct block *floppy[FDC_DRIVES];
	uint32_t trace_mask;
	struct net_parts net;
};

static const char *const bios_paths[] = {
	"/usr/share/seabios/bios-256k.bin",
	"/usr/share/qemu/bios-256k.bin",
	"/usr/local/share/seabios/bios-256k.bin",
	GANNET_DATADIR "/seabios/bios-256k.bin",
};

static const char *const vga_rom_paths[] = {
	"/usr/share/seabios/vgabios-stdvga.bin",
	"/usr/share/qemu/vgabios-stdvga.bin",
	"/usr/local/share/seabios/vgabios-stdvga.bin",
	GANNET_DATADIR "/seabios/vgabios-stdvga.bin",
};

void gannet_config_init(struct gannet_config *cfg)
{
	*cfg = (struct gannet_config) {
		.debug_exit_port = 0xf4,
	};
}

/* ---- reading what the machine is made of ---- */

uint8_t *read_rom(const char *path, size_t *size, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	uint8_t *data = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		error_set(err, "%s", strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		error_set(err, "not a regular file");
	} else if (st.st_size == 0 || st.st_size > ROM_MAX) {
		error_set(err, "%lld bytes; a ROM image has 1 byte to 16 MiB", (long long)st.st_size);
	} else {
		data = malloc(st.st_size);
		if (!data || read(fd, data, st.st_size) != st.st_size) {
			error_set(err, "cannot be read");
			free(data);
			data = NULL;
		}
		*size = st.st_size;
	}
	if (fd >= 0)
		close(fd);
	return data;
}

static bool read_firmware(struct parts *p, const struct gannet_config *cfg, struct error *err)
{
	if (cfg->bios) {
		p->bios = read_rom(cfg->bios, &p->bios_size, err);
		if (p->bios && p->bios_size % (64 * KIB)) {
			error_set(err, "%zu bytes; a firmware image is a multiple of 64 KiB", p->bios_size);
			error_prefix(err, "-bios %s", cfg->bios);
			return false;
		}
		if (!p->bios) {
			error_prefix(err, "-bios %s", cfg->bios);
			return false;
		}
	}
	for (size_t i = 0; !p->bios && i < ARRAY_SIZE(bios_paths); i++)
		p->bios = read_rom(bios_paths[i], &p->bios_size, NULL);
	if (!p->bios) {
		error_set(err, "no firmware: %s is not there; install the package seabios, or give -bios FILE or -kernel FILE",
			  bios_paths[0]);
		return false;
	}
	for (size_t i = 0; !p->vga_rom && i < ARRAY_SIZE(vga_rom_paths); i++)
		p->vga_rom = read_rom(vga_rom_paths[i], &p->vga_rom_size, NULL);
	return true;
}

static const char *const disk_option[GANNET_DISKS] = { "-hda", "-hdb", "-hdc", "-hdd" };
static const char *const floppy_option[GANNET_FLOPPIES] = { "-fda", "-fdb" };

/* block_open()'s messages start with the path; the option goes before it. */
static struct block *open_image(const char *option, const char *path, enum block_mode mode,
				struct error *err)
{
	struct block *b = block_open(path, mode, err);

	if (!b && err) {
		struct error whole;

		error_set(&whole, "%s %s", option, err->text);
		*err = whole;
	}
	return b;
}

/* What a board says of a floppy's size starts with the path, too. */
static void name_floppy(const struct gannet_config *cfg, struct error *err)
{
	for (unsigned i = 0; i < GANNET_FLOPPIES; i++) {
		size_t n = cfg->floppy[i] ? strlen(cfg->floppy[i]) : 0;
		struct error whole;

		if (!n || strncmp(err->text, cfg->floppy[i], n) || err->text[n] != ':')
			continue;
		error_set(&whole, "%s %s", floppy_option[i], err->text);
		*err = whole;
		return;
	}
}

static bool open_images(struct parts *p, const struct gannet_config *cfg, struct error *err)
{
	enum block_mode mode = cfg->snapshot ? BLOCK_SNAPSHOT : BLOCK_RW;

	for (unsigned i = 0; i < GANNET_DISKS; i++) {
		bool cd = cfg->disk_is_cd[i];

		if (!cfg->disk[i])
			continue;
		p->ide[i] = open_image(cd ? "-cdrom" : disk_option[i], cfg->disk[i],
				       cd || cfg->disk_read_only[i] ? BLOCK_RO : mode, err);
		if (!p->ide[i])
			return false;
	}
	for (unsigned i = 0; i < GANNET_FLOPPIES; i++) {
		if (!cfg->floppy[i])
			continue;
		p->floppy[i] = open_image(floppy_option[i], cfg->floppy[i], mode, err);
		if (!p->floppy[i])
			return false;
	}
	return true;
}

/* A restored machine has its firmware in the image; what counts is how large it is. */
static bool blank_firmware(struct parts *p, const struct restore *r, struct error *err)
{
	p->bios_size = restore_rom_size(r, "bios");
	p->vga_rom_size = restore_rom_size(r, "vga");
	p->bios = calloc(MAX(p->bios_size, 1), 1);
	p->vga_rom = calloc(MAX(p->vga_rom_size, 1), 1);
	if (!p->bios || !p->vga_rom) {
		error_set(err, "out of memory");
		return false;
	}
	if (!p->bios_size) {
		free(p->bios);
		p->bios = NULL;
	}
	if (!p->vga_rom_size) {
		free(p->vga_rom);
		p->vga_rom = NULL;
	}
	return true;
}

static bool read_parts(struct parts *p, const struct gannet_config *cfg, const struct restore *r,
		       struct error *err)
{
	struct boot_config boot = { cfg->kernel, cfg->initrd, cfg->append };
	const char *bad;

	if (cfg->memory < MIB || cfg->memory > 64 * GIB || cfg->memory % GUEST_PAGE_SIZE) {
		error_set(err, "memory of %" PRIu64 " bytes: a machine has 1 MiB to 64 GiB in whole pages",
			  cfg->memory);
		return false;
	}
	if (cfg->trace && !trace_parse(cfg->trace, &p->trace_mask, &bad)) {
		error_set(err, "-d %s: '%.*s' is no trace channel; -d help lists them", cfg->trace,
			  (int)strcspn(bad, ","), bad);
		return false;
	}
	if (!cpu_model_find(cfg->cpu, err)) {
		error_prefix(err, "-cpu %s", cfg->cpu);
		return false;
	}
	if (r) {
		if (!blank_firmware(p, r, err))
			return false;
	} else if (cfg->kernel) {
		p->plan = boot_load(&boot, cfg->memory, err);
		if (!p->plan)
			return false;
	} else if (!read_firmware(p, cfg, err)) {
		return false;
	}
	return net_parts_read(&p->net, cfg, r, err) && open_images(p, cfg, err);
}

static void parts_finish(struct parts *p)
{
	free(p->bios);
	free(p->vga_rom);
	boot_plan_destroy(p->plan);
	net_parts_finish(&p->net);
	for (unsigned i = 0; i < IDE_DRIVES; i++)
		block_close(p->ide[i]);
	for (unsigned i = 0; i < FDC_DRIVES; i++)
		block_close(p->floppy[i]);
}

/* ---- character devices ---- */

static void terminal_command(void *opaque, int key)
{
	struct gannet *g = opaque;

	if (key == 'x')
		machine_quit(g->machine);
}

static struct chardev *open_chardev(struct gannet *g, const char *option, const char *spec,
				    struct error *err)
{
	struct chardev *c = chardev_open(g->machine->loop, spec, err);

	if (!c) {
		error_prefix(err, "%s %s", option, spec);
		return NULL;
	}
	if (!strncmp(spec, "stdio", 5)) {
		chardev_set_command(c, terminal_command, g);
		__atomic_store_n(&g->terminal, c, __ATOMIC_RELEASE);
	}
	return c;
}

static bool open_chardevs(struct gannet *g, const struct gannet_config *cfg, struct error *err)
{
	for (unsigned i = 0; i < GANNET_SERIALS; i++) {
		/* A port that goes nowhere can still be tapped. */
		g->serial[i] = open_chardev(g, "-serial", cfg->serial[i] ? cfg->serial[i] : "null",
					    err);
		if (!g->serial[i])
			return false;
	}
	if (cfg->debugcon) {
		g->debugcon = open_chardev(g, "-debugcon", cfg->debugcon, err);
		if (!g->debugcon)
			return false;
	}
	if (cfg->firmware_log) {
		g->firmware_log = open_chardev(g, "--firmware-log", cfg->firmware_log, err);
		if (!g->firmware_log)
			return false;
	}
	return true;
}

/* ---- the machine ---- */

static bool make_board(struct gannet *g, struct parts *p, const struct gannet_config *cfg,
		       struct error *err)
{
	struct board_config bc = {
		.bios = p->bios, .bios_size = p->bios_size,
		.vga_rom = p->vga_rom, .vga_rom_size = p->vga_rom_size,
		.debugcon = g->debugcon, .firmware_log = g->firmware_log,
		.debug_exit_port = cfg->debug_exit ? cfg->debug_exit_port : 0,
		.boot_order = cfg->boot_order, .boot_menu = cfg->boot_menu,
		.no_acpi = cfg->no_acpi,
	};
	struct boot_plan *plan = p->plan;

	_Static_assert((int)GANNET_NICS == (int)BOARD_NICS, "as many cards as the board takes");
	memcpy(bc.nic, p->net.nic, sizeof(bc.nic));
	memcpy(bc.ide, p->ide, sizeof(bc.ide));
	memcpy(bc.ide_cd, cfg->disk_is_cd, sizeof(bc.ide_cd));
	memcpy(bc.floppy, p->floppy, sizeof(bc.floppy));
	for (unsigned i = 0; i < GANNET_SERIALS; i++)
		bc.serial[i] = g->serial[i];
	g->board = board_create(g->machine, &bc, err);
	/* What no device has taken over is still ours. */
	memcpy(p->ide, bc.ide, sizeof(bc.ide));
	memcpy(p->floppy, bc.floppy, sizeof(bc.floppy));
	if (!g->board) {
		name_floppy(cfg, err);
		return false;
	}
	p->plan = NULL;
	return !plan || boot_create(g->machine, g->board, plan, err);
}

/* --stats and --perf-map: not every engine has something to tell. */
static bool observe_engine(struct engine *e, const struct gannet_config *cfg, struct error *err)
{
	char path[64];
	FILE *map = NULL;

	if (!e->ops->observe)
		return true;
	if (cfg->perf_map) {
		snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
		map = fopen(path, "w");
		if (!map) {
			error_set(err, "--perf-map: cannot write %s: %s", path, strerror(errno));
			return false;
		}
	}
	e->ops->observe(e, cfg->count, map);
	return true;
}

static void boot_failed(void *opaque, const char *why)
{
	struct gannet *g = opaque;

	if (g->notify)
		g->notify(g->notify_opaque, why);
}

/* What its images will say of the machine. */
static bool remember_config(struct gannet *g, const struct gannet_config *cfg,
			    const struct parts *parts, struct error *err)
{
	struct saved_config s = {
		.cfg = *cfg, .bios_size = parts->bios_size, .vga_rom_size = parts->vga_rom_size,
	};

	if (!s.cfg.cpu)
		s.cfg.cpu = cpu_model_find(NULL, NULL)->name;
	for (unsigned i = 0; i < GANNET_NICS; i++)
		s.nic_rom_size[i] = parts->net.nic[i].rom_size;
	g->config_text = saved_config_write(&s, &g->config_len);
	if (!g->config_text)
		error_set(err, "out of memory");
	return g->config_text != NULL;
}

static bool make_machine(struct gannet *g, const struct gannet_config *cfg, struct restore *r,
			 struct parts *parts, struct error *err)
{
	struct machine_config mc = {
		.ram_size = cfg->memory,
		.engine = cfg->engine ? cfg->engine : HAVE_JIT ? "jit" : "interp",
		.cpu = cfg->cpu,
	};
	struct boot_config boot = { cfg->kernel, cfg->initrd, cfg->append };

	if (!read_parts(parts, cfg, r, err) || !remember_config(g, cfg, parts, err))
		return false;
	g->machine = machine_create(&mc, err);
	if (!g->machine || !observe_engine(g->machine->engine, cfg, err))
		return false;
	g->machine->no_reboot = cfg->no_reboot;
	g->machine->trace.mask = parts->trace_mask;
	if (!open_chardevs(g, cfg, err) || !net_create(g, &parts->net, cfg, err) ||
	    !make_board(g, parts, cfg, err))
		return false;
	if (r && cfg->kernel &&
	    !boot_create_later(g->machine, g->board, &boot, boot_failed, g, err))
		return false;
	return !r || restore_machine(r, g, err);
}

struct gannet *gannet_create(const struct gannet_config *ask, char *why, size_t why_size)
{
	struct gannet *g = calloc(1, sizeof(*g));
	struct error err = { "out of memory" };
	struct gannet_config cfg = *ask;
	struct parts parts = { 0 };
	struct restore *r = NULL;
	bool ok = g != NULL;

	if (ok) {
		g->notify = cfg.notify;
		g->notify_opaque = cfg.notify_opaque;
	}
	if (ok && cfg.restore) {
		r = restore_open(cfg.restore, ask, &err);
		ok = r != NULL;
		if (ok)
			cfg = *restore_config(r);
		else
			error_prefix(&err, "--restore");
	} else if (!cfg.memory) {
		cfg.memory = 256 * MIB;
	}
	ok = ok && make_machine(g, &cfg, r, &parts, &err);
	parts_finish(&parts);
	restore_close(r);
	if (ok)
		return g;
	gannet_destroy(g);
	if (why)
		snprintf(why, why_size, "%s", err.text);
	return NULL;
}

bool gannet_save(struct gannet *g, const char *path, const struct gannet_save_options *o,
		 char *why, size_t why_size)
{
	static const struct gannet_save_options defaults = { .compress = false };
	struct error err = { "" };
	bool ok;

	machine_hold_tsc(g->machine);
	ok = state_save(g, path, o ? o : &defaults, &err);

	if (!ok && why)
		snprintf(why, why_size, "%s", err.text);
	return ok;
}

void gannet_destroy(struct gannet *g)
{
	if (!g)
		return;
	if (g->show)
		gannet_set_display(g, NULL, NULL);
	free(g->picture.pixel);
	free(g->look);
	loop_unwatch(g->watch);
	for (unsigned i = 0; i < GANNET_SERIALS; i++)
		chardev_close(g->serial[i]);
	chardev_close(g->debugcon);
	chardev_close(g->firmware_log);
	net_finish(g);
	machine_destroy(g->machine);
	free(g->config_text);
	free(g->image_extent);
	free(g);
}

enum gannet_end gannet_run(struct gannet *g)
{
	switch (machine_run(g->machine)) {
	case MACHINE_POWEROFF: return GANNET_POWEROFF;
	case MACHINE_RESET_STOP: return GANNET_RESET;
	case MACHINE_TRIPLE_FAULT: return GANNET_TRIPLE_FAULT;
	case MACHINE_DEBUG_EXIT: return GANNET_DEBUG_EXIT;
	case MACHINE_MEMORY_LOST: return GANNET_MEMORY_LOST;
	case MACHINE_QUIT: case MACHINE_RUNNING: break;
	}
	return GANNET_QUIT;
}

void gannet_quit(struct gannet *g)
{
	machine_quit(g->machine);
}

bool gannet_call(struct gannet *g, void (*fn)(void *opaque), void *opaque)
{
	return loop_post(g->machine->loop, fn, opaque);
}

int gannet_exit_code(const struct gannet *g)
{
	return g->machine->exit_code;
}

size_t gannet_cpu_dump(const struct gannet *g, char *buf, size_t size)
{
	return cpu_dump(g->machine->cpu, buf, size);
}

void gannet_trace_to(struct gannet *g, FILE *out)
{
	g->machine->trace.out = out;
}

void gannet_stats(const struct gannet *g, FILE *out)
{
	const struct cpu *cpu = g->machine->cpu;
	struct engine *e = g->machine->engine;

	fprintf(out, "engine %s\n", e->ops->name);
	fprintf(out, "interpreted instructions %" PRIu64 "\n", cpu->insn_count);
	fprintf(out, "interrupts %" PRIu64 "\n", cpu->interrupts);
	for (unsigned i = 0; i < ARRAY_SIZE(cpu->exceptions); i++) {
		if (cpu->exceptions[i])
			fprintf(out, "exceptions of vector %u %" PRIu64 "\n", i, cpu->exceptions[i]);
	}
	fprintf(out, "resets %" PRIu64 "\n", g->machine->resets);
	if (e->ops->stats)
		e->ops->stats(e, out);
	net_stats(g, out);
}

const char *gannet_serial_info(const struct gannet *g, unsigned n)
{
	if (n >= GANNET_SERIALS || !g->serial[n])
		return "";
	return chardev_info(g->serial[n]);
}

void gannet_terminal(struct gannet *g, bool raw)
{
	struct chardev *c = __atomic_load_n(&g->terminal, __ATOMIC_ACQUIRE);

	if (c)
		chardev_terminal(c, raw);
}

/* ---- front ends ---- */

static void show(void *opaque)
{
	struct gannet *g = opaque;
	struct device *vga = board_vga(g->board);
	struct gannet_screen s = { .cursor_col = -1, .cursor_row = -1 };

	_Static_assert(sizeof(struct gannet_cell) == sizeof(struct vga_cell), "same cells");
	if (vga && vga_text(vga, g->text)) {
		s.text = true;
		s.cols = g->text->cols;
		s.rows = g->text->rows;
		s.cursor_col = g->text->cursor_col;
		s.cursor_row = g->text->cursor_row;
		s.cells = (const struct gannet_cell *)g->text->cell;
		memcpy(s.palette, g->text->palette, sizeof(s.palette));
	}
	g->show(g->show_opaque, &s);
	timer_arm(&g->show_timer, loop_now(g->machine->loop) + SHOW_INTERVAL_NS);
}

void gannet_set_display(struct gannet *g, void (*fn)(void *opaque, const struct gannet_screen *s),
			void *opaque)
{
	if (g->show)
		timer_disarm(&g->show_timer);
	g->show = NULL;
	free(g->text);
	g->text = NULL;
	if (!fn)
		return;
	g->text = calloc(1, sizeof(*g->text));
	if (!g->text)
		return; /* a machine without a display runs on */
	g->show = fn;
	g->show_opaque = opaque;
	timer_init(&g->show_timer, g->machine->loop, "display", show, g);
	timer_arm(&g->show_timer, loop_now(g->machine->loop));
}

static void fd_ready(void *opaque, unsigned events)
{
	struct gannet *g = opaque;

	(void)events;
	g->ready(g->ready_opaque);
}

bool gannet_watch_fd(struct gannet *g, int fd, void (*ready)(void *opaque), void *opaque)
{
	loop_unwatch(g->watch);
	g->ready = ready;
	g->ready_opaque = opaque;
	g->watch = loop_watch(g->machine->loop, fd, LOOP_READ, fd_ready, g, NULL);
	return g->watch != NULL;
}

bool gannet_key(struct gannet *g, unsigned key, bool down)
{
	struct device *keyboard = board_i8042(g->board);

	return !keyboard || i8042_key(keyboard, key, down);
}

void gannet_mouse(struct gannet *g, int dx, int dy, int dz, unsigned buttons)
{
	struct device *mouse = board_i8042(g->board);

	if (mouse)
		i8042_mouse(mouse, dx, dy, dz, buttons);
}

bool gannet_picture(struct gannet *g, struct gannet_picture *p)
{
	struct device *vga = board_vga(g->board);

	if (!vga || !vga_render(vga, &g->picture))
		return false;
	*p = (struct gannet_picture){ g->picture.width, g->picture.height, g->picture.pixel };
	return true;
}

/* ---- what there is ---- */

const char *gannet_version(void)
{
	return GANNET_VERSION;
}

const char *gannet_cpu_model(unsigned n, const char **description)
{
	const struct cpu_model *list = cpu_model_list();
	unsigned i = 0;

	while (i < n && list[i].name)
		i++;
	if (description)
		*description = list[i].description;
	return list[i].name;
}

const char *gannet_trace_channel(unsigned n)
{
	return n < TRACE_CHANNELS ? trace_channel_name(n) : NULL;
}
