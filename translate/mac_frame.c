/* Bytes of a frame being translated, and the checksums over them.
 *
 * Checksums are updated from what changed (RFC 1624, equation 3: HC' = ~(~HC + ~m + m')),
 * never computed anew: a frame with a wrong one keeps a wrong one, and one of which
 * only a part is here (a first fragment, a quoted packet) stays right. Changes are
 * added up byte by byte, since what changes may lie at any offset and in pieces.
 */
#include "translate/mac_priv.h"

#include <emmintrin.h>

void mac_pair_init(struct mac_pair *pair, const uint8_t *guest, const uint8_t *wire)
{
	memcpy(pair->mac[0], guest, NET_MAC_SIZE);
	memcpy(pair->mac[1], wire, NET_MAC_SIZE);
	for (unsigned i = 0; i < 2; i++) {
		const uint8_t *m = pair->mac[i];
		const uint8_t eui[MAC_EUI_SIZE] = {
			m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5],
		};

		memcpy(pair->eui[i], eui, sizeof(eui));
	}
}

/* ---- checksums ---- */

static uint32_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static void sum_add(struct mac_sum *s, size_t off, uint8_t old, uint8_t new)
{
	for (unsigned i = 0; i < s->ranges; i++) {
		const struct mac_range *r = &s->range[i];

		if (off >= r->start && off < r->end) {
			unsigned shift = (off - r->start) & 1 ? 0 : 8;

			s->delta = fold(s->delta + ((uint32_t)new << shift) +
					(0xffff - ((uint32_t)old << shift)));
		}
	}
}

bool mac_sum_open(struct mac_frame *f, enum mac_sum_kind kind, size_t field, size_t start,
		  size_t end)
{
	if (f->sums == MAC_SUMS || end > f->len || field < start || field + 2 > end)
		return false;
	f->sum[f->sums].kind = kind;
	f->sum[f->sums].field = field;
	f->sum[f->sums].ranges = 0;
	f->sum[f->sums].delta = 0;
	f->sums++;
	mac_sum_cover(f, start, end);
	return true;
}

void mac_sum_cover(struct mac_frame *f, size_t start, size_t end)
{
	struct mac_sum *s = &f->sum[f->sums - 1];

	s->range[s->ranges++] = (struct mac_range){ start, end };
}

static void begin_copy(struct mac_frame *f)
{
	if (f->data == f->in) {
		memcpy(f->copy, f->in, f->len);
		f->data = f->copy;
	}
}

static void put(struct mac_frame *f, size_t off, uint8_t value)
{
	begin_copy(f);
	for (unsigned i = 0; i < f->sums; i++)
		sum_add(&f->sum[i], off, f->copy[off], value);
	f->copy[off] = value;
}

void mac_sum_close(struct mac_frame *f)
{
	/* Out of the way first: the field may be under the checksum around this one. */
	const struct mac_sum s = f->sum[--f->sums];
	uint16_t old = mac_u16(f, s.field), new;

	if (s.delta % 0xffff == 0)
		return;
	if ((s.kind == MAC_SUM_UDP && old == 0) || (s.kind == MAC_SUM_IPX && old == 0xffff))
		return;
	new = ~fold((~old & 0xffff) + s.delta);
	if (s.kind == MAC_SUM_UDP && new == 0)
		new = 0xffff;
	else if (s.kind == MAC_SUM_IPX && new == 0xffff)
		new = 0;
	put(f, s.field, new >> 8);
	put(f, s.field + 1, new & 0xff);
}

/* ---- swapping ---- */

bool mac_swap_at(struct mac_frame *f, const uint16_t *pos, const uint8_t *a, const uint8_t *b,
		 unsigned n)
{
	bool is_a = true, is_b = true;

	for (unsigned i = 0; i < n; i++) {
		if (pos[i] >= f->len)
			return false;
		is_a &= f->data[pos[i]] == a[i];
		is_b &= f->data[pos[i]] == b[i];
	}
	if (is_a == is_b)
		return false;
	for (unsigned i = 0; i < n; i++)
		put(f, pos[i], is_a ? b[i] : a[i]);
	return true;
}

static inline bool swap(struct mac_frame *f, size_t off, size_t end, const uint8_t *a,
			const uint8_t *b, unsigned n)
{
	bool is_a, is_b;

	if (end > f->len)
		end = f->len;
	if (off > end || end - off < n)
		return false;
	is_a = !memcmp(f->data + off, a, n);
	is_b = !memcmp(f->data + off, b, n);
	if (is_a == is_b)
		return false;
	if (!f->sums) { /* the Ethernet header: all there is to do in most frames */
		begin_copy(f);
		memcpy(f->copy + off, is_a ? b : a, n);
		return true;
	}
	for (unsigned i = 0; i < n; i++)
		put(f, off + i, is_a ? b[i] : a[i]);
	return true;
}

bool mac_swap(struct mac_frame *f, size_t off, size_t end)
{
	return swap(f, off, end, f->pair->mac[0], f->pair->mac[1], NET_MAC_SIZE);
}

bool mac_swap_low(struct mac_frame *f, size_t off, size_t end, unsigned n)
{
	return swap(f, off, end, f->pair->mac[0] + NET_MAC_SIZE - n,
		    f->pair->mac[1] + NET_MAC_SIZE - n, n);
}

bool mac_swap_unicast(struct mac_frame *f, size_t off, size_t end)
{
	return mac_u8(f, off) != 0xff &&
	       swap(f, off + 8, end, f->pair->eui[0], f->pair->eui[1], MAC_EUI_SIZE);
}

bool mac_swap_group(struct mac_frame *f, size_t off, size_t end)
{
	return mac_u32(f, off) == 0xff020000 && mac_u32(f, off + 4) == 0 &&
	       mac_u32(f, off + 8) == 1 && mac_u8(f, off + 12) == 0xff &&
	       mac_swap_low(f, off + 13, end, 3);
}

bool mac_swap_ipv6(struct mac_frame *f, size_t off, size_t end)
{
	return mac_swap_unicast(f, off, end) || mac_swap_group(f, off, end);
}

/* ---- what is left ---- */

/* The @n bytes at @off are there, and were before: we did not put them there. */
static bool kept(const struct mac_frame *f, size_t off, const uint8_t *bytes, size_t n)
{
	return !memcmp(f->data + off, bytes, n) && !memcmp(f->in + off, bytes, n);
}

/* @off: where the last three bytes of the address are, be it a MAC or made from it. */
static bool leaks_at(const struct mac_frame *f, size_t off)
{
	return (off >= NET_HEADER_SIZE - 2 + 3 && kept(f, off - 3, f->pair->mac[0], NET_MAC_SIZE)) ||
	       (off >= NET_HEADER_SIZE + 5 && kept(f, off - 5, f->pair->eui[0], MAC_EUI_SIZE));
}

/* Where among 16 positions from @p on the last three bytes of the address may begin. */
static inline __m128i candidates(const uint8_t *p, __m128i first, __m128i last)
{
	__m128i a = _mm_loadu_si128((const __m128i *)p);
	__m128i b = _mm_loadu_si128((const __m128i *)(p + 2));

	return _mm_and_si128(_mm_cmpeq_epi8(a, first), _mm_cmpeq_epi8(b, last));
}

bool mac_leaks(const struct mac_frame *f)
{
	const uint8_t *low = f->pair->mac[0] + 3;
	const __m128i first = _mm_set1_epi8(low[0]), last = _mm_set1_epi8(low[2]);
	size_t off = NET_HEADER_SIZE;

	for (; off + 34 <= f->len; off += 32) {
		__m128i c = candidates(f->data + off, first, last);
		__m128i d = candidates(f->data + off + 16, first, last);
		uint32_t hits;

		if (likely(!_mm_movemask_epi8(_mm_or_si128(c, d))))
			continue;
		hits = _mm_movemask_epi8(c) | (uint32_t)_mm_movemask_epi8(d) << 16;
		for (; hits; hits &= hits - 1) {
			if (leaks_at(f, off + __builtin_ctz(hits)))
				return true;
		}
	}
	for (; off + 3 <= f->len; off++) {
		if (f->data[off] == low[0] && leaks_at(f, off))
			return true;
	}
	return false;
}
