#!/usr/bin/env python3
"""The IPv4 translator against tshark: test_ip_frames.py TRANSLATE_PCAP

Every frame of ip_frames/ and mac_frames/ is translated. What should have changed is
worked out from tshark's dissection of the original: each field of four bytes that holds
the old address. All other bytes must be as they were, but for checksums; those tshark
must find good, and those inside of quotes, which tshark does not check, this program.
"""
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import pcap_file
from test_mac_frames import APART, dissect, faults_of, good_sums, translate

STATION = "52:54:00:12:34:56"
# The station, its lease, a stop of a source route, and the peer: a swap knows no sides.
# Some of the new addresses make carries and borrows of every kind in the sums.
PAIRS = [("10.9.0.1", "10.9.0.23"), ("10.9.0.50", "223.255.255.254"), ("10.9.0.3", "1.0.0.1"),
         ("10.9.0.2", "10.9.255.255"), ("10.9.0.1", "10.254.255.254")]

# Fields that must be among the translated ones: so no row is empty.
ROWS = {
    "arp": "arp.src.proto_ipv4 arp.dst.proto_ipv4",
    "ipv4": "ip.src ip.dst ip.rec_rt",
    "dhcp-renew": "ip.src ip.dst dhcp.ip.client dhcp.ip.your dhcp.option.requested_ip_address "
                  "dhcp.option.dhcp_server_id dhcp.option.domain_name_server",
    "dhcp-windows": "dhcp.ip.your dhcp.option.requested_ip_address dhcp.option.router",
    "dhcp-quoted": "ip.src ip.dst dhcp.ip.client",
    "ip-options": "ip.src ip.dst ip.rec_rt ip.opt.time_stamp_addr",
    "ip-fragments": "ip.src ip.dst",
    "ip-errors": "ip.src ip.dst icmp.redir_gw",
    "made-netbios": "ip.src nbns.addr nbdgm.src.ip",
    "made-vlan": "arp.src.proto_ipv4 ip.src dhcp.option.dhcp_server_id",
    "made-rarp": "arp.dst.proto_ipv4",
}


def address(text):
    return bytes(int(part) for part in text.split("."))


def total(data):
    data += b"\0" * (len(data) % 2)
    value = sum(struct.unpack(f">{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xffff) + (value >> 16)
    return value


def quote_of(frame):
    """What an ICMP error without VLAN tags quotes, or nothing."""
    if frame[12:14] != b"\x08\0" or frame[23] != 1 or frame[20] & 0x1f or frame[21]:
        return b""
    icmp = frame[14 + 4 * (frame[14] & 15):14 + int.from_bytes(frame[16:18], "big")]
    return icmp[8:] if icmp[0] in (3, 5, 11) else b""


def quote_sums(packet):
    """The sums of a quoted packet: header, and payload if all of it is there. ffff is good."""
    if not packet:
        return ()
    head, size, proto = 4 * (packet[0] & 15), int.from_bytes(packet[2:4], "big"), packet[9]
    payload, fragment = packet[head:size], int.from_bytes(packet[6:8], "big") & 0x3fff
    if size > len(packet) or fragment or (proto == 17 and payload[6:8] == b"\0\0"):
        return (total(packet[:head]),)
    pseudo = packet[12:20] + struct.pack(">HH", proto, len(payload)) if proto != 1 else b""
    return total(packet[:head]), total(pseudo + payload)


def expected(frame, packet, old, new):
    """The frame after translation, the positions of checksums, the names of what changed."""
    out, sums, names = bytearray(frame), set(), set()
    for field in packet.iter("field"):
        name, pos, size = field.get("name"), int(field.get("pos", 0)), int(field.get("size", 0))
        if size == 4 and frame[pos:pos + 4] == old:
            out[pos:pos + 4] = new
            names.add(name)
        elif name.endswith("checksum") and size == 2:
            sums |= {pos, pos + 1}
    return out, sums, names


class Originals:
    """All frames of all files in one, so that tshark starts only a few times."""

    def __init__(self, temp):
        self.frames, self.names = [], []
        here = Path(__file__).parent
        for path in sorted([*(here / "mac_frames").glob("*.pcap"),
                            *(here / "ip_frames").glob("*.pcap")]):
            for number, frame in enumerate(pcap_file.read(path), 1):
                self.frames.append(frame)
                self.names.append((path.stem, number))
        self.path = temp / "originals.pcap"
        pcap_file.write(self.path, self.frames)
        self.packets = dissect(self.path, APART)
        whole = dissect(self.path, [])
        self.good, self.faults = good_sums(whole), [list(faults_of(packet)) for packet in whole]


def check(program, originals, pair, temp, seen):
    old, new, path = address(pair[0]), address(pair[1]), temp / "translated.pcap"
    counters = translate(program, STATION, originals.path, path, ":".join(pair))
    after = pcap_file.read(path)
    if len(after) != len(originals.frames):
        yield f"{len(originals.frames)} frames became {len(after)}"
        return
    if not counters.get("translate-ip.translated-to-wire"):
        yield "nothing was translated on the way to the wire"
    quotes = 0
    for (stem, number), packet, was, now in zip(originals.names, originals.packets,
                                                originals.frames, after):
        want, sums, names = expected(was, packet, old, new)
        seen.setdefault(stem, set()).update(names)
        wrong = [i for i in range(len(want)) if want[i] != now[i] and i not in sums]
        if wrong or len(want) != len(now):
            yield (f"{stem}, frame {number}: {len(wrong)} bytes are wrong, the first at {wrong[:1]}, "
                   f"{len(want)} bytes became {len(now)}")
            continue
        before = quote_sums(quote_of(was))
        quotes += len(before)
        if quote_sums(quote_of(now)) != before:
            yield f"{stem}, frame {number}: the quoted packet has a bad checksum"
    if quotes < 30:
        yield f"only {quotes} checksums were in quotes"
    whole = dissect(path, [])
    for (stem, number), packet, faults in zip(originals.names, whole, originals.faults):
        for fault in set(faults_of(packet)) - set(faults):
            yield f"{stem}, frame {number} {fault}"
    if good_sums(whole) != originals.good:
        yield f"{good_sums(whole)} good checksums, {originals.good} before"
    translate(program, STATION, path, temp / "twice.pcap", ":".join(pair))
    for (stem, number), was, now in zip(originals.names, originals.frames,
                                        pcap_file.read(temp / "twice.pcap")):
        if was != now:
            yield f"{stem}, frame {number}: translated twice it is another"


def main():
    if not shutil.which("tshark"):
        print("SKIP: tshark is not installed")
        return 77
    failures, seen = [], {}
    with tempfile.TemporaryDirectory(prefix="ip-frames-") as temp:
        originals = Originals(Path(temp))
        for pair in PAIRS:
            failures += [f"{pair[0]} as {pair[1]}: {fault}" for fault in
                         check(sys.argv[1], originals, pair, Path(temp), seen)]
    if "--show" in sys.argv:
        print("\n".join(f"{stem}: {' '.join(sorted(names))}" for stem, names in seen.items()))
    for stem, must in ROWS.items():
        missing = set(must.split()) - seen.get(stem, set())
        if missing:
            failures.append(f"{stem}: no frame with {missing}")
    failures += [f"{stem}: is not among the frames, or in no row" for stem in
                 {stem for stem, names in seen.items() if names} - set(ROWS)
                 if not stem.startswith(("dhcp-", "wake", "made-"))]
    print("\n".join(failures + [f"{len(originals.frames)} frames, {originals.good} checksums, "
                                f"{len(failures)} failures"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
