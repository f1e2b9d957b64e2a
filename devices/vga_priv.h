/* What the VGA's files share: registers, memory, and who draws. */
#ifndef GANNET_DEVICES_VGA_PRIV_H
#define GANNET_DEVICES_VGA_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "core/util.h"
#include "devices/pci.h"
#include "devices/vga.h"

/* Registers by index, with the names of IBM's manual. */
enum {
	SEQ_RESET, SEQ_CLOCKING, SEQ_MAP_MASK, SEQ_CHAR_MAP, SEQ_MEMORY_MODE,
	SEQ_REGS,
};

enum {
	CLOCKING_8_DOTS = 1 << 0,
	CLOCKING_HALF = 1 << 3,  /* dots twice as wide */
	CLOCKING_OFF = 1 << 5,   /* screen off */
	MEMORY_EXTENDED = 1 << 1,
	MEMORY_SEQUENTIAL = 1 << 2, /* 0: odd/even */
	MEMORY_CHAIN4 = 1 << 3,
};

enum {
	GC_SET_RESET, GC_ENABLE_SET_RESET, GC_COLOR_COMPARE, GC_ROTATE, GC_READ_MAP,
	GC_MODE, GC_MISC, GC_COLOR_DONT_CARE, GC_BIT_MASK,
	GC_REGS,
};

enum {
	MODE_WRITE = 3,
	MODE_READ1 = 1 << 3,
	MODE_ODD_EVEN = 1 << 4,
	MODE_INTERLEAVE = 1 << 5, /* CGA's two bits a pixel */
	MODE_SHIFT256 = 1 << 6,
	MISC_GRAPHICS = 1 << 0,
	MISC_MAP_SHIFT = 2,
};

enum {
	CRTC_HTOTAL = 0x00, CRTC_HDISP_END = 0x01, CRTC_VTOTAL = 0x06, CRTC_OVERFLOW = 0x07,
	CRTC_PRESET_ROW = 0x08, CRTC_MAX_SCAN = 0x09, CRTC_CURSOR_START = 0x0a,
	CRTC_CURSOR_END = 0x0b, CRTC_START_HIGH = 0x0c, CRTC_START_LOW = 0x0d,
	CRTC_CURSOR_HIGH = 0x0e, CRTC_CURSOR_LOW = 0x0f, CRTC_VRETRACE_START = 0x10,
	CRTC_VRETRACE_END = 0x11, CRTC_VDISP_END = 0x12, CRTC_OFFSET = 0x13,
	CRTC_UNDERLINE = 0x14, CRTC_MODE = 0x17, CRTC_LINE_COMPARE = 0x18,
	CRTC_REGS = 0x19,
};

enum {
	ATTR_MODE = 0x10, ATTR_OVERSCAN, ATTR_PLANE_ENABLE, ATTR_PEL_PAN, ATTR_COLOR_SELECT,
	ATTR_REGS,
	ATTR_MODE_GRAPHICS = 1 << 0,
	ATTR_MODE_LINE_GRAPHICS = 1 << 2,
	ATTR_MODE_BLINK = 1 << 3,
	ATTR_MODE_PAN_SPLIT = 1 << 5,
	ATTR_MODE_256 = 1 << 6,
	ATTR_MODE_P54 = 1 << 7,
	ATTR_INDEX_PAS = 1 << 5, /* in the index register: palette feeds the screen */
};

enum {
	MISC_OUT_COLOR = 1 << 0,
	MISC_OUT_RAM = 1 << 1,
	MISC_OUT_CLOCK = 3 << 2,
	MISC_OUT_PAGE = 1 << 5,
};

/* Bochs display interface. */
enum {
	VBE_ID, VBE_XRES, VBE_YRES, VBE_BPP, VBE_ENABLE, VBE_BANK, VBE_VIRT_WIDTH,
	VBE_VIRT_HEIGHT, VBE_X_OFFSET, VBE_Y_OFFSET, VBE_MEMORY_64K,
	VBE_REGS,
	VBE_MAX_XRES = 4096,
	VBE_MAX_YRES = 2160,
	VBE_ENABLED = 1 << 0,
	VBE_GETCAPS = 1 << 1,
	VBE_8BIT_DAC = 1 << 5,
	VBE_LFB = 1 << 6,
	VBE_NOCLEAR = 1 << 7,
};

/* Above RAM, below BARs and SMRAM. */
enum { VGA_WINDOW_PRIORITY = 8, VGA_DIRECT_PRIORITY = 9 };

struct vga {
	struct pci_device pci;
	struct machine *machine; /* borrowed */
	struct ioport_range *ports, *vbe_ports;
	struct memory_region *window; /* 0xa0000-0xbffff, the planar logic */
	struct memory_region *direct; /* 64 KiB at 0xa0000 straight to memory, or NULL */
	uint64_t direct_offset;       /* ... which part of it */
	uint8_t *vram;                /* byte of plane p at offset o: [o * 4 + p] */
	uint64_t vram_offset;         /* in the machine's memory */
	uint32_t vram_size;
	uint8_t *font;                /* 256 x 16 bytes found in the ROM, or NULL; owned */

	uint8_t misc;
	uint8_t seq_index, seq[SEQ_REGS];
	uint8_t gc_index, gc[GC_REGS];
	uint8_t crtc_index, crtc[CRTC_REGS];
	uint8_t attr_index, attr[ATTR_REGS]; /* index with ATTR_INDEX_PAS */
	bool attr_data;               /* flip-flop of 0x3c0: data comes next */
	uint8_t feature;
	uint8_t dac_mask;
	uint8_t dac_read, dac_write;  /* indices */
	uint8_t dac_part;             /* 0-2: red, green, blue comes next */
	uint8_t dac_state;            /* 0: writing, 3: reading */
	uint8_t dac_temp[2];
	uint8_t dac[256 * 3];
	uint32_t latch;
	uint16_t vbe_index, vbe[VBE_REGS];

	/* Derived: where the beam is, for input status 1. */
	int64_t frame_ns, line_ns;
	uint32_t lines_total, retrace_first, retrace_last;
};

static inline bool vga_vbe_on(const struct vga *v)
{
	return v->vbe[VBE_ENABLE] & VBE_ENABLED;
}

static inline bool vga_chain4(const struct vga *v)
{
	return v->seq[SEQ_MEMORY_MODE] & MEMORY_CHAIN4;
}

/* Offsets within a plane: 64 KiB in a plain VGA. */
static inline uint32_t vga_plane_mask(const struct vga *v)
{
	return (vga_vbe_on(v) ? v->vram_size / 4 : 0x10000) - 1;
}

static inline unsigned vga_overflow(const struct vga *v, unsigned low, unsigned bit8, unsigned bit9)
{
	uint8_t o = v->crtc[CRTC_OVERFLOW];

	return low | (o >> bit8 & 1) << 8 | (o >> bit9 & 1) << 9;
}

static inline unsigned vga_lines(const struct vga *v)
{
	return vga_overflow(v, v->crtc[CRTC_VDISP_END], 1, 6) + 1;
}

/* vga_memory.c: the CPU's view */
extern const struct mmio_ops vga_memory_ops;
/** vga_memory_map - choose between the planar logic and direct memory */
void vga_memory_map(struct vga *v);

/* vga_render.c */
/** vga_color - colour 0-15 of text and planar modes through palette and DAC */
uint32_t vga_color(const struct vga *v, uint8_t index);
bool vga_blank(const struct vga *v);

#endif
