/* VGA: graphics controller, sequencer, DAC, text, pictures, display interface.
 * Expected values follow the register descriptions of IBM's manual. */
#include "tests/unit/fixture.h"

#include "devices/pci.h"
#include "devices/vga.h"

struct card {
	struct fixture f;
	struct pci_bus *bus;
	struct device *dev;
	struct vga_image img;
};

static void card_init(struct card *c)
{
	static uint8_t rom[8192] = { 0x55, 0xaa, 16 };
	struct error err = { "" };

	/* A font: the face that is looked for, and a letter. */
	memcpy(rom + 1024 + 16, "\0\0\x7e\x81\xa5\x81\x81\xbd\x99\x81\x81\x7e\0\0\0\0", 16);
	memcpy(rom + 1024 + 'A' * 16, "\0\0\x10\x38\x6c\xc6\xc6\xfe\xc6\xc6\xc6\xc6\0\0\0\0", 16);
	memset(rom + 1024 + 0xdb * 16, 0xff, 16);
	fixture_init(&c->f);
	c->bus = pci_bus_create(&c->f.m, &err);
	ck_assert_msg(c->bus != NULL, "%s", err.text);
	c->dev = vga_create(&c->f.m, c->bus, rom, sizeof(rom), &err);
	ck_assert_msg(c->dev != NULL, "%s", err.text);
	vga_boot_text(c->dev);
	c->img = (struct vga_image){ 0 };
}

static void card_finish(struct card *c)
{
	free(c->img.pixel);
	fixture_finish(&c->f);
}

static void seq(struct card *c, uint8_t i, uint8_t v) { ioport_write(c->f.m.io, 0x3c4, i | v << 8, 2); }
static void gc(struct card *c, uint8_t i, uint8_t v) { ioport_write(c->f.m.io, 0x3ce, i | v << 8, 2); }
static void crtc(struct card *c, uint8_t i, uint8_t v) { ioport_write(c->f.m.io, 0x3d4, i | v << 8, 2); }

static uint8_t crtc_rd(struct card *c, uint8_t i)
{
	out8(&c->f, 0x3d4, i);
	return in8(&c->f, 0x3d5);
}

static void attr(struct card *c, uint8_t i, uint8_t v)
{
	in8(&c->f, 0x3da);
	out8(&c->f, 0x3c0, i);
	out8(&c->f, 0x3c0, v);
	out8(&c->f, 0x3c0, 0x20);
}

static void dac(struct card *c, uint8_t i, uint8_t r, uint8_t g, uint8_t b)
{
	out8(&c->f, 0x3c8, i);
	out8(&c->f, 0x3c9, r);
	out8(&c->f, 0x3c9, g);
	out8(&c->f, 0x3c9, b);
}

static void vbe(struct card *c, uint16_t i, uint16_t v)
{
	ioport_write(c->f.m.io, 0x1ce, i, 2);
	ioport_write(c->f.m.io, 0x1cf, v, 2);
}

static uint16_t vbe_rd(struct card *c, uint16_t i)
{
	ioport_write(c->f.m.io, 0x1ce, i, 2);
	return ioport_read(c->f.m.io, 0x1cf, 2);
}

static void poke(struct card *c, uint32_t a, uint8_t v) { memory_write(c->f.m.memory, a, v, 1); }
static uint8_t peek(struct card *c, uint32_t a) { return memory_read(c->f.m.memory, a, 1); }

/* Mode 12h: 640x480, four planes at a0000. */
static void mode12(struct card *c)
{
	static const uint8_t regs[] = {
		0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0xea, 0x8c, 0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff,
	};

	out8(&c->f, 0x3c2, 0xe3);
	seq(c, 1, 0x01);
	seq(c, 2, 0x0f);
	seq(c, 4, 0x06);
	crtc(c, 0x11, 0);
	for (unsigned i = 0; i < sizeof(regs); i++)
		crtc(c, i, regs[i]);
	gc(c, 5, 0);
	gc(c, 6, 5);
	gc(c, 8, 0xff);
	for (unsigned i = 0; i < 16; i++)
		attr(c, i, i);
	attr(c, 0x10, 0x01);
	attr(c, 0x12, 0x0f);
	for (uint32_t a = 0xa0000; a < 0xb0000; a++)
		poke(c, a, 0);
}

static void mode13(struct card *c)
{
	static const uint8_t regs[] = {
		0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff,
	};

	out8(&c->f, 0x3c2, 0x63);
	seq(c, 1, 0x01);
	seq(c, 2, 0x0f);
	seq(c, 4, 0x0e);
	crtc(c, 0x11, 0);
	for (unsigned i = 0; i < sizeof(regs); i++)
		crtc(c, i, regs[i]);
	gc(c, 5, 0x40);
	gc(c, 6, 5);
	attr(c, 0x10, 0x41);
}

static uint32_t pixel(struct card *c, unsigned x, unsigned y)
{
	ck_assert(vga_render(c->dev, &c->img));
	ck_assert_uint_lt(x, c->img.width);
	ck_assert_uint_lt(y, c->img.height);
	return c->img.pixel[(size_t)y * c->img.width + x];
}

START_TEST(text_snapshot)
{
	static struct vga_text t;
	struct card c;

	card_init(&c);
	memory_write(c.f.m.memory, 0xb8000 + 2 * (3 * 80 + 5), 0x1e41, 2);
	crtc(&c, 0x0e, 0);
	crtc(&c, 0x0f, 3 * 80 + 6);
	ck_assert(vga_text(c.dev, &t));
	ck_assert_uint_eq(t.cols, 80);
	ck_assert_uint_eq(t.rows, 25);
	ck_assert_uint_eq(t.cell[3 * 80 + 5].ch, 'A');
	ck_assert_uint_eq(t.cell[3 * 80 + 5].attr, 0x1e);
	ck_assert_uint_eq(t.cell[0].ch, ' ');
	ck_assert_int_eq(t.cursor_row, 3);
	ck_assert_int_eq(t.cursor_col, 6);
	ck_assert_uint_eq(t.palette[7], 0xaaaaaa);
	ck_assert_uint_eq(t.palette[6], 0xaa5500);
	crtc(&c, 0x0a, 0x20);
	crtc(&c, 0x0d, 80); /* scrolled by a line */
	ck_assert(vga_text(c.dev, &t));
	ck_assert_uint_eq(t.cell[2 * 80 + 5].ch, 'A');
	ck_assert_int_eq(t.cursor_row, -1);
	ck_assert_uint_eq(memory_read(c.f.m.memory, 0xb8000 + 2 * (3 * 80 + 5), 2), 0x1e41);
	seq(&c, 1, 0x20);
	ck_assert(!vga_text(c.dev, &t));
	card_finish(&c);
}
END_TEST

START_TEST(text_picture)
{
	struct card c;

	card_init(&c);
	crtc(&c, 0x0a, 0x20);
	memory_write(c.f.m.memory, 0xb8000, 0x1e41, 2);
	memory_write(c.f.m.memory, 0xb8002, 0x04db, 2);
	ck_assert_uint_eq(pixel(&c, 0, 0), 0x0000aa);
	ck_assert_uint_eq(c.img.width, 720);
	ck_assert_uint_eq(c.img.height, 400);
	ck_assert_uint_eq(pixel(&c, 3, 2), 0xffff55); /* the tip of the A */
	ck_assert_uint_eq(pixel(&c, 2, 2), 0x0000aa);
	ck_assert_uint_eq(pixel(&c, 8, 7), 0x0000aa); /* the ninth dot is background */
	ck_assert_uint_eq(pixel(&c, 9, 0), 0xaa0000);
	ck_assert_uint_eq(pixel(&c, 17, 0), 0xaa0000); /* ... but a copy for C0-DF */
	ck_assert_uint_eq(pixel(&c, 18, 0), 0);
	/* The cursor is two lines at the bottom of its cell. */
	crtc(&c, 0x0a, 0x0d);
	crtc(&c, 0x0e, 0);
	crtc(&c, 0x0f, 40);
	ck_assert_uint_eq(pixel(&c, 40 * 9, 13), 0xaaaaaa);
	ck_assert_uint_eq(pixel(&c, 40 * 9, 12), 0);
	card_finish(&c);
}
END_TEST

START_TEST(split_screen_and_panning)
{
	struct card c;

	card_init(&c);
	crtc(&c, 0x0a, 0x20);
	memory_write(c.f.m.memory, 0xb8000, 0x04db, 2);
	memory_write(c.f.m.memory, 0xb8000 + 160, 0x02db, 2);
	crtc(&c, 0x0d, 80); /* the screen starts with the second line */
	crtc(&c, 0x11, 0);
	crtc(&c, 0x07, 0x0f);
	crtc(&c, 0x09, 0x0f);
	crtc(&c, 0x18, 99); /* ... and from line 100 on with the first */
	ck_assert_uint_eq(pixel(&c, 0, 0), 0x00aa00);
	ck_assert_uint_eq(pixel(&c, 0, 99), 0);
	ck_assert_uint_eq(pixel(&c, 0, 100), 0xaa0000);
	ck_assert_uint_eq(pixel(&c, 0, 116), 0x00aa00);
	attr(&c, 0x13, 3);
	ck_assert_uint_eq(pixel(&c, 4, 0), 0x00aa00);
	ck_assert_uint_eq(pixel(&c, 5, 0), 0);
	card_finish(&c);
}
END_TEST

START_TEST(write_mode_0)
{
	struct card c;

	card_init(&c);
	mode12(&c);
	seq(&c, 2, 0x05);
	poke(&c, 0xa0010, 0x81);
	for (unsigned p = 0; p < 4; p++) {
		gc(&c, 4, p);
		ck_assert_uint_eq(peek(&c, 0xa0010), p == 0 || p == 2 ? 0x81 : 0);
	}
	seq(&c, 2, 0x0f);
	gc(&c, 3, 1); /* rotate right by one */
	poke(&c, 0xa0011, 0x81);
	ck_assert_uint_eq(peek(&c, 0xa0011), 0xc0);
	gc(&c, 3, 0);
	gc(&c, 0, 0x0a); /* set/reset replaces the byte where enabled */
	gc(&c, 1, 0x0c);
	poke(&c, 0xa0012, 0x55);
	static const uint8_t want[] = { 0x55, 0x55, 0x00, 0xff };
	for (unsigned p = 0; p < 4; p++) {
		gc(&c, 4, p);
		ck_assert_uint_eq(peek(&c, 0xa0012), want[p]);
	}
	gc(&c, 1, 0);
	/* Bits outside the mask come from the latches. */
	poke(&c, 0xa0013, 0xf0);
	peek(&c, 0xa0013);
	gc(&c, 8, 0x3c);
	poke(&c, 0xa0014, 0x0f);
	ck_assert_uint_eq(peek(&c, 0xa0014), 0xcc);
	/* Functions with the latches. */
	gc(&c, 8, 0xff);
	static const struct { uint8_t fn, want; } fn[] = { { 1, 0x30 }, { 2, 0xfc }, { 3, 0xcc } };
	for (unsigned i = 0; i < 3; i++) {
		gc(&c, 3, 0);
		poke(&c, 0xa0015, 0xf0);
		peek(&c, 0xa0015);
		gc(&c, 3, fn[i].fn << 3);
		poke(&c, 0xa0015, 0x3c);
		ck_assert_uint_eq(peek(&c, 0xa0015), fn[i].want);
	}
	card_finish(&c);
}
END_TEST

START_TEST(write_modes_1_to_3)
{
	struct card c;
	static const uint8_t pattern[] = { 0x11, 0x22, 0x33, 0x44 };

	card_init(&c);
	mode12(&c);
	for (unsigned p = 0; p < 4; p++) {
		seq(&c, 2, 1 << p);
		poke(&c, 0xa0020, pattern[p]);
	}
	seq(&c, 2, 0x0f);
	gc(&c, 5, 1); /* copies the latches: how EGA scrolls */
	peek(&c, 0xa0020);
	poke(&c, 0xa0021, 0xee);
	for (unsigned p = 0; p < 4; p++) {
		gc(&c, 4, p);
		ck_assert_uint_eq(peek(&c, 0xa0021), pattern[p]);
	}
	gc(&c, 5, 2); /* colour from the low bits, where the mask lets it */
	gc(&c, 8, 0xf0);
	peek(&c, 0xa0020);
	poke(&c, 0xa0022, 0x09);
	for (unsigned p = 0; p < 4; p++) {
		gc(&c, 4, p);
		ck_assert_uint_eq(peek(&c, 0xa0022), (p == 0 || p == 3 ? 0xf0 : 0) | (pattern[p] & 0x0f));
	}
	gc(&c, 5, 3); /* the byte is one more mask, the colour is set/reset */
	gc(&c, 0, 0x06);
	gc(&c, 8, 0x3c);
	peek(&c, 0xa0020);
	poke(&c, 0xa0023, 0x0f);
	for (unsigned p = 0; p < 4; p++) {
		gc(&c, 4, p);
		ck_assert_uint_eq(peek(&c, 0xa0023), (p == 1 || p == 2 ? 0x0c : 0) | (pattern[p] & 0xf3));
	}
	card_finish(&c);
}
END_TEST

START_TEST(read_mode_1_compares_colours)
{
	struct card c;

	card_init(&c);
	mode12(&c);
	seq(&c, 2, 0x01);
	poke(&c, 0xa0000, 0xf0);
	seq(&c, 2, 0x02);
	poke(&c, 0xa0000, 0xcc); /* colours, left to right: 3 3 1 1 2 2 0 0 */
	gc(&c, 5, 0x08);
	gc(&c, 2, 3);
	gc(&c, 7, 0x0f);
	ck_assert_uint_eq(peek(&c, 0xa0000), 0xc0);
	gc(&c, 2, 1);
	ck_assert_uint_eq(peek(&c, 0xa0000), 0x30);
	gc(&c, 7, 0x01); /* plane 0 alone matters */
	ck_assert_uint_eq(peek(&c, 0xa0000), 0xf0);
	gc(&c, 7, 0x00);
	ck_assert_uint_eq(peek(&c, 0xa0000), 0xff);
	card_finish(&c);
}
END_TEST

START_TEST(window_follows_the_map_register)
{
	struct card c;

	card_init(&c);
	poke(&c, 0xb8000, 0x42);
	ck_assert_uint_eq(peek(&c, 0xb8000), 0x42);
	ck_assert_uint_eq(peek(&c, 0xb0000), 0xff);
	ck_assert_uint_eq(peek(&c, 0xa0000), 0xff);
	gc(&c, 6, 0x0a); /* b0000 */
	ck_assert_uint_eq(peek(&c, 0xb0000), 0x42);
	ck_assert_uint_eq(peek(&c, 0xb8000), 0xff);
	gc(&c, 6, 0x02); /* all of it */
	ck_assert_uint_eq(peek(&c, 0xa0000), 0x42);
	out8(&c.f, 0x3c2, 0x65); /* memory off */
	ck_assert_uint_eq(peek(&c, 0xa0000), 0xff);
	card_finish(&c);
}
END_TEST

START_TEST(mode_12h_picture)
{
	struct card c;

	card_init(&c);
	mode12(&c);
	gc(&c, 5, 2);
	gc(&c, 8, 0x40);
	peek(&c, 0xa0000 + 80);
	poke(&c, 0xa0000 + 80, 12);
	dac(&c, 12, 63, 21, 0);
	ck_assert_uint_eq(pixel(&c, 1, 1), 0xff5500);
	ck_assert_uint_eq(c.img.width, 640);
	ck_assert_uint_eq(c.img.height, 480);
	ck_assert_uint_eq(pixel(&c, 0, 1), 0);
	ck_assert_uint_eq(pixel(&c, 2, 1), 0);
	out8(&c.f, 0x3c6, 0x03); /* pixel mask: colour 12 & 3 is 0 */
	ck_assert_uint_eq(pixel(&c, 1, 1), 0);
	card_finish(&c);
}
END_TEST

START_TEST(mode_13h_direct_and_planar_agree)
{
	struct card c;

	card_init(&c);
	mode13(&c);
	dac(&c, 200, 0, 63, 0);
	for (unsigned i = 0; i < 64000; i++)
		poke(&c, 0xa0000 + i, 0);
	poke(&c, 0xa0000 + 10 * 320 + 7, 200);
	ck_assert_uint_eq(pixel(&c, 14, 20), 0x00ff00); /* 640x400: each dot is 2x2 */
	ck_assert_uint_eq(pixel(&c, 15, 21), 0x00ff00);
	ck_assert_uint_eq(pixel(&c, 13, 20), 0);
	ck_assert_uint_eq(pixel(&c, 16, 20), 0);
	ck_assert_uint_eq(pixel(&c, 14, 22), 0);
	/* With a plane masked the window is no longer plain memory. */
	seq(&c, 2, 0x01);
	poke(&c, 0xa0000, 9);
	poke(&c, 0xa0001, 9);
	ck_assert_uint_eq(peek(&c, 0xa0000), 9);
	ck_assert_uint_eq(peek(&c, 0xa0001), 0);
	seq(&c, 2, 0x0f);
	ck_assert_uint_eq(peek(&c, 0xa0000), 9);
	/* Mode X: the same bytes, plane by plane. */
	seq(&c, 4, 0x06);
	gc(&c, 4, 3);
	ck_assert_uint_eq(peek(&c, 0xa0000 + (10 * 320 + 7) / 4), 200);
	crtc(&c, 0x14, 0x00);
	crtc(&c, 0x17, 0xe3);
	ck_assert_uint_eq(pixel(&c, 14, 20), 0x00ff00);
	card_finish(&c);
}
END_TEST

START_TEST(cga_modes)
{
	struct card c;

	card_init(&c);
	mode12(&c);
	/* 320x200, two bits a dot, odd lines at 0x2000: BIOS mode 4. */
	seq(&c, 1, 0x09);
	seq(&c, 2, 0x03);
	seq(&c, 4, 0x02);
	crtc(&c, 0x11, 0x0e);
	crtc(&c, 0x01, 0x27);
	crtc(&c, 0x07, 0x1f);
	crtc(&c, 0x09, 0xc1);
	crtc(&c, 0x12, 0x8f);
	crtc(&c, 0x13, 0x14);
	crtc(&c, 0x17, 0xa2);
	gc(&c, 5, 0x30);
	gc(&c, 6, 0x0f);
	dac(&c, 1, 63, 0, 0);
	dac(&c, 2, 0, 63, 0);
	dac(&c, 3, 0, 0, 63);
	poke(&c, 0xb8000, 0x1b); /* dots 0 1 2 3 */
	poke(&c, 0xb8001, 0xc0); /* 3 0 0 0 */
	poke(&c, 0xba000, 0x80); /* second line: 2 */
	ck_assert_uint_eq(pixel(&c, 0, 0), 0);
	ck_assert_uint_eq(c.img.width, 640);
	ck_assert_uint_eq(c.img.height, 400);
	ck_assert_uint_eq(pixel(&c, 2, 0), 0xff0000);
	ck_assert_uint_eq(pixel(&c, 4, 0), 0x00ff00);
	ck_assert_uint_eq(pixel(&c, 7, 1), 0x0000ff);
	ck_assert_uint_eq(pixel(&c, 8, 0), 0x0000ff);
	ck_assert_uint_eq(pixel(&c, 0, 2), 0x00ff00);
	ck_assert_uint_eq(pixel(&c, 0, 4), 0);
	card_finish(&c);
}
END_TEST

START_TEST(dac_reads_and_writes_in_threes)
{
	struct card c;

	card_init(&c);
	dac(&c, 5, 1, 2, 63);
	out8(&c.f, 0x3c9, 10); /* goes on with entry 6 ... */
	out8(&c.f, 0x3c7, 5);
	ck_assert_uint_eq(in8(&c.f, 0x3c7) & 3, 3);
	ck_assert_uint_eq(in8(&c.f, 0x3c9), 1);
	ck_assert_uint_eq(in8(&c.f, 0x3c9), 2);
	ck_assert_uint_eq(in8(&c.f, 0x3c9), 63);
	ck_assert_uint_ne(in8(&c.f, 0x3c9), 10); /* ... but not before it is complete */
	out8(&c.f, 0x3c8, 7);
	ck_assert_uint_eq(in8(&c.f, 0x3c7) & 3, 0);
	out8(&c.f, 0x3c9, 0xff);
	out8(&c.f, 0x3c9, 0xff);
	out8(&c.f, 0x3c9, 0xff);
	out8(&c.f, 0x3c7, 7);
	ck_assert_uint_eq(in8(&c.f, 0x3c9), 0x3f);
	card_finish(&c);
}
END_TEST

START_TEST(attribute_flip_flop)
{
	struct card c;

	card_init(&c);
	in8(&c.f, 0x3da);
	out8(&c.f, 0x3c0, 0x03);
	out8(&c.f, 0x3c0, 0x2a);
	ck_assert_uint_eq(in8(&c.f, 0x3c1), 0x2a);
	out8(&c.f, 0x3c0, 0x04);
	in8(&c.f, 0x3da); /* back to the index */
	out8(&c.f, 0x3c0, 0x03);
	ck_assert_uint_eq(in8(&c.f, 0x3c1), 0x2a);
	card_finish(&c);
}
END_TEST

START_TEST(crtc_write_protection)
{
	struct card c;

	card_init(&c);
	ck_assert_uint_eq(crtc_rd(&c, 0x11) & 0x80, 0x80);
	crtc(&c, 0x00, 0x12);
	crtc(&c, 0x07, 0xff);
	ck_assert_uint_eq(crtc_rd(&c, 0x00), 0x5f);
	ck_assert_uint_eq(crtc_rd(&c, 0x07), 0x1f);
	crtc(&c, 0x07, 0x00);
	ck_assert_uint_eq(crtc_rd(&c, 0x07), 0x0f); /* line compare bit 8 is not protected */
	crtc(&c, 0x11, 0x0e);
	crtc(&c, 0x00, 0x12);
	ck_assert_uint_eq(crtc_rd(&c, 0x00), 0x12);
	card_finish(&c);
}
END_TEST

START_TEST(mono_and_colour_addresses)
{
	struct card c;

	card_init(&c);
	crtc(&c, 0x0f, 0x77);
	out8(&c.f, 0x3b4, 0x0f);
	ck_assert_uint_eq(in8(&c.f, 0x3b5), 0xff);
	out8(&c.f, 0x3c2, 0x66);
	out8(&c.f, 0x3b4, 0x0f);
	ck_assert_uint_eq(in8(&c.f, 0x3b5), 0x77);
	ck_assert_uint_eq(in8(&c.f, 0x3d5), 0xff);
	ck_assert_uint_eq(in8(&c.f, 0x3cc), 0x66);
	card_finish(&c);
}
END_TEST

START_TEST(retrace_comes_and_goes)
{
	struct card c;
	unsigned edges = 0;
	bool was = false;
	int64_t start, end;

	card_init(&c);
	start = loop_now(c.f.m.loop);
	do {
		bool is = in8(&c.f, 0x3da) & 8;

		edges += is && !was;
		was = is;
		end = loop_now(c.f.m.loop);
	} while (edges < 5 && end - start < 20 * NS_PER_S);
	/* 70 Hz, or less on a host too busy to see each. */
	ck_assert_uint_eq(edges, 5);
	ck_assert_int_ge(end - start, 4 * (NS_PER_S / 71));
	card_finish(&c);
}
END_TEST

static void vbe_mode(struct card *c, unsigned x, unsigned y, unsigned bpp)
{
	vbe(c, 4, 0);
	vbe(c, 1, x);
	vbe(c, 2, y);
	vbe(c, 3, bpp);
	vbe(c, 4, 0x41);
}

START_TEST(display_interface_modes)
{
	static const struct { unsigned bpp; uint32_t value, want; } t[] = {
		{ 8, 77, 0xff8200 }, { 15, 0x7c1f, 0xff00ff }, { 16, 0x07e0, 0x00ff00 },
		{ 24, 0x123456, 0x123456 }, { 32, 0x99abcdef, 0xabcdef },
	};
	struct card c;
	struct pci_device *pci;

	card_init(&c);
	ck_assert_uint_eq(vbe_rd(&c, 0) & 0xfff0, 0xb0c0);
	vbe(&c, 0, 0xb0c4);
	ck_assert_uint_eq(vbe_rd(&c, 0), 0xb0c4);
	ck_assert_uint_eq(vbe_rd(&c, 10), 256); /* 16 MiB */
	vbe(&c, 4, 2);
	ck_assert_uint_ge(vbe_rd(&c, 1), 1920);
	ck_assert_uint_eq(vbe_rd(&c, 3), 32);
	dac(&c, 77, 63, 32, 0);
	pci = pci_bus_find(c.bus, PCI_DEVFN(2, 0));
	pci_config_write(c.bus, PCI_DEVFN(2, 0), PCI_BAR0, 0xe0000000, 4);
	pci_config_write(c.bus, PCI_DEVFN(2, 0), PCI_COMMAND, 3, 2);
	ck_assert_uint_eq(pci_bar_address(pci, 0), 0xe0000000);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		unsigned bytes = (t[i].bpp + 7) / 8;

		vbe_mode(&c, 1024, 768, t[i].bpp);
		ck_assert_uint_eq(vbe_rd(&c, 6), 1024);
		memory_write(c.f.m.memory, 0xe0000000 + (1024 * 5 + 9) * bytes, t[i].value, bytes);
		ck_assert_uint_eq(pixel(&c, 9, 5), t[i].want);
		ck_assert_uint_eq(c.img.width, 1024);
		ck_assert_uint_eq(c.img.height, 768);
		ck_assert_uint_eq(pixel(&c, 10, 5), 0);
		/* The same through the banked window. */
		ck_assert_uint_eq(memory_read(c.f.m.memory, 0xa0000 + (1024 * 5 + 9) * bytes, bytes),
				  t[i].value);
		/* Panning. */
		vbe(&c, 6, 2048);
		vbe(&c, 8, 3);
		memory_write(c.f.m.memory, 0xe0000000 + 2048 * 5 * bytes, t[i].value, bytes);
		vbe(&c, 8, 0);
		vbe(&c, 9, 5);
		ck_assert_uint_eq(pixel(&c, 0, 0), t[i].want);
	}
	vbe_mode(&c, 640, 480, 32);
	vbe(&c, 5, 3);
	memory_write(c.f.m.memory, 0xa0010, 0x11223344, 4);
	ck_assert_uint_eq(memory_read(c.f.m.memory, 0xe0030010, 4), 0x11223344);
	vbe(&c, 5, 256); /* past the end: ignored */
	ck_assert_uint_eq(vbe_rd(&c, 5), 3);
	vbe(&c, 4, 0);
	card_finish(&c);
}
END_TEST

START_TEST(display_interface_in_memory)
{
	struct card c;

	card_init(&c);
	pci_config_write(c.bus, PCI_DEVFN(2, 0), PCI_BAR0 + 8, 0xe1000000, 4);
	pci_config_write(c.bus, PCI_DEVFN(2, 0), PCI_COMMAND, 2, 2);
	ck_assert_uint_eq(memory_read(c.f.m.memory, 0xe1000500, 2) & 0xfff0, 0xb0c0);
	memory_write(c.f.m.memory, 0xe1000502, 800, 2);
	ck_assert_uint_eq(vbe_rd(&c, 1), 800);
	memory_write(c.f.m.memory, 0xe1000404, 0x0503, 2); /* sequencer 3 := 5 */
	out8(&c.f, 0x3c4, 3);
	ck_assert_uint_eq(in8(&c.f, 0x3c5), 5);
	card_finish(&c);
}
END_TEST

START_TEST(mode_that_does_not_fit_is_cut)
{
	struct card c;

	card_init(&c);
	vbe_mode(&c, 65535, 65535, 32);
	ck_assert_uint_le((unsigned)vbe_rd(&c, 1) * vbe_rd(&c, 2) * 4, 16 << 20);
	pixel(&c, 0, 0);
	vbe(&c, 8, 65535);
	vbe(&c, 9, 65535);
	ck_assert_uint_eq(pixel(&c, 0, 0), 0);
	vbe_mode(&c, 0, 0, 32);
	pixel(&c, 0, 0);
	card_finish(&c);
}
END_TEST

START_TEST(any_value_at_any_register)
{
	static struct vga_text t;
	struct card c;

	card_init(&c);
	srand(9);
	for (unsigned i = 0; i < 60000; i++) {
		switch (rand() % 8) {
		case 0:
			seq(&c, rand(), rand());
			break;
		case 1:
			gc(&c, rand(), rand());
			break;
		case 2:
			crtc(&c, rand(), rand());
			break;
		case 3:
			attr(&c, rand() % 32, rand());
			break;
		case 4:
			if (rand() % 32 == 0)
				vbe(&c, rand() % 12, rand() % 3 ? rand() % 0x800 : rand());
			break;
		case 5:
			out8(&c.f, 0x3b0 + rand() % 0x30, rand());
			break;
		case 6:
			memory_write(c.f.m.memory, 0xa0000 + rand() % 0x20000, rand(), 1 << rand() % 4);
			break;
		default:
			memory_read(c.f.m.memory, 0xa0000 + rand() % 0x20000, 1 << rand() % 4);
			in8(&c.f, 0x3b0 + rand() % 0x30);
		}
		if (i % 300 == 0) {
			ck_assert(vga_render(c.dev, &c.img));
			vga_text(c.dev, &t);
		}
	}
	card_finish(&c);
}
END_TEST

static void add(TCase *t)
{
	tcase_add_test(t, text_snapshot);
	tcase_add_test(t, text_picture);
	tcase_add_test(t, split_screen_and_panning);
	tcase_add_test(t, write_mode_0);
	tcase_add_test(t, write_modes_1_to_3);
	tcase_add_test(t, read_mode_1_compares_colours);
	tcase_add_test(t, window_follows_the_map_register);
	tcase_add_test(t, mode_12h_picture);
	tcase_add_test(t, mode_13h_direct_and_planar_agree);
	tcase_add_test(t, cga_modes);
	tcase_add_test(t, dac_reads_and_writes_in_threes);
	tcase_add_test(t, attribute_flip_flop);
	tcase_add_test(t, crtc_write_protection);
	tcase_add_test(t, mono_and_colour_addresses);
	tcase_add_test(t, retrace_comes_and_goes);
	tcase_add_test(t, display_interface_modes);
	tcase_add_test(t, display_interface_in_memory);
	tcase_add_test(t, mode_that_does_not_fit_is_cut);
	tcase_add_test(t, any_value_at_any_register);
}

int main(void)
{
	return fixture_main("vga", add);
}
