#!/usr/bin/env python3
"""Sums up meson's testlog.json: a line per suite, why tests were skipped, totals.

A test says why it is skipped in a line that starts with "SKIP:" (or, in TAP,
"ok N name # SKIP why"). Where Check says how many tests a program ran, those count
instead of the program.
"""
import collections
import json
import re
import sys

CHECK = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", re.M)
# What a program that goes through tables has covered.
COVERAGE = re.compile(r"^(?:\d+ cases.*|table: .*|decode table against .*)$", re.M)
SKIP = re.compile(r"^SKIP: *(.*)$|# SKIP *(.*)$", re.M)


def main():
    try:
        with open(sys.argv[1]) as log:
            tests = [json.loads(line) for line in log]
    except FileNotFoundError:
        sys.exit("no test was run")
    suites = collections.defaultdict(collections.Counter)
    seconds = collections.Counter()
    reasons, covered = [], []
    for test in tests:
        suite, _, name = test["name"].rpartition(" / ")
        suite = suite.split(":")[-1]
        text = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
        seconds[suite] += test["duration"]
        covered += [f"{suite}/{name}: {line}" for line in COVERAGE.findall(text)]
        checks = [tuple(map(int, m)) for m in CHECK.findall(text)]
        if test["result"] == "SKIP":
            suites[suite]["skipped"] += 1
            found = SKIP.search(text)
            why = next(filter(None, found.groups()), "") if found else ""
            reasons.append(f"skipped: {name}: {why or 'no reason given'}")
        elif checks:
            bad = sum(f + e for _, f, e in checks)
            total = sum(n for n, _, _ in checks)
            suites[suite]["failed"] += bad
            suites[suite]["passed"] += total - bad
            if test["result"] not in ("OK", "EXPECTEDFAIL") and not bad:
                suites[suite]["failed"] += 1
        elif test["result"] in ("OK", "EXPECTEDFAIL"):
            suites[suite]["passed"] += 1
        else:
            suites[suite]["failed"] += 1
    print()
    total = collections.Counter()
    for suite in sorted(suites):
        count = suites[suite]
        total.update(count)
        print(f"{suite:10} {count['passed']:5} passed {count['failed']:3} failed "
              f"{count['skipped']:3} skipped   {seconds[suite]:6.1f} s")
    print("\n".join(covered + reasons))
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    sys.exit(1 if total["failed"] else 0)


if __name__ == "__main__":
    main()
