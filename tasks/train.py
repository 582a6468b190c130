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

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from tasks.dataset import splits
from tasks.dataset.splits import Facts, Split
from tasks.modeling import devices, model_file
from tasks.modeling.architectures import Architecture
from tasks.modeling.model_file import Description, Model, are_weights, calibrated
from tasks.runtime import cli, files
from tasks.runtime.params import BadInput, Parameters, load
from tasks.training import checkpoints, lr_schedule, networks, optimizers
from tasks.training.augmentation import Shifts
from tasks.training.loop import Data, Training
from tasks.training.losses import METHODS
from tasks.training.settings import ResolvedVariant, Train

NORMALIZED = Path("data/normalized")
MODELS = Path("models")
CHECKPOINTS = Path(".checkpoints")


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
    variant = settings.resolve(name)
    data, held_out = (
        Data(part.images, part.labels.astype(np.int64), facts.scale, device)
        for part in (train_split, valid_split)
    )
    parameters = {"seed": settings.seed, **variant.model_dump()}
    training = _begin(settings.seed, variant, data, len(facts.classes))
    if variant.epochs == 1:
        checkpoint = None
    fingerprint = ""
    if checkpoint:
        made_from = {**parameters, "device": device.type}
        fingerprint = checkpoints.fingerprint(made_from, *train_split)
        saved = checkpoints.load(checkpoint, fingerprint)
        if saved and training.fits(saved):
            training.restore(saved)
    done = len(training.accuracy)
    epochs = range(done, variant.epochs)
    for _ in tqdm(
        epochs,
        name,
        variant.epochs,
        initial=done,
        unit="epoch",
        delay=1,
        disable=not progress,
    ):
        training.epoch(data, held_out, variant.batch_size)
        if checkpoint:
            checkpoints.save(checkpoint, fingerprint, training.state())
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    model = _model(training.network, facts, variant.architecture, parameters)
    if not are_weights(model):
        raise Diverged(
            f"The training of `{name}` diverged, so it is not kept; make its "
            "`learning_rate` in params.yaml smaller."
        )
    return calibrated(model, valid_split), training


def _begin(seed: int, variant: ResolvedVariant, data: Data, n_classes: int) -> Training:
    """Return a training with fresh parameters."""
    # Of three generators: every variant sees the same batches, whatever it drew at
    # first, and whether it moves the images or not.
    initial, order, moves = (
        torch.Generator().manual_seed(int(number))
        for number in np.random.SeedSequence(seed).generate_state(3)
    )
    network = networks.build(
        variant.architecture, variant.layer, data.shape, n_classes, initial
    ).to(data.device)
    update = optimizers.build(
        variant.update,
        network.parameters(),
        variant.learning_rate,
        variant.momentum,
        variant.weight_decay,
    )
    total = variant.epochs * data.batches(variant.batch_size)
    cycle = partial(lr_schedule.one_cycle, total=total, highest=variant.learning_rate)
    return Training(
        network,
        METHODS[variant.gradient],
        update,
        order,
        rate=cycle if variant.schedule == "one_cycle" else None,
        shifts=Shifts(variant.shift, data.shape, moves) if variant.shift else None,
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
    images = settings.resolve(name).epochs * len(parts[0].labels)
    print(
        f"{name}: accuracy {training.accuracy[-1, 1]:.4f} in validation, loss "
        f"{training.loss[0]:.4f} at first; {seconds:.1f} s, "
        f"{images / seconds:,.0f} images/s"
    )


if __name__ == "__main__":
    cli.run(main)
