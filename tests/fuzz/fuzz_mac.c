/* Feeds bytes to the MAC translator: two addresses, then a frame.
 *
 * Translating twice must give the frame back; only a checksum of ffff may have become
 * 0000, which is the same number. What is said to leak is what a plain search finds.
 * Seeds: frame_seeds.py mac DIR.
 */
#include <stdlib.h>

#include "translate/mac_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A buffer of exactly @len bytes, so that the sanitizer sees the one after it. */
static uint8_t *translated(struct mac_frame *f, const struct mac_pair *pair, const uint8_t *in,
			   size_t len)
{
	uint8_t *out = malloc(len ? len : 1);

	mac_translate(f, pair, in, len, out);
	if (f->edit.len != len || (f->edit.data != in && f->edit.data != out))
		abort();
	if (f->edit.data == in && len)
		memcpy(out, in, len);
	return out;
}

static bool found(const uint8_t *in, const uint8_t *out, size_t len, size_t start,
		  const uint8_t *what, size_t n)
{
	for (size_t i = start; i + n <= len; i++) {
		if (!memcmp(in + i, what, n) && !memcmp(out + i, what, n))
			return true;
	}
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t mac[2][NET_MAC_SIZE], *in, *once, *twice, *again;
	struct mac_frame f;
	struct mac_pair pair;
	size_t len;

	if (size < sizeof(mac))
		return 0;
	memcpy(mac, data, sizeof(mac));
	mac[0][0] &= 0xfe;
	mac[1][0] &= 0xfe;
	mac_pair_init(&pair, mac[0], mac[1]);
	len = MIN(size - sizeof(mac), (size_t)NET_FRAME_MAX);
	in = malloc(len ? len : 1);
	memcpy(in, data + sizeof(mac), len);

	once = translated(&f, &pair, in, len);
	if (mac_leaks(&f) !=
	    (found(in, once, len, NET_HEADER_SIZE - 2, mac[0], NET_MAC_SIZE) ||
	     found(in, once, len, NET_HEADER_SIZE, pair.eui[0], MAC_EUI_SIZE)))
		abort();
	twice = translated(&f, &pair, once, len);
	for (size_t i = 0; i < len; i++) {
		if (in[i] != twice[i] && (in[i] != 0xff || twice[i] != 0))
			abort();
	}
	again = translated(&f, &pair, twice, len);
	if (memcmp(once, again, len))
		abort();
	free(in);
	free(once);
	free(twice);
	free(again);
	return 0;
}
