#!/bin/sh
# build-interop.sh: builds the Go programs of tests/interop/go, which drive other people's libraries, into build/interop.
#
# What they depend on is pinned by go.sum. The first time takes a minute, mostly to fetch it; then Go finds all done.
set -eu
cd "${0%/*}/../tests/interop/go"
command -v go >/dev/null 2>&1 || {
    echo "sapwood: go is missing: install Go 1.25 or newer from https://go.dev/dl, or set PATH to where it is" >&2
    exit 1
}
# Plain Go: nothing of C that a machine may lack.
CGO_ENABLED=0 exec go build -mod=readonly -o ../../../build/interop/ ./...
