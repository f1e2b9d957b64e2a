/* Stands in for the recompiler where Gannet is built without it (-Djit=disabled). */
#include "core/engine.h"

struct engine *jit_create(struct cpu *cpu, struct error *err)
{
	(void)cpu;
	error_set(err, "this gannet was built without the recompiler; use --engine interp");
	return NULL;
}
