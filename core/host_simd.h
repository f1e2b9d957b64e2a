/* The host's SIMD and x87 units as callable routines: see host_simd.S. */
#ifndef GANNET_CORE_HOST_SIMD_H
#define GANNET_CORE_HOST_SIMD_H

/* Offsets in struct host_simd, for the assembler. */
#define HOST_SIMD_XMM 0
#define HOST_SIMD_MM 48
#define HOST_SIMD_EAX 72
#define HOST_SIMD_ECX 76
#define HOST_SIMD_EDX 80
#define HOST_SIMD_MXCSR 84
#define HOST_SIMD_FLAGS 88
#define HOST_SIMD_MEM 96

#ifndef __ASSEMBLER__
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

/* Operands of one routine, in and out. */
struct host_simd {
	alignas(16) uint8_t xmm[3][16]; /* 0: implicit, 1: r/m, 2: reg */
	uint8_t mm[3][8];               /* 1: r/m, 2: reg */
	uint32_t eax;                   /* implicit */
	uint32_t ecx;                   /* r/m; implicit result */
	uint32_t edx;                   /* reg; implicit */
	uint32_t mxcsr;
	uint16_t flags;                 /* OF in bit 0; SF ZF AF PF CF in bits 8-15 as LAHF has them */
	alignas(16) uint8_t mem[16];    /* r/m */
};

_Static_assert(offsetof(struct host_simd, xmm) == HOST_SIMD_XMM, "layout");
_Static_assert(offsetof(struct host_simd, mm) == HOST_SIMD_MM, "layout");
_Static_assert(offsetof(struct host_simd, eax) == HOST_SIMD_EAX, "layout");
_Static_assert(offsetof(struct host_simd, ecx) == HOST_SIMD_ECX, "layout");
_Static_assert(offsetof(struct host_simd, edx) == HOST_SIMD_EDX, "layout");
_Static_assert(offsetof(struct host_simd, mxcsr) == HOST_SIMD_MXCSR, "layout");
_Static_assert(offsetof(struct host_simd, flags) == HOST_SIMD_FLAGS, "layout");
_Static_assert(offsetof(struct host_simd, mem) == HOST_SIMD_MEM, "layout");

/* [opcode - 0xd8][modrm - 0xc0] and [opcode - 0xd8][reg] */
extern const uint8_t host_x87_reg[8][64][4];
extern const uint8_t host_x87_mem[8][8][4];
/* [prefix: none, 66, F3, F2][opcode][0: register form, 1: memory form] */
extern const uint8_t host_simd_0f[4][256][2][8];
extern const uint8_t host_simd_0f38[4][256][2][8];
/* [line of host_simd_imm.h][0: register form, 1: memory form][immediate] */
extern const uint8_t host_simd_imm[][2][256][8];

/** host_simd_run - load xmm0-2, eax, ecx, edx and MXCSR, call, store them and the flags */
void host_simd_run(struct host_simd *ctx, const uint8_t *routine);
/** host_mmx_run - the same with mm1 and mm2; the x87 stack must be empty and is left so */
void host_mmx_run(struct host_simd *ctx, const uint8_t *routine);
/** host_x87_run - under the guest's whole x87 state; @fxsave 16-byte aligned, nothing pending */
void host_x87_run(struct host_simd *ctx, const uint8_t *routine, uint8_t *fxsave);
#endif

#endif
