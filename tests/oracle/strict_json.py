"""Strict JSON, read from the text of semantics rule 34 alone: one document per record, or a reason why not.

Owns the verdict on a record's bytes and on each field's value. Knows nothing of windows, offsets or files.
Three outcomes: a value; `Malformed` (the record is a dead letter); `Open` (the rules do not decide this
input, so neither does an oracle: the ledger is refused and a person looks).
"""

import json
import math
import re
from datetime import datetime, timedelta, timezone

MAX_BYTES = 1 << 20  # schema.maxRecordBytes: 1Mi
MAX_DEPTH = 128
MICROS = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Malformed(Exception):
    """The record is a dead letter."""


class Open(Exception):
    """The rules leave the verdict on this input open."""


class Number(str):
    """A number as it was spelled: whether 1.5 or 1e400 is an error depends on the field that holds it."""


def document(raw):
    """The one object that `raw` holds, with numbers as `Number`; unknown fields are still in it."""
    if len(raw) > MAX_BYTES:
        raise Malformed("record is larger than maxRecordBytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as e:
        raise Malformed("not UTF-8") from e
    if too_deep(text):
        raise Malformed("nested too deeply")
    try:
        value = json.loads(
            text, object_pairs_hook=distinct, parse_int=Number, parse_float=Number, parse_constant=refuse_constant
        )
    except ValueError as e:  # JSONDecodeError is one
        raise Malformed(f"not one JSON document: {e}") from e
    if not isinstance(value, dict):
        raise Malformed("not an object")
    require_text(value)
    return value


def too_deep(text):
    """Whether brackets outside strings nest deeper than allowed; of a text that is no JSON it may say anything."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False  # nearly every record: spares the scan
    level = 0
    in_string = escaped = False
    for c in text:
        if in_string:
            if escaped:
                escaped = False
            elif c == "\\":
                escaped = True
            elif c == '"':
                in_string = False
        elif c == '"':
            in_string = True
        elif c in "[{":
            level += 1
            if level > MAX_DEPTH:
                return True
        elif c in "]}":
            level -= 1
    return False


def distinct(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("an object names a key twice")
    return members


def refuse_constant(name):
    raise Malformed(f"{name} is not JSON")


def require_text(value):
    """Escapes can spell half a surrogate pair, which no UTF-8 string can hold."""
    if isinstance(value, Number):
        return
    if isinstance(value, str):
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise Malformed("a string holds an unpaired surrogate")
    elif isinstance(value, dict):
        for name, member in value.items():
            require_text(name)
            require_text(member)
    elif isinstance(value, list):
        for item in value:
            require_text(item)


def as_string(value):
    if isinstance(value, Number) or not isinstance(value, str):
        raise Malformed("not a string")
    return value


def as_int(value):
    if not isinstance(value, Number):
        raise Malformed("not a number")
    if re.fullmatch(r"-?[0-9]+", value):
        digits = value.lstrip("-0") or "0"
        if len(digits) > 10:
            raise Malformed("does not fit into int")
        number = -int(digits) if value.startswith("-") else int(digits)
        if not -(2**31) <= number < 2**31:
            raise Malformed("does not fit into int")
        return number
    real = as_double(value)
    if real != math.floor(real):
        raise Malformed("not a whole number")
    raise Open(f"{value} is whole, but not spelled as an integer")


def as_double(value):
    if not isinstance(value, Number):
        raise Malformed("not a number")
    real = float(value)  # correctly rounded from the decimal text
    if math.isinf(real):
        raise Malformed("does not fit into double")
    return real


RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)


def as_timestamp(value):
    """Microseconds since 1970 in UTC. A number is refused: the schema declares no unit (rule 1)."""
    text = as_string(value)
    m = RFC3339.fullmatch(text)
    if not m:
        if RFC3339.fullmatch(text.strip().replace(" ", "T", 1)):
            raise Open(f"RFC 3339 only tolerates the blank in {text!r}")
        raise Malformed("not an RFC 3339 timestamp with a zone")
    year, month, day, hour, minute, second = (int(g) for g in m.groups()[:6])
    if second == 60 or year == 0:
        raise Open(f"leap seconds and the year 0 are not ruled on: {text!r}")
    fraction = (m[7] or "").rstrip("0")
    if len(fraction) > 6:
        raise Open(f"finer than a microsecond: {text!r}")
    zone = timedelta()
    if m[9]:
        if int(m[10]) > 23 or int(m[11]) > 59:
            raise Malformed("no such zone")
        zone = timedelta(hours=int(m[10]), minutes=int(m[11])) * (-1 if m[9] == "-" else 1)
    try:
        local = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError as e:
        raise Malformed(f"no such time: {e}") from e
    return (local - EPOCH - zone) // timedelta(microseconds=1) + int(fraction.ljust(6, "0"))


def iso(micros):
    """2026-11-20T12:00:31.000250Z"""
    seconds, rest = divmod(micros, MICROS)
    return (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:06d}Z"
