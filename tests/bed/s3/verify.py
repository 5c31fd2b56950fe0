"""Proves the running S3 server: create-only and compare-and-swap writes, one winner among racing writers.

Usage: verify.py ENDPOINT BUCKET ACCESS_KEY SECRET_KEY. Signs its own requests (AWS signature 4), so that nothing of the
engine's client is trusted. Owns the objects under `verify/` in the bucket.
"""

import datetime
import hashlib
import hmac
import http.client
import os
import sys
import threading
import time
import urllib.parse

ENDPOINT, BUCKET, ACCESS, SECRET = sys.argv[1:5]
HOST = urllib.parse.urlsplit(ENDPOINT).netloc
FAILED = False


def request(method, key, body=b"", secret=SECRET, **conditions):
    """One signed request; returns (status, etag, body)."""
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    path = f"/{BUCKET}/verify/{key}"
    digest = hashlib.sha256(body).hexdigest()
    signed = {"host": HOST, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(signed)
    canonical = "\n".join([method, path, "", *(f"{k}:{v}" for k, v in signed.items()), "", names, digest])
    scope = f"{day}/us-east-1/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    sign = ("AWS4" + secret).encode()
    for part in (day, "us-east-1", "s3", "aws4_request", text):
        sign = hmac.new(sign, part.encode(), hashlib.sha256).digest()
    headers = {k: v for k, v in signed.items() if k != "host"}
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={ACCESS}/{scope}, SignedHeaders={names}, Signature={sign.hex()}"
    headers |= {name.replace("_", "-"): value for name, value in conditions.items()}
    connection = http.client.HTTPConnection(HOST, timeout=20)
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers.get("ETag"), content


def expect(name, wanted, got):
    global FAILED
    FAILED |= wanted != got
    print(f"ok   {name}" if wanted == got else f"FAIL {name}: wanted {wanted}, got {got}")


def winners(key, **conditions):
    """How many of sixteen writers at once are told that they won. An ETag is a hash of the bytes: no two may write the same."""
    statuses = []
    bodies = [os.urandom(16) for _ in range(16)]
    writers = [threading.Thread(target=lambda b=b: statuses.append(request("PUT", key, b, **conditions)[0])) for b in bodies]
    for w in writers:
        w.start()
    for w in writers:
        w.join()
    return statuses.count(200)


def main():
    key = str(time.time_ns())
    expect("create-only write of a new key", 200, request("PUT", key, b"one", If_None_Match="*")[0])
    expect("create-only write of an existing key is refused", 412, request("PUT", key, b"two", If_None_Match="*")[0])
    _, first, body = request("GET", key)
    expect("the first write stands", b"one", body)
    expect("swap against the current version", 200, request("PUT", key, b"three", If_Match=first)[0])
    expect("swap against an old version is refused", 412, request("PUT", key, b"four", If_Match=first)[0])
    expect("swap of a missing key is refused", 404, request("PUT", key + "-none", b"four", If_Match=first)[0])
    expect("the swap stands", b"three", request("GET", key)[2])
    for n in range(20):
        expect(f"racing creators, round {n}: one winner", 1, winners(f"{key}-{n}", If_None_Match="*"))
        etag = request("GET", f"{key}-{n}")[1]
        expect(f"racing swappers, round {n}: one winner", 1, winners(f"{key}-{n}", If_Match=etag))
    expect("a wrong secret is refused", 403, request("GET", key, secret="wrong")[0])
    sys.exit(FAILED)


main()
