#!/usr/bin/env python3
"""The MAC translator against tshark: test_mac_frames.py TRANSLATE_PCAP

Every frame of mac_frames/ is translated, in the direction it was seen in. What should
have changed is worked out from tshark's dissection of the original: each field that
holds the station's address, an IPv6 address or group made from it, or an IAID made from
it. All other bytes must be as they were, but for checksums, and those tshark must find
good. Nothing may be malformed.
"""
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pcap_file

STATION = bytes.fromhex("525400123456")
# The last two make carries and borrows of every kind in the sums.
NEWS = ["02:aa:bb:cc:dd:ee", "fe:fe:ff:ff:fe:ff", "02:00:00:00:00:01"]
TSHARK = ["tshark", "-n", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
          "-o", "tcp.check_checksum:TRUE"]
APART = ["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]

# Fields that must be among the translated ones, so that no row is empty: file, then
# names for frames to the wire, names for frames to the guest.
ROWS = {
    "arp": ("eth.src arp.src.hw_mac arp.dst.hw_mac", "eth.dst arp.dst.hw_mac"),
    "ipv4": ("eth.src", "eth.dst"),
    "dhcp-plain": ("dhcp.hw.mac_addr", "dhcp.hw.mac_addr"),
    "dhcp-windows": ("dhcp.hw.mac_addr", "dhcp.hw.mac_addr"),
    "dhcp-udhcpc": ("dhcp.hw.mac_addr", "dhcp.hw.mac_addr"),
    "dhcp-duid-ll": ("dhcp.hw.mac_addr dhcp.client_id.iaid dhcp.client_id.link_layer_address",
                     "dhcp.hw.mac_addr"),
    "dhcp-duid-llt": ("dhcp.hw.mac_addr dhcp.client_id.iaid dhcp.client_id.link_layer_address",
                      "dhcp.hw.mac_addr"),
    "dhcp-quoted": ("dhcp.hw.mac_addr", "dhcp.hw.mac_addr"),
    "ipv6-start": ("eth.src eth.dst ipv6.src ipv6.dst icmpv6.nd.ns.target_address "
                   "icmpv6.nd.na.target_address icmpv6.opt.src_linkaddr "
                   "icmpv6.opt.target_linkaddr icmpv6.mldr.mar.multicast_address",
                   "eth.dst ipv6.dst icmpv6.nd.ns.target_address"),
    "ipv6": ("ipv6.src ipv6.dst icmpv6.nd.na.target_address icmpv6.opt.src_linkaddr "
             "icmpv6.opt.target_linkaddr",
             "ipv6.src ipv6.dst icmpv6.nd.ns.target_address"),
    "mld": ("eth.dst ipv6.dst icmpv6.mld.multicast_address icmpv6.mldr.mar.multicast_address",
            "eth.dst ipv6.dst icmpv6.mld.multicast_address"),
    "dhcpv6-ll": ("ipv6.src dhcpv6.iaid dhcpv6.duidll.link_layer_addr",
                  "ipv6.dst dhcpv6.iaid dhcpv6.duidll.link_layer_addr"),
    "dhcpv6-llt": ("ipv6.src dhcpv6.iaid dhcpv6.duidllt.link_layer_addr",
                   "ipv6.dst dhcpv6.iaid dhcpv6.duidllt.link_layer_addr"),
    "redirect": ("ipv6.src ipv6.dst",
                 "icmpv6.nd.rd.target_address icmpv6.rd.na.destination_address "
                 "icmpv6.opt.target_linkaddr ipv6.src ipv6.dst"),
    "wake": ("", "eth.dst wol.mac"),
    "made-vlan": ("arp.src.hw_mac dhcp.hw.mac_addr icmpv6.opt.src_linkaddr ipv6.src",
                  "arp.dst.hw_mac dhcp.hw.mac_addr ipv6.dst"),
    "made-ipx": ("ipx.src.node ipxsap.server.node", "ipx.dst.node ipxsap.server.node"),
    "made-rarp": ("arp.src.hw_mac arp.dst.hw_mac", "arp.dst.hw_mac"),
    "made-aarp": ("aarp.src.hw_mac", "aarp.dst.hw_mac"),
    "made-lldp": ("lldp.chassis.id.mac lldp.port.id.mac lldp.mgn.addr.ip6", ""),
    "made-nbstat": ("nbns.unit_id", "eth.dst"),
    "made-dhcp-overload": ("dhcp.hw.mac_addr", "dhcp.hw.mac_addr"),
    "made-dhcpv6-relay": ("dhcpv6.peeraddr dhcpv6.iaaddr.ip dhcpv6.duidll.link_layer_addr",
                          "dhcpv6.peeraddr dhcpv6.iaaddr.ip dhcpv6.duidll.link_layer_addr"),
    "made-routing": ("", "ipv6.dst ipv6.routing.srh.addr ipv6.routing.mipv6.home_address"),
}

# What tshark does not show as an address: (byte, which byte of the address) by frame.
# An identifier in three options, and the client link-layer address of RFC 6939.
PIECES = [(291, 0), (152, 1), (153, 2), (154, 3), (88, 4), (89, 5)]
LINK_LAYER = [(102 + i, i) for i in range(6)]
UNSEEN = {
    ("made-dhcp-overload", 1): PIECES, ("made-dhcp-overload", 3): PIECES,
    ("made-dhcpv6-relay", 1): LINK_LAYER, ("made-dhcpv6-relay", 2): LINK_LAYER,
}


def eui(mac):
    return bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def dissect(path, options):
    result = subprocess.run([*TSHARK, *options, "-r", path, "-T", "pdml"], check=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    return list(ET.fromstring(result.stdout).iter("packet"))


def expected(frame, packet, new):
    """The frame after translation, the positions of checksums, the names of what changed."""
    out, sums, names = bytearray(frame), set(), set()
    group = b"\xff\2" + b"\0" * 9 + b"\1\xff" + STATION[3:]

    def change(pos, bytes_, name):
        out[pos:pos + len(bytes_)] = bytes_
        names.add(name)

    for field in packet.iter("field"):
        name, pos, size = field.get("name"), int(field.get("pos", 0)), int(field.get("size", 0))
        raw = frame[pos:pos + size]
        if raw == STATION:
            change(pos, new, name)
        elif name == "eth.dst" and raw == b"\x33\x33\xff" + STATION[3:]:
            change(pos + 3, new[3:], name)
        elif size == 16 and raw == group:
            change(pos + 13, new[3:], name)
        elif size == 16 and raw[0] != 0xff and raw[8:] == eui(STATION):
            change(pos + 8, eui(new), name)
        elif "iaid" in name and raw == STATION[2:]:
            change(pos, new[2:], name)
        elif name.endswith("checksum") and size == 2:
            sums |= {pos, pos + 1}
    return out, sums, names


def faults_of(packet):
    for proto in packet.iter("proto"):
        if proto.get("name") == "_ws.malformed":
            yield "is malformed"
    for field in packet.iter("field"):
        if field.get("name", "").endswith("checksum.status") and field.get("show") == "0":
            yield f"has a bad {field.get('name')[:-7]}"


def good_sums(packets):
    return sum(1 for packet in packets for field in packet.iter("field")
               if field.get("name", "").endswith("checksum.status") and field.get("show") == "1")


def translate(program, new_text, source, target, *ip_pair):
    """Runs the translator; returns its counters."""
    station = ":".join(f"{byte:02x}" for byte in STATION)
    text = subprocess.run([program, station, new_text, source, target, *ip_pair], check=True,
                          stdout=subprocess.PIPE, text=True, timeout=60).stdout
    return dict(line.split() for line in text.splitlines())


class Originals:
    """All frames of all files in one, so that tshark starts only a few times."""

    def __init__(self, temp):
        self.frames, self.names = [], []
        for path in sorted((Path(__file__).parent / "mac_frames").glob("*.pcap")):
            for number, frame in enumerate(pcap_file.read(path), 1):
                self.frames.append(frame)
                self.names.append((path.stem, number))
        self.path = temp / "originals.pcap"
        pcap_file.write(self.path, self.frames)
        self.packets = dissect(self.path, APART)
        self.good = good_sums(dissect(self.path, []))


def check(program, originals, new_text, temp, seen):
    new, path = bytes.fromhex(new_text.replace(":", "")), temp / "translated.pcap"
    counters = translate(program, new_text, originals.path, path)
    after = pcap_file.read(path)
    if len(after) != len(originals.frames):
        yield f"{len(originals.frames)} frames became {len(after)}"
        return
    for name, value in counters.items():
        if name.startswith(("translate.drop", "translate.leak", "translate.foreign")):
            yield f"counter {name} is {value}"
    for (stem, number), packet, old, now in zip(originals.names, originals.packets,
                                                originals.frames, after):
        want, sums, names = expected(old, packet, new)
        for pos, index in UNSEEN.get((stem, number), ()):
            want[pos] = new[index]
        seen.setdefault((stem, old[6:12] == STATION), set()).update(names)
        if len(want) != len(now):
            yield f"{stem}, frame {number}: {len(want)} bytes became {len(now)}"
            continue
        wrong = [i for i in range(len(want)) if want[i] != now[i] and i not in sums]
        if wrong:
            yield (f"{stem}, frame {number}: byte {wrong[0]} is {now[wrong[0]]:02x}, expected "
                   f"{want[wrong[0]]:02x} ({len(wrong)} such bytes)")
        if STATION in now or eui(STATION) in now:
            yield f"{stem}, frame {number} still has the station's address"
    whole = dissect(path, [])
    for (stem, number), packet in zip(originals.names, whole):
        for fault in faults_of(packet):
            yield f"{stem}, frame {number} {fault}"
    if good_sums(whole) != originals.good:
        yield f"{good_sums(whole)} good checksums, {originals.good} before"


def empty_rows(seen):
    for stem, rows in ROWS.items():
        for to_wire, must in zip((True, False), rows):
            missing = set(must.split()) - seen.get((stem, to_wire), set())
            if missing:
                yield f"{stem}: no frame to the {'wire' if to_wire else 'guest'} with {missing}"
    for stem in {stem for stem, _ in seen} - set(ROWS):
        yield f"{stem} is in no row"


def main():
    if not shutil.which("tshark"):
        print("SKIP: tshark is not installed")
        return 77
    failures, seen = [], {}
    with tempfile.TemporaryDirectory(prefix="mac-frames-") as temp:
        originals = Originals(Path(temp))
        for new in NEWS:
            failures += [f"as {new}: {fault}" for fault in
                         check(sys.argv[1], originals, new, Path(temp), seen)]
    if "--show" in sys.argv:
        print("\n".join(f"{key}: {' '.join(sorted(names))}" for key, names in seen.items()))
    failures += empty_rows(seen)
    print("\n".join(failures + [f"{len(originals.frames)} frames, {originals.good} checksums, "
                                f"{len(failures)} failures"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
