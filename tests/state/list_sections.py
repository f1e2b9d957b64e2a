#!/usr/bin/env python3
"""The list of sections and fields in docs/state-format.md: list_sections.py IMAGE [--check DOC]

With --check, nothing is printed unless the page does not have all of them.
"""
import re
import sys
from pathlib import Path

from image import BOOL, BYTES, SPARSE, TIMER, UINT, Image


def kind(f):
    text = {UINT: f"u{8 * f.size}", BOOL: "bool", BYTES: "bytes", TIMER: "timer"}[f.kind]
    return text + (f"[{f.count}]" if f.count > 1 or f.kind == BYTES else "")


def groups(fields):
    """Runs of fields with the same outer index folded: ch[0].a ch[0].b ch[1].a ch[1].b -> ch[0..1]."""
    entries = [(f.name, kind(f)) for f in fields]
    changed = True
    while changed:
        changed = False
        for at, (name, _) in enumerate(entries):
            for m in re.finditer(r"\[0\]", name):
                prefix, run = name[:m.start()], []
                for n, k in entries[at:]:
                    if not n.startswith(prefix + "[0]"):
                        break
                    run.append((n[len(prefix) + 3:], k))
                times = 1
                while [(n, k) for n, k in entries[at + times * len(run):at + (times + 1) * len(run)]] == \
                        [(f"{prefix}[{times}]{n}", k) for n, k in run]:
                    times += 1
                if times > 1:
                    entries[at:at + times * len(run)] = [(f"{prefix}[0..{times - 1}]{n}", k) for n, k in run]
                    changed = True
                    break
            if changed:
                break
    return entries


def listing(path):
    lines = []
    for s in Image(path).sections:
        if s.flags & SPARSE or s.name == "config" or s.name.endswith(".map"):
            continue
        fields = ", ".join(f"`{n}` {k}" for n, k in groups(s.fields()))
        lines.append(f"- **{s.name}** (version {s.version}): {fields}")
    return lines


if __name__ == "__main__":
    found = listing(sys.argv[1])
    if "--check" in sys.argv:
        page = Path(sys.argv[3]).read_text()
        missing = [line for line in found if line not in page]
        print("\n".join(f"not in {sys.argv[3]}: {line}" for line in missing), end="")
        sys.exit(bool(missing))
    print("\n".join(found))
