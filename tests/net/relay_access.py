#!/usr/bin/env python3
"""Who may come in and what HTTP says: tokens, TLS, the status, bad options, bad requests."""
import html.parser
import shutil

from relay_peer import *


def refused(call, status):
    try:
        call()
    except Refused as e:
        assert e.status == status, e
    else:
        raise AssertionError("not refused")


def frames_pass(a, b):
    a.send(frame(BROADCAST, mac(1)))
    b.expect(frame(BROADCAST, mac(1)))


def tokens(gannet):
    with tempfile.TemporaryDirectory() as d:
        with open(f"{d}/tokens", "w") as f:
            f.write("s3cret-one\n\ns3cret two&\r\n")
        with Relay(gannet, "--token-file", f"{d}/tokens", "--token", "s3cret-three") as r:
            good = ["s3cret-one", "s3cret two&", "s3cret-three"]
            clients = [r.ws(headers=["Authorization: Bearer " + t]) for t in good]
            clients.append(r.ws("/wstap?token=s3cret-one"))
            clients.append(r.ws("/?a=b&token=s3cret%20two%26"))
            frames_pass(clients[0], clients[4])
            for bad in ("", "s3cret-on", "s3cret-one ", "s3cret-onee", "S3CRET-ONE", "x" * 300, "x" * 2000):
                refused(lambda: r.ws(headers=["Authorization: Bearer " + bad]), 401)
            refused(r.ws, 401)
            refused(lambda: r.ws("/?token="), 401)
            refused(lambda: r.ws("/?token=s3cret"), 401)
            refused(lambda: r.ws(headers=["Authorization: Basic s3cret-one"]), 401)
            for path in ("/", "/status.json", "/nowhere"):
                assert r.http(path)[0] == 401
                assert "www-authenticate: bearer" in r.http(path)[1].lower()
            assert r.http("/?token=s3cret-one")[0] == 200
            s = r.status("?token=s3cret-three")
            assert r.http("/status.json", headers=["Authorization: Bearer s3cret-one"])[0] == 200
            assert len(s["clients"]) == 5 and s["refused"] >= 11
            assert "s3cret" not in json.dumps(s) and "s3cret" not in r.text(), r.text()
            assert "no valid token" in r.text()


def make_ca(d):
    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, cwd=d, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "req.pem")
    with open(f"{d}/ext", "w") as f:
        f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "req.pem", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", "cert.pem")


def tls(gannet):
    if not shutil.which("openssl"):
        print("skipped: no openssl command")
        return
    with tempfile.TemporaryDirectory() as d:
        make_ca(d)
        with Relay(gannet, "--cert", f"{d}/cert.pem", "--key", f"{d}/key.pem") as r:
            assert r.scheme == "wss"
            ctx = client_tls(f"{d}/ca.pem")
            a, b = r.ws(tls=ctx), r.ws(tls=ctx)
            frames_pass(a, b)
            b.send(frame(mac(1), mac(2)))
            a.expect(frame(mac(1), mac(2)))
            for i in range(300):
                a.send(frame(mac(2), mac(1), i.to_bytes(2, "big") * 700))
            for i in range(300):
                b.expect(frame(mac(2), mac(1), i.to_bytes(2, "big") * 700))
            assert len(r.status(tls=ctx)["clients"]) == 2
            try:
                r.ws(tls=ssl.create_default_context())
                raise AssertionError("a stranger's certificate was believed")
            except ssl.SSLCertVerificationError:
                pass
            try:
                code = r.http("/")[0]  # plain HTTP on the TLS port
                assert code >= 400, code
            except (ConnectionError, IndexError, ValueError):
                pass
            raw = socket.create_connection(("127.0.0.1", r.port))
            raw.sendall(os.urandom(2000))
            frames_pass(a, b)
            raw.close()
        wrong = subprocess.run([gannet, "relay", "--listen", "127.0.0.1:0", "--cert", f"{d}/cert.pem",
                                "--key", f"{d}/ca.key"], capture_output=True, text=True, timeout=10)
        assert wrong.returncode == 2 and "belongs to it" in wrong.stderr, wrong
        assert wrong.stderr.count("\n") == 1, wrong.stderr


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.outside = []

    def handle_starttag(self, tag, attrs):
        self.outside += [v for k, v in attrs if k in ("src", "href")]


def status(gannet):
    with Relay(gannet) as r:
        evil = "/<script>alert(1)</script>\"'&"
        a, b = r.ws(evil), r.ws()
        frames_pass(a, b)
        s = r.status()
        assert [c["id"] for c in s["clients"]] == [1, 2]
        one = s["clients"][0]
        assert one["address"].startswith("127.0.0.1:") and one["macs"] == [ "02:00:00:00:00:01"], one
        assert one["path"].startswith("/"), one
        assert one["counters"]["frames-in"] == 1 and one["counters"]["bytes-in"] == 60
        assert s["clients"][1]["counters"]["frames-out"] == 1
        assert 0 < s["uptime"] < 60 and s["uplinks"] == []
        code, head, body = r.http("/status.json")
        assert b"<" not in body and "application/json" in head.lower(), body
        code, head, body = r.http("/")
        page = Page()
        page.feed(body.decode())
        assert code == 200 and page.outside == [] and b"http://" not in body and b"https://" not in body
        assert b"innerHTML" not in body and b"/status.json" in body
        assert "default-src 'none'" in head
        assert r.http("/", method="HEAD")[2] == b""
        assert r.http("/nothing")[0] == 404
        assert r.http("/", method="POST", headers=["Content-Length: 0"])[0] in (404, 405)
        refused(lambda: r.ws("/status.json"), 400)
        browser = r.ws(headers=["Sec-WebSocket-Protocol: ethernet.v1, other"])
        assert "sec-websocket-protocol: ethernet.v1\r\n" in browser.head.lower() + "\r\n", browser.head
        plain = r.ws()
        assert "sec-websocket-protocol" not in plain.head.lower()
        frames_pass(a, browser)
        plain.recv()


def hostile_http(gannet):
    with Relay(gannet) as r:
        a, b = r.ws(), r.ws()
        frames_pass(a, b)
        before = r.rss()
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        up = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        requests = [
            b"\r\n" * 5000, b"\0" * 5000, b"GET", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 100,
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
            b"GET " + b"/a" * 40000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /%zz%00%0a%ff/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /?" + b"a=b&" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"X-H: y\r\n" * 5000 + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: " + b"h" * 100000 + b"\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + b"z" * 10000,
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
            ("GET / HTTP/1.1\r\n" + up + "\r\n").encode(),
            ("GET / HTTP/1.1\r\nHost: x\r\n" + up + "\r\n").encode(),
            ("GET / HTTP/1.1\r\nHost: x\r\n" + up + "Sec-WebSocket-Key: " + "k" * 3000 + "\r\n\r\n").encode(),
            ("GET / HTTP/1.1\r\nHost: x\r\n" + up.replace("13", "8") + key + "\r\n").encode(),
            ("GET / HTTP/1.1\r\nHost: x\r\n" + up + key + "Sec-WebSocket-Protocol: " + "p" * 200 + "\r\n\r\n").encode(),
            ("GET / HTTP/1.1\r\nHost: x\r\n" + up + key + "Sec-WebSocket-Protocol: ,,; \"\r\n\r\n").encode(),
            ("GET / HTTP/1.1\r\nHost: x\r\n" + up + key + "Sec-WebSocket-Extensions: permessage-deflate; "
             "client_max_window_bits, x; y=\"z\"\r\n\r\n").encode(),
            ("POST / HTTP/1.1\r\nHost: x\r\n" + up + key + "\r\n").encode(),
            b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200,
        ]
        requests += [os.urandom(3000) for _ in range(20)]
        held = []
        for data in requests:
            s = socket.create_connection(("127.0.0.1", r.port), 5)
            try:
                s.sendall(data)
                s.settimeout(0.03)
                s.recv(65536)
            except OSError:
                pass
            held.append(s)
        held += [socket.create_connection(("127.0.0.1", r.port), 5) for _ in range(100)]
        for s in held[-100:-50]:
            s.sendall(b"GET / HTTP/1.1\r\nHost:")
        many = []
        for _ in range(150):  # who asks and does not read holds up nobody
            s = socket.create_connection(("127.0.0.1", r.port), 5)
            s.sendall(b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n")
            many.append(s)
        frames_pass(a, b)
        for s in held + many:
            s.close()
        time.sleep(0.2)
        assert len(r.status()["clients"]) == 2
        frames_pass(a, b)
        assert r.rss() - before < 8 << 20, (before, r.rss())


def addresses(gannet):
    if socket.has_ipv6:
        try:
            with Relay(gannet, listen="[::1]:0") as r:
                a, b = r.ws(family=socket.AF_INET6), r.ws(family=socket.AF_INET6)
                frames_pass(a, b)
                assert "client 1 ([::1]:" in r.text()
        except AssertionError as e:
            if "assign requested address" not in str(e) and "no such address" not in str(e):
                raise
            print("skipped: no IPv6 here")
    with Relay(gannet, "--listen", "localhost:0") as r:
        second = r.process.stdout.readline().decode()
        assert second.startswith("listening on ws://"), second


def bad_options(gannet):
    with Relay(gannet) as r, tempfile.TemporaryDirectory() as d:
        with open(f"{d}/empty", "w"):
            pass
        table = [
            (["--listen", f"127.0.0.1:{r.port}"], ["Address already in use", "another port"]),
            (["--listen", "nonsense"], ["nonsense", "127.0.0.1:8086"]),
            (["--listen", "127.0.0.1:99999"], ["99999", "ADDRESS:PORT"]),
            (["--listen", "192.0.2.77:0"], ["192.0.2.77", "no such address"]),
            (["--listen", "::1:80"], ["::1:80", "[::1]"]),
            (["--rate", "fast"], ["--rate fast", "number"]),
            (["--rate", "-5"], ["-5"]),
            (["--burst", "10"], ["--burst 10", "9216"]),
            (["--rate", "99999999999999999999G"], ["--rate"]),
            (["--cert", "/nowhere.pem", "--key", "/nowhere.key"], ["--cert /nowhere.pem", "No such file"]),
            (["--cert", "x"], ["--key"]),
            (["--cert", f"{d}/empty", "--key", f"{d}/empty"], ["--cert", "PEM"]),
            (["--token-file", "/nowhere"], ["/nowhere", "No such file"]),
            (["--token-file", f"{d}/empty"], ["no token"]),
            (["--token", ""], ["token"]),
            (["--max-clients", "0"], ["--max-clients 0"]),
            (["--max-clients", "65536", "--macs", "4096"], ["--macs 4096", "65536"]),
            (["--uplink", "nonsense:x"], ["nonsense"]),
            (["--uplink", "ws://127.0.0.1:1/?token=s3cret&nonsense=1"], ["nonsense"]),
            (["--capture", "/nowhere/x.pcapng"], ["/nowhere/x.pcapng"]),
            (["--frobnicate"], ["--frobnicate", "--help"]),
            (["word"], ["word", "--help"]),
            (["--listen"], ["--listen", "value"]),
        ]
        for options, words in table:
            got = subprocess.run([gannet, "relay", "--listen", "127.0.0.1:0", *options], timeout=10,
                                 capture_output=True, text=True)
            assert got.returncode == 2, (options, got)
            line = got.stderr
            assert line.startswith("gannet relay: ") and line.count("\n") == 1, (options, line)
            assert all(w in line for w in words), (options, line)
            assert "s3cret" not in line, line
        got = subprocess.run([gannet, "relay", "--help"], capture_output=True, text=True, timeout=10)
        assert got.returncode == 0 and "examples:" in got.stdout and not got.stderr


run([tokens, tls, status, hostile_http, addresses, bad_options])
