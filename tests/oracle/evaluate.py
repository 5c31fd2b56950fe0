#!/usr/bin/env python3
"""What bronze, gold and the dead letters of the orders pipeline must hold, computed from the producer's ledger.

    evaluate.py LEDGER… --out DIR [--by-positions FILE] [--source NAME]
    evaluate.py LEDGER… --watermark-at-end [--by-positions FILE] [--idle P,…]

Owns: the orders pipeline's meaning, once more, in one thread and from the written rules (scenario 1,
semantics.md); it shares nothing with the engine. Does not own: reading tables (delta-dump, parquet-dump)
and comparing (compare.py). Contracts of the files: README.md.

The ledger says what the producer *meant* by each record (`kind`); the rules say what it *is*. Where the two
disagree, or where a verdict would depend on where epochs fall, the ledger is refused (exit 2), never guessed.
"""

import argparse
import base64
import json
import math
import os
import sys
from collections import Counter
from dataclasses import dataclass

import strict_json
from strict_json import MICROS, Malformed, Open, iso

# The orders manifest.
FIELDS = [  # name, type, required
    ("order_id", strict_json.as_string, True),
    ("customer_id", strict_json.as_string, True),
    ("product_id", strict_json.as_string, False),
    ("product_name", strict_json.as_string, False),
    ("product_category", strict_json.as_string, True),
    ("quantity", strict_json.as_int, True),
    ("unit_price", strict_json.as_double, False),
    ("total_price", strict_json.as_double, True),
    ("event_type", strict_json.as_string, True),
    ("region", strict_json.as_string, True),
    ("event_timestamp", strict_json.as_timestamp, True),
]
WINDOW = 5 * 60 * MICROS
DELAY = 10 * 60 * MICROS
MAX_FUTURE = 60 * 60 * MICROS
# maxFuture is judged by the epoch's time, which no ledger knows: the record's own time stands for it, and a
# ledger must stay this far from the edge on both sides, so that a record read up to 30 minutes late is judged alike.
FUTURE_MARGIN = 30 * 60 * MICROS
KINDS = {"good", "duplicate", "late", "disorder", "malformed", "future"}


class Refused(Exception):
    """The ledger cannot be evaluated; the text says which line and why."""


@dataclass(slots=True)
class Entry:
    """A line of the ledger, with the verdict of the rules on it."""

    where: str
    kind: str
    partition: int
    offset: int
    ingested: int  # µs
    raw: bytes  # None: a tombstone
    row: dict = None  # the decoded fields; None: malformed or a tombstone
    reason: str = None  # why it is malformed


def main(argv):
    args = arguments(argv)
    try:
        entries = read_ledgers(args.ledger)
        for entry in entries:
            decode(entry)
        check_kinds(entries)
        check_lateness(entries)
        if args.by_positions:
            entries = up_to(entries, read_positions(args.by_positions))
        if args.watermark_at_end:
            print(json.dumps(watermark_at_end(entries, args.idle)))
            return 0
        print(json.dumps(write(args.out, entries, args.source)))
        return 0
    except (Refused, OSError) as e:
        print(f"evaluate: {e}", file=sys.stderr)
        return 2


def arguments(argv):
    parser = argparse.ArgumentParser(description="What the orders pipeline's tables must hold after a ledger.")
    parser.add_argument("ledger", nargs="+", help="the producer's ledgers, in the order they were sent")
    parser.add_argument("--out", metavar="DIR", help="write bronze.jsonl, gold.jsonl, dead_letters.jsonl there")
    parser.add_argument("--by-positions", metavar="FILE", help='only records before these: {"<partition>": <next offset>}')
    parser.add_argument("--watermark-at-end", action="store_true", help="print event times and watermarks instead")
    parser.add_argument("--idle", metavar="P,…", default="", help="partitions that do not hold the watermark at the end")
    parser.add_argument("--source", default="orders", help="name of the source in the manifest (default: orders)")
    args = parser.parse_args(argv)
    if bool(args.out) == args.watermark_at_end:
        parser.error("exactly one of --out and --watermark-at-end")
    try:
        args.idle = {int(p) for p in args.idle.split(",") if p}
    except ValueError:
        parser.error(f"--idle: not a list of partitions: {args.idle}")
    return args


# Reading


def read_ledgers(paths):
    entries, seen = [], {}
    for path in paths:
        with open(path, encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                entry = read_entry(f"{path}:{number}", line)
                place = (entry.partition, entry.offset)
                if place in seen:
                    raise Refused(f"{entry.where}: partition and offset are those of {seen[place]}")
                seen[place] = entry.where
                entries.append(entry)
    return entries


def read_entry(where, line):
    try:
        fields = json.loads(line)
        kind, partition, offset, ingested = (fields[k] for k in ("kind", "partition", "offset", "timestamp"))
        if "value_base64" in fields:
            raw = base64.b64decode(fields["value_base64"], validate=True)
        else:
            raw = fields["value"] if fields["value"] is None else fields["value"].encode("utf-8")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise Refused(f"{where}: not a ledger line: {e!r}") from e
    if kind not in KINDS:
        raise Refused(f"{where}: unknown kind {kind!r}")
    if not all(type(n) is int for n in (partition, offset, ingested)):
        raise Refused(f"{where}: partition, offset and timestamp must be whole numbers (was it acknowledged?)")
    return Entry(where, kind, partition, offset, ingested * 1000, raw)


def read_positions(path):
    with open(path, encoding="utf-8") as f:
        try:
            return {int(p): int(next_offset) for p, next_offset in json.load(f).items()}
        except (ValueError, AttributeError, TypeError) as e:
            raise Refused(f'{path}: not {{"<partition>": <next offset>}}: {e!r}') from e


def up_to(entries, positions):
    """A partition that is not named was not read."""
    return [e for e in entries if e.offset < positions.get(e.partition, 0)]


# Judging


def decode(entry, fields=tuple(FIELDS)):
    if entry.raw is None:
        return
    try:
        members = strict_json.document(entry.raw)
        entry.row = {name: field(members, name, read, required) for name, read, required in fields}
    except Malformed as e:
        entry.reason = str(e)
    except Open as e:
        raise Refused(f"{entry.where}: the rules leave this record open: {e}") from e


def field(members, name, read, required):
    value = members.get(name)
    if value is None:
        if required:
            raise Malformed(f"required field {name} is missing")
        return None
    try:
        return read(value)
    except Malformed as e:
        raise Malformed(f"{name}: {e}") from e


def check_kinds(entries):
    """What the producer meant must be what the rules see."""
    for e in entries:
        if e.raw is not None and (e.kind == "malformed") != (e.row is None):
            raise Refused(f"{e.where}: kind is {e.kind}, but the record is {e.reason or 'well-formed'}")
        if e.row is None:
            continue
        ahead = e.row["event_timestamp"] - e.ingested
        if e.kind == "future" and ahead <= MAX_FUTURE + FUTURE_MARGIN:
            raise Refused(f"{e.where}: kind is future, but the event is only {ahead / 6e7:.1f} min ahead of its record")
        if e.kind != "future" and ahead > MAX_FUTURE - FUTURE_MARGIN:
            raise Refused(f"{e.where}: kind is {e.kind}, but the event is {ahead / 6e7:.1f} min ahead of its record")


def check_lateness(entries):
    """No verdict may depend on where epochs fall or which partition is read first.

    A late one must be late under the lowest watermark that can hold when it is read (everything sent before it
    was read, every partition holds); any other must be in time under the highest (the furthest partition alone
    decides, as when the others are idle).
    """
    furthest = {}
    for e in entries:
        if not accepted(e):
            continue
        t, end = e.row["event_timestamp"], window_start(e.row) + WINDOW
        lowest = min(furthest.values(), default=-math.inf) - DELAY
        highest = max(furthest.values(), default=-math.inf) - DELAY
        if e.kind == "late" and not end <= lowest:
            raise Refused(f"{e.where}: kind is late, but its window may still be open")
        if e.kind != "late" and end <= highest:
            raise Refused(f"{e.where}: kind is {e.kind}, but its window may have closed before it is read")
        furthest[e.partition] = max(furthest.get(e.partition, -math.inf), t)


def accepted(entry):
    return entry.row is not None and entry.kind != "future"


def window_start(row):
    return row["event_timestamp"] // WINDOW * WINDOW  # // floors, also below zero


# Results


def bronze(entries):
    return [bronze_row(e) for e in sorted(entries, key=lambda e: (e.partition, e.offset)) if accepted(e)]


def bronze_row(entry):
    row = dict(entry.row)
    row["event_timestamp"] = iso(entry.row["event_timestamp"])
    row["kafka_ingest_ts"] = iso(entry.ingested)
    row["kafka_partition"] = entry.partition
    row["kafka_offset"] = entry.offset
    row["event_date"] = row["event_timestamp"][:10]
    return row


def gold(entries):
    groups = {}
    for e in entries:
        if accepted(e) and e.kind != "late" and e.row["event_type"] == "ORDER_PLACED":
            group = (window_start(e.row), e.row["region"], e.row["product_category"])
            groups.setdefault(group, []).append(e.row)
    return [gold_row(group, groups[group]) for group in sorted(groups)]


def gold_row(group, rows):
    start, region, category = group
    revenue = math.fsum(r["total_price"] for r in rows)
    return {
        "window_start": iso(start),
        "window_end": iso(start + WINDOW),
        "region": region,
        "product_category": category,
        "order_count": len(rows),
        "total_revenue": revenue,
        "avg_order_value": revenue / len(rows),
        "total_units_sold": sum(r["quantity"] for r in rows),
        "unique_customers": len({r["customer_id"] for r in rows}),
    }


def dead_letters(entries, source):
    dead = [e for e in entries if e.raw is not None and not accepted(e)]
    dead.sort(key=lambda e: (e.partition, e.offset))
    return [
        {"source": source, "split": str(e.partition), "position": e.offset, "raw": base64.b64encode(e.raw).decode()}
        for e in dead
    ]


def write_tables(directory, tables):
    os.makedirs(directory, exist_ok=True)
    for name, rows in tables.items():
        with open(os.path.join(directory, name + ".jsonl"), "w", encoding="utf-8", newline="\n") as f:
            f.writelines(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


def write(directory, entries, source):
    """Writes the three tables; the answer is the ledger of rule 28 as it must come out."""
    tables = {"bronze": bronze(entries), "gold": gold(entries), "dead_letters": dead_letters(entries, source)}
    write_tables(directory, tables)
    placed = [e for e in entries if accepted(e) and e.row["event_type"] == "ORDER_PLACED"]
    return {
        "read": len(entries),
        "tombstones": sum(e.raw is None for e in entries),
        "kinds": dict(sorted(Counter(e.kind for e in entries).items())),
        "placed": len(placed),
        "late": sum(e.kind == "late" for e in placed),
        "rows": {name: len(rows) for name, rows in tables.items()},
    }


def watermark_at_end(entries, idle):
    """Per partition the furthest event time and its watermark; W is the lowest of those that are not idle."""
    furthest = {}
    for e in entries:
        if accepted(e):
            furthest[e.partition] = max(furthest.get(e.partition, -math.inf), e.row["event_timestamp"])
    holding = [t for p, t in furthest.items() if p not in idle]
    return {
        "partitions": {
            str(p): {"max_event_time": iso(furthest[p]), "watermark": iso(furthest[p] - DELAY)} for p in sorted(furthest)
        },
        "watermark": iso(min(holding) - DELAY) if holding else None,
        "highest": iso(max(furthest.values()) - DELAY) if furthest else None,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
