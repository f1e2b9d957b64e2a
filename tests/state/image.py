"""State images read and written as docs/state-format.md says, without any of our C code.

Checksums come from Debian's xxhsum (or the python3-xxhash package if it is there).
Compressed sections are left alone.
"""
import shutil
import struct
import subprocess
from pathlib import Path

MAGIC = b"GANNETST"
HEADER = 64
ENTRY = 96
PAGE = 4096
OPTIONAL, ZSTD, SPARSE = 1, 2, 4
UINT, BOOL, BYTES, TIMER = 1, 2, 3, 4

try:
    import xxhash

    def xxh3(data):
        return xxhash.xxh3_64_intdigest(bytes(data))
except ImportError:
    def xxh3(data):
        out = subprocess.run(["xxhsum", "-H3", "-"], input=bytes(data), capture_output=True, check=True)
        # "XXH3 (stdin) = 1234..." or "XXH3_1234...  stdin", by its version
        words = out.stdout.decode().replace("XXH3_", " ").split()
        return next(int(w, 16) for w in words if len(w) == 16)


def have_xxh3():
    try:
        return xxh3(b"") == 0x2d06800538d394c2  # published test vector
    except OSError:
        return False


class Field:
    """A record: name, type, size of an element, count, and the bytes."""

    def __init__(self, name, kind, size, count, data):
        self.name, self.kind, self.size, self.count, self.data = name, kind, size, count, data

    def get(self, n=0):
        return int.from_bytes(self.data[n * self.size:(n + 1) * self.size], "little")

    def set(self, value, n=0):
        data = bytearray(self.data)
        data[n * self.size:(n + 1) * self.size] = value.to_bytes(self.size, "little")
        self.data = bytes(data)

    def encode(self):
        name = self.name.encode()
        return struct.pack("<BBHI", len(name), self.kind, self.size, self.count) + name + self.data


def decode_fields(data):
    fields, at = [], 0
    while at < len(data):
        length, kind, size, count = struct.unpack_from("<BBHI", data, at)
        name = data[at + 8:at + 8 + length].decode("ascii")
        at += 8 + length
        fields.append(Field(name, kind, size, count, data[at:at + size * count]))
        assert len(fields[-1].data) == size * count, f"{name} is cut"
        at += size * count
    return fields


def encode_fields(fields):
    return b"".join(f.encode() for f in fields)


class Section:
    def __init__(self, name, version=1, flags=0, data=b"", length=None):
        self.name, self.version, self.flags, self.data = name, version, flags, data
        self.length = len(data) if length is None else length  # sparse: without what follows
        self.offset = 0
        self.source = None   # sparse: (path, offset, stored) in the file it came from
        self.xxh3 = None     # None: compute

    def fields(self):
        return decode_fields(self.data)


class Image:
    def __init__(self, path=None):
        self.sections = []
        if path:
            self.read(path)

    def read(self, path):
        with open(path, "rb") as f:
            header = f.read(HEADER)
            magic, version, count, size, table_hash = struct.unpack_from("<8sIIQQ", header)
            assert magic == MAGIC and version == 1
            assert xxh3(header[:56]) == struct.unpack_from("<Q", header, 56)[0]
            table = f.read(count * ENTRY)
            assert xxh3(table) == table_hash and size == Path(path).stat().st_size
            for i in range(count):
                e = table[i * ENTRY:(i + 1) * ENTRY]
                name = e[:48].rstrip(b"\0").decode("ascii")
                version, flags, offset, stored, length, digest, _ = struct.unpack("<IIQQQQQ", e[48:])
                s = Section(name, version, flags, b"", length)
                s.offset = offset
                if flags & SPARSE:
                    s.source = (path, offset, stored)
                else:
                    f.seek(offset)
                    s.data = f.read(length)
                    assert xxh3(s.data) == digest, name
                self.sections.append(s)

    def __getitem__(self, name):
        return next(s for s in self.sections if s.name == name)

    def get(self, section, field, n=0):
        return next(f for f in self[section].fields() if f.name == field).get(n)

    def set(self, section, field, value, n=0):
        """A field's value, in range or not."""
        fields = self[section].fields()
        next(f for f in fields if f.name == field).set(value, n)
        self.set_fields(section, fields)

    def set_fields(self, section, fields):
        s = self[section]
        s.data = encode_fields(fields)
        s.length = len(s.data)

    def front(self):
        """Header, table and plain sections; where the sparse ones go and what they are."""
        at = HEADER + ENTRY * len(self.sections)
        body, sparse, table = bytearray(), [], b""
        start = at
        for s in self.sections:
            align = PAGE if s.flags & SPARSE else 8
            at = (at + align - 1) // align * align
            s.offset = at
            if s.flags & SPARSE:
                sparse.append((at, s))
                stored, digest = s.source[2], 0
            else:
                stored = len(s.data)
                digest = xxh3(s.data) if s.xxh3 is None else s.xxh3
                if sparse:
                    raise NotImplementedError("plain behind sparse")
                body.extend(b"\0" * (at - start - len(body)) + s.data)
            at += stored
            table += s.name.encode().ljust(48, b"\0") + struct.pack(
                "<IIQQQQQ", s.version, s.flags, s.offset, stored, s.length, digest, 0)
        header = MAGIC + struct.pack("<IIQQ24x", 1, len(self.sections), at, xxh3(table))
        header += struct.pack("<Q", xxh3(header))
        return header + table + bytes(body), sparse, at

    def write(self, path):
        front, sparse, size = self.front()
        with open(path, "wb") as f:
            f.write(front)
            for at, s in sparse:
                source, offset, stored = s.source
                f.flush()
                copy_with_holes(source, offset, f.name, at, stored)
            f.truncate(size)


def copy_with_holes(source, offset, target, at, size):
    """Only what is not a hole, so that hundreds of images take no room."""
    import os
    a, b = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY)
    try:
        pos, end = offset, offset + size
        while pos < end:
            try:
                data = os.lseek(a, pos, os.SEEK_DATA)
            except OSError:
                break
            if data >= end:
                break
            hole = min(os.lseek(a, data, os.SEEK_HOLE), end)
            where = data
            while where < hole:
                n = os.copy_file_range(a, b, min(hole - where, 1 << 24), where, at + where - offset)
                if n == 0:
                    raise OSError("short copy")
                where += n
            pos = hole
    finally:
        os.close(a)
        os.close(b)


def need():
    """A reason to skip, or None."""
    if have_xxh3():
        return None
    return "xxhsum is missing" if not shutil.which("xxhsum") else "xxhsum has no XXH3"
