/* The stage that knows which addresses the guest has, and tells the wire about them.
 *
 * A restored machine has another MAC address on the wire, or is behind another port of a
 * switch, and its guest does not know: it announces nothing, and neighbours go on
 * sending to where it was. So this stage, on the guest's side of all translators,
 * remembers the guest's addresses from what it sends and announces them in its name:
 * IPv4 by a gratuitous ARP request and a reply (RFC 5227, 3; some listen to the one
 * only, some to the other), IPv6 by an unsolicited neighbour advertisement (RFC 4861, 7.2.6);
 * three times, a second apart, as soon as there is a carrier.
 *
 * Remembered are the last four senders in the guest's ARP, and four in its neighbour
 * discovery: addresses it claims as its own. Sources of IPv4 packets need not be (the
 * guest may be a router); the first of them serves the IPv4 translator until there is
 * better, and is never announced. Frames with VLAN tags are not looked at. All this is
 * part of a saved machine.
 *
 * Counters:
 *	announced	frames sent
 *	announce-given-up	no carrier for a minute
 */
#ifndef GANNET_TRANSLATE_ANNOUNCE_H
#define GANNET_TRANSLATE_ANNOUNCE_H

#include "core/net.h"

/** net_announcer_create - a stage named "announce"; NULL if memory ran out */
struct net_stage *net_announcer_create(struct loop *loop);

/** net_announce - tell the wire where the guest is, now and twice more */
void net_announce(struct net_stage *s);

/** net_announce_ipv4 - the guest's latest IPv4 address; false (@ip as it was): not known */
bool net_announce_ipv4(const struct net_stage *s, uint8_t ip[4]);

#endif
