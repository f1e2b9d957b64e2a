"""Disks of saved machines: what was under way goes on, and only the right disk is taken.

Images are also taken apart here, from what docs/state-format.md says of them, so that
e2fsck sees what a guest under -snapshot has left.
"""
import fcntl
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from boot import BOOT
from drives import initramfs, md5, noise
from guest import Failure, Guest, linux, need, shell
from state import Saver

PAGE, CLUSTER = 4096, 4096
FILES, FILE_SIZE, ROUNDS = 6, 2 << 20, 8
TROUBLE = "EXT4-fs (error|warning)|I/O error|Buffer I/O|failed command|exception Emask|lost interrupt"


# ---- disks and what is written on them ----

def make_disk(path, scratch, size=192 << 20):
    """An ext4 filesystem with a folder of files, and their sums in a file of its own."""
    tree = Path(scratch, "tree")
    (tree / "src").mkdir(parents=True)
    sums = ""
    for n in range(FILES):
        data = noise(n, FILE_SIZE + n * 4321)
        (tree / "src" / str(n)).write_bytes(data)
        sums += f"{md5(data)}  {n}\n"
    (tree / "sums").write_text(sums)
    with open(path, "wb") as f:
        f.truncate(size)
    subprocess.run([need("/sbin/mkfs.ext4"), "-q", "-F", "-d", tree, path], check=True)
    shutil.rmtree(tree)
    return sums


# Every round reads from the disk, writes to it, and flushes.
COPY = (f"for n in $(seq {ROUNDS}); do echo 3 > /proc/sys/vm/drop_caches; "
        "cp -r /sda/src /sda/copy$n; sync; echo round $n; done; echo ALL $((40+2)) COPIED\n")


def answer(guest, command, timeout=60):
    """What a command says. Its echo may come twice: from the terminal, which has it before
    the shell is back, and from the shell."""
    output, status = guest.run(command, timeout)
    return "".join(l + "\n" for l in output.splitlines() if "END=$?" not in l), status


def check_copies(guest):
    """In the guest: all copies are what they should be, and the kernel saw no trouble."""
    guest.run("echo 3 > /proc/sys/vm/drop_caches")
    output, status = answer(guest, f"for n in $(seq {ROUNDS}); do (cd /sda/copy$n && "
                               "md5sum -c ../sums | grep -v OK); done; ls /sda | wc -l", 300)
    if status or output.split() != [str(ROUNDS + 3)]: # and src, sums, lost+found
        raise Failure(f"copies differ: {output}")
    output, _ = answer(guest, f"dmesg | grep -E '{TROUBLE}'")
    if output.strip():
        raise Failure(f"the guest's kernel: {output}")
    output, status = guest.run("umount /sda")
    if status:
        raise Failure(f"umount: {output}")


def check_disk(path, sums):
    """On the host: clean, every round's copy complete."""
    check = subprocess.run(["/sbin/e2fsck", "-fn", path], capture_output=True, text=True)
    if check.returncode != 0:
        raise Failure(f"e2fsck -fn finds {path.name} not clean: {check.stdout}")
    with tempfile.TemporaryDirectory() as out:
        for n in range(1, ROUNDS + 1):
            subprocess.run(["/sbin/debugfs", "-R", f"rdump /copy{n} {out}", path], check=True,
                           capture_output=True)
            found = "".join(f"{md5(Path(out, f'copy{n}', str(i)).read_bytes())}  {i}\n"
                            for i in range(FILES))
            if found != sums:
                raise Failure(f"{path.name}: copy{n} differs: {found}")


# ---- images from outside ----

class Image:
    """The section table of a state image."""

    def __init__(self, path):
        self.file = open(path, "rb")
        head = self.file.read(64)
        if head[:8] != b"GANNETST":
            raise Failure(f"{path} is no state image")
        self.sections = {}
        for _ in range(struct.unpack_from("<I", head, 12)[0]):
            entry = self.file.read(96)
            name = entry[:48].rstrip(b"\0").decode()
            self.sections[name] = struct.unpack_from("<IIQQQ", entry, 48)

    def bytes(self, name):
        _, _, offset, stored, _ = self.sections[name]
        return os.pread(self.file.fileno(), stored, offset)

    def field(self, section, name):
        """The bytes of a field: records of name length, type, element size, count."""
        data, at = self.bytes(section), 0
        while at < len(data):
            length, _, size, count = struct.unpack_from("<BBHI", data, at)
            found, at = data[at + 8:at + 8 + length].decode(), at + 8 + length
            if found == name:
                return data[at:at + size * count]
            at += size * count
        raise Failure(f"section {section} has no field {name}")

    def at_work(self):
        """Was a command of the first IDE channel under way? Phases are in devices/ata_priv.h."""
        return self.field("piix3-ide.0", "ch[0].ata.phase") != b"\0"

    def overlay(self, name, disk):
        """Writes the clusters of an overlay into a copy of its base; returns how many."""
        _, flags, start, _, _ = self.sections[name]
        if flags != 4:
            raise Failure(f"section {name} has flags {flags}")
        count = 0
        with open(disk, "r+b") as f:
            for first, pages, _ in struct.iter_unpack("<QQQ", self.bytes(name + ".map")):
                count += pages
                for page in range(first, first + pages):
                    f.seek(page * CLUSTER)
                    f.write(os.pread(self.file.fileno(), CLUSTER, start + page * PAGE))
        return count


def restored(program, engine, image, *args):
    return Guest(program, "--engine", engine, "--restore", image, "-nographic", "-no-reboot",
                 *args, echo=False)


def wait_copied(guest):
    guest.expect(r"ALL 42 COPIED\n", 300)
    guest.expect(r"gannet:/# ", 30)


def refused(program, engine, image, *args, says):
    """Exit code 2 and one line that says why."""
    done = subprocess.run([program, "--engine", engine, "--restore", image, "-nographic", *args],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    lines = done.stderr.splitlines()
    if done.returncode != 2 or len(lines) != 1 or any(s not in lines[0] for s in says):
        raise Failure(f"restore with {args}: exit code {done.returncode}, {done.stderr!r}; "
                      f"expected: {says}")


# ---- scenarios ----

def seconds_of(program, engine, disk, ramfs):
    """How long the copying takes when nobody disturbs it."""
    with linux(program, "686", engine, "-hda", disk, "-snapshot", initramfs=ramfs) as guest:
        shell(guest, BOOT[engine])
        guest.run("mkdir /sda && mount -t ext4 /dev/sda /sda")
        start = time.monotonic()
        guest.type(COPY)
        wait_copied(guest)
        took = time.monotonic() - start
        check_copies(guest)
    return took


def forget(disk):
    """Drops a disk from the host's memory, so that the guest's reads have to wait for it."""
    fd = os.open(disk, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def saves(guest, saver, disk, scratch, generator, seconds, count):
    """Saves at random points of the copying."""
    for n in range(count):
        forget(disk)
        end = time.monotonic() + generator.random() * 2 * seconds / count
        while time.monotonic() < end:
            try:
                guest.read(end)
            except Failure:
                break
        to = Path(scratch, f"{n}.gs")
        saver.save(to)
        yield to


def under_snapshot(program, engine):
    """Saved at ten points of a copy under -snapshot; each goes on from its image, one of
    them by way of a second generation, one in a compressed form."""
    need("/sbin/e2fsck", "/sbin/debugfs")
    seed = int(os.environ.get("GANNET_SEED", random.randrange(1 << 32)))
    generator = random.Random(seed)
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory() as scratch:
        disk, path = Path(scratch, "hda.img"), Path(scratch, "machine.gs")
        sums = make_disk(disk, scratch)
        before = md5(disk.read_bytes())
        ramfs = initramfs(scratch)
        seconds = seconds_of(program, engine, disk, ramfs)
        with linux(program, "686", engine, "-hda", disk, "-snapshot", "--save", path,
                   initramfs=ramfs) as guest:
            shell(guest, BOOT[engine])
            guest.run("mkdir /sda && mount -t ext4 /dev/sda /sda")
            saver = Saver(guest, path)
            guest.type(COPY)
            images = list(saves(guest, saver, disk, scratch, generator, seconds, 10))
            wait_copied(guest)
            check_copies(guest)
        middle = 0
        print(f"{sum(Image(i).at_work() for i in images)} of {len(images)} with a command under way")
        for n, image in enumerate(images):
            clusters = go_on(program, engine, image, disk, scratch, sums, n == 2, n == 4)
            middle += clusters > 0
            image.unlink()
        if middle < 3:
            raise Failure(f"seed {seed}: only {middle} images had an overlay")
        if md5(disk.read_bytes()) != before:
            raise Failure("the base was changed in spite of -snapshot")


def go_on(program, engine, image, disk, scratch, sums, twice, packed):
    """Restores, waits for the end, takes the disk out of a last image."""
    again, last, merged, short = (Path(scratch, name) for name in
                                  ("again.gs", "last.gs", "merged.img", "short.gs"))
    if packed:
        subprocess.run([program, "state", "convert", "--zstd", image, short], check=True)
    with restored(program, engine, short if packed else image, "--save", again) as guest:
        saver = Saver(guest, again)
        if twice:
            time.sleep(0.2)
            saver.save(last)
        else:
            wait_and_save(guest, saver, last)
    if twice:
        with restored(program, engine, last, "--save", again) as guest:
            wait_and_save(guest, Saver(guest, again), last)
    shutil.copyfile(disk, merged)
    Image(last).overlay("disk.0.overlay", merged)
    check_disk(merged, sums)
    shutil.copyfile(disk, merged)
    count = Image(image).overlay("disk.0.overlay", merged)
    last.unlink()
    return count


def wait_shell(guest):
    """Until a restored shell takes commands: it reads this after the loop, if that still runs."""
    guest.type("\necho GOES $((40+3)) ON\n")
    guest.expect(r"GOES 43 ON\n", 300)
    guest.expect(r"gannet:/# ", 30)


def wait_and_save(guest, saver, to):
    wait_shell(guest)
    output, status = guest.run(f"ls -d /sda/copy{ROUNDS}", 300)
    if status:
        raise Failure(f"the copying did not go on: {output}")
    check_copies(guest)
    saver.save(to)


class Held:
    """Keeps a machine from going on after a save: it waits for its "saved" to be read."""

    def __init__(self, guest):
        self.fd = guest.process.stderr.fileno()
        fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, 4096)
        self.guest = guest

    def save(self, path, to, meanwhile):
        writer = os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_NONBLOCK)
        os.write(writer, b"." * 4095 + b"\n")
        os.close(writer)
        os.kill(self.guest.process.pid, signal.SIGUSR2)
        end = time.monotonic() + 30
        while not path.exists():
            if time.monotonic() > end:
                raise Failure("the machine was not saved in time")
            time.sleep(0.001)
        path.rename(to)
        meanwhile()
        text = b""
        while b"saved to" not in text:
            text += os.read(self.fd, 65536)


def raw_disk(program, engine):
    """A disk the guest writes to itself: the image goes with a copy made at that moment."""
    need("/sbin/e2fsck", "/sbin/debugfs")
    generator = random.Random(int(os.environ.get("GANNET_SEED", "1")))
    with tempfile.TemporaryDirectory() as scratch:
        disk, path = Path(scratch, "hda.img"), Path(scratch, "machine.gs")
        sums = make_disk(disk, scratch)
        ramfs = initramfs(scratch)
        seconds = seconds_of(program, engine, disk, ramfs)
        pairs = []
        with linux(program, "686", engine, "-hda", disk, "--save", path, initramfs=ramfs) as guest:
            shell(guest, BOOT[engine])
            guest.run("mkdir /sda && mount -t ext4 /dev/sda /sda")
            held = Held(guest)
            guest.type(COPY)
            for n in range(3):
                time.sleep(generator.uniform(0.3, 1) * seconds / 5)
                pair = Path(scratch, f"{n}.gs"), Path(scratch, f"{n}.img")
                held.save(path, pair[0], lambda to=pair[1]: shutil.copyfile(disk, to))
                pairs.append(pair)
            wait_copied(guest)
            check_copies(guest)
            guest.type("poweroff\n")
            guest.wait(60)
        check_disk(disk, sums)

        print(f"{sum(Image(i).at_work() for i, _ in pairs)} of {len(pairs)} with a command under way")

        # The disk has changed since; a missing one and a longer one do not do, either.
        differs = (f"disk {disk}:", "content differs", "--force")
        for image, _ in pairs:
            refused(program, engine, image, says=differs)
        moved = disk.rename(Path(scratch, "moved.img"))
        refused(program, engine, pairs[0][0], says=(str(disk), "no such file"))
        with open(disk, "wb") as f:
            f.truncate(moved.stat().st_size + 512)
        for extra in (), ("--force",):
            refused(program, engine, pairs[0][0], *extra, says=(f"disk {disk}:", "sectors"))
        moved.rename(disk)
        before = md5(disk.read_bytes())
        with restored(program, engine, pairs[0][0], "--force", "-snapshot") as guest:
            guest.expect(r"round \d", 120) # its work goes on, for better or worse
        if md5(disk.read_bytes()) != before:
            raise Failure("-snapshot at the restore did not keep the disk from being written")

        for image, copy in pairs:
            with restored(program, engine, image, "-hda", copy) as guest:
                wait_shell(guest)
                check_copies(guest)
                guest.type("poweroff\n")
                guest.wait(60)
            check_disk(copy, sums)
            refused(program, engine, image, "-hda", copy, says=(f"disk {copy}:", "content differs"))


def media(program, engine):
    """A CD is read and a floppy written while the machine is saved."""
    with tempfile.TemporaryDirectory() as scratch:
        disc, floppy = Path(scratch, "cd.iso"), Path(scratch, "floppy.img")
        path = Path(scratch, "machine.gs")
        disc.write_bytes(noise(1, 40 << 20))
        floppy.write_bytes(noise(2, 1440 << 10))
        ramfs = initramfs(scratch)
        images = []
        with linux(program, "686", engine, "-cdrom", disc, "-fda", floppy, "-snapshot", "--save",
                   path, initramfs=ramfs) as guest:
            shell(guest, BOOT[engine])
            guest.run("dd if=/dev/urandom of=/tmp/new bs=1k count=1440 2>/dev/null")
            want, _ = guest.run("md5sum < /tmp/new")
            want = re.search("[0-9a-f]{32}", want)[0]
            saver = Saver(guest, path)
            guest.type("(dd if=/tmp/new of=/dev/fd0 bs=9k conv=fsync 2>/dev/null; "
                       "echo WRITTEN $((40+2))) & "
                       "for n in 1 2 3; do echo 3 > /proc/sys/vm/drop_caches; md5sum < /dev/sr0; done; "
                       "wait; echo READ $((40+2))\n")
            for n in range(4):
                time.sleep(0.15)
                images.append(Path(scratch, f"{n}.gs"))
                saver.save(images[-1])
            check_media(guest, disc, want, 3)
        for image in images:
            with restored(program, engine, image) as guest:
                check_media(guest, disc, want, 0)
        refused_disc = Path(scratch, "other.iso")
        refused_disc.write_bytes(noise(3, 40 << 20))
        refused(program, engine, images[0], "-cdrom", refused_disc,
                says=(f"disk {refused_disc}:", "content differs"))
        refused_disc.write_bytes(noise(3, 1440 << 10))
        refused(program, engine, images[0], "-fda", refused_disc,
                says=(f"disk {refused_disc}:", "content differs"))


def check_media(guest, disc, want, sums):
    guest.expect(r"READ 42\n", 300)
    found = re.findall(rb"\n([0-9a-f]{32})", guest.text)
    right = md5(disc.read_bytes()).encode()
    if len([f for f in found if f == right]) < sums or set(found) - {right, want.encode()}:
        raise Failure(f"the CD reads as {found}, not {right}")
    output, _ = guest.run("sync; echo 3 > /proc/sys/vm/drop_caches; md5sum < /dev/fd0; md5sum < /dev/sr0",
                          120)
    if want not in output or right.decode() not in output:
        raise Failure(f"floppy and CD read as {output}, not {want} and {right}")


SCENARIOS = {
    "state-disk-snapshot": under_snapshot,
    "state-disk-raw": raw_disk,
    "state-media": media,
}
