"""A WebSocket peer that does as it is told, right or wrong (RFC 6455), and the client
program under test. Standard library only; nothing of it is shared with Gannet."""
import base64
import hashlib
import json
import os
import select
import socket
import ssl
import struct
import subprocess
import threading
import time

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Gone(Exception):
    pass


def frame_bytes(opcode, payload, final=True):
    n = len(payload)
    head = bytes([(0x80 if final else 0) | opcode])
    if n < 126:
        head += bytes([n])
    elif n < 65536:
        head += struct.pack(">BH", 126, n)
    else:
        head += struct.pack(">BQ", 127, n)
    return head + payload


def unmask(payload, key):
    n = len(payload)
    pad = key * (n // 4 + 1)
    return (int.from_bytes(payload, "little") ^ int.from_bytes(pad[:n], "little")).to_bytes(n, "little")


class Conn:
    """One accepted connection."""

    def __init__(self, sock):
        self.sock, self.data, self.headers, self.request = sock, b"", {}, ""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def more(self):
        try:
            part = self.sock.recv(1 << 18)
        except OSError as e:
            raise Gone(str(e))
        if not part:
            raise Gone("end")
        self.data += part

    def take(self, n):
        while len(self.data) < n:
            self.more()
        out, self.data = self.data[:n], self.data[n:]
        return out

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError as e:
            raise Gone(str(e))

    def read_request(self):
        while b"\r\n\r\n" not in self.data:
            self.more()
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        self.request = lines[0]
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()

    def handshake(self, extra=""):
        if not self.headers:
            self.read_request()
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   f"Sec-WebSocket-Accept: {accept}\r\n{extra}\r\n").encode())

    def refuse(self, status, words):
        if not self.headers:
            self.read_request()
        self.send(f"HTTP/1.1 {status} {words}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def receive(self):
        """(opcode, payload); a client's frames are masked and, here, never in pieces."""
        a, b = self.take(2)
        assert a & 0x80, "a frame in pieces"
        assert not a & 0x70, "reserved bits"
        assert b & 0x80, "an unmasked frame from a client"
        n = b & 0x7f
        if n == 126:
            n, = struct.unpack(">H", self.take(2))
            assert n >= 126, "not the shortest length"
        elif n == 127:
            n, = struct.unpack(">Q", self.take(8))
        key = self.take(4)
        return a & 15, unmask(self.take(n), key)

    def message(self, payload, opcode=BINARY, final=True):
        self.send(frame_bytes(opcode, payload, final))

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def echo(conn):
    conn.handshake()
    while True:
        opcode, payload = conn.receive()
        if opcode == PING:
            conn.message(payload, PONG)
        elif opcode == CLOSE:
            conn.message(payload, CLOSE)
            return
        elif opcode == BINARY:
            conn.message(payload)


class Server:
    """Listens on 127.0.0.1; each connection runs `talk(conn)` in a thread."""

    def __init__(self, talk, port=0, tls=None, address="127.0.0.1"):
        self.talk, self.tls, self.conns, self.errors = talk, tls, [], []
        self.sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((address, port))
        self.sock.listen(16)
        self.port = self.sock.getsockname()[1]
        self.stopping = False
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while not self.stopping:
            try:
                if not select.select([self.sock], [], [], 0.02)[0]:
                    continue
                sock, _ = self.sock.accept()
            except (OSError, ValueError):
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        conn = None
        try:
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            conn = Conn(sock)
            self.conns.append(conn)
            self.talk(conn)
        except (Gone, OSError):
            pass
        except Exception as e:  # an assertion about the client
            self.errors.append(repr(e))
        try:
            sock.close()
        except OSError:
            pass

    def stop(self, reset=False):
        self.stopping = True
        self.thread.join()
        self.sock.close()
        for conn in self.conns:
            try:
                conn.reset() if reset else conn.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        assert not self.errors, self.errors

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.stop()
        except AssertionError:
            if not kind:
                raise


class Client:
    """The program under test with the backend of a URL."""

    def __init__(self, program, url, env=None):
        self.url = url
        self.out, self.ready = [], threading.Condition()
        self.proc = subprocess.Popen([program, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     text=True, bufsize=1, env={**os.environ, **(env or {})})
        self.done = False
        threading.Thread(target=self.read, daemon=True).start()
        first = self.wait(lambda m: "open" in m, 15)
        self.open, self.took = first["open"], first["took"]
        self.error = None if self.open else self.wait(lambda m: "error" in m, 5)["error"]

    def read(self):
        for line in self.proc.stdout:
            with self.ready:
                self.out.append(json.loads(line))
                self.ready.notify_all()
        with self.ready:
            self.done = True
            self.ready.notify_all()

    def wait(self, match, seconds=30, since=0):
        until = time.monotonic() + seconds
        with self.ready:
            while True:
                for m in self.out[since:]:
                    if match(m):
                        return m
                left = until - time.monotonic()
                if left <= 0 or self.done:
                    raise AssertionError(f"{self.url}: nothing within {seconds} s in {self.out[-5:]}")
                self.ready.wait(left)

    def notes(self, part=""):
        with self.ready:
            return [m["note"] for m in self.out if "note" in m and part in m["note"]]

    def wait_note(self, part, seconds=30):
        return self.wait(lambda m: part in m.get("note", ""), seconds)

    def say(self, line):
        self.proc.stdin.write(line + "\n")

    def report(self):
        since = len(self.out)
        self.say("report")
        return self.wait(lambda m: "status" in m, 10, since)

    def until(self, match, seconds=30):
        """Reports until one matches; the last one."""
        end = time.monotonic() + seconds
        while True:
            r = self.report()
            if match(r):
                return r
            if time.monotonic() > end:
                raise AssertionError(f"{self.url}: not within {seconds} s: {r}")
            time.sleep(0.01)

    def quit(self, stay_ms=0):
        """Seconds the backend took to close."""
        self.say(f"quit {stay_ms}")
        took = self.wait(lambda m: "closed" in m, 10)["closed"]
        assert self.proc.wait(10) == 0
        return took

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()


def balanced(r):
    """Every frame is accounted for, in both directions."""
    out = sum(r["ws." + k] for k in ("sent", "drop.not-connected", "drop.stale", "drop.aged",
                                     "drop.not-ready"))
    assert out == r["out"], f"sent {r['out']}, accounted for {out}: {r}"
    assert r["ws.received"] == r["in"], r
    assert r["received"] + r["port.drop.too-short"] == r["in"], r


def stamped(number, size=60):
    return (b"\xff" * 6 + b"\x52\x54\0\x65\x43\x21" + b"\x88\xb5" +
            struct.pack("<Iq", number, time.monotonic_ns())).ljust(size, b"\xa5")


def make_certificates(folder):
    """A CA, and certificates it signed: good, for another name, expired; and a self-signed one."""
    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name in ("ca", "other"):
        openssl("req", "-x509", *key, "-keyout", name + ".key", "-out", name + ".pem", "-days", "2",
                "-subj", "/CN=Test " + name)
    local = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
    for name, names, dates in (
            ("good", local, ["-days", "2"]),
            ("elsewhere", "subjectAltName=DNS:relay.example", ["-days", "2"]),
            ("expired", local, ["-not_before", "20200101000000Z", "-not_after", "20200102000000Z"])):
        openssl("req", *key, "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/CN=" + name)
        with open(os.path.join(folder, name + ".ext"), "w") as f:
            f.write(names + "\n")
        if "-days" in dates:
            openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                    "-CAcreateserial", "-out", name + ".pem", "-extfile", name + ".ext", *dates)
        else:  # "x509" of OpenSSL 3.0 takes no dates, "ca" does
            with open(os.path.join(folder, "ca.cnf"), "w") as f:
                f.write("[ca]\ndefault_ca=d\n[d]\nnew_certs_dir=.\ndatabase=index.txt\nserial=serial\n"
                        "default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n")
            open(os.path.join(folder, "index.txt"), "w").close()
            with open(os.path.join(folder, "serial"), "w") as f:
                f.write("77\n")
            openssl("ca", "-batch", "-config", "ca.cnf", "-in", name + ".csr", "-cert", "ca.pem",
                    "-keyfile", "ca.key", "-out", name + ".pem", "-extfile", name + ".ext",
                    "-startdate", "20200101000000Z", "-enddate", "20200102000000Z", "-notext")
    openssl("req", "-x509", *key, "-keyout", "self.key", "-out", "self.pem", "-days", "2",
            "-subj", "/CN=localhost", "-addext", local)


def server_tls(folder, name):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(os.path.join(folder, name + ".pem"), os.path.join(folder, name + ".key"))
    return ctx
