/* What interp_x87.c and interp_sse.c share: the FXSAVE image and operands. */
#ifndef GANNET_CORE_INTERP_SIMD_PRIV_H
#define GANNET_CORE_INTERP_SIMD_PRIV_H

#include "core/cpu.h"
#include "core/insn.h"
#include "core/mmu.h"
#include "core/segment.h"
#include "core/util.h"

/* FXSAVE image, 32-bit format (SDM 1, table 10-2). */
enum {
	FX_FCW = 0,
	FX_FSW = 2,
	FX_FTW = 4,      /* abridged: bit n set, physical register n not empty */
	FX_FOP = 6,
	FX_FIP = 8,
	FX_FCS = 12,
	FX_FDP = 16,
	FX_FDS = 20,
	FX_MXCSR = 24,
	FX_MXCSR_MASK = 28,
	FX_ST = 32,      /* ST0, ST1...: 16 bytes each; MM0, MM1... once TOP is 0 */
	FX_XMM = 160,
	FX_END32 = 288,  /* 32-bit modes store and load no further */
};

enum {
	FSW_EXCEPTIONS = 0x3f,
	FSW_IE = 1 << 0,
	FSW_OE = 1 << 3,
	FSW_UE = 1 << 4,
	FSW_SF = 1 << 6,
	FSW_ES = 1 << 7,
	FSW_TOP_SHIFT = 11,
	FSW_TOP = 7 << 11,
	FSW_B = 1 << 15,
	FCW_INIT = 0x37f,
	FCW_POWER_ON = 0x40,
	FCW_RSVD1 = 0x40,   /* reads as 1 */
	FCW_WRITABLE = 0x1f3f,
	MXCSR_EXCEPTIONS = 0x3f,
	MXCSR_DE = 1 << 1,
	MXCSR_PRE = 0x07,   /* IE, DE, ZE: found before the operation */
	MXCSR_UE = 1 << 4,
	MXCSR_PE = 1 << 5,
	MXCSR_MASKS = 0x1f80,
	MXCSR_UM = 1 << 11,
	MXCSR_MASK_SHIFT = 7,
	MXCSR_FTZ = 1 << 15,
	MXCSR_INIT = 0x1f80,
	MXCSR_WRITABLE = 0xffff,
};

static inline uint8_t *fx_st(struct cpu *cpu, unsigned n)
{
	return cpu->fpu.fxsave + FX_ST + 16 * (n & 7);
}

static inline uint8_t *fx_xmm(struct cpu *cpu, unsigned n)
{
	return cpu->fpu.fxsave + FX_XMM + 16 * (n & 7);
}

/** fpu_set_top - TOP moves while the physical registers keep their contents */
void fpu_set_top(uint8_t *fx, unsigned top);

/* ES and B follow from the exception flags and their masks. */
static inline void fx_update_es(uint8_t *fx)
{
	uint16_t fsw = load_le16(fx + FX_FSW) & ~(FSW_ES | FSW_B);

	if (fsw & ~load_le16(fx + FX_FCW) & FSW_EXCEPTIONS)
		fsw |= FSW_ES | FSW_B;
	store_le16(fx + FX_FSW, fsw);
}

/* Offset of the ModRM memory operand in its segment. */
static inline uint32_t simd_ea(const struct cpu *cpu, const struct insn *in)
{
	uint32_t ea = in->disp;

	if (in->base >= 0)
		ea += cpu->gpr[in->base];
	if (in->index >= 0)
		ea += (uint32_t)cpu->gpr[in->index] << in->scale;
	return in->adsize == 2 ? ea & 0xffff : ea;
}

/* Alignment check for operands wider than seg_read() takes (SDM 3A 6.15, #AC). */
static inline void simd_check_ac(struct cpu *cpu, uint32_t linear, unsigned align)
{
	if (unlikely((cpu->eflags & FLAG_AC) && (cpu->cr0 & CR0_AM) && cpu->cpl == 3 &&
		     (linear & (align - 1))))
		cpu_raise(cpu, EXC_AC, 0);
}

/* Reads @size bytes at @offset; nothing has been changed when it faults. */
static inline void simd_read(struct cpu *cpu, unsigned seg, uint32_t offset, void *buf,
			     unsigned size, unsigned align)
{
	uint32_t linear = seg_linear(cpu, seg, offset, size, false);

	simd_check_ac(cpu, linear, align);
	mmu_read_bytes(cpu, linear, buf, size, mmu_user(cpu));
}

/* All checks of a store; returns the linear address, which can then be written. */
static inline uint32_t simd_probe(struct cpu *cpu, unsigned seg, uint32_t offset,
				  unsigned size, unsigned align)
{
	uint32_t linear = seg_linear(cpu, seg, offset, size, true);

	simd_check_ac(cpu, linear, align);
	mmu_probe_write(cpu, linear, size, mmu_user(cpu));
	return linear;
}

#endif
