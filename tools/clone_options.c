/* The command line of gannet clone: its own few options, everything else is for the
 * machines. See clone_priv.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/util.h"
#include "tools/clone_priv.h"

/* What a word is called without its dashes; NULL if it is no option. */
static const char *option_name(const char *word)
{
	if (word[0] != '-' || !word[1])
		return NULL;
	return word + 1 + (word[1] == '-');
}

static bool is(const char *name, const char *option)
{
	size_t len = strlen(option);

	return !strncmp(name, option, len) && (!name[len] || name[len] == '=');
}

static bool number(const char *option, const char *text, unsigned min, unsigned max, unsigned *to,
		   struct error *err)
{
	unsigned long v;
	char *end;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || v < min || v > max) {
		error_set(err, "%s %s: give a number from %u to %u", option, text, min, max);
		return false;
	}
	*to = v;
	return true;
}

/* Two machines would get in each other's way: with one file, one socket, one address. */
static bool shared(const char *name, const char *value, bool alone, struct error *err)
{
	static const char *const files[] = {
		"save", "control", "capture", "D", "debugcon", "firmware-log", "serial",
	};

	if (is(name, "restore") || is(name, "instance") || is(name, "status-fd")) {
		error_set(err, "--%.*s: clone says that itself; --name PREFIX is for the instances",
			  (int)strcspn(name, "="), name);
		return false;
	}
	if (is(name, "display") && !strcmp(value, "curses")) {
		error_set(err, "-display curses: the machines have no terminal; take none, or sdl");
		return false;
	}
	if (alone)
		return true;
	if (is(name, "mac") && !strcmp(value, "preserve")) {
		error_set(err, "--mac preserve: all copies would have one address; leave it out, or take new");
		return false;
	}
	if (strstr(value, "{}"))
		return true;
	if (is(name, "nic") && strstr(value, "wire=") && !strstr(value, "wire=random")) {
		error_set(err, "--nic %s: all copies would have one address; leave wire= out, or write {} for the number",
			  value);
		return false;
	}
	if (is(name, "ip") && strcmp(value, "none")) {
		error_set(err, "--ip %s: all copies would have one address; put {} where the number of each belongs",
			  value);
		return false;
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		if (!is(name, files[i]) || !strncmp(value, "stdio", 5) || !strcmp(value, "pty") ||
		    !strcmp(value, "null") || !strcmp(value, "none"))
			continue;
		error_set(err, "-%s%s %s: all copies would write to it; put {} where the number of each belongs",
			  strlen(files[i]) > 1 && strcmp(files[i], "serial") ? "-" : "", files[i], value);
		return false;
	}
	return true;
}

static bool check_pass(const struct clone_options *o, struct error *err)
{
	for (unsigned i = 0; i < o->pass_count; i++) {
		const char *name = option_name(o->pass[i]), *value;

		if (!name)
			continue;
		value = strchr(name, '=');
		value = value ? value + 1 : i + 1 < o->pass_count ? o->pass[i + 1] : "";
		if (!shared(name, value, o->count == 1, err))
			return false;
	}
	return true;
}

/* One that a second run beside the first does not use, too. */
static bool invent_name(struct clone_options *o, struct error *err)
{
	const char *base = strrchr(o->file, '/');
	uint16_t random = 0;
	char *name = malloc(CLONE_NAME);
	size_t len;

	if (!name || getrandom(&random, sizeof(random), 0) != sizeof(random)) {
		error_set(err, "out of memory");
		free(name);
		return false;
	}
	base = base ? base + 1 : o->file;
	len = strcspn(base, ".");
	snprintf(name, CLONE_NAME, "%.*s-%04x", (int)MIN(len, (size_t)64), base, random);
	o->name = name;
	return true;
}

static bool own_option(struct clone_options *o, const char *word, const char *name,
		       const char *value, struct error *err)
{
	if (is(name, "n") || is(name, "count"))
		return number(word, value, 1, CLONES_MAX, &o->count, err);
	if (is(name, "first"))
		return number(word, value, 0, 1000000, &o->first, err);
	if (is(name, "interval")) {
		o->interval_given = true;
		return number(word, value, 0, 86400, &o->interval, err);
	}
	if (!*value || strlen(value) > 64) {
		error_set(err, "--name %s: one to 64 characters", value);
		return false;
	}
	free((char *)o->name);
	o->name = strdup(value);
	if (!o->name)
		error_set(err, "out of memory");
	return o->name != NULL;
}

bool clone_options_parse(struct clone_options *o, int argc, char **argv, struct error *err)
{
	*o = (struct clone_options){ .count = 2, .first = 1 };
	o->pass = calloc(argc + 1, sizeof(*o->pass));
	if (!o->pass) {
		error_set(err, "out of memory");
		return false;
	}
	for (int i = 1; i < argc; i++) {
		const char *name = option_name(argv[i]), *value;

		if (!name && !o->file) {
			o->file = argv[i];
			continue;
		}
		if (name && (!strcmp(name, "help") || !strcmp(name, "h"))) {
			o->help = true;
			return true;
		}
		if (!o->file) {
			error_set(err, "%s: the state image comes first: gannet clone FILE -n 20 ...", argv[i]);
			return false;
		}
		if (name && !strcmp(name, "json")) {
			o->json = true;
			continue;
		}
		if (!name || !(is(name, "n") || is(name, "count") || is(name, "first") ||
			       is(name, "interval") || is(name, "name"))) {
			o->no_snapshot |= name && (is(name, "snapshot") || is(name, "read-only"));
			o->pass[o->pass_count++] = argv[i];
			continue;
		}
		value = strchr(name, '=');
		if (!value && i + 1 == argc) {
			error_set(err, "%s: needs a value; gannet clone --help", argv[i]);
			return false;
		}
		if (!own_option(o, argv[i], name, value ? value + 1 : argv[i + 1], err))
			return false;
		i += !value;
	}
	if (!o->file) {
		error_set(err, "no state image; gannet clone FILE -n 20 ...");
		return false;
	}
	return check_pass(o, err) && (o->name || invent_name(o, err));
}

void clone_options_finish(struct clone_options *o)
{
	free(o->pass);
	free((char *)o->name);
}

void clone_options_help(FILE *out)
{
	fputs("usage: gannet clone FILE [-n COUNT] [OPTION]... [MACHINE OPTION]...\n"
	      "Starts machines from one state image, each with an address of its own on the wire;\n"
	      "their guests notice nothing. They share the image's memory until they write to it.\n"
	      "\n"
	      "  -n COUNT          how many (2)\n"
	      "  --name PREFIX     they are the instances PREFIX-1, PREFIX-2, ..., and an instance has\n"
	      "                    the same address on the wire whenever it is started; without it\n"
	      "                    the addresses are others in each run\n"
	      "  --first N         number of the first one (1)\n"
	      "  --interval S      seconds between tables; 0: none (1 on a terminal, else 0)\n"
	      "  --json            one line of JSON for each event\n"
	      "  --help\n"
	      "\n"
	      "Every other option goes to each machine, see gannet --help; {} in it stands for the\n"
	      "machine's number. Disks are as with -snapshot, unless --read-only is said. Ctrl-C or\n"
	      "SIGTERM ends all of them. Exit code: 0 if all of them ended well, 1 if not.\n"
	      "\n"
	      "examples:\n"
	      "  gannet clone debian.state -n 20 --net ws://127.0.0.1:8086/\n"
	      "  gannet clone debian.state -n 5 --name web --net ws://127.0.0.1:8086/ \\\n"
	      "      -serial 'unix:/run/web/{}.sock,server,nowait' --clock host\n"
	      "  gannet clone debian.state -n 3 --net loopback:lan --capture 'lan-{}.pcapng' --json\n",
	      out);
}
