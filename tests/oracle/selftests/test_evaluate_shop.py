"""The shop pipeline on files small enough to be judged by hand."""

import base64
import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import evaluate_shop

HEADER = "event_id,user_id,product_id,product_name,category,price,event_type,timestamp"
TIME = "2026-03-01T12:00:00Z"


def row(event="e1", user="7", product="1001", name="Lamp", category="Home", price="12.50", kind="view", time=TIME):
    return ",".join((event, user, product, name, category, price, kind, time))


def run(files, told=(), forgotten=()):
    """Exit code, counts, complaints and tables. A file is a list of rows, or its bytes; `told`: kind, file, line."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        (place / "files").mkdir()
        for name, rows in files.items():
            content = rows if isinstance(rows, bytes) else "".join(f"{r}\n" for r in [HEADER, *rows]).encode()
            (place / "files" / name).write_bytes(content)
        ledger = [{"kind": kind, "file": file, "line": line} for kind, file, line in told]
        (place / "ledger").write_text("".join(json.dumps(line) + "\n" for line in ledger))
        words = [str(place / "files"), "--ledger", str(place / "ledger"), "--out", str(place / "out")]
        words += ["--forgotten", *forgotten] if forgotten else []
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = evaluate_shop.main(words)
        if code:
            return code, None, err.getvalue(), {}
        tables = {p.stem: [json.loads(line) for line in p.read_text().splitlines()] for p in (place / "out").iterdir()}
        return code, json.loads(out.getvalue()), err.getvalue(), tables


class Shop(unittest.TestCase):
    def refused(self, files, told=(), forgotten=(), says=""):
        code, _, said, _ = run(files, told, forgotten)
        self.assertEqual(code, 2)
        self.assertIn(says, said)

    def test_a_good_row_is_in_the_table_as_a_reader_tells_it(self):
        _, counts, _, tables = run({"a.csv": [row(name='"27"" Monitor, wide"', category="", price="5", time="2026-03-01T13:00:00.5+01:00")]})
        self.assertEqual(tables["user_events"], [{
            "event_id": "e1", "user_id": 7, "product_id": 1001, "product_name": '27" Monitor, wide', "category": None,
            "price": "5.00", "event_type": "view", "timestamp": "2026-03-01T12:00:00.500000Z",
        }])
        self.assertEqual(counts, {"read": 1, "unique": 1, "duplicate": 0, "passed": 1, "dead_letters": 0})

    def test_columns_are_found_by_their_names(self):
        header = "timestamp,event_type,price,category,product_name,product_id,user_id,event_id"
        _, _, _, tables = run({"a.csv": f"{header}\n{TIME},view,1.00,,,2,3,e\n".encode()})
        self.assertEqual((tables["user_events"][0]["user_id"], tables["user_events"][0]["product_id"]), (3, 2))

    def test_each_fault_has_its_step_code_and_field(self):
        faults = [
            (row().rpartition(",")[0], "raw", "Malformed", None),
            (row() + ",DE", "raw", "Malformed", None),
            (row(name='27" Monitor'), "raw", "Malformed", None),
            (row(name='"Lamp"x'), "raw", "Malformed", None),
            (row(event=""), "raw", "MissingField", "event_id"),
            (row(user="u-7"), "raw", "WrongType", "user_id"),
            (row(user="9223372036854775808"), "raw", "WrongType", "user_id"),
            (row(price="free"), "raw", "WrongType", "price"),
            (row(price='"12,50"'), "raw", "WrongType", "price"),
            (row(price="12.509"), "raw", "WrongType", "price"),
            (row(price="123456789.00"), "raw", "WrongType", "price"),
            (row(time="around noon"), "raw", "WrongType", "timestamp"),
        ]
        _, counts, _, tables = run({"a.csv": [fault[0] for fault in faults]})
        for number, (text, *verdict) in enumerate(faults, 2):
            letter = tables["refused"][number - 2]
            self.assertEqual((letter["file"], letter["line"]), ("a.csv", number))
            self.assertEqual([letter["step"], letter["code"], letter["field"]], verdict, text)
            self.assertEqual(base64.b64decode(letter["raw"]).decode(), text)
        self.assertEqual(counts["dead_letters"], len(faults))

    def test_bytes_that_are_no_text_are_malformed(self):
        content = f"{HEADER}\n".encode() + row(name="Lamp").encode().replace(b"Lamp", b"La\xff") + b"\n"
        _, _, _, tables = run({"a.csv": content})
        self.assertEqual((tables["refused"][0]["code"], tables["refused"][0]["line"]), ("Malformed", 2))

    def test_a_row_names_every_rule_that_it_breaks(self):
        _, _, _, tables = run({"a.csv": [row(price="-0.01"), row(kind="wish"), row(price="-1", kind="wish"), row(price="0")]})
        self.assertEqual(
            [letter["rules"] for letter in tables["refused"]],
            [["price-not-negative"], ["known-event-type"], ["price-not-negative", "known-event-type"]],
        )
        self.assertTrue(all(letter["step"] == "valid" and letter["code"] == "RuleFailed" for letter in tables["refused"]))
        self.assertEqual(len(tables["user_events"]), 1)

    def test_an_event_is_in_the_table_once_and_a_forgotten_file_is_not_counted_as_duplicates(self):
        files = {"a.csv": [row(), row(event="e2")], "b.csv": [row()], "old.csv": [row(), row(event="e2"), row(price="x")]}
        _, counts, _, tables = run(files, forgotten=["old.csv"])
        self.assertEqual([r["event_id"] for r in tables["user_events"]], ["e1", "e2"])
        self.assertEqual(counts, {"read": 6, "unique": 2, "duplicate": 1, "passed": 4, "dead_letters": 1})

    def test_what_leaves_a_verdict_open_is_refused(self):
        self.refused({"a.csv": [row(), row(user="8")]}, says="another row has that id")
        self.refused({"a.csv": [row(price="1e1")]}, says="exponent")
        self.refused({"a.csv": [row(name='"Lamp')]}, says="a quote that its line does not close")
        self.refused({"a.csv": [row()]}, told=[("malformed", "a.csv", 2)], says="kind is malformed")
        self.refused({"a.csv": [row()]}, told=[("good", "b.csv", 2)], says="it is not there")
        self.refused({"a.csv": f"{HEADER}\n{row()}".encode()}, says="no end")
        self.refused({"a.csv": [row()], "b.csv": [row(), row()]}, forgotten=["b.csv"], says="twice")


if __name__ == "__main__":
    unittest.main()
