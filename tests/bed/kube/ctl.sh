#!/bin/bash
# ctl.sh pid NAME | kill NAME | stop NAME | cont NAME | kill-container ID | mem | enter COMMAND…: faults for a running cluster.
# NAME is a component (kube-apiserver, etcd, kubelet, containerd …); a killed one restarts by itself. ID is a container's, as a
# pod's status has it. Owns nothing.
. "$(dirname "$0")/lib.sh"
read -r INIT _ _ < "$W/init.pid"
NS=$(readlink "/proc/$INIT/ns/pid" | tr -dc 0-9)
list() { ps -eo pid,pidns,rss,comm --no-headers | awk -v n="$NS" '$2 == n'; }
pid() { list | awk -v c="${1:0:15}" '$4 == c { print $1; exit }'; } # comm holds 15 characters
case ${1:?} in
  pid) pid "$2" ;;
  kill) kill -KILL "$(pid "$2")" ;;
  stop) kill -STOP "$(pid "$2")" ;;
  cont) kill -CONT "$(pid "$2")" ;;
  kill-container) # all its processes, by the first hierarchy that has its cgroup
    for h in $(hierarchies); do
      procs=$(find "$h/$CGROOT" -path "*/${2#*://}/cgroup.procs" 2> /dev/null | head -n 1)
      [ -z "$procs" ] || break
    done
    [ -n "$procs" ] || die "no such container: $2"
    xargs -r kill -KILL < "$procs" ;;
  mem) list | awk '{ r[$4] += $3; n[$4]++; t += $3 } END { for (c in r) printf "%-16s %d process(es) %d MiB\n", c, n[c], r[c]/1024; printf "total %d MiB\n", t/1024 }' | sort ;;
  enter) shift; exec nsenter -t "$INIT" -m -n -p -u -i -- "$@" ;;
  *) die "unknown: $1" ;;
esac
