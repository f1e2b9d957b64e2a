/* gannet clone: many machines from one state image. */
#ifndef GANNET_TOOLS_CLONE_H
#define GANNET_TOOLS_CLONE_H

#include "core/gannet.h"

/** clone_main - argv[0] is the word "clone"; returns the exit code */
int clone_main(int argc, char **argv);

struct clone_status;

/** clone_status_start - --status-fd: write a line to @fd (not closed) now and each second,
 *  while @g runs; NULL if there is no thread or memory for it */
struct clone_status *clone_status_start(struct gannet *g, int fd);
/** clone_status_stop - after gannet_run(); NULL is legal */
void clone_status_stop(struct clone_status *s);

#endif
