/* Floppy controller and DMA controllers, register by register (82077AA and 8237A
 * data sheets). */
#include "tests/unit/fixture.h"

#include <stdio.h>
#include <unistd.h>

#include "core/block.h"
#include "devices/fdc.h"
#include "devices/i8237.h"

enum { DOR = 0x3f2, TDR, MSR, FIFO, DIR = 0x3f7, CCR = 0x3f7, DSR = MSR };
enum { RQM = 0x80, DIO = 0x40, NDM = 0x20, CB = 0x10 };
enum { BUFFER = 0x20000 };

struct floppy {
	struct fixture f;
	struct device *dma, *fdc;
	char path[64];
};

static uint8_t pattern(unsigned sector, unsigned i)
{
	return (uint8_t)(sector * 5 + i + (i >> 8) * 3);
}

static void make_image(char path[64], unsigned sectors)
{
	FILE *f;
	int fd;

	strcpy(path, "/tmp/gannet-fdc-XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	f = fdopen(fd, "w");
	for (unsigned n = 0; n < sectors; n++)
		for (unsigned i = 0; i < 512; i++)
			fputc(pattern(n, i), f);
	fclose(f);
}

static void run(struct floppy *t)
{
	for (unsigned i = 0; i < 20; i++)
		loop_run(t->f.m.loop);
}

static uint8_t msr(struct floppy *t) { return in8(&t->f, MSR); }

static void send(struct floppy *t, const uint8_t *bytes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		ck_assert_uint_eq(msr(t) & (RQM | DIO), RQM);
		out8(&t->f, FIFO, bytes[i]);
	}
	run(t);
}
#define SEND(t, ...) send(t, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static unsigned receive(struct floppy *t, uint8_t *r, unsigned max)
{
	unsigned n = 0;

	while ((msr(t) & (RQM | DIO | CB)) == (RQM | DIO | CB)) {
		ck_assert_uint_lt(n, max);
		r[n++] = in8(&t->f, FIFO);
	}
	return n;
}

static void expect_result(struct floppy *t, unsigned st0, unsigned st1, unsigned st2, unsigned c,
			  unsigned h, unsigned r)
{
	uint8_t b[16];

	ck_assert(t->f.level[6]);
	ck_assert_uint_eq(receive(t, b, 16), 7);
	ck_assert(!t->f.level[6]);
	ck_assert_uint_eq(b[0], st0);
	ck_assert_uint_eq(b[1], st1);
	ck_assert_uint_eq(b[2], st2);
	ck_assert_uint_eq(b[3], c);
	ck_assert_uint_eq(b[4], h);
	ck_assert_uint_eq(b[5], r);
	ck_assert_uint_eq(b[6], 2);
}

static void expect_sense(struct floppy *t, unsigned st0, unsigned pcn)
{
	uint8_t b[16];

	SEND(t, 0x08);
	ck_assert_uint_eq(receive(t, b, 16), 2);
	ck_assert_uint_eq(b[0], st0);
	ck_assert_uint_eq(b[1], pcn);
}

static void floppy_init_sectors(struct floppy *t, unsigned sectors, enum block_mode mode)
{
	struct error err = { "" };
	struct block *drives[2] = { NULL, NULL };

	fixture_init(&t->f);
	memory_add_ram(t->f.m.memory, 0, 16 * MIB, 0, MEMORY_RAM, 0, "ram");
	make_image(t->path, sectors);
	drives[0] = block_open(t->path, mode, &err);
	t->dma = i8237_create(&t->f.m, &err);
	t->fdc = fdc_create(&t->f.m, fixture_line(&t->f, 6), t->dma, drives, NULL, &err);
	ck_assert_msg(t->fdc != NULL, "%s", err.text);
	out8(&t->f, CCR, 0);
	out8(&t->f, DOR, 0x1c); /* out of reset, DMA gate, motor 0 */
	run(t);
	for (unsigned i = 0; i < 4; i++)
		expect_sense(t, 0xc0 | i, 0);
	SEND(t, 0x03, 0xdf, 0x02); /* SPECIFY, DMA */
}

static void floppy_init(struct floppy *t)
{
	floppy_init_sectors(t, 2880, BLOCK_RW);
}

static void floppy_finish(struct floppy *t)
{
	fixture_finish(&t->f);
	unlink(t->path);
}

/* Channel 2: @mode 0x44 to memory, 0x48 from memory. */
static void dma_set(struct floppy *t, unsigned mode, uint32_t address, unsigned len)
{
	out8(&t->f, 0x0a, 6);
	out8(&t->f, 0x0c, 0);
	out8(&t->f, 0x0b, (uint8_t)(mode | 2));
	out8(&t->f, 0x04, (uint8_t)address);
	out8(&t->f, 0x04, (uint8_t)(address >> 8));
	out8(&t->f, 0x81, (uint8_t)(address >> 16));
	out8(&t->f, 0x05, (uint8_t)(len - 1));
	out8(&t->f, 0x05, (uint8_t)((len - 1) >> 8));
	out8(&t->f, 0x0a, 2);
}

static uint8_t mem8(struct floppy *t, uint32_t a)
{
	return (uint8_t)memory_read(t->f.m.memory, a, 1);
}

static void expect_memory(struct floppy *t, uint32_t at, unsigned sector, unsigned len)
{
	for (unsigned i = 0; i < len; i++)
		ck_assert_uint_eq(mem8(t, at + i), pattern(sector + i / 512, i % 512));
}

static uint8_t image_byte(struct floppy *t, unsigned sector, unsigned i)
{
	FILE *f = fopen(t->path, "r");
	int c;

	ck_assert(f && fseek(f, sector * 512 + i, SEEK_SET) == 0);
	c = fgetc(f);
	fclose(f);
	return (uint8_t)c;
}

static void seek(struct floppy *t, unsigned track)
{
	SEND(t, 0x0f, 0, (uint8_t)track);
	ck_assert(t->f.level[6]);
	expect_sense(t, 0x20, track);
	ck_assert(!t->f.level[6]);
}

/* ---- commands without data ---- */

START_TEST(reset_and_sense)
{
	struct floppy t;
	uint8_t b[16];

	floppy_init(&t);
	SEND(&t, 0x08); /* nothing to sense: invalid command */
	ck_assert_uint_eq(receive(&t, b, 16), 1);
	ck_assert_uint_eq(b[0], 0x80);
	out8(&t.f, DOR, 0x08);
	ck_assert_uint_eq(msr(&t), 0);
	out8(&t.f, DOR, 0x0c);
	run(&t);
	ck_assert(t.f.level[6]);
	ck_assert_uint_eq(msr(&t), RQM);
	expect_sense(&t, 0xc0, 0);
	ck_assert(!t.f.level[6]);
	out8(&t.f, DSR, 0x80); /* software reset clears itself */
	run(&t);
	ck_assert(t.f.level[6]);
	out8(&t.f, DOR, 0x04); /* DMA gate off: no interrupt gets out */
	ck_assert(!t.f.level[6]);
	floppy_finish(&t);
}
END_TEST

START_TEST(version_configure_lock_dumpreg)
{
	struct floppy t;
	uint8_t b[16];

	floppy_init(&t);
	SEND(&t, 0x10);
	ck_assert_uint_eq(receive(&t, b, 16), 1);
	ck_assert_uint_eq(b[0], 0x90);
	SEND(&t, 0x13, 0, 0x57, 0x20);
	SEND(&t, 0x94);
	ck_assert_uint_eq(receive(&t, b, 16), 1);
	ck_assert_uint_eq(b[0], 0x10);
	SEND(&t, 0x12, 0x84);
	SEND(&t, 0x0e);
	ck_assert_uint_eq(receive(&t, b, 16), 10);
	ck_assert_uint_eq(b[4], 0xdf);
	ck_assert_uint_eq(b[5], 0x02);
	ck_assert_uint_eq(b[7], 0x84);
	ck_assert_uint_eq(b[8], 0x57);
	ck_assert_uint_eq(b[9], 0x20);
	out8(&t.f, DSR, 0x80); /* LOCK keeps CONFIGURE over a software reset */
	run(&t);
	SEND(&t, 0x0e);
	receive(&t, b, 16);
	ck_assert_uint_eq(b[8], 0x57);
	SEND(&t, 0x14);
	receive(&t, b, 16);
	ck_assert_uint_eq(b[0], 0);
	out8(&t.f, DSR, 0x80);
	run(&t);
	SEND(&t, 0x0e);
	receive(&t, b, 16);
	ck_assert_uint_eq(b[8], 0);
	SEND(&t, 0x18); /* PART ID is the 82078's */
	ck_assert_uint_eq(receive(&t, b, 16), 1);
	ck_assert_uint_eq(b[0], 0x80);
	floppy_finish(&t);
}
END_TEST

START_TEST(seek_and_recalibrate)
{
	struct floppy t;
	uint8_t b[16];

	floppy_init(&t);
	ck_assert_uint_eq(in8(&t.f, DIR) & 0x80, 0x80); /* not looked at yet */
	seek(&t, 40);
	ck_assert_uint_eq(in8(&t.f, DIR) & 0x80, 0);
	SEND(&t, 0x04, 0);
	receive(&t, b, 16);
	ck_assert_uint_eq(b[0], 0x28);
	SEND(&t, 0x8f, 0, 5); /* RELATIVE SEEK out, then in */
	expect_sense(&t, 0x20, 35);
	SEND(&t, 0xcf, 0, 10);
	expect_sense(&t, 0x20, 45);
	SEND(&t, 0x8f, 0, 200);
	expect_sense(&t, 0x20, 0);
	seek(&t, 7);
	SEND(&t, 0x07, 0);
	expect_sense(&t, 0x20, 0);
	SEND(&t, 0x04, 4);
	receive(&t, b, 16);
	ck_assert_uint_eq(b[0], 0x3c);
	SEND(&t, 0x07, 1); /* no such drive: track 0 is not found */
	expect_sense(&t, 0x71, 0);
	floppy_finish(&t);
}
END_TEST

START_TEST(read_id)
{
	struct floppy t;

	floppy_init(&t);
	seek(&t, 12);
	SEND(&t, 0x4a, 4);
	expect_result(&t, 0x04, 0, 0, 12, 1, 1);
	out8(&t.f, CCR, 2); /* 250 kb/s finds nothing on a 1.44M disk */
	SEND(&t, 0x4a, 0);
	expect_result(&t, 0x40, 0x01, 0, 0, 0, 0);
	out8(&t.f, CCR, 0);
	seek(&t, 80); /* beyond the last track */
	SEND(&t, 0x4a, 0);
	expect_result(&t, 0x40, 0x01, 0, 0, 0, 0);
	floppy_finish(&t);
}
END_TEST

/* ---- data ---- */

START_TEST(read_by_dma)
{
	struct floppy t;

	floppy_init(&t);
	seek(&t, 3);
	dma_set(&t, 0x44, BUFFER, 3 * 512);
	SEND(&t, 0xe6, 0, 3, 0, 16, 2, 18, 0x1b, 0xff); /* MT: sectors 16, 17, 18 of side 0 */
	expect_result(&t, 0x00 | 4, 0, 0, 3, 1, 1); /* next would be side 1, sector 1 */
	expect_memory(&t, BUFFER, 3 * 36 + 15, 3 * 512);
	ck_assert_uint_eq(in8(&t.f, 0x08) & 0x04, 0x04); /* terminal count, once */
	ck_assert_uint_eq(in8(&t.f, 0x08) & 0x04, 0);
	/* Over the side: a whole cylinder. */
	dma_set(&t, 0x44, BUFFER, 36 * 512);
	SEND(&t, 0xe6, 0, 3, 0, 1, 2, 18, 0x1b, 0xff);
	expect_result(&t, 0, 0, 0, 4, 0, 1);
	expect_memory(&t, BUFFER, 3 * 36, 36 * 512);
	/* Terminal count in the middle of a sector. */
	memory_write(t.f.m.memory, BUFFER + 100, 0xaa, 1);
	dma_set(&t, 0x44, BUFFER, 100);
	SEND(&t, 0x46, 4, 3, 1, 5, 2, 18, 0x1b, 0xff);
	expect_result(&t, 4, 0, 0, 3, 1, 6);
	expect_memory(&t, BUFFER, 3 * 36 + 18 + 4, 100);
	ck_assert_uint_eq(mem8(&t, BUFFER + 100), 0xaa);
	floppy_finish(&t);
}
END_TEST

START_TEST(end_of_cylinder)
{
	struct floppy t;

	floppy_init(&t);
	dma_set(&t, 0x44, BUFFER, 40 * 512); /* more than there is */
	SEND(&t, 0x46, 0, 0, 0, 17, 2, 18, 0x1b, 0xff);
	expect_result(&t, 0x40, 0x80, 0, 1, 0, 1);
	expect_memory(&t, BUFFER, 16, 2 * 512);
	SEND(&t, 0x46, 0, 0, 0, 17, 2, 255, 0x1b, 0xff); /* EOT past the track: sector 19 */
	expect_result(&t, 0x40, 0x04, 0, 0, 0, 19);
	floppy_finish(&t);
}
END_TEST

START_TEST(sector_not_found)
{
	struct floppy t;

	floppy_init(&t);
	dma_set(&t, 0x44, BUFFER, 512);
	SEND(&t, 0x46, 0, 5, 0, 1, 2, 18, 0x1b, 0xff); /* wrong cylinder */
	expect_result(&t, 0x40, 0x04, 0x10, 5, 0, 1);
	SEND(&t, 0x46, 0, 0, 1, 1, 2, 18, 0x1b, 0xff); /* head that is not selected */
	expect_result(&t, 0x44, 0x04, 0, 0, 1, 1);
	SEND(&t, 0x46, 0, 0, 0, 0, 2, 18, 0x1b, 0xff);
	expect_result(&t, 0x40, 0x04, 0, 0, 0, 0);
	SEND(&t, 0x46, 0, 0, 0, 1, 3, 18, 0x1b, 0xff); /* 1024-byte sectors */
	expect_result(&t, 0x40, 0x04, 0, 0, 0, 1);
	SEND(&t, 0x46, 1, 0, 0, 1, 2, 18, 0x1b, 0xff); /* no drive */
	expect_result(&t, 0x41, 0x01, 0, 0, 0, 1);
	SEND(&t, 0x13, 0, 0x40, 0); /* implied seek finds the cylinder by itself */
	SEND(&t, 0x46, 0, 5, 0, 1, 2, 18, 0x1b, 0xff);
	expect_result(&t, 0, 0, 0, 5, 0, 2);
	expect_memory(&t, BUFFER, 5 * 36, 512);
	floppy_finish(&t);
}
END_TEST

START_TEST(write_by_dma)
{
	struct floppy t;

	floppy_init(&t);
	for (unsigned i = 0; i < 1024; i++)
		memory_write(t.f.m.memory, BUFFER + i, 0x30 + (i >> 9), 1);
	dma_set(&t, 0x48, BUFFER, 700); /* the rest of the second sector is zero */
	SEND(&t, 0x45, 4, 0, 1, 3, 2, 18, 0x1b, 0xff);
	expect_result(&t, 4, 0, 0, 0, 1, 5);
	ck_assert_uint_eq(image_byte(&t, 19, 511), pattern(19, 511));
	ck_assert_uint_eq(image_byte(&t, 20, 0), 0x30);
	ck_assert_uint_eq(image_byte(&t, 21, 187), 0x31);
	ck_assert_uint_eq(image_byte(&t, 21, 188), 0);
	ck_assert_uint_eq(image_byte(&t, 22, 0), pattern(22, 0));
	/* The other direction is programmed: overrun. */
	dma_set(&t, 0x44, BUFFER, 512);
	SEND(&t, 0x45, 4, 0, 1, 3, 2, 18, 0x1b, 0xff);
	expect_result(&t, 0x44, 0x10, 0, 0, 1, 3);
	floppy_finish(&t);
}
END_TEST

START_TEST(write_protected)
{
	struct floppy t;
	uint8_t b[16];

	floppy_init_sectors(&t, 2880, BLOCK_RO);
	dma_set(&t, 0x48, BUFFER, 512);
	SEND(&t, 0x45, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	ck_assert_uint_eq(receive(&t, b, 16), 7);
	ck_assert_uint_eq(b[0], 0x40);
	ck_assert_uint_eq(b[1], 0x02);
	SEND(&t, 0x04, 0);
	receive(&t, b, 16);
	ck_assert_uint_eq(b[0] & 0x40, 0x40);
	floppy_finish(&t);
}
END_TEST

START_TEST(format_track)
{
	struct floppy t;

	floppy_init(&t);
	seek(&t, 9);
	for (unsigned i = 0; i < 18; i++)
		memory_write(t.f.m.memory, BUFFER + i * 4, 9 | 1 << 8 | (i + 1) << 16 | 2u << 24, 4);
	dma_set(&t, 0x48, BUFFER, 72);
	SEND(&t, 0x4d, 4, 2, 18, 0x54, 0xf6);
	expect_result(&t, 4, 0, 0, 9, 1, 1);
	ck_assert_uint_eq(image_byte(&t, 9 * 36 + 17, 0), pattern(9 * 36 + 17, 0));
	ck_assert_uint_eq(image_byte(&t, 9 * 36 + 18, 0), 0xf6);
	ck_assert_uint_eq(image_byte(&t, 9 * 36 + 35, 511), 0xf6);
	ck_assert_uint_eq(image_byte(&t, 10 * 36, 0), pattern(360, 0));
	/* Address fields that are not on the disk. */
	memory_write(t.f.m.memory, BUFFER, 0xffffffff, 4);
	dma_set(&t, 0x48, BUFFER, 4);
	SEND(&t, 0x4d, 4, 2, 1, 0x54, 0x11);
	expect_result(&t, 4, 0, 0, 9, 1, 1);
	floppy_finish(&t);
}
END_TEST

START_TEST(verify_and_read_track)
{
	struct floppy t;

	floppy_init(&t);
	SEND(&t, 0x56, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	expect_result(&t, 0, 0, 0, 1, 0, 1);
	SEND(&t, 0x56, 0x80, 0, 0, 1, 2, 18, 0x1b, 5); /* EC: five sectors */
	expect_result(&t, 0, 0, 0, 0, 0, 6);
	SEND(&t, 0x56, 0, 0, 0, 1, 2, 30, 0x1b, 0xff);
	expect_result(&t, 0x40, 0x04, 0, 0, 0, 19);
	dma_set(&t, 0x44, BUFFER, 18 * 512);
	SEND(&t, 0x42, 0, 0, 0, 7, 2, 18, 0x1b, 0xff); /* begins at the index hole */
	expect_result(&t, 0, 0, 0, 1, 0, 1);
	expect_memory(&t, BUFFER, 0, 18 * 512);
	floppy_finish(&t);
}
END_TEST

START_TEST(without_dma)
{
	struct floppy t;

	floppy_init(&t);
	SEND(&t, 0x03, 0xdf, 0x03);
	SEND(&t, 0x46, 0, 0, 0, 17, 2, 18, 0x1b, 0xff);
	for (unsigned s = 16; s < 18; s++) {
		ck_assert(t.f.level[6]);
		ck_assert_uint_eq(msr(&t), RQM | DIO | NDM | CB);
		for (unsigned i = 0; i < 512; i++)
			ck_assert_uint_eq(in8(&t.f, FIFO), pattern(s, i));
		run(&t);
	}
	expect_result(&t, 0x40, 0x80, 0, 1, 0, 1); /* no terminal count: end of cylinder */
	SEND(&t, 0x45, 0, 0, 0, 18, 2, 18, 0x1b, 0xff);
	ck_assert_uint_eq(msr(&t), RQM | NDM | CB);
	for (unsigned i = 0; i < 512; i++)
		out8(&t.f, FIFO, 0x99);
	run(&t);
	expect_result(&t, 0x40, 0x80, 0, 1, 0, 1);
	ck_assert_uint_eq(image_byte(&t, 17, 511), 0x99);
	SEND(&t, 0x4d, 0, 2, 2, 0x54, 0xe5);
	for (unsigned s = 1; s <= 2; s++) {
		out8(&t.f, FIFO, 0);
		out8(&t.f, FIFO, 0);
		out8(&t.f, FIFO, (uint8_t)s);
		out8(&t.f, FIFO, 2);
		run(&t);
	}
	expect_result(&t, 0, 0, 0, 0, 0, 1);
	ck_assert_uint_eq(image_byte(&t, 1, 511), 0xe5);
	ck_assert_uint_eq(image_byte(&t, 2, 0), pattern(2, 0));
	floppy_finish(&t);
}
END_TEST

START_TEST(dma_set_up_late)
{
	struct floppy t;

	floppy_init(&t);
	SEND(&t, 0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	ck_assert_uint_eq(msr(&t), CB);
	dma_set(&t, 0x44, BUFFER, 512);
	fixture_run_ns(&t.f, 5000000);
	expect_result(&t, 0, 0, 0, 0, 0, 2);
	expect_memory(&t, BUFFER, 0, 512);
	/* Never: overrun after a while, not a hang. */
	out8(&t.f, 0x0a, 6);
	SEND(&t, 0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	fixture_run_ns(&t.f, 1000000000);
	expect_result(&t, 0x40, 0x10, 0, 0, 0, 1);
	floppy_finish(&t);
}
END_TEST

START_TEST(disk_change)
{
	struct floppy t;
	struct error err = { "" };

	floppy_init(&t);
	seek(&t, 1);
	ck_assert_uint_eq(in8(&t.f, DIR) & 0x80, 0);
	ck_assert(fdc_set_disk(t.fdc, 0, NULL, &err));
	ck_assert_uint_eq(in8(&t.f, DIR) & 0x80, 0x80);
	seek(&t, 2); /* stays while there is no disk */
	ck_assert_uint_eq(in8(&t.f, DIR) & 0x80, 0x80);
	SEND(&t, 0x4a, 0);
	expect_result(&t, 0x40, 0x01, 0, 0, 0, 0);
	ck_assert(fdc_set_disk(t.fdc, 0, block_open(t.path, BLOCK_RW, &err), &err));
	seek(&t, 1);
	ck_assert_uint_eq(in8(&t.f, DIR) & 0x80, 0);
	ck_assert(!fdc_set_disk(t.fdc, 1, NULL, &err));
	out8(&t.f, DOR, 0x0c); /* motor off: the line is not driven */
	ck_assert_uint_eq(in8(&t.f, DIR) & 0x80, 0);
	floppy_finish(&t);
}
END_TEST

START_TEST(formats)
{
	static const struct { unsigned kib, type, rate, last; } formats[] = {
		{ 360, FDC_TYPE_1200K, 1, 9 }, { 720, FDC_TYPE_1440K, 2, 9 },
		{ 1200, FDC_TYPE_1200K, 0, 15 }, { 1440, FDC_TYPE_1440K, 0, 18 },
		{ 2880, FDC_TYPE_2880K, 3, 36 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
		struct floppy t;

		floppy_init_sectors(&t, formats[i].kib * 2, BLOCK_RO);
		ck_assert_uint_eq(fdc_drive_type(t.fdc, 0), formats[i].type);
		ck_assert_uint_eq(fdc_drive_type(t.fdc, 1), FDC_TYPE_NONE);
		out8(&t.f, CCR, (uint8_t)formats[i].rate);
		seek(&t, 39);
		dma_set(&t, 0x44, BUFFER, 512);
		SEND(&t, 0x46, 4, 39, 1, (uint8_t)formats[i].last, 2, (uint8_t)formats[i].last, 0x1b, 0xff);
		expect_result(&t, 4, 0, 0, 40, 1, 1);
		expect_memory(&t, BUFFER, 80 * formats[i].last - 1, 512);
		floppy_finish(&t);
	}
}
END_TEST

START_TEST(unknown_size)
{
	struct fixture f;
	struct error err = { "" };
	struct block *drives[2] = { NULL, NULL };
	char path[64];
	struct device *dma;

	fixture_init(&f);
	make_image(path, 1000);
	drives[0] = block_open(path, BLOCK_RO, &err);
	dma = i8237_create(&f.m, &err);
	ck_assert(fdc_create(&f.m, fixture_line(&f, 6), dma, drives, NULL, &err) == NULL);
	ck_assert(strstr(err.text, "512000 bytes is no floppy format") != NULL);
	block_close(drives[0]);
	fixture_finish(&f);
	unlink(path);
}
END_TEST

START_TEST(random_bytes)
{
	struct floppy t;
	uint32_t x = 99;

	floppy_init_sectors(&t, 2880, BLOCK_SNAPSHOT);
	for (unsigned i = 0; i < 300000; i++) {
		uint16_t port;

		x = x * 1664525 + 1013904223;
		port = (uint16_t)(0x3f2 + (x >> 28 & 3));
		if ((x >> 28 & 15) == 15)
			port = 0x3f7;
		if ((x >> 24 & 15) == 0)
			port = (uint16_t)(x >> 16 & 0xf);
		if (x >> 12 & 3)
			out8(&t.f, port, port == DOR ? 0x1c | (x >> 8 & 1) : (uint8_t)(x >> 4 ^ x >> 17));
		else
			in8(&t.f, port);
		if ((x >> 20 & 15) == 0)
			loop_run(t.f.m.loop);
	}
	floppy_finish(&t);
}
END_TEST

/* ---- DMA controllers ---- */

START_TEST(i8237_registers)
{
	struct floppy t;

	floppy_init(&t);
	out8(&t.f, 0x0d, 0); /* master clear masks everything */
	ck_assert_uint_eq(in8(&t.f, 0x0f) & 0xf, 0xf);
	out8(&t.f, 0x0a, 1);
	ck_assert_uint_eq(in8(&t.f, 0x0f) & 0xf, 0xd);
	out8(&t.f, 0x02, 0x34); /* low, then high byte */
	out8(&t.f, 0x02, 0x12);
	ck_assert_uint_eq(in8(&t.f, 0x02), 0x34);
	ck_assert_uint_eq(in8(&t.f, 0x02), 0x12);
	out8(&t.f, 0xc4, 0x78);
	out8(&t.f, 0xc4, 0x56);
	ck_assert_uint_eq(in8(&t.f, 0xc4), 0x78);
	ck_assert_uint_eq(in8(&t.f, 0xc4), 0x56);
	out8(&t.f, 0x83, 0xab);
	ck_assert_uint_eq(in8(&t.f, 0x83), 0xab);
	out8(&t.f, 0x84, 0xcd); /* a latch without a channel */
	ck_assert_uint_eq(in8(&t.f, 0x84), 0xcd);
	floppy_finish(&t);
}
END_TEST

START_TEST(i8237_wraps_in_its_page)
{
	struct floppy t;
	uint8_t buf[64];
	bool tc;

	floppy_init(&t);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i + 1);
	dma_set(&t, 0x44, 0x2fff0, 32);
	ck_assert_uint_eq(i8237_transfer(t.dma, 2, buf, 20, true, &tc), 20);
	ck_assert(!tc);
	ck_assert_uint_eq(mem8(&t, 0x2ffff), 16);
	ck_assert_uint_eq(mem8(&t, 0x20000), 17); /* not 0x30000 */
	ck_assert_uint_eq(mem8(&t, 0x30000), 0);
	ck_assert_uint_eq(i8237_transfer(t.dma, 2, buf, 64, true, &tc), 12);
	ck_assert(tc);
	ck_assert_uint_eq(i8237_transfer(t.dma, 2, buf, 64, true, &tc), 0); /* masked itself */
	/* Autoinitialise starts again; decrement goes down. */
	dma_set(&t, 0x74, 0x20100, 4);
	ck_assert_uint_eq(i8237_transfer(t.dma, 2, buf, 64, true, &tc), 4);
	ck_assert(tc);
	ck_assert_uint_eq(mem8(&t, 0x200fd), 4);
	ck_assert_uint_eq(i8237_transfer(t.dma, 2, buf + 10, 1, true, &tc), 1);
	ck_assert_uint_eq(mem8(&t, 0x20100), 11);
	floppy_finish(&t);
}
END_TEST

START_TEST(i8237_words)
{
	struct floppy t;
	uint8_t buf[16] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	bool tc;

	floppy_init(&t);
	out8(&t.f, 0xd8, 0);
	out8(&t.f, 0xd6, 0x45);  /* channel 5, to memory */
	out8(&t.f, 0xc4, 0x00);
	out8(&t.f, 0xc4, 0x80);  /* word address 0x8000 */
	out8(&t.f, 0xc6, 0x02);
	out8(&t.f, 0xc6, 0x00);
	out8(&t.f, 0x8b, 0x05);  /* bit 0 does not count */
	out8(&t.f, 0xd4, 0x01);
	ck_assert_uint_eq(i8237_transfer(t.dma, 5, buf, 5, true, &tc), 4);
	ck_assert_uint_eq(i8237_transfer(t.dma, 5, buf + 4, 12, true, &tc), 2);
	ck_assert(tc);
	ck_assert_uint_eq(mem8(&t, 0x50000), 1);
	ck_assert_uint_eq(mem8(&t, 0x50005), 6);
	ck_assert_uint_eq(mem8(&t, 0x50006), 0);
	ck_assert_uint_eq(i8237_transfer(t.dma, 4, buf, 8, true, &tc), 0);
	ck_assert_uint_eq(i8237_transfer(t.dma, 9, buf, 8, true, &tc), 0);
	floppy_finish(&t);
}
END_TEST

static void add(TCase *t)
{
	tcase_add_test(t, reset_and_sense);
	tcase_add_test(t, version_configure_lock_dumpreg);
	tcase_add_test(t, seek_and_recalibrate);
	tcase_add_test(t, read_id);
	tcase_add_test(t, read_by_dma);
	tcase_add_test(t, end_of_cylinder);
	tcase_add_test(t, sector_not_found);
	tcase_add_test(t, write_by_dma);
	tcase_add_test(t, write_protected);
	tcase_add_test(t, format_track);
	tcase_add_test(t, verify_and_read_track);
	tcase_add_test(t, without_dma);
	tcase_add_test(t, dma_set_up_late);
	tcase_add_test(t, disk_change);
	tcase_add_test(t, formats);
	tcase_add_test(t, unknown_size);
	tcase_add_test(t, random_bytes);
	tcase_add_test(t, i8237_registers);
	tcase_add_test(t, i8237_wraps_in_its_page);
	tcase_add_test(t, i8237_words);
}

int main(void)
{
	return fixture_main("fdc", add);
}
