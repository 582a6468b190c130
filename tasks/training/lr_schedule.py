"""The learning rate of each step: constant, or one cycle up and down."""

import math

# torch's own choices: the share of the steps that go up, the first rate as a part of
# the highest, and the last as a part of the first.
RISING = 0.3
FIRST = 1 / 25
LAST = 1e-4


def one_cycle(step: int, total: int, highest: float) -> float:
    """Return the learning rate of one step of a cycle (Smith and Topin, 2018).

    It rises from `highest * FIRST` to `highest`, and falls to `highest * FIRST * LAST`,
    each along half a wave of the cosine, as `torch.optim.lr_scheduler.OneCycleLR` has
    it; the momentum stays as it is.

    Args:
        step: its number, from 0; what is beyond the last is like the last.
        total: the number of steps.
        highest: the highest learning rate.
    """
    step = min(step, total - 1)
    peak = RISING * total - 1
    first = highest * FIRST
    if step <= peak:
        return _between(first, highest, step / peak)
    return _between(highest, first * LAST, (step - peak) / (total - 1 - peak))


def _between(start: float, end: float, share: float) -> float:
    """Return what lies at `share` of the way along half a wave of the cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
