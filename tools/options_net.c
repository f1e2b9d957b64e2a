/* See options_net.h.
 *
 * A list NAME=VALUE,NAME=VALUE is split once into pairs; each reader takes the
 * pairs it knows, and what is left over is refused by name. QEMU's spellings are
 * turned into the URL that means the same.
 */
#include "tools/options_net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS = 32 };

struct pairs {
	const char *option; /* "--nic", for messages */
	const char *whole;  /* the text as the user wrote it */
	char *text;         /* a copy, cut up; owned */
	char *head;         /* the first word if it has no '='; else NULL */
	struct {
		char *name, *value; /* value NULL: no '=' */
	} pair[PAIRS];
	unsigned count;
};

/* Cut at single commas; a doubled one stands for itself, as QEMU has it. */
static bool pairs_split(struct pairs *p, const char *option, const char *text, struct error *err)
{
	char *in, *out;

	*p = (struct pairs){ .option = option, .whole = text, .text = strdup(text) };
	if (!p->text) {
		error_set(err, "out of memory");
		return false;
	}
	for (in = p->text; *in;) {
		char *start = in, *equals;
		bool last;

		for (out = in; *in && (*in != ',' || in[1] == ','); in++) {
			if (*in == ',')
				in++;
			*out++ = *in;
		}
		last = !*in;
		if (!last)
			in++;
		*out = '\0';
		equals = strchr(start, '=');
		if (start == p->text && !equals) {
			p->head = start;
		} else if (*start) {
			if (p->count == PAIRS) {
				error_set(err, "%s %s: more than %d settings", option, text, PAIRS);
				free(p->text);
				return false;
			}
			if (equals)
				*equals++ = '\0';
			p->pair[p->count].name = start;
			p->pair[p->count++].value = equals;
		}
		if (last)
			break;
	}
	return true;
}

/* The value of a setting, taken out of the list; NULL if it is not there. */
static char *pairs_take(struct pairs *p, const char *name)
{
	for (unsigned i = 0; i < p->count; i++) {
		char *value = p->pair[i].value;

		if (strcmp(p->pair[i].name, name))
			continue;
		memmove(&p->pair[i], &p->pair[i + 1], (p->count - i - 1) * sizeof(p->pair[0]));
		p->count--;
		return value ? value : (char *)"";
	}
	return NULL;
}

static bool pairs_done(struct pairs *p, const char *known, struct error *err)
{
	if (!p->count)
		return true;
	error_set(err, "%s %s: unknown setting '%s'; there are %s", p->option, p->whole,
		  p->pair[0].name, known);
	return false;
}

static bool number(const struct pairs *p, const char *name, const char *text, int base,
		   unsigned long min, unsigned long max, unsigned long *out, struct error *err)
{
	char *end;
	unsigned long n = strtoul(text, &end, base);

	if (text[0] < '0' || text[0] > '9' || *end || n < min || n > max) {
		error_set(err, "%s %s: %s=%s: a number from %lu to %lu", p->option, p->whole, name,
			  text, min, max);
		return false;
	}
	*out = n;
	return true;
}

/* ---- backends ---- */

static bool add_net(struct net_options *o, const char *option, const char *url, const char *id,
		    struct error *err)
{
	if (o->nets == GANNET_NICS) {
		error_set(err, "%s %s: there is room for %d network cards", option, url, GANNET_NICS);
		return false;
	}
	if (strlen(url) >= NET_URL_SIZE || strlen(id) >= NET_ID_SIZE) {
		error_set(err, "%s: longer than %d bytes", option, NET_URL_SIZE - 1);
		return false;
	}
	for (unsigned i = 0; *id && i < o->nets; i++) {
		if (!strcmp(o->net[i].id, id)) {
			error_set(err, "%s: id=%s is given twice", option, id);
			return false;
		}
	}
	strcpy(o->net[o->nets].url, url);
	strcpy(o->net[o->nets++].id, id);
	return true;
}

bool net_option_url(struct net_options *o, const char *url, struct error *err)
{
	if (!strcmp(url, "none")) {
		o->none = true;
		return true;
	}
	return add_net(o, "--net", url, "", err);
}

/* A URL in the making: what does not fit makes it longer than add_net() takes. */
struct text {
	char buf[NET_URL_SIZE + 1];
	size_t len;
	char separator; /* before the next parameter */
};

static void put(struct text *t, const char *s)
{
	int n = snprintf(t->buf + t->len, sizeof(t->buf) - t->len, "%s", s);

	t->len = n < (int)(sizeof(t->buf) - t->len) ? t->len + n : sizeof(t->buf) - 1;
}

static void put_param(struct text *t, const char *name, const char *value)
{
	char escaped[4] = "";

	put(t, (char[]){ t->separator, '\0' });
	t->separator = '&';
	put(t, name);
	put(t, "=");
	for (; *value; value++) {
		if (strchr("%&?", *value))
			snprintf(escaped, sizeof(escaped), "%%%02x", *value);
		else
			snprintf(escaped, sizeof(escaped), "%c", *value);
		put(t, escaped);
	}
}

/* QEMU's parameters of a user network, and ours where the name differs. */
static const char *const user_words[][2] = {
	{ "net", "net" }, { "host", "host" }, { "dns", "dns" }, { "dhcpstart", "dhcpstart" },
	{ "hostname", "hostname" }, { "domainname", "domainname" }, { "restrict", "restrict" },
	{ "ipv6", "ipv6" }, { "ipv6-prefix", "ipv6-prefix" }, { "tftp", "tftp" }, { "bootfile", "bootfile" },
	{ "tftp-server-name", "tftp-server-name" },
};

static bool user_url(struct pairs *p, struct text *t)
{
	char forwards[NET_URL_SIZE] = "";
	char *value;

	put(t, "user:");
	for (size_t i = 0; i < sizeof(user_words) / sizeof(user_words[0]); i++) {
		value = pairs_take(p, user_words[i][0]);
		if (value)
			put_param(t, user_words[i][1], value);
	}
	while ((value = pairs_take(p, "hostfwd"))) {
		size_t used = strlen(forwards);

		snprintf(forwards + used, sizeof(forwards) - used, "%s%s", used ? ";" : "", value);
	}
	if (*forwards)
		put_param(t, "hostfwd", forwards);
	return true;
}

/* stream,server=on,addr.type=unix,addr.path=P and socket,listen=HOST:PORT|connect=HOST:PORT */
static bool stream_url(struct pairs *p, struct text *t, struct error *err)
{
	char *type = pairs_take(p, "addr.type"), *path = pairs_take(p, "addr.path");
	char *host = pairs_take(p, "addr.host"), *port = pairs_take(p, "addr.port");
	char *server = pairs_take(p, "server");
	bool listens = server && strcmp(server, "off");

	put(t, "stream:");
	if (type && !strcmp(type, "unix") && path) {
		put(t, "unix:");
		put(t, path);
	} else if (type && !strcmp(type, "inet") && port) {
		put(t, "tcp:");
		put(t, host && *host ? host : "127.0.0.1");
		put(t, ":");
		put(t, port);
	} else {
		error_set(err, "%s %s: needs addr.type=unix,addr.path=PATH or addr.type=inet,addr.host=HOST,addr.port=PORT",
			  p->option, p->whole);
		return false;
	}
	if (listens)
		put_param(t, "server", "on");
	return true;
}

static bool socket_url(struct pairs *p, struct text *t, struct error *err)
{
	char *listens = pairs_take(p, "listen"), *connects = pairs_take(p, "connect");
	char *where = listens ? listens : connects;

	if (!where || (listens && connects)) {
		error_set(err, "%s %s: needs listen=[HOST]:PORT or connect=HOST:PORT", p->option,
			  p->whole);
		return false;
	}
	put(t, "stream:tcp:");
	if (*where == ':')
		put(t, "127.0.0.1");
	put(t, where);
	if (listens)
		put_param(t, "server", "on");
	return true;
}

/* The URL that means what QEMU's TYPE and settings do. */
static bool qemu_url(struct pairs *p, struct text *t, struct error *err)
{
	const char *type = p->head;

	t->separator = '?';
	if (!strcmp(type, "user"))
		return user_url(p, t);
	if (!strcmp(type, "tap")) {
		char *name = pairs_take(p, "ifname"), *script = pairs_take(p, "script");
		char *down = pairs_take(p, "downscript");

		if ((script && strcmp(script, "no")) || (down && strcmp(down, "no"))) {
			error_set(err, "%s %s: scripts are not run; set the interface up first and say script=no",
				  p->option, p->whole);
			return false;
		}
		put(t, "tap:");
		put(t, name ? name : "tap0");
		return true;
	}
	if (!strcmp(type, "stream"))
		return stream_url(p, t, err);
	if (!strcmp(type, "socket"))
		return socket_url(p, t, err);
	error_set(err, "%s %s: '%s' is unknown; there are user, tap, stream, socket and none (and --net URL)",
		  p->option, p->whole, type);
	return false;
}

bool net_option_netdev(struct net_options *o, const char *text, struct error *err)
{
	struct pairs p;
	struct text t = { .len = 0 };
	const char *id;
	bool ok = false;

	if (!pairs_split(&p, "-netdev", text, err))
		return false;
	id = pairs_take(&p, "id");
	if (!p.head || !id || !*id)
		error_set(err, "-netdev %s: write TYPE,id=ID, as in user,id=n0", text);
	else if (qemu_url(&p, &t, err))
		ok = pairs_done(&p, "those of user, tap, stream and socket", err) &&
		     add_net(o, "-netdev", t.buf, id, err);
	free(p.text);
	return ok;
}

/* ---- cards ---- */

static const char card_settings[] = "model=, mac=, wire=, ip=, net=, romfile=, slot=, iobase=, irq=";

static bool add_card(struct net_options *o, struct pairs *p, const char *model, int net,
		     const char *id, struct error *err)
{
	struct gannet_nic nic = { .model = model };
	unsigned long n = 0;
	char *value;

	if (o->nics == GANNET_NICS) {
		error_set(err, "%s %s: there is room for %d network cards", p->option, p->whole,
			  GANNET_NICS);
		return false;
	}
	nic.mac = pairs_take(p, "mac");
	nic.wire_mac = pairs_take(p, "wire");
	nic.ip = pairs_take(p, "ip");
	nic.romfile = pairs_take(p, "romfile");
	if (nic.romfile && !*nic.romfile)
		nic.romfile = NULL; /* QEMU's way to say: no ROM */
	if ((value = pairs_take(p, "slot"))) {
		if (!number(p, "slot", value, 0, 1, 31, &n, err))
			return false;
		nic.slot = n;
	}
	if ((value = pairs_take(p, "addr"))) { /* hexadecimal, as QEMU has it */
		if (!number(p, "addr", value, 16, 1, 31, &n, err))
			return false;
		nic.slot = n;
	}
	if ((value = pairs_take(p, "iobase"))) {
		if (!number(p, "iobase", value, 0, 1, 0xffff, &n, err))
			return false;
		nic.iobase = n;
	}
	if ((value = pairs_take(p, "irq"))) {
		if (!number(p, "irq", value, 0, 1, 15, &n, err))
			return false;
		nic.irq = n;
	}
	if ((value = pairs_take(p, "net"))) {
		if (!strcmp(value, "none")) {
			net = -2;
		} else {
			if (!number(p, "net", value, 10, 0, GANNET_NICS - 1, &n, err))
				return false;
			net = n;
		}
	}
	if (!pairs_done(p, card_settings, err))
		return false;
	if (strlen(id) >= NET_ID_SIZE) {
		error_set(err, "%s %s: netdev=%s is too long", p->option, p->whole, id);
		return false;
	}
	o->card[o->nics].nic = nic;
	o->card[o->nics].net = net;
	strcpy(o->card[o->nics].id, id);
	o->card[o->nics++].text = p->text;
	return true;
}

bool net_option_nic(struct net_options *o, const char *text, struct error *err)
{
	struct pairs p;
	struct text t = { .len = 0 };
	const char *model;
	int net = -1;

	if (!strcmp(text, "none")) {
		o->none = true;
		return true;
	}
	if (!pairs_split(&p, "--nic", text, err))
		return false;
	model = pairs_take(&p, "model");
	pairs_take(&p, "id");
	if (p.head && !model && !strncmp(p.head, "ne2k_", 5)) {
		model = p.head;
	} else if (p.head) {
		/* QEMU: backend and card in one. The card's settings are taken out first;
		 * what is left over is the backend's. */
		struct pairs backend = p;
		static const char *const words[] = { "mac", "wire", "ip", "romfile", "slot", "addr", "iobase", "irq" };

		p.count = 0;
		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
			char *value = pairs_take(&backend, words[i]);

			if (value) {
				p.pair[p.count].name = (char *)words[i];
				p.pair[p.count++].value = value;
			}
		}
		if (!qemu_url(&backend, &t, err) ||
		    !pairs_done(&backend, "model=, mac= and those of the backend", err) ||
		    !add_net(o, "--nic", t.buf, "", err))
			goto fail;
		net = o->nets - 1;
	}
	if (add_card(o, &p, model, net, "", err))
		return true;
fail:
	free(p.text);
	return false;
}

bool net_option_device(struct net_options *o, const char *text, struct error *err)
{
	struct pairs p;
	const char *id;

	if (!pairs_split(&p, "-device", text, err))
		return false;
	id = pairs_take(&p, "netdev");
	pairs_take(&p, "id");
	pairs_take(&p, "bus");
	if (add_card(o, &p, p.head, id ? -1 : -2, id ? id : "", err))
		return true;
	free(p.text);
	return false;
}

/* ---- in the end ---- */

static int find_net(const struct net_options *o, unsigned card, struct error *err)
{
	int net = o->card[card].net;

	if (*o->card[card].id) {
		for (unsigned i = 0; i < o->nets; i++) {
			if (!strcmp(o->net[i].id, o->card[card].id))
				return i;
		}
		error_set(err, "-device netdev=%s: there is no -netdev with that id", o->card[card].id);
		return -3;
	}
	if (net >= (int)o->nets) {
		error_set(err, "--nic net=%d: there %s %u --net", net, o->nets == 1 ? "is" : "are",
			  o->nets);
		return -3;
	}
	for (unsigned i = 0; net == -1 && i < o->nets; i++) {
		if (!o->net[i].taken && !*o->net[i].id)
			return i;
	}
	return net;
}

bool net_options_settle(struct net_options *o, struct gannet_config *c, struct error *err)
{
	if (o->none && (o->nets || o->nics)) {
		error_set(err, "--net none with %s: leave one out", o->nets ? "another network" : "--nic");
		return false;
	}
	/* Who names a backend has it, before the others take what is left. */
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < o->nics; i++) {
			bool named = o->card[i].net >= 0 || *o->card[i].id;
			int net;

			if (named != (pass == 0) || o->card[i].net == -2)
				continue;
			net = find_net(o, i, err);
			if (net == -3)
				return false;
			if (net < 0)
				continue;
			if (o->net[net].taken) {
				error_set(err, "--nic net=%d: another card has it", net);
				return false;
			}
			o->net[net].taken = true;
			o->card[i].nic.net = o->net[net].url;
		}
	}
	for (unsigned i = 0; i < o->nics; i++)
		c->nic[c->nics++] = o->card[i].nic;
	for (unsigned i = 0; i < o->nets; i++) {
		if (o->net[i].taken)
			continue;
		if (*o->net[i].id) {
			error_set(err, "-netdev id=%s: no card has it; add -device ne2k_pci,netdev=%s",
				  o->net[i].id, o->net[i].id);
			return false;
		}
		if (c->nics == GANNET_NICS) {
			error_set(err, "--net %s: there is room for %d network cards", o->net[i].url,
				  GANNET_NICS);
			return false;
		}
		c->nic[c->nics++].net = o->net[i].url;
	}
	return true;
}

void net_options_finish(struct net_options *o)
{
	for (unsigned i = 0; i < o->nics; i++)
		free(o->card[i].text);
	o->nics = 0;
}
