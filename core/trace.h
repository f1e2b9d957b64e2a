/* Run-time dumps by letter: -d decode,emit,block,int,mmu,io,...
 *
 * A channel that is off costs one load and one predicted branch. Where a trace
 * goes is the program's choice (a FILE it opened); the library only formats.
 */
#ifndef GANNET_CORE_TRACE_H
#define GANNET_CORE_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum trace_channel {
	TRACE_DECODE, /* each instruction as it is decoded */
	TRACE_EMIT,   /* host code of each block */
	TRACE_BLOCK,  /* blocks made, linked, invalidated, evicted */
	TRACE_EXEC,   /* each instruction as the interpreter runs it */
	TRACE_INT,    /* interrupts, exceptions, IRET, task switches */
	TRACE_MMU,    /* page walks, flushes, page faults */
	TRACE_IO,     /* port reads and writes, unassigned ports */
	TRACE_MMIO,   /* memory-mapped device access, holes in the map */
	TRACE_IRQ,    /* interrupt lines and controllers */
	TRACE_DISK,   /* IDE, ATAPI, floppy commands */
	TRACE_NET,    /* frames and NE2000 registers */
	TRACE_DEV,    /* everything else a device has to say */
	TRACE_CHANNELS,
};

struct trace {
	uint32_t mask; /* bit n: channel n is on */
	FILE *out;     /* borrowed */
};

static inline bool trace_on(const struct trace *t, enum trace_channel c)
{
	return __builtin_expect(t->mask >> c & 1, 0);
}

/** trace_print - one line "channel: text\n"; call it under trace_on() */
void trace_print(struct trace *t, enum trace_channel c, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** trace_channel_name - the word users give to -d; NULL past the last */
const char *trace_channel_name(enum trace_channel c);

/**
 * trace_parse - turn "int,mmu" or "all" into a mask
 * Returns false on an unknown word, which @bad then points at (inside @list).
 */
bool trace_parse(const char *list, uint32_t *mask, const char **bad);

#endif
