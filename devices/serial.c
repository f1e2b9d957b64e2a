/* 16550A serial port.
 *
 * National Semiconductor PC16550D data sheet (1995). As on a PC's serial card,
 * OUT2 connects the interrupt output to the bus.
 *
 * Nothing is slowed down to the programmed speed: a byte written leaves at
 * once, so the transmitter is empty again before the guest can look, and the
 * "transmitter empty" interrupt follows each write. Only when the other end
 * takes no more do bytes wait in the transmit FIFO, with LSR.THRE clear, and
 * nothing is lost. Received bytes are taken from the other end as the FIFO has
 * room, so there are no overruns either, outside loopback mode. The divisor
 * still sets the length of the receive time-out.
 */
#include "devices/serial.h"

#include <stdlib.h>

#include "core/chardev.h"
#include "core/ioport.h"
#include "core/loop.h"
#include "core/machine.h"
#include "core/state.h"
#include "core/util.h"

enum {
	SERIAL_RBR = 0, /* R: receive buffer; W: THR, transmitter holding; DLAB: DLL */
	SERIAL_IER = 1, /* RW; DLAB: DLM */
	SERIAL_IIR = 2, /* R; W: FCR */
	SERIAL_LCR = 3,
	SERIAL_MCR = 4,
	SERIAL_LSR = 5, /* R; writes are for factory test */
	SERIAL_MSR = 6, /* R */
	SERIAL_SCR = 7,
	SERIAL_PORTS = 8,
};

enum {
	IER_ERBFI = 1 << 0, /* received data */
	IER_ETBEI = 1 << 1, /* transmitter holding register empty */
	IER_ELSI = 1 << 2,  /* line status */
	IER_EDSSI = 1 << 3, /* modem status */
	IER_MASK = 0x0f,
};

enum {
	IIR_NONE = 0x01,
	IIR_MODEM = 0x00,
	IIR_THRE = 0x02,
	IIR_DATA = 0x04,
	IIR_LINE = 0x06,
	IIR_TIMEOUT = 0x0c,
	IIR_FIFO = 0xc0,
};

enum {
	FCR_ENABLE = 1 << 0,
	FCR_RX_RESET = 1 << 1,
	FCR_TX_RESET = 1 << 2,
	FCR_KEPT = 0xc9, /* enable, DMA mode, trigger level */
};

enum {
	LCR_LENGTH = 3,
	LCR_STOP = 1 << 2,
	LCR_PARITY = 1 << 3,
	LCR_DLAB = 1 << 7,
};

enum {
	MCR_DTR = 1 << 0,
	MCR_RTS = 1 << 1,
	MCR_OUT1 = 1 << 2,
	MCR_OUT2 = 1 << 3,
	MCR_LOOP = 1 << 4,
	MCR_MASK = 0x1f,
};

enum {
	LSR_DR = 1 << 0,
	LSR_OE = 1 << 1,
	LSR_PE = 1 << 2,
	LSR_FE = 1 << 3,
	LSR_BI = 1 << 4,
	LSR_THRE = 1 << 5,
	LSR_TEMT = 1 << 6,
	LSR_FIFO_ERROR = 1 << 7,
	LSR_CHAR = LSR_PE | LSR_FE | LSR_BI, /* belong to the byte at the front */
	LSR_ERRORS = LSR_OE | LSR_CHAR,
};

enum {
	MSR_DCTS = 1 << 0,
	MSR_DDSR = 1 << 1,
	MSR_TERI = 1 << 2,
	MSR_DDCD = 1 << 3,
	MSR_CTS = 1 << 4,
	MSR_DSR = 1 << 5,
	MSR_RI = 1 << 6,
	MSR_DCD = 1 << 7,
	MSR_DELTAS = 0x0f,
	MSR_LINES = 0xf0,
};

enum {
	FIFO_SIZE = 16,
	BAUD_BASE = 115200, /* 1.8432 MHz / 16 */
	TIMEOUT_CHARS = 4,
	TIMEOUT_MAX_NS = 20000000, /* for divisors nobody means */
};

struct serial_fifo {
	uint8_t data[FIFO_SIZE];
	uint8_t error[FIFO_SIZE]; /* LSR_CHAR bits that came with the byte */
	uint8_t head, count;
};

struct serial {
	struct device base;
	struct machine *machine;  /* borrowed */
	struct chardev *chardev;  /* borrowed; NULL: nothing plugged in */
	struct irq_line irq;
	uint16_t iobase;
	struct ioport_range *ports;
	bool irq_level;           /* as last driven */

	uint8_t ier, lcr, mcr, scr;
	uint8_t fcr;              /* FCR_KEPT bits */
	uint8_t lsr;              /* LSR_OE only; the rest follows from the FIFOs */
	uint8_t msr;
	uint8_t lines;            /* MSR_LINES as the other end drives them */
	uint16_t divisor;
	uint8_t last;             /* what RBR reads while nothing is there */
	bool thre_pending;        /* the holding register became empty, not yet reported */
	bool timeout_pending;
	struct serial_fifo rx, tx;
	struct timer timeout;
};

/* ---- FIFOs ---- */

static unsigned fifo_depth(const struct serial *s)
{
	return s->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static void fifo_put(struct serial_fifo *f, uint8_t byte, uint8_t error)
{
	unsigned i = (f->head + f->count) % FIFO_SIZE;

	f->data[i] = byte;
	f->error[i] = error;
	f->count++;
}

static uint8_t fifo_get(struct serial_fifo *f)
{
	uint8_t byte = f->data[f->head];

	f->head = (f->head + 1) % FIFO_SIZE;
	f->count--;
	return byte;
}

static void fifo_clear(struct serial_fifo *f)
{
	f->head = f->count = 0;
}

static unsigned rx_trigger(const struct serial *s)
{
	static const uint8_t level[] = { 1, 4, 8, 14 };

	return s->fcr & FCR_ENABLE ? level[s->fcr >> 6] : 1;
}

/* ---- interrupts ---- */

static uint8_t serial_lsr(const struct serial *s)
{
	uint8_t lsr = s->lsr;

	if (s->rx.count) {
		lsr |= LSR_DR | s->rx.error[s->rx.head];
		for (unsigned i = 0; i < s->rx.count && (s->fcr & FCR_ENABLE); i++) {
			if (s->rx.error[(s->rx.head + i) % FIFO_SIZE])
				lsr |= LSR_FIFO_ERROR;
		}
	}
	if (!s->tx.count)
		lsr |= LSR_THRE | LSR_TEMT;
	return lsr;
}

/* Section 8.6.3: line status, data, time-out, transmitter, modem status. */
static uint8_t serial_interrupt(const struct serial *s)
{
	if ((s->ier & IER_ELSI) && ((s->lsr & LSR_OE) ||
				    (s->rx.count && s->rx.error[s->rx.head])))
		return IIR_LINE;
	if ((s->ier & IER_ERBFI) && s->rx.count >= rx_trigger(s))
		return IIR_DATA;
	if ((s->ier & IER_ERBFI) && s->timeout_pending)
		return IIR_TIMEOUT;
	if ((s->ier & IER_ETBEI) && s->thre_pending)
		return IIR_THRE;
	if ((s->ier & IER_EDSSI) && (s->msr & MSR_DELTAS))
		return IIR_MODEM;
	return IIR_NONE;
}

static void serial_update(struct serial *s)
{
	bool level = (s->mcr & MCR_OUT2) && serial_interrupt(s) != IIR_NONE;

	if (level != s->irq_level) {
		s->irq_level = level;
		irq_set(&s->irq, level);
	}
}

/* ---- receiving ---- */

static int64_t char_ns(const struct serial *s)
{
	/* In half bits, for "one and a half stop bits". */
	unsigned length = 5 + (s->lcr & LCR_LENGTH);
	unsigned half = 2 * (1 + length + !!(s->lcr & LCR_PARITY));

	half += !(s->lcr & LCR_STOP) ? 2 : length == 5 ? 3 : 4;
	return NS_PER_S * half * MAX(s->divisor, 1) / (2 * BAUD_BASE);
}

/* The time-out counts from the last byte that came or was read. */
static void timeout_restart(struct serial *s)
{
	s->timeout_pending = false;
	if (!(s->fcr & FCR_ENABLE) || !s->rx.count) {
		timer_disarm(&s->timeout);
		return;
	}
	timer_arm(&s->timeout, loop_now(s->machine->loop) +
		  MIN(TIMEOUT_CHARS * char_ns(s), (int64_t)TIMEOUT_MAX_NS));
}

static void timeout_fire(void *opaque)
{
	struct serial *s = opaque;

	if (s->rx.count)
		s->timeout_pending = true;
	serial_update(s);
}

static void rx_byte(struct serial *s, uint8_t byte, uint8_t error)
{
	if (s->rx.count >= fifo_depth(s)) {
		/* The byte in the shift register is lost; without FIFO it
		 * replaces the one nobody read. */
		s->lsr |= LSR_OE;
		if (!(s->fcr & FCR_ENABLE))
			s->rx.data[s->rx.head] = byte;
		return;
	}
	fifo_put(&s->rx, byte, error);
}

static size_t serial_can_receive(void *opaque)
{
	const struct serial *s = opaque;

	if (s->mcr & MCR_LOOP)
		return 0;
	return fifo_depth(s) - MIN(s->rx.count, fifo_depth(s));
}

static void serial_receive(void *opaque, const uint8_t *buf, size_t len)
{
	struct serial *s = opaque;

	for (size_t i = 0; i < len; i++)
		rx_byte(s, buf[i], 0);
	timeout_restart(s);
	serial_update(s);
}

static uint8_t rbr_read(struct serial *s)
{
	if (s->rx.count) {
		s->last = fifo_get(&s->rx);
		timeout_restart(s);
		serial_update(s);
		if (!s->rx.count)
			chardev_accept_input(s->chardev);
	}
	return s->last;
}

/* ---- modem lines ---- */

static uint8_t current_lines(const struct serial *s)
{
	uint8_t lines = 0;

	if (!(s->mcr & MCR_LOOP))
		return s->lines;
	if (s->mcr & MCR_RTS)
		lines |= MSR_CTS;
	if (s->mcr & MCR_DTR)
		lines |= MSR_DSR;
	if (s->mcr & MCR_OUT1)
		lines |= MSR_RI;
	if (s->mcr & MCR_OUT2)
		lines |= MSR_DCD;
	return lines;
}

static void modem_update(struct serial *s)
{
	uint8_t lines = current_lines(s);
	uint8_t changed = (lines ^ s->msr) & MSR_LINES;

	/* RI reports its trailing edge only. */
	if (lines & MSR_RI)
		changed &= ~MSR_RI;
	s->msr = lines | (s->msr & MSR_DELTAS) | changed >> 4;
	serial_update(s);
}

static void serial_event(void *opaque, enum chardev_event event)
{
	struct serial *s = opaque;

	switch (event) {
	case CHARDEV_BREAK:
		if (s->mcr & MCR_LOOP)
			break;
		rx_byte(s, 0, LSR_BI);
		timeout_restart(s);
		serial_update(s);
		break;
	case CHARDEV_OPENED:
		s->lines |= MSR_DSR | MSR_DCD;
		modem_update(s);
		break;
	case CHARDEV_CLOSED:
		/* CTS stays: a guest with flow control must not hang on nobody. */
		s->lines &= ~(MSR_DSR | MSR_DCD);
		modem_update(s);
		break;
	case CHARDEV_GONE:
		s->chardev = NULL;
		break;
	}
}

/* ---- transmitting ---- */

static void tx_emptied(struct serial *s)
{
	/* The output falls between two events: the controller wants an edge. */
	s->thre_pending = false;
	serial_update(s);
	s->thre_pending = true;
	serial_update(s);
}

static void serial_can_write(void *opaque)
{
	struct serial *s = opaque;

	if (!s->tx.count)
		return;
	while (s->tx.count) {
		if (!chardev_write(s->chardev, &s->tx.data[s->tx.head], 1))
			return;
		fifo_get(&s->tx);
	}
	tx_emptied(s);
}

static void thr_write(struct serial *s, uint8_t byte)
{
	if (s->mcr & MCR_LOOP) {
		rx_byte(s, byte, 0);
		timeout_restart(s);
		tx_emptied(s);
		return;
	}
	if (!s->tx.count && chardev_write(s->chardev, &byte, 1)) {
		tx_emptied(s);
		return;
	}
	if (s->tx.count < fifo_depth(s))
		fifo_put(&s->tx, byte, 0);
	else if (!(s->fcr & FCR_ENABLE))
		s->tx.data[s->tx.head] = byte; /* overwritten, as the data sheet warns */
	s->thre_pending = false;
	serial_update(s);
}

/* ---- registers ---- */

static void fcr_write(struct serial *s, uint8_t value)
{
	if ((value ^ s->fcr) & FCR_ENABLE)
		value |= FCR_RX_RESET | FCR_TX_RESET;
	else if (!(value & FCR_ENABLE))
		return; /* the other bits are not programmed without it */
	s->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
	if (value & FCR_RX_RESET) {
		fifo_clear(&s->rx);
		timeout_restart(s);
	}
	if ((value & FCR_TX_RESET) && s->tx.count) {
		fifo_clear(&s->tx);
		s->thre_pending = true;
	}
	serial_update(s);
	chardev_accept_input(s->chardev);
}

static void ier_write(struct serial *s, uint8_t value)
{
	uint8_t risen = value & ~s->ier;

	s->ier = value & IER_MASK;
	/* Enabling it while the holding register is empty reports that (8.6.4);
	 * drivers start a transmission this way. */
	if ((risen & IER_ETBEI) && !s->tx.count)
		s->thre_pending = true;
	serial_update(s);
}

static void mcr_write(struct serial *s, uint8_t value)
{
	bool left_loop = (s->mcr & MCR_LOOP) && !(value & MCR_LOOP);

	s->mcr = value & MCR_MASK;
	modem_update(s);
	if (left_loop)
		chardev_accept_input(s->chardev);
}

static uint8_t iir_read(struct serial *s)
{
	uint8_t iir = serial_interrupt(s);

	if (iir == IIR_THRE) {
		s->thre_pending = false;
		serial_update(s);
	}
	return iir | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t lsr_read(struct serial *s)
{
	uint8_t lsr = serial_lsr(s);

	if (lsr & LSR_ERRORS) {
		s->lsr = 0;
		if (s->rx.count)
			s->rx.error[s->rx.head] = 0;
		serial_update(s);
	}
	return lsr;
}

static uint8_t msr_read(struct serial *s)
{
	uint8_t msr = s->msr;

	s->msr &= MSR_LINES;
	serial_update(s);
	return msr;
}

static uint32_t serial_read(void *opaque, uint16_t port, unsigned size)
{
	struct serial *s = opaque;

	(void)size;
	switch (port - s->iobase) {
	case SERIAL_RBR:
		return s->lcr & LCR_DLAB ? s->divisor & 0xff : rbr_read(s);
	case SERIAL_IER:
		return s->lcr & LCR_DLAB ? s->divisor >> 8 : s->ier;
	case SERIAL_IIR:
		return iir_read(s);
	case SERIAL_LCR:
		return s->lcr;
	case SERIAL_MCR:
		return s->mcr;
	case SERIAL_LSR:
		return lsr_read(s);
	case SERIAL_MSR:
		return msr_read(s);
	default:
		return s->scr;
	}
}

static void serial_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct serial *s = opaque;

	(void)size;
	switch (port - s->iobase) {
	case SERIAL_RBR:
		if (s->lcr & LCR_DLAB)
			s->divisor = (s->divisor & 0xff00) | (value & 0xff);
		else
			thr_write(s, value);
		break;
	case SERIAL_IER:
		if (s->lcr & LCR_DLAB)
			s->divisor = (s->divisor & 0xff) | (value & 0xff) << 8;
		else
			ier_write(s, value);
		break;
	case SERIAL_IIR:
		fcr_write(s, value);
		break;
	case SERIAL_LCR:
		s->lcr = value;
		break;
	case SERIAL_MCR:
		mcr_write(s, value);
		break;
	case SERIAL_SCR:
		s->scr = value;
		break;
	}
}

/* REP OUTSB to THR: what the other end takes at once. */
static size_t serial_write_block(void *opaque, uint16_t port, unsigned size,
				 const uint8_t *buf, size_t count)
{
	struct serial *s = opaque;
	size_t n;

	if (port != s->iobase || size != 1 || (s->lcr & LCR_DLAB) ||
	    (s->mcr & MCR_LOOP) || s->tx.count)
		return 0;
	n = chardev_write(s->chardev, buf, count);
	if (n)
		tx_emptied(s);
	return n;
}

static const struct ioport_ops serial_ports = {
	.read = serial_read,
	.write = serial_write,
	.write_block = serial_write_block,
	.sizes = 1,
};

/* ---- life ---- */

static void serial_reset(struct device *dev)
{
	struct serial *s = container_of(dev, struct serial, base);

	/* Table I: the divisor and the scratch register keep their values. */
	s->ier = s->lcr = s->mcr = s->fcr = s->lsr = 0;
	s->thre_pending = false;
	fifo_clear(&s->rx);
	fifo_clear(&s->tx);
	timeout_restart(s);
	s->msr = s->lines;
	serial_update(s);
	chardev_accept_input(s->chardev);
}

static void serial_destroy(struct device *dev)
{
	struct serial *s = container_of(dev, struct serial, base);

	chardev_set_handlers(s->chardev, NULL, NULL);
	timer_disarm(&s->timeout);
	if (s->ports)
		ioport_remove(s->machine->io, s->ports);
	free(s);
}

static void serial_loaded(struct device *dev)
{
	struct serial *s = container_of(dev, struct serial, base);

	for (unsigned i = 0; i < FIFO_SIZE; i++)
		s->rx.error[i] &= LSR_CHAR;
	s->irq_level = (s->mcr & MCR_OUT2) && serial_interrupt(s) != IIR_NONE;
	/* Who is at the other end is this process's, not the image's. */
	if (!(s->mcr & MCR_LOOP))
		modem_update(s);
	serial_can_write(s);
	chardev_accept_input(s->chardev);
}

static const struct state_field serial_fields[] = {
	STATE_UINT_MASKED(struct serial, ier, IER_MASK),
	STATE_UINT(struct serial, lcr),
	STATE_UINT_MASKED(struct serial, mcr, MCR_MASK),
	STATE_UINT(struct serial, scr),
	STATE_UINT_MASKED(struct serial, fcr, FCR_KEPT),
	STATE_UINT_MASKED(struct serial, lsr, LSR_OE),
	STATE_UINT(struct serial, msr),
	STATE_UINT(struct serial, divisor),
	STATE_UINT(struct serial, last),
	STATE_BOOL(struct serial, thre_pending),
	STATE_BOOL(struct serial, timeout_pending),
	STATE_BYTES(struct serial, rx.data),
	STATE_BYTES(struct serial, rx.error),
	STATE_UINT_MAX(struct serial, rx.head, FIFO_SIZE - 1),
	STATE_UINT_MAX(struct serial, rx.count, FIFO_SIZE),
	STATE_BYTES(struct serial, tx.data),
	STATE_UINT_MAX(struct serial, tx.head, FIFO_SIZE - 1),
	STATE_UINT_MAX(struct serial, tx.count, FIFO_SIZE),
	STATE_TIMER(struct serial, timeout),
	STATE_END,
};

static const struct device_ops serial_ops = {
	.name = "serial",
	.reset = serial_reset,
	.destroy = serial_destroy,
	.fields = serial_fields, .size = sizeof(struct serial),
	.loaded = serial_loaded,
};

static const struct chardev_handlers serial_chardev = {
	.can_receive = serial_can_receive,
	.receive = serial_receive,
	.can_write = serial_can_write,
	.event = serial_event,
};

struct device *serial_create(struct machine *m, uint16_t iobase,
			     const struct irq_line *irq, struct chardev *chardev,
			     struct error *err)
{
	struct serial *s = calloc(1, sizeof(*s));

	if (!s) {
		error_set(err, "out of memory for a serial port");
		return NULL;
	}
	s->base.ops = &serial_ops;
	s->machine = m;
	s->chardev = chardev;
	s->irq = *irq;
	s->iobase = iobase;
	s->divisor = 12; /* 9600, in case the guest never sets it */
	s->lines = MSR_CTS;
	if (!chardev || chardev_connected(chardev))
		s->lines |= MSR_DSR | MSR_DCD;
	timer_init(&s->timeout, m->loop, "serial-timeout", timeout_fire, s);
	s->ports = ioport_add(m->io, iobase, SERIAL_PORTS, &serial_ports, s, "serial");
	if (!s->ports) {
		error_set(err, "serial port 0x%x: cannot claim its ports", iobase);
		free(s);
		return NULL;
	}
	machine_add(m, &s->base);
	chardev_set_handlers(chardev, &serial_chardev, s);
	chardev_accept_input(chardev);
	return &s->base;
}
