/* A machine into a state image and back. Used by libgannet.c only.
 *
 * Restoring is in two halves, with the making of the machine in between: first the
 * image's configuration, which says what to make; then everything else, all of it
 * parsed and checked before any of it is applied.
 */
#ifndef GANNET_TOOLS_LIBGANNET_STATE_H
#define GANNET_TOOLS_LIBGANNET_STATE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "core/gannet.h"

struct image;
struct image_progress;
struct image_section;
struct image_writer;
struct restore;

/**
 * restore_open - read an image's configuration
 * @cfg: what the caller asked for; where it says nothing, the image decides
 */
struct restore *restore_open(const char *path, const struct gannet_config *cfg,
			     struct error *err);
void restore_close(struct restore *r); /* NULL is legal */
/** restore_config - what to make; strings belong to @r */
const struct gannet_config *restore_config(const struct restore *r);
/** restore_rom_size - bytes of "bios", "vga", "nic0".. when it was saved; 0: there was none */
size_t restore_rom_size(const struct restore *r, const char *name);
/** restore_machine - the second half; what was wrong is in @err, and @g is to be destroyed */
bool restore_machine(struct restore *r, struct gannet *g, struct error *err);

/** state_save - of a machine at an instruction boundary */
bool state_save(struct gannet *g, const char *path, const struct gannet_save_options *o,
		struct error *err);

/** restore_section - NULL: the image has none; else it counts as one that somebody knows */
const struct image_section *restore_section(struct restore *r, const char *name);
struct image *restore_image(const struct restore *r);

/* ---- disks: sections "disk.0".. and "floppy.0".., with ".overlay" each ---- */

/** disks_save - wait for what is under way, say which disks these are, add overlays; before
 *  the devices are saved */
bool disks_save(struct gannet *g, struct image_writer *w, const struct image_progress *progress,
		struct error *err);
/** disks_restore - are these the disks that were saved? Then give them their overlays.
 *  @force: take them if only their content differs */
bool disks_restore(struct restore *r, struct gannet *g, bool force, struct error *err);

#endif
