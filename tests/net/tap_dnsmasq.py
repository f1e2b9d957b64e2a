#!/usr/bin/env python3
"""dnsmasq leases an address through tap:, in a network namespace: tap_dnsmasq.py NET_PROBE"""
import os
import re
import subprocess
import sys
import tempfile
import time

from probe import Namespace, Probe, expect, kill, need, skip


def unprivileged(ns, program, url):
    """What somebody who is not root is told."""
    done = ns.popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program, url],
                    stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return done.communicate(timeout=20)[1]


def processor_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def main():
    need("dnsmasq", "ip", "setpriv", root=True)
    if not os.path.exists("/dev/net/tun"):
        skip("needs /dev/net/tun")
    program = sys.argv[1]
    with Namespace() as ns, tempfile.TemporaryDirectory(prefix="gannet-tap-") as folder:
        started = []
        try:
            # up=on: what it made is up and may be given an address at once
            probe = Probe(program, "tap:gannet0?up=on", ns.name)
            started.append(probe.process)
            expect("status", probe.ask("status"), "status interface gannet0")
            ns.ip("addr add 10.77.0.1/24 dev gannet0")
            dnsmasq = ns.popen(["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root",
                                "--port=0", "--interface=gannet0", "--bind-interfaces", "--no-ping",
                                "--dhcp-authoritative", "--dhcp-range=10.77.0.50,10.77.0.50,1h",
                                f"--dhcp-leasefile={folder}/leases", f"--pid-file={folder}/pid"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            started.append(dnsmasq)
            expect("lease", probe.ask("dhcp"), "lease 10.77.0.50 server 10.77.0.1 router 10.77.0.1")
            for _ in range(3):
                answer = probe.ask("ping 10.77.0.1")
                assert re.match(r"echo 10\.77\.0\.1 from ", answer), answer
                print(f"ok: {answer}")
            expect("drops", probe.dropped(), {})

            ns.ip("link set gannet0 down")
            expect("ping while it is down", probe.ask("ping 10.77.0.1"), "timeout")
            told = [n for n in probe.notes if "is down" in n]
            expect("told once", told, ["net0: tap:gannet0: the interface is down; frames are dropped "
                                       "until 'ip link set gannet0 up'"])
            assert probe.dropped()["drop.interface-down"] >= 5, probe.counters()
            ns.ip("link set gannet0 up")
            answer = probe.ask("ping 10.77.0.1")
            assert re.match(r"echo 10\.77\.0\.1 from ", answer), answer
            print(f"ok: up again: {answer}")

            second = Probe(program, "tap:gannet0", ns.name)
            started.append(second.process)
            expect("a second user is refused", second.process.wait(10), 1)

            ns.ip("link del gannet0")
            probe.await_note("the guest is cut off")
            expect("goes on without it", probe.ask("status"), "status interface gannet0, which is gone")
            before = processor_ticks(probe.process.pid)
            time.sleep(0.5)
            used = processor_ticks(probe.process.pid) - before
            assert used < 20, f"{used} ticks in half a second: it spins"
            probe.close()

            text = unprivileged(ns, program, "tap:gannet1")
            assert "/dev/net/tun" in text or "ip tuntap add" in text, text
            print(f"ok: {text.strip()}")
        finally:
            for process in started:
                kill(process)


if __name__ == "__main__":
    main()
