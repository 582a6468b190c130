import math
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
import yaml
from samples import ROOT
from tiny import TRAIN, digits

from tasks.modeling import architectures, model_file
from tasks.runtime.params import BadInput, load
from tasks.train import train
from tasks.training import networks
from tasks.training.checkpoints import Checkpoint
from tasks.training.loop import Data, Training, start
from tasks.training.settings import Train, Variant

DEFAULT = load("train", Train, ROOT / "params.yaml")
# Settings that no variant of params.yaml has.
MORE = {
    "momentum": {
        "layer": "scratch",
        "gradient": "analytic",
        "update": "manual",
        "momentum": 0.9,
        "weight_decay": 0.1,
    },
    "cycle": {
        "layer": "sequential",
        "update": "sgd",
        "momentum": 0.5,
        "schedule": "one_cycle",
        "epochs": 4,
        "batch_size": 50,
    },
    "adam_by_hand": {"layer": "scratch", "update": "manual_adam", "weight_decay": 0.1},
    "shifted": {"layer": "scratch", "update": "adam", "shift": 2},
}
VARIANTS = {
    **DEFAULT.variants,
    **{name: Variant(learning_rate=0.005, **one) for name, one in MORE.items()},
}
LARGE = {
    architecture: Variant(
        architecture=architecture,
        layer="sequential",
        update="sgd",
        learning_rate=0.02,
        momentum=0.9,
        weight_decay=0.001,
        schedule="one_cycle",
        shift=1,
        epochs=2,
        batch_size=100,
    )
    for architecture in ("mlp", "cnn")
}
SETTINGS = DEFAULT.model_copy(update={"variants": VARIANTS | LARGE})


@pytest.fixture(autouse=True)
def one_thread():
    """Limit torch to one thread, as the step does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(name, checkpoint=None, **changes):
    splits, facts = digits()
    settings = SETTINGS.model_copy(update=changes)
    return train(splits["train"], splits["valid"], facts, settings, name, checkpoint)


def assert_same(one, other):
    """Check that two trainings gave the same model and history, to the last bit."""
    (model, training), (other_model, other_training) = one, other
    np.testing.assert_equal(model.tensors, other_model.tensors)
    np.testing.assert_array_equal(training.loss, other_training.loss)
    np.testing.assert_array_equal(training.accuracy, other_training.accuracy)


def generators() -> list[torch.Generator]:
    seeds = np.random.SeedSequence(SETTINGS.seed).generate_state(3)
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def batches(variant, epochs, order, shifts):
    """Inputs and labels of every batch of a training."""
    splits, facts = digits()
    split = splits["train"]
    for _ in range(epochs):
        rows = torch.randperm(len(split.images), generator=order)
        for some in rows.split(variant.batch_size):
            images = split.images[some.numpy()]
            if limit := variant.shift:
                size = (len(some), 2)
                by = torch.randint(-limit, limit + 1, size, generator=shifts).tolist()
                pairs = zip(images, by, strict=True)
                images = np.stack([scipy.ndimage.shift(*one, order=0) for one in pairs])
            labels = torch.from_numpy(split.labels.astype(np.int64))[some]
            yield torch.from_numpy(facts.scale.standardize(images)).double(), labels


def reference(name, epochs):
    """The same training as a beginner would write it, in float64.

    It shares no code with the step but the initial values and the random numbers.
    """
    variant = SETTINGS.resolve(name)
    first, order, shifts = generators()
    initial = networks.tensors(
        networks.build("linear", variant.layer, (8, 8), 10, first)
    )
    W, b = (initial[key].double().requires_grad_() for key in ("weights", "bias"))
    moments = [[torch.zeros_like(p), torch.zeros_like(p)] for p in (W, b)]
    losses, rate = [], variant.learning_rate
    rates = torch_cycle(epochs * math.ceil(TRAIN / variant.batch_size), rate)
    for step, (inputs, labels) in enumerate(
        batches(variant, epochs, order, shifts), start=1
    ):
        loss = torch.nn.functional.cross_entropy(inputs @ W + b, labels)
        gradients = torch.autograd.grad(loss, (W, b))
        if variant.schedule == "one_cycle":
            rate = rates[step - 1]
        with torch.no_grad():
            for p, g, (m, v) in zip((W, b), gradients, moments, strict=True):
                g = g + variant.weight_decay * p  # noqa: PLW2901
                if "adam" in variant.update:  # Kingma and Ba (2015), algorithm 1
                    m.copy_(0.9 * m + 0.1 * g)
                    v.copy_(0.999 * v + 0.001 * g**2)
                    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
                    p.sub_(rate * m_hat / (v_hat.sqrt() + 1e-8))
                else:
                    v.copy_(variant.momentum * v + g)
                    p.sub_(rate * v)
        losses.append(loss.item())
    return W.detach().numpy(), b.detach().numpy(), losses


def torch_cycle(steps: int, highest: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, highest, total_steps=steps, cycle_momentum=False
    )
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        if len(rates) < steps:
            schedule.step()
    return rates


@pytest.mark.parametrize("name", VARIANTS)
def test_training_equals_a_plain_loop(name):
    epochs = SETTINGS.variants[name].epochs or 2
    model, training = run(name, epochs=2)
    W, b, losses = reference(name, epochs)
    np.testing.assert_allclose(model.tensors["weights"], W, atol=1e-5)
    np.testing.assert_allclose(model.tensors["bias"], b, atol=1e-5)
    np.testing.assert_allclose(training.loss, losses, atol=1e-5)


def test_sgd_by_hand_and_torch_sgd_give_the_same_bits():
    assert_same(run("scratch_manual"), run("scratch_sgd"))


def test_first_loss_is_about_ln_10():
    _, training = run("scratch_sgd")
    assert float(training.loss[0]) == pytest.approx(math.log(10), abs=0.1)


def test_last_batch_of_an_epoch_may_be_smaller():
    _, training = run("scratch_sgd")
    assert len(training.loss) == math.ceil(TRAIN / 64)


@pytest.mark.parametrize("name", VARIANTS)
def test_interrupted_training_ends_with_the_same_weights(name, tmp_path, monkeypatch):
    whole = run(name, epochs=4)
    epochs = []
    epoch = Training.epoch

    def interrupted(*arguments):
        epochs.append(1)
        if len(epochs) == 3:
            raise KeyboardInterrupt
        return epoch(*arguments)

    monkeypatch.setattr(Training, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(name, tmp_path / "checkpoint", epochs=4)
    resumed = run(name, tmp_path / "checkpoint", epochs=4)

    assert len(epochs) == 5, "two done, one interrupted, two resumed"
    assert_same(resumed, whole)
    assert list(tmp_path.iterdir()) == [], "the checkpoint is removed"


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"batch_size": 32}, {"epochs": 5}], ids=str
)
def test_checkpoint_of_another_training_is_ignored(tmp_path, change, monkeypatch):
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    run("scratch_sgd", tmp_path / "checkpoint", epochs=3)
    monkeypatch.undo()
    changes = {"epochs": 3} | change
    resumed = run("scratch_sgd", tmp_path / "checkpoint", **changes)
    assert_same(resumed, run("scratch_sgd", **changes))


@pytest.mark.parametrize("content", [b"", b"half a file"])
def test_damaged_checkpoint_is_ignored(tmp_path, content):
    (tmp_path / "checkpoint").write_bytes(content)
    resumed = run("scratch_sgd", tmp_path / "checkpoint", epochs=2)
    assert_same(resumed, run("scratch_sgd", epochs=2))


def test_training_of_one_epoch_needs_no_checkpoint(tmp_path):
    (tmp_path / "file").touch()
    run("scratch_sgd", tmp_path / "file" / "checkpoint", epochs=1)


def begin(name, settings=SETTINGS, data_type=Data) -> tuple[Training, Data, Data]:
    splits, facts = digits()
    data, valid = (
        data_type(
            one.images, one.labels.astype(np.int64), facts.scale, torch.device("cpu")
        )
        for one in (splits["train"], splits["valid"])
    )
    return start(settings.seed, settings.resolve(name), data, 10), data, valid


@pytest.mark.parametrize(
    "damage",
    [
        lambda saved: saved.pop("loss"),
        lambda saved: saved.update(more=torch.zeros(1)),
        lambda saved: saved.update(accuracy=torch.zeros(1, 3)),
        lambda saved: saved.update(loss=torch.zeros(())),
        lambda saved: saved.update(order=torch.zeros(9)),
        lambda saved: saved["loss"].fill_(np.nan),
        lambda saved: saved.update({next(iter(saved)): torch.zeros(2)}),
    ],
)
def test_checkpoint_with_other_tensors_is_ignored(damage):
    training, data, valid = begin("scratch_adam")
    training.epoch(data, valid, 64)
    saved = {name: tensor.clone() for name, tensor in training.state().items()}
    damage(saved)
    fresh, *_ = begin("scratch_adam")
    before = {name: tensor.clone() for name, tensor in fresh.state().items()}
    fresh.restore(saved)
    torch.testing.assert_close(fresh.state(), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", LARGE)
def test_larger_network_continues_from_a_checkpoint(name, tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    whole, data, valid = begin(name)
    whole.epoch(data, valid, 100)
    checkpoint.save(whole.state())
    whole.epoch(data, valid, 100)

    resumed, *_ = begin(name)
    resumed.restore(checkpoint.load())
    resumed.epoch(data, valid, 100)
    torch.testing.assert_close(resumed.state(), whole.state(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["scratch_adam", "shifted"])
def test_history_has_the_accuracy_of_the_model(name):
    model, training = run(name)
    splits, _ = digits()
    for column, part in enumerate(("train", "valid")):
        correct = model.predict(splits[part].images) == splits[part].labels
        assert float(training.accuracy[-1, column]) == pytest.approx(correct.mean())


def test_model_file_records_the_parameters(tmp_path):
    model, _ = run("sequential_adam")
    model_file.save(model, tmp_path / "model")
    assert model_file.load(tmp_path / "model").description.parameters == {
        "seed": 0,
        "epochs": 1,
        "batch_size": 64,
        "architecture": "linear",
        "layer": "sequential",
        "gradient": "autograd",
        "update": "adam",
        "learning_rate": 0.001,
        "momentum": 0,
        "weight_decay": 0,
        "schedule": "constant",
        "shift": 0,
    }


def test_variant_overrides_epochs_and_batch_size_of_the_section():
    model, training = run("cycle")
    assert training.accuracy.shape == (4, 2)
    assert training.loss.shape == (4 * TRAIN / 50,)
    parameters = model.description.parameters
    assert (parameters["epochs"], parameters["batch_size"]) == (4, 50)


def torch_network(architecture: str) -> torch.nn.Module:
    """The larger networks for 8x8 pixels and 10 classes, in float64."""

    def convolution(inputs: int, outputs: int) -> list[torch.nn.Module]:
        return [
            torch.nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(outputs),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
        ]

    linear, relu = torch.nn.Linear, torch.nn.ReLU
    if architecture == "mlp":
        layers = [linear(64, 100), relu(), linear(100, 100), relu(), linear(100, 10)]
    else:
        layers = [
            torch.nn.Unflatten(1, (1, 8, 8)),
            *convolution(1, 16),
            *convolution(16, 32),
            *convolution(32, 64),
            torch.nn.Flatten(),
            linear(64, 10),
        ]
    return torch.nn.Sequential(*layers).double()


class Double(Data):
    """Data for a network in float64."""

    def inputs(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self._scale.standardize(pixels.numpy())).double()


@pytest.mark.parametrize("name", LARGE)
def test_training_a_larger_network_equals_a_plain_loop(name, monkeypatch):
    build = networks.build
    monkeypatch.setattr(networks, "build", lambda *args: build(*args).double())
    training, data, valid = begin(name, data_type=Double)
    network = torch_network(name)
    with torch.no_grad():
        for ours, theirs in zip(
            training.network.parameters(), network.parameters(), strict=True
        ):
            theirs.copy_(ours)
    optimizer = torch.optim.SGD(
        network.parameters(), 0.02, momentum=0.9, weight_decay=0.001
    )
    variant = SETTINGS.resolve(name)
    _, order, shifts = generators()
    losses, rates = [], torch_cycle(2 * TRAIN // 100, 0.02)
    for (inputs, labels), rate in zip(
        batches(variant, 2, order, shifts), rates, strict=True
    ):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for _ in range(variant.epochs):
        training.epoch(data, valid, variant.batch_size)
    np.testing.assert_allclose(training.loss, losses, rtol=1e-9)

    splits, facts = digits()
    network.eval()
    with torch.no_grad():
        scores = network(
            torch.from_numpy(facts.scale.standardize(splits["valid"].images)).double()
        )
    correct = (scores.argmax(dim=1).numpy() == splits["valid"].labels).mean()
    assert training.accuracy[-1, 1].item() == pytest.approx(correct)


@pytest.mark.parametrize("name", LARGE)
def test_saved_tensors_of_a_larger_network_predict_the_same(name):
    training, data, valid = begin(name)
    training.epoch(data, valid, 100)
    splits, facts = digits()
    saved = networks.tensors(training.network)
    scores = architectures.scores(
        name,
        {key: one.numpy() for key, one in saved.items()},
        facts.scale.standardize(splits["valid"].images),
        (8, 8),
    )
    correct = (scores.argmax(axis=1) == splits["valid"].labels).mean()
    assert training.accuracy[-1, 1].item() == pytest.approx(correct)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"architecture": "mlp", "layer": "scratch"}, "'mlp' needs the layer"),
        ({"gradient": "analytic"}, "analytic gradient needs the layer 'scratch'"),
        ({"update": "adam", "momentum": 0.9}, "'adam' has a momentum of its own"),
        ({"update": "manual_adam", "momentum": 0.9}, "momentum of its own"),
        ({"momentum": 1}, "less than 1"),
        ({"momentum": -0.1}, "greater than or equal to 0"),
        ({"weight_decay": -0.1}, "greater than or equal to 0"),
        ({"shift": 5}, "less than or equal to 4"),
        ({"shift": -1}, "greater than or equal to 0"),
        ({"schedule": "two_cycles"}, "'constant' or 'one_cycle'"),
        ({"epochs": 0}, "greater than 0"),
        ({"batch_size": 0}, "greater than 0"),
    ],
    ids=str,
)
def test_invalid_variants_are_refused(tmp_path, params, change, reason):
    valid = {"layer": "sequential", "update": "sgd", "learning_rate": 0.1}
    params["train"]["variants"] = {"one": valid}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    load("train", Train, tmp_path / "params.yaml")
    params["train"]["variants"] = {"one": valid | change}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(BadInput, match=f"`train.variants.one.*{reason}"):
        load("train", Train, tmp_path / "params.yaml")


def test_images_too_small_for_the_architecture_are_refused():
    splits, facts = digits()
    train_split, valid_split = (
        splits[name]._replace(images=splits[name].images[:, :7, :7])
        for name in ("train", "valid")
    )
    with pytest.raises(BadInput, match="at least 8 by 8 pixels, not 7 by"):
        train(train_split, valid_split, facts, SETTINGS, "cnn")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_device_is_refused():
    with pytest.raises(BadInput, match=r"`train.device` is 'cuda'"):
        run("scratch_sgd", device="cuda")


def test_unknown_variant_is_refused():
    with pytest.raises(BadInput, match="has no 'other'; it has sequential_adam, "):
        run("other")


def test_diverged_training_is_refused():
    variant = VARIANTS["scratch_sgd"].model_copy(update={"learning_rate": 1e30})
    with pytest.raises(BadInput, match="`scratch_sgd` diverged .* `learning_rate`"):
        run("scratch_sgd", variants={"scratch_sgd": variant})


def test_disabled_variants_can_be_enabled_by_uncommenting(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    enabled, lines = re.subn(r"^    # (\w+: \{)", r"    \1", text, flags=re.MULTILINE)
    (tmp_path / "params.yaml").write_text(enabled)
    variants = load("train", Train, tmp_path / "params.yaml").variants
    assert list(variants) == [*DEFAULT.variants, "mlp", "cnn", "cnn_long"]
    assert lines == 3
