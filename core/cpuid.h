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
	bool pae_nx, apic;
};

/** cpu_model_find - NULL name: the default; NULL result: unknown (names in @err) */
const struct cpu_model *cpu_model_find(const char *name, struct error *err);
/** cpu_model_list - all models, for -cpu help; ends with a NULL name */
const struct cpu_model *cpu_model_list(void);
bool cpu_has(const struct cpu *cpu, enum insn_feature f);

void cpu_cpuid(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
/** cpu_rdmsr / cpu_wrmsr - false: no such MSR or bad value, caller raises #GP(0) */
bool cpu_rdmsr(struct cpu *cpu, uint32_t msr, uint64_t *value);
bool cpu_wrmsr(struct cpu *cpu, uint32_t msr, uint64_t value);
uint64_t cpu_rdtsc(struct cpu *cpu);

#endif
