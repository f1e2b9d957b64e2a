/* Where the bytes of a serial port or debug port go: a terminal, a file, a
 * pseudo terminal, a socket, or nowhere.
 *
 * Everything here is for the vCPU thread. Nothing blocks while the machine
 * runs. Output is buffered (64 KiB) and flushed within a millisecond; when the
 * buffer is full chardev_write() takes less than it was given, the caller keeps
 * the rest and is told by `can_write` when there is room. So a slow reader
 * slows the guest down and loses nothing. Where nobody listens (a socket
 * without a peer, a pty nobody has open) output is discarded, as on a cable
 * that is not plugged in. The program should ignore SIGPIPE.
 */
#ifndef GANNET_CORE_CHARDEV_H
#define GANNET_CORE_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct chardev;
struct loop;

enum chardev_event {
	CHARDEV_BREAK,  /* Ctrl-A b: the line is in the break state for a moment */
	CHARDEV_OPENED, /* somebody is at the other end now */
	CHARDEV_CLOSED, /* ... no more */
	CHARDEV_GONE,   /* chardev_close(): forget the pointer */
};

/* What the device that owns the chardev wants to know; every slot may be NULL. */
struct chardev_handlers {
	size_t (*can_receive)(void *opaque); /* bytes it has room for right now */
	void (*receive)(void *opaque, const uint8_t *buf, size_t len); /* never more than that */
	void (*can_write)(void *opaque);     /* room again after a short chardev_write() */
	void (*event)(void *opaque, enum chardev_event event);
};

/**
 * chardev_open - make a back end from what the user wrote
 * @spec: stdio[,mux=on|off]       terminal, raw if it is one. Ctrl-A is the escape key
 *                                 then (mux=on: also when it is not a terminal)
 *        file:PATH                output to a file, created or truncated
 *        pty                      a new pseudo terminal; chardev_info() names it
 *        unix:PATH[,server][,nowait]
 *        tcp:HOST:PORT[,server][,nowait]
 *                                 with "server" but not "nowait", waits here for a peer
 *        null, none               output discarded, no input
 * Returns NULL with @err set.
 */
struct chardev *chardev_open(struct loop *loop, const char *spec, struct error *err);

/** chardev_close - write out what is buffered (waits while the reader makes
 *  progress), restore the terminal; NULL is legal. After machine_run(), before
 *  machine_destroy(): the loop is needed. */
void chardev_close(struct chardev *c);

void chardev_set_handlers(struct chardev *c, const struct chardev_handlers *h, void *opaque);

/** chardev_set_command - what the Ctrl-A commands that are not chardev's own do:
 *  'x' quit, 'c' switch to the monitor, and so on; @fn may be NULL */
void chardev_set_command(struct chardev *c, void (*fn)(void *opaque, int key), void *opaque);

/** chardev_write - returns how many of @len bytes were taken, in order from the first */
size_t chardev_write(struct chardev *c, const void *buf, size_t len);

/** chardev_set_tap - be shown what the device writes, as it is written; @fn must not call
 *  into the chardev; NULL: no more */
void chardev_set_tap(struct chardev *c, void (*fn)(void *opaque, const uint8_t *buf, size_t len),
		     void *opaque);

/** chardev_inject - input as if it had come from the other end, escape keys not looked for;
 *  returns how many bytes there was room for */
size_t chardev_inject(struct chardev *c, const void *buf, size_t len);

/** chardev_accept_input - the device has room again: can_receive() will be asked */
void chardev_accept_input(struct chardev *c);

/** chardev_flush - try to write out what is buffered now */
void chardev_flush(struct chardev *c);

/** chardev_connected - false while a socket or pty has nobody at the other end */
bool chardev_connected(const struct chardev *c);

/** chardev_info - for the program to show: the pty's path, the port that was
 *  chosen; "" when there is nothing to say */
const char *chardev_info(const struct chardev *c);

/** chardev_terminal - switch the terminal to raw or back to what it was before;
 *  does nothing for other kinds. Async-signal-safe, for handlers of fatal
 *  signals (raw = false) and SIGCONT (raw = true). */
void chardev_terminal(struct chardev *c, bool raw);

#endif
