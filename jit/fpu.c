/* What FIP, FDP and FOP mean to the guest.
 *
 * While x87 instructions run on the host, its unit notes where the last one
 * stood and what memory it touched: host addresses. Few ever look, so they are
 * translated back only when the interpreter is about to use the image: FIP by
 * the fault points of the block, FDP by the translation tables, FOP by decoding
 * the guest's instruction again.
 */
#include "jit/jit_priv.h"

#include "core/mmu.h"

/* FXSAVE image: 32-bit format, and where the 64-bit format is wider. */
enum { FX_FOP = 6, FX_FIP = 8, FX_FCS = 12, FX_FDP = 16, FX_FDS = 20 };

static bool guest_eip(struct jit *j, uint64_t host, uint32_t *eip)
{
	struct jit_block *b = jit_block_at(j, host);

	if (!b)
		return false;
	for (unsigned i = b->fault_count; i-- > 0;) {
		if ((uint64_t)b->host + b->faults[i].host <= host) {
			*eip = b->faults[i].eip;
			return true;
		}
	}
	return false;
}

static uint32_t guest_linear(struct jit *j, uint64_t host)
{
	const struct tlb *t = &j->cpu->tlb;
	uint64_t offset = host & (GUEST_PAGE_SIZE - 1), page_host = host - offset;

	for (uint32_t i = t->filled_count; i-- > 0;) {
		uint64_t page = t->filled[i];

		for (int user = 0; user < 2; user++) {
			uint64_t addend = t->read[user][page];

			if (addend && addend + (page << GUEST_PAGE_SHIFT) == page_host)
				return (uint32_t)(page << GUEST_PAGE_SHIFT | offset);
		}
	}
	return (uint32_t)host;
}

static uint16_t guest_opcode(struct jit *j, uint32_t eip, uint16_t fop)
{
	const uint8_t *host;
	uint32_t offset = eip & (GUEST_PAGE_SIZE - 1);
	struct insn in;

	if (mmu_fetch_quiet(j->cpu, eip, &host) == MEMORY_NO_PAGE ||
	    insn_decode(&in, true, host + offset, GUEST_PAGE_SIZE - offset) != DECODE_OK ||
	    (in.opcode & 0xf8) != 0xd8)
		return fop;
	return (uint16_t)((in.opcode & 7) << 8 | in.modrm);
}

void jit_fpu_settle(void *jit)
{
	struct jit *j = jit;
	struct cpu *cpu = j->cpu;
	uint8_t *fx = cpu->fpu.fxsave;
	uint64_t fip = load_le64(fx + FX_FIP), fdp = load_le64(fx + FX_FDP);
	uint64_t ram = (uint64_t)memory_host(cpu->memory);
	uint64_t ram_end = ram + ((uint64_t)memory_page_count(cpu->memory) << GUEST_PAGE_SHIFT);
	uint32_t eip = (uint32_t)fip, linear = (uint32_t)fdp;

	cpu->fpu_foreign = 0;
	if (guest_eip(j, fip, &eip))
		store_le16(fx + FX_FOP, guest_opcode(j, eip, load_le16(fx + FX_FOP)));
	if (fdp >= ram && fdp < ram_end)
		linear = guest_linear(j, fdp);
	store_le32(fx + FX_FIP, eip);
	store_le32(fx + FX_FCS, fip ? cpu->seg[CS].selector : 0);
	store_le32(fx + FX_FDP, linear);
	store_le32(fx + FX_FDS, fdp ? cpu->seg[DS].selector : 0);
}
