# The guest of the golden images: a multiboot kernel that keeps something in every kind of
# place, counts 300 timer interrupts with a dot for each ten, and then looks whether all of
# it is still there. It ends by isa-debug-exit with 42, or with the number of what was lost.
#
#	gcc -m32 -nostdlib -static -Wl,-N,-Ttext=0x100000,--build-id=none -o golden.elf golden.S

	.set DATA, 0x180000        # 64 KiB of pseudo-random words
	.set WORDS, 0x4000
	.set IDT, 0x110000
	.set TICKS, 300

	.text
	.align 4
	.long 0x1badb002, 0, -0x1badb002

	.globl _start
_start:
	cli
	mov $0x170000, %esp

	# memory: xorshift32
	mov $0x12345678, %eax
	mov $DATA, %edi
	mov $WORDS, %ecx
1:	call next
	stosl
	loop 1b

	# x87 and SSE
	fninit
	fldpi
	mov %cr4, %eax
	or $0x600, %eax
	mov %eax, %cr4
	movups pattern, %xmm7

	# CMOS memory
	mov $0x60, %al
	out %al, $0x70
	mov $0xa5, %al
	out %al, $0x71

	# the card: its I/O base from its configuration, an address of its own into PAR
	mov $0x80002810, %eax      # 00:05.0, BAR 0
	mov $0xcf8, %dx
	out %eax, %dx
	mov $0xcfc, %dx
	in %dx, %eax
	and $0xffe0, %eax
	mov %eax, %ebp
	mov %ebp, %edx
	mov $0x61, %al             # CR: page 1, stop
	out %al, %dx
	mov $6, %ecx
	mov $mac, %esi
2:	inc %edx
	lodsb
	out %al, %dx
	loop 2b

	# IDT with one gate: vector 0x20
	mov $tick, %eax
	mov %cs, %bx
	mov %ax, IDT + 0x20 * 8
	mov %bx, IDT + 0x20 * 8 + 2
	movw $0x8e00, IDT + 0x20 * 8 + 4
	shr $16, %eax
	mov %ax, IDT + 0x20 * 8 + 6
	lidt idtr

	# 8259: vectors from 0x20 on, only IRQ 0
	mov $0x11, %al
	out %al, $0x20
	out %al, $0xa0
	mov $0x20, %al
	out %al, $0x21
	mov $0x28, %al
	out %al, $0xa1
	mov $4, %al
	out %al, $0x21
	mov $2, %al
	out %al, $0xa1
	mov $1, %al
	out %al, $0x21
	out %al, $0xa1
	mov $0xfe, %al
	out %al, $0x21
	mov $0xff, %al
	out %al, $0xa1

	# 8254 counter 0: mode 2, 100 Hz
	mov $0x34, %al
	out %al, $0x43
	mov $0x9c, %al
	out %al, $0x40
	mov $0x2e, %al
	out %al, $0x40

	sti
wait:	hlt
	cmpl $TICKS, ticks
	jb wait
	cli

	# Is it all there?
	mov $1, %bl
	mov $0x12345678, %eax
	mov $DATA, %esi
	mov $WORDS, %ecx
3:	call next
	cmp %eax, (%esi)
	jne end
	add $4, %esi
	loop 3b
	mov $2, %bl
	fldpi
	fcomip %st(1), %st
	jne end
	mov $3, %bl
	movups %xmm7, copy
	mov $pattern, %esi
	mov $copy, %edi
	mov $16, %ecx
	repe cmpsb
	jne end
	mov $4, %bl
	mov $0x60, %al
	out %al, $0x70
	in $0x71, %al
	cmp $0xa5, %al
	jne end
	mov $5, %bl
	mov %ebp, %edx
	mov $mac, %esi
	mov $6, %ecx
4:	inc %edx
	in %dx, %al
	cmp (%esi), %al
	jne end
	inc %esi
	loop 4b
	mov $42, %bl
end:	mov %bl, %al
	out %al, $0xf4
	jmp end

next:	mov %eax, %edx
	shl $13, %edx
	xor %edx, %eax
	mov %eax, %edx
	shr $17, %edx
	xor %edx, %eax
	mov %eax, %edx
	shl $5, %edx
	xor %edx, %eax
	ret

tick:	push %eax
	push %edx
	incl ticks
	mov ticks, %eax
	xor %edx, %edx
	push %ecx
	mov $10, %ecx
	div %ecx
	pop %ecx
	test %edx, %edx
	jnz 5f
	mov $'.', %al
	out %al, $0xe9
5:	mov $0x20, %al
	out %al, $0x20
	pop %edx
	pop %eax
	iret

	.data
	.align 16
pattern: .long 0x01234567, 0x89abcdef, 0xfedcba98, 0x76543210
copy:	.space 16
ticks:	.long 0
idtr:	.word 0x21 * 8 - 1
	.long IDT
mac:	.byte 0x52, 0x54, 0x00, 0xc0, 0xff, 0xee
