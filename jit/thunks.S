/* The border between recompiled code and C. See jit_priv.h for who lives in
 * which register. Offsets are asserted in engine.c.
 */
#define CPU_EIP      64
#define CPU_EFLAGS   72
#define CPU_RUN      76
#define CPU_FPU_LIVE 83
#define CPU_FPU_FOREIGN 87
#define AREA         128
#define CPU_FPU      1152

#define C_RSP        (AREA + 0)
#define JIT_RSP      (AREA + 8)
#define TLB_READ     (AREA + 16)
#define SAVED_FLAGS  (AREA + 40)
#define SAVED_R10    (AREA + 48)
#define MASK_JUMP    (AREA + 80)
#define JUMP_KEYS    (AREA + 152)
#define WAS_LIVE     (AREA + 160)
#define MXCSR_HOST   (AREA + 184)
#define CODE_CHANGED (AREA + 188)
#define FILL_RETURN  (AREA + 224)

#define JUMP_CACHE_BYTES (2048 * 8)
#define ARITH 0x8d5

	.intel_syntax noprefix
	.text

	.macro thunk name
	.globl	\name
	.hidden	\name
	.type	\name, @function
	.p2align 4
\name:
	.endm

/* General registers and arithmetic flags into struct cpu. Clobbers rax, rcx. */
	.macro spill
	mov	[r15 + 0], rax
	lahf
	seto	al
	mov	[r15 + 8], r9
	mov	[r15 + 16], rdx
	mov	[r15 + 24], rbx
	mov	[r15 + 32], r8
	mov	[r15 + 40], rbp
	mov	[r15 + 48], rsi
	mov	[r15 + 56], rdi
	movzx	ecx, al
	movzx	eax, ah
	shl	ecx, 11
	or	eax, ecx
	and	eax, ARITH
	mov	ecx, [r15 + CPU_EFLAGS]
	and	ecx, ~ARITH
	or	eax, ecx
	mov	[r15 + CPU_EFLAGS], eax
	.endm

/* And back; the tables may have changed with the privilege level. 32 bits of a
 * register, whatever C left above: they become host addresses. */
	.macro fill
	mov	r12d, 12
	mov	r13, [r15 + TLB_READ]
	mov	r9d, [r15 + 8]
	mov	edx, [r15 + 16]
	mov	ebx, [r15 + 24]
	mov	r8d, [r15 + 32]
	mov	ebp, [r15 + 40]
	mov	esi, [r15 + 48]
	mov	edi, [r15 + 56]
	mov	ecx, [r15 + CPU_EFLAGS]
	mov	eax, ecx
	shr	eax, 11
	and	eax, 1
	mov	ah, cl
	add	al, 127		/* OF: 127 + 1 overflows */
	sahf
	mov	eax, [r15 + 0]
	.endm

/* x87/SSE state of the guest into its image; C gets a clean unit. The 64-bit
 * format, for FIP and FDP are the host's and fault.c shall find out what they
 * mean to the guest, should it ever look. */
	.macro fpu_park
	fxsave64	[r15 + CPU_FPU]
	mov	byte ptr [r15 + CPU_FPU_FOREIGN], 1
	mov	byte ptr [r15 + CPU_FPU_LIVE], 0
	fninit
	ldmxcsr	[r15 + MXCSR_HOST]
	.endm

/* uint64_t jit_enter(struct cpu *cpu, const void *host)
 * Returns the struct jit_link to patch, or 0. */
thunk jit_enter
	push	rbx
	push	rbp
	push	r12
	push	r13
	push	r14
	push	r15
	sub	rsp, 8
	mov	r15, rdi
	mov	r11, rsi
	cmp	dword ptr [r15 + CODE_CHANGED], 0
	je	1f
	/* Code was written through its other mapping: that asks for a serializing
	 * instruction (SDM 3A 9.1.3), and IRET is the cheap one. */
	mov	dword ptr [r15 + CODE_CHANGED], 0
	mov	rcx, rsp
	mov	eax, ss
	push	rax
	push	rcx
	pushfq
	mov	eax, cs
	push	rax
	lea	rax, [rip + 1f]
	push	rax
	iretq
1:	mov	[r15 + C_RSP], rsp
	mov	rsp, [r15 + JIT_RSP]
	fill
	jmp	r11
	.size	jit_enter, . - jit_enter

/* Leave: EIP is stored, the rest is in registers. */
thunk jit_thunk_exit
	mov	r11d, 0		/* not XOR: flags are live */
	/* fall through */
/* Leave and ask for a link: r11 is the struct jit_link. */
	.globl	jit_thunk_exit_link
	.hidden	jit_thunk_exit_link
jit_thunk_exit_link:
	spill
	mov	[r15 + JIT_RSP], rsp
	mov	rsp, [r15 + C_RSP]
	cmp	byte ptr [r15 + CPU_FPU_LIVE], 0
	je	1f
	fpu_park
1:	mov	rax, r11
	add	rsp, 8
	pop	r15
	pop	r14
	pop	r13
	pop	r12
	pop	rbp
	pop	rbx
	ret
	.size	jit_thunk_exit, . - jit_thunk_exit

/* Call FUNCTION(cpu, r10d, r11d), which leaves x87 and SSE alone; its result in
 * rcx. Keeps everything but rcx and r11. C may start the stack of returns anew,
 * so the way back is not kept on it. */
	.macro light_call function
	mov	[r15 + 0], rax
	lahf
	seto	al
	mov	[r15 + SAVED_FLAGS], rax
	mov	[r15 + 8], r9
	mov	[r15 + 16], rdx
	mov	[r15 + 32], r8
	mov	[r15 + 48], rsi
	mov	[r15 + 56], rdi
	mov	[r15 + SAVED_R10], r10
	mov	rdi, r15
	mov	esi, r10d
	mov	edx, r11d
	pop	rcx
	mov	[r15 + FILL_RETURN], rcx
	mov	[r15 + JIT_RSP], rsp	/* C may start the stack anew */
	mov	rsp, [r15 + C_RSP]
	call	\function
	mov	rsp, [r15 + JIT_RSP]
	mov	rcx, rax
	mov	r10, [r15 + SAVED_R10]
	mov	rdi, [r15 + 56]
	mov	rsi, [r15 + 48]
	mov	r8, [r15 + 32]
	mov	rdx, [r15 + 16]
	mov	r9, [r15 + 8]
	mov	rax, [r15 + SAVED_FLAGS]
	add	al, 127
	sahf
	mov	rax, [r15 + 0]
	jmp	[r15 + FILL_RETURN]
	.endm

/* A table entry was 0. r10: linear address, r11d: 1 for writes.
 * Returns rcx = host address - linear address, or 0: do it another way. */
thunk jit_thunk_fill
	light_call jit_fill
	.size	jit_thunk_fill, . - jit_thunk_fill

/* Load segment register r11d with selector r10d. Returns rcx = 0 if that is for
 * the interpreter. */
thunk jit_thunk_segment
	light_call jit_load_segment
	.size	jit_thunk_segment, . - jit_thunk_segment

/* Interpret the instruction at EIP (stored), then go on after the call, or
 * leave if EIP is not the next instruction or somebody wants us out. */
thunk jit_thunk_interp
	spill
	lea	rax, [rsp + 8]
	mov	[r15 + JIT_RSP], rax
	mov	rbx, [rsp]
	movzx	eax, byte ptr [r15 + CPU_FPU_LIVE]
	mov	[r15 + WAS_LIVE], rax
	mov	rsp, [r15 + C_RSP]
	test	eax, eax
	jz	1f
	fpu_park
1:	mov	rdi, r15
	call	jit_interp_one
	test	eax, eax
	jnz	3f
	cmp	dword ptr [r15 + WAS_LIVE], 0
	je	2f
	fxrstor64	[r15 + CPU_FPU]
	mov	byte ptr [r15 + CPU_FPU_LIVE], 1
2:	mov	r11, rbx
	mov	rsp, [r15 + JIT_RSP]
	fill
	jmp	r11
3:	xor	eax, eax
	add	rsp, 8
	pop	r15
	pop	r14
	pop	r13
	pop	r12
	pop	rbp
	pop	rbx
	ret
	.size	jit_thunk_interp, . - jit_thunk_interp

/* The bottom of the return-address stack: a return without a call. */
thunk jit_thunk_return_base
	lea	rsp, [rsp - 8]
	/* fall through */
/* Go to the block at ecx if the jump cache knows it; leave otherwise, and when
 * asked to. Flags are live. */
	.globl	jit_thunk_lookup
	.hidden	jit_thunk_lookup
jit_thunk_lookup:
	mov	r10, rcx
	mov	ecx, [r15 + CPU_RUN]
	jrcxz	1f
	pext	r11d, r10d, [r15 + MASK_JUMP]
	mov	rcx, [r15 + JUMP_KEYS]
	lea	r11, [rcx + r11 * 8]
	mov	rcx, [r11]
	lea	rcx, [rcx + r10]
	jrcxz	2f
1:	mov	[r15 + CPU_EIP], r10
	mov	r11d, 0
	jmp	jit_thunk_exit_link
2:	jmp	[r11 + JUMP_CACHE_BYTES]
	.size	jit_thunk_return_base, . - jit_thunk_return_base

/* Make the x87/SSE state live. Keeps everything. */
thunk jit_thunk_fpu
	fxrstor64	[r15 + CPU_FPU]
	mov	byte ptr [r15 + CPU_FPU_LIVE], 1
	ret
	.size	jit_thunk_fpu, . - jit_thunk_fpu

/* The host refused an instruction: exception ecx at EIP r10. */
thunk jit_thunk_raise
	mov	[r15 + CPU_EIP], r10
	mov	r11d, ecx
	spill
	mov	[r15 + JIT_RSP], rsp
	mov	rsp, [r15 + C_RSP]
	cmp	byte ptr [r15 + CPU_FPU_LIVE], 0
	je	1f
	fpu_park
1:	mov	rdi, r15
	mov	esi, r11d
	call	jit_raise
	ud2
	.size	jit_thunk_raise, . - jit_thunk_raise

	.section .note.GNU-stack, "", @progbits
