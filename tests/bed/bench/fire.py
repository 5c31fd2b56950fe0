"""fire.py: a worker under kill -9, and what it comes back with.

    fire.py lose PIPELINE PREFIX EVENTS                       reads EVENTS events to the end, killed every 2 to 5 seconds
    fire.py recover GROW PIPELINE PREFIX EVENTS KILLS MIB     grows MIB of state by pipeline GROW, then KILLS kills under PIPELINE, then the rest
    fire.py check PREFIX FIGURES windows|days                 are the tables below PREFIX what figures.py says?
    fire.py report FOLDER                                     the table, from what the others printed

Prints its figures as JSON; ends with 1 if anything is not as it must be. Each container that ends is started again at once in its pod.
Recovery is the time from kill -9 to the next decided epoch, read from the head in the store, not from the worker's own words.
env: WORKER (the binary), SECRETS, SCRATCH, MEMORY (bytes), LOG, SEED (7), and that of delta_log.py.
"""

import atexit
import collections
import hashlib
import hmac
import http.client
import json
import math
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import delta_log
import numpy as np
import pyarrow.fs
import pyarrow.parquet

E = os.environ
DRAW = random.Random(int(E.get("SEED", "7")))
STORE = delta_log.s3()
DEADLINE = 120  # seconds without a new epoch after which it does not come back


def get(path):
    """An object by one signed GET (None: not there). pyarrow asks for the length first, and then may read another version's bytes."""
    url = urllib.parse.urlsplit(E["S3_ENDPOINT"])
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    empty, scope = hashlib.sha256(b"").hexdigest(), f"{now[:8]}/us-east-1/s3/aws4_request"
    headers = {"host": url.netloc, "x-amz-content-sha256": empty, "x-amz-date": now}
    names = ";".join(headers)
    request = "\n".join(["GET", "/" + path, "", *(f"{k}:{v}" for k, v in headers.items()), "", names, empty])
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = ("AWS4" + E["AWS_SECRET_ACCESS_KEY"]).encode()
    for word in [*scope.split("/"), text]:
        key = hmac.digest(key, word.encode(), "sha256")
    credential = E["AWS_ACCESS_KEY_ID"] + "/" + scope
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={key.hex()}"
    connection = http.client.HTTPConnection(url.netloc, timeout=10)
    try:
        connection.request("GET", "/" + path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    assert answer.status in (200, 404), (answer.status, body)
    return body if answer.status == 200 else None


class Worker:
    """A container: killed, it is started again in its pod."""

    def __init__(self, pipeline, prefix):
        self.pipeline, self.prefix, self.child = pipeline, prefix, None
        self.log = open(E["LOG"], "ab")
        atexit.register(self.gone)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % free.getsockname()[1]

    def start(self):
        flags = ["--lane", "0", "--pipeline", self.pipeline, "--secrets", E["SECRETS"], "--scratch", E["SCRATCH"], "--listen", self.address]
        # The last variable is the image's (Dockerfile).
        pod = {"POD_NAME": "fire", "POD_UID": "fire", "EVP_MEMORY_LIMIT_BYTES": E["MEMORY"], "MALLOC_MMAP_THRESHOLD_": "65536"}
        self.child = subprocess.Popen([E["WORKER"], "worker", *flags], env=pod, stdout=self.log, stderr=self.log)

    def kill(self):
        assert self.child.poll() is None, "it ended by itself: " + E["LOG"]
        self.child.kill()
        self.child.wait()

    def gone(self):
        """Nothing of it outlives this program."""
        if self.child and self.child.poll() is None:
            self.kill()

    def head(self):
        """The newest decided body; None: there is none yet."""
        text = get(self.prefix + "/checkpoint/0/head.json")
        return json.loads(text)["body"] if text else None

    def until(self, reached, seconds=math.inf):
        """Polls the head until it is so (its body), or so many seconds have passed (None)."""
        begun = moved = time.monotonic()
        newest = None
        while time.monotonic() - begun < seconds:
            body = self.head()
            if body and reached(body):
                return body
            assert self.child.poll() is None, "it ended by itself: " + E["LOG"]
            if body and body["epoch"] != newest:
                newest, moved = body["epoch"], time.monotonic()
            assert time.monotonic() - moved < DEADLINE, f"no epoch after {newest}; {self.words()}"
            time.sleep(0.01)
        return None

    def words(self):
        with urllib.request.urlopen(f"http://{self.address}/progress", timeout=5) as answer:
            return json.loads(answer.read()).get("reason")

    def finish(self):
        """As a kubelet ends a pod: what is decided is applied."""
        self.child.terminate()
        assert self.child.wait(60) == 0, "it did not end well: " + E["LOG"]


def read(body):
    return sum(body["totals"]["sources"][source]["read"] for source in body["totals"]["sources"])


def state_bytes(body):
    buckets = [runs for step in body["state"].values() for runs in step["buckets"].values()]
    return sum(file["length"] for runs in buckets for run in runs for file in run["files"])


def lose(pipeline, prefix, events):
    worker, kills, lost, begun = Worker(pipeline, prefix), 0, 0, time.monotonic()
    worker.start()
    while not (body := worker.until(lambda b: read(b) >= events, DRAW.uniform(2, 5))):
        worker.kill()
        kills += 1
        worker.start()
    seconds = time.monotonic() - begun
    worker.finish()
    print(json.dumps({"events": read(body), "kills": kills, "epochs": body["epoch"], "seconds": round(seconds, 1)}))


def recover(grow, pipeline, prefix, events, kills, mib):
    grower = Worker(grow, prefix)
    grower.start()
    grower.until(lambda b: state_bytes(b) >= mib << 20)
    grower.kill()
    worker, took, states, loads = Worker(pipeline, prefix), [], [], []
    worker.start()
    worker.until(lambda b, last=worker.head()["epoch"]: b["epoch"] > last)
    for _ in range(kills):
        worker.until(lambda _: False, DRAW.uniform(0.2, 2))
        worker.kill()
        killed, body = time.monotonic(), worker.head()
        assert read(body) < events, "nothing is left to be decided: more events, or fewer kills"
        worker.start()
        worker.until(lambda b, last=body["epoch"]: b["epoch"] > last)
        took.append(time.monotonic() - killed)
        loads.append(os.getloadavg()[0] / os.cpu_count())
        states.append(state_bytes(body))
        print(f"state {states[-1] >> 20} MiB, read {read(body)}: {took[-1]:.2f} s", file=sys.stderr)
    worker.kill()
    grower.start()
    body = grower.until(lambda b: read(b) >= events)
    grower.finish()
    p50, p99 = np.percentile(took, [50, 99])
    print(json.dumps({"kills": kills, "state_mib": [min(states) >> 20, max(states) >> 20], "epochs": body["epoch"],
                      "p50_s": round(p50, 2), "p99_s": round(p99, 2), "max_s": round(max(took), 2), "load": round(float(np.mean(loads)), 1)}))  # fmt: skip


def check(prefix, figures, kind):
    with open(figures) as file:
        figures = json.load(file)
    found = positions(prefix)
    wrong = {}
    for partition, offsets in sorted(found.items()):
        offsets = np.sort(np.concatenate(offsets))
        # Every offset once, in bronze or in the dead letters, without a gap up to the last.
        doubled = int((np.diff(offsets) == 0).sum())
        lost = int(offsets[-1]) + 1 - (len(offsets) - doubled)
        if doubled or lost or offsets[0] != 0:
            wrong[f"partition {partition}"] = {"doubled": doubled, "lost": lost}
    rows, dead = len(found), sum(map(len, dead_letters(prefix).values()))
    records = sum(len(part) for offsets in found.values() for part in offsets)
    if dead != figures["malformed"]:
        wrong["dead letters"] = (dead, figures["malformed"])
    wrong.update(gold(prefix, figures[kind], kind))
    print(json.dumps({"partitions": rows, "records": records, "dead_letters": dead, "gold": len(figures[kind])}))
    if wrong:
        sys.exit(f"found and wanted differ: {json.dumps(wrong)[:4000]}")


def dead_letters(prefix):
    """Offsets by partition."""
    selector = pyarrow.fs.FileSelector(prefix + "/dead-letters", recursive=True, allow_not_found=True)
    found = collections.defaultdict(list)
    for file in STORE.get_file_info(selector):
        if file.path.endswith(".parquet") and "/_" not in file.path[len(prefix) :]:
            table = pyarrow.parquet.read_table(file.path, columns=["split", "position"], filesystem=STORE, partitioning=None)
            for split, position in zip(table["split"].to_pylist(), table["position"].to_pylist()):
                found[int(split)].append(int(position))
    return found


def positions(prefix):
    """Arrays of offsets by partition: of bronze, then of the dead letters."""
    bronze = delta_log.column(STORE, prefix + "/bronze", ["kafka_partition", "kafka_offset"])
    partition, offset = bronze["kafka_partition"].to_numpy(), bronze["kafka_offset"].to_numpy()
    found = {int(p): [offset[partition == p]] for p in np.unique(partition)}
    for p, dead in dead_letters(prefix).items():
        found.setdefault(p, []).append(np.array(dead, np.int64))
    return found


def gold(prefix, wanted, kind):
    """What is wrong with the windows: every one, every measure."""
    distinct = "unique_customers" if kind == "windows" else "unique_orders"
    names = ["window_start", "region", "product_category", "order_count", "total_revenue", "total_units_sold", distinct]
    found, doubled = {}, 0
    for row in delta_log.column(STORE, prefix + "/gold", names).to_pylist():
        key = (round(row["window_start"].timestamp()), row["region"], row["product_category"])
        doubled += key in found
        found[key] = [row[name] for name in names[3:]]
    wrong = {"gold rows of one key": doubled} if doubled else {}
    for start, region, category, orders, cents, units, customers, ids in wanted:
        row = found.pop((start, region, category), None)
        exact = [orders, units, customers if kind == "windows" else ids]
        if not row or [row[0], row[2], row[3]] != exact or abs(row[1] - cents / 100) > 1e-9 * cents / 100:
            wrong[f"gold {start} {region} {category}"] = (row, exact, cents / 100)
    if found:
        wrong["gold rows that no event gives"] = len(found)
    return wrong


def report(folder):
    loss, recovery, after = (json.loads((folder / f"{name}.json").read_text()) for name in ("loss", "recovery", "loss-check"))
    rows = [
        ("records through Kafka", f"{loss['events']:,}"),
        ("kills while they were read", f"{loss['kills']} in {loss['seconds']:.0f} s"),
        ("epochs decided", f"{loss['epochs']:,}"),
        ("records in bronze or in the dead letters", f"{after['records']:,}"),
        ("of these lost / doubled", "0 / 0"),
        ("windows compared, measures different", f"{after['gold']:,}, 0"),
        ("state while killed again, MiB", "{} to {}".format(*recovery["state_mib"])),
        ("kills there", str(recovery["kills"])),
        ("kill -9 until the next decided epoch, p50 / p99 / longest, s", f"{recovery['p50_s']:.2f} / {recovery['p99_s']:.2f} / {recovery['max_s']:.2f}"),
        ("load of the machine meanwhile, processes that want a core for each core", f"{recovery['load']:.1f}"),
    ]
    width = max(len(title) for title, _ in rows)
    print(f"| {'':{width}} | |\n|{'-' * (width + 2)}|--:|")
    for title, value in rows:
        print(f"| {title:{width}} | {value} |")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    what, *args = sys.argv[1:]
    if what == "lose":
        lose(args[0], args[1], int(args[2]))
    elif what == "recover":
        recover(*args[:3], *map(int, args[3:]))
    elif what == "check":
        check(*args)
    else:
        report(pathlib.Path(args[0]))


main()
