"""gannet clone: many machines from one image on one relay, each with an identity of its own.

What is on the wire is read by tshark from the relay's capture; what the guests notice is
asked in the guests. The guests' servers are the relay's gateway and the host behind it.
"""
import calendar
import collections
import concurrent.futures
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time
from pathlib import Path

from guest import ESCAPES, I386, Failure, Guest, need
from network_lib import (Servers, address, check, end, free_port, initramfs, ping, ready, relay,
                         scratch_dir, tshark, wait_for)

COUNT = 20
GUEST_IP, GATEWAY = "10.0.2.50", "10.0.2.2"
GUEST_MAC = "52:54:00:12:34:56"
RELOAD = (f"ifconfig eth0 down; rmmod ne2k-pci && insmod /lib/modules/ne2k-pci.ko && "
          f"ifconfig eth0 {GUEST_IP} netmask 255.255.255.0 up")


def pss(pid):
    """KiB of a process, pages it shares with n - 1 others counted as an nth."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])


def save(pid, image):
    """The signal; the image is whole as soon as it has its name."""
    os.kill(pid, signal.SIGUSR2)
    wait_for(image.exists, f"the saving of {image}")


class SerialGuest(Guest):
    """A machine somebody else started, talked to through its serial port's socket."""

    def __init__(self, path, timeout=20):
        self.text, self.seen, self.name = b"", 0, Path(path).stem
        self.socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.socket.connect(str(path))
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise Failure(f"{path}: nobody listens") from None
                time.sleep(0.05)

    def read(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.socket], [], [], left)[0]:
            raise Failure("timed out")
        data = self.socket.recv(65536)
        self.text += ESCAPES.sub(b"", data)
        return bool(data)

    def type(self, text):
        self.socket.sendall(text.encode())

    def close(self):
        self.socket.close()


def base_image(program, engine, scratch, *args, memory=64, extra=(), before=None):
    """A guest with a configured card, saved; returns the image."""
    image = scratch / "base.state"
    guest = Guest(program, "--engine", engine, "-m", memory, "-nographic", "-no-reboot",
                  "--save", image, "-kernel", need(I386 / "vmlinuz-686"),
                  "-initrd", initramfs(scratch, extra=extra), "-append", "console=ttyS0 quiet", *args)
    with guest:
        ready(guest, engine)
        address(guest, GUEST_IP)
        ping(guest, GATEWAY, count=1)
        if before:
            before(guest)
        save(guest.process.pid, image)
    return image


class Clones:
    """`gannet clone` with a serial socket for each machine."""

    def __init__(self, program, image, scratch, *args, count=COUNT, first=1, name="clone"):
        self.count, self.events, self.macs, self.pids = count, [], {}, {}
        self.ended, self.gone, self.guests = None, False, []
        self.sockets = scratch / f"{name}-{{}}.sock"
        self.changed = threading.Condition()
        self.process = subprocess.Popen(
            [str(program), "clone", str(image), "-n", str(count), "--first", str(first),
             "--name", name, "--json", "-serial", f"unix:{self.sockets},server,nowait",
             "-no-reboot", *map(str, args)], stdout=subprocess.PIPE, text=True)
        self.numbers = range(first, first + count)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            event = json.loads(line)
            with self.changed:
                if event["event"] == "message":
                    print(event["instance"], event["text"], flush=True)
                elif event["event"] == "started":
                    self.pids[event["number"]] = event["pid"]
                elif event["event"] == "running":
                    self.macs[event["number"]] = event["wire"][0]
                    if event["guest"] != [GUEST_MAC]:
                        print(event)
                elif event["event"] == "end":
                    self.ended = event
                self.events.append(event)
                self.changed.notify_all()
        with self.changed:
            self.gone = True
            self.changed.notify_all()

    def wait(self, timeout=60):
        """Until all of them run and their serial ports are connected."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.gone or len(self.macs) == self.count,
                                         timeout) or self.gone:
                raise Failure(f"{len(self.macs)} of {self.count} clones run")
        self.guests = [SerialGuest(str(self.sockets).replace("{}", str(n))) for n in self.numbers]
        self.all("true") # after which nothing is left to come of what was there before
        macs = set(self.macs.values())
        if len(macs) != self.count or GUEST_MAC in macs:
            raise Failure(f"wire addresses are not one each: {self.macs}")

    def all(self, command, timeout=120):
        """In every guest at once, by number; returns the outputs."""
        def one(pair):
            text = command(pair[0]) if callable(command) else command
            return check(pair[1], text, timeout)
        with concurrent.futures.ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(one, zip(self.numbers, self.guests)))

    def pss(self):
        """KiB of all, shared pages counted once."""
        return sum(pss(pid) for pid in self.pids.values())

    def end(self, sig=signal.SIGINT, code=0):
        self.process.send_signal(sig)
        if self.process.wait(30) != code:
            raise Failure(f"gannet clone ended with {self.process.returncode}, expected {code}")
        with self.changed:
            self.changed.wait_for(lambda: self.gone, 5)
        if code == 0 and self.ended != {"event": "end", "machines": self.count,
                                        "well": self.count, "failed": 0}:
            raise Failure(f"not all clones ended well: {self.ended}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for guest in self.guests:
            guest.close()
        end(self.process)


def ping_all(clones):
    """Everyone pings the gateway and every other at once: three tries each, all answered."""
    def command(n):
        peers = " ".join(f"10.0.2.{i}" for i in clones.numbers if i != n)
        return (f"for p in {GATEWAY} {peers}; do "
                "ping -c 1 -W 4 $p > /dev/null || ping -c 2 -W 4 $p > /dev/null || echo LOST $p; done")
    start = time.monotonic()
    lost = [(n, line) for n, output in zip(clones.numbers, clones.all(command))
            for line in output.splitlines() if line.startswith("LOST")]
    print(f"{clones.count} machines pinged each other in {time.monotonic() - start:.1f} s")
    if lost:
        raise Failure(f"no answer: {lost}")


def download_all(clones, servers):
    """TCP with the same server, all at once; nobody asked for a lease."""
    sums = clones.all(f"wget -q -O - http://{GATEWAY}:{servers.http}/blob | md5sum")
    wrong = [n for n, output in zip(clones.numbers, sums) if servers.digest not in output]
    if wrong:
        raise Failure(f"machines {wrong} received something else")


def untouched(clones, reloads):
    """The card has been there since the guest's boot, or since so many reloads; the guest
    has its own addresses still, and entropy of its own."""
    outputs = clones.all("cat /sys/class/net/eth0/ifindex /sys/class/net/eth0/address; "
                         "ifconfig eth0 | grep 'inet addr'; "
                         "dmesg | grep -c 'crng reseeded due to virtual machine fork'; "
                         "echo RANDOM $(od -An -tx1 -N 16 /dev/urandom)")
    for n, output in zip(clones.numbers, outputs):
        # Interface 1 is the loopback; each time the driver is loaded its card gets the next.
        for want in (f"{2 + reloads}\n{GUEST_MAC}\n", f"inet addr:{GUEST_IP} "):
            if want not in output:
                raise Failure(f"machine {n}: {want!r} is not in {output!r}")
        if not re.search(r"^[1-9]\d*$", output.split("inet addr")[1], re.M):
            raise Failure(f"machine {n}: no fresh entropy: {output!r}")
    random = {re.search(r"RANDOM (.*)", output)[1] for output in outputs}
    if len(random) != clones.count:
        raise Failure("two machines have the same random numbers")


def check_wire(capture, clones_of):
    """What tshark finds in the relay's capture: @clones_of, {wire MAC: wire IP}."""
    fields = ("eth.src", "eth.dst", "arp.src.hw_mac", "arp.dst.hw_mac")
    leaks = tshark(capture, " or ".join(f"{f} == {GUEST_MAC}" for f in fields) +
                   f" or frame contains {GUEST_MAC}", "frame.number")
    if leaks:
        raise Failure(f"{len(leaks)} frames on the wire have the guest's address: {leaks[:5]}")
    senders, frames = collections.defaultdict(set), 0
    for line in tshark(capture, "ip or arp", "eth.src", "ip.src", "arp.src.proto_ipv4",
                       "arp.src.hw_mac"):
        mac, ip, arp_ip, arp_mac = line.split("\t")
        frames += 1
        if arp_mac and arp_mac != mac:
            raise Failure(f"an ARP frame of {mac} says {arp_mac}")
        if mac in clones_of:
            senders[mac].add(ip.split(",")[0] or arp_ip)
    for mac, ip in clones_of.items():
        if senders[mac] != {ip}:
            raise Failure(f"{mac} should be {ip} alone, it has sent as {senders[mac]}")
    print(f"tshark: {frames} frames, {len(clones_of)} machines, each with an address of its own")


def clones(program, engine):
    """Twenty clones ping each other and load by TCP, reload their drivers, and again as clones
    of a clone; nobody notices anything."""
    with scratch_dir() as scratch, Servers(1) as servers:
        port, capture = free_port(), scratch / "wire.pcapng"
        url, seen = f"ws://127.0.0.1:{port}/", {}
        with relay(program, port, "--gateway", "--capture", capture, log=scratch / "relay.log"):
            image = base_image(program, engine, scratch, "--net", url)
            second = scratch / "second-{}.state"
            start = time.monotonic()
            with Clones(program, image, scratch, "--engine", engine, "--net", url, "--ip",
                        "auto:10.0.2.{}", "--save", second, first=101) as fleet:
                fleet.wait()
                print(f"{COUNT} clones run after {time.monotonic() - start:.2f} s, "
                      f"{fleet.pss() / 1024:.1f} MiB together")
                seen.update({fleet.macs[n]: f"10.0.2.{n}" for n in fleet.numbers})
                ping_all(fleet)
                download_all(fleet, servers)
                untouched(fleet, reloads=0)
                fleet.all(RELOAD)
                ping_all(fleet)
                untouched(fleet, reloads=1)
                print(f"after all that {fleet.pss() / 1024:.1f} MiB together")
                parent = Path(str(second).replace("{}", "107"))
                save(fleet.pids[107], parent)
                fleet.end()
            with Clones(program, parent, scratch, "--engine", engine, "--net", url, "--ip",
                        f"{GUEST_IP}:10.0.2.{{}}", first=131, name="grandchild") as fleet:
                fleet.wait()
                seen.update({fleet.macs[n]: f"10.0.2.{n}" for n in fleet.numbers})
                ping_all(fleet)
                download_all(fleet, servers)
                untouched(fleet, reloads=1)
                fleet.end()
        if len(seen) != 2 * COUNT:
            raise Failure("two generations share an address on the wire")
        check_wire(capture, seen)


# ---- addresses and time of one machine, saved and restored again and again ----

def now_of(guest):
    """What the RTC shows, in seconds since 1970."""
    text = check(guest, "TZ=UTC hwclock -u")
    match = re.search(r"\w{3} (\w{3} [ \d]?\d \d\d:\d\d:\d\d \d{4})", text)
    return calendar.timegm(time.strptime(match[1], "%b %d %H:%M:%S %Y"))


# Asks the VMware port for the time, and writes the answer (EAX) to standard output.
ASK_TIME = bytes.fromhex(
    "b86e000000" "bb03000000" "cd80"     # iopl(3)
    "b868584d56" "b917000000" "ba58560000" "ed"  # EAX magic, ECX 23, DX 0x5658: IN EAX, DX
    "50" "b804000000" "bb01000000" "89e1" "ba04000000" "cd80"  # write(1, ESP, 4)
    "b801000000" "31db" "cd80")          # exit(0)


def ask_time_program(path):
    """A static ELF with nothing but that."""
    at, head = 0x08048000, 0x34 + 0x20
    size = head + len(ASK_TIME)
    path.write_bytes(
        b"\x7fELF\x01\x01\x01" + bytes(9) +
        struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, at + head, 0x34, 0, 0, 0x34, 0x20, 1, 0, 0, 0) +
        struct.pack("<IIIIIIII", 1, 0, at, at, size, size, 5, 0x1000) + ASK_TIME)


class One(Clones):
    """A machine alone, as the first instance of its name; ended at the end."""

    def __init__(self, program, image, scratch, name, *args, expect):
        self.expect, self.saved = expect, Path(tempfile.mkdtemp(dir=scratch), "state")
        super().__init__(program, image, scratch, "--net", "user:", "--interval", "1", "--save",
                         self.saved, *args, count=1, first=10, name=name)

    def __enter__(self):
        self.wait()
        self.guest, self.wire = self.guests[0], self.macs[10]
        self.sees(self.expect)
        ping(self.guest, GATEWAY, count=1)
        return self

    def sees(self, mac):
        """The guest's driver has this address, and Gannet knows it."""
        address_now = check(self.guest, "cat /sys/class/net/eth0/address").strip()
        if address_now != mac:
            raise Failure(f"the guest has {address_now}, expected {mac}")
        with self.changed:
            start = len(self.events)
            known = lambda: any(e["event"] == "status" and e["machines"][0]["guest"] == [mac] and
                                e["machines"][0]["wire"] == [self.wire]
                                for e in self.events[max(0, start - 2):])
            if not self.changed.wait_for(known, 10):
                raise Failure(f"gannet does not know {mac}, {self.wire}: {self.events[-1]}")

    def reload(self, mac):
        check(self.guest, RELOAD)
        self.sees(mac)
        ping(self.guest, GATEWAY, count=1)

    def __exit__(self, kind, *rest):
        if kind is None:
            save(self.pids[10], self.saved)
            self.end()
        super().__exit__(kind, *rest)


def identity(program, engine):
    """What becomes of both addresses, the clock and the entropy of a machine that is saved and
    restored again and again, under every policy."""
    with scratch_dir() as scratch:
        tool = scratch / "ask-time"
        ask_time_program(tool)
        tool.chmod(0o755)
        image = base_image(program, engine, scratch, "--net", "user:", extra=(f"{tool}:bin/ask-time",))
        saved_at = time.time()

        def one(name, image, *args, expect=GUEST_MAC):
            return One(program, image, scratch, name, "--engine", engine, *args, expect=expect)

        with one("alpha", image) as first:
            first.reload(GUEST_MAC)
        with one("alpha", first.saved) as again: # a generation later, the same instance
            if again.wire != first.wire:
                raise Failure(f"instance alpha-10 was {first.wire} and is {again.wire}")
            # A guest may take any address, even what others have on the wire.
            check(again.guest, "ifconfig eth0 down; ifconfig eth0 hw ether 02:00:00:00:00:77; "
                  f"ifconfig eth0 {GUEST_IP} up")
            again.sees("02:00:00:00:00:77")
            ping(again.guest, GATEWAY, count=1)
        with one("beta", again.saved, expect="02:00:00:00:00:77") as other:
            if other.wire in (first.wire, GUEST_MAC):
                raise Failure("another instance has the same address")
            other.reload(GUEST_MAC) # what its PROM says
        with one("given", image, "--nic", "wire=02:00:00:00:00:{}") as given:
            if given.wire != "02:00:00:00:00:10":
                raise Failure(f"wire= gave {given.wire}")

        # new: the PROM has the wire's address, which the guest takes with its next reload ...
        with one("new", image, "--mac", "new") as new:
            new.reload(new.wire)
        with one("new-child", new.saved, expect=new.wire) as child:
            if child.wire in (new.wire, GUEST_MAC):
                raise Failure("a copy of a machine with a new card has its address")
            child.reload(new.wire)
        # ... be that after it was saved once more.
        with one("late", image, "--mac", "new") as late:
            pass
        with one("later", late.saved) as later:
            later.reload(late.wire)
        with one("newer", later.saved, "--mac", "new", expect=late.wire) as newer:
            newer.reload(newer.wire)
        print("addresses survive", ", ".join((first.wire, other.wire, new.wire, newer.wire)))

        # preserve: both as they were
        for _ in range(3):
            kept = scratch / "kept.state"
            with Guest(program, "--engine", engine, "--restore", later.saved, "--mac", "preserve",
                       "--net", "user:", "-nographic", "--stats", "--save", kept) as guest:
                ping(guest, GATEWAY, count=1)
                save(guest.process.pid, kept)
                guest.process.terminate()
                guest.wait(20)
                text = guest.process.stderr.read().decode()
                if f"net0 guest {late.wire} wire {later.wire}" not in text:
                    raise Failure(f"not {late.wire} and {later.wire}: {text}")
            later.saved = kept.rename(scratch / "kept-again.state")

        passed = time.time() - saved_at
        if passed < 10:
            time.sleep(10 - passed)
        for clock in ("continue", "host"):
            with one(clock, image, "--clock", clock) as machine:
                late_by = time.time() - now_of(machine.guest)
                stood = time.time() - saved_at
                if not (abs(late_by) < 4 if clock == "host" else abs(late_by - stood) < 6):
                    raise Failure(f"--clock {clock}: the RTC is {late_by:.1f} s late, saved "
                                  f"{stood:.1f} s ago")
                asked = check(machine.guest, "ask-time | od -An -tu4")
                if abs(time.time() - int(asked)) > 4:
                    raise Failure(f"the VMware port says {asked}, it is {time.time():.0f}")
                if clock == "host": # the guest's own clock, put right by the guest
                    check(machine.guest, "hwclock -u -s")
                    if abs(time.time() - int(check(machine.guest, "date +%s"))) > 4:
                        raise Failure("hwclock -s did not set the clock right")


# ---- the command ----

def refused(program, message, *args):
    done = subprocess.run([str(program), "clone", *map(str, args)], capture_output=True, text=True,
                          timeout=30)
    if done.returncode != 2 or done.stderr.count("\n") != 1 or done.stdout or \
            not re.search(message, done.stderr):
        raise Failure(f"clone {args}: {done.returncode}, {done.stderr!r} {done.stdout!r}, "
                      f"expected 2 and {message!r}")


def alive(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and
            Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"]


def table(program, image):
    """On a terminal the table is drawn over itself; everything fits the window."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 100, 0, 0))
    process = subprocess.Popen([str(program), "clone", str(image), "-n", "5", "--name", "t"],
                               stdout=slave, stdin=slave, stderr=slave)
    os.close(slave)
    text, deadline = b"", time.monotonic() + 30
    while text.count(b"INSTANCE") < 3 or b"running" not in text:
        if time.monotonic() > deadline:
            raise Failure(f"no table: {text!r}")
        if select.select([master], [], [], 1)[0]:
            text += os.read(master, 65536)
    process.terminate()
    while True:
        try:
            text += os.read(master, 65536)
        except OSError:
            break
    if process.wait(10) != 0 or b"5 of 5 machines ended well" not in text:
        raise Failure(f"{process.returncode} {text!r}")
    # Header, three of the machines, the rest in a line: five rows up to draw it again.
    if b"\x1b[5A" not in text or b"and 2 more: " not in text:
        raise Failure(f"the table does not fit: {text!r}")


def memory(program, engine):
    """Twenty machines of 256 MiB that have just been started take less than two of the one
    that was saved: they share its memory, and translate only the code they run."""
    os.environ.pop("MALLOC_PERTURB_", None) # meson sets it; it touches all that malloc() gives
    with scratch_dir() as scratch:
        sizes = []
        image = base_image(program, engine, scratch, "--net", "user:", memory=256,
                           before=lambda guest: sizes.append(pss(guest.process.pid)))
        stored = image.stat().st_blocks // 2
        with Clones(program, image, scratch, "--engine", engine, "--net", "user:") as fleet:
            with fleet.changed: # nobody has typed anything yet
                fleet.changed.wait_for(lambda: len(fleet.macs) == COUNT, 60)
            together = fleet.pss()
            print(f"saved machine {sizes[0] / 1024:.1f} MiB, image {stored / 1024:.1f} MiB, "
                  f"{COUNT} clones {together / 1024:.1f} MiB")
            if together >= 2 * sizes[0]:
                raise Failure(f"{COUNT} clones: {together} KiB, the saved one: {sizes[0]} KiB")
            time.sleep(3)
            print(f"after 3 s of their timers {fleet.pss() / 1024:.1f} MiB")
            fleet.end()


def command(program, engine):
    """gannet clone itself: refusals, ends of all kinds, the table."""
    with scratch_dir() as scratch:
        image = base_image(program, engine, scratch, "--net", "user:")
        damaged = scratch / "damaged"
        data = bytearray(image.read_bytes())
        for at in range(len(data) - 4096, 0, -4096): # of the last page that is no hole
            if any(data[at:at + 64]):
                data[at] ^= 1
                break
        damaged.write_bytes(data)
        for message, *args in (
                ("no state image", ), ("-n: the state image comes first", "-n", "3"),
                ("-n 0: give a number from 1 to 400", image, "-n", "0"),
                ("-n many: give a number", image, "-n", "many"), ("-n: needs a value", image, "-n"),
                ("No such file", scratch / "absent"), ("damaged.*ram", damaged),
                ("--mac preserve", image, "--mac", "preserve"),
                ("--restore: clone says", image, "--restore", "x"),
                ("--instance: clone says", image, "--instance=x"),
                ("--save x: .*{}", image, "--save", "x"), ("--ip", image, "--ip", "auto:10.0.2.9"),
                ("-serial unix:x: .*{}", image, "-serial", "unix:x"),
                ("--nic wire=", image, "--nic", "wire=02:00:00:00:00:01")):
            refused(program, message, *args)

        # What machines refuse is said once, and they all fail.
        done = subprocess.run([program, "clone", image, "-n", "3", "--net", "nonsense:"],
                              capture_output=True, text=True, timeout=30)
        if done.returncode != 1 or done.stdout.count("unknown") > 2 or \
                "0 of 3 machines ended well" not in done.stdout:
            raise Failure(f"{done.returncode} {done.stdout}")

        def fleet(name):
            return Clones(program, image, scratch, "--engine", engine, "--net", "user:", count=3,
                          name=name)

        with fleet("killed") as machines: # one of them is killed
            machines.wait()
            os.kill(machines.pids[2], signal.SIGKILL)
            wait_for(lambda: any(e.get("signal") == 9 and e["number"] == 2
                                 for e in machines.events), "the news of the end")
            machines.guests[0].type("poweroff -f\n")
            wait_for(lambda: any(e.get("code") == 0 and e["number"] == 1
                                 for e in machines.events), "the end by poweroff")
            machines.end(signal.SIGTERM, code=1)
        with fleet("stuck") as machines: # one does not listen to SIGTERM
            machines.wait()
            os.kill(machines.pids[3], signal.SIGSTOP)
            start = time.monotonic()
            machines.end(signal.SIGINT, code=1)
            if not 2.5 < time.monotonic() - start < 8 or alive(machines.pids.values()):
                raise Failure("the stopped machine was not killed after three seconds")
        with fleet("orphans") as machines: # the parent is killed
            machines.wait()
            machines.process.kill()
            wait_for(lambda: not alive(machines.pids.values()), "the end of the orphans")
        table(program, image)


SCENARIOS = {"clones": clones, "clone-command": command, "clone-memory": memory, "identity": identity}
