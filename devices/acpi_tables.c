/* See acpi_tables.h.
 *
 * The tables are made once, with offsets where addresses belong. Direct boot
 * places them itself; firmware gets the same bytes with a script that says what
 * to allocate, which fields to relocate and what to sum.
 *
 * PCI interrupts are hard wired to the inputs firmware routes PIRQA-D to, in
 * both interrupt models, so that there is no link device to program and no AML
 * method to run but that of an event. SLP_TYP of S5 is 0, as the PIIX4 has it.
 *
 * Sources: ACPI 1.0b and 3.0 (5.2 tables; 18 AML encoding; 6.4 resources);
 * 82371AB (PIIX4) datasheet; fw_cfg "etc/table-loader" of the QEMU documentation.
 */
#include "devices/acpi_tables.h"

#include <stdlib.h>
#include <string.h>

#include "core/util.h"
#include "devices/ioapic.h"

#define OEM_ID "GANNET"
#define OEM_TABLE_ID "GANNETPC"
#define PCI_MEMORY_END 0xfebfffffu

enum { HEADER_SIZE = 36, HEADER_LENGTH = 4, HEADER_CHECKSUM = 9, FACS_SIZE = 64 };
enum { RSDP_CHECKSUM = 8, RSDP_RSDT = 16 };

/* ---- a growing buffer; sticky error ---- */

struct buf {
	uint8_t *data;
	size_t len, max;
	bool failed;
};

static void put(struct buf *b, const void *data, size_t len)
{
	if (b->failed)
		return;
	if (b->len + len > b->max) {
		size_t max = 2 * (b->len + len) + 256;
		void *p = realloc(b->data, max);

		if (!p) {
			b->failed = true;
			return;
		}
		b->data = p;
		b->max = max;
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void put8(struct buf *b, uint8_t v)
{
	put(b, &v, 1);
}

static void put16(struct buf *b, uint16_t v)
{
	put(b, &v, 2);
}

static void put32(struct buf *b, uint32_t v)
{
	put(b, &v, 4);
}

static void put_zeros(struct buf *b, size_t n)
{
	while (n--)
		put8(b, 0);
}

/* ---- AML ---- */

enum {
	AML_NAME = 0x08, AML_BYTE = 0x0a, AML_WORD = 0x0b, AML_DWORD = 0x0c, AML_STRING = 0x0d,
	AML_SCOPE = 0x10, AML_BUFFER = 0x11, AML_PACKAGE = 0x12, AML_METHOD = 0x14,
	AML_DUAL_NAME = 0x2e, AML_EXT = 0x5b, AML_NOTIFY = 0x86,
	AML_EXT_DEVICE = 0x82, AML_EXT_PROCESSOR = 0x83,
};

static void aml_integer(struct buf *b, uint32_t v)
{
	if (v <= 1) {
		put8(b, v); /* ZeroOp, OneOp */
	} else if (v <= 0xff) {
		put8(b, AML_BYTE);
		put8(b, v);
	} else if (v <= 0xffff) {
		put8(b, AML_WORD);
		put16(b, v);
	} else {
		put8(b, AML_DWORD);
		put32(b, v);
	}
}

/* Packages are written without their length, which aml_end() puts in front. */
static size_t aml_begin(struct buf *b)
{
	return b->len;
}

static void aml_end(struct buf *b, size_t start)
{
	size_t body = b->len - start, n = body + 1 < 0x40 ? 1 : body + 2 < 0x1000 ? 2 : 3;
	size_t total = body + n;
	uint8_t enc[3];

	put_zeros(b, n);
	if (b->failed)
		return;
	if (n == 1) {
		enc[0] = total;
	} else {
		enc[0] = (n - 1) << 6 | (total & 15);
		enc[1] = total >> 4;
		enc[2] = total >> 12;
	}
	memmove(b->data + start + n, b->data + start, body);
	memcpy(b->data + start, enc, n);
}

static void aml_name(struct buf *b, const char *name)
{
	put8(b, AML_NAME);
	put(b, name, 4);
}

static void aml_name_integer(struct buf *b, const char *name, uint32_t v)
{
	aml_name(b, name);
	aml_integer(b, v);
}

static size_t aml_scope(struct buf *b, const char *path)
{
	size_t at;

	put8(b, AML_SCOPE);
	at = aml_begin(b);
	put(b, path, strlen(path));
	return at;
}

static size_t aml_device(struct buf *b, const char *name)
{
	size_t at;

	put8(b, AML_EXT);
	put8(b, AML_EXT_DEVICE);
	at = aml_begin(b);
	put(b, name, 4);
	return at;
}

static unsigned hex_digit(char c)
{
	return c <= '9' ? c - '0' : c - 'A' + 10;
}

/* "PNP0A03" as the compressed EISA id: big-endian bits in a DWORD. */
static void aml_hid(struct buf *b, const char *id)
{
	uint32_t v = (uint32_t)(id[0] - '@') << 26 | (id[1] - '@') << 21 | (id[2] - '@') << 16 |
		     hex_digit(id[3]) << 12 | hex_digit(id[4]) << 8 | hex_digit(id[5]) << 4 |
		     hex_digit(id[6]);

	aml_name(b, "_HID");
	put8(b, AML_DWORD);
	put32(b, __builtin_bswap32(v));
}

/* ---- resources: _CRS is a buffer of descriptors (ACPI 6.4) ---- */

static size_t crs_begin(struct buf *b, size_t *resources)
{
	size_t at;

	aml_name(b, "_CRS");
	put8(b, AML_BUFFER);
	at = aml_begin(b);
	put8(b, AML_WORD); /* the size, known at the end */
	put16(b, 0);
	*resources = b->len;
	return at;
}

static void crs_end(struct buf *b, size_t at, size_t resources)
{
	put8(b, 0x79); /* end tag, checksum not used */
	put8(b, 0);
	if (!b->failed)
		store_le16(b->data + resources - 2, b->len - resources);
	aml_end(b, at);
}

static void res_io(struct buf *b, uint16_t first, uint8_t count)
{
	put8(b, 0x47);
	put8(b, 1); /* 16-bit decode */
	put16(b, first);
	put16(b, first);
	put8(b, 1);
	put8(b, count);
}

static void res_irq(struct buf *b, unsigned n)
{
	put8(b, 0x22);
	put16(b, 1 << n);
}

static void res_dma(struct buf *b, unsigned n)
{
	put8(b, 0x2a);
	put8(b, 1 << n);
	put8(b, 0); /* compatibility, not a bus master, 8 bit */
}

enum { SPACE_MEMORY, SPACE_IO, SPACE_BUS };

/* Word address space, produced by the bridge, both ends fixed. */
static void res_word(struct buf *b, uint8_t type, uint16_t min, uint16_t max)
{
	put8(b, 0x88);
	put16(b, 13);
	put8(b, type);
	put8(b, 0x0c);
	put8(b, type == SPACE_IO ? 3 : 0); /* ISA and non-ISA ports */
	put16(b, 0);
	put16(b, min);
	put16(b, max);
	put16(b, 0);
	put16(b, max - min + 1);
}

static void res_memory(struct buf *b, uint32_t min, uint32_t max)
{
	put8(b, 0x87);
	put16(b, 23);
	put8(b, SPACE_MEMORY);
	put8(b, 0x0c);
	put8(b, 1); /* read-write, not cacheable */
	put32(b, 0);
	put32(b, min);
	put32(b, max);
	put32(b, 0);
	put32(b, max - min + 1);
}

/* ---- DSDT ---- */

/* _PRT: { slot << 16 | 0xffff, pin, 0, GSI } for each slot and pin. */
static void put_prt(struct buf *b, const struct acpi_board *board)
{
	enum { SLOTS = 32, PINS = 4 };
	size_t all, one;

	aml_name(b, "_PRT");
	put8(b, AML_PACKAGE);
	all = aml_begin(b);
	put8(b, SLOTS * PINS);
	for (unsigned slot = 0; slot < SLOTS; slot++) {
		for (unsigned pin = 0; pin < PINS; pin++) {
			/* The power management function's pin is the SCI. */
			bool sci = slot == 1 && pin == 0;

			put8(b, AML_PACKAGE);
			one = aml_begin(b);
			put8(b, 4);
			aml_integer(b, slot << 16 | 0xffff);
			aml_integer(b, pin);
			aml_integer(b, 0);
			aml_integer(b, sci ? board->sci : board->pirq_line[(slot - 1 + pin) & 3]);
			aml_end(b, one);
		}
	}
	aml_end(b, all);
}

static void put_root_resources(struct buf *b, uint32_t pci_memory)
{
	size_t res, at = crs_begin(b, &res);

	res_word(b, SPACE_BUS, 0, 0xff);
	res_io(b, 0xcf8, 8);
	res_word(b, SPACE_IO, 0, 0xcf7);
	res_word(b, SPACE_IO, 0xd00, 0xffff);
	res_memory(b, 0xa0000, 0xbffff);
	res_memory(b, pci_memory, PCI_MEMORY_END);
	crs_end(b, at, res);
}

/* Ports that belong to nothing a driver would claim. */
static void put_motherboard(struct buf *b, const struct acpi_board *board)
{
	size_t dev = aml_device(b, "MBRD"), res, at;

	aml_hid(b, "PNP0C02");
	at = crs_begin(b, &res);
	res_io(b, board->pm_base, 0x40);
	res_io(b, board->smb_base, 0x10);
	res_io(b, board->gpe_base, 4);
	res_io(b, 0x92, 1);
	res_io(b, 0xb2, 2);
	res_io(b, 0x4d0, 2);
	crs_end(b, at, res);
	aml_end(b, dev);
}

struct isa_device {
	const char *name, *hid;
	uint32_t uid;
	uint16_t io[2][2]; /* first port, count */
	uint8_t irq;       /* 0: none */
	int8_t dma;        /* -1: none */
};

static void put_isa_device(struct buf *b, const struct isa_device *d)
{
	size_t dev = aml_device(b, d->name), res, at;

	aml_hid(b, d->hid);
	aml_name_integer(b, "_UID", d->uid);
	aml_name_integer(b, "_STA", 15);
	at = crs_begin(b, &res);
	for (int i = 0; i < 2; i++) {
		if (d->io[i][1])
			res_io(b, d->io[i][0], d->io[i][1]);
	}
	if (d->irq)
		res_irq(b, d->irq);
	if (d->dma >= 0)
		res_dma(b, d->dma);
	crs_end(b, at, res);
	aml_end(b, dev);
}

static void put_isa(struct buf *b, const struct acpi_board *board)
{
	static const struct isa_device rtc = {"RTC_", "PNP0B00", 0, {{0x70, 2}}, 8, -1};
	static const struct isa_device kbd = {"KBD_", "PNP0303", 0, {{0x60, 1}, {0x64, 1}}, 1, -1};
	static const struct isa_device mouse = {"MOU_", "PNP0F13", 0, {{0}}, 12, -1};
	static const struct isa_device fdc = {"FDC0", "PNP0700", 0, {{0x3f2, 4}, {0x3f7, 1}}, 6, 2};
	static const struct isa_device serial[] = {
		{"COM1", "PNP0501", 1, {{0x3f8, 8}}, 4, -1},
		{"COM2", "PNP0501", 2, {{0x2f8, 8}}, 3, -1},
		{"COM3", "PNP0501", 3, {{0x3e8, 8}}, 4, -1},
		{"COM4", "PNP0501", 4, {{0x2e8, 8}}, 3, -1},
	};
	size_t dev = aml_device(b, "ISA_");

	aml_name_integer(b, "_ADR", 1 << 16);
	put_motherboard(b, board);
	put_isa_device(b, &rtc);
	if (board->i8042) {
		put_isa_device(b, &kbd);
		put_isa_device(b, &mouse);
	}
	if (board->fdc)
		put_isa_device(b, &fdc);
	for (unsigned i = 0; i < MIN(board->serials, ARRAY_SIZE(serial)); i++)
		put_isa_device(b, &serial[i]);
	aml_end(b, dev);
}

static void aml_string(struct buf *b, const char *text)
{
	put8(b, AML_STRING);
	put(b, text, strlen(text) + 1);
}

/* devices/vmgenid.h. Windows looks for the first id; ACPI does not allow one that long,
 * so that newer systems look for the second. An edge at GPE 0 says that it changed. */
static void put_generation_id(struct buf *b, uint32_t paddr)
{
	enum { CHANGED = 0x80, NO_ARGUMENTS = 0 };
	size_t at = aml_scope(b, "\\_SB_"), dev = aml_device(b, "VGEN"), pkg;

	aml_name(b, "_HID");
	aml_string(b, "GNNT0001");
	aml_name(b, "_CID");
	put8(b, AML_PACKAGE);
	pkg = aml_begin(b);
	put8(b, 2);
	aml_string(b, "VM_Gen_Counter");
	aml_string(b, "VMGENCTR");
	aml_end(b, pkg);
	aml_name(b, "_DDN");
	aml_string(b, "VM_Gen_Counter");
	aml_name(b, "ADDR");
	put8(b, AML_PACKAGE);
	pkg = aml_begin(b);
	put8(b, 2);
	aml_integer(b, paddr); /* the low half, the high half */
	aml_integer(b, 0);
	aml_end(b, pkg);
	aml_end(b, dev);
	aml_end(b, at);

	at = aml_scope(b, "\\_GPE");
	put8(b, AML_METHOD);
	dev = aml_begin(b);
	put(b, "_E00", 4);
	put8(b, NO_ARGUMENTS);
	put8(b, AML_NOTIFY);
	put8(b, '\\');
	put8(b, AML_DUAL_NAME);
	put(b, "_SB_VGEN", 8);
	aml_integer(b, CHANGED);
	aml_end(b, dev);
	aml_end(b, at);
}

static void put_dsdt(struct buf *b, const struct acpi_board *board)
{
	size_t at, dev, pkg;

	at = aml_scope(b, "\\_PR_");
	put8(b, AML_EXT);
	put8(b, AML_EXT_PROCESSOR);
	dev = aml_begin(b);
	put(b, "CPU0", 4);
	put8(b, 0);  /* processor id */
	put32(b, 0); /* no P_BLK */
	put8(b, 0);
	aml_end(b, dev);
	aml_end(b, at);

	at = aml_scope(b, "\\_SB_");
	dev = aml_device(b, "PCI0");
	aml_hid(b, "PNP0A03");
	aml_name_integer(b, "_UID", 0);
	put_root_resources(b, board->pci_memory);
	put_prt(b, board);
	put_isa(b, board);
	aml_end(b, dev);
	aml_end(b, at);

	if (board->generation_id)
		put_generation_id(b, board->generation_id);

	put8(b, AML_NAME);
	put(b, "\\_S5_", 5);
	put8(b, AML_PACKAGE);
	pkg = aml_begin(b);
	put8(b, 4);
	put_zeros(b, 4); /* SLP_TYPa, SLP_TYPb, reserved */
	aml_end(b, pkg);
}

/* ---- tables ---- */

static size_t table_begin(struct acpi_tables *t, struct buf *b, const char *signature,
			  uint8_t revision)
{
	size_t at;

	put_zeros(b, -b->len & 7);
	at = b->len;
	put(b, signature, 4);
	put32(b, 0);
	put8(b, revision);
	put8(b, 0);
	put(b, OEM_ID, 6);
	put(b, OEM_TABLE_ID, 8);
	put32(b, 1);
	put(b, "GNNT", 4);
	put32(b, 1);
	t->table[t->tables] = at;
	return at;
}

static void table_end(struct acpi_tables *t, struct buf *b, size_t at)
{
	if (b->failed)
		return;
	store_le32(b->data + at + HEADER_LENGTH, b->len - at);
	t->table_size[t->tables++] = b->len - at;
}

static void put_pointer(struct acpi_tables *t, struct buf *b, uint32_t to)
{
	t->pointer[t->pointers++] = (struct acpi_pointer){false, b->len};
	put32(b, to);
}

static void put_gas(struct buf *b, uint8_t bits, uint8_t access, uint32_t port)
{
	put8(b, 1); /* system I/O */
	put8(b, bits);
	put8(b, 0);
	put8(b, access);
	put32(b, port);
	put32(b, 0);
}

enum {
	FADT_WBINVD = 1 << 0,
	FADT_PROC_C1 = 1 << 2,
	FADT_SLP_BUTTON = 1 << 5, /* there is no fixed sleep button */
	FADT_FIX_RTC = 1 << 6,    /* the RTC's wake status is not in PM1 */
	FADT_RESET_REG = 1 << 10,
	BOOT_LEGACY = 1, BOOT_8042 = 2,
	PORT_SMI = 0xb2, ACPI_ENABLE = 0xf1, ACPI_DISABLE = 0xf0,
	PORT_RESET = 0xcf9, RESET_HARD = 6,
};

static size_t put_fadt(struct acpi_tables *t, struct buf *b, const struct acpi_board *board,
		       uint32_t facs, uint32_t dsdt)
{
	size_t at = table_begin(t, b, "FACP", 3);

	put_pointer(t, b, facs);
	put_pointer(t, b, dsdt);
	put8(b, 1); /* ACPI 1.0: multiple APIC model */
	put8(b, 0); /* no preferred power profile */
	put16(b, board->sci);
	put32(b, PORT_SMI);
	put8(b, ACPI_ENABLE);
	put8(b, ACPI_DISABLE);
	put16(b, 0);                   /* S4BIOS_REQ, PSTATE_CNT */
	put32(b, board->pm_base);      /* PM1a event */
	put32(b, 0);
	put32(b, board->pm_base + 4);  /* PM1a control */
	put32(b, 0);
	put32(b, 0);                   /* PM2 */
	put32(b, board->pm_base + 8);  /* timer */
	put32(b, board->gpe_base);     /* GPE0 */
	put32(b, 0);
	put8(b, 4);                    /* lengths: PM1 event, PM1 control, PM2, timer, */
	put8(b, 2);
	put8(b, 0);
	put8(b, 4);
	put8(b, 4);                    /* GPE0, GPE1, GPE1 base, C state command */
	put_zeros(b, 3);
	put16(b, 0xfff);               /* C2 and C3 take too long: there are none */
	put16(b, 0xfff);
	put_zeros(b, 8);               /* flush, duty, day and month alarm */
	put8(b, 0x32);                 /* century in the RTC */
	put16(b, BOOT_LEGACY | (board->i8042 ? BOOT_8042 : 0));
	put8(b, 0);
	put32(b, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_RESET_REG);
	put_gas(b, 8, 1, PORT_RESET);
	put8(b, RESET_HARD);
	put_zeros(b, 3);
	put_zeros(b, 16);              /* 64-bit FACS and DSDT: the 32-bit ones count */
	put_gas(b, 32, 2, board->pm_base);
	put_zeros(b, 12);
	put_gas(b, 16, 2, board->pm_base + 4);
	put_zeros(b, 12);
	put_zeros(b, 12);
	put_gas(b, 32, 3, board->pm_base + 8);
	put_gas(b, 32, 1, board->gpe_base);
	put_zeros(b, 12);
	table_end(t, b, at);
	return at;
}

static void put_override(struct buf *b, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	put8(b, 2);
	put8(b, 10);
	put8(b, 0); /* ISA */
	put8(b, irq);
	put32(b, gsi);
	put16(b, flags);
}

static size_t put_madt(struct acpi_tables *t, struct buf *b, const struct acpi_board *board)
{
	enum { LEVEL_HIGH = 0x0d };
	size_t at = table_begin(t, b, "APIC", 1);
	uint16_t level = 1 << board->sci;

	put32(b, 0xfee00000);
	put32(b, 1); /* there are 8259s too */
	put8(b, 0);  /* local APIC: processor 0, id 0, enabled */
	put8(b, 8);
	put16(b, 0);
	put32(b, 1);
	put8(b, 1);  /* I/O APIC: id 0, from input 0 on */
	put8(b, 12);
	put16(b, 0);
	put32(b, IOAPIC_ADDRESS);
	put32(b, 0);
	put_override(b, 0, 2, 0);
	for (int i = 0; i < 4; i++)
		level |= 1 << board->pirq_line[i];
	for (int n = 0; n < 16; n++) {
		if (level >> n & 1)
			put_override(b, n, n, LEVEL_HIGH);
	}
	put8(b, 4);  /* NMI at LINT1 of all processors */
	put8(b, 6);
	put8(b, 0xff);
	put16(b, 0);
	put8(b, 1);
	table_end(t, b, at);
	return at;
}

static void put_rsdt(struct acpi_tables *t, struct buf *b, uint32_t fadt, uint32_t madt)
{
	size_t at = table_begin(t, b, "RSDT", 1);

	put_pointer(t, b, fadt);
	put_pointer(t, b, madt);
	table_end(t, b, at);
	memcpy(t->rsdp, "RSD PTR ", 8);
	memcpy(t->rsdp + 9, OEM_ID, 6);
	store_le32(t->rsdp + RSDP_RSDT, at);
	t->pointer[t->pointers++] = (struct acpi_pointer){true, RSDP_RSDT};
}

bool acpi_tables_build(struct acpi_tables *t, const struct acpi_board *board)
{
	struct buf b = {0};
	size_t dsdt, fadt, madt;

	memset(t, 0, sizeof(*t));
	put(&b, "FACS", 4);
	put32(&b, FACS_SIZE);
	put_zeros(&b, FACS_SIZE - 8);
	dsdt = table_begin(t, &b, "DSDT", 1);
	put_dsdt(&b, board);
	table_end(t, &b, dsdt);
	fadt = put_fadt(t, &b, board, 0, dsdt);
	madt = put_madt(t, &b, board);
	put_rsdt(t, &b, fadt, madt);
	t->data = b.data;
	t->size = b.len;
	if (b.failed)
		acpi_tables_finish(t);
	return !b.failed;
}

void acpi_tables_finish(struct acpi_tables *t)
{
	free(t->data);
	memset(t, 0, sizeof(*t));
}

/* ---- placing them ---- */

static uint8_t checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return -sum;
}

void acpi_tables_place(const struct acpi_tables *t, uint32_t paddr, uint8_t *out,
		       uint8_t rsdp[ACPI_RSDP_SIZE])
{
	memcpy(out, t->data, t->size);
	memcpy(rsdp, t->rsdp, ACPI_RSDP_SIZE);
	for (unsigned i = 0; i < t->pointers; i++) {
		uint8_t *p = (t->pointer[i].in_rsdp ? rsdp : out) + t->pointer[i].offset;

		store_le32(p, load_le32(p) + paddr);
	}
	for (unsigned i = 0; i < t->tables; i++) {
		uint8_t *p = out + t->table[i];

		p[HEADER_CHECKSUM] = checksum(p, t->table_size[i]);
	}
	rsdp[RSDP_CHECKSUM] = checksum(rsdp, ACPI_RSDP_SIZE);
}

/* The loader script: records of 128 bytes. */
enum { LOADER_ALLOCATE = 1, LOADER_ADD_POINTER, LOADER_ADD_CHECKSUM };
enum { LOADER_HIGH = 1, LOADER_FSEG = 2 };
enum { LOADER_NAME = 56, LOADER_RECORD = 128 };

static const char file_tables[LOADER_NAME] = "etc/acpi/tables";
static const char file_rsdp[LOADER_NAME] = "etc/acpi/rsdp";

static void record_end(struct buf *b)
{
	put_zeros(b, -b->len & (LOADER_RECORD - 1));
}

static void put_allocate(struct buf *b, const char *file, uint32_t align, uint8_t zone)
{
	put32(b, LOADER_ALLOCATE);
	put(b, file, LOADER_NAME);
	put32(b, align);
	put8(b, zone);
	record_end(b);
}

static void put_checksum(struct buf *b, const char *file, uint32_t at, uint32_t start,
			 uint32_t len)
{
	put32(b, LOADER_ADD_CHECKSUM);
	put(b, file, LOADER_NAME);
	put32(b, at);
	put32(b, start);
	put32(b, len);
	record_end(b);
}

bool acpi_tables_offer(const struct acpi_tables *t, struct fw_cfg *f, struct error *err)
{
	struct buf b = {0};
	bool ok;

	put_allocate(&b, file_rsdp, 16, LOADER_FSEG);
	put_allocate(&b, file_tables, 64, LOADER_HIGH);
	for (unsigned i = 0; i < t->pointers; i++) {
		put32(&b, LOADER_ADD_POINTER);
		put(&b, t->pointer[i].in_rsdp ? file_rsdp : file_tables, LOADER_NAME);
		put(&b, file_tables, LOADER_NAME);
		put32(&b, t->pointer[i].offset);
		put8(&b, 4);
		record_end(&b);
	}
	for (unsigned i = 0; i < t->tables; i++)
		put_checksum(&b, file_tables, t->table[i] + HEADER_CHECKSUM, t->table[i],
			     t->table_size[i]);
	put_checksum(&b, file_rsdp, RSDP_CHECKSUM, 0, ACPI_RSDP_SIZE);
	if (b.failed)
		error_set(err, "ACPI tables: out of memory");
	ok = !b.failed && fw_cfg_add_file(f, file_rsdp, t->rsdp, ACPI_RSDP_SIZE, err) &&
	     fw_cfg_add_file(f, file_tables, t->data, t->size, err) &&
	     fw_cfg_add_file(f, "etc/table-loader", b.data, b.len, err);
	free(b.data);
	return ok;
}
