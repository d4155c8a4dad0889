#!/bin/sh
# Prints the path of a Python that can make sapwood's virtual environment, or says in one sentence what to do.
# A name on PATH proves nothing (version managers leave shims behind), so each candidate is run.
set -eu
for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
    found=$("$name" -c 'import sys, venv, ensurepip; print(sys.executable) if sys.version_info >= (3, 11) else sys.exit(1)' \
        2>/dev/null) && { echo "$found"; exit 0; }
done
echo "sapwood: needs Python 3.11 or newer with its venv module: apt-get install python3 python3-venv, or set PYTHON=/path/to/python" >&2
exit 1
