/* From 64-bit to 32-bit user mode: IRETQ loads CS, SS, EIP, ESP and EFLAGS at
 * once, with everything else already in place. */
#include "tests/insn/host_leg_priv.h"

	.text
	.globl host_enter
	.hidden host_enter
	.type host_enter, @function
host_enter:
	mov	$HOST_CONTEXT, %r8d
	mov	$HOST_STACK_PAGE + 4096, %esp
	movzwl	HC_SREG(%r8), %ecx
	mov	%ecx, %es
	movzwl	HC_SREG+6(%r8), %ecx
	mov	%ecx, %ds
	movzwl	HC_SREG+8(%r8), %ecx
	mov	%ecx, %fs
	movzwl	HC_SREG+10(%r8), %ecx
	mov	%ecx, %gs
	fxrstor	HC_FX(%r8)
	movzwl	HC_SREG+4(%r8), %ecx
	push	%rcx			/* SS */
	mov	HC_GPR+16(%r8), %eax
	push	%rax			/* ESP */
	mov	HC_EFLAGS(%r8), %eax
	push	%rax
	movzwl	HC_SREG+2(%r8), %eax
	push	%rax			/* CS */
	mov	HC_EIP(%r8), %eax
	push	%rax
	mov	HC_GPR(%r8), %eax
	mov	HC_GPR+4(%r8), %ecx
	mov	HC_GPR+8(%r8), %edx
	mov	HC_GPR+12(%r8), %ebx
	mov	HC_GPR+20(%r8), %ebp
	mov	HC_GPR+24(%r8), %esi
	mov	HC_GPR+28(%r8), %edi
	iretq
	.size host_enter, . - host_enter
	.section .note.GNU-stack, "", @progbits
