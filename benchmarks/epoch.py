"""Time one epoch of MNIST: our variants, their floor, and a textbook's loop.

50,000 images, batches of 64, one thread. The floor only gathers each batch and
computes the two matrix products. All contenders must end with the textbook's weights,
to 1e-5, which shows that all do the same work. `python benchmarks/epoch.py [ROUNDS]`.
"""

import sys
from collections.abc import Callable

import frameworks
import measure
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(measure.ROOT))

from tasks.dataset import splits
from tasks.modeling import devices
from tasks.runtime import cli
from tasks.runtime.params import load
from tasks.training import networks
from tasks.training.loop import Data, Training
from tasks.training.losses import METHODS
from tasks.training.optimizers import Optimizer
from tasks.training.settings import Layer, Train, Variant

BATCH_SIZE = 64
SEED = 0


def networks_from(layer: Layer, inputs: int) -> nn.Module:
    """Return a network with the initial parameters that all contenders share."""
    generator = torch.Generator().manual_seed(SEED)
    return networks.build("linear", layer, (1, inputs), 10, generator)


def ours(
    data: Data, variant: Variant, inputs: int, device: torch.device
) -> Callable[[], torch.Tensor]:
    """Return an epoch of one variant of params.yaml; it returns the weights."""

    def epoch() -> torch.Tensor:
        network = networks_from(variant.layer, inputs).to(device)
        optimizer = Optimizer(
            variant.update, list(network.parameters()), variant.learning_rate
        )
        order = torch.Generator().manual_seed(SEED)
        training = Training(network, METHODS[variant.gradient], optimizer, order)
        training.descend(data, BATCH_SIZE)
        return networks.tensors(network)["weights"]

    return epoch


def textbook(
    x: torch.Tensor, y: torch.Tensor, variant: Variant
) -> Callable[[], torch.Tensor]:
    """Return an epoch of a textbook's loop: DataLoader, autograd, torch.optim."""
    dataset = TensorDataset(x, y)

    def epoch() -> torch.Tensor:
        network = networks_from(variant.layer, x.shape[1])
        if variant.layer == "scratch":
            network = Lesson(**networks.tensors(network))
        rule = torch.optim.Adam if variant.update == "adam" else torch.optim.SGD
        optimizer = rule(network.parameters(), lr=variant.learning_rate)
        loss_function = nn.NLLLoss()
        rows = torch.randperm(len(y), generator=torch.Generator().manual_seed(SEED))
        losses = []
        for inputs, classes in DataLoader(dataset, BATCH_SIZE, sampler=rows.tolist()):
            optimizer.zero_grad()
            loss = loss_function(network(inputs), classes)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if isinstance(network, Lesson):
            return network.weights.detach()
        return networks.tensors(network)["weights"]

    return epoch


class Lesson(nn.Module):
    """The lesson's layer from scratch, with the log-softmax corrected."""

    def __init__(self, weights: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights.contiguous())
        self.bias = nn.Parameter(bias.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities."""
        x = x @ self.weights + self.bias
        x = x - x.max(dim=1, keepdim=True).values
        return x - torch.log(torch.exp(x).sum(dim=1, keepdim=True))


def floor(x: torch.Tensor) -> Callable[[], None]:
    """Return an epoch that only gathers batches and multiplies matrices."""
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(SEED))
    weights, slopes = torch.randn(x.shape[1], 10), torch.randn(BATCH_SIZE, 10)

    def epoch() -> None:
        for batch in rows.split(BATCH_SIZE):
            inputs = x.index_select(0, batch)
            inputs @ weights
            inputs.t() @ slopes[: len(inputs)]

    return epoch


def main() -> None:
    """Measure, compare the weights, and write the results."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    cli.limit_threads()
    folder = measure.ROOT / "data" / "normalized"
    settings = load("train", Train, measure.ROOT / "params.yaml")
    device = devices.choose(settings.device, "train")
    split, scale = splits.load(folder, "train"), splits.load_facts(folder).scale
    labels = split.labels.astype(np.int64)
    data = Data(np.array(split.images), labels, scale, device)
    x, y = torch.from_numpy(scale.standardize(split.images)), torch.from_numpy(labels)

    contenders: dict[str, Callable[[], torch.Tensor | None]] = {"floor": floor(x)}
    loops: dict[str, str] = {}
    for name, variant in settings.variants.items():
        contenders[name] = ours(data, variant, x.shape[1], device)
        loops[name] = f"textbook {variant.layer} {variant.update}".replace(
            "manual", "sgd"
        )
        contenders.setdefault(loops[name], textbook(x, y, variant))
    for name, loop in loops.items():
        one, other = contenders[name](), contenders[loop]()
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)

    others = frameworks.installed(
        x, y, lambda: networks_from("sequential", x.shape[1]), BATCH_SIZE
    )
    seconds = measure.in_turn({**contenders, **others}, rounds)
    ratios = {}
    for name in others:
        ratios[f"{name} / sequential_adam"] = measure.ratio(
            seconds, name, "sequential_adam"
        )
    for name, loop in loops.items():
        ratios[f"{name} / floor"] = measure.ratio(seconds, name, "floor")
        ratios[f"{loop} / {name}"] = measure.ratio(seconds, loop, name)
    measure.write("epoch", seconds, ratios, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
