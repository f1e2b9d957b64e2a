/* Feeds bytes to the IPv4 translator: two addresses, then a frame.
 *
 * Translating twice must give the frame back; only a checksum of ffff may have become
 * 0000, which is the same number. Neither the frame's Ethernet addresses nor its length
 * change. Seeds: frame_seeds.py ip DIR.
 */
#include <stdlib.h>

#include "translate/ip_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A buffer of exactly @len bytes, so that the sanitizer sees the one after it. */
static uint8_t *translated(const struct ip_pair *pair, const uint8_t *in, size_t len)
{
	uint8_t *out = malloc(len ? len : 1);
	struct ip_frame f;

	ip_translate(&f, pair, in, len, out);
	if (f.edit.len != len || f.edit.sums || (f.edit.data != in && f.edit.data != out))
		abort();
	if (f.edit.data == in && len)
		memcpy(out, in, len);
	return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *in, *once, *twice, *again;
	struct ip_pair pair;
	size_t len;

	if (size < sizeof(pair))
		return 0;
	memcpy(&pair, data, sizeof(pair));
	/* As the stage has it: hosts' addresses. */
	for (unsigned i = 0; i < 2; i++) {
		if (!pair.ip[i][0] || pair.ip[i][0] >= 224)
			pair.ip[i][0] = 10;
	}
	len = MIN(size - sizeof(pair), (size_t)NET_FRAME_MAX);
	in = malloc(len ? len : 1);
	memcpy(in, data + sizeof(pair), len);

	once = translated(&pair, in, len);
	if (memcmp(in, once, MIN(len, 2 * (size_t)NET_MAC_SIZE)))
		abort();
	twice = translated(&pair, once, len);
	for (size_t i = 0; i < len; i++) {
		if (in[i] != twice[i] && (in[i] != 0xff || twice[i] != 0))
			abort();
	}
	again = translated(&pair, twice, len);
	if (memcmp(once, again, len))
		abort();
	free(in);
	free(once);
	free(twice);
	free(again);
	return 0;
}
