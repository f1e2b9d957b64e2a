/* Floppy disk controller, 82077AA, in AT mode.
 *
 * Intel 82077AA datasheet (290166): section 2 (registers), 5 (commands), 6
 * (result bytes). Disks are raw images: the size says how many tracks, heads and
 * sectors there are and at which data rate the drive reads them. A command runs
 * in a timer callback soon after its last byte, all of it at once: seeks and
 * rotation take no time. Not there: SCAN commands, deleted data marks. Commands
 * that move data are in fdc_data.c.
 */
#include <stdlib.h>
#include <string.h>

#include "core/ioport.h"
#include "core/loop.h"
#include "core/machine.h"
#include "core/trace.h"
#include "core/util.h"
#include "devices/fdc_priv.h"

enum { REG_SRA, REG_SRB, REG_DOR, REG_TDR, REG_MSR, REG_FIFO, REG_RESERVED, REG_DIR };

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

/* ---- interrupts and the timer ---- */

void fdc_irq(struct fdc *f, bool level)
{
	f->irq_level = level;
	irq_set(&f->irq, level && (f->dor & DOR_DMAGATE));
}

void fdc_later(struct fdc *f, int64_t ns)
{
	timer_arm(&f->timer, loop_now(f->machine->loop) + ns);
}

struct fdc_drive *fdc_unit(struct fdc *f, unsigned n)
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

void fdc_result(struct fdc *f, unsigned len)
{
	f->phase = FDC_RESULT;
	f->pos = 0;
	f->len = (uint8_t)len;
}

static void result_invalid(struct fdc *f)
{
	f->fifo[0] = ST0_INVALID;
	fdc_result(f, 1);
}

/* ---- commands ---- */

void fdc_head_moves(struct fdc *f, unsigned n, unsigned track)
{
	struct fdc_drive *d = fdc_unit(f, n);

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
	fdc_head_moves(f, n, 0);
	/* Without a drive no track 0 signal ever comes. */
	seek_done(f, n, fdc_unit(f, n) ? ST0_SE : ST0_SE | ST0_EC | ST0_ABNORMAL);
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
	fdc_head_moves(f, n, (unsigned)track);
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
		fdc_result(f, 2);
		return;
	}
	result_invalid(f);
}

static void sense_drive(struct fdc *f)
{
	struct fdc_drive *d = fdc_unit(f, f->fifo[1] & 3);
	uint8_t st3 = (uint8_t)(ST3_READY | ST3_TWO_SIDES | (f->fifo[1] & 7));

	if (d && d->track == 0)
		st3 |= ST3_TRACK0;
	if (d && (!d->block || !block_writable(d->block)))
		st3 |= ST3_WP;
	f->fifo[0] = st3;
	fdc_result(f, 1);
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
	fdc_result(f, 10);
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
		fdc_result(f, 1);
		break;
	case CMD_LOCK:
		f->lock = f->command & LOCK_ON;
		f->fifo[0] = f->lock ? 0x10 : 0;
		fdc_result(f, 1);
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
		fdc_read_id(f);
		break;
	default:
		if (started)
			fdc_run_data(f);
		else
			fdc_start_data(f);
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
	struct fdc_drive *d = fdc_unit(f, n);

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
	.fields = fdc_fields, .size = sizeof(struct fdc),
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

struct block *fdc_image(struct device *dev, unsigned n)
{
	struct fdc *f = container_of(dev, struct fdc, base);

	return n < FDC_DRIVES ? f->drive[n].block : NULL;
}

bool fdc_set_disk(struct device *dev, unsigned n, struct block *disk, struct error *err)
{
	struct fdc *f = container_of(dev, struct fdc, base);
	struct fdc_drive *d = fdc_unit(f, n);
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
