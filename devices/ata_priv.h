/* Inside of an ATA channel, shared by ata.c, atapi.c and the controllers.
 *
 * Everything a command does happens in one timer callback soon after the
 * command was written, never inside the guest's OUT: the guest sees BSY, and an
 * interrupt cannot arrive before the driver has set itself up for it. So what is
 * in flight is always plain state: the phase, the registers and the buffer.
 *
 * A step that would have to wait for the host's disk leaves the phase as it is
 * and is repeated when the image's thread has fetched the data: steps change
 * nothing before their data is there.
 *
 * Sources: ATA/ATAPI-6 (T13/1410D), SFF-8020i, MMC-3.
 */
#ifndef GANNET_DEVICES_ATA_PRIV_H
#define GANNET_DEVICES_ATA_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/block.h"
#include "core/device.h"
#include "core/loop.h"
#include "core/machine.h"
#include "core/state.h"

/* Status register. */
enum {
	ATA_ERR = 1 << 0, ATA_DRQ = 1 << 3, ATA_DSC = 1 << 4, ATA_DF = 1 << 5,
	ATA_DRDY = 1 << 6, ATA_BSY = 1 << 7,
};

/* Error register. */
enum {
	ATA_ABRT = 1 << 2, ATA_IDNF = 1 << 4, ATA_UNC = 1 << 6, ATA_WP = 1 << 6,
	ATA_ERROR_PASSED = 1, /* diagnostic code: device passed */
};

/* Device register, device control register. */
enum {
	ATA_DEV1 = 1 << 4, ATA_LBA = 1 << 6, ATA_DEVICE_ONES = 0xa0,
	ATA_NIEN = 1 << 1, ATA_SRST = 1 << 2, ATA_HOB = 1 << 7,
	ATA_DEVCTL_BITS = ATA_NIEN | ATA_SRST | ATA_HOB,
};

/* ATAPI interrupt reason, in the sector count register. */
enum { ATAPI_CD = 1 << 0, ATAPI_IO = 1 << 1 };

enum {
	ATA_BUF = 64 * 1024,  /* covers any DRQ block, and is the unit of DMA */
	ATA_MULTIPLE_MAX = 16,
	ATA_DMA_BURST = 256 * 1024, /* bytes moved before the guest runs again */
	ATAPI_PACKET = 12,
	CD_SECTOR = 2048, CD_RAW = 2352,
};

enum ata_command {
	CMD_NOP = 0x00, CMD_DEVICE_RESET = 0x08,
	CMD_RECALIBRATE = 0x10, CMD_SEEK = 0x70, /* and the 15 codes after each */
	CMD_READ = 0x20, CMD_READ_NORETRY = 0x21, CMD_READ_EXT = 0x24,
	CMD_READ_DMA_EXT = 0x25, CMD_READ_NATIVE_MAX_EXT = 0x27, CMD_READ_MULTIPLE_EXT = 0x29,
	CMD_WRITE = 0x30, CMD_WRITE_NORETRY = 0x31, CMD_WRITE_EXT = 0x34,
	CMD_WRITE_DMA_EXT = 0x35, CMD_WRITE_MULTIPLE_EXT = 0x39,
	CMD_WRITE_VERIFY = 0x3c,
	CMD_VERIFY = 0x40, CMD_VERIFY_NORETRY = 0x41, CMD_VERIFY_EXT = 0x42,
	CMD_DIAGNOSTIC = 0x90, CMD_INIT_PARAMS = 0x91,
	CMD_STANDBY_NOW_1 = 0x94, CMD_IDLE_NOW_1 = 0x95, CMD_STANDBY_1 = 0x96,
	CMD_IDLE_1 = 0x97, CMD_CHECK_POWER_1 = 0x98, CMD_SLEEP_1 = 0x99,
	CMD_PACKET = 0xa0, CMD_IDENTIFY_PACKET = 0xa1,
	CMD_READ_MULTIPLE = 0xc4, CMD_WRITE_MULTIPLE = 0xc5, CMD_SET_MULTIPLE = 0xc6,
	CMD_READ_DMA = 0xc8, CMD_READ_DMA_NORETRY = 0xc9,
	CMD_WRITE_DMA = 0xca, CMD_WRITE_DMA_NORETRY = 0xcb,
	CMD_STANDBY_NOW = 0xe0, CMD_IDLE_NOW = 0xe1, CMD_STANDBY = 0xe2, CMD_IDLE = 0xe3,
	CMD_CHECK_POWER = 0xe5, CMD_SLEEP = 0xe6, CMD_FLUSH = 0xe7, CMD_FLUSH_EXT = 0xea,
	CMD_IDENTIFY = 0xec, CMD_SET_FEATURES = 0xef, CMD_READ_NATIVE_MAX = 0xf8,
};

enum ata_kind { ATA_NONE, ATA_DISK, ATA_CD };

enum ata_phase {
	ATA_PHASE_IDLE,
	ATA_PHASE_COMMAND,  /* BSY; the timer runs the command */
	ATA_PHASE_PIO_IN,   /* DRQ; the guest reads buf[pos..block_end) */
	ATA_PHASE_PIO_OUT,  /* DRQ; the guest writes it */
	ATA_PHASE_PIO_STEP, /* BSY; the timer deals with the block and goes on */
	ATA_PHASE_DMA_WAIT, /* DRQ; until the bus master is started */
	ATA_PHASE_DMA_RUN,  /* BSY; the timer moves a burst */
	ATA_PHASE_LAST = ATA_PHASE_DMA_RUN,
};

/* What the data of the transfer is. */
enum ata_xfer {
	ATA_XFER_NONE,
	ATA_XFER_READ,    /* sectors of a disk */
	ATA_XFER_WRITE,
	ATA_XFER_REPLY,   /* all of it is in the buffer */
	ATA_XFER_PACKET,  /* the guest sends a command packet */
	ATA_XFER_CD,      /* sectors of a disc */
	ATA_XFER_LAST = ATA_XFER_CD,
};

enum ata_flush { ATA_FLUSH_NONE, ATA_FLUSH_RUNS, ATA_FLUSH_DONE };

struct ata_channel;

struct ata_drive {
	struct ata_channel *ch;
	uint8_t kind;           /* enum ata_kind; configuration */
	uint8_t index;
	struct block *block;    /* owned; NULL: a CD drive without disc */

	/* Task file. [1]: what the register held before the last write (48 bit). */
	uint8_t status, error;
	uint8_t feature[2], count[2], lba_low[2], lba_mid[2], lba_high[2];
	bool intrq;             /* pending interrupt; reaches the line while selected */

	/* Disk settings. */
	uint16_t cylinders;     /* of the translation in effect */
	uint8_t heads, sectors; /* 0: as at power-on */
	uint8_t multiple;       /* sectors per block; 0: not set */
	uint8_t mode;           /* transfer mode as SET FEATURES had it */
	bool write_cache, standby;

	/* The transfer under way. */
	uint64_t at;            /* next sector */
	uint32_t left;          /* sectors still to move */

	/* What the image's own thread is asked for; not part of the state: what it
	 * was asked for is asked again. */
	bool warmed;            /* the sectors of this step have been fetched: just read them */
	uint8_t flush;          /* enum ata_flush */
	int flush_ret;

	/* CD drive. */
	uint8_t packet[ATAPI_PACKET];
	uint8_t sense_key, asc, ascq;
	bool changed;           /* unit attention to report: the disc was changed */
	bool media_event;       /* for GET EVENT STATUS NOTIFICATION */
	bool locked;            /* PREVENT ALLOW MEDIUM REMOVAL */
	bool ejected;           /* tray open: START STOP UNIT */
	bool dma;               /* this packet command wants DMA */
	uint8_t cd_parts;       /* CD_PART_*: what of a sector is returned */
	uint16_t limit;         /* byte count limit of a DRQ block, as PACKET had it */
};

/* What the controller does for the channel. */
struct ata_host_ops {
	/* Move bytes between @buf and memory; fewer when the host's table ends. */
	size_t (*dma)(void *opaque, uint8_t *buf, size_t len, bool to_memory);
	bool (*dma_started)(void *opaque);
	void (*intrq)(void *opaque); /* the line rose */
};

struct ata_channel {
	struct machine *machine; /* borrowed */
	struct irq_line irq;
	const struct ata_host_ops *host; /* NULL: no DMA */
	void *host_opaque;
	struct ata_drive drive[2];
	struct timer timer;
	uint8_t device;   /* device register */
	uint8_t devctl;
	bool line;        /* level of INTRQ as the controller sees it */
	uint8_t phase;    /* enum ata_phase */
	uint8_t xfer;     /* enum ata_xfer */
	uint8_t owner;    /* drive index the transfer belongs to */
	uint8_t command;  /* last command of the owner */
	uint32_t pos;     /* next byte in buf */
	uint32_t block_end; /* of this DRQ block */
	uint32_t len;     /* valid (or expected) bytes in buf */
	uint8_t buf[ATA_BUF];
};

/** ata_channel_init - the drives' @kind and @block are set before */
void ata_channel_init(struct ata_channel *ch, struct machine *m, const struct irq_line *irq,
		      const struct ata_host_ops *host, void *host_opaque);
void ata_channel_finish(struct ata_channel *ch); /* closes the images */
void ata_channel_reset(struct ata_channel *ch);  /* RESET- pin */
void ata_channel_loaded(struct ata_channel *ch);
bool ata_channel_check(const struct ata_channel *ch, const char **field);

/* Registers: @reg 0-7 of the command block; ports of any size. */
uint32_t ata_read(struct ata_channel *ch, unsigned reg, unsigned size);
void ata_write(struct ata_channel *ch, unsigned reg, uint32_t value, unsigned size);
size_t ata_read_block(struct ata_channel *ch, unsigned size, uint8_t *buf, size_t count);
size_t ata_write_block(struct ata_channel *ch, unsigned size, const uint8_t *buf, size_t count);
uint8_t ata_read_alt_status(const struct ata_channel *ch);
void ata_write_devctl(struct ata_channel *ch, uint8_t value);
/** ata_dma_start - the bus master was started: go on if the drive waits for it */
void ata_dma_start(struct ata_channel *ch);
/** ata_dma_stop - the bus master was stopped: the drive waits again */
void ata_dma_stop(struct ata_channel *ch);

/* ---- between ata.c, ata_disk.c and atapi.c ---- */
void ata_set_signature(struct ata_drive *d);
void ata_raise(struct ata_drive *d);       /* INTRQ */
void ata_complete(struct ata_drive *d);    /* well; raises the interrupt */
void ata_abort(struct ata_drive *d, uint8_t error);
void ata_go_idle(struct ata_channel *ch);
void ata_reply_identify(struct ata_drive *d);
void ata_later(struct ata_channel *ch, enum ata_phase phase); /* BSY until the timer has fired */
void ata_put_string(uint8_t *id, unsigned word, unsigned words, const char *text);
void ata_put_word(uint8_t *id, unsigned word, unsigned value);
/** ata_attach - @d has got an image: let its thread wait for the host's disk */
void ata_attach(struct ata_drive *d);
/** ata_image_read - block_read(), or -EAGAIN where the host's disk would have to be waited for */
int ata_image_read(struct ata_drive *d, uint64_t sector, void *buf, uint32_t count);
/** ata_wait_for - the step came to -EAGAIN; true: it is repeated when the sectors are there,
 *  false: read again, waiting */
bool ata_wait_for(struct ata_drive *d, uint64_t sector, uint32_t count);
/** ata_image_flush - false: not over yet, the step is repeated */
bool ata_image_flush(struct ata_drive *d, int *ret);
void ata_identify_modes(const struct ata_drive *d, uint8_t *id); /* words 49-53, 62-68, 88, 93 */
/** ata_dma_run - move a burst if the bus master is started, else wait for it */
void ata_dma_run(struct ata_drive *d);

void ata_disk_geometry(struct ata_drive *d); /* CHS translation as at power-on */
void ata_disk_identify(struct ata_drive *d); /* fills the channel's buffer */
void ata_disk_execute(struct ata_drive *d);
void ata_disk_step(struct ata_drive *d);     /* a DRQ block went through, there is more */
void ata_disk_registers(struct ata_drive *d); /* where a media command ended */
void ata_disk_done(struct ata_drive *d);     /* all sectors of a media command moved */
/* Refill and write out the buffer; false: failed, reported. */
bool ata_disk_fill(struct ata_drive *d, uint32_t sectors);
bool ata_disk_drain(struct ata_drive *d);

void atapi_reset(struct ata_drive *d, bool power_on);
void atapi_identify(struct ata_drive *d); /* fills the channel's buffer */
void atapi_packet_command(struct ata_drive *d); /* command A0: wait for the packet */
void atapi_step(struct ata_drive *d);  /* a DRQ block went through */
bool atapi_fill(struct ata_drive *d);  /* more sectors into the empty buffer; false: failed, reported */
void atapi_done(struct ata_drive *d);
/** atapi_set_disc - see piix3_ide_set_disc() */
bool atapi_set_disc(struct ata_drive *d, struct block *disc, bool force);

/* ---- state ---- */
#define ATA_FIELD(s, p, f, max, mask) \
	{ #p "." #f, offsetof(s, p.f), STATE_TYPE_UINT, STATE_ELEM_SIZE(s, p.f), 1, max, mask }
#define ATA_PAIR(s, p, f) \
	{ #p "." #f, offsetof(s, p.f), STATE_TYPE_UINT, 1, 2, UINT64_MAX, UINT64_MAX }
#define ATA_BOOL(s, p, f) \
	{ #p "." #f, offsetof(s, p.f), STATE_TYPE_BOOL, sizeof(bool), 1, 1, 1 }
#define ATA_BYTES(s, p, f) \
	{ #p "." #f, offsetof(s, p.f), STATE_TYPE_BYTES, 1, STATE_ELEM_SIZE(s, p.f), 255, 255 }

#define ATA_DRIVE_STATE(s, p) \
	ATA_FIELD(s, p, status, UINT64_MAX, UINT64_MAX), \
	ATA_FIELD(s, p, error, UINT64_MAX, UINT64_MAX), \
	ATA_PAIR(s, p, feature), ATA_PAIR(s, p, count), ATA_PAIR(s, p, lba_low), \
	ATA_PAIR(s, p, lba_mid), ATA_PAIR(s, p, lba_high), ATA_BOOL(s, p, intrq), \
	ATA_FIELD(s, p, cylinders, UINT64_MAX, UINT64_MAX), \
	ATA_FIELD(s, p, heads, 16, UINT64_MAX), \
	ATA_FIELD(s, p, sectors, UINT64_MAX, UINT64_MAX), \
	ATA_FIELD(s, p, multiple, ATA_MULTIPLE_MAX, UINT64_MAX), \
	ATA_FIELD(s, p, mode, UINT64_MAX, UINT64_MAX), \
	ATA_BOOL(s, p, write_cache), ATA_BOOL(s, p, standby), \
	ATA_FIELD(s, p, at, UINT64_MAX, UINT64_MAX), \
	ATA_FIELD(s, p, left, UINT64_MAX, UINT64_MAX), \
	ATA_BYTES(s, p, packet), \
	ATA_FIELD(s, p, sense_key, 15, UINT64_MAX), \
	ATA_FIELD(s, p, asc, UINT64_MAX, UINT64_MAX), \
	ATA_FIELD(s, p, ascq, UINT64_MAX, UINT64_MAX), \
	ATA_BOOL(s, p, changed), ATA_BOOL(s, p, media_event), ATA_BOOL(s, p, locked), \
	ATA_BOOL(s, p, ejected), ATA_BOOL(s, p, dma), \
	ATA_FIELD(s, p, cd_parts, UINT64_MAX, CD_PART_ALL), \
	ATA_FIELD(s, p, limit, UINT64_MAX, UINT64_MAX)

#define ATA_CHANNEL_STATE(s, p) \
	ATA_DRIVE_STATE(s, p.drive[0]), ATA_DRIVE_STATE(s, p.drive[1]), \
	{ #p ".timer", offsetof(s, p.timer), STATE_TYPE_TIMER, sizeof(struct timer), 1, 0, 0 }, \
	ATA_FIELD(s, p, device, UINT64_MAX, UINT64_MAX), \
	ATA_FIELD(s, p, devctl, UINT64_MAX, ATA_DEVCTL_BITS), \
	ATA_BOOL(s, p, line), \
	ATA_FIELD(s, p, phase, ATA_PHASE_LAST, UINT64_MAX), \
	ATA_FIELD(s, p, xfer, ATA_XFER_LAST, UINT64_MAX), \
	ATA_FIELD(s, p, owner, 1, UINT64_MAX), \
	ATA_FIELD(s, p, command, UINT64_MAX, UINT64_MAX), \
	ATA_FIELD(s, p, pos, ATA_BUF, UINT64_MAX), \
	ATA_FIELD(s, p, block_end, ATA_BUF, UINT64_MAX), \
	ATA_FIELD(s, p, len, ATA_BUF, UINT64_MAX), \
	ATA_BYTES(s, p, buf)

/* Parts of a CD sector, in the order in which they are returned (READ CD byte 9). */
enum {
	CD_PART_ECC = 1 << 3, CD_PART_USER = 1 << 4, CD_PART_HEADER = 1 << 5,
	CD_PART_SUBHEADER = 1 << 6, CD_PART_SYNC = 1 << 7,
	CD_PART_ALL = 0xf8,
};

#endif
