/* IPv4 addresses in ARP (RFC 826, 903), IPv4 with its options (RFC 791, 781), ICMP
 * (RFC 792, 1256), and the packets that ICMP quotes. IPv4's header has a checksum, and
 * those of TCP, UDP and others cover a pseudo-header with both addresses.
 *
 * Of a packet in fragments each has the addresses. The checksum of the upper layer is
 * in one of them, as a rule the first, and never in two, since fragments begin at
 * multiples of eight bytes; it is corrected where it is found.
 */
#include "translate/ip_priv.h"

enum {
	IPV4_HEADER = 20,
	PROTO_ICMP = 1, PROTO_IPIP = 4, PROTO_TCP = 6, PROTO_UDP = 17, PROTO_DCCP = 33,
	PROTO_GRE = 47, PROTO_AH = 51, PROTO_UDPLITE = 136, PROTO_HIP = 139,
	OPTION_END = 0, OPTION_NOP = 1, OPTION_RECORD_ROUTE = 7, OPTION_TIMESTAMP = 68,
	OPTION_LOOSE_ROUTE = 131, OPTION_STRICT_ROUTE = 137,
};

/* ---- ARP ---- */

static void arp(struct ip_frame *f, size_t off, size_t end)
{
	size_t hardware = edit_u8(&f->edit, off + 4);

	if (edit_u16(&f->edit, off + 2) != TYPE_IPV4 || edit_u8(&f->edit, off + 5) != IPV4_SIZE)
		return;
	ip_swap(f, off + 8 + hardware, end);
	ip_swap(f, off + 8 + hardware + IPV4_SIZE + hardware, end);
}

/* ---- options ---- */

static void timestamps(struct ip_frame *f, size_t off, size_t end)
{
	uint8_t flag = edit_u8(&f->edit, off + 3) & 15;

	if (flag != 1 && flag != 3) /* 0: times only */
		return;
	for (off += 4; off < end; off += 2 * IPV4_SIZE)
		ip_swap(f, off, end);
}

/* Swaps, or, if @to is there, only looks for where the final destination is. */
static void options(struct ip_frame *f, size_t off, size_t end, size_t *to)
{
	while (off + 2 <= end) {
		uint8_t type = edit_u8(&f->edit, off), size = edit_u8(&f->edit, off + 1);
		size_t next, at;

		if (type == OPTION_END)
			return;
		if (type == OPTION_NOP) {
			off++;
			continue;
		}
		next = off + size;
		if (size < 2 || next > end)
			return;
		switch (type) {
		case OPTION_LOOSE_ROUTE:
		case OPTION_STRICT_ROUTE:
			/* Not yet at the end of the route: its last one is the destination. */
			if (to && size >= 3 + IPV4_SIZE && edit_u8(&f->edit, off + 2) < size)
				*to = off + 3 + (size - 3) / IPV4_SIZE * IPV4_SIZE - IPV4_SIZE;
			/* fall through */
		case OPTION_RECORD_ROUTE:
			for (at = off + 3; !to && at < next; at += IPV4_SIZE)
				ip_swap(f, at, next);
			break;
		case OPTION_TIMESTAMP:
			if (!to)
				timestamps(f, off, next);
			break;
		}
		off = next;
	}
}

/* ---- what is in the packet ---- */

/* Where upper layers have a checksum over the pseudo-header; 0: nowhere. */
static unsigned checksum_offset(uint8_t proto)
{
	switch (proto) {
	case PROTO_TCP:
		return 16;
	case PROTO_UDP:
	case PROTO_UDPLITE:
	case PROTO_DCCP:
		return 6;
	case PROTO_HIP: /* RFC 7401, 5.1.1 */
		return 4;
	}
	return 0;
}

static void ipv4(struct ip_frame *f, size_t off, size_t end);

static void quoted(struct ip_frame *f, size_t off, size_t end)
{
	if (f->quotes == EDIT_QUOTES)
		return;
	f->quotes++;
	ipv4(f, off, end);
}

static void routers(struct ip_frame *f, size_t off, size_t end)
{
	size_t count = edit_u8(&f->edit, off + 4), step = 4 * edit_u8(&f->edit, off + 5);

	for (off += 8; count && step && off < end; count--, off += step)
		ip_swap(f, off, end);
}

static void icmp(struct ip_frame *f, size_t off, size_t end)
{
	uint8_t type = edit_u8(&f->edit, off);

	switch (type) {
	case 5: /* redirect: to which router */
		ip_swap(f, off + 4, end);
		/* fall through */
	case 3: case 4: case 11: case 12:
		quoted(f, off + 8, end);
		break;
	case 9:
		routers(f, off, end);
		break;
	}
}

/* An IPv4 packet of which all is here but perhaps its end. */
struct packet {
	size_t off, body, end; /* header, payload, end of what is here */
	size_t to;             /* final destination */
	uint8_t proto;
	size_t skipped;        /* bytes in the fragments before */
};

/* Opens the upper layer's checksum; false: there is none here. */
static bool open_sum(struct ip_frame *f, const struct packet *p)
{
	size_t field = checksum_offset(p->proto), end = p->end;

	if (p->proto == PROTO_ICMP)
		return !p->skipped && edit_sum_open(&f->edit, SUM_ALWAYS, p->body + 2, p->body, end);
	if (!field || field < p->skipped)
		return false;
	field += p->body - p->skipped;
	if (p->proto == PROTO_UDP && !p->skipped && edit_udp_end(&f->edit, p->body, end) == p->body)
		return false;
	if (!edit_sum_open(&f->edit, p->proto == PROTO_UDP ? SUM_UDP : SUM_ALWAYS, field, p->body,
			   end))
		return false;
	edit_sum_cover(&f->edit, p->off + 12, p->off + 16);
	edit_sum_cover(&f->edit, p->to, p->to + IPV4_SIZE);
	return true;
}

static bool swap_header(struct ip_frame *f, const struct packet *p)
{
	bool changed;

	if (!edit_sum_open(&f->edit, SUM_ALWAYS, p->off + 10, p->off, p->body))
		return false;
	changed = ip_swap(f, p->off + 12, p->body);
	changed |= ip_swap(f, p->off + 16, p->body);
	options(f, p->off + IPV4_HEADER, p->body, NULL);
	edit_sum_close(&f->edit);
	return changed;
}

/* Neither the header nor what may be inside has to do with our addresses: most frames
 * of others, and broadcasts. */
static bool unconcerned(const struct ip_frame *f, const struct packet *p)
{
	const uint8_t *ip = f->edit.data + p->off + 12;

	for (unsigned i = 0; i < 2; i++) {
		if (!memcmp(ip, f->pair->ip[i], IPV4_SIZE) ||
		    !memcmp(ip + IPV4_SIZE, f->pair->ip[i], IPV4_SIZE))
			return false;
	}
	return p->body == p->off + IPV4_HEADER && p->proto != PROTO_ICMP &&
	       (p->proto != PROTO_UDP || p->skipped ||
		!ip_udp_known(edit_u16(&f->edit, p->body), edit_u16(&f->edit, p->body + 2)));
}

static void ipv4(struct ip_frame *f, size_t off, size_t end)
{
	size_t header = (edit_u8(&f->edit, off) & 15) * 4, total = edit_u16(&f->edit, off + 2);
	struct packet p = { .off = off, .body = off + header, .to = off + 16 };
	bool sum, changed;

	if (edit_u8(&f->edit, off) >> 4 != 4 || header < IPV4_HEADER || total < header ||
	    end > f->edit.len || p.body > end)
		return;
	p.end = MIN(end, off + total);
	p.proto = edit_u8(&f->edit, off + 9);
	p.skipped = (edit_u16(&f->edit, off + 6) & 0x1fff) * 8;
	if (unconcerned(f, &p))
		return;
	options(f, off + IPV4_HEADER, p.body, &p.to);
	sum = open_sum(f, &p);
	changed = swap_header(f, &p);
	if (sum) {
		if (p.proto == PROTO_UDP && !p.skipped)
			ip_udp(f, p.body, edit_udp_end(&f->edit, p.body, p.end));
		else if (p.proto == PROTO_ICMP)
			icmp(f, p.body, p.end);
		edit_sum_close(&f->edit);
	}
	if (changed && !f->quotes &&
	    (p.proto == PROTO_IPIP || p.proto == PROTO_GRE || p.proto == PROTO_AH))
		f->tunnel = true;
}

/* ---- the frame ---- */

void ip_translate(struct ip_frame *f, const struct ip_pair *pair, const uint8_t *in, size_t len,
		  uint8_t *copy)
{
	size_t off;
	uint16_t type;

	edit_begin(&f->edit, in, len, copy);
	f->pair = pair;
	f->quotes = 0;
	f->tunnel = false;
	type = edit_type(&f->edit, &off);
	if (type <= TYPE_LENGTH_MAX) { /* SNAP, RFC 1042 */
		len = MIN(len, off + type);
		if (edit_u32(&f->edit, off) != 0xaaaa0300 || edit_u16(&f->edit, off + 4) != 0)
			return;
		type = edit_u16(&f->edit, off + 6);
		off += 8;
	}
	switch (type) {
	case TYPE_IPV4:
		ipv4(f, off, len);
		break;
	case TYPE_ARP:
	case TYPE_RARP:
		arp(f, off, len);
		break;
	}
}
