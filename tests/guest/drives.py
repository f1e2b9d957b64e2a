"""Disks, CDs and floppies under drivers that nobody here wrote."""
import hashlib
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from boot import BOOT, FIRMWARE, tool
from guest import I386, ROOT, Failure, Guest, linux, need, shell

MODULES = "ata_piix,sd_mod,sr_mod,ext4,crc32c_generic,isofs,floppy"

# The kernel hands what it does not know ("libata=dma=0") to init as a variable.
INIT = """\
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /tmp /dev /bin /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do
    case $module in libata.ko) options=$libata ;; *) options= ;; esac
    insmod "/lib/modules/$module" $options
done < /etc/modules
exec /bin/busybox init
"""


def initramfs(scratch):
    init = Path(scratch, "init")
    init.write_text(INIT)
    out = Path(scratch, "initramfs.cpio")
    subprocess.run([sys.executable, ROOT / "tools/initramfs", out, "--kernel-tree",
                    need(I386 / "kernel-686"), "--busybox", need(I386 / "busybox/bin/busybox"),
                    "--modules", MODULES, "--init", init], check=True)
    return out


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def md5(data):
    return hashlib.md5(data).hexdigest()


def make_ext4(path, scratch, seed, size=48 << 20):
    """A whole-disk ext4 filesystem with one file in it; returns the file's sum."""
    tree = Path(scratch, f"tree{seed}")
    tree.mkdir()
    data = noise(seed, 3 << 20)
    (tree / "from-host").write_bytes(data)
    with open(path, "wb") as f:
        f.truncate(size)
    subprocess.run([need("/sbin/mkfs.ext4"), "-q", "-F", "-d", tree, path], check=True)
    return md5(data)


def check_ext4(path, digest):
    """Clean after a guest shutdown, and it holds what the guest says it wrote."""
    check = subprocess.run(["/sbin/e2fsck", "-fn", path], capture_output=True, text=True)
    if check.returncode != 0:
        raise Failure(f"e2fsck -fn finds {path.name} not clean: {check.stdout}")
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["/sbin/debugfs", "-R", f"dump /from-guest {out.name}", path], check=True,
                       capture_output=True)
        found = md5(Path(out.name).read_bytes())
    if found != digest:
        raise Failure(f"the guest wrote {digest}, {path.name} holds {found}")


def expect_sum(guest, path, digest, what):
    output, _ = guest.run(f"md5sum < {path}", 300)
    if digest not in output:
        raise Failure(f"{what} reads as {output.strip()!r}, it is {digest}")


def write_and_leave(guest, devices):
    """Write a file on every device at once; returns their sums."""
    for device in devices:
        guest.run(f"mkdir -p /{device} && mount -t ext4 /dev/{device} /{device}")
    writers = " ".join(f"(dd if=/dev/urandom of=/{d}/from-guest bs=64k count=160 2>/dev/null; sync) &"
                       for d in devices)
    guest.run(f"{writers} wait", 300)
    sums = []
    for device in devices:
        guest.run("echo 3 > /proc/sys/vm/drop_caches")
        output, _ = guest.run(f"md5sum < /{device}/from-guest", 120)
        sums.append(re.search(r"[0-9a-f]{32}", output)[0]) # the shell may report jobs, too
        _, status = guest.run(f"umount /{device}")
        if status:
            raise Failure(f"umount of {device} failed")
    return sums


def disk_names(guest):
    """The names Linux gave to our -hda to -hdd: it probes them all at once."""
    output, _ = guest.run("for d in /sys/block/sd*; do readlink -f $d/device; echo $d; done")
    places = re.findall(r"/(\d):0:(\d):0\n/sys/block/(sd.)\n", output.replace("\r", ""))
    return {"abcd"[int(host) * 2 + int(slave)]: name for host, slave, name in places}


def off(guest):
    guest.type("poweroff\n")
    guest.wait(60)


def disks(program, engine):
    """Masters and slaves of both channels work at once, by DMA."""
    need("/sbin/mkfs.ext4", "/sbin/e2fsck")
    with tempfile.TemporaryDirectory() as scratch:
        images = [Path(scratch, f"{name}.img") for name in ("hda", "hdb", "hdd")]
        sums = [make_ext4(p, scratch, i) for i, p in enumerate(images)]
        disc = Path(scratch, "cd.iso")
        disc.write_bytes(noise(9, 5 << 20))
        with linux(program, "686", engine, "-hda", images[0], "-hdb", images[1],
                   "-cdrom", disc, "-hdd", images[2], initramfs=initramfs(scratch)) as guest:
            shell(guest, BOOT[engine])
            output, _ = guest.run("cat /sys/class/ata_device/*/xfer_mode")
            if output.count("DMA") != 4:
                raise Failure(f"not all drives use DMA: {output!r}")
            guest.run("dd if=/dev/sr0 bs=64k 2>/dev/null | md5sum > /tmp/disc & true")
            names = disk_names(guest)
            devices = [names[letter] for letter in "abd"]
            for device, digest in zip(devices, sums):
                guest.run(f"mkdir -p /{device} && mount -t ext4 /dev/{device} /{device}")
                expect_sum(guest, f"/{device}/from-host", digest, device)
                guest.run(f"umount /{device}")
            written = write_and_leave(guest, devices)
            output, _ = guest.run("wait; cat /tmp/disc", 120)
            if md5(disc.read_bytes()) not in output:
                raise Failure(f"the CD reads as {output!r}")
            off(guest)
        for image, digest in zip(images, written):
            check_ext4(image, digest)


def disk_pio(program, engine):
    """The same without DMA: sectors through the data port."""
    with tempfile.TemporaryDirectory() as scratch:
        image, disc = Path(scratch, "hda.img"), Path(scratch, "cd.iso")
        digest = make_ext4(image, scratch, 4)
        disc.write_bytes(noise(5, 3 << 20))
        with linux(program, "686", engine, "-hda", image, "-cdrom", disc,
                   append="libata=dma=0", initramfs=initramfs(scratch)) as guest:
            shell(guest, BOOT[engine])
            output, _ = guest.run("cat /sys/class/ata_device/*/xfer_mode")
            if "DMA" in output or "PIO" not in output:
                raise Failure(f"the drives use DMA all the same: {output!r}")
            guest.run("mkdir -p /sda && mount -t ext4 /dev/sda /sda")
            expect_sum(guest, "/sda/from-host", digest, "the disk")
            guest.run("umount /sda")
            expect_sum(guest, "/dev/sr0", md5(disc.read_bytes()), "the CD")
            written = write_and_leave(guest, ("sda",))
            off(guest)
        check_ext4(image, written[0])


def snapshot(program, engine):
    """With -snapshot the guest sees its writes and the image stays as it was."""
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch, "hda.img")
        make_ext4(image, scratch, 6)
        before = md5(image.read_bytes())
        with linux(program, "686", engine, "-hda", image, "-snapshot",
                   initramfs=initramfs(scratch)) as guest:
            shell(guest, BOOT[engine])
            write_and_leave(guest, ("sda",))
            off(guest)
        if md5(image.read_bytes()) != before:
            raise Failure("the image was changed in spite of -snapshot")


def floppy_image(path):
    """GRUB on a 1.44M floppy without a filesystem."""
    need("/usr/lib/grub/i386-pc/boot.img")
    tool("grub-mkimage", "grub-common")
    config = path.with_suffix(".cfg")
    config.write_text("serial --unit=0 --speed=115200\nterminal_output serial\n"
                      "echo GRUB came from the floppy\nhalt\n")
    core = path.with_suffix(".core")
    subprocess.run(["grub-mkimage", "-O", "i386-pc", "-d", "/usr/lib/grub/i386-pc", "-o", core,
                    "-p", "/boot/grub", "-c", config, "biosdisk", "serial", "terminal", "echo",
                    "halt", "acpi"], check=True)
    boot = bytearray(Path("/usr/lib/grub/i386-pc/boot.img").read_bytes())
    boot[510:512] = b"\x55\xaa"
    data = bytes(boot) + core.read_bytes()
    path.write_bytes(data + bytes(1474560 - len(data)))


def floppy(program, engine):
    """SeaBIOS boots from a floppy; Linux's driver reads and writes 1.44M and 720K."""
    need(FIRMWARE)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "boot.img")
        floppy_image(path)
        with Guest(program, "--engine", engine, "-m", "64", "-nographic", "-no-reboot",
                   "-fda", path, "-boot", "a") as guest:
            guest.expect("GRUB came from the floppy", 60)
            guest.wait(30)
        cpio = initramfs(scratch)
        for kib in (1440, 720):
            data = noise(kib, kib << 10)
            path.write_bytes(data)
            with linux(program, "686", engine, "-fda", path, initramfs=cpio) as guest:
                shell(guest, BOOT[engine])
                expect_sum(guest, "/dev/fd0", md5(data), "the floppy")
                guest.run("dd if=/dev/urandom of=/tmp/new bs=512 count=300 2>/dev/null; "
                          "dd if=/tmp/new of=/dev/fd0 bs=512 seek=55 conv=fsync 2>/dev/null; "
                          "echo 3 > /proc/sys/vm/drop_caches", 120)
                output, _ = guest.run("md5sum < /dev/fd0", 120)
                off(guest)
            after = path.read_bytes()
            if md5(after) not in output or after == data:
                raise Failure(f"the guest reads {output!r}, the image has {md5(after)}")
            end = (55 + 300) * 512
            if after[:55 * 512] != data[:55 * 512] or after[end:] != data[end:]:
                raise Failure("sectors that were not written have changed")


SCENARIOS = {
    "disks": disks,
    "disk-pio": disk_pio,
    "snapshot": snapshot,
    "floppy": floppy,
}
