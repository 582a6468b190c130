"""The dataset card: the facts on the data set that `dataset` in params.yaml names.

`datasets/NAME.yaml` has a section for every step that is given any of them, and the
section `images`, which says what the images are (`tasks.dataset.spec.DatasetSpec`). No
other file knows a size, a number of classes, or a hash.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, RootModel

from tasks.runtime.params import BadInput, Settings, Word, load

FOLDER = Path("datasets")


class Dataset(RootModel[Word]):
    """`dataset` of params.yaml: the name of a dataset card."""


class ReportedResults(Settings):
    """Section `report` of the dataset card: what others found on the same data.

    Attributes:
        loss: in nats, after training, by what it is.
        accuracy: in validation, by what it is.
        suspicious: an accuracy on the test set that no linear model has unless it saw
            the test images; None where nothing is known.
    """

    loss: dict[str, float]
    accuracy: dict[str, float]
    suspicious: Annotated[float, Field(ge=0, le=1)] | None


def selected() -> Path:
    """Return the path of the dataset card that params.yaml names.

    Raises:
        BadInput: there is none of that name.
    """
    name = load("dataset", Dataset).root
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(card.stem for card in FOLDER.glob("*.yaml")))
        raise BadInput(
            f"`dataset` in params.yaml is {name}, but there is no {path}; take one of "
            f"{known or 'none'}, or write it with `python -m flows.new_dataset FOLDER`."
        )
    return path
