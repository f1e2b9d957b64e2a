/* The PC: an i440FX/PIIX3 board with everything that is soldered to it. */
#ifndef GANNET_DEVICES_BOARD_H
#define GANNET_DEVICES_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/block.h"
#include "core/chardev.h"
#include "core/machine.h"
#include "core/net.h"
#include "devices/fdc.h"
#include "devices/fw_cfg.h"
#include "devices/pci.h"
#include "devices/piix3_ide.h"

/* Where firmware (and direct boot in its stead) puts what has a programmable
 * address; the ACPI tables say the same. */
enum {
	BOARD_PM_BASE = 0x600,
	BOARD_SMB_BASE = 0x700,
	BOARD_GPE_BASE = 0xafe0,
	BOARD_SCI = 9,
	BOARD_GPE_GENERATION = 0, /* the event that tells of a new generation ID */
};

/* A page of the ROM area between the APICs and firmware, where nothing else is. */
#define BOARD_GENERATION_ID 0xfef00000u

#define BOARD_PCI_HOLE 0xe0000000ull /* RAM below it, the rest from 4 GiB on */

enum { BOARD_SERIALS = 4, BOARD_NICS = 8 };

enum board_nic_model { BOARD_NIC_NONE, BOARD_NIC_NE2K_PCI, BOARD_NIC_NE2K_ISA };

/* A network card; see devices/ne2000.h. */
struct board_nic {
	enum board_nic_model model;
	struct net_port *port;     /* borrowed */
	uint8_t mac[NET_MAC_SIZE];
	int slot;                  /* PCI; -1: the first free one from 5 on */
	const void *rom;           /* PCI option ROM; copied; NULL: none */
	size_t rom_size;
	bool rom_blank;            /* its content comes from a state image: do not look */
	uint16_t iobase;           /* ISA; 0: 0x300 */
	uint8_t irq;               /* ISA; 0: 5 */
};

struct board;

/* Zeroed: a machine without firmware, disks or serial peers. */
struct board_config {
	const void *bios;    /* the firmware: a multiple of 64 KiB up to 16 MiB; NULL: none */
	size_t bios_size;
	bool no_vga;
	const void *vga_rom; /* video BIOS; NULL: none */
	size_t vga_rom_size;
	/* Disks: each is set to NULL here when a device has taken it over; what is
	 * left after a failure is still the caller's. */
	struct block *ide[IDE_DRIVES];
	bool ide_cd[IDE_DRIVES];
	struct block *floppy[FDC_DRIVES];
	bool floppy_present[FDC_DRIVES];  /* an empty drive */
	struct chardev *serial[BOARD_SERIALS]; /* COM1-4, borrowed; the first two always exist */
	struct chardev *debugcon;      /* port 0xe9; borrowed, NULL: output discarded */
	struct chardev *firmware_log;  /* port 0x402, where SeaBIOS logs; NULL: no such port */
	uint16_t debug_exit_port;      /* isa-debug-exit; 0: none */
	const char *boot_order;        /* a (floppy), c (disk), d (CD), n (network); NULL: "cad" */
	bool boot_menu;                /* firmware waits for ESC */
	bool no_acpi;                  /* no ACPI tables for the guest */
	struct board_nic nic[BOARD_NICS];
};

/** board_create - make all devices of a machine that has none; @m owns the board */
struct board *board_create(struct machine *m, struct board_config *cfg, struct error *err);

struct pci_bus *board_pci(struct board *b);
struct fw_cfg *board_fw_cfg(struct board *b);
/** board_isa_irq - the line of ISA interrupt @n (0-15) */
struct irq_line board_isa_irq(struct board *b, int n);
/** board_low_ram - bytes of RAM below the PCI hole */
uint64_t board_low_ram(const struct board *b);

/* Devices that front ends talk to; NULL where there is none. */
struct device *board_ide(struct board *b);
struct device *board_fdc(struct board *b);
struct device *board_i8042(struct board *b);
struct device *board_vga(struct board *b);

/** board_new_generation - the machine is a copy of what it was: another generation ID
 *  (vmgenid.h), and the guest is told. False if the host has no entropy. */
bool board_new_generation(struct board *b);
/**
 * board_clock_from_host - the RTC shows the host's time, after a machine was restored
 * @saved_utc: the host's time when it was saved, ns since 1970; a clock that was off by a
 *             time zone then (whole quarters of an hour) is again; 0: not known, UTC
 */
void board_clock_from_host(struct board *b, int64_t saved_utc);

/** board_power_button - as if pressed: the guest's ACPI gets an event */
void board_power_button(struct board *b);

/** board_acpi_rsdp - where board_acpi_install() puts the root pointer; 0: no tables */
uint64_t board_acpi_rsdp(const struct board *b);
/** board_acpi_install - write the tables into the BIOS area (shadow RAM must be
 *  writable), for boots without firmware */
void board_acpi_install(struct board *b);

#endif
