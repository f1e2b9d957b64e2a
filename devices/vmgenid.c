/* See vmgenid.h.
 *
 * Theory: the guest's ACPI tables have a device with the compatible id
 * VM_Gen_Counter, whose ADDR says where in physical memory 16 bytes stand. A machine
 * that was copied, or put back to an earlier state, gets new ones and a notification;
 * the guest then throws away what must not be used twice: the state of its random
 * number generator, nonces, sequence numbers.
 *
 * They are alone in a page of ROM: cacheable, not covered by the memory map, and
 * nothing the guest could overwrite. The page goes into state images with the rest of
 * memory, but who restores one calls vmgenid_renew() afterwards.
 *
 * Source: Microsoft, "Virtual Machine Generation ID" (August 2012); the notification
 * is in acpi_tables.c.
 */
#include "devices/vmgenid.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/memory.h"
#include "core/util.h"

struct vmgenid {
	struct device base;
	struct machine *machine; /* borrowed */
	uint64_t at;             /* RAM offset of the page */
};

bool vmgenid_renew(struct device *dev)
{
	struct vmgenid *v = container_of(dev, struct vmgenid, base);
	uint8_t id[VMGENID_SIZE];

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return false;
	/* A GUID of version 4 (RFC 9562, 5.4), for who looks at it as one. */
	id[7] = (id[7] & 0x0f) | 0x40;
	id[8] = (id[8] & 0x3f) | 0x80;
	memcpy(memory_host(v->machine->memory) + v->at, id, sizeof(id));
	return true;
}

void vmgenid_read(const struct device *dev, uint8_t id[VMGENID_SIZE])
{
	const struct vmgenid *v = container_of(dev, const struct vmgenid, base);

	memcpy(id, memory_host(v->machine->memory) + v->at, VMGENID_SIZE);
}

static void vmgenid_destroy(struct device *dev)
{
	free(container_of(dev, struct vmgenid, base));
}

static const struct device_ops vmgenid_ops = {
	.name = "vmgenid",
	.destroy = vmgenid_destroy,
};

struct device *vmgenid_create(struct machine *m, uint64_t paddr, struct error *err)
{
	struct vmgenid *v = calloc(1, sizeof(*v));

	if (!v) {
		error_set(err, "VM generation ID: out of memory");
		return NULL;
	}
	v->base.ops = &vmgenid_ops;
	v->machine = m;
	v->at = memory_rom_alloc(m->memory, GUEST_PAGE_SIZE);
	if (v->at == UINT64_MAX ||
	    !memory_add_ram(m->memory, paddr, GUEST_PAGE_SIZE, v->at, MEMORY_ROM, 1, "vmgenid")) {
		error_set(err, "VM generation ID: no room for it in the ROM area");
		goto fail;
	}
	if (!vmgenid_renew(&v->base)) {
		error_set(err, "VM generation ID: the kernel gives no random bytes");
		goto fail;
	}
	machine_add(m, &v->base);
	return &v->base;
fail:
	free(v);
	return NULL;
}
