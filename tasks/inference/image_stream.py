"""Stream every image of some files and folders, in a stable order.

A file is an image (PNG, JPEG, TIFF) or an array of images (IDX, gzipped or not, .npy,
.npz). Each image is converted to the specification of the training set; one that can't
be read is blank, with a reason. Memory does not grow with the number of images.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.dataset.spec import ImageSpec
from tasks.dataset.splits import Pixels
from tasks.imaging import preprocess
from tasks.imaging.segmentation import UnusableImage
from tasks.inference import array_files
from tasks.runtime.params import BadInput

# The files read from a folder; a file named by the user is read whatever its name.
NAMES = re.compile(
    r".+(\.(png|jpe?g|tiff?|npy|npz|idx3?)|[-.]idx3-ubyte|-images\.ubyte)(\.gz)?",
    re.IGNORECASE,
)
BATCH_PIXELS = 2048 * 28 * 28


class Batch(NamedTuple):
    """Consecutive images of one file, valid until the next batch is read."""

    path: str  # as the user wrote it
    first: int  # the index of the first image in its file, from 0
    images: Pixels  # (N, rows, columns), blank where there is a reason
    reasons: dict[int, str]  # why an image can't be used, by row in the batch


class InputFile(NamedTuple):
    """A file or folder: its name as the user wrote it, and its path."""

    name: str
    path: Path


class InputFiles(NamedTuple):
    """The files to read, in order, and the number of files ignored in folders."""

    files: list[InputFile]
    ignored: int


def input_files(paths: Iterable[str], start: Path) -> InputFiles:
    """Return the files of `paths`, which may be folders; `start` is for relative paths.

    Raises:
        BadInput: a path does not exist.
    """
    files: list[InputFile] = []
    visited: set[Path] = set()
    ignored = 0
    for file in [InputFile(path, start / path) for path in paths]:
        if not file.path.exists():
            raise BadInput(f"{file.name!r} does not exist; name a file or a folder.")
        if file.path.is_dir():
            ignored += _add_folder(file, files, visited)
        else:
            files.append(file)
    return InputFiles(files, ignored)


def count_images(inputs: InputFiles) -> int:
    """Return the number of images by the headers of arrays; other files count as 1."""
    return sum(_declared_images(file.path) for file in inputs.files)


def stream(inputs: InputFiles, image_spec: ImageSpec) -> Iterator[Batch]:
    """Yield every image of `inputs`, converted to `image_spec`.

    A file that can't be read to its end yields one more image, with the reason.
    """
    blank = np.zeros((1, *image_spec.shape), np.uint8)
    for file in inputs.files:
        number = 0
        try:
            for batch in _batches(file, image_spec):
                yield batch
                number = batch.first + len(batch.images)
        except UnusableImage as error:
            yield Batch(file.name, number, blank, {0: str(error)})
        except OSError as error:
            reason = f"it can't be read: {error.strerror or error}"
            yield Batch(file.name, number, blank, {0: reason})


def display_path(path: str) -> str:
    """Return `path` as text that is safe in any table.

    Bytes that are not UTF-8 are escaped. A path that a spreadsheet would take for a
    formula gets the prefix `./`.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return f"./{text}" if text[:1] in tuple("=+-@\t\r") else text


def _add_folder(folder: InputFile, files: list[InputFile], visited: set[Path]) -> int:
    """Add a folder's files to `files` by name; return the number of ignored files.

    A folder that is linked twice is read once.
    """
    if (resolved := folder.path.resolve()) in visited:
        return 0
    visited.add(resolved)
    try:
        entries = sorted(os.scandir(folder.path), key=lambda entry: entry.name)
    except OSError:
        return 1
    ignored = 0
    for entry in entries:
        file = InputFile(os.path.join(folder.name, entry.name), Path(entry.path))  # noqa: PTH118  # as the user wrote it
        if entry.name.startswith("."):
            ignored += 1
        elif entry.is_dir():
            ignored += _add_folder(file, files, visited)
        elif NAMES.fullmatch(entry.name) and entry.is_file():
            files.append(file)
        else:
            ignored += 1
    return ignored


def _declared_images(path: Path) -> int:
    try:
        if path.is_file() and array_files.holds_array(path):
            with array_files.opened(path) as array:
                return array.shape[0]
    except (UnusableImage, OSError):
        pass
    return 1


def _batches(file: InputFile, image_spec: ImageSpec) -> Iterator[Batch]:
    """Yield the images of one file; raise UnusableImage or OSError where it fails."""
    if not file.path.is_file():
        raise UnusableImage("it is not a regular file")
    if array_files.holds_array(file.path):
        yield from _array_batches(file, image_spec)
        return
    for number, page in enumerate(preprocess.read(file.path)):
        image = np.empty((1, *image_spec.shape), np.uint8)
        reasons = _preprocess(page[None], [0], image_spec, image)
        yield Batch(file.name, number, image, reasons)


def _array_batches(file: InputFile, image_spec: ImageSpec) -> Iterator[Batch]:
    with array_files.opened(file.path) as array:
        count, *shape = array.shape
        size = min(count, max(1, BATCH_PIXELS // math.prod(shape)))
        buffer = np.empty((size, *shape), np.uint8)
        for first in range(0, count, size):
            expected = min(size, count - first)
            read = array_files.fill(array.stream, buffer[:expected])
            if read:
                images, reasons = _to_spec(buffer[:read], image_spec)
                yield Batch(file.name, first, images, reasons)
            if read < expected:
                raise UnusableImage("it is truncated")


def _to_spec(images: Pixels, image_spec: ImageSpec) -> tuple[Pixels, dict[int, str]]:
    """Return the images of an array as in the training set, and reasons by row.

    Images of the right shape are used unchanged, or inverted if they are dark on white,
    unless they are blank or their background is grey.
    """
    if images.shape[1:] != image_spec.shape:
        converted = np.empty((len(images), *image_spec.shape), np.uint8)
        return converted, _preprocess(images, range(len(images)), image_spec, converted)
    low, high = images.min(axis=(1, 2)), images.max(axis=(1, 2))
    different = (low == high) | (high > image_spec.brightest)
    if image_spec.box is not None:
        corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]].min(axis=1)
        inverted = (corners == image_spec.brightest) & ~different
        images[inverted] = image_spec.brightest - images[inverted]
        different |= (corners > 0) & ~inverted
    rows = np.flatnonzero(different).tolist()
    return images, _preprocess(images, rows, image_spec, images)


def _preprocess(
    images: preprocess.Intensities,
    rows: Iterable[int],
    image_spec: ImageSpec,
    out: Pixels,
) -> dict[int, str]:
    """Write some `rows` of `images` to `out`, preprocessed; return reasons by row."""
    reasons = {}
    for row in rows:
        try:
            out[row] = preprocess.to_spec(images[row], image_spec)
        except UnusableImage as reason:
            out[row] = 0
            reasons[row] = str(reason)
    return reasons
