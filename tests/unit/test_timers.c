/* 8254, MC146818A and the ACPI timer, against their data sheets. */
#include "tests/unit/fixture.h"
#include "tests/unit/virtual_loop.h"

#include "core/cpu.h"
#include "devices/i8254.h"
#include "devices/mc146818.h"
#include "devices/piix4_pm.h"

static void clock_at(struct fixture *f, int64_t ns)
{
	loop_set_now(f->m.loop, ns);
}

static int64_t pit_ns(int64_t ticks)
{
	return (ticks * NS_PER_S + PIT_HZ - 1) / PIT_HZ;
}

static void pit_init(struct fixture *f)
{
	struct error err = { "" };
	struct irq_line line;

	fixture_init(f);
	line = fixture_line(f, 0);
	ck_assert_ptr_nonnull(i8254_create(&f->m, &line, &err));
	clock_at(f, 0);
}

static void count16(struct fixture *f, unsigned ch, uint8_t control, uint16_t n)
{
	out8(f, 0x43, ch << 6 | control);
	out8(f, 0x40 + ch, n);
	out8(f, 0x40 + ch, n >> 8);
}

static uint16_t latched(struct fixture *f, unsigned ch)
{
	uint16_t v;

	out8(f, 0x43, ch << 6);
	v = in8(f, 0x40 + ch);
	return v | in8(f, 0x40 + ch) << 8;
}

static uint8_t status(struct fixture *f, unsigned ch)
{
	out8(f, 0x43, 0xe0 | 2 << ch);
	return in8(f, 0x40 + ch);
}

/* Mode 0: OUT low until N + 1 clocks after the count was written. */
START_TEST(pit_mode0)
{
	struct fixture f;

	pit_init(&f);
	count16(&f, 0, 0x30, 1000);
	ck_assert_uint_eq(status(&f, 0), 0x70); /* OUT low, null count: not loaded yet */
	clock_at(&f, pit_ns(1));
	ck_assert_uint_eq(status(&f, 0), 0x30);
	clock_at(&f, pit_ns(401));
	ck_assert_uint_eq(latched(&f, 0), 600);
	ck_assert(!f.level[0]);
	clock_at(&f, pit_ns(1000));
	ck_assert(!f.level[0]);
	clock_at(&f, pit_ns(1001));
	ck_assert(f.level[0]);
	ck_assert_uint_eq(status(&f, 0), 0xb0);
	clock_at(&f, pit_ns(1002));
	ck_assert_uint_eq(latched(&f, 0), 0xffff); /* it counts on */
	clock_at(&f, pit_ns(100000));
	ck_assert_uint_eq(f.edges[0], 1);
	fixture_finish(&f);
}
END_TEST

/* "The first byte disables counting, OUT is set low immediately." */
START_TEST(pit_mode0_rewrite)
{
	struct fixture f;

	pit_init(&f);
	count16(&f, 2, 0x30, 100);
	out8(&f, 0x61, 1);
	clock_at(&f, pit_ns(200));
	ck_assert_uint_eq(in8(&f, 0x61) & 0x20, 0x20);
	out8(&f, 0x42, 50);
	ck_assert_uint_eq(in8(&f, 0x61) & 0x20, 0);
	clock_at(&f, pit_ns(400));
	ck_assert_uint_eq(in8(&f, 0x61) & 0x20, 0);
	out8(&f, 0x42, 0);
	clock_at(&f, pit_ns(400 + 51));
	ck_assert_uint_eq(in8(&f, 0x61) & 0x20, 0x20);
	fixture_finish(&f);
}
END_TEST

/* Mode 2: N, N-1, ... 1, N; no drift over a hundred thousand periods. */
START_TEST(pit_mode2)
{
	struct fixture f;
	unsigned before;

	pit_init(&f);
	count16(&f, 0, 0x34, 1193);
	before = f.edges[0];
	clock_at(&f, pit_ns(1));
	ck_assert_uint_eq(latched(&f, 0), 1193);
	clock_at(&f, pit_ns(1193));
	ck_assert_uint_eq(latched(&f, 0), 1);
	ck_assert_uint_eq(status(&f, 0) & 0x80, 0); /* low for the last clock */
	clock_at(&f, pit_ns(1194));
	ck_assert_uint_eq(latched(&f, 0), 1193);
	ck_assert_uint_eq(f.edges[0], before + 1);
	for (int64_t i = 2; i <= 100000; i++)
		clock_at(&f, pit_ns(1 + i * 1193));
	ck_assert_uint_eq(f.edges[0], before + 100000);
	fixture_finish(&f);
}
END_TEST

/* A new count takes effect at the end of the period. */
START_TEST(pit_mode2_new_count)
{
	struct fixture f;

	pit_init(&f);
	count16(&f, 2, 0x34, 1000);
	out8(&f, 0x61, 1);
	clock_at(&f, pit_ns(101));
	ck_assert_uint_eq(latched(&f, 2), 900);
	out8(&f, 0x42, 0xf4);
	out8(&f, 0x42, 0x01); /* 500 */
	ck_assert_uint_eq(status(&f, 2) & 0x40, 0x40);
	clock_at(&f, pit_ns(1000));
	ck_assert_uint_eq(latched(&f, 2), 1);
	clock_at(&f, pit_ns(1001));
	ck_assert_uint_eq(latched(&f, 2), 500);
	ck_assert_uint_eq(status(&f, 2) & 0x40, 0);
	clock_at(&f, pit_ns(1501));
	ck_assert_uint_eq(latched(&f, 2), 500);
	fixture_finish(&f);
}
END_TEST

/* Mode 3: by twos; odd counts are high one clock longer than low. */
START_TEST(pit_mode3)
{
	struct fixture f;

	pit_init(&f);
	out8(&f, 0x61, 1);
	count16(&f, 2, 0x36, 5);
	for (int t = 0; t < 10; t++) {
		static const uint8_t value[] = { 4, 2, 0, 4, 2 };

		clock_at(&f, pit_ns(1 + t));
		ck_assert_uint_eq(latched(&f, 2), value[t % 5]);
		ck_assert_uint_eq(status(&f, 2) >> 7, t % 5 < 3);
	}
	/* The gate: OUT high, nothing counts; reload when it rises. */
	out8(&f, 0x61, 0);
	ck_assert_uint_eq(in8(&f, 0x61) & 0x20, 0x20);
	clock_at(&f, pit_ns(1000));
	out8(&f, 0x61, 1);
	clock_at(&f, pit_ns(1001));
	ck_assert_uint_eq(latched(&f, 2), 4);
	fixture_finish(&f);
}
END_TEST

START_TEST(pit_modes_1_4_5)
{
	struct fixture f;

	pit_init(&f);
	out8(&f, 0x61, 0);
	count16(&f, 2, 0x32, 100); /* one shot: waits for the gate */
	clock_at(&f, pit_ns(50));
	ck_assert_uint_eq(in8(&f, 0x61) & 0x20, 0x20);
	out8(&f, 0x61, 1);
	clock_at(&f, pit_ns(60));
	ck_assert_uint_eq(in8(&f, 0x61) & 0x20, 0);
	clock_at(&f, pit_ns(151));
	ck_assert_uint_eq(in8(&f, 0x61) & 0x20, 0x20);
	count16(&f, 2, 0x38, 100); /* software strobe: one clock low */
	clock_at(&f, pit_ns(251));
	ck_assert_uint_eq(in8(&f, 0x61) & 0x20, 0x20);
	clock_at(&f, pit_ns(252));
	ck_assert_uint_eq(in8(&f, 0x61) & 0x20, 0);
	clock_at(&f, pit_ns(253));
	ck_assert_uint_eq(in8(&f, 0x61) & 0x20, 0x20);
	out8(&f, 0x61, 0);
	count16(&f, 2, 0x3a, 100); /* hardware strobe */
	clock_at(&f, pit_ns(1000));
	out8(&f, 0x61, 1);
	clock_at(&f, pit_ns(1101));
	ck_assert_uint_eq(in8(&f, 0x61) & 0x20, 0);
	fixture_finish(&f);
}
END_TEST

START_TEST(pit_latches_and_bcd)
{
	struct fixture f;

	pit_init(&f);
	count16(&f, 0, 0x35, 0x1000); /* BCD, mode 2 */
	clock_at(&f, pit_ns(1 + 1));
	ck_assert_uint_eq(latched(&f, 0), 0x0999);
	/* A second latch command is ignored until the first was read. */
	out8(&f, 0x43, 0x00);
	clock_at(&f, pit_ns(1 + 500));
	out8(&f, 0x43, 0x00);
	ck_assert_uint_eq(in8(&f, 0x40), 0x99);
	ck_assert_uint_eq(in8(&f, 0x40), 0x09);
	/* Read-back of count and status: the status comes first. */
	out8(&f, 0x43, 0xc2);
	ck_assert_uint_eq(in8(&f, 0x40), 0xb5);
	ck_assert_uint_eq(in8(&f, 0x40), 0x00);
	ck_assert_uint_eq(in8(&f, 0x40), 0x05);
	/* Only the high byte. */
	out8(&f, 0x43, 0x24);
	out8(&f, 0x40, 0x12);
	clock_at(&f, pit_ns(1 + 501));
	ck_assert_uint_eq(in8(&f, 0x40), 0x12);
	fixture_finish(&f);
}
END_TEST

static bool always(void *opaque)
{
	return *(bool *)opaque;
}

/* A guest that was too slow for three ticks gets them afterwards. */
START_TEST(pit_owes_ticks)
{
	struct fixture f;
	struct error err = { "" };
	struct irq_line line;
	struct i8254 *pit;
	bool pending = false;
	unsigned before;

	fixture_init(&f);
	line = fixture_line(&f, 0);
	pit = i8254_create(&f.m, &line, &err);
	i8254_set_pending(pit, always, &pending);
	clock_at(&f, 0);
	count16(&f, 0, 0x34, 10000);
	before = f.edges[0];
	clock_at(&f, pit_ns(10001));
	ck_assert_uint_eq(f.edges[0], before + 1);
	pending = true;
	for (int i = 2; i <= 4; i++)
		clock_at(&f, pit_ns(1 + i * 10000));
	ck_assert_uint_eq(f.edges[0], before + 1);
	pending = false;
	for (int i = 9; i <= 20; i++)
		clock_at(&f, pit_ns(1 + i * 5000));
	ck_assert_uint_eq(f.edges[0], before + 10);
	fixture_finish(&f);
}
END_TEST

START_TEST(pit_shortest_count_does_not_storm)
{
	struct fixture f;

	pit_init(&f);
	out8(&f, 0x43, 0x14);
	out8(&f, 0x40, 2);
	f.edges[0] = 0;
	for (int i = 1; i <= 1000; i++)
		clock_at(&f, i * 1000);
	ck_assert_uint_le(f.edges[0], 60); /* a millisecond, 20 us apart */
	fixture_finish(&f);
}
END_TEST

/* ---- MC146818A ---- */

static struct mc146818 *rtc_init(struct fixture *f, int64_t utc_s)
{
	struct error err = { "" };
	struct mc146818 *rtc;
	struct irq_line line;

	fixture_init(f);
	line = fixture_line(f, 8);
	rtc = mc146818_create(&f->m, &line, &err);
	ck_assert_ptr_nonnull(rtc);
	clock_at(f, 0);
	mc146818_set_time(rtc, utc_s * NS_PER_S);
	return rtc;
}

static uint8_t rd(struct fixture *f, uint8_t reg)
{
	out8(f, 0x70, reg);
	return in8(f, 0x71);
}

static void wr(struct fixture *f, uint8_t reg, uint8_t v)
{
	out8(f, 0x70, reg);
	out8(f, 0x71, v);
}

enum { T_2026 = 1795339753 }; /* Sunday 2026-11-22 09:29:13 */

START_TEST(rtc_formats)
{
	struct fixture f;

	rtc_init(&f, T_2026);
	ck_assert_uint_eq(rd(&f, 0), 0x13);
	ck_assert_uint_eq(rd(&f, 2), 0x29);
	ck_assert_uint_eq(rd(&f, 4), 0x09);
	ck_assert_uint_eq(rd(&f, 6), 1);
	ck_assert_uint_eq(rd(&f, 7), 0x22);
	ck_assert_uint_eq(rd(&f, 8), 0x11);
	ck_assert_uint_eq(rd(&f, 9), 0x26);
	ck_assert_uint_eq(rd(&f, 0x32), 0x20);
	ck_assert_uint_eq(rd(&f, 0x0d), 0x80);
	clock_at(&f, 12 * 3600 * NS_PER_S);
	ck_assert_uint_eq(rd(&f, 4), 0x21);
	wr(&f, 0x0b, 0x00); /* 12 hours, BCD */
	ck_assert_uint_eq(rd(&f, 4), 0x89);
	wr(&f, 0x0b, 0x06); /* 24 hours, binary */
	ck_assert_uint_eq(rd(&f, 4), 21);
	ck_assert_uint_eq(rd(&f, 7), 22);
	fixture_finish(&f);
}
END_TEST

START_TEST(rtc_is_set)
{
	struct fixture f;

	rtc_init(&f, T_2026);
	wr(&f, 0x0b, 0x82); /* SET */
	wr(&f, 0, 0x59);
	wr(&f, 2, 0x59);
	wr(&f, 4, 0x23);
	wr(&f, 6, 7);
	wr(&f, 7, 0x28);
	wr(&f, 8, 0x02);
	wr(&f, 9, 0x00);
	wr(&f, 0x32, 0x20);
	clock_at(&f, 5 * NS_PER_S);
	ck_assert_uint_eq(rd(&f, 0), 0x59); /* stopped */
	ck_assert_uint_eq(rd(&f, 0x0a) & 0x80, 0);
	wr(&f, 0x0b, 0x02);
	clock_at(&f, 6 * NS_PER_S + 1000);
	ck_assert_uint_eq(rd(&f, 0), 0x00);
	ck_assert_uint_eq(rd(&f, 4), 0x00);
	ck_assert_uint_eq(rd(&f, 7), 0x29); /* 2000 was a leap year */
	ck_assert_uint_eq(rd(&f, 6), 1);
	/* Values that are no time at all. */
	for (int reg = 0; reg < 10; reg++)
		wr(&f, reg, 0xff);
	wr(&f, 0x32, 0xff);
	rd(&f, 9);
	fixture_finish(&f);
}
END_TEST

/* "After the divider is released the first update is 500 ms later." */
START_TEST(rtc_divider)
{
	struct fixture f;

	rtc_init(&f, T_2026);
	wr(&f, 0x0a, 0x76);
	clock_at(&f, 10 * NS_PER_S);
	ck_assert_uint_eq(rd(&f, 0), 0x13);
	wr(&f, 0x0a, 0x26);
	clock_at(&f, 10 * NS_PER_S + 490000000);
	ck_assert_uint_eq(rd(&f, 0), 0x13);
	clock_at(&f, 10 * NS_PER_S + 510000000);
	ck_assert_uint_eq(rd(&f, 0), 0x14);
	fixture_finish(&f);
}
END_TEST

START_TEST(rtc_update_in_progress)
{
	struct fixture f;

	rtc_init(&f, T_2026);
	clock_at(&f, 500000000);
	ck_assert_uint_eq(rd(&f, 0x0a), 0x26);
	clock_at(&f, 999000000);
	ck_assert_uint_eq(rd(&f, 0x0a), 0xa6);
	clock_at(&f, 1000000000);
	ck_assert_uint_eq(rd(&f, 0x0a), 0x26);
	fixture_finish(&f);
}
END_TEST

START_TEST(rtc_interrupts)
{
	struct fixture f;

	rtc_init(&f, T_2026);
	rd(&f, 0x0c);
	wr(&f, 0x0b, 0x12); /* update ended */
	clock_at(&f, 999999000);
	ck_assert(!f.level[8]);
	clock_at(&f, NS_PER_S);
	ck_assert(f.level[8]);
	ck_assert_uint_eq(rd(&f, 0x0c) & 0x90, 0x90);
	ck_assert(!f.level[8]);
	wr(&f, 0x0b, 0x22); /* alarm at any hour, 29 minutes, 16 seconds */
	wr(&f, 1, 0x16);
	wr(&f, 3, 0x29);
	wr(&f, 5, 0xc0);
	clock_at(&f, 2 * NS_PER_S);
	ck_assert(!f.level[8]);
	clock_at(&f, 3 * NS_PER_S);
	ck_assert(f.level[8]);
	ck_assert_uint_eq(rd(&f, 0x0c) & 0xb0, 0xb0);
	wr(&f, 0x0b, 0x42); /* periodic at 1024 Hz */
	for (int i = 1; i <= 1024; i++) {
		clock_at(&f, 3 * NS_PER_S + (i * NS_PER_S + 1023) / 1024);
		ck_assert(f.level[8]);
		ck_assert_uint_eq(rd(&f, 0x0c) & 0xc0, 0xc0);
	}
	wr(&f, 0x0b, 0x02);
	clock_at(&f, 5 * NS_PER_S);
	ck_assert(!f.level[8]);
	ck_assert_uint_eq(rd(&f, 0x0c), 0x50); /* flags are set all the same */
	fixture_finish(&f);
}
END_TEST

START_TEST(rtc_keeps_memory)
{
	struct fixture f;
	struct mc146818 *rtc = rtc_init(&f, T_2026);

	mc146818_set_cmos(rtc, 0x0f, 5);
	wr(&f, 0x7f, 0xa5);
	wr(&f, 0x8f, 0x0a); /* bit 7 is the NMI mask */
	f.m.devices->ops->reset(f.m.devices);
	ck_assert_uint_eq(rd(&f, 0x0f), 0x0a);
	ck_assert_uint_eq(mc146818_cmos(rtc, 0x7f), 0xa5);
	wr(&f, 0x0d, 0);
	ck_assert_uint_eq(rd(&f, 0x0d), 0x80);
	fixture_finish(&f);
}
END_TEST

/* ---- PIIX4 power management ---- */

enum { PM = 0x600 };

static struct pci_device *pm_init(struct fixture *f)
{
	struct error err = { "" };
	struct pci_bus *bus;
	struct pci_device *pm;
	struct irq_line line;

	fixture_init(f);
	line = fixture_line(f, 9);
	bus = pci_bus_create(&f->m, &err);
	pm = piix4_pm_create(&f->m, bus, &line, 0xafe0, &err);
	ck_assert_ptr_nonnull(pm);
	clock_at(f, 0);
	ck_assert_uint_eq(ioport_read(f->m.io, PM + 8, 4), 0xffffffff); /* not decoded yet */
	pci_config_write(bus, PCI_DEVFN(1, 3), 0x40, PM | 1, 4);
	pci_config_write(bus, PCI_DEVFN(1, 3), 0x80, 1, 1);
	ck_assert_uint_eq(pci_config_read(bus, PCI_DEVFN(1, 3), 0x58, 4), 1u << 25);
	return pm;
}

START_TEST(pm_timer)
{
	struct fixture f;

	pm_init(&f);
	clock_at(&f, NS_PER_S);
	ck_assert_uint_eq(ioport_read(f.m.io, PM + 8, 4), 3579545);
	clock_at(&f, 10 * NS_PER_S);
	ck_assert_uint_eq(ioport_read(f.m.io, PM + 8, 4), 35795450 & 0xffffff);
	ck_assert_uint_eq(ioport_read(f.m.io, PM + 0, 2) & 1, 1); /* bit 23 has changed */
	ioport_write(f.m.io, PM + 0, 1, 2);
	ck_assert_uint_eq(ioport_read(f.m.io, PM + 0, 2) & 1, 0);
	out8(&f, 0xb2, 0xf1); /* SCI_EN */
	ck_assert_uint_eq(ioport_read(f.m.io, PM + 4, 2), 1);
	ioport_write(f.m.io, PM + 2, 1, 2);
	ck_assert(!f.level[9]);
	clock_at(&f, 11 * NS_PER_S); /* half periods are 2.343 s */
	ck_assert(!f.level[9]);
	clock_at(&f, 11717986759);
	ck_assert(f.level[9]);
	ioport_write(f.m.io, PM + 0, 1, 2);
	ck_assert(!f.level[9]);
	fixture_finish(&f);
}
END_TEST

START_TEST(pm_power_button_and_off)
{
	struct fixture f;
	struct cpu *cpu = calloc(1, sizeof(*cpu));
	struct pci_device *pm = pm_init(&f);

	f.m.cpu = cpu;
	out8(&f, 0xb2, 0xf1);
	ioport_write(f.m.io, PM + 2, 0x100, 2);
	piix4_pm_power_button(pm);
	ck_assert(f.level[9]);
	out8(&f, PM + 1, 0x01);
	ck_assert(!f.level[9]);
	out8(&f, 0xb2, 0xf0);
	ck_assert_uint_eq(ioport_read(f.m.io, PM + 4, 2), 0);
	ioport_write(f.m.io, PM + 4, 0x2401, 2); /* a sleep type there is not: awake at once */
	ck_assert_uint_eq(ioport_read(f.m.io, PM, 2) & 0x8000, 0x8000);
	ck_assert_int_eq(f.m.end, MACHINE_RUNNING);
	ioport_write(f.m.io, PM + 4, 0x2001, 2);
	ck_assert_int_eq(f.m.end, MACHINE_POWEROFF);
	ck_assert_int_eq(f.m.exit_code, 0);
	fixture_finish(&f);
	free(cpu);
}
END_TEST

static void add(TCase *t)
{
	tcase_add_test(t, pit_mode0);
	tcase_add_test(t, pit_mode0_rewrite);
	tcase_add_test(t, pit_mode2);
	tcase_add_test(t, pit_mode2_new_count);
	tcase_add_test(t, pit_mode3);
	tcase_add_test(t, pit_modes_1_4_5);
	tcase_add_test(t, pit_latches_and_bcd);
	tcase_add_test(t, pit_owes_ticks);
	tcase_add_test(t, pit_shortest_count_does_not_storm);
	tcase_add_test(t, rtc_formats);
	tcase_add_test(t, rtc_is_set);
	tcase_add_test(t, rtc_divider);
	tcase_add_test(t, rtc_update_in_progress);
	tcase_add_test(t, rtc_interrupts);
	tcase_add_test(t, rtc_keeps_memory);
	tcase_add_test(t, pm_timer);
	tcase_add_test(t, pm_power_button_and_off);
}

int main(void)
{
	return fixture_main("timers", add);
}
