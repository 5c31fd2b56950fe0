#!/bin/bash
# Brings one single-node cluster up and waits until its node is Ready and DNS answers. Needs root.
# Owns (until down.sh) one tree of namespaces, one veth with three routes, one cgroup per hierarchy, and $W.
. "$(dirname "$0")/lib.sh"
[ ! -e "$W/init.pid" ] || die "already up, or not torn down: $W"
[ "$(id -u)" = 0 ] || die "the cluster needs root (the light bed does not)"
mkdir -p "$W/log"
failed() {
  local status=$?
  [ $status != 0 ] || return 0
  tail -n 3 "$W"/log/*.log >&2
  [ -e "$W/init.pid" ] || [ -z "${UNSHARE:-}" ] || kill -KILL "$UNSHARE" # its child goes with it
  [ -n "${EVP_BED_KEEP:-}" ] || bash "$KUBE/down.sh"
  exit $status
}
trap failed EXIT
bash "$KUBE/pki.sh"
say "certificates"

# The cgroup below which kubelet puts all pods, in every v1 hierarchy (or the unified one).
for h in $(hierarchies); do
  mkdir -p "$h/$CGROOT"
  if [ -f "$h/$CGROOT/cpuset.cpus" ] && [ -f "$h/cpuset.cpus" ]; then
    cat "$h/cpuset.cpus" > "$h/$CGROOT/cpuset.cpus"
    cat "$h/cpuset.mems" > "$h/$CGROOT/cpuset.mems"
  fi
done

setsid unshare --mount --net --pid --uts --ipc --fork --mount-proc --kill-child \
  bash "$KUBE/node-init.sh" > "$W/log/init.log" 2>&1 < /dev/null &
UNSHARE=$!
child() { pgrep -P "$UNSHARE"; }
wait_for 5 "init process" child
INIT=$(child)
# A start time next to the pid makes sure that down.sh never kills a stranger.
echo "$INIT $(cut -d' ' -f22 "/proc/$INIT/stat") $UNSHARE" > "$W/init.pid"
# --fork: the child may still share our network namespace for an instant
own_net() { [ "$(readlink "/proc/$INIT/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
wait_for 5 "network namespace" own_net

# Should the veth go down, its routes vanish; these keep the bed's addresses off the default route.
for c in "${CIDRS[@]}"; do ip route add unreachable "$c" metric 4000; done
ip link add "$HOST_IF" type veth peer name eth0 netns "$INIT"
ip addr add "$HOST_IP/30" dev "$HOST_IF"
ip link set "$HOST_IF" up
ip route add "$POD_CIDR" via "$NODE_IP" dev "$HOST_IF" src "$HOST_IP"
ip route add "$SVC_CIDR" via "$NODE_IP" dev "$HOST_IF" src "$HOST_IP"
say "namespaces and veth"

wait_for 120 apiserver kubectl get --raw /readyz
say "api server ready"
kubectl apply -f "$KUBE/manifests/bootstrap.yaml" > /dev/null
say "bootstrap objects"
wait_for 120 "node object" kubectl get node "$NODE"
say "node registered"
kubectl wait --for=condition=Ready "node/$NODE" --timeout=120s > /dev/null
say "node ready"
wait_for 60 "default service account" kubectl get sa default
say "service account controller"
wait_for 60 "coredns" nsenter -t "$INIT" -n curl -fsS http://127.0.0.1:8181/ready
say "dns ready"
