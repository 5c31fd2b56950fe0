"""What a worker says of its state while it runs, and the table of a run of `tests/bench state`.

usage: state.py ADDRESS STEP COUNT                               ends the worker that listens there once it has read so many records, or sees it
                                                                  end; prints the step's figures as they were last
       state.py --report FOLDER KEYS KEYS_MIB GROUPS GROUPS_MIB the table
"""

import json
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request


def watch(address, step, count):
    last, patience = None, time.time() + 60
    while last or time.time() < patience:
        try:
            with urllib.request.urlopen(f"http://{address}/progress", timeout=5) as answer:
                report = json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if last:
                break
            time.sleep(0.05)
            continue
        for told in report["steps"]:
            if told["name"] == step:
                last = told
        if report["ledger"]["read"] >= count:
            subprocess.run(["pkill", "-INT", "-f", f"run .*--listen {address}"], check=True)
            break
        time.sleep(0.1)
    print(json.dumps(last))


def report(folder, keys, keys_mib, groups, groups_mib):
    def read(name):
        return json.loads((folder / f"{name}.json").read_text())

    print("| state | told by the worker | bytes each | peak memory of the process, MiB | limit, MiB | records/s |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, what, count, limit in [("keys", "keys of a dedupe", keys, keys_mib), ("groups", "open groups of a window", groups, groups_mib)]:
        told, run = read(f"{name}-state"), read(name)
        size = told["stateBytes"]
        print(
            f"| {count:,} {what} | {size / 2**20:,.0f} MiB | {size / count:.1f} | {run['peak_mib']:,} | {limit:,} | {count / run['wall_s']:,.0f} |"
        )


if sys.argv[1] == "--report":
    report(pathlib.Path(sys.argv[2]), *map(int, sys.argv[3:]))
else:
    watch(sys.argv[1], sys.argv[2], int(sys.argv[3]))
