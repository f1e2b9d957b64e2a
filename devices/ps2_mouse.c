/* PS/2 mouse with the IntelliMouse extensions.
 *
 * IBM PS/2 Hardware Interface Technical Reference, "Mouse"; Microsoft's
 * IntelliMouse: sample rates 200, 100, 80 in a row make it answer as ID 3 (a
 * wheel, four-byte reports), 200, 200, 80 then as ID 4 (five buttons).
 *
 * Movement adds up until the controller has fetched the previous report, so
 * nothing is lost and nothing queues up.
 */
#include "devices/ps2.h"

#include "core/util.h"

enum {
	MOUSE_SCALE_11 = 0xe6,
	MOUSE_SCALE_21 = 0xe7,
	MOUSE_RESOLUTION = 0xe8,
	MOUSE_STATUS = 0xe9,
	MOUSE_STREAM = 0xea,
	MOUSE_READ = 0xeb,
	MOUSE_WRAP_END = 0xec,
	MOUSE_WRAP = 0xee,
	MOUSE_REMOTE = 0xf0,
	MOUSE_ID = 0xf2,
	MOUSE_RATE = 0xf3,
	MOUSE_ENABLE = 0xf4,
	MOUSE_DISABLE = 0xf5,
	MOUSE_DEFAULTS = 0xf6,
	MOUSE_RESEND = 0xfe,
	MOUSE_RESET = 0xff,
};

enum { REPLY_OK = 0xaa, REPLY_ACK = 0xfa, REPLY_ERROR = 0xfc, REPLY_RESEND = 0xfe };

enum { LIMIT = 1 << 16 }; /* unreported movement: a person has let go by then */

static void set_defaults(struct ps2_mouse *m)
{
	m->resolution = 2;
	m->rate = 100;
	m->scaling21 = false;
	m->reporting = false;
	m->remote = false;
	m->dx = m->dy = m->dz = 0;
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
	set_defaults(m);
	ps2_queue_clear(&m->out);
	m->id = 0;
	m->pending = 0;
	m->wrap = false;
	m->error_before = false;
	m->history[0] = m->history[1] = m->history[2] = 0;
	m->reported = m->buttons;
	m->last_sent = 0;
}

static void reply(struct ps2_mouse *m, uint8_t byte)
{
	ps2_queue_put(&m->out, byte);
}

static int clamp(int v, int low, int high)
{
	return v < low ? low : v > high ? high : v;
}

/* 2:1 scaling, stream mode only: a table for small movements. */
static int scaled(const struct ps2_mouse *m, int v)
{
	static const int8_t table[] = { 0, 1, 1, 3, 6, 9 };
	int a = v < 0 ? -v : v;

	if (!m->scaling21 || m->remote)
		return v;
	a = a < (int)ARRAY_SIZE(table) ? table[a] : 2 * a;
	return v < 0 ? -a : a;
}

static void report(struct ps2_mouse *m)
{
	/* Up is positive on the wire. */
	int x = clamp(m->dx, -127, 127), y = clamp(m->dy, -127, 127);
	int z = clamp(m->dz, -7, 7);
	int sx = scaled(m, x), sy = -scaled(m, y);

	reply(m, 8 | (m->buttons & 7) | (sx < 0 ? 0x10 : 0) | (sy < 0 ? 0x20 : 0));
	reply(m, sx);
	reply(m, sy);
	if (m->id == 3)
		reply(m, z);
	else if (m->id == 4)
		reply(m, (z & 0xf) | (m->buttons >> 3 & 3) << 4);
	m->dx -= x;
	m->dy -= y;
	m->dz = m->id ? m->dz - z : 0;
	m->reported = m->buttons;
}

static bool moved(const struct ps2_mouse *m)
{
	return m->dx || m->dy || (m->id && m->dz) || m->buttons != m->reported;
}

static void stream(struct ps2_mouse *m)
{
	if (m->reporting && !m->remote && !m->wrap && !m->pending && !m->out.count && moved(m))
		report(m);
}

static void set_rate(struct ps2_mouse *m, uint8_t rate)
{
	m->rate = rate;
	m->history[0] = m->history[1];
	m->history[1] = m->history[2];
	m->history[2] = rate;
	if (m->history[0] != 200 || m->history[2] != 80)
		return;
	if (m->history[1] == 100 && m->id == 0)
		m->id = 3;
	else if (m->history[1] == 200 && m->id == 3)
		m->id = 4;
}

static void status(struct ps2_mouse *m)
{
	uint8_t b = m->buttons;

	reply(m, (m->remote ? 0x40 : 0) | (m->reporting ? 0x20 : 0) | (m->scaling21 ? 0x10 : 0) |
		 (b & 1 ? 4 : 0) | (b & 4 ? 2 : 0) | (b & 2 ? 1 : 0));
	reply(m, m->resolution);
	reply(m, m->rate);
}

static void bad_byte(struct ps2_mouse *m)
{
	reply(m, m->error_before ? REPLY_ERROR : REPLY_RESEND);
	m->error_before = !m->error_before;
}

static void take_parameter(struct ps2_mouse *m, uint8_t byte)
{
	if (m->pending == MOUSE_RATE) {
		if (byte < 10 || byte > 200) {
			bad_byte(m);
			return;
		}
		set_rate(m, byte);
	} else {
		if (byte > 3) {
			bad_byte(m);
			return;
		}
		m->resolution = byte;
	}
	m->pending = 0;
	reply(m, REPLY_ACK);
}

static void take_command(struct ps2_mouse *m, uint8_t byte)
{
	m->pending = 0;
	switch (byte) {
	case MOUSE_RESEND:
		reply(m, m->last_sent);
		return;
	case MOUSE_RESET:
		ps2_mouse_reset(m);
		reply(m, REPLY_ACK);
		reply(m, REPLY_OK);
		reply(m, m->id);
		return;
	case MOUSE_STATUS:
		reply(m, REPLY_ACK);
		status(m);
		return;
	case MOUSE_READ:
		reply(m, REPLY_ACK);
		report(m);
		return;
	case MOUSE_ID:
		reply(m, REPLY_ACK);
		reply(m, m->id);
		return;
	case MOUSE_SCALE_11:
	case MOUSE_SCALE_21:
		m->scaling21 = byte == MOUSE_SCALE_21;
		break;
	case MOUSE_STREAM:
	case MOUSE_REMOTE:
		m->remote = byte == MOUSE_REMOTE;
		m->dx = m->dy = m->dz = 0;
		break;
	case MOUSE_WRAP:
		m->wrap = true;
		break;
	case MOUSE_WRAP_END:
		m->wrap = false;
		break;
	case MOUSE_ENABLE:
	case MOUSE_DISABLE:
		m->reporting = byte == MOUSE_ENABLE;
		m->dx = m->dy = m->dz = 0;
		break;
	case MOUSE_DEFAULTS:
		set_defaults(m);
		break;
	case MOUSE_RESOLUTION:
	case MOUSE_RATE:
		m->pending = byte;
		break;
	default:
		bad_byte(m);
		return;
	}
	m->error_before = false;
	reply(m, REPLY_ACK);
}

void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte)
{
	/* A command cuts a report short. */
	ps2_queue_clear(&m->out);
	if (m->wrap && byte != MOUSE_WRAP_END && byte != MOUSE_RESET)
		reply(m, byte);
	else if (m->pending && byte < MOUSE_SCALE_11)
		take_parameter(m, byte);
	else
		take_command(m, byte);
	m->changed(m->opaque);
}

bool ps2_mouse_read(struct ps2_mouse *m, uint8_t *byte)
{
	stream(m);
	if (!ps2_queue_get(&m->out, byte))
		return false;
	if (*byte != REPLY_RESEND)
		m->last_sent = *byte;
	return true;
}

void ps2_mouse_unread(struct ps2_mouse *m, uint8_t byte)
{
	ps2_queue_unget(&m->out, byte);
}

void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, uint8_t buttons)
{
	m->buttons = buttons & 0x1f;
	if (m->reporting || m->remote) {
		m->dx = clamp(m->dx + clamp(dx, -LIMIT, LIMIT), -LIMIT, LIMIT);
		m->dy = clamp(m->dy + clamp(dy, -LIMIT, LIMIT), -LIMIT, LIMIT);
		m->dz = clamp(m->dz + clamp(dz, -LIMIT, LIMIT), -LIMIT, LIMIT);
	}
	m->changed(m->opaque);
}

void ps2_mouse_init(struct ps2_mouse *m, void (*changed)(void *opaque), void *opaque)
{
	*m = (struct ps2_mouse){ .changed = changed, .opaque = opaque };
	ps2_mouse_reset(m);
}
