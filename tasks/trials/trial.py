"""The result of one training: which images a model classifies correctly.

A trial is a small JSON file; the model itself is not saved. One bit per validation
image is enough to compare two models image by image.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, NonNegativeInt, ValidationError

from tasks.dataset.splits import Split
from tasks.modeling.architectures import Architecture
from tasks.modeling.calibration import Share
from tasks.modeling.model_file import Model
from tasks.runtime import files
from tasks.runtime.params import BadInput, Settings

TRIALS = Path("trials")  # in the folder of an experiment
MAX_BYTES = 10_000_000  # 10,000 validation images take 2 kB


class Trial(Settings):
    """Which images one trained model classifies correctly.

    Attributes:
        diverged: the training diverged, so nothing was measured.
        valid, test: accuracy on the images of the split; None if it was not measured.
        images: number of validation images.
        packed: a bit for each of them, 1 if it is correct: `numpy.packbits`.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    architecture: Architecture
    diverged: bool = False
    valid: Share | None = None
    test: Share | None = None
    images: NonNegativeInt = 0
    packed: bytes = b""

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether each validation image is classified correctly, bool (images,)."""
        packed = np.frombuffer(self.packed, dtype=np.uint8)
        return np.unpackbits(packed, count=self.images).astype(bool)


def measure(model: Model, valid: Split, test: Split | None = None) -> Trial:
    """Measure `model` on the validation images and, if given, on the test images."""
    correct = model.predict(valid.images) == valid.labels
    tested = model.predict(test.images) == test.labels if test else None
    return Trial(
        architecture=model.description.architecture,
        valid=float(correct.mean()),
        test=None if tested is None else float(tested.mean()),
        images=len(correct),
        packed=np.packbits(correct).tobytes(),
    )


def save(path: Path, trial: Trial) -> None:
    """Write `trial` to the file at `path`."""
    files.write_text(path, trial.model_dump_json(indent=2) + "\n")


def load(path: Path) -> Trial:
    """Read the trial at `path`, or raise BadInput if it is not one."""
    try:
        return Trial.model_validate_json(files.read_bytes(path, MAX_BYTES))
    except ValidationError:
        raise BadInput(f"{path} is damaged; delete it and run `dvc repro`.") from None
