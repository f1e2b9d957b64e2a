"""Guests that boot: Debian kernels directly, GRUB from CD and disk, memtest86+."""
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from guest import CACHE, I386, Failure, Guest, Skip, linux, need, shell

# Generous: an interpreter on a busy machine takes minutes for a Debian kernel.
BOOT = {"jit": 120, "interp": 600}

FIRMWARE = "/usr/share/seabios/bios-256k.bin"


def tool(name, package):
    if not shutil.which(name):
        raise Skip(f"{name} is missing (package {package})")
    return name


def debian(flavour):
    """A shell on ttyS0 that takes input; poweroff ends the process with 0."""
    def scenario(program, engine):
        with linux(program, flavour, engine) as guest:
            shell(guest, BOOT[engine])
            output, _ = guest.run("uname -r")
            if not output.strip().endswith(f"-{flavour}"):
                raise Failure(f"uname says {output!r}")
            guest.type("poweroff\n")
            guest.wait(60 if engine == "jit" else 180)
    return scenario


def idle(program, engine):
    """A shell prompt uses less than 3% of a processor.

    The guest wakes 250 times a second, and what a wake-up costs depends on what
    the host's caches were used for meanwhile: others only add to it. So the best
    of three stretches of ten seconds counts.
    """
    with linux(program, "686", engine) as guest:
        shell(guest, BOOT[engine])
        time.sleep(3)
        shares = []
        while len(shares) < 3 and min(shares, default=1) >= 0.03:
            before, start = guest.cpu_seconds(), time.monotonic()
            time.sleep(10)
            shares.append((guest.cpu_seconds() - before) / (time.monotonic() - start))
        text = ", ".join(f"{100 * share:.2f}%" for share in shares)
        print(f"idle: {text} of a processor")
        if min(shares) >= 0.03:
            raise Failure(f"the idle guest uses {text} of a processor, more than 3%")


def reboot(program, engine):
    """Without -no-reboot the kernel starts again; with it the process ends."""
    kernel = need(I386 / "vmlinuz-686")
    initramfs = need(I386 / "initramfs-686.cpio")
    common = ["--engine", engine, "-m", "256", "-nographic", "-kernel", kernel,
              "-initrd", initramfs, "-append", "console=ttyS0 quiet"]
    with Guest(program, *common) as guest:
        shell(guest, BOOT[engine])
        guest.type("reboot\n")
        shell(guest, BOOT[engine])
        guest.type("\x01x") # no terminal, so Ctrl-A is the guest's
        guest.type("poweroff\n")
        guest.process.terminate()
        guest.wait(30)
    with Guest(program, *common, "-no-reboot") as guest:
        shell(guest, BOOT[engine])
        guest.type("reboot\n")
        guest.wait(60)


def grub_config(kernel_path, initrd_path):
    return ("serial --unit=0 --speed=115200\n"
            "terminal_input serial\nterminal_output serial\n"
            "set timeout=0\n"
            "menuentry linux {\n"
            "  echo GRUB loads the kernel\n"
            f"  linux {kernel_path} console=ttyS0 quiet\n"
            f"  initrd {initrd_path}\n"
            "}\n")


def grub_cd(program, engine):
    """SeaBIOS and GRUB boot Debian from a CD that grub-mkrescue made."""
    need(FIRMWARE)
    tool("grub-mkrescue", "grub-common")
    tool("xorriso", "xorriso")
    need("/usr/lib/grub/i386-pc/boot_hybrid.img")
    kernel, initramfs = need(I386 / "vmlinuz-686"), need(I386 / "initramfs-686.cpio")
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch, "cd")
        (tree / "boot/grub").mkdir(parents=True)
        shutil.copy(kernel, tree / "boot/vmlinuz")
        shutil.copy(initramfs, tree / "boot/initrd")
        (tree / "boot/grub/grub.cfg").write_text(grub_config("/boot/vmlinuz", "/boot/initrd"))
        image = Path(scratch, "cd.iso")
        subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", image, tree],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with Guest(program, "--engine", engine, "-m", "256", "-nographic", "-no-reboot",
                   "-cdrom", image, "-boot", "d") as guest:
            guest.expect("GRUB loads the kernel", 60)
            shell(guest, BOOT[engine])
            _, status = guest.run("mount -t iso9660 /dev/sr0 /mnt || "
                                  "(mkdir -p /mnt && mount -t iso9660 /dev/sr0 /mnt)")
            output, status = guest.run("cmp /mnt/boot/initrd /mnt/boot/initrd && "
                                       "md5sum < /mnt/boot/initrd", 180)
            wanted = subprocess.run(["md5sum"], stdin=open(initramfs, "rb"), check=True,
                                    capture_output=True, text=True).stdout.split()[0]
            if wanted not in output:
                raise Failure(f"the CD's file reads back as {output!r}, it is {wanted}")
            guest.type("poweroff\n")
            guest.wait(60)


def make_disk(path, scratch, kernel, initramfs):
    """A raw disk: MBR, GRUB in the gap, one ext4 partition from 1 MiB on.

    Made without root or loop devices: GRUB's core image is put into the gap by
    hand, with the two block lists that point at it patched as grub-bios-setup
    does."""
    size, start = 128 << 20, 1 << 20
    tree = Path(scratch, "disk")
    (tree / "boot/grub").mkdir(parents=True)
    shutil.copy(kernel, tree / "boot/vmlinuz")
    shutil.copy(initramfs, tree / "boot/initrd")
    (tree / "boot/grub/grub.cfg").write_text(
        grub_config("/boot/vmlinuz", "/boot/initrd"))
    core = Path(scratch, "core.img")
    modules = "biosdisk part_msdos ext2 linux normal serial terminal echo boot".split()
    subprocess.run(["grub-mkimage", "-O", "i386-pc", "-d", "/usr/lib/grub/i386-pc", "-o", core,
                    "-p", "(hd0,msdos1)/boot/grub", *modules], check=True)
    part = Path(scratch, "part.img")
    with open(part, "wb") as f:
        f.truncate(size - start)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", "-O", "^has_journal,^metadata_csum,^64bit",
                    "-d", tree, part], check=True)
    subprocess.run(["/sbin/tune2fs", "-O", "has_journal", part], check=True,
                   stdout=subprocess.DEVNULL)
    boot = bytearray(Path("/usr/lib/grub/i386-pc/boot.img").read_bytes())
    image = bytearray(core.read_bytes())
    boot[0x5c:0x64] = (1).to_bytes(8, "little")     # where the core image starts
    boot[0x66:0x68] = b"\x90\x90"                   # keep the drive the BIOS gave
    sectors = (len(image) + 511) // 512
    image[0x1f4:0x1fc] = (2).to_bytes(8, "little")  # the rest of it: block, count
    image[0x1fc:0x1fe] = (sectors - 1).to_bytes(2, "little")
    entry = bytes([0x80, 0, 2, 0, 0x83, 0xff, 0xff, 0xff])
    entry += (start // 512).to_bytes(4, "little") + ((size - start) // 512).to_bytes(4, "little")
    boot[446:510] = entry + bytes(48)               # the rest held code for floppies
    boot[510:512] = b"\x55\xaa"
    with open(path, "wb") as disk:
        disk.write(boot[:512])
        disk.write(image)
        disk.seek(start)
        with open(part, "rb") as source:
            shutil.copyfileobj(source, disk)
    return start


def disk(program, engine):
    """SeaBIOS, GRUB and Debian from a raw disk; ext4 written by DMA is clean after."""
    need(FIRMWARE, "/usr/lib/grub/i386-pc/boot.img")
    tool("grub-mkimage", "grub-common")
    need("/sbin/mkfs.ext4", "/sbin/e2fsck")
    kernel, initramfs = need(I386 / "vmlinuz-686"), need(I386 / "initramfs-686.cpio")
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch, "disk.img")
        start = make_disk(image, scratch, kernel, initramfs)
        with Guest(program, "--engine", engine, "-m", "256", "-nographic", "-no-reboot",
                   "-hda", image) as guest:
            guest.expect("GRUB loads the kernel", 60)
            shell(guest, BOOT[engine])
            output, _ = guest.run("cat /sys/class/ata_device/dev1.0/xfer_mode")
            if "DMA" not in output:
                raise Failure(f"the disk does not use DMA: {output!r}")
            output, status = guest.run(
                "mkdir -p /mnt && mount -t ext4 /dev/sda1 /mnt && "
                "dd if=/dev/urandom of=/mnt/data bs=64k count=256 2>/dev/null && sync && "
                "md5sum < /mnt/data && umount /mnt", 180)
            if status != 0:
                raise Failure(f"writing the disk failed: {output}")
            digest = output.split()[0]
            output, _ = guest.run("mount -t ext4 -o ro /dev/sda1 /mnt && md5sum < /mnt/data; umount /mnt", 120)
            if digest not in output:
                raise Failure(f"written {digest}, read back {output!r}")
            guest.type("poweroff\n")
            guest.wait(60)
        part = Path(scratch, "after.img")
        with open(image, "rb") as source, open(part, "wb") as target:
            source.seek(start)
            shutil.copyfileobj(source, target)
        check = subprocess.run(["/sbin/e2fsck", "-fn", part], capture_output=True, text=True)
        print(check.stdout)
        if check.returncode != 0:
            raise Failure(f"e2fsck -fn finds the disk not clean: {check.stdout}")
        data = Path(scratch, "data")
        subprocess.run(["/sbin/debugfs", "-R", f"dump /data {data}", part], check=True,
                       capture_output=True)
        host = subprocess.run(["md5sum", data], check=True, capture_output=True, text=True)
        if host.stdout.split()[0] != digest:
            raise Failure(f"the guest wrote {digest}, the image holds {host.stdout.split()[0]}")


def memtest(program, engine):
    """memtest86+ finds no error in one pass over 32 MiB."""
    image = next((p for p in (Path("/boot/memtest86+ia32.bin"), Path("/boot/memtest86+x32.bin"),
                              I386 / "memtest/boot/memtest86+ia32.bin",
                              I386 / "memtest/boot/memtest86+x32.bin") if p.exists()), None)
    if image is None:
        raise Skip("memtest86+ for 32 bits is missing (package memtest86+)")
    with Guest(program, "--engine", engine, "-m", "32", "-nographic", "-no-reboot",
               "-kernel", image, "-append", "console=ttyS0,115200 nosmp") as guest:
        match = guest.expect(r"Pass:\s+[1-9]\d*\s+Errors:\s+(\d+)|Errors:\s+([1-9]\d*)",
                             900 if engine == "jit" else 3600)
        if match[1] != b"0":
            raise Failure(f"memtest86+ says {match[0].decode()!r}")


SCENARIOS = {
    "debian-686": debian("686"),
    "debian-686-pae": debian("686-pae"),
    "idle": idle,
    "reboot": reboot,
    "grub-cd": grub_cd,
    "disk": disk,
    "memtest": memtest,
}
