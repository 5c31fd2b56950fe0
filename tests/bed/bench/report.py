"""report.py FOLDER EVENTS RATE WHO...: the table of one benchmark run, from what measure.py and freshness.py left in FOLDER."""

import json
import pathlib
import sys


def main():
    folder, events, rate, who = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]

    def read(name):
        file = folder / f"{name}.json"
        return json.loads(file.read_text()) if file.exists() and file.stat().st_size else None

    def row(title, cell):
        return [title, *(cell(name) for name in who)]

    def done(name, value):
        result = read(name)
        return value(result) if result and result["ok"] else "did not finish"

    def fresh(name, key):
        result = read(f"{name}-freshness")
        return f"{result[key]:.1f}" if result else "-"

    per_million = events / 1e6
    rows = [
        ["", *who],
        row(f"events/s, {events:,} events", lambda w: done(w, lambda r: f"{events / r['wall_s']:,.0f}")),
        row("CPU-s per million events", lambda w: done(w, lambda r: f"{r['cpu_s'] / per_million:.2f}")),
        row("peak memory, MiB", lambda w: done(w, lambda r: f"{r['peak_mib']:,}")),
        row("broker CPU-s per million", lambda w: done(w, lambda r: f"{r['watched']['broker'] / per_million:.2f}")),
        row("S3 server CPU-s per million", lambda w: done(w, lambda r: f"{r['watched']['s3'] / per_million:.2f}")),
        row("CPU-s of anything else meanwhile", lambda w: done(w, lambda r: f"{r['other_cpu_s']:.0f}")),
        row(f"freshness p50, s, at {rate:,}/s", lambda w: fresh(w, "p50_s")),
        row("freshness p99, s", lambda w: fresh(w, "p99_s")),
        row("peak memory there, MiB", lambda w: done(f"{w}-live", lambda r: f"{r['peak_mib']:,}")),
        row("CPU, cores, there", lambda w: done(f"{w}-live", lambda r: f"{r['cpu_s'] / r['wall_s']:.2f}")),
    ]
    ours, peer = read("ours"), read("peer")
    if ours and peer and ours["ok"] and peer["ok"]:
        rows[0].append("ratio")
        rows[1].append(f"{peer['wall_s'] / ours['wall_s']:.1f} x")
        rows[2].append(f"{peer['cpu_s'] / ours['cpu_s']:.1f} x")
        rows[3].append(f"{peer['peak_mib'] / max(ours['peak_mib'], 1):.1f} x")
    columns = max(map(len, rows))
    rows = [r + [""] * (columns - len(r)) for r in rows]
    widths = [max(len(r[i]) for r in rows) for i in range(columns)]
    for n, r in enumerate(rows):
        print("| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))) + " |")
        if n == 0:
            print("|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|")


main()
