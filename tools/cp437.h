/* Code page 437: what a PC's text mode shows. */
#ifndef GANNET_TOOLS_CP437_H
#define GANNET_TOOLS_CP437_H

#include <stddef.h>
#include <stdint.h>

enum { CP437_UTF8_MAX = 3 };

/** cp437_utf8 - @out has room for CP437_UTF8_MAX bytes; returns how many it got */
size_t cp437_utf8(char *out, uint8_t ch);

#endif
