/* See text_match.h.
 *
 * Ken Thompson's construction ("Regular Expression Search Algorithm", CACM 11(6),
 * 1968): the pattern becomes a small program, and all threads of it that could
 * still match are run at once, one byte at a time. Time per byte is bounded by the
 * pattern's length whatever the pattern and the text say, and no text is kept: both
 * come from strangers.
 *
 * The first match to end wins; among those that end there, the one that began first.
 */
#include "tools/text_match.h"

#include <stdlib.h>
#include <string.h>

#include "core/util.h"

enum { SETS_MAX = 128, DEPTH_MAX = 64 };

enum op { OP_CHAR, OP_ANY, OP_SET, OP_SPLIT, OP_JUMP, OP_LINE_START, OP_LINE_END, OP_MATCH };

struct inst {
	uint8_t op;
	uint8_t arg;   /* OP_CHAR: the byte; OP_SET: which */
	uint16_t x, y; /* where to go on; OP_SPLIT: or */
};

/* What a pattern consists of, before it is a program. */
enum node_kind { NODE_EMPTY, NODE_ONE, NODE_THEN, NODE_OR, NODE_REPEAT };

struct node {
	uint8_t kind;
	uint8_t op, arg; /* NODE_ONE: the instruction; NODE_REPEAT: op is '*', '+' or '?' */
	uint16_t a, b;
};

struct threads {
	uint16_t *pc;
	uint64_t *start;
	uint32_t *mark; /* per instruction: the generation that has it already */
	uint32_t generation;
	unsigned count;
};

struct text_match {
	struct inst *program;
	unsigned count;
	uint8_t set[SETS_MAX][32];
	unsigned sets;
	struct threads now, next;
	uint16_t *stack;
	bool line_start;
	uint64_t fed, found_start, found_end;
};

struct parser {
	const char *p;
	struct text_match *m;
	struct node *node;
	unsigned nodes, depth;
	struct error *err;
	bool bad;
};

/* ---- pattern to nodes ---- */

static unsigned fail(struct parser *p, const char *why)
{
	if (!p->bad)
		error_set(p->err, "pattern: %s", why);
	p->bad = true;
	return 0;
}

static unsigned add_node(struct parser *p, struct node n)
{
	p->node[p->nodes] = n;
	return p->nodes++;
}

static unsigned one(struct parser *p, enum op op, uint8_t arg)
{
	return add_node(p, (struct node){ .kind = NODE_ONE, .op = op, .arg = arg });
}

static void set_put(uint8_t set[32], unsigned ch)
{
	set[ch / 8] |= 1 << ch % 8;
}

static bool set_has(const uint8_t set[32], unsigned ch)
{
	return set[ch / 8] >> ch % 8 & 1;
}

/* \d and its like: adds to the set; false if @ch names no class. */
static bool put_class(uint8_t set[32], char ch)
{
	bool want = ch >= 'a';

	if (!strchr("dwsDWS", ch) || !ch)
		return false;
	for (unsigned c = 0; c < 256; c++) {
		bool digit = c >= '0' && c <= '9';
		bool word = digit || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
		bool space = c == ' ' || (c >= '\t' && c <= '\r');
		bool in = (ch | 0x20) == 'd' ? digit : (ch | 0x20) == 'w' ? word : space;

		if (in == want)
			set_put(set, c);
	}
	return true;
}

static uint8_t escaped(char ch)
{
	switch (ch) {
	case 'n': return '\n';
	case 'r': return '\r';
	case 't': return '\t';
	case 'e': return 0x1b;
	default: return ch;
	}
}

static unsigned new_set(struct parser *p, uint8_t **set)
{
	static uint8_t none[32];

	*set = none;
	if (p->m->sets == SETS_MAX)
		return fail(p, "too many classes; 128 are the limit");
	*set = p->m->set[p->m->sets];
	return p->m->sets++;
}

static unsigned parse_set(struct parser *p)
{
	bool negated = *p->p == '^', first = true;
	uint8_t *set;
	unsigned n = new_set(p, &set);

	if (p->bad)
		return 0;
	p->p += negated;
	while (*p->p && (*p->p != ']' || first)) {
		uint8_t from = *p->p++, to;

		first = false;
		if (from == '\\' && *p->p) {
			if (put_class(set, *p->p)) {
				p->p++;
				continue;
			}
			from = escaped(*p->p++);
		}
		to = from;
		if (p->p[0] == '-' && p->p[1] && p->p[1] != ']') {
			to = p->p[1] == '\\' && p->p[2] ? escaped(p->p[2]) : p->p[1];
			p->p += p->p[1] == '\\' && p->p[2] ? 3 : 2;
		}
		if (to < from)
			return fail(p, "a range in [] runs backwards");
		for (unsigned c = from; c <= to; c++)
			set_put(set, c);
	}
	if (!*p->p)
		return fail(p, "a [ without its ]");
	p->p++;
	for (unsigned i = 0; negated && i < 32; i++)
		set[i] = ~set[i];
	return one(p, OP_SET, n);
}

static unsigned parse_or(struct parser *p);

static unsigned parse_atom(struct parser *p)
{
	char ch = *p->p++;
	uint8_t *set;
	unsigned n;

	switch (ch) {
	case '(':
		if (++p->depth > DEPTH_MAX)
			return fail(p, "brackets within brackets, more than 64 deep");
		if (p->p[0] == '?' && p->p[1] == ':')
			p->p += 2;
		n = parse_or(p);
		p->depth--;
		if (*p->p != ')')
			return fail(p, "a ( without its )");
		p->p++;
		return n;
	case '[': return parse_set(p);
	case '.': return one(p, OP_ANY, 0);
	case '^': return one(p, OP_LINE_START, 0);
	case '$': return one(p, OP_LINE_END, 0);
	case '*': case '+': case '?': return fail(p, "*, + or ? with nothing before it; \\ takes it literally");
	case '{': return fail(p, "{ for repeats is not understood; \\{ is a brace");
	case '\\':
		if (!*p->p)
			return fail(p, "ends with a \\");
		if (!strchr("dwsDWS", *p->p))
			return one(p, OP_CHAR, escaped(*p->p++));
		n = new_set(p, &set);
		if (!p->bad)
			put_class(set, *p->p);
		p->p++;
		return one(p, OP_SET, n);
	default: return one(p, OP_CHAR, ch);
	}
}

static unsigned parse_then(struct parser *p)
{
	unsigned all = add_node(p, (struct node){ .kind = NODE_EMPTY });

	while (!p->bad && *p->p && *p->p != '|' && *p->p != ')') {
		unsigned n = parse_atom(p);

		while (!p->bad && *p->p && strchr("*+?", *p->p))
			n = add_node(p, (struct node){ .kind = NODE_REPEAT, .op = *p->p++, .a = n });
		if (!p->bad)
			all = add_node(p, (struct node){ .kind = NODE_THEN, .a = all, .b = n });
	}
	return all;
}

static unsigned parse_or(struct parser *p)
{
	unsigned all = parse_then(p);

	while (!p->bad && *p->p == '|') {
		unsigned n;

		p->p++;
		n = parse_then(p);
		all = add_node(p, (struct node){ .kind = NODE_OR, .a = all, .b = n });
	}
	return all;
}

/* ---- nodes to program ---- */

static unsigned put(struct text_match *m, enum op op, uint8_t arg)
{
	m->program[m->count] = (struct inst){ .op = op, .arg = arg, .x = m->count + 1 };
	return m->count++;
}

/* Depth: at most the pattern's length. */
static void compile(struct text_match *m, const struct node *node, unsigned n)
{
	const struct node *k = &node[n];
	unsigned split, jump;

	switch (k->kind) {
	case NODE_EMPTY:
		break;
	case NODE_ONE:
		put(m, k->op, k->arg);
		break;
	case NODE_THEN:
		compile(m, node, k->a);
		compile(m, node, k->b);
		break;
	case NODE_OR:
		split = put(m, OP_SPLIT, 0);
		compile(m, node, k->a);
		jump = put(m, OP_JUMP, 0);
		m->program[split].y = m->count;
		compile(m, node, k->b);
		m->program[jump].x = m->count;
		break;
	case NODE_REPEAT:
		split = k->op == '+' ? 0 : put(m, OP_SPLIT, 0);
		jump = m->count;
		compile(m, node, k->a);
		if (k->op == '+') {
			split = put(m, OP_SPLIT, 0);
			m->program[split].y = jump;
			break;
		}
		if (k->op == '*')
			m->program[put(m, OP_JUMP, 0)].x = split;
		m->program[split].y = m->count;
		break;
	}
}

/* ---- running ---- */

static bool threads_init(struct threads *t, unsigned count)
{
	t->pc = calloc(count, sizeof(*t->pc));
	t->start = calloc(count, sizeof(*t->start));
	t->mark = calloc(count, sizeof(*t->mark));
	t->generation = 1;
	return t->pc && t->start && t->mark;
}

static void threads_clear(struct threads *t, unsigned count)
{
	t->count = 0;
	if (++t->generation == 0) {
		memset(t->mark, 0, count * sizeof(*t->mark));
		t->generation = 1;
	}
}

/* @pc and all that it leads to without a byte; true if that is the end of the pattern. */
static bool follow(struct text_match *m, struct threads *t, unsigned first, uint64_t start,
		   bool line_start)
{
	unsigned depth = 0;

	m->stack[depth++] = first;
	while (depth) {
		unsigned pc = m->stack[--depth];
		const struct inst *in = &m->program[pc];

		if (t->mark[pc] == t->generation)
			continue;
		t->mark[pc] = t->generation;
		switch (in->op) {
		case OP_MATCH:
			m->found_start = start;
			return true;
		case OP_SPLIT:
			m->stack[depth++] = in->y;
			m->stack[depth++] = in->x;
			break;
		case OP_JUMP:
			m->stack[depth++] = in->x;
			break;
		case OP_LINE_START:
			if (line_start)
				m->stack[depth++] = in->x;
			break;
		default:
			t->pc[t->count] = pc;
			t->start[t->count++] = start;
		}
	}
	return false;
}

static bool consumes(const struct text_match *m, const struct inst *in, uint8_t ch)
{
	switch (in->op) {
	case OP_CHAR: return in->arg == ch;
	case OP_ANY: return ch != '\n';
	case OP_SET: return set_has(m->set[in->arg], ch);
	default: return false;
	}
}

static bool step(struct text_match *m, uint8_t ch)
{
	struct threads swap = m->now;
	bool after = ch == '\n';

	/* A match may begin here; older ones come first. */
	follow(m, &m->now, 0, m->fed, m->line_start);
	for (unsigned i = 0; ch == '\n' && i < m->now.count; i++) {
		const struct inst *in = &m->program[m->now.pc[i]];

		if (in->op == OP_LINE_END &&
		    follow(m, &m->now, in->x, m->now.start[i], m->line_start)) {
			m->found_end = m->fed;
			return true;
		}
	}
	swap = m->now;
	threads_clear(&m->next, m->count);
	for (unsigned i = 0; i < swap.count; i++) {
		const struct inst *in = &m->program[swap.pc[i]];

		if (consumes(m, in, ch) && follow(m, &m->next, in->x, swap.start[i], after)) {
			m->found_end = m->fed + 1;
			return true;
		}
	}
	m->now = m->next;
	m->next = swap;
	m->line_start = after;
	m->fed++;
	return false;
}

bool text_match_feed(struct text_match *m, const uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (step(m, buf[i]))
			return true;
	}
	return false;
}

void text_match_reset(struct text_match *m, bool line_start)
{
	threads_clear(&m->now, m->count);
	m->line_start = line_start;
	m->fed = 0;
}

void text_match_found(const struct text_match *m, uint64_t *start, uint64_t *end)
{
	*start = m->found_start;
	*end = m->found_end;
}

/* ---- life ---- */

static bool parse(struct text_match *m, const char *pattern, bool regex, struct node *node,
		  struct error *err)
{
	struct parser p = { .p = pattern, .m = m, .node = node, .err = err };
	unsigned root = 0;

	if (regex) {
		root = parse_or(&p);
		if (!p.bad && *p.p == ')')
			fail(&p, "a ) without its (");
		if (p.bad)
			return false;
		compile(m, node, root);
	} else {
		for (; *pattern; pattern++)
			put(m, OP_CHAR, *pattern);
	}
	put(m, OP_MATCH, 0);
	return true;
}

/* Would it fit in no text at all, wherever that stands? */
static bool fits_nothing(struct text_match *m)
{
	bool found = follow(m, &m->now, 0, 0, true);

	for (unsigned i = 0; !found && i < m->now.count; i++) {
		const struct inst *in = &m->program[m->now.pc[i]];

		found = in->op == OP_LINE_END && follow(m, &m->now, in->x, 0, true);
	}
	threads_clear(&m->now, m->count);
	return found;
}

struct text_match *text_match_create(const char *pattern, bool regex, bool line_start,
				     struct error *err)
{
	size_t len = strlen(pattern), room = 4 * len + 8;
	struct text_match *m = calloc(1, sizeof(*m));
	struct node *node = calloc(room, sizeof(*node));
	bool ok = false;

	error_set(err, "out of memory for a pattern");
	if (!m || !node)
		goto out;
	m->line_start = line_start;
	m->program = calloc(room, sizeof(*m->program));
	m->stack = calloc(2 * room, sizeof(*m->stack));
	if (!m->program || !m->stack || !threads_init(&m->now, room) || !threads_init(&m->next, room))
		goto out;
	if (len > TEXT_PATTERN_MAX) {
		error_set(err, "pattern: %zu bytes; at most %d", len, TEXT_PATTERN_MAX);
		goto out;
	}
	if (!parse(m, pattern, regex, node, err))
		goto out;
	ok = !fits_nothing(m);
	if (!ok)
		error_set(err, "pattern: it fits where nothing is; say what to wait for");
out:
	free(node);
	if (!ok) {
		text_match_destroy(m);
		m = NULL;
	}
	return m;
}

static void threads_finish(struct threads *t)
{
	free(t->pc);
	free(t->start);
	free(t->mark);
}

void text_match_destroy(struct text_match *m)
{
	if (!m)
		return;
	threads_finish(&m->now);
	threads_finish(&m->next);
	free(m->program);
	free(m->stack);
	free(m);
}
