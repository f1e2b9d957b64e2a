/* What a restored machine has for itself: the VM generation ID with its ACPI device and
 * event, the PROM of a card that changes, the clock that is put right.
 *
 * Expected AML is written out by hand from ACPI 3.0, section 18.2; the requirements are
 * those of Microsoft's "Virtual Machine Generation ID" (August 2012).
 */
#include "tests/unit/fixture.h"

#include <time.h>

#include "core/cpu.h"
#include "devices/board.h"
#include "devices/dp8390.h"
#include "devices/mc146818.h"
#include "devices/vmgenid.h"

enum { GPE = BOARD_GPE_BASE, ACPI_ENABLE = 0xf1 };

static struct machine *new_machine(void)
{
	struct machine_config cfg = { .ram_size = 16 * MIB, .engine = "interp" };
	struct error err = { "" };
	struct machine *m = machine_create(&cfg, &err);

	ck_assert_msg(m != NULL, "%s", err.text);
	return m;
}

static struct board *new_board(struct machine *m, bool no_acpi)
{
	struct board_config cfg = { .no_acpi = no_acpi };
	struct error err = { "" };
	struct board *b = board_create(m, &cfg, &err);

	ck_assert_msg(b != NULL, "%s", err.text);
	return b;
}

static void read_id(struct machine *m, uint8_t id[16])
{
	memory_read_bytes(m->memory, BOARD_GENERATION_ID, id, 16);
}

START_TEST(the_guest_can_read_it_and_not_write_it)
{
	struct machine *m = new_machine();
	uint8_t id[16], again[16];

	new_board(m, false);
	/* 8-byte aligned, and not in what the guest is told is memory. */
	ck_assert_uint_eq(BOARD_GENERATION_ID % 8, 0);
	ck_assert_uint_ge(BOARD_GENERATION_ID, 0xfec00000);
	read_id(m, id);
	ck_assert_uint_eq(id[7] >> 4, 4);  /* a GUID of version 4, little-endian */
	ck_assert_uint_eq(id[8] >> 6, 2);  /* ... and of this variant */
	memory_write(m->memory, BOARD_GENERATION_ID, 0x1122334455667788, 8);
	read_id(m, again);
	ck_assert_mem_eq(id, again, 16);
	machine_destroy(m);
}
END_TEST

START_TEST(it_differs_from_machine_to_machine)
{
	struct machine *m[2] = { new_machine(), new_machine() };
	uint8_t id[2][16];

	for (int i = 0; i < 2; i++) {
		new_board(m[i], false);
		read_id(m[i], id[i]);
	}
	ck_assert_mem_ne(id[0], id[1], 16);
	for (int i = 0; i < 2; i++)
		machine_destroy(m[i]);
}
END_TEST

START_TEST(a_new_one_raises_gpe_0)
{
	struct machine *m = new_machine();
	struct board *b = new_board(m, false);
	uint8_t before[16], after[16];

	read_id(m, before);
	ck_assert_uint_eq(ioport_read(m->io, GPE, 1) & 1, 0);
	ck_assert(board_new_generation(b));
	read_id(m, after);
	ck_assert_mem_ne(before, after, 16);
	ck_assert_uint_eq(ioport_read(m->io, GPE, 1) & 1, 1);
	/* Written one: cleared, and an event once more is seen again. */
	ioport_write(m->io, GPE, 1, 1);
	ck_assert_uint_eq(ioport_read(m->io, GPE, 1) & 1, 0);
	ck_assert(board_new_generation(b));
	ck_assert_uint_eq(ioport_read(m->io, GPE, 1) & 1, 1);
	machine_destroy(m);
}
END_TEST

START_TEST(the_event_is_an_interrupt_where_it_is_enabled)
{
	struct machine *m = new_machine();
	struct board *b = new_board(m, false);

	/* The PIC's request register (OCW3 0x0a) of the second 8259: bit 1 is IRQ 9. */
	ioport_write(m->io, 0xb2, ACPI_ENABLE, 1);
	ioport_write(m->io, 0xa0, 0x0a, 1);
	ck_assert(board_new_generation(b));
	ck_assert_uint_eq(ioport_read(m->io, 0xa0, 1) & 2, 0);
	ioport_write(m->io, GPE + 2, 1, 1);
	ioport_write(m->io, 0xa0, 0x0a, 1);
	ck_assert_uint_eq(ioport_read(m->io, 0xa0, 1) & 2, 2);
	machine_destroy(m);
}
END_TEST

START_TEST(a_reset_keeps_it)
{
	struct machine *m = new_machine();
	uint8_t before[16], after[16];

	new_board(m, false);
	read_id(m, before);
	for (struct device *d = m->devices; d; d = d->next) {
		if (d->ops->reset)
			d->ops->reset(d);
	}
	read_id(m, after);
	ck_assert_mem_eq(before, after, 16);
	machine_destroy(m);
}
END_TEST

START_TEST(without_acpi_there_is_none)
{
	struct machine *m = new_machine();
	struct board *b = new_board(m, true);

	ck_assert(board_new_generation(b));
	ck_assert_uint_eq(memory_read(m->memory, BOARD_GENERATION_ID, 8), UINT64_MAX);
	ck_assert_uint_eq(ioport_read(m->io, GPE, 1) & 1, 0);
	machine_destroy(m);
}
END_TEST

static bool contains(struct machine *m, const void *bytes, size_t len)
{
	static const uint64_t first = 0xe0000, size = 0x20000;
	uint8_t *area = malloc(size);
	bool found;

	memory_read_bytes(m->memory, first, area, size);
	found = memmem(area, size, bytes, len) != NULL;
	free(area);
	return found;
}

START_TEST(acpi_names_it)
{
	static const uint8_t cid[] = "\x08_CID\x12\x1c\x02\x0dVM_Gen_Counter\0\x0dVMGENCTR";
	static const uint8_t addr[] = {
		0x08, 'A', 'D', 'D', 'R', 0x12, 0x08, 0x02, 0x0c, 0x00, 0x00, 0xf0, 0xfe, 0x00,
	};
	/* Scope (\_GPE) { Method (_E00, 0) { Notify (\_SB.VGEN, 0x80) } } */
	static const uint8_t event[] =
		"\x10\x1a\\_GPE\x14\x13_E00\x00\x86\\\x2e_SB_VGEN\x0a\x80";
	struct machine *m = new_machine();
	struct board *b = new_board(m, false);

	for (unsigned reg = 0x59; reg <= 0x5f; reg++)
		pci_config_write(board_pci(b), 0, reg, 0x33, 1);
	board_acpi_install(b);
	ck_assert(contains(m, cid, sizeof(cid)));
	ck_assert(contains(m, addr, sizeof(addr)));
	ck_assert(contains(m, event, sizeof(event) - 1));
	machine_destroy(m);
}
END_TEST

/* ---- --mac new ---- */

static void no_irq(void *opaque, bool level)
{
}

START_TEST(another_prom_leaves_par_alone)
{
	static const uint8_t old[] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
	static const uint8_t new[] = { 0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee };
	static const struct net_nic_ops ops = { .name = "test" };
	struct dp8390 *c = calloc(1, sizeof(*c));
	struct fixture f;

	fixture_init(&f);
	dp8390_init(c, DP8390_RTL8029, &ops, old, f.m.loop, no_irq, NULL);
	dp8390_power_on(c);
	dp8390_set_prom(&c->nic, new);
	ck_assert_mem_eq(c->par, old, 6);
	/* As drivers read it: remote read of 12 bytes at 0, each one twice (NE2000). */
	dp8390_write(c, 0x00, 0x22, 1);
	dp8390_write(c, 0x0e, 0x48, 1);
	dp8390_write(c, 0x08, 0, 1);
	dp8390_write(c, 0x09, 0, 1);
	dp8390_write(c, 0x0a, 12, 1);
	dp8390_write(c, 0x0b, 0, 1);
	dp8390_write(c, 0x00, 0x0a, 1);
	for (int i = 0; i < 12; i++)
		ck_assert_uint_eq(dp8390_read(c, DP8390_DATA, 1), new[i / 2]);
	ck_assert_uint_eq(c->prom[0x1c], 0x57);
	/* The board's reset loads PAR from it, as power does. */
	dp8390_power_on(c);
	ck_assert_mem_eq(c->par, new, 6);
	dp8390_finish(c);
	free(c);
	fixture_finish(&f);
}
END_TEST

/* ---- --clock host ---- */

static int64_t rtc_seconds(struct machine *m)
{
	static const uint8_t reg[] = { 0x32, 9, 8, 7, 4, 2, 0 };
	unsigned v[7];

	for (int i = 0; i < 7; i++) {
		uint8_t bcd;

		ioport_write(m->io, 0x70, reg[i], 1);
		bcd = ioport_read(m->io, 0x71, 1);
		v[i] = (bcd >> 4) * 10 + (bcd & 15);
	}
	struct tm tm = {
		.tm_year = v[0] * 100 + v[1] - 1900, .tm_mon = v[2] - 1, .tm_mday = v[3],
		.tm_hour = v[4], .tm_min = v[5], .tm_sec = v[6],
	};
	return timegm(&tm);
}

static void set_rtc(struct machine *m, uint8_t reg, unsigned v)
{
	ioport_write(m->io, 0x70, reg, 1);
	ioport_write(m->io, 0x71, v / 10 << 4 | v % 10, 1);
}

/* A machine whose guest set its RTC to @off seconds from UTC, saved @ago seconds ago. */
static int64_t off_after_restore(int64_t off, int64_t ago)
{
	struct machine *m = new_machine();
	struct board *b = new_board(m, false);
	time_t now = time(NULL), then = now + off - ago;
	struct tm tm;
	int64_t result;

	gmtime_r(&then, &tm);
	set_rtc(m, 0x0b, 82); /* SET and 24 hours: 0x82 */
	set_rtc(m, 0x32, (tm.tm_year + 1900) / 100);
	set_rtc(m, 9, tm.tm_year % 100);
	set_rtc(m, 8, tm.tm_mon + 1);
	set_rtc(m, 7, tm.tm_mday);
	set_rtc(m, 4, tm.tm_hour);
	set_rtc(m, 2, tm.tm_min);
	set_rtc(m, 0, tm.tm_sec);
	set_rtc(m, 0x0b, 2);
	board_clock_from_host(b, (now - ago) * 1000000000ll);
	result = rtc_seconds(m) - now;
	machine_destroy(m);
	return result;
}

START_TEST(the_clock_is_the_hosts)
{
	static const struct { int64_t off, ago, want; } row[] = {
		{ 0, 0, 0 },
		{ 0, 86400 * 400, 0 },              /* slept for a year */
		{ 7200, 86400 * 3, 7200 },          /* keeps local time */
		{ -12600, 3600, -12600 },           /* Newfoundland, half an hour */
		{ 140, 1000, 0 },                   /* had drifted */
		{ 3600 + 140, 1000, 3600 },         /* both */
		{ 86400 * 30, 1000, 0 },            /* was wrong */
		{ -86400 * 3000, 1000, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		int64_t got = off_after_restore(row[i].off, row[i].ago);

		ck_assert_msg(got >= row[i].want - 2 && got <= row[i].want + 2,
			      "row %zu: off by %lld s, not %lld", i, (long long)got,
			      (long long)row[i].want);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("generation");
	TCase *t = tcase_create("generation");
	SRunner *r;
	int failed;

	tcase_add_test(t, the_guest_can_read_it_and_not_write_it);
	tcase_add_test(t, it_differs_from_machine_to_machine);
	tcase_add_test(t, a_new_one_raises_gpe_0);
	tcase_add_test(t, the_event_is_an_interrupt_where_it_is_enabled);
	tcase_add_test(t, a_reset_keeps_it);
	tcase_add_test(t, without_acpi_there_is_none);
	tcase_add_test(t, acpi_names_it);
	tcase_add_test(t, another_prom_leaves_par_alone);
	tcase_add_test(t, the_clock_is_the_hosts);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
