#!/usr/bin/env python3
"""Checks who includes whom: test_includes.py [ROOT]

core/ includes core/ only; devices/, backends/, translate/, statefile/ and jit/
include core/ and their own folder; tools/ and tests/ may include everything.
A *_priv.h never crosses a folder. Headers of other projects stay in the folders
that are theirs.
What runs inside guests (tests/bench/guest) is no part of the program.
"""
import re
import sys
from pathlib import Path

FOLDERS = ["core", "jit", "devices", "backends", "translate", "statefile"]
ALLOWED = {folder: {"core", folder} for folder in FOLDERS}

# Header pattern, and the folders (below the root) that may include it.
FOREIGN = [
    (r"libwebsockets\.h", {"backends", "tools"}),
    (r"pcap(/.*)?\.h", {"backends"}),
    (r"(slirp/)?libslirp\.h", {"backends"}),
    (r"zstd\.h", {"statefile", "tests"}),
    (r"SDL.*", {"tools"}),
    (r"jansson\.h", {"tools"}),
    (r"png\.h", {"tools"}),
    (r"capstone/.*", {"core", "jit", "tests"}),
    (r"check\.h", {"tests"}),
    (r"xxhash\.h", {"jit", "statefile", "tests"}),
]

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def faults(root):
    for folder in [*FOLDERS, "tools", "tests"]:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".c", ".h", ".S", ".inc") or "bench/guest" in str(path):
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                quote, name = match.groups()
                where = f"{path.relative_to(root)}:{number}"
                top = name.split("/")[0]
                if quote == '"' and name != "config.h":
                    if not (root / name).exists():
                        yield f'{where}: "{name}" is no path from the root of the tree'
                    elif folder in ALLOWED and top not in ALLOWED[folder]:
                        yield f"{where}: {folder}/ may not include {name}"
                    elif name.endswith("_priv.h") and top != folder and folder != "tests":
                        yield f"{where}: {name} is private to {top}/"
                for pattern, owners in FOREIGN:
                    if quote == "<" and re.fullmatch(pattern, name) and folder not in owners:
                        yield f"{where}: <{name}> belongs to {', '.join(sorted(owners))}"


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2])
    found = list(faults(root))
    print("\n".join(found))
    print(f"{len(found)} includes in the wrong direction")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
