#!/bin/bash
# Proves the running S3 server (what exactly: verify.py). Owns nothing.
. "$(dirname "$0")/../lib.sh"
# shellcheck source=/dev/null
. "$RUN/s3/settings"
python3 "$BED/s3/verify.py" "$S3_ENDPOINT" "$S3_BUCKET" "$S3_ACCESS_KEY" "$S3_SECRET_KEY"
