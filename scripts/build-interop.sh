#!/bin/sh
# build-interop.sh [snapshotter]: builds the Go programs of tests/interop/go, which drive other people's libraries, into
# build/interop; or the one of that name, a module of its own, which takes longer.
#
# What they depend on is pinned by go.sum. The first time takes a minute, mostly to fetch it; then Go finds all done.
# One at a time: nobody runs what another is writing.
set -eu
root=$(cd "${0%/*}/.." && pwd)
cd "$root/tests/interop/go/${1:-}"
command -v go >/dev/null 2>&1 || {
    echo "sapwood: go is missing: install Go 1.26 or newer from https://go.dev/dl, or set PATH to where it is" >&2
    exit 1
}
# Plain Go: nothing of C that a machine may lack.
mkdir -p "$root/build/interop"
CGO_ENABLED=0 exec flock "$root/build/interop" go build -mod=readonly -o "$root/build/interop/" ./...
