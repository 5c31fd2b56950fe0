# shellcheck shell=bash disable=SC2034
# Sourced by every script of the bed: where things live, and how processes are started, awaited and ended.
# Owns the layout of the cache and of one bed's run folder; starts nothing by itself.
#
# EVP_BED_INDEX (0..49, default 0) names a bed: several run side by side on one machine, each with a run folder,
# an address range (10.99.N.0/30), a veth and a cgroup of its own.
set -euo pipefail
BED=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${XDG_CACHE_HOME:-${HOME:?}/.cache}/evp-bed # built parts, kept between runs
INDEX=${EVP_BED_INDEX:-0}
RUN=$CACHE/run/$INDEX       # everything of one bed; `bed down` removes it
HOST_IF=evph$INDEX          # veth end in the host's network namespace
HOST_IP=10.99.$INDEX.1      # the host as pods see it; exists while the cluster is up

case $INDEX in [0-9] | [1-4][0-9]) ;; *) echo "EVP_BED_INDEX must be 0..49, not '$INDEX'" >&2; exit 2 ;; esac
# Unix sockets live below $RUN and their whole path must stay under 108 bytes.
[ ${#RUN} -le 75 ] || { echo "path too long for unix sockets, set XDG_CACHE_HOME to a shorter one: $RUN" >&2; exit 2; }

# One folder per built part, named by what it is built from: a changed pin builds anew and disturbs no running bed.
part_dir() { # part_dir NAME FILE…
  local name=$1
  shift
  echo "$CACHE/$name-$(cat "$@" | sha256sum | cut -c1-12)"
}
KUBE_BIN=$(part_dir kube "$BED"/kube/{go.mod,go.sum,helm/go.mod,coredns/go.mod,coredns/main.go} "$BED"/img/pause.c)
S3_BIN=$(part_dir s3 "$BED"/s3/go.mod)
KAFKA_LIBS=$(part_dir kafka "$BED"/kafka/pom.xml)
VENV=$(part_dir python "$BED"/python/requirements.txt)
BENCH_VENV=$(part_dir bench "$BED"/bench/requirements.txt)
SPARK_JARS=$(part_dir spark "$BED"/bench/spark-pom.xml)
# Debian's newest; its data is outside of $RUN where root starts it, for the server's user cannot look below root's home.
POSTGRES_BIN=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2> /dev/null | sort -V | tail -n1)
POSTGRES_DATA=$RUN/postgres/data
[ "$(id -u)" != 0 ] || POSTGRES_DATA=/tmp/evp-bed-postgres-$INDEX
CARGO_DENY_VERSION=0.20.2
DENY_BIN=$CACHE/cargo-deny-$CARGO_DENY_VERSION

now_ms() { date +%s%3N; }
T0=$(now_ms)
say() { printf '[%6d ms] %s\n' "$(($(now_ms) - T0))" "$*" >&2; }
die() {
  echo "$*" >&2
  exit 1
}

wait_for() { # wait_for SECONDS WHAT COMMAND…: polls until the command succeeds
  local limit=$(($(now_ms) + $1 * 1000)) what=$2
  shift 2
  until "$@" > /dev/null 2>&1; do
    [ "$(now_ms)" -le "$limit" ] || { echo "timed out: $what" >&2; return 1; }
    sleep 0.1
  done
}

# A pid alone may be a stranger's by tomorrow: beside PIDFILE (the pid, nothing else) lies PIDFILE.start, its start time.
start_time() { cut -d' ' -f22 "/proc/$1/stat" 2> /dev/null; }
start() { # start PIDFILE LOG COMMAND…: in a session of its own
  local pidfile=$1 log=$2 pid
  shift 2
  setsid "$@" >> "$log" 2>&1 < /dev/null &
  pid=$!
  start_time "$pid" > "$pidfile.start"
  echo "$pid" > "$pidfile"
}
alive() { # alive PIDFILE: the very process that was started, and no zombie
  local pid
  pid=$(cat "$1" 2> /dev/null) || return 1
  [ "$(start_time "$pid")" = "$(cat "$1.start" 2> /dev/null)" ] || return 1
  grep -qs '^State:[[:space:]]*[^Z[:space:]]' "/proc/$pid/status"
}
gone() { ! alive "$1"; }
stop() { # stop PIDFILE [SIGNAL]: ends it, after ten seconds with KILL, and forgets it
  local pidfile=$1
  if alive "$pidfile"; then
    kill "-${2:-TERM}" "$(cat "$pidfile")" 2> /dev/null || true
    wait_for 10 "end of $(cat "$pidfile")" gone "$pidfile" || kill -KILL "$(cat "$pidfile")" 2> /dev/null || true
    wait_for 5 "end of $(cat "$pidfile") by KILL" gone "$pidfile"
  fi
  rm -f "$pidfile" "$pidfile.start"
}

free_ports() { # free_ports ADDRESS COUNT: all taken at once, so that they differ
  python3 - "$@" << 'P'
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[2]))]
for s in held:
    s.bind((sys.argv[1], 0))
print(*[s.getsockname()[1] for s in held])
P
}

# Pods reach the host by the veth's address; without a cluster everything stays on loopback.
host_ip() { if ip -4 -o addr show dev "$HOST_IF" 2> /dev/null | grep -qF " $HOST_IP/"; then echo "$HOST_IP"; else echo 127.0.0.1; fi; }
