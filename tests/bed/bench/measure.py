"""Runs a command in a cgroup of its own and says what it took.

usage: measure.py --group NAME [--limit-mib N] --result FILE [--watch NAME=PID ...] -- COMMAND...

Writes {"ok", "status", "wall_s", "cpu_s", "peak_mib", "watched": {name: cpu_s}, "other_cpu_s"} to FILE. CPU is user and system time of
the whole group; `other_cpu_s` is what the rest of the machine used meanwhile: where it is large, the run was disturbed. The peak is of
anonymous and mapped memory, sampled every 50 ms. The command may print a line `MARKS {"begin": s, "end": s}`
(seconds after the environment variable T0, which is set for it): wall and CPU time are then counted between the two.
Owns the cgroup NAME, and removes it. Knows cgroup v1 (one folder per controller) and v2.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path("/sys/fs/cgroup")


class Group:
    """One cgroup, in whichever form this kernel has it."""

    def __init__(self, name, limit):
        self.v2 = (ROOT / "cgroup.controllers").exists()
        if self.v2:
            (ROOT / "cgroup.subtree_control").write_text("+cpu +memory")
        self.folders = [ROOT / name] if self.v2 else [ROOT / "memory" / name, ROOT / "cpuacct" / name]
        for folder in self.folders:
            folder.mkdir()
        if limit:
            (self.folders[0] / ("memory.max" if self.v2 else "memory.limit_in_bytes")).write_text(str(limit))

    def enter(self):
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def cpu_s(self):
        if self.v2:
            return int(self._table("cpu.stat")["usage_usec"]) / 1e6
        return int((self.folders[1] / "cpuacct.usage").read_text()) / 1e9

    def memory(self):
        table = self._table("memory.stat")
        return int(table["anon"]) + int(table["file_mapped"]) if self.v2 else int(table["total_rss"]) + int(table["total_mapped_file"])

    def end(self):
        """Kills what is left in it, then removes it: nothing of the command outlives the measurement."""
        deadline = time.time() + 10
        for folder in self.folders:
            while folder.exists() and time.time() < deadline:
                for pid in (folder / "cgroup.procs").read_text().split():
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                try:
                    folder.rmdir()
                except OSError:
                    time.sleep(0.05)

    def _table(self, file):
        return dict(line.split() for line in (self.folders[0] / file).read_text().splitlines())


def cpu_of(pid):
    """User and system seconds of one process so far (man 5 proc: fields 14 and 15)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_machine():
    """The same of all processes (first line of /proc/stat: user, nice, system)."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return sum(map(int, fields[1:4])) / os.sysconf("SC_CLK_TCK")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--group", required=True)
    args.add_argument("--limit-mib", type=int)
    args.add_argument("--result", required=True)
    args.add_argument("--watch", action="append", default=[])
    args.add_argument("command", nargs="+")
    a = args.parse_args()
    watched = {name: int(pid) for name, pid in (w.split("=") for w in a.watch)}
    group = Group(a.group, a.limit_mib and a.limit_mib << 20)
    samples, marks, done = [], None, threading.Event()

    def sample():
        while not done.is_set():
            samples.append((time.time() - begin, group.cpu_s(), group.memory()))
            done.wait(0.05)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        before = {name: cpu_of(pid) for name, pid in watched.items()}
        machine = cpu_of_machine()
        begin = time.time()
        child = subprocess.Popen(a.command, stdout=subprocess.PIPE, text=True, env=dict(os.environ, T0=str(begin)), preexec_fn=group.enter)
        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        for line in child.stdout:
            if line.startswith("MARKS "):
                marks = json.loads(line[6:])
            else:
                sys.stderr.write(line)
        status = child.wait()
        wall = time.time() - begin
        done.set()
        sampler.join()
        samples.append((wall, group.cpu_s(), 0))
        machine = cpu_of_machine() - machine
        used = {name: round(cpu_of(pid) - before[name], 2) for name, pid in watched.items()}
    finally:
        group.end()

    def cpu_at(t):
        return max((cpu for at, cpu, _ in samples if at <= t), default=0.0)

    first, last = (marks["begin"], marks["end"]) if marks else (0.0, wall)
    result = {"ok": status == 0, "status": status, "wall_s": round(last - first, 2), "cpu_s": round(cpu_at(last) - cpu_at(first), 2),
              "peak_mib": max(m for _, _, m in samples) >> 20, "watched": used,
              "other_cpu_s": round(max(machine - sum(used.values()) - samples[-1][1], 0), 1)}  # fmt: skip
    pathlib.Path(a.result).write_text(json.dumps(result))


main()
