"""Guests on a network of Gannet's own: user:, loopback:NAME, gannet relay; a boot ROM."""
import contextlib
import re
import shutil
import time

from guest import I386, Failure, Guest, Skip, need, shell
from network_lib import (BOOT, PORT, Servers, address, check, check_capture, dhcp, end, explained,
                         free_port, machine, make_data, mib, off, ping, reachable, ready, relay,
                         scratch_dir, start_relay, transfer, tshark, wait_end,
                         wait_for)

ROM = "/usr/lib/ipxe/qemu/pxe-ne2k_pci.rom"
PCI = "0000:00:05.0"
DRIVER = "/sys/bus/pci/drivers/ne2k-pci"


def user(program, engine):
    """Debian's ne2k-pci over user: DHCP, 64 MiB down and up, rebound, reloaded."""
    amount = mib(engine, 64)
    with scratch_dir() as scratch, Servers(amount) as servers:
        capture = scratch / "user.pcapng"
        with machine(program, engine, scratch, "--net", "user:", "--capture", capture) as guest:
            ready(guest, engine)
            output = check(guest, f"ls {DRIVER}; cat /sys/bus/pci/devices/{PCI}/vendor "
                           f"/sys/bus/pci/devices/{PCI}/device; dmesg | grep -i ne2k")
            if PCI not in output or "0x10ec" not in output or "0x8029" not in output:
                raise Failure(f"no RTL8029 at {PCI}: {output}")
            ip, lease = dhcp(guest)
            print(lease)
            rtt = ping(guest, "10.0.2.2")
            down = servers.download(guest, amount)
            up = servers.upload(guest, amount)
            print(f"user: {amount} MiB received at {down:.1f} MiB/s, sent at {up:.1f} MiB/s, "
                  f"ping {rtt:.3f} ms")

            check(guest, f"echo {PCI} > {DRIVER}/unbind")
            if "eth0" in check(guest, "cat /proc/net/dev"):
                raise Failure("unbinding the driver left eth0 behind")
            check(guest, f"echo {PCI} > {DRIVER}/bind")
            dhcp(guest)
            small = Servers(1)
            small.download(guest, 1, path="/tmp/small")
            check(guest, "ifconfig eth0 down; rmmod ne2k-pci && insmod /lib/modules/ne2k-pci.ko")
            dhcp(guest)
            small.download(guest, 1, path="/tmp/small")
            small.upload(guest, 1, path="/tmp/small")
            small.close()
            output = check(guest, "ifconfig eth0; cat /proc/interrupts | grep eth0")
            print(output)
            for word in ("errors:0", "dropped:0", "overruns:0"):
                if output.count(word) < 2:
                    raise Failure(f"the driver counts errors: {output}")
            explained(off(guest))
        check_capture(capture, raw_ports=(servers.http, servers.sink, small.http, small.sink))


def ipxe(program, engine):
    """iPXE in the card's option ROM boots a kernel by TFTP."""
    rom = need(ROM)
    kernel, initramfs = need(I386 / "vmlinuz-686"), need(I386 / "initramfs-686.cpio")
    with scratch_dir() as scratch:
        tree = scratch / "tftp"
        tree.mkdir()
        shutil.copy(kernel, tree / "vmlinuz")
        shutil.copy(initramfs, tree / "initrd")
        (tree / "boot.ipxe").write_text(
            "#!ipxe\n"
            "kernel vmlinuz console=ttyS0 quiet initrd=initrd\n"
            "initrd initrd\n"
            "boot\n")
        capture = scratch / "ipxe.pcapng"
        with Guest(program, "--engine", engine, "-m", "256", "-nographic", "-no-reboot",
                   "-boot", "n", "--net", f"user:?tftp={tree}&bootfile=boot.ipxe",
                   "--nic", f"model=ne2k_pci,net=0,romfile={rom}", "--capture", capture) as guest:
            shell(guest, 2 * BOOT[engine])
            check(guest, "grep -q initrd=initrd /proc/cmdline")
            off(guest)
        tftp = tshark(capture, "tftp.opcode == 1", "tftp.source_file")
        print("netboot over the boot ROM:", ", ".join(tftp))
        if not any("vmlinuz" in line for line in tftp):
            raise Failure(f"the kernel did not come by TFTP: {tftp}")
        check_capture(capture)


def two_guests(program, engine, scratch, nets, amount, title):
    """Ping and TCP both ways between two machines; returns their captures."""
    captures = [scratch / "first.pcapng", scratch / "second.pcapng"]
    with machine(program, engine, scratch, *nets[0], "--capture", captures[0]) as first, \
            machine(program, engine, scratch, *nets[1], "--capture", captures[1]) as second:
        ready(first, engine)
        ready(second, engine)
        address(first, "10.99.0.1")
        address(second, "10.99.0.2")
        reachable(first, "10.99.0.2")
        rtt = ping(first, "10.99.0.2", 10)
        ping(second, "10.99.0.1", 3)
        ping(second, "10.99.0.1", 3, size=4000) # in fragments
        digest = make_data(first, amount)
        there = transfer(first, second, "10.99.0.2", amount, digest)
        check(first, "rm /tmp/data")
        digest = make_data(second, amount)
        back = transfer(second, first, "10.99.0.1", amount, digest)
        print(f"{title}: {amount} MiB there at {there:.1f} MiB/s, back at {back:.1f} MiB/s, "
              f"ping {rtt:.3f} ms")
        counters = [off(first), off(second)]
        for each in counters:
            explained(each)
    for capture in captures:
        check_capture(capture, raw_ports=(PORT,))
    return captures


def loopback(program, engine):
    """Two processes on loopback:NAME, 64 MiB each way."""
    with scratch_dir() as scratch:
        net = ("--net", f"loopback:{scratch.name}")
        two_guests(program, engine, scratch, (net, net), mib(engine, 64), "loopback")


def on_relay(program, engine):
    """Two processes on `gannet relay`, 64 MiB each way."""
    with scratch_dir() as scratch:
        port = free_port()
        log = scratch / "relay.log"
        with relay(program, port, log=log):
            net = ("--net", f"ws://127.0.0.1:{port}/")
            two_guests(program, engine, scratch, (net, net), mib(engine, 64), "gannet relay")
        print(log.read_text())


def number(guest, path):
    return int(re.search(r"^(\d+)$", check(guest, f"cat {path}"), re.M)[1])


def relay_kill(program, engine):
    """The relay is killed and started again fifty times under one TCP connection."""
    kills = 50 if engine == "jit" else 10
    with scratch_dir() as scratch, contextlib.ExitStack() as stack:
        port, log = free_port(), scratch / "relay.log"
        # Without the limit both would soon wait longer than the relay lives.
        net = ("--net", f"ws://127.0.0.1:{port}/?retry=200ms")
        server = start_relay(program, port, log)
        stack.callback(lambda: end(server))
        source = stack.enter_context(machine(program, engine, scratch, *net))
        target = stack.enter_context(machine(program, engine, scratch, *net))
        ready(source, engine)
        ready(target, engine)
        address(source, "10.99.0.1")
        address(target, "10.99.0.2")
        reachable(source, "10.99.0.2")
        check(source, "dd if=/dev/urandom of=/tmp/data bs=64k count=1 2>/dev/null; echo 0 > /tmp/n")
        # Copies of one small file until told to stop, so that it is under way all the time.
        target.type(f"nc -l -p {PORT} -e sh -c 'md5sum > /tmp/sum'; cat /tmp/sum; "
                    "echo \"END=$?=$((40+2))\"\n")
        time.sleep(1)
        check(source, "echo 'n=0; while [ ! -e /tmp/stop ]; do cat /tmp/data || exit 1; "
              "n=$((n+1)); echo $n > /tmp/n; done' > /tmp/send")
        check(source, f"nc 10.99.0.2 {PORT} -e sh /tmp/send 2> /tmp/nc & true")
        resident = [], []
        start = time.monotonic()
        sent = []
        for n in range(kills):
            wait_for(lambda: log.read_text().count(" connect: ") >= 2 * (n + 1), "both guests' return")
            time.sleep(0.5)
            server.kill()
            server.wait()
            time.sleep(0.05)
            server = start_relay(program, port, log)
            if n % 10 == 9:
                sent.append(number(source, "/tmp/n"))
                for guest, values in zip((source, target), resident):
                    values.append(guest.resident())
        seconds = time.monotonic() - start
        check(source, "touch /tmp/stop")
        output, _ = wait_end(target, 120)
        count = number(source, "/tmp/n")
        check(source, f"for i in $(seq {count}); do cat /tmp/data; done | md5sum > /tmp/sum", 120)
        digest = re.search(r"[0-9a-f]{32}", check(source, "cat /tmp/sum"))[0]
        if digest not in output:
            raise Failure(f"{count} copies sent as {digest}, received {output!r}")
        print(f"relay killed {kills} times in {seconds:.0f} s; {count >> 4} MiB arrived intact "
              f"(64 KiB after each ten: {sent}); resident KiB {resident[0]} and {resident[1]}")
        if any(later == earlier for earlier, later in zip(sent, sent[1:])):
            raise Failure(f"nothing was sent during ten lives of the relay: {sent}")
        for values in resident:
            if values[-1] > values[0] + 4096:
                raise Failure(f"the resident set grows: {values} KiB")
        for guest in (source, target):
            counters = off(guest)
            explained(counters, "ws drop[.].*")
            left = counters["net0", "port", "wire-sent-frames"]
            kept = sum(count for (_, part, name), count in counters.items() if part == "ws" and
                       (name == "sent" or name.startswith("drop.")))
            back = counters["net0", "ws", "reconnects"]
            print(f"{left} frames to the relay: {kept} sent or dropped by name; {back} reconnects")
            if kept != left or back < kills:
                raise Failure(f"the counters do not add up: {counters}")


def two_cards(program, engine):
    """One machine on two networks at once: user: and loopback:."""
    amount = mib(engine, 16)
    with scratch_dir() as scratch, Servers(amount) as servers:
        lan = f"loopback:{scratch.name}"
        capture = scratch / "cards.pcapng"
        with machine(program, engine, scratch, "--net", "user:", "--net", lan,
                     "--capture", capture) as first, \
                machine(program, engine, scratch, "--net", lan) as second:
            ready(first, engine)
            ready(second, engine)
            output = check(first, "for i in eth0 eth1; do readlink /sys/class/net/$i/device; "
                           "cat /sys/class/net/$i/address; done")
            for word in ("0000:00:05.0", "0000:00:06.0", "52:54:00:12:34:56", "52:54:00:12:34:57"):
                if word not in output:
                    raise Failure(f"{word} is missing: {output}")
            dhcp(first)
            address(first, "10.99.0.1", "eth1")
            address(second, "10.99.0.2")
            reachable(first, "10.99.0.2")
            digest = make_data(second, amount)
            check(first, f"wget -q -O /tmp/blob http://10.0.2.2:{servers.http}/blob & true")
            rate = transfer(second, first, "10.99.0.1", amount, digest)
            output = check(first, "wait; md5sum < /tmp/blob", 120)
            if servers.digest not in output:
                raise Failure(f"the download beside it differs: {output}")
            print(f"two cards: {amount} MiB over each at once, loopback at {rate:.1f} MiB/s")
            explained(off(first))
            explained(off(second))
        check_capture(capture, raw_ports=(PORT, servers.http))


def isa(program, engine):
    """Debian's ne driver on an ISA card."""
    amount = mib(engine, 16)
    with scratch_dir() as scratch, Servers(amount) as servers:
        capture = scratch / "isa.pcapng"
        if not list((I386 / "kernel-686").glob("lib/modules/*/kernel/drivers/net/ethernet/8390/ne.ko")):
            raise Skip("this kernel has no ne module")
        with machine(program, engine, scratch, "--net", "user:", "--nic",
                     "model=ne2k_isa,iobase=0x300,irq=5,net=0", "--capture", capture) as guest:
            ready(guest, engine)
            print(check(guest, "insmod /lib/extra/8390p.ko && insmod /lib/extra/ne.ko io=0x300 irq=5 "
                        "&& dmesg | tail -n 4"))
            dhcp(guest)
            rtt = ping(guest, "10.0.2.2")
            down = servers.download(guest, amount)
            up = servers.upload(guest, amount)
            print(f"ISA card: {amount} MiB received at {down:.1f} MiB/s, sent at {up:.1f} MiB/s, "
                  f"ping {rtt:.3f} ms")
            explained(off(guest))
        check_capture(capture, raw_ports=(servers.http, servers.sink))


SCENARIOS = {
    "net-user": user,
    "net-ipxe": ipxe,
    "net-loopback": loopback,
    "net-relay": on_relay,
    "net-relay-kill": relay_kill,
    "net-two-cards": two_cards,
    "net-isa": isa,
}
