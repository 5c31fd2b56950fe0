#!/bin/bash
# s3.sh start|kill|down [tls]: one MinIO server with one bucket, bound to S3_HOST (default: the host as pods see it, if the cluster
# is up, else 127.0.0.1) on a free port; `tls` is a second one, over https with a certificate of the bed's own authority.
# Owns the server process and $RUN/s3 (or $RUN/s3-tls). `kill` is a crash (-9); a `start` after it goes on.
. "$(dirname "$0")/../lib.sh"
D=$RUN/s3${2:+-$2}
PID=$D/minio.pid

configure() {
  local host=${S3_HOST:-$(host_ip)} port console
  read -r port console < <(free_ports "$host" 2)
  mkdir -p "$D/data" "$D/certs"
  if [ "${1:-}" = tls ]; then
    bash "$BED/ca.sh" "$D/certs" s3 "$host"
    mv "$D/certs/s3.key" "$D/certs/private.key" # the names that MinIO looks for
    mv "$D/certs/s3.crt" "$D/certs/public.crt"
  fi
  printf '%s\n' "S3_ENDPOINT=http${1:+s}://$host:$port" "S3_ADDRESS=$host:$port" "S3_CONSOLE=$host:$console" \
    S3_ACCESS_KEY=evp-bed S3_SECRET_KEY=evp-bed-secret S3_BUCKET=evp > "$D/settings"
}

case ${1:?} in
  start)
    [ -x "$S3_BIN/minio" ] || die "the S3 server is not there: bed build s3"
    ! alive "$PID" || die "already up: $D"
    [ -f "$D/settings" ] || configure "${@:2}"
    # shellcheck source=/dev/null
    . "$D/settings"
    # It would look for updates and a licence by itself; nothing in the bed goes out.
    MINIO_ROOT_USER=$S3_ACCESS_KEY MINIO_ROOT_PASSWORD=$S3_SECRET_KEY MINIO_UPDATE=off MINIO_CALLHOME_ENABLE=off MINIO_BROWSER=off \
      start "$PID" "$D/minio.log" "$S3_BIN/minio" server --quiet --certs-dir "$D/certs" --address "$S3_ADDRESS" --console-address "$S3_CONSOLE" "$D/data"
    bucket() { # made, or there already
      curl -sS -m 5 -o /dev/null -w '%{http_code}' --aws-sigv4 aws:amz:us-east-1:s3 -u "$S3_ACCESS_KEY:$S3_SECRET_KEY" \
        ${2:+--cacert "$RUN/ca/ca.crt"} -X PUT "$S3_ENDPOINT/$S3_BUCKET" | grep -qE '^(200|409)$'
    }
    if ! { wait_for 30 "S3 server" bucket "$@" && alive "$PID"; }; then
      tail -n 20 "$D/minio.log" >&2
      stop "$PID" KILL
      die "the S3 server did not start"
    fi
    say "s3${2:+-$2} ready" ;;
  kill) stop "$PID" KILL ;;
  down)
    stop "$PID" KILL # its data goes next
    rm -rf "$D" ;;
  *) die "usage: s3.sh start|kill|down [tls]" ;;
esac
