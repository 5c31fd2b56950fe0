#!/bin/bash
# debian-base.sh CONTEXT DOCKERFILE NAME OUT.tar: builds a Dockerfile that says `FROM debian:bookworm-slim` without any image
# registry: the base is made from the machine's own Debian sources, then buildah builds on it. Needs mmdebstrap and buildah, root.
# Owns $CACHE/images (the base, about 40 s the first time).
. "$(dirname "$0")/../lib.sh"
I=$CACHE/images
mkdir -p "$I"
FOUND=$(ls -d /etc/cni /var/lib/containers 2> /dev/null || true)
if [ ! -f "$I/base.tar" ]; then
  unshare -m mmdebstrap --quiet --variant=minbase --include=ca-certificates \
    --aptopt='Acquire::Check-Valid-Until "false"' bookworm "$I/base.tmp.tar" /etc/apt/sources.list.d/debian.sources
  mv "$I/base.tmp.tar" "$I/base.tar"
fi
say "base"
export I
# shellcheck disable=SC2016 # expanded inside the namespace
unshare -m bash -euc '
  mount -t tmpfs tmpfs /run
  b() { buildah --root "$I/storage" --runroot /run/b --storage-driver vfs "$@"; }
  base=docker.io/library/debian:bookworm-slim
  if ! b inspect --type image $base >/dev/null 2>&1; then
    c=$(b from scratch); b add -q "$c" "$I/base.tar" / >/dev/null; b commit -q "$c" $base >/dev/null; b rm "$c" >/dev/null
  fi
  cd "$1"; b bud -q --isolation chroot --network host --pull-never -t "$3" -f "$2" . >/dev/null
  rm -f "$4"; b push -q "$3" "oci-archive:$4:$3"
' _ "$(realpath "$1")" "$(realpath "$2")" "$3" "$(realpath -m "$4")"
for d in /etc/cni /var/lib/containers; do # where buildah leaves a lock file and a cache
  grep -qx $d <<< "$FOUND" || rm -rf $d
done
say "image $3 in $4: $(stat -c %s "$4") bytes"
