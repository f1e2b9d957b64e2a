/* The section "config" of a state image: see saved_config.c. */
#ifndef GANNET_TOOLS_SAVED_CONFIG_H
#define GANNET_TOOLS_SAVED_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/gannet.h"

struct saved_config {
	struct gannet_config cfg; /* its strings point into text */
	const char *version;      /* of the gannet that made it */
	size_t bios_size, vga_rom_size;
	size_t nic_rom_size[GANNET_NICS];
	bool firmware_log;        /* there is such a port */
	char *text;               /* owned, if it was read */
};

/** saved_config_write - the section's text; the caller frees it; NULL if memory ran out */
char *saved_config_write(const struct saved_config *s, size_t *len);
/** saved_config_read - parse the text; saved_config_finish() is due even if it fails */
bool saved_config_read(struct saved_config *s, const uint8_t *data, size_t len,
		       struct error *err);
void saved_config_finish(struct saved_config *s);

#endif
