/* The C half of a table miss. It runs with the guest's x87 and SSE registers in
 * place, so it must not touch them, nor call anything that might.
 */
#include "jit/jit_priv.h"

#include "core/mmu.h"

#pragma GCC target("general-regs-only")

uint64_t jit_fill(struct cpu *cpu, uint32_t linear, uint32_t what)
{
	struct jit *j = cpu->engine_data;
	unsigned user = cpu->cpl == 3;
	bool write = what & 1;
	uint64_t *entry = &(write ? cpu->tlb.write : cpu->tlb.read)[user]
						 [linear >> GUEST_PAGE_SHIFT];

	uint32_t voids = j->voids;
	bool ok;

	j->stat_fills++;
	if (*entry)
		return *entry;
	ok = mmu_fill(cpu, linear, write, user);
	if (unlikely(j->voids != voids)) {
		/* the list of translations was full and all of them went, those of the
		 * page that is running too: come out and look it up again */
		j->current->stale = true;
		cpu_kick(cpu);
	}
	return ok ? *entry : 0;
}
