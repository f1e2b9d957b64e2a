/* Runs the frames of a pcap file through the translators:
 * translate_pcap STATION NEW IN OUT [GUEST-IP:WIRE-IP]
 *
 * All frames of IN were seen at the station with the address STATION. Those it sent go
 * to the wire as a guest's whose card has that address, the others to the guest as
 * frames for a wire address of STATION; so in either direction STATION becomes NEW. The
 * IPv4 translator is there if its addresses are given; it knows no direction.
 * Prints the counters that are not zero, as NAME VALUE lines.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/net.h"
#include "core/util.h"
#include "translate/ip.h"
#include "translate/mac.h"

struct end {
	struct net_nic nic;
	struct net_backend backend;
	FILE *out;
	const uint8_t *record; /* header of the frame under way */
	unsigned frames;
};

static void keep(struct end *e, const uint8_t *frame, size_t len)
{
	fwrite(e->record, 1, 16, e->out);
	fwrite(frame, 1, len, e->out);
	e->frames++;
}

static void nic_receive(struct net_nic *nic, const uint8_t *frame, size_t len)
{
	keep(container_of(nic, struct end, nic), frame, len);
}

static void backend_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	keep(container_of(b, struct end, backend), frame, len);
}

static void backend_close(struct net_backend *b)
{
	(void)b;
}

static const struct net_nic_ops nic_ops = { .name = "file", .receive = nic_receive };
static const struct net_backend_ops backend_ops = {
	.name = "file", .send = backend_send, .close = backend_close,
};

static void print_counters(const struct net_stage *s)
{
	for (unsigned i = 0; i < s->counters.count; i++) {
		const struct net_counter *c = &s->counters.item[i];

		if (net_counter_read(c))
			printf("%s.%s %llu\n", s->ops->name, c->name,
			       (unsigned long long)net_counter_read(c));
	}
}

int main(int argc, char **argv)
{
	uint8_t station[NET_MAC_SIZE], new[NET_MAC_SIZE], frame[NET_FRAME_MAX];
	uint8_t head[24], record[16];
	struct trace trace = { .out = stderr };
	struct end e = { .nic.ops = &nic_ops, .backend.ops = &backend_ops, .record = record };
	struct net_stage *stage = mac_translator_create();
	struct ip_rule rule = { .set = false };
	struct error err = { "" };
	struct net_port port;
	unsigned frames = 0;
	FILE *in;

	if (argc == 6 && !ip_rule_parse(argv[5], &rule, &err)) {
		fprintf(stderr, "translate_pcap: %s\n", err.text);
		return 2;
	}
	if (argc < 5 || argc > 6 || !net_mac_parse(argv[1], station) || !net_mac_parse(argv[2], new)) {
		fprintf(stderr, "translate_pcap STATION NEW IN OUT [GUEST-IP:WIRE-IP]\n");
		return 2;
	}
	in = fopen(argv[3], "rb");
	e.out = fopen(argv[4], "wb");
	if (!in || !e.out || !stage || fread(head, 1, 24, in) != 24 ||
	    load_le32(head) != 0xa1b2c3d4) {
		fprintf(stderr, "translate_pcap: %s: no pcap file, or %s not writable\n", argv[3],
			argv[4]);
		return 1;
	}
	fwrite(head, 1, 24, e.out);
	net_port_init(&port, NULL, &trace, 0);
	net_port_set_nic(&port, &e.nic);
	e.backend.port = &port;
	net_port_set_backend(&port, &e.backend);
	net_port_add_stage(&port, stage);
	if (rule.set)
		net_port_add_stage(&port, ip_translator_create(&rule, NULL));
	for (; fread(record, 1, 16, in) == 16; frames++) {
		uint32_t len = load_le32(record + 8);
		bool sent;

		if (len < NET_HEADER_SIZE || len > sizeof(frame) || fread(frame, 1, len, in) != len) {
			fprintf(stderr, "translate_pcap: %s: frame %u is bad\n", argv[3], frames + 1);
			return 1;
		}
		sent = !memcmp(frame + NET_MAC_SIZE, station, NET_MAC_SIZE);
		memcpy(sent ? port.guest_mac : port.wire_mac, station, NET_MAC_SIZE);
		memcpy(sent ? port.wire_mac : port.guest_mac, new, NET_MAC_SIZE);
		if (sent)
			net_port_send(&port, frame, len);
		else
			net_port_receive(&port, frame, len);
	}
	printf("frames-in %u\nframes-out %u\n", frames, e.frames);
	for (stage = port.stages[NET_TO_WIRE]; stage; stage = stage->next[NET_TO_WIRE])
		print_counters(stage);
	fclose(in);
	if (fclose(e.out)) {
		perror(argv[4]);
		return 1;
	}
	net_port_finish(&port);
	return 0;
}
