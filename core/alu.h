/* Arithmetic on the host's own ALU, with its flags.
 *
 * Guest and host are the same architecture, so the host computes the result
 * and all six arithmetic flags, those included that the SDM leaves undefined.
 * A packed flags word is what LAHF and SETO leave in AX: AH holds SF ZF AF PF
 * CF in EFLAGS order, AL holds OF.
 */
#ifndef GANNET_CORE_ALU_H
#define GANNET_CORE_ALU_H

#include <stdint.h>

#include "core/cpu.h"

enum { FLAGS_LAHF = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF };

static inline uint32_t alu_pack(uint32_t eflags)
{
	return (eflags & FLAGS_LAHF) << 8 | (eflags >> 11 & 1);
}

static inline uint32_t alu_unpack(uint32_t ax)
{
	return (ax >> 8 & FLAGS_LAHF) | (ax & 1) << 11;
}

/* EFLAGS with all arithmetic flags taken from @ax. */
static inline uint32_t alu_merge(uint32_t eflags, uint32_t ax)
{
	return (eflags & ~(uint32_t)FLAGS_ARITH) | alu_unpack(ax);
}

/* In: AX packed. OF first, by an addition that overflows if AL was 1. */
#define ALU_FLAGS_IN "addb $0x7f, %%al\n\tsahf\n\t"
#define ALU_FLAGS_OUT "\n\tlahf\n\tseto %%al"

/* r = a OP b; all flags new. */
#define ALU_BINARY(name, op)                                                        \
	static inline uint8_t alu_##name##8(uint8_t a, uint8_t b, uint32_t *f)      \
	{                                                                           \
		uint32_t ax;                                                        \
		__asm__(op "b %2, %0" ALU_FLAGS_OUT : "+q"(a), "=&a"(ax) : "q"(b) : "cc"); \
		*f = alu_merge(*f, ax);                                             \
		return a;                                                           \
	}                                                                           \
	static inline uint16_t alu_##name##16(uint16_t a, uint16_t b, uint32_t *f)  \
	{                                                                           \
		uint32_t ax;                                                        \
		__asm__(op "w %2, %0" ALU_FLAGS_OUT : "+r"(a), "=&a"(ax) : "r"(b) : "cc"); \
		*f = alu_merge(*f, ax);                                             \
		return a;                                                           \
	}                                                                           \
	static inline uint32_t alu_##name##32(uint32_t a, uint32_t b, uint32_t *f)  \
	{                                                                           \
		uint32_t ax;                                                        \
		__asm__(op "l %2, %0" ALU_FLAGS_OUT : "+r"(a), "=&a"(ax) : "r"(b) : "cc"); \
		*f = alu_merge(*f, ax);                                             \
		return a;                                                           \
	}                                                                           \
	static inline uint32_t alu_##name(unsigned size, uint32_t a, uint32_t b, uint32_t *f) \
	{                                                                           \
		if (size == 4)                                                      \
			return alu_##name##32(a, b, f);                             \
		if (size == 2)                                                      \
			return alu_##name##16((uint16_t)a, (uint16_t)b, f);         \
		return alu_##name##8((uint8_t)a, (uint8_t)b, f);                    \
	}

ALU_BINARY(add, "add")
ALU_BINARY(or, "or")
ALU_BINARY(and, "and")
ALU_BINARY(sub, "sub")
ALU_BINARY(xor, "xor")

/* r = OP(a, b) with the flags going in as well: whatever the operation leaves
 * alone stays. @b must be in CL for shifts, which is where it always is. */
#define ALU_THROUGH(name, op8, op16, op32)                                          \
	static inline uint32_t alu_##name(unsigned size, uint32_t a, uint32_t b, uint32_t *f) \
	{                                                                           \
		uint32_t ax = alu_pack(*f);                                         \
		if (size == 4)                                                      \
			__asm__(ALU_FLAGS_IN op32 ALU_FLAGS_OUT                     \
				: "+q"(a), "+&a"(ax) : "c"(b) : "cc");               \
		else if (size == 2)                                                 \
			__asm__(ALU_FLAGS_IN op16 ALU_FLAGS_OUT                     \
				: "+q"(a), "+&a"(ax) : "c"(b) : "cc");               \
		else                                                                \
			__asm__(ALU_FLAGS_IN op8 ALU_FLAGS_OUT                      \
				: "+q"(a), "+&a"(ax) : "c"(b) : "cc");               \
		*f = alu_merge(*f, ax);                                             \
		return a;                                                           \
	}

ALU_THROUGH(adc, "adcb %b2, %b0", "adcw %w2, %w0", "adcl %2, %0")
ALU_THROUGH(sbb, "sbbb %b2, %b0", "sbbw %w2, %w0", "sbbl %2, %0")
ALU_THROUGH(rol, "rolb %%cl, %b0", "rolw %%cl, %w0", "roll %%cl, %0")
ALU_THROUGH(ror, "rorb %%cl, %b0", "rorw %%cl, %w0", "rorl %%cl, %0")
ALU_THROUGH(rcl, "rclb %%cl, %b0", "rclw %%cl, %w0", "rcll %%cl, %0")
ALU_THROUGH(rcr, "rcrb %%cl, %b0", "rcrw %%cl, %w0", "rcrl %%cl, %0")
ALU_THROUGH(shl, "shlb %%cl, %b0", "shlw %%cl, %w0", "shll %%cl, %0")
ALU_THROUGH(shr, "shrb %%cl, %b0", "shrw %%cl, %w0", "shrl %%cl, %0")
ALU_THROUGH(sar, "sarb %%cl, %b0", "sarw %%cl, %w0", "sarl %%cl, %0")
/* the second operand is not used by these */
ALU_THROUGH(inc, "incb %b0", "incw %w0", "incl %0")
ALU_THROUGH(dec, "decb %b0", "decw %w0", "decl %0")
ALU_THROUGH(neg, "negb %b0", "negw %w0", "negl %0")
/* a is the destination, unchanged if b is 0 (there is no 8-bit form) */
ALU_THROUGH(bsf, "bsfw %w2, %w0", "bsfw %w2, %w0", "bsfl %2, %0")
ALU_THROUGH(bsr, "bsrw %w2, %w0", "bsrw %w2, %w0", "bsrl %2, %0")
ALU_THROUGH(imul, "imulw %w2, %w0", "imulw %w2, %w0", "imull %2, %0")

/* Double shifts: @fill's bits come in. No 8-bit form. */
#define ALU_DOUBLE(name, op)                                                        \
	static inline uint32_t alu_##name(unsigned size, uint32_t a, uint32_t fill, \
					  uint32_t count, uint32_t *f)              \
	{                                                                           \
		uint32_t ax = alu_pack(*f);                                         \
		if (size == 4)                                                      \
			__asm__(ALU_FLAGS_IN op "l %%cl, %2, %0" ALU_FLAGS_OUT      \
				: "+r"(a), "+&a"(ax) : "r"(fill), "c"(count) : "cc"); \
		else                                                                \
			__asm__(ALU_FLAGS_IN op "w %%cl, %w2, %w0" ALU_FLAGS_OUT    \
				: "+r"(a), "+&a"(ax) : "r"(fill), "c"(count) : "cc"); \
		*f = alu_merge(*f, ax);                                             \
		return a;                                                           \
	}

ALU_DOUBLE(shld, "shld")
ALU_DOUBLE(shrd, "shrd")

/* Widening products: low half returned, high half in *high. */
#define ALU_WIDE(name, op)                                                          \
	static inline uint32_t alu_##name(unsigned size, uint32_t a, uint32_t b,    \
					  uint32_t *high, uint32_t *f)              \
	{                                                                           \
		uint32_t packed = alu_pack(*f), out = 0;                            \
		uint32_t hi = 0;                                                    \
		uint8_t of;                                                         \
		if (size == 4) {                                                    \
			__asm__("movl %4, %%eax\n\t" ALU_FLAGS_IN "movl %0, %%eax\n\t" \
				op "l %5\n\tseto %b2\n\tmovl %%eax, %0\n\tlahf"     \
				: "+&S"(a), "=&d"(hi), "=&c"(of), "=&a"(out)        \
				: "b"(packed), "D"(b) : "cc");                      \
		} else if (size == 2) {                                             \
			__asm__("movl %4, %%eax\n\t" ALU_FLAGS_IN "movl %0, %%eax\n\t" \
				op "w %w5\n\tseto %b2\n\tmovl %%eax, %0\n\tlahf"    \
				: "+&S"(a), "=&d"(hi), "=&c"(of), "=&a"(out)        \
				: "b"(packed), "D"(b) : "cc");                      \
		} else {                                                            \
			__asm__("movl %4, %%eax\n\t" ALU_FLAGS_IN "movl %0, %%eax\n\t" \
				op "b %b5\n\tseto %b2\n\tmovl %%eax, %0\n\tlahf"    \
				: "+&S"(a), "=&d"(hi), "=&c"(of), "=&a"(out)        \
				: "b"(packed), "D"(b) : "cc");                      \
			hi = a >> 8;                                                \
		}                                                                   \
		*f = alu_merge(*f, (out & 0xff00) | of);                            \
		*high = size == 4 ? hi : size == 2 ? hi & 0xffff : hi & 0xff;       \
		return size == 4 ? a : size == 2 ? a & 0xffff : a & 0xff;           \
	}

ALU_WIDE(mul_wide, "mul")
ALU_WIDE(imul_wide, "imul")

#endif
