#!/bin/bash
# PID 1 of the node, started by up.sh inside its own mount, network, pid, uts and ipc namespaces.
# Owns every process of the cluster: when it dies the kernel kills them all and frees all mounts,
# interfaces and nftables rules with the namespaces.
. "$(dirname "$0")/lib.sh"
L=$W/log
P=$W/pki
C=$W/conf
mkdir -p "$L" "$C" "$W"/{etcd,lib,varlog}

# Private copies of the well-known directories, so that default paths can be used.
mount -t tmpfs tmpfs /run
mount --bind "$W/lib" /var/lib
mount --bind "$W/varlog" /var/log
# kubelet sets these three machine-wide sysctls; show it files that already have its values.
printf 1 > "$C/one"
printf 10 > "$C/ten"
mount --bind "$C/one" /proc/sys/vm/overcommit_memory
mount --bind "$C/ten" /proc/sys/kernel/panic
mount --bind "$C/one" /proc/sys/kernel/panic_on_oops

hostname "$NODE"
until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip link set lo up
ip addr add "$NODE_IP/30" dev eth0
ip link set eth0 up
# No default route: nothing in the bed can reach beyond the host's end of the veth.
sysctl -qw net.ipv4.ip_forward=1
[ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || sysctl -qw net.bridge.bridge-nf-call-iptables=1

# run NAME COMMAND...: keep it running; a killed component comes back after half a second.
run() {
  local name=$1; shift
  ( while :; do
      echo "--- start $name $(date +%T.%3N)" >> "$L/$name.log"
      "$@" >> "$L/$name.log" 2>&1 || true
      echo "--- end $name $(date +%T.%3N)" >> "$L/$name.log"
      sleep 0.5
    done ) &
}

run etcd etcd --name bed --data-dir "$W/etcd" --unsafe-no-fsync --log-level warn \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
  --initial-cluster bed=http://127.0.0.1:2380

run kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
  --bind-address=0.0.0.0 --secure-port=6443 --advertise-address="$NODE_IP" \
  --service-cluster-ip-range="$SVC_CIDR" --service-node-port-range=30000-32767 \
  --client-ca-file="$P/ca.crt" --tls-cert-file="$P/apiserver.crt" --tls-private-key-file="$P/apiserver.key" \
  --kubelet-certificate-authority="$P/ca.crt" --kubelet-client-certificate="$P/apiserver-kubelet.crt" \
  --kubelet-client-key="$P/apiserver-kubelet.key" --kubelet-preferred-address-types=InternalIP \
  --requestheader-client-ca-file="$P/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
  --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
  --requestheader-extra-headers-prefix=X-Remote-Extra- \
  --proxy-client-cert-file="$P/front-proxy.crt" --proxy-client-key-file="$P/front-proxy.key" \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local \
  --service-account-key-file="$P/sa.pub" --service-account-signing-key-file="$P/sa.key" \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
  --profiling=false --shutdown-delay-duration=0s

cat > "$C/containerd.toml" <<K
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "$CRI_SOCK"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  # without CAP_SYS_RESOURCE no oom_score_adj can be lowered and runc would fail on every pod
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$C/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
K
mkdir -p "$C/cni"
cat > "$C/cni/10-bridge.conflist" <<K
{"cniVersion": "0.4.0", "name": "bed", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
K
run containerd containerd --config "$C/containerd.toml" --log-level info

# The api server is the slowest to come up; the rest would only spin until then.
wait_for 120 apiserver kubectl get --raw /readyz

run kube-controller-manager kube-controller-manager --kubeconfig="$P/kcm.conf" \
  --authentication-kubeconfig="$P/kcm.conf" --authorization-kubeconfig="$P/kcm.conf" --bind-address=127.0.0.1 \
  --use-service-account-credentials=true --service-account-private-key-file="$P/sa.key" --root-ca-file="$P/ca.crt" \
  --cluster-signing-cert-file="$P/ca.crt" --cluster-signing-key-file="$P/ca.key" --leader-elect=false \
  --kube-api-qps=200 --kube-api-burst=400 --flex-volume-plugin-dir=/var/lib/kcm-flexvolume
run kube-scheduler kube-scheduler --kubeconfig="$P/scheduler.conf" \
  --authentication-kubeconfig="$P/scheduler.conf" --authorization-kubeconfig="$P/scheduler.conf" \
  --bind-address=127.0.0.1 --leader-elect=false

# Pods' resolver; no address outside the bed is ever asked.
echo "nameserver $NODE_IP" > "$C/resolv.conf"
cat > "$C/Corefile" <<K
.:53 {
  bind $NODE_IP
  errors
  ready 127.0.0.1:8181
  hosts {
    $HOST_IP host.testbed
    fallthrough
  }
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $P/coredns.conf
    pods insecure
    ttl 5
  }
  cache 5
}
K
run coredns coredns -conf "$C/Corefile"

cat > "$C/proxy.yaml" <<K
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ${EVP_BED_PROXY_MODE:-nftables}
hostnameOverride: $NODE
clientConnection: {kubeconfig: $P/proxy.conf}
clusterCIDR: $POD_CIDR
# sysctls that only the first network namespace may set: leave them alone
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
K
run kube-proxy kube-proxy --config "$C/proxy.yaml"

cat > "$C/kubelet.yaml" <<K
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_IP
port: 10250
readOnlyPort: 0
healthzPort: 10248
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $P/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $P/kubelet-server.crt
tlsPrivateKeyFile: $P/kubelet-server.key
cgroupDriver: cgroupfs
cgroupRoot: /$CGROOT
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix://$CRI_SOCK
resolvConf: $C/resolv.conf
clusterDNS: [$NODE_IP]
clusterDomain: cluster.local
volumePluginDir: /var/lib/kubelet/volumeplugins
syncFrequency: 5s                 # how soon a changed Secret shows in a mounted volume
fileCheckFrequency: 1h
nodeStatusUpdateFrequency: 5s
imageGCHighThresholdPercent: 100  # never delete the images we imported by hand
evictionHard: {memory.available: 100Mi, nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
serializeImagePulls: false
K
# EVP_BED_BACKOFF=1s caps the crash-loop back-off (10 s, 20 s, 40 s ... 5 min by default); alpha in 1.34
if [ -n "${EVP_BED_BACKOFF:-}" ]; then
  printf 'featureGates: {KubeletCrashLoopBackOffMax: true}\ncrashLoopBackOff: {maxContainerRestartPeriod: %s}\n' "$EVP_BED_BACKOFF" >> "$C/kubelet.yaml"
fi
wait_for 60 containerd test -S "$CRI_SOCK"
wait_for 60 "pause image" node_ctr images import "$KUBE_BIN/pause.tar"
run kubelet kubelet --config "$C/kubelet.yaml" --kubeconfig "$P/kubelet.conf" \
  --hostname-override="$NODE" --node-ip="$NODE_IP" --root-dir=/var/lib/kubelet

touch "$W/started"
while :; do wait -n 2>/dev/null || sleep 1; done
