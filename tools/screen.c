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

/* Code page 437. */
static const uint16_t cp437_low[32] = {
	0x0020, 0x263a, 0x263b, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022,
	0x25d8, 0x25cb, 0x25d9, 0x2642, 0x2640, 0x266a, 0x266b, 0x263c,
	0x25ba, 0x25c4, 0x2195, 0x203c, 0x00b6, 0x00a7, 0x25ac, 0x21a8,
	0x2191, 0x2193, 0x2192, 0x2190, 0x221f, 0x2194, 0x25b2, 0x25bc,
};

static const uint16_t cp437_high[129] = {
	0x2302,
	0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7,
	0x00ea, 0x00eb, 0x00e8, 0x00ef, 0x00ee, 0x00ec, 0x00c4, 0x00c5,
	0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9,
	0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192,
	0x00e1, 0x00ed, 0x00f3, 0x00fa, 0x00f1, 0x00d1, 0x00aa, 0x00ba,
	0x00bf, 0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb,
	0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556,
	0x2555, 0x2563, 0x2551, 0x2557, 0x255d, 0x255c, 0x255b, 0x2510,
	0x2514, 0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f,
	0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567,
	0x2568, 0x2564, 0x2565, 0x2559, 0x2558, 0x2552, 0x2553, 0x256b,
	0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580,
	0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4,
	0x03a6, 0x0398, 0x03a9, 0x03b4, 0x221e, 0x03c6, 0x03b5, 0x2229,
	0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7, 0x2248,
	0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, 0x00a0,
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

static size_t put_utf8(char *out, uint8_t ch)
{
	unsigned c = ch < 0x20 ? cp437_low[ch] : ch < 0x7f ? ch : cp437_high[ch - 0x7f];

	if (c < 0x80) {
		out[0] = c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = 0xc0 | c >> 6;
		out[1] = 0x80 | (c & 0x3f);
		return 2;
	}
	out[0] = 0xe0 | c >> 12;
	out[1] = 0x80 | (c >> 6 & 0x3f);
	out[2] = 0x80 | (c & 0x3f);
	return 3;
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
		n += put_utf8(line + n, cells[col].ch);
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

static void type_character(struct screen *s, char c)
{
	for (size_t i = 0; i < ARRAY_SIZE(us_keys); i++) {
		if (c == us_keys[i].plain)
			return press(s, 0, us_keys[i].key);
		if (c == us_keys[i].shifted && c != 0)
			return press(s, c == '\n' ? 0 : KEY_LEFTSHIFT, us_keys[i].key);
	}
	if (c > 0 && c < 0x20) /* Ctrl and a letter */
		for (size_t i = 0; i < ARRAY_SIZE(us_keys); i++)
			if (us_keys[i].plain == (c | 0x60))
				return press(s, KEY_LEFTCTRL, us_keys[i].key);
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
