"""Deterministic generator of order events.

    gen.py create                 only the topic
    gen.py preload N              event time from a fixed start over --span-s seconds, each event moved back by 0..120 s (mild disorder)
    gen.py stream --rate R --seconds S    event time is now

env: KAFKA_BOOTSTRAP, TOPIC, SEED (42). The topic has three partitions and is created if it is not there.
Event i is a function of (SEED, i) alone, so N events of one seed are always the same topic. 0.01 % of the values are malformed (JSON cut
in half), 0.02 % are the bytes and key of an earlier event again, 3 % are of event types that the gold table leaves out.
What must come out of 1,000,000 and 4,000,000 events of seed 42 is in check.py: change nothing here that draws from the generator.
"""

import argparse
import json
import os
import time

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

SEED = int(os.environ.get("SEED", "42"))
CATEGORIES = ["Electronics", "Clothing", "Home & Garden", "Books", "Sports", "Toys"]
REGIONS = ["us-east", "us-west", "eu-central", "eu-west", "ap-south"]
TYPES = ["ORDER_PLACED", "ORDER_SHIPPED", "ORDER_CANCELLED", "ORDER_RETURNED"]
PRODUCTS, CUSTOMERS = 600, 50000
START = 1767225600  # 2026-01-01T00:00:00Z
CHUNK = 10000


def columns(chunk):
    """The random columns of events chunk*CHUNK .. (chunk+1)*CHUNK-1, from their own seeded stream."""
    r = np.random.default_rng([SEED, chunk])
    uid = r.integers(0, 2**63, size=(CHUNK, 2), dtype=np.int64)
    customer = (r.pareto(1.2, CHUNK) * 400).astype(np.int64) % CUSTOMERS
    product = r.integers(0, PRODUCTS, CHUNK)
    quantity = r.integers(1, 11, CHUNK)
    cents = r.integers(199, 49999, CHUNK)
    kind = np.where(r.random(CHUNK) < 0.97, 0, r.integers(1, 4, CHUNK))
    region = r.choice(5, CHUNK, p=[0.35, 0.2, 0.2, 0.15, 0.1])
    back = r.random(CHUNK) * 120.0
    malformed = r.random(CHUNK) < 0.0001
    again = r.random(CHUNK) < 0.0002
    return uid, customer, product, quantity, cents, kind, region, back, malformed, again


def iso(ms):
    seconds, fraction = divmod(ms, 1000)
    t = time.gmtime(seconds)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ" % (t[0], t[1], t[2], t[3], t[4], t[5], fraction)


def uuid(a, b):
    h = "%016x%016x" % (a, b)
    return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]


def value(order, customer, product, quantity, cents, kind, region, ms):
    return (
        '{"order_id": "%s", "customer_id": "CUST-%05d", "product_id": "PROD-%04d", "product_name": "Product %04d", '
        '"product_category": "%s", "quantity": %d, "unit_price": %.2f, "total_price": %.2f, "event_type": "%s", '
        '"region": "%s", "event_timestamp": "%s"}'
        % (order, customer, product, product, CATEGORIES[product % 6], quantity, cents / 100.0, cents * quantity / 100.0,
           TYPES[kind], REGIONS[region], iso(ms))
    )  # fmt: skip


def events(n, event_time):
    """Yields (key, value, malformed, repeated) of events 0..n; `event_time(i, back)` gives milliseconds."""
    last, i = None, 0
    for chunk in range((n + CHUNK - 1) // CHUNK):
        uid, customer, product, quantity, cents, kind, region, back, malformed, again = (column.tolist() for column in columns(chunk))
        for k in range(min(CHUNK, n - chunk * CHUNK)):
            if again[k] and last:
                yield *last, False, True
            else:
                order = uuid(uid[k][0], uid[k][1])
                text = value(order, customer[k], product[k], quantity[k], cents[k], kind[k], region[k], event_time(i, back[k]))
                if malformed[k]:
                    text = text[: len(text) // 2]
                last = (order, text)
                yield order, text, malformed[k], False
            i += 1


def main():
    args = argparse.ArgumentParser()
    args.add_argument("mode", choices=["create", "preload", "stream"])
    args.add_argument("n", nargs="?", type=int, default=0)
    args.add_argument("--span-s", type=int, default=21600)
    args.add_argument("--rate", type=int, default=5000)
    args.add_argument("--seconds", type=int, default=60)
    a = args.parse_args()
    broker, topic = os.environ["KAFKA_BOOTSTRAP"], os.environ["TOPIC"]
    preload = a.mode == "preload"
    n = a.n if preload else a.rate * a.seconds
    admin = AdminClient({"bootstrap.servers": broker})
    if topic not in admin.list_topics(timeout=20).topics:
        admin.create_topics([NewTopic(topic, 3, 1)])[topic].result()
    if a.mode == "create":
        return
    producer = Producer({
        "bootstrap.servers": broker, "acks": "all", "enable.idempotence": True, "compression.type": "none",
        "partitioner": "murmur2_random", "queue.buffering.max.messages": 500000,
        "linger.ms": 20 if preload else 5, "batch.size": 1000000 if preload else 65536,
    })  # fmt: skip
    begin = time.time()
    if preload:
        event_time = lambda i, back: int((START + a.span_s * (i / n) - back) * 1000)  # noqa: E731
    else:
        event_time = lambda _i, _back: int(time.time() * 1000)  # noqa: E731
    sent = malformed = repeated = size = 0
    for key, text, bad, again in events(n, event_time):
        while True:
            try:
                producer.produce(topic, key=key, value=text)
                break
            except BufferError:
                producer.poll(0.05)
        sent, malformed, repeated, size = sent + 1, malformed + bad, repeated + again, size + len(text)
        if sent % 1000 == 0:
            producer.poll(0)
        if not preload and sent % 50 == 0:
            producer.poll(0)
            ahead = begin + sent / a.rate - time.time()
            if ahead > 0:
                time.sleep(ahead)  # this is the rate, not a wait
    producer.flush()
    took = time.time() - begin
    print(json.dumps({"events": sent, "malformed": malformed, "repeated": repeated, "bytes_per_value": round(size / max(sent, 1)),
                      "seconds": round(took, 1), "events_per_s": round(sent / took)}))  # fmt: skip


if __name__ == "__main__":
    main()
