/* Keyboard controller, keyboard and mouse, as drivers and BIOSes talk to them. */
#include "tests/unit/fixture.h"

#include <linux/input-event-codes.h>

#include "devices/i8042.h"

enum { DATA = 0x60, CMD = 0x64, OBF = 0x01, AUX = 0x20 };

struct kbc {
	struct fixture f;
	struct device *dev;
};

static void kbc_init(struct kbc *k)
{
	struct irq_line irq1, irq12;

	fixture_init(&k->f);
	irq1 = fixture_line(&k->f, 1);
	irq12 = fixture_line(&k->f, 12);
	k->dev = i8042_create(&k->f.m, &irq1, &irq12, NULL);
	ck_assert_ptr_nonnull(k->dev);
}

/* Wait for a byte as a driver does; -1 when none comes. */
static int get(struct kbc *k)
{
	int64_t until = loop_now(k->f.m.loop) + 20000000;

	while (!(in8(&k->f, CMD) & OBF)) {
		/* On a busy host this thread may have been away all that time. */
		bool late = loop_now(k->f.m.loop) > until;

		loop_run(k->f.m.loop);
		if (late && !(in8(&k->f, CMD) & OBF))
			return -1;
	}
	return in8(&k->f, DATA);
}

static void cmd(struct kbc *k, uint8_t c) { out8(&k->f, CMD, c); }
static void data(struct kbc *k, uint8_t d) { out8(&k->f, DATA, d); }
static void aux(struct kbc *k, uint8_t d) { cmd(k, 0xd4); data(k, d); }

static void set_mode(struct kbc *k, uint8_t mode)
{
	cmd(k, 0x60);
	data(k, mode);
}

#define expect(k, ...) do { \
	const int want_[] = { __VA_ARGS__ }; \
	for (size_t i_ = 0; i_ < ARRAY_SIZE(want_); i_++) { \
		int got_ = get(k); \
		ck_assert_msg(got_ == want_[i_], "byte %zu: got %x, want %x", i_, got_, want_[i_]); \
	} \
} while (0)
#define expect_nothing(k) ck_assert_int_eq(get(k), -1)

START_TEST(controller_tests_and_ports)
{
	struct kbc k;

	kbc_init(&k);
	ck_assert_uint_eq(in8(&k.f, CMD) & OBF, 0);
	cmd(&k, 0xaa);
	ck_assert_uint_eq(in8(&k.f, CMD) & 0x0d, 0x0d); /* full, system flag, last was a command */
	expect(&k, 0x55);
	cmd(&k, 0xab);
	expect(&k, 0x00);
	cmd(&k, 0xa9);
	expect(&k, 0x00);
	cmd(&k, 0xa4);
	expect(&k, 0xf1);
	cmd(&k, 0xc0);
	expect(&k, 0xa0);
	ck_assert_uint_eq(k.f.edges[1], 0);
	fixture_finish(&k.f);
}
END_TEST

START_TEST(command_byte_and_ram)
{
	struct kbc k;

	kbc_init(&k);
	for (unsigned v = 0; v < 256; v += 17) {
		set_mode(&k, v);
		ck_assert_uint_eq(in8(&k.f, CMD) & 0x04, v & 4);
		cmd(&k, 0x20);
		expect(&k, (int)v);
	}
	cmd(&k, 0x7f);
	data(&k, 0x42);
	cmd(&k, 0x3f);
	expect(&k, 0x42);
	set_mode(&k, 0x00);
	cmd(&k, 0xad);
	cmd(&k, 0x20);
	expect(&k, 0x10);
	cmd(&k, 0xa7);
	cmd(&k, 0x20);
	expect(&k, 0x30);
	cmd(&k, 0xae);
	cmd(&k, 0xa8);
	cmd(&k, 0x20);
	expect(&k, 0x00);
	fixture_finish(&k.f);
}
END_TEST

START_TEST(a20_and_reset)
{
	struct kbc k;

	kbc_init(&k);
	memory_set_a20(k.f.m.memory, false);
	cmd(&k, 0xd0);
	expect(&k, 0xc1);
	cmd(&k, 0xd1);
	data(&k, 0xdf);
	ck_assert(memory_a20(k.f.m.memory));
	cmd(&k, 0xd1);
	data(&k, 0xdd);
	ck_assert(!memory_a20(k.f.m.memory));
	cmd(&k, 0xdf);
	ck_assert(memory_a20(k.f.m.memory));
	cmd(&k, 0xdd);
	ck_assert(!memory_a20(k.f.m.memory));
	fixture_finish(&k.f);
}
END_TEST

START_TEST(keyboard_commands)
{
	struct kbc k;

	kbc_init(&k);
	set_mode(&k, 0x00); /* no translation */
	data(&k, 0xff);
	expect(&k, 0xfa, 0xaa);
	data(&k, 0xf2);
	expect(&k, 0xfa, 0xab, 0x83);
	data(&k, 0xee);
	expect(&k, 0xee);
	data(&k, 0xfe);
	expect(&k, 0xee);
	data(&k, 0xed);
	expect(&k, 0xfa);
	data(&k, 0x02);
	expect(&k, 0xfa);
	data(&k, 0xf0);
	expect(&k, 0xfa);
	data(&k, 0x00);
	expect(&k, 0xfa, 0x02);
	data(&k, 0xf3);
	expect(&k, 0xfa);
	data(&k, 0x00);
	expect(&k, 0xfa);
	data(&k, 0xe1);
	expect(&k, 0xfe);
	/* A command instead of a parameter is a command. */
	data(&k, 0xed);
	expect(&k, 0xfa);
	data(&k, 0xf4);
	expect(&k, 0xfa);
	expect_nothing(&k);
	ck_assert_uint_eq(k.f.edges[1], 0);
	fixture_finish(&k.f);
}
END_TEST

START_TEST(translated_identity)
{
	struct kbc k;

	kbc_init(&k);
	set_mode(&k, 0x41);
	data(&k, 0xf2);
	expect(&k, 0xfa, 0xab, 0x41);
	ck_assert_uint_eq(k.f.edges[1], 3);
	fixture_finish(&k.f);
}
END_TEST

static void press(struct kbc *k, unsigned key)
{
	ck_assert(i8042_key(k->dev, key, true));
	ck_assert(i8042_key(k->dev, key, false));
}

START_TEST(scan_codes)
{
	struct kbc k;

	kbc_init(&k);
	set_mode(&k, 0x41); /* set 1 through translation */
	press(&k, KEY_A);
	expect(&k, 0x1e, 0x9e);
	press(&k, KEY_F7);
	expect(&k, 0x41, 0xc1);
	press(&k, KEY_UP);
	expect(&k, 0xe0, 0x48, 0xe0, 0xc8);
	press(&k, KEY_KPENTER);
	expect(&k, 0xe0, 0x1c, 0xe0, 0x9c);
	press(&k, KEY_102ND);
	expect(&k, 0x56, 0xd6);
	press(&k, KEY_SYSRQ);
	expect(&k, 0xe0, 0x2a, 0xe0, 0x37, 0xe0, 0xb7, 0xe0, 0xaa);
	press(&k, KEY_PAUSE);
	expect(&k, 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
	set_mode(&k, 0x01); /* set 2 */
	press(&k, KEY_A);
	expect(&k, 0x1c, 0xf0, 0x1c);
	press(&k, KEY_DELETE);
	expect(&k, 0xe0, 0x71, 0xe0, 0xf0, 0x71);
	data(&k, 0xf0);
	expect(&k, 0xfa);
	data(&k, 0x01); /* the keyboard's own set 1 */
	expect(&k, 0xfa);
	press(&k, KEY_A);
	expect(&k, 0x1e, 0x9e);
	data(&k, 0xf0);
	expect(&k, 0xfa);
	data(&k, 0x03);
	expect(&k, 0xfa);
	press(&k, KEY_A); /* set 3: no release unless asked for */
	press(&k, KEY_LEFTCTRL);
	expect(&k, 0x1c, 0x11, 0xf0, 0x11);
	data(&k, 0xf8);
	expect(&k, 0xfa);
	press(&k, KEY_A);
	expect(&k, 0x1c, 0xf0, 0x1c);
	expect_nothing(&k);
	press(&k, 0x2ff); /* no such key */
	expect_nothing(&k);
	fixture_finish(&k.f);
}
END_TEST

/* The keys of the main block, against set 1 as every PC programmer knows it:
 * there the code is the Linux key code for the 83 keys of the first PC/AT. */
START_TEST(set1_is_the_key_code_for_the_old_keys)
{
	struct kbc k;

	kbc_init(&k);
	for (unsigned key = KEY_ESC; key <= KEY_KPDOT; key++) {
		press(&k, key);
		expect(&k, (int)key, (int)key | 0x80);
	}
	press(&k, KEY_F11);
	expect(&k, 0x57, 0xd7);
	press(&k, KEY_F12);
	expect(&k, 0x58, 0xd8);
	fixture_finish(&k.f);
}
END_TEST

START_TEST(data_can_be_read_twice)
{
	struct kbc k;

	kbc_init(&k);
	press(&k, KEY_A);
	ck_assert_uint_eq(in8(&k.f, DATA), 0x1e);
	ck_assert_uint_eq(in8(&k.f, DATA), 0x1e); /* a chained handler's second read */
	ck_assert(!k.f.level[1]);
	expect(&k, 0x9e);
	ck_assert_uint_eq(k.f.edges[1], 2);
	fixture_finish(&k.f);
}
END_TEST

START_TEST(full_buffer_loses_whole_keys)
{
	struct kbc k;
	unsigned taken = 0;

	kbc_init(&k);
	for (unsigned i = 0; i < 40; i++)
		taken += i8042_key(k.dev, KEY_UP, i % 2 == 0);
	ck_assert_uint_lt(taken, 12);
	for (unsigned i = 0; i < taken; i++) {
		ck_assert_int_eq(get(&k), 0xe0);
		ck_assert_int_eq(get(&k) & 0x7f, 0x48);
	}
	expect_nothing(&k);
	fixture_finish(&k.f);
}
END_TEST

START_TEST(disabled_keyboard_keeps_its_keys)
{
	struct kbc k;

	kbc_init(&k);
	cmd(&k, 0xad);
	press(&k, KEY_A);
	expect_nothing(&k);
	/* An answer of the controller does not lose the key in its way. */
	cmd(&k, 0xae);
	ck_assert_uint_eq(in8(&k.f, CMD) & OBF, OBF);
	cmd(&k, 0x20);
	expect(&k, 0x45, 0x1e, 0x9e);
	fixture_finish(&k.f);
}
END_TEST

START_TEST(held_key_repeats)
{
	struct kbc k;

	kbc_init(&k);
	data(&k, 0xf3);
	expect(&k, 0xfa);
	data(&k, 0x00); /* 250 ms, 30 a second */
	expect(&k, 0xfa);
	i8042_key(k.dev, KEY_B, true);
	expect(&k, 0x30);
	expect_nothing(&k);
	fixture_run_ns(&k.f, 250000000);
	expect(&k, 0x30);
	fixture_run_ns(&k.f, 40000000);
	expect(&k, 0x30);
	i8042_key(k.dev, KEY_B, false);
	while (get(&k) != 0xb0)
		;
	fixture_run_ns(&k.f, 50000000);
	expect_nothing(&k);
	fixture_finish(&k.f);
}
END_TEST

START_TEST(aux_loop)
{
	struct kbc k;

	kbc_init(&k);
	set_mode(&k, 0x47);
	cmd(&k, 0xd3); /* how Linux looks for IRQ 12 */
	data(&k, 0x5a);
	ck_assert(k.f.level[12]);
	ck_assert_uint_eq(in8(&k.f, CMD) & (OBF | AUX), OBF | AUX);
	expect(&k, 0x5a);
	ck_assert(!k.f.level[12]);
	cmd(&k, 0xd2);
	data(&k, 0xa5);
	ck_assert(k.f.level[1]);
	ck_assert_uint_eq(in8(&k.f, CMD) & (OBF | AUX), OBF);
	expect(&k, 0xa5);
	fixture_finish(&k.f);
}
END_TEST

START_TEST(mouse_commands)
{
	struct kbc k;

	kbc_init(&k);
	set_mode(&k, 0x47);
	aux(&k, 0xff);
	ck_assert_uint_eq(in8(&k.f, CMD) & AUX, AUX);
	expect(&k, 0xfa, 0xaa, 0x00);
	aux(&k, 0xf2);
	expect(&k, 0xfa, 0x00);
	aux(&k, 0xe8);
	expect(&k, 0xfa);
	aux(&k, 0x03);
	expect(&k, 0xfa);
	aux(&k, 0xe7);
	expect(&k, 0xfa);
	aux(&k, 0xf4);
	expect(&k, 0xfa);
	aux(&k, 0xe9);
	expect(&k, 0xfa, 0x30, 0x03, 100);
	aux(&k, 0xe8);
	expect(&k, 0xfa);
	aux(&k, 0x04);
	expect(&k, 0xfe);
	aux(&k, 0x04);
	expect(&k, 0xfc);
	aux(&k, 0xf6);
	expect(&k, 0xfa);
	aux(&k, 0xee);
	expect(&k, 0xfa);
	aux(&k, 0x77);
	expect(&k, 0x77);
	aux(&k, 0xec);
	expect(&k, 0xfa);
	ck_assert_uint_eq(k.f.edges[1], 0);
	fixture_finish(&k.f);
}
END_TEST

static void mouse_rates(struct kbc *k, uint8_t a, uint8_t b, uint8_t c)
{
	const uint8_t rate[] = { a, b, c };

	for (unsigned i = 0; i < 3; i++) {
		aux(k, 0xf3);
		expect(k, 0xfa);
		aux(k, rate[i]);
		expect(k, 0xfa);
	}
}

START_TEST(mouse_reports)
{
	struct kbc k;

	kbc_init(&k);
	set_mode(&k, 0x47);
	i8042_mouse(k.dev, 5, 5, 0, 0); /* not enabled: nothing */
	expect_nothing(&k);
	aux(&k, 0xf4);
	expect(&k, 0xfa);
	i8042_mouse(k.dev, 3, 2, 0, 0);
	expect(&k, 0x28, 3, 0xfe); /* down is negative */
	i8042_mouse(k.dev, -4, -1, 0, I8042_LEFT);
	expect(&k, 0x19, 0xfc, 1);
	i8042_mouse(k.dev, 300, 0, 0, I8042_LEFT | I8042_MIDDLE);
	expect(&k, 0x0d, 127, 0, 0x0d, 127, 0, 0x0d, 46, 0);
	expect_nothing(&k);
	fixture_finish(&k.f);
}
END_TEST

START_TEST(intellimouse)
{
	struct kbc k;

	kbc_init(&k);
	set_mode(&k, 0x47);
	mouse_rates(&k, 200, 100, 80);
	aux(&k, 0xf2);
	expect(&k, 0xfa, 3);
	aux(&k, 0xf4);
	expect(&k, 0xfa);
	i8042_mouse(k.dev, 1, 0, -1, 0);
	expect(&k, 0x08, 1, 0, 0xff);
	mouse_rates(&k, 200, 200, 80);
	aux(&k, 0xf2);
	expect(&k, 0xfa, 4);
	i8042_mouse(k.dev, 0, 0, 1, 8);
	expect(&k, 0x08, 0, 0, 0x11);
	aux(&k, 0xff);
	expect(&k, 0xfa, 0xaa, 0);
	fixture_finish(&k.f);
}
END_TEST

START_TEST(any_value_at_any_time)
{
	struct kbc k;

	kbc_init(&k);
	srand(3);
	for (unsigned i = 0; i < 300000; i++) {
		switch (rand() % 6) {
		case 0:
			cmd(&k, rand());
			break;
		case 1:
			data(&k, rand());
			break;
		case 2:
			i8042_key(k.dev, rand() % 300, rand() & 1);
			break;
		case 3:
			i8042_mouse(k.dev, rand(), rand(), rand(), rand());
			break;
		default:
			in8(&k.f, rand() & 1 ? DATA : CMD);
		}
		if (i % 64 == 0)
			loop_run(k.f.m.loop);
	}
	fixture_finish(&k.f);
}
END_TEST

static void add(TCase *t)
{
	tcase_add_test(t, controller_tests_and_ports);
	tcase_add_test(t, command_byte_and_ram);
	tcase_add_test(t, a20_and_reset);
	tcase_add_test(t, keyboard_commands);
	tcase_add_test(t, translated_identity);
	tcase_add_test(t, scan_codes);
	tcase_add_test(t, set1_is_the_key_code_for_the_old_keys);
	tcase_add_test(t, data_can_be_read_twice);
	tcase_add_test(t, full_buffer_loses_whole_keys);
	tcase_add_test(t, disabled_keyboard_keeps_its_keys);
	tcase_add_test(t, held_key_repeats);
	tcase_add_test(t, aux_loop);
	tcase_add_test(t, mouse_commands);
	tcase_add_test(t, mouse_reports);
	tcase_add_test(t, intellimouse);
	tcase_add_test(t, any_value_at_any_time);
}

int main(void)
{
	return fixture_main("i8042", add);
}
