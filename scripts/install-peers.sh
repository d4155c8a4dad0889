#!/bin/sh
# install-peers.sh: installs the servers that the contract tests talk to and no package of the system brings.
#
# Pinned: versitygw (S3) by the Go checksum database, azurite (Azure Blob) by the hashes in its lock file. They are kept in
# $SAPWOOD_PEERS, by default ~/.cache/sapwood-peers, for all checkouts; what is there is not installed again. Two minutes.
set -eu
cd "${0%/*}/.."
peers=${SAPWOOD_PEERS:-$HOME/.cache/sapwood-peers}
versitygw=1.8.0
azurite=3.35.0

missing() {
    echo "sapwood: $1 is missing: $2" >&2
    exit 1
}

if [ ! -x "$peers/versitygw-$versitygw" ]; then
    command -v go >/dev/null 2>&1 || missing go "install Go 1.24 or newer from https://go.dev/dl, or set PATH to where it is"
    echo "sapwood: installing versitygw $versitygw, an S3 server for the tests (two minutes)" >&2
    mkdir -p "$peers"
    new=$(mktemp -d "$peers/new.XXXXXX")
    GOBIN=$new go install "github.com/versity/versitygw/cmd/versitygw@v$versitygw" >"$new/log" 2>&1 || { cat "$new/log" >&2; exit 1; }
    mv "$new/versitygw" "$peers/versitygw-$versitygw"
    rm -rf "$new"
fi

if [ ! -f "$peers/azurite-$azurite/node_modules/azurite/dist/src/blob/main.js" ]; then
    command -v npm >/dev/null 2>&1 || missing npm "install Node 18 or newer, which brings it: apt-get install npm (as root)"
    echo "sapwood: installing azurite $azurite, an Azure Blob server for the tests" >&2
    mkdir -p "$peers"
    new=$(mktemp -d "$peers/new.XXXXXX")
    cp tests/peers/azurite/package.json tests/peers/azurite/package-lock.json "$new"
    (cd "$new" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error) >"$new/log" 2>&1 || { cat "$new/log" >&2; exit 1; }
    rm -rf "$peers/azurite-$azurite"
    mv "$new" "$peers/azurite-$azurite"
fi
