/* The stage that gives the guest's card another MAC address on the wire.
 *
 * port->guest_mac is what the guest believes, port->wire_mac what everybody else
 * sees. Frames to the wire have the one replaced by the other wherever a protocol
 * carries it, frames to the guest the other way round. It is a swap, so a station on
 * the wire that really has the guest's address appears to the guest under the wire's.
 *
 * Counters:
 *	translated-to-wire, translated-to-guest	frames in which anything was changed
 *	drop.own-echo	from the wire, with the wire address as their source
 *	foreign-mac	from the wire, from or to a station with the guest's address
 *	leak.WHERE	to the wire, with the guest's address (or the IPv6 interface
 *			identifier made from it) left in: ethernet (a type unknown here),
 *			llc, arp, ipx, payload of an IP packet, fragment but the first
 * An address in text, in what is encrypted, or inside tunnels is neither translated
 * nor, as text or encrypted, found.
 */
#ifndef GANNET_TRANSLATE_MAC_H
#define GANNET_TRANSLATE_MAC_H

#include "core/net.h"

/** mac_translator_create - a stage named "translate"; NULL if memory ran out */
struct net_stage *mac_translator_create(void);

#endif
