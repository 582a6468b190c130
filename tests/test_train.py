import math
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from conftest import ROOT

from tasks import checkpoints, models, networks
from tasks.settings import BadInput, load
from tasks.train import Train, train
from tasks.training import Training

VARIANTS = list(load("train", Train, ROOT / "params.yaml").variants)


@pytest.fixture
def settings():
    return load("train", Train, ROOT / "params.yaml")


def changed(settings: Train, **changes) -> Train:
    return settings.model_copy(update=changes)


def run(parts, settings, name, checkpoint=None):
    splits, scale = parts
    return train(splits["train"], splits["valid"], scale, settings, name, checkpoint)


def reference(parts, settings, name):
    """The same training, as a beginner would write it, in float64.

    It shares no code with the step but the initial values and the order of the images.
    """
    splits, scale = parts
    variant = settings.variants[name]
    seeds = np.random.SeedSequence(settings.seed).generate_state(2)
    first, order = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
    initial = networks.tensors(
        networks.build("linear", variant.layer, (28, 28), 10, first)
    )
    W, b = (initial[name].double().requires_grad_() for name in ("weights", "bias"))
    images = torch.from_numpy(scale.standardize(splits["train"].images)).double()
    labels = torch.from_numpy(splits["train"].labels.astype(np.int64))
    moments = [[torch.zeros_like(p), torch.zeros_like(p)] for p in (W, b)]
    losses, step = [], 0
    for _ in range(settings.epochs):
        rows = torch.randperm(len(images), generator=order)
        for start in range(0, len(rows), settings.batch_size):
            batch = rows[start : start + settings.batch_size]
            scores = images[batch] @ W + b
            loss = torch.nn.functional.cross_entropy(scores, labels[batch])
            gradients = torch.autograd.grad(loss, (W, b))
            step += 1
            with torch.no_grad():
                for p, g, (m, v) in zip((W, b), gradients, moments, strict=True):
                    if variant.update == "adam":  # Kingma and Ba (2015), algorithm 1
                        m.copy_(0.9 * m + 0.1 * g)
                        v.copy_(0.999 * v + 0.001 * g**2)
                        m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
                        p.sub_(variant.learning_rate * m_hat / (v_hat.sqrt() + 1e-8))
                    else:
                        p.sub_(variant.learning_rate * g)
            losses.append(loss.item())
    return W.detach().numpy(), b.detach().numpy(), losses


@pytest.mark.parametrize("name", VARIANTS)
def test_training_is_the_plain_loop(parts, settings, name):
    settings = changed(settings, epochs=2)
    model, history = run(parts, settings, name)
    W, b, losses = reference(parts, settings, name)
    np.testing.assert_allclose(model.weights, W, atol=1e-5)
    np.testing.assert_allclose(model.bias, b, atol=1e-5)
    np.testing.assert_allclose(history.loss, losses, atol=1e-5)


def test_the_update_by_hand_is_the_optimizer_after_every_step(parts, settings):
    # Batches of one epoch, cut off after each: equal at every length, equal throughout.
    (by_hand, hand_history), (optimizer, history) = (
        run(parts, settings, name) for name in ("scratch_manual", "scratch_sgd")
    )
    np.testing.assert_array_equal(hand_history.loss, history.loss)
    np.testing.assert_array_equal(by_hand.weights, optimizer.weights)
    np.testing.assert_array_equal(by_hand.bias, optimizer.bias)


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
    np.testing.assert_array_equal(resumed.bias, whole.bias)
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


def test_the_accuracy_of_the_history_is_the_models(parts, settings):
    model, history = run(parts, settings, "scratch_adam")
    splits, _ = parts
    for column, part in enumerate(("train", "valid")):
        right = model.predict(splits[part].images) == splits[part].labels
        assert float(history.accuracy[-1, column]) == pytest.approx(right.mean())


def test_labels_need_not_be_the_first_numbers(parts, settings):
    splits, scale = parts
    odd = {n: p._replace(labels=2 * p.labels + 1) for n, p in splits.items()}
    model, _ = run((odd, scale), settings, "scratch_sgd")
    plain, _ = run(parts, settings, "scratch_sgd")
    np.testing.assert_array_equal(model.weights, plain.weights)
    assert model.description.classes == (1, 3, 5, 7, 9, 11, 13, 15, 17, 19)


def test_the_saved_model_says_what_the_network_said(parts, settings, tmp_path):
    model, _ = run(parts, settings, "sequential_adam")
    models.save(model, tmp_path / "model")
    assert models.load(tmp_path / "model").description.parameters == {
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
