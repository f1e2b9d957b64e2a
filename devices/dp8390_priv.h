/* What the files of the DP8390 share: bits of its registers, local memory. */
#ifndef GANNET_DEVICES_DP8390_PRIV_H
#define GANNET_DEVICES_DP8390_PRIV_H

#include "devices/dp8390.h"

enum { CR_STP = 0x01, CR_STA = 0x02, CR_TXP = 0x04, CR_RD = 0x38, CR_RD_SHIFT = 3,
       CR_PAGE_SHIFT = 6, RD_READ = 1, RD_WRITE = 2, RD_SEND = 3, RD_ABORT = 4 };
enum { ISR_PRX = 0x01, ISR_PTX = 0x02, ISR_RXE = 0x04, ISR_TXE = 0x08, ISR_OVW = 0x10,
       ISR_CNT = 0x20, ISR_RDC = 0x40, ISR_RST = 0x80 };
enum { DCR_WTS = 0x01, DCR_BOS = 0x02, DCR_LAS = 0x04, DCR_LS = 0x08, DCR_ARM = 0x10 };
enum { TCR_CRC = 0x01, TCR_LB = 0x06, TCR_LB_SHIFT = 1 };
enum { LOOPBACK_NIC = 1, LOOPBACK_ENDEC, LOOPBACK_EXTERNAL };
enum { RCR_SEP = 0x01, RCR_AR = 0x02, RCR_AB = 0x04, RCR_AM = 0x08, RCR_PRO = 0x10,
       RCR_MON = 0x20 };
enum { RSR_PRX = 0x01, RSR_CRC = 0x02, RSR_FAE = 0x04, RSR_FO = 0x08, RSR_MPA = 0x10,
       RSR_PHY = 0x20, RSR_DIS = 0x40, RSR_DFR = 0x80 };
enum { TSR_PTX = 0x01, TSR_ND = 0x02, TSR_COL = 0x04, TSR_ABT = 0x08, TSR_CRS = 0x10,
       TSR_FU = 0x20, TSR_CDH = 0x40, TSR_OWC = 0x80 };

enum { DP8390_PAGE = 256, DP8390_HEADER = 4, DP8390_CNTR_MAX = 0xc0 };

static inline bool dp8390_started(const struct dp8390 *c)
{
	return (c->cr & (CR_STA | CR_STP)) == CR_STA;
}

void dp8390_update_irq(struct dp8390 *c);
void dp8390_raise(struct dp8390 *c, uint8_t isr);

/* dp8390_local.c */
void dp8390_crc_init(struct dp8390 *c);
/** dp8390_memory_get - local memory; where there is none, ones; addresses wrap at 64 KiB */
void dp8390_memory_get(const struct dp8390 *c, uint16_t addr, uint8_t *buf, size_t len);
/** dp8390_memory_put - only RAM takes it; the source may lie in it */
void dp8390_memory_put(struct dp8390 *c, uint16_t addr, const uint8_t *buf, size_t len);
/** dp8390_local_get - as the chip sees memory, by byte order */
void dp8390_local_get(const struct dp8390 *c, uint16_t addr, uint8_t *buf, size_t len);
/** dp8390_until_jump - bytes from @addr (at least 1) until a DMA address jumps:
 *  at PSTOP to PSTART; dp8390_advance - across no more than that */
size_t dp8390_until_jump(const struct dp8390 *c, uint16_t addr);
uint16_t dp8390_advance(const struct dp8390 *c, uint16_t addr, size_t n);
/** dp8390_unread - are there frames in the ring, whichever way BNRY is used? */
bool dp8390_unread(const struct dp8390 *c);
void dp8390_drop(struct dp8390 *c, unsigned why);
/** dp8390_tell_readable - if a backend waits and there is room */
void dp8390_tell_readable(struct dp8390 *c);
/** dp8390_transmit - CR.TXP is set; dp8390_abort_transmit - it is not to be any more */
void dp8390_transmit(struct dp8390 *c);
void dp8390_abort_transmit(struct dp8390 *c);

#endif
