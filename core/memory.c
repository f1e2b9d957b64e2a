/* See memory.h.
 *
 * Regions are what callers add; segments are what is left of them once
 * priorities have been applied: sorted, disjoint, holes left out. A page that is
 * only partly covered by one segment (a 256-byte BAR, say) is shown to the TLB
 * as MMIO, and every access to it comes back here to be resolved by the byte.
 */
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "core/util.h"

#define PADDR_END (1ull << 52)
#define PAGE_MASK (GUEST_PAGE_SIZE - 1)
#define RAM_MIN MIB
#define RAM_MAX (64 * GIB) /* 36-bit physical addresses */

struct memory_region {
	struct memory_region *next; /* newest first: wins among equal priorities */
	const char *name;           /* static */
	uint64_t paddr, size;
	uint64_t ram_offset; /* into the memfd; not for MEMORY_MMIO */
	const struct mmio_ops *ops; /* NULL for plain RAM and ROM */
	void *opaque;               /* borrowed */
	enum memory_kind kind;
	int priority;
	bool on;
};

struct segment_entry {
	uint64_t start, end;
	const struct memory_region *region;
};

struct memory {
	struct trace *trace; /* borrowed; may be NULL */
	int fd;
	uint8_t *host;
	uint64_t ram_size, total;
	uint64_t rom_used; /* bytes of the ROM area given out */
	bool from_image;   /* host is mapped from an image, not from fd */
	uint8_t *flags;    /* one byte per RAM page */
	struct memory_region *regions;
	struct segment_entry *segs;
	size_t seg_count, seg_max;
	size_t hot; /* segment found last */
	unsigned depth; /* of memory_begin() */
	bool stale;
	uint64_t a20_mask;
	struct memory_listener listener;
};

/* ---- set-up ---- */

static uint64_t host_limit(void)
{
	uint64_t limit = RAM_MAX;
	struct sysinfo si;
	struct rlimit rl;

	if (!sysinfo(&si))
		limit = MIN(limit, ((uint64_t)si.totalram + si.totalswap) * si.mem_unit);
	if (!getrlimit(RLIMIT_AS, &rl) && rl.rlim_cur != RLIM_INFINITY)
		limit = MIN(limit, (uint64_t)rl.rlim_cur);
	return limit;
}

static bool check_size(uint64_t ram_size, struct error *err)
{
	if (ram_size < RAM_MIN) {
		error_set(err, "-m %.3g: %llu bytes are too few; a PC needs at least 1 MiB",
			  (double)ram_size / MIB, (unsigned long long)ram_size);
		return false;
	}
	if (ram_size & PAGE_MASK) {
		error_set(err, "-m: %llu bytes of memory are not a multiple of 4096",
			  (unsigned long long)ram_size);
		return false;
	}
	if (ram_size > host_limit()) {
		error_set(err, "-m %llu: more memory than there is, the host can map %llu MiB",
			  (unsigned long long)(ram_size / MIB),
			  (unsigned long long)(host_limit() / MIB));
		return false;
	}
	return true;
}

struct memory *memory_create(uint64_t ram_size, uint64_t rom_size, struct trace *trace,
			     struct error *err)
{
	struct memory *mem;

	if (!check_size(ram_size, err))
		return NULL;
	if (rom_size & PAGE_MASK || rom_size > GIB) {
		error_set(err, "ROM area of %llu bytes: must be a multiple of 4096 up to 1 GiB",
			  (unsigned long long)rom_size);
		return NULL;
	}
	mem = calloc(1, sizeof(*mem));
	if (!mem)
		goto no_memory;
	mem->trace = trace;
	mem->ram_size = ram_size;
	mem->total = ram_size + rom_size;
	mem->a20_mask = UINT64_MAX;
	mem->flags = calloc(mem->total >> GUEST_PAGE_SHIFT, 1);
	if (!mem->flags)
		goto free_mem;
	mem->fd = memfd_create("gannet-ram", MFD_CLOEXEC);
	if (mem->fd < 0 || ftruncate(mem->fd, (off_t)mem->total) < 0)
		goto no_file;
	mem->host = mmap(NULL, mem->total, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			 mem->fd, 0);
	if (mem->host == MAP_FAILED)
		goto no_file;
	return mem;

no_file:
	error_set(err, "-m %llu: cannot map the guest's memory (%s), the host can map %llu MiB",
		  (unsigned long long)(ram_size / MIB), strerror(errno),
		  (unsigned long long)(host_limit() / MIB));
	if (mem->fd >= 0)
		close(mem->fd);
	free(mem->flags);
	free(mem);
	return NULL;
free_mem:
	free(mem);
no_memory:
	error_set(err, "-m %llu: out of memory", (unsigned long long)(ram_size / MIB));
	return NULL;
}

void memory_destroy(struct memory *mem)
{
	if (!mem)
		return;
	while (mem->regions) {
		struct memory_region *r = mem->regions;

		mem->regions = r->next;
		free(r);
	}
	munmap(mem->host, mem->total);
	close(mem->fd);
	free(mem->segs);
	free(mem->flags);
	free(mem);
}

bool memory_map_image(struct memory *mem, int fd, uint64_t offset, struct error *err)
{
	void *p = mmap(mem->host, mem->total, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, (off_t)offset);

	if (p == MAP_FAILED) {
		error_set(err, "cannot be mapped: %s", strerror(errno));
		return false;
	}
	mem->from_image = true;
	return true;
}

bool memory_clear(struct memory *mem, struct error *err)
{
	if (ftruncate(mem->fd, 0) == 0 && ftruncate(mem->fd, (off_t)mem->total) == 0)
		return true;
	error_set(err, "memory cannot be cleared: %s", strerror(errno));
	return false;
}

/* The memfd knows which of its pages were ever touched. */
static bool used_of_file(struct memory *mem,
			 void (*run)(void *opaque, uint64_t first, uint64_t pages), void *opaque)
{
	off_t at = 0;

	while (at < (off_t)mem->total) {
		off_t data = lseek(mem->fd, at, SEEK_DATA);
		off_t hole;

		if (data < 0)
			return errno == ENXIO; /* no more data */
		hole = lseek(mem->fd, data, SEEK_HOLE);
		if (hole < 0)
			return false;
		run(opaque, (uint64_t)data >> GUEST_PAGE_SHIFT,
		    (uint64_t)(hole - data) >> GUEST_PAGE_SHIFT);
		at = hole;
	}
	return true;
}

/* Pages of a private mapping that are present or swapped: Linux, pagemap, bits 63 and 62. */
static bool used_of_mapping(struct memory *mem,
			    void (*run)(void *opaque, uint64_t first, uint64_t pages), void *opaque)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t page = 0, pages = mem->total >> GUEST_PAGE_SHIFT;
	uint64_t base = (uint64_t)mem->host >> GUEST_PAGE_SHIFT, entry[512];

	while (fd >= 0 && page < pages) {
		size_t want = MIN(ARRAY_SIZE(entry), pages - page);
		ssize_t n = pread(fd, entry, want * 8, (off_t)((base + page) * 8));
		size_t got = n / 8;

		if (n < 8)
			break;
		for (size_t i = 0; i < got;) {
			size_t start = i;

			while (i < got && entry[i] >> 62)
				i++;
			if (i > start)
				run(opaque, page + start, i - start);
			else
				i++;
		}
		page += got;
	}
	if (fd >= 0)
		close(fd);
	return page == pages;
}

bool memory_used(struct memory *mem, void (*run)(void *opaque, uint64_t first, uint64_t pages),
		 void *opaque, struct error *err)
{
	if (mem->from_image ? used_of_mapping(mem, run, opaque) : used_of_file(mem, run, opaque))
		return true;
	error_set(err, "cannot find out which memory is in use: %s", strerror(errno));
	return false;
}

uint64_t memory_total(const struct memory *mem)
{
	return mem->total;
}

uint64_t memory_ram_size(const struct memory *mem)
{
	return mem->ram_size;
}

uint8_t *memory_host(struct memory *mem)
{
	return mem->host;
}

int memory_fd(const struct memory *mem)
{
	return mem->fd;
}

uint8_t *memory_page_flags(struct memory *mem)
{
	return mem->flags;
}

uint32_t memory_page_count(const struct memory *mem)
{
	return mem->total >> GUEST_PAGE_SHIFT;
}

uint64_t memory_rom_alloc(struct memory *mem, uint64_t size)
{
	uint64_t offset = mem->ram_size + mem->rom_used;

	size = (size + PAGE_MASK) & ~(uint64_t)PAGE_MASK;
	if (size > mem->total - offset)
		return UINT64_MAX;
	mem->rom_used += size;
	return offset;
}

void memory_set_listener(struct memory *mem, const struct memory_listener *l)
{
	mem->listener = *l;
}

/* ---- the segment list ---- */

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static const struct memory_region *winner(const struct memory *mem, uint64_t paddr)
{
	const struct memory_region *best = NULL;

	for (const struct memory_region *r = mem->regions; r; r = r->next) {
		if (!r->on || paddr < r->paddr || paddr - r->paddr >= r->size)
			continue;
		if (!best || r->priority > best->priority)
			best = r;
	}
	return best;
}

static bool reserve_segments(struct memory *mem, size_t count)
{
	void *p;

	if (count <= mem->seg_max)
		return true;
	p = realloc(mem->segs, 2 * count * sizeof(*mem->segs));
	if (!p)
		return false;
	mem->segs = p;
	mem->seg_max = 2 * count;
	return true;
}

static void rebuild(struct memory *mem)
{
	uint64_t *edges;
	size_t n = 0;

	for (const struct memory_region *r = mem->regions; r; r = r->next)
		n += r->on ? 2 : 0;
	edges = malloc((n + 1) * sizeof(*edges));
	if (!edges || !reserve_segments(mem, n + 1)) {
		/* Keep the old map: wrong beats none, and there is no one to tell. */
		free(edges);
		return;
	}
	n = 0;
	for (const struct memory_region *r = mem->regions; r; r = r->next) {
		if (!r->on)
			continue;
		edges[n++] = r->paddr;
		edges[n++] = r->paddr + r->size;
	}
	qsort(edges, n, sizeof(*edges), compare_u64);
	mem->seg_count = 0;
	mem->hot = 0;
	for (size_t i = 0; i + 1 < n; i++) {
		const struct memory_region *r;
		struct segment_entry *last;

		if (edges[i] == edges[i + 1])
			continue;
		r = winner(mem, edges[i]);
		if (!r)
			continue;
		last = mem->seg_count ? &mem->segs[mem->seg_count - 1] : NULL;
		if (last && last->region == r && last->end == edges[i]) {
			last->end = edges[i + 1];
			continue;
		}
		mem->segs[mem->seg_count++] =
			(struct segment_entry){edges[i], edges[i + 1], r};
	}
	free(edges);
}

static void changed(struct memory *mem)
{
	if (mem->depth) {
		mem->stale = true;
		return;
	}
	mem->stale = false;
	rebuild(mem);
	if (mem->listener.map_changed)
		mem->listener.map_changed(mem->listener.opaque);
}

void memory_begin(struct memory *mem)
{
	mem->depth++;
}

void memory_commit(struct memory *mem)
{
	if (mem->depth && !--mem->depth && mem->stale)
		changed(mem);
}

static struct memory_region *add(struct memory *mem, const struct memory_region *init)
{
	struct memory_region *r;

	if (!init->size || init->size > PADDR_END || init->paddr > PADDR_END - init->size)
		return NULL;
	r = malloc(sizeof(*r));
	if (!r)
		return NULL;
	*r = *init;
	r->next = mem->regions;
	mem->regions = r;
	changed(mem);
	return r;
}

struct memory_region *memory_add_ram(struct memory *mem, uint64_t paddr, uint64_t size,
				     uint64_t ram_offset, enum memory_kind kind, int priority,
				     const char *name)
{
	struct memory_region r = {
		.name = name, .paddr = paddr, .size = size, .ram_offset = ram_offset,
		.kind = kind, .priority = priority, .on = true,
	};

	if ((paddr | size | ram_offset) & PAGE_MASK || kind == MEMORY_MMIO ||
	    size > mem->total || ram_offset > mem->total - size)
		return NULL;
	return add(mem, &r);
}

struct memory_region *memory_add_mmio(struct memory *mem, uint64_t paddr, uint64_t size,
				      const struct mmio_ops *ops, void *opaque, int priority,
				      const char *name)
{
	struct memory_region r = {
		.name = name, .paddr = paddr, .size = size, .ops = ops, .opaque = opaque,
		.kind = MEMORY_MMIO, .priority = priority, .on = true,
	};

	return add(mem, &r);
}

void memory_set_ops(struct memory *mem, struct memory_region *region, const struct mmio_ops *ops,
		    void *opaque)
{
	region->ops = ops;
	region->opaque = opaque;
	(void)mem;
}

void memory_remove(struct memory *mem, struct memory_region *region)
{
	struct memory_region **p = &mem->regions;

	if (!region)
		return;
	while (*p && *p != region)
		p = &(*p)->next;
	if (!*p)
		return;
	*p = region->next;
	/* Even inside a batch: no segment may point at it any more. */
	if (region->on) {
		rebuild(mem);
		changed(mem);
	}
	free(region);
}

void memory_move(struct memory *mem, struct memory_region *region, uint64_t paddr)
{
	if (!region || region->paddr == paddr || paddr > PADDR_END - region->size)
		return;
	if (region->kind != MEMORY_MMIO && paddr & PAGE_MASK)
		return;
	region->paddr = paddr;
	if (region->on)
		changed(mem);
}

void memory_enable(struct memory *mem, struct memory_region *region, bool on)
{
	if (!region || region->on == on)
		return;
	region->on = on;
	changed(mem);
}

void memory_set_kind(struct memory *mem, struct memory_region *region, enum memory_kind kind)
{
	if (!region || region->kind == kind)
		return;
	if (region->kind == MEMORY_MMIO || (kind == MEMORY_MMIO && !region->ops))
		return;
	region->kind = kind;
	if (region->on)
		changed(mem);
}

void memory_set_a20(struct memory *mem, bool on)
{
	uint64_t mask = on ? UINT64_MAX : ~(1ull << 20);

	if (mask == mem->a20_mask)
		return;
	mem->a20_mask = mask;
	if (mem->listener.map_changed)
		mem->listener.map_changed(mem->listener.opaque);
}

bool memory_a20(const struct memory *mem)
{
	return mem->a20_mask == UINT64_MAX;
}

/* ---- look-up ---- */

/* From here to memory_view(): called by mmu_fill(), with the guest's SSE registers
 * still in the host's. */
#pragma GCC push_options
#pragma GCC target("general-regs-only")

/* The segment that holds @paddr, or NULL for a hole. A20 is already applied. */
static const struct segment_entry *find(struct memory *mem, uint64_t paddr)
{
	size_t lo = 0, hi = mem->seg_count;

	if (mem->hot < hi && paddr >= mem->segs[mem->hot].start && paddr < mem->segs[mem->hot].end)
		return &mem->segs[mem->hot];
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (paddr >= mem->segs[mid].end)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == mem->seg_count || paddr < mem->segs[lo].start)
		return NULL;
	mem->hot = lo;
	return &mem->segs[lo];
}

/* Does anything stand in the page of @paddr, known to start in a hole? */
static bool page_empty(const struct memory *mem, uint64_t page)
{
	for (size_t i = 0; i < mem->seg_count; i++) {
		if (mem->segs[i].start < page + GUEST_PAGE_SIZE && mem->segs[i].end > page)
			return false;
	}
	return true;
}

void memory_view(struct memory *mem, uint64_t paddr, struct memory_view *view)
{
	uint64_t page = paddr & mem->a20_mask & ~(uint64_t)PAGE_MASK, offset;
	const struct segment_entry *s = find(mem, page);

	*view = (struct memory_view){.kind = MEMORY_MMIO, .ram_page = MEMORY_NO_PAGE};
	if (!s) {
		view->hole = page_empty(mem, page);
		return;
	}
	if (s->end - page < GUEST_PAGE_SIZE || s->region->kind == MEMORY_MMIO)
		return;
	offset = s->region->ram_offset + (page - s->region->paddr);
	view->kind = s->region->kind;
	view->host = mem->host + offset;
	view->ram_page = offset >> GUEST_PAGE_SHIFT;
}

#pragma GCC pop_options

/* ---- accesses ---- */

void memory_touch(struct memory *mem, uint32_t ram_page, unsigned offset, unsigned len)
{
	uint8_t flags;

	if (ram_page >= memory_page_count(mem))
		return;
	flags = mem->flags[ram_page];
	if (flags & PAGE_CODE && mem->listener.code_written)
		mem->listener.code_written(mem->listener.opaque, ram_page, offset, len);
	mem->flags[ram_page] |= PAGE_DIRTY;
}

static void trace_hole(struct memory *mem, const char *verb, uint64_t paddr, unsigned size)
{
	if (mem->trace && trace_on(mem->trace, TRACE_MMIO))
		trace_print(mem->trace, TRACE_MMIO, "%s %llx/%u (nothing there)", verb,
			    (unsigned long long)paddr, size);
}

static uint64_t ones(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ull << size * 8) - 1;
}

static uint64_t region_read(struct memory *mem, const struct memory_region *r, uint64_t offset,
			    unsigned size)
{
	uint64_t v = UINT64_MAX;

	if (r->kind != MEMORY_MMIO) {
		v = 0;
		memcpy(&v, mem->host + r->ram_offset + offset, size);
		return v;
	}
	if (r->ops->read)
		v = r->ops->read(r->opaque, offset, size);
	v &= ones(size);
	if (mem->trace && trace_on(mem->trace, TRACE_MMIO))
		trace_print(mem->trace, TRACE_MMIO, "read %s+%llx/%u = %llx", r->name,
			    (unsigned long long)offset, size, (unsigned long long)v);
	return v;
}

static void region_write(struct memory *mem, const struct memory_region *r, uint64_t offset,
			 uint64_t value, unsigned size)
{
	uint64_t at = r->ram_offset + offset;

	if (r->kind == MEMORY_RAM) {
		memory_touch(mem, at >> GUEST_PAGE_SHIFT, at & PAGE_MASK, size);
		memcpy(mem->host + at, &value, size);
		return;
	}
	/* Traced first: the handler may take its own region out of the map. */
	if (mem->trace && trace_on(mem->trace, TRACE_MMIO))
		trace_print(mem->trace, TRACE_MMIO, "write %s+%llx/%u = %llx", r->name,
			    (unsigned long long)offset, size,
			    (unsigned long long)(value & ones(size)));
	if (r->kind != MEMORY_ROM && r->ops && r->ops->write)
		r->ops->write(r->opaque, offset, value & ones(size), size);
}

/* How much of an access of @size bytes can be done in one piece at @paddr: a
 * power of two, inside one page and one segment. */
static unsigned piece(const struct segment_entry *s, uint64_t paddr, unsigned size)
{
	uint64_t room = GUEST_PAGE_SIZE - (paddr & PAGE_MASK);
	unsigned n = 8;

	if (s)
		room = MIN(room, s->end - paddr);
	else
		room = 1;
	while (n > size || n > room)
		n /= 2;
	return n;
}

uint64_t memory_read(struct memory *mem, uint64_t paddr, unsigned size)
{
	uint64_t value = 0;

	for (unsigned done = 0; done < size;) {
		uint64_t at = (paddr + done) & mem->a20_mask;
		const struct segment_entry *s = find(mem, at);
		unsigned n = piece(s, at, size - done);
		uint64_t part = 0xff;

		if (s)
			part = region_read(mem, s->region, at - s->region->paddr, n);
		else
			trace_hole(mem, "read", at, n);
		value |= part << done * 8;
		done += n;
	}
	return value;
}

void memory_write(struct memory *mem, uint64_t paddr, uint64_t value, unsigned size)
{
	for (unsigned done = 0; done < size;) {
		uint64_t at = (paddr + done) & mem->a20_mask;
		const struct segment_entry *s = find(mem, at);
		unsigned n = piece(s, at, size - done);

		if (s)
			region_write(mem, s->region, at - s->region->paddr, value >> done * 8, n);
		else
			trace_hole(mem, "write", at, n);
		done += n;
	}
}

/* Bytes from @paddr on that lie in one page of @s. */
static size_t run_length(const struct segment_entry *s, uint64_t paddr, size_t len)
{
	uint64_t room = GUEST_PAGE_SIZE - (paddr & PAGE_MASK);

	room = MIN(room, s->end - paddr);
	return MIN(room, len);
}

void memory_read_bytes(struct memory *mem, uint64_t paddr, void *buf, size_t len)
{
	uint8_t *out = buf;

	while (len) {
		uint64_t at = paddr & mem->a20_mask;
		const struct segment_entry *s = find(mem, at);
		size_t n = 1;

		if (s && s->region->kind != MEMORY_MMIO) {
			n = run_length(s, at, len);
			memcpy(out, mem->host + s->region->ram_offset + (at - s->region->paddr), n);
		} else {
			*out = memory_read(mem, at, 1);
		}
		out += n;
		paddr += n;
		len -= n;
	}
}

void memory_write_bytes(struct memory *mem, uint64_t paddr, const void *buf, size_t len)
{
	const uint8_t *in = buf;

	while (len) {
		uint64_t at = paddr & mem->a20_mask;
		const struct segment_entry *s = find(mem, at);
		size_t n = 1;

		if (s && s->region->kind == MEMORY_RAM) {
			uint64_t to = s->region->ram_offset + (at - s->region->paddr);

			n = run_length(s, at, len);
			memory_touch(mem, to >> GUEST_PAGE_SHIFT, to & PAGE_MASK, n);
			memcpy(mem->host + to, in, n);
		} else {
			memory_write(mem, at, *in, 1);
		}
		in += n;
		paddr += n;
		len -= n;
	}
}
