/* IPv4 addresses in DHCP (RFC 2131, 2132), so that a lease can be renewed under the other
 * address, and in NetBIOS over UDP (RFC 1002, 4.2.2 and 4.4.1), whose names are
 * registered with, and datagrams sent with, the sender's address.
 */
#include "translate/ip_priv.h"

enum {
	UDP_HEADER = 8, PORT_NAMES = 137, PORT_DATAGRAMS = 138,
	NB_HEADER = 12, NB_RECORD = 10, NB_TYPE = 0x20,
};

/* ---- DHCP ---- */

static void addresses(struct ip_frame *f, size_t off, size_t end)
{
	for (; off < end; off += IPV4_SIZE)
		ip_swap(f, off, end);
}

static void dhcp_option(void *opaque, const struct dhcp_option *o)
{
	switch (o->code) {
	case 3: case 6: case 42: case 44: /* routers, DNS, NTP and NetBIOS name servers */
	case 50: /* requested address */
	case 54: /* server identifier */
		addresses(opaque, o->start, o->end);
		break;
	}
}

static void dhcp(struct ip_frame *f, size_t off, size_t end)
{
	/* ciaddr, yiaddr, siaddr, giaddr */
	addresses(f, off + BOOTP_CIADDR, MIN(end, off + BOOTP_CHADDR));
	edit_dhcp_options(&f->edit, off, end, dhcp_option, f);
}

/* ---- NetBIOS ---- */

static size_t skip_name(const struct ip_frame *f, size_t off, size_t end)
{
	while (off < end && edit_u8(&f->edit, off) - 1u < 63)
		off += 1 + edit_u8(&f->edit, off);
	return off + (edit_u8(&f->edit, off) >= 0xc0 ? 2 : 1);
}

static void names(struct ip_frame *f, size_t off, size_t end)
{
	unsigned questions = edit_u16(&f->edit, off + 4), records = 0;

	for (unsigned i = 6; i < NB_HEADER; i += 2)
		records += edit_u16(&f->edit, off + i);
	off += NB_HEADER;
	for (; questions && off < end; questions--)
		off = skip_name(f, off, end) + 4;
	for (; records && off < end; records--) {
		size_t next;

		off = skip_name(f, off, end);
		next = MIN(end, off + NB_RECORD + edit_u16(&f->edit, off + 8));
		if (edit_u16(&f->edit, off) == NB_TYPE) { /* flags and an address each */
			for (size_t at = off + NB_RECORD; at < next; at += 2 + IPV4_SIZE)
				ip_swap(f, at + 2, next);
		}
		off = next;
	}
}

void ip_udp(struct ip_frame *f, size_t off, size_t end)
{
	uint16_t from = edit_u16(&f->edit, off), to = edit_u16(&f->edit, off + 2);
	size_t body = off + UDP_HEADER;

	if (from == 67 || from == 68 || to == 67 || to == 68)
		dhcp(f, body, end);
	else if (from == PORT_NAMES || to == PORT_NAMES)
		names(f, body, end);
	else if (from == PORT_DATAGRAMS || to == PORT_DATAGRAMS)
		ip_swap(f, body + 4, end);
}
