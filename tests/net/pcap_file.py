"""Classic pcap files: read() gives the frames, write() makes a file of Ethernet frames."""
import struct

MAGIC = 0xa1b2c3d4


def read(path):
    data = open(path, "rb").read()
    order = "<" if struct.unpack_from("<I", data)[0] == MAGIC else ">"
    off, frames = 24, []
    while off < len(data):
        size = struct.unpack_from(order + "I", data, off + 8)[0]
        frames.append(data[off + 16:off + 16 + size])
        off += 16 + size
    return frames


def write(path, frames):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", MAGIC, 2, 4, 0, 0, 65535, 1))
        for number, frame in enumerate(frames):
            file.write(struct.pack("<IIII", number, 0, len(frame), len(frame)) + frame)
