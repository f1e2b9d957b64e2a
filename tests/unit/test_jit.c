/* The recompiler against what the architecture promises: links, returns, code
 * that changes or moves, precise faults, interrupts. Every test runs under the
 * interpreter too, with the same expectations.
 */
#include "tests/unit/jit_world.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#define END "out %eax, $0xf4\n"

/* ---- loops, links, returns ---- */

GUEST(sum_loop,
	"xorl %eax, %eax; movl $1000000, %ecx\n"
	"1: addl %ecx, %eax; decl %ecx; jnz 1b\n" END);

START_TEST(loop_links_to_itself)
{
	struct world *w = world_create(_i);

	ck_assert_int_eq(RUN(w, sum_loop), NORMAL);
	ck_reg(w, EAX, 500000500000ull);
	ck_assert_uint_eq(w->cpu->eflags & FLAGS_ARITH, FLAG_ZF | FLAG_PF);
	if (w->jit) {
		ck_assert_uint_ge(w->jit->stat_links, 1);
		ck_assert_uint_lt(w->jit->stat_entries, 10000);
	}
	world_destroy(w);
}
END_TEST

GUEST(cross_page_loop,
	"xorl %eax, %eax; movl $100000, %ecx\n"
	"1: addl $1, %eax; jmp 2f\n .skip 0x1000, 0x90\n"
	"2: addl $2, %eax; testb $1, %al; jz 3f\n"
	"call 4f; decl %ecx; jnz 1b\n"
	"3: " END
	".skip 0x1000, 0x90\n"
	"4: addl $1, %eax; ret\n");

START_TEST(loop_over_three_pages)
{
	struct world *w = world_create(_i);

	ck_assert_int_eq(RUN(w, cross_page_loop), NORMAL);
	ck_reg(w, EAX, 400000);
	ck_reg(w, ECX, 0);
	world_destroy(w);
}
END_TEST

GUEST(cross_page_calls,
	"xorl %eax, %eax; movl $100000, %ecx\n"
	"1: call 2f; decl %ecx; jnz 1b\n" END
	".skip 0x1000, 0x90\n"
	"2: addl $3, %eax; jc 3f; call 3f; ret\n"
	".skip 0x1000, 0x90\n"
	"3: addl $4, %eax; ret\n");

START_TEST(calls_over_pages)
{
	struct world *w = world_create(_i);

	ck_assert_int_eq(RUN(w, cross_page_calls), NORMAL);
	ck_reg(w, EAX, 700000);
	ck_reg(w, ESP, STACK);
	if (w->jit)
		ck_assert_uint_lt(w->jit->stat_entries, 10000);
	world_destroy(w);
}
END_TEST

GUEST(recursion,
	"movl $0x700000, %esp; movl $150000, %ecx; xorl %eax, %eax; call 1f\n" END
	"1: incl %eax; decl %ecx; jz 2f; pushl %eax; call 1b; popl %edx; addl %edx, %ebx\n"
	"2: ret\n");

START_TEST(recursion_deeper_than_the_stack_of_returns)
{
	struct world *w = world_create(_i);

	for (int again = 0; again < 3; again++) {
		ck_assert_int_eq(RUN(w, recursion), NORMAL);
		ck_reg(w, EAX, 150000);
		ck_reg(w, EBX, 149999ull * 150000 / 2);
		ck_reg(w, ESP, 0x700000);
	}
	world_destroy(w);
}
END_TEST

GUEST(mismatched_returns,
	"xorl %eax, %eax; movl $1000, %ecx\n"
	"1: call 2f\n"                            /* returns elsewhere */
	"movl $-1, %eax; jmp 9f\n"
	"2: addl $4, %esp; at_mismatched_returns 3f, %edx; pushl %edx; incl %eax; ret\n"
	"3: call 4f; jmp 9f\n"                    /* never returns: jumps out of it */
	"4: popl %edx; incl %eax; call 5f\n"      /* PC-relative addressing */
	"5: popl %ebx; pushl %eax; pushl %eax; call 6f; incl %eax\n"
	"decl %ecx; jnz 1b; jmp 9f\n"
	"6: ret $8\n"
	"9: " END);

START_TEST(calls_and_returns_that_do_not_match)
{
	struct world *w = world_create(_i);

	ck_assert_int_eq(RUN(w, mismatched_returns), NORMAL);
	ck_reg(w, EAX, 3000);
	ck_reg(w, ECX, 0);
	ck_reg(w, ESP, STACK);
	world_destroy(w);
}
END_TEST

GUEST(coroutines,
	"movl $0x48000, %edi; movl $20000, %ecx; xorl %eax, %eax; xorl %ebx, %ebx\n"
	"at_coroutines 5f, %edx; movl %edx, -4(%edi); subl $4, %edi\n"
	"1: incl %eax; call 8f; call 2f; decl %ecx; jnz 1b\n" END
	"2: call 8f; ret\n"
	"5: addl $2, %ebx; call 6f; jmp 5b\n"
	"6: call 7f; ret\n"
	"7: call 8f; call 8f; ret\n"
	"8: xchgl %esp, %edi; ret\n");

START_TEST(stacks_are_switched)
{
	struct world *w = world_create(_i);

	ck_assert_int_eq(RUN(w, coroutines), NORMAL);
	ck_reg(w, EAX, 20000);
	ck_reg(w, EBX, 40000);
	world_destroy(w);
}
END_TEST

/* 512 functions whose addresses share one slot of the jump cache. */
GUEST(indirect_calls,
	"movl $20, %ecx; xorl %eax, %eax\n"
	"1: xorl %esi, %esi\n"
	"2: movl %esi, %edx; shll $11, %edx; addl $0x200000, %edx; call *%edx\n"
	"movl %edx, 0x50000; call *0x50000; at_indirect_calls 3f, %ebx; jmp *%ebx; hlt\n"
	"3: incl %esi; cmpl $512, %esi; jb 2b; decl %ecx; jnz 1b\n" END);

static void write_functions(struct world *w, uint8_t plus)
{
	for (unsigned i = 0; i < 512; i++) {
		const uint8_t code[] = { 0x05, (uint8_t)i, (uint8_t)(i >> 8), plus, 0, 0xc3 };

		memory_write_bytes(w->m->memory, 0x200000 + i * 2048, code, sizeof(code));
	}
}

START_TEST(jump_cache_with_one_slot)
{
	struct world *w = world_create(_i);
	uint32_t sum = 511 * 512 / 2;

	for (uint8_t plus = 0; plus < 3; plus++) {
		write_functions(w, plus);
		ck_assert_int_eq(RUN(w, indirect_calls), NORMAL);
		ck_reg(w, EAX, 40 * (sum + 512u * 0x10000 * plus));
	}
	world_destroy(w);
}
END_TEST

/* ---- the same address, other code behind it ---- */

/* A subroutine at WINDOW, reached in several ways, digits gathered in ESI. The
 * test moves the page between rounds. */
#define ROUNDS(name, get_there) \
	GUEST(name, \
		"movl $6, %edi; xorl %esi, %esi; xorl %edx, %edx\n" \
		"1: movl $5, %ecx\n" \
		"2: " get_there \
		"decl %ecx; jnz 2b\n" \
		"shll $4, %esi; orl %ebx, %esi; out %eax, $0xf8\n" \
		"movl %cr3, %eax; testl $1, %edi; jz 3f; movl %eax, %cr3; jmp 4f\n" \
		"3: invlpg 0xc00000\n" \
		"4: decl %edi; jnz 1b\n" END)
ROUNDS(remap_call, "call remap_call + (0xc00000 - 0x10000)\n");
ROUNDS(remap_indirect, "movl $0xc00000, %eax; call *%eax\n");
ROUNDS(remap_jmp, "at_remap_jmp 5f, %eax; pushl %eax; jmp remap_jmp + (0xc00000 - 0x10000)\n5: ");
ROUNDS(remap_jcc, "at_remap_jcc 5f, %eax; pushl %eax; cmpl %eax, %eax;"
		  "je remap_jcc + (0xc00000 - 0x10000)\n5: ");

static void flip_window(struct world *w, uint32_t value)
{
	(void)value;
	map(w, WINDOW, (w->calls & 1 ? FRAME_B : FRAME_A) | 7);
}

START_TEST(links_follow_the_mapping)
{
	static const uint8_t one[] = { 0xbb, 1, 0, 0, 0, 0xc3 }, two[] = { 0xbb, 2, 0, 0, 0, 0xc3 };
	static const uint8_t *const code[][2] = {
		{ remap_call, remap_call_end }, { remap_indirect, remap_indirect_end },
		{ remap_jmp, remap_jmp_end }, { remap_jcc, remap_jcc_end },
	};
	struct world *w = world_create(_i);

	w->call = flip_window;
	memcpy(w->ram + FRAME_A, one, sizeof(one));
	memcpy(w->ram + FRAME_B, two, sizeof(two));
	for (unsigned i = 0; i < ARRAY_SIZE(code); i++) {
		paging_on(w);
		w->calls = 0;
		flip_window(w, 0);
		ck_assert_int_eq(run_at(w, CODE, code[i][0], code[i][1]), NORMAL);
		ck_reg(w, ESI, 0x121212);
	}
	world_destroy(w);
}
END_TEST

GUEST(two_spaces,
	"movl $2000, %ecx; xorl %esi, %esi; xorl %edi, %edi\n"
	"1: movl $0x60000, %eax; movl %eax, %cr3; call two_spaces + (0xc00000 - 0x10000)\n"
	"addl %ebx, %esi\n"
	"movl $0x70000, %eax; movl %eax, %cr3; call two_spaces + (0xc00000 - 0x10000)\n"
	"addl %ebx, %edi; decl %ecx; jnz 1b\n" END);

START_TEST(address_spaces_have_their_own_code)
{
	static const uint8_t one[] = { 0xbb, 1, 0, 0, 0, 0xc3 }, two[] = { 0xbb, 2, 0, 0, 0, 0xc3 };
	struct world *w = world_create(_i);

	memcpy(w->ram + FRAME_A, one, sizeof(one));
	memcpy(w->ram + FRAME_B, two, sizeof(two));
	paging_on(w);
	map_in(w, PAGE_TABLES, WINDOW, FRAME_A | 7);
	map_in(w, PAGE_TABLES2, WINDOW, FRAME_B | 7);
	ck_assert_int_eq(RUN(w, two_spaces), NORMAL);
	ck_reg(w, ESI, 2000);
	ck_reg(w, EDI, 4000);
	world_destroy(w);
}
END_TEST

/* The last byte of the window's page is a prefix; what it belongs to is in the
 * next page, which moves: MOV BX, 1234h (RET behind it) or NOP, INC EBX twice. */
GUEST(tail_moves,
	"movl $8, %edi; xorl %esi, %esi\n"
	"1: movl $4, %ecx\n"
	"2: xorl %ebx, %ebx; call tail_moves + (0xc00fff - 0x10000); decl %ecx; jnz 2b\n"
	"shll $4, %esi; andl $15, %ebx; orl %ebx, %esi; out %eax, $0xf8; invlpg 0xc01000\n"
	"decl %edi; jnz 1b\n" END);

static void flip_tail(struct world *w, uint32_t value)
{
	(void)value;
	map(w, WINDOW + 4096, (w->calls & 1 ? FRAME_B : FRAME_A) | 7);
}

START_TEST(tail_of_an_instruction_moves)
{
	static const uint8_t move[] = { 0xbb, 0x34, 0x12, 0xc3 }, inc[] = { 0x90, 0x43, 0x43, 0xc3 };
	struct world *w = world_create(_i);

	w->call = flip_tail;
	paging_on(w);
	map(w, WINDOW, 0x102000 | 7);
	w->ram[0x102fff] = 0x66;
	memcpy(w->ram + FRAME_A, move, sizeof(move));
	memcpy(w->ram + FRAME_B, inc, sizeof(inc));
	flip_tail(w, 0);
	ck_assert_int_eq(RUN(w, tail_moves), NORMAL);
	ck_reg(w, ESI, 0x42424242);
	world_destroy(w);
}
END_TEST

/* A page is mapped away without a word, but a write to it faulted before: SDM
 * 4.10.4.1 has the processor forget it. */
GUEST(fault_forgets,
	"xorl %esi, %esi; call 1f; movl %ebx, 0xc00100; call 1f\n" END
	"1: movl $4, %ecx\n"
	"2: movl $0xc00000, %eax; call *%eax; decl %ecx; jnz 2b; shll $4, %esi; orl %ebx, %esi; ret\n"
	".skip 0x400 - (. - fault_forgets), 0x90\n"
	"out %eax, $0xf8; addl $4, %esp; iretl\n");

START_TEST(page_fault_forgets_code)
{
	static const uint8_t one[] = { 0xbb, 1, 0, 0, 0, 0xc3 }, two[] = { 0xbb, 2, 0, 0, 0, 0xc3 };
	struct world *w = world_create(_i);

	w->call = flip_window;
	memcpy(w->ram + FRAME_A, one, sizeof(one));
	memcpy(w->ram + FRAME_B, two, sizeof(two));
	paging_on(w);
	map(w, WINDOW, FRAME_A | 5); /* not writable */
	gate(w, EXC_PF, CODE + 0x400);
	ck_assert_int_eq(RUN(w, fault_forgets), NORMAL);
	ck_reg(w, ESI, 0x12);
	ck_assert_uint_eq(w->calls, 1);
	world_destroy(w);
}
END_TEST

/* More pages than the list of translations holds, touched in one loop; then the
 * loop's own page moves while a call from there is under way. */
GUEST(list_full,
	"call list_full + (0xc00000 - 0x10000)\n" END
	".skip 0x400 - (. - list_full), 0x90\n"
	"out %eax, $0xf8; invlpg 0xc00000; ret\n");
GUEST(list_window,
	"movl $0x40000000, %esi\n"
	"1: movl (%esi), %eax; addl $4096, %esi; cmpl $0x52000000, %esi; jb 1b\n"
	"call list_window + (0x10400 - 0xc00000)\n"
	"movl $1, %ebx; ret\n");

START_TEST(list_of_translations_is_full)
{
	enum { TABLES = 0x400000, PAGES = 0x12000 };
	size_t size = (size_t)(list_window_end - list_window);
	struct world *w = world_create(_i);

	w->call = flip_window;
	memcpy(w->ram + FRAME_A, list_window, size);
	memcpy(w->ram + FRAME_B, list_window, size);
	w->ram[FRAME_B + size - 5] = 2; /* MOV EBX, 2; RET */
	paging_on(w);
	for (unsigned i = 0; i < PAGES; i++)
		put32(w, TABLES + 4 * i, FRAME_A | 7);
	for (unsigned i = 0; i < PAGES / 1024; i++)
		put32(w, PAGE_DIR + 4 * (256 + i), (TABLES + 4096 * i) | 7);
	map(w, WINDOW, FRAME_A | 7);
	ck_assert_int_eq(RUN(w, list_full), NORMAL);
	ck_assert_uint_eq(w->calls, 1);
	ck_reg(w, EBX, 2);
	world_destroy(w);
}
END_TEST

static void move_memory(struct world *w, uint32_t value)
{
	memory_add_ram(w->m->memory, FRAME_A, 4096, FRAME_B, MEMORY_RAM, 1, "over it");
	(void)value;
}

/* The code is at FRAME_A; OUT lays FRAME_B over it, which says INC EBX there. */
START_TEST(memory_map_changes_under_the_running_block)
{
	static const uint8_t a[] = { 0xe7, PORT_CALL, 0x4b, 0x4b, 0xe7, PORT_END };
	static const uint8_t b[] = { 0x90, 0x90, 0x43, 0x43, 0xe7, PORT_END };
	struct world *w = world_create(_i);

	w->call = move_memory;
	memcpy(w->ram + FRAME_B, b, sizeof(b));
	ck_assert_int_eq(run_at(w, FRAME_A, a, a + sizeof(a)), NORMAL);
	ck_reg(w, EBX, 2);
	world_destroy(w);
}
END_TEST

/* ---- code that is written ---- */

GUEST(patch_next,
	"movl $1000, %ecx; xorl %eax, %eax; xorl %ebx, %ebx; at_patch_next 2f, %edx\n"
	"1: xorb $8, (%edx)\n" /* INC EAX, DEC EAX, ... */
	"2: incl %eax; leal 1(%ebx), %ebx; decl %ecx; jnz 1b\n"
	"movb $0x48, 3f - patch_next + 0x10000; 3: incl %eax; subl $7, 4f + 2 - patch_next + 0x10000\n"
	"4: addl $100, %ebp\n" END);

START_TEST(next_instruction_is_patched)
{
	struct world *w = world_create(_i);

	ck_assert_int_eq(RUN(w, patch_next), NORMAL);
	ck_reg(w, EAX, -1);
	ck_reg(w, EBX, 1000);
	ck_reg(w, EBP, 93);
	world_destroy(w);
}
END_TEST

GUEST(patch_other,
	"movl $3000, %ecx; xorl %eax, %eax; at_patch_other 5f, %edx\n"
	"1: movl %ecx, 1(%edx); call 5f; addl %ebx, %eax; decl %ecx; jnz 1b\n" END
	".balign 64\n"
	"5: movl $0, %ebx; ret\n");

START_TEST(other_block_is_patched)
{
	struct world *w = world_create(_i);

	ck_assert_int_eq(RUN(w, patch_other), NORMAL);
	ck_reg(w, EAX, 3000 * 3001 / 2);
	if (w->jit)
		ck_assert_uint_ge(w->jit->stat_invalidated, 2900);
	world_destroy(w);
}
END_TEST

GUEST(patch_caller,
	"movl $1000, %ecx; xorl %eax, %eax; xorl %ebx, %ebx\n"
	"1: call 5f\n"
	"2: addl $1, %eax; decl %ecx; jnz 1b\n" END
	/* changes what it returns to */
	"5: movb %cl, 2b + 2 - patch_caller + 0x10000; andb $0x7f, 2b + 2 - patch_caller + 0x10000\n"
	"movl %ecx, %edx; andl $0x7f, %edx; addl %edx, %ebx; ret\n");

START_TEST(return_lands_in_patched_code)
{
	struct world *w = world_create(_i);

	ck_assert_int_eq(RUN(w, patch_caller), NORMAL);
	ck_assert_uint_eq(reg(w, EAX), reg(w, EBX));
	world_destroy(w);
}
END_TEST

/* MOV EBX, imm32 over the end of the page at 0x30000, patched on either side. */
GUEST(patch_tail,
	"movl $200, %ecx; xorl %eax, %eax\n"
	"1: movb %cl, 0x31000; call patch_tail + (0x30ffd - 0x10000); addl %ebx, %eax\n"
	"movb %cl, 0x30ffe; call patch_tail + (0x30ffd - 0x10000); addl %ebx, %eax\n"
	"movb $0, 0x30ffe; decl %ecx; jnz 1b\n" END);

START_TEST(instruction_over_a_page_boundary_is_patched)
{
	static const uint8_t code[] = { 0xbb, 0, 0, 0, 0, 0xc3 };
	struct world *w = world_create(_i);

	memcpy(w->ram + 0x30ffd, code, sizeof(code));
	ck_assert_int_eq(RUN(w, patch_tail), NORMAL);
	ck_reg(w, EAX, 200 * 201 / 2 * 0x20001u);
	world_destroy(w);
}
END_TEST

GUEST(patch_alias,
	"movl $500, %ecx; xorl %eax, %eax\n"
	"1: movl %ecx, 0xc01001; call patch_alias + (0xc00000 - 0x10000); addl %ebx, %eax\n"
	"leal 7(%ecx), %edx; movl %edx, 0x100001; call patch_alias + (0xc01000 - 0x10000)\n"
	"addl %ebx, %eax; decl %ecx; jnz 1b\n" END);

START_TEST(code_is_patched_through_an_alias)
{
	static const uint8_t code[] = { 0xbb, 0, 0, 0, 0, 0xc3 };
	struct world *w = world_create(_i);

	memcpy(w->ram + FRAME_A, code, sizeof(code));
	paging_on(w);
	map(w, WINDOW, FRAME_A | 7);
	map(w, WINDOW + 4096, FRAME_A | 7);
	ck_assert_int_eq(RUN(w, patch_alias), NORMAL);
	ck_reg(w, EAX, 500 * 501 + 7 * 500);
	world_destroy(w);
}
END_TEST

GUEST(dma_patch,
	"movl $300, %ecx; xorl %esi, %esi\n"
	"1: movl %ecx, %eax; out %eax, $0xf8\n"
	"2: movl $0, %ebx; addl %ebx, %esi; call 5f; addl %ebx, %esi; decl %ecx; jnz 1b\n" END
	".skip 0x80 - (. - dma_patch), 0x90\n"
	"5: movl $0, %ebx; ret\n");

static void dma(struct world *w, uint32_t value)
{
	uint8_t bytes[5] = { 0xbb, (uint8_t)value, (uint8_t)(value >> 8) };

	memory_write_bytes(w->m->memory, CODE + 11, bytes, 5);
	memory_write(w->m->memory, CODE + 0x81, value, 4);
}

START_TEST(code_is_patched_by_dma)
{
	struct world *w = world_create(_i);

	w->call = dma;
	ck_assert_uint_eq(dma_patch[11], 0xbb);
	ck_assert_uint_eq(dma_patch[0x80], 0xbb);
	ck_assert_int_eq(RUN(w, dma_patch), NORMAL);
	ck_reg(w, ESI, 300 * 301);
	world_destroy(w);
}
END_TEST

GUEST(copied_code,
	"movl $100, %ebp; xorl %eax, %eax\n"
	"1: at_copied_code 5f, %esi; movl $0x30000, %edi; movl $6, %ecx; rep movsb\n"
	"call copied_code + (0x30000 - 0x10000)\n"
	"at_copied_code 6f, %esi; movl $0x30000, %edi; movl $2, %ecx; rep movsl\n"
	"call copied_code + (0x30000 - 0x10000)\n"
	"movl $0x30000, %edi; movb $0xc3, %al; movb %al, (%edi); call copied_code + (0x30000 - 0x10000)\n"
	"pushl %eax; movl $0x909090c3, %eax; stosl; popl %eax; call copied_code + (0x30000 - 0x10000)\n"
	"decl %ebp; jnz 1b\n" END
	"5: addl $1, %ebx; nop; nop; ret\n"
	"6: addl $0x10000, %ebx; nop; ret\n");

START_TEST(code_is_copied_over_code)
{
	struct world *w = world_create(_i);

	ck_assert_int_eq(RUN(w, copied_code), NORMAL);
	ck_reg(w, EBX, 100 * 0x10001);
	world_destroy(w);
}
END_TEST

/* Code in the page of the stack, written by way of ESP. */
GUEST(code_on_stack,
	"movl $0x3f180, %esp; movl $1000, %ecx; xorl %esi, %esi; movl $0x3f100, %edx\n"
	"movb $0xbb, (%edx); movb $0xc3, 5(%edx)\n"
	"1: movl %ecx, -0x7f(%esp); pushl %eax; popl %eax; call *%edx; addl %ebx, %esi\n"
	"2: pushl %ecx; popl %eax; decl %eax; testb $7, %al; jz 3f; pushl %esi; popl %esi; jmp 4f\n"
	"3: movl %eax, -0x7f(%esp); call *%edx; subl %eax, %ebx; addl %ebx, %edi\n"
	"4: pushl %eax; popl %ecx; cmpl $0, %ecx; jne 1b\n" END);

START_TEST(code_lies_on_the_stack)
{
	struct world *w = world_create(_i);

	ck_assert_int_eq(RUN(w, code_on_stack), NORMAL);
	ck_reg(w, ESI, 1000 * 1001 / 2);
	ck_reg(w, EDI, 0);
	ck_reg(w, ESP, 0x3f180);
	world_destroy(w);
}
END_TEST

/* Many functions through a cache that holds a few. */
GUEST(many_functions,
	"movl $3, %ecx; xorl %eax, %eax\n"
	"1: movl $0x200000, %esi\n"
	"2: call *%esi; addl $1024, %esi; cmpl $0x280000, %esi; jb 2b; decl %ecx; jnz 1b\n" END);

START_TEST(full_code_cache)
{
	struct world *w = world_create(_i);

	for (unsigned i = 0; i < 512; i++) {
		uint8_t *p = w->ram + 0x200000 + i * 1024;

		for (unsigned k = 0; k < 150; k++, p += 5) {
			p[0] = 0x05; /* add eax, imm32 */
			store_le32(p + 1, i + k);
		}
		*p = 0xc3;
	}
	if (w->jit) {
		w->jit->hot_limit = w->jit->hot + 3 * JIT_BLOCK_BYTES;
		w->jit->cold_limit = w->jit->cold + 2 * JIT_BLOCK_BYTES;
	}
	ck_assert_int_eq(RUN(w, many_functions), NORMAL);
	ck_reg(w, EAX, 3u * (150u * (511 * 512 / 2) + 512u * (149 * 150 / 2)));
	if (w->jit)
		ck_assert_uint_gt(w->jit->stat_flushes, 5);
	world_destroy(w);
}
END_TEST

/* ---- faults ---- */

struct fault {
	const uint8_t *code, *end;
	int vector;
	unsigned eip;   /* offset of the instruction that faults */
	uint32_t cr2;
	bool has_error;
	uint32_t error;
};

/* Registers as they must be at the fault: those at the start, but for what the
 * instructions in front of it did, which is always INC EAX, CMP EAX, 5. */
#define FAULT(name, insn) GUEST(name, "incl %eax; cmpl $5, %eax\n" insn "\nincl %eax\n" END)
FAULT(f_load, "movl 0xc00ffc(,%eax,4), %ebx");
FAULT(f_store, "movl %ebx, 0xc00ffc(,%eax,4)");
FAULT(f_rmw, "addl %ebx, 0xc00ffc(,%eax,4)");
FAULT(f_cross_load, "movl 0xc00ffd, %ebx");
FAULT(f_cross_store, "movl %ebx, 0xc00ffe");
FAULT(f_movs, "movsl");
FAULT(f_call, "call *0xc01000");
FAULT(f_jmp, "jmp f_jmp + (0xc01000 - 0x10000)");
FAULT(f_div, "divl %edx");
FAULT(f_div_mem, "divl 0x50000");
FAULT(f_idiv, "idivb %dh");
FAULT(f_movaps, "movaps 0x50004, %xmm0");
FAULT(f_movaps_store, "movaps %xmm0, 0x50008(%edx)");
FAULT(f_paddd, "paddd 0x50001, %xmm0");
FAULT(f_ud, "ud2");
FAULT(f_int3, "int3");
FAULT(f_fld, "fldl 0xc00ffa");
FAULT(f_cmpxchg8b, "cmpxchg8b 0xc00ffc");

static const struct fault faults[] = {
	{ f_load, f_load_end, EXC_PF, 4, 0xc01000, true, 0 },
	{ f_store, f_store_end, EXC_PF, 4, 0xc01000, true, PF_W },
	{ f_rmw, f_rmw_end, EXC_PF, 4, 0xc01000, true, PF_W },
	{ f_cross_load, f_cross_load_end, EXC_PF, 4, 0xc01000, true, 0 },
	{ f_cross_store, f_cross_store_end, EXC_PF, 4, 0xc01000, true, PF_W },
	{ f_movs, f_movs_end, EXC_PF, 4, 0xc01000, true, 0 },
	{ f_call, f_call_end, EXC_PF, 4, 0xc01000, true, 0 },
	{ f_jmp, f_jmp_end, EXC_PF, WINDOW + 0x1000 - CODE, 0xc01000, true, 0 },
	{ f_div, f_div_end, EXC_DE, 4, 0, false, 0 },
	{ f_div_mem, f_div_mem_end, EXC_DE, 4, 0, false, 0 },
	{ f_idiv, f_idiv_end, EXC_DE, 4, 0, false, 0 },
	{ f_movaps, f_movaps_end, EXC_GP, 4, 0, true, 0 },
	{ f_movaps_store, f_movaps_store_end, EXC_GP, 4, 0, true, 0 },
	{ f_paddd, f_paddd_end, EXC_GP, 4, 0, true, 0 },
	{ f_ud, f_ud_end, EXC_UD, 4, 0, false, 0 },
	{ f_int3, f_int3_end, EXC_BP, 5, 0, false, 0 },
	{ f_fld, f_fld_end, EXC_PF, 4, 0xc01000, true, 0 },
	{ f_cmpxchg8b, f_cmpxchg8b_end, EXC_PF, 4, 0xc01000, true, PF_W },
};

static void one_fault(struct world *w, const struct fault *f)
{
	static const uint32_t start[GPR_COUNT] = { 0, 11, 0, 13, STACK, 15, 0xc01000, DATA };
	unsigned pushed = f->has_error ? 4 : 3, at = f->has_error;

	memory_write_bytes(w->m->memory, CODE, f->code, (size_t)(f->end - f->code));
	flat(w);
	for (unsigned i = 0; i < GPR_COUNT; i++)
		w->cpu->gpr[i] = start[i];
	w->cpu->eflags = FLAG_RSVD1 | FLAG_OF;
	w->cpu->cr2 = 0;
	ck_assert_int_eq(go_on(w), f->vector);
	for (unsigned i = 0; i < GPR_COUNT; i++)
		ck_assert_msg(reg(w, i) == (i == ESP ? STACK - 4 * pushed : i == EAX ? 1 : start[i]),
			      "register %u is %x", i, reg(w, i));
	if (f->has_error)
		ck_assert_uint_eq(stacked(w, 0), f->error);
	ck_assert_uint_eq(stacked(w, at), CODE + f->eip);
	/* 1 - 5: borrow, negative, and RF for faults */
	ck_assert_uint_eq(stacked(w, at + 2) & ~FLAG_RF, FLAG_RSVD1 | FLAG_CF | FLAG_SF | FLAG_AF | FLAG_PF);
	ck_assert_uint_eq(w->cpu->cr2, f->cr2);
}

START_TEST(faults_are_precise)
{
	struct world *w = world_create(_i);

	paging_on(w);
	map(w, WINDOW, FRAME_A | 7);
	for (int again = 0; again < 3; again++)
		for (unsigned i = 0; i < ARRAY_SIZE(faults); i++)
			one_fault(w, &faults[i]);
	/* nothing was written in front of the boundary */
	for (unsigned i = 0xff0; i < 0x1000; i++)
		ck_assert_uint_eq(w->ram[FRAME_A + i], 0);
	world_destroy(w);
}
END_TEST

/* A row of pushes runs into a page that is not there; and pops. */
GUEST(pushes,
	"movl $1, %eax; pushl %eax; pushl $2; pushl %ebx; pushl 8(%esp); call 1f\n1: pushl $7\n" END);
GUEST(pops,
	"popl %eax; popl %ebx; movl 4(%esp), %ecx; popl %edx; popl %esi; popl %edi\n" END);

START_TEST(stack_runs_into_a_missing_page)
{
	static const uint32_t values[] = { 1, 2, 0, 1 };
	struct world *w = world_create(_i);

	paging_on(w);
	map(w, WINDOW + 4096, FRAME_B | 7);
	put32(w, TSS + 4, STACK);
	for (unsigned room = 0; room < 6; room++) {
		memset(w->ram + FRAME_B, 0xee, 4096);
		memory_write_bytes(w->m->memory, CODE, pushes, (size_t)(pushes_end - pushes));
		flat(w);
		w->cpu->gpr[ESP] = WINDOW + 4096 + 4 * room;
		/* ring 3, so that the fault switches stacks */
		w->cpu->cpl = 3;
		w->cpu->eflags |= FLAG_IOPL;
		for (int i = 0; i < SREG_COUNT; i++) {
			w->cpu->seg[i].selector = (i == CS ? CODE3 : DATA3) | 3;
			w->cpu->seg[i].attr |= SEG_DPL;
		}
		ck_assert_int_eq(go_on(w), EXC_PF);
		ck_assert_uint_eq(stacked(w, 4), WINDOW + 4096);
		ck_assert_uint_eq(w->cpu->cr2, WINDOW + 4092);
		for (unsigned i = 0; i < MIN(room, 4u); i++)
			ck_assert_uint_eq(get32(w, FRAME_B + 4 * (room - 1 - i)), values[i]);
		ck_assert_uint_eq(get32(w, FRAME_B + 4 * room), 0xeeeeeeee);
	}
	/* upwards */
	map(w, WINDOW, FRAME_A | 7);
	map(w, WINDOW + 4096, 0);
	mmu_flush(w->cpu, true);
	for (unsigned i = 0; i < 8; i++)
		put32(w, FRAME_A + 4096 - 32 + 4 * i, 100 + i);
	memory_write_bytes(w->m->memory, CODE, pops, (size_t)(pops_end - pops));
	flat(w);
	w->cpu->gpr[ESP] = WINDOW + 4096 - 12;
	w->cpu->gpr[EDX] = w->cpu->gpr[ECX] = 77;
	ck_assert_int_eq(go_on(w), EXC_PF);
	ck_reg(w, EAX, 105);
	ck_reg(w, EBX, 106);
	ck_reg(w, ECX, 77);
	ck_reg(w, EDX, 77);
	ck_reg(w, ESP, WINDOW + 4096 - 4 - 16);
	world_destroy(w);
}
END_TEST

/* Every offset around a page boundary, several widths, often enough for code to
 * be translated again if unaligned accesses make that worth it. */
GUEST(unaligned,
	"fninit; movl $0xc00fe0, %esi\n"
	"1: movl $12, %ebp\n"
	"2: movw (%esi), %ax; addw $1, (%esi); movl (%esi), %eax; addl $0x01010101, (%esi)\n"
	"movl %eax, 0x50000; xorl %eax, (%esi); xorl %eax, (%esi)\n"
	"fldt (%esi); fstpt (%esi); movq (%esi), %mm0; movq %mm0, (%esi); emms\n"
	"movups (%esi), %xmm0; movups %xmm0, 0x50010; movups %xmm0, (%esi)\n"
	"pushl (%esi); popl %edx; xorl %edx, %ecx; roll $3, %ecx\n"
	"movl %esi, %ebx; movl %esp, %edi; leal 64(%esi), %esp; pushl %eax; popl %eax; movl %edi, %esp\n"
	"movl %ebx, %esi; decl %ebp; jnz 2b\n"
	"incl %esi; cmpl $0xc01004, %esi; jb 1b\n" END);

START_TEST(unaligned_over_pages)
{
	struct world *w = world_create(_i), *other = world_create(1 - _i);
	struct world *both[] = { w, other };

	for (unsigned k = 0; k < 2; k++) {
		paging_on(both[k]);
		/* not neighbours in memory, and the other way round */
		map(both[k], WINDOW, FRAME_B | 7);
		map(both[k], WINDOW + 4096, FRAME_A | 7);
		for (unsigned i = 0; i < 8192; i++)
			both[k]->ram[FRAME_A + i] = (uint8_t)(i * 7 + i / 256);
		ck_assert_int_eq(RUN(both[k], unaligned), NORMAL);
	}
	ck_assert_mem_eq(w->ram + FRAME_A, other->ram + FRAME_A, 8192);
	ck_assert_uint_eq(reg(w, ECX), reg(other, ECX));
	ck_assert_uint_eq(get32(w, DATA + 0x10), get32(other, DATA + 0x10));
	/* guard pages: nothing ran over the frames */
	ck_assert_uint_eq(get32(w, FRAME_A - 4), 0);
	ck_assert_uint_eq(get32(w, FRAME_B + 4096), 0);
	world_destroy(w);
	world_destroy(other);
}
END_TEST

/* Addresses wrap at 4 GiB. */
GUEST(wraps,
	"movl $0xfffffff0, %esi; movl 0x50010(%esi), %eax; movl $0x80028000, %edx\n"
	"movl (%edx,%edx), %ebx; movl $0x50004, %ecx; movl $-2, %ebp; movl 8(%ecx,%ebp,4), %edi\n"
	"leal 0x50000(%esi,%esi,8), %ebp\n" END);

START_TEST(addresses_wrap)
{
	struct world *w = world_create(_i);

	put32(w, DATA, 0x1234);
	put32(w, DATA + 4, 0x5678);
	ck_assert_int_eq(RUN(w, wraps), NORMAL);
	ck_reg(w, EAX, 0x1234);
	ck_reg(w, EBX, 0x1234);
	ck_reg(w, EDI, 0x5678);
	ck_reg(w, EBP, 0x50000 - 144);
	world_destroy(w);
}
END_TEST

/* POP ESP takes its new value from anywhere, in either encoding. */
GUEST(pop_esp,
	"movl $0x50100, %ebp; movl $0x50100, 0x50000; movl $0x50000, %esp\n"
	"popl %eax; pushl %eax; popl %esp; pushl $5; popl %ecx; pushl %ebp; popl %ebx\n"
	"pushl $0x50200; .byte 0x8f, 0xc4; pushl $6; popl %edx; pushl $7; movl (%esp), %esi\n" END);

START_TEST(pop_into_esp)
{
	struct world *w = world_create(_i);

	ck_assert_int_eq(RUN(w, pop_esp), NORMAL);
	ck_reg(w, ECX, 5);
	ck_reg(w, EBX, 0x50100);
	ck_reg(w, EDX, 6);
	ck_reg(w, ESI, 7);
	ck_reg(w, ESP, 0x501fc);
	world_destroy(w);
}
END_TEST

/* ---- floating point ---- */

GUEST(fpu_kept,
	"fninit; fldpi; fld1; movl $0x50000, %esi; movl $0x3f800000, (%esi); movss (%esi), %xmm7\n"
	"movl $200, %ecx\n"
	"1: out %eax, $0xf8; fadd %st(0), %st(1); addss (%esi), %xmm7; cpuid; movl $0x50000, %esi\n"
	"movl $0x48000000, %ebx\n"
	"subl $1, 0x50004; jnz 1b\n"
	"fstpl 0x50008; fstpl 0x50010; movss %xmm7, 0x50018\n" END);

static void host_uses_fpu(struct world *w, uint32_t value)
{
	volatile double d = value;

	for (int i = 0; i < 4; i++)
		d = d * 1.5 + 1;
	if (w->calls % 3 == 0)
		cpu_kick(w->cpu);
}

START_TEST(fpu_survives_exits)
{
	struct world *w = world_create(_i);
	double st1;
	float xmm7;

	w->call = host_uses_fpu;
	put32(w, DATA + 4, 200);
	ck_assert_int_eq(RUN(w, fpu_kept), NORMAL);
	memcpy(&st1, w->ram + DATA + 0x10, 8);
	memcpy(&xmm7, w->ram + DATA + 0x18, 4);
	ck_assert_double_eq_tol(st1, 203.14159265358979, 1e-12);
	ck_assert_float_eq(xmm7, 201.0f);
	world_destroy(w);
}
END_TEST

GUEST(x87_error,
	"fninit; pushl $0x37b; fldcw (%esp); fld1; fdivs 0x50020; movl $1, %ecx; fld1; movl $2, %ecx\n" END);
GUEST(sse_error,
	"pushl $0x1d80; ldmxcsr (%esp); movl $0x3f800000, 0x50000; xorps %xmm1, %xmm1\n"
	"movss 0x50000, %xmm0; movl $1, %ecx; divss %xmm1, %xmm0; movl $2, %ecx\n" END);

START_TEST(floating_point_exceptions)
{
	struct world *w = world_create(_i);

	for (int again = 0; again < 3; again++) {
		ck_assert_int_eq(RUN(w, x87_error), EXC_MF);
		ck_reg(w, ECX, 1);
		w->cpu->fpu.fxsave[2] = 0; /* FNCLEX */
		w->cpu->fpu.fxsave[0] = 0x7f;
		ck_assert_int_eq(RUN(w, sse_error), EXC_XM);
		ck_reg(w, ECX, 1);
	}
	/* and without a monitor's permission they are undefined or not available */
	w->cpu->cr4 &= ~(uint32_t)CR4_OSXMMEXCPT;
	ck_assert_int_eq(RUN(w, sse_error), EXC_UD);
	w->cpu->cr0 |= CR0_TS;
	ck_assert_int_eq(RUN(w, sse_error), EXC_NM);
	world_destroy(w);
}
END_TEST

/* ---- interrupts ---- */

GUEST(sti_window, "cli; xorl %eax, %eax; sti; incl %eax; incl %eax; incl %eax\n" END);
GUEST(sti_cli, "xorl %eax, %eax; movl $100, %ecx\n1: sti; cli; incl %eax; loop 1b\n" END);
GUEST(sti_hlt, "xorl %eax, %eax; sti; hlt; incl %eax\n" END);
GUEST(sti_ret, "xorl %eax, %eax; at_sti_ret 1f, %edx; pushl %edx; sti; ret\n"
	       "incl %eax\n1: incl %eax; incl %eax\n" END);
GUEST(popf_if, "xorl %eax, %eax; pushl $0x202; popfl; incl %eax; incl %eax\n" END);
GUEST(mov_ss_sti, "xorl %eax, %eax; movl %ss, %edx; sti; movl %edx, %ss; incl %eax; incl %eax\n" END);

struct window {
	const uint8_t *code, *end;
	int vector;
	uint32_t eax, eip; /* at the interrupt: offset */
};

START_TEST(interrupts_are_let_in_where_they_should)
{
	static const struct window windows[] = {
		{ sti_window, sti_window_end, 0x20, 1, 5 },
		{ sti_cli, sti_cli_end, NORMAL, 100, 0 },
		{ sti_hlt, sti_hlt_end, 0x20, 0, 4 },
		{ sti_ret, sti_ret_end, 0x20, 0, 0 },
		{ popf_if, popf_if_end, 0x20, 0, 0 },
		{ mov_ss_sti, mov_ss_sti_end, 0x20, 1, 0 },
	};
	struct world *w = world_create(_i);

	for (unsigned again = 0; again < 3; again++) {
		for (unsigned i = 0; i < ARRAY_SIZE(windows); i++) {
			const struct window *t = &windows[i];

			cpu_set_intr(w->cpu, true);
			ck_assert_int_eq(run_at(w, CODE, t->code, t->end), t->vector);
			ck_assert_msg(reg(w, EAX) == t->eax, "case %u: eax %u", i, reg(w, EAX));
			if (t->eip)
				ck_assert_uint_eq(stacked(w, 0), CODE + t->eip);
		}
	}
	world_destroy(w);
}
END_TEST

/* Loops of all kinds that only an interrupt ends. */
GUEST(spin_jmp, "sti; 1: jmp 1b\n");
GUEST(spin_jcc, "sti; xorl %eax, %eax; 1: cmpl $0, %eax; je 1b\n");
GUEST(spin_loop, "sti; 1: xorl %ecx, %ecx; 2: loop 2b; jmp 1b\n");
GUEST(spin_call, "sti; 1: call 2f; jmp 1b; 2: ret\n");
GUEST(spin_indirect, "sti; at_spin_indirect 1f, %edx; 1: jmp *%edx\n");
GUEST(spin_recursion, "sti; 1: movl $0x40000, %esp; call 1b\n");
GUEST(spin_returns, "sti; at_spin_returns 1f, %edx; movl %edx, 0x50000; 1: movl $0x50000, %esp; ret\n");
GUEST(spin_memory, "sti; 1: movl 0x50000, %eax; testl %eax, %eax; jz 1b\n");
GUEST(spin_string, "sti; cld; 1: movl $0x30000, %edi; movl $0x4000, %ecx; rep stosl; jmp 1b\n");
GUEST(spin_jecxz, "sti; xorl %ecx, %ecx; 1: nop; jecxz 1b\n");
GUEST(spin_sti, "1: sti; jmp 1b\n");
GUEST(spin_sti_call, "1: sti; call 1f; 1: popl %edx; jmp 1f; 1: jmp spin_sti_call\n");
GUEST(spin_pages, "sti; 1: jmp 2f; .skip 0x2000; 2: jmp 1b\n");

static void raise_line(void *opaque)
{
	struct world *w = opaque;

	cpu_set_intr(w->cpu, true);
}

static void *raise_soon(void *opaque)
{
	struct world *w = opaque;

	usleep(15000);
	loop_post(w->m->loop, raise_line, w);
	return NULL;
}

START_TEST(interrupts_end_every_loop)
{
	static const uint8_t *const spins[][2] = {
		{ spin_jmp, spin_jmp_end }, { spin_jcc, spin_jcc_end },
		{ spin_loop, spin_loop_end }, { spin_call, spin_call_end },
		{ spin_indirect, spin_indirect_end }, { spin_recursion, spin_recursion_end },
		{ spin_returns, spin_returns_end }, { spin_memory, spin_memory_end },
		{ spin_string, spin_string_end }, { spin_jecxz, spin_jecxz_end },
		{ spin_pages, spin_pages_end },
		{ spin_sti, spin_sti_end }, { spin_sti_call, spin_sti_call_end },
	};
	struct world *w = world_create(_i);

	for (unsigned i = 0; i < ARRAY_SIZE(spins); i++) {
		pthread_t t;

		ck_assert_int_eq(pthread_create(&t, NULL, raise_soon, w), 0);
		ck_assert_int_eq(run_at(w, CODE, spins[i][0], spins[i][1]), 0x20);
		pthread_join(t, NULL);
	}
	world_destroy(w);
}
END_TEST

/* A handler that returns: what was interrupted must not notice. */
GUEST(interrupted,
	"sti; xorl %eax, %eax; movl $3000000, %ecx; fninit; fldz; fld1\n"
	"1: addl $3, %eax; adcl $0, %edx; pushl %eax; popl %ebx; fadd %st(0), %st(1)\n"
	"call 2f; decl %ecx; jnz 1b; fstp %st(0); fistpl 0x50000\n" END
	"2: ret\n"
	".skip 0x400 - (. - interrupted), 0x90\n"
	"pushal; incl 0x50010; fnsave 0x50100; fldpi; xorl %eax, %eax; frstor 0x50100; popal; iretl\n");

static void *kick_often(void *opaque)
{
	struct world *w = opaque;

	while (!__atomic_load_n(&w->calls, __ATOMIC_SEQ_CST)) {
		loop_post(w->m->loop, raise_line, w);
		loop_kick(w->m->loop);
		usleep(300);
	}
	return NULL;
}

START_TEST(interrupts_are_not_noticed)
{
	struct world *w = world_create(_i);
	pthread_t t;

	gate(w, 0x20, CODE + 0x400);
	ck_assert_int_eq(pthread_create(&t, NULL, kick_often, w), 0);
	ck_assert_int_eq(RUN(w, interrupted), NORMAL);
	__atomic_store_n(&w->calls, 1, __ATOMIC_SEQ_CST);
	pthread_join(t, NULL);
	ck_reg(w, EAX, 9000000);
	ck_reg(w, EDX, 0);
	ck_reg(w, ESP, STACK);
	ck_assert_uint_eq(get32(w, DATA), 3000000);
	ck_assert_uint_gt(get32(w, DATA + 0x10), 3);
	world_destroy(w);
}
END_TEST

/* Ring 3 and back a few thousand times; calls in flight on both sides. */
GUEST(rings,
	"movl $3000, %ecx; xorl %ebx, %ebx\n"
	"1: movl $0x23, %eax; movl %eax, %ds; movl %eax, %es; pushl $0x23; pushl $0x48000; pushl $0x3002\n"
	"pushl $0x1b; at_rings 5f, %edx; pushl %edx; call 3f; iretl\n"
	"2: movl $0x10, %eax; movl %eax, %ds; movl %eax, %es; movl $0x40000, %esp; call 3f\n"
	"decl %ecx; jnz 1b\n" END
	"3: incl %ebx; ret\n"
	"5: call 3b; call 6f; int $0x30\n"
	"6: pushl %ecx; popl %ecx; incl %ebx; int $0x31; addl $0x10000, %ebx; ret\n"
	".skip 0x400 - (. - rings), 0x90\n"
	"jmp 2b\n"
	".skip 0x440 - (. - rings), 0x90\n"
	"call 3b; iretl\n");

START_TEST(rings_back_and_forth)
{
	struct world *w = world_create(_i);

	gate(w, 0x30, CODE + 0x400);
	gate(w, 0x31, CODE + 0x440);
	paging_on(w);
	ck_assert_int_eq(RUN(w, rings), NORMAL);
	ck_reg(w, EBX, 3000 * 0x10005);
	world_destroy(w);
}
END_TEST

/* A string instruction under DF, single steps and breakpoints are other modes. */
GUEST(modes,
	"movl $100, %ecx; movl $0x50100, %edi; movl $0x50200, %esi\n"
	"1: std; lodsl; stosl; cld; stosl; addl $4, %esi\n"
	"pushfl; orl $0x100, (%esp); popfl; incl %edx; andl $~0x100, (%esp); pushfl; andl $~0x100, (%esp); popfl\n"
	"decl %ecx; jnz 1b\n" END
	".skip 0x400 - (. - modes), 0x90\n"
	"incl %ebp; iretl\n");

START_TEST(direction_and_single_step)
{
	struct world *w = world_create(_i);

	gate(w, EXC_DB, CODE + 0x400);
	ck_assert_int_eq(RUN(w, modes), NORMAL);
	ck_reg(w, EDX, 100);
	ck_reg(w, EBP, 100 * 5);
	ck_reg(w, EDI, DATA + 0x100);
	world_destroy(w);
}
END_TEST

START_TEST(instructions_are_counted)
{
	struct world *w = world_create(_i);
	struct engine *e = w->m->engine;
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	const char *at;

	ck_assert_ptr_nonnull(f);
	if (e->ops->observe)
		e->ops->observe(e, true, NULL);
	ck_assert_int_eq(RUN(w, sum_loop), NORMAL);
	if (e->ops->stats)
		e->ops->stats(e, f);
	fclose(f);
	if (w->jit) {
		at = strstr(text, "executed");
		ck_assert_msg(at != NULL, "%s", text);
		ck_assert_uint_ge(strtoull(at + 8, NULL, 10), 3000003);
		ck_assert_uint_le(strtoull(at + 8, NULL, 10), 3000010);
	} else {
		ck_assert_uint_eq(w->cpu->insn_count, 3000003);
	}
	free(text);
	world_destroy(w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("jit");
	SRunner *sr;
	int failed;

	CASE(s, "links", loop_links_to_itself, loop_over_three_pages, calls_over_pages,
	     recursion_deeper_than_the_stack_of_returns, calls_and_returns_that_do_not_match,
	     stacks_are_switched, jump_cache_with_one_slot);
	CASE(s, "mappings", links_follow_the_mapping, address_spaces_have_their_own_code,
	     tail_of_an_instruction_moves, page_fault_forgets_code,
	     list_of_translations_is_full,
	     memory_map_changes_under_the_running_block);
	CASE(s, "written code", next_instruction_is_patched, other_block_is_patched,
	     return_lands_in_patched_code, instruction_over_a_page_boundary_is_patched,
	     code_is_patched_through_an_alias, code_is_patched_by_dma, code_is_copied_over_code,
	     code_lies_on_the_stack, full_code_cache);
	CASE(s, "faults", faults_are_precise, stack_runs_into_a_missing_page, unaligned_over_pages,
	     addresses_wrap, pop_into_esp);
	CASE(s, "floating point", fpu_survives_exits, floating_point_exceptions);
	CASE(s, "interrupts", interrupts_are_let_in_where_they_should, interrupts_end_every_loop,
	     interrupts_are_not_noticed, rings_back_and_forth, direction_and_single_step,
	     instructions_are_counted);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
