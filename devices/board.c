/* See board.h.
 *
 * Interrupts: an ISA line goes to the 8259 pair and, but for IRQ 0, which is
 * wired to input 2, to the same input of the I/O APIC. PCI pins come through
 * the PIIX3's routing onto the same lines. The local APIC decides what reaches
 * the CPU.
 *
 * Memory: ROM at the top of the first 4 GiB, its last 128 KiB also below 1 MiB
 * under the shadow RAM; RAM from 1 MiB to the PCI hole, the rest above 4 GiB.
 *
 * Firmware learns memory sizes and boot order from CMOS as on a PC (AT layout;
 * SeaBIOS's extensions above 4 GiB), everything else from fw_cfg.
 */
#include "devices/board.h"

#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/ioport.h"
#include "core/loop.h"
#include "core/memory.h"
#include "core/util.h"
#include "devices/acpi_tables.h"
#include "devices/debug_exit.h"
#include "devices/debugcon.h"
#include "devices/i440fx.h"
#include "devices/i8042.h"
#include "devices/i8237.h"
#include "devices/i8254.h"
#include "devices/i8259.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"
#include "devices/mc146818.h"
#include "devices/ne2000.h"
#include "devices/piix3.h"
#include "devices/piix4_pm.h"
#include "devices/serial.h"
#include "devices/vga.h"
#include "devices/vmgenid.h"
#include "devices/vmport.h"

enum { ROM_LOW_SIZE = 0x20000, ROM_ALIGN = 0x10000, ROM_MAX = 0x1000000 };
enum { PORT_FERR = 0xf0, IRQ_FERR = 13, PORT_DEBUGCON = 0xe9, PORT_FIRMWARE_LOG = 0x402 };
enum { IRQ_TIMER = 0, GSI_TIMER = 2, IRQ_CASCADE = 2 };
/* In the BIOS area, where the operating system looks for the root pointer. */
enum { ACPI_RSDP = 0xe0000, ACPI_PLACE = 0xe0040, ACPI_ROOM = 0x8000 };

struct board {
	struct device base;
	struct machine *machine; /* borrowed */
	struct pci_bus *pci;     /* all devices: borrowed from the machine */
	struct i8259 *pic;
	struct lapic *lapic;
	struct ioapic *ioapic;
	struct i8254 *pit;
	struct mc146818 *rtc;
	struct pci_device *pm;
	struct fw_cfg *fw_cfg;
	struct device *ide, *fdc, *dma, *i8042, *vga;
	struct device *generation; /* NULL: without ACPI */
	uint16_t isa;  /* lines as ISA devices drive them */
	uint16_t pirq; /* ... and PCI pins through the routing */
	struct acpi_tables acpi; /* data NULL: none */
	uint64_t rom; /* RAM offset of the ROM's last 128 KiB; UINT64_MAX: none */
};

/* ---- interrupt lines ---- */

static void lines_changed(struct board *b, uint16_t old)
{
	uint16_t now = b->isa | b->pirq, diff = old ^ now;

	while (diff) {
		int n = __builtin_ctz(diff);
		bool level = now >> n & 1;

		diff &= diff - 1;
		i8259_set_irq(b->pic, n, level);
		if (n != IRQ_CASCADE)
			ioapic_set_irq(b->ioapic, n == IRQ_TIMER ? GSI_TIMER : n, level);
	}
}

static void set_isa(void *opaque, int n, bool level)
{
	struct board *b = opaque;
	uint16_t old = b->isa | b->pirq;

	if (level)
		b->isa |= 1 << n;
	else
		b->isa &= ~(1 << n);
	lines_changed(b, old);
}

static void set_pirqs(void *opaque, uint16_t irqs)
{
	struct board *b = opaque;
	uint16_t old = b->isa | b->pirq;

	b->pirq = irqs;
	lines_changed(b, old);
}

struct irq_line board_isa_irq(struct board *b, int n)
{
	return (struct irq_line){set_isa, b, n & 15};
}

static bool tick_pending(void *opaque)
{
	struct board *b = opaque;

	return i8259_pending(b->pic, IRQ_TIMER) || ioapic_pending(b->ioapic, GSI_TIMER);
}

static int pic_acknowledge(void *opaque)
{
	return i8259_acknowledge(opaque);
}

/* ---- FERR#: IRQ 13 until port 0xf0 is written (PC/AT) ---- */

static void ferr(void *opaque)
{
	set_isa(opaque, IRQ_FERR, true);
}

static void ferr_clear(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	set_isa(opaque, IRQ_FERR, false);
}

static const struct ioport_ops ferr_ports = {.write = ferr_clear};

/* ---- memory ---- */

uint64_t board_low_ram(const struct board *b)
{
	return MIN(memory_ram_size(b->machine->memory), BOARD_PCI_HOLE);
}

static bool map_ram(struct board *b, struct error *err)
{
	struct memory *mem = b->machine->memory;
	uint64_t ram = memory_ram_size(mem), low = board_low_ram(b);
	bool ok = true;

	if (low > MIB)
		ok &= memory_add_ram(mem, MIB, low - MIB, MIB, MEMORY_RAM, 0, "ram") != NULL;
	if (ram > low)
		ok &= memory_add_ram(mem, 4 * GIB, ram - low, low, MEMORY_RAM, 0, "high ram") !=
		      NULL;
	if (!ok)
		error_set(err, "out of memory for the memory map");
	return ok;
}

static bool map_rom(struct board *b, const struct board_config *cfg, struct error *err)
{
	struct memory *mem = b->machine->memory;
	uint64_t size = MAX(cfg->bios_size, (size_t)ROM_LOW_SIZE), at;

	b->rom = UINT64_MAX;
	if (!cfg->bios)
		return true;
	if (!cfg->bios_size || cfg->bios_size % ROM_ALIGN || cfg->bios_size > ROM_MAX) {
		error_set(err, "firmware of %zu bytes: must be a multiple of 64 KiB up to 16 MiB",
			  cfg->bios_size);
		return false;
	}
	at = memory_rom_alloc(mem, size);
	if (at == UINT64_MAX ||
	    !memory_add_ram(mem, 4 * GIB - size, size, at, MEMORY_ROM, 1, "rom")) {
		error_set(err, "firmware of %zu bytes: no room for it", cfg->bios_size);
		return false;
	}
	memset(memory_host(mem) + at, 0xff, size - cfg->bios_size);
	memcpy(memory_host(mem) + at + (size - cfg->bios_size), cfg->bios, cfg->bios_size);
	b->rom = at + size - ROM_LOW_SIZE;
	return true;
}

/* ---- CMOS ---- */

enum {
	CMOS_FLOPPY = 0x10, CMOS_EQUIPMENT = 0x14, CMOS_BASE_MEM = 0x15, CMOS_EXT_MEM = 0x17,
	CMOS_EXT_MEM2 = 0x30, CMOS_MEM_16M = 0x34, CMOS_BOOT2 = 0x38, CMOS_TRANSLATION = 0x39,
	CMOS_BOOT1 = 0x3d, CMOS_MEM_4G = 0x5b, CMOS_CPUS = 0x5f,
	EQUIP_FLOPPY = 1, EQUIP_FPU = 2, EQUIP_PS2_MOUSE = 4,
	TRANSLATE_LBA = 1,
};

static void cmos_word(struct board *b, uint8_t at, uint16_t v)
{
	mc146818_set_cmos(b->rtc, at, v);
	mc146818_set_cmos(b->rtc, at + 1, v >> 8);
}

static void cmos_memory(struct board *b)
{
	uint64_t low = board_low_ram(b), high = memory_ram_size(b->machine->memory) - low;
	uint64_t ext = (low - MIB) / KIB;
	uint64_t above_16m = low > 16 * MIB ? (low - 16 * MIB) / (64 * KIB) : 0;

	cmos_word(b, CMOS_BASE_MEM, 640);
	cmos_word(b, CMOS_EXT_MEM, MIN(ext, 0xffffull));
	cmos_word(b, CMOS_EXT_MEM2, MIN(ext, 0xffffull));
	cmos_word(b, CMOS_MEM_16M, MIN(above_16m, 0xffffull));
	high /= 64 * KIB;
	cmos_word(b, CMOS_MEM_4G, high);
	mc146818_set_cmos(b->rtc, CMOS_MEM_4G + 2, high >> 16);
}

static void cmos_drives(struct board *b, const struct board_config *cfg)
{
	uint8_t equipment = EQUIP_FPU | EQUIP_PS2_MOUSE, floppies = 0, translation = 0;
	uint8_t type[FDC_DRIVES] = {0};

	for (unsigned i = 0; b->fdc && i < FDC_DRIVES; i++) {
		type[i] = fdc_drive_type(b->fdc, i);
		floppies += type[i] != FDC_TYPE_NONE;
	}
	if (floppies)
		equipment |= EQUIP_FLOPPY | (floppies - 1) << 6;
	mc146818_set_cmos(b->rtc, CMOS_FLOPPY, type[0] << 4 | type[1]);
	mc146818_set_cmos(b->rtc, CMOS_EQUIPMENT, equipment);
	/* Disks beyond what 1024 cylinders of 16 heads and 63 sectors hold. */
	for (unsigned i = 0; i < IDE_DRIVES; i++) {
		if (cfg->ide[i] && !cfg->ide_cd[i] && block_sectors(cfg->ide[i]) > 1024 * 16 * 63)
			translation |= TRANSLATE_LBA << i * 2;
	}
	mc146818_set_cmos(b->rtc, CMOS_TRANSLATION, translation);
}

/* Boot devices are nibbles: 1 floppy, 2 disk, 3 CD, 4 network. */
static bool cmos_boot_order(struct board *b, const char *order, struct error *err)
{
	static const char letters[] = "acdn";
	uint8_t code[3] = {0};
	size_t len;

	if (!order)
		order = "cad";
	len = strlen(order);
	if (!len || len > 3 || strspn(order, letters) != len) {
		error_set(err, "-boot %s: must be one to three of the letters a (floppy), c (disk), "
			       "d (CD), n (network)",
			  order);
		return false;
	}
	for (size_t i = 0; i < len; i++)
		code[i] = strchr(letters, order[i]) - letters + 1;
	mc146818_set_cmos(b->rtc, CMOS_BOOT1, code[1] << 4 | code[0]);
	/* Bit 0: a floppy need not end in 55 aa; old ones do not. */
	mc146818_set_cmos(b->rtc, CMOS_BOOT2, code[2] << 4 | 1);
	return true;
}

/* ---- fw_cfg ---- */

static bool offer_memory(struct board *b, struct error *err)
{
	uint64_t ram = memory_ram_size(b->machine->memory), low = board_low_ram(b);
	struct { uint64_t start, size; uint32_t type; } __attribute__((packed)) map[] = {
		{0, low, 1},
		{4 * GIB, ram - low, 1},
	};

	return fw_cfg_add(b->fw_cfg, FW_CFG_RAM_SIZE, &ram, sizeof(ram), err) &&
	       fw_cfg_add_file(b->fw_cfg, "etc/e820", map,
			       sizeof(map[0]) * (ram > low ? 2 : 1), err);
}

static bool offer_rest(struct board *b, const struct board_config *cfg, struct error *err)
{
	/* Bit 7: the sleep state exists. S0 (running) and S5 (off) do. */
	static const uint8_t states[6] = {0x80, 0, 0, 0, 0, 0x80};
	static const uint8_t uuid[16];
	uint16_t one = 1, zero = 0, menu = cfg->boot_menu, nographic = cfg->no_vga;
	uint64_t numa = 0;
	struct fw_cfg *f = b->fw_cfg;

	return fw_cfg_add(f, FW_CFG_UUID, uuid, sizeof(uuid), err) &&
	       fw_cfg_add(f, FW_CFG_NB_CPUS, &one, sizeof(one), err) &&
	       fw_cfg_add(f, FW_CFG_MAX_CPUS, &one, sizeof(one), err) &&
	       fw_cfg_add(f, FW_CFG_NOGRAPHIC, &nographic, sizeof(nographic), err) &&
	       fw_cfg_add(f, FW_CFG_BOOT_MENU, &menu, sizeof(menu), err) &&
	       fw_cfg_add(f, FW_CFG_BOOT_DEVICE, &zero, sizeof(zero), err) &&
	       fw_cfg_add(f, FW_CFG_NUMA, &numa, sizeof(numa), err) &&
	       fw_cfg_add_file(f, "etc/system-states", states, sizeof(states), err);
}

/* Where SeaBIOS lets PCI memory begin: the next of these above low RAM. */
static uint32_t pci_hole(const struct board *b)
{
	uint64_t low = board_low_ram(b);

	return low <= 2 * GIB ? 0x80000000 : low <= 3 * GIB ? 0xc0000000 : BOARD_PCI_HOLE;
}

static bool make_acpi(struct board *b, const struct board_config *cfg, struct error *err)
{
	struct acpi_board ab = {
		.pm_base = BOARD_PM_BASE, .smb_base = BOARD_SMB_BASE, .gpe_base = BOARD_GPE_BASE,
		.pci_memory = pci_hole(b), .sci = BOARD_SCI, .pirq_line = {10, 10, 11, 11},
		.i8042 = b->i8042, .serials = 2,
	};

	if (cfg->no_acpi)
		return true;
	/* The last one in the ROM area: what others have there stays where it is. */
	b->generation = vmgenid_create(b->machine, BOARD_GENERATION_ID, err);
	if (!b->generation)
		return false;
	ab.generation_id = BOARD_GENERATION_ID;
	for (unsigned i = 2; i < BOARD_SERIALS && cfg->serial[i]; i++)
		ab.serials = i + 1;
	for (unsigned i = 0; i < FDC_DRIVES; i++)
		ab.fdc |= b->fdc && fdc_drive_type(b->fdc, i) != FDC_TYPE_NONE;
	if (!acpi_tables_build(&b->acpi, &ab) || b->acpi.size > ACPI_ROOM) {
		error_set(err, "ACPI tables: out of memory");
		return false;
	}
	return acpi_tables_offer(&b->acpi, b->fw_cfg, err);
}

uint64_t board_acpi_rsdp(const struct board *b)
{
	return b->acpi.data ? ACPI_RSDP : 0;
}

void board_acpi_install(struct board *b)
{
	uint8_t rsdp[ACPI_RSDP_SIZE], *out;

	if (!b->acpi.data)
		return;
	out = malloc(b->acpi.size);
	if (!out)
		return; /* no tables: the guest does without */
	acpi_tables_place(&b->acpi, ACPI_PLACE, out, rsdp);
	memory_write_bytes(b->machine->memory, ACPI_RSDP, rsdp, sizeof(rsdp));
	memory_write_bytes(b->machine->memory, ACPI_PLACE, out, b->acpi.size);
	free(out);
}

/* ---- accessors ---- */

struct pci_bus *board_pci(struct board *b)
{
	return b->pci;
}

struct fw_cfg *board_fw_cfg(struct board *b)
{
	return b->fw_cfg;
}

struct device *board_ide(struct board *b)
{
	return b->ide;
}

struct device *board_fdc(struct board *b)
{
	return b->fdc;
}

struct device *board_i8042(struct board *b)
{
	return b->i8042;
}

struct device *board_vga(struct board *b)
{
	return b->vga;
}

bool board_new_generation(struct board *b)
{
	if (!b->generation)
		return true;
	if (!vmgenid_renew(b->generation))
		return false;
	piix4_pm_event(b->pm, BOARD_GPE_GENERATION);
	return true;
}

void board_clock_from_host(struct board *b, int64_t saved_utc)
{
	const int64_t quarter = 15 * 60 * NS_PER_S, zone_max = 15 * 60 * 60 * NS_PER_S;
	int64_t off;

	if (!saved_utc || __builtin_sub_overflow(mc146818_time(b->rtc), saved_utc, &off) ||
	    off > zone_max || off < -zone_max)
		off = 0; /* no time zone is that far away: it was wrong */
	off = (off + (off < 0 ? -quarter : quarter) / 2) / quarter * quarter;
	mc146818_set_time(b->rtc, mc146818_host_time() + off);
}

void board_power_button(struct board *b)
{
	piix4_pm_power_button(b->pm);
}

/* ---- putting it together ---- */

static void board_destroy(struct device *dev)
{
	struct board *b = container_of(dev, struct board, base);

	acpi_tables_finish(&b->acpi);
	if (b->machine->cpu && b->machine->cpu->ferr_opaque == b)
		b->machine->cpu->ferr = NULL;
	free(b);
}

static void board_reset(struct device *dev)
{
	set_isa(container_of(dev, struct board, base), IRQ_FERR, false);
}

static const struct state_field board_fields[] = {
	STATE_UINT(struct board, isa),
	STATE_UINT(struct board, pirq),
	STATE_END,
};

static const struct device_ops board_ops = {
	.name = "board",
	.reset = board_reset,
	.destroy = board_destroy,
	.fields = board_fields, .size = sizeof(struct board),
};

static bool make_chipset(struct board *b, struct error *err)
{
	struct machine *m = b->machine;
	struct irq_line timer = board_isa_irq(b, IRQ_TIMER), rtc = board_isa_irq(b, 8);
	struct irq_line sci = board_isa_irq(b, BOARD_SCI);

	b->pci = pci_bus_create(m, err);
	if (!b->pci || !i440fx_create(m, b->pci, b->rom, err))
		return false;
	b->pic = i8259_create(m, err);
	b->lapic = b->pic ? lapic_create(m, err) : NULL;
	b->ioapic = b->lapic ? ioapic_create(m, b->lapic, err) : NULL;
	if (!b->ioapic)
		return false;
	lapic_set_pic(b->lapic, pic_acknowledge, b->pic);
	i8259_set_output(b->pic, lapic_set_extint, b->lapic);
	if (!piix3_create(m, b->pci, set_pirqs, b, err))
		return false;
	b->pit = i8254_create(m, &timer, err);
	b->rtc = b->pit ? mc146818_create(m, &rtc, err) : NULL;
	b->pm = b->rtc ? piix4_pm_create(m, b->pci, &sci, BOARD_GPE_BASE, err) : NULL;
	if (!b->pm)
		return false;
	i8254_set_pending(b->pit, tick_pending, b);
	ioport_add(m->io, PORT_FERR, 1, &ferr_ports, b, "ferr");
	m->cpu->ferr = ferr;
	m->cpu->ferr_opaque = b;
	return true;
}

static bool make_drives(struct board *b, struct board_config *cfg, struct error *err)
{
	struct machine *m = b->machine;
	const struct irq_line irq[2] = {board_isa_irq(b, 14), board_isa_irq(b, 15)};

	b->dma = i8237_create(m, err);
	if (!b->dma)
		return false;
	b->fdc = fdc_create(m, board_isa_irq(b, 6), b->dma, cfg->floppy, cfg->floppy_present, err);
	if (!b->fdc)
		return false;
	memset(cfg->floppy, 0, sizeof(cfg->floppy));
	cmos_drives(b, cfg);
	b->ide = piix3_ide_create(m, b->pci, irq, cfg->ide, cfg->ide_cd, err);
	if (!b->ide)
		return false;
	memset(cfg->ide, 0, sizeof(cfg->ide));
	return true;
}

static bool make_ports(struct board *b, const struct board_config *cfg, struct error *err)
{
	static const struct { uint16_t port; uint8_t irq; } com[BOARD_SERIALS] = {
		{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3},
	};
	struct machine *m = b->machine;
	struct irq_line irq1 = board_isa_irq(b, 1), irq12 = board_isa_irq(b, 12);

	b->i8042 = i8042_create(m, &irq1, &irq12, err);
	if (!b->i8042)
		return false;
	for (unsigned i = 0; i < BOARD_SERIALS; i++) {
		struct irq_line irq = board_isa_irq(b, com[i].irq);

		if (i >= 2 && !cfg->serial[i])
			continue;
		if (!serial_create(m, com[i].port, &irq, cfg->serial[i], err))
			return false;
	}
	if (!debugcon_create(m, PORT_DEBUGCON, cfg->debugcon, err) || !vmport_create(m, err))
		return false;
	if (cfg->firmware_log && !debugcon_create(m, PORT_FIRMWARE_LOG, cfg->firmware_log, err))
		return false;
	return !cfg->debug_exit_port || debug_exit_create(m, cfg->debug_exit_port, err);
}

static bool make_nics(struct board *b, const struct board_config *cfg, struct error *err)
{
	enum { NE2K_IOBASE = 0x300, NE2K_IRQ = 5 };

	for (unsigned i = 0; i < BOARD_NICS; i++) {
		const struct board_nic *nic = &cfg->nic[i];
		struct ne2000_config nc = {
			.port = nic->port, .slot = nic->slot,
			.rom = nic->rom, .rom_size = nic->rom_size, .rom_blank = nic->rom_blank,
			.iobase = nic->iobase ? nic->iobase : NE2K_IOBASE,
			.irq = nic->irq ? nic->irq : NE2K_IRQ,
		};

		memcpy(nc.mac, nic->mac, sizeof(nc.mac));
		if (nc.irq == 2)
			nc.irq = 9; /* where the AT brings the slot's IRQ 2 */
		nc.irq_line = board_isa_irq(b, nc.irq);
		if (nic->model == BOARD_NIC_NE2K_PCI && !ne2k_pci_create(b->machine, b->pci, &nc, err))
			return false;
		if (nic->model == BOARD_NIC_NE2K_ISA && !ne2k_isa_create(b->machine, &nc, err))
			return false;
	}
	return true;
}

static bool make_all(struct board *b, struct board_config *cfg, struct error *err)
{
	struct machine *m = b->machine;

	if (!map_ram(b, err) || !map_rom(b, cfg, err) || !make_chipset(b, err))
		return false;
	b->fw_cfg = fw_cfg_create(m, err);
	if (!b->fw_cfg || !make_ports(b, cfg, err))
		return false;
	if (!cfg->no_vga) {
		b->vga = vga_create(m, b->pci, cfg->vga_rom, cfg->vga_rom_size, err);
		if (!b->vga)
			return false;
	}
	if (!make_drives(b, cfg, err) || !make_nics(b, cfg, err))
		return false;
	cmos_memory(b);
	return cmos_boot_order(b, cfg->boot_order, err) && offer_memory(b, err) &&
	       offer_rest(b, cfg, err) && make_acpi(b, cfg, err);
}

struct board *board_create(struct machine *m, struct board_config *cfg, struct error *err)
{
	struct board *b = calloc(1, sizeof(*b));
	bool ok;

	if (!b) {
		error_set(err, "out of memory for the board");
		return NULL;
	}
	b->base.ops = &board_ops;
	b->machine = m;
	/* The machine's first device, so that it goes last: all others drive its lines. */
	machine_add(m, &b->base);
	memory_begin(m->memory);
	ok = make_all(b, cfg, err);
	memory_commit(m->memory);
	return ok ? b : NULL;
}
