/* The C half of a table miss. It runs with the guest's x87 and SSE registers in
 * place, so it must not touch them, nor call anything that might.
 */
#include "jit/jit_priv.h"

#include "core/mmu.h"

#pragma GCC target("general-regs-only")

/* How often one place must access unaligned before it is translated again. */
#define UNALIGNED_LIMIT 8

static void note_unaligned(struct jit *j, uint64_t from)
{
	unsigned slot = (unsigned)(from ^ from >> 16) & 0xffff;

	if (++j->unaligned_seen[slot] < UNALIGNED_LIMIT)
		return;
	j->unaligned_seen[slot] = 0;
	jit_unaligned_at(j, from);
}

uint64_t jit_fill(struct cpu *cpu, uint32_t linear, uint32_t what, uint64_t from)
{
	struct jit *j = cpu->engine_data;
	unsigned size = what & 0xff, user = cpu->cpl == 3;
	bool write = what >> 8 & 1;
	uint64_t *table = write ? cpu->tlb.write[user] : cpu->tlb.read[user];
	uint64_t *entry = &table[(uint64_t)(linear >> GUEST_PAGE_SHIFT) * TLB_STRIDE];

	if ((linear & (GUEST_PAGE_SIZE - 1)) + size > GUEST_PAGE_SIZE)
		return 0;
	if (*entry) {
		if (linear & (size - 1) && size <= 4)
			note_unaligned(j, from);
		return *entry;
	}
	j->stat_fills++;
	return mmu_fill(cpu, linear, write, user) ? *entry : 0;
}
