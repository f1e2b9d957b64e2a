/* The command line, in the words QEMU's users know.
 *
 * One table says which options there are, whether they take a value and what
 * --help says of them; one function gives each its meaning; one more looks for
 * what does not go together. See options.h.
 */
#include "tools/options.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "core/util.h"

enum option_id {
	OPT_MEMORY, OPT_CPU, OPT_ENGINE,
	OPT_KERNEL, OPT_INITRD, OPT_APPEND, OPT_BIOS, OPT_BOOT,
	OPT_HDA, OPT_HDB, OPT_HDC, OPT_HDD, OPT_CDROM, OPT_FDA, OPT_FDB, OPT_SNAPSHOT, OPT_READ_ONLY,
	OPT_NOGRAPHIC, OPT_DISPLAY, OPT_SERIAL, OPT_DEBUGCON, OPT_DEVICE,
	OPT_NET, OPT_NIC, OPT_NETDEV, OPT_CAPTURE, OPT_CAPTURE_SIZE,
	OPT_RESTORE, OPT_SAVE, OPT_MAC, OPT_IP, OPT_INSTANCE, OPT_CLOCK, OPT_CONTROL, OPT_FORCE,
	OPT_NO_REBOOT, OPT_NO_ACPI, OPT_STATUS_FD,
	OPT_TRACE, OPT_TRACE_FILE, OPT_STATS, OPT_PERF_MAP, OPT_FIRMWARE_LOG,
	OPT_HELP, OPT_VERSION,
	/* What QEMU needs to be told and a Gannet is anyway. */
	OPT_MONITOR, OPT_VGA, OPT_SMP, OPT_MACHINE,
	OPT_COUNT,
};

struct option_row {
	const char *name;
	const char *value; /* what --help calls the value; NULL: takes none */
	const char *help;  /* NULL: not shown */
};

static const struct option_row rows[OPT_COUNT] = {
	[OPT_MEMORY] = { "m", "SIZE", "memory: 256 or 256M, 1G; default 256M" },
	[OPT_CPU] = { "cpu", "MODEL", "CPU model; \"help\" lists them" },
	[OPT_ENGINE] = { "engine", "NAME", "jit (default) or interp" },
	[OPT_KERNEL] = { "kernel", "FILE", "start this Linux bzImage or multiboot ELF, without firmware" },
	[OPT_INITRD] = { "initrd", "FILE", "its initramfs; multiboot modules: \"FILE ARGS,FILE ARGS\"" },
	[OPT_APPEND] = { "append", "TEXT", "its command line" },
	[OPT_BIOS] = { "bios", "FILE", "firmware instead of the installed SeaBIOS" },
	[OPT_BOOT] = { "boot", "ORDER", "a floppy, c disk, d CD, n network; also order=ORDER,menu=on" },
	[OPT_HDA] = { "hda", "IMAGE", "first IDE disk; -hdb -hdc -hdd the others; raw images" },
	[OPT_HDB] = { "hdb", "IMAGE", NULL },
	[OPT_HDC] = { "hdc", "IMAGE", NULL },
	[OPT_HDD] = { "hdd", "IMAGE", NULL },
	[OPT_CDROM] = { "cdrom", "IMAGE", "CD-ROM (in the place of -hdc)" },
	[OPT_FDA] = { "fda", "IMAGE", "first floppy; -fdb the second" },
	[OPT_FDB] = { "fdb", "IMAGE", NULL },
	[OPT_SNAPSHOT] = { "snapshot", NULL, "leave disk images alone: writes go to a temporary overlay" },
	[OPT_READ_ONLY] = { "read-only", NULL, "IDE disks cannot be written" },
	[OPT_NOGRAPHIC] = { "nographic", NULL, "no display, first serial port on the terminal; Ctrl-A x quits" },
	[OPT_DISPLAY] = { "display", "KIND", "curses (text mode in the terminal), sdl (a window) or none" },
	[OPT_SERIAL] = { "serial", "DEV", "stdio, file:PATH, pty, unix:PATH[,server], tcp:HOST:PORT[,server],\nnull or none; twice for two ports" },
	[OPT_DEBUGCON] = { "debugcon", "DEV", "what the guest writes to port 0xe9" },
	[OPT_DEVICE] = { "device", "DEVICE", "isa-debug-exit[,iobase=0xf4]: a write there ends the machine;\nne2k_pci,netdev=ID,... as QEMU has it" },
	[OPT_NET] = { "net", "URL", "a network and a card on it, several times for several; \"help\" lists\nthe kinds: ws://HOST/, user:, loopback:NAME, pcap:FILE, ..." },
	[OPT_NIC] = { "nic", "CARD", "say more of a card: model=ne2k_pci|ne2k_isa,mac=ADDR,net=N,\nwire=ADDR|random,ip=GUEST:WIRE,romfile=FILE,slot=N,iobase=PORT,irq=N" },
	[OPT_NETDEV] = { "netdev", "TYPE,id=ID", NULL },
	[OPT_CAPTURE] = { "capture", "FILE", "record frames on both sides of the MAC translator: pcapng,\nor classic pcap if FILE ends in .pcap" },
	[OPT_CAPTURE_SIZE] = { "capture-size", "SIZE[,N]", "begin another capture file at SIZE (64M), keep the last N" },
	[OPT_RESTORE] = { "restore", "FILE", "continue a saved machine; what the image says need not be said again" },
	[OPT_SAVE] = { "save", "FILE", "on SIGUSR2: save the machine to FILE and go on" },
	[OPT_MAC] = { "mac", "POLICY", "of a restored machine: translate (the guest keeps its address, the\nwire sees another; default), preserve, or new (the card changes, too)" },
	[OPT_IP] = { "ip", "GUEST:WIRE", "the guest keeps its IPv4 address, the wire sees another; WIRE alone:\nthe guest's is learnt; none: as the guest has it" },
	[OPT_INSTANCE] = { "instance", "ID", "derive the addresses on the wire from this text" },
	[OPT_CLOCK] = { "clock", "WHICH", "of a restored machine: continue (default) or host (its RTC is right)" },
	[OPT_CONTROL] = { "control", "PATH", "a socket to control the machine by: gannet ctl PATH --help" },
	[OPT_FORCE] = { "force", NULL, "restore although a disk changed since" },
	[OPT_NO_REBOOT] = { "no-reboot", NULL, "end instead of rebooting" },
	[OPT_NO_ACPI] = { "no-acpi", NULL, "no ACPI tables" },
	[OPT_STATUS_FD] = { "status-fd", "N", NULL }, /* gannet clone */
	[OPT_TRACE] = { "d", "LIST", "trace, e.g. int,mmu; \"help\" lists the channels" },
	[OPT_TRACE_FILE] = { "D", "FILE", "where the trace goes; default stderr" },
	[OPT_STATS] = { "stats", NULL, "counters on stderr at the end" },
	[OPT_PERF_MAP] = { "perf-map", NULL, "write /tmp/perf-PID.map, so that perf(1) names guest blocks" },
	[OPT_FIRMWARE_LOG] = { "firmware-log", "DEV", "what SeaBIOS has to say, to a DEV as of -serial" },
	[OPT_HELP] = { "help", NULL, "this text" },
	[OPT_VERSION] = { "version", NULL, "version and licence" },
	[OPT_MONITOR] = { "monitor", "none", NULL },
	[OPT_VGA] = { "vga", "std", NULL },
	[OPT_SMP] = { "smp", "1", NULL },
	[OPT_MACHINE] = { "machine", "pc", NULL },
};

static const char *const aliases[][2] = {
	{ "h", "help" }, { "M", "machine" },
};

static const char examples[] =
"Examples:\n"
"  gannet -kernel vmlinuz -initrd initrd.img -append \"console=ttyS0\" -nographic\n"
"      a Linux kernel with its serial console on this terminal; Ctrl-A x quits\n"
"  gannet -m 512 -hda disk.img -cdrom install.iso -boot d\n"
"      boot a CD, the PC's screen shown in this terminal\n"
"  gannet -hda disk.img -snapshot -nographic -no-reboot\n"
"      boot a disk and forget what it writes; end when the guest reboots\n"
"  gannet -hda disk.img --net ws://relay.example.net:8086/ --capture frames.pcapng\n"
"      a network card on a relay, and everything that passes in a file\n"
"  gannet -kernel test.elf -device isa-debug-exit,iobase=0xf4 -serial stdio -display none\n"
"      a multiboot test kernel that ends with an exit code of its own\n";

static bool is_terminal_device(const char *spec)
{
	return spec && (!strcmp(spec, "stdio") || !strncmp(spec, "stdio,", 6));
}

/* "256", "256M", "1G"; mebibytes unless said otherwise. */
static bool parse_memory(const char *text, uint64_t *bytes, struct error *err)
{
	uint64_t unit = MIB, n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9')
		end = (char *)text;
	if (end != text && *end) {
		switch (*end | 0x20) {
		case 'k': unit = KIB; break;
		case 'm': unit = MIB; break;
		case 'g': unit = GIB; break;
		case 't': unit = 1024 * GIB; break;
		default: unit = 0; break;
		}
		end++;
		if (*end && (*end | 0x20) == 'b')
			end++;
	}
	if (end == text || *end || !unit || errno) {
		error_set(err, "-m %s: not a size; write MiB, or a number with K, M or G: -m 256M", text);
		return false;
	}
	if (n > UINT64_MAX / unit || n * unit > 64 * GIB) {
		error_set(err, "-m %s: more than a 32-bit PC can map; at most 64G", text);
		return false;
	}
	if (n * unit < MIB) {
		error_set(err, "-m %s: %llu KiB of memory; a PC needs at least 1M", text,
			  n * unit / KIB);
		return false;
	}
	if (n * unit % 4096) {
		error_set(err, "-m %s: not a multiple of 4 KiB", text);
		return false;
	}
	*bytes = n * unit;
	return true;
}

/* "64M" or "64M,5" */
static bool parse_capture_size(struct gannet_config *c, const char *text, struct error *err)
{
	char *end;
	double n = strtod(text, &end);
	uint64_t unit = MIB;
	unsigned long files = 0;

	switch (*end ? *end | 0x20 : 'm') {
	case 'k': unit = KIB; break;
	case 'm': break;
	case 'g': unit = GIB; break;
	default: unit = *end == ',' ? MIB : 0; break;
	}
	if (*end && *end != ',')
		end++;
	if (*end == ',')
		files = strtoul(end + 1, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || !unit || n * unit < 64 * KIB || n > 1e6 ||
	    files > 10000) {
		error_set(err, "--capture-size %s: write SIZE or SIZE,FILES, as in 64M,5; at least 64K", text);
		return false;
	}
	c->capture_rotate = n * unit;
	c->capture_files = files;
	return true;
}

static bool parse_boot(struct options *o, const char *text, struct error *err)
{
	const char *p = text;

	while (*p) {
		size_t len = strcspn(p, ",");
		const char *order = p;
		size_t order_len = len;

		if (!strncmp(p, "menu=", 5)) {
			bool on = len == 7 && !strncmp(p + 5, "on", 2);

			if (!on && !(len == 8 && !strncmp(p + 5, "off", 3))) {
				error_set(err, "-boot %s: menu= takes on or off", text);
				return false;
			}
			o->config.boot_menu = on;
			goto next;
		}
		if (!strncmp(p, "order=", 6)) {
			order += 6;
			order_len -= 6;
		}
		if (!order_len || order_len >= sizeof(o->boot_order)) {
			error_set(err, "-boot %s: one to four letters out of a c d n", text);
			return false;
		}
		for (size_t i = 0; i < order_len; i++) {
			if (!strchr("abcdn", order[i])) {
				error_set(err, "-boot %s: '%c' is no boot device; letters are a (floppy), c (disk), d (CD), n (network)",
					  text, order[i]);
				return false;
			}
			if (memchr(order, order[i], i)) {
				error_set(err, "-boot %s: '%c' stands there twice", text, order[i]);
				return false;
			}
			o->boot_order[i] = order[i];
		}
		o->boot_order[order_len] = '\0';
		o->config.boot_order = o->boot_order;
next:
		p += len;
		if (*p)
			p++;
	}
	return true;
}

static bool parse_device(struct options *o, const char *text, struct error *err)
{
	static const char name[] = "isa-debug-exit";
	const char *p = text + strcspn(text, ",");

	if ((size_t)(p - text) != strlen(name) || strncmp(text, name, strlen(name))) {
		error_set(err, "-device %s: unknown; there are isa-debug-exit,iobase=0xf4 and ne2k_pci,netdev=ID", text);
		return false;
	}
	o->config.debug_exit = true;
	while (*p) {
		size_t len = strcspn(++p, ",");

		if (!strncmp(p, "iobase=", 7)) {
			char *end;
			unsigned long port = strtoul(p + 7, &end, 0);

			if (end != p + len || end == p + 7 || !port || port > 0xffff) {
				error_set(err, "-device %s: iobase is a port, 1 to 0xffff", text);
				return false;
			}
			o->config.debug_exit_port = port;
		} else if (strncmp(p, "iosize=", 7)) {
			error_set(err, "-device %s: unknown property '%.*s'; there is iobase=PORT",
				  text, (int)len, p);
			return false;
		}
		p += len;
	}
	return true;
}

static bool parse_display(struct options *o, const char *text, struct error *err)
{
	if (!strcmp(text, "none")) {
		o->display = DISPLAY_NONE;
	} else if (!strcmp(text, "curses")) {
		o->display = DISPLAY_TERMINAL;
	} else if (!strcmp(text, "sdl")) {
		if (!HAVE_SDL) {
			error_set(err, "-display sdl: this gannet was built without SDL; there are curses and none");
			return false;
		}
		o->display = DISPLAY_WINDOW;
	} else {
		error_set(err, "-display %s: unknown; there are curses, sdl and none", text);
		return false;
	}
	return true;
}

/* Options that only say what is so anyway. */
static bool expect(const struct option_row *row, const char *value, struct error *err)
{
	if (!strcmp(value, row->value))
		return true;
	error_set(err, "-%s %s: not available; only -%s %s is", row->name, value, row->name,
		  row->value);
	return false;
}

static bool one_of(const char *option, const char *value, const char *a, const char *b,
		   const char *c, struct error *err)
{
	if (!strcmp(value, a) || !strcmp(value, b) || (c && !strcmp(value, c)))
		return true;
	error_set(err, "%s %s: unknown; there are %s%s%s and %s", option, value, a, c ? ", " : "",
		  c ? b : "", c ? c : b);
	return false;
}

static bool parse_status_fd(struct options *o, const char *text, struct error *err)
{
	char *end;
	unsigned long fd = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || fd > INT_MAX || fcntl(fd, F_GETFD) < 0) {
		error_set(err, "--status-fd %s: not the number of an open descriptor", text);
		return false;
	}
	o->status_fd = fd;
	return true;
}

static bool add_serial(struct options *o, const char *spec, unsigned *count, struct error *err)
{
	if (*count == GANNET_SERIALS) {
		error_set(err, "-serial %s: there are %d serial ports", spec, GANNET_SERIALS);
		return false;
	}
	o->config.serial[(*count)++] = strcmp(spec, "none") ? spec : NULL;
	return true;
}

static bool apply(struct options *o, enum option_id id, const char *value, bool *nographic,
		  unsigned *serials, struct error *err)
{
	struct gannet_config *c = &o->config;

	switch (id) {
	case OPT_MEMORY: return parse_memory(value, &c->memory, err);
	case OPT_CPU:
		o->cpu_help = !strcmp(value, "help") || !strcmp(value, "?");
		c->cpu = value;
		return true;
	case OPT_ENGINE:
		if (strcmp(value, "jit") && strcmp(value, "interp")) {
			error_set(err, "--engine %s: unknown; there are jit and interp", value);
			return false;
		}
		c->engine = value;
		return true;
	case OPT_KERNEL: c->kernel = value; return true;
	case OPT_INITRD: c->initrd = value; return true;
	case OPT_APPEND: c->append = value; return true;
	case OPT_BIOS: c->bios = value; return true;
	case OPT_BOOT: return parse_boot(o, value, err);
	case OPT_HDA: case OPT_HDB: case OPT_HDC: case OPT_HDD:
		if (c->disk[id - OPT_HDA]) {
			error_set(err, "-%s %s: that drive already has %s", rows[id].name, value,
				  c->disk[id - OPT_HDA]);
			return false;
		}
		c->disk[id - OPT_HDA] = value;
		return true;
	case OPT_CDROM:
		if (c->disk[2]) {
			error_set(err, "-cdrom %s: takes the place of -hdc, which already has %s",
				  value, c->disk[2]);
			return false;
		}
		c->disk[2] = value;
		c->disk_is_cd[2] = true;
		return true;
	case OPT_FDA: c->floppy[0] = value; return true;
	case OPT_FDB: c->floppy[1] = value; return true;
	case OPT_SNAPSHOT: c->snapshot = true; return true;
	case OPT_READ_ONLY:
		for (unsigned i = 0; i < GANNET_DISKS; i++)
			c->disk_read_only[i] = true;
		return true;
	case OPT_NOGRAPHIC: *nographic = true; return true;
	case OPT_DISPLAY: return parse_display(o, value, err);
	case OPT_SERIAL: return add_serial(o, value, serials, err);
	case OPT_DEBUGCON: c->debugcon = value; return true;
	case OPT_DEVICE:
		if (!strncmp(value, "ne2k_", 5))
			return net_option_device(&o->net, value, err);
		return parse_device(o, value, err);
	case OPT_NET:
		o->net_help = !strcmp(value, "help") || !strcmp(value, "?");
		return o->net_help || net_option_url(&o->net, value, err);
	case OPT_NIC: return net_option_nic(&o->net, value, err);
	case OPT_NETDEV: return net_option_netdev(&o->net, value, err);
	case OPT_RESTORE: c->restore = value; return true;
	case OPT_SAVE: o->save = value; return true;
	case OPT_MAC:
		c->mac_policy = value;
		return one_of("--mac", value, "translate", "preserve", "new", err);
	case OPT_IP: c->ip = value; return true;
	case OPT_INSTANCE: c->instance = value; return true;
	case OPT_CLOCK:
		c->clock = value;
		return one_of("--clock", value, "continue", "host", NULL, err);
	case OPT_CONTROL: o->control = value; return true;
	case OPT_FORCE: c->restore_force = true; return true;
	case OPT_CAPTURE: c->capture = value; return true;
	case OPT_CAPTURE_SIZE: return parse_capture_size(c, value, err);
	case OPT_NO_REBOOT: c->no_reboot = true; return true;
	case OPT_NO_ACPI: c->no_acpi = true; return true;
	case OPT_STATUS_FD: return parse_status_fd(o, value, err);
	case OPT_TRACE:
		o->trace_help = !strcmp(value, "help") || !strcmp(value, "?");
		c->trace = value;
		return true;
	case OPT_TRACE_FILE: o->trace_file = value; return true;
	case OPT_STATS: o->stats = c->count = true; return true;
	case OPT_PERF_MAP: c->perf_map = true; return true;
	case OPT_FIRMWARE_LOG: c->firmware_log = value; return true;
	case OPT_HELP: o->help = true; return true;
	case OPT_VERSION: o->version = true; return true;
	case OPT_MONITOR: case OPT_VGA: case OPT_SMP: case OPT_MACHINE:
		return expect(&rows[id], value, err);
	case OPT_COUNT: break;
	}
	return true;
}

static bool may_repeat(enum option_id id)
{
	return id == OPT_SERIAL || id == OPT_DEVICE ||
	       (id >= OPT_NET && id <= OPT_NETDEV) || id >= OPT_HELP || !rows[id].value;
}

/* "-name", "--name", "--name=value". Returns OPT_COUNT if there is none. */
static enum option_id find_option(const char *word, const char **inline_value)
{
	const char *name = word + 1 + (word[1] == '-');
	size_t len = word[1] == '-' ? strcspn(name, "=") : strlen(name);

	*inline_value = name[len] ? name + len + 1 : NULL;
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++) {
		if (strlen(aliases[i][0]) == len && !strncmp(aliases[i][0], name, len)) {
			name = aliases[i][1];
			len = strlen(name);
			break;
		}
	}
	for (enum option_id id = 0; id < OPT_COUNT; id++) {
		if (strlen(rows[id].name) == len && !strncmp(rows[id].name, name, len))
			return id;
	}
	return OPT_COUNT;
}

/* What does not go together, and what follows from what was not said. */
static bool settle(struct options *o, bool nographic, unsigned serials, struct error *err)
{
	struct gannet_config *c = &o->config;
	const char *terminal_user = NULL;

	if (!c->restore && (c->mac_policy || c->clock || c->restore_force)) {
		error_set(err, "--%s without --restore: it is about restored machines",
			  c->mac_policy ? "mac" : c->clock ? "clock" : "force");
		return false;
	}
	if (!c->kernel && (c->initrd || c->append)) {
		error_set(err, "-%s without -kernel: there is nothing to pass it to",
			  c->initrd ? "initrd" : "append");
		return false;
	}
	if (c->kernel && c->bios) {
		error_set(err, "-bios with -kernel: a kernel is started without firmware; leave one out");
		return false;
	}
	if (c->snapshot && c->disk_read_only[0]) {
		error_set(err, "--read-only with -snapshot: leave one out");
		return false;
	}
	if (nographic && (o->display == DISPLAY_TERMINAL || o->display == DISPLAY_WINDOW)) {
		error_set(err, "-display %s with -nographic: leave one out",
			  o->display == DISPLAY_WINDOW ? "sdl" : "curses");
		return false;
	}
	if (nographic) {
		o->display = DISPLAY_NONE;
		if (!serials)
			c->serial[0] = "stdio";
	}
	for (unsigned i = 0; i < GANNET_SERIALS; i++) {
		if (!is_terminal_device(c->serial[i]))
			continue;
		if (terminal_user) {
			error_set(err, "-serial %s: %s already uses the terminal", c->serial[i],
				  terminal_user);
			return false;
		}
		terminal_user = "-serial stdio";
	}
	for (unsigned i = 0; i < 2; i++) {
		const char *option = i ? "--firmware-log stdio" : "-debugcon stdio";

		if (!is_terminal_device(i ? c->firmware_log : c->debugcon))
			continue;
		if (terminal_user) {
			error_set(err, "%s: %s already uses the terminal", option, terminal_user);
			return false;
		}
		terminal_user = option;
	}
	if (o->display == DISPLAY_TERMINAL && terminal_user) {
		error_set(err, "-display curses: %s already uses the terminal", terminal_user);
		return false;
	}
	if (o->display == DISPLAY_TERMINAL && (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))) {
		error_set(err, "-display curses: standard input and output are not a terminal; use -nographic or -display none");
		return false;
	}
	if (c->capture_rotate && !c->capture) {
		error_set(err, "--capture-size without --capture: there is nothing to limit");
		return false;
	}
	if (!net_options_settle(&o->net, c, err))
		return false;
	if (c->capture && !c->nics) {
		error_set(err, "--capture %s without --net: there are no frames to record", c->capture);
		return false;
	}
	if (o->display == DISPLAY_DEFAULT)
		o->display = !terminal_user && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) ?
			     DISPLAY_TERMINAL : DISPLAY_NONE;
	if (o->trace_file && !c->trace) {
		error_set(err, "-D %s without -d: there is nothing to trace", o->trace_file);
		return false;
	}
	return true;
}

bool options_parse(struct options *o, int argc, char **argv, struct error *err)
{
	const char *given[OPT_COUNT] = { NULL };
	bool nographic = false;
	unsigned serials = 0;

	memset(o, 0, sizeof(*o));
	o->status_fd = -1;
	gannet_config_init(&o->config);
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i], *value;
		enum option_id id;

		if (word[0] != '-' || !word[1]) {
			id = OPT_HDA; /* as QEMU has it: a bare word is the first disk */
			value = word;
			word = "-hda";
		} else {
			id = find_option(word, &value);
			if (id == OPT_COUNT) {
				error_set(err, "%s: unknown option; gannet --help lists them", word);
				return false;
			}
			if (value && !rows[id].value) {
				error_set(err, "%s: takes no value", word);
				return false;
			}
			if (rows[id].value && !value) {
				if (++i == argc) {
					error_set(err, "%s: needs a value: %s %s", word, word,
						  rows[id].value);
					return false;
				}
				value = argv[i];
			}
		}
		if (rows[id].value && !*value && id != OPT_APPEND) {
			error_set(err, "%s: the value is empty", word);
			return false;
		}
		if (given[id] && !may_repeat(id)) {
			error_set(err, "%s %s: already given as %s", word, value, given[id]);
			return false;
		}
		given[id] = value ? value : "";
		if (!apply(o, id, value, &nographic, &serials, err))
			return false;
	}
	if (o->help || o->version || o->cpu_help || o->trace_help || o->net_help)
		return true;
	return settle(o, nographic, serials, err);
}

void options_finish(struct options *o)
{
	net_options_finish(&o->net);
}

void options_help(FILE *out)
{
	fprintf(out, "Usage: gannet [OPTION...] [DISK]\n"
		"       gannet relay|state|clone|ctl ...\n"
		"Runs an x86 PC. The other commands: a network for many machines, state images,\n"
		"copies of one machine, orders to a running one; gannet relay --help and so on.\n\n");
	for (enum option_id id = 0; id < OPT_COUNT; id++) {
		const struct option_row *row = &rows[id];
		const char *text = row->help;
		char left[40];

		if (!text)
			continue;
		snprintf(left, sizeof(left), "%s%s%s%s", strlen(row->name) > 3 &&
			 (id == OPT_ENGINE || id == OPT_READ_ONLY || (id >= OPT_NET && id <= OPT_FORCE) || id >= OPT_STATS) ? "--" : "-", row->name,
			 row->value ? " " : "", row->value ? row->value : "");
		fprintf(out, "  %-18s ", left);
		for (; *text; text++) {
			fputc(*text, out);
			if (*text == '\n')
				fprintf(out, "  %-18s ", "");
		}
		fputc('\n', out);
	}
	fprintf(out, "\n%s", examples);
}
