#!/bin/bash
# postgres.sh start|kill|down: one PostgreSQL server (Debian's package), bound to POSTGRES_HOST (default: the host as pods see it, if
# the cluster is up, else 127.0.0.1) on a free port, with and without TLS, its certificate from the bed's own authority.
# Owns the server process, $RUN/postgres and $POSTGRES_DATA. `kill` is a crash (-9); a `start` after it goes on with the same data and
# port. Role evp/evp-secret (SCRAM-SHA-256) owns database evp and may create roles and databases.
# The server refuses to run as root: then it is user postgres, who cannot look below root's home.
. "$(dirname "$0")/../lib.sh"
D=$RUN/postgres
PID=$D/postgres.pid

AS_SERVER=()
[ "$(id -u)" != 0 ] || AS_SERVER=(setpriv --reuid=postgres --regid=postgres --clear-groups --)

childless() { ! find /proc/[0-9]*/cwd -maxdepth 0 -lname "$POSTGRES_DATA/db" 2> /dev/null | grep -q .; }

configure() {
  local host=${POSTGRES_HOST:-$(host_ip)} port
  port=$(free_ports "$host" 1)
  rm -rf "$POSTGRES_DATA"
  mkdir -p "$D"
  mkdir -m 700 "$POSTGRES_DATA"
  bash "$BED/ca.sh" "$D/tls" postgres "$host"
  cp "$D/tls/postgres.key" "$D/tls/postgres.crt" "$POSTGRES_DATA"
  echo admin-secret > "$POSTGRES_DATA/admin" # nobody uses it: the bed itself comes by the socket
  chmod 600 "$POSTGRES_DATA/postgres.key"
  if [ "$(id -u)" = 0 ]; then chown -R postgres: "$POSTGRES_DATA"; fi
  (cd / && "${AS_SERVER[@]}" "$POSTGRES_BIN/initdb" -D "$POSTGRES_DATA/db" --no-sync -A scram-sha-256 --pwfile="$POSTGRES_DATA/admin" -U admin \
    -E UTF8 --locale=C) > "$D/initdb.log" 2>&1 || { cat "$D/initdb.log" >&2; return 1; }
  # Socket clients are the bed itself.
  printf '%s\n' "local all admin trust" "hostssl all all all scram-sha-256" "hostnossl all all all scram-sha-256" |
    "${AS_SERVER[@]}" tee "$POSTGRES_DATA/db/pg_hba.conf" > /dev/null
  printf '%s\n' "POSTGRES_HOST=$host" "POSTGRES_PORT=$port" > "$D/settings"
}

case ${1:?} in
  start)
    [ -x "$POSTGRES_BIN/postgres" ] || die "PostgreSQL is not there: apt-get install postgresql"
    ! alive "$PID" || die "already up: $D"
    [ -f "$D/settings" ] || configure
    # shellcheck source=/dev/null
    . "$D/settings"
    # A server that was killed left locks that name its process, which may be a zombie still; its children end by themselves.
    wait_for 10 "end of the server's children" childless
    rm -f "$POSTGRES_DATA/db/postmaster.pid" "$POSTGRES_DATA"/.s.PGSQL.*
    cd /
    # Crash tests want what is committed to be on disk.
    start "$PID" "$D/postgres.log" "${AS_SERVER[@]}" "$POSTGRES_BIN/postgres" -D "$POSTGRES_DATA/db" -p "$POSTGRES_PORT" -k "$POSTGRES_DATA" \
      -c "listen_addresses=$POSTGRES_HOST" -c fsync=on -c shared_buffers=64MB -c max_connections=200 -c dynamic_shared_memory_type=mmap \
      -c ssl=on -c "ssl_cert_file=$POSTGRES_DATA/postgres.crt" -c "ssl_key_file=$POSTGRES_DATA/postgres.key"
    ask() { "${AS_SERVER[@]}" "$POSTGRES_BIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$POSTGRES_DATA" -p "$POSTGRES_PORT" -U admin -d postgres "$@"; }
    if ! { wait_for 30 "PostgreSQL" ask -c "SELECT 1" && alive "$PID"; }; then
      tail -n 20 "$D/postgres.log" >&2
      stop "$PID" KILL
      die "PostgreSQL did not start"
    fi
    if [ -z "$(ask -At -c "SELECT 1 FROM pg_database WHERE datname = 'evp'")" ]; then
      ask -c "CREATE ROLE evp LOGIN CREATEROLE CREATEDB PASSWORD 'evp-secret'"
      ask -c "CREATE DATABASE evp OWNER evp"
    fi
    say "postgres ready" ;;
  kill) stop "$PID" KILL ;;
  down)
    stop "$PID" QUIT # at once, but its shared memory goes with it
    if [ -f "$POSTGRES_DATA/db/postmaster.pid" ]; then # it was killed
      awk 'NR == 7 { print $2 }' "$POSTGRES_DATA/db/postmaster.pid" | xargs -r ipcrm -m 2> /dev/null || true
    fi
    rm -rf "$D" "$POSTGRES_DATA" ;;
  *) die "usage: postgres.sh start|kill|down" ;;
esac
