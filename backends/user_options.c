/* The options of user: in the words of QEMU's -netdev user, and their checks.
 *
 * What libslirp would take without a word and then not do (a DHCP range outside
 * of the network, say) is refused here.
 */
#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/user_priv.h"
#include "core/util.h"

/* Longer texts do not fit into libslirp's DHCP answer; it would leave them out. */
enum { HOSTNAME_MAX = 32, TEXT_MAX = 120, BOOTFILE_MAX = 127 };

static bool parse_ipv4(const char *name, const char *text, struct in_addr *addr,
		       struct error *err)
{
	if (inet_pton(AF_INET, text, addr) == 1)
		return true;
	error_set(err, "%s=%.60s is no IPv4 address such as 10.0.2.15", name, text);
	return false;
}

/* "10.0.2.0/24", "10.0.2.0/255.255.255.0", "10.0.2.0" (which means /24) */
static bool parse_net(const char *text, SlirpConfig *c, struct error *err)
{
	size_t len = strcspn(text, "/");
	char addr[INET_ADDRSTRLEN];
	const char *mask = text + len + (text[len] == '/');
	unsigned long bits = 24;
	uint32_t m;
	char *end;

	snprintf(addr, sizeof(addr), "%.*s", (int)MIN(len, sizeof(addr)), text);
	if (inet_pton(AF_INET, addr, &c->vnetwork) != 1) {
		error_set(err, "net=%.60s is no network such as 10.0.2.0/24", text);
		return false;
	}
	if (strchr(mask, '.')) {
		if (inet_pton(AF_INET, mask, &c->vnetmask) != 1 ||
		    (~ntohl(c->vnetmask.s_addr) & (~ntohl(c->vnetmask.s_addr) + 1))) {
			error_set(err, "net=%.60s: '%.20s' is no network mask", text, mask);
			return false;
		}
	} else {
		if (text[len] == '/')
			bits = strtoul(mask, &end, 10);
		if (text[len] == '/' && (*mask < '0' || *mask > '9' || *end || bits < 4 || bits > 30)) {
			error_set(err, "net=%.60s: the prefix length is from 4 to 30", text);
			return false;
		}
		c->vnetmask.s_addr = htonl(~(uint32_t)0 << (32 - bits));
	}
	m = ntohl(c->vnetmask.s_addr);
	if (m > 0xfffffffc || m < 0xf0000000) {
		error_set(err, "net=%.60s: the prefix length is from 4 to 30", text);
		return false;
	}
	c->vnetwork.s_addr &= c->vnetmask.s_addr;
	return true;
}

/* An address of the host part @fallback, or the parameter's. */
static bool address_in_net(struct backend_url *url, const char *name, const SlirpConfig *c,
			   uint32_t fallback, struct in_addr *addr, struct error *err)
{
	const char *text = url_text(url, name);
	uint32_t host;

	addr->s_addr = c->vnetwork.s_addr | (htonl(fallback) & ~c->vnetmask.s_addr);
	if (!text)
		return true;
	if (!parse_ipv4(name, text, addr, err))
		return false;
	host = ntohl(addr->s_addr & ~c->vnetmask.s_addr);
	if ((addr->s_addr & c->vnetmask.s_addr) != c->vnetwork.s_addr || !host ||
	    host == ~ntohl(c->vnetmask.s_addr)) {
		char net[INET_ADDRSTRLEN], mask[INET_ADDRSTRLEN];

		inet_ntop(AF_INET, &c->vnetwork, net, sizeof(net));
		inet_ntop(AF_INET, &c->vnetmask, mask, sizeof(mask));
		error_set(err, "%s=%s is not an address of the network %s/%s", name, text, net, mask);
		return false;
	}
	return true;
}

static bool parse_ipv6(struct backend_url *url, SlirpConfig *c, struct error *err)
{
	const char *text = url_text(url, "ipv6-prefix");
	char addr[INET6_ADDRSTRLEN] = "fec0::";
	unsigned long bits = 64;

	c->in6_enabled = true;
	if (!url_bool(url, "ipv6", &c->in6_enabled, err))
		return false;
	if (text) {
		size_t len = strcspn(text, "/");
		char *end = "";

		snprintf(addr, sizeof(addr), "%.*s", (int)MIN(len, sizeof(addr)), text);
		if (text[len])
			bits = strtoul(text + len + 1, &end, 10);
		if (*end || bits < 1 || bits > 126 || len >= sizeof(addr)) {
			error_set(err, "ipv6-prefix=%.60s: not PREFIX/LENGTH such as fec0::/64", text);
			return false;
		}
	}
	if (inet_pton(AF_INET6, addr, &c->vprefix_addr6) != 1) {
		error_set(err, "ipv6-prefix=%.60s: not PREFIX/LENGTH such as fec0::/64", text);
		return false;
	}
	c->vprefix_len = bits;
	for (unsigned i = 0; i < 16; i++) {
		unsigned keep = i * 8 >= bits ? 0 : MIN(bits - i * 8, 8);

		c->vprefix_addr6.s6_addr[i] &= 0xff00 >> keep;
	}
	c->vhost6 = c->vprefix_addr6;
	c->vhost6.s6_addr[15] |= 2;
	c->vnameserver6 = c->vprefix_addr6;
	c->vnameserver6.s6_addr[15] |= 3;
	return true;
}

static bool short_text(struct backend_url *url, const char *name, size_t max, const char **text,
		       struct error *err)
{
	*text = url_text(url, name);
	if (!*text || (**text && strlen(*text) <= max))
		return true;
	error_set(err, "%s=%.60s: 1 to %zu characters", name, *text, max);
	return false;
}

static bool check_tftp(const char *dir, struct error *err)
{
	struct stat st;

	if (dir && (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || access(dir, X_OK) < 0)) {
		error_set(err, "tftp=%.200s is no directory that can be read", dir);
		return false;
	}
	return true;
}

bool user_options(struct backend_url *url, SlirpConfig *c, struct error *err)
{
	const char *text = url_text(url, "net");
	bool restricted = false;
	uint64_t mtu = 0;

	memset(c, 0, sizeof(*c));
	c->version = MIN(4, SLIRP_CONFIG_VERSION_MAX);
	c->in_enabled = true;
	if (!parse_net(text ? text : "10.0.2.0/24", c, err) ||
	    !address_in_net(url, "host", c, 2, &c->vhost, err) ||
	    !address_in_net(url, "dns", c, 3, &c->vnameserver, err) ||
	    !address_in_net(url, "dhcpstart", c, 15, &c->vdhcp_start, err) ||
	    !parse_ipv6(url, c, err) ||
	    !url_bool(url, "restrict", &restricted, err) ||
	    !url_number(url, "mtu", 576, NET_FRAME_MAX - NET_HEADER_SIZE, &mtu, err) ||
	    !short_text(url, "hostname", HOSTNAME_MAX, &c->vhostname, err) ||
	    !short_text(url, "domainname", TEXT_MAX, &c->vdomainname, err) ||
	    !short_text(url, "tftp-server-name", TEXT_MAX, &c->tftp_server_name, err) ||
	    !short_text(url, "bootfile", BOOTFILE_MAX, &c->bootfile, err) ||
	    !short_text(url, "tftp", PATH_MAX - 1, &c->tftp_path, err) ||
	    !check_tftp(c->tftp_path, err))
		return false;
	if (c->vhost.s_addr == c->vnameserver.s_addr || c->vhost.s_addr == c->vdhcp_start.s_addr ||
	    c->vnameserver.s_addr == c->vdhcp_start.s_addr) {
		error_set(err, "host=, dns= and dhcpstart= must be three addresses; two of them are %s",
			  inet_ntoa(c->vhost.s_addr == c->vnameserver.s_addr ||
				    c->vhost.s_addr == c->vdhcp_start.s_addr ? c->vhost :
				    c->vnameserver));
		return false;
	}
	c->restricted = restricted;
	c->if_mtu = c->if_mru = mtu; /* 0: 1500 */
	return true;
}

/* ---- hostfwd ---- */

/* "[ADDRESS]:PORT" up to @end; an IPv6 address stands in brackets. */
static bool parse_end(const char *p, const char *end, const char *fallback, uint16_t min,
		      struct sockaddr_storage *addr, socklen_t *len, const char **why)
{
	const char *colon = memrchr(p, ':', end - p);
	struct sockaddr_in *in = (struct sockaddr_in *)addr;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)addr;
	char text[INET6_ADDRSTRLEN] = "", *stop;
	unsigned long port;

	memset(addr, 0, sizeof(*addr));
	*why = "a port is missing";
	if (!colon || colon + 1 == end)
		return false;
	*why = "a bad port";
	port = strtoul(colon + 1, &stop, 10);
	if (colon[1] < '0' || colon[1] > '9' || stop != end || port < min || port > 65535)
		return false;
	*why = "a bad address";
	if (*p == '[' && colon > p + 1 && colon[-1] == ']') {
		*len = sizeof(*in6);
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		if (colon - p - 2 >= (ptrdiff_t)sizeof(text))
			return false;
		memcpy(text, p + 1, colon - p - 2);
		return inet_pton(AF_INET6, text, &in6->sin6_addr) == 1;
	}
	*len = sizeof(*in);
	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	if (colon - p >= (ptrdiff_t)sizeof(text))
		return false;
	memcpy(text, colon > p ? p : fallback, colon > p ? (size_t)(colon - p) : strlen(fallback));
	return inet_pton(AF_INET, text, &in->sin_addr) == 1;
}

const char *user_next_forward(const char *text, struct user_forward *f, struct error *err)
{
	size_t len = strcspn(text, ";,");
	const char *end = text + len, *p = text, *dash = memchr(text, '-', len);
	const char *why = "not tcp or udp";

	memset(f, 0, sizeof(*f));
	if (len > 4 && !memcmp(p, "udp:", 4))
		f->udp = true;
	else if (!(len > 4 && !memcmp(p, "tcp:", 4)) && *p != ':')
		goto fail;
	p += *p == ':' ? 1 : 4;
	why = "no '-' between the host's end and the guest's";
	if (!dash)
		goto fail;
	/* QEMU listens on all addresses if none is given, which shows the guest to
	 * everybody around; who wants that says 0.0.0.0. */
	if (!parse_end(p, dash, "127.0.0.1", 0, &f->host, &f->host_len, &why) ||
	    !parse_end(dash + 1, end, "0.0.0.0", 1, &f->guest, &f->guest_len, &why))
		goto fail;
	snprintf(f->text, sizeof(f->text), "%.*s", (int)MIN(len, sizeof(f->text) - 1), text);
	return *end ? end + 1 : end;
fail:
	error_set(err, "hostfwd=%.*s: %s; write tcp:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT, several separated by ';'",
		  (int)MIN(len, 120), text, why);
	return NULL;
}

void user_address_text(const struct sockaddr_storage *addr, char *text, size_t size)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)addr;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;
	char host[INET6_ADDRSTRLEN] = "?";

	if (addr->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(text, size, "[%s]:%u", host, ntohs(in6->sin6_port));
	} else {
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(text, size, "%s:%u", host, ntohs(in->sin_port));
	}
}
