/* See state_tool.h. Options and the commands verify and convert; state_info.c and
 * state_diff.c have the others, state_show.c what they share. */
#include "tools/state_tool.h"

#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "tools/state_priv.h"

enum { LEVEL_DEFAULT = 3, LEVEL_MAX = 22 };

static int complain(const char *why)
{
	fprintf(stderr, "gannet state: %s\n", why);
	return STATE_ERROR;
}

static void help(void)
{
	fputs("usage: gannet state info [--json] [--fields] FILE...\n"
	      "       gannet state verify [--json] FILE...\n"
	      "       gannet state convert [--zstd[=LEVEL] | --raw] IN OUT\n"
	      "       gannet state diff [--json] A B\n"
	      "\n"
	      "  info     what machine it is, its CPU, addresses, disks, and all sections;\n"
	      "           with --fields every field of every device\n"
	      "  verify   read all of it and compare every checksum; exit code 1 if one is wrong\n"
	      "  convert  --zstd: small, for shipping (LEVEL 1 to 22, default 3);\n"
	      "           --raw: memory as it is, mapped copy-on-write when restored;\n"
	      "           without either: the other one\n"
	      "  diff     settings, fields and pages of memory that differ; exit code 1 if any do\n"
	      "\n"
	      "A build restores images of its own and earlier versions; these commands also work\n"
	      "on images of machines with parts that it does not know.\n"
	      "\n"
	      "Examples:\n"
	      "  gannet --save web.img disk.img &  kill -USR2 $!      save a running machine\n"
	      "  gannet state info web.img\n"
	      "  gannet state convert --zstd=19 web.img web.zst.img   for the network\n"
	      "  gannet state convert --raw web.zst.img web.img       to start many from it\n"
	      "  gannet state verify *.img\n"
	      "  gannet state diff before.img after.img\n"
	      "  gannet state info --json web.img | jq .config.memory\n", stdout);
}

/* ---- verify ---- */

static bool verify(const char *path, struct error *err)
{
	struct image *img = image_open(path, err);
	struct state_progress progress;
	bool ok = img != NULL;

	state_progress_init(&progress, path);
	for (unsigned i = 0; ok && image_section(img, i); i++) {
		const struct image_section *s = image_section(img, i);

		if (s->flags & IMAGE_SPARSE)
			ok = image_verify(img, s, &progress.progress, err);
	}
	state_progress_finish(&progress);
	if (ok && image_changed(img)) {
		error_set(err, "%s: the file was changed while it was read", path);
		ok = false;
	}
	image_close(img);
	return ok;
}

static int verify_all(const struct state_options *o, char **path, int count)
{
	int code = STATE_SAME;

	for (int i = 0; i < count; i++) {
		struct error err = { "" };
		bool ok = verify(path[i], &err);

		if (o->json) {
			printf("{\"file\": ");
			state_json(stdout, (const uint8_t *)path[i], strlen(path[i]));
			printf(", \"ok\": %s", ok ? "true" : "false");
			if (!ok) {
				printf(", \"error\": ");
				state_json(stdout, (const uint8_t *)err.text, strlen(err.text));
			}
			printf("}\n");
		} else if (ok) {
			printf("%s: whole\n", path[i]);
		}
		if (!ok) {
			complain(err.text);
			code = STATE_BROKEN;
		}
	}
	return code;
}

/* ---- convert ---- */

static bool copy_sections(struct image *img, struct image_writer *w, struct error *err)
{
	for (unsigned i = 0; image_section(img, i); i++) {
		const struct image_section *s = image_section(img, i);
		bool ok;

		if (state_is_map(img, s))
			continue; /* comes with its section */
		if (s->flags & IMAGE_SPARSE)
			ok = image_writer_copy(w, img, s, err);
		else
			ok = image_writer_add(w, s->name, s->version, s->flags & IMAGE_OPTIONAL, s->data,
					      s->length, err);
		if (!ok)
			return false;
	}
	return true;
}

static bool is_compressed(struct image *img)
{
	for (unsigned i = 0; image_section(img, i); i++) {
		if (image_section(img, i)->flags & IMAGE_ZSTD)
			return true;
	}
	return false;
}

/* @level: of zstd, 0 for none, -1 for what the image is not. */
static bool convert(const char *in, const char *out, int level, struct error *err)
{
	struct image *img = image_open(in, err);
	struct image_writer *w = img ? image_writer_create(out, err) : NULL;
	struct state_progress progress;
	bool ok = w != NULL;

	if (ok && level < 0)
		level = is_compressed(img) ? 0 : LEVEL_DEFAULT;
	state_progress_init(&progress, out);
	ok = ok && copy_sections(img, w, err) && (!level || image_writer_compress(w, level, err)) &&
	     image_writer_commit(w, &progress.progress, err);
	state_progress_finish(&progress);
	image_writer_destroy(w);
	image_close(img);
	return ok;
}

/* ---- options ---- */

static bool level_parse(const char *text, int *level)
{
	char *end;
	long v = strtol(text, &end, 10);

	*level = (int)v;
	return text[0] >= '1' && text[0] <= '9' && !*end && v <= LEVEL_MAX;
}

struct command {
	const char *name;
	int min, max; /* how many files */
	const char *usage;
};

static const struct command commands[] = {
	{ "info", 1, 1 << 20, "info [--json] [--fields] FILE..." },
	{ "verify", 1, 1 << 20, "verify [--json] FILE..." },
	{ "convert", 2, 2, "convert [--zstd[=LEVEL] | --raw] IN OUT" },
	{ "diff", 2, 2, "diff [--json] A B" },
};

static int usage(const struct command *c)
{
	fprintf(stderr, "gannet state: %s: %s expected: gannet state %s\n", c->name,
		c->max == 2 ? "two files are" : "a file is", c->usage);
	return STATE_ERROR;
}

static int run(const struct command *c, const struct state_options *o, char **file, int files)
{
	struct error err = { "" };
	int code = STATE_SAME;

	if (!strcmp(c->name, "verify"))
		return verify_all(o, file, files);
	if (!strcmp(c->name, "diff"))
		code = state_diff(o, file[0], file[1], &err);
	else if (!strcmp(c->name, "convert"))
		code = convert(file[0], file[1], o->level, &err) ? STATE_SAME : STATE_ERROR;
	else {
		for (int i = 0; i < files; i++) {
			if (i && !o->json)
				putchar('\n');
			err.text[0] = '\0';
			if (!state_info(o, file[i], &err))
				code = complain(err.text);
		}
		return code;
	}
	return code == STATE_ERROR ? complain(err.text) : code;
}

static int parse(const struct command *c, int argc, char **argv)
{
	struct state_options o = { .level = -1 };
	bool options = true, convert_to = false;
	char text[160];
	int files = 0;

	for (int i = 2; i < argc; i++) {
		const char *a = argv[i];
		const char *name = a + (a[0] == '-') + (a[0] == '-' && a[1] == '-');
		bool converts = !strcmp(c->name, "convert");

		if (!options || a[0] != '-') {
			argv[files++] = argv[i];
		} else if (!strcmp(a, "--")) {
			options = false;
		} else if (!strcmp(name, "help")) {
			help();
			return STATE_SAME;
		} else if (!strcmp(name, "json") && !converts) {
			o.json = true;
		} else if (!strcmp(name, "fields") && !strcmp(c->name, "info")) {
			o.fields = true;
		} else if (converts && (!strcmp(name, "raw") || !strncmp(name, "zstd", 4))) {
			if (convert_to)
				return complain("convert: --zstd and --raw, or one of them twice; give one");
			convert_to = true;
			o.level = name[0] == 'r' ? 0 : LEVEL_DEFAULT;
			if (name[0] == 'r' || !name[4])
				continue;
			if (name[4] != '=' || !level_parse(name + 5, &o.level)) {
				snprintf(text, sizeof(text), "convert: %.60s: a level from 1 to %d is expected",
					 a, LEVEL_MAX);
				return complain(text);
			}
		} else {
			snprintf(text, sizeof(text), "%s: unknown option %.60s; see gannet state --help",
				 c->name, a);
			return complain(text);
		}
	}
	if (files < c->min || files > c->max)
		return usage(c);
	return run(c, &o, argv, files);
}

int state_main(int argc, char **argv)
{
	char text[160];

	if (argc < 2)
		return complain("info, verify, convert or diff is expected; see gannet state --help");
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-help") || !strcmp(argv[1], "help")) {
		help();
		return STATE_SAME;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		int code;

		if (strcmp(argv[1], commands[i].name))
			continue;
		code = parse(&commands[i], argc, argv);
		if (fflush(stdout) || ferror(stdout))
			return complain("the output cannot be written");
		return code;
	}
	snprintf(text, sizeof(text), "%.60s: unknown; there are info, verify, convert and diff", argv[1]);
	return complain(text);
}
