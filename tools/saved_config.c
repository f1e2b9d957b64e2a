/* The section "config" of a state image: what the machine is made of, in text.
 *
 *	memory=268435456
 *	disk0=/home/me/disk.img
 *
 * One NAME=VALUE a line, in this file's order; '%', control characters and whatever is
 * not ASCII are written as %XX. Names that are not known are refused, because they
 * stand for something that this machine would lack.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util.h"
#include "tools/saved_config.h"

enum { LINES_MAX = 256 };

/* ---- writing ---- */

static void line(FILE *f, const char *name, const char *value)
{
	if (!value)
		return;
	fprintf(f, "%s=", name);
	for (; *value; value++) {
		if (*value < ' ' || *value > '~' || *value == '%')
			fprintf(f, "%%%02x", (unsigned char)*value);
		else
			fputc(*value, f);
	}
	fputc('\n', f);
}

static void number(FILE *f, const char *name, uint64_t value)
{
	fprintf(f, "%s=%" PRIu64 "\n", name, value);
}

/* Paths must mean the same when the image is restored from another directory. */
static void path(FILE *f, const char *name, const char *value)
{
	char *whole = value ? realpath(value, NULL) : NULL;

	line(f, name, whole ? whole : value);
	free(whole);
}

static const char *indexed(char *buf, size_t size, const char *what, unsigned n, const char *part)
{
	snprintf(buf, size, "%s%u%s", what, n, part);
	return buf;
}

char *saved_config_write(const struct saved_config *s, size_t *len)
{
	const struct gannet_config *c = &s->cfg;
	char *text = NULL, n[32];
	FILE *f = open_memstream(&text, len);

	if (!f)
		return NULL;
	line(f, "gannet", gannet_version());
	number(f, "memory", c->memory);
	line(f, "cpu", c->cpu);
	number(f, "rom.bios", s->bios_size);
	number(f, "rom.vga", s->vga_rom_size);
	path(f, "kernel", c->kernel);
	line(f, "initrd", c->initrd);
	line(f, "append", c->append);
	line(f, "boot_order", c->boot_order);
	number(f, "boot_menu", c->boot_menu);
	number(f, "no_acpi", c->no_acpi);
	number(f, "debug_exit", c->debug_exit ? c->debug_exit_port : 0);
	number(f, "firmware_log", c->firmware_log != NULL);
	for (unsigned i = 0; i < GANNET_DISKS; i++) {
		path(f, indexed(n, sizeof(n), "disk", i, ""), c->disk[i]);
		number(f, indexed(n, sizeof(n), "disk", i, ".cd"), c->disk_is_cd[i]);
		number(f, indexed(n, sizeof(n), "disk", i, ".read_only"), c->disk_read_only[i]);
	}
	for (unsigned i = 0; i < GANNET_FLOPPIES; i++)
		path(f, indexed(n, sizeof(n), "floppy", i, ""), c->floppy[i]);
	number(f, "snapshot", c->snapshot);
	for (unsigned i = 0; i < c->nics; i++) {
		const struct gannet_nic *nic = &c->nic[i];

		line(f, indexed(n, sizeof(n), "nic", i, ""), nic->model ? nic->model : "ne2k_pci");
		/* A secret does not go into a file that is passed around. */
		if (nic->net && !strstr(nic->net, "token="))
			line(f, indexed(n, sizeof(n), "nic", i, ".net"), nic->net);
		number(f, indexed(n, sizeof(n), "nic", i, ".slot"), nic->slot);
		number(f, indexed(n, sizeof(n), "nic", i, ".iobase"), nic->iobase);
		number(f, indexed(n, sizeof(n), "nic", i, ".irq"), nic->irq);
		number(f, indexed(n, sizeof(n), "nic", i, ".rom"), s->nic_rom_size[i]);
	}
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

/* ---- reading ---- */

struct reader {
	struct saved_config *s;
	struct error *err;
	const char *name, *value;
};

static bool take_number(struct reader *r, uint64_t max, uint64_t *out)
{
	char *end;
	unsigned long long v = strtoull(r->value, &end, 10);

	if (r->value[0] < '0' || r->value[0] > '9' || *end || v > max) {
		error_set(r->err, "section config: %s=%.40s: a number up to %" PRIu64 " is expected",
			  r->name, r->value, max);
		return false;
	}
	*out = v;
	return true;
}

static bool take_bool(struct reader *r, bool *out)
{
	uint64_t v = 0;
	bool ok = take_number(r, 1, &v);

	*out = v;
	return ok;
}

static bool take_size(struct reader *r, size_t *out)
{
	uint64_t v = 0;
	bool ok = take_number(r, 16 * MIB, &v);

	*out = v;
	return ok;
}

/* "disk3.cd": matches "disk" with @n below @max, and leaves what follows in *@part. */
static bool is_indexed(const char *name, const char *what, unsigned max, unsigned *n,
		       const char **part)
{
	size_t len = strlen(what);

	if (strncmp(name, what, len) || name[len] < '0' || name[len] >= '0' + (int)max)
		return false;
	*n = name[len] - '0';
	*part = name + len + 1;
	return !**part || **part == '.';
}

static bool take_nic(struct reader *r, unsigned n, const char *part)
{
	struct gannet_nic *nic = &r->s->cfg.nic[n];
	uint64_t v = 0;

	if (!*part) {
		if (n != r->s->cfg.nics) {
			error_set(r->err, "section config: %s: cards are out of order", r->name);
			return false;
		}
		r->s->cfg.nics = n + 1;
		nic->model = r->value;
		return true;
	}
	if (n >= r->s->cfg.nics) {
		error_set(r->err, "section config: %s: before its card", r->name);
		return false;
	}
	if (!strcmp(part, ".net")) {
		nic->net = r->value;
		return true;
	}
	if (!strcmp(part, ".rom"))
		return take_size(r, &r->s->nic_rom_size[n]);
	if (!strcmp(part, ".slot") && take_number(r, 31, &v))
		return nic->slot = v, true;
	if (!strcmp(part, ".iobase") && take_number(r, 0xffff, &v))
		return nic->iobase = v, true;
	if (!strcmp(part, ".irq") && take_number(r, 15, &v))
		return nic->irq = v, true;
	if (!r->err->text[0])
		error_set(r->err, "section config: %s: unknown; a newer gannet made this image", r->name);
	return false;
}

static bool take(struct reader *r)
{
	struct gannet_config *c = &r->s->cfg;
	const struct {
		const char *name;
		const char **to;
	} texts[] = {
		{ "gannet", &r->s->version }, { "cpu", &c->cpu }, { "kernel", &c->kernel },
		{ "initrd", &c->initrd }, { "append", &c->append }, { "boot_order", &c->boot_order },
	};
	const struct {
		const char *name;
		bool *to;
	} bools[] = {
		{ "boot_menu", &c->boot_menu }, { "no_acpi", &c->no_acpi }, { "snapshot", &c->snapshot },
		{ "firmware_log", &r->s->firmware_log },
	};
	const char *part;
	uint64_t v = 0;
	unsigned n;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (!strcmp(r->name, texts[i].name))
			return *texts[i].to = r->value, true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(bools); i++) {
		if (!strcmp(r->name, bools[i].name))
			return take_bool(r, bools[i].to);
	}
	if (!strcmp(r->name, "memory"))
		return take_number(r, 64 * GIB, &c->memory);
	if (!strcmp(r->name, "rom.bios"))
		return take_size(r, &r->s->bios_size);
	if (!strcmp(r->name, "rom.vga"))
		return take_size(r, &r->s->vga_rom_size);
	if (!strcmp(r->name, "debug_exit")) {
		if (!take_number(r, 0xffff, &v))
			return false;
		c->debug_exit = v != 0;
		c->debug_exit_port = v;
		return true;
	}
	if (is_indexed(r->name, "disk", GANNET_DISKS, &n, &part)) {
		if (!*part)
			return c->disk[n] = r->value, true;
		if (!strcmp(part, ".cd"))
			return take_bool(r, &c->disk_is_cd[n]);
		if (!strcmp(part, ".read_only"))
			return take_bool(r, &c->disk_read_only[n]);
	} else if (is_indexed(r->name, "floppy", GANNET_FLOPPIES, &n, &part) && !*part) {
		return c->floppy[n] = r->value, true;
	} else if (is_indexed(r->name, "nic", GANNET_NICS, &n, &part)) {
		return take_nic(r, n, part);
	}
	error_set(r->err, "section config: %s: unknown; a newer gannet made this image", r->name);
	return false;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place; false if a '%' is not followed by two digits, or by 00. */
static bool unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (*s == '%') {
			int high = hex(s[1]), low = high < 0 ? -1 : hex(s[2]);

			if (low < 0 || !(high | low))
				return false;
			*out++ = high << 4 | low;
			s += 2;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
	return true;
}

bool saved_config_read(struct saved_config *s, const uint8_t *data, size_t len, struct error *err)
{
	const char *seen[LINES_MAX];
	unsigned lines = 0;
	char *p;

	*s = (struct saved_config){ .text = malloc(len + 1) };
	if (!s->text) {
		error_set(err, "out of memory");
		return false;
	}
	memcpy(s->text, data, len);
	s->text[len] = '\0';
	if (strlen(s->text) != len || (len && s->text[len - 1] != '\n')) {
		error_set(err, "section config: not lines of text");
		return false;
	}
	for (p = s->text; *p;) {
		char *end = strchr(p, '\n'), *equals = memchr(p, '=', end - p);
		struct reader r = { s, err, p, equals ? equals + 1 : NULL };

		*end = '\0';
		if (!equals || lines == LINES_MAX) {
			error_set(err, "section config: '%.40s' is no setting", p);
			return false;
		}
		*equals = '\0';
		for (unsigned i = 0; i < lines; i++) {
			if (!strcmp(seen[i], p)) {
				error_set(err, "section config: %.40s is given twice", p);
				return false;
			}
		}
		seen[lines++] = p;
		if (!unescape(equals + 1)) {
			error_set(err, "section config: %.40s has a bad %% in its value", p);
			return false;
		}
		if (!take(&r))
			return false;
		p = end + 1;
	}
	if (!s->cfg.memory || !s->cfg.cpu) {
		error_set(err, "section config: %s is missing", s->cfg.cpu ? "memory" : "cpu");
		return false;
	}
	return true;
}

void saved_config_finish(struct saved_config *s)
{
	free(s->text);
	s->text = NULL;
}
