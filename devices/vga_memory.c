/* VGA memory as the CPU sees it: four planes behind the graphics controller.
 *
 * IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem", graphics
 * controller and sequencer registers.
 *
 * The planes are stored interleaved, byte by byte, so that the 32 bits of one
 * address are one word, a latch is one load, and "chain 4" is plain linear
 * memory: an address selects plane (address & 3) at offset address / 4. (IBM's
 * keeps address & ~3 as the offset; the display side accounts for it.) While
 * chain 4 is on and no logic stands between the CPU and the bytes, the first
 * 64 KiB of the window are mapped as memory.
 */
#include "devices/vga_priv.h"

/* 4 bits to 4 bytes. */
static uint32_t spread(unsigned bits)
{
	static const uint32_t table[16] = {
		0x00000000, 0x000000ff, 0x0000ff00, 0x0000ffff,
		0x00ff0000, 0x00ff00ff, 0x00ffff00, 0x00ffffff,
		0xff000000, 0xff0000ff, 0xff00ff00, 0xff00ffff,
		0xffff0000, 0xffff00ff, 0xffffff00, 0xffffffff,
	};

	return table[bits & 15];
}

static uint32_t four(uint8_t byte)
{
	return byte * 0x01010101u;
}

/* Offset in the window to address in the memory; false if it is not decoded. */
static bool decode(const struct vga *v, uint32_t offset, uint32_t *addr)
{
	static const struct { uint32_t first, size; } map[4] = {
		{ 0x00000, 0x20000 }, { 0x00000, 0x10000 },
		{ 0x10000, 0x08000 }, { 0x18000, 0x08000 },
	};
	unsigned m = v->gc[GC_MISC] >> MISC_MAP_SHIFT & 3;

	if (!(v->misc & MISC_OUT_RAM) || offset - map[m].first >= map[m].size)
		return false;
	*addr = offset - map[m].first;
	if (vga_vbe_on(v))
		*addr += (uint32_t)v->vbe[VBE_BANK] << 16;
	return true;
}

static uint8_t read_byte(struct vga *v, uint32_t offset)
{
	uint32_t addr, plane_offset;
	unsigned plane = v->gc[GC_READ_MAP] & 3;

	if (!decode(v, offset, &addr))
		return 0xff;
	if (vga_chain4(v)) {
		plane = addr & 3;
		plane_offset = addr >> 2;
	} else if (v->gc[GC_MODE] & MODE_ODD_EVEN) {
		plane = (plane & 2) | (addr & 1);
		plane_offset = addr & ~1u;
	} else {
		plane_offset = addr;
	}
	plane_offset &= vga_plane_mask(v);
	v->latch = load_le32(v->vram + plane_offset * 4);
	if (v->gc[GC_MODE] & MODE_READ1) {
		/* A bit is 1 where all planes that matter have the colour. */
		uint32_t care = spread(v->gc[GC_COLOR_DONT_CARE]);
		uint32_t diff = (v->latch ^ spread(v->gc[GC_COLOR_COMPARE])) & care;

		diff |= diff >> 16;
		diff |= diff >> 8;
		return ~diff;
	}
	return v->latch >> (plane * 8);
}

static uint32_t logic(const struct vga *v, uint32_t value)
{
	switch (v->gc[GC_ROTATE] >> 3 & 3) {
	case 1:
		return value & v->latch;
	case 2:
		return value | v->latch;
	case 3:
		return value ^ v->latch;
	default:
		return value;
	}
}

static uint8_t rotate(const struct vga *v, uint8_t byte)
{
	unsigned n = v->gc[GC_ROTATE] & 7;

	return byte >> n | byte << ((8 - n) & 7);
}

/* What the four planes get, before the map mask. */
static uint32_t write_value(const struct vga *v, uint8_t byte)
{
	uint32_t set = spread(v->gc[GC_SET_RESET]);
	uint32_t mask = four(v->gc[GC_BIT_MASK]);
	uint32_t value;

	switch (v->gc[GC_MODE] & MODE_WRITE) {
	case 0: {
		uint32_t enable = spread(v->gc[GC_ENABLE_SET_RESET]);

		value = (four(rotate(v, byte)) & ~enable) | (set & enable);
		break;
	}
	case 1:
		return v->latch;
	case 2:
		value = spread(byte);
		break;
	default:
		mask &= four(rotate(v, byte));
		value = set;
	}
	return (logic(v, value) & mask) | (v->latch & ~mask);
}

static void write_byte(struct vga *v, uint32_t offset, uint8_t byte)
{
	unsigned planes = v->seq[SEQ_MAP_MASK];
	uint32_t addr, plane_offset, mask;
	uint8_t *p;

	if (!decode(v, offset, &addr))
		return;
	if (vga_chain4(v)) {
		planes &= 1u << (addr & 3);
		plane_offset = addr >> 2;
	} else if (!(v->seq[SEQ_MEMORY_MODE] & MEMORY_SEQUENTIAL)) {
		planes &= addr & 1 ? 0xa : 0x5;
		plane_offset = addr & ~1u;
	} else {
		plane_offset = addr;
	}
	p = v->vram + (plane_offset & vga_plane_mask(v)) * 4;
	mask = spread(planes);
	store_le32(p, (load_le32(p) & ~mask) | (write_value(v, byte) & mask));
}

static uint64_t memory_ops_read(void *opaque, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)read_byte(opaque, offset + i) << (8 * i);
	return value;
}

static void memory_ops_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		write_byte(opaque, offset + i, value >> (8 * i));
}

const struct mmio_ops vga_memory_ops = {
	.read = memory_ops_read,
	.write = memory_ops_write,
};

/* Nothing between the CPU and the bytes of 0xa0000-0xaffff? */
static bool is_direct(const struct vga *v)
{
	uint64_t start = vga_vbe_on(v) ? (uint64_t)v->vbe[VBE_BANK] << 16 : 0;

	return vga_chain4(v) && (v->misc & MISC_OUT_RAM) &&
	       (v->gc[GC_MISC] >> MISC_MAP_SHIFT & 3) == 1 &&
	       (v->seq[SEQ_MAP_MASK] & 15) == 15 &&
	       !(v->gc[GC_MODE] & (MODE_WRITE | MODE_READ1)) &&
	       !v->gc[GC_ENABLE_SET_RESET] && !v->gc[GC_ROTATE] &&
	       v->gc[GC_BIT_MASK] == 0xff && start + 0x10000 <= v->vram_size;
}

void vga_memory_map(struct vga *v)
{
	struct memory *mem = v->machine->memory;
	uint64_t offset = v->vram_offset + (vga_vbe_on(v) ? (uint64_t)v->vbe[VBE_BANK] << 16 : 0);
	bool want = is_direct(v);

	if (want == !!v->direct && (!want || offset == v->direct_offset))
		return;
	memory_begin(mem);
	if (v->direct)
		memory_remove(mem, v->direct);
	v->direct = NULL;
	if (want) {
		v->direct = memory_add_ram(mem, 0xa0000, 0x10000, offset, MEMORY_RAM,
					   VGA_DIRECT_PRIORITY, "vga-direct");
		v->direct_offset = offset;
	}
	memory_commit(mem);
}
