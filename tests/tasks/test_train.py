import math
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors
import scipy.ndimage
import torch
import yaml
from conftest import ROOT

from tasks.modeling import architectures, model_file
from tasks.runtime.params import BadInput, load
from tasks.train import _begin, train
from tasks.training import checkpoints, networks
from tasks.training.loop import Data, Training
from tasks.training.settings import Train, Variant

DEFAULT = load("train", Train, ROOT / "params.yaml")
# What none of the variants of params.yaml does.
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


@pytest.fixture(autouse=True)
def one_thread():
    """As the step has it; two that share a busy processor wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def settings():
    return DEFAULT.model_copy(update={"variants": VARIANTS})


def changed(settings: Train, **changes) -> Train:
    return settings.model_copy(update=changes)


def run(parts, settings, name, checkpoint=None):
    splits, facts = parts
    return train(splits["train"], splits["valid"], facts, settings, name, checkpoint)


def seeded(settings) -> list[torch.Generator]:
    seeds = np.random.SeedSequence(settings.seed).generate_state(3)
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    return scipy.ndimage.shift(image, (down, right), order=0)


def batches(splits, scale, recipe, order, moves):
    """Inputs and labels of every batch of a training."""
    part = splits["train"]
    for _ in range(recipe.epochs):
        rows = torch.randperm(len(part.images), generator=order)
        for some in rows.split(recipe.batch_size):
            images = part.images[some.numpy()]
            if recipe.shift:
                far = recipe.shift
                by = torch.randint(-far, far + 1, (len(some), 2), generator=moves)
                images = np.stack(
                    [moved(*one) for one in zip(images, *by.t().tolist(), strict=True)]
                )
            labels = torch.from_numpy(part.labels.astype(np.int64))[some]
            yield torch.from_numpy(scale.standardize(images)).double(), labels


def reference(parts, settings, name):
    """The same training, as a beginner would write it, in float64.

    It shares no code with the step but the initial values, and the random numbers.
    """
    splits, facts = parts
    recipe = settings.resolve(name)
    first, order, moves = seeded(settings)
    initial = networks.tensors(
        networks.build("linear", recipe.layer, (28, 28), 10, first)
    )
    W, b = (initial[key].double().requires_grad_() for key in ("weights", "bias"))
    moments = [[torch.zeros_like(p), torch.zeros_like(p)] for p in (W, b)]
    losses, rate = [], recipe.learning_rate
    total = recipe.epochs * math.ceil(1100 / recipe.batch_size)
    for step, (inputs, labels) in enumerate(
        batches(splits, facts.scale, recipe, order, moves), start=1
    ):
        loss = torch.nn.functional.cross_entropy(inputs @ W + b, labels)
        gradients = torch.autograd.grad(loss, (W, b))
        if recipe.schedule == "one_cycle":
            rate = torchs_cycle(step - 1, total, recipe.learning_rate)
        with torch.no_grad():
            for p, g, (m, v) in zip((W, b), gradients, moments, strict=True):
                g = g + recipe.weight_decay * p  # noqa: PLW2901
                if "adam" in recipe.update:  # Kingma and Ba (2015), algorithm 1
                    m.copy_(0.9 * m + 0.1 * g)
                    v.copy_(0.999 * v + 0.001 * g**2)
                    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
                    p.sub_(rate * m_hat / (v_hat.sqrt() + 1e-8))
                else:
                    v.copy_(recipe.momentum * v + g)
                    p.sub_(rate * v)
        losses.append(loss.item())
    return W.detach().numpy(), b.detach().numpy(), losses


def torchs_cycle(step: int, total: int, highest: float) -> float:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, highest, total_steps=total, cycle_momentum=False
    )
    for _ in range(step):
        optimizer.step()
        schedule.step()
    return schedule.get_last_lr()[0]


@pytest.mark.parametrize("name", VARIANTS)
def test_training_is_the_plain_loop(parts, settings, name):
    settings = changed(settings, epochs=2)
    model, history = run(parts, settings, name)
    W, b, losses = reference(parts, settings, name)
    np.testing.assert_allclose(model.weights, W, atol=1e-5)
    np.testing.assert_allclose(model.tensors["bias"], b, atol=1e-5)
    np.testing.assert_allclose(history.loss, losses, atol=1e-5)


def test_the_update_by_hand_is_the_optimizer_after_every_step(parts, settings):
    # Batches of one epoch, cut off after each: equal at every length, equal throughout.
    (by_hand, hand_history), (optimizer, history) = (
        run(parts, settings, name) for name in ("scratch_manual", "scratch_sgd")
    )
    np.testing.assert_array_equal(hand_history.loss, history.loss)
    np.testing.assert_array_equal(by_hand.weights, optimizer.weights)
    np.testing.assert_array_equal(by_hand.tensors["bias"], optimizer.tensors["bias"])


def test_the_first_loss_is_about_ln_10(parts, settings):
    _, history = run(parts, settings, "scratch_sgd")
    assert float(history.loss[0]) == pytest.approx(math.log(10), abs=0.1)


def test_the_last_batch_takes_what_is_left(parts, settings):
    _, history = run(parts, settings, "scratch_sgd")
    assert len(history.loss) == math.ceil(1100 / 64)


@pytest.mark.parametrize("name", VARIANTS)
def test_an_interrupted_training_ends_with_the_same_weights(
    parts, settings, name, tmp_path, monkeypatch
):
    settings = changed(settings, epochs=4)
    whole, whole_history = run(parts, settings, name)

    epochs = []
    epoch = Training.epoch

    def interrupted(*arguments):
        epochs.append(1)
        if len(epochs) == 3:
            raise KeyboardInterrupt
        return epoch(*arguments)

    monkeypatch.setattr(Training, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(parts, settings, name, tmp_path / "checkpoint")
    resumed, history = run(parts, settings, name, tmp_path / "checkpoint")

    assert len(epochs) == 5, "two done, one cut off, two resumed"
    np.testing.assert_array_equal(resumed.weights, whole.weights)
    np.testing.assert_array_equal(resumed.tensors["bias"], whole.tensors["bias"])
    np.testing.assert_array_equal(history.loss, whole_history.loss)
    np.testing.assert_array_equal(history.accuracy, whole_history.accuracy)
    assert list(tmp_path.iterdir()) == [], "the checkpoint is gone"


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"batch_size": 32}, {"epochs": 5}], ids=str
)
def test_a_checkpoint_of_another_training_is_not_used(
    parts, settings, tmp_path, change, monkeypatch
):
    settings = changed(settings, epochs=3)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    run(parts, settings, "scratch_sgd", tmp_path / "checkpoint")
    monkeypatch.undo()
    other = changed(settings, **change)
    model, _ = run(parts, other, "scratch_sgd", tmp_path / "checkpoint")
    expected, _ = run(parts, other, "scratch_sgd")
    np.testing.assert_array_equal(model.weights, expected.weights)


@pytest.mark.parametrize("content", [b"", b"half a file", b"\x00" * 64])
def test_a_damaged_checkpoint_is_not_used(parts, settings, tmp_path, content):
    settings = changed(settings, epochs=2)
    (tmp_path / "checkpoint").write_bytes(content)
    model, _ = run(parts, settings, "scratch_sgd", tmp_path / "checkpoint")
    expected, _ = run(parts, settings, "scratch_sgd")
    np.testing.assert_array_equal(model.weights, expected.weights)


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept.pop("loss"),
        lambda kept: kept.update(more=torch.zeros(1)),
        lambda kept: kept.update(accuracy=torch.zeros(1, 3)),
        lambda kept: kept.update(loss=torch.zeros(())),
        lambda kept: kept.update(order=torch.zeros(9)),
        lambda kept: kept["loss"].fill_(np.nan),
        lambda kept: kept.update({next(iter(kept)): torch.zeros(2)}),
    ],
)
def test_a_checkpoint_of_other_tensors_is_not_used(
    parts, settings, tmp_path, damage, monkeypatch
):
    settings = changed(settings, epochs=2)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    expected, _ = run(parts, settings, "scratch_adam", tmp_path / "checkpoint")
    monkeypatch.undo()
    with safetensors.safe_open(tmp_path / "checkpoint", framework="pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        mark = file.metadata()[checkpoints.METADATA]
    damage(kept)
    checkpoints.save(tmp_path / "checkpoint", mark, kept)

    model, _ = run(parts, settings, "scratch_adam", tmp_path / "checkpoint")
    np.testing.assert_array_equal(model.weights, expected.weights)


@pytest.mark.parametrize("name", ["scratch_adam", "shifted"])
def test_the_accuracy_of_the_history_is_the_models(parts, settings, name):
    model, history = run(parts, settings, name)
    splits, _ = parts
    for column, part in enumerate(("train", "valid")):
        right = model.predict(splits[part].images) == splits[part].labels
        assert float(history.accuracy[-1, column]) == pytest.approx(right.mean())


def test_the_saved_model_says_what_the_network_said(parts, settings, tmp_path):
    model, _ = run(parts, settings, "sequential_adam")
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


def test_the_model_says_what_its_variant_had_instead_of_the_sections(parts, settings):
    model, history = run(parts, settings, "cycle")
    assert history.accuracy.shape == (4, 2)
    assert history.loss.shape == (4 * 22,)
    parameters = model.description.parameters
    assert (parameters["epochs"], parameters["batch_size"]) == (4, 50)


def written_out(architecture: str) -> torch.nn.Module:
    """The larger networks, for 28x28 pixels and 10 classes, in float64."""

    def convolution(inputs: int, outputs: int) -> list[torch.nn.Module]:
        return [
            torch.nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(outputs),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
        ]

    linear, relu = torch.nn.Linear, torch.nn.ReLU
    if architecture == "mlp":
        layers = [linear(784, 100), relu(), linear(100, 100), relu(), linear(100, 10)]
    else:
        layers = [
            torch.nn.Unflatten(1, (1, 28, 28)),
            *(
                part
                for sizes in ((1, 16), (16, 32), (32, 64))
                for part in convolution(*sizes)
            ),
            torch.nn.Flatten(),
            linear(576, 10),
        ]
    return torch.nn.Sequential(*layers).double()


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


class Double(Data):
    """Data for a network in float64."""

    def inputs(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self._scale.standardize(pixels.numpy())).double()


def begun(parts, settings, name, kind=Data) -> tuple[Training, Data, Data]:
    splits, facts = parts
    data, held_out = (
        kind(one.images, one.labels.astype(np.int64), facts.scale, torch.device("cpu"))
        for one in (splits["train"], splits["valid"])
    )
    return _begin(settings.seed, settings.resolve(name), data, 10), data, held_out


@pytest.mark.parametrize("name", LARGE)
def test_training_a_larger_network_is_the_plain_loop(
    parts, settings, name, monkeypatch
):
    settings = changed(settings, variants=LARGE)
    recipe = settings.resolve(name)
    build = networks.build
    monkeypatch.setattr(networks, "build", lambda *them: build(*them).double())
    training, data, held_out = begun(parts, settings, name, Double)
    network = written_out(name)
    with torch.no_grad():
        for ours, theirs in zip(
            training.network.parameters(), network.parameters(), strict=True
        ):
            theirs.copy_(ours)
    optimizer = torch.optim.SGD(
        network.parameters(), 0.02, momentum=0.9, weight_decay=0.001
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.02, total_steps=22, cycle_momentum=False
    )
    losses = []
    _, order, moves = seeded(settings)
    for inputs, labels in batches(parts[0], parts[1].scale, recipe, order, moves):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(inputs), labels)
        loss.backward()
        optimizer.step()
        if len(losses) < 21:
            schedule.step()
        losses.append(loss.item())
    for _ in range(recipe.epochs):
        training.epoch(data, held_out, recipe.batch_size)
    np.testing.assert_allclose(training.loss, losses, rtol=1e-9)

    splits, facts = parts
    valid = splits["valid"]
    network.eval()
    with torch.no_grad():
        scores = network(
            torch.from_numpy(facts.scale.standardize(valid.images)).double()
        )
    right = (scores.argmax(dim=1).numpy() == valid.labels).mean()
    assert training.accuracy[-1, 1].item() == pytest.approx(right)


@pytest.mark.parametrize("name", LARGE)
def test_a_larger_network_goes_on_from_a_checkpoint(parts, settings, name, tmp_path):
    settings = changed(settings, variants=LARGE)
    whole, data, held_out = begun(parts, settings, name)
    whole.epoch(data, held_out, 100)
    checkpoints.save(tmp_path / "checkpoint", "mark", whole.state())
    whole.epoch(data, held_out, 100)

    resumed, *_ = begun(parts, settings, name)
    kept = checkpoints.load(tmp_path / "checkpoint", "mark")
    assert resumed.fits(kept)
    resumed.restore(kept)
    resumed.epoch(data, held_out, 100)
    for part, expected in whole.state().items():
        torch.testing.assert_close(resumed.state()[part], expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", LARGE)
def test_what_a_larger_network_says_is_what_is_saved_of_it(parts, settings, name):
    settings = changed(settings, variants=LARGE)
    training, data, held_out = begun(parts, settings, name)
    training.epoch(data, held_out, 100)
    splits, facts = parts
    saved = networks.tensors(training.network)
    scores = architectures.scores(
        name,
        {key: one.numpy() for key, one in saved.items()},
        facts.scale.standardize(splits["valid"].images),
        (28, 28),
    )
    right = (scores.argmax(axis=1) == splits["valid"].labels).mean()
    assert training.accuracy[-1, 1].item() == pytest.approx(right)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"architecture": "mlp", "layer": "scratch"},
            "the architecture 'mlp' is of the layer 'sequential' alone",
        ),
        (
            {"architecture": "cnn", "layer": "scratch"},
            "the architecture 'cnn' is of the layer 'sequential' alone",
        ),
        (
            {"gradient": "analytic"},
            "the analytic gradient is of the layer 'scratch' alone",
        ),
        (
            {"architecture": "mlp", "gradient": "analytic"},
            "the analytic gradient is of the layer 'scratch' alone",
        ),
        (
            {"update": "adam", "momentum": 0.9},
            "the update 'adam' has a momentum of its own",
        ),
        (
            {"update": "manual_adam", "momentum": 0.9},
            "the update 'manual_adam' has a momentum of its own",
        ),
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
def test_what_does_not_go_together_is_refused(tmp_path, params, change, sentence):
    plain = {"layer": "sequential", "update": "sgd", "learning_rate": 0.1}
    params["train"]["variants"] = {"one": plain}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    load("train", Train, tmp_path / "params.yaml")
    params["train"]["variants"] = {"one": plain | change}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(BadInput, match=f"`train.variants.one.*{sentence}"):
        load("train", Train, tmp_path / "params.yaml")


def test_images_too_small_for_the_architecture_are_refused(parts, settings):
    splits, facts = parts
    small = {n: p._replace(images=p.images[:, :7, :7]) for n, p in splits.items()}
    with pytest.raises(BadInput, match="images of 8 by 8 pixels or more, not of 7 by"):
        run((small, facts), changed(settings, variants=LARGE), "cnn")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_is_refused(parts, settings):
    with pytest.raises(BadInput, match=r"`train.device` is 'cuda', but torch finds no"):
        run(parts, changed(settings, device="cuda"), "scratch_sgd")


def test_a_training_that_diverges_is_not_kept(parts, settings):
    variants = settings.variants
    wild = variants["scratch_sgd"].model_copy(update={"learning_rate": 1e30})
    with pytest.raises(BadInput, match="of `scratch_sgd` diverged, .* `learning_rate`"):
        run(
            parts,
            changed(settings, variants=variants | {"scratch_sgd": wild}),
            "scratch_sgd",
        )


def test_the_variants_that_are_off_are_one_line_each_to_turn_on(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    on, lines = re.subn(r"^    # (\w+: \{)", r"    \1", text, flags=re.MULTILINE)
    (tmp_path / "params.yaml").write_text(on)
    variants = load("train", Train, tmp_path / "params.yaml").variants
    assert list(variants) == [*DEFAULT.variants, "mlp", "cnn", "cnn_long"]
    assert lines == 3
    assert [variants[name].architecture for name in ("mlp", "cnn", "cnn_long")] == [
        "mlp",
        "cnn",
        "cnn",
    ]
