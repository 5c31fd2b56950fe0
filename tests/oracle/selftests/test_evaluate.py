"""The orders pipeline on ledgers small enough to be computed by hand."""

import base64
import contextlib
import io
import json
import pathlib
import tempfile
import unittest
from datetime import datetime

import evaluate


def order(at, **fields):
    """A record's text; `at` is HH:MM or HH:MM:SS… of 2026-03-01; a field that is `...` is left out."""
    record = {
        "order_id": "o",
        "customer_id": "c1",
        "product_id": "p",
        "product_name": "Lamp",
        "product_category": "Home",
        "quantity": 1,
        "unit_price": 10.0,
        "total_price": 10.0,
        "event_type": "ORDER_PLACED",
        "region": "us-east",
        "event_timestamp": stamp(at),
    }
    record.update(fields)
    return json.dumps({name: value for name, value in record.items() if value is not ...})


def stamp(at):
    return f"2026-03-01T{at if len(at) > 5 else at + ':00'}Z"


def sent(at):
    return int(datetime.fromisoformat(stamp(at).replace("Z", "+00:00")).timestamp()) * 1000


class Ledger:
    def __init__(self):
        self.lines = []
        self.next = {}

    def send(self, kind, value, partition=0, at="12:00", **overrides):
        offset = self.next.get(partition, 0)
        self.next[partition] = offset + 1
        line = {"i": len(self.lines), "kind": kind, "partition": partition, "offset": offset, "timestamp": sent(at), "key": "o"}
        if isinstance(value, bytes):
            line["value_base64"] = base64.b64encode(value).decode()
        else:
            line["value"] = value
        self.lines.append(json.dumps({**line, **overrides}))
        return self

    def run(self, *args, positions=None):
        """Exit code, what was printed, what was complained about, and the three tables."""
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "ledger.jsonl").write_text("".join(line + "\n" for line in self.lines))
            args = [str(root / "ledger.jsonl"), *args]
            if positions is not None:
                (root / "positions.json").write_text(json.dumps(positions))
                args += ["--by-positions", str(root / "positions.json")]
            if "--watermark-at-end" not in args:
                args += ["--out", str(root / "out")]
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = evaluate.main(args)
            tables = {}
            for path in (root / "out").glob("*.jsonl"):
                tables[path.stem] = [json.loads(line) for line in path.read_text().splitlines()]
            return code, out.getvalue(), err.getvalue(), tables


class Tables(unittest.TestCase):
    def tables(self, ledger, **options):
        code, _, err, tables = ledger.run(**options)
        self.assertEqual((code, err), (0, ""))
        return tables

    def test_bronze_is_the_record_with_its_place_in_the_log(self):
        ledger = Ledger().send("good", order("12:00:01.5", unit_price=..., product_name=None, quantity=3), partition=2, at="12:01")
        self.assertEqual(
            self.tables(ledger)["bronze"],
            [
                {
                    "order_id": "o",
                    "customer_id": "c1",
                    "product_id": "p",
                    "product_name": None,
                    "product_category": "Home",
                    "quantity": 3,
                    "unit_price": None,
                    "total_price": 10.0,
                    "event_type": "ORDER_PLACED",
                    "region": "us-east",
                    "event_timestamp": "2026-03-01T12:00:01.500000Z",
                    "kafka_ingest_ts": "2026-03-01T12:01:00.000000Z",
                    "kafka_partition": 2,
                    "kafka_offset": 0,
                    "event_date": "2026-03-01",
                }
            ],
        )

    def test_event_date_is_the_day_in_utc(self):
        ledger = Ledger().send("good", order("", event_timestamp="2026-03-01T00:30:00+01:00"), at="12:00")
        self.assertEqual(self.tables(ledger)["bronze"][0]["event_date"], "2026-02-28")

    def test_gold_sums_the_placed_orders_of_a_window_region_and_category(self):
        ledger = Ledger()
        ledger.send("good", order("12:00", quantity=2, total_price=20.5, customer_id="c1"))
        ledger.send("good", order("12:04:59.999999", quantity=3, total_price=10.25, customer_id="c2"), partition=1)
        ledger.send("good", order("12:03", quantity=1, total_price=1, customer_id="c1"))
        ledger.send("good", order("12:03", event_type="ORDER_CANCELLED", total_price=99.0))
        ledger.send("good", order("12:05", quantity=7, total_price=7.0))  # a window ends before its end
        ledger.send("good", order("12:01", region="eu-west", quantity=4, total_price=8.0))
        tables = self.tables(ledger)
        self.assertEqual(len(tables["bronze"]), 6)
        first = {"window_start": "2026-03-01T12:00:00.000000Z", "window_end": "2026-03-01T12:05:00.000000Z"}
        second = {"window_start": "2026-03-01T12:05:00.000000Z", "window_end": "2026-03-01T12:10:00.000000Z"}
        names = ["region", "product_category", "order_count", "total_revenue", "avg_order_value", "total_units_sold", "unique_customers"]
        self.assertEqual(
            tables["gold"],
            [
                {**first, **dict(zip(names, ["eu-west", "Home", 1, 8.0, 8.0, 4, 1]))},
                {**first, **dict(zip(names, ["us-east", "Home", 3, 31.75, 31.75 / 3, 6, 2]))},
                {**second, **dict(zip(names, ["us-east", "Home", 1, 7.0, 7.0, 7, 1]))},
            ],
        )

    def test_a_duplicate_in_the_log_counts_twice(self):
        ledger = Ledger().send("good", order("12:00")).send("duplicate", order("12:00"))
        tables = self.tables(ledger)
        self.assertEqual([r["kafka_offset"] for r in tables["bronze"]], [0, 1])
        (row,) = tables["gold"]
        self.assertEqual((row["order_count"], row["total_revenue"], row["unique_customers"]), (2, 20.0, 1))

    def test_a_late_record_is_in_bronze_only(self):
        ledger = Ledger().send("good", order("12:00")).send("late", order("10:30")).send("disorder", order("11:55"))
        tables = self.tables(ledger)
        self.assertEqual(len(tables["bronze"]), 3)
        self.assertEqual([r["window_start"][11:16] for r in tables["gold"]], ["11:55", "12:00"])

    def test_malformed_records_and_those_from_the_future_are_dead_letters_with_their_bytes(self):
        ledger = Ledger().send("malformed", "not json", partition=1).send("good", order("12:00"))
        ledger.send("malformed", b"{\xff\xfe", partition=1)
        ledger.send("malformed", order("12:00", region=...))
        ledger.send("malformed", order("12:00", quantity="3"))
        ledger.send("malformed", order("12:00", event_timestamp=None))
        ledger.send("future", order("16:00"))
        tables = self.tables(ledger)
        self.assertEqual([(d["source"], d["split"], d["position"]) for d in tables["dead_letters"]],
                         [("orders", "0", n) for n in (1, 2, 3, 4)] + [("orders", "1", n) for n in (0, 1)])  # fmt: skip
        raws = [base64.b64decode(d["raw"]) for d in tables["dead_letters"]]
        self.assertEqual(raws[4:], [b"not json", b"{\xff\xfe"])
        self.assertEqual(len(tables["bronze"]), 1)
        self.assertEqual(len(tables["gold"]), 1)

    def test_a_tombstone_is_nowhere(self):
        tables = self.tables(Ledger().send("good", None).send("good", order("12:00")))
        self.assertEqual([len(tables[t]) for t in ("bronze", "gold", "dead_letters")], [1, 1, 0])

    def test_a_version_holds_what_lies_before_its_positions(self):
        ledger = Ledger()
        for _ in range(3):
            ledger.send("good", order("12:00"), partition=0).send("good", order("12:00"), partition=1)
        ledger.send("malformed", "x", partition=0)
        tables = self.tables(ledger, positions={"0": 2})  # partition 1 was not read
        self.assertEqual([(r["kafka_partition"], r["kafka_offset"]) for r in tables["bronze"]], [(0, 0), (0, 1)])
        self.assertEqual(tables["gold"][0]["order_count"], 2)
        self.assertEqual(tables["dead_letters"], [])
        tables = self.tables(ledger, positions={"0": 4, "1": 1})
        self.assertEqual((len(tables["bronze"]), len(tables["dead_letters"])), (4, 1))

    def test_windows_before_1970_start_earlier_too(self):
        self.assertEqual(evaluate.window_start({"event_timestamp": -1}), -300_000_000)

    def test_the_counts_balance(self):
        ledger = Ledger().send("good", order("12:00")).send("late", order("10:00")).send("malformed", "x").send("good", None)
        ledger.send("good", order("12:00", event_type="ORDER_UPDATED"))
        _, out, _, _ = ledger.run()
        self.assertEqual(
            json.loads(out),
            {
                "read": 5,
                "tombstones": 1,
                "kinds": {"good": 3, "late": 1, "malformed": 1},
                "placed": 2,
                "late": 1,
                "rows": {"bronze": 3, "gold": 1, "dead_letters": 1},
            },
        )


class Watermarks(unittest.TestCase):
    def test_the_slowest_partition_that_is_not_idle_holds_it(self):
        ledger = Ledger().send("good", order("12:00"), partition=0).send("good", order("12:07:30"), partition=1)
        ledger.send("disorder", order("11:58"), partition=0).send("future", order("19:00"), partition=0)
        _, out, _, _ = ledger.run("--watermark-at-end")
        self.assertEqual(
            json.loads(out),
            {
                "partitions": {
                    "0": {"max_event_time": "2026-03-01T12:00:00.000000Z", "watermark": "2026-03-01T11:50:00.000000Z"},
                    "1": {"max_event_time": "2026-03-01T12:07:30.000000Z", "watermark": "2026-03-01T11:57:30.000000Z"},
                },
                "watermark": "2026-03-01T11:50:00.000000Z",
                "highest": "2026-03-01T11:57:30.000000Z",
            },
        )
        _, out, _, _ = ledger.run("--watermark-at-end", "--idle", "0")
        self.assertEqual(json.loads(out)["watermark"], "2026-03-01T11:57:30.000000Z")


class Refusals(unittest.TestCase):
    """A ledger that contradicts itself, or whose verdicts hang on epochs, is never guessed at."""

    def refused(self, ledger, why):
        code, out, err, tables = ledger.run()
        self.assertEqual((code, out, tables), (2, "", {}))
        self.assertIn(why, err)

    def test_a_kind_that_the_record_contradicts(self):
        self.refused(Ledger().send("malformed", order("12:00")), "kind is malformed, but the record is well-formed")
        self.refused(Ledger().send("good", order("12:00", quantity=1.5)), "quantity: not a whole number")
        self.refused(Ledger().send("good", order("14:00")), "kind is good, but the event is 120.0 min ahead")
        self.refused(Ledger().send("future", order("13:10")), "kind is future, but the event is only 70.0 min ahead")

    def test_an_input_that_the_rules_leave_open(self):
        self.refused(Ledger().send("good", order("12:00", quantity=1.0)), "leave this record open")

    def test_lateness_that_depends_on_epochs(self):
        early = order("12:00")
        self.refused(Ledger().send("late", order("10:00")), "may still be open")  # no watermark yet
        self.refused(Ledger().send("good", early).send("late", order("11:50")), "may still be open")
        self.refused(Ledger().send("good", early).send("disorder", order("11:44:59")), "may have closed")
        self.refused(Ledger().send("good", early).send("disorder", order("11:45")), "may have closed")  # ends at W
        # a partition that is behind may hold the watermark, or be idle and not
        behind = Ledger().send("good", order("11:30"), partition=1).send("good", early)
        self.refused(behind.send("late", order("11:20")), "may still be open")

    def test_a_window_that_ends_at_the_watermark_is_closed(self):
        ledger = Ledger().send("good", order("12:00")).send("late", order("11:45"))  # ends 11:50 = W: late
        self.assertEqual(ledger.run()[0], 0)

    def test_a_ledger_that_is_no_ledger(self):
        self.refused(Ledger().send("good", order("12:00"), offset=None), "acknowledged")
        self.refused(Ledger().send("good", order("12:00")).send("good", order("12:00"), offset=0), "are those of")
        self.refused(Ledger().send("odd", order("12:00")), "unknown kind")
        torn = Ledger().send("good", order("12:00"))
        torn.lines.append(torn.lines[0][:50])
        self.refused(torn, "not a ledger line")
