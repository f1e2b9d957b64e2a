/* What went wrong while something was being set up: one line for a person.
 *
 * Set-up functions return bool or NULL and fill a struct error. The text names
 * what, which value, and what would be right; it carries no program name and
 * no newline. A library never prints: a program does.
 */
#ifndef GANNET_CORE_ERROR_H
#define GANNET_CORE_ERROR_H

#include <stdarg.h>

struct error {
	char text[512]; /* "" while nothing went wrong */
};

/**
 * error_set - write the message
 * @err: may be NULL, when the caller does not care
 * @fmt: printf format; the result is cut at sizeof(err->text) - 1 bytes
 */
void error_set(struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** error_prefix - put "PREFIX: " in front of a message already set */
void error_prefix(struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
