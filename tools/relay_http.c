/* Plain HTTP on the relay's port: the status, its page, and who may come in.
 *
 * A token is looked for in "Authorization: Bearer TOKEN" (RFC 6750 2.1) and in the
 * query as "token=TOKEN", because a browser's WebSocket cannot set headers.
 */
#include <string.h>

#include "core/util.h"
#include "tools/relay_priv.h"

enum {
	RESPONSES_MAX = 64,       /* at a time: each may hold a text */
	JSON_FRESH_NS = 200000000,
	PIECE = 16 * 1024,
	HEADERS = 1024,
};

/* Compares all tokens in full: how long it takes says nothing. */
static bool token_good(const struct relay *r, const char *given, size_t len)
{
	char padded[RELAY_TOKEN_SIZE] = { 0 };
	unsigned good = 0;

	if (len >= sizeof(padded))
		return false;
	memcpy(padded, given, len);
	for (unsigned i = 0; i < r->options.tokens; i++) {
		unsigned char diff = 0;

		for (size_t k = 0; k < sizeof(padded); k++)
			diff |= (unsigned char)(padded[k] ^ r->options.token[i][k]);
		good |= !diff;
	}
	explicit_bzero(padded, sizeof(padded));
	return good;
}

static bool authorized(const struct relay *r, struct lws *wsi)
{
	char text[RELAY_TOKEN_SIZE + 16];
	const char *token;
	bool good = false;
	int n;

	if (!r->options.tokens)
		return true;
	n = lws_hdr_copy(wsi, text, sizeof(text), WSI_TOKEN_HTTP_AUTHORIZATION);
	if (n > 7 && !strncasecmp(text, "Bearer ", 7))
		good = token_good(r, text + 7, (size_t)n - 7);
	if (!good) {
		token = lws_get_urlarg_by_name(wsi, "token=", text, sizeof(text));
		if (token)
			good = token_good(r, token, strlen(token));
	}
	explicit_bzero(text, sizeof(text));
	return good;
}

/* At most one line a second, however many knock. */
static void refuse(struct relay *r, struct lws *wsi, const char *why)
{
	char address[RELAY_ADDRESS_SIZE] = "?";
	int64_t now = relay_now();

	r->refused++;
	if (now - r->refused_told < 1000000000ll)
		return;
	r->refused_told = now;
	lws_get_peer_simple(wsi, address, sizeof(address));
	relay_log(r, "refused", NULL, "connection from %s: %s (%llu refused so far)", address, why,
		  (unsigned long long)r->refused);
}

static int headers(struct lws *wsi, unsigned code, const char *type, size_t len)
{
	uint8_t buf[LWS_PRE + HEADERS], *p = buf + LWS_PRE, *end = buf + sizeof(buf) - 1;
	static const char policy[] = "default-src 'none'; script-src 'unsafe-inline'; "
		"style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; "
		"form-action 'none'; frame-ancestors 'none'";
	static const struct {
		const char *name, *value;
	} more[] = {
		{ "content-security-policy:", policy },
		{ "x-content-type-options:", "nosniff" },
		{ "referrer-policy:", "no-referrer" },
		{ "cache-control:", "no-store" },
	};

	if (lws_add_http_common_headers(wsi, code, type, len, &p, end))
		return 1;
	for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
		if (lws_add_http_header_by_name(wsi, (const uint8_t *)more[i].name,
						(const uint8_t *)more[i].value,
						(int)strlen(more[i].value), &p, end))
			return 1;
	}
	if (code == 401 && lws_add_http_header_by_name(wsi, (const uint8_t *)"www-authenticate:",
						       (const uint8_t *)"Bearer", 6, &p, end))
		return 1;
	if (lws_finalize_http_header(wsi, &p, end))
		return 1;
	return lws_write(wsi, buf + LWS_PRE, (size_t)(p - buf - LWS_PRE),
			 LWS_WRITE_HTTP_HEADERS) < 0;
}

/* A short answer in plain text, complete when this returns; 0 if it was sent. */
static int answer(struct lws *wsi, unsigned code, const char *text)
{
	uint8_t buf[LWS_PRE + 256];
	size_t len = MIN(strlen(text), sizeof(buf) - LWS_PRE);

	if (headers(wsi, code, "text/plain; charset=utf-8", len))
		return 1;
	memcpy(buf + LWS_PRE, text, len);
	return lws_write(wsi, buf + LWS_PRE, len, LWS_WRITE_HTTP_FINAL) < 0;
}

static int finish(struct lws *wsi, int failed)
{
	return failed || lws_http_transaction_completed(wsi) ? -1 : 0;
}

static struct relay_text *status_json(struct relay *r)
{
	int64_t now = relay_now();

	if (!r->json || now - r->json_made > JSON_FRESH_NS) {
		relay_text_put(r->json);
		r->json = relay_page_json(r);
		r->json_made = now;
	}
	if (r->json)
		r->json->refs++;
	return r->json;
}

int relay_http_request(struct relay *r, struct lws *wsi, struct relay_session *s,
		       const char *path)
{
	bool get = lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) > 0;
	bool head = lws_hdr_total_length(wsi, WSI_TOKEN_HEAD_URI) > 0;
	bool json = !strcmp(path, "/status.json"), page = !strcmp(path, "/");

	if (!get && !head)
		return finish(wsi, answer(wsi, 405, "Only GET and HEAD are understood here.\n"));
	if (!authorized(r, wsi)) {
		refuse(r, wsi, "no valid token");
		return finish(wsi, answer(wsi, 401, "This relay wants a token: Authorization: "
					  "Bearer TOKEN, or ?token=TOKEN.\n"));
	}
	if (!json && !page)
		return finish(wsi, answer(wsi, 404, "Frames go over a WebSocket; the status is "
					  "at / and /status.json.\n"));
	if (s->text || r->responses >= RESPONSES_MAX)
		return finish(wsi, answer(wsi, 503, "Too many ask at once.\n"));
	s->text = json ? status_json(r) : relay_page_html();
	if (!s->text)
		return finish(wsi, answer(wsi, 503, "Out of memory.\n"));
	r->responses++;
	s->sent = 0;
	if (headers(wsi, 200, json ? "application/json" : "text/html; charset=utf-8",
		    s->text->len))
		return -1;
	if (head) {
		relay_http_closed(r, s);
		return finish(wsi, 0);
	}
	lws_callback_on_writable(wsi);
	return 0;
}

int relay_http_writeable(struct relay *r, struct lws *wsi, struct relay_session *s)
{
	size_t n;
	bool last;

	if (!s->text)
		return 0;
	n = MIN(s->text->len - s->sent, (size_t)PIECE);
	last = s->sent + n == s->text->len;
	memcpy(r->scratch + LWS_PRE, s->text->data + s->sent, n);
	if (lws_write(wsi, r->scratch + LWS_PRE, n,
		      last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < (int)n)
		return -1;
	s->sent += n;
	if (last) {
		relay_http_closed(r, s);
		return finish(wsi, 0);
	}
	lws_callback_on_writable(wsi);
	return 0;
}

void relay_http_closed(struct relay *r, struct relay_session *s)
{
	if (!s->text)
		return;
	relay_text_put(s->text);
	s->text = NULL;
	r->responses--;
}

static bool address_full(const struct relay *r, struct lws *wsi)
{
	char address[RELAY_ADDRESS_SIZE] = "", other[RELAY_ADDRESS_SIZE];
	unsigned n = 0;

	if (!r->options.max_per_address)
		return false;
	lws_get_peer_simple(wsi, address, sizeof(address));
	for (unsigned i = 0; i < r->clients; i++) {
		lws_get_peer_simple(r->client[i]->wsi, other, sizeof(other));
		n += !strcmp(address, other);
	}
	return n >= r->options.max_per_address;
}

/* RFC 6455 4.2.2: a server that picks a subprotocol names one the client asked for;
 * browsers insist on it. Frames are the same under any name, so it gets its first:
 * the table entry libwebsockets is about to look through bears that name. */
static void pick_subprotocol(struct relay *r, struct lws *wsi)
{
	char list[128];
	int n = lws_hdr_copy(wsi, list, sizeof(list), WSI_TOKEN_PROTOCOL);
	size_t len;

	strcpy(r->subprotocol, "?");
	if (n <= 0)
		return;
	len = strcspn(list, ", \t");
	if (len && len < sizeof(r->subprotocol)) {
		memcpy(r->subprotocol, list, len);
		r->subprotocol[len] = '\0';
	}
}

int relay_http_upgrade(struct relay *r, struct lws *wsi, const char *to)
{
	char path[RELAY_PATH_SIZE];
	unsigned code = 0;
	const char *text = "";

	if (lws_hdr_copy(wsi, path, sizeof(path), WSI_TOKEN_GET_URI) < 0)
		path[0] = '\0'; /* long: not the status's, then */
	if (strcasecmp(to, "websocket")) {
		code = 400;
		text = "WebSocket is the only upgrade here.\n";
	} else if (!authorized(r, wsi)) {
		refuse(r, wsi, "no valid token");
		code = 401;
		text = "This relay wants a token: Authorization: Bearer TOKEN, or ?token=TOKEN.\n";
	} else if (!strcmp(path, "/status.json")) {
		code = 400;
		text = "No frames at this address: use any other path.\n";
	} else if (r->clients >= r->options.max_clients) {
		refuse(r, wsi, "--max-clients are connected");
		code = 503;
		text = "This relay is full.\n";
	} else if (address_full(r, wsi)) {
		refuse(r, wsi, "--max-per-address are connected");
		code = 503;
		text = "This relay has enough clients from your address.\n";
	}
	if (!code) {
		pick_subprotocol(r, wsi);
		return 0;
	}
	return answer(wsi, code, text) ? -1 : 1;
}
