/* 16550A, register by register. Section numbers are of the PC16550D data sheet. */
#include "tests/unit/fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/chardev.h"
#include "devices/serial.h"

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR };
enum { BASE = 0x3f8 };

struct port {
	struct fixture f;
	struct chardev *c;
	int peer; /* the other end of the cable */
	char path[64];
};

static uint8_t rd(struct port *p, unsigned reg) { return in8(&p->f, BASE + reg); }
static void wr(struct port *p, unsigned reg, uint8_t v) { out8(&p->f, BASE + reg, v); }

static void port_init(struct port *p)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct error err = { "" };
	struct irq_line line;
	char spec[128];

	fixture_init(&p->f);
	snprintf(p->path, sizeof(p->path), "/tmp/gannet-test-serial-%d", getpid());
	snprintf(spec, sizeof(spec), "unix:%s,server,nowait", p->path);
	p->c = chardev_open(p->f.m.loop, spec, &err);
	ck_assert_msg(p->c != NULL, "%s", err.text);
	p->peer = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", p->path);
	ck_assert_int_eq(connect(p->peer, (struct sockaddr *)&sun, sizeof(sun)), 0);
	fcntl(p->peer, F_SETFL, O_NONBLOCK);
	while (!chardev_connected(p->c))
		loop_wait(p->f.m.loop);
	line = fixture_line(&p->f, 4);
	ck_assert_ptr_nonnull(serial_create(&p->f.m, BASE, &line, p->c, &err));
	wr(p, LCR, 0x83);
	wr(p, 0, 1); /* 115200 */
	wr(p, 1, 0);
	wr(p, LCR, 0x03);
	wr(p, MCR, 0x0b);
}

static void port_finish(struct port *p)
{
	close(p->peer);
	chardev_close(p->c);
	fixture_finish(&p->f);
	unlink(p->path);
}

static void peer_send(struct port *p, const char *s)
{
	ck_assert_int_eq(write(p->peer, s, strlen(s)), strlen(s));
	fixture_run_ns(&p->f, 300000);
}

/* A port with nothing plugged in, so with nothing to wait for. */
static void bare_init(struct fixture *f)
{
	struct irq_line line = fixture_line(f, 4);

	fixture_init(f);
	line = fixture_line(f, 4);
	ck_assert_ptr_nonnull(serial_create(&f->m, BASE, &line, NULL, NULL));
	out8(f, BASE + MCR, 0x08);
}

START_TEST(reset_values)
{
	struct fixture f;

	fixture_init(&f);
	ck_assert_ptr_nonnull(serial_create(&f.m, BASE, &(struct irq_line){ 0 }, NULL, NULL));
	ck_assert_uint_eq(in8(&f, BASE + IER), 0);
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x01);
	ck_assert_uint_eq(in8(&f, BASE + LCR), 0);
	ck_assert_uint_eq(in8(&f, BASE + MCR), 0);
	ck_assert_uint_eq(in8(&f, BASE + LSR), 0x60);
	ck_assert_uint_eq(in8(&f, BASE + MSR), 0xb0);
	fixture_finish(&f);
}
END_TEST

START_TEST(bits_that_do_not_exist_read_zero)
{
	struct fixture f;

	bare_init(&f);
	out8(&f, BASE + IER, 0xff);
	ck_assert_uint_eq(in8(&f, BASE + IER), 0x0f);
	out8(&f, BASE + IER, 0);
	out8(&f, BASE + MCR, 0xff);
	ck_assert_uint_eq(in8(&f, BASE + MCR), 0x1f);
	for (unsigned v = 0; v < 256; v += 5) {
		out8(&f, BASE + SCR, v);
		ck_assert_uint_eq(in8(&f, BASE + SCR), v);
	}
	fixture_finish(&f);
}
END_TEST

START_TEST(divisor_hides_behind_dlab)
{
	struct fixture f;

	bare_init(&f);
	out8(&f, BASE + LCR, 0x83);
	out8(&f, BASE + 0, 0x34);
	out8(&f, BASE + 1, 0x12);
	ck_assert_uint_eq(in8(&f, BASE + 0), 0x34);
	ck_assert_uint_eq(in8(&f, BASE + 1), 0x12);
	out8(&f, BASE + LCR, 0x03);
	ck_assert_uint_eq(in8(&f, BASE + IER), 0);
	fixture_finish(&f);
}
END_TEST

START_TEST(fifo_enable_shows_in_iir)
{
	struct fixture f;

	bare_init(&f);
	out8(&f, BASE + IIR, 0xc0); /* 8.4: ignored without bit 0 */
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x01);
	out8(&f, BASE + IIR, 0x01);
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0xc1);
	out8(&f, BASE + IIR, 0x00);
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x01);
	fixture_finish(&f);
}
END_TEST

START_TEST(transmitter_interrupt)
{
	struct fixture f;

	bare_init(&f);
	out8(&f, BASE + IER, 0x02);
	ck_assert(f.level[4]);
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x02);
	ck_assert(!f.level[4]); /* reading IIR as the source clears it */
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x01);
	out8(&f, BASE + 0, 'x');
	ck_assert(f.level[4]);
	ck_assert_uint_eq(f.edges[4], 2);
	out8(&f, BASE + 0, 'y'); /* edge-triggered controllers need a new edge */
	ck_assert_uint_eq(f.edges[4], 3);
	out8(&f, BASE + IER, 0x00);
	ck_assert(!f.level[4]);
	/* Linux 8250: the interrupt must come back when enabled again (UART_BUG_THRE). */
	out8(&f, BASE + IER, 0x02);
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x02);
	out8(&f, BASE + IER, 0x00);
	out8(&f, BASE + IER, 0x02);
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x02);
	ck_assert_uint_eq(in8(&f, BASE + LSR) & 0x60, 0x60);
	fixture_finish(&f);
}
END_TEST

START_TEST(out2_connects_the_interrupt)
{
	struct fixture f;

	bare_init(&f);
	out8(&f, BASE + MCR, 0);
	out8(&f, BASE + IER, 0x02);
	ck_assert(!f.level[4]);
	ck_assert_uint_eq(in8(&f, BASE + LSR), 0x60);
	out8(&f, BASE + MCR, 0x08);
	ck_assert(f.level[4]);
	fixture_finish(&f);
}
END_TEST

START_TEST(loopback_data_and_overrun)
{
	struct fixture f;

	bare_init(&f);
	out8(&f, BASE + MCR, 0x10);
	out8(&f, BASE + 0, 0x5a);
	ck_assert_uint_eq(in8(&f, BASE + LSR), 0x61);
	ck_assert_uint_eq(in8(&f, BASE + 0), 0x5a);
	ck_assert_uint_eq(in8(&f, BASE + LSR), 0x60);
	/* Without FIFO the later byte replaces the unread one (8.5, bit 1). */
	out8(&f, BASE + 0, 1);
	out8(&f, BASE + 0, 2);
	ck_assert_uint_eq(in8(&f, BASE + LSR), 0x63);
	ck_assert_uint_eq(in8(&f, BASE + LSR), 0x61);
	ck_assert_uint_eq(in8(&f, BASE + 0), 2);
	/* With FIFO the one that does not fit is lost. */
	out8(&f, BASE + IIR, 0x07);
	for (unsigned i = 0; i < 17; i++)
		out8(&f, BASE + 0, 0x40 + i);
	ck_assert_uint_eq(in8(&f, BASE + LSR), 0x63);
	for (unsigned i = 0; i < 16; i++)
		ck_assert_uint_eq(in8(&f, BASE + 0), 0x40 + i);
	ck_assert_uint_eq(in8(&f, BASE + LSR), 0x60);
	fixture_finish(&f);
}
END_TEST

START_TEST(loopback_modem_lines)
{
	struct fixture f;

	bare_init(&f);
	out8(&f, BASE + MCR, 0x10);
	in8(&f, BASE + MSR);
	out8(&f, BASE + MCR, 0x1a); /* the test of most drivers: RTS and OUT2 */
	ck_assert_uint_eq(in8(&f, BASE + MSR) & 0xf0, 0x90);
	out8(&f, BASE + MCR, 0x1f);
	ck_assert_uint_eq(in8(&f, BASE + MSR), 0xf2); /* DSR rose; RI only counts falling */
	out8(&f, BASE + MCR, 0x1b);
	ck_assert_uint_eq(in8(&f, BASE + MSR), 0xb4); /* TERI */
	ck_assert_uint_eq(in8(&f, BASE + MSR), 0xb0);
	out8(&f, BASE + IER, 0x08);
	ck_assert(!f.level[4]);
	out8(&f, BASE + MCR, 0x19);
	ck_assert(f.level[4]);
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x00);
	ck_assert_uint_eq(in8(&f, BASE + MSR), 0xa1);
	ck_assert(!f.level[4]);
	fixture_finish(&f);
}
END_TEST

START_TEST(interrupt_priority)
{
	struct fixture f;

	bare_init(&f);
	out8(&f, BASE + MCR, 0x18);
	in8(&f, BASE + MSR);
	out8(&f, BASE + IER, 0x0f);
	out8(&f, BASE + MCR, 0x1a); /* CTS changes */
	out8(&f, BASE + 0, 1);
	out8(&f, BASE + 0, 2);      /* overrun, data, transmitter, modem: all at once */
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x06);
	in8(&f, BASE + LSR);
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x04);
	in8(&f, BASE + 0);
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x02);
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x00);
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x00); /* only MSR clears it */
	in8(&f, BASE + MSR);
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0x01);
	ck_assert(!f.level[4]);
	fixture_finish(&f);
}
END_TEST

START_TEST(trigger_level_and_timeout)
{
	static const struct { uint8_t fcr; unsigned level; } t[] = {
		{ 0x07, 1 }, { 0x47, 4 }, { 0x87, 8 }, { 0xc7, 14 },
	};
	struct fixture f;

	bare_init(&f);
	out8(&f, BASE + LCR, 0x83);
	out8(&f, BASE + 0, 96); /* 1200 baud: four characters are 33 ms, capped at 20 */
	out8(&f, BASE + 1, 0);
	out8(&f, BASE + LCR, 0x03);
	out8(&f, BASE + MCR, 0x18);
	out8(&f, BASE + IER, 0x01);
	for (unsigned k = 0; k < ARRAY_SIZE(t); k++) {
		out8(&f, BASE + IIR, t[k].fcr);
		for (unsigned i = 1; i < t[k].level; i++) {
			out8(&f, BASE + 0, i);
			ck_assert(!f.level[4]);
		}
		out8(&f, BASE + 0, 99);
		ck_assert(f.level[4]);
		ck_assert_uint_eq(in8(&f, BASE + IIR), 0xc4);
		in8(&f, BASE + 0);
		ck_assert(!f.level[4]); /* below the trigger again */
		ck_assert_uint_eq(in8(&f, BASE + IIR), 0xc1);
	}
	/* 13 bytes are left: they are reported by time-out. */
	fixture_run_ns(&f, 60000000);
	ck_assert(f.level[4]);
	ck_assert_uint_eq(in8(&f, BASE + IIR), 0xcc);
	in8(&f, BASE + 0);
	ck_assert(!f.level[4]);
	for (unsigned i = 0; i < 12; i++)
		in8(&f, BASE + 0);
	fixture_run_ns(&f, 60000000);
	ck_assert(!f.level[4]);
	fixture_finish(&f);
}
END_TEST

START_TEST(fifo_reset_empties_it)
{
	struct fixture f;

	bare_init(&f);
	out8(&f, BASE + MCR, 0x10);
	out8(&f, BASE + IIR, 0x01);
	out8(&f, BASE + 0, 7);
	ck_assert_uint_eq(in8(&f, BASE + LSR) & 1, 1);
	out8(&f, BASE + IIR, 0x03);
	ck_assert_uint_eq(in8(&f, BASE + LSR), 0x60);
	out8(&f, BASE + 0, 8);
	out8(&f, BASE + IIR, 0x00); /* switching the FIFO off empties it as well */
	ck_assert_uint_eq(in8(&f, BASE + LSR), 0x60);
	fixture_finish(&f);
}
END_TEST

START_TEST(bytes_travel_both_ways)
{
	struct port p;
	char buf[32] = "";

	port_init(&p);
	wr(&p, IIR, 0xc7);
	wr(&p, IER, 0x01);
	wr(&p, 0, 'h');
	wr(&p, 0, 'i');
	fixture_run_ns(&p.f, 5000000);
	ck_assert_int_eq(read(p.peer, buf, sizeof(buf)), 2);
	ck_assert_str_eq(buf, "hi");
	peer_send(&p, "abc");
	fixture_run_ns(&p.f, 5000000);
	ck_assert(p.f.level[4]);
	ck_assert_uint_eq(rd(&p, IIR), 0xcc);
	ck_assert_uint_eq(rd(&p, 0), 'a');
	ck_assert_uint_eq(rd(&p, 0), 'b');
	ck_assert_uint_eq(rd(&p, 0), 'c');
	ck_assert_uint_eq(rd(&p, LSR), 0x60);
	ck_assert_uint_eq(ioport_write_block(p.f.m.io, BASE, 1, (const uint8_t *)"block", 5), 5);
	fixture_run_ns(&p.f, 5000000);
	memset(buf, 0, sizeof(buf));
	ck_assert_int_eq(read(p.peer, buf, sizeof(buf)), 5);
	ck_assert_str_eq(buf, "block");
	port_finish(&p);
}
END_TEST

START_TEST(received_bytes_wait_for_room)
{
	struct port p;
	char buf[101];

	port_init(&p);
	for (unsigned i = 0; i < 100; i++)
		buf[i] = 'A' + i % 50;
	buf[100] = '\0';
	peer_send(&p, buf);
	fixture_run_ns(&p.f, 3000000);
	for (unsigned i = 0; i < 100; i++) {
		ck_assert_uint_eq(rd(&p, LSR), 0x61);
		ck_assert_uint_eq(rd(&p, 0), (uint8_t)buf[i]);
	}
	ck_assert_uint_eq(rd(&p, LSR), 0x60);
	port_finish(&p);
}
END_TEST

START_TEST(slow_reader_holds_the_transmitter_and_loses_nothing)
{
	enum { TOTAL = 500000 };
	struct port p;
	uint8_t buf[4096];
	unsigned sent = 0, got = 0, stalls = 0;

	port_init(&p);
	wr(&p, IIR, 0x07);
	while (got < TOTAL) {
		unsigned room = rd(&p, LSR) & 0x20 ? 16 : 0;
		ssize_t n;

		for (; room && sent < TOTAL; room--, sent++)
			wr(&p, 0, sent * 7 >> 3);
		if (rd(&p, LSR) & 0x20 && sent < TOTAL)
			continue;
		stalls++;
		n = read(p.peer, buf, sizeof(buf));
		for (ssize_t i = 0; i < n; i++, got++)
			ck_assert_uint_eq(buf[i], (uint8_t)(got * 7 >> 3));
		loop_run(p.f.m.loop);
	}
	ck_assert_uint_gt(stalls, 10);
	ck_assert_uint_eq(rd(&p, LSR), 0x60);
	port_finish(&p);
}
END_TEST

START_TEST(carrier_follows_the_peer)
{
	struct port p;

	port_init(&p);
	ck_assert_uint_eq(rd(&p, MSR) & 0xf0, 0xb0);
	wr(&p, IER, 0x08);
	close(p.peer);
	while (chardev_connected(p.c))
		loop_wait(p.f.m.loop);
	ck_assert(p.f.level[4]);
	ck_assert_uint_eq(rd(&p, MSR), 0x1a);
	wr(&p, 0, 'x'); /* to nobody */
	ck_assert_uint_eq(rd(&p, LSR), 0x60);
	port_finish(&p);
}
END_TEST

START_TEST(any_value_at_any_register)
{
	struct port p;
	char c[64];

	port_init(&p);
	srand(5);
	for (unsigned i = 0; i < 200000; i++) {
		if (rand() & 1)
			wr(&p, rand() & 7, rand());
		else
			rd(&p, rand() & 7);
		if (i % 512 == 0) {
			(void)!write(p.peer, "some bytes", 10);
			while (read(p.peer, c, sizeof(c)) > 0)
				;
			loop_run(p.f.m.loop);
		}
	}
	port_finish(&p);
}
END_TEST

static void add(TCase *t)
{
	tcase_add_test(t, reset_values);
	tcase_add_test(t, bits_that_do_not_exist_read_zero);
	tcase_add_test(t, divisor_hides_behind_dlab);
	tcase_add_test(t, fifo_enable_shows_in_iir);
	tcase_add_test(t, transmitter_interrupt);
	tcase_add_test(t, out2_connects_the_interrupt);
	tcase_add_test(t, loopback_data_and_overrun);
	tcase_add_test(t, loopback_modem_lines);
	tcase_add_test(t, interrupt_priority);
	tcase_add_test(t, trigger_level_and_timeout);
	tcase_add_test(t, fifo_reset_empties_it);
	tcase_add_test(t, bytes_travel_both_ways);
	tcase_add_test(t, received_bytes_wait_for_room);
	tcase_add_test(t, slow_reader_holds_the_transmitter_and_loses_nothing);
	tcase_add_test(t, carrier_follows_the_peer);
	tcase_add_test(t, any_value_at_any_register);
}

int main(void)
{
	return fixture_main("serial", add);
}
