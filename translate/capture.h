/* Frames into a file, from both sides of the translator, on any backend.
 *
 * A capture is one file and the taps that feed it; a tap is a stage. FILE.pcap is
 * the classic format, with nanosecond stamps and what one tap sees: the first one
 * created, which is to be net0's on the guest's side, where the frames are as the
 * guest's own tools show them. Every other name is pcapng with an interface a tap,
 * and direction flags: what the guest sends is outbound.
 *
 * Whole blocks reach the file at most 100 ms late, so tshark can read it all the
 * time; while the machine is paused capture_flush() has to see to that. FILE may be
 * a FIFO (core/record_file.h). With rotation FILE is complete at its size and FILE.1
 * begins, then FILE.2, each a capture by itself; at the end of a pcapng file stand
 * the taps' counts so far.
 */
#ifndef GANNET_TRANSLATE_CAPTURE_H
#define GANNET_TRANSLATE_CAPTURE_H

#include <stdint.h>

#include "core/error.h"
#include "core/net.h"

struct capture;
struct loop;

struct capture_config {
	const char *path;
	uint64_t rotate_bytes; /* start FILE.1, FILE.2, ... at this size, 64 KiB or more; 0: never */
	unsigned rotate_files; /* keep so many of them, the oldest goes; 0: all */
	uint32_t snaplen;      /* bytes kept of a frame; 0: all */
};

/**
 * capture_create - open the file and write its header
 * @loop: borrowed; its clock and timers pace the flushing (at most 100 ms behind)
 * What goes wrong later (disk full) is counted as "lost" by the taps, told once
 * through net_port_notify(), and capture goes on when there is room again.
 */
struct capture *capture_create(struct loop *loop, const struct capture_config *cfg,
			       struct error *err);
/** capture_destroy - after its taps; flushes; NULL is legal */
void capture_destroy(struct capture *c);

/**
 * capture_tap_create - a stage that records what passes
 * @stage_name: "capture-guest" or "capture-wire"; static
 * @interface: what the file calls it, e.g. "net0 guest"; copied
 */
struct net_stage *capture_tap_create(struct capture *c, const char *stage_name,
				     const char *interface, struct error *err);
/** capture_flush - everything so far is in the file when this returns true */
bool capture_flush(struct capture *c);

#endif
