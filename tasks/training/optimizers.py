"""What turns gradients into new parameters: torch's optimizers, or the rules by hand.

An update moves the parameters it was made for by their gradients, in place. What it
remembers from batch to batch is `state`, a list of tensors that it changes in place.
Its `learning_rate` may be set anew before any step.

torch's rules are called as the functions behind `torch.optim.Adam` and `.SGD`. They
give the same bits as the optimizer classes, without their overhead: the import of
torch's compiler when the first one is made, 1.5 s, and most of the time of a step.
"""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from tasks.training.settings import Rule

# Of Adam, as its authors propose them.
BETA1, BETA2 = 0.9, 0.999
EPSILON = 1e-8


class Update(Protocol):
    """Moves parameters by their gradients."""

    state: list[Tensor]
    learning_rate: float

    def step(self) -> None:
        """Move the parameters."""
        ...


class Manual:
    """Stochastic gradient descent by hand.

    Of each parameter p, with `g = dloss/dp + weight_decay * p`:

        v = momentum * v + g
        p = p - learning_rate * v

    v starts at 0. It is a sum, up to `1 / (1 - momentum)` times as large as a gradient,
    and not the fading mean `momentum * v + (1 - momentum) * g`. Without momentum there
    is no v, and g takes its place. From the same values the rule leaves, after every
    step, the same bits as torch's.
    """

    def __init__(
        self,
        parameters: list[Tensor],
        learning_rate: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        self.learning_rate = learning_rate
        self.state = [torch.zeros_like(p) for p in parameters] if momentum else []
        self._parameters = parameters
        self._momentum = momentum
        self._weight_decay = weight_decay

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter against its gradient."""
        moves = _decayed(self._parameters, self._weight_decay)
        if self._momentum:
            for v, g in zip(self.state, moves, strict=True):
                v.mul_(self._momentum).add_(g)
            moves = self.state
        for p, v in zip(self._parameters, moves, strict=True):
            p.sub_(v, alpha=self.learning_rate)


class SGD:
    """`torch.optim.SGD(parameters, learning_rate, momentum, weight_decay=...)`.

    Its state is the v of each parameter: see `Manual`.
    """

    def __init__(
        self,
        parameters: list[Tensor],
        learning_rate: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        self.learning_rate = learning_rate
        self.state = [torch.zeros_like(p) for p in parameters] if momentum else []
        self._parameters = parameters
        self._momentum = momentum
        self._weight_decay = weight_decay

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter against its gradient."""
        sgd(
            self._parameters,
            gradients(self._parameters),
            [*self.state] or [None for _ in self._parameters],
            lr=self.learning_rate,
            momentum=self._momentum,
            dampening=0,
            weight_decay=self._weight_decay,
            nesterov=False,
            maximize=False,
            foreach=False,
        )


class ManualAdam:
    """Adam by hand (Kingma and Ba, 2015, algorithm 1).

    Of each parameter p, with `g = dloss/dp + weight_decay * p`, at step t from 1:

        m = BETA1 * m + (1 - BETA1) * g
        s = BETA2 * s + (1 - BETA2) * g**2
        p = p - learning_rate * m_ / (sqrt(s_) + EPSILON)

    where `m_ = m / (1 - BETA1**t)` and `s_ = s / (1 - BETA2**t)`. m and s start at 0
    and are fading means, other than the v of `Manual`; what they lack because of that
    start, the powers of t make up for. Its state is m and s of each parameter, and t.
    """

    def __init__(
        self, parameters: list[Tensor], learning_rate: float, weight_decay: float
    ) -> None:
        self.learning_rate = learning_rate
        self._parameters = parameters
        self._weight_decay = weight_decay
        self._means = [torch.zeros_like(p) for p in parameters]
        self._squares = [torch.zeros_like(p) for p in parameters]
        # In float32, 1 - BETA2**t has half of its digits.
        device = parameters[0].device
        self._steps = torch.zeros((), dtype=torch.float64, device=device)
        self.state = [*self._means, *self._squares, self._steps]

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter along its mean gradient over its root mean square."""
        t = self._steps.add_(1)
        share1, share2 = (1 - torch.pow(beta, t) for beta in (BETA1, BETA2))
        moves = _decayed(self._parameters, self._weight_decay)
        for p, g, m, s in zip(
            self._parameters, moves, self._means, self._squares, strict=True
        ):
            m.mul_(BETA1).add_(g, alpha=1 - BETA1)
            s.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
            root = (s / share2).sqrt_().add_(EPSILON)
            p.sub_((m / share1).div_(root), alpha=self.learning_rate)


class Adam:
    """`torch.optim.Adam(parameters, learning_rate, weight_decay=..., fused=True)`.

    Its state is, of each parameter, m and s (see `ManualAdam`) and the number of steps.
    """

    def __init__(
        self, parameters: list[Tensor], learning_rate: float, weight_decay: float
    ) -> None:
        self.learning_rate = learning_rate
        self._parameters = parameters
        self._weight_decay = weight_decay
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
            lr=self.learning_rate,
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=self._weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )


def gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the gradient of each parameter that has one."""
    return [p.grad for p in parameters if p.grad is not None]


def _decayed(parameters: list[Tensor], weight_decay: float) -> list[Tensor]:
    """Return `dloss/dp + weight_decay * p` of each parameter.

    It is the gradient of a loss with `weight_decay / 2 * sum(p**2)` added, which is
    other than to shrink p apart from the step ("decoupled", as AdamW does).
    """
    moves = gradients(parameters)
    if not weight_decay:
        return moves
    pairs = zip(moves, parameters, strict=True)
    return [g.add(p, alpha=weight_decay) for g, p in pairs]


def build(
    rule: Rule,
    parameters: Iterable[Tensor],
    learning_rate: float,
    momentum: float = 0,
    weight_decay: float = 0,
) -> Update:
    """Return the update of `parameters` by `rule`; all else is torch's default.

    Args:
        rule: its name.
        parameters: to be moved; one or more.
        learning_rate: how far.
        momentum: of SGD; from 0 to below 1.
        weight_decay: coupled, that is, a part of the gradient; from 0.
    """
    own = list(parameters)
    if rule == "adam":
        return Adam(own, learning_rate, weight_decay)
    if rule == "manual_adam":
        return ManualAdam(own, learning_rate, weight_decay)
    descent = SGD if rule == "sgd" else Manual
    return descent(own, learning_rate, momentum, weight_decay)
