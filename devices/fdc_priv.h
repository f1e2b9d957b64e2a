/* Inside of the floppy controller: fdc.c has the registers and the commands that
 * move no data, fdc_data.c the others. */
#ifndef GANNET_DEVICES_FDC_PRIV_H
#define GANNET_DEVICES_FDC_PRIV_H

#include "core/block.h"
#include "core/loop.h"
#include "core/machine.h"
#include "devices/fdc.h"

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

/* ---- fdc.c ---- */
void fdc_irq(struct fdc *f, bool level);
/** fdc_later - come back to the command in @ns */
void fdc_later(struct fdc *f, int64_t ns);
/** fdc_unit - drive @n; NULL if there is none */
struct fdc_drive *fdc_unit(struct fdc *f, unsigned n);
void fdc_head_moves(struct fdc *f, unsigned n, unsigned track);
/** fdc_result - @len bytes in the FIFO are for the guest */
void fdc_result(struct fdc *f, unsigned len);

/* ---- fdc_data.c ---- */
void fdc_start_data(struct fdc *f);
/** fdc_run_data - go on: DMA may be ready now, or the FIFO is used up */
void fdc_run_data(struct fdc *f);
void fdc_read_id(struct fdc *f);

#endif
