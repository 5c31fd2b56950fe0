#!/usr/bin/env python3
"""What table and dead letters of the shop pipeline must hold, computed from the CSV files themselves.

    evaluate_shop.py FOLDER --ledger LEDGER… [--forgotten FILE…] --out DIR

Owns: the shop pipeline's meaning, once more, in one thread and from the written rules (scenario 2, rules 20, 28, 30, 34 and
35), down to what a row of CSV is; it shares nothing with the engine. `--forgotten` names files whose rows came a day of event
time too late for anything to remember them: they pass, and the table's key judges them.
Does not own: reading (psql, parquet-dump) and comparing (compare.py). README.md has the contracts.

The ledger says what the producer *meant* by each row; where the rules disagree, or leave a row open, nothing is guessed: exit 2.
"""

import argparse
import base64
import json
import os
import re
import sys
from decimal import Decimal

import evaluate
import strict_json
from evaluate import Refused
from strict_json import Malformed, iso

EVENT_TYPES = {"view", "add_to_cart", "purchase"}


class Bad(Exception):
    """The row is a dead letter: step, code, field, broken rules."""

    def __init__(self, step, code, field=None, rules=()):
        super().__init__(code)
        self.step, self.code, self.field, self.rules = step, code, field, list(rules)


def text(value):
    return value


def long(value):
    if not re.fullmatch(r"-?(0|[1-9][0-9]*)", value, re.ASCII) or not -(2**63) <= int(value) < 2**63:
        raise Malformed("not a long")
    return int(value)


def price(value):
    if re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?[eE][+-]?[0-9]+", value, re.ASCII):
        raise strict_json.Open("a decimal with an exponent")
    m = re.fullmatch(r"-?(0|[1-9][0-9]*)(?:\.([0-9]+))?", value, re.ASCII)
    if not m or len(m[1]) > 8 or len((m[2] or "").rstrip("0")) > 2:
        raise Malformed("not a decimal(10,2)")
    return Decimal(value).quantize(Decimal("0.01"))


FIELDS = {  # name: type, required
    "event_id": (text, True),
    "user_id": (long, True),
    "product_id": (long, True),
    "product_name": (text, False),
    "category": (text, False),
    "price": (price, True),
    "event_type": (text, True),
    "timestamp": (strict_json.as_timestamp, True),
}


def main(argv):
    parser = argparse.ArgumentParser(description="What the shop pipeline's table must hold after a folder of CSV files.")
    parser.add_argument("folder", help="the files, as they are in the bucket")
    parser.add_argument("--ledger", nargs="+", required=True, help="the producer's ledgers")
    parser.add_argument("--forgotten", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--out", metavar="DIR", required=True)
    args = parser.parse_args(argv)
    try:
        print(json.dumps(evaluated(args)))
        return 0
    except (Refused, strict_json.Open, OSError) as e:
        print(f"evaluate_shop: {e}", file=sys.stderr)
        return 2


def evaluated(args):
    rows, letters = [], []  # (file, line, row), and those of dead letters
    for name in sorted(os.listdir(args.folder)):
        with open(os.path.join(args.folder, name), "rb") as f:
            read_file(name, f.read(), rows, letters)
    check_kinds(args.ledger, {(file, line) for file, line, _ in rows}, {(d["file"], d["line"]) for d in letters})
    table = {}
    for file, line, row in rows:
        if table.setdefault(row["event_id"], row) != row:
            raise Refused(f"{file}:{line}: another row has that id, and which one is first is not known")
    forgotten = [row["event_id"] for file, _, row in rows if file in args.forgotten]
    if len(set(forgotten)) != len(forgotten):
        raise Refused("a forgotten file names an event twice")
    evaluate.write_tables(args.out, {
        "user_events": [table[key] for key in sorted(table)],
        "refused": letters,
    })
    return {
        "read": len(rows) + len(letters),
        "unique": len(table),
        "duplicate": len(rows) - len(table) - len(forgotten),
        "passed": len(table) + len(forgotten),
        "dead_letters": len(letters),
    }


def read_file(name, content, rows, letters):
    lines = content.split(b"\n")
    if lines.pop() != b"":
        raise Refused(f"{name}: the last line has no end")
    header = values(lines[0])
    if sorted(header) != sorted(FIELDS):
        raise Refused(f"{name}: the header is {header}")
    for number, line in enumerate(lines[1:], 2):
        try:
            rows.append((name, number, judged(header, line)))
        except Bad as bad:
            letters.append({
                "file": name,
                "line": number,
                "raw": base64.b64encode(line).decode(),
                "step": bad.step,
                "code": bad.code,
                "field": bad.field,
                "rules": bad.rules,
            })


def judged(header, line):
    """The row as a reader of the table tells it."""
    found = values(line)
    if len(found) != len(header):
        raise Bad("raw", "Malformed")
    row = {name: value(name, found[header.index(name)]) for name in FIELDS}
    rules = []
    if row["price"] < 0:
        rules.append("price-not-negative")
    if row["event_type"] not in EVENT_TYPES:
        rules.append("known-event-type")
    if rules:
        raise Bad("valid", "RuleFailed", rules=rules)
    return {**row, "price": str(row["price"]), "timestamp": iso(row["timestamp"])}


def value(name, found):
    read, required = FIELDS[name]
    if found is None:
        if required:
            raise Bad("raw", "MissingField", name)
        return None
    try:
        return read(found)
    except Malformed as e:
        raise Bad("raw", "WrongType", name) from e


def values(line):
    """RFC 4180, strictly: None stands for a value of nothing that has no quotes."""
    try:
        rest = line.decode("utf-8")
    except UnicodeDecodeError as e:
        raise Bad("raw", "Malformed") from e
    found = []
    while True:
        if rest.startswith('"'):
            m = re.match(r'"((?:[^"]|"")*)"(?!")', rest)
            if not m:
                raise Refused(f"a quote that its line does not close: {line!r}")
            found.append(m[1].replace('""', '"'))
            rest = rest[m.end() :]
            if rest and not rest.startswith(","):
                raise Bad("raw", "Malformed")
        else:
            plain = rest.partition(",")[0]
            if '"' in plain:
                raise Bad("raw", "Malformed")
            found.append(plain or None)
            rest = rest[len(plain) :]
        if not rest:
            return found
        rest = rest[1:]


def check_kinds(ledgers, good, bad):
    """What the producer meant must be what the rules see, and all that it told of must be there."""
    for path in ledgers:
        with open(path, encoding="utf-8", newline="\n") as lines:
            for told in map(json.loads, lines):
                place = (told["file"], told["line"])
                if place not in (bad if told["kind"] == "malformed" else good):
                    raise Refused(f"{place}: kind is {told['kind']}, and the rules see it otherwise, or it is not there")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
