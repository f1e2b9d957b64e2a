#!/usr/bin/env python3
"""gannet --restore given images that are damaged, or made to do harm.

    hostile.py GANNET [TEST...] [--seed=N] [--rounds=N]

Each is refused with exit code 2 and one line that names section and field, within the
memory that its configuration allows; or, if all values are possible ones, the machine
runs, whatever its guest makes of it, and ends when told to. Nothing crashes or hangs.
"""
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import image
from image import BOOL, BYTES, TIMER, UINT, Field, Image, Section, decode_fields, encode_fields
from saved import BUSY, Failure, Skip, main, make

LIMIT = 4 << 30  # address space of a process that has to refuse


class World:
    def __init__(self, program, seed, rounds):
        self.program = str(Path(program).resolve())
        self.dir = Path(tempfile.mkdtemp(prefix="gannet-hostile-"))
        self.whole = self.dir / "whole.img"   # with all its memory
        self.small = self.dir / "small.img"   # none of its pages is there
        self.path = self.dir / "bad.img"
        self.random = random.Random(seed)
        self.rounds = rounds
        self.sanitized = b"__asan_init" in Path(program).read_bytes()

    def prepare(self):
        reason = image.need()
        if reason:
            raise Skip(reason)
        make(self.program, self.whole)
        small = Image(self.whole)
        ram = small["ram"]
        small["ram.map"].data = b""
        small["ram.map"].length = 0
        with open(self.dir / "zero", "wb") as f:
            f.truncate(ram.length)
        ram.source = (self.dir / "zero", 0, ram.length)
        small.write(self.small)

    def start(self, path, *args):
        def limit():
            if not self.sanitized:
                resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return subprocess.Popen([self.program, "--restore", str(path), "-nographic", *args],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, preexec_fn=limit)

    def refused(self, *words, path=None, args=(), what=""):
        """Exit code 2, one line with all these words; returns the line."""
        process = self.start(path or self.path, *args)
        try:
            _, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Failure(f"{what}: it was not refused, or too slowly") from None
        text = err.decode(errors="replace")
        if process.returncode != 2:
            raise Failure(f"{what}: exit code {process.returncode}: {text[:3000]}")
        lines = text.splitlines()
        if len(lines) != 1 or not lines[0].startswith("gannet: "):
            raise Failure(f"{what}: not one line: {text[:3000]}")
        for word in words:
            if word not in lines[0]:
                raise Failure(f"{what}: {word!r} is not in: {lines[0]}")
        return lines[0]

    def runs(self, path, seconds, what, *args):
        """The machine runs and ends when told to; or its odd values are refused: that line."""
        process = self.start(path, *args)
        # A second thread, that for signals, means that the machine was made.
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if len(os.listdir(f"/proc/{process.pid}/task")) > 1:
                break
            time.sleep(0.01)
        try:
            _, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                _, err = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)
                process.communicate()
                raise Failure(f"{what}: it does not end when told to") from None
        text = err.decode(errors="replace")
        if process.returncode < 0 or process.returncode not in (0, 1, 2) or "Sanitizer" in text \
                or "runtime error" in text:
            raise Failure(f"{what}: exit code {process.returncode}: {text[:4000]}")
        return text if process.returncode == 2 else None

    # What a test changes, beginning with a good image.

    def good(self):
        return Image(self.small)

    def with_field(self, section, field, value, n=0):
        i = self.good()
        i.set(section, field, value, n)
        i.write(self.path)


def good(w):
    """Unchanged, both run; otherwise all that follows says nothing."""
    for path in (w.small, w.whole):
        line = w.runs(path, 0.5, path.name)
        if line:
            raise Failure(f"{path.name}: {line}")


# ---- the file ----

def truncated(w):
    i = Image(w.whole)
    size = w.whole.stat().st_size
    places = {0, 1, 63, 64, size - 1, size - 4096}
    for s in i.sections:
        end = s.offset + (s.source[2] if s.source else len(s.data))
        places |= {s.offset, s.offset - 1, s.offset + 1, end - 1}
    places |= {w.random.randrange(size) for _ in range(20)}
    shutil.copyfile(w.whole, w.path)
    for place in sorted(places - {size}, reverse=True):
        os.truncate(w.path, place)
        w.refused("cut short" if place >= 64 else "not a state image", what=f"cut at {place}")


def flipped(w):
    """Every byte of the header and of every entry, and some of each section."""
    good_bytes = w.small.read_bytes()[:1 << 19]
    i = Image(w.small)
    places = list(range(64)) + [64 + 96 * n + k for n in range(len(i.sections))
                                for k in (0, 47, 48, 52, 56, 64, 72, 80, 88)]
    for s in i.sections:
        if not s.flags & image.SPARSE:
            places += [s.offset + w.random.randrange(max(1, len(s.data)))] if s.data else []
    shutil.copyfile(w.small, w.path)
    with open(w.path, "r+b", buffering=0) as f:
        for place in places:
            f.seek(place)
            f.write(bytes([good_bytes[place] ^ 1 << w.random.randrange(8)]))
            w.refused(what=f"byte {place} flipped")
            f.seek(place)
            f.write(good_bytes[place:place + 1])


def pages_changed(w):
    """Memory itself, in a page that is there and in one that is not."""
    i = Image(w.whole)
    first, pages, _ = struct.unpack_from("<QQQ", i["ram.map"].data, 24)
    for page, word in ((first, "checksum of pages"), (first + pages, "not in the map")):
        shutil.copyfile(w.whole, w.path)
        with open(w.path, "r+b") as f:
            f.seek(i["ram"].offset + page * 4096 + 99)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 0x40]))
        w.refused("section ram", word, what=f"page {page}")


def patched_front(w, change, *words, what):
    """Bytes of header and table changed, with checksums that fit."""
    front = bytearray(w.small.read_bytes()[:1 << 19])
    change(front)
    count = min(struct.unpack_from("<I", front, 12)[0], 512)
    struct.pack_into("<Q", front, 24, image.xxh3(front[64:64 + 96 * count]))
    struct.pack_into("<Q", front, 56, image.xxh3(front[:56]))
    shutil.copyfile(w.small, w.path)
    with open(w.path, "r+b") as f:
        f.write(front)
    w.refused(*words, what=what)


def tables(w):
    """Huge lengths, overlaps, unknown flags, a newer version: as if somebody meant it."""
    names = [s.name for s in Image(w.small).sections]

    def put(section, at, kind, value):
        return lambda b: struct.pack_into("<" + kind, b, 64 + 96 * names.index(section) + at, value)

    cases = [
        (lambda b: struct.pack_into("<I", b, 8, 2), ("header", "version 2")),
        (lambda b: struct.pack_into("<I", b, 12, 0), ("header", "0 sections")),
        (lambda b: struct.pack_into("<I", b, 12, 0xffffffff), ("header", "4294967295 sections")),
        (lambda b: struct.pack_into("<Q", b, 16, 1 << 62), ("header", "cut short")),
        (lambda b: struct.pack_into("<Q", b, 40, 1), ("header", "reserved")),
        (put("cpu", 52, "I", 0x100), ("section cpu", "flags")),
        (put("cpu", 56, "Q", 0), ("section cpu", "offset")),
        (put("cpu", 64, "Q", 1 << 63), ("section cpu", "length")),
        (put("cpu", 72, "Q", 1 << 40), ("section cpu", "length")),
        (put("vga.0", 88, "Q", 1), ("section vga.0", "reserved")),
        (put("ram", 72, "Q", 1 << 60), ("section ram", "length")),
        (put("cpu", 0, "8s", b"machine"), ("section machine", "twice")),
        (put("cpu", 0, "4s", b"c u"), ("section table", "name")),
    ]
    for n, (change, words) in enumerate(cases):
        patched_front(w, change, *words, what=f"table {n}")


# ---- sections ----

def sections(w):
    """Missing, unknown, newer, empty, doubled, or of another kind."""
    for s in w.good().sections:
        if s.name in ("ram", "ram.map"):
            continue
        i = w.good()
        i.sections = [t for t in i.sections if t.name != s.name]
        i.write(w.path)
        if re.match(r"net\.\d+\.", s.name):
            # A stage of a card's path: an image from before there was that stage has none.
            if w.runs(w.path, 0.3, f"{s.name} missing"):
                raise Failure(f"{s.name}: an image without this stage was refused")
        else:
            w.refused(f"section {s.name}", what=f"{s.name} missing")
        i = w.good()
        i[s.name].version = 99
        i.write(w.path)
        w.refused(f"section {s.name}", "version 99", what=f"{s.name} newer")
        i = w.good()
        i[s.name].data, i[s.name].length = b"", 0
        i.write(w.path)
        w.refused(f"section {s.name}" if s.name != "config" else "config", what=f"{s.name} empty")
    for name in ("machine", "cpu", "vga.0", "net.0"):
        i = w.good()
        i[name].version = 0
        i.write(w.path)
        w.refused(f"section {name}", "version 0", what=f"{name} version 0")
    i = w.good()
    i.sections.insert(5, Section("warp-drive.0", 1, 0, b"antimatter"))
    i.write(w.path)
    w.refused("section warp-drive.0", "no such part", what="unknown section")
    i.sections[5].flags = image.OPTIONAL
    i.write(w.path)
    if w.runs(w.path, 0.3, "an optional unknown section"):
        raise Failure("an optional section was refused")
    i = w.good()
    i["ram"].length -= 4096
    i["ram"].source = (i["ram"].source[0], i["ram"].source[1], i["ram"].length)
    i.write(w.path)
    w.refused("section ram", what="a page too little of memory")


def config(w):
    """The machine itself: sizes, other options on the command line, nonsense."""
    w.refused("memory", "64 MiB", path=w.small, args=("-m", "128"), what="-m 128")
    w.refused("-cpu", path=w.small, args=("-cpu", "pentium3"), what="another CPU")
    text = w.good()["config"].data
    cases = [
        (re.sub(rb"memory=\d+", b"memory=1073741824", text), "section ram"),
        (re.sub(rb"memory=\d+", b"memory=68719476736", text), "memory"),
        (re.sub(rb"memory=\d+", b"memory=99999999999999999999", text), "memory"),
        (re.sub(rb"memory=\d+", b"memory=-1", text), "memory"),
        (re.sub(rb"memory=\d+", b"memory=0", text), "memory"),
        (re.sub(rb"memory=\d+", b"memory=12345", text), "memory"),
        (re.sub(rb"memory=\d+\n", b"", text), "memory"),
        (re.sub(rb"cpu=max", b"cpu=z80", text), "z80"),
        (text + b"warp=1\n", "warp"),
        (text + b"memory=67108864\n", "twice"),
        (text + b"nothing", "config"),
        (text[:-1], "config"),
        (text + b"\0\n", "config"),
        (text + b"append2\n", "append2"),
        (re.sub(rb"append=.*", b"append=%zz", text), "append"),
        (re.sub(rb"append=.*", b"append=%00", text), "append"),
        (text + b"nic1=ne2k_pci\n" * 1 + b"nic3=ne2k_pci\n", "nic3"),
        (re.sub(rb"nic0=ne2k_pci", b"nic0=e1000", text), "e1000"),
        (text + b"disk0=/nonexistent/disk\n", "/nonexistent/disk"),
        (text + b"disk9=x\n", "disk9"),
        (b"x=1\n" * 3000, "config"),
        (b"=\n", "config"),
    ]
    for data, word in cases:
        i = w.good()
        i["config"].data, i["config"].length = data, len(data)
        i.write(w.path)
        w.refused(word, what=f"config with {word}")


# ---- values ----

def impossible(w):
    """Registers that no CPU or card can have, each with a right checksum."""
    cases = [
        ("cpu", "cr0", 0x80000000),         # paging without protection
        ("cpu", "cr0", 0x20000011),         # NW without CD
        ("cpu", "cr0", 0xffffffff),
        ("cpu", "cr4", 0xffffffff),
        ("cpu", "eflags", 0),               # bit 1 is always set
        ("cpu", "eflags", 0xffffffff),
        ("cpu", "cpl", 4),
        ("cpu", "seg[CS].attr", 0xffff),
        ("cpu", "seg[CS].base", 1 << 40),
        ("cpu", "eip", 1 << 32),
        ("cpu", "gpr", 1 << 33),
        ("cpu", "efer", 0xffffffffffffffff),
        ("cpu", "halted", 2),
        ("machine", "clock", (1 << 63) + 5),
        ("machine", "clock", (1 << 62)),
        ("machine", "a20", 2),
        ("i8254.0", "ch[0].mode", 6),
        ("i8254.0", "ch[0].count", 70000),
        ("i8259.0", "chip[0].base", 0xff),
        ("lapic.0", "svr", 0xffffffff),
        ("lapic.0", "divide", 0xff),
        ("serial.0", "rx.count", 17),
        ("serial.0", "rx.head", 16),
        ("i8042.0", "kbd.keys.count", 200),
        ("fdc.0", "data_pos", 513),
        ("fdc.0", "phase", 99),
        ("vga.0", "dac_part", 3),
        ("mc146818.0", "index", 128),
        ("piix3-ide.0", "ch[0].ata.pos", 1 << 24),
        ("piix3-ide.0", "ch[0].ata.len", 0xffffffff),
        ("piix3-ide.0", "ch[0].ata.drive[0].heads", 255),
    ]
    for section, field, value in cases:
        w.with_field(section, field, value)
        w.refused(f"section {section}", f"field {field}", what=f"{section} {field}={value:#x}")
    i = w.good()
    fields = i["cpu"].fields()
    fxsave = next(f for f in fields if f.name == "fpu.fxsave")
    fxsave.data = fxsave.data[:24] + b"\xff\xff\xff\xff" + fxsave.data[28:]
    i.set_fields("cpu", fields)
    i.write(w.path)
    w.refused("section cpu", "fpu.fxsave", what="MXCSR")
    for mac in (bytes(6), b"\xff" * 6, b"\x01\x00\x5e\0\0\1"):
        i = w.good()
        fields = i["net.0"].fields()
        next(f for f in fields if f.name == "wire_mac").data = mac
        i.set_fields("net.0", fields)
        i.write(w.path)
        w.refused("section net.0", "wire_mac", what="wire MAC")


def records(w):
    """Fields that are missing, doubled, out of order, renamed, longer, of another kind, cut."""
    for s in w.good().sections:
        if s.name in ("config", "ram", "ram.map"):
            continue
        fields = s.fields()
        n = w.random.randrange(len(fields))
        f = fields[n]
        other = Field(f.name, f.kind, f.size, f.count, f.data)
        changes = {
            "missing": fields[:n] + fields[n + 1:],
            "doubled": fields[:n] + [f] + fields[n:],
            "renamed": fields[:n] + [Field(f.name + "2", f.kind, f.size, f.count, f.data)] + fields[n + 1:],
            "longer": fields[:n] + [Field(f.name, f.kind, f.size, f.count + 1, f.data + bytes(f.size))]
            + fields[n + 1:],
            "of another kind": fields[:n] + [Field(f.name, f.kind % 4 + 1, f.size, f.count, f.data)]
            + fields[n + 1:],
        }
        del other
        for what, changed in changes.items():
            i = w.good()
            i.set_fields(s.name, changed)
            i.write(w.path)
            w.refused(f"section {s.name}", "field", what=f"{s.name} {f.name} {what}")
        i = w.good()
        i[s.name].data = s.data[:w.random.randrange(1, len(s.data))]
        i[s.name].length = len(i[s.name].data)
        i.write(w.path)
        w.refused(f"section {s.name}", "field", what=f"{s.name} cut")
        for timer in (f for f in fields if f.kind == TIMER):
            for armed, deadline in ((2, 0), (1, 1 << 63), (1, (1 << 63) - 1), (1, 1 << 62)):
                i = w.good()
                changed = i[s.name].fields()
                next(t for t in changed if t.name == timer.name).data = struct.pack("<QQ", armed, deadline)
                i.set_fields(s.name, changed)
                i.write(w.path)
                w.refused(f"section {s.name}", f"field {timer.name}", what=f"{s.name} {timer.name}")


# ---- odd, but possible ----

class Ranges:
    """What a field may be, as the refusals say."""

    def __init__(self):
        self.max, self.mask = {}, {}

    def pick(self, rnd, key, size):
        top = (1 << 8 * size) - 1
        value = rnd.choice([0, 1, top, top >> 1, rnd.getrandbits(8 * size), rnd.getrandbits(8 * size),
                            1 << rnd.randrange(8 * size)])
        return self.fit(rnd, key, value)

    def fit(self, rnd, key, value):
        value &= ~self.mask.get(key, 0)
        if value > self.max.get(key, value):
            limit = self.max[key]
            value = rnd.choice([limit, rnd.randint(0, limit)]) & ~self.mask.get(key, 0)
        return value

    def learn(self, line):
        """True if it says a field's range; else a check of several fields together."""
        m = re.search(r"section (\S+): field (\S+?)(?:\[\d+\])? is (0x[0-9a-f]+), "
                      r"(?:at most (0x[0-9a-f]+)|but bits (0x[0-9a-f]+))", line)
        if not m:
            return False
        # "array[3]" loses its index above, "seg[CS].base" keeps it: both spellings are learnt.
        for name in {m[2], re.sub(r"\[\d+\]$", "", m[2])}:
            if m[4]:
                self.max[m[1], name] = int(m[4], 16)
            else:
                self.mask[m[1], name] = self.mask.get((m[1], name), 0) | int(m[5], 16)
        return True


def randomised(w, ranges, section, fields, chosen):
    for n in chosen:
        f = fields[n]
        key = (section, f.name)
        if f.kind == UINT:
            for e in range(f.count):
                f.set(ranges.pick(w.random, key, f.size), e)
        elif f.kind == BOOL:
            for e in range(f.count):
                f.set(w.random.randrange(2), e)
        elif f.kind == TIMER:
            f.data = struct.pack("<QQ", w.random.randrange(2),
                                 w.random.choice([0, 1, 1 << 30, 1 << 61, w.random.getrandbits(61)]))
        elif f.kind == BYTES:
            data = bytearray(f.data)
            for _ in range(w.random.choice([1, 4, len(data)])):
                data[w.random.randrange(len(data))] = w.random.getrandbits(8)
            f.data = bytes(data)


def odd(w):
    """Values in range, one or all of a part's, then the machine runs for a moment."""
    ranges = Ranges()
    shutil.copyfile(w.whole, w.path)
    base = Image(w.whole)
    names = [s.name for s in base.sections if s.name not in ("config", "ram", "ram.map")]
    accepted = refused = 0
    for turn in range(w.rounds):
        section = names[turn % len(names)]
        fields = base[section].fields()
        count = w.random.choice([1, 1, 2, len(fields)])
        chosen = w.random.sample(range(len(fields)), min(count, len(fields)))
        before = [f.data for f in fields]
        randomised(w, ranges, section, fields, chosen)
        for attempt in range(200):
            i = Image()
            i.sections = base.sections[:]
            n = next(k for k, s in enumerate(i.sections) if s.name == section)
            s = base.sections[n]
            i.sections[n] = Section(s.name, s.version, s.flags, encode_fields(fields))
            front, _, _ = i.front()
            with open(w.path, "r+b", buffering=0) as f:
                f.write(front)
            changed = " ".join(f"{f.name}={f.data[:16].hex()}" for f, b in zip(fields, before)
                               if f.data != b)[:1500]
            line = w.runs(w.path, 0.25, f"{section}: {changed}",
                          *(["--engine", "interp"] if w.random.randrange(4) == 0 else []))
            if line is None:
                accepted += 1
                break
            if not ranges.learn(line):
                refused += 1
                if f"section {section}" not in line or len(line.splitlines()) != 1:
                    raise Failure(f"{section}: {changed}: {line}")
                break
            for f in fields:
                if f.kind == UINT and (section, f.name) in {*ranges.max, *ranges.mask}:
                    for e in range(f.count):
                        f.set(ranges.fit(w.random, (section, f.name), f.get(e)), e)
        else:
            raise Failure(f"{section}: no end to {line}")
    print(f"{accepted} odd machines ran, {refused} were refused")
    if accepted < w.rounds // 3:
        raise Failure("too few ran for this to say something")


def card(w):
    """The network card's ring and DMA registers at random, while frames come and go."""
    busy = w.dir / "busy.img"
    make(w.program, busy, command=BUSY, cards=2)
    base = Image(busy)
    # The second one receives: the pings are in its ring, each behind status, next page, length.
    ram = next(f for f in base["ne2k_pci.1"].fields() if f.name == "chip.ram").data
    lengths = [int.from_bytes(ram[at + 2:at + 4], "little") for at in range(0, len(ram), 256)]
    if not any(1042 <= n <= 1046 for n in lengths):
        raise Failure("no frames arrive")
    shutil.copyfile(busy, w.path)
    places = {s.name: k for k, s in enumerate(base.sections)}
    ring = {"chip.pstart", "chip.pstop", "chip.bnry", "chip.curr", "chip.tpsr", "chip.local_next"}
    others = {"chip.clda", "chip.crda", "chip.rbcr", "chip.tbcr", "chip.address_counter", "chip.dcr", "chip.rcr",
              "chip.tcr", "chip.remote_next", "chip.isr", "chip.imr"}
    accepted = 0
    for turn in range(w.rounds):
        name = "ne2k_pci.0" if turn % 3 == 0 else "ne2k_pci.1"
        n = places[name]
        fields = base.sections[n].fields()
        values = {}
        for f in fields:
            if f.name in ring:
                values[f.name] = w.random.choice([0, 1, 0x3f, 0x40, 0x46, 0x7f, 0x80, 0xc0, 0xfe, 0xff])
            elif f.name in others and turn % 2 == 0 and w.random.randrange(2):
                values[f.name] = w.random.getrandbits(8 * f.size)
            if f.name in values:
                f.set(values[f.name])
        i = Image()
        i.sections = base.sections[:]
        s = base.sections[n]
        i.sections[n] = Section(s.name, s.version, s.flags, encode_fields(fields))
        with open(w.path, "r+b", buffering=0) as f:
            f.write(i.front()[0])
        what = name + " " + " ".join(f"{key}={value:#x}" for key, value in values.items())
        line = w.runs(w.path, 0.3, what)
        if line and f"section {name}: field chip." not in line:
            raise Failure(f"{what}: {line}")
        accepted += not line
    print(f"{accepted} of {w.rounds} odd cards ran")
    if accepted < w.rounds // 4:
        raise Failure("too few ran for this to say something")


if __name__ == "__main__":
    settings = dict(a[2:].split("=", 1) for a in sys.argv[2:] if a.startswith("--"))
    chosen_tests = [a for a in sys.argv[2:] if not a.startswith("--")]
    world = World(sys.argv[1], int(settings.get("seed", time.time_ns() & 0xffff)),
                  int(settings.get("rounds", 60)))
    tests = {f.__name__: (lambda f=f: f(world)) for f in
             (good, truncated, flipped, pages_changed, tables, sections, config, impossible, records, odd, card)}
    tests = {"prepare": world.prepare, **tests}
    if chosen_tests:
        chosen_tests.insert(0, "prepare")
    code = 1
    try:
        print(f"seed {settings.get('seed', 'random')}")
        code = main(tests, chosen_tests)
    finally:
        if code != 1 or "keep" not in settings:
            shutil.rmtree(world.dir, ignore_errors=True)
        else:
            print(f"left in {world.dir}")
    sys.exit(code)
