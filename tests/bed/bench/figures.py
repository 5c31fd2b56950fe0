"""figures.py EVENTS [SPAN_S]: what EVENTS preloaded events of gen.py must give, computed from the generator's columns alone.

Prints {"malformed", "windows": [row...], "days": [row...]}; a row is [start (s), region, category, orders, revenue in cents, units,
customers, order ids], of placed orders in windows of five minutes and of a day. No engine took part in any of it.
A repeated event is its predecessor's bytes again: it counts as an order, and brings no new customer or order id.
"""

import json
import sys

import gen
import numpy as np


def main():
    n, span = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 21600
    chunks = [gen.columns(chunk)[1:] for chunk in range((n + gen.CHUNK - 1) // gen.CHUNK)]
    customer, product, quantity, cents, kind, region, back, malformed, again = (np.concatenate(column)[:n] for column in zip(*chunks))
    again[0] = False  # nothing was before it
    # The event whose bytes event i is: itself, or the last one before it that is no repetition.
    of = np.maximum.accumulate(np.where(again, 0, np.arange(n)))
    second = gen.START + span * (of / n) - back[of]
    milliseconds = (second * 1000).astype(np.int64)
    bad = malformed[of]
    placed = ~bad & (kind[of] == 0)
    of, milliseconds, first = of[placed], milliseconds[placed], ~again[placed]
    group = region[of] * len(gen.CATEGORIES) + product[of] % len(gen.CATEGORIES)
    facts = quantity[of], cents[of] * quantity[of], customer[of], first
    windows, days = (rows(milliseconds, size, group, *facts) for size in (300, 86400))
    print(json.dumps({"malformed": int(bad.sum()), "windows": windows, "days": days}))


def rows(milliseconds, size, group, quantity, revenue, customer, first):
    groups = len(gen.REGIONS) * len(gen.CATEGORIES)
    keys, at = np.unique(milliseconds // (size * 1000) * groups + group, return_inverse=True)
    # A customer counts once in a group, however often he orders.
    customers = np.bincount(np.unique(at * gen.CUSTOMERS + customer) // gen.CUSTOMERS, minlength=len(keys))
    sums = [np.bincount(at, minlength=len(keys)), whole(at, revenue, keys), whole(at, quantity, keys), customers, whole(at, first, keys)]
    found = []
    for i, key in enumerate(keys.tolist()):
        window, of = divmod(key, groups)
        where = [window * size, gen.REGIONS[of // len(gen.CATEGORIES)], gen.CATEGORIES[of % len(gen.CATEGORIES)]]
        found.append(where + [int(column[i]) for column in sums])
    return found


def whole(at, values, keys):
    """Sums by group, in whole numbers."""
    total = np.zeros(len(keys), np.int64)
    np.add.at(total, at, values.astype(np.int64))
    return total


main()
