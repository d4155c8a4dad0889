"""What of an image is read: traced in it, kept on this machine, and told by layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from sapwood.coverage import measure
from sapwood.errors import InvalidInputError, NotFoundError
from tests.support.cli import Sapwood
from tests.support.images import Image, Layer, gzipped, stargz
from tests.support.programs import busybox

SPARE = b"s" * 70_000
USERS = b"root:x:0:0::/root:/bin/sh\n"


@pytest.fixture(scope="module")
def base() -> Layer:
    return stargz(busybox("sh", "cat"))


@pytest.fixture
def address(base: Layer, tmp_path: Path) -> str:
    """An image of three layers: busybox, files two of which the third hides, and whose command reads one."""
    middle = gzipped({"data": None, "data/old": b"o" * 300, "data/gone": b"g" * 500, "data/spare": SPARE})
    top = gzipped(
        {"data": None, "data/old": b"new\n", "data/.wh.gone": b"", "data/empty": b"", "etc": None, "etc/passwd": USERS}
    )
    image = Image(
        base,
        middle,
        top,
        Cmd=["cat", "/data/old"],
        Env=["PATH=/bin"],
        history=[
            {"created_by": "FROM scratch"},
            {"created_by": "ENV A=b", "empty_layer": True},
            {"created_by": "RUN make \\\n  data"},
            {"created_by": "COPY new /data"},
        ],
    )
    return f"oci:{image.layout(tmp_path / 'image')}"


def test_what_the_image_runs_is_traced_and_its_coverage_known_by_layer(address: str, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    traced = run("trace", "--json", address)
    assert traced.code == 0, traced.err
    # What the program said.
    assert "new\n" in traced.err
    assert (traced.document["code"], traced.document["runs"], traced.document["out"]) == (0, 1, None)
    assert "cat" in traced.document["programs"]
    found = run.good("coverage", "--json", "--by", "layer", "--drop-list", address).document
    layers = found["layers"]
    assert [layer["madeBy"] for layer in layers] == ["FROM scratch", "RUN make \\ data", "COPY new /data"]
    assert layers[0]["bytesRead"] > 0
    assert {key: layers[1][key] for key in ("files", "bytes", "bytesRead", "bytesNeverRead", "bytesHidden")} == {
        "files": 1, "bytes": len(SPARE), "bytesRead": 0, "bytesNeverRead": len(SPARE), "bytesHidden": 800,
    }  # fmt: skip
    assert (layers[2]["bytesRead"], layers[2]["bytesHidden"]) == (4 + len(USERS), 0)
    assert sum(layer["bytes"] for layer in layers) == found["bytes"]
    assert {"data/spare", "data/empty"} <= set(found["neverRead"])
    assert not {"data/old", "bin/busybox"} & set(found["neverRead"])
    shown = run.good("coverage", "--by", "layer", "--html", "map.html", address)
    assert f"{layers[1]['digest'][:19]}  RUN make \\ data" in shown.out
    assert "data/spare: 0 of 70,000 bytes read" in (tmp_path / "map.html").read_text(encoding="utf-8")


def test_runs_are_added_and_a_command_may_be_another(address: str, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    run.good("trace", address)
    again = run("trace", "--json", address, "--", "sh", "-c", "cat /data/spare > /dev/null; exit 3")
    assert (again.code, again.document["runs"]) == (3, 2)
    assert "data/spare" not in run.good("coverage", "--drop-list", address).out
    # Of a file the runs may be others than those of this machine.
    run.good("trace", "--out", "alone", address)
    assert "data/spare" in run.good("coverage", "--drop-list", "--profile", "alone", address).out


def test_a_command_that_the_image_lacks_is_no_run(address: str, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    assert run("trace", address, "--", "nothing-of-that-name").code == 127
    refused = run("coverage", address)
    assert (refused.code, "nobody has recorded what is read of it" in refused.err) == (3, True)
    assert f"hint: sapwood trace {address} -- CMD" in refused.err


def test_layers_are_of_images_and_an_image_without_a_trace_has_no_coverage(address: str, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "tree").mkdir()
    run.good("push", "tree", "main")
    with pytest.raises(InvalidInputError, match="no image, so it has no layers") as refused:
        measure(f"{run.store}#main", by_layer=True)
    assert refused.value.kind == "bad-usage"
    with pytest.raises(NotFoundError) as missing:
        measure(address)
    assert missing.value.kind == "profile-missing"
    assert "--keep, --net and --bind are for these" in run("trace", "--net", "main", "--", "true").err
