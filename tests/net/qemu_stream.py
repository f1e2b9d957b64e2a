#!/usr/bin/env python3
"""QEMU as the peer of stream: in each way they can meet: qemu_stream.py NET_PROBE

No guest: a hub in QEMU joins the stream to QEMU's own user network, whose DHCP
server and gateway answer.
"""
import re
import socket
import subprocess
import sys
import tempfile

from probe import Probe, await_path, expect, kill, need

QEMU = "qemu-system-i386"
RESTARTS = 10


def start(netdev):
    return subprocess.Popen([QEMU, "-M", "none", "-nodefaults", "-display", "none",
                             "-netdev", f"{netdev},id=n", "-netdev", "hubport,id=a,hubid=0,netdev=n",
                             "-netdev", "user,id=u", "-netdev", "hubport,id=b,hubid=0,netdev=u"],
                            stderr=subprocess.DEVNULL)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(what, probe):
    expect(f"{what}: lease", probe.ask("dhcp"), "lease 10.0.2.15 server 10.0.2.2 router 10.0.2.2")
    answer = probe.ask("ping 10.0.2.2")
    assert re.fullmatch(r"echo 10\.0\.2\.2 from [0-9a-f:]{17} in \d+ us", answer), answer
    print(f"ok: {what}: {answer}")


def main():
    need(QEMU)
    program = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="gannet-qemu-") as folder:
        path = f"{folder}/qemu"
        started = []
        try:
            listens = f"stream,server=on,addr.type=unix,addr.path={path}"
            qemu = start(listens)
            started.append(qemu)
            await_path(path, qemu)
            probe = Probe(program, f"stream:unix:{path}")
            started.append(probe.process)
            ask("unix, QEMU listens", probe)
            for i in range(RESTARTS):
                kill(qemu)
                probe.await_note("trying again")
                qemu = start(listens)
                started.append(qemu)
                probe.await_note("connected again")
                probe.notes.clear()
                ask(f"restart {i + 1}", probe)
            expect("connections", probe.counters()["connections"], 1 + RESTARTS)
            expect("drops", probe.dropped(), {})
            probe.close()
            kill(qemu)

            port = free_port()
            qemu = start(f"socket,listen=127.0.0.1:{port}")
            started.append(qemu)
            probe = Probe(program, f"stream:tcp:127.0.0.1:{port}?wait=off")
            started.append(probe.process)
            ask("tcp, QEMU's netdev socket listens", probe)
            probe.close()
            kill(qemu)

            probe = Probe(program, f"stream:unix:{folder}/ours?server=on")
            started.append(probe.process)
            for i in range(3):
                probe.await_note("waiting for")
                probe.notes.clear()
                qemu = start(f"stream,server=off,addr.type=unix,addr.path={folder}/ours")
                started.append(qemu)
                probe.await_note("a peer has connected")
                ask(f"unix, QEMU connects ({i + 1})", probe)
                kill(qemu)
            expect("connections", probe.counters()["connections"], 3)
            probe.close()

            probe = Probe(program, "stream:tcp:127.0.0.1:0?server=on")
            started.append(probe.process)
            probe.await_note("waiting for")
            port = re.search(r"127\.0\.0\.1:(\d+)", probe.notes[0])[1]
            qemu = start(f"stream,server=off,addr.type=inet,addr.host=127.0.0.1,addr.port={port}")
            started.append(qemu)
            ask("tcp, QEMU connects", probe)
            probe.close()
        finally:
            for process in started:
                kill(process)


if __name__ == "__main__":
    main()
