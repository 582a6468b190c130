"""What turns gradients into new parameters: torch's optimizers, or the rule by hand.

All have an optimizer's face (`step`, `zero_grad`, `state_dict`), so that one training
loop serves them.
"""

from collections.abc import Iterable
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

Rule = Literal["adam", "sgd", "manual"]


class Update(Protocol):
    """What the training loop asks of an optimizer."""

    def step(self) -> object:
        """Move the parameters by their gradients."""
        ...

    def zero_grad(self) -> None:
        """Set the gradients to zero."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered from batch to batch."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what `state_dict` returned."""
        ...


class Manual:
    """Stochastic gradient descent by hand: `p = p - learning_rate * dloss/dp`.

    From the same values it leaves, after every step, the same bits as `torch.optim.SGD`.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        self._parameters = list(parameters)
        self._learning_rate = learning_rate

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter, in place, against its gradient."""
        for parameter in self._parameters:
            assert parameter.grad is not None
            parameter.sub_(parameter.grad, alpha=self._learning_rate)

    def zero_grad(self) -> None:
        """Set the gradients, to which `backward` only ever adds, to zero."""
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the rule looks at one gradient only."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember nothing."""


def build(rule: Rule, parameters: Iterable[Tensor], learning_rate: float) -> Update:
    """Return the update of `parameters` by `rule`; all else is torch's default."""
    match rule:
        case "adam":
            return torch.optim.Adam(parameters, lr=learning_rate, fused=True)
        case "sgd":
            return torch.optim.SGD(parameters, lr=learning_rate, foreach=False)
        case "manual":
            return Manual(parameters, learning_rate)
