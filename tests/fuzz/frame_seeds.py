#!/usr/bin/env python3
"""Makes a folder of seeds from tests/net/mac_frames and ip_frames: frame_seeds.py mac|ip DIR

For fuzz-mac or fuzz-ip: two addresses, then a frame.
"""
import sys
from pathlib import Path

NET = Path(__file__).parents[1] / "net"
sys.path.insert(0, str(NET))
import pcap_file  # noqa: E402

PAIRS = {"mac": ["52540012345602aabbccddee"], "ip": ["0a0900010a090017", "0a0900320a090017"]}


def main():
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*(NET / "mac_frames").glob("*.pcap"), *(NET / "ip_frames").glob("*.pcap")]:
        for number, frame in enumerate(pcap_file.read(path)):
            for which, pair in enumerate(PAIRS[sys.argv[1]]):
                (folder / f"{path.stem}-{number}-{which}").write_bytes(bytes.fromhex(pair) + frame)


if __name__ == "__main__":
    main()
