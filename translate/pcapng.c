/* See pcapng.h. A block is
 *
 *	type  total length  body ...  options ...  end of options  total length
 *
 * padded to 32 bits, an option is code, length, value, padded too.
 */
#include "translate/pcapng.h"

#include <string.h>

#include "core/util.h"

enum {
	BLOCK_SECTION = 0x0a0d0d0a,
	BLOCK_INTERFACE = 1,
	BLOCK_STATISTICS = 5,
	BLOCK_PACKET = 6,
};

enum {
	BYTE_ORDER_MAGIC = 0x1a2b3c4d,
	LINKTYPE_ETHERNET = 1,
	TSRESOL_NS = 9, /* 10^-9 s */
	PCAP_MAGIC_NS = 0xa1b23c4d,
	PCAP_SNAPLEN = 262144, /* "everything", as tcpdump has it */
};

enum {
	OPT_END = 0,
	OPT_HARDWARE = 2, OPT_OS = 3, OPT_APPLICATION = 4, /* section */
	OPT_IF_NAME = 2, OPT_IF_TSRESOL = 9,               /* interface */
	OPT_FLAGS = 2,                                     /* packet */
	OPT_IF_RECEIVED = 4, OPT_IF_DROPPED = 5,           /* statistics */
};

static uint8_t *put16(uint8_t *p, uint16_t v)
{
	store_le16(p, v);
	return p + 2;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
	store_le32(p, v);
	return p + 4;
}

/* Stamps and nothing else have their high half first. */
static uint8_t *put_stamp(uint8_t *p, uint64_t stamp)
{
	return put32(put32(p, stamp >> 32), (uint32_t)stamp);
}

static uint8_t *put_bytes(uint8_t *p, const void *data, size_t len)
{
	memcpy(p, data, len);
	p += len;
	for (; len % 4; len++)
		*p++ = 0;
	return p;
}

static uint8_t *put_option(uint8_t *p, uint16_t code, const void *data, size_t len)
{
	return put_bytes(put16(put16(p, code), len), data, len);
}

static uint8_t *put_text(uint8_t *p, uint16_t code, const char *text)
{
	return put_option(p, code, text, strnlen(text, PCAPNG_NAME_MAX));
}

static uint8_t *put_count(uint8_t *p, uint16_t code, uint64_t n)
{
	uint8_t value[8];

	store_le64(value, n);
	return put_option(p, code, value, sizeof(value));
}

static uint8_t *block_begin(uint8_t *out, uint32_t type)
{
	return put32(put32(out, type), 0);
}

static size_t block_end(uint8_t *out, uint8_t *p)
{
	uint32_t total;

	p = put16(put16(p, OPT_END), 0);
	total = p + 4 - out;
	put32(p, total);
	put32(out + 4, total);
	return total;
}

size_t pcapng_section(uint8_t *out, const char *application)
{
	uint8_t *p = block_begin(out, BLOCK_SECTION);

	p = put16(put16(put32(p, BYTE_ORDER_MAGIC), 1), 0);
	p = put32(put32(p, 0xffffffff), 0xffffffff); /* a section of unknown length */
	p = put_text(p, OPT_HARDWARE, "x86-64");
	p = put_text(p, OPT_OS, "Linux");
	p = put_text(p, OPT_APPLICATION, application);
	return block_end(out, p);
}

size_t pcapng_interface(uint8_t *out, const char *name, uint32_t snaplen)
{
	static const uint8_t resolution = TSRESOL_NS;
	uint8_t *p = block_begin(out, BLOCK_INTERFACE);

	p = put32(put16(put16(p, LINKTYPE_ETHERNET), 0), snaplen);
	p = put_text(p, OPT_IF_NAME, name);
	p = put_option(p, OPT_IF_TSRESOL, &resolution, 1);
	return block_end(out, p);
}

size_t pcapng_packet(uint8_t *out, uint32_t interface, uint64_t stamp, enum pcapng_direction dir,
		     const uint8_t *frame, uint32_t kept, uint32_t len)
{
	uint8_t *p = block_begin(out, BLOCK_PACKET);
	uint8_t flags[4];

	p = put_stamp(put32(p, interface), stamp);
	p = put_bytes(put32(put32(p, kept), len), frame, kept);
	store_le32(flags, dir); /* bits 0-1; no word about reception type and FCS */
	p = put_option(p, OPT_FLAGS, flags, sizeof(flags));
	return block_end(out, p);
}

size_t pcapng_statistics(uint8_t *out, uint32_t interface, const struct pcapng_stats *stats)
{
	uint8_t *p = block_begin(out, BLOCK_STATISTICS);

	p = put_stamp(put32(p, interface), stats->stamp);
	p = put_count(p, OPT_IF_RECEIVED, stats->received);
	p = put_count(p, OPT_IF_DROPPED, stats->dropped);
	return block_end(out, p);
}

size_t pcap_header(uint8_t *out, uint32_t snaplen)
{
	uint8_t *p = put32(out, PCAP_MAGIC_NS);

	p = put16(put16(p, 2), 4);    /* version */
	p = put32(put32(p, 0), 0);    /* time zone, accuracy: always 0 */
	p = put32(put32(p, snaplen ? snaplen : PCAP_SNAPLEN), LINKTYPE_ETHERNET);
	return p - out;
}

size_t pcap_record(uint8_t *out, uint64_t stamp, const uint8_t *frame, uint32_t kept, uint32_t len)
{
	uint8_t *p = put32(put32(out, stamp / 1000000000), stamp % 1000000000);

	p = put32(put32(p, kept), len);
	memcpy(p, frame, kept);
	return p + kept - out;
}
