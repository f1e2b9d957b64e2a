/* See machine.h. */
#include "core/machine.h"

#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/cpuid.h"
#include "core/engine.h"
#include "core/ioport.h"
#include "core/loop.h"
#include "core/machine_guard.h"
#include "core/memory.h"
#include "core/util.h"

static void machine_kick(void *opaque)
{
	struct machine *m = opaque;
	struct cpu *cpu = __atomic_load_n(&m->cpu, __ATOMIC_ACQUIRE);

	if (cpu)
		cpu_kick(cpu);
}

static struct engine *make_engine(struct machine *m, const char *name,
				  struct error *err)
{
	if (!strcmp(name, "interp"))
		return interp_create(m->cpu, err);
	if (!strcmp(name, "jit"))
		return jit_create(m->cpu, err);
	error_set(err, "engine %s: unknown; there are jit and interp", name);
	return NULL;
}

struct machine *machine_create(const struct machine_config *cfg,
			       struct error *err)
{
	uint64_t rom_size = cfg->rom_size ? cfg->rom_size : 32 * MIB;
	struct machine *m = calloc(1, sizeof(*m));
	struct cpu *cpu;

	if (!m) {
		error_set(err, "out of memory for a machine");
		return NULL;
	}
	m->trace.out = stderr;
	m->loop = loop_create(machine_kick, m, err);
	if (!m->loop)
		goto fail;
	m->memory = memory_create(cfg->ram_size, rom_size, &m->trace, err);
	if (!m->memory)
		goto fail;
	m->io = ioport_map_create(&m->trace);
	if (!m->io) {
		error_set(err, "out of memory for the port map");
		goto fail;
	}
	cpu = cpu_create(cfg->cpu, m, err);
	if (!cpu)
		goto fail;
	__atomic_store_n(&m->cpu, cpu, __ATOMIC_RELEASE);
	m->engine = make_engine(m, cfg->engine, err);
	if (!m->engine)
		goto fail;
	cpu_reset(cpu);
	return m;
fail:
	machine_destroy(m);
	return NULL;
}

/* The list is in order of creation; later devices may hold on to earlier ones. */
static void destroy_devices(struct machine *m)
{
	struct device *reversed = NULL;

	while (m->devices) {
		struct device *d = m->devices;

		m->devices = d->next;
		d->next = reversed;
		reversed = d;
	}
	while (reversed) {
		struct device *d = reversed;

		reversed = d->next;
		d->ops->destroy(d);
	}
}

void machine_destroy(struct machine *m)
{
	struct cpu *cpu;

	if (!m)
		return;
	destroy_devices(m);
	if (m->engine)
		m->engine->ops->destroy(m->engine);
	/* The poller may be kicking: take the CPU away from it, then end it. */
	cpu = m->cpu;
	__atomic_store_n(&m->cpu, NULL, __ATOMIC_RELEASE);
	loop_destroy(m->loop);
	if (cpu)
		cpu_destroy(cpu);
	ioport_map_destroy(m->io);
	memory_destroy(m->memory);
	free(m);
}

void machine_add(struct machine *m, struct device *dev)
{
	struct device **p;

	dev->instance = 0;
	dev->next = NULL;
	for (p = &m->devices; *p; p = &(*p)->next) {
		if (!strcmp((*p)->ops->name, dev->ops->name))
			dev->instance++;
	}
	*p = dev;
	if (dev->ops->reset)
		dev->ops->reset(dev);
}

static void machine_reset(struct machine *m)
{
	m->reset_requested = false;
	if (m->no_reboot) {
		machine_end_with(m, MACHINE_RESET_STOP, 0);
		return;
	}
	m->resets++;
	memory_set_a20(m->memory, true);
	cpu_reset(m->cpu);
	for (struct device *d = m->devices; d; d = d->next) {
		if (d->ops->reset)
			d->ops->reset(d);
	}
}

/* Would cpu_service() find anything that ends a HLT? */
static bool wake_pending(const struct cpu *cpu)
{
	if (cpu->debug_hits || (cpu->nmi_pending && !cpu->nmi_blocked))
		return true;
	return cpu->intr_line && (cpu->eflags & FLAG_IF);
}

/* The clock, the timers and the TSC stop and go on together. */
static void stop_time(struct machine *m)
{
	loop_pause(m->loop);
	if (!m->tsc_held)
		m->tsc = cpu_rdtsc(m->cpu);
	m->tsc_held = true;
}

static void start_time(struct machine *m)
{
	machine_hold_tsc(m);
	m->tsc_held = false;
	loop_resume(m->loop);
}

enum machine_end machine_run(struct machine *m)
{
	struct cpu *cpu = m->cpu;

	machine_guard_enter(m);
	if (!m->paused)
		loop_resume(m->loop);
	while (m->end == MACHINE_RUNNING) {
		/* Before looking, so that a kick after the look is not lost. */
		__atomic_store_n(&cpu->run, 1, __ATOMIC_SEQ_CST);
		loop_run(m->loop);
		if (__atomic_load_n(&m->quit_requested, __ATOMIC_SEQ_CST))
			machine_end_with(m, MACHINE_QUIT, 0);
		if (__atomic_load_n(&m->memory_lost, __ATOMIC_SEQ_CST))
			machine_end_with(m, MACHINE_MEMORY_LOST, 0);
		if (m->end != MACHINE_RUNNING)
			break;
		if (m->reset_requested) {
			machine_reset(m);
			continue;
		}
		if (m->paused) {
			stop_time(m);
			loop_wait(m->loop);
			continue;
		}
		if (m->tsc_held)
			start_time(m);
		if (cpu->halted && !wake_pending(cpu))
			loop_wait(m->loop);
		else
			m->engine->ops->run(m->engine);
	}
	loop_pause(m->loop);
	machine_guard_leave();
	return m->end;
}

void machine_request_reset(struct machine *m)
{
	m->reset_requested = true;
	machine_kick(m);
}

void machine_end_with(struct machine *m, enum machine_end end, int exit_code)
{
	if (m->end == MACHINE_RUNNING) {
		m->end = end;
		m->exit_code = exit_code;
	}
	machine_kick(m);
}

void machine_pause(struct machine *m)
{
	m->paused = true;
	machine_kick(m);
}

void machine_resume(struct machine *m)
{
	m->paused = false;
	machine_kick(m);
}

void machine_hold_tsc(struct machine *m)
{
	if (m->tsc_held)
		cpu_set_tsc(m->cpu, m->tsc);
}

void machine_quit(struct machine *m)
{
	__atomic_store_n(&m->quit_requested, true, __ATOMIC_SEQ_CST);
	loop_kick(m->loop);
}
