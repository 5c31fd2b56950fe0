#!/bin/bash
# build.sh [PART…]: builds what is missing of the bed's parts, from package registries only, into the cache.
# Owns the cache's part folders. Idempotent: an interrupted build goes on where it stopped.
#   tools   Debian packages for builds and scripts     node    Debian packages of the cluster's node
#   kube    Kubernetes, etcd, helm, CoreDNS (Go)       s3      MinIO (Go)
#   kafka   the broker and its Java tools (Maven)      python  a venv with the foreign readers
#   deny    cargo-deny                                 oracle  the oracles' reader of Delta tables (Maven)
#   bench   the peer: Spark's jars and a venv (only tests/bench needs it)
. "$(dirname "$0")/lib.sh"
K8S_VERSION=v1.34.4
HELM_VERSION=v3.19.5

tools() { packages gcc g++ libc6-dev make perl git curl openssl unzip ca-certificates procps iproute2 python3-venv shellcheck; }
node() { packages containerd runc containernetworking-plugins iptables nftables iproute2; }
packages() {
  local p need=()
  for p; do
    dpkg-query -W -f='${Status}' "$p" 2> /dev/null | grep -q 'ok installed' || need+=("$p")
  done
  [ ${#need[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "run as root, or install these Debian packages: ${need[*]}"
  say "installing ${need[*]}"
  # A daemon that Debian starts on installation would outlive the bed: nothing may start here.
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
    made=1
  fi
  local failed=
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}"; } > /dev/null || failed=1
  [ -z "$made" ] || rm -f $policy
  [ -z "$failed" ] || die "apt-get could not install ${need[*]}"
}

# Go's own caches (gigabytes) are needed only until the binaries are there.
export GOCACHE=$CACHE/go/build GOMODCACHE=$CACHE/go/mod GOFLAGS="-mod=readonly -modcacherw" CGO_ENABLED=0
go_build() { # go_build OUTPUT MODULE_DIR PACKAGE [LDFLAGS]
  [ ! -x "$1" ] || return 0
  local s
  s=$(now_ms)
  mkdir -p "$(dirname "$1")"
  (cd "$BED/$2" && go build -trimpath -buildvcs=false -ldflags "-s -w ${4:-}" -o "$1.tmp$$" "$3")
  mv "$1.tmp$$" "$1"
  say "$(basename "$1"): $((($(now_ms) - s) / 1000)) s, $(($(stat -c %s "$1") / 1048576)) MiB"
}

kube() {
  local v=k8s.io/component-base/version c
  for c in kube-apiserver kubectl kube-controller-manager kube-scheduler kubelet kube-proxy; do
    # charts ask for the version, which only the linker can tell
    go_build "$KUBE_BIN/$c" kube k8s.io/kubernetes/cmd/$c "-X $v.gitVersion=$K8S_VERSION -X $v.gitMajor=1 -X $v.gitMinor=34"
  done
  go_build "$KUBE_BIN/etcd" kube go.etcd.io/etcd/server/v3
  go_build "$KUBE_BIN/helm" kube/helm helm.sh/helm/v3/cmd/helm "-X helm.sh/helm/v3/internal/version.version=$HELM_VERSION"
  go_build "$KUBE_BIN/coredns" kube/coredns .
  [ -f "$KUBE_BIN/pause.tar" ] && return
  gcc -Os -static -s -o "$KUBE_BIN/pause" "$BED/img/pause.c"
  python3 "$BED/img/ociimage.py" --out "$KUBE_BIN/pause.tar" --name localhost/pause:bed --entrypoint /pause \
    --user 65535:65535 "$KUBE_BIN/pause=/pause" > /dev/null
}

s3() { go_build "$S3_BIN/minio" s3 github.com/minio/minio; }

jars() { # jars FOLDER POM
  [ ! -d "$1" ] || return 0
  rm -rf "$1.tmp$$"
  mvn -q -B -f "$2" dependency:copy-dependencies -DoutputDirectory="$1.tmp$$"
  mv "$1.tmp$$" "$1"
}
kafka() { jars "$KAFKA_LIBS" "$BED/kafka/pom.xml"; }

venv() { # venv FOLDER REQUIREMENTS; a venv cannot be moved, so a mark says that it is whole
  [ ! -f "$1/whole" ] || return 0
  rm -rf "$1"
  python3 -m venv "$1"
  "$1/bin/pip" install -q --no-input --disable-pip-version-check -r "$2"
  touch "$1/whole"
}
python() { venv "$VENV" "$BED/python/requirements.txt"; }

deny() {
  [ ! -x "$DENY_BIN/bin/cargo-deny" ] || return 0
  # unoptimised: it reads one lock file a run, and builds in a fraction of the time
  CARGO_TARGET_DIR=$CACHE/deny-target cargo install --quiet --locked --debug --root "$DENY_BIN" "cargo-deny@$CARGO_DENY_VERSION"
  rm -rf "$CACHE/deny-target"
}

oracle() { bash "$BED/../oracle/delta-reader/build.sh" > /dev/null; }

bench() {
  venv "$BENCH_VENV" "$BED/bench/requirements.txt"
  jars "$SPARK_JARS" "$BED/bench/spark-pom.xml"
}

[ $# -gt 0 ] || set -- tools node kube s3 kafka python oracle deny
mkdir -p "$CACHE"
exec 9> "$CACHE/build.lock"
flock 9 # two builds at once would only halve each other
for part; do
  case $part in
    tools | node | kube | s3 | kafka | python | oracle | deny | bench) 
      "$part"
      say "$part: there" ;;
    *) die "no such part: $part" ;;
  esac
done
if [ -x "$S3_BIN/minio" ] && [ -f "$KUBE_BIN/pause.tar" ]; then rm -rf "$CACHE/go"; fi
