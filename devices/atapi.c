/* ATAPI CD-ROM drive: the packet protocol and the commands of a data disc.
 *
 * ATA/ATAPI-6 9.8 (PACKET protocol), MMC-3 (commands), SPC-2 (INQUIRY, REQUEST
 * SENSE, MODE SENSE). A disc is an image of 2048-byte sectors: one session with
 * one data track. What lies around the user data of a sector (sync, header) is
 * made up on request; error correction codes read as zero, audio is not there.
 */
#include <errno.h>
#include <string.h>

#include "core/trace.h"
#include "core/util.h"
#include "devices/ata_priv.h"

enum packet_op {
	OP_TEST_UNIT_READY = 0x00, OP_REQUEST_SENSE = 0x03, OP_INQUIRY = 0x12,
	OP_MODE_SENSE_6 = 0x1a, OP_START_STOP = 0x1b, OP_PREVENT_ALLOW = 0x1e,
	OP_READ_CAPACITY = 0x25, OP_READ_10 = 0x28, OP_SEEK = 0x2b,
	OP_SYNCHRONIZE_CACHE = 0x35, OP_READ_SUBCHANNEL = 0x42, OP_READ_TOC = 0x43,
	OP_GET_CONFIGURATION = 0x46, OP_GET_EVENT_STATUS = 0x4a,
	OP_READ_DISC_INFORMATION = 0x51, OP_MODE_SENSE_10 = 0x5a,
	OP_READ_12 = 0xa8, OP_READ_CD_MSF = 0xb9, OP_SET_CD_SPEED = 0xbb,
	OP_MECHANISM_STATUS = 0xbd, OP_READ_CD = 0xbe,
};

enum sense_key {
	KEY_NONE = 0, KEY_NOT_READY = 2, KEY_MEDIUM_ERROR = 3, KEY_ILLEGAL_REQUEST = 5,
	KEY_UNIT_ATTENTION = 6,
};

/* Additional sense codes, asc << 8 | ascq. */
enum {
	ASC_READ_ERROR = 0x1100, ASC_INVALID_OPCODE = 0x2000, ASC_LBA_RANGE = 0x2100,
	ASC_INVALID_FIELD = 0x2400, ASC_MEDIUM_CHANGED = 0x2800,
	ASC_NO_SAVED_PAGES = 0x3900, ASC_NO_MEDIUM = 0x3a00, ASC_NO_MEDIUM_TRAY_OPEN = 0x3a02,
	ASC_REMOVAL_PREVENTED = 0x5302, ASC_ILLEGAL_MODE = 0x6400,
};

enum {
	PROFILE_CD = 0x0008, PROFILE_DVD = 0x0010,
	CD_MAX_SECTORS = 100 * 60 * 75, /* more than that is a DVD */
	LEAD_OUT = 0xaa,
	MSF_OFFSET = 150,               /* sector 0 is at 00:02:00 */
	SPEED = 24 * 176,               /* kB/s, as told to whom it may concern */
};

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static bool disc_present(const struct ata_drive *d)
{
	return d->block && !d->ejected;
}

static uint32_t disc_sectors(const struct ata_drive *d)
{
	uint64_t n = (block_sectors(d->block) + 3) / 4;

	return (uint32_t)MIN(n, UINT32_MAX);
}

/* ---- ends of commands ---- */

static void finish(struct ata_drive *d, uint8_t status)
{
	struct ata_channel *ch = d->ch;

	ch->phase = ATA_PHASE_IDLE;
	ch->xfer = ATA_XFER_NONE;
	ch->pos = ch->block_end = ch->len = 0;
	d->left = 0;
	d->count[0] = ATAPI_IO | ATAPI_CD;
	d->status = status;
	ata_raise(d);
}

void atapi_done(struct ata_drive *d)
{
	d->error = 0;
	finish(d, ATA_DRDY | ATA_DSC);
}

static void fail(struct ata_drive *d, enum sense_key key, unsigned asc)
{
	struct trace *trace = &d->ch->machine->trace;

	if (trace_on(trace, TRACE_DISK))
		trace_print(trace, TRACE_DISK, "atapi: packet %02x fails: sense %x/%02x/%02x",
			    d->packet[0], key, asc >> 8, asc & 0xff);
	d->sense_key = (uint8_t)key;
	d->asc = (uint8_t)(asc >> 8);
	d->ascq = (uint8_t)asc;
	d->error = (uint8_t)(key << 4 | (key == KEY_ILLEGAL_REQUEST ? ATA_ABRT : 0));
	finish(d, ATA_DRDY | ATA_DSC | ATA_ERR);
}

static void fail_no_disc(struct ata_drive *d)
{
	fail(d, KEY_NOT_READY, d->ejected ? ASC_NO_MEDIUM_TRAY_OPEN : ASC_NO_MEDIUM);
}

/* ---- data to the guest ---- */

/* One DRQ block out of buf[pos..len). */
static void pio_block(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;
	uint32_t n = ch->len - ch->pos;

	if (n > d->limit)
		n = d->limit & ~1u; /* only the last block may be odd */
	if (!n) {
		/* A limit of 0 (or 1) bytes moves nothing, ever. */
		ata_abort(d, ATA_ABRT);
		return;
	}
	ch->block_end = ch->pos + n;
	d->lba_mid[0] = (uint8_t)n;
	d->lba_high[0] = (uint8_t)(n >> 8);
	d->count[0] = ATAPI_IO;
	ch->phase = ATA_PHASE_PIO_IN;
	d->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
	ata_raise(d);
}

static void start_data(struct ata_drive *d)
{
	if (d->dma)
		ata_dma_run(d);
	else
		pio_block(d);
}

/* The first @have bytes of the buffer, as far as the guest wants them. */
static void reply(struct ata_drive *d, uint32_t have, uint32_t wanted)
{
	struct ata_channel *ch = d->ch;

	ch->xfer = ATA_XFER_REPLY;
	ch->pos = 0;
	ch->len = MIN(have, wanted);
	d->left = 0;
	if (ch->len)
		start_data(d);
	else
		atapi_done(d);
}

static uint32_t sector_size(const struct ata_drive *d)
{
	return (d->cd_parts & CD_PART_SYNC ? 12 : 0) + (d->cd_parts & CD_PART_HEADER ? 4 : 0) +
	       (d->cd_parts & CD_PART_USER ? CD_SECTOR : 0) +
	       (d->cd_parts & CD_PART_ECC ? 288 : 0);
}

static void put_msf(uint8_t *p, uint32_t lba)
{
	uint32_t frames = lba + MSF_OFFSET;

	p[0] = (uint8_t)(frames / 75 / 60);
	p[1] = (uint8_t)(frames / 75 % 60);
	p[2] = (uint8_t)(frames % 75);
}

static uint8_t bcd(uint8_t v)
{
	return (uint8_t)(v / 10 % 10 << 4 | v % 10);
}

static int read_user(struct ata_drive *d, uint64_t lba, uint8_t *buf, uint32_t n)
{
	uint64_t total = block_sectors(d->block), first = lba * 4;
	uint32_t inside = first >= total ? 0 : (uint32_t)MIN(total - first, (uint64_t)n * 4);

	memset(buf + inside * BLOCK_SECTOR, 0, n * CD_SECTOR - inside * BLOCK_SECTOR);
	return ata_image_read(d, first, buf, inside);
}

/* One mode 1 sector with what surrounds it (Yellow Book). */
static int read_parts(struct ata_drive *d, uint64_t lba, uint8_t *p)
{
	if (d->cd_parts & CD_PART_SYNC) {
		memset(p, 0xff, 12);
		p[0] = p[11] = 0;
		p += 12;
	}
	if (d->cd_parts & CD_PART_HEADER) {
		put_msf(p, (uint32_t)lba);
		for (unsigned i = 0; i < 3; i++)
			p[i] = bcd(p[i]);
		p[3] = 1;
		p += 4;
	}
	if (d->cd_parts & CD_PART_USER) {
		int ret = read_user(d, lba, p, 1);

		if (ret)
			return ret;
		p += CD_SECTOR;
	}
	if (d->cd_parts & CD_PART_ECC)
		memset(p, 0, 288);
	return 0;
}

static int read_run(struct ata_drive *d, uint32_t n)
{
	uint8_t *buf = d->ch->buf;
	int ret = 0;

	if (d->cd_parts == CD_PART_USER)
		return read_user(d, d->at, buf, n);
	for (uint32_t i = 0; i < n && !ret; i++)
		ret = read_parts(d, d->at + i, buf + i * sector_size(d));
	return ret;
}

bool atapi_fill(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;
	uint32_t size = sector_size(d), n;
	int ret;

	if (!disc_present(d) || !size) {
		fail_no_disc(d);
		return false;
	}
	n = MIN(d->left, ATA_BUF / size);
	if (!d->dma) /* DRQ blocks of whole sectors where the limit allows */
		n = MIN(n, MAX(1u, d->limit / size));
	ret = read_run(d, n);
	if (ret == -EAGAIN) {
		if (ata_wait_for(d, d->at * 4, n * 4))
			return false;
		ret = read_run(d, n);
	}
	d->warmed = false;
	if (ret) {
		fail(d, KEY_MEDIUM_ERROR, ASC_READ_ERROR);
		return false;
	}
	d->at += n;
	d->left -= n;
	ch->pos = 0;
	ch->len = n * size;
	return true;
}

static void read_sectors(struct ata_drive *d, uint32_t lba, uint32_t count, uint8_t parts)
{
	uint32_t total = disc_sectors(d);

	if (lba >= total || count > total - lba) {
		/* Zero sectors at the very end are none. */
		if (count || lba > total) {
			fail(d, KEY_ILLEGAL_REQUEST, ASC_LBA_RANGE);
			return;
		}
	}
	d->cd_parts = parts;
	if (!count || !sector_size(d)) {
		atapi_done(d);
		return;
	}
	d->at = lba;
	d->left = count;
	d->ch->xfer = ATA_XFER_CD;
	d->ch->pos = d->ch->len = 0;
	if (d->dma)
		ata_dma_run(d);
	else if (atapi_fill(d))
		pio_block(d);
}

/* ---- commands ---- */

static void read_cd(struct ata_drive *d, uint32_t lba, uint32_t count)
{
	const uint8_t *p = d->packet;
	unsigned type = p[1] >> 2 & 7;

	if (type != 0 && type != 2) /* neither "any" nor mode 1 */
		fail(d, KEY_ILLEGAL_REQUEST, ASC_ILLEGAL_MODE);
	else if ((p[9] & 6) || (p[10] & 7)) /* C2 error flags, subchannel data */
		fail(d, KEY_ILLEGAL_REQUEST, ASC_INVALID_FIELD);
	else /* a mode 1 sector has no subheader */
		read_sectors(d, lba, count, p[9] & CD_PART_ALL & ~CD_PART_SUBHEADER);
}

static void read_cd_msf(struct ata_drive *d)
{
	const uint8_t *p = d->packet;
	int64_t first = (p[3] * 60 + p[4]) * 75 + p[5] - MSF_OFFSET;
	int64_t end = (p[6] * 60 + p[7]) * 75 + p[8] - MSF_OFFSET;

	if (first < 0 || end < first)
		fail(d, KEY_ILLEGAL_REQUEST, ASC_LBA_RANGE);
	else
		read_cd(d, (uint32_t)first, (uint32_t)(end - first));
}

static void inquiry(struct ata_drive *d)
{
	uint8_t *r = d->ch->buf;

	if (d->packet[1] & 3) { /* vital product data */
		fail(d, KEY_ILLEGAL_REQUEST, ASC_INVALID_FIELD);
		return;
	}
	memset(r, 0, 36);
	r[0] = 0x05;  /* CD-ROM device */
	r[1] = 0x80;  /* removable */
	r[3] = 0x21;  /* ATAPI, response format 1 */
	r[4] = 36 - 5;
	memcpy(r + 8, "GANNET  DVD-ROM         1.0 ", 28);
	reply(d, 36, be16(d->packet + 3));
}

static void request_sense(struct ata_drive *d)
{
	uint8_t *r = d->ch->buf;

	if (d->sense_key == KEY_NONE && d->changed) {
		d->sense_key = KEY_UNIT_ATTENTION;
		d->asc = ASC_MEDIUM_CHANGED >> 8;
		d->ascq = 0;
		d->changed = false;
	}
	memset(r, 0, 18);
	r[0] = 0x70;
	r[2] = d->sense_key;
	r[7] = 18 - 8;
	r[12] = d->asc;
	r[13] = d->ascq;
	d->sense_key = d->asc = d->ascq = 0;
	reply(d, 18, d->packet[4]);
}

static void read_capacity(struct ata_drive *d)
{
	put32(d->ch->buf, disc_sectors(d) - 1);
	put32(d->ch->buf + 4, CD_SECTOR);
	reply(d, 8, 8);
}

static void put_toc_address(uint8_t *p, uint32_t lba, bool msf)
{
	p[0] = 0;
	if (msf)
		put_msf(p + 1, lba);
	else
		put32(p, lba);
}

static uint8_t *put_track(uint8_t *p, uint8_t track, uint32_t lba, bool msf)
{
	p[0] = 0;
	p[1] = 0x14; /* position data, data track */
	p[2] = track;
	p[3] = 0;
	put_toc_address(p + 4, lba, msf);
	return p + 8;
}

/* Full TOC: point @point says @a:@b:@c (MMC-3 table 357). */
static uint8_t *put_point(uint8_t *p, uint8_t point, uint8_t a, uint8_t b, uint8_t c)
{
	memset(p, 0, 11);
	p[0] = 1; /* session */
	p[1] = 0x14;
	p[3] = point;
	p[8] = a;
	p[9] = b;
	p[10] = c;
	return p + 11;
}

static void read_toc(struct ata_drive *d)
{
	const uint8_t *c = d->packet;
	uint8_t *r = d->ch->buf, *p = r + 4, msf_address[3];
	unsigned format = c[2] & 0xf ? c[2] & 0xf : c[9] >> 6; /* SFF-8020i had it in byte 9 */
	bool msf = c[1] & 2;

	r[2] = r[3] = 1; /* first and last track or session */
	switch (format) {
	case 0:
		if (c[6] > 1 && c[6] != LEAD_OUT) {
			fail(d, KEY_ILLEGAL_REQUEST, ASC_INVALID_FIELD);
			return;
		}
		if (c[6] <= 1)
			p = put_track(p, 1, 0, msf);
		p = put_track(p, LEAD_OUT, disc_sectors(d), msf);
		break;
	case 1:
		p = put_track(p, 1, 0, msf);
		break;
	case 2:
		p = put_point(p, 0xa0, 1, 0, 0); /* first track, disc type CD-ROM */
		p = put_point(p, 0xa1, 1, 0, 0); /* last track */
		put_msf(msf_address, disc_sectors(d));
		p = put_point(p, 0xa2, msf_address[0], msf_address[1], msf_address[2]);
		p = put_point(p, 1, 0, 2, 0);
		break;
	default:
		fail(d, KEY_ILLEGAL_REQUEST, ASC_INVALID_FIELD);
		return;
	}
	put16(r, (uint32_t)(p - r) - 2);
	reply(d, (uint32_t)(p - r), be16(c + 7));
}

static void read_subchannel(struct ata_drive *d)
{
	const uint8_t *c = d->packet;
	uint8_t *r = d->ch->buf;
	uint32_t len = 4;

	memset(r, 0, 24);
	r[1] = 0x15; /* no audio status to report */
	if (c[2] & 0x40) {
		if (c[3] < 1 || c[3] > 3) {
			fail(d, KEY_ILLEGAL_REQUEST, ASC_INVALID_FIELD);
			return;
		}
		r[4] = c[3];
		len = 24;
		if (c[3] == 1) { /* current position: the start of track 1 */
			r[5] = 0x14;
			r[6] = r[7] = 1;
			put_toc_address(r + 8, 0, c[1] & 2);
			put_toc_address(r + 12, 0, c[1] & 2);
			len = 16;
		}
	}
	put16(r + 2, len - 4);
	reply(d, len, be16(c + 7));
}

static uint32_t put_mode_pages(const struct ata_drive *d, uint8_t *p, unsigned page, bool mask)
{
	uint8_t *start = p;

	if (page == 0x01 || page == 0x3f) { /* read error recovery */
		memset(p, 0, 8);
		p[0] = 0x01;
		p[1] = 6;
		p[3] = mask ? 0 : 5;
		p += 8;
	}
	if (page == 0x2a || page == 0x3f) { /* capabilities and mechanical status */
		memset(p, 0, 22);
		p[0] = 0x2a;
		p[1] = 20;
		if (!mask) {
			p[2] = 0x3b;      /* reads CD-R, CD-RW, DVD-ROM, DVD-R, DVD-RAM */
			p[4] = 0x70;      /* mode 2 form 1 and 2, multisession */
			p[6] = (uint8_t)(0x29 | (d->locked ? 2 : 0)); /* tray, eject, lock */
			put16(p + 8, SPEED);
			put16(p + 12, 512); /* buffer, KiB */
			put16(p + 14, SPEED);
		}
		p += 22;
	}
	return (uint32_t)(p - start);
}

static void mode_sense(struct ata_drive *d)
{
	const uint8_t *c = d->packet;
	bool ten = c[0] == OP_MODE_SENSE_10;
	unsigned page = c[2] & 0x3f, control = c[2] >> 6, header = ten ? 8 : 4;
	uint8_t *r = d->ch->buf, medium = disc_present(d) ? 0x01 : 0x70;
	uint32_t len;

	if (control == 3) {
		fail(d, KEY_ILLEGAL_REQUEST, ASC_NO_SAVED_PAGES);
		return;
	}
	memset(r, 0, header);
	len = put_mode_pages(d, r + header, page, control == 1);
	if (!len) {
		fail(d, KEY_ILLEGAL_REQUEST, ASC_INVALID_FIELD);
		return;
	}
	len += header;
	if (ten) {
		put16(r, len - 2);
		r[2] = medium;
	} else {
		r[0] = (uint8_t)(len - 1);
		r[1] = medium;
	}
	reply(d, len, ten ? be16(c + 7) : c[4]);
}

static unsigned current_profile(const struct ata_drive *d)
{
	if (!disc_present(d))
		return 0;
	return disc_sectors(d) > CD_MAX_SECTORS ? PROFILE_DVD : PROFILE_CD;
}

/* A feature descriptor (MMC-3 5.3): version 0 or in @bits, current, its data. */
struct feature {
	uint16_t code;
	uint8_t bits;        /* version << 2 | persistent << 1 | current */
	uint8_t len;
	uint8_t data[8];
};

static void get_configuration(struct ata_drive *d)
{
	const uint8_t *c = d->packet;
	uint8_t *r = d->ch->buf, *p = r + 8;
	unsigned profile = current_profile(d), which = c[1] & 3, start = be16(c + 2);
	const uint8_t cd = profile == PROFILE_CD, dvd = profile == PROFILE_DVD;
	const struct feature features[] = {
		{ 0x0000, 3, 8, { 0, PROFILE_DVD, dvd, 0, 0, PROFILE_CD, cd, 0 } },
		{ 0x0001, 3, 4, { 0, 0, 0, 2 } },             /* core: ATAPI */
		{ 0x0003, 3, 4, { 0x29, 0, 0, 0 } },          /* removable: tray, eject, lock */
		{ 0x0010, cd | dvd, 8, { 0, 0, 8, 0, 0, 1, 0, 0 } }, /* random readable, 2048 */
		{ 0x001e, cd, 4, { 0 } },                     /* CD read */
		{ 0x001f, dvd, 0, { 0 } },                    /* DVD read */
	};

	if (which == 3) {
		fail(d, KEY_ILLEGAL_REQUEST, ASC_INVALID_FIELD);
		return;
	}
	memset(r, 0, 8);
	for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
		const struct feature *f = &features[i];

		if (which == 2 ? f->code != start : f->code < start)
			continue;
		if (which == 1 && !(f->bits & 1))
			continue;
		put16(p, f->code);
		p[2] = f->bits;
		p[3] = f->len;
		memcpy(p + 4, f->data, f->len);
		p += 4 + f->len;
	}
	put32(r, (uint32_t)(p - r) - 4);
	put16(r + 6, profile);
	reply(d, (uint32_t)(p - r), be16(c + 7));
}

static void get_event_status(struct ata_drive *d)
{
	const uint8_t *c = d->packet;
	uint8_t *r = d->ch->buf;
	uint32_t len = 4;

	if (!(c[1] & 1)) { /* only polled operation */
		fail(d, KEY_ILLEGAL_REQUEST, ASC_INVALID_FIELD);
		return;
	}
	memset(r, 0, 8);
	r[3] = 0x10; /* media events are supported */
	if (c[4] & 0x10) {
		r[2] = 4;
		r[4] = d->media_event ? (disc_present(d) ? 2 : 3) : 0;
		r[5] = (uint8_t)((disc_present(d) ? 2 : 0) | (d->ejected ? 1 : 0));
		d->media_event = false;
		len = 8;
	} else {
		r[2] = 0x80; /* no event available */
	}
	put16(r, len - 2);
	reply(d, len, be16(c + 7));
}

static void read_disc_information(struct ata_drive *d)
{
	uint8_t *r = d->ch->buf;

	memset(r, 0, 34);
	put16(r, 32);
	r[2] = 0x0e; /* complete disc, complete last session */
	r[3] = r[4] = r[5] = r[6] = 1;
	r[7] = 0x20; /* unrestricted use */
	put32(r + 16, UINT32_MAX);
	put32(r + 20, UINT32_MAX);
	reply(d, 34, be16(d->packet + 7));
}

static void mechanism_status(struct ata_drive *d)
{
	uint8_t *r = d->ch->buf;

	memset(r, 0, 8);
	if (d->ejected)
		r[1] = 0x10; /* door open */
	reply(d, 8, be16(d->packet + 8));
}

static void start_stop(struct ata_drive *d)
{
	bool start = d->packet[4] & 1, load_eject = d->packet[4] & 2;

	if (load_eject && !start) {
		if (d->locked) {
			fail(d, disc_present(d) ? KEY_ILLEGAL_REQUEST : KEY_NOT_READY,
			     ASC_REMOVAL_PREVENTED);
			return;
		}
		d->media_event |= !d->ejected;
		d->ejected = true;
	} else if (load_eject && d->ejected) {
		d->ejected = false;
		d->changed = d->media_event = d->block != NULL;
	}
	atapi_done(d);
}

static void seek(struct ata_drive *d)
{
	if (be32(d->packet + 2) >= disc_sectors(d))
		fail(d, KEY_ILLEGAL_REQUEST, ASC_LBA_RANGE);
	else
		atapi_done(d);
}

static bool needs_disc(uint8_t op)
{
	switch (op) {
	case OP_TEST_UNIT_READY: case OP_READ_CAPACITY: case OP_READ_10: case OP_READ_12:
	case OP_SEEK: case OP_READ_SUBCHANNEL: case OP_READ_TOC: case OP_READ_CD:
	case OP_READ_CD_MSF: case OP_READ_DISC_INFORMATION:
		return true;
	}
	return false;
}

static void execute_packet(struct ata_drive *d)
{
	const uint8_t *c = d->packet;

	/* These neither report nor clear a unit attention (SPC-2 5.9.5, MMC-3 6.7). */
	if (c[0] != OP_INQUIRY && c[0] != OP_REQUEST_SENSE && c[0] != OP_GET_CONFIGURATION &&
	    c[0] != OP_GET_EVENT_STATUS && d->changed) {
		d->changed = false;
		fail(d, KEY_UNIT_ATTENTION, ASC_MEDIUM_CHANGED);
		return;
	}
	if (needs_disc(c[0]) && !disc_present(d)) {
		fail_no_disc(d);
		return;
	}
	if (c[0] != OP_REQUEST_SENSE)
		d->sense_key = d->asc = d->ascq = 0;
	switch (c[0]) {
	case OP_REQUEST_SENSE: request_sense(d); break;
	case OP_INQUIRY: inquiry(d); break;
	case OP_MODE_SENSE_6: case OP_MODE_SENSE_10: mode_sense(d); break;
	case OP_START_STOP: start_stop(d); break;
	case OP_READ_CAPACITY: read_capacity(d); break;
	case OP_READ_10: read_sectors(d, be32(c + 2), be16(c + 7), CD_PART_USER); break;
	case OP_READ_12: read_sectors(d, be32(c + 2), be32(c + 6), CD_PART_USER); break;
	case OP_READ_CD: read_cd(d, be32(c + 2), be32(c + 5) & 0xffffff); break;
	case OP_READ_CD_MSF: read_cd_msf(d); break;
	case OP_SEEK: seek(d); break;
	case OP_READ_SUBCHANNEL: read_subchannel(d); break;
	case OP_READ_TOC: read_toc(d); break;
	case OP_GET_CONFIGURATION: get_configuration(d); break;
	case OP_GET_EVENT_STATUS: get_event_status(d); break;
	case OP_READ_DISC_INFORMATION: read_disc_information(d); break;
	case OP_MECHANISM_STATUS: mechanism_status(d); break;
	case OP_PREVENT_ALLOW:
		d->locked = c[4] & 1;
		atapi_done(d);
		break;
	case OP_TEST_UNIT_READY: case OP_SYNCHRONIZE_CACHE: case OP_SET_CD_SPEED:
		atapi_done(d);
		break;
	default:
		fail(d, KEY_ILLEGAL_REQUEST, ASC_INVALID_OPCODE);
	}
}

/* ---- the packet protocol ---- */

void atapi_packet_command(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;

	d->dma = d->feature[0] & 1;
	if (d->dma && !ch->host) {
		ata_abort(d, ATA_ABRT);
		return;
	}
	d->limit = (uint16_t)(d->lba_mid[0] | d->lba_high[0] << 8);
	d->count[0] = ATAPI_CD;
	d->left = 0;
	ch->xfer = ATA_XFER_PACKET;
	ch->pos = 0;
	ch->len = ch->block_end = ATAPI_PACKET;
	ch->phase = ATA_PHASE_PIO_OUT;
	d->status = ATA_DRDY | ATA_DSC | ATA_DRQ; /* no interrupt for the packet */
}

void atapi_step(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;
	struct trace *trace = &ch->machine->trace;

	if (ch->xfer == ATA_XFER_PACKET) {
		memcpy(d->packet, ch->buf, ATAPI_PACKET);
		ch->pos = ch->block_end = ch->len = 0;
		if (trace_on(trace, TRACE_DISK))
			trace_print(trace, TRACE_DISK,
				    "atapi: packet %02x %02x %02x%02x%02x%02x %02x %02x%02x %02x%s",
				    d->packet[0], d->packet[1], d->packet[2], d->packet[3],
				    d->packet[4], d->packet[5], d->packet[6], d->packet[7],
				    d->packet[8], d->packet[9], d->dma ? " dma" : "");
		execute_packet(d);
	} else if (ch->pos < ch->len) {
		pio_block(d);
	} else if (ch->xfer == ATA_XFER_CD && d->left) {
		if (atapi_fill(d))
			pio_block(d);
	} else {
		atapi_done(d);
	}
}

void atapi_identify(struct ata_drive *d)
{
	uint8_t *id = d->ch->buf;

	memset(id, 0, 512);
	ata_put_word(id, 0, 0x85c0); /* ATAPI, CD-ROM, removable, fast DRQ, 12-byte packets */
	ata_put_string(id, 10, 10, d->index ? "GN1" : "GN0");
	ata_put_string(id, 23, 4, "1.0");
	ata_put_string(id, 27, 20, "GANNET DVD-ROM");
	ata_identify_modes(d, id);
	ata_put_word(id, 82, 0x4210); /* NOP, DEVICE RESET, PACKET */
	ata_put_word(id, 83, 0x4000);
	ata_put_word(id, 84, 0x4000);
	ata_put_word(id, 85, 0x4210);
	ata_put_word(id, 87, 0x4000);
}

void atapi_reset(struct ata_drive *d, bool power_on)
{
	ata_set_signature(d);
	d->sense_key = d->asc = d->ascq = 0;
	d->locked = false;
	d->dma = false;
	d->cd_parts = 0;
	if (power_on) {
		d->ejected = false;
		d->changed = d->media_event = false;
	}
}

bool atapi_set_disc(struct ata_drive *d, struct block *disc, bool force)
{
	if (d->kind != ATA_CD || (d->locked && !force))
		return false;
	block_close(d->block);
	d->block = disc;
	ata_attach(d);
	d->ejected = false;
	d->locked = false;
	d->media_event = true;
	d->changed = disc != NULL;
	return true;
}
