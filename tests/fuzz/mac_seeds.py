#!/usr/bin/env python3
"""Makes a folder of seeds for fuzz-mac from tests/net/mac_frames: mac_seeds.py DIR"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "net"))
import pcap_file  # noqa: E402

MACS = bytes.fromhex("52540012345602aabbccddee")


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for path in (Path(__file__).parents[1] / "net" / "mac_frames").glob("*.pcap"):
        for number, frame in enumerate(pcap_file.read(path)):
            (folder / f"{path.stem}-{number}").write_bytes(MACS + frame)


if __name__ == "__main__":
    main()
