/* The recompiler's own structures. See docs/architecture.md for the tour.
 *
 * Registers while guest code runs:
 *
 *   rax rdx rbx rbp rsi rdi   eax edx ebx ebp esi edi, upper halves zero
 *   r9                        ecx   (rcx is free for JRCXZ, the branch that
 *   r8                        esp    reads no flags, and for shift counts)
 *   rcx r10 r11               scratch within one guest instruction
 *   r12                       12: shift count that makes a page number
 *   r13                       the tables: for reads, then for writes
 *   r14                       addend of the page the stack is in, in stretches of
 *                             code where that was checked (stack.c)
 *   r15                       struct cpu
 *   rsp                       a stack of its own that holds nothing but return
 *                             addresses into recompiled code
 *   host flags                the guest's CF PF AF ZF SF OF, always
 *   x87, xmm0-7, MXCSR        the guest's, while cpu->fpu_live is set
 *
 * So no glue code may touch flags: it is made of MOV, LEA, NOT, PEXT, PDEP,
 * RORX, SARX, SHRX and JRCXZ.
 */
#ifndef GANNET_JIT_JIT_PRIV_H
#define GANNET_JIT_JIT_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/cpu.h"
#include "core/engine.h"
#include "core/insn.h"
#include "core/memory.h"
#include "jit/emit.h"

/* Where each guest register lives. */
enum { HOST_ECX = R9, HOST_ESP = R8, HOST_CPU = R15, HOST_TWELVE = R12,
       HOST_TABLES = R13, HOST_STACK = R14 };

#define WRITE_TABLE ((int32_t)(TLB_PAGES * sizeof(uint64_t))) /* from HOST_TABLES */

#ifndef JIT_CACHE_SIZE
#define JIT_CACHE_SIZE (96u << 20)   /* bytes of host code */
#define JIT_CACHE_HOT (36u << 20)    /* ... of which hot */
#endif
#define JIT_CONTEXTS 8               /* modes remembered at a time */
#define JIT_STACK_SIZE (128u << 10)  /* bytes of return addresses in each */
#define JIT_STACK_GUARD (64u << 10)  /* unmapped below it */
#define JIT_BLOCK_INSNS 64           /* guest instructions in a block, at most */
#define JIT_BLOCK_BYTES 16384        /* host bytes one block may need, hot + cold */
#define JUMP_CACHE_BITS 11
#define JUMP_CACHE_SIZE (1u << JUMP_CACHE_BITS)
#define JUMP_CACHE_MASK (JUMP_CACHE_SIZE - 1)

/* What a block was translated for; any difference is another block. */
enum jit_mode {
	MODE_USER = 1 << 0,   /* CPL 3 */
	MODE_DF = 1 << 1,     /* direction flag set */
	MODE_FPU = 1 << 2,    /* x87 usable: CR0.EM = TS = 0 */
	MODE_SSE = 1 << 3,    /* ... and CR4.OSFXSR */
	MODE_IOPL = 1 << 6,   /* CPL <= IOPL: CLI and STI allowed */
	MODE_TSC = 1 << 7,    /* RDTSC allowed */
	MODE_NO_STACK = 1 << 14, /* variant of a block without r14: see stack.c */
	MODE_NEVER = 1 << 15, /* the interpreter's business: 16-bit code, limits, debugging */
};

/* Reached from recompiled code through r15; lives in cpu->engine_area. The
 * offsets are known to thunks.S through jit_offsets.h, which asserts them. */
struct jit_area {
	uint64_t c_rsp;        /* 0: the C stack, 16-byte aligned */
	uint64_t jit_rsp;      /* 8: the return-address stack while in C */
	uint64_t *read;        /* 16: tables at the current privilege */
	uint64_t unused_24;    /* keeps the offsets below, which thunks.S knows */
	uint32_t *exec;        /* 32 */
	uint64_t saved_flags;  /* 40 */
	uint64_t saved_r10;    /* 48 */
	uint32_t unused_56[6]; /* likewise */
	uint32_t mask_jump;    /* 80: JUMP_CACHE_MASK */
	uint32_t mask_arith;   /* 84: FLAGS_ARITH */
	uint32_t mask_no_if;   /* 88: ~FLAG_IF */
	uint32_t mask_bit5;    /* 92: 31 */
	void *thunk_exit;      /* 96: leave; EIP is stored */
	void *thunk_exit_link; /* 104: leave; r11 is the struct jit_link */
	void *thunk_fill;      /* 112: r10 address, r11 1 for writes; rcx = addend or 0 */
	void *thunk_interp;    /* 120: interpret the instruction at EIP */
	void *thunk_lookup;    /* 128: go to the block at ecx */
	void *thunk_fpu;       /* 136: load x87/SSE state */
	void *thunk_raise;     /* 144: exception ecx at EIP r10 */
	uint64_t *jump_keys;   /* 152: minus the EIP of each entry */
	                       /* ... JUMP_CACHE_SIZE of them, then as many host addresses */
	uint64_t was_live;     /* 160 */
	uint64_t stat_insns;   /* 168: guest instructions run, with --stats */
	uint64_t jit_rsp_base; /* 176 */
	uint32_t mxcsr_host;   /* 184: default MXCSR for C */
	uint32_t code_changed; /* 188: code was written since the last entry */
	uint64_t stat_interp;  /* 192: instructions handed to the interpreter */
	uint64_t tmp;          /* 200: one value across a memory check */
	uint64_t saved_ptr;    /* 208: r10 across a fill */
	uint32_t mask_rest;    /* 216: what PUSHF shows of eflags besides FLAGS_ARITH */
	uint32_t pad2;
	uint64_t fill_return;  /* 224: where thunk_fill goes back to */
	uint32_t mask_cross[10]; /* [n]: 0xfff without its n + 1 low bits */
	uint32_t fs_ok, gs_ok; /* usable data segment with limit 4G; base may be anything */
	void *thunk_segment;   /* load segment register r11 with selector r10; rcx = 0: refused */
};
_Static_assert(sizeof(struct jit_area) <= CPU_ENGINE_AREA, "engine area too small");
_Static_assert(offsetof(struct jit_area, thunk_exit) == 96, "thunks.S");
_Static_assert(offsetof(struct jit_area, jump_keys) == 152, "thunks.S");
_Static_assert(offsetof(struct jit_area, mxcsr_host) == 184, "thunks.S");

#define AREA(field) \
	MEM_BD(HOST_CPU, (int32_t)(offsetof(struct cpu, engine_area) + \
				   offsetof(struct jit_area, field)))
#define CPU_FIELD(field) MEM_BD(HOST_CPU, (int32_t)offsetof(struct cpu, field))

struct jit_block;
struct translator;

/* A range of stack that was checked to lie in one writable page; see stack.c. */
struct jit_stretch {
	int32_t esp;     /* ESP now, relative to ESP at the check */
	int32_t lo, hi;  /* bytes lo to hi - 1, relative to ESP at the check; equal: none */
	unsigned count;  /* accesses */
};

/* A direct jump out of a block. While unlinked the jump goes to a cold stub
 * that leaves with this struct in r11. */
struct jit_link {
	struct jit_block *from;
	struct jit_block *to;  /* NULL while unlinked */
	struct jit_link *next; /* in to->incoming */
	struct jit_link *own_next; /* in from->links */
	uint8_t *site;         /* the rel32, writable address */
	uint8_t *tag;          /* imm32 of the LEA that checks the exec table, or NULL */
	uint32_t target;       /* guest EIP */
	uint16_t mode;         /* of the block wanted there */
	struct jit_stretch stack; /* what r14 is good for at the jump */
	int32_t unlinked;      /* rel32 that leads to the stub */
};

/* Where a return comes back into a block. */
struct jit_landing {
	struct jit_landing *next;
	uint8_t *site; /* writable; at least 5 bytes that a jump may replace */
};

/* Where an instruction that can fault on the host itself starts. */
struct jit_fault_point {
	uint32_t host; /* offset from block->host */
	uint32_t eip;
};

struct jit_block {
	struct jit_block *hash_next;
	struct jit_block *page_next; /* other blocks of the RAM page */
	struct jit_block *tail_next; /* other blocks that end in RAM page tail_page */
	uint8_t *host;       /* executable address of the entry */
	uint32_t host_size;  /* hot bytes */
	uint32_t cold_size;
	uint8_t *cold;       /* executable address of the cold bytes */
	uint32_t eip;        /* linear = EIP: code segments are flat */
	uint32_t ram_page;
	uint32_t tail_page;  /* RAM page of the last bytes, if the last instruction
			      * straddles pages; MEMORY_NO_PAGE otherwise */
	uint16_t tail_size;  /* bytes in it */
	uint16_t mode;
	uint16_t guest_size; /* bytes of guest code */
	uint16_t insns;
	uint32_t behind_check; /* offset of the entry behind the first stack check; 0: none */
	struct jit_stretch stack; /* ... and what it relies on */
	bool dead;
	uint8_t fault_count;
	struct jit_link *incoming;
	struct jit_link *links;            /* own jumps out */
	struct jit_fault_point *faults;
	struct jit_landing *landings;
};

/* What is known about a RAM page that code was translated from. */
struct jit_page {
	uint64_t bitmap; /* which 64-byte pieces hold translated code */
	unsigned idle_writes; /* since the last block was dropped */
	struct jit_block *blocks;
	struct jit_block *tails; /* blocks of the page before whose end is here */
};

/* What is remembered for one mode; see context.c. */
struct jit_context {
	uint16_t mode;
	bool stale;           /* translations were flushed since it was current */
	uint64_t *jump_cache; /* JUMP_CACHE_SIZE keys, then as many host addresses */
	uint64_t rsp, rsp_base;
};

struct jit {
	struct engine base;
	struct cpu *cpu;
	struct engine *interp; /* owned: executes what is not translated */
	struct jit_area *area;

	/* code cache: one memfd, mapped writable and executable */
	int fd;
	uint8_t *code_w, *code_x;
	uint32_t hot, cold; /* next free byte of each part */
	uint32_t hot_limit, cold_limit; /* where each ends; tests lower them */
	uint32_t hot_mapped, cold_mapped; /* bytes before these have pages */
	uint64_t lookup;    /* executable address of a jump to thunk_lookup */

	uint8_t *stacks;     /* for each context JIT_STACK_GUARD unmapped, JIT_STACK_SIZE */
	struct jit_context context[JIT_CONTEXTS];
	struct jit_context *current;
	unsigned next_context; /* to be taken over when a new mode comes up */
	uint32_t voids;      /* how often the current one was cleared */
	uint16_t mode;       /* of the code being run */

	struct jit_block **hash; /* hash_size buckets */
	uint32_t hash_size;
	struct jit_page **pages; /* by RAM page */
	uint32_t page_count;
	struct jit_block **blocks; /* in order of host address, for faults */
	uint32_t block_count, block_max;
	struct arena_chunk *arena; /* metadata of blocks, freed all at once */
	size_t arena_used;


	struct translator *translator; /* scratch of the block being made */
	bool stop;           /* code was dropped: leave recompiled code */
	bool count_insns;
	uint32_t mxcsr_mask; /* bits the host lets LDMXCSR set */
	FILE *perf_map;
	bool need_flush;     /* of the code cache, before the next block */
	uint64_t stat_blocks, stat_flushes, stat_invalidated, stat_entries, stat_links,
		stat_fills, stat_never, stat_given_up;
	uint64_t *stat_interp_ids; /* by enum insn_id */
};

/* ---- thunks.S ---- */
uint64_t jit_enter(struct cpu *cpu, const void *host);
extern const uint8_t jit_thunk_exit[], jit_thunk_exit_link[], jit_thunk_fill[],
	jit_thunk_interp[], jit_thunk_segment[], jit_thunk_lookup[], jit_thunk_fpu[], jit_thunk_raise[],
	jit_thunk_return_base[];

/* ---- called from thunks ---- */
uint64_t jit_fill(struct cpu *cpu, uint32_t linear, uint32_t what);
int jit_interp_one(struct cpu *cpu);
uint64_t jit_load_segment(struct cpu *cpu, uint32_t selector, uint32_t seg);
_Noreturn void jit_raise(struct cpu *cpu, uint32_t vector);

/* ---- code_cache.c ---- */
bool jit_cache_init(struct jit *j, struct error *err);
void jit_cache_finish(struct jit *j);
/** jit_cache_reserve - room for one block; false: the cache must be flushed first */
bool jit_cache_reserve(struct jit *j, struct emit *hot, struct emit *cold);
void jit_cache_commit(struct jit *j, const struct emit *hot, const struct emit *cold);
/** jit_cache_start - forget all code */
void jit_cache_start(struct jit *j);
static inline uint8_t *jit_exec(const struct jit *j, const uint8_t *w)
{
	return j->code_x + (w - j->code_w);
}

/* ---- block.c ---- */
uint16_t jit_mode_of(const struct cpu *cpu);
struct jit_block *jit_block_find(struct jit *j, uint32_t eip, uint32_t ram_page, uint16_t mode);
bool jit_block_add(struct jit *j, struct jit_block *b); /* false: no memory */
void jit_block_invalidate(struct jit *j, struct jit_block *b);
void jit_code_written(void *opaque, uint32_t ram_page, unsigned offset, unsigned len);
void jit_flush_all(struct jit *j);
void jit_link(struct jit *j, struct jit_link *l, struct jit_block *to);
/** jit_tag_open - let the check whose imm32 is at @tag pass always: the jump behind it
 *  is not linked, and shall be */
static inline void jit_tag_open(uint8_t *tag)
{
	static const uint8_t mov_ecx_0[6] = { 0xb9, 0, 0, 0, 0, 0x90 };

	memcpy(tag - 2, mov_ecx_0, sizeof(mov_ecx_0));
}
struct jit_block *jit_block_at(struct jit *j, uint64_t host);
void *jit_arena(struct jit *j, size_t bytes); /* zeroed; lives until jit_flush_all */
/** jit_arena_back - give back what was taken since jit::arena and arena_used were these */
void jit_arena_back(struct jit *j, struct arena_chunk *chunk, size_t used);
void jit_arena_free(struct jit *j);

/* ---- context.c ---- */
bool jit_contexts_init(struct jit *j);
void jit_contexts_finish(struct jit *j);
/** jit_context_enter - make @mode the current one */
void jit_context_enter(struct jit *j, uint16_t mode);
/** jit_contexts_void - no remembered jump or return is good any more
 *  @rights: bit 0 in supervisor code, bit 1 in user code */
void jit_contexts_void(struct jit *j, unsigned rights);
/** jit_context_forget - no remembered jump leads to @b any more */
void jit_context_forget(struct jit *j, const struct jit_block *b);
/** jit_context_guard - @address lies below one of the stacks of returns */
bool jit_context_guard(const struct jit *j, uint64_t address);

/* ---- translate.c ---- */
/** jit_translate - make the block at @eip; NULL: interpret one instruction instead */
struct jit_block *jit_translate(struct jit *j, uint32_t eip, uint32_t ram_page,
				uint16_t mode, const uint8_t *page_host);

/* ---- dump.c ---- */
void jit_dump(struct jit *j, const struct jit_block *b, const uint8_t *page_host);

/* ---- fault.c ---- */
bool jit_signals_install(struct error *err);
void jit_signals_enter(struct jit *j); /* this thread runs @j now */
void jit_signals_leave(void);

/* ---- segreg.c ---- */
/** jit_segments_changed - FS or GS may have been loaded */
void jit_segments_changed(struct jit *j);

/* ---- fpu.c ---- */
void jit_fpu_settle(void *jit);

#endif
