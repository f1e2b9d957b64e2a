/* The stage that gives the guest's card another MAC address on the wire.
 *
 * port->guest_mac is what the guest believes, port->wire_mac what everybody else
 * sees. Frames to the wire have the one replaced by the other wherever a protocol
 * carries it, frames to the guest the other way round.
 */
#ifndef GANNET_TRANSLATE_MAC_H
#define GANNET_TRANSLATE_MAC_H

#include "core/net.h"

/** mac_translator_create - a stage named "translate"; NULL if memory ran out */
struct net_stage *mac_translator_create(void);

#endif
