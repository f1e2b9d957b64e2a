#!/usr/bin/env python3
"""The relay as a switch: who hears what, who owns an address, what is dropped."""
from relay_peer import *


def teach(*clients):
    """Each client says its address; all others hear it."""
    for i, c in enumerate(clients):
        hello = frame(BROADCAST, mac(i + 1), b"hello")
        c.send(hello)
        for other in clients:
            if other is not c:
                other.expect(hello)


def switching(gannet):
    with Relay(gannet) as r:
        a, b, c = r.ws(), r.ws("/wstap"), r.ws("/any/path?x=1")
        teach(a, b, c)
        for size in (14, 59, 60, 125, 126, 127, 1514, 2047, 2048, 2049, 4096, 9215, 9216):
            f = (mac(2) + mac(1) + b"\x88\xb5" + os.urandom(size))[:size]
            a.send(f)
            b.expect(f)
        unknown = frame(mac(99), mac(1), b"who has it?")
        a.send(unknown)
        b.expect(unknown)
        c.expect(unknown)
        multicast = frame(b"\x33\x33\x00\x00\x00\x01", mac(2), b"neighbours")
        b.send(multicast)
        a.expect(multicast)
        c.expect(multicast)
        a.send(frame(mac(1), mac(1), b"to myself"))
        a.send(frame(b"\x01\x80\xc2\x00\x00\x01", mac(1), b"pause"))
        a.send(frame(mac(2), BROADCAST, b"from everybody"))
        a.send(frame(mac(2), b"\0" * 6, b"from nobody"))
        for x in (a, b, c):
            x.nothing()
        n = r.status()["clients"][0]["counters"]
        assert n["drop.same-port"] == 1 and n["drop.link-local"] == 1 and n["drop.bad-source"] == 2, n
        assert n["frames-in"] == 19 and n["frames-out"] == 3, n


def ownership(gannet):
    with Relay(gannet) as r:
        a, b, c = r.ws(), r.ws(), r.ws()
        teach(a, b, c)
        for _ in range(3):
            c.send(frame(mac(2), mac(1), b"I am a"))
        c.send(frame(mac(2), mac(3), b"I am c"))
        b.expect(frame(mac(2), mac(3), b"I am c"))
        b.send(frame(mac(1), mac(2), b"to a"))
        a.expect(frame(mac(1), mac(2), b"to a"))
        c.nothing()
        n = {x["id"]: x for x in r.status()["clients"]}
        assert n[3]["counters"]["drop.mac-taken"] == 3, n[3]
        assert n[1]["macs"] == ["02:00:00:00:00:01"], n[1]
        assert r.text().count("02:00:00:00:00:01 belongs to client 1") == 1, r.text()
        a.close()
        time.sleep(0.2)
        c.send(frame(mac(2), mac(1), b"now I am"))
        b.expect(frame(mac(2), mac(1), b"now I am"))


def ageing(gannet):
    with Relay(gannet, "--age", "1") as r:
        a, b = r.ws(), r.ws()
        teach(a, b)
        b.send(frame(BROADCAST, mac(1), b"too early"))
        a.nothing()
        time.sleep(1)
        b.send(frame(BROADCAST, mac(1), b"nobody uses it"))
        a.expect(frame(BROADCAST, mac(1), b"nobody uses it"))


def many_addresses(gannet):
    """A client with 100,000 addresses gets its 16 and evicts nobody."""
    with Relay(gannet) as r:
        a, b, evil = r.ws(), r.ws(), r.ws()
        teach(a, b)
        evil.recv()
        evil.recv()
        before = r.rss()
        for i in range(20):
            evil.sock.sendall(b"".join(encode(frame(mac(2), mac(1000 + i * 5000 + k)), key=b"\0\0\0\0")
                                       for k in range(5000)))
        for k in range(16):
            b.expect(frame(mac(2), mac(1000 + k)))
        a.send(frame(mac(2), mac(1), b"still here"))
        b.expect(frame(mac(2), mac(1), b"still here"))
        evil.nothing()
        s = r.status()
        n = s["clients"][2]
        assert n["mac_count"] == 16 and n["counters"]["drop.mac-limit"] == 100000 - 16, n
        assert s["macs"] == 18
        assert r.rss() - before < 4 << 20, (before, r.rss())
        assert r.text().count("see --macs") == 1


def messages(gannet):
    """What is no frame is counted and dropped, and the next frame passes."""
    with Relay(gannet) as r:
        a, b = r.ws(), r.ws()
        teach(a, b)
        good = frame(mac(2), mac(1), b"good")
        before = r.rss()

        def bad(data, counter, **how):
            was = r.status()["clients"][0]["counters"][counter]
            a.send(data, **how)
            a.send(good)
            b.expect(good, 20)
            now = r.status()["clients"][0]["counters"][counter]
            assert now == was + 1, (counter, was, now)

        bad(b"x", "drop.runt")
        bad(b"x" * 13, "drop.runt")
        bad(b"hello", "drop.text", op=TEXT)
        bad(b"h" * 20000, "drop.text", op=TEXT)
        head = mac(2) + mac(1) + b"\x88\xb5"
        bad(head + bytes(9216 - 13), "drop.too-long")
        bad(head + bytes(65536 - 14), "drop.too-long")
        bad(head + bytes((16 << 20) - 14), "drop.too-long", key=b"\0\0\0\0")
        assert r.rss() - before < 2 << 20, (before, r.rss())

        big = head + os.urandom(9202)
        for cut in (1, 13, 14, 2047, 2048, 2049, 9215):
            a.send(big[:cut], fin=False)
            a.send(big[cut:], op=CONT)
            b.expect(big)
        a.send(good[:1], fin=False)
        for i in range(1, len(good)):
            a.send(good[i:i + 1], op=CONT, fin=i == len(good) - 1)
        b.expect(good)
        a.send(good[:20], fin=False)  # a ping may come between fragments
        a.send(b"mid", op=PING)
        a.send(good[20:], op=CONT)
        b.expect(good)
        a.send(b"", fin=False)
        a.send(good, op=CONT)
        b.expect(good)
        a.send(b"no", op=TEXT, fin=False)
        a.send(b"frame", op=CONT)
        a.send(b"")
        a.send(good)
        b.expect(good)
        b.nothing()
        s = r.status()
        t, c = s["totals"], s["clients"][0]["counters"]
        dropped = sum(v for k, v in c.items() if k.startswith("drop."))
        assert c["frames-in"] - dropped == s["clients"][1]["counters"]["frames-out"], c
        assert t["frames-in"] == c["frames-in"] + 1 and t["frames-out"] == c["frames-in"] - dropped + 1, (t, c)


def broken(gannet):
    """Against RFC 6455: such a client may be thrown out, nobody else notices."""
    with Relay(gannet) as r:
        a, b = r.ws(), r.ws()
        teach(a, b)
        reserved = [encode(b"x", op=3), encode(b"x", op=11), encode(b"x" * 126, op=PING),
                    encode(b"x", op=PING, fin=False), encode(b"x", op=CONT),
                    b"\xf2\x81\0\0\0\0x", b"\x82\xff" + b"\xff" * 12, b"\x82\xff\x80" + b"\0" * 11,
                    encode(b"", op=CLOSE), encode(b"\x03", op=CLOSE), encode(b"\x03\xe8bye", op=CLOSE),
                    encode(b"\xff\xff" + b"\xff" * 100, op=CLOSE), os.urandom(4000)]
        for data in reserved:
            evil = r.ws()
            evil.sock.sendall(data)
            try:
                evil.nothing(0.05)
            except (EOFError, ConnectionError):
                pass
            evil.close()
        for _ in range(50):  # gone in the middle of a message
            evil = r.ws()
            evil.sock.sendall(encode(frame(BROADCAST, mac(7)))[:-5])
            evil.close()
        a.send(frame(mac(2), mac(1), b"alive"))
        b.expect(frame(mac(2), mac(1), b"alive"))
        assert len(r.status()["clients"]) == 2


def pings(gannet):
    """Who is silent is pinged; who does not answer is ended."""
    with Relay(gannet, "--ping", "1") as r:
        a, dead = r.ws(), r.ws()
        end = time.monotonic() + 12.5
        while time.monotonic() < end:
            a.nothing(0.5)
        assert 5 <= a.pings <= 13, a.pings
        assert [c["id"] for c in r.status()["clients"]] == [1]
        assert "no answer to a ping" in r.text()
        dead.close()


def rate(gannet):
    with Relay(gannet, "--rate", "100K", "--burst", "50K") as r:
        a, b = r.ws(), r.ws()
        teach(a, b)
        f = frame(mac(2), mac(1), bytes(986))
        begin = time.monotonic()
        a.sock.sendall(b"".join(encode(f) for _ in range(500)))
        got = 0
        try:
            while True:
                b.expect(f, 0.3)
                got += 1
        except (TimeoutError, socket.timeout):
            pass
        limit = 51.2 + 102.4 * (time.monotonic() - begin) + 1
        assert 50 <= got <= limit, (got, limit)
        n = r.status()["clients"][0]["counters"]
        assert n["drop.rate"] == 500 - got, (n, got)


run([switching, ownership, ageing, many_addresses, messages, broken, rate, pings])
