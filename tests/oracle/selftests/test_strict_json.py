"""Rule 34, sample by sample."""

import unittest

import strict_json
from strict_json import Malformed, Open


def verdict(read, *args):
    try:
        return read(*args)
    except Malformed:
        return Malformed
    except Open:
        return Open


class Documents(unittest.TestCase):
    def test_one_object_and_nothing_else_is_a_document(self):
        nested = b'{"a":' * 128 + b"1" + b"}" * 128
        cases = {
            b'{"a":1}': {"a": "1"},
            b' \t\r\n{"a":"\\ud83d\\ude00"} \n': {"a": "\U0001f600"},
            b'{"a":"{[{[","b":"\\"{"}': {"a": "{[{[", "b": '"{'},
            b"": Malformed,
            b"null": Malformed,
            b"[1]": Malformed,
            b'"a"': Malformed,
            b'{"a":1}{"a":2}': Malformed,
            b'{"a":1} x': Malformed,
            b'{"a":1': Malformed,
            b'{"a":1,}': Malformed,
            b"{'a':1}": Malformed,
            b'{"a":01}': Malformed,
            b'{"a":+1}': Malformed,
            b'{"a":.5}': Malformed,
            b'{"a":NaN}': Malformed,
            b'{"a":-Infinity}': Malformed,
            b'{"a":"\n"}': Malformed,  # a bare control character
            b'{"a":"\\x"}': Malformed,
            b'{"a":"\xff"}': Malformed,  # not UTF-8
            b'\xef\xbb\xbf{"a":1}': Malformed,  # a byte order mark is no JSON
            b'{"a":"\\ud800"}': Malformed,
            b'{"a":1,"a":1}': Malformed,
            b'{"a":1,"\\u0061":1}': Malformed,  # the same name, spelled otherwise
            b'{"x":{"a":1,"a":2}}': Malformed,
            b'{"a":' + nested + b"}": Malformed,  # 129 deep
            b'{"s":"' + b"\\\"[{" * 200 + b'","a":' + b"[]" + b"}": {"s": '"[{' * 200, "a": []},
            b'{"a":"' + b"x" * (1 << 20) + b'"}': Malformed,  # over maxRecordBytes
        }
        for raw, expected in cases.items():
            with self.subTest(raw=raw[:40]):
                self.assertEqual(verdict(strict_json.document, raw), expected)
        self.assertNotEqual(verdict(strict_json.document, nested), Malformed)  # 128 deep

    def test_a_record_of_exactly_the_limit_is_accepted(self):
        raw = b'{"a":"' + b"x" * ((1 << 20) - 8) + b'"}'
        self.assertEqual(len(raw), 1 << 20)
        self.assertNotEqual(verdict(strict_json.document, raw), Malformed)


class Values(unittest.TestCase):
    def check(self, read, cases):
        for text, expected in cases.items():
            with self.subTest(text=text):
                value = strict_json.document(f'{{"a":{text}}}'.encode())["a"]
                self.assertEqual(verdict(read, value), expected)

    def test_int_takes_whole_numbers_of_32_bits(self):
        self.check(
            strict_json.as_int,
            {
                "3": 3,
                "-0": 0,
                "2147483647": 2147483647,
                "-2147483648": -2147483648,
                "2147483648": Malformed,
                "9" * 5000: Malformed,
                "1.5": Malformed,
                "1.0": Open,
                "1e2": Open,
                '"3"': Malformed,
                "true": Malformed,
                "[3]": Malformed,
            },
        )

    def test_double_takes_numbers_and_no_texts(self):
        self.check(
            strict_json.as_double,
            {
                "19.99": 19.99,
                "20": 20.0,
                "-1e-3": -0.001,
                "1e400": Malformed,
                "9" * 400: Malformed,
                '"19.99"': Malformed,
                "false": Malformed,
                "{}": Malformed,
            },
        )
        self.assertIs(type(strict_json.as_double(strict_json.Number("20"))), float)

    def test_string_takes_texts_only(self):
        self.check(strict_json.as_string, {'""': "", '"é"': "é", "1": Malformed, "true": Malformed, "[]": Malformed})

    def test_timestamp_is_rfc_3339_with_a_zone(self):
        day = 1_772_323_200_000_000  # 2026-03-01T00:00:00Z
        self.check(
            strict_json.as_timestamp,
            {
                '"2026-03-01T00:00:00Z"': day,
                '"2026-03-01t00:00:00z"': day,
                '"2026-03-01T01:30:00+01:30"': day,
                '"2026-02-28T23:00:00-01:00"': day,
                '"2026-03-01T00:00:00.25Z"': day + 250_000,
                '"2026-03-01T00:00:00.000001Z"': day + 1,
                '"2026-03-01T00:00:00.000001000Z"': day + 1,
                '"1969-12-31T23:59:59.999999Z"': -1,
                '"2026-03-01T00:00:00.0000001Z"': Open,
                '"2026-03-01 00:00:00Z"': Open,
                '"2016-12-31T23:59:60Z"': Open,
                '"2026-03-01T00:00:00"': Malformed,
                '"2026-03-01"': Malformed,
                '"2026-02-30T00:00:00Z"': Malformed,
                '"2026-03-01T24:00:00Z"': Malformed,
                '"2026-03-01T00:00:00+25:00"': Malformed,
                '"2026-03-01T00:00:00.Z"': Malformed,
                '"yesterday"': Malformed,
                '""': Malformed,
                "1772323200": Malformed,
            },
        )

    def test_times_are_written_in_microseconds(self):
        self.assertEqual(strict_json.iso(-1), "1969-12-31T23:59:59.999999Z")
        self.assertEqual(strict_json.iso(1_772_323_200_000_250), "2026-03-01T00:00:00.000250Z")
