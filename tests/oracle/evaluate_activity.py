#!/usr/bin/env python3
"""What the sinks of the activity pipeline must hold, computed from the producer's ledgers.

    evaluate_activity.py LEDGER… [--again LEDGER…] --out DIR

Owns: the activity pipeline's meaning, once more, in one thread and from the written rules (scenario 5, rules 2, 3, 5, 16, 18
and 20); it shares nothing with the engine. `--again` names what was sent once all before it had been decided.
Does not own: reading (parquet-dump, Kafka's own consumer) and comparing (compare.py). README.md has the contracts.

A ledger whose outcome would depend on where epochs fall, or on which partition is read first, is refused (exit 2).
"""

import argparse
import json
import math
import sys

import evaluate
import strict_json
from evaluate import Refused
from strict_json import MICROS, iso

FIELDS = [  # name, type, required
    ("eventId", strict_json.as_string, True),
    ("userId", strict_json.as_string, True),
    ("amount", strict_json.as_double, False),
    ("eventType", strict_json.as_string, False),
    ("eventTime", strict_json.as_timestamp, True),
]
WINDOW = 5 * 60 * MICROS
DELAY = 10 * 60 * MICROS


def main(argv):
    parser = argparse.ArgumentParser(description="What the activity pipeline's sinks must hold after ledgers.")
    parser.add_argument("ledger", nargs="+", help="the producer's ledgers, in the order they were sent")
    parser.add_argument("--again", nargs="*", default=[], metavar="LEDGER", help="sent once all before was decided")
    parser.add_argument("--out", metavar="DIR", required=True)
    args = parser.parse_args(argv)
    try:
        print(json.dumps(evaluated(args)))
        return 0
    except (Refused, OSError) as e:
        print(f"evaluate_activity: {e}", file=sys.stderr)
        return 2


def evaluated(args):
    entries = evaluate.read_ledgers(args.ledger + args.again)
    for entry in entries:
        evaluate.decode(entry, FIELDS)
        if (entry.kind == "malformed") != (entry.row is None):
            raise Refused(f"{entry.where}: kind is {entry.kind}, but the record is {entry.reason or 'well-formed'}")
    files = set(args.again)
    again = [e for e in entries if e.where.rpartition(":")[0] in files]
    before = [e for e in entries if e.where.rpartition(":")[0] not in files]
    check_on_time(before)
    lowest, highest = watermarks(before)
    check_nothing_new(again, before)
    unique, repeats = first_of_each(before)
    totals = summed(unique)
    check_closed_for_all(totals, lowest, highest)
    evaluate.write_tables(args.out, {
        "events": [shown(row) for row in unique],
        "totals": totals,
        "closed": [row for row in totals if row["window_end"] <= iso(lowest)],
        "dead_letters": evaluate.dead_letters(entries, "incoming"),
    })
    return counts(entries, unique, repeats, again, (lowest, highest))


def check_on_time(entries):
    """No verdict may depend on which partition is read first: nothing is late even where the furthest alone decides."""
    furthest = -math.inf
    for e in entries:
        if e.row is None:
            continue
        if e.row["eventTime"] < furthest - DELAY:
            raise Refused(f"{e.where}: the event may be late before it is read")
        furthest = max(furthest, e.row["eventTime"])


def watermarks(entries):
    """At the end: of the slowest partition, and of the furthest. In between is what idle partitions may make of it."""
    furthest = {}
    for e in entries:
        if e.row is not None:
            furthest[e.partition] = max(furthest.get(e.partition, -math.inf), e.row["eventTime"])
    return min(furthest.values()) - DELAY, max(furthest.values()) - DELAY


def check_nothing_new(again, before):
    known = {e.row["eventId"] for e in before if e.row is not None}
    for e in again:
        if e.row is not None and e.row["eventId"] not in known:
            raise Refused(f"{e.where}: the event was not sent before")


def first_of_each(entries):
    """The first row of each id, and the pairs of each later one with its first. An id has one partition, so one order."""
    first, repeats, partition = {}, [], {}
    for e in sorted((e for e in entries if e.row is not None), key=lambda e: (e.partition, e.offset)):
        event = e.row["eventId"]
        if partition.setdefault(event, e.partition) != e.partition:
            raise Refused(f"{e.where}: the event is in two partitions")
        if event in first:
            repeats.append((e.row, first[event]))
        else:
            first[event] = e.row
    return list(first.values()), repeats


def summed(rows):
    groups = {}
    for row in rows:
        start = row["eventTime"] // WINDOW * WINDOW  # // floors, also below zero
        groups.setdefault((start, row["userId"]), []).append(row["amount"])
    return [
        {
            "window_start": iso(start),
            "window_end": iso(start + WINDOW),
            "userId": user,
            "events": len(amounts),
            "total_amount": total(amounts),
        }
        for (start, user), amounts in sorted(groups.items())
    ]


def total(amounts):
    known = [a for a in amounts if a is not None]
    return math.fsum(known) if known else None


def check_closed_for_all(totals, lowest, highest):
    for row in totals:
        if iso(lowest) < row["window_end"] <= iso(highest):
            raise Refused(f"whether the window that ends at {row['window_end']} is closed depends on idle partitions")


def shown(row):
    return {**row, "eventTime": iso(row["eventTime"])}


def counts(entries, unique, repeats, again, bounds):
    """What the pipeline's ledger must show (rule 28). Of what came again, what is older than the watermark is late, and the
    rest repeats; between the two watermarks either may be."""
    first = {row["eventId"]: row for row in unique}
    rows = [e.row for e in again if e.row is not None]
    late = [[r for r in rows if r["eventTime"] < bound] for bound in bounds]
    conflicts = sum(row != original for row, original in repeats)
    other = [sum(r != first[r["eventId"]] for r in rows if r["eventTime"] >= bound) for bound in bounds]
    return {
        "read": len(entries),
        "unique": len(unique),
        "repeated": len(repeats) + len(rows),
        "late": [len(rows) for rows in late],
        "conflict": sorted(conflicts + n for n in other),
        "dead_letters": sum(e.row is None for e in entries),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
