# shellcheck shell=bash
# shellcheck disable=SC2034,SC2317 # functions are called by name
# The shop pipeline over N rows (1,000,000) in F CSV files (200) of a bucket, bad ones and repeated ones among them, into a PostgreSQL
# table that it creates; then psql's COPY of the very rows that are in that table into one made like it, by the same role and over the
# same TLS. Table and dead letters are held against an evaluation of the files.
ROWS=1000000 FILES=200 LIMIT_MIB=1024
ORACLE=$BENCH/../../oracle

parse() {
  while [ $# -gt 0 ]; do
    case $1 in
      --rows) ROWS=${2:?}; shift ;;
      --files) FILES=${2:?}; shift ;;
      *) usage ;;
    esac
    shift
  done
}

produce() { # produce TO FLAG…
  "$WORKER" produce shop --limit "$ROWS" --file-rows $((ROWS / FILES)) --rate 1000 --seed 5 --start 2026-01-01T00:00:00Z \
    --malformed 0.01 --duplicates 0.01 --to "$@" 2> "$WORK/produce.log" || { cat "$WORK/produce.log" >&2; exit 1; }
}
sql() { "$EVP_BED_POSTGRES_BIN/psql" -X -q -At -v ON_ERROR_STOP=1 "$DATABASE" -c "$1"; }

# Rows as foreign readers tell them: decimals as text, times to the microsecond.
TOLD="SELECT to_jsonb(t) || jsonb_build_object('price', price::text, 'timestamp', to_char(\"timestamp\" AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')) FROM user_events t"
checked() {
  "$ORACLE/evaluate_shop.py" "$WORK/raw" --ledger "$WORK/ledger.jsonl" --out "$WORK/expected" >&2
  sql "$TOLD" > "$WORK/user_events.jsonl"
  "$ORACLE/compare.py" --table user_events "$WORK/expected/user_events.jsonl" "$WORK/user_events.jsonl" >&2 || FAILED=1
  AWS_ENDPOINT=$S3_ENDPOINT "$ORACLE/parquet-dump" "s3://$PREFIX/error" | "$PYTHON" "$BENCH/shop.py" refused > "$WORK/refused.jsonl"
  "$ORACLE/compare.py" --table refused "$WORK/expected/refused.jsonl" "$WORK/refused.jsonl" >&2 || FAILED=1
}

# One transaction, as psql does it; the table has the same columns, indexes and key.
copied() {
  "$EVP_BED_POSTGRES_BIN/psql" -X -q "$DATABASE" -c "\\copy user_events to '$WORK/rows.csv' csv"
  sql "CREATE TABLE copied (LIKE user_events INCLUDING ALL)"
  measured copy - "$EVP_BED_POSTGRES_BIN/psql" -X -q -v ON_ERROR_STOP=1 "$DATABASE" -c "\\copy copied from '$WORK/rows.csv' csv"
  ended copy || true
}

main() {
  parse "$@"
  bring_up s3 python postgres
  export PREFIX=$EVP_BED_S3_BUCKET/bench-shop PGPASSWORD=$EVP_BED_POSTGRES_PASSWORD
  DATABASE="host=$EVP_BED_POSTGRES_HOST port=$EVP_BED_POSTGRES_PORT user=evp dbname=evp sslmode=verify-full sslrootcert=$EVP_BED_POSTGRES_CA"
  mkdir -p "$SECRETS/postgres"
  printf %s "$PGPASSWORD" > "$SECRETS/postgres/password"
  cp "$EVP_BED_POSTGRES_CA" "$SECRETS/postgres/ca.crt"
  sed -e "s|@PREFIX@|$PREFIX|; s|@S3_ENDPOINT@|$S3_ENDPOINT|; s|@HOST@|$EVP_BED_POSTGRES_HOST|; s|@PORT@|$EVP_BED_POSTGRES_PORT|" \
    "$BENCH/shop.yaml" > "$WORK/ours.yaml"
  say "$ROWS rows in $FILES files"
  produce "dir:$WORK/raw" --ledger "$WORK/ledger.jsonl"
  produce "s3://$PREFIX/raw" --endpoint "$S3_ENDPOINT" --region us-east-1
  say "the pipeline"
  measured_worker ours "$LIMIT_MIB" --remote --until-end --secrets "$SECRETS"
  ended ours || exit 1
  say "held against an evaluation of the files"
  checked
  say "psql's COPY of the same rows"
  copied
  say "results"
  "$PYTHON" "$BENCH/shop.py" report "$WORK" "$ROWS" "$(wc -l < "$WORK/rows.csv")" "$(wc -l < "$WORK/refused.jsonl")"
}
