/* See dp8390.h and dp8390.c: local DMA, that is reception and transmission. */
#include <string.h>

#include "core/util.h"
#include "devices/dp8390_priv.h"

enum {
	PAGE = DP8390_PAGE, HEADER = DP8390_HEADER, FCS = 4,
	FRAME_MIN = 60,              /* without FCS: what the wire pads to */
	FULL_FRAME = 1518,           /* with a VLAN tag, without FCS */
	CNTR_ALARM = 0x80,
};
#define CRC_RESIDUE 0xdebb20e3u /* after a frame with a good FCS */

/* ---- local memory ---- */

/* The bytes at @addr: how many of @len (at least 1) are of one kind, and where they
 * are; NULL: there is no memory. */
static size_t memory_run(const struct dp8390 *c, uint16_t addr, size_t len, const uint8_t **at)
{
	size_t room;

	*at = NULL;
	if (addr < DP8390_PROM_SIZE) {
		*at = c->prom + addr;
		room = DP8390_PROM_SIZE - addr;
	} else if (addr < DP8390_RAM_BASE) {
		room = DP8390_RAM_BASE - addr;
	} else if (addr < DP8390_RAM_BASE + DP8390_RAM_SIZE) {
		*at = c->ram + (addr - DP8390_RAM_BASE);
		room = DP8390_RAM_BASE + DP8390_RAM_SIZE - addr;
	} else {
		room = 0x10000 - addr;
	}
	return MIN(len, room);
}

void dp8390_memory_get(const struct dp8390 *c, uint16_t addr, uint8_t *buf, size_t len)
{
	while (len) {
		const uint8_t *at;
		size_t n = memory_run(c, addr, len, &at);

		if (at)
			memcpy(buf, at, n);
		else
			memset(buf, 0xff, n);
		addr += n;
		buf += n;
		len -= n;
	}
}

/* The source may be in the RAM as well: a frame that comes back by a loopback. */
void dp8390_memory_put(struct dp8390 *c, uint16_t addr, const uint8_t *buf, size_t len)
{
	while (len) {
		const uint8_t *at;
		size_t n = memory_run(c, addr, len, &at);

		if (at && addr >= DP8390_RAM_BASE)
			memmove(c->ram + (addr - DP8390_RAM_BASE), buf, n);
		addr += n;
		buf += n;
		len -= n;
	}
}

/* BOS in a word-wide system: each pair of bytes the other way around (68000). */
static bool swapped(const struct dp8390 *c)
{
	return (c->dcr & (DCR_WTS | DCR_BOS)) == (DCR_WTS | DCR_BOS);
}

static void local_put(struct dp8390 *c, uint16_t addr, const uint8_t *buf, size_t len)
{
	if (likely(!swapped(c))) {
		dp8390_memory_put(c, addr, buf, len);
		return;
	}
	for (size_t i = 0; i < len; i++)
		dp8390_memory_put(c, (uint16_t)(addr + i) ^ 1, buf + i, 1);
}

void dp8390_local_get(const struct dp8390 *c, uint16_t addr, uint8_t *buf, size_t len)
{
	if (likely(!swapped(c))) {
		dp8390_memory_get(c, addr, buf, len);
		return;
	}
	for (size_t i = 0; i < len; i++)
		dp8390_memory_get(c, (uint16_t)(addr + i) ^ 1, buf + i, 1);
}

/* Bytes from @addr (at least 1) until a DMA address jumps: at PSTOP to PSTART. */
size_t dp8390_until_jump(const struct dp8390 *c, uint16_t addr)
{
	size_t stop = c->pstop * PAGE;

	return (addr < stop ? stop : 0x10000) - addr;
}

uint16_t dp8390_advance(const struct dp8390 *c, uint16_t addr, size_t n)
{
	addr += n;
	return addr == c->pstop * PAGE ? c->pstart * PAGE : addr;
}

/* ---- FCS ---- */

void dp8390_crc_init(struct dp8390 *c)
{
	for (unsigned i = 0; i < 256; i++) {
		uint32_t v = i;

		for (unsigned bit = 0; bit < 8; bit++)
			v = v & 1 ? v >> 1 ^ 0xedb88320 : v >> 1;
		c->crc_table[0][i] = v;
	}
	for (unsigned t = 1; t < 4; t++) {
		for (unsigned i = 0; i < 256; i++) {
			uint32_t v = c->crc_table[t - 1][i];

			c->crc_table[t][i] = v >> 8 ^ c->crc_table[0][v & 0xff];
		}
	}
}

/* The CRC register of IEEE 802.3 after @len bytes, least significant bit first. */
static uint32_t crc_add(const struct dp8390 *c, uint32_t crc, const uint8_t *p, size_t len)
{
	const uint32_t (*t)[256] = c->crc_table;

	for (; len >= 4; p += 4, len -= 4) {
		crc ^= load_le32(p);
		crc = t[3][crc & 0xff] ^ t[2][crc >> 8 & 0xff] ^ t[1][crc >> 16 & 0xff] ^
		      t[0][crc >> 24];
	}
	while (len--)
		crc = crc >> 8 ^ t[0][(crc ^ *p++) & 0xff];
	return crc;
}

/* ---- reception ---- */

static void tally(struct dp8390 *c, unsigned n)
{
	if (c->cntr[n] < DP8390_CNTR_MAX)
		c->cntr[n]++;
	if (c->cntr[n] & CNTR_ALARM)
		c->isr |= ISR_CNT;
}

static unsigned loopback(const struct dp8390 *c)
{
	return (c->tcr & TCR_LB) >> TCR_LB_SHIFT;
}

/* "The 6 most significant bits of the CRC register", which shifts left in the
 * datasheet's figure and right in ours: its bit 31 is our bit 0. */
static bool hash_match(const struct dp8390 *c, const uint8_t *mac)
{
	uint32_t crc = crc_add(c, UINT32_MAX, mac, NET_MAC_SIZE);
	unsigned index = 0;

	for (unsigned i = 0; i < 6; i++)
		index = index << 1 | (crc >> i & 1);
	return c->mar[index >> 3] >> (index & 7) & 1;
}

static bool wanted(const struct dp8390 *c, const uint8_t *dst)
{
	static const uint8_t broadcast[NET_MAC_SIZE] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	if (!(dst[0] & 1))
		return c->rcr & RCR_PRO || !memcmp(dst, c->par, NET_MAC_SIZE);
	if (!memcmp(dst, broadcast, NET_MAC_SIZE))
		return c->rcr & RCR_AB;
	return c->rcr & RCR_AM && hash_match(c, dst);
}

static uint8_t next_page(const struct dp8390 *c, uint8_t page)
{
	page++;
	return page == c->pstop ? c->pstart : page;
}

/* Where frames end that have not been read. A driver that writes "the next frame's
 * page less one" may well mean the ring's last page when it writes the one before
 * its first, which the walk would never meet. */
static uint8_t boundary(const struct dp8390 *c)
{
	return (uint8_t)(c->bnry + 1) == c->pstart ? c->pstop - 1 : c->bnry;
}

bool dp8390_unread(const struct dp8390 *c)
{
	uint8_t bnry = boundary(c);

	return c->curr != bnry && c->curr != next_page(c, bnry);
}

/* The page after @pages pages from CURR; false if BNRY is in the way. */
static bool ring_room(const struct dp8390 *c, unsigned pages, uint8_t *next)
{
	uint8_t page = c->curr, bnry = boundary(c);

	while (pages--) {
		page = next_page(c, page);
		if (page == bnry)
			return false;
	}
	*next = page;
	return true;
}

static unsigned pages_of(size_t len)
{
	return (HEADER + len + FCS + PAGE - 1) / PAGE;
}

/* Receives, and is held up by nothing but the ring. */
static bool listening(const struct dp8390 *c)
{
	return dp8390_started(c) && !loopback(c) && !(c->rcr & RCR_MON);
}

bool dp8390_can_receive(struct net_nic *nic)
{
	const struct dp8390 *c = container_of(nic, struct dp8390, nic);
	uint8_t next;

	return !listening(c) || ring_room(c, pages_of(FULL_FRAME), &next);
}

void dp8390_tell_readable(struct dp8390 *c)
{
	if (c->nic.port && c->nic.port->starved && dp8390_can_receive(&c->nic))
		net_port_readable(c->nic.port);
}

void dp8390_drop(struct dp8390 *c, unsigned why)
{
	net_count(&c->counter[why]);
}

/* Missed for want of buffers, or in monitor mode. */
static void missed(struct dp8390 *c, uint8_t isr)
{
	c->rsr |= RSR_MPA;
	tally(c, 2);
	dp8390_raise(c, isr);
}

static uint16_t ring_put(struct dp8390 *c, uint16_t addr, const uint8_t *p, size_t len)
{
	while (len) {
		size_t n = MIN(len, dp8390_until_jump(c, addr));

		local_put(c, addr, p, n);
		addr = dp8390_advance(c, addr, n);
		p += n;
		len -= n;
	}
	return addr;
}

static void store_frame(struct dp8390 *c, const uint8_t *frame, size_t len, uint8_t next)
{
	static const uint8_t zeros[FRAME_MIN];
	size_t padding = len < FRAME_MIN ? FRAME_MIN - len : 0;
	size_t count = len + padding + FCS;
	uint8_t header[HEADER] = {c->rsr, next, count, count >> 8}, fcs[FCS];
	uint32_t crc = crc_add(c, UINT32_MAX, frame, len);
	uint16_t at = c->curr * PAGE;

	store_le32(fcs, ~crc_add(c, crc, zeros, padding));
	/* The frame may lie in our own memory: first what moves, then what is small. */
	at = ring_put(c, dp8390_advance(c, at, HEADER), frame, len);
	at = ring_put(c, at, zeros, padding);
	c->clda = ring_put(c, at, fcs, FCS);
	ring_put(c, c->curr * PAGE, header, HEADER);
}

void dp8390_receive(struct net_nic *nic, const uint8_t *frame, size_t len)
{
	struct dp8390 *c = container_of(nic, struct dp8390, nic);
	uint8_t next;

	if (!dp8390_started(c)) {
		dp8390_drop(c, DP8390_DROP_STOPPED);
		return;
	}
	if (loopback(c)) {
		dp8390_drop(c, DP8390_DROP_LOOPBACK);
		return;
	}
	if (len < NET_HEADER_SIZE || len > NET_FRAME_MAX) {
		dp8390_drop(c, len < NET_HEADER_SIZE ? DP8390_DROP_SHORT : DP8390_DROP_LONG);
		return;
	}
	if (!wanted(c, frame)) {
		dp8390_drop(c, DP8390_DROP_NOT_FOR_US);
		return;
	}
	c->rsr = (frame[0] & 1 ? RSR_PHY : 0) | (c->rcr & RCR_MON ? RSR_DIS : 0);
	if (c->rcr & RCR_MON) {
		dp8390_drop(c, DP8390_DROP_MONITOR);
		missed(c, 0);
		return;
	}
	if (!ring_room(c, pages_of(MAX(len, (size_t)FRAME_MIN)), &next)) {
		dp8390_drop(c, DP8390_DROP_RING_FULL);
		missed(c, ISR_OVW | ISR_RXE | ISR_RST);
		return;
	}
	c->rsr |= RSR_PRX;
	store_frame(c, frame, len, next);
	if (c->nic.port && trace_on(c->nic.port->trace, TRACE_NET))
		trace_print(c->nic.port->trace, TRACE_NET,
			    "dp8390: %zu bytes to pages %02x-%02x; BNRY %02x", len, c->curr, next,
			    c->bnry);
	c->curr = next;
	c->remind = true;
	dp8390_raise(c, ISR_PRX);
}

/* ---- transmission ---- */

static bool good_fcs(const struct dp8390 *c, const uint8_t *frame, size_t len)
{
	return len >= FCS && crc_add(c, UINT32_MAX, frame, len) == CRC_RESIDUE;
}

/* The FIFO is a ring that reception goes around; the count of bytes received and
 * its upper half once more follow the last byte. Datasheet section 12, "Alignment
 * of the received packet in the FIFO". */
static void fifo_fill(struct dp8390 *c, const uint8_t *frame, size_t len)
{
	uint8_t fcs[FCS];
	size_t total = len, first;

	if (!(c->tcr & TCR_CRC)) {
		store_le32(fcs, ~crc_add(c, UINT32_MAX, frame, len));
		total += FCS;
	}
	memset(c->fifo, 0, sizeof(c->fifo));
	first = total > DP8390_FIFO_SIZE ? total - DP8390_FIFO_SIZE : 0;
	for (size_t i = first; i < total; i++)
		c->fifo[i % DP8390_FIFO_SIZE] = i < len ? frame[i] : fcs[i - len];
	c->fifo[total % DP8390_FIFO_SIZE] = total;
	c->fifo[(total + 1) % DP8390_FIFO_SIZE] = total >> 8;
	c->fifo[(total + 2) % DP8390_FIFO_SIZE] = total >> 8;
	c->fifo_at = 0;
}

/* What comes back in loopback is not written to memory, so there is no PRX; only
 * the FIFO holds the frame's end. Results as AN-937, section 6, lists them. */
static void loop_back(struct dp8390 *c, const uint8_t *frame, size_t len, unsigned mode)
{
	bool match = len >= NET_MAC_SIZE && wanted(c, frame);
	uint8_t isr = ISR_PTX;

	c->tsr = TSR_PTX | TSR_ND | (mode != LOOPBACK_EXTERNAL ? TSR_CDH : 0) |
		 (mode == LOOPBACK_NIC ? TSR_CRS : 0);
	c->rsr = RSR_PRX;
	/* Sender and receiver share the CRC logic: one that is appended is not
	 * checked but counts as wrong; one in the data (TCR.CRC) is checked. */
	if (match && !(c->tcr & TCR_CRC && good_fcs(c, frame, len))) {
		c->rsr = RSR_CRC;
		isr |= ISR_RXE;
		tally(c, 1);
	}
	fifo_fill(c, frame, len);
	c->isr |= isr;
}

static void transmitted(struct dp8390 *c)
{
	c->tsr = TSR_PTX | TSR_ND;
	/* No link: the transceiver never sees a carrier. The frame is lost. */
	if (!c->nic.port || !net_port_up(c->nic.port))
		c->tsr |= TSR_CRS;
	c->isr |= ISR_PTX;
}

/* The frame at TPSR: in memory if it is there in one piece, else copied. */
static const uint8_t *tx_frame(struct dp8390 *c, size_t len)
{
	uint16_t addr = c->tpsr * PAGE;
	const uint8_t *at;
	size_t n;

	if (likely(!swapped(c) && dp8390_until_jump(c, addr) >= len &&
		   memory_run(c, addr, len, &at) == len && at)) {
		c->clda = dp8390_advance(c, addr, len);
		return at;
	}
	for (size_t done = 0; done < len; done += n) {
		n = MIN(len - done, dp8390_until_jump(c, addr));
		dp8390_local_get(c, addr, c->frame + done, n);
		addr = dp8390_advance(c, addr, n);
	}
	c->clda = addr;
	return c->frame;
}

/* In loopback half of the FIFO sends and half receives, so only one byte of each
 * word is sent: the even ones if BOS is set, else the odd ones. Datasheet section
 * 12, "Loopback modes"; TBCR counts all. */
static const uint8_t *loopback_frame(struct dp8390 *c, size_t *len)
{
	uint16_t addr = c->tpsr * PAGE;

	if (!(c->dcr & DCR_WTS))
		return tx_frame(c, *len);
	*len /= 2;
	for (size_t i = 0; i < *len; i++) {
		dp8390_memory_get(c, c->dcr & DCR_BOS ? addr : addr | 1, c->frame + i, 1);
		addr = dp8390_advance(c, addr, 2);
	}
	c->clda = addr;
	return c->frame;
}

/* With CRC inhibited software has put the FCS at the frame's end. Others see the
 * frame without it, and not at all if it is wrong. */
static void send_to_wire(struct dp8390 *c, const uint8_t *frame, size_t len)
{
	if (c->tcr & TCR_CRC) {
		if (!good_fcs(c, frame, len)) {
			dp8390_drop(c, DP8390_DROP_TX_FCS);
			return;
		}
		len -= FCS;
	}
	/* TXP is clear, so whatever the backend calls from within sends nothing. */
	net_port_send(c->nic.port, frame, len);
}

/* TXP is set. */
void dp8390_transmit(struct dp8390 *c)
{
	struct net_port *port = c->nic.port;
	unsigned mode = loopback(c);
	bool wire = !mode || mode == LOOPBACK_EXTERNAL;
	size_t len = c->tbcr;
	const uint8_t *frame = NULL;

	if (wire && port && !net_port_can_send(port))
		return; /* TXP stays set until it is writable */
	c->cr &= ~CR_TXP;
	if (len <= NET_FRAME_MAX)
		frame = mode ? loopback_frame(c, &len) : tx_frame(c, len);
	if (mode && frame)
		loop_back(c, frame, len, mode);
	else
		transmitted(c);
	dp8390_update_irq(c);
	if (!frame)
		dp8390_drop(c, DP8390_DROP_TX_LONG);
	else if (!wire)
		dp8390_drop(c, DP8390_DROP_TX_LOOPBACK);
	else if (!port)
		dp8390_drop(c, DP8390_DROP_UNPLUGGED);
	else
		send_to_wire(c, frame, len);
}

void dp8390_writable(struct net_nic *nic)
{
	struct dp8390 *c = container_of(nic, struct dp8390, nic);

	if (c->cr & CR_TXP)
		dp8390_transmit(c);
}

void dp8390_abort_transmit(struct dp8390 *c)
{
	if (!(c->cr & CR_TXP))
		return;
	c->cr &= ~CR_TXP;
	dp8390_drop(c, DP8390_DROP_TX_STOPPED);
}
