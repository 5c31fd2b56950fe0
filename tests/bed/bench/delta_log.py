"""A small Delta reader of the benchmark's own, over pyarrow: the files of a table on S3 by replaying its log. No deletion vectors.

env: S3_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.
"""

import json
import os
import urllib.parse

import pyarrow.fs
import pyarrow.parquet


def s3():
    endpoint = urllib.parse.urlsplit(os.environ["S3_ENDPOINT"])
    return pyarrow.fs.S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"], secret_key=os.environ["AWS_SECRET_ACCESS_KEY"], region="us-east-1",
        scheme=endpoint.scheme, endpoint_override=endpoint.netloc,
    )  # fmt: skip


def actions(store, table, version):
    """The actions of one commit, or None if there is no such version yet."""
    try:
        with store.open_input_stream(f"{table}/_delta_log/{version:020}.json") as stream:
            return [json.loads(line) for line in stream.read().splitlines() if line.strip()]
    except FileNotFoundError:
        return None


def path_of(table, entry):
    return f"{table}/{urllib.parse.unquote(entry['path'])}"


def files(store, table):
    """Paths of the data files of the newest version. Reads every commit: the benchmark's logs are never cleaned up."""
    live, version = {}, 0
    while (commit := actions(store, table, version)) is not None:
        for action in commit:
            if "add" in action:
                live[action["add"]["path"]] = path_of(table, action["add"])
            elif "remove" in action:
                live.pop(action["remove"]["path"], None)
        version += 1
    return list(live.values())


def column(store, table, names):
    """All rows of the named columns, as one pyarrow table."""
    return pyarrow.concat_tables([pyarrow.parquet.read_table(file, columns=names, filesystem=store, partitioning=None) for file in files(store, table)])
