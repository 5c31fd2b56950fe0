"""Adds up what the levels of a test run printed, and says it: one line a level, then `N passed, N failed, N skipped`.

Usage: tally.py LOGS full|some LEVEL...   LOGS holds LEVEL.log (libtest's output) and LEVEL.exit (the exit status) of each.

A test that one level ignores is skipped only if no level ran it. In a run of some levels, those that another level is there
for (the name tells: `parts::` and so on) are left to it; all others count. Exit 1 if anything failed or was skipped.
"""

import pathlib
import re
import sys

OWNERS = {"parts": "parts::", "operator": "reconcile::", "examples": "examples::", "cluster": "cluster::"}
RUNNING = re.compile(r"^\s+(?:Running .*\(\S*/(?P<file>\S+?)(?:-[0-9a-f]{16})?\)|Doc-tests (?P<doc>\S+))$")
TEST = re.compile(r"^test (?P<name>.+?)(?: - should panic)? \.\.\. (?P<outcome>ok|FAILED|ignored)")
RESULT = re.compile(r"^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored; (\d+) measured; (\d+) filtered out")


class Level:
    """What one level's log says. Counts come from the result lines; names only tell which ignored test ran elsewhere."""

    def __init__(self, logs, name):
        self.name, self.binary = name, ""
        self.passed = self.failed = self.ignored = 0
        self.ran, self.left_out, self.notes = set(), set(), []
        for line in (logs / f"{name}.log").read_text(errors="replace").splitlines():
            self.read(line)
        status = int((logs / f"{name}.exit").read_text())
        if status and not self.failed:
            self.failed = 1
            self.notes.append("ran out of time" if status in (124, 137) else f"ended with status {status} and no failed test: see above")
        if len(self.left_out) < self.ignored:  # a line that was garbled by the test's own output must not hide a skip
            self.left_out |= {("?", f"unnamed {n}") for n in range(self.ignored - len(self.left_out))}

    def read(self, line):
        if m := RUNNING.match(line):
            self.binary = m["file"] or "doc of " + m["doc"]
        elif m := TEST.match(line):
            (self.left_out if m["outcome"] == "ignored" else self.ran).add((self.binary, m["name"]))
        elif m := RESULT.match(line):
            self.passed += int(m[1])
            self.failed += int(m[2])
            self.ignored += int(m[3])


def owner(test):
    """The level that is there for a test of the scenarios, by the module it lies in."""
    binary, name = test
    return next((level for level, prefix in OWNERS.items() if binary == "scenarios" and name.startswith(prefix)), None)


def main():
    logs, full, names = pathlib.Path(sys.argv[1]), sys.argv[2] == "full", sys.argv[3:]
    levels = [Level(logs, name) for name in names]
    ran = set().union(*(level.ran for level in levels))
    failed, skipped_in_all = sum(level.failed for level in levels), 0
    print("\n== summary")
    for level in levels:
        missed = level.left_out - ran
        elsewhere = {t for t in missed if not full and owner(t) not in (None, *names)}
        skipped = sorted(missed - elsewhere)
        skipped_in_all += len(skipped)
        if level.passed + level.failed == 0:
            level.notes.append("0 TESTS: NOTHING WAS RUN")
        if elsewhere:
            level.notes.append(f"{len(elsewhere)} left to other levels")
        print(f"{level.name:<9} {level.passed:5} passed {level.failed:4} failed {len(skipped):4} skipped  {'; '.join(level.notes)}".rstrip())
        for binary, name in skipped:
            print(f"          skipped: {name} ({binary})")
    print(f"\n{sum(level.passed for level in levels)} passed, {failed} failed, {skipped_in_all} skipped")
    sys.exit(1 if failed or skipped_in_all else 0)


main()
