/* The interpreter's integer instructions: results, flags and faults as the SDM
 * states them, and what happens at instruction boundaries. */
#include <check.h>
#include <setjmp.h>
#include <string.h>

#include "core/cpu.h"
#include "core/engine.h"
#include "core/ioport.h"
#include "core/machine.h"
#include "core/memory.h"
#include "core/mmu.h"
#include "core/segment.h"
#include "core/util.h"

enum { CODE = 0x10000, DATA = 0x20000, STACK = 0x30000, RAM = 4 << 20 };
enum { NO_EXCEPTION = -1 };
enum { DR6_BS = 1 << 14 };

struct guest {
	struct machine *m;
	struct cpu *cpu;
	uint8_t *ram;
	uint32_t end; /* EIP behind the code */
	uint32_t port_value;
	unsigned port_reads;
};

/* A flat 32-bit ring 0 program, paging off. */
static struct guest guest_create(void)
{
	const struct machine_config cfg = { .ram_size = RAM, .engine = "interp" };
	const struct segment flat = {
		.limit = 0xffffffff, .selector = 0x10,
		.attr = SEG_P | SEG_S | SEG_W | SEG_A | SEG_DB | SEG_G,
	};
	struct error err = { "" };
	struct guest g = { .m = machine_create(&cfg, &err) };

	ck_assert_msg(g.m != NULL, "%s", err.text);
	memory_add_ram(g.m->memory, 0, RAM, 0, MEMORY_RAM, 0, "ram");
	g.ram = memory_host(g.m->memory);
	g.cpu = g.m->cpu;
	g.cpu->cr0 = CR0_PE | CR0_ET;
	for (int i = 0; i < SREG_COUNT; i++)
		g.cpu->seg[i] = flat;
	g.cpu->seg[CS].selector = 8;
	g.cpu->seg[CS].attr |= SEG_CODE;
	g.cpu->gpr[ESP] = STACK;
	g.cpu->gpr[EDX] = 0;
	return g;
}

static void guest_destroy(struct guest *g)
{
	machine_destroy(g->m);
}

static void put(struct guest *g, const void *code, size_t size)
{
	memcpy(g->ram + CODE, code, size);
	g->cpu->eip = CODE;
	g->end = CODE + (uint32_t)size;
}

/* Step until the end of the code, or an exception, whose vector is returned. */
static int run(struct guest *g)
{
	struct cpu *cpu = g->cpu;
	volatile int steps = 0;
	sigjmp_buf unwind;
	int vector = NO_EXCEPTION;

	cpu->unwind = &unwind;
	if (sigsetjmp(unwind, 0)) {
		vector = cpu->exc_vector;
		cpu->eip = cpu->insn_eip;
	} else {
		while (cpu->eip != g->end && steps++ < 10000)
			interp_step(cpu);
		ck_assert_int_lt(steps, 10000);
	}
	cpu->unwind = NULL;
	return vector;
}

#define EXECUTE(g, ...)                                                            \
	(put(g, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })), \
	 run(g))
#define ck_reg(g, r, v) ck_assert_uint_eq((g)->cpu->gpr[r], v)
#define ck_flags(g, mask, v) ck_assert_uint_eq((g)->cpu->eflags & (mask), v)

static uint32_t data32(struct guest *g, uint32_t at)
{
	return load_le32(g->ram + at);
}

START_TEST(add_sets_all_six_flags)
{
	struct guest g = guest_create();

	g.cpu->gpr[EAX] = 0x7fffffff;
	ck_assert_int_eq(EXECUTE(&g, 0x83, 0xc0, 0x01), NO_EXCEPTION); /* add eax, 1 */
	ck_reg(&g, EAX, 0x80000000);
	ck_flags(&g, FLAGS_ARITH, FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF);
	g.cpu->gpr[EAX] = 0xff;
	EXECUTE(&g, 0x04, 0x01); /* add al, 1 */
	ck_reg(&g, EAX, 0);
	ck_flags(&g, FLAGS_ARITH, FLAG_CF | FLAG_ZF | FLAG_AF | FLAG_PF);
	g.cpu->gpr[EAX] = 0x12348000;
	EXECUTE(&g, 0x66, 0x05, 0x00, 0x80); /* add ax, 8000h */
	ck_reg(&g, EAX, 0x12340000);
	ck_flags(&g, FLAGS_ARITH, FLAG_CF | FLAG_OF | FLAG_ZF | FLAG_PF);
	guest_destroy(&g);
}
END_TEST

START_TEST(carry_goes_in_and_out)
{
	struct guest g = guest_create();

	g.cpu->gpr[EAX] = 0xffffffff;
	EXECUTE(&g, 0xf9, 0x83, 0xd0, 0x00); /* stc; adc eax, 0 */
	ck_reg(&g, EAX, 0);
	ck_flags(&g, FLAG_CF | FLAG_ZF, FLAG_CF | FLAG_ZF);
	EXECUTE(&g, 0xf9, 0x1c, 0x00); /* stc; sbb al, 0 */
	ck_reg(&g, EAX, 0xff);
	ck_flags(&g, FLAG_CF | FLAG_SF, FLAG_CF | FLAG_SF);
	EXECUTE(&g, 0xf9, 0x40); /* stc; inc eax: CF stays */
	ck_reg(&g, EAX, 0x100);
	ck_flags(&g, FLAG_CF, FLAG_CF);
	guest_destroy(&g);
}
END_TEST

START_TEST(high_byte_registers)
{
	struct guest g = guest_create();

	g.cpu->gpr[EAX] = 0x11223344;
	g.cpu->gpr[EBX] = 0;
	EXECUTE(&g, 0x88, 0xe3, 0xb4, 0x99); /* mov bl, ah; mov ah, 99h */
	ck_reg(&g, EBX, 0x33);
	ck_reg(&g, EAX, 0x11229944);
	EXECUTE(&g, 0x0f, 0xbe, 0xcc); /* movsx ecx, ah */
	ck_reg(&g, ECX, 0xffffff99);
	guest_destroy(&g);
}
END_TEST

START_TEST(shifts_and_rotates)
{
	struct guest g = guest_create();

	g.cpu->gpr[EAX] = 0x80000001;
	EXECUTE(&g, 0xd1, 0xe0); /* shl eax, 1 */
	ck_reg(&g, EAX, 2);
	ck_flags(&g, FLAG_CF | FLAG_OF, FLAG_CF | FLAG_OF);
	g.cpu->gpr[ECX] = 32;
	g.cpu->eflags |= FLAGS_ARITH;
	EXECUTE(&g, 0xd3, 0xe0); /* shl eax, cl: count masked to 0 */
	ck_reg(&g, EAX, 2);
	ck_flags(&g, FLAGS_ARITH, FLAGS_ARITH);
	g.cpu->gpr[EAX] = 0x01;
	EXECUTE(&g, 0xf8, 0xd0, 0xd8); /* clc; rcr al, 1 */
	ck_reg(&g, EAX, 0);
	ck_flags(&g, FLAG_CF, FLAG_CF);
	g.cpu->gpr[ECX] = 9;
	g.cpu->gpr[EAX] = 0x5a;
	EXECUTE(&g, 0xf9, 0xd2, 0xd0); /* stc; rcl al, cl: nine bits round, as it was */
	ck_reg(&g, EAX, 0x5a);
	ck_flags(&g, FLAG_CF, FLAG_CF);
	g.cpu->gpr[EAX] = 0x12345678;
	g.cpu->gpr[EDX] = 0x9abcdef0;
	EXECUTE(&g, 0x0f, 0xa4, 0xd0, 0x08); /* shld eax, edx, 8 */
	ck_reg(&g, EAX, 0x3456789a);
	EXECUTE(&g, 0x0f, 0xac, 0xd0, 0x08); /* shrd eax, edx, 8 */
	ck_reg(&g, EAX, 0xf0345678);
	guest_destroy(&g);
}
END_TEST

START_TEST(multiply_and_divide)
{
	struct guest g = guest_create();

	g.cpu->gpr[EAX] = 0x80000000;
	g.cpu->gpr[EBX] = 4;
	EXECUTE(&g, 0xf7, 0xe3); /* mul ebx */
	ck_reg(&g, EAX, 0);
	ck_reg(&g, EDX, 2);
	ck_flags(&g, FLAG_CF | FLAG_OF, FLAG_CF | FLAG_OF);
	g.cpu->gpr[EAX] = 0xfffffffe; /* -2 */
	EXECUTE(&g, 0xf7, 0xeb); /* imul ebx */
	ck_reg(&g, EAX, 0xfffffff8);
	ck_reg(&g, EDX, 0xffffffff);
	ck_flags(&g, FLAG_CF | FLAG_OF, 0);
	EXECUTE(&g, 0xf7, 0xfb); /* idiv ebx: -8 / 4 */
	ck_reg(&g, EAX, 0xfffffffe);
	ck_reg(&g, EDX, 0);
	g.cpu->gpr[EAX] = 0x7f;
	g.cpu->gpr[EBX] = 0x03;
	EXECUTE(&g, 0xf6, 0xf3); /* div bl */
	ck_reg(&g, EAX, 0x012a);
	EXECUTE(&g, 0x6b, 0xc3, 0xfe); /* imul eax, ebx, -2 */
	ck_reg(&g, EAX, 0xfffffffa);
	guest_destroy(&g);
}
END_TEST

START_TEST(divide_errors_leave_everything)
{
	struct guest g = guest_create();

	g.cpu->gpr[EAX] = 5;
	g.cpu->gpr[EDX] = 7;
	g.cpu->gpr[EBX] = 7;
	ck_assert_int_eq(EXECUTE(&g, 0xf7, 0xf3), EXC_DE); /* quotient needs 33 bits */
	ck_reg(&g, EAX, 5);
	ck_reg(&g, EDX, 7);
	ck_assert_uint_eq(g.cpu->insn_eip, CODE);
	g.cpu->gpr[EBX] = 0;
	ck_assert_int_eq(EXECUTE(&g, 0xf7, 0xfb), EXC_DE);
	g.cpu->gpr[EAX] = 0;
	g.cpu->gpr[EDX] = 0x80000000;
	g.cpu->gpr[EBX] = 0xffffffff;
	ck_assert_int_eq(EXECUTE(&g, 0xf7, 0xfb), EXC_DE); /* INT64_MIN / -1 */
	g.cpu->gpr[EDX] = 0xffffffff;
	g.cpu->gpr[EAX] = 0x80000000;
	ck_assert_int_eq(EXECUTE(&g, 0xf7, 0xfb), EXC_DE); /* INT32_MIN / -1 */
	ck_assert_int_eq(EXECUTE(&g, 0xd4, 0x00), EXC_DE); /* aam 0 */
	guest_destroy(&g);
}
END_TEST

START_TEST(decimal_adjust)
{
	struct guest g = guest_create();

	/* SDM 2A, DAA and DAS: the examples */
	g.cpu->gpr[EAX] = 0x79;
	g.cpu->gpr[EBX] = 0x35;
	EXECUTE(&g, 0x00, 0xd8, 0x27); /* add al, bl; daa */
	ck_reg(&g, EAX, 0x14);
	ck_flags(&g, FLAG_CF | FLAG_AF, FLAG_CF | FLAG_AF);
	g.cpu->gpr[EAX] = 0x35;
	g.cpu->gpr[EBX] = 0x47;
	EXECUTE(&g, 0x28, 0xd8, 0x2f); /* sub al, bl; das */
	ck_reg(&g, EAX, 0x88);
	ck_flags(&g, FLAG_CF | FLAG_AF, FLAG_CF | FLAG_AF);
	g.cpu->gpr[EAX] = 0x000b;
	EXECUTE(&g, 0xf8, 0x37); /* aaa */
	ck_reg(&g, EAX, 0x0101);
	g.cpu->gpr[EAX] = 63;
	EXECUTE(&g, 0xd4, 0x0a); /* aam */
	ck_reg(&g, EAX, 0x0603);
	EXECUTE(&g, 0xd5, 0x0a); /* aad */
	ck_reg(&g, EAX, 63);
	guest_destroy(&g);
}
END_TEST

START_TEST(bit_strings_reach_beyond_the_operand)
{
	struct guest g = guest_create();

	g.cpu->gpr[EBX] = DATA;
	g.cpu->gpr[EAX] = (uint32_t)-33; /* bit 31 of the word at DATA - 8 */
	EXECUTE(&g, 0x0f, 0xab, 0x03); /* bts [ebx], eax */
	ck_assert_uint_eq(data32(&g, DATA - 8), 0x80000000);
	ck_flags(&g, FLAG_CF, 0);
	EXECUTE(&g, 0x0f, 0xb3, 0x03); /* btr [ebx], eax */
	ck_assert_uint_eq(data32(&g, DATA - 8), 0);
	ck_flags(&g, FLAG_CF, FLAG_CF);
	EXECUTE(&g, 0x0f, 0xba, 0x3b, 0x25); /* btc dword [ebx], 25h: bit 5 */
	ck_assert_uint_eq(data32(&g, DATA), 0x20);
	g.cpu->gpr[ECX] = 0x1234;
	g.cpu->gpr[EDX] = 0;
	EXECUTE(&g, 0x0f, 0xbc, 0xca); /* bsf ecx, edx */
	ck_reg(&g, ECX, 0x1234);
	ck_flags(&g, FLAG_ZF, FLAG_ZF);
	EXECUTE(&g, 0x0f, 0xbd, 0x0b); /* bsr ecx, [ebx] */
	ck_reg(&g, ECX, 5);
	guest_destroy(&g);
}
END_TEST

START_TEST(exchanges)
{
	struct guest g = guest_create();

	g.cpu->gpr[EBX] = DATA;
	g.cpu->gpr[EAX] = 5;
	store_le32(g.ram + DATA, 5);
	g.cpu->gpr[ECX] = 9;
	EXECUTE(&g, 0xf0, 0x0f, 0xb1, 0x0b); /* lock cmpxchg [ebx], ecx */
	ck_assert_uint_eq(data32(&g, DATA), 9);
	ck_flags(&g, FLAG_ZF, FLAG_ZF);
	EXECUTE(&g, 0x0f, 0xb1, 0x0b);
	ck_reg(&g, EAX, 9);
	ck_flags(&g, FLAG_ZF, 0);
	EXECUTE(&g, 0x0f, 0xc1, 0x03); /* xadd [ebx], eax */
	ck_reg(&g, EAX, 9);
	ck_assert_uint_eq(data32(&g, DATA), 18);
	EXECUTE(&g, 0x0f, 0xc1, 0xc0); /* xadd eax, eax: the sum stays */
	ck_reg(&g, EAX, 18);
	store_le64(g.ram + DATA, 0x0000000200000001);
	g.cpu->gpr[EAX] = 1;
	g.cpu->gpr[EDX] = 2;
	EXECUTE(&g, 0x0f, 0xc7, 0x0b); /* cmpxchg8b [ebx]: ECX:EBX goes in */
	ck_assert_uint_eq(data32(&g, DATA), DATA);
	ck_assert_uint_eq(data32(&g, DATA + 4), 9);
	EXECUTE(&g, 0x87, 0x03); /* xchg [ebx], eax */
	ck_reg(&g, EAX, DATA);
	guest_destroy(&g);
}
END_TEST

START_TEST(stack_instructions)
{
	struct guest g = guest_create();

	EXECUTE(&g, 0x54, 0x58); /* push esp; pop eax: the old value */
	ck_reg(&g, EAX, STACK);
	ck_reg(&g, ESP, STACK);
	EXECUTE(&g, 0x6a, 0xff, 0x66, 0x6a, 0x80); /* push -1; push word -128 */
	ck_reg(&g, ESP, STACK - 6);
	ck_assert_uint_eq(data32(&g, STACK - 6), 0xffffff80);
	g.cpu->gpr[ESP] = STACK - 8;
	store_le32(g.ram + STACK - 8, 0x12345678);
	EXECUTE(&g, 0x8f, 0x04, 0x24); /* pop [esp]: the address after the pop */
	ck_assert_uint_eq(data32(&g, STACK - 4), 0x12345678);
	ck_reg(&g, ESP, STACK - 4);
	g.cpu->gpr[ESP] = STACK;
	g.cpu->gpr[EDI] = 77;
	EXECUTE(&g, 0x60, 0x31, 0xff, 0x61); /* pusha; xor edi, edi; popa */
	ck_reg(&g, EDI, 77);
	ck_reg(&g, ESP, STACK);
	ck_assert_uint_eq(data32(&g, STACK - 20), STACK); /* PUSHA's ESP */
	g.cpu->gpr[EBP] = 0xabcd;
	EXECUTE(&g, 0xc8, 0x10, 0x00, 0x00); /* enter 16, 0 */
	ck_reg(&g, EBP, STACK - 4);
	ck_reg(&g, ESP, STACK - 20);
	EXECUTE(&g, 0xc9); /* leave */
	ck_reg(&g, EBP, 0xabcd);
	ck_reg(&g, ESP, STACK);
	guest_destroy(&g);
}
END_TEST

START_TEST(nested_enter_copies_the_display)
{
	struct guest g = guest_create();

	g.cpu->gpr[EBP] = DATA;
	store_le32(g.ram + DATA - 4, 0x1111);
	EXECUTE(&g, 0xc8, 0x08, 0x00, 0x02); /* enter 8, 2 */
	ck_assert_uint_eq(data32(&g, STACK - 4), DATA);
	ck_assert_uint_eq(data32(&g, STACK - 8), 0x1111);
	ck_assert_uint_eq(data32(&g, STACK - 12), STACK - 4);
	ck_reg(&g, EBP, STACK - 4);
	ck_reg(&g, ESP, STACK - 20);
	guest_destroy(&g);
}
END_TEST

START_TEST(calls_and_conditions)
{
	struct guest g = guest_create();

	/* call +2; jmp +3; mov al, 1; ret 4 -> comes back to the jmp */
	g.cpu->gpr[EAX] = 0;
	EXECUTE(&g, 0xe8, 0x02, 0x00, 0x00, 0x00, 0xeb, 0x05, 0xb0, 0x01, 0xc2, 0x04, 0x00);
	ck_reg(&g, EAX, 1);
	ck_reg(&g, ESP, STACK + 4);
	/* mov ecx, 3; inc eax; loop -3 */
	EXECUTE(&g, 0xb9, 0x03, 0x00, 0x00, 0x00, 0x40, 0xe2, 0xfd);
	ck_reg(&g, EAX, 4);
	ck_reg(&g, ECX, 0);
	/* cmp eax, -1; setl bl; setb bh; cmovg edx, eax */
	g.cpu->gpr[EBX] = 0;
	EXECUTE(&g, 0x83, 0xf8, 0xff, 0x0f, 0x9c, 0xc3, 0x0f, 0x92, 0xc7, 0x0f, 0x4f, 0xd0);
	ck_reg(&g, EBX, 0x100);
	ck_reg(&g, EDX, 4);
	guest_destroy(&g);
}
END_TEST

START_TEST(branch_beyond_the_limit_faults_on_the_branch)
{
	struct guest g = guest_create();

	g.cpu->seg[CS].limit = CODE + 0xff;
	ck_assert_int_eq(EXECUTE(&g, 0xe8, 0x00, 0x10, 0x00, 0x00), EXC_GP);
	ck_assert_uint_eq(g.cpu->insn_eip, CODE);
	ck_reg(&g, ESP, STACK);
	/* an instruction whose last byte lies beyond the limit */
	g.cpu->seg[CS].limit = CODE + 3;
	ck_assert_int_eq(EXECUTE(&g, 0xb8, 0x00, 0x00, 0x00, 0x00), EXC_GP);
	guest_destroy(&g);
}
END_TEST

START_TEST(limit_fault_changes_nothing)
{
	struct guest g = guest_create();

	g.cpu->seg[DS].limit = DATA + 2;
	g.cpu->gpr[EBX] = DATA;
	g.cpu->gpr[EAX] = 1;
	g.cpu->eflags |= FLAG_CF;
	ck_assert_int_eq(EXECUTE(&g, 0x01, 0x03), EXC_GP); /* add [ebx], eax */
	ck_flags(&g, FLAGS_ARITH, FLAG_CF);
	g.cpu->seg[SS].limit = 0xffff;
	ck_assert_int_eq(EXECUTE(&g, 0x50), EXC_SS); /* push eax */
	ck_reg(&g, ESP, STACK);
	g.cpu->seg[SS].attr &= (uint16_t)~SEG_DB;
	g.cpu->gpr[ESP] = 0xabcd0000;
	ck_assert_int_eq(EXECUTE(&g, 0x50), NO_EXCEPTION); /* 16-bit stack wraps */
	ck_reg(&g, ESP, 0xabcdfffc);
	guest_destroy(&g);
}
END_TEST

START_TEST(read_only_page_stops_read_modify_write)
{
	struct guest g = guest_create();

	/* one directory, one table, identity; the page at DATA read-only */
	store_le32(g.ram + 0x1000, 0x2003);
	for (uint32_t i = 0; i < 1024; i++)
		store_le32(g.ram + 0x2000 + i * 4, i << 12 | (i == DATA >> 12 ? 1 : 3));
	g.cpu->cr3 = 0x1000;
	g.cpu->cr0 |= CR0_PG | CR0_WP;
	mmu_flush(g.cpu, true);
	store_le32(g.ram + DATA, 41);
	g.cpu->gpr[EBX] = DATA;
	ck_assert_int_eq(EXECUTE(&g, 0xff, 0x03), EXC_PF); /* inc dword [ebx] */
	ck_assert_uint_eq(g.cpu->exc_error, PF_P | PF_W);
	ck_assert_uint_eq(g.cpu->cr2, DATA);
	ck_assert_uint_eq(data32(&g, DATA), 41);
	/* a store that crosses into it writes nothing before it */
	store_le32(g.ram + DATA - 4, 0x11111111);
	ck_assert_int_eq(EXECUTE(&g, 0x89, 0x5b, 0xfe), EXC_PF); /* mov [ebx-2], ebx */
	ck_assert_uint_eq(data32(&g, DATA - 4), 0x11111111);
	guest_destroy(&g);
}
END_TEST

START_TEST(string_moves)
{
	struct guest g = guest_create();

	memcpy(g.ram + DATA, "abcdefgh", 8);
	g.cpu->gpr[ESI] = DATA;
	g.cpu->gpr[EDI] = DATA + 1;
	g.cpu->gpr[ECX] = 7;
	EXECUTE(&g, 0xf3, 0xa4); /* rep movsb onto itself, one up: repeats the first */
	ck_assert_mem_eq(g.ram + DATA, "aaaaaaaa", 8);
	ck_reg(&g, ECX, 0);
	ck_reg(&g, EDI, DATA + 8);
	memcpy(g.ram + DATA, "abcdefgh", 8);
	g.cpu->gpr[ESI] = DATA + 6;
	g.cpu->gpr[EDI] = DATA + 7;
	g.cpu->gpr[ECX] = 7;
	EXECUTE(&g, 0xfd, 0xf3, 0xa4, 0xfc); /* std; rep movsb; cld */
	ck_assert_mem_eq(g.ram + DATA, "aabcdefg", 8);
	/* stosd over a page boundary, unaligned */
	g.cpu->gpr[EAX] = 0x01020304;
	g.cpu->gpr[EDI] = DATA + 0x0ff1;
	g.cpu->gpr[ECX] = 2048;
	EXECUTE(&g, 0xf3, 0xab);
	ck_reg(&g, EDI, DATA + 0x0ff1 + 8192);
	for (uint32_t i = 0; i < 2048; i++)
		ck_assert_uint_eq(data32(&g, DATA + 0x0ff1 + 4 * i), 0x01020304);
	ck_assert_uint_eq(g.ram[DATA + 0x0ff0], 0);
	ck_assert_uint_eq(g.ram[DATA + 0x0ff1 + 8192], 0);
	guest_destroy(&g);
}
END_TEST

START_TEST(string_searches)
{
	struct guest g = guest_create();

	strcpy((char *)g.ram + DATA + 0xffa, "needle in it");
	g.cpu->gpr[EDI] = DATA + 0xffa;
	g.cpu->gpr[EAX] = 0;
	g.cpu->gpr[ECX] = 0xffffffff;
	EXECUTE(&g, 0xf2, 0xae); /* repne scasb */
	ck_reg(&g, ECX, 0xffffffff - 13);
	ck_flags(&g, FLAG_ZF, FLAG_ZF);
	strcpy((char *)g.ram + DATA, "needle if it");
	g.cpu->gpr[ESI] = DATA;
	g.cpu->gpr[EDI] = DATA + 0xffa;
	g.cpu->gpr[ECX] = 12;
	EXECUTE(&g, 0xf3, 0xa6); /* repe cmpsb: differs at the ninth */
	ck_reg(&g, ECX, 3);
	ck_reg(&g, ESI, DATA + 9);
	ck_flags(&g, FLAG_ZF | FLAG_CF, FLAG_CF); /* 'f' below 'n' */
	g.cpu->gpr[ECX] = 0;
	EXECUTE(&g, 0xf3, 0xa6); /* nothing to do: flags stay */
	ck_flags(&g, FLAG_ZF | FLAG_CF, FLAG_CF);
	guest_destroy(&g);
}
END_TEST

START_TEST(string_with_16_bit_addresses_wraps)
{
	struct guest g = guest_create();

	g.cpu->gpr[EDI] = 0x5000fffe;
	g.cpu->gpr[ECX] = 0x70000004;
	g.cpu->gpr[EAX] = 0x77;
	EXECUTE(&g, 0x67, 0xf3, 0xaa); /* rep stosb, DI and CX */
	ck_reg(&g, EDI, 0x50000002);
	ck_reg(&g, ECX, 0x70000000);
	ck_assert_uint_eq(g.ram[0xfffe], 0x77);
	ck_assert_uint_eq(g.ram[0], 0x77);
	ck_assert_uint_eq(g.ram[1], 0x77);
	ck_assert_uint_eq(g.ram[2], 0);
	guest_destroy(&g);
}
END_TEST

START_TEST(fault_in_rep_keeps_what_was_done)
{
	struct guest g = guest_create();

	g.cpu->seg[ES].limit = DATA + 99;
	g.cpu->gpr[EDI] = DATA;
	g.cpu->gpr[ECX] = 50;
	g.cpu->gpr[EAX] = 1;
	ck_assert_int_eq(EXECUTE(&g, 0xf3, 0xab), EXC_GP);
	ck_reg(&g, ECX, 25);
	ck_reg(&g, EDI, DATA + 100);
	ck_assert_uint_eq(g.cpu->eip, CODE);
	guest_destroy(&g);
}
END_TEST

START_TEST(kicked_rep_comes_out_and_goes_on)
{
	struct guest g = guest_create();

	g.cpu->gpr[EDI] = DATA;
	g.cpu->gpr[ECX] = 0x10000;
	g.cpu->gpr[EAX] = 0x5a;
	put(&g, (const uint8_t[]){ 0xf3, 0xaa }, 2);
	cpu_kick(g.cpu);
	interp_step(g.cpu);
	ck_assert_uint_eq(g.cpu->eip, CODE);
	ck_assert_uint_lt(g.cpu->gpr[ECX], 0x10000);
	ck_assert_int_eq(run(&g), NO_EXCEPTION);
	ck_reg(&g, ECX, 0);
	ck_assert_uint_eq(g.ram[DATA + 0xffff], 0x5a);
	ck_assert_uint_eq(g.ram[DATA + 0x10000], 0);
	guest_destroy(&g);
}
END_TEST

static uint32_t port_read(void *opaque, uint16_t port, unsigned size)
{
	struct guest *g = opaque;

	g->port_reads++;
	return g->port_value++;
}

static void port_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct guest *g = opaque;

	g->port_value = value;
}

START_TEST(port_instructions)
{
	static const struct ioport_ops ops = { .read = port_read, .write = port_write, .sizes = 7 };
	struct guest g = guest_create();

	ioport_add(g.m->io, 0x300, 4, &ops, &g, "test");
	g.cpu->gpr[EDX] = 0x300;
	g.cpu->gpr[EAX] = 0xaabbccdd;
	EXECUTE(&g, 0xef, 0xec); /* out dx, eax; in al, dx */
	ck_reg(&g, EAX, 0xaabbccdd);
	ck_assert_uint_eq(g.port_value, 0xaabbccde);
	g.port_value = 0x1110;
	g.cpu->gpr[EDI] = DATA;
	g.cpu->gpr[ECX] = 4;
	EXECUTE(&g, 0x66, 0xf3, 0x6d); /* rep insw */
	ck_assert_uint_eq(load_le64(g.ram + DATA), 0x1113111211111110);
	g.cpu->gpr[ESI] = DATA + 2;
	EXECUTE(&g, 0x66, 0x6f); /* outsw */
	ck_assert_uint_eq(g.port_value, 0x1111);
	/* a page that cannot be written: the port is not read */
	g.port_reads = 0;
	g.cpu->seg[ES].limit = DATA;
	g.cpu->gpr[EDI] = DATA;
	ck_assert_int_eq(EXECUTE(&g, 0x66, 0x6d), EXC_GP);
	ck_assert_uint_eq(g.port_reads, 0);
	g.cpu->cpl = 3; /* IOPL 0 and no TSS to ask */
	g.cpu->tr = (struct segment){ 0 };
	ck_assert_int_eq(EXECUTE(&g, 0xec), EXC_GP);
	guest_destroy(&g);
}
END_TEST

START_TEST(privilege)
{
	struct guest g = guest_create();

	g.cpu->cpl = 3;
	ck_assert_int_eq(EXECUTE(&g, 0xf4), EXC_GP);             /* hlt */
	ck_assert_int_eq(EXECUTE(&g, 0x0f, 0x20, 0xc0), EXC_GP); /* mov eax, cr0 */
	ck_assert_int_eq(EXECUTE(&g, 0xfa), EXC_GP);             /* cli */
	ck_assert_int_eq(EXECUTE(&g, 0x0f, 0x01, 0x13), EXC_GP); /* lgdt [ebx] */
	ck_assert_int_eq(EXECUTE(&g, 0x0f, 0x0b), EXC_UD);       /* ud2 */
	g.cpu->cpl = 0;
	g.cpu->cr0 &= ~(uint32_t)CR0_PE;
	ck_assert_int_eq(EXECUTE(&g, 0x0f, 0x00, 0xd8), EXC_UD); /* ltr ax in real mode */
	ck_assert_int_eq(EXECUTE(&g, 0x63, 0xc0), EXC_UD);       /* arpl in real mode */
	guest_destroy(&g);
}
END_TEST

START_TEST(popf_by_privilege)
{
	struct guest g = guest_create();

	/* push 0x3202 (IOPL 3, IF); popf */
	EXECUTE(&g, 0x68, 0x02, 0x32, 0x00, 0x00, 0x9d);
	ck_assert_uint_eq(g.cpu->eflags, 0x3202);
	g.cpu->eflags = FLAG_RSVD1;
	g.cpu->cpl = 3;
	EXECUTE(&g, 0x68, 0xd7, 0x7e, 0x00, 0x00, 0x9d); /* all but TF, at ring 3 */
	ck_assert_uint_eq(g.cpu->eflags, FLAGS_ARITH | FLAG_DF | FLAG_NT | FLAG_RSVD1);
	guest_destroy(&g);
}
END_TEST

START_TEST(single_step_traps_after_the_instruction)
{
	struct guest g = guest_create();

	g.cpu->eflags |= FLAG_TF;
	put(&g, (const uint8_t[]){ 0x90, 0x90 }, 2);
	g.cpu->run = 1;
	interp_step(g.cpu);
	ck_assert_uint_eq(g.cpu->debug_hits, DR6_BS);
	ck_assert_uint_eq(g.cpu->run, 0);
	/* a REP traps after each iteration */
	g.cpu->debug_hits = 0;
	g.cpu->gpr[ECX] = 3;
	g.cpu->gpr[EDI] = DATA;
	put(&g, (const uint8_t[]){ 0xf3, 0xaa }, 2);
	interp_step(g.cpu);
	ck_reg(&g, ECX, 2);
	ck_assert_uint_eq(g.cpu->eip, CODE);
	ck_assert_uint_eq(g.cpu->debug_hits, DR6_BS);
	guest_destroy(&g);
}
END_TEST

START_TEST(shadows_last_one_instruction)
{
	struct guest g = guest_create();

	put(&g, (const uint8_t[]){ 0xfb, 0x90, 0x90 }, 3); /* sti; nop */
	g.cpu->intr_line = 1;
	g.cpu->run = 1;
	interp_step(g.cpu);
	ck_assert_uint_eq(g.cpu->shadow, SHADOW_STI);
	ck_assert_uint_eq(g.cpu->run, 1);
	interp_step(g.cpu);
	ck_assert_uint_eq(g.cpu->shadow, 0);
	ck_assert_uint_eq(g.cpu->run, 0); /* now the interrupt may come */
	guest_destroy(&g);
}
END_TEST

START_TEST(breakpoints)
{
	struct guest g = guest_create();

	g.cpu->dr[0] = CODE + 1;
	g.cpu->dr[7] |= 1;
	ck_assert_int_eq(EXECUTE(&g, 0x90, 0x90, 0x90), EXC_DB);
	ck_assert_uint_eq(g.cpu->insn_eip, CODE + 1);
	ck_assert_uint_eq(g.cpu->debug_hits, 1);
	g.cpu->debug_hits = 0;
	g.cpu->eflags |= FLAG_RF; /* as the handler's IRET sets it */
	ck_assert_int_eq(run(&g), NO_EXCEPTION);
	ck_flags(&g, FLAG_RF, 0);
	/* data breakpoint, 4 bytes, on writes */
	g.cpu->dr[0] = DATA;
	g.cpu->dr[7] = 0x400 | 1 | 0xd << 16;
	g.cpu->gpr[EBX] = DATA;
	EXECUTE(&g, 0x8b, 0x03); /* mov eax, [ebx] */
	ck_assert_uint_eq(g.cpu->debug_hits, 0);
	EXECUTE(&g, 0x88, 0x43, 0x03); /* mov [ebx+3], al */
	ck_assert_uint_eq(g.cpu->debug_hits, 1);
	guest_destroy(&g);
}
END_TEST

START_TEST(descriptor_table_registers)
{
	struct guest g = guest_create();

	memcpy(g.ram + DATA, "\x34\x12\x78\x56\x34\x92", 6);
	g.cpu->gpr[EBX] = DATA;
	EXECUTE(&g, 0x0f, 0x01, 0x13, 0x0f, 0x01, 0x43, 0x10); /* lgdt [ebx]; sgdt [ebx+16] */
	ck_assert_uint_eq(g.cpu->gdtr_limit, 0x1234);
	ck_assert_uint_eq(g.cpu->gdtr_base, 0x92345678);
	ck_assert_mem_eq(g.ram + DATA + 16, g.ram + DATA, 6);
	EXECUTE(&g, 0x66, 0x0f, 0x01, 0x1b); /* lidt, 16 bits: base of 24 */
	ck_assert_uint_eq(g.cpu->idtr_base, 0x345678);
	guest_destroy(&g);
}
END_TEST

/* The engine with its instruction cache: code that rewrites itself. */
START_TEST(engine_sees_rewritten_code)
{
	/* loop: mov eax, 1; inc byte [imm of the mov]; dec ecx; jnz loop; hlt */
	static const uint8_t code[] = {
		0xb8, 0x01, 0x00, 0x00, 0x00, 0xfe, 0x05, 0x01, 0x00, 0x01, 0x00,
		0x49, 0x75, 0xf2, 0xf4,
	};
	struct guest g = guest_create();

	put(&g, code, sizeof(code));
	g.cpu->gpr[ECX] = 100;
	g.cpu->run = 1;
	g.m->engine->ops->run(g.m->engine);
	ck_assert_uint_eq(g.cpu->halted, 1);
	ck_reg(&g, EAX, 100);
	ck_assert_uint_eq(g.cpu->insn_count, 401);
	guest_destroy(&g);
}
END_TEST

/* An exception through a real-mode vector table, and back. */
START_TEST(engine_delivers_exceptions)
{
	struct guest g = guest_create();

	cpu_reset(g.cpu);
	g.cpu->seg[CS].selector = 0x1000;
	g.cpu->seg[CS].base = CODE;
	g.cpu->eip = 0;
	g.cpu->gpr[ESP] = 0x8000;
	store_le32(g.ram + EXC_DE * 4, 0x10000100); /* 1000:0100 */
	memcpy(g.ram + CODE, "\x31\xdb\xf7\xf3\xf4", 5); /* xor bx, bx; div bx; hlt */
	/* pop ax; add ax, 2; push ax; iret */
	memcpy(g.ram + CODE + 0x100, "\x58\x05\x02\x00\x50\xcf", 6);
	g.cpu->run = 1;
	g.m->engine->ops->run(g.m->engine);
	ck_assert_uint_eq(g.cpu->halted, 1);
	ck_assert_uint_eq(g.cpu->eip, 5);
	ck_assert_uint_eq(g.cpu->exceptions[EXC_DE], 1);
	ck_reg(&g, ESP, 0x8000);
	guest_destroy(&g);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("interp");
	TCase *t = tcase_create("integer");
	SRunner *runner;
	int failed;

	tcase_add_test(t, add_sets_all_six_flags);
	tcase_add_test(t, carry_goes_in_and_out);
	tcase_add_test(t, high_byte_registers);
	tcase_add_test(t, shifts_and_rotates);
	tcase_add_test(t, multiply_and_divide);
	tcase_add_test(t, divide_errors_leave_everything);
	tcase_add_test(t, decimal_adjust);
	tcase_add_test(t, bit_strings_reach_beyond_the_operand);
	tcase_add_test(t, exchanges);
	tcase_add_test(t, stack_instructions);
	tcase_add_test(t, nested_enter_copies_the_display);
	tcase_add_test(t, calls_and_conditions);
	tcase_add_test(t, branch_beyond_the_limit_faults_on_the_branch);
	tcase_add_test(t, limit_fault_changes_nothing);
	tcase_add_test(t, read_only_page_stops_read_modify_write);
	tcase_add_test(t, string_moves);
	tcase_add_test(t, string_searches);
	tcase_add_test(t, string_with_16_bit_addresses_wraps);
	tcase_add_test(t, fault_in_rep_keeps_what_was_done);
	tcase_add_test(t, kicked_rep_comes_out_and_goes_on);
	tcase_add_test(t, port_instructions);
	tcase_add_test(t, privilege);
	tcase_add_test(t, popf_by_privilege);
	tcase_add_test(t, single_step_traps_after_the_instruction);
	tcase_add_test(t, shadows_last_one_instruction);
	tcase_add_test(t, breakpoints);
	tcase_add_test(t, descriptor_table_registers);
	tcase_add_test(t, engine_sees_rewritten_code);
	tcase_add_test(t, engine_delivers_exceptions);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
