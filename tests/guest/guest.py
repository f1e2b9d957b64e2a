"""A machine under test: started, talked to through its serial port, ended.

Used by the scenarios in run.py. Standard library only.
"""
import os
import re
import select
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("GANNET_CACHE", ROOT / ".cache"))
I386 = CACHE / "i386"

# What a terminal program adds to the text: cursor reports and the like.
ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[A-Za-z]|c)|\r")


class Skip(Exception):
    """The scenario needs something this machine does not have."""


class Failure(Exception):
    """The guest did something else than expected."""


def need(*paths):
    """Every path must exist; returns the first."""
    for path in paths:
        if not Path(path).exists():
            raise Skip(f"{path} is missing; tools/test fetches or installs it")
    return Path(paths[0])


class Guest:
    """One gannet process with its first serial port on a pipe."""

    def __init__(self, program, *args, stdin=subprocess.PIPE, echo=True):
        self.args = [str(program), *map(str, args)]
        self.echo = echo
        self.text = b""       # everything the guest has written, without escapes
        self.seen = 0         # up to where expect() has read
        self.process = subprocess.Popen(self.args, stdin=stdin, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if kind is not None or self.echo:
            print(" ".join(self.args))
            print(self.text.decode(errors="replace"))
            print(self.process.stderr.read().decode(errors="replace"), flush=True)
        self.process.stdout.close()
        self.process.stderr.close()

    def read(self, deadline):
        """Takes what is there, waiting until the deadline; False at the end."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise Failure("timed out")
        ready, _, _ = select.select([self.process.stdout], [], [], left)
        if not ready:
            raise Failure("timed out")
        data = os.read(self.process.stdout.fileno(), 65536)
        self.text += ESCAPES.sub(b"", data)
        return bool(data)

    def expect(self, pattern, timeout):
        """Waits for a regular expression in what came since the last expect()."""
        expression = re.compile(pattern.encode())
        deadline = time.monotonic() + timeout
        while True:
            match = expression.search(self.text, self.seen)
            if match:
                self.seen = match.end()
                return match
            try:
                if not self.read(deadline):
                    raise Failure("the machine ended")
            except Failure as failure:
                tail = self.text[-2000:].decode(errors="replace")
                raise Failure(f"{failure} while waiting for {pattern!r} after:\n{tail}") from None

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def run(self, command, timeout=60):
        """Runs a shell command in the guest; returns its output and exit status.

        The end mark is computed by the guest, so that the echo of the command
        is not taken for it."""
        self.type(f"{command}; echo \"END=$?=$((40+2))\"\n")
        start = self.seen
        match = self.expect(r"END=(\d+)=42\n", timeout)
        output = self.text[start:match.start()].decode(errors="replace")
        # The terminal may echo what is typed ahead twice: at once, and behind the prompt.
        _, echo, rest = output.rpartition('"END=$?=$((40+2))"\n')
        return rest if echo else output.split("\n", 1)[-1], int(match[1])

    def wait(self, timeout, code=0):
        """The process must end by itself, with this exit code."""
        deadline = time.monotonic() + timeout
        try:
            while self.read(deadline):
                pass
        except Failure:
            raise Failure("the process did not end") from None
        status = self.process.wait(max(1, deadline - time.monotonic()))
        if status != code:
            raise Failure(f"exit code {status}, expected {code}")

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self):
        """Resident memory that is not shared, e.g. with the guest's RAM, in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^RssAnon:\s+(\d+)", status, re.M)[1])


def linux(program, flavour, engine, *args, append="", initramfs=None):
    """A Debian kernel with the busybox initramfs, not yet waited for."""
    kernel = need(I386 / f"vmlinuz-{flavour}")
    initramfs = initramfs or need(I386 / f"initramfs-{flavour}.cpio")
    return Guest(program, "--engine", engine, "-m", "256", "-nographic", "-no-reboot",
                 "-kernel", kernel, "-initrd", initramfs,
                 "-append", f"console=ttyS0 quiet {append}".strip(), *args)


def shell(guest, timeout):
    """Waits for the prompt and makes sure that the shell answers."""
    guest.expect(r"gannet:/# ", timeout)
    guest.type("stty cols 1000\n") # long commands are echoed in one line
    guest.expect(r"gannet:/# ", timeout)
    output, status = guest.run("echo $((6*7))")
    if "42" not in output or status != 0:
        raise Failure(f"the shell answered {output!r}")
