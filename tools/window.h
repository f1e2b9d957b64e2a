/* The guest's display in a window: -display sdl. */
#ifndef GANNET_TOOLS_WINDOW_H
#define GANNET_TOOLS_WINDOW_H

#include "core/gannet.h"

struct window;

/**
 * window_create - open a window that shows the machine's screen
 * @g: borrowed; its display becomes the window's
 * A click gives the mouse to the guest, Ctrl-Alt-G takes it back, Ctrl-Alt-F is
 * full screen. Closing the window quits the machine. To be called in the
 * thread that calls gannet_run(). Returns NULL with one line in @why.
 */
struct window *window_create(struct gannet *g, char *why, size_t why_size);

/** window_destroy - NULL is legal */
void window_destroy(struct window *w);

#endif
