# shellcheck shell=bash
# shellcheck disable=SC2034,SC2317 # functions are called by name, variables are read by world.sh
# The whole worker on the orders pipeline, beside the peer, in one run.
#   throughput  a topic of N events (4,000,000) is read to its end into a bronze and a gold Delta table; both tables are checked
#   freshness   R events a second (5000) for S seconds (60): from a record's append in Kafka until another process can read its row
# The worker runs in a cgroup limited to 256 MiB, the peer in one without limit; broker and S3 server share the machine's cores with them.
EVENTS=4000000 RATE=5000 SECONDS_LIVE=60 PEER=1 LIMIT_MIB=256
SKIP=20 # seconds of start-up that freshness leaves out

# --- the two contestants: each gets TOPIC and PREFIX (bucket/folder), and `end` or the seconds it is to run ------------------------
run_ours() { # run_ours NAME TOPIC PREFIX end|SECONDS
  local bound=(--until-end)
  [ "$4" = end ] || bound=(--for "${4}s")
  pipeline "$1" "$2" "$3"
  measured_worker "$1" "$LIMIT_MIB" --remote --secrets "$SECRETS" "${bound[@]}"
}
run_peer() { # run_peer NAME TOPIC PREFIX end|SECONDS
  local trigger=availableNow
  [ "$4" = end ] || trigger="5 seconds"
  measured "$1" - env TOPIC="$2" OUT="s3a://$3" TRIGGER="$trigger" RUN_SECONDS="$4" "$PYTHON" "$BENCH/spark_job.py"
}

# --- the measurements -------------------------------------------------------------------------------------------------------------
throughput() { # throughput ours|peer
  local prefix=$EVP_BED_S3_BUCKET/$1-throughput
  say "$1: $EVENTS events"
  "run_$1" "$1" orders "$prefix" end
  ended "$1" || return 0
  "$PYTHON" "$BENCH/check.py" "$EVENTS" "$prefix" "$1" || FAILED=1
}
freshness() { # freshness ours|peer
  local prefix=$EVP_BED_S3_BUCKET/$1-live total=$((SECONDS_LIVE + 15)) reader
  say "$1: $RATE events a second for $SECONDS_LIVE s"
  TOPIC=live-$1 "$PYTHON" "$BENCH/gen.py" create
  TOPIC=live-$1 "$PYTHON" "$BENCH/gen.py" stream --rate "$RATE" --seconds "$SECONDS_LIVE" > "$WORK/generator.log" 2>&1 &
  local generator=$!
  "run_$1" "$1-live" "live-$1" "$prefix" "$total"
  "$PYTHON" "$BENCH/freshness.py" "$prefix" "$total" "$SKIP" > "$WORK/$1-freshness.json" &
  reader=$!
  wait "$generator" || { cat "$WORK/generator.log" >&2; FAILED=1; }
  wait "$reader" || FAILED=1
  ended "$1-live" || true
}

parse() {
  while [ $# -gt 0 ]; do
    case $1 in
      --events) EVENTS=${2:?}; shift ;;
      --rate) RATE=${2:?}; shift ;;
      --seconds) SECONDS_LIVE=${2:?}; shift ;;
      --no-peer) PEER= ;;
      *) usage ;;
    esac
    shift
  done
  [ "$SECONDS_LIVE" -gt "$SKIP" ] || { echo "--seconds: more than $SKIP, which are left out as start-up" >&2; exit 2; }
}

main() {
  parse "$@"
  bring_up kafka s3 peer
  say "preloading $EVENTS events"
  TOPIC=orders "$PYTHON" "$BENCH/gen.py" preload "$EVENTS"
  WHO=(ours)
  [ -z "$PEER" ] || WHO+=(peer)
  for who in "${WHO[@]}"; do throughput "$who"; done
  for who in "${WHO[@]}"; do freshness "$who"; done
  say "results"
  "$PYTHON" "$BENCH/report.py" "$WORK" "$EVENTS" "$RATE" "${WHO[@]}"
}
