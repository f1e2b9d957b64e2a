/* See dp8390.h.
 *
 * The chip has two DMA channels into 64 KiB of local memory, where an NE2000 has
 * a PROM at 0 and RAM at 0x4000. Local DMA puts received frames into a ring of
 * 256-byte pages (PSTART to PSTOP) at CURR and fetches frames to transmit from
 * TPSR. Remote DMA moves bytes between memory and the card's data port.
 *
 *	PSTART          BNRY             CURR            PSTOP
 *	|  free         |  unread frames |  free         |
 *
 * A frame in the ring begins on a page with four bytes: RSR, the page of the next
 * frame, the count of bytes received (with FCS, without these four), then the
 * frame and its FCS. The ring is walked as the chip does it, by adding one to a
 * page number, comparing with PSTOP and then with BNRY; so any values of the four
 * registers give a bounded walk, and what falls outside the RAM goes nowhere.
 * Where CURR equals BNRY the ring counts as empty. So that it never comes to that
 * by filling up, the page before BNRY stays free: drivers differ in whether BNRY
 * is the next frame to read or one page before it, and this serves both.
 *
 * Pushing back: only a ring without room for a full-sized frame holds a backend
 * up. A stopped chip, loopback and monitor mode drop and count, as a card does on
 * a live wire; holding frames back there would deliver them stale. A backend that
 * delivers to a full ring causes OVW, a missed packet and "drop.ring-full".
 *
 * Transmission takes no time: TXP is clear again when the write to CR returns,
 * unless the port pushes back. The chip's state is complete before the frame is
 * handed over, because the backend may deliver frames from within.
 *
 * Sources: National Semiconductor DP8390D/NS32490D datasheet (July 1995), AN-874
 * "Writing Drivers for the DP8390", AN-937 "Loopback Diagnostics"; Realtek
 * RTL8029AS specification (January 1997).
 */
#include "devices/dp8390.h"

#include <string.h>

#include "core/util.h"

enum { /* page 0; those of other pages are further below */
	CR = 0x00, CLDA0 = 0x01, CLDA1 = 0x02, BNRY = 0x03, TSR = 0x04, NCR = 0x05,
	FIFO = 0x06, ISR = 0x07, CRDA0 = 0x08, CRDA1 = 0x09, ID0 = 0x0a, ID1 = 0x0b,
	RSR = 0x0c, CNTR0 = 0x0d, CNTR1 = 0x0e, CNTR2 = 0x0f,
	/* written */
	PSTART = 0x01, PSTOP = 0x02, TPSR = 0x04, TBCR0 = 0x05, TBCR1 = 0x06,
	RSAR0 = 0x08, RSAR1 = 0x09, RBCR0 = 0x0a, RBCR1 = 0x0b, RCR = 0x0c, TCR = 0x0d,
	DCR = 0x0e, IMR = 0x0f,
	/* page 1 */
	PAR0 = 0x01, PAR5 = 0x06, CURR = 0x07, MAR0 = 0x08, MAR7 = 0x0f,
	/* page 2 */
	REMOTE_NEXT = 0x03, LOCAL_NEXT = 0x05, ADDRESS1 = 0x06, ADDRESS0 = 0x07,
	/* page 3, RTL8029 */
	CR9346 = 0x01, CONFIG0 = 0x03, CONFIG2 = 0x05, CONFIG3 = 0x06,
	ASID0 = 0x0e, ASID1 = 0x0f,
};

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
/* Both EEM bits: configuration registers can be written. CONFIG2: PL1, PL0, BSELB;
 * CONFIG3: FUDUP, SLEEP, PWRDN. They change nothing here. */
enum { CR9346_EEM = 0xc0, CONFIG2_WRITABLE = 0xe0, CONFIG3_WRITABLE = 0x46 };

enum {
	PAGE = 256, HEADER = 4, FCS = 4,
	FRAME_MIN = 60,              /* without FCS: what the wire pads to */
	FULL_FRAME = 1518,           /* with a VLAN tag, without FCS */
	CNTR_MAX = 0xc0, CNTR_ALARM = 0x80,
};
#define CRC_RESIDUE 0xdebb20e3u /* after a frame with a good FCS */

/* ---- interrupt ---- */

static void update_irq(struct dp8390 *c)
{
	c->irq(c->opaque, c->isr & c->imr & ~ISR_RST);
}

static void raise_isr(struct dp8390 *c, uint8_t bits)
{
	c->isr |= bits;
	update_irq(c);
}

static void tally(struct dp8390 *c, unsigned n)
{
	if (c->cntr[n] < CNTR_MAX)
		c->cntr[n]++;
	if (c->cntr[n] & CNTR_ALARM)
		c->isr |= ISR_CNT;
}

static bool started(const struct dp8390 *c)
{
	return (c->cr & (CR_STA | CR_STP)) == CR_STA;
}

static unsigned loopback(const struct dp8390 *c)
{
	return (c->tcr & TCR_LB) >> TCR_LB_SHIFT;
}

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

static void memory_get(const struct dp8390 *c, uint16_t addr, uint8_t *buf, size_t len)
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
static void memory_put(struct dp8390 *c, uint16_t addr, const uint8_t *buf, size_t len)
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
		memory_put(c, addr, buf, len);
		return;
	}
	for (size_t i = 0; i < len; i++)
		memory_put(c, (uint16_t)(addr + i) ^ 1, buf + i, 1);
}

static void local_get(const struct dp8390 *c, uint16_t addr, uint8_t *buf, size_t len)
{
	if (likely(!swapped(c))) {
		memory_get(c, addr, buf, len);
		return;
	}
	for (size_t i = 0; i < len; i++)
		memory_get(c, (uint16_t)(addr + i) ^ 1, buf + i, 1);
}

/* Bytes from @addr (at least 1) until a DMA address jumps: at PSTOP to PSTART. */
static size_t until_jump(const struct dp8390 *c, uint16_t addr)
{
	size_t stop = c->pstop * PAGE;

	return (addr < stop ? stop : 0x10000) - addr;
}

static uint16_t advance(const struct dp8390 *c, uint16_t addr, size_t n)
{
	addr += n;
	return addr == c->pstop * PAGE ? c->pstart * PAGE : addr;
}

/* ---- FCS ---- */

static void crc_init(struct dp8390 *c)
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

/* The page after @pages pages from CURR; false if BNRY is in the way. */
static bool ring_room(const struct dp8390 *c, unsigned pages, uint8_t *next)
{
	uint8_t page = c->curr;

	while (pages--) {
		page = next_page(c, page);
		if (page == c->bnry)
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
	return started(c) && !loopback(c) && !(c->rcr & RCR_MON);
}

bool dp8390_can_receive(struct net_nic *nic)
{
	const struct dp8390 *c = container_of(nic, struct dp8390, nic);
	uint8_t next;

	return !listening(c) || ring_room(c, pages_of(FULL_FRAME), &next);
}

static void tell_readable(struct dp8390 *c)
{
	if (c->nic.port && c->nic.port->starved && dp8390_can_receive(&c->nic))
		net_port_readable(c->nic.port);
}

static void drop(struct dp8390 *c, unsigned why)
{
	net_count(&c->counter[why]);
}

/* Missed for want of buffers, or in monitor mode. */
static void missed(struct dp8390 *c, uint8_t isr)
{
	c->rsr |= RSR_MPA;
	tally(c, 2);
	raise_isr(c, isr);
}

static uint16_t ring_put(struct dp8390 *c, uint16_t addr, const uint8_t *p, size_t len)
{
	while (len) {
		size_t n = MIN(len, until_jump(c, addr));

		local_put(c, addr, p, n);
		addr = advance(c, addr, n);
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
	at = ring_put(c, advance(c, at, HEADER), frame, len);
	at = ring_put(c, at, zeros, padding);
	c->clda = ring_put(c, at, fcs, FCS);
	ring_put(c, c->curr * PAGE, header, HEADER);
}

void dp8390_receive(struct net_nic *nic, const uint8_t *frame, size_t len)
{
	struct dp8390 *c = container_of(nic, struct dp8390, nic);
	uint8_t next;

	if (!started(c)) {
		drop(c, DP8390_DROP_STOPPED);
		return;
	}
	if (loopback(c)) {
		drop(c, DP8390_DROP_LOOPBACK);
		return;
	}
	if (len < NET_HEADER_SIZE || len > NET_FRAME_MAX) {
		drop(c, len < NET_HEADER_SIZE ? DP8390_DROP_SHORT : DP8390_DROP_LONG);
		return;
	}
	if (!wanted(c, frame)) {
		drop(c, DP8390_DROP_NOT_FOR_US);
		return;
	}
	c->rsr = (frame[0] & 1 ? RSR_PHY : 0) | (c->rcr & RCR_MON ? RSR_DIS : 0);
	if (c->rcr & RCR_MON) {
		drop(c, DP8390_DROP_MONITOR);
		missed(c, 0);
		return;
	}
	if (!ring_room(c, pages_of(MAX(len, (size_t)FRAME_MIN)), &next)) {
		drop(c, DP8390_DROP_RING_FULL);
		missed(c, ISR_OVW | ISR_RXE | ISR_RST);
		return;
	}
	c->rsr |= RSR_PRX;
	store_frame(c, frame, len, next);
	c->curr = next;
	raise_isr(c, ISR_PRX);
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

	if (likely(!swapped(c) && until_jump(c, addr) >= len &&
		   memory_run(c, addr, len, &at) == len && at)) {
		c->clda = advance(c, addr, len);
		return at;
	}
	for (size_t done = 0; done < len; done += n) {
		n = MIN(len - done, until_jump(c, addr));
		local_get(c, addr, c->frame + done, n);
		addr = advance(c, addr, n);
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
		memory_get(c, c->dcr & DCR_BOS ? addr : addr | 1, c->frame + i, 1);
		addr = advance(c, addr, 2);
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
			drop(c, DP8390_DROP_TX_FCS);
			return;
		}
		len -= FCS;
	}
	c->sending = true;
	net_port_send(c->nic.port, frame, len);
	c->sending = false;
}

/* TXP is set. */
static void transmit(struct dp8390 *c)
{
	struct net_port *port = c->nic.port;
	unsigned mode = loopback(c);
	bool wire = !mode || mode == LOOPBACK_EXTERNAL;
	size_t len = c->tbcr;
	const uint8_t *frame = NULL;

	/* From within our own send (a backend that says writable there): later. */
	if (c->sending)
		return;
	if (wire && port && !net_port_can_send(port))
		return; /* TXP stays set until it is writable */
	c->cr &= ~CR_TXP;
	if (len <= NET_FRAME_MAX)
		frame = mode ? loopback_frame(c, &len) : tx_frame(c, len);
	if (mode && frame)
		loop_back(c, frame, len, mode);
	else
		transmitted(c);
	update_irq(c);
	if (!frame)
		drop(c, DP8390_DROP_TX_LONG);
	else if (!wire)
		drop(c, DP8390_DROP_TX_LOOPBACK);
	else if (!port)
		drop(c, DP8390_DROP_UNPLUGGED);
	else
		send_to_wire(c, frame, len);
}

void dp8390_writable(struct net_nic *nic)
{
	struct dp8390 *c = container_of(nic, struct dp8390, nic);

	if (c->cr & CR_TXP)
		transmit(c);
}

static void resume_fire(void *opaque)
{
	struct dp8390 *c = opaque;

	dp8390_writable(&c->nic);
}

static void abort_transmit(struct dp8390 *c)
{
	if (!(c->cr & CR_TXP))
		return;
	c->cr &= ~CR_TXP;
	drop(c, DP8390_DROP_TX_STOPPED);
}

/* ---- remote DMA ---- */

static void remote_finish(struct dp8390 *c)
{
	bool send = c->remote == DP8390_REMOTE_SEND;

	c->remote = DP8390_REMOTE_OFF;
	if (send)
		c->bnry = c->send_next;
	raise_isr(c, ISR_RDC);
	if (send)
		tell_readable(c);
}

static void remote_start(struct dp8390 *c, unsigned rd)
{
	uint8_t header[HEADER];

	/* "Send command not executed" unless DCR says so. */
	if (rd == RD_SEND && !(c->dcr & DCR_ARM))
		return;
	c->remote = rd == RD_READ ? DP8390_REMOTE_READ :
		    rd == RD_WRITE ? DP8390_REMOTE_WRITE : DP8390_REMOTE_SEND;
	if (rd == RD_SEND) {
		local_get(c, c->bnry * PAGE, header, HEADER);
		c->crda = c->bnry * PAGE;
		c->send_next = header[1];
		c->rbcr = load_le16(header + 2);
	}
	if (!c->rbcr)
		remote_finish(c);
}

/* Bytes the data port moves at a time: memory is as wide as WTS says. */
static unsigned remote_width(const struct dp8390 *c, unsigned size)
{
	return c->dcr & DCR_WTS ? MAX(size, 2u) : size;
}

static bool remote_reads(const struct dp8390 *c)
{
	return c->remote == DP8390_REMOTE_READ || c->remote == DP8390_REMOTE_SEND;
}

/* Count @n bytes as moved; the address is in a range that does not jump. */
static void remote_moved(struct dp8390 *c, size_t n)
{
	c->crda = advance(c, c->crda, n);
	c->rbcr -= MIN(n, c->rbcr);
	if (!c->rbcr)
		remote_finish(c);
}

/* One strobe of the data port moves a byte or a word; A0 is not connected then. */
static uint8_t remote_strobe_read(struct dp8390 *c, bool word, uint8_t *high)
{
	uint8_t v[2] = {0xff, 0xff};

	if (remote_reads(c)) {
		memory_get(c, word ? c->crda & ~1 : c->crda, v, word ? 2 : 1);
		remote_moved(c, word ? 2 : 1);
	}
	*high = v[1];
	return v[0];
}

static void remote_strobe_write(struct dp8390 *c, bool word, const uint8_t *v)
{
	if (c->remote != DP8390_REMOTE_WRITE)
		return;
	memory_put(c, word ? c->crda & ~1 : c->crda, v, word ? 2 : 1);
	remote_moved(c, word ? 2 : 1);
}

static uint32_t data_read(struct dp8390 *c, unsigned size)
{
	bool word = c->dcr & DCR_WTS;
	uint32_t v = 0;

	for (unsigned i = 0; i < size; i += word ? 2 : 1) {
		uint8_t high, low = remote_strobe_read(c, word, &high);

		v |= (uint32_t)low << i * 8;
		if (word && size > 1)
			v |= (uint32_t)high << (i * 8 + 8);
	}
	return v;
}

static void data_write(struct dp8390 *c, uint32_t value, unsigned size)
{
	bool word = c->dcr & DCR_WTS;

	for (unsigned i = 0; i < size; i += word ? 2 : 1) {
		uint8_t v[2] = {value >> i * 8, size > 1 ? value >> (i * 8 + 8) : 0};

		remote_strobe_write(c, word, v);
	}
}

/* How many bytes a block transfer may move in one go, 0 for one by one. */
static size_t remote_bulk(const struct dp8390 *c, unsigned size, size_t bytes)
{
	size_t n;

	if (remote_width(c, size) != size || c->crda & (size - 1))
		return 0;
	n = MIN(MIN(bytes, c->rbcr), until_jump(c, c->crda));
	return n & ~(size_t)(size - 1);
}

size_t dp8390_read_block(struct dp8390 *c, unsigned offset, unsigned size, uint8_t *buf,
			 size_t count)
{
	size_t bytes = count * size, done = 0, n;

	if (offset < DP8390_DATA || offset >= DP8390_RESET || count > SIZE_MAX / 4)
		return 0;
	while (remote_reads(c) && (n = remote_bulk(c, size, bytes - done))) {
		memory_get(c, c->crda, buf + done, n);
		done += n;
		remote_moved(c, n);
	}
	return done / size;
}

size_t dp8390_write_block(struct dp8390 *c, unsigned offset, unsigned size, const uint8_t *buf,
			  size_t count)
{
	size_t bytes = count * size, done = 0, n;

	if (offset < DP8390_DATA || offset >= DP8390_RESET || count > SIZE_MAX / 4)
		return 0;
	while (c->remote == DP8390_REMOTE_WRITE && (n = remote_bulk(c, size, bytes - done))) {
		memory_put(c, c->crda, buf + done, n);
		done += n;
		remote_moved(c, n);
	}
	return done / size;
}

/* ---- registers ---- */

static void write_cr(struct dp8390 *c, uint8_t v)
{
	unsigned rd = (v & CR_RD) >> CR_RD_SHIFT;
	bool before = started(c);

	if (v & CR_STP) {
		abort_transmit(c);
		c->isr |= ISR_RST;
	}
	/* TXP cannot be taken back by writing 0; STP has been seen to. */
	c->cr = (v & ~CR_TXP) | (c->cr & CR_TXP);
	if (started(c))
		c->isr &= ~ISR_RST;
	if (rd & RD_ABORT)
		c->remote = DP8390_REMOTE_OFF;
	else if (rd)
		remote_start(c, rd);
	if (v & CR_TXP && started(c) && !(c->cr & CR_TXP)) {
		c->cr |= CR_TXP;
		transmit(c);
	}
	update_irq(c);
	if (started(c) != before)
		tell_readable(c);
}

static void write_bnry(struct dp8390 *c, uint8_t v)
{
	c->bnry = v;
	/* The ring overflowed and has room again. */
	if (started(c))
		c->isr &= ~ISR_RST;
	tell_readable(c);
}

/* What others may know the guest by; half-written and silly addresses included only
 * if they could be a station's. */
static void report_mac(struct dp8390 *c)
{
	if (c->nic.port && net_mac_is_station(c->par))
		memcpy(c->nic.port->guest_mac, c->par, NET_MAC_SIZE);
}

static uint8_t read_cntr(struct dp8390 *c, unsigned n)
{
	uint8_t v = c->cntr[n];

	c->cntr[n] = 0;
	return v;
}

static uint8_t read_page0(struct dp8390 *c, unsigned reg)
{
	switch (reg) {
	case CLDA0: return c->clda;
	case CLDA1: return c->clda >> 8;
	case BNRY: return c->bnry;
	case TSR: return c->tsr;
	case NCR: return 0; /* no collisions here */
	case FIFO: {
		uint8_t v = c->fifo[c->fifo_at % DP8390_FIFO_SIZE];

		c->fifo_at = (c->fifo_at + 1) % DP8390_FIFO_SIZE;
		return v;
	}
	case ISR: return c->isr;
	case CRDA0: return c->crda;
	case CRDA1: return c->crda >> 8;
	case ID0: return c->kind == DP8390_RTL8029 ? 'P' : 0xff;
	case ID1: return c->kind == DP8390_RTL8029 ? 'C' : 0xff;
	case RSR: return c->rsr;
	default: return read_cntr(c, reg - CNTR0);
	}
}

static void write_page0(struct dp8390 *c, unsigned reg, uint8_t v)
{
	switch (reg) {
	case PSTART: c->pstart = v; break;
	case PSTOP: c->pstop = v; break;
	case BNRY: write_bnry(c, v); break;
	case TPSR: c->tpsr = v; break;
	case TBCR0: c->tbcr = (c->tbcr & 0xff00) | v; break;
	case TBCR1: c->tbcr = (c->tbcr & 0x00ff) | v << 8; break;
	case ISR:
		c->isr &= ~v | ISR_RST;
		update_irq(c);
		break;
	case RSAR0: c->crda = (c->crda & 0xff00) | v; break;
	case RSAR1: c->crda = (c->crda & 0x00ff) | v << 8; break;
	case RBCR0: c->rbcr = (c->rbcr & 0xff00) | v; break;
	case RBCR1: c->rbcr = (c->rbcr & 0x00ff) | v << 8; break;
	case RCR:
		c->rcr = v & 0x3f;
		c->rsr = (c->rsr & ~RSR_DIS) | (v & RCR_MON ? RSR_DIS : 0);
		tell_readable(c);
		break;
	case TCR:
		c->tcr = v & 0x1f;
		tell_readable(c);
		break;
	case DCR: c->dcr = v & 0x7f; break;
	case IMR:
		c->imr = v & 0x7f;
		update_irq(c);
		break;
	}
}

static uint8_t read_page1(const struct dp8390 *c, unsigned reg)
{
	if (reg <= PAR5)
		return c->par[reg - PAR0];
	return reg == CURR ? c->curr : c->mar[reg - MAR0];
}

static void write_page1(struct dp8390 *c, unsigned reg, uint8_t v)
{
	if (reg <= PAR5) {
		c->par[reg - PAR0] = v;
		report_mac(c);
	} else if (reg == CURR) {
		c->curr = v;
		tell_readable(c);
	} else {
		c->mar[reg - MAR0] = v;
	}
}

static uint8_t read_page2(const struct dp8390 *c, unsigned reg)
{
	switch (reg) {
	case PSTART: return c->pstart;
	case PSTOP: return c->pstop;
	case REMOTE_NEXT: return c->remote_next;
	case TPSR: return c->tpsr;
	case LOCAL_NEXT: return c->local_next;
	case ADDRESS1: return c->address_counter >> 8;
	case ADDRESS0: return c->address_counter;
	case RCR: return c->rcr | 0xc0;
	case TCR: return c->tcr | 0xe0;
	case DCR: return c->dcr | 0x80;
	case IMR: return c->imr | 0x80;
	default: return 0xff;
	}
}

static void write_page2(struct dp8390 *c, unsigned reg, uint8_t v)
{
	switch (reg) {
	case CLDA0: c->clda = (c->clda & 0xff00) | v; break;
	case CLDA1: c->clda = (c->clda & 0x00ff) | v << 8; break;
	case REMOTE_NEXT: c->remote_next = v; break;
	case LOCAL_NEXT: c->local_next = v; break;
	case ADDRESS1: c->address_counter = (c->address_counter & 0x00ff) | v << 8; break;
	case ADDRESS0: c->address_counter = (c->address_counter & 0xff00) | v; break;
	}
}

static uint8_t read_page3(const struct dp8390 *c, unsigned reg)
{
	if (c->kind != DP8390_RTL8029)
		return 0xff;
	switch (reg) {
	case CR9346: return c->cr9346;
	case CONFIG0: return 0; /* twisted pair, not BNC */
	case CONFIG2: return c->config2;
	case CONFIG3: return c->config3;
	case ASID0: return 0x29;
	case ASID1: return 0x80;
	default: return 0xff;
	}
}

static void write_page3(struct dp8390 *c, unsigned reg, uint8_t v)
{
	if (c->kind != DP8390_RTL8029)
		return;
	switch (reg) {
	case CR9346: c->cr9346 = v & 0xfe; break;
	case CONFIG2:
		if ((c->cr9346 & CR9346_EEM) == CR9346_EEM)
			c->config2 = v & CONFIG2_WRITABLE;
		break;
	case CONFIG3:
		if ((c->cr9346 & CR9346_EEM) == CR9346_EEM)
			c->config3 = v & CONFIG3_WRITABLE;
		break;
	}
}

static uint8_t read_register(struct dp8390 *c, unsigned reg)
{
	if (reg == CR)
		return c->cr;
	switch (c->cr >> CR_PAGE_SHIFT) {
	case 0: return read_page0(c, reg);
	case 1: return read_page1(c, reg);
	case 2: return read_page2(c, reg);
	default: return read_page3(c, reg);
	}
}

static void write_register(struct dp8390 *c, unsigned reg, uint8_t v)
{
	if (reg == CR) {
		write_cr(c, v);
		return;
	}
	switch (c->cr >> CR_PAGE_SHIFT) {
	case 0: write_page0(c, reg, v); break;
	case 1: write_page1(c, reg, v); break;
	case 2: write_page2(c, reg, v); break;
	default: write_page3(c, reg, v); break;
	}
}

uint32_t dp8390_read(struct dp8390 *c, unsigned offset, unsigned size)
{
	uint32_t v = 0;

	offset &= DP8390_PORTS - 1;
	if (offset >= DP8390_DATA && offset < DP8390_RESET)
		return data_read(c, size);
	for (unsigned i = 0; i < size; i++) {
		unsigned at = (offset + i) & (DP8390_PORTS - 1);
		uint8_t byte = 0xff;

		if (at < DP8390_DATA)
			byte = read_register(c, at);
		else if (at >= DP8390_RESET)
			dp8390_reset(c);
		v |= (uint32_t)byte << i * 8;
	}
	return v;
}

void dp8390_write(struct dp8390 *c, unsigned offset, uint32_t value, unsigned size)
{
	offset &= DP8390_PORTS - 1;
	if (offset >= DP8390_DATA && offset < DP8390_RESET) {
		data_write(c, value, size);
		return;
	}
	for (unsigned i = 0; i < size; i++) {
		unsigned at = (offset + i) & (DP8390_PORTS - 1);

		if (at < DP8390_DATA)
			write_register(c, at, value >> i * 8);
		else if (at >= DP8390_RESET)
			dp8390_reset(c);
	}
}

/* ---- life ---- */

/* Table 11 of the datasheet, "RESET": these bits and no others. */
void dp8390_reset(struct dp8390 *c)
{
	abort_transmit(c);
	c->cr = CR_STP | RD_ABORT << CR_RD_SHIFT;
	c->isr = ISR_RST;
	c->imr = 0;
	c->dcr |= DCR_LAS;
	c->tcr &= ~TCR_LB;
	c->remote = DP8390_REMOTE_OFF;
	update_irq(c);
	tell_readable(c);
}

static void make_prom(struct dp8390 *c, const uint8_t mac[NET_MAC_SIZE])
{
	memset(c->prom, 0, sizeof(c->prom));
	for (unsigned i = 0; i < NET_MAC_SIZE; i++)
		c->prom[2 * i] = c->prom[2 * i + 1] = mac[i];
	/* 'W': a card for a 16-bit slot. */
	memset(c->prom + 0x1c, 0x57, 4);
}

void dp8390_power_on(struct dp8390 *c)
{
	timer_disarm(&c->resume);
	c->cr = 0;
	c->dcr = c->tcr = c->rcr = c->tsr = c->rsr = 0;
	c->pstart = c->pstop = c->bnry = c->curr = c->tpsr = 0;
	c->tbcr = c->crda = c->rbcr = c->clda = 0;
	for (unsigned i = 0; i < NET_MAC_SIZE; i++)
		c->par[i] = c->prom[2 * i];
	memset(c->mar, 0, sizeof(c->mar));
	memset(c->cntr, 0, sizeof(c->cntr));
	c->remote_next = c->local_next = 0;
	c->address_counter = 0;
	memset(c->fifo, 0, sizeof(c->fifo));
	c->fifo_at = 0;
	c->send_next = 0;
	c->cr9346 = c->config2 = c->config3 = 0;
	memset(c->ram, 0, sizeof(c->ram));
	report_mac(c);
	dp8390_reset(c);
}

void dp8390_init(struct dp8390 *c, enum dp8390_kind kind, const struct net_nic_ops *nic_ops,
		 const uint8_t mac[NET_MAC_SIZE], struct loop *loop,
		 void (*irq)(void *opaque, bool level), void *opaque)
{
	static const char *const names[DP8390_COUNTERS] = {
		[DP8390_DROP_STOPPED] = "drop.stopped",
		[DP8390_DROP_LOOPBACK] = "drop.loopback",
		[DP8390_DROP_NOT_FOR_US] = "drop.not-for-us",
		[DP8390_DROP_MONITOR] = "drop.monitor",
		[DP8390_DROP_RING_FULL] = "drop.ring-full",
		[DP8390_DROP_SHORT] = "drop.too-short",
		[DP8390_DROP_LONG] = "drop.too-long",
		[DP8390_DROP_TX_LONG] = "drop.tx-too-long",
		[DP8390_DROP_TX_STOPPED] = "drop.tx-stopped",
		[DP8390_DROP_TX_LOOPBACK] = "drop.tx-loopback",
		[DP8390_DROP_TX_FCS] = "drop.tx-bad-fcs",
		[DP8390_DROP_UNPLUGGED] = "drop.tx-no-port",
	};

	c->kind = kind;
	c->irq = irq;
	c->opaque = opaque;
	c->nic.ops = nic_ops;
	for (unsigned i = 0; i < DP8390_COUNTERS; i++)
		c->counter[i] = (struct net_counter){names[i], 0};
	c->nic.counters = (struct net_counters){c->counter, DP8390_COUNTERS};
	timer_init(&c->resume, loop, "dp8390-resume", resume_fire, c);
	crc_init(c);
	make_prom(c, mac);
}

void dp8390_finish(struct dp8390 *c)
{
	timer_disarm(&c->resume);
	if (c->nic.port)
		net_port_set_nic(c->nic.port, NULL);
}

bool dp8390_check(const struct dp8390 *c, const char **field)
{
	/* A frame waits for the port only while the chip runs. */
	if (c->cr & CR_TXP && !started(c)) {
		*field = "cr";
		return false;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(c->cntr); i++) {
		if (c->cntr[i] > CNTR_MAX) {
			*field = "cntr";
			return false;
		}
	}
	return true;
}

void dp8390_loaded(struct dp8390 *c)
{
	report_mac(c);
	update_irq(c);
	timer_disarm(&c->resume);
	if (c->cr & CR_TXP)
		timer_arm(&c->resume, loop_now(c->resume.loop));
}
