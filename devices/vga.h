/* A VGA with the Bochs display interface: PCI device 1234:1111. */
#ifndef GANNET_DEVICES_VGA_H
#define GANNET_DEVICES_VGA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/device.h"
#include "core/error.h"

struct machine;
struct pci_bus;

/**
 * vga_create - at slot 2 of @bus, ports 0x3b0-0x3df and 0x1ce-0x1cf, memory 0xa0000-0xbffff
 * @rom: bytes of the video BIOS, copied; NULL: none
 */
struct device *vga_create(struct machine *m, struct pci_bus *bus,
			  const void *rom, size_t rom_size, struct error *err);

/** vga_boot_text - leave the card as a video BIOS does: 80x25 colour text, an
 *  empty screen, the font of the ROM if one is found in it. For boots without firmware. */
void vga_boot_text(struct device *dev);

/* What a front end reads. vCPU thread only. */

enum { VGA_TEXT_MAX_COLS = 256, VGA_TEXT_MAX_ROWS = 128 };

struct vga_cell {
	uint8_t ch;   /* code page 437 in practice: an index into the guest's font */
	uint8_t attr; /* bits 0-3 foreground, 4-7 background (7: blink if `blink`) */
};

struct vga_text {
	unsigned cols, rows;
	int cursor_col, cursor_row; /* -1 while it is off or outside the screen */
	bool blink;                 /* attribute bit 7 blinks instead of brightening */
	uint32_t palette[16];       /* 0xRRGGBB of each attribute colour */
	struct vga_cell cell[VGA_TEXT_MAX_ROWS * VGA_TEXT_MAX_COLS]; /* cols a row */
};

/** vga_text - what is on the screen in text mode; false in graphics modes or when blank */
bool vga_text(struct device *dev, struct vga_text *text);

/* A picture; zeroed before first use. The caller frees `pixel` with free(). */
struct vga_image {
	unsigned width, height;
	uint32_t *pixel;  /* 0x00RRGGBB, width a row */
	size_t capacity;  /* pixels allocated */
};

/** vga_render - draw what a monitor would show, any mode; false if out of memory.
 *  A blanked screen is black at the size of the mode. */
bool vga_render(struct device *dev, struct vga_image *img);

#endif
