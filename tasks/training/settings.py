"""Section `train` of params.yaml: the settings of every network.

It does not import torch, so a command that only reads the settings starts fast.
"""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    model_validator,
)

from tasks.modeling.architectures import Architecture
from tasks.runtime.params import Count, Settings, Word

Layer = Literal["sequential", "scratch"]
Method = Literal["autograd", "analytic"]
Rule = Literal["adam", "sgd", "manual", "manual_adam"]
Schedule = Literal["constant", "one_cycle"]

# The updates that have a momentum of their own, which is not a setting.
ADAMS = frozenset({"adam", "manual_adam"})


class Variant(Settings):
    """One entry of `train.variants`.

    Attributes:
        architecture: `linear` (one layer), `mlp` or `cnn`: see
            `tasks.modeling.architectures`.
        layer: `sequential` (torch's parts) or `scratch` (written by hand).
        gradient: by `autograd`, or `analytic`, by a formula (of the layer `scratch`).
        update: `adam` or `sgd` (torch's optimizers), `manual` (SGD by hand) or
            `manual_adam`.
        learning_rate: of the update; the highest one, if it follows a schedule.
        momentum: of SGD: see `tasks.training.optimizers.Manual`.
        weight_decay: what the gradient has added, times the parameter.
        schedule: of the learning rate: see `tasks.training.lr_schedule`.
        shift: pixels that images are moved by, at most, while they are trained on.
        epochs, batch_size: of this variant; None: those of the section.
    """

    architecture: Architecture = "linear"
    layer: Layer
    gradient: Method = "autograd"
    update: Rule
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0
    weight_decay: NonNegativeFloat = 0
    schedule: Schedule = "constant"
    shift: Annotated[int, Field(ge=0, le=4)] = 0
    epochs: Count | None = None
    batch_size: Count | None = None

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        if self.architecture != "linear" and self.layer != "sequential":
            raise ValueError(
                f"the architecture '{self.architecture}' is of the layer 'sequential' "
                "alone"
            )
        if self.gradient == "analytic" and self.layer != "scratch":
            raise ValueError("the analytic gradient is of the layer 'scratch' alone")
        if self.momentum and self.update in ADAMS:
            raise ValueError(f"the update '{self.update}' has a momentum of its own")
        return self


class ResolvedVariant(Variant):
    """A variant with its epochs and its batch size."""

    epochs: Count
    batch_size: Count


class Train(Settings):
    """Section `train` of params.yaml.

    Attributes:
        seed: of the initial parameters and of the order of the images.
        epochs: passes over the training images, of variants that name none.
        batch_size: images per update, likewise; the last batch of an epoch may be
            smaller.
        device: `auto` takes CUDA where there is any.
        variants: the networks, by name.
    """

    seed: NonNegativeInt
    epochs: Count
    batch_size: Count
    device: Literal["auto", "cpu", "cuda"]
    variants: dict[Word, Variant] = Field(min_length=1)

    def resolve(self, name: str) -> ResolvedVariant:
        """Return a variant with the section's defaults filled in."""
        own = self.variants[name].model_dump(exclude_none=True)
        return ResolvedVariant(
            **{"epochs": self.epochs, "batch_size": self.batch_size, **own}
        )
