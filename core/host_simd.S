/* Routines that execute one SIMD or x87 instruction each on the host.
 *
 * Tables in read-only code, so the interpreter needs no executable memory of
 * its own. A routine is the instruction with fixed operands, then RET, padded
 * to a fixed size so that its address is arithmetic:
 *
 *   reg  register 2: xmm2, mm2 or edx     (or the opcode extension of a group)
 *   r/m  register 1: xmm1, mm1 or ecx; or memory at [rdi]
 *
 * xmm0 and eax stay free for implicit operands (BLENDVPS, PCMPESTRI). Every
 * opcode of a map has its slot, also where it means something else: only what
 * the decode table calls SIMD, and the host has, is ever called. The bytes are
 * spelt out so that the assembler's idea of the target does not matter.
 *
 * Register numbers, opcode maps: Intel SDM volume 2.
 */
#include "core/host_simd.h"

	.text

/* ---- x87: D8-DF, all register forms, then memory forms at [rdi] ---- */
	.globl host_x87_reg
	.hidden host_x87_reg
	.balign 64
host_x87_reg:
	.set op, 0xd8
	.rept 8
	.set modrm, 0xc0
	.rept 64
	.byte op, modrm, 0xc3, 0xcc
	.set modrm, modrm + 1
	.endr
	.set op, op + 1
	.endr

	.globl host_x87_mem
	.hidden host_x87_mem
host_x87_mem:
	.set op, 0xd8
	.rept 8
	.set modrm, 0x07
	.rept 8
	.byte op, modrm, 0xc3, 0xcc
	.set modrm, modrm + 8
	.endr
	.set op, op + 1
	.endr

/* ---- MMX and SSE ---- */
#define PFX_NP 0
#define PFX_66 0x66
#define PFX_F3 0xf3
#define PFX_F2 0xf2
#define MAP_0F 0
#define MAP_38 0x38
#define MAP_3A 0x3a

	.macro simd_head pfx, map, op
	.if \pfx
	.byte \pfx
	.endif
	.byte 0x0f
	.if \map
	.byte \map
	.endif
	.byte \op
	.endm

	/* 256 opcodes, register form and memory form of each, 8 bytes a routine */
	.macro simd_table pfx, map
	.set op, 0
	.rept 256
	simd_head \pfx, \map, op
	.byte 0xd1, 0xc3
	.balign 8, 0xcc
	simd_head \pfx, \map, op
	.byte 0x17, 0xc3
	.balign 8, 0xcc
	.set op, op + 1
	.endr
	.endm

	/* one opcode, 256 immediates of each form */
	.macro simd_imm_table pfx, map, op, reg
	.set imm, 0
	.rept 256
	simd_head \pfx, \map, \op
	.byte 0xc1 + 8 * \reg, imm, 0xc3
	.balign 8, 0xcc
	.set imm, imm + 1
	.endr
	.set imm, 0
	.rept 256
	simd_head \pfx, \map, \op
	.byte 0x07 + 8 * \reg, imm, 0xc3
	.balign 8, 0xcc
	.set imm, imm + 1
	.endr
	.endm

	.globl host_simd_0f
	.hidden host_simd_0f
	.balign 64
host_simd_0f:
	simd_table PFX_NP, MAP_0F
	simd_table PFX_66, MAP_0F
	simd_table PFX_F3, MAP_0F
	simd_table PFX_F2, MAP_0F

	.globl host_simd_0f38
	.hidden host_simd_0f38
host_simd_0f38:
	simd_table PFX_NP, MAP_38
	simd_table PFX_66, MAP_38
	simd_table PFX_F3, MAP_38
	simd_table PFX_F2, MAP_38

	.globl host_simd_imm
	.hidden host_simd_imm
host_simd_imm:
#define SIMD_IMM(pfx, map, op, reg) simd_imm_table PFX_##pfx, MAP_##map, 0x##op, reg
#include "core/host_simd_imm.h"
#undef SIMD_IMM

/* ---- calling them: struct host_simd *rdi, routine rsi ---- */

	/* void host_simd_run(struct host_simd *ctx, const uint8_t *routine) */
	.globl host_simd_run
	.hidden host_simd_run
	.type host_simd_run, @function
host_simd_run:
	push	%rbx
	sub	$16, %rsp
	mov	%rdi, %rbx
	stmxcsr	(%rsp)
	ldmxcsr	HOST_SIMD_MXCSR(%rbx)
	movaps	HOST_SIMD_XMM(%rbx), %xmm0
	movaps	HOST_SIMD_XMM+16(%rbx), %xmm1
	movaps	HOST_SIMD_XMM+32(%rbx), %xmm2
	mov	HOST_SIMD_EAX(%rbx), %eax
	mov	HOST_SIMD_ECX(%rbx), %ecx
	mov	HOST_SIMD_EDX(%rbx), %edx
	lea	HOST_SIMD_MEM(%rbx), %rdi
	call	*%rsi
	movaps	%xmm0, HOST_SIMD_XMM(%rbx)
	movaps	%xmm1, HOST_SIMD_XMM+16(%rbx)
	movaps	%xmm2, HOST_SIMD_XMM+32(%rbx)
	mov	%eax, HOST_SIMD_EAX(%rbx)
	mov	%ecx, HOST_SIMD_ECX(%rbx)
	mov	%edx, HOST_SIMD_EDX(%rbx)
	lahf
	seto	%al
	mov	%ax, HOST_SIMD_FLAGS(%rbx)
	stmxcsr	HOST_SIMD_MXCSR(%rbx)
	ldmxcsr	(%rsp)
	add	$16, %rsp
	pop	%rbx
	ret
	.size host_simd_run, . - host_simd_run

	/* The same with mm1 and mm2. MMX registers lie over the x87 stack, which
	 * is empty in C code: EMMS leaves it so. */
	.globl host_mmx_run
	.hidden host_mmx_run
	.type host_mmx_run, @function
host_mmx_run:
	push	%rbx
	sub	$16, %rsp
	mov	%rdi, %rbx
	movq	HOST_SIMD_MM+8(%rdi), %mm1
	movq	HOST_SIMD_MM+16(%rdi), %mm2
	call	host_simd_run
	movq	%mm1, HOST_SIMD_MM+8(%rbx)
	movq	%mm2, HOST_SIMD_MM+16(%rbx)
	emms
	add	$16, %rsp
	pop	%rbx
	ret
	.size host_mmx_run, . - host_mmx_run

	/* void host_x87_run(struct host_simd *ctx, const uint8_t *routine, uint8_t *fxsave)
	 * The guest's image goes in, its new one comes out. FXSAVE and FNINIT do not
	 * wait, so an exception that the guest has unmasked is seen in the status
	 * word and never as a signal. */
	.globl host_x87_run
	.hidden host_x87_run
	.type host_x87_run, @function
host_x87_run:
	push	%rbx
	push	%r12
	sub	$8, %rsp
	mov	%rdi, %rbx
	mov	%rdx, %r12
	stmxcsr	(%rsp)
	fnstcw	4(%rsp)
	fxrstor	(%r12)
	movzwl	HOST_SIMD_FLAGS(%rbx), %eax
	add	$0x7f, %al	/* al 1: sets OF */
	sahf
	lea	HOST_SIMD_MEM(%rbx), %rdi
	call	*%rsi
	lahf
	seto	%al
	mov	%ax, HOST_SIMD_FLAGS(%rbx)
	fxsave	(%r12)
	fninit
	fldcw	4(%rsp)
	ldmxcsr	(%rsp)
	add	$8, %rsp
	pop	%r12
	pop	%rbx
	ret
	.size host_x87_run, . - host_x87_run

	.section .note.GNU-stack, "", @progbits
