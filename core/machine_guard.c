/* See machine_guard.h. */
#include "core/machine_guard.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>

#include "core/cpu.h"
#include "core/machine.h"
#include "core/memory.h"

static _Thread_local struct machine *guarded;
static struct sigaction old_bus;

static bool handle(const siginfo_t *info)
{
	struct machine *m = guarded;
	uintptr_t page = (uintptr_t)info->si_addr & ~(uintptr_t)(GUEST_PAGE_SIZE - 1), start;

	if (!m || info->si_code != BUS_ADRERR)
		return false;
	start = (uintptr_t)memory_host(m->memory);
	if (page < start || page >= start + memory_total(m->memory))
		return false;
	if (mmap((void *)page, GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return false;
	__atomic_store_n(&m->memory_lost, true, __ATOMIC_SEQ_CST);
	cpu_kick(m->cpu);
	return true;
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
	if (handle(info))
		return;
	if (old_bus.sa_flags & SA_SIGINFO && old_bus.sa_sigaction)
		old_bus.sa_sigaction(sig, info, context);
	else if (old_bus.sa_handler != SIG_DFL && old_bus.sa_handler != SIG_IGN)
		old_bus.sa_handler(sig);
	else
		signal(sig, SIG_DFL);
}

static void install(void)
{
	struct sigaction sa = { .sa_sigaction = on_bus,
				.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };

	sigemptyset(&sa.sa_mask);
	sigaction(SIGBUS, &sa, &old_bus);
}

void machine_guard_enter(struct machine *m)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	/* After the recompiler's handlers, so that this one is asked first. */
	pthread_once(&once, install);
	guarded = m;
}

void machine_guard_leave(void)
{
	guarded = NULL;
}
