/* What -d decode and -d emit print: a block as the guest and as the host see it.
 *
 * Capstone disassembles both sides; without it the bytes are shown in hex. It is loaded
 * when there is something to disassemble: its tables, relocated, would cost every machine
 * a millisecond to start and 1.3 MiB of memory that no two share.
 */
#include "jit/jit_priv.h"

#include "config.h"
#include "core/trace.h"

#if HAVE_CAPSTONE
#include <capstone/capstone.h>
#include <dlfcn.h>

/* The library by its major version, which its header knows. */
#define TEXT_OF(x) #x
#define LIBRARY(major) "libcapstone.so." TEXT_OF(major)

struct capstone {
	typeof(cs_open) *open;
	typeof(cs_close) *close;
	typeof(cs_malloc) *malloc;
	typeof(cs_free) *free;
	typeof(cs_disasm_iter) *disasm_iter;
};

static bool load_capstone(struct capstone *cs)
{
	/* It stays: loading it again for each block would be slow. */
	void *library = dlopen(LIBRARY(CS_API_MAJOR), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);

	if (!library)
		return false;
	cs->open = (typeof(cs->open))dlsym(library, "cs_open");
	cs->close = (typeof(cs->close))dlsym(library, "cs_close");
	cs->malloc = (typeof(cs->malloc))dlsym(library, "cs_malloc");
	cs->free = (typeof(cs->free))dlsym(library, "cs_free");
	cs->disasm_iter = (typeof(cs->disasm_iter))dlsym(library, "cs_disasm_iter");
	dlclose(library);
	return cs->open && cs->close && cs->malloc && cs->free && cs->disasm_iter;
}
#endif

static void dump_bytes(struct trace *tr, enum trace_channel ch, const uint8_t *bytes, size_t size,
		       uint64_t address)
{
	for (size_t i = 0; i < size; i += 16) {
		char line[3 * 16 + 1] = "";
		size_t n = size - i < 16 ? size - i : 16;

		for (size_t k = 0; k < n; k++)
			snprintf(line + 3 * k, 4, " %02x", bytes[i + k]);
		trace_print(tr, ch, "  %08llx %s", (unsigned long long)(address + i), line);
	}
}

#if HAVE_CAPSTONE
static void disassemble(struct trace *tr, enum trace_channel ch, cs_mode mode, const uint8_t *bytes,
			size_t size, uint64_t address)
{
	struct capstone cs;
	csh handle;
	cs_insn *in;
	uint64_t at = address;

	if (!load_capstone(&cs)) {
		dump_bytes(tr, ch, bytes, size, address);
		return;
	}
	if (cs.open(CS_ARCH_X86, mode, &handle) != CS_ERR_OK)
		return;
	in = cs.malloc(handle);
	while (in && size) {
		if (cs.disasm_iter(handle, &bytes, &size, &at, in)) {
			trace_print(tr, ch, "  %08llx  %s %s", (unsigned long long)in->address,
				    in->mnemonic, in->op_str);
			continue;
		}
		trace_print(tr, ch, "  %08llx  .byte 0x%02x", (unsigned long long)at, *bytes);
		bytes++;
		size--;
		at++;
	}
	if (in)
		cs.free(in, 1);
	cs.close(&handle);
}
#define MODE_GUEST CS_MODE_32
#define MODE_HOST CS_MODE_64
#else
enum { MODE_GUEST, MODE_HOST };

static void disassemble(struct trace *tr, enum trace_channel ch, int mode, const uint8_t *bytes,
			size_t size, uint64_t address)
{
	(void)mode;
	dump_bytes(tr, ch, bytes, size, address);
}
#endif

void jit_dump(struct jit *j, const struct jit_block *b, const uint8_t *page_host)
{
	struct trace *tr = j->cpu->trace;

	if (trace_on(tr, TRACE_BLOCK))
		trace_print(tr, TRACE_BLOCK,
			    "eip %08x mode %04x: %u instructions, %u bytes -> %u hot + %u cold",
			    b->eip, b->mode, b->insns, b->guest_size, b->host_size, b->cold_size);
	if (trace_on(tr, TRACE_DECODE)) {
		trace_print(tr, TRACE_DECODE, "block %08x", b->eip);
		disassemble(tr, TRACE_DECODE, MODE_GUEST, page_host + (b->eip & 0xfff),
			    b->guest_size, b->eip);
	}
	if (trace_on(tr, TRACE_EMIT)) {
		trace_print(tr, TRACE_EMIT, "block %08x, hot", b->eip);
		disassemble(tr, TRACE_EMIT, MODE_HOST, b->host, b->host_size, (uint64_t)b->host);
		trace_print(tr, TRACE_EMIT, "block %08x, cold", b->eip);
		disassemble(tr, TRACE_EMIT, MODE_HOST, b->cold, b->cold_size, (uint64_t)b->cold);
	}
}
