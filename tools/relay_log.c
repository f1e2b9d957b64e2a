/* One event, one line: for people, or JSON for programs (--json-log). */
#include <stdio.h>
#include <sys/time.h>
#include <time.h>

#include "tools/relay_priv.h"

static size_t escape(char *to, size_t size, const char *from)
{
	size_t n = 0;

	for (; *from && n + 7 < size; from++) {
		unsigned char c = (unsigned char)*from;

		if (c == '"' || c == '\\')
			to[n++] = '\\', to[n++] = (char)c;
		else if (c < 0x20 || c >= 0x7f)
			n += (size_t)snprintf(to + n, size - n, "\\u%04x", c);
		else
			to[n++] = (char)c;
	}
	to[n] = '\0';
	return n;
}

void relay_log(const struct relay *r, const char *event, const struct relay_client *c,
	       const char *fmt, ...)
{
	char text[512], safe[sizeof(text) * 2], who[96] = "", when[32];
	struct timeval tv;
	struct tm tm;
	va_list ap;

	if (r->options.quiet)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	escape(safe, sizeof(safe), text);
	gettimeofday(&tv, NULL);
	gmtime_r(&tv.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	if (r->options.json_log) {
		if (c)
			snprintf(who, sizeof(who), "\"client\":%u,\"address\":\"%s\",", c->id,
				 c->address);
		fprintf(stderr, "{\"time\":\"%s.%03dZ\",\"event\":\"%s\",%s\"text\":\"%s\"}\n",
			when, (int)(tv.tv_usec / 1000), event, who, safe);
	} else {
		if (c)
			snprintf(who, sizeof(who), "client %u (%s): ", c->id, c->address);
		fprintf(stderr, "gannet relay: %s.%03dZ %s: %s%s\n", when,
			(int)(tv.tv_usec / 1000), event, who, safe);
	}
}
