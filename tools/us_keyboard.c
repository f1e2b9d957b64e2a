/* See us_keyboard.h. */
#include "tools/us_keyboard.h"

#include <linux/input-event-codes.h>
#include <string.h>
#include <strings.h>

#include "core/util.h"

static const struct { char plain, shifted; uint8_t key; } us_keys[] = {
	{ '1', '!', KEY_1 }, { '2', '@', KEY_2 }, { '3', '#', KEY_3 }, { '4', '$', KEY_4 },
	{ '5', '%', KEY_5 }, { '6', '^', KEY_6 }, { '7', '&', KEY_7 }, { '8', '*', KEY_8 },
	{ '9', '(', KEY_9 }, { '0', ')', KEY_0 }, { '-', '_', KEY_MINUS }, { '=', '+', KEY_EQUAL },
	{ 'q', 'Q', KEY_Q }, { 'w', 'W', KEY_W }, { 'e', 'E', KEY_E }, { 'r', 'R', KEY_R },
	{ 't', 'T', KEY_T }, { 'y', 'Y', KEY_Y }, { 'u', 'U', KEY_U }, { 'i', 'I', KEY_I },
	{ 'o', 'O', KEY_O }, { 'p', 'P', KEY_P }, { '[', '{', KEY_LEFTBRACE },
	{ ']', '}', KEY_RIGHTBRACE }, { 'a', 'A', KEY_A }, { 's', 'S', KEY_S },
	{ 'd', 'D', KEY_D }, { 'f', 'F', KEY_F }, { 'g', 'G', KEY_G }, { 'h', 'H', KEY_H },
	{ 'j', 'J', KEY_J }, { 'k', 'K', KEY_K }, { 'l', 'L', KEY_L },
	{ ';', ':', KEY_SEMICOLON }, { '\'', '"', KEY_APOSTROPHE }, { '`', '~', KEY_GRAVE },
	{ '\\', '|', KEY_BACKSLASH }, { 'z', 'Z', KEY_Z }, { 'x', 'X', KEY_X },
	{ 'c', 'C', KEY_C }, { 'v', 'V', KEY_V }, { 'b', 'B', KEY_B }, { 'n', 'N', KEY_N },
	{ 'm', 'M', KEY_M }, { ',', '<', KEY_COMMA }, { '.', '>', KEY_DOT },
	{ '/', '?', KEY_SLASH }, { ' ', 0, KEY_SPACE }, { '\t', 0, KEY_TAB },
	{ '\r', '\n', KEY_ENTER }, { 0x7f, 0, KEY_BACKSPACE }, { '\b', 0, KEY_BACKSPACE },
	{ 0x1b, 0, KEY_ESC },
};

struct us_key us_keyboard_find(char c)
{
	for (size_t i = 0; i < ARRAY_SIZE(us_keys); i++) {
		if (c == us_keys[i].plain && c)
			return (struct us_key){ 0, us_keys[i].key };
		if (c == us_keys[i].shifted && c)
			return (struct us_key){ c == '\n' ? 0 : KEY_LEFTSHIFT, us_keys[i].key };
	}
	if (c > 0 && c < 0x20) /* Ctrl and a letter */
		for (size_t i = 0; i < ARRAY_SIZE(us_keys); i++)
			if (us_keys[i].plain == (c | 0x60))
				return (struct us_key){ KEY_LEFTCTRL, us_keys[i].key };
	return (struct us_key){ 0, 0 };
}

static const struct { const char *name; uint8_t key; } names[] = {
	{ "enter", KEY_ENTER }, { "return", KEY_ENTER }, { "esc", KEY_ESC }, { "escape", KEY_ESC },
	{ "tab", KEY_TAB }, { "space", KEY_SPACE }, { "backspace", KEY_BACKSPACE },
	{ "minus", KEY_MINUS }, { "ctrl", KEY_LEFTCTRL }, { "control", KEY_LEFTCTRL },
	{ "rctrl", KEY_RIGHTCTRL }, { "shift", KEY_LEFTSHIFT }, { "rshift", KEY_RIGHTSHIFT },
	{ "alt", KEY_LEFTALT }, { "altgr", KEY_RIGHTALT }, { "meta", KEY_LEFTMETA },
	{ "win", KEY_LEFTMETA }, { "menu", KEY_COMPOSE }, { "capslock", KEY_CAPSLOCK },
	{ "numlock", KEY_NUMLOCK }, { "scrolllock", KEY_SCROLLLOCK }, { "print", KEY_SYSRQ },
	{ "sysrq", KEY_SYSRQ }, { "pause", KEY_PAUSE }, { "insert", KEY_INSERT },
	{ "delete", KEY_DELETE }, { "del", KEY_DELETE }, { "home", KEY_HOME }, { "end", KEY_END },
	{ "pageup", KEY_PAGEUP }, { "pagedown", KEY_PAGEDOWN }, { "up", KEY_UP }, { "down", KEY_DOWN },
	{ "left", KEY_LEFT }, { "right", KEY_RIGHT }, { "f1", KEY_F1 }, { "f2", KEY_F2 },
	{ "f3", KEY_F3 }, { "f4", KEY_F4 }, { "f5", KEY_F5 }, { "f6", KEY_F6 }, { "f7", KEY_F7 },
	{ "f8", KEY_F8 }, { "f9", KEY_F9 }, { "f10", KEY_F10 }, { "f11", KEY_F11 }, { "f12", KEY_F12 },
};

unsigned us_keyboard_name(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strlen(names[i].name) == len && !strncasecmp(names[i].name, name, len))
			return names[i].key;
	}
	return len == 1 ? us_keyboard_find(name[0] | (name[0] >= 'A' && name[0] <= 'Z' ? 0x20 : 0)).key : 0;
}
