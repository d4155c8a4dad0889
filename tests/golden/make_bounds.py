"""Write `bounds.tsv`: cut points of generated blobs, by an implementation of its own.

An independent reading of FastCDC 2020 (W. Xia et al., 2020, algorithm 2), a byte at a time, with REAPI's parameters:
gear table from MD5, normalisation 2. The paper's "two bytes each time" leaves one trace: in a window of odd length
the last byte is never tested. The blob is SHA-256 of a counter as eight little-endian bytes, cut to length. Columns:
length of the blob, then the sizes of its chunks.

Run by hand when a length is added: `python tests/golden/make_bounds.py > tests/golden/bounds.tsv`.
"""

import hashlib
import itertools
import struct
import sys

MINIMUM, AVERAGE, MAXIMUM = 128 * 1024, 512 * 1024, 2 * 1024 * 1024
# One byte, the minimum, around the maximum, an odd final window, several chunks.
LENGTHS = [1, 131_072, 2_097_151, 2_097_152, 2_097_153, 5_000_001, 9_437_184, 12_345_677]
GEAR = [int.from_bytes(hashlib.md5(bytes([byte]) * 64).digest()[:8], "big") for byte in range(256)]
# The masks of the 2020 reference implementation with 21 and 17 effective bits: 19 (512 KiB) plus and minus 2.
STRICT, RELAXED = 0x0000D91767537000, 0x0000D90703537000
WORD = (1 << 64) - 1


def generated(length: int) -> bytes:
    blocks = (hashlib.sha256(struct.pack("<Q", counter)).digest() for counter in itertools.count())
    return b"".join(itertools.islice(blocks, -(-length // 32)))[:length]


def cut(window: bytes) -> int:
    """The size of the first chunk of `window`."""
    if len(window) <= MINIMUM:
        return len(window)
    end = min(len(window), MAXIMUM)
    centre = min(AVERAGE, end)
    value = 0
    for at in range(MINIMUM, end - end % 2):
        value = ((value << 1) + GEAR[window[at]]) & WORD
        if value & (STRICT if at < centre - centre % 2 else RELAXED) == 0:
            return at
    return end


def main() -> None:
    sys.stdout.write("# length of the blob, then the sizes of its chunks; made by make_bounds.py\n")
    for length in LENGTHS:
        blob, start, sizes = generated(length), 0, []
        while start < length:
            sizes.append(cut(blob[start : start + MAXIMUM]))
            start += sizes[-1]
        sys.stdout.write("\t".join(map(str, [length, *sizes])) + "\n")


if __name__ == "__main__":
    main()
