/* Direct boot: reading the files, the plan, and the device that carries it out.
 *
 * See boot.h. The device is the machine's last, so at a reset it finds every
 * other device fresh from its own reset and leaves the CPU at the kernel's
 * entry point.
 */
#include "devices/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/memory.h"
#include "core/mmu.h"
#include "core/util.h"
#include "devices/board.h"
#include "devices/boot_priv.h"

struct boot {
	struct device base;
	struct machine *machine; /* borrowed */
	struct board *board;     /* borrowed */
	struct boot_plan *plan;  /* owned; NULL: not read yet */
	/* Instead of a plan: kernel, initrd, append; owned. */
	char *later[3];
	bool asleep;             /* resets are not for us yet */
	void (*failed)(void *opaque, const char *why);
	void *opaque;            /* borrowed */
};

void *boot_alloc(struct boot_plan *plan, size_t size, struct error *err)
{
	void *p;

	if (plan->owned_count == ARRAY_SIZE(plan->owned)) {
		error_set(err, "direct boot: more than %d files and tables", BOOT_BLOBS);
		return NULL;
	}
	p = calloc(1, MAX(size, (size_t)1));
	if (!p) {
		error_set(err, "out of memory: %zu bytes for direct boot", size);
		return NULL;
	}
	plan->owned[plan->owned_count++] = p;
	return p;
}

const uint8_t *boot_read_file(struct boot_plan *plan, const char *path, uint64_t max,
			      size_t *size, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	uint8_t *data = NULL;
	struct stat st;
	size_t got = 0;

	if (fd < 0 || fstat(fd, &st) < 0) {
		error_set(err, "%s", strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		error_set(err, "not a regular file");
		goto out;
	}
	if (st.st_size == 0) {
		error_set(err, "the file is empty");
		goto out;
	}
	if ((uint64_t)st.st_size > max) {
		error_set(err, "%llu MiB; at most %llu MiB can be loaded",
			  (uint64_t)st.st_size / MIB, max / MIB);
		goto out;
	}
	data = boot_alloc(plan, st.st_size, err);
	while (data && got < (size_t)st.st_size) {
		ssize_t n = read(fd, data + got, st.st_size - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) { /* freed with the plan */
			error_set(err, "%s", n < 0 ? strerror(errno) : "the file shrank while it was read");
			data = NULL;
			break;
		}
		got += n;
	}
	*size = got;
out:
	if (fd >= 0)
		close(fd);
	return data;
}

bool boot_place(struct boot_plan *plan, uint64_t paddr, const void *data, size_t data_size,
		uint64_t memory_size, const char *what, struct error *err)
{
	uint64_t end = paddr + memory_size;

	if (plan->blob_count == BOOT_BLOBS) {
		error_set(err, "more than %d pieces to load", BOOT_BLOBS);
		return false;
	}
	if (end > plan->low_top || end < paddr) {
		error_set(err, "%s at 0x%" PRIx64 "-0x%" PRIx64 " lies outside of memory, which ends at 0x%" PRIx64 "; give more with -m",
			  what, paddr, end, plan->low_top);
		return false;
	}
	if (paddr < 2 * GUEST_PAGE_SIZE || (paddr < BOOT_ONE_MIB && end > BOOT_EBDA)) {
		error_set(err, "%s at 0x%" PRIx64 "-0x%" PRIx64 " lies over the BIOS's memory",
			  what, paddr, end);
		return false;
	}
	for (unsigned i = 0; i < plan->blob_count; i++) {
		const struct boot_blob *b = &plan->blobs[i];

		if (paddr < b->paddr + b->memory_size && b->paddr < end) {
			error_set(err, "%s at 0x%" PRIx64 "-0x%" PRIx64 " overlaps what is loaded at 0x%" PRIx64,
				  what, paddr, end, b->paddr);
			return false;
		}
	}
	plan->blobs[plan->blob_count++] = (struct boot_blob) {
		.paddr = paddr, .memory_size = memory_size,
		.data = data, .data_size = data_size,
	};
	return true;
}

static void add_range(struct boot_plan *plan, uint64_t start, uint64_t end,
		      enum boot_range_type type)
{
	if (end <= start)
		return;
	plan->ranges[plan->range_count++] = (struct boot_range) { start, end - start, type };
}

/* The map the kernel gets: conventional memory, the BIOS area, RAM below and
 * above the PCI hole, what firmware keeps at the top of low memory. */
static void describe_memory(struct boot_plan *plan, uint64_t ram)
{
	uint64_t low = MIN(ram, (uint64_t)BOARD_PCI_HOLE);

	plan->low_top = low;
	add_range(plan, 0, BOOT_EBDA, BOOT_RANGE_RAM);
	add_range(plan, BOOT_EBDA, 0xa0000, BOOT_RANGE_RESERVED);
	add_range(plan, BOOT_BIOS, BOOT_ONE_MIB, BOOT_RANGE_RESERVED);
	add_range(plan, BOOT_ONE_MIB, low, BOOT_RANGE_RAM);
	add_range(plan, 0xfec00000, 4 * GIB, BOOT_RANGE_RESERVED); /* APICs, ROM */
	add_range(plan, 4 * GIB, 4 * GIB + ram - low, BOOT_RANGE_RAM);
}

void boot_plan_destroy(struct boot_plan *plan)
{
	if (!plan)
		return;
	for (unsigned i = 0; i < plan->owned_count; i++)
		free(plan->owned[i]);
	free(plan);
}

struct boot_plan *boot_load(const struct boot_config *cfg, uint64_t ram_size,
			    struct error *err)
{
	struct boot_plan *plan = calloc(1, sizeof(*plan));
	const uint8_t *file;
	size_t size;
	bool ok;

	if (!plan) {
		error_set(err, "out of memory");
		return NULL;
	}
	describe_memory(plan, ram_size);
	file = boot_read_file(plan, cfg->kernel, GIB, &size, err);
	if (!file) {
		error_prefix(err, "-kernel %s", cfg->kernel);
		goto fail;
	}
	if (boot_is_multiboot(file, size))
		ok = boot_plan_multiboot(plan, cfg, file, size, err);
	else
		ok = boot_plan_linux(plan, cfg, file, size, err);
	if (!ok)
		goto fail;
	return plan;
fail:
	boot_plan_destroy(plan);
	return NULL;
}

/* ---- carrying it out ---- */

static void write_blob(struct memory *mem, const struct boot_blob *b)
{
	static const uint8_t zeroes[GUEST_PAGE_SIZE];
	uint64_t at = b->paddr + b->data_size, end = b->paddr + b->memory_size;

	memory_write_bytes(mem, b->paddr, b->data, b->data_size);
	while (at < end) {
		size_t n = MIN(end - at, (uint64_t)sizeof(zeroes));

		memory_write_bytes(mem, at, zeroes, n);
		at += n;
	}
}

static void set_segment(struct segment *s, uint16_t selector, unsigned type)
{
	s->selector = selector;
	s->base = 0;
	s->limit = UINT32_MAX;
	s->attr = type | SEG_A | SEG_S | SEG_P | SEG_DB | SEG_G;
}

/* Both protocols: flat 32-bit segments, paging and interrupts off. */
static void enter_kernel(struct cpu *cpu, const struct boot_plan *plan)
{
	static const uint64_t gdt[] = {
		0, 0,
		0x00cf9b000000ffff, /* BOOT_CS: code, flat */
		0x00cf93000000ffff, /* BOOT_DS: data, flat */
	};

	memory_write_bytes(cpu->memory, BOOT_GDT, gdt, sizeof(gdt));
	cpu->gdtr_base = BOOT_GDT;
	cpu->gdtr_limit = sizeof(gdt) - 1;
	cpu->cr0 = CR0_PE | CR0_ET;
	for (unsigned i = 0; i < SREG_COUNT; i++)
		set_segment(&cpu->seg[i], BOOT_DS, SEG_W);
	set_segment(&cpu->seg[CS], BOOT_CS, SEG_CODE | SEG_R);
	cpu->cpl = 0;
	cpu->eflags = FLAG_RSVD1;
	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->gpr[EAX] = plan->eax;
	cpu->gpr[EBX] = plan->ebx;
	cpu->gpr[ESI] = plan->esi;
	cpu->gpr[ESP] = BOOT_PARAMS; /* not promised by either protocol; some rely on a stack */
	cpu->eip = plan->entry;
	mmu_flush(cpu, true);
}

static bool load_now(struct boot *b)
{
	struct boot_config cfg = { b->later[0], b->later[1], b->later[2] };
	struct error err = { "" };

	b->plan = boot_load(&cfg, memory_ram_size(b->machine->memory), &err);
	if (b->plan) {
		if (b->plan->rsdp)
			store_le64(b->plan->rsdp, board_acpi_rsdp(b->board));
		return true;
	}
	b->failed(b->opaque, err.text);
	machine_end_with(b->machine, MACHINE_RESET_STOP, 0);
	return false;
}

static void boot_reset(struct device *dev)
{
	struct boot *b = container_of(dev, struct boot, base);

	if (b->asleep || (!b->plan && !load_now(b)))
		return;
	boot_firmware_setup(b->machine, b->board);
	for (unsigned i = 0; i < b->plan->blob_count; i++)
		write_blob(b->machine->memory, &b->plan->blobs[i]);
	enter_kernel(b->machine->cpu, b->plan);
}

static void boot_destroy(struct device *dev)
{
	struct boot *b = container_of(dev, struct boot, base);

	boot_plan_destroy(b->plan);
	for (unsigned i = 0; i < ARRAY_SIZE(b->later); i++)
		free(b->later[i]);
	free(b);
}

static const struct device_ops boot_ops = {
	.name = "boot",
	.reset = boot_reset,
	.destroy = boot_destroy,
};

bool boot_create(struct machine *m, struct board *board, struct boot_plan *plan,
		 struct error *err)
{
	struct boot *b = calloc(1, sizeof(*b));

	if (!b) {
		error_set(err, "out of memory");
		boot_plan_destroy(plan);
		return false;
	}
	b->base.ops = &boot_ops;
	b->machine = m;
	b->board = board;
	b->plan = plan;
	if (plan->rsdp)
		store_le64(plan->rsdp, board_acpi_rsdp(board));
	machine_add(m, &b->base);
	return true;
}

bool boot_create_later(struct machine *m, struct board *board, const struct boot_config *cfg,
		       void (*failed)(void *opaque, const char *why), void *opaque,
		       struct error *err)
{
	const char *const text[] = { cfg->kernel, cfg->initrd, cfg->append };
	struct boot *b = calloc(1, sizeof(*b));

	if (!b) {
		error_set(err, "out of memory");
		return false;
	}
	b->base.ops = &boot_ops;
	b->machine = m;
	b->board = board;
	b->failed = failed;
	b->opaque = opaque;
	for (unsigned i = 0; i < ARRAY_SIZE(text); i++) {
		if (!text[i] || (b->later[i] = strdup(text[i])))
			continue;
		error_set(err, "out of memory");
		boot_destroy(&b->base);
		return false;
	}
	b->asleep = true; /* machine_add() resets */
	machine_add(m, &b->base);
	b->asleep = false;
	return true;
}
