"""Prints the rows of the Parquet files under a prefix as JSON lines, by Arrow's C++ reader (pyarrow).

Owns: which files count (names that end in .parquet, at any depth; a path part that starts with `_` or `.` hides what
is below it, as every reader of such a folder has it) and how values look: the same as in the Delta reader's rows.
"""

import argparse
import base64
import json
import math
import os
import sys
from datetime import date, timezone
from decimal import Decimal

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq


def main(argv):
    parser = argparse.ArgumentParser(prog="parquet-dump", description="Parquet files under a prefix as JSON lines.")
    parser.add_argument("prefix", help="a directory, or s3://bucket/path with AWS_ENDPOINT, AWS_ACCESS_KEY_ID, …")
    parser.add_argument("--allow-none", action="store_true", help="it is right that there is no file yet")
    args = parser.parse_args(argv)
    filesystem, root = place(args.prefix)
    paths = visible(filesystem, root)
    if not paths and not args.allow_none:
        print(f"parquet-dump: {args.prefix}: no Parquet files (--allow-none?)", file=sys.stderr)
        return 1
    rows = 0
    for path in paths:
        rows += dump(filesystem, path, sys.stdout)
    print(f"parquet-dump: {args.prefix}: {len(paths)} files, {rows} rows", file=sys.stderr)
    return 0


def place(prefix):
    if not prefix.startswith(("s3://", "s3a://")):
        return fs.LocalFileSystem(), os.path.abspath(prefix)
    scheme, _, endpoint = os.environ["AWS_ENDPOINT"].rpartition("://")
    s3 = fs.S3FileSystem(
        endpoint_override=endpoint,
        scheme=scheme or "https",
        region=os.environ.get("AWS_REGION", "us-east-1"),
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    )
    return s3, prefix.partition("://")[2].rstrip("/")


def visible(filesystem, root):
    selector = fs.FileSelector(root, recursive=True, allow_not_found=True)
    paths = [f.path for f in filesystem.get_file_info(selector) if f.type == fs.FileType.File]
    return sorted(p for p in paths if p.endswith(".parquet") and not hidden(p[len(root) :]))


def hidden(below_root):
    return any(part.startswith(("_", ".")) for part in below_root.split("/"))


def dump(filesystem, path, out):
    rows = 0
    # One file at a time and nothing inferred from folder names: a dataset reader would unify the files' schemas.
    with filesystem.open_input_file(path) as source:
        for batch in pq.ParquetFile(source).iter_batches():
            columns = [(field.name, field.type, column) for field, column in zip(batch.schema, batch.columns)]
            for i in range(batch.num_rows):
                row = {name: value(column[i], type_) for name, type_, column in columns}
                out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n")
            rows += batch.num_rows
    return rows


def value(scalar, type_):
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if not scalar.is_valid:
        return None
    if pa.types.is_timestamp(type_):
        return timestamp(scalar, type_)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return [value(item, type_.value_type) for item in scalar.values]
    if pa.types.is_struct(type_):
        return {field.name: value(scalar[field.name], field.type) for field in type_}
    return plain(scalar.as_py())


def timestamp(scalar, type_):
    if type_.unit == "ns" and scalar.value % 1000:
        raise ValueError(f"finer than a microsecond: {scalar}")
    time = scalar.cast(pa.timestamp("us", type_.tz)).as_py()
    if type_.tz:
        time = time.astimezone(timezone.utc).replace(tzinfo=None)
    return time.isoformat(timespec="microseconds") + ("Z" if type_.tz else "")


def plain(item):
    if isinstance(item, bytes):
        return base64.b64encode(item).decode()
    if isinstance(item, date):
        return item.isoformat()
    if isinstance(item, Decimal):
        return format(item, "f")
    if isinstance(item, float) and not math.isfinite(item):
        return "NaN" if math.isnan(item) else ("Infinity" if item > 0 else "-Infinity")
    if item is None or isinstance(item, (bool, int, float, str)):
        return item
    raise ValueError(f"no JSON for {type(item).__name__}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
