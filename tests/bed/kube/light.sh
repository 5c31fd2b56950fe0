#!/bin/bash
# light.sh up|down: etcd, kube-apiserver and the controller manager of the light bed, without nodes. Needs no root, no namespaces.
# Owns these three processes and $RUN/light. KUBEBUILDER_ASSETS, if set, gives etcd, kube-apiserver and kubectl.
. "$(dirname "$0")/lib.sh"
L=$RUN/light
PATH=${KUBEBUILDER_ASSETS:+$KUBEBUILDER_ASSETS:}$PATH

if [ "${1:?}" = down ]; then
  for p in kube-controller-manager kube-apiserver etcd; do stop "$L/$p.pid" KILL; done # nothing here outlives the bed: no need to be gentle
  rm -rf "$L"
  exit 0
fi
[ ! -e "$L" ] || die "already up, or not torn down: $L"
mkdir -p "$L/log"
cd "$L"
failed() {
  local status=$?
  [ $status != 0 ] || return 0
  tail -n 3 "$L"/log/*.log >&2
  bash "$KUBE/light.sh" down
  exit $status
}
trap failed EXIT

run() { start "$L/$1.pid" "$L/log/$1.log" "$@"; } # run COMMAND…: its name names the files
cert() { # cert NAME SUBJECT USAGE [SAN]
  key "$1.key"
  openssl req -new -key "$1.key" -subj "$2" 2> /dev/null | openssl x509 -req -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" \
    -days 30 -extfile <(echo "extendedKeyUsage=$3"; [ -z "${4:-}" ] || echo "subjectAltName=$4") -out "$1.crt" 2> /dev/null
}
key ca.key
openssl req -x509 -new -key ca.key -subj /CN=light-ca -days 30 -out ca.crt 2> /dev/null
cert server /CN=kube-apiserver serverAuth DNS:localhost,IP:127.0.0.1
cert admin /O=system:masters/CN=admin clientAuth
openssl genrsa -out sa.key 2048 2> /dev/null
say "certificates"

read -r P1 P2 < <(free_ports 127.0.0.1 2)
# etcd listens on unix sockets; what it advertises must look like host:port and is never used
run etcd --name light --data-dir "$L/etcd" --unsafe-no-fsync --log-level warn \
  --listen-client-urls "unix://$L/etcd.sock" --advertise-client-urls "http://127.0.0.1:$P2" \
  --listen-peer-urls "unix://$L/peer.sock" --initial-advertise-peer-urls "http://127.0.0.1:$P2" --initial-cluster "light=http://127.0.0.1:$P2"
run kube-apiserver --etcd-servers="unix://$L/etcd.sock" --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --secure-port="$P1" \
  --cert-dir="$L" --client-ca-file=ca.crt --tls-cert-file=server.crt --tls-private-key-file=server.key \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=sa.key --service-account-signing-key-file=sa.key \
  --service-cluster-ip-range=10.0.0.0/24 --authorization-mode=RBAC --endpoint-reconciler-type=none --profiling=false
cat > admin.conf << K
apiVersion: v1
kind: Config
clusters: [{name: light, cluster: {server: "https://127.0.0.1:$P1", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: me, user: {client-certificate-data: $(base64 -w0 admin.crt), client-key-data: $(base64 -w0 admin.key)}}]
contexts: [{name: light, context: {cluster: light, user: me}}]
current-context: light
K
export KUBECONFIG=$L/admin.conf
wait_for 60 apiserver kubectl get --raw /readyz
say "api server ready"
run kube-controller-manager --kubeconfig=admin.conf --bind-address=127.0.0.1 --secure-port=0 --leader-elect=false \
  --service-account-private-key-file=sa.key --root-ca-file="$L/ca.crt" --flex-volume-plugin-dir="$L/flex" --kube-api-qps=200 --kube-api-burst=400 \
  --controllers=namespace-controller,garbage-collector-controller,serviceaccount-controller,root-ca-certificate-publisher-controller,deployment-controller,replicaset-controller,validatingadmissionpolicy-status-controller
wait_for 60 "service account" kubectl get sa default
say "controllers ready"
