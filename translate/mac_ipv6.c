/* MAC addresses inside IPv6 (RFC 8200): in neighbour discovery (RFC 4861), and made
 * into interface identifiers (RFC 4291, appendix A) and from there into solicited-node
 * groups, which are joined through MLD (RFC 2710, 3810) and are Ethernet addresses,
 * too (RFC 2464, section 7).
 *
 * IPv6 addresses are part of the upper layer's checksum, so every protocol that has
 * one with a pseudo-header must be known. What is authenticated (AH, ESP, SEND) can
 * not be repaired and does not survive a changed address.
 */
#include "translate/mac_priv.h"

enum {
	IPV6_HEADER = 40, IPV6_ADDRESS = 16,
	NEXT_HOP_BY_HOP = 0, NEXT_UDP = 17, NEXT_ROUTING = 43, NEXT_FRAGMENT = 44,
	NEXT_AUTHENTICATION = 51, NEXT_ICMPV6 = 58, NEXT_DESTINATION = 60,
	OPTION_PAD1 = 0, OPTION_HOME_ADDRESS = 201,
	ROUTING_SEGMENTS = 4, /* RFC 8754: the list is backwards */
};

/* What a walk along the extension headers finds. */
struct ipv6_packet {
	size_t from, to;     /* addresses of the pseudo-header */
	size_t route;        /* addresses in a routing header: first one, and how many */
	unsigned route_count;
	size_t home;         /* home address option (RFC 6275), 0: none */
	bool later_fragment;
	uint8_t next;        /* upper layer */
	size_t upper;
};

/* Where upper layers have a checksum over the pseudo-header; 0: nowhere. */
static unsigned checksum_offset(uint8_t next)
{
	switch (next) {
	case 6: /* TCP */
		return 16;
	case NEXT_UDP:
	case 33:  /* DCCP */
	case 136: /* UDP-Lite */
	case 112: /* VRRP, RFC 5798 */
		return 6;
	case 135: /* Mobility, RFC 6275 */
	case 139: /* HIP */
		return 4;
	case NEXT_ICMPV6:
	case 103: /* PIM */
		return 2;
	case 89: /* OSPF, RFC 5340 */
		return 12;
	}
	return 0;
}

static void find_home_address(const struct mac_frame *f, size_t off, size_t end,
			      struct ipv6_packet *p)
{
	for (off += 2; off + 2 <= end;) {
		uint8_t type = mac_u8(f, off), size = mac_u8(f, off + 1);

		if (type == OPTION_PAD1) {
			off++;
			continue;
		}
		if (type == OPTION_HOME_ADDRESS && size == IPV6_ADDRESS && off + 18 <= end)
			p->home = p->from = off + 2;
		off += 2 + size;
	}
}

static void find_route(const struct mac_frame *f, size_t off, size_t end, struct ipv6_packet *p)
{
	uint8_t type = mac_u8(f, off + 2), left = mac_u8(f, off + 3);
	unsigned count = mac_u8(f, off + 1) / 2;

	if (type == ROUTING_SEGMENTS)
		count = MIN(count, mac_u8(f, off + 4) + 1u);
	else if (type != 0 && type != 2)
		return;
	if (!count || off + 8 + (size_t)count * IPV6_ADDRESS > end)
		return;
	p->route = off + 8;
	p->route_count = count;
	if (left)
		p->to = type == ROUTING_SEGMENTS ? p->route :
						   p->route + (count - 1) * IPV6_ADDRESS;
}

/* Every step is at least 8 bytes, so this ends. */
static void walk(const struct mac_frame *f, size_t off, size_t end, struct ipv6_packet *p)
{
	*p = (struct ipv6_packet) {
		.from = off + 8, .to = off + 24, .next = mac_u8(f, off + 6),
		.upper = off + IPV6_HEADER,
	};
	while (p->upper + 8 <= end) {
		size_t size = 8 + 8 * mac_u8(f, p->upper + 1);
		size_t next = MIN(end, p->upper + size);

		switch (p->next) {
		case NEXT_HOP_BY_HOP:
			break;
		case NEXT_DESTINATION:
			find_home_address(f, p->upper, next, p);
			break;
		case NEXT_ROUTING:
			find_route(f, p->upper, next, p);
			break;
		case NEXT_AUTHENTICATION:
			next = p->upper + 8 + 4 * mac_u8(f, p->upper + 1);
			break;
		case NEXT_FRAGMENT:
			next = p->upper + 8;
			p->later_fragment = mac_u16(f, p->upper + 2) & 0xfff8;
			break;
		default:
			return;
		}
		p->next = mac_u8(f, p->upper);
		p->upper = next;
		if (p->later_fragment)
			return;
	}
}

/* ---- ICMPv6 ---- */

enum {
	ICMPV6_ERROR_FIRST = 1, ICMPV6_ERROR_LAST = 4,
	MLD_QUERY = 130, MLD_REPORT = 131, MLD_DONE = 132,
	ND_ROUTER_SOLICIT = 133, ND_ROUTER_ADVERT = 134, ND_NEIGHBOUR_SOLICIT = 135,
	ND_NEIGHBOUR_ADVERT = 136, ND_REDIRECT = 137, MLD2_REPORT = 143,
	ND_OPT_SOURCE = 1, ND_OPT_TARGET = 2, ND_OPT_PREFIX = 3, ND_OPT_REDIRECTED = 4,
	ND_OPT_DNS = 25,
};

static void quoted(struct mac_frame *f, size_t off, size_t end)
{
	if (f->quotes == EDIT_QUOTES)
		return;
	f->quotes++;
	mac_ipv6(f, off, end);
}

static void addresses(struct mac_frame *f, size_t off, size_t end, unsigned count)
{
	for (; count && off < end; count--, off += IPV6_ADDRESS)
		mac_swap_ipv6(f, off, end);
}

static void nd_options(struct mac_frame *f, size_t off, size_t end)
{
	while (off + 8 <= end) {
		size_t size = 8 * mac_u8(f, off + 1);
		size_t next = MIN(end, off + size);

		if (!size)
			return;
		switch (mac_u8(f, off)) {
		case ND_OPT_SOURCE:
		case ND_OPT_TARGET:
			mac_swap(f, off + 2, next);
			break;
		case ND_OPT_PREFIX: /* with the R flag: the router's address (RFC 6275) */
			mac_swap_unicast(f, off + 16, next);
			break;
		case ND_OPT_REDIRECTED:
			quoted(f, off + 8, next);
			break;
		case ND_OPT_DNS: /* RFC 8106 */
			addresses(f, off + 8, next, size / IPV6_ADDRESS);
			break;
		}
		off = next;
	}
}

static void mld_query(struct mac_frame *f, size_t off, size_t end)
{
	mac_swap_group(f, off + 8, end);
	if (end - off >= 28) /* version 2 */
		addresses(f, off + 28, end, mac_u16(f, off + 26));
}

static void mld_records(struct mac_frame *f, size_t off, size_t end)
{
	unsigned count = mac_u16(f, off + 6);

	for (off += 8; count && off + 20 <= end; count--) {
		unsigned sources = mac_u16(f, off + 2);

		mac_swap_group(f, off + 4, end);
		addresses(f, off + 20, end, sources);
		off += 20 + sources * IPV6_ADDRESS + 4 * mac_u8(f, off + 1);
	}
}

/* Returns whether the destination, if it is a group of ours, is to be translated. */
static bool icmpv6(struct mac_frame *f, size_t off, size_t end)
{
	uint8_t type = mac_u8(f, off);
	bool group = true;

	switch (type) {
	case ND_ROUTER_SOLICIT:
		nd_options(f, off + 8, end);
		break;
	case ND_ROUTER_ADVERT:
		nd_options(f, off + 16, end);
		break;
	case ND_NEIGHBOUR_SOLICIT:
		/* The group is shared by all whose addresses end alike: it goes with the
		 * address that is asked for. */
		if (off + 24 <= end)
			group = mac_swap_unicast(f, off + 8, end);
		nd_options(f, off + 24, end);
		break;
	case ND_NEIGHBOUR_ADVERT:
		mac_swap_unicast(f, off + 8, end);
		nd_options(f, off + 24, end);
		break;
	case ND_REDIRECT:
		mac_swap_ipv6(f, off + 8, end);
		mac_swap_ipv6(f, off + 24, end);
		nd_options(f, off + 40, end);
		break;
	case MLD_QUERY:
		mld_query(f, off, end);
		break;
	case MLD_REPORT:
	case MLD_DONE:
		mac_swap_group(f, off + 8, end);
		break;
	case MLD2_REPORT:
		mld_records(f, off, end);
		break;
	default:
		if (type >= ICMPV6_ERROR_FIRST && type <= ICMPV6_ERROR_LAST)
			quoted(f, off + 8, end);
	}
	return group;
}

/* ---- the packet ---- */

void mac_ipv6(struct mac_frame *f, size_t off, size_t end)
{
	bool outermost = !f->quotes, group = true, sum = false;
	struct ipv6_packet p;
	unsigned field;

	f->place = MAC_IN_PAYLOAD;
	if (mac_u8(f, off) >> 4 != 6 || end < off || end - off < IPV6_HEADER)
		return;
	end = MIN(end, off + IPV6_HEADER + mac_u16(f, off + 4));
	walk(f, off, end, &p);
	field = checksum_offset(p.next);
	if (p.later_fragment) {
		f->place = MAC_IN_FRAGMENT;
	} else if (field) {
		if (p.next == NEXT_UDP)
			end = edit_udp_end(&f->edit, p.upper, end);
		sum = edit_sum_open(&f->edit, p.next == NEXT_UDP ? SUM_UDP : SUM_ALWAYS,
				   p.upper + field, p.upper, end);
	}
	if (sum) {
		edit_sum_cover(&f->edit, p.from, p.from + IPV6_ADDRESS);
		edit_sum_cover(&f->edit, p.to, p.to + IPV6_ADDRESS);
	}

	if (sum && p.next == NEXT_UDP)
		mac_udp(f, p.upper, end);
	else if (sum && p.next == NEXT_ICMPV6)
		group = icmpv6(f, p.upper, end);
	mac_swap_unicast(f, off + 8, f->edit.len);
	mac_swap_unicast(f, off + 24, f->edit.len);
	if (p.home)
		mac_swap_unicast(f, p.home, f->edit.len);
	addresses(f, p.route, f->edit.len, p.route_count);
	if (group && mac_swap_group(f, off + 24, f->edit.len) && outermost &&
	    mac_u16(f, 0) == 0x3333 && mac_u8(f, 2) == 0xff)
		mac_swap_low(f, 3, NET_MAC_SIZE, 3);
	if (sum)
		edit_sum_close(&f->edit);
}
