/* MMX and SSE in the interpreter.
 *
 * One generic path for nearly everything: the operand letters of the decode
 * table say what to copy in (XMM, MMX or general registers, memory), a routine
 * of host_simd.S runs the very instruction on fixed registers, and the letters
 * say what to copy back. What is left are the few instructions that are about
 * state (FXSAVE, LDMXCSR, EMMS) or have implicit addresses (MASKMOVQ).
 *
 * Unmasked floating-point exceptions: the routine runs with all of them masked
 * and their flags clear. If a flag comes up that the guest has not masked,
 * nothing is committed but MXCSR, and #XM is raised; so the host never traps.
 *
 * Source: Intel SDM volume 1 chapters 9 (MMX and its effect on the x87 state),
 * 10.5 (FXSAVE), 11.5 (SIMD exceptions); volume 2 table 2-18 (who faults when).
 */
#include "core/interp_simd.h"

#include "core/cpuid.h"
#include "core/host_simd.h"
#include "core/interp_simd_priv.h"

/* ---- which routine ---- */

enum {
#define SIMD_IMM(pfx, map, op, reg) IMM_##pfx##_##map##_##op##_##reg,
#include "core/host_simd_imm.h"
#undef SIMD_IMM
};

enum { PFX_NP, PFX_66, PFX_F3, PFX_F2 };
enum { KEY_MAP_0F = MAP_0F, KEY_MAP_3A = MAP_0F3A };

#define IMM_KEY(pfx, map, op, reg) ((pfx) << 16 | (map) << 12 | (op) << 4 | (reg))

static int simd_imm_index(unsigned pfx, unsigned map, unsigned op, unsigned reg)
{
	switch (IMM_KEY(pfx, map, op, reg)) {
#define SIMD_IMM(pfx, map, op, reg)                    \
	case IMM_KEY(PFX_##pfx, KEY_MAP_##map, 0x##op, reg): \
		return IMM_##pfx##_##map##_##op##_##reg;
#include "core/host_simd_imm.h"
#undef SIMD_IMM
	default:
		return -1;
	}
}

static const uint8_t *simd_routine(const struct insn *in)
{
	const struct insn_entry *e = in->entry;
	static const uint8_t pfx_of_need[] = {
		[NEED_ANY] = PFX_NP, [NEED_NP] = PFX_NP, [NEED_66] = PFX_66,
		[NEED_F3] = PFX_F3, [NEED_F2] = PFX_F2,
	};
	unsigned pfx = pfx_of_need[e->need];
	int index;

	if (in->imm_size) {
		index = simd_imm_index(pfx, e->map, in->opcode, e->reg >= 0 ? e->reg : 2);
		return index < 0 ? NULL : host_simd_imm[index][in->has_mem][(uint8_t)in->imm];
	}
	if (e->map == MAP_0F)
		return host_simd_0f[pfx][in->opcode][in->has_mem];
	if (e->map == MAP_0F38)
		return host_simd_0f38[pfx][in->opcode][in->has_mem];
	return NULL;
}

/* ---- state ---- */

/* Every MMX instruction: TOP becomes 0, all registers valid (SDM 1, 9.5.1). */
static void mmx_enter(struct cpu *cpu, uint8_t tags)
{
	cpu->fpu.fxsave[FX_FTW] = tags;
	fpu_set_top(cpu->fpu.fxsave, 0);
}

/* Where MMX register @n lies while TOP is still what it is. */
static const uint8_t *mmx_peek(struct cpu *cpu, unsigned n)
{
	unsigned top = load_le16(cpu->fpu.fxsave + FX_FSW) >> FSW_TOP_SHIFT & 7;

	return fx_st(cpu, n - top);
}

static void mmx_write(struct cpu *cpu, unsigned n, const uint8_t value[8])
{
	uint8_t *st = fx_st(cpu, n);

	memcpy(st, value, 8);
	st[8] = st[9] = 0xff; /* sign and exponent read as all ones */
}

/* ---- faults before execution ---- */

static void simd_check(struct cpu *cpu, uint32_t attr)
{
	if (cpu->cr0 & CR0_EM)
		cpu_raise_ne(cpu, EXC_UD);
	if ((attr & INSN_SSE) && !(cpu->cr4 & CR4_OSFXSR))
		cpu_raise_ne(cpu, EXC_UD);
	if (cpu->cr0 & CR0_TS)
		cpu_raise_ne(cpu, EXC_NM);
	if (attr & INSN_MMX)
		fpu_check_pending(cpu);
}

/* ---- the instructions about state ---- */

static void sse_fxsave(struct cpu *cpu, const struct insn *in)
{
	uint32_t offset = simd_ea(cpu, in), linear = seg_linear(cpu, in->seg, offset, 512, true);
	uint8_t *fx = cpu->fpu.fxsave;

	if (linear & 15)
		cpu_raise(cpu, EXC_GP, 0);
	mmu_probe_write(cpu, linear, 512, mmu_user(cpu));
	fpu_sanitize(fx);
	mmu_write_bytes(cpu, linear, fx, FX_END32, mmu_user(cpu));
}

static void sse_fxrstor(struct cpu *cpu, const struct insn *in)
{
	uint32_t offset = simd_ea(cpu, in), linear = seg_linear(cpu, in->seg, offset, 512, false);
	uint8_t buf[512];

	if (linear & 15)
		cpu_raise(cpu, EXC_GP, 0);
	mmu_read_bytes(cpu, linear, buf, sizeof(buf), mmu_user(cpu));
	if (load_le32(buf + FX_MXCSR) & ~MXCSR_WRITABLE)
		cpu_raise(cpu, EXC_GP, 0);
	for (unsigned i = 0; i < 8; i++)
		memset(buf + FX_ST + 16 * i + 10, 0, 6);
	store_le16(buf + FX_FCS + 2, 0);
	store_le16(buf + FX_FDS + 2, 0);
	fpu_sanitize(buf);
	memcpy(cpu->fpu.fxsave, buf, FX_END32);
}

static void sse_ldmxcsr(struct cpu *cpu, const struct insn *in)
{
	uint32_t value = seg_read(cpu, in->seg, simd_ea(cpu, in), 4);

	if (value & ~MXCSR_WRITABLE)
		cpu_raise(cpu, EXC_GP, 0);
	store_le32(cpu->fpu.fxsave + FX_MXCSR, value);
}

/* MASKMOVQ, MASKMOVDQU: bytes of the reg operand whose mask byte in r/m has its
 * top bit set go to DS:rDI. The whole operand is checked, whatever the mask. */
static void simd_maskmov(struct cpu *cpu, const struct insn *in, bool mmx)
{
	unsigned n = mmx ? 8 : 16, seg = in->prefixes & PREFIX_SEG ? in->seg : DS;
	const uint8_t *src = mmx ? mmx_peek(cpu, in->reg) : fx_xmm(cpu, in->reg);
	const uint8_t *mask = mmx ? mmx_peek(cpu, in->rm) : fx_xmm(cpu, in->rm);
	uint32_t edi = cpu->gpr[EDI];
	uint32_t linear = simd_probe(cpu, seg, in->adsize == 2 ? edi & 0xffff : edi, n, 8);

	for (unsigned i = 0; i < n; i++)
		if (mask[i] & 0x80)
			mmu_write_bytes(cpu, linear + i, &src[i], 1, mmu_user(cpu));
	if (mmx)
		mmx_enter(cpu, 0xff);
}

/* ---- the generic path ---- */

struct simd_operands {
	struct host_simd ctx;
	uint32_t attr;         /* of the entry, as simd_attr() has it */
	enum op_access access; /* of the memory operand */
	unsigned bytes;
	uint32_t linear;       /* where a result in memory goes, already probed */
};

static void simd_load_memory(struct cpu *cpu, const struct insn *in, struct simd_operands *o)
{
	uint32_t offset = simd_ea(cpu, in);
	if (in->entry->attr & INSN_ALIGN16) {
		uint32_t linear = seg_linear(cpu, in->seg, offset, o->bytes, o->access & ACC_W);

		if (linear & 15)
			cpu_raise(cpu, EXC_GP, 0);
	}
	if (o->access & ACC_W)
		o->linear = simd_probe(cpu, in->seg, offset, o->bytes, o->bytes);
	if (o->access & ACC_R)
		simd_read(cpu, in->seg, offset, o->ctx.mem, o->bytes, o->bytes);
}

static void simd_load_registers(struct cpu *cpu, const struct insn *in, struct simd_operands *o)
{
	o->ctx.eax = cpu->gpr[EAX];
	o->ctx.edx = cpu->gpr[EDX];
	o->ctx.ecx = cpu->gpr[ECX];
	memcpy(o->ctx.xmm[0], fx_xmm(cpu, 0), 16);
	for (unsigned i = 0; i < ARRAY_SIZE(in->entry->op); i++) {
		switch (in->entry->op[i].addr) {
		case OP_V:
			memcpy(o->ctx.xmm[2], fx_xmm(cpu, in->reg), 16);
			break;
		case OP_P:
			memcpy(o->ctx.mm[2], mmx_peek(cpu, in->reg), 8);
			break;
		case OP_G:
			o->ctx.edx = cpu->gpr[in->reg];
			break;
		case OP_W:
		case OP_U:
			if (!in->has_mem)
				memcpy(o->ctx.xmm[1], fx_xmm(cpu, in->rm), 16);
			break;
		case OP_Q:
		case OP_N:
			if (!in->has_mem)
				memcpy(o->ctx.mm[1], mmx_peek(cpu, in->rm), 8);
			break;
		case OP_E:
		case OP_R:
			if (!in->has_mem)
				o->ctx.ecx = cpu->gpr[in->rm];
			break;
		default:
			break;
		}
	}
}

static void simd_store(struct cpu *cpu, const struct insn *in, const struct simd_operands *o)
{
	const struct insn_entry *e = in->entry;

	if (o->access & ACC_W)
		mmu_write_bytes(cpu, o->linear, o->ctx.mem, o->bytes, mmu_user(cpu));
	if (o->attr & INSN_MMX)
		mmx_enter(cpu, 0xff);
	for (unsigned i = 0; i < ARRAY_SIZE(e->op); i++) {
		if (!(e->op[i].access & ACC_W))
			continue;
		switch (e->op[i].addr) {
		case OP_V:
			memcpy(fx_xmm(cpu, in->reg), o->ctx.xmm[2], 16);
			break;
		case OP_P:
			mmx_write(cpu, in->reg, o->ctx.mm[2]);
			break;
		case OP_G:
			cpu->gpr[in->reg] = o->ctx.edx;
			break;
		case OP_W:
		case OP_U:
			if (!in->has_mem)
				memcpy(fx_xmm(cpu, in->rm), o->ctx.xmm[1], 16);
			break;
		case OP_Q:
		case OP_N:
			if (!in->has_mem)
				mmx_write(cpu, in->rm, o->ctx.mm[1]);
			break;
		case OP_E:
		case OP_R:
			if (!in->has_mem)
				cpu->gpr[in->rm] = o->ctx.ecx;
			break;
		default:
			break;
		}
	}
	if (e->id == INSN_ID_PCMPESTRM || e->id == INSN_ID_PCMPISTRM)
		memcpy(fx_xmm(cpu, 0), o->ctx.xmm[0], 16);
	if (e->id == INSN_ID_PCMPESTRI || e->id == INSN_ID_PCMPISTRI)
		cpu->gpr[ECX] = o->ctx.ecx;
	if (e->flags_written) {
		uint32_t flags = (o->ctx.flags >> 8 & 0xff) | (o->ctx.flags & 1 ? FLAG_OF : 0);

		cpu->eflags = (cpu->eflags & ~FLAGS_ARITH) | (flags & FLAGS_ARITH);
	}
}

/* Runs the routine with exceptions masked; returns with MXCSR flags merged into
 * the guest's, or raises #XM with nothing else changed. */
static void simd_run(struct cpu *cpu, uint32_t attr, struct host_simd *ctx, const uint8_t *routine)
{
	void (*run)(struct host_simd *, const uint8_t *) =
		attr & INSN_MMX ? host_mmx_run : host_simd_run;
	uint8_t *fx = cpu->fpu.fxsave;
	uint32_t guest = load_le32(fx + FX_MXCSR) & MXCSR_WRITABLE, flags, unmasked;
	uint32_t control = (guest & ~MXCSR_EXCEPTIONS) | MXCSR_MASKS;
	struct host_simd again;

	unmasked = ~guest >> MXCSR_MASK_SHIFT & MXCSR_EXCEPTIONS;
	if (unlikely(unmasked & MXCSR_UE))
		again = *ctx;
	ctx->mxcsr = control;
	run(ctx, routine);
	flags = ctx->mxcsr & MXCSR_EXCEPTIONS;
	if (unlikely((unmasked & MXCSR_UE) && !(flags & MXCSR_UE))) {
		/* Unmasked underflow is any tiny result; masked, only an inexact
		 * one. Flushing to zero reports all of them. */
		again.mxcsr = control | MXCSR_FTZ;
		run(&again, routine);
		flags |= again.mxcsr & MXCSR_UE;
	}
	if (unlikely(flags & unmasked)) {
		/* Faults found before the operation keep it from finding others. */
		if (flags & unmasked & MXCSR_PRE)
			flags &= MXCSR_PRE;
		store_le32(fx + FX_MXCSR, guest | flags);
		cpu_raise_ne(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
	}
	store_le32(fx + FX_MXCSR, guest | flags);
}

/* Whether an instruction is a use of MMX, with its effect on the x87 state, is in
 * the table but for one: CVTPI2PS from memory goes over to MMX on Intel's CPUs
 * and not on AMD's. The guest gets what its host does. */
static uint32_t simd_attr(const struct insn *in)
{
	struct host_simd ctx = { .mxcsr = MXCSR_INIT };
	uint8_t env[28];

	if (likely(in->entry->id != INSN_ID_CVTPI2PS || !in->has_mem))
		return in->entry->attr;
	host_simd_run(&ctx, host_simd_0f[PFX_NP][0x2a][1]);
	__asm__ volatile("fnstenv %0; fldenv %0; emms" : "=m"(env));
	return load_le16(env + 8) != 0xffff ? in->entry->attr : in->entry->attr & ~(uint32_t)INSN_MMX;
}

static void simd_generic(struct cpu *cpu, const struct insn *in, uint32_t attr)
{
	const uint8_t *routine = simd_routine(in);
	struct simd_operands o;

	if (!routine)
		cpu_raise_ne(cpu, EXC_UD);
	memset(&o, 0, sizeof(o));
	o.attr = attr;
	if (in->has_mem) {
		o.access = insn_memory_access(in, &o.bytes);
		if (o.bytes > sizeof(o.ctx.mem))
			cpu_raise_ne(cpu, EXC_UD);
		simd_load_memory(cpu, in, &o);
	}
	simd_load_registers(cpu, in, &o);
	simd_run(cpu, attr, &o.ctx, routine);
	simd_store(cpu, in, &o);
}

/* EXTRQ and INSERTQ with immediates: as their register forms, which take length
 * and index from the source (AMD APM volume 4). */
static void simd_sse4a_imm(struct cpu *cpu, const struct insn *in)
{
	bool extract = in->entry->id == INSN_ID_EXTRQ;
	unsigned dst = extract ? in->rm : in->reg;
	struct host_simd ctx = { 0 };

	memcpy(ctx.xmm[2], fx_xmm(cpu, dst), 16);
	if (!extract)
		memcpy(ctx.xmm[1], fx_xmm(cpu, in->rm), 8);
	ctx.xmm[1][extract ? 0 : 8] = in->imm;
	ctx.xmm[1][extract ? 1 : 9] = in->imm2;
	ctx.mxcsr = MXCSR_INIT;
	host_simd_run(&ctx, host_simd_0f[extract ? PFX_66 : PFX_F2][0x79][0]);
	memcpy(fx_xmm(cpu, dst), ctx.xmm[2], 16);
}

void interp_simd(struct cpu *cpu, const struct insn *in)
{
	const struct insn_entry *e = in->entry;
	uint32_t attr;

	if (unlikely(cpu->fpu_foreign))
		cpu->fpu_settle(cpu->engine_data);
	if (!cpu_has(cpu, e->feature))
		cpu_raise_ne(cpu, EXC_UD);
	switch (e->id) {
	case INSN_ID_PREFETCH:
		return;
	case INSN_ID_MOVNTI:
		seg_write(cpu, in->seg, simd_ea(cpu, in), (uint32_t)cpu->gpr[in->reg], 4);
		return;
	case INSN_ID_FXSAVE:
		simd_check(cpu, 0);
		sse_fxsave(cpu, in);
		return;
	case INSN_ID_FXRSTOR:
		simd_check(cpu, 0);
		sse_fxrstor(cpu, in);
		return;
	case INSN_ID_LDMXCSR:
		simd_check(cpu, INSN_SSE);
		sse_ldmxcsr(cpu, in);
		return;
	case INSN_ID_STMXCSR:
		simd_check(cpu, INSN_SSE);
		seg_write(cpu, in->seg, simd_ea(cpu, in),
			  load_le32(cpu->fpu.fxsave + FX_MXCSR), 4);
		return;
	case INSN_ID_EMMS:
		simd_check(cpu, INSN_MMX);
		mmx_enter(cpu, 0);
		return;
	default:
		break;
	}
	attr = simd_attr(in);
	simd_check(cpu, attr);
	switch (e->id) {
	case INSN_ID_MASKMOVQ:
		simd_maskmov(cpu, in, true);
		break;
	case INSN_ID_MASKMOVDQU:
		simd_maskmov(cpu, in, false);
		break;
	case INSN_ID_EXTRQ:
	case INSN_ID_INSERTQ:
		if (in->imm_size)
			simd_sse4a_imm(cpu, in);
		else
			simd_generic(cpu, in, attr);
		break;
	default:
		simd_generic(cpu, in, attr);
	}
}
