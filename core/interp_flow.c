/* Interpreter: jumps, calls, returns, interrupts, the stack, segment registers.
 *
 * SDM volume 2; SDM 1 chapter 6 (stack, calls). Far transfers and everything
 * that looks at a descriptor are segment.h's.
 */
#include "core/interp_priv.h"

/* ---- near transfers ---- */

/* Where EIP would go, checked against the limit of CS: #GP(0) on the branch. */
static uint32_t near_target(struct cpu *cpu, uint32_t target, unsigned opsize)
{
	if (opsize == 2)
		target &= 0xffff;
	if (unlikely(target > cpu->seg[CS].limit))
		cpu_raise(cpu, EXC_GP, 0);
	return target;
}

static uint32_t relative_target(struct cpu *cpu, const struct insn *in)
{
	return near_target(cpu, (uint32_t)cpu->eip + (uint32_t)in->imm, in->opsize);
}

static uint32_t jump_target(struct cpu *cpu, const struct insn *in)
{
	if (in->entry->op[0].addr == OP_J)
		return relative_target(cpu, in);
	return near_target(cpu, op_read(cpu, in, 0, in->opsize), in->opsize);
}

static void op_jmp(struct cpu *cpu, const struct insn *in)
{
	cpu->eip = jump_target(cpu, in);
}

static void op_jcc(struct cpu *cpu, const struct insn *in)
{
	if (condition(cpu->eflags, in->entry->cond))
		cpu->eip = relative_target(cpu, in);
}

static void op_call(struct cpu *cpu, const struct insn *in)
{
	uint32_t target = jump_target(cpu, in);

	stack_push(cpu, in->opsize, (uint32_t)cpu->eip);
	cpu->eip = target;
}

static void op_ret(struct cpu *cpu, const struct insn *in)
{
	uint32_t target = stack_peek(cpu, in->opsize, 0);

	target = near_target(cpu, target, in->opsize);
	stack_drop(cpu, in->opsize + (in->entry->op[0].addr == OP_I ? (uint16_t)in->imm : 0));
	cpu->eip = target;
}

static void op_jecxz(struct cpu *cpu, const struct insn *in)
{
	if (!((uint32_t)cpu->gpr[ECX] & address_mask(in)))
		cpu->eip = relative_target(cpu, in);
}

static void loop_while(struct cpu *cpu, const struct insn *in, bool wanted)
{
	uint32_t count = ((uint32_t)cpu->gpr[ECX] - 1) & address_mask(in);

	if (count && wanted)
		cpu->eip = relative_target(cpu, in);
	reg_set(cpu, ECX, in->adsize, count);
}

static void op_loop(struct cpu *cpu, const struct insn *in)
{
	loop_while(cpu, in, true);
}

static void op_loope(struct cpu *cpu, const struct insn *in)
{
	loop_while(cpu, in, cpu->eflags & FLAG_ZF);
}

static void op_loopne(struct cpu *cpu, const struct insn *in)
{
	loop_while(cpu, in, !(cpu->eflags & FLAG_ZF));
}

/* ---- far transfers ---- */

static void far_pointer(struct cpu *cpu, const struct insn *in, uint16_t *selector,
			uint32_t *offset)
{
	uint32_t at;

	if (in->entry->op[0].addr == OP_A) {
		*selector = in->imm2;
		*offset = (uint32_t)in->imm & size_mask(in->opsize);
		return;
	}
	at = effective(cpu, in);
	*offset = mem_read(cpu, in->seg, at, in->opsize);
	*selector = (uint16_t)mem_read(cpu, in->seg, at + in->opsize, 2);
}

static void op_jmpf(struct cpu *cpu, const struct insn *in)
{
	uint16_t selector;
	uint32_t offset;

	far_pointer(cpu, in, &selector, &offset);
	far_jump(cpu, selector, offset, in->opsize, (uint32_t)cpu->eip);
	check_pending(cpu); /* a task switch loads EFLAGS */
}

static void op_callf(struct cpu *cpu, const struct insn *in)
{
	uint16_t selector;
	uint32_t offset;

	far_pointer(cpu, in, &selector, &offset);
	far_call(cpu, selector, offset, in->opsize, (uint32_t)cpu->eip);
	check_pending(cpu);
}

static void op_retf(struct cpu *cpu, const struct insn *in)
{
	far_return(cpu, in->opsize, in->entry->op[0].addr == OP_I ? (uint16_t)in->imm : 0);
}

/* ---- interrupts ---- */

/* Virtual-8086 mode without VME: what touches IF or the IVT needs IOPL 3. */
static void v86_check(struct cpu *cpu)
{
	if (cpu_v86(cpu) && cpu_iopl(cpu) < 3)
		cpu_raise(cpu, EXC_GP, 0);
}

static void soft_interrupt(struct cpu *cpu, uint8_t vector, bool check_dpl)
{
	cpu_interrupt(cpu, vector, check_dpl, false, 0, cpu->eip);
	check_pending(cpu); /* a task gate loads EFLAGS, and may trap */
}

static void op_int(struct cpu *cpu, const struct insn *in)
{
	v86_check(cpu);
	soft_interrupt(cpu, (uint8_t)in->imm, true);;
}

static void op_int3(struct cpu *cpu, const struct insn *in)
{
	soft_interrupt(cpu, EXC_BP, true);;
}

static void op_into(struct cpu *cpu, const struct insn *in)
{
	if (cpu->eflags & FLAG_OF)
		soft_interrupt(cpu, EXC_OF, true);
}

/* A trap that no gate's DPL stops, whatever DR6 says (SDM 2A, INT1). */
static void op_int1(struct cpu *cpu, const struct insn *in)
{
	soft_interrupt(cpu, EXC_DB, false);;
}

static void op_iret(struct cpu *cpu, const struct insn *in)
{
	v86_check(cpu);
	interrupt_return(cpu, in->opsize, (uint32_t)cpu->eip);
	check_pending(cpu);
}

static void op_bound(struct cpu *cpu, const struct insn *in)
{
	unsigned size = in->opsize;
	uint32_t at = effective(cpu, in);
	int32_t index = sign_extend((uint32_t)cpu->gpr[in->reg], size);
	int32_t low = sign_extend(mem_read(cpu, in->seg, at, size), size);
	int32_t high = sign_extend(mem_read(cpu, in->seg, at + size, size), size);

	if (index < low || index > high)
		cpu_raise_ne(cpu, EXC_BR);
}

static void op_sysenter(struct cpu *cpu, const struct insn *in)
{
	sysenter(cpu);
}

static void op_sysexit(struct cpu *cpu, const struct insn *in)
{
	sysexit(cpu);
}

static void op_ud(struct cpu *cpu, const struct insn *in)
{
	cpu_raise_ne(cpu, EXC_UD);
}

/* ---- stack ---- */

static void op_push(struct cpu *cpu, const struct insn *in)
{
	stack_push(cpu, in->opsize, op_read(cpu, in, 0, in->opsize));
}

static void op_pop(struct cpu *cpu, const struct insn *in)
{
	uint32_t v = stack_peek(cpu, in->opsize, 0);

	if (op_is_memory(in, 0)) {
		/* an address made with ESP uses ESP after the pop (SDM 2B, POP) */
		uint64_t esp = cpu->gpr[ESP];
		uint32_t at;

		stack_drop(cpu, in->opsize);
		at = effective(cpu, in);
		cpu->gpr[ESP] = esp;
		mem_write(cpu, in->seg, at, in->opsize, v);
		stack_drop(cpu, in->opsize);
		return;
	}
	stack_drop(cpu, in->opsize);
	reg_set(cpu, op_reg(in, 0), in->opsize, v);
}

static void op_pusha(struct cpu *cpu, const struct insn *in)
{
	unsigned size = in->opsize;
	uint32_t sp = (uint32_t)cpu->gpr[ESP], mask = stack_mask(cpu);

	for (unsigned n = 0; n < GPR_COUNT; n++)
		mem_write(cpu, SS, (sp - (n + 1) * size) & mask, size,
			  (uint32_t)cpu->gpr[n]);
	stack_set(cpu, sp - GPR_COUNT * size);
}

static void op_popa(struct cpu *cpu, const struct insn *in)
{
	unsigned size = in->opsize;
	uint32_t v[GPR_COUNT];

	for (unsigned n = GPR_COUNT; n-- > 0;)
		v[n] = stack_peek(cpu, size, (GPR_COUNT - 1 - n) * size);
	for (unsigned n = 0; n < GPR_COUNT; n++) {
		if (n != ESP)
			reg_set(cpu, n, size, v[n]);
	}
	stack_drop(cpu, GPR_COUNT * size);
}

static void op_pushf(struct cpu *cpu, const struct insn *in)
{
	v86_check(cpu);
	stack_push(cpu, in->opsize, cpu->eflags & ~(uint32_t)(FLAG_VM | FLAG_RF));
}

static void op_popf(struct cpu *cpu, const struct insn *in)
{
	uint32_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT, v;

	v86_check(cpu);
	v = stack_peek(cpu, in->opsize, 0);
	if (in->opsize == 4) {
		mask |= FLAG_AC | FLAG_ID | FLAG_RF;
		v &= ~(uint32_t)FLAG_RF;
	}
	if (cpu->cpl <= cpu_iopl(cpu))
		mask |= FLAG_IF;
	if (cpu->cpl == 0)
		mask |= FLAG_IOPL;
	stack_drop(cpu, in->opsize);
	cpu_set_eflags(cpu, v, mask);
	check_pending(cpu);
}

static void op_enter(struct cpu *cpu, const struct insn *in)
{
	unsigned size = in->opsize, level = in->imm2 & 31;
	uint32_t mask = stack_mask(cpu);
	uint32_t sp = ((uint32_t)cpu->gpr[ESP] - size) & mask;
	uint32_t bp = (uint32_t)cpu->gpr[EBP];
	/* with a 16-bit stack the upper half of the frame pointer is ESP's */
	uint32_t frame = ((uint32_t)cpu->gpr[ESP] & ~mask) | sp;

	mem_write(cpu, SS, sp, size, bp);
	for (unsigned i = 1; i < level; i++) {
		bp -= size;
		sp = (sp - size) & mask;
		mem_write(cpu, SS, sp, size, mem_read(cpu, SS, bp & mask, size));
	}
	if (level) {
		sp = (sp - size) & mask;
		mem_write(cpu, SS, sp, size, frame);
	}
	sp = (sp - (uint16_t)in->imm) & mask;
	/* the new top of the stack must be writable (SDM 2A, ENTER) */
	mmu_probe_write(cpu, seg_linear(cpu, SS, sp, size, true), size, mmu_user(cpu));
	reg_set(cpu, EBP, size, frame);
	stack_set(cpu, sp);
}

static void op_leave(struct cpu *cpu, const struct insn *in)
{
	uint32_t bp = (uint32_t)cpu->gpr[EBP] & stack_mask(cpu);
	uint32_t v = mem_read(cpu, SS, bp, in->opsize);

	stack_set(cpu, bp + in->opsize);
	reg_set(cpu, EBP, in->opsize, v);
}

/* ---- segment registers ---- */

static void load_sreg(struct cpu *cpu, unsigned n, uint16_t selector)
{
	if (n == CS || n >= SREG_COUNT)
		cpu_raise_ne(cpu, EXC_UD);
	seg_load(cpu, n, selector);
	if (n == SS)
		cpu->shadow |= SHADOW_MOV_SS;
}

static void op_mov_sreg(struct cpu *cpu, const struct insn *in)
{
	if (in->opcode == 0x8e) {
		load_sreg(cpu, in->reg,
			  in->has_mem ? (uint16_t)mem_read(cpu, in->seg, effective(cpu, in), 2)
				      : (uint16_t)cpu->gpr[in->rm]);
		return;
	}
	if (in->reg >= SREG_COUNT)
		cpu_raise_ne(cpu, EXC_UD);
	if (in->has_mem)
		mem_write(cpu, in->seg, effective(cpu, in), 2, cpu->seg[in->reg].selector);
	else
		reg_set(cpu, in->rm, in->opsize, cpu->seg[in->reg].selector);
}

static void op_push_sreg(struct cpu *cpu, const struct insn *in)
{
	stack_push(cpu, in->opsize, cpu->seg[in->entry->op[0].fixed % SREG_COUNT].selector);
}

static void op_pop_sreg(struct cpu *cpu, const struct insn *in)
{
	uint16_t selector = (uint16_t)stack_peek(cpu, in->opsize, 0);
	uint32_t mask = stack_mask(cpu); /* of the stack that is popped from */
	uint32_t esp = (uint32_t)cpu->gpr[ESP];

	load_sreg(cpu, in->entry->op[0].fixed, selector);
	cpu->gpr[ESP] = (esp & ~mask) | ((esp + in->opsize) & mask);
}

static void load_pointer(struct cpu *cpu, const struct insn *in, unsigned sreg)
{
	uint32_t at = effective(cpu, in);
	uint32_t offset = mem_read(cpu, in->seg, at, in->opsize);
	uint16_t selector = (uint16_t)mem_read(cpu, in->seg, at + in->opsize, 2);

	seg_load(cpu, sreg, selector);
	reg_set(cpu, in->reg, in->opsize, offset);
}

static void op_lds(struct cpu *cpu, const struct insn *in)
{
	load_pointer(cpu, in, DS);
}

static void op_les(struct cpu *cpu, const struct insn *in)
{
	load_pointer(cpu, in, ES);
}

static void op_lfs(struct cpu *cpu, const struct insn *in)
{
	load_pointer(cpu, in, FS);
}

static void op_lgs(struct cpu *cpu, const struct insn *in)
{
	load_pointer(cpu, in, GS);
}

static void op_lss(struct cpu *cpu, const struct insn *in)
{
	load_pointer(cpu, in, SS);
}

interp_fn *interp_flow_handler(unsigned id)
{
	static interp_fn *const table[] = {
		[INSN_ID_JMP] = op_jmp, [INSN_ID_JCC] = op_jcc, [INSN_ID_CALL] = op_call,
		[INSN_ID_RET] = op_ret, [INSN_ID_JECXZ] = op_jecxz, [INSN_ID_LOOP] = op_loop,
		[INSN_ID_LOOPE] = op_loope, [INSN_ID_LOOPNE] = op_loopne,
		[INSN_ID_JMPF] = op_jmpf, [INSN_ID_CALLF] = op_callf, [INSN_ID_RETF] = op_retf,
		[INSN_ID_INT] = op_int, [INSN_ID_INT1] = op_int1, [INSN_ID_INT3] = op_int3,
		[INSN_ID_INTO] = op_into, [INSN_ID_IRET] = op_iret, [INSN_ID_BOUND] = op_bound,
		[INSN_ID_SYSENTER] = op_sysenter, [INSN_ID_SYSEXIT] = op_sysexit,
		[INSN_ID_UD0] = op_ud, [INSN_ID_UD1] = op_ud, [INSN_ID_UD2] = op_ud,
		[INSN_ID_RSM] = op_ud, /* only inside system management mode */
		[INSN_ID_PUSH] = op_push, [INSN_ID_POP] = op_pop,
		[INSN_ID_PUSHA] = op_pusha, [INSN_ID_POPA] = op_popa,
		[INSN_ID_PUSHF] = op_pushf, [INSN_ID_POPF] = op_popf,
		[INSN_ID_ENTER] = op_enter, [INSN_ID_LEAVE] = op_leave,
		[INSN_ID_MOV_SREG] = op_mov_sreg, [INSN_ID_PUSH_SREG] = op_push_sreg,
		[INSN_ID_POP_SREG] = op_pop_sreg, [INSN_ID_LDS] = op_lds, [INSN_ID_LES] = op_les,
		[INSN_ID_LFS] = op_lfs, [INSN_ID_LGS] = op_lgs, [INSN_ID_LSS] = op_lss,
	};

	return id < ARRAY_SIZE(table) ? table[id] : NULL;
}
