"""Train one network of the lesson by stochastic gradient descent.

Reads `data/normalized/` and writes, under `models/`, `NAME.safetensors` and its history
`NAME.loss.csv` (loss of every batch, in nats) and `NAME.accuracy.csv` (on training and
validation images, after every epoch). NAME is a key of `train.variants` in params.yaml.

Longer trainings keep a checkpoint after every epoch, in `.checkpoints/`: an interrupted
one goes on from there and ends with the same weights.
"""

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import torch
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    model_validator,
)
from torch import nn
from tqdm import tqdm

from tasks.dataset import splits
from tasks.dataset.splits import Facts, Split
from tasks.modeling import devices, model_file
from tasks.modeling.architectures import Architecture
from tasks.modeling.devices import Device
from tasks.modeling.model_file import Description, Model, are_weights, calibrated
from tasks.runtime import cli, files
from tasks.runtime.params import BadInput, Count, Parameters, Settings, Word, load
from tasks.training import checkpoints, lr_schedule, networks, optimizers
from tasks.training.augmentation import Shifts
from tasks.training.loop import Data, Training
from tasks.training.losses import METHODS, Method
from tasks.training.lr_schedule import Schedule
from tasks.training.networks import Layer
from tasks.training.optimizers import ADAMS, Rule

NORMALIZED = Path("data/normalized")
MODELS = Path("models")
CHECKPOINTS = Path(".checkpoints")


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


class Recipe(Variant):
    """A variant in which nothing is left open."""

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
    device: Device
    variants: dict[Word, Variant] = Field(min_length=1)

    def recipe(self, name: str) -> Recipe:
        """Return a variant, with what it leaves open filled in."""
        own = self.variants[name].model_dump(exclude_none=True)
        return Recipe(**{"epochs": self.epochs, "batch_size": self.batch_size, **own})


class Diverged(BadInput):
    """The weights grew beyond what can be computed with."""


def train(
    train_split: Split,
    valid_split: Split,
    facts: Facts,
    settings: Train,
    name: str,
    checkpoint: Path | None = None,
    *,
    progress: bool = True,
) -> tuple[Model, Training]:
    """Train the variant `name` and return it, and how it went.

    Args:
        train_split: what to train on.
        valid_split: what to measure the accuracy on, besides.
        facts: on the data.
        settings: of the step.
        name: a key of `settings.variants`.
        checkpoint: the file to keep a checkpoint in; it is removed at the end.
        progress: whether to show a progress bar.

    Raises:
        Diverged: the weights grew beyond what can be computed with.
        BadInput: the images are too small for the architecture.
    """
    device = devices.choose(settings.device, "train")
    recipe = settings.recipe(name)
    data, held_out = (
        Data(part.images, part.labels.astype(np.int64), facts.scale, device)
        for part in (train_split, valid_split)
    )
    parameters = {"seed": settings.seed, **recipe.model_dump()}
    training = _begin(settings.seed, recipe, data, len(facts.classes))
    if recipe.epochs == 1:
        checkpoint = None
    mark = ""
    if checkpoint:
        made_from = {**parameters, "device": device.type}
        mark = checkpoints.fingerprint(made_from, *train_split)
        kept = checkpoints.load(checkpoint, mark)
        if kept and training.fits(kept):
            training.restore(kept)
    done = len(training.accuracy)
    epochs = range(done, recipe.epochs)
    for _ in tqdm(
        epochs,
        name,
        recipe.epochs,
        initial=done,
        unit="epoch",
        delay=1,
        disable=not progress,
    ):
        training.epoch(data, held_out, recipe.batch_size)
        if checkpoint:
            checkpoints.save(checkpoint, mark, training.state())
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    model = _model(training.network, facts, recipe.architecture, parameters)
    if not are_weights(model):
        raise Diverged(
            f"The training of `{name}` diverged, so it is not kept; make its "
            "`learning_rate` in params.yaml smaller."
        )
    return calibrated(model, valid_split), training


def _begin(seed: int, recipe: Recipe, data: Data, classes: int) -> Training:
    """Return a training with fresh parameters."""
    # Of three generators: every variant sees the same batches, whatever it drew at
    # first, and whether it moves the images or not.
    initial, order, moves = (
        torch.Generator().manual_seed(int(number))
        for number in np.random.SeedSequence(seed).generate_state(3)
    )
    network = networks.build(
        recipe.architecture, recipe.layer, data.shape, classes, initial
    ).to(data.device)
    update = optimizers.build(
        recipe.update,
        network.parameters(),
        recipe.learning_rate,
        recipe.momentum,
        recipe.weight_decay,
    )
    total = recipe.epochs * data.batches(recipe.batch_size)
    cycle = partial(lr_schedule.one_cycle, total=total, highest=recipe.learning_rate)
    return Training(
        network,
        METHODS[recipe.gradient],
        update,
        order,
        rate=cycle if recipe.schedule == "one_cycle" else None,
        shifts=Shifts(recipe.shift, data.shape, moves) if recipe.shift else None,
    )


def _model(
    network: nn.Module,
    facts: Facts,
    architecture: Architecture,
    parameters: Parameters,
) -> Model:
    """Return what is saved of `network`."""
    return Model(
        tensors={name: one.numpy() for name, one in networks.tensors(network).items()},
        description=Description(
            **dict(facts),
            architecture=architecture,
            link="softmax",
            parameters=parameters,
        ),
    )


def _write(name: str, model: Model, training: Training) -> None:
    """Write the model last: where it stands, its history does."""
    rows = (f"{number},{loss:.9g}\n" for number, loss in enumerate(training.loss))
    files.write_text(MODELS / f"{name}.loss.csv", "batch,loss\n" + "".join(rows))
    rows = (
        f"{number},{train:.6f},{valid:.6f}\n"
        for number, (train, valid) in enumerate(training.accuracy.tolist(), start=1)
    )
    files.write_text(
        MODELS / f"{name}.accuracy.csv", "epoch,train,valid\n" + "".join(rows)
    )
    model_file.save(model, MODELS / f"{name}.safetensors")


def main() -> None:
    """Run the step on the project's folders."""
    parser = cli.parser(__doc__)
    parser.add_argument("name", metavar="NAME", help="a key of `train.variants`")
    name = parser.parse_args().name
    settings = load("train", Train)
    if name not in settings.variants:
        raise BadInput(
            f"`train.variants` in params.yaml has no {name!r}; it has "
            f"{', '.join(settings.variants)}."
        )
    parts = splits.load(NORMALIZED, "train"), splits.load(NORMALIZED, "valid")
    facts = splits.load_facts(NORMALIZED)
    started = time.perf_counter()
    model, training = train(*parts, facts, settings, name, CHECKPOINTS / name)
    seconds = time.perf_counter() - started
    _write(name, model, training)
    images = settings.recipe(name).epochs * len(parts[0].labels)
    print(
        f"{name}: accuracy {training.accuracy[-1, 1]:.4f} in validation, loss "
        f"{training.loss[0]:.4f} at first; {seconds:.1f} s, "
        f"{images / seconds:,.0f} images/s"
    )


if __name__ == "__main__":
    cli.run(main)
