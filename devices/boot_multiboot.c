/* Multiboot 1: kernels of many small operating systems, and test kernels.
 *
 * Multiboot Specification 0.6.96. A header within the first 8 KiB says what the
 * kernel wants; it is loaded by the addresses in that header (the "a.out
 * kludge") or as an ELF32 file. It starts in flat protected mode with a magic
 * number in EAX and EBX pointing at the information structure, which together
 * with modules and strings is put on the page behind the kernel.
 */
#include "devices/boot_priv.h"

#include <elf.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/util.h"

enum {
	HEADER_MAGIC = 0x1badb002,
	BOOTED_MAGIC = 0x2badb002,
	HEADER_SEARCH = 8192,

	WANT_ALIGNED = 1 << 0, /* modules on pages: always so here */
	WANT_MEMORY = 1 << 1,
	WANT_VIDEO = 1 << 2,   /* preferred mode: text mode is what there is */
	WANT_KNOWN = WANT_ALIGNED | WANT_MEMORY | WANT_VIDEO,
	WANT_MASK = 0xffff,    /* a loader must refuse what it does not know of these */
	HAVE_ADDRESSES = 1 << 16,

	INFO_MEMORY = 1 << 0,
	INFO_CMDLINE = 1 << 2,
	INFO_MODULES = 1 << 3,
	INFO_MMAP = 1 << 6,
	INFO_LOADER_NAME = 1 << 9,

	MBI_FLAGS = 0, MBI_MEM_LOWER = 4, MBI_MEM_UPPER = 8, MBI_CMDLINE = 16,
	MBI_MODS_COUNT = 20, MBI_MODS_ADDR = 24, MBI_MMAP_LENGTH = 44, MBI_MMAP_ADDR = 48,
	MBI_LOADER_NAME = 64,
	MBI_SIZE = 120,

	MODULE_ENTRY = 16,
	MMAP_ENTRY = 24,
	MODULES_MAX = 32,
	FILE_MAX = 1 << 30,
};

static const char loader_name[] = "Gannet";

struct module {
	char *words;           /* "FILE ARGS", as the kernel sees it */
	const uint8_t *data;
	size_t size;
	uint32_t start;
};

static const uint8_t *find_header(const uint8_t *file, size_t size)
{
	for (size_t i = 0; i + 12 <= MIN(size, (size_t)HEADER_SEARCH); i += 4) {
		const uint8_t *h = file + i;

		if (load_le32(h) == HEADER_MAGIC &&
		    load_le32(h) + load_le32(h + 4) + load_le32(h + 8) == 0)
			return h;
	}
	return NULL;
}

bool boot_is_multiboot(const uint8_t *file, size_t size)
{
	return find_header(file, size) != NULL;
}

/* The header's own addresses; returns the end of the kernel, 0 on error. */
static uint64_t place_flat(struct boot_plan *plan, const uint8_t *file, size_t size,
			   const uint8_t *h, struct error *err)
{
	size_t at = h - file;
	uint32_t header_addr, load_addr, load_end, bss_end;
	size_t skip, length;
	uint64_t memory;

	if (at + 32 > size) {
		error_set(err, "cut short inside its multiboot header");
		return 0;
	}
	header_addr = load_le32(h + 12);
	load_addr = load_le32(h + 16);
	load_end = load_le32(h + 20);
	bss_end = load_le32(h + 24);
	if (load_addr > header_addr || header_addr - load_addr > at) {
		error_set(err, "multiboot header: load_addr 0x%" PRIx32 " and header_addr 0x%" PRIx32 " do not fit its place in the file, 0x%zx",
			  load_addr, header_addr, at);
		return 0;
	}
	skip = at - (header_addr - load_addr);
	length = size - skip;
	if (load_end) {
		if (load_end < load_addr || load_end - load_addr > length) {
			error_set(err, "multiboot header: load_end_addr 0x%" PRIx32 " lies outside of the file; is it cut short?",
				  load_end);
			return 0;
		}
		length = load_end - load_addr;
	}
	memory = length;
	if (bss_end) {
		if (bss_end < load_addr || bss_end - load_addr < length) {
			error_set(err, "multiboot header: bss_end_addr 0x%" PRIx32 " lies before the end of the data",
				  bss_end);
			return 0;
		}
		memory = bss_end - load_addr;
	}
	if (!boot_place(plan, load_addr, file + skip, length, memory, "kernel", err))
		return 0;
	plan->entry = load_le32(h + 28);
	return load_addr + memory;
}

/* Returns the end of the kernel, 0 on error. */
static uint64_t place_elf(struct boot_plan *plan, const uint8_t *file, size_t size,
			  struct error *err)
{
	Elf32_Ehdr eh;
	uint64_t end = 0;

	if (size < sizeof(eh) || memcmp(file, ELFMAG, SELFMAG)) {
		error_set(err, "a multiboot header without load addresses in a file that is not ELF");
		return 0;
	}
	if (file[EI_CLASS] != ELFCLASS32) {
		error_set(err, "a 64-bit ELF; multiboot 1 kernels are 32-bit (objcopy -O elf32-i386 makes one of it)");
		return 0;
	}
	memcpy(&eh, file, sizeof(eh));
	if (eh.e_machine != EM_386) {
		error_set(err, "an ELF for machine type %u, not for i386", eh.e_machine);
		return 0;
	}
	if (eh.e_phentsize != sizeof(Elf32_Phdr) ||
	    (uint64_t)eh.e_phoff + (uint64_t)eh.e_phnum * sizeof(Elf32_Phdr) > size) {
		error_set(err, "its ELF program headers lie outside of the file; is it cut short?");
		return 0;
	}
	plan->entry = eh.e_entry;
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		Elf32_Phdr ph;
		char what[32];

		memcpy(&ph, file + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type != PT_LOAD || !ph.p_memsz)
			continue;
		snprintf(what, sizeof(what), "ELF segment %u", i);
		if ((uint64_t)ph.p_offset + ph.p_filesz > size || ph.p_filesz > ph.p_memsz) {
			error_set(err, "%s lies outside of the file; is it cut short?", what);
			return 0;
		}
		if (!boot_place(plan, ph.p_paddr, file + ph.p_offset, ph.p_filesz, ph.p_memsz,
				what, err))
			return 0;
		end = MAX(end, (uint64_t)ph.p_paddr + ph.p_memsz);
		/* An entry given as a virtual address is meant physically. */
		if (eh.e_entry >= ph.p_vaddr && eh.e_entry - ph.p_vaddr < ph.p_memsz)
			plan->entry = eh.e_entry - ph.p_vaddr + ph.p_paddr;
	}
	if (!end)
		error_set(err, "an ELF without anything to load");
	return end;
}

/* "FILE ARGS,FILE ARGS"; a doubled comma stands for one. */
static bool parse_modules(struct boot_plan *plan, const char *list, struct module *mods,
			  unsigned *count, struct error *err)
{
	const char *p = list;

	*count = 0;
	while (*p) {
		struct module *mod = &mods[*count];
		char *out, *space;

		if (*count == MODULES_MAX) {
			error_set(err, "-initrd: more than %d modules", MODULES_MAX);
			return false;
		}
		out = mod->words = boot_alloc(plan, strlen(p) + 1, err);
		if (!out)
			return false;
		for (; *p && (*p != ',' || p[1] == ','); p++) {
			if (*p == ',')
				p++;
			*out++ = *p;
		}
		if (*p)
			p++;
		space = strchr(mod->words, ' ');
		if (space)
			*space = '\0';
		mod->data = boot_read_file(plan, mod->words, FILE_MAX, &mod->size, err);
		if (!mod->data) {
			error_prefix(err, "-initrd %s", mod->words);
			return false;
		}
		if (space)
			*space = ' ';
		++*count;
	}
	return true;
}

/* Strings and tables behind the kernel are written into one buffer whose start
 * will be at physical address @base. */
struct arena {
	uint8_t *data;
	size_t used, size;
	uint32_t base;
};

static uint32_t arena_take(struct arena *a, size_t bytes, uint8_t **at)
{
	uint32_t addr = a->base + a->used;

	*at = a->data + a->used;
	a->used += (bytes + 7) & ~(size_t)7;
	return addr;
}

static uint32_t arena_string(struct arena *a, const char *s)
{
	uint8_t *at;
	uint32_t addr = arena_take(a, strlen(s) + 1, &at);

	memcpy(at, s, strlen(s) + 1);
	return addr;
}

static void fill_info(const struct boot_plan *plan, struct arena *a, const char *cmdline,
		      const struct module *mods, unsigned count)
{
	uint8_t *mbi, *table;

	arena_take(a, MBI_SIZE, &mbi); /* first: EBX points at the arena's start */
	store_le32(mbi + MBI_FLAGS, INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MMAP |
		   INFO_LOADER_NAME);
	store_le32(mbi + MBI_MEM_LOWER, BOOT_EBDA / 1024);
	store_le32(mbi + MBI_MEM_UPPER, (plan->low_top - BOOT_ONE_MIB) / KIB);
	store_le32(mbi + MBI_CMDLINE, arena_string(a, cmdline));
	store_le32(mbi + MBI_LOADER_NAME, arena_string(a, loader_name));

	store_le32(mbi + MBI_MODS_COUNT, count);
	store_le32(mbi + MBI_MODS_ADDR, arena_take(a, count * MODULE_ENTRY, &table));
	for (unsigned i = 0; i < count; i++) {
		store_le32(table + i * MODULE_ENTRY, mods[i].start);
		store_le32(table + i * MODULE_ENTRY + 4, mods[i].start + mods[i].size);
		store_le32(table + i * MODULE_ENTRY + 8, arena_string(a, mods[i].words));
	}
	store_le32(mbi + MBI_MMAP_LENGTH, plan->range_count * MMAP_ENTRY);
	store_le32(mbi + MBI_MMAP_ADDR, arena_take(a, plan->range_count * MMAP_ENTRY, &table));
	for (unsigned i = 0; i < plan->range_count; i++) {
		uint8_t *e = table + i * MMAP_ENTRY;

		store_le32(e, MMAP_ENTRY - 4); /* its own size, without this field */
		store_le64(e + 4, plan->ranges[i].start);
		store_le64(e + 12, plan->ranges[i].size);
		store_le32(e + 20, plan->ranges[i].type);
	}
}

static uint64_t page_up(uint64_t addr)
{
	return (addr + GUEST_PAGE_SIZE - 1) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
}

static bool place_modules(struct boot_plan *plan, const struct boot_config *cfg,
			  uint64_t next, struct error *err)
{
	const char *append = cfg->append ? cfg->append : "";
	struct module mods[MODULES_MAX];
	struct arena arena = { 0 };
	unsigned count = 0;
	char *cmdline;

	if (cfg->initrd && !parse_modules(plan, cfg->initrd, mods, &count, err))
		return false;
	cmdline = boot_alloc(plan, strlen(cfg->kernel) + strlen(append) + 2, err);
	if (!cmdline)
		return false;
	sprintf(cmdline, "%s%s%s", cfg->kernel, *append ? " " : "", append);

	for (unsigned i = 0; i < count; i++) {
		next = page_up(next);
		if (!boot_place(plan, next, mods[i].data, mods[i].size, mods[i].size,
				mods[i].words, err)) {
			error_prefix(err, "-initrd");
			return false;
		}
		mods[i].start = next;
		next += mods[i].size;
		arena.size += strlen(mods[i].words) + 8 + MODULE_ENTRY;
	}
	arena.size += MBI_SIZE + strlen(cmdline) + sizeof(loader_name) +
		      BOOT_RANGES * MMAP_ENTRY + 64;
	arena.data = boot_alloc(plan, arena.size, err);
	if (!arena.data)
		return false;
	arena.base = page_up(next);
	fill_info(plan, &arena, cmdline, mods, count);
	if (!boot_place(plan, arena.base, arena.data, arena.used, arena.used,
			"multiboot information", err))
		return false;
	plan->eax = BOOTED_MAGIC;
	plan->ebx = arena.base;
	return true;
}

bool boot_plan_multiboot(struct boot_plan *plan, const struct boot_config *cfg,
			 const uint8_t *file, size_t size, struct error *err)
{
	const uint8_t *h = find_header(file, size);
	uint32_t flags = load_le32(h + 4);
	uint64_t end = 0;

	if (flags & WANT_MASK & ~WANT_KNOWN)
		error_set(err, "multiboot header: wants features 0x%" PRIx32 " that multiboot 1 does not define",
			  flags & WANT_MASK & ~WANT_KNOWN);
	else if (flags & HAVE_ADDRESSES)
		end = place_flat(plan, file, size, h, err);
	else
		end = place_elf(plan, file, size, err);
	if (!end) {
		error_prefix(err, "-kernel %s", cfg->kernel);
		return false;
	}
	return place_modules(plan, cfg, MAX(end, (uint64_t)BOOT_ONE_MIB), err);
}
