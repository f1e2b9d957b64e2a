/* Executable memory: one memfd mapped twice, writable and executable.
 *
 * Never both at one address. Hot code (what runs) and cold code (slow paths,
 * exits) each grow in their own part, so that hot code stays dense. When either
 * is full everything is translated anew. Reserve room, emit, commit or forget.
 */
#include "jit/jit_priv.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define POPULATE_STEP (512u << 10) /* bytes; a multiple of the page size */

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

bool jit_cache_init(struct jit *j, struct error *err)
{
	j->code_w = j->code_x = NULL;
	j->hot_limit = JIT_CACHE_HOT;
	j->hot_mapped = 0;
	j->cold_mapped = JIT_CACHE_HOT;
	j->cold_limit = JIT_CACHE_SIZE;
	j->fd = memfd_create("gannet-code", MFD_CLOEXEC);
	if (j->fd < 0 || ftruncate(j->fd, JIT_CACHE_SIZE) < 0) {
		error_set(err, "no memory for translated code (%u MiB): %s",
			  JIT_CACHE_SIZE >> 20, strerror(errno));
		return false;
	}
	j->code_w = mmap(NULL, JIT_CACHE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, j->fd, 0);
	if (j->code_w == MAP_FAILED)
		j->code_w = NULL;
	j->code_x = mmap(NULL, JIT_CACHE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, j->fd, 0);
	if (j->code_x == MAP_FAILED)
		j->code_x = NULL;
	if (!j->code_w || !j->code_x) {
		error_set(err, "the host forbids executable memory (%s); use --engine interp",
			  strerror(errno));
		return false;
	}
	return true;
}

void jit_cache_finish(struct jit *j)
{
	if (j->code_w)
		munmap(j->code_w, JIT_CACHE_SIZE);
	if (j->code_x)
		munmap(j->code_x, JIT_CACHE_SIZE);
	if (j->fd >= 0)
		close(j->fd);
}

/* Fixed pieces of code every block may jump to, at the start of the cache. */
void jit_cache_start(struct jit *j)
{
	struct emit e = { j->code_w, j->code_w + 64, j->code_x - j->code_w, false };

	j->lookup = emit_addr(&e);
	emit_jmp_mem(&e, AREA(thunk_lookup));
	j->hot = 64;
	j->cold = JIT_CACHE_HOT;
}

/* Page faults one by one cost more than translating: have the kernel map the
 * next stretch of both views at once. Older kernels refuse, and that is fine. */
static void populate(struct jit *j, uint32_t *upto, uint32_t need, uint32_t limit)
{
	uint32_t start = *upto, end;

	if (need <= start)
		return;
	end = start + POPULATE_STEP < limit ? start + POPULATE_STEP : limit;
	madvise(j->code_w + start, end - start, MADV_POPULATE_WRITE);
	madvise(j->code_x + start, end - start, MADV_POPULATE_READ);
	*upto = end;
}

bool jit_cache_reserve(struct jit *j, struct emit *hot, struct emit *cold)
{
	int64_t exec = j->code_x - j->code_w;

	if (j->hot + JIT_BLOCK_BYTES > j->hot_limit ||
	    j->cold + JIT_BLOCK_BYTES > j->cold_limit)
		return false;
	populate(j, &j->hot_mapped, j->hot + JIT_BLOCK_BYTES, JIT_CACHE_HOT);
	populate(j, &j->cold_mapped, j->cold + JIT_BLOCK_BYTES, JIT_CACHE_SIZE);
	*hot = (struct emit){ j->code_w + j->hot, j->code_w + j->hot + JIT_BLOCK_BYTES, exec,
			      false };
	*cold = (struct emit){ j->code_w + j->cold, j->code_w + j->cold + JIT_BLOCK_BYTES, exec,
			       false };
	return true;
}

void jit_cache_commit(struct jit *j, const struct emit *hot, const struct emit *cold)
{
	j->hot = ((uint32_t)(hot->p - j->code_w) + 15) & ~15u;
	j->cold = (uint32_t)(cold->p - j->code_w);
	j->area->code_changed = 1;
}
