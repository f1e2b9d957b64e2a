/* Segments, descriptors and control transfers between them.
 *
 * SDM 3A chapters 3, 5, 6, 7. Everything here may raise through cpu->unwind;
 * nothing is committed before all checks have passed.
 */
#ifndef GANNET_CORE_SEGMENT_H
#define GANNET_CORE_SEGMENT_H

#include "core/cpu.h"

/* ---- checked memory access through a segment ---- */
/** seg_linear - limit, type and null checks; #GP(0) or #SS(0). @offset already wrapped to the address size */
uint32_t seg_linear(struct cpu *cpu, unsigned seg, uint32_t offset, unsigned size, bool write);
/** seg_read/seg_write - with the current privilege level, #AC checks included */
uint64_t seg_read(struct cpu *cpu, unsigned seg, uint32_t offset, unsigned size);
void seg_write(struct cpu *cpu, unsigned seg, uint32_t offset, uint64_t value, unsigned size);

/* ---- loading ---- */
void seg_load(struct cpu *cpu, unsigned seg, uint16_t selector); /* MOV/POP/LES: data and SS rules, V86 and real too */
void seg_load_real(struct cpu *cpu, unsigned seg, uint16_t selector);
void seg_load_ldtr(struct cpu *cpu, uint16_t selector);
void seg_load_tr(struct cpu *cpu, uint16_t selector);
/** seg_changed - call after CS/SS/CPL or mode bits were set by hand */

/* ---- far transfers; @opsize 2 or 4 ---- */
void far_jump(struct cpu *cpu, uint16_t selector, uint32_t offset, unsigned opsize, uint32_t next_eip);
void far_call(struct cpu *cpu, uint16_t selector, uint32_t offset, unsigned opsize, uint32_t next_eip);
void far_return(struct cpu *cpu, unsigned opsize, uint16_t pop_bytes);
void interrupt_return(struct cpu *cpu, unsigned opsize, uint32_t next_eip);
void sysenter(struct cpu *cpu);
void sysexit(struct cpu *cpu);

/* ---- task switching (SDM 3A chapter 7) ---- */
enum task_source { TASK_JMP, TASK_CALL, TASK_IRET, TASK_GATE_INT };
void task_switch(struct cpu *cpu, uint16_t selector, enum task_source source,
		 bool has_error, uint32_t error_code, uint32_t next_eip);

/* ---- instructions that look at descriptors ---- */
bool desc_lar(struct cpu *cpu, uint16_t selector, uint32_t *rights);
bool desc_lsl(struct cpu *cpu, uint16_t selector, uint32_t *limit);
bool desc_verr(struct cpu *cpu, uint16_t selector);
bool desc_verw(struct cpu *cpu, uint16_t selector);

/** io_allowed - IOPL and the TSS bitmap; raises #GP(0) if not */
void io_check(struct cpu *cpu, uint16_t port, unsigned size);

/* ---- breakpoints: DR6 bits of enabled ones that match; see DR7 ---- */
uint32_t debug_hits_data(const struct cpu *cpu, uint32_t linear, unsigned size, bool write);
uint32_t debug_hits_code(const struct cpu *cpu, uint32_t linear); /* of an instruction's first byte */

/* ---- control registers ---- */
void cpu_write_cr(struct cpu *cpu, unsigned n, uint32_t value); /* with #GP checks, TLB flushes, PDPTEs */
uint32_t cpu_read_cr(struct cpu *cpu, unsigned n);
void cpu_write_dr(struct cpu *cpu, unsigned n, uint32_t value);
uint32_t cpu_read_dr(struct cpu *cpu, unsigned n);
/** cpu_set_eflags - POPF/IRET: only bits in @mask change; notes TF, IF, RF */
void cpu_set_eflags(struct cpu *cpu, uint32_t value, uint32_t mask);

#endif
