/* libgannet: an x86 PC in a library.
 *
 * Create a machine from a configuration, run it in a thread of your choice,
 * look at why it ended, destroy it. Any number of machines can live in one
 * process, each run by its own thread. The library prints nothing and never
 * exits; what cannot be set up is explained in one line of text.
 *
 *	struct gannet_config cfg;
 *	char why[512];
 *
 *	gannet_config_init(&cfg);
 *	cfg.kernel = "vmlinuz";
 *	cfg.append = "console=ttyS0";
 *	cfg.serial[0] = "stdio";
 *	struct gannet *m = gannet_create(&cfg, why, sizeof(why));
 *	if (!m)
 *		errx(2, "%s", why);
 *	gannet_run(m);
 *	gannet_destroy(m);
 */
#ifndef GANNET_H
#define GANNET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GANNET_API __attribute__((visibility("default")))

enum { GANNET_DISKS = 4, GANNET_FLOPPIES = 2, GANNET_SERIALS = 2, GANNET_NICS = 8 };

struct gannet;

/* A network card and what it is plugged into. Zeroed: a RTL8029 with a cable that ends
 * in the air. */
struct gannet_nic {
	const char *net;        /* backend URL (gannet_backend() lists them), or NULL */
	const char *model;      /* "ne2k_pci" or "ne2k_isa"; NULL: ne2k_pci */
	const char *mac;        /* the guest's address; NULL: 52:54:00:12:34:56, counted up */
	const char *wire_mac;   /* what the wire sees, or "random"; NULL: mac if that is given,
				   else random */
	const char *ip;         /* "GUEST:WIRE" or "WIRE": the guest keeps its IPv4 address (to be
				   learnt if not said), the wire sees WIRE; "none"; NULL: as
				   saved, or none */
	const char *romfile;    /* PCI: option ROM, to boot from the network; NULL: none */
	unsigned slot;          /* PCI: 1 to 31; 0: the first free one from 5 on */
	uint16_t iobase;        /* ISA: 0: 0x300 */
	uint8_t irq;            /* ISA: 0: 5 */
};

/* What a machine is made of. All strings are borrowed for the call that takes
 * the configuration. Fill it with gannet_config_init() first. */
struct gannet_config {
	uint64_t memory;        /* bytes of RAM, 1 MiB and up; 0: 256 MiB */
	const char *cpu;        /* model; NULL: the default one */
	const char *engine;     /* "jit" or "interp"; NULL: jit if this build has it */

	const char *kernel;     /* boot this bzImage or multiboot ELF directly, or NULL */
	const char *initrd;     /* initramfs; for multiboot "FILE ARGS,FILE ARGS" */
	const char *append;     /* kernel command line */
	const char *bios;       /* firmware image; NULL: the installed SeaBIOS */
	const char *boot_order; /* letters a (floppy) c (disk) d (CD) n (network); NULL: default */
	bool boot_menu;         /* the firmware offers its boot menu */

	/* IDE drives: primary master and slave, secondary master and slave. */
	const char *disk[GANNET_DISKS];
	bool disk_is_cd[GANNET_DISKS];       /* disk NULL: a CD drive without a disc */
	bool disk_read_only[GANNET_DISKS];
	const char *floppy[GANNET_FLOPPIES];
	bool snapshot;          /* writes to disks go to a temporary overlay */

	/* Character devices: stdio, file:PATH, pty, unix:PATH[,server][,nowait],
	 * tcp:HOST:PORT[,server][,nowait], null; NULL: no such port. */
	const char *serial[GANNET_SERIALS];
	const char *debugcon;   /* what the guest writes to port 0xe9 */
	const char *firmware_log; /* what SeaBIOS has to say (port 0x402) */

	struct gannet_nic nic[GANNET_NICS];
	unsigned nics;
	const char *capture;    /* record all cards' frames: FILE.pcap, else pcapng; NULL: none */
	uint64_t capture_rotate; /* start another file at this size; 0: never */
	unsigned capture_files; /* keep this many; 0: all */

	/* Continue a saved machine. What the image says of it need not be said again; what
	 * is said and differs is refused, except where things are plugged into: net, mac
	 * policy, serial, capture, engine. memory and cpu: 0 and NULL take the image's. */
	const char *restore;    /* state image; NULL: none */
	bool restore_force;     /* although a disk is not the one that was saved */
	const char *mac_policy; /* "translate" (default): the guest keeps its address, the wire
				   sees another; "preserve": both as saved; "new": the guest's
				   card changes, too */
	const char *ip;         /* of the first card; as in struct gannet_nic, which goes before */
	const char *instance;   /* wire addresses are derived from this text; NULL: random */
	const char *clock;      /* "continue" (default): the guest's time goes on where it
				   stopped; "host": its RTC is right */

	bool debug_exit;        /* isa-debug-exit: a write ends the machine */
	uint16_t debug_exit_port; /* default 0xf4 */
	bool no_reboot;         /* a guest's reset, or triple fault, ends the machine */
	bool no_acpi;           /* no ACPI tables */

	const char *trace;      /* channels, e.g. "int,mmu", or "all"; NULL: none */
	bool count;             /* count executed instructions for gannet_stats(); costs speed */
	bool perf_map;          /* write /tmp/perf-PID.map for perf(1) */

	/* What the user should know while the machine lives (a relay is lost, a disk is
	 * full): one line. Called in the thread of gannet_create() or gannet_run(). */
	void (*notify)(void *opaque, const char *text);
	void *notify_opaque;
};

/** gannet_config_init - defaults: no disks, no serial ports, no network cards */
GANNET_API void gannet_config_init(struct gannet_config *cfg);

/**
 * gannet_create - make a machine; nothing of the guest has run yet
 * @why: on failure, one line for a person; may be NULL
 * @why_size: bytes at @why
 * Returns NULL on failure, and then nothing was created or changed.
 */
GANNET_API struct gannet *gannet_create(const struct gannet_config *cfg, char *why,
					size_t why_size);
/** gannet_destroy - NULL is legal; not while gannet_run() runs */
GANNET_API void gannet_destroy(struct gannet *g);

/** gannet_trace_to - where traces go from now on; stderr before. @out: borrowed */
GANNET_API void gannet_trace_to(struct gannet *g, FILE *out);

enum gannet_end {
	GANNET_POWEROFF,     /* the guest switched itself off */
	GANNET_RESET,        /* the guest asked for a reset, and no_reboot was set */
	GANNET_TRIPLE_FAULT, /* with no_reboot: see gannet_cpu_dump() */
	GANNET_DEBUG_EXIT,   /* a write to isa-debug-exit: see gannet_exit_code() */
	GANNET_QUIT,         /* gannet_quit(), or Ctrl-A x on the terminal */
	GANNET_MEMORY_LOST,  /* the state image it was restored from was cut short meanwhile */
};

/** gannet_run - run the guest in the calling thread until the machine ends */
GANNET_API enum gannet_end gannet_run(struct gannet *g);
/** gannet_quit - make gannet_run() return; any thread; async-signal-safe */
GANNET_API void gannet_quit(struct gannet *g);
/** gannet_call - run @fn in the thread of gannet_run() soon, between two instructions of the
 *  guest; any thread. False if too many calls are waiting. */
GANNET_API bool gannet_call(struct gannet *g, void (*fn)(void *opaque), void *opaque);
/** gannet_exit_code - after GANNET_DEBUG_EXIT: (value << 1) | 1, as isa-debug-exit has it */
GANNET_API int gannet_exit_code(const struct gannet *g);

/** gannet_cpu_dump - the registers as text; returns its length. Not while the guest runs. */
GANNET_API size_t gannet_cpu_dump(const struct gannet *g, char *buf, size_t size);
/** gannet_stats - counters of the machine and its engine as text; not while the guest runs */
GANNET_API void gannet_stats(const struct gannet *g, FILE *out);
/** gannet_serial_info - where a serial port can be reached: a pty's path, a port; "" if
 *  there is nothing to say. Valid as long as the machine. */
GANNET_API const char *gannet_serial_info(const struct gannet *g, unsigned n);
/** gannet_terminal - raw or as it was before, for a program that is stopped or dies
 *  while a character device has its terminal. Async-signal-safe. */
GANNET_API void gannet_terminal(struct gannet *g, bool raw);

/* ---- state images ---- */

struct gannet_save_options {
	bool compress;          /* with zstd: for shipping; such an image is not mapped but read */
	/* Now and then while it takes long; bytes. NULL: nobody looks. */
	void (*progress)(void *opaque, uint64_t done, uint64_t total);
	void *opaque;
};

/**
 * gannet_save - write the whole machine to a state image
 * From a callback, or while gannet_run() does not run; the machine can go on afterwards.
 * @o: NULL for the defaults. What was at @path is replaced when all is on the medium,
 * and untouched if anything fails.
 */
GANNET_API bool gannet_save(struct gannet *g, const char *path,
			    const struct gannet_save_options *o, char *why, size_t why_size);

/* ---- looking at a running machine, and taking hold of it ----
 *
 * All of these are for callbacks, or for while gannet_run() does not run.
 */

/** gannet_pause - no instruction runs and the guest's clock stands still, but callbacks
 *  come; before gannet_run(): it begins so */
GANNET_API void gannet_pause(struct gannet *g);
/** gannet_resume - go on from there */
GANNET_API void gannet_resume(struct gannet *g);
/** gannet_reset - as by the reset button */
GANNET_API void gannet_reset(struct gannet *g);
/** gannet_power_button - the guest's ACPI gets an event; what it makes of it is its affair */
GANNET_API void gannet_power_button(struct gannet *g);

struct gannet_status {
	bool paused;
	uint64_t memory;        /* bytes */
	const char *cpu, *engine;
	unsigned nics;
	int64_t clock;          /* ns of the guest's time since power-on */
	uint64_t resets;
};

GANNET_API void gannet_status(const struct gannet *g, struct gannet_status *s);

/* A descriptor that is watched: any number of them. */
struct gannet_watch;
enum { GANNET_READ = 1, GANNET_WRITE = 2, GANNET_HANGUP = 4 };

/**
 * gannet_watch_open - call @ready with GANNET_* bits when @fd is ready
 * @events: GANNET_READ | GANNET_WRITE; 0: not now. The descriptor stays the caller's.
 * NULL if it cannot be watched.
 */
GANNET_API struct gannet_watch *gannet_watch_open(struct gannet *g, int fd, unsigned events,
						  void (*ready)(void *opaque, unsigned events),
						  void *opaque);
GANNET_API void gannet_watch_set(struct gannet_watch *w, unsigned events);
/** gannet_watch_close - before gannet_destroy(); NULL is legal */
GANNET_API void gannet_watch_close(struct gannet_watch *w);

/** gannet_serial_tap - be shown what the guest writes to serial port @n. @seen is called in
 *  the midst of an instruction: it must not call back. NULL: no more. */
GANNET_API bool gannet_serial_tap(struct gannet *g, unsigned n,
				  void (*seen)(void *opaque, const uint8_t *buf, size_t len),
				  void *opaque);
/** gannet_serial_input - as if it had come in on serial port @n; returns how many bytes
 *  there was room for */
GANNET_API size_t gannet_serial_input(struct gannet *g, unsigned n, const void *buf, size_t len);

/* ---- a display ---- */

struct gannet_cell {
	uint8_t ch;   /* code page 437 */
	uint8_t attr; /* bits 0-3 foreground, 4-7 background */
};

struct gannet_screen {
	bool text;              /* false: a graphics mode, or blank: no cells */
	unsigned cols, rows;
	int cursor_col, cursor_row; /* -1: no cursor */
	const struct gannet_cell *cells; /* cols a row; valid during the call */
	uint32_t palette[16];   /* 0xRRGGBB */
};

/**
 * gannet_set_display - be shown the screen
 * @show: called in the thread of gannet_run(), about 30 times a second while the
 *        guest runs; must not block
 */
GANNET_API void gannet_set_display(struct gannet *g,
				   void (*show)(void *opaque, const struct gannet_screen *s),
				   void *opaque);
/** gannet_screen - the same, at once: from a callback, or while the guest does not run;
 *  valid until the next call. False: no display, or out of memory. */
GANNET_API bool gannet_screen(struct gannet *g, struct gannet_screen *s);
/** gannet_watch_fd - call @ready in the thread of gannet_run() whenever @fd can be read.
 *  One descriptor a machine; it stays the caller's. False if it cannot be watched. */
GANNET_API bool gannet_watch_fd(struct gannet *g, int fd, void (*ready)(void *opaque),
				void *opaque);
/** gannet_key - press or release a key of the PS/2 keyboard, from a callback above
 *  @key: Linux input event code (KEY_*). False if the keyboard's buffer is full. */
GANNET_API bool gannet_key(struct gannet *g, unsigned key, bool down);

/** gannet_mouse - move the PS/2 mouse by @dx right, @dy down, @dz wheel towards the user,
 *  with @buttons held (1 left, 2 right, 4 middle); from a callback above */
GANNET_API void gannet_mouse(struct gannet *g, int dx, int dy, int dz, unsigned buttons);

struct gannet_picture {
	unsigned width, height;
	const uint32_t *pixels; /* 0x00RRGGBB, width a row; valid until the next call */
};

/** gannet_picture - what a monitor would show, text and graphics alike; from a callback
 *  above, or while the guest does not run. False: no display, or out of memory. */
GANNET_API bool gannet_picture(struct gannet *g, struct gannet_picture *p);

/* ---- network cards as a program's own ---- */

/* Where a card's frames go instead of a backend's. Called in the thread of gannet_run(). */
struct gannet_net_peer {
	/* A frame from the guest: Ethernet without FCS, 14 bytes and up, borrowed. */
	void (*send)(void *opaque, const uint8_t *frame, size_t len);
	/* Optional: another backend takes its place, or the machine is destroyed. Nothing
	 * may be injected after it has returned. */
	void (*close)(void *opaque);
};

/**
 * gannet_net_attach - be the backend of card @n, in place of the one it has
 * @peer: copied. While gannet_run() does not run, or from a callback, but not from notify
 * or a peer's own: gannet_call() from there.
 * False with @why set if there is no such card, or no memory.
 */
GANNET_API bool gannet_net_attach(struct gannet *g, unsigned n,
				  const struct gannet_net_peer *peer, void *opaque, char *why,
				  size_t why_size);
/**
 * gannet_net_inject - a frame from the wire to card @n, that has a peer attached
 * From any one thread at a time. The frame is copied and waits (1 MiB of them) until
 * the guest takes it. False: no peer, too long (9216), or too many are waiting.
 */
GANNET_API bool gannet_net_inject(struct gannet *g, unsigned n, const uint8_t *frame, size_t len);
/** gannet_net_open - another backend for card @n, by URL; as gannet_net_attach() otherwise */
GANNET_API bool gannet_net_open(struct gannet *g, unsigned n, const char *url, char *why,
				size_t why_size);
/** gannet_net_link - plug (@up) or pull the cable of card @n; thread as above */
GANNET_API void gannet_net_link(struct gannet *g, unsigned n, bool up);
/** gannet_net_ip - translate card @n's IPv4 address; @rule as of struct gannet_nic, not NULL */
GANNET_API bool gannet_net_ip(struct gannet *g, unsigned n, const char *rule, char *why,
			      size_t why_size);
/** gannet_net_announce - tell card @n's network the guest's addresses (gratuitous ARP, IPv6
 *  neighbour advertisement), as is done after a restore; false if there is no such card */
GANNET_API bool gannet_net_announce(struct gannet *g, unsigned n);
/** gannet_net_mac - the address the guest has programmed, or (@wire) the wire's */
GANNET_API bool gannet_net_mac(const struct gannet *g, unsigned n, bool wire, uint8_t mac[6]);
/**
 * gannet_net_counters - go through everything that card @n and its path count
 * @each: @part is "port", "ne2k_pci", "translate", a backend's name; names that begin
 *        with "drop." count frames that went no further
 * False if there is no such card.
 */
GANNET_API bool gannet_net_counters(const struct gannet *g, unsigned n,
				    void (*each)(void *opaque, const char *part,
						 const char *name, uint64_t value),
				    void *opaque);

struct gannet_net_info {
	const char *model;      /* "ne2k_pci" */
	uint8_t guest_mac[6], wire_mac[6];
	bool link, carrier;     /* the cable; the wire behind it */
	const char *url;        /* of the backend, without secrets; "" if it came by no URL */
	const char *backend;    /* its name; "": none */
	char status[256];       /* what it says of itself; "" if nothing */
};

/** gannet_net_info - false if there is no such card; strings are valid until it changes */
GANNET_API bool gannet_net_info(const struct gannet *g, unsigned n, struct gannet_net_info *info);
/** gannet_net_stage - name of the @i-th stage of card @n, from the guest on; NULL past the last */
GANNET_API const char *gannet_net_stage(const struct gannet *g, unsigned n, unsigned i,
					bool *enabled);
/** gannet_net_enable - frames go through a stage, or around it */
GANNET_API bool gannet_net_enable(struct gannet *g, unsigned n, const char *stage, bool enabled,
				  char *why, size_t why_size);
/** gannet_capture - record all cards' frames in @path from now on, as of config.capture, in
 *  place of any capture before; NULL: stop. What failed changed nothing. */
GANNET_API bool gannet_capture(struct gannet *g, const char *path, char *why, size_t why_size);

/* ---- what there is ---- */

/** gannet_backend - scheme of the @n-th network backend, NULL past the last;
 *  @usage and @help may be NULL */
GANNET_API const char *gannet_backend(unsigned n, const char **usage, const char **help);
/** gannet_version - "0.1.0" */
GANNET_API const char *gannet_version(void);
/** gannet_cpu_model - name of the @n-th CPU model, NULL past the last; @description may be NULL */
GANNET_API const char *gannet_cpu_model(unsigned n, const char **description);
/** gannet_trace_channel - name of the @n-th trace channel, NULL past the last */
GANNET_API const char *gannet_trace_channel(unsigned n);

#ifdef __cplusplus
}
#endif

#endif
