"""Layers, whatever they are: what is seen is what unpacking them one after the other leaves."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sapwood.open import open_tree
from tests.support.images import Image, chunked, gzipped, plain, stargz

NAMES = st.sampled_from(["a", "b", ".x", "z"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
WHAT = st.sampled_from(["file", "dir", "link", "hard", "whiteout", "opaque"])
LAYERS = st.lists(st.dictionaries(PATHS, WHAT, max_size=8), min_size=1, max_size=4)
FORMS = st.sampled_from([plain, gzipped, stargz, chunked])

Tree = dict[str, object]


def unpacked(layers: list[Tree]) -> Tree:
    """Return what is there when layers were unpacked as the specification says: whiteouts first, then the rest.

    What hard links lead to was there before.
    """
    there: Tree = {}

    def remove(path: str) -> None:
        for other in [one for one in there if one == path or one.startswith(f"{path}/")]:
            del there[other]

    for layer in layers:
        before = dict(there)
        for path in layer:
            folder, _, name = path.rpartition("/")
            if name == ".wh..wh..opq":
                for other in [one for one in there if one.startswith(f"{folder}/" if folder else "")]:
                    del there[other]
            elif name.startswith(".wh."):
                remove(f"{folder}/{name[4:]}" if folder else name[4:])
        for path, what in layer.items():
            if path.rpartition("/")[2].startswith(".wh."):
                continue
            if what is not None or there.get(path, "") is not None:
                remove(path)
            there[path] = before[what[2:]] if isinstance(what, str) and what.startswith("= ") else what
    return there


def entries(drawn: dict[str, str], number: int, below: Tree) -> Tree:
    """Return a layer: nothing lies below what is no directory, and hard links lead to what only lower ones have."""
    out: Tree = {}
    for path, what in sorted(drawn.items()):
        parts = path.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts))]
        if any(out.get(one, "absent") not in (None, "absent") for one in above) or path in out:
            continue
        for one in above:
            out.setdefault(one, None)
        if what == "whiteout":
            out["/".join([*parts[:-1], f".wh.{parts[-1]}"])] = b""
        elif what == "opaque":
            out[path] = None
            out[f"{path}/.wh..wh..opq"] = b""
        else:
            out[path] = {"file": f"{number} {path}".encode(), "dir": None, "link": f"-> {number}", "hard": "="}[what]
    files = sorted(path for path, what in below.items() if isinstance(what, bytes) and path not in out)
    for path in [path for path, what in out.items() if what == "="]:
        out[path] = f"= {files[len(path) % len(files)]}" if files else b"nothing to link to"
    return out


def seen(place: Path) -> Tree:
    tree, out = open_tree(f"oci:{place}"), dict[str, object]()
    for path, item in tree.list():
        kinds = {"dir": None, "symlink": f"-> {(item.target or b'').decode()}"}
        out[path.decode()] = kinds[item.kind] if item.kind in kinds else b"".join(tree.read_blob(path))
    return out


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(LAYERS, st.lists(FORMS, min_size=4, max_size=4))
def test_what_is_seen_is_what_unpacking_leaves(
    cache_dir: Path, drawn: list[dict[str, str]], forms: list[object]
) -> None:
    layers: list[Tree] = []
    for number, one in enumerate(drawn):
        layers.append(entries(one, number, unpacked(layers)))
    made = []
    for form, layer in zip(forms, layers, strict=False):
        # Those with a TOC are made of whole tars.
        is_linked = any(isinstance(what, str) and what.startswith("= ") for what in layer.values())
        made.append((gzipped if is_linked and form in (stargz, chunked) else form)(layer))  # type: ignore[operator]
    place = Path(tempfile.mkdtemp(dir=cache_dir))
    try:
        assert seen(Image(*made).layout(place)) == unpacked(layers)
    finally:
        shutil.rmtree(place)
