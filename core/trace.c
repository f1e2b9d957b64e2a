/* See trace.h. */
#include "core/trace.h"

#include <stdarg.h>
#include <string.h>

static const char *const names[TRACE_CHANNELS] = {
	[TRACE_DECODE] = "decode", [TRACE_EMIT] = "emit",
	[TRACE_BLOCK] = "block",   [TRACE_EXEC] = "exec",
	[TRACE_INT] = "int",       [TRACE_MMU] = "mmu",
	[TRACE_IO] = "io",         [TRACE_MMIO] = "mmio",
	[TRACE_IRQ] = "irq",       [TRACE_DISK] = "disk",
	[TRACE_NET] = "net",       [TRACE_DEV] = "dev",
};

void trace_print(struct trace *t, enum trace_channel c, const char *fmt, ...)
{
	va_list ap;

	if (!t->out)
		return;
	fprintf(t->out, "%s: ", names[c]);
	va_start(ap, fmt);
	vfprintf(t->out, fmt, ap);
	va_end(ap);
	fputc('\n', t->out);
}

const char *trace_channel_name(enum trace_channel c)
{
	return c < TRACE_CHANNELS ? names[c] : NULL;
}

static bool parse_word(const char *word, size_t len, uint32_t *mask)
{
	if (len == 3 && !memcmp(word, "all", 3)) {
		*mask |= (1u << TRACE_CHANNELS) - 1;
		return true;
	}
	for (int c = 0; c < TRACE_CHANNELS; c++) {
		if (strlen(names[c]) == len && !memcmp(names[c], word, len)) {
			*mask |= 1u << c;
			return true;
		}
	}
	return false;
}

bool trace_parse(const char *list, uint32_t *mask, const char **bad)
{
	*mask = 0;
	for (;;) {
		size_t len = strcspn(list, ",");

		if (!parse_word(list, len, mask)) {
			*bad = list;
			return false;
		}
		if (!list[len])
			return true;
		list += len + 1;
	}
}
