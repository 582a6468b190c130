import math

import pytest
import torch

from tasks import networks

RANDOM = torch.Generator().manual_seed(0)
SCORES = torch.randn(64, 10, generator=RANDOM) * 10


def test_log_softmax_is_torchs():
    torch.testing.assert_close(
        networks.log_softmax(SCORES), torch.log_softmax(SCORES, dim=1)
    )


def test_log_softmax_has_torchs_gradient():
    ours, torchs = (SCORES.clone().requires_grad_() for _ in range(2))
    (networks.log_softmax(ours) ** 2).sum().backward()
    (torch.log_softmax(torchs, dim=1) ** 2).sum().backward()
    torch.testing.assert_close(ours.grad, torchs.grad)


def test_log_softmax_does_not_overflow():
    scores = torch.tensor([[1e4, 0.0], [-1e4, -1e4]])
    expected = torch.tensor([[0, -1e4], [-math.log(2), -math.log(2)]])
    torch.testing.assert_close(networks.log_softmax(scores), expected)


def lessons_log_softmax(x: torch.Tensor) -> torch.Tensor:
    """The lesson's own: a sum over the whole batch, and 1 added to it."""
    return torch.log(torch.exp(x) / (1 + torch.exp(x).sum(dim=0, keepdim=True)))


def test_the_first_loss_is_ln_10_where_the_lessons_was_ln_65():
    scores, labels = torch.zeros(64, 10), torch.arange(64) % 10
    loss = torch.nn.functional.nll_loss
    assert loss(networks.log_softmax(scores), labels).item() == pytest.approx(
        math.log(10)
    )
    assert loss(lessons_log_softmax(scores), labels).item() == pytest.approx(
        math.log(65)
    )


@pytest.mark.parametrize("layer", ["sequential", "scratch"])
def test_a_network_is_its_coefficients(layer):
    network = networks.build(layer, 6, 3, torch.Generator().manual_seed(1))
    weights, bias = networks.coefficients(network)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(2))
    assert (weights.shape, bias.shape) == ((6, 3), (3,))
    torch.testing.assert_close(network(x), torch.log_softmax(x @ weights + bias, 1))


@pytest.mark.parametrize("layer", ["sequential", "scratch"])
def test_a_network_is_a_function_of_the_generator_alone(layer):
    def drawn(global_seed: int) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(global_seed)
            network = networks.build(layer, 6, 3, torch.Generator().manual_seed(1))
            assert torch.initial_seed() == global_seed
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    torch.testing.assert_close(drawn(1), drawn(2), rtol=0, atol=0)


def test_initial_values_are_the_lessons():
    network = networks.build("scratch", 784, 10, torch.Generator().manual_seed(1))
    weights, bias = networks.coefficients(network)
    generator = torch.Generator().manual_seed(1)
    torch.testing.assert_close(
        weights, torch.randn(784, 10, generator=generator) / 784, rtol=0, atol=0
    )
    torch.testing.assert_close(
        bias, torch.randn(10, generator=generator) / 10, rtol=0, atol=0
    )


def test_initial_values_of_torchs_layer_have_torchs_bounds():
    network = networks.build("sequential", 784, 10, torch.Generator().manual_seed(1))
    for values in networks.coefficients(network):
        assert 0.5 / 28 < values.abs().max() <= 1 / 28
