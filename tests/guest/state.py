"""State images: a machine saved in the middle of its work goes on in another process.

Expected results come from an unsaved run, or are computed here.
"""
import concurrent.futures
import hashlib
import os
import random
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from guest import I386, ROOT, Failure, Guest, linux, need, shell

# What the guest does from its first process to the end; its last line is the result.
RC = """\
#!/bin/sh
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
i=0
while [ $i -lt 6 ]; do
    i=$((i+1))
    seq 1 $((i * 10000)) | gzip -n | gzip -d | md5sum
done
ping -c 1 -W 5 10.0.2.2 > /dev/null && echo "network up"
dmesg | grep -c "Call Trace"
echo "cards $(ls /sys/bus/pci/devices | wc -l) files $(find / -xdev | wc -l)"
echo "END OF WORK"
poweroff -f
"""


def initramfs(folder, rc, *modules):
    busybox = need(I386 / "busybox/bin/busybox")
    tree = need(I386 / "kernel-686")
    path, out = Path(folder, "rc"), Path(folder, "initramfs.cpio")
    path.write_text(rc)
    subprocess.run([ROOT / "tools/initramfs", out, "--kernel-tree", tree, "--busybox", busybox,
                    "--modules", ",".join(modules), "--rc", path], check=True)
    return out


class Saver:
    """Saves a running guest by SIGUSR2; reads its stderr in a thread to know when it is done."""

    def __init__(self, guest, path):
        self.guest, self.path = guest, Path(path)
        self.lines = []
        self.ended = False
        self.news = threading.Condition()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.guest.process.stderr:
            with self.news:
                self.lines.append(line.decode(errors="replace").strip())
                self.news.notify()
        with self.news:
            self.ended = True
            self.news.notify()

    def save(self, to, timeout=30):
        before = len(self.lines)
        os.kill(self.guest.process.pid, signal.SIGUSR2)
        with self.news:
            if not self.news.wait_for(lambda: len(self.lines) > before or self.ended, timeout):
                raise Failure("the machine was not saved in time")
            if len(self.lines) == before:
                return False # the guest had switched itself off before it was asked
            line = self.lines[before]
        if not line.startswith("gannet: saved to "):
            raise Failure(f"saving: {line}")
        self.path.rename(to)
        return True


def work_of(text):
    """From the first checksum to the end: what must be the same in every run."""
    lines = [l for l in text.decode(errors="replace").splitlines()
             if re.match(r"[0-9a-f]{32}  -|network|[0-9]+$|cards|END", l)]
    return lines


def expected_work():
    lines = []
    for i in range(1, 7):
        text = "".join(f"{n}\n" for n in range(1, i * 10000 + 1)).encode()
        lines.append(hashlib.md5(text).hexdigest() + "  -")
    return lines


def finish(program, engine, image):
    """Restores an image and lets it run to the end; returns what it printed."""
    with Guest(program, "--engine", engine, "--restore", image, "-nographic", "-no-reboot",
               stdin=subprocess.DEVNULL, echo=False) as guest:
        guest.wait(240)
        return guest.text


def random_saves(program, engine):
    """Fifty saves at random points of a boot, each restored and run to the end."""
    count = 50 if engine == "jit" else 6
    seed = int(os.environ.get("GANNET_SEED", random.randrange(1 << 32)))
    generator = random.Random(seed)
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        ramfs = initramfs(folder, RC, "ne2k-pci")
        image = Path(folder, "machine.img")
        start = time.monotonic()
        with linux(program, "686", engine, "--net", "user:", initramfs=ramfs) as guest:
            guest.wait(400)
            whole = guest.text
        seconds = time.monotonic() - start
        work = work_of(whole)
        if work[:6] != expected_work() or work[-1] != "END OF WORK" or "network up" not in work:
            raise Failure(f"the unsaved run is wrong: {work}")

        saved = []
        with linux(program, "686", engine, "--net", "user:", "--save", image,
                   initramfs=ramfs, ) as guest:
            saver = Saver(guest, image)
            reader = threading.Thread(target=read_all, args=(guest,), daemon=True)
            reader.start()
            # The guest runs only between saves: pauses add up to a little less than its life.
            pauses = [generator.random() for _ in range(count)]
            scale = seconds * 0.85 / sum(pauses)
            for number, pause in enumerate(pauses):
                time.sleep(pause * scale)
                if guest.process.poll() is not None:
                    break
                to = Path(folder, f"{number}.img")
                before = len(guest.text)
                if not saver.save(to):
                    break
                saved.append((to, before, len(guest.text)))
            guest.process.wait(400)
            reader.join()
            if work_of(guest.text) != work:
                raise Failure(f"the saved machine itself went wrong: {work_of(guest.text)}")
        if len(saved) < count * 0.7:
            raise Failure(f"only {len(saved)} of {count} saves before the guest was done")

        def check(item):
            path, before, after = item
            rest = finish(program, engine, path)
            path.unlink()
            # What it printed before the save and after the restore make up the whole.
            lines = work_of(rest)
            if not lines or lines != work[len(work) - len(lines):]:
                return f"{path.name}: {lines}"
            return None

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            wrong = list(filter(None, pool.map(check, saved)))
    print(f"{len(saved)} cases of saving at a random point")
    if wrong:
        raise Failure(f"seed {seed}: {len(wrong)} of {len(saved)}: " + "\n".join(wrong))


def read_all(guest):
    try:
        while guest.read(time.monotonic() + 400):
            pass
    except (Failure, ValueError):
        pass


def card_of(guest):
    """(the address of eth0, how often the driver was loaded), whatever else the console says."""
    output, _ = guest.run("echo address=$(cat /sys/class/net/eth0/address) "
                          "loads=$(dmesg | grep -c 'RTL-8029(AS) found')")
    match = re.findall(r"address=([0-9a-f:]{17}) loads=(\d+)", output)
    if not match:
        raise Failure(f"no card: {output}")
    return match[-1]


def in_the_middle(program, engine):
    """An open shell, a running gzip | md5sum, a configured card: all of it goes on."""
    last = 400000 if engine == "jit" else 40000 # some seconds' work
    want = hashlib.md5("".join(f"{n}\n" for n in range(1, last + 1)).encode()).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "machine.img")
        first, second = Path(folder, "1.img"), Path(folder, "2.img")
        with linux(program, "686", engine, "--net", "user:", "--save", image) as guest:
            shell(guest, 240)
            saver = Saver(guest, image)
            guest.run("ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up")
            output, status = guest.run("ping -c 1 -W 5 10.0.2.2")
            if status:
                raise Failure(f"no network before the save: {output}")
            guest.run("SHELL_VARIABLE=$((6*7)); cd /sys/bus/pci")
            mac, loads = card_of(guest)
            guest.type(f"seq 1 {last} | gzip | gzip -d | md5sum\n")
            time.sleep(0.3)
            saver.save(first)
        with Guest(program, "--engine", engine, "--restore", first, "-nographic", "-no-reboot",
                   "--save", image) as guest:
            saver = Saver(guest, image)
            guest.expect(want, 120)
            guest.type("\n")
            guest.expect(r"gannet:/sys/bus/pci# ", 60)
            output, status = guest.run("ping -c 3 -i 0.2 -W 5 10.0.2.2")
            if status or "3 packets received" not in output:
                raise Failure(f"no network after the restore: {output}")
            output, _ = guest.run("echo variable $SHELL_VARIABLE in $PWD")
            if "variable 42 in /sys/bus/pci" not in output:
                raise Failure(f"the shell forgot: {output}")
            if card_of(guest) != (mac, loads):
                raise Failure(f"the card changed from {mac, loads}")
            guest.type(f"seq 1 {last} | gzip | gzip -d | md5sum\n")
            time.sleep(0.3)
            saver.save(second)
        # A restored machine saved again.
        with Guest(program, "--engine", engine, "--restore", second, "-nographic",
                   "-no-reboot") as guest:
            guest.expect(want, 120)
            output, status = guest.run("rmmod ne2k-pci 2>&1; rmmod ne2k_pci 2>&1; for m in $(cat /etc/modules); do "
                                       "insmod /lib/modules/$m 2> /dev/null; done; "
                                       "ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up; "
                                       "ping -c 3 -i 0.2 -W 5 10.0.2.2; cat /sys/class/net/eth0/address")
            if "3 packets received" not in output or mac not in output:
                raise Failure(f"after reloading the driver: {output}")
            guest.type("poweroff -f\n")
            guest.wait(60)


SCENARIOS = {"state-random": random_saves, "state-middle": in_the_middle}
