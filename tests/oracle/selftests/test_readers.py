"""The foreign readers on tables made here by hand: a log written as JSON text, data files by pyarrow."""

import base64
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.parse
from datetime import date, datetime, timezone
from decimal import Decimal

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq

ORACLE = pathlib.Path(__file__).resolve().parent.parent


def tool(name, *args, env=None):
    """Exit code, the JSON lines it printed, and what it said."""
    done = subprocess.run([ORACLE / name, *map(str, args)], capture_output=True, text=True, env={**os.environ, **(env or {})})
    return done.returncode, [json.loads(line) for line in done.stdout.split("\n") if line], done.stderr


def utc(*parts):
    return datetime(*parts, tzinfo=timezone.utc)


class HandMadeTable:
    """A Delta table, partitioned by day and tag, whose log and files are written here."""
    ARROW = pa.schema(
        [("id", pa.int64()), ("at", pa.timestamp("us", tz="UTC")), ("price", pa.float64()), ("amount", pa.decimal128(10, 2)), ("raw", pa.binary())]
    )

    def __init__(self, root):
        self.root, self.version = pathlib.Path(root), 0
        (self.root / "_delta_log").mkdir(parents=True)
        columns = [("id", "long"), ("at", "timestamp"), ("price", "double"), ("amount", "decimal(10,2)"), ("raw", "binary"), ("day", "date"), ("tag", "string")]
        fields = [{"name": n, "type": t, "nullable": n != "id", "metadata": {}} for n, t in columns]
        self.commit(
            {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
            {
                "metaData": {
                    "id": "3f7c2a52-0000-4000-8000-000000000000",
                    "format": {"provider": "parquet", "options": {}},
                    "schemaString": json.dumps({"type": "struct", "fields": fields}),
                    "partitionColumns": ["day", "tag"],
                    "configuration": {},
                    "createdTime": 0,
                }
            },
        )

    def commit(self, *actions, operation="WRITE"):
        info = {"commitInfo": {"timestamp": self.version, "operation": operation}}
        text = "".join(json.dumps(action) + "\n" for action in [info, *actions])
        (self.root / "_delta_log" / f"{self.version:020}.json").write_text(text)
        self.version += 1

    def add(self, name, day, tag, rows):
        """Writes a data file; the answer is its action. Names with a percent sign or a blank are escaped in the log only."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=self.ARROW), path, compression="zstd")
        values = {"day": day, "tag": tag}
        return {"add": {"path": urllib.parse.quote(name), "partitionValues": values, "size": path.stat().st_size, "modificationTime": 0, "dataChange": True}}


def table(root):
    """Version 1: two rows. 2: one file more, with nulls. 3: the first file rewritten, one of its rows changed."""
    made = HandMadeTable(root)
    one = {"id": 1, "at": utc(2026, 3, 1, 12, 0, 0, 250), "price": 0.1, "amount": Decimal("12.50"), "raw": b"\x00\xff"}
    two = {"id": 2, "at": utc(1969, 12, 31, 23, 59, 59, 999999), "price": 1e300, "amount": Decimal("-0.01"), "raw": b""}
    first = made.add("day=2026-03-01/part-0.parquet", "2026-03-01", "a", [one, two])
    made.commit(first, {"txn": {"appId": "evp-1", "version": 7, "lastUpdated": 0}})
    nulls = made.add("day=null/50% of it.parquet", None, "ü %25", [{"id": 3, "price": float("nan")}])
    made.commit(nulls, {"txn": {"appId": "evp-1", "version": 9}}, {"txn": {"appId": "other", "version": 2**60}})
    changed = made.add("day=2026-03-01/part-1.parquet", "2026-03-01", "a", [one, {**two, "price": 2.0}])
    remove = {"remove": {"path": first["add"]["path"], "deletionTimestamp": 0, "dataChange": True}}
    made.commit(remove, changed, operation="MERGE")
    return made


ONE = {"id": 1, "at": "2026-03-01T12:00:00.000250Z", "price": 0.1, "amount": "12.50", "raw": "AP8=", "day": "2026-03-01", "tag": "a"}
TWO = {"id": 2, "at": "1969-12-31T23:59:59.999999Z", "price": 1e300, "amount": "-0.01", "raw": "", "day": "2026-03-01", "tag": "a"}
THREE = {"id": 3, "at": None, "price": "NaN", "amount": None, "raw": None, "day": None, "tag": "ü %25"}


def by_id(rows):
    return sorted(rows, key=lambda row: row["id"])


class Delta(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.root = pathlib.Path(cls.folder.name) / "a table"
        table(cls.root)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_the_newest_version_is_what_the_log_says(self):
        code, rows, said = tool("delta-dump", self.root)
        self.assertEqual((code, by_id(rows)), (0, [ONE, {**TWO, "price": 2.0}, THREE]), said)
        self.assertIn("version 3: 3 rows", said)

    def test_an_older_version_can_be_read(self):
        self.assertEqual(by_id(tool("delta-dump", self.root, "--version", 1)[1]), [ONE, TWO])
        self.assertEqual(tool("delta-dump", self.root, "--version", 0)[:2], (0, []))

    def test_every_version_can_be_read_in_one_go(self):
        with tempfile.TemporaryDirectory() as out:
            self.assertEqual(tool("delta-dump", self.root, "--versions", "1-2", "--out", out)[0], 0)
            self.assertEqual(sorted(os.listdir(out)), ["1.jsonl", "2.jsonl"])
            tool("delta-dump", self.root, "--versions", "all", "--out", out)
            rows = {p.stem: [json.loads(line) for line in p.read_text().splitlines()] for p in pathlib.Path(out).iterdir()}
        self.assertEqual({v: len(r) for v, r in rows.items()}, {"0": 0, "1": 2, "2": 3, "3": 3})
        self.assertEqual(by_id(rows["2"]), [ONE, TWO, THREE])

    def test_the_history_names_the_txn_actions(self):
        code, commits, said = tool("delta-dump", self.root, "--history")
        self.assertEqual(code, 0, said)
        none = {"txn": [], "adds": 0, "removes": 0, "cdc": 0, "metadata": False, "operation": "WRITE"}
        two = [{"appId": "evp-1", "version": 9}, {"appId": "other", "version": 2**60}]
        self.assertEqual(
            commits,
            [
                {**none, "version": 0, "metadata": True},
                {**none, "version": 1, "adds": 1, "txn": [{"appId": "evp-1", "version": 7}]},
                {**none, "version": 2, "adds": 1, "txn": two},
                {**none, "version": 3, "adds": 1, "removes": 1, "operation": "MERGE"},
            ],
        )

    def test_the_schema_can_be_read(self):
        _, (schema,), _ = tool("delta-dump", self.root, "--schema")
        self.assertEqual((schema["version"], schema["partition_columns"]), (3, ["day", "tag"]))
        self.assertEqual([c["type"] for c in schema["columns"]], ["long", "timestamp", "double", "Decimal(10, 2)", "binary", "date", "string"])
        self.assertEqual([c["nullable"] for c in schema["columns"]], [False] + [True] * 6)

    def test_what_cannot_be_read_is_an_error(self):
        for args, code, why in (
            ((self.root / "nothing",), 1, "not found"),
            ((self.root, "--version", 9), 1, "9"),
            ((self.root / "nothing", "--history"), 1, "no Delta table"),
            ((self.root, "--versoin", 1), 2, "what is --versoin?"),
        ):
            with self.subTest(args=args):
                got, rows, said = tool("delta-dump", *args)
                self.assertEqual((got, rows), (code, []))
                self.assertIn(why, said)

    def test_a_missing_data_file_is_an_error_and_not_fewer_rows(self):
        with tempfile.TemporaryDirectory() as folder:
            made = HandMadeTable(pathlib.Path(folder) / "t")
            made.commit(made.add("x.parquet", "2026-03-01", "a", [{"id": 1}]))
            (made.root / "x.parquet").unlink()
            code, rows, said = tool("delta-dump", made.root)
            self.assertEqual((code, rows), (1, []))
            self.assertIn("x.parquet", said)


def dead_letter_files(filesystem, root):
    """Three rows in two files, beside files that no reader may count."""
    rows = pa.table(
        {
            "split": ["0", "1"],
            "position": pa.array([5, 6], pa.int64()),
            "raw": pa.array([b"\xff{", None], pa.binary()),
            "code": pa.array(["Malformed", "Malformed"]).dictionary_encode(),
            "time": pa.array([0, None], pa.timestamp("us", tz="UTC")),
            "local": pa.array([1_000_000, None], pa.timestamp("ms")),
            "day": pa.array([date(2026, 3, 1), None]),
            "amount": pa.array([Decimal("1.50"), None], pa.decimal128(5, 2)),
            "list": [[1, 2], None],
        }
    )
    hidden = ("_staging/x.parquet", "_commits/0.json", ".tmp.parquet", "sub/_x.parquet", "notes.txt")
    for name, content in {"a.parquet": rows, "sub/b.parquet": rows.slice(1), **dict.fromkeys(hidden, rows)}.items():
        filesystem.create_dir(f"{root}/{os.path.dirname(name)}".rstrip("/"), recursive=True)
        with filesystem.open_output_stream(f"{root}/{name}") as sink:
            pq.write_table(content, sink)


FIRST = {
    "split": "0",
    "position": 5,
    "raw": base64.b64encode(b"\xff{").decode(),
    "code": "Malformed",
    "time": "1970-01-01T00:00:00.000000Z",
    "local": "1970-01-01T00:16:40.000000",
    "day": "2026-03-01",
    "amount": "1.50",
    "list": [1, 2],
}
SECOND = {**dict.fromkeys(FIRST), "split": "1", "position": 6, "code": "Malformed"}


class Parquet(unittest.TestCase):
    def test_all_files_below_the_prefix_count_but_hidden_ones(self):
        with tempfile.TemporaryDirectory() as folder:
            dead_letter_files(fs.LocalFileSystem(), f"{folder}/_dead_letters/orders")  # the prefix itself may start with _
            code, rows, said = tool("parquet-dump", f"{folder}/_dead_letters/orders")
            self.assertEqual((code, rows), (0, [FIRST, SECOND, SECOND]), said)
            self.assertIn("2 files, 3 rows", said)

    def test_no_file_at_all_is_an_error_unless_allowed(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(tool("parquet-dump", f"{folder}/none")[0], 1)
            self.assertEqual(tool("parquet-dump", f"{folder}/none", "--allow-none")[:2], (0, []))


class S3(unittest.TestCase):
    """The same through the S3 server of the bed, which checks every signature."""

    @classmethod
    def setUpClass(cls):
        server = os.environ.get("ORACLE_S3_SERVER", "")
        if not os.access(server, os.X_OK):
            raise unittest.SkipTest("the S3 server is not built: tests/bed/build.sh s3")
        cls.stack = contextlib.ExitStack()
        cls.addClassCleanup(cls.stack.close)
        # In memory where there is a place for it: the server syncs every object, and a busy disk takes long to forget them.
        folder = cls.stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        address, console = free_addresses(2)
        cls.env = {"AWS_ENDPOINT": f"http://{address}", "AWS_ACCESS_KEY_ID": "oracle", "AWS_SECRET_ACCESS_KEY": "oracle/secret+"}
        cls.s3 = fs.S3FileSystem(
            endpoint_override=address, scheme="http", access_key="oracle", secret_key="oracle/secret+", region="us-east-1", allow_bucket_creation=True
        )
        quiet = {"MINIO_ROOT_USER": "oracle", "MINIO_ROOT_PASSWORD": "oracle/secret+", "MINIO_UPDATE": "off", "MINIO_CALLHOME_ENABLE": "off", "MINIO_BROWSER": "off"}
        process = subprocess.Popen(
            [server, "server", "--quiet", "--address", address, "--console-address", console, f"{folder}/data"],
            env={**os.environ, **quiet},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        cls.stack.callback(process.wait)
        cls.stack.callback(process.kill)
        until = time.monotonic() + 20
        while True:
            try:
                cls.s3.create_dir("lake")
                return
            except OSError:
                if time.monotonic() > until or process.poll() is not None:
                    raise
                time.sleep(0.05)

    def test_a_delta_table_reads_as_from_a_directory(self):
        with tempfile.TemporaryDirectory() as folder:
            table(pathlib.Path(folder) / "t")
            fs.copy_files(f"{folder}/t", "lake/a table/ü", destination_filesystem=self.s3)
        for scheme in ("s3", "s3a"):
            code, rows, said = tool("delta-dump", f"{scheme}://lake/a table/ü/", env=self.env)
            self.assertEqual((code, by_id(rows)), (0, [ONE, {**TWO, "price": 2.0}, THREE]), said)
        self.assertEqual(by_id(tool("delta-dump", "s3://lake/a table/ü", "--version", 2, env=self.env)[1]), [ONE, TWO, THREE])
        self.assertEqual(len(tool("delta-dump", "s3://lake/a table/ü", "--history", env=self.env)[1]), 4)

    def test_a_log_longer_than_a_page_of_a_listing_is_read_to_its_end(self):
        with tempfile.TemporaryDirectory() as folder:
            made = HandMadeTable(pathlib.Path(folder) / "t")
            for n in range(1005):  # a page has 1000 names; what is no commit sorts between the first and the second
                (made.root / "_delta_log" / f"{0:020}.{n:04}.other").touch()
            made.commit(made.add("x.parquet", "2026-03-01", "a", [{"id": 1}]))
            fs.copy_files(f"{folder}/t", "lake/long", destination_filesystem=self.s3)
        self.assertEqual([c["version"] for c in tool("delta-dump", "s3://lake/long", "--history", env=self.env)[1]], [0, 1])
        self.assertEqual([r["id"] for r in tool("delta-dump", "s3://lake/long", env=self.env)[1]], [1])

    def test_a_wrong_secret_or_bucket_is_an_error(self):
        for uri, env, why in (
            ("s3://lake/t", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "403"),
            ("s3://nowhere/t", {}, "NoSuchBucket"),
            ("s3://lake/t", {"AWS_ENDPOINT": ""}, "AWS_ENDPOINT"),
        ):
            code, rows, said = tool("delta-dump", uri, env={**self.env, **env})
            self.assertNotEqual(code, 0)
            self.assertIn(why, said)

    def test_parquet_files_read_as_from_a_directory(self):
        dead_letter_files(self.s3, "lake/_dead_letters/orders")
        code, rows, said = tool("parquet-dump", "s3://lake/_dead_letters/orders/", env=self.env)
        self.assertEqual((code, rows), (0, [FIRST, SECOND, SECOND]), said)
        self.assertEqual(tool("parquet-dump", "s3://lake/none", "--allow-none", env=self.env)[:2], (0, []))


def free_addresses(count):
    held = [socket.socket() for _ in range(count)]
    for s in held:
        s.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in held]
    for s in held:
        s.close()
    return addresses
