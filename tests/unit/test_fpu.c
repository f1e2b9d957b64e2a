/* x87, MMX and SSE as seen from the system: who faults when, the error interrupt
 * of old, the environment's layouts, FXSAVE. What the instructions compute is
 * the oracle's business (tests/insn). SDM 1 chapter 8, SDM 3A 2.5. */
#include <check.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/engine.h"
#include "core/interp_simd.h"
#include "core/machine.h"
#include "core/memory.h"
#include "core/util.h"

enum { CODE = 0x1000, DATA = 0x2000, RAM = 1 << 20 };
enum { NO_EXCEPTION = -1 };

struct guest {
	struct machine *m;
	struct cpu *cpu;
	uint8_t *ram;
	unsigned ferr;
};

static void count_ferr(void *opaque)
{
	++*(unsigned *)opaque;
}

/* Flat 32-bit ring 0 code without paging, the units enabled. */
static struct guest *guest_create(void)
{
	struct guest *g = calloc(1, sizeof(*g));
	const struct machine_config cfg = { .ram_size = RAM, .engine = "interp" };
	const struct segment flat = {
		.limit = 0xffffffff, .selector = 0x10,
		.attr = SEG_P | SEG_S | SEG_W | SEG_A | SEG_DB | SEG_G,
	};
	struct error err = { "" };

	ck_assert(g != NULL);
	g->m = machine_create(&cfg, &err);
	ck_assert_msg(g->m != NULL, "%s", err.text);
	memory_add_ram(g->m->memory, 0, RAM, 0, MEMORY_RAM, 0, "ram");
	g->ram = memory_host(g->m->memory);
	g->cpu = g->m->cpu;
	g->cpu->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP;
	g->cpu->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
	for (int i = 0; i < SREG_COUNT; i++)
		g->cpu->seg[i] = flat;
	g->cpu->seg[CS].selector = 8;
	g->cpu->seg[CS].attr |= SEG_CODE;
	g->cpu->ferr = count_ferr;
	g->cpu->ferr_opaque = &g->ferr;
	return g;
}

static void guest_destroy(struct guest *g)
{
	machine_destroy(g->m);
	free(g);
}

static int run(struct guest *g, const uint8_t *code, size_t size)
{
	struct cpu *cpu = g->cpu;
	sigjmp_buf unwind;
	int vector = NO_EXCEPTION;

	memcpy(g->ram + CODE, code, size);
	cpu->eip = CODE - cpu->seg[CS].base;
	cpu->unwind = &unwind;
	if (sigsetjmp(unwind, 0))
		vector = cpu->exc_vector;
	else
		while (cpu->eip + cpu->seg[CS].base < CODE + size)
			interp_step(cpu);
	cpu->unwind = NULL;
	return vector;
}

#define EXECUTE(g, ...) \
	run(g, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
#define FNINIT 0xdb, 0xe3
#define FLD1 0xd9, 0xe8
#define FLDZ 0xd9, 0xee
#define FDIVP 0xde, 0xf9
#define FWAIT 0x9b
#define ADDPS 0x0f, 0x58, 0xc1
#define PADDB 0x0f, 0xfc, 0xc1
#define FLDCW_DATA 0xd9, 0x2d, 0x00, 0x20, 0x00, 0x00
#define LDMXCSR_DATA 0x0f, 0xae, 0x15, 0x00, 0x20, 0x00, 0x00

START_TEST(cr0_em_and_ts_decide_who_faults)
{
	static const struct {
		uint32_t set, clear4;
		int x87, mmx, sse, fwait;
	} rows[] = {
		{ 0, 0, NO_EXCEPTION, NO_EXCEPTION, NO_EXCEPTION, NO_EXCEPTION },
		{ CR0_TS, 0, EXC_NM, EXC_NM, EXC_NM, EXC_NM },
		{ CR0_EM, 0, EXC_NM, EXC_UD, EXC_UD, NO_EXCEPTION },
		{ 0, CR4_OSFXSR, NO_EXCEPTION, NO_EXCEPTION, EXC_UD, NO_EXCEPTION },
	};
	struct guest *g = guest_create();

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		g->cpu->cr0 = CR0_PE | CR0_NE | CR0_MP | rows[i].set;
		g->cpu->cr4 = (CR4_OSFXSR | CR4_OSXMMEXCPT) & ~rows[i].clear4;
		ck_assert_int_eq(EXECUTE(g, FNINIT), rows[i].x87);
		ck_assert_int_eq(EXECUTE(g, PADDB), rows[i].mmx);
		ck_assert_int_eq(EXECUTE(g, ADDPS), rows[i].sse);
		ck_assert_int_eq(EXECUTE(g, FWAIT), rows[i].fwait);
	}
	g->cpu->cr0 = CR0_PE | CR0_NE | CR0_TS; /* FWAIT looks at TS only with MP */
	ck_assert_int_eq(EXECUTE(g, FWAIT), NO_EXCEPTION);
	guest_destroy(g);
}
END_TEST

START_TEST(unmasked_exception_waits_for_the_next_instruction)
{
	struct guest *g = guest_create();

	store_le16(g->ram + DATA, 0x37b); /* zero divide unmasked */
	ck_assert_int_eq(EXECUTE(g, FNINIT, FLDCW_DATA, FLD1, FLDZ, FDIVP), NO_EXCEPTION);
	ck_assert_int_eq(EXECUTE(g, FWAIT), EXC_MF);
	ck_assert_int_eq(EXECUTE(g, PADDB), EXC_MF);
	ck_assert_int_eq(EXECUTE(g, 0xdf, 0xe0), NO_EXCEPTION); /* fnstsw ax does not wait */
	ck_assert_uint_eq(g->cpu->gpr[EAX] & 0x8084, 0x8084);
	ck_assert_int_eq(EXECUTE(g, 0xdb, 0xe2, FWAIT), NO_EXCEPTION); /* fnclex */
	ck_assert_uint_eq(g->ferr, 0);
	guest_destroy(g);
}
END_TEST

START_TEST(without_ne_the_error_goes_outside)
{
	struct guest *g = guest_create();

	g->cpu->cr0 &= ~CR0_NE;
	store_le16(g->ram + DATA, 0x37b);
	ck_assert_int_eq(EXECUTE(g, FNINIT, FLDCW_DATA, FLD1, FLDZ, FDIVP), NO_EXCEPTION);
	ck_assert_uint_eq(g->ferr, 0);
	ck_assert_int_eq(EXECUTE(g, FLD1), NO_EXCEPTION);
	ck_assert_uint_eq(g->ferr, 1);
	ck_assert_int_eq(EXECUTE(g, 0xdf, 0xe0), NO_EXCEPTION);
	ck_assert_uint_eq(g->cpu->gpr[EAX] & 0x84, 0x84); /* still pending */
	guest_destroy(g);
}
END_TEST

START_TEST(unmasked_simd_exception_changes_only_mxcsr)
{
	struct guest *g = guest_create();
	uint8_t *xmm = g->cpu->fpu.fxsave + 160;

	store_le32(g->ram + DATA, 0x1d80); /* zero divide unmasked */
	ck_assert_int_eq(EXECUTE(g, LDMXCSR_DATA), NO_EXCEPTION);
	memset(xmm, 0, 32);
	store_le32(xmm, 0x3f800000);
	ck_assert_int_eq(EXECUTE(g, 0xf3, 0x0f, 0x5e, 0xc1), EXC_XM); /* divss xmm0, xmm1 */
	ck_assert_uint_eq(load_le32(xmm), 0x3f800000);
	ck_assert_uint_eq(load_le32(g->cpu->fpu.fxsave + 24), 0x1d84);
	g->cpu->cr4 &= ~CR4_OSXMMEXCPT;
	ck_assert_int_eq(EXECUTE(g, 0xf3, 0x0f, 0x5e, 0xc1), EXC_UD);
	guest_destroy(g);
}
END_TEST

START_TEST(reserved_mxcsr_bits_fault)
{
	struct guest *g = guest_create();

	store_le32(g->ram + DATA, 0x10000);
	ck_assert_int_eq(EXECUTE(g, LDMXCSR_DATA), EXC_GP);
	store_le32(g->ram + DATA + 24, 0x10000);
	ck_assert_int_eq(EXECUTE(g, 0x0f, 0xae, 0x0d, 0, 0x20, 0, 0), EXC_GP); /* fxrstor */
	store_le32(g->ram + DATA + 24, 0x1f80);
	ck_assert_int_eq(EXECUTE(g, 0x0f, 0xae, 0x0d, 0, 0x20, 0, 0), NO_EXCEPTION);
	ck_assert_int_eq(EXECUTE(g, 0x0f, 0xae, 0x05, 8, 0x20, 0, 0), EXC_GP); /* fxsave, misaligned */
	guest_destroy(g);
}
END_TEST

START_TEST(environment_of_protected_mode)
{
	struct guest *g = guest_create();
	const uint8_t *env = g->ram + DATA + 0x100;

	/* fninit; fld dword [0x2000]; fnstenv [0x2100] */
	ck_assert_int_eq(EXECUTE(g, FNINIT, 0xd9, 0x05, 0, 0x20, 0, 0, 0xd9, 0x35, 0, 0x21, 0, 0),
			 NO_EXCEPTION);
	ck_assert_uint_eq(load_le32(env), 0xffff037f);
	ck_assert_uint_eq(load_le32(env + 4), 0xffff3800); /* TOP 7 */
	ck_assert_uint_eq(load_le32(env + 8), 0xffff7fff); /* register 7: zero */
	ck_assert_uint_eq(load_le32(env + 12), CODE + 2);
	ck_assert_uint_eq(load_le32(env + 16), 0x105 << 16 | 8); /* opcode D9 05, CS */
	ck_assert_uint_eq(load_le32(env + 20), DATA);
	ck_assert_uint_eq(load_le16(env + 24), 0x10);
	guest_destroy(g);
}
END_TEST

START_TEST(environment_of_real_mode)
{
	struct guest *g = guest_create();
	const uint8_t *env = g->ram + DATA + 0x100;

	g->cpu->cr0 = CR0_NE;
	for (int i = 0; i < SREG_COUNT; i++)
		g->cpu->seg[i] = (struct segment){ .limit = 0xffff, .attr = 0x93 };
	g->cpu->seg[CS] = (struct segment){ .base = 0x800, .selector = 0x80, .limit = 0xffff, .attr = 0x93 };
	g->cpu->seg[DS] = (struct segment){ .base = 0x1000, .selector = 0x100, .limit = 0xffff, .attr = 0x93 };
	/* fninit; fld dword [0x1000]; fnstenv [0x1100] */
	ck_assert_int_eq(EXECUTE(g, FNINIT, 0xd9, 0x06, 0, 0x10, 0xd9, 0x36, 0, 0x11), NO_EXCEPTION);
	ck_assert_uint_eq(load_le16(env), 0x37f);
	ck_assert_uint_eq(load_le16(env + 2), 0x3800);
	ck_assert_uint_eq(load_le16(env + 4), 0x7fff);
	ck_assert_uint_eq(load_le16(env + 6), CODE + 2);       /* linear address, bits 0-15 */
	ck_assert_uint_eq(load_le16(env + 8), 0x106);          /* bits 16-19, opcode D9 06 */
	ck_assert_uint_eq(load_le16(env + 10), DATA);
	ck_assert_uint_eq(load_le16(env + 12), 0);
	guest_destroy(g);
}
END_TEST

START_TEST(power_on_state)
{
	struct guest *g = guest_create();
	const uint8_t *fx = g->cpu->fpu.fxsave;

	ck_assert_uint_eq(load_le16(fx), 0x40);
	ck_assert_uint_eq(load_le16(fx + 2), 0);
	ck_assert_uint_eq(fx[4], 0xff);
	ck_assert_uint_eq(load_le32(fx + 24), 0x1f80);
	guest_destroy(g);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fpu");
	TCase *t = tcase_create("fpu");
	SRunner *r;
	int failed;

	tcase_add_test(t, cr0_em_and_ts_decide_who_faults);
	tcase_add_test(t, unmasked_exception_waits_for_the_next_instruction);
	tcase_add_test(t, without_ne_the_error_goes_outside);
	tcase_add_test(t, unmasked_simd_exception_changes_only_mxcsr);
	tcase_add_test(t, reserved_mxcsr_bits_fault);
	tcase_add_test(t, environment_of_protected_mode);
	tcase_add_test(t, environment_of_real_mode);
	tcase_add_test(t, power_on_state);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
