// A v86 machine without a screen: its first serial port is stdin and stdout.
//
//	node v86_peer.mjs NODE_MODULES RELAY-URL KERNEL INITRD [COMMAND LINE]
//
// NODE_MODULES is where the npm packages v86 and ws are installed.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, relay, kernel, initrd, cmdline] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(modules), "x.js"));
globalThis.WebSocket = require("ws");
const { V86 } = await import(pathToFileURL(path.resolve(modules, "v86/build/libv86.mjs")));

function image(name)
{
	const bytes = readFileSync(name);
	return { buffer: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) };
}

const machine = new V86({
	wasm_path: path.resolve(modules, "v86/build/v86.wasm"),
	memory_size: 256 << 20,
	vga_memory_size: 8 << 20,
	bios: image("/usr/share/seabios/bios.bin"),
	vga_bios: image("/usr/share/seabios/vgabios-stdvga.bin"),
	bzimage: image(kernel),
	initrd: image(initrd),
	cmdline: cmdline ?? "console=ttyS0 quiet",
	net_device: { type: "ne2k", relay_url: relay },
	autostart: true,
});

machine.add_listener("serial0-output-byte", byte => process.stdout.write(Buffer.of(byte)));
process.stdin.on("data", data => machine.serial0_send(data.toString("latin1")));
process.stdin.on("end", () => process.exit(0));
