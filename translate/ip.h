/* The stage that gives the guest another IPv4 address on the wire, one to one.
 *
 * The guest keeps the address it was saved with, everybody else sees another one of
 * the same subnet, so that copies of a machine can be on one network at once without
 * a word to the guest. Frames to the wire have the guest's address replaced by the
 * wire's, frames to the guest the other way round, and both the other way round, too:
 * it is a swap, so a station on the wire that really has the guest's address (the
 * original) is known to the guest under the wire's address. Netmask, router and
 * broadcast addresses are the same on both sides.
 *
 * Translated are ARP, RARP, IPv4 (also in fragments, with record route, source route
 * and timestamps), the checksums of TCP, UDP, UDP-Lite, DCCP and HIP, what ICMP
 * quotes, DHCP, and NetBIOS names and datagrams. Not translated are addresses in other
 * payloads (FTP's PORT, SIP, RFC 4884 extensions of ICMP), inside of tunnels, and in what
 * is encrypted or authenticated.
 *
 * The guest's address may be left to be learnt: see net_announce_ipv4() in announce.h.
 * Once taken it stays, and both are part of a saved machine.
 *
 * Counters:
 *	translated-to-wire, translated-to-guest	frames in which anything was changed
 *	foreign-ip	ARP from the wire whose sender has the guest's address
 *	leak.tunnel	translated packets of IP in IP, GRE or AH: what they carry was
 *			not, and the receiver of an AH packet will refuse it
 *	leak.unlearnt	IPv4 to the wire before the guest's address was known
 */
#ifndef GANNET_TRANSLATE_IP_H
#define GANNET_TRANSLATE_IP_H

#include "core/error.h"
#include "core/net.h"

/* What to do; zeros: nothing. In the order of bytes on the wire. */
struct ip_rule {
	bool set;       /* false: as saved, if this machine was restored; else nothing */
	uint8_t old[4]; /* the guest's; zeros: learn it */
	uint8_t new[4]; /* the wire's; zeros: do not translate */
};

/**
 * ip_rule_parse - "10.0.0.5:10.0.0.23" (guest's, wire's), "10.0.0.23" or
 * "auto:10.0.0.23" (the guest's is learnt), "none"; "translate=" may stand in front
 */
bool ip_rule_parse(const char *text, struct ip_rule *rule, struct error *err);

/**
 * ip_translator_create - a stage named "translate-ip"; NULL if memory ran out
 * @rule: copied; stronger than what a restored image says
 * @announce: the port's "announce" stage, asked for the guest's address; borrowed, or NULL
 */
struct net_stage *ip_translator_create(const struct ip_rule *rule, struct net_stage *announce);

/** ip_translator_set - another rule from now on; what was learnt is forgotten */
void ip_translator_set(struct net_stage *s, const struct ip_rule *rule);

#endif
