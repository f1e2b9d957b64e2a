#!/usr/bin/env python3
"""passt answers DHCP over stream:unix: passt.py NET_PROBE"""
import os
import pwd
import subprocess
import sys
import tempfile

from probe import Namespace, Probe, await_path, expect, kill, need


def start(ns, path):
    if os.path.exists(path):
        os.unlink(path)
    process = ns.popen(["passt", "--foreground", "--quiet", "--ipv4-only", "--socket", path],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_path(path, process)
    except AssertionError:
        kill(process)
        raise
    return process


def main():
    need("passt", "ip", root=True)
    with Namespace() as ns, tempfile.TemporaryDirectory(prefix="gannet-passt-") as folder:
        # passt becomes "nobody" and gives its guest the address of the interface that
        # has the default route.
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        ns.ip("link add uplink type veth peer name other")
        ns.ip("link set other up")
        ns.ip("link set uplink up")
        ns.ip("addr add 198.51.100.2/24 dev uplink")
        ns.ip("route add default via 198.51.100.1")
        path = f"{folder}/passt"
        passt = start(ns, path)
        probe = Probe(sys.argv[1], f"stream:unix:{path}")
        try:
            lease = "lease 198.51.100.2 server 198.51.100.1 router 198.51.100.1"
            expect("first lease", probe.ask("dhcp"), lease)
            for i in range(3):
                kill(passt)
                probe.await_note("trying again")
                passt = start(ns, path)
                probe.await_note("connected again")
                probe.notes.clear()
                expect(f"lease after restart {i + 1}", probe.ask("dhcp"), lease)
            expect("connections", probe.counters()["connections"], 4)
            # Of DHCP's frames none; one that passt cut off when it was killed may be.
            expect("drops", probe.dropped(), {})
            probe.close()
        finally:
            kill(probe.process)
            kill(passt)


if __name__ == "__main__":
    main()
