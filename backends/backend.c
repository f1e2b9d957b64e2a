/* Which backends there are, and how a URL finds its own. See backend.h. */
#include "backends/backend.h"

#include <stdio.h>
#include <string.h>

#include "config.h"
#include "core/util.h"

/* One row a scheme; what a build lacks is in `missing` below. */
static const struct backend_kind kinds[] = {
	{ "none", "none", "nothing: a cable that ends in the air", none_open },
	{ "loopback", "loopback:[NAME]",
	  "a switch that joins the cards of this machine, or, with a NAME, all that say NAME on this\n"
	  "host and belong to the same user. carrier=on: no carrier while nobody else is there.\n"
	  "What the guest sends meets delay=TIME, jitter=TIME, loss=SHARE, dup=SHARE, reorder=SHARE,\n"
	  "rate=10mbit, limit=BYTES on their way; seed=N repeats it", loopback_open },
	{ "stream", "stream:unix:PATH or stream:tcp:HOST:PORT",
	  "to a QEMU (-netdev stream, -netdev socket) or passt, or another gannet. server=on listens\n"
	  "there, for one peer at a time; else wait=off begins without the peer, reconnect=off ends\n"
	  "with it; carrier=on: the guest sees a pulled cable while there is none", stream_open },
	{ "tap", "tap:NAME",
	  "the host's interface NAME, made if that is permitted; up=on sets it up", tap_open },
#if HAVE_SLIRP
	{ "user", "user:[?net=10.0.2.0/24&hostfwd=tcp::2222-:22&...]",
	  "a network of its own with DHCP, DNS, NAT and TFTP, no root (libslirp). net=, host=,\n"
	  "dns=, dhcpstart=, hostname=, domainname=, restrict=on, ipv6=off, ipv6-prefix=, tftp=DIR,\n"
	  "bootfile=, tftp-server-name=, mtu= as QEMU has them; hostfwd=, several separated by ';',\n"
	  "listens on 127.0.0.1 unless an address is given, port 0 takes a free one and tells it",
	  user_open },
#endif
#if HAVE_WS
	{ "ws", "ws://HOST[:PORT]/[PATH][?token-file=FILE&...]",
	  "a WebSocket relay: one Ethernet frame a binary message. token=TEXT or token-file=FILE is\n"
	  "sent as bearer token; protocol=NAME asks for a subprotocol; ping=15s, timeout=30s (silence\n"
	  "that counts as a loss), retry=30s (the longest pause between attempts), age=500ms (older\n"
	  "frames are not sent), wait=5s (for the first connection; 0 starts without the relay),\n"
	  "carrier=on shows the guest whether there is a connection", ws_open },
	{ "wss", "wss://HOST[:PORT]/[PATH][?ca=FILE&...]",
	  "as ws: with TLS. The certificate is checked against the system's store, or ca=FILE (PEM);\n"
	  "verify=off trusts anybody", ws_open },
#endif
#if HAVE_PCAP
	{ "pcap", "pcap:FILE or pcap:in=FILE[,out=FILE][?speed=max&...]",
	  "capture files as the wire: what the guest sends is recorded in FILE or out=FILE, in=FILE\n"
	  "(pcap or pcapng, Ethernet) is replayed to it, with its gaps, from the guest's first frame\n"
	  "on. start=TIME begins that long after the machine's start instead; speed=2 doubles the\n"
	  "pace, speed=max goes as fast as the guest takes frames; loop=N plays N times (0: for ever);\n"
	  "filter=EXPR takes a part (pcap-filter(7)); max-gap=TIME cuts longer gaps (1 h). A name with\n"
	  "'?' or ',' in it is given percent-encoded as pcap:?in=FILE&out=FILE", pcap_file_open },
#endif
	{ NULL, NULL, NULL, NULL },
};

static const struct {
	const char *scheme, *library, *option;
} missing[] = {
#if !HAVE_WS
	{ "ws", "libwebsockets", "ws" },
	{ "wss", "libwebsockets", "ws" },
#endif
#if !HAVE_PCAP
	{ "pcap", "libpcap", "pcap" },
#endif
#if !HAVE_SLIRP
	{ "user", "libslirp", "slirp" },
#endif
	{ NULL, NULL, NULL },
};

const struct backend_kind *backend_kinds(void)
{
	return kinds;
}

static const struct backend_kind *find_kind(const char *scheme, struct error *err)
{
	char list[256] = "";

	for (const struct backend_kind *k = kinds; k->scheme; k++) {
		size_t used = strlen(list);

		if (!strcmp(k->scheme, scheme))
			return k;
		snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", k->scheme);
	}
	for (size_t i = 0; missing[i].scheme; i++) {
		if (!strcmp(missing[i].scheme, scheme)) {
			error_set(err, "this gannet was built without %s; build it with -D%s=enabled",
				  missing[i].library, missing[i].option);
			return NULL;
		}
	}
	error_set(err, "'%.40s' is no backend; there are %s", scheme, list);
	return NULL;
}

void backend_url_shown(const char *url, char *out, size_t size)
{
	size_t used = 0;

	do {
		const char *token = strstr(url, "token=");
		size_t keep = token ? (size_t)(token - url) + 6 : strlen(url);

		used += snprintf(out + used, size - used, "%.*s%s", (int)MIN(keep, 200), url,
				 token ? "..." : "");
		url += keep;
		url += token ? strcspn(url, "&") : 0;
	} while (*url && used < size);
}

struct net_backend *backend_open(struct backend_env *env, struct net_port *port,
				 const char *text, struct error *err)
{
	struct backend_url *url = backend_url_parse(text, err);
	const struct backend_kind *kind = url ? find_kind(url->scheme, err) : NULL;
	struct net_backend *b = kind ? kind->open(env, port, url, err) : NULL;
	char shown[256];

	for (unsigned i = 0; b && i < url->params; i++) {
		if (url->param[i].used)
			continue;
		error_set(err, "'%.40s' is no parameter of %s:", url->param[i].name, url->scheme);
		b->ops->close(b);
		b = NULL;
	}
	if (!b) {
		backend_url_shown(text, shown, sizeof(shown));
		error_prefix(err, "--net %s", shown);
	}
	backend_url_free(url);
	return b;
}
