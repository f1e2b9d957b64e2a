/* State field tables (core/state.h) to bytes and back.
 *
 * Each field is a record with its name, type and size, so that an image explains
 * itself and a mismatch can be named. Values are checked against the table while they
 * are read into a scratch copy; the live object is touched only by fields_apply().
 */
#ifndef GANNET_STATEFILE_FIELDS_H
#define GANNET_STATEFILE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/state.h"

/* Bytes in the making. Sticky: after a failure nothing more is added. */
struct state_buf {
	uint8_t *data;
	size_t len, size;
	bool failed; /* out of memory */
};

void state_buf_put(struct state_buf *b, const void *data, size_t len);
void state_buf_finish(struct state_buf *b);

/** fields_save - all fields of @base as records */
void fields_save(struct state_buf *out, const struct state_field *fields, const void *base);

/**
 * fields_parse - records into a scratch copy of the object
 * @scratch: starts as a copy of the live object; fields are overwritten. A timer's
 *           `deadline` and `slot` (1: armed) are set, nothing else of it.
 * @older: the section is of an earlier version: fields it lacks keep their values
 * Messages name the field.
 */
bool fields_parse(const uint8_t *data, size_t len, const struct state_field *fields,
		  void *scratch, bool older, struct error *err);
/** fields_apply - from the scratch copy to the object itself; timers are armed, disarmed */
void fields_apply(const struct state_field *fields, const void *scratch, void *live);

/* One record, for those who list and compare images. */
struct field_record {
	char name[64];
	enum state_type type;
	uint16_t size;
	uint32_t count;
	const uint8_t *data; /* size * count bytes; a timer: u64 armed, i64 deadline */
};

/** fields_next - the record at *@at, which moves on; false at the end or if what is there
 *  is no record (then @err is set) */
bool fields_next(const uint8_t *data, size_t len, size_t *at, struct field_record *r,
		 struct error *err);

#endif
