import copy
import subprocess
import sys

import numpy as np
import pytest
import torch

from tasks.training import networks, optimizers

# Every rule with every momentum and weight decay that it can have.
RULES = [
    *(
        (rule, momentum, decay)
        for rule in ("sgd", "manual")
        for momentum in (0, 0.5, 0.9)
        for decay in (0, 0.1)
    ),
    *((rule, 0, decay) for rule in ("adam", "manual_adam") for decay in (0, 0.1)),
]
every_rule = pytest.mark.parametrize(("rule", "momentum", "decay"), RULES)
RATES = [0.01, 0.01, 0.01, 0.05, 0.05, 0.002, 0.002, 0.01, 0.01, 0.03, 0.03, 0.01]


def by_numpy(rule, p, gradients, momentum, decay):
    """The formulas, as published, number by number; yields p after every step.

    Polyak's momentum as Sutskever and others (2013) have it, the rate outside of the
    sum; Adam of Kingma and Ba (2015), algorithm 1.
    """
    p = [float(one) for one in p]
    v, m, s = ([0.0] * len(p) for _ in range(3))
    for t, (rate, gradient) in enumerate(zip(RATES, gradients, strict=True), start=1):
        for i in range(len(p)):
            g = float(gradient[i]) + decay * p[i]
            if "adam" in rule:
                m[i] = 0.9 * m[i] + 0.1 * g
                s[i] = 0.999 * s[i] + 0.001 * g * g
                unbiased = m[i] / (1 - 0.9**t), s[i] / (1 - 0.999**t)
                p[i] -= rate * unbiased[0] / (unbiased[1] ** 0.5 + 1e-8)
            else:
                v[i] = momentum * v[i] + g
                p[i] -= rate * v[i]
        yield list(p)


def drawn(*shape, seed=0, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


@every_rule
def test_a_rule_is_its_formula_after_every_step(rule, momentum, decay):
    parameter, gradients = drawn(5), drawn(len(RATES), 5, seed=1)
    expected = by_numpy(rule, parameter, gradients, momentum, decay)
    update = optimizers.build(rule, [parameter], 1.0, momentum, decay)
    for rate, gradient, wanted in zip(RATES, gradients, expected, strict=True):
        parameter.grad = gradient.clone()
        update.learning_rate = rate
        update.step()
        np.testing.assert_allclose(parameter.numpy(), wanted, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=0)


def optimizer(rule, parameters, momentum, decay) -> torch.optim.Optimizer:
    if "adam" in rule:
        return torch.optim.Adam(parameters, 0.01, weight_decay=decay, fused=True)
    return torch.optim.SGD(parameters, 0.01, momentum, weight_decay=decay)


@pytest.mark.parametrize(
    "kind",
    [
        ("linear", "sequential", (2, 3)),
        ("linear", "scratch", (2, 3)),
        ("cnn", "sequential", (8, 8)),
    ],
    ids=lambda kind: f"{kind[0]}-{kind[1]}",
)
@every_rule
def test_an_update_leaves_the_bits_of_torchs_class_after_every_step(
    rule, momentum, decay, kind
):
    architecture, layer, shape = kind
    random = torch.Generator().manual_seed(0)
    network = networks.build(architecture, layer, shape, 3, random)
    twin = copy.deepcopy(network)
    update = optimizers.build(rule, network.parameters(), 0.01, momentum, decay)
    theirs = optimizer(rule, twin.parameters(), momentum, decay)
    # The sums of Adam by hand are rounded in another order.
    near = {"rtol": 1e-5, "atol": 1e-6} if rule == "manual_adam" else {}
    for _ in range(10):
        for one, other in zip(network.parameters(), twin.parameters(), strict=True):
            gradient = torch.randn(one.shape, generator=random)
            # Laid out like the parameter, as autograd lays it out.
            one.grad = torch.empty_like(one).copy_(gradient)
            other.grad = torch.empty_like(other).copy_(gradient)
        update.step()
        theirs.step()
        for one, other in zip(network.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(one, other, **near or {"rtol": 0, "atol": 0})


@every_rule
def test_a_rule_goes_on_from_what_it_remembers(rule, momentum, decay):
    gradients = drawn(12, 5)

    def stepped(parameter, update, some):
        for gradient in some:
            parameter.grad = gradient.clone()
            update.step()

    def fresh(parameter):
        return optimizers.build(rule, [parameter], 0.01, momentum, decay)

    whole = drawn(5, seed=1)
    stepped(whole, fresh(whole), gradients)

    first = drawn(5, seed=1)
    before = fresh(first)
    stepped(first, before, gradients[:5])
    second = first.clone()
    after = fresh(second)
    for new, old in zip(after.state, before.state, strict=True):
        new.copy_(old)
    stepped(second, after, gradients[5:])
    torch.testing.assert_close(second, whole, rtol=0, atol=0)


def test_momentum_is_no_fading_mean():
    """Of one gradient over and over, v grows to ten times it; a mean would stay."""
    parameter = torch.zeros(1, dtype=torch.float64)
    update = optimizers.build("manual", [parameter], 1.0, 0.9)
    for _ in range(500):
        parameter.grad = torch.ones(1, dtype=torch.float64)
        update.step()
    assert update.state[0].item() == pytest.approx(10)


def test_plain_descent_remembers_nothing():
    for rule in ("sgd", "manual"):
        assert optimizers.build(rule, [torch.zeros(2)], 0.1, 0, 0.1).state == []


def test_the_compiler_is_not_imported():
    program = (
        "import sys, torch; from tasks.training import optimizers;"
        "p = torch.zeros(2); p.grad = torch.ones(2);"
        "rules = ('adam', 'sgd', 'manual', 'manual_adam');"
        "[optimizers.build(rule, [p], 0.1, 0, 0.1).step() for rule in rules];"
        "optimizers.build('sgd', [p], 0.1, 0.9).step();"
        "print('torch._dynamo' in sys.modules)"
    )
    said = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert said == "False\n"
