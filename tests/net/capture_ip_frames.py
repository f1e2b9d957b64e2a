#!/usr/bin/env python3
"""Captures the frames that the IPv4 translator is tested with: capture_ip_frames.py [DIR [NAME...]]

What mac_frames/ does not have. Needs and does what capture_frames.py does; the NetBIOS
frames are made by hand. The station's address is 10.9.0.1, or 10.9.0.50 by DHCP.
"""
import os
import sys
import time
from pathlib import Path

import pcap_file
from capture_frames import A, B, DHCP_SERVER, TCP_SERVER, Capture, World, python, run
from make_frames import ALL, IP_PEER, IP_STATION, PEER, STATION, be16, ether, ipv4, udp

ROUTED = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_%s)
s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([%d, 7, 4, 10, 9, 0, %d, 0]))
s.connect(('10.9.0.%d', 4001))
s.sendall(b'by a route')
s.recv(100)
"""
BIG = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(bytes(range(250)) * 13, ('10.9.0.%d', 4000))
"""
HOPS = """
import socket
for kind, ttl, size, df in ((1, 1, 5, 0), (2, 1, 5, 0), (2, 64, 1000, 1), (2, 64, 5, 0)):
    s = socket.socket(socket.AF_INET, kind)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    s.setsockopt(socket.IPPROTO_IP, 10, 2 if df else 0)
    s.settimeout(0.3)
    try:
        s.connect(('10.%d.%d.7', 4001))
        s.send(b'x' * size)
        s.recv(10)
    except OSError:
        pass
"""


def ip_options(path):
    """Timestamps with addresses, asked for and given; loose and strict source route by TCP
    (iputils ping, kernel)."""
    with World() as w:
        run("ip", "addr", "add", "10.9.0.3/24", "dev", "eth0", ns=B)
        for ns in (A, B):
            run("sysctl", "-w", "net.ipv4.conf.all.accept_source_route=1",
                "net.ipv4.conf.eth0.accept_source_route=1", ns=ns)
        with Capture(path, "ip"):
            run("ping", "-c1", "-T", "tsandaddr", "10.9.0.2", ns=A)
            run("ping", "-c1", "-T", "tsprespec", "10.9.0.1", "10.9.0.2", ns=A)
            run("ping", "-c1", "-R", "10.9.0.1", ns=B)
            for kind in (131, 137):
                w.spawn(B, sys.executable, "-c", TCP_SERVER % ("10.9.0.3", "AF_INET"))
                python(A, ROUTED % ("STREAM", kind, 2, 3), check=False)


def ip_fragments(path):
    """UDP in fragments both ways, to ports that are closed."""
    with World(), Capture(path, "ip"):
        python(A, BIG % 2)
        python(B, BIG % 1)


def ip_errors(path):
    """Time exceeded, fragmentation needed, prohibited and redirect, quoting TCP, UDP and
    ICMP, from the peer and from the station as routers."""
    with World() as w:
        for ns, other, net in ((A, 2, 7), (B, 1, 8)):
            router = B if ns == A else A
            run("ip", "link", "add", "small", "mtu", "600", "type", "veth", "peer", "name", "hole",
                ns=router)
            run("ip", "link", "set", "hole", "up", ns=router)
            run("ip", "link", "set", "small", "up", ns=router)
            run("ip", "route", "add", f"10.{net}.0.0/16", "via", f"10.9.0.{other}", ns=ns)
            run("ip", "route", "add", f"10.{net}.1.0/24", "dev", "small", ns=router)
            run("ip", "route", "add", "prohibit", f"10.{net}.2.0/24", ns=router)
            # Where it came from, or the station itself, is the better router.
            run("ip", "route", "add", f"10.{net}.3.0/24", "via",
                f"10.9.0.{1 if ns == A else 2}", "dev", "eth0", ns=router)
        for ns in (A, B):
            run("sysctl", "-w", "net.ipv4.conf.all.send_redirects=1",
                "net.ipv4.conf.eth0.send_redirects=1", ns=ns)
        with Capture(path, "ip", most=120):
            for ns, router, net in ((A, B, 7), (B, A, 8)):
                run("sysctl", "-w", "net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0", ns=router)
                for part in (1, 2):
                    python(ns, HOPS % (net, part))
                run("ping", "-c1", "-W1", "-t1", f"10.{net}.1.7", ns=ns, check=False)
                run("ping", "-c1", "-W1", f"10.{net}.3.7", ns=ns, check=False)
                run("sysctl", "-w", "net.ipv4.ip_forward=0", ns=router)


def dhcp_renew(path):
    """A lease, renewed by unicast after five seconds; then found again at a new start
    (dhclient, dnsmasq)."""
    with World(up=False) as w:
        run("ip", "addr", "add", "10.9.0.2/24", "dev", "eth0", ns=B)
        run("ip", "link", "set", "eth0", "up", ns=A)
        time.sleep(1)
        w.dnsmasq(*DHCP_SERVER, "--dhcp-option-force=58,5", "--dhcp-option=6,10.9.0.2,10.9.0.50",
                  "--dhcp-authoritative")
        script = w.file("script", "#!/bin/sh\nip addr add $new_ip_address/24 dev eth0\nexit 0\n")
        os.chmod(script, 0o755)
        words = ("dhclient", "-d", "-4", "-sf", script, "-cf", w.file("conf", ""), "-lf",
                 str(w.temp / "leases"), "-pf", str(w.temp / "pid"), "eth0")
        with Capture(path, "udp port 67 or udp port 68"):
            for seconds in (9, 2):
                client = w.spawn(A, *words)
                time.sleep(seconds)
                w.stop(client)


def made_netbios(path):
    """RFC 1002: registration of a name, the answers to it and to a query with two owners
    (4.2.2, 4.2.5, 4.2.13), a datagram (4.4.2)."""
    def name(text):
        return (b"\x20" + bytes(65 + half for byte in text.ljust(15) + b"\0"
                                for half in divmod(byte, 16)) + b"\0")

    def head(flags, *counts):
        return be16(7) + be16(flags) + b"".join(be16(n) for n in counts)

    question = name(b"STATION") + be16(0x20) + be16(1)
    record = be16(0x20) + be16(1) + b"\0\4\x93\xe0"
    mine, theirs = b"\0\0" + IP_STATION, b"\x60\0" + IP_PEER
    register = head(0x2910, 1, 0, 0, 1) + question + b"\xc0\x0c" + record + be16(6) + mine
    answer = head(0xad80, 0, 1, 0, 0) + name(b"STATION") + record + be16(6) + mine
    owners = head(0x8580, 0, 1, 0, 0) + name(b"GROUP") + record + be16(12) + theirs + mine
    everyone = bytes([10, 9, 0, 255])
    frames = [(ALL, STATION, IP_STATION, everyone, 137, register),
              (STATION, PEER, IP_PEER, IP_STATION, 137, answer),
              (PEER, STATION, IP_STATION, IP_PEER, 137, owners),
              (STATION, PEER, IP_PEER, IP_STATION, 137, owners)]
    for source, ip, target in ((STATION, IP_STATION, ALL), (PEER, IP_PEER, ALL)):
        data = name(b"STATION") + name(b"GROUP") + b"not SMB" + b"\0" * 25
        body = b"\x11\x02" + be16(9) + ip + be16(138) + be16(len(data)) + b"\0\0" + data
        frames.append((target, source, ip, everyone, 138, body))
    pcap_file.write(path, [ether(to, source, 0x800, ipv4(ip, to_ip, 17, udp(
        ip, to_ip, (port, port), body))) for to, source, ip, to_ip, port, body in frames])


SCENARIOS = [ip_options, ip_fragments, ip_errors, dhcp_renew, made_netbios]


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "ip_frames")
    for scenario in SCENARIOS:
        name = scenario.__name__.replace("_", "-")
        if not sys.argv[2:] or name in sys.argv[2:]:
            scenario(folder / f"{name}.pcap")


if __name__ == "__main__":
    main()
