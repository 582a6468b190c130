"""The file format of all models, and their predictions.

A model is a safetensors file with the tensors of its architecture
(`tasks.modeling.architectures`). Its metadata has everything needed to use them: the
images that it takes, the scale of their pixels, the classes, the calibration, the
parameters. Logistic regression is a network of one layer, so scikit-learn's model and
torch's have the same tensors.
"""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from tasks.dataset.splits import Facts, Floats, Pixels, Split
from tasks.modeling import architectures, calibration
from tasks.modeling.architectures import Architecture
from tasks.modeling.calibration import Calibration
from tasks.runtime import files
from tasks.runtime.params import BadInput, Parameters, Settings

# safetensors writes several metadata keys in a random order, so there is only one.
METADATA = "model"
# The project's largest model has 0.4 MB. The limit also bounds what a header can claim.
MAX_BYTES = 10_000_000
# Larger values are not weights, and products with inputs might overflow.
MAX_WEIGHT = 1e20


class Outdated(BadInput):
    """The file is a model that an earlier version of this project wrote."""


class Description(Facts):
    """The metadata of a model: the facts about its training data, and more.

    Attributes:
        link: converts scores into probabilities: `softmax`, or `one-vs-rest` (a
            logistic function of each, divided by their sum, as in scikit-learn).
        parameters: of the training.
    """

    architecture: Architecture = "linear"
    link: Literal["softmax", "one-vs-rest"]
    parameters: Parameters
    calibration: Calibration | None = None


class Model(Settings):
    """A trained model: its float32 tensors by name, and its description."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    tensors: dict[str, Floats]
    description: Description

    def log_probabilities(self, images: Pixels) -> npt.NDArray[np.float64]:
        """Return the logarithm of the probability of each class, (N, classes).

        Raises:
            BadInput: the model was trained on images of another shape.
        """
        own = self.description
        if images.shape[1:] != own.form.shape:
            raise BadInput(
                f"The model takes images of {own.form.shape} pixels, not of "
                f"{images.shape[1:]}; train it again."
            )
        scores = architectures.scores(
            own.architecture,
            self.tensors,
            own.scale.standardize(images),
            own.form.shape,
        ).astype(np.float64)
        if own.link == "one-vs-rest":
            scores = -np.logaddexp(0, -scores)
        if own.calibration:
            # The temperature was measured on log-probabilities, not on raw scores.
            scores = log_softmax(scores) / own.calibration.temperature
        return log_softmax(scores)

    def predict(self, images: Pixels) -> npt.NDArray[np.intp]:
        """Return the label of the most probable class of each image, (N,)."""
        return np.asarray(self.log_probabilities(images).argmax(axis=1))


def calibrated(model: Model, valid: Split) -> Model:
    """Return `model` with a calibration measured on the validation split."""

    def copy(found: Calibration | None) -> Model:
        description = model.description.model_copy(update={"calibration": found})
        return model.model_copy(update={"description": description})

    logs = copy(None).log_probabilities(valid.images)
    return copy(calibration.calibrate(logs, valid.labels))


def log_softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `scores - log(sum(exp(scores)))` of each row, without overflow."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def are_weights(model: Model) -> bool:
    """Return whether all weights are finite and at most `MAX_WEIGHT`."""
    # A comparison with NaN is false.
    return all((np.abs(each) <= MAX_WEIGHT).all() for each in model.tensors.values())


def save(model: Model, path: Path) -> None:
    """Write `model`; the same model gives the same bytes."""
    tensors = {
        name: np.ascontiguousarray(values, dtype=np.float32)
        for name, values in sorted(model.tensors.items())
    }
    metadata = json.dumps(model.description.model_dump(mode="json"), sort_keys=True)
    files.write_bytes(path, to_safetensors(tensors, {METADATA: metadata}))


def load(path: Path) -> Model:
    """Read a model.

    Raises:
        Outdated: an earlier version of this project wrote the file.
        BadInput: the file is not one that `save` writes, or has invalid weights.
    """
    if path.stat().st_size > MAX_BYTES:
        raise BadInput(f"{path} has more than {MAX_BYTES:,} bytes; train it again.")
    unreadable = BadInput(f"{path} is not a model of this project; train it again.")
    if not path.is_file():
        raise unreadable
    try:
        with safe_open(path, framework="numpy") as file:
            description = _description(path, (file.metadata() or {})[METADATA])
            _check_tensors(path, file, description)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, ValidationError, KeyError):
        raise unreadable from None
    model = Model(tensors=tensors, description=description)
    if not are_weights(model):
        raise BadInput(
            f"{path} has weights that are not finite, or above {MAX_WEIGHT:g}; train "
            "it again."
        )
    return model


def _description(path: Path, metadata: str) -> Description:
    """Parse the metadata; earlier versions did not store `form`."""
    try:
        return Description.model_validate_json(metadata)
    except ValidationError as error:
        if ("form",) in [fault["loc"] for fault in error.errors()]:
            raise Outdated(
                f"{path} was written by an earlier version; train it again."
            ) from None
        raise


def _check_tensors(path: Path, file: Any, description: Description) -> None:
    """Raise BadInput unless the tensors are those of the architecture, float32."""
    slices = {name: file.get_slice(name) for name in sorted(file.keys())}
    found = {k: (v.get_dtype(), tuple(v.get_shape())) for k, v in slices.items()}
    shapes = architectures.layout(
        description.architecture, description.form.shape, len(description.classes)
    )
    expected = {name: ("F32", shape) for name, shape in shapes.items()}
    if found != expected:
        raise BadInput(
            f"{path} has the tensors {found}, not {expected}; train it again."
        )
