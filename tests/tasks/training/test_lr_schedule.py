import pytest
import torch

from tasks.training.lr_schedule import one_cycle


def torchs(total: int, highest: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, highest, total_steps=total, cycle_momentum=False
    )
    rates = []
    for step in range(total):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        if step < total - 1:
            schedule.step()
    return rates


@pytest.mark.parametrize("total", [1, 2, 3, 4, 10, 333])
def test_one_cycle_is_torchs_over_the_whole_cycle(total):
    ours = [one_cycle(step, total, 0.1) for step in range(total)]
    assert ours == pytest.approx(torchs(total, 0.1), rel=1e-12)


def test_one_cycle_rises_for_three_tenths_and_falls_to_next_to_nothing():
    rates = [one_cycle(step, 100, 0.5) for step in range(100)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[29] == max(rates) == 0.5
    assert rates[-1] == pytest.approx(0.000002)
    assert rates[:30] == sorted(rates[:30])
    assert rates[29:] == sorted(rates[29:], reverse=True)


def test_a_step_beyond_the_last_is_like_the_last():
    assert one_cycle(12, 10, 0.5) == one_cycle(9, 10, 0.5)
