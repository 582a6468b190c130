"""Read every image that some paths name, in a stable order, as in the training set.

A path is an image (PNG, JPEG, TIFF), an array of images (IDX, gzipped or not; .npy,
.npz), or a folder of them. An image that can't be used is there too, with the reason.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.dataset.spec import ImageSpec
from tasks.dataset.splits import Pixels
from tasks.imaging import preprocess
from tasks.imaging.segmentation import UnusableImage
from tasks.inference import array_files
from tasks.runtime.params import BadInput

# What is looked at in a folder. A file that is named is looked at whatever its name.
NAMES = re.compile(
    r".+(\.(png|jpe?g|tiff?|npy|npz|idx3?)|[-.]idx3-ubyte|-images\.ubyte)(\.gz)?",
    re.IGNORECASE,
)
# Images of an array that make a batch: 1.6 MB of MNIST's.
CHUNK = 2048
# Images that come one by one are looked at together.
TOGETHER = 256


Indices = npt.NDArray[np.intp]


class Batch(NamedTuple):
    """Some images, in order.

    Attributes:
        paths: of the files, as the user knows them.
        file: of each image which of `paths` it is from, (N,).
        number: index of each image in its file, from 0, (N,).
        images: uint8 (N, rows, columns), blank where there is a reason; valid until the
            next batch is asked for.
        reasons: why an image can't be used, by its row in the batch.
        done: how much of `Extent.whole` came with it.
    """

    paths: list[str]
    file: npt.NDArray[np.int32]
    number: npt.NDArray[np.int64]
    images: Pixels
    reasons: dict[int, str]
    done: int


class Extent(NamedTuple):
    """How much there is: images, as files announce them, and files passed over."""

    whole: int
    ignored: int


class InputFile(NamedTuple):
    """A file: its name as the user wrote it, and its path."""

    name: str
    path: Path


def input_files(paths: Iterable[str], start: Path) -> list[InputFile]:
    """Return what is asked for; relative paths begin at `start`.

    Raises:
        BadInput: one of them does not exist.
    """
    named = [InputFile(path, start / path) for path in paths]
    for name, path in named:
        if not path.exists():
            raise BadInput(f"{name!r} is not there; name a file or a folder.")
    return named


def extent(wanted: Iterable[InputFile]) -> Extent:
    """Return how much there is, without reading it."""
    whole = ignored = 0
    for source in _files(wanted):
        if source is None:
            ignored += 1
            continue
        try:
            with array_files.opened(source.path) as found:
                whole += found.shape[0]
        except (UnusableImage, OSError):
            whole += 1
    return Extent(whole, ignored)


def stream(wanted: Iterable[InputFile], image_spec: ImageSpec) -> Iterator[Batch]:
    """Yield every image of `wanted`, preprocessed to `image_spec`."""
    pending = _Pending(image_spec)
    for source in _files(wanted):
        if source is None:
            continue
        try:
            yield from _of_file(source, image_spec, pending)
        except UnusableImage as reason:
            yield from pending.fault(source.name, str(reason))
        except OSError as error:
            yield from pending.fault(
                source.name, f"it can't be read: {error.strerror or error}"
            )
    yield from pending.rest()


def shown(path: str) -> str:
    """Return `path` as text that can be written anywhere and is still that path.

    A byte that is no UTF-8 is shown as its number; what a spreadsheet would take for a
    formula begins with `./`.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return f"./{text}" if text[:1] in tuple("=+-@\t\r") else text


def _files(wanted: Iterable[InputFile]) -> Iterator[InputFile | None]:
    """Yield every file, a folder's sorted by name; None for one that is passed over."""
    seen: set[tuple[int, int]] = set()
    for source in wanted:
        if source.path.is_dir():
            yield from _of_folder(source, seen)
        else:
            yield source


def _of_folder(
    folder: InputFile, seen: set[tuple[int, int]]
) -> Iterator[InputFile | None]:
    """Yield what is in a folder; one that links lead to twice is entered once."""
    try:
        status = folder.path.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        entries = sorted(os.scandir(folder.path), key=lambda entry: entry.name)
    except OSError:
        yield None
        return
    for entry in entries:
        source = InputFile(os.path.join(folder.name, entry.name), Path(entry.path))  # noqa: PTH118  # as the user wrote it
        if entry.name.startswith("."):
            yield None
        elif entry.is_dir():
            yield from _of_folder(source, seen)
        else:
            wanted = NAMES.fullmatch(entry.name) and entry.is_file()
            yield source if wanted else None


def _of_file(
    source: InputFile, image_spec: ImageSpec, pending: "_Pending"
) -> Iterator[Batch]:
    if not source.path.is_file():
        raise UnusableImage("it is no file")
    if array_files.holds_array(source.path):
        yield from _of_array(source, image_spec, pending)
        return
    for number, page in enumerate(preprocess.read(source.path)):
        yield from pending.scan(source.name, number, page)


def _of_array(
    source: InputFile, image_spec: ImageSpec, pending: "_Pending"
) -> Iterator[Batch]:
    with array_files.opened(source.path) as found:
        (count, *_), file = found
        alike = found.shape[1:] == image_spec.shape
        chunk = CHUNK if alike else 1
        buffer = np.empty((min(chunk, count), *found.shape[1:]), np.uint8)
        for start in range(0, count, chunk):
            wanted = buffer[: min(chunk, count - start)]
            have, reason = _filled(file, wanted)
            if alike and have:
                yield from pending.rest()
                yield _checked(source.name, start, wanted[:have], image_spec)
            elif have:
                yield from pending.scan(source.name, start, wanted[0], units=1)
            if have < len(wanted):
                yield from pending.fault(source.name, reason, start + have)
                return


def _filled(file: IO[bytes], wanted: Pixels) -> tuple[int, str]:
    """Read into `wanted`; return how many images came, and why no more."""
    try:
        return array_files.fill(file, wanted), "it breaks off early"
    except UnusableImage as reason:
        return 0, str(reason)


def _checked(name: str, start: int, images: Pixels, image_spec: ImageSpec) -> Batch:
    """Return images of an array, preprocessed where they need it."""
    odd, inverted = _of_another(images, image_spec)
    if len(inverted):
        images[inverted] = image_spec.brightest - images[inverted]
    reasons = {}
    for row in odd:
        try:
            images[row] = preprocess.to_spec(images[row], image_spec)
        except UnusableImage as reason:
            reasons[int(row)] = str(reason)
            images[row] = 0
    numbers = np.arange(start, start + len(images))
    files = np.zeros(len(images), np.int32)
    return Batch([name], files, numbers, images, reasons, len(images))


def _of_another(images: Pixels, image_spec: ImageSpec) -> tuple[Indices, Indices]:
    """Return which images are blank or differ, and which are inverted.

    Almost none is, so that few pixels are looked at: those between which strokes must
    differ, and the corners.
    """
    odd = _alike_in_the_middle(images)
    if image_spec.box is None:
        if image_spec.brightest < preprocess.WHITE:
            odd |= images.max(axis=(1, 2)) > image_spec.brightest
        return _indices(odd), _indices(odd[:0])
    # All four at once, without a copy: this is asked of every image.
    left, right = (
        images[:, :: image_spec.shape[0] - 1, 0],
        images[:, :: image_spec.shape[0] - 1, -1],
    )
    darkest = np.minimum(left, right)
    darkest = np.minimum(darkest[:, 0], darkest[:, -1])
    inverted = darkest == image_spec.brightest
    odd |= (darkest > 0) & ~inverted
    return _indices(odd), _indices(inverted & ~odd)


def _indices(true: npt.NDArray[np.bool_]) -> Indices:
    """Return where it is True; that it is nowhere is seen a hundred times faster."""
    return np.flatnonzero(true) if true.any() else np.empty(0, np.intp)


def _alike_in_the_middle(images: Pixels) -> npt.NDArray[np.bool_]:
    """Return which images have one value in all of the middle: (N,).

    Eight pixels are compared at once: NumPy's own maximum of short rows takes longer
    than the product with a model's weights does.
    """
    pixels = images.reshape(len(images), -1)
    size = pixels.shape[1]
    if size % 8 or size < 64:
        return np.asarray(pixels.max(axis=1) == pixels.min(axis=1))
    words = pixels.view(np.uint64)
    middle = words.shape[1] // 2
    first = words[:, middle - 3]
    other = np.zeros(len(images), np.uint64)
    for column in range(middle - 2, middle + 3):
        other |= words[:, column] ^ first
    # Some of these have stripes of eight; whoever looks closer will see.
    return np.asarray(other == 0)


class _Pending:
    """Images that come one by one, until there are enough of them for a batch."""

    def __init__(self, image_spec: ImageSpec) -> None:
        self._image_spec = image_spec
        # The file that the last image was from, and how many it has given.
        self._name, self._given = "", 0
        self._start()

    def _start(self) -> None:
        self._paths: list[str] = []
        self._files: list[int] = []
        self._numbers: list[int] = []
        self._images: list[Pixels] = []
        self._reasons: dict[int, str] = {}
        self._done = 0

    def scan(
        self,
        name: str,
        number: int,
        values: preprocess.Intensities,
        units: int | None = None,
    ) -> Iterator[Batch]:
        """Add an image as it was found."""
        try:
            image, reason = preprocess.to_spec(values, self._image_spec), None
        except UnusableImage as fault:
            image, reason = None, str(fault)
        yield from self._add(name, number, image, reason, units)

    def fault(
        self, name: str, reason: str, number: int | None = None
    ) -> Iterator[Batch]:
        """Add what is no image, after those that its file has given."""
        if number is None:
            number = self._given if self._name == name else 0
        yield from self._add(name, number, None, reason, None)

    def rest(self) -> Iterator[Batch]:
        """Yield what there is, if there is any."""
        if self._files:
            batch = Batch(
                self._paths,
                np.array(self._files, np.int32),
                np.array(self._numbers, np.int64),
                np.stack(self._images),
                self._reasons,
                self._done,
            )
            self._start()
            yield batch

    def _add(
        self,
        name: str,
        number: int,
        image: Pixels | None,
        reason: str | None,
        units: int | None,
    ) -> Iterator[Batch]:
        if not self._paths or self._paths[-1] != name:
            self._paths.append(name)
        self._name, self._given = name, number + 1
        if image is None:
            self._reasons[len(self._files)] = reason or ""
        # Of a file of several pages only the first was counted beforehand.
        self._done += (number == 0) if units is None else units
        self._files.append(len(self._paths) - 1)
        self._numbers.append(number)
        blank = np.zeros(self._image_spec.shape, np.uint8)
        self._images.append(blank if image is None else image)
        if len(self._files) == TOGETHER:
            yield from self.rest()
