/* gannet relay in a build without libwebsockets. */
#include <stdio.h>

#include "tools/relay.h"

int relay_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	fputs("gannet relay: this gannet was built without libwebsockets\n", stderr);
	return 2;
}
