"""`sapwood pack` and `sapwood convert`: archives out of directories, stores and tars. Images: `converting`."""

from __future__ import annotations

from sapwood.cli import show
from sapwood.cli.binary import require_one_stdout
from sapwood.cli.command import Command, add_json, add_seek_index, add_toc, for_platform
from sapwood.cli.hash import add_options, add_skip_unreadable, options_of
from sapwood.cli.progress import progress

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    import argparse

    from sapwood.pack import Choices, Written
    from sapwood.profile import Profile

# By --zstd: names that promise something else than what is written.
_NAMED_OTHERWISE = {False: (".zst", ".tzst"), True: (".gz", ".tgz")}
# Of a list of files, or a profile: a million lines or so.
_MOST_LISTED = 64 << 20
_OUT = "a path, s3://…, gs://… or az://…, or - for stdout"


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--zstd", action="store_true", help="write zstd:chunked, as podman and buildah pull it lazily")
    parser.add_argument(
        "--level", type=int, metavar="N", help="0 to 12 of gzip (default 5; 1 is fast), 1 to 19 of zstd (default 3)"
    )
    parser.add_argument(
        "--chunk-size",
        type=int,
        metavar="BYTES",
        help="cut files by size (default: those of 512 KiB and more, by 128 KiB)",
    )
    parser.add_argument(
        "--min-chunk-size",
        type=int,
        default=0,
        metavar="BYTES",
        help="of gzip: let small files share a member up to this size; smaller, but the first stargz readers fail",
    )
    parser.add_argument(
        "--prioritize",
        metavar="FILE",
        help="put the files first that FILE lists, one path a line (- is stdin), or a profile of `trace --out` names;"
        " of an address, @read is what the profile names that its store, or of an image anybody, has of it",
    )
    parser.add_argument(
        "--compatible-times", action="store_true", help="of gzip: whole seconds in the TOC, as other writers have them"
    )
    parser.add_argument(
        "--reproducible", action="store_true", help="the default, and always so: the same tree gives the same bytes"
    )


def _choices_of(arguments: argparse.Namespace, tree: str | None = None) -> Choices:
    from sapwood.pack import Choices

    return Choices(
        zstd=arguments.zstd,
        level=arguments.level,
        chunk_size=arguments.chunk_size,
        min_chunk_size=arguments.min_chunk_size,
        compatible_times=arguments.compatible_times,
        prioritize=_first_of(arguments.prioritize, tree) if arguments.prioritize else (),
    )


def _first_of(path: str, tree: str | None) -> list[bytes]:
    """Return the names that a list or a profile has, or, for `@read`, what was read of `tree`."""
    from sapwood.profile import MAGIC, Profile

    if path == "@read":
        return _read_of(tree)
    data = _content_of(path)
    if data.startswith(MAGIC):
        return Profile.decode(data, path).paths()
    return [line for line in data.splitlines() if line]


def _read_of(tree: str | None) -> list[bytes]:
    """Return the files that the profile of a tree names, as its store has it."""
    from sapwood.errors import InvalidInputError
    from sapwood.pack import address_of
    from sapwood.profile import find_profile
    from sapwood.store import Address
    from sapwood.store.naming import may_name_archive, names_image

    address = None if tree is None else address_of(tree)
    if address is not None and names_image(address):
        return _read_of_image(address)
    if address is None or may_name_archive(address):
        raise InvalidInputError(
            "@read is the profile that a store has of a tree, and this comes from no store",
            kind="bad-usage",
            hint="name a file: --prioritize FILE",
        )
    parsed = Address.parse(address)
    store, _, snapshot = parsed.open()
    return _paths_of(find_profile(store, parsed.ref, snapshot.tree), str(parsed))


def _read_of_image(address: str) -> list[bytes]:
    from sapwood.image import ImageName, open_image
    from sapwood.image.profiles import known_profile

    image, tree = open_image(ImageName.parse(address), brings_pages=True)
    return _paths_of(known_profile(image, tree.tree), address)


def _paths_of(profile: Profile | None, address: str) -> list[bytes]:
    from sapwood.errors import NotFoundError

    if profile is None:
        raise NotFoundError(
            f"{address}: nobody has recorded what is read of it",
            kind="profile-missing",
            hint=f"sapwood trace {address} -- CMD",
        )
    return profile.paths()


def _content_of(path: str) -> bytes:
    from sapwood.errors import InvalidInputError, NotFoundError, UnavailableError

    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            data = file.read(_MOST_LISTED + 1)
    except FileNotFoundError:
        raise NotFoundError(f"{path} is missing", kind="path-missing") from None
    except IsADirectoryError:
        raise InvalidInputError(f"{path} is a directory, no list", kind="not-a-file") from None
    except OSError as error:
        raise UnavailableError(f"cannot read {path}: {error.strerror}", kind="io") from error
    if len(data) > _MOST_LISTED:
        raise InvalidInputError(f"{path} is no list: it has more than {_MOST_LISTED >> 20} MiB", kind="bad-usage")
    return data


def _configure_pack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tree", metavar="TREE", help="a directory, or an address")
    parser.add_argument("out", metavar="OUT", help=_OUT)
    _add_choices(parser)
    add_seek_index(parser)
    add_toc(parser)
    add_skip_unreadable(parser)
    add_options(parser)
    add_json(parser)


def _pack(arguments: argparse.Namespace) -> int:
    from sapwood.pack import pack

    choices = _choices_of(arguments, arguments.tree)
    require_one_stdout(arguments, arguments.out, "archive")
    with progress("packing") as callback:
        written = pack(
            arguments.tree,
            arguments.out,
            choices,
            options=options_of(arguments),
            seek_index=arguments.seek_index,
            toc=arguments.toc,
            progress=callback,
        )
    return _tell(arguments, written)


def _configure_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "tar",
        metavar="TAR",
        help="a tar, plain or by gzip, zstd, xz or bzip2; - for stdin; or an image: oci://…, oci:DIR, STORE#REF",
    )
    parser.add_argument("out", metavar="OUT", help=f"{_OUT}; of an image oci://HOST/REPOSITORY:TAG or oci:DIR:TAG")
    _add_choices(parser)
    parser.add_argument("--platform", metavar="OS/ARCH", help="of an index of images that one alone (default: all)")
    add_json(parser)


def _convert(arguments: argparse.Namespace) -> int:
    from sapwood.cli.converting import are_images, convert_image
    from sapwood.pack import convert

    if are_images(arguments.tar, arguments.out):
        return convert_image(arguments, _choices_of(arguments, for_platform(arguments.tar, arguments)))
    choices = _choices_of(arguments)
    for_platform(arguments.tar, arguments)
    require_one_stdout(arguments, arguments.out, "archive")
    with progress("converting") as callback:
        written = convert(arguments.tar, arguments.out, choices, progress=callback)
    return _tell(arguments, written)


def _tell(arguments: argparse.Namespace, written: Written) -> int:
    if arguments.json:
        show.document(
            {
                "toc": written.toc,
                "tar": written.tar,
                "tarSize": written.tar_size,
                "size": written.size,
                "entries": written.entries,
                "chunks": written.chunks,
                "annotations": written.annotations,
                "leftOut": [show.text(name) for name in written.left_out],
                "absent": [show.text(name) for name in written.absent],
                "unreadable": [show.text(path) for path in written.unreadable],
                "seconds": round(written.seconds, 6),
            }
        )
        return 0
    show.unreadable(written.unreadable)
    if arguments.out.endswith(_NAMED_OTHERWISE[arguments.zstd]):
        what, other = ("zstd", "leave --zstd out for gzip") if arguments.zstd else ("gzip", "--zstd writes zstd")
        show.talk(f"{arguments.out} is {what}, whatever its name says: {other}")
    for name in written.left_out:
        show.talk(f"left out, archives have it for themselves: {show.quoted(name)}")
    for name in written.absent:
        show.talk(f"not there to be first: {show.quoted(name)}")
    show.talk(f"tar:     {show.counted(written.entries, 'entry')}, {show.exact(written.tar_size)}, {written.tar}")
    show.talk(f"archive: {show.exact(written.size)}, in {show.seconds(written.seconds)}")
    if arguments.out != "-":
        show.line(written.toc)
    return 0


COMMANDS = {
    "pack": Command(
        _configure_pack,
        _pack,
        """
        sapwood pack venv venv.tar.gz                       directory -> archive; stdout is the digest of its TOC
        sapwood pack --zstd image s3://bucket/image.tar.zst straight into a bucket
        sapwood pack tree - | ssh host tar xzf -            anybody unpacks it
        sapwood pack s3://bucket/trees#venv venv.tar.gz     from a store, without unpacking
        sapwood pack --prioritize @read main main.tar.gz    what `trace` saw being read comes first
        """,
    ),
    "convert": Command(
        _configure_convert,
        _convert,
        """
        sapwood convert layer.tar layer.tar.gz              tar -> archive
        curl https://… | sapwood convert - new.tar.gz       of any compression
        sapwood convert --prioritize list in.tar out.tar.gz what list names comes first
        sapwood convert estargz.tar.gz both.tar.gz          members stay as they are; with --level they are made anew
        sapwood convert oci://docker.io/python:3.12 oci://host/python:3.12  each layer of an image, all platforms
        sapwood convert --zstd --platform linux/arm64 oci:DIR oci://host/x  one, as podman and buildah pull it lazily
        sapwood convert s3://bucket/i#py oci://host/python:3.12  an image that was pushed, as it was: signatures hold
        """,
    ),
}
