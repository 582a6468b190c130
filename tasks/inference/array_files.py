"""Read images in order from arrays in files: IDX (gzipped or not), .npy and .npz.

Each file is a shape followed by a stream of bytes, so any number of images needs the
memory of a few. Files are not memory-mapped: reading is 10 % faster, and the process
survives if a file is truncated meanwhile. A header is checked before anything is
allocated, and no pickle is loaded.
"""

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np

from tasks.dataset.splits import Pixels
from tasks.imaging.preprocess import MAX_PIXELS
from tasks.imaging.segmentation import UnusableImage
from tasks.rawdata import idx, npy
from tasks.rawdata.npy import InvalidArray

ZIP, GZIP = b"PK\x03\x04", b"\x1f\x8b"
# A compressed file may unpack to a thousand times its size.
MAX_UNPACKED = 16 * 2**30
PREFERRED = ("images", "x_test")


class ImageArray(NamedTuple):
    """Shape of an array of images, (N, rows, columns), and the stream of its bytes."""

    shape: tuple[int, int, int]
    stream: IO[bytes]


def holds_array(path: Path) -> bool:
    """Return whether the file at `path` begins like one that holds an array."""
    with path.open("rb") as file:
        return file.read(6).startswith((ZIP, GZIP, npy.MAGIC, idx.MAGIC))


@contextmanager
def opened(path: Path) -> Iterator[ImageArray]:
    """Open the images of a file; raise UnusableImage if it has none of uint8."""
    with path.open("rb", buffering=0) as file:
        with _refusing():
            images = _images(file, path.stat().st_size)
        yield images


def fill(stream: IO[bytes], buffer: Pixels) -> int:
    """Read into `buffer`, (N, rows, columns); return the number of whole images."""
    view = memoryview(buffer.data).cast("B")
    size = 0
    with _refusing():
        while count := stream.readinto(view[size:]):  # type: ignore[attr-defined]
            size += count
    return int(size // math.prod(buffer.shape[1:]))


@contextmanager
def _refusing() -> Iterator[None]:
    """Raise UnusableImage for an invalid array or a damaged archive."""
    try:
        with npy.refusing_damage():
            yield
    except InvalidArray as fault:
        raise UnusableImage(f"it {fault}") from None


def _images(file: IO[bytes], size: int) -> ImageArray:
    start = file.read(6)
    file.seek(0)
    if start.startswith(ZIP):
        return _from_npz(file)
    if start == npy.MAGIC:
        return _from_npy(file, size)
    if start.startswith(GZIP):
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=file))
        shape = idx.read_shape(file)
        if math.prod(shape) > MAX_UNPACKED:
            raise InvalidArray("is too large; unpack it")
    else:
        shape = idx.read_shape(file)
        npy.check_size(math.prod(shape), size - 4 - 4 * len(shape))
    return _checked(shape, file)


def _from_npz(file: IO[bytes]) -> ImageArray:
    """Return the first array that holds images; those in `PREFERRED` come first."""
    archive, arrays = npy.open_npz(file)
    fault = InvalidArray("is an archive without arrays")
    for name in sorted(arrays, key=lambda name: (*PREFERRED, name).index(name)):
        try:
            return _from_npy(archive.open(arrays[name]), arrays[name].file_size)
        except InvalidArray as reason:
            fault = reason
    raise fault


def _from_npy(file: IO[bytes], size: int) -> ImageArray:
    dtype, is_fortran, shape = npy.read_header(file, size)
    if dtype != np.uint8 or is_fortran:
        raise InvalidArray("holds no images of uint8 in C order")
    return _checked(shape, file)


def _checked(shape: tuple[int, ...], stream: IO[bytes]) -> ImageArray:
    if len(shape) != 3 or 0 in shape:
        raise InvalidArray(f"holds no images, (N, rows, columns), but shape {shape}")
    if shape[1] * shape[2] > MAX_PIXELS:
        raise InvalidArray(f"has images that are too large: {shape[1:]} pixels")
    return ImageArray(shape, stream)
