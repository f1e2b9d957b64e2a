/* A state image that is cut short while a machine's memory is mapped from it.
 *
 * Who touches a page that is no longer in the file gets SIGBUS. The thread that runs
 * such a machine is guarded: the page becomes zero, and the machine ends, because its
 * memory is lost. Signals belong to the process; a variable per thread says which
 * machine it runs.
 */
#ifndef GANNET_CORE_MACHINE_GUARD_H
#define GANNET_CORE_MACHINE_GUARD_H

struct machine;

/** machine_guard_enter - the calling thread runs @m from here on */
void machine_guard_enter(struct machine *m);
void machine_guard_leave(void);

#endif
