# shellcheck shell=bash disable=SC2034
# Sourced by tools/demo, tools/test and the benchmarks: what a fresh Debian
# machine lacks, and the optimised build. Needs $root, the top of the tree.

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Packages that compile Gannet with its recompiler and all network backends.
build_packages="gcc libc6-dev meson ninja-build pkg-config libxxhash-dev libzstd-dev libjansson-dev libpng-dev
    libwebsockets-dev libwebsockets-evlib-ev libssl-dev libslirp-dev libpcap-dev"

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed ]
}

# Installs what is missing; asks for nothing and touches nothing if all is there.
need_packages() {
    local missing=() package sudo=
    for package in "$@"; do installed "$package" || missing+=("$package"); done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" != 0 ]; then
        sudo=$(command -v sudo) || die "need root or sudo to install: ${missing[*]}"
    fi
    say "installing ${missing[*]}"
    # A list that is only out of date need not stop us: the install says.
    $sudo apt-get -qq update || :
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install \
        "${missing[@]}" > /dev/null || die "apt-get could not install: ${missing[*]}"
}

# build DIR [MESON-OPTION...]: configures once, then brings it up to date.
build() {
    local dir=$1
    shift
    if [ ! -e "$dir/build.ninja" ]; then
        say "configuring ${dir#"$root"/}"
        meson setup "$dir" "$root" --buildtype=release "$@" > "$dir.log" 2>&1 || {
            cat "$dir.log" >&2
            die "meson setup failed"
        }
        mv "$dir.log" "$dir/setup.log"
    fi
    say "building ${dir#"$root"/}"
    ninja -C "$dir" || die "the build failed"
}

# A busybox initramfs for FLAVOUR (686, 686-pae) as .cache/i386/initramfs-FLAVOUR.cpio
guest_modules=ata_piix,sd_mod,sr_mod,ext4,crc32c_generic,isofs,ne2k-pci
initramfs() {
    local flavour=$1 cache=${GANNET_CACHE:-$root/.cache}/i386
    "$root/tools/debian-i386" kernel
    [ -x "$cache/busybox/bin/busybox" ] ||
        "$root/tools/debian-i386" unpack "$cache/busybox" busybox-static
    if [ ! "$cache/initramfs-$flavour.cpio" -nt "$root/tools/initramfs" ]; then
        say "building the initramfs"
        "$root/tools/initramfs" "$cache/initramfs-$flavour.cpio" \
            --kernel-tree "$cache/kernel-$flavour" --busybox "$cache/busybox/bin/busybox" \
            --modules "$guest_modules"
    fi
}

# v86, a PC emulator in JavaScript that is a peer in tests, below .cache/npm. The
# tests skip what needs it if the registry cannot be reached.
node_packages() {
    local dir=${GANNET_CACHE:-$root/.cache}/npm
    [ -e "$dir/node_modules/v86" ] && [ -e "$dir/node_modules/ws" ] && return
    command -v npm > /dev/null || need_packages nodejs npm
    say "fetching v86"
    mkdir -p "$dir"
    npm install --prefix "$dir" --no-audit --no-fund --loglevel=error v86@0.5.462 ws@8.23.0 >&2 ||
        say "npm could not fetch v86; tests with it are skipped"
}
