/* The ACPI tables of the board. */
#ifndef GANNET_DEVICES_ACPI_TABLES_H
#define GANNET_DEVICES_ACPI_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/fw_cfg.h"

enum { ACPI_RSDP_SIZE = 20, ACPI_POINTERS = 8, ACPI_TABLES = 6 };

/* A 32-bit field that holds an offset into the tables until they have a place. */
struct acpi_pointer {
	bool in_rsdp;    /* the field is in the RSDP, not in the tables */
	uint32_t offset;
};

struct acpi_tables {
	uint8_t *data;   /* FACS first: aligned to 64 bytes if the whole is; owned */
	size_t size;
	uint8_t rsdp[ACPI_RSDP_SIZE];
	struct acpi_pointer pointer[ACPI_POINTERS];
	unsigned pointers;
	uint32_t table[ACPI_TABLES], table_size[ACPI_TABLES]; /* those with a checksum at 9 */
	unsigned tables;
};

struct acpi_board {
	uint16_t pm_base, smb_base, gpe_base;
	uint32_t pci_memory;  /* where the hole for PCI memory begins */
	uint8_t sci;
	uint8_t pirq_line[4]; /* GSI of PIRQA-D */
	bool fdc, i8042;
	unsigned serials;     /* COM1..n */
	uint32_t generation_id; /* where the 16 bytes of vmgenid.h are; 0: nowhere */
};

/** acpi_tables_build - RSDP, RSDT, FADT, FACS, DSDT, MADT; false if out of memory */
bool acpi_tables_build(struct acpi_tables *t, const struct acpi_board *b);
void acpi_tables_finish(struct acpi_tables *t);

/** acpi_tables_place - resolve pointers for tables at @paddr (a multiple of 64) and
 *  write checksums into a copy at @out (t->size bytes) and @rsdp */
void acpi_tables_place(const struct acpi_tables *t, uint32_t paddr, uint8_t *out,
		       uint8_t rsdp[ACPI_RSDP_SIZE]);

/** acpi_tables_offer - hand them to firmware as files with a loader script */
bool acpi_tables_offer(const struct acpi_tables *t, struct fw_cfg *f, struct error *err);

#endif
