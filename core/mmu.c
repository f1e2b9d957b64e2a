/* Paging: walks, cached translations, the slow paths. See mmu.h.
 *
 * SDM 3A chapter 4 (4.3 32-bit paging, 4.4 PAE, 4.6 access rights, 4.8 A and D
 * bits, 4.10 caching). Three levels of effort:
 *
 *   table entry   one load in recompiled code; filled for plain RAM only
 *   mmu_fill()    a walk that succeeds: no exception, no device, no C library;
 *                 it must not touch x87 or SSE registers, for recompiled code
 *                 calls it with the guest's values still in them
 *   *_slow()      everything else: faults, devices, code pages, page crossings
 */
#include "core/mmu.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/memory.h"

#pragma GCC target("general-regs-only")

enum {
	PTE_P = 1 << 0,
	PTE_RW = 1 << 1,
	PTE_US = 1 << 2,
	PTE_A = 1 << 5,
	PTE_D = 1 << 6,
	PTE_PS = 1 << 7, /* in a directory entry: maps a large page */
	PTE_G = 1 << 8,
};
#define PTE_NX (1ull << 63)
#define PAE_ADDR 0x000ffffffffff000ull
/* Reserved above the 36 physical address bits that CPUID announces. */
#define PAE_RSVD_HIGH 0x7ffffff000000000ull

/* page_state bits: which tables hold an entry for a linear page. */
enum {
	HAS_LISTED = 1,
	HAS_READ = 2,   /* << user */
	HAS_WRITE = 8,  /* << user */
	HAS_EXEC = 32,  /* << user */
	HAS_GLOBAL = 128, /* survives a CR3 load */
};
#define FILLED_MAX (1u << 16)

#define DATA_TABLE_BYTES ((size_t)TLB_PAGES * sizeof(uint64_t))
#define EXEC_TABLE_BYTES ((size_t)TLB_PAGES * sizeof(uint32_t))

/* The result of a walk that found a mapping. */
struct mapping {
	uint64_t paddr; /* of the page that holds the address, 4 KiB aligned */
	bool write, user, exec, global, dirty;
};

static void *map_sparse(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void unmap_sparse(void *p, size_t bytes)
{
	if (p)
		munmap(p, bytes);
}

bool mmu_init(struct cpu *cpu, struct error *err)
{
	struct tlb *t = &cpu->tlb;

	for (int user = 0; user < 2; user++) {
		t->read[user] = map_sparse(2 * DATA_TABLE_BYTES);
		t->write[user] = t->read[user] + TLB_PAGES;
		t->exec[user] = map_sparse(EXEC_TABLE_BYTES);
		if (!t->read[user] || !t->exec[user])
			goto fail;
	}
	t->filled_max = FILLED_MAX;
	t->filled = calloc(FILLED_MAX, sizeof(*t->filled));
	t->page_state = map_sparse(TLB_PAGES);
	if (!t->filled || !t->page_state)
		goto fail;
	return true;
fail:
	error_set(err, "no address space for the translation tables (42 MiB): %s",
		  strerror(errno));
	mmu_finish(cpu);
	return false;
}

void mmu_finish(struct cpu *cpu)
{
	struct tlb *t = &cpu->tlb;

	for (int user = 0; user < 2; user++) {
		unmap_sparse(t->read[user], 2 * DATA_TABLE_BYTES);
		unmap_sparse(t->exec[user], EXEC_TABLE_BYTES);
	}
	unmap_sparse(t->page_state, TLB_PAGES);
	free(t->filled);
	memset(t, 0, sizeof(*t));
}

/* ---- cached translations ---- */

/* Returns the HAS_* bits of what was there. */
static uint8_t drop_page(struct tlb *t, uint32_t page)
{
	uint8_t has = t->page_state[page];
	size_t at = page;

	for (int user = 0; user < 2; user++) {
		if (has & HAS_READ << user)
			t->read[user][at] = 0;
		if (has & HAS_WRITE << user)
			t->write[user][at] = 0;
		if (has & HAS_EXEC << user)
			t->exec[user][page] = 0;
	}
	t->page_state[page] = has & (HAS_LISTED | HAS_GLOBAL);
	return has;
}

/* Tell the engine if translations of code went. */
static void code_dropped(struct cpu *cpu, uint8_t has)
{
	unsigned rights = (has & HAS_EXEC ? 1 : 0) | (has & HAS_EXEC << 1 ? 2 : 0);

	if (rights && cpu->code_unmapped)
		cpu->code_unmapped(cpu->engine_data, rights);
}

void mmu_flush(struct cpu *cpu, bool globals)
{
	struct tlb *t = &cpu->tlb;
	uint32_t kept = 0;
	uint8_t dropped = 0;

	for (uint32_t i = 0; i < t->filled_count; i++) {
		uint32_t page = t->filled[i];

		if (!globals && t->page_state[page] & HAS_GLOBAL) {
			t->filled[kept++] = page;
			continue;
		}
		dropped |= drop_page(t, page);
		t->page_state[page] = 0;
	}
	t->filled_count = kept;
	code_dropped(cpu, dropped);
}

void mmu_flush_page(struct cpu *cpu, uint64_t linear)
{
	code_dropped(cpu, drop_page(&cpu->tlb, (uint32_t)linear >> GUEST_PAGE_SHIFT));
}

void mmu_ram_page_protect(struct cpu *cpu, uint32_t ram_page)
{
	struct tlb *t = &cpu->tlb;
	uint64_t host = (uint64_t)memory_host(cpu->memory) +
			((uint64_t)ram_page << GUEST_PAGE_SHIFT);

	for (uint32_t i = 0; i < t->filled_count; i++) {
		uint32_t page = t->filled[i];
		uint64_t addend = host - ((uint64_t)page << GUEST_PAGE_SHIFT);

		for (int user = 0; user < 2; user++) {
			uint64_t *e = &t->write[user][page];

			if (t->page_state[page] & HAS_WRITE << user && *e == addend)
				*e = 0;
		}
	}
}

/* Note that a page holds entries, and whether they survive a CR3 load: what a
 * walk last said of it counts. */
static void list_page(struct cpu *cpu, uint32_t page, bool global)
{
	struct tlb *t = &cpu->tlb;

	if (!(t->page_state[page] & HAS_LISTED)) {
		if (t->filled_count == t->filled_max)
			mmu_flush(cpu, true);
		t->filled[t->filled_count++] = page;
	}
	t->page_state[page] = (t->page_state[page] & ~HAS_GLOBAL) | HAS_LISTED |
			      (global ? HAS_GLOBAL : 0);
}

static void fill_data(struct cpu *cpu, uint32_t linear, const struct mapping *m,
		      const struct memory_view *v)
{
	struct tlb *t = &cpu->tlb;
	uint32_t page = linear >> GUEST_PAGE_SHIFT;
	size_t at = page;
	uint64_t addend = (uint64_t)v->host - ((uint64_t)page << GUEST_PAGE_SHIFT);
	uint8_t flags = memory_page_flags(cpu->memory)[v->ram_page];
	bool write = v->kind == MEMORY_RAM && m->dirty && !(flags & PAGE_CODE) &&
		     (!(flags & PAGE_WATCH_DIRTY) || flags & PAGE_DIRTY);
	bool wp = cpu->cr0 & CR0_WP;

	list_page(cpu, page, m->global);
	t->read[0][at] = addend;
	t->page_state[page] |= HAS_READ | HAS_WRITE;
	t->write[0][at] = write && (m->write || !wp) ? addend : 0;
	if (m->user) {
		t->read[1][at] = addend;
		t->write[1][at] = write && m->write ? addend : 0;
		t->page_state[page] |= HAS_READ << 1 | HAS_WRITE << 1;
	}
}

/* ---- the walk ---- */

static uint8_t *table_host(struct cpu *cpu, uint64_t paddr, struct memory_view *v)
{
	memory_view(cpu->memory, paddr, v);
	return v->host ? v->host + (paddr & (GUEST_PAGE_SIZE - 1)) : NULL;
}

static uint64_t table_read(struct cpu *cpu, uint64_t paddr, unsigned size)
{
	struct memory_view v;
	const uint8_t *p = table_host(cpu, paddr, &v);

	if (!p)
		return memory_read(cpu->memory, paddr, size);
	return size == 8 ? load_le64(p) : load_le32(p);
}

static void table_set_bits(struct cpu *cpu, uint64_t paddr, uint32_t bits)
{
	struct memory_view v;
	uint8_t *p = table_host(cpu, paddr, &v);

	if (p && v.kind == MEMORY_RAM) {
		if (unlikely(memory_page_flags(cpu->memory)[v.ram_page] &
			     (PAGE_CODE | PAGE_WATCH_DIRTY)))
			memory_touch(cpu->memory, v.ram_page,
				     (unsigned)(paddr & (GUEST_PAGE_SIZE - 1)), 4);
		__atomic_or_fetch((uint32_t *)p, bits, __ATOMIC_RELAXED);
	} else if (!p) {
		memory_write(cpu->memory, paddr,
			     memory_read(cpu->memory, paddr, 4) | bits, 4);
	}
}

/* What one walk accumulates on its way down. */
struct walk {
	uint64_t entry_paddr[2]; /* directory entry, table entry */
	uint64_t entry[2];
	unsigned levels;
	uint64_t paddr;
	bool write, user, exec, global;
};

/* Returns an error code part: 0 and *w filled, or PF_P/PF_RSVD bits, or -1 for
 * not present. Changes nothing. */
static int walk_legacy(struct cpu *cpu, uint32_t linear, struct walk *w)
{
	uint64_t pde_paddr = (cpu->cr3 & 0xfffff000u) + (linear >> 22) * 4;
	uint32_t pde = (uint32_t)table_read(cpu, pde_paddr, 4), pte;

	w->entry_paddr[0] = pde_paddr;
	w->entry[0] = pde;
	w->levels = 1;
	w->exec = true;
	if (!(pde & PTE_P))
		return -1;
	if (pde & PTE_PS && cpu->cr4 & CR4_PSE) {
		if (pde & 1u << 21)
			return PF_P | PF_RSVD;
		/* PSE-36: bits 13-16 of the entry are address bits 32-35 */
		w->paddr = (pde & 0xffc00000u) | (uint64_t)(pde >> 13 & 0xf) << 32 |
			   (linear & 0x003ff000u);
		w->write = pde & PTE_RW;
		w->user = pde & PTE_US;
		w->global = pde & PTE_G && cpu->cr4 & CR4_PGE;
		return 0;
	}
	w->entry_paddr[1] = (pde & 0xfffff000u) + (linear >> 12 & 0x3ff) * 4;
	pte = (uint32_t)table_read(cpu, w->entry_paddr[1], 4);
	w->entry[1] = pte;
	w->levels = 2;
	if (!(pte & PTE_P))
		return -1;
	w->paddr = pte & 0xfffff000u;
	w->write = pde & pte & PTE_RW;
	w->user = pde & pte & PTE_US;
	w->global = pte & PTE_G && cpu->cr4 & CR4_PGE;
	return 0;
}

static int walk_pae(struct cpu *cpu, uint32_t linear, struct walk *w)
{
	uint64_t rsvd = PAE_RSVD_HIGH | (cpu->efer & EFER_NXE ? 0 : PTE_NX);
	uint64_t pdpte = cpu->pdpte[linear >> 30], pde, pte;

	if (!(pdpte & PTE_P))
		return -1;
	w->entry_paddr[0] = (pdpte & PAE_ADDR) + (linear >> 21 & 0x1ff) * 8;
	pde = table_read(cpu, w->entry_paddr[0], 8);
	w->entry[0] = pde;
	w->levels = 1;
	if (!(pde & PTE_P))
		return -1;
	if (pde & rsvd)
		return PF_P | PF_RSVD;
	if (pde & PTE_PS) {
		if (pde & 0x1fe000)
			return PF_P | PF_RSVD;
		w->paddr = (pde & PAE_ADDR & ~0x1fffffull) | (linear & 0x001ff000u);
		w->write = pde & PTE_RW;
		w->user = pde & PTE_US;
		w->exec = !(pde & PTE_NX);
		w->global = pde & PTE_G && cpu->cr4 & CR4_PGE;
		return 0;
	}
	w->entry_paddr[1] = (pde & PAE_ADDR) + (linear >> 12 & 0x1ff) * 8;
	pte = table_read(cpu, w->entry_paddr[1], 8);
	w->entry[1] = pte;
	w->levels = 2;
	if (!(pte & PTE_P))
		return -1;
	if (pte & rsvd)
		return PF_P | PF_RSVD;
	w->paddr = pte & PAE_ADDR;
	w->write = pde & pte & PTE_RW;
	w->user = pde & pte & PTE_US;
	w->exec = !((pde | pte) & PTE_NX);
	w->global = pte & PTE_G && cpu->cr4 & CR4_PGE;
	return 0;
}

/* Walk for an access. Returns true with *m filled and A/D set; false with the
 * page fault's error code in *code and nothing changed. */
static bool walk(struct cpu *cpu, uint32_t linear, unsigned access,
		 struct mapping *m, unsigned *code)
{
	struct walk w = { 0 };
	int result;
	bool wp = cpu->cr0 & CR0_WP;

	if (!(cpu->cr0 & CR0_PG)) {
		*m = (struct mapping){ .paddr = linear & ~(GUEST_PAGE_SIZE - 1),
				       .write = true, .user = true, .exec = true,
				       .dirty = true };
		return true;
	}
	result = cpu->cr4 & CR4_PAE ? walk_pae(cpu, linear, &w)
				    : walk_legacy(cpu, linear, &w);
	*code = access & (PF_W | PF_U);
	/* SDM 4.7: the I bit is only reported with NX or SMEP */
	if (access & PF_I && cpu->cr4 & CR4_PAE && cpu->efer & EFER_NXE)
		*code |= PF_I;
	if (result) {
		if (result > 0)
			*code |= (unsigned)result;
		return false;
	}
	if ((access & PF_U && !w.user) ||
	    (access & PF_W && !w.write && (access & PF_U || wp)) ||
	    (access & PF_I && !w.exec)) {
		*code |= PF_P;
		return false;
	}
	for (unsigned i = 0; i < w.levels; i++) {
		bool leaf = i == w.levels - 1;
		uint32_t want = PTE_A | (leaf && access & PF_W ? PTE_D : 0);

		if ((w.entry[i] & want) != want) {
			table_set_bits(cpu, w.entry_paddr[i], want);
			w.entry[i] |= want;
		}
	}
	*m = (struct mapping){ .paddr = w.paddr, .write = w.write, .user = w.user,
			       .exec = w.exec, .global = w.global,
			       .dirty = w.entry[w.levels - 1] & PTE_D };
	return true;
}

bool mmu_translate(struct cpu *cpu, uint64_t linear, uint64_t *paddr)
{
	struct walk w = { 0 };
	uint32_t lin = (uint32_t)linear;

	if (!(cpu->cr0 & CR0_PG)) {
		*paddr = lin;
		return true;
	}
	if (cpu->cr4 & CR4_PAE ? walk_pae(cpu, lin, &w) : walk_legacy(cpu, lin, &w))
		return false;
	*paddr = w.paddr | (lin & (GUEST_PAGE_SIZE - 1));
	return true;
}

bool mmu_load_pdptes(struct cpu *cpu, uint64_t cr3)
{
	uint64_t pdpte[4];

	for (int i = 0; i < 4; i++) {
		pdpte[i] = table_read(cpu, (cr3 & 0xffffffe0u) + (unsigned)i * 8, 8);
		if (pdpte[i] & PTE_P && pdpte[i] & (PAE_RSVD_HIGH | PTE_NX | 0x1e6))
			return false;
	}
	memcpy(cpu->pdpte, pdpte, sizeof(pdpte));
	return true;
}

bool mmu_fill(struct cpu *cpu, uint32_t linear, bool write, unsigned user)
{
	struct mapping m;
	struct memory_view v;
	unsigned code;

	if (!walk(cpu, linear, (write ? PF_W : 0) | (user ? PF_U : 0), &m, &code))
		return false;
	memory_view(cpu->memory, m.paddr, &v);
	if (!v.host)
		return false;
	fill_data(cpu, linear, &m, &v);
	return (write ? cpu->tlb.write : cpu->tlb.read)[user]
	       [linear >> GUEST_PAGE_SHIFT] != 0;
}

/* ---- accesses that raise ---- */

static _Noreturn void page_fault(struct cpu *cpu, uint32_t linear, unsigned code)
{
	/* SDM 4.10.4.1: a page fault drops what is cached for its address */
	mmu_flush_page(cpu, linear);
	cpu->cr2 = linear;
	if (trace_on(cpu->trace, TRACE_MMU))
		trace_print(cpu->trace, TRACE_MMU, "#PF at %08x code %x eip %08x",
			    linear, code, (uint32_t)cpu->insn_eip);
	cpu_raise(cpu, EXC_PF, code);
}

uint64_t mmu_walk(struct cpu *cpu, uint64_t linear, unsigned access)
{
	struct mapping m;
	unsigned code;

	if (!walk(cpu, (uint32_t)linear, access, &m, &code))
		page_fault(cpu, (uint32_t)linear, code);
	return m.paddr | (linear & (GUEST_PAGE_SIZE - 1));
}

/* Translate for data, filling the tables if it is plain memory. */
static uint64_t translate_data(struct cpu *cpu, uint32_t linear, bool write,
			       unsigned user, struct memory_view *v)
{
	struct mapping m;
	unsigned code;

	if (!walk(cpu, linear, (write ? PF_W : 0) | (user ? PF_U : 0), &m, &code))
		page_fault(cpu, linear, code);
	memory_view(cpu->memory, m.paddr, v);
	if (v->host)
		fill_data(cpu, linear, &m, v);
	return m.paddr | (linear & (GUEST_PAGE_SIZE - 1));
}

static bool crosses(uint32_t linear, unsigned size)
{
	return (linear & (GUEST_PAGE_SIZE - 1)) + size > GUEST_PAGE_SIZE;
}

uint64_t mmu_read_slow(struct cpu *cpu, uint32_t linear, unsigned size, unsigned user)
{
	struct memory_view v;
	uint64_t paddr, value = 0;

	if (crosses(linear, size)) {
		unsigned first = GUEST_PAGE_SIZE - (linear & (GUEST_PAGE_SIZE - 1));

		value = mmu_read_slow(cpu, linear, first, user);
		return value | mmu_read_slow(cpu, linear + first, size - first, user)
				       << first * 8;
	}
	paddr = translate_data(cpu, linear, false, user, &v);
	if (!v.host)
		return memory_read(cpu->memory, paddr, size);
	memcpy(&value, v.host + (linear & (GUEST_PAGE_SIZE - 1)), size);
	return value;
}

static void store(struct cpu *cpu, uint64_t paddr, const struct memory_view *v,
		  uint64_t value, unsigned size)
{
	unsigned offset = (unsigned)paddr & (GUEST_PAGE_SIZE - 1);

	if (v->kind != MEMORY_RAM) {
		memory_write(cpu->memory, paddr, value, size);
		return;
	}
	if (memory_page_flags(cpu->memory)[v->ram_page] & (PAGE_CODE | PAGE_WATCH_DIRTY))
		memory_touch(cpu->memory, v->ram_page, offset, size);
	memcpy(v->host + offset, &value, size);
}

void mmu_write_slow(struct cpu *cpu, uint32_t linear, uint64_t value, unsigned size,
		    unsigned user)
{
	struct memory_view v[2];
	uint64_t paddr[2];
	unsigned first;

	paddr[0] = translate_data(cpu, linear, true, user, &v[0]);
	if (!crosses(linear, size)) {
		store(cpu, paddr[0], &v[0], value, size);
		return;
	}
	first = GUEST_PAGE_SIZE - (linear & (GUEST_PAGE_SIZE - 1));
	paddr[1] = translate_data(cpu, linear + first, true, user, &v[1]);
	store(cpu, paddr[0], &v[0], value, first);
	store(cpu, paddr[1], &v[1], value >> first * 8, size - first);
}

void mmu_probe_write(struct cpu *cpu, uint32_t linear, unsigned size, unsigned user)
{
	struct memory_view v;

	if (likely(mmu_host(cpu->tlb.write[user], linear, size)))
		return;
	translate_data(cpu, linear, true, user, &v);
	if (crosses(linear, size))
		translate_data(cpu, (linear + size - 1) & ~(GUEST_PAGE_SIZE - 1), true, user, &v);
}

void mmu_read_bytes(struct cpu *cpu, uint32_t linear, void *buf, unsigned len,
		    unsigned user)
{
	uint8_t *out = buf;

	while (len) {
		unsigned n = MIN(len, 8u);
		uint64_t v = mmu_read(cpu, linear, n, user);

		memcpy(out, &v, n);
		out += n;
		linear += n;
		len -= n;
	}
}

void mmu_write_bytes(struct cpu *cpu, uint32_t linear, const void *buf, unsigned len,
		     unsigned user)
{
	const uint8_t *in = buf;

	if (!len)
		return;
	mmu_probe_write(cpu, linear, len, user);
	while (len) {
		unsigned n = MIN(len, 8u);
		uint64_t v = 0;

		memcpy(&v, in, n);
		mmu_write(cpu, linear, v, n, user);
		in += n;
		linear += n;
		len -= n;
	}
}

/* ---- instruction fetch ---- */

/* Returns false with the page fault's error code in *code. */
static bool fetch_page(struct cpu *cpu, uint32_t linear, const uint8_t **host,
		       uint32_t *ram_page, unsigned *code)
{
	unsigned user = mmu_user(cpu);
	uint32_t page = linear >> GUEST_PAGE_SHIFT;
	uint32_t tag = cpu->tlb.exec[user][page];
	struct memory_view v;
	struct mapping m;

	if (likely(tag)) {
		*host = memory_host(cpu->memory) + ((uint64_t)(tag - 1) << GUEST_PAGE_SHIFT);
		*ram_page = tag - 1;
		return true;
	}
	if (!walk(cpu, linear, PF_I | (user ? PF_U : 0), &m, code))
		return false;
	memory_view(cpu->memory, m.paddr, &v);
	*host = v.host;
	*ram_page = v.host ? v.ram_page : MEMORY_NO_PAGE;
	if (v.host) {
		list_page(cpu, page, m.global);
		cpu->tlb.exec[user][page] = v.ram_page + 1;
		cpu->tlb.page_state[page] |= HAS_EXEC << user;
	}
	return true;
}

uint32_t mmu_fetch(struct cpu *cpu, uint32_t linear, const uint8_t **host)
{
	uint32_t ram_page;
	unsigned code;

	if (!fetch_page(cpu, linear, host, &ram_page, &code))
		page_fault(cpu, linear, code);
	return ram_page;
}

uint32_t mmu_fetch_quiet(struct cpu *cpu, uint32_t linear, const uint8_t **host)
{
	uint32_t ram_page;
	unsigned code;

	return fetch_page(cpu, linear, host, &ram_page, &code) ? ram_page : MEMORY_NO_PAGE;
}

uint8_t mmu_fetch_u8(struct cpu *cpu, uint32_t linear)
{
	const uint8_t *host;

	if (mmu_fetch(cpu, linear, &host) != MEMORY_NO_PAGE)
		return host[linear & (GUEST_PAGE_SIZE - 1)];
	return (uint8_t)memory_read(cpu->memory,
				    mmu_walk(cpu, linear, PF_I | (mmu_user(cpu) ? PF_U : 0)), 1);
}
