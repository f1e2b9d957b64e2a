/* The decoder against Capstone: validity, length, mnemonic, operands, addressing,
 * and what happens to memory.
 *
 * Every opcode of the four maps with every ModRM byte, in 16- and 32-bit code, with
 * each prefix that can change its meaning; then random instructions with several
 * prefixes. A disagreement fails the test unless one of the exceptions below covers
 * it; each says why Capstone (4.0) and the decoder may differ. Where Capstone takes
 * bytes for an instruction that hardware refuses, or the reverse, hardware decided:
 * the bytes were run in 32-bit user mode on an x86-64 processor.
 */
#include <capstone/capstone.h>
#include <check.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/insn.h"
#include "core/util.h"

struct fixture {
	csh handle[2]; /* [code32] */
	cs_insn *theirs;
	bool prefixed_rows[4][256]; /* opcode has rows that ask for 66, F2, F3 or none */
	unsigned long cases, valid, excepted, operands, accesses;
};

/* One case: the same bytes, twice decoded. */
struct pair {
	const uint8_t *bytes;
	bool code32;
	enum decode_result result;
	struct insn in;
	const cs_insn *cs; /* NULL: Capstone takes it for no instruction */
	const char *mnemonic; /* of Capstone, without lock, rep, bnd */
};

static void fixture_init(struct fixture *f)
{
	size_t count;
	const struct insn_entry *rows = insn_table(&count);

	memset(f, 0, sizeof(*f));
	ck_assert_int_eq(cs_open(CS_ARCH_X86, CS_MODE_16, &f->handle[0]), CS_ERR_OK);
	ck_assert_int_eq(cs_open(CS_ARCH_X86, CS_MODE_32, &f->handle[1]), CS_ERR_OK);
	for (int i = 0; i < 2; i++)
		cs_option(f->handle[i], CS_OPT_DETAIL, CS_OPT_ON);
	f->theirs = cs_malloc(f->handle[0]);
	for (size_t i = 0; i < count; i++)
		if (rows[i].need != NEED_ANY)
			f->prefixed_rows[rows[i].map][rows[i].opcode] = true;
}

static void fixture_finish(struct fixture *f)
{
	cs_free(f->theirs, 1);
	for (int i = 0; i < 2; i++)
		cs_close(&f->handle[i]);
}

static void report(const char *what, const struct fixture *f)
{
	printf("decode against Capstone, %s: %lu cases, %lu valid, %lu under exceptions, "
	       "%lu operand lists and %lu memory accesses compared\n",
	       what, f->cases, f->valid, f->excepted, f->operands, f->accesses);
}

static void disagree(const struct pair *p, const char *what)
{
	char hex[3 * INSN_MAX_LENGTH + 1] = "";

	for (unsigned i = 0; i < INSN_MAX_LENGTH; i++)
		snprintf(hex + 3 * i, 4, "%02x ", p->bytes[i]);
	ck_abort_msg("%s: %d-bit code %s: ours %s, %u bytes; Capstone %s %s, %u bytes", what,
		     p->code32 ? 32 : 16, hex,
		     p->result == DECODE_OK ? insn_name(p->in.entry->id) : "invalid",
		     p->in.length, p->cs ? p->cs->mnemonic : "invalid",
		     p->cs ? p->cs->op_str : "", p->cs ? p->cs->size : 0);
}

/* ---- exceptions: validity and length ---- */

/* The map, and the opcode in it, that the bytes lead to. */
static unsigned map_of(const struct pair *p, uint8_t *opcode)
{
	const uint8_t *b = p->bytes;

	while (strchr("\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3", *b) && *b)
		b++;
	if (*b != 0x0f) {
		*opcode = *b;
		return MAP_1;
	}
	b++;
	*opcode = *b == 0x38 || *b == 0x3a ? b[1] : *b;
	return *b == 0x38 ? MAP_0F38 : *b == 0x3a ? MAP_0F3A : MAP_0F;
}

/* In 16-bit code Capstone does not look at 66, F2, F3 when it chooses among SSE
 * instructions, and in 32-bit code it ignores them where no instruction is defined
 * with them (F3 0F 28: hardware raises #UD). test_decode.c compares 16-bit code with
 * 32-bit code, which is checked here. */
static bool mandatory_prefix_ignored(const struct fixture *f, const struct pair *p)
{
	uint8_t opcode;
	unsigned map = map_of(p, &opcode);

	if (!(p->in.prefixes & (PREFIX_66 | PREFIX_F2 | PREFIX_F3)) ||
	    !f->prefixed_rows[map][opcode] || map == MAP_1)
		return false;
	return !p->code32 || p->result != DECODE_OK;
}

static bool listed(const char *name, const char *const *list)
{
	for (; *list; list++) {
		size_t n = strlen(*list);

		/* "xsave*" stands for all that begin so */
		if ((*list)[n - 1] == '*' ? !strncmp(name, *list, n - 1) : !strcmp(name, *list))
			return true;
	}
	return false;
}

/* Instructions of processors newer than ours, or of other makers. */
static bool not_of_our_processor(const struct pair *p)
{
	static const char *const names[] = {
		"syscall", "sysret", "rdtscp", "swapgs", "getsec", /* 64-bit, SMX */
		"xsave*", "xrstor*", "xgetbv", "xsetbv",
		"vm*", "invept", "invvpid", "invpcid",             /* VMX, SVM */
		"skinit", "invlpga", "stgi", "clgi",
		"enclu", "encls", "enclv",                         /* SGX */
		"xabort", "xbegin", "xend", "xtest",               /* TSX */
		"clac", "stac", "adcx", "adox", "clwb", "clflushopt", "pcommit",
		"rdpkru", "wrpkru", "monitorx", "mwaitx", "clzero",
		"rdfsbase", "rdgsbase", "wrfsbase", "wrgsbase",
		"femms", "montmul", "xsha*", "xcrypt*", "xstore*", /* 3DNow!, VIA PadLock */
		NULL,
	};

	if (listed(p->mnemonic, names))
		return true;
	for (unsigned i = 0; i < p->cs->detail->groups_count; i++) {
		switch (p->cs->detail->groups[i]) {
		case X86_GRP_AVX: case X86_GRP_AVX2: case X86_GRP_AVX512:
		case X86_GRP_3DNOW: case X86_GRP_BMI: case X86_GRP_BMI2:
		case X86_GRP_FMA: case X86_GRP_FMA4: case X86_GRP_XOP: case X86_GRP_TBM:
			return true;
		default:
			break;
		}
	}
	return p->mnemonic[0] == 'v' && strcmp(p->mnemonic, "verr") &&
	       strcmp(p->mnemonic, "verw");
}

/* Capstone has an instruction, the decoder has not. */
static bool rightly_refused(const struct fixture *f, const struct pair *p)
{
	uint8_t opcode;
	unsigned map = map_of(p, &opcode);

	if (mandatory_prefix_ignored(f, p) || not_of_our_processor(p))
		return true;
	/* MOV CS, x; MOV of a control register that does not exist: #UD */
	if ((map == MAP_1 && opcode == 0x8e) || (map == MAP_0F && (opcode & ~2) == 0x20))
		return true;
	/* LOCK where the destination is a register, or there is none (Capstone knows the
	 * mnemonic only) */
	if ((p->in.prefixes & PREFIX_LOCK) && map == MAP_0F && opcode >= 0x18 && opcode <= 0x1f)
		return true;
	return (p->in.prefixes & PREFIX_LOCK) && map == MAP_1 && (opcode & 0xc6) == 0x02;
}

/* The decoder has an instruction, Capstone has not. */
static bool rightly_taken(const struct fixture *f, const struct pair *p)
{
	if (mandatory_prefix_ignored(f, p))
		return true;
	switch (p->in.entry->id) {
	case INSN_ID_NOP:    /* 0F 0D, 0F 18-1F: Capstone lacks register forms */
	case INSN_ID_LFENCE: /* and of fences with ModRM.rm other than 0 */
	case INSN_ID_MFENCE:
	case INSN_ID_SFENCE:
	case INSN_ID_UD0:    /* refused by Capstone when a prefix is there */
		return true;
	default:
		return false;
	}
}

static bool length_may_differ(const struct fixture *f, const struct pair *p)
{
	switch (p->in.entry->id) {
	case INSN_ID_UD0: /* Intel: with ModRM; Capstone: without */
	case INSN_ID_UD1:
		return true;
	case INSN_ID_EXTRQ: /* Capstone: VMREAD, in 16-bit code */
	case INSN_ID_INSERTQ:
		return !p->code32;
	default:
		return mandatory_prefix_ignored(f, p);
	}
}

/* ---- mnemonics ---- */

static const char *const conditions[16] = {
	"o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g",
};

struct alias {
	enum insn_id id;
	const char *names[5];
};

static const struct alias aliases[] = {
	{ INSN_ID_PUSH_SREG, { "push" } },
	{ INSN_ID_POP_SREG, { "pop" } },
	{ INSN_ID_MOV_SREG, { "mov" } },
	{ INSN_ID_MOV_CR, { "mov" } },
	{ INSN_ID_MOV_DR, { "mov" } },
	{ INSN_ID_IMUL2, { "imul" } },
	{ INSN_ID_IMUL3, { "imul" } },
	{ INSN_ID_CALLF, { "lcall" } },
	{ INSN_ID_JMPF, { "ljmp" } },
	{ INSN_ID_XLAT, { "xlatb" } },
	{ INSN_ID_FWAIT, { "wait" } },
	{ INSN_ID_CBW_CWDE, { "cbw", "cwde" } },
	{ INSN_ID_CWD_CDQ, { "cwd", "cdq" } },
	{ INSN_ID_SHL, { "shl", "sal" } },
	{ INSN_ID_PUSHF, { "pushf", "pushfd" } },
	{ INSN_ID_POPF, { "popf", "popfd" } },
	{ INSN_ID_PUSHA, { "pushaw", "pushal" } },
	{ INSN_ID_POPA, { "popaw", "popal" } },
	{ INSN_ID_IRET, { "iret", "iretd" } },
	{ INSN_ID_JECXZ, { "jecxz", "jcxz" } },
	{ INSN_ID_PREFETCH, { "prefetchnta", "prefetcht0", "prefetcht1", "prefetcht2" } },
	{ INSN_ID_NOP, { "nop", "prefetch", "prefetchw", "endbr32", "endbr64" } },
	{ INSN_ID_FSTP, { "fstp", "fstpnce" } },
	{ INSN_ID_FNSETPM, { "fsetpm" } },
	{ INSN_ID_FNENI, { "feni8087_nop" } },
	{ INSN_ID_FNDISI, { "fdisi8087_nop" } },
	{ INSN_ID_BSF, { "bsf", "tzcnt" } },
	{ INSN_ID_BSR, { "bsr", "lzcnt" } },
	{ INSN_ID_UD1, { "ud2b" } },
	{ INSN_ID_PAUSE, { "pause", "nop" } }, /* in 16-bit code: mandatory_prefix_ignored */
};

static bool is_string(enum insn_id id)
{
	switch (id) {
	case INSN_ID_MOVS: case INSN_ID_CMPS: case INSN_ID_STOS: case INSN_ID_LODS:
	case INSN_ID_SCAS: case INSN_ID_INS: case INSN_ID_OUTS:
		return true;
	default:
		return false;
	}
}

static bool is_simd_compare(enum insn_id id)
{
	return id == INSN_ID_CMPPS || id == INSN_ID_CMPPD || id == INSN_ID_CMPSS ||
	       id == INSN_ID_CMPSD;
}

static bool names_agree(const struct pair *p)
{
	const struct insn_entry *e = p->in.entry;
	char name[32];
	size_t n = 0;

	for (const char *s = insn_name(e->id); *s; s++)
		name[n++] = (char)tolower((unsigned char)*s);
	name[n] = 0;
	if (!strcmp(p->mnemonic, name))
		return true;
	if (e->id == INSN_ID_JCC || e->id == INSN_ID_SETCC || e->id == INSN_ID_CMOVCC)
		return !strncmp(p->mnemonic, name, n - 2) &&
		       !strcmp(p->mnemonic + n - 2, conditions[e->cond]);
	if (is_string(e->id)) {
		unsigned y = e->op[0].addr == OP_X || e->op[0].addr == OP_Y ? 0 : 1;
		static const char letters[] = " bw d";

		name[n++] = letters[insn_operand_bytes(&p->in, y)];
		name[n] = 0;
		return !strcmp(p->mnemonic, name);
	}
	if (is_simd_compare(e->id)) /* cmpps with 0: cmpeqps */
		return !strncmp(p->mnemonic, "cmp", 3) &&
		       !strcmp(p->mnemonic + strlen(p->mnemonic) - 2, name + n - 2);
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++)
		for (unsigned j = 0; aliases[i].id == e->id && j < 5; j++)
			if (aliases[i].names[j] && !strcmp(p->mnemonic, aliases[i].names[j]))
				return true;
	return false;
}

/* ---- operands ---- */

static const char *gpr_name(unsigned number, unsigned bytes)
{
	static const char *const names[3][8] = {
		{ "al", "cl", "dl", "bl", "ah", "ch", "dh", "bh" },
		{ "ax", "cx", "dx", "bx", "sp", "bp", "si", "di" },
		{ "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi" },
	};

	return names[bytes == 1 ? 0 : bytes == 2 ? 1 : 2][number];
}

static const char *const sreg_names[] = { "es", "cs", "ss", "ds", "fs", "gs" };

/* Operand @n as text: register name, "mem", or the low byte of an immediate. */
static void operand_text(const struct insn *in, unsigned n, char *text, size_t size)
{
	const struct op_desc *op = &in->entry->op[n];
	unsigned bytes = insn_operand_bytes(in, n);
	bool second_imm = n > 0 && in->entry->op[n - 1].addr == OP_I;

	switch (op->addr) {
	case OP_M: case OP_O: case OP_X: case OP_Y:
		snprintf(text, size, "mem");
		return;
	case OP_E: case OP_R:
		snprintf(text, size, "%s", in->has_mem ? "mem" : gpr_name(in->rm, bytes));
		return;
	case OP_G:
		snprintf(text, size, "%s", gpr_name(in->reg, bytes));
		return;
	case OP_Z:
		snprintf(text, size, "%s", gpr_name(in->opcode & 7, bytes));
		return;
	case OP_FIXED_GPR:
		snprintf(text, size, "%s", gpr_name(op->fixed, bytes));
		return;
	case OP_S:
		snprintf(text, size, "%s", sreg_names[in->reg]);
		return;
	case OP_FIXED_SREG:
		snprintf(text, size, "%s", sreg_names[op->fixed]);
		return;
	case OP_C:
		snprintf(text, size, "cr%d", in->reg);
		return;
	case OP_D:
		snprintf(text, size, "dr%d", in->reg);
		return;
	case OP_I:
		snprintf(text, size, "#%02x", (unsigned)(second_imm ? in->imm2 : in->imm) & 0xff);
		return;
	case OP_ONE:
		snprintf(text, size, "#01");
		return;
	case OP_J: case OP_A:
		snprintf(text, size, "target");
		return;
	case OP_V:
		snprintf(text, size, "xmm%d", in->reg);
		return;
	case OP_P:
		snprintf(text, size, "mm%d", in->reg);
		return;
	case OP_W: case OP_U:
		snprintf(text, size, in->has_mem ? "mem" : "xmm%d", in->rm);
		return;
	case OP_Q: case OP_N:
		snprintf(text, size, in->has_mem ? "mem" : "mm%d", in->rm);
		return;
	case OP_ST0:
		snprintf(text, size, "st(0)");
		return;
	case OP_STI:
		snprintf(text, size, "st(%d)", in->rm);
		return;
	default:
		snprintf(text, size, "?");
	}
}

static void their_operand_text(const struct fixture *f, const struct pair *p,
			       const cs_x86_op *op, char *text, size_t size)
{
	bool target = p->in.entry->op[0].addr == OP_J || p->in.entry->op[0].addr == OP_A;

	if (op->type == X86_OP_REG)
		snprintf(text, size, "%s", cs_reg_name(f->handle[p->code32], op->reg));
	else if (op->type == X86_OP_MEM)
		snprintf(text, size, "mem");
	else if (target)
		snprintf(text, size, "target");
	else
		snprintf(text, size, "#%02x", (unsigned)op->imm & 0xff);
}

/* Where Capstone lists operands that the SDM does not, or the reverse. */
static bool operands_listed_alike(const struct pair *p)
{
	const struct insn_entry *e = p->in.entry;

	if (e->attr & INSN_X87) /* ST(0) is often implicit there */
		return false;
	switch (e->id) {
	case INSN_ID_LAR: case INSN_ID_LSL:    /* a 32-bit source, of which 16 bits count */
	case INSN_ID_NOP: case INSN_ID_UD0: case INSN_ID_UD1:
	case INSN_ID_CALLF: case INSN_ID_JMPF: /* two immediates */
	case INSN_ID_SALC:
		return false;
	case INSN_ID_AAM: case INSN_ID_AAD:    /* 10 is left out */
		return p->in.imm != 10;
	case INSN_ID_BSWAP:                    /* 16 bits: undefined */
		return p->in.opsize == 4;
	case INSN_ID_MOV_SREG:                 /* a 32-bit source, of which 16 bits count */
		return e->op[0].addr != OP_S;
	case INSN_ID_XCHG:                     /* 90-97: in the other order */
		return e->op[0].addr != OP_Z;
	default:
		return !is_simd_compare(e->id); /* the predicate went into the mnemonic */
	}
}

static void compare_operands(struct fixture *f, const struct pair *p)
{
	const cs_x86 *x = &p->cs->detail->x86;
	char ours[64], theirs[64];

	if (!operands_listed_alike(p))
		return;
	for (unsigned i = 0; i < 4 || i < x->op_count; i++) {
		bool have = i < 4 && p->in.entry->op[i].addr != OP_NONE;

		if (have != (i < x->op_count)) {
			/* XMM0 of the variable blends and SHA256RNDS2 is implicit in ours */
			if (i == 2 && x->op_count == 3 && x->operands[2].reg == X86_REG_XMM0)
				return;
			disagree(p, "number of operands");
		}
		if (!have)
			break;
		operand_text(&p->in, i, ours, sizeof(ours));
		their_operand_text(f, p, &x->operands[i], theirs, sizeof(theirs));
		if (strcmp(ours, theirs)) {
			printf("operand %u: %s, Capstone %s\n", i, ours, theirs);
			disagree(p, "operand");
		}
	}
	f->operands++;
}

/* ---- memory ---- */

static bool is_gpr(const struct fixture *f, const struct pair *p, x86_reg reg, int8_t number)
{
	const char *name = reg == X86_REG_INVALID ? "" : cs_reg_name(f->handle[p->code32], reg);

	if (number < 0 || !strcmp(name, "eiz"))
		return number < 0 && (!*name || !strcmp(name, "eiz"));
	return !strcmp(name, gpr_name((unsigned)number, p->in.adsize));
}

static uint8_t segment_of(const struct pair *p, x86_reg reg)
{
	switch (reg) {
	case X86_REG_ES: return ES;
	case X86_REG_CS: return CS;
	case X86_REG_SS: return SS;
	case X86_REG_DS: return DS;
	case X86_REG_FS: return FS;
	case X86_REG_GS: return GS;
	default: return p->in.base == EBP || p->in.base == ESP ? SS : DS;
	}
}

/* Capstone 4.0 calls many stores reads, and knows other sizes for a few. */
static bool access_known_wrong(const struct pair *p, enum op_access ours, unsigned bytes,
			       const cs_x86_op *op)
{
	const struct insn_entry *e = p->in.entry;
	enum op_access theirs = (enum op_access)op->access;

	switch (e->id) {
	/* stores that Capstone calls reads */
	case INSN_ID_FST: case INSN_ID_FSTP: case INSN_ID_FIST: case INSN_ID_FISTP:
	case INSN_ID_FISTTP: case INSN_ID_FBSTP: case INSN_ID_FNSTCW:
	case INSN_ID_MOVUPS: case INSN_ID_MOVUPD: case INSN_ID_MOVLPS: case INSN_ID_MOVLPD:
	case INSN_ID_MOVHPS: case INSN_ID_MOVHPD: case INSN_ID_MOVNTPS: case INSN_ID_MOVNTPD:
	case INSN_ID_MOVNTSS: case INSN_ID_MOVNTSD: case INSN_ID_MOVNTI: case INSN_ID_MOVNTQ:
	case INSN_ID_MOVNTDQ: case INSN_ID_MOVD: case INSN_ID_MOVQ: case INSN_ID_MOVDQA:
	case INSN_ID_MOVBE: case INSN_ID_SETCC: case INSN_ID_PEXTRB: case INSN_ID_PEXTRW:
	case INSN_ID_PEXTRD: case INSN_ID_EXTRACTPS:
		return ours == ACC_W && theirs == ACC_R && bytes == op->size;
	/* read and written, Capstone: read */
	case INSN_ID_ARPL: case INSN_ID_ROL: case INSN_ID_ROR: case INSN_ID_RCL:
	case INSN_ID_RCR: case INSN_ID_CMPXCHG: case INSN_ID_CMPXCHG8B:
		return ours == ACC_RW && theirs == ACC_R && bytes == op->size;
	case INSN_ID_TEST: /* F6, F7: Capstone has them write */
		return p->in.opcode >= 0xf6 && ours == ACC_R && theirs == ACC_RW;
	/* no access at all, or none recorded by Capstone */
	case INSN_ID_LEA: case INSN_ID_NOP: case INSN_ID_PREFETCH: case INSN_ID_INVLPG:
	case INSN_ID_CLFLUSH: case INSN_ID_UD0: case INSN_ID_UD1:
		return ours == ACC_NONE;
	case INSN_ID_ROUNDSS: case INSN_ID_ROUNDSD: case INSN_ID_CVTSS2SI:
	case INSN_ID_CVTSD2SI:
		return theirs == ACC_NONE && bytes == op->size;
	/* sizes */
	case INSN_ID_LES: case INSN_ID_LDS: case INSN_ID_LSS: case INSN_ID_LFS:
	case INSN_ID_LGS: /* Capstone: without the selector, in 16-bit code always 2 */
		return ours == theirs && bytes == (p->code32 ? op->size : p->in.opsize) + 2u;
	case INSN_ID_FNSTSW: /* Capstone: 4 */
		return ours == ACC_W && bytes == 2;
	case INSN_ID_STMXCSR:
		return ours == ACC_W && bytes == 4;
	case INSN_ID_CALLF: case INSN_ID_JMPF: /* Capstone does not see 66 */
	case INSN_ID_BOUND:
		return (p->in.prefixes & PREFIX_66) && theirs == ours;
	case INSN_ID_FXSAVE: case INSN_ID_FXRSTOR: case INSN_ID_FNSTENV: case INSN_ID_FLDENV:
	case INSN_ID_FNSAVE: case INSN_ID_FRSTOR:
		return op->size <= 28 || bytes == 94;
	case INSN_ID_LAR: case INSN_ID_LSL: /* 2 bytes of the selector */
		return theirs == ours && bytes == 2;
	case INSN_ID_COMISS: case INSN_ID_COMISD: /* Capstone: 16 */
		return theirs == ours && bytes < 16;
	case INSN_ID_PUNPCKLBW: case INSN_ID_PUNPCKLWD: case INSN_ID_PUNPCKLDQ:
		return theirs == ours && bytes == 4; /* mm, mm/m32 */
	default:
		return false;
	}
}

static void compare_memory(struct fixture *f, const struct pair *p)
{
	const cs_x86 *x = &p->cs->detail->x86;
	const cs_x86_op *op = NULL;
	enum op_access access;
	unsigned bytes;

	if (!p->in.has_mem)
		return;
	for (unsigned i = 0; i < x->op_count; i++)
		if (x->operands[i].type == X86_OP_MEM)
			op = &x->operands[i];
	if (!op) {
		if (p->in.entry->id != INSN_ID_UD0 && p->in.entry->id != INSN_ID_UD1)
			disagree(p, "no memory operand");
		return;
	}
	if (!is_gpr(f, p, op->mem.base, p->in.base) || !is_gpr(f, p, op->mem.index, p->in.index) ||
	    (p->in.index >= 0 && op->mem.scale != 1 << p->in.scale) ||
	    (int32_t)op->mem.disp != p->in.disp ||
	    segment_of(p, op->mem.segment) != p->in.seg)
		disagree(p, "address");
	access = insn_memory_access(&p->in, &bytes);
	if (((unsigned)access != op->access || bytes != op->size) &&
	    !access_known_wrong(p, access, bytes, op)) {
		printf("ours %d of %u, Capstone %d of %u\n", access, bytes, op->access, op->size);
		disagree(p, "memory access");
	}
	f->accesses++;
}

/* ---- one case ---- */

static void compare(struct fixture *f, const uint8_t *bytes, bool code32)
{
	struct pair p = { .bytes = bytes, .code32 = code32 };
	const uint8_t *code = bytes;
	size_t size = INSN_MAX_LENGTH;
	uint64_t address = 0x1000;
	const char *space;

	f->cases++;
	p.result = insn_decode(&p.in, code32, bytes, INSN_MAX_LENGTH);
	if (cs_disasm_iter(f->handle[code32], &code, &size, &address, f->theirs)) {
		p.cs = f->theirs;
		space = strrchr(p.cs->mnemonic, ' ');
		p.mnemonic = space ? space + 1 : p.cs->mnemonic;
	}
	if (p.result == DECODE_TOO_LONG || (p.result == DECODE_OK) != !!p.cs) {
		if (p.result == DECODE_TOO_LONG ? p.cs != NULL :
		    p.cs ? !rightly_refused(f, &p) : !rightly_taken(f, &p))
			disagree(&p, "validity");
		f->excepted++;
		return;
	}
	if (!p.cs)
		return;
	f->valid++;
	if (mandatory_prefix_ignored(f, &p) ||
	    (p.in.length != p.cs->size && length_may_differ(f, &p))) {
		f->excepted++;
		return;
	}
	if (p.in.length != p.cs->size)
		disagree(&p, "length");
	if (!names_agree(&p))
		disagree(&p, "mnemonic");
	compare_operands(f, &p);
	compare_memory(f, &p);
}

static unsigned put_opcode(uint8_t *bytes, unsigned k, unsigned map, uint8_t opcode)
{
	if (map != MAP_1)
		bytes[k++] = 0x0f;
	if (map == MAP_0F38 || map == MAP_0F3A)
		bytes[k++] = map == MAP_0F38 ? 0x38 : 0x3a;
	bytes[k++] = opcode;
	return k;
}

/* Bytes that are a prefix or lead to another map, and so no opcode here. */
static bool is_no_opcode(unsigned map, uint8_t opcode)
{
	if (map == MAP_0F)
		return opcode == 0x38 || opcode == 0x3a;
	return map == MAP_1 && opcode &&
	       strchr("\x0f\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3", opcode);
}

START_TEST(every_opcode_and_modrm)
{
	static const uint8_t prefixes[] = { 0, 0x66, 0xf3, 0xf2, 0x67, 0xf0, 0x64 };
	static const uint8_t tail[] = { 0x8c, 0x91, 0x82, 0x43, 0xf4, 0x25, 0x16, 0x37, 0x48 };
	struct fixture f;

	fixture_init(&f);
	for (unsigned n = 0; n < 2 * ARRAY_SIZE(prefixes) << 18; n++) {
		uint8_t bytes[2 * INSN_MAX_LENGTH] = { prefixes[(n >> 19)] };
		unsigned map = n >> 16 & 3, k = bytes[0] != 0;

		if (is_no_opcode(map, n >> 8 & 0xff))
			continue;
		k = put_opcode(bytes, k, map, n >> 8 & 0xff);
		bytes[k++] = n & 0xff;
		memcpy(bytes + k, tail, sizeof(tail));
		compare(&f, bytes, n >> 18 & 1);
	}
	report("exhaustive", &f);
	fixture_finish(&f);
}
END_TEST

static uint32_t random32(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 16);
}

/* At most one prefix of a kind, of 66, F2, F3 only one and that last: Capstone goes
 * wrong where segment overrides repeat, where 66 comes with F2 or F3, and where a
 * mandatory prefix does not stand next to the opcode. test_decode.c covers those. */
START_TEST(random_instructions)
{
	static const uint8_t segments[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
	static const uint8_t mandatory[] = { 0x66, 0xf2, 0xf3 };
	uint64_t state = 0x853c49e6748fea9b;
	struct fixture f;

	fixture_init(&f);
	for (unsigned n = 0; n < 600000; n++) {
		uint8_t bytes[2 * INSN_MAX_LENGTH], prefix[2];
		unsigned count = 0, k = 0;
		uint32_t r = random32(&state);
		uint8_t opcode;

		for (unsigned i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)random32(&state);
		if (r & 1)
			prefix[count++] = segments[random32(&state) % 6];
		if (r & 2)
			prefix[count++] = 0x67;
		for (unsigned first = r >> 8 & 1; k < count; k++)
			bytes[k] = prefix[(first + k) % count];
		if (r & 4)
			bytes[k++] = mandatory[random32(&state) % 3];
		do
			opcode = (uint8_t)random32(&state);
		while (is_no_opcode(r >> 4 & 3, opcode));
		put_opcode(bytes, k, r >> 4 & 3, opcode);
		compare(&f, bytes, r >> 3 & 1);
	}
	report("random", &f);
	fixture_finish(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("decode_capstone");
	TCase *t = tcase_create("decode_capstone");
	SRunner *r;
	int failed;

	tcase_add_test(t, every_opcode_and_modrm);
	tcase_add_test(t, random_instructions);
	tcase_set_timeout(t, 100);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
