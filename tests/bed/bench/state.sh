# shellcheck shell=bash
# shellcheck disable=SC2034,SC2317 # functions are called by name
# What state costs: N keys (10,000,000) that a dedupe remembers, and N open groups (1,000,000) of a window. The worker runs with a limit
# that its bounds allow them in, then with half of that, where it must stop with StateTooLarge.
KEYS=10000000 GROUPS_OPEN=1000000
RATE=20000 # events a second of event time: all keys come within the ten minutes for which one is remembered

parse() {
  while [ $# -gt 0 ]; do
    case $1 in
      --keys) KEYS=${2:?}; shift ;;
      --groups) GROUPS_OPEN=${2:?}; shift ;;
      *) usage ;;
    esac
    shift
  done
  [ "$KEYS" -lt $((RATE * 600)) ] || { echo "--keys: less than $((RATE * 600)), for the first ones would be forgotten" >&2; exit 2; }
}

# A quarter of the limit is for state.
limit_of() { echo $(($1 * $2 * 4 / 1048576 + 128)); } # limit_of COUNT BYTES
run_state() { # run_state NAME STEP COUNT LIMIT_MIB
  local address
  address=127.0.0.1:$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  local other='/name: unique/,/# or/d'
  [ "$2" = grouped ] || other='/# or/,/# end/d'
  sed -e "$other" -e "s|@STEP@|$2|" "$BENCH/state.yaml" > "$WORK/$1.yaml"
  say "$1: $3 in $4 MiB"
  measured_worker "$1" "$4" --listen "$address" --local "$WORK/$1" --bind "events=generator:activity?rate=$RATE&limit=$3&backlog=20m"
  "$PYTHON" "$BENCH/state.py" "$address" "$2" "$3" > "$WORK/$1-state.json" &
  local watcher=$!
  [ "${5:-}" = fails ] || { ended "$1" || true; wait "$watcher"; return; }
  wait "$JOB" || true
  JOB=
  ! grep -q '"ok": true' "$WORK/$1.json" || { echo "$1 should have stopped" >&2; FAILED=1; }
  wait "$watcher" || true
  grep -q StateTooLarge "$WORK/$1.log" || { tail -n 5 "$WORK/$1.log" >&2; FAILED=1; }
}

main() {
  parse "$@"
  bring_up
  local keys groups
  keys=$(limit_of "$KEYS" 48) groups=$(limit_of "$GROUPS_OPEN" 300)
  run_state keys unique "$KEYS" "$keys"
  run_state groups grouped "$GROUPS_OPEN" "$groups"
  run_state keys-small unique "$KEYS" $((keys / 2)) fails
  run_state groups-small grouped "$GROUPS_OPEN" $((groups / 4)) fails
  say "results"
  "$PYTHON" "$BENCH/state.py" --report "$WORK" "$KEYS" "$keys" "$GROUPS_OPEN" "$groups"
}
