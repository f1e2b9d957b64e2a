/* The Linux/x86 boot protocol, 32-bit entry.
 *
 * Documentation/arch/x86/boot.rst and zero-page.rst of the Linux source. A
 * bzImage is a real-mode part (boot sector and setup code) and a protected-mode
 * part. The 32-bit protocol skips the setup code: the loader itself fills in
 * struct boot_params ("zero page"), in which the setup header of the file is
 * embedded, loads the protected-mode part and jumps to its start with ESI
 * pointing at boot_params, flat segments and interrupts off.
 */
#include "devices/boot_priv.h"

#include <inttypes.h>
#include <string.h>

#include "core/memory.h"
#include "core/util.h"

/* Offsets into the file and, from the setup header on, into boot_params. */
enum {
	HDR_SETUP_SECTS = 0x1f1,
	HDR_SYSSIZE = 0x1f4, /* protected-mode part in units of 16 bytes */
	HDR_BOOT_FLAG = 0x1fe,
	HDR_JUMP_LENGTH = 0x201,
	HDR_MAGIC = 0x202,
	HDR_VERSION = 0x206,
	HDR_TYPE_OF_LOADER = 0x210,
	HDR_LOADFLAGS = 0x211,
	HDR_CODE32_START = 0x214,
	HDR_RAMDISK_IMAGE = 0x218,
	HDR_RAMDISK_SIZE = 0x21c,
	HDR_CMD_LINE_PTR = 0x228,
	HDR_INITRD_ADDR_MAX = 0x22c,
	HDR_KERNEL_ALIGNMENT = 0x230,
	HDR_RELOCATABLE = 0x234,
	HDR_XLOADFLAGS = 0x236,
	HDR_CMDLINE_SIZE = 0x238,
	HDR_PREF_ADDRESS = 0x258,
	HDR_INIT_SIZE = 0x260,
	HDR_END_MAX = 0x290, /* the header may grow this far inside boot_params */

	BOOT_FLAG = 0xaa55,
	MAGIC_HDRS = 0x53726448, /* "HdrS" */
	LOADED_HIGH = 1 << 0,
	KEEP_SEGMENTS = 1 << 6,
	XLF_KERNEL_64 = 1 << 0,
	LOADER_UNASSIGNED = 0xff,
};

/* struct boot_params outside of the header. */
enum {
	BP_ORIG_X = 0x00,
	BP_ORIG_Y = 0x01,
	BP_EXT_MEM_K = 0x02,
	BP_ORIG_VIDEO_MODE = 0x06,
	BP_ORIG_VIDEO_COLS = 0x07,
	BP_ORIG_VIDEO_LINES = 0x0e,
	BP_ORIG_VIDEO_ISVGA = 0x0f,
	BP_ORIG_VIDEO_POINTS = 0x10,
	BP_ACPI_RSDP = 0x70,
	BP_ALT_MEM_K = 0x1e0,
	BP_E820_ENTRIES = 0x1e8,
	BP_E820_TABLE = 0x2d0,
	BP_SIZE = 0x1000,
};

enum { SECTOR = 512, KERNEL_MAX = 1 << 30 };

/* What the header says, with the defaults of the protocol versions that do not
 * have a field. */
struct linux_image {
	const uint8_t *file;
	size_t size;
	size_t setup_size;     /* bytes before the protected-mode part */
	size_t header_size;    /* setup header, from HDR_SETUP_SECTS */
	unsigned version;
	uint32_t initrd_max;   /* highest byte an initrd may use */
	uint32_t cmdline_size; /* characters, without the NUL */
	uint64_t run_start, run_end; /* memory the kernel needs while it unpacks itself */
};

static bool parse_header(struct linux_image *k, const uint8_t *file, size_t size,
			 struct error *err)
{
	unsigned sects;
	size_t header_end;
	uint32_t init_size = 0;
	uint64_t pref = BOOT_ONE_MIB, whole;

	k->file = file;
	k->size = size;
	if (size < HDR_END_MAX || load_le16(file + HDR_BOOT_FLAG) != BOOT_FLAG) {
		error_set(err, "not a kernel: neither a Linux bzImage nor a multiboot ELF");
		return false;
	}
	if (load_le32(file + HDR_MAGIC) != MAGIC_HDRS ||
	    load_le16(file + HDR_VERSION) < 0x200) {
		error_set(err, "a boot sector, but not of a Linux kernel with boot protocol 2.00 or later; boot it as a disk with -hda or -fda");
		return false;
	}
	k->version = load_le16(file + HDR_VERSION);
	if (!(file[HDR_LOADFLAGS] & LOADED_HIGH)) {
		error_set(err, "a zImage (loaded below 1 MiB); direct boot needs a bzImage, boot this one from a disk");
		return false;
	}
	if (k->version >= 0x20c && load_le16(file + HDR_XLOADFLAGS) & XLF_KERNEL_64) {
		error_set(err, "a 64-bit kernel, and this machine's CPU is 32-bit; use one for i386 (Debian: linux-image-686)");
		return false;
	}
	sects = file[HDR_SETUP_SECTS] ? file[HDR_SETUP_SECTS] : 4;
	k->setup_size = (sects + 1) * SECTOR;
	whole = k->setup_size;
	if (k->version >= 0x204)
		whole += ((uint64_t)load_le32(file + HDR_SYSSIZE) << 4) - 15;
	if (size < whole || size <= k->setup_size) {
		error_set(err, "cut short: %zu bytes, its header speaks of %" PRIu64 "; fetch the kernel again",
			  size, whole + 15);
		return false;
	}
	header_end = MIN((size_t)HDR_MAGIC + file[HDR_JUMP_LENGTH], (size_t)HDR_END_MAX);
	k->header_size = MAX(header_end, (size_t)HDR_CMD_LINE_PTR) - HDR_SETUP_SECTS;

	k->initrd_max = k->version >= 0x203 ? load_le32(file + HDR_INITRD_ADDR_MAX) : 0x37ffffff;
	k->cmdline_size = k->version >= 0x206 ? load_le32(file + HDR_CMDLINE_SIZE) : 255;
	if (k->version >= 0x20a) {
		pref = load_le64(file + HDR_PREF_ADDRESS);
		init_size = load_le32(file + HDR_INIT_SIZE);
	}
	/* A kernel loaded at 1 MiB moves itself up to its preferred address. */
	k->run_start = MAX(pref, (uint64_t)BOOT_ONE_MIB);
	k->run_end = MAX(k->run_start + init_size,
			 BOOT_ONE_MIB + (uint64_t)(size - k->setup_size));
	if (k->run_start > UINT32_MAX || k->run_end > UINT32_MAX) {
		error_set(err, "its header asks for address 0x%" PRIx64 ", above 4 GiB", k->run_end);
		return false;
	}
	return true;
}

static bool place_initrd(struct boot_plan *plan, const struct linux_image *k,
			 const char *path, uint8_t *params, struct error *err)
{
	const uint8_t *data;
	size_t size;
	uint64_t top, start;

	data = boot_read_file(plan, path, KERNEL_MAX, &size, err);
	if (!data)
		goto fail;
	top = MIN(plan->low_top, (uint64_t)k->initrd_max + 1);
	start = top > size ? (top - size) & ~(uint64_t)(GUEST_PAGE_SIZE - 1) : 0;
	if (start < k->run_end) {
		error_set(err, "%zu bytes do not fit between the kernel's end at %llu MiB and the end of memory at %llu MiB; give more with -m",
			  size, (k->run_end + MIB - 1) / MIB, top / MIB);
		goto fail;
	}
	if (!boot_place(plan, start, data, size, size, "initrd", err))
		goto fail;
	store_le32(params + HDR_RAMDISK_IMAGE, start);
	store_le32(params + HDR_RAMDISK_SIZE, size);
	return true;
fail:
	error_prefix(err, "-initrd %s", path);
	return false;
}

static void fill_memory_map(const struct boot_plan *plan, uint8_t *params)
{
	uint32_t extended_kib = (plan->low_top - BOOT_ONE_MIB) / KIB;

	for (unsigned i = 0; i < plan->range_count; i++) {
		uint8_t *e = params + BP_E820_TABLE + i * 20;

		store_le64(e, plan->ranges[i].start);
		store_le64(e + 8, plan->ranges[i].size);
		store_le32(e + 16, plan->ranges[i].type);
	}
	params[BP_E820_ENTRIES] = plan->range_count;
	store_le16(params + BP_EXT_MEM_K, MIN(extended_kib, 0xfc00u));
	store_le32(params + BP_ALT_MEM_K, extended_kib);
}

bool boot_plan_linux(struct boot_plan *plan, const struct boot_config *cfg,
		     const uint8_t *file, size_t size, struct error *err)
{
	const char *append = cfg->append ? cfg->append : "";
	struct linux_image k;
	uint8_t *params;

	if (!parse_header(&k, file, size, err))
		goto bad_kernel;
	if (k.run_end > plan->low_top) {
		error_set(err, "needs memory up to %llu MiB while it starts, the machine has %llu MiB; give more with -m",
			  (k.run_end + MIB - 1) / MIB, (plan->low_top + MIB - 1) / MIB);
		goto bad_kernel;
	}
	if (!boot_place(plan, BOOT_ONE_MIB, file + k.setup_size, size - k.setup_size,
			size - k.setup_size, "kernel", err))
		goto bad_kernel;
	if (strlen(append) > k.cmdline_size || strlen(append) >= BOOT_EBDA - BOOT_CMDLINE) {
		error_set(err, "-append: %zu characters, this kernel takes %" PRIu32,
			  strlen(append), k.cmdline_size);
		return false;
	}

	params = boot_alloc(plan, BP_SIZE, err);
	if (!params)
		return false;
	memcpy(params + HDR_SETUP_SECTS, file + HDR_SETUP_SECTS, k.header_size);
	params[HDR_TYPE_OF_LOADER] = LOADER_UNASSIGNED;
	params[HDR_LOADFLAGS] &= ~KEEP_SEGMENTS;
	store_le32(params + HDR_CODE32_START, BOOT_ONE_MIB);
	store_le32(params + HDR_CMD_LINE_PTR, BOOT_CMDLINE);
	store_le32(params + HDR_RAMDISK_IMAGE, 0);
	store_le32(params + HDR_RAMDISK_SIZE, 0);
	params[BP_ORIG_VIDEO_MODE] = 3;
	params[BP_ORIG_VIDEO_COLS] = 80;
	params[BP_ORIG_VIDEO_LINES] = 25;
	params[BP_ORIG_VIDEO_ISVGA] = 1;
	store_le16(params + BP_ORIG_VIDEO_POINTS, 16);
	plan->rsdp = params + BP_ACPI_RSDP;
	fill_memory_map(plan, params);
	if (cfg->initrd && !place_initrd(plan, &k, cfg->initrd, params, err))
		return false;
	if (!boot_place(plan, BOOT_PARAMS, params, BP_SIZE, BP_SIZE, "boot parameters", err) ||
	    !boot_place(plan, BOOT_CMDLINE, append, strlen(append) + 1, strlen(append) + 1,
			"command line", err))
		return false;
	plan->entry = BOOT_ONE_MIB;
	plan->esi = BOOT_PARAMS;
	return true;
bad_kernel:
	error_prefix(err, "-kernel %s", cfg->kernel);
	return false;
}
