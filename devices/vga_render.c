/* What a monitor on the VGA would show, a whole frame at a time.
 *
 * IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem": the CRTC
 * counts characters and lines, each character is four bytes from the four
 * planes, and the sequencer, graphics and attribute controllers say what they
 * mean. One pass over the lines of the frame serves text, CGA, EGA and VGA
 * modes alike; linear modes of the display interface are simply copied.
 *
 * Cursor and blinking text are always shown: a picture has no time in it.
 */
#include <stdlib.h>

#include "devices/vga_priv.h"

enum { MAX_DOTS = 4096 };

/* Where the beam stands, in terms of what is fetched. */
struct scan {
	uint32_t row_start; /* character address at the left edge */
	unsigned row_line;  /* line within the row */
	unsigned pan;       /* dots to skip at the left edge */
};

/* ---- colours ---- */

static uint32_t dac_color(const struct vga *v, uint8_t index)
{
	const uint8_t *c = v->dac + (index & v->dac_mask) * 3;

	if (v->vbe[VBE_ENABLE] & VBE_8BIT_DAC)
		return (uint32_t)c[0] << 16 | c[1] << 8 | c[2];
	return (uint32_t)(c[0] << 2 | c[0] >> 4) << 16 | (c[1] << 2 | c[1] >> 4) << 8 |
	       (c[2] << 2 | c[2] >> 4);
}

uint32_t vga_color(const struct vga *v, uint8_t index)
{
	uint8_t c = v->attr[index & v->attr[ATTR_PLANE_ENABLE] & 15];
	uint8_t select = v->attr[ATTR_COLOR_SELECT];

	if (v->attr[ATTR_MODE] & ATTR_MODE_P54)
		c = (c & 0x0f) | (select & 3) << 4;
	return dac_color(v, c | (select >> 2 & 3) << 6);
}

bool vga_blank(const struct vga *v)
{
	if (vga_vbe_on(v))
		return false;
	return (v->seq[SEQ_CLOCKING] & CLOCKING_OFF) || !(v->attr_index & ATTR_INDEX_PAS) ||
	       !(v->crtc[CRTC_MODE] & 0x80);
}

static bool is_graphics(const struct vga *v)
{
	return (v->gc[GC_MISC] & MISC_GRAPHICS) || (v->attr[ATTR_MODE] & ATTR_MODE_GRAPHICS);
}

/* ---- addresses ---- */

/* Character counter to offset in the planes: byte, word and doubleword mode,
 * and the row bits that CGA and Hercules modes put in between. */
static uint32_t plane_offset(const struct vga *v, uint32_t ma, unsigned row_line)
{
	uint8_t mode = v->crtc[CRTC_MODE];
	uint32_t a = ma;

	if (vga_vbe_on(v))
		return a & vga_plane_mask(v);
	if (v->crtc[CRTC_UNDERLINE] & 0x40) {
		/* Chain 4 is stored densely here, see vga_memory.c. */
		if (!vga_chain4(v))
			a = ma << 2 | (ma >> 14 & 3);
	} else if (!(mode & 0x40)) {
		a = ma << 1 | (ma >> (mode & 0x20 ? 15 : 13) & 1);
	}
	if (!(mode & 1))
		a = (a & ~(1u << 13)) | (row_line & 1) << 13;
	if (!(mode & 2))
		a = (a & ~(1u << 14)) | (row_line >> 1 & 1) << 14;
	return a & vga_plane_mask(v);
}

static const uint8_t *planes_at(const struct vga *v, uint32_t ma, unsigned row_line)
{
	return v->vram + plane_offset(v, ma, row_line) * 4;
}

static uint32_t start_address(const struct vga *v)
{
	return v->crtc[CRTC_START_HIGH] << 8 | v->crtc[CRTC_START_LOW];
}

static uint32_t cursor_address(const struct vga *v)
{
	return v->crtc[CRTC_CURSOR_HIGH] << 8 | v->crtc[CRTC_CURSOR_LOW];
}

static unsigned columns(const struct vga *v)
{
	return v->crtc[CRTC_HDISP_END] + 1;
}

static unsigned row_height(const struct vga *v)
{
	return (v->crtc[CRTC_MAX_SCAN] & 31) + 1;
}

static unsigned line_compare(const struct vga *v)
{
	return v->crtc[CRTC_LINE_COMPARE] | (v->crtc[CRTC_OVERFLOW] >> 4 & 1) << 8 |
	       (v->crtc[CRTC_MAX_SCAN] >> 6 & 1) << 9;
}

/* ---- one character clock's worth of dots, as palette indices ---- */

static const uint8_t *font_line(const struct vga *v, uint8_t attr, uint8_t ch, unsigned line)
{
	uint8_t map = v->seq[SEQ_CHAR_MAP];
	unsigned a = (map >> 2 & 3) * 2 + (map >> 5 & 1);
	unsigned b = (map & 3) * 2 + (map >> 4 & 1);
	unsigned font = attr & 8 ? a : b;

	return v->vram + (font * 0x2000 + ch * 32 + (line & 31)) * 4 + 2;
}

static bool cursor_at(const struct vga *v, uint32_t ma, unsigned line)
{
	uint8_t start = v->crtc[CRTC_CURSOR_START];

	return ma == cursor_address(v) && !(start & 0x20) && line >= (start & 31) &&
	       line <= (v->crtc[CRTC_CURSOR_END] & 31);
}

static unsigned text_dots(const struct vga *v, uint32_t ma, unsigned line, uint8_t *out)
{
	const uint8_t *cell = planes_at(v, ma, line);
	uint8_t ch = cell[0], attr = cell[1], bits = *font_line(v, attr, ch, line);
	uint8_t fg = attr & 15, bg = attr >> 4;
	unsigned width = v->seq[SEQ_CLOCKING] & CLOCKING_8_DOTS ? 8 : 9;
	uint8_t ninth = bg;

	if (v->attr[ATTR_MODE] & ATTR_MODE_BLINK)
		bg &= 7;
	/* Monochrome attributes underline with foreground 1. */
	if ((attr & 7) == 1 && line == (v->crtc[CRTC_UNDERLINE] & 31u) && !(v->misc & MISC_OUT_COLOR))
		bits = 0xff;
	if (cursor_at(v, ma, line))
		bits = 0xff;
	ninth = bg;
	if (bits == 0xff && cursor_at(v, ma, line))
		ninth = fg;
	else if ((v->attr[ATTR_MODE] & ATTR_MODE_LINE_GRAPHICS) && ch >= 0xc0 && ch <= 0xdf)
		ninth = bits & 1 ? fg : bg;
	for (unsigned i = 0; i < 8; i++)
		out[i] = bits & (0x80 >> i) ? fg : bg;
	out[8] = ninth;
	return width;
}

static unsigned planar_dots(const struct vga *v, uint32_t ma, unsigned line, uint8_t *out)
{
	const uint8_t *p = planes_at(v, ma, line);

	if (v->gc[GC_MODE] & MODE_INTERLEAVE) {
		/* Planes 0 and 2 make the first four dots, 1 and 3 the others. */
		for (unsigned i = 0; i < 8; i++) {
			unsigned shift = 6 - 2 * (i & 3), odd = i >> 2;

			out[i] = (p[odd] >> shift & 3) | (p[odd + 2] >> shift & 3) << 2;
		}
		return 8;
	}
	for (unsigned i = 0; i < 8; i++) {
		unsigned s = 7 - i;

		out[i] = (p[0] >> s & 1) | (p[1] >> s & 1) << 1 | (p[2] >> s & 1) << 2 |
			 (p[3] >> s & 1) << 3;
	}
	return 8;
}

/* Eight bits a dot, each two clocks wide. */
static unsigned dots256(const struct vga *v, uint32_t ma, unsigned line, uint8_t *out)
{
	const uint8_t *p = planes_at(v, ma, line);

	for (unsigned i = 0; i < 8; i++)
		out[i] = p[i / 2];
	return 8;
}

/* ---- lines and frames ---- */

static void draw_line(const struct vga *v, const struct scan *s, const uint32_t color[256],
		      uint32_t *out, unsigned width)
{
	uint8_t dots[MAX_DOTS + 32];
	bool graphics = is_graphics(v), wide = v->seq[SEQ_CLOCKING] & CLOCKING_HALF;
	bool shift256 = v->gc[GC_MODE] & MODE_SHIFT256;
	unsigned n = 0, scale = wide ? 2 : 1;

	/* One character more than is shown, for panning. */
	for (unsigned c = 0; n < width / scale + s->pan && n < MAX_DOTS; c++) {
		uint32_t ma = s->row_start + c;

		if (!graphics)
			n += text_dots(v, ma, s->row_line, dots + n);
		else if (shift256)
			n += dots256(v, ma, s->row_line, dots + n);
		else
			n += planar_dots(v, ma, s->row_line, dots + n);
	}
	for (unsigned x = 0; x < width; x++) {
		unsigned i = x / scale + s->pan;

		out[x] = i < n ? color[dots[i]] : 0;
	}
}

static unsigned pan_dots(const struct vga *v)
{
	unsigned pan = v->attr[ATTR_PEL_PAN] & 15;

	if (is_graphics(v))
		return v->gc[GC_MODE] & MODE_SHIFT256 ? pan & 6 : pan & 7;
	if (v->seq[SEQ_CLOCKING] & CLOCKING_8_DOTS)
		return pan & 7;
	return pan >= 8 ? 0 : pan + 1; /* nine dots: 8 means none */
}

static void next_line(const struct vga *v, struct scan *s, unsigned y)
{
	if (y == line_compare(v)) {
		/* Split screen: the rest shows memory from its start. */
		s->row_start = 0;
		s->row_line = 0;
		if (v->attr[ATTR_MODE] & ATTR_MODE_PAN_SPLIT)
			s->pan = 0;
		return;
	}
	if ((v->crtc[CRTC_MAX_SCAN] & 0x80) && !(y & 1))
		return; /* each line is shown twice */
	if (++s->row_line < row_height(v))
		return;
	s->row_line = 0;
	s->row_start += v->crtc[CRTC_OFFSET] * 2;
}

static void draw_frame(const struct vga *v, uint32_t *out, unsigned width, unsigned height)
{
	bool direct = is_graphics(v) && (v->gc[GC_MODE] & MODE_SHIFT256);
	struct scan s = {
		.row_start = start_address(v) + (v->crtc[CRTC_PRESET_ROW] >> 5 & 3),
		.row_line = v->crtc[CRTC_PRESET_ROW] & 31,
		.pan = pan_dots(v),
	};
	uint32_t color[256];

	if (vga_vbe_on(v))
		s = (struct scan){ .row_start = v->vbe[VBE_Y_OFFSET] * (v->vbe[VBE_VIRT_WIDTH] / 8u) +
						v->vbe[VBE_X_OFFSET] / 8u };
	for (unsigned i = 0; i < 256; i++)
		color[i] = direct ? dac_color(v, i) : vga_color(v, i);
	for (unsigned y = 0; y < height; y++) {
		draw_line(v, &s, color, out + (size_t)y * width, width);
		if (vga_vbe_on(v))
			s.row_start += v->vbe[VBE_VIRT_WIDTH] / 8;
		else
			next_line(v, &s, y);
	}
}

/* ---- the display interface's linear modes ---- */

static uint32_t widen(unsigned value, unsigned max)
{
	return value * 255 / max;
}

static void linear_row(const uint8_t *p, unsigned bpp, const uint32_t color[256], uint32_t *out,
		       unsigned width)
{
	switch (bpp) {
	case 8:
		for (unsigned x = 0; x < width; x++)
			out[x] = color[p[x]];
		break;
	case 15:
		for (unsigned x = 0; x < width; x++) {
			unsigned w = load_le16(p + 2 * x);

			out[x] = widen(w >> 10 & 31, 31) << 16 | widen(w >> 5 & 31, 31) << 8 |
				 widen(w & 31, 31);
		}
		break;
	case 16:
		for (unsigned x = 0; x < width; x++) {
			unsigned w = load_le16(p + 2 * x);

			out[x] = widen(w >> 11, 31) << 16 | widen(w >> 5 & 63, 63) << 8 |
				 widen(w & 31, 31);
		}
		break;
	case 24:
		for (unsigned x = 0; x < width; x++)
			out[x] = p[3 * x] | p[3 * x + 1] << 8 | (uint32_t)p[3 * x + 2] << 16;
		break;
	default:
		for (unsigned x = 0; x < width; x++)
			out[x] = load_le32(p + 4 * x) & 0xffffff;
	}
}

static void draw_linear(const struct vga *v, uint32_t *out, unsigned width, unsigned height)
{
	unsigned bpp = v->vbe[VBE_BPP], bytes = (bpp + 7) / 8;
	size_t line = (size_t)v->vbe[VBE_VIRT_WIDTH] * bytes;
	size_t at = v->vbe[VBE_Y_OFFSET] * line + (size_t)v->vbe[VBE_X_OFFSET] * bytes;
	uint32_t color[256];

	for (unsigned i = 0; i < 256; i++)
		color[i] = dac_color(v, i);
	for (unsigned y = 0; y < height; y++, at += line, out += width) {
		size_t room = at < v->vram_size ? (v->vram_size - at) / bytes : 0;
		unsigned n = MIN((size_t)width, room);

		if (n)
			linear_row(v->vram + at, bpp, color, out, n);
		memset(out + n, 0, (width - n) * sizeof(*out));
	}
}

/* ---- the interface ---- */

static void picture_size(const struct vga *v, unsigned *width, unsigned *height)
{
	unsigned dots = 8;

	if (vga_vbe_on(v)) {
		*width = v->vbe[VBE_XRES];
		*height = v->vbe[VBE_YRES];
		return;
	}
	if (!is_graphics(v) && !(v->seq[SEQ_CLOCKING] & CLOCKING_8_DOTS))
		dots = 9;
	if (v->seq[SEQ_CLOCKING] & CLOCKING_HALF)
		dots *= 2;
	*width = MIN(columns(v) * dots, (unsigned)MAX_DOTS);
	*height = vga_lines(v);
}

static bool image_resize(struct vga_image *img, unsigned width, unsigned height)
{
	size_t want = (size_t)width * height;

	if (want > img->capacity) {
		uint32_t *p = realloc(img->pixel, want * sizeof(*p));

		if (!p)
			return false;
		img->pixel = p;
		img->capacity = want;
	}
	img->width = width;
	img->height = height;
	return true;
}

bool vga_render(struct device *dev, struct vga_image *img)
{
	const struct vga *v = container_of(dev, struct vga, pci.base);
	unsigned width, height;

	picture_size(v, &width, &height);
	if (!image_resize(img, width, height))
		return false;
	if (vga_blank(v))
		memset(img->pixel, 0, (size_t)width * height * sizeof(*img->pixel));
	else if (vga_vbe_on(v) && v->vbe[VBE_BPP] != 4)
		draw_linear(v, img->pixel, width, height);
	else
		draw_frame(v, img->pixel, width, height);
	return true;
}

/* Text stands still between scroll steps: whole rows, from the start address. */
bool vga_text(struct device *dev, struct vga_text *t)
{
	const struct vga *v = container_of(dev, struct vga, pci.base);
	uint32_t stride = v->crtc[CRTC_OFFSET] * 2, cursor = cursor_address(v), start = start_address(v);

	if (vga_vbe_on(v) || is_graphics(v) || vga_blank(v))
		return false;
	t->cols = MIN(columns(v), (unsigned)VGA_TEXT_MAX_COLS);
	t->rows = vga_lines(v) / row_height(v);
	if (v->crtc[CRTC_MAX_SCAN] & 0x80)
		t->rows /= 2;
	t->rows = MIN(MAX(t->rows, 1u), (unsigned)VGA_TEXT_MAX_ROWS);
	t->blink = v->attr[ATTR_MODE] & ATTR_MODE_BLINK;
	t->cursor_col = t->cursor_row = -1;
	for (unsigned i = 0; i < 16; i++)
		t->palette[i] = vga_color(v, i);
	for (unsigned r = 0; r < t->rows; r++) {
		uint32_t row = start + r * stride;

		for (unsigned c = 0; c < t->cols; c++) {
			const uint8_t *p = planes_at(v, row + c, 0);

			t->cell[r * t->cols + c] = (struct vga_cell){ p[0], p[1] };
		}
		if (cursor >= row && cursor < row + t->cols &&
		    !(v->crtc[CRTC_CURSOR_START] & 0x20) &&
		    (v->crtc[CRTC_CURSOR_START] & 31) <= (v->crtc[CRTC_CURSOR_END] & 31)) {
			t->cursor_row = r;
			t->cursor_col = cursor - row;
		}
	}
	return true;
}
