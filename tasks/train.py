"""Train one network by stochastic gradient descent.

Reads `data/normalized/` and writes, under `models/`, `NAME.safetensors` and the
training's history: `NAME.loss.csv` (loss of every batch, in nats) and
`NAME.accuracy.csv` (on training and validation images, after every epoch). NAME is a
key of `train.variants` in params.yaml.

Trainings of several epochs save a checkpoint after each, in `.checkpoints/`. An
interrupted training continues from there and ends with the same weights.
"""

import time
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tasks.dataset import splits
from tasks.dataset.splits import Facts, Split
from tasks.modeling import devices, model_file
from tasks.modeling.model_file import Description, Model
from tasks.runtime import cli, files
from tasks.runtime.params import BadInput, load
from tasks.training import networks
from tasks.training.checkpoints import Checkpoint
from tasks.training.loop import Data, Training, start
from tasks.training.settings import Train

NORMALIZED = Path("data/normalized")
MODELS = Path("models")
CHECKPOINTS = Path(".checkpoints")


class Diverged(BadInput):
    """The weights are not finite, or too large to compute with."""


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
    """Train the variant `name`, and return the model and its training.

    The validation images measure the accuracy and calibrate the probabilities. The
    checkpoint at the path `checkpoint` is removed at the end.

    Raises:
        Diverged: the weights are not finite, or too large to compute with.
        BadInput: the images are too small for the architecture.
    """
    device = devices.choose(settings.device, "train")
    variant = settings.resolve(name)
    parameters = {"seed": settings.seed, **variant.model_dump()}
    data, valid = (
        Data(split.images, split.labels.astype(np.int64), facts.scale, device)
        for split in (train_split, valid_split)
    )
    training = start(settings.seed, variant, data, len(facts.classes))
    saved = Checkpoint(
        checkpoint if variant.epochs > 1 else None,
        {**parameters, "device": device.type},
        *train_split,
    )
    training.restore(saved.load())
    done, epochs = len(training.accuracy), variant.epochs
    bar = partial(tqdm, desc=name, total=epochs, initial=done, unit="epoch", delay=1)
    for _ in bar(range(done, epochs), disable=not progress):
        training.epoch(data, valid, variant.batch_size)
        saved.save(training.state())
    saved.remove()
    tensors = networks.tensors(training.network)
    model = Model(
        tensors={name: tensor.numpy() for name, tensor in tensors.items()},
        description=Description(
            **dict(facts),
            architecture=variant.architecture,
            link="softmax",
            parameters=parameters,
        ),
    )
    if not model_file.are_weights(model):
        raise Diverged(
            f"The training of `{name}` diverged and its model was discarded; make "
            "its `learning_rate` in params.yaml smaller."
        )
    return model_file.calibrated(model, valid_split), training


def _write(name: str, model: Model, training: Training) -> None:
    """Write the history, then the model: a model never lacks its history."""
    loss = (f"{batch},{loss:.9g}\n" for batch, loss in enumerate(training.loss))
    accuracy = (
        f"{epoch},{train:.6f},{valid:.6f}\n"
        for epoch, (train, valid) in enumerate(training.accuracy.tolist(), start=1)
    )
    files.write_text(MODELS / f"{name}.loss.csv", "batch,loss\n" + "".join(loss))
    files.write_text(
        MODELS / f"{name}.accuracy.csv", "epoch,train,valid\n" + "".join(accuracy)
    )
    model_file.save(model, MODELS / f"{name}.safetensors")


def main() -> None:
    """Run the step on the project's folders."""
    parser = cli.parser(__doc__)
    parser.add_argument("name", metavar="NAME", help="a key of `train.variants`")
    name = parser.parse_args().name
    settings = load("train", Train)
    epochs = settings.resolve(name).epochs
    train_split = splits.load(NORMALIZED, "train")
    valid_split = splits.load(NORMALIZED, "valid")
    facts = splits.load_facts(NORMALIZED)
    started = time.perf_counter()
    model, training = train(
        train_split, valid_split, facts, settings, name, CHECKPOINTS / name
    )
    seconds = time.perf_counter() - started
    _write(name, model, training)
    images = epochs * len(train_split.labels)
    print(
        f"{name}: accuracy {training.accuracy[-1, 1]:.4f} in validation, first loss "
        f"{training.loss[0]:.4f}; {seconds:.1f} s, {images / seconds:,.0f} images/s"
    )


if __name__ == "__main__":
    cli.run(main)
