/* A frame that a translator reads and changes, and the checksums over what changes.
 *
 * Frames are hostile. Parsers read through edit_u8() and its like, which give 0 beyond
 * the end, and write through edit_swap() and edit_swap_at(), which do nothing there; no
 * parser has a pointer into the frame. The frame is copied with the first change.
 */
#ifndef GANNET_TRANSLATE_EDIT_PRIV_H
#define GANNET_TRANSLATE_EDIT_PRIV_H

#include <string.h>

#include "core/net.h"
#include "core/util.h"

enum {
	EDIT_TAGS = 8,   /* VLAN tags looked behind */
	EDIT_SUMS = 4,   /* checksums over checksums: UDP in ICMP in ICMP, and one more */
	EDIT_QUOTES = 2, /* packets quoted in quoted packets */
};

enum {
	TYPE_IPV4 = 0x0800, TYPE_ARP = 0x0806, TYPE_WAKE = 0x0842, TYPE_RARP = 0x8035,
	TYPE_AARP = 0x80f3, TYPE_VLAN = 0x8100, TYPE_IPX = 0x8137, TYPE_IPX_OLD = 0x8138,
	TYPE_IPV6 = 0x86dd, TYPE_SERVICE_VLAN = 0x88a8, TYPE_LLDP = 0x88cc,
	TYPE_OLD_QINQ = 0x9100,
	TYPE_LENGTH_MAX = 1500, /* below: IEEE 802.3 length, not a type */
};

/* One's complement checksums, and which value means that there is none. */
enum sum_kind { SUM_ALWAYS, SUM_UDP /* 0 */, SUM_IPX /* ffff */ };

struct edit_range {
	size_t start, end;
};

/* A checksum, while bytes it covers may change. */
struct edit_sum {
	enum sum_kind kind;
	size_t field;
	unsigned ranges;
	struct edit_range range[3]; /* the packet, and addresses of the pseudo-header */
	uint32_t delta;             /* sum of new minus old, not folded */
};

struct edit {
	const uint8_t *in;   /* borrowed */
	uint8_t *copy;       /* borrowed, @len bytes: written from the first change on */
	const uint8_t *data; /* the frame as it is by now: in or copy */
	size_t len;
	unsigned sums;
	struct edit_sum sum[EDIT_SUMS];
};

/** edit_begin - @in: the frame; @copy: room for @len bytes, which may be written */
static inline void edit_begin(struct edit *e, const uint8_t *in, size_t len, uint8_t *copy)
{
	e->in = e->data = in;
	e->copy = copy;
	e->len = len;
	e->sums = 0;
}

/** edit_u8 - the byte at @off; 0 if there is none */
static inline uint8_t edit_u8(const struct edit *e, size_t off)
{
	return off < e->len ? e->data[off] : 0;
}

/** edit_u16 - big-endian; 0 unless both bytes are there */
static inline uint16_t edit_u16(const struct edit *e, size_t off)
{
	return e->len >= 2 && off <= e->len - 2 ? e->data[off] << 8 | e->data[off + 1] : 0;
}

/** edit_u32 - big-endian; a half that is not there is 0 */
static inline uint32_t edit_u32(const struct edit *e, size_t off)
{
	return (uint32_t)edit_u16(e, off) << 16 | edit_u16(e, off + 2);
}

/** edit_type - Ethernet's type or length, behind the tags; @off: where the payload is */
uint16_t edit_type(const struct edit *e, size_t *off);

/** edit_udp_end - where the datagram at @off ends; @off itself if it is none */
size_t edit_udp_end(const struct edit *e, size_t off, size_t end);

/** edit_copy - from now on e->copy is the frame */
static inline void edit_copy(struct edit *e)
{
	if (e->data == e->in) {
		memcpy(e->copy, e->in, e->len);
		e->data = e->copy;
	}
}

/** edit_put - change a byte; @off < e->len */
void edit_put(struct edit *e, size_t off, uint8_t value);

/** edit_swap_at - if the @n bytes at @pos[] are @a, make them @b, and the reverse; did they change? */
bool edit_swap_at(struct edit *e, const uint16_t *pos, const uint8_t *a, const uint8_t *b,
		  unsigned n);

/** edit_swap - the same for @n bytes at @off, if all are below @end */
static inline bool edit_swap(struct edit *e, size_t off, size_t end, const uint8_t *a,
			     const uint8_t *b, unsigned n)
{
	bool is_a, is_b;

	if (end > e->len)
		end = e->len;
	if (off > end || end - off < n)
		return false;
	is_a = !memcmp(e->data + off, a, n);
	is_b = !memcmp(e->data + off, b, n);
	if (is_a == is_b)
		return false;
	if (!e->sums) { /* the Ethernet header: all there is to do in most frames */
		edit_copy(e);
		memcpy(e->copy + off, is_a ? b : a, n);
		return true;
	}
	for (unsigned i = 0; i < n; i++)
		edit_put(e, off + i, is_a ? b[i] : a[i]);
	return true;
}

/** edit_sum_open - bytes start..end are under the checksum at @field; false: it is not there */
bool edit_sum_open(struct edit *e, enum sum_kind kind, size_t field, size_t start, size_t end);
/** edit_sum_cover - the checksum opened last covers these too */
void edit_sum_cover(struct edit *e, size_t start, size_t end);
/** edit_sum_close - bring the checksum opened last up to date */
void edit_sum_close(struct edit *e);

/* ---- DHCP: RFC 2131, 2132 ---- */

enum {
	BOOTP_CIADDR = 12, BOOTP_YIADDR = 16, BOOTP_SIADDR = 20, BOOTP_GIADDR = 24,
	BOOTP_CHADDR = 28, BOOTP_SNAME = 44, BOOTP_FILE = 108, BOOTP_COOKIE = 236,
	BOOTP_OPTIONS = 240,
};

struct dhcp_option {
	uint8_t code;
	size_t start, end; /* of its value */
};

/** edit_dhcp_option - the option at @*at, which moves on; false: there are no more */
bool edit_dhcp_option(const struct edit *e, size_t *at, size_t end, struct dhcp_option *o);

/**
 * edit_dhcp_options - go through the options of the message at @off, then through those
 * in `file` and `sname`, if option 52 says that these are used so
 */
void edit_dhcp_options(const struct edit *e, size_t off, size_t end,
		       void (*each)(void *opaque, const struct dhcp_option *o), void *opaque);

#endif
