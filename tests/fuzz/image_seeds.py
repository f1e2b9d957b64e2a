#!/usr/bin/env python3
"""Seeds for fuzz-image: image_seeds.py DIR. Small images of every kind."""
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "state"))
from image import BOOL, BYTES, PAGE, SPARSE, TIMER, UINT, ZSTD, Field, Section, encode_fields, xxh3  # noqa: E402


def build(sections):
    at = 64 + 96 * len(sections)
    table, body, start = b"", b"", at
    for s, stored in sections:
        align = PAGE if s.flags & SPARSE else 8
        at = (at + align - 1) // align * align
        body = body.ljust(at - start, b"\0") + stored
        table += s.name.encode().ljust(48, b"\0") + struct.pack(
            "<IIQQQQQ", s.version, s.flags, at, len(stored), s.length,
            0 if s.flags & SPARSE else xxh3(stored), 0)
        at += len(stored)
    header = b"GANNETST" + struct.pack("<IIQQ24x", 1, len(sections), at, xxh3(table))
    return b"\1" + header + struct.pack("<Q", xxh3(header)) + table + body


def plain(name, data):
    return Section(name, 1, 0, data), data


def main(where):
    where.mkdir(parents=True, exist_ok=True)
    fields = encode_fields([
        Field("a", UINT, 1, 1, b"\5"), Field("array", UINT, 4, 3, bytes(12)), Field("on", BOOL, 1, 1, b"\1"),
        Field("bytes", BYTES, 1, 5, b"hello"), Field("timer", TIMER, 16, 1, struct.pack("<QQ", 1, 5))])
    page = bytes(range(256)) * 16
    extent = struct.pack("<QQQ", 1, 1, xxh3(page))
    # RFC 8878: a frame with one raw block of a page.
    frame = b"\x28\xb5\x2f\xfd\x60" + struct.pack("<H", PAGE - 256) + \
        struct.pack("<I", 1 | PAGE << 3)[:3] + page
    seeds = {
        "config": build([plain("config", b"memory=1\n")]),
        "fields": build([plain("config", b"memory=1\n"), plain("thing.0", fields)]),
        "raw": build([plain("ram.map", extent),
                      (Section("ram", 1, SPARSE, b"", 3 * PAGE), bytes(PAGE) + page + bytes(PAGE))]),
        "zstd": build([plain("ram.map", extent), (Section("ram", 1, SPARSE | ZSTD, b"", 3 * PAGE), frame)]),
    }
    for name, data in seeds.items():
        (where / name).write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
