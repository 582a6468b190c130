"""The IDX format, in which MNIST is published: a few big-endian words, then the values.

    2 bytes 0 | 1 byte type of value | 1 byte number of axes | 4 bytes per axis | values

Only unsigned bytes (type 0x08) in one to three axes are read, which is all that MNIST
has. Layout as in the format's description by LeCun, Cortes and Burges.
"""

import math
import struct
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tasks.runtime.params import BadInput

FileName = Literal[
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]
FILES: tuple[FileName, ...] = get_args(FileName)

UNSIGNED_BYTE = 0x08
MAX_AXES = 3
LONGEST_HEADER = 4 + 4 * MAX_AXES


def read(path: Path) -> NDArray[np.uint8]:
    """Return the values of the file at `path`, mapped from the disk and read-only.

    Returns:
        uint8, (N, 28, 28) for MNIST's images, (N,) for its labels.

    Raises:
        BadInput: the header is not of an IDX file of unsigned bytes, or announces
            another number of values than the file has.
        OSError: the file is missing or can't be read.
    """
    with path.open("rb") as file:
        header = file.read(LONGEST_HEADER)
    shape = _shape(header, path.stat().st_size, str(path))
    start = 4 + 4 * len(shape)
    values = np.memmap(path, dtype=np.uint8, mode="r", offset=start, shape=shape)
    return values.view(np.ndarray)


def parse(content: bytes, origin: str) -> NDArray[np.uint8]:
    """Return the values of an IDX file's `content`; `origin` is its name in errors.

    Returns:
        uint8, one to three axes, read-only: a view of `content`.

    Raises:
        BadInput: as for `read`.
    """
    shape = _shape(content[:LONGEST_HEADER], len(content), origin)
    start = 4 + 4 * len(shape)
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def to_bytes(values: NDArray[np.uint8]) -> bytes:
    """Return `values`, uint8 in one to three axes, as the content of an IDX file.

    Raises:
        ValueError: `values` can't be written so that `read` reads them.
    """
    if (
        values.dtype != np.uint8
        or not 1 <= values.ndim <= MAX_AXES
        or values.size == 0
        or max(values.shape) >= 2**32
    ):
        raise ValueError(
            f"an IDX file of MNIST holds unsigned bytes in one to three axes, none of "
            f"them empty; got {values.dtype} of shape {values.shape}"
        )
    words = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes([0, 0, UNSIGNED_BYTE, values.ndim]) + words + values.tobytes()


def _shape(header: bytes, size: int, origin: str) -> tuple[int, ...]:
    """Return the lengths of the axes, once they are known to fit `size` bytes.

    Nothing is allocated by what a header says: sizes near 2^32 are only multiplied, as
    Python integers, and compared.
    """
    if len(header) < 4 or header[:2] != b"\0\0":
        raise _bad(origin, f"begins with {header[:4]!r}, not with two zero bytes")
    type_code, axes = header[2], header[3]
    if type_code != UNSIGNED_BYTE:
        raise _bad(
            origin, f"has values of type 0x{type_code:02x}, not unsigned bytes (0x08)"
        )
    if not 1 <= axes <= MAX_AXES:
        raise _bad(origin, f"announces {axes} axes, not one to three")
    start = 4 + 4 * axes
    if len(header) < start:
        raise _bad(origin, f"breaks off after {size} bytes, within its header")
    shape = struct.unpack_from(f">{axes}I", header, 4)
    if 0 in shape:
        raise _bad(origin, f"announces an empty array, of shape {shape}")
    announced = start + math.prod(shape)
    if announced != size:
        fault = "breaks off early" if size < announced else "has bytes left over"
        raise _bad(
            origin,
            f"{fault}: shape {shape} makes {announced:,} bytes, the file has {size:,}",
        )
    return shape


def _bad(origin: str, fault: str) -> BadInput:
    return BadInput(f"{origin} {fault}; delete it and download it again.")
