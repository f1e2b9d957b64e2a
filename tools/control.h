/* The control socket of a machine: docs/control.md. */
#ifndef GANNET_TOOLS_CONTROL_H
#define GANNET_TOOLS_CONTROL_H

#include "core/error.h"
#include "core/gannet.h"

struct control;

/**
 * control_listen - make the socket, before there is a machine; who connects waits
 * A socket that nobody listens on any more is removed first.
 */
struct control *control_listen(const char *path, struct error *err);
/** control_serve - answer in the thread of gannet_run(); @g: borrowed until control_destroy() */
bool control_serve(struct control *c, struct gannet *g, struct error *err);
/** control_destroy - before gannet_destroy(); answers what still waits; NULL is legal */
void control_destroy(struct control *c);

/** ctl_main - gannet ctl: argv[0] is the word "ctl"; returns the exit code */
int ctl_main(int argc, char **argv);

#endif
