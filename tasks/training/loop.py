"""The training loop of one network, and what it remembers from epoch to epoch.

Images stay bytes until they are in a batch: a fourth of the memory, for no time. What
need not be done for every batch is done once for an epoch. On a GPU the epoch is one
CUDA graph, recorded from the same loop and replayed without the CPU, unless something
changes from step to step.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tasks.dataset.splits import Pixels, Scale
from tasks.training.augmentation import Shifts
from tasks.training.optimizers import Update

# Images that are shuffled, and held in memory, together: 100 MB of MNIST's. More are
# read in windows of this many, which are made of blocks of neighbours in the file.
WINDOW = 2**17
BLOCK = 2**10
# Images that the accuracy is measured on at a time: what a network makes of more than
# these has no room in a processor's cache.
MEASURED_TOGETHER = 2**8
# What grows by the epoch.
HISTORY = frozenset({"loss", "accuracy"})

Gradient = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Window(NamedTuple):
    """Images in memory: pixels, uint8 (N, inputs), and labels, int64 (N,)."""

    pixels: Tensor
    labels: Tensor


class Data:
    """One split, on a device.

    Args:
        images: uint8 (N, rows, columns), in memory or mapped from a file.
        labels: their labels, (N,).
        scale: how pixels become inputs.
        device: where they are wanted. A GPU takes them all at once; otherwise what is
            more than a window stays in the file.
    """

    def __init__(
        self,
        images: Pixels,
        labels: np.ndarray,
        scale: Scale,
        device: torch.device,
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

    def batches(self, batch_size: int) -> int:
        """Return the number of batches of an epoch.

        Of images in several windows, each of which ends with a smaller batch, it may be
        one more or less, by which of them has the last images of the file.
        """
        window = WINDOW if self._window is None else len(self)
        whole = [min(window, len(self) - at) for at in range(0, len(self), window)]
        return sum(-(-images // batch_size) for images in whole)

    def windows(self, order: torch.Generator | None = None) -> Iterator[Window]:
        """Yield all images, window by window; with `order`, blocks in random order."""
        if self._window is not None:
            yield self._window
            return
        starts = torch.arange(0, len(self), BLOCK)
        if order is not None:
            starts = starts[torch.randperm(len(starts), generator=order)]
        for some in starts.split(WINDOW // BLOCK):
            yield self._read([slice(start, start + BLOCK) for start in some.tolist()])

    def inputs(self, pixels: Tensor) -> Tensor:
        """Return inputs, float32 (N, inputs), of `pixels`: `Scale.standardize`."""
        scale = self._scale
        inputs = pixels.to(torch.float32)
        return inputs.mul_(1 / (scale.divisor * scale.std)).sub_(scale.mean / scale.std)

    def _read(self, blocks: list[slice]) -> Window:
        images = self._images
        if isinstance(images, np.memmap) and images.filename:
            # Mapped anew: what is read of a mapping counts as this process's memory
            # for as long as that mapping lives.
            images = np.memmap(
                images.filename, images.dtype, "r", images.offset, images.shape
            )
        pixels = np.concatenate([images[block] for block in blocks])
        return Window(
            torch.from_numpy(pixels.reshape(len(pixels), -1)).to(self.device),
            torch.cat([self._labels[block] for block in blocks]),
        )


class Training:
    """A training of `network` by `gradient` and `update`, on shuffled batches.

    Args:
        network: maps inputs to log-probabilities.
        gradient: see `tasks.training.losses`.
        update: see `tasks.training.optimizers`.
        order: of the images; a generator on the CPU.
        rate: the learning rate of a step, by its number from 0; None: the update's own.
        shifts: of the images; None: they stay in their place.

    Attributes:
        loss: of each batch until now, (batches,).
        accuracy: on training and held out data after each epoch, (epochs, 2).
    """

    def __init__(
        self,
        network: nn.Module,
        gradient: Gradient,
        update: Update,
        order: torch.Generator,
        rate: Callable[[int], float] | None = None,
        shifts: Shifts | None = None,
    ) -> None:
        self.network = network
        self.loss = torch.empty(0)
        self.accuracy = torch.empty(0, 2)
        self._gradient = gradient
        self._update = update
        self._order = order
        self._rate = rate
        self._shifts = shifts
        self._steps_taken = 0
        self._recording: _Recording | None = None

    def epoch(self, data: Data, held_out: Data, batch_size: int) -> None:
        """Train on `data` once, and measure the accuracy on it and on `held_out`."""
        self.loss = torch.cat([self.loss, self.descend(data, batch_size)])
        reached = [accuracy(self.network, part) for part in (data, held_out)]
        self.accuracy = torch.cat([self.accuracy, torch.tensor([reached])])

    def descend(self, data: Data, batch_size: int) -> Tensor:
        """Take a step for every batch of `data`, and return the losses, (batches,)."""
        self.network.train()
        windows = data.windows(self._order)
        return torch.cat([self._descend(data, some, batch_size) for some in windows])

    def _descend(self, data: Data, window: Window, batch_size: int) -> Tensor:
        """Take a step for every batch of a window, in random order."""
        rows = torch.randperm(len(window.labels), generator=self._order)
        rows = rows.to(data.device)
        if not self._is_recorded(data.device):
            return self._steps(data, window, rows, batch_size).cpu()
        if self._recording is None:
            self._recording = _Recording(
                lambda rows: self._steps(data, window, rows, batch_size)
            )
        return self._recording(rows).cpu()

    def _is_recorded(self, device: torch.device) -> bool:
        """Return whether epochs are recorded, and so repeat the numbers of the first.

        Learning rates and shifts are such numbers.
        """
        constant = self._rate is None and self._shifts is None
        return device.type == "cuda" and constant

    def _steps(
        self, data: Data, window: Window, rows: Tensor, batch_size: int
    ) -> Tensor:
        """Take a step for every batch of `rows`, and return their losses."""
        parameters = list(self.network.parameters())
        losses = []
        labels = window.labels[rows].split(batch_size)
        for batch, wanted in zip(rows.split(batch_size), labels, strict=True):
            pixels = self._shifted(window.pixels.index_select(0, batch))
            losses.append(self._gradient(self.network, data.inputs(pixels), wanted))
            if self._rate:
                self._update.learning_rate = self._rate(self._steps_taken)
            self._update.step()
            self._steps_taken += 1
            for parameter in parameters:
                parameter.grad = None  # autograd would add to it
        return torch.stack(losses)

    def _shifted(self, pixels: Tensor) -> Tensor:
        """Return the pixels of a batch, (N, inputs), moved if they are to be."""
        if self._shifts is None:
            return pixels
        by = self._shifts.draw(len(pixels)).to(pixels.device)
        return self._shifts.moved(pixels, by)

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next epoch depends on, and the history."""
        return {
            **{f"network.{k}": v for k, v in self.network.state_dict().items()},
            **{f"update.{k}": v for k, v in enumerate(self._update.state)},
            **{name: one.get_state() for name, one in self._generators().items()},
            "loss": self.loss,
            "accuracy": self.accuracy,
        }

    def fits(self, state: dict[str, Tensor]) -> bool:
        """Return whether `state` can be what `state` returned, after some epochs."""
        return _kinds(self.state()) == _kinds(state) and all(
            bool(tensor.isfinite().all()) for tensor in state.values()
        )

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to what `state` returned."""
        # Copied into place: a file keeps values but not their layout in memory, and
        # torch's fused Adam goes wrong where its state is laid out unlike parameters.
        for name, parameter in self.network.state_dict().items():
            parameter.copy_(state[f"network.{name}"])
        for number, remembered in enumerate(self._update.state):
            remembered.copy_(state[f"update.{number}"])
        for name, generator in self._generators().items():
            generator.set_state(state[name])
        self.loss, self.accuracy = state["loss"], state["accuracy"]
        self._steps_taken = len(self.loss)

    def _generators(self) -> dict[str, torch.Generator]:
        """Return what random numbers come from, by name."""
        shifts = {"shifts": self._shifts.generator} if self._shifts else {}
        return {"order": self._order, **shifts}


def _kinds(state: dict[str, Tensor]) -> dict[str, tuple[torch.dtype, int, list[int]]]:
    """Return type and shape of each tensor; the history may be of any length."""
    return {
        name: (one.dtype, one.ndim, list(one.shape[int(name in HISTORY) :]))
        for name, one in state.items()
    }


class _Recording:
    """The steps of an epoch on a GPU, recorded once as a CUDA graph and then replayed.

    The first epoch runs as it is, which warms up what can't be recorded.
    """

    def __init__(self, steps: Callable[[Tensor], Tensor]) -> None:
        self._steps = steps
        self._graph: torch.cuda.CUDAGraph | None = None
        self._rows: Tensor | None = None
        self._losses: Tensor | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        """Take the steps for the batches of `rows`, and return their losses."""
        if self._rows is None:
            self._rows = rows.clone()
            return self._steps(rows)
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._losses = self._steps(self._rows)
        assert self._losses is not None
        self._rows.copy_(rows)
        self._graph.replay()
        return self._losses


@torch.no_grad()
def accuracy(network: nn.Module, data: Data) -> float:
    """Return the share of `data` of which the network finds the right class.

    It is measured as it will be used: batch normalization goes by what it has learned,
    and learns nothing here.
    """
    right = torch.zeros((), dtype=torch.int64, device=data.device)
    before = network.training
    network.eval()
    for window in data.windows():
        parts = (part.split(MEASURED_TOGETHER) for part in window)
        for pixels, labels in zip(*parts, strict=True):
            right += (network(data.inputs(pixels)).argmax(dim=1) == labels).sum()
    network.train(before)
    return int(right) / len(data)
