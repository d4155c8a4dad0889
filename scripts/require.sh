#!/bin/sh
# require.sh build|mount|check|test|interop|bench: makes sure that what sapwood needs from the system is there.
#
# Debian packages are installed if we are root; otherwise one sentence says what is missing and what to do.
set -eu

missing() {
    echo "sapwood: $1 is missing: $2" >&2
    exit 1
}

# what debian-package
get() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "sapwood: installing $2, for $1" >&2
        if DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$2" >/dev/null 2>&1 ||
            { apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$2" >/dev/null; }; then
            return
        fi
    fi
    missing "$1" "apt-get install $2 (as root)"
}

# command debian-package
need() {
    command -v "$1" >/dev/null 2>&1 || get "$1" "$2"
}

# library debian-package
need_library() {
    PATH="$PATH:/sbin:/usr/sbin" ldconfig -p | grep -qF "$1" || get "$1" "$2"
}

build() {
    command -v cargo >/dev/null 2>&1 || missing cargo "install Rust (stable) from https://rustup.rs, or set PATH to where it is"
    need cc gcc
}

mount() {
    [ -c /dev/fuse ] || missing /dev/fuse "modprobe fuse (as root); in a container, run it with --device /dev/fuse --cap-add SYS_ADMIN"
    # An ordinary user mounts through it; root does without.
    [ "$(id -u)" = 0 ] || need fusermount3 fuse3
}

check() {
    build
    cargo fmt --version >/dev/null 2>&1 || missing rustfmt "rustup component add rustfmt"
    cargo clippy --version >/dev/null 2>&1 || missing clippy "rustup component add clippy"
}

# As root the tests mount as an ordinary user too, and other programs read what ours wrote.
tests() {
    build
    mount
    need fusermount3 fuse3
    need_library libfuse3.so libfuse3-3
    need_library libfuse.so.2 libfuse2
    need zstd zstd
    need tar tar
    need sha256sum coreutils
    need git git
    need patch patch
    need strace strace
    need nginx nginx-light
    need setpriv util-linux
    need xz xz-utils
    need bzip2 bzip2
    need bsdtar libarchive-tools
    need busybox busybox
    need bwrap bubblewrap
    need ssh-keygen openssh-client
    [ -x /usr/sbin/sshd ] || get sshd openssh-server
    need dot graphviz
    need skopeo skopeo
    need buildah buildah
    need docker-registry docker-registry
    need openssl openssl
    "${0%/*}/install-peers.sh"
    "${0%/*}/build-interop.sh"
    [ "$(id -u)" != 0 ] || need mkfs.ext4 e2fsprogs
    [ "$(id -u)" != 0 ] || need mkfs.xfs xfsprogs
}

interop() {
    mount
    need fusermount3 fuse3
    need git git
    need openssl openssl
    need bazel bazel-bootstrap
    need bwrap bubblewrap
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || get initdb postgresql
    need skopeo skopeo
    need buildah buildah
    need podman podman
    need runc runc
    need docker-registry docker-registry
    need setpriv util-linux
    "${0%/*}/install-engines.sh"
    "${0%/*}/build-interop.sh" snapshotter
}

bench() {
    build
    mount
    need git git
    need restic restic
    need borg borgbackup
    need casync casync
    need tar tar
    need zstd zstd
    need curl curl
    need nginx nginx-light
    need xz xz-utils
    need setpriv util-linux
    need make make
    need flex flex
    need bison bison
    need bc bc
    need rsync rsync
    [ -x /usr/sbin/sshd ] || get sshd openssh-server
    need bwrap bubblewrap
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || get initdb postgresql
    need skopeo skopeo
    need podman podman
    need runc runc
    need docker-registry docker-registry
    "${0%/*}/install-peers.sh"
    "${0%/*}/build-interop.sh" snapshotter
    "${0%/*}/install-engines.sh"
}

case "${1:-}" in
build) build ;;
mount) build && mount ;;
check) check ;;
test) tests ;;
interop) interop ;;
bench) bench ;;
*) missing "an argument" "require.sh build|mount|check|test|interop|bench" ;;
esac
