"""Runs one emulator (or the guest's programs natively) and times what it prints.

The guest prints "BEGIN x" and "BENCH x work=W unit=U guest_s=S check=C" on its
serial port. Times are the host's: between the two lines by the monotonic clock,
and the process's CPU time (all threads), which counts less of what else the
machine is doing. `check` must be the same everywhere for the same work.
"""
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = Path(os.environ.get("GANNET_CACHE", ROOT / ".cache"))
BENCH = CACHE / "bench"
QEMU = "qemu-system-i386"


class Problem(Exception):
    """A run that cannot be used."""


def prepare(need_qemu=True):
    """The guest is built if need be; returns the gannet to measure."""
    if need_qemu and not shutil.which(QEMU):
        sys.exit(f"{QEMU} is missing: apt-get install qemu-system-x86")
    subprocess.run([HERE / "build-guest.sh"], check=True)
    gannet = Path(os.environ.get("GANNET", ROOT / "build/tools/gannet"))
    if not gannet.exists():
        sys.exit(f"{gannet} is missing: run tools/demo once, or set GANNET to the program")
    return gannet


def cpu_seconds(pid):
    """CPU time of a process: all its threads, its children, those that ended."""
    total = 0.0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0]) / 1e9
            with open(f"/proc/{pid}/task/{task}/children") as f:
                total += sum(cpu_seconds(int(child)) for child in f.read().split())
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        total += (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        pass
    return total


def command(peer, mode, gannet, scale=50, tests="", kernel="vmlinuz", extra=()):
    """The command line of a peer: gannet, interp, tcg."""
    initrd = BENCH / ("initrd-bench.cpio" if mode == "bench" else "initrd-boot.cpio")
    append = f"console=ttyS0 quiet mitigations=off bmode={mode} bscale={scale} btests={tests}"
    boot = ["-m", "256", "-no-reboot", "-kernel", str(BENCH / kernel), "-initrd", str(initrd),
            "-append", append, *extra]
    if peer == "tcg":
        return [QEMU, "-accel", "tcg", "-smp", "1", "-display", "none", "-monitor", "none",
                "-serial", "stdio", "-net", "none", *boot]
    engine = "interp" if peer == "interp" else "jit"
    return [str(gannet), "--engine", engine, "-nographic", *boot]


def native(scale, tests=""):
    """The same i386 programs in a chroot on this kernel."""
    root = BENCH / "root"
    script = (f'mount -t proc proc "{root}/proc" && mount -t tmpfs tmp "{root}/tmp" && '
              f'exec chroot "{root}" /bin/busybox env PATH=/bin:/usr/bin:/sbin '
              f'bscale={scale} btests={tests} /bin/busybox sh /init')
    # A mount namespace of its own: nothing to unmount afterwards.
    return ["unshare", "-m", "sh", "-c", script]


def run(cmd, until="END", timeout=900, log=None):
    """Runs cmd to its line `until`; returns (ready, {name: result}).

    ready: seconds and CPU seconds to the line INIT_READY. A result has work,
    unit, seconds, cpu, check."""
    start = time.monotonic()
    process = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    ready, results, began, text = None, {}, {}, b""
    try:
        while True:
            left = start + timeout - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise Problem(f"no {until} within {timeout} s")
            data = os.read(process.stdout.fileno(), 65536)
            now = time.monotonic() - start
            if not data:
                raise Problem(f"ended without {until}: {text[-300:]!r}")
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                line = re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|c)", "", line.decode("latin1")).strip("\r \0")
                if log:
                    print(f"{now:9.3f} {line}", file=log, flush=True)
                words = line.split()
                if line.startswith("INIT_READY"):
                    ready = (now, cpu_seconds(process.pid))
                elif line.startswith("BEGIN "):
                    began[words[1]] = (now, cpu_seconds(process.pid))
                elif line.startswith("BENCH "):
                    values = dict(w.split("=", 1) for w in words[2:] if "=" in w)
                    at = began.get(words[1], (now, 0))
                    results[words[1]] = {
                        "work": float(values["work"]), "unit": values["unit"],
                        "seconds": now - at[0],
                        "cpu": cpu_seconds(process.pid) - at[1],
                        "check": values.get("check"),
                    }
                elif "Kernel panic" in line:
                    raise Problem(line)
                elif words[:1] == [until]:
                    return ready, results
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        process.stdout.close()
