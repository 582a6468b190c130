"""The splits of the data: stored as pixels (uint8), standardized for the models.

The safetensors file `splits.safetensors` holds the arrays `<split>-images`
(N, rows, columns) and `<split>-labels` (N,) for the splits train, valid and test. Its
metadata hold the facts about the data, as JSON.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from tasks.dataset.spec import DatasetSpec
from tasks.runtime import files
from tasks.runtime.params import BadInput, Settings

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
SplitName = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")

FILE = "splits.safetensors"
# A single key: safetensors writes several metadata keys in random order.
FACTS = "facts"


class Split(NamedTuple):
    """Images, uint8 (N, rows, columns), and their labels, uint8 (N,)."""

    images: Pixels
    labels: Pixels


class Scale(Settings):
    """How pixels become inputs: `(pixel / divisor - mean) / std`.

    The divisor is the number of values that a pixel can have: the lesson's data had
    been divided by 256, not by 255, before they were published.
    """

    divisor: Annotated[int, Field(ge=2, le=256)]
    mean: Annotated[float, Field(ge=0, le=1)]
    std: Annotated[float, Field(ge=1e-9, le=1)]

    @classmethod
    def of(cls, images: Pixels, brightest: int) -> "Scale":
        """Measure mean and population standard deviation over all pixels.

        The pixels are integers from 0 to `brightest`, so all sums are exact and do not
        depend on their order.

        Raises:
            BadInput: the standard deviation is zero.
        """
        counts = np.bincount(images.ravel(), minlength=256)
        values = np.arange(256)
        mean = int(counts @ values) / images.size
        square = int(counts @ values**2) / images.size
        deviation = float(np.sqrt(square - mean**2))
        if not deviation:
            raise BadInput("All pixels of the training images have the same value.")
        divisor = brightest + 1
        return cls(divisor=divisor, mean=mean / divisor, std=deviation / divisor)

    def standardize(self, images: Pixels) -> Floats:
        """Return `images` as inputs, float32 (N, rows * columns)."""
        # A table of the 256 pixel values is faster than arithmetic on every pixel.
        table = (np.arange(256) / self.divisor - self.mean) / self.std
        return table.astype(np.float32)[images.reshape(len(images), -1)]


class Facts(DatasetSpec):
    """The facts about the data: their specification and the scale of their pixels."""

    scale: Scale


def save(folder: Path, splits: dict[SplitName, Split], facts: Facts) -> None:
    """Write all splits and the facts; the same content gives the same bytes."""
    arrays = {
        f"{name}-{part}": np.ascontiguousarray(values)
        for name, split in splits.items()
        for part, values in split._asdict().items()
    }
    metadata = {FACTS: json.dumps(facts.model_dump(mode="json"))}
    files.write_bytes(folder / FILE, to_safetensors(arrays, metadata))


def load(folder: Path, name: SplitName) -> Split:
    """Return one split; its arrays are mapped from the file, not read into memory.

    Raises:
        BadInput: the file is damaged, or lacks the split's arrays.
    """
    path = folder / FILE
    header, start = _header(path)
    arrays = []
    for part, axes in (("images", 3), ("labels", 1)):
        entry = header.get(f"{name}-{part}", {})
        shape = tuple(entry.get("shape", ()))
        if entry.get("dtype") != "U8" or len(shape) != axes or 0 in shape:
            raise _damaged(path, f"no {axes}-dimensional bytes `{name}-{part}`")
        offset = start + entry["data_offsets"][0]
        arrays.append(np.memmap(path, np.uint8, "r", offset, shape))
    images, labels = arrays
    if len(images) != len(labels):
        reason = f"{len(images)} {name} images but {len(labels)} labels"
        raise _damaged(path, reason)
    return Split(images, labels)


def load_facts(folder: Path) -> Facts:
    """Return the facts about the data, or raise BadInput if the file is damaged."""
    path = folder / FILE
    header, _ = _header(path)
    try:
        return Facts.model_validate_json(header["__metadata__"][FACTS])
    except (KeyError, ValidationError):
        raise _damaged(path, "invalid metadata") from None


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header, checked by safetensors, and the position of the first array.

    safetensors itself would read a whole array into memory, which takes 70 ms for
    MNIST's training images.
    """
    if path.stat() and not path.is_file():
        raise _damaged(path, "not a regular file")
    try:
        with safe_open(path, framework="numpy"):  # checks names, types and offsets
            pass
    except SafetensorError as error:
        raise _damaged(path, str(error)) from None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), 8 + length


def _damaged(path: Path, reason: str) -> BadInput:
    return BadInput(f"{path} is damaged: {reason}. Run `dvc repro --force normalize`.")
