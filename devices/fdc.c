/* Floppy disk controller, 82077AA, in AT mode.
 *
 * Intel 82077AA datasheet (290166): section 2 (registers), 5 (commands), 6
 * (result bytes). Disks are raw images: the size says how many tracks, heads and
 * sectors there are and at which data rate the drive reads them. A command runs
 * in a timer callback soon after its last byte, all of it at once: seeks and
 * rotation take no time. Not there: SCAN commands, deleted data marks.
 */
#include "devices/fdc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/ioport.h"
#include "core/loop.h"
#include "core/machine.h"
#include "core/trace.h"
#include "core/util.h"
#include "devices/i8237.h"

enum { REG_SRA, REG_SRB, REG_DOR, REG_TDR, REG_MSR, REG_FIFO, REG_RESERVED, REG_DIR };

enum {
	DOR_SELECT = 3, DOR_NRESET = 1 << 2, DOR_DMAGATE = 1 << 3, DOR_MOTOR0 = 1 << 4,
	MSR_BUSY = 1 << 4, MSR_NONDMA = 1 << 5, MSR_DIO = 1 << 6, MSR_RQM = 1 << 7,
	DSR_RESET = 1 << 7, DSR_RATE = 3,
	DIR_CHANGED = 1 << 7,
};

/* Result bytes. */
enum {
	ST0_EC = 1 << 4, ST0_SE = 1 << 5,
	ST0_ABNORMAL = 1 << 6, ST0_INVALID = 2 << 6, ST0_POLLING = 3 << 6,
	ST1_MA = 1 << 0, ST1_NW = 1 << 1, ST1_ND = 1 << 2, ST1_OR = 1 << 4, ST1_DE = 1 << 5,
	ST1_EN = 1 << 7,
	ST2_WC = 1 << 4, ST2_CM = 1 << 6,
	ST3_TWO_SIDES = 1 << 3, ST3_TRACK0 = 1 << 4, ST3_READY = 1 << 5, ST3_WP = 1 << 6,
};

/* Low five bits of the first command byte; MT, MFM and SK stand above. */
enum fdc_command {
	CMD_READ_TRACK = 0x02, CMD_SPECIFY = 0x03, CMD_SENSE_DRIVE = 0x04, CMD_WRITE = 0x05,
	CMD_READ = 0x06, CMD_RECALIBRATE = 0x07, CMD_SENSE_INTERRUPT = 0x08,
	CMD_WRITE_DELETED = 0x09, CMD_READ_ID = 0x0a, CMD_READ_DELETED = 0x0c,
	CMD_FORMAT = 0x0d, CMD_DUMPREG = 0x0e, CMD_SEEK = 0x0f, CMD_VERSION = 0x10,
	CMD_PERPENDICULAR = 0x12, CMD_CONFIGURE = 0x13, CMD_LOCK = 0x14, CMD_VERIFY = 0x16,
};

enum { CMD_MT = 1 << 7, CMD_RELATIVE = 1 << 7, CMD_UP = 1 << 6, LOCK_ON = 1 << 7 };
enum { CONFIG_IMPLIED_SEEK = 1 << 6, CONFIG_NO_POLLING = 1 << 4, SPECIFY_NONDMA = 1 };

enum {
	UNITS = 4,           /* drives the chip can tell apart */
	SECTOR = 512, SIZE_CODE_512 = 2,
	MAX_TRACK = 255,
	DMA_RETRY_NS = 1000000, DMA_RETRIES = 500, /* half a second for the driver to set DMA up */
	DMA_CHANNEL = 2,
};

enum fdc_phase {
	FDC_COMMAND,  /* collecting bytes */
	FDC_BUSY,     /* the timer executes */
	FDC_DATA_IN,  /* non-DMA: the guest reads the sector buffer */
	FDC_DATA_OUT,
	FDC_RESULT,
	FDC_PHASE_LAST = FDC_RESULT,
};

struct fdc_format {
	uint32_t size;    /* bytes */
	uint8_t tracks, heads, sectors;
	uint8_t rate;     /* as in the CCR: 0 500k, 1 300k, 2 250k, 3 1M */
	uint8_t drive;    /* enum fdc_type of the drive it belongs in */
};

static const struct fdc_format fdc_formats[] = {
	{ 1474560, 80, 2, 18, 0, FDC_TYPE_1440K },
	{ 737280, 80, 2, 9, 2, FDC_TYPE_1440K },
	{ 1228800, 80, 2, 15, 0, FDC_TYPE_1200K },
	{ 368640, 40, 2, 9, 1, FDC_TYPE_1200K },
	{ 2949120, 80, 2, 36, 3, FDC_TYPE_2880K },
	{ 1720320, 80, 2, 21, 0, FDC_TYPE_1440K },
	{ 1763328, 82, 2, 21, 0, FDC_TYPE_1440K },
	{ 327680, 40, 2, 8, 1, FDC_TYPE_1200K },
	{ 184320, 40, 1, 9, 1, FDC_TYPE_1200K },
	{ 163840, 40, 1, 8, 1, FDC_TYPE_1200K },
};

struct fdc_drive {
	struct block *block;             /* owned; NULL: no disk */
	const struct fdc_format *format; /* NULL: no disk */
	uint8_t type;                    /* enum fdc_type; NONE: no drive */
	uint8_t track;                   /* where the head stands */
	bool changed;                    /* disk change line */
};

struct fdc {
	struct device base;
	struct machine *machine; /* borrowed */
	struct device *dma;      /* borrowed */
	struct irq_line irq;
	struct fdc_drive drive[FDC_DRIVES];
	struct timer timer;
	uint8_t dor, tdr, dsr;
	uint8_t phase;
	uint8_t fifo[16];        /* command bytes, then result bytes */
	uint8_t pos, len;
	uint8_t command;         /* first command byte */
	uint8_t srt_hut, hlt_nd, config, pretrack, perpendicular;
	uint8_t eot;             /* of the last data command, for DUMPREG */
	bool lock;
	bool irq_level;
	uint8_t pcn[UNITS];      /* where the chip believes the heads are */
	uint8_t pending;         /* units with an interrupt to sense */
	uint8_t pending_st0[UNITS];
	bool resetting;          /* the timer ends a reset */
	/* The data command under way. */
	uint8_t st1, st2, cyl, head, sector;
	uint8_t format_left;     /* FORMAT TRACK: address fields to come */
	uint16_t retries;
	uint16_t data_pos, data_len;
	uint8_t data[SECTOR];
};

/* ---- interrupts and the timer ---- */

static void fdc_irq(struct fdc *f, bool level)
{
	f->irq_level = level;
	irq_set(&f->irq, level && (f->dor & DOR_DMAGATE));
}

static void fdc_later(struct fdc *f, int64_t ns)
{
	timer_arm(&f->timer, loop_now(f->machine->loop) + ns);
}

static struct fdc_drive *unit(struct fdc *f, unsigned n)
{
	return n < FDC_DRIVES && f->drive[n].type != FDC_TYPE_NONE ? &f->drive[n] : NULL;
}

/* ---- reset ---- */

static void enter_command(struct fdc *f)
{
	f->phase = FDC_COMMAND;
	f->pos = f->len = 0;
}

static void chip_reset(struct fdc *f)
{
	enter_command(f);
	timer_disarm(&f->timer);
	f->pending = 0;
	memset(f->pcn, 0, sizeof(f->pcn));
	f->perpendicular &= 0x3c; /* D0-D3 survive a software reset */
	f->data_pos = f->data_len = 0;
	if (!f->lock) {
		f->config = 0;
		f->pretrack = 0;
	}
	fdc_irq(f, false);
}

static void start_reset_end(struct fdc *f)
{
	f->resetting = true;
	f->phase = FDC_BUSY;
	fdc_later(f, 0);
}

/* Polling finds that every unit became ready: four interrupts to sense (5.2.4). */
static void reset_end(struct fdc *f)
{
	f->resetting = false;
	enter_command(f);
	if (f->config & CONFIG_NO_POLLING)
		return;
	f->pending = 0xf;
	for (unsigned i = 0; i < UNITS; i++)
		f->pending_st0[i] = (uint8_t)(ST0_POLLING | i);
	fdc_irq(f, true);
}

/* ---- results ---- */

static void result(struct fdc *f, unsigned len)
{
	f->phase = FDC_RESULT;
	f->pos = 0;
	f->len = (uint8_t)len;
}

static void result_invalid(struct fdc *f)
{
	f->fifo[0] = ST0_INVALID;
	result(f, 1);
}

/* The seven bytes after a data command, and its interrupt. */
static void finish_data(struct fdc *f, uint8_t st0)
{
	uint8_t select = f->fifo[1] & 7;
	struct trace *trace = &f->machine->trace;

	if ((st0 & ST0_ABNORMAL) && trace_on(trace, TRACE_DISK))
		trace_print(trace, TRACE_DISK, "fdc: command %02x unit %u ends with st1 %02x st2 %02x",
			    f->command, select & 3, f->st1, f->st2);
	f->fifo[0] = (uint8_t)(st0 | (select & 3) | (f->head & 1) << 2);
	f->fifo[1] = f->st1;
	f->fifo[2] = f->st2;
	f->fifo[3] = f->cyl;
	f->fifo[4] = f->head;
	f->fifo[5] = f->sector;
	f->fifo[6] = SIZE_CODE_512;
	f->data_pos = f->data_len = 0;
	result(f, 7);
	fdc_irq(f, true);
}

static void fail_data(struct fdc *f, uint8_t st1, uint8_t st2)
{
	f->st1 |= st1;
	f->st2 |= st2;
	finish_data(f, ST0_ABNORMAL);
}

/* ---- data commands ---- */

static bool is_write(const struct fdc *f)
{
	return (f->command & 0x1f) == CMD_WRITE || (f->command & 0x1f) == CMD_WRITE_DELETED ||
	       (f->command & 0x1f) == CMD_FORMAT;
}

static bool by_dma(const struct fdc *f)
{
	return !(f->hlt_nd & SPECIFY_NONDMA);
}

/* The disk under the head if it can be read at the rate set; else NULL, failed. */
static struct fdc_drive *media(struct fdc *f)
{
	struct fdc_drive *d = unit(f, f->fifo[1] & 3);
	unsigned head = f->fifo[1] >> 2 & 1;

	if (!d || !d->block || d->format->rate != (f->dsr & DSR_RATE) ||
	    d->track >= d->format->tracks || head >= d->format->heads) {
		fail_data(f, ST1_MA, 0);
		return NULL;
	}
	if (is_write(f) && !block_writable(d->block)) {
		fail_data(f, ST1_NW, 0);
		return NULL;
	}
	return d;
}

/* Find the sector the registers name on the track under the head. */
static bool find_sector(struct fdc *f, const struct fdc_drive *d, uint64_t *lba)
{
	unsigned head = f->fifo[1] >> 2 & 1;
	unsigned track = d->track;

	if (f->command & CMD_MT)
		head = f->head & 1; /* the second side follows by itself */
	if (f->cyl != track) {
		fail_data(f, ST1_ND, ST2_WC);
		return false;
	}
	if (f->head != head || head >= d->format->heads || f->fifo[5] != SIZE_CODE_512 ||
	    f->sector < 1 || f->sector > d->format->sectors) {
		fail_data(f, ST1_ND, 0);
		return false;
	}
	*lba = ((uint64_t)track * d->format->heads + head) * d->format->sectors + f->sector - 1;
	return true;
}

/* On to the next sector; false past the end of the cylinder (table 6-1). */
static bool next_sector(struct fdc *f)
{
	if (f->sector != f->eot) {
		f->sector++;
		return true;
	}
	f->sector = 1;
	if ((f->command & CMD_MT) && !(f->head & 1)) {
		f->head |= 1;
		return true;
	}
	if (f->command & CMD_MT)
		f->head &= ~1;
	f->cyl++;
	return false;
}

static bool read_sector(struct fdc *f)
{
	struct fdc_drive *d = media(f);
	uint64_t lba;

	if (!d || !find_sector(f, d, &lba))
		return false;
	if (block_read(d->block, lba, f->data, 1)) {
		fail_data(f, ST1_DE, 0);
		return false;
	}
	return true;
}

static bool write_sector(struct fdc *f)
{
	struct fdc_drive *d = media(f);
	uint64_t lba;
	int ret;

	if (!d || !find_sector(f, d, &lba))
		return false;
	ret = block_write(d->block, lba, f->data, 1);
	if (ret) {
		fail_data(f, ret == -EROFS ? ST1_NW : ST1_DE, 0);
		return false;
	}
	return true;
}

/* Format one sector as an address field from the guest names it. */
static bool format_sector(struct fdc *f, const uint8_t id[4])
{
	struct fdc_drive *d = media(f);

	if (!d)
		return false;
	/* Fields that a raw image cannot hold are formatted into nothing. */
	if (id[0] == d->track && id[1] == (f->fifo[1] >> 2 & 1) && id[1] < d->format->heads &&
	    id[2] >= 1 && id[2] <= d->format->sectors && id[3] == SIZE_CODE_512) {
		uint64_t lba = ((uint64_t)d->track * d->format->heads + id[1]) * d->format->sectors +
			       id[2] - 1;

		memset(f->data, f->fifo[5], SECTOR);
		if (block_write(d->block, lba, f->data, 1)) {
			fail_data(f, ST1_DE, 0);
			return false;
		}
	}
	return true;
}

static void format_end(struct fdc *f)
{
	finish_data(f, 0);
}

/* ---- execution: DMA ---- */

static void run_dma_format(struct fdc *f)
{
	uint8_t id[4];
	bool tc = false;

	while (f->format_left && !tc) {
		if (i8237_transfer(f->dma, DMA_CHANNEL, id, sizeof(id), false, &tc) != sizeof(id)) {
			fail_data(f, ST1_OR, 0);
			return;
		}
		if (!format_sector(f, id))
			return;
		f->format_left--;
	}
	format_end(f);
}

static void run_dma(struct fdc *f)
{
	unsigned op = f->command & 0x1f;
	bool write = is_write(f);

	for (;;) {
		bool tc = false;
		size_t n;

		if (!write && !read_sector(f))
			return;
		n = i8237_transfer(f->dma, DMA_CHANNEL, f->data, SECTOR, !write, &tc);
		if (n < SECTOR && !tc) {
			fail_data(f, ST1_OR, 0);
			return;
		}
		if (write) {
			memset(f->data + n, 0, SECTOR - n);
			if (!write_sector(f))
				return;
		}
		if (op == CMD_READ_DELETED) /* found data without a deleted mark */
			f->st2 |= ST2_CM;
		if (!next_sector(f) && !tc) {
			fail_data(f, ST1_EN, 0);
			return;
		}
		if (tc || op == CMD_READ_DELETED) {
			finish_data(f, 0);
			return;
		}
	}
}

static void run_verify(struct fdc *f)
{
	/* With EC set the count of sectors, not the end of the cylinder, ends it. */
	bool counted = f->fifo[1] & 0x80;
	unsigned left = f->fifo[8] ? f->fifo[8] : 256;

	for (;;) {
		bool more;

		if (!read_sector(f))
			return;
		more = next_sector(f);
		if (counted ? !--left : !more) {
			finish_data(f, 0);
			return;
		}
		if (!more) {
			fail_data(f, ST1_EN, 0);
			return;
		}
	}
}

/* ---- execution: bytes through the FIFO ---- */

static void pio_block(struct fdc *f, bool in, unsigned len)
{
	f->phase = in ? FDC_DATA_IN : FDC_DATA_OUT;
	f->data_pos = 0;
	f->data_len = (uint16_t)len;
	fdc_irq(f, true);
}

static void start_pio(struct fdc *f)
{
	if ((f->command & 0x1f) == CMD_FORMAT) {
		if (f->format_left && media(f))
			pio_block(f, false, 4);
		else if (f->phase == FDC_BUSY)
			format_end(f);
	} else if (is_write(f)) {
		if (media(f))
			pio_block(f, false, SECTOR);
	} else if (read_sector(f)) {
		pio_block(f, true, SECTOR);
	}
}

/* A sector or address field has gone through the FIFO. There is no terminal
 * count without DMA: the end of the cylinder ends the command. */
static void pio_step(struct fdc *f)
{
	if ((f->command & 0x1f) == CMD_FORMAT) {
		uint8_t id[4];

		memcpy(id, f->data, sizeof(id));
		if (!format_sector(f, id))
			return;
		f->format_left--;
		start_pio(f);
		return;
	}
	if (is_write(f) && !write_sector(f))
		return;
	if ((f->command & 0x1f) == CMD_READ_DELETED) {
		f->st2 |= ST2_CM;
		next_sector(f);
		finish_data(f, 0);
	} else if (next_sector(f)) {
		start_pio(f);
	} else {
		fail_data(f, ST1_EN, 0);
	}
}

static void run_data(struct fdc *f)
{
	unsigned op = f->command & 0x1f;

	if (op == CMD_VERIFY) {
		run_verify(f);
	} else if (!by_dma(f)) {
		if (f->data_len)
			pio_step(f);
		else
			start_pio(f);
	} else if (!i8237_ready(f->dma, DMA_CHANNEL) && f->retries < DMA_RETRIES) {
		f->retries++;
		fdc_later(f, DMA_RETRY_NS);
	} else if (op == CMD_FORMAT) {
		run_dma_format(f);
	} else {
		run_dma(f);
	}
}

/* ---- commands ---- */

static void head_moves(struct fdc *f, unsigned n, unsigned track)
{
	struct fdc_drive *d = unit(f, n);

	if (!d)
		return;
	d->track = (uint8_t)MIN(track, MAX_TRACK);
	if (d->block)
		d->changed = false; /* a step with a disk in clears the line */
}

static void seek_done(struct fdc *f, unsigned n, uint8_t st0)
{
	f->pending |= (uint8_t)(1 << n);
	f->pending_st0[n] = (uint8_t)(st0 | n);
	enter_command(f);
	fdc_irq(f, true);
}

static void recalibrate(struct fdc *f)
{
	unsigned n = f->fifo[1] & 3;

	f->pcn[n] = 0;
	head_moves(f, n, 0);
	/* Without a drive no track 0 signal ever comes. */
	seek_done(f, n, unit(f, n) ? ST0_SE : ST0_SE | ST0_EC | ST0_ABNORMAL);
}

static void seek(struct fdc *f)
{
	unsigned n = f->fifo[1] & 3;
	int track = f->fifo[2];

	if (f->command & CMD_RELATIVE) {
		track = f->pcn[n] + (f->command & CMD_UP ? track : -track);
		track = MAX(0, MIN(track, MAX_TRACK));
	}
	f->pcn[n] = (uint8_t)track;
	head_moves(f, n, (unsigned)track);
	seek_done(f, n, (uint8_t)(ST0_SE | (f->fifo[1] & 4)));
}

static void sense_interrupt(struct fdc *f)
{
	fdc_irq(f, false);
	for (unsigned i = 0; i < UNITS; i++) {
		if (!(f->pending >> i & 1))
			continue;
		f->pending &= (uint8_t)~(1 << i);
		f->fifo[0] = f->pending_st0[i];
		f->fifo[1] = f->pcn[i];
		result(f, 2);
		return;
	}
	result_invalid(f);
}

static void sense_drive(struct fdc *f)
{
	struct fdc_drive *d = unit(f, f->fifo[1] & 3);
	uint8_t st3 = (uint8_t)(ST3_READY | ST3_TWO_SIDES | (f->fifo[1] & 7));

	if (d && d->track == 0)
		st3 |= ST3_TRACK0;
	if (d && (!d->block || !block_writable(d->block)))
		st3 |= ST3_WP;
	f->fifo[0] = st3;
	result(f, 1);
}

static void read_id(struct fdc *f)
{
	struct fdc_drive *d = media(f);

	if (!d)
		return;
	f->cyl = d->track;
	f->head = f->fifo[1] >> 2 & 1;
	f->sector = 1;
	finish_data(f, 0);
}

static void dumpreg(struct fdc *f)
{
	uint8_t *r = f->fifo;

	memcpy(r, f->pcn, 4);
	r[4] = f->srt_hut;
	r[5] = f->hlt_nd;
	r[6] = f->eot;
	r[7] = (uint8_t)((f->lock ? 0x80 : 0) | (f->perpendicular & 0x3f));
	r[8] = f->config;
	r[9] = f->pretrack;
	result(f, 10);
}

static void start_data(struct fdc *f)
{
	unsigned op = f->command & 0x1f;
	unsigned n = f->fifo[1] & 3;

	f->st1 = f->st2 = 0;
	f->retries = 0;
	f->data_pos = f->data_len = 0;
	if (op == CMD_FORMAT) {
		struct fdc_drive *d = unit(f, n);

		f->cyl = d ? d->track : 0;
		f->head = f->fifo[1] >> 2 & 1;
		f->sector = 1;
		f->eot = f->format_left = f->fifo[3];
		if (f->fifo[2] != SIZE_CODE_512) {
			fail_data(f, ST1_ND, 0);
			return;
		}
	} else {
		f->cyl = f->fifo[2];
		f->head = f->fifo[3];
		f->sector = op == CMD_READ_TRACK ? 1 : f->fifo[4];
		f->eot = f->fifo[6];
		if ((f->config & CONFIG_IMPLIED_SEEK) && op != CMD_READ_TRACK) {
			f->pcn[n] = f->cyl;
			head_moves(f, n, f->cyl);
		}
	}
	run_data(f);
}

/* How many bytes a command has, the first included; 0: no such command. */
static unsigned command_length(uint8_t first)
{
	switch (first & 0x1f) {
	case CMD_READ: case CMD_READ_DELETED: case CMD_WRITE: case CMD_WRITE_DELETED:
	case CMD_READ_TRACK: case CMD_VERIFY:
		return 9;
	case CMD_FORMAT: return 6;
	case CMD_READ_ID: return 2;
	}
	/* The others have no modifiers but their own. */
	switch (first) {
	case CMD_RECALIBRATE: case CMD_SENSE_DRIVE: case CMD_PERPENDICULAR:
		return 2;
	case CMD_SPECIFY: case CMD_SEEK: case CMD_SEEK | CMD_RELATIVE:
	case CMD_SEEK | CMD_RELATIVE | CMD_UP:
		return 3;
	case CMD_CONFIGURE: return 4;
	case CMD_SENSE_INTERRUPT: case CMD_DUMPREG: case CMD_VERSION: case CMD_LOCK:
	case CMD_LOCK | LOCK_ON:
		return 1;
	}
	return 0;
}

/* The last byte of a command has come. Commands without an interrupt answer at
 * once; the others in the timer. */
static void command_complete(struct fdc *f)
{
	struct trace *trace = &f->machine->trace;

	if (trace_on(trace, TRACE_DISK))
		trace_print(trace, TRACE_DISK, "fdc: command %02x %02x %02x %02x %02x %02x %02x",
			    f->fifo[0], f->fifo[1], f->fifo[2], f->fifo[3], f->fifo[4], f->fifo[5],
			    f->fifo[6]);
	switch (f->command & 0x1f) {
	case CMD_SPECIFY:
		f->srt_hut = f->fifo[1];
		f->hlt_nd = f->fifo[2];
		enter_command(f);
		break;
	case CMD_CONFIGURE:
		f->config = f->fifo[2] & 0x7f;
		f->pretrack = f->fifo[3];
		enter_command(f);
		break;
	case CMD_PERPENDICULAR:
		if (f->fifo[1] & 0x80) /* OW: the drive bits too */
			f->perpendicular = f->fifo[1] & 0x3f;
		else
			f->perpendicular = (f->perpendicular & 0x3c) | (f->fifo[1] & 3);
		enter_command(f);
		break;
	case CMD_SENSE_INTERRUPT:
		sense_interrupt(f);
		break;
	case CMD_SENSE_DRIVE:
		sense_drive(f);
		break;
	case CMD_VERSION:
		f->fifo[0] = 0x90;
		result(f, 1);
		break;
	case CMD_LOCK:
		f->lock = f->command & LOCK_ON;
		f->fifo[0] = f->lock ? 0x10 : 0;
		result(f, 1);
		break;
	case CMD_DUMPREG:
		dumpreg(f);
		break;
	default:
		f->phase = FDC_BUSY;
		f->data_len = 0;
		f->retries = 0;
		f->pos = 0; /* not started */
		fdc_later(f, 0);
	}
}

static void fire(void *opaque)
{
	struct fdc *f = opaque;
	bool started = f->pos != 0;

	if (f->resetting) {
		reset_end(f);
		return;
	}
	if (f->phase != FDC_BUSY)
		return;
	f->pos = 1;
	switch (f->command & 0x1f) {
	case CMD_RECALIBRATE:
		recalibrate(f);
		break;
	case CMD_SEEK:
		seek(f);
		break;
	case CMD_READ_ID:
		f->st1 = f->st2 = 0;
		f->cyl = f->head = f->sector = 0;
		read_id(f);
		break;
	default:
		if (started)
			run_data(f);
		else
			start_data(f);
	}
}

/* ---- registers ---- */

static void write_fifo(struct fdc *f, uint8_t value)
{
	if (!(f->dor & DOR_NRESET))
		return;
	if (f->phase == FDC_DATA_OUT) {
		if (f->data_pos < f->data_len && f->data_pos < SECTOR)
			f->data[f->data_pos++] = value;
		if (f->data_pos == f->data_len) {
			fdc_irq(f, false);
			f->phase = FDC_BUSY;
			fdc_later(f, 0);
		}
		return;
	}
	if (f->phase != FDC_COMMAND)
		return;
	if (f->pos == 0) {
		f->command = value;
		f->len = (uint8_t)command_length(value);
		memset(f->fifo, 0, sizeof(f->fifo));
		if (!f->len) {
			result_invalid(f);
			return;
		}
	}
	f->fifo[f->pos++] = value;
	if (f->pos == f->len)
		command_complete(f);
}

static uint8_t read_fifo(struct fdc *f)
{
	uint8_t v;

	if (f->phase == FDC_DATA_IN) {
		v = f->data_pos < SECTOR ? f->data[f->data_pos++] : 0;
		if (f->data_pos >= f->data_len) {
			fdc_irq(f, false);
			f->phase = FDC_BUSY;
			fdc_later(f, 0);
		}
		return v;
	}
	if (f->phase != FDC_RESULT)
		return 0;
	v = f->fifo[f->pos++];
	if (f->pos == 1 && !f->pending)
		fdc_irq(f, false);
	if (f->pos == f->len)
		enter_command(f);
	return v;
}

static uint8_t main_status(const struct fdc *f)
{
	if (!(f->dor & DOR_NRESET) || f->resetting)
		return 0;
	switch (f->phase) {
	case FDC_COMMAND: return MSR_RQM | (f->pos ? MSR_BUSY : 0);
	case FDC_RESULT: return MSR_RQM | MSR_DIO | MSR_BUSY;
	case FDC_DATA_IN: return MSR_RQM | MSR_DIO | MSR_NONDMA | MSR_BUSY;
	case FDC_DATA_OUT: return MSR_RQM | MSR_NONDMA | MSR_BUSY;
	}
	return MSR_BUSY;
}

static void write_dor(struct fdc *f, uint8_t value)
{
	uint8_t old = f->dor;

	f->dor = value;
	if (!(value & DOR_NRESET)) {
		f->resetting = false;
		chip_reset(f);
	} else if (!(old & DOR_NRESET)) {
		start_reset_end(f);
	}
	fdc_irq(f, f->irq_level);
}

static uint8_t read_dir(struct fdc *f)
{
	unsigned n = f->dor & DOR_SELECT;
	struct fdc_drive *d = unit(f, n);

	/* The line belongs to a drive that is selected and turning. */
	return d && (f->dor & DOR_MOTOR0 << n) && d->changed ? DIR_CHANGED : 0;
}

static uint32_t fdc_read(void *opaque, uint16_t port, unsigned size)
{
	struct fdc *f = opaque;

	switch (port & 7) {
	case REG_DOR: return f->dor;
	case REG_TDR: return f->tdr;
	case REG_MSR: return main_status(f);
	case REG_FIFO: return read_fifo(f);
	case REG_DIR: return read_dir(f);
	}
	return 0xff; /* status A and B are not there in AT mode */
}

static void fdc_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct fdc *f = opaque;

	switch (port & 7) {
	case REG_DOR:
		write_dor(f, (uint8_t)value);
		break;
	case REG_TDR:
		f->tdr = value & 3;
		break;
	case REG_MSR: /* written: data rate select */
		f->dsr = value & 0x7f;
		if ((value & DSR_RESET) && (f->dor & DOR_NRESET)) {
			chip_reset(f);
			start_reset_end(f);
		}
		break;
	case REG_FIFO:
		write_fifo(f, (uint8_t)value);
		break;
	case REG_DIR: /* written: configuration control */
		f->dsr = (uint8_t)((f->dsr & ~DSR_RATE) | (value & DSR_RATE));
		break;
	}
}

static const struct ioport_ops fdc_io = { .read = fdc_read, .write = fdc_write };

/* ---- device ---- */

static void fdc_reset(struct device *dev)
{
	struct fdc *f = container_of(dev, struct fdc, base);

	f->lock = false;
	f->resetting = false;
	f->dor = 0;
	f->tdr = 0;
	f->dsr = 2; /* 250 kb/s */
	f->srt_hut = f->hlt_nd = f->perpendicular = f->eot = f->command = 0;
	f->st1 = f->st2 = f->cyl = f->head = f->sector = f->format_left = 0;
	for (unsigned i = 0; i < FDC_DRIVES; i++) {
		f->drive[i].track = 0;
		f->drive[i].changed = true;
	}
	chip_reset(f);
}

static void fdc_destroy(struct device *dev)
{
	struct fdc *f = container_of(dev, struct fdc, base);

	timer_disarm(&f->timer);
	for (unsigned i = 0; i < FDC_DRIVES; i++)
		block_close(f->drive[i].block);
	free(f);
}

static void fdc_loaded(struct device *dev)
{
	struct fdc *f = container_of(dev, struct fdc, base);

	fdc_irq(f, f->irq_level);
}

static bool fdc_check(const struct device *dev, const char **field)
{
	const struct fdc *f = container_of(dev, const struct fdc, base);

	*field = "pos";
	if (f->pos > f->len && f->phase != FDC_BUSY)
		return false;
	if ((f->phase == FDC_COMMAND || f->phase == FDC_RESULT) && f->len && f->pos >= f->len)
		return false;
	if (f->phase == FDC_COMMAND && f->pos && f->len != command_length(f->command))
		return false;
	if (f->phase == FDC_RESULT && !f->len)
		return false;
	*field = "data_pos";
	if ((f->phase == FDC_DATA_IN || f->phase == FDC_DATA_OUT) && f->data_pos >= f->data_len)
		return false;
	return f->data_pos <= f->data_len;
}

static const struct state_field fdc_fields[] = {
	{ "drive[0].track", offsetof(struct fdc, drive[0].track), STATE_TYPE_UINT, 1, 1, 255, 255 },
	STATE_BOOL(struct fdc, drive[0].changed),
	{ "drive[1].track", offsetof(struct fdc, drive[1].track), STATE_TYPE_UINT, 1, 1, 255, 255 },
	STATE_BOOL(struct fdc, drive[1].changed),
	STATE_TIMER(struct fdc, timer),
	STATE_UINT(struct fdc, dor),
	STATE_UINT_MASKED(struct fdc, tdr, 3),
	STATE_UINT_MASKED(struct fdc, dsr, 0x7f),
	STATE_UINT_MAX(struct fdc, phase, FDC_PHASE_LAST),
	STATE_BYTES(struct fdc, fifo),
	STATE_UINT_MAX(struct fdc, pos, 10),
	STATE_UINT_MAX(struct fdc, len, 10),
	STATE_UINT(struct fdc, command),
	STATE_UINT(struct fdc, srt_hut),
	STATE_UINT(struct fdc, hlt_nd),
	STATE_UINT(struct fdc, config),
	STATE_UINT(struct fdc, pretrack),
	STATE_UINT_MASKED(struct fdc, perpendicular, 0x3f),
	STATE_UINT(struct fdc, eot),
	STATE_BOOL(struct fdc, lock),
	STATE_BOOL(struct fdc, irq_level),
	STATE_ARRAY(struct fdc, pcn),
	STATE_UINT_MASKED(struct fdc, pending, 0xf),
	STATE_ARRAY(struct fdc, pending_st0),
	STATE_BOOL(struct fdc, resetting),
	STATE_UINT(struct fdc, st1),
	STATE_UINT(struct fdc, st2),
	STATE_UINT(struct fdc, cyl),
	STATE_UINT(struct fdc, head),
	STATE_UINT(struct fdc, sector),
	STATE_UINT(struct fdc, format_left),
	STATE_UINT_MAX(struct fdc, retries, DMA_RETRIES),
	STATE_UINT_MAX(struct fdc, data_pos, SECTOR),
	STATE_UINT_MAX(struct fdc, data_len, SECTOR),
	STATE_BYTES(struct fdc, data),
	STATE_END,
};

static const struct device_ops fdc_ops = {
	.name = "fdc",
	.reset = fdc_reset,
	.destroy = fdc_destroy,
	.fields = fdc_fields,
	.loaded = fdc_loaded,
	.check = fdc_check,
};

static const struct fdc_format *find_format(const struct block *disk, struct error *err)
{
	uint64_t size = block_sectors(disk) * BLOCK_SECTOR;

	for (unsigned i = 0; i < ARRAY_SIZE(fdc_formats); i++) {
		if (fdc_formats[i].size == size)
			return &fdc_formats[i];
	}
	error_set(err, "%s: %llu bytes is no floppy format; there are 160, 180, 320, 360, 720, 1200, 1440, 1680, 1722 and 2880 KiB",
		  block_path(disk), (unsigned long long)size);
	return NULL;
}

enum fdc_type fdc_drive_type(const struct device *dev, unsigned n)
{
	const struct fdc *f = container_of(dev, const struct fdc, base);

	return n < FDC_DRIVES ? f->drive[n].type : FDC_TYPE_NONE;
}

bool fdc_set_disk(struct device *dev, unsigned n, struct block *disk, struct error *err)
{
	struct fdc *f = container_of(dev, struct fdc, base);
	struct fdc_drive *d = unit(f, n);
	const struct fdc_format *format = NULL;

	if (!d) {
		error_set(err, "floppy drive %u: there is none", n);
		return false;
	}
	if (disk) {
		format = find_format(disk, err);
		if (!format)
			return false;
	}
	block_close(d->block);
	d->block = disk;
	d->format = format;
	d->changed = true;
	return true;
}

struct device *fdc_create(struct machine *m, struct irq_line irq, struct device *dma,
			  struct block *const drives[FDC_DRIVES],
			  const bool present[FDC_DRIVES], struct error *err)
{
	struct fdc *f = calloc(1, sizeof(*f));

	if (!f) {
		error_set(err, "out of memory for the floppy controller");
		return NULL;
	}
	f->base.ops = &fdc_ops;
	f->machine = m;
	f->dma = dma;
	f->irq = irq;
	for (unsigned i = 0; i < FDC_DRIVES; i++) {
		struct fdc_drive *d = &f->drive[i];

		if (drives[i]) {
			d->format = find_format(drives[i], err);
			if (!d->format) {
				free(f);
				return NULL;
			}
			d->type = d->format->drive;
		} else if (present && present[i]) {
			d->type = FDC_TYPE_1440K;
		}
	}
	for (unsigned i = 0; i < FDC_DRIVES; i++)
		f->drive[i].block = drives[i];
	timer_init(&f->timer, m->loop, "fdc", fire, f);
	ioport_add(m->io, 0x3f0, 6, &fdc_io, f, "fdc");
	ioport_add(m->io, 0x3f7, 1, &fdc_io, f, "fdc-dir");
	machine_add(m, &f->base);
	return &f->base;
}
