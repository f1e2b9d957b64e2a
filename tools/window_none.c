/* Stands in for the window where Gannet is built without SDL (-Dsdl=disabled). */
#include "tools/window.h"

#include <stdio.h>

struct window *window_create(struct gannet *g, char *why, size_t why_size)
{
	(void)g;
	snprintf(why, why_size, "-display sdl: this gannet was built without SDL");
	return NULL;
}

void window_destroy(struct window *w)
{
	(void)w;
}
