/* The blocks of a pcapng file that a capture needs, and their classic ancestors.
 *
 * Sources: draft-ietf-opsawg-pcapng (block layouts and option codes) and
 * draft-ietf-opsawg-pcap. All numbers are little-endian, stamps nanoseconds.
 * Every function writes one whole block and returns its size.
 */
#ifndef GANNET_TRANSLATE_PCAPNG_H
#define GANNET_TRANSLATE_PCAPNG_H

#include <stddef.h>
#include <stdint.h>

enum {
	PCAPNG_NAME_MAX = 255,      /* bytes of an interface's name */
	PCAPNG_HEADER_MAX = 512,    /* room that all but a packet block fit in */
	PCAPNG_PACKET_EXTRA = 48,   /* what a packet block adds to its frame, padding included */
	PCAP_RECORD_EXTRA = 16,
};

enum pcapng_direction { PCAPNG_INBOUND = 1, PCAPNG_OUTBOUND = 2 };

struct pcapng_stats {
	uint64_t stamp;            /* ns since 1970: of the statistics */
	uint64_t received, dropped; /* frames, dropped ones among them */
};

/** pcapng_section - section header; @application goes into the file */
size_t pcapng_section(uint8_t *out, const char *application);
/** pcapng_interface - the next interface, Ethernet; @snaplen 0: frames are not cut */
size_t pcapng_interface(uint8_t *out, const char *name, uint32_t snaplen);
/** pcapng_packet - @kept of @len bytes of a frame */
size_t pcapng_packet(uint8_t *out, uint32_t interface, uint64_t stamp, enum pcapng_direction dir,
		     const uint8_t *frame, uint32_t kept, uint32_t len);
/** pcapng_statistics - of an interface */
size_t pcapng_statistics(uint8_t *out, uint32_t interface, const struct pcapng_stats *stats);

/** pcap_header - of a classic file with nanosecond stamps, Ethernet */
size_t pcap_header(uint8_t *out, uint32_t snaplen);
/** pcap_record - one frame in it */
size_t pcap_record(uint8_t *out, uint64_t stamp, const uint8_t *frame, uint32_t kept,
		   uint32_t len);

#endif
