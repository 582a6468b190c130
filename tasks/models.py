"""The one format of every model, and what a model says of an image.

Logistic regression is a network of one layer, so scikit-learn's and torch's are the
same few numbers: a safetensors file with `weights` and `bias`, and metadata with all
that is needed to use them: architecture, scale of the pixels, classes, parameters.
"""

import itertools
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from tasks import files
from tasks.settings import BadInput, Parameters, Settings
from tasks.splits import Floats, Pixels, Scale

# safetensors writes several metadata keys in a random order; one key has none.
METADATA = "model"
# One of 784 inputs and 10 classes has 32 kB. With this bound on the file all that its
# header can ask for is bounded too.
MAX_BYTES = 10_000_000
# What is larger is no weight, and might overflow when multiplied with an input.
MAX_WEIGHT = 1e20

Label = Annotated[int, Field(ge=0, le=255)]


class Description(Settings):
    """What the metadata say.

    Attributes:
        architecture: `linear`: scores are `inputs @ weights + bias`.
        link: how scores become probabilities: `softmax`, or `one-vs-rest` (a logistic
            function of each, divided by their sum, as scikit-learn does it).
        scale: of the pixels.
        classes: the label of each column of the weights.
        parameters: what it was trained with.
    """

    architecture: Literal["linear"] = "linear"
    link: Literal["softmax", "one-vs-rest"]
    scale: Scale
    classes: Annotated[tuple[Label, ...], Field(min_length=1, max_length=256)]
    parameters: Parameters

    @model_validator(mode="after")
    def _a_class_is_one_column(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("a class has two columns")
        return self


class Model(Settings):
    """A trained model: `weights` (inputs, classes) and `bias` (classes,), float32."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    weights: Floats
    bias: Floats
    description: Description

    def log_probabilities(self, images: Pixels) -> npt.NDArray[np.float64]:
        """Return the logarithm of each class's probability, (N, classes), of `images`.

        Args:
            images: uint8 (N, rows, columns).

        Raises:
            BadInput: it was trained on images of another size.
        """
        if (pixels := math.prod(images.shape[1:])) != len(self.weights):
            raise BadInput(
                f"a model takes images of {len(self.weights)} pixels, not of {pixels}; "
                "train it anew."
            )
        inputs = self.description.scale.standardize(images)
        scores = (inputs @ self.weights + self.bias).astype(np.float64)
        if self.description.link == "one-vs-rest":
            scores = -np.logaddexp(0, -scores)
        return log_softmax(scores)

    def predict(self, images: Pixels) -> npt.NDArray[np.intp]:
        """Return the most probable label of each image, (N,)."""
        best = self.log_probabilities(images).argmax(axis=1)
        classes = np.array(self.description.classes, dtype=np.intp)
        return np.asarray(classes[best])


def log_softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `scores - log(sum(exp(scores)))` of each row, without overflow.

    Of logarithms of positive numbers it is the logarithm of their shares of the sum.
    """
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def save(model: Model, path: Path) -> None:
    """Write `model`: the same model gives the same bytes."""
    tensors = {
        "bias": np.ascontiguousarray(model.bias, dtype=np.float32),
        "weights": np.ascontiguousarray(model.weights, dtype=np.float32),
    }
    metadata = json.dumps(model.description.model_dump(mode="json"), sort_keys=True)
    files.write_bytes(path, to_safetensors(tensors, {METADATA: metadata}))


def load(path: Path) -> Model:
    """Read a model.

    Raises:
        BadInput: the file is not one that `save` writes, or its numbers are no weights.
        FileNotFoundError: there is none.
    """
    if path.stat().st_size > MAX_BYTES:
        raise BadInput(f"{path} has more than {MAX_BYTES:,} bytes; train it anew.")
    if not path.is_file():
        raise BadInput(f"{path} is not a model of ours; train it anew.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = (file.metadata() or {})[METADATA]
            description = Description.model_validate_json(metadata)
            _refuse_others(path, _layout(file), len(description.classes))
            tensors = {name: file.get_tensor(name) for name in ("weights", "bias")}
    except (SafetensorError, ValidationError, KeyError):
        raise BadInput(f"{path} is not a model of ours; train it anew.") from None
    model = Model(**tensors, description=description)
    if not are_weights(model):
        raise BadInput(
            f"{path} holds numbers that are not finite, or above {MAX_WEIGHT:g}; train "
            "it anew."
        )
    return model


def are_weights(model: Model) -> bool:
    """Return whether the numbers of `model` are weights that can be computed with."""
    # What is not a number is not below anything, either.
    return all((np.abs(it) <= MAX_WEIGHT).all() for it in (model.weights, model.bias))


def _layout(file: Any) -> dict[str, tuple[str, list[int]]]:
    """Return type and shape of each tensor, of which none is read; of three at most."""
    names = itertools.islice(sorted(file.keys()), 3)
    slices = {name: file.get_slice(name) for name in names}
    return {n: (one.get_dtype(), one.get_shape()) for n, one in slices.items()}


def _refuse_others(
    path: Path, found: dict[str, tuple[str, list[int]]], classes: int
) -> None:
    """Raise BadInput unless there are weights (inputs, classes) and a bias, float32."""
    _, shape = found.get("weights", ("", []))
    inputs = max(1, *shape[:1], 0)
    expected = {"bias": ("F32", [classes]), "weights": ("F32", [inputs, classes])}
    if found != expected:
        raise BadInput(f"{path} holds {found}, not {expected}; train it anew.")
