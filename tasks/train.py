"""Train one network of the lesson by stochastic gradient descent.

Reads `data/normalized/` and writes, under `models/`, `NAME.safetensors` and its history
`NAME.loss.csv` (loss of every batch, in nats) and `NAME.accuracy.csv` (on training and
validation images, after every epoch). NAME is a key of `train.variants` in params.yaml.

Longer trainings keep a checkpoint after every epoch, in `.checkpoints/`: an interrupted
one goes on from there and ends with the same weights.
"""

import time
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from tqdm import tqdm

from tasks import checkpoints, command, files, models, networks, splits, updates
from tasks.models import Description, Model
from tasks.networks import Layer
from tasks.settings import BadInput, Settings, load
from tasks.splits import Pixels, Scale, Split
from tasks.updates import Rule, Update

NORMALIZED = Path("data/normalized")
MODELS = Path("models")
CHECKPOINTS = Path(".checkpoints")


class Variant(Settings):
    """One entry of `train.variants`.

    Attributes:
        layer: `sequential` (torch's parts) or `scratch` (written by hand).
        update: `adam` or `sgd` (torch's optimizers), or `manual`.
        learning_rate: of the update.
    """

    layer: Layer
    update: Rule
    learning_rate: PositiveFloat


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
    epochs: PositiveInt
    batch_size: PositiveInt
    device: Literal["auto", "cpu", "cuda"]
    variants: dict[str, Variant] = Field(min_length=1)


class Data(NamedTuple):
    """One split on the device: inputs float32 (N, inputs), classes int64 (N,)."""

    inputs: Tensor
    labels: Tensor


class History(NamedTuple):
    """Loss of each batch, (batches,); accuracy on train and validation, (epochs, 2)."""

    loss: Tensor
    accuracy: Tensor


class Training:
    """A training between two epochs: all that the next epoch depends on.

    Args:
        settings: of the step.
        variant: what to train.
        inputs: number of inputs of the network.
        classes: number of classes.
        device: where to train.
    """

    def __init__(
        self,
        settings: Train,
        variant: Variant,
        inputs: int,
        classes: int,
        device: torch.device,
    ) -> None:
        # Of two generators: every variant sees the same batches, whatever it drew first.
        initial, order = np.random.SeedSequence(settings.seed).generate_state(2)
        first = torch.Generator().manual_seed(int(initial))
        self.network = networks.build(variant.layer, inputs, classes, first).to(device)
        self.update = updates.build(
            variant.update, self.network.parameters(), variant.learning_rate
        )
        self.order = torch.Generator().manual_seed(int(order))
        self.history = History(torch.empty(0), torch.empty(0, 2))

    def state(self) -> checkpoints.Tensors:
        """Return everything that changes from epoch to epoch."""
        return {
            **{f"network.{k}": v for k, v in self.network.state_dict().items()},
            **checkpoints.flatten(self.update.state_dict()),
            "order": self.order.get_state(),
            "loss": self.history.loss,
            "accuracy": self.history.accuracy,
        }

    def restore(self, state: checkpoints.Tensors) -> None:
        """Go back to what `state` returned."""
        self.network.load_state_dict(
            {k: state[f"network.{k}"] for k in self.network.state_dict()}
        )
        self.update.load_state_dict(
            checkpoints.unflatten(state, self.update.state_dict())
        )
        self.order.set_state(state["order"])
        self.history = History(state["loss"], state["accuracy"])


def train(
    train_split: Split,
    valid_split: Split,
    scale: Scale,
    settings: Train,
    name: str,
    checkpoint: Path | None = None,
) -> tuple[Model, History]:
    """Train the variant `name` and return it with its history.

    Args:
        train_split: what to train on.
        valid_split: what to measure the accuracy on, besides.
        scale: of the pixels.
        settings: of the step.
        name: a key of `settings.variants`.
        checkpoint: the file to keep a checkpoint in; it is removed at the end.
    """
    device = choose_device(settings.device)
    variant = settings.variants[name]
    classes = np.unique(train_split.labels)
    data, held_out = (
        _on(device, part, scale, classes) for part in (train_split, valid_split)
    )
    training = Training(settings, variant, data.inputs.shape[1], len(classes), device)
    parameters = {
        **settings.model_dump(exclude={"variants", "device"}),
        **variant.model_dump(),
    }
    mark = checkpoints.fingerprint({**parameters, "device": device.type}, *train_split)
    if checkpoint and (kept := checkpoints.load(checkpoint, mark)):
        training.restore(kept)
    done = len(training.history.accuracy)
    for _ in tqdm(
        range(done, settings.epochs),
        initial=done,
        total=settings.epochs,
        desc=name,
        unit="epoch",
        delay=1,
    ):
        rows = torch.randperm(len(data.labels), generator=training.order).to(device)
        loss = epoch(training.network, training.update, data, rows, settings.batch_size)
        reached = [accuracy(training.network, part) for part in (data, held_out)]
        training.history = History(
            torch.cat([training.history.loss, loss.cpu()]),
            torch.cat([training.history.accuracy, torch.tensor([reached])]),
        )
        if checkpoint and settings.epochs > 1:
            checkpoints.save(checkpoint, mark, training.state())
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    weights, bias = networks.coefficients(training.network)
    description = Description(
        link="softmax",
        scale=scale,
        classes=tuple(int(label) for label in classes),
        parameters=parameters,
    )
    model = Model(weights=weights.numpy(), bias=bias.numpy(), description=description)
    return model, training.history


def epoch(
    network: nn.Module, update: Update, data: Data, rows: Tensor, batch_size: int
) -> Tensor:
    """Train on `data` once, in the order of `rows`, and return the loss of each batch."""
    batches = rows.split(batch_size)
    losses = torch.empty(len(batches), device=rows.device)
    for number, batch in enumerate(batches):
        scores = network(data.inputs.index_select(0, batch))
        loss = nn.functional.nll_loss(scores, data.labels.index_select(0, batch))
        loss.backward()
        update.step()
        update.zero_grad()
        losses[number] = loss.detach()
    return losses


@torch.no_grad()
def accuracy(network: nn.Module, data: Data) -> float:
    """Return the share of `data` that the network gives the right label."""
    right = (network(data.inputs).argmax(dim=1) == data.labels).sum()
    return float(right) / len(data.labels)


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device to train on.

    Raises:
        BadInput: CUDA was asked for and is not there.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise BadInput(
            "`train.device` is 'cuda', but torch finds no CUDA device; use 'auto' or "
            "'cpu'."
        )
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def _on(device: torch.device, split: Split, scale: Scale, classes: Pixels) -> Data:
    inputs = torch.from_numpy(scale.standardize(split.images))
    labels = torch.from_numpy(np.searchsorted(classes, split.labels))
    return Data(inputs.to(device), labels.to(device))


def _write(name: str, model: Model, history: History) -> None:
    """Write the model last: where it stands, its history does."""
    rows = (f"{number},{loss:.6f}\n" for number, loss in enumerate(history.loss))
    files.write_text(MODELS / f"{name}.loss.csv", "batch,loss\n" + "".join(rows))
    rows = (
        f"{number},{train:.6f},{valid:.6f}\n"
        for number, (train, valid) in enumerate(history.accuracy.tolist(), start=1)
    )
    files.write_text(MODELS / f"{name}.accuracy.csv", "epoch,train,valid\n" + "".join(rows))
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
    scale = splits.load_scale(NORMALIZED)
    started = time.perf_counter()
    model, history = train(*parts, scale, settings, name, CHECKPOINTS / name)
    seconds = time.perf_counter() - started
    _write(name, model, history)
    images = settings.epochs * len(parts[0].labels)
    print(
        f"{name}: accuracy {history.accuracy[-1, 1]:.4f} in validation, loss "
        f"{history.loss[0]:.4f} at first; {seconds:.1f} s, {images / seconds:,.0f} images/s"
    )


if __name__ == "__main__":
    command.run(main)
