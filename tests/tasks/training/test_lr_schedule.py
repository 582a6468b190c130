import pytest
import torch

from tasks.training.lr_schedule import one_cycle


def torch_cycle(total: int, highest: float) -> list[float]:
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


@pytest.mark.parametrize("total", [1, 2, 3, 4, 10, 100])
def test_one_cycle_equals_torchs(total):
    ours = [one_cycle(step, total, 0.1) for step in range(total)]
    assert ours == pytest.approx(torch_cycle(total, 0.1), rel=1e-12)


def test_learning_rate_rises_for_three_tenths_of_the_steps_then_falls():
    rates = [one_cycle(step, 100, 0.5) for step in range(100)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[29] == max(rates) == 0.5
    assert rates[-1] == pytest.approx(0.000002)
    assert rates[:30] == sorted(rates[:30])
    assert rates[29:] == sorted(rates[29:], reverse=True)


def test_steps_after_the_last_have_its_learning_rate():
    assert one_cycle(12, 10, 0.5) == one_cycle(9, 10, 0.5)
