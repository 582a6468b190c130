"""The split data: stored as pixels (uint8), seen by models as standardized float32.

A folder of `.npy` files `<split>-images` (N, rows, columns) and `<split>-labels` (N,)
for the splits train, valid and test, and `facts.json`: what the images are, and what
their pixels are scaled by.
"""

import io
import math
import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from tasks.dataset.spec import DatasetSpec
from tasks.runtime import files
from tasks.runtime.params import BadInput, Settings

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
SplitName = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")

# What NumPy writes before an array of bytes. Its own reader evaluates such a header as
# Python and takes any; one that lies has it fail in a dozen ways.
HEADER_BYTES = 128
HEADER = re.compile(
    rb"\x93NUMPY\x01\0v\0\{'descr': '\|u1', 'fortran_order': False, "
    rb"'shape': \(([1-9]\d{0,11}(?:, [1-9]\d{0,11})*),?\), \} *\n"
)
MAX_FACTS_BYTES = 100_000


class Split(NamedTuple):
    """Images, uint8 (N, rows, columns), and their labels, uint8 (N,)."""

    images: Pixels
    labels: Pixels


class Scale(Settings):
    """How pixels become inputs: `(pixel / divisor - mean) / std`.

    The divisor is the number of values that a pixel can have. The lesson's data had
    been divided by 256, not 255, before it was published.
    """

    divisor: Annotated[int, Field(ge=2, le=256)]
    mean: Annotated[float, Field(ge=0, le=1)]
    std: Annotated[float, Field(ge=1e-9, le=1)]

    @classmethod
    def of(cls, images: Pixels, brightest: int) -> "Scale":
        """Measure mean and standard deviation (of the population) over all pixels.

        Args:
            images: uint8, of any shape.
            brightest: the largest value that a pixel can have.

        The sums are of whole numbers, so the result is exact, whatever the order.

        Raises:
            BadInput: the deviation is zero.
        """
        counts = np.bincount(images.ravel(), minlength=256)
        values = np.arange(256)
        mean = int(counts @ values) / images.size
        square = int(counts @ values**2) / images.size
        deviation = float(np.sqrt(square - mean**2))
        if not deviation:
            raise BadInput("All pixels of the training images are alike.")
        divisor = brightest + 1
        return cls(divisor=divisor, mean=mean / divisor, std=deviation / divisor)

    def standardize(self, images: Pixels) -> Floats:
        """Return inputs, float32 (N, rows * columns), of `images`."""
        # Of each of the 256 pixel values once: faster than arithmetic on every pixel.
        table = (np.arange(256) / self.divisor - self.mean) / self.std
        return table.astype(np.float32)[images.reshape(len(images), -1)]


class Facts(DatasetSpec):
    """What there is to know of the data beside the pixels and the labels.

    Attributes:
        scale: of the pixels.
    """

    scale: Scale

    @classmethod
    def of(cls, spec: DatasetSpec, scale: Scale) -> "Facts":
        """Return the facts on images of that specification and scale."""
        return cls(title=spec.title, form=spec.form, classes=spec.classes, scale=scale)


def save(folder: Path, splits: dict[SplitName, Split], facts: Facts) -> None:
    """Write all splits and the facts; each file is replaced whole."""
    for name, split in splits.items():
        for array, values in split._asdict().items():
            buffer = io.BytesIO()
            np.save(buffer, values, allow_pickle=False)
            files.write_bytes(folder / f"{name}-{array}.npy", buffer.getvalue())
    files.write_json(folder / "facts.json", facts.model_dump(mode="json"))


def load(folder: Path, name: SplitName) -> Split:
    """Return one split; its images are mapped from the file, not read.

    Raises:
        BadInput: a file is no array of bytes of the right shape.
        FileNotFoundError: a file is missing.
    """
    images = _array(folder / f"{name}-images.npy", dimensions=3)
    labels = _array(folder / f"{name}-labels.npy", dimensions=1)
    if len(images) != len(labels):
        raise BadInput(
            f"{folder} has {len(images)} {name} images but {len(labels)} labels; "
            "run `dvc repro --force normalize`."
        )
    return Split(images, labels)


def load_facts(folder: Path) -> Facts:
    """Return what is known of the data in `folder`.

    Raises:
        BadInput: the file is not what `save` writes.
        FileNotFoundError: the file is missing.
    """
    path = folder / "facts.json"
    try:
        return Facts.model_validate_json(files.read_bytes(path, MAX_FACTS_BYTES))
    except (BadInput, ValidationError):
        raise BadInput(
            f"{path} is damaged; run `dvc repro --force normalize`."
        ) from None


def _array(path: Path, dimensions: int) -> Pixels:
    """Return the array at `path`, mapped, if the file is what its header announces."""
    with path.open("rb") as file:
        header = HEADER.fullmatch(file.read(HEADER_BYTES))
    shape = tuple(map(int, header[1].split(b","))) if header else ()
    size = HEADER_BYTES + math.prod(shape)
    if len(shape) != dimensions or path.stat().st_size != size:
        raise BadInput(
            f"{path} is not a whole .npy file of bytes in {dimensions} dimensions; "
            "run `dvc repro --force normalize`."
        )
    return np.memmap(path, np.uint8, "r", HEADER_BYTES, shape)
