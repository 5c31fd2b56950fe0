#!/bin/bash
# Proves the running PostgreSQL server with its own client: password and TLS are needed and verified, what is committed outlives a
# kill -9, and nulls can be equal in a unique index. Owns the table `verify`.
. "$(dirname "$0")/../lib.sh"
# shellcheck source=/dev/null
. "$RUN/postgres/settings"
export PGCONNECT_TIMEOUT=5 PGPASSWORD=evp-secret
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
ask() { # ask SSLMODE CA SQL
  "$POSTGRES_BIN/psql" -X -At -v ON_ERROR_STOP=1 "host=$POSTGRES_HOST port=$POSTGRES_PORT user=evp dbname=evp sslmode=$1 sslrootcert=$2" -c "$3" 2> "$T/stderr"
}
sql() { ask verify-full "$RUN/ca/ca.crt" "$1"; }
refused() { # refused WORD COMMAND…
  local word=$1
  shift
  ! "$@" > /dev/null && grep -q "$word" "$T/stderr"
}
encrypted() { [ "$(sql "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")" = t ]; }
password() { ask disable x "SELECT 1" > "$T/out"; }
guess() { PGPASSWORD=guess ask disable x "SELECT 1"; }
stranger() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=stranger -days 1 -out "$T/ca.crt" 2> /dev/null
  ask verify-full "$T/ca.crt" "SELECT 1"
}
survives() {
  sql "DROP TABLE IF EXISTS verify; CREATE TABLE verify (i int); INSERT INTO verify SELECT generate_series(1, 1000)" > /dev/null
  bash "$BED/postgres/postgres.sh" kill 2> "$T/stderr" && bash "$BED/postgres/postgres.sh" start 2> "$T/stderr" || return 1
  [ "$(sql "SELECT count(*) FROM verify")" = 1000 ]
}
equal_nulls() {
  sql "DROP TABLE verify; CREATE TABLE verify (i int); CREATE UNIQUE INDEX ON verify (i) NULLS NOT DISTINCT; INSERT INTO verify VALUES (NULL)" > /dev/null
  refused "duplicate key" sql "INSERT INTO verify VALUES (NULL)" && sql "DROP TABLE verify" > /dev/null
}
FAILED=0
step() {
  local s name=$1
  s=$(now_ms)
  shift
  if "$@"; then printf 'ok   %6d ms  %s\n' $(($(now_ms) - s)) "$name"; else
    printf 'FAIL %6d ms  %s | %s\n' $(($(now_ms) - s)) "$name" "$(tail -n 3 "$T/stderr")"
    FAILED=1
  fi
}
step "TLS, the certificate verified $POSTGRES_HOST:$POSTGRES_PORT" encrypted
step "a password without TLS" password
step "a wrong password is refused" refused "password authentication failed" guess
step "a client without the authority refuses the server" refused "certificate verify failed" stranger
step "what is committed outlives kill -9" survives
step "nulls are equal in a unique index" equal_nulls
exit $FAILED
