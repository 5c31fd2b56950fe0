"""What counts as equal, and that nothing else does."""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import compare


def run(expected, actual, *args):
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, rows in (("expected", expected), ("actual", actual)):
            path = pathlib.Path(folder) / name
            path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
            paths.append(str(path))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = compare.main([*args, *paths])
        return code, out.getvalue() + err.getvalue()


class Comparing(unittest.TestCase):
    def check(self, expected, actual, outcome, *args, says=""):
        code, said = run(expected, actual, *(args or ("--keys", "k")))
        self.assertEqual(code, {"equal": 0, "different": 1, "unusable": 2}[outcome], said)
        self.assertIn(says, said)

    def test_order_of_rows_and_columns_does_not_matter(self):
        a, b = {"k": 1, "v": "x"}, {"k": 2, "v": None}
        self.check([a, b], [b, {"v": "x", "k": 1}], "equal", says="2 expected, 2 actual: 2 equal, 0 missing, 0 extra, 0 different")

    def test_doubles_are_equal_at_relative_1e_9(self):
        for actual, outcome in ((1e6 * (1 + 9e-10), "equal"), (1e6 * (1 + 2e-9), "different"), (-1e6, "different")):
            self.check([{"k": 1, "v": 1e6}], [{"k": 1, "v": actual}], outcome)
        self.check([{"k": 1, "v": 0.0}], [{"k": 1, "v": 1e-300}], "different")

    def test_everything_else_is_exact_types_included(self):
        for expected, actual in ((5, 5.0), (5.0, 5), (1, True), (5, "5"), (None, ""), ("a", "a "), (10**12, 10**12 + 1)):
            self.check([{"k": 1, "v": expected}], [{"k": 1, "v": actual}], "different", says="v: expected")
        self.check([{"k": 1, "v": [1, {"a": 1.0}]}], [{"k": 1, "v": [1, {"a": 1.0 + 1e-12}]}], "equal")
        self.check([{"k": 1, "v": [1, 2]}], [{"k": 1, "v": [2, 1]}], "different")

    def test_a_column_too_many_or_too_few_differs(self):
        self.check([{"k": 1}], [{"k": 1, "v": None}], "different", says="v: no such column is expected, actual null")
        self.check([{"k": 1, "v": None}], [{"k": 1}], "different", says="v: expected null, there is no such column")

    def test_rows_are_a_multiset(self):
        row = {"k": 1, "v": 1}
        self.check([row], [row, row], "different", says="1 expected, 2 actual: 1 equal, 0 missing, 1 extra, 0 different")
        self.check([row, row], [row], "different", says="2 expected, 1 actual: 1 equal, 1 missing, 0 extra, 0 different")
        self.check([row, row], [row, row], "equal")
        self.check([row, {"k": 1, "v": 2}], [{"k": 1, "v": 2}, row], "equal")

    def test_the_first_twenty_are_shown_and_the_rest_counted(self):
        expected = [{"k": n} for n in range(30)]
        code, said = run(expected, [{"k": 100}], "--keys", "k")
        self.assertEqual((code, said.count("missing (k="), said.count("extra (k=100)")), (1, 20, 1))
        self.assertIn("… and 10 more missing", said)
        self.assertIn("30 expected, 1 actual: 0 equal, 30 missing, 1 extra, 0 different", said)

    def test_nothing_expected_is_no_comparison(self):
        self.check([], [], "unusable", says="nothing is expected")
        self.check([], [], "equal", "--keys", "k", "--allow-empty")
        self.check([], [{"k": 1}], "different", "--keys", "k", "--allow-empty")

    def test_what_is_no_row_is_named(self):
        self.check([{"k": 1}], ["{"], "unusable", says="actual:1: not JSON")
        self.check([{"k": 1}], [{"v": 1}], "unusable", says="no key column k")

    def test_dead_letters_compare_on_place_and_bytes(self):
        expected = {"source": "orders", "split": "1", "position": 7, "raw": "eA=="}
        actual = {**expected, "position": "7", "step": "orders", "code": "Malformed", "message": "no JSON", "epoch": 4}
        args = ("--table", "dead_letters")
        self.check([expected], [actual], "equal", *args)
        self.check([expected], [{**actual, "split": 1}], "equal", *args)
        self.check([expected], [{**actual, "raw": "eQ=="}], "different", *args, says='raw: expected "eA=="')
        self.check([expected], [{**actual, "raw": None}], "different", *args)
        self.check([expected], [{**actual, "position": 8}], "different", *args, says="1 missing, 1 extra")
        for code in ("", " ", None):
            self.check([expected], [{**actual, "code": code}], "different", *args, says="code: must not be empty")
        without = {name: value for name, value in actual.items() if name != "message"}
        self.check([expected], [without], "different", *args, says="message: must not be empty")

    def test_the_tables_have_their_keys(self):
        gold = {"window_start": "w", "region": "r", "product_category": "c", "order_count": 1}
        self.check([gold], [{**gold, "order_count": 2}], "different", "--table", "gold", says="order_count: expected 1, actual 2")
        bronze = {"kafka_partition": 0, "kafka_offset": 5, "order_id": "o"}
        self.check([bronze], [{**bronze, "order_id": "p"}], "different", "--table", "bronze", says="kafka_offset=5")
