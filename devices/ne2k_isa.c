/* NE2000 on ISA, 16-bit: a DP8390 at a chosen port and interrupt.
 *
 * 32 ports: chip registers, data port at 0x10, reset port at 0x18
 * (devices/dp8390.c). The interrupt line is high while the chip's is.
 *
 * Source: National Semiconductor AN-729 "DP8390 ... NE2000 Plus" and the DP8390D
 * datasheet.
 */
#include <stdlib.h>

#include "core/ioport.h"
#include "core/util.h"
#include "devices/dp8390.h"
#include "devices/ne2000.h"

enum { IOBASE_MIN = 0x200, IOBASE_MAX = 0x3e0 };

struct ne2k_isa {
	struct device base;
	struct machine *machine;     /* borrowed */
	struct irq_line irq;
	struct ioport_range *ports;
	struct dp8390 chip;
};

/* ISA has no 32-bit accesses: they come as two words. */
static const struct ioport_ops port_ops = {
	.read = dp8390_port_read, .write = dp8390_port_write,
	.read_block = dp8390_port_read_block, .write_block = dp8390_port_write_block,
	.sizes = 1 | 2,
};

static void set_irq(void *opaque, bool level)
{
	struct ne2k_isa *s = opaque;

	irq_set(&s->irq, level);
}

static const struct net_nic_ops nic_ops = {
	.name = "ne2k_isa",
	.can_receive = dp8390_can_receive,
	.receive = dp8390_receive,
	.writable = dp8390_writable,
};

static void ne2k_isa_reset(struct device *dev)
{
	dp8390_power_on(&container_of(dev, struct ne2k_isa, base)->chip);
}

static void ne2k_isa_destroy(struct device *dev)
{
	struct ne2k_isa *s = container_of(dev, struct ne2k_isa, base);

	dp8390_finish(&s->chip);
	if (s->ports)
		ioport_remove(s->machine->io, s->ports);
	free(s);
}

static void ne2k_isa_loaded(struct device *dev)
{
	dp8390_loaded(&container_of(dev, struct ne2k_isa, base)->chip);
}

static bool ne2k_isa_check(const struct device *dev, const char **field)
{
	return dp8390_check(&container_of(dev, const struct ne2k_isa, base)->chip, field);
}

static const struct state_field fields[] = {
	DP8390_STATE_FIELDS(struct ne2k_isa, chip),
	STATE_END,
};

static const struct device_ops ne2k_isa_ops = {
	.name = "ne2k_isa",
	.reset = ne2k_isa_reset,
	.destroy = ne2k_isa_destroy,
	.fields = fields, .size = sizeof(struct ne2k_isa),
	.loaded = ne2k_isa_loaded,
	.check = ne2k_isa_check,
};

struct device *ne2k_isa_create(struct machine *m, const struct ne2000_config *cfg,
			       struct error *err)
{
	struct ne2k_isa *s;

	if (cfg->iobase < IOBASE_MIN || cfg->iobase > IOBASE_MAX ||
	    cfg->iobase % DP8390_PORTS) {
		error_set(err, "ne2k_isa: iobase 0x%x: must be 0x200 to 0x3e0, a multiple of 0x20",
			  cfg->iobase);
		return NULL;
	}
	/* What an NE2000's jumpers and the software-configured clones offer. */
	if (cfg->irq < 2 || cfg->irq > 15 || cfg->irq == 6 || cfg->irq == 8 || cfg->irq == 13) {
		error_set(err, "ne2k_isa: irq %u: must be 2 to 15 but not 6, 8 or 13", cfg->irq);
		return NULL;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		error_set(err, "ne2k_isa: out of memory");
		return NULL;
	}
	s->base.ops = &ne2k_isa_ops;
	s->machine = m;
	s->irq = cfg->irq_line;
	dp8390_init(&s->chip, DP8390_NATIONAL, &nic_ops, cfg->mac, m->loop, set_irq, s);
	s->ports = ioport_add(m->io, cfg->iobase, DP8390_PORTS, &port_ops, &s->chip, "ne2k_isa");
	if (!s->ports) {
		error_set(err, "ne2k_isa: cannot claim ports from 0x%x", cfg->iobase);
		ne2k_isa_destroy(&s->base);
		return NULL;
	}
	if (cfg->port)
		net_port_set_nic(cfg->port, &s->chip.nic);
	machine_add(m, &s->base);
	return &s->base;
}
