import math

import pytest
import torch

from tasks.modeling.architectures import layout, scores
from tasks.runtime.params import BadInput
from tasks.training import networks

RANDOM = torch.Generator().manual_seed(0)
SCORES = torch.randn(64, 10, generator=RANDOM) * 10


def test_log_softmax_equals_torchs():
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


def lesson_log_softmax(x: torch.Tensor) -> torch.Tensor:
    """The lesson's first version: summed over the whole batch, plus 1."""
    return torch.log(torch.exp(x) / (1 + torch.exp(x).sum(dim=0, keepdim=True)))


def test_first_loss_is_ln_10_and_was_ln_65_in_the_lesson():
    scores, labels = torch.zeros(64, 10), torch.arange(64) % 10
    loss = torch.nn.functional.nll_loss
    assert loss(networks.log_softmax(scores), labels).item() == pytest.approx(
        math.log(10)
    )
    assert loss(lesson_log_softmax(scores), labels).item() == pytest.approx(
        math.log(65)
    )


def fresh(architecture, layer="sequential", shape=(28, 28), classes=10, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return networks.build(architecture, layer, shape, classes, generator)


NETWORKS = [
    ("linear", "sequential"),
    ("linear", "scratch"),
    ("mlp", "sequential"),
    ("cnn", "sequential"),
]


@pytest.mark.parametrize("shape", [(8, 8), (9, 14)])
@pytest.mark.parametrize(("architecture", "layer"), NETWORKS)
def test_saved_tensors_predict_the_same_as_the_network(architecture, layer, shape):
    network = fresh(architecture, layer, shape, classes=3)
    random = torch.Generator().manual_seed(2)
    # As after a training: the normalization has changed from its initial values.
    for name, values in network.state_dict().items():
        if values.is_floating_point() and "var" in name:
            values.uniform_(0.5, 2, generator=random)
        elif values.is_floating_point() and values.ndim == 1:
            values.normal_(generator=random)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eps = 0.1  # large enough to matter
    x = torch.randn(5, shape[0] * shape[1], generator=random)
    network.eval()
    with torch.no_grad():
        expected = network(x)

    saved = networks.tensors(network)
    assert {name: tuple(one.shape) for name, one in saved.items()} == layout(
        architecture, shape, 3
    )
    assert all(one.dtype == torch.float32 for one in saved.values())
    arrays = {name: one.numpy() for name, one in saved.items()}
    found = torch.from_numpy(scores(architecture, arrays, x.numpy(), shape))
    torch.testing.assert_close(
        torch.log_softmax(found, 1), expected, rtol=1e-4, atol=1e-4
    )


def test_network_in_training_normalizes_by_the_batch():
    network = fresh("cnn").train()
    x = torch.randn(64, 784, generator=torch.Generator().manual_seed(2)) * 3 + 1
    part = torch.nn.Sequential(*list(network.children())[:3])
    values = part(x)
    torch.testing.assert_close(
        values.mean(dim=(0, 2, 3)), torch.zeros(16), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(
        values.std(dim=(0, 2, 3)), torch.ones(16), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize(("architecture", "layer"), NETWORKS)
def test_initial_values_depend_only_on_the_generator(architecture, layer):
    def drawn(global_seed: int) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(global_seed)
            network = fresh(architecture, layer)
            assert torch.initial_seed() == global_seed
            state = torch.random.get_rng_state()
            assert torch.equal(state, torch.manual_seed(global_seed).get_state())
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    torch.testing.assert_close(drawn(1), drawn(2), rtol=0, atol=0)


def test_initial_values_from_scratch_are_those_of_the_lesson():
    saved = networks.tensors(fresh("linear", "scratch"))
    generator = torch.Generator().manual_seed(1)
    torch.testing.assert_close(
        saved["weights"],
        torch.randn(784, 10, generator=generator) / 784,
        rtol=0,
        atol=0,
    )
    torch.testing.assert_close(
        saved["bias"], torch.randn(10, generator=generator) / 10, rtol=0, atol=0
    )


@pytest.mark.parametrize("architecture", ["linear", "mlp", "cnn"])
def test_initial_values_of_torchs_layers_have_torchs_bounds(architecture):
    for part in fresh(architecture).children():
        if isinstance(part, torch.nn.Linear | torch.nn.Conv2d):
            bound = part.weight[0].numel() ** -0.5
            for values in part.parameters():
                assert 0.5 * bound < values.abs().max() <= bound


def test_too_small_images_are_refused():
    with pytest.raises(BadInput, match="at least 8 by 8 pixels, not 7 by 9"):
        fresh("cnn", shape=(7, 9))
