#!/usr/bin/env python3
"""Compares expected with actual rows, both JSON lines, row for row; prints a readable difference.

    compare.py --table NAME EXPECTED ACTUAL     (a table of an example: TABLES)
    compare.py --keys A,B [--columns C,…] [--text T,…] [--nonempty N,…] EXPECTED ACTUAL

Owns: what "equal" means. Doubles (numbers with a point or exponent on both sides) at relative 1e-9, everything
else exactly, types included: 5 and 5.0 differ, a column too many differs. Rows are paired by the key columns;
rows of the same key are a multiset, so a row that is there twice is one too many.
Exit 0: equal. 1: different. 2: cannot be compared; nothing expected counts as that, unless --allow-empty.
"""

import argparse
import json
import sys

RELATIVE = 1e-9
SHOWN = 20
TABLES = {
    "bronze": {"keys": ["kafka_partition", "kafka_offset"]},
    "gold": {"keys": ["window_start", "region", "product_category"]},
    "dead_letters": {
        "keys": ["source", "split", "position"],
        "columns": ["source", "split", "position", "raw"],
        "text": ["split", "position"],
        "nonempty": ["code", "message"],
    },
    "events": {"keys": ["eventId"]},
    "totals": {"keys": ["window_start", "userId"]},
    "closed": {"keys": ["window_start", "userId"]},
    "user_events": {"keys": ["event_id"]},
    "refused": {"keys": ["file", "line"]},
}


class Unusable(Exception):
    """A file is not what it must be; the text says where."""


def main(argv):
    args = arguments(argv)
    try:
        expected = index(args.expected, args)
        if not expected and not args.allow_empty:
            raise Unusable(f"{args.expected}: nothing is expected, so nothing would be compared (--allow-empty?)")
        outcome = match(expected, args.actual, args)
    except (Unusable, OSError) as e:
        print(f"compare: {e}", file=sys.stderr)
        return 2
    for line in report(outcome, args):
        print(line)
    return 1 if outcome.missing or outcome.extra or outcome.different else 0


def arguments(argv):
    parser = argparse.ArgumentParser(description="Compares expected with actual JSON lines, row for row.")
    parser.add_argument("expected")
    parser.add_argument("actual", help="- reads standard input")
    parser.add_argument("--table", choices=sorted(TABLES), help="the keys and columns of one of the examples' tables")
    parser.add_argument("--keys", type=names, help="columns that pair the rows")
    parser.add_argument("--columns", type=names, help="compare these only (default: all, and the same ones on both sides)")
    parser.add_argument("--text", type=names, help="columns compared by their text, so that 7 equals \"7\"")
    parser.add_argument("--nonempty", type=names, help="columns that must hold a non-empty text in every actual row")
    parser.add_argument("--allow-empty", action="store_true", help="it is right that no row is expected")
    args = parser.parse_args(argv)
    for option, value in TABLES.get(args.table, {}).items():
        if getattr(args, option) is None:
            setattr(args, option, value)
    if not args.keys:
        parser.error("one of --table and --keys")
    args.text, args.nonempty = args.text or [], args.nonempty or []
    return args


def names(text):
    return [n for n in text.split(",") if n]


# Reading


def lines(path):
    stream = sys.stdin if path == "-" else open(path, encoding="utf-8", newline="\n")
    with stream:
        for number, line in enumerate(stream, 1):
            try:
                row = json.loads(line)
            except ValueError as e:
                raise Unusable(f"{path}:{number}: not JSON: {e}") from e
            if not isinstance(row, dict):
                raise Unusable(f"{path}:{number}: not an object")
            yield f"{path}:{number}", row, line


def normal(where, row, args):
    """The row as it is compared: chosen columns, some as text."""
    for name in args.keys:
        if name not in row:
            raise Unusable(f"{where}: no key column {name}")
    if args.columns:
        row = {name: row[name] for name in args.columns if name in row}
    return {name: str(value) if name in args.text and value is not None else value for name, value in row.items()}


def key_of(where, row, args):
    key = tuple(row[name] for name in args.keys)
    if any(isinstance(part, (dict, list)) for part in key):
        raise Unusable(f"{where}: a key column is not a plain value")
    return key


def index(path, args):
    """Key to the expected rows as texts: dicts of millions of rows would not fit."""
    rows = {}
    for where, full, line in lines(path):
        row = normal(where, full, args)
        absent = [n for n in args.columns or [] if n not in row]
        if absent:
            raise Unusable(f"{where}: no column {', '.join(absent)}")
        rows.setdefault(key_of(where, row, args), []).append(line if row == full else json.dumps(row))
    return rows


# Pairing


class Outcome:
    def __init__(self):
        self.expected = self.actual = self.equal = 0
        self.missing, self.extra = [], []  # (key, row)
        self.different = []  # (key, expected row, actual row)


def match(expected, actual_path, args):
    outcome = Outcome()
    outcome.expected = sum(len(rows) for rows in expected.values())
    unpaired = {}
    for where, full, _ in lines(actual_path):
        outcome.actual += 1
        row = normal(where, full, args)
        key = key_of(where, row, args)
        hollow = [n for n in args.nonempty if not (isinstance(full.get(n), str) and full[n].strip())]
        candidates = expected.get(key, [])
        twin = next((i for i, c in enumerate(candidates) if same_row(json.loads(c), row)), None)
        if twin is None:
            unpaired.setdefault(key, []).append(row)
        else:
            candidates.pop(twin)
            if hollow:
                outcome.different.append((key, {}, {n: full.get(n) for n in hollow}))
            else:
                outcome.equal += 1
    for key, rows in unpaired.items():
        candidates = [json.loads(c) for c in expected.get(key, [])]
        pairs = min(len(rows), len(candidates))
        outcome.different += [(key, candidates[i], rows[i]) for i in range(pairs)]
        outcome.extra += [(key, row) for row in rows[pairs:]]
        expected[key] = [json.dumps(c) for c in candidates[pairs:]]
    outcome.missing = [(key, json.loads(c)) for key, rows in expected.items() for c in rows]
    return outcome


def same_row(expected, actual):
    return expected.keys() == actual.keys() and all(same(expected[n], actual[n]) for n in expected)


def same(expected, actual):
    if type(expected) is not type(actual):
        return False
    if isinstance(expected, float):
        return expected == actual or abs(expected - actual) <= RELATIVE * max(abs(expected), abs(actual))
    if isinstance(expected, dict):
        return same_row(expected, actual)
    if isinstance(expected, list):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    return expected == actual


# Telling


def report(outcome, args):
    for title, entries, tell in (
        ("different", outcome.different, tell_different),
        ("missing", outcome.missing, lambda row: ["    " + show(row)]),
        ("extra", outcome.extra, lambda row: ["    " + show(row)]),
    ):
        for key, *rows in sorted(entries, key=lambda e: sort_key(e[0]))[:SHOWN]:
            yield f"{title} ({', '.join(f'{n}={show(v)}' for n, v in zip(args.keys, key))})"
            yield from tell(*rows)
        if len(entries) > SHOWN:
            yield f"… and {len(entries) - SHOWN} more {title}"
    yield (
        f"{outcome.expected} expected, {outcome.actual} actual: {outcome.equal} equal, {len(outcome.missing)} missing, "
        f"{len(outcome.extra)} extra, {len(outcome.different)} different"
    )


def tell_different(expected, actual):
    if not expected:
        return [f"    {n}: must not be empty, is {show(v)}" for n, v in actual.items()]
    out = []
    for name in [*expected, *(n for n in actual if n not in expected)]:
        if name not in actual:
            out.append(f"    {name}: expected {show(expected[name])}, there is no such column")
        elif name not in expected:
            out.append(f"    {name}: no such column is expected, actual {show(actual[name])}")
        elif not same(expected[name], actual[name]):
            out.append(f"    {name}: expected {show(expected[name])}, actual {show(actual[name])}")
    return out


def show(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else text[:300] + "…"


def sort_key(key):
    return [(value is not None, str(type(value)), value if value is not None else 0) for value in key]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
