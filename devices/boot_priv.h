/* What the files of direct boot share. */
#ifndef GANNET_DEVICES_BOOT_PRIV_H
#define GANNET_DEVICES_BOOT_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include "devices/boot.h"

/* Low memory as direct boot uses it. The first page is the BIOS's: interrupt
 * vectors and data area; a kernel of either protocol finds its GDT next to it. */
enum {
	BOOT_GDT = 0x1000,
	BOOT_PARAMS = 0x10000,  /* Linux: struct boot_params */
	BOOT_CMDLINE = 0x20000, /* Linux: the command line */
	BOOT_EBDA = 0x9fc00,    /* end of conventional memory */
	BOOT_BIOS = 0xe0000,    /* to 1 MiB: tables */
	BOOT_ONE_MIB = 0x100000,
	BOOT_CS = 0x10, BOOT_DS = 0x18, /* selectors, as the Linux protocol names them */
};

enum { BOOT_BLOBS = 64, BOOT_RANGES = 8 };

/* Bytes that go to physical memory, zeroes up to @memory_size after them. */
struct boot_blob {
	uint64_t paddr;
	uint64_t memory_size; /* at least data_size */
	const uint8_t *data;  /* inside one of the plan's files or allocations */
	size_t data_size;
};

enum boot_range_type { BOOT_RANGE_RAM = 1, BOOT_RANGE_RESERVED = 2, BOOT_RANGE_ACPI = 3 };

/* One line of the map a kernel is given; the numbers are E820's. */
struct boot_range {
	uint64_t start, size;
	enum boot_range_type type;
};

struct boot_plan {
	struct boot_blob blobs[BOOT_BLOBS];
	unsigned blob_count;
	void *owned[BOOT_BLOBS]; /* freed with the plan */
	unsigned owned_count;
	struct boot_range ranges[BOOT_RANGES];
	unsigned range_count;
	uint64_t low_top;   /* end of usable RAM below the PCI hole */
	uint8_t *rsdp;      /* where in a blob the ACPI root pointer (64 bits) goes; NULL: nowhere */
	uint32_t entry;     /* EIP */
	uint32_t eax, ebx, esi;
};

/** boot_read_file - the whole file; owned by the plan. Directories, empty and
 *  unreadable files and those over @max bytes are refused. */
const uint8_t *boot_read_file(struct boot_plan *plan, const char *path, uint64_t max,
			      size_t *size, struct error *err);
/** boot_alloc - zeroed memory owned by the plan; NULL when there is none */
void *boot_alloc(struct boot_plan *plan, size_t size, struct error *err);
/** boot_place - add a blob; refused outside of RAM, over another blob, over the
 *  first 8 KiB or the BIOS area. @what names it in the message. */
bool boot_place(struct boot_plan *plan, uint64_t paddr, const void *data, size_t data_size,
		uint64_t memory_size, const char *what, struct error *err);

/** boot_is_multiboot - a multiboot 1 header in the first 8 KiB */
bool boot_is_multiboot(const uint8_t *file, size_t size);
bool boot_plan_multiboot(struct boot_plan *plan, const struct boot_config *cfg,
			 const uint8_t *file, size_t size, struct error *err);
bool boot_plan_linux(struct boot_plan *plan, const struct boot_config *cfg,
		     const uint8_t *file, size_t size, struct error *err);

/** boot_firmware_setup - leave the board as firmware leaves it: PCI and chipset
 *  registers, interrupt controllers, text mode, BIOS data area */
void boot_firmware_setup(struct machine *m, struct board *board);

#endif
