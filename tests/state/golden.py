#!/usr/bin/env python3
"""Images made by earlier versions must load for ever: golden.py GANNET [--make NAME]

Each tests/state/golden/*.img is a machine of 4 MiB whose guest (golden/golden.S) was saved
after some of its thirty dots; the name says after how many: v1-12.img. Restored, it has to
print the others, find everything where it was, and end with 42 (exit code 85).

--make runs the guest, saves it and leaves the compressed image as golden/NAME-DOTS.img. An
image that is in the tree is never made again.
"""
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "golden"
DOTS, CODE = 30, 42 * 2 + 1
CARD = "model=ne2k_pci"


def make(gannet, name):
    with tempfile.TemporaryDirectory() as folder:
        elf, image, out = (Path(folder, n) for n in ("golden.elf", "golden.img", "out"))
        subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-Wl,-N,-Ttext=0x100000,--build-id=none",
                        "-o", elf, FOLDER / "golden.S"], check=True)
        process = subprocess.Popen([gannet, "-m", "4", "-kernel", elf, "-display", "none", "-debugcon",
                                    f"file:{out}", "-device", "isa-debug-exit", "--nic", CARD,
                                    "--save", image], stdin=subprocess.DEVNULL)
        while not out.exists() or len(out.read_bytes()) < 12:
            time.sleep(0.002)
        process.send_signal(signal.SIGUSR2)
        while not image.exists():
            time.sleep(0.002)
        process.wait(60)
        if process.returncode != CODE:
            sys.exit(f"the guest that was saved ended with {process.returncode}")
        target = FOLDER / f"{name}-12.img"
        subprocess.run([gannet, "state", "convert", image, target, "--zstd"], check=True)
        print(f"{target}: {target.stat().st_size} bytes")


def restore(gannet, image, engine):
    before = int(re.search(r"-(\d+)\.img$", image.name)[1])
    done = subprocess.run([gannet, "--engine", engine, "--restore", image, "-display", "none",
                           "-debugcon", "stdio"], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=60)
    dots = done.stdout.count(b".")
    if done.returncode != CODE:
        return f"{image.name}, {engine}: exit code {done.returncode}: {done.stderr.decode()}"
    if dots != DOTS - before:
        return f"{image.name}, {engine}: {dots} dots after {before}, {DOTS} in all"
    return None


def main():
    gannet = os.path.abspath(sys.argv[1])
    if len(sys.argv) == 4 and sys.argv[2] == "--make":
        make(gannet, sys.argv[3])
        return 0
    images = sorted(FOLDER.glob("*.img"))
    if not images:
        print(f"no image in {FOLDER}")
        return 1
    faults = [restore(gannet, image, engine) for image in images for engine in ("jit", "interp")]
    faults = [f for f in faults if f]
    print(f"{len(images)} cases of golden images, by two engines")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
