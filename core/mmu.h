/* From linear addresses to memory: paging, the cached translations, accesses.
 *
 * SDM 3A chapter 4. 32-bit paging with PSE and PSE-36, PAE with NX, WP, PGE.
 * A and D bits are set by the walk that fills a translation; a translation for
 * writes is filled only after D is set.
 *
 * Linear accesses below raise #PF themselves (cpu_raise). They are the slow,
 * complete path; `mmu_host_read/write` are what both engines try first.
 */
#ifndef GANNET_CORE_MMU_H
#define GANNET_CORE_MMU_H

#include "core/cpu.h"
#include "core/util.h"

bool mmu_init(struct cpu *cpu, struct error *err); /* maps the tables */
void mmu_finish(struct cpu *cpu);

/** mmu_flush - drop cached translations; @globals: those of global pages too */
void mmu_flush(struct cpu *cpu, bool globals);
void mmu_flush_page(struct cpu *cpu, uint64_t linear); /* INVLPG */
/** mmu_ram_page_protect - writes to a RAM page must take the slow path from now on */
void mmu_ram_page_protect(struct cpu *cpu, uint32_t ram_page);

/* Whose rights an access has. Descriptor tables, TSS and the like are always
 * read as supervisor. */
static inline unsigned mmu_user(const struct cpu *cpu) { return cpu->cpl == 3; }

/**
 * mmu_translate - walk without side effects: for debuggers and tests
 * Returns false if not mapped. A and D bits stay.
 */
bool mmu_translate(struct cpu *cpu, uint64_t linear, uint64_t *paddr);

/**
 * mmu_walk - translate for an access, setting A and D, or raise #PF
 * @access: PF_W, PF_U, PF_I as in an error code
 */
uint64_t mmu_walk(struct cpu *cpu, uint64_t linear, unsigned access);

/* The complete paths. @user: 0 supervisor rights, 1 user. @size 1..8, may cross
 * a page (both pages are checked before anything is written). */
uint64_t mmu_read_slow(struct cpu *cpu, uint32_t linear, unsigned size, unsigned user);
void mmu_write_slow(struct cpu *cpu, uint32_t linear, uint64_t value, unsigned size, unsigned user);

static inline uint8_t *mmu_host(uint64_t *table, uint32_t linear, unsigned size)
{
	uint64_t addend = table[linear >> 12];

	if (unlikely(!addend || (linear & 0xfff) > 0x1000 - size))
		return NULL;
	return (uint8_t *)(addend + linear);
}

static inline uint64_t mmu_read(struct cpu *cpu, uint32_t linear, unsigned size, unsigned user)
{
	const uint8_t *p = mmu_host(cpu->tlb.read[user], linear, size);
	uint64_t v = 0;

	if (unlikely(!p))
		return mmu_read_slow(cpu, linear, size, user);
	memcpy(&v, p, size);
	return v;
}

static inline void mmu_write(struct cpu *cpu, uint32_t linear, uint64_t v, unsigned size, unsigned user)
{
	uint8_t *p = mmu_host(cpu->tlb.write[user], linear, size);

	if (unlikely(!p))
		mmu_write_slow(cpu, linear, v, size, user);
	else
		memcpy(p, &v, size);
}

/**
 * mmu_fill - put the translation of @linear into the tables, if it can be
 * Returns true if the entry for this kind of access is there now. Raises
 * nothing and calls no device: false means "take the slow path". Touches no
 * x87 or SSE register.
 */
bool mmu_fill(struct cpu *cpu, uint32_t linear, bool write, unsigned user);

/** mmu_probe_write - make sure @size bytes could be written, or raise #PF; writes nothing */
void mmu_probe_write(struct cpu *cpu, uint32_t linear, unsigned size, unsigned user);
/** mmu_read_bytes/write_bytes - any length up to a page; checked before written */
void mmu_read_bytes(struct cpu *cpu, uint32_t linear, void *buf, unsigned len, unsigned user);
void mmu_write_bytes(struct cpu *cpu, uint32_t linear, const void *buf, unsigned len, unsigned user);

/**
 * mmu_fetch - the host bytes of the instruction page that holds @linear
 * Returns the RAM page it is in and sets *host to the page's first byte, or
 * MEMORY_NO_PAGE for code outside RAM and ROM (then *host is NULL and bytes
 * must be read one by one through mmu_fetch_u8). Raises #PF.
 */
uint32_t mmu_fetch(struct cpu *cpu, uint32_t linear, const uint8_t **host);
/** mmu_fetch_quiet - the same, but MEMORY_NO_PAGE instead of #PF: for looking ahead */
uint32_t mmu_fetch_quiet(struct cpu *cpu, uint32_t linear, const uint8_t **host);
uint8_t mmu_fetch_u8(struct cpu *cpu, uint32_t linear);

/* CR3 and CR0/CR4 writes that change paging: validates PDPTEs under PAE. */
bool mmu_load_pdptes(struct cpu *cpu, uint64_t cr3); /* false: reserved bits, caller raises #GP */

#endif
