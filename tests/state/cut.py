#!/usr/bin/env python3
"""A state image cut short, or written to, under the feet of the machine: cut.py GANNET

The machine whose memory is gone must end with one line and exit code 1, under either
engine; it must not crash. One whose image is replaced by another (a new save) runs on.
"""
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "golden"
CODE = 42 * 2 + 1


def start(gannet, image, engine):
    process = subprocess.Popen([gannet, "--engine", engine, "--restore", image, "-display", "none",
                                "-debugcon", "stdio"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(1)  # a dot: it runs
    return process


def cut(gannet, image, engine):
    process = start(gannet, image, engine)
    os.truncate(image, 65536)
    out, err = process.communicate(timeout=60)
    if process.returncode != 1 or err.count(b"\n") != 1 or b"cut short" not in err:
        return f"cut, {engine}: exit code {process.returncode}, {err!r}"
    return None


def replaced(gannet, image, engine):
    process = start(gannet, image, engine)
    other = image.with_suffix(".other")
    other.write_bytes(b"something else")
    other.rename(image)
    out, err = process.communicate(timeout=60)
    if process.returncode != CODE:
        return f"replaced, {engine}: exit code {process.returncode}, {err!r}"
    return None


def main():
    gannet = os.path.abspath(sys.argv[1])
    golden = sorted(FOLDER.glob("*.img"))[0]
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw.img")
        subprocess.run([gannet, "state", "convert", golden, raw, "--raw"], check=True)
        for engine in ("jit", "interp"):
            for test in (cut, replaced):
                image = Path(folder, f"{engine}.img")
                shutil.copy(raw, image)
                fault = test(gannet, image, engine)
                if fault:
                    faults.append(fault)
    print("4 cases of an image that changes while a machine runs from it")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
