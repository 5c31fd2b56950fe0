"""What a worker says of its state while it runs, and the table of a run of `tests/bench state`.

usage: state.py URL STEP                                        keeps the largest figures of the step until nobody answers any more; prints them
       state.py --report FOLDER KEYS KEYS_MIB GROUPS GROUPS_MIB the table
"""

import json
import pathlib
import sys
import time
import urllib.error
import urllib.request


def watch(url, step):
    most, seen, patience = {"keys": 0, "stateBytes": 0}, False, time.time() + 60
    while seen or time.time() < patience:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                report = json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if seen:
                break
            time.sleep(0.05)
            continue
        seen = True
        for told in report["steps"]:
            if told["name"] == step:
                most = {name: max(most[name], told[name]) for name in most}
        time.sleep(0.1)
    print(json.dumps(most))


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
    watch(sys.argv[1], sys.argv[2])
