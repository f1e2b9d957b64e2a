/* ATA channel: registers, the transfer engine, commands of both kinds of drive.
 *
 * ATA/ATAPI-6 (T13/1410D): chapter 7 (registers), 8 (commands), 9 (protocols).
 * See ata_priv.h for how commands run. The two drives of a channel share the
 * buffer: a command to one drive while the other has a transfer open, which the
 * standard forbids, aborts that transfer.
 */
#include "devices/ata_priv.h"

#include <string.h>

#include "core/trace.h"
#include "core/util.h"

static struct ata_drive *selected(const struct ata_channel *ch)
{
	return (struct ata_drive *)&ch->drive[ch->device & ATA_DEV1 ? 1 : 0];
}

static bool present(const struct ata_drive *d)
{
	return d->kind != ATA_NONE;
}

/* ---- interrupts and the timer ---- */

static void update_line(struct ata_channel *ch)
{
	const struct ata_drive *d = selected(ch);
	bool level = d->kind != ATA_NONE && d->intrq && !(ch->devctl & ATA_NIEN);

	if (level == ch->line)
		return;
	ch->line = level;
	if (level && ch->host && ch->host->intrq)
		ch->host->intrq(ch->host_opaque);
	irq_set(&ch->irq, level);
}

void ata_raise(struct ata_drive *d)
{
	d->intrq = true;
	update_line(d->ch);
}

void ata_later(struct ata_channel *ch, enum ata_phase phase)
{
	ch->phase = (uint8_t)phase;
	ch->drive[ch->owner].status = ATA_BSY | ATA_DRDY;
	timer_arm(&ch->timer, loop_now(ch->machine->loop));
}

void ata_go_idle(struct ata_channel *ch)
{
	ch->phase = ATA_PHASE_IDLE;
	ch->xfer = ATA_XFER_NONE;
	ch->pos = ch->block_end = ch->len = 0;
	timer_disarm(&ch->timer);
	for (unsigned i = 0; i < 2; i++) {
		ch->drive[i].warmed = false;
		ch->drive[i].flush = ATA_FLUSH_NONE;
	}
}

/* ---- ends of commands ---- */

void ata_complete(struct ata_drive *d)
{
	ata_go_idle(d->ch);
	d->status = ATA_DRDY | ATA_DSC;
	ata_raise(d);
}

void ata_abort(struct ata_drive *d, uint8_t error)
{
	ata_go_idle(d->ch);
	d->error = error;
	d->status = ATA_DRDY | ATA_DSC | ATA_ERR;
	ata_raise(d);
}

static void pio_step(struct ata_drive *d)
{
	if (d->kind == ATA_CD)
		atapi_step(d);
	else
		ata_disk_step(d);
}

/* The guest has moved the last byte of a DRQ block. */
static void block_done(struct ata_channel *ch)
{
	struct ata_drive *d = &ch->drive[ch->owner];

	if (d->kind == ATA_CD && ch->command == CMD_PACKET) {
		ata_later(ch, ATA_PHASE_PIO_STEP);
	} else if (ch->xfer == ATA_XFER_REPLY || (ch->xfer == ATA_XFER_READ && !d->left)) {
		/* No interrupt after the last block of data in (9.5). */
		if (ch->xfer == ATA_XFER_READ)
			ata_disk_registers(d);
		ata_go_idle(ch);
		d->status = ATA_DRDY | ATA_DSC;
	} else {
		ata_later(ch, ATA_PHASE_PIO_STEP);
	}
}

/* ---- DMA ---- */

static void dma_wait(struct ata_drive *d)
{
	d->ch->phase = ATA_PHASE_DMA_WAIT;
	d->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
}

static void dma_complete(struct ata_drive *d)
{
	if (d->kind == ATA_CD)
		atapi_done(d);
	else
		ata_disk_done(d);
}

/* Refill or write out a used-up buffer; false when the transfer is over. */
static bool dma_next_buffer(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;

	if (ch->xfer == ATA_XFER_WRITE) {
		if (ch->len && !ata_disk_drain(d))
			return false;
		if (d->left) {
			ch->pos = 0;
			ch->len = MIN(d->left, ATA_BUF / BLOCK_SECTOR) * BLOCK_SECTOR;
			return true;
		}
	} else if (d->left) {
		return ch->xfer == ATA_XFER_CD ? atapi_fill(d)
					       : ata_disk_fill(d, ATA_BUF / BLOCK_SECTOR);
	}
	dma_complete(d);
	return false;
}

void ata_dma_run(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;
	bool in = ch->xfer != ATA_XFER_WRITE;
	size_t moved, total = 0;

	ch->phase = ATA_PHASE_DMA_RUN; /* what is repeated if the host's disk has to be waited for */
	for (;;) {
		if (ch->pos == ch->len) {
			if (total >= ATA_DMA_BURST && d->left) {
				ata_later(ch, ATA_PHASE_DMA_RUN);
				return;
			}
			if (!dma_next_buffer(d))
				return;
		}
		if (!ch->host->dma_started(ch->host_opaque))
			break;
		moved = ch->host->dma(ch->host_opaque, ch->buf + ch->pos, ch->len - ch->pos, in);
		ch->pos += (uint32_t)MIN(moved, ch->len - ch->pos);
		total += moved;
		if (ch->pos < ch->len)
			break; /* the host's table came to its end: wait for another */
	}
	dma_wait(d);
}

void ata_dma_start(struct ata_channel *ch)
{
	if (ch->phase == ATA_PHASE_DMA_WAIT)
		ata_later(ch, ATA_PHASE_DMA_RUN);
}

void ata_dma_stop(struct ata_channel *ch)
{
	if (ch->phase == ATA_PHASE_DMA_RUN) {
		timer_disarm(&ch->timer);
		dma_wait(&ch->drive[ch->owner]);
	}
}

/* ---- waiting for the host's disk ---- */

static bool step_pending(const struct ata_channel *ch)
{
	return ch->phase == ATA_PHASE_COMMAND || ch->phase == ATA_PHASE_PIO_STEP ||
	       ch->phase == ATA_PHASE_DMA_RUN;
}

/* The image's thread is through with what this drive, or its past, asked for. */
static void image_done(void *opaque, int ret)
{
	struct ata_drive *d = opaque;
	struct ata_channel *ch = d->ch;

	if (d->flush == ATA_FLUSH_RUNS) {
		d->flush = ATA_FLUSH_DONE;
		d->flush_ret = ret;
	} else {
		d->warmed = true;
	}
	if (step_pending(ch) && ch->owner == d->index)
		timer_arm(&ch->timer, loop_now(ch->machine->loop));
}

void ata_attach(struct ata_drive *d)
{
	d->warmed = false;
	d->flush = ATA_FLUSH_NONE;
	/* Without a thread everything still works, only the guest waits too. */
	if (d->block)
		block_attach(d->block, d->ch->machine->loop, image_done, d, NULL);
}

int ata_image_read(struct ata_drive *d, uint64_t sector, void *buf, uint32_t count)
{
	if (d->warmed)
		return block_read(d->block, sector, buf, count);
	return block_read_nowait(d->block, sector, buf, count);
}

bool ata_wait_for(struct ata_drive *d, uint64_t sector, uint32_t count)
{
	if (block_start_warm(d->block, sector, count))
		return true;
	d->warmed = true;
	return false;
}

bool ata_image_flush(struct ata_drive *d, int *ret)
{
	if (d->flush == ATA_FLUSH_DONE) {
		d->flush = ATA_FLUSH_NONE;
		*ret = d->flush_ret;
		return true;
	}
	if (block_start_flush(d->block)) {
		d->flush = ATA_FLUSH_RUNS;
		return false;
	}
	*ret = block_flush(d->block);
	return true;
}

/* ---- IDENTIFY DEVICE ---- */

void ata_put_word(uint8_t *id, unsigned word, unsigned value)
{
	store_le16(id + word * 2, (uint16_t)value);
}

/* Padded with spaces, first character in the high byte (7.17.7.4). */
void ata_put_string(uint8_t *id, unsigned word, unsigned words, const char *text)
{
	for (unsigned i = 0; i < words * 2; i++)
		id[word * 2 + (i ^ 1)] = *text ? (uint8_t)*text++ : ' ';
}

void ata_identify_modes(const struct ata_drive *d, uint8_t *id)
{
	unsigned kind = d->mode >> 3, n = d->mode & 7;

	ata_put_word(id, 49, 0x0b00);                 /* IORDY, LBA, DMA */
	ata_put_word(id, 51, 0x0200);
	ata_put_word(id, 53, 0x0007);                 /* words 54-58, 64-70, 88 are valid */
	ata_put_word(id, 63, 0x0007 | (kind == 4 ? 0x100u << n : 0));
	ata_put_word(id, 64, 0x0003);                 /* PIO modes 3 and 4 */
	for (unsigned w = 65; w <= 68; w++)
		ata_put_word(id, w, 120);             /* cycle times, ns */
	ata_put_word(id, 80, 0x0070);                 /* ATA/ATAPI-4 to -6 */
	ata_put_word(id, 88, 0x003f | (kind == 8 ? 0x100u << n : 0));
	/* Hardware reset result: 80-conductor cable, passed, selected by jumper. */
	ata_put_word(id, 93, d->index ? 0x6b00 : 0x600b);
}

static void set_features(struct ata_drive *d)
{
	switch (d->feature[0]) {
	case 0x02: case 0x82:
		d->write_cache = d->feature[0] == 0x02;
		break;
	case 0x03:
		/* PIO default, PIO flow control 0-4, multiword DMA 0-2, Ultra DMA 0-5. */
		if (!(d->count[0] <= 1 || (d->count[0] >= 0x08 && d->count[0] <= 0x0c) ||
		      (d->count[0] >= 0x20 && d->count[0] <= 0x22) ||
		      (d->count[0] >= 0x40 && d->count[0] <= 0x45))) {
			ata_abort(d, ATA_ABRT);
			return;
		}
		d->mode = d->count[0];
		break;
	case 0x55: case 0xaa: /* read look-ahead */
	case 0x66: case 0xcc: /* settings after a software reset: always kept */
		break;
	default:
		ata_abort(d, ATA_ABRT);
		return;
	}
	ata_complete(d);
}

void ata_reply_identify(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;

	if (d->kind == ATA_CD)
		atapi_identify(d);
	else
		ata_disk_identify(d);
	ch->xfer = ATA_XFER_REPLY;
	ch->pos = 0;
	ch->len = ch->block_end = 512;
	ch->phase = ATA_PHASE_PIO_IN;
	d->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
	ata_raise(d);
}

void ata_set_signature(struct ata_drive *d)
{
	d->error = ATA_ERROR_PASSED;
	d->count[0] = d->lba_low[0] = 1;
	d->lba_mid[0] = d->kind == ATA_CD ? 0x14 : 0;
	d->lba_high[0] = d->kind == ATA_CD ? 0xeb : 0;
	d->count[1] = d->lba_low[1] = d->lba_mid[1] = d->lba_high[1] = 0;
	d->feature[0] = d->feature[1] = 0;
	d->status = d->kind == ATA_DISK ? ATA_DRDY | ATA_DSC : 0;
}

/* Both drives answer, drive 0 reports (8.8). */
static void diagnostic(struct ata_channel *ch)
{
	struct ata_drive *d = &ch->drive[present(&ch->drive[0]) ? 0 : 1];

	ata_go_idle(ch);
	for (unsigned i = 0; i < 2; i++) {
		if (present(&ch->drive[i]))
			ata_set_signature(&ch->drive[i]);
		else
			ch->drive[i].status = 0;
	}
	ch->device = 0;
	ch->owner = 0;
	ata_raise(d);
}

static void execute_cd(struct ata_drive *d)
{
	switch (d->ch->command) {
	case CMD_PACKET:
		atapi_packet_command(d);
		break;
	case CMD_IDENTIFY_PACKET:
		ata_reply_identify(d);
		break;
	case CMD_DEVICE_RESET:
		ata_go_idle(d->ch);
		atapi_reset(d, false);
		break;
	case CMD_IDENTIFY: case CMD_READ: case CMD_READ_NORETRY:
		/* How a driver that knows no ATAPI finds out (9.1). */
		ata_set_signature(d);
		ata_abort(d, ATA_ABRT);
		break;
	case CMD_FLUSH: case CMD_FLUSH_EXT:
		ata_complete(d);
		break;
	default:
		ata_abort(d, ATA_ABRT);
	}
}

static void execute(struct ata_drive *d)
{
	struct ata_channel *ch = d->ch;

	d->error = 0;
	switch (ch->command) {
	case CMD_DIAGNOSTIC:
		diagnostic(ch);
		return;
	case CMD_SET_FEATURES:
		set_features(d);
		return;
	case CMD_STANDBY: case CMD_STANDBY_1: case CMD_STANDBY_NOW: case CMD_STANDBY_NOW_1:
	case CMD_SLEEP: case CMD_SLEEP_1:
		d->standby = true;
		ata_complete(d);
		return;
	case CMD_IDLE: case CMD_IDLE_1: case CMD_IDLE_NOW: case CMD_IDLE_NOW_1:
		d->standby = false;
		ata_complete(d);
		return;
	case CMD_CHECK_POWER: case CMD_CHECK_POWER_1:
		d->count[0] = d->standby ? 0x00 : 0xff;
		ata_complete(d);
		return;
	}
	if (d->kind == ATA_CD)
		execute_cd(d);
	else
		ata_disk_execute(d);
}

static void fire(void *opaque)
{
	struct ata_channel *ch = opaque;
	struct ata_drive *d = &ch->drive[ch->owner];

	switch (ch->phase) {
	case ATA_PHASE_COMMAND:
		if (present(d) || ch->command == CMD_DIAGNOSTIC)
			execute(d);
		else
			ata_go_idle(ch);
		break;
	case ATA_PHASE_PIO_STEP:
		pio_step(d);
		break;
	case ATA_PHASE_DMA_RUN:
		ata_dma_run(d);
		break;
	}
}

/* ---- registers ---- */

static bool channel_empty(const struct ata_channel *ch)
{
	return ch->drive[0].kind == ATA_NONE && ch->drive[1].kind == ATA_NONE;
}

static void write_command(struct ata_channel *ch, uint8_t value)
{
	struct ata_drive *d = selected(ch), *other = &ch->drive[!d->index];
	struct trace *trace = &ch->machine->trace;

	if (channel_empty(ch) || (d->kind == ATA_NONE && value != CMD_DIAGNOSTIC) ||
	    (ch->devctl & ATA_SRST))
		return;
	/* While a command is at work only an ATAPI drive listens, and only to this. */
	if ((d->status & (ATA_BSY | ATA_DRQ)) &&
	    !(d->kind == ATA_CD && value == CMD_DEVICE_RESET))
		return;
	if (trace_on(trace, TRACE_DISK))
		trace_print(trace, TRACE_DISK,
			    "ata irq %d drive %u: command %02x feature %02x count %02x%02x lba %02x%02x%02x%02x%02x%02x device %02x",
			    ch->irq.n, d->index, value, d->feature[0], d->count[1], d->count[0],
			    d->lba_high[1], d->lba_mid[1], d->lba_low[1], d->lba_high[0],
			    d->lba_mid[0], d->lba_low[0], ch->device);
	if (ch->phase != ATA_PHASE_IDLE && other->index == ch->owner) {
		other->status = ATA_DRDY | ATA_DSC | ATA_ERR;
		other->error = ATA_ABRT;
	}
	ata_go_idle(ch);
	d->intrq = false;
	update_line(ch);
	ch->owner = d->index;
	ch->command = value;
	ata_later(ch, ATA_PHASE_COMMAND);
}

static void push_pair(uint8_t pair[2], uint8_t value)
{
	pair[1] = pair[0];
	pair[0] = value;
}

static void write_reg(struct ata_channel *ch, unsigned reg, uint8_t value)
{
	if (reg == 7) {
		write_command(ch, value);
		return;
	}
	if (selected(ch)->status & ATA_BSY)
		return;
	ch->devctl &= ~ATA_HOB;
	if (reg == 6) {
		ch->device = value;
		update_line(ch);
		return;
	}
	/* Both drives hear what is written. */
	for (unsigned i = 0; i < 2; i++) {
		struct ata_drive *d = &ch->drive[i];

		if (d->status & ATA_BSY)
			continue;
		switch (reg) {
		case 1: push_pair(d->feature, value); break;
		case 2: push_pair(d->count, value); break;
		case 3: push_pair(d->lba_low, value); break;
		case 4: push_pair(d->lba_mid, value); break;
		case 5: push_pair(d->lba_high, value); break;
		}
	}
}

uint8_t ata_read_alt_status(const struct ata_channel *ch)
{
	const struct ata_drive *d = selected(ch);

	return d->kind == ATA_NONE ? 0 : d->status;
}

static uint8_t read_reg(struct ata_channel *ch, unsigned reg)
{
	struct ata_drive *d = selected(ch);
	unsigned hob = ch->devctl & ATA_HOB ? 1 : 0;

	if (channel_empty(ch))
		return 0;
	if (reg == 7) {
		d->intrq = false;
		update_line(ch);
		return ata_read_alt_status(ch);
	}
	if (d->kind == ATA_NONE)
		d = &ch->drive[!d->index]; /* the other drive answers for it (9.16.1) */
	switch (reg) {
	case 1: return d->error;
	case 2: return d->count[hob];
	case 3: return d->lba_low[hob];
	case 4: return d->lba_mid[hob];
	case 5: return d->lba_high[hob];
	case 6: return ch->device | ATA_DEVICE_ONES;
	}
	return 0;
}

/* ---- data port ---- */

static bool data_phase(const struct ata_channel *ch, enum ata_phase phase)
{
	return ch->phase == phase && selected(ch)->index == ch->owner &&
	       ch->pos < ch->block_end && ch->block_end <= ATA_BUF;
}

static uint16_t read_word(struct ata_channel *ch)
{
	uint16_t v;

	if (!data_phase(ch, ATA_PHASE_PIO_IN))
		return 0;
	v = ch->buf[ch->pos++];
	/* A packet reply may have an odd length; the last word is padded. */
	if (ch->pos < ch->block_end)
		v |= (uint16_t)(ch->buf[ch->pos++] << 8);
	if (ch->pos == ch->block_end)
		block_done(ch);
	return v;
}

static void write_word(struct ata_channel *ch, uint16_t v)
{
	if (!data_phase(ch, ATA_PHASE_PIO_OUT))
		return;
	ch->buf[ch->pos++] = (uint8_t)v;
	if (ch->pos < ch->block_end)
		ch->buf[ch->pos++] = (uint8_t)(v >> 8);
	if (ch->pos == ch->block_end)
		block_done(ch);
}

uint32_t ata_read(struct ata_channel *ch, unsigned reg, unsigned size)
{
	uint32_t v = 0;

	if (reg == 0) {
		v = read_word(ch);
		if (size == 4)
			v |= (uint32_t)read_word(ch) << 16;
		return v;
	}
	for (unsigned i = 0; i < size && reg + i < 8; i++)
		v |= (uint32_t)read_reg(ch, reg + i) << i * 8;
	return v;
}

void ata_write(struct ata_channel *ch, unsigned reg, uint32_t value, unsigned size)
{
	if (reg == 0) {
		write_word(ch, (uint16_t)value);
		if (size == 4)
			write_word(ch, (uint16_t)(value >> 16));
		return;
	}
	for (unsigned i = 0; i < size && reg + i < 8; i++)
		write_reg(ch, reg + i, (uint8_t)(value >> i * 8));
}

size_t ata_read_block(struct ata_channel *ch, unsigned size, uint8_t *buf, size_t count)
{
	size_t n;

	if (size < 2 || !data_phase(ch, ATA_PHASE_PIO_IN))
		return 0;
	n = MIN(count, (ch->block_end - ch->pos) / size);
	memcpy(buf, ch->buf + ch->pos, n * size);
	ch->pos += (uint32_t)(n * size);
	if (n && ch->pos == ch->block_end)
		block_done(ch);
	return n;
}

size_t ata_write_block(struct ata_channel *ch, unsigned size, const uint8_t *buf, size_t count)
{
	size_t n;

	if (size < 2 || !data_phase(ch, ATA_PHASE_PIO_OUT))
		return 0;
	n = MIN(count, (ch->block_end - ch->pos) / size);
	memcpy(ch->buf + ch->pos, buf, n * size);
	ch->pos += (uint32_t)(n * size);
	if (n && ch->pos == ch->block_end)
		block_done(ch);
	return n;
}

/* ---- reset ---- */

static void drive_reset(struct ata_drive *d, bool power_on)
{
	d->intrq = false;
	if (d->kind == ATA_NONE) {
		d->status = 0;
		return;
	}
	if (power_on) {
		d->multiple = 0;
		d->mode = 0x0c;
		d->write_cache = true;
		ata_disk_geometry(d);
	}
	d->standby = false;
	d->at = 0;
	d->left = 0;
	if (d->kind == ATA_CD)
		atapi_reset(d, power_on);
	else
		ata_set_signature(d);
}

static void soft_reset(struct ata_channel *ch, bool power_on)
{
	ata_go_idle(ch);
	ch->device = 0;
	ch->owner = 0;
	for (unsigned i = 0; i < 2; i++)
		drive_reset(&ch->drive[i], power_on);
	update_line(ch);
}

void ata_write_devctl(struct ata_channel *ch, uint8_t value)
{
	bool was = ch->devctl & ATA_SRST;

	ch->devctl = value & ATA_DEVCTL_BITS;
	if (!was && (value & ATA_SRST)) {
		ata_go_idle(ch);
		for (unsigned i = 0; i < 2; i++) {
			ch->drive[i].intrq = false;
			if (present(&ch->drive[i]))
				ch->drive[i].status = ATA_BSY;
		}
	} else if (was && !(value & ATA_SRST)) {
		soft_reset(ch, false);
	}
	update_line(ch);
}

void ata_channel_reset(struct ata_channel *ch)
{
	ch->devctl = 0;
	soft_reset(ch, true);
}

/* ---- life ---- */

void ata_channel_init(struct ata_channel *ch, struct machine *m, const struct irq_line *irq,
		      const struct ata_host_ops *host, void *host_opaque)
{
	ch->machine = m;
	ch->irq = *irq;
	ch->host = host;
	ch->host_opaque = host_opaque;
	for (unsigned i = 0; i < 2; i++) {
		ch->drive[i].ch = ch;
		ch->drive[i].index = (uint8_t)i;
	}
	timer_init(&ch->timer, m->loop, "ata", fire, ch);
	for (unsigned i = 0; i < 2; i++)
		ata_attach(&ch->drive[i]);
}

void ata_channel_finish(struct ata_channel *ch)
{
	timer_disarm(&ch->timer);
	for (unsigned i = 0; i < 2; i++) {
		block_close(ch->drive[i].block);
		ch->drive[i].block = NULL;
	}
}

bool ata_channel_check(const struct ata_channel *ch, const char **field)
{
	const struct ata_drive *d = &ch->drive[ch->owner];

	*field = "ata.pos";
	if (ch->pos > ch->len || ch->block_end > ch->len)
		return false;
	*field = "ata.phase";
	if (ch->phase != ATA_PHASE_IDLE && d->kind == ATA_NONE)
		return false;
	if ((ch->phase == ATA_PHASE_DMA_WAIT || ch->phase == ATA_PHASE_DMA_RUN) && !ch->host)
		return false;
	*field = "ata.xfer";
	if ((ch->xfer == ATA_XFER_READ || ch->xfer == ATA_XFER_WRITE) && d->kind != ATA_DISK)
		return false;
	if ((ch->xfer == ATA_XFER_CD || ch->xfer == ATA_XFER_PACKET) && d->kind != ATA_CD)
		return false;
	/* By DMA goes what a disk or a disc holds, or a reply, which is in the buffer. */
	if (ch->phase == ATA_PHASE_DMA_WAIT || ch->phase == ATA_PHASE_DMA_RUN) {
		bool sectors = ch->xfer == ATA_XFER_READ || ch->xfer == ATA_XFER_WRITE ||
			       ch->xfer == ATA_XFER_CD;

		if (!sectors && (ch->xfer != ATA_XFER_REPLY || d->kind != ATA_CD || d->left))
			return false;
	}
	*field = "ata.geometry";
	for (unsigned i = 0; i < 2; i++) {
		d = &ch->drive[i];
		if (d->kind != ATA_NONE && (!d->heads || !d->sectors))
			return false;
	}
	return true;
}

void ata_channel_loaded(struct ata_channel *ch)
{
	/* A step that was waiting for the host's disk is taken again. */
	if (step_pending(ch) && !timer_armed(&ch->timer))
		timer_arm(&ch->timer, loop_now(ch->machine->loop));
	irq_set(&ch->irq, ch->line);
}
