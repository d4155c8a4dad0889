#!/bin/sh
# Pins every requirements/*.in with hashes into *.txt, for every Python from 3.11 on. Needs uv: pip install uv
set -eu
cd "$(dirname "$0")"
for name in build test dev demo environment engines buildgrid; do
    deps=
    [ "$name" != engines ] || deps=--no-deps
    # shellcheck disable=SC2086 # nothing, or one word
    uv pip compile $deps --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
        --custom-compile-command requirements/compile.sh --output-file "$name.txt" "$name.in"
done
