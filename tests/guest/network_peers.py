"""Guests beside machines and programs that are not Gannet's: v86, QEMU, passt, dnsmasq, wsnic.

A foreign relay is used if there is one: $GANNET_TEST_WSNIC names a checkout of
wsnic (github.com/chschnell/wsnic), which is not in any package archive.
"""
import contextlib
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from guest import CACHE, I386, Failure, Guest, Skip, need
from network_lib import (PORT, Namespace, address, check, check_capture, dhcp, end, explained,
                         free_port, initramfs, machine, make_data, mib, off, ping, reachable,
                         ready, relay, scratch_dir, tool, transfer, tshark, wait_for)

HERE = Path(__file__).resolve().parent
NODE_MODULES = CACHE / "npm/node_modules"
QEMU = "qemu-system-i386"
KERNEL = "console=ttyS0 quiet"


def v86(scratch, url, prefix=()):
    """The same kernel in v86 under Node."""
    node = tool("node", "nodejs")
    need(NODE_MODULES / "v86/build/libv86.mjs", NODE_MODULES / "ws/index.js")
    need("/usr/share/seabios/bios.bin")
    command = [*prefix, node, HERE / "v86_peer.mjs", NODE_MODULES, url, need(I386 / "vmlinuz-686"),
               initramfs(scratch), KERNEL]
    return Guest(command[0], *command[1:])


def both_ways(ours, theirs, amount, title, rounds=10):
    """Ping and TCP in both directions between guests at 10.99.0.1 and 10.99.0.2."""
    address(ours, "10.99.0.1")
    address(theirs, "10.99.0.2")
    reachable(ours, "10.99.0.2")
    rtt = ping(ours, "10.99.0.2", rounds)
    ping(theirs, "10.99.0.1", 3)
    digest = make_data(ours, amount)
    there = transfer(ours, theirs, "10.99.0.2", amount, digest)
    digest = make_data(theirs, amount)
    back = transfer(theirs, ours, "10.99.0.1", amount, digest)
    print(f"{title}: {amount} MiB sent at {there:.2f} MiB/s, received at {back:.2f} MiB/s, "
          f"ping {rtt:.3f} ms")


def beside_v86(program, engine, scratch, url, title, prefix=()):
    capture = scratch / "v86.pcapng"
    with v86(scratch, url, prefix) as theirs, \
            machine(program, engine, scratch, "--net", url, "--capture", capture,
                    prefix=prefix) as ours:
        ready(ours, engine)
        ready(theirs, engine)
        # v86's card drops what comes while its ring is full without an interrupt, and Linux'
        # driver leaves frames there: it never receives again. Windows smaller than the ring.
        for guest in (ours, theirs):
            check(guest, "echo '4096 8192 12288' > /proc/sys/net/ipv4/tcp_rmem")
        both_ways(ours, theirs, mib(engine, 8), title)
        explained(off(ours))
    # v86 overwrites frames that it is still sending: only what the guest here sends is judged.
    check_capture(capture, raw_ports=(PORT,), judged="frame.packet_flags_direction == 2")
    return capture


def v86_relay(program, engine):
    """A v86 machine and a Gannet machine on `gannet relay`."""
    with scratch_dir() as scratch:
        port = free_port()
        log = scratch / "relay.log"
        with relay(program, port, log=log):
            beside_v86(program, engine, scratch, f"ws://127.0.0.1:{port}/", "v86 on gannet relay")
        print(log.read_text())


def v86_wsnic(program, engine):
    """The same on a relay that nobody here wrote, in a namespace of its own."""
    tree = os.environ.get("GANNET_TEST_WSNIC")
    if not tree or not Path(tree, "wsnic/wsnic.py").exists():
        raise Skip("no foreign relay: set GANNET_TEST_WSNIC to a checkout of "
                   "github.com/chschnell/wsnic")
    with scratch_dir() as scratch, Namespace() as space:
        server = subprocess.Popen([*space.prefix, sys.executable, "-m", "wsnic",
                                   "-a", "127.0.0.1", "--ws-port", "8086", "-s", "10.98.0.0/24"],
                                  cwd=tree, stdin=subprocess.DEVNULL,
                                  stdout=open(scratch / "wsnic.log", "w"),
                                  stderr=subprocess.STDOUT)
        space.processes.append(server)
        wait_for(lambda: ":1F96" in space.run("cat", "/proc/net/tcp"), "wsnic's start")
        capture = beside_v86(program, engine, scratch, "ws://127.0.0.1:8086/", "v86 on wsnic",
                             space.prefix)
        print(f"foreign relay: {len(tshark(capture, 'frame'))} frames")
        print((scratch / "wsnic.log").read_text())


def qemu(scratch, *args, model="e1000"):
    """The same kernel in QEMU."""
    tool(QEMU, "qemu-system-x86")
    return Guest(QEMU, "-accel", "tcg", "-m", "256", "-display", "none", "-monitor", "none",
                 "-serial", "stdio", "-no-reboot", "-kernel", need(I386 / "vmlinuz-686"),
                 "-initrd", initramfs(scratch), "-append", KERNEL, *args,
                 "-device", f"{model},netdev=n0,mac=52:54:00:99:00:02")


def qemu_stream(program, engine):
    """A QEMU guest and a Gannet guest over stream:unix: and stream:tcp:."""
    with scratch_dir() as scratch:
        path, port = scratch / "wire", free_port()
        kinds = (("unix", f"stream:unix:{path}?server=on",
                  f"stream,id=n0,server=off,addr.type=unix,addr.path={path}", "e1000"),
                 ("tcp", f"stream:tcp:127.0.0.1:{port}",
                  f"stream,id=n0,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port={port}",
                  "ne2k_pci"))
        for kind, url, netdev, model in kinds:
            capture = scratch / f"qemu-{kind}.pcapng"
            ours = ("--net", url, "--capture", capture)
            theirs = ("-netdev", netdev)
            with contextlib.ExitStack() as stack:
                if "server=on" in url: # who listens starts first
                    one = stack.enter_context(machine(program, engine, scratch, *ours))
                    ready(one, engine)
                    two = stack.enter_context(qemu(scratch, *theirs, model=model))
                else:
                    two = stack.enter_context(qemu(scratch, *theirs, model=model))
                    wait_for(lambda: listening_unconnected(port), "QEMU's listening")
                    one = stack.enter_context(machine(program, engine, scratch, *ours))
                    ready(one, engine)
                ready(two, engine)
                if model == "e1000":
                    # No offload: what this driver leaves to the card is not the matter here.
                    check(two, "insmod /lib/extra/e1000.ko")
                # QEMU's NE2000 receives 0.1 to 0.4 MiB/s.
                amount = mib(engine, 8 if model == "e1000" else 1)
                both_ways(one, two, amount, f"QEMU's {model} over {kind}")
                explained(off(one))
            check_capture(capture, raw_ports=(PORT,))


def listening_unconnected(port):
    """Looks in /proc: a connection to find out would be taken for the peer."""
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def passt(program, engine):
    """passt gives the guest a lease over stream:unix: and carries its TCP.

    Only 16 KiB of it: where this was written the passt of Debian 12 misses the
    acknowledgements of what lies further, with QEMU for a peer too.
    """
    tool("passt", "passt")
    with scratch_dir() as scratch, Namespace() as space:
        # A namespace with an uplink of its own: passt copies the host's address and route.
        space.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
        space.run("ip", "addr", "add", "192.0.2.10/24", "dev", "up0")
        space.run("ip", "link", "set", "up0", "up")
        space.run("ip", "link", "set", "up1", "up")
        space.run("ip", "route", "add", "default", "via", "192.0.2.1")
        blob = scratch / "blob"
        blob.write_bytes(os.urandom(16 << 10))
        space.start(sys.executable, "-m", "http.server", "--bind", "127.0.0.1",
                    "--directory", scratch, "8000", log=scratch / "http.log")
        path, capture = scratch / "passt.socket", scratch / "passt.pcapng"
        scratch.chmod(0o777) # passt gives up being root
        space.start("passt", "-f", "-s", path, "-4", log=scratch / "passt.log")
        wait_for(path.exists, "passt's socket")
        with machine(program, engine, scratch, "--net", f"stream:unix:{path}",
                     "--capture", capture) as guest:
            ready(guest, engine)
            ip, lease = dhcp(guest)
            print(f"passt: {lease}")
            if ip != "192.0.2.10":
                raise Failure(f"passt leased {ip}, its host has 192.0.2.10")
            # The gateway's address is the host's loopback.
            output = check(guest, "wget -q -O /tmp/blob http://192.0.2.1:8000/blob && "
                           "md5sum < /tmp/blob", 120)
            if hashlib.md5(blob.read_bytes()).hexdigest() not in output:
                raise Failure(f"the file that came through passt differs: {output}")
            explained(off(guest))
        check_capture(capture, raw_ports=(8000,))


def mac(guest):
    return re.search(r"^([0-9a-f:]{17})$", check(guest, "cat /sys/class/net/eth0/address"), re.M)[1]


def tap(program, engine):
    """dnsmasq leases addresses to two guests with one MAC, behind taps of a bridge."""
    tool("dnsmasq", "dnsmasq-base")
    tool("ethtool", "ethtool")
    amount = mib(engine, 16)
    with scratch_dir() as scratch, Namespace() as space:
        space.run("ip", "link", "add", "br0", "type", "bridge")
        space.run("ip", "addr", "add", "10.97.0.1/24", "dev", "br0")
        for name in ("tap0", "tap1"):
            space.run("ip", "tuntap", "add", name, "mode", "tap")
            space.run("ip", "link", "set", name, "master", "br0", "up")
            space.run("ethtool", "-K", name, "tx", "off")
        space.run("ip", "link", "set", "br0", "up")
        # Else the kernel leaves checksums to a card that there is not.
        space.run("ethtool", "-K", "br0", "tx", "off")
        leases, wire = scratch / "leases", scratch / "bridge.pcap"
        space.start("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root",
                    "--port=0", "--interface=br0", "--bind-interfaces",
                    "--dhcp-range=10.97.0.10,10.97.0.99,1h", f"--dhcp-leasefile={leases}",
                    "--pid-file=", "--dhcp-authoritative", "--no-ping",
                    log=scratch / "dnsmasq.log")
        # A witness that is not Gannet's.
        sniffer = space.start("tcpdump", "-i", "br0", "-w", wire, "-U", "-s", "0",
                              log=scratch / "tcpdump.log")
        wait_for(lambda: wire.exists() and wire.stat().st_size >= 24, "tcpdump's start")
        captures = [scratch / f"tap{n}.pcapng" for n in range(2)]
        guests = [machine(program, engine, scratch, "--net", f"tap:tap{n}", "--capture",
                          captures[n], prefix=space.prefix) for n in range(2)]
        with guests[0] as one, guests[1] as two:
            for guest in guests:
                ready(guest, engine)
            macs = [mac(g) for g in guests]
            if macs[0] != macs[1]:
                raise Failure(f"the guests should have one MAC: {macs}")
            found = [dhcp(guest) for guest in guests]
            for ip, lease in found:
                print(lease)
            if found[0][0] == found[1][0]:
                raise Failure(f"both guests were leased {found[0][0]}")
            rtt = ping(one, found[1][0], 5)
            ping(two, "10.97.0.1", 3)
            for guest in guests: # renewal is unicast, from the address it has
                check(guest, "udhcpc -i eth0 -n -q -t 3 -T 2 2>&1 | grep LEASE")
            digest = make_data(one, amount)
            rate = transfer(one, two, found[1][0], amount, digest)
            lines = leases.read_text().split("\n")
            wires = [line.split()[1] for line in lines if line]
            for address_of in wires: # the link-local address a card with the wire's MAC would have
                b = [int(part, 16) for part in address_of.split(":")]
                local = (f"fe80::{b[0] ^ 2:02x}{b[1]:02x}:{b[2]:02x}ff:fe{b[3]:02x}:"
                         f"{b[4]:02x}{b[5]:02x}")
                print(space.run("ping", "-6", "-c", "3", "-w", "10", f"{local}%br0"))
            print(f"tap: wire MACs {' and '.join(wires)} for the guests' {macs[0]}; "
                  f"guest to guest {rate:.1f} MiB/s, ping {rtt:.3f} ms")
            if len(set(wires)) != 2 or macs[0] in wires:
                raise Failure(f"dnsmasq's leases: {lines}")
            for guest in guests:
                explained(off(guest))
        end(sniffer)
        print((scratch / "dnsmasq.log").read_text())
        for capture in captures:
            check_capture(capture, raw_ports=(PORT,))
        check_capture(wire, raw_ports=(PORT,), both_sides=False)
        leaks = tshark(wire, f"frame contains {macs[0]}", raw_ports=(PORT,))
        if leaks:
            raise Failure(f"the guest's MAC left in {len(leaks)} frames: " + "\n".join(leaks[:5]))


SCENARIOS = {
    "net-v86": v86_relay,
    "net-v86-wsnic": v86_wsnic,
    "net-qemu": qemu_stream,
    "net-passt": passt,
    "net-tap": tap,
}
