/* The translator's core: one function on one frame, without port or stage.
 *
 * The translation is a swap: wherever a protocol carries a MAC address, the guest's
 * becomes the wire's and the wire's becomes the guest's, in both directions. So the
 * guest lives in the wire's world with two names exchanged, which makes two things
 * true without further rules: translating twice gives the frame back, and a station
 * that really owns the guest's address on the wire (the original of a clone) is a
 * station like any other, which the guest knows under the wire address.
 *
 * Frames are hostile: see edit_priv.h.
 */
#ifndef GANNET_TRANSLATE_MAC_PRIV_H
#define GANNET_TRANSLATE_MAC_PRIV_H

#include "translate/edit_priv.h"

enum {
	MAC_RELAYS = 8, /* DHCPv6 messages in relay messages (RFC 8415, 7.6) */
	MAC_ID_SIZE = 255, /* bytes of a client identifier looked at */
	MAC_EUI_SIZE = 8,
};

/* The two addresses and the interface identifiers made from them (RFC 4291, app. A). */
struct mac_pair {
	uint8_t mac[2][NET_MAC_SIZE]; /* guest's, wire's */
	uint8_t eui[2][MAC_EUI_SIZE];
};

/* The innermost part of a frame that was understood: a leak is named after it. */
enum mac_place {
	MAC_IN_ETHERNET, MAC_IN_LLC, MAC_IN_ARP, MAC_IN_IPX, MAC_IN_PAYLOAD, MAC_IN_FRAGMENT,
	MAC_PLACES
};

struct mac_frame {
	struct edit edit;
	const struct mac_pair *pair;
	enum mac_place place;
	unsigned quotes;
};

/** mac_pair_init - what frames are compared with */
void mac_pair_init(struct mac_pair *pair, const uint8_t *guest, const uint8_t *wire);

/**
 * mac_translate - swap the two addresses of @pair in a frame
 * @f: out: f->edit.data is the frame to pass on, @in itself if nothing changed
 * @in: the frame, @len bytes, from 0 to NET_FRAME_MAX
 * @copy: room for @len bytes, which may be written
 */
void mac_translate(struct mac_frame *f, const struct mac_pair *pair, const uint8_t *in,
		   size_t len, uint8_t *copy);

/** mac_leaks - does a translated frame hold the guest's address where it held it before? */
bool mac_leaks(const struct mac_frame *f);

/* ---- reading and writing: mac_frame.c ---- */

static inline uint8_t mac_u8(const struct mac_frame *f, size_t off)
{
	return edit_u8(&f->edit, off);
}

static inline uint16_t mac_u16(const struct mac_frame *f, size_t off)
{
	return edit_u16(&f->edit, off);
}

static inline uint32_t mac_u32(const struct mac_frame *f, size_t off)
{
	return edit_u32(&f->edit, off);
}

/* All these change bytes below @end only, and tell whether they did. */
/** mac_swap - a MAC address */
bool mac_swap(struct mac_frame *f, size_t off, size_t end);
/** mac_swap_low - the last @n bytes of a MAC address, made into something else */
bool mac_swap_low(struct mac_frame *f, size_t off, size_t end, unsigned n);
/** mac_swap_unicast - an IPv6 address whose interface identifier is made from the MAC */
bool mac_swap_unicast(struct mac_frame *f, size_t off, size_t end);
/** mac_swap_group - the solicited-node group of such an address (RFC 4291, 2.7.1) */
bool mac_swap_group(struct mac_frame *f, size_t off, size_t end);
/** mac_swap_ipv6 - an IPv6 address of either kind */
bool mac_swap_ipv6(struct mac_frame *f, size_t off, size_t end);

/* ---- protocols: each takes the bytes off..end, end <= f->edit.len ---- */

void mac_ipv4(struct mac_frame *f, size_t off, size_t end);
void mac_ipv6(struct mac_frame *f, size_t off, size_t end);
/** mac_udp - the payload, by port; the checksum is the caller's */
void mac_udp(struct mac_frame *f, size_t off, size_t end);
void mac_dhcp(struct mac_frame *f, size_t off, size_t end);
void mac_dhcpv6(struct mac_frame *f, size_t off, size_t end);
/** mac_wake - a Wake-on-LAN packet: six bytes of ones, sixteen times the address */
void mac_wake(struct mac_frame *f, size_t off, size_t end);

#endif
