# shellcheck shell=bash disable=SC2034
# Sourced by the scripts of the two Kubernetes beds: names and addresses of one single-node cluster.
# Owns nothing but these names. `W` is where the cluster of this bed lives; kube/down.sh removes it.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
KUBE=$BED/kube
W=$RUN/kube
NODE=evp$INDEX
CGROOT=evp$INDEX                        # cgroup below which all pods run
NODE_IP=10.99.$INDEX.2
POD_CIDR=10.$((100 + INDEX)).0.0/24
SVC_CIDR=10.$((150 + INDEX)).0.0/16
SVC_API=10.$((150 + INDEX)).0.1
CIDRS=("10.99.$INDEX.0/30" "$POD_CIDR" "$SVC_CIDR")
CRI_SOCK=$W/containerd.sock
PAUSE_IMAGE=localhost/pause:bed
export KUBECONFIG=$W/pki/admin.conf
export PATH=$KUBE_BIN:$PATH

# The node has its own /run, /var/lib and /var/log: what lies there on the host would vanish from its sight.
case $CACHE in /run/* | /var/lib/* | /var/log/*) die "the cache must not lie under /run, /var/lib or /var/log: $CACHE" ;; esac

node_ctr() { ctr --address "$CRI_SOCK" -n k8s.io "$@"; }
key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; } # PKCS#8, which every TLS library reads
# Mount points of the cgroup hierarchies: one (v2), or one per controller (v1, the only kind proven).
hierarchies() {
  if [ -f /sys/fs/cgroup/cgroup.procs ]; then echo /sys/fs/cgroup; return; fi
  local h
  for h in /sys/fs/cgroup/*/; do if [ -f "$h/cgroup.procs" ]; then echo "${h%/}"; fi; done
}
