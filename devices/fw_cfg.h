/* fw_cfg: how the board tells firmware what it is made of. */
#ifndef GANNET_DEVICES_FW_CFG_H
#define GANNET_DEVICES_FW_CFG_H

#include "core/machine.h"

/* Keys with fixed numbers; files get theirs from the directory. */
enum {
	FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_UUID = 0x02, FW_CFG_RAM_SIZE = 0x03,
	FW_CFG_NOGRAPHIC = 0x04, FW_CFG_NB_CPUS = 0x05, FW_CFG_BOOT_DEVICE = 0x0c,
	FW_CFG_NUMA = 0x0d, FW_CFG_BOOT_MENU = 0x0e, FW_CFG_MAX_CPUS = 0x0f,
	FW_CFG_FILE_DIR = 0x19, FW_CFG_FILE_FIRST = 0x20, FW_CFG_KEYS = 0x80,
};

struct fw_cfg;

/** fw_cfg_create - ports 0x510, 0x511 and the DMA register at 0x514; @m owns it */
struct fw_cfg *fw_cfg_create(struct machine *m, struct error *err);

/** fw_cfg_add - the bytes of a numbered item, copied; replaces what it held */
bool fw_cfg_add(struct fw_cfg *f, uint16_t key, const void *data, size_t len,
		struct error *err);
/** fw_cfg_add_file - a named item, copied; replaces the file of that name
 *  @name: up to 55 characters, e.g. "etc/e820" */
bool fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t len,
		     struct error *err);

#endif
