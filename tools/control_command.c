/* What can be asked of a machine: one table, one function a command. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/net.h"
#include "core/util.h"
#include "tools/control_priv.h"
#include "tools/picture_file.h"

enum { PROGRESS_NS = 200000000 };

struct command {
	const char *name;
	bool (*run)(struct client *cl, json_t *request, json_t *reply, struct error *err);
	const char *fields; /* the request's, blanks around each */
};

static void put_text(json_t *reply, const char *name, const char *text)
{
	json_object_set_new(reply, name, text_value((const uint8_t *)text, strlen(text)));
}

static void put_number(json_t *reply, const char *name, int64_t n)
{
	json_object_set_new(reply, name, json_integer(n));
}

static void put_bool(json_t *reply, const char *name, bool b)
{
	json_object_set_new(reply, name, json_boolean(b));
}

static void event(struct client *cl, const char *name)
{
	control_event(cl->control, json_pack("{s:s}", "event", name));
}

/* ---- the machine ---- */

static bool cmd_pause(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	gannet_pause(cl->control->g);
	event(cl, "paused");
	return true;
}

static bool cmd_resume(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	gannet_resume(cl->control->g);
	event(cl, "resumed");
	return true;
}

static bool cmd_reset(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	gannet_reset(cl->control->g);
	event(cl, "reset");
	return true;
}

static bool cmd_power(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	gannet_power_button(cl->control->g);
	event(cl, "power");
	return true;
}

static bool cmd_quit(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	gannet_quit(cl->control->g);
	return true;
}

static bool cmd_status(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	struct control *c = cl->control;
	struct gannet_status s;

	gannet_status(c->g, &s);
	put_text(reply, "version", gannet_version());
	put_text(reply, "state", s.paused ? "paused" : "running");
	json_object_set_new(reply, "uptime", json_real((control_now() - c->started) / 1e9));
	json_object_set_new(reply, "clock", json_real(s.clock / 1e9));
	put_number(reply, "memory", s.memory);
	put_text(reply, "cpu", s.cpu);
	put_text(reply, "engine", s.engine);
	put_number(reply, "nics", s.nics);
	put_number(reply, "resets", s.resets);
	return true;
}

static void save_progress(void *opaque, uint64_t done, uint64_t total)
{
	struct client *cl = opaque;
	int64_t now = control_now();

	if (!cl->progress || now < cl->progress_at || cl->out_len > CONTROL_OUT_MAX)
		return;
	cl->progress_at = now + PROGRESS_NS;
	control_say(cl, json_pack("{s:s,s:o?,s:I,s:I}", "event", "progress", "id",
				  json_incref(cl->progress_id), "done", (json_int_t)done,
				  "total", (json_int_t)total));
}

static bool cmd_save(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	struct gannet_save_options o = { .progress = save_progress, .opaque = cl };
	int64_t before = control_now();
	const char *path;
	struct stat st;
	bool ok;

	cl->progress = false;
	if (!field_text(request, "path", &path, err) ||
	    !field_may_bool(request, "compress", &o.compress, err) ||
	    !field_may_bool(request, "progress", &cl->progress, err))
		return false;
	cl->progress_id = json_object_get(request, "id");
	cl->progress_at = before + PROGRESS_NS;
	ok = gannet_save(cl->control->g, path, &o, err->text, sizeof(err->text));
	cl->progress_id = NULL;
	if (!ok)
		return false;
	put_text(reply, "path", path);
	put_number(reply, "bytes", stat(path, &st) ? 0 : st.st_blocks * 512ll);
	json_object_set_new(reply, "seconds", json_real((control_now() - before) / 1e9));
	event(cl, "saved");
	return true;
}

/* ---- the network ---- */

/* "net": 0, "0" or "net0" */
static bool field_net(struct control *c, json_t *request, unsigned *n, struct error *err)
{
	json_t *v = json_object_get(request, "net");
	const char *text = json_string_value(v);
	struct gannet_status s;
	json_int_t i = -1;

	gannet_status(c->g, &s);
	if (text && !strncmp(text, "net", 3))
		text += 3;
	if (text && text[0] >= '0' && text[0] <= '9' && !text[1])
		i = text[0] - '0';
	else if (json_is_integer(v))
		i = json_integer_value(v);
	if (i >= 0 && i < s.nics) {
		*n = i;
		return true;
	}
	if (s.nics)
		error_set(err, "\"net\" must be a network card, 0 to %u", s.nics - 1);
	else
		error_set(err, "\"net\": this machine has no network card");
	return false;
}

struct counting {
	json_t *counters;
};

static void count(void *opaque, const char *part, const char *name, uint64_t value)
{
	struct counting *k = opaque;
	json_t *of = json_object_get(k->counters, part);

	if (!of) {
		of = json_object();
		json_object_set_new(k->counters, part, of);
	}
	put_number(of, name, value);
}

static json_t *describe_net(struct control *c, unsigned n)
{
	struct counting k = { json_object() };
	json_t *card = json_object(), *stages = json_array();
	struct gannet_net_info info;
	char mac[NET_MAC_TEXT_SIZE];
	const char *stage;
	bool enabled;

	gannet_net_info(c->g, n, &info);
	put_number(card, "net", n);
	put_text(card, "model", info.model);
	put_text(card, "guest_mac", net_mac_format(mac, info.guest_mac));
	put_text(card, "wire_mac", net_mac_format(mac, info.wire_mac));
	put_bool(card, "link", info.link);
	put_bool(card, "carrier", info.carrier);
	put_text(card, "url", info.url);
	put_text(card, "backend", info.backend);
	put_text(card, "status", info.status);
	for (unsigned i = 0; (stage = gannet_net_stage(c->g, n, i, &enabled)); i++)
		json_array_append_new(stages, json_pack("{s:s,s:b}", "stage", stage, "enabled", enabled));
	json_object_set_new(card, "stages", stages);
	gannet_net_counters(c->g, n, count, &k);
	json_object_set_new(card, "counters", k.counters);
	return card;
}

static bool cmd_net(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	json_t *cards = json_array();
	struct gannet_status s;

	gannet_status(cl->control->g, &s);
	for (unsigned i = 0; i < s.nics; i++)
		json_array_append_new(cards, describe_net(cl->control, i));
	json_object_set_new(reply, "nics", cards);
	return true;
}

static bool cmd_link(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	unsigned n;
	bool up;

	if (!field_net(cl->control, request, &n, err) || !field_bool(request, "up", &up, err))
		return false;
	gannet_net_link(cl->control->g, n, up);
	return true;
}

static bool cmd_backend(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	const char *url;
	unsigned n;

	return field_net(cl->control, request, &n, err) && field_text(request, "url", &url, err) &&
	       gannet_net_open(cl->control->g, n, url, err->text, sizeof(err->text));
}

static bool cmd_stage(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	const char *stage;
	bool enabled;
	unsigned n;

	return field_net(cl->control, request, &n, err) &&
	       field_text(request, "stage", &stage, err) &&
	       field_bool(request, "enabled", &enabled, err) &&
	       gannet_net_enable(cl->control->g, n, stage, enabled, err->text, sizeof(err->text));
}

static bool cmd_ip(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	const char *rule;
	unsigned n;

	return field_net(cl->control, request, &n, err) && field_text(request, "rule", &rule, err) &&
	       gannet_net_ip(cl->control->g, n, rule, err->text, sizeof(err->text));
}

static bool cmd_announce(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	unsigned n;

	return field_net(cl->control, request, &n, err) && gannet_net_announce(cl->control->g, n);
}

static bool cmd_capture_start(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	const char *path;

	return field_text(request, "path", &path, err) &&
	       gannet_capture(cl->control->g, path, err->text, sizeof(err->text));
}

static bool cmd_capture_stop(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	return gannet_capture(cl->control->g, NULL, err->text, sizeof(err->text));
}

/* ---- keyboard, serial ports, screen ---- */

static bool cmd_type(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	return task_type(cl, request, err);
}

static bool cmd_key(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	return task_key(cl, request, err);
}

static bool cmd_send(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	return task_send(cl, request, err);
}

static bool cmd_wait(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	return task_wait(cl, request, err);
}

static bool cmd_serial(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	json_t *since = json_object_get(request, "since");
	const struct history *h;
	uint64_t from = 0;
	unsigned port;

	if (!field_port(request, &port, err))
		return false;
	if (since && (!json_is_integer(since) || json_integer_value(since) < 0)) {
		error_set(err, "\"since\" must be a position, as an answer told it");
		return false;
	}
	h = &cl->control->serial[port];
	if (since)
		from = json_integer_value(since);
	json_object_set_new(reply, "text", history_text(h, &from, UINT64_MAX));
	put_number(reply, "since", from);
	put_number(reply, "position", h->end);
	return true;
}

static bool cmd_screen(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	struct control *c = cl->control;
	ssize_t len = screen_text(c);

	if (len < 0) {
		error_set(err, "the screen is in a graphics mode, or blank; screenshot shows it");
		return false;
	}
	json_object_set_new(reply, "text", text_value((const uint8_t *)c->screen, len));
	return true;
}

static bool cmd_screenshot(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	struct gannet_picture p;
	const char *path;

	if (!field_text(request, "path", &path, err))
		return false;
	if (!gannet_picture(cl->control->g, &p)) {
		error_set(err, "there is no picture: no display, or out of memory");
		return false;
	}
	if (!picture_file_write(path, &p, err))
		return false;
	put_text(reply, "path", path);
	put_number(reply, "width", p.width);
	put_number(reply, "height", p.height);
	return true;
}

static bool cmd_events(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	cl->events = true;
	return field_may_bool(request, "on", &cl->events, err);
}

/* ---- which ---- */

static bool cmd_help(struct client *cl, json_t *request, json_t *reply, struct error *err);

static const struct command commands[] = {
	{ "help", cmd_help, "" },
	{ "status", cmd_status, "" },
	{ "pause", cmd_pause, "" },
	{ "resume", cmd_resume, "" },
	{ "reset", cmd_reset, "" },
	{ "power", cmd_power, "" },
	{ "quit", cmd_quit, "" },
	{ "save", cmd_save, " path compress progress " },
	{ "net", cmd_net, "" },
	{ "link", cmd_link, " net up " },
	{ "backend", cmd_backend, " net url " },
	{ "stage", cmd_stage, " net stage enabled " },
	{ "ip", cmd_ip, " net rule " },
	{ "announce", cmd_announce, " net " },
	{ "capture-start", cmd_capture_start, " path " },
	{ "capture-stop", cmd_capture_stop, "" },
	{ "type", cmd_type, " text timeout " },
	{ "key", cmd_key, " key down timeout " },
	{ "send", cmd_send, " text port timeout " },
	{ "wait", cmd_wait, " for regex on port since timeout " },
	{ "serial", cmd_serial, " port since " },
	{ "screen", cmd_screen, "" },
	{ "screenshot", cmd_screenshot, " path " },
	{ "events", cmd_events, " on " },
};

static bool cmd_help(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		json_array_append_new(list, json_string(commands[i].name));
	json_object_set_new(reply, "commands", list);
	return true;
}

static bool known_fields(const struct command *cmd, json_t *request, struct error *err)
{
	const char *key;
	json_t *value;

	json_object_foreach(request, key, value) {
		char word[32];

		if (!strcmp(key, "id") || !strcmp(key, "command"))
			continue;
		snprintf(word, sizeof(word), " %.29s ", key);
		if (!strchr(key, ' ') && strstr(cmd->fields, word))
			continue;
		error_set(err, "%s has no field \"%.40s\"%s%s", cmd->name, key,
			  *cmd->fields ? "; there are" : "", cmd->fields);
		return false;
	}
	return true;
}

bool control_command(struct client *cl, json_t *request, json_t *reply, struct error *err)
{
	const char *name = json_string_value(json_object_get(request, "command"));

	if (!name) {
		error_set(err, "\"command\" is missing: {\"command\":\"help\"} lists what there is");
		return false;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(commands[i].name, name))
			return known_fields(&commands[i], request, err) &&
			       commands[i].run(cl, request, reply, err);
	}
	error_set(err, "'%.40s' is no command; \"help\" lists what there is", name);
	return false;
}
