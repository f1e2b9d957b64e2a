"""What the tests against other programs share: net_probe, namespaces, skipping."""
import os
import queue
import shutil
import subprocess
import sys
import threading
import time


def skip(why):
    print(f"SKIP: {why}")
    sys.exit(77)


def need(*programs, root=False):
    for program in programs:
        if not shutil.which(program):
            skip(f"needs {program}")
    if root and os.geteuid() != 0:
        skip("needs root for a network namespace")


class Probe:
    """A net_probe at work; what the backend tells its user collects in notes."""

    def __init__(self, program, url, ns=None):
        words = ["ip", "netns", "exec", ns] if ns else []
        self.process = subprocess.Popen([*words, program, url], text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.notes, self.lines = [], queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "note":
                self.notes.append(rest)
            else:
                self.lines.put(line.rstrip("\n"))
        self.lines.put("ended")

    def ask(self, command, timeout=25):
        self.process.stdin.write(command + "\n")
        return self.lines.get(timeout=timeout)

    def counters(self):
        pairs = (word.split("=") for word in self.ask("counters").split()[1:])
        total = {}
        for name, n in pairs:
            total[name] = total.get(name, 0) + int(n)
        return total

    def dropped(self):
        return {name: n for name, n in self.counters().items() if name.startswith("drop.") and n}

    def await_note(self, text, timeout=10):
        until = time.monotonic() + timeout
        while not any(text in note for note in self.notes):
            assert time.monotonic() < until, f"no word of '{text}' in {self.notes}"
            time.sleep(0.02)

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0, "net_probe failed"


def kill(process):
    if process.poll() is None:
        process.kill()
    process.wait(10)


def await_path(path, process, timeout=15):
    until = time.monotonic() + timeout
    while not os.path.exists(path):
        assert process.poll() is None, f"{process.args[0]} ended with {process.returncode}"
        assert time.monotonic() < until, f"{path} does not appear"
        time.sleep(0.02)


def expect(what, got, wanted):
    assert got == wanted, f"{what}: {got!r} instead of {wanted!r}"
    print(f"ok: {what}: {got}")


class Namespace:
    """A network namespace of this process's own."""

    def __init__(self):
        self.name = f"user-{os.getpid()}"

    def __enter__(self):
        made = subprocess.run(["ip", "netns", "add", self.name], capture_output=True, text=True)
        if made.returncode:
            skip(f"needs root and network namespaces: {made.stderr.strip()}")
        self.ip("link set lo up")
        return self

    def __exit__(self, *failure):
        subprocess.run(["ip", "netns", "del", self.name], check=False)

    def ip(self, words):
        subprocess.run(["ip", "-n", self.name, *words.split()], check=True)

    def popen(self, words, **more):
        return subprocess.Popen(["ip", "netns", "exec", self.name, *words], **more)
