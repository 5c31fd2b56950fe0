# shellcheck shell=bash
# shellcheck disable=SC2317 # functions are called by name
# The world of a measurement by hand, for ./tests/bench and ./tests/fire: a release worker, a claimed bed with the parts asked for, and
# the variables that the Python programs beside this file read. Sourced from the project's top folder. Gives WORKER, WORK (a folder that
# goes away at the end), PYTHON; a command put in JOB is ended with it. A script may define `last_words`: called first when it fails.
BENCH=$PWD/tests/bed/bench

bed() { bash "$BENCH/../bed" "$@"; }
say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS" >&2; }

bring_up() { # bring_up PART…: of kafka, s3, postgres; python: what reads Parquet; peer: Spark, and what makes and checks orders
  local part built=(tools) up=()
  for part; do
    case $part in
      peer) built+=(bench) ;;
      python) built+=(python) ;;
      postgres) up+=(postgres) ;;
      *) built+=("$part") up+=("$part") ;;
    esac
  done
  bed build "${built[@]}"
  export WORKER=${EVP_BENCH_WORKER:-}
  if [ -z "$WORKER" ]; then
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/evp-target}
    say "building the worker for release"
    cargo build --release --locked --bin evp
    WORKER=$CARGO_TARGET_DIR/release/evp
  fi
  bed sweep
  EVP_BED_INDEX=$(bed claim $$)
  export EVP_BED_INDEX
  WORK=$(mktemp -d)
  JOB=
  trap finish EXIT
  trap 'exit 130' INT TERM
  [ ${#up[@]} = 0 ] || bed up "${up[@]}"
  eval "$(bed env)"
  # shellcheck source=/dev/null
  eval "$(. "$BENCH/../lib.sh" && printf 'PYTHON=%q\nexport JARS=%q\n' "$BENCH_VENV/bin/python" "$SPARK_JARS")"
  # shellcheck disable=SC2034 # read by who sources this
  case " $* " in *" peer "*) ;; *) PYTHON=python3 ;; esac
  case " $* " in *" s3 "*) s3_access ;; esac
  export KAFKA_BOOTSTRAP=${EVP_BED_KAFKA:-}
}

s3_access() {
  export S3_ENDPOINT=$EVP_BED_S3_ENDPOINT SECRETS=$WORK/secrets
  export AWS_ACCESS_KEY_ID=$EVP_BED_S3_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$EVP_BED_S3_SECRET_KEY
  mkdir -p "$SECRETS/s3"
  printf %s "$EVP_BED_S3_ACCESS_KEY" > "$SECRETS/s3/access-key"
  printf %s "$EVP_BED_S3_SECRET_KEY" > "$SECRETS/s3/secret-key"
}

finish() {
  local status=$?
  trap '' INT TERM
  [ -z "$JOB" ] || kill -TERM "$JOB" 2> /dev/null || true # it ends its cgroup
  [ -z "$JOB" ] || wait "$JOB" || true
  [ $status = 0 ] || ! declare -F last_words > /dev/null || last_words
  # Once it is down, another run may have claimed the same index.
  [ "$(cat "${XDG_CACHE_HOME:-$HOME/.cache}/evp-bed/run/$EVP_BED_INDEX/owner" 2> /dev/null)" != $$ ] || bed down
  rm -rf "$WORK"
}

# The orders pipeline of the benchmark on this bed.
pipeline() { # pipeline FILE TOPIC PREFIX [SED…]: FILE of $WORK, PREFIX is bucket/folder
  sed -e "s|@TOPIC@|$2|; s|@PREFIX@|$3|; s|@KAFKA@|$KAFKA_BOOTSTRAP|; s|@S3_ENDPOINT@|$S3_ENDPOINT|" "${@:4}" "$BENCH/pipeline.yaml" > "$WORK/$1.yaml"
}
