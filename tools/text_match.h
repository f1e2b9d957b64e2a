/* Waiting for text: a pattern that is fed bytes as they come. */
#ifndef GANNET_TOOLS_TEXT_MATCH_H
#define GANNET_TOOLS_TEXT_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

enum { TEXT_PATTERN_MAX = 1024 };

struct text_match;

/**
 * text_match_create - prepare a pattern
 * @regex: false: the text itself. True: . * + ? | ( ) [ ] ^ $ and \d \w \s \D \W \S
 *         \n \r \t as everywhere; \ before anything else takes it literally. No {n,m}.
 * @line_start: what is fed first begins a line
 * Returns NULL with @err set if it is no pattern, or one that the empty text fits.
 */
struct text_match *text_match_create(const char *pattern, bool regex, bool line_start,
				     struct error *err);
void text_match_destroy(struct text_match *m); /* NULL is legal */

/** text_match_reset - as if nothing had been fed yet */
void text_match_reset(struct text_match *m, bool line_start);

/**
 * text_match_feed - the next bytes
 * Returns true as soon as the pattern fits; what is behind that is not looked at.
 */
bool text_match_feed(struct text_match *m, const uint8_t *buf, size_t len);
/** text_match_found - after text_match_feed() returned true: where the match begins and
 *  ends, in bytes fed */
void text_match_found(const struct text_match *m, uint64_t *start, uint64_t *end);

#endif
