/* Preloaded: a resolver whose server does not answer, for RESOLVER_MS milliseconds. */
#include <netdb.h>
#include <stdlib.h>
#include <time.h>

__attribute__((visibility("default"))) int getaddrinfo(const char *node, const char *service,
						       const struct addrinfo *hints,
						       struct addrinfo **result)
{
	long ms = atol(getenv("RESOLVER_MS"));
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	(void)node;
	(void)service;
	(void)hints;
	(void)result;
	nanosleep(&t, NULL);
	return EAI_AGAIN;
}
