"""Train one network of the lesson by stochastic gradient descent.

Reads `data/normalized/` and writes, under `models/`, `NAME.safetensors` and its history
`NAME.loss.csv` (loss of every batch, in nats) and `NAME.accuracy.csv` (on training and
validation images, after every epoch). NAME is a key of `train.variants` in params.yaml.

Longer trainings keep a checkpoint after every epoch, in `.checkpoints/`: an interrupted
one goes on from there and ends with the same weights.
"""

import time
from pathlib import Path
from typing import Self

import numpy as np
import torch
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    model_validator,
)
from tqdm import tqdm

from tasks import (
    checkpoints,
    command,
    devices,
    files,
    models,
    networks,
    splits,
    updates,
)
from tasks.devices import Device
from tasks.gradients import METHODS, Method
from tasks.models import Description, Model, are_weights, calibrated
from tasks.networks import Layer
from tasks.settings import BadInput, Count, Settings, Word, load
from tasks.splits import Facts, Split
from tasks.training import Data, Training
from tasks.updates import Rule

NORMALIZED = Path("data/normalized")
MODELS = Path("models")
CHECKPOINTS = Path(".checkpoints")


class Variant(Settings):
    """One entry of `train.variants`.

    Attributes:
        layer: `sequential` (torch's parts) or `scratch` (written by hand).
        gradient: by `autograd`, or `analytic`, by a formula (of the layer `scratch`).
        update: `adam` or `sgd` (torch's optimizers), or `manual`.
        learning_rate: of the update.
    """

    layer: Layer
    gradient: Method = "autograd"
    update: Rule
    learning_rate: PositiveFloat

    @model_validator(mode="after")
    def _gradient_is_of_the_layer(self) -> Self:
        if self.gradient == "analytic" and self.layer != "scratch":
            raise ValueError("the analytic gradient is of the layer 'scratch' alone")
        return self


class Train(Settings):
    """Section `train` of params.yaml.

    Attributes:
        seed: of the initial parameters and of the order of the images.
        epochs: passes over the training images.
        batch_size: images per update; the last batch of an epoch may be smaller.
        device: `auto` takes CUDA where there is any.
        variants: the networks, by name.
    """

    seed: NonNegativeInt
    epochs: Count
    batch_size: Count
    device: Device
    variants: dict[Word, Variant] = Field(min_length=1)


def train(
    train_split: Split,
    valid_split: Split,
    facts: Facts,
    settings: Train,
    name: str,
    checkpoint: Path | None = None,
) -> tuple[Model, Training]:
    """Train the variant `name` and return it, and how it went.

    Args:
        train_split: what to train on.
        valid_split: what to measure the accuracy on, besides.
        facts: on the data.
        settings: of the step.
        name: a key of `settings.variants`.
        checkpoint: the file to keep a checkpoint in; it is removed at the end.

    Raises:
        BadInput: the weights grew beyond what can be computed with.
    """
    device = devices.choose(settings.device, "train")
    variant = settings.variants[name]
    data, held_out = (
        Data(part.images, part.labels.astype(np.int64), facts.scale, device)
        for part in (train_split, valid_split)
    )
    parameters = {
        **settings.model_dump(exclude={"variants", "device"}),
        **variant.model_dump(),
    }
    training = _begin(
        settings.seed, variant, train_split.images[0].size, len(facts.classes), device
    )
    if settings.epochs == 1:
        checkpoint = None
    mark = ""
    if checkpoint:
        made_from = {**parameters, "device": device.type}
        mark = checkpoints.fingerprint(made_from, *train_split)
        kept = checkpoints.load(checkpoint, mark)
        if kept and training.fits(kept):
            training.restore(kept)
    done = len(training.accuracy)
    epochs = range(done, settings.epochs)
    for _ in tqdm(epochs, name, settings.epochs, initial=done, unit="epoch", delay=1):
        training.epoch(data, held_out, settings.batch_size)
        if checkpoint:
            checkpoints.save(checkpoint, mark, training.state())
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    description = Description(**dict(facts), link="softmax", parameters=parameters)
    weights, bias = (c.numpy() for c in networks.coefficients(training.network))
    model = Model(tensors={"weights": weights, "bias": bias}, description=description)
    if not are_weights(model):
        raise BadInput(
            f"The training of `{name}` diverged, so it is not kept; make its "
            "`learning_rate` in params.yaml smaller."
        )
    return calibrated(model, valid_split), training


def _begin(
    seed: int, variant: Variant, inputs: int, classes: int, device: torch.device
) -> Training:
    """Return a training with fresh parameters."""
    # Of two generators: every variant sees the same batches, whatever it drew at first.
    initial, order = (
        torch.Generator().manual_seed(int(number))
        for number in np.random.SeedSequence(seed).generate_state(2)
    )
    network = networks.build(variant.layer, inputs, classes, initial).to(device)
    update = updates.build(variant.update, network.parameters(), variant.learning_rate)
    return Training(network, METHODS[variant.gradient], update, order)


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
    models.save(model, MODELS / f"{name}.safetensors")


def main() -> None:
    """Run the step on the project's folders."""
    parser = command.parser(__doc__)
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
    images = settings.epochs * len(parts[0].labels)
    print(
        f"{name}: accuracy {training.accuracy[-1, 1]:.4f} in validation, loss "
        f"{training.loss[0]:.4f} at first; {seconds:.1f} s, "
        f"{images / seconds:,.0f} images/s"
    )


if __name__ == "__main__":
    command.run(main)
