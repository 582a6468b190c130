import copy
import subprocess
import sys

import numpy as np
import pytest
import torch

from tasks.training import networks
from tasks.training.optimizers import Optimizer

# (rule, momentum, weight decay): every rule with every setting that it can have.
RULES = [
    *(
        (rule, momentum, 0.1)
        for rule in ("sgd", "manual")
        for momentum in (0, 0.5, 0.9)
    ),
    *((rule, 0, decay) for rule in ("adam", "manual_adam") for decay in (0, 0.1)),
    *((rule, 0, 0) for rule in ("sgd", "manual")),
]
every_rule = pytest.mark.parametrize(("rule", "momentum", "decay"), RULES)
# A rule that torch lacks is compared with `reference` only.
IN_TORCH = {"sgd", "manual", "adam", "manual_adam"}
every_rule_of_torch = pytest.mark.parametrize(
    ("rule", "momentum", "decay"), [row for row in RULES if row[0] in IN_TORCH]
)
RATES = [0.01, 0.01, 0.05, 0.05, 0.002, 0.01, 0.03, 0.01]


def reference(rule, p, gradients, momentum, decay):
    """Yield p after every step, by the published formulas, number by number.

    Momentum as in Sutskever and others (2013), with the learning rate outside of the
    sum; Adam as in Kingma and Ba (2015), algorithm 1.
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


def drawn(*shape, seed=0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@every_rule
def test_every_step_follows_the_published_formula(rule, momentum, decay):
    parameter, gradients = drawn(5), drawn(len(RATES), 5, seed=1)
    steps = reference(rule, parameter, gradients, momentum, decay)
    optimizer = Optimizer(rule, [parameter], 1.0, momentum, decay)
    for rate, gradient, expected in zip(RATES, gradients, steps, strict=True):
        parameter.grad = gradient.clone()
        optimizer.learning_rate = rate
        optimizer.step()
        np.testing.assert_allclose(parameter.numpy(), expected, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=0)


def torch_optimizer(rule, parameters, momentum, decay) -> torch.optim.Optimizer:
    if "adam" in rule:
        return torch.optim.Adam(parameters, 0.01, weight_decay=decay, fused=True)
    return torch.optim.SGD(parameters, 0.01, momentum, weight_decay=decay)


@pytest.mark.parametrize(
    ("architecture", "layer", "shape"),
    [("linear", "scratch", (2, 3)), ("cnn", "sequential", (8, 8))],
    ids=["scratch", "cnn"],
)
@every_rule_of_torch
def test_every_step_has_the_bits_of_torchs_optimizer(
    rule, momentum, decay, architecture, layer, shape
):
    random = torch.Generator().manual_seed(0)
    network = networks.build(architecture, layer, shape, 3, random)
    twin = copy.deepcopy(network)
    ours = Optimizer(rule, list(network.parameters()), 0.01, momentum, decay)
    theirs = torch_optimizer(rule, twin.parameters(), momentum, decay)
    # Adam by hand rounds its sums in another order.
    close = {"rtol": 1e-5, "atol": 1e-6} if rule == "manual_adam" else None
    for _ in range(5):
        for one, other in zip(network.parameters(), twin.parameters(), strict=True):
            gradient = torch.randn(one.shape, generator=random)
            # With the memory layout of the parameter, as autograd does it.
            one.grad = torch.empty_like(one).copy_(gradient)
            other.grad = torch.empty_like(other).copy_(gradient)
        ours.step()
        theirs.step()
        for one, other in zip(network.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(one, other, **close or {"rtol": 0, "atol": 0})


@every_rule
def test_optimizer_continues_from_a_copy_of_its_state(rule, momentum, decay):
    gradients = drawn(8, 5)

    def step(parameter, optimizer, some):
        for gradient in some:
            parameter.grad = gradient.clone()
            optimizer.step()

    def fresh(parameter):
        return Optimizer(rule, [parameter], 0.01, momentum, decay)

    whole = drawn(5, seed=1)
    step(whole, fresh(whole), gradients)

    first = drawn(5, seed=1)
    before = fresh(first)
    step(first, before, gradients[:3])
    second = first.clone()
    after = fresh(second)
    for new, old in zip(after.state, before.state, strict=True):
        new.copy_(old)
    step(second, after, gradients[3:])
    torch.testing.assert_close(second, whole, rtol=0, atol=0)


def test_momentum_is_a_sum_and_not_an_average():
    """With a constant gradient, v grows to ten times the gradient."""
    parameter = torch.zeros(1, dtype=torch.float64)
    optimizer = Optimizer("manual", [parameter], 1.0, 0.9)
    for _ in range(500):
        parameter.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
    assert optimizer.state[0].item() == pytest.approx(10)


@pytest.mark.parametrize("rule", ["sgd", "manual"])
def test_sgd_without_momentum_has_no_state(rule):
    assert Optimizer(rule, [torch.zeros(2)], 0.1, 0, 0.1).state == []


@pytest.mark.slow
def test_optimizers_do_not_import_the_compiler():
    program = (
        "import sys, torch; from tasks.training.optimizers import Optimizer;"
        "p = torch.zeros(2); p.grad = torch.ones(2);"
        "rules = ('adam', 'sgd', 'manual', 'manual_adam');"
        "[Optimizer(rule, [p], 0.1, 0, 0.1).step() for rule in rules];"
        "Optimizer('sgd', [p], 0.1, 0.9).step();"
        "print('torch._dynamo' in sys.modules)"
    )
    output = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert output == "False\n"
