#!/usr/bin/env python3
"""Captures the frames that the MAC translator is tested with: capture_frames.py [DIR [NAME...]]

Needs root, iproute2, ethtool, tcpdump, dnsmasq, dhclient, dhcpcd, busybox, ping, arping
and etherwake. Two or three network namespaces of this kernel are the stations;
everything is captured at the first one, which has the address STATION. Makes
DIR/NAME.pcap for each scenario below (all of them, unless named).
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STATION, PEER = "52:54:00:12:34:56", "52:54:00:fe:00:01"
IID, PEER_IID = "5054:ff:fe12:3456", "5054:ff:fefe:1"
A, B = f"mac-{os.getpid()}-a", f"mac-{os.getpid()}-b"


def run(*words, ns=None, check=True, timeout=30, **more):
    if ns:
        words = ("ip", "netns", "exec", ns, *words)
    more.setdefault("stdout", subprocess.DEVNULL)
    more.setdefault("stderr", subprocess.DEVNULL)
    return subprocess.run(words, check=check, timeout=timeout, text=True, **more)


def python(ns, code, check=True):
    run(sys.executable, "-c", code, ns=ns, check=check)


class Capture:
    """tcpdump in the station's namespace while the body runs."""

    def __init__(self, path, what="", dev="eth0", most=40):
        self.path, self.what, self.dev, self.most = path, what, dev, most

    def __enter__(self):
        self.dump = subprocess.Popen(
            ["ip", "netns", "exec", A, "tcpdump", "--immediate-mode", "-i", self.dev, "-U", "-Z", "root", "-s", "0",
             "-c", str(self.most), "-w", str(self.path), *self.what.split()],
            stderr=subprocess.PIPE, text=True)
        self.dump.stderr.readline()
        time.sleep(0.3)

    def __exit__(self, *failure):
        time.sleep(0.7)
        self.dump.terminate()
        self.dump.wait(10)


class World:
    """The station and its peer on one cable, with addresses unless told otherwise."""

    def __init__(self, up=True):
        self.up, self.children = up, []
        self.temp = Path(tempfile.mkdtemp(prefix="capture-frames-"))

    def __enter__(self):
        for ns in (A, B):
            run("ip", "netns", "add", ns)
            run("ip", "link", "set", "lo", "up", ns=ns)
        run("ip", "link", "add", "eth0", "address", STATION, "netns", A, "type", "veth", "peer",
            "name", "eth0", "address", PEER, "netns", B)
        for ns in (A, B):
            run("ethtool", "-K", "eth0", "tx", "off", "gso", "off", "tso", "off", ns=ns)
            run("sysctl", "-w", "net.ipv6.conf.all.dad_transmits=1",
                "net.ipv4.ping_group_range=0 0", ns=ns, check=False)
        run("ip", "link", "set", "eth0", "up", ns=B)
        if self.up:
            self.start()
        return self

    def start(self):
        run("ip", "link", "set", "eth0", "up", ns=A)
        for ns, host in ((A, 1), (B, 2)):
            run("ip", "addr", "add", f"10.9.0.{host}/24", "dev", "eth0", ns=ns)
        run("ip", "addr", "add", f"2001:db8::{IID}/64", "dev", "eth0", "nodad", ns=A)
        run("ip", "addr", "add", f"2001:db8::{PEER_IID}/64", "dev", "eth0", "nodad", ns=B)
        time.sleep(2.5)  # duplicate address detection of the link-local ones

    def spawn(self, ns, *words):
        child = subprocess.Popen(("ip", "netns", "exec", ns, *words),
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.children.append(child)
        time.sleep(0.5)
        return child

    def stop(self, child):
        child.terminate()
        child.wait(10)
        self.children.remove(child)

    def dnsmasq(self, *options):
        return self.spawn(B, "dnsmasq", "-d", "-C", "/dev/null", "-p", "0", "-i", "eth0",
                          "--bind-interfaces", "--leasefile-ro", *options)

    def file(self, name, text):
        path = self.temp / name
        path.write_text(text)
        return str(path)

    def __exit__(self, *failure):
        for child in list(self.children):
            self.stop(child)
        for ns in (A, B):
            for pid in run("ip", "netns", "pids", ns, stdout=subprocess.PIPE).stdout.split():
                os.kill(int(pid), 15)
            run("ip", "netns", "del", ns)
        shutil.rmtree(self.temp)


def arp(path):
    """ARP: both ways, gratuitous requests and answers (iputils arping, kernel)."""
    with World() as w, Capture(path, "arp"):
        run("ip", "neigh", "flush", "dev", "eth0", ns=A)
        run("ip", "neigh", "flush", "dev", "eth0", ns=B)
        run("ping", "-c1", "10.9.0.2", ns=A)
        run("arping", "-c1", "-I", "eth0", "10.9.0.1", ns=B)
        run("arping", "-c1", "-U", "-I", "eth0", "10.9.0.1", ns=A, check=False)
        run("arping", "-c1", "-A", "-I", "eth0", "10.9.0.1", ns=A, check=False)
        run("arping", "-c1", "-A", "-I", "eth0", "10.9.0.2", ns=B, check=False)


UDP_SEND = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b'odd', ('10.9.0.%d', 4000))
s.sendto(b'even', ('10.9.0.%d', 4000))
s.setsockopt(socket.SOL_SOCKET, 11, 1)
s.sendto(b'no checksum', ('10.9.0.%d', 4000))
"""
TCP_SERVER = """
import socket
s = socket.create_server(('%s', 4001), family=socket.%s)
c = s.accept()[0]
c.sendall(c.recv(100) + b'!')
"""
TCP_CLIENT = """
import socket
s = socket.create_connection(('%s', 4001))
s.sendall(b'hello')
s.recv(100)
"""


def ipv4(path):
    """IPv4: ping with record route and time stamps, fragments, UDP with and without
    checksum and to a closed port (quoted by ICMP), TCP (kernel, iputils ping)."""
    with World() as w, Capture(path, "ip"):
        run("ping", "-c1", "-R", "10.9.0.2", ns=A)
        run("ping", "-c1", "-T", "tsonly", "10.9.0.2", ns=A)
        run("ping", "-c1", "-s", "4000", "10.9.0.2", ns=A)
        python(A, UDP_SEND % (2, 2, 2))
        python(B, UDP_SEND % (1, 1, 1))
        w.spawn(B, sys.executable, "-c", TCP_SERVER % ("10.9.0.2", "AF_INET"))
        python(A, TCP_CLIENT % "10.9.0.2")


DHCP_SERVER = ("--dhcp-range=10.9.0.50,10.9.0.60,2m", "--dhcp-option=3,10.9.0.2",
               "--dhcp-sequential-ip", "--no-ping")


def dhclient(w, *options, conf="", release=True):
    script = w.file("script", "#!/bin/sh\nip addr add $new_ip_address/24 dev eth0\nexit 0\n")
    os.chmod(script, 0o755)
    words = ("dhclient", "-sf", script, "-cf", w.file("conf", conf), "-lf",
             str(w.temp / "leases"), "-pf", str(w.temp / "pid"), *options)
    run(*words, "-1", "eth0", ns=A)
    if release:
        run(*words, "-r", "eth0", ns=A, check=False)


def dhcp(path, options=(), conf="", release=True):
    with World(up=False) as w:
        run("ip", "addr", "add", "10.9.0.2/24", "dev", "eth0", ns=B)
        run("ip", "link", "set", "eth0", "up", ns=A)
        time.sleep(1)
        w.dnsmasq(*DHCP_SERVER)
        with Capture(path, "udp port 67 or udp port 68"):
            dhclient(w, *options, conf=conf, release=release)


def dhcp_plain(path):
    """dhclient without client identifier: only chaddr; leased and released (dnsmasq)."""
    dhcp(path, ("-4",))


def dhcp_windows(path):
    """A client identifier of type 1, class MSFT 5.0 and the list that Windows asks for:
    dhclient set up to send what Windows sends (dnsmasq)."""
    dhcp(path, ("-4",), """
send dhcp-client-identifier = hardware;
send host-name "STATION";
send vendor-class-identifier "MSFT 5.0";
request subnet-mask, domain-name, routers, domain-name-servers, netbios-name-servers,
 netbios-node-type, netbios-scope, static-routes, vendor-encapsulated-options;
""")


def dhcp_duid_ll(path):
    """RFC 4361 identifier, DUID-LL (dhclient -i -D LL, dnsmasq)."""
    dhcp(path, ("-4", "-i", "-D", "LL"))


def dhcp_duid_llt(path):
    """RFC 4361 identifier, DUID-LLT (dhclient -i -D LLT, dnsmasq)."""
    dhcp(path, ("-4", "-i", "-D", "LLT"))


def dhcp_udhcpc(path):
    """busybox udhcpc: its own identifier of type 1 (dnsmasq)."""
    with World(up=False) as w:
        run("ip", "addr", "add", "10.9.0.2/24", "dev", "eth0", ns=B)
        run("ip", "link", "set", "eth0", "up", ns=A)
        time.sleep(1)
        w.dnsmasq(*DHCP_SERVER)
        with Capture(path, "udp port 67 or udp port 68"):
            run("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-s", "/bin/true", ns=A)


def dhcp_quoted(path):
    """A release to a server that is gone: ICMP quotes the message (dhclient, kernel)."""
    with World(up=False) as w:
        run("ip", "addr", "add", "10.9.0.2/24", "dev", "eth0", ns=B)
        run("ip", "link", "set", "eth0", "up", ns=A)
        time.sleep(1)
        server = w.dnsmasq(*DHCP_SERVER)
        conf = "send dhcp-client-identifier = hardware;"
        dhclient(w, "-4", conf=conf, release=False)
        w.stop(server)
        with Capture(path, "icmp or udp port 67"):
            dhclient_release = ("dhclient", "-4", "-r", "-sf", "/bin/true", "-cf",
                                w.file("conf", conf), "-lf", str(w.temp / "leases"), "-pf",
                                str(w.temp / "pid"), "eth0")
            run(*dhclient_release, ns=A, check=False)


RA_SERVER = ("--enable-ra", "--dhcp-range=2001:db8::100,2001:db8::1ff,64,10m",
             "--dhcp-option=option6:dns-server,[2001:db8::2]")


def ipv6_start(path):
    """A link comes up: DAD, MLDv2 reports, router solicitation and advertisement
    (kernel, dnsmasq)."""
    with World(up=False) as w:
        run("ip", "addr", "add", "2001:db8::2/64", "dev", "eth0", "nodad", ns=B)
        w.dnsmasq("--enable-ra", "--dhcp-range=2001:db8::,ra-only,64,10m")
        run("ip", "link", "set", "eth0", "up", ns=A)  # for tcpdump; then once more
        run("ip", "link", "set", "eth0", "down", ns=A)
        time.sleep(1)
        run("ip", "link", "set", "eth0", "up", ns=A)
        with Capture(path, "ip6", most=24):
            run("ip", "link", "set", "eth0", "down", ns=A)
            run("ip", "link", "set", "eth0", "up", ns=A)
            time.sleep(6)


UDP6_SEND = """
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(('2001:db8::%s', 0))
s.sendto(b'odd', ('2001:db8::%s', 4000))
s.setsockopt(socket.IPPROTO_IPV6, 59, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
s.sendto(b'destination options', ('2001:db8::%s', 4000))
"""


def ipv6(path):
    """Neighbour discovery both ways, ping, fragments, TCP, UDP with destination options
    and to a closed port (quoted by ICMPv6), between addresses made from the MACs."""
    with World() as w, Capture(path, "ip6", most=60):
        run("ip", "-6", "neigh", "flush", "dev", "eth0", ns=A)
        run("ip", "-6", "neigh", "flush", "dev", "eth0", ns=B)
        run("ping", "-c1", f"fe80::{PEER_IID}%eth0", ns=A)
        run("ip", "-6", "neigh", "flush", "dev", "eth0", ns=B)
        run("ping", "-c1", f"2001:db8::{IID}", ns=B)
        run("ping", "-c1", "-s", "4000", f"2001:db8::{PEER_IID}", ns=A)
        python(A, UDP6_SEND % (IID, PEER_IID, PEER_IID))
        python(B, UDP6_SEND % (PEER_IID, IID, IID))
        w.spawn(B, sys.executable, "-c", TCP_SERVER % (f"2001:db8::{PEER_IID}", "AF_INET6"))
        python(A, TCP_CLIENT % f"2001:db8::{PEER_IID}")


def mld(path):
    """MLD: version 1 reports and done (the kernel made to), queries of both versions
    from a bridge that is the querier."""
    with World() as w:
        run("sysctl", "-w", "net.ipv6.conf.eth0.force_mld_version=1", ns=A)
        run("ip", "link", "add", "br0", "type", "bridge", "mcast_querier", "1",
            "mcast_mld_version", "1", "mcast_startup_query_interval", "100", ns=B)
        run("ip", "link", "set", "eth0", "master", "br0", ns=B)
        group = ("ip", "addr", "add", f"2001:db8::{IID}/64", "dev", "eth0", "nodad")
        leave = ("ip", "addr", "del", f"2001:db8::{IID}/64", "dev", "eth0")
        run("ip", "addr", "add", "fe80::77/64", "dev", "eth0", "nodad", ns=A)
        run("ip", "addr", "del", f"fe80::{IID}/64", "dev", "eth0", ns=A)
        run("ip", "link", "set", "br0", "up", ns=B)
        time.sleep(3)
        with Capture(path, "ip6 proto 0 and not src host ::", most=30):
            run(*leave, ns=A)
            time.sleep(2)
            run(*group, ns=A)
            time.sleep(2)
            run(*leave, ns=A)
            time.sleep(3)
            run("sysctl", "-w", "net.ipv6.conf.eth0.force_mld_version=2", ns=A)
            run("ip", "link", "set", "br0", "type", "bridge", "mcast_mld_version", "2", ns=B)
            run(*group, ns=A)
            time.sleep(2)
            run(*leave, ns=A)
            time.sleep(3)


def dhcpv6(path, duid="LL"):
    with World() as w:
        run("ip", "addr", "add", "2001:db8::2/64", "dev", "eth0", "nodad", ns=B)
        w.dnsmasq(*RA_SERVER)
        with Capture(path, "udp port 546 or udp port 547"):
            dhclient(w, "-6", "-D", duid)


def dhcpv6_ll(path):
    """DHCPv6 with DUID-LL and an IAID made from the MAC (dhclient -6, dnsmasq)."""
    dhcpv6(path, "LL")


def dhcpv6_llt(path):
    """DHCPv6 with DUID-LLT (dhclient -6, dnsmasq)."""
    dhcpv6(path, "LLT")


def redirect(path):
    """IPv6 redirects both ways, quoting the packet (kernel: each station is made a router
    for a network that is on the same link)."""
    with World() as w:
        for ns, router, route, host, mac in (
                (A, B, 3, f"2001:db8:3::{IID}", STATION), (B, A, 4, "2001:db8:4::9", PEER)):
            other = PEER_IID if router == B else IID
            run("ip", "route", "add", f"2001:db8:{route}::/64", "via", f"fe80::{other}", "dev",
                "eth0", ns=ns)
            run("ip", "route", "add", f"2001:db8:{route}::/64", "dev", "eth0", ns=router)
            run("ip", "-6", "neigh", "replace", host, "lladdr", mac, "dev", "eth0", ns=router)
        with Capture(path, "icmp6", most=16):
            for ns, router, host in ((A, B, f"2001:db8:3::{IID}"), (B, A, "2001:db8:4::9")):
                run("sysctl", "-w", "net.ipv6.conf.all.forwarding=1", ns=router)
                run("ping", "-c1", "-W1", host, ns=ns, check=False)
                run("sysctl", "-w", "net.ipv6.conf.all.forwarding=0", ns=router)


WAKE = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.bind(('10.9.0.2', 0))
s.sendto(b'\\xff' * 6 + bytes.fromhex('%s') * 16, ('10.9.0.255', 9))
"""


def wake(path):
    """Wake-on-LAN: etherwake's own type, and by UDP (a socket of this script's)."""
    with World() as w, Capture(path, "ether proto 0x0842 or udp port 9"):
        run("etherwake", "-i", "eth0", STATION, ns=B)
        python(B, WAKE % STATION.replace(":", ""))


SCENARIOS = [arp, ipv4, dhcp_plain, dhcp_windows, dhcp_duid_ll, dhcp_duid_llt, dhcp_udhcpc,
             dhcp_quoted, ipv6_start, ipv6, mld, dhcpv6_ll, dhcpv6_llt, redirect, wake]


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "mac_frames")
    for scenario in SCENARIOS:
        name = scenario.__name__.replace("_", "-")
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue
        path = folder / f"{name}.pcap"
        scenario(path)
        print(f"{path}: {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
