/* Floppy controller: commands that move data, or look for it.
 *
 * 82077AA datasheet, section 5.1 (commands) and 6 (result bytes). A transfer ends
 * with the terminal count of the DMA channel; one that reaches the end of the
 * cylinder first ends abnormally, which is how every transfer without DMA ends.
 */
#include <errno.h>
#include <string.h>

#include "core/trace.h"
#include "core/util.h"
#include "devices/fdc_priv.h"
#include "devices/i8237.h"

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
	fdc_result(f, 7);
	fdc_irq(f, true);
}

static void fail_data(struct fdc *f, uint8_t st1, uint8_t st2)
{
	f->st1 |= st1;
	f->st2 |= st2;
	finish_data(f, ST0_ABNORMAL);
}

/* ---- sectors ---- */

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
	struct fdc_drive *d = fdc_unit(f, f->fifo[1] & 3);
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

/* ---- DMA ---- */

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

/* ---- bytes through the FIFO ---- */

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

/* ---- commands ---- */

void fdc_run_data(struct fdc *f)
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

void fdc_start_data(struct fdc *f)
{
	unsigned op = f->command & 0x1f;
	unsigned n = f->fifo[1] & 3;

	f->st1 = f->st2 = 0;
	f->retries = 0;
	f->data_pos = f->data_len = 0;
	if (op == CMD_FORMAT) {
		struct fdc_drive *d = fdc_unit(f, n);

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
			fdc_head_moves(f, n, f->cyl);
		}
	}
	fdc_run_data(f);
}

void fdc_read_id(struct fdc *f)
{
	struct fdc_drive *d = media(f);

	if (!d)
		return;
	f->cyl = d->track;
	f->head = f->fifo[1] >> 2 & 1;
	f->sector = 1;
	finish_data(f, 0);
}
