#!/usr/bin/env python3
"""What tshark makes of our captures, and we of tshark's.

usage: capture_tshark.py CAPTURE_WRITER
"""
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

GUEST = bytes.fromhex("525400123456")
PEER = bytes.fromhex("02aabbccddee")


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(number, size, reply=False):
    """An ICMP echo, request or reply, with checksums that are right."""
    source, target = bytes([10, 0, 2, 15]), bytes([10, 0, 2, 2])
    ends = PEER + GUEST
    if reply:
        source, target, ends = target, source, GUEST + PEER
    data = bytes((number + i) & 0xFF for i in range(size))
    icmp = struct.pack("!BBHHH", 0 if reply else 8, 0, 0, 7, number) + data
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(icmp), number, 0, 64, 1, 0) + source + target
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return ends + b"\x08\x00" + head + icmp


class Writer:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)
        self.notes, self.frames = [], []

    def ask(self, *commands):
        self.process.stdin.write("".join(f"{c}\n" for c in commands))
        self.process.stdin.flush()
        for command in commands:
            self.answer(command)

    def answer(self, command):
        while True:
            line = self.process.stdout.readline()
            word, _, text = line.rstrip("\n").partition(" ")
            if word == "ok":
                return
            if word == "notify":
                self.notes.append(text)
            elif word == "frame":
                self.frames.append(bytes.fromhex(text))
            else:
                raise AssertionError(f"{command}: {line!r}")

    def send(self, frame):
        self.ask("send " + frame.hex())

    def receive(self, frame):
        self.ask("receive " + frame.hex())

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0


FIELDS = ["frame.interface_name", "frame.packet_flags_direction", "frame.time_epoch", "icmp.seq",
          "frame.len"]


def tshark(path, *more):
    done = subprocess.run(["tshark", "-n", "-o", "ip.check_checksum:TRUE", "-r", path, *more],
                          capture_output=True, text=True, timeout=60)
    # Root is warned each time; the rest of what it has to say counts.
    said = [l for l in done.stderr.splitlines() if l and "could be dangerous" not in l]
    assert done.returncode == 0 and not said, f"tshark on {path}: {done.returncode} {said}"
    return done.stdout.splitlines()


def rows(path):
    columns = [a for f in FIELDS for a in ("-e", f)]
    return [l.split("\t") for l in tshark(path, "-T", "fields", *columns)]


def sound(path):
    bad = tshark(path, "-Y", "_ws.malformed || _ws.expert.severity >= error || "
                 "ip.checksum.status == 0 || icmp.checksum.status == 0")
    assert not bad, bad


def two_sides(program, path):
    """Count, order, direction, interface, stamps, while the writer lives; content after."""
    writer = Writer(program)
    writer.ask(f"capture {path}")
    before = time.time()
    expect, frames = [], []
    for number in range(1, 101):
        out, back = ping(number, number * 13 % 1400), ping(number, number * 13 % 1400, True)
        writer.send(out)
        writer.receive(back)
        for frame, way, names in ((out, "2", ("net0 guest", "net0 wire")),
                                  (back, "1", ("net0 wire", "net0 guest"))):
            for name in names:
                expect.append([name, way, str(number), str(len(frame))])
                frames.append(frame)
    time.sleep(0.5)
    seen = rows(path)
    after = time.time()
    assert [[r[0], "2" if int(r[1], 0) == 2 else "1", r[3], r[4]] for r in seen] == expect
    stamps = [r[2] for r in seen]
    assert stamps == sorted(stamps), "stamps go back"
    assert all(before - 0.01 <= float(s) <= after for s in stamps)
    assert any(not s.endswith("000") for s in stamps), "no nanoseconds"
    assert writer.frames == [ping(n, n * 13 % 1400, True) for n in range(1, 101)]
    sound(path)
    writer.close()
    plain = path + ".plain"
    tshark(path, "-F", "pcap", "-w", plain)
    with open(plain, "rb") as f:
        data, at, read = f.read(), 24, []
    while at < len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        read.append(data[at + 16:at + 16 + size])
        at += 16 + size
    assert read == frames, "the frames differ"


def growing(program, path):
    """Reading at any moment finds whole blocks, at most a moment old."""
    writer = Writer(program)
    writer.ask(f"capture {path}")
    count = 0
    for turn in range(6):
        for _ in range(turn * 150):
            writer.send(ping(count, 500))
            count += 1
        rows(path)
    time.sleep(0.3)
    assert len(rows(path)) == 2 * count
    os.kill(writer.process.pid, 9)
    writer.process.wait()
    assert len(rows(path)) == 2 * count
    sound(path)


def rotated(program, path):
    writer = Writer(program)
    writer.ask(f"capture {path} 65536 4")
    for number in range(600):
        writer.send(ping(number, 700))
    writer.close()
    folder, name = os.path.split(path)
    files = sorted((f for f in os.listdir(folder) if f.startswith(name + ".")),
                   key=lambda f: int(f.rsplit(".", 1)[1]))
    assert len(files) == 4 and not os.path.exists(path), files
    numbers = []
    for f in files:
        sound(os.path.join(folder, f))
        numbers += [int(r[3]) for r in rows(os.path.join(folder, f)) if r[0] == "net0 wire"]
    assert numbers == list(range(numbers[0], 600)), "frames are missing between the files"


def classic(program, path):
    writer = Writer(program)
    writer.ask(f"capture {path}")
    for number in range(10):
        writer.send(ping(number, 700))
        writer.receive(ping(number, 700, True))
    writer.close()
    seen = rows(path)
    assert [r[3] for r in seen] == [str(n // 2) for n in range(20)]
    assert any(not r[2].endswith("000") for r in seen), "no nanoseconds"
    sound(path)


def disk_full(program, path):
    writer = Writer(program)
    writer.ask(f"capture {path}", "limit 200003")
    for number in range(1000):
        writer.send(ping(number, 700))
    sound(path)
    assert os.path.getsize(path) <= 200003
    assert len(writer.notes) == 1 and "File too large" in writer.notes[0], writer.notes
    writer.ask("limit 0")
    time.sleep(1.3)
    for number in range(1000, 1010):
        writer.send(ping(number, 700))
    assert "goes on" in writer.notes[1], writer.notes
    writer.close()
    sound(path)
    seen = rows(path)
    lost = int(writer.notes[1].split("goes on, ")[1].split()[0])
    assert len(seen) + lost == 2020 and seen[-1][3] == "1009", (len(seen), lost)


def fifo(program, path):
    os.mkfifo(path)
    reader = subprocess.Popen(["tshark", "-n", "-l", "-i", path, "-c", "40", "-T", "fields",
                               "-e", "frame.interface_name", "-e", "icmp.seq"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    writer = Writer(program)
    writer.ask(f"capture {path}")
    # tshark takes its time; what is sent before it opens the FIFO is lost, and said to be.
    for number in range(200):
        writer.send(ping(number, 100))
        time.sleep(0.05)
        if reader.poll() is not None:
            break
    out = reader.communicate(timeout=20)[0].splitlines()
    assert len(out) == 40, out
    numbers = [int(line.split("\t")[1]) for line in out]
    assert numbers == [numbers[0] + n // 2 for n in range(40)], numbers
    writer.send(ping(1, 100))
    writer.close()


def idle(program, path):
    """Nothing wakes up for a capture into which nothing goes."""
    def switches():
        count = 0
        for task in os.listdir(f"/proc/{writer.process.pid}/task"):
            with open(f"/proc/{writer.process.pid}/task/{task}/status") as f:
                count += int(f.read().split("\nvoluntary_ctxt_switches:")[1].split()[0])
        return count
    writer = Writer(program)
    writer.ask(f"capture {path}")
    writer.send(ping(1, 100))
    time.sleep(0.5)
    before = switches()
    time.sleep(1)
    assert switches() - before <= 2, switches() - before
    assert len(rows(path)) == 2
    writer.close()


def replayed(program, folder, source):
    """tshark's files into the guest, and what the guest sends out of tshark."""
    want = [ping(n, n * 13 % 1400, True) for n in range(1, 101)]
    for kind in ("pcap", "nsecpcap", "pcapng"):
        path = os.path.join(folder, "tshark." + kind)
        tshark(source, "-F", kind, "-w", path, "-Y",
               'frame.interface_name == "net0 guest" && icmp.type == 0')
        writer = Writer(program)
        out = os.path.join(folder, kind + ".out.pcap")
        writer.ask(f"backend pcap:in={path},out={out}?speed=max")
        writer.send(ping(1, 50))
        for _ in range(100):
            if len(writer.frames) == len(want) and writer.notes:
                break
            time.sleep(0.05)
            writer.ask("limit 0")
        writer.send(ping(2, 50))
        assert writer.frames == want, f"{kind}: {len(writer.frames)} frames"
        assert "is over, 100 frames" in writer.notes[0], writer.notes
        writer.close()
        assert [r[3] for r in rows(out)] == ["1", "2"]
        sound(out)


def main():
    program = sys.argv[1]
    if not shutil.which("tshark"):
        print("SKIP: tshark is not installed (package tshark)")
        sys.exit(77)
    kinds = subprocess.run([program], input="backend pcap:\n", capture_output=True, text=True,
                           timeout=20).stdout
    with tempfile.TemporaryDirectory() as folder:
        def path(name):
            return os.path.join(folder, name)
        two_sides(program, path("two.pcapng"))
        growing(program, path("growing.pcapng"))
        rotated(program, path("rotated"))
        classic(program, path("classic.pcap"))
        disk_full(program, path("full.pcapng"))
        fifo(program, path("fifo"))
        idle(program, path("idle.pcapng"))
        if "without libpcap" not in kinds:
            replayed(program, folder, path("two.pcapng"))


main()
