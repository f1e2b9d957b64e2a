// A v86 machine that is saved and restored; its first serial port is stdin and stdout.
//
//	node v86_state.mjs NODE_MODULES boot KERNEL INITRD COMMAND-LINE
//	node v86_state.mjs NODE_MODULES restore IMAGE
//
// A line "SAVE PATH" on stdin is not the guest's: the state is written there, and
// "saved in N ms" on stderr.
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, what, ...files] = process.argv.slice(2);
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
	...(what === "restore" ? { initial_state: image(files[0]) } :
		{ bzimage: image(files[0]), initrd: image(files[1]), cmdline: files[2] }),
	autostart: true,
});

machine.add_listener("serial0-output-byte", byte => process.stdout.write(Buffer.of(byte)));
process.stdin.on("data", async data => {
	const text = data.toString("latin1");
	const match = /^SAVE (.*)\n$/.exec(text);
	if (!match)
		return machine.serial0_send(text);
	const start = performance.now();
	writeFileSync(match[1], Buffer.from(await machine.save_state()));
	process.stderr.write(`saved in ${performance.now() - start} ms\n`);
});
process.stdin.on("end", () => process.exit(0));
