"""`sapwood convert oci://A oci://B`: images made lazy, from one place to another."""

from __future__ import annotations

from sapwood.cli import show
from sapwood.cli.command import for_platform
from sapwood.cli.progress import progress

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    import argparse

    from sapwood.image.convert import Converted, ConvertedLayer
    from sapwood.pack import Choices
    from sapwood.store import Address

__all__ = ["are_images", "convert_image"]


def are_images(source: str, out: str) -> bool:
    """Say whether an image is to be converted into an image.

    Raises:
        InvalidInputError: `bad-usage`: only one of both is one.
    """
    from sapwood.errors import InvalidInputError
    from sapwood.store.naming import names_image

    is_one, is_other = names_image(source), names_image(out)
    if is_one and not is_other:
        raise InvalidInputError(
            f"{source} is an image, and {out} no place for one",
            kind="bad-usage",
            hint=f"its tree as an archive: sapwood pack {source} {out}",
        )
    if is_other and not is_one and stored_address(source) is None:
        raise InvalidInputError(
            f"{source} is no image, and {out} a place for one", kind="bad-usage", hint=f"sapwood convert oci:DIR {out}"
        )
    return is_other


def stored_address(source: str) -> Address | None:
    """Return the address in a store that is meant, if one is."""
    from sapwood.pack import address_of
    from sapwood.store import Address
    from sapwood.store.naming import may_name_archive

    address = address_of(source)
    return None if address is None or may_name_archive(address) else Address.parse(address)


def convert_image(arguments: argparse.Namespace, choices: Choices) -> int:
    """Convert an image, and tell what became of it.

    Raises:
        SapwoodError: as `sapwood.image.convert`.
    """
    from sapwood.image import ImageName
    from sapwood.image.convert import convert_image
    from sapwood.store.naming import names_image

    if not names_image(arguments.tar):
        return _give_image(arguments, choices)
    source = ImageName.parse(for_platform(arguments.tar, arguments))
    with progress("converting") as callback:
        done = convert_image(source, ImageName.parse(arguments.out), choices, progress=callback)
    if arguments.json:
        show.document(_document(done))
        return 0
    for name in done.absent:
        show.talk(f"not there to be first: {show.quoted(name)}")
    if done.left_out:
        show.talk(f"left out of the index: {show.counted(done.left_out, 'attestation')} of what was before")
    if done.without_profiles:
        show.talk(f"without its profile: {done.without_profiles}")
    for image in done.images:
        ways = [_way(layer) for layer in image.layers]
        told = ", ".join(f"{ways.count(way)} {way}" for way in dict.fromkeys(ways))
        show.talk(f"{image.platform or 'image'}: {show.counted(len(image.layers), 'layer')}: {told or 'none'}")
    show.talk(f"sent {show.exact(done.bytes_sent)} of layers, in {show.seconds(done.seconds)}")
    show.line(str(done.name))
    return 0


def _give_image(arguments: argparse.Namespace, choices: Choices) -> int:
    from sapwood.errors import InvalidInputError
    from sapwood.image import ImageName
    from sapwood.oci.giving import give_image
    from sapwood.oci.stored import StoredImage
    from sapwood.pack import Choices

    address = stored_address(arguments.tar)
    assert address is not None  # else there was no image
    is_plain = all(getattr(choices, name) == getattr(Choices(), name) for name in Choices.__slots__)
    if not is_plain or arguments.platform is not None:
        raise InvalidInputError(
            f"{address} is given back as it was pushed, and these options would change it",
            kind="bad-usage",
            hint=f"sapwood convert {address} oci:DIR, and convert that",
        )
    store, _, snapshot = address.open()
    with progress("writing") as callback:
        given = give_image(StoredImage(store, snapshot), ImageName.parse(arguments.out), progress=callback)
    if arguments.json:
        document = {
            "address": str(given.name),
            "digest": given.digest,
            "indexLeft": given.index_left,
            "layers": given.layers,
            "layersSent": given.layers_sent,
            "bytesSent": given.bytes_sent,
            **show.requests(given.requests),
            "seconds": round(given.seconds, 6),
        }
        show.document(document)
        return 0
    if given.index_left:
        show.talk(
            f"without its index {given.index_left[:19]}: that names others, too, of which the store has none;"
            " what is signed by the index's digest is not this"
        )
    show.talk(
        f"image: {show.counted(given.layers, 'layer')} as they were, {given.layers_sent} sent,"
        f" {show.exact(given.bytes_sent)}, in {show.seconds(given.seconds)}"
    )
    show.line(str(given.name))
    return 0


def _way(layer: ConvertedLayer) -> str:
    made = "as it was" if layer.replaced is None else "converted"
    return f"{made} and {layer.came}"


def _document(done: Converted) -> dict[str, object]:
    return {
        "address": str(done.name),
        "digest": done.name.digest,
        "images": [
            {
                "platform": image.platform,
                "source": image.source,
                "digest": image.digest,
                "layers": [
                    {
                        "source": layer.source,
                        "sourceSize": layer.source_size,
                        "digest": layer.blob.digest,
                        "size": layer.blob.size,
                        "converted": layer.replaced is not None,
                        "came": layer.came,
                        "annotations": layer.blob.annotations,
                    }
                    for layer in image.layers
                ],
            }
            for image in done.images
        ],
        "bytesRead": done.bytes_read,
        "bytesSent": done.bytes_sent,
        "absent": [show.text(name) for name in done.absent],
        "leftOut": done.left_out,
        **show.requests(done.requests),
        "seconds": round(done.seconds, 6),
    }
