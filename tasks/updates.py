"""What turns gradients into new parameters: torch's optimizers, or the rule by hand.

An update moves the parameters it was made for by their gradients, in place. What it
remembers from batch to batch is `state`, a list of tensors that it changes in place.

torch's rules are called as the functions behind `torch.optim.Adam` and `.SGD`. They
leave the same bits as the classes, and spare what those do besides: the import of
torch's compiler when the first one is made, 1.5 s, and most of the time of a step.
"""

from collections.abc import Iterable
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.optim.sgd import sgd

Rule = Literal["adam", "sgd", "manual"]


class Update(Protocol):
    """Moves parameters by their gradients."""

    state: list[Tensor]

    def step(self) -> None:
        """Move the parameters."""
        ...


class Manual:
    """Stochastic gradient descent by hand: `p = p - learning_rate * dloss/dp`.

    From the same values it leaves, after every step, the same bits as torch's.
    """

    def __init__(self, parameters: list[Tensor], learning_rate: float) -> None:
        self.state: list[Tensor] = []
        self._parameters = parameters
        self._learning_rate = learning_rate

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter against its gradient."""
        for parameter in self._parameters:
            assert parameter.grad is not None
            parameter.sub_(parameter.grad, alpha=self._learning_rate)


class SGD:
    """`torch.optim.SGD(parameters, learning_rate)`."""

    def __init__(self, parameters: list[Tensor], learning_rate: float) -> None:
        self.state: list[Tensor] = []
        self._parameters = parameters
        self._learning_rate = learning_rate

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter against its gradient."""
        sgd(
            self._parameters,
            gradients(self._parameters),
            [None for _ in self._parameters],
            lr=self._learning_rate,
            momentum=0,
            dampening=0,
            weight_decay=0,
            nesterov=False,
            maximize=False,
            foreach=False,
        )


class Adam:
    """`torch.optim.Adam(parameters, learning_rate, fused=True)`.

    Its state is, of each parameter, the fading means of the gradient and of its square
    (Kingma and Ba, 2015), and the number of steps.
    """

    def __init__(self, parameters: list[Tensor], learning_rate: float) -> None:
        self._parameters = parameters
        self._learning_rate = learning_rate
        self._means = [torch.zeros_like(p) for p in parameters]
        self._squares = [torch.zeros_like(p) for p in parameters]
        self._steps = [torch.zeros((), device=p.device) for p in parameters]
        self.state = [*self._means, *self._squares, *self._steps]

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter along its mean gradient over its root mean square."""
        torch._foreach_add_(self._steps, 1)  # as torch.optim does
        torch._fused_adam_(  # as above
            self._parameters,
            gradients(self._parameters),
            self._means,
            self._squares,
            [],
            self._steps,
            lr=self._learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )


def gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the gradient of each parameter that has one."""
    return [p.grad for p in parameters if p.grad is not None]


def build(rule: Rule, parameters: Iterable[Tensor], learning_rate: float) -> Update:
    """Return the update of `parameters` by `rule`; all else is torch's default."""
    rules: dict[Rule, type[Manual | SGD | Adam]] = {
        "adam": Adam,
        "sgd": SGD,
        "manual": Manual,
    }
    return rules[rule](list(parameters), learning_rate)
