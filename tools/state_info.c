/* gannet state info: one image, for people and as JSON. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/util.h"
#include "tools/state_priv.h"

enum { NONE = 0 };

static bool starts(const struct config_line *l, const char *prefix)
{
	size_t len = strlen(prefix);

	return l->name_len >= len && !memcmp(l->name, prefix, len);
}

static bool is(const struct config_line *l, const char *name)
{
	return l->name_len == strlen(name) && starts(l, name);
}

static void mac_text(FILE *f, const struct image_section *s, const char *field)
{
	struct field_record r;

	if (!state_field(s, field, &r) || r.type != STATE_TYPE_BYTES || (size_t)r.size * r.count != 6) {
		fputs("?", f);
		return;
	}
	for (unsigned i = 0; i < 6; i++)
		fprintf(f, "%s%02x", i ? ":" : "", r.data[i]);
}

/* "net.3", not "net.3.stage". */
static bool is_card(struct image *img, const struct image_section *s)
{
	return !strncmp(s->name, "net.", 4) && !strchr(s->name + 4, '.') &&
	       state_has_fields(img, s, NULL);
}

/* ---- the table ---- */

/* What is 0 or empty is what every machine has: not worth a line. */
static void show_config(const struct image_section *s)
{
	struct config_line l;
	char size[32];

	for (size_t at = 0; config_next(s, &at, &l);) {
		if (!l.value_len || (l.value_len == 1 && l.value[0] == '0'))
			continue;
		fputs("  ", stdout);
		state_text(stdout, l.name, l.name_len);
		printf("%*s", l.name_len < 16 ? (int)(16 - l.name_len) + 1 : 1, "");
		if (is(&l, "memory"))
			fputs(state_size(size, strtoull((const char *)l.value, NULL, 10)), stdout);
		else
			state_text(stdout, l.value, l.value_len);
		putchar('\n');
	}
}

static void show_cpu(struct image *img)
{
	static const char *const gpr[] = { "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi" };
	static const char *const seg[] = { "cs", "ss", "ds", "es", "fs", "gs" };
	const struct image_section *s = image_find(img, "cpu");
	struct field_record r;
	char name[32];

	if (!s || !state_has_fields(img, s, NULL))
		return;
	printf("cpu\n ");
	if (state_field(s, "gpr", &r) && r.type == STATE_TYPE_UINT) {
		for (unsigned i = 0; i < MIN(r.count, ARRAY_SIZE(gpr)); i++)
			printf(" %s %08" PRIx64 "%s", gpr[i], state_element(&r, i), i == 3 ? "\n " : "");
	}
	printf("\n  eip %08" PRIx64 " eflags %08" PRIx64 " cpl %" PRIu64 "%s\n ",
	       state_uint(img, "cpu", "eip", NONE), state_uint(img, "cpu", "eflags", NONE),
	       state_uint(img, "cpu", "cpl", NONE),
	       state_uint(img, "cpu", "halted", NONE) ? " halted" : "");
	for (unsigned i = 0; i < ARRAY_SIZE(seg); i++) {
		snprintf(name, sizeof(name), "seg[%c%c].selector", seg[i][0] - 32, seg[i][1] - 32);
		printf(" %s %04" PRIx64, seg[i], state_uint(img, "cpu", name, NONE));
	}
	printf("\n  cr0 %08" PRIx64 " cr2 %08" PRIx64 " cr3 %08" PRIx64 " cr4 %08" PRIx64 "\n",
	       state_uint(img, "cpu", "cr0", NONE), state_uint(img, "cpu", "cr2", NONE),
	       state_uint(img, "cpu", "cr3", NONE), state_uint(img, "cpu", "cr4", NONE));
}

static void show_cards(struct image *img)
{
	for (unsigned i = 0; image_section(img, i); i++) {
		const struct image_section *s = image_section(img, i);

		if (!is_card(img, s))
			continue;
		printf("%s: guest ", s->name);
		mac_text(stdout, s, "guest_mac");
		printf(", wire ");
		mac_text(stdout, s, "wire_mac");
		printf(", link %s\n", state_uint(img, s->name, "link", NONE) ? "up" : "down");
	}
}

/* "disk.3", "floppy.0"; not their overlays. */
static bool is_disk(struct image *img, const struct image_section *s)
{
	const char *dot = strchr(s->name, '.');

	return (!strncmp(s->name, "disk.", 5) || !strncmp(s->name, "floppy.", 7)) &&
	       !strchr(dot + 1, '.') && state_has_fields(img, s, NULL);
}

static void path_of(const struct image_section *s, const uint8_t **text, size_t *len)
{
	struct field_record r;

	*text = NULL;
	*len = 0;
	if (!state_field(s, "path", &r) || r.type != STATE_TYPE_BYTES)
		return;
	*text = r.data;
	*len = strnlen((const char *)r.data, (size_t)r.size * r.count);
}

static const struct image_section *overlay_of(struct image *img, const struct image_section *s)
{
	char name[IMAGE_NAME_SIZE + 16];
	const struct image_section *overlay;

	snprintf(name, sizeof(name), "%s.overlay", s->name);
	overlay = image_find(img, name);
	return overlay && overlay->flags & IMAGE_SPARSE ? overlay : NULL;
}

static void show_disks(struct image *img)
{
	const uint8_t *path;
	char size[32];
	size_t len;

	for (unsigned i = 0; image_section(img, i); i++) {
		const struct image_section *s = image_section(img, i), *overlay;

		if (!is_disk(img, s))
			continue;
		path_of(s, &path, &len);
		printf("%s: ", s->name);
		state_text(stdout, path, len);
		printf(", %s", state_size(size, state_uint(img, s->name, "sectors", NONE) * 512));
		overlay = overlay_of(img, s);
		if (overlay)
			printf(", %s written over it",
			       state_size(size, state_used(img, overlay) * IMAGE_PAGE));
		putchar('\n');
	}
}

static void show_fields(const struct image_section *s)
{
	struct field_record r;
	struct error err;

	for (size_t at = 0; fields_next(s->data, s->length, &at, &r, &err);) {
		printf("  %-24s ", r.name);
		state_value(stdout, &r, false);
		putchar('\n');
	}
}

static void show_sections(const struct state_options *o, struct image *img)
{
	char size[32], stored[32];
	int width = 12;

	for (unsigned i = 0; image_section(img, i); i++)
		width = MAX(width, (int)strlen(image_section(img, i)->name));
	printf("%-*s version %12s %12s  content\n", width, "section", "size", "stored");
	for (unsigned i = 0; image_section(img, i); i++) {
		const struct image_section *s = image_section(img, i);
		uint64_t there = s->stored;
		unsigned fields;

		if (image_mappable(s))
			there = state_used(img, s) * IMAGE_PAGE;
		printf("%-*s %7u %12s %12s  ", width, s->name, s->version, state_size(size, s->length),
		       state_size(stored, there));
		if (s->flags & IMAGE_SPARSE)
			printf("%" PRIu64 " of %" PRIu64 " pages used, %s", state_used(img, s),
			       s->length / IMAGE_PAGE, s->flags & IMAGE_ZSTD ? "zstd" : "as they are");
		else if (!strcmp(s->name, "config"))
			printf("text");
		else if (state_is_map(img, s))
			printf("%" PRIu64 " ranges of pages", s->length / sizeof(struct image_extent));
		else if (state_has_fields(img, s, &fields))
			printf("%u fields", fields);
		else
			printf("bytes");
		printf("%s\n", s->flags & IMAGE_OPTIONAL ? ", optional" : "");
		if (o->fields && state_has_fields(img, s, NULL))
			show_fields(s);
	}
}

static void show(const struct state_options *o, struct image *img)
{
	const struct image_section *config = image_find(img, "config");
	char size[32];

	state_text(stdout, (const uint8_t *)image_path(img), strlen(image_path(img)));
	printf(": state image, %s", state_size(size, image_size(img)));
	if (image_find(img, "machine"))
		printf(", saved after %.3f s", state_uint(img, "machine", "clock", NONE) / 1e9);
	putchar('\n');
	if (config && config->data) {
		printf("machine\n");
		show_config(config);
	}
	show_cpu(img);
	show_disks(img);
	show_cards(img);
	putchar('\n');
	show_sections(o, img);
}

/* ---- JSON ---- */

static void json_config(const struct image_section *s)
{
	struct config_line l;
	bool first = true;

	printf("{");
	for (size_t at = 0; config_next(s, &at, &l); first = false) {
		bool number = l.value_len > 0 && l.value_len < 16 && !is(&l, "append") && !is(&l, "cpu");

		for (size_t i = 0; i < l.value_len; i++)
			number &= l.value[i] >= '0' && l.value[i] <= '9';
		number &= l.value_len == 1 || (l.value_len && l.value[0] != '0');
		printf("%s", first ? "" : ", ");
		state_json(stdout, l.name, l.name_len);
		printf(": ");
		if (number)
			printf("%.*s", (int)l.value_len, l.value);
		else
			state_json(stdout, l.value, l.value_len);
	}
	printf("}");
}

/* A whole number up to 2^53 is one in every JSON parser; greater ones become text. */
static void json_number(uint64_t v)
{
	printf(v < 1ull << 53 ? "%" PRIu64 : "\"%" PRIu64 "\"", v);
}

static void json_values(const struct field_record *r)
{
	if (r->count != 1)
		printf("[");
	for (uint32_t i = 0; i < r->count; i++) {
		uint64_t v = state_element(r, i);

		printf("%s", i ? ", " : "");
		if (r->type == STATE_TYPE_UINT)
			json_number(v);
		else if (r->type == STATE_TYPE_BOOL)
			printf(v ? "true" : "false");
		else if (v)
			json_number(load_le64(r->data + (size_t)i * 16 + 8));
		else
			printf("null");
	}
	if (r->count != 1)
		printf("]");
}

static void json_fields(const struct image_section *s)
{
	struct field_record r;
	struct error err;
	bool first = true;

	printf(", \"fields\": {");
	for (size_t at = 0; fields_next(s->data, s->length, &at, &r, &err); first = false) {
		printf("%s", first ? "" : ", ");
		state_json(stdout, (const uint8_t *)r.name, strlen(r.name));
		printf(": ");
		if (r.type == STATE_TYPE_UINT || r.type == STATE_TYPE_BOOL || r.type == STATE_TYPE_TIMER) {
			json_values(&r);
		} else {
			putchar('"');
			state_value(stdout, &r, true);
			putchar('"');
		}
	}
	printf("}");
}

static void json_section(const struct state_options *o, struct image *img,
			 const struct image_section *s)
{
	printf("{\"name\": ");
	state_json(stdout, (const uint8_t *)s->name, strlen(s->name));
	printf(", \"version\": %u, \"optional\": %s, \"offset\": %" PRIu64 ", \"size\": %" PRIu64
	       ", \"stored\": %" PRIu64,
	       s->version, s->flags & IMAGE_OPTIONAL ? "true" : "false", s->offset, s->length,
	       s->stored);
	if (s->flags & IMAGE_SPARSE)
		printf(", \"pages\": %" PRIu64 ", \"used\": %" PRIu64 ", \"compressed\": %s",
		       s->length / IMAGE_PAGE, state_used(img, s),
		       s->flags & IMAGE_ZSTD ? "true" : "false");
	else if (state_has_fields(img, s, NULL) &&
		 (o->fields || !strcmp(s->name, "machine") || !strcmp(s->name, "cpu")))
		json_fields(s);
	printf("}");
}

static void json(const struct state_options *o, struct image *img)
{
	const struct image_section *config = image_find(img, "config");
	const uint8_t *path;
	bool first = true;
	size_t len;

	printf("{\"file\": ");
	state_json(stdout, (const uint8_t *)image_path(img), strlen(image_path(img)));
	printf(", \"size\": %" PRIu64, image_size(img));
	if (config && config->data) {
		printf(", \"config\": ");
		json_config(config);
	}
	printf(", \"disks\": [");
	for (unsigned i = 0; image_section(img, i); i++) {
		const struct image_section *s = image_section(img, i), *overlay;

		if (!is_disk(img, s))
			continue;
		overlay = overlay_of(img, s);
		path_of(s, &path, &len);
		printf("%s{\"name\": ", first ? "" : ", ");
		state_json(stdout, (const uint8_t *)s->name, strlen(s->name));
		printf(", \"path\": ");
		state_json(stdout, path, len);
		printf(", \"size\": ");
		json_number(state_uint(img, s->name, "sectors", NONE) * 512);
		printf(", \"written\": ");
		json_number(overlay ? state_used(img, overlay) * IMAGE_PAGE : 0);
		printf("}");
		first = false;
	}
	first = true;
	printf("], \"net\": [");
	for (unsigned i = 0; image_section(img, i); i++) {
		const struct image_section *s = image_section(img, i);

		if (!is_card(img, s))
			continue;
		printf("%s{\"guest_mac\": \"", first ? "" : ", ");
		mac_text(stdout, s, "guest_mac");
		printf("\", \"wire_mac\": \"");
		mac_text(stdout, s, "wire_mac");
		printf("\", \"link\": %s}", state_uint(img, s->name, "link", NONE) ? "true" : "false");
		first = false;
	}
	printf("], \"sections\": [");
	for (unsigned i = 0; image_section(img, i); i++) {
		printf("%s", i ? ", " : "");
		json_section(o, img, image_section(img, i));
	}
	printf("]}\n");
}

bool state_info(const struct state_options *o, const char *path, struct error *err)
{
	struct image *img = image_open(path, err);

	if (!img)
		return false;
	if (o->json)
		json(o, img);
	else
		show(o, img);
	image_close(img);
	return true;
}
