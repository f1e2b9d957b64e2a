/* x87 in the interpreter.
 *
 * Arithmetic runs on the host's x87 under the guest's own control word, from
 * and to the FXSAVE image in the CPU: FXRSTOR, the instruction, FXSAVE. Results
 * are therefore exact to the last of the 80 bits, with whatever response to
 * unmasked exceptions the control word asks for. An unmasked exception stays in
 * the status word until the next waiting instruction, where #MF is raised; the
 * host never sees it, because the image is only loaded with nothing pending.
 *
 * What moves the environment itself (control word, status, tags, FNSAVE...) is
 * done here on the image. Instruction and operand pointers are the guest's,
 * kept here too: the host's would be those of our own routines.
 *
 * Source: Intel SDM volume 1 chapter 8 (state, environment layouts 8-9 to
 * 8-12, exceptions), 3A section 2.5 (EM, MP, TS, NE).
 */
#include "core/interp_simd.h"

#include "core/cpuid.h"
#include "core/host_simd.h"
#include "core/interp_simd_priv.h"

void fpu_reset(struct cpu *cpu)
{
	uint8_t *fx = cpu->fpu.fxsave;

	memset(fx, 0, sizeof(cpu->fpu.fxsave));
	store_le16(fx + FX_FCW, FCW_POWER_ON);
	fx[FX_FTW] = 0xff; /* eight zeros */
	store_le32(fx + FX_MXCSR, MXCSR_INIT);
	store_le32(fx + FX_MXCSR_MASK, MXCSR_WRITABLE);
}

void fpu_sanitize(uint8_t fx[512])
{
	store_le16(fx + FX_FCW, (load_le16(fx + FX_FCW) & FCW_WRITABLE) | FCW_RSVD1);
	fx[FX_FTW + 1] = 0;
	store_le16(fx + FX_FOP, load_le16(fx + FX_FOP) & 0x7ff);
	store_le32(fx + FX_MXCSR, load_le32(fx + FX_MXCSR) & MXCSR_WRITABLE);
	store_le32(fx + FX_MXCSR_MASK, MXCSR_WRITABLE);
	fx_update_es(fx);
}

void fpu_check_pending(struct cpu *cpu)
{
	const uint8_t *fx = cpu->fpu.fxsave;

	if (likely(!(load_le16(fx + FX_FSW) & ~load_le16(fx + FX_FCW) & FSW_EXCEPTIONS)))
		return;
	if (cpu->cr0 & CR0_NE)
		cpu_raise_ne(cpu, EXC_MF);
	if (cpu->ferr)
		cpu->ferr(cpu->ferr_opaque);
}

/* TOP moves, the physical registers stay: the image, in stack order, turns. */
void fpu_set_top(uint8_t *fx, unsigned top)
{
	uint16_t fsw = load_le16(fx + FX_FSW);
	unsigned turn = (top - (fsw >> FSW_TOP_SHIFT)) & 7;
	uint8_t old[128];

	if (!turn)
		return;
	memcpy(old, fx + FX_ST, sizeof(old));
	for (unsigned i = 0; i < 8; i++)
		memcpy(fx + FX_ST + 16 * i, old + 16 * ((i + turn) & 7), 16);
	store_le16(fx + FX_FSW, (fsw & ~FSW_TOP) | top << FSW_TOP_SHIFT);
}

/* FNINIT and the end of FNSAVE: registers keep their contents, tagged empty. */
static void x87_init(uint8_t *fx)
{
	fpu_set_top(fx, 0);
	memset(fx, 0, FX_MXCSR);
	store_le16(fx + FX_FCW, FCW_INIT);
}

/* ---- environment ---- */

/* The two tag bits of a register that is not empty (SDM 1, 8.1.7). */
static unsigned x87_tag(const uint8_t *reg)
{
	uint64_t mantissa = load_le64(reg);
	unsigned exponent = load_le16(reg + 8) & 0x7fff;

	if (exponent == 0x7fff)
		return 2;
	if (exponent == 0)
		return mantissa ? 2 : 1;
	return mantissa >> 63 ? 0 : 2;
}

static uint16_t x87_full_tags(struct cpu *cpu)
{
	const uint8_t *fx = cpu->fpu.fxsave;
	unsigned top = load_le16(fx + FX_FSW) >> FSW_TOP_SHIFT & 7;
	uint16_t tags = 0;

	for (unsigned phys = 0; phys < 8; phys++) {
		unsigned tag = 3;

		if (fx[FX_FTW] >> phys & 1)
			tag = x87_tag(fx_st(cpu, phys - top));
		tags |= tag << 2 * phys;
	}
	return tags;
}

static uint8_t x87_abridged_tags(uint16_t full)
{
	uint8_t tags = 0;

	for (unsigned phys = 0; phys < 8; phys++)
		tags |= ((full >> 2 * phys & 3) != 3) << phys;
	return tags;
}

static unsigned x87_env_size(const struct insn *in) { return in->opsize == 2 ? 14 : 28; }

/* Lays the environment out in one of its four formats; returns its size. */
static unsigned x87_env_store(struct cpu *cpu, const struct insn *in, uint8_t *env)
{
	const uint8_t *fx = cpu->fpu.fxsave;
	uint16_t fop = load_le16(fx + FX_FOP) & 0x7ff;
	uint32_t fip = load_le32(fx + FX_FIP), fdp = load_le32(fx + FX_FDP);
	uint16_t fcs = load_le16(fx + FX_FCS), fds = load_le16(fx + FX_FDS);
	uint16_t head[3] = { load_le16(fx + FX_FCW), load_le16(fx + FX_FSW), x87_full_tags(cpu) };

	if (in->opsize == 2) {
		for (unsigned i = 0; i < 3; i++)
			store_le16(env + 2 * i, head[i]);
		if (cpu_protected(cpu)) {
			store_le16(env + 6, fip);
			store_le16(env + 8, fcs);
			store_le16(env + 10, fdp);
			store_le16(env + 12, fds);
		} else {
			fip += (uint32_t)fcs << 4;
			fdp += (uint32_t)fds << 4;
			store_le16(env + 6, fip);
			store_le16(env + 8, (fip >> 4 & 0xf000) | fop);
			store_le16(env + 10, fdp);
			store_le16(env + 12, fdp >> 4 & 0xf000);
		}
		return 14;
	}
	for (unsigned i = 0; i < 3; i++)
		store_le32(env + 4 * i, 0xffff0000u | head[i]);
	if (cpu_protected(cpu)) {
		store_le32(env + 12, fip);
		store_le32(env + 16, (uint32_t)fop << 16 | fcs);
		store_le32(env + 20, fdp);
		store_le32(env + 24, 0xffff0000u | fds);
	} else {
		fip += (uint32_t)fcs << 4;
		fdp += (uint32_t)fds << 4;
		store_le32(env + 12, 0xffff0000u | (fip & 0xffff));
		store_le32(env + 16, (fip >> 16) << 12 | fop);
		store_le32(env + 20, 0xffff0000u | (fdp & 0xffff));
		store_le32(env + 24, (fdp >> 16) << 12);
	}
	return 28;
}

static void x87_env_load(struct cpu *cpu, const struct insn *in, const uint8_t *env)
{
	uint8_t *fx = cpu->fpu.fxsave;
	unsigned step = in->opsize == 2 ? 2 : 4;
	uint16_t fop = load_le16(fx + FX_FOP), fcs = 0, fds = 0;
	uint32_t fip, fdp;

	if (in->opsize == 2) {
		fip = load_le16(env + 6);
		fdp = load_le16(env + 10);
		if (cpu_protected(cpu)) {
			fcs = load_le16(env + 8);
			fds = load_le16(env + 12);
			fop = 0;
		} else {
			fip |= (uint32_t)(load_le16(env + 8) & 0xf000) << 4;
			fdp |= (uint32_t)(load_le16(env + 12) & 0xf000) << 4;
			fop = load_le16(env + 8) & 0x7ff;
		}
	} else if (cpu_protected(cpu)) {
		fip = load_le32(env + 12);
		fcs = load_le16(env + 16);
		fop = load_le16(env + 18) & 0x7ff;
		fdp = load_le32(env + 20);
		fds = load_le16(env + 24);
	} else {
		fip = load_le16(env + 12) | (load_le32(env + 16) >> 12 & 0xffff) << 16;
		fop = load_le16(env + 16) & 0x7ff;
		fdp = load_le16(env + 20) | (load_le32(env + 24) >> 12 & 0xffff) << 16;
	}
	store_le16(fx + FX_FCW, (load_le16(env) & FCW_WRITABLE) | FCW_RSVD1);
	fpu_set_top(fx, load_le16(env + step) >> FSW_TOP_SHIFT & 7);
	store_le16(fx + FX_FSW, load_le16(env + step));
	fx[FX_FTW] = x87_abridged_tags(load_le16(env + 2 * step));
	store_le16(fx + FX_FOP, fop);
	store_le32(fx + FX_FIP, fip);
	store_le16(fx + FX_FCS, fcs);
	store_le32(fx + FX_FDP, fdp);
	store_le16(fx + FX_FDS, fds);
	fx_update_es(fx);
}

/* FNSTENV and FNSAVE; nothing changes if the store faults. */
static void x87_store_state(struct cpu *cpu, const struct insn *in, bool registers)
{
	unsigned size = x87_env_size(in) + (registers ? 80 : 0);
	uint32_t linear = simd_probe(cpu, in->seg, simd_ea(cpu, in), size, in->opsize);
	uint8_t *fx = cpu->fpu.fxsave;
	uint8_t buf[108];
	unsigned env = x87_env_store(cpu, in, buf);

	if (registers)
		for (unsigned i = 0; i < 8; i++)
			memcpy(buf + env + 10 * i, fx_st(cpu, i), 10);
	mmu_write_bytes(cpu, linear, buf, size, mmu_user(cpu));
	if (registers) {
		x87_init(fx);
	} else {
		store_le16(fx + FX_FCW, load_le16(fx + FX_FCW) | FSW_EXCEPTIONS);
		fx_update_es(fx);
	}
}

static void x87_load_state(struct cpu *cpu, const struct insn *in, bool registers)
{
	unsigned env = x87_env_size(in);
	uint8_t buf[108];

	simd_read(cpu, in->seg, simd_ea(cpu, in), buf, env + (registers ? 80 : 0), in->opsize);
	x87_env_load(cpu, in, buf);
	if (registers)
		for (unsigned i = 0; i < 8; i++)
			memcpy(fx_st(cpu, i), buf + env + 10 * i, 10);
}

/* ---- instructions ---- */

/* Those that act on the environment; false: not one of them. */
static bool x87_control(struct cpu *cpu, const struct insn *in)
{
	uint8_t *fx = cpu->fpu.fxsave;
	uint16_t value;

	switch (in->entry->id) {
	case INSN_ID_FNINIT:
		x87_init(fx);
		return true;
	case INSN_ID_FNCLEX:
		store_le16(fx + FX_FSW, load_le16(fx + FX_FSW) & 0x7f00);
		return true;
	case INSN_ID_FNENI:
	case INSN_ID_FNDISI:
	case INSN_ID_FNSETPM:
		return true; /* 8087 and 80287 only */
	case INSN_ID_FNSTCW:
		seg_write(cpu, in->seg, simd_ea(cpu, in), load_le16(fx + FX_FCW), 2);
		return true;
	case INSN_ID_FNSTSW:
		value = load_le16(fx + FX_FSW);
		if (in->has_mem)
			seg_write(cpu, in->seg, simd_ea(cpu, in), value, 2);
		else
			cpu->gpr[EAX] = (cpu->gpr[EAX] & ~0xffffull) | value;
		return true;
	case INSN_ID_FNSTENV:
		x87_store_state(cpu, in, false);
		return true;
	case INSN_ID_FNSAVE:
		x87_store_state(cpu, in, true);
		return true;
	case INSN_ID_FLDCW:
		fpu_check_pending(cpu);
		value = seg_read(cpu, in->seg, simd_ea(cpu, in), 2);
		store_le16(fx + FX_FCW, (value & FCW_WRITABLE) | FCW_RSVD1);
		fx_update_es(fx);
		return true;
	case INSN_ID_FLDENV:
		fpu_check_pending(cpu);
		x87_load_state(cpu, in, false);
		return true;
	case INSN_ID_FRSTOR:
		fpu_check_pending(cpu);
		x87_load_state(cpu, in, true);
		return true;
	default:
		return false;
	}
}

/* FCOMI and kin: ZF PF CF from the comparison; OF SF AF cleared, by the host. */
static void x87_take_flags(struct cpu *cpu, const struct host_simd *ctx)
{
	uint32_t flags = ctx->flags >> 8 & (FLAGS_ARITH & 0xff);

	if (ctx->flags & 1)
		flags |= FLAG_OF;
	cpu->eflags = (cpu->eflags & ~FLAGS_ARITH) | flags;
}

static void x87_execute(struct cpu *cpu, const struct insn *in)
{
	uint8_t *fx = cpu->fpu.fxsave;
	struct host_simd ctx;
	uint8_t pointers[FX_MXCSR - FX_FOP];
	enum op_access access = ACC_NONE;
	unsigned bytes = 0, op = in->opcode - 0xd8;
	uint16_t held;
	uint32_t offset = 0, linear = 0;
	const uint8_t *routine;

	if (in->has_mem) {
		offset = simd_ea(cpu, in);
		access = insn_memory_access(in, &bytes);
		if (bytes > sizeof(ctx.mem))
			cpu_raise_ne(cpu, EXC_UD);
		memset(ctx.mem, 0, sizeof(ctx.mem));
		if (access & ACC_W)
			linear = simd_probe(cpu, in->seg, offset, bytes, bytes == 10 ? 8 : bytes);
		else
			simd_read(cpu, in->seg, offset, ctx.mem, bytes, bytes == 10 ? 8 : bytes);
		routine = host_x87_mem[op][in->reg];
	} else {
		routine = host_x87_reg[op][in->modrm & 0x3f];
	}

	/* With NE clear a pending exception was only reported, and must not trap
	 * here: it is hidden while the instruction runs. */
	held = load_le16(fx + FX_FSW) & ~load_le16(fx + FX_FCW) & FSW_EXCEPTIONS;
	if (unlikely(held)) {
		store_le16(fx + FX_FSW, load_le16(fx + FX_FSW) & ~held);
		fx_update_es(fx);
	}
	memcpy(pointers, fx + FX_FOP, sizeof(pointers));
	ctx.flags = (cpu->eflags & 0xff) << 8 | !!(cpu->eflags & FLAG_OF);
	host_x87_run(&ctx, routine, fx);

	memcpy(fx + FX_FOP, pointers, sizeof(pointers));
	store_le32(fx + FX_MXCSR_MASK, MXCSR_WRITABLE);
	/* An unmasked numeric exception of a store leaves memory alone. */
	if ((access & ACC_W) && !(load_le16(fx + FX_FSW) & ~load_le16(fx + FX_FCW) &
				  (FSW_IE | FSW_OE | FSW_UE)))
		mmu_write_bytes(cpu, linear, ctx.mem, bytes, mmu_user(cpu));
	if (unlikely(held)) {
		store_le16(fx + FX_FSW, load_le16(fx + FX_FSW) | held);
		fx_update_es(fx);
	}
	if (in->entry->flags_written)
		x87_take_flags(cpu, &ctx);

	store_le16(fx + FX_FOP, op << 8 | in->modrm);
	store_le32(fx + FX_FIP, cpu->insn_eip);
	store_le16(fx + FX_FCS, cpu->seg[CS].selector);
	if (in->has_mem) {
		store_le32(fx + FX_FDP, offset);
		store_le16(fx + FX_FDS, cpu->seg[in->seg].selector);
	}
}

void interp_x87(struct cpu *cpu, const struct insn *in)
{
	if (unlikely(cpu->fpu_foreign))
		cpu->fpu_settle(cpu->engine_data);
	if (in->entry->id == INSN_ID_FWAIT) {
		if ((cpu->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
			cpu_raise_ne(cpu, EXC_NM);
		fpu_check_pending(cpu);
		return;
	}
	if (in->opcode < 0xd8 || in->opcode > 0xdf) { /* FXSAVE, FXRSTOR */
		interp_simd(cpu, in);
		return;
	}
	if (!cpu_has(cpu, in->entry->feature))
		cpu_raise_ne(cpu, EXC_UD);
	if (cpu->cr0 & (CR0_EM | CR0_TS))
		cpu_raise_ne(cpu, EXC_NM);
	if (x87_control(cpu, in))
		return;
	fpu_check_pending(cpu);
	x87_execute(cpu, in);
}
