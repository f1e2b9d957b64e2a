/* 8259A, 82093AA and local APIC, register by register. */
#include "tests/unit/fixture.h"
#include "tests/unit/virtual_loop.h"

#include "core/cpu.h"
#include "devices/i8259.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"

/* ---- 8259A: page numbers are of the data sheet 231468-003 ---- */

struct pics {
	struct fixture f;
	struct i8259 *pic;
	bool intr;
};

static void intr_pin(void *opaque, bool level)
{
	((struct pics *)opaque)->intr = level;
}

static void icw(struct pics *p, uint16_t port, uint8_t base, uint8_t icw3, uint8_t icw4)
{
	out8(&p->f, port, 0x11);
	out8(&p->f, port + 1, base);
	out8(&p->f, port + 1, icw3);
	out8(&p->f, port + 1, icw4);
}

static void pics_init(struct pics *p)
{
	struct error err = { "" };

	p->intr = false;
	fixture_init(&p->f);
	p->pic = i8259_create(&p->f.m, &err);
	ck_assert_ptr_nonnull(p->pic);
	i8259_set_output(p->pic, intr_pin, p);
	icw(p, 0x20, 0x08, 0x04, 0x01);
	icw(p, 0xa0, 0x70, 0x02, 0x01);
}

static uint8_t isr(struct pics *p, uint16_t port)
{
	out8(&p->f, port, 0x0b);
	return in8(&p->f, port);
}

static uint8_t irr(struct pics *p, uint16_t port)
{
	out8(&p->f, port, 0x0a);
	return in8(&p->f, port);
}

/* "Fully nested mode": priority, EOI, lower ones wait. */
START_TEST(pic_fully_nested)
{
	struct pics p;

	pics_init(&p);
	i8259_set_irq(p.pic, 4, true);
	i8259_set_irq(p.pic, 1, true);
	ck_assert(p.intr);
	ck_assert_uint_eq(irr(&p, 0x20), 0x12);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x09);
	ck_assert(!p.intr); /* 4 is below 1 */
	ck_assert_uint_eq(isr(&p, 0x20), 0x02);
	i8259_set_irq(p.pic, 0, true);
	ck_assert(p.intr);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x08);
	out8(&p.f, 0x20, 0x20); /* ends 0, the highest */
	ck_assert_uint_eq(isr(&p, 0x20), 0x02);
	out8(&p.f, 0x20, 0x61); /* ends 1 by name */
	ck_assert(p.intr);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x0c);
	fixture_finish(&p.f);
}
END_TEST

/* "If IR goes low before this time a DEFAULT IR7 will occur." */
START_TEST(pic_spurious)
{
	struct pics p;

	pics_init(&p);
	i8259_set_irq(p.pic, 3, true);
	i8259_set_irq(p.pic, 3, false);
	ck_assert(!p.intr);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x0f);
	ck_assert_uint_eq(isr(&p, 0x20), 0);
	/* Masked at the slave, the request is not seen by the master. */
	i8259_set_irq(p.pic, 10, true);
	out8(&p.f, 0xa1, 0xff);
	ck_assert(!p.intr);
	out8(&p.f, 0xa1, 0x00);
	ck_assert(p.intr);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x72);
	ck_assert_uint_eq(isr(&p, 0x20), 0x04);
	ck_assert_uint_eq(isr(&p, 0xa0), 0x04);
	fixture_finish(&p.f);
}
END_TEST

START_TEST(pic_edge_and_level)
{
	struct pics p;

	pics_init(&p);
	i8259_set_irq(p.pic, 5, true);
	i8259_acknowledge(p.pic);
	out8(&p.f, 0x20, 0x20);
	ck_assert(!p.intr); /* still high: no new edge */
	i8259_set_irq(p.pic, 5, false);
	i8259_set_irq(p.pic, 5, true);
	ck_assert(p.intr);
	i8259_acknowledge(p.pic);
	out8(&p.f, 0x20, 0x20);
	/* ELCR: level triggered from now on. */
	out8(&p.f, 0x4d0, 0xff);
	ck_assert_uint_eq(in8(&p.f, 0x4d0), 0xf8);
	out8(&p.f, 0x4d1, 0xff);
	ck_assert_uint_eq(in8(&p.f, 0x4d1), 0xde);
	ck_assert(p.intr);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x0d);
	out8(&p.f, 0x20, 0x20);
	ck_assert(p.intr);
	i8259_set_irq(p.pic, 5, false);
	ck_assert(!p.intr);
	fixture_finish(&p.f);
}
END_TEST

/* ICW1: "the edge sense circuit is reset, IMR is cleared, IR7 priority 7". */
START_TEST(pic_icw1)
{
	struct pics p;

	pics_init(&p);
	out8(&p.f, 0x21, 0xff);
	i8259_set_irq(p.pic, 6, true);
	ck_assert_uint_eq(irr(&p, 0x20), 0x40);
	icw(&p, 0x20, 0x20, 0x04, 0x01);
	ck_assert_uint_eq(in8(&p.f, 0x21), 0);
	ck_assert(!p.intr);
	i8259_set_irq(p.pic, 6, false);
	i8259_set_irq(p.pic, 6, true);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x26);
	fixture_finish(&p.f);
}
END_TEST

START_TEST(pic_automatic_eoi_and_rotation)
{
	struct pics p;

	pics_init(&p);
	icw(&p, 0x20, 0x08, 0x04, 0x03);
	out8(&p.f, 0x20, 0x80); /* rotate in automatic EOI mode */
	i8259_set_irq(p.pic, 0, true);
	i8259_set_irq(p.pic, 1, true);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x08);
	ck_assert_uint_eq(isr(&p, 0x20), 0);
	i8259_set_irq(p.pic, 0, false);
	i8259_set_irq(p.pic, 0, true);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x09); /* 0 is lowest now */
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x08);
	out8(&p.f, 0x20, 0x00);
	/* Set priority: bottom is 4, so 5 is the highest. */
	icw(&p, 0x20, 0x08, 0x04, 0x01);
	out8(&p.f, 0x20, 0xc4);
	for (int n = 0; n < 8; n++) {
		i8259_set_irq(p.pic, n, false);
		i8259_set_irq(p.pic, n, n == 1 || n == 5);
	}
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x0d);
	out8(&p.f, 0x20, 0xa0); /* rotate on non-specific EOI */
	i8259_set_irq(p.pic, 5, false);
	i8259_set_irq(p.pic, 5, true);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x09);
	fixture_finish(&p.f);
}
END_TEST

/* "Special mask mode enables interrupts from all other levels." */
START_TEST(pic_special_mask)
{
	struct pics p;

	pics_init(&p);
	i8259_set_irq(p.pic, 3, true);
	i8259_acknowledge(p.pic);
	i8259_set_irq(p.pic, 6, true);
	ck_assert(!p.intr);
	out8(&p.f, 0x21, 0x08);
	out8(&p.f, 0x20, 0x68);
	ck_assert(p.intr);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x0e);
	out8(&p.f, 0x20, 0x20); /* not level 3: it is hidden */
	ck_assert_uint_eq(isr(&p, 0x20), 0x08);
	out8(&p.f, 0x20, 0x48);
	out8(&p.f, 0x20, 0x20);
	ck_assert_uint_eq(isr(&p, 0x20), 0);
	fixture_finish(&p.f);
}
END_TEST

START_TEST(pic_poll)
{
	struct pics p;

	pics_init(&p);
	out8(&p.f, 0x20, 0x0c);
	ck_assert_uint_eq(in8(&p.f, 0x20), 0x00);
	i8259_set_irq(p.pic, 4, true);
	out8(&p.f, 0x20, 0x0c);
	ck_assert_uint_eq(in8(&p.f, 0x20), 0x84);
	ck_assert(!p.intr);
	ck_assert_uint_eq(isr(&p, 0x20), 0x10);
	fixture_finish(&p.f);
}
END_TEST

/* Two requests of the slave: the second comes through after its EOIs. */
START_TEST(pic_cascade)
{
	struct pics p;

	pics_init(&p);
	i8259_set_irq(p.pic, 14, true);
	i8259_set_irq(p.pic, 12, true);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x74);
	ck_assert(!p.intr);
	out8(&p.f, 0xa0, 0x20);
	out8(&p.f, 0x20, 0x20);
	ck_assert(p.intr);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x76);
	/* Special fully nested mode lets a higher one of the slave through before. */
	icw(&p, 0x20, 0x08, 0x04, 0x11);
	icw(&p, 0xa0, 0x70, 0x02, 0x01);
	i8259_set_irq(p.pic, 14, false);
	i8259_set_irq(p.pic, 14, true);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x76);
	i8259_set_irq(p.pic, 8, true);
	ck_assert(p.intr);
	ck_assert_int_eq(i8259_acknowledge(p.pic), 0x70);
	fixture_finish(&p.f);
}
END_TEST

/* ---- APICs: SDM 3A chapter 11; 82093AA data sheet ---- */

struct apics {
	struct fixture f;
	struct cpu *cpu;
	struct lapic *lapic;
	struct ioapic *io;
	int pic_vector;
};

static int fake_pic(void *opaque)
{
	return ((struct apics *)opaque)->pic_vector;
}

static void lw(struct apics *a, unsigned reg, uint32_t v)
{
	memory_write(a->f.m.memory, 0xfee00000 + reg, v, 4);
}

static uint32_t lr(struct apics *a, unsigned reg)
{
	return memory_read(a->f.m.memory, 0xfee00000 + reg, 4);
}

static void iow(struct apics *a, unsigned reg, uint32_t v)
{
	memory_write(a->f.m.memory, IOAPIC_ADDRESS, reg, 4);
	memory_write(a->f.m.memory, IOAPIC_ADDRESS + 0x10, v, 4);
}

static uint32_t ior(struct apics *a, unsigned reg)
{
	memory_write(a->f.m.memory, IOAPIC_ADDRESS, reg, 4);
	return memory_read(a->f.m.memory, IOAPIC_ADDRESS + 0x10, 4);
}

static int ack(struct apics *a)
{
	return a->cpu->intr.acknowledge(a->cpu->intr.opaque);
}

static void apics_init(struct apics *a)
{
	struct error err = { "" };

	fixture_init(&a->f);
	a->cpu = calloc(1, sizeof(*a->cpu));
	a->cpu->apic_base = 0xfee00900;
	a->f.m.cpu = a->cpu;
	a->pic_vector = 0x33;
	a->lapic = lapic_create(&a->f.m, &err);
	ck_assert_ptr_nonnull(a->lapic);
	lapic_set_pic(a->lapic, fake_pic, a);
	a->io = ioapic_create(&a->f.m, a->lapic, &err);
	ck_assert_ptr_nonnull(a->io);
}

static void apics_finish(struct apics *a)
{
	fixture_finish(&a->f);
	free(a->cpu);
}

START_TEST(lapic_virtual_wire)
{
	struct apics a;

	apics_init(&a);
	lapic_set_extint(a.lapic, true);
	ck_assert_uint_eq(a.cpu->intr_line, 1);
	ck_assert_int_eq(ack(&a), 0x33);
	lw(&a, 0x350, 0x10700); /* LINT0 masked */
	ck_assert_uint_eq(a.cpu->intr_line, 0);
	a.cpu->apic_base = 0xfee00100; /* no APIC: the pin is INTR again */
	a.cpu->apic_base_changed(a.cpu->lapic);
	ck_assert_uint_eq(a.cpu->intr_line, 1);
	ck_assert_uint_eq(lr(&a, 0x30), 0xffffffff);
	apics_finish(&a);
}
END_TEST

START_TEST(lapic_priorities)
{
	struct apics a;

	apics_init(&a);
	lw(&a, 0xf0, 0x1ff);
	lw(&a, 0x300, 0x44031); /* to itself: vectors 31, 52, 58 */
	lw(&a, 0x300, 0x44052);
	lw(&a, 0x300, 0x44058);
	ck_assert_uint_eq(lr(&a, 0x210), 1u << 17);
	ck_assert_uint_eq(lr(&a, 0x220), 1u << 18 | 1u << 24);
	ck_assert_int_eq(ack(&a), 0x58);
	ck_assert_uint_eq(lr(&a, 0xa0), 0x50);
	ck_assert_uint_eq(a.cpu->intr_line, 0); /* 52 is of the same class */
	lw(&a, 0xb0, 0);
	ck_assert_int_eq(ack(&a), 0x52);
	lw(&a, 0xb0, 0);
	lw(&a, 0x80, 0x30);
	ck_assert_uint_eq(a.cpu->intr_line, 0);
	lw(&a, 0x80, 0x20);
	ck_assert_int_eq(ack(&a), 0x31);
	apics_finish(&a);
}
END_TEST

START_TEST(lapic_errors)
{
	struct apics a;

	apics_init(&a);
	lw(&a, 0xf0, 0x1ff);
	lw(&a, 0x370, 0xfe);
	lw(&a, 0x300, 0x44005); /* illegal vector */
	ck_assert_int_eq(ack(&a), 0xfe);
	lw(&a, 0x280, 0);
	ck_assert_uint_eq(lr(&a, 0x280), 1u << 5);
	lw(&a, 0x280, 0);
	ck_assert_uint_eq(lr(&a, 0x280), 0);
	lw(&a, 0x370, 0x05); /* an error interrupt that would be an error */
	lw(&a, 0x3f0, 1);
	lw(&a, 0x280, 0);
	ck_assert_uint_eq(lr(&a, 0x280), 1u << 7);
	apics_finish(&a);
}
END_TEST

START_TEST(lapic_timer)
{
	struct apics a;

	apics_init(&a);
	lw(&a, 0xf0, 0x1ff);
	lw(&a, 0x3e0, 0xb); /* divide by 1 */
	lw(&a, 0x320, 0x40);
	lw(&a, 0x380, 2000000);
	loop_set_now(a.f.m.loop, 500000);
	ck_assert_uint_eq(lr(&a, 0x390), 1500000);
	loop_set_now(a.f.m.loop, 1999999);
	ck_assert_uint_eq(a.cpu->intr_line, 0);
	loop_set_now(a.f.m.loop, 2000000);
	ck_assert_uint_eq(lr(&a, 0x390), 0);
	ck_assert_int_eq(ack(&a), 0x40);
	lw(&a, 0xb0, 0);
	loop_set_now(a.f.m.loop, 10000000);
	ck_assert_uint_eq(a.cpu->intr_line, 0); /* one shot */
	lw(&a, 0x3e0, 0x3); /* by 16 */
	lw(&a, 0x320, 0x20040); /* periodic */
	lw(&a, 0x380, 62500);
	for (int i = 1; i <= 1000; i++) {
		loop_set_now(a.f.m.loop, 10000000 + i * 1000000 - 1);
		ck_assert_uint_eq(a.cpu->intr_line, 0);
		loop_set_now(a.f.m.loop, 10000000 + i * 1000000);
		ck_assert_int_eq(ack(&a), 0x40);
		lw(&a, 0xb0, 0);
	}
	lw(&a, 0x320, 0x30040); /* masked: it counts on in silence */
	loop_set_now(a.f.m.loop, 1020500000);
	ck_assert_uint_eq(a.cpu->intr_line, 0);
	ck_assert_uint_eq(lr(&a, 0x390), 31250);
	lw(&a, 0x380, 0);
	ck_assert_uint_eq(lr(&a, 0x390), 0);
	apics_finish(&a);
}
END_TEST

/* Ticks that come while the last waits in IRR follow later, none is lost. */
START_TEST(lapic_timer_owes_ticks)
{
	struct apics a;
	int64_t now;
	int got = 0;

	apics_init(&a);
	lw(&a, 0xf0, 0x1ff);
	lw(&a, 0x3e0, 0xb);
	lw(&a, 0x320, 0x20040);
	lw(&a, 0x380, 4000000);
	loop_set_now(a.f.m.loop, 40000000); /* the guest does not look: 10 ticks */
	for (now = 40000000; now <= 100000000; now += 500000) {
		loop_set_now(a.f.m.loop, now);
		if (!a.cpu->intr_line)
			continue;
		ck_assert_int_eq(ack(&a), 0x40);
		lw(&a, 0xb0, 0);
		got++;
	}
	ck_assert_int_eq(got, 25); /* 100 ms of 4 ms */
	/* After more than a second the guest has other troubles. */
	loop_jump(a.f.m.loop, 10000000000);
	for (now = 10000000000; now <= 10000000000 + 200000000; now += 500000) {
		loop_set_now(a.f.m.loop, now);
		if (!a.cpu->intr_line)
			continue;
		ack(&a);
		lw(&a, 0xb0, 0);
		got++;
	}
	ck_assert_int_lt(got, 80);
	apics_finish(&a);
}
END_TEST

START_TEST(lapic_software_disable)
{
	struct apics a;

	apics_init(&a);
	lw(&a, 0xf0, 0x1ff);
	lw(&a, 0x350, 0x700);
	lw(&a, 0xf0, 0x0ff);
	ck_assert_uint_eq(lr(&a, 0x350), 0x10700);
	lw(&a, 0x350, 0x700); /* the mask bit stays */
	ck_assert_uint_eq(lr(&a, 0x350), 0x10700);
	lw(&a, 0x300, 0x44050);
	ck_assert_uint_eq(a.cpu->intr_line, 0);
	apics_finish(&a);
}
END_TEST

START_TEST(ioapic_registers)
{
	struct apics a;

	apics_init(&a);
	ck_assert_uint_eq(ior(&a, 1), 0x00170011);
	ck_assert_uint_eq(ior(&a, 0x10), 0x10000);
	iow(&a, 0, 0xffffffff);
	ck_assert_uint_eq(ior(&a, 0), 0x0f000000);
	iow(&a, 0x11, 0xffffffff);
	ck_assert_uint_eq(ior(&a, 0x11), 0xff000000);
	iow(&a, 0x3f, 0x12345678); /* the last entry's high half */
	ck_assert_uint_eq(ior(&a, 0x3f), 0x12000000);
	ck_assert_uint_eq(ior(&a, 0x40), 0xffffffff);
	apics_finish(&a);
}
END_TEST

START_TEST(ioapic_edge)
{
	struct apics a;

	apics_init(&a);
	lw(&a, 0xf0, 0x1ff);
	ioapic_set_irq(a.io, 4, true); /* masked: lost */
	ioapic_set_irq(a.io, 4, false);
	iow(&a, 0x18, 0x45);
	ck_assert_uint_eq(a.cpu->intr_line, 0);
	ioapic_set_irq(a.io, 4, true);
	ck_assert(ioapic_pending(a.io, 4));
	ck_assert_int_eq(ack(&a), 0x45);
	ck_assert(!ioapic_pending(a.io, 4));
	lw(&a, 0xb0, 0);
	ck_assert_uint_eq(a.cpu->intr_line, 0);
	/* For somebody else: nobody. */
	iow(&a, 0x19, 0x05000000);
	ioapic_set_irq(a.io, 4, false);
	ioapic_set_irq(a.io, 4, true);
	ck_assert_uint_eq(a.cpu->intr_line, 0);
	/* Logical, flat. */
	lw(&a, 0xd0, 0x01000000);
	iow(&a, 0x19, 0x03000000);
	iow(&a, 0x18, 0x845);
	ioapic_set_irq(a.io, 4, false);
	ioapic_set_irq(a.io, 4, true);
	ck_assert_int_eq(ack(&a), 0x45);
	apics_finish(&a);
}
END_TEST

/* Remote IRR: set when sent, cleared by EOI, and sent again while still high. */
START_TEST(ioapic_level)
{
	struct apics a;

	apics_init(&a);
	lw(&a, 0xf0, 0x1ff);
	iow(&a, 0x10 + 2 * 11, 0x8061);
	ioapic_set_irq(a.io, 11, true);
	ck_assert_uint_eq(ior(&a, 0x10 + 2 * 11), 0xc061);
	ck_assert_int_eq(ack(&a), 0x61);
	ck_assert_uint_eq(lr(&a, 0x1b0), 1u << 1); /* TMR */
	lw(&a, 0xb0, 0);
	ck_assert_uint_eq(a.cpu->intr_line, 1);
	ck_assert_int_eq(ack(&a), 0x61);
	ioapic_set_irq(a.io, 11, false);
	lw(&a, 0xb0, 0);
	ck_assert_uint_eq(ior(&a, 0x10 + 2 * 11), 0x8061);
	ck_assert_uint_eq(a.cpu->intr_line, 0);
	/* Linux clears Remote IRR by a turn as edge entry. */
	ioapic_set_irq(a.io, 11, true);
	iow(&a, 0x10 + 2 * 11, 0x10061);
	ck_assert_uint_eq(ior(&a, 0x10 + 2 * 11), 0x10061);
	apics_finish(&a);
}
END_TEST

static void add(TCase *t)
{
	tcase_add_test(t, pic_fully_nested);
	tcase_add_test(t, pic_spurious);
	tcase_add_test(t, pic_edge_and_level);
	tcase_add_test(t, pic_icw1);
	tcase_add_test(t, pic_automatic_eoi_and_rotation);
	tcase_add_test(t, pic_special_mask);
	tcase_add_test(t, pic_poll);
	tcase_add_test(t, pic_cascade);
	tcase_add_test(t, lapic_virtual_wire);
	tcase_add_test(t, lapic_priorities);
	tcase_add_test(t, lapic_errors);
	tcase_add_test(t, lapic_timer);
	tcase_add_test(t, lapic_timer_owes_ticks);
	tcase_add_test(t, lapic_software_disable);
	tcase_add_test(t, ioapic_registers);
	tcase_add_test(t, ioapic_edge);
	tcase_add_test(t, ioapic_level);
}

int main(void)
{
	return fixture_main("interrupt chips", add);
}
