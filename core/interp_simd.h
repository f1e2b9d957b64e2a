/* The interpreter's x87, MMX and SSE half.
 *
 * Guest and host speak the same instruction set, so these instructions run on
 * the host's own units: tables of tiny pre-assembled routines (host_simd.S)
 * execute each on operands copied from the guest. No code is made at run time.
 */
#ifndef GANNET_CORE_INTERP_SIMD_H
#define GANNET_CORE_INTERP_SIMD_H

#include <stdint.h>

#include "core/cpu.h"
#include "core/insn.h"

/**
 * interp_x87 - execute an instruction with INSN_X87 (FWAIT too)
 * Makes the #NM and #MF checks itself; does not move EIP. cpu->insn_eip must be
 * the instruction's. Raises through cpu->unwind with nothing committed.
 */
void interp_x87(struct cpu *cpu, const struct insn *in);

/**
 * interp_simd - execute an instruction with INSN_MMX or INSN_SSE; also FXSAVE,
 * FXRSTOR, LDMXCSR, STMXCSR, EMMS, MOVNTI and the prefetches, however marked
 * Makes the #UD (feature, CR0.EM, CR4.OSFXSR), #NM and #MF checks itself; does
 * not move EIP.
 */
void interp_simd(struct cpu *cpu, const struct insn *in);

/** fpu_reset - x87 and SSE state at power-on (SDM 3A table 9-1) */
void fpu_reset(struct cpu *cpu);

/**
 * fpu_check_pending - what every waiting x87 and MMX instruction does first
 * An unmasked exception that is pending raises #MF if CR0.NE is set; else it
 * is reported outside, through cpu->ferr, and execution goes on.
 */
void fpu_check_pending(struct cpu *cpu);

/** fpu_sanitize - make an x87/SSE image that came from outside safe to load */
void fpu_sanitize(uint8_t fxsave[512]);

#endif
