/* Direct boot: a kernel put into memory and started without firmware.
 *
 * Two protocols: Linux bzImages (boot_linux.c) and multiboot 1 kernels
 * (boot_multiboot.c). Each turns its files into a plan: what stands where in
 * memory and what the registers hold. A device that is made last carries the
 * plan out at every reset, after setting the board up as firmware would
 * (boot_firmware.c), so that a guest's reboot starts the kernel again.
 */
#ifndef GANNET_DEVICES_BOOT_H
#define GANNET_DEVICES_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/machine.h"

struct board;
struct boot_plan;

struct boot_config {
	const char *kernel; /* bzImage or multiboot ELF */
	const char *initrd; /* NULL; an initramfs; multiboot: "FILE ARGS,FILE ARGS" */
	const char *append; /* NULL or the kernel's command line */
};

/**
 * boot_load - read the files and decide where everything goes
 * @ram_size: of the machine that will boot them
 * The files are read once, here, and nothing else is touched. Returns NULL with
 * @err set ("-kernel FILE: ..." or "-initrd FILE: ...") if one cannot be used.
 */
struct boot_plan *boot_load(const struct boot_config *cfg, uint64_t ram_size,
			    struct error *err);
void boot_plan_destroy(struct boot_plan *plan); /* NULL is legal */

/**
 * boot_create - add the device that boots @plan, which it owns from here on
 * @board: with all its devices made: the kernel starts as soon as the machine runs
 */
bool boot_create(struct machine *m, struct board *board, struct boot_plan *plan,
		 struct error *err);

/**
 * boot_create_later - the same device for a machine whose memory is restored: it does
 *                     nothing until the guest reboots, and reads the files then
 * @cfg: copied
 * @failed: told in one line if they cannot be read then; the machine has ended
 */
bool boot_create_later(struct machine *m, struct board *board, const struct boot_config *cfg,
		       void (*failed)(void *opaque, const char *why), void *opaque,
		       struct error *err);

#endif
