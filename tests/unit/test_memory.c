/* The memory map and the port map: contracts of core/memory.h and core/ioport.h. */
#include "tests/unit/fixture.h"

#include <unistd.h>

struct seen {
	uint64_t offset, value;
	unsigned size, reads, writes;
};

static uint64_t dev_read(void *opaque, uint64_t offset, unsigned size)
{
	struct seen *s = opaque;

	s->offset = offset;
	s->size = size;
	s->reads++;
	return 0x1122334455667788ull;
}

static void dev_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	struct seen *s = opaque;

	s->offset = offset;
	s->value = value;
	s->size = size;
	s->writes++;
}

static const struct mmio_ops dev_ops = { .read = dev_read, .write = dev_write };

struct told {
	unsigned maps, code;
	uint32_t page;
	unsigned offset, len;
	uint8_t before; /* the byte when code_written was called */
	struct memory *mem;
};

static void map_changed(void *opaque)
{
	((struct told *)opaque)->maps++;
}

static void code_written(void *opaque, uint32_t page, unsigned offset, unsigned len)
{
	struct told *t = opaque;

	t->code++;
	t->page = page;
	t->offset = offset;
	t->len = len;
	t->before = memory_host(t->mem)[page * 4096 + offset];
}

static struct memory *new_memory(struct told *t)
{
	struct memory_listener l = { map_changed, code_written, t };
	struct error err = { "" };
	struct memory *mem = memory_create(2 * MIB, 64 * KIB, NULL, &err);

	ck_assert_msg(mem != NULL, "%s", err.text);
	memset(t, 0, sizeof(*t));
	t->mem = mem;
	memory_set_listener(mem, &l);
	return mem;
}

START_TEST(sizes_are_refused_by_name)
{
	struct error err = { "" };

	ck_assert_ptr_null(memory_create(512 * KIB, 0, NULL, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "at least 1 MiB"));
	ck_assert_ptr_null(memory_create(100000 * MIB, 0, NULL, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "-m 100000: "));
	ck_assert_ptr_nonnull(strstr(err.text, "the host can map "));
	ck_assert_ptr_null(memory_create(MIB + 1, 0, NULL, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "multiple of 4096"));
}
END_TEST

START_TEST(holes_read_ones)
{
	struct told t;
	struct memory *mem = new_memory(&t);
	struct memory_view v;
	uint8_t buf[4] = { 0 };

	memory_add_ram(mem, 0, MIB, 0, MEMORY_RAM, 0, "ram");
	ck_assert_uint_eq(memory_read(mem, 0x200000, 4), 0xffffffff);
	memory_write(mem, 0x200000, 1, 4);
	memory_read_bytes(mem, 0xffffe, buf, 4);
	ck_assert_mem_eq(buf, "\0\0\xff\xff", 4);
	/* Half in RAM, half in the hole. */
	memory_write(mem, 0xffffe, 0xaabbccdd, 4);
	ck_assert_uint_eq(memory_read(mem, 0xffffe, 4), 0xffffccdd);
	memory_view(mem, 0x200000, &v);
	ck_assert(v.hole && v.kind == MEMORY_MMIO && v.ram_page == MEMORY_NO_PAGE);
	memory_destroy(mem);
}
END_TEST

START_TEST(priorities_hide_and_come_back)
{
	struct told t;
	struct memory *mem = new_memory(&t);
	struct memory_region *rom, *low;
	uint64_t at = memory_rom_alloc(mem, 8192);
	struct memory_view v;

	ck_assert_uint_eq(at, 2 * MIB);
	memset(memory_host(mem) + at, 0x5a, 8192);
	memory_add_ram(mem, 0, MIB, 0, MEMORY_RAM, 0, "ram");
	rom = memory_add_ram(mem, 0x4000, 8192, at, MEMORY_ROM, 1, "rom");
	memory_write(mem, 0x4000, 0x77, 1); /* ignored */
	ck_assert_uint_eq(memory_read(mem, 0x3fff, 2), 0x5a00);
	ck_assert_uint_eq(memory_read(mem, 0x5fff, 2), 0x005a);
	memory_view(mem, 0x5000, &v);
	ck_assert(v.kind == MEMORY_ROM && v.ram_page == (2 * MIB + 4096) / 4096);
	low = memory_add_ram(mem, 0x4000, 4096, 0, MEMORY_RAM, 0, "below");
	ck_assert_uint_eq(memory_read(mem, 0x4000, 1), 0x5a);
	memory_enable(mem, rom, false);
	ck_assert_uint_eq(memory_read(mem, 0x4000, 1), 0);
	memory_enable(mem, rom, true);
	memory_set_kind(mem, rom, MEMORY_RAM);
	memory_write(mem, 0x4000, 0x77, 1);
	ck_assert_uint_eq(memory_host(mem)[at], 0x77);
	memory_move(mem, rom, 0x300000);
	ck_assert_uint_eq(memory_read(mem, 0x300000, 1), 0x77);
	memory_remove(mem, rom);
	memory_remove(mem, low);
	ck_assert_uint_eq(memory_read(mem, 0x300000, 1), 0xff);
	memory_destroy(mem);
}
END_TEST

START_TEST(mmio_takes_what_fits)
{
	struct told t;
	struct memory *mem = new_memory(&t);
	struct seen s = { 0 };
	struct memory_view v;

	memory_add_mmio(mem, 0x10004, 8, &dev_ops, &s, 0, "dev");
	ck_assert_uint_eq(memory_read(mem, 0x10004, 4), 0x55667788);
	ck_assert_uint_eq(s.offset, 0);
	ck_assert_uint_eq(s.size, 4);
	memory_write(mem, 0x10006, 0xaabbccdd, 4); /* unaligned, inside: whole */
	ck_assert(s.offset == 2 && s.size == 4 && s.value == 0xaabbccdd);
	/* Two bytes past the end never reach the handler. */
	memory_write(mem, 0x1000a, 0xaabbccdd, 4);
	ck_assert(s.offset == 6 && s.size == 2 && s.value == 0xccdd);
	ck_assert_uint_eq(memory_read(mem, 0x1000a, 4) >> 16, 0xffff);
	memory_view(mem, 0x10000, &v); /* part of a page: no TLB entry, but no hole either */
	ck_assert(v.kind == MEMORY_MMIO && !v.hole && !v.host);
	memory_destroy(mem);
}
END_TEST

START_TEST(code_pages_are_reported_before_they_change)
{
	struct told t;
	struct memory *mem = new_memory(&t);
	uint8_t *flags = memory_page_flags(mem);
	static const uint8_t bytes[8192];

	memory_add_ram(mem, 0, MIB, 0, MEMORY_RAM, 0, "ram");
	memory_host(mem)[0x3010] = 0xc3;
	flags[3] = PAGE_CODE;
	memory_write(mem, 0x3010, 0x90909090, 4);
	ck_assert(t.code == 1 && t.page == 3 && t.offset == 0x10 && t.len == 4);
	ck_assert_uint_eq(t.before, 0xc3);
	ck_assert_uint_eq(flags[3], PAGE_CODE | PAGE_DIRTY);
	memory_write_bytes(mem, 0x2800, bytes, sizeof(bytes));
	ck_assert(t.code == 2 && t.offset == 0 && t.len == 4096);
	ck_assert_uint_eq(flags[2], PAGE_DIRTY);
	memory_write(mem, 0x2ffe, 0x11223344, 4); /* crosses into it */
	ck_assert(t.code == 3 && t.offset == 0 && t.len == 2);
	memory_touch(mem, UINT32_MAX, 0, 1);
	memory_destroy(mem);
}
END_TEST

START_TEST(a20_wraps)
{
	struct told t;
	struct memory *mem = new_memory(&t);
	struct memory_view v;

	memory_add_ram(mem, 0, 2 * MIB, 0, MEMORY_RAM, 0, "ram");
	memory_write(mem, 0, 0x11, 1);
	memory_write(mem, 0x100000, 0x22, 1);
	t.maps = 0;
	memory_set_a20(mem, false);
	ck_assert_uint_eq(t.maps, 1);
	ck_assert_uint_eq(memory_read(mem, 0x100000, 1), 0x11);
	ck_assert_uint_eq(memory_read(mem, 0xfffff, 2), 0x1100);
	memory_view(mem, 0x100000, &v);
	ck_assert_uint_eq(v.ram_page, 0);
	memory_set_a20(mem, true);
	ck_assert_uint_eq(memory_read(mem, 0x100000, 1), 0x22);
	memory_destroy(mem);
}
END_TEST

START_TEST(batches_tell_once)
{
	struct told t;
	struct memory *mem = new_memory(&t);

	memory_begin(mem);
	for (unsigned i = 0; i < 16; i++)
		memory_add_ram(mem, i * 0x10000, 0x8000, i * 0x8000, MEMORY_RAM, 0, "piece");
	ck_assert_uint_eq(t.maps, 0);
	memory_commit(mem);
	ck_assert_uint_eq(t.maps, 1);
	memory_write(mem, 0xf7fff, 0x42, 1);
	ck_assert_uint_eq(memory_host(mem)[0x7ffff], 0x42);
	/* What would wrap, overrun the memfd or be unaligned is refused. */
	ck_assert_ptr_null(memory_add_ram(mem, 0, 4096, 2 * MIB + 64 * KIB, MEMORY_RAM, 0, "x"));
	ck_assert_ptr_null(memory_add_ram(mem, 0x800, 4096, 0, MEMORY_RAM, 0, "x"));
	ck_assert_ptr_null(memory_add_mmio(mem, UINT64_MAX - 10, 100, &dev_ops, NULL, 0, "x"));
	ck_assert_uint_eq(memory_rom_alloc(mem, 128 * KIB), UINT64_MAX);
	memory_destroy(mem);
}
END_TEST

/* ---- ports ---- */

static uint32_t port_read(void *opaque, uint16_t port, unsigned size)
{
	struct seen *s = opaque;

	s->size = size;
	s->reads++;
	return 0xa0b0c0d0 + (port & 0xf);
}

static void port_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct seen *s = opaque;

	s->offset = port;
	s->value = value;
	s->size = size;
	s->writes++;
}

START_TEST(ports_split_and_cover)
{
	static const struct ioport_ops bytes = { .read = port_read, .write = port_write };
	static const struct ioport_ops words = { .read = port_read, .write = port_write, .sizes = 3 };
	struct trace trace = { 0 };
	struct ioport_map *map = ioport_map_create(&trace);
	struct seen a = { 0 }, b = { 0 };
	struct ioport_range *r;

	ck_assert_uint_eq(ioport_read(map, 0x80, 4), 0xffffffff);
	ioport_add(map, 0x100, 4, &bytes, &a, "a");
	ck_assert_uint_eq(ioport_read(map, 0x100, 4), 0xd3d2d1d0);
	ck_assert_uint_eq(a.reads, 4);
	ck_assert_uint_eq(ioport_read(map, 0x103, 2), 0xffd3); /* past the end: nobody */
	r = ioport_add(map, 0x102, 2, &words, &b, "b");
	ioport_write(map, 0x100, 0x44332211, 4);
	ck_assert(a.writes == 2 && a.offset == 0x101 && a.value == 0x22);
	ck_assert(b.writes == 1 && b.offset == 0x102 && b.value == 0x4433 && b.size == 2);
	ioport_remove(map, r);
	ioport_write(map, 0x102, 0x55, 1);
	ck_assert(a.offset == 0x102 && a.value == 0x55);
	ck_assert_ptr_null(ioport_add(map, 0x200, 0, &bytes, &a, "none"));
	ck_assert_ptr_nonnull(ioport_add(map, 0xffff, 100, &bytes, &a, "end"));
	ck_assert_uint_eq(ioport_read(map, 0xffff, 4), 0xffffffdf);
	ck_assert_uint_eq(ioport_read_block(map, 0x100, 1, NULL, 10), 0);
	ioport_map_destroy(map);
}
END_TEST

static void add(TCase *t)
{
	tcase_add_test(t, sizes_are_refused_by_name);
	tcase_add_test(t, holes_read_ones);
	tcase_add_test(t, priorities_hide_and_come_back);
	tcase_add_test(t, mmio_takes_what_fits);
	tcase_add_test(t, code_pages_are_reported_before_they_change);
	tcase_add_test(t, a20_wraps);
	tcase_add_test(t, batches_tell_once);
	tcase_add_test(t, ports_split_and_cover);
}

int main(void)
{
	return fixture_main("memory", add);
}
