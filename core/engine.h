/* What executes guest code: the interpreter or the recompiler. */
#ifndef GANNET_CORE_ENGINE_H
#define GANNET_CORE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/error.h"

struct cpu;
struct engine;

struct engine_ops {
	const char *name;
	/* Run until cpu->run is 0, the CPU is halted, or the machine has ended.
	 * Delivers interrupts and exceptions itself (cpu_service). */
	void (*run)(struct engine *e);
	void (*stats)(struct engine *e, FILE *out); /* for --stats; optional */
	void (*destroy)(struct engine *e);
	/* Optional, before run(): count executed instructions for stats(); write a
	 * line "ADDRESS SIZE NAME" for each piece of host code to @perf_map, which
	 * the engine owns from then on (NULL: none). */
	void (*observe)(struct engine *e, bool count, FILE *perf_map);
};

struct engine {
	const struct engine_ops *ops;
	struct cpu *cpu; /* borrowed */
};

struct engine *interp_create(struct cpu *cpu, struct error *err);
/** jit_create - see jit/; NULL with @err where the host cannot (or built without) */
struct engine *jit_create(struct cpu *cpu, struct error *err);

struct insn;
/**
 * interp_insn - execute one decoded instruction at CS:EIP
 * Sets cpu->insn_eip, executes, leaves EIP at the next instruction (or at the
 * branch target). A REP string instruction may stop between iterations with
 * EIP still on it when cpu->run is 0. Raises through cpu->unwind.
 * The x87/SSE state must be in cpu->fpu (not live in host registers).
 */
void interp_insn(struct cpu *cpu, const struct insn *in);
/**
 * interp_steps - at most @count instructions, from the cache of decoded ones
 * @engine: made by interp_create(). Comes back early when cpu->run is 0 or the
 * CPU halts. Raises through cpu->unwind.
 */
void interp_steps(struct engine *engine, uint64_t count);
/**
 * interp_string - MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS with any REP prefix
 * Wants cpu->insn_eip at the instruction and EIP behind it; a REP that comes out
 * because cpu->run is 0 leaves EIP on the instruction. Memory is copied by the C
 * library: live x87/SSE registers are not safe from it. Raises through cpu->unwind.
 */
void interp_string(struct cpu *cpu, const struct insn *in);
/** interp_step - fetch, decode and execute the instruction at CS:EIP */
void interp_step(struct cpu *cpu);

#endif
