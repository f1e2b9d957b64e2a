/* VGA with the Bochs display interface, as PCI device 1234:1111.
 *
 * Registers: IBM PS/2 Hardware Interface Technical Reference, "Video
 * Subsystem"; FreeVGA for what IBM left out. Display interface: Bochs's
 * "VBE display interface" document: an index at port 0x1ce, 16-bit data at
 * 0x1cf, a linear frame buffer in BAR 0, and the same registers in BAR 2 at
 * 0x500, with the VGA's ports 0x3c0-0x3df at 0x400.
 *
 * The picture is not drawn as the beam goes: vga_render.c draws a whole frame
 * from the registers when somebody wants to see one. Only input status 1 knows
 * where the beam would be, from the machine's clock.
 */
#include <stdlib.h>

#include "core/ioport.h"
#include "core/loop.h"
#include "core/state.h"
#include "devices/vga_priv.h"

enum {
	VGA_SLOT = 2,
	VGA_FIRST_PORT = 0x3b0,
	VGA_PORTS = 0x30,
	VBE_FIRST_PORT = 0x1ce,
	VBE_PORTS = 3,
	VRAM_MAX = 16 << 20,
	VRAM_MIN = 1 << 20,
	MMIO_SIZE = 0x1000,
	MMIO_VGA = 0x400,
	MMIO_VBE = 0x500,
	VBE_ID_LATEST = 0xb0c5,
};

enum {
	STATUS1_NO_DISPLAY = 1 << 0,
	STATUS1_RETRACE = 1 << 3,
};

/* ---- where the beam is ---- */

static void timing_update(struct vga *v)
{
	unsigned dots = (v->crtc[CRTC_HTOTAL] + 5) * (v->seq[SEQ_CLOCKING] & CLOCKING_8_DOTS ? 8 : 9);
	unsigned lines = vga_overflow(v, v->crtc[CRTC_VTOTAL], 0, 5) + 2;
	unsigned start = vga_overflow(v, v->crtc[CRTC_VRETRACE_START], 2, 7);
	unsigned len = (v->crtc[CRTC_VRETRACE_END] - start) & 15;
	int64_t hz = v->misc & MISC_OUT_CLOCK ? 28322000 : 25175000;

	if (v->seq[SEQ_CLOCKING] & CLOCKING_HALF)
		hz /= 2;
	v->line_ns = dots * NS_PER_S / hz;
	/* Modes of the display interface, and registers nobody has set yet: 60 Hz. */
	if (vga_vbe_on(v) || lines < 100 || start >= lines || v->line_ns < 5000) {
		lines = 525;
		start = 490;
		len = 2;
		v->line_ns = NS_PER_S / 60 / 525;
	}
	v->lines_total = lines;
	v->retrace_first = start;
	v->retrace_last = MIN(start + MAX(len, 1) - 1, lines - 1);
	v->frame_ns = v->line_ns * lines;
}

static uint8_t status1_read(struct vga *v)
{
	int64_t in_frame = loop_now(v->machine->loop) % v->frame_ns;
	uint32_t line = in_frame / v->line_ns;
	uint8_t status = 0;

	v->attr_data = false;
	/* A fifth of each line is horizontal retrace. */
	if (line >= vga_lines(v) || in_frame % v->line_ns * 5 > v->line_ns * 4)
		status |= STATUS1_NO_DISPLAY;
	if (line >= v->retrace_first && line <= v->retrace_last)
		status |= STATUS1_RETRACE | STATUS1_NO_DISPLAY;
	return status;
}

/* ---- indexed registers ---- */

static void seq_write(struct vga *v, uint8_t value)
{
	static const uint8_t mask[SEQ_REGS] = { 0x03, 0x3d, 0x0f, 0x3f, 0x0e };

	if (v->seq_index >= SEQ_REGS)
		return;
	v->seq[v->seq_index] = value & mask[v->seq_index];
	if (v->seq_index == SEQ_CLOCKING)
		timing_update(v);
	vga_memory_map(v);
}

static void gc_write(struct vga *v, uint8_t value)
{
	static const uint8_t mask[GC_REGS] = { 0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff };

	if (v->gc_index >= GC_REGS)
		return;
	v->gc[v->gc_index] = value & mask[v->gc_index];
	vga_memory_map(v);
}

static void crtc_write(struct vga *v, uint8_t value)
{
	unsigned i = v->crtc_index;

	if (i >= CRTC_REGS)
		return;
	if (i <= CRTC_OVERFLOW && (v->crtc[CRTC_VRETRACE_END] & 0x80)) {
		/* Write protected, but for bit 8 of the line compare. */
		if (i == CRTC_OVERFLOW)
			v->crtc[i] = (v->crtc[i] & ~0x10) | (value & 0x10);
		return;
	}
	v->crtc[i] = value;
	timing_update(v);
}

static void attr_write(struct vga *v, uint8_t value)
{
	static const uint8_t mask[ATTR_REGS - ATTR_MODE] = { 0xef, 0xff, 0x3f, 0x0f, 0x0f };
	unsigned i = v->attr_index & 0x1f;

	v->attr_data = !v->attr_data;
	if (v->attr_data) {
		v->attr_index = value & 0x3f;
		return;
	}
	if (i < ATTR_MODE)
		v->attr[i] = value & 0x3f;
	else if (i < ATTR_REGS)
		v->attr[i] = value & mask[i - ATTR_MODE];
}

/* ---- palette DAC ---- */

static uint8_t dac_width(const struct vga *v)
{
	return v->vbe[VBE_ENABLE] & VBE_8BIT_DAC ? 0xff : 0x3f;
}

static uint8_t dac_data_read(struct vga *v)
{
	uint8_t value = v->dac[v->dac_read * 3 + v->dac_part];

	if (++v->dac_part == 3) {
		v->dac_part = 0;
		v->dac_read++;
	}
	return value;
}

static void dac_data_write(struct vga *v, uint8_t value)
{
	uint8_t *entry = v->dac + v->dac_write * 3;

	value &= dac_width(v);
	if (v->dac_part < 2) {
		v->dac_temp[v->dac_part++] = value;
		return;
	}
	/* All three at once, as the real one does. */
	entry[0] = v->dac_temp[0];
	entry[1] = v->dac_temp[1];
	entry[2] = value;
	v->dac_part = 0;
	v->dac_write++;
}

/* ---- ports ---- */

/* 0x3b0-0x3bb in mono, 0x3d0-0x3db in colour: the others do not answer. */
static bool crtc_port(const struct vga *v, uint16_t port)
{
	return (port & 0xff0) == (v->misc & MISC_OUT_COLOR ? 0x3d0 : 0x3b0);
}

static uint8_t crtc_port_read(struct vga *v, uint16_t port)
{
	switch (port & 15) {
	case 0x4:
		return v->crtc_index;
	case 0x5:
		return v->crtc_index < CRTC_REGS ? v->crtc[v->crtc_index] : 0;
	case 0xa:
		return status1_read(v);
	default:
		return 0xff;
	}
}

static uint8_t attr_read(const struct vga *v)
{
	unsigned i = v->attr_index & 0x1f;

	return i < ATTR_REGS ? v->attr[i] : 0;
}

static uint32_t vga_read(void *opaque, uint16_t port, unsigned size)
{
	struct vga *v = opaque;

	if ((port & 0xff0) != 0x3c0)
		return crtc_port(v, port) ? crtc_port_read(v, port) : 0xff;
	switch (port) {
	case 0x3c0:
		return v->attr_data ? attr_read(v) : v->attr_index;
	case 0x3c1:
		return attr_read(v);
	case 0x3c2:
		return 0x10; /* switch sense: a colour monitor */
	case 0x3c4:
		return v->seq_index;
	case 0x3c5:
		return v->seq_index < SEQ_REGS ? v->seq[v->seq_index] : 0;
	case 0x3c6:
		return v->dac_mask;
	case 0x3c7:
		return v->dac_state;
	case 0x3c8:
		return v->dac_write;
	case 0x3c9:
		return dac_data_read(v);
	case 0x3ca:
		return v->feature;
	case 0x3cc:
		return v->misc;
	case 0x3ce:
		return v->gc_index;
	case 0x3cf:
		return v->gc_index < GC_REGS ? v->gc[v->gc_index] : 0;
	default:
		return 0xff;
	}
}

static void crtc_port_write(struct vga *v, uint16_t port, uint8_t value)
{
	switch (port & 15) {
	case 0x4:
		v->crtc_index = value & 0x3f;
		break;
	case 0x5:
		crtc_write(v, value);
		break;
	case 0xa:
		v->feature = value & 0x0b;
		break;
	}
}

static void vga_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct vga *v = opaque;

	if ((port & 0xff0) != 0x3c0) {
		if (crtc_port(v, port))
			crtc_port_write(v, port, value);
		return;
	}
	switch (port) {
	case 0x3c0:
	case 0x3c1:
		attr_write(v, value);
		break;
	case 0x3c2:
		v->misc = value & 0xef;
		timing_update(v);
		vga_memory_map(v);
		break;
	case 0x3c4:
		v->seq_index = value & 7;
		break;
	case 0x3c5:
		seq_write(v, value);
		break;
	case 0x3c6:
		v->dac_mask = value;
		break;
	case 0x3c7:
		v->dac_read = value;
		v->dac_part = 0;
		v->dac_state = 3;
		break;
	case 0x3c8:
		v->dac_write = value;
		v->dac_part = 0;
		v->dac_state = 0;
		break;
	case 0x3c9:
		dac_data_write(v, value);
		break;
	case 0x3ce:
		v->gc_index = value & 15;
		break;
	case 0x3cf:
		gc_write(v, value);
		break;
	}
}

static const struct ioport_ops vga_ports = { .read = vga_read, .write = vga_write, .sizes = 1 };

/* ---- Bochs display interface ---- */

static unsigned vbe_line_bytes(const struct vga *v)
{
	unsigned bpp = v->vbe[VBE_BPP];

	return bpp == 4 ? v->vbe[VBE_VIRT_WIDTH] / 8 * 4 : v->vbe[VBE_VIRT_WIDTH] * ((bpp + 7) / 8);
}

/* Make the mode one that fits the memory: set-up code reads back what it got. */
static void vbe_limits(struct vga *v)
{
	uint16_t *r = v->vbe;

	r[VBE_XRES] = MIN(MAX(r[VBE_XRES] & ~7, 8), VBE_MAX_XRES);
	r[VBE_YRES] = MIN(MAX(r[VBE_YRES], 1), VBE_MAX_YRES);
	r[VBE_VIRT_WIDTH] = MAX(r[VBE_VIRT_WIDTH] & ~7, r[VBE_XRES]);
	if ((uint64_t)vbe_line_bytes(v) * r[VBE_YRES] > v->vram_size)
		r[VBE_VIRT_WIDTH] = r[VBE_XRES];
	if ((uint64_t)vbe_line_bytes(v) * r[VBE_YRES] > v->vram_size)
		r[VBE_YRES] = MAX(v->vram_size / vbe_line_bytes(v), 1);
	r[VBE_VIRT_HEIGHT] = MIN(v->vram_size / vbe_line_bytes(v), UINT16_MAX);
}

static bool vbe_bpp_ok(unsigned bpp)
{
	return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

static void vbe_enable_write(struct vga *v, uint16_t value)
{
	bool was_on = vga_vbe_on(v);
	uint8_t old_width = dac_width(v);

	v->vbe[VBE_ENABLE] = value & (VBE_ENABLED | VBE_GETCAPS | VBE_8BIT_DAC | VBE_LFB | VBE_NOCLEAR);
	if (old_width != dac_width(v)) {
		/* What was set stays the colour it was. */
		for (unsigned i = 0; i < sizeof(v->dac); i++)
			v->dac[i] = old_width == 0x3f ? v->dac[i] << 2 : v->dac[i] >> 2;
	}
	if (vga_vbe_on(v) && !was_on) {
		v->vbe[VBE_BANK] = 0;
		v->vbe[VBE_X_OFFSET] = v->vbe[VBE_Y_OFFSET] = 0;
		v->vbe[VBE_VIRT_WIDTH] = v->vbe[VBE_XRES];
		vbe_limits(v);
		if (!(value & VBE_NOCLEAR))
			memset(v->vram, 0, (size_t)vbe_line_bytes(v) * v->vbe[VBE_YRES]);
		/* Banked access is linear, or planar with 4 bits a pixel. */
		v->seq[SEQ_MAP_MASK] = 15;
		v->seq[SEQ_MEMORY_MODE] |= MEMORY_EXTENDED | MEMORY_SEQUENTIAL;
		v->seq[SEQ_MEMORY_MODE] &= ~MEMORY_CHAIN4;
		if (v->vbe[VBE_BPP] != 4)
			v->seq[SEQ_MEMORY_MODE] |= MEMORY_CHAIN4;
		v->gc[GC_MISC] = 1 << MISC_MAP_SHIFT | MISC_GRAPHICS;
		v->gc[GC_MODE] = 0;
	} else if (!vga_vbe_on(v)) {
		v->vbe[VBE_BANK] = 0;
	}
	timing_update(v);
	vga_memory_map(v);
}

static uint16_t vbe_read(const struct vga *v, unsigned i)
{
	if (v->vbe[VBE_ENABLE] & VBE_GETCAPS) {
		switch (i) {
		case VBE_XRES:
			return VBE_MAX_XRES;
		case VBE_YRES:
			return VBE_MAX_YRES;
		case VBE_BPP:
			return 32;
		}
	}
	if (i == VBE_MEMORY_64K)
		return v->vram_size >> 16;
	return i < VBE_REGS ? v->vbe[i] : 0;
}

static void vbe_write(struct vga *v, unsigned i, uint16_t value)
{
	switch (i) {
	case VBE_ID:
		if (value >= 0xb0c0 && value <= VBE_ID_LATEST)
			v->vbe[i] = value;
		break;
	case VBE_XRES:
	case VBE_YRES:
		v->vbe[i] = value;
		if (vga_vbe_on(v)) {
			/* Meant to be set before; some do not. */
			if (i == VBE_XRES)
				v->vbe[VBE_VIRT_WIDTH] = value;
			vbe_limits(v);
		}
		break;
	case VBE_BPP:
		if (!value)
			value = 8;
		if (!vga_vbe_on(v) && vbe_bpp_ok(value))
			v->vbe[i] = value;
		break;
	case VBE_ENABLE:
		vbe_enable_write(v, value);
		break;
	case VBE_BANK:
		if (vga_vbe_on(v) && value < v->vram_size >> 16) {
			v->vbe[i] = value;
			vga_memory_map(v);
		}
		break;
	case VBE_VIRT_WIDTH:
		if (vga_vbe_on(v)) {
			v->vbe[i] = value;
			vbe_limits(v);
		}
		break;
	case VBE_X_OFFSET:
	case VBE_Y_OFFSET:
		v->vbe[i] = value; /* checked when drawn: the other may follow */
		break;
	}
}

static uint32_t vbe_port_read(void *opaque, uint16_t port, unsigned size)
{
	struct vga *v = opaque;

	return port == VBE_FIRST_PORT ? v->vbe_index : vbe_read(v, v->vbe_index);
}

static void vbe_port_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct vga *v = opaque;

	if (port == VBE_FIRST_PORT)
		v->vbe_index = value;
	else
		vbe_write(v, v->vbe_index, value);
}

static const struct ioport_ops vbe_ports = {
	.read = vbe_port_read, .write = vbe_port_write, .sizes = 1 | 2,
};

/* ---- BAR 2: the same registers in memory ---- */

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
	struct vga *v = opaque;
	uint64_t value = 0;

	if (offset >= MMIO_VBE && offset < MMIO_VBE + VBE_REGS * 2)
		return vbe_read(v, (offset - MMIO_VBE) / 2);
	if (offset < MMIO_VGA || offset + size > MMIO_VGA + 0x20)
		return 0;
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)vga_read(v, 0x3c0 + offset - MMIO_VGA + i, 1) << (8 * i);
	return value;
}

static void mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	struct vga *v = opaque;

	if (offset >= MMIO_VBE && offset < MMIO_VBE + VBE_REGS * 2) {
		vbe_write(v, (offset - MMIO_VBE) / 2, value);
		return;
	}
	if (offset < MMIO_VGA || offset + size > MMIO_VGA + 0x20)
		return;
	for (unsigned i = 0; i < size; i++)
		vga_write(v, 0x3c0 + offset - MMIO_VGA + i, value >> (8 * i) & 0xff, 1);
}

static const struct mmio_ops vga_mmio = { .read = mmio_read, .write = mmio_write };

/* ---- what a video BIOS would leave ---- */

static void find_font(struct vga *v, const uint8_t *rom, size_t size)
{
	/* Character 1 of the 8x16 font every VGA BIOS has: the smiling face. */
	static const uint8_t face[16] = {
		0x00, 0x00, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e,
	};
	const uint8_t *p = rom && size >= 256 * 16 ? memmem(rom, size, face, sizeof(face)) : NULL;

	if (!p || p - rom < 16 || (size_t)(p - rom) + 255 * 16 > size)
		return;
	v->font = malloc(256 * 16);
	if (v->font)
		memcpy(v->font, p - 16, 256 * 16);
}

void vga_boot_text(struct device *dev)
{
	/* IBM's mode 3, 720x400, as its BIOS sets it. */
	static const uint8_t seq[SEQ_REGS] = { 0x03, 0x00, 0x03, 0x00, 0x02 };
	static const uint8_t gc[GC_REGS] = { 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x0f, 0xff };
	static const uint8_t attr[ATTR_REGS] = {
		0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b,
		0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00,
	};
	static const uint8_t crtc[CRTC_REGS] = {
		0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00,
		0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
	};
	struct vga *v = container_of(dev, struct vga, pci.base);

	vbe_enable_write(v, 0);
	v->misc = 0x67;
	memcpy(v->seq, seq, sizeof(seq));
	memcpy(v->gc, gc, sizeof(gc));
	memcpy(v->attr, attr, sizeof(attr));
	memcpy(v->crtc, crtc, sizeof(crtc));
	v->attr_index = ATTR_INDEX_PAS;
	v->dac_mask = 0xff;
	for (unsigned i = 0; i < 64; i++) {
		/* EGA's colours: two bits each of red, green and blue. */
		for (unsigned c = 0; c < 3; c++)
			v->dac[i * 3 + c] = (i >> (2 - c) & 1) * 0x2a + (i >> (5 - c) & 1) * 0x15;
	}
	for (unsigned i = 0; i < 0x8000; i += 2) {
		v->vram[i * 4] = ' ';
		v->vram[i * 4 + 1] = 0x07;
	}
	for (unsigned i = 0; v->font && i < 256 * 16; i++)
		v->vram[(i / 16 * 32 + i % 16) * 4 + 2] = v->font[i];
	timing_update(v);
	vga_memory_map(v);
}

/* ---- life ---- */

static void vga_reset(struct device *dev)
{
	struct vga *v = container_of(dev, struct vga, pci.base);

	pci_device_reset(&v->pci);
	v->misc = MISC_OUT_COLOR | MISC_OUT_RAM;
	memset(v->seq, 0, sizeof(v->seq));
	memset(v->gc, 0, sizeof(v->gc));
	memset(v->crtc, 0, sizeof(v->crtc));
	memset(v->attr, 0, sizeof(v->attr));
	memset(v->dac, 0, sizeof(v->dac));
	v->seq_index = v->gc_index = v->crtc_index = v->attr_index = 0;
	v->attr_data = false;
	v->feature = 0;
	v->dac_mask = 0xff;
	v->dac_read = v->dac_write = v->dac_part = v->dac_state = 0;
	v->latch = 0;
	memset(v->vbe, 0, sizeof(v->vbe));
	v->vbe_index = 0;
	v->vbe[VBE_ID] = VBE_ID_LATEST;
	v->vbe[VBE_BPP] = 8;
	timing_update(v);
	vga_memory_map(v);
}

static void vga_destroy(struct device *dev)
{
	struct vga *v = container_of(dev, struct vga, pci.base);

	pci_device_finish(&v->pci);
	if (v->direct)
		memory_remove(v->machine->memory, v->direct);
	if (v->window)
		memory_remove(v->machine->memory, v->window);
	if (v->ports)
		ioport_remove(v->machine->io, v->ports);
	if (v->vbe_ports)
		ioport_remove(v->machine->io, v->vbe_ports);
	free(v->font);
	free(v);
}

static void vga_loaded(struct device *dev)
{
	struct vga *v = container_of(dev, struct vga, pci.base);

	pci_device_loaded(&v->pci);
	if (!vbe_bpp_ok(v->vbe[VBE_BPP]))
		v->vbe[VBE_BPP] = 8;
	if (vga_vbe_on(v))
		vbe_limits(v);
	if (v->vbe[VBE_BANK] >= v->vram_size >> 16)
		v->vbe[VBE_BANK] = 0;
	timing_update(v);
	vga_memory_map(v);
}

static const struct state_field vga_fields[] = {
	PCI_STATE_FIELDS(struct vga, pci),
	STATE_UINT_MASKED(struct vga, misc, 0xef),
	STATE_UINT_MASKED(struct vga, seq_index, 7),
	STATE_BYTES(struct vga, seq),
	STATE_UINT_MASKED(struct vga, gc_index, 15),
	STATE_BYTES(struct vga, gc),
	STATE_UINT_MASKED(struct vga, crtc_index, 0x3f),
	STATE_BYTES(struct vga, crtc),
	STATE_UINT_MASKED(struct vga, attr_index, 0x3f),
	STATE_BYTES(struct vga, attr),
	STATE_BOOL(struct vga, attr_data),
	STATE_UINT(struct vga, feature),
	STATE_UINT(struct vga, dac_mask),
	STATE_UINT(struct vga, dac_read),
	STATE_UINT(struct vga, dac_write),
	STATE_UINT_MAX(struct vga, dac_part, 2),
	STATE_UINT_MAX(struct vga, dac_state, 3),
	STATE_BYTES(struct vga, dac_temp),
	STATE_BYTES(struct vga, dac),
	STATE_UINT(struct vga, latch),
	STATE_UINT(struct vga, vbe_index),
	STATE_ARRAY(struct vga, vbe),
	STATE_END,
};

static const struct device_ops vga_ops = {
	.name = "vga",
	.reset = vga_reset,
	.destroy = vga_destroy,
	.fields = vga_fields, .size = sizeof(struct vga),
	.loaded = vga_loaded,
};

static bool add_vram(struct vga *v, struct error *err)
{
	struct memory *mem = v->machine->memory;

	for (v->vram_size = VRAM_MAX; v->vram_size >= VRAM_MIN; v->vram_size /= 2) {
		v->vram_offset = memory_rom_alloc(mem, v->vram_size);
		if (v->vram_offset == UINT64_MAX)
			continue;
		v->vram = memory_host(mem) + v->vram_offset;
		return true;
	}
	error_set(err, "VGA: no room for its memory; the machine needs a larger ROM area");
	return false;
}

static bool add_bars(struct vga *v, const void *rom, size_t rom_size, struct error *err)
{
	if (!pci_bar_ram(&v->pci, 0, v->vram_size, v->vram_offset, "vga-lfb") ||
	    !pci_bar_mem(&v->pci, 2, MMIO_SIZE, &vga_mmio, v, "vga-mmio")) {
		error_set(err, "VGA: out of memory for its BARs");
		return false;
	}
	/* The ports every VGA has count as I/O space without a BAR; firmware
	 * looks whether they can be switched on. */
	v->pci.wmask[PCI_COMMAND] |= PCI_COMMAND_IO | PCI_COMMAND_MEMORY;
	return !rom || pci_bar_rom(&v->pci, rom, rom_size, "vga-rom", err);
}

struct device *vga_create(struct machine *m, struct pci_bus *bus,
			  const void *rom, size_t rom_size, struct error *err)
{
	static const struct pci_ids ids = {
		.vendor = 0x1234, .device = 0x1111, .class = 0x0300, .revision = 2,
		.subsystem_vendor = 0x1af4, .subsystem = 0x1100,
	};
	struct vga *v = calloc(1, sizeof(*v));

	if (!v) {
		error_set(err, "out of memory for the VGA");
		return NULL;
	}
	v->pci.base.ops = &vga_ops;
	v->machine = m;
	if (!pci_device_init(&v->pci, m, bus, PCI_DEVFN(VGA_SLOT, 0), &ids, NULL, err) ||
	    !add_vram(v, err) || !add_bars(v, rom, rom_size, err))
		goto fail;
	find_font(v, rom, rom_size);
	v->window = memory_add_mmio(m->memory, 0xa0000, 0x20000, &vga_memory_ops, v,
				    VGA_WINDOW_PRIORITY, "vga");
	v->ports = ioport_add(m->io, VGA_FIRST_PORT, VGA_PORTS, &vga_ports, v, "vga");
	v->vbe_ports = ioport_add(m->io, VBE_FIRST_PORT, VBE_PORTS, &vbe_ports, v, "vga-vbe");
	if (!v->window || !v->ports || !v->vbe_ports) {
		error_set(err, "VGA: cannot claim its ports and memory");
		goto fail;
	}
	machine_add(m, &v->pci.base);
	return &v->pci.base;
fail:
	vga_destroy(&v->pci.base);
	return NULL;
}
