/* gannet-insn-fuzz: the instruction oracle's program.
 *
 * Runs cases on the chosen engines and compares each with the first, which is
 * right by definition: the host CPU where it takes part, else the interpreter.
 * A mismatch is shrunk and written as a regression file.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/util.h"
#include "tests/insn/compare.h"
#include "tests/insn/gen.h"
#include "tests/insn/legs.h"

enum { JIT_REPEATS = 3, HANG_SECONDS = 20 };

struct row_count {
	uint32_t cases;     /* it was the first instruction */
	uint32_t completed; /* ... and got through without a fault */
};

/* What the supervising process sees of the one that works. */
struct progress {
	struct test_case now;
	const char *leg; /* which runs it; NULL: none */
	uint64_t serial; /* cases begun */
};

struct fuzz {
	struct progress *progress;
	struct host_leg *host;
	struct guest_leg *interp, *jit;
	struct generator gen;
	struct row_count *rows;
	const char *out_dir;
	bool verbose, shrink;
	unsigned max_mismatches;
	unsigned jit_repeats;
	/* counters */
	uint64_t ran, compared_interp, compared_jit, skipped, either, insns;
	uint64_t vectors[32];
	unsigned mismatches;
	uint64_t unusable;
};

static bool leg_has(void *opaque, enum insn_feature f)
{
	struct fuzz *z = opaque;

	return (!z->interp || guest_leg_has(z->interp, f)) && (!z->jit || guest_leg_has(z->jit, f));
}

/* ---- one case ---- */

struct trial {
	struct fuzz *z;
	struct guest_leg *leg;
	struct test_result want, got;
	char text[4096];
};

static void run_leg(struct fuzz *z, struct guest_leg *leg, const struct test_case *c,
		    struct test_result *r)
{
	z->progress->now = *c;
	z->progress->serial++;
	z->progress->leg = leg == z->jit ? "jit" : "interp";
	guest_leg_run(leg, c, leg == z->jit ? z->jit_repeats : 1, r);
	z->progress->leg = NULL;
}

static const struct test_result *reference(struct fuzz *z, const struct test_case *c,
					   struct test_result *r)
{
	if (z->host) {
		if (!host_leg_start(z->host, c, 1))
			return NULL;
		return host_leg_wait(z->host);
	}
	run_leg(z, z->interp, c, r);
	return r;
}

static bool still_differs(void *opaque, const struct test_case *c)
{
	struct trial *t = opaque;
	const struct test_result *want = reference(t->z, c, &t->want);

	if (!want)
		return false;
	run_leg(t->z, t->leg, c, &t->got);
	return results_compare(c, want, &t->got, t->text, sizeof(t->text)) == DIFFER;
}

static uint64_t case_hash(const struct test_case *c)
{
	const uint8_t *p = (const uint8_t *)c;
	uint64_t h = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < sizeof(*c); i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	return h;
}

static void save_case(const char *dir, const struct test_case *c, const char *leg, const char *text)
{
	size_t rows;
	const struct insn_entry *table = insn_table(&rows);
	unsigned row = c->insn_count ? c->insn[c->insn_count - 1].entry : UINT16_MAX;
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s-%s-%08x.txt", dir, leg,
		 row < rows ? insn_name(table[row].id) : "UNKNOWN", (uint32_t)case_hash(c));
	f = fopen(path, "w");
	if (!f) {
		fprintf(stderr, "gannet-insn-fuzz: %s: %s\n", path, strerror(errno));
		return;
	}
	case_write(f, c, text);
	fclose(f);
	printf("# %s\n", path);
}

static void report(struct fuzz *z, const struct test_case *original, struct guest_leg *leg,
		   const char *text)
{
	const char *name = leg == z->jit ? "jit" : "interp";
	struct test_case c = *original;
	struct trial *t = calloc(1, sizeof(*t));

	z->mismatches++;
	if (!t)
		return;
	t->z = z;
	t->leg = leg;
	if (z->shrink && still_differs(t, &c))
		case_shrink(&c, still_differs, t);
	if (still_differs(t, &c))
		text = t->text;
	printf("MISMATCH %s: %s\n", name, text);
	case_describe(stdout, &c);
	if (z->out_dir)
		save_case(z->out_dir, &c, name, text);
	fflush(stdout);
	free(t);
}

static void judge(struct fuzz *z, const struct test_case *c, const struct test_result *want,
		  struct guest_leg *leg, struct test_result *got)
{
	char text[4096];

	switch (results_compare(c, want, got, text, sizeof(text))) {
	case AGREE:
		break;
	case DIFFER:
		report(z, c, leg, text);
		break;
	case EITHER_IS_RIGHT:
		z->either++;
		return;
	case NOTHING_TO_COMPARE:
		z->skipped++;
		if (z->verbose) {
			printf("nothing to compare: outcomes %u and %u\n", want->outcome, got->outcome);
			case_describe(stdout, c);
		}
		return;
	}
	if (leg == z->jit)
		z->compared_jit++;
	else
		z->compared_interp++;
}

static void count_case(struct fuzz *z, const struct test_case *c, const struct test_result *r)
{
	unsigned row = c->insn[0].entry;

	z->ran++;
	z->insns += c->insn_count;
	if (r->outcome == OUTCOME_EXCEPTION && r->vector < 32)
		z->vectors[r->vector]++;
	if (z->rows && row < z->gen.rows) {
		z->rows[row].cases++;
		if (r->outcome == OUTCOME_EXCEPTION && r->eip != case_entry_eip(c))
			z->rows[row].completed++;
	}
}

/* ---- batches: the host's process and ours work at the same time ---- */

static bool run_batch(struct fuzz *z, const struct test_case *cases, unsigned n)
{
	struct test_result *mine = calloc(2 * n + !n, sizeof(*mine));
	struct test_result *jit = mine + n;
	const struct test_result *want = mine;

	if (!mine)
		return false;
	if (z->host && !host_leg_start(z->host, cases, n)) {
		free(mine);
		return false;
	}
	for (unsigned i = 0; i < n; i++) {
		if (z->interp)
			run_leg(z, z->interp, &cases[i], &mine[i]);
		if (z->jit)
			run_leg(z, z->jit, &cases[i], &jit[i]);
	}
	if (z->host) {
		/* reporting uses the host leg again: keep the batch's results */
		struct test_result *copy = malloc(n * sizeof(*copy));

		want = host_leg_wait(z->host);
		if (copy)
			memcpy(copy, want, n * sizeof(*copy));
		want = copy;
	} else if (!z->interp) {
		want = jit;
	}
	for (unsigned i = 0; want && i < n && z->mismatches < z->max_mismatches; i++) {
		count_case(z, &cases[i], &want[i]);
		if (z->interp && want != mine)
			judge(z, &cases[i], &want[i], z->interp, &mine[i]);
		if (z->jit && want != jit)
			judge(z, &cases[i], &want[i], z->jit, &jit[i]);
	}
	if (want != mine && want != jit)
		free((void *)want);
	free(mine);
	return true;
}

static bool fuzz_random(struct fuzz *z, uint64_t count)
{
	struct test_case *cases = calloc(BATCH_MAX, sizeof(*cases));
	bool ok = cases;

	for (uint64_t done = 0; ok && done < count && z->mismatches < z->max_mismatches;) {
		uint64_t seed = rng_next(&z->gen.rng);
		unsigned n = 0;

		while (n < BATCH_MAX && done < count) {
			generator_case(&z->gen, &cases[n], -1, 1 + rng_below(&z->gen.rng, MAX_INSNS), seed);
			if (cases[n].insn_count)
				n++;
			done++;
		}
		ok = run_batch(z, cases, n);
	}
	free(cases);
	return ok;
}

/* Each row of the table in turn, alone or with a few instructions after it. */
static bool fuzz_each(struct fuzz *z, unsigned times)
{
	struct test_case *cases = calloc(BATCH_MAX, sizeof(*cases));
	bool ok = cases;
	unsigned n = 0;

	for (size_t row = 0; ok && row < z->gen.rows; row++) {
		uint64_t seed = rng_next(&z->gen.rng);

		if (!z->gen.usable[row])
			continue;
		for (unsigned i = 0; ok && i < times && z->mismatches < z->max_mismatches; i++) {
			unsigned insns = i % 3 == 2 ? 1 + rng_below(&z->gen.rng, 3) : 1;

			if (!generator_case(&z->gen, &cases[n], (int)row, insns, seed)) {
				z->unusable++;
				continue;
			}
			if (++n == BATCH_MAX) {
				ok = run_batch(z, cases, n);
				n = 0;
			}
		}
	}
	if (ok && n)
		ok = run_batch(z, cases, n);
	free(cases);
	return ok;
}

/* ---- the program ---- */

static bool replay(struct fuzz *z, const char *path)
{
	struct test_case *c = calloc(1, sizeof(*c));
	FILE *f = fopen(path, "r");
	unsigned line;
	bool ok = false;

	if (!f || !c) {
		fprintf(stderr, "gannet-insn-fuzz: %s: %s\n", path, strerror(errno));
	} else if (!case_read(f, c, &line)) {
		fprintf(stderr, "gannet-insn-fuzz: %s:%u: not a regression file\n", path, line);
	} else {
		unsigned before = z->mismatches;

		ok = run_batch(z, c, 1) && z->mismatches == before;
	}
	if (f)
		fclose(f);
	free(c);
	return ok;
}

/* All regression files of a folder, in the order of their names. */
static bool replay_folder(struct fuzz *z, const char *dir, unsigned *files)
{
	struct dirent **list;
	int n = scandir(dir, &list, NULL, alphasort);
	bool ok = n >= 0;
	char path[512];

	if (n < 0)
		fprintf(stderr, "gannet-insn-fuzz: %s: %s\n", dir, strerror(errno));
	for (int i = 0; i < n; i++) {
		size_t len = strlen(list[i]->d_name);

		if (len > 4 && !strcmp(list[i]->d_name + len - 4, ".txt")) {
			snprintf(path, sizeof(path), "%s/%s", dir, list[i]->d_name);
			ok &= replay(z, path);
			++*files;
		}
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	return ok;
}

static void print_coverage(const struct fuzz *z, bool list)
{
	size_t covered = 0, completed = 0;

	for (size_t i = 0; i < z->gen.rows; i++) {
		covered += z->gen.usable[i] && z->rows[i].cases;
		completed += z->gen.usable[i] && z->rows[i].completed;
	}
	printf("table: %zu of %u usable rows covered, %zu of them completed without a fault; "
	       "%zu rows in all\n", covered, z->gen.usable_count, completed, z->gen.rows);
	if (!list)
		return;
	for (size_t i = 0; i < z->gen.rows; i++) {
		const struct insn_entry *e = &z->gen.table[i];

		if (z->gen.usable[i] && z->rows[i].completed)
			continue;
		if (!z->verbose && (z->gen.usable[i] && z->rows[i].cases))
			continue;
		printf("  %s map %u opcode %02x reg %d: %s\n", insn_name(e->id), e->map, e->opcode,
		       e->reg, !z->gen.usable[i] ? z->gen.why_not[i] :
		       z->rows[i].cases ? e->attr & INSN_CPL0 ? "privileged: faults" : "always faulted" :
		       "not drawn in this run");
	}
}

static void print_summary(const struct fuzz *z, double seconds, bool list)
{
	printf("%" PRIu64 " cases, %" PRIu64 " instructions, %.1f s%s\n", z->ran, z->insns, seconds,
	       z->host ? ", host CPU as reference" : "");
	printf("compared: interp %" PRIu64 ", jit %" PRIu64 "; either of two "
	       "exceptions right %" PRIu64 "; endless %" PRIu64 "; mismatches %u\n",
	       z->compared_interp, z->compared_jit, z->either, z->skipped, z->mismatches);
	printf("ended by: end of sequence %" PRIu64, z->vectors[END_VECTOR]);
	for (unsigned v = 0; v < 32; v++)
		if (v != END_VECTOR && z->vectors[v])
			printf(", #%u %" PRIu64, v, z->vectors[v]);
	printf("\n");
	print_coverage(z, list);
}

static const char usage[] =
	"usage: gannet-insn-fuzz [options] [REGRESSION...]\n"
	"Runs random instruction sequences on several engines and compares them.\n"
	"  --engines LIST   interp,jit,host (default: all that this build and host have)\n"
	"  --seed N         start of the random numbers (default 1; 0: from the clock)\n"
	"  --count N        random sequences to run (default 10000)\n"
	"  --each N         N cases for each row of the decode table as well\n"
	"  --replay FILE    run one regression file (or name several at the end)\n"
	"  --regressions DIR  run all regression files of a folder\n"
	"  --write DIR      write regressions for mismatches there\n"
	"  --max N          stop after N mismatches (default 20)\n"
	"  --repeat N       runs of each case under jit (default 3)\n"
	"  --no-shrink      report sequences as they were found\n"
	"  --no-fork        stay in one process (for a debugger)\n"
	"  --verbose        list rows that never completed too\n"
	"example: gannet-insn-fuzz --seed 7 --count 100000 --write tests/insn/regressions\n";

static bool open_legs(struct fuzz *z, const char *engines, struct error *err)
{
	bool all = !engines, low = true;

	if (all || strstr(engines, "host")) {
		z->host = host_leg_create(err);
		if (!z->host && !all)
			return false;
		if (!z->host)
			fprintf(stderr, "gannet-insn-fuzz: without the host leg: %s\n", err->text);
		else
			low = host_leg_low(z->host);
	}
	if (all || strstr(engines, "interp")) {
		z->interp = guest_leg_create("interp", low, err);
		if (!z->interp)
			return false;
	}
	if (all || strstr(engines, "jit")) {
		z->jit = guest_leg_create("jit", low, err);
		if (!z->jit && !all)
			return false;
		if (!z->jit)
			fprintf(stderr, "gannet-insn-fuzz: without the jit leg: %s\n", err->text);
	}
	if (!z->host + !z->interp + !z->jit > 1) {
		error_set(err, "%s: two engines at least are needed, of interp, jit and host",
			  all ? "nothing to compare" : engines);
		return false;
	}
	z->gen.low = low;
	return true;
}

static uint64_t number(const char *name, const char *text)
{
	char *end;
	uint64_t v = strtoull(text, &end, 0);

	if (!*text || *end) {
		fprintf(stderr, "gannet-insn-fuzz: --%s %s: a number is wanted\n", name, text);
		exit(2);
	}
	return v;
}

/* Everything happens in a forked process, so that the case that kills a leg can
 * be named. Returns only in that process, -1; else its exit code. */
static int supervise(struct fuzz *z)
{
	pid_t pid = fork(), ended;
	uint64_t seen = 0;
	unsigned same = 0;
	int status;

	if (pid <= 0)
		return -1;
	while ((ended = waitpid(pid, &status, WNOHANG)) == 0) {
		usleep(10000);
		same = seen == z->progress->serial && z->progress->leg ? same + 1 : 0;
		seen = z->progress->serial;
		if (same == HANG_SECONDS * 100)
			kill(pid, SIGKILL);
	}
	if (ended < 0)
		return 1;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	printf("%s %s: signal %d\n", same >= HANG_SECONDS * 100 ? "HANG" : "CRASH",
	       z->progress->leg ? z->progress->leg : "outside the legs", WTERMSIG(status));
	if (z->progress->leg) {
		case_describe(stdout, &z->progress->now);
		if (z->out_dir)
			save_case(z->out_dir, &z->progress->now, "crash", z->progress->leg);
	}
	return 1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "engines", 1, 0, 'e' }, { "seed", 1, 0, 's' }, { "count", 1, 0, 'c' },
		{ "each", 1, 0, 'E' }, { "replay", 1, 0, 'r' }, { "write", 1, 0, 'w' },
		{ "max", 1, 0, 'm' }, { "repeat", 1, 0, 'R' }, { "no-shrink", 0, 0, 'n' },
		{ "verbose", 0, 0, 'v' }, { "no-fork", 0, 0, 'f' }, { "regressions", 1, 0, 'g' },
		{ "help", 0, 0, 'h' }, { 0 },
	};
	struct fuzz z = { .shrink = true, .max_mismatches = 20, .jit_repeats = JIT_REPEATS };
	const char *engines = NULL, *file = NULL, *folder = NULL;
	uint64_t seed = 1, count = 10000, each = 0;
	bool count_given = false, ok = true, alone = false;
	int exit_code;
	struct timespec t0, t1;
	struct error err = { "" };
	int o;

	while ((o = getopt_long(argc, argv, "hv", options, NULL)) >= 0) {
		switch (o) {
		case 'e': engines = optarg; break;
		case 's': seed = number("seed", optarg); break;
		case 'c': count = number("count", optarg); count_given = true; break;
		case 'E': each = number("each", optarg); break;
		case 'r': file = optarg; break;
		case 'g': folder = optarg; break;
		case 'w': z.out_dir = optarg; break;
		case 'm': z.max_mismatches = (unsigned)number("max", optarg); break;
		case 'R': z.jit_repeats = (unsigned)number("repeat", optarg); break;
		case 'n': z.shrink = false; break;
		case 'f': alone = true; break;
		case 'v': z.verbose = true; break;
		case 'h': fputs(usage, stdout); return 0;
		default: fputs(usage, stderr); return 2;
		}
	}
	z.progress = mmap(NULL, sizeof(*z.progress), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (z.progress == MAP_FAILED) {
		fprintf(stderr, "gannet-insn-fuzz: out of memory\n");
		return 2;
	}
	if (!alone && (exit_code = supervise(&z)) >= 0)
		return exit_code;
	clock_gettime(CLOCK_MONOTONIC, &t0);
	if (!seed)
		seed = (uint64_t)t0.tv_sec * 1000000007u + (uint64_t)t0.tv_nsec;
	if (!open_legs(&z, engines, &err)) {
		fprintf(stderr, "gannet-insn-fuzz: %s\n", err.text);
		return engines ? 2 : 77; /* 77: a test that this host cannot run */
	}
	if (!generator_init(&z.gen, seed, z.gen.low, !z.host || host_leg_segments(z.host), leg_has, &z) ||
	    !(z.rows = calloc(z.gen.rows, sizeof(*z.rows)))) {
		fprintf(stderr, "gannet-insn-fuzz: out of memory\n");
		return 2;
	}
	if (file || folder || optind < argc) {
		unsigned files = 0;

		if (folder)
			ok &= replay_folder(&z, folder, &files);
		if (file) {
			ok &= replay(&z, file);
			files++;
		}
		for (; optind < argc; files++)
			ok &= replay(&z, argv[optind++]);
		printf("%u regression files\n", files);
		if (!count_given)
			count = 0;
	}
	if (each)
		ok &= fuzz_each(&z, (unsigned)each);
	if (count && !(each && !count_given))
		ok &= fuzz_random(&z, count);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	printf("seed %" PRIu64 "\n", seed);
	print_summary(&z, (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec),
		      each || z.verbose);
	generator_finish(&z.gen);
	free(z.rows);
	guest_leg_destroy(z.jit);
	guest_leg_destroy(z.interp);
	host_leg_destroy(z.host);
	return ok && !z.mismatches ? 0 : 1;
}
