/* Two 8237A DMA controllers and the page registers of a PC/AT.
 *
 * Intel 8237A datasheet (231466); IBM PC/AT Technical Reference, "DMA". The
 * second controller counts and addresses words; its channel 4 cascades the
 * first. Transfers run when a device asks, all at once: nobody can see the
 * single cycles, and the guest's registers come out the same.
 *
 * A block is at most 64 Ki cycles and stays inside one 64 KiB (128 KiB) page,
 * for the page register does not count: that bounds every transfer.
 */
#include "devices/i8237.h"

#include <stdlib.h>
#include <string.h>

#include "core/ioport.h"
#include "core/machine.h"
#include "core/memory.h"
#include "core/util.h"

/* Registers 8-15 of a controller; written : read. */
enum {
	REG_COMMAND = 8,      /* : status */
	REG_REQUEST = 9,
	REG_SINGLE_MASK = 10,
	REG_MODE = 11,
	REG_CLEAR_FLIPFLOP = 12,
	REG_MASTER_CLEAR = 13, /* : temporary */
	REG_CLEAR_MASK = 14,
	REG_ALL_MASK = 15,
};

enum { COMMAND_DISABLE = 1 << 2 };

enum {
	MODE_TYPE = 3 << 2, MODE_VERIFY = 0 << 2, MODE_WRITE = 1 << 2 /* to memory */,
	MODE_READ = 2 << 2, MODE_AUTOINIT = 1 << 4, MODE_DOWN = 1 << 5,
};

struct i8237_channel {
	uint16_t base_address, base_count;
	uint16_t address, count;
	uint8_t mode;   /* bits 2-7 of the mode register */
	uint8_t page;
};

struct i8237_chip {
	struct i8237_channel ch[4];
	uint8_t command;
	uint8_t mask;     /* bit per channel */
	uint8_t status;   /* low: terminal counts; high: requests */
	bool flipflop;    /* next byte is the high one */
};

struct i8237 {
	struct device base;
	struct machine *machine; /* borrowed */
	struct i8237_chip chip[2];
	uint8_t latch[16];       /* page ports 0x80-0x8f without a channel: read back */
};

/* ---- registers of a controller ---- */

static void master_clear(struct i8237_chip *c)
{
	c->command = 0;
	c->status = 0;
	c->flipflop = false;
	c->mask = 0xf;
}

static uint8_t chip_read(struct i8237_chip *c, unsigned reg)
{
	if (reg < 8) {
		const struct i8237_channel *ch = &c->ch[reg / 2];
		uint16_t v = reg & 1 ? ch->count : ch->address;

		c->flipflop = !c->flipflop;
		return (uint8_t)(c->flipflop ? v : v >> 8);
	}
	if (reg == REG_COMMAND) {
		uint8_t v = c->status;

		c->status &= 0xf0; /* reading clears the terminal counts */
		return v;
	}
	if (reg == REG_ALL_MASK)
		return c->mask | 0xf0;
	return 0;
}

static void chip_write(struct i8237_chip *c, unsigned reg, uint8_t value)
{
	unsigned n = value & 3;

	if (reg < 8) {
		struct i8237_channel *ch = &c->ch[reg / 2];
		uint16_t *base = reg & 1 ? &ch->base_count : &ch->base_address;

		if (c->flipflop)
			*base = (uint16_t)((*base & 0x00ff) | value << 8);
		else
			*base = (uint16_t)((*base & 0xff00) | value);
		c->flipflop = !c->flipflop;
		/* Base and current registers are written together. */
		if (reg & 1)
			ch->count = *base;
		else
			ch->address = *base;
		return;
	}
	switch (reg) {
	case REG_COMMAND:
		c->command = value;
		break;
	case REG_REQUEST: /* memory to memory and software requests: no channel uses them here */
		if (value & 4)
			c->status |= (uint8_t)(0x10 << n);
		else
			c->status &= (uint8_t)~(0x10 << n);
		break;
	case REG_SINGLE_MASK:
		if (value & 4)
			c->mask |= (uint8_t)(1 << n);
		else
			c->mask &= (uint8_t)~(1 << n);
		break;
	case REG_MODE:
		c->ch[n].mode = value & 0xfc;
		break;
	case REG_CLEAR_FLIPFLOP:
		c->flipflop = false;
		break;
	case REG_MASTER_CLEAR:
		master_clear(c);
		break;
	case REG_CLEAR_MASK:
		c->mask = 0;
		break;
	case REG_ALL_MASK:
		c->mask = value & 0xf;
		break;
	}
}

/* ---- ports ---- */

static uint32_t low_read(void *opaque, uint16_t port, unsigned size)
{
	struct i8237 *d = opaque;

	return chip_read(&d->chip[0], port & 0xf);
}

static void low_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct i8237 *d = opaque;

	chip_write(&d->chip[0], port & 0xf, (uint8_t)value);
}

/* The word controller's registers stand at every second port. */
static uint32_t high_read(void *opaque, uint16_t port, unsigned size)
{
	struct i8237 *d = opaque;

	return port & 1 ? 0xff : chip_read(&d->chip[1], (port >> 1) & 0xf);
}

static void high_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct i8237 *d = opaque;

	if (!(port & 1))
		chip_write(&d->chip[1], (port >> 1) & 0xf, (uint8_t)value);
}

/* The page register of a port 0x80-0x8f, or the latch that has no channel. */
static uint8_t *page_register(struct i8237 *d, unsigned port)
{
	static const int8_t channel[16] = {
		-1, 2, 3, 1, -1, -1, -1, 0, -1, 6, 7, 5, -1, -1, -1, 4,
	};
	int n = channel[port & 0xf];

	return n < 0 ? &d->latch[port & 0xf] : &d->chip[n / 4].ch[n % 4].page;
}

static uint32_t page_read(void *opaque, uint16_t port, unsigned size)
{
	return *page_register(opaque, port);
}

static void page_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	*page_register(opaque, port) = (uint8_t)value;
}

static const struct ioport_ops low_ops = { .read = low_read, .write = low_write };
static const struct ioport_ops high_ops = { .read = high_read, .write = high_write };
static const struct ioport_ops page_ops = { .read = page_read, .write = page_write };

/* ---- transfers ---- */

bool i8237_ready(const struct device *dev, unsigned channel)
{
	const struct i8237 *d = container_of(dev, const struct i8237, base);
	const struct i8237_chip *c = &d->chip[channel / 4 & 1];

	return !(c->command & COMMAND_DISABLE) && !(c->mask >> channel % 4 & 1);
}

static void move(struct i8237 *d, uint64_t paddr, uint8_t *buf, size_t len, unsigned type)
{
	if (type == MODE_WRITE)
		memory_write_bytes(d->machine->memory, paddr, buf, len);
	else if (type == MODE_READ)
		memory_read_bytes(d->machine->memory, paddr, buf, len);
}

size_t i8237_transfer(struct device *dev, unsigned channel, void *buf, size_t len,
		      bool to_memory, bool *tc)
{
	struct i8237 *d = container_of(dev, struct i8237, base);
	struct i8237_chip *c = &d->chip[channel / 4 & 1];
	struct i8237_channel *ch = &c->ch[channel % 4];
	unsigned shift = channel >= 4, type = ch->mode & MODE_TYPE;
	uint64_t page = shift ? (uint64_t)(ch->page & 0xfe) << 16 : (uint64_t)ch->page << 16;
	uint8_t *p = buf;
	size_t units, n;

	if (tc)
		*tc = false;
	if (channel > 7 || channel == 4 || !i8237_ready(dev, channel))
		return 0;
	if (type != MODE_VERIFY && type != (to_memory ? MODE_WRITE : MODE_READ))
		return 0;
	units = MIN(len >> shift, (size_t)ch->count + 1);
	n = units;
	while (n) {
		size_t run;

		if (ch->mode & MODE_DOWN) {
			run = 1;
			move(d, page + ((uint64_t)ch->address << shift), p, run << shift, type);
			ch->address--;
		} else {
			run = MIN(n, 0x10000u - ch->address); /* wraps inside the page */
			move(d, page + ((uint64_t)ch->address << shift), p, run << shift, type);
			ch->address = (uint16_t)(ch->address + run);
		}
		p += run << shift;
		n -= run;
	}
	ch->count = (uint16_t)(ch->count - units);
	/* The count passed zero: it stands at 0xffff now. */
	if (units && ch->count == 0xffff) {
		c->status |= (uint8_t)(1 << channel % 4);
		if (tc)
			*tc = true;
		if (ch->mode & MODE_AUTOINIT) {
			ch->address = ch->base_address;
			ch->count = ch->base_count;
		} else {
			c->mask |= (uint8_t)(1 << channel % 4);
		}
	}
	return units << shift;
}

/* ---- device ---- */

static void i8237_reset(struct device *dev)
{
	struct i8237 *d = container_of(dev, struct i8237, base);

	memset(d->chip, 0, sizeof(d->chip));
	memset(d->latch, 0, sizeof(d->latch));
	master_clear(&d->chip[0]);
	master_clear(&d->chip[1]);
}

static void i8237_destroy(struct device *dev)
{
	free(container_of(dev, struct i8237, base));
}

#define FIELD(f, mask) \
	{ #f, offsetof(struct i8237, f), STATE_TYPE_UINT, STATE_ELEM_SIZE(struct i8237, f), 1, \
	  UINT64_MAX, mask }
#define CHANNEL_FIELDS(c) \
	FIELD(c.base_address, UINT64_MAX), FIELD(c.base_count, UINT64_MAX), \
	FIELD(c.address, UINT64_MAX), FIELD(c.count, UINT64_MAX), \
	FIELD(c.mode, 0xfc), FIELD(c.page, UINT64_MAX)
#define CHIP_FIELDS(c) \
	CHANNEL_FIELDS(c.ch[0]), CHANNEL_FIELDS(c.ch[1]), CHANNEL_FIELDS(c.ch[2]), \
	CHANNEL_FIELDS(c.ch[3]), FIELD(c.command, UINT64_MAX), FIELD(c.mask, 0xf), \
	FIELD(c.status, UINT64_MAX), STATE_BOOL(struct i8237, c.flipflop)

static const struct state_field i8237_fields[] = {
	CHIP_FIELDS(chip[0]),
	CHIP_FIELDS(chip[1]),
	STATE_BYTES(struct i8237, latch),
	STATE_END,
};

static const struct device_ops i8237_ops = {
	.name = "i8237",
	.reset = i8237_reset,
	.destroy = i8237_destroy,
	.fields = i8237_fields, .size = sizeof(struct i8237),
};

struct device *i8237_create(struct machine *m, struct error *err)
{
	struct i8237 *d = calloc(1, sizeof(*d));

	if (!d) {
		error_set(err, "out of memory for the DMA controllers");
		return NULL;
	}
	d->base.ops = &i8237_ops;
	d->machine = m;
	ioport_add(m->io, 0x00, 0x10, &low_ops, d, "dma0");
	ioport_add(m->io, 0xc0, 0x20, &high_ops, d, "dma1");
	/* 0x80 is the POST code port, somebody else's. */
	ioport_add(m->io, 0x81, 0x0f, &page_ops, d, "dma-page");
	machine_add(m, &d->base);
	return &d->base;
}
