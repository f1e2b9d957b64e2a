/* gannet relay: a WebSocket Ethernet relay. */
#ifndef GANNET_TOOLS_RELAY_H
#define GANNET_TOOLS_RELAY_H

/** relay_main - argv[0] is the word "relay"; returns the exit code */
int relay_main(int argc, char **argv);

#endif
