"""Section `train` of params.yaml: the settings of every network.

This module does not import torch, so commands that only read settings start fast.
"""

from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from tasks.modeling.architectures import Architecture
from tasks.modeling.devices import Device
from tasks.runtime.params import BadInput, Count, Settings, Word

Layer = Literal["sequential", "scratch"]
Method = Literal["autograd", "analytic"]
Rule = Literal["adam", "sgd", "manual", "manual_adam"]
ADAMS = frozenset({"adam", "manual_adam"})


class Variant(Settings):
    """One entry of `train.variants`: see the comments in params.yaml.

    Attributes:
        learning_rate: the highest one, if it follows a schedule.
        shift: the largest random shift of the training images, in pixels.
        epochs, batch_size: None: the values of the section.
    """

    architecture: Architecture = "linear"
    layer: Layer
    gradient: Method = "autograd"
    update: Rule
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0
    weight_decay: NonNegativeFloat = 0
    schedule: Literal["constant", "one_cycle"] = "constant"
    shift: Annotated[int, Field(ge=0, le=4)] = 0
    epochs: Count | None = None
    batch_size: Count | None = None

    @pydantic.model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        if self.architecture != "linear" and self.layer != "sequential":
            raise ValueError(
                f"the architecture '{self.architecture}' needs the layer 'sequential'"
            )
        if self.gradient == "analytic" and self.layer != "scratch":
            raise ValueError("the analytic gradient needs the layer 'scratch'")
        if self.momentum and self.update in ADAMS:
            raise ValueError(f"the update '{self.update}' has a momentum of its own")
        return self


class ResolvedVariant(Variant):
    """A variant with epochs and batch size filled in from the section."""

    epochs: Count
    batch_size: Count


class Train(Settings):
    """Section `train` of params.yaml.

    Attributes:
        seed: determines the initial parameters and the order of the images.
        batch_size: images per step; the last batch of an epoch may be smaller.
        device: `auto` is CUDA if it is available.
    """

    seed: NonNegativeInt
    epochs: Count
    batch_size: Count
    device: Device
    variants: dict[Word, Variant] = Field(min_length=1)

    def resolve(self, name: str) -> ResolvedVariant:
        """Return the variant `name`, or raise BadInput if there is none."""
        if name not in self.variants:
            raise BadInput(
                f"`train.variants` in params.yaml has no {name!r}; it has "
                f"{', '.join(self.variants)}."
            )
        own = self.variants[name].model_dump(exclude_none=True)
        return ResolvedVariant(
            **{"epochs": self.epochs, "batch_size": self.batch_size, **own}
        )
