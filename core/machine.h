/* A machine: one CPU, its memory and ports, its devices, its loop.
 *
 * machine_create() makes the parts every PC has and no device; the board
 * (devices/board.h) adds those; machine_run() runs until something ends it.
 */
#ifndef GANNET_CORE_MACHINE_H
#define GANNET_CORE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/device.h"
#include "core/error.h"
#include "core/trace.h"

struct cpu;
struct engine;
struct ioport_map;
struct loop;
struct memory;

enum machine_end {
	MACHINE_RUNNING,
	MACHINE_POWEROFF,     /* the guest switched itself off: exit code 0 */
	MACHINE_RESET_STOP,   /* the guest asked for a reset and no_reboot was set */
	MACHINE_TRIPLE_FAULT, /* with no_reboot: the CPU state is still there to look at */
	MACHINE_DEBUG_EXIT,   /* isa-debug-exit: exit_code holds (value << 1) | 1 */
	MACHINE_QUIT,         /* machine_quit() was called */
	MACHINE_MEMORY_LOST,  /* the image its memory is mapped from was cut short */
};

struct machine {
	struct cpu *cpu;
	struct memory *memory;
	struct ioport_map *io;
	struct loop *loop;
	struct trace trace;
	struct device *devices; /* in order of creation */
	struct engine *engine;  /* owned */
	bool no_reboot;
	bool reset_requested;   /* vCPU thread only */
	bool paused;            /* vCPU thread only; see machine_pause() */
	bool tsc_held;          /* time stands still; the guest's TSC stood at `tsc` then */
	uint64_t tsc;
	enum machine_end end;   /* vCPU thread only */
	bool quit_requested;    /* atomic: set by machine_quit() from any thread */
	bool memory_lost;       /* atomic: see machine_guard.h */
	int exit_code;
	uint64_t resets;        /* how often the machine was reset since creation */
};

struct machine_config {
	uint64_t ram_size;  /* bytes; 1 MiB to 64 GiB less what the host has */
	uint64_t rom_size;  /* bytes set aside for ROM images and video memory; 0: 32 MiB */
	const char *engine; /* "jit" or "interp" */
	const char *cpu;    /* CPU model, see cpuid.h; NULL: default */
};

struct machine *machine_create(const struct machine_config *cfg,
			       struct error *err);
void machine_destroy(struct machine *m); /* NULL is legal; destroys the devices, last made first */

/** machine_add - take over a device; sets its instance number and resets it */
void machine_add(struct machine *m, struct device *dev);

/** machine_run - run the guest in the calling thread until the machine ends */
enum machine_end machine_run(struct machine *m);

/** machine_request_reset - at the next instruction boundary: CPU and all devices */
void machine_request_reset(struct machine *m);
/** machine_end_with - the run loop returns @end soon; first caller wins */
void machine_end_with(struct machine *m, enum machine_end end, int exit_code);
/** machine_pause - from the loop's callbacks, or before machine_run(): no instruction runs,
 *  timers and the clock stand still; descriptors and posts are served */
void machine_pause(struct machine *m);
/** machine_resume - go on; thread as above */
void machine_resume(struct machine *m);
/** machine_hold_tsc - put the TSC of a paused machine back to where it stood: before it is
 *  looked at, e.g. saved */
void machine_hold_tsc(struct machine *m);
/** machine_quit - as if by Ctrl-A x; any thread */
void machine_quit(struct machine *m);

#endif
