/* A file of whole records, written beside a running guest.
 *
 * Captures grow by records that must never be seen in halves: somebody may be
 * reading, and the disk may be full. Records are put together in a buffer; only
 * whole ones go to the file, at most 100 ms late. When they cannot be written the
 * file is cut back to its last whole record, the buffer holds what it can, and
 * every second there is a new attempt. Nothing here blocks for a reader, raises a
 * signal or allocates once the file is open.
 *
 * FILE may be a FIFO: a reader gets the stream from its beginning (`begin`), may
 * go away and come back; records without a reader are lost. A slow one is waited
 * for as long as the buffer lasts.
 *
 * The timer stands still while the machine is paused, so who pauses it calls
 * record_file_flush().
 */
#ifndef GANNET_CORE_RECORD_FILE_H
#define GANNET_CORE_RECORD_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct loop;
struct record_file;

struct record_file_config {
	const char *path;      /* copied */
	/* At this size FILE is left as it is and FILE.1 begins, then FILE.2, ...; 0: never.
	 * Files of these names from earlier are overwritten. */
	uint64_t rotate_bytes;
	unsigned rotate_files; /* keep so many, the oldest is removed; 0: all */

	/* Put the header of a new file, as records, and (optional) what closes one. The
	 * first call comes from within record_file_create(). */
	void (*begin)(void *opaque, struct record_file *f);
	void (*end)(void *opaque, struct record_file *f);
	/* Optional, for people: writing fails / goes on. Not more often than every 10 s. */
	void (*stalled)(void *opaque, const char *path, const char *why);
	void (*resumed)(void *opaque, const char *path, uint64_t lost);
	void *opaque;
};

/** record_file_create - opens (and empties) the file and calls begin; NULL: "cannot write ..." */
struct record_file *record_file_create(struct loop *loop, const struct record_file_config *cfg,
				       struct error *err);
/** record_file_destroy - writes what can be written now; NULL is legal */
void record_file_destroy(struct record_file *f);

/** record_file_reserve - room for one record of up to @size bytes (64 KiB at most), to be
 *  filled and committed at once; NULL: it is lost, count it. Begins a new file if it is time. */
uint8_t *record_file_reserve(struct record_file *f, size_t size);
/** record_file_ready - false while a FIFO has no reader or the disk is full */
bool record_file_ready(const struct record_file *f);
/** record_file_commit - @size as reserved or less */
void record_file_commit(struct record_file *f, size_t size);
/** record_file_flush - true if everything so far is in the file */
bool record_file_flush(struct record_file *f);

#endif
