/* Which fields of a device are its state.
 *
 * A table beside each device struct says what is saved, with the values that
 * are possible: what an image holds is range-checked as strictly as what a
 * guest writes. The container format is statefile/'s business, not this one's.
 */
#ifndef GANNET_CORE_STATE_H
#define GANNET_CORE_STATE_H

#include <stddef.h>
#include <stdint.h>

enum state_type {
	STATE_TYPE_END,
	STATE_TYPE_UINT,  /* element size 1, 2, 4 or 8 */
	STATE_TYPE_BOOL,
	STATE_TYPE_BYTES, /* opaque */
	STATE_TYPE_TIMER, /* struct timer: armed or not, deadline */
};

struct state_field {
	const char *name;
	size_t offset;
	enum state_type type;
	uint16_t size;    /* bytes of one element */
	uint32_t count;   /* elements; 1 for a scalar */
	uint64_t max;     /* largest legal value of a UINT */
	uint64_t mask;    /* bits a UINT may have set */
};

#define STATE_ELEM_SIZE(s, f) sizeof(((s *)0)->f)
#define STATE_UINT_MAX(s, f, m) \
	{ #f, offsetof(s, f), STATE_TYPE_UINT, STATE_ELEM_SIZE(s, f), 1, m, UINT64_MAX }
#define STATE_UINT(s, f) STATE_UINT_MAX(s, f, UINT64_MAX)
#define STATE_UINT_MASKED(s, f, m) \
	{ #f, offsetof(s, f), STATE_TYPE_UINT, STATE_ELEM_SIZE(s, f), 1, UINT64_MAX, m }
#define STATE_ARRAY(s, f) \
	{ #f, offsetof(s, f), STATE_TYPE_UINT, STATE_ELEM_SIZE(s, f[0]), \
	  STATE_ELEM_SIZE(s, f) / STATE_ELEM_SIZE(s, f[0]), UINT64_MAX, UINT64_MAX }
#define STATE_BOOL(s, f) \
	{ #f, offsetof(s, f), STATE_TYPE_BOOL, STATE_ELEM_SIZE(s, f), 1, 1, 1 }
#define STATE_BYTES(s, f) \
	{ #f, offsetof(s, f), STATE_TYPE_BYTES, 1, STATE_ELEM_SIZE(s, f), 255, 255 }
#define STATE_TIMER(s, f) \
	{ #f, offsetof(s, f), STATE_TYPE_TIMER, STATE_ELEM_SIZE(s, f), 1, 0, 0 }
#define STATE_END { NULL, 0, STATE_TYPE_END, 0, 0, 0, 0 }

#endif
