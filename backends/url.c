/* Taking a backend's URL apart. See backend.h; the shapes are those of RFC 3986. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "backends/backend.h"
#include "core/loop.h"

enum { URL_MAX = 4096 };

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A decoded copy of @len bytes; NULL if a '%' is not followed by two digits, or decodes
 * to a NUL. In "1%" it is a percentage: a number and '%' at the end stay as they are. */
static char *decode(const char *text, size_t len)
{
	char *out = malloc(len + 1), *p = out;

	for (size_t i = 0; out && i < len; i++) {
		int high, low;

		if (text[i] != '%' || (i && i + 1 == len && text[i - 1] >= '0' && text[i - 1] <= '9')) {
			*p++ = text[i];
			continue;
		}
		high = i + 2 < len ? hex_value(text[i + 1]) : -1;
		low = high < 0 ? -1 : hex_value(text[i + 2]);
		if (low < 0 || !(high | low)) {
			free(out);
			return NULL;
		}
		*p++ = high << 4 | low;
		i += 2;
	}
	if (out)
		*p = '\0';
	return out;
}

static bool parse_params(struct backend_url *url, const char *p, struct error *err)
{
	while (*p) {
		size_t len = strcspn(p, "&"), name = strcspn(p, "=&");
		struct url_param *param = &url->param[url->params];

		if (len == 0) {
			p++;
			continue;
		}
		if (url->params == URL_PARAMS) {
			error_set(err, "more than %d parameters", URL_PARAMS);
			return false;
		}
		url->params++;
		param->name = decode(p, name);
		param->value = decode(p + name + (name < len), len - name - (name < len));
		if (!param->name || !param->value) {
			error_set(err, "'%%' in the parameter %.*s is not followed by two hexadecimal digits (a '%%' itself is %%25)",
				  (int)name, p);
			return false;
		}
		for (unsigned i = 0; i + 1 < url->params; i++) {
			if (!strcmp(url->param[i].name, param->name)) {
				error_set(err, "the parameter %s is given twice", param->name);
				return false;
			}
		}
		p += len + (p[len] == '&');
	}
	return true;
}

/* "host", "host:80", "[::1]:80", up to the path. */
static bool parse_authority(struct backend_url *url, const char *p, struct error *err)
{
	size_t len = strcspn(p, "/");
	const char *host = p, *colon;
	size_t host_len = len;

	if (*p == '[') {
		const char *end = memchr(p, ']', len);

		if (!end) {
			error_set(err, "'[' without ']' around the host");
			return false;
		}
		host = p + 1;
		host_len = end - host;
		colon = end + 1 < p + len ? end + 1 : NULL;
		if (colon && *colon != ':') {
			error_set(err, "after ']' comes ':' and a port, or nothing");
			return false;
		}
	} else {
		colon = memchr(p, ':', len);
		if (colon)
			host_len = colon - p;
	}
	if (colon) {
		char *end;
		unsigned long port = strtoul(colon + 1, &end, 10);

		if (colon[1] < '0' || colon[1] > '9' || end != p + len || !port || port > 65535) {
			error_set(err, "'%.*s' is no port; 1 to 65535", (int)(p + len - colon - 1),
				  colon + 1);
			return false;
		}
		url->port = port;
	}
	if (!host_len) {
		error_set(err, "no host after '//'");
		return false;
	}
	url->host = strndup(host, host_len);
	url->path = strdup(p[len] ? p + len : "/");
	return url->host && url->path;
}

struct backend_url *backend_url_parse(const char *text, struct error *err)
{
	size_t scheme = strcspn(text, ":?"), body;
	struct backend_url *url = calloc(1, sizeof(*url));
	const char *p = text + scheme;

	error_set(err, "out of memory");
	if (!url)
		return NULL;
	if (!scheme || scheme > 32 || strlen(text) > URL_MAX ||
	    strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.") < scheme) {
		error_set(err, "not SCHEME:... as in ws://HOST/, user: or pcap:FILE");
		goto fail;
	}
	url->scheme = strndup(text, scheme);
	if (!url->scheme)
		goto fail;
	for (char *c = url->scheme; *c; c++)
		*c |= *c >= 'A' && *c <= 'Z' ? 0x20 : 0;
	p += *p == ':';
	body = strcspn(p, "?");
	url->body = strndup(p, body);
	if (!url->body)
		goto fail;
	if (!strncmp(url->body, "//", 2) && !parse_authority(url, url->body + 2, err))
		goto fail;
	if (p[body] && !parse_params(url, p + body + 1, err))
		goto fail;
	return url;
fail:
	backend_url_free(url);
	return NULL;
}

void backend_url_free(struct backend_url *url)
{
	if (!url)
		return;
	for (unsigned i = 0; i < url->params; i++) {
		free(url->param[i].name);
		free(url->param[i].value);
	}
	free(url->scheme);
	free(url->body);
	free(url->host);
	free(url->path);
	free(url);
}

const char *url_text(struct backend_url *url, const char *name)
{
	for (unsigned i = 0; i < url->params; i++) {
		if (!strcmp(url->param[i].name, name)) {
			url->param[i].used = true;
			return url->param[i].value;
		}
	}
	return NULL;
}

bool url_bool(struct backend_url *url, const char *name, bool *value, struct error *err)
{
	static const char *const words[][2] = {
		{ "off", "on" }, { "no", "yes" }, { "0", "1" }, { "false", "true" },
	};
	const char *text = url_text(url, name);

	if (!text)
		return true;
	if (!*text) {
		*value = true;
		return true;
	}
	for (unsigned i = 0; i < 8; i++) {
		if (!strcasecmp(text, words[i / 2][i % 2])) {
			*value = i % 2;
			return true;
		}
	}
	error_set(err, "%s=%s: on or off", name, text);
	return false;
}

bool url_number(struct backend_url *url, const char *name, uint64_t min, uint64_t max,
		uint64_t *value, struct error *err)
{
	const char *text = url_text(url, name);
	unsigned long long n;
	char *end;

	if (!text)
		return true;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || n < min || n > max) {
		error_set(err, "%s=%s: a number from %llu to %llu", name, text,
			  (unsigned long long)min, (unsigned long long)max);
		return false;
	}
	*value = n;
	return true;
}

bool url_time(struct backend_url *url, const char *name, int64_t max_ns, int64_t *ns,
	      struct error *err)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = { { "", 1e9 }, { "s", 1e9 }, { "ms", 1e6 }, { "us", 1e3 }, { "ns", 1 } };
	const char *text = url_text(url, name);
	double n;
	char *end;

	if (!text)
		return true;
	n = strtod(text, &end);
	for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (((text[0] >= '0' && text[0] <= '9') || text[0] == '.') && !strcmp(end, units[i].name) &&
		    n * units[i].ns <= max_ns) {
			*ns = n * units[i].ns;
			return true;
		}
	}
	error_set(err, "%s=%s: a time up to %g s, as in 20ms or 1.5s", name, text, max_ns / 1e9);
	return false;
}
