/* Whom a wss:// relay has to be. See ws_priv.h.
 *
 * libwebsockets finds its connection by way of an index that each new context of
 * the process changes, so certificates are checked here instead: an SSL_CTX of our
 * own with a verification function of its own, which also knows why it refused
 * and understands IPv6 addresses as host names (RFC 9110 section 4.3.4, RFC 9525).
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "backends/ws_priv.h"

/* Instead of the callback of libwebsockets: what OpenSSL found stands. */
static int keep_verdict(int ok, X509_STORE_CTX *store)
{
	(void)store;
	return ok;
}

static void explain(struct ws_io *io, int code)
{
	const char *name = io->config.host, *text;

	switch (code) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		snprintf(io->refusal, sizeof(io->refusal),
			 "certificate refused: it is not for '%.80s' (host name mismatch)", name);
		return;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		text = "it has expired";
		break;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		text = "it is not valid yet";
		break;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		text = "it is self-signed; trust it with ca=FILE";
		break;
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
		text = "its issuer is not trusted; name it with ca=FILE";
		break;
	default:
		text = X509_verify_cert_error_string(code);
	}
	snprintf(io->refusal, sizeof(io->refusal), "certificate refused: %.120s", text);
}

static int verify(X509_STORE_CTX *store, void *opaque)
{
	struct ws_io *io = opaque;
	X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(store);
	int code;

	if (!io->config.verify) {
		X509_STORE_CTX_set_error(store, X509_V_OK);
		return 1;
	}
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (!X509_VERIFY_PARAM_set1_ip_asc(param, io->config.host) &&
	    !X509_VERIFY_PARAM_set1_host(param, io->config.host, 0)) {
		X509_STORE_CTX_set_error(store, X509_V_ERR_OUT_OF_MEM);
		return 0;
	}
	X509_STORE_CTX_set_verify_cb(store, keep_verdict);
	if (X509_verify_cert(store) > 0)
		return 1;
	code = X509_STORE_CTX_get_error(store);
	if (code == X509_V_OK) {
		code = X509_V_ERR_UNSPECIFIED;
		X509_STORE_CTX_set_error(store, code);
	}
	explain(io, code);
	return 0;
}

/* libwebsockets throws OpenSSL's errors away; here they are still to be had. */
static void note_failure(const SSL *ssl, int where, int result)
{
	struct ws_io *io = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	unsigned long code = ERR_peek_last_error();
	const char *text = code ? ERR_reason_error_string(code) : NULL;

	if ((where & SSL_CB_EXIT) && result <= 0 && text && !io->refusal[0])
		snprintf(io->refusal, sizeof(io->refusal), "no TLS with it: %.120s", text);
}

void *ws_tls_create(struct ws_io *io, const char *ca, struct error *err)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (!ctx) {
		error_set(err, "TLS does not start: %s", ERR_reason_error_string(ERR_get_error()));
		return NULL;
	}
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	if (ca ? !SSL_CTX_load_verify_file(ctx, ca) : !SSL_CTX_set_default_verify_paths(ctx)) {
		unsigned long code = ERR_peek_error();
		const char *why = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) :
				  "no certificates in PEM format in it";

		error_set(err, "%s%s: %s", ca ? "ca=" : "the system's certificates", ca ? ca : "", why);
		ERR_clear_error();
		SSL_CTX_free(ctx);
		return NULL;
	}
	SSL_CTX_set_app_data(ctx, io);
	SSL_CTX_set_info_callback(ctx, note_failure);
	SSL_CTX_set_cert_verify_callback(ctx, verify, io);
	return ctx;
}

void ws_tls_destroy(void *ssl_ctx)
{
	SSL_CTX_free(ssl_ctx);
}
