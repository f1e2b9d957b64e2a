/* See relay_options.h. Options are --NAME VALUE or --NAME=VALUE; one dash is as good. */
#include "tools/relay_options.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/util.h"

enum { ADDRESSES_MAX = 1 << 22 };

struct number {
	const char *name;
	size_t at;
	uint64_t min, max;
	const char *unit;
};

#define AT(field) offsetof(struct relay_options, field)

static const struct number numbers[] = {
	{ "max-clients", AT(max_clients), 1, 65536, "" },
	{ "max-per-address", AT(max_per_address), 0, 65536, "" },
	{ "rate", AT(rate), 0, 1ull << 40, " bytes per second" },
	{ "burst", AT(burst), 9216, 1ull << 40, " bytes" },
	{ "queue", AT(queue), 16 * KIB, 1ull << 30, " bytes" },
	{ "memory", AT(memory), 4 * MIB, 1ull << 40, " bytes" },
	{ "macs", AT(macs), 1, 4096, "" },
	{ "age", AT(age), 1, 1000000, " seconds" },
	{ "ping", AT(ping), 0, 86400, " seconds" },
	{ "stale", AT(stale), 1, 3600000, " milliseconds" },
};

static bool number_parse(const struct number *n, const char *text, uint64_t *value,
			 struct error *err)
{
	static const char suffixes[] = "KMG";
	unsigned long long v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || errno)
		goto bad;
	if (*end && !end[1]) {
		const char *suffix = strchr(suffixes, toupper((unsigned char)*end));

		if (!suffix || v >> (64 - 10 * (suffix - suffixes + 1)))
			goto bad;
		v <<= 10 * (suffix - suffixes + 1);
		end++;
	}
	if (*end || v < n->min || v > n->max)
		goto bad;
	*value = v;
	return true;
bad:
	error_set(err, "--%s %s: give a number from %llu to %llu%s; K, M and G are understood",
		  n->name, text, (unsigned long long)n->min, (unsigned long long)n->max, n->unit);
	return false;
}

static bool token_add(struct relay_options *o, const char *token, size_t len, const char *from,
		      struct error *err)
{
	if (!len || len >= RELAY_TOKEN_SIZE) {
		error_set(err, "%s: a token has 1 to %d characters", from, RELAY_TOKEN_SIZE - 1);
		return false;
	}
	if (o->tokens == RELAY_TOKENS) {
		error_set(err, "%s: more than %d tokens", from, RELAY_TOKENS);
		return false;
	}
	memcpy(o->token[o->tokens++], token, len);
	return true;
}

static bool token_file(struct relay_options *o, const char *path, struct error *err)
{
	char line[2 * RELAY_TOKEN_SIZE], from[128];
	unsigned before = o->tokens;
	FILE *f = fopen(path, "re");
	bool ok = true;

	snprintf(from, sizeof(from), "--token-file %s", path);
	if (!f) {
		error_set(err, "%s: %s", from, strerror(errno));
		return false;
	}
	while (ok && fgets(line, sizeof(line), f)) {
		size_t len = strcspn(line, "\r\n");

		if (len)
			ok = token_add(o, line, len, from, err);
	}
	if (ok && ferror(f)) {
		error_set(err, "%s: %s", from, strerror(errno));
		ok = false;
	} else if (ok && o->tokens == before) {
		error_set(err, "%s: no token in it; write one on a line of its own", from);
		ok = false;
	}
	explicit_bzero(line, sizeof(line));
	fclose(f);
	return ok;
}

static bool list_add(const char **list, unsigned *count, unsigned max, const char *name,
		     const char *value, struct error *err)
{
	if (*count == max) {
		error_set(err, "--%s %s: at most %u of them", name, value, max);
		return false;
	}
	list[(*count)++] = value;
	return true;
}

static bool flag(struct relay_options *o, const char *name, struct error *err, bool *ok)
{
	*ok = true;
	if (!strcmp(name, "help") || !strcmp(name, "h"))
		o->help = true;
	else if (!strcmp(name, "quiet"))
		o->quiet = true;
	else if (!strcmp(name, "json-log"))
		o->json_log = true;
	else if (!strcmp(name, "gateway"))
		*ok = list_add(o->uplink, &o->uplinks, RELAY_UPLINK_MAX, "gateway", "user:", err);
	else
		return false;
	return true;
}

static bool value(struct relay_options *o, const char *name, const char *text, struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (!strcmp(name, numbers[i].name))
			return number_parse(&numbers[i], text,
					    (uint64_t *)((char *)o + numbers[i].at), err);
	}
	if (!strcmp(name, "listen"))
		return list_add(o->listen, &o->listens, RELAY_LISTEN_MAX, name, text, err);
	if (!strcmp(name, "uplink"))
		return list_add(o->uplink, &o->uplinks, RELAY_UPLINK_MAX, name, text, err);
	if (!strcmp(name, "token"))
		return token_add(o, text, strlen(text), "--token", err);
	if (!strcmp(name, "token-file"))
		return token_file(o, text, err);
	if (!strcmp(name, "cert"))
		o->cert = text;
	else if (!strcmp(name, "key"))
		o->key = text;
	else if (!strcmp(name, "capture"))
		o->capture = text;
	return true;
}

static bool takes_value(const char *name)
{
	static const char *const texts[] = { "listen", "uplink", "token", "token-file", "cert",
					     "key", "capture" };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (!strcmp(name, texts[i]))
			return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (!strcmp(name, numbers[i].name))
			return true;
	}
	return false;
}

bool relay_options_parse(struct relay_options *o, int argc, char **argv, struct error *err)
{
	*o = (struct relay_options){
		.max_clients = 4096, .queue = 1 * MIB, .memory = 256 * MIB, .macs = 16,
		.age = 300, .ping = 30, .stale = 5000,
	};
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];
		char name[32];
		size_t len;
		bool ok;

		if (arg[0] != '-' || !arg[1]) {
			error_set(err, "%s: not an option; try gannet relay --help", arg);
			return false;
		}
		arg += arg[1] == '-' ? 2 : 1;
		len = strcspn(arg, "=");
		snprintf(name, sizeof(name), "%.*s", (int)MIN(len, sizeof(name) - 1), arg);
		if (!arg[len] && flag(o, name, err, &ok)) {
			if (!ok)
				return false;
			continue;
		}
		if (!takes_value(name)) {
			error_set(err, "--%s: no such option; try gannet relay --help", name);
			return false;
		}
		if (!arg[len] && i + 1 == argc) {
			error_set(err, "--%s needs a value; try gannet relay --help", name);
			return false;
		}
		if (!value(o, name, arg[len] ? arg + len + 1 : argv[++i], err))
			return false;
	}
	if (!o->cert != !o->key) {
		error_set(err, "--%s: TLS needs --cert FILE and --key FILE both",
			  o->cert ? "cert" : "key");
		return false;
	}
	if (o->max_clients * o->macs > ADDRESSES_MAX) {
		error_set(err, "--macs %llu: with --max-clients %llu that is more than %d addresses",
			  (unsigned long long)o->macs, (unsigned long long)o->max_clients,
			  ADDRESSES_MAX);
		return false;
	}
	if (!o->listens)
		o->listen[o->listens++] = "127.0.0.1:8086";
	if (!o->burst)
		o->burst = MAX(o->rate / 4, 64 * KIB);
	return true;
}

void relay_options_help(FILE *out)
{
	fputs("usage: gannet relay [OPTION]...\n"
	      "An Ethernet switch for emulated machines: one raw frame per binary WebSocket message,\n"
	      "at any path. A browser that opens the same address sees who is connected.\n"
	      "\n"
	      "  --listen ADDR:PORT    where to listen; [::1]:8086 for IPv6, *:8086 for every address,\n"
	      "                        port 0 for a free one; repeatable (127.0.0.1:8086)\n"
	      "  --gateway             every client gets DHCP, DNS and NAT: --uplink user:\n"
	      "  --uplink URL          join another network: user:, tap:NAME, ws://HOST/, or any\n"
	      "                        other URL of gannet --net; repeatable\n"
	      "  --token TEXT          who connects must know it, as \"Authorization: Bearer TEXT\" or\n"
	      "                        as ?token=TEXT; the status page too; repeatable\n"
	      "  --token-file FILE     the same, one on a line: nobody sees it in the process list\n"
	      "  --cert FILE --key FILE  TLS (wss://): certificate chain and private key, PEM\n"
	      "  --max-clients N       at most so many (4096)\n"
	      "  --max-per-address N   and so many from one IP address (0: no limit)\n"
	      "  --rate BYTES          bytes per second a client may send (0: no limit)\n"
	      "  --burst BYTES         and at once (a quarter second of the rate, at least 64K)\n"
	      "  --queue BYTES         kept for a client that reads slowly (1M)\n"
	      "  --memory BYTES        kept for all of them together (256M)\n"
	      "  --stale MS            what waited so long is dropped (5000)\n"
	      "  --macs N              addresses one client may have (16)\n"
	      "  --age S               until a silent address is forgotten (300)\n"
	      "  --ping S              ping who is silent so long, end it 10 s later (30; 0: never)\n"
	      "  --capture FILE        everything that is switched, as pcapng (or FILE.pcap)\n"
	      "  --quiet               no line per event; --json-log: lines in JSON\n"
	      "  --help\n"
	      "\n"
	      "examples:\n"
	      "  gannet relay --gateway\n"
	      "      and then: gannet --net ws://127.0.0.1:8086/ ...   (or relay_url in v86)\n"
	      "  gannet relay --listen *:443 --cert chain.pem --key key.pem --token-file tokens\n"
	      "  gannet relay --listen 127.0.0.1:0 --uplink tap:tap0 --capture lan.pcapng\n"
	      "  the page: http://127.0.0.1:8086/   the same for programs: /status.json\n",
	      out);
}
