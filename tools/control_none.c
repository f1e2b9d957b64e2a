/* Stands in for the control socket where Gannet is built without jansson
 * (-Dcontrol=disabled). */
#include <stdio.h>

#include "tools/control.h"

struct control *control_listen(const char *path, struct error *err)
{
	error_set(err, "--control %s: this gannet was built without jansson; build it with -Dcontrol=enabled",
		  path);
	return NULL;
}

bool control_serve(struct control *c, struct gannet *g, struct error *err)
{
	(void)c, (void)g, (void)err;
	return false;
}

void control_destroy(struct control *c)
{
	(void)c;
}

int ctl_main(int argc, char **argv)
{
	(void)argc, (void)argv;
	fprintf(stderr, "gannet ctl: this gannet was built without jansson; build it with -Dcontrol=enabled\n");
	return 2;
}
