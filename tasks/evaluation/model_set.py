"""The models to compare: the baseline, and every network of params.yaml."""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from tasks.modeling import model_file
from tasks.modeling.model_file import Model
from tasks.runtime.params import BadInput, Settings, Word, load

MODELS = Path("models")
BASELINE = "baseline"
# A model of that name would overwrite a file, or a column of predictions.csv.
RESERVED = {BASELINE, "index", "label"}


class VariantNames(Settings):
    """The names of the variants in section `train` of params.yaml."""

    model_config = ConfigDict(extra="ignore")

    variants: dict[Word, Any]


def networks() -> list[str]:
    """Return the names of the networks, in the order of params.yaml.

    Raises:
        BadInput: a name is invalid or reserved.
    """
    names = list(load("train", VariantNames).variants)
    for name in RESERVED.intersection(names):
        raise BadInput(f"`train.variants.{name}` has a reserved name. Choose another.")
    return names


def read() -> dict[str, Model]:
    """Return every model by name, the baseline first.

    Raises:
        BadInput: a file is not a model, or the models differ in inputs or classes.
    """
    names = [BASELINE, *networks()]
    trained = {name: model_file.load(MODELS / f"{name}.safetensors") for name in names}
    signatures = {(m.description.form, m.description.classes) for m in trained.values()}
    if len(signatures) > 1:
        raise BadInput(
            f"The models in {MODELS} are for different images or classes. Train them "
            "again."
        )
    return trained
