import copy

import pytest
import torch

from tasks.training import losses, networks


def batch(count: int = 7):
    random = torch.Generator().manual_seed(0)
    network = networks.build("linear", "scratch", (2, 3), 3, random).double()
    # Initial gradients are nearly the same everywhere; larger parameters' differ.
    for parameter in network.parameters():
        parameter.data.mul_(20)
    inputs = torch.randn(count, 6, generator=random, dtype=torch.float64)
    classes = torch.randint(3, (count,), generator=random)
    return network, inputs, classes


def loss(network, inputs, classes) -> float:
    with torch.no_grad():
        scores = inputs @ network.weights + network.bias
        return torch.nn.functional.cross_entropy(scores, classes).item()


@pytest.mark.parametrize("method", losses.METHODS)
def test_gradient_equals_the_central_difference(method):
    network, inputs, classes = batch()
    value = losses.METHODS[method](network, inputs, classes)
    assert value.item() == pytest.approx(loss(network, inputs, classes), rel=1e-12)
    step = 1e-6
    for parameter in network.parameters():
        flat, gradient = parameter.data.t(), parameter.grad.t()
        for index in torch.cartesian_prod(*(torch.arange(n) for n in flat.shape)):
            at = tuple(index.tolist()) if index.dim() else (int(index),)
            middle = flat[at].item()
            flat[at] = middle + step
            above = loss(network, inputs, classes)
            flat[at] = middle - step
            below = loss(network, inputs, classes)
            flat[at] = middle
            expected = (above - below) / (2 * step)
            assert gradient[at].item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("count", [1, 64])
def test_formula_and_autograd_agree(count):
    network, inputs, classes = batch(count)
    other = copy.deepcopy(network)
    torch.testing.assert_close(
        losses.analytic(network, inputs, classes),
        losses.autograd(other, inputs, classes),
    )
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-12, atol=1e-12)


def test_formula_needs_no_autograd():
    network, inputs, classes = batch()
    assert not losses.analytic(network, inputs, classes).requires_grad
    assert network.weights.grad.stride() == network.weights.stride()
