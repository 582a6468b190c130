"""The one-cycle schedule of the learning rate."""

import math

# torch's defaults: the share of the steps in which the learning rate rises, the first
# rate relative to the highest, and the last relative to the first.
RISING = 0.3
FIRST = 1 / 25
LAST = 1e-4


def one_cycle(step: int, total_steps: int, max_learning_rate: float) -> float:
    """Return the learning rate of one step of a cycle (Smith and Topin, 2018).

    It rises to `max_learning_rate` and falls again, each time along half a wave of the
    cosine, like `torch.optim.lr_scheduler.OneCycleLR`; the momentum stays constant.
    Steps count from 0; a step after the last has the rate of the last.
    """
    step = min(step, total_steps - 1)
    peak = RISING * total_steps - 1
    first = max_learning_rate * FIRST
    if step <= peak:
        return _cosine(first, max_learning_rate, step / peak)
    fallen = (step - peak) / (total_steps - 1 - peak)
    return _cosine(max_learning_rate, first * LAST, fallen)


def _cosine(start: float, end: float, share: float) -> float:
    """Interpolate between `start` and `end` along half a wave of the cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
