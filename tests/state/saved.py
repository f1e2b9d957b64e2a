"""Real images for the tests: a Debian guest at its shell, with a network card."""
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "guest"))
from guest import I386, Failure, Guest, Skip, need  # noqa: E402

MARK = 7919  # what the shell knows, to see that it is the same one


def kernel(memory="64"):
    vmlinuz = need(I386 / "vmlinuz-686", I386 / "initramfs-686.cpio")
    return ["-m", memory, "-kernel", vmlinuz, "-initrd", I386 / "initramfs-686.cpio",
            "-append", "console=ttyS0 quiet", "-nographic"]


def save(guest, path, timeout=60):
    """SIGUSR2, and waits until the file is there: it appears whole, by a rename."""
    before = os.stat(path).st_ino if os.path.exists(path) else None
    os.kill(guest.process.pid, signal.SIGUSR2)
    deadline = time.monotonic() + timeout
    while not os.path.exists(path) or os.stat(path).st_ino == before:
        if time.monotonic() > deadline or guest.process.poll() is not None:
            raise Failure("no image was saved")
        time.sleep(0.02)


# Frames to everybody, from one card to the other: 500 in a second if the host can.
BUSY = ("ip link set eth0 up; ip link set eth1 up; ip addr add 10.0.0.1/24 brd + dev eth0; "
        "ping -q -i 0.002 -s 1000 10.0.0.255 > /dev/null & sleep 1")


def make(program, path, second=None, command="ip link set eth0 up", cards=1):
    """A saved machine; with @second, saved once more after a command."""
    with Guest(program, *kernel(), *["--net", "loopback:"] * cards, "--save", path, echo=False) as guest:
        guest.expect(r"# ", 120)
        guest.run(f"mark={MARK}; {command}")
        save(guest, path)
        if second:
            os.rename(path, second[0])
            guest.run(second[1])
            save(guest, path)
            first, last = second[0], path
            os.rename(last, str(last) + ".tmp")
            os.rename(first, last)
            os.rename(str(last) + ".tmp", first)


def main(tests, arguments):
    """Runs the named tests, or all; exit code 77 is "skipped"."""
    try:
        for name, function in tests.items():
            if arguments and name not in arguments:
                continue
            started = time.monotonic()
            function()
            print(f"ok {name} ({time.monotonic() - started:.1f} s)", flush=True)
    except Skip as reason:
        print(f"skipped: {reason}")
        return 77
    except (Failure, AssertionError) as failure:
        print(f"FAILED {name}: {failure}")
        return 1
    return 0
