/* The NE2000 under a hostile guest and a hostile wire: bytes become accesses to the
 * card's ports, frames, and a port that pushes back or answers from within.
 *
 * The card is the chip alone, with ports as on PCI; no machine is needed.
 */
#include <stdlib.h>
#include <string.h>

#include "core/util.h"
#include "devices/dp8390.h"

struct input {
	const uint8_t *p;
	size_t left;
};

struct world {
	struct dp8390 chip;
	struct net_port port;
	struct net_backend wire;
	struct trace trace;
	bool full, echo, nag;
	unsigned depth;
};

static uint8_t next(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->p++;
}

static uint32_t next_word(struct input *in)
{
	uint32_t v = next(in);

	v |= (uint32_t)next(in) << 8;
	v |= (uint32_t)next(in) << 16;
	return v | (uint32_t)next(in) << 24;
}

static bool wire_can_send(struct net_backend *b)
{
	return !container_of(b, struct world, wire)->full;
}

static void wire_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	struct world *w = container_of(b, struct world, wire);
	uint32_t sum = 0;

	if (w->depth++)
		abort(); /* the guest made the card send from within a send */
	for (size_t i = 0; i < len; i++)
		sum = sum * 31 + frame[i];
	if (sum == 0x12345678) /* reading must not be optimised away */
		w->nag = !w->nag;
	if (w->nag) {
		w->port.blocked = true;
		net_port_writable(&w->port);
	}
	if (w->echo)
		net_port_receive(&w->port, frame, len);
	w->depth--;
}

static void wire_close(struct net_backend *b)
{
	(void)b;
}

static const struct net_backend_ops wire_ops = {
	.name = "fuzz", .can_send = wire_can_send, .send = wire_send, .close = wire_close,
};

static const struct net_nic_ops nic_ops = {
	.name = "fuzz", .can_receive = dp8390_can_receive, .receive = dp8390_receive,
	.writable = dp8390_writable,
};

static void set_irq(void *opaque, bool level)
{
	(void)opaque;
	(void)level;
}

static void frame_in(struct world *w, struct input *in)
{
	static uint8_t frame[NET_FRAME_MAX];
	size_t len = (next(in) | next(in) << 8) % (NET_FRAME_MAX + 1);

	memset(frame, 0x5a, sizeof(frame));
	for (unsigned i = 0; i < 6; i++)
		frame[i] = i ? 0x00 : next(in);
	if (frame[0] & 2)
		memset(frame, 0xff, 6);
	net_port_can_receive(&w->port);
	net_port_receive(&w->port, frame, len);
}

static void block(struct world *w, struct input *in, bool out)
{
	static uint8_t buf[4 * 1024];
	unsigned size = 1u << next(in) % 3;
	size_t count = (next(in) | next(in) << 8) % (sizeof(buf) / size + 1), n;

	n = out ? dp8390_write_block(&w->chip, DP8390_DATA, size, buf, count) :
		  dp8390_read_block(&w->chip, DP8390_DATA, size, buf, count);
	if (n > count)
		abort();
}

static void step(struct world *w, struct input *in)
{
	const char *field;
	uint8_t what = next(in), at = next(in) & 0x1f;

	switch (what & 15) {
	case 0: case 1: case 2: case 3: case 4: case 5: case 6:
		dp8390_write(&w->chip, at, next(in), 1);
		break;
	case 7:
		dp8390_write(&w->chip, at, next_word(in), 2u << (what >> 4 & 1));
		break;
	case 8:
		dp8390_read(&w->chip, at, 1u << (what >> 4) % 3);
		break;
	case 9:
		block(w, in, what & 0x10);
		break;
	case 10: case 11: case 12:
		frame_in(w, in);
		break;
	case 13:
		w->full = what & 0x10;
		w->echo = what & 0x20;
		w->nag = what & 0x40;
		if (!w->full)
			net_port_writable(&w->port);
		break;
	case 14:
		net_port_set_carrier(&w->port, what & 0x10);
		break;
	default:
		/* Every state that a guest can make must be one that loads. */
		if (!dp8390_check(&w->chip, &field))
			abort();
		break;
	}
}

static void kick(void *opaque)
{
	(void)opaque;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t mac[NET_MAC_SIZE] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
	static struct loop *loop;
	struct input in = {data, size};
	struct world *w = calloc(1, sizeof(*w));

	if (!loop)
		loop = loop_create(kick, NULL, NULL);
	if (!w || !loop)
		abort();
	net_port_init(&w->port, loop, &w->trace, 0);
	w->wire.ops = &wire_ops;
	w->wire.port = &w->port;
	net_port_set_backend(&w->port, &w->wire);
	dp8390_init(&w->chip, DP8390_RTL8029, &nic_ops, mac, loop, set_irq, w);
	net_port_set_nic(&w->port, &w->chip.nic);
	dp8390_power_on(&w->chip);
	/* Half of the inputs find a ring as drivers lay it out. */
	if (next(&in) & 1) {
		static const uint8_t script[][2] = {
			{0x0e, 0x49}, {0x01, 0x4c}, {0x02, 0x80}, {0x03, 0x4c}, {0x0c, 0x1c},
			{0x0f, 0x3f}, {0x00, 0x62}, {0x07, 0x4d}, {0x00, 0x22}, {0x0d, 0x00},
		};

		for (size_t i = 0; i < ARRAY_SIZE(script); i++)
			dp8390_write(&w->chip, script[i][0], script[i][1], 1);
	}
	while (in.left)
		step(w, &in);
	dp8390_finish(&w->chip);
	net_port_finish(&w->port);
	free(w);
	return 0;
}
