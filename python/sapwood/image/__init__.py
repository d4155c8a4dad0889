"""Images as places to read a tree from: in a registry, an OCI layout, or an archive of docker's or podman's.

Promise: every byte that is given out is proved, link by link: the manifest by its digest, a TOC by the manifest, a
chunk by its TOC. An image that was opened stays what it was, whatever its tag is moved to. Not here: images run and
made (`oci`), what layers are together (the core). Rules: docs/oci.md.
"""

from sapwood.lazy import exporting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sapwood.image.image import Image as Image
    from sapwood.image.image import index_layers as index_layers
    from sapwood.image.image import open_image as open_image
    from sapwood.image.image import read_config as read_config
    from sapwood.image.name import ImageName as ImageName

__all__ = ["Image", "ImageName", "index_layers", "open_image", "read_config"]

__getattr__, __dir__ = exporting(
    __name__,
    {
        "Image": "sapwood.image.image",
        "ImageName": "sapwood.image.name",
        "index_layers": "sapwood.image.image",
        "open_image": "sapwood.image.image",
        "read_config": "sapwood.image.image",
    },
)
