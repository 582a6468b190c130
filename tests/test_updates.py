import copy
import subprocess
import sys

import pytest
import torch

from tasks import networks, updates

CLASSES = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD, "manual": torch.optim.SGD}


@pytest.mark.parametrize("layer", ["sequential", "scratch"])
@pytest.mark.parametrize("rule", CLASSES)
def test_an_update_leaves_the_bits_of_torchs_class_after_every_step(rule, layer):
    random = torch.Generator().manual_seed(0)
    network = networks.build(layer, 6, 3, random)
    twin = copy.deepcopy(network)
    update = updates.build(rule, network.parameters(), 0.01)
    more = {"fused": True} if rule == "adam" else {}
    optimizer = CLASSES[rule](twin.parameters(), lr=0.01, **more)
    for _ in range(20):
        for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
            gradient = torch.randn(ours.shape, generator=random)
            # Laid out like the parameter, as autograd lays it out.
            ours.grad = torch.empty_like(ours).copy_(gradient)
            theirs.grad = torch.empty_like(theirs).copy_(gradient)
        update.step()
        optimizer.step()
        for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_adam_is_the_published_algorithm():
    """Kingma and Ba (2015), algorithm 1, step by step in float64."""
    random = torch.Generator().manual_seed(0)
    parameter = torch.randn(5, generator=random, dtype=torch.float64)
    expected = parameter.clone()
    update = updates.build("adam", [parameter], 0.01)
    mean, square = torch.zeros_like(expected), torch.zeros_like(expected)
    for step in range(1, 30):
        gradient = torch.randn(5, generator=random, dtype=torch.float64)
        parameter.grad = gradient.clone()
        update.step()
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        unbiased = mean / (1 - 0.9**step), square / (1 - 0.999**step)
        expected -= 0.01 * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
        torch.testing.assert_close(parameter, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", ["sgd", "manual"])
def test_plain_descent_is_one_line(rule):
    parameter = torch.tensor([1.0, 2.0], dtype=torch.float64)
    parameter.grad = torch.tensor([10.0, -20.0], dtype=torch.float64)
    updates.build(rule, [parameter], 0.01).step()
    assert parameter.tolist() == [1 - 0.1, 2 + 0.2]


def test_the_compiler_is_not_imported():
    program = (
        "import sys, torch; from tasks import updates;"
        "p = torch.zeros(2); p.grad = torch.ones(2);"
        "[updates.build(rule, [p], 0.1).step() for rule in ('adam', 'sgd', 'manual')];"
        "print('torch._dynamo' in sys.modules)"
    )
    said = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert said == "False\n"
