/* MAC addresses inside IPv4 (RFC 791), UDP (RFC 768) and packets quoted by ICMP (RFC 792).
 * Nothing in an IPv4 header depends on them, nor anything in TCP: the frequent case
 * ends here after a few comparisons.
 */
#include "translate/mac_priv.h"

enum { IPV4_HEADER = 20, UDP_HEADER = 8, PROTO_ICMP = 1, PROTO_UDP = 17 };

/* The answer to a node status request holds the address (RFC 1002, 4.2.18: UNIT_ID). */
static void netbios_status(struct mac_frame *f, size_t off, size_t end)
{
	if (!(mac_u16(f, off + 2) & 0x8000) || mac_u16(f, off + 4) != 0 ||
	    mac_u16(f, off + 6) != 1)
		return;
	for (off += 12; off < end && mac_u8(f, off) - 1u < 63;)
		off += 1 + mac_u8(f, off);
	off += mac_u8(f, off) >= 0xc0 ? 2 : 1;
	if (mac_u16(f, off) == 0x21)
		mac_swap(f, off + 11 + 18 * mac_u8(f, off + 10), end);
}

void mac_udp(struct mac_frame *f, size_t off, size_t end)
{
	uint16_t from = mac_u16(f, off), to = mac_u16(f, off + 2);
	size_t body = off + UDP_HEADER;

	if (from == 67 || from == 68 || to == 67 || to == 68)
		mac_dhcp(f, body, end);
	else if (from == 546 || from == 547 || to == 546 || to == 547)
		mac_dhcpv6(f, body, end);
	else if (from == 137)
		netbios_status(f, body, end);
	else if (to == 0 || to == 7 || to == 9)
		mac_wake(f, body, end);
}

static void icmp(struct mac_frame *f, size_t off, size_t end)
{
	switch (mac_u8(f, off)) {
	case 3: case 4: case 5: case 11: case 12:
		if (f->quotes == EDIT_QUOTES || !edit_sum_open(&f->edit, SUM_ALWAYS, off + 2, off, end))
			return;
		f->quotes++;
		mac_ipv4(f, off + 8, end);
		edit_sum_close(&f->edit);
	}
}

void mac_ipv4(struct mac_frame *f, size_t off, size_t end)
{
	size_t header = (mac_u8(f, off) & 15) * 4, total = mac_u16(f, off + 2);
	size_t body = off + header;

	f->place = MAC_IN_PAYLOAD;
	if (mac_u8(f, off) >> 4 != 4 || header < IPV4_HEADER || total < header || body >= end)
		return;
	end = MIN(end, off + total);
	if (mac_u16(f, off + 6) & 0x1fff) {
		f->place = MAC_IN_FRAGMENT;
		return;
	}
	switch (mac_u8(f, off + 9)) {
	case PROTO_UDP:
		end = edit_udp_end(&f->edit, body, end);
		if (edit_sum_open(&f->edit, SUM_UDP, body + 6, body, end)) {
			mac_udp(f, body, end);
			edit_sum_close(&f->edit);
		}
		break;
	case PROTO_ICMP:
		icmp(f, body, end);
		break;
	}
}
