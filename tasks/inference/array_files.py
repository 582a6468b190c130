"""Arrays of images in files: IDX (gzipped or not), .npy and .npz, read in order.

Each is a shape and a stream of bytes behind it, so that any number of images takes the
memory of a few. They are read into one place rather than mapped, which is faster by a
tenth, and does not end the process if somebody makes the file shorter meanwhile. A
header is held to a pattern before anything is allocated by it; no pickle is loaded.
"""

import errno
import gzip
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

from tasks.dataset.splits import Pixels
from tasks.imaging.segmentation import Unusable
from tasks.rawdata import idx

# The first bytes of each kind.
ZIP, GZIP, NPY, IDX = b"PK\x03\x04", b"\x1f\x8b", b"\x93NUMPY", b"\0\0\x08"
# Before an array of bytes; how long it is depends on the NumPy that wrote it.
HEADER = re.compile(
    rb"\{'descr': '\|u1', 'fortran_order': False, "
    rb"'shape': \(([1-9]\d{0,11}L?(?:, [1-9]\d{0,11}L?){2}),?\), ?\} *\n"
)
LONGEST_HEADER = 256
MAX_PIXELS = 64_000_000  # of one image
# What is packed may be a thousand times as large as its file.
MAX_UNPACKED = 16 * 2**30
# A directory of an archive is read whole; one of arrays is short.
MAX_DIRECTORY = 1_000_000
PREFERRED = ("images.npy", "x_test.npy")
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
LOCAL_HEADER = 30


class ImageArray(NamedTuple):
    """Images that follow one another: how many of how many rows and columns."""

    shape: tuple[int, int, int]
    stream: IO[bytes]


def holds_array(path: Path) -> bool:
    """Return whether the file at `path` begins like one that holds an array.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        return file.read(6).startswith((ZIP, GZIP, NPY, IDX))


@contextmanager
def opened(path: Path) -> Iterator[ImageArray]:
    """Open the images of a file; the stream stands at the first.

    Raises:
        Unusable: it holds no images as bytes, or announces what can't be.
    """
    with path.open("rb", buffering=0) as file:
        with _refusing():
            images = _begun(file, path.stat().st_size)
        yield images


def fill(stream: IO[bytes], buffer: Pixels) -> int:
    """Read into `buffer`, (N, rows, columns); return how many images came whole.

    Raises:
        Unusable: what is packed is damaged.
    """
    view = memoryview(buffer.data).cast("B")
    have = 0
    with _refusing():
        while have < len(view):
            got = stream.readinto(view[have:])  # type: ignore[attr-defined]  # of all
            if not got:
                break
            have += got
    return int(have // math.prod(buffer.shape[1:]))


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error):
        raise Unusable("it is damaged or breaks off early") from None
    except (ValueError, struct.error, RuntimeError, NotImplementedError):
        raise Unusable("it is no archive of arrays that can be read") from None
    except OSError as error:
        # zipfile goes to a place before the beginning, if it is told to.
        if error.errno != errno.EINVAL:
            raise
        raise Unusable("it is no archive of arrays that can be read") from None


def _begun(file: IO[bytes], size: int) -> ImageArray:
    """Return the images of an open file of `size` bytes, whatever its kind."""
    begins = file.read(4)
    file.seek(0)
    if begins == ZIP:
        return _of_zip(file)
    if begins.startswith(GZIP):
        return _of_idx(cast("IO[bytes]", gzip.GzipFile(fileobj=file)), None)
    if begins == NPY[:4]:
        return _of_npy(file, size)
    return _of_idx(file, size)


def _of_idx(file: IO[bytes], size: int | None) -> ImageArray:
    """Return the images of an IDX file; `size` in bytes, if it is known."""
    header = file.read(4)
    if header[:3] != IDX or len(header) < 4:
        raise Unusable("it is no IDX file of bytes")
    if header[3] != 3:
        raise Unusable(f"it holds no images: {header[3]} axes, where images have 3")
    lengths = file.read(12)
    if len(lengths) < 12:
        raise Unusable("it breaks off within its header")
    shape = struct.unpack(">3I", lengths)
    follow = None if size is None else size - idx.LONGEST_HEADER
    return _checked(ImageArray(shape, file), follow)


def _of_npy(file: IO[bytes], size: int) -> ImageArray:
    """Return the images of a .npy file, of `size` bytes."""
    head = file.read(8)
    wide = head[6:7] == b"\x02"
    length = file.read(4 if wide else 2)
    if head[:6] != NPY or head[6:] not in (b"\1\0", b"\2\0") or len(length) % 2:
        raise Unusable("it is no .npy file of this time")
    length_of = int.from_bytes(length, "little")
    header = HEADER.fullmatch(file.read(min(length_of, LONGEST_HEADER)))
    if header is None:
        raise Unusable("it holds no images as bytes, (N, rows, columns) of uint8")
    count, rows, columns = (int(n.rstrip(b"L")) for n in header[1].split(b", "))
    start = len(head) + len(length) + length_of
    return _checked(ImageArray((count, rows, columns), file), size - start)


def _of_zip(file: IO[bytes]) -> ImageArray:
    """Return the images of the first array of a .npz file that holds some."""
    _hold_directory(file)
    archive = zipfile.ZipFile(file)
    members = {one.filename: one for one in archive.infolist()}
    others = (name for name in members if name not in PREFERRED)
    fault = Unusable("it is an archive without arrays")
    for name in (*(n for n in PREFERRED if n in members), *others):
        member = members[name]
        if not name.endswith(".npy") or member.compress_type not in PACKED:
            continue
        try:
            return _of_npy(_stream(file, archive, member), member.file_size)
        except Unusable as reason:
            fault = reason
    raise fault


def _hold_directory(file: IO[bytes]) -> None:
    """Refuse an archive with a directory that is longer than any of arrays is.

    Its length stands in the last 22 bytes, before a comment.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - 65_557))
    end = file.read(65_557)
    at = end.rfind(b"PK\5\6")
    length = end[at + 12 : at + 16]
    if at < 0 or int.from_bytes(length, "little") > MAX_DIRECTORY:
        raise Unusable("it is no archive of arrays that can be read")


def _stream(
    file: IO[bytes], archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> IO[bytes]:
    """Return the content of a member: where it is not packed, the file itself."""
    if member.compress_type == zipfile.ZIP_DEFLATED:
        return archive.open(member)
    archive.open(member).close()  # that its header is one, and of this name
    file.seek(member.header_offset)
    header = file.read(LOCAL_HEADER)
    name, extra = struct.unpack("<2H", header[26:30])
    file.seek(member.header_offset + LOCAL_HEADER + name + extra)
    return file


def _checked(images: ImageArray, size: int | None) -> ImageArray:
    """Return `images` if the `size` of what follows is what their shape makes."""
    announced = math.prod(images.shape)
    if 0 in images.shape:
        raise Unusable("it announces no images")
    if math.prod(images.shape[1:]) > MAX_PIXELS:
        raise Unusable(f"its images are too large: {images.shape[1:]} pixels")
    if size is None and announced > MAX_UNPACKED:
        raise Unusable("it is too large; unpack it")
    if size is not None and size != announced:
        raise Unusable(
            f"its shape {images.shape} makes {announced:,} bytes, and {size:,} follow"
        )
    return images
