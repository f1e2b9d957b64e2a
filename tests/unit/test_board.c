/* The assembled board: what firmware finds, and a small firmware that runs. */
#include "tests/unit/fixture.h"

#include <endian.h>

#include "core/cpu.h"
#include "devices/board.h"
#include "devices/pci.h"

enum { BIOS_SIZE = 0x10000, RESET_VECTOR = 0xfff0 };

static struct machine *new_machine(uint64_t ram)
{
	struct machine_config cfg = { .ram_size = ram, .engine = "interp" };
	struct error err = { "" };
	struct machine *m = machine_create(&cfg, &err);

	ck_assert_msg(m != NULL, "%s", err.text);
	return m;
}

static struct board *new_board(struct machine *m, struct board_config *cfg)
{
	struct error err = { "" };
	struct board *b = board_create(m, cfg, &err);

	ck_assert_msg(b != NULL, "%s", err.text);
	return b;
}

static uint8_t cmos(struct machine *m, uint8_t reg)
{
	ioport_write(m->io, 0x70, reg, 1);
	return ioport_read(m->io, 0x71, 1);
}

START_TEST(cmos_memory_sizes)
{
	struct board_config cfg = { .boot_order = "dc" };
	struct machine *m = new_machine(64 * MIB);

	new_board(m, &cfg);
	ck_assert_uint_eq(cmos(m, 0x15) | cmos(m, 0x16) << 8, 640);
	ck_assert_uint_eq(cmos(m, 0x17) | cmos(m, 0x18) << 8, 63 * 1024);
	ck_assert_uint_eq(cmos(m, 0x34) | cmos(m, 0x35) << 8, 48 * 16);
	ck_assert_uint_eq(cmos(m, 0x5b) | cmos(m, 0x5c) | cmos(m, 0x5d), 0);
	ck_assert_uint_eq(cmos(m, 0x3d), 0x23);
	ck_assert_uint_eq(cmos(m, 0x38), 0x01);
	ck_assert_uint_eq(cmos(m, 0x14) & 2, 2);
	machine_destroy(m);
}
END_TEST

START_TEST(memory_above_the_hole)
{
	struct board_config cfg = { 0 };
	struct machine *m = new_machine(4 * GIB);
	struct board *b = new_board(m, &cfg);

	ck_assert_uint_eq(board_low_ram(b), BOARD_PCI_HOLE);
	memory_write(m->memory, 4 * GIB, 0x1234, 2);
	ck_assert_uint_eq(memory_read(m->memory, 4 * GIB, 2), 0x1234);
	ck_assert_uint_eq(load_le16(memory_host(m->memory) + BOARD_PCI_HOLE), 0x1234);
	memory_write(m->memory, 4 * GIB + 512 * MIB - 1, 0x56, 1);
	ck_assert_uint_eq(memory_read(m->memory, 4 * GIB + 512 * MIB - 1, 2), 0xff56);
	ck_assert_uint_eq(cmos(m, 0x5b) | cmos(m, 0x5c) << 8 | cmos(m, 0x5d) << 16, 512 * 16);
	machine_destroy(m);
}
END_TEST

START_TEST(errors_leave_disks_to_the_caller)
{
	static const uint8_t bios[1000];
	struct machine *m = new_machine(16 * MIB);
	struct error err = { "" };
	struct board_config cfg = { .bios = bios, .bios_size = sizeof(bios) };

	ck_assert_ptr_null(board_create(m, &cfg, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "multiple of 64 KiB"));
	machine_destroy(m);
	m = new_machine(16 * MIB);
	cfg = (struct board_config){ .boot_order = "x" };
	ck_assert_ptr_null(board_create(m, &cfg, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "-boot x: "));
	machine_destroy(m);
}
END_TEST

START_TEST(acpi_tables_in_the_bios_area)
{
	struct board_config cfg = { 0 };
	struct machine *m = new_machine(16 * MIB);
	struct board *b = new_board(m, &cfg);
	uint8_t sum = 0;

	for (unsigned reg = 0x59; reg <= 0x5f; reg++)
		pci_config_write(board_pci(b), 0, reg, 0x33, 1);
	board_acpi_install(b);
	ck_assert_uint_eq(memory_read(m->memory, board_acpi_rsdp(b), 8), 0x2052545020445352);
	for (unsigned i = 0; i < 20; i++)
		sum += memory_read(m->memory, board_acpi_rsdp(b) + i, 1);
	ck_assert_uint_eq(sum, 0);
	machine_destroy(m);
	cfg = (struct board_config){ .no_acpi = true };
	m = new_machine(16 * MIB);
	b = new_board(m, &cfg);
	ck_assert_uint_eq(board_acpi_rsdp(b), 0);
	machine_destroy(m);
}
END_TEST

/* ---- firmware of a few bytes ---- */

static int run_firmware(const uint8_t *code, size_t len, enum machine_end *end)
{
	uint8_t bios[BIOS_SIZE];
	struct board_config cfg = {
		.bios = bios, .bios_size = sizeof(bios), .debug_exit_port = 0x501, .no_vga = true,
	};
	struct machine *m = new_machine(16 * MIB);
	int code_out;

	memset(bios, 0xf4, sizeof(bios));
	memcpy(bios, code, len);
	memcpy(bios + RESET_VECTOR, "\xea\x00\x00\x00\xf0", 5); /* jmp f000:0000 */
	new_board(m, &cfg);
	*end = machine_run(m);
	code_out = m->exit_code;
	machine_destroy(m);
	return code_out;
}

START_TEST(firmware_runs_and_exits)
{
	static const uint8_t code[] = {
		0xba, 0x01, 0x05,       /* mov dx, 0x501 */
		0xb0, 0x21,             /* mov al, 0x21 */
		0xee,                   /* out dx, al */
		0xf4,
	};
	enum machine_end end;

	ck_assert_int_eq(run_firmware(code, sizeof(code), &end), 0x43);
	ck_assert_int_eq(end, MACHINE_DEBUG_EXIT);
}
END_TEST

/* Five ticks of the 8254, through the 8259 and the local APIC's virtual wire. */
START_TEST(timer_interrupts_arrive)
{
	static const uint8_t code[] = {
		0x31, 0xc0,                         /* 00 xor ax, ax */
		0x8e, 0xd8,                         /* 02 mov ds, ax */
		0x8e, 0xd0,                         /* 04 mov ss, ax */
		0xbc, 0x00, 0x70,                   /* 06 mov sp, 0x7000 */
		0xc7, 0x06, 0x80, 0x00, 0x4a, 0x00, /* 09 mov word [0x80], isr */
		0xc7, 0x06, 0x82, 0x00, 0x00, 0xf0, /* 0f mov word [0x82], 0xf000 */
		0xb0, 0x11, 0xe6, 0x20,             /* 15 ICW1 */
		0xb0, 0x20, 0xe6, 0x21,             /* 19 ICW2: vectors from 0x20 */
		0xb0, 0x04, 0xe6, 0x21,             /* 1d ICW3 */
		0xb0, 0x01, 0xe6, 0x21,             /* 21 ICW4 */
		0xb0, 0xfe, 0xe6, 0x21,             /* 25 only IRQ 0 */
		0xb0, 0x34, 0xe6, 0x43,             /* 29 channel 0, mode 2 */
		0xb0, 0xa9, 0xe6, 0x40,             /* 2d 1193: 1 ms */
		0xb0, 0x04, 0xe6, 0x40,             /* 31 */
		0x31, 0xdb,                         /* 35 xor bx, bx */
		0xfb,                               /* 37 sti */
		0xf4,                               /* 38 hlt */
		0x83, 0xfb, 0x05,                   /* 39 cmp bx, 5 */
		0x72, 0xfa,                         /* 3c jb 38 */
		0x89, 0xd8,                         /* 3e mov ax, bx */
		0xba, 0x01, 0x05,                   /* 40 mov dx, 0x501 */
		0xee,                               /* 43 out dx, al */
		0xf4, 0xeb, 0xfd, 0x90, 0x90, 0x90, /* 44 hlt; jmp */
		0x43,                               /* 4a isr: inc bx */
		0xb0, 0x20, 0xe6, 0x20,             /* 4b EOI */
		0xcf,                               /* 4f iret */
	};
	enum machine_end end;

	ck_assert_int_eq(run_firmware(code, sizeof(code), &end), 11);
	ck_assert_int_eq(end, MACHINE_DEBUG_EXIT);
}
END_TEST

/* Soft off by the PIIX4, as ACPI does it. */
START_TEST(guest_powers_off)
{
	static const uint8_t code[] = {
		0x66, 0xb8, 0x40, 0x0b, 0x00, 0x80, /* mov eax, 0x80000b40: 1.3, PMBA */
		0xba, 0xf8, 0x0c, 0x66, 0xef,       /* mov dx, 0xcf8; out dx, eax */
		0x66, 0xb8, 0x01, 0x06, 0x00, 0x00, /* mov eax, 0x601 */
		0xba, 0xfc, 0x0c, 0x66, 0xef,
		0x66, 0xb8, 0x80, 0x0b, 0x00, 0x80, /* PMREGMISC */
		0xba, 0xf8, 0x0c, 0x66, 0xef,
		0xb0, 0x01, 0xba, 0xfc, 0x0c, 0xee,
		0xb8, 0x00, 0x20,                   /* mov ax, SLP_EN */
		0xba, 0x04, 0x06, 0xef,             /* mov dx, 0x604; out dx, ax */
		0xf4,
	};
	enum machine_end end;

	ck_assert_int_eq(run_firmware(code, sizeof(code), &end), 0);
	ck_assert_int_eq(end, MACHINE_POWEROFF);
}
END_TEST

static void add(TCase *t)
{
	tcase_add_test(t, cmos_memory_sizes);
	tcase_add_test(t, memory_above_the_hole);
	tcase_add_test(t, errors_leave_disks_to_the_caller);
	tcase_add_test(t, acpi_tables_in_the_bios_area);
	tcase_add_test(t, firmware_runs_and_exits);
	tcase_add_test(t, timer_interrupts_arrive);
	tcase_add_test(t, guest_powers_off);
}

int main(void)
{
	return fixture_main("board", add);
}
