/* Interpreter: ports, interrupt flag, system registers, CPUID and MSRs.
 *
 * SDM volume 2; SDM 3A chapter 2 (system registers) and 5.9 (privileged
 * instructions). Privilege and mode checks named by the table's attributes are
 * made in interp.c before a handler runs.
 */
#include "core/interp_priv.h"

#include "core/alu.h"
#include "core/cpuid.h"
#include "core/ioport.h"

/* ---- ports ---- */

/* E4-E7 take the port from a byte, EC-EF from DX; bit 0 is the width. */
static uint16_t port_operand(const struct cpu *cpu, const struct insn *in)
{
	return in->opcode & 8 ? (uint16_t)cpu->gpr[EDX] : (uint8_t)in->imm;
}

static void op_in(struct cpu *cpu, const struct insn *in)
{
	unsigned size = in->opcode & 1 ? in->opsize : 1;
	uint16_t port = port_operand(cpu, in);

	io_check(cpu, port, size);
	reg_set(cpu, EAX, size, ioport_read(cpu->io, port, size));
}

static void op_out(struct cpu *cpu, const struct insn *in)
{
	unsigned size = in->opcode & 1 ? in->opsize : 1;
	uint16_t port = port_operand(cpu, in);

	io_check(cpu, port, size);
	ioport_write(cpu->io, port, reg_get(cpu, EAX, size), size);
}

/* ---- interrupt flag and halt ---- */

static void op_cli(struct cpu *cpu, const struct insn *in)
{
	if (cpu->cpl > cpu_iopl(cpu))
		cpu_raise(cpu, EXC_GP, 0);
	cpu->eflags &= ~(uint32_t)FLAG_IF;
}

static void op_sti(struct cpu *cpu, const struct insn *in)
{
	if (cpu->cpl > cpu_iopl(cpu))
		cpu_raise(cpu, EXC_GP, 0);
	if (cpu->eflags & FLAG_IF)
		return;
	cpu->eflags |= FLAG_IF;
	cpu->shadow |= SHADOW_STI;
}

static void op_hlt(struct cpu *cpu, const struct insn *in)
{
	cpu->halted = 1;
	cpu_kick(cpu);
}

/* ---- descriptor table registers ---- */

static void load_table(struct cpu *cpu, const struct insn *in, uint64_t *base,
		       uint16_t *limit)
{
	uint32_t at = effective(cpu, in);
	uint16_t l = (uint16_t)mem_read(cpu, in->seg, at, 2);
	uint32_t b = mem_read(cpu, in->seg, at + 2, 4);

	*limit = l;
	*base = in->opsize == 2 ? b & 0xffffff : b;
}

static void op_lgdt(struct cpu *cpu, const struct insn *in)
{
	load_table(cpu, in, &cpu->gdtr_base, &cpu->gdtr_limit);
}

static void op_lidt(struct cpu *cpu, const struct insn *in)
{
	load_table(cpu, in, &cpu->idtr_base, &cpu->idtr_limit);
}

/* All 32 bits of the base whatever the operand size: what processors do since
 * the 386, the SDM's text on 24 bits notwithstanding. */
static void store_table(struct cpu *cpu, const struct insn *in, uint64_t base,
			uint16_t limit)
{
	uint32_t at = effective(cpu, in);

	mmu_probe_write(cpu, seg_linear(cpu, in->seg, at, 6, true), 6, mmu_user(cpu));
	mem_write(cpu, in->seg, at, 2, limit);
	mem_write(cpu, in->seg, at + 2, 4, (uint32_t)base);
}

static void op_sgdt(struct cpu *cpu, const struct insn *in)
{
	store_table(cpu, in, cpu->gdtr_base, cpu->gdtr_limit);
}

static void op_sidt(struct cpu *cpu, const struct insn *in)
{
	store_table(cpu, in, cpu->idtr_base, cpu->idtr_limit);
}

/* A 16-bit r/m operand read, and written: memory gets 16 bits, a register the
 * operand size. */
static uint16_t read_rm16(struct cpu *cpu, const struct insn *in)
{
	return in->has_mem ? (uint16_t)mem_read(cpu, in->seg, effective(cpu, in), 2)
			   : (uint16_t)cpu->gpr[in->rm];
}

static void write_rm16(struct cpu *cpu, const struct insn *in, uint32_t v)
{
	if (in->has_mem)
		mem_write(cpu, in->seg, effective(cpu, in), 2, v);
	else
		reg_set(cpu, in->rm, in->opsize, v);
}

static void op_lldt(struct cpu *cpu, const struct insn *in)
{
	seg_load_ldtr(cpu, read_rm16(cpu, in));
}

static void op_ltr(struct cpu *cpu, const struct insn *in)
{
	seg_load_tr(cpu, read_rm16(cpu, in));
}

static void op_sldt(struct cpu *cpu, const struct insn *in)
{
	write_rm16(cpu, in, cpu->ldtr.selector);
}

static void op_str(struct cpu *cpu, const struct insn *in)
{
	write_rm16(cpu, in, cpu->tr.selector);
}

/* ---- looking at descriptors ---- */

static void op_lar(struct cpu *cpu, const struct insn *in)
{
	uint32_t rights;
	bool ok = desc_lar(cpu, read_rm16(cpu, in), &rights);

	if (ok)
		reg_set(cpu, in->reg, in->opsize, rights);
	flag_assign(cpu, FLAG_ZF, ok);
}

static void op_lsl(struct cpu *cpu, const struct insn *in)
{
	uint32_t limit;
	bool ok = desc_lsl(cpu, read_rm16(cpu, in), &limit);

	if (ok)
		reg_set(cpu, in->reg, in->opsize, limit);
	flag_assign(cpu, FLAG_ZF, ok);
}

static void op_verr(struct cpu *cpu, const struct insn *in)
{
	flag_assign(cpu, FLAG_ZF, desc_verr(cpu, read_rm16(cpu, in)));
}

static void op_verw(struct cpu *cpu, const struct insn *in)
{
	flag_assign(cpu, FLAG_ZF, desc_verw(cpu, read_rm16(cpu, in)));
}

/* Only a change is written: a read-only operand that needs none does not fault. */
static void op_arpl(struct cpu *cpu, const struct insn *in)
{
	uint32_t rpl = (uint32_t)cpu->gpr[in->reg] & 3, v = op_read(cpu, in, 0, 2);
	bool raise = (v & 3) < rpl;

	if (raise)
		op_write(cpu, in, 0, 2, (v & ~3u) | rpl);
	flag_assign(cpu, FLAG_ZF, raise);
}

/* ---- control and debug registers ---- */

static void op_smsw(struct cpu *cpu, const struct insn *in)
{
	write_rm16(cpu, in, cpu->cr0);
}

static void op_lmsw(struct cpu *cpu, const struct insn *in)
{
	uint32_t v = read_rm16(cpu, in) & (CR0_PE | CR0_MP | CR0_EM | CR0_TS);
	uint32_t keep = ~(uint32_t)(CR0_MP | CR0_EM | CR0_TS); /* PE can be set, not cleared */

	cpu_write_cr(cpu, 0, (cpu->cr0 & keep) | v);
}

static void op_clts(struct cpu *cpu, const struct insn *in)
{
	cpu_write_cr(cpu, 0, cpu->cr0 & ~(uint32_t)CR0_TS);
}

static void op_mov_cr(struct cpu *cpu, const struct insn *in)
{
	if (in->opcode == 0x20)
		cpu->gpr[in->rm] = cpu_read_cr(cpu, in->reg);
	else
		cpu_write_cr(cpu, in->reg, (uint32_t)cpu->gpr[in->rm]);
}

static void op_mov_dr(struct cpu *cpu, const struct insn *in)
{
	if (in->opcode == 0x21)
		cpu->gpr[in->rm] = cpu_read_dr(cpu, in->reg);
	else
		cpu_write_dr(cpu, in->reg, (uint32_t)cpu->gpr[in->rm]);
}

static void op_invlpg(struct cpu *cpu, const struct insn *in)
{
	uint32_t linear = (uint32_t)cpu->seg[in->seg].base + effective(cpu, in);

	mmu_flush_page(cpu, linear);
}

/* Caches are the host's business: INVD, WBINVD. */
static void op_cache(struct cpu *cpu, const struct insn *in)
{
}

/* Nothing to flush, but the address is checked like a load's (SDM 2A, CLFLUSH). */
static void op_clflush(struct cpu *cpu, const struct insn *in)
{
	if (in->has_mem)
		mem_read(cpu, in->seg, effective(cpu, in), 1);
}

/* ---- identification, model-specific registers, counters ---- */

static void op_cpuid(struct cpu *cpu, const struct insn *in)
{
	uint32_t out[4];

	cpu_cpuid(cpu, (uint32_t)cpu->gpr[EAX], (uint32_t)cpu->gpr[ECX], out);
	cpu->gpr[EAX] = out[0];
	cpu->gpr[EBX] = out[1];
	cpu->gpr[ECX] = out[2];
	cpu->gpr[EDX] = out[3];
}

static void set_edx_eax(struct cpu *cpu, uint64_t v)
{
	cpu->gpr[EAX] = (uint32_t)v;
	cpu->gpr[EDX] = v >> 32;
}

static void op_rdmsr(struct cpu *cpu, const struct insn *in)
{
	uint64_t v;

	if (!cpu_rdmsr(cpu, (uint32_t)cpu->gpr[ECX], &v))
		cpu_raise(cpu, EXC_GP, 0);
	set_edx_eax(cpu, v);
}

static void op_wrmsr(struct cpu *cpu, const struct insn *in)
{
	uint64_t v = cpu->gpr[EDX] << 32 | (uint32_t)cpu->gpr[EAX];

	if (!cpu_wrmsr(cpu, (uint32_t)cpu->gpr[ECX], v))
		cpu_raise(cpu, EXC_GP, 0);
	check_pending(cpu); /* the local APIC may have been moved or enabled */
}

static void op_rdtsc(struct cpu *cpu, const struct insn *in)
{
	if (cpu->cr4 & CR4_TSD && cpu->cpl)
		cpu_raise(cpu, EXC_GP, 0);
	set_edx_eax(cpu, cpu_rdtsc(cpu));
}

/* The two counters of a P6; nothing counts. */
static void op_rdpmc(struct cpu *cpu, const struct insn *in)
{
	if ((!(cpu->cr4 & CR4_PCE) && cpu->cpl) || (uint32_t)cpu->gpr[ECX] > 1)
		cpu_raise(cpu, EXC_GP, 0);
	set_edx_eax(cpu, 0);
}

/* CF says whether there was a number; the other flags are cleared. The feature
 * is only there if the host has it. */
static void set_random(struct cpu *cpu, const struct insn *in, uint32_t v, bool ok)
{
	reg_set(cpu, in->rm, in->opsize, ok ? v : 0);
	cpu->eflags = (cpu->eflags & ~(uint32_t)FLAGS_ARITH) | (ok ? FLAG_CF : 0);
}

static void op_rdrand(struct cpu *cpu, const struct insn *in)
{
	uint32_t v;
	bool ok;

	__asm__ volatile("rdrand %0" : "=r"(v), "=@ccc"(ok));
	set_random(cpu, in, v, ok);
}

static void op_rdseed(struct cpu *cpu, const struct insn *in)
{
	uint32_t v;
	bool ok;

	__asm__ volatile("rdseed %0" : "=r"(v), "=@ccc"(ok));
	set_random(cpu, in, v, ok);
}

/* ---- MONITOR, MWAIT ---- */

static void op_monitor(struct cpu *cpu, const struct insn *in)
{
	if (cpu->cpl)
		cpu_raise_ne(cpu, EXC_UD);
	if ((uint32_t)cpu->gpr[ECX])
		cpu_raise(cpu, EXC_GP, 0);
	mem_read(cpu, in->seg, (uint32_t)cpu->gpr[EAX] & address_mask(in), 1);
}

/* One CPU: only an interrupt can end the wait, unless it would be masked and
 * is asked to end it all the same (ECX bit 0); then do not wait at all. */
static void op_mwait(struct cpu *cpu, const struct insn *in)
{
	if (cpu->cpl)
		cpu_raise_ne(cpu, EXC_UD);
	if ((uint32_t)cpu->gpr[ECX] & ~1u)
		cpu_raise(cpu, EXC_GP, 0);
	if (cpu->eflags & FLAG_IF)
		op_hlt(cpu, in);
}

interp_fn *interp_system_handler(unsigned id)
{
	static interp_fn *const table[] = {
		[INSN_ID_IN] = op_in, [INSN_ID_OUT] = op_out,
		[INSN_ID_CLI] = op_cli, [INSN_ID_STI] = op_sti, [INSN_ID_HLT] = op_hlt,
		[INSN_ID_LGDT] = op_lgdt, [INSN_ID_LIDT] = op_lidt,
		[INSN_ID_SGDT] = op_sgdt, [INSN_ID_SIDT] = op_sidt,
		[INSN_ID_LLDT] = op_lldt, [INSN_ID_LTR] = op_ltr,
		[INSN_ID_SLDT] = op_sldt, [INSN_ID_STR] = op_str,
		[INSN_ID_LAR] = op_lar, [INSN_ID_LSL] = op_lsl, [INSN_ID_VERR] = op_verr,
		[INSN_ID_VERW] = op_verw, [INSN_ID_ARPL] = op_arpl,
		[INSN_ID_SMSW] = op_smsw, [INSN_ID_LMSW] = op_lmsw, [INSN_ID_CLTS] = op_clts,
		[INSN_ID_MOV_CR] = op_mov_cr, [INSN_ID_MOV_DR] = op_mov_dr,
		[INSN_ID_INVLPG] = op_invlpg, [INSN_ID_INVD] = op_cache,
		[INSN_ID_WBINVD] = op_cache, [INSN_ID_CLFLUSH] = op_clflush,
		[INSN_ID_CPUID] = op_cpuid, [INSN_ID_RDMSR] = op_rdmsr, [INSN_ID_WRMSR] = op_wrmsr,
		[INSN_ID_RDTSC] = op_rdtsc, [INSN_ID_RDPMC] = op_rdpmc,
		[INSN_ID_RDRAND] = op_rdrand, [INSN_ID_RDSEED] = op_rdseed,
		[INSN_ID_MONITOR] = op_monitor, [INSN_ID_MWAIT] = op_mwait,
	};

	return id < ARRAY_SIZE(table) ? table[id] : NULL;
}
