/* PS/2 keyboard: 101 keys and the later ones, scan code sets 1-3, typematic.
 *
 * IBM PS/2 Hardware Interface Technical Reference, "Keyboard (101- and
 * 102-key)". The real one buffers 16 bytes; so does this one, and a key that
 * does not fit is lost, but whole. The overrun code is not sent: whoever
 * presses keys here is told.
 */
#include "devices/ps2.h"

#include <linux/input-event-codes.h>
#include <string.h>

#include "core/util.h"

enum {
	KBD_LEDS = 0xed,
	KBD_ECHO = 0xee,
	KBD_SCAN_SET = 0xf0,
	KBD_ID = 0xf2,
	KBD_RATE = 0xf3,
	KBD_ENABLE = 0xf4,
	KBD_DISABLE = 0xf5,
	KBD_DEFAULTS = 0xf6,
	KBD_ALL_TYPEMATIC = 0xf7,
	KBD_ALL_MAKE_BREAK = 0xf8,
	KBD_ALL_MAKE = 0xf9,
	KBD_ALL_BOTH = 0xfa,
	KBD_KEY_TYPEMATIC = 0xfb,
	KBD_KEY_MAKE_BREAK = 0xfc,
	KBD_KEY_MAKE = 0xfd,
	KBD_RESEND = 0xfe,
	KBD_RESET = 0xff,
};

enum { REPLY_OK = 0xaa, REPLY_ACK = 0xfa, REPLY_RESEND = 0xfe };

enum { TYPE_REPEAT = 1, TYPE_BREAK = 2, TYPE_MASK = 3 }; /* set 3 */

enum { MOD_LSHIFT = 1, MOD_RSHIFT = 2, MOD_SHIFT = 3, MOD_CTRL = 4, MOD_ALT = 8, MOD_RCTRL = 16, MOD_RALT = 32 };

enum { KEY_BUFFER = 16, LONGEST_SEQUENCE = 8, DEFAULT_RATE = 0x2b };

/* ---- the queue both devices use ---- */

void ps2_queue_put(struct ps2_queue *q, uint8_t byte)
{
	if (q->count < PS2_QUEUE_SIZE)
		q->data[(q->head + q->count++) % PS2_QUEUE_SIZE] = byte;
}

bool ps2_queue_get(struct ps2_queue *q, uint8_t *byte)
{
	if (!q->count)
		return false;
	*byte = q->data[q->head];
	q->head = (q->head + 1) % PS2_QUEUE_SIZE;
	q->count--;
	return true;
}

void ps2_queue_unget(struct ps2_queue *q, uint8_t byte)
{
	q->head = (q->head + PS2_QUEUE_SIZE - 1) % PS2_QUEUE_SIZE;
	q->data[q->head] = byte;
	if (q->count < PS2_QUEUE_SIZE)
		q->count++;
}

void ps2_queue_clear(struct ps2_queue *q)
{
	q->head = q->count = 0;
}

/* ---- keys ---- */

struct sequence {
	uint8_t byte[LONGEST_SEQUENCE];
	unsigned len;
};

/* Appends set 2 codes, in set 1 if that is what is spoken. */
static void sequence_code(struct sequence *s, const struct ps2_keyboard *k, uint8_t prefix,
			  uint8_t code, bool down)
{
	if (prefix)
		s->byte[s->len++] = prefix;
	if (k->scan_set == 1) {
		s->byte[s->len++] = ps2_translate(code) | (down ? 0 : 0x80);
		return;
	}
	if (!down)
		s->byte[s->len++] = 0xf0;
	s->byte[s->len++] = code;
}

static void sequence_print(struct sequence *s, const struct ps2_keyboard *k, bool down)
{
	if (k->modifiers & (MOD_ALT | MOD_RALT)) {
		sequence_code(s, k, 0, 0x84, down); /* SysRq */
	} else if (k->modifiers & (MOD_SHIFT | MOD_CTRL | MOD_RCTRL)) {
		sequence_code(s, k, 0xe0, 0x7c, down);
	} else if (down) {
		sequence_code(s, k, 0xe0, 0x12, true);
		sequence_code(s, k, 0xe0, 0x7c, true);
	} else {
		sequence_code(s, k, 0xe0, 0x7c, false);
		sequence_code(s, k, 0xe0, 0x12, false);
	}
}

static void sequence_pause(struct sequence *s, const struct ps2_keyboard *k, bool down)
{
	if (!down)
		return; /* everything is said when it goes down */
	if (k->modifiers & (MOD_CTRL | MOD_RCTRL)) {
		sequence_code(s, k, 0xe0, 0x7e, true);
		sequence_code(s, k, 0xe0, 0x7e, false);
		return;
	}
	sequence_code(s, k, 0xe1, 0x14, true);
	sequence_code(s, k, 0, 0x77, true);
	sequence_code(s, k, 0xe1, 0x14, false);
	sequence_code(s, k, 0, 0x77, false);
}

static void sequence_set3(struct sequence *s, const struct ps2_keyboard *k, uint8_t code, bool down)
{
	if (!code || code >= PS2_SET3_KEYS)
		return;
	if (!down) {
		if (!(k->key_type[code] & TYPE_BREAK))
			return;
		s->byte[s->len++] = 0xf0;
	}
	s->byte[s->len++] = code;
}

static struct sequence key_sequence(const struct ps2_keyboard *k, unsigned key, bool down)
{
	struct ps2_key code = ps2_key_find(key);
	struct sequence s = { .len = 0 };

	if (k->scan_set == 3) {
		uint8_t set3 = key == KEY_SYSRQ ? 0x57 : key == KEY_PAUSE ? 0x62 : code.set3;

		sequence_set3(&s, k, set3, down);
	} else if (key == KEY_SYSRQ) {
		sequence_print(&s, k, down);
	} else if (key == KEY_PAUSE) {
		sequence_pause(&s, k, down);
	} else if (code.set2) {
		sequence_code(&s, k, code.extended ? 0xe0 : 0, code.set2, down);
	}
	return s;
}

static void note_modifier(struct ps2_keyboard *k, unsigned key, bool down)
{
	uint8_t bit = key == KEY_LEFTSHIFT ? MOD_LSHIFT : key == KEY_RIGHTSHIFT ? MOD_RSHIFT :
		      key == KEY_LEFTCTRL ? MOD_CTRL : key == KEY_RIGHTCTRL ? MOD_RCTRL :
		      key == KEY_LEFTALT ? MOD_ALT : key == KEY_RIGHTALT ? MOD_RALT : 0;

	k->modifiers = down ? k->modifiers | bit : k->modifiers & ~bit;
}

static bool send_sequence(struct ps2_keyboard *k, const struct sequence *s)
{
	if (k->keys.count + s->len > KEY_BUFFER)
		return false;
	for (unsigned i = 0; i < s->len; i++)
		ps2_queue_put(&k->keys, s->byte[i]);
	return true;
}

/* ---- typematic ---- */

static int64_t repeat_delay(const struct ps2_keyboard *k)
{
	return ((k->rate >> 5 & 3) + 1) * 250 * (NS_PER_S / 1000);
}

/* "Set Typematic Rate/Delay": period (8 + A) * 2^B * 4.17 ms. */
static int64_t repeat_period(const struct ps2_keyboard *k)
{
	return (8 + (k->rate & 7)) * (1 << (k->rate >> 3 & 3)) * 4170000ll;
}

static bool key_repeats(const struct ps2_keyboard *k, unsigned key)
{
	uint8_t set3 = ps2_key_find(key).set3;

	if (key == KEY_PAUSE)
		return false;
	return k->scan_set != 3 || (set3 && set3 < PS2_SET3_KEYS && (k->key_type[set3] & TYPE_REPEAT));
}

static void repeat_stop(struct ps2_keyboard *k)
{
	k->repeat_key = 0;
	timer_disarm(&k->repeat);
}

static void repeat_fire(void *opaque)
{
	struct ps2_keyboard *k = opaque;
	struct sequence s;

	if (!k->repeat_key || !k->scanning)
		return;
	s = key_sequence(k, k->repeat_key, true);
	if (send_sequence(k, &s))
		k->changed(k->opaque);
	timer_arm(&k->repeat, loop_now(k->repeat.loop) + repeat_period(k));
}

bool ps2_keyboard_key(struct ps2_keyboard *k, unsigned key, bool down)
{
	struct sequence s;

	if (!k->scanning) {
		note_modifier(k, key, down);
		return true; /* switched off: nobody hears it */
	}
	s = key_sequence(k, key, down);
	if (!send_sequence(k, &s))
		return false;
	note_modifier(k, key, down);
	if (down && key_repeats(k, key)) {
		k->repeat_key = key;
		timer_arm(&k->repeat, loop_now(k->repeat.loop) + repeat_delay(k));
	} else if (!down && key == k->repeat_key) {
		repeat_stop(k);
	}
	if (s.len)
		k->changed(k->opaque);
	return true;
}

/* ---- commands ---- */

/* Set 3's key types at power-on: most keys repeat and report no release. */
static void default_types(struct ps2_keyboard *k)
{
	static const uint8_t make_break[] = { 0x11, 0x12, 0x14, 0x19, 0x59 };
	static const uint8_t make_only[] = {
		0x07, 0x08, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x39, 0x3f, 0x47, 0x4f, 0x56,
		0x57, 0x58, 0x5e, 0x5f, 0x62, 0x65, 0x67, 0x69, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f,
		0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x79, 0x7a, 0x7d, 0x7e, 0x84,
	};

	memset(k->key_type, TYPE_REPEAT, sizeof(k->key_type));
	for (size_t i = 0; i < ARRAY_SIZE(make_break); i++)
		k->key_type[make_break[i]] = TYPE_BREAK;
	for (size_t i = 0; i < ARRAY_SIZE(make_only); i++)
		k->key_type[make_only[i]] = 0;
}

static void set_defaults(struct ps2_keyboard *k)
{
	k->rate = DEFAULT_RATE;
	k->scan_set = 2;
	default_types(k);
	ps2_queue_clear(&k->keys);
	repeat_stop(k);
}

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
	set_defaults(k);
	ps2_queue_clear(&k->reply);
	k->leds = 0;
	k->pending = 0;
	k->modifiers = 0;
	k->last_sent = 0;
	k->scanning = true;
}

static void reply(struct ps2_keyboard *k, uint8_t byte)
{
	ps2_queue_put(&k->reply, byte);
}

static uint8_t type_of(uint8_t command)
{
	switch (command) {
	case KBD_ALL_TYPEMATIC:
	case KBD_KEY_TYPEMATIC:
		return TYPE_REPEAT;
	case KBD_ALL_MAKE_BREAK:
	case KBD_KEY_MAKE_BREAK:
		return TYPE_BREAK;
	case KBD_ALL_BOTH:
		return TYPE_REPEAT | TYPE_BREAK;
	default:
		return 0;
	}
}

/* Returns false if the byte is no parameter but the next command. */
static bool take_parameter(struct ps2_keyboard *k, uint8_t byte)
{
	uint8_t command = k->pending;

	if (byte >= KBD_LEDS) {
		k->pending = 0;
		return false;
	}
	switch (command) {
	case KBD_LEDS:
		k->leds = byte & 7;
		break;
	case KBD_RATE:
		k->rate = byte & 0x7f;
		break;
	case KBD_SCAN_SET:
		if (byte > 3) {
			reply(k, REPLY_RESEND);
			return true;
		}
		reply(k, REPLY_ACK);
		if (byte)
			k->scan_set = byte;
		else
			reply(k, k->scan_set);
		k->pending = 0;
		return true;
	default: /* one key's type in set 3; more keys may follow */
		if (byte < PS2_SET3_KEYS)
			k->key_type[byte] = type_of(command);
		reply(k, REPLY_ACK);
		return true;
	}
	k->pending = 0;
	reply(k, REPLY_ACK);
	return true;
}

static void take_command(struct ps2_keyboard *k, uint8_t byte)
{
	switch (byte) {
	case KBD_ECHO:
		reply(k, KBD_ECHO);
		return;
	case KBD_RESEND:
		reply(k, k->last_sent);
		return;
	case KBD_ID:
		reply(k, REPLY_ACK);
		reply(k, 0xab);
		reply(k, 0x83);
		return;
	case KBD_RESET:
		ps2_keyboard_reset(k);
		reply(k, REPLY_ACK);
		reply(k, REPLY_OK);
		return;
	case KBD_ENABLE:
		ps2_queue_clear(&k->keys);
		k->scanning = true;
		break;
	case KBD_DISABLE:
	case KBD_DEFAULTS:
		set_defaults(k);
		k->scanning = byte == KBD_DEFAULTS ? k->scanning : false;
		break;
	case KBD_ALL_TYPEMATIC:
	case KBD_ALL_MAKE_BREAK:
	case KBD_ALL_MAKE:
	case KBD_ALL_BOTH:
		memset(k->key_type, type_of(byte), sizeof(k->key_type));
		break;
	case KBD_LEDS:
	case KBD_SCAN_SET:
	case KBD_RATE:
	case KBD_KEY_TYPEMATIC:
	case KBD_KEY_MAKE_BREAK:
	case KBD_KEY_MAKE:
		k->pending = byte;
		break;
	default:
		reply(k, REPLY_RESEND);
		return;
	}
	reply(k, REPLY_ACK);
}

void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte)
{
	/* What it was about to say is off: the system speaks. */
	ps2_queue_clear(&k->reply);
	if (!k->pending || !take_parameter(k, byte))
		take_command(k, byte);
	k->changed(k->opaque);
}

bool ps2_keyboard_read(struct ps2_keyboard *k, uint8_t *byte)
{
	if (!ps2_queue_get(&k->reply, byte)) {
		/* While a parameter is due the keys wait. */
		if (k->pending || !k->scanning || !ps2_queue_get(&k->keys, byte))
			return false;
	}
	if (*byte != REPLY_RESEND)
		k->last_sent = *byte;
	return true;
}

void ps2_keyboard_unread(struct ps2_keyboard *k, uint8_t byte)
{
	ps2_queue_unget(&k->reply, byte);
}

void ps2_keyboard_init(struct ps2_keyboard *k, struct loop *loop,
		       void (*changed)(void *opaque), void *opaque)
{
	*k = (struct ps2_keyboard){ .changed = changed, .opaque = opaque };
	timer_init(&k->repeat, loop, "ps2-repeat", repeat_fire, k);
	ps2_keyboard_reset(k);
}

void ps2_keyboard_finish(struct ps2_keyboard *k)
{
	timer_disarm(&k->repeat);
}
