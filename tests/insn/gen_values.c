/* Values for operands: random ones, with those that tend to go wrong among them. */
#include "tests/insn/gen.h"

#include <string.h>

#include "core/util.h"

uint32_t generator_random32(struct rng *r)
{
	static const uint32_t special[] = {
		0, 1, 2, 7, 8, 15, 16, 31, 32, 33, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff,
		0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe, 0x55555555, 0xaaaaaaaa,
		0x0f0f0f0f, 0x00010001, 0xffff0000, 0x3f800000, 0x99999999, 0x12345678,
	};
	uint64_t v = rng_next(r);

	switch (v >> 60 & 3) {
	case 0:
		return special[(v >> 8) % ARRAY_SIZE(special)];
	case 1:
		return (uint32_t)(v & 0xff);
	case 2:
		return (uint32_t)(int32_t)(int8_t)v;
	default:
		return (uint32_t)v;
	}
}

static uint64_t random_float_bits(struct rng *r, bool wide)
{
	uint64_t v = rng_next(r);

	if (wide) /* double near 1, or anything */
		return v & 1 ? v : (v & 0x800fffffffffffffull) | (1003ull + (v >> 52 & 31)) << 52;
	if (v & 2)
		v = (v & 0x807fffff807fffffull) | (uint64_t)(107 + (v >> 23 & 31)) << 23 |
		    (uint64_t)(107 + (v >> 55 & 31)) << 55;
	return v;
}

static uint64_t random64(struct rng *r)
{
	uint64_t v = rng_next(r);

	switch (v & 7) {
	case 0: return generator_random32(r) | (uint64_t)generator_random32(r) << 32;
	case 1:
	case 2: return random_float_bits(r, true);
	case 3:
	case 4: return random_float_bits(r, false);
	default: break;
	}
	{
		static const uint64_t special[] = {
			0, 0x8000000000000000ull, 0x3ff0000000000000ull, 0x7ff0000000000000ull,
			0xfff8000000000000ull, 0x7ff0000000000001ull, 1, 0x000fffffffffffffull,
			0x3f8000007f800000ull, 0x7fc00000ff800001ull, 0x0000000180000001ull,
			0x7fefffffffffffffull, 0x7f7fffff00800000ull, 0x0010000000000000ull,
			0x41e0000000000000ull, 0xffffffffffffffffull, 0x4f0000004effffffull,
		};
		return (v & 7) == 5 ? special[(v >> 8) % ARRAY_SIZE(special)] : rng_next(r);
	}
}

static void random_st(struct rng *r, uint8_t st[16])
{
	uint64_t mantissa = rng_next(r), how = rng_next(r);
	uint16_t exponent = (uint16_t)how;

	memset(st, 0, 16);
	switch (how >> 32 & 15) {
	case 0: mantissa = 0; exponent &= 0x8000; break;                       /* zero */
	case 1: mantissa = 1ull << 63; exponent |= 0x7fff; break;              /* infinity */
	case 2: mantissa |= 3ull << 62; exponent |= 0x7fff; break;             /* quiet NaN */
	case 3: mantissa = (mantissa | 1ull << 63) & ~(1ull << 62); exponent |= 0x7fff; break;
	case 4: mantissa &= ~(1ull << 63); exponent &= 0x8000; break;          /* denormal */
	case 5: mantissa &= ~(1ull << 63); break;                              /* unsupported */
	case 6: mantissa |= 1ull << 63; break;                                 /* any exponent */
	case 7: exponent |= 0x7fff; break;
	case 8: /* small integer */
		mantissa = 1ull << 63 | (mantissa & 0xffull << 54);
		exponent = (uint16_t)((exponent & 0x8000) | (16383 + (how >> 40) % 40));
		break;
	default:
		mantissa |= 1ull << 63;
		exponent = (uint16_t)((exponent & 0x8000) | (16383 - 32 + (how >> 40) % 100));
	}
	store_le64(st, mantissa);
	store_le16(st + 8, exponent);
}

void generator_fx(struct rng *r, uint8_t fx[FX_SIZE])
{
	uint16_t fcw = 0x37f, fsw = (uint16_t)rng_next(r) & 0x7f7f;
	uint32_t mxcsr = 0x1f80, pending;
	uint8_t ftw = 0xff;

	memset(fx, 0, FX_SIZE);
	if (rng_percent(r, 60))
		fcw = (uint16_t)((rng_next(r) & 0x0f00) | 0x7f);
	else if (rng_percent(r, 60))
		fcw = (uint16_t)((rng_next(r) & 0x0f3f) | 0x40);
	if (rng_percent(r, 40))
		ftw = rng_percent(r, 50) ? (uint8_t)rng_next(r) : 0;
	if (rng_percent(r, 50))
		fsw &= 0x7f00;
	pending = fsw & ~fcw & 0x3f;
	if (pending && rng_percent(r, 85))
		fsw &= (uint16_t)~pending;
	else if (pending)
		fsw |= 0x8080;
	if (rng_percent(r, 60))
		mxcsr = 0x1f80 | (rng_next(r) & 0xe07f);
	else if (rng_percent(r, 50))
		mxcsr = rng_next(r) & 0xffff;
	store_le16(fx, fcw);
	store_le16(fx + 2, fsw);
	fx[4] = ftw;
	if (fsw & 0x80) { /* AMD loads the pointers only with something pending */
		store_le32(fx + 8, (uint32_t)rng_next(r));
		store_le32(fx + 16, (uint32_t)rng_next(r));
	}
	store_le32(fx + 24, mxcsr);
	store_le32(fx + 28, 0xffff);
	for (unsigned i = 0; i < 8; i++)
		random_st(r, fx + 32 + 16 * i);
	for (unsigned i = 160; i < FX_SIZE; i += 8)
		store_le64(fx + i, random64(r));
}
