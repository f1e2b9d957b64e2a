/* none: a cable that ends in the air. Every frame is counted and gone. */
#include <stdlib.h>

#include "backends/backend.h"
#include "core/util.h"

struct none {
	struct net_backend base;
	struct net_counter sent;
};

static void none_send(struct net_backend *b, const uint8_t *frame, size_t len)
{
	(void)frame;
	(void)len;
	net_count(&container_of(b, struct none, base)->sent);
}

static void none_close(struct net_backend *b)
{
	free(container_of(b, struct none, base));
}

static const struct net_backend_ops none_ops = {
	.name = "none", .send = none_send, .close = none_close,
};

struct net_backend *none_open(struct backend_env *env, struct net_port *port,
			      struct backend_url *url, struct error *err)
{
	struct none *n = calloc(1, sizeof(*n));

	(void)env;
	(void)url;
	if (!n) {
		error_set(err, "out of memory");
		return NULL;
	}
	n->sent.name = "drop.nobody-there";
	n->base = (struct net_backend){ &none_ops, port, { &n->sent, 1 } };
	return &n->base;
}
