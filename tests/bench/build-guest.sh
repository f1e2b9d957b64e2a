#!/usr/bin/env bash
# Builds the benchmark guest from Debian i386 packages and the C in guest/.
#
#   tests/bench/build-guest.sh [--force]
#
# Result, in .cache/bench (or $GANNET_CACHE/bench):
#   vmlinuz, vmlinuz-pae     Debian's linux-image-686 and -686-pae
#   initrd-boot.cpio         busybox and the micro-benchmarks (mb), uncompressed
#   initrd-bench.cpio        the same with gzip, xz, openssl, perl, python and their data
#   root/                    the tree of initrd-bench.cpio, for native runs in a chroot
#
# Boot it with: -kernel vmlinuz -initrd initrd-bench.cpio
#   -append "console=ttyS0 quiet mitigations=off bmode=bench bscale=50"
# guest/init explains the bmode=, bscale=, btests= and breal= words.
# Needs root (device nodes), gcc-multilib, cpio, binutils.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${GANNET_CACHE:-$root/.cache}
out=$cache/bench
work=$cache/bench/work
fetch=$root/tools/debian-i386

programs="busybox-static openssl libssl3 perl-base xz-utils gzip python3.11-minimal
    libpython3.11-minimal libc6 libgcc-s1 zlib1g liblzma5 libexpat1 libcrypt1"

# Rebuilt when what goes into it differs: by content, for a fresh clone's files
# are all new and may share a cache that others are using.
mkdir -p "$out"
exec 8> "$out/lock"
flock 8
stamp=$(cat "$0" "$here"/guest/* | sha256sum | cut -d' ' -f1)
if [ "${1:-}" != --force ] && [ -s "$out/initrd-bench.cpio" ] && [ -d "$out/root/bin" ] &&
    [ "$(cat "$out/stamp" 2> /dev/null)" = "$stamp" ]; then
    exit 0
fi

# Native runs mount /proc and /tmp inside the tree: deleting must not go there.
refuse_mounts() {
    local dir mounted
    dir=$(realpath -m "$1")
    mounted=$(awk -v d="$dir" '$2 == d || index($2, d "/") == 1 {print $2; exit}' /proc/self/mounts)
    [ -z "$mounted" ] || {
        echo "build-guest.sh: $mounted is mounted; unmount it before the guest is built anew" >&2
        exit 1
    }
}
remove() {
    local dir
    for dir in "$@"; do
        refuse_mounts "$dir"
        rm -rf --one-file-system "$dir"
    done
}
refuse_mounts "$out/root"
remove "$work" "$out/root.new" "$out/root.old"
mkdir -p "$work/obj" "$out/root.new"
"$fetch" kernel
# shellcheck disable=SC2086
"$fetch" unpack "$work/pkg" $programs
cp "$cache/i386/vmlinuz-686" "$out/vmlinuz"
cp "$cache/i386/vmlinuz-686-pae" "$out/vmlinuz-pae"

# ---- what both images have ----
P=$work/pkg
R=$out/root.new # takes the old one's place when it is complete
mkdir -p "$R"/{bin,sbin,dev,proc,sys,tmp,etc,usr/bin,lib/modules}
mknod -m 600 "$R/dev/console" c 5 1
mknod -m 666 "$R/dev/null" c 1 3
mknod -m 600 "$R/dev/ttyS0" c 4 64
cp "$P/bin/busybox" "$R/bin/busybox"
for applet in $("$R/bin/busybox" --list | grep -vxE 'gzip|xz|busybox'); do
    ln -sf busybox "$R/bin/$applet"
done
make -s -C "$here/guest" O="$work/obj" "$work/obj/mb"
cp "$work/obj/mb" "$R/bin/mb"
install -m 755 "$here/guest/init" "$R/init"
for flavour in 686 686-pae; do
    package=$(cat "$cache/i386/kernel-$flavour.name")
    version=${package#linux-image-}
    src=$cache/i386/kernel-$flavour/lib/modules/$version
    dst=$R/lib/modules/$version
    mkdir -p "$dst/kernel/drivers/net/ethernet/8390"
    cp "$src"/kernel/drivers/net/ethernet/8390/{8390,ne2k-pci}.ko "$dst/kernel/drivers/net/ethernet/8390/"
    cp "$src"/modules.{order,builtin,builtin.modinfo} "$dst/"
    "$R/bin/busybox" depmod -b "$R" "$version" # the i386 busybox runs on this host
done
archive() { (cd "$R" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) > "$1"; }
archive "$out/initrd-boot.cpio"

# ---- plus real programs ----
declare -A seen
needed() { objdump -p "$1" 2> /dev/null | awk '/NEEDED/ {print $2}'; }
add_library() {
    local name=$1 dir lib
    [ -z "${seen[$name]:-}" ] || return 0
    seen[$name]=1
    for dir in "$P/lib/i386-linux-gnu" "$P/usr/lib/i386-linux-gnu"; do
        [ -e "$dir/$name" ] || continue
        mkdir -p "$R/lib/i386-linux-gnu"
        cp -L "$dir/$name" "$R/lib/i386-linux-gnu/$name"
        for lib in $(needed "$dir/$name"); do add_library "$lib"; done
        return 0
    done
    echo "build-guest.sh: missing library $name" >&2
    exit 1
}
add_program() {
    local lib
    cp -L "$1" "$R/usr/bin/$2"
    for lib in $(needed "$1"); do add_library "$lib"; done
}
add_library ld-linux.so.2
ln -sf i386-linux-gnu/ld-linux.so.2 "$R/lib/ld-linux.so.2"
add_program "$P/usr/bin/openssl" openssl
add_program "$P/usr/bin/perl" perl
add_program "$P/usr/bin/xz" xz
add_program "$P/bin/gzip" gzip
add_program "$P/usr/bin/python3.11" python3.11
mkdir -p "$R/usr/lib/ssl"
: > "$R/usr/lib/ssl/openssl.cnf"
cp -r "$P/usr/lib/python3.11" "$R/usr/lib/"
find "$R/usr/lib/python3.11" -name __pycache__ -prune -exec rm -rf {} +
cp "$here"/guest/bench.{pl,py,sh} "$R/"
find "$P/usr/lib/python3.11" -name '*.py' | LC_ALL=C sort | xargs cat > "$work/data"
cat "$P/usr/lib/i386-linux-gnu/libcrypto.so.3" >> "$work/data"
head -c 4096K "$work/data" > "$R/data.bin"
archive "$out/initrd-bench.cpio.new"
mv "$out/initrd-bench.cpio.new" "$out/initrd-bench.cpio"
[ ! -e "$out/root" ] || mv "$out/root" "$out/root.old"
mv "$out/root.new" "$out/root"
echo "$stamp" > "$out/stamp"
remove "$out/root.old" "$work"
