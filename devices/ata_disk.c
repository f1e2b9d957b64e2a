/* Commands of an ATA disk.
 *
 * ATA/ATAPI-6 (T13/1410D), chapter 8; CHS translation from ATA-1. Reads and
 * writes address an image in 512-byte sectors. Not announced and therefore
 * aborted: SMART, security, host protected area, queued commands.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/trace.h"
#include "core/util.h"
#include "devices/ata_priv.h"

enum { LBA28_SECTORS = 0x0fffffff };

/* ---- addresses ---- */

static bool is_ext(uint8_t command)
{
	switch (command) {
	case CMD_READ_EXT: case CMD_READ_DMA_EXT: case CMD_READ_MULTIPLE_EXT:
	case CMD_WRITE_EXT: case CMD_WRITE_DMA_EXT: case CMD_WRITE_MULTIPLE_EXT:
	case CMD_VERIFY_EXT: case CMD_READ_NATIVE_MAX_EXT: case CMD_FLUSH_EXT:
		return true;
	}
	return false;
}

/* Where a command starts; false for a CHS address that does not exist. */
static bool get_address(const struct ata_drive *d, uint64_t *lba)
{
	const struct ata_channel *ch = d->ch;
	uint32_t low = d->lba_low[0] | d->lba_mid[0] << 8 | (uint32_t)d->lba_high[0] << 16;

	if (is_ext(ch->command)) {
		*lba = low | (uint64_t)d->lba_low[1] << 24 | (uint64_t)d->lba_mid[1] << 32 |
		       (uint64_t)d->lba_high[1] << 40;
	} else if (ch->device & ATA_LBA) {
		*lba = low | (uint32_t)(ch->device & 0xf) << 24;
	} else {
		unsigned head = ch->device & 0xf, sector = d->lba_low[0];
		unsigned cylinder = d->lba_mid[0] | d->lba_high[0] << 8;

		*lba = UINT64_MAX;
		if (!sector || sector > d->sectors || head >= d->heads)
			return false;
		*lba = ((uint64_t)cylinder * d->heads + head) * d->sectors + sector - 1;
	}
	return true;
}

static void set_address(struct ata_drive *d, uint64_t lba)
{
	struct ata_channel *ch = d->ch;

	if (is_ext(ch->command)) {
		d->lba_low[1] = (uint8_t)(lba >> 24);
		d->lba_mid[1] = (uint8_t)(lba >> 32);
		d->lba_high[1] = (uint8_t)(lba >> 40);
	} else if (ch->device & ATA_LBA) {
		ch->device = (uint8_t)((ch->device & 0xf0) | (lba >> 24 & 0xf));
	} else {
		uint64_t cylinder = lba / ((unsigned)d->heads * d->sectors);

		ch->device = (uint8_t)((ch->device & 0xf0) | (lba / d->sectors % d->heads));
		d->lba_low[0] = (uint8_t)(lba % d->sectors + 1);
		d->lba_mid[0] = (uint8_t)cylinder;
		d->lba_high[0] = (uint8_t)(cylinder >> 8);
		return;
	}
	d->lba_low[0] = (uint8_t)lba;
	d->lba_mid[0] = (uint8_t)(lba >> 8);
	d->lba_high[0] = (uint8_t)(lba >> 16);
}

static uint32_t get_count(const struct ata_drive *d)
{
	uint32_t n = d->count[0];

	if (is_ext(d->ch->command)) {
		n |= (uint32_t)d->count[1] << 8;
		return n ? n : 65536;
	}
	return n ? n : 256;
}

/* ---- ends of commands ---- */

/* The registers say where a media command ended (ATA-1 9.1): the last sector,
 * nothing left. */
void ata_disk_registers(struct ata_drive *d)
{
	set_address(d, d->at - 1);
	d->count[0] = d->count[1] = 0;
}

void ata_disk_done(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;

	if (ch->xfer == ATA_XFER_WRITE && !d->write_cache) {
		int ret;

		if (!ata_image_flush(d, &ret))
			return;
		if (ret) {
			ata_abort(d, ATA_ABRT);
			return;
		}
	}
	ata_disk_registers(d);
	ata_complete(d);
}

/* With an error they name the sector in error and what is left. */
static void fail_media(struct ata_drive *d, int ret, bool write)
{
	struct machine *m = d->ch->machine;

	if (trace_on(&m->trace, TRACE_DISK))
		trace_print(&m->trace, TRACE_DISK, "%s: %s of sector %llu: %s",
			    block_path(d->block), write ? "write" : "read",
			    (unsigned long long)d->at, strerror(-ret));
	set_address(d, d->at);
	d->count[0] = (uint8_t)d->left;
	d->count[1] = (uint8_t)(d->left >> 8);
	if (ret == -ERANGE)
		ata_abort(d, ATA_IDNF);
	else if (ret == -EROFS)
		ata_abort(d, ATA_ABRT | ATA_WP);
	else
		ata_abort(d, write ? ATA_ABRT : ATA_UNC);
}

/* ---- data ---- */

bool ata_disk_fill(struct ata_drive *d, uint32_t sectors)
{
	struct ata_channel *ch = d->ch;
	uint32_t n = MIN(MIN(d->left, sectors), ATA_BUF / BLOCK_SECTOR);
	int ret = ata_image_read(d, d->at, ch->buf, n);

	if (ret == -EAGAIN) {
		if (ata_wait_for(d, d->at, n))
			return false;
		ret = ata_image_read(d, d->at, ch->buf, n);
	}
	d->warmed = false;
	if (ret) {
		fail_media(d, ret, false);
		return false;
	}
	d->at += n;
	d->left -= n;
	ch->pos = 0;
	ch->len = n * BLOCK_SECTOR;
	return true;
}

bool ata_disk_drain(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;
	uint32_t n = MIN(ch->len / BLOCK_SECTOR, d->left);
	int ret = block_write(d->block, d->at, ch->buf, n);

	if (ret) {
		fail_media(d, ret, true);
		return false;
	}
	d->at += n;
	d->left -= n;
	ch->pos = ch->block_end = ch->len = 0;
	return true;
}

static uint32_t pio_sectors(const struct ata_drive *d)
{
	switch (d->ch->command) {
	case CMD_READ_MULTIPLE: case CMD_READ_MULTIPLE_EXT:
	case CMD_WRITE_MULTIPLE: case CMD_WRITE_MULTIPLE_EXT:
		return MAX(d->multiple, 1);
	}
	return 1;
}

static void pio_read_block(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;

	if (!ata_disk_fill(d, pio_sectors(d)))
		return;
	ch->block_end = ch->len;
	ch->phase = ATA_PHASE_PIO_IN;
	d->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
	ata_raise(d);
}

static void pio_write_block(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;

	ch->pos = 0;
	ch->len = ch->block_end = MIN(d->left, pio_sectors(d)) * BLOCK_SECTOR;
	ch->phase = ATA_PHASE_PIO_OUT;
	d->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
}

/* The guest has moved a block of a PIO command, and there is more to do. */
void ata_disk_step(struct ata_drive *d)
{
	if (d->ch->xfer == ATA_XFER_READ) {
		pio_read_block(d);
	} else if (d->ch->xfer == ATA_XFER_WRITE && ata_disk_drain(d)) {
		if (d->left) {
			pio_write_block(d);
			ata_raise(d);
		} else {
			ata_disk_done(d);
		}
	}
}

/* ---- IDENTIFY DEVICE ---- */

void ata_disk_geometry(struct ata_drive *d)
{
	uint64_t cylinders = d->block ? block_sectors(d->block) / (16 * 63) : 0;

	d->heads = 16;
	d->sectors = 63;
	d->cylinders = (uint16_t)MAX(1, MIN(cylinders, 16383));
}

static void put_dword(uint8_t *id, unsigned word, uint32_t value)
{
	store_le32(id + word * 2, value);
}

void ata_disk_identify(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;
	uint64_t total = block_sectors(d->block);
	uint64_t cylinders = MAX(1, MIN(total / (16 * 63), 16383));
	uint32_t chs = (uint32_t)d->cylinders * d->heads * d->sectors;
	uint8_t *id = ch->buf, sum = 0xa5;
	char serial[21];

	memset(id, 0, 512);
	ata_put_word(id, 0, 0x0040);                  /* fixed disk */
	ata_put_word(id, 1, (unsigned)cylinders);
	ata_put_word(id, 3, 16);
	ata_put_word(id, 6, 63);
	snprintf(serial, sizeof(serial), "GN%05u%u", ch->irq.n & 0xff, d->index);
	ata_put_string(id, 10, 10, serial);
	ata_put_string(id, 23, 4, "1.0");
	ata_put_string(id, 27, 20, "GANNET HARDDISK");
	ata_put_word(id, 47, 0x8000 | ATA_MULTIPLE_MAX);
	ata_identify_modes(d, id);
	ata_put_word(id, 50, 0x4000);
	ata_put_word(id, 54, d->cylinders);
	ata_put_word(id, 55, d->heads);
	ata_put_word(id, 56, d->sectors);
	put_dword(id, 57, chs);
	if (d->multiple)
		ata_put_word(id, 59, 0x0100 | d->multiple);
	put_dword(id, 60, (uint32_t)MIN(total, LBA28_SECTORS));
	ata_put_word(id, 82, 0x4028);                 /* NOP, write cache, power management */
	ata_put_word(id, 83, 0x7400);                 /* FLUSH CACHE (EXT), 48 bit */
	ata_put_word(id, 84, 0x4000);
	ata_put_word(id, 85, 0x4008 | (d->write_cache ? 0x20 : 0));
	ata_put_word(id, 86, 0x3400);
	ata_put_word(id, 87, 0x4000);
	store_le64(id + 200, total);
	id[510] = 0xa5;
	for (unsigned i = 0; i < 510; i++)
		sum += id[i];
	id[511] = (uint8_t)-sum;
}

/* ---- commands ---- */

static void start_media(struct ata_drive *d, enum ata_xfer xfer, bool dma)
{
	struct ata_channel *ch = d->ch;
	uint64_t total = block_sectors(d->block);
	bool exists = get_address(d, &d->at);

	d->left = get_count(d);
	d->standby = false;
	ch->xfer = (uint8_t)xfer;
	ch->pos = ch->len = 0;
	if (!exists) {
		ata_abort(d, ATA_IDNF);
		return;
	}
	if (d->at >= total || d->left > total - d->at) {
		/* Nothing moves: the first sector that does not exist is named. */
		d->at = MAX(d->at, total);
		fail_media(d, -ERANGE, xfer == ATA_XFER_WRITE);
		return;
	}
	if (xfer == ATA_XFER_WRITE && !block_writable(d->block)) {
		fail_media(d, -EROFS, true);
		return;
	}
	if (xfer == ATA_XFER_NONE) { /* verify: what exists can be read */
		d->at += d->left;
		ata_disk_done(d);
	} else if (dma) {
		ata_dma_run(d);
	} else if (xfer == ATA_XFER_READ) {
		pio_read_block(d);
	} else {
		pio_write_block(d); /* no interrupt before the first block out */
	}
}

static void set_multiple(struct ata_drive *d)
{
	uint8_t n = d->count[0];

	if (n > ATA_MULTIPLE_MAX || (n & (n - 1))) {
		ata_abort(d, ATA_ABRT);
		return;
	}
	d->multiple = n;
	ata_complete(d);
}

static void init_params(struct ata_drive *d)
{
	uint64_t cylinders;

	if (!d->count[0]) {
		ata_abort(d, ATA_ABRT);
		return;
	}
	d->heads = (d->ch->device & 0xf) + 1;
	d->sectors = d->count[0];
	cylinders = block_sectors(d->block) / ((unsigned)d->heads * d->sectors);
	d->cylinders = (uint16_t)MAX(1, MIN(cylinders, 65535));
	ata_complete(d);
}

static void flush(struct ata_drive *d)
{
	int ret;

	if (!ata_image_flush(d, &ret))
		return;
	if (ret)
		ata_abort(d, ATA_ABRT);
	else
		ata_complete(d);
}

static void native_max(struct ata_drive *d)
{
	uint64_t last = block_sectors(d->block) - 1;

	if (d->ch->command == CMD_READ_NATIVE_MAX) {
		d->ch->device |= ATA_LBA;
		last = MIN(last, LBA28_SECTORS - 1);
	}
	set_address(d, last);
	ata_complete(d);
}

void ata_disk_execute(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;

	switch (ch->command) {
	case CMD_READ: case CMD_READ_NORETRY: case CMD_READ_EXT:
		start_media(d, ATA_XFER_READ, false);
		break;
	case CMD_WRITE: case CMD_WRITE_NORETRY: case CMD_WRITE_EXT: case CMD_WRITE_VERIFY:
		start_media(d, ATA_XFER_WRITE, false);
		break;
	case CMD_READ_MULTIPLE: case CMD_READ_MULTIPLE_EXT:
	case CMD_WRITE_MULTIPLE: case CMD_WRITE_MULTIPLE_EXT:
		if (!d->multiple)
			ata_abort(d, ATA_ABRT);
		else if (ch->command == CMD_READ_MULTIPLE || ch->command == CMD_READ_MULTIPLE_EXT)
			start_media(d, ATA_XFER_READ, false);
		else
			start_media(d, ATA_XFER_WRITE, false);
		break;
	case CMD_READ_DMA: case CMD_READ_DMA_NORETRY: case CMD_READ_DMA_EXT:
	case CMD_WRITE_DMA: case CMD_WRITE_DMA_NORETRY: case CMD_WRITE_DMA_EXT:
		if (!ch->host)
			ata_abort(d, ATA_ABRT);
		else if (ch->command == CMD_READ_DMA || ch->command == CMD_READ_DMA_NORETRY ||
			 ch->command == CMD_READ_DMA_EXT)
			start_media(d, ATA_XFER_READ, true);
		else
			start_media(d, ATA_XFER_WRITE, true);
		break;
	case CMD_VERIFY: case CMD_VERIFY_NORETRY: case CMD_VERIFY_EXT:
		start_media(d, ATA_XFER_NONE, false);
		break;
	case CMD_SEEK ... CMD_SEEK + 15: {
		uint64_t lba;

		if (!get_address(d, &lba) || lba >= block_sectors(d->block))
			ata_abort(d, ATA_IDNF);
		else
			ata_complete(d);
		break;
	}
	case CMD_RECALIBRATE ... CMD_RECALIBRATE + 15:
		d->lba_mid[0] = d->lba_high[0] = 0;
		ata_complete(d);
		break;
	case CMD_INIT_PARAMS:
		init_params(d);
		break;
	case CMD_SET_MULTIPLE:
		set_multiple(d);
		break;
	case CMD_FLUSH: case CMD_FLUSH_EXT:
		flush(d);
		break;
	case CMD_READ_NATIVE_MAX: case CMD_READ_NATIVE_MAX_EXT:
		native_max(d);
		break;
	case CMD_IDENTIFY:
		ata_reply_identify(d);
		break;
	default:
		/* SMART, security, host protected area, queued, ...: not announced. */
		ata_abort(d, ATA_ABRT);
	}
}
