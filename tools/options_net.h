/* Network cards on the command line: --net, --nic, and QEMU's -nic, -netdev, -device. */
#ifndef GANNET_TOOLS_OPTIONS_NET_H
#define GANNET_TOOLS_OPTIONS_NET_H

#include <stdbool.h>

#include "core/error.h"
#include "core/gannet.h"

enum { NET_URL_SIZE = 2048, NET_ID_SIZE = 64 };

/* What was said so far. */
struct net_options {
	unsigned nets; /* backends */
	struct {
		char url[NET_URL_SIZE];
		char id[NET_ID_SIZE];  /* -netdev id=; "" for --net */
		bool taken;            /* a card has it */
	} net[GANNET_NICS];
	unsigned nics; /* cards said of explicitly */
	struct {
		struct gannet_nic nic;
		int net;               /* index into net; -1: the next free one; -2: none */
		char id[NET_ID_SIZE];  /* -device ...,netdev=ID, looked up at the end */
		char *text;            /* what the strings of nic point into; owned */
	} card[GANNET_NICS];
	bool none; /* -net none */
};

/** net_option_url - --net URL or none */
bool net_option_url(struct net_options *o, const char *url, struct error *err);
/** net_option_nic - --nic model=...,mac=..., or QEMU's -nic TYPE,... */
bool net_option_nic(struct net_options *o, const char *text, struct error *err);
/** net_option_netdev - QEMU's -netdev TYPE,id=ID,... */
bool net_option_netdev(struct net_options *o, const char *text, struct error *err);
/** net_option_device - QEMU's -device ne2k_pci,netdev=ID,... */
bool net_option_device(struct net_options *o, const char *text, struct error *err);
/** net_options_settle - give every card its backend, and every backend left over a card */
bool net_options_settle(struct net_options *o, struct gannet_config *c, struct error *err);
void net_options_finish(struct net_options *o);

#endif
