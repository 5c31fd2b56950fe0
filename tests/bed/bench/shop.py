"""Of `tests/bench shop`: dead letters as the evaluation tells them, and the table of a run.

usage: shop.py refused < LETTERS         JSON lines of dead letters to file, line, bytes, step, code, field and broken rules
       shop.py report FOLDER ROWS KEPT REFUSED
"""

import json
import pathlib
import sys

RULES = ["price-not-negative", "known-event-type"]


def refused():
    for line in sys.stdin:
        letter = json.loads(line)
        file, number, reason = letter["message"].split(":", 2)
        told = {name: letter[name] for name in ("raw", "step", "code", "field")}
        print(json.dumps({"file": file, "line": int(number), **told, "rules": [rule for rule in RULES if rule in reason]}))


def report(folder, rows, kept, letters):
    ours, copy = (json.loads((folder / f"{name}.json").read_text()) for name in ("ours", "copy"))
    rates = rows / ours["wall_s"], kept / copy["wall_s"]
    print(f"| {rows:,} rows, {kept:,} kept, {letters:,} dead letters | EventPipeline | COPY of the kept ones |")
    print("|---|--:|--:|")
    print(f"| wall time, s | {ours['wall_s']:.1f} | {copy['wall_s']:.1f} |")
    print(f"| rows/s | {rates[0]:,.0f} | {rates[1]:,.0f} |")
    print(f"| CPU-s of the client | {ours['cpu_s']:.1f} | {copy['cpu_s']:.1f} |")
    print(f"| peak memory of the client, MiB | {ours['peak_mib']:,} | {copy['peak_mib']:,} |")
    print(f"| CPU-s of anything else meanwhile | {ours['other_cpu_s']:.0f} | {copy['other_cpu_s']:.0f} |")
    print(f"\nrows/s against COPY: {rates[0] / rates[1]:.2f}")


if sys.argv[1] == "refused":
    refused()
else:
    report(pathlib.Path(sys.argv[2]), *map(int, sys.argv[3:]))
