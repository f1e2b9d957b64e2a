/* The guest's physical memory: RAM, ROM, device windows, holes.
 *
 * RAM is one memfd mapped once, so that pieces of it can be mapped again
 * elsewhere (mirror windows, copy-on-write restore). A physical address is
 * resolved through a flat sorted list of segments that is rebuilt whenever a
 * region is added, removed, moved or changes kind (PAM, SMRAM, BARs); regions
 * with a higher priority hide those below. Holes read all ones and ignore
 * writes (traced under "mmio").
 *
 * RAM offsets are not physical addresses: RAM above the PCI hole continues at
 * 4 GiB. A "RAM page" is an index into the memfd in units of 4 KiB, and is what
 * page flags and translated blocks are keyed by, so that aliases agree.
 * ROM has RAM pages too (after the guest's RAM), and is executable.
 */
#ifndef GANNET_CORE_MEMORY_H
#define GANNET_CORE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/trace.h"

#define GUEST_PAGE_SHIFT 12
#define GUEST_PAGE_SIZE 4096u
#define MEMORY_NO_PAGE UINT32_MAX

enum memory_kind {
	MEMORY_RAM,  /* reads and writes go to host memory */
	MEMORY_ROM,  /* reads from host memory, writes ignored */
	MEMORY_MMIO, /* both go to ops */
	MEMORY_ROMD, /* reads from host memory, writes go to ops (flash, PAM read-only) */
};

struct mmio_ops {
	/* @offset from the start of the region; @size 1, 2, 4 or 8, naturally
	 * aligned or not as the guest made it. Bytes past the region never reach
	 * a handler. */
	uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
	void (*write)(void *opaque, uint64_t offset, uint64_t value, unsigned size);
};

/* Flags of a RAM page. */
enum {
	PAGE_CODE = 1,  /* translated code was made from it: writes must be reported */
	PAGE_DIRTY = 2, /* written since the flag was cleared (display) */
	PAGE_WATCH_DIRTY = 4, /* first write after clearing must take the slow path */
};

struct memory;
struct memory_region; /* a range of physical addresses; owned by the memory */

/**
 * memory_create - @ram_size bytes of guest RAM (multiple of 4 KiB, 1 MiB and up)
 *                 plus @rom_size bytes kept aside for ROM images (multiple of 4 KiB)
 * Maps nothing at any physical address: the board does, with memory_add_ram().
 */
struct memory *memory_create(uint64_t ram_size, uint64_t rom_size,
			     struct trace *trace, struct error *err);
void memory_destroy(struct memory *mem);

uint64_t memory_ram_size(const struct memory *mem);
uint8_t *memory_host(struct memory *mem);  /* start of the mapping: RAM, then ROM */
int memory_fd(const struct memory *mem);

/**
 * memory_add_ram - map bytes @ram_offset.. of the memfd at @paddr as RAM or ROM
 * @priority: higher hides lower. All arguments multiples of 4 KiB.
 */
struct memory_region *memory_add_ram(struct memory *mem, uint64_t paddr,
				     uint64_t size, uint64_t ram_offset,
				     enum memory_kind kind, int priority,
				     const char *name);
struct memory_region *memory_add_mmio(struct memory *mem, uint64_t paddr,
				      uint64_t size, const struct mmio_ops *ops,
				      void *opaque, int priority,
				      const char *name);
void memory_remove(struct memory *mem, struct memory_region *region);
/** memory_move - change where a region stands; any size of change, NULL region is legal */
void memory_move(struct memory *mem, struct memory_region *region, uint64_t paddr);
void memory_enable(struct memory *mem, struct memory_region *region, bool on);
void memory_set_kind(struct memory *mem, struct memory_region *region,
		     enum memory_kind kind);
/** memory_set_ops - who gets the writes of a MEMORY_ROMD region */
void memory_set_ops(struct memory *mem, struct memory_region *region,
		    const struct mmio_ops *ops, void *opaque);
/** memory_rom_alloc - the next @size bytes of the ROM area as a RAM offset; UINT64_MAX if full */
uint64_t memory_rom_alloc(struct memory *mem, uint64_t size);

/**
 * memory_map_image - show the content of a file instead of what RAM and ROM area hold
 * @fd: borrowed; bytes @offset.. (page aligned) of it are the whole memory, copy-on-write:
 *      pages are read when they are first touched, and writes stay in this process
 * memory_fd() no longer has the content after this. For a machine that has not run yet.
 */
bool memory_map_image(struct memory *mem, int fd, uint64_t offset, struct error *err);
/**
 * memory_used - call @run for all stretches of RAM pages that may hold anything but zeros
 * Pages of a mapped image that were not touched since are left out: they are still
 * what the image says.
 */
bool memory_used(struct memory *mem, void (*run)(void *opaque, uint64_t first, uint64_t pages),
		 void *opaque, struct error *err);
/** memory_clear - all of RAM and ROM area becomes zero, and takes no memory of the host */
bool memory_clear(struct memory *mem, struct error *err);
/** memory_total - bytes of RAM and ROM area together */
uint64_t memory_total(const struct memory *mem);

/** memory_begin/commit - group changes; the list is rebuilt and listeners told once */
void memory_begin(struct memory *mem);
void memory_commit(struct memory *mem);

/* Called after the map changed (the CPU flushes its TLB), and before bytes of
 * a PAGE_CODE page change (the recompiler drops blocks). */
struct memory_listener {
	void (*map_changed)(void *opaque);
	void (*code_written)(void *opaque, uint32_t ram_page, unsigned offset,
			     unsigned len);
	void *opaque;
};
void memory_set_listener(struct memory *mem, const struct memory_listener *l);

void memory_set_a20(struct memory *mem, bool on); /* off: address bit 20 reads as 0 */
bool memory_a20(const struct memory *mem);

/* What stands at a physical page, for filling a TLB entry. */
struct memory_view {
	enum memory_kind kind;
	bool hole;         /* nothing there: MMIO that reads all ones */
	uint8_t *host;     /* start of the page; NULL for MMIO */
	uint32_t ram_page; /* MEMORY_NO_PAGE for MMIO */
};
/** memory_view - look up the page that holds @paddr (A20 applied) */
void memory_view(struct memory *mem, uint64_t paddr, struct memory_view *view);

/** memory_page_flags - the flag byte of each RAM page; indexed by RAM page */
uint8_t *memory_page_flags(struct memory *mem);
uint32_t memory_page_count(const struct memory *mem);

/* Single accesses as a CPU makes them: @size 1..8; may cross pages. */
uint64_t memory_read(struct memory *mem, uint64_t paddr, unsigned size);
void memory_write(struct memory *mem, uint64_t paddr, uint64_t value, unsigned size);

/* Bulk accesses as DMA makes them. Holes and MMIO are handled a byte at a time. */
void memory_read_bytes(struct memory *mem, uint64_t paddr, void *buf, size_t len);
void memory_write_bytes(struct memory *mem, uint64_t paddr, const void *buf, size_t len);

/** memory_touch - RAM bytes are about to be written by the host itself: report
 *  code pages and set dirty flags as memory_write() would. Within one page. */
void memory_touch(struct memory *mem, uint32_t ram_page, unsigned offset, unsigned len);

#endif
