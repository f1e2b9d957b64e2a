#!/usr/bin/env python3
"""Clients that do not read: they lose frames, nobody else does, memory stays bounded."""
import threading

from relay_peer import *

SLOW = 60
MEMORY = 32 << 20  # --memory


def flood(gannet):
    """Broadcasts and unicast at full speed past sixty who never read."""
    with Relay(gannet, "--memory", str(MEMORY), "--quiet") as r:
        a, b = r.ws(), r.ws()
        a.send(frame(BROADCAST, mac(1)))
        b.expect(frame(BROADCAST, mac(1)))
        b.send(frame(mac(1), mac(2)))
        a.expect(frame(mac(1), mac(2)))
        slow = [r.ws(buffer=4096) for _ in range(SLOW)]
        for i, s in enumerate(slow):
            s.send(frame(mac(1), mac(100 + i)))
            a.expect(frame(mac(1), mac(100 + i)))
        before = r.rss()

        # Each of the slow ones is sent 2 MiB of its own; broadcasts on top.
        body = os.urandom(1400)
        for i in range(SLOW):
            one = encode(frame(mac(100 + i), mac(1), body), key=b"\0\0\0\0")
            a.sock.settimeout(20)
            a.sock.sendall(one * 1500)
        marked = [frame(BROADCAST, mac(1), struct.pack(">I", i) + body) for i in range(2000)]
        got = []

        def read():
            for _ in marked:
                got.append(b.recv(10))

        reader = threading.Thread(target=read)
        reader.start()
        for f in marked:
            a.send(f, key=b"\0\0\0\0")
        reader.join(30)
        assert got == marked, f"{len(got)} of {len(marked)} broadcasts reached one who reads"

        grown = r.rss() - before
        # The pool, and one batch a client that libwebsockets keeps for the socket.
        assert grown < MEMORY + SLOW * (96 << 10) + (8 << 20), grown
        s = r.status()
        assert s["memory_used"] <= MEMORY
        for c in s["clients"][2:]:
            n = c["counters"]
            assert n["drop.queue-full"] > 0, c
            assert n["frames-out"] + n["drop.queue-full"] + n["drop.stale"] + c["queued_frames"] == 3500, c
            assert c["queued_bytes"] <= 1 << 20
        assert s["clients"][1]["counters"]["drop.queue-full"] == 0, s["clients"][1]
        print(f"memory grew by {grown >> 10} KiB for {SLOW} clients that do not read")
        for c in slow:
            c.close()
        time.sleep(0.3)
        assert r.status()["memory_used"] == 0


def stopped(gannet):
    """A client process that is stopped (SIGSTOP): it is dropped when it answers no ping."""
    code = ("import sys; sys.path.insert(0, sys.argv[1]); sys.argv[1:] = sys.argv[1:]\n"
            "from relay_peer import *\n"
            "w = Ws(int(sys.argv[2])); w.send(frame(BROADCAST, mac(9))); print('on', flush=True)\n"
            "while True: w.recv(60)\n")
    with Relay(gannet, "--ping", "1", "--stale", "500") as r:
        a = r.ws()
        child = subprocess.Popen([sys.executable, "-c", code, os.path.dirname(os.path.abspath(__file__)),
                                  str(r.port)], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"on\n"
        a.expect(frame(BROADCAST, mac(9)))
        child.send_signal(signal.SIGSTOP)
        before = r.rss()
        f = encode(frame(mac(9), mac(1), bytes(1400)), key=b"\0\0\0\0")
        for _ in range(20):
            a.sock.sendall(f * 1000)
        time.sleep(0.2)
        assert r.rss() - before < 4 << 20, (before, r.rss())
        end = time.monotonic() + 13
        while len(r.status()["clients"]) > 1:
            assert time.monotonic() < end, "still there"
            a.nothing(0.3)
        assert "no answer to a ping" in r.text()
        child.kill()
        child.wait()


run([flood, stopped])
