"""Read and write IDX, the format of MNIST: big-endian words, then the values.

    2 bytes 0 | 1 byte type of value | 1 byte number of axes | 4 bytes per axis | values

Only unsigned bytes (type 0x08) in one to three axes are supported; MNIST has no others.
The format's description is by LeCun, Cortes and Burges.
"""

import io
import math
import struct
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tasks.dataset.splits import Split
from tasks.rawdata.npy import InvalidArray, check_size
from tasks.runtime.params import BadInput

FileName = Literal[
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]
FILES: tuple[FileName, ...] = get_args(FileName)

MAGIC = b"\0\0\x08"
MAX_AXES = 3
LONGEST_HEADER = 4 + 4 * MAX_AXES


def read(path: Path) -> NDArray[np.uint8]:
    """Return the values of an IDX file: uint8, memory-mapped and read-only.

    Raises BadInput if the header is invalid, or does not fit the file's size.
    """
    if not path.stat().st_size:  # an empty file can't be mapped
        return parse(b"", str(path))
    return parse(np.memmap(path, np.uint8, "r").data, str(path))


def read_splits(folder: Path) -> tuple[Split, Split]:
    """Return the training and test images of a folder with MNIST's four files."""
    train, test = (
        Split(
            read(folder / f"{part}-images-idx3-ubyte"),
            read(folder / f"{part}-labels-idx1-ubyte"),
        )
        for part in ("train", "t10k")
    )
    return train, test


def parse(content: bytes | memoryview, origin: str) -> NDArray[np.uint8]:
    """Return the values in `content`, as `read`; `origin` is its name in errors."""
    try:
        shape = read_shape(io.BytesIO(content[:LONGEST_HEADER]))
        start = 4 + 4 * len(shape)
        check_size(math.prod(shape), len(content) - start)
    except InvalidArray as fault:
        raise BadInput(f"{origin} {fault}; delete it and download it again.") from None
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def read_shape(file: IO[bytes]) -> tuple[int, ...]:
    """Read an IDX header; return the lengths of its axes, or raise InvalidArray."""
    start = file.read(4)
    if len(start) < 4 or start[:3] != MAGIC or not 1 <= start[3] <= MAX_AXES:
        wanted = "an IDX file of unsigned bytes in one to three axes"
        raise InvalidArray(f"is not {wanted}: it begins with {start!r}")
    lengths = file.read(4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise InvalidArray("ends within its header")
    return struct.unpack(f">{start[3]}I", lengths)


def to_bytes(values: NDArray[np.uint8]) -> bytes:
    """Return `values`, uint8 in one to three axes, as the content of an IDX file."""
    if values.dtype != np.uint8 or not 1 <= values.ndim <= MAX_AXES or not values.size:
        wanted = "unsigned bytes in one to three axes, none of them empty"
        raise ValueError(f"got {values.dtype} of shape {values.shape}, not {wanted}")
    words = struct.pack(f">{values.ndim}I", *values.shape)
    return MAGIC + bytes([values.ndim]) + words + values.tobytes()
