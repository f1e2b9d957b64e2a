/* See edit_priv.h.
 *
 * Checksums are updated from what changed (RFC 1624, equation 3: HC' = ~(~HC + ~m + m')),
 * never computed anew: a frame with a wrong one keeps a wrong one, and one of which
 * only a part is here (a first fragment, a quoted packet) stays right. Changes are
 * added up byte by byte, since what changes may lie at any offset and in pieces.
 */
#include "translate/edit_priv.h"

enum { UDP_HEADER = 8, OPTION_PAD = 0, OPTION_OVERLOAD = 52, OPTION_END = 255 };

uint16_t edit_type(const struct edit *e, size_t *off)
{
	size_t at = NET_HEADER_SIZE - 2;
	uint16_t type;

	for (unsigned tags = 0;; tags++) {
		type = edit_u16(e, at);
		if (tags == EDIT_TAGS || (type != TYPE_VLAN && type != TYPE_SERVICE_VLAN &&
					  type != TYPE_OLD_QINQ))
			break;
		at += 4;
	}
	*off = at + 2;
	return type;
}

size_t edit_udp_end(const struct edit *e, size_t off, size_t end)
{
	size_t length = edit_u16(e, off + 4);

	if (end < off + UDP_HEADER || length < UDP_HEADER)
		return off;
	return MIN(end, off + length);
}

/* ---- checksums ---- */

static uint32_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static void sum_add(struct edit_sum *s, size_t off, uint8_t old, uint8_t new)
{
	for (unsigned i = 0; i < s->ranges; i++) {
		const struct edit_range *r = &s->range[i];

		if (off >= r->start && off < r->end) {
			unsigned shift = (off - r->start) & 1 ? 0 : 8;

			s->delta = fold(s->delta + ((uint32_t)new << shift) +
					(0xffff - ((uint32_t)old << shift)));
		}
	}
}

bool edit_sum_open(struct edit *e, enum sum_kind kind, size_t field, size_t start, size_t end)
{
	if (e->sums == EDIT_SUMS || end > e->len || field < start || field + 2 > end)
		return false;
	e->sum[e->sums].kind = kind;
	e->sum[e->sums].field = field;
	e->sum[e->sums].ranges = 0;
	e->sum[e->sums].delta = 0;
	e->sums++;
	edit_sum_cover(e, start, end);
	return true;
}

void edit_sum_cover(struct edit *e, size_t start, size_t end)
{
	struct edit_sum *s = &e->sum[e->sums - 1];

	s->range[s->ranges++] = (struct edit_range){ start, end };
}

void edit_put(struct edit *e, size_t off, uint8_t value)
{
	edit_copy(e);
	for (unsigned i = 0; i < e->sums; i++)
		sum_add(&e->sum[i], off, e->copy[off], value);
	e->copy[off] = value;
}

void edit_sum_close(struct edit *e)
{
	/* Out of the way first: the field may be under the checksum around this one. */
	const struct edit_sum s = e->sum[--e->sums];
	uint16_t old = edit_u16(e, s.field), new;

	if (s.delta % 0xffff == 0)
		return;
	if ((s.kind == SUM_UDP && old == 0) || (s.kind == SUM_IPX && old == 0xffff))
		return;
	new = ~fold((~old & 0xffff) + s.delta);
	if (s.kind == SUM_UDP && new == 0)
		new = 0xffff;
	else if (s.kind == SUM_IPX && new == 0xffff)
		new = 0;
	edit_put(e, s.field, new >> 8);
	edit_put(e, s.field + 1, new & 0xff);
}

/* ---- swapping ---- */

bool edit_swap_at(struct edit *e, const uint16_t *pos, const uint8_t *a, const uint8_t *b,
		  unsigned n)
{
	bool is_a = true, is_b = true;

	for (unsigned i = 0; i < n; i++) {
		if (pos[i] >= e->len)
			return false;
		is_a &= e->data[pos[i]] == a[i];
		is_b &= e->data[pos[i]] == b[i];
	}
	if (is_a == is_b)
		return false;
	for (unsigned i = 0; i < n; i++)
		edit_put(e, pos[i], is_a ? b[i] : a[i]);
	return true;
}

/* ---- DHCP ---- */

bool edit_dhcp_option(const struct edit *e, size_t *at, size_t end, struct dhcp_option *o)
{
	while (*at < end && edit_u8(e, *at) == OPTION_PAD)
		++*at;
	o->code = edit_u8(e, *at);
	if (o->code == OPTION_END || *at + 1 >= end)
		return false;
	o->start = *at + 2;
	o->end = MIN(end, o->start + edit_u8(e, *at + 1));
	*at = o->end;
	return true;
}

void edit_dhcp_options(const struct edit *e, size_t off, size_t end,
		       void (*each)(void *opaque, const struct dhcp_option *o), void *opaque)
{
	size_t at = off + BOOTP_OPTIONS;
	struct dhcp_option o;
	uint8_t overload = 0;

	if (edit_u32(e, off + BOOTP_COOKIE) != 0x63825363)
		return;
	while (edit_dhcp_option(e, &at, end, &o)) {
		if (o.code == OPTION_OVERLOAD && o.start < o.end)
			overload = edit_u8(e, o.start);
		each(opaque, &o);
	}
	at = off + BOOTP_FILE;
	while (overload & 1 && edit_dhcp_option(e, &at, off + BOOTP_COOKIE, &o))
		each(opaque, &o);
	at = off + BOOTP_SNAME;
	while (overload & 2 && edit_dhcp_option(e, &at, off + BOOTP_FILE, &o))
		each(opaque, &o);
}
