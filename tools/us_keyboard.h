/* A keyboard with the US layout: which keys make which characters. */
#ifndef GANNET_TOOLS_US_KEYBOARD_H
#define GANNET_TOOLS_US_KEYBOARD_H

#include <stddef.h>
#include <stdint.h>

struct us_key {
	uint8_t modifier; /* KEY_LEFTSHIFT, KEY_LEFTCTRL; 0: none */
	uint8_t key;      /* Linux input event code (KEY_*); 0: no key makes it */
};

/** us_keyboard_find - the key for an ASCII character, controls included */
struct us_key us_keyboard_find(char c);
/** us_keyboard_name - key of a name, e.g. "enter", "f1", "ctrl", "a"; 0: unknown */
unsigned us_keyboard_name(const char *name, size_t len);

#endif
