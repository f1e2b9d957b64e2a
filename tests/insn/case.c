/* Cases: layout, memory, text form. See case.h. */
#include "tests/insn/case.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/util.h"

const struct ldt_segment case_ldt[LDT_COUNT] = {
	[LDT_CODE16] = { CODE_BASE, CODE_PAGES * PAGE - 1, 2, false, false },
	[LDT_CODE32] = { CODE_BASE, CODE_PAGES * PAGE - 1, 2, true, false },
	[LDT_DATA] = { SEG_BASE, 0xffff, 0, true, false },
	[LDT_STACK16] = { SEG_BASE, 0xffff, 0, false, false },
	[LDT_STACK32] = { SEG_BASE, 0xffff, 0, true, false },
	[LDT_EXPAND_DOWN] = { SEG_BASE, 0x1fff, 1, false, false },
	[LDT_READ_ONLY] = { SEG_BASE, 0x3fff, 0, true, true },
};

#define FLAT SEL_DATA, SEL_CODE, SEL_DATA, SEL_DATA, SEL_DATA, SEL_DATA
#define SEGMENTED(code, stack)                                                          \
	LDT_SELECTOR(LDT_DATA), LDT_SELECTOR(code), LDT_SELECTOR(stack), LDT_SELECTOR(LDT_DATA), \
		LDT_SELECTOR(LDT_EXPAND_DOWN), LDT_SELECTOR(LDT_READ_ONLY)
const uint16_t case_selectors[MODE_COUNT][6] = {
	[MODE_FLAT32] = { FLAT },
	[MODE_SEG32] = { SEGMENTED(LDT_CODE32, LDT_STACK32) },
	[MODE_SEG16] = { SEGMENTED(LDT_CODE16, LDT_STACK16) },
};
#undef FLAT
#undef SEGMENTED

static const char *const mode_names[MODE_COUNT] = { "flat32", "seg32", "seg16" };

unsigned case_layout(const struct test_case *c, uint8_t code[MAX_CODE], uint32_t starts[MAX_INSNS + 1])
{
	uint32_t at[MAX_INSNS + 1], pos = 0;

	for (unsigned i = 0; i < c->insn_count; i++) {
		at[i] = pos;
		pos += c->insn[i].length;
	}
	at[c->insn_count] = pos;
	pos = 0;
	for (unsigned i = 0; i < c->insn_count; i++) {
		const struct case_insn *in = &c->insn[i];

		memcpy(code + pos, in->bytes, in->length);
		if (in->jump_at) {
			uint32_t rel = at[MIN(in->target, c->insn_count)] - at[i] - in->length;

			memcpy(code + pos + in->jump_at, &rel, in->jump_size);
		}
		pos += in->length;
	}
	if (starts)
		for (unsigned i = 0; i <= c->insn_count; i++)
			starts[i] = case_entry_eip(c) + at[i];
	code[pos] = 0xcc;
	return pos + 1;
}

void case_code_pages(const struct test_case *c, uint8_t pages[CODE_PAGES * PAGE])
{
	uint8_t code[MAX_CODE];
	unsigned length = case_layout(c, code, NULL);

	memset(pages, 0xcc, CODE_PAGES * PAGE);
	for (unsigned i = 0; i < length && c->code_offset + i < CODE_PAGES * PAGE; i++)
		pages[c->code_offset + i] = code[i];
}

static const uint64_t interesting[] = {
	0, 1, UINT64_MAX, 0x8000000000000000ull, 0x7fffffffffffffffull, 0x8000000080000000ull,
	0x7fffffff7fffffffull, 0x7fff7fff80008000ull, 0x80807f7f00ff01feull,
	0x3ff0000000000000ull, 0x3f8000003f800000ull, 0x7ff0000000000000ull, 0xfff0000000000000ull,
	0x7f800000ff800000ull, 0x7ff8000000000000ull, 0x7ff0000000000001ull, 0x7fc000007f800001ull,
	0x0000000000000fffull, 0x0000000100000001ull, 0x000fffffffffffffull, 0x007fffff00000001ull,
	0x41dfffffffc00000ull, 0xc1e0000000000000ull, 0x43e0000000000000ull, 0x4f0000005f000000ull,
	0xc000000000000000ull, 0xffff000000000000ull, 0x3fff3fff3fff0000ull,
};

void arena_background(uint64_t seed, uint8_t arena[ARENA_SIZE])
{
	struct rng r = { seed };

	for (unsigned i = 0; i < ARENA_SIZE; i += 8) {
		uint64_t v = rng_next(&r), how = rng_next(&r);

		if ((how & 7) == 0)
			v = interesting[(how >> 8) % ARRAY_SIZE(interesting)];
		else if ((how & 7) == 1)
			v &= 0x000000ff000000ffull;
		store_le64(arena + i, v);
	}
}

void arena_poke(const struct test_case *c, uint8_t arena[ARENA_SIZE])
{
	for (unsigned i = 0; i < c->poke_count; i++)
		store_le32(arena + c->poke[i].offset, c->poke[i].value);
}

static const struct {
	uint32_t base, size, offset;
} regions[] = {
	{ LOW_BASE, LOW_PAGES * PAGE, ARENA_LOW },
	{ DATA_BASE, DATA_PAGES * PAGE, ARENA_DATA },
	{ STACK_BASE, STACK_PAGES * PAGE, ARENA_STACK },
};

bool arena_offset(uint32_t linear, uint32_t *offset)
{
	for (unsigned i = 0; i < ARRAY_SIZE(regions); i++) {
		if (linear - regions[i].base >= regions[i].size)
			continue;
		*offset = linear - regions[i].base + regions[i].offset;
		return true;
	}
	return false;
}

uint32_t arena_linear(uint32_t offset)
{
	unsigned i = ARRAY_SIZE(regions) - 1;

	while (i && offset < regions[i].offset)
		i--;
	return regions[i].base + offset - regions[i].offset;
}

/* ---- text ---- */

static const char *const gpr_names[8] = { "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi" };

static void write_hex(FILE *f, const uint8_t *p, unsigned n)
{
	while (n--)
		fprintf(f, "%02x", *p++);
}

void case_describe(FILE *f, const struct test_case *c)
{
	size_t rows;
	const struct insn_entry *table = insn_table(&rows);
	uint32_t starts[MAX_INSNS + 1];
	uint8_t code[MAX_CODE];

	case_layout(c, code, starts);
	fprintf(f, "# %s", mode_names[c->mode]);
	for (unsigned i = 0; i < 8; i++)
		if (c->gpr[i])
			fprintf(f, " %s %x", gpr_names[i], c->gpr[i]);
	fprintf(f, " eflags %x\n", c->eflags);
	for (unsigned i = 0; i < c->insn_count; i++) {
		fprintf(f, "# %08x ", starts[i]);
		write_hex(f, code + (starts[i] - starts[0]), c->insn[i].length);
		fprintf(f, " %s\n", c->insn[i].entry < rows ? insn_name(table[c->insn[i].entry].id) : "?");
	}
}

void case_write(FILE *f, const struct test_case *c, const char *explanation)
{
	fprintf(f, "# Instruction oracle regression.\n");
	if (explanation)
		fprintf(f, "# %s\n", explanation);
	case_describe(f, c);
	for (unsigned i = 0; i < 8; i++)
		fprintf(f, "%s %08x\n", gpr_names[i], c->gpr[i]);
	fprintf(f, "mode %s\n", mode_names[c->mode]);
	fprintf(f, "eflags %08x\noffset %x\nmemory %016" PRIx64 "\n", c->eflags,
		c->code_offset, c->memory_seed);
	for (unsigned i = 0; i < c->insn_count; i++) {
		const struct case_insn *in = &c->insn[i];

		fprintf(f, "insn ");
		write_hex(f, in->bytes, in->length);
		if (in->jump_at)
			fprintf(f, " jump %u %u %u", in->jump_at, in->jump_size, in->target);
		fprintf(f, "\n");
	}
	for (unsigned i = 0; i < c->poke_count; i++)
		fprintf(f, "poke %08x %08x\n", arena_linear(c->poke[i].offset), c->poke[i].value);
	for (unsigned i = 0; i < FX_SIZE; i += 16) {
		fprintf(f, "fx %x ", i);
		write_hex(f, c->fx + i, 16);
		fprintf(f, "\n");
	}
}

static bool read_hex(const char *s, uint8_t *p, unsigned max, unsigned *n)
{
	for (*n = 0; s[0] && s[1]; s += 2) {
		char pair[3] = { s[0], s[1], 0 }, *end;

		if (*n >= max)
			return false;
		p[(*n)++] = (uint8_t)strtoul(pair, &end, 16);
		if (*end)
			return false;
	}
	return !*s;
}

static bool read_insn(struct test_case *c, const char *hex, const char *rest)
{
	struct case_insn *in = &c->insn[c->insn_count];
	unsigned n, at, size, target;
	struct insn d;
	size_t rows;

	if (c->insn_count >= MAX_INSNS || !read_hex(hex, in->bytes, INSN_MAX_LENGTH, &n) || !n)
		return false;
	in->length = (uint8_t)n;
	in->entry = UINT16_MAX;
	if (insn_decode(&d, case_code32(c), in->bytes, n) == DECODE_OK)
		in->entry = (uint16_t)(d.entry - insn_table(&rows));
	if (sscanf(rest, " jump %u %u %u", &at, &size, &target) == 3) {
		if (at + size > n || size > 4 || target > MAX_INSNS)
			return false;
		in->jump_at = (uint8_t)at;
		in->jump_size = (uint8_t)size;
		in->target = (uint8_t)target;
	}
	c->insn_count++;
	return true;
}

static bool read_line(struct test_case *c, const char *text)
{
	char word[16], hex[64];
	unsigned a, b, n;
	uint64_t seed;
	int used = 0;

	if (text[0] == '#' || text[0] == '\n')
		return true;
	for (unsigned i = 0; i < 8; i++) {
		if (sscanf(text, "%15s %x", word, &a) == 2 && !strcmp(word, gpr_names[i])) {
			c->gpr[i] = a;
			return true;
		}
	}
	if (sscanf(text, "mode %15s", word) == 1) {
		for (c->mode = 0; c->mode < MODE_COUNT; c->mode++)
			if (!strcmp(word, mode_names[c->mode]))
				return true;
		return false;
	}
	if (sscanf(text, "eflags %x", &c->eflags) == 1)
		return true;
	if (sscanf(text, "offset %x", &c->code_offset) == 1)
		return c->code_offset < CODE_PAGES * PAGE;
	if (sscanf(text, "memory %" SCNx64, &seed) == 1) {
		c->memory_seed = seed;
		return true;
	}
	if (sscanf(text, "insn %63s%n", hex, &used) == 1)
		return read_insn(c, hex, text + used);
	if (sscanf(text, "poke %x %x", &a, &b) == 2) {
		if (c->poke_count >= MAX_POKES || !arena_offset(a, &a) || a > ARENA_SIZE - 4)
			return false;
		c->poke[c->poke_count++] = (struct case_poke){ a, b };
		return true;
	}
	if (sscanf(text, "fx %x %63s", &a, hex) == 2)
		return a <= FX_SIZE - 16 && a % 16 == 0 && read_hex(hex, c->fx + a, 16, &n) && n == 16;
	return false;
}

bool case_read(FILE *f, struct test_case *c, unsigned *line)
{
	char text[256];

	memset(c, 0, sizeof(*c));
	for (*line = 1; fgets(text, sizeof(text), f); ++*line)
		if (!read_line(c, text))
			return false;
	return c->insn_count > 0;
}
