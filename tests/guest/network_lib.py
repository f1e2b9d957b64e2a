"""What the network scenarios share: a host's servers, transfers, captures, namespaces.

Guests are Debian kernels with a busybox initramfs that also has a script for
udhcpc and modules that are loaded by hand. Bulk data goes through busybox's
nc with -e, so that the program at each end reads or writes the socket itself.
"""
import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from guest import I386, ROOT, Failure, Guest, Skip, need, shell

BOOT = {"jit": 120, "interp": 600}
PORT = 50001     # of transfers between guests
MODULES = "ne2k-pci"
BY_HAND = ("8390/8390p", "8390/ne", "intel/e1000/e1000")

UDHCPC = """\
#!/bin/sh
case $1 in
bound|renew)
    ifconfig $interface $ip netmask $subnet
    [ -z "$router" ] || route add default gw $router dev $interface
    echo "LEASE $interface $ip router=$router dns=$dns server=$serverid"
    ;;
deconfig)
    ifconfig $interface 0.0.0.0
    ;;
esac
"""


def mib(engine, amount):
    """The amount for the recompiler; the interpreter gets a sixteenth.

    $GANNET_NET_MIB overrides both, for peers that are slower."""
    if "GANNET_NET_MIB" in os.environ:
        return int(os.environ["GANNET_NET_MIB"])
    return amount if engine == "jit" else max(1, amount // 16)


def tool(name, package):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise Skip(f"{name} is missing (package {package})")
    return path


def initramfs(scratch, flavour="686", extra=()):
    """The initramfs of the network scenarios; @extra: more files, "HOST:GUEST"."""
    tree = need(I386 / f"kernel-{flavour}")
    busybox = need(I386 / "busybox/bin/busybox")
    out, script = Path(scratch, f"net-{flavour}.cpio"), Path(scratch, "udhcpc")
    if out.exists():
        return out
    script.write_text(UDHCPC)
    script.chmod(0o755)
    files = [f"{script}:etc/udhcpc/default.script", *extra]
    for name in BY_HAND:
        found = list(tree.glob(f"lib/modules/*/kernel/drivers/net/ethernet/{name}.ko"))
        if found:
            files.append(f"{found[0]}:lib/extra/{found[0].name}")
    for path in tree.glob("lib/modules/*/kernel/drivers/net/ethernet/8390/*.ko"):
        if path.name in ("8390.ko", "ne2k-pci.ko"):
            files.append(f"{path}:lib/extra/{path.name}")
    subprocess.run([sys.executable, ROOT / "tools/initramfs", out, "--kernel-tree", tree,
                    "--busybox", busybox, "--modules", MODULES,
                    *(part for name in files for part in ("--file", name))], check=True)
    return out


@contextlib.contextmanager
def scratch_dir():
    with tempfile.TemporaryDirectory(prefix="gannet-net-") as path:
        yield Path(path)


def machine(program, engine, scratch, *args, append="", flavour="686", prefix=()):
    """A guest with the network initramfs, not yet waited for."""
    kernel = need(I386 / f"vmlinuz-{flavour}")
    command = [*map(str, prefix), str(program), "--engine", engine, "-m", "256", "-nographic",
               "-no-reboot", "--stats", "-kernel", str(kernel), "-initrd", str(initramfs(scratch, flavour)),
               "-append", f"console=ttyS0 quiet {append}".strip(), *map(str, args)]
    return Guest(command[0], *command[1:])


def ready(guest, engine):
    shell(guest, BOOT[engine])


def off(guest, timeout=60):
    """Powers the guest off; returns the counters of --stats, {(card, part, name): n}."""
    guest.type("poweroff\n")
    guest.wait(timeout)
    errors = guest.process.stderr.read().decode(errors="replace")
    print(errors, flush=True)
    found = re.findall(r"^(net\d+) (\S+) ([a-z][a-z0-9.-]*) (\d+)$", errors, re.M)
    return {(card, part, name): int(n) for card, part, name, n in found}


# Multicast nobody asked for; what comes before the guest sets the card up and after it
# has gone down, and while it is alone; what a relay that got no processor for half a second
# was not sent any more.
EXPLAINED = {"drop.not-for-us": 200, "drop.stopped": 50, "drop.no-peer": 50, "drop.aged": 50}


def explained(counters, *allowed):
    """Drops only as EXPLAINED or @allowed ("PART NAME", a regular expression)."""
    for (card, part, name), n in counters.items():
        if name.startswith("drop.") and n > EXPLAINED.get(name, 0) and \
                not any(re.fullmatch(a, f"{part} {name}") for a in allowed):
            raise Failure(f"{card}: {part} counts {n} of {name}")


def check(guest, command, timeout=60):
    """Runs a command that must succeed; returns its output."""
    output, status = guest.run(command, timeout)
    if status != 0:
        raise Failure(f"{command!r} ended with {status}: {output}")
    return output


def address(guest, ip, interface="eth0"):
    check(guest, f"ifconfig {interface} {ip} netmask 255.255.255.0 up")


def dhcp(guest, interface="eth0", timeout=60):
    """A lease by udhcpc; returns (address, line the script printed)."""
    check(guest, f"ifconfig {interface} up")
    output = check(guest, f"udhcpc -i {interface} -n -q -t 8 -T 2 2>&1", timeout)
    match = re.search(rf"LEASE {interface} (\S+) .*", output)
    if not match:
        raise Failure(f"udhcpc got no lease: {output}")
    return match[1], match[0]


def ping(guest, ip, count=5, lost=0, timeout=60, size=None):
    """Pings and returns the average round trip in ms."""
    size = f"-s {size} " if size else ""
    output, _ = guest.run(f"ping -c {count} {size}-W 5 {ip}", timeout)
    match = re.search(r"(\d+) packets transmitted, (\d+) packets received", output)
    if not match or int(match[1]) - int(match[2]) > lost:
        raise Failure(f"ping {ip}: {output}")
    match = re.search(r"= [\d.]+/([\d.]+)/", output)
    return float(match[1]) if match else 0.0


def reachable(guest, ip, timeout=60):
    """Waits until a peer answers: its link or relay may still be coming up."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        output, status = guest.run(f"ping -c 1 -W 1 {ip}", 30)
        if status == 0:
            return
    raise Failure(f"{ip} does not answer: {output}")


def wait_end(guest, timeout):
    """The rest of what Guest.run() does, for a command typed before."""
    start = guest.seen
    match = guest.expect(r"END=(\d+)=42\n", timeout)
    return guest.text[start:match.start()].decode(errors="replace"), int(match[1])


def md5(guest, path, timeout=120):
    return re.search(r"\b[0-9a-f]{32}\b", check(guest, f"md5sum < {path}", timeout))[0]


def make_data(guest, amount, path="/tmp/data"):
    """Random bytes in the guest; returns their MD5."""
    check(guest, f"dd if=/dev/urandom of={path} bs=64k count={amount * 16} 2>/dev/null", 300)
    return md5(guest, path)


def transfer(source, target, ip, amount, digest, timeout=300, path="/tmp/data", port=PORT,
             meanwhile=None):
    """TCP from one guest to another at @ip, checksums compared; returns MiB/s.

    @meanwhile, a function, is called while the bytes flow."""
    target.type(f"nc -l -p {port} -e sh -c 'md5sum > /tmp/sum'; cat /tmp/sum; "
                "echo \"END=$?=$((40+2))\"\n")
    deadline = time.monotonic() + 20
    while True: # until nc listens; there is no other way to know
        time.sleep(0.3)
        source.type(f"nc {ip} {port} -e cat {path}; echo \"END=$?=$((40+2))\"\n")
        start = time.monotonic()
        try:
            source.expect(r"refused", 0.5)
        except Failure:
            break
        source.expect(r"END=(\d+)=42\n", 20)
        if time.monotonic() > deadline:
            raise Failure("the peer's nc does not listen")
    if meanwhile:
        meanwhile()
    output, _ = wait_end(target, timeout)
    seconds = time.monotonic() - start
    wait_end(source, 60)
    if digest not in output:
        raise Failure(f"sent {digest}, received {output!r}")
    return amount / seconds


class Servers:
    """Two plain TCP servers on the host: one gives a blob by HTTP, one takes bytes."""

    def __init__(self, amount, host="127.0.0.1"):
        self.blob = os.urandom(amount << 20)
        self.digest = hashlib.md5(self.blob).hexdigest()
        self.received = []
        self.done = threading.Event()
        self.sockets = []
        self.http = self.serve(host, self.give)
        self.sink = self.serve(host, self.take)

    def serve(self, host, handler):
        server = socket.create_server((host, 0))
        self.sockets.append(server)

        def loop():
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=handler, args=(peer,), daemon=True).start()

        threading.Thread(target=loop, daemon=True).start()
        return server.getsockname()[1]

    def give(self, peer):
        with peer:
            head = b""
            while b"\r\n\r\n" not in head:
                data = peer.recv(4096)
                if not data:
                    return
                head += data
            try:
                peer.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.blob))
                peer.sendall(self.blob)
                peer.shutdown(socket.SHUT_WR)
                peer.recv(1)
            except OSError:
                pass

    def take(self, peer):
        digest = hashlib.md5()
        with peer:
            while True:
                data = peer.recv(1 << 16)
                if not data:
                    break
                digest.update(data)
        self.received.append(digest.hexdigest())
        self.done.set()

    def taken(self, timeout):
        if not self.done.wait(timeout):
            raise Failure("the upload did not arrive")
        self.done.clear()
        return self.received[-1]

    def close(self):
        for server in self.sockets:
            server.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def download(self, guest, amount, host="10.0.2.2", timeout=300, path="/tmp/data"):
        """wget in the guest; returns MiB/s."""
        start = time.monotonic()
        check(guest, f"wget -q -O {path} http://{host}:{self.http}/blob", timeout)
        seconds = time.monotonic() - start
        digest = md5(guest, path)
        if self.digest != digest:
            raise Failure(f"downloaded {digest}, the server has {self.digest}")
        return amount / seconds

    def upload(self, guest, amount, host="10.0.2.2", timeout=300, path="/tmp/data"):
        """nc in the guest sends a file; returns MiB/s."""
        digest = md5(guest, path)
        start = time.monotonic()
        check(guest, f"nc {host} {self.sink} -e cat {path}", timeout)
        if self.taken(60) != digest:
            raise Failure(f"uploaded {self.received[-1]}, the guest has {digest}")
        return amount / (time.monotonic() - start)


# ---- captures ----

STATUS = [f"{name}.checksum.status" for name in ("ip", "tcp", "udp", "icmp", "icmpv6", "igmp")]


def tshark(capture, filter_text, *fields, raw_ports=(), limit=None):
    """Lines of tshark for the frames a display filter lets through."""
    command = [tool("tshark", "tshark"), "-n", "-r", str(capture), "-Y", filter_text,
               "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
               "-o", "udp.check_checksum:TRUE", "-o", "tcp.desegment_tcp_streams:FALSE"]
    for port in raw_ports: # the bytes are random: let nobody see a protocol in them
        command += ["-d", f"tcp.port=={port},data"]
    if fields:
        command += ["-T", "fields"] + [part for name in fields for part in ("-e", name)]
    if limit:
        command += ["-c", str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise Failure(f"tshark: {done.stderr}")
    return done.stdout.splitlines()


def check_capture(capture, raw_ports=(), both_sides=True, judged="frame"):
    """No malformed frame, no bad checksum; returns how many frames each interface has.

    @judged: a display filter, for peers that send broken frames of their own."""
    counts, bad = {}, []
    for line in tshark(capture, judged, "frame.number", "frame.interface_name", "_ws.malformed",
                       "_ws.short", *STATUS, "tcp.checksum", raw_ports=raw_ports):
        number, name, *faults, checksum = line.split("\t")
        counts[name] = counts.get(name, 0) + 1
        # Within an ICMP error lies a second, shortened packet: "0" is bad wherever it is.
        # A TCP checksum of 0xffff is Linux's way to write 0 (skb_checksum_help(), one in
        # 65,536 segments), equal in ones' complement; tshark calls it bad.
        if checksum == "0xffff":
            faults[2 + STATUS.index("tcp.checksum.status")] = ""
        statuses = ",".join(faults[2:]).split(",")
        if faults[0] or faults[1] or "0" in statuses:
            bad.append(number)
    text = ", ".join(f"{name or 'all'} {count}" for name, count in counts.items())
    print(f"capture {Path(capture).name}: {text} frames, {len(bad)} malformed or with bad checksums")
    if bad:
        lines = tshark(capture, f"frame.number == {bad[0]}", raw_ports=raw_ports)
        raise Failure(f"tshark finds {len(bad)} bad frames, the first: {lines}")
    if not counts:
        raise Failure(f"{capture} holds no frames")
    if both_sides and len(counts) % 2:
        raise Failure(f"{capture} should have a guest and a wire side, it has {counts}")
    return counts


# ---- network namespaces ----

class Namespace:
    """A network namespace with its loopback up; deleted at the end with all in it."""

    count = 0

    def __init__(self):
        if os.getuid() != 0:
            raise Skip("network namespaces need root")
        Namespace.count += 1
        self.name = f"peers-{os.getpid()}-{Namespace.count}"
        self.ip = tool("ip", "iproute2")
        self.processes = []
        if subprocess.run([self.ip, "netns", "add", self.name], capture_output=True).returncode:
            raise Skip("network namespaces cannot be made here")
        self.run("ip", "link", "set", "lo", "up")

    @property
    def prefix(self):
        return [self.ip, "netns", "exec", self.name]

    def run(self, *command):
        done = subprocess.run([*self.prefix, *map(str, command)], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure(f"{' '.join(map(str, command))}: {done.stderr}")
        return done.stdout

    def start(self, *command, log):
        process = subprocess.Popen([*self.prefix, *map(str, command)], stdin=subprocess.DEVNULL,
                                   stdout=open(log, "w"), stderr=subprocess.STDOUT)
        self.processes.append(process)
        return process

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            end(process)
        subprocess.run([self.ip, "netns", "del", self.name], check=False)


def end(process):
    """Ends a program this test started: politely first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(condition, what, timeout=20):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"{what} did not happen within {timeout} s")
        time.sleep(0.05)


def free_port():
    """A TCP port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start_relay(program, port, log, *args):
    """`gannet relay` on a port of loopback, taking connections when this returns."""
    with open(log, "a") as out:
        process = subprocess.Popen([str(program), "relay", "--listen", f"127.0.0.1:{port}", *args],
                                   stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    wait_for(lambda: listening(port) or process.poll() is not None, "the relay's start")
    if process.poll() is not None:
        raise Failure(f"the relay ended: {Path(log).read_text()}")
    return process


@contextlib.contextmanager
def relay(program, port, *args, log):
    process = start_relay(program, port, log, *args)
    try:
        yield process
    finally:
        end(process)
