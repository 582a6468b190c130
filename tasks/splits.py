"""The split data: stored as pixels (uint8), seen by models as standardized float32.

A folder of `.npy` files `<split>-images` (N, rows, columns) and `<split>-labels` (N,)
for the splits train, valid and test, and `scale.json` with what pixels are scaled by.
"""

import io
import json
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from tasks import files
from tasks.settings import BadInput, Settings

# The lesson's data had been divided by 256, not 255, before it was published.
DIVISOR = 256

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Name = Literal["train", "valid", "test"]
SPLITS: tuple[Name, ...] = ("train", "valid", "test")


class Split(NamedTuple):
    """Images, uint8 (N, rows, columns), and their labels, uint8 (N,)."""

    images: Pixels
    labels: Pixels


class Scale(Settings):
    """How pixels become inputs: `(pixel / divisor - mean) / std`."""

    divisor: int
    mean: float
    std: float

    @classmethod
    def of(cls, images: Pixels) -> "Scale":
        """Measure mean and standard deviation (of the population) over all pixels.

        The sums are of whole numbers, so the result is exact, whatever the order.
        """
        counts = np.bincount(images.ravel(), minlength=256)
        values = np.arange(256)
        mean = int(counts @ values) / images.size
        square = int(counts @ values**2) / images.size
        deviation = float(np.sqrt(square - mean**2))
        return cls(divisor=DIVISOR, mean=mean / DIVISOR, std=deviation / DIVISOR)

    def standardize(self, images: Pixels) -> Floats:
        """Return inputs, float32 (N, rows * columns), of `images`."""
        # Of each of the 256 pixel values once: faster than arithmetic on every pixel.
        table = (np.arange(256) / self.divisor - self.mean) / self.std
        return table.astype(np.float32)[images.reshape(len(images), -1)]


def save(folder: Path, splits: dict[Name, Split], scale: Scale) -> None:
    """Write all splits and the scale; each file is replaced whole."""
    for name, split in splits.items():
        for kind, values in split._asdict().items():
            buffer = io.BytesIO()
            np.save(buffer, values, allow_pickle=False)
            files.write_bytes(folder / f"{name}-{kind}.npy", buffer.getvalue())
    files.write_json(folder / "scale.json", scale.model_dump())


def load(folder: Path, name: Name) -> Split:
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


def load_scale(folder: Path) -> Scale:
    """Return the scale of the data in `folder`.

    Raises:
        BadInput: the file is not what `save` writes.
        FileNotFoundError: the file is missing.
    """
    path = folder / "scale.json"
    try:
        return Scale.model_validate(json.loads(path.read_bytes()))
    except (ValueError, ValidationError):
        raise BadInput(
            f"{path} is damaged; run `dvc repro --force normalize`."
        ) from None


def _array(path: Path, dimensions: int) -> Pixels:
    try:
        values: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        raise BadInput(
            f"{path} is not a whole .npy file; run `dvc repro --force normalize`."
        ) from None
    if values.dtype != np.uint8 or values.ndim != dimensions:
        raise BadInput(
            f"{path} holds {values.dtype} values in {values.ndim} dimensions, not "
            f"uint8 in {dimensions}; run `dvc repro --force normalize`."
        )
    return values
