/* MAC addresses in DHCP (RFC 2131, 2132, 3396, 4361) and DHCPv6 (RFC 8415, 6939).
 *
 * A client is known by its hardware address, its client identifier, or a DUID with an
 * IAID. DUIDs of types LLT and LL hold the address; clients (ISC's, dhcpcd) take the
 * address' last four bytes for an IAID, so an IAID of that value is translated too.
 */
#include "translate/mac_priv.h"

/* ---- identifiers: their bytes may lie in several options ---- */

struct dhcp_id {
	unsigned size;
	uint16_t pos[MAC_ID_SIZE];
};

static void id_add(struct dhcp_id *id, size_t off, size_t end)
{
	while (off < end && id->size < MAC_ID_SIZE)
		id->pos[id->size++] = off++;
}

static unsigned id_u8(const struct mac_frame *f, const struct dhcp_id *id, unsigned i)
{
	return i < id->size ? mac_u8(f, id->pos[i]) : 0;
}

static void id_swap(struct mac_frame *f, const struct dhcp_id *id, unsigned i)
{
	if (i + NET_MAC_SIZE <= id->size)
		edit_swap_at(&f->edit, id->pos + i, f->pair->mac[0], f->pair->mac[1], NET_MAC_SIZE);
}

static void duid(struct mac_frame *f, const struct dhcp_id *id, unsigned i)
{
	switch (id_u8(f, id, i) << 8 | id_u8(f, id, i + 1)) {
	case 1: /* LLT: hardware type, time, address */
		id_swap(f, id, i + 8);
		break;
	case 3: /* LL: hardware type, address */
		id_swap(f, id, i + 4);
		break;
	}
}

/* ---- DHCP ---- */

enum { OPTION_CLIENT_ID = 61 };

static void dhcp_option(void *opaque, const struct dhcp_option *o)
{
	if (o->code == OPTION_CLIENT_ID)
		id_add(opaque, o->start, o->end);
}

static void client_id(struct mac_frame *f, const struct dhcp_id *id)
{
	static const unsigned iaid = 1;

	if (id_u8(f, id, 0) == 255 && id->size > iaid + 4) {
		edit_swap_at(&f->edit, id->pos + iaid, f->pair->mac[0] + 2, f->pair->mac[1] + 2, 4);
		duid(f, id, iaid + 4);
	} else if (id->size == NET_MAC_SIZE) { /* without a type: old boot ROMs */
		id_swap(f, id, 0);
	} else {
		id_swap(f, id, 1);
	}
}

void mac_dhcp(struct mac_frame *f, size_t off, size_t end)
{
	struct dhcp_id id;

	id.size = 0;
	if (mac_u8(f, off + 1) == 1 && mac_u8(f, off + 2) == NET_MAC_SIZE)
		mac_swap(f, off + BOOTP_CHADDR, end);
	edit_dhcp_options(&f->edit, off, end, dhcp_option, &id);
	client_id(f, &id);
}

/* ---- DHCPv6 ---- */

enum {
	RELAY_FORW = 12, RELAY_REPL = 13,
	OPTION6_CLIENTID = 1, OPTION6_SERVERID = 2, OPTION6_IA_NA = 3, OPTION6_IA_TA = 4,
	OPTION6_IAADDR = 5, OPTION6_RELAY_MSG = 9, OPTION6_UNICAST = 12, OPTION6_DNS = 23,
	OPTION6_IA_PD = 25, OPTION6_LINK_LAYER = 79,
};

static void dhcpv6_message(struct mac_frame *f, size_t off, size_t end, unsigned depth);

static void dhcpv6_options(struct mac_frame *f, size_t off, size_t end, unsigned depth)
{
	if (depth > MAC_RELAYS)
		return;
	while (off + 4 <= end) {
		uint16_t code = mac_u16(f, off);
		size_t body = off + 4;
		size_t next = MIN(end, body + mac_u16(f, off + 2));
		struct dhcp_id id;

		switch (code) {
		case OPTION6_CLIENTID:
		case OPTION6_SERVERID:
			id.size = 0;
			id_add(&id, body, next);
			duid(f, &id, 0);
			break;
		case OPTION6_IA_NA:
		case OPTION6_IA_PD:
			mac_swap_low(f, body, next, 4);
			dhcpv6_options(f, body + 12, next, depth + 1);
			break;
		case OPTION6_IA_TA:
			mac_swap_low(f, body, next, 4);
			dhcpv6_options(f, body + 4, next, depth + 1);
			break;
		case OPTION6_IAADDR:
		case OPTION6_UNICAST:
			mac_swap_ipv6(f, body, next);
			break;
		case OPTION6_DNS:
			for (size_t at = body; at < next; at += 16)
				mac_swap_ipv6(f, at, next);
			break;
		case OPTION6_RELAY_MSG:
			dhcpv6_message(f, body, next, depth + 1);
			break;
		case OPTION6_LINK_LAYER: /* hardware type, address */
			mac_swap(f, body + 2, next);
			break;
		}
		off = next;
	}
}

static void dhcpv6_message(struct mac_frame *f, size_t off, size_t end, unsigned depth)
{
	uint8_t type = mac_u8(f, off);

	if (type == RELAY_FORW || type == RELAY_REPL) {
		mac_swap_ipv6(f, off + 2, end);  /* link-address */
		mac_swap_ipv6(f, off + 18, end); /* peer-address */
		dhcpv6_options(f, off + 34, end, depth);
	} else {
		dhcpv6_options(f, off + 4, end, depth);
	}
}

void mac_dhcpv6(struct mac_frame *f, size_t off, size_t end)
{
	dhcpv6_message(f, off, end, 0);
}
