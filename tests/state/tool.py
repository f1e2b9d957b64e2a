#!/usr/bin/env python3
"""gannet state on images of a real machine: tool.py GANNET [TEST...]

What it says is compared with what image.py reads, with the guest itself, and with zstd.
"""
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import image
from image import OPTIONAL, SPARSE, Image, Section
from list_sections import listing
from saved import MARK, Failure, Guest, Skip, main, make


class World:
    def __init__(self, program):
        self.program = str(Path(program).resolve())
        self.dir = Path(tempfile.mkdtemp(prefix="gannet-state-"))
        self.a, self.b, self.c = (self.dir / f"{n}.img" for n in "abc")

    def prepare(self):
        reason = image.need()
        if reason:
            raise Skip(reason)
        make(self.program, self.a, (self.b, "dd if=/dev/zero of=/tmp/x bs=64k count=16; ip link set eth0 down"))

    def run(self, *args, code=0, cwd=None, limit=None):
        def preexec():
            import resource
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        done = subprocess.run([self.program, "state", *map(str, args)], capture_output=True, timeout=120,
                              cwd=cwd, preexec_fn=preexec)
        out, err = done.stdout.decode(), done.stderr.decode()
        if done.returncode != code:
            raise Failure(f"state {args}: exit code {done.returncode}, expected {code}: {out[-500:]} {err}")
        return out, err

    def fails(self, *args, word, code=2, **more):
        out, err = self.run(*args, code=code, **more)
        lines = err.splitlines()
        if len(lines) != 1 or not lines[0].startswith("gannet state: ") or word not in lines[0]:
            raise Failure(f"state {args}: {word!r} expected in one line: {err}")
        return out

    def json(self, *args, code=0):
        return [json.loads(line) for line in self.run(*args, code=code)[0].splitlines()]


def equal(a, b, what=""):
    if a != b:
        raise Failure(f"{what}: {a!r} is not {b!r}")


def has(text, *patterns):
    for pattern in patterns:
        if not re.search(pattern, text, re.M):
            raise Failure(f"{pattern!r} is not in:\n{text}")


def info(w):
    ours = Image(w.a)
    out, err = w.run("info", w.a)
    equal(err, "")
    has(out, r"state image, [\d.]+ MiB, saved after [\d.]+ s", r"^  memory +64 MiB$", r"^  cpu +max$",
        r"^  append +console=ttyS0 quiet$", r"^  nic0 +ne2k_pci$",
        r"^net\.0: guest 52:54:00:12:34:56, wire ([0-9a-f]{2}:){5}[0-9a-f]{2}, link up$",
        rf"^  eip {ours.get('cpu', 'eip'):08x} eflags", rf"cr3 {ours.get('cpu', 'cr3'):08x}",
        rf"ss {ours.get('cpu', 'seg[SS].selector'):04x}")
    for s in ours.sections:
        has(out, rf"^{re.escape(s.name)} +{s.version} ")
    used = sum(struct.unpack_from("<Q", ours["ram.map"].data, n + 8)[0]
               for n in range(0, len(ours["ram.map"].data), 24))
    has(out, rf"{used} of {ours['ram'].length // 4096} pages used")
    out, _ = w.run("info", "--fields", w.a)
    has(out, r"^  chip.par +525400123456$", rf"^  eflags +0x{ours.get('cpu', 'eflags'):x}$")
    out, _ = w.run("info", w.a, w.b)
    equal(len(re.findall("state image", out)), 2)


def info_json(w):
    ours = Image(w.a)
    for args in (("--fields", w.a), (w.a, w.b)):
        found = w.json("info", "--json", *args)
        equal(len(found), len(args) - (args[0] == "--fields"))
        one = found[0]
        equal(one["config"]["memory"], 64 << 20)
        equal(one["config"]["append"], "console=ttyS0 quiet")
        equal(one["net"][0]["guest_mac"], "52:54:00:12:34:56")
        equal([s["name"] for s in one["sections"]], [s.name for s in ours.sections])
        equal(one["size"], w.a.stat().st_size)
    one = w.json("info", "--json", "--fields", w.a)[0]
    for theirs, s in zip(one["sections"], ours.sections):
        if s.flags & SPARSE or "fields" not in theirs:
            continue
        equal(list(theirs["fields"]), [f.name for f in s.fields()], s.name)
        for f in s.fields():
            value = theirs["fields"][f.name]
            if f.kind == image.BYTES:
                equal(value, f.data.hex(), f.name)
            elif f.kind == image.UINT and f.count == 1:
                equal(int(value), f.get(), f.name)
            elif f.kind == image.UINT:
                equal([int(v) for v in value], [f.get(n) for n in range(f.count)], f.name)
            elif f.kind == image.BOOL and f.count == 1:
                equal(value, bool(f.get()), f.name)
            elif f.kind == image.TIMER:
                armed, deadline = struct.unpack("<QQ", f.data)
                equal(None if value is None else int(value), deadline if armed else None, f.name)


def verify(w):
    out, _ = w.run("verify", w.a, w.b)
    equal(out, f"{w.a}: whole\n{w.b}: whole\n")
    shutil.copyfile(w.a, w.c)
    page = struct.unpack_from("<Q", Image(w.a)["ram.map"].data, 0)[0]
    with open(w.c, "r+b") as f:
        f.seek(Image(w.a)["ram"].offset + 4096 * page + 7)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 1]))
    out = w.fails("verify", w.a, w.c, w.b, word="section ram: the checksum of pages", code=1)
    equal(out, f"{w.a}: whole\n{w.b}: whole\n", "the good ones are still named")
    found = [json.loads(line) for line in w.fails("verify", "--json", w.a, w.c, word="ram", code=1).splitlines()]
    equal([f["ok"] for f in found], [True, False])
    has(found[1]["error"], "section ram")
    os.truncate(w.c, w.c.stat().st_size - 1)
    w.fails("verify", w.c, word="cut short", code=1)
    w.fails("verify", w.dir / "none", word="No such file", code=1)
    w.fails("verify", "/bin/sh", word="not a state image", code=1)


def convert(w):
    packed, raw = w.dir / "packed.img", w.dir / "raw.img"
    w.run("convert", w.a, packed)
    equal(packed.stat().st_size < 0.6 * w.a.stat().st_blocks * 512, True, "smaller")
    equal(oct(packed.stat().st_mode & 0o777), "0o600")
    w.run("verify", packed)
    # zstd itself takes the section apart.
    s = Image(packed)["ram"]
    with open(packed, "rb") as f:
        f.seek(s.offset)
        frame = f.read(s.source[2])
    if shutil.which("zstd"):
        pages = subprocess.run(["zstd", "-dcq"], input=frame, capture_output=True, check=True).stdout
        first, count, digest = struct.unpack_from("<QQQ", Image(packed)["ram.map"].data)
        equal(image.xxh3(pages[:count * 4096]), digest, "what zstd unpacks")
    w.run("convert", packed, raw)
    if raw.read_bytes() != w.a.read_bytes():
        raise Failure("converted there and back it is another image")
    equal(raw.stat().st_blocks * 512 < 0.8 * raw.stat().st_size, True, "has holes")
    w.run("convert", "--raw", w.a, raw)
    w.run("convert", "--zstd=9", packed, packed)  # in place
    small = packed.stat().st_size
    w.run("convert", "--zstd=1", w.a, raw)
    equal(small < raw.stat().st_size, True, "level 9 is smaller than level 1")
    equal(w.run("diff", raw, w.a)[0], "")
    # The machine is the same one.
    with Guest(w.program, "--restore", packed, "-nographic", echo=False) as guest:
        guest.type("\n")
        guest.expect(r"# ", 60)
        equal(guest.run("echo $mark")[0], f"{MARK}\n")


def convert_fails(w):
    before = w.b.read_bytes()
    w.fails("convert", "--zstd", w.a, w.b, word="File too large", limit=100000)
    w.fails("convert", "--raw", w.a, w.b, word="File too large", limit=1 << 20)
    equal(w.b.read_bytes() == before, True, "the old file is as it was")
    equal(sorted(p.name for p in w.dir.glob("*.partial")), [])
    w.fails("convert", w.a, "/nonexistent/x.img", word="/nonexistent/x.img")
    w.fails("convert", w.a, w.dir, word="not a regular file")
    w.fails("convert", w.dir / "none", w.c, word="No such file")
    shutil.copyfile(w.a, w.c)
    page = struct.unpack_from("<Q", Image(w.a)["ram.map"].data, 0)[0]
    with open(w.c, "r+b") as f:
        f.seek(Image(w.a)["ram"].offset + 4096 * page)
        f.write(b"damaged!")
    w.fails("convert", "--zstd", w.c, w.dir / "never.img", word="section ram: the checksum")
    equal((w.dir / "never.img").exists(), False)


def diff(w):
    equal(w.run("diff", w.a, w.a)[0], "")
    out, _ = w.run("diff", w.a, w.b, code=1)
    has(out, r"^machine clock: 0x[0-9a-f]+ -> 0x[0-9a-f]+$", r"^cpu tsc_saved: ",
        r"^ram 0x[0-9a-f]{8,}-0x[0-9a-f]{8,}: \d+ pages?$", r"^ram: \d+ of \d+ pages differ$",
        r"^ne2k_pci.0 chip.cr: ")
    # Sections that are the same are not named; what is named differs.
    a, b = Image(w.a), Image(w.b)
    for s, t in zip(a.sections, b.sections):
        if not s.flags & SPARSE and not s.name.endswith(".map"):
            equal(bool(re.search(rf"^{re.escape(s.name)} ", out, re.M)), s.data != t.data, s.name)
    found = w.json("diff", "--json", w.a, w.b, code=1)[0]
    equal(found["same"], False)
    clock = next(d for d in found["differences"] if d["section"] == "machine" and d["name"] == "clock")
    equal(int(clock["a"], 16), a.get("machine", "clock"))
    equal(int(clock["b"], 16), b.get("machine", "clock"))
    # Pages: those that image.py sees.
    pages = set()
    for d in found["differences"]:
        if "first_page" in d:
            pages |= set(range(d["first_page"], d["first_page"] + d["pages"]))
    with open(w.a, "rb") as f, open(w.b, "rb") as g:
        f.seek(a["ram"].offset)
        g.seek(b["ram"].offset)
        expected = {n for n in range(a["ram"].length // 4096) if f.read(4096) != g.read(4096)}
    equal(pages == expected and len(pages) > 200, True, "pages that differ")
    # The form does not matter.
    packed = w.dir / "packed.img"
    w.run("convert", "--zstd=1", w.b, packed)
    equal(w.run("diff", w.a, packed, code=1)[0], out)
    equal(w.run("diff", w.b, packed)[0], "")
    i = Image(w.a)
    i["config"].data = i["config"].data.replace(b"boot_menu=0", b"boot_menu=1") + b"warp=9\n"
    i["config"].length = len(i["config"].data)
    i.sections = [s for s in i.sections if s.name != "fdc.0"]
    i.sections.insert(3, Section("new.0", 1, OPTIONAL, b"\xff\0what"))
    i.write(w.c)
    out, _ = w.run("diff", w.a, w.c, code=1)
    equal(sorted(out.splitlines()), sorted([
        "config boot_menu: 0 -> 1", f"config warp: only in {w.c}", f"fdc.0: only in {w.a}",
        f"new.0: only in {w.c}"]))
    equal([d for d in w.json("diff", "--json", w.a, w.c, code=1)[0]["differences"] if "only" in d][0],
          {"section": "config", "name": "warp", "only": "b"})
    w.fails("diff", w.a, w.dir / "none", word="No such file")


def unknown_parts(w):
    """Images of machines that this build does not know, with text that would hurt a terminal."""
    i = Image(w.a)
    i["config"].data += b"warp=\x1b[2J\"\\\xff\nwarp9.factor=9\n"
    i["config"].length = len(i["config"].data)
    i.sections.insert(2, Section("warp\"drive.0", 7, 0, image.Field("core\\temp", 1, 4, 1, b"\1\0\0\0").encode()))
    i.sections.insert(3, Section("blob.0", 1, OPTIONAL, bytes(range(200))))
    i["cpu"].version = 12
    i["ram"].version = 3
    i.write(w.c)
    out, err = w.run("info", "--fields", w.c)
    equal(err, "")
    equal(all(ch == "\n" or " " <= ch <= "~" for ch in out), True, "only printable ASCII")
    has(out, r'^warp"drive\.0 +7 .* 1 fields$', r"^  core\\temp +0x1$", r"^blob\.0 +1 .*bytes, optional$",
        r"^  warp +%1b\[2J\"\\%ff$", r"^cpu +12 ")
    one = w.json("info", "--json", "--fields", w.c)[0]
    equal(one["sections"][2]["fields"], {"core\\temp": 1})
    equal(one["config"]["warp"], "%1b[2J\"\\%ff")
    w.run("verify", w.c)
    packed = w.dir / "unknown.img"
    w.run("convert", "--zstd", w.c, packed)
    back = w.dir / "back.img"
    w.run("convert", packed, back)
    equal(back.read_bytes() == w.c.read_bytes(), True, "unknown sections, versions, flags kept")


def usage(w):
    out, err = w.run("--help")
    has(out, r"usage: gannet state info", r"Examples:", r"gannet state diff before.img")
    equal(err, "")
    w.fails(word="--help")
    w.fails("frob", word="frob")
    w.fails("info", word="a file is expected")
    w.fails("diff", w.a, word="two files are expected")
    w.fails("convert", w.a, w.b, w.c, word="two files are expected")
    w.fails("info", "--frob", w.a, word="--frob")
    w.fails("verify", "--fields", w.a, word="--fields")
    for level in ("0", "23", "x", "", "-1", "3x", "99999999999999999999"):
        w.fails("convert", f"--zstd={level}", w.a, w.c, word="a level from 1 to 22")
    w.fails("convert", "--zstd", "--raw", w.a, w.c, word="give one")
    w.fails("info", w.dir / "none", word="No such file")
    w.fails("info", w.dir, word="not a regular file")
    os.symlink(w.a, w.dir / "--json")
    equal(w.run("verify", "--", "--json", cwd=w.dir)[0], "--json: whole\n")


def full_output(w):
    with open("/dev/full", "w") as full:
        done = subprocess.run([w.program, "state", "info", w.a], stdout=full, stderr=subprocess.PIPE)
    equal((done.returncode, done.stderr), (2, b"gannet state: the output cannot be written\n"))


def page(w):
    """docs/state-format.md lists every section and field there is."""
    doc = (Path(__file__).resolve().parents[2] / "docs" / "state-format.md").read_text()
    missing = [line for line in listing(w.a) if line not in doc]
    equal(missing, [], "docs/state-format.md lacks (tests/state/list_sections.py makes the list)")
    for s in Image(w.a).sections:
        if not s.flags & SPARSE and s.name != "config" and not s.name.endswith(".map"):
            names = [f.name for f in s.fields()]
            equal(len(set(names)), len(names), s.name)
            equal([n for n in names if not 0 < len(n) < 64], [], s.name)


def same_bytes(w):
    """image.py writes what it has read as the same file."""
    Image(w.a).write(w.c)
    equal(w.c.read_bytes() == w.a.read_bytes(), True, "rewritten")


if __name__ == "__main__":
    world = World(sys.argv[1])
    tests = {f.__name__: (lambda f=f: f(world)) for f in (
        info, info_json, verify, convert, convert_fails, diff, unknown_parts, usage, full_output, page,
        same_bytes)}
    try:
        sys.exit(main({"prepare": world.prepare, **tests}, sys.argv[2:] and ["prepare", *sys.argv[2:]]))
    finally:
        shutil.rmtree(world.dir, ignore_errors=True)
