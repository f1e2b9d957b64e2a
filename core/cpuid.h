/* CPU models, CPUID and model-specific registers. */
#ifndef GANNET_CORE_CPUID_H
#define GANNET_CORE_CPUID_H

#include <stdbool.h>
#include <stdint.h>

#include "core/cpu.h"
#include "core/insn.h"

struct cpu_model {
	const char *name;        /* for -cpu */
	const char *description; /* one line for -cpu help */
	char vendor[13];
	uint32_t signature;      /* CPUID.1:EAX */
	const char *brand;       /* CPUID.8000_0002..4; up to 47 characters */
	uint32_t features;       /* bit n: enum insn_feature n; what the host lacks is taken away */
	bool pae_nx, apic;       /* NX (with PAE); a local APIC */
	uint8_t max_leaf;        /* CPUID.0:EAX */
};

/** cpu_model_find - NULL name: the default; NULL result: unknown (names in @err) */
const struct cpu_model *cpu_model_find(const char *name, struct error *err);
/** cpu_model_list - all models, for -cpu help; ends with a NULL name */
const struct cpu_model *cpu_model_list(void);
static inline bool cpu_has(const struct cpu *cpu, enum insn_feature f)
{
	return cpu->features >> f & 1;
}
/** cpu_host_features - bit n: the host can execute enum insn_feature n natively */
uint32_t cpu_host_features(void);
/** cpu_host_invariant_tsc - the host's TSC runs at one rate in every power state */
bool cpu_host_invariant_tsc(void);
static inline unsigned cpu_model_family(const struct cpu_model *m)
{
	return m->signature >> 8 & 15;
}
/** cpu_model_p6 - has what came with the P6: PAE, PGE, MTRRs, PAT, MCA */
static inline bool cpu_model_p6(const struct cpu_model *m)
{
	return cpu_model_family(m) >= 6;
}

void cpu_cpuid(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
/** cpu_rdmsr / cpu_wrmsr - false: no such MSR or bad value, caller raises #GP(0) */
bool cpu_rdmsr(struct cpu *cpu, uint32_t msr, uint64_t *value);
bool cpu_wrmsr(struct cpu *cpu, uint32_t msr, uint64_t value);
uint64_t cpu_rdtsc(struct cpu *cpu);
void cpu_set_tsc(struct cpu *cpu, uint64_t value);
/** cpu_tsc_start - begin to measure the TSC's frequency; when the CPU is made */
void cpu_tsc_start(struct cpu *cpu);
/** cpu_tsc_hz - ticks per second; may sleep until 20 ms after cpu_tsc_start() have passed */
uint64_t cpu_tsc_hz(struct cpu *cpu);
/** cpu_reset_msrs - power-on values */
void cpu_reset_msrs(struct cpu *cpu);

#endif
