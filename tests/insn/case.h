/* One case of the instruction oracle, and where it lives in linear memory.
 *
 * A case is a register state, a few memory pokes over a seeded background, and
 * up to MAX_INSNS instructions followed by INT3. Every leg (interpreter,
 * recompiler, host CPU) runs it in 32-bit user mode with the same pages at the
 * same linear addresses, until the first exception, which may well be that
 * INT3. What is compared is the whole state at that exception.
 */
#ifndef TESTS_INSN_CASE_H
#define TESTS_INSN_CASE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/insn.h"

enum {
	LOW_BASE = 0x8000,       /* for 16-bit addresses */
	CODE_BASE = 0x10000000,
	DATA_BASE = 0x20000000,  /* two pages, then a read-only one, then nothing */
	STACK_BASE = 0x20008000, /* with nothing on both sides */
	SEG_BASE = 0x1ffff000,   /* of the LDT's data segments: all of that is within 64 KiB */
	PAGE = 4096,
	LOW_PAGES = 2, CODE_PAGES = 2, DATA_PAGES = 3, STACK_PAGES = 2,
	ARENA_LOW = 0,
	ARENA_DATA = LOW_PAGES * PAGE,
	ARENA_STACK = ARENA_DATA + DATA_PAGES * PAGE,
	ARENA_SIZE = ARENA_STACK + STACK_PAGES * PAGE,
	SEL_CODE = 0x23,         /* as Linux has them, so that the host agrees */
	SEL_DATA = 0x2b,
};

/* Segments of a case. In the latter two all of them are in the LDT: code starts at
 * CODE_BASE and data at SEG_BASE, with limits. */
enum case_mode {
	MODE_FLAT32,
	MODE_SEG32,
	MODE_SEG16, /* 16-bit code and stack */
	MODE_COUNT,
};

/* The LDT, byte for byte the same in both kinds of leg. */
enum {
	LDT_CODE16, LDT_CODE32,
	LDT_DATA,        /* writable */
	LDT_STACK16, LDT_STACK32,
	LDT_EXPAND_DOWN, /* valid from offset 0x2000 on */
	LDT_READ_ONLY,   /* ends with the data pages */
	LDT_COUNT,
};
#define LDT_SELECTOR(n) ((n) << 3 | 7)

/* What an LDT entry is, in modify_ldt()'s words. */
struct ldt_segment {
	uint32_t base, limit;
	uint8_t contents; /* 0 data, 1 expand-down, 2 code */
	bool wide;        /* D/B */
	bool read_only;   /* code: execute only */
};
extern const struct ldt_segment case_ldt[LDT_COUNT];
/* Selectors of ES, CS, SS, DS, FS, GS at the start, by mode. */
extern const uint16_t case_selectors[MODE_COUNT][6];

/* A 16-bit stack keeps the upper half of ESP as it was when SS was loaded: in the
 * host leg by IRETQ, from a stack at this address. */
#define CASE_ESP_HIGH 0x6b5e0000u

enum {
	MAX_INSNS = 8,
	MAX_POKES = 12,
	MAX_CODE = MAX_INSNS * INSN_MAX_LENGTH + 8,
	FX_SIZE = 288,
	END_VECTOR = 3, /* INT3 after the last instruction */
};

/* One instruction as the generator made it. */
struct case_insn {
	uint8_t bytes[INSN_MAX_LENGTH];
	uint8_t length;
	uint8_t jump_at;    /* offset of a relative displacement, or 0 */
	uint8_t jump_size;  /* 1, 2, 4 */
	uint8_t target;     /* index of the instruction it goes to; count: the end */
	uint16_t entry;     /* row of the decode table */
};

struct case_poke {
	uint32_t offset; /* in the arena; the poke is 4 bytes and inside it */
	uint32_t value;
};

struct test_case {
	uint32_t gpr[8];
	uint32_t eflags;
	uint32_t mode;        /* enum case_mode */
	uint32_t code_offset; /* of the first instruction in the code pages */
	uint64_t memory_seed;
	uint32_t insn_count;
	uint32_t poke_count;
	struct case_insn insn[MAX_INSNS];
	struct case_poke poke[MAX_POKES];
	_Alignas(16) uint8_t fx[FX_SIZE];
};

enum outcome {
	OUTCOME_NONE,
	OUTCOME_EXCEPTION,
	OUTCOME_TIMEOUT, /* ran on and on: nothing to compare */
	OUTCOME_DIED,    /* the leg itself was lost */
};

struct test_result {
	uint32_t outcome; /* enum outcome */
	uint32_t vector;
	uint32_t error;
	uint32_t cr2;     /* page faults only */
	uint32_t gpr[8];
	uint32_t eip, eflags;
	uint16_t sreg[6];
	_Alignas(16) uint8_t fx[FX_SIZE];
	_Alignas(16) uint8_t arena[ARENA_SIZE];
};

/** case_layout - place the instructions, patch relative jumps; returns the length
 *  with the final INT3. @starts: EIP of each and of the end; may be NULL */
unsigned case_layout(const struct test_case *c, uint8_t code[MAX_CODE], uint32_t starts[MAX_INSNS + 1]);

static inline bool case_code32(const struct test_case *c) { return c->mode != MODE_SEG16; }
static inline uint32_t case_code_base(const struct test_case *c)
{
	return c->mode == MODE_FLAT32 ? 0 : CODE_BASE;
}
static inline uint32_t case_data_base(const struct test_case *c)
{
	return c->mode == MODE_FLAT32 ? 0 : SEG_BASE;
}
/** case_entry_eip - where it starts */
static inline uint32_t case_entry_eip(const struct test_case *c)
{
	return CODE_BASE + c->code_offset - case_code_base(c);
}

/** case_code_pages - the bytes of both code pages: INT3 everywhere else */
void case_code_pages(const struct test_case *c, uint8_t pages[CODE_PAGES * PAGE]);

/** arena_background - what memory holds before pokes, from a seed */
void arena_background(uint64_t seed, uint8_t arena[ARENA_SIZE]);
void arena_poke(const struct test_case *c, uint8_t arena[ARENA_SIZE]);

/** arena_offset - linear address to offset; false if outside */
bool arena_offset(uint32_t linear, uint32_t *offset);
uint32_t arena_linear(uint32_t offset);

/** case_write / case_read - the text form that regressions are kept in; with an
 *  explanation (may be NULL). Reading returns false on a malformed file, with the
 *  line number in *line. */
void case_write(FILE *f, const struct test_case *c, const char *explanation);
bool case_read(FILE *f, struct test_case *c, unsigned *line);

/** case_describe - the instructions as text, one line each */
void case_describe(FILE *f, const struct test_case *c);

/* Small fast generator: splitmix64. */
struct rng { uint64_t state; };

static inline uint64_t rng_next(struct rng *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}
static inline uint32_t rng_below(struct rng *r, uint32_t n) { return (uint32_t)(rng_next(r) >> 11) % n; }
static inline bool rng_percent(struct rng *r, unsigned p) { return rng_below(r, 100) < p; }

#endif
