/* VGA text mode in a terminal, and the terminal's keys as a PS/2 keyboard.
 *
 * Output: ECMA-48 control sequences with 24-bit colours and UTF-8, a line at a
 * time and only lines that changed. Input: what a terminal sends for a key is
 * taken apart into presses and releases of a US keyboard; a terminal does not
 * tell how long a key is held, so every key is let go at once.
 */
#include "tools/screen.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "core/util.h"
#include "tools/cp437.h"
#include "tools/us_keyboard.h"

enum {
	COLS_MAX = 256, ROWS_MAX = 128,
	KEYS_MAX = 4096,     /* waiting for room in the guest's keyboard; more typing is lost */
	CTRL_A = 1,
};

struct key_event {
	uint8_t key; /* KEY_*, all of ours are below 256 */
	bool down;
};

struct screen {
	struct gannet *machine; /* borrowed */
	struct termios saved;
	bool escape;            /* Ctrl-A was the last byte */
	bool graphics;          /* the "graphics mode" notice is up */
	unsigned cols, rows;    /* what the terminal shows now */
	int cursor_col, cursor_row;
	struct gannet_cell shown[ROWS_MAX][COLS_MAX];
	struct key_event keys[KEYS_MAX];
	unsigned key_head, key_count;
};

/* ---- output ---- */

static void emit(const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, data, len);

		if (n < 0 && errno != EINTR)
			return; /* the terminal is gone: nothing to show it to */
		if (n > 0) {
			data += n;
			len -= n;
		}
	}
}

static void emit_text(const char *text)
{
	emit(text, strlen(text));
}

static size_t put_colours(char *out, size_t size, uint32_t fg, uint32_t bg)
{
	return snprintf(out, size, "\033[38;2;%u;%u;%u;48;2;%u;%u;%um",
			fg >> 16 & 255, fg >> 8 & 255, fg & 255,
			bg >> 16 & 255, bg >> 8 & 255, bg & 255);
}

static void draw_row(const struct gannet_screen *screen, unsigned row)
{
	const struct gannet_cell *cells = screen->cells + (size_t)row * screen->cols;
	char line[COLS_MAX * 48 + 32];
	size_t n = snprintf(line, sizeof(line), "\033[%u;1H", row + 1);
	int attr = -1;

	for (unsigned col = 0; col < screen->cols; col++) {
		if (cells[col].attr != attr) {
			attr = cells[col].attr;
			n += put_colours(line + n, sizeof(line) - n, screen->palette[attr & 15],
					 screen->palette[attr >> 4]);
		}
		n += cp437_utf8(line + n, cells[col].ch);
	}
	n += snprintf(line + n, sizeof(line) - n, "\033[0m");
	emit(line, n);
}

static void place_cursor(struct screen *s, const struct gannet_screen *screen)
{
	char text[40];

	s->cursor_col = screen->cursor_col;
	s->cursor_row = screen->cursor_row;
	if (s->cursor_row < 0 || s->cursor_col < 0) {
		emit_text("\033[?25l");
		return;
	}
	emit(text, snprintf(text, sizeof(text), "\033[%d;%dH\033[?25h", s->cursor_row + 1,
			    s->cursor_col + 1));
}

static void send_keys(struct screen *s)
{
	while (s->key_count && gannet_key(s->machine, s->keys[s->key_head].key,
					  s->keys[s->key_head].down)) {
		s->key_head = (s->key_head + 1) % KEYS_MAX;
		s->key_count--;
	}
}

static void screen_show(void *opaque, const struct gannet_screen *screen)
{
	struct screen *s = opaque;
	bool drawn = false;

	send_keys(s);
	if (!screen->text) {
		if (!s->graphics)
			emit_text("\033[0m\033[2J\033[1;1H(graphics mode: nothing to show on a terminal; Ctrl-A x quits)");
		s->graphics = true;
		s->cols = 0;
		return;
	}
	s->graphics = false;
	if (screen->cols > COLS_MAX || screen->rows > ROWS_MAX)
		return;
	if (s->cols != screen->cols || s->rows != screen->rows) {
		s->cols = screen->cols;
		s->rows = screen->rows;
		memset(s->shown, 0xff, sizeof(s->shown)); /* unlike what most rows hold */
		emit_text("\033[0m\033[2J");
		for (unsigned row = 0; row < s->rows; row++)
			draw_row(screen, row);
		drawn = true;
	}
	for (unsigned row = 0; row < s->rows; row++) {
		const struct gannet_cell *cells = screen->cells + (size_t)row * s->cols;
		size_t bytes = s->cols * sizeof(*cells);

		if (!memcmp(s->shown[row], cells, bytes))
			continue;
		memcpy(s->shown[row], cells, bytes);
		draw_row(screen, row);
		drawn = true;
	}
	if (drawn || s->cursor_col != screen->cursor_col || s->cursor_row != screen->cursor_row)
		place_cursor(s, screen);
}

/* ---- input ---- */

static void queue(struct screen *s, unsigned key, bool down)
{
	if (s->key_count == KEYS_MAX)
		return;
	s->keys[(s->key_head + s->key_count++) % KEYS_MAX] = (struct key_event) { key, down };
}

static void press(struct screen *s, unsigned modifier, unsigned key)
{
	if (modifier)
		queue(s, modifier, true);
	queue(s, key, true);
	queue(s, key, false);
	if (modifier)
		queue(s, modifier, false);
}

static void type_character(struct screen *s, char c)
{
	struct us_key k = us_keyboard_find(c);

	if (k.key)
		press(s, k.modifier, k.key);
}

static const struct { const char *sequence; uint8_t key; } sequences[] = {
	{ "[A", KEY_UP }, { "[B", KEY_DOWN }, { "[C", KEY_RIGHT }, { "[D", KEY_LEFT },
	{ "OA", KEY_UP }, { "OB", KEY_DOWN }, { "OC", KEY_RIGHT }, { "OD", KEY_LEFT },
	{ "[H", KEY_HOME }, { "[F", KEY_END }, { "OH", KEY_HOME }, { "OF", KEY_END },
	{ "[1~", KEY_HOME }, { "[4~", KEY_END }, { "[2~", KEY_INSERT }, { "[3~", KEY_DELETE },
	{ "[5~", KEY_PAGEUP }, { "[6~", KEY_PAGEDOWN }, { "OP", KEY_F1 }, { "OQ", KEY_F2 },
	{ "OR", KEY_F3 }, { "OS", KEY_F4 }, { "[15~", KEY_F5 }, { "[17~", KEY_F6 },
	{ "[18~", KEY_F7 }, { "[19~", KEY_F8 }, { "[20~", KEY_F9 }, { "[21~", KEY_F10 },
	{ "[23~", KEY_F11 }, { "[24~", KEY_F12 }, { "[[A", KEY_F1 }, { "[[B", KEY_F2 },
	{ "[[C", KEY_F3 }, { "[[D", KEY_F4 }, { "[[E", KEY_F5 },
};

/* Returns how many bytes of @buf, which starts with ESC, were one key. */
static size_t type_sequence(struct screen *s, const char *buf, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(sequences); i++) {
		size_t n = strlen(sequences[i].sequence);

		if (len > n && !memcmp(buf + 1, sequences[i].sequence, n)) {
			press(s, 0, sequences[i].key);
			return n + 1;
		}
	}
	if (len >= 2 && buf[1] > 0x20 && buf[1] < 0x7f && buf[1] != '[' && buf[1] != 'O') {
		queue(s, KEY_LEFTALT, true);
		type_character(s, buf[1]);
		queue(s, KEY_LEFTALT, false);
		return 2;
	}
	press(s, 0, KEY_ESC);
	return 1;
}

static void screen_input(void *opaque)
{
	struct screen *s = opaque;
	char buf[256];
	ssize_t len = read(STDIN_FILENO, buf, sizeof(buf));

	if (len == 0 || (len < 0 && errno != EINTR && errno != EAGAIN)) {
		gannet_quit(s->machine); /* the terminal hung up */
		return;
	}
	for (ssize_t i = 0; i < len; i++) {
		if (s->escape) {
			s->escape = false;
			if (buf[i] == 'x')
				gannet_quit(s->machine);
			else if (buf[i] == CTRL_A || buf[i] == 'a')
				type_character(s, CTRL_A);
		} else if (buf[i] == CTRL_A) {
			s->escape = true;
		} else if (buf[i] == 0x1b) {
			i += type_sequence(s, buf + i, len - i) - 1;
		} else {
			type_character(s, buf[i]);
		}
	}
	send_keys(s);
}

struct screen *screen_create(struct gannet *g, char *why, size_t why_size)
{
	struct screen *s = calloc(1, sizeof(*s));
	struct termios raw;

	if (!s) {
		snprintf(why, why_size, "out of memory");
		return NULL;
	}
	s->machine = g;
	if (tcgetattr(STDIN_FILENO, &s->saved)) {
		snprintf(why, why_size, "-display curses: %s", strerror(errno));
		free(s);
		return NULL;
	}
	raw = s->saved;
	cfmakeraw(&raw);
	if (!gannet_watch_fd(g, STDIN_FILENO, screen_input, s)) {
		snprintf(why, why_size, "-display curses: the terminal cannot be watched for input");
		free(s);
		return NULL;
	}
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	emit_text("\033[?1049h\033[2J"); /* the alternate screen: what was there comes back */
	gannet_set_display(g, screen_show, s);
	return s;
}

void screen_destroy(struct screen *s)
{
	if (!s)
		return;
	gannet_set_display(s->machine, NULL, NULL);
	emit_text("\033[0m\033[?25h\033[?1049l");
	tcsetattr(STDIN_FILENO, TCSANOW, &s->saved);
	free(s);
}
