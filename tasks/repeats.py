"""What is kept of repeated trainings: one file a variant and seed.

`.checkpoints/seeds/VARIANT.SEED.MARK.json`, where MARK is a digest of all that decides
how the training goes: settings, code and data (not the versions of libraries). So what
was trained once is found again, and what would come out otherwise now is not looked at,
but not deleted either.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field, NonNegativeInt, ValidationError

from tasks import files, settings
from tasks.architectures import Architecture
from tasks.models import Model
from tasks.settings import BadInput, Settings, Word
from tasks.splits import SPLITS, Split

FOLDER = Path(".checkpoints/seeds")
NORMALIZED = Path("data/normalized")
# The modules of this package that a training runs through.
CODE = (
    "architectures",
    "calibration",
    "checkpoints",
    "command",
    "devices",
    "files",
    "forms",
    "gradients",
    "models",
    "networks",
    "schedules",
    "settings",
    "shifts",
    "splits",
    "train",
    "training",
    "updates",
)


class Repeat(Settings):
    """What one trained model got right.

    Attributes:
        variant: the name of the model.
        architecture: of the model.
        seed: it was trained with; None for a model that has none.
        valid: accuracy on the validation images.
        test: accuracy on the test images.
        predictions: the predicted label of each validation image, a byte each.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    variant: str
    architecture: Architecture
    seed: NonNegativeInt | None
    valid: float
    test: float
    predictions: bytes


class Train(Settings):
    """Section `train` of params.yaml, of which every key decides something."""

    model_config = ConfigDict(extra="allow")

    seed: int
    variants: dict[Word, Any] = Field(min_length=1)


def measure(
    model: Model, valid: Split, test: Split, variant: str, seed: int | None = None
) -> Repeat:
    """Return what `model` gets right."""
    predictions = model.predict(valid.images).astype(np.uint8)
    return Repeat(
        variant=variant,
        architecture=model.description.architecture,
        seed=seed,
        valid=float(np.mean(predictions == valid.labels)),
        test=float(np.mean(model.predict(test.images) == test.labels)),
        predictions=predictions.tobytes(),
    )


def recipes() -> dict[str, str]:
    """Return, by variant, a digest of its settings, except the seed, and of the code.

    Raises:
        BadInput: params.yaml has no such section.
    """
    train = settings.load("train", Train).model_dump(exclude={"seed"})
    variants = train.pop("variants")
    here = Path(__file__).parent
    code = [(here / f"{name}.py").read_bytes() for name in CODE]
    return {
        name: _digest(json.dumps([train, variant], sort_keys=True).encode(), *code)
        for name, variant in variants.items()
    }


def marks() -> dict[str, str]:
    """Return, by variant, a digest of its recipe and of the data.

    Raises:
        BadInput: params.yaml or the data are missing.
    """
    names = [f"{split}-{kind}.npy" for split in SPLITS for kind in ("images", "labels")]
    try:
        data = [(NORMALIZED / name).read_bytes() for name in [*names, "facts.json"]]
    except FileNotFoundError as error:
        raise BadInput(f"{error.filename} is missing; run `dvc repro` first.") from None
    of_data = _digest(*data)
    return {
        name: _digest(recipe.encode(), of_data.encode())
        for name, recipe in recipes().items()
    }


def refuse_change(before: dict[str, str]) -> None:
    """Hold the present marks to those of `before` the work.

    Raises:
        BadInput: they differ.
    """
    if marks() != before:
        raise BadInput(
            f"{NORMALIZED}, params.yaml or tasks/ changed while this ran, so its "
            "result is not kept; run it again."
        )


def path(variant: str, seed: int, mark: str) -> Path:
    """Return where the result of a training is kept."""
    return FOLDER / f"{variant}.{seed}.{mark}.json"


def save(repeat: Repeat, mark: str) -> None:
    """Keep `repeat`."""
    assert repeat.seed is not None
    where = path(repeat.variant, repeat.seed, mark)
    files.write_text(where, repeat.model_dump_json(indent=2) + "\n")


def load(variant: str, seed: int, mark: str) -> Repeat | None:
    """Return what was kept of a training, or None if nothing was, or nothing whole."""
    try:
        return Repeat.model_validate_json(path(variant, seed, mark).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _digest(*contents: bytes) -> str:
    """Return a digest in which the borders between `contents` count."""
    digest = hashlib.blake2b(digest_size=8)
    for content in contents:
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()
