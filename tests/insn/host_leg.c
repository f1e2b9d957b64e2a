/* The host leg: guest bytes on the real CPU, in 32-bit user mode.
 *
 * A forked child maps the case's pages at their fixed linear addresses and goes
 * from 64-bit code to Linux's 32-bit code segment by IRETQ. Every way out is a
 * signal: the exception number, error code and address the kernel hands over
 * are the CPU's own. The handler copies the state out of the signal frame and
 * jumps back into the batch loop.
 *
 * Memory is written through a second mapping of the same memfd, so that the
 * views at the fixed addresses can be read-only or executable from the start.
 */
#include "tests/insn/legs.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "core/util.h"
#include "tests/insn/host_leg_priv.h"

enum { HOST_CODE64 = 0x33 };

struct host_context {
	_Alignas(64) uint8_t fx[512];
	uint32_t gpr[8];
	uint32_t eflags, eip;
	uint16_t sreg[6];
	uint64_t fs_base;
	struct test_result *result;
	uint8_t *arena;
	sigjmp_buf back;
	bool inside;          /* 32-bit code is running */
	unsigned index, ticks, tick_index;
	uint64_t background_seed; /* what background[] was made from */
	uint8_t background[ARENA_SIZE];
};

_Static_assert(offsetof(struct host_context, gpr) == HC_GPR, "layout");
_Static_assert(offsetof(struct host_context, eflags) == HC_EFLAGS, "layout");
_Static_assert(offsetof(struct host_context, eip) == HC_EIP, "layout");
_Static_assert(offsetof(struct host_context, sreg) == HC_SREG, "layout");
_Static_assert(HOST_STACK_PAGE == CASE_ESP_HIGH, "the upper half of ESP on a 16-bit stack");

static struct host_context *context(void)
{
	return (struct host_context *)HOST_CONTEXT;
}

/* What parent and child share. */
struct host_shared {
	unsigned count;
	unsigned done; /* cases finished, counting up while the child works */
	bool low, ldt;
	struct test_case cases[BATCH_MAX];
	struct test_result results[BATCH_MAX];
};

struct host_leg {
	pid_t pid;
	int to_child, from_child; /* a byte each way: go, ready */
	struct host_shared *shared;
	bool low, ldt;
	bool running;
};

/* ---- the child ---- */

/* First thing in a handler: the C library's thread pointer, and neither #AC nor NT (IRETQ faults) in C. */
static inline __attribute__((always_inline)) void host_restore_thread(struct host_context *hc)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"((long)SYS_arch_prctl), "D"((long)ARCH_SET_FS), "S"(hc->fs_base)
			 : "rcx", "r11", "memory");
	__asm__ volatile("pushfq; andl $~0x44000, (%%rsp); popfq" ::: "memory", "cc");
}

static void host_take_state(struct host_context *hc, const ucontext_t *uc, uint32_t outcome,
			    uint16_t fs)
{
	static const uint8_t order[8] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX,
					  REG_RSP, REG_RBP, REG_RSI, REG_RDI };
	const greg_t *regs = uc->uc_mcontext.gregs;
	struct test_result *r = hc->result;
	uint16_t ds, es, gs;

	__asm__("mov %%ds, %0" : "=rm"(ds));
	__asm__("mov %%es, %0" : "=rm"(es));
	__asm__("mov %%gs, %0" : "=rm"(gs));
	r->outcome = outcome;
	r->vector = (uint32_t)regs[REG_TRAPNO];
	r->error = (uint32_t)regs[REG_ERR];
	r->cr2 = (uint32_t)regs[REG_CR2];
	for (unsigned i = 0; i < 8; i++)
		r->gpr[i] = (uint32_t)regs[order[i]];
	r->eip = (uint32_t)regs[REG_RIP];
	r->eflags = (uint32_t)regs[REG_EFL];
	r->sreg[0] = es;
	r->sreg[1] = (uint16_t)regs[REG_CSGSFS];
	r->sreg[2] = (uint16_t)((uint64_t)regs[REG_CSGSFS] >> 48);
	r->sreg[3] = ds;
	r->sreg[4] = fs;
	r->sreg[5] = gs;
	memcpy(r->fx, uc->uc_mcontext.fpregs, FX_SIZE);
	memcpy(r->arena, hc->arena, ARENA_SIZE);
}

__attribute__((no_stack_protector)) static void host_fault(int sig, siginfo_t *info, void *arg)
{
	struct host_context *hc = context();
	const ucontext_t *uc = arg;
	uint16_t fs;

	(void)sig;
	(void)info;
	__asm__ volatile("mov %%fs, %0" : "=rm"(fs));
	host_restore_thread(hc);
	if (!hc->inside || (uint16_t)uc->uc_mcontext.gregs[REG_CSGSFS] == HOST_CODE64)
		_exit(3);
	hc->inside = false;
	host_take_state(hc, uc, OUTCOME_EXCEPTION, fs);
	siglongjmp(hc->back, 1);
}

__attribute__((no_stack_protector)) static void host_tick(int sig, siginfo_t *info, void *arg)
{
	struct host_context *hc = context();

	(void)sig;
	(void)info;
	if (!hc->inside)
		return;
	if (hc->tick_index != hc->index) {
		hc->tick_index = hc->index;
		hc->ticks = 0;
	}
	if (++hc->ticks < 3)
		return;
	host_restore_thread(hc);
	hc->inside = false;
	host_take_state(hc, arg, OUTCOME_TIMEOUT, 0);
	siglongjmp(hc->back, 1);
}

static bool map_view(int fd, uint32_t base, uint32_t pages, uint32_t offset, int prot)
{
	void *p = mmap((void *)(uintptr_t)base, pages * PAGE, prot, MAP_SHARED | MAP_POPULATE | MAP_FIXED_NOREPLACE,
		       fd, offset);

	return p == (void *)(uintptr_t)base;
}

/* Returns the writable alias of the arena, with the code pages behind it. */
static uint8_t *host_map(struct host_shared *sh)
{
	int fd = memfd_create("insn-oracle", MFD_CLOEXEC);
	uint8_t *alias;

	if (fd < 0 || ftruncate(fd, ARENA_SIZE + CODE_PAGES * PAGE))
		return NULL;
	alias = mmap(NULL, ARENA_SIZE + CODE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (alias == MAP_FAILED ||
	    mmap((void *)HOST_CONTEXT, sizeof(struct host_context), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != (void *)HOST_CONTEXT)
		return NULL;
	if (mmap((void *)HOST_STACK_PAGE, PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != (void *)HOST_STACK_PAGE)
		return NULL;
	sh->low = map_view(fd, LOW_BASE, LOW_PAGES, ARENA_LOW, PROT_READ | PROT_WRITE);
	if (!map_view(fd, CODE_BASE, CODE_PAGES, ARENA_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC) ||
	    !map_view(fd, DATA_BASE, DATA_PAGES - 1, ARENA_DATA, PROT_READ | PROT_WRITE) ||
	    !map_view(fd, DATA_BASE + (DATA_PAGES - 1) * PAGE, 1,
		      ARENA_DATA + (DATA_PAGES - 1) * PAGE, PROT_READ) ||
	    !map_view(fd, STACK_BASE, STACK_PAGES, ARENA_STACK, PROT_READ | PROT_WRITE))
		return NULL;
	return alias;
}

/* The segments of the LDT; false where the kernel has no modify_ldt(). */
static bool host_ldt(void)
{
	for (unsigned i = 0; i < LDT_COUNT; i++) {
		const struct ldt_segment *s = &case_ldt[i];
		struct user_desc d = { .entry_number = i, .base_addr = s->base, .limit = s->limit,
				       .seg_32bit = s->wide, .contents = s->contents,
				       .read_exec_only = s->read_only };

		if (syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)))
			return false;
	}
	return true;
}

static void host_signals(void)
{
	static const int faults[] = { SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGTRAP };
	size_t size = 256 * KIB;
	stack_t alt = { .ss_sp = mmap(NULL, size, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), .ss_size = size };
	struct itimerval tick = { { 0, 200000 }, { 0, 200000 } };
	struct sigaction sa = { .sa_sigaction = host_fault,
				.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };

	sigaltstack(&alt, NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(faults); i++)
		sigaction(faults[i], &sa, NULL);
	sa.sa_sigaction = host_tick;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &tick, NULL);
}

static void host_run(struct host_context *hc, const struct test_case *c, struct test_result *r)
{
	r->outcome = OUTCOME_NONE;
	if (hc->background_seed != c->memory_seed || !hc->index) {
		arena_background(c->memory_seed, hc->background);
		hc->background_seed = c->memory_seed;
	}
	memcpy(hc->arena, hc->background, ARENA_SIZE);
	arena_poke(c, hc->arena);
	case_code_pages(c, hc->arena + ARENA_SIZE);
	memcpy(hc->fx, c->fx, FX_SIZE);
	memcpy(hc->gpr, c->gpr, sizeof(hc->gpr));
	hc->eflags = c->eflags;
	hc->eip = case_entry_eip(c);
	memcpy(hc->sreg, case_selectors[c->mode], sizeof(hc->sreg));
	hc->result = r;
	if (!sigsetjmp(hc->back, 0)) {
		hc->inside = true;
		host_enter();
	}
}

static _Noreturn void host_child(struct host_shared *sh, int in, int out)
{
	struct host_context *hc;
	uint8_t *alias;
	char byte = 'x';

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alias = host_map(sh);
	sh->ldt = host_ldt();
	if (!alias || write(out, &byte, 1) != 1)
		_exit(2);
	hc = context();
	hc->arena = alias;
	syscall(SYS_arch_prctl, ARCH_GET_FS, &hc->fs_base);
	host_signals();
	for (;;) {
		ssize_t n = read(in, &byte, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n != 1)
			_exit(0);
		while (sh->done < sh->count) {
			host_run(hc, &sh->cases[sh->done], &sh->results[sh->done]);
			hc->index++;
			__atomic_add_fetch(&sh->done, 1, __ATOMIC_RELEASE);
		}
		if (write(out, &byte, 1) != 1)
			_exit(0);
	}
}

/* ---- the parent ---- */

static bool host_spawn(struct host_leg *h)
{
	int down[2], up[2];
	char byte;

	if (pipe(down))
		return false;
	if (pipe(up)) {
		close(down[0]);
		close(down[1]);
		return false;
	}
	h->pid = fork();
	if (h->pid == 0) {
		close(down[1]);
		close(up[0]);
		host_child(h->shared, down[0], up[1]);
	}
	close(down[0]);
	close(up[1]);
	h->to_child = down[1];
	h->from_child = up[0];
	return h->pid > 0 && TEMP_FAILURE_RETRY(read(h->from_child, &byte, 1)) == 1;
}

static void host_reap(struct host_leg *h)
{
	close(h->to_child);
	close(h->from_child);
	if (h->pid > 0) {
		kill(h->pid, SIGKILL);
		waitpid(h->pid, NULL, 0);
	}
	h->pid = -1;
}

/* Does 32-bit code run at all? A kernel can be told to leave it out. */
static bool host_probe(struct host_leg *h)
{
	struct test_case *c = calloc(1, sizeof(*c));
	const struct test_result *r;
	bool ok = false;

	if (!c)
		return false;
	c->insn_count = 1;
	c->insn[0] = (struct case_insn){ .bytes = { 0x90 }, .length = 1 };
	c->eflags = 0x202;
	store_le16(c->fx, 0x37f);
	store_le32(c->fx + 24, 0x1f80);
	if (host_leg_start(h, c, 1)) {
		r = host_leg_wait(h);
		ok = r->outcome == OUTCOME_EXCEPTION && r->vector == END_VECTOR &&
		     r->eip == CODE_BASE + 2;
	}
	free(c);
	return ok;
}

struct host_leg *host_leg_create(struct error *err)
{
	struct host_leg *h = calloc(1, sizeof(*h));

	if (!h) {
		error_set(err, "out of memory");
		return NULL;
	}
	h->shared = mmap(NULL, sizeof(*h->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (h->shared == MAP_FAILED || !host_spawn(h)) {
		error_set(err, "host leg: the process or its fixed mappings could not be made: %s",
			  strerror(errno));
		if (h->pid > 0)
			host_reap(h);
		free(h);
		return NULL;
	}
	h->low = h->shared->low;
	h->ldt = h->shared->ldt;
	if (!host_probe(h)) {
		error_set(err, "host leg: this kernel does not run 32-bit code");
		host_leg_destroy(h);
		return NULL;
	}
	return h;
}

void host_leg_destroy(struct host_leg *h)
{
	if (!h)
		return;
	host_reap(h);
	munmap(h->shared, sizeof(*h->shared));
	free(h);
}

bool host_leg_low(const struct host_leg *h)
{
	return h->low;
}

bool host_leg_segments(const struct host_leg *h)
{
	return h->ldt;
}

bool host_leg_start(struct host_leg *h, const struct test_case *cases, unsigned n)
{
	if (n > BATCH_MAX)
		return false;
	memcpy(h->shared->cases, cases, n * sizeof(*cases));
	h->shared->done = 0;
	h->shared->count = n;
	h->running = write(h->to_child, "g", 1) == 1;
	return h->running;
}

const struct test_result *host_leg_wait(struct host_leg *h)
{
	struct host_shared *sh = h->shared;
	char byte;

	while (h->running) {
		if (TEMP_FAILURE_RETRY(read(h->from_child, &byte, 1)) == 1)
			break;
		/* The child is gone: that case is lost, the rest goes to a new one. */
		if (sh->done < sh->count)
			sh->results[sh->done++].outcome = OUTCOME_DIED;
		host_reap(h);
		if (!host_spawn(h) || write(h->to_child, "g", 1) != 1) {
			while (sh->done < sh->count)
				sh->results[sh->done++].outcome = OUTCOME_DIED;
			break;
		}
	}
	h->running = false;
	return sh->results;
}
