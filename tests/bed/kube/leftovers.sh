#!/bin/bash
# Prints what this bed could leave behind on the machine. Run before `bed up` and after `bed down`: the two must be equal.
# Looks only at what belongs to this bed's index or must never change, so other beds may come and go meanwhile.
. "$(dirname "$0")/lib.sh"
set +e
mine="$HOST_IF|10\\.99\\.$INDEX\\.|10\\.$((100 + INDEX))\\.0\\.|10\\.$((150 + INDEX))\\.0\\."
echo "# mounts";      awk '{ print $2, $3 }' /proc/self/mounts | grep -F -e "$RUN" -e /run/containerd -e /run/netns -e /var/lib/kubelet | sort
echo "# links";       ip -o link | awk '{ print $2 }' | grep -E "^($HOST_IF|cni|veth)" | sort
echo "# addresses";   ip -o addr | awk '{ print $2, $4 }' | grep -E "$mine" | sort
echo "# routes";      ip route show table all | grep -E "$mine" | sort
echo "# netns";       ls /run/netns 2> /dev/null
echo "# nft";         nft list ruleset 2> /dev/null
echo "# cgroups";     find /sys/fs/cgroup -maxdepth 3 \( -name "$CGROOT" -o -name "evpbench$INDEX" -o -name "kubepods*" -path "*/$CGROOT/*" \) 2> /dev/null | sort
echo "# processes";   grep -lsF -e "$RUN/" -e "$POSTGRES_DATA" /proc/[0-9]*/cmdline | cut -d/ -f3 | grep -vx $$ | xargs -r ps -o comm= -p | sort
echo "# directories"; ls -d /run/containerd /run/flannel /var/lib/{cni,containerd,kubelet,etcd} /var/log/{pods,containers} /etc/cni /usr/libexec/kubernetes "$RUN"/*/ "$POSTGRES_DATA" 2> /dev/null
echo "# sysctls";     sysctl vm.overcommit_memory kernel.panic kernel.panic_on_oops net.ipv4.ip_forward net.netfilter.nf_conntrack_max 2> /dev/null
exit 0
