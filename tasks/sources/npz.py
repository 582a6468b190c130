"""Read the arrays of an `.npz` file, which is a zip archive of `.npy` files.

NumPy's own reader evaluates a header as Python and allocates what it announces. Here a
header is held to a pattern and a size to a bound, and no pickle is ever loaded.
"""

import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.runtime.params import BadInput

# Of an array, unpacked. Among MNIST's kin, EMNIST is the largest: 640 MB as bytes.
MAX_BYTES = 2**31
MAX_MEMBERS = 1000
MAX_HEADER = 10_000
HEADER = re.compile(
    rb"\{'descr': '([|<>=](?:b1|[iu][1248]|f[248]|U[1-9]\d{0,3}))', "
    rb"'fortran_order': (True|False), "
    rb"'shape': \((\d{1,12}(?:, ?\d{1,12}){0,4}),?\), ?\} *\n"
)
OBJECT = re.compile(rb"\{'descr': '\|?O")
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Array = npt.NDArray[Any]
Pair = tuple[str, str]

# Images and labels, as Keras, MedMNIST, scikit-learn and many others call them.
USUAL: tuple[Mapping[str, Pair], ...] = (
    {
        "train": ("x_train", "y_train"),
        "valid": ("x_val", "y_val"),
        "test": ("x_test", "y_test"),
    },
    {
        "train": ("train_images", "train_labels"),
        "valid": ("val_images", "val_labels"),
        "test": ("test_images", "test_labels"),
    },
    {"train": ("images", "labels")},
    {"train": ("x", "y")},
    {"train": ("data", "target")},
)


def infer_arrays(path: Path) -> dict[str, Pair]:
    """Return which arrays of the file are images and labels, by part, from their names.

    Raises:
        BadInput: it is no `.npz` file, or its arrays have other names.
    """
    with _opened(path) as (_, members):
        names = {name.lower(): name for name in members}
    for usual in USUAL:
        found = {
            part: (names[images], names[labels])
            for part, (images, labels) in usual.items()
            if images in names and labels in names
        }
        if "train" in found:
            return found
    known = ", ".join(" and ".join(usual["train"]) for usual in USUAL)
    raise BadInput(
        f"{path} holds {', '.join(names.values()) or 'no arrays'}; which of them are "
        f"images and labels is known of these names alone: {known}."
    )


def read(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Return the arrays `names` of the file, each of numbers or of text.

    Raises:
        BadInput: it is damaged or too large, or one of the arrays is missing or of a
            kind that neither images nor labels are of.
    """
    with _opened(path) as (archive, members):
        if missing := [name for name in names if name not in members]:
            raise BadInput(f"{path} has no array {', '.join(missing)}.")
        return {
            name: _array(_content(archive, members[name], origin), origin)
            for name in names
            for origin in [f"{name} of {path}"]
        }


@contextmanager
def _opened(
    path: Path,
) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Open the archive, with its arrays by name; damage becomes one sentence."""
    try:
        with zipfile.ZipFile(path) as archive:
            every = archive.infolist()
            if len(every) > MAX_MEMBERS:
                raise BadInput(f"{path} has more than {MAX_MEMBERS:,} arrays.")
            names = [one.filename for one in every]
            yield (
                archive,
                {
                    name.removesuffix(".npy"): one
                    for name, one in zip(names, every, strict=True)
                    if name.endswith(".npy")
                },
            )
    except FileNotFoundError:
        raise BadInput(f"{path} is missing.") from None
    # What the library says of forged archives is of many kinds.
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, ValueError),
        *(RuntimeError, NotImplementedError, LookupError, OverflowError),
    ) as error:
        raise BadInput(f"{path} is no whole .npz file: {error}.") from None


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, origin: str) -> bytes:
    """Return the bytes of a member, of which `MAX_BYTES` are the most.

    Whatever more of it there is than the directory announces is not unpacked.
    """
    if member.file_size > MAX_BYTES:
        raise BadInput(f"{origin} unpacks to more than {MAX_BYTES:,} bytes.")
    if member.compress_type not in PACKED:
        raise BadInput(f"{origin} is packed in a way that NumPy never does.")
    with archive.open(member) as file:
        return file.read(member.file_size)


def _array(content: bytes, origin: str) -> Array:
    """Return the array of a `.npy` file, if that is what its header announces."""
    wide = content[6:7] != b"\x01"
    start = 12 if wide else 10
    if content[:6] != b"\x93NUMPY" or content[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise BadInput(f"{origin} is no .npy file.")
    end = start + int.from_bytes(content[8:start], "little")
    words = content[start : min(end, start + MAX_HEADER)]
    if OBJECT.match(words):
        raise BadInput(
            f"{origin} holds Python objects, which are never loaded; save it as "
            "numbers, or as text of fixed width (`array.astype(str)`)."
        )
    if not (header := HEADER.fullmatch(words)):
        raise BadInput(
            f"{origin} is neither of numbers nor of text, or has more than 5 axes: "
            f"{words[:60]!r}."
        )
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(length) for length in header[3].split(b","))
    announced = math.prod(shape) * dtype.itemsize
    if announced != len(content) - end or not announced:
        raise BadInput(
            f"{origin} announces {announced:,} bytes and has {len(content) - end:,}."
        )
    values = np.frombuffer(content, dtype, offset=end)
    return values.reshape(shape, order="F" if header[2] == b"True" else "C")
