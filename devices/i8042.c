/* PS/2 keyboard and mouse controller, ports 0x60 and 0x64.
 *
 * IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary
 * Device Controller"; Intel UPI-42 for what the chip is.
 *
 * There is one output buffer. After the guest has read it, the next byte comes
 * a little later, as over the serial lines of the real thing: interrupt
 * handlers that are chained (DOS) read port 0x60 twice and must see the same
 * byte. Answers of the controller itself come at once; a byte from a device
 * that stands in their way goes back to its queue.
 *
 * A20 is shared with port 0x92: its state lives in the memory map.
 */
#include "devices/i8042.h"

#include <stdlib.h>

#include "core/ioport.h"
#include "core/loop.h"
#include "core/machine.h"
#include "core/memory.h"
#include "core/state.h"
#include "core/util.h"
#include "devices/ps2.h"

enum { PORT_DATA = 0x60, PORT_COMMAND = 0x64 }; /* 0x64 reads as the status */

enum { /* status register */
	STATUS_OBF = 1 << 0,     /* output buffer full */
	STATUS_SYS = 1 << 2,     /* system flag */
	STATUS_COMMAND = 1 << 3, /* last write went to 0x64 */
	STATUS_UNLOCKED = 1 << 4,
	STATUS_AUX = 1 << 5,     /* the byte is the mouse's */
};

enum { /* command byte */
	MODE_KBD_IRQ = 1 << 0,
	MODE_AUX_IRQ = 1 << 1,
	MODE_SYS = 1 << 2,
	MODE_KBD_OFF = 1 << 4,
	MODE_AUX_OFF = 1 << 5,
	MODE_TRANSLATE = 1 << 6,
	MODE_RESET = MODE_KBD_IRQ | MODE_SYS | MODE_TRANSLATE, /* as firmware leaves it */
};

enum { /* output port */
	OUT_NO_RESET = 1 << 0,
	OUT_A20 = 1 << 1,
	OUT_IRQ1 = 1 << 4,
	OUT_IRQ12 = 1 << 5,
	OUT_LINES = 0xc0, /* clock high, data high */
};

enum {
	CMD_READ_RAM = 0x20, /* ..0x3f */
	CMD_WRITE_RAM = 0x60, /* ..0x7f */
	CMD_PASSWORD_TEST = 0xa4,
	CMD_PASSWORD_LOAD = 0xa5,
	CMD_PASSWORD_ENABLE = 0xa6,
	CMD_AUX_OFF = 0xa7,
	CMD_AUX_ON = 0xa8,
	CMD_AUX_TEST = 0xa9,
	CMD_SELF_TEST = 0xaa,
	CMD_KBD_TEST = 0xab,
	CMD_KBD_OFF = 0xad,
	CMD_KBD_ON = 0xae,
	CMD_READ_INPUT = 0xc0,
	CMD_POLL_LOW = 0xc1,
	CMD_POLL_HIGH = 0xc2,
	CMD_READ_OUTPUT = 0xd0,
	CMD_WRITE_OUTPUT = 0xd1,
	CMD_WRITE_KBD_BUFFER = 0xd2,
	CMD_WRITE_AUX_BUFFER = 0xd3,
	CMD_WRITE_AUX = 0xd4,
	CMD_A20_OFF = 0xdd, /* as later chips have it */
	CMD_A20_ON = 0xdf,
	CMD_READ_TEST = 0xe0,
	CMD_PULSE = 0xf0, /* ..0xff */
};

enum { INPUT_PORT = 0xa0, RAM_SIZE = 32, BYTE_NS = 250000 };

enum source { FROM_NONE, FROM_KBD, FROM_AUX, FROM_SELF };

struct i8042 {
	struct device base;
	struct machine *machine; /* borrowed */
	struct irq_line irq1, irq12;
	struct ioport_range *data_port, *command_port;

	struct ps2_keyboard kbd;
	struct ps2_mouse mouse;
	struct timer next;    /* when the next byte may enter the output buffer */
	uint8_t ram[RAM_SIZE]; /* [0] is the command byte */
	uint8_t status;       /* without STATUS_OBF and STATUS_AUX */
	uint8_t pending;      /* command that waits for its data byte; 0: none */
	uint8_t data;         /* output buffer: keeps its value after being read */
	uint8_t raw;          /* what the device sent, before translation */
	uint8_t source;       /* enum source of `data` while it is unread */
	bool from_aux;        /* STATUS_AUX of `data` */
	bool raise;           /* `data` asks for an interrupt if its line is enabled */
	bool break_prefix;    /* translation has swallowed F0 */
};

static uint8_t mode(const struct i8042 *s)
{
	return s->ram[0];
}

static void update_irqs(struct i8042 *s)
{
	bool full = s->source != FROM_NONE && s->raise;

	irq_set(&s->irq1, full && !s->from_aux && (mode(s) & MODE_KBD_IRQ));
	irq_set(&s->irq12, full && s->from_aux && (mode(s) & MODE_AUX_IRQ));
}

static void load(struct i8042 *s, uint8_t byte, enum source source, bool aux, bool raise)
{
	s->data = byte;
	s->source = source;
	s->from_aux = aux;
	s->raise = raise;
	update_irqs(s);
}

/* ---- bytes from the devices ---- */

/* Returns false if the byte only changes the next one (F0 under translation). */
static bool kbd_byte(struct i8042 *s, uint8_t raw)
{
	uint8_t byte = raw;

	if (mode(s) & MODE_TRANSLATE) {
		if (raw == 0xf0) {
			s->break_prefix = true;
			return false;
		}
		byte = ps2_translate(raw) | (s->break_prefix ? 0x80 : 0);
	}
	s->break_prefix = false;
	s->raw = raw;
	load(s, byte, FROM_KBD, false, true);
	return true;
}

static void fetch(struct i8042 *s)
{
	uint8_t byte;

	if (s->source != FROM_NONE || timer_armed(&s->next))
		return;
	while (!(mode(s) & MODE_KBD_OFF) && ps2_keyboard_read(&s->kbd, &byte)) {
		if (kbd_byte(s, byte))
			return;
	}
	if (!(mode(s) & MODE_AUX_OFF) && ps2_mouse_read(&s->mouse, &byte)) {
		s->raw = byte;
		load(s, byte, FROM_AUX, true, true);
	}
}

static void device_changed(void *opaque)
{
	fetch(opaque);
}

static void next_fire(void *opaque)
{
	fetch(opaque);
}

/* The controller itself has something to say. */
static void answer(struct i8042 *s, uint8_t byte, bool aux, bool raise)
{
	if (s->source == FROM_KBD)
		ps2_keyboard_unread(&s->kbd, s->raw);
	else if (s->source == FROM_AUX)
		ps2_mouse_unread(&s->mouse, s->raw);
	/* The line drops first: the controller wants an edge for each byte. */
	s->source = FROM_NONE;
	update_irqs(s);
	load(s, byte, FROM_SELF, aux, raise);
}

/* ---- output port ---- */

static uint8_t output_port(const struct i8042 *s)
{
	bool full = s->source != FROM_NONE;

	return OUT_NO_RESET | OUT_LINES | (memory_a20(s->machine->memory) ? OUT_A20 : 0) |
	       (full && !s->from_aux ? OUT_IRQ1 : 0) | (full && s->from_aux ? OUT_IRQ12 : 0);
}

static void write_output_port(struct i8042 *s, uint8_t value)
{
	memory_set_a20(s->machine->memory, value & OUT_A20);
	if (!(value & OUT_NO_RESET))
		machine_request_reset(s->machine);
}

/* ---- registers ---- */

static void set_mode(struct i8042 *s, uint8_t value)
{
	s->ram[0] = value;
	s->status = (s->status & ~STATUS_SYS) | (value & MODE_SYS);
	update_irqs(s);
	fetch(s);
}

static void take_command(struct i8042 *s, uint8_t cmd)
{
	s->pending = 0;
	if (cmd >= CMD_READ_RAM && cmd < CMD_READ_RAM + RAM_SIZE) {
		answer(s, s->ram[cmd - CMD_READ_RAM], false, false);
		return;
	}
	if (cmd >= CMD_PULSE) {
		/* Bits that are 0 pulse their line low; only reset does anything. */
		if (!(cmd & OUT_NO_RESET))
			machine_request_reset(s->machine);
		return;
	}
	switch (cmd) {
	case CMD_PASSWORD_TEST:
		answer(s, 0xf1, false, false); /* none installed */
		break;
	case CMD_AUX_OFF:
		set_mode(s, mode(s) | MODE_AUX_OFF);
		break;
	case CMD_AUX_ON:
		set_mode(s, mode(s) & ~MODE_AUX_OFF);
		break;
	case CMD_AUX_TEST:
	case CMD_KBD_TEST:
		answer(s, 0x00, false, false);
		break;
	case CMD_SELF_TEST:
		s->status |= STATUS_SYS;
		answer(s, 0x55, false, false);
		break;
	case CMD_KBD_OFF:
		set_mode(s, mode(s) | MODE_KBD_OFF);
		break;
	case CMD_KBD_ON:
		set_mode(s, mode(s) & ~MODE_KBD_OFF);
		break;
	case CMD_READ_INPUT:
		answer(s, INPUT_PORT, false, false);
		break;
	case CMD_POLL_LOW:
	case CMD_POLL_HIGH:
		/* Would show the input port in status bits 4-7 for a moment:
		 * nothing there changes, and nobody is known to look. */
		break;
	case CMD_READ_OUTPUT:
		answer(s, output_port(s), false, false);
		break;
	case CMD_A20_OFF:
	case CMD_A20_ON:
		memory_set_a20(s->machine->memory, cmd == CMD_A20_ON);
		break;
	case CMD_READ_TEST:
		answer(s, 0x00, false, false);
		break;
	case CMD_PASSWORD_LOAD:
	case CMD_WRITE_OUTPUT:
	case CMD_WRITE_KBD_BUFFER:
	case CMD_WRITE_AUX_BUFFER:
	case CMD_WRITE_AUX:
		s->pending = cmd;
		break;
	default:
		if (cmd >= CMD_WRITE_RAM && cmd < CMD_WRITE_RAM + RAM_SIZE)
			s->pending = cmd;
		else if (trace_on(&s->machine->trace, TRACE_DEV))
			trace_print(&s->machine->trace, TRACE_DEV, "i8042: unknown command %02x", cmd);
	}
}

static void take_data(struct i8042 *s, uint8_t value)
{
	uint8_t cmd = s->pending;

	/* A password is scan codes up to a zero; it is not kept, as none can be
	 * enabled. */
	if (cmd != CMD_PASSWORD_LOAD || !value)
		s->pending = 0;
	switch (cmd) {
	case 0:
		s->ram[0] &= ~MODE_KBD_OFF; /* talking to it opens the line */
		ps2_keyboard_write(&s->kbd, value);
		break;
	case CMD_PASSWORD_LOAD:
		break;
	case CMD_WRITE_OUTPUT:
		write_output_port(s, value);
		break;
	case CMD_WRITE_KBD_BUFFER:
		answer(s, value, false, true);
		break;
	case CMD_WRITE_AUX_BUFFER:
		answer(s, value, true, true);
		break;
	case CMD_WRITE_AUX:
		s->ram[0] &= ~MODE_AUX_OFF;
		ps2_mouse_write(&s->mouse, value);
		break;
	case CMD_WRITE_RAM:
		set_mode(s, value);
		break;
	default:
		s->ram[cmd % RAM_SIZE] = value;
	}
}

static uint32_t data_read(void *opaque, uint16_t port, unsigned size)
{
	struct i8042 *s = opaque;

	if (s->source == FROM_NONE)
		return s->data;
	s->source = FROM_NONE;
	update_irqs(s);
	timer_arm(&s->next, loop_now(s->machine->loop) + BYTE_NS);
	return s->data;
}

static void data_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct i8042 *s = opaque;

	s->status &= ~STATUS_COMMAND;
	take_data(s, value);
}

static uint32_t status_read(void *opaque, uint16_t port, unsigned size)
{
	const struct i8042 *s = opaque;

	if (s->source == FROM_NONE)
		return s->status;
	return s->status | STATUS_OBF | (s->from_aux ? STATUS_AUX : 0);
}

static void command_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct i8042 *s = opaque;

	s->status |= STATUS_COMMAND;
	take_command(s, value);
}

static const struct ioport_ops data_ops = { .read = data_read, .write = data_write, .sizes = 1 };
static const struct ioport_ops command_ops = { .read = status_read, .write = command_write, .sizes = 1 };

/* ---- life ---- */

static void i8042_reset(struct device *dev)
{
	struct i8042 *s = container_of(dev, struct i8042, base);

	timer_disarm(&s->next);
	ps2_keyboard_reset(&s->kbd);
	ps2_mouse_reset(&s->mouse);
	for (unsigned i = 1; i < RAM_SIZE; i++)
		s->ram[i] = 0;
	s->pending = 0;
	s->data = s->raw = 0;
	s->source = FROM_NONE;
	s->from_aux = s->raise = s->break_prefix = false;
	s->status = STATUS_UNLOCKED;
	set_mode(s, MODE_RESET);
}

static void i8042_destroy(struct device *dev)
{
	struct i8042 *s = container_of(dev, struct i8042, base);

	timer_disarm(&s->next);
	ps2_keyboard_finish(&s->kbd);
	if (s->data_port)
		ioport_remove(s->machine->io, s->data_port);
	if (s->command_port)
		ioport_remove(s->machine->io, s->command_port);
	free(s);
}

static void i8042_loaded(struct device *dev)
{
	struct i8042 *s = container_of(dev, struct i8042, base);

	update_irqs(s);
}

#define QUEUE_FIELDS(f) \
	STATE_BYTES(struct i8042, f.data), \
	STATE_UINT_MAX(struct i8042, f.head, PS2_QUEUE_SIZE - 1), \
	STATE_UINT_MAX(struct i8042, f.count, PS2_QUEUE_SIZE)

static const struct state_field i8042_fields[] = {
	QUEUE_FIELDS(kbd.reply),
	QUEUE_FIELDS(kbd.keys),
	STATE_TIMER(struct i8042, kbd.repeat),
	STATE_UINT_MAX(struct i8042, kbd.scan_set, 3),
	STATE_UINT_MASKED(struct i8042, kbd.leds, 7),
	STATE_UINT_MASKED(struct i8042, kbd.rate, 0x7f),
	STATE_UINT(struct i8042, kbd.pending),
	STATE_UINT(struct i8042, kbd.last_sent),
	STATE_UINT(struct i8042, kbd.repeat_key),
	STATE_UINT(struct i8042, kbd.modifiers),
	STATE_BOOL(struct i8042, kbd.scanning),
	STATE_BYTES(struct i8042, kbd.key_type),
	QUEUE_FIELDS(mouse.out),
	STATE_UINT(struct i8042, mouse.buttons),
	STATE_UINT(struct i8042, mouse.reported),
	STATE_UINT_MAX(struct i8042, mouse.id, 4),
	STATE_UINT_MAX(struct i8042, mouse.resolution, 3),
	STATE_UINT_MAX(struct i8042, mouse.rate, 200),
	STATE_BYTES(struct i8042, mouse.history),
	STATE_UINT(struct i8042, mouse.pending),
	STATE_UINT(struct i8042, mouse.last_sent),
	STATE_BOOL(struct i8042, mouse.reporting),
	STATE_BOOL(struct i8042, mouse.remote),
	STATE_BOOL(struct i8042, mouse.wrap),
	STATE_BOOL(struct i8042, mouse.scaling21),
	STATE_BOOL(struct i8042, mouse.error_before),
	STATE_TIMER(struct i8042, next),
	STATE_BYTES(struct i8042, ram),
	STATE_UINT_MASKED(struct i8042, status, STATUS_SYS | STATUS_COMMAND | STATUS_UNLOCKED),
	STATE_UINT(struct i8042, pending),
	STATE_UINT(struct i8042, data),
	STATE_UINT(struct i8042, raw),
	STATE_UINT_MAX(struct i8042, source, FROM_SELF),
	STATE_BOOL(struct i8042, from_aux),
	STATE_BOOL(struct i8042, raise),
	STATE_BOOL(struct i8042, break_prefix),
	STATE_END,
};

static const struct device_ops i8042_ops = {
	.name = "i8042",
	.reset = i8042_reset,
	.destroy = i8042_destroy,
	.fields = i8042_fields, .size = sizeof(struct i8042),
	.loaded = i8042_loaded,
};

struct device *i8042_create(struct machine *m, const struct irq_line *irq1,
			    const struct irq_line *irq12, struct error *err)
{
	struct i8042 *s = calloc(1, sizeof(*s));

	if (!s) {
		error_set(err, "out of memory for the keyboard controller");
		return NULL;
	}
	s->base.ops = &i8042_ops;
	s->machine = m;
	s->irq1 = *irq1;
	s->irq12 = *irq12;
	timer_init(&s->next, m->loop, "i8042-next", next_fire, s);
	ps2_keyboard_init(&s->kbd, m->loop, device_changed, s);
	ps2_mouse_init(&s->mouse, device_changed, s);
	s->data_port = ioport_add(m->io, PORT_DATA, 1, &data_ops, s, "i8042-data");
	s->command_port = ioport_add(m->io, PORT_COMMAND, 1, &command_ops, s, "i8042-command");
	if (!s->data_port || !s->command_port) {
		error_set(err, "keyboard controller: cannot claim ports 0x60 and 0x64");
		i8042_destroy(&s->base);
		return NULL;
	}
	machine_add(m, &s->base);
	return &s->base;
}

bool i8042_key(struct device *dev, unsigned key, bool down)
{
	struct i8042 *s = container_of(dev, struct i8042, base);

	return ps2_keyboard_key(&s->kbd, key, down);
}

void i8042_mouse(struct device *dev, int dx, int dy, int dz, unsigned buttons)
{
	struct i8042 *s = container_of(dev, struct i8042, base);

	ps2_mouse_move(&s->mouse, dx, dy, dz, buttons);
}
