/* Cases out of the decode table. */
#ifndef TESTS_INSN_GEN_H
#define TESTS_INSN_GEN_H

#include "tests/insn/case.h"

struct generator {
	struct rng rng;
	bool low;                /* 16-bit addresses have memory behind them */
	bool segments;           /* other modes than flat too */
	const struct insn_entry *table;
	size_t rows;
	bool *usable;            /* per row: may be generated */
	const char **why_not;    /* per row: reason, when not usable */
	uint32_t usable_count;
	uint16_t loop_row;       /* LOOP's */
	uint16_t store_row;      /* that of MOV r/m8, imm8 */
};

/** generator_init - @has: which features the guest's CPU model has */
bool generator_init(struct generator *g, uint64_t seed, bool low, bool segments,
		    bool (*has)(void *opaque, enum insn_feature f), void *opaque);
void generator_finish(struct generator *g);

/**
 * generator_case - a new case
 * @row: decode table row of the first instruction, or -1 for any
 * @insns: how many instructions, 1 to MAX_INSNS
 * Returns false if the row could not be encoded.
 */
bool generator_case(struct generator *g, struct test_case *c, int row, unsigned insns,
		    uint64_t memory_seed);

/** generator_random32 - an integer operand */
uint32_t generator_random32(struct rng *r);
/** generator_fx - x87, MMX and SSE state that the host can load */
void generator_fx(struct rng *r, uint8_t fx[FX_SIZE]);

/**
 * case_undefined_flags - which EFLAGS bits may differ if the case ends at @eip
 * Bits the SDM leaves undefined after the instructions before it.
 */
uint32_t case_undefined_flags(const struct test_case *c, uint32_t eip);

#endif
