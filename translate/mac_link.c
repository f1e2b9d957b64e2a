/* MAC addresses below and beside IP: Ethernet (IEEE 802.3, 802.1Q, 802.1ad), LLC and
 * SNAP (IEEE 802.2, RFC 1042), ARP (RFC 826), RARP (RFC 903), AARP (Inside AppleTalk,
 * chapter 2: laid out like ARP), IPX (RFC 1132, Novell's IPX Router Specification),
 * LLDP (IEEE 802.1AB), Wake-on-LAN, NetBIOS frames (IBM LAN Technical Reference).
 */
#include "translate/mac_priv.h"

static void arp(struct mac_frame *f, size_t off, size_t end)
{
	f->place = MAC_IN_ARP;
	if (mac_u16(f, off) != 1 || mac_u8(f, off + 4) != NET_MAC_SIZE)
		return;
	mac_swap(f, off + 8, end);
	mac_swap(f, off + 8 + NET_MAC_SIZE + mac_u8(f, off + 5), end);
}

enum { IPX_HEADER = 30, IPX_SAP_SOCKET = 0x0452, IPX_SAP_ENTRY = 64 };

/* The Service Advertising Protocol tells where servers are: net, node, socket. */
static void ipx_sap(struct mac_frame *f, size_t off, size_t end)
{
	uint16_t operation = mac_u16(f, off);

	if (operation != 2 && operation != 4)
		return;
	for (off += 2; off < end; off += IPX_SAP_ENTRY)
		mac_swap(f, off + 54, end);
}

static void ipx(struct mac_frame *f, size_t off, size_t end)
{
	size_t length = mac_u16(f, off + 2);
	bool sum;

	f->place = MAC_IN_IPX;
	if (length < IPX_HEADER)
		return;
	if (end - off > length)
		end = off + length;
	/* The checksum leaves out the hop count, which does not change here. */
	sum = edit_sum_open(&f->edit, SUM_IPX, off, off, end);
	mac_swap(f, off + 10, end);
	mac_swap(f, off + 22, end);
	if (mac_u16(f, off + 16) == IPX_SAP_SOCKET || mac_u16(f, off + 28) == IPX_SAP_SOCKET)
		ipx_sap(f, off + IPX_HEADER, end);
	if (sum)
		edit_sum_close(&f->edit);
}

static void lldp(struct mac_frame *f, size_t off, size_t end)
{
	while (off + 2 <= end) {
		uint16_t head = mac_u16(f, off);
		size_t body = off + 2;
		size_t next = body + (head & 0x1ff);
		uint8_t subtype = mac_u8(f, body);

		if (next > end)
			next = end;
		switch (head >> 9) {
		case 0: /* the end */
			return;
		case 1: /* chassis; 4: by MAC address */
			if (subtype == 4)
				mac_swap(f, body + 1, next);
			break;
		case 2: /* port; 3: by MAC address */
			if (subtype == 3)
				mac_swap(f, body + 1, next);
			break;
		case 8: /* management address: length, family, address */
			if (mac_u8(f, body + 1) == 2)
				mac_swap_ipv6(f, body + 2, next);
			break;
		}
		off = next;
	}
}

void mac_wake(struct mac_frame *f, size_t off, size_t end)
{
	if (mac_u32(f, off) != 0xffffffff || mac_u16(f, off + 4) != 0xffff)
		return;
	for (unsigned i = 1; i <= 16; i++)
		mac_swap(f, off + i * NET_MAC_SIZE, end);
}

/* A permanent node name: ten zeros and the address. */
static void netbios_name(struct mac_frame *f, size_t off, size_t end)
{
	if (!mac_u32(f, off) && !mac_u32(f, off + 4) && !mac_u16(f, off + 8))
		mac_swap(f, off + 10, end);
}

static void netbios(struct mac_frame *f, size_t off, size_t end)
{
	/* An unnumbered frame, header length 2c 00, delimiter ff ef: names follow. */
	if (mac_u8(f, off + 2) != 0x03 || mac_u16(f, off + 3) != 0x2c00 ||
	    mac_u16(f, off + 5) != 0xffef)
		return;
	netbios_name(f, off + 3 + 12, end);
	netbios_name(f, off + 3 + 28, end);
}

static void protocol(struct mac_frame *f, uint16_t type, size_t off, size_t end)
{
	switch (type) {
	case TYPE_IPV4:
		mac_ipv4(f, off, end);
		break;
	case TYPE_IPV6:
		mac_ipv6(f, off, end);
		break;
	case TYPE_ARP:
	case TYPE_RARP:
	case TYPE_AARP:
		arp(f, off, end);
		break;
	case TYPE_IPX:
	case TYPE_IPX_OLD:
		ipx(f, off, end);
		break;
	case TYPE_LLDP:
		lldp(f, off, end);
		break;
	case TYPE_WAKE:
		mac_wake(f, off, end);
		break;
	}
}

static void llc(struct mac_frame *f, size_t off, size_t end)
{
	uint16_t saps = mac_u16(f, off);

	f->place = MAC_IN_LLC;
	if (saps == 0xffff) /* Novell's raw 802.3: this is the IPX checksum */
		ipx(f, off, end);
	else if (saps == 0xe0e0 && mac_u8(f, off + 2) == 3)
		ipx(f, off + 3, end);
	else if (saps == 0xf0f0)
		netbios(f, off, end);
	else if (saps == 0xaaaa && mac_u8(f, off + 2) == 3 &&
		 (mac_u32(f, off + 2) == 0x03000000 || mac_u32(f, off + 2) == 0x030000f8))
		protocol(f, mac_u16(f, off + 6), off + 8, end);
}

void mac_translate(struct mac_frame *f, const struct mac_pair *pair, const uint8_t *in,
		   size_t len, uint8_t *copy)
{
	size_t off;
	uint16_t type;

	edit_begin(&f->edit, in, len, copy);
	f->pair = pair;
	f->place = MAC_IN_ETHERNET;
	f->quotes = 0;

	mac_swap(f, 0, len);
	mac_swap(f, NET_MAC_SIZE, len);
	type = edit_type(&f->edit, &off);
	if (off >= len)
		return;
	if (type > TYPE_LENGTH_MAX)
		protocol(f, type, off, len);
	else
		llc(f, off, MIN(len, off + type));
}
