/* Loading DS, ES, FS and GS without leaving recompiled code.
 *
 * A kernel does it several times at every entry and exit, nearly always with a
 * plain data segment or a null selector. Those are done here; anything else,
 * and whatever would fault, is left to the interpreter with nothing changed
 * (SDM 2B, MOV; 3A 5.5). Runs with the guest's x87 and SSE state in place.
 */
#include "jit/jit_priv.h"

#include "core/mmu.h"

#pragma GCC target("general-regs-only")

static bool usable(const struct segment *s)
{
	return s->limit == UINT32_MAX &&
	       (s->attr & (SEG_P | SEG_S | SEG_CODE | SEG_W | SEG_E)) == (SEG_P | SEG_S | SEG_W);
}

void jit_segments_changed(struct jit *j)
{
	j->area->fs_ok = usable(&j->cpu->seg[FS]);
	j->area->gs_ok = usable(&j->cpu->seg[GS]);
}

/* The descriptor as it stands in memory, if it can be had without a fault. */
static bool descriptor(struct cpu *cpu, uint16_t selector, uint64_t *d)
{
	bool ldt = selector & 4;
	uint32_t base = (uint32_t)(ldt ? cpu->ldtr.base : cpu->gdtr_base);
	uint32_t limit = ldt ? cpu->ldtr.limit : cpu->gdtr_limit;
	const uint8_t *p;

	if ((ldt && !(cpu->ldtr.attr & SEG_P)) || (selector | 7u) > limit)
		return false;
	p = mmu_host(cpu->tlb.read[0], base + (selector & ~7u), 8);
	if (!p)
		return false;
	*d = load_le64(p);
	return true;
}

uint64_t jit_load_segment(struct cpu *cpu, uint32_t selector, uint32_t seg)
{
	struct segment s = { .selector = (uint16_t)selector };
	uint64_t d;

	if (!(selector & 0xfffc)) {
		if (seg != FS && seg != GS)
			return 0; /* code here takes DS and ES to be flat */
	} else {
		if (!descriptor(cpu, s.selector, &d))
			return 0;
		s.attr = (uint16_t)((d >> 40 & 0xff) | (d >> 52 & 0xf) << 12);
		s.base = (d >> 16 & 0xffffff) | (d >> 56) << 24;
		s.limit = (uint32_t)((d & 0xffff) | (d >> 32 & 0xf0000));
		if (s.attr & SEG_G)
			s.limit = s.limit << 12 | 0xfff;
		if ((s.attr & (SEG_P | SEG_S | SEG_CODE | SEG_W | SEG_E | SEG_A)) !=
		    (SEG_P | SEG_S | SEG_W | SEG_A))
			return 0;
		if ((selector & 3) > (unsigned)(s.attr & SEG_DPL) >> SEG_DPL_SHIFT ||
		    cpu->cpl > (unsigned)(s.attr & SEG_DPL) >> SEG_DPL_SHIFT)
			return 0;
		if (seg != FS && seg != GS && (s.base || s.limit != UINT32_MAX))
			return 0;
	}
	cpu->seg[seg] = s;
	jit_segments_changed(cpu->engine_data);
	return 1;
}
