/* A program that is the network: the other end of a guest's cable, in C.
 *
 *	example_ping KERNEL INITRD
 *
 * Boots a Linux guest whose card is plugged into this program. Every frame the guest
 * sends arrives in frame_sent(); a host at 10.9.8.1 that exists only here answers ARP
 * and ping by injecting frames. The guest's initramfs is expected to configure eth0,
 * ping 10.9.8.1, and switch itself off.
 *
 * Uses nothing but gannet.h: cc example_ping.c $(pkg-config --cflags --libs gannet)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/gannet.h"

enum { ETHERNET = 14, ARP_SIZE = 28, IPV4 = 20, FRAME_MAX = 1514 };

static const uint8_t our_mac[6] = { 0x02, 0x47, 0x41, 0x4e, 0x4e, 0x01 };
static const uint8_t our_ip[4] = { 10, 9, 8, 1 };

struct host {
	struct gannet *machine;
	unsigned frames, arps, pings, refused;
};

static unsigned get16(const uint8_t *p)
{
	return p[0] << 8 | p[1];
}

static void put16(uint8_t *p, unsigned value)
{
	p[0] = value >> 8;
	p[1] = value;
}

/* RFC 1071 */
static unsigned checksum(const uint8_t *p, size_t len)
{
	unsigned long sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? p[i] : p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum & 0xffff;
}

/* Frames injected from within frame_sent() wait until the guest takes them. */
static void answer(struct host *h, uint8_t *frame, size_t len)
{
	memcpy(frame, frame + 6, 6); /* back to the sender */
	memcpy(frame + 6, our_mac, 6);
	if (!gannet_net_inject(h->machine, 0, frame, len))
		h->refused++;
}

/* "who has 10.9.8.1?": RFC 826 */
static void arp(struct host *h, uint8_t *frame, size_t len)
{
	uint8_t *p = frame + ETHERNET;

	if (len < ETHERNET + ARP_SIZE || get16(p + 6) != 1 || memcmp(p + 24, our_ip, 4))
		return;
	put16(p + 6, 2);              /* operation: reply */
	memcpy(p + 18, p + 8, 10);    /* target: who asked */
	memcpy(p + 8, our_mac, 6);    /* sender: us */
	memcpy(p + 14, our_ip, 4);
	h->arps++;
	answer(h, frame, ETHERNET + ARP_SIZE);
}

/* Echo request to 10.9.8.1: RFC 792 */
static void ipv4(struct host *h, uint8_t *frame, size_t len)
{
	uint8_t *ip = frame + ETHERNET;
	size_t header, total;
	uint8_t *icmp;

	if (len < ETHERNET + IPV4)
		return;
	header = (ip[0] & 15) * 4;
	total = get16(ip + 2);
	if (ip[0] >> 4 != 4 || header < IPV4 || total < header + 8 || total > len - ETHERNET)
		return;
	icmp = ip + header;
	if (ip[9] != 1 || memcmp(ip + 16, our_ip, 4) || icmp[0] != 8)
		return;
	memcpy(ip + 16, ip + 12, 4);
	memcpy(ip + 12, our_ip, 4);
	icmp[0] = 0;                  /* echo reply */
	put16(icmp + 2, 0);
	put16(icmp + 2, checksum(icmp, total - header));
	h->pings++;
	answer(h, frame, ETHERNET + total);
}

static void frame_sent(void *opaque, const uint8_t *frame, size_t len)
{
	struct host *h = opaque;
	uint8_t copy[FRAME_MAX]; /* the frame is only lent to us */

	h->frames++;
	if (len < ETHERNET || len > sizeof(copy))
		return;
	memcpy(copy, frame, len);
	switch (get16(copy + 12)) {
	case 0x0806: arp(h, copy, len); break;
	case 0x0800: ipv4(h, copy, len); break;
	}
}

static void print_counter(void *opaque, const char *part, const char *name, uint64_t value)
{
	(void)opaque;
	if (value)
		printf("%s %s %llu\n", part, name, (unsigned long long)value);
}

int main(int argc, char **argv)
{
	const struct gannet_net_peer peer = { .send = frame_sent };
	struct host host = { NULL, 0, 0, 0, 0 };
	struct gannet_config cfg;
	char why[512];

	if (argc != 3) {
		fprintf(stderr, "usage: %s KERNEL INITRD\n", argv[0]);
		return 2;
	}
	gannet_config_init(&cfg);
	cfg.kernel = argv[1];
	cfg.initrd = argv[2];
	cfg.append = "console=ttyS0 quiet";
	cfg.serial[0] = "file:/dev/stdout";
	cfg.nics = 1; /* an RTL8029 at 00:05.0, not plugged in yet */
	host.machine = gannet_create(&cfg, why, sizeof(why));
	if (!host.machine || !gannet_net_attach(host.machine, 0, &peer, &host, why, sizeof(why))) {
		fprintf(stderr, "%s: %s\n", argv[0], why);
		gannet_destroy(host.machine);
		return 2;
	}
	gannet_run(host.machine);
	printf("%u frames from the guest, %u ARP requests and %u pings answered, %u refused\n",
	       host.frames, host.arps, host.pings, host.refused);
	gannet_net_counters(host.machine, 0, print_counter, NULL);
	gannet_destroy(host.machine);
	return host.pings ? 0 : 1;
}
