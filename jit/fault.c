/* Exceptions that the host raises for the guest.
 *
 * Division errors, misaligned 16-byte operands and unmasked floating-point
 * exceptions come as signals. If the instruction belongs to a block, its table
 * of fault points gives the guest's EIP and execution goes on in
 * jit_thunk_raise. Also here: the return-address stack growing into its guard
 * (deep recursion), which simply starts it anew.
 *
 * Signal dispositions belong to the process, so this is the one place with
 * state per thread: which recompiler this thread is running.
 */
#include "jit/jit_priv.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

static _Thread_local struct jit *running;
static _Thread_local void *alt_stack;

static struct sigaction old_segv, old_fpe, old_bus;

#define ALT_STACK_SIZE (64u << 10)

static uint32_t vector_of(int sig, const siginfo_t *info, const struct jit *j,
			  const struct jit_fault_point *f, const uint8_t *pc)
{
	(void)j;
	(void)f;
	if (sig != SIGFPE)
		return EXC_GP;
	if (info->si_code == FPE_INTDIV)
		return EXC_DE;
	/* An x87 exception is reported by a waiting x87 instruction, D8-DF or
	 * FWAIT; anything else that raises SIGFPE here is SSE. */
	while (*pc == 0x66 || *pc == 0xf2 || *pc == 0xf3 || (*pc & 0xf0) == 0x40)
		pc++;
	if ((*pc & 0xf8) == 0xd8 || *pc == 0x9b)
		return EXC_MF;
	if (*pc == 0xf6 || *pc == 0xf7)
		return EXC_DE;
	/* MMX instructions report pending x87 exceptions too */
	return info->si_code == FPE_INTOVF ? EXC_DE : EXC_XM;
}

static bool handle(int sig, siginfo_t *info, ucontext_t *uc)
{
	greg_t *r = uc->uc_mcontext.gregs;
	uint64_t pc = (uint64_t)r[REG_RIP], fault = (uint64_t)info->si_addr;
	struct jit *j = running;
	struct jit_block *b;

	if (!j || pc < (uint64_t)j->code_x || pc >= (uint64_t)j->code_x + JIT_CACHE_SIZE)
		return false;
	if (sig == SIGSEGV && jit_context_guard(j, fault)) {
		r[REG_RSP] = (greg_t)j->area->jit_rsp_base;
		return true;
	}
	b = jit_block_at(j, pc);
	if (!b)
		return false;
	for (unsigned i = b->fault_count; i-- > 0;) {
		const struct jit_fault_point *f = &b->faults[i];

		if ((uint64_t)b->host + f->host > pc)
			continue;
		r[REG_RCX] = vector_of(sig, info, j, f, (const uint8_t *)pc);
		r[REG_R10] = f->eip;
		r[REG_RIP] = (greg_t)jit_thunk_raise;
		return true;
	}
	return false;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
	const struct sigaction *old = sig == SIGSEGV ? &old_segv : sig == SIGFPE ? &old_fpe
										  : &old_bus;

	if (handle(sig, info, context))
		return;
	/* not ours: what was there before, or the default at the next fault */
	if (old->sa_flags & SA_SIGINFO && old->sa_sigaction)
		old->sa_sigaction(sig, info, context);
	else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN)
		old->sa_handler(sig);
	else
		signal(sig, SIG_DFL);
}

static void install(void)
{
	struct sigaction sa = { .sa_sigaction = on_signal,
				.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };

	sigemptyset(&sa.sa_mask);
	sigaction(SIGSEGV, &sa, &old_segv);
	sigaction(SIGFPE, &sa, &old_fpe);
	sigaction(SIGBUS, &sa, &old_bus);
}

bool jit_signals_install(struct error *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (pthread_once(&once, install)) {
		error_set(err, "cannot install signal handlers: %s", strerror(errno));
		return false;
	}
	return true;
}

void jit_signals_enter(struct jit *j)
{
	if (!alt_stack) {
		stack_t ss = { .ss_size = ALT_STACK_SIZE };

		/* kept for the life of the thread: it may run more machines */
		ss.ss_sp = mmap(NULL, ALT_STACK_SIZE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (ss.ss_sp != MAP_FAILED && !sigaltstack(&ss, NULL))
			alt_stack = ss.ss_sp;
	}
	running = j;
}

void jit_signals_leave(void) { running = NULL; }
