"""The control socket: every command on a Debian guest, and clients that mean harm.

What a command does is seen by another way: in the guest, in files, in /proc.
"""
import contextlib
import json
import os
import random
import re
import resource
import socket
import stat
import struct
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

import state
from guest import I386, Failure, Guest, Skip, need

RC = "#!/bin/sh\necho 5 > /proc/sys/kernel/printk\n"
PROMPT = "gannet:/# "


def same(what, got, expected):
    if got != expected:
        raise Failure(f"{what}: {got!r}, expected {expected!r}")


class Control:
    """A connection: requests as keyword arguments, answers as dictionaries."""

    def __init__(self, path, timeout=10):
        deadline = time.monotonic() + timeout
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise Failure(f"nobody listens on {path}") from None
                time.sleep(0.02)
        self.socket.settimeout(timeout)
        self.data = b""
        self.count = 0
        self.events = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def line(self, timeout=None):
        """The next line as an object; None at the end."""
        if timeout:
            self.socket.settimeout(timeout)
        while b"\n" not in self.data:
            try:
                data = self.socket.recv(1 << 20)
            except TimeoutError:
                raise Failure("no answer on the control socket") from None
            except ConnectionError:
                data = b""
            if not data:
                return None
            self.data += data
        line, self.data = self.data.split(b"\n", 1)
        return json.loads(line)

    def begin(self, command, **fields):
        self.count += 1
        request = {"id": self.count, "command": command, **fields}
        self.send(json.dumps(request).encode() + b"\n")
        return self.count

    def end(self, number, timeout=30):
        while True:
            reply = self.line(timeout)
            if reply is None:
                raise Failure("the machine hung up")
            if "event" in reply:
                self.events.append(reply)
                continue
            same("id of an answer", reply["id"], number)
            return reply

    def ask(self, command, timeout=30, **fields):
        """Must succeed."""
        reply = self.end(self.begin(command, **fields), timeout)
        if reply["ok"] is not True:
            raise Failure(f"{command} {fields}: {reply['error']}")
        return reply

    def refused(self, pattern, command, **fields):
        reply = self.end(self.begin(command, **fields))
        if reply["ok"] is not False or "\n" in reply["error"] or \
                not re.search(pattern, reply["error"]):
            raise Failure(f"{command} {fields}: {reply}, expected a refusal like {pattern!r}")

    def wait(self, pattern, within=60, **fields):
        number = self.begin("wait", **{"for": pattern, "timeout": within, "regex": True, **fields})
        reply = self.end(number, within + 10)
        if not reply["ok"]:
            raise Failure(reply["error"])
        return reply

    def shell(self, command, within=60):
        """Runs a command in the guest by its serial port; returns what it printed."""
        line = f"{command}; echo END=$((40+2))=$?\n"
        self.ask("send", text=line)
        text = self.wait(r"END=42=\d+\n", within)["text"]
        output, status = text.rsplit("END=42=", 1)
        if status.strip() != "0":
            raise Failure(f"{command}: exit code {status}: {output}")
        # The terminal may echo what is typed ahead twice: once at once, once at the prompt.
        return output.rsplit("=$?\n", 1)[-1]


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="gannet-control-") as name:
        yield Path(name)


def debian(program, engine, scratch, path, *args):
    """A Debian kernel that shows its screen, too; the shell is on the serial port."""
    out = scratch / "initramfs.cpio"
    if not out.exists():
        out = state.initramfs(scratch, RC, "ne2k-pci", "button")
    return Guest(program, "--engine", engine, "-m", "128", "-display", "none", "-kernel",
                 need(I386 / "vmlinuz-686"), "-initrd", out, "-append",
                 "console=tty0 console=ttyS0 quiet", "--control", path, *args)


def ctl(program, path, *args, code=0):
    done = subprocess.run([program, "ctl", path, *args], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=120)
    if done.returncode != code or (code and len(done.stderr.splitlines()) != 1):
        raise Failure(f"gannet ctl {args}: exit code {done.returncode}, expected {code}: "
                      f"{done.stdout!r} {done.stderr!r}")
    return done.stdout if not code else done.stderr


def gone(path):
    if os.path.lexists(path):
        raise Failure(f"{path} is still there")


# ---- pictures ----

def read_ppm(path):
    magic, size, most, pixels = path.read_bytes().split(b"\n", 3)
    same("PPM header", (magic, most), (b"P6", b"255"))
    width, height = map(int, size.split())
    same("PPM size", len(pixels), width * height * 3)
    return width, height, pixels


def read_png(path):
    """RFC 2083, 8-bit RGB without interlace."""
    data, at, packed = path.read_bytes(), 8, b""
    same("PNG signature", data[:8], b"\x89PNG\r\n\x1a\n")
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height, *rest = struct.unpack(">IIBBBBB", body)
            same("PNG kind", rest, [8, 2, 0, 0, 0])
        if kind == b"IDAT":
            packed += body
        at += length + 12
    raw, out, above, step = zlib.decompress(packed), b"", bytes(width * 3), width * 3 + 1
    for row in range(height):
        method, line = raw[row * step], bytearray(raw[row * step + 1:(row + 1) * step])
        for i in range(len(line)):
            left = line[i - 3] if i >= 3 else 0
            corner = above[i - 3] if i >= 3 else 0
            up = above[i]
            paeth = min((left, up, corner), key=lambda x, p=left + up - corner: abs(p - x))
            line[i] = (line[i] + [0, left, up, (left + up) // 2, paeth][method]) & 255
        above = bytes(line)
        out += above
    return width, height, out


# ---- scenarios ----

def check_pause(control, other):
    """No instruction runs, no time passes for the guest, and requests are answered."""
    control.ask("send", text="while :; do cut -d' ' -f1 /proc/uptime; usleep 20000; done\n")
    control.wait(r"\d+\.\d+\n\d+\.\d+\n")
    control.ask("pause")
    before = control.ask("status")
    said = control.ask("serial")["position"]
    last = float(re.findall(r"\n(\d+\.\d+)", control.ask("serial")["text"])[-1])
    time.sleep(1.5)
    after = other.ask("status")
    same("state", after["state"], "paused")
    same("clock of a paused machine", after["clock"], before["clock"])
    same("output of a paused machine", other.ask("serial")["position"], said)
    if after["uptime"] - before["uptime"] < 1.4:
        raise Failure("the uptime does not go on")
    other.refused("paused", "type", text="x", timeout=0.2)
    other.refused("'nothing' did not come", "wait", timeout=0.2, **{"for": "nothing"})
    control.ask("resume")
    same("state", control.ask("status")["state"], "running")
    first = float(control.wait(r"\d+\.\d+\n")["match"])
    first = float(control.wait(r"\d+\.\d+\n")["match"])
    if not 0 <= first - last < 0.5:
        raise Failure(f"the guest's time went from {last} to {first} over a pause")
    control.ask("send", text="\x03")
    control.wait(PROMPT, regex=False)


def check_waits(control, other):
    """Each wait goes on where the one before has ended; two may wait at once."""
    control.shell("echo seen")
    control.ask("send", text="echo a1; echo a2; echo a3\n")
    control.wait("^a1$")
    control.wait("^a2$")
    mark = control.wait("^a3$")["position"]
    control.refused("'.a1.' did not come on serial port 0 in 0.2 s; its last line is",
                    "wait", regex=True, timeout=0.2, **{"for": "^a1$"})
    reply = control.wait("^a1$", since=0)
    if reply["position"] >= mark or reply["match"] != "a1":
        raise Failure(f"a wait since 0 found {reply}")
    one = control.begin("wait", **{"for": "late-1", "timeout": 20})
    two = other.begin("wait", **{"for": "late-2", "timeout": 20})
    with Control(control.socket.getpeername()) as third:
        # In two pieces, so that the echo is none of them.
        third.ask("send", text="for i in 2 1; do echo la''te-$i; sleep 0.2; done\n")
    other.end(two)
    control.end(one)
    control.refused("\"since\" must be", "wait", since=-1, **{"for": "x"})
    control.refused("pattern: a \\( without", "wait", regex=True, **{"for": "("})


def check_keyboard(control, scratch):
    """What is typed arrives on the VGA console, letter by letter."""
    text = "Hello, \"World\"! 0123456789 {[(<~`'|\\/?:;@#$%^&*-_=+>)]}"
    control.shell("cat < /dev/tty1 > /tmp/typed & sleep 0.2")
    control.ask("type", text=text + "\n")
    control.wait("{[(<~`", on="screen", regex=False, within=10)
    control.shell("sleep 0.2")
    same("typed", control.shell("cat /tmp/typed"), text + "\n")
    if text not in control.ask("screen")["text"]:
        raise Failure("screen does not show it")
    for key in ("shift-q", "x", "backspace", "minus", "enter"):
        control.ask("key", key=key)
    control.ask("key", key="shift", down=True)
    control.ask("key", key="a")
    control.ask("key", key="shift", down=False)
    control.ask("key", key="a")
    control.ask("key", key="enter")
    control.shell("sleep 0.2")
    same("keys", control.shell("cat /tmp/typed"), text + "\nQ-\nAa\n")
    control.refused("no key", "key", key="hyper-x")
    control.refused("on no key", "type", text="\u20ac")
    control.shell("kill %1 || true")
    for name in ("screen.ppm", "screen.png"):
        control.ask("screenshot", path=str(scratch / name))
    ppm = read_ppm(scratch / "screen.ppm")
    same("size of the picture", ppm[:2], (720, 400))
    if len(set(ppm[2])) < 2:
        raise Failure("the picture is of one colour")
    # The cursor may blink in between.
    png = read_png(scratch / "screen.png")
    differ = sum(a != b for a, b in zip(ppm[2], png[2]))
    if png[:2] != ppm[:2] or differ > 9 * 16 * 3:
        raise Failure(f"PNG and PPM differ in {differ} bytes")
    control.refused("No such file", "screenshot", path=str(scratch / "none/x.ppm"))


def frames(path):
    """Frames an interface of a pcapng file."""
    data, at, count, names = path.read_bytes(), 0, {}, []
    while at + 12 <= len(data):
        kind, length = struct.unpack("<II", data[at:at + 8])
        if kind == 1:
            names.append(data[at + 16:at + length])
        if kind == 6:
            interface = struct.unpack("<I", data[at + 8:at + 12])[0]
            count[interface] = count.get(interface, 0) + 1
        at += length
    same("rest of the capture", len(data) - at, 0)
    same("interfaces", [b"guest" in name for name in names], [True, False])
    return count


def check_network(control, scratch):
    def card():
        return control.ask("net")["nics"][0]

    def ping(expected):
        output = control.shell("ping -c 1 -W 1 10.0.2.2 || true")
        if f"{expected} packets received" not in output:
            raise Failure(f"ping: {output}")

    control.shell("ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up")
    ping(1)
    first = card()
    same("card", (first["net"], first["model"], first["link"], first["backend"]),
         (0, "ne2k_pci", True, "user"))
    same("address", first["guest_mac"], control.shell("cat /sys/class/net/eth0/address").strip())
    if first["wire_mac"] == first["guest_mac"] or "10.0.2.2" not in first["status"]:
        raise Failure(f"card: {first}")
    control.ask("link", net=0, up=False)
    ping(0)
    same("link", card()["link"], False)
    if not card()["counters"]["port"]["drop.link-down"]:
        raise Failure("no frame was dropped while the link was down")
    control.ask("link", net="net0", up=True)
    ping(1)
    capture = scratch / "run.pcapng"
    control.ask("capture-start", path=str(capture))
    same("taps", [s["stage"] for s in card()["stages"]][::len(card()["stages"]) - 1],
         ["capture-guest", "capture-wire"])
    ping(1)
    control.refused("none/x", "capture-start", path=str(scratch / "none/x.pcapng"))
    control.ask("capture-stop")
    ping(1)
    count = frames(capture)
    # An echo and its answer at least, and no more than one ping's and ARP's.
    if set(count) != {0, 1} or not all(2 <= n <= 12 for n in count.values()):
        raise Failure(f"frames captured: {count}")
    control.ask("stage", net=0, stage="translate", enabled=False)
    same("stage", [s["enabled"] for s in card()["stages"] if s["stage"] == "translate"], [False])
    control.ask("stage", net=0, stage="translate", enabled=True)
    control.refused("no stage", "stage", net=0, stage="nothing", enabled=True)
    control.ask("backend", net=0, url="none:")
    same("backend", card()["backend"], "none")
    ping(0)
    control.refused("is no backend", "backend", net=0, url="carrier-pigeon:")
    same("backend", card()["backend"], "none")
    control.ask("backend", net=0, url="user:")
    ping(1)
    control.refused("0 to 0", "link", net=1, up=True)
    control.refused("true or false", "link", net=0)


def check_save(program, engine, control, path, scratch):
    """Saved and gone on; what was saved goes on, too, with what it had at that moment."""
    control.shell("word=before")
    for name, compress in (("plain.img", False), ("small.img", True)):
        reply = control.ask("save", path=str(scratch / name), compress=compress)
        if reply["bytes"] < 1 << 20 or reply["seconds"] > 30:
            raise Failure(f"save: {reply}")
    if os.path.getsize(scratch / "small.img") * 2 > reply["bytes"] * 3:
        raise Failure("the compressed image is not small")
    control.refused("none/x.img", "save", path=str(scratch / "none/x.img"))
    control.shell("word=after")
    for name in ("plain.img", "small.img"):
        other = scratch / "other.sock"
        with Guest(program, "--engine", engine, "-display", "none", "--restore", scratch / name,
                   "--control", other, echo=False) as guest:
            with Control(other) as copy:
                same("what a copy remembers", copy.shell("echo $word").strip(), "before")
                copy.ask("quit")
            guest.wait(20)
        gone(other)
    same("what the machine remembers", control.shell("echo $word").strip(), "after")


def check_ctl(program, path, scratch):
    """The same by the command, from another working directory."""
    status = json.loads(ctl(program, path, "status", "--json"))
    same("memory", status["memory"], 128 << 20)
    same("status", "running" in ctl(program, path, "status"), True)
    ctl(program, path, "send", "--enter", "echo 4''2")
    same("wait", ctl(program, path, "wait", "serial", "--regex", "^42$", "--timeout", "10"), "42\n")
    if "did not come" not in ctl(program, path, "wait", "serial", "no-such", "--timeout=0.2", code=1):
        raise Failure("a wait that is too late does not say so")
    same("serial", "42" in ctl(program, path, "serial"), True)
    same("net", "wire" in ctl(program, path, "net"), True)
    ctl(program, path, "type", "x")
    ctl(program, path, "key", "backspace")
    ctl(program, path, "pause")
    same("pause", "paused" in ctl(program, path, "status"), True)
    image = os.path.relpath(scratch / "ctl.img")
    same("save", "saved" in ctl(program, path, "save", image), True)
    same("save", (scratch / "ctl.img").stat().st_size > 1 << 20, True)
    ctl(program, path, "resume")
    for args in (("link", "0", "down"), ("link", "0", "up"), ("stage", "0", "translate", "off"),
                 ("stage", "0", "translate", "on"), ("backend", "0", "user:"),
                 ("capture", "start", str(scratch / "ctl.pcapng")), ("capture", "stop"),
                 ("screenshot", str(scratch / "ctl.png")), ("screen",)):
        ctl(program, path, *args)
    ctl(program, path, "link", "7", "up", code=1)
    for args in (("fly",), (), ("link", "0"), ("link", "0", "sideways"), ("save",), ("--what",)):
        ctl(program, path, *args, code=2)
    ctl(program, scratch / "nobody.sock", "status", code=2)


def commands(program, engine):
    if "user:" not in subprocess.run([program, "--net", "help"], capture_output=True,
                                     text=True).stdout:
        raise Skip("this gannet has no user: network")
    with folder() as scratch:
        path = scratch / "m.sock"
        with debian(program, engine, scratch, path, "--net", "user:") as guest, \
                Control(path) as control, Control(path) as other:
            same("mode of the socket", stat.S_IMODE(path.stat().st_mode), 0o600)
            other.ask("events")
            control.wait(PROMPT, 120, regex=False)
            control.ask("send", text="stty cols 1000\n")
            control.wait(PROMPT, regex=False)
            check_waits(control, other)
            check_pause(control, other)
            check_network(control, scratch)
            check_keyboard(control, scratch)
            check_save(program, engine, control, path, scratch)
            check_ctl(program, path, scratch)
            pressed = "cat /sys/firmware/acpi/interrupts/ff_pwr_btn"
            before = int(control.shell(pressed).split()[0])
            control.ask("power")
            control.shell("sleep 0.3")
            same("presses of the power button", int(control.shell(pressed).split()[0]), before + 1)
            control.ask("reset")
            control.wait(PROMPT, 120, regex=False)
            same("resets", control.ask("status")["resets"], 1)
            waiting = other.begin("wait", **{"for": "never", "timeout": 100})
            control.ask("quit")
            guest.wait(20)
            seen, reply = [], other.line()
            while reply is not None:
                seen.append(reply)
                reply = other.line()
            last = [r for r in seen if r.get("id") == waiting]
            same("a wait at the end", [r["ok"] for r in last], [False])
            names = [r["event"] for r in other.events + seen if "event" in r]
            for name in ("paused", "resumed", "saved", "power", "reset", "ended"):
                if name not in names:
                    raise Failure(f"no event {name} among {names}")
        gone(path)


def talk(control, data, timeout=20):
    control.send(data)
    return control.line(timeout)


def check_garbage(control):
    """Whatever comes is answered with one line, and the next request with its own."""
    bad = [b"hello", b"{", b"[1,2]", b"42", b"null", b'"text"', b"{}", b'{"command":7}',
           b'{"command":"fly"}', b'{"command":"status","command":"quit"}', b"\0\0\0", b"\xff\xfe",
           b'{"command":"sta\xfftus"}', b'{"command":"status","x":1}', b"[" * 60000,
           b'{"id":' * 8000, b'{"command":"save"}', b'{"command":"save","path":7}',
           b'{"command":"save","path":""}', b'{"command":"save","path":"/tmp/\\u0000x"}',
           b'{"command":"wait","for":"x","timeout":-1}', b'{"command":"wait","for":"x","timeout":1e99}',
           b'{"command":"wait","for":"x","timeout":1e999}', b'{"command":"wait","for":"x","on":"fire"}',
           b'{"command":"wait","for":"","regex":true}', b'{"command":"wait","for":"((((a*)*)*)*)*","regex":true}',
           b'{"command":"send","text":"x","port":2}', b'{"command":"send","text":"x","port":-1}',
           b'{"command":"send","text":"x","port":"1"}', b'{"command":"key","key":"-"}', b'{"command":"key","key":"a-"}',
           b'{"command":"key","key":"--"}', b'{"command":"link","net":99999999999999999999,"up":true}',
           b'{"command":"link","net":-1,"up":true}', b'{"command":"capture-start","path":"/"}',
           b'{"command":"screenshot","path":"/"}', b'{"command":"serial","since":-5}',
           b'{"command":"help","a b":1}', b'{"command":"help"," ":1}']
    for data in bad:
        reply = talk(control, data + b"\n")
        if not reply or reply["ok"] is not False or not reply["error"] or "\n" in reply["error"]:
            raise Failure(f"{data[:80]}: {reply}")
    control.send(b"\n \t\r\n")
    # An id of any kind comes back.
    for number in (None, "x", 1.5, [1, {"a": []}], {}, True):
        reply = talk(control, json.dumps({"id": number, "command": "help"}).encode() + b"\n")
        same("id", (reply["ok"], reply["id"]), (True, number))
    # Too long: one error, and the line's rest is not taken for requests.
    control.send(b"x" * 300000)
    control.send(b'{"command":"quit"}\n{"id":5,"command":"help"}\n')
    reply = control.line()
    if reply["ok"] or "longer" not in reply["error"]:
        raise Failure(f"a long line: {reply}")
    same("the next", control.line()["id"], 5)
    # In pieces, and several at once.
    for byte in b'{"id":6,"command":"help"}\n':
        control.send(bytes([byte]))
    same("in pieces", control.line()["id"], 6)
    control.send(b"".join(b'{"id":%d,"command":"status"}\n' % i for i in range(1000)))
    for i in range(1000):
        same("many at once", control.line()["id"], i)


def check_fuzz(path, rounds):
    dice = random.Random(4)
    seeds = [json.dumps({"id": 1, "command": name, "net": 0, "path": "/nonexistent/x", "for": "a",
                         "timeout": 0, "text": "a", "regex": True, "since": 3}).encode()
             for name in ("status", "wait", "net", "type", "send", "save", "screen", "serial")]
    with Control(path) as control:
        for number in range(rounds):
            data = bytearray(dice.choice(seeds))
            for _ in range(dice.randrange(1, 8)):
                at = dice.randrange(len(data))
                choice = dice.randrange(3)
                if choice == 0:
                    data[at] = dice.randrange(256)
                elif choice == 1:
                    del data[at:at + dice.randrange(1, 9)]
                else:
                    data[at:at] = data[at - dice.randrange(9):at]
                data = data or bytearray(b"x")
            data = data.replace(b"\n", b" ").replace(b"quit", b"help").replace(b"reset", b"help")
            if not data.strip():
                continue
            reply = talk(control, bytes(data) + b"\n")
            if reply is None or "ok" not in reply:
                raise Failure(f"round {number}, {bytes(data)!r}: {reply}")


def check_crowd(path):
    """Sixteen at once; who comes then waits until one leaves."""
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(Control(path)) for _ in range(16)]
        for control in crowd:
            control.ask("help")
        late = stack.enter_context(Control(path))
        number = late.begin("help")
        late.socket.settimeout(0.5)
        try:
            reply = late.line()
        except Failure:
            reply = None
        same("the seventeenth", reply, None)
        crowd.pop().socket.close()
        late.end(number)
        # Those who go away in the midst of a wait leave room, too.
        for control in crowd:
            control.begin("wait", **{"for": "never", "timeout": 1000})
        time.sleep(0.2)
        for control in crowd:
            control.socket.close()
        for _ in range(15):
            stack.enter_context(Control(path)).ask("help")


def check_slow(path, guest):
    """Who does not read takes a bounded amount of memory, and nobody else waits for him."""
    def resident():
        text = Path(f"/proc/{guest.process.pid}/status").read_text()
        return int(re.search(r"^RssAnon:\s+(\d+)", text, re.M)[1])

    before = resident()
    with Control(path) as slow, Control(path) as listener, Control(path) as other:
        listener.ask("events")
        slow.socket.settimeout(2)
        try:
            for _ in range(200):
                slow.send(b'{"command":"net"}\n{"command":"help"}\n' * 2000)
        except TimeoutError:
            pass
        else:
            raise Failure("all requests of one who does not read were taken")
        for _ in range(2000):
            other.ask("resume")
        if resident() - before > 8 << 10:
            raise Failure(f"{resident() - before} KiB more are in use")
        began = time.monotonic()
        for _ in range(100):
            other.ask("status")
        if time.monotonic() - began > 5:
            raise Failure("others wait for one who does not read")


def check_no_descriptors(path, guest):
    """Without a descriptor for him a client waits, and costs nothing."""
    pid = guest.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    used = next(n for n in range(len(used) + 1) if n not in used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, limits[1]))
    try:
        with Control(path) as control:
            number = control.begin("help")
            before = guest.cpu_seconds()
            control.socket.settimeout(1)
            try:
                raise Failure(f"answered without a descriptor: {control.line()}")
            except Failure as failure:
                same("without a descriptor", str(failure), "no answer on the control socket")
            if guest.cpu_seconds() - before > 0.5:
                raise Failure("a client without a descriptor keeps the machine busy")
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            control.end(number)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def check_half_closed(path):
    """The last request of one who says no more is answered: printf | nc -N."""
    with Control(path) as control:
        control.send(b'{"id":1,"command":"wait","for":"never","timeout":0.3}\n{"id":2,"command":"help"}\n')
        control.socket.shutdown(socket.SHUT_WR)
        same("answers", [control.line()["id"], control.line()["id"], control.line()], [1, 2, None])


def hostile(program, engine):
    need("/usr/share/seabios/bios-256k.bin")
    with folder() as scratch:
        path = scratch / "m.sock"
        args = ["--engine", engine, "-m", "16", "-display", "none", "--control", path]
        with Guest(program, *args) as guest:
            with Control(path) as control:
                control.wait("No bootable device", 60, on="screen", regex=False)
                check_garbage(control)
            check_fuzz(path, 3000)
            check_crowd(path)
            check_slow(path, guest)
            check_half_closed(path)
            check_no_descriptors(path, guest)
            # A second machine does not take the path, and does not remove it.
            done = subprocess.run([program, *map(str, args)], capture_output=True, text=True,
                                  stdin=subprocess.DEVNULL, timeout=20)
            if done.returncode != 2 or "another process listens" not in done.stderr:
                raise Failure(f"a second machine: {done}")
            with Control(path) as control:
                control.ask("help")
            guest.process.kill()
            guest.process.wait()
        same("socket of a machine that was killed", path.is_socket(), True)
        with Guest(program, *args) as guest:
            with Control(path) as control:
                control.ask("quit")
            guest.wait(20)
        gone(path)
        (scratch / "file").write_text("mine")
        for bad, why in ((scratch / "file", "no socket"), (scratch / "none" / "x", "No such file"),
                         ("x" * 200, "at most 107 bytes")):
            done = subprocess.run([program, *map(str, args[:-1]), str(bad)], text=True, timeout=20,
                                  capture_output=True, stdin=subprocess.DEVNULL)
            if done.returncode != 2 or why not in done.stderr or len(done.stderr.splitlines()) != 1:
                raise Failure(f"--control {bad}: {done}")
        same("the file", (scratch / "file").read_text(), "mine")


SCENARIOS = {"control": commands, "control-hostile": hostile}
