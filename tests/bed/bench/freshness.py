"""freshness.py PREFIX SECONDS SKIP_SECONDS: how long after its append in Kafka a row of PREFIX/bronze can be read by another process.

Follows the table's log for SECONDS by asking for its next version every 50 ms; a commit is visible when its file was read in whole.
Then takes each row's kafka_ingest_ts from the files that the commit added. Rows appended in the first SKIP_SECONDS do not count
(start-up). Prints {"rows", "p50_s", "p99_s"}.
"""

import json
import sys
import time

import delta_log
import numpy as np
import pyarrow
import pyarrow.parquet


def main():
    table, seconds, skip = sys.argv[1].rstrip("/") + "/bronze", float(sys.argv[2]), float(sys.argv[3])
    store = delta_log.s3()
    end, version, seen = time.time() + seconds, 0, []
    while time.time() < end:
        commit = delta_log.actions(store, table, version)
        if commit is None:
            time.sleep(0.05)
            continue
        seen.append((time.time(), [delta_log.path_of(table, action["add"]) for action in commit if "add" in action]))
        version += 1
    appended, visible = [], []
    for at, added in seen:
        for file in added:
            stamps = pyarrow.parquet.read_table(file, columns=["kafka_ingest_ts"], filesystem=store, partitioning=None)["kafka_ingest_ts"]
            stamps = stamps.cast(pyarrow.timestamp("us", stamps.type.tz)).to_numpy().astype("datetime64[us]").astype(np.int64) / 1e6
            appended.append(stamps)
            visible.append(np.full(len(stamps), at))
    if not appended:
        sys.exit("no row became visible")
    appended, visible = np.concatenate(appended), np.concatenate(visible)
    counted = appended >= appended.min() + skip
    late = (visible - appended)[counted]
    print(json.dumps({"rows": int(counted.sum()), "p50_s": round(float(np.percentile(late, 50)), 2), "p99_s": round(float(np.percentile(late, 99)), 2)}))


main()
