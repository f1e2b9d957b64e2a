/* Disks in state images.
 *
 * An image has no copy of a disk: it says which one it was (path, size, a hash of the
 * content), and restoring wants the same again, be it at another path. What a guest
 * under -snapshot has written is in the image, as a sparse section of clusters; it is
 * read from there as long as the machine lives, and copied only if the machine is
 * saved again. Drives' registers and buffers are their devices' sections.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/block.h"
#include "core/util.h"
#include "devices/fdc.h"
#include "devices/piix3_ide.h"
#include "statefile/disk_hash.h"
#include "statefile/fields.h"
#include "statefile/image.h"
#include "tools/libgannet_priv.h"
#include "tools/libgannet_state.h"

enum { DISK_VERSION = 1, DRIVES = IDE_DRIVES + FDC_DRIVES, PATH_SIZE = PATH_MAX };
enum { NOTICE_BYTES = 1 << 30 }; /* more than this takes a while to compare */

/* Which disk is in a drive. */
struct disk_state {
	char path[PATH_SIZE];
	uint64_t sectors;
	uint8_t hash[DISK_HASH_SIZE];
	bool writable; /* the guest's writes reach it: the next save finds another content */
};

static const struct state_field disk_fields[] = {
	STATE_BYTES(struct disk_state, path),
	STATE_UINT(struct disk_state, sectors),
	STATE_BYTES(struct disk_state, hash),
	STATE_BOOL(struct disk_state, writable),
	STATE_END,
};

/* IDE drives first, floppies behind them. */
static struct block *drive(struct gannet *g, unsigned n)
{
	struct device *ide = board_ide(g->board), *fdc = board_fdc(g->board);

	if (n < IDE_DRIVES)
		return ide ? piix3_ide_image(ide, n) : NULL;
	return fdc ? fdc_image(fdc, n - IDE_DRIVES) : NULL;
}

static const char *section_name(char name[IMAGE_NAME_SIZE], unsigned n, const char *part)
{
	bool floppy = n >= IDE_DRIVES;

	snprintf(name, IMAGE_NAME_SIZE, "%s.%u%s", floppy ? "floppy" : "disk",
		 floppy ? n - IDE_DRIVES : n, part);
	return name;
}

/* ---- saving ---- */

struct runs {
	struct image_extent *extent;
	size_t count, max;
	bool failed;
};

static void add_run(void *opaque, uint64_t first, uint64_t count)
{
	struct runs *r = opaque;

	if (r->count == r->max) {
		size_t max = r->max ? 2 * r->max : 256;
		struct image_extent *grown = realloc(r->extent, max * sizeof(*grown));

		if (!grown) {
			r->failed = true;
			return;
		}
		r->extent = grown;
		r->max = max;
	}
	r->extent[r->count++] = (struct image_extent){ first, count, 0 };
}

static bool save_overlay(struct block *b, struct image_writer *w, unsigned n, struct error *err)
{
	char name[IMAGE_NAME_SIZE];
	struct runs runs = { .extent = NULL };
	bool ok;

	_Static_assert((int)BLOCK_CLUSTER == (int)IMAGE_PAGE, "a cluster is a page");
	if (block_overlay_fd(b) < 0)
		return true;
	if (!block_overlay_merge(b, err))
		return false;
	block_overlay_runs(b, add_run, &runs);
	section_name(name, n, ".overlay");
	if (runs.failed)
		error_set(err, "out of memory for section %s", name);
	ok = !runs.failed &&
	     image_writer_add_sparse(w, name, block_clusters(b) * BLOCK_CLUSTER, NULL,
				     block_overlay_fd(b), runs.extent, runs.count, err);
	free(runs.extent);
	return ok;
}

static bool save_disk(struct block *b, struct image_writer *w, unsigned n,
		      const struct image_progress *progress, struct error *err)
{
	struct disk_state s = {
		.sectors = block_sectors(b), .writable = block_mode(b) == BLOCK_RW,
	};
	char *whole = realpath(block_path(b), NULL), name[IMAGE_NAME_SIZE];
	struct state_buf buf = { .data = NULL };
	bool ok;

	snprintf(s.path, sizeof(s.path), "%s", whole ? whole : block_path(b));
	free(whole);
	if (!disk_hash(b, s.hash, progress ? progress->step : NULL,
		       progress ? progress->opaque : NULL, err)) {
		error_prefix(err, "disk");
		return false;
	}
	fields_save(&buf, disk_fields, &s);
	if (buf.failed)
		error_set(err, "out of memory");
	ok = !buf.failed && image_writer_add(w, section_name(name, n, ""), DISK_VERSION, 0, buf.data,
					     buf.len, err) &&
	     save_overlay(b, w, n, err);
	state_buf_finish(&buf);
	return ok;
}

bool disks_save(struct gannet *g, struct image_writer *w, const struct image_progress *progress,
		struct error *err)
{
	for (unsigned n = 0; n < DRIVES; n++) {
		struct block *b = drive(g, n);

		if (!b)
			continue;
		block_settle(b);
		if (!save_disk(b, w, n, progress, err))
			return false;
	}
	return true;
}

/* ---- restoring ---- */

static bool parse_disk(const struct image_section *s, struct disk_state *d, struct error *err)
{
	bool ok = false;

	memset(d, 0, sizeof(*d));
	if (s->flags & IMAGE_SPARSE || s->version != DISK_VERSION)
		error_set(err, "version %u, this gannet knows %u", s->version, DISK_VERSION);
	else if (!fields_parse(s->data, s->length, disk_fields, d, false, err))
		ok = false;
	else if (memchr(d->path, '\0', sizeof(d->path)) == NULL)
		error_set(err, "field path: has no end");
	else
		ok = true;
	if (!ok)
		error_prefix(err, "section %s", s->name);
	/* It goes into messages, and who made the image may not mean well. */
	for (char *p = d->path; ok && *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	}
	return ok;
}

static bool same_disk(struct gannet *g, struct block *b, const struct disk_state *d, bool force,
		      struct error *err)
{
	uint8_t hash[DISK_HASH_SIZE];
	char text[PATH_MAX + 128];

	if (block_sectors(b) != d->sectors) {
		error_set(err, "disk %s: has %" PRIu64 " sectors, the one that was saved (%s) %" PRIu64,
			  block_path(b), block_sectors(b), d->path, d->sectors);
		return false;
	}
	if (force)
		return true;
	if (g->notify && d->sectors > NOTICE_BYTES / BLOCK_SECTOR * 4ull) {
		snprintf(text, sizeof(text), "disk %s: comparing it with the saved one", block_path(b));
		g->notify(g->notify_opaque, text);
	}
	if (!disk_hash(b, hash, NULL, NULL, err)) {
		error_prefix(err, "disk");
		return false;
	}
	if (!memcmp(hash, d->hash, sizeof(hash)))
		return true;
	error_set(err, "disk %s: is not the one that was saved (content differs); --force restores all the same",
		  block_path(b));
	return false;
}

static bool restore_overlay(struct restore *r, struct block *b, unsigned n, struct error *err)
{
	struct image *img = restore_image(r);
	const struct image_section *s;
	const struct image_extent *extent;
	char name[IMAGE_NAME_SIZE];
	size_t count;

	s = restore_section(r, section_name(name, n, ".overlay"));
	if (!s)
		return true;
	restore_section(r, section_name(name, n, ".overlay.map"));
	if (!(s->flags & IMAGE_SPARSE) || s->length != block_clusters(b) * BLOCK_CLUSTER) {
		error_set(err, "section %s: %" PRIu64 " bytes, the disk has %" PRIu64, s->name, s->length,
			  block_clusters(b) * BLOCK_CLUSTER);
		return false;
	}
	if (block_overlay_fd(b) < 0) {
		error_set(err, "section %s: this drive cannot have an overlay", s->name);
		return false;
	}
	if (image_mappable(s) ? !image_verify(img, s, NULL, err) ||
				!block_overlay_below(b, image_fd(img), s->offset, err)
			      : !image_load_fd(img, s, block_overlay_fd(b), NULL, err))
		return false;
	extent = image_map(img, s, &count);
	for (size_t i = 0; i < count; i++) {
		if (!block_overlay_add(b, extent[i].first, extent[i].pages)) {
			error_set(err, "section %s.map: extent %zu lies outside of the disk", s->name, i);
			return false;
		}
	}
	return true;
}

bool disks_restore(struct restore *r, struct gannet *g, bool force, struct error *err)
{
	struct disk_state *d = malloc(sizeof(*d));
	bool ok = d != NULL;

	if (!ok)
		error_set(err, "out of memory");
	for (unsigned n = 0; ok && n < DRIVES; n++) {
		struct block *b = drive(g, n);
		const struct image_section *s;
		char name[IMAGE_NAME_SIZE];

		if (!b)
			continue;
		s = restore_section(r, section_name(name, n, ""));
		if (!s)
			error_set(err, "section %s: is missing", name);
		ok = s && parse_disk(s, d, err) && same_disk(g, b, d, force, err) &&
		     restore_overlay(r, b, n, err);
	}
	free(d);
	return ok;
}
