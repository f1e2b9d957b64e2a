/* DP8390 network interface controller with the local memory an NE2000 gives it.
 *
 * The chip is embedded in a card (ne2k_pci.c, ne2k_isa.c), which decodes the
 * ports and wires the interrupt. The chip knows nothing of PCI or ISA.
 */
#ifndef GANNET_DEVICES_DP8390_H
#define GANNET_DEVICES_DP8390_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/loop.h"
#include "core/net.h"
#include "core/state.h"

enum {
	DP8390_PORTS = 0x20,      /* of a card: registers, data port, reset port */
	DP8390_DATA = 0x10,       /* to 0x17 */
	DP8390_RESET = 0x18,      /* to 0x1f */
	DP8390_PROM_SIZE = 0x20,
	DP8390_RAM_BASE = 0x4000,
	DP8390_RAM_SIZE = 0x8000,
	DP8390_FIFO_SIZE = 8,
};

/* Which chip answers: they differ in page 3 and the reserved registers. */
enum dp8390_kind { DP8390_NATIONAL, DP8390_RTL8029 };

enum dp8390_remote { DP8390_REMOTE_OFF, DP8390_REMOTE_READ, DP8390_REMOTE_WRITE,
		     DP8390_REMOTE_SEND /* a read that advances BNRY */ };

enum {
	DP8390_DROP_STOPPED, DP8390_DROP_LOOPBACK, DP8390_DROP_NOT_FOR_US,
	DP8390_DROP_MONITOR, DP8390_DROP_RING_FULL, DP8390_DROP_SHORT, DP8390_DROP_LONG,
	DP8390_DROP_TX_LONG, DP8390_DROP_TX_STOPPED, DP8390_DROP_TX_LOOPBACK,
	DP8390_DROP_TX_FCS, DP8390_DROP_UNPLUGGED, DP8390_COUNTERS,
};

struct dp8390 {
	struct net_nic nic;
	/* The card's interrupt line. */
	void (*irq)(void *opaque, bool level);
	void *opaque;                /* borrowed: the card */
	enum dp8390_kind kind;

	/* Registers, by their datasheet names. */
	uint8_t cr, isr, imr, dcr, tcr, rcr, tsr, rsr;
	uint8_t pstart, pstop, bnry, curr, tpsr; /* pages of 256 bytes */
	uint16_t tbcr;               /* bytes */
	uint16_t crda;               /* RSAR is where it is written */
	uint16_t rbcr;               /* bytes left to move */
	uint16_t clda;
	uint8_t par[NET_MAC_SIZE], mar[8];
	uint8_t cntr[3];             /* alignment errors, CRC errors, missed */
	uint8_t remote_next, local_next; /* page 2, 3 and 5 */
	uint16_t address_counter;    /* page 2, 6 and 7 */
	uint8_t fifo[DP8390_FIFO_SIZE], fifo_at;
	uint8_t remote;              /* enum dp8390_remote */
	uint8_t send_next;           /* BNRY after a send packet command */
	bool remind;                 /* BNRY moved or a frame came since the last reminder */
	uint8_t cr9346, config2, config3; /* RTL8029 page 3 */

	uint8_t prom[DP8390_PROM_SIZE];
	uint8_t ram[DP8390_RAM_SIZE];

	/* Not state. */
	struct timer resume;         /* a transmission that an image found waiting */
	struct net_counter counter[DP8390_COUNTERS];
	uint32_t crc_table[4][256];
	uint8_t frame[NET_FRAME_MAX]; /* transmission that is not in one piece in memory */
};

/** dp8390_init - @nic_name: static; @mac goes into the PROM; @irq may be called at once */
void dp8390_init(struct dp8390 *c, enum dp8390_kind kind, const struct net_nic_ops *nic_ops,
		 const uint8_t mac[NET_MAC_SIZE], struct loop *loop,
		 void (*irq)(void *opaque, bool level), void *opaque);
/** dp8390_set_prom - of a card that is a dp8390: another address in the PROM; PAR keeps
 *  what it has until the guest's driver, or a reset by the board, reads the PROM again */
void dp8390_set_prom(struct net_nic *nic, const uint8_t mac[NET_MAC_SIZE]);
/** dp8390_finish - takes the card off its port */
void dp8390_finish(struct dp8390 *c);
/** dp8390_power_on - everything as after power-on; dp8390_reset - its RESET pin */
void dp8390_power_on(struct dp8390 *c);
void dp8390_reset(struct dp8390 *c);

/* What a card's ports do; @offset 0 to 31. */
uint32_t dp8390_read(struct dp8390 *c, unsigned offset, unsigned size);
void dp8390_write(struct dp8390 *c, unsigned offset, uint32_t value, unsigned size);
/** dp8390_read_block - items of @size from the data port; returns how many moved */
size_t dp8390_read_block(struct dp8390 *c, unsigned offset, unsigned size, uint8_t *buf,
			 size_t count);
size_t dp8390_write_block(struct dp8390 *c, unsigned offset, unsigned size, const uint8_t *buf,
			  size_t count);
/* The same for a card's struct ioport_ops, @opaque: the chip. */
uint32_t dp8390_port_read(void *opaque, uint16_t port, unsigned size);
void dp8390_port_write(void *opaque, uint16_t port, uint32_t value, unsigned size);
size_t dp8390_port_read_block(void *opaque, uint16_t port, unsigned size, uint8_t *buf,
			      size_t count);
size_t dp8390_port_write_block(void *opaque, uint16_t port, unsigned size, const uint8_t *buf,
			       size_t count);

/* For the card's net_nic_ops. */
bool dp8390_can_receive(struct net_nic *nic);
void dp8390_receive(struct net_nic *nic, const uint8_t *frame, size_t len);
void dp8390_writable(struct net_nic *nic);

/** dp8390_loaded - after its fields were set from an image; dp8390_check - before */
void dp8390_loaded(struct dp8390 *c);
bool dp8390_check(const struct dp8390 *c, const char **field);

/* State fields of the chip @c inside struct @s. */
#define DP8390_STATE_FIELDS(s, c) \
	STATE_UINT(s, c.cr), \
	STATE_UINT(s, c.isr), \
	STATE_UINT_MASKED(s, c.imr, 0x7f), \
	STATE_UINT_MASKED(s, c.dcr, 0x7f), \
	STATE_UINT_MASKED(s, c.tcr, 0x1f), \
	STATE_UINT_MASKED(s, c.rcr, 0x3f), \
	STATE_UINT(s, c.tsr), \
	STATE_UINT(s, c.rsr), \
	STATE_UINT(s, c.pstart), \
	STATE_UINT(s, c.pstop), \
	STATE_UINT(s, c.bnry), \
	STATE_UINT(s, c.curr), \
	STATE_UINT(s, c.tpsr), \
	STATE_UINT(s, c.tbcr), \
	STATE_UINT(s, c.crda), \
	STATE_UINT(s, c.rbcr), \
	STATE_UINT(s, c.clda), \
	STATE_BYTES(s, c.par), \
	STATE_BYTES(s, c.mar), \
	STATE_BYTES(s, c.cntr), \
	STATE_UINT(s, c.remote_next), \
	STATE_UINT(s, c.local_next), \
	STATE_UINT(s, c.address_counter), \
	STATE_BYTES(s, c.fifo), \
	STATE_UINT_MAX(s, c.fifo_at, DP8390_FIFO_SIZE - 1), \
	STATE_UINT_MAX(s, c.remote, DP8390_REMOTE_SEND), \
	STATE_UINT(s, c.send_next), \
	STATE_BOOL(s, c.remind), \
	STATE_UINT(s, c.cr9346), \
	STATE_UINT_MASKED(s, c.config2, 0xe0), \
	STATE_UINT_MASKED(s, c.config3, 0x46), \
	STATE_BYTES(s, c.prom), \
	STATE_BYTES(s, c.ram)

#endif
