/* Answers that take their time: text that is waited for, keys that are pressed one
 * after the other, bytes for a serial port that has no room; and the text itself.
 */
#include <stdlib.h>
#include <string.h>

#include "core/util.h"
#include "tools/control_priv.h"
#include "tools/cp437.h"
#include "tools/us_keyboard.h"

#define MS 1000000ll
#define TIMEOUT_MAX_S 86400.0

enum {
	SCREEN_EVERY_MS = 50,
	KEY_EVERY_MS = 5,      /* between two of press and release: 100 characters a second */
	KEY_AGAIN_MS = 10,     /* the keyboard's buffer is full */
	SEND_AGAIN_MS = 10,
	TAP_CHUNK = 256,
	SHOWN_LINE = 120,      /* of a last line in an error */
};

/* ---- fields ---- */

static bool wrong(struct error *err, const char *name, const char *what)
{
	error_set(err, "\"%s\" must be %s", name, what);
	return false;
}

bool field_may_text(json_t *request, const char *name, const char **value, struct error *err)
{
	json_t *v = json_object_get(request, name);

	if (!v)
		return true;
	*value = json_string_value(v);
	return *value ? true : wrong(err, name, "a text");
}

bool field_text(json_t *request, const char *name, const char **value, struct error *err)
{
	*value = NULL;
	if (!field_may_text(request, name, value, err))
		return false;
	if (!*value || !**value)
		return wrong(err, name, *value ? "a text that is not empty" : "given");
	return true;
}

bool field_may_bool(json_t *request, const char *name, bool *value, struct error *err)
{
	json_t *v = json_object_get(request, name);

	if (!v)
		return true;
	*value = json_is_true(v);
	return json_is_boolean(v) ? true : wrong(err, name, "true or false");
}

bool field_bool(json_t *request, const char *name, bool *value, struct error *err)
{
	if (!json_object_get(request, name))
		return wrong(err, name, "given: true or false");
	return field_may_bool(request, name, value, err);
}

bool field_port(json_t *request, unsigned *port, struct error *err)
{
	json_t *v = json_object_get(request, "port");
	json_int_t n = json_integer_value(v);

	*port = 0;
	if (!v)
		return true;
	if (!json_is_integer(v) || n < 0 || n >= GANNET_SERIALS)
		return wrong(err, "port", "a serial port, 0 or 1");
	*port = n;
	return true;
}

bool field_timeout(json_t *request, double otherwise, struct task *t, struct error *err)
{
	json_t *v = json_object_get(request, "timeout");

	t->timeout = v ? json_number_value(v) : otherwise;
	if (v && (!json_is_number(v) || !(t->timeout >= 0 && t->timeout <= TIMEOUT_MAX_S)))
		return wrong(err, "timeout", "seconds, 0 to 86400");
	t->deadline = control_now() + (int64_t)(t->timeout * 1e9);
	return true;
}

/* ---- text ---- */

/* Length of the UTF-8 sequence at @p, 0 if there is none (RFC 3629, section 4). */
static size_t utf8_length(const uint8_t *p, size_t len)
{
	size_t n = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 :
		   *p >= 0xf0 && *p < 0xf5 ? 4 : 0;

	if (n > len)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

json_t *text_value(const uint8_t *text, size_t len)
{
	char *out = malloc(len * 3 + 1);
	size_t n = 0;
	json_t *v;

	if (!out)
		return NULL;
	for (size_t i = 0; i < len;) {
		size_t k = utf8_length(text + i, len - i);

		memcpy(out + n, k ? (const char *)text + i : "\xef\xbf\xbd", k ? k : 3);
		n += k ? k : 3;
		i += k ? k : 1;
	}
	v = json_stringn(out, n);
	free(out);
	return v;
}

static uint8_t *history_copy(const struct history *h, uint64_t *from, uint64_t to, size_t *len)
{
	uint64_t oldest = h->end > CONTROL_HISTORY ? h->end - CONTROL_HISTORY : 0;
	uint8_t *text;

	to = MIN(to, h->end);
	*from = MIN(MAX(*from, oldest), to);
	*len = to - *from;
	text = malloc(*len + 1);
	for (size_t i = 0; text && i < *len; i++)
		text[i] = h->text[(*from + i) % CONTROL_HISTORY];
	return text;
}

json_t *history_text(const struct history *h, uint64_t *from, uint64_t to)
{
	size_t len;
	uint8_t *text = history_copy(h, from, MAX(to, *from), &len);
	json_t *v = text ? text_value(text, len) : NULL;

	free(text);
	return v;
}

ssize_t screen_text(struct control *c)
{
	struct gannet_screen s;
	size_t n = 0;

	if (!gannet_screen(c->g, &s) || !s.text)
		return -1;
	for (unsigned row = 0; row < s.rows; row++) {
		const struct gannet_cell *cell = s.cells + (size_t)row * s.cols;
		unsigned cols = s.cols;

		while (cols && (cell[cols - 1].ch == ' ' || !cell[cols - 1].ch))
			cols--;
		if (n + cols * CP437_UTF8_MAX + 1 > sizeof(c->screen))
			break;
		for (unsigned col = 0; col < cols; col++)
			n += cp437_utf8(c->screen + n, cell[col].ch);
		c->screen[n++] = '\n';
	}
	return n;
}

/* ---- what a serial port says ---- */

/* False: part of an escape sequence (ECMA-48), or of no interest to a reader. */
static bool readable(struct history *h, uint8_t ch)
{
	switch (h->state) {
	case PLAIN:
		if (ch == 0x1b)
			h->state = ESCAPE;
		return ch != 0x1b && ch != '\r' && ch != 0;
	case ESCAPE:
		h->state = ch == '[' ? SEQUENCE : ch == ']' || ch == 'P' || ch == '_' || ch == '^' ?
			   STRING : ch >= 0x20 && ch < 0x30 ? CHARSET : PLAIN;
		return false;
	case SEQUENCE:
		if (ch >= 0x40 || ch == '\n')
			h->state = PLAIN;
		return ch == '\n';
	case CHARSET:
		h->state = PLAIN;
		return false;
	case STRING:
		if (ch == 0x1b)
			h->state = STRING_ESCAPE;
		else if (ch == 7 || ch == '\n')
			h->state = PLAIN;
		return ch == '\n';
	case STRING_ESCAPE:
		h->state = PLAIN;
		return false;
	}
	return true;
}

static void history_add(struct history *h, const uint8_t *text, size_t len)
{
	struct control *c = h->control;

	for (size_t i = 0; i < len; i++)
		h->text[(h->end + i) % CONTROL_HISTORY] = text[i];
	h->end += len;
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
		struct task *t = c->client[i] ? &c->client[i]->task : NULL;

		if (!t || t->kind != TASK_SERIAL || t->port != h->port || t->done)
			continue;
		t->done = text_match_feed(t->match, text, len);
		if (t->done)
			control_wake(c);
	}
}

void control_tap(void *opaque, const uint8_t *buf, size_t len)
{
	struct history *h = opaque;
	uint8_t text[TAP_CHUNK];
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (readable(h, buf[i]))
			text[n++] = buf[i];
		if (n == sizeof(text) || i + 1 == len) {
			history_add(h, text, n);
			n = 0;
		}
	}
}

/* ---- beginning ---- */

static bool wait_serial(struct client *cl, json_t *request, const char *pattern, bool regex,
			struct error *err)
{
	struct task *t = &cl->task;
	struct history *h = &cl->control->serial[t->port];
	json_t *since = json_object_get(request, "since");
	size_t len;
	uint8_t *text;

	if (since && (!json_is_integer(since) || json_integer_value(since) < 0))
		return wrong(err, "since", "a position, as an answer told it");
	t->from = since ? (uint64_t)json_integer_value(since) : h->mark;
	text = history_copy(h, &t->from, UINT64_MAX, &len);
	if (!text) {
		error_set(err, "out of memory");
		return false;
	}
	t->match = text_match_create(pattern, regex, !t->from ||
				     h->text[(t->from - 1) % CONTROL_HISTORY] == '\n', err);
	if (t->match)
		t->done = text_match_feed(t->match, text, len);
	free(text);
	t->kind = TASK_SERIAL;
	return t->match != NULL;
}

bool task_wait(struct client *cl, json_t *request, struct error *err)
{
	const char *pattern, *on = "serial";
	struct task *t = &cl->task;
	bool regex = false;

	if (!field_text(request, "for", &pattern, err) ||
	    !field_may_text(request, "on", &on, err) ||
	    !field_may_bool(request, "regex", &regex, err) ||
	    !field_port(request, &t->port, err) || !field_timeout(request, 30, t, err))
		return false;
	t->pattern = strdup(pattern);
	if (!strcmp(on, "serial"))
		return wait_serial(cl, request, pattern, regex, err);
	if (strcmp(on, "screen"))
		return wrong(err, "on", "\"serial\" or \"screen\"");
	t->match = text_match_create(pattern, regex, true, err);
	t->kind = TASK_SCREEN;
	return t->match != NULL;
}

static void add_key(struct task *t, unsigned key, bool down)
{
	t->keys[t->count++] = (struct key_event){ key, down };
}

bool task_type(struct client *cl, json_t *request, struct error *err)
{
	struct task *t = &cl->task;
	const char *text;
	size_t len;

	if (!field_text(request, "text", &text, err))
		return false;
	len = strlen(text);
	if (!field_timeout(request, 30 + len * 0.05, t, err))
		return false;
	t->keys = calloc(len, 4 * sizeof(*t->keys));
	t->kind = TASK_TYPE;
	if (!t->keys) {
		error_set(err, "out of memory");
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		struct us_key k = us_keyboard_find(text[i]);

		if (!k.key) {
			error_set(err, "character %zu of \"text\" (byte 0x%02x) is on no key of a US keyboard",
				  i, (uint8_t)text[i]);
			return false;
		}
		if (k.modifier)
			add_key(t, k.modifier, true);
		add_key(t, k.key, true);
		add_key(t, k.key, false);
		if (k.modifier)
			add_key(t, k.modifier, false);
	}
	return true;
}

bool task_key(struct client *cl, json_t *request, struct error *err)
{
	struct task *t = &cl->task;
	json_t *down = json_object_get(request, "down");
	bool held = false;
	const char *name;
	unsigned keys = 0;

	if (!field_text(request, "key", &name, err) ||
	    !field_may_bool(request, "down", &held, err) || !field_timeout(request, 30, t, err))
		return false;
	t->kind = TASK_TYPE;
	t->keys = calloc(strlen(name) + 1, 2 * sizeof(*t->keys));
	if (!t->keys) {
		error_set(err, "out of memory");
		return false;
	}
	for (const char *p = name;; p++) {
		size_t len = strcspn(p, "-");
		unsigned key = us_keyboard_name(p, len);

		if (!key) {
			error_set(err, "\"key\": %.*s is no key; write a, 1, enter, f1, ctrl-alt-delete ..., minus for -",
				  (int)MIN(len, 40), p);
			return false;
		}
		t->keys[keys++] = (struct key_event){ key, down ? held : true };
		p += len;
		if (!*p)
			break;
	}
	t->count = keys;
	/* Let go in the other order. */
	for (unsigned i = keys; !down && i > 0; i--)
		add_key(t, t->keys[i - 1].key, false);
	return true;
}

bool task_send(struct client *cl, json_t *request, struct error *err)
{
	struct task *t = &cl->task;
	const char *text;

	if (!field_text(request, "text", &text, err) || !field_port(request, &t->port, err) ||
	    !field_timeout(request, 30, t, err))
		return false;
	t->kind = TASK_SEND;
	t->text = strdup(text);
	t->count = strlen(text);
	if (!t->text)
		error_set(err, "out of memory");
	return t->text != NULL;
}

void task_finish(struct task *t)
{
	json_decref(t->id);
	text_match_destroy(t->match);
	free(t->pattern);
	free(t->keys);
	free(t->text);
	*t = (struct task){ .kind = TASK_NONE };
}

void task_abandon(struct client *cl)
{
	struct control *c = cl->control;
	struct task *t = &cl->task;
	bool held[256] = { false };

	if (c->typist == cl)
		c->typist = NULL;
	for (size_t i = 0; i < t->at && t->kind == TASK_TYPE; i++)
		held[t->keys[i].key] = t->keys[i].down;
	for (unsigned key = 0; key < 256 && t->at < t->count; key++) {
		if (held[key])
			gannet_key(c->g, key, false);
	}
	task_finish(t);
}

/* ---- at work ---- */

static void run_screens(struct control *c)
{
	ssize_t len = -2;

	for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
		struct task *t = c->client[i] ? &c->client[i]->task : NULL;

		if (!t || t->kind != TASK_SCREEN || t->done)
			continue;
		if (len == -2)
			len = screen_text(c);
		text_match_reset(t->match, true);
		t->done = len > 0 && text_match_feed(t->match, (const uint8_t *)c->screen, len);
	}
}

/* One keyboard: one types at a time. */
static void run_keys(struct control *c, int64_t now)
{
	struct gannet_status s;
	struct task *t;

	for (unsigned i = 0; !c->typist && i < CONTROL_CLIENTS; i++) {
		if (c->client[i] && c->client[i]->task.kind == TASK_TYPE)
			c->typist = c->client[i];
	}
	gannet_status(c->g, &s);
	if (!c->typist || now < c->key_at)
		return;
	t = &c->typist->task;
	c->key_at = now + KEY_AGAIN_MS * MS;
	if (!s.paused && t->at < t->count &&
	    gannet_key(c->g, t->keys[t->at].key, t->keys[t->at].down)) {
		t->at++;
		c->key_at = now + KEY_EVERY_MS * MS;
	}
	t->done = t->at == t->count;
}

static void run_send(struct control *c, struct task *t)
{
	t->at += gannet_serial_input(c->g, t->port, t->text + t->at, t->count - t->at);
	t->done = t->at == t->count;
}

/* ---- the end ---- */

static json_t *answer(struct control *c, struct task *t)
{
	json_t *reply = json_object();
	uint64_t start, end, from = t->from;
	struct history *h = &c->serial[t->port];

	switch (t->kind) {
	case TASK_SERIAL:
		text_match_found(t->match, &start, &end);
		start += t->from;
		end += t->from;
		json_object_set_new(reply, "text", history_text(h, &from, end));
		json_object_set_new(reply, "match", history_text(h, &start, end));
		json_object_set_new(reply, "position", json_integer(end));
		h->mark = end;
		break;
	case TASK_SCREEN:
		text_match_found(t->match, &start, &end);
		json_object_set_new(reply, "match", text_value((const uint8_t *)c->screen + start,
							       end - start));
		break;
	default:
		break;
	}
	json_object_set_new(reply, "id", t->id ? json_incref(t->id) : json_null());
	json_object_set_new(reply, "ok", json_true());
	return reply;
}

static size_t last_line(const uint8_t *text, size_t len, const uint8_t **line)
{
	size_t start;

	while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
		len--;
	for (start = len; start && text[start - 1] != '\n' && len - start < SHOWN_LINE; start--)
		;
	*line = text + start;
	return len - start;
}

static json_t *too_late(struct control *c, struct task *t)
{
	struct history *h = &c->serial[t->port];
	const uint8_t *line = NULL;
	uint8_t *text = NULL;
	uint64_t from = 0;
	size_t len = 0;
	char why[512];

	switch (t->kind) {
	case TASK_SERIAL:
		text = history_copy(h, &from, UINT64_MAX, &len);
		if (text)
			len = last_line(text, len, &line);
		snprintf(why, sizeof(why), "'%.80s' did not come on serial port %u in %g s; its last line is '%.*s'",
			 t->pattern, t->port, t->timeout, (int)len, line ? (const char *)line : "");
		break;
	case TASK_SCREEN:
		snprintf(why, sizeof(why), "'%.80s' did not come on the screen in %g s%s", t->pattern,
			 t->timeout, screen_text(c) < 0 ? ", which is in a graphics mode" : "");
		break;
	case TASK_TYPE:
		snprintf(why, sizeof(why), "in %g s the guest took %zu of %zu strokes%s", t->timeout,
			 t->at, t->count, c->g ? "; is it paused, or hung?" : "");
		break;
	default:
		snprintf(why, sizeof(why), "in %g s serial port %u took %zu of %zu bytes; is the guest paused, or does nobody read there?",
			 t->timeout, t->port, t->at, t->count);
	}
	free(text);
	return json_pack("{s:o?,s:b,s:o}", "id", json_incref(t->id), "ok", 0, "error",
			 text_value((const uint8_t *)why, strlen(why)));
}

static int64_t again(const struct control *c, const struct task *t, int64_t now)
{
	switch (t->kind) {
	case TASK_SCREEN: return MIN(t->deadline, now + SCREEN_EVERY_MS * MS);
	case TASK_TYPE: return MIN(t->deadline, MAX(c->key_at, now + MS));
	case TASK_SEND: return MIN(t->deadline, now + SEND_AGAIN_MS * MS);
	case TASK_SERIAL: return t->deadline;
	case TASK_NONE: break;
	}
	return INT64_MAX;
}

int64_t tasks_run(struct control *c)
{
	int64_t now = control_now(), at = INT64_MAX;

	run_screens(c);
	run_keys(c, now);
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
		struct client *cl = c->client[i];
		struct task *t = cl ? &cl->task : NULL;
		json_t *reply;

		if (!t || t->kind == TASK_NONE)
			continue;
		if (t->kind == TASK_SEND)
			run_send(c, t);
		if (!t->done && now < t->deadline) {
			at = MIN(at, again(c, t, now));
			continue;
		}
		reply = t->done ? answer(c, t) : too_late(c, t);
		task_abandon(cl);
		control_say(cl, reply);
		c->soon = true; /* its next request */
	}
	return at;
}
