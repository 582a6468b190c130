"""The dataset card: the facts on the data set that `dataset` in params.yaml names.

`datasets/NAME.yaml` has a section for every step that needs such facts, and the section
`images`, which describes the images (`tasks.dataset.spec.DatasetSpec`). Sizes, numbers
of classes and hashes are written in no other file.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, RootModel

from tasks.runtime.params import BadInput, Settings, Word, load

FOLDER = Path("datasets")


class Dataset(RootModel[Word]):
    """`dataset` of params.yaml: the name of a dataset card."""


class ReportedResults(Settings):
    """Section `report` of the dataset card: results that others published.

    Attributes:
        loss: in nats, after training, by a description of the model.
        accuracy: on validation data, by a description of the model.
        suspicious: a test accuracy that a linear model reaches only if it was trained
            on the test images; None: unknown.
    """

    loss: dict[str, float]
    accuracy: dict[str, float]
    suspicious: Annotated[float, Field(ge=0, le=1)] | None


def selected() -> Path:
    """Return the path of the dataset card that params.yaml names."""
    name = load("dataset", Dataset).root
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(card.stem for card in FOLDER.glob("*.yaml")))
        raise BadInput(
            f"`dataset` in params.yaml is {name}, but {path} is missing; choose one of "
            f"{known or 'none'}, or write it with `python -m flows.new_dataset FOLDER`."
        )
    return path
