"""The one format of every model, and what a model says of an image.

Logistic regression is a network of one layer, so scikit-learn's and torch's are the
same few numbers: a safetensors file with `weights` and `bias`, and metadata with all
that is needed to use them: architecture, scale of the pixels, classes, parameters.
"""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from tasks import files
from tasks.settings import BadInput, Settings
from tasks.splits import Floats, Pixels, Scale

# safetensors writes several metadata keys in a random order; one key has none.
METADATA = "model"


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
    classes: tuple[int, ...]
    parameters: dict[str, Any]


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
        """
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
        BadInput: the file is not one that `save` writes, or its numbers are not finite.
        FileNotFoundError: there is none.
    """
    path.stat()  # it names the file that is missing; safetensors would not
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
            metadata = (file.metadata() or {})[METADATA]
        description = Description.model_validate_json(metadata)
    except (SafetensorError, ValidationError, KeyError):
        raise BadInput(f"{path} is not a model of ours; train it anew.") from None
    inputs = tensors["weights"].shape[0] if "weights" in tensors else 0
    expected = {
        "bias": ((len(description.classes),), np.dtype(np.float32)),
        "weights": ((inputs, len(description.classes)), np.dtype(np.float32)),
    }
    found = {name: (values.shape, values.dtype) for name, values in tensors.items()}
    if found != expected:
        raise BadInput(f"{path} holds {found}, not {expected}; train it anew.")
    if not all(np.isfinite(values).all() for values in tensors.values()):
        raise BadInput(f"{path} holds numbers that are not finite; train it anew.")
    return Model(**tensors, description=description)
