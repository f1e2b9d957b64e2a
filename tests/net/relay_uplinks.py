#!/usr/bin/env python3
"""The relay's uplinks: DHCP, DNS and NAT by the gateway, another relay, and the capture.

Requests are made here from the RFCs (2131, 826, 792); libslirp answers them, and tshark
says whether the captured frames are well-formed.
"""
import shutil
import threading

from relay_peer import *


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    n = sum(struct.unpack(f">{len(data) // 2}H", data))
    n = (n & 0xFFFF) + (n >> 16)
    return ~((n & 0xFFFF) + (n >> 16)) & 0xFFFF


def ipv4(source, to, protocol, payload):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 7, 0, 64, protocol, 0, source, to)
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def udp(source, sport, to, dport, payload):
    n = 8 + len(payload)
    pseudo = source + to + struct.pack(">BBH", 0, 17, n)
    head = struct.pack(">HHHH", sport, dport, n, 0)
    return head[:6] + struct.pack(">H", checksum(pseudo + head + payload) or 0xFFFF) + payload


def dhcp(me, kind, xid, extra=b""):
    body = struct.pack(">BBBBIHH", 1, 1, 6, 0, xid, 0, 0x8000) + bytes(16) + me + bytes(10 + 192)
    body += b"\x63\x82\x53\x63\x35\x01" + bytes([kind]) + extra + b"\xff"
    return BROADCAST + me + b"\x08\x00" + ipv4(bytes(4), b"\xff" * 4, 17,
                                               udp(bytes(4), 68, b"\xff" * 4, 67, body.ljust(300, b"\0")))


def wait_for(ws, what, timeout=5):
    end = time.monotonic() + timeout
    while True:
        got = what(ws.recv(max(end - time.monotonic(), 0.001)))
        if got:
            return got


def options(data):
    found, at = {}, 240
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        found[data[at]] = data[at + 2:at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return found


def dhcp_answer(kind, xid):
    def match(f):
        if f[12:14] != b"\x08\x00" or f[23] != 17 or f[34:38] != b"\x00\x43\x00\x44":
            return None
        body = f[42:]
        o = options(body)
        return (body[16:20], o) if struct.unpack(">I", body[4:8])[0] == xid and o[53] == bytes([kind]) else None
    return match


def lease(ws, me, xid):
    ws.send(dhcp(me, 1, xid))
    ip, o = wait_for(ws, dhcp_answer(2, xid))
    ws.send(dhcp(me, 3, xid, b"\x32\x04" + ip + b"\x36\x04" + o[54]))
    ip, o = wait_for(ws, dhcp_answer(5, xid))
    return ip, o


def resolve(ws, me, ip, whom):
    ws.send((BROADCAST + me + b"\x08\x06" + struct.pack(">HHBBH", 1, 0x800, 6, 4, 1) + me + ip + bytes(6) +
             whom).ljust(60, b"\0"))
    return wait_for(ws, lambda f: f[12:14] == b"\x08\x06" and f[20:22] == b"\0\2" and f[28:32] == whom and f[22:28])


def gateway(gannet):
    with tempfile.TemporaryDirectory() as d:
        capture = f"{d}/relay.pcapng"
        with Relay(gannet, "--gateway", "--capture", capture) as r:
            peers = [(r.ws(), mac(0x50 + i)) for i in range(3)]
            leases = [lease(ws, me, 0x1000 + i) for i, (ws, me) in enumerate(peers)]
            ips = [ip for ip, _ in leases]
            assert len(set(ips)) == 3 and all(ip[:3] == b"\x0a\0\2" for ip in ips), ips
            ws, me = peers[0]
            router = leases[0][1][3]
            gate = resolve(ws, me, ips[0], router)
            ping = b"\x08\0\0\0\0\1\0\1" + b"over the relay"
            ping = ping[:2] + struct.pack(">H", checksum(ping)) + ping[4:]
            ws.send(gate + me + b"\x08\0" + ipv4(ips[0], router, 1, ping))
            wait_for(ws, lambda f: f[:6] == me and f[23] == 1 and f[34] == 0 and f[42:56] == b"over the relay")

            # NAT: a UDP echo on this machine's loopback is 10.0.2.2 to the clients.
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]

            def echo():
                data, who = server.recvfrom(2000)
                server.sendto(data[::-1], who)

            thread = threading.Thread(target=echo, daemon=True)
            thread.start()
            ws.send(gate + me + b"\x08\0" + ipv4(ips[0], router, 17, udp(ips[0], 4000, router, port, b"abcdef")))
            wait_for(ws, lambda f: f[23] == 17 and f[34:36] == struct.pack(">H", port) and f[42:48] == b"fedcba")

            # Clients reach each other directly.
            other, him = peers[1]
            ws.send(frame(him, me, b"direct"))
            wait_for(other, lambda f: f == frame(him, me, b"direct"))
            s = r.status()
            up = {u["role"]: u for u in s["uplinks"]}
            assert up["uplink"]["url"] == "user:" and up["uplink"]["up"] and up["uplink"]["frames-in"] >= 8
            switched = up["capture"]["frames-out"]
            assert switched >= 18 and not up["capture"]["drop.uplink-full"], (switched, s["totals"], up)
            # Somebody else's gateway address is refused like any other.
            peers[2][0].send(frame(BROADCAST, gate, b"I am the gateway"))
            other.nothing()
            assert "belongs to an uplink" in r.text()
        if not shutil.which("tshark"):
            print("no tshark: the capture was not read")
            return
        lines = subprocess.run(["tshark", "-r", capture, "-o", "ip.check_checksum:TRUE", "-o",
                                "udp.check_checksum:TRUE", "-T", "fields", "-e", "frame.protocols",
                                "-e", "_ws.malformed", "-e", "ip.checksum.status", "-e", "udp.checksum.status"],
                               capture_output=True, text=True, check=True).stdout.splitlines()
        assert len(lines) == switched, (len(lines), switched)
        assert sum("dhcp" in x for x in lines) >= 12 and any("icmp" in x for x in lines)
        for line in lines:
            protocols, malformed, ip, udps = (line.split("\t") + ["", "", ""])[:4]
            assert not malformed and "0" not in (ip, udps), line


def chain(gannet):
    """Two relays, one the other's uplink: one network, and nothing goes round."""
    with Relay(gannet, "--token", "s3cret") as far:
        with Relay(gannet, "--uplink", f"ws://127.0.0.1:{far.port}/?token=s3cret") as near:
            end = time.monotonic() + 5
            while not far.status("?token=s3cret")["clients"]:
                assert time.monotonic() < end
            a, b, c = near.ws(), near.ws(), far.ws("/?token=s3cret")
            hello = frame(BROADCAST, mac(1))
            a.send(hello)
            b.expect(hello)
            c.expect(hello)
            c.send(frame(mac(1), mac(3), b"back"))
            a.expect(frame(mac(1), mac(3), b"back"))
            for i in range(500):
                a.send(frame(mac(3), mac(1), bytes([i & 255]) * 1000))
            for i in range(500):
                c.expect(frame(mac(3), mac(1), bytes([i & 255]) * 1000))
            for x in (a, b, c):
                x.nothing(0.1)
            s = near.status()
            assert s["uplinks"][0]["up"], s["uplinks"]
            assert "s3cret" not in json.dumps(s) + near.text()
            near.process.send_signal(signal.SIGSTOP)  # a far relay that waits for nobody
            c.send(frame(BROADCAST, mac(3)))
            near.process.send_signal(signal.SIGCONT)
            a.expect(frame(BROADCAST, mac(3)))


def tap_inside(gannet):
    """In a network namespace of our own: dnsmasq behind a tap leases addresses."""
    with tempfile.TemporaryDirectory() as d, Relay(gannet, "--uplink", "tap:gr0") as r:
        for command in ("ip link set lo up", "ip addr add 10.77.0.1/24 dev gr0", "ip link set gr0 up"):
            subprocess.run(command.split(), check=True)
        dnsmasq = subprocess.Popen(["dnsmasq", "-k", "-C", "/dev/null", "-u", "root", "-p", "0", "-i", "gr0",
                                    "--dhcp-range=10.77.0.50,10.77.0.99", f"--dhcp-leasefile={d}/leases",
                                    "-x", f"{d}/pid"], stderr=subprocess.DEVNULL)
        try:
            time.sleep(1)
            peers = [(r.ws(), mac(0x70 + i)) for i in range(2)]
            for i, (ws, me) in enumerate(peers):
                ip, o = lease(ws, me, 0x2000 + i)
                assert ip[:3] == b"\x0a\x4d\0" and o[54] == b"\x0a\x4d\0\1", (ip, o)
                resolve(ws, me, ip, b"\x0a\x4d\0\1")
            with open(f"{d}/leases") as f:
                assert len(f.readlines()) == 2
        finally:
            dnsmasq.terminate()
            dnsmasq.wait(5)


def tap(gannet):
    if os.geteuid() or not all(shutil.which(x) for x in ("unshare", "ip", "dnsmasq")) or \
            not os.path.exists("/dev/net/tun"):
        print("skipped: needs root, unshare, ip, dnsmasq and /dev/net/tun")
        return
    subprocess.run(["unshare", "-n", sys.executable, os.path.abspath(__file__), gannet, "tap_inside"],
                   check=True, timeout=60, stdout=subprocess.DEVNULL)


run([tap_inside] if sys.argv[2:] == ["tap_inside"] else [gateway, chain, tap])
