/* A picture of the screen into a file. */
#ifndef GANNET_TOOLS_PICTURE_FILE_H
#define GANNET_TOOLS_PICTURE_FILE_H

#include <stdbool.h>

#include "core/error.h"
#include "core/gannet.h"

/** picture_file_write - PNG if @path ends in .png, else PPM; what was at @path is replaced
 *  when all is written, and untouched if anything fails */
bool picture_file_write(const char *path, const struct gannet_picture *p, struct error *err);

#endif
