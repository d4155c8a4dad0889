"""Make the databases of `tests/golden/rpm` by rpm itself, and by Berkeley DB's own tool: rpm, rpmbuild and db5.3_load.

Debian packages rpm and db5.3-util. Debian's rpm writes SQLite only; its headers are loaded into a hash table of
Berkeley DB, as earlier ones kept them, and laid out as rpm's `lib/backend/ndb/rpmpkg.c` has it.
"""

from __future__ import annotations

import gzip
import shutil
import sqlite3
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

OUT = Path(__file__).parent / "rpm"
SPEC = """\
Name: {name}
Version: 1.0
Release: 1
Summary: {name}
License: MIT
BuildArch: noarch
%description
{name}
%install
mkdir -p %{{buildroot}}/usr/bin %{{buildroot}}/usr/share/{name}
echo {name} > %{{buildroot}}/usr/bin/{name}
for number in $(seq {count}); do echo $number > %{{buildroot}}/usr/share/{name}/file-number-$number; done
%files
/usr/bin/{name}
/usr/share/{name}
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        # `many` has a header that takes several pages in each of the databases.
        for name, count in (("hello", 1), ("many", 200)):
            spec = top / f"{name}.spec"
            spec.write_text(SPEC.format(name=name, count=count))
            run("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {top}", spec)
        packages = sorted(top.glob("RPMS/noarch/*.rpm"))
        run("rpmdb", "--dbpath", top / "sqlite", "--initdb")
        run("rpm", "--dbpath", top / "sqlite", "--justdb", "--nodeps", "--noscripts", "-i", *packages)
        with sqlite3.connect(top / "sqlite/rpmdb.sqlite") as database:
            headers = database.execute("SELECT hnum, blob FROM Packages").fetchall()
            database.execute("PRAGMA journal_mode = DELETE")
        lines = ["VERSION=3", "format=bytevalue", "type=hash", "HEADER=END"]
        for number, header in [(0, len(headers).to_bytes(4, "little")), *headers]:
            lines += [" " + number.to_bytes(4, "little").hex(), " " + header.hex()]
        run("db5.3_load", top / "Packages", said="\n".join([*lines, "DATA=END", ""]))
        (top / "Packages.db").write_bytes(ndb(headers))
        OUT.mkdir(exist_ok=True)
        for made in ("sqlite/rpmdb.sqlite", "Packages.db", "Packages"):
            with gzip.GzipFile(OUT / f"{Path(made).name}.gz", "wb", mtime=0) as out, (top / made).open("rb") as file:
                shutil.copyfileobj(file, out)


def ndb(headers: list[tuple[int, bytes]]) -> bytes:
    """Return a database of one page of slots, behind it the blobs in blocks of 16 bytes."""
    slots, blobs, block = b"", b"", 4096 // 16
    for number, header in headers:
        count = -(-(16 + len(header) + 12) // 16)
        slots += struct.pack("<4sIII", b"Slot", number, block, count)
        blob = struct.pack("<4sIII", b"BlbS", number, 1, len(header)) + header
        tail = struct.pack("<I I4s", zlib.adler32(blob), len(header), b"BlbE")
        blobs += blob.ljust(count * 16 - 12, b"\0") + tail
        block += count
    free = struct.pack("<4sIII", b"Slot", 0, 0, 0)
    page = struct.pack("<4sIIII12x", b"RpmP", 0, 1, 1, len(headers) + 1) + slots
    return page + free * ((4096 - len(page)) // 16) + blobs


def run(*words: str | Path, said: str | None = None) -> None:
    subprocess.run([str(word) for word in words], check=True, input=said, text=True)


if __name__ == "__main__":
    main()
