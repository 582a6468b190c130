"""The training loop: shuffled batches, one step for each, accuracy after every epoch.

Images stay uint8 until they are in a batch, which takes a quarter of the memory of
float32 and costs no time.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tasks.dataset.splits import Pixels, Scale
from tasks.training import networks
from tasks.training.augmentation import RandomShifts
from tasks.training.losses import METHODS
from tasks.training.lr_schedule import one_cycle
from tasks.training.optimizers import Optimizer
from tasks.training.settings import ResolvedVariant

# Images that are shuffled and in memory at a time: 100 MB of MNIST's. A larger split is
# read in windows of this size, each of which consists of random blocks of the file.
WINDOW = 2**17
BLOCK = 2**10
# The batch size for measuring accuracy: activations of larger batches exceed the cache.
ACCURACY_BATCH = 2**8
# The tensors of a training's state that grow with every epoch.
HISTORY = frozenset({"loss", "accuracy"})

Gradient = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Window(NamedTuple):
    """Images in memory: pixels, uint8 (N, inputs), and labels, int64 (N,)."""

    pixels: Tensor
    labels: Tensor


class Data:
    """Images, uint8 (N, rows, columns), and labels, int64 (N,), for a device.

    A GPU holds all images. For the CPU, if there are more than a window, they stay in
    the file that they are mapped from.
    """

    def __init__(
        self, images: Pixels, labels: np.ndarray, scale: Scale, device: torch.device
    ) -> None:
        self.device = device
        self._images = images
        self._labels = torch.from_numpy(labels).to(device)
        self._scale = scale
        whole = device.type == "cuda" or len(images) <= WINDOW
        self._window = self._read([slice(0, len(images))]) if whole else None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        rows, columns = self._images.shape[1:]
        return rows, columns

    def __len__(self) -> int:
        return len(self._images)

    def windows(self, order: torch.Generator | None = None) -> Iterator[Window]:
        """Yield all images, window by window; with `order`, blocks in random order."""
        if self._window is not None:
            yield self._window
            return
        starts = torch.arange(0, len(self), BLOCK)
        if order is not None:
            starts = starts[torch.randperm(len(starts), generator=order)]
        for part in starts.split(WINDOW // BLOCK):
            yield self._read([slice(start, start + BLOCK) for start in part.tolist()])

    def inputs(self, pixels: Tensor) -> Tensor:
        """Return standardized inputs, float32 (N, inputs): `Scale.standardize`."""
        scale = self._scale
        inputs = pixels.to(torch.float32)
        return inputs.mul_(1 / (scale.divisor * scale.std)).sub_(scale.mean / scale.std)

    def _read(self, blocks: list[slice]) -> Window:
        images = self._images
        if isinstance(images, np.memmap) and images.filename:
            # A new mapping each time: what was read from a mapping counts as this
            # process's memory until the mapping is closed.
            images = np.memmap(
                images.filename, images.dtype, "r", images.offset, images.shape
            )
        pixels = np.concatenate([images[block] for block in blocks])
        return Window(
            torch.from_numpy(pixels.reshape(len(pixels), -1)).to(self.device),
            torch.cat([self._labels[block] for block in blocks]),
        )


@dataclass(eq=False)
class Training:
    """The training of a network that maps inputs to log-probabilities.

    Attributes:
        gradient: see `tasks.training.losses`.
        order: shuffles the images; a generator on the CPU.
        schedule: returns the learning rate of a step, counted from 0; None: constant.
        loss: of each batch so far, (batches,).
        accuracy: on the training and the validation data after each epoch, (epochs, 2).
    """

    network: nn.Module
    gradient: Gradient
    optimizer: Optimizer
    order: torch.Generator
    schedule: Callable[[int], float] | None = None
    shifts: RandomShifts | None = None

    def __post_init__(self) -> None:
        self.loss, self.accuracy = torch.empty(0), torch.empty(0, 2)

    def epoch(self, data: Data, valid: Data, batch_size: int) -> None:
        """Train on `data` once, and measure the accuracy on it and on `valid`."""
        self.loss = torch.cat([self.loss, self.descend(data, batch_size)])
        reached = [accuracy(self.network, part) for part in (data, valid)]
        self.accuracy = torch.cat([self.accuracy, torch.tensor([reached])])

    def descend(self, data: Data, batch_size: int) -> Tensor:
        """Take a step for every batch of `data`, and return the losses, (batches,)."""
        self.network.train()
        losses: list[Tensor] = []
        for window in data.windows(self.order):
            rows = torch.randperm(len(window.labels), generator=self.order)
            for batch in rows.to(data.device).split(batch_size):
                if self.schedule:
                    step = len(self.loss) + len(losses)
                    self.optimizer.learning_rate = self.schedule(step)
                pixels = window.pixels.index_select(0, batch)
                if self.shifts:
                    pixels = self.shifts(pixels)
                inputs, labels = data.inputs(pixels), window.labels[batch]
                losses.append(self.gradient(self.network, inputs, labels))
                self.optimizer.step()
                for parameter in self.optimizer.parameters:
                    parameter.grad = None  # autograd would add to it
        return torch.stack(losses).cpu()

    def state(self) -> dict[str, Tensor]:
        """Return the history, and everything that the next epoch depends on."""
        shifts = {"shifts": self.shifts.generator.get_state()} if self.shifts else {}
        return {
            **{f"network.{k}": v for k, v in self.network.state_dict().items()},
            **{f"update.{k}": v for k, v in enumerate(self.optimizer.state)},
            "order": self.order.get_state(),
            **shifts,
            "loss": self.loss,
            "accuracy": self.accuracy,
        }

    def restore(self, saved: dict[str, Tensor]) -> None:
        """Continue from tensors that `state` returned; do nothing if any is invalid."""
        state = self.state()
        finite = all(bool(tensor.isfinite().all()) for tensor in saved.values())
        if not finite or _signature(state) != _signature(saved):
            return
        for name, tensor in state.items():
            if name.startswith(("network.", "update.")):
                # Copied in place: files do not keep the memory layout, and torch's
                # fused Adam fails if state and parameters differ in it.
                tensor.copy_(saved[name])
        self.order.set_state(saved["order"])
        if self.shifts:
            self.shifts.generator.set_state(saved["shifts"])
        self.loss, self.accuracy = saved["loss"], saved["accuracy"]


def _signature(state: dict[str, Tensor]) -> dict[str, tuple[torch.dtype, list[int]]]:
    """Return type and shape of each tensor; the history may be of any length."""
    return {
        name: (tensor.dtype, [tensor.ndim, *tensor.shape[int(name in HISTORY) :]])
        for name, tensor in state.items()
    }


@torch.no_grad()
def accuracy(network: nn.Module, data: Data) -> float:
    """Return the share of `data` that the network, in evaluation mode, gets right."""
    correct = torch.zeros((), dtype=torch.int64, device=data.device)
    before = network.training
    network.eval()
    for window in data.windows():
        parts = (part.split(ACCURACY_BATCH) for part in window)
        for pixels, labels in zip(*parts, strict=True):
            correct += (network(data.inputs(pixels)).argmax(dim=1) == labels).sum()
    network.train(before)
    return int(correct) / len(data)


def start(seed: int, variant: ResolvedVariant, data: Data, n_classes: int) -> Training:
    """Return the training of a variant before its first epoch."""
    # Three generators: every variant sees the same batches, whatever random numbers its
    # initial parameters and its shifts take.
    initial, order, shift_order = (
        torch.Generator().manual_seed(int(number))
        for number in np.random.SeedSequence(seed).generate_state(3)
    )
    network = networks.build(
        variant.architecture, variant.layer, data.shape, n_classes, initial
    ).to(data.device)
    optimizer = Optimizer(
        variant.update,
        list(network.parameters()),
        variant.learning_rate,
        variant.momentum,
        variant.weight_decay,
    )
    schedule = shifts = None
    if variant.schedule == "one_cycle":
        steps = variant.epochs * math.ceil(len(data) / variant.batch_size)
        schedule = partial(
            one_cycle, total_steps=steps, max_learning_rate=variant.learning_rate
        )
    if variant.shift:
        shifts = RandomShifts(variant.shift, data.shape, shift_order)
    gradient = METHODS[variant.gradient]
    return Training(network, gradient, optimizer, order, schedule, shifts)
