/* The parts of gannet state. Images are read as docs/state-format.md says, without a
 * machine: parts that this build does not know are shown like all others. */
#ifndef GANNET_TOOLS_STATE_PRIV_H
#define GANNET_TOOLS_STATE_PRIV_H

#include <stdbool.h>
#include <stdio.h>
#include <stdint.h>

#include "core/error.h"
#include "statefile/fields.h"
#include "statefile/image.h"

enum { STATE_SAME = 0, STATE_DIFFERENT = 1, STATE_BROKEN = 1, STATE_ERROR = 2 };

struct state_options {
	bool json, fields;
	int level; /* zstd; 0: not compressed */
};

/** state_info - one image as a table, or as one line of JSON */
bool state_info(const struct state_options *o, const char *path, struct error *err);
/** state_diff - STATE_SAME, STATE_DIFFERENT or STATE_ERROR */
int state_diff(const struct state_options *o, const char *a, const char *b, struct error *err);

/* ---- shared ---- */

/** state_is_map - does this section describe a sparse one? */
bool state_is_map(struct image *img, const struct image_section *s);
/** state_has_fields - is it made of field records, as far as one can see? @count may be NULL */
bool state_has_fields(struct image *img, const struct image_section *s, unsigned *count);
/** state_field - the record of that name; false if there is none */
bool state_field(const struct image_section *s, const char *name, struct field_record *r);
/** state_uint - a section's scalar, @missing if it has none */
uint64_t state_uint(struct image *img, const char *section, const char *name, uint64_t missing);
/** state_used - pages of a sparse section that are there */
uint64_t state_used(struct image *img, const struct image_section *s);

/** state_text - what was in a file, safe for a terminal: anything odd as %XX */
void state_text(FILE *f, const uint8_t *text, size_t len);
/** state_json - a JSON string of the same */
void state_json(FILE *f, const uint8_t *text, size_t len);
/** state_value - a field's content; long ones are cut unless @whole */
void state_value(FILE *f, const struct field_record *r, bool whole);
/** state_element - one of a field's elements: of a UINT its value, of a timer: armed? */
uint64_t state_element(const struct field_record *r, uint32_t n);

/* The lines of section "config", one NAME=VALUE after the other. */
struct config_line {
	const uint8_t *name, *value;
	size_t name_len, value_len;
};

/** config_next - false at the end; *@at starts at 0 */
bool config_next(const struct image_section *s, size_t *at, struct config_line *line);

/** state_size - "28.9 MiB" */
const char *state_size(char buf[32], uint64_t bytes);

/* Progress on a terminal, once it takes longer than a second. */
struct state_progress {
	struct image_progress progress;
	const char *what;
	int64_t started, shown;
};

void state_progress_init(struct state_progress *p, const char *what);
void state_progress_finish(struct state_progress *p);

#endif
