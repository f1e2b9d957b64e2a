/* The IPv4 translator's core: one function on one frame, without port or stage.
 *
 * As the MAC translator's it is a swap (see mac_priv.h): wherever a protocol has the
 * one address the other is put, in both directions. So translating twice gives the
 * frame back, and a station that really has the guest's address on the wire is one that
 * the guest knows under the wire's.
 */
#ifndef GANNET_TRANSLATE_IP_PRIV_H
#define GANNET_TRANSLATE_IP_PRIV_H

#include "translate/edit_priv.h"

enum { IPV4_SIZE = 4 };

/* Addresses as they are in frames. */
struct ip_pair {
	uint8_t ip[2][IPV4_SIZE]; /* guest's, wire's */
};

struct ip_frame {
	struct edit edit;
	const struct ip_pair *pair;
	unsigned quotes;
	bool tunnel; /* changed outside of a packet that repeats addresses, or authenticates them */
};

/**
 * ip_translate - swap the two addresses of @pair in a frame
 * @f: out: f->edit.data is the frame to pass on, @in itself if nothing changed
 * @in: the frame, @len bytes, from 0 to NET_FRAME_MAX
 * @copy: room for @len bytes, which may be written
 */
void ip_translate(struct ip_frame *f, const struct ip_pair *pair, const uint8_t *in, size_t len,
		  uint8_t *copy);

/* ---- payloads of UDP: ip_udp.c; the bytes off..end, the UDP header first ---- */

/** ip_swap - an address; did it change? */
static inline bool ip_swap(struct ip_frame *f, size_t off, size_t end)
{
	return edit_swap(&f->edit, off, end, f->pair->ip[0], f->pair->ip[1], IPV4_SIZE);
}

/** ip_udp_known - may there be addresses in datagrams of these ports? */
static inline bool ip_udp_known(uint16_t from, uint16_t to)
{
	return to == 67 || to == 68 || from == 67 || from == 68 ||
	       (to >= 137 && to <= 138) || (from >= 137 && from <= 138);
}

/** ip_udp - DHCP and NetBIOS, by port; the checksum is the caller's */
void ip_udp(struct ip_frame *f, size_t off, size_t end);

#endif
