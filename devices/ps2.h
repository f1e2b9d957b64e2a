/* A PS/2 keyboard and a PS/2 mouse, as the keyboard controller sees them:
 * bytes in, bytes out. They are part of the i8042 device, which saves their state. */
#ifndef GANNET_DEVICES_PS2_H
#define GANNET_DEVICES_PS2_H

#include <stdbool.h>
#include <stdint.h>

#include "core/loop.h"

enum { PS2_QUEUE_SIZE = 32 };

struct ps2_queue {
	uint8_t data[PS2_QUEUE_SIZE];
	uint8_t head, count;
};

void ps2_queue_put(struct ps2_queue *q, uint8_t byte); /* lost when full */
bool ps2_queue_get(struct ps2_queue *q, uint8_t *byte);
/** ps2_queue_unget - put a byte back in front; drops the last one when full */
void ps2_queue_unget(struct ps2_queue *q, uint8_t byte);
void ps2_queue_clear(struct ps2_queue *q);

/* ---- keyboard ---- */

enum { PS2_SET3_KEYS = 0x90 };

struct ps2_keyboard {
	void (*changed)(void *opaque); /* there may be a byte to fetch */
	void *opaque;                  /* borrowed */
	struct ps2_queue reply;        /* to commands: goes before keys */
	struct ps2_queue keys;
	struct timer repeat;           /* typematic */
	uint8_t scan_set;              /* 1-3 */
	uint8_t leds;                  /* bit 0 scroll, 1 num, 2 caps lock */
	uint8_t rate;                  /* command F3's byte */
	uint8_t pending;               /* command that waits for its parameter; 0: none */
	uint8_t last_sent;             /* for FE, resend */
	uint16_t repeat_key;           /* which key is held longest; 0: none */
	uint8_t modifiers;             /* shift, control, alt keys held, for Print and Pause */
	bool scanning;
	uint8_t key_type[PS2_SET3_KEYS]; /* set 3: what each key reports */
};

void ps2_keyboard_init(struct ps2_keyboard *k, struct loop *loop,
		       void (*changed)(void *opaque), void *opaque);
void ps2_keyboard_finish(struct ps2_keyboard *k);
void ps2_keyboard_reset(struct ps2_keyboard *k); /* power on, silently */
/** ps2_keyboard_write - a command or parameter from the controller */
void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte);
bool ps2_keyboard_read(struct ps2_keyboard *k, uint8_t *byte);
/** ps2_keyboard_unread - the controller could not deliver the byte after all */
void ps2_keyboard_unread(struct ps2_keyboard *k, uint8_t byte);
/** ps2_keyboard_key - @key: KEY_* of linux/input-event-codes.h; false if there is no room */
bool ps2_keyboard_key(struct ps2_keyboard *k, unsigned key, bool down);

/** ps2_translate - set 2 to set 1 as the controller does it (without the F0 rule) */
uint8_t ps2_translate(uint8_t byte);

/* Scan codes of a key; make = 0: no such key. */
struct ps2_key {
	uint8_t set2;
	bool extended; /* E0 before it, in sets 1 and 2 */
	uint8_t set3;
};
struct ps2_key ps2_key_find(unsigned key);

/* ---- mouse ---- */

struct ps2_mouse {
	void (*changed)(void *opaque);
	void *opaque;              /* borrowed */
	struct ps2_queue out;
	int32_t dx, dy, dz;        /* not yet reported */
	uint8_t buttons, reported; /* I8042_LEFT ... */
	uint8_t id;                /* 0 standard, 3 wheel, 4 wheel and five buttons */
	uint8_t resolution;        /* 0-3 */
	uint8_t rate;              /* reports a second */
	uint8_t history[3];        /* last rates set: the knock of the IntelliMouse */
	uint8_t pending;
	uint8_t last_sent;
	bool reporting, remote, wrap, scaling21, error_before;
};

void ps2_mouse_init(struct ps2_mouse *m, void (*changed)(void *opaque), void *opaque);
void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte);
bool ps2_mouse_read(struct ps2_mouse *m, uint8_t *byte);
void ps2_mouse_unread(struct ps2_mouse *m, uint8_t byte);
/** ps2_mouse_move - @dx right, @dy down, @dz towards the user */
void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, uint8_t buttons);

#endif
