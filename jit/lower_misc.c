/* Instructions with a recipe of their own: fixed registers that live elsewhere
 * here, bit strings, single string steps, the flags register, MOV to and from
 * absolute addresses.
 */
#include "jit/translate_priv.h"

/* ---- shifts by CL, CMPXCHG8B: they want ecx in rcx ---- */

static bool with_ecx(struct translator *t)
{
	const struct insn *in = t->in;
	const struct insn_entry *e = in->entry;
	struct op op = { .map = e->map, .opcode = in->opcode };
	bool byte = !(in->opcode & 1) && e->map == MAP_1;
	unsigned bytes, reg = in->reg;

	if (in->opsize == 2 && !byte)
		op.prefix = 0x66;
	if (e->map == MAP_0F && e->id != INSN_ID_CMPXCHG8B)
		reg = host_gpr(in->reg); /* SHLD, SHRD */
	if (!in->has_mem) {
		if (byte && in->rm >= 4) {
			unsigned parent = host_gpr(in->rm & 3);

			emit_mov(&t->h, RCX, HOST_ECX);
			emit_rorx(&t->h, false, parent, parent, 8);
			emit_rr(&t->h, op, reg, parent);
			emit_rorx(&t->h, false, parent, parent, 24);
			return true;
		}
		emit_mov(&t->h, RCX, HOST_ECX);
		emit_rr(&t->h, op, reg, host_gpr(in->rm));
		return true;
	}
	if (!jit_can_address(t, in))
		return false;
	insn_memory_access(in, &bytes);
	emit_lea64(&t->h, R10, jit_operand(t, bytes, true));
	emit_mov(&t->h, RCX, HOST_ECX);
	emit_rm(&t->h, op, reg, MEM_BD(R10, 0));
	return true;
}

/* ---- BT and family with a register offset into memory ---- */

static bool bit_string(struct translator *t)
{
	const struct insn *in = t->in;
	struct op op = OP0F(in->opcode);
	struct emit *h = &t->h;
	unsigned lin, offset = host_gpr(in->reg);

	if (in->opsize != 4 || !jit_can_address(t, in))
		return false;
	lin = jit_ea(t);
	emit_mov_imm(h, RCX, 5);
	emit_sarx(h, R11, offset, RCX);
	emit_lea(h, R10, MEM_BIS((int8_t)lin, R11, 2, 0));
	jit_check(t, R10, 4, in->entry->id != INSN_ID_BT, false, false);
	jit_pads(t, 48);
	emit_pext_mem(h, R11, offset, jit_area_field(t, &t->j->area->mask_bit5));
	emit_rm(h, op, R11, MEM_BI(RCX, R10));
	return true;
}

/* ---- one step of a string instruction, DF clear ---- */

static bool string_step(struct translator *t)
{
	const struct insn *in = t->in;
	struct emit *h = &t->h;
	unsigned size = in->opcode & 1 ? in->opsize : 1;
	int32_t step = (int32_t)size;
	struct op load = OP1(size == 1 ? 0x8a : 0x8b), store = OP1(size == 1 ? 0x88 : 0x89),
		  cmp = OP1(size == 1 ? 0x3a : 0x3b);

	if (in->prefixes & (PREFIX_F2 | PREFIX_F3) || t->b->mode & MODE_DF ||
	    in->adsize != 4 || in->seg == FS || in->seg == GS)
		return false;
	if (size == 2)
		load.prefix = store.prefix = cmp.prefix = 0x66;
	switch (in->entry->id) {
	case INSN_ID_LODS:
		jit_check(t, RSI, size, false, false, false);
		emit_rm(h, load, RAX, MEM_BI(RCX, RSI));
		break;
	case INSN_ID_STOS:
		jit_check(t, RDI, size, true, false, false);
		emit_rm(h, store, RAX, MEM_BI(RCX, RDI));
		break;
	case INSN_ID_SCAS:
		jit_check(t, RDI, size, false, false, false);
		emit_rm(h, cmp, RAX, MEM_BI(RCX, RDI));
		break;
	case INSN_ID_MOVS:
	case INSN_ID_CMPS:
		jit_check(t, RDI, size, in->entry->id == INSN_ID_MOVS, false, false);
		emit_lea64(h, R10, MEM_BI(RCX, RDI));
		jit_check(t, RSI, size, false, false, true);
		emit_rm(h, load, R11, MEM_BI(RCX, RSI));
		if (in->entry->id == INSN_ID_MOVS)
			emit_rm(h, store, R11, MEM_BD(R10, 0));
		else
			emit_rm(h, cmp, R11, MEM_BD(R10, 0));
		break;
	default:
		return false;
	}
	if (in->entry->id != INSN_ID_STOS && in->entry->id != INSN_ID_SCAS)
		emit_lea(h, RSI, MEM_BD(RSI, step));
	if (in->entry->id != INSN_ID_LODS)
		emit_lea(h, RDI, MEM_BD(RDI, step));
	return true;
}

/* ---- flags ---- */

/* ecx = eflags with the bits of @mask only */
static void load_eflags(struct translator *t, const uint32_t *mask)
{
	emit_load(&t->h, RCX, CPU_FIELD(eflags));
	emit_pext_mem(&t->h, RCX, RCX, jit_area_field(t, mask));
	emit_pdep_mem(&t->h, RCX, RCX, jit_area_field(t, mask));
}

static bool lower_cli(struct translator *t)
{
	if (!(t->b->mode & MODE_IOPL))
		return false;
	load_eflags(t, &t->j->area->mask_no_if);
	emit_store(&t->h, CPU_FIELD(eflags), RCX);
	return true;
}

/* STI lets interrupts in after the next instruction. If one is waiting the
 * interpreter sees to that. If none is, setting IF is all there is to it, as
 * long as the next instruction does not come out before it is done. */
static bool lower_sti(struct translator *t)
{
	unsigned i = (unsigned)(t->in - t->insn);
	const struct insn_entry *next;
	uint64_t slow;
	uint8_t *none;

	if (!(t->b->mode & MODE_IOPL) || i + 1 >= t->count)
		return false;
	next = t->insn[i + 1].entry;
	if (next->attr & (INSN_SYSTEM | INSN_STRING | INSN_IO) || next->id == INSN_ID_HLT ||
	    next->id == INSN_ID_STI || next->id == INSN_ID_CLI || next->id == INSN_ID_POPF ||
	    next->id == INSN_ID_STD || next->id == INSN_ID_MWAIT ||
	    next->id == INSN_ID_MOV_SREG || next->id == INSN_ID_POP_SREG)
		return false;
	/* a branch in the shadow does not poll: a loop of the two would never */
	jit_poll(t, t->eip);
	slow = jit_slow_path(t);
	emit_rm(&t->h, OP0F(0xb6), RCX, CPU_FIELD(intr_line));
	emit8(&t->h, 0xe3);
	none = t->h.p;
	emit8(&t->h, 0);
	emit_jmp(&t->h, slow);
	emit_patch8(&t->h, none);
	load_eflags(t, &t->j->area->mask_no_if);
	emit_lea(&t->h, RCX, MEM_BD(RCX, FLAG_IF));
	emit_store(&t->h, CPU_FIELD(eflags), RCX);
	t->no_poll = 2;
	return true;
}

static bool lower_pushf(struct translator *t)
{
	struct emit *h = &t->h;

	if (t->in->opsize != 4)
		return false;
	emit_lea(h, R10, MEM_BD(HOST_ESP, -4));
	jit_check(t, R10, 4, true, false, false);
	jit_pads(t, 96);
	emit_lea64(h, R10, MEM_BI(RCX, R10));
	load_eflags(t, &t->j->area->mask_rest);
	emit_mov(h, R11, RCX);
	emit8(h, 0x9c); /* pushfq */
	emit8(h, 0x59); /* pop rcx */
	emit_pext_mem(h, RCX, RCX, jit_area_field(t, &t->j->area->mask_arith));
	emit_pdep_mem(h, RCX, RCX, jit_area_field(t, &t->j->area->mask_arith));
	emit_lea(h, RCX, MEM_BI(RCX, R11));
	emit_store(h, MEM_BD(R10, 0), RCX);
	emit_lea(h, HOST_ESP, MEM_BD(HOST_ESP, -4));
	return true;
}

/* POPF that changes nothing but arithmetic flags and IF; flags are dead here. */
static bool lower_popf(struct translator *t)
{
	struct emit *h = &t->h;
	uint32_t keep = FLAGS_ALL & ~(FLAGS_ARITH | FLAG_IF | FLAG_RF | FLAG_VM | FLAG_VIF |
				      FLAG_VIP);
	uint64_t stub;

	if (t->in->opsize != 4 || !(t->b->mode & MODE_IOPL))
		return false;
	jit_check(t, HOST_ESP, 4, false, false, false);
	jit_pads(t, 96);
	emit_load(h, R11, MEM_BI(RCX, HOST_ESP));
	emit_load(h, RCX, CPU_FIELD(eflags));
	emit_rr(h, OP1(0x31), R11, RCX); /* xor ecx, r11d */
	emit_rr(h, OP1(0xf7), 0, RCX);   /* test ecx, keep */
	emit32(h, keep);
	emit_jcc(h, 5, jit_slow_path(t));
	emit_rr(h, OP1(0x81), 4, RCX);   /* and ecx, IF: what of IF changes */
	emit32(h, FLAG_IF);
	emit_rm(h, OP1(0x31), RCX, CPU_FIELD(eflags)); /* xor [eflags], ecx */
	emit_lea(h, HOST_ESP, MEM_BD(HOST_ESP, 4));
	/* arithmetic flags from r11 */
	emit_mov64(h, R10, RAX);
	emit_mov(h, RCX, R11);
	emit_mov(h, RAX, R11);
	emit_rr(h, OP1(0xc1), 5, RAX);   /* shr eax, 11 */
	emit8(h, 11);
	emit_rr(h, OP1(0x83), 4, RAX);   /* and eax, 1 */
	emit8(h, 1);
	emit8(h, 0x88);                  /* mov ah, cl */
	emit8(h, 0xcc);
	emit8(h, 0x04);                  /* add al, 127 */
	emit8(h, 127);
	emit8(h, 0x9e);                  /* sahf */
	emit_mov64(h, RAX, R10);
	/* an interrupt may have been let in */
	stub = emit_addr(&t->c);
	emit_store_imm(&t->c, CPU_FIELD(eip), t->next_eip);
	emit_jmp_mem(&t->c, AREA(thunk_exit));
	jit_pads(t, 48);
	emit_rm(h, OP0F(0xb6), RCX, CPU_FIELD(intr_line));
	emit8(h, 0xe3);
	emit8(h, 5);
	emit_jmp(h, stub);
	return true;
}

/* ---- the rest ---- */

static bool lower_moffs(struct translator *t)
{
	static const uint8_t as[4] = { 0x8a, 0x8b, 0x88, 0x89 };
	const struct insn *in = t->in;
	struct op op = OP1(as[in->opcode & 3]);
	unsigned size = in->opcode & 1 ? in->opsize : 1, lin;

	if (!jit_can_address(t, in))
		return false;
	if (size == 2)
		op.prefix = 0x66;
	lin = jit_ea(t);
	jit_check(t, lin, size, in->opcode & 2, false, false);
	emit_rm(&t->h, op, RAX, MEM_BI(RCX, (int8_t)lin));
	return true;
}

static bool lower_lea(struct translator *t)
{
	const struct insn *in = t->in;
	struct host_mem m = { .base = NO_REG, .index = NO_REG, .scale = in->scale,
			      .disp = in->disp };
	struct op op = OP1(0x8d);

	if (in->adsize != 4)
		return false;
	if (in->opsize == 2)
		op.prefix = 0x66;
	if (in->base < 0 && in->index < 0) {
		if (in->opsize == 2)
			return false;
		emit_mov_imm(&t->h, host_gpr(in->reg), (uint32_t)in->disp);
		return true;
	}
	if (in->base >= 0)
		m.base = (int8_t)host_gpr((unsigned)in->base);
	if (in->index >= 0)
		m.index = (int8_t)host_gpr((unsigned)in->index);
	emit_rm(&t->h, op, host_gpr(in->reg), m);
	return true;
}

/* One CPU: a plain exchange is as atomic as the guest can tell, and ten times
 * cheaper than the bus lock that XCHG implies. */
static bool lower_xchg(struct translator *t)
{
	const struct insn *in = t->in;
	struct host_mem m;

	if (in->opcode == 0x90) /* NOP, PAUSE */
		return true;
	if (in->opcode != 0x87 || !in->has_mem || in->opsize != 4)
		return jit_lower_generic(t);
	if (!jit_can_address(t, in))
		return false;
	m = jit_operand(t, 4, true);
	emit_load(&t->h, R11, m);
	emit_store(&t->h, m, host_gpr(in->reg));
	emit_mov(&t->h, host_gpr(in->reg), R11);
	return true;
}

static bool lower_xlat(struct translator *t)
{
	const struct insn *in = t->in;

	if (in->adsize != 4 || in->seg == FS || in->seg == GS)
		return false;
	emit_rr(&t->h, OP0F(0xb6), R10, RAX);
	emit_lea(&t->h, R10, MEM_BI(RBX, R10));
	jit_check(t, R10, 1, false, false, false);
	emit_rm(&t->h, OP1(0x8a), RAX, MEM_BI(RCX, R10));
	return true;
}

/* The host's counter plus the guest's offset, in 64-bit registers. */
static bool lower_rdtsc(struct translator *t)
{
	struct emit *h = &t->h;

	if (!(t->b->mode & MODE_TSC))
		return false;
	emit8(h, 0x0f);
	emit8(h, 0x31);
	emit_rorx(h, true, RDX, RDX, 32);
	emit_lea64(h, RAX, MEM_BI(RAX, RDX));
	emit_load64(h, RCX, CPU_FIELD(tsc_offset));
	emit_lea64(h, RAX, MEM_BI(RAX, RCX));
	emit_rorx(h, true, RDX, RAX, 32);
	emit_mov(h, RDX, RDX);
	emit_mov(h, RAX, RAX);
	return true;
}

static bool pcmp_index(struct translator *t)
{
	/* the index comes back in ecx: rcx here, which only scratch uses */
	if (!jit_lower_generic(t))
		return false;
	emit_mov(&t->h, HOST_ECX, RCX);
	return true;
}

static bool divide(struct translator *t)
{
	/* #DE comes from the host: remember where */
	const struct insn *in = t->in;

	if (in->has_mem && !jit_can_address(t, in))
		return false;
	jit_fault_point(t);
	return jit_lower_generic(t);
}

static bool mov_from_sreg(struct translator *t)
{
	const struct insn *in = t->in;

	if (in->opcode != 0x8c || in->has_mem || in->opsize != 4)
		return false;
	emit_rm(&t->h, OP0F(0xb7), host_gpr(in->rm),
		MEM_BD(HOST_CPU, (int32_t)(offsetof(struct cpu, seg) +
					   in->reg * sizeof(struct segment) +
					   offsetof(struct segment, selector))));
	return true;
}

/* Selector in r10 into a data segment register; jrcxz to the slow path if that
 * takes more than a light call. */
static void load_sreg(struct translator *t, unsigned seg, uint64_t slow)
{
	emit_mov_imm(&t->h, R11, seg);
	emit_call_mem(&t->h, AREA(thunk_segment));
	jit_jrcxz(t, slow);
}

static bool mov_to_sreg(struct translator *t)
{
	const struct insn *in = t->in;
	uint64_t slow;

	if (!jit_data_sreg(in->reg) || (in->has_mem && !jit_can_address(t, in)))
		return false;
	slow = jit_slow_path(t);
	if (in->has_mem)
		emit_rm(&t->h, OP0F(0xb7), R10, jit_operand(t, 2, false));
	else
		emit_rr(&t->h, OP0F(0xb7), R10, host_gpr(in->rm));
	load_sreg(t, in->reg, slow);
	return true;
}

static bool pop_sreg(struct translator *t)
{
	unsigned seg = t->in->entry->op[0].fixed;
	uint64_t slow;

	if (!jit_data_sreg(seg) || t->in->opsize != 4)
		return false;
	slow = jit_slow_path(t);
	jit_check(t, HOST_ESP, 4, false, false, false);
	emit_rm(&t->h, OP0F(0xb7), R10, MEM_BI(RCX, HOST_ESP));
	load_sreg(t, seg, slow);
	emit_lea(&t->h, HOST_ESP, MEM_BD(HOST_ESP, 4));
	return true;
}

bool jit_lower_misc(struct translator *t, bool *done)
{
	const struct insn *in = t->in;

	switch (in->entry->id) {
	case INSN_ID_SHL: case INSN_ID_SHR: case INSN_ID_SAR: case INSN_ID_ROL:
	case INSN_ID_ROR: case INSN_ID_RCL: case INSN_ID_RCR:
		*done = in->opcode == 0xd2 || in->opcode == 0xd3 ? with_ecx(t)
								  : jit_lower_generic(t);
		return true;
	case INSN_ID_SHLD: case INSN_ID_SHRD:
		*done = in->opcode & 1 ? with_ecx(t) : jit_lower_generic(t);
		return true;
	case INSN_ID_CMPXCHG8B:
		*done = with_ecx(t);
		return true;
	case INSN_ID_BT: case INSN_ID_BTS: case INSN_ID_BTR: case INSN_ID_BTC:
		*done = in->has_mem && in->opcode != 0xba ? bit_string(t) : jit_lower_generic(t);
		return true;
	case INSN_ID_LODS: case INSN_ID_STOS: case INSN_ID_SCAS: case INSN_ID_MOVS:
	case INSN_ID_CMPS:
		*done = string_step(t);
		return true;
	case INSN_ID_CLD:
		*done = !(t->b->mode & MODE_DF);
		t->terminal = !*done;
		return true;
	case INSN_ID_STD:
		t->terminal = true;
		*done = false;
		return true;
	case INSN_ID_CLI:
		*done = lower_cli(t);
		return true;
	case INSN_ID_STI:
		t->terminal = true;
		*done = lower_sti(t);
		t->terminal = !*done;
		return true;
	case INSN_ID_PUSHF:
		*done = lower_pushf(t);
		return true;
	case INSN_ID_POPF:
		t->terminal = true; /* the interpreter may change the mode */
		*done = lower_popf(t);
		t->terminal = !*done;
		return true;
	case INSN_ID_MOV:
		if ((in->opcode & 0xfc) != 0xa0 || in->entry->map != MAP_1)
			return false;
		*done = lower_moffs(t);
		return true;
	case INSN_ID_MOV_SREG:
		if (in->opcode == 0x8c) {
			*done = mov_from_sreg(t);
			return true;
		}
		t->terminal = true; /* the interpreter may change the mode */
		*done = mov_to_sreg(t);
		t->terminal = !*done;
		return true;
	case INSN_ID_POP_SREG:
		t->terminal = true;
		*done = pop_sreg(t);
		t->terminal = !*done;
		return true;
	case INSN_ID_LEA:
		*done = lower_lea(t);
		return true;
	case INSN_ID_NOP: case INSN_ID_PAUSE: case INSN_ID_PREFETCH: case INSN_ID_LFENCE:
	case INSN_ID_MFENCE: case INSN_ID_SFENCE:
		*done = true;
		return true;
	case INSN_ID_XCHG:
		*done = lower_xchg(t);
		return true;
	case INSN_ID_RDTSC:
		*done = lower_rdtsc(t);
		return true;
	case INSN_ID_XLAT:
		*done = lower_xlat(t);
		return true;
	case INSN_ID_PCMPESTRI: case INSN_ID_PCMPISTRI:
		*done = pcmp_index(t);
		return true;
	case INSN_ID_DIV: case INSN_ID_IDIV:
		*done = divide(t);
		return true;
	/* no REX-free or 64-bit form on the host, or rare: the interpreter's */
	case INSN_ID_DAA: case INSN_ID_DAS: case INSN_ID_AAA: case INSN_ID_AAS:
	case INSN_ID_AAM: case INSN_ID_AAD: case INSN_ID_SALC: case INSN_ID_BOUND:
	case INSN_ID_ARPL: case INSN_ID_ENTER: case INSN_ID_PUSHA: case INSN_ID_POPA:
	case INSN_ID_CPUID: case INSN_ID_RDPMC: case INSN_ID_RDRAND:
	case INSN_ID_RDSEED: case INSN_ID_CLFLUSH: case INSN_ID_LAR: case INSN_ID_LSL:
	case INSN_ID_VERR: case INSN_ID_VERW: case INSN_ID_MONITOR: case INSN_ID_MWAIT:
	case INSN_ID_SGDT: case INSN_ID_SIDT: case INSN_ID_SLDT: case INSN_ID_STR:
	case INSN_ID_SMSW: case INSN_ID_UD0: case INSN_ID_UD1: case INSN_ID_UD2:
	case INSN_ID_LDS: case INSN_ID_LES: case INSN_ID_LFS: case INSN_ID_LGS: case INSN_ID_LSS:
	case INSN_ID_WBINVD: case INSN_ID_INVD:
		*done = false;
		return true;
	default:
		return false;
	}
}
