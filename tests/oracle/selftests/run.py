"""Runs the self-tests and tells in the words of libtest, which the test command adds up. `run.py [NAME…]`: only those
whose name contains one of these."""

import pathlib
import sys
import time
import traceback
import unittest

HERE = pathlib.Path(__file__).parent


class Libtest(unittest.TestResult):
    passed = 0

    def tell(self, test, outcome):
        print(f"test oracle::{test.id()} ... {outcome}", flush=True)

    def addSuccess(self, test):
        self.passed += 1
        self.tell(test, "ok")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.tell(test, f"ignored, {reason}")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        traceback.print_exception(*err)
        self.tell(test, "FAILED")

    addError = addFailure  # a test that breaks is as red as one that fails


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def main():
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    started = time.monotonic()
    tests = list(flatten(unittest.defaultTestLoader.discover(str(HERE))))
    wanted = [t for t in tests if not sys.argv[1:] or any(n in t.id() for n in sys.argv[1:])]
    print(f"running {len(wanted)} tests")
    result = Libtest()
    unittest.TestSuite(wanted).run(result)
    failed = len(result.failures)  # class set-up that breaks is one too
    word = "FAILED" if failed or not wanted else "ok"
    print(
        f"\ntest result: {word}. {result.passed} passed; {failed} failed; {len(result.skipped)} ignored; 0 measured; "
        f"{len(tests) - len(wanted)} filtered out; finished in {time.monotonic() - started:.2f}s"
    )
    return 0 if word == "ok" else 101


if __name__ == "__main__":
    sys.exit(main())
