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
 * PRX comes back when a driver clears it and leaves frames in the ring: many read a
 * few frames, or look at CURR, and clear PRX after that. On a slow wire the next
 * frame soon reminds them of what they left; here it may be held back by the very
 * ring they leave full. Once for each time that BNRY has moved or a frame has come,
 * so that no driver is reminded for ever. It looks like a frame that came in time to
 * be read with the one before it, which every driver knows.
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
#include "devices/dp8390_priv.h"

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

/* Both EEM bits: configuration registers can be written. CONFIG2: PL1, PL0, BSELB;
 * CONFIG3: FUDUP, SLEEP, PWRDN. They change nothing here. */
enum { CR9346_EEM = 0xc0, CONFIG2_WRITABLE = 0xe0, CONFIG3_WRITABLE = 0x46 };

/* ---- interrupt ---- */

void dp8390_update_irq(struct dp8390 *c)
{
	c->irq(c->opaque, c->isr & c->imr & ~ISR_RST);
}

void dp8390_raise(struct dp8390 *c, uint8_t bits)
{
	c->isr |= bits;
	dp8390_update_irq(c);
}

/* ---- remote DMA ---- */

static void remote_finish(struct dp8390 *c)
{
	bool send = c->remote == DP8390_REMOTE_SEND;

	c->remote = DP8390_REMOTE_OFF;
	if (send) {
		c->bnry = c->send_next;
		c->remind = true;
	}
	dp8390_raise(c, ISR_RDC);
	if (send)
		dp8390_tell_readable(c);
}

static void remote_start(struct dp8390 *c, unsigned rd)
{
	uint8_t header[DP8390_HEADER];

	/* "Send command not executed" unless DCR says so. */
	if (rd == RD_SEND && !(c->dcr & DCR_ARM))
		return;
	c->remote = rd == RD_READ ? DP8390_REMOTE_READ :
		    rd == RD_WRITE ? DP8390_REMOTE_WRITE : DP8390_REMOTE_SEND;
	if (rd == RD_SEND) {
		dp8390_local_get(c, c->bnry * DP8390_PAGE, header, DP8390_HEADER);
		c->crda = c->bnry * DP8390_PAGE;
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
	c->crda = dp8390_advance(c, c->crda, n);
	c->rbcr -= MIN(n, c->rbcr);
	if (!c->rbcr)
		remote_finish(c);
}

/* One strobe of the data port moves a byte or a word; A0 is not connected then. */
static uint8_t remote_strobe_read(struct dp8390 *c, bool word, uint8_t *high)
{
	uint8_t v[2] = {0xff, 0xff};

	if (remote_reads(c)) {
		dp8390_memory_get(c, word ? c->crda & ~1 : c->crda, v, word ? 2 : 1);
		remote_moved(c, word ? 2 : 1);
	}
	*high = v[1];
	return v[0];
}

static void remote_strobe_write(struct dp8390 *c, bool word, const uint8_t *v)
{
	if (c->remote != DP8390_REMOTE_WRITE)
		return;
	dp8390_memory_put(c, word ? c->crda & ~1 : c->crda, v, word ? 2 : 1);
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
		uint8_t v[2] = {value >> i * 8, word && size > 1 ? value >> (i * 8 + 8) : 0};

		remote_strobe_write(c, word, v);
	}
}

/* How many bytes a block transfer may move in one go, 0 for one by one. */
static size_t remote_bulk(const struct dp8390 *c, unsigned size, size_t bytes)
{
	size_t n;

	if (remote_width(c, size) != size || c->crda & (size - 1))
		return 0;
	n = MIN(MIN(bytes, c->rbcr), dp8390_until_jump(c, c->crda));
	return n & ~(size_t)(size - 1);
}

size_t dp8390_read_block(struct dp8390 *c, unsigned offset, unsigned size, uint8_t *buf,
			 size_t count)
{
	size_t bytes = count * size, done = 0, n;

	if (offset < DP8390_DATA || offset >= DP8390_RESET || count > SIZE_MAX / 4)
		return 0;
	while (remote_reads(c) && (n = remote_bulk(c, size, bytes - done))) {
		dp8390_memory_get(c, c->crda, buf + done, n);
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
		dp8390_memory_put(c, c->crda, buf + done, n);
		done += n;
		remote_moved(c, n);
	}
	return done / size;
}

/* ---- registers ---- */

/* What others may know the guest by; half-written and silly addresses included only
 * if they could be a station's. */
static void report_mac(struct dp8390 *c)
{
	if (c->nic.port && net_mac_is_station(c->par))
		memcpy(c->nic.port->guest_mac, c->par, NET_MAC_SIZE);
}

static void write_cr(struct dp8390 *c, uint8_t v)
{
	unsigned rd = (v & CR_RD) >> CR_RD_SHIFT;
	bool before = dp8390_started(c);

	if (v & CR_STP) {
		dp8390_abort_transmit(c);
		c->isr |= ISR_RST;
	}
	/* Neither starting nor stopping changes nothing: drivers leave both out while
	 * they select a page. TXP cannot be taken back; STP has been seen to. */
	if (!(v & (CR_STP | CR_STA)))
		v |= c->cr & (CR_STP | CR_STA);
	c->cr = (v & ~CR_TXP) | (c->cr & CR_TXP);
	if (dp8390_started(c))
		c->isr &= ~ISR_RST;
	if (rd & RD_ABORT)
		c->remote = DP8390_REMOTE_OFF;
	else if (rd)
		remote_start(c, rd);
	if (v & CR_TXP && dp8390_started(c) && !(c->cr & CR_TXP)) {
		c->cr |= CR_TXP;
		dp8390_transmit(c);
	}
	dp8390_update_irq(c);
	if (dp8390_started(c) != before) {
		report_mac(c);
		dp8390_tell_readable(c);
	}
}

static void write_bnry(struct dp8390 *c, uint8_t v)
{
	c->remind |= c->bnry != v;
	c->bnry = v;
	/* The ring overflowed and has room again. */
	if (dp8390_started(c))
		c->isr &= ~ISR_RST;
	dp8390_tell_readable(c);
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
		dp8390_update_irq(c);
		if (v & ISR_PRX && c->remind && dp8390_started(c) && dp8390_unread(c)) {
			c->remind = false;
			dp8390_raise(c, ISR_PRX); /* an edge, for ISA */
		}
		break;
	case RSAR0: c->crda = (c->crda & 0xff00) | v; break;
	case RSAR1: c->crda = (c->crda & 0x00ff) | v << 8; break;
	case RBCR0: c->rbcr = (c->rbcr & 0xff00) | v; break;
	case RBCR1: c->rbcr = (c->rbcr & 0x00ff) | v << 8; break;
	case RCR:
		c->rcr = v & 0x3f;
		c->rsr = (c->rsr & ~RSR_DIS) | (v & RCR_MON ? RSR_DIS : 0);
		dp8390_tell_readable(c);
		break;
	case TCR:
		c->tcr = v & 0x1f;
		dp8390_tell_readable(c);
		break;
	case DCR: c->dcr = v & 0x7f; break;
	case IMR:
		c->imr = v & 0x7f;
		dp8390_update_irq(c);
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
		/* Drivers write from PAR0 up: what is there before the last is half of an address. */
		if (reg == PAR5 || dp8390_started(c))
			report_mac(c);
	} else if (reg == CURR) {
		c->curr = v;
		dp8390_tell_readable(c);
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

static void trace_write(const struct dp8390 *c, unsigned reg, uint8_t v)
{
	if (c->nic.port && trace_on(c->nic.port->trace, TRACE_NET))
		trace_print(c->nic.port->trace, TRACE_NET,
			    "dp8390: page %u register %x = %02x; ISR %02x CURR %02x BNRY %02x",
			    c->cr >> CR_PAGE_SHIFT, reg, v, c->isr, c->curr, c->bnry);
}

static void write_register(struct dp8390 *c, unsigned reg, uint8_t v)
{
	trace_write(c, reg, v);
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

/* A card's first port is a multiple of their number. */
uint32_t dp8390_port_read(void *opaque, uint16_t port, unsigned size)
{
	return dp8390_read(opaque, port, size);
}

void dp8390_port_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	dp8390_write(opaque, port, value, size);
}

size_t dp8390_port_read_block(void *opaque, uint16_t port, unsigned size, uint8_t *buf,
			      size_t count)
{
	return dp8390_read_block(opaque, port & (DP8390_PORTS - 1), size, buf, count);
}

size_t dp8390_port_write_block(void *opaque, uint16_t port, unsigned size, const uint8_t *buf,
			       size_t count)
{
	return dp8390_write_block(opaque, port & (DP8390_PORTS - 1), size, buf, count);
}

/* ---- life ---- */

static void resume_fire(void *opaque)
{
	struct dp8390 *c = opaque;

	dp8390_writable(&c->nic);
}

/* Table 11 of the datasheet, "RESET": these bits and no others. */
void dp8390_reset(struct dp8390 *c)
{
	dp8390_abort_transmit(c);
	c->cr = CR_STP | RD_ABORT << CR_RD_SHIFT;
	c->isr = ISR_RST;
	c->imr = 0;
	c->dcr |= DCR_LAS;
	c->tcr &= ~TCR_LB;
	c->remote = DP8390_REMOTE_OFF;
	dp8390_update_irq(c);
	dp8390_tell_readable(c);
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
	c->remind = false;
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
	dp8390_crc_init(c);
	make_prom(c, mac);
}

void dp8390_set_prom(struct net_nic *nic, const uint8_t mac[NET_MAC_SIZE])
{
	make_prom(container_of(nic, struct dp8390, nic), mac);
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
	if (c->cr & CR_TXP && !dp8390_started(c)) {
		*field = "cr";
		return false;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(c->cntr); i++) {
		if (c->cntr[i] > DP8390_CNTR_MAX) {
			*field = "cntr";
			return false;
		}
	}
	return true;
}

void dp8390_loaded(struct dp8390 *c)
{
	if (dp8390_started(c))
		report_mac(c);
	dp8390_update_irq(c);
	timer_disarm(&c->resume);
	if (c->cr & CR_TXP)
		timer_arm(&c->resume, loop_now(c->resume.loop));
}
