/* Bytes that are made from a MAC address: swapped, and found where they were left. */
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

/* ---- swapping ---- */

bool mac_swap(struct mac_frame *f, size_t off, size_t end)
{
	return edit_swap(&f->edit, off, end, f->pair->mac[0], f->pair->mac[1], NET_MAC_SIZE);
}

bool mac_swap_low(struct mac_frame *f, size_t off, size_t end, unsigned n)
{
	return edit_swap(&f->edit, off, end, f->pair->mac[0] + NET_MAC_SIZE - n,
		    f->pair->mac[1] + NET_MAC_SIZE - n, n);
}

bool mac_swap_unicast(struct mac_frame *f, size_t off, size_t end)
{
	return mac_u8(f, off) != 0xff &&
	       edit_swap(&f->edit, off + 8, end, f->pair->eui[0], f->pair->eui[1], MAC_EUI_SIZE);
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
	return !memcmp(f->edit.data + off, bytes, n) && !memcmp(f->edit.in + off, bytes, n);
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

	for (; off + 34 <= f->edit.len; off += 32) {
		__m128i c = candidates(f->edit.data + off, first, last);
		__m128i d = candidates(f->edit.data + off + 16, first, last);
		uint32_t hits;

		if (likely(!_mm_movemask_epi8(_mm_or_si128(c, d))))
			continue;
		hits = _mm_movemask_epi8(c) | (uint32_t)_mm_movemask_epi8(d) << 16;
		for (; hits; hits &= hits - 1) {
			if (leaks_at(f, off + __builtin_ctz(hits)))
				return true;
		}
	}
	for (; off + 3 <= f->edit.len; off++) {
		if (f->edit.data[off] == low[0] && leaks_at(f, off))
			return true;
	}
	return false;
}
