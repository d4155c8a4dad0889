#!/bin/sh
# Pins every requirements/*.in with hashes into *.txt, for every Python from 3.11 on. Needs uv: pip install uv
set -eu
cd "$(dirname "$0")"
for name in build test dev demo environment; do
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
        --custom-compile-command requirements/compile.sh --output-file "$name.txt" "$name.in"
done
