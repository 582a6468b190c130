"""The training loop of one network, and what it remembers from epoch to epoch.

The data stays on the device and a batch is gathered by its rows; what need not be done
for every batch is done once for an epoch.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tasks.updates import Update


class Data(NamedTuple):
    """One split on the device: inputs float32 (N, inputs), classes int64 (N,)."""

    inputs: Tensor
    classes: Tensor


class Training:
    """A training of `network` by `update`, on batches in an order drawn from `order`.

    Attributes:
        loss: of each batch until now, (batches,).
        accuracy: on training and held out data after each epoch, (epochs, 2).
    """

    def __init__(
        self, network: nn.Module, update: Update, order: torch.Generator
    ) -> None:
        self.network = network
        self.loss = torch.empty(0)
        self.accuracy = torch.empty(0, 2)
        self._update = update
        self._order = order

    def epoch(self, data: Data, held_out: Data, batch_size: int) -> None:
        """Train on `data` once, and measure the accuracy on it and on `held_out`."""
        rows = torch.randperm(len(data.classes), generator=self._order)
        loss = self._descend(data, rows.to(data.classes.device), batch_size)
        reached = [accuracy(self.network, part) for part in (data, held_out)]
        self.loss = torch.cat([self.loss, loss.cpu()])
        self.accuracy = torch.cat([self.accuracy, torch.tensor([reached])])

    def _descend(self, data: Data, rows: Tensor, batch_size: int) -> Tensor:
        """Take a step down the gradient for every batch; return the losses."""
        parameters = list(self.network.parameters())
        losses = []
        classes = data.classes[rows].split(batch_size)
        for batch, wanted in zip(rows.split(batch_size), classes, strict=True):
            log_probabilities = self.network(data.inputs.index_select(0, batch))
            loss = nn.functional.nll_loss(log_probabilities, wanted)
            loss.backward()
            self._update.step()
            for parameter in parameters:
                parameter.grad = None  # `backward` would add to it
            losses.append(loss.detach())
        return torch.stack(losses)

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next epoch depends on, and the history."""
        return {
            **{f"network.{k}": v for k, v in self.network.state_dict().items()},
            **{f"update.{k}": v for k, v in enumerate(self._update.state)},
            "order": self._order.get_state(),
            "loss": self.loss,
            "accuracy": self.accuracy,
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to what `state` returned."""
        # Copied into place: a file keeps values but not their layout in memory, and
        # torch's fused Adam goes wrong where its state is laid out unlike parameters.
        for name, parameter in self.network.state_dict().items():
            parameter.copy_(state[f"network.{name}"])
        for number, remembered in enumerate(self._update.state):
            remembered.copy_(state[f"update.{number}"])
        self._order.set_state(state["order"])
        self.loss, self.accuracy = state["loss"], state["accuracy"]


@torch.no_grad()
def accuracy(network: nn.Module, data: Data) -> float:
    """Return the share of `data` of which the network finds the right class."""
    right = (network(data.inputs).argmax(dim=1) == data.classes).sum()
    return float(right) / len(data.classes)
