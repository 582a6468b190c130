"""What is kept of repeated trainings: one file a variant and seed.

`.checkpoints/seeds/VARIANT.SEED.MARK.json`, where MARK is a digest of all that decides
how the training goes: settings, code and data (not the versions of libraries). So what
was trained once is found again, and what would come out otherwise now is not looked at,
but not deleted either.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field, NonNegativeInt, ValidationError

from tasks.dataset.splits import SPLITS, Split
from tasks.grids import Point
from tasks.modeling.architectures import Architecture
from tasks.modeling.model_file import Model
from tasks.runtime import files, params
from tasks.runtime.params import BadInput, Settings, Word

FOLDER = Path(".checkpoints/seeds")
NORMALIZED = Path("data/normalized")
# The modules of this package that a training runs through.
CODE = (
    "modeling/architectures",
    "modeling/calibration",
    "training/checkpoints",
    "runtime/cli",
    "modeling/devices",
    "runtime/files",
    "dataset/spec",
    "training/losses",
    "modeling/model_file",
    "training/networks",
    "training/lr_schedule",
    "runtime/params",
    "training/augmentation",
    "dataset/splits",
    "train",
    "training/loop",
    "training/optimizers",
    "training/settings",
)


class Repeat(Settings):
    """What one trained model got right.

    Attributes:
        variant: the name of the model.
        diverged: nothing came of it; the other values are 0 then.
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
    diverged: bool = False


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


def recipes(changes: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return, by variant, a digest of its settings, except the seed, and of the code.

    Args:
        changes: settings that every variant has instead of its own.

    Raises:
        BadInput: params.yaml has no such section.
    """
    train = params.load("train", Train).model_dump(exclude={"seed"})
    variants = {
        name: variant | _other(variant, changes or {}, train)
        for name, variant in train.pop("variants").items()
    }
    here = Path(__file__).parent
    code = [(here / f"{name}.py").read_bytes() for name in CODE]
    return {
        name: _digest(json.dumps([train, variant], sort_keys=True).encode(), *code)
        for name, variant in variants.items()
    }


def _other(
    variant: Mapping[str, Any], changes: Mapping[str, Any], train: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what of `changes` is not the case anyway."""
    holds = {"batch_size": train.get("batch_size"), **variant}
    return {key: value for key, value in changes.items() if value != holds.get(key)}


def marks_of(points: Sequence[Point]) -> dict[Point, str]:
    """Return a digest of all that decides how each training goes.

    Raises:
        BadInput: params.yaml or the data are missing.
    """
    of_data = _data()
    digests = {
        point[1:3]: {
            name: _digest(recipe.encode(), of_data.encode())
            for name, recipe in recipes(point.changes).items()
        }
        for point in {one[:3]: one for one in points}.values()
    }
    return {point: digests[point[1:3]][point.variant] for point in points}


def marks(changes: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return, by variant, a digest of its recipe and of the data.

    Args:
        changes: as for `recipes`.

    Raises:
        BadInput: params.yaml or the data are missing.
    """
    of_data = _data()
    return {
        name: _digest(recipe.encode(), of_data.encode())
        for name, recipe in recipes(changes).items()
    }


def _data() -> str:
    """Return a digest of the data."""
    names = [f"{split}-{kind}.npy" for split in SPLITS for kind in ("images", "labels")]
    try:
        data = [(NORMALIZED / name).read_bytes() for name in [*names, "facts.json"]]
    except FileNotFoundError as error:
        raise BadInput(f"{error.filename} is missing; run `dvc repro` first.") from None
    return _digest(*data)


def refuse_change(
    before: dict[str, str], changes: Mapping[str, Any] | None = None
) -> None:
    """Hold the present marks to those of `before` the work.

    Raises:
        BadInput: they differ.
    """
    if marks(changes) != before:
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
