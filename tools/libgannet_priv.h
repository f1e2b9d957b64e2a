/* What the files of libgannet share: one machine with all that belongs to it. */
#ifndef GANNET_TOOLS_LIBGANNET_PRIV_H
#define GANNET_TOOLS_LIBGANNET_PRIV_H

#include "backends/backend.h"
#include "core/gannet.h"
#include "core/loop.h"
#include "core/net.h"
#include "devices/board.h"
#include "devices/vga.h"
#include "translate/ip.h"

struct capture;
struct chardev;
struct image_extent;
struct restore;

struct gannet {
	struct machine *machine;
	struct board *board;              /* the machine's */
	struct chardev *serial[GANNET_SERIALS];
	struct chardev *debugcon, *firmware_log;
	struct chardev *terminal;         /* the one of them on stdio, or NULL */

	struct net_port port[GANNET_NICS];
	unsigned ports;
	struct backend_env backend_env;
	struct capture *capture;
	char *url[GANNET_NICS];           /* of the backend, as may be shown; NULL: none */
	unsigned on_path;                 /* the program was called from within a card's path */

	char *config_text;                /* section "config" of its images */
	size_t config_len;
	struct image_extent *image_extent; /* what of memory comes from the image it was */
	size_t image_extents;              /* restored from */

	void (*notify)(void *opaque, const char *text);
	void *notify_opaque;

	void (*show)(void *opaque, const struct gannet_screen *s);
	void *show_opaque;
	struct timer show_timer;
	struct vga_text *text;            /* what the board said last; allocated with the display */
	struct vga_text *look;            /* of gannet_screen(); allocated when first asked */
	struct vga_image picture;         /* of gannet_picture() */
	struct watch *watch;
	void (*ready)(void *opaque);
	void *ready_opaque;
};

/* Option ROMs and addresses of the cards, read before anything is made. */
struct net_parts {
	struct board_nic nic[GANNET_NICS];
	uint8_t wire_mac[GANNET_NICS][NET_MAC_SIZE];
	struct ip_rule ip[GANNET_NICS];
	uint8_t *rom[GANNET_NICS];
};

/** net_path_free - may parts of a card's path be replaced now? False with @err set while the
 *  program is called from within it: they would be gone when it returns */
bool net_path_free(const struct gannet *g, struct error *err);
/** read_rom - a ROM image of up to 16 MiB; the caller frees it */
uint8_t *read_rom(const char *path, size_t *size, struct error *err);

/** net_parts_read - check what @cfg says of cards, read their ROMs; a restored machine has
 *  its ROMs in the image: @restore says how large they are */
bool net_parts_read(struct net_parts *p, const struct gannet_config *cfg,
		    const struct restore *restore, struct error *err);
void net_parts_finish(struct net_parts *p);
/** net_create - ports with stages and backends; @p->nic gets its ports */
bool net_create(struct gannet *g, struct net_parts *p, const struct gannet_config *cfg,
		struct error *err);
/** net_finish - close backends and captures; before the machine goes */
void net_finish(struct gannet *g);
/** net_stats - counters of all cards as text */
void net_stats(const struct gannet *g, FILE *out);

#endif
