"""The activity pipeline on ledgers small enough to be computed by hand."""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import evaluate_activity


def event(name, at, user="u", amount=1.5, **fields):
    """A record's text; `at` is HH:MM:SS of 2026-03-01; a field that is `...` is left out."""
    record = {"eventId": name, "userId": user, "amount": amount, "eventType": "click", "eventTime": f"2026-03-01T{at}Z"}
    record.update(fields)
    return json.dumps({name: value for name, value in record.items() if value is not ...})


def ledger(*records):
    """(kind, text, partition) each, with offsets counted up."""
    offsets, lines = {}, []
    for kind, text, partition in records:
        offset = offsets[partition] = offsets.get(partition, -1) + 1
        lines.append({"i": 0, "kind": kind, "partition": partition, "offset": offset, "timestamp": 0, "key": "k", "value": text})
    return lines


def after(lines):
    """The same records at later offsets."""
    return [{**line, "offset": line["offset"] + 100} for line in lines]


def run(first, again=()):
    """Exit code, counts, complaints and tables."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        for name, lines in (("first", first), ("again", again)):
            (place / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        words = [str(place / "first"), "--out", str(place / "out")]
        words += ["--again", str(place / "again")] if again else []
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = evaluate_activity.main(words)
        if code:
            return code, None, err.getvalue(), {}
        tables = {p.stem: [json.loads(line) for line in p.read_text().splitlines()] for p in (place / "out").iterdir()}
        return code, json.loads(out.getvalue()), err.getvalue(), tables


class Activity(unittest.TestCase):
    def refused(self, first, again=(), says=""):
        code, _, said, _ = run(first, again)
        self.assertEqual(code, 2)
        self.assertIn(says, said)

    def test_an_event_counts_once_and_its_first_content_does(self):
        code, counts, said, tables = run(ledger(
            ("good", event("a", "12:00:00", amount=2.25), 0),
            ("good", event("b", "12:04:59.999999", amount=...), 0),
            ("duplicate", event("a", "12:00:00", amount=9.5), 0),
            ("duplicate", event("b", "12:04:59.999999", amount=...), 0),
            ("good", event("c", "12:05:00", amount=0.5), 0),
        ))
        self.assertEqual(code, 0, said)
        self.assertEqual([row["eventId"] for row in tables["events"]], ["a", "b", "c"])
        self.assertEqual(tables["events"][0]["amount"], 2.25)
        self.assertEqual(tables["totals"], [
            {"window_start": "2026-03-01T12:00:00.000000Z", "window_end": "2026-03-01T12:05:00.000000Z", "userId": "u", "events": 2, "total_amount": 2.25},
            {"window_start": "2026-03-01T12:05:00.000000Z", "window_end": "2026-03-01T12:10:00.000000Z", "userId": "u", "events": 1, "total_amount": 0.5},
        ])
        self.assertEqual((counts["read"], counts["unique"], counts["repeated"], counts["conflict"]), (5, 3, 2, [1, 1]))

    def test_a_sum_of_nothing_is_null(self):
        _, _, _, tables = run(ledger(("good", event("a", "12:00:00", amount=None), 0)))
        self.assertEqual((tables["totals"][0]["events"], tables["totals"][0]["total_amount"]), (1, None))

    def test_windows_are_closed_that_the_slowest_partition_has_passed_by_the_delay(self):
        _, _, _, tables = run(ledger(
            ("good", event("a", "12:00:00"), 0),
            ("good", event("b", "12:06:00"), 0),
            ("good", event("c", "12:16:01"), 1),
            ("good", event("d", "12:15:00"), 0),
        ))
        self.assertEqual([row["window_end"][11:16] for row in tables["closed"]], ["12:05"])

    def test_whether_a_window_is_closed_must_not_depend_on_idle_partitions(self):
        self.refused(ledger(("good", event("a", "12:00:00"), 0), ("good", event("b", "12:14:59"), 0), ("good", event("c", "12:15:00"), 1)), says="idle")

    def test_what_comes_again_is_late_below_the_watermark_and_else_a_duplicate(self):
        first = ledger(
            ("good", event("a", "12:00:00"), 0), ("good", event("b", "12:02:00"), 0), ("good", event("c", "12:12:00"), 0),
        )
        _, counts, _, tables = run(first, after(first))
        self.assertEqual((counts["read"], counts["repeated"], counts["late"]), (6, 3, [1, 1]))
        self.assertEqual(len(tables["events"]), 3)

    def test_a_contradiction_that_comes_again_too_late_is_no_conflict(self):
        first = ledger(("good", event("a", "12:00:00"), 0), ("good", event("c", "12:12:00"), 0))
        other = ledger(("good", event("a", "12:00:00", amount=7.5), 0), ("duplicate", event("c", "12:12:00", amount=7.5), 0))
        _, counts, _, _ = run(first, after(other))
        self.assertEqual((counts["late"], counts["conflict"]), ([1, 1], [1, 1]))

    def test_records_that_cannot_be_read_are_dead_letters_each_time(self):
        bad = ledger(("good", event("a", "12:00:00"), 0), ("malformed", event("b", "12:00:01", userId=17), 1), ("malformed", "{", 1))
        _, counts, _, tables = run(bad, after(bad[1:]))
        self.assertEqual(counts["dead_letters"], 4)
        self.assertEqual([(d["split"], d["position"]) for d in tables["dead_letters"]], [("1", 0), ("1", 1), ("1", 100), ("1", 101)])
        self.assertEqual({d["source"] for d in tables["dead_letters"]}, {"incoming"})

    def test_ledgers_that_leave_a_verdict_open_are_refused(self):
        self.refused(ledger(("malformed", event("a", "12:00:00"), 0)), says="kind is malformed")
        self.refused(ledger(("good", "{", 0)), says="kind is good")
        self.refused(ledger(("good", event("a", "12:10:01"), 0), ("good", event("b", "12:00:00"), 1)), says="may be late")
        self.refused(ledger(("good", event("a", "12:00:00"), 0), ("duplicate", event("a", "12:00:00"), 1)), says="two partitions")
        first = ledger(("good", event("a", "12:00:00"), 0))
        self.refused(first, after(ledger(("good", event("b", "12:00:00"), 0))), says="not sent before")


if __name__ == "__main__":
    unittest.main()
