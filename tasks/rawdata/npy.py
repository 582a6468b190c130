"""Read `.npy` headers and open `.npz` archives without trusting their content.

NumPy's own reader evaluates a header as Python and allocates the size it declares. Here
a header must match a pattern, sizes are compared before anything is allocated, and
pickled objects are refused.
"""

import errno
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000  # bytes
# `zipfile` reads an archive's whole directory; one of arrays has some hundred bytes.
MAX_DIRECTORY = 1_000_000
END_OF_DIRECTORY = b"PK\5\6"
END_BYTES = 22 + 65_535  # of that record, with the longest comment
# Booleans, integers, floats and text, in one to five axes. Python 2 wrote 3 as 3L.
HEADER = re.compile(
    rb"\{'descr': '([|<>=](?:b1|[iu][1248]|f[248]|U[1-9]\d{0,3}))', "
    rb"'fortran_order': (True|False), "
    rb"'shape': \((\d{1,12}L?(?:, ?\d{1,12}L?){0,4}),?\), ?\} *\n"
)
OBJECT = re.compile(rb"\{'descr': '\|?O")


class InvalidArray(Exception):
    """A file is not a readable array; the message says why, as `is damaged`."""


def read_header(
    file: IO[bytes], size: int
) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Read the header of a `.npy` file of `size` bytes, or raise InvalidArray.

    Returns the dtype, whether values are in Fortran order, and the shape.
    """
    start = file.read(8)
    if start[:6] != MAGIC or start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise InvalidArray("is not a .npy file")
    length = file.read(2 if start[6] == 1 else 4)
    text = file.read(min(int.from_bytes(length, "little"), MAX_HEADER))
    if OBJECT.match(text):
        raise InvalidArray(
            "holds Python objects, which are never loaded; save it as numbers, or as "
            "text of fixed width (`array.astype(str)`)"
        )
    if not (match := HEADER.fullmatch(text)):
        raise InvalidArray("is neither numbers nor text, or has more than 5 axes")
    dtype = np.dtype(match[1].decode())
    shape = tuple(int(length.rstrip(b"L")) for length in match[3].split(b","))
    header_size = len(start) + len(length) + len(text)
    check_size(math.prod(shape) * dtype.itemsize, size - header_size)
    return dtype, match[2] == b"True", shape


def check_size(declared: int, found: int) -> None:
    """Raise InvalidArray unless as many bytes were found as declared, at least one."""
    if declared != found or not declared:
        raise InvalidArray(f"declares {declared:,} bytes of values but has {found:,}")


def open_npz(file: IO[bytes]) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """Open a `.npz` file; return it with its arrays by name, without `.npy`.

    Raises:
        InvalidArray: its directory is missing or too large, or it is compressed by a
            method that NumPy never uses.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - END_BYTES))
    end = file.read(END_BYTES)
    start = end.rfind(END_OF_DIRECTORY)
    length = int.from_bytes(end[start + 12 : start + 16], "little")
    if start < 0 or length > MAX_DIRECTORY:
        raise InvalidArray("is not an archive of arrays")
    archive = zipfile.ZipFile(file)
    arrays = {
        member.filename.removesuffix(".npy"): member
        for member in archive.infolist()
        if member.filename.endswith(".npy")
    }
    methods = {member.compress_type for member in arrays.values()}
    if not methods <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise InvalidArray("is compressed by a method that NumPy never uses")
    return archive, arrays


@contextmanager
def refusing_damage() -> Iterator[None]:
    """Raise InvalidArray for any error of gzip, zip or zlib on a damaged file."""
    try:
        yield
    except (
        *(OSError, EOFError, zipfile.BadZipFile, zlib.error, struct.error, ValueError),
        *(RuntimeError, NotImplementedError, LookupError, OverflowError),
    ) as error:
        # gzip's BadGzipFile has no number; a forged offset in a zip is EINVAL.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        name = type(error).__name__
        raise InvalidArray(f"is damaged or incomplete ({name})") from None
