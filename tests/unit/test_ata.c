/* IDE channels, disks, CD drives and the PIIX3 bus master, register by register.
 *
 * Section numbers are of ATA/ATAPI-6 unless they say otherwise. */
#include "tests/unit/fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "core/block.h"
#include "devices/pci.h"
#include "devices/piix3_ide.h"

enum { DATA, ERROR, COUNT, LOW, MID, HIGH, DEVICE, STATUS }; /* task file */
enum { FEATURE = ERROR, COMMAND = STATUS };
enum { BSY = 0x80, DRDY = 0x40, DSC = 0x10, DRQ = 0x08, ERR = 0x01, READY = DRDY | DSC };
enum { ABRT = 0x04, IDNF = 0x10 };
enum { CTL0 = 0x3f6, NIEN = 2, SRST = 4 };
enum { BM = 0xc000, BMIC = 0, BMIS = 2, BMIDTP = 4 };
enum { DISK_SECTORS = 3000, CD_SECTORS = 100 };
enum { TABLE = 0x8000, BUFFER = 0x100000 };

struct ide {
	struct fixture f;
	struct pci_bus *bus;
	struct device *dev;
	char disk_path[64], cd_path[64];
};

/* Byte i of sector n of a test image. */
static uint8_t pattern(unsigned sector, unsigned i)
{
	return (uint8_t)(sector * 7 + i * 3 + (i >> 8));
}

static void make_image(char path[64], unsigned sectors, unsigned size)
{
	FILE *f;
	int fd;

	strcpy(path, "/tmp/gannet-ata-XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	f = fdopen(fd, "w");
	for (unsigned n = 0; n < sectors; n++)
		for (unsigned i = 0; i < size; i++)
			fputc(pattern(n, i), f);
	fclose(f);
}

/* Primary master: a disk. Secondary master: a CD drive. */
static void ide_init_mode(struct ide *t, enum block_mode mode)
{
	struct error err = { "" };
	struct block *drives[4] = { NULL };
	const bool is_cd[4] = { false, false, true, false };
	struct irq_line irq[2];

	fixture_init(&t->f);
	memory_add_ram(t->f.m.memory, 0, 16 * MIB, 0, MEMORY_RAM, 0, "ram");
	make_image(t->disk_path, DISK_SECTORS, 512);
	make_image(t->cd_path, CD_SECTORS, 2048);
	drives[0] = block_open(t->disk_path, mode, &err);
	drives[2] = block_open(t->cd_path, BLOCK_RO, &err);
	ck_assert_msg(drives[0] && drives[2], "%s", err.text);
	t->bus = pci_bus_create(&t->f.m, &err);
	ck_assert_ptr_nonnull(t->bus);
	irq[0] = fixture_line(&t->f, 14);
	irq[1] = fixture_line(&t->f, 15);
	t->dev = piix3_ide_create(&t->f.m, t->bus, irq, drives, is_cd, &err);
	ck_assert_msg(t->dev != NULL, "%s", err.text);
	pci_config_write(t->bus, PCI_DEVFN(1, 1), 0x20, BM, 4);
	pci_config_write(t->bus, PCI_DEVFN(1, 1), PCI_COMMAND, 5, 2);
}

static void ide_init(struct ide *t)
{
	ide_init_mode(t, BLOCK_RW);
}

static void ide_finish(struct ide *t)
{
	fixture_finish(&t->f);
	unlink(t->disk_path);
	unlink(t->cd_path);
}

static uint8_t rd(struct ide *t, unsigned reg) { return in8(&t->f, (uint16_t)(0x1f0 + reg)); }
static void wr(struct ide *t, unsigned reg, unsigned v) { out8(&t->f, (uint16_t)(0x1f0 + reg), (uint8_t)v); }
static uint8_t rd2(struct ide *t, unsigned reg) { return in8(&t->f, (uint16_t)(0x170 + reg)); }
static void wr2(struct ide *t, unsigned reg, unsigned v) { out8(&t->f, (uint16_t)(0x170 + reg), (uint8_t)v); }
static uint16_t data16(struct ide *t) { return (uint16_t)ioport_read(t->f.m.io, 0x1f0, 2); }

/* The guest does something else until the drives are ready, or for a moment: what
 * waits for the host's disk (a flush) takes its time. */
static void run(struct ide *t)
{
	const struct timespec nap = { 0, 200000 };

	for (unsigned i = 0; i < 2000; i++) {
		loop_run(t->f.m.loop);
		if (i < 100)
			continue;
		if (!((in8(&t->f, CTL0) | in8(&t->f, 0x376)) & BSY))
			break;
		nanosleep(&nap, NULL);
	}
}

static void command(struct ide *t, uint8_t cmd)
{
	wr(t, COMMAND, cmd);
	ck_assert_uint_eq(in8(&t->f, CTL0) & (BSY | DRQ), BSY);
	run(t);
}

static void set_lba28(struct ide *t, uint32_t lba, uint8_t count)
{
	wr(t, DEVICE, 0xe0 | lba >> 24);
	wr(t, COUNT, count);
	wr(t, LOW, lba & 0xff);
	wr(t, MID, lba >> 8 & 0xff);
	wr(t, HIGH, lba >> 16 & 0xff);
}

static void set_lba48(struct ide *t, uint64_t lba, unsigned count)
{
	wr(t, DEVICE, 0xe0);
	wr(t, COUNT, count >> 8);
	wr(t, LOW, lba >> 24 & 0xff);
	wr(t, MID, lba >> 32 & 0xff);
	wr(t, HIGH, lba >> 40 & 0xff);
	wr(t, COUNT, count & 0xff);
	wr(t, LOW, lba & 0xff);
	wr(t, MID, lba >> 8 & 0xff);
	wr(t, HIGH, lba >> 16 & 0xff);
}

static void expect_sector(struct ide *t, unsigned n)
{
	for (unsigned i = 0; i < 512; i += 2)
		ck_assert_uint_eq(data16(t), pattern(n, i) | pattern(n, i + 1) << 8);
}

static void expect_image_sector(struct ide *t, unsigned n, uint8_t first, uint8_t last)
{
	FILE *f = fopen(t->disk_path, "r");
	uint8_t buf[512];

	ck_assert(f && fseek(f, n * 512, SEEK_SET) == 0 && fread(buf, 512, 1, f) == 1);
	fclose(f);
	ck_assert_uint_eq(buf[0], first);
	ck_assert_uint_eq(buf[511], last);
}

static void ide_string(char *out, const uint8_t *id, unsigned word, unsigned words)
{
	for (unsigned i = 0; i < words * 2; i++)
		out[i] = (char)id[word * 2 + (i ^ 1)];
	out[words * 2] = 0;
}

/* ---- registers ---- */

START_TEST(signature_after_reset)
{
	struct ide t;

	ide_init(&t);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	ck_assert_uint_eq(rd(&t, ERROR), 1);
	ck_assert_uint_eq(rd(&t, COUNT), 1);
	ck_assert_uint_eq(rd(&t, LOW), 1);
	ck_assert_uint_eq(rd(&t, MID), 0);
	ck_assert_uint_eq(rd(&t, HIGH), 0);
	ck_assert_uint_eq(rd2(&t, MID), 0x14);
	ck_assert_uint_eq(rd2(&t, HIGH), 0xeb);
	ck_assert_uint_eq(rd2(&t, STATUS), 0); /* packet devices do not set DRDY */
	ide_finish(&t);
}
END_TEST

START_TEST(software_reset)
{
	struct ide t;

	ide_init(&t);
	set_lba28(&t, 5, 1);
	command(&t, 0x20);
	ck_assert_uint_eq(rd(&t, STATUS), READY | DRQ);
	out8(&t.f, CTL0, SRST | NIEN);
	ck_assert_uint_eq(in8(&t.f, CTL0), BSY);
	wr(&t, COMMAND, 0xec); /* nobody listens */
	out8(&t.f, CTL0, NIEN);
	run(&t);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	ck_assert_uint_eq(rd(&t, COUNT), 1);
	ck_assert(!t.f.level[14]);
	ck_assert_uint_eq(data16(&t), 0);
	ide_finish(&t);
}
END_TEST

START_TEST(absent_drives)
{
	struct ide t;

	ide_init(&t);
	wr(&t, DEVICE, 0xb0);
	ck_assert_uint_eq(rd(&t, STATUS), 0);
	wr(&t, COUNT, 0x55); /* drive 0 answers for drive 1 (9.16.1) */
	ck_assert_uint_eq(rd(&t, COUNT), 0x55);
	wr(&t, COMMAND, 0xec);
	run(&t);
	ck_assert_uint_eq(rd(&t, STATUS), 0);
	wr(&t, DEVICE, 0xa0);
	ck_assert_uint_eq(rd(&t, DEVICE), 0xa0);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	/* EXECUTE DEVICE DIAGNOSTIC with the absent one selected must not hang it. */
	wr(&t, DEVICE, 0xb0);
	wr(&t, COMMAND, 0x90);
	run(&t);
	wr(&t, DEVICE, 0xa0);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	ck_assert_uint_eq(rd(&t, ERROR), 1);
	ide_finish(&t);
}
END_TEST

START_TEST(channel_switched_off)
{
	struct ide t;

	ide_init(&t);
	pci_config_write(t.bus, PCI_DEVFN(1, 1), 0x40, 0, 2);
	ck_assert_uint_eq(rd(&t, STATUS), 0xff);
	ck_assert_uint_eq(in8(&t.f, CTL0), 0xff);
	pci_config_write(t.bus, PCI_DEVFN(1, 1), 0x40, 0x8000, 2);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	ide_finish(&t);
}
END_TEST

START_TEST(interrupts)
{
	struct ide t;

	ide_init(&t);
	wr(&t, COMMAND, 0xe1);
	ck_assert(!t.f.level[14]); /* never inside the OUT */
	run(&t);
	ck_assert(t.f.level[14]);
	ck_assert_uint_eq(in8(&t.f, CTL0), READY); /* alternate status leaves it */
	ck_assert(t.f.level[14]);
	rd(&t, STATUS);
	ck_assert(!t.f.level[14]);
	/* nIEN holds it back, and lets it through later (7.7). */
	out8(&t.f, CTL0, NIEN);
	command(&t, 0xe1);
	ck_assert(!t.f.level[14]);
	out8(&t.f, CTL0, 0);
	ck_assert(t.f.level[14]);
	/* A drive that is not selected does not drive the line. */
	wr(&t, DEVICE, 0xb0);
	ck_assert(!t.f.level[14]);
	wr(&t, DEVICE, 0xa0);
	ck_assert(t.f.level[14]);
	/* A new command takes it back. */
	wr(&t, COMMAND, 0xe1);
	ck_assert(!t.f.level[14]);
	ide_finish(&t);
}
END_TEST

/* ---- disk commands ---- */

START_TEST(identify_device)
{
	struct ide t;
	uint8_t id[512], sum = 0;
	char s[41];

	ide_init(&t);
	wr(&t, DEVICE, 0xa0);
	command(&t, 0xec);
	ck_assert(t.f.level[14]);
	ck_assert_uint_eq(rd(&t, STATUS), READY | DRQ);
	for (unsigned i = 0; i < 512; i += 2)
		store_le16(id + i, data16(&t));
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	ck_assert_uint_eq(load_le16(id), 0x0040);
	ck_assert_uint_eq(load_le16(id + 2), DISK_SECTORS / 1008);
	ck_assert_uint_eq(load_le16(id + 6), 16);
	ck_assert_uint_eq(load_le16(id + 12), 63);
	ide_string(s, id, 27, 20);
	ck_assert(strncmp(s, "GANNET HARDDISK ", 16) == 0);
	ck_assert_uint_eq(load_le16(id + 98) & 0x300, 0x300);     /* DMA and LBA */
	ck_assert_uint_eq(load_le32(id + 120), DISK_SECTORS);
	ck_assert_uint_eq(load_le64(id + 200), DISK_SECTORS);
	ck_assert_uint_eq(load_le16(id + 126) & 7, 7);            /* multiword DMA */
	ck_assert_uint_eq(load_le16(id + 166) & 0xc400, 0x4400);  /* valid, 48 bit */
	for (unsigned i = 0; i < 512; i++)
		sum += id[i];
	ck_assert_uint_eq(sum, 0);
	ide_finish(&t);
}
END_TEST

START_TEST(pio_read_lba28_lba48_chs)
{
	struct ide t;

	ide_init(&t);
	set_lba28(&t, 1234, 2);
	command(&t, 0x20);
	ck_assert_uint_eq(t.f.edges[14], 1);
	ck_assert_uint_eq(rd(&t, STATUS), READY | DRQ);
	expect_sector(&t, 1234);
	ck_assert_uint_eq(in8(&t.f, CTL0), BSY | DRDY);
	run(&t);
	ck_assert_uint_eq(t.f.edges[14], 2); /* one a block (9.5) */
	ck_assert_uint_eq(rd(&t, STATUS), READY | DRQ);
	expect_sector(&t, 1235);
	run(&t);
	ck_assert_uint_eq(t.f.edges[14], 2); /* none at the end */
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	ck_assert_uint_eq(rd(&t, LOW), 1235 & 0xff);
	ck_assert_uint_eq(rd(&t, COUNT), 0);

	set_lba48(&t, 2999, 1);
	command(&t, 0x24);
	expect_sector(&t, 2999);
	ck_assert_uint_eq(rd(&t, STATUS), READY);

	wr(&t, DEVICE, 0xa3); /* CHS 2/3/4 of 16 heads, 63 sectors */
	wr(&t, COUNT, 1);
	wr(&t, LOW, 4);
	wr(&t, MID, 2);
	wr(&t, HIGH, 0);
	command(&t, 0x20);
	expect_sector(&t, (2 * 16 + 3) * 63 + 3);
	ck_assert_uint_eq(rd(&t, LOW), 4);
	ck_assert_uint_eq(rd(&t, DEVICE), 0xa3);

	wr(&t, DEVICE, 0xa0 | (4 - 1)); /* INITIALIZE DEVICE PARAMETERS: 4 heads, 10 sectors */
	wr(&t, COUNT, 10);
	command(&t, 0x91);
	wr(&t, DEVICE, 0xa1);
	wr(&t, COUNT, 1);
	wr(&t, LOW, 10);
	wr(&t, MID, 5);
	command(&t, 0x20);
	expect_sector(&t, (5 * 4 + 1) * 10 + 9);
	/* Sector 11 is none now, and so is sector 0. */
	wr(&t, LOW, 11);
	wr(&t, COUNT, 1);
	command(&t, 0x20);
	ck_assert_uint_eq(rd(&t, STATUS), READY | ERR);
	ck_assert_uint_eq(rd(&t, ERROR), IDNF);
	wr(&t, LOW, 0);
	command(&t, 0x20);
	ck_assert_uint_eq(rd(&t, ERROR), IDNF);
	ide_finish(&t);
}
END_TEST

START_TEST(data_port_sizes_and_bulk)
{
	struct ide t;
	uint8_t buf[1024];

	ide_init(&t);
	set_lba28(&t, 7, 1);
	command(&t, 0x20);
	for (unsigned i = 0; i < 256; i += 4)
		ck_assert_uint_eq(ioport_read(t.f.m.io, 0x1f0, 4),
				  pattern(7, i) | pattern(7, i + 1) << 8 | pattern(7, i + 2) << 16 |
					  (uint32_t)pattern(7, i + 3) << 24);
	/* REP INSW asks for more than the block has. */
	ck_assert_uint_eq(ioport_read_block(t.f.m.io, 0x1f0, 2, buf, 500), 128);
	for (unsigned i = 0; i < 256; i++)
		ck_assert_uint_eq(buf[i], pattern(7, 256 + i));
	ck_assert_uint_eq(ioport_read_block(t.f.m.io, 0x1f0, 2, buf, 500), 0);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	/* Without DRQ nothing moves. */
	ck_assert_uint_eq(ioport_read(t.f.m.io, 0x1f0, 4), 0);
	ioport_write(t.f.m.io, 0x1f0, 0x12345678, 4);
	ck_assert_uint_eq(ioport_write_block(t.f.m.io, 0x1f0, 4, buf, 10), 0);
	/* Reading where the drive wants to be written. */
	set_lba28(&t, 7, 1);
	command(&t, 0x30);
	ck_assert_uint_eq(data16(&t), 0);
	ck_assert_uint_eq(ioport_read_block(t.f.m.io, 0x1f0, 2, buf, 500), 0);
	ck_assert_uint_eq(rd(&t, STATUS), READY | DRQ);
	ide_finish(&t);
}
END_TEST

START_TEST(pio_write)
{
	struct ide t;
	uint8_t buf[512];

	ide_init(&t);
	set_lba28(&t, 10, 2);
	command(&t, 0x30);
	ck_assert_uint_eq(t.f.edges[14], 0); /* no interrupt before the first block (9.6) */
	ck_assert_uint_eq(rd(&t, STATUS), READY | DRQ);
	for (unsigned i = 0; i < 256; i++)
		ioport_write(t.f.m.io, 0x1f0, 0xa1a0, 2);
	run(&t);
	ck_assert_uint_eq(t.f.edges[14], 1);
	ck_assert_uint_eq(rd(&t, STATUS), READY | DRQ);
	memset(buf, 0xb2, sizeof(buf));
	ck_assert_uint_eq(ioport_write_block(t.f.m.io, 0x1f0, 4, buf, 128), 128);
	run(&t);
	ck_assert_uint_eq(t.f.edges[14], 2);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	command(&t, 0xe7); /* FLUSH CACHE */
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	expect_image_sector(&t, 9, pattern(9, 0), pattern(9, 511));
	expect_image_sector(&t, 10, 0xa0, 0xa1);
	expect_image_sector(&t, 11, 0xb2, 0xb2);
	expect_image_sector(&t, 12, pattern(12, 0), pattern(12, 511));
	ide_finish(&t);
}
END_TEST

START_TEST(multiple)
{
	struct ide t;
	uint8_t buf[16 * 512];

	ide_init(&t);
	set_lba28(&t, 0, 5);
	command(&t, 0xc4); /* not set yet */
	ck_assert_uint_eq(rd(&t, ERROR), ABRT);
	wr(&t, COUNT, 3); /* no power of two */
	command(&t, 0xc6);
	ck_assert_uint_eq(rd(&t, ERROR), ABRT);
	wr(&t, COUNT, 32); /* too many */
	command(&t, 0xc6);
	ck_assert_uint_eq(rd(&t, ERROR), ABRT);
	wr(&t, COUNT, 4);
	command(&t, 0xc6);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	set_lba28(&t, 20, 5);
	command(&t, 0xc4);
	ck_assert_uint_eq(ioport_read_block(t.f.m.io, 0x1f0, 2, buf, 4096), 4 * 256);
	for (unsigned i = 0; i < 2048; i++)
		ck_assert_uint_eq(buf[i], pattern(20 + i / 512, i % 512));
	run(&t);
	ck_assert_uint_eq(ioport_read_block(t.f.m.io, 0x1f0, 2, buf, 4096), 256);
	ck_assert_uint_eq(buf[0], pattern(24, 0));
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	set_lba48(&t, 100, 6);
	command(&t, 0x39);
	memset(buf, 0x77, sizeof(buf));
	ck_assert_uint_eq(ioport_write_block(t.f.m.io, 0x1f0, 2, buf, 4096), 4 * 256);
	run(&t);
	ck_assert_uint_eq(ioport_write_block(t.f.m.io, 0x1f0, 2, buf, 4096), 2 * 256);
	run(&t);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	expect_image_sector(&t, 105, 0x77, 0x77);
	expect_image_sector(&t, 106, pattern(106, 0), pattern(106, 511));
	ide_finish(&t);
}
END_TEST

START_TEST(beyond_the_end)
{
	struct ide t;

	ide_init(&t);
	set_lba28(&t, DISK_SECTORS, 1);
	command(&t, 0x20);
	ck_assert_uint_eq(rd(&t, STATUS), READY | ERR);
	ck_assert_uint_eq(rd(&t, ERROR), IDNF);
	set_lba28(&t, DISK_SECTORS - 1, 2); /* begins inside */
	command(&t, 0x30);
	ck_assert_uint_eq(rd(&t, ERROR), IDNF);
	ck_assert_uint_eq(rd(&t, LOW), DISK_SECTORS & 0xff); /* the first that is not there */
	set_lba28(&t, 0x0fffffff, 0); /* 256 sectors from the last address */
	command(&t, 0xc8);
	ck_assert_uint_eq(rd(&t, ERROR), IDNF);
	set_lba48(&t, 0xffffffffffff, 0);
	command(&t, 0x25);
	ck_assert_uint_eq(rd(&t, ERROR), IDNF);
	command(&t, 0x35);
	ck_assert_uint_eq(rd(&t, ERROR), IDNF);
	command(&t, 0x42);
	ck_assert_uint_eq(rd(&t, ERROR), IDNF);
	ide_finish(&t);
}
END_TEST

START_TEST(read_only_disk)
{
	struct ide t;

	ide_init_mode(&t, BLOCK_RO);
	set_lba28(&t, 0, 1);
	command(&t, 0x30);
	ck_assert_uint_eq(rd(&t, STATUS), READY | ERR);
	ck_assert_uint_eq(rd(&t, ERROR) & ABRT, ABRT);
	ide_finish(&t);
}
END_TEST

START_TEST(small_commands)
{
	struct ide t;

	ide_init(&t);
	wr(&t, DEVICE, 0xe0);
	command(&t, 0x00); /* NOP aborts (8.14) */
	ck_assert_uint_eq(rd(&t, ERROR), ABRT);
	command(&t, 0x10); /* RECALIBRATE */
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	command(&t, 0xf8); /* READ NATIVE MAX ADDRESS */
	ck_assert_uint_eq(rd(&t, LOW) | rd(&t, MID) << 8, DISK_SECTORS - 1);
	command(&t, 0x27);
	ck_assert_uint_eq(rd(&t, LOW) | rd(&t, MID) << 8, DISK_SECTORS - 1);
	out8(&t.f, CTL0, 0x80); /* HOB */
	ck_assert_uint_eq(rd(&t, LOW), 0);
	wr(&t, FEATURE, 0x03); /* SET FEATURES: transfer mode multiword DMA 2 */
	wr(&t, COUNT, 0x22);
	command(&t, 0xef);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	wr(&t, COUNT, 0x30);
	command(&t, 0xef);
	ck_assert_uint_eq(rd(&t, ERROR), ABRT);
	command(&t, 0xe0); /* STANDBY IMMEDIATE, CHECK POWER MODE */
	command(&t, 0xe5);
	ck_assert_uint_eq(rd(&t, COUNT), 0);
	command(&t, 0xe1);
	command(&t, 0xe5);
	ck_assert_uint_eq(rd(&t, COUNT), 0xff);
	set_lba28(&t, 100, 0);
	command(&t, 0x40); /* READ VERIFY */
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	command(&t, 0x70);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	for (unsigned cmd = 0; cmd < 256; cmd++) { /* every code comes back */
		out8(&t.f, CTL0, SRST);
		out8(&t.f, CTL0, 0);
		wr(&t, DEVICE, 0xe0);
		wr(&t, COMMAND, cmd);
		run(&t);
		ck_assert_uint_eq(rd(&t, STATUS) & BSY, 0);
	}
	ide_finish(&t);
}
END_TEST

START_TEST(registers_ignore_writes_while_busy)
{
	struct ide t;

	ide_init(&t);
	set_lba28(&t, 33, 1);
	wr(&t, COMMAND, 0x20);
	wr(&t, LOW, 99);
	wr(&t, DEVICE, 0xf0);
	wr(&t, COMMAND, 0xec);
	run(&t);
	expect_sector(&t, 33);
	ide_finish(&t);
}
END_TEST

/* ---- bus master ---- */

static void prd(struct ide *t, unsigned n, uint32_t address, uint32_t control)
{
	memory_write(t->f.m.memory, TABLE + n * 8, address, 4);
	memory_write(t->f.m.memory, TABLE + n * 8 + 4, control, 4);
}

static uint8_t bm_rd(struct ide *t, unsigned reg) { return in8(&t->f, (uint16_t)(BM + reg)); }

static void bm_start(struct ide *t, unsigned direction)
{
	ioport_write(t->f.m.io, BM + BMIDTP, TABLE, 4);
	out8(&t->f, BM + BMIS, 0x06);
	out8(&t->f, BM + BMIC, (uint8_t)direction);
	out8(&t->f, BM + BMIC, (uint8_t)(direction | 1));
}

static uint8_t mem8(struct ide *t, uint32_t a)
{
	return (uint8_t)memory_read(t->f.m.memory, a, 1);
}

static void expect_memory(struct ide *t, uint32_t address, unsigned sector, unsigned count)
{
	for (unsigned i = 0; i < count * 512; i++)
		ck_assert_uint_eq(mem8(t, address + i), pattern(sector + i / 512, i % 512));
}

START_TEST(dma_read)
{
	struct ide t;

	ide_init(&t);
	prd(&t, 0, BUFFER, 0x200);
	prd(&t, 1, BUFFER + 0x5000, 0x80000000 | 0x1400);
	set_lba28(&t, 300, 11);
	command(&t, 0xc8);
	ck_assert_uint_eq(in8(&t.f, CTL0), READY | DRQ); /* waits for the bus master */
	ck_assert(!t.f.level[14]);
	bm_start(&t, 8);
	ck_assert_uint_eq(bm_rd(&t, BMIS), 0x01);
	run(&t);
	ck_assert(t.f.level[14]);
	ck_assert_uint_eq(bm_rd(&t, BMIS), 0x04); /* table used up exactly: not active */
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	out8(&t.f, BM + BMIC, 8);
	out8(&t.f, BM + BMIS, 0x04);
	ck_assert_uint_eq(bm_rd(&t, BMIS), 0);
	expect_memory(&t, BUFFER, 300, 1);
	expect_memory(&t, BUFFER + 0x5000, 301, 10);
	ck_assert_uint_eq(mem8(&t, BUFFER + 512), 0);
	/* The other order: started first, and a table longer than the transfer. */
	prd(&t, 0, BUFFER, 0x80000000);
	bm_start(&t, 8);
	set_lba48(&t, 40, 3);
	command(&t, 0x25);
	ck_assert_uint_eq(bm_rd(&t, BMIS), 0x05); /* interrupt, still active */
	expect_memory(&t, BUFFER, 40, 3);
	ide_finish(&t);
}
END_TEST

START_TEST(dma_write)
{
	struct ide t;

	ide_init(&t);
	for (unsigned i = 0; i < 0x20000; i++)
		memory_write(t.f.m.memory, BUFFER + i, (i >> 9) + 1, 1);
	prd(&t, 0, BUFFER, 0);                      /* 0: 64 KiB */
	prd(&t, 1, BUFFER + 0x10000, 0x80000000);
	set_lba28(&t, 1000, 0); /* 256 sectors */
	command(&t, 0xca);
	bm_start(&t, 0);
	run(&t);
	ck_assert_uint_eq(bm_rd(&t, BMIS), 0x04);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	expect_image_sector(&t, 999, pattern(999, 0), pattern(999, 511));
	expect_image_sector(&t, 1000, 1, 1);
	expect_image_sector(&t, 1254, 255, 255);
	expect_image_sector(&t, 1255, 0, 0);
	expect_image_sector(&t, 1256, pattern(1256, 0), pattern(1256, 511));
	ide_finish(&t);
}
END_TEST

START_TEST(dma_needs_bus_mastering)
{
	struct ide t;

	ide_init(&t);
	pci_config_write(t.bus, PCI_DEVFN(1, 1), PCI_COMMAND, 1, 2);
	prd(&t, 0, BUFFER, 0x80000200);
	set_lba28(&t, 1, 1);
	command(&t, 0xc8);
	bm_start(&t, 8);
	run(&t);
	ck_assert_uint_eq(in8(&t.f, CTL0), READY | DRQ);
	ck_assert_uint_eq(mem8(&t, BUFFER), 0);
	pci_config_write(t.bus, PCI_DEVFN(1, 1), PCI_COMMAND, 5, 2);
	run(&t);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	expect_memory(&t, BUFFER, 1, 1);
	ide_finish(&t);
}
END_TEST

/* PIIX3 2.6.2: a table smaller than the transfer ends with Active = 0 and no
 * interrupt; the drive waits. */
START_TEST(prd_table_too_short)
{
	struct ide t;

	ide_init(&t);
	prd(&t, 0, BUFFER, 0x80000200);
	set_lba28(&t, 50, 4);
	command(&t, 0xc8);
	bm_start(&t, 8);
	run(&t);
	ck_assert_uint_eq(bm_rd(&t, BMIS), 0);
	ck_assert(!t.f.level[14]);
	ck_assert_uint_eq(in8(&t.f, CTL0), READY | DRQ);
	expect_memory(&t, BUFFER, 50, 1);
	/* A second table takes the rest. */
	out8(&t.f, BM + BMIC, 8);
	prd(&t, 0, BUFFER + 0x200, 0x80000600);
	bm_start(&t, 8);
	run(&t);
	ck_assert_uint_eq(bm_rd(&t, BMIS), 0x04);
	expect_memory(&t, BUFFER, 50, 4);
	ide_finish(&t);
}
END_TEST

START_TEST(prd_table_out_of_ram)
{
	struct ide t;
	static const uint32_t tables[] = { 0x20000000, 0xfffffffc, 0xfffff000, 16 * MIB - 4 };

	ide_init(&t);
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		out8(&t.f, CTL0, SRST);
		out8(&t.f, CTL0, 0);
		out8(&t.f, BM + BMIC, 0);
		set_lba48(&t, 0, 2000);
		command(&t, i & 1 ? 0x35 : 0x25);
		ioport_write(t.f.m.io, BM + BMIDTP, tables[i], 4);
		out8(&t.f, BM + BMIC, 9);
		run(&t);
		ck_assert_uint_eq(in8(&t.f, CTL0) & BSY, 0);
	}
	ide_finish(&t);
}
END_TEST

START_TEST(prd_regions_anywhere)
{
	struct ide t;

	ide_init(&t);
	prd(&t, 0, 0xfffffe00, 0x400);   /* past the end of the address space: wraps */
	prd(&t, 1, 0x20000000, 0x400);   /* a hole */
	prd(&t, 2, 16 * MIB - 0x200, 0x400); /* half in RAM */
	prd(&t, 3, BUFFER + 1, 0x80000003);  /* odd address and count: bit 0 is not there */
	set_lba28(&t, 60, 8);
	command(&t, 0xc8);
	bm_start(&t, 8);
	run(&t);
	ck_assert_uint_eq(bm_rd(&t, BMIS), 0); /* two sectors too short */
	expect_memory(&t, 0, 61, 1);
	expect_memory(&t, 16 * MIB - 0x200, 64, 1);
	ck_assert_uint_eq(mem8(&t, BUFFER), pattern(66, 0));
	ck_assert_uint_eq(mem8(&t, BUFFER + 1), pattern(66, 1));
	ck_assert_uint_eq(mem8(&t, BUFFER + 2), 0);
	ide_finish(&t);
}
END_TEST

START_TEST(prd_table_without_end)
{
	struct ide t;

	ide_init(&t);
	/* All of memory from the table on is two-byte regions. */
	for (unsigned i = 0; i < 0x10000; i++)
		prd(&t, i, 0x700000, 2);
	set_lba48(&t, 0, DISK_SECTORS);
	command(&t, 0x25);
	bm_start(&t, 8);
	run(&t);
	run(&t);
	/* Zeroed entries behind them mean 64 KiB at address 0: the transfer ends. */
	ck_assert(t.f.level[14]);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	ide_finish(&t);
}
END_TEST

START_TEST(prd_table_that_overwrites_itself)
{
	struct ide t;

	ide_init(&t);
	prd(&t, 0, TABLE, 0); /* 64 KiB over the table */
	set_lba48(&t, 0, DISK_SECTORS);
	command(&t, 0x25);
	bm_start(&t, 8);
	run(&t);
	ck_assert_uint_eq(in8(&t.f, CTL0) & BSY, 0);
	ide_finish(&t);
}
END_TEST

START_TEST(stop_and_reset_in_the_middle)
{
	struct ide t;

	ide_init(&t);
	prd(&t, 0, BUFFER, 0x80000000);
	set_lba48(&t, 0, 2000);
	command(&t, 0x25);
	bm_start(&t, 8);
	out8(&t.f, BM + BMIC, 0); /* before anything moved */
	run(&t);
	ck_assert_uint_eq(in8(&t.f, CTL0), READY | DRQ);
	ck_assert_uint_eq(mem8(&t, BUFFER), 0);
	bm_start(&t, 8);
	out8(&t.f, CTL0, SRST);
	loop_run(t.f.m.loop);
	out8(&t.f, CTL0, 0);
	run(&t);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	ck_assert(!t.f.level[14]);
	t.dev->ops->reset(t.dev);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	ide_finish(&t);
}
END_TEST

START_TEST(bus_master_registers)
{
	struct ide t;

	ide_init(&t);
	out8(&t.f, BM + BMIC, 0xf6);
	ck_assert_uint_eq(bm_rd(&t, BMIC), 0);
	out8(&t.f, BM + BMIS, 0xff);
	ck_assert_uint_eq(bm_rd(&t, BMIS), 0x60);
	ioport_write(t.f.m.io, BM + BMIDTP, 0xffffffff, 4);
	ck_assert_uint_eq(ioport_read(t.f.m.io, BM + BMIDTP, 4), 0xfffffffc);
	ioport_write(t.f.m.io, BM + 8 + BMIDTP, 0x1234, 2);
	ck_assert_uint_eq(ioport_read(t.f.m.io, BM + 8 + BMIDTP, 4), 0x1234);
	ide_finish(&t);
}
END_TEST

/* ---- CD drive ---- */

static void packet(struct ide *t, const uint8_t cdb[12], unsigned limit, bool dma)
{
	wr2(t, DEVICE, 0xa0);
	wr2(t, FEATURE, dma);
	wr2(t, MID, limit & 0xff);
	wr2(t, HIGH, limit >> 8);
	wr2(t, COMMAND, 0xa0);
	run(t);
	if (!(in8(&t->f, 0x376) & DRQ))
		return;
	ck_assert_uint_eq(rd2(t, COUNT), 1); /* C/D = 1, I/O = 0: give me the packet */
	ck_assert_uint_eq(in8(&t->f, 0x376), READY | DRQ);
	for (unsigned i = 0; i < 12; i += 2)
		ioport_write(t->f.m.io, 0x170, cdb[i] | cdb[i + 1] << 8, 2);
	run(t);
}

/* Reads what the drive sends, block by block; returns how many bytes. */
static unsigned packet_in(struct ide *t, uint8_t *buf, unsigned size, unsigned *blocks)
{
	unsigned done = 0;

	*blocks = 0;
	while (in8(&t->f, 0x376) & DRQ) {
		unsigned n = rd2(t, MID) | rd2(t, HIGH) << 8;

		ck_assert_uint_eq(rd2(t, COUNT), 2);
		ck_assert_uint_gt(n, 0);
		ck_assert_uint_le(done + n, size);
		ck_assert(t->f.level[15]);
		rd2(t, STATUS);
		for (unsigned i = 0; i < n; i += 2) {
			unsigned v = ioport_read(t->f.m.io, 0x170, 2);

			buf[done + i] = (uint8_t)v;
			if (i + 1 < n)
				buf[done + i + 1] = (uint8_t)(v >> 8);
		}
		done += n;
		(*blocks)++;
		run(t);
	}
	ck_assert_uint_eq(rd2(t, COUNT), 3);
	ck_assert(t->f.level[15]);
	return done;
}

static unsigned sense(struct ide *t)
{
	const uint8_t cdb[12] = { 0x03, 0, 0, 0, 18 };
	uint8_t buf[18];
	unsigned blocks;

	packet(t, cdb, 18, false);
	ck_assert_uint_eq(packet_in(t, buf, 18, &blocks), 18);
	return (unsigned)buf[2] << 16 | buf[12] << 8 | buf[13];
}

START_TEST(cd_identify)
{
	struct ide t;
	uint8_t id[512];
	char s[41];

	ide_init(&t);
	wr2(&t, COMMAND, 0xec);
	run(&t);
	ck_assert_uint_eq(rd2(&t, STATUS) & ERR, ERR);
	ck_assert_uint_eq(rd2(&t, MID) | rd2(&t, HIGH) << 8, 0xeb14);
	wr2(&t, COMMAND, 0xa1);
	run(&t);
	for (unsigned i = 0; i < 512; i += 2)
		store_le16(id + i, (uint16_t)ioport_read(t.f.m.io, 0x170, 2));
	ck_assert_uint_eq(load_le16(id), 0x85c0);
	ide_string(s, id, 27, 20);
	ck_assert(strncmp(s, "GANNET DVD-ROM ", 15) == 0);
	ck_assert_uint_eq(rd2(&t, STATUS), READY);
	ide_finish(&t);
}
END_TEST

START_TEST(cd_read_pio)
{
	struct ide t;
	const uint8_t cdb[12] = { 0x28, 0, 0, 0, 0, 20, 0, 0, 3 };
	static const struct { unsigned limit, blocks; } cases[] = {
		{ 2048, 3 }, { 0xfffe, 1 }, { 0xffff, 1 }, { 4096, 2 }, { 1001, 9 }, { 5000, 2 },
	};
	static uint8_t buf[3 * 2048];

	ide_init(&t);
	for (unsigned c = 0; c < ARRAY_SIZE(cases); c++) {
		unsigned blocks;

		packet(&t, cdb, cases[c].limit, false);
		ck_assert_uint_eq(packet_in(&t, buf, sizeof(buf), &blocks), sizeof(buf));
		ck_assert_uint_eq(blocks, cases[c].blocks);
		ck_assert_uint_eq(rd2(&t, STATUS), READY);
		for (unsigned i = 0; i < sizeof(buf); i++)
			ck_assert_uint_eq(buf[i], pattern(20 + i / 2048, i % 2048));
	}
	ide_finish(&t);
}
END_TEST

START_TEST(cd_byte_count_zero_or_one)
{
	struct ide t;
	const uint8_t cdb[12] = { 0x28, 0, 0, 0, 0, 20, 0, 0, 3 };
	const uint8_t ready[12] = { 0 };

	ide_init(&t);
	for (unsigned limit = 0; limit < 2; limit++) {
		packet(&t, cdb, limit, false);
		ck_assert_uint_eq(rd2(&t, STATUS), READY | ERR);
		ck_assert_uint_eq(rd2(&t, ERROR), ABRT);
		packet(&t, ready, limit, false); /* matters only where there is data */
		ck_assert_uint_eq(rd2(&t, STATUS), READY);
	}
	ide_finish(&t);
}
END_TEST

START_TEST(cd_read_dma)
{
	struct ide t;
	const uint8_t cdb[12] = { 0xa8, 0, 0, 0, 0, 10, 0, 0, 0, 50 }; /* 100 KiB */
	unsigned i;

	ide_init(&t);
	prd(&t, 0, BUFFER, 0);
	prd(&t, 1, BUFFER + 0x10000, 0x80000000 | 0x9000);
	packet(&t, cdb, 0, true);
	ck_assert_uint_eq(in8(&t.f, 0x376), READY | DRQ);
	ioport_write(t.f.m.io, BM + 8 + BMIDTP, TABLE, 4);
	out8(&t.f, BM + 8 + BMIC, 9);
	run(&t);
	ck_assert_uint_eq(bm_rd(&t, 8 + BMIS), 0x04);
	ck_assert(t.f.level[15]);
	ck_assert_uint_eq(rd2(&t, COUNT), 3);
	for (i = 0; i < 50 * 2048; i++)
		ck_assert_uint_eq(mem8(&t, BUFFER + i), pattern(10 + i / 2048, i % 2048));
	ck_assert_uint_eq(mem8(&t, BUFFER + i), 0);
	ide_finish(&t);
}
END_TEST

START_TEST(cd_reads_past_the_end)
{
	struct ide t;
	static const uint8_t cdbs[][12] = {
		{ 0x28, 0, 0, 0, 0, CD_SECTORS, 0, 0, 1 },
		{ 0x28, 0, 0, 0, 0, CD_SECTORS - 1, 0, 0, 2 },
		{ 0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
		{ 0xa8, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff },
		{ 0xbe, 0, 0, 0, 0, 90, 0, 0, 20, 0xf8 },
		{ 0xb9, 0, 0, 0, 0, 0, 0, 3, 0, 0x10 }, /* MSF before 00:02:00 */
		{ 0xb9, 0, 0, 0, 4, 0, 0, 3, 0, 0x10 }, /* end before start */
		{ 0x2b, 0, 0, 0, 0, CD_SECTORS },
	};

	ide_init(&t);
	for (unsigned i = 0; i < ARRAY_SIZE(cdbs); i++) {
		packet(&t, cdbs[i], 0xfffe, false);
		ck_assert_uint_eq(rd2(&t, STATUS), READY | ERR);
		ck_assert_uint_eq(rd2(&t, ERROR) >> 4, 5);
		ck_assert_uint_eq(sense(&t), 0x052100);
		ck_assert_uint_eq(sense(&t), 0);
	}
	ide_finish(&t);
}
END_TEST

START_TEST(cd_small_commands)
{
	struct ide t;
	static uint8_t buf[65536];
	unsigned n, blocks;
	static const uint8_t inquiry[12] = { 0x12, 0, 0, 0, 255 };
	static const uint8_t capacity[12] = { 0x25 };
	static const uint8_t toc[12] = { 0x43, 2, 0, 0, 0, 0, 0, 0, 100 };
	static const uint8_t mode[12] = { 0x5a, 0, 0x3f, 0, 0, 0, 0, 1, 0 };
	static const uint8_t config[12] = { 0x46, 0, 0, 0, 0, 0, 0, 1, 0 };
	static const uint8_t raw[12] = { 0xbe, 0, 0, 0, 0, 16, 0, 0, 1, 0xf8 };
	static const uint8_t odd[12] = { 0x12, 0, 0, 0, 5 };
	static const uint8_t unknown[12] = { 0xee };

	ide_init(&t);
	packet(&t, inquiry, 255, false);
	ck_assert_uint_eq(packet_in(&t, buf, sizeof(buf), &blocks), 36);
	ck_assert_uint_eq(buf[0], 5);
	ck_assert_uint_eq(buf[1], 0x80);
	ck_assert(memcmp(buf + 8, "GANNET  DVD-ROM ", 16) == 0);
	packet(&t, odd, 255, false);
	ck_assert_uint_eq(packet_in(&t, buf, sizeof(buf), &blocks), 5);
	packet(&t, capacity, 8, false);
	ck_assert_uint_eq(packet_in(&t, buf, sizeof(buf), &blocks), 8);
	ck_assert_uint_eq(buf[3], CD_SECTORS - 1);
	ck_assert_uint_eq(buf[6], 2048 >> 8);
	packet(&t, toc, 100, false);
	ck_assert_uint_eq(packet_in(&t, buf, sizeof(buf), &blocks), 20);
	ck_assert_uint_eq(buf[1], 18);
	ck_assert_uint_eq(buf[6], 1);       /* track 1 at 00:02:00 */
	ck_assert_uint_eq(buf[10], 2);
	ck_assert_uint_eq(buf[14], 0xaa);   /* lead-out at 00:03:25 */
	ck_assert_uint_eq(buf[18], 3);
	ck_assert_uint_eq(buf[19], CD_SECTORS - 75);
	packet(&t, mode, 256, false);
	n = packet_in(&t, buf, sizeof(buf), &blocks);
	ck_assert_uint_eq(n, (unsigned)(buf[0] << 8 | buf[1]) + 2);
	packet(&t, config, 256, false);
	n = packet_in(&t, buf, sizeof(buf), &blocks);
	ck_assert_uint_eq(n, (unsigned)buf[3] + 4);
	ck_assert_uint_eq(buf[7], 8);       /* current profile: CD-ROM */
	packet(&t, raw, 0xfffe, false);
	ck_assert_uint_eq(packet_in(&t, buf, sizeof(buf), &blocks), 2352);
	ck_assert_uint_eq(buf[1], 0xff);
	ck_assert_uint_eq(buf[13], 0x02);   /* header 00:02:16, BCD, mode 1 */
	ck_assert_uint_eq(buf[14], 0x16);
	ck_assert_uint_eq(buf[15], 1);
	ck_assert_uint_eq(buf[16], pattern(16, 0));
	packet(&t, unknown, 0xfffe, false);
	ck_assert_uint_eq(sense(&t), 0x052000);
	ide_finish(&t);
}
END_TEST

START_TEST(cd_every_packet_ends)
{
	struct ide t;
	static uint8_t buf[1 << 20];

	ide_init(&t);
	for (unsigned op = 0; op < 256; op++) {
		for (unsigned fill = 0; fill < 4; fill++) {
			uint8_t cdb[12];
			unsigned blocks;

			memset(cdb, fill == 0 ? 0 : fill == 1 ? 0xff : fill == 2 ? 0x01 : 0x42, 12);
			cdb[0] = (uint8_t)op;
			packet(&t, cdb, 510, false);
			if (in8(&t.f, 0x376) & DRQ)
				packet_in(&t, buf, sizeof(buf), &blocks);
			ck_assert_uint_eq(rd2(&t, STATUS) & (BSY | DRQ), 0);
		}
	}
	ide_finish(&t);
}
END_TEST

START_TEST(cd_medium_change)
{
	struct ide t;
	struct error err = { "" };
	const uint8_t ready[12] = { 0 }, lock[12] = { 0x1e, 0, 0, 0, 1 };
	const uint8_t unlock[12] = { 0x1e }, eject[12] = { 0x1b, 0, 0, 0, 2 };
	const uint8_t load[12] = { 0x1b, 0, 0, 0, 3 }, event[12] = { 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8 };
	uint8_t buf[8];
	unsigned blocks;

	ide_init(&t);
	packet(&t, ready, 0, false);
	ck_assert_uint_eq(rd2(&t, STATUS), READY);
	ck_assert(!piix3_ide_set_disc(t.dev, 0, NULL, false, &err)); /* that is the disk */
	ck_assert(!piix3_ide_set_disc(t.dev, 4, NULL, false, &err));
	packet(&t, lock, 0, false);
	ck_assert(!piix3_ide_set_disc(t.dev, 2, NULL, false, &err));
	ck_assert(strstr(err.text, "locked") != NULL);
	packet(&t, eject, 0, false);
	ck_assert_uint_eq(sense(&t), 0x055302);
	packet(&t, unlock, 0, false);
	ck_assert(piix3_ide_set_disc(t.dev, 2, NULL, false, &err));
	packet(&t, ready, 0, false);
	ck_assert_uint_eq(sense(&t), 0x023a00);
	ck_assert(piix3_ide_set_disc(t.dev, 2, block_open(t.cd_path, BLOCK_RO, &err), false, &err));
	packet(&t, event, 8, false);
	packet_in(&t, buf, sizeof(buf), &blocks);
	ck_assert_uint_eq(buf[4], 2); /* new medium */
	packet(&t, ready, 0, false);
	ck_assert_uint_eq(sense(&t), 0x062800); /* once */
	packet(&t, ready, 0, false);
	ck_assert_uint_eq(rd2(&t, STATUS), READY);
	packet(&t, eject, 0, false);
	packet(&t, ready, 0, false);
	ck_assert_uint_eq(sense(&t), 0x023a02); /* tray open */
	packet(&t, load, 0, false);
	packet(&t, ready, 0, false);
	ck_assert_uint_eq(sense(&t), 0x062800);
	ide_finish(&t);
}
END_TEST

START_TEST(cd_disc_goes_during_a_read)
{
	struct ide t;
	struct error err = { "" };
	const uint8_t cdb[12] = { 0x28, 0, 0, 0, 0, 0, 0, 0, 4 };

	ide_init(&t);
	packet(&t, cdb, 2048, false);
	ck_assert(piix3_ide_set_disc(t.dev, 2, NULL, true, &err));
	for (unsigned i = 0; i < 1024; i++)
		ioport_read(t.f.m.io, 0x170, 2);
	run(&t);
	ck_assert_uint_eq(rd2(&t, STATUS), READY | ERR);
	ck_assert_uint_eq(sense(&t), 0x023a00);
	ide_finish(&t);
}
END_TEST

START_TEST(cd_device_reset)
{
	struct ide t;
	const uint8_t cdb[12] = { 0x28, 0, 0, 0, 0, 0, 0, 0, 4 };

	ide_init(&t);
	packet(&t, cdb, 2048, false);
	wr2(&t, COMMAND, 0xa1); /* not while DRQ */
	run(&t);
	ck_assert_uint_eq(in8(&t.f, 0x376), READY | DRQ);
	wr2(&t, COMMAND, 0x08);
	run(&t);
	ck_assert_uint_eq(rd2(&t, STATUS), 0);
	ck_assert_uint_eq(rd2(&t, MID) | rd2(&t, HIGH) << 8, 0xeb14);
	ide_finish(&t);
}
END_TEST

/* What the host has to fetch from its disk is fetched by the image's thread. */
static void make_cold(const char *path)
{
	int fd = open(path, O_RDONLY);

	ck_assert_int_ge(fd, 0);
	fsync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
}

START_TEST(cold_images)
{
	struct ide t;
	const uint8_t cdb[12] = { 0x28, 0, 0, 0, 0, 30, 0, 0, 60 };
	const uint8_t raw[12] = { 0xbe, 0, 0, 0, 0, 90, 0, 0, 10, 0xf8 };
	static uint8_t buf[60 * 2352];
	unsigned blocks;

	ide_init(&t);
	make_cold(t.disk_path);
	set_lba28(&t, 1500, 2); /* PIO */
	command(&t, 0x20);
	expect_sector(&t, 1500);
	make_cold(t.disk_path);
	run(&t);
	expect_sector(&t, 1501);
	make_cold(t.disk_path);
	prd(&t, 0, BUFFER, 0);
	prd(&t, 1, BUFFER + 0x10000, 0x80000000);
	set_lba28(&t, 100, 0); /* 256 sectors by DMA, two buffers */
	command(&t, 0xc8);
	bm_start(&t, 8);
	make_cold(t.disk_path);
	run(&t);
	ck_assert_uint_eq(bm_rd(&t, BMIS), 0x04);
	expect_memory(&t, BUFFER, 100, 256);
	make_cold(t.cd_path);
	packet(&t, cdb, 0xfffe, false);
	ck_assert_uint_eq(packet_in(&t, buf, sizeof(buf), &blocks), 60 * 2048);
	ck_assert_uint_eq(buf[59 * 2048 + 7], pattern(89, 7));
	make_cold(t.cd_path);
	packet(&t, raw, 0xfffe, false);
	ck_assert_uint_eq(packet_in(&t, buf, sizeof(buf), &blocks), 10 * 2352);
	ck_assert_uint_eq(buf[9 * 2352 + 16], pattern(99, 0));
	/* Reset while one is on its way; and the machine goes with another. */
	make_cold(t.disk_path);
	set_lba28(&t, 2000, 1);
	wr(&t, COMMAND, 0x20);
	loop_run(t.f.m.loop);
	out8(&t.f, CTL0, SRST);
	out8(&t.f, CTL0, 0);
	set_lba28(&t, 2100, 1);
	command(&t, 0x20);
	expect_sector(&t, 2100);
	make_cold(t.disk_path);
	wr(&t, COMMAND, 0xe7);
	loop_run(t.f.m.loop);
	out8(&t.f, CTL0, SRST);
	out8(&t.f, CTL0, 0);
	command(&t, 0xe7);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	wr(&t, FEATURE, 0x82); /* write cache off: every write is flushed */
	command(&t, 0xef);
	set_lba28(&t, 5, 1);
	command(&t, 0x30);
	for (unsigned i = 0; i < 128; i++)
		ioport_write(t.f.m.io, 0x1f0, 0x5a5a5a5a, 4);
	run(&t);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	ck_assert_uint_eq(rd(&t, LOW), 5);
	expect_image_sector(&t, 5, 0x5a, 0x5a);
	memory_write(t.f.m.memory, BUFFER, 0xa5, 1);
	prd(&t, 0, BUFFER, 0x80000200);
	set_lba28(&t, 6, 1);
	command(&t, 0xca);
	bm_start(&t, 0);
	run(&t);
	ck_assert_uint_eq(rd(&t, STATUS), READY);
	expect_image_sector(&t, 6, 0xa5, pattern(100, 511));
	wr(&t, COMMAND, 0xe7);
	loop_run(t.f.m.loop);
	ide_finish(&t);
}
END_TEST

/* Any sequence of register accesses: nothing may hang or leave its buffer. */
START_TEST(random_accesses)
{
	struct ide t;
	uint32_t x = 0x1234567;

	ide_init_mode(&t, BLOCK_SNAPSHOT);
	for (unsigned i = 0; i < 0x2000; i++)
		memory_write(t.f.m.memory, TABLE + i, i * 0x9e3779b1u >> 13, 1);
	for (unsigned i = 0; i < 300000; i++) {
		uint16_t port;

		x = x * 1664525 + 1013904223;
		switch (x >> 28 & 7) {
		case 0: port = 0x3f6; break;
		case 1: port = 0x376; break;
		case 2: port = (uint16_t)(BM + (x >> 20 & 15)); break;
		default: port = (uint16_t)((x >> 27 & 1 ? 0x170 : 0x1f0) + (x >> 20 & 7));
		}
		if (x >> 19 & 1) {
			uint32_t v = x >> 3 & 0xff;

			/* Mostly commands that move something. */
			if ((port & 0x1f7) == (port & 0x177) && (port & 7) == 7 && (x & 4))
				v = "\x20\x30\xc8\xca\x25\x35\xa0\xa0"[x >> 8 & 7];
			if ((port == 0x3f6 || port == 0x376) && (x & 15))
				v &= ~4u;
			if (port == BM + BMIDTP || port == BM + 8 + BMIDTP)
				v = TABLE;
			ioport_write(t.f.m.io, port, v, x >> 16 & 1 ? 4 : 1);
		} else {
			ioport_read(t.f.m.io, port, x >> 16 & 1 ? 2 : 1);
		}
		if ((port & ~0x80) == 0x170 || (x & 0x300) == 0) {
			uint8_t buf[4096] = { 0 };

			ioport_write_block(t.f.m.io, 0x1f0, 2, buf, 2048);
			ioport_read_block(t.f.m.io, 0x170, 2, buf, 2048);
			loop_run(t.f.m.loop);
		}
	}
	ide_finish(&t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ata");
	TCase *t = tcase_create("disk"), *dma = tcase_create("dma"), *cd = tcase_create("cd");
	SRunner *r;
	int failed;

	tcase_add_test(t, signature_after_reset);
	tcase_add_test(t, software_reset);
	tcase_add_test(t, absent_drives);
	tcase_add_test(t, channel_switched_off);
	tcase_add_test(t, interrupts);
	tcase_add_test(t, identify_device);
	tcase_add_test(t, pio_read_lba28_lba48_chs);
	tcase_add_test(t, data_port_sizes_and_bulk);
	tcase_add_test(t, pio_write);
	tcase_add_test(t, multiple);
	tcase_add_test(t, beyond_the_end);
	tcase_add_test(t, read_only_disk);
	tcase_add_test(t, small_commands);
	tcase_add_test(t, registers_ignore_writes_while_busy);
	tcase_add_test(dma, dma_read);
	tcase_add_test(dma, dma_write);
	tcase_add_test(dma, dma_needs_bus_mastering);
	tcase_add_test(dma, prd_table_too_short);
	tcase_add_test(dma, prd_table_out_of_ram);
	tcase_add_test(dma, prd_regions_anywhere);
	tcase_add_test(dma, prd_table_without_end);
	tcase_add_test(dma, prd_table_that_overwrites_itself);
	tcase_add_test(dma, stop_and_reset_in_the_middle);
	tcase_add_test(dma, bus_master_registers);
	tcase_add_test(cd, cd_identify);
	tcase_add_test(cd, cd_read_pio);
	tcase_add_test(cd, cd_byte_count_zero_or_one);
	tcase_add_test(cd, cd_read_dma);
	tcase_add_test(cd, cd_reads_past_the_end);
	tcase_add_test(cd, cd_small_commands);
	tcase_add_test(cd, cd_every_packet_ends);
	tcase_add_test(cd, cd_medium_change);
	tcase_add_test(cd, cd_disc_goes_during_a_read);
	tcase_add_test(cd, cd_device_reset);
	tcase_add_test(cd, cold_images);
	tcase_add_test(cd, random_accesses);
	tcase_set_timeout(cd, 60);
	suite_add_tcase(s, t);
	suite_add_tcase(s, dma);
	suite_add_tcase(s, cd);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
