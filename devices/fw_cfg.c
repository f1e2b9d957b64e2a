/* See fw_cfg.h.
 *
 * Items are byte strings under 16-bit keys. The old interface selects one and
 * reads it byte by byte; the DMA interface takes a descriptor in guest memory
 * (big endian: control, length, address) and moves many at once. Everything is
 * read-only here: a DMA write reports an error.
 *
 * Source: docs/specs/fw_cfg of the QEMU documentation, which defined it.
 */
#include "devices/fw_cfg.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "core/ioport.h"
#include "core/memory.h"
#include "core/util.h"

enum { PORT_SELECT = 0x510, PORT_DATA = 0x511, PORT_DMA = 0x514 };
enum { ID_TRADITIONAL = 1, ID_DMA = 2 };

enum {
	DMA_ERROR = 1 << 0,
	DMA_READ = 1 << 1,
	DMA_SKIP = 1 << 2,
	DMA_SELECT = 1 << 3,
	DMA_WRITE = 1 << 4,
};

/* Past the end of an item all bytes are zero; nobody needs more of them than this. */
#define PADDING_MAX (16 * MIB)
#define DMA_SIGNATURE 0x51454d5520434647ull /* "QEMU CFG" */

enum { NAME_SIZE = 56 };

struct item {
	uint8_t *data;
	size_t len;
	char name[NAME_SIZE]; /* "" for numbered items */
};

struct fw_cfg {
	struct device base;
	struct machine *machine; /* borrowed */
	struct item item[FW_CFG_KEYS];
	unsigned files;
	uint16_t key;
	uint32_t offset;
	uint64_t dma_address; /* what was written to PORT_DMA so far */
};

static const struct item *selected(const struct fw_cfg *f)
{
	return f->key < FW_CFG_KEYS ? &f->item[f->key] : NULL;
}

static void select_key(struct fw_cfg *f, uint16_t key)
{
	f->key = key;
	f->offset = 0;
}

static void take(struct fw_cfg *f, void *buf, size_t len)
{
	const struct item *it = selected(f);
	size_t n = it && f->offset < it->len ? MIN(len, it->len - f->offset) : 0;

	if (n)
		memcpy(buf, it->data + f->offset, n);
	memset((uint8_t *)buf + n, 0, len - n);
	f->offset += n;
}

/* ---- DMA ---- */

static bool dma_read(struct fw_cfg *f, uint64_t address, uint32_t len)
{
	const struct item *it = selected(f);
	size_t left = it && f->offset < it->len ? it->len - f->offset : 0;
	uint8_t buf[GUEST_PAGE_SIZE];

	if (len > left + PADDING_MAX)
		return false;
	while (len) {
		uint32_t n = MIN(len, sizeof(buf));

		take(f, buf, n);
		memory_write_bytes(f->machine->memory, address, buf, n);
		address += n;
		len -= n;
	}
	return true;
}

static void dma_run(struct fw_cfg *f, uint64_t descriptor)
{
	struct { uint32_t control, length; uint64_t address; } d;
	uint32_t control, length, result = 0;

	memory_read_bytes(f->machine->memory, descriptor, &d, sizeof(d));
	control = be32toh(d.control);
	length = be32toh(d.length);
	if (control & DMA_SELECT)
		select_key(f, control >> 16);
	if (control & DMA_READ) {
		if (!dma_read(f, be64toh(d.address), length))
			result = DMA_ERROR;
	} else if (control & DMA_WRITE) {
		result = DMA_ERROR;
	} else if (control & DMA_SKIP) {
		f->offset = length > UINT32_MAX - f->offset ? UINT32_MAX : f->offset + length;
	}
	result = htobe32(result);
	memory_write_bytes(f->machine->memory, descriptor, &result, sizeof(result));
}

static uint32_t dma_port_read(void *opaque, uint16_t port, unsigned size)
{
	return htobe32((uint32_t)(DMA_SIGNATURE >> (port < PORT_DMA + 4 ? 32 : 0))) >>
	       (port & 3) * 8;
}

/* The address is big endian; writing its low half starts the transfer. */
static void dma_port_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct fw_cfg *f = opaque;

	if (size != 4)
		return;
	if (port == PORT_DMA) {
		f->dma_address = (uint64_t)be32toh(value) << 32;
	} else if (port == PORT_DMA + 4) {
		uint64_t at = f->dma_address | be32toh(value);

		f->dma_address = 0;
		dma_run(f, at);
	}
}

/* ---- the old ports ---- */

static uint32_t port_read(void *opaque, uint16_t port, unsigned size)
{
	uint8_t v = 0;

	if (port == PORT_DATA && size == 1)
		take(opaque, &v, 1);
	return v;
}

static void port_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	if (port == PORT_SELECT && size == 2)
		select_key(opaque, value);
}

static size_t port_read_block(void *opaque, uint16_t port, unsigned size, uint8_t *buf,
			      size_t count)
{
	if (port != PORT_DATA || size != 1)
		return 0;
	take(opaque, buf, count);
	return count;
}

static const struct ioport_ops ports = {
	.read = port_read, .write = port_write, .read_block = port_read_block, .sizes = 1 | 2,
};
static const struct ioport_ops dma_ports = {
	.read = dma_port_read, .write = dma_port_write, .sizes = 1 | 2 | 4,
};

/* ---- items ---- */

static bool set_item(struct item *it, const void *data, size_t len, struct error *err)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy) {
		error_set(err, "fw_cfg: out of memory for an item of %zu bytes", len);
		return false;
	}
	memcpy(copy, data, len);
	free(it->data);
	it->data = copy;
	it->len = len;
	return true;
}

/* The directory: big-endian count, then size, key, padding and name of each file. */
static bool write_directory(struct fw_cfg *f, struct error *err)
{
	uint8_t dir[4 + 64 * (FW_CFG_KEYS - FW_CFG_FILE_FIRST)] = {0};
	uint32_t count = htobe32(f->files);

	memcpy(dir, &count, 4);
	for (unsigned i = 0; i < f->files; i++) {
		const struct item *it = &f->item[FW_CFG_FILE_FIRST + i];
		uint32_t size = htobe32(it->len);
		uint16_t key = htobe16(FW_CFG_FILE_FIRST + i);

		memcpy(dir + 4 + 64 * i, &size, 4);
		memcpy(dir + 8 + 64 * i, &key, 2);
		memcpy(dir + 12 + 64 * i, it->name, NAME_SIZE);
	}
	return set_item(&f->item[FW_CFG_FILE_DIR], dir, 4 + 64 * f->files, err);
}

bool fw_cfg_add(struct fw_cfg *f, uint16_t key, const void *data, size_t len, struct error *err)
{
	if (key >= FW_CFG_FILE_FIRST || len > UINT32_MAX) {
		error_set(err, "fw_cfg: no key %#x, or %zu bytes are too many for it", key, len);
		return false;
	}
	return set_item(&f->item[key], data, len, err);
}

bool fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t len,
		     struct error *err)
{
	unsigned i = 0;
	struct item *it;

	while (i < f->files && strcmp(f->item[FW_CFG_FILE_FIRST + i].name, name))
		i++;
	if (strlen(name) >= NAME_SIZE || i == FW_CFG_KEYS - FW_CFG_FILE_FIRST || len > UINT32_MAX) {
		error_set(err, "fw_cfg: no room for file %s of %zu bytes", name, len);
		return false;
	}
	it = &f->item[FW_CFG_FILE_FIRST + i];
	if (!set_item(it, data, len, err))
		return false;
	memcpy(it->name, name, strlen(name) + 1);
	if (i == f->files)
		f->files++;
	return write_directory(f, err);
}

/* ---- life ---- */

static void fw_cfg_reset(struct device *dev)
{
	struct fw_cfg *f = container_of(dev, struct fw_cfg, base);

	select_key(f, 0);
	f->dma_address = 0;
}

static void fw_cfg_destroy(struct device *dev)
{
	struct fw_cfg *f = container_of(dev, struct fw_cfg, base);

	for (unsigned i = 0; i < FW_CFG_KEYS; i++)
		free(f->item[i].data);
	free(f);
}

static const struct state_field fw_cfg_fields[] = {
	STATE_UINT(struct fw_cfg, key),
	STATE_UINT(struct fw_cfg, offset),
	STATE_UINT(struct fw_cfg, dma_address),
	STATE_END,
};

static const struct device_ops fw_cfg_ops = {
	.name = "fw_cfg",
	.reset = fw_cfg_reset,
	.destroy = fw_cfg_destroy,
	.fields = fw_cfg_fields, .size = sizeof(struct fw_cfg),
};

struct fw_cfg *fw_cfg_create(struct machine *m, struct error *err)
{
	static const uint8_t id[4] = {ID_TRADITIONAL | ID_DMA};
	struct fw_cfg *f = calloc(1, sizeof(*f));

	if (!f) {
		error_set(err, "fw_cfg: out of memory");
		return NULL;
	}
	f->base.ops = &fw_cfg_ops;
	f->machine = m;
	if (!fw_cfg_add(f, FW_CFG_SIGNATURE, "QEMU", 4, err) ||
	    !fw_cfg_add(f, FW_CFG_ID, id, sizeof(id), err) || !write_directory(f, err)) {
		fw_cfg_destroy(&f->base);
		return NULL;
	}
	ioport_add(m->io, PORT_SELECT, 2, &ports, f, "fw_cfg");
	ioport_add(m->io, PORT_DMA, 8, &dma_ports, f, "fw_cfg dma");
	machine_add(m, &f->base);
	return f;
}
