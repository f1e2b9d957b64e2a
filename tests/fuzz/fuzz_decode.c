/* libFuzzer on the decoder: any bytes, both code sizes.
 *
 * The input is copied to the end of an allocation of its own, so that the address
 * sanitizer sees a read past what the decoder was given. Whatever decodes must
 * do so in the bytes it says it has, and again from exactly those.
 */
#include <stdlib.h>
#include <string.h>

#include "core/insn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const uint8_t *bytes, size_t len, bool code32)
{
	struct insn in, again;

	if (insn_decode(&in, code32, bytes, len) != DECODE_OK)
		return;
	if (!in.length || in.length > INSN_MAX_LENGTH || in.length > len)
		abort();
	if (insn_decode(&again, code32, bytes, in.length) != DECODE_OK ||
	    again.length != in.length || again.entry != in.entry)
		abort();
	if (in.length > 1 && insn_decode(&again, code32, bytes, in.length - 1u) == DECODE_OK)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t len = size > 2 * INSN_MAX_LENGTH ? 2 * INSN_MAX_LENGTH : size;
	uint8_t *bytes = malloc(len ? len : 1);

	if (!bytes)
		return 0;
	memcpy(bytes, data, len);
	check(bytes, len, true);
	check(bytes, len, false);
	free(bytes);
	return 0;
}
