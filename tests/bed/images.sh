#!/bin/bash
# images.sh WORKER_BIN OPERATOR_BIN: OCI archives of localhost/evp-worker:dev and localhost/evp-operator:dev from built binaries,
# in the shape of the Dockerfile's last stages, imported into the cluster's containerd when it is up.
# Owns $RUN/images: evp-worker.tar, evp-operator.tar, and beside each a .json that tells its user, entrypoint and files.
. "$(dirname "$0")/lib.sh"
[ $# = 2 ] || die "usage: images.sh WORKER_BIN OPERATOR_BIN"
I=$RUN/images
SOCK=$RUN/kube/containerd.sock
mkdir -p "$I"

image() { # image NAME BINARY DESTINATION [--env NAME=VALUE]…
  strip -o "$I/$1.bin" "$2"
  python3 "$BED/img/ociimage.py" --out "$I/$1.tar" --describe "$I/$1.json" --name "localhost/$1:dev" --user 65532:65532 \
    --entrypoint "$3" --with-libs --ca-certs "${@:4}" "$I/$1.bin=$3" > /dev/null
  rm "$I/$1.bin"
  [ ! -S "$SOCK" ] || ctr --address "$SOCK" -n k8s.io images import "$I/$1.tar" > /dev/null
  say "localhost/$1:dev $(($(stat -c %s "$I/$1.tar") / 1048576)) MiB"
}
image evp-worker "$1" /usr/local/bin/evp --env MALLOC_MMAP_THRESHOLD_=65536
image evp-operator "$2" /usr/local/bin/evp-operator
