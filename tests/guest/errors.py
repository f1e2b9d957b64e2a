"""Bad input: one line that says what is wrong, exit code 2, nothing created.

And the ends of a machine that are no poweroff: a triple fault, isa-debug-exit.
"""
import os
import re
import struct
import subprocess
import tempfile
from pathlib import Path

from guest import I386, Failure, Guest, need


def refused(program, args, pattern, cwd):
    """Runs the command; returns what is wrong with how it refused, or None."""
    before = sorted(os.listdir(cwd))
    try:
        done = subprocess.run([program, *args], cwd=cwd, stdin=subprocess.DEVNULL, timeout=15,
                              capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return "was not refused"
    lines = done.stderr.splitlines()
    if done.returncode != 2:
        return f"exit code {done.returncode}, stderr {done.stderr!r}"
    if len(lines) != 1 or not lines[0].startswith("gannet: ") or done.stdout:
        return f"not one line on stderr: {done.stderr!r} {done.stdout!r}"
    if not re.search(pattern, lines[0]):
        return f"says {lines[0]!r}, expected {pattern!r}"
    if sorted(os.listdir(cwd)) != before:
        return f"left behind {set(os.listdir(cwd)) - set(before)}"
    return None


def elf(segments, entry=0x100000, machine=3, bits=1, header=True):
    """A multiboot ELF32 with (paddr, filesz, memsz, offset or None) segments."""
    head = bytearray(b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9))
    head += struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, entry, 52, 0, 0, 52, 32,
                        len(segments), 40, 0, 0)
    offset = 52 + 32 * len(segments) + 12
    for paddr, filesz, memsz, at in segments:
        head += struct.pack("<IIIIIIII", 1, offset if at is None else at, paddr, paddr,
                            filesz, memsz, 7, 4096)
    if header:
        head += struct.pack("<III", 0x1BADB002, 0, -0x1BADB002 & 0xffffffff)
    return bytes(head) + bytes(4096)


def files(folder, kernel):
    """The hostile files that the table below names."""
    def put(name, data):
        Path(folder, name).write_bytes(data)

    pcap = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    put("frames.pcap", pcap + struct.pack("<IIII", 1, 0, 60, 60) + bytes(60))
    put("wifi.pcap", pcap[:20] + struct.pack("<I", 105))
    put("cut.pcap", pcap[:17])
    image = kernel.read_bytes()
    put("empty", b"")
    put("text", b"just a text file\n" * 100)
    put("short.bz", image[:3000])
    put("half.bz", image[:len(image) // 2])
    patched = bytearray(image)
    patched[0x1f1] = 255
    put("setup255.bz", bytes(patched[:60000]))
    patched = bytearray(image)
    patched[0x236] |= 1
    put("64bit.bz", bytes(patched))
    patched = bytearray(image)
    patched[0x211] &= ~1
    put("zimage", bytes(patched))
    patched = bytearray(image)
    patched[0x260:0x264] = b"\xff\xff\xff\xff"
    put("hungry.bz", bytes(patched))
    put("kernel", image)
    put("overlap.elf", elf([(0x100000, 100, 0x2000, None), (0x101000, 100, 0x1000, None)]))
    put("outside.elf", elf([(0x100000, 0x10000, 0x10000, None)]))
    put("wrap.elf", elf([(0xfffff000, 16, 0x2000, None)]))
    put("bios.elf", elf([(0x0, 16, 0x1000, None)]))
    put("high.elf", elf([(0x7f000000, 16, 0x1000, None)]))
    put("arm.elf", elf([(0x100000, 16, 16, None)], machine=40))
    put("elf64.elf", elf([(0x100000, 16, 16, None)], bits=2))
    put("nothing.elf", elf([]))
    put("plain.elf", elf([(0x100000, 16, 16, None)], header=False))
    put("flags.elf", struct.pack("<III", 0x1BADB002, 0x4000, -(0x1BADB002 + 0x4000) & 0xffffffff))
    put("kludge.bin", struct.pack("<IIIIIIII", 0x1BADB002, 1 << 16, -(0x1BADB002 + (1 << 16)) & 0xffffffff,
                                  0x100000, 0x200000, 0, 0, 0x100000) + bytes(100))
    put("disk", bytes(1 << 20))
    put("odd.rom", bytes(1000))
    put("floppy", bytes(1000 * 512))
    os.mkdir(Path(folder, "folder"))
    put("secret", bytes(512))


TABLE = [
    # command line, what the line must say
    ("--no-such-option", "--no-such-option: unknown option"),
    ("-kernell x", "-kernell: unknown option"),
    ("-m", "-m: needs a value"),
    ("-m 0", "-m 0: .*at least 1M"),
    ("-m 512K", "-m 512K: .*512 KiB.*at least 1M"),
    ("-m 65G", "-m 65G: .*at most 64G"),
    ("-m 99999999999999999999", "-m 9+: "),
    ("-m lots", "-m lots: not a size"),
    ("-m 1.5G", r"-m 1\.5G: not a size"),
    ("-m -5", "-m -5: not a size"),
    ("-m 1025K", "-m 1025K: .*4 KiB"),
    ("-m 64 -m 128", "-m 128: already given as 64"),
    ("-smp 2", "-smp 2: .*-smp 1"),
    ("-vga cirrus", "-vga cirrus: .*std"),
    ("-cpu z80", "-cpu z80: "),
    ("--engine fast", "--engine fast: .*jit and interp"),
    ("-display gtk", "-display gtk: .*curses"),
    ("-d nonsense", "-d nonsense: .*'nonsense'"),
    ("-D log", "-D log without -d"),
    ("-device e1000", "-device e1000: unknown"),
    ("-device isa-debug-exit,iobase=x", "iobase is a port"),
    ("-device isa-debug-exit,speed=9", "unknown property 'speed=9'"),
    ("-boot z", "-boot z: 'z' is no boot device"),
    ("-boot cc", "-boot cc: 'c' stands there twice"),
    ("-boot menu=maybe", "menu= takes on or off"),
    ("-initrd disk", "-initrd without -kernel"),
    ("-append x", "-append without -kernel"),
    ("-kernel kernel -bios odd.rom", "-bios with -kernel"),
    ("-kernel missing", "-kernel missing: No such file"),
    ("-kernel empty", "-kernel empty: the file is empty"),
    ("-kernel folder", "-kernel folder: not a regular file"),
    ("-kernel text", "-kernel text: not a kernel"),
    ("-kernel disk", "-kernel disk: not a kernel"),
    ("-kernel short.bz", "-kernel short.bz: cut short"),
    ("-kernel half.bz", "-kernel half.bz: cut short: [0-9]+ bytes"),
    ("-kernel setup255.bz", "-kernel setup255.bz: cut short"),
    ("-kernel 64bit.bz", "-kernel 64bit.bz: a 64-bit kernel"),
    ("-kernel zimage", "-kernel zimage: a zImage"),
    ("-kernel hungry.bz", "-kernel hungry.bz: "),
    ("-kernel kernel -m 16", "-kernel kernel: needs memory up to [0-9]+ MiB"),
    ("-kernel kernel -initrd missing", "-initrd missing: No such file"),
    ("-kernel kernel -initrd empty", "-initrd empty: the file is empty"),
    ("-kernel kernel -initrd kernel -m 35", "-initrd kernel: .*do not fit.*-m"),
    ("-kernel overlap.elf", "-kernel overlap.elf: ELF segment 1 .*overlaps"),
    ("-kernel outside.elf", "-kernel outside.elf: .*outside of the file"),
    ("-kernel wrap.elf", "-kernel wrap.elf: .*outside of memory"),
    ("-kernel bios.elf", "-kernel bios.elf: .*BIOS"),
    ("-kernel high.elf", "-kernel high.elf: .*outside of memory"),
    ("-kernel arm.elf", "-kernel arm.elf: .*not for i386"),
    ("-kernel elf64.elf", "-kernel elf64.elf: a 64-bit ELF"),
    ("-kernel nothing.elf", "-kernel nothing.elf: .*without anything to load"),
    ("-kernel plain.elf", "-kernel plain.elf: not a kernel"),
    ("-kernel flags.elf", "-kernel flags.elf: multiboot header: wants features 0x4000"),
    ("-kernel kludge.bin", "-kernel kludge.bin: multiboot header: "),
    ("-bios missing", "-bios missing: No such file"),
    ("-bios odd.rom", "-bios odd.rom: .*64 KiB"),
    ("-bios empty", "-bios empty: 0 bytes"),
    ("-hda missing", "-hda missing: no such file"),
    ("-hda empty", "-hda empty: the image is 0 bytes; a disk needs at least one 512-byte sector"),
    ("-hda folder", "-hda folder: is a directory"),
    ("-hda disk -hda disk", "-hda disk: already|-hda disk: that drive"),
    ("-hda disk -hdb disk", "-hdb disk: is in use"),
    ("-hdc disk -cdrom disk", "-cdrom disk: takes the place of -hdc"),
    ("-cdrom disk -hdc disk", "-hdc disk: that drive already has disk"),
    ("missing", "-hda missing: no such file"),
    ("-fda floppy", "-fda.*floppy.*"),
    ("-serial stdio -serial stdio", "-serial stdio: .*already uses the terminal"),
    ("-nographic -debugcon stdio", "-debugcon stdio: .*already uses the terminal"),
    ("-serial nowhere", "-serial nowhere: "),
    ("-serial file:folder", "-serial file:folder: "),
    ("-serial file:no/such/folder", "-serial file:no/such/folder: "),
    ("-serial null -serial null -serial null", "-serial null: there are 2 serial ports"),
    ("-nographic -display curses", "-display curses with -nographic"),
    ("-display curses -serial null", "-display curses: .*not a terminal"),
    ("-serial file:made -hda empty", "-hda empty: the image is 0 bytes"),
    ("-serial file:made -kernel text", "-kernel text: not a kernel"),
    ("-serial file:made -cpu z80", "-cpu z80: "),
    ("-hda disk -snapshot --read-only", "--read-only with -snapshot"),
    ("-snapshot=yes -hda disk", "-snapshot=yes: unknown option|takes no value"),
    ("--snapshot=yes", "--snapshot=yes: takes no value"),
    ("-kernel", "-kernel: needs a value: -kernel FILE"),
]

# A kernel is given, so that what is refused is the network.
NETWORK = [
    ("--net pigeon:", "--net pigeon:: 'pigeon' is no backend; there are .*ws"),
    ("--net /dev/null", "--net /dev/null: not SCHEME:"),
    ("--net ws://", "--net ws://: no host"),
    ("--net ws://127.0.0.1:0/", "'0' is no port"),
    ("--net ws://127.0.0.1:9/", "--net ws://127.0.0.1:9/: .*[Cc]onnection refused|cannot|refused"),
    ("--net ws://no.such.host.invalid/", "no.such.host.invalid"),
    ("--net wss://127.0.0.1:9/?ca=missing", "missing"),
    ("--net wss://127.0.0.1:9/?ca=text", "text"),
    ("--net ws://127.0.0.1:9/?token-file=missing", "missing"),
    ("--net ws://127.0.0.1:9/?token=geheim&colour=red", "colour"),
    ("--net ws://127.0.0.1:9/?ping=soon", "ping=soon: a time"),
    ("--net pcap:", "pcap:"),
    ("--net pcap:no/such/folder/x.pcap", "no/such/folder/x.pcap: No such file"),
    ("--net pcap:in=missing", "missing: No such file"),
    ("--net pcap:in=text", "text"),
    ("--net pcap:in=empty", "empty"),
    ("--net pcap:in=cut.pcap", "cut.pcap"),
    ("--net pcap:in=wifi.pcap", "wifi.pcap: .*Ethernet"),
    ("--net pcap:in=frames.pcap,out=frames.pcap", "frames.pcap"),
    ("--net pcap:in=frames.pcap?speed=9999999999999", "speed"),
    ("--net loopback:../up", r"\.\./up"),
    ("--net loopback:?loss=120%25", "loss=120%"),
    ("--net loopback:?delay=never", "delay=never"),
    ("--net user:?net=10.0.2.999/24", "10.0.2.999"),
    ("--net user:?hostfwd=tcp::80", "hostfwd"),
    ("--net user:?tftp=missing", "missing"),
    ("--net tap:a-name-that-is-too-long", "a-name-that-is-too-long"),
    ("--net stream:unix:missing.sock", "missing.sock: .*No such file"),
    ("--net stream:tcp:127.0.0.1:9", "127.0.0.1:9: .*refused"),
    ("--net stream:carrier", "stream:carrier"),
    ("--net none --net user:", "--net none with another network"),
    ("--nic model=e1000", "model=e1000: unknown; there are ne2k_pci and ne2k_isa"),
    ("--nic mac=52:54:00", "mac=52:54:00: not an address"),
    ("--nic mac=53:54:00:12:34:56", "not the address of one card"),
    ("--nic wire=ff:ff:ff:ff:ff:ff", "not the address of one card"),
    ("--nic mac=52:54:00:12:34:57 --nic model=ne2k_pci", "another card has that address"),
    ("--nic net=0", "net=0: there are 0 --net"),
    ("--nic slot=5 --nic slot=5", r"PCI address 05\.0 is taken"),
    ("--nic slot=40", "slot=40: a number from 1 to 31"),
    ("--nic romfile=missing", "romfile=missing: No such file"),
    ("--nic romfile=text", "not an option ROM"),
    ("--nic model=ne2k_isa,iobase=0x123", "0x123"),
    ("--nic model=ne2k_isa,irq=99", "irq=99: a number"),
    ("--nic model=ne2k_isa,slot=5", "slot= are for ne2k_pci"),
    ("--nic colour=red", "unknown setting 'colour'"),
    ("-nic e1000", "'e1000' is unknown"),
    ("-netdev user", "write TYPE,id=ID"),
    ("-netdev user,id=a", "no card has it; add -device ne2k_pci,netdev=a"),
    ("-device ne2k_pci,netdev=a", "no -netdev with that id"),
    ("-nic tap,script=/etc/qemu-ifup", "scripts are not run"),
    ("-netdev stream,id=a,addr.type=fd -device ne2k_pci,netdev=a", "needs addr.type=unix"),
    ("--capture x.pcapng", "--capture x.pcapng without --net"),
    ("--net user: --capture folder", "--capture folder: "),
    ("--net user: --capture no/such/folder/x", "--capture no/such/folder/x: .*No such file"),
    ("--capture-size 1M", "--capture-size without --capture"),
    ("--net user: --capture x --capture-size 1K", "at least 64K"),
]


def bad_input(program, _engine):
    """Every line of the table is refused as it says."""
    program = os.path.abspath(program)
    kernel = need(I386 / "vmlinuz-686")
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        files(folder, kernel)
        rows = TABLE + [(f"-kernel kernel {line}", pattern) for line, pattern in NETWORK]
        for line, pattern in rows:
            fault = refused(program, line.split(" "), pattern, folder)
            if fault:
                wrong.append(f"gannet {line}: {fault}")
    print(f"{len(rows)} cases")
    if wrong:
        raise Failure("\n".join(wrong))


def multiboot(code):
    """A multiboot kernel out of machine code at 1 MiB, by the header's addresses."""
    flags = 1 << 16
    entry = 0x100020
    head = struct.pack("<IIIIIIII", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xffffffff,
                       0x100000, 0x100000, 0, 0, entry)
    return head + code


def run_code(program, engine, code, *args, code_wanted, text=""):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.bin")
        path.write_bytes(multiboot(code))
        with Guest(program, "--engine", engine, "-m", "16", "-display", "none", "-kernel", path,
                   *args, stdin=subprocess.DEVNULL) as guest:
            guest.wait(60, code_wanted)
            errors = guest.process.stderr.read().decode()
            if not re.search(text, errors):
                raise Failure(f"stderr is {errors!r}, expected {text!r}")
            return guest.text


def debug_exit(program, engine):
    """A write to isa-debug-exit ends the machine with (value << 1) | 1."""
    code = bytes.fromhex("b02a e6f4 ebfe".replace(" ", ""))  # mov al,42; out 0xf4,al; jmp $
    run_code(program, engine, code, "-device", "isa-debug-exit,iobase=0xf4", code_wanted=85)
    code = bytes.fromhex("66ba0105 b003 ee ebfe".replace(" ", ""))  # port 0x501
    run_code(program, engine, code, "-device", "isa-debug-exit,iobase=0x501", code_wanted=7)


def debugcon(program, engine):
    """What the guest writes to port 0xe9 comes out of -debugcon."""
    code = b"".join(b"\xb0%c\xe6\xe9" % c for c in b"hello\n") + bytes.fromhex("b000e6f4ebfe")
    out = run_code(program, engine, code, "-debugcon", "stdio", "-device", "isa-debug-exit",
                   code_wanted=1)
    if out != b"hello\n":
        raise Failure(f"port 0xe9 gave {out!r}")


def triple_fault(program, engine):
    """-no-reboot: the CPU's state and the reason, exit code 1."""
    # lidt [an empty table]; int3
    code = bytes.fromhex("0f011d30001000 cc ebfe".replace(" ", "")) + bytes(16)
    run_code(program, engine, code, "-no-reboot", code_wanted=1,
             text=r"(?si)gannet: triple fault.*eax.*eip")


def unassigned(program, engine):
    """Reads of ports and memory where nothing is give all ones; writes are ignored."""
    code = bytes.fromhex(
        "66ba2c03 ed 83f8ff 751f"      # in eax,0x32c; cmp eax,-1; jne bad
        "66ba2c03 ef"                  # out 0x32c,eax
        "a100000020 83f8ff 7510"       # mov eax,[0x20000000]; cmp; jne bad
        "c7050000 0020 78563412"       # mov dword [0x20000000],0x12345678
        "b000 e6f4"                    # good: exit code 1
        "ebfe"
        "b001 e6f4 ebfe".replace(" ", ""))  # bad: exit code 3
    run_code(program, engine, code, "-device", "isa-debug-exit", code_wanted=1)


SCENARIOS = {
    "bad-input": bad_input,
    "debug-exit": debug_exit,
    "debugcon": debugcon,
    "triple-fault": triple_fault,
    "unassigned": unassigned,
}
