"""Corrections that were stored once make the layer again for ever: they are bound to one version of a crate."""

from __future__ import annotations

import gzip
from pathlib import Path

from sapwood.archive.regzip import together

HERE = Path(__file__).parent / "corrections"


def test_corrections_of_a_layer_of_gos_gzip_make_it_again(tmp_path: Path) -> None:
    layer = (HERE / "layer.tar.gz").read_bytes()
    (tmp_path / "tar").write_bytes(gzip.decompress(layer))
    corrections = HERE / "layer.corrections"
    with (
        (tmp_path / "tar").open("rb", buffering=0) as tar,
        corrections.open("rb", buffering=0) as said,
        (tmp_path / "made").open("wb", buffering=0) as made,
    ):
        together(tar.fileno(), said.fileno(), "layer", made.fileno())
    assert (tmp_path / "made").read_bytes() == layer
