#!/usr/bin/env python3
"""A thousand clients: every unicast frame arrives, a broadcast reaches all the others."""
import asyncio
import resource

from relay_peer import *

CLIENTS = 1000
BROADCASTS = 10
PER_CLIENT = 64 << 10  # bytes of the relay's memory: buffers of libwebsockets included


class Peer:
    def __init__(self, number):
        self.number = number
        self.got = []
        self.event = asyncio.Event()
        self.wanted = 0

    async def connect(self, port):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        request, accept = handshake()
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101") and accept.encode() in head, head
        self.task = asyncio.create_task(self.read())

    async def read(self):
        while True:
            op, n = await self.reader.readexactly(2)
            if n == 126:
                n = struct.unpack(">H", await self.reader.readexactly(2))[0]
            data = await self.reader.readexactly(n)
            if op == 0x80 | BINARY:
                self.got.append(data)
                if len(self.got) == self.wanted:
                    self.event.set()

    def send(self, data):
        self.writer.write(encode(data, key=b"\0\0\0\0"))

    async def all_arrived(self, n):
        self.wanted = n
        self.event.clear()
        if len(self.got) < n:
            await asyncio.wait_for(self.event.wait(), 20)


async def arrived(peers, counts):
    await asyncio.gather(*(p.all_arrived(n) for p, n in zip(peers, counts)))


async def thousand(relay):
    peers = [Peer(i) for i in range(CLIENTS)]
    before = relay.rss()
    for i in range(0, CLIENTS, 100):
        await asyncio.gather(*(p.connect(relay.port) for p in peers[i:i + 100]))
    idle = relay.rss()

    # Broadcasts of some: everybody else has each of them once, in the sender's order.
    senders = peers[:BROADCASTS]
    for p in senders:
        p.send(frame(BROADCAST, mac(p.number), b"hello"))
    await arrived(peers, [BROADCASTS - (p in senders) for p in peers])
    for p in peers:
        want = {frame(BROADCAST, mac(s.number), b"hello") for s in senders if s is not p}
        assert set(p.got) == want and len(p.got) == len(want)
        p.got.clear()

    # Everybody becomes known (a frame nobody but one owner of an address gets).
    for p in peers[BROADCASTS:]:
        p.send(frame(mac(0), mac(p.number), b"here"))
    await arrived(peers[:1], [CLIENTS - BROADCASTS])
    peers[0].got.clear()

    # Unicast in a circle, two sizes; nobody hears what is not for them.
    for p in peers:
        for size in (40, 1500):
            p.send(frame(mac((p.number + 1) % CLIENTS), mac(p.number), bytes([size & 255]) * size))
    await arrived(peers, [2] * CLIENTS)
    await asyncio.sleep(0.2)
    for p in peers:
        sender = mac((p.number - 1) % CLIENTS)
        assert p.got == [frame(mac(p.number), sender, bytes([size & 255]) * size)
                         for size in (40, 1500)], p.number
    busy = relay.rss()
    print(f"memory of the relay a client: idle {(idle - before) / CLIENTS / 1024:.1f} KiB, "
          f"after traffic {(busy - before) / CLIENTS / 1024:.1f} KiB")
    assert (busy - before) / CLIENTS < PER_CLIENT

    status = await asyncio.to_thread(relay.status)
    assert len(status["clients"]) == CLIENTS and status["macs"] == CLIENTS
    totals = status["totals"]
    assert totals["frames-in"] == BROADCASTS + (CLIENTS - BROADCASTS) + 2 * CLIENTS, totals
    assert totals["frames-out"] == BROADCASTS * (CLIENTS - 1) + (CLIENTS - BROADCASTS) + 2 * CLIENTS
    assert not any(v for k, v in totals.items() if k.startswith("drop.")), totals
    for name in ("frames-in", "bytes-in", "frames-out", "bytes-out"):
        assert totals[name] == sum(c["counters"][name] for c in status["clients"]), name
    for p in peers:
        p.task.cancel()
        p.writer.close()


def many(gannet):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Relay(gannet, "--quiet") as r:  # it raises its own limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        asyncio.run(thousand(r))
        time.sleep(0.3)
        s = r.status()
        assert s["clients"] == [] and s["macs"] == 0 and s["memory_used"] == 0, s
        assert s["clients_peak"] == CLIENTS


def limits(gannet):
    """Connections above --max-clients and --max-per-address get an answer."""
    with Relay(gannet, "--max-clients", "3") as r:
        peers = [r.ws() for _ in range(3)]
        try:
            r.ws()
            raise AssertionError("a fourth client")
        except Refused as e:
            assert e.status == 503, e
        peers.pop().close()
        time.sleep(0.1)
        peers.append(r.ws())
        assert r.status()["refused"] == 1
    with Relay(gannet, "--max-per-address", "2") as r:
        peers = [r.ws() for _ in range(2)]
        try:
            r.ws()
            raise AssertionError("a third client")
        except Refused as e:
            assert e.status == 503, e


run([many, limits])
