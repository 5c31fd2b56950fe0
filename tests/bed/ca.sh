#!/bin/bash
# ca.sh FOLDER NAME ADDRESS: a server key and certificate (NAME.key, NAME.crt; PEM, PKCS#8) signed by the bed's own authority.
# Owns $RUN/ca: the authority is made by the first call, clients trust $RUN/ca/ca.crt.
. "$(dirname "$0")/lib.sh"
[ $# = 3 ] || die "usage: ca.sh FOLDER NAME ADDRESS"
CA=$RUN/ca
key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
mkdir -p "$CA" "$1"
exec 9> "$CA/lock"
flock 9 # parts come up side by side
if [ ! -f "$CA/ca.crt" ]; then
  key "$CA/ca.key"
  openssl req -x509 -new -key "$CA/ca.key" -subj /CN=evp-bed-ca -days 30 -out "$CA/ca.crt.tmp" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2> /dev/null
  mv "$CA/ca.crt.tmp" "$CA/ca.crt"
fi
key "$1/$2.key"
openssl req -new -key "$1/$2.key" -subj "/CN=$2" 2> /dev/null |
  openssl x509 -req -CA "$CA/ca.crt" -CAkey "$CA/ca.key" -set_serial "0x$(openssl rand -hex 8)" -days 30 -out "$1/$2.crt" 2> /dev/null \
    -extfile <(printf '%s\n' basicConstraints=CA:FALSE keyUsage=digitalSignature extendedKeyUsage=serverAuth \
      "subjectAltName=DNS:localhost,DNS:host.testbed,IP:127.0.0.1,IP:$3")
