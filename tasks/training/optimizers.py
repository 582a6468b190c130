"""Update rules, each a function that changes parameters by their gradients.

`sgd` and `adam` are torch's rules, `manual` and `manual_adam` the same written by hand.
torch's are called as the functions behind `torch.optim.SGD` and `.Adam`. They give the
same bits as the optimizer classes without the overhead: 1.5 s for the import of torch's
compiler, and most of the time of a step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.sgd import sgd as torch_sgd

from tasks.training.settings import ADAMS, Rule

# The defaults that the authors of Adam propose.
BETA1, BETA2 = 0.9, 0.999
EPSILON = 1e-8

Tensors = list[Tensor]


@dataclass
class Optimizer:
    """The parameters of a network, their update rule, and the rule's state.

    Attributes:
        learning_rate: of the next step; it may be set before every step.
        momentum: of `sgd` and `manual`; from 0 to below 1.
        weight_decay: coupled, that is, a part of the gradient; from 0.
        averages: for each parameter its velocity, or Adam's first moment.
        squares: for each parameter Adam's second moment.
        steps: for each parameter the number of Adam's steps.
    """

    rule: Rule
    parameters: Tensors
    learning_rate: float
    momentum: float = 0
    weight_decay: float = 0

    def __post_init__(self) -> None:
        adams = self.parameters if self.rule in ADAMS else []
        averaged = self.parameters if self.momentum else adams
        # torch counts in float32, where 1 - BETA2**t has lost half of its digits.
        dtype = torch.float32 if self.rule == "adam" else torch.float64
        self.averages = [torch.zeros_like(p) for p in averaged]
        self.squares = [torch.zeros_like(p) for p in adams]
        self.steps = [torch.zeros((), dtype=dtype, device=p.device) for p in adams]

    @property
    def state(self) -> Tensors:
        """The tensors that change in place with every step."""
        return [*self.averages, *self.squares, *self.steps]

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        RULES[self.rule](self, gradients)


def manual(optimizer: Optimizer, gradients: Tensors) -> None:
    """Take a step of stochastic gradient descent, written by hand.

    For each parameter p, with `g = dloss/dp + weight_decay * p`:

        v = momentum * v + g
        p = p - learning_rate * v

    v starts at 0. It is a sum, up to `1 / (1 - momentum)` times as large as a gradient,
    not the moving average `momentum * v + (1 - momentum) * g`. Without momentum, v is g
    and there is no state. Every step leaves the same bits as torch's rule.
    """
    velocities = _decayed(optimizer, gradients)
    if optimizer.momentum:
        for v, g in zip(optimizer.averages, velocities, strict=True):
            v.mul_(optimizer.momentum).add_(g)
        velocities = optimizer.averages
    for p, v in zip(optimizer.parameters, velocities, strict=True):
        p.sub_(v, alpha=optimizer.learning_rate)


def sgd(optimizer: Optimizer, gradients: Tensors) -> None:
    """Take a step of `torch.optim.SGD`."""
    torch_sgd(
        optimizer.parameters,
        gradients,
        [*optimizer.averages] or [None for _ in gradients],
        lr=optimizer.learning_rate,
        momentum=optimizer.momentum,
        dampening=0,
        weight_decay=optimizer.weight_decay,
        nesterov=False,
        maximize=False,
        foreach=False,
    )


def manual_adam(optimizer: Optimizer, gradients: Tensors) -> None:
    """Take a step of Adam, written by hand (Kingma and Ba, 2015, algorithm 1).

    For each parameter p, with `g = dloss/dp + weight_decay * p`, at step t from 1:

        m = BETA1 * m + (1 - BETA1) * g
        s = BETA2 * s + (1 - BETA2) * g**2
        p = p - learning_rate * m_ / (sqrt(s_) + EPSILON)

    where `m_ = m / (1 - BETA1**t)` and `s_ = s / (1 - BETA2**t)`. The moving averages m
    and s start at 0; the powers of t correct the bias that this start leaves.
    """
    moments = zip(optimizer.averages, optimizer.squares, optimizer.steps, strict=True)
    decayed = _decayed(optimizer, gradients)
    for p, g, (m, s, t) in zip(optimizer.parameters, decayed, moments, strict=True):
        t.add_(1)
        m.mul_(BETA1).add_(g, alpha=1 - BETA1)
        s.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
        root = (s / (1 - torch.pow(BETA2, t))).sqrt_().add_(EPSILON)
        step = (m / (1 - torch.pow(BETA1, t))).div_(root)
        p.sub_(step, alpha=optimizer.learning_rate)


def adam(optimizer: Optimizer, gradients: Tensors) -> None:
    """Take a step of `torch.optim.Adam(fused=True)`."""
    torch._foreach_add_(optimizer.steps, 1)  # as torch.optim.Adam does
    torch._fused_adam_(  # as above
        optimizer.parameters,
        gradients,
        optimizer.averages,
        optimizer.squares,
        [],
        optimizer.steps,
        lr=optimizer.learning_rate,
        beta1=BETA1,
        beta2=BETA2,
        weight_decay=optimizer.weight_decay,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )


RULES = {"adam": adam, "sgd": sgd, "manual": manual, "manual_adam": manual_adam}


def _decayed(optimizer: Optimizer, gradients: Tensors) -> Tensors:
    """Return `dloss/dp + weight_decay * p` for each parameter p.

    This is the gradient of a loss with `weight_decay / 2 * sum(p**2)` added. AdamW's
    "decoupled" weight decay, which shrinks p apart from the step, is another rule.
    """
    if not optimizer.weight_decay:
        return gradients
    pairs = zip(gradients, optimizer.parameters, strict=True)
    return [g.add(p, alpha=optimizer.weight_decay) for g, p in pairs]
