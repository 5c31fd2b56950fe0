#!/bin/bash
# Proves a running cluster end to end: one timed line per fact, exit 1 if any fails. About a minute and a half.
# Owns the namespaces `e2e` and `helm` and the group bed.example, and removes them.
. "$(dirname "$0")/lib.sh"
M=$KUBE/manifests
FAILED=0
k() { kubectl -n e2e "$@"; }
h() { helm -n helm "$@"; }
step() { # step NAME COMMAND…: times it, prints ok or FAIL with its last lines
  local name=$1 s out
  shift
  s=$(now_ms)
  if out=$("$@" 2>&1); then
    printf 'ok   %6d ms  %s%s\n' $(($(now_ms) - s)) "$name" "${out:+ | $(tail -n1 <<< "$out" | cut -c1-150)}"
  else
    printf 'FAIL %6d ms  %s | %s\n' $(($(now_ms) - s)) "$name" "$(tail -n3 <<< "$out")"
    FAILED=1
  fi
}
refused() { # refused MESSAGE COMMAND…
  local want=$1 out
  shift
  if out=$("$@" 2>&1); then
    echo "was accepted"
    return 1
  fi
  grep -o "$want" <<< "$out"
}
until_eq() { # until_eq SECONDS PATTERN COMMAND…: polls until the output matches
  local end=$(($(now_ms) + $1 * 1000)) want=$2 got
  shift 2
  while :; do
    got=$("$@" 2> /dev/null || true)
    # shellcheck disable=SC2053 # a pattern is wanted
    [[ $got == $want ]] && { echo "$got"; return 0; }
    [ "$(now_ms)" -lt "$end" ] || { echo "got: $got"; return 1; }
    sleep 0.1
  done
}
web() { k get pod -l app=web -o jsonpath="{.items[0]$1}"; }
restarts() { web '.status.containerStatuses[0].restartCount'; }
last() { web '.status.containerStatuses[0].lastState.terminated.reason'; }
host_pid() { # of the pod's main process, as the host sees it
  local id h
  id=$(web '.status.containerStatuses[0].containerID')
  for h in $(hierarchies); do
    cat "$h/$CGROOT/kubepods"/*/*/"${id#containerd://}"/cgroup.procs 2> /dev/null | head -n1 | grep . && return
  done
}
ready() { k wait --for=condition=Available deploy/web --timeout=60s; }
probe() { k exec deploy/web -- /usr/local/bin/probe "$@"; }

[ -f "$W/probe" ] || rustc --edition 2021 -O -C strip=symbols -o "$W/probe" "$KUBE/probe.rs"
python3 "$BED/img/ociimage.py" --out "$W/probe.tar" --name localhost/probe:v1 --entrypoint /usr/local/bin/probe \
  --with-libs --ca-certs "$W/probe=/usr/local/bin/probe" > /dev/null
step "import image (hand-made OCI archive)" node_ctr images import "$W/probe.tar"

apply() { k apply -f "$M/workload.yaml" && ready; }
step "Deployment under enforce=restricted becomes Available" apply
step "a pod that is not restricted is refused" refused 'violates PodSecurity "restricted:latest"' k run bad --image=localhost/probe:v1
status() { probe /file /proc/1/status | grep -E '^(Uid|CapEff|Seccomp|NoNewPrivs):' | tr -s '\t\n' ' '; }
step "process is uid 65532, no capabilities, seccomp filter on" until_eq 5 'Uid: 65532 *CapEff: 0000000000000000 NoNewPrivs: 1 Seccomp: 2 ' status
step "root file system is read-only" refused 'Read-only file system' probe /write /x
step "emptyDir is writable by the non-root user" probe /write /scratch/x
step "Secret file" until_eq 5 first probe /file /etc/creds/password
k patch secret creds -p '{"stringData":{"password":"second"}}' > /dev/null
step "Secret file after a change" until_eq 90 second probe /file /etc/creds/password
bundle() { probe /file /etc/ssl/certs/ca-certificates.crt | grep -c BEGIN; }
step "CA bundle in the image" bundle
step "logs" k logs deploy/web --tail=1
forward() {
  local port pid r=0
  port=$(free_ports 127.0.0.1 1)
  kubectl -n e2e port-forward deploy/web "$port:8080" --address 127.0.0.1 > /dev/null 2>&1 &
  pid=$!
  until_eq 10 ok curl -sS "http://127.0.0.1:$port/healthz" || r=1
  kill "$pid"
  wait "$pid" 2> /dev/null || true
  return "$r"
}
step "port-forward" forward
PODIP=$(web '.status.podIP')
SVCIP=$(k get svc web -o jsonpath='{.spec.clusterIP}')
step "host -> pod address" until_eq 5 ok curl -sS -m 2 "http://$PODIP:8080/healthz"
step "host -> ClusterIP" until_eq 5 ok curl -sS -m 2 "http://$SVCIP/healthz"
step "pod -> DNS short name" until_eq 10 "$SVCIP" probe /dns web
step "pod -> DNS full name" until_eq 10 "$SVCIP" probe /dns web.e2e.svc.cluster.local
step "pod -> itself through ClusterIP (hairpin)" until_eq 10 '*200 OK' probe /tcp web:80
step "pod -> api server through ClusterIP" until_eq 10 "$SVC_API:443*" probe /tcp kubernetes.default:443

# A pod that talks to the API as an operator does, in the Guaranteed class (wants oom_score_adj -997).
k apply -f "$M/client.yaml" > /dev/null
step "Guaranteed pod with a service account token" k wait --for=condition=Ready pod/client --timeout=60s
api() {
  local token
  token=$(k exec client -- /usr/local/bin/probe /file /var/run/secrets/kubernetes.io/serviceaccount/token)
  curl -sS -m 5 -o /dev/null -w '%{http_code}' --cacert "$W/pki/ca.crt" -H "Authorization: Bearer $token" "https://$SVC_API$1"
}
step "its token reads what its Role allows" until_eq 5 200 api /api/v1/namespaces/e2e/configmaps
step "its token is refused what the Role lacks" until_eq 5 403 api /api/v1/namespaces/e2e/secrets

# A server on the host, outside the cluster.
PORT=$(free_ports "$HOST_IP" 1)
python3 -m http.server "$PORT" --bind "$HOST_IP" --directory "$KUBE/chart" > /dev/null 2>&1 &
HTTP=$!
trap 'kill $HTTP 2> /dev/null' EXIT
step "pod -> host by address" until_eq 10 "$HOST_IP:$PORT*" probe /tcp "$HOST_IP:$PORT"
step "pod -> host by name (CoreDNS hosts)" until_eq 10 "$HOST_IP:$PORT*" probe /tcp "host.testbed:$PORT"
step "pod -> outside world is cut off" refused 'unreachable' probe /tcp 192.0.2.1:80

n=$(restarts)
HP=$(host_pid)
again() { until_eq 90 $((n + 1)) restarts > /dev/null && ready > /dev/null && last; }
kill9() { kill -KILL "$HP" && again; }
step "kill -9 of the process: restarted and Ready" kill9
n=$(restarts)
break_it() { curl -sS -m 2 "http://$PODIP:8080/break" && again; }
step "failing liveness probe: restarted and Ready (includes back-off)" break_it
n=$(restarts)
oom() {
  curl -sS -m 5 "http://$PODIP:8080/alloc?200" || true
  until_eq 90 OOMKilled last && again
}
step "memory limit: OOMKilled in the status (includes back-off)" oom

kubectl apply -f "$M/api.yaml" > /dev/null
step "CRD established" kubectl wait --for=condition=Established crd/pipelines.bed.example --timeout=20s
cr() { printf '{"apiVersion":"bed.example/v1","kind":"Pipeline","metadata":{"name":"%s"},"spec":{"min":%s,"max":%s}}' "${@:1:3}" | k apply -f - "${@:4}"; }
step "valid resource accepted" cr one 1 2
step "CEL rule refuses" refused 'min must not exceed max' cr two 3 2
step "CEL transition rule refuses" refused 'max never shrinks' cr one 1 1
step "status subresource" k patch pipeline one --subresource=status --type=merge -p '{"status":{"phase":"x"}}'
denied() { cr bad 1 2 --dry-run=server 2>&1 || true; } # a policy takes a moment to be in force
step "ValidatingAdmissionPolicy refuses" until_eq 20 '*denied request: bad name*' denied
lease() {
  k create -f - <<< '{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l"},"spec":{"holderIdentity":"me","leaseDurationSeconds":15}}'
  k get lease l -o jsonpath='{.spec.holderIdentity}'
}
step "Lease" lease

step "helm install --wait" h install t "$KUBE/chart" --create-namespace --wait --timeout 60s
step "helm upgrade --wait (2 replicas)" h upgrade t "$KUBE/chart" --set replicas=2 --wait --timeout 60s
step "helm rollback --wait" h rollback t 1 --wait --timeout 60s
step "helm uninstall --wait" h uninstall t --wait --timeout 60s
roll() { k set env deploy/web X=1 > /dev/null && k rollout status deploy/web --timeout=60s; }
step "rolling update" roll
step "namespace deletion completes" kubectl delete ns e2e helm --timeout=90s
kubectl delete -f "$M/api.yaml" > /dev/null
[ $FAILED = 0 ] && echo "all ok"
exit $FAILED
