/* The board as firmware leaves it, for kernels that start without any.
 *
 * A kernel may rely on what every BIOS has done: PCI devices have addresses
 * and interrupt lines, the south bridge routes them, power management registers
 * are where the ACPI tables say, IDE channels decode, the shadow RAM at 0xe0000
 * is open, interrupt controllers and timer are initialised, the screen is in
 * text mode. Everything is done through the chips' own registers, as a BIOS
 * does it, so that no device needs to know of direct boot.
 *
 * Intel 82441FX, 82371SB (PIIX3) and 82371AB (PIIX4) datasheets; IBM VGA
 * register tables for mode 3; IBM PC/AT BIOS data area.
 */
#include <string.h>

#include "core/ioport.h"
#include "core/memory.h"
#include "core/util.h"
#include "devices/board.h"
#include "devices/boot_priv.h"
#include "devices/pci.h"

enum {
	I440FX_PAM0 = 0x59, I440FX_PAM6 = 0x5f,
	PAM_RAM = 0x33,       /* both halves: reads and writes go to RAM */
	PIIX3_PIRQRC = 0x60,  /* to 0x63: IRQ of PIRQA-D */
	PIIX3_IDETIM = 0x40,  /* primary; secondary at 0x42 */
	IDETIM_DECODE = 1 << 15,
	PIIX4_PMBA = 0x40, PIIX4_PMREGMISC = 0x80, PIIX4_SMBBA = 0x90, PIIX4_SMBHSTCFG = 0xd2,
	ELCR = 0x4d0,
};

static void out(struct machine *m, uint16_t port, uint8_t value)
{
	ioport_write(m->io, port, value, 1);
}

static void setup_chipset(struct machine *m, struct pci_bus *pci)
{
	static const uint8_t pirq_line[PCI_PIRQS] = { 10, 10, 11, 11 };
	uint16_t level = 0;

	for (unsigned reg = I440FX_PAM0; reg <= I440FX_PAM6; reg++)
		pci_config_write(pci, PCI_DEVFN(0, 0), reg, PAM_RAM, 1);

	for (unsigned i = 0; i < PCI_PIRQS; i++) {
		pci_config_write(pci, PCI_DEVFN(1, 0), PIIX3_PIRQRC + i, pirq_line[i], 1);
		level |= 1u << pirq_line[i];
	}
	out(m, ELCR, level & 0xff);
	out(m, ELCR + 1, level >> 8);

	pci_config_write(pci, PCI_DEVFN(1, 1), PIIX3_IDETIM, IDETIM_DECODE, 2);
	pci_config_write(pci, PCI_DEVFN(1, 1), PIIX3_IDETIM + 2, IDETIM_DECODE, 2);

	pci_bus_assign(pci, pirq_line);

	pci_config_write(pci, PCI_DEVFN(1, 3), PIIX4_PMBA, BOARD_PM_BASE | 1, 4);
	pci_config_write(pci, PCI_DEVFN(1, 3), PIIX4_PMREGMISC, 1, 1);
	pci_config_write(pci, PCI_DEVFN(1, 3), PIIX4_SMBBA, BOARD_SMB_BASE | 1, 4);
	pci_config_write(pci, PCI_DEVFN(1, 3), PIIX4_SMBHSTCFG, 0x09, 1);
	pci_config_write(pci, PCI_DEVFN(1, 3), PCI_INTERRUPT_LINE, 9, 1);
}

/* 8259s at vectors 8 and 0x70 with everything masked, timer 0 at 18.2 Hz. */
static void setup_interrupts(struct machine *m)
{
	static const struct { uint16_t port; uint8_t value; } script[] = {
		{ 0x20, 0x11 }, { 0x21, 0x08 }, { 0x21, 0x04 }, { 0x21, 0x01 }, { 0x21, 0xff },
		{ 0xa0, 0x11 }, { 0xa1, 0x70 }, { 0xa1, 0x02 }, { 0xa1, 0x01 }, { 0xa1, 0xff },
		{ 0x43, 0x36 }, { 0x40, 0x00 }, { 0x40, 0x00 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(script); i++)
		out(m, script[i].port, script[i].value);
}

/* Mode 3: 80x25 text at 0xb8000. The font is the board's: without a video BIOS
 * only front ends that show characters, not pixels, have something to show. */
static void setup_text_mode(struct machine *m)
{
	static const uint8_t seq[] = { 0x03, 0x00, 0x03, 0x00, 0x02 };
	static const uint8_t crtc[] = {
		0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e,
		0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
	};
	static const uint8_t gfx[] = { 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x00, 0xff };
	static const uint8_t attr[] = {
		0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b,
		0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00,
	};

	out(m, 0x3c2, 0x67);
	for (unsigned i = 0; i < sizeof(seq); i++) {
		out(m, 0x3c4, i);
		out(m, 0x3c5, seq[i]);
	}
	out(m, 0x3d4, 0x11); /* lift the write protection of registers 0-7 */
	out(m, 0x3d5, 0x0e);
	for (unsigned i = 0; i < sizeof(crtc); i++) {
		out(m, 0x3d4, i);
		out(m, 0x3d5, crtc[i]);
	}
	for (unsigned i = 0; i < sizeof(gfx); i++) {
		out(m, 0x3ce, i);
		out(m, 0x3cf, gfx[i]);
	}
	ioport_read(m->io, 0x3da, 1); /* the next write to 0x3c0 is an index */
	for (unsigned i = 0; i < sizeof(attr); i++) {
		out(m, 0x3c0, i);
		out(m, 0x3c0, attr[i]);
	}
	out(m, 0x3c0, 0x20); /* the picture on */
	/* 64 colours: bits 0-2 two thirds, bits 3-5 one third of blue, green, red. */
	out(m, 0x3c6, 0xff);
	out(m, 0x3c8, 0);
	for (unsigned i = 0; i < 64; i++) {
		for (int bit = 2; bit >= 0; bit--)
			out(m, 0x3c9, (i >> bit & 1) * 42 + (i >> (bit + 3) & 1) * 21);
	}
	for (unsigned i = 0; i < 80 * 25; i++)
		memory_write(m->memory, 0xb8000 + i * 2, 0x0720, 2);
}

/* Vectors that go nowhere, and the data area's few words that kernels read. */
static void setup_low_memory(struct machine *m)
{
	uint8_t page[GUEST_PAGE_SIZE] = { 0 };

	store_le16(page + 0x400, 0x3f8);
	store_le16(page + 0x402, 0x2f8);
	store_le16(page + 0x40e, BOOT_EBDA >> 4);
	store_le16(page + 0x410, 0x0022 | 2 << 9); /* 80x25 colour, FPU, two serial ports */
	store_le16(page + 0x413, BOOT_EBDA / 1024);
	page[0x449] = 3;                      /* video mode */
	store_le16(page + 0x44a, 80);
	store_le16(page + 0x463, 0x3d4);
	page[0x484] = 24;                     /* rows less one */
	store_le16(page + 0x485, 16);
	memory_write_bytes(m->memory, 0, page, sizeof(page));
	memset(page, 0, sizeof(page));
	page[0] = 1;                          /* EBDA: its size in KiB */
	memory_write_bytes(m->memory, BOOT_EBDA, page, 1024);
}

void boot_firmware_setup(struct machine *m, struct board *board)
{
	memory_set_a20(m->memory, true);
	setup_chipset(m, board_pci(board));
	setup_interrupts(m);
	setup_text_mode(m);
	setup_low_memory(m);
	board_acpi_install(board);
}
