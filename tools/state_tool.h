/* gannet state: what is in state images, whether it is whole, and what differs. */
#ifndef GANNET_TOOLS_STATE_TOOL_H
#define GANNET_TOOLS_STATE_TOOL_H

/** state_main - argv[0] is the word "state"; returns the exit code */
int state_main(int argc, char **argv);

#endif
