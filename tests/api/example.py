#!/usr/bin/env python3
"""Runs tools/example_ping with a Debian guest: example.py EXAMPLE

The guest configures its card, pings the program three times with small and three
times with large packets, and switches itself off.
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "guest"))
import guest  # noqa: E402

RC = """\
#!/bin/sh
ifconfig eth0 10.9.8.2 netmask 255.255.255.0 up
ping -c 3 10.9.8.1
ping -c 3 -s 1400 10.9.8.1
poweroff -f
"""


def main():
    try:
        kernel = guest.need(guest.I386 / "vmlinuz-686")
        busybox = guest.need(guest.I386 / "busybox/bin/busybox")
        tree = guest.need(guest.I386 / "kernel-686")
    except guest.Skip as why:
        print(f"SKIP: {why}")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        rc = Path(folder, "rc")
        rc.write_text(RC)
        initramfs = Path(folder, "initramfs.cpio")
        subprocess.run([guest.ROOT / "tools/initramfs", initramfs, "--kernel-tree", tree,
                        "--busybox", busybox, "--modules", "ne2k-pci", "--rc", rc], check=True)
        done = subprocess.run([sys.argv[1], kernel, initramfs], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=240)
    print(done.stdout, done.stderr)
    received = re.findall(r"3 packets transmitted, 3 packets received", done.stdout)
    answered = re.search(r"(\d+) ARP requests and 6 pings answered, 0 refused", done.stdout)
    if done.returncode != 0 or len(received) != 2 or not answered or int(answered[1]) < 1:
        print(f"exit code {done.returncode}: the guest did not get its six answers")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
