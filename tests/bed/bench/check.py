"""check.py EVENTS PREFIX PEER_OR_OURS: do the two tables below PREFIX (bucket/folder) hold what EVENTS events of seed 42 must give?

Prints what it found as JSON and exits 1 if it is wrong. Facts computed once, by an evaluation of the generator's own events; repeated
events count twice and no event is late. The peer keeps malformed values in bronze, as rows of nulls; ours go to the dead letters.
"""

import json
import sys

import delta_log
import pyarrow.compute as pc

# events: (malformed, gold rows, orders, revenue)
EXPECTED = {1_000_000: (94, 2190, 970_095, 1_338_576_187.60), 4_000_000: (387, 2190, 3_879_773, 5_356_961_700.96)}


def main():
    events, prefix, who = int(sys.argv[1]), sys.argv[2].rstrip("/"), sys.argv[3]
    store = delta_log.s3()
    bronze = delta_log.column(store, prefix + "/bronze", ["kafka_offset"]).num_rows
    gold = delta_log.column(store, prefix + "/gold", ["order_count", "total_revenue"])
    found = {"bronze": bronze, "gold": gold.num_rows, "orders": pc.sum(gold["order_count"]).as_py(), "revenue": pc.sum(gold["total_revenue"]).as_py()}
    print(json.dumps(found))
    if events not in EXPECTED:
        return
    malformed, rows, orders, revenue = EXPECTED[events]
    wanted = {"bronze": events - (malformed if who == "ours" else 0), "gold": rows, "orders": orders}
    wrong = {name: (found[name], want) for name, want in wanted.items() if found[name] != want}
    if abs(found["revenue"] - revenue) > 1e-9 * revenue:
        wrong["revenue"] = (found["revenue"], revenue)
    if wrong:
        sys.exit(f"{who}: found and wanted differ: {wrong}")


main()
