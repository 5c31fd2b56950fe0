#!/bin/bash
# Ends the cluster: kills its init (and with it every process of its pid namespace), removes what is left.
# Owns no process: it kills only the init that up.sh recorded, by pid and start time. Harmless when nothing is up.
. "$(dirname "$0")/lib.sh"
if [ -s "$W/init.pid" ]; then
  read -r pid start parent < "$W/init.pid"
  same() { [ "$(start_time "$pid")" = "$start" ]; }
  ended() { ! same; }
  # unshare itself; a zombie waits only for the machine's own init
  reaped() { ! grep -qs '^State:[[:space:]]*[^Z[:space:]]' "/proc/$parent/status"; }
  if same; then
    kill -KILL "$pid"
    wait_for 30 "end of the node's init" ended
    wait_for 2 "end of unshare" reaped || true
    say "processes gone"
  fi
fi
# the veth goes with the namespace, asynchronously; ask for it in case it is late
ip link del "$HOST_IF" 2> /dev/null || true
for c in "${CIDRS[@]}"; do ip route del unreachable "$c" metric 4000 2> /dev/null || true; done
for h in $(hierarchies); do
  [ -d "$h/$CGROOT" ] || continue
  for _ in $(seq 50); do
    find "$h/$CGROOT" -depth -type d -exec rmdir {} + 2> /dev/null || true
    [ -d "$h/$CGROOT" ] || break
    sleep 0.1
  done
  [ ! -d "$h/$CGROOT" ] || echo "cgroup left: $h/$CGROOT" >&2
done
say "cgroups gone"
rm -rf "$W"
say "clean"
