/* Control and debug registers, EFLAGS, port permission.
 *
 * SDM 3A 2.5 (control registers), 4.10.4 (what flushes the TLB), 17.2 (debug
 * registers), SDM 1 18.5.2 (I/O permission bit map).
 */
#include "core/cpuid.h"
#include "core/mmu.h"
#include "core/segment.h"
#include "core/segment_priv.h"

enum {
	CR0_DEFINED = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW |
		      CR0_CD | CR0_PG,
	DR6_WRITABLE = 0xe00f,
	DR6_ONES = 0xffff0ff0,
	DR7_WRITABLE = 0xffff23ff,
	DR7_ONES = 0x400,
	TSS_IOMAP = 0x66,
};

/* ---- control registers ---- */

static void write_cr0(struct cpu *cpu, uint32_t value)
{
	uint32_t changed;

	value = (value & CR0_DEFINED) | CR0_ET;
	changed = value ^ cpu->cr0;
	if ((value & CR0_PG) && !(value & CR0_PE))
		cpu_raise(cpu, EXC_GP, 0);
	if ((value & CR0_NW) && !(value & CR0_CD))
		cpu_raise(cpu, EXC_GP, 0);
	if ((value & CR0_PG) && (cpu->cr4 & CR4_PAE) && (changed & (CR0_PG | CR0_CD | CR0_NW)) &&
	    !mmu_load_pdptes(cpu, cpu->cr3))
		cpu_raise(cpu, EXC_GP, 0);
	cpu->cr0 = value;
	/* Segments keep what protected mode gave them; only the level is gone. */
	if (!(value & CR0_PE))
		cpu->cpl = 0;
	if (changed & (CR0_PE | CR0_PG | CR0_WP))
		mmu_flush(cpu, true);
}

static void write_cr3(struct cpu *cpu, uint32_t value)
{
	if ((cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE) && !mmu_load_pdptes(cpu, value))
		cpu_raise(cpu, EXC_GP, 0);
	cpu->cr3 = value;
	mmu_flush(cpu, false);
}

/* What this model has: writing any other bit is #GP(0). */
static uint32_t cr4_defined(const struct cpu *cpu)
{
	uint32_t bits = CR4_DE | CR4_PSE | CR4_MCE;

	if (cpu_has(cpu, FEAT_TSC))
		bits |= CR4_TSD;
	if (cpu_model_p6(cpu->model))
		bits |= CR4_PAE | CR4_PGE | CR4_PCE;
	if (cpu_has(cpu, FEAT_FXSR))
		bits |= CR4_OSFXSR;
	if (cpu_has(cpu, FEAT_SSE))
		bits |= CR4_OSXMMEXCPT;
	return bits;
}

static void write_cr4(struct cpu *cpu, uint32_t value)
{
	uint32_t changed = value ^ cpu->cr4, old = cpu->cr4;

	if (value & ~cr4_defined(cpu))
		cpu_raise(cpu, EXC_GP, 0);
	if ((cpu->cr0 & CR0_PG) && (value & CR4_PAE) && (changed & (CR4_PAE | CR4_PGE | CR4_PSE))) {
		cpu->cr4 = value;
		if (!mmu_load_pdptes(cpu, cpu->cr3)) {
			cpu->cr4 = old;
			cpu_raise(cpu, EXC_GP, 0);
		}
	}
	cpu->cr4 = value;
	if (changed & (CR4_PAE | CR4_PGE | CR4_PSE))
		mmu_flush(cpu, true);
}

/** cpu_write_cr - MOV CRn, r32 and what LMSW and CLTS come down to; #UD for others than 0, 2, 3, 4 */
void cpu_write_cr(struct cpu *cpu, unsigned n, uint32_t value)
{
	switch (n) {
	case 0:
		write_cr0(cpu, value);
		break;
	case 2:
		cpu->cr2 = value;
		break;
	case 3:
		write_cr3(cpu, value);
		break;
	case 4:
		write_cr4(cpu, value);
		break;
	default:
		cpu_raise_ne(cpu, EXC_UD);
	}
}

uint32_t cpu_read_cr(struct cpu *cpu, unsigned n)
{
	switch (n) {
	case 0:
		return cpu->cr0;
	case 2:
		return cpu->cr2;
	case 3:
		return cpu->cr3;
	case 4:
		return cpu->cr4;
	default:
		cpu_raise_ne(cpu, EXC_UD);
	}
}

/* ---- debug registers ---- */

/* DR4 and DR5 are DR6 and DR7 unless CR4.DE; DR7.GD traps any access. */
static unsigned debug_register(struct cpu *cpu, unsigned n)
{
	if (n == 4 || n == 5) {
		if (cpu->cr4 & CR4_DE)
			cpu_raise_ne(cpu, EXC_UD);
		n += 2;
	}
	if (cpu->dr[7] & DR7_DETECT) {
		cpu->debug_hits = DR6_DETECT;
		cpu_raise_ne(cpu, EXC_DB);
	}
	return n & 7;
}

void cpu_write_dr(struct cpu *cpu, unsigned n, uint32_t value)
{
	n = debug_register(cpu, n);
	if (n == 6)
		value = (value & DR6_WRITABLE) | DR6_ONES;
	else if (n == 7)
		value = (value & DR7_WRITABLE) | DR7_ONES;
	cpu->dr[n] = value;
}

uint32_t cpu_read_dr(struct cpu *cpu, unsigned n)
{
	return cpu->dr[debug_register(cpu, n)];
}

/* R/Wn and LENn of breakpoint @i. */
enum { BREAK_EXEC = 0, BREAK_WRITE = 1, BREAK_IO = 2, BREAK_ACCESS = 3 };

static unsigned break_kind(const struct cpu *cpu, unsigned i)
{
	return cpu->dr[7] >> (16 + 4 * i) & 3;
}

static unsigned break_len(const struct cpu *cpu, unsigned i)
{
	static const uint8_t bytes[4] = { 1, 2, 8, 4 };

	return bytes[cpu->dr[7] >> (18 + 4 * i) & 3];
}

/* Enabled breakpoints of @kinds (bit mask) that overlap @size bytes at @start. */
static uint32_t debug_match(const struct cpu *cpu, uint32_t start, unsigned size, unsigned kinds)
{
	uint32_t hits = 0;

	for (unsigned i = 0; i < 4; i++) {
		unsigned len = break_len(cpu, i);
		uint32_t at = (uint32_t)cpu->dr[i] & ~(len - 1);

		if (!(cpu->dr[7] >> (2 * i) & 3) || !(kinds >> break_kind(cpu, i) & 1))
			continue;
		if (at - start < size || start - at < len)
			hits |= 1u << i;
	}
	return hits;
}

/** debug_hits_data - for an access to @size bytes; call it only if DR7 enables something */
uint32_t debug_hits_data(const struct cpu *cpu, uint32_t linear, unsigned size, bool write)
{
	return debug_match(cpu, linear, size,
			   write ? 1 << BREAK_WRITE | 1 << BREAK_ACCESS : 1 << BREAK_ACCESS);
}

uint32_t debug_hits_code(const struct cpu *cpu, uint32_t linear)
{
	uint32_t hits = 0;

	for (unsigned i = 0; i < 4; i++) {
		if ((cpu->dr[7] >> (2 * i) & 3) && break_kind(cpu, i) == BREAK_EXEC &&
		    (uint32_t)cpu->dr[i] == linear)
			hits |= 1u << i;
	}
	return hits;
}

/* ---- EFLAGS ---- */

void cpu_set_eflags(struct cpu *cpu, uint32_t value, uint32_t mask)
{
	mask &= FLAGS_ALL;
	cpu->eflags = (cpu->eflags & ~mask) | (value & mask) | FLAG_RSVD1;
	/* TF: the engine has to go on in single steps. */
	if ((cpu->eflags & FLAG_TF) || ((cpu->eflags & FLAG_IF) && cpu->intr_line))
		cpu_kick(cpu);
}

/* ---- ports ---- */

/**
 * io_check - may this program use @size ports from @port on?
 * By IOPL, else by the bit map of a 32-bit TSS; #GP(0) if not. Notes I/O breakpoints.
 */
void io_check(struct cpu *cpu, uint16_t port, unsigned size)
{
	unsigned iopl = (cpu->eflags & FLAG_IOPL) >> 12;

	if ((cpu->cr0 & CR0_PE) && (cpu->cpl > iopl || cpu_v86(cpu))) {
		uint32_t map, bits;

		if (!(cpu->tr.attr & SEG_P) || !(cpu->tr.attr & SYS_32BIT) ||
		    cpu->tr.limit < TSS_IOMAP + 1)
			cpu_raise(cpu, EXC_GP, 0);
		map = mmu_read(cpu, cpu->tr.base + TSS_IOMAP, 2, 0);
		/* Two bytes are always read, so the map ends with a byte of ones. */
		if (map + port / 8u + 1 > cpu->tr.limit)
			cpu_raise(cpu, EXC_GP, 0);
		bits = mmu_read(cpu, cpu->tr.base + map + port / 8u, 2, 0);
		if (bits >> (port & 7) & ((1u << size) - 1))
			cpu_raise(cpu, EXC_GP, 0);
	}
	if (unlikely((cpu->dr[7] & DR7_ENABLES) && (cpu->cr4 & CR4_DE)))
		cpu->debug_hits |= debug_match(cpu, port, size, 1 << BREAK_IO);
}
