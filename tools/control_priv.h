/* What the files of the control socket share. */
#ifndef GANNET_TOOLS_CONTROL_PRIV_H
#define GANNET_TOOLS_CONTROL_PRIV_H

#include <jansson.h>
#include <sys/types.h>
#include <time.h>

#include "tools/control.h"
#include "tools/text_match.h"

enum {
	CONTROL_CLIENTS = 16,
	CONTROL_LINE_MAX = 64 << 10,   /* bytes of a request */
	CONTROL_HISTORY = 64 << 10,    /* of a serial port's text */
	CONTROL_OUT_MAX = 256 << 10,   /* unread answers, beyond which no request is looked at */
	CONTROL_SCREEN_MAX = 128 * (256 * 3 + 1),
};

/* What a serial port has said, as a person reads it: no escape sequences, no CR. */
struct history {
	struct control *control;
	unsigned port;
	uint8_t text[CONTROL_HISTORY];
	uint64_t end;           /* bytes so far; the last CONTROL_HISTORY of them are there */
	uint64_t mark;          /* up to where waits have read */
	enum { PLAIN, ESCAPE, SEQUENCE, STRING, STRING_ESCAPE, CHARSET } state;
};

/* An answer that takes its time. */
enum task_kind { TASK_NONE, TASK_SERIAL, TASK_SCREEN, TASK_TYPE, TASK_SEND };

struct key_event {
	uint8_t key;
	bool down;
};

struct task {
	enum task_kind kind;
	json_t *id;
	int64_t deadline;       /* host's monotonic clock, ns */
	double timeout;         /* s, as asked */
	bool done;              /* fits: to be answered */
	unsigned port;
	struct text_match *match;
	char *pattern;
	uint64_t from;          /* where in the history the matcher began */
	struct key_event *keys;
	char *text;
	size_t at, count;       /* of keys, or bytes of text */
};

struct client {
	struct control *control;
	int fd;                 /* -1: free */
	struct gannet_watch *watch;
	char in[CONTROL_LINE_MAX];
	size_t in_len;
	bool discard;           /* in the midst of a line that is too long */
	bool eof;               /* it says no more, and may still listen */
	bool events;
	bool progress;          /* of the save at work */
	int64_t progress_at;
	json_t *progress_id;
	char *out;
	size_t out_len, out_room;
	struct task task;
};

struct control {
	struct gannet *g;
	char *path;
	dev_t dev;              /* of the socket: another's is not removed */
	ino_t ino;
	int fd, timer;
	struct gannet_watch *watch, *timer_watch;
	int64_t started;
	int64_t key_at;         /* when the keyboard may be pressed again */
	struct client *typist;  /* whose keys are being pressed; others wait */
	int64_t accept_at;      /* when to look for new clients again; 0: always */
	bool soon;              /* something is to be done at once */
	struct client *client[CONTROL_CLIENTS];
	struct history serial[GANNET_SERIALS];
	char screen[CONTROL_SCREEN_MAX];
};

static inline int64_t control_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

/* ---- control.c ---- */

/** control_say - a line to one client; takes over @message */
void control_say(struct client *cl, json_t *message);
/** control_event - to all who asked for events; takes over @event */
void control_event(struct control *c, json_t *event);
/** control_wake - have control_tasks() called soon; also from within a tap */
void control_wake(struct control *c);

/* ---- control_command.c ---- */

/** control_command - a request: fills @reply, or @err; or sets cl->task, which answers later */
bool control_command(struct client *cl, json_t *request, json_t *reply, struct error *err);

/* ---- control_task.c ---- */

/** control_tap - the tap of a serial port; @opaque: its history */
void control_tap(void *opaque, const uint8_t *buf, size_t len);
/** history_text - from position *@from, which is moved to what is still there, to @to */
json_t *history_text(const struct history *h, uint64_t *from, uint64_t to);
/** screen_text - what the screen shows, a line a row, blanks at the end cut off; bytes, or
 *  -1: a graphics mode or no display */
ssize_t screen_text(struct control *c);
/** text_value - bytes of any kind as JSON's text: what is no UTF-8 becomes U+FFFD */
json_t *text_value(const uint8_t *text, size_t len);

bool task_wait(struct client *cl, json_t *request, struct error *err);
bool task_type(struct client *cl, json_t *request, struct error *err);
bool task_key(struct client *cl, json_t *request, struct error *err);
bool task_send(struct client *cl, json_t *request, struct error *err);
/** tasks_run - what can be done now; answers what is done or too late. Returns when to
 *  come again (host's clock), INT64_MAX: no need */
int64_t tasks_run(struct control *c);
/** task_finish - forget it */
void task_finish(struct task *t);
/** task_abandon - the same in the midst of it: keys that are held are let go */
void task_abandon(struct client *cl);

/* Fields of a request. An absent one leaves *@value alone; those without "may" must be there. */
bool field_text(json_t *request, const char *name, const char **value, struct error *err);
bool field_may_text(json_t *request, const char *name, const char **value, struct error *err);
bool field_bool(json_t *request, const char *name, bool *value, struct error *err);
bool field_may_bool(json_t *request, const char *name, bool *value, struct error *err);
/** field_port - "port", 0 if absent */
bool field_port(json_t *request, unsigned *port, struct error *err);
/** field_timeout - "timeout" in seconds, @otherwise if absent; sets @t's deadline */
bool field_timeout(json_t *request, double otherwise, struct task *t, struct error *err);

#endif
