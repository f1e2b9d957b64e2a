"""A relay to test and a WebSocket client of our own (RFC 6455), standard library only.

The client can do what no library lets one do: fragments of any size, text, unmasked
frames, half a handshake, or simply not read.
"""
import base64
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
BROADCAST = b"\xff" * 6


def mac(n):
    """A locally administered address with number n."""
    return b"\x02\x00" + struct.pack(">I", n)


def frame(to, sender, payload=b"", kind=0x88B5):
    """Ethernet II, padded to 60 bytes; 0x88b5 is for local experiments."""
    return (to + sender + struct.pack(">H", kind) + payload).ljust(60, b"\0")


def xor(data, key):
    n = len(data)
    pattern = (key * (n // 4 + 1))[:n]
    return (int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")).to_bytes(n, "little")


def encode(data, op=BINARY, fin=True, masked=True, key=None):
    head = bytes([(0x80 if fin else 0) | op])
    bit = 0x80 if masked else 0
    if len(data) < 126:
        head += bytes([bit | len(data)])
    elif len(data) < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", len(data))
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", len(data))
    if not masked:
        return head + data
    key = os.urandom(4) if key is None else key
    return head + key + (xor(data, key) if any(key) else data)


def handshake(path="/", host="relay", headers=()):
    key = base64.b64encode(os.urandom(16))
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket",
             "Connection: Upgrade", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: " + key.decode(), *headers, "", ""]
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
    return "\r\n".join(lines).encode(), accept


class Refused(Exception):
    def __init__(self, status, text):
        super().__init__(f"{status} {text}")
        self.status = status


class Ws:
    """A client with a blocking socket; wait() and friends have time-outs in seconds."""

    def __init__(self, port, path="/", headers=(), tls=None, family=socket.AF_INET, buffer=None):
        self.sock = socket.socket(family)
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.settimeout(10)
        self.sock.connect(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""
        self.pings = 0
        request, accept = handshake(path, headers=headers)
        self.sock.sendall(request)
        while b"\r\n\r\n" not in self.data:
            self.fill(10)
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        self.head = head.decode("latin-1")
        status = int(self.head.split()[1])
        if status != 101:
            raise Refused(status, self.head)
        assert f"sec-websocket-accept: {accept}".lower() in self.head.lower(), self.head

    def fill(self, timeout):
        self.sock.settimeout(max(timeout, 0.001))
        more = self.sock.recv(1 << 18)
        if not more:
            raise EOFError("closed by the relay")
        self.data += more

    def parse(self):
        d = self.data
        if len(d) < 2:
            return None
        assert not d[1] & 0x80, "a server masks nothing"
        n, at = d[1] & 0x7F, 2
        if n == 126:
            if len(d) < 4:
                return None
            n, at = struct.unpack(">H", d[2:4])[0], 4
        elif n == 127:
            if len(d) < 10:
                return None
            n, at = struct.unpack(">Q", d[2:10])[0], 10
        if len(d) < at + n:
            return None
        self.data = d[at + n:]
        return d[0], d[at:at + n]

    def send(self, data, **how):
        self.sock.settimeout(20)
        self.sock.sendall(encode(data, **how))

    def recv(self, timeout=5):
        """The next frame; control frames are answered on the way."""
        end = time.monotonic() + timeout
        while True:
            got = self.parse()
            if got is None:
                self.fill(end - time.monotonic())
                continue
            op = got[0] & 15
            if op == PING:
                self.pings += 1
                self.send(got[1], op=PONG)
            elif op == CLOSE:
                raise EOFError("close " + got[1].hex())
            elif op != PONG:
                assert got[0] == 0x80 | BINARY, hex(got[0])
                return got[1]

    def expect(self, data, timeout=5):
        got = self.recv(timeout)
        assert got == data, f"{got[:64].hex()} ({len(got)}) instead of {data[:64].hex()} ({len(data)})"

    def nothing(self, timeout=0.15):
        try:
            got = self.recv(timeout)
        except (TimeoutError, socket.timeout):
            return
        raise AssertionError(f"unexpected frame of {len(got)}: {got[:64].hex()}")

    def close(self):
        self.sock.close()


class Relay:
    """`gannet relay` on a free port; a context manager that insists on a clean end."""

    def __init__(self, gannet, *options, listen="127.0.0.1:0"):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([gannet, "relay", "--listen", listen, *options],
                                        stdout=subprocess.PIPE, stderr=self.log)
        line = self.process.stdout.readline().decode()
        found = re.fullmatch(r"listening on (wss?)://(.*):(\d+)/\n", line)
        assert found, (line, self.text())
        self.scheme, self.port = found.group(1), int(found.group(3))

    def text(self):
        self.log.seek(0)
        return self.log.read().decode()

    def ws(self, path="/", **how):
        return Ws(self.port, path, **how)

    def http(self, path, method="GET", headers=(), tls=None):
        s = socket.create_connection(("127.0.0.1", self.port), 10)
        if tls:
            s = tls.wrap_socket(s, server_hostname="localhost")
        with s:
            lines = [f"{method} {path} HTTP/1.1", "Host: relay", "Connection: close", *headers]
            s.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            data = b""
            while True:
                more = s.recv(1 << 16)
                if not more:
                    break
                data += more
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode("latin-1"), body

    def status(self, query="", **how):
        time.sleep(0.25)  # an answer may be 0.2 s old
        code, head, body = self.http("/status.json" + query, **how)
        assert code == 200, head
        return json.loads(body)

    def rss(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) * 1024

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = "no end after SIGTERM"
        if kind:
            sys.stderr.write(self.text()[-3000:])
        else:
            assert code == 0, (code, self.text()[-3000:])


def run(tests):
    """relay_X.py GANNET [NAME...]: runs the functions, says which failed."""
    gannet, names = sys.argv[1], sys.argv[2:]
    for test in tests:
        if names and test.__name__ not in names:
            continue
        begin = time.monotonic()
        test(gannet)
        print(f"ok {test.__name__} {time.monotonic() - begin:.1f} s", flush=True)


def client_tls(ca):
    return ssl.create_default_context(cafile=ca)
