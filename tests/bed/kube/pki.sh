#!/bin/bash
# Owns the cluster's authorities, short-lived EC keys and kubeconfigs: everything under $W/pki.
. "$(dirname "$0")/lib.sh"
P=$W/pki
mkdir -p "$P"
cd "$P"

for ca in ca front-proxy-ca; do
  key $ca.key
  openssl req -x509 -new -key $ca.key -subj /CN=bed-$ca -days 30 -out $ca.crt 2> /dev/null
done
cert() { # cert NAME SUBJECT USAGE [SAN]; CA=NAME picks another authority
  local ca=${CA:-ca}
  key "$1.key"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr" 2> /dev/null
  {
    echo "basicConstraints=CA:FALSE"
    echo "keyUsage=digitalSignature"
    echo "extendedKeyUsage=$3"
    if [ -n "${4:-}" ]; then echo "subjectAltName=$4"; fi
  } > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$ca.crt" -CAkey "$ca.key" -set_serial "0x$(openssl rand -hex 8)" -days 30 \
    -extfile "$1.ext" -out "$1.crt" 2> /dev/null
  rm "$1.csr" "$1.ext"
}
kubeconfig() { # kubeconfig NAME SERVER
  cat > "$1.conf" << K
apiVersion: v1
kind: Config
clusters: [{name: bed, cluster: {server: "$2", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: me, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: bed, context: {cluster: bed, user: me}}]
current-context: bed
K
}

openssl genrsa -out sa.key 2048 2> /dev/null
openssl rsa -in sa.key -pubout -out sa.pub 2> /dev/null
names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
cert apiserver /CN=kube-apiserver serverAuth "$names,IP:127.0.0.1,IP:$NODE_IP,IP:$SVC_API"
cert kubelet-server "/CN=$NODE" serverAuth "DNS:$NODE,IP:$NODE_IP,IP:127.0.0.1"
cert apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
cert admin /O=system:masters/CN=admin clientAuth
cert kcm /CN=system:kube-controller-manager clientAuth
cert scheduler /CN=system:kube-scheduler clientAuth
cert kubelet "/O=system:nodes/CN=system:node:$NODE" clientAuth
cert proxy /CN=system:kube-proxy clientAuth
CA=front-proxy-ca cert front-proxy /CN=front-proxy-client clientAuth
cert coredns /CN=bed:coredns clientAuth
for n in admin kcm scheduler kubelet proxy coredns; do kubeconfig $n "https://$NODE_IP:6443"; done
