/* CPU models, CPUID and model-specific registers.
 *
 * SDM 2A (CPUID), SDM 4 (MSRs), SDM 3A 11.11 (MTRRs), 11.12 (PAT), 15.3 (MCA).
 *
 * A model says what the guest is told; what the host cannot execute is taken
 * away. "max" calls itself an in-order Atom (family 6, model 0x1c): an operating
 * system that knows it works around no speculation faults of silicon that is
 * not there (page-table isolation, retpolines), and those that do not know
 * newer processors know this one. The feature bits are what programs go by.
 */
#include "core/cpuid.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#include "core/mmu.h"
#include "core/util.h"

#define F(name) (1u << FEAT_##name)

enum {
	FEATURES_P5 = F(BASE) | F(FPU) | F(CX8) | F(TSC) | F(MSR) | F(MMX),
	FEATURES_P3 = FEATURES_P5 | F(CMOV) | F(FXSR) | F(SEP) | F(SSE),
	FEATURES_CORE2 = FEATURES_P3 | F(SSE2) | F(SSE3) | F(SSSE3) | F(CLFSH),
	FEATURES_MAX = FEATURES_CORE2 | F(SSE41) | F(SSE42) | F(POPCNT) | F(MOVBE) | F(AES) |
		       F(PCLMUL) | F(SHA) | F(RDRAND) | F(RDSEED) | F(SSE4A),
};

static const struct cpu_model models[] = {
	{
		.name = "max",
		.description = "everything Gannet and the host can do (default)",
		.vendor = "GenuineIntel",
		.signature = 0x106ca,
		.brand = "Gannet virtual CPU",
		.features = FEATURES_MAX,
		.pae_nx = true,
		.apic = true,
		.max_leaf = 0x16,
	},
	{
		.name = "core2",
		.description = "Core 2 Duo (2006): up to SSSE3, NX",
		.vendor = "GenuineIntel",
		.signature = 0x6fb,
		.brand = "Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz",
		.features = FEATURES_CORE2,
		.pae_nx = true,
		.apic = true,
		.max_leaf = 4,
	},
	{
		.name = "pentium3",
		.description = "Pentium III (1999): SSE, PAE",
		.vendor = "GenuineIntel",
		.signature = 0x68a,
		.features = FEATURES_P3,
		.apic = true,
		.max_leaf = 2,
	},
	{
		.name = "pentium",
		.description = "Pentium MMX (1997)",
		.vendor = "GenuineIntel",
		.signature = 0x543,
		.features = FEATURES_P5,
		.apic = true,
		.max_leaf = 1,
	},
	{ .name = NULL },
};

const struct cpu_model *cpu_model_list(void) { return models; }

const struct cpu_model *cpu_model_find(const char *name, struct error *err)
{
	char names[128] = "";

	if (!name)
		return &models[0];
	for (const struct cpu_model *m = models; m->name; m++) {
		size_t used = strlen(names);

		if (!strcmp(m->name, name))
			return m;
		snprintf(names + used, sizeof(names) - used, "%s%s", used ? ", " : "", m->name);
	}
	error_set(err, "CPU model %s: unknown; there are %s", name, names);
	return NULL;
}

uint32_t cpu_host_features(void)
{
	/* x86-64 itself promises everything up to SSE2. */
	uint32_t f = FEATURES_P3 | F(SSE2) | F(CLFSH);
	unsigned a, b, c, d;

	if (__get_cpuid(1, &a, &b, &c, &d)) {
		f |= (c & bit_SSE3 ? F(SSE3) : 0) | (c & bit_PCLMUL ? F(PCLMUL) : 0) |
		     (c & bit_SSSE3 ? F(SSSE3) : 0) | (c & bit_SSE4_1 ? F(SSE41) : 0) |
		     (c & bit_SSE4_2 ? F(SSE42) : 0) | (c & bit_MOVBE ? F(MOVBE) : 0) |
		     (c & bit_POPCNT ? F(POPCNT) : 0) | (c & bit_AES ? F(AES) : 0) |
		     (c & bit_RDRND ? F(RDRAND) : 0);
	}
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
		f |= (b & bit_RDSEED ? F(RDSEED) : 0) | (b & bit_SHA ? F(SHA) : 0);
	if (__get_cpuid(0x80000001, &a, &b, &c, &d))
		f |= c & bit_SSE4a ? F(SSE4A) : 0;
	return f;
}

bool cpu_host_invariant_tsc(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d >> 8 & 1);
}

/* ---- TSC ---- */

uint64_t cpu_rdtsc(struct cpu *cpu) { return __rdtsc() + cpu->tsc_offset; }

void cpu_set_tsc(struct cpu *cpu, uint64_t value) { cpu->tsc_offset = value - __rdtsc(); }

/* TSC and clock at one moment: of a few tries, the one least disturbed. */
static void read_clocks(uint64_t *tsc, int64_t *ns)
{
	uint64_t best = UINT64_MAX;

	*tsc = 0;
	*ns = 0;
	for (int i = 0; i < 8; i++) {
		struct timespec ts;
		uint64_t before = __rdtsc(), after;

		clock_gettime(CLOCK_MONOTONIC, &ts);
		after = __rdtsc();
		if (after - before < best) {
			best = after - before;
			*tsc = before + best / 2;
			*ns = ts.tv_sec * 1000000000ll + ts.tv_nsec;
		}
	}
}

void cpu_tsc_start(struct cpu *cpu) { read_clocks(&cpu->tsc_mark, &cpu->tsc_mark_ns); }

uint64_t cpu_tsc_hz(struct cpu *cpu)
{
	enum { ENOUGH_NS = 20000000 }; /* errors below 2 in a million */
	uint64_t tsc;
	int64_t ns;

	if (cpu->tsc_hz)
		return cpu->tsc_hz;
	read_clocks(&tsc, &ns);
	if (ns - cpu->tsc_mark_ns < ENOUGH_NS) {
		struct timespec rest = { 0, ENOUGH_NS - (ns - cpu->tsc_mark_ns) };

		nanosleep(&rest, NULL);
		read_clocks(&tsc, &ns);
	}
	if (ns > cpu->tsc_mark_ns)
		cpu->tsc_hz = (unsigned __int128)(tsc - cpu->tsc_mark) * 1000000000u /
			      (uint64_t)(ns - cpu->tsc_mark_ns);
	return cpu->tsc_hz;
}

/* ---- CPUID ---- */

enum {
	MISC_FAST_STRINGS = 1 << 0,
	MISC_BTS_UNAVAILABLE = 1 << 11,
	MISC_PEBS_UNAVAILABLE = 1 << 12,
	MISC_LIMIT_CPUID = 1 << 22,
	APIC_BASE_BSP = 1 << 8,
	APIC_BASE_ENABLE = 1 << 11,
};

static bool apic_enabled(const struct cpu *cpu)
{
	return cpu->model->apic && cpu->lapic && (cpu->apic_base & APIC_BASE_ENABLE);
}

static uint32_t bit_if(bool on, unsigned n) { return on ? 1u << n : 0; }

static void leaf_features(struct cpu *cpu, uint32_t out[4])
{
	bool p6 = cpu_model_p6(cpu->model);
	bool clfsh = cpu_has(cpu, FEAT_CLFSH);

	out[0] = cpu->model->signature;
	out[1] = clfsh ? 8 << 8 : 0; /* CLFLUSH line: 8 quadwords; brand index and APIC id 0 */
	out[2] = bit_if(cpu_has(cpu, FEAT_SSE3), 0) | bit_if(cpu_has(cpu, FEAT_PCLMUL), 1) |
		 bit_if(cpu_has(cpu, FEAT_MONITOR), 3) | bit_if(cpu_has(cpu, FEAT_SSSE3), 9) |
		 bit_if(cpu_has(cpu, FEAT_SSE41), 19) | bit_if(cpu_has(cpu, FEAT_SSE42), 20) |
		 bit_if(cpu_has(cpu, FEAT_MOVBE), 22) | bit_if(cpu_has(cpu, FEAT_POPCNT), 23) |
		 bit_if(cpu_has(cpu, FEAT_AES), 25) | bit_if(cpu_has(cpu, FEAT_RDRAND), 30);
	out[3] = bit_if(cpu_has(cpu, FEAT_FPU), 0) | bit_if(true, 2) /* DE */ |
		 bit_if(true, 3) /* PSE */ | bit_if(cpu_has(cpu, FEAT_TSC), 4) |
		 bit_if(cpu_has(cpu, FEAT_MSR), 5) | bit_if(p6, 6) /* PAE */ |
		 bit_if(true, 7) /* MCE */ | bit_if(cpu_has(cpu, FEAT_CX8), 8) |
		 bit_if(apic_enabled(cpu), 9) | bit_if(cpu_has(cpu, FEAT_SEP), 11) |
		 bit_if(p6, 12) /* MTRR */ | bit_if(p6, 13) /* PGE */ | bit_if(p6, 14) /* MCA */ |
		 bit_if(cpu_has(cpu, FEAT_CMOV), 15) | bit_if(p6, 16) /* PAT */ |
		 bit_if(p6, 17) /* PSE-36 */ | bit_if(clfsh, 19) |
		 bit_if(cpu_has(cpu, FEAT_MMX), 23) | bit_if(cpu_has(cpu, FEAT_FXSR), 24) |
		 bit_if(cpu_has(cpu, FEAT_SSE), 25) | bit_if(cpu_has(cpu, FEAT_SSE2), 26);
}

/* Caches, for programs that size their copies by them. */
static void leaf_cache(uint32_t subleaf, uint32_t out[4])
{
	static const struct {
		uint8_t type, level, ways;
		uint16_t sets;
	} caches[] = {
		{ 1, 1, 8, 64 },    /* 32 KiB data */
		{ 2, 1, 8, 64 },    /* 32 KiB code */
		{ 3, 2, 16, 1024 }, /* 1 MiB */
		{ 3, 3, 16, 16384 }, /* 16 MiB */
	};

	if (subleaf >= ARRAY_SIZE(caches))
		return;
	out[0] = caches[subleaf].type | caches[subleaf].level << 5 | 1 << 8;
	out[1] = 63 | (caches[subleaf].ways - 1) << 22; /* 64-byte lines, one partition */
	out[2] = caches[subleaf].sets - 1;
}

/* TSC frequency as a ratio to the clock that feeds the local APIC's timer (1 GHz,
 * devices/lapic.c), so that systems need not measure either. Numerators are kept
 * so small that kilohertz times numerator fits 32 bits, as systems compute it. */
static void leaf_frequency(struct cpu *cpu, uint32_t out[4])
{
	enum { CRYSTAL = 1000000000, NUMERATOR_MAX = 4294 };
	uint64_t hz = cpu->invariant_tsc ? cpu_tsc_hz(cpu) : 0;
	uint64_t best = UINT64_MAX;

	for (uint64_t d = 1; d <= NUMERATOR_MAX; d++) {
		uint64_t n = (hz * d + CRYSTAL / 2) / CRYSTAL;
		uint64_t have = n * CRYSTAL / d;
		uint64_t error = have > hz ? have - hz : hz - have;

		if (n > NUMERATOR_MAX)
			break;
		if (n && error < best) {
			best = error;
			out[0] = d;
			out[1] = n;
			out[2] = CRYSTAL;
		}
	}
}

static void leaf_basic(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	const struct cpu_model *m = cpu->model;

	switch (leaf) {
	case 0:
		out[0] = cpu->misc_enable & MISC_LIMIT_CPUID ? MIN(m->max_leaf, 2) : m->max_leaf;
		memcpy(&out[1], m->vendor, 4);
		memcpy(&out[3], m->vendor + 4, 4);
		memcpy(&out[2], m->vendor + 8, 4);
		break;
	case 1:
		leaf_features(cpu, out);
		break;
	case 2:
		if (m->max_leaf < 4) {
			/* Descriptors: 4 KiB pages 32+64 entries, 16 KiB L1s, 256 KiB L2. */
			out[0] = 0x03020101;
			out[3] = 0x0c040882;
		} else {
			out[0] = 0x00feff01; /* ff: see leaf 4, fe: TLBs likewise elsewhere */
		}
		break;
	case 4:
		leaf_cache(subleaf, out);
		break;
	case 6:
		out[0] = 1 << 2; /* ARAT: the APIC timer never stops */
		break;
	case 7:
		if (subleaf == 0)
			out[1] = bit_if(cpu_has(cpu, FEAT_RDSEED), 18) |
				 bit_if(cpu_has(cpu, FEAT_SHA), 29);
		break;
	case 0x15:
		leaf_frequency(cpu, out);
		break;
	case 0x16:
		if (cpu->invariant_tsc)
			out[0] = out[1] = (cpu_tsc_hz(cpu) + 500000) / 1000000; /* base, maximum: MHz */
		break;
	default:
		break;
	}
}

static void leaf_extended(struct cpu *cpu, uint32_t leaf, uint32_t out[4])
{
	const struct cpu_model *m = cpu->model;
	char brand[48] = "";

	switch (leaf) {
	case 0x80000000:
		out[0] = 0x80000008;
		break;
	case 0x80000001:
		out[2] = bit_if(cpu_has(cpu, FEAT_SSE4A), 6);
		out[3] = bit_if(m->pae_nx, 20);
		break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
		strncpy(brand, m->brand, sizeof(brand) - 1);
		memcpy(out, brand + 16 * (leaf - 0x80000002), 16);
		break;
	case 0x80000006:
		out[2] = 1024u << 16 | 8 << 12 | 64; /* L2: 1 MiB, 16 ways, 64-byte lines */
		break;
	case 0x80000007:
		out[3] = bit_if(cpu->invariant_tsc, 8);
		break;
	case 0x80000008:
		out[0] = 32 << 8 | 36; /* linear and physical address bits */
		break;
	default:
		break;
	}
}

void cpu_cpuid(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	const struct cpu_model *m = cpu->model;

	memset(out, 0, 4 * sizeof(out[0]));
	/* A model without a brand string has no extended leaves at all. */
	if (leaf >= 0x80000000 && leaf <= 0x80000008 && m->brand) {
		leaf_extended(cpu, leaf, out);
		return;
	}
	/* Beyond the last leaf, Intel processors answer as for the last one. */
	leaf_basic(cpu, MIN(leaf, m->max_leaf), subleaf, out);
}

/* ---- MSRs ---- */

enum {
	MSR_P5_MC_ADDR = 0x0, MSR_P5_MC_TYPE = 0x1, MSR_TSC = 0x10, MSR_P5_CESR = 0x11,
	MSR_P5_CTR0 = 0x12, MSR_P5_CTR1 = 0x13, MSR_PLATFORM_ID = 0x17, MSR_APIC_BASE = 0x1b,
	MSR_EBL_CR_POWERON = 0x2a, MSR_FEATURE_CONTROL = 0x3a, MSR_BIOS_UPDT_TRIG = 0x79,
	MSR_BIOS_SIGN_ID = 0x8b, MSR_PERFCTR0 = 0xc1, MSR_PERFCTR1 = 0xc2, MSR_FSB_FREQ = 0xcd,
	MSR_MTRRCAP = 0xfe, MSR_BBL_CR_CTL = 0x119, MSR_BBL_CR_CTL3 = 0x11e,
	MSR_SYSENTER_CS = 0x174, MSR_SYSENTER_ESP = 0x175, MSR_SYSENTER_EIP = 0x176,
	MSR_MCG_CAP = 0x179, MSR_MCG_STATUS = 0x17a, MSR_EVNTSEL0 = 0x186, MSR_EVNTSEL1 = 0x187,
	MSR_PERF_STATUS = 0x198, MSR_PERF_CTL = 0x199, MSR_MISC_ENABLE = 0x1a0,
	MSR_DEBUGCTL = 0x1d9, MSR_LASTBRANCH_FROM = 0x1db, MSR_LASTINT_TO = 0x1de,
	MSR_MTRR_VAR = 0x200, MSR_MTRR_FIX64K = 0x250, MSR_MTRR_FIX16K = 0x258,
	MSR_MTRR_FIX4K = 0x268, MSR_PAT = 0x277, MSR_MTRR_DEF_TYPE = 0x2ff, MSR_MC0_CTL = 0x400,
	MTRR_VAR_PAIRS = 8,
	MC_BANKS = STATE_ELEM_SIZE(struct cpu, mc_bank) / STATE_ELEM_SIZE(struct cpu, mc_bank[0]),
	MISC_WRITABLE = MISC_FAST_STRINGS | MISC_LIMIT_CPUID,
};
#define MSR_EFER 0xc0000080u

#define PHYS_MASK 0xfffffffffull /* 36 address bits */
#define PAT_RESET 0x0007040600070406ull
#define APIC_BASE_RESET 0xfee00000ull

void cpu_reset_msrs(struct cpu *cpu)
{
	cpu_set_tsc(cpu, 0);
	cpu->efer = 0;
	cpu->sysenter_cs = cpu->sysenter_esp = cpu->sysenter_eip = 0;
	cpu->apic_base = APIC_BASE_RESET | APIC_BASE_BSP | APIC_BASE_ENABLE;
	cpu->pat = PAT_RESET;
	cpu->mtrr_def_type = 0;
	memset(cpu->mtrr_fixed, 0, sizeof(cpu->mtrr_fixed));
	memset(cpu->mtrr_var, 0, sizeof(cpu->mtrr_var));
	cpu->misc_enable = MISC_FAST_STRINGS | MISC_BTS_UNAVAILABLE | MISC_PEBS_UNAVAILABLE;
	cpu->mcg_status = 0;
	memset(cpu->mc_bank, 0, sizeof(cpu->mc_bank));
}

/* Memory types 0 UC, 1 WC, 4 WT, 5 WP, 6 WB; PAT also has 7 UC-. */
static bool types_valid(uint64_t value, unsigned valid)
{
	for (unsigned i = 0; i < 8; i++) {
		unsigned type = value >> (8 * i) & 0xff;

		if (type > 7 || !(valid >> type & 1))
			return false;
	}
	return true;
}

enum { MTRR_TYPES = 0x73, PAT_TYPES = 0xf3 };

/* Index into mtrr_fixed, or -1. */
static int mtrr_fixed_index(uint32_t msr)
{
	if (msr == MSR_MTRR_FIX64K)
		return 0;
	if (msr == MSR_MTRR_FIX16K || msr == MSR_MTRR_FIX16K + 1)
		return 1 + (msr - MSR_MTRR_FIX16K);
	if (msr >= MSR_MTRR_FIX4K && msr < MSR_MTRR_FIX4K + 8)
		return 3 + (msr - MSR_MTRR_FIX4K);
	return -1;
}

static bool mtrr_read(const struct cpu *cpu, uint32_t msr, uint64_t *value)
{
	int fixed = mtrr_fixed_index(msr);

	if (fixed >= 0)
		*value = cpu->mtrr_fixed[fixed];
	else if (msr >= MSR_MTRR_VAR && msr < MSR_MTRR_VAR + 2 * MTRR_VAR_PAIRS)
		*value = cpu->mtrr_var[msr - MSR_MTRR_VAR];
	else if (msr == MSR_MTRR_DEF_TYPE)
		*value = cpu->mtrr_def_type;
	else if (msr == MSR_MTRRCAP)
		*value = MTRR_VAR_PAIRS | 1 << 8 | 1 << 10; /* fixed ranges, WC */
	else
		return false;
	return true;
}

/* Nothing here depends on memory types: they only have to read back. */
static bool mtrr_write(struct cpu *cpu, uint32_t msr, uint64_t value)
{
	int fixed = mtrr_fixed_index(msr);

	if (fixed >= 0) {
		if (!types_valid(value, MTRR_TYPES))
			return false;
		cpu->mtrr_fixed[fixed] = value;
	} else if (msr >= MSR_MTRR_VAR && msr < MSR_MTRR_VAR + 2 * MTRR_VAR_PAIRS) {
		uint64_t reserved = msr & 1 ? 0x7ff : 0xf00; /* mask: bit 11 is V; base: type */

		if (value & (reserved | ~PHYS_MASK))
			return false;
		if (!(msr & 1) && ((value & 0xff) > 7 || !(MTRR_TYPES >> (value & 7) & 1)))
			return false;
		cpu->mtrr_var[msr - MSR_MTRR_VAR] = value;
	} else if (msr == MSR_MTRR_DEF_TYPE) {
		if ((value & ~0xcffull) || (value & 0xff) > 7 ||
		    !(MTRR_TYPES >> (value & 7) & 1))
			return false;
		cpu->mtrr_def_type = value;
	} else {
		return false;
	}
	return true;
}

/* A register of the machine-check banks, where no error is ever reported. */
static uint64_t *mc_register(struct cpu *cpu, uint32_t msr)
{
	uint32_t n = msr - MSR_MC0_CTL;

	return n < 4 * MC_BANKS ? &cpu->mc_bank[n / 4][n % 4] : NULL;
}

static bool mc_write(uint64_t *bank_register, uint32_t msr, uint64_t value)
{
	enum { MC_CTL, MC_STATUS };
	unsigned kind = (msr - MSR_MC0_CTL) % 4;

	/* P6: a control register takes all ones or zeros; a status is only cleared. */
	if ((kind == MC_CTL && value && ~value) || (kind == MC_STATUS && value))
		return false;
	*bank_register = value;
	return true;
}

/* Registers that a P6 has and that stay as they are here: read as @value, writes are dropped. */
static bool msr_constant(uint32_t msr, uint64_t *value)
{
	switch (msr) {
	case MSR_PLATFORM_ID:
	case MSR_EBL_CR_POWERON:
	case MSR_BIOS_SIGN_ID:
	case MSR_FSB_FREQ:
	case MSR_BBL_CR_CTL:
	case MSR_PERFCTR0:
	case MSR_PERFCTR1:
	case MSR_EVNTSEL0:
	case MSR_EVNTSEL1:
	case MSR_PERF_STATUS:
	case MSR_PERF_CTL:
	case MSR_DEBUGCTL:
		*value = 0;
		return true;
	case MSR_FEATURE_CONTROL:
		*value = 1; /* locked: no VMX, no SMX */
		return true;
	case MSR_BBL_CR_CTL3:
		/* L2 controller: hardware-enabled, 256 KiB, 64 GiB range (P6 family). */
		*value = 0xbe702111;
		return true;
	default:
		*value = 0;
		return msr >= MSR_LASTBRANCH_FROM && msr <= MSR_LASTINT_TO;
	}
}

static bool rdmsr_p6(struct cpu *cpu, uint32_t msr, uint64_t *value)
{
	switch (msr) {
	case MSR_APIC_BASE:
		*value = cpu->apic_base;
		return cpu->model->apic;
	case MSR_SYSENTER_CS:
		*value = cpu->sysenter_cs;
		return cpu_has(cpu, FEAT_SEP);
	case MSR_SYSENTER_ESP:
		*value = cpu->sysenter_esp;
		return cpu_has(cpu, FEAT_SEP);
	case MSR_SYSENTER_EIP:
		*value = cpu->sysenter_eip;
		return cpu_has(cpu, FEAT_SEP);
	case MSR_MCG_CAP:
		*value = MC_BANKS;
		return true;
	case MSR_MCG_STATUS:
		*value = cpu->mcg_status;
		return true;
	case MSR_MISC_ENABLE:
		*value = cpu->misc_enable;
		return true;
	case MSR_PAT:
		*value = cpu->pat;
		return true;
	case MSR_EFER:
		*value = cpu->efer;
		return cpu->model->pae_nx;
	default:
		if (mc_register(cpu, msr)) {
			*value = *mc_register(cpu, msr);
			return true;
		}
		return mtrr_read(cpu, msr, value) || msr_constant(msr, value);
	}
}

bool cpu_rdmsr(struct cpu *cpu, uint32_t msr, uint64_t *value)
{
	*value = 0;
	switch (msr) {
	case MSR_P5_MC_ADDR:
	case MSR_P5_MC_TYPE:
		return true;
	case MSR_TSC:
		*value = cpu_rdtsc(cpu);
		return true;
	case MSR_P5_CESR:
	case MSR_P5_CTR0:
	case MSR_P5_CTR1:
		return !cpu_model_p6(cpu->model);
	default:
		return cpu_model_p6(cpu->model) && rdmsr_p6(cpu, msr, value);
	}
}

static bool wrmsr_apic_base(struct cpu *cpu, uint64_t value)
{
	/* Bit 10 would be x2APIC. BSP is not for software to change. */
	if (!cpu->model->apic || (value & (0x6ffull | ~PHYS_MASK)))
		return false;
	cpu->apic_base = value | APIC_BASE_BSP;
	if (cpu->lapic && cpu->apic_base_changed)
		cpu->apic_base_changed(cpu->lapic);
	return true;
}

static bool wrmsr_efer(struct cpu *cpu, uint64_t value)
{
	uint64_t old = cpu->efer;

	if (!cpu->model->pae_nx || (value & ~(uint64_t)(EFER_NXE | EFER_SCE)))
		return false;
	cpu->efer = value;
	if ((old ^ value) & EFER_NXE)
		mmu_flush(cpu, true);
	return true;
}

static bool wrmsr_p6(struct cpu *cpu, uint32_t msr, uint64_t value)
{
	uint64_t ignored;

	switch (msr) {
	case MSR_APIC_BASE:
		return wrmsr_apic_base(cpu, value);
	case MSR_SYSENTER_CS:
		cpu->sysenter_cs = value & 0xffff;
		return cpu_has(cpu, FEAT_SEP);
	case MSR_SYSENTER_ESP:
		cpu->sysenter_esp = (uint32_t)value;
		return cpu_has(cpu, FEAT_SEP);
	case MSR_SYSENTER_EIP:
		cpu->sysenter_eip = (uint32_t)value;
		return cpu_has(cpu, FEAT_SEP);
	case MSR_BIOS_UPDT_TRIG:
		return true; /* an update of microcode that is not there */
	case MSR_MCG_STATUS:
		if (value & ~7ull)
			return false;
		cpu->mcg_status = value;
		return true;
	case MSR_MISC_ENABLE:
		cpu->misc_enable = (cpu->misc_enable & ~(uint64_t)MISC_WRITABLE) |
				   (value & MISC_WRITABLE);
		return true;
	case MSR_PAT:
		if (!types_valid(value, PAT_TYPES))
			return false;
		cpu->pat = value;
		return true;
	case MSR_EFER:
		return wrmsr_efer(cpu, value);
	case MSR_PLATFORM_ID:
	case MSR_FEATURE_CONTROL: /* locked */
	case MSR_MTRRCAP:
	case MSR_MCG_CAP:
		return false;
	default:
		if (mc_register(cpu, msr))
			return mc_write(mc_register(cpu, msr), msr, value);
		return mtrr_write(cpu, msr, value) || msr_constant(msr, &ignored);
	}
}

bool cpu_wrmsr(struct cpu *cpu, uint32_t msr, uint64_t value)
{
	switch (msr) {
	case MSR_P5_MC_ADDR:
	case MSR_P5_MC_TYPE:
		return true;
	case MSR_TSC:
		cpu_set_tsc(cpu, value);
		return true;
	case MSR_P5_CESR:
	case MSR_P5_CTR0:
	case MSR_P5_CTR1:
		return !cpu_model_p6(cpu->model);
	default:
		return cpu_model_p6(cpu->model) && wrmsr_p6(cpu, msr, value);
	}
}
