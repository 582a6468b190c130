"""The models to compare: the baseline, and every network of params.yaml."""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from tasks import models
from tasks.models import Model
from tasks.settings import Settings, load

MODELS = Path("models")
BASELINE = "baseline"


class Trained(Settings):
    """What matters here of section `train` of params.yaml: which networks there are."""

    model_config = ConfigDict(extra="ignore")

    variants: dict[str, Any]


def networks() -> list[str]:
    """Return the names of the networks, as params.yaml orders them."""
    return list(load("train", Trained).variants)


def read() -> dict[str, Model]:
    """Return every model by name, the baseline first.

    Raises:
        BadInput: a file is not a model.
        FileNotFoundError: one has not been trained yet.
    """
    names = [BASELINE, *networks()]
    return {name: models.load(MODELS / f"{name}.safetensors") for name in names}
