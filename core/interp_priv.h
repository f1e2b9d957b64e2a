/* What the interpreter's files share: operands, memory, stack, condition codes.
 *
 * A handler gets the CPU and a decoded instruction. EIP already stands at the
 * next instruction; a handler that branches overwrites it. Until its last
 * memory access has succeeded a handler changes no register, no flag and no
 * ESP, so that an exception leaves nothing half done (SDM 3A 6.6: faults).
 */
#ifndef GANNET_CORE_INTERP_PRIV_H
#define GANNET_CORE_INTERP_PRIV_H

#include "core/cpu.h"
#include "core/engine.h"
#include "core/insn.h"
#include "core/mmu.h"
#include "core/segment.h"
#include "core/trace.h"
#include "core/util.h"

typedef void interp_fn(struct cpu *cpu, const struct insn *in);

/* What a file executes an instruction with; NULL if it is not its business. */
interp_fn *interp_int_handler(unsigned id);
interp_fn *interp_bit_handler(unsigned id);
interp_fn *interp_flow_handler(unsigned id);
interp_fn *interp_system_handler(unsigned id);

/** interp_fast - a handler for one form of a frequent instruction, or NULL */
interp_fn *interp_fast(const struct insn *in);

enum {
	DR7_ANY = 0xff,     /* L0-G3: some breakpoint is enabled */
	DR6_BS = 1 << 14,   /* single step */
};

/* ---- registers ---- */

static inline uint32_t size_mask(unsigned size)
{
	return size == 4 ? 0xffffffffu : size == 2 ? 0xffffu : 0xffu;
}

static inline uint8_t *reg8(struct cpu *cpu, unsigned n)
{
	return (uint8_t *)&cpu->gpr[n & 3] + (n >> 2 & 1);
}

static inline uint32_t reg_get(struct cpu *cpu, unsigned n, unsigned size)
{
	if (size == 4)
		return (uint32_t)cpu->gpr[n];
	return size == 2 ? (uint16_t)cpu->gpr[n] : *reg8(cpu, n);
}

static inline void reg_set(struct cpu *cpu, unsigned n, unsigned size, uint32_t v)
{
	if (size == 4)
		cpu->gpr[n] = v;
	else if (size == 2)
		store_le16(&cpu->gpr[n], (uint16_t)v);
	else
		*reg8(cpu, n) = (uint8_t)v;
}

static inline uint32_t address_mask(const struct insn *in)
{
	return in->adsize == 2 ? 0xffffu : 0xffffffffu;
}

/* Offset of the memory operand in its segment. */
static inline uint32_t effective(const struct cpu *cpu, const struct insn *in)
{
	uint32_t a = (uint32_t)in->disp;

	if (in->base >= 0)
		a += (uint32_t)cpu->gpr[in->base];
	if (in->index >= 0)
		a += (uint32_t)cpu->gpr[in->index] << in->scale;
	return a & address_mask(in);
}

/* ---- memory ---- */

/* Host address of a plain access that needs no more checks, or NULL: a data
 * segment that is present and grows up, inside its limit, no alignment checks
 * or breakpoints to watch, memory in the translation table. */
static inline uint8_t *mem_host(struct cpu *cpu, unsigned seg, uint32_t offset,
				unsigned size, bool write)
{
	const struct segment *s = &cpu->seg[seg];
	unsigned need = SEG_P | (write ? SEG_W : 0);

	if (unlikely((s->attr & (need | SEG_CODE | SEG_E)) != need) ||
	    unlikely((uint64_t)offset + size - 1 > s->limit) ||
	    unlikely((cpu->eflags & FLAG_AC) | (cpu->dr[7] & DR7_ANY)))
		return NULL;
	return mmu_host((write ? cpu->tlb.write : cpu->tlb.read)[mmu_user(cpu)],
			(uint32_t)s->base + offset, size);
}

static inline uint32_t mem_read(struct cpu *cpu, unsigned seg, uint32_t offset,
				unsigned size)
{
	const uint8_t *p = mem_host(cpu, seg, offset, size, false);

	if (unlikely(!p))
		return (uint32_t)seg_read(cpu, seg, offset, size);
	if (size == 4)
		return load_le32(p);
	return size == 2 ? load_le16(p) : *p;
}

static inline void mem_write(struct cpu *cpu, unsigned seg, uint32_t offset,
			     unsigned size, uint32_t v)
{
	uint8_t *p = mem_host(cpu, seg, offset, size, true);

	if (unlikely(!p))
		seg_write(cpu, seg, offset, v & size_mask(size), size);
	else if (size == 4)
		store_le32(p, v);
	else if (size == 2)
		store_le16(p, (uint16_t)v);
	else
		*p = (uint8_t)v;
}

/* An operand between its read and its write: a register, or memory that is sure
 * to be writable before anything is computed from it (SDM 3A 4.7). */
struct rmw {
	uint8_t *host; /* NULL: through the segment again */
	uint32_t offset;
	uint8_t seg;
};

static inline void rmw_open(struct cpu *cpu, struct rmw *m, unsigned seg,
			    uint32_t offset, unsigned size)
{
	m->host = mem_host(cpu, seg, offset, size, true);
	m->seg = (uint8_t)seg;
	m->offset = offset;
	if (unlikely(!m->host))
		mmu_probe_write(cpu, seg_linear(cpu, seg, offset, size, true), size,
				mmu_user(cpu));
}

static inline uint32_t rmw_read(struct cpu *cpu, const struct rmw *m, unsigned size)
{
	if (unlikely(!m->host))
		return (uint32_t)seg_read(cpu, m->seg, m->offset, size);
	if (size == 4)
		return load_le32(m->host);
	return size == 2 ? load_le16(m->host) : *m->host;
}

static inline void rmw_write(struct cpu *cpu, const struct rmw *m, unsigned size,
			     uint32_t v)
{
	if (unlikely(!m->host))
		seg_write(cpu, m->seg, m->offset, v & size_mask(size), size);
	else if (size == 4)
		store_le32(m->host, v);
	else if (size == 2)
		store_le16(m->host, (uint16_t)v);
	else
		*m->host = (uint8_t)v;
}

/* ---- operands by the table's letters ---- */

static inline unsigned op_bytes(const struct insn *in, unsigned n)
{
	switch (in->entry->op[n].size) {
	case SZ_B:
		return 1;
	case SZ_W:
		return 2;
	case SZ_D:
	case SZ_Y:
		return 4;
	case SZ_V:
	case SZ_Z:
		return in->opsize;
	default:
		return insn_operand_bytes(in, n);
	}
}

static inline bool op_is_memory(const struct insn *in, unsigned n)
{
	uint8_t a = in->entry->op[n].addr;

	return in->has_mem && (a == OP_E || a == OP_M || a == OP_O);
}

/* Which operand is the ModRM r/m one; 0 if none. */
static inline unsigned op_rm(const struct insn *in)
{
	for (unsigned n = 0; n < 4; n++) {
		if (in->entry->op[n].addr == OP_E || in->entry->op[n].addr == OP_M)
			return n;
	}
	return 0;
}

/* GPR number of a register operand. */
static inline unsigned op_reg(const struct insn *in, unsigned n)
{
	switch (in->entry->op[n].addr) {
	case OP_G:
		return in->reg;
	case OP_Z:
		return in->opcode & 7;
	case OP_FIXED_GPR:
		return in->entry->op[n].fixed & 7;
	default:
		return in->rm;
	}
}

static inline uint32_t op_read(struct cpu *cpu, const struct insn *in, unsigned n,
			       unsigned size)
{
	switch (in->entry->op[n].addr) {
	case OP_I:
		return (uint32_t)in->imm & size_mask(size);
	case OP_ONE:
		return 1;
	case OP_E:
	case OP_M:
	case OP_O:
		if (in->has_mem)
			return mem_read(cpu, in->seg, effective(cpu, in), size);
		return reg_get(cpu, in->rm, size);
	default:
		return reg_get(cpu, op_reg(in, n), size);
	}
}

static inline void op_write(struct cpu *cpu, const struct insn *in, unsigned n,
			    unsigned size, uint32_t v)
{
	if (op_is_memory(in, n))
		mem_write(cpu, in->seg, effective(cpu, in), size, v);
	else
		reg_set(cpu, op_reg(in, n), size, v);
}

/* Destination that is read first: dst_begin opens and reads, rmw_write writes. */
static inline uint32_t dst_begin(struct cpu *cpu, const struct insn *in, unsigned n,
				 unsigned size, struct rmw *m)
{
	if (op_is_memory(in, n))
		rmw_open(cpu, m, in->seg, effective(cpu, in), size);
	else
		/* a 32-bit store keeps the upper half of the register 0, as it is */
		*m = (struct rmw){ .host = size == 1 ? reg8(cpu, op_reg(in, n)) :
					   (uint8_t *)&cpu->gpr[op_reg(in, n)] };
	return rmw_read(cpu, m, size);
}

static inline int32_t sign_extend(uint32_t v, unsigned size)
{
	return size == 1 ? (int8_t)v : size == 2 ? (int16_t)v : (int32_t)v;
}

/* ---- stack ---- */

static inline uint32_t stack_mask(const struct cpu *cpu)
{
	return cpu_stack32(cpu) ? 0xffffffffu : 0xffffu;
}

/* ESP or SP becomes @sp; with a 16-bit stack the upper half stays. */
static inline void stack_set(struct cpu *cpu, uint32_t sp)
{
	uint32_t mask = stack_mask(cpu);

	cpu->gpr[ESP] = ((uint32_t)cpu->gpr[ESP] & ~mask) | (sp & mask);
}

static inline void stack_push(struct cpu *cpu, unsigned size, uint32_t v)
{
	uint32_t sp = ((uint32_t)cpu->gpr[ESP] - size) & stack_mask(cpu);

	mem_write(cpu, SS, sp, size, v);
	stack_set(cpu, sp);
}

/* The top of the stack, @depth bytes further up; ESP stays. */
static inline uint32_t stack_peek(struct cpu *cpu, unsigned size, uint32_t depth)
{
	return mem_read(cpu, SS, ((uint32_t)cpu->gpr[ESP] + depth) & stack_mask(cpu), size);
}

static inline void stack_drop(struct cpu *cpu, uint32_t bytes)
{
	stack_set(cpu, (uint32_t)cpu->gpr[ESP] + bytes);
}

/* ---- flags ---- */

/* Conditions of SDM 1 appendix B. */
static inline bool condition(uint32_t f, unsigned cond)
{
	bool less = !(f & FLAG_SF) != !(f & FLAG_OF);
	bool v;

	switch (cond >> 1) {
	case 0:
		v = f & FLAG_OF;
		break;
	case 1:
		v = f & FLAG_CF;
		break;
	case 2:
		v = f & FLAG_ZF;
		break;
	case 3:
		v = f & (FLAG_CF | FLAG_ZF);
		break;
	case 4:
		v = f & FLAG_SF;
		break;
	case 5:
		v = f & FLAG_PF;
		break;
	case 6:
		v = less;
		break;
	default:
		v = less || f & FLAG_ZF;
		break;
	}
	return v != (cond & 1);
}

static inline unsigned cpu_iopl(const struct cpu *cpu)
{
	return (cpu->eflags & FLAG_IOPL) >> 12;
}

static inline void flag_assign(struct cpu *cpu, uint32_t flag, bool on)
{
	cpu->eflags = on ? cpu->eflags | flag : cpu->eflags & ~flag;
}

/* IF or the NMI mask may have opened: come out of the loop if something waits. */
static inline void check_pending(struct cpu *cpu)
{
	if (unlikely((cpu->intr_line && cpu->eflags & FLAG_IF && !cpu->shadow) ||
		     (cpu->nmi_pending && !cpu->nmi_blocked) || cpu->debug_hits))
		cpu_kick(cpu);
}

#endif
