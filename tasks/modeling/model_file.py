"""The one format of every model, and what a model says of an image.

A safetensors file with the tensors of its architecture
(`tasks.modeling.architectures`), and metadata with all that is needed to use them: what
images it takes, the scale of their pixels, the classes, the calibration, the
parameters. Logistic regression is a network of one layer, so scikit-learn's and torch's
are the same few numbers.
"""

import itertools
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

# safetensors writes several metadata keys in a random order; one key has none.
METADATA = "model"
# The largest that this project trains has 0.4 MB. With this bound on the file all that
# its header can ask for is bounded too.
MAX_BYTES = 10_000_000
# What is larger is no weight, and might overflow when multiplied with an input.
MAX_WEIGHT = 1e20
# No architecture has more tensors.
MAX_TENSORS = 100


class Outdated(BadInput):
    """The file is a model, written by an earlier version of this project."""


class Description(Facts):
    """What the metadata say, beside the facts on the data that it was trained on.

    Attributes:
        architecture: which tensors there are, and how scores are computed from them.
        link: how scores become probabilities: `softmax`, or `one-vs-rest` (a logistic
            function of each, divided by their sum, as scikit-learn does it).
        parameters: what it was trained with.
        calibration: of its probabilities; None before it was measured.
    """

    architecture: Architecture = "linear"
    link: Literal["softmax", "one-vs-rest"]
    parameters: Parameters
    calibration: Calibration | None = None


class Model(Settings):
    """A trained model: its tensors, float32, by name."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    tensors: dict[str, Floats]
    description: Description

    @property
    def weights(self) -> Floats | None:
        """The weights of a linear model, (inputs, classes); None of another one."""
        return self.tensors.get("weights")

    def log_probabilities(self, images: Pixels) -> npt.NDArray[np.float64]:
        """Return the logarithm of each class's probability, (N, classes), of `images`.

        Args:
            images: uint8 (N, rows, columns).

        Raises:
            BadInput: it was trained on images of another shape.
        """
        about = self.description
        if images.shape[1:] != about.form.shape:
            raise BadInput(
                f"a model takes images of {about.form.shape} pixels, not of "
                f"{images.shape[1:]}; train it anew."
            )
        inputs = about.scale.standardize(images)
        scores = architectures.scores(
            about.architecture, self.tensors, inputs, about.form.shape
        ).astype(np.float64)
        if about.link == "one-vs-rest":
            scores = -np.logaddexp(0, -scores)
        if about.calibration:
            # Of the shares of the sum, as that is how the temperature was measured.
            scores = log_softmax(scores) / about.calibration.temperature
        return log_softmax(scores)

    def predict(self, images: Pixels) -> npt.NDArray[np.intp]:
        """Return the label of the most probable class of each image, (N,)."""
        return np.asarray(self.log_probabilities(images).argmax(axis=1))


def calibrated(model: Model, valid: Split) -> Model:
    """Return `model` with the calibration that the images of `valid` give it."""
    about = model.description
    bare = model.model_copy(
        update={"description": about.model_copy(update={"calibration": None})}
    )
    found = calibration.calibrate(bare.log_probabilities(valid.images), valid.labels)
    return model.model_copy(
        update={"description": about.model_copy(update={"calibration": found})}
    )


def log_softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `scores - log(sum(exp(scores)))` of each row, without overflow.

    Of logarithms of positive numbers it is the logarithm of their shares of the sum.
    """
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def save(model: Model, path: Path) -> None:
    """Write `model`: the same model gives the same bytes."""
    tensors = {
        name: np.ascontiguousarray(values, dtype=np.float32)
        for name, values in sorted(model.tensors.items())
    }
    metadata = json.dumps(model.description.model_dump(mode="json"), sort_keys=True)
    files.write_bytes(path, to_safetensors(tensors, {METADATA: metadata}))


def load(path: Path) -> Model:
    """Read a model.

    Raises:
        Outdated: it was written by an earlier version of this project.
        BadInput: the file is not one that `save` writes, or its numbers are no weights.
        FileNotFoundError: there is none.
    """
    if path.stat().st_size > MAX_BYTES:
        raise BadInput(f"{path} has more than {MAX_BYTES:,} bytes; train it anew.")
    if not path.is_file():
        raise BadInput(f"{path} is not a model of ours; train it anew.")
    try:
        with safe_open(path, framework="numpy") as file:
            description = _description(path, (file.metadata() or {})[METADATA])
            layout = _layout(file)
            _refuse_others(path, layout, description)
            tensors = {name: file.get_tensor(name) for name in layout}
    except (SafetensorError, ValidationError, KeyError):
        raise BadInput(f"{path} is not a model of ours; train it anew.") from None
    model = Model(tensors=tensors, description=description)
    if not are_weights(model):
        raise BadInput(
            f"{path} holds numbers that are not finite, or above {MAX_WEIGHT:g}; train "
            "it anew."
        )
    return model


def are_weights(model: Model) -> bool:
    """Return whether the numbers of `model` are weights that can be computed with."""
    # What is not a number is not below anything, either.
    return all((np.abs(it) <= MAX_WEIGHT).all() for it in model.tensors.values())


def _description(path: Path, metadata: str) -> Description:
    """Return what the metadata say.

    Before a model told of its images, `form`, there was none but the linear one.
    """
    try:
        return Description.model_validate_json(metadata)
    except ValidationError as error:
        if ("form",) in [fault["loc"] for fault in error.errors()]:
            raise Outdated(
                f"{path} was written by an earlier version; train it anew."
            ) from None
        raise


def _layout(file: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of each tensor, of which none is read."""
    names = itertools.islice(sorted(file.keys()), MAX_TENSORS)
    slices = {name: file.get_slice(name) for name in names}
    return {n: (one.get_dtype(), tuple(one.get_shape())) for n, one in slices.items()}


def _refuse_others(
    path: Path, found: dict[str, tuple[str, tuple[int, ...]]], about: Description
) -> None:
    """Raise BadInput unless the tensors are those of the architecture, float32."""
    shapes = architectures.layout(
        about.architecture, about.form.shape, len(about.classes)
    )
    expected = {name: ("F32", shape) for name, shape in shapes.items()}
    if found != expected:
        raise BadInput(f"{path} holds {found}, not {expected}; train it anew.")
