#!/usr/bin/env python3
"""Makes the frames that no stack at hand sends: make_frames.py [DIR]

For IPX there is no stack left in Linux, 802.1Q and 802.1ad were missing in the kernel
the other frames come from, and the rest needs servers or networks of other times. These
are laid out by hand from the documents named at each; the tagged ones are frames of
capture_frames.py with tags put in. Addresses as in capture_frames.py.
"""
import struct
import sys
from pathlib import Path

import pcap_file

STATION = bytes.fromhex("525400123456")
PEER = bytes.fromhex("525400fe0001")
ALL = b"\xff" * 6
LL_STATION = bytes.fromhex("fe80000000000000505400fffe123456")
LL_PEER = bytes.fromhex("fe80000000000000505400fffefe0001")
IP_STATION, IP_PEER = bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2])


def be16(value):
    return struct.pack(">H", value)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return be16(~total & 0xffff)


def ether(to, source, kind, body):
    return (to + source + be16(kind) + body).ljust(60, b"\0")


def udp(source, to, ports, body):
    head = be16(ports[0]) + be16(ports[1]) + be16(8 + len(body))
    pseudo = source + to + (be16(17) if len(source) == 4 else b"\0\0\0\x11") + head[4:6]
    return head + checksum(pseudo + head + b"\0\0" + body) + body  # none of these is 0


def ipv4(source, to, proto, body):
    head = be16(0x4500) + be16(20 + len(body)) + be16(7) + be16(0) + bytes([64, proto])
    return head + checksum(head + b"\0\0" + source + to) + source + to + body


def ipv6(source, to, proto, body):
    return be16(0x6000) + be16(0) + be16(len(body)) + bytes([proto, 64]) + source + to + body


def llc(to, source, body):
    """IEEE 802.3 with length."""
    return ether(to, source, len(body), body)


def vlan(folder):
    """802.1Q (8100) and 802.1ad (88a8): tag type, then priority and identifier."""
    for name in ("arp", "ipv4", "ipv6", "dhcp-windows"):
        for frame in pcap_file.read(folder / f"{name}.pcap")[:4]:
            for tags in ("81000005", "88a8000781000009"):
                yield frame[:12] + bytes.fromhex(tags) + frame[12:]


def ipx_packet(to, source, sockets, body, with_sum=False):
    """Novell, IPX Router Specification: sum, length, hops, type, net, node, socket twice."""
    rest = (be16(30 + len(body)) + b"\0\x04" + b"\0\0\0\1" + to + be16(sockets[0]) +
            b"\0\0\0\1" + source + be16(sockets[1]) + body)
    return (checksum(rest) if with_sum else b"\xff\xff") + rest


def ipx(folder):
    """The four framings of IPX (RFC 1132 has the 802.2 ones), SAP, and a checksum."""
    sap = (be16(2) + be16(4) + b"SERVER".ljust(48, b"\0") + b"\0\0\0\1" + STATION +
           be16(0x451) + be16(1))
    for to, source in ((PEER, STATION), (STATION, PEER), (ALL, STATION), (ALL, PEER)):
        packet = ipx_packet(to, source, (0x4000, 0x4001), b"payload!")
        yield ether(to, source, 0x8137, packet)
        yield llc(to, source, packet)
        yield llc(to, source, b"\xe0\xe0\3" + packet)
        yield llc(to, source, bytes.fromhex("aaaa030000008137") + packet)
        yield ether(to, source, 0x8137, ipx_packet(to, source, (0x452, 0x452), sap))
        yield ether(to, source, 0x8137, ipx_packet(to, source, (1, 2), b"even", True))


def rarp(folder):
    """RFC 903: request and answer."""
    for op, to, source in ((3, ALL, STATION), (4, STATION, PEER)):
        yield ether(to, source, 0x8035, be16(1) + be16(0x800) + b"\6\4" + be16(op) + source +
                    IP_PEER + STATION + IP_STATION)


def aarp(folder):
    """Inside AppleTalk, chapter 2: request and answer, in SNAP."""
    for op, to, source in ((1, bytes.fromhex("090007ffffff"), STATION), (2, STATION, PEER)):
        yield llc(to, source, bytes.fromhex("aaaa0300000080f3") + be16(1) + be16(0x809b) +
                  b"\6\4" + be16(op) + source + b"\0\1\2\3" + (to if op == 2 else b"\0" * 6) +
                  b"\0\1\2\4")


def lldp(folder):
    """IEEE 802.1AB: chassis and port by MAC address, time to live, an IPv6 address, end."""
    for source, address in ((STATION, LL_STATION), (PEER, LL_PEER)):
        tlv = [(1, b"\4" + source), (2, b"\3" + source), (3, be16(120)),
               (8, b"\x11\2" + address + b"\2\0\0\0\1\0"), (0, b"")]
        yield ether(bytes.fromhex("0180c200000e"), source, 0x88cc,
                    b"".join(be16(kind << 9 | len(data)) + data for kind, data in tlv))


def nbstat(folder):
    """RFC 1002, 4.2.18: the answer to a node status request."""
    name = b"\x20" + b"CK" + b"A" * 30 + b"\0"
    for source, to, mine, theirs in ((STATION, PEER, IP_STATION, IP_PEER),
                                     (PEER, STATION, IP_PEER, IP_STATION)):
        data = b"\1" + b"STATION".ljust(15) + b"\0" + be16(0x400) + source + b"\0" * 40
        body = (be16(9) + be16(0x8400) + be16(0) + be16(1) + be16(0) + be16(0) + name +
                be16(0x21) + be16(1) + b"\0" * 4 + be16(len(data)) + data)
        yield ether(to, source, 0x800, ipv4(mine, theirs, 17, udp(mine, theirs, (137, 137), body)))


def bootp(op, sname, file, options):
    return (bytes([op, 1, 6, 0]) + b"XID!" + b"\0" * 20 + STATION + b"\0" * 10 +
            sname.ljust(64, b"\0") + file.ljust(128, b"\0") + bytes.fromhex("63825363") + options)


def dhcp_overload(folder):
    """RFC 2132, 9.3 and RFC 3396: the identifier in three pieces, in options, file, sname;
    and once in file only, at an odd offset."""
    identifier = b"\1" + STATION
    pieces = [bytes([61, len(part)]) + part for part in
              (identifier[:2], identifier[2:5], identifier[5:])]
    for op, to, source in ((1, ALL, STATION), (2, STATION, PEER)):
        mine, theirs = (IP_STATION, IP_PEER) if op == 1 else (IP_PEER, IP_STATION)
        for body in (bootp(op, pieces[2] + b"\xff", pieces[1] + b"\xff",
                           bytes([53, 1, op, 52, 1, 3]) + pieces[0] + b"\xff"),
                     bootp(op, b"", b"\0" + bytes([61, 7]) + identifier + b"\xff",
                           bytes([53, 1, op, 52, 1, 1, 255]))):
            yield ether(to, source, 0x800, ipv4(mine, theirs, 17, udp(
                mine, theirs, (68, 67) if op == 1 else (67, 68), body)))


def dhcpv6_relay(folder):
    """RFC 8415, 9 and RFC 6939: what a relay agent says of the station, and the answer."""
    def option(code, data):
        return be16(code) + be16(len(data)) + data

    duid = be16(3) + be16(1) + STATION
    ia = option(3, STATION[2:] + b"\0" * 8 + option(5, b"\x20\1\x0d\xb8" + b"\0" * 4 +
                                                  LL_STATION[8:] + b"\0" * 8))
    inner = b"\1XID" + option(1, duid) + ia
    link = bytes.fromhex("20010db8000000000000000000000001")
    for to, source, kind in ((PEER, STATION, 12), (STATION, PEER, 13)):
        body = (bytes([kind, 0]) + link + LL_STATION + option(79, be16(1) + STATION) +
                option(9, inner))
        mine, theirs = (LL_STATION, LL_PEER) if kind == 12 else (LL_PEER, LL_STATION)
        yield ether(to, source, 0x86dd, ipv6(mine, theirs, 17, udp(mine, theirs, (547, 547), body)))


def routing(folder):
    """RFC 8754 and RFC 6275: the checksum has the last stop's address, not the next one's."""
    # Segments are listed backwards; a mobile node's home is the only stop of its kind.
    body = udp(LL_PEER, LL_STATION, (4000, 4000), b"payload")
    segments = bytes([1, 0, 0, 0]) + LL_STATION + LL_PEER
    for to, head in ((LL_STATION, bytes([17, 4, 4, 0]) + segments),
                     (LL_PEER, bytes([17, 4, 4, 1]) + segments),
                     (LL_PEER, bytes([17, 2, 2, 1, 0, 0, 0, 0]) + LL_STATION)):
        yield ether(STATION, PEER, 0x86dd, ipv6(LL_PEER, to, 43, head + body))


MAKERS = [vlan, ipx, rarp, aarp, lldp, nbstat, dhcp_overload, dhcpv6_relay, routing]


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "mac_frames")
    for maker in MAKERS:
        name = "made-" + maker.__name__.replace("_", "-")
        pcap_file.write(folder / f"{name}.pcap", list(maker(folder)))


if __name__ == "__main__":
    main()
