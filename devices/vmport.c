/* See vmport.h.
 *
 * Theory: IN EAX, DX with DX = 0x5658, EAX a magic number and CX a command is a
 * call: the registers carry the arguments and take the results. Without the
 * magic number the port is nobody's. The I/O handler works on the registers of
 * the CPU itself; what it returns becomes EAX.
 *
 * There is no absolute pointer yet: its commands are answered as unknown.
 *
 * Source: open-vm-tools, lib/include/backdoor_def.h (command numbers); VMware
 * knowledge base 1009458.
 */
#include "devices/vmport.h"

#include <stdlib.h>

#include "core/cpu.h"
#include "core/ioport.h"
#include "core/loop.h"
#include "core/util.h"
#include "devices/mc146818.h"

enum { PORT = 0x5658 };
#define MAGIC 0x564d5868u

enum { CMD_VERSION = 10, CMD_TIME = 23, CMD_TIME_FULL = 46 };
enum { VERSION = 6, PRODUCT = 4 /* workstation */, LAG_US = 1000000 };

struct vmport {
	struct device base;
	struct machine *machine; /* borrowed */
};

static uint32_t call(struct cpu *cpu, uint16_t command)
{
	int64_t now = mc146818_host_time(), seconds = now / NS_PER_S;
	uint32_t us = now % NS_PER_S / 1000;

	switch (command) {
	case CMD_VERSION:
		cpu->gpr[EBX] = MAGIC;
		cpu->gpr[ECX] = PRODUCT;
		return VERSION;
	case CMD_TIME:
		cpu->gpr[EBX] = us;
		cpu->gpr[ECX] = LAG_US;
		cpu->gpr[EDX] = 0; /* minutes west of UTC */
		return seconds;
	case CMD_TIME_FULL:
		cpu->gpr[EBX] = us;
		cpu->gpr[ECX] = LAG_US;
		cpu->gpr[ESI] = (uint64_t)seconds >> 32;
		cpu->gpr[EDX] = (uint32_t)seconds;
		return MAGIC;
	default:
		return UINT32_MAX;
	}
}

static uint32_t vmport_read(void *opaque, uint16_t port, unsigned size)
{
	struct cpu *cpu = ((struct vmport *)opaque)->machine->cpu;

	if (size != 4 || (uint32_t)cpu->gpr[EAX] != MAGIC)
		return UINT32_MAX;
	return call(cpu, cpu->gpr[ECX]);
}

static const struct ioport_ops vmport_ports = {.read = vmport_read, .sizes = 1 | 2 | 4};

static void vmport_destroy(struct device *dev)
{
	free(container_of(dev, struct vmport, base));
}

static const struct device_ops vmport_ops = {
	.name = "vmport",
	.destroy = vmport_destroy,
};

struct device *vmport_create(struct machine *m, struct error *err)
{
	struct vmport *v = calloc(1, sizeof(*v));

	if (!v) {
		error_set(err, "VMware port: out of memory");
		return NULL;
	}
	v->base.ops = &vmport_ops;
	v->machine = m;
	/* Four ports, so that a dword access has one owner. */
	ioport_add(m->io, PORT, 4, &vmport_ports, v, "vmport");
	machine_add(m, &v->base);
	return &v->base;
}
