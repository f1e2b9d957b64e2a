/* VGA text mode in a terminal: -display curses. */
#ifndef GANNET_TOOLS_SCREEN_H
#define GANNET_TOOLS_SCREEN_H

#include "core/gannet.h"

struct screen;

/**
 * screen_create - take over the terminal of stdin and stdout
 * @g: borrowed; its display and its watched descriptor become the screen's
 * Ctrl-A x quits the machine, Ctrl-A Ctrl-A is one Ctrl-A for the guest.
 * Returns NULL with one line in @why.
 */
struct screen *screen_create(struct gannet *g, char *why, size_t why_size);

/** screen_destroy - give the terminal back as it was; NULL is legal */
void screen_destroy(struct screen *s);

#endif
