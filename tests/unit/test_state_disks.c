/* Drives that move to another device in the middle of their work.
 *
 * A script of guest accesses runs twice: once undisturbed, and once with the state of
 * all devices saved into bytes, the machine thrown away, and a new one made from the
 * bytes, before every single access (and then at random ones). What the guest reads,
 * what is in its memory and on its disks must be the same.
 */
#include "tests/unit/fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "core/block.h"
#include "devices/fdc.h"
#include "devices/i8237.h"
#include "devices/pci.h"
#include "devices/piix3_ide.h"
#include "statefile/fields.h"

enum { DISK_SECTORS = 600, CD_SECTORS = 40, FLOPPY_SECTORS = 2880, LOG = 1 << 16 };
enum { BM = 0xc000, TABLE = 0x8000, BUFFER = 0x100000, BUFFER_SIZE = 0x20000, LOW_BUFFER = 0x20000 };
enum { DOR = 0x3f2, FIFO = 0x3f5, CCR = 0x3f7 };
enum { HDA, CD, FLOPPY, IMAGES };

struct world {
	struct fixture f;
	struct pci_bus *bus;
	struct device *ide, *dma, *fdc;
	enum block_mode mode;
	char path[IMAGES][64];
	unsigned chance, seed; /* of moving before an access: 1 in so many; 0: never */
	unsigned moves;
	uint32_t log[LOG];     /* what the guest has read */
	unsigned logged;
};

static void make_image(char path[64], unsigned bytes, unsigned key)
{
	FILE *f;
	int fd;

	strcpy(path, "/var/tmp/gannet-state-XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	f = fdopen(fd, "w");
	for (unsigned i = 0; i < bytes; i++)
		fputc((int)(i * key + (i >> 9) * 5 + (i >> 8)) & 0xff, f);
	fclose(f);
}

/* ---- a machine with drives ---- */

static void build(struct world *w)
{
	struct error err = { "" };
	struct block *ide[4] = { NULL }, *floppy[2] = { NULL };
	const bool is_cd[4] = { false, true, false, false };
	struct irq_line irq[2];

	fixture_init(&w->f);
	memory_add_ram(w->f.m.memory, 0, 16 * MIB, 0, MEMORY_RAM, 0, "ram");
	ide[0] = block_open(w->path[HDA], w->mode, &err);
	ide[1] = block_open(w->path[CD], BLOCK_RO, &err);
	floppy[0] = block_open(w->path[FLOPPY], w->mode, &err);
	ck_assert_msg(ide[0] && ide[1] && floppy[0], "%s", err.text);
	w->bus = pci_bus_create(&w->f.m, &err);
	irq[0] = fixture_line(&w->f, 14);
	irq[1] = fixture_line(&w->f, 15);
	w->ide = piix3_ide_create(&w->f.m, w->bus, irq, ide, is_cd, &err);
	w->dma = i8237_create(&w->f.m, &err);
	w->fdc = fdc_create(&w->f.m, fixture_line(&w->f, 6), w->dma, floppy, NULL, &err);
	ck_assert_msg(w->bus && w->ide && w->dma && w->fdc, "%s", err.text);
}

struct saved {
	struct state_buf state[8];
	uint8_t *ram;
	int64_t now;
};

static void copy_ram(struct world *w, uint8_t *ram, bool out)
{
	if (out) {
		memory_read_bytes(w->f.m.memory, TABLE, ram, 0x1000);
		memory_read_bytes(w->f.m.memory, LOW_BUFFER, ram + 0x1000, 0x8000);
		memory_read_bytes(w->f.m.memory, BUFFER, ram + 0x9000, BUFFER_SIZE);
	} else {
		memory_write_bytes(w->f.m.memory, TABLE, ram, 0x1000);
		memory_write_bytes(w->f.m.memory, LOW_BUFFER, ram + 0x1000, 0x8000);
		memory_write_bytes(w->f.m.memory, BUFFER, ram + 0x9000, BUFFER_SIZE);
	}
}

static void load(struct device *d, const struct state_buf *b)
{
	struct error err = { "" };
	struct device *copy = malloc(d->ops->size);
	const char *field = NULL;

	memcpy(copy, d, d->ops->size);
	ck_assert_msg(fields_parse(b->data, b->len, d->ops->fields, copy, false, &err), "%s: %s",
		      d->ops->name, err.text);
	ck_assert_msg(!d->ops->check || d->ops->check(copy, &field), "%s: %s", d->ops->name, field);
	fields_apply(d->ops->fields, copy, d);
	free(copy);
}

/* Everything into bytes, a new machine, everything back. */
static void move(struct world *w)
{
	struct saved s = { .ram = malloc(0x9000 + BUFFER_SIZE) };
	unsigned n = 0;

	block_settle(piix3_ide_image(w->ide, 0));
	block_settle(piix3_ide_image(w->ide, 1));
	s.now = loop_now(w->f.m.loop);
	for (struct device *d = w->f.m.devices; d; d = d->next, n++) {
		ck_assert_uint_lt(n, ARRAY_SIZE(s.state));
		fields_save(&s.state[n], d->ops->fields, d);
		ck_assert(!s.state[n].failed);
	}
	copy_ram(w, s.ram, true);
	fixture_finish(&w->f);
	build(w);
	copy_ram(w, s.ram, false);
	n = 0;
	for (struct device *d = w->f.m.devices; d; d = d->next)
		load(d, &s.state[n++]);
	loop_set_now(w->f.m.loop, s.now);
	for (struct device *d = w->f.m.devices; d; d = d->next) {
		if (d->ops->loaded)
			d->ops->loaded(d);
	}
	for (unsigned i = 0; i < n; i++)
		state_buf_finish(&s.state[i]);
	free(s.ram);
	w->moves++;
}

/* ---- what a guest does ---- */

static void maybe_move(struct world *w, unsigned rarer)
{
	if (!w->chance)
		return;
	w->seed = w->seed * 1103515245 + 12345;
	if ((w->seed >> 16) % (w->chance * rarer) == 0)
		move(w);
}

/* One word of a sector is like the other: not before each of them. */
static unsigned data_port(uint16_t port)
{
	return port == 0x1f0 ? 40 : 1;
}

static void say(struct world *w, uint32_t v)
{
	ck_assert_uint_lt(w->logged, LOG);
	w->log[w->logged++] = v;
}

static void out(struct world *w, uint16_t port, uint32_t v, unsigned size)
{
	maybe_move(w, data_port(port));
	ioport_write(w->f.m.io, port, v, size);
}

static uint32_t in(struct world *w, uint16_t port, unsigned size)
{
	uint32_t v;

	maybe_move(w, data_port(port));
	v = ioport_read(w->f.m.io, port, size);
	say(w, v);
	return v;
}

static void poke(struct world *w, uint32_t address, uint32_t v)
{
	uint8_t b[4];

	store_le32(b, v);
	memory_write_bytes(w->f.m.memory, address, b, 4);
}

/* One look at what is due, which may leave the drive waiting for its image. */
static void once(struct world *w)
{
	maybe_move(w, 1);
	loop_run(w->f.m.loop);
	maybe_move(w, 1);
}

/* Until the drives are ready. */
static void run(struct world *w)
{
	const struct timespec nap = { 0, 100000 };

	once(w);
	for (unsigned i = 0; i < 5000; i++) {
		loop_run(w->f.m.loop);
		if (!(ioport_read(w->f.m.io, 0x3f6, 1) & 0x80) &&
		    (!(ioport_read(w->f.m.io, DOR, 1) & 4) || (ioport_read(w->f.m.io, 0x3f4, 1) & 0x80)))
			break;
		nanosleep(&nap, NULL);
	}
	maybe_move(w, 1);
	say(w, w->f.level[14] | w->f.level[15] << 1 | w->f.level[6] << 2);
}

static void status(struct world *w)
{
	for (unsigned reg = 1; reg < 8; reg++) /* 7 takes the interrupt back */
		in(w, (uint16_t)(0x1f0 + reg), 1);
	in(w, 0x3f6, 1);
	in(w, BM + 2, 1);
	say(w, w->f.level[14]);
}

/* Out of the host's memory with an image, so that reading it has to wait. */
static void cold(struct world *w, unsigned image)
{
	int fd = open(w->path[image], O_RDWR);

	fdatasync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
}

static void lba(struct world *w, unsigned at, unsigned count, unsigned command)
{
	out(w, 0x1f6, 0xe0, 1);
	out(w, 0x1f2, count, 1);
	out(w, 0x1f3, at & 0xff, 1);
	out(w, 0x1f4, at >> 8, 1);
	out(w, 0x1f5, 0, 1);
	out(w, 0x1f7, command, 1);
}

static void feature(struct world *w, unsigned f, unsigned count)
{
	out(w, 0x1f6, 0xe0, 1);
	out(w, 0x1f1, f, 1);
	out(w, 0x1f2, count, 1);
	out(w, 0x1f7, 0xef, 1);
	run(w);
	status(w);
}

static void bm_start(struct world *w, unsigned direction)
{
	out(w, BM + 2, 6, 1);
	out(w, BM + 4, TABLE, 4);
	out(w, BM, direction | 1, 1);
}

static void fill(struct world *w, uint32_t address, unsigned bytes, unsigned key)
{
	for (unsigned i = 0; i < bytes; i += 4)
		poke(w, address + i, i * key + (key << 20));
}

/* ---- scripts ---- */

static void pio_read(struct world *w)
{
	cold(w, HDA);
	lba(w, 5, 3, 0x20);
	for (unsigned n = 0; n < 3; n++) {
		run(w);
		status(w);
		for (unsigned i = 0; i < 128; i++)
			in(w, 0x1f0, 4);
	}
	run(w);
	status(w);
	out(w, 0x1f2, 4, 1); /* READ MULTIPLE in blocks of four */
	out(w, 0x1f7, 0xc6, 1);
	run(w);
	cold(w, HDA);
	lba(w, 17, 6, 0xc4);
	for (unsigned n = 0; n < 2; n++) {
		run(w);
		status(w);
		for (unsigned i = 0; i < (n ? 256 : 512); i++)
			in(w, 0x1f0, 4);
	}
	run(w);
	status(w);
	feature(w, 0x03, 0x22);
	out(w, 0x1f2, 9, 1); /* 4 heads, 9 sectors */
	out(w, 0x1f6, 0xa3, 1);
	out(w, 0x1f7, 0x91, 1);
	run(w);
	out(w, 0x1f6, 0xa2, 1); /* cylinder 3, head 2, sector 4 */
	out(w, 0x1f2, 1, 1);
	out(w, 0x1f3, 4, 1);
	out(w, 0x1f4, 3, 1);
	out(w, 0x1f5, 0, 1);
	out(w, 0x1f7, 0x20, 1);
	run(w);
	for (unsigned i = 0; i < 256; i++)
		in(w, 0x1f0, 2);
	status(w);
	out(w, 0x1f7, 0xec, 1); /* IDENTIFY says what was set */
	run(w);
	for (unsigned i = 0; i < 256; i++)
		in(w, 0x1f0, 2);
	status(w);
}

static void pio_write(struct world *w)
{
	feature(w, 0x82, 0); /* write cache off: each write is flushed */
	lba(w, 40, 2, 0x30);
	for (unsigned n = 0; n < 2; n++) {
		run(w);
		for (unsigned i = 0; i < 256; i++)
			out(w, 0x1f0, i * 259 + n, 2);
	}
	once(w); /* the flush is under way */
	run(w);
	status(w);
	out(w, 0x1f7, 0xe7, 1);
	once(w);
	run(w);
	status(w);
}

static void dma(struct world *w)
{
	feature(w, 0x03, 0x45);
	/* Out, with a table that comes in two parts: the drive waits in between. */
	fill(w, BUFFER, 0x2000, 77);
	poke(w, TABLE, BUFFER);
	poke(w, TABLE + 4, 0x80000a00);
	lba(w, 100, 16, 0xca);
	run(w);
	bm_start(w, 0);
	once(w);
	run(w);
	in(w, BM + 2, 1);
	out(w, BM, 0, 1);
	poke(w, TABLE, BUFFER + 0xa00);
	poke(w, TABLE + 4, 0x600);
	poke(w, TABLE + 8, BUFFER + 0x1000);
	poke(w, TABLE + 12, 0x80001000);
	bm_start(w, 0);
	once(w);
	run(w);
	status(w);
	out(w, BM, 0, 1);
	/* In, more than one burst of it, from an image that the host has to read. */
	for (unsigned i = 0; i < 4; i++) {
		poke(w, TABLE + i * 8, BUFFER + i % 2 * 0x10000);
		poke(w, TABLE + i * 8 + 4, i ? 0 : 0x9000); /* not where the drive's buffers end */
	}
	poke(w, TABLE + 28, 0x80010000);
	cold(w, HDA);
	lba(w, 90, 0x39000 / 512 & 0xff, 0xc8);
	bm_start(w, 8);
	once(w);
	once(w);
	run(w);
	status(w);
	out(w, BM, 0, 1);
	/* Stopped and started again; an interrupt nobody takes yet. */
	lba(w, 7, 4, 0xc8);
	run(w);
	out(w, 0x3f6, 2, 1);
	poke(w, TABLE + 4, 0x80000800);
	bm_start(w, 8);
	run(w);
	out(w, 0x3f6, 0, 1);
	say(w, w->f.level[14]);
	status(w);
	out(w, BM, 0, 1);
	lba(w, 595, 10, 0x25); /* past the end */
	run(w);
	status(w);
	out(w, 0x1f7, 0xe0, 1);
	run(w);
	out(w, 0x1f7, 0xe5, 1); /* asleep? */
	run(w);
	status(w);
	out(w, 0x3f6, 4, 1); /* a reset that is held for a while */
	once(w);
	in(w, 0x3f6, 1);
	out(w, 0x3f6, 0, 1);
	run(w);
	status(w);
}

static void packet(struct world *w, unsigned limit, bool by_dma, const char *bytes)
{
	out(w, 0x1f6, 0xf0, 1);
	out(w, 0x1f1, by_dma, 1);
	out(w, 0x1f4, limit & 0xff, 1);
	out(w, 0x1f5, limit >> 8, 1);
	out(w, 0x1f7, 0xa0, 1);
	run(w);
	cold(w, CD);
	for (unsigned i = 0; i < 12; i += 2)
		out(w, 0x1f0, (uint8_t)bytes[i] | (uint8_t)bytes[i + 1] << 8, 2);
}

static void packet_in(struct world *w)
{
	run(w);
	while ((in(w, 0x3f6, 1) & 0x89) == 0x08) {
		unsigned n;

		in(w, 0x1f7, 1);
		n = in(w, 0x1f4, 1);
		n |= in(w, 0x1f5, 1) << 8;
		for (unsigned i = 0; i < (n + 1) / 2; i++)
			in(w, 0x1f0, 2);
		run(w);
	}
	status(w);
}

static void cd(struct world *w)
{
	packet(w, 3000, false, "\x28\0\0\0\0\x05\0\0\x03\0\0\0"); /* READ(10) of three sectors */
	packet_in(w);
	packet(w, 700, false, "\xbe\x08\0\0\0\x02\0\0\x02\xb8\0\0"); /* READ CD with headers, odd blocks */
	packet_in(w);
	packet(w, 100, false, "\x28\0\0\0\x01\x05\0\0\x03\0\0\0"); /* past the end: remembered */
	packet_in(w);
	packet(w, 17, false, "\x03\0\0\0\x12\0\0\0\0\0\0\0"); /* REQUEST SENSE in 16 + 2 bytes */
	packet_in(w);
	packet(w, 100, false, "\x1e\0\0\0\x01\0\0\0\0\0\0\0"); /* lock, then try to eject */
	packet_in(w);
	packet(w, 100, false, "\x1b\0\0\0\x02\0\0\0\0\0\0\0");
	packet_in(w);
	packet(w, 100, false, "\x1e\0\0\0\0\0\0\0\0\0\0\0");
	packet_in(w);
	poke(w, TABLE, BUFFER + 0x100);
	poke(w, TABLE + 4, 0x5000);
	poke(w, TABLE + 8, BUFFER + 0x8000);
	poke(w, TABLE + 12, 0x80005000);
	packet(w, 0, true, "\xa8\0\0\0\0\x01\0\0\0\x14\0\0"); /* READ(12), DMA */
	once(w);
	bm_start(w, 8);
	once(w);
	run(w);
	status(w);
	out(w, BM, 0, 1);
	packet(w, 100, false, "\x1b\0\0\0\x02\0\0\0\0\0\0\0"); /* ejected: no disc from now on */
	packet_in(w);
	packet(w, 100, false, "\0\0\0\0\0\0\0\0\0\0\0\0");
	packet_in(w);
}

static void fdc_send(struct world *w, unsigned n, const char *bytes)
{
	for (unsigned i = 0; i < n; i++)
		out(w, FIFO, (uint8_t)bytes[i], 1);
}

/* A sector without DMA. */
static void fifo_bytes(struct world *w, bool to_disk)
{
	unsigned chance = w->chance;

	w->chance *= 40;
	for (unsigned i = 0; i < 512; i++) {
		if (to_disk)
			out(w, FIFO, i * 7, 1);
		else
			in(w, FIFO, 1);
	}
	w->chance = chance;
}

static void fdc_results(struct world *w)
{
	run(w);
	for (unsigned i = 0; i < 16 && (in(w, 0x3f4, 1) & 0xd0) == 0xd0; i++)
		in(w, FIFO, 1);
	say(w, w->f.level[6]);
}

static void fdc_dma(struct world *w, unsigned mode, unsigned bytes)
{
	out(w, 0x0a, 6, 1);
	out(w, 0x0c, 0, 1);
	out(w, 0x0b, mode, 1);
	out(w, 0x04, LOW_BUFFER & 0xff, 1);
	out(w, 0x04, LOW_BUFFER >> 8 & 0xff, 1);
	out(w, 0x81, LOW_BUFFER >> 16, 1);
	out(w, 0x05, (bytes - 1) & 0xff, 1);
	out(w, 0x05, (bytes - 1) >> 8, 1);
	out(w, 0x0a, 2, 1);
}

static void floppy(struct world *w)
{
	out(w, CCR, 0, 1);
	out(w, 0x3f3, 2, 1);
	in(w, 0x3f3, 1);
	out(w, DOR, 0x1c, 1);
	once(w);
	run(w);
	for (unsigned i = 0; i < 4; i++) {
		fdc_send(w, 1, "\x08");
		fdc_results(w);
	}
	fdc_send(w, 4, "\x13\0\x57\x11");     /* CONFIGURE */
	fdc_send(w, 1, "\x94");                /* LOCK */
	fdc_results(w);
	fdc_send(w, 3, "\x03\xdf\x02");       /* SPECIFY, DMA */
	fdc_send(w, 3, "\x0f\x00\x07");       /* SEEK */
	fdc_results(w);
	in(w, 0x3f7, 1);
	fdc_send(w, 1, "\x08");
	fdc_results(w);
	/* The command first, DMA a moment later: the chip tries again. */
	fdc_send(w, 9, "\xe6\x00\x07\x00\x03\x02\x12\x1b\xff");
	once(w);
	fdc_dma(w, 0x46, 6 * 512);
	fdc_results(w);
	fill(w, LOW_BUFFER, 0x1000, 13);
	fdc_dma(w, 0x4a, 4 * 512);
	fdc_send(w, 9, "\xc5\x00\x07\x00\x11\x02\x12\x1b\xff"); /* WRITE over the side's end */
	fdc_results(w);
	fdc_send(w, 2, "\x12\x84");           /* PERPENDICULAR, drive 0 */
	fdc_send(w, 1, "\x0e");                /* DUMPREG */
	fdc_results(w);
	/* Without DMA: byte by byte, to the end of the track. */
	fdc_send(w, 3, "\x03\xdf\x03");
	fdc_send(w, 9, "\x46\x00\x07\x00\x11\x02\x12\x1b\xff");
	run(w);
	for (unsigned n = 0; n < 2; n++) {
		fifo_bytes(w, false);
		run(w);
	}
	fdc_results(w);
	fdc_send(w, 9, "\x45\x00\x07\x00\x12\x02\x12\x1b\xff");
	run(w);
	fifo_bytes(w, true);
	fdc_results(w);
	fdc_send(w, 6, "\x4d\x00\x02\x02\x1b\xe5"); /* FORMAT two sectors */
	for (unsigned n = 0; n < 2; n++) {
		run(w);
		fdc_send(w, 4, n ? "\x07\x00\x02\x02" : "\x07\x00\x01\x02");
	}
	fdc_results(w);
	fdc_send(w, 2, "\x4a\x00");           /* READ ID */
	fdc_results(w);
	fdc_send(w, 2, "\x07\x00");           /* RECALIBRATE, and two units to sense */
	fdc_results(w);
	fdc_send(w, 3, "\x0f\x02\x03");
	fdc_results(w);
	for (unsigned i = 0; i < 3; i++) {
		fdc_send(w, 1, "\x08");
		fdc_results(w);
	}
	fdc_send(w, 2, "\x04\x00");           /* SENSE DRIVE */
	fdc_results(w);
	/* From one side to the other, and a reset in the middle of that. */
	fdc_send(w, 9, "\xc6\x00\x00\x00\x12\x02\x12\x1b\xff");
	run(w);
	for (unsigned n = 0; n < 2; n++) {
		fifo_bytes(w, false);
		run(w);
	}
	out(w, DOR, 0x18, 1);
	in(w, 0x3f4, 1);
	out(w, DOR, 0x1c, 1);
	once(w);
	run(w);
	fdc_send(w, 1, "\x08");
	fdc_results(w);
}

/* ---- comparing ---- */

static uint8_t *slurp(const char *path, size_t *size)
{
	FILE *f = fopen(path, "r");
	uint8_t *data;

	ck_assert(f != NULL);
	fseek(f, 0, SEEK_END);
	*size = (size_t)ftell(f);
	rewind(f);
	data = malloc(*size);
	ck_assert_uint_eq(fread(data, 1, *size, f), *size);
	fclose(f);
	return data;
}

static struct world *life(void (*script)(struct world *w), enum block_mode mode, unsigned chance,
			  unsigned seed)
{
	struct world *w = calloc(1, sizeof(*w));

	w->mode = mode;
	make_image(w->path[HDA], DISK_SECTORS * 512, 7);
	make_image(w->path[CD], CD_SECTORS * 2048, 11);
	make_image(w->path[FLOPPY], FLOPPY_SECTORS * 512, 13);
	build(w);
	pci_config_write(w->bus, PCI_DEVFN(1, 1), 0x20, BM, 4);
	pci_config_write(w->bus, PCI_DEVFN(1, 1), PCI_COMMAND, 5, 2);
	w->seed = seed;
	/* From here on: an overlay does not move, so without one the disks are compared too. */
	w->chance = chance;
	script(w);
	w->chance = 0;
	return w;
}

static void compare(struct world *a, struct world *b)
{
	uint8_t *ram[2] = { malloc(0x9000 + BUFFER_SIZE), malloc(0x9000 + BUFFER_SIZE) };

	for (unsigned i = 0; i < MIN(a->logged, b->logged); i++)
		ck_assert_msg(a->log[i] == b->log[i], "read %u: %x, moved %x (seed %u, %u moves)", i,
			      a->log[i], b->log[i], b->seed, b->moves);
	ck_assert_uint_eq(a->logged, b->logged);
	copy_ram(a, ram[0], true);
	copy_ram(b, ram[1], true);
	ck_assert_mem_eq(ram[0], ram[1], 0x9000 + BUFFER_SIZE);
	free(ram[0]);
	free(ram[1]);
	for (unsigned i = 0; i < IMAGES; i++) {
		size_t size[2];
		uint8_t *data[2] = { slurp(a->path[i], &size[0]), slurp(b->path[i], &size[1]) };

		ck_assert_uint_eq(size[0], size[1]);
		ck_assert_mem_eq(data[0], data[1], size[0]);
		free(data[0]);
		free(data[1]);
	}
}

static void finish(struct world *w)
{
	fixture_finish(&w->f);
	for (unsigned i = 0; i < IMAGES; i++)
		unlink(w->path[i]);
	free(w);
}

static void same(void (*script)(struct world *w))
{
	static const unsigned chances[] = { 1, 2, 3, 4, 20 };
	struct world *calm = life(script, BLOCK_RW, 0, 0);

	ck_assert_uint_gt(calm->logged, 20);
	for (unsigned i = 0; i < ARRAY_SIZE(chances); i++) {
		struct world *moved = life(script, BLOCK_RW, chances[i], i + 1);

		ck_assert_uint_gt(moved->moves, 0);
		compare(calm, moved);
		finish(moved);
	}
	finish(calm);
}

START_TEST(disk_pio_reads) { same(pio_read); }
END_TEST
START_TEST(disk_pio_writes) { same(pio_write); }
END_TEST
START_TEST(disk_dma) { same(dma); }
END_TEST
START_TEST(cd_packets) { same(cd); }
END_TEST
START_TEST(floppy_commands) { same(floppy); }
END_TEST

/* An image may say anything that fits the fields; no disc must not mean a crash. */
START_TEST(impossible_transfers_are_refused)
{
	struct world *w = life(pio_read, BLOCK_RW, 0, 0);
	struct state_buf b = { .data = NULL };
	struct device *d = w->ide, *copy = malloc(d->ops->size);
	static const struct {
		const char *field;
		uint8_t value;
	} set[] = {
		{ "ch[0].ata.owner", 1 }, { "ch[0].ata.phase", 6 }, { "ch[0].ata.xfer", 3 },
		{ "ch[0].ata.drive[1].left", 5 },
	};
	struct error err = { "" };
	const char *field = NULL;
	size_t at = 0;
	struct field_record r;
	unsigned found = 0;

	fields_save(&b, d->ops->fields, d);
	while (fields_next(b.data, b.len, &at, &r, &err)) {
		for (unsigned i = 0; i < ARRAY_SIZE(set); i++) {
			if (!strcmp(r.name, set[i].field)) {
				b.data[r.data - b.data] = set[i].value;
				found++;
			}
		}
	}
	ck_assert_uint_eq(found, ARRAY_SIZE(set));
	memcpy(copy, d, d->ops->size);
	ck_assert_msg(fields_parse(b.data, b.len, d->ops->fields, copy, false, &err), "%s", err.text);
	ck_assert(!d->ops->check(copy, &field));
	ck_assert_str_eq(field, "ata.xfer");
	free(copy);
	state_buf_finish(&b);
	finish(w);
}
END_TEST

static void add(TCase *t)
{
	tcase_add_test(t, disk_pio_reads);
	tcase_add_test(t, disk_pio_writes);
	tcase_add_test(t, disk_dma);
	tcase_add_test(t, cd_packets);
	tcase_add_test(t, floppy_commands);
	tcase_add_test(t, impossible_transfers_are_refused);
}

int main(void)
{
	return fixture_main("state_disks", add);
}
